//! `pollux bench gate`: whether one build of Pollux is slower than another.

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode};
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
  pollux bench gate --baseline HEAD~1 --vm               in a virtual machine, which brings VDUSE along
  pollux bench gate --baseline /tmp/before --options backend=ram,size=1G --rounds 9 --json

Each round measures the baseline twice and then the candidate. The baseline beside itself tells the noise; a
change counts where it is above three times that and 2 %, and its 95 % interval is clear of 0.
Exit code: 0 pass or improvement, 3 regression, 1 no judgement (an error, or inconclusive).

Needs root, VDUSE and fio, or --vm; a revision needs git and cargo, too.";

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
    /// How they are reached: vduse-virtio, vduse-virtio-poll, vduse-vhost, vhost-user
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
    /// Run it in a virtual machine, as `pollux vm run` makes it; revisions are built outside of it
    #[arg(long)]
    vm: bool,
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
        if !self.vm {
            // Before anything is built for minutes.
            let servers = [ServerKind::Pollux.into()];
            server::check(&servers, self.transport).map_err(|e| e.to_string())?;
        }
        let here = Path::new(".");
        let find = |name: &str| Program::find(name, here).map_err(|e| e.to_string());
        let baseline = find(&self.baseline)?;
        let candidate = self.candidate()?;
        if self.vm {
            return self.run_in_vm(&baseline, &candidate);
        }
        let json = self.json;
        let plan = self.plan(&baseline, &candidate)?;
        let comparison = compare::run(&plan, None).map_err(|e| e.to_string())?;
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

    /// The same gate, by this program in a machine that has both programs.
    fn run_in_vm(&self, baseline: &Program, candidate: &Program) -> Result<ExitCode, String> {
        let own = env::current_exe().map_err(|e| format!("this program's path: {e}"))?;
        let [before, after] = [
            in_guest("baseline", baseline),
            in_guest("candidate", candidate),
        ];
        let mut command = Command::new(&own);
        command.args(["vm", "run", "--timeout", &self.limit_s().to_string()]);
        for (program, guest) in [(baseline, &before), (candidate, &after)] {
            command.args(["--file", &format!("{}:{guest}", program.path().display())]);
        }
        command
            .args(["--", "pollux", "bench", "gate"])
            .args(self.arguments(&before, &after));
        let status = command
            .status()
            .map_err(|e| format!("{}: {e}", own.display()))?;
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
    }

    /// Seconds that the machine gets: for its start, and for starts and stops of servers beside their loads.
    fn limit_s(&self) -> u64 {
        const BOOT_S: u64 = 120;
        const SERVER_S: u64 = 10;
        let load_s = (self.runtime + self.ramp_time).as_secs() + 1 + SERVER_S;
        let depths = u64::try_from(self.iodepth.len()).unwrap_or(u64::MAX);
        let points = depths.saturating_mul(3 * u64::from(self.rounds));
        points.saturating_mul(load_s).saturating_add(BOOT_S)
    }

    /// The command line of this gate over other programs, outside of a machine.
    fn arguments(&self, baseline: &str, candidate: &str) -> Vec<String> {
        let list = |cpus: &[usize]| {
            cpus.iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(",")
        };
        let depths: Vec<String> = self.iodepth.iter().map(ToString::to_string).collect();
        let cpus = |cpus: &[usize]| Some(list(cpus)).filter(|cpus| !cpus.is_empty());
        let options = [
            ("--baseline", Some(baseline.to_owned())),
            ("--candidate", Some(candidate.to_owned())),
            ("--options", self.options.clone()),
            ("--transport", Some(self.transport.to_string())),
            ("--iodepth", Some(depths.join(","))),
            ("--rw", Some(self.rw.to_string())),
            ("--bs", Some(self.bs.clone())),
            ("--runtime", Some(self.runtime.as_secs_f64().to_string())),
            (
                "--ramp-time",
                Some(self.ramp_time.as_secs_f64().to_string()),
            ),
            ("--rounds", Some(self.rounds.to_string())),
            ("--server-cpus", cpus(&self.server_cpus)),
            ("--fio-cpus", cpus(&self.fio_cpus)),
            ("--size", Some(self.size.to_string())),
            ("--poll", self.poll.clone()),
        ];
        let given = options
            .into_iter()
            .filter_map(|(name, value)| Some([name.to_owned(), value?]));
        let json = self.json.then(|| "--json".to_owned());
        given.flatten().chain(json).collect()
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

/// Where a machine has `program`: a path that tells what it was named.
fn in_guest(role: &str, program: &Program) -> String {
    let keep = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_');
    let words: Vec<&str> = program
        .name()
        .split(|letter| !keep(letter))
        .filter(|it| !it.is_empty())
        .collect();
    format!("/root/{role}-{}", words.join("-"))
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
    fn a_machine_is_asked_for_the_same() {
        for line in [
            "gate --baseline x --vm",
            "gate --baseline x --vm --candidate y --options poll=event --transport vduse-vhost --iodepth 1,128 --rw randread \
             --bs 8k --runtime 0.5 --ramp-time 0.25 --rounds 7 --server-cpus 1,2 --fio-cpus 0 --size 1G --poll busy --json",
        ] {
            let gate = parse(line).unwrap();
            let again = gate.arguments("/root/a", "/root/b");
            let inside = parse(&format!("gate {}", again.join(" "))).unwrap();
            assert_eq!(inside.arguments("/root/a", "/root/b"), again);
            assert!(!inside.vm && inside.baseline == "/root/a");
            let shown = |gate: &Gate| {
                format!("{gate:?}")
                    .split_once("options")
                    .unwrap()
                    .1
                    .replace("vm: true", "vm: false")
            };
            assert_eq!(shown(&inside), shown(&gate));
        }
        assert_eq!(parse("gate --baseline x").unwrap().limit_s(), 120 + 30 * 15);
        let own = env::current_exe().unwrap();
        let guest = in_guest(
            "baseline",
            &Program::find(&own.to_string_lossy(), Path::new("/")).unwrap(),
        );
        assert!(
            guest.starts_with("/root/baseline-") && guest.matches('/').count() == 2,
            "{guest}"
        );
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
