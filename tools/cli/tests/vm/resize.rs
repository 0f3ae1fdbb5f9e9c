//! Disks that grow and shrink, in use and not.

mod killed;
mod refused;

use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use crate::guest::{
    Daemon, Disk, Fio, PATIENCE, Running, in_guest, leftovers, pollux, read, run, until,
};
use crate::recovery::{DISK, DiskFile};
use crate::vhost::{Device, IN, PLAIN};

const MIB: u64 = 1 << 20;

/// How soon a driver has to show another size.
const SOON: Duration = Duration::from_secs(1);

/// Resizes the device with `args`. Returns what was printed.
fn resize(args: &[&str]) -> String {
    pollux(&[&["resize", "d0"], args].concat()).succeeded()
}

/// Waits until the disk has `bytes`, which must be soon.
fn shows(disk: &Disk, bytes: u64) {
    let begun = Instant::now();
    until("the size", || (disk.size_bytes() == bytes).then_some(()));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

/// Writes `size` from `offset` on and compares, in `order` of fio.
fn fio(disk: &Disk, order: &str, offset: &str, size: &str) -> Fio {
    Fio::new(disk.node(), order, "64k", 8)
        .with("offset", offset)
        .with("size", size)
        .with("verify", "crc32c")
        .with("verify_fatal", "1")
        .with("verify_state_save", "0")
}

/// Writes and compares long enough to be resized meanwhile.
fn load(disk: &Disk) -> Running {
    let load = Fio::verify(disk.node(), "4k", 32, "16M");
    load.with("loops", "2").start()
}

fn no_errors(daemon: &Daemon) {
    for queue in daemon.snapshot().queues {
        assert_eq!((queue.errors, queue.driver_faults), (0, 0), "{queue:?}");
    }
}

/// Grows the disk again and again while it is in use.
fn grows_under_load(backend: &str, queues: &str, features: &str) {
    let options = ["--queues", queues, "--attach", "virtio"];
    let options = [&options[..], &["--features", features]].concat();
    let daemon = Daemon::serve("d0", backend, &options);
    let disk = daemon.disk();
    let mut load = load(&disk);
    let mut size = 64 * MIB;
    let mut times = 0;
    while !load.has_ended() && times < 100 {
        let printed = resize(&[&(size + MIB).to_string()]);
        assert_eq!(
            printed,
            format!("d0: {}M -> {}M\n", size / MIB, size / MIB + 1)
        );
        size += MIB;
        shows(&disk, size);
        assert_eq!(daemon.snapshot().capacity_bytes, size);
        times += 1;
    }
    load.wait(3 * PATIENCE).succeeded();
    assert!(times > 1, "the load was too short");
    resize(&["256M"]);
    shows(&disk, 256 * MIB);
    eprintln!("{times} resizes under load");
    // The last byte of the disk that was, and all that is new.
    if backend.starts_with("ram") {
        fio(&disk, "randwrite", "63M", "193M").run();
    }
    no_errors(&daemon);
    daemon.stop();
}

#[test]
fn grows_under_load_with_one_queue_and_with_two() {
    in_guest(|| {
        for queues in ["1", "2"] {
            grows_under_load("ram,size=64M", queues, "event_idx");
        }
    });
}

#[test]
fn grows_under_load_with_packed_rings_and_in_order() {
    in_guest(|| {
        let features = "event_idx,ring_packed,in_order";
        grows_under_load("ram,size=64M", "2", features);
    });
}

#[test]
fn grows_in_huge_pages_as_far_as_there_are_some() {
    in_guest(|| {
        crate::guest::write("/proc/sys/vm/nr_hugepages", "40");
        let options = ["--attach", "virtio"];
        let daemon = Daemon::serve("d0", "ram,size=32M,hugepages=on", &options);
        let free = || {
            let meminfo = read("/proc/meminfo");
            let value = |key| {
                let line = meminfo.lines().find(|line| line.starts_with(key));
                let word = line.and_then(|line| line.split_whitespace().nth(1));
                word.and_then(|word| word.parse::<u64>().ok())
                    .expect("a number")
            };
            value("HugePages_Free:") - value("HugePages_Rsvd:")
        };
        assert_eq!(free(), 24);
        let refused = pollux(&["resize", "d0", "128M"]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(
            refused.stderr.contains("nr_hugepages"),
            "{}",
            refused.stderr
        );
        assert_eq!(daemon.snapshot().capacity_bytes, 32 * MIB);
        assert_eq!(free(), 24);
        resize(&["64M"]);
        let disk = daemon.disk();
        shows(&disk, 64 * MIB);
        assert_eq!(free(), 8);
        fio(&disk, "randwrite", "0", "64M").run();
        resize(&["16M", "--force"]);
        shows(&disk, 16 * MIB);
        assert_eq!(free(), 32);
        fio(&disk, "randwrite", "0", "16M").run();
        no_errors(&daemon);
        daemon.stop();
        crate::guest::write("/proc/sys/vm/nr_hugepages", "0");
    });
}

#[test]
fn a_disk_is_shrunk_when_that_is_asked_for() {
    in_guest(|| {
        let options = ["--queues", "2", "--attach", "virtio"];
        let daemon = Daemon::serve("d0", "ram,size=128M", &options);
        let disk = daemon.disk();
        fio(&disk, "write", "0", "128M").run();
        let refused = pollux(&["resize", "d0", "64M"]);
        assert_eq!(refused.status.code(), Some(1));
        for word in ["d0", "67108864", "134217728", "mounted", "--force"] {
            assert!(refused.stderr.contains(word), "{}", refused.stderr);
        }
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(disk.size_bytes(), 128 * MIB);
        let load = load(&disk);
        assert_eq!(resize(&["64M", "--force"]), "d0: 128M -> 64M\n");
        shows(&disk, 64 * MIB);
        let listed = pollux(&["list"]).succeeded();
        assert!(listed.contains(" 64M "), "{listed}");
        load.wait(3 * PATIENCE).succeeded();
        // What the load left alone, and what is new again.
        fio(&disk, "read", "32M", "32M").run();
        resize(&["128M"]);
        shows(&disk, 128 * MIB);
        let mut half = vec![1; 64 * MIB as usize];
        let read = disk.open(false).expect("the disk");
        read.read_exact_at(&mut half, 64 * MIB)
            .expect("its new half");
        assert!(half.iter().all(|&byte| byte == 0));
        no_errors(&daemon);
        daemon.stop();
    });
}

#[test]
fn a_guests_driver_reads_the_new_size_and_is_refused_beyond_it() {
    in_guest(|| {
        let options = ["--queues", "2", "--attach", "vhost"];
        let daemon = Daemon::serve("d0", "ram,size=64M", &options);
        let mut device = Device::start(&daemon.node(), 2, PLAIN);
        let sectors = 64 * MIB / 512;
        assert_eq!(device.kernel.capacity_sectors(), sectors);
        let mut data = [1; 4096];
        for queue in 0..2 {
            assert_eq!(device.request(queue, IN, sectors, &mut data), 1);
        }
        resize(&["128M"]);
        assert_eq!(device.kernel.capacity_sectors(), 2 * sectors);
        for queue in 0..2 {
            assert_eq!(device.request(queue, IN, sectors, &mut data), 0);
            assert_eq!(data, [0; 4096]);
            device.prove(queue);
        }
        resize(&["64M", "--force"]);
        assert_eq!(device.kernel.capacity_sectors(), sectors);
        for queue in 0..2 {
            assert_eq!(device.request(queue, IN, sectors, &mut data), 1);
            assert_eq!(device.request(queue, IN, sectors - 8, &mut data), 0);
            device.prove(queue);
        }
        drop(device);
        daemon.stop();
    });
}

#[test]
fn a_detached_disk_has_the_new_size_when_it_is_attached() {
    in_guest(|| {
        let daemon = Daemon::serve("d0", "null,size=64M", &["--attach", "virtio"]);
        daemon.detach();
        let printed = resize(&["1T", "--json"]);
        let printed: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
        let expected = serde_json::json!({
            "name": "d0", "before_bytes": 64 * MIB, "after_bytes": 1_u64 << 40,
        });
        assert_eq!(printed, expected);
        assert_eq!(daemon.snapshot().capacity_bytes, 1 << 40);
        let disk = Disk::new(daemon.attach("virtio"));
        assert_eq!(disk.size_bytes(), 1 << 40);
        resize(&["32M", "--force"]);
        shows(&disk, 32 * MIB);
        daemon.detach();
        let disk = Disk::new(daemon.attach("virtio"));
        assert_eq!(disk.size_bytes(), 32 * MIB);
        daemon.stop();
    });
}

#[test]
fn a_mounted_file_system_grows() {
    in_guest(|| {
        let daemon = Daemon::serve("d0", "ram,size=64M", &["--attach", "virtio"]);
        let disk = daemon.disk();
        run("mkfs.ext4", &["-q", disk.node()]).succeeded();
        let folder = std::path::Path::new("/tmp/grown");
        {
            let mounted = disk.mount("ext4", folder);
            let file = mounted.path().join("file");
            let pattern: Vec<u8> = (0..MIB as usize).map(|at| (at % 251) as u8).collect();
            std::fs::write(&file, &pattern).unwrap();
            resize(&["192M"]);
            shows(&disk, 192 * MIB);
            let at = folder.to_str().expect("ASCII");
            let blocks = || run("stat", &["-f", "-c", "%b", at]).succeeded();
            let before: u64 = blocks().trim().parse().expect("a number");
            run("resize2fs", &[disk.node()]).succeeded();
            let after: u64 = blocks().trim().parse().expect("a number");
            assert!(after > 2 * before, "{before} -> {after} blocks");
            std::fs::write(mounted.path().join("more"), vec![7; 100 * MIB as usize]).unwrap();
            assert!(std::fs::read(&file).unwrap() == pattern);
        }
        std::fs::remove_dir(folder).unwrap();
        run("e2fsck", &["-fn", disk.node()]).succeeded();
        no_errors(&daemon);
        daemon.stop();
    });
}

#[test]
fn the_file_of_a_disk_is_as_long_as_the_disk() {
    in_guest(|| {
        let _disk = DiskFile::new();
        let length = || std::fs::metadata(DISK).expect("a file").len();
        let serve = |size: &str| {
            let backend = format!("ram,size={size},path={DISK}");
            Daemon::serve("d0", &backend, &["--queues", "2", "--attach", "virtio"])
        };
        let daemon = serve("64M");
        let disk = daemon.disk();
        fio(&disk, "write", "0", "64M").run();
        resize(&["128M"]);
        assert_eq!(length(), 128 * MIB);
        shows(&disk, 128 * MIB);
        fio(&disk, "read", "0", "64M").run();
        fio(&disk, "write", "64M", "64M").run();
        daemon.stop();
        let daemon = serve("128M");
        let disk = daemon.disk();
        fio(&disk, "read", "0", "64M").run();
        fio(&disk, "read", "64M", "64M").run();
        resize(&["48M", "--force"]);
        assert_eq!(length(), 48 * MIB);
        shows(&disk, 48 * MIB);
        no_errors(&daemon);
        daemon.stop();
        let daemon = serve("48M");
        fio(&daemon.disk(), "read", "0", "48M").run();
        daemon.stop();
        assert_eq!(leftovers(), [""; 0]);
    });
}
