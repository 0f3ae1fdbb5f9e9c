//! The files that the daemon may use (landlock(7)): those of its devices, of VDUSE and of the vDPA bus, and its own. It may
//! read what the kernel tells in /proc and /sys, and execute nothing.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, make_bitflags, path_beneath_rules,
};

/// Something that a device takes of the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A file or a device node, made if it is not there.
    Storage(PathBuf),
    /// A socket, made and removed.
    Socket(PathBuf),
    /// A folder or a file below which any device's storage and socket may be, now or later.
    Disks(PathBuf),
    /// The file that tells what is served, read anew again and again.
    Configuration(PathBuf),
    /// VFIO, and PCI functions that change hands.
    Vfio,
}

/// Linux 6.10. What a later one could refuse, too, is network and signals, of which the daemon has its own ideas.
const ABI_MAX: ABI = ABI::V5;

const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
const USE: BitFlags<AccessFs> =
    make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | Truncate | IoctlDev});
const MAKE: BitFlags<AccessFs> =
    make_bitflags!(AccessFs::{MakeReg | MakeSock | MakeDir | RemoveFile});

/// Has this thread, and those that it starts, open no other files than those in `runtime_dir`, at `places`, and of VDUSE.
/// Returns whether the kernel can.
pub(super) fn restrict(runtime_dir: &Path, places: &[Place]) -> Result<bool, RulesetError> {
    let everywhere = [
        ("/proc", READ),
        ("/sys", READ),
        ("/dev/null", USE),
        ("/dev/vduse", USE),
        ("/sys/bus/vdpa", USE),
        ("/sys/devices/virtual/vduse", USE),
    ];
    let mut rules: Vec<(PathBuf, BitFlags<AccessFs>)> = everywhere
        .map(|(path, access)| (path.into(), access))
        .into();
    rules.push((runtime_dir.into(), USE | MAKE));
    // Named functions in a panic's backtrace.
    rules.extend(std::env::current_exe().map(|program| (program, AccessFs::ReadFile.into())));
    rules.extend(places.iter().flat_map(Place::rules));
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI_MAX))?
        .create()?;
    for (path, access) in rules {
        // What is not there needs no rule.
        ruleset = ruleset.add_rules(path_beneath_rules([path], access))?;
    }
    let status = ruleset.restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

impl Place {
    fn rules(&self) -> Vec<(PathBuf, BitFlags<AccessFs>)> {
        match self {
            Self::Storage(path) if path.exists() => vec![(path.clone(), USE)],
            Self::Storage(path) => vec![(folder(path), USE | AccessFs::MakeReg)],
            Self::Socket(path) => {
                let access = make_bitflags!(AccessFs::{MakeSock | RemoveFile});
                vec![(folder(path), access)]
            }
            Self::Disks(path) => {
                let access = make_bitflags!(AccessFs::{MakeReg | MakeSock | RemoveFile});
                vec![(path.clone(), USE | access)]
            }
            // An editor puts another file in its place, and a link may lead to it.
            Self::Configuration(path) => {
                let places = [Some(path.clone()), path.canonicalize().ok()];
                let folders = places.into_iter().flatten().map(|path| folder(&path));
                folders.map(|folder| (folder, READ)).collect()
            }
            Self::Vfio => vec![
                // Controllers whose disks are in use are not taken.
                ("/dev".into(), READ),
                ("/dev/vfio".into(), USE),
                ("/sys/bus/pci".into(), USE),
                ("/sys/devices".into(), USE),
            ],
        }
    }
}

/// Returns the folder that `path` is in.
fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.into(),
        _ => ".".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs::{self, File};
    use std::io::ErrorKind;
    use std::os::unix::net::UnixListener;

    /// Returns whether that is refused for lack of a right.
    fn is_refused<T: std::fmt::Debug>(done: std::io::Result<T>) -> bool {
        done.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    }

    #[test]
    fn only_what_devices_need_can_be_opened() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["runtime", "disks", "sockets"] {
            fs::create_dir(at(name)).unwrap();
        }
        for name in ["disks/one", "disks/other", "other"] {
            fs::write(at(name), "data").unwrap();
        }
        let places = [
            Place::Storage(at("disks/one")),
            Place::Storage(at("new/none")),
            Place::Socket(at("sockets/d0")),
        ];
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let is_restricted = restrict(&at("runtime"), &places).unwrap();
                assert!(is_restricted, "this kernel has no landlock: boot one with CONFIG_SECURITY_LANDLOCK=y and lsm=landlock");
                let open = |name: &str| File::options().write(true).open(at(name));
                open("disks/one").unwrap().set_len(9).unwrap();
                assert!(is_refused(open("disks/other")));
                assert!(is_refused(File::open(at("other"))));
                assert!(is_refused(File::open("/etc/passwd")));
                assert!(is_refused(fs::write(at("disks/new"), "")));
                assert!(is_refused(File::options().write(true).open("/dev/zero")));
                fs::write(at("runtime/d0.state"), "{}").unwrap();
                fs::rename(at("runtime/d0.state"), at("runtime/d0.was")).unwrap();
                fs::remove_file(at("runtime/d0.was")).unwrap();
                drop(UnixListener::bind(at("sockets/d0")).unwrap());
                fs::remove_file(at("sockets/d0")).unwrap();
                assert!(is_refused(fs::write(at("sockets/file"), "")));
                fs::read_to_string("/proc/self/status").unwrap();
                let started = std::process::Command::new("/bin/true").status();
                assert!(is_refused(started));
            });
            thread.join().unwrap();
        });
    }

    #[test]
    fn a_disk_that_is_not_there_yet_can_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        let rules = Place::Storage(path).rules();
        assert_eq!(rules, [(folder.path().into(), USE | AccessFs::MakeReg)]);
        assert_eq!(super::folder(Path::new("here")), Path::new("."));
    }
}
