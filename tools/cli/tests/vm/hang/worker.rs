//! A worker that does not come back from its backend: here its thread is stopped, and nothing else of its process.

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use pollux_control::device::{QueueState, QueueStats};

use crate::guest::{Daemon, in_guest, until};
use crate::vhost::{Device, IN, PLAIN};

use super::bounded;

const TWO_QUEUES: &[&str] = &["--queues", "2", "--attach"];

/// The thread of a worker, stopped. Dropping it lets the thread go on.
struct Stopped(Pid);

impl Stopped {
    fn worker(daemon: &Daemon, name: &str) -> Self {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
        let mut tasks = tasks.map(|task| task.unwrap().path());
        let is_it = |task: &std::path::PathBuf| crate::guest::read(task.join("comm")) == name;
        let task = tasks.find(is_it).expect(name);
        let id = task.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let id = Pid::from_raw(id);
        ptrace::seize(id, ptrace::Options::empty()).unwrap();
        ptrace::interrupt(id).unwrap();
        waitpid(id, Some(WaitPidFlag::__WALL)).unwrap();
        Self(id)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        ptrace::detach(self.0, None).expect("it is stopped");
    }
}

fn queue(daemon: &Daemon, index: usize) -> QueueStats {
    daemon.snapshot().queues.swap_remove(index)
}

/// Waits until queue 0 is shown as stuck, or not.
fn until_stuck(daemon: &Daemon, is_stuck: bool) {
    until("the state of the worker", || {
        let state = queue(daemon, 0).state;
        ((state == QueueState::Stuck) == is_stuck).then_some(())
    });
}

#[test]
fn it_is_told_of_while_another_queue_runs_on() {
    in_guest(|| {
        let options = [TWO_QUEUES, &["vhost", "--poll", "busy"]].concat();
        let daemon = Daemon::serve("d0", "ram,size=64M", &options);
        let mut device = Device::start(&daemon.node(), 2, PLAIN);
        device.prove(0);
        let stopped = Stopped::worker(&daemon, "d0/vq0");
        device.queues[0].prepare(&device.memory, IN, 0, &[0; 4096]);
        device.publish(0);
        bounded("report", || until_stuck(&daemon, true));
        for _ in 0..100 {
            device.prove(1);
        }
        let seen = queue(&daemon, 0);
        let reason = seen.fault.expect("a reason");
        assert!(reason.contains("has not answered for"), "{reason}");
        assert_eq!(queue(&daemon, 1).state, QueueState::Running);
        drop(stopped);
        assert_eq!(device.status_of_one(0), 0);
        until_stuck(&daemon, false);
        let log = daemon.log();
        assert!(
            log.contains("the worker is stuck") && log.contains("cpu=0"),
            "{log}"
        );
        assert!(log.contains("the worker is back"), "{log}");
        drop(device);
        daemon.stop();
    });
}

#[test]
fn a_worker_that_sleeps_is_not_taken_for_one() {
    in_guest(|| {
        let options = [TWO_QUEUES, &["virtio", "--poll", "event"]].concat();
        let daemon = Daemon::serve("d0", "ram,size=64M", &options);
        let sleeps = queue(&daemon, 0).sleeps;
        std::thread::sleep(std::time::Duration::from_secs(5));
        let seen = queue(&daemon, 0);
        // To be asked wakes it; to be watched does not.
        assert!(
            seen.sleeps <= sleeps + 2,
            "{sleeps} sleeps, then {}",
            seen.sleeps
        );
        assert_eq!(seen.state, QueueState::Running);
        assert!(!daemon.log().contains("stuck"), "{}", daemon.log());
        daemon.stop();
    });
}

#[test]
fn a_reset_is_answered_without_it_and_it_serves_what_came_after() {
    in_guest(|| {
        let options = [TWO_QUEUES, &["vhost"]].concat();
        let daemon = Daemon::serve("d0", "ram,size=64M", &options);
        let mut device = Device::start(&daemon.node(), 2, PLAIN);
        device.prove(0);
        let stopped = Stopped::worker(&daemon, "d0/vq0");
        bounded("reset", || device.kernel.set_status(0));
        until_stuck(&daemon, true);
        bounded("restart", || device.restart(2, PLAIN));
        device.prove(1);
        bounded("restart", || device.restart(2, PLAIN));
        device.prove(1);
        assert_eq!(daemon.snapshot().state, "running");
        drop(stopped);
        until_stuck(&daemon, false);
        device.prove(0);
        device.prove(1);
        let log = daemon.log();
        assert!(
            log.contains("not served before its worker answers"),
            "{log}"
        );
        drop(device);
        daemon.stop();
    });
}
