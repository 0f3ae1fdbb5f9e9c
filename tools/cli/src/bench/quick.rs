//! `pollux bench run quick`: a look at everything in a few minutes, null disks and NVMe, with and without the kernel, and
//! the peers beside it. What needs VDUSE runs on this host if it has that, otherwise in one virtual machine, and the driver
//! that polls in user-mode Linux, if that was built.

use std::env;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use pollux_bench::report::{Recorded, Run};
use pollux_vm::{Cache, Kernel, KernelName};
use serde_json::{Deserializer, Value};

/// What it shows, for `pollux bench list`.
pub(super) const SHOWS: &str =
    "A look at everything in a few minutes: null and NVMe, loopback and VDUSE, with the peers";
/// Seconds that it takes, about.
pub(super) const ABOUT_S: u64 = 220;

const VDUSE: &str = "/dev/vduse/control";
/// Seconds that the virtual machine gets.
const LIMIT_S: &str = "900";

/// One command of this program, without `--json`.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Name of its file.
    name: &'static str,
    /// `$node` stands for a namespace.
    arguments: &'static str,
}

/// In this process's own kind of machine.
const HERE: [Step; 2] = [
    Step {
        name: "loopback-null",
        arguments: "bench run loopback-null --rounds 2",
    },
    Step {
        name: "null-vhost-user",
        arguments: "bench compare --transport vhost-user --iodepth 1,32 --rounds 2 --runtime 2 --ramp-time 0.5",
    },
];

/// Where VDUSE is.
const WITH_VDUSE: [Step; 2] = [
    Step {
        name: "null-vduse-virtio",
        arguments: "bench compare --iodepth 1,32 --rounds 2 --runtime 2 --ramp-time 0.5",
    },
    Step {
        name: "null-vduse-virtio-poll",
        arguments: "bench compare --transport vduse-virtio-poll --iodepth 1,32 --rounds 2 --runtime 2 --ramp-time 0.5",
    },
];

/// The same, without interrupts: it is at its best where the CPU is not emulated.
const WITH_VHOST: Step = Step {
    name: "null-vduse-vhost",
    arguments: "bench compare --transport vduse-vhost --iodepth 1,32 --rounds 2 --runtime 2 --ramp-time 0.5",
};

/// Where there is an emulated NVMe controller.
const WITH_NVME: Step = Step {
    name: "nvme-vduse-virtio",
    arguments: "bench compare --iodepth 1,32 --rounds 2 --runtime 2 --ramp-time 0.5 --servers \
                pollux:label=block:backend=block,path=$node:umem=anon,raw:label=block:node=$node,\
                qemu:label=block:blockdev=driver=host_device,filename=$node,aio=io_uring,cache.direct=on",
};

/// Waits for the kernel to find the namespaces, of which `$node` is to be the one with blocks of 512 bytes.
const FIND_NODE: &str = "
until node=$(grep -lx 512 /sys/block/nvme*/queue/logical_block_size 2>/dev/null); do sleep 0.1; done
node=${node#/sys/block/}; node=/dev/${node%%/*}
until [ -b $node ]; do sleep 0.1; done";

/// Runs all of it, prints each table as it comes, and keeps the results in `folder`, if any.
///
/// # Errors
/// A step that fails ends it; what came before is printed and kept.
pub(super) fn run(folder: Option<&Path>) -> Result<(), String> {
    for step in HERE {
        one(step, Command::new(own()?), folder)?;
    }
    let (steps, command) = match Path::new(VDUSE).exists() {
        true => {
            eprintln!(
                "== with VDUSE, on this host; NVMe is left out: name yours to `pollux bench compare`"
            );
            let steps = [&WITH_VDUSE[..], &[WITH_VHOST]].concat();
            let mut shell = Command::new("sh");
            shell.args(["-ec", &script(&steps)]);
            shell.env("POLLUX", own()?);
            (steps, shell)
        }
        false => {
            let mut steps = WITH_VDUSE.to_vec();
            if is_uml_built()? {
                let mut machine = Command::new(own()?);
                machine.args([
                    "vm",
                    "run",
                    "--engine",
                    "uml",
                    "--timeout",
                    LIMIT_S,
                    "--",
                    "pollux",
                ]);
                one(WITH_VHOST, machine, folder)?;
            } else {
                eprintln!(
                    "== without user-mode Linux: pollux vm build-uml, once, for VDUSE that is not emulated"
                );
                steps.push(WITH_VHOST);
            }
            eprintln!(
                "== with VDUSE, which this host lacks: in a virtual machine, where only ratios count"
            );
            steps.push(WITH_NVME);
            let script = format!("{FIND_NODE}\n{}", script(&steps));
            let mut machine = Command::new(own()?);
            machine.args(["vm", "run", "--nvme", "1", "--timeout", LIMIT_S, "--"]);
            machine.args(["sh", "-ec", &script]);
            (steps, machine)
        }
    };
    let ended = output(command);
    let text = ended.as_ref().unwrap_or_else(|ended| &ended.stdout);
    let results = Deserializer::from_str(text).into_iter::<Value>();
    for (step, result) in steps.into_iter().zip(results) {
        let result = result.map_err(|e| format!("{}: {e}", step.name))?;
        keep(step, &result.to_string(), folder)?;
    }
    ended.map(drop).map_err(Ended::into)
}

/// Runs `step` with `pollux`, which may be this program in a machine, and keeps what it prints.
fn one(step: Step, mut pollux: Command, folder: Option<&Path>) -> Result<(), String> {
    eprintln!("== {}", step.name);
    let arguments = step.arguments.split_whitespace();
    pollux.args(arguments).arg("--json");
    keep(step, &output(pollux)?, folder)
}

fn is_uml_built() -> Result<bool, String> {
    let cache = Cache::of_user().map_err(|e| e.to_string())?;
    let kernels = Kernel::list(&cache);
    Ok(kernels.iter().any(|(name, _)| *name == KernelName::Uml))
}

fn own() -> Result<String, String> {
    let own = env::current_exe().map_err(|e| format!("this program's path: {e}"))?;
    own.into_os_string()
        .into_string()
        .map_err(|own| format!("{}: not UTF-8; move it", own.display()))
}

/// A shell's lines that run `steps`, whose results follow one another. In a machine `pollux` is in PATH.
fn script(steps: &[Step]) -> String {
    let line = |step: &Step| {
        let Step { name, arguments } = step;
        format!("echo '== {name}' >&2\n${{POLLUX:-pollux}} {arguments} --json\n")
    };
    steps.iter().map(line).collect()
}

/// A command that failed, and what it had printed by then.
#[derive(Debug)]
struct Ended {
    stdout: String,
    reason: String,
}

impl From<Ended> for String {
    fn from(ended: Ended) -> Self {
        ended.reason
    }
}

/// Returns what `command` prints; its progress goes to standard error.
fn output(mut command: Command) -> Result<String, Ended> {
    let failed = |stdout: String, reason: String| Ended { stdout, reason };
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|e| failed(String::new(), format!("{command:?}: {e}")))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(stdout),
        false => Err(failed(
            stdout,
            format!(
                "quick: a step failed ({}); its reason is above",
                output.status
            ),
        )),
    }
}

/// Prints the table of `text`, which `step` printed, and writes it to `folder`.
fn keep(step: Step, text: &str, folder: Option<&Path>) -> Result<(), String> {
    let path = Path::new(step.name).with_extension("json");
    let recorded = Run::parse(&path, text).map_err(|e| e.to_string())?.recorded;
    let mut out = std::io::stdout().lock();
    let printed = match &recorded {
        Recorded::Comparison(comparison) => writeln!(out, "{comparison}"),
        Recorded::Ring(ring) => writeln!(out, "{ring}"),
        Recorded::Scenario(run) => writeln!(out, "{run}"),
    };
    printed.map_err(|e| format!("standard output: {e}"))?;
    let Some(folder) = folder else {
        return Ok(());
    };
    let path = folder.join(path);
    fs::write(&path, text).map_err(|e| format!("{}: {e}; name another folder", path.display()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::bench::BenchArgs;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        bench: BenchArgs,
    }

    #[test]
    fn every_step_is_understood() {
        let further = [WITH_VHOST, WITH_NVME];
        for step in HERE.iter().chain(&WITH_VDUSE).chain(&further) {
            let words = step.arguments.replace("$node", "/dev/nvme0n1") + " --json";
            let parsed = Line::try_parse_from(words.split_whitespace());
            parsed.unwrap_or_else(|e| panic!("{}: {e}", step.name));
        }
    }

    #[test]
    fn a_step_that_fails_keeps_what_was_printed() {
        let mut shell = Command::new("sh");
        shell.args(["-ec", "echo '{}'; exit 3"]);
        let ended = output(shell).unwrap_err();
        assert_eq!(ended.stdout, "{}\n");
        assert!(String::from(ended).contains("exit status: 3"));
    }

    #[test]
    fn results_are_kept_as_they_were_printed() {
        let folder = tempfile::tempdir().unwrap();
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../results/2026-11-22-null-vduse-virtio/run.json"
        );
        let text = fs::read_to_string(file).unwrap();
        keep(WITH_VDUSE[0], &text, Some(folder.path())).unwrap();
        let kept = folder.path().join("null-vduse-virtio.json");
        assert_eq!(fs::read_to_string(kept).unwrap(), text);
        let refused = keep(WITH_VDUSE[0], "{}", None).unwrap_err();
        assert!(refused.starts_with("null-vduse-virtio.json: "), "{refused}");
    }
}
