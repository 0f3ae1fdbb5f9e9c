//! Many devices from a configuration, which changes while they are served.

use std::fmt::Write;
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::guest::{Daemon, Disk, Fio, PATIENCE, Running, in_guest, leftovers, pollux};

/// Outside of what is looked through for left-overs.
const FILE: &str = "/tmp/pollux.toml";

/// Has the configuration describe disks of memory with these names.
fn describe(names: &[String]) {
    let mut text = "[defaults]\nattach = \"virtio\"\n".to_owned();
    for name in names {
        let path = format!("/tmp/config-{name}");
        write!(
            text,
            "[[device]]\nname = \"{name}\"\nbackend = \"ram,size=8M,path={path}\"\n"
        )
        .expect("a string takes it");
    }
    std::fs::write(FILE, text).expect("a file in /tmp");
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Starts a daemon over the configuration, whose device `name` is looked at.
fn serve(name: &str) -> Daemon {
    let process = Running::program("pollux", &["serve", "--json", "--config", FILE]);
    Daemon::from(name, process)
}

/// Returns the disk of the device `name`.
fn disk(name: &str) -> Disk {
    Disk::new(node(name).into())
}

fn node(name: &str) -> String {
    let shown = pollux(&["status", name, "--json"]).succeeded();
    let shown: serde_json::Value = serde_json::from_str(&shown).expect(&shown);
    shown["node"].as_str().expect("it is attached").to_owned()
}

/// Returns what process `pid` has in memory of its own: disks and bounce pages are files.
fn memory_kib(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let word = line.and_then(|line| line.split_whitespace().next());
    word.and_then(|kib| kib.parse().ok()).expect(&status)
}

/// Returns the names of the threads of process `pid`.
fn threads(pid: i32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it lives");
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).collect()
}

/// Returns the CPU time of process `pid` (proc_pid_stat(5), in hundredths of a second).
fn cpu_seconds(pid: i32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let behind = stat.rsplit(')').next().expect("a name in brackets");
    let ticks = behind.split_whitespace().skip(11).take(2);
    ticks
        .map(|ticks| ticks.parse::<f64>().expect("a number"))
        .sum::<f64>()
        / 100.0
}

#[test]
fn a_reload_adds_and_removes_while_another_device_verifies() {
    in_guest(|| {
        describe(&names(&["d0", "d1"]));
        let mut daemon = serve("d0");
        daemon.until_events("attached", 2);
        let kept = disk("d0");
        let load = Fio::verify(kept.node(), "4k", 32, "4M").start();
        describe(&names(&["d0", "d2"]));
        pollux(&["reload"]).succeeded();
        assert_eq!(daemon.events("stopped")[0]["name"], "d1");
        Fio::verify(disk("d2").node(), "4k", 1, "64k").run();
        std::fs::write(FILE, "[[device]\n").expect("a file in /tmp");
        let refused = pollux(&["reload"]);
        assert_eq!(refused.status.code(), Some(1), "{}", refused.stdout);
        let said = refused.stderr;
        assert!(said.contains("pollux.toml:1:"), "{said}");
        daemon.signal(Signal::SIGHUP);
        load.wait(3 * PATIENCE).succeeded();
        assert_eq!(daemon.events("stopped").len(), 1);
        describe(&[]);
        daemon.signal(Signal::SIGHUP);
        daemon.until_events("stopped", 3);
        describe(&names(&["d3"]));
        pollux(&["reload"]).succeeded();
        Fio::verify(disk("d3").node(), "4k", 1, "64k").run();
        daemon.stop();
        assert_eq!(leftovers(), [""; 0]);
    });
}

#[test]
fn a_device_that_cannot_be_served_leaves_the_others_alone_and_all_are_taken_over() {
    in_guest(|| {
        describe(&names(&["d0", "d1"]));
        let bad = "[[device]]\nname = \"bad\"\nbackend = \"file,path=/tmp/no-such-file\"\n";
        let text = std::fs::read_to_string(FILE).expect("it was written") + bad;
        std::fs::write(FILE, text).expect("a file in /tmp");
        let mut daemon = serve("d0");
        daemon.until_events("attached", 2);
        let failed = daemon.events("failed");
        assert_eq!(failed[0]["name"], "bad", "{failed:?}");
        let loads = ["d0", "d1"].map(|name| Fio::verify(disk(name).node(), "4k", 8, "2M").start());
        daemon.kill();
        let mut next = serve("d0");
        next.until_events("taken_over", 2);
        for load in loads {
            load.wait(3 * PATIENCE).succeeded();
        }
        next.stop();
        assert_eq!(leftovers(), [""; 0]);
    });
}

/// Has the configuration describe disks of memory with these names, all on one thread of CPU 1.
fn describe_pool(names: &[String]) {
    describe(names);
    let text = std::fs::read_to_string(FILE).expect("it was written");
    let text = text.replacen("[defaults]", "[defaults]\npool = \"small\"", 1);
    let pool = "[[pool]]\nname = \"small\"\ncpus = \"1\"\n";
    std::fs::write(FILE, text + pool).expect("a file in /tmp");
}

#[test]
fn a_device_is_added_and_removed_while_another_verifies() {
    in_guest(|| {
        describe(&names(&["d0"]));
        let mut daemon = serve("d0");
        daemon.until_events("attached", 1);
        let load = Fio::verify(disk("d0").node(), "4k", 8, "1M").start();
        let options = ["--backend", "ram,size=8M", "--attach", "virtio"];
        let printed = pollux(&[&["add", "d1"], &options[..]].concat()).succeeded();
        assert_eq!(printed.trim(), node("d1"));
        Fio::verify(disk("d1").node(), "4k", 1, "64k").run();
        let again = pollux(&[&["add", "d1"], &options[..]].concat());
        assert_eq!(again.status.code(), Some(1), "{}", again.stdout);
        assert!(
            again.stderr.contains("d1 is served already"),
            "{}",
            again.stderr
        );
        pollux(&["remove", "d1"]).succeeded();
        assert!(!std::path::Path::new(printed.trim()).exists(), "{printed}");
        let options = [
            "--backend",
            "ram,size=8M,path=/tmp/config-d2",
            "--attach",
            "virtio",
        ];
        let add = [&["add", "d2"], &options[..]].concat();
        pollux(&add).succeeded();
        daemon.kill();
        let mut next = serve("d0");
        next.until_events("taken_over", 1);
        // Left behind by a daemon that was killed.
        pollux(&add).succeeded();
        next.until_events("taken_over", 2);
        Fio::verify(disk("d2").node(), "4k", 1, "64k").run();
        // Nobody would take it over, so it is not left to the next daemon.
        next.signal(Signal::SIGUSR1);
        next.ended();
        assert!(!std::path::Path::new("/sys/class/vduse/d2").exists());
        let mut last = serve("d0");
        last.until_events("taken_over", 1);
        load.wait(3 * PATIENCE).succeeded();
        last.stop();
        assert_eq!(leftovers(), [""; 0]);
    });
}

#[test]
fn a_daemon_that_is_told_to_end_during_a_reload_ends() {
    in_guest(|| {
        describe(&names(&["d0"]));
        let mut daemon = serve("d0");
        daemon.until_events("attached", 1);
        let text = std::fs::read_to_string(FILE).expect("it was written");
        let slow =
            "[[device]]\nname = \"slow\"\nbackend = \"delay,read_latency=2s:null,size=8M\"\n";
        std::fs::write(FILE, text + slow).expect("a file in /tmp");
        daemon.signal(Signal::SIGHUP);
        // Its probe reads.
        daemon.until_events("serving", 2);
        daemon.stop();
        assert_eq!(leftovers(), [""; 0]);
    });
}

#[test]
fn many_devices_share_one_worker() {
    // What the time limit of all tests allows; 256 is the most.
    const DEVICES: usize = 32;
    in_guest(|| {
        let count = std::env::var("POLLUX_TEST_DEVICES")
            .map_or(DEVICES, |it| it.parse().expect("a number"));
        let all: Vec<String> = (0..count).map(|number| format!("d{number}")).collect();
        describe_pool(&all[..1]);
        let mut daemon = serve("d0");
        daemon.until_events("attached", 1);
        let mut added_ms = Vec::new();
        for some in 2..=count {
            let name = &all[some - 1];
            let backend = format!("ram,size=8M,path=/tmp/config-{name}");
            let begun = Instant::now();
            pollux(&[
                "add",
                name,
                "--backend",
                &backend,
                "--attach",
                "virtio",
                "--pool",
                "small",
            ])
            .succeeded();
            added_ms.push(begun.elapsed().as_millis());
        }
        daemon.until_events("attached", count);
        // Only what is in the configuration is taken over.
        describe_pool(&all);
        pollux(&["reload"]).succeeded();
        assert_eq!(daemon.events("stopped").len(), 0);
        let threads = threads(daemon.pid());
        let workers = threads.iter().filter(|name| name.starts_with("small/"));
        assert_eq!(workers.count(), 1, "{threads:?}");
        assert!(
            !threads.iter().any(|name| name.contains("/vq")),
            "{threads:?}"
        );
        let map = pollux(&["status", "d0", "--map", "--json"]).succeeded();
        let map: serde_json::Value = serde_json::from_str(&map).expect(&map);
        assert_eq!(
            (&map[0]["pool"], &map[0]["worker_cpu"]),
            (&"small".into(), &1.into())
        );
        for cpus in ["submit_cpus", "interrupt_cpus"] {
            assert_ne!(
                map[0][cpus].as_array().map_or(0, Vec::len),
                0,
                "{cpus}: {map}"
            );
        }
        let last = &added_ms[added_ms.len().saturating_sub(8)..];
        eprintln!(
            "added in ms, the 2nd on: {:?}, the last: {last:?}",
            &added_ms[..8]
        );
        let verified = match std::env::var("POLLUX_TEST_DEVICES") {
            Ok(_) => (0..count).collect(),
            Err(_) => vec![0, count / 2, count - 1],
        };
        for name in verified.into_iter().map(|place| &all[place]) {
            Fio::verify(disk(name).node(), "4k", 4, "256k").run();
        }
        let memory = memory_kib(daemon.pid());
        let most = (64 << 10) + (count as u64) * (1 << 10);
        assert!(memory < most, "{memory} KiB of at most {most}");
        let (before, from) = (cpu_seconds(daemon.pid()), Instant::now());
        std::thread::sleep(std::time::Duration::from_secs(5));
        let share = (cpu_seconds(daemon.pid()) - before) / from.elapsed().as_secs_f64();
        eprintln!("{memory} KiB, {:.1} % of a CPU while idle", share * 100.0);
        // Two at once, and one that goes meanwhile; then a daemon that is killed.
        let loads =
            [0, 1].map(|place| Fio::verify(disk(&all[place]).node(), "4k", 8, "1M").start());
        describe_pool(&all[..count - 1]);
        pollux(&["reload"]).succeeded();
        daemon.kill();
        let mut next = serve("d0");
        next.until_events("taken_over", count - 1);
        for load in loads {
            load.wait(3 * PATIENCE).succeeded();
        }
        next.stop();
        assert_eq!(leftovers(), [""; 0]);
    });
}
