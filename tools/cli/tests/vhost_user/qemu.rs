//! QEMU guests with their disk behind `vhost-user-blk-pci`, on this host: the driver is the BIOS's.

#[path = "../vm/qemu/boot_disk.rs"]
mod boot_disk;

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use boot_disk::{Copies, EXIT_PORT, GOOD_EXIT};

use super::alone;
use super::daemon::Daemon;

const QEMU: &str = "qemu-system-x86_64";
const PATIENCE: Duration = Duration::from_secs(60);

/// A machine. Dropping it ends it.
struct Machine(Option<Child>);

impl Machine {
    /// Boots one from the disk of `daemon`.
    fn boot(daemon: &Daemon) -> Self {
        let chardev = format!("socket,id=c,path={},reconnect=1", daemon.socket());
        let exit = format!("isa-debug-exit,iobase={EXIT_PORT:#x},iosize=1");
        let mut command = Command::new(QEMU);
        command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        command.args(["-machine", "q35,memory-backend=m", "-accel", "tcg"]);
        // The daemon maps the guest's memory.
        command.args(["-object", "memory-backend-memfd,id=m,size=64M,share=on"]);
        command.args(["-m", "64M", "-chardev", &chardev, "-device", &exit]);
        command.args(["-device", "vhost-user-blk-pci,chardev=c,num-queues=1"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(Stdio::piped()).spawn();
        let child =
            child.unwrap_or_else(|error| panic!("{QEMU}: {error}; install qemu-system-x86"));
        Self(Some(child))
    }

    /// Waits until it has ended by itself.
    fn ended(mut self) -> Output {
        let mut child = self.0.take().expect("it runs");
        let begun = Instant::now();
        while child.try_wait().expect("a child").is_none() {
            if begun.elapsed() > PATIENCE {
                child.kill().expect("a child");
                let output = child.wait_with_output().expect("a child");
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                panic!("{QEMU} does not end: {said}");
            }
            sleep(Duration::from_millis(20));
        }
        child.wait_with_output().expect("a child")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Serves the disk at `path`, with `options`.
fn serve(path: &Path, options: &[&str]) -> Daemon {
    Daemon::serve(&format!("ram,size=8M,path={}", path.display()), options)
}

/// Waits until `machine` has made `copies` in the disk at `path`.
fn copied(machine: Machine, daemon: &Daemon, copies: Copies, path: &Path) {
    let output = machine.ended();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        output.status.code(),
        Some(GOOD_EXIT),
        "{said}\n{}",
        daemon.log()
    );
    copies.check(path);
}

/// Waits until the BIOS of a machine has made requests.
fn is_used(daemon: &Daemon, machine: &mut Machine) {
    let requests = |shown: &serde_json::Value| shown["queues"][0]["requests"].as_u64();
    let before = requests(&daemon.status()).unwrap_or(0);
    daemon.until("requests of the guest", |shown| {
        requests(shown).is_some_and(|now| now > before + 10)
    });
    let child = machine.0.as_mut().expect("it runs");
    let ended = child.try_wait().expect("a child");
    assert_eq!(ended, None, "the machine has ended: {}", daemon.log());
}

#[test]
fn a_guest_boots_from_the_disk_and_writes_to_it() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    for poll in ["busy", "event"] {
        Copies::ONCE.write(&disk);
        let daemon = serve(&disk, &["--poll", poll]);
        copied(Machine::boot(&daemon), &daemon, Copies::ONCE, &disk);
        daemon.stop();
    }
}

#[test]
fn a_guest_goes_on_with_the_next_daemon_and_what_was_in_flight() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    // Enough for the machine to be in the middle of them at every kill.
    let copies = Copies {
        count: 30,
        ..Copies::ONCE
    };
    for features in ["event_idx", "none"] {
        copies.write(&disk);
        // A request is nearly always in flight, so it is when the daemon is killed.
        let backend = format!("delay,latency=50ms:ram,size=8M,path={}", disk.display());
        let mut daemon = Daemon::serve(&backend, &["--features", features]);
        let mut machine = Machine::boot(&daemon);
        for _ in 0..3 {
            is_used(&daemon, &mut machine);
            daemon.replace_killed();
        }
        copied(machine, &daemon, copies, &disk);
        let queue = &daemon.status()["queues"][0];
        assert_eq!(
            (&queue["errors"], &queue["driver_faults"]),
            (&0.into(), &0.into())
        );
        daemon.stop();
    }
}

#[test]
fn a_guest_that_is_killed_leaves_a_disk_for_the_next() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    Copies::FOR_EVER.write(&disk);
    let daemon = serve(&disk, &["--poll", "adaptive"]);
    for _ in 0..3 {
        let mut machine = Machine::boot(&daemon);
        is_used(&daemon, &mut machine);
        drop(machine);
        daemon.until("the queue rests", |shown| {
            shown["queues"][0]["state"] == "unused"
        });
    }
    daemon.stop();
}
