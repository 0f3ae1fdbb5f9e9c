//! File systems: made, filled, checked, and read again.

use std::fs;
use std::path::{Path, PathBuf};

use crate::guest::{Daemon, Output, in_guest, run};

/// Something with folders, links and files of many sizes that every guest has.
const TREES: &[&str] = &["/lib/modules", "/etc", "/usr/local"];

#[test]
fn ext4_holds_a_tree() {
    in_guest(|| hold_a_tree("ext4", "ram,size=512M", &["e2fsck", "-fn"]));
}

#[test]
fn ext4_holds_a_tree_in_4096_byte_blocks() {
    in_guest(|| hold_a_tree("ext4", "ram,size=512M,block_size=4096", &["e2fsck", "-fn"]));
}

#[test]
fn xfs_holds_a_tree() {
    in_guest(|| {
        run("modprobe", &["xfs"]).succeeded();
        hold_a_tree("xfs", "ram,size=640M", &["xfs_repair", "-n"]);
    });
}

/// Makes a file system of `kind`, copies trees into it, checks it with `check`, and compares.
fn hold_a_tree(kind: &str, backend: &str, check: &[&str]) {
    let daemon = Daemon::serve("d0", backend, &["--queues", "2", "--attach", "virtio"]);
    let disk = daemon.disk();
    let folder = Path::new("/mnt/test");
    run(&format!("mkfs.{kind}"), &[disk.node()]).succeeded();
    {
        let mounted = disk.mount(kind, folder);
        let copy: Vec<&str> = [&["-a"], TREES, &["/mnt/test"]].concat();
        run("cp", &copy).succeeded();
        run("sync", &[]).succeeded();
        trim(mounted.path());
    }
    let checked = run(check[0], &[&check[1..], &[disk.node()]].concat());
    assert_clean(checked);
    {
        let mounted = disk.mount(kind, folder);
        for tree in TREES.iter().map(Path::new) {
            let copy = mounted.path().join(tree.file_name().unwrap());
            compare(&real(tree), &copy);
        }
    }
    for queue in daemon.snapshot().queues {
        assert!(queue.requests > 0 && queue.errors == 0, "{queue:?}");
    }
    daemon.stop();
}

/// Discards what the file system does not use.
fn trim(folder: &Path) {
    run("fstrim", &[folder.to_str().unwrap()]).succeeded();
}

fn assert_clean(checked: Output) {
    let words = [checked.stdout.as_str(), &checked.stderr].concat();
    assert!(checked.status.success(), "{words}");
}

fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).expect("a tree to copy")
}

/// Fails at the first difference in names, kinds, sizes, link targets or contents.
fn compare(original: &Path, copy: &Path) {
    let kind = |path: &Path| {
        fs::symlink_metadata(path)
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
            .file_type()
    };
    let at = original.display();
    assert_eq!(kind(original), kind(copy), "{at}");
    if kind(original).is_symlink() {
        assert_eq!(
            fs::read_link(original).unwrap(),
            fs::read_link(copy).unwrap()
        );
    } else if kind(original).is_dir() {
        assert_eq!(names(original), names(copy), "{at}");
        for name in names(original) {
            compare(&original.join(&name), &copy.join(&name));
        }
    } else {
        let (original, copy) = (fs::read(original).unwrap(), fs::read(copy).unwrap());
        assert!(original == copy, "{at} has other contents");
    }
}

fn names(folder: &Path) -> Vec<std::ffi::OsString> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}
