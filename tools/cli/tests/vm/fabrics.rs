//! A namespace of another machine, over NVMe/TCP: here a target of the kernel on the loopback.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use crate::guest::{Daemon, Fio, PATIENCE, in_guest, leftovers, run, until, write};

const TARGET: &str = "/sys/kernel/config/nvmet";
const NAME: &str = "pollux-test";
const DISK: &str = "/tmp/fabrics-disk";

/// A target with one namespace, in a file, and a controller that is connected to it.
struct Remote;

impl Remote {
    fn new() -> Self {
        for module in ["nvmet", "nvmet-tcp", "nvme-tcp"] {
            run("modprobe", &[module]).succeeded();
        }
        fs::File::create(DISK).unwrap().set_len(64 << 20).unwrap();
        let subsystem = Path::new(TARGET).join("subsystems").join(NAME);
        let namespace = subsystem.join("namespaces/1");
        let port = Path::new(TARGET).join("ports/1");
        fs::create_dir(&subsystem).unwrap();
        fs::create_dir(&namespace).unwrap();
        fs::create_dir(&port).unwrap();
        write(subsystem.join("attr_allow_any_host"), "1");
        write(namespace.join("device_path"), DISK);
        write(namespace.join("buffered_io"), "1");
        write(namespace.join("enable"), "1");
        for (key, value) in [
            ("trtype", "tcp"),
            ("adrfam", "ipv4"),
            ("traddr", "127.0.0.1"),
            ("trsvcid", "4420"),
        ] {
            write(port.join(format!("addr_{key}")), value);
        }
        symlink(&subsystem, port.join("subsystems").join(NAME)).unwrap();
        // Keep-alive and reconnection soon enough for a test.
        let connect = format!(
            "transport=tcp,traddr=127.0.0.1,trsvcid=4420,nqn={NAME},keep_alive_tmo=2,reconnect_delay=1"
        );
        write("/dev/nvme-fabrics", &connect);
        until("the remote namespace", || {
            controller()
                .and_then(|_| node())
                .filter(|node| node.exists())
        });
        Self
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        if let Some(controller) = controller() {
            let _ = fs::write(controller.join("delete_controller"), "1");
        }
        let target = Path::new(TARGET);
        let _ = fs::remove_file(target.join("ports/1/subsystems").join(NAME));
        let subsystem = target.join("subsystems").join(NAME);
        for folder in [
            target.join("ports/1"),
            subsystem.join("namespaces/1"),
            subsystem,
        ] {
            let _ = fs::remove_dir(folder);
        }
        let _ = fs::remove_file(DISK);
    }
}

/// Returns the controller over TCP.
fn controller() -> Option<PathBuf> {
    let mut controllers = fs::read_dir("/sys/class/nvme").ok()?.flatten();
    let is_remote = |path: &PathBuf| {
        fs::read_to_string(path.join("transport")).is_ok_and(|found| found.trim() == "tcp")
    };
    controllers.find_map(|entry| Some(entry.path()).filter(is_remote))
}

/// Returns the block device of its namespace.
fn node() -> Option<PathBuf> {
    let name = controller()?.file_name()?.to_str()?.to_owned();
    Some(Path::new("/dev").join(format!("{name}n1")))
}

/// Returns both ways to it.
fn backends() -> [String; 2] {
    let node = node().expect("the remote namespace").display().to_string();
    let through = node.replace("nvme", "ng");
    [
        format!("block,path={node}"),
        format!("nvme,path={through},iopoll=off"),
    ]
}

fn serve(backend: &str) -> Daemon {
    Daemon::serve("d0", backend, &["--queues", "2", "--attach", "virtio"])
}

fn verify(daemon: &Daemon) -> Fio {
    Fio::verify(daemon.disk().node(), "4k", 16, "4M").with("bssplit", "4k/60:16k/20:64k/20")
}

#[test]
fn a_remote_namespace_verifies_through_both_paths() {
    in_guest(|| {
        let remote = Remote::new();
        for backend in backends() {
            let daemon = serve(&backend);
            verify(&daemon).run();
            for queue in daemon.snapshot().queues {
                assert!(queue.requests > 100, "{queue:?}");
                assert_eq!(queue.errors, 0, "{queue:?}");
            }
            daemon.stop();
        }
        drop(remote);
        assert_eq!(leftovers(), [""; 0]);
    });
}

#[test]
fn a_connection_that_is_cut_comes_back_under_load() {
    in_guest(|| {
        let remote = Remote::new();
        for (backend, waits) in backends().into_iter().zip([true, false]) {
            let daemon = serve(&backend);
            let load = verify(&daemon).with("loops", "4").start();
            daemon.disk().until_busy();
            run("ip", &["link", "set", "lo", "down"]).succeeded();
            sleep(Duration::from_secs(5));
            run("ip", &["link", "set", "lo", "up"]).succeeded();
            let ended = load.wait(3 * PATIENCE);
            // The block layer keeps requests until there is a connection; a command that is passed through may
            // fail with it, which the kernel does not try again.
            assert!(ended.status.success() || !waits, "{}", ended.stderr);
            until("the connection", || {
                let state = fs::read_to_string(controller()?.join("state")).ok()?;
                (state.trim() == "live").then_some(())
            });
            // No queue is stuck, and what is written from here on is there.
            verify(&daemon).run();
            daemon.stop();
        }
        drop(remote);
        assert_eq!(leftovers(), [""; 0]);
    });
}
