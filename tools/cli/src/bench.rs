//! `pollux bench`: Pollux measured beside other servers.

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use pollux_bench::compare::{self, Comparison, Ending, Plan};
use pollux_bench::fio::Pattern;
use pollux_bench::server::ServerKind;

/// Measures Pollux beside other servers
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Compare VDUSE servers on this host with fio, round by round on the same CPUs
    Compare(Compare),
}

const EXAMPLE: &str = "Example: pollux bench compare --iodepth 1,32 --rounds 5 --json > run.json

Needs root, VDUSE, fio and qemu-storage-daemon; `pollux vm run -- pollux bench compare` brings
VDUSE along. Ctrl-C ends it early with the rounds that were finished.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
struct Compare {
    /// Servers to compare, in the order of a round: pollux, qemu
    #[arg(long, value_delimiter = ',', default_value = "pollux,qemu")]
    servers: Vec<ServerKind>,
    /// Requests that fio keeps in flight
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
    /// CPUs for the server [default: one on another core than fio's]
    #[arg(long, value_delimiter = ',')]
    server_cpus: Vec<usize>,
    /// CPUs for fio [default: the first]
    #[arg(long, value_delimiter = ',')]
    fio_cpus: Vec<usize>,
    /// Size of the null disk, with suffix K, M, G or T
    #[arg(long, default_value = "8G", value_parser = bytes)]
    size: u64,
    /// How pollux waits for requests: busy, adaptive, event
    #[arg(long, default_value = "busy")]
    poll: String,
    /// Print raw values, medians and the machine as JSON instead of the table
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|e| e.to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}

/// Binary suffixes, as QEMU and fio have them.
fn bytes(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'K' | 'k')) => (&text[..at], 10),
        Some((at, 'M' | 'm')) => (&text[..at], 20),
        Some((at, 'G' | 'g')) => (&text[..at], 30),
        Some((at, 'T' | 't')) => (&text[..at], 40),
        _ => (text, 0),
    };
    let number = digits.parse::<u64>().map_err(|e| e.to_string())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "more than 2^64 bytes".to_owned())
}

/// Runs one benchmark and returns the exit code; errors are printed.
pub(crate) fn main(args: BenchArgs) -> ExitCode {
    let Bench::Compare(options) = args.bench;
    match options.run() {
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
        let comparison = compare::run(&self.plan()?).map_err(|e| e.to_string())?;
        print(&comparison, json)?;
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
            servers: self.servers,
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

    #[test]
    fn sizes_have_binary_suffixes() {
        assert_eq!(bytes("8G"), Ok(8 << 30));
        assert_eq!(bytes("512"), Ok(512));
        assert_eq!(bytes("4k"), Ok(4096));
        assert!(bytes("G").is_err() && bytes("").is_err() && bytes("99999999T").is_err());
    }

    #[test]
    fn seconds_may_have_a_fraction_but_no_sign() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(seconds("-1").is_err() && seconds("soon").is_err());
    }
}
