//! The daemon's memory in place of the kernel's bounce pages.

use std::path::Path;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pollux_control::device::UmemKind;
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

use crate::guest::{Daemon, Fio, PATIENCE, Running, in_guest, pollux, read, until, write};
use crate::vhost::{Device, PLAIN};

/// Where the disk's bytes are; outside of what is looked through for left-overs.
const DISK: &str = "/tmp/umem-disk";
const HUGE_PAGES: &str = "/proc/sys/vm/nr_hugepages";
const MIB: u64 = 1 << 20;

/// Huge pages, given back at the end.
struct HugePages;

impl HugePages {
    fn new(count: u32) -> Self {
        write(HUGE_PAGES, &count.to_string());
        assert_eq!(read(HUGE_PAGES), count.to_string(), "too little memory");
        Self
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        write(HUGE_PAGES, "0");
    }
}

/// Starts to serve a disk of zeros whose bytes outlive the daemon.
fn serve(options: &[&str]) -> Daemon {
    let _ = std::fs::remove_file(DISK);
    follow(options)
}

/// Serves the disk as the daemon before left it.
fn follow(options: &[&str]) -> Daemon {
    let mut daemon = start(options);
    daemon.event("attached");
    daemon
}

fn start(options: &[&str]) -> Daemon {
    let fixed = ["--queues", "2", "--attach", "virtio"];
    let backend = format!("ram,size=64M,path={DISK}");
    Daemon::start("d0", &backend, &[&fixed, options].concat())
}

/// Writes both halves in random order and sizes, and compares.
fn verify(daemon: &Daemon) -> Running {
    Fio::verify(daemon.disk().node(), "4k", 32, "16M")
        .with("bssplit", "4k/60:8k/20:64k/20")
        .start()
}

/// Returns the bytes that the kernel has pinned of the daemon's memory.
fn pinned_bytes(daemon: &Daemon) -> u64 {
    let status = read(format!("/proc/{}/status", daemon.pid()));
    let line = status.lines().find_map(|line| line.strip_prefix("VmPin:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.and_then(|kib| kib.parse::<u64>().ok())
        .expect("a number of KiB")
        * 1024
}

/// Sees that `bytes` of `kind` are in use, and that nothing went wrong.
fn in_use(daemon: &Daemon, kind: UmemKind, bytes: u64) {
    let shown = daemon.snapshot();
    assert_eq!(shown.umem, kind, "{shown:?}");
    assert_eq!(pinned_bytes(daemon), bytes, "{}", daemon.log());
    for queue in shown.queues {
        assert_eq!((queue.errors, queue.driver_faults), (0, 0), "{queue:?}");
        assert!(queue.requests > 0, "{queue:?}");
    }
}

#[test]
fn data_is_right_through_memory_of_every_kind() {
    in_guest(|| {
        let _pages = HugePages::new(40);
        for (option, kind, bytes) in [
            ("off", UmemKind::Off, 0),
            ("anon", UmemKind::Anon, 64 * MIB),
            ("hugepage", UmemKind::Hugepage, 64 * MIB),
        ] {
            for features in ["event_idx", "event_idx,indirect_desc,ring_packed"] {
                let daemon = serve(&["--umem", option, "--features", features]);
                verify(&daemon).wait(3 * PATIENCE).succeeded();
                in_use(&daemon, kind, bytes);
                assert_eq!(daemon.snapshot().umem_reason, None);
                daemon.stop();
            }
        }
    });
}

#[test]
fn without_huge_pages_ordinary_ones_are_used_and_status_says_so() {
    in_guest(|| {
        let daemon = serve(&["--umem", "hugepage"]);
        verify(&daemon).wait(3 * PATIENCE).succeeded();
        in_use(&daemon, UmemKind::Anon, 64 * MIB);
        let reason = daemon.snapshot().umem_reason.expect("a reason");
        assert!(reason.contains("raise vm.nr_hugepages by 32"), "{reason}");
        assert!(daemon.log().contains(&reason), "{}", daemon.log());
        let shown = pollux(&["status", "d0"]).succeeded();
        assert!(
            shown.contains(&format!("umem      anon: {reason}")),
            "{shown}"
        );
        daemon.stop();
    });
}

/// Does something without the leave to lock as much memory as one likes, and to take that leave, for what it starts.
fn without_locked_memory<T: Send>(action: impl FnOnce() -> T + Send) -> T {
    let before = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap();
    setrlimit(Resource::RLIMIT_MEMLOCK, 1 << 20, 1 << 20).unwrap();
    let done = std::thread::scope(|scope| {
        // Of this thread alone.
        let limited = scope.spawn(|| {
            for capability in [CapabilitySet::SYS_RESOURCE, CapabilitySet::IPC_LOCK] {
                remove_capability_from_bounding_set(capability).unwrap();
            }
            action()
        });
        limited.join().unwrap()
    });
    setrlimit(Resource::RLIMIT_MEMLOCK, before.0, before.1).unwrap();
    done
}

#[test]
fn memory_that_may_not_be_pinned_is_done_without_and_status_says_so() {
    in_guest(|| {
        let daemon = without_locked_memory(|| serve(&["--umem", "anon"]));
        assert!(daemon.log().contains("memory cannot be locked"));
        verify(&daemon).wait(3 * PATIENCE).succeeded();
        in_use(&daemon, UmemKind::Off, 0);
        let reason = daemon.snapshot().umem_reason.expect("a reason");
        assert!(reason.contains("raise RLIMIT_MEMLOCK"), "{reason}");
        assert!(daemon.log().contains(&reason), "{}", daemon.log());
        daemon.stop();
    });
}

#[test]
fn the_bounce_region_has_the_size_that_was_asked_for() {
    in_guest(|| {
        let _pages = HugePages::new(64);
        // The kernel takes no memory of another size.
        let options = ["--umem", "hugepage", "--bounce-size", "128M"];
        let daemon = serve(&options);
        assert_eq!(read("/sys/class/vduse/d0/bounce_size"), "134217728");
        Fio::verify(daemon.disk().node(), "1M", 16, "32M").run();
        in_use(&daemon, UmemKind::Hugepage, 128 * MIB);
        assert_eq!(daemon.snapshot().bounce_size_bytes, Some(128 * MIB));
        daemon.kill();
        let refused = pollux(&[
            "serve",
            "--name",
            "d0",
            "--backend",
            &format!("ram,size=64M,path={DISK}"),
            "--queues",
            "2",
        ]);
        let difference = "its bounce size is 134217728, not the kernel's";
        assert!(refused.stderr.contains(difference), "{}", refused.stderr);
        let daemon = follow(&options);
        Fio::verify(daemon.disk().node(), "1M", 16, "32M").run();
        in_use(&daemon, UmemKind::Hugepage, 128 * MIB);
        daemon.stop();
        let odd = serve(&["--umem", "hugepage", "--bounce-size", "17M"]);
        Fio::verify(odd.disk().node(), "4k", 16, "4M").run();
        in_use(&odd, UmemKind::Hugepage, 17 * MIB);
        odd.stop();
    });
}

#[test]
fn data_is_right_after_each_new_driver() {
    in_guest(|| {
        let daemon = serve(&["--umem", "anon"]);
        let driver = Path::new("/sys/bus/vdpa/drivers/virtio_vdpa");
        for _ in 0..4 {
            write(driver.join("unbind"), "d0");
            assert_eq!(pinned_bytes(&daemon), 0, "{}", daemon.log());
            write(driver.join("bind"), "d0");
            verify(&daemon).wait(3 * PATIENCE).succeeded();
            in_use(&daemon, UmemKind::Anon, 64 * MIB);
            // Another address space since Linux 7.0.
            daemon.detach();
            assert_eq!(pinned_bytes(&daemon), 0, "{}", daemon.log());
            daemon.attach("virtio");
            verify(&daemon).wait(3 * PATIENCE).succeeded();
            in_use(&daemon, UmemKind::Anon, 64 * MIB);
        }
        daemon.stop();
    });
}

#[test]
fn killed_under_a_load_that_verifies() {
    in_guest(|| {
        let _pages = HugePages::new(40);
        for (option, kind) in [("anon", UmemKind::Anon), ("hugepage", UmemKind::Hugepage)] {
            let mut daemon = serve(&["--umem", option]);
            let mut load = verify(&daemon);
            for round in 0..6 {
                std::thread::sleep(Duration::from_millis(150 + 61 * round));
                if load.has_ended() {
                    load.wait(PATIENCE).succeeded();
                    load = verify(&daemon);
                }
                daemon.kill();
                // With and without, in turn: what is in flight survives both changes.
                let next = if round % 3 == 2 { "off" } else { option };
                daemon = follow(&["--umem", next]);
            }
            daemon.kill();
            daemon = follow(&["--umem", option]);
            load.wait(3 * PATIENCE).succeeded();
            verify(&daemon).wait(3 * PATIENCE).succeeded();
            in_use(&daemon, kind, 64 * MIB);
            daemon.stop();
        }
    });
}

#[test]
fn handed_over_under_a_load_that_verifies() {
    in_guest(|| {
        let mut daemon = serve(&["--umem", "anon"]);
        let mut load = verify(&daemon);
        for _ in 0..4 {
            if load.has_ended() {
                load.wait(PATIENCE).succeeded();
                load = verify(&daemon);
            }
            let mut next = start(&["--umem", "anon", "--takeover"]);
            let taken_over = next.event("taken_over");
            assert_eq!(taken_over["from"], daemon.pid(), "{taken_over}");
            eprintln!("paused for {} us", taken_over["pause_us"]);
            next.event("attached");
            daemon.ended();
            daemon = next;
        }
        load.wait(3 * PATIENCE).succeeded();
        verify(&daemon).wait(3 * PATIENCE).succeeded();
        in_use(&daemon, UmemKind::Anon, 64 * MIB);
        daemon.stop();
    });
}

#[test]
fn a_guest_has_no_bounce_pages_and_status_says_so() {
    in_guest(|| {
        let options = ["--queues", "2", "--umem", "anon"];
        let daemon = Daemon::serve("d0", "ram,size=64M", &options);
        let reason = || daemon.snapshot().umem_reason.expect("a reason");
        assert_eq!(reason(), "there is no driver");
        let node = daemon.attach("vhost");
        let mut device = Device::start(&node, 1, PLAIN);
        device.prove(0);
        assert!(reason().starts_with("a guest's memory"), "{}", reason());
        assert_eq!(daemon.snapshot().umem, UmemKind::Off);
        drop(device);
        daemon.detach();
        daemon.attach("virtio");
        verify(&daemon).wait(3 * PATIENCE).succeeded();
        until("the memory is registered", || {
            (daemon.snapshot().umem == UmemKind::Anon).then_some(())
        });
        daemon.stop();
    });
}
