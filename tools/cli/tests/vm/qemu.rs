//! QEMU guests with their disk behind `vhost-vdpa-device-pci`. The driver is the BIOS's, so that a guest takes seconds
//! inside of an emulated machine.

mod boot_disk;

use std::path::Path;
use std::time::Duration;

use boot_disk::{Copies, EXIT_PORT, GOOD_EXIT};
use nix::sys::signal::Signal;
use pollux_control::device::QueueState;

use crate::guest::{Daemon, PATIENCE, Running, in_guest, until, write};

/// Where the disk's bytes are; outside of what is looked through for left-overs.
const DISK: &str = "/tmp/qemu-disk";

/// QEMU and its firmware, which `tools/test` puts here: see `tools/guest-qemu`.
const QEMU: &str = "/root/guest-qemu";

/// All of the guest's memory in a memfd.
const MEMFD: &[&str] = &[
    "-machine",
    "q35,memory-backend=m",
    "-object",
    "memory-backend-memfd,id=m,size=64M,share=on",
];

/// Half in a memfd, half in huge pages.
const TWO_MEMORIES: &[&str] = &[
    "-machine",
    "q35",
    "-m",
    "64M",
    "-object",
    "memory-backend-memfd,id=a,size=32M,share=on",
    "-object",
    "memory-backend-memfd,id=b,size=32M,share=on,hugetlb=on,hugetlbsize=2M",
    "-numa",
    "node,memdev=a",
    "-numa",
    "node,memdev=b",
];

/// QEMU's own memory, which it does not share.
const PRIVATE: &[&str] = &["-machine", "q35", "-m", "64M"];

/// Serves a disk that makes `copies` when a machine boots from it.
fn serve(copies: Copies) -> Daemon {
    copies.write(Path::new(DISK));
    serve_again()
}

/// Serves the disk as it is.
fn serve_again() -> Daemon {
    let backend = format!("ram,size=8M,path={DISK}");
    Daemon::serve("d0", &backend, &["--attach", "vhost"])
}

/// Boots a machine with this memory from the disk that is at `node`.
fn boot(memory: &[&str], node: &Path) -> Running {
    let program = format!("{QEMU}/qemu-guest");
    assert!(
        Path::new(&program).exists(),
        "{program} is missing: these tests need a QEMU with vhost-vdpa-device-pci; give the guest the folder that \
         tools/guest-qemu prints, as tools/test does"
    );
    let exit = format!("isa-debug-exit,iobase={EXIT_PORT:#x},iosize=1");
    let disk = format!("vhost-vdpa-device-pci,vhostdev={}", node.display());
    let fixed = [
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-accel",
        "tcg",
        "-L",
        QEMU,
        "-device",
        &exit,
        "-device",
        &disk,
    ];
    Running::program(&program, &[&fixed, memory].concat())
}

/// Waits until a machine has copied everything.
fn ended(machine: Running) {
    let output = machine.wait(PATIENCE);
    assert_eq!(
        output.status.code(),
        Some(GOOD_EXIT),
        "{}{}",
        output.stdout,
        output.stderr
    );
}

/// Waits until the daemon serves the BIOS's driver.
fn is_served(daemon: &Daemon) {
    let begun = requests(daemon);
    until("requests of the guest", || {
        (requests(daemon) > begun + 10).then_some(())
    });
}

fn requests(daemon: &Daemon) -> u64 {
    daemon.snapshot().queues[0].requests
}

#[test]
fn a_guest_boots_from_the_disk_and_writes_to_it() {
    in_guest(|| {
        let daemon = serve(Copies::ONCE);
        ended(boot(MEMFD, &daemon.node()));
        Copies::ONCE.check(Path::new(DISK));
        daemon.stop();
    });
}

#[test]
fn a_guests_memory_may_be_of_several_kinds() {
    in_guest(|| {
        let huge_pages = "/proc/sys/vm/nr_hugepages";
        write(huge_pages, "16");
        let daemon = serve(Copies::ONCE);
        ended(boot(TWO_MEMORIES, &daemon.node()));
        Copies::ONCE.check(Path::new(DISK));
        daemon.stop();
        write(huge_pages, "0");
    });
}

#[test]
fn memory_that_a_guest_does_not_share_is_named_and_the_next_guest_is_served() {
    in_guest(|| {
        let daemon = serve(Copies::ONCE);
        let machine = boot(PRIVATE, &daemon.node());
        until("a queue that cannot be served", || {
            (daemon.snapshot().queues[0].state == QueueState::Broken).then_some(())
        });
        assert!(daemon.log().contains("share=on"), "{}", daemon.log());
        machine.signal(Signal::SIGKILL);
        machine.wait(PATIENCE);
        ended(boot(MEMFD, &daemon.node()));
        Copies::ONCE.check(Path::new(DISK));
        daemon.stop();
    });
}

#[test]
fn a_guest_that_is_killed_leaves_a_disk_for_the_next() {
    in_guest(|| {
        let daemon = serve(Copies::FOR_EVER);
        for _ in 0..3 {
            let machine = boot(MEMFD, &daemon.node());
            is_served(&daemon);
            machine.signal(Signal::SIGKILL);
            machine.wait(PATIENCE);
            until("the end of its queue", || {
                (daemon.snapshot().queues[0].state == QueueState::Unused).then_some(())
            });
        }
        assert_eq!(daemon.snapshot().queues[0].errors, 0);
        daemon.stop();
    });
}

#[test]
fn a_guest_goes_on_with_the_next_daemon() {
    in_guest(|| {
        let daemon = serve(Copies {
            count: 400,
            step_sectors: 0,
        });
        let machine = boot(MEMFD, &daemon.node());
        is_served(&daemon);
        daemon.kill();
        std::thread::sleep(Duration::from_millis(200));
        let daemon = serve_again();
        is_served(&daemon);
        ended(machine);
        let copied = Copies {
            count: 1,
            step_sectors: 0,
        };
        copied.check(Path::new(DISK));
        daemon.stop();
    });
}
