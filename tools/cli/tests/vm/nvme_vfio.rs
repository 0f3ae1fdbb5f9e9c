//! Namespaces that the daemon drives itself, through VFIO.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{FallocateFlags, fallocate};

use crate::guest::{Daemon, Fio, PATIENCE, give_to, in_guest, namespace_node, pollux, run};
use crate::vhost::{Device, PLAIN};

/// Another controller than that of the tests of the kernel's driver.
const PCI: &str = "0000:00:11.0";
const MIB: usize = 1 << 20;

/// A controller that vfio-pci has. At the end it is the kernel's again.
pub(crate) struct Controller;

impl Controller {
    pub(crate) fn new() -> Self {
        for module in ["vfio-pci", "vfio_iommu_type1"] {
            run("modprobe", &[module]).succeeded();
        }
        kernel_node(1);
        give_to(PCI, "vfio-pci");
        Self
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        give_to(PCI, "\n");
    }
}

/// Waits for the kernel's node of namespace `nsid`.
fn kernel_node(nsid: u32) -> PathBuf {
    namespace_node(PCI, nsid)
}

pub(crate) fn backend(options: &str) -> String {
    format!("nvme-vfio,pci={PCI},{options}")
}

fn serve(backend: &str, options: &[&str]) -> Daemon {
    let fixed = ["--queues", "2", "--attach", "virtio"];
    Daemon::serve("d0", backend, &[&fixed, options].concat())
}

fn verify(daemon: &Daemon, depth: u32) -> Fio {
    Fio::verify(daemon.disk().node(), "4k", depth, "16M").with("bssplit", "4k/50:64k/30:1m/20")
}

/// Returns the requests that were served without a copy, and with one.
fn without_and_with_copy(daemon: &Daemon) -> (u64, u64) {
    let queues = daemon.snapshot().queues;
    for queue in &queues {
        assert_eq!((queue.errors, queue.driver_faults), (0, 0), "{queue:?}");
        assert!(queue.requests > 0, "{queue:?}");
    }
    let sum = |count: fn(&_) -> u64| queues.iter().map(count).sum();
    (sum(|q| q.backend_registered), sum(|q| q.backend_copied))
}

/// Returns the first 48 MiB of `node`, more than any test writes, past the page cache.
fn contents(node: &Path) -> Vec<u8> {
    run("blockdev", &["--flushbufs", node.to_str().expect("ASCII")]).succeeded();
    let mut contents = vec![0; 48 * MIB];
    let mut disk = fs::File::open(node).expect("a disk that can be read");
    disk.read_exact(&mut contents).expect("its start");
    contents
}

#[test]
fn data_is_right_on_namespaces_of_both_block_sizes() {
    in_guest(|| {
        let controller = Controller::new();
        let mut written = Vec::new();
        for (nsid, block_size) in [(1, "512"), (2, "4096")] {
            for umem in ["off", "anon"] {
                let daemon = serve(&backend(&format!("nsid={nsid}")), &["--umem", umem]);
                let disk = daemon.disk();
                assert_eq!(disk.size_bytes(), 256 * MIB as u64);
                assert_eq!(disk.attribute("queue/logical_block_size"), block_size);
                assert_eq!(disk.attribute("serial"), "pollux1");
                for depth in [1, 32] {
                    verify(&daemon, depth).run();
                }
                let (without, with) = without_and_with_copy(&daemon);
                match umem {
                    "off" => assert!(without == 0 && with > 0, "{without} {with}"),
                    _ => assert!(without > 0 && with == 0, "{without} {with}"),
                }
                // As it was for the driver before.
                daemon.detach();
                daemon.attach("virtio");
                verify(&daemon, 32).run();
                daemon.detach();
                daemon.attach("virtio");
                written.push((nsid, contents(&daemon.node())));
                daemon.stop();
            }
        }
        // The last of each namespace are what the kernel's own driver reads.
        drop(controller);
        for (nsid, expected) in [&written[1], &written[3]] {
            assert!(
                contents(&kernel_node(*nsid)) == *expected,
                "namespace {nsid}"
            );
        }
    });
}

#[test]
fn blocks_are_discarded_and_zeroed() {
    in_guest(|| {
        let _controller = Controller::new();
        for nsid in [1, 2] {
            let daemon = serve(&backend(&format!("nsid={nsid}")), &["--umem", "anon"]);
            let disk = daemon.disk();
            Fio::new(disk.node(), "write", "1M", 4)
                .with("size", "16M")
                .run();
            let before = contents(&daemon.node());
            run("blkdiscard", &["-o", "0", "-l", "2097152", disk.node()]).succeeded();
            let file = disk.open(true).expect("the disk");
            let zero = FallocateFlags::FALLOC_FL_ZERO_RANGE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            fallocate(&file, zero, 4 * MIB as i64, 3 * MIB as i64).expect("BLKZEROOUT");
            let after = contents(&daemon.node());
            let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
            assert!(!is_zero(&before[4 * MIB..7 * MIB]));
            // What QEMU has of a discarded block.
            assert!(is_zero(&after[..2 * MIB]) && is_zero(&after[4 * MIB..7 * MIB]));
            assert!(before[2 * MIB..4 * MIB] == after[2 * MIB..4 * MIB]);
            assert!(before[7 * MIB..] == after[7 * MIB..]);
            drop(file);
            daemon.stop();
        }
    });
}

#[test]
fn a_controller_that_is_in_use_is_refused() {
    in_guest(|| {
        for module in ["vfio-pci", "vfio_iommu_type1"] {
            run("modprobe", &[module]).succeeded();
        }
        let node = kernel_node(1);
        let refused = |options: &str| {
            let backend = backend(options);
            let output = pollux(&["serve", "--name", "d0", "--backend", &backend]);
            assert!(!output.status.success(), "{options}");
            output.stderr
        };
        let in_use = refused("nsid=1");
        assert!(in_use.contains("in use by the driver nvme"), "{in_use}");
        assert!(in_use.contains("force_unbind=on"), "{in_use}");
        let path = node.to_str().expect("ASCII");
        run("mkfs.ext4", &["-q", "-F", path]).succeeded();
        let mounted = crate::guest::Disk::new(node.clone()).mount("ext4", Path::new("/mnt/nvme"));
        let held = refused("nsid=2,force_unbind=on");
        assert!(
            held.contains("mounted or held") && held.contains(path),
            "{held}"
        );
        drop(mounted);
        let missing = refused("nsid=9,force_unbind=on");
        assert!(missing.contains("no active namespace 9"), "{missing}");
        // Taken for that, and given back.
        kernel_node(2);
    });
}

#[test]
fn a_controller_that_was_taken_by_force_is_given_back() {
    in_guest(|| {
        run("modprobe", &["vfio_iommu_type1"]).succeeded();
        run("modprobe", &["vfio-pci"]).succeeded();
        let before = contents(&kernel_node(1));
        let daemon = serve(&backend("force_unbind=on,ro=on"), &[]);
        assert!(contents(&daemon.node()) == before);
        assert_eq!(daemon.disk().attribute("ro"), "1");
        // Only one can have it.
        let other = pollux(&["serve", "--name", "d1", "--backend", &backend("nsid=2")]);
        assert!(other.stderr.contains("through VFIO"), "{}", other.stderr);
        daemon.stop();
        assert!(contents(&kernel_node(1)) == before);
    });
}

#[test]
fn what_a_killed_daemon_took_by_force_is_given_back() {
    in_guest(|| {
        for module in ["vfio-pci", "vfio_iommu_type1"] {
            run("modprobe", &[module]).succeeded();
        }
        kernel_node(1);
        let forced = backend("force_unbind=on,ro=on");
        let notes = || {
            let files = fs::read_dir("/run/pollux").expect("the runtime directory");
            let names = files.flatten().map(|it| it.file_name());
            names
                .filter(|name| name.to_string_lossy().contains("controller"))
                .count()
        };
        let has_vfio = || {
            Path::new("/sys/bus/pci/drivers/vfio-pci")
                .join(PCI)
                .exists()
        };
        // By the next daemon.
        let daemon = serve(&forced, &[]);
        daemon.kill();
        assert!(has_vfio());
        let daemon = serve(&forced, &[]);
        daemon.stop();
        kernel_node(1);
        assert_eq!(notes(), 0);
        // By who removes what is left.
        let daemon = serve(&forced, &[]);
        daemon.kill();
        assert!(has_vfio());
        pollux(&["detach", "d0"]).succeeded();
        kernel_node(1);
        assert_eq!(notes(), 0);
    });
}

#[test]
fn killed_under_a_load_that_verifies() {
    in_guest(|| {
        let _controller = Controller::new();
        for (nsid, umem) in [(1, "anon"), (2, "off")] {
            let backend = backend(&format!("nsid={nsid}"));
            let mut daemon = serve(&backend, &["--umem", umem]);
            let mut load = verify(&daemon, 32).start();
            for round in 0..3 {
                std::thread::sleep(Duration::from_millis(150 + 61 * round));
                if load.has_ended() {
                    load.wait(PATIENCE).succeeded();
                    load = verify(&daemon, 32).start();
                }
                daemon.kill();
                daemon = serve(&backend, &["--umem", umem]);
            }
            load.wait(3 * PATIENCE).succeeded();
            verify(&daemon, 32).run();
            without_and_with_copy(&daemon);
            daemon.stop();
        }
    });
}

#[test]
fn a_guests_memory_is_reached_without_a_copy() {
    in_guest(|| {
        let _controller = Controller::new();
        let daemon = Daemon::serve("d0", &backend("nsid=1"), &["--queues", "1"]);
        let node = daemon.attach("vhost");
        let mut device = Device::start(&node, 1, PLAIN);
        device.prove(0);
        let (without, with) = without_and_with_copy(&daemon);
        assert!(without > 0 && with == 0, "{without} {with}");
        drop(device);
        daemon.detach();
        daemon.stop();
    });
}
