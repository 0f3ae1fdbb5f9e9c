//! What a FLUSH promised is there after the power was cut. `tools/torture --power-cut` runs the test on the host: it
//! starts a machine whose writers report each FLUSH, kills it, and has the next machine on the same images read back.

mod epoch;
mod guest;
mod reports;
mod storage;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pollux_vm::{Cache, End, Error, GuestFile, Log, Output, VmSpec};

use reports::Reports;

/// For a boot, the disks' start, and the writers' last moments, on a busy host.
const LIMIT: Duration = Duration::from_secs(240);
/// Names of the variables that carry the test to the guest.
const SEED: &str = "POLLUX_POWER_CUT_SEED";
const FLUSHED: &str = "POLLUX_POWER_CUT_FLUSHED";

fn variable<T: std::str::FromStr>(name: &str) -> T {
    let text = env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run this through tools/torture --power-cut")
    });
    let parsed = text.parse();
    parsed.unwrap_or_else(|_| panic!("{name}={text}: not what was expected"))
}

/// The disk of the file system. Its journal asks for Force Unit Access where a disk offers it, which QEMU's NVMe
/// does, and then leaves such a write in its cache: so this is none.
fn file_system_disk(images: &Path) -> Vec<String> {
    let image = images.join("file-system.qcow2");
    if !image.exists() {
        let options = ["create", "-q", "-f", "qcow2", "-o", "cluster_size=4k"];
        let mut command = Command::new("qemu-img");
        command.args(options).arg(&image).arg("256M");
        assert!(command.status().expect("qemu-img").success());
    }
    let image = image.display();
    let serial = storage::FILE_SYSTEM_SERIAL;
    [
        "-blockdev".to_owned(),
        format!("driver=qcow2,node-name=file-system,file.driver=file,file.filename={image}"),
        "-device".to_owned(),
        format!("virtio-blk-pci,drive=file-system,serial={serial}"),
    ]
    .to_vec()
}

/// A machine that runs `half` of this test, which is in the same program.
fn machine(half: &str, images: &Path, env: Vec<(String, String)>) -> VmSpec {
    let file = |host: PathBuf, guest: &str| GuestFile {
        host,
        guest: Some(guest.to_owned()),
    };
    let this = env::current_exe().expect("this program's path");
    let command = [
        "pollux-vm-test",
        "--ignored",
        "--exact",
        "--nocapture",
        half,
    ];
    VmSpec {
        kernel: variable("POLLUX_POWER_CUT_KERNEL"),
        timeout: LIMIT,
        nvme: storage::CONTROLLERS,
        nvme_images: Some(images.to_owned()),
        qemu_args: file_system_disk(images),
        modules: vec!["nvme=poll_queues=2".parse().expect("a module")],
        files: vec![
            file(variable("POLLUX_PROGRAM"), "/usr/local/bin/pollux"),
            file(this, "/usr/local/bin/pollux-vm-test"),
        ],
        env,
        ..VmSpec::new(command)
    }
}

/// Runs the machine. Returns its end, and what its kernel told.
fn run(spec: &VmSpec, stdout: &mut Reports) -> Result<(End, Log), Error> {
    let mut stderr = Vec::new();
    let output = Output {
        stdout,
        stderr: &mut stderr,
    };
    let outcome = spec.run(&Cache::of_user()?, output, &|_| {})?;
    if outcome.end != End::Exited(0) {
        eprintln!("{}", String::from_utf8_lossy(&stderr));
    }
    Ok((outcome.end, outcome.log))
}

/// Writes until the power is cut. Returns what was flushed by then.
fn cut(images: &Path, seed: u64) -> Reports {
    let mut reports = Reports::cut_after_all_of(&storage::writers(), seed);
    let spec = machine(
        "power_cut::guest::writes_until_the_power_is_cut",
        images,
        vec![(SEED.to_owned(), seed.to_string())],
    );
    match run(&spec, &mut reports) {
        Err(Error::Output { .. }) if reports.is_cut() => reports,
        Err(error) => panic!("{error}"),
        Ok((end, log)) => panic!("the writers ended before the cut: {end:?}\n{}", log.text()),
    }
}

/// Reads back. Returns what the guest printed.
fn read_back(images: &Path, seed: u64, flushed: String) -> String {
    let mut printed = Reports::default();
    let spec = machine(
        "power_cut::guest::what_was_flushed_is_there",
        images,
        vec![
            (SEED.to_owned(), seed.to_string()),
            (FLUSHED.to_owned(), flushed),
        ],
    );
    let (end, log) = run(&spec, &mut printed).expect("a machine");
    let text = printed.text();
    assert_eq!(end, End::Exited(0), "{text}\n{}", log.text());
    text
}

#[test]
#[ignore = "runs on the host: tools/torture --power-cut"]
fn every_flushed_block_is_there_after_the_power_was_cut() {
    let rounds: u32 = variable("POLLUX_POWER_CUT_ROUNDS");
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = since.map_or(1, |since| since.as_secs());
    for round in 1..=rounds {
        let seed = seed + u64::from(round);
        let images = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let reports = cut(images.path(), seed);
        eprintln!("round {round} of {rounds}, seed {seed}: cut after {reports}");
        let text = read_back(images.path(), seed, reports.to_string());
        for line in text.lines().filter(|line| line.starts_with("power cut: ")) {
            eprintln!("  {}", line.trim_start_matches("power cut: "));
        }
        assert!(
            text.contains(guest::CONTROL_LOST),
            "the cut lost nothing: {text}"
        );
    }
}
