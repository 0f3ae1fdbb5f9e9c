//! `pollux bench gate`: whether one build of Pollux is slower than another.

use std::env;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use pollux_bench::compare::{self, Ending, Plan};
use pollux_bench::fio::Pattern;
use pollux_bench::gate::{self, Program, ROUNDS_MIN, Verdict};
use pollux_bench::server::{self, ServerKind};
use pollux_bench::size::bytes;
use pollux_bench::transport::Transport;

use super::seconds;

/// What a regression ends with.
const REGRESSION: u8 = 3;

const EXAMPLE: &str = "Examples:
  pollux bench gate --baseline main                      this program beside the branch main
  pollux bench gate --baseline v0.1.0 --candidate HEAD   two revisions, built in trees of their own
  pollux bench gate --baseline /tmp/before --iodepth 32   this program beside another file
  pollux bench gate --baseline /tmp/before --options backend=ram,size=1G --rounds 9 --json

Each round measures the baseline twice and then the candidate. The baseline beside itself tells the noise; a
change counts where it is above three times that and 2 %, and its 95 % interval is clear of 0.
Exit code: 0 pass or improvement, 3 regression, 1 no judgement (an error, or inconclusive).

Needs root, VDUSE and fio; a revision needs git and cargo, too. In a virtual machine name files:
  pollux vm run --file /tmp/before:/root/before -- pollux bench gate --baseline /root/before";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Gate {
    /// What to hold the candidate against: a pollux program, or a commit, branch or tag of this repository
    #[arg(long, value_name = "FILE|REV")]
    baseline: String,
    /// What is judged [default: this program]
    #[arg(long, value_name = "FILE|REV")]
    candidate: Option<String>,
    /// Options of `pollux serve` for both, as pollux may carry in --servers of a comparison
    #[arg(long, value_name = "OPTION=VALUE[:...]")]
    options: Option<String>,
    /// How they are reached: vduse-virtio, vduse-virtio-poll, vduse-vhost
    #[arg(long, default_value_t)]
    transport: Transport,
    /// Requests kept in flight
    #[arg(long, value_delimiter = ',', default_value = "1,32")]
    iodepth: Vec<u32>,
    /// Access pattern: read, write, randread, randwrite
    #[arg(long, default_value = "randread")]
    rw: Pattern,
    /// Block size
    #[arg(long, default_value = "4k")]
    bs: String,
    /// Measured seconds of one point
    #[arg(long, value_parser = seconds, default_value = "3")]
    runtime: Duration,
    /// Seconds of load before each point
    #[arg(long, value_parser = seconds, default_value = "1")]
    ramp_time: Duration,
    /// Rounds, 3 at the least; more see smaller changes
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// CPUs for the server [default: one on another core than the load's]
    #[arg(long, value_delimiter = ',')]
    server_cpus: Vec<usize>,
    /// CPUs for the load [default: the first]
    #[arg(long, value_delimiter = ',')]
    fio_cpus: Vec<usize>,
    /// Size of the null disk, with suffix K, M, G or T
    #[arg(long, default_value = "8G", value_parser = bytes)]
    size: u64,
    /// How pollux waits for requests: busy, adaptive, event [default: what suits the transport]
    #[arg(long)]
    poll: Option<String>,
    /// Print findings, raw values and the machine as JSON instead of the table
    #[arg(long)]
    json: bool,
}

impl Gate {
    pub(super) fn run(self) -> Result<ExitCode, String> {
        let rounds = self.rounds;
        if usize::try_from(rounds).is_ok_and(|rounds| rounds < ROUNDS_MIN) {
            return Err(format!(
                "gate: {rounds} rounds cannot be judged; take at least {ROUNDS_MIN}"
            ));
        }
        // Before anything is built for minutes.
        let servers = [ServerKind::Pollux.into()];
        server::check(&servers, self.transport).map_err(|e| e.to_string())?;
        let here = Path::new(".");
        let find = |name: &str| Program::find(name, here).map_err(|e| e.to_string());
        let baseline = find(&self.baseline)?;
        let candidate = self.candidate()?;
        let json = self.json;
        let plan = self.plan(&baseline, &candidate)?;
        let comparison = compare::run(&plan).map_err(|e| e.to_string())?;
        let complete = comparison.ending == Ending::Complete;
        let gate = gate::Gate::new(baseline.name(), candidate.name(), comparison)
            .map_err(|e| e.to_string())?;
        if json {
            println!(
                "{}",
                serde_json::to_string_pretty(&gate).map_err(|e| e.to_string())?
            );
        } else {
            print!("{gate}");
        }
        Ok(code(gate.verdict, complete))
    }

    /// A debug build beside a release build would always be a regression.
    fn candidate(&self) -> Result<Program, String> {
        let here = Path::new(".");
        if let Some(name) = &self.candidate {
            return Program::find(name, here).map_err(|e| e.to_string());
        }
        if cfg!(debug_assertions) {
            return Err("gate: this pollux is a debug build; run the one of cargo build --release, or name \
                        --candidate"
                .to_owned());
        }
        let own = env::current_exe()
            .map_err(|e| format!("this program's path: {e}; name --candidate"))?;
        Program::find(&own.to_string_lossy(), here).map_err(|e| e.to_string())
    }

    fn plan(self, baseline: &Program, candidate: &Program) -> Result<Plan, String> {
        let [before, after] =
            [baseline, candidate].map(|it| it.path().to_string_lossy().into_owned());
        Ok(Plan {
            pollux: candidate.path().to_owned(),
            transport: self.transport,
            servers: gate::servers(&before, &after, self.options.as_deref())?,
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

/// What a gate ends with; one that ended early does not pass.
fn code(verdict: Verdict, complete: bool) -> ExitCode {
    match verdict {
        Verdict::Regression => ExitCode::from(REGRESSION),
        Verdict::Pass | Verdict::Improvement if complete => ExitCode::SUCCESS,
        Verdict::Pass | Verdict::Improvement | Verdict::Inconclusive => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        gate: Gate,
    }

    fn parse(line: &str) -> Result<Gate, clap::Error> {
        Line::try_parse_from(line.split_whitespace()).map(|line| line.gate)
    }

    #[test]
    fn every_example_is_understood() {
        let lines = EXAMPLE
            .lines()
            .filter_map(|line| line.split_once("pollux bench "));
        let examples: Vec<&str> = lines
            .map(|(_, line)| line.split("   ").next().unwrap_or_default())
            .collect();
        assert_eq!(examples.len(), 5, "{examples:?}");
        for example in examples {
            parse(example).unwrap_or_else(|e| panic!("{example}: {e}"));
        }
    }

    #[test]
    fn a_plan_measures_the_baseline_twice_and_then_the_candidate() {
        let own = env::current_exe().unwrap();
        let program = || Program::find(&own.to_string_lossy(), Path::new("/")).unwrap();
        let gate = parse("gate --baseline x --options poll=event").unwrap();
        let servers = gate.plan(&program(), &program()).unwrap().servers;
        let names: Vec<String> = servers.iter().map(|it| it.name()).collect();
        assert_eq!(
            names,
            ["pollux:baseline", "pollux:again", "pollux:candidate"]
        );
        assert!(
            servers
                .iter()
                .all(|it| it.to_string().ends_with(":poll=event"))
        );
    }

    #[test]
    fn what_is_no_judgement_does_not_pass() {
        let is = |verdict, complete, expected: u8| {
            let code = format!("{:?}", code(verdict, complete));
            assert_eq!(code, format!("{:?}", ExitCode::from(expected)));
        };
        is(Verdict::Pass, true, 0);
        is(Verdict::Improvement, true, 0);
        is(Verdict::Pass, false, 1);
        is(Verdict::Inconclusive, true, 1);
        is(Verdict::Regression, false, 3);
        let error = parse("gate --baseline x --rounds 2")
            .unwrap()
            .run()
            .unwrap_err();
        assert!(error.contains("2 rounds cannot be judged"), "{error}");
    }
}
