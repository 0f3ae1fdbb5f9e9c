//! `pollux bench`: Pollux measured, by itself and beside other servers.

mod gate;
mod quick;
mod report;
mod run;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use pollux_bench::compare::{self, Comparison, Ending, Plan};
use pollux_bench::fio::Pattern;
use pollux_bench::ring::{self, RingPlan};
use pollux_bench::server::{self, Variants};
use pollux_bench::size::bytes;
use pollux_bench::transport::Transport;
use serde::de::DeserializeOwned;

/// Measures Pollux, by itself and beside other servers
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Name the scenarios, what each shows and how long it takes
    List(run::ListArgs),
    /// Measure a scenario: a named one, or your own in a TOML file
    Run(run::RunArgs),
    /// Compare servers of null disks or of storage on this host, round by round on the same CPUs
    Compare(Compare),
    /// Compare the device side of a virtqueue with that of the crate virtio-queue, in this process
    Ring(Ring),
    /// Tell whether one build of pollux is slower than another
    Gate(gate::Gate),
    /// Draw recorded runs as a page or as Markdown tables
    Report(report::Report),
}

const RING_EXAMPLE: &str = "Example: pollux bench ring --rounds 5

Needs neither root nor VDUSE. Pin it where the machine is shared: taskset -c 1 pollux bench ring";

#[derive(Debug, Args)]
#[command(after_help = RING_EXAMPLE)]
struct Ring {
    /// Rounds; each gives both sides a turn at every kind of request
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Measured seconds of one turn
    #[arg(long, value_parser = seconds, default_value = "0.1")]
    runtime: Duration,
    /// Print every value and the machine as JSON instead of the table
    #[arg(long)]
    json: bool,
}

impl Ring {
    fn run(&self) -> Result<ExitCode, String> {
        let rounds = self.rounds;
        let plan = RingPlan {
            rounds,
            turn: self.runtime,
        };
        let comparison = ring::compare(plan, |round| eprintln!("[round {round} of {rounds}]"));
        if self.json {
            let text = serde_json::to_string_pretty(&comparison).map_err(|e| e.to_string())?;
            println!("{text}");
        } else {
            print!("{comparison}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

const EXAMPLE: &str = "Examples, one a transport:
  pollux bench compare                                   /dev/vdX and fio, beside qemu and rublk
  pollux bench compare --transport vduse-virtio-poll     the same, pollux with a poll queue
  pollux bench compare --transport vduse-vhost           a polling user-space driver, beside qemu
  pollux bench compare --transport vhost-user            the same without a kernel, on any Linux
Two settings of pollux beside each other, as options of `pollux serve`:
  pollux bench compare --servers pollux,pollux:irq-hold-us=0:irq-cpus=driver,qemu
Storage behind the servers, and the same storage without a server:
  pollux bench compare --servers pollux:backend=nvme,path=/dev/nvme0n1,raw:node=/dev/nvme0n1:hipri
  pollux bench compare --servers qemu:blockdev=driver=host_device,filename=/dev/nvme0n1,raw:node=/dev/nvme0n1
Every value and the machine, to keep, and two rounds more of it:
  pollux bench compare --iodepth 1,32 --rounds 5 --json > run.json
  pollux bench compare --iodepth 1,32 --rounds 7 --json --resume run.json > more.json

Needs root, VDUSE, fio and qemu-storage-daemon, and rublk where it is named (tools/peers
builds it); vhost-user needs no more than qemu-storage-daemon. `pollux vm run -- pollux bench
compare` brings VDUSE along. Ctrl-C ends it early with the rounds that were finished.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
struct Compare {
    /// How the servers are reached: vduse-virtio (disks, by interrupt), vduse-virtio-poll (pollux's disk
    /// polled), vduse-vhost and vhost-user (user-space driver that polls)
    #[arg(long, default_value_t)]
    transport: Transport,
    /// Servers to compare, in the order of a round: pollux, qemu, rublk, raw; pollux may carry options of
    /// `pollux serve`: pollux:irq-hold-us=0, qemu a blockdev= instead of null-co; raw is a node loaded
    /// straight, with node= and, as it needs them, engine=io_uring_cmd and hipri; label= names a server
    /// in the table, program= is another pollux to start. What is written (--rw) overwrites the storage named
    /// [default: all that the transport reaches and are installed]
    #[arg(long, value_name = "SERVER[:OPTION=VALUE...],...")]
    servers: Option<Variants>,
    /// Requests kept in flight
    #[arg(long, value_delimiter = ',', default_value = "1,32,128")]
    iodepth: Vec<u32>,
    /// Access pattern: read, write, randread, randwrite
    #[arg(long, default_value = "randread")]
    rw: Pattern,
    /// Block size
    #[arg(long, default_value = "4k")]
    bs: String,
    /// Measured seconds of one point
    #[arg(long, value_parser = seconds, default_value = "4")]
    runtime: Duration,
    /// Seconds of load before each point
    #[arg(long, value_parser = seconds, default_value = "1")]
    ramp_time: Duration,
    /// Rounds; each measures every server at every iodepth
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// CPUs for the server [default: one on another core than the load's]
    #[arg(long, value_delimiter = ',')]
    server_cpus: Vec<usize>,
    /// CPUs for fio, or the first of them for the user-space driver [default: the first]
    #[arg(long, value_delimiter = ',')]
    fio_cpus: Vec<usize>,
    /// Size of the null disk, with suffix K, M, G or T
    #[arg(long, default_value = "8G", value_parser = bytes)]
    size: u64,
    /// How pollux waits for requests: busy, adaptive, event [default: busy; adaptive for poll queues
    /// beside a single server CPU]
    #[arg(long)]
    poll: Option<String>,
    /// Print raw values, medians and the machine as JSON instead of the table
    #[arg(long)]
    json: bool,
    /// Go on with the comparison in FILE, which was stopped, or has fewer rounds than --rounds: with the same options,
    /// machine and program
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|e| e.to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}

/// Runs one benchmark and returns the exit code; errors are printed.
pub(crate) fn main(args: BenchArgs) -> ExitCode {
    let ended = match args.bench {
        Bench::List(options) => options.run(),
        Bench::Run(options) => options.run(),
        Bench::Compare(options) => options.run(),
        Bench::Ring(options) => options.run(),
        Bench::Gate(options) => options.run(),
        Bench::Report(options) => options.run(),
    };
    match ended {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("pollux: {reason}");
            ExitCode::FAILURE
        }
    }
}

impl Compare {
    fn run(self) -> Result<ExitCode, String> {
        let json = self.json;
        let earlier = self.resume.as_deref();
        let earlier = earlier.map(|file| self::earlier(file, "bench compare"));
        let earlier = earlier.transpose()?;
        let comparison = compare::run(&self.plan()?, earlier).map_err(|e| e.to_string())?;
        print(&comparison, json)?;
        if comparison.ending == Ending::Stopped {
            eprintln!("{}", how_to_go_on(json));
        }
        let complete = comparison.ending == Ending::Complete;
        Ok(if complete {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn plan(self) -> Result<Plan, String> {
        let pollux = env::current_exe().map_err(|e| format!("this program's path: {e}"))?;
        Ok(Plan {
            pollux,
            transport: self.transport,
            servers: match self.servers {
                Some(named) => named.0,
                None => server::installed(self.transport),
            },
            iodepths: self.iodepth,
            rw: self.rw,
            bs: self.bs,
            runtime: self.runtime,
            ramp_time: self.ramp_time,
            rounds: self.rounds,
            server_cpus: self.server_cpus,
            fio_cpus: self.fio_cpus,
            size_bytes: self.size,
            poll: self.poll,
        })
    }
}

/// Reads what `pollux COMMAND --json` has printed before.
fn earlier<T: DeserializeOwned>(path: &Path, command: &str) -> Result<T, String> {
    let what = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| format!("{what}: {e}"))?;
    serde_json::from_str(&text)
        .map_err(|e| format!("{what}: not what `pollux {command} --json` has printed: {e}"))
}

fn how_to_go_on(json: bool) -> &'static str {
    match json {
        true => {
            "stopped; the same command with --resume FILE goes on, FILE being what is printed here"
        }
        false => "stopped; a comparison whose --json was kept can go on with --resume",
    }
}

fn print(comparison: &Comparison, json: bool) -> Result<(), String> {
    if json {
        let text = serde_json::to_string_pretty(comparison).map_err(|e| e.to_string())?;
        println!("{text}");
    } else {
        print!("{comparison}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        compare: Compare,
    }

    fn parse(line: &str) -> Result<Compare, clap::Error> {
        use clap::Parser;
        let words = line.split_whitespace();
        Line::try_parse_from(words).map(|line| line.compare)
    }

    #[test]
    fn every_example_is_understood() {
        let examples = EXAMPLE.lines().filter_map(|line| {
            let options = line.strip_prefix("  pollux bench compare")?;
            // What follows is a comment or the shell's.
            let end = options.find("   ").or(options.find(" > "));
            Some(&options[..end.unwrap_or(options.len())])
        });
        let examples: Vec<&str> = examples.collect();
        assert_eq!(examples.len(), 9, "{examples:?}");
        for example in &examples {
            parse(&format!("compare {example}")).unwrap_or_else(|e| panic!("{example}: {e}"));
        }
        for transport in Transport::ALL {
            let named = format!("--transport {transport}");
            let is_default = transport == Transport::default();
            assert!(is_default || examples.iter().any(|it| it.ends_with(&named)));
        }
    }

    #[test]
    fn servers_keep_their_order_and_their_options() {
        let compare = parse("compare --servers qemu,pollux:poll=event,rublk").unwrap();
        let labels = compare.plan().unwrap().servers;
        let labels: Vec<String> = labels.iter().map(ToString::to_string).collect();
        assert_eq!(labels, ["qemu", "pollux:poll=event", "rublk"]);
        let error = parse("compare --servers pollux,spdk").unwrap_err();
        assert!(
            error.to_string().contains("spdk: unknown server"),
            "{error}"
        );
    }

    #[test]
    fn seconds_may_have_a_fraction_but_no_sign() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(seconds("-1").is_err() && seconds("soon").is_err());
    }
}
