//! Disks with storage behind them: files, block devices, and NVMe through the kernel.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use nix::fcntl::{FallocateFlags, fallocate};

use crate::guest::{
    Daemon, Fio, PATIENCE, Running, in_guest, leftovers, namespace_node, pollux, run, until, write,
};
use crate::vhost::{self, Device, PLAIN};

/// The controller that these tests use.
const PCI: &str = "0000:00:10.0";

/// Returns the disk of namespace `nsid`.
pub(crate) fn namespace(nsid: u32) -> String {
    let node = namespace_node(PCI, nsid);
    node.to_str().expect("node names are ASCII").to_owned()
}

fn small() -> String {
    namespace(1)
}

const DISK: &str = "/tmp/storage-disk";

const TWO_QUEUES: &[&str] = &["--queues", "2", "--attach", "virtio"];

fn serve(backend: &str, more: &[&str]) -> Daemon {
    Daemon::serve("d0", backend, &[TWO_QUEUES, more].concat())
}

/// A file of zeros, removed at the end.
struct DiskFile;

impl DiskFile {
    fn new(size_bytes: u64) -> Self {
        let file = File::create(DISK).unwrap();
        file.set_len(size_bytes).unwrap();
        Self
    }
}

impl Drop for DiskFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(DISK);
    }
}

/// Has the kernel's driver use `count` queues that are polled.
pub(crate) fn poll_queues(count: u32) {
    const DRIVER: &str = "/sys/bus/pci/drivers/nvme";
    write(
        "/sys/module/nvme/parameters/poll_queues",
        &count.to_string(),
    );
    write(format!("{DRIVER}/unbind"), PCI);
    write(format!("{DRIVER}/bind"), PCI);
    small();
}

/// Writes every block size at every depth, and compares.
fn verify(daemon: &Daemon, blocks: &[&str]) {
    let disk = daemon.disk();
    for block in blocks {
        let size = match *block {
            "512" => "256k",
            "4k" => "2M",
            "64k" => "8M",
            _ => "32M",
        };
        for depth in [1, 16, 128] {
            Fio::verify(disk.node(), block, depth, size).run();
        }
    }
    for queue in daemon.snapshot().queues {
        assert!(queue.requests > 500, "{queue:?}");
        assert_eq!((queue.errors, queue.driver_faults), (0, 0), "{queue:?}");
        assert!(queue.host_errors.is_empty(), "{queue:?}");
    }
}

/// Returns how many operations used registered memory, and how many copied.
fn moved(daemon: &Daemon) -> (u64, u64) {
    let queues = daemon.snapshot().queues;
    let sum =
        |count: fn(&pollux_control::device::QueueStats) -> u64| queues.iter().map(count).sum();
    (
        sum(|queue| queue.backend_registered),
        sum(|queue| queue.backend_copied),
    )
}

#[test]
fn a_file_verifies() {
    in_guest(|| {
        let _file = DiskFile::new(128 << 20);
        let backend = format!("file,path={DISK}");
        for (more, poll) in [
            ("", "adaptive"),
            (",direct=off", "event"),
            (",sqpoll=on", "busy"),
        ] {
            let daemon = serve(&format!("{backend}{more}"), &["--poll", poll]);
            verify(&daemon, &["4k", "64k"]);
            daemon.stop();
        }
        assert_eq!(leftovers(), [""; 0]);
    });
}

#[test]
fn a_block_device_verifies_in_every_size() {
    in_guest(|| {
        let daemon = serve(&format!("block,path={}", small()), &[]);
        let disk = daemon.disk();
        assert_eq!(disk.size_bytes(), 256 << 20);
        assert_eq!(disk.attribute("queue/logical_block_size"), "512");
        assert_eq!(disk.attribute("serial"), "pollux0");
        verify(&daemon, &["512", "4k", "64k", "1M"]);
        assert_eq!(moved(&daemon).0, 0);
        daemon.stop();
        let daemon = serve(&format!("block,path={}", namespace(2)), &[]);
        assert_eq!(daemon.disk().attribute("queue/logical_block_size"), "4096");
        verify(&daemon, &["4k", "64k"]);
        daemon.stop();
    });
}

#[test]
fn memory_of_the_daemon_is_registered() {
    in_guest(|| {
        let daemon = serve(&format!("block,path={}", small()), &["--umem", "anon"]);
        verify(&daemon, &["4k", "64k"]);
        let (registered, copied) = moved(&daemon);
        assert!(registered > 1000 && copied == 0, "{registered} {copied}");
        daemon.stop();
    });
}

/// Returns the character device beside the block device `node`: named by its controller, where that is named by its
/// subsystem.
pub(crate) fn passed_through(node: &str) -> String {
    let name = Path::new(node).file_name().expect("a name");
    let disk = Path::new("/sys/class/block").join(name).canonicalize();
    let disk = disk.expect("a disk");
    let (_, head) = node.rsplit_once('n').expect("a name of NVMe");
    until("the character device", || {
        let mut names = std::fs::read_dir(disk.parent()?)
            .ok()?
            .flatten()
            .map(|entry| entry.file_name().into_string());
        let is_it = |name: &String| name.starts_with("ng") && name.ends_with(&format!("n{head}"));
        let found = names.find_map(|name| name.ok().filter(is_it))?;
        let node = Path::new("/dev").join(found);
        node.exists().then(|| node.display().to_string())
    })
}

#[test]
fn commands_passed_through_verify() {
    in_guest(|| {
        let node = passed_through(&small());
        let backend = format!("nvme,path={node},iopoll=off");
        for (more, poll) in [(&[][..], "adaptive"), (&["--umem", "anon"], "event")] {
            let daemon = serve(&backend, &[&["--poll", poll], more].concat());
            let disk = daemon.disk();
            assert_eq!(disk.size_bytes(), 256 << 20);
            assert_eq!(disk.attribute("serial"), "pollux0");
            verify(&daemon, &["512", "4k", "64k", "1M"]);
            assert_eq!(moved(&daemon).0 > 1000, !more.is_empty());
            daemon.stop();
        }
        let large = passed_through(&namespace(2));
        let daemon = serve(&format!("nvme,path={large},iopoll=off"), &[]);
        verify(&daemon, &["4k", "64k"]);
        daemon.stop();
        let refused = pollux(&["serve", "--name", "d0", "--backend", "nvme,path=/dev/null"]);
        assert_eq!(refused.status.code(), Some(2), "{}", refused.stdout);
        assert!(
            refused.stderr.contains("no namespace"),
            "{}",
            refused.stderr
        );
        let held = serve(&format!("block,path={}", small()), &[]);
        let refused = pollux(&["serve", "--name", "d1", "--backend", &backend]);
        assert_eq!(refused.status.code(), Some(1), "{}", refused.stdout);
        assert!(
            refused.stderr.contains("another program holds it"),
            "{}",
            refused.stderr
        );
        held.stop();
        assert_eq!(leftovers(), [""; 0]);
    });
}

#[test]
fn polled_devices_verify() {
    in_guest(|| {
        let backends: [fn() -> String; 2] = [
            || format!("nvme,path={}", small()),
            || format!("nvme,path={}", passed_through(&small())),
        ];
        for backend in backends {
            let refused = pollux(&["serve", "--name", "d0", "--backend", &backend()]);
            assert_eq!(refused.status.code(), Some(2), "{}", refused.stdout);
            assert!(refused.stderr.contains("iopoll=off"), "{}", refused.stderr);
            poll_queues(2);
            for more in [&[][..], &["--umem", "anon"]] {
                let daemon = serve(&backend(), more);
                verify(&daemon, &["512", "4k", "64k"]);
                // What a polled ring may not take.
                run("blkdiscard", &[daemon.disk().node()]).succeeded();
                daemon.stop();
            }
            poll_queues(0);
        }
    });
}

#[test]
fn zeros_and_discards_reach_the_device() {
    in_guest(|| {
        for backend in ["block", "nvme"] {
            zero_and_discard(backend);
        }
    });
}

/// Zeros what was written, in three ways.
fn zero_and_discard(kind: &str) {
    let path = match kind {
        "nvme" => format!("{},iopoll=off", passed_through(&small())),
        _ => small(),
    };
    let daemon = serve(&format!("{kind},path={path}"), &[]);
    let node = daemon.disk().node().to_owned();
    let is_zero = |path: &str| {
        let mut bytes = vec![1; 4 << 20];
        File::open(path).unwrap().read_exact(&mut bytes).unwrap();
        bytes.iter().all(|byte| *byte == 0)
    };
    let zero = |mode: FallocateFlags| {
        let file = daemon.disk().open(true).unwrap();
        let mode = mode | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&file, mode, 0, 4 << 20).unwrap();
    };
    let discard = || drop(run("blkdiscard", &[&node]).succeeded());
    let commands: [&dyn Fn(); 3] = [
        &|| zero(FallocateFlags::FALLOC_FL_ZERO_RANGE),
        &|| zero(FallocateFlags::FALLOC_FL_PUNCH_HOLE),
        &discard,
    ];
    for (place, command) in commands.iter().enumerate() {
        Fio::new(&node, "write", "64k", 16).with("size", "4M").run();
        assert!(!is_zero(&node));
        command();
        assert!(is_zero(&node), "command {place}");
    }
    daemon.stop();
    assert!(is_zero(&small()));
}

#[test]
fn what_would_lose_data_is_refused() {
    in_guest(|| {
        let refused = |name: &str, backend: &str, expected: &str| {
            let output = pollux(&["serve", "--name", name, "--backend", backend]);
            let code = if expected.starts_with("add") || expected.starts_with("write") {
                2
            } else {
                1
            };
            assert_eq!(output.status.code(), Some(code), "{}", output.stderr);
            assert!(output.stderr.contains(expected), "{}", output.stderr);
        };
        let block = format!("block,path={}", small());
        run("mke2fs", &["-q", &small()]).succeeded();
        std::fs::create_dir_all("/tmp/mounted").unwrap();
        run("mount", &[&small(), "/tmp/mounted"]).succeeded();
        refused("d0", &block, "it is mounted");
        refused("d0", &format!("{block},ro=on"), "it is mounted");
        run("umount", &["/tmp/mounted"]).succeeded();
        let daemon = serve(&block, &[]);
        refused("d1", &block, "another program holds it");
        daemon.stop();
        run("blockdev", &["--setro", &small()]).succeeded();
        refused("d0", &block, "add ro=on");
        let daemon = serve(&format!("{block},ro=on"), &[]);
        assert_eq!(daemon.disk().attribute("ro"), "1");
        daemon.stop();
        run("blockdev", &["--setrw", &small()]).succeeded();
        let _file = DiskFile::new(16 << 20);
        let file = format!("file,path={DISK}");
        let daemon = serve(&file, &[]);
        refused("d1", &file, "another daemon serves it");
        daemon.stop();
        refused("d0", &format!("file,path={}", small()), "write block,path=");
        assert_eq!(leftovers(), [""; 0]);
    });
}

/// Starts a load that compares what it reads.
fn load(daemon: &Daemon) -> Running {
    Fio::verify(daemon.disk().node(), "4k", 32, "32M")
        .with("bssplit", "4k/60:8k/20:64k/20")
        .start()
}

#[test]
fn it_goes_from_daemon_to_daemon_under_load() {
    in_guest(|| {
        let file = DiskFile::new(64 << 20);
        for backend in [
            format!("file,path={DISK}"),
            format!("block,path={}", small()),
            format!("nvme,path={},iopoll=off", passed_through(&small())),
        ] {
            let mut daemon = serve(&backend, &[]);
            let mut running = load(&daemon);
            for takes_over in [true, false, true, false] {
                if running.has_ended() {
                    running.wait(PATIENCE).succeeded();
                    running = load(&daemon);
                }
                let more: &[&str] = match takes_over {
                    true => &["--takeover"],
                    false => &[],
                };
                if !takes_over {
                    daemon.kill();
                    daemon = Daemon::start("d0", &backend, &[TWO_QUEUES, more].concat());
                } else {
                    let mut next = Daemon::start("d0", &backend, &[TWO_QUEUES, more].concat());
                    next.event("taken_over");
                    daemon.event("handed_over");
                    daemon.ended();
                    daemon = next;
                }
                daemon.event("attached");
            }
            running.wait(3 * PATIENCE).succeeded();
            for queue in daemon.snapshot().queues {
                assert_eq!((queue.errors, queue.driver_faults), (0, 0), "{queue:?}");
            }
            daemon.stop();
        }
        drop(file);
        assert_eq!(leftovers(), [""; 0]);
    });
}

#[test]
fn a_file_that_grew_is_resized_to_what_it_is() {
    in_guest(|| {
        let _file = DiskFile::new(16 << 20);
        let daemon = serve(&format!("file,path={DISK}"), &[]);
        let file = File::options().write(true).open(DISK).unwrap();
        file.set_len(32 << 20).unwrap();
        pollux(&["resize", "d0", "32M"]).succeeded();
        until("the size", || {
            (daemon.disk().size_bytes() == 32 << 20).then_some(())
        });
        verify(&daemon, &["64k"]);
        let refused = pollux(&["resize", "d0", "1000"]);
        assert_eq!(refused.status.code(), Some(1), "{}", refused.stdout);
        daemon.stop();
        let daemon = serve(&format!("block,path={}", small()), &[]);
        let refused = pollux(&["resize", "d0", "512M"]);
        assert_eq!(refused.status.code(), Some(1), "{}", refused.stdout);
        assert!(
            refused.stderr.contains("resize the device first"),
            "{}",
            refused.stderr
        );
        daemon.stop();
    });
}

/// Fills the first eight sectors and erases four of them for good, as a guest's driver. Returns the answer, and what
/// the eight are then.
fn erase(daemon: &Daemon) -> (u8, [u8; 4096]) {
    let mut device = Device::start(&daemon.node(), 1, PLAIN | vhost::F_SECURE_ERASE);
    let mut bytes = [7; 4096];
    assert_eq!(device.request(0, vhost::OUT, 0, &mut bytes), 0);
    let mut range = [2_u64.to_le_bytes(), 4_u64.to_le_bytes()].concat();
    let status = device.request(0, vhost::SECURE_ERASE, 0, &mut range);
    assert_eq!(device.request(0, vhost::IN, 0, &mut bytes), 0);
    (status, bytes)
}

#[test]
fn what_is_erased_for_good_is_gone_and_linux_learns_that_it_cannot() {
    in_guest(|| {
        let daemon = Daemon::serve("d1", "ram,size=64M", &["--attach", "vhost"]);
        let mut erased = [7; 4096];
        erased[1024..3072].fill(0);
        assert!(erase(&daemon) == (0, erased));
        daemon.detach();
        // Its driver has the device write what it should read.
        daemon.attach("virtio");
        let node = daemon.disk().node().to_owned();
        let refused = run("blkdiscard", &["-s", &node]);
        let reason = "not supported";
        assert!(refused.stderr.contains(reason), "{}", refused.stderr);
        // So has a disk above it, which is told that this one can.
        let backend = format!("block,path={node}");
        let above = Daemon::serve("d0", &backend, &["--attach", "vhost"]);
        assert!(erase(&above) == (2, [7; 4096]));
        above.stop();
        daemon.stop();
    });
}

#[test]
fn errors_of_the_storage_are_counted_by_name() {
    in_guest(|| {
        let _file = DiskFile::new(16 << 20);
        let daemon = serve(&format!("file,path={DISK}"), &[]);
        let file = File::options().write(true).open(DISK).unwrap();
        file.set_len(1 << 20).unwrap();
        let beyond = Fio::new(daemon.disk().node(), "read", "4k", 1)
            .with("offset", "8M")
            .with("size", "64k")
            .start()
            .wait(PATIENCE);
        assert!(!beyond.status.success());
        let queues = daemon.snapshot().queues;
        let counted: u64 = queues
            .iter()
            .filter_map(|it| it.host_errors.get("EIO"))
            .sum();
        assert!(counted > 0, "{queues:?}");
        daemon.stop();
        assert_eq!(leftovers(), [""; 0]);
    });
}
