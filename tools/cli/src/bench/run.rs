//! `pollux bench list` and `pollux bench run`: scenarios.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::quick;
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use pollux_bench::compare::Ending;
use pollux_bench::loopback::{Disk, Silent};
use pollux_bench::run::{self, Run, Source};
use pollux_bench::scenario::{self, Scenario, Transport};
use pollux_control::device::{self, BackendSpec};
use pollux_dataplane::backend::Backend;
use pollux_dataplane::blk::Geometry;
use pollux_dataplane::worker::{SpawnError, Worker, WorkerConfig};

const LIST_EXAMPLE: &str = "Example: pollux bench list";

/// Name what `pollux bench run` takes
#[derive(Debug, Args)]
#[command(after_help = LIST_EXAMPLE)]
pub(super) struct ListArgs {
    /// Print the scenarios in full as JSON
    #[arg(long)]
    json: bool,
}

/// A name that stands for several commands.
const QUICK: &str = "quick";

const RUN_EXAMPLE: &str = "Examples:
  pollux bench run quick                             a look at everything, peers included, in a few minutes
  pollux bench run loopback-null                     the worker and a polling client, without the kernel
  pollux bench run vhost-user-null                   a daemon of its own, reached through vhost-user
  pollux bench run loopback-ram --out results/ram    keep every value in results/ram/run.json
  pollux bench run loopback-ram --out results/ram --resume results/ram/run.json
                                                     the rounds that a run lacks that was stopped
  pollux bench run mine.toml --json > run.json       a scenario of your own: `pollux bench run loopback-ram
                                                     --show > mine.toml` gives one to begin with

Needs neither root nor VDUSE (quick starts a virtual machine where there is none), and two CPUs
that nothing else uses. Ctrl-C ends it early with the rounds that were finished; --resume goes on.";

#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLE)]
pub(super) struct RunArgs {
    /// A scenario of `pollux bench list`, or a file that ends in .toml
    #[arg(value_name = "NAME|FILE.toml")]
    scenario: String,
    /// Rounds instead of the scenario's
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Print the scenario as TOML instead of running it
    #[arg(long)]
    show: bool,
    /// Print every value and the machine as JSON instead of the table
    #[arg(long)]
    json: bool,
    /// Go on with the run in FILE, which was stopped, or has fewer rounds than --rounds: with the same scenario, machine
    /// and program
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Folder to write run.json into, made where it is missing
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl ListArgs {
    pub(super) fn run(&self) -> Result<ExitCode, String> {
        let scenarios = scenario::builtin();
        if self.json {
            println!("{}", json(&scenarios)?);
            return Ok(ExitCode::SUCCESS);
        }
        let mut table = Table::new();
        table.load_preset(NOTHING);
        table.add_row([
            QUICK.to_owned(),
            format!("{} s", quick::ABOUT_S),
            quick::SHOWS.to_owned(),
        ]);
        for scenario in scenarios {
            let seconds = scenario.least_ms().div_ceil(1000);
            table.add_row([scenario.name, format!("{seconds} s"), scenario.shows]);
        }
        println!("{table}");
        Ok(ExitCode::SUCCESS)
    }
}

impl RunArgs {
    pub(super) fn run(&self) -> Result<ExitCode, String> {
        if self.scenario == QUICK {
            return self.quick();
        }
        let mut scenario = find(&self.scenario)?;
        if let Some(rounds) = self.rounds {
            scenario.rounds = rounds;
        }
        if self.show {
            print!("{}", scenario.to_toml());
            return Ok(ExitCode::SUCCESS);
        }
        self.make_folder()?;
        let run = self.measure(&scenario)?;
        if let Some(folder) = &self.out {
            let path = folder.join("run.json");
            fs::write(&path, json(&run)? + "\n").map_err(|e| unwritable(&path, &e))?;
            eprintln!("written to {}", path.display());
        }
        if run.ending == Ending::Stopped {
            eprintln!("{}", self.how_to_go_on());
        }
        print(&run, self.json)
    }

    fn measure(&self, scenario: &Scenario) -> Result<Run, String> {
        let (disk, own);
        let source = match scenario.transport {
            Transport::Loopback => {
                disk = Served::open(&scenario.backend)?;
                Source::Disk(&disk)
            }
            Transport::VhostUser => {
                own = env::current_exe().map_err(|e| format!("this program's path: {e}"))?;
                Source::Program(&own)
            }
        };
        let run = match &self.resume {
            None => run::run(scenario, source),
            Some(file) => run::resume(scenario, source, super::earlier(file, "bench run")?),
        };
        run.map_err(|e| e.to_string())
    }

    fn how_to_go_on(&self) -> String {
        let rounds = self.rounds.map(|it| format!(" --rounds {it}"));
        let command = format!(
            "pollux bench run {}{} --resume",
            self.scenario,
            rounds.unwrap_or_default()
        );
        match &self.out {
            Some(folder) => {
                let (folder, file) = (folder.display(), folder.join("run.json"));
                format!(
                    "stopped; go on with: {command} {} --out {folder}",
                    file.display()
                )
            }
            None if self.json => {
                format!("stopped; go on with: {command} FILE, which has what is printed here")
            }
            None => "stopped; with --json or --out DIR it could be gone on with".to_owned(),
        }
    }
}

impl RunArgs {
    fn quick(&self) -> Result<ExitCode, String> {
        if self.show || self.json || self.rounds.is_some() || self.resume.is_some() {
            return Err("quick: it is several commands, so it has no --show, --json, --rounds and --resume; give --out \
                        to keep every value"
                .to_owned());
        }
        self.make_folder()?;
        quick::run(self.out.as_deref())?;
        Ok(ExitCode::SUCCESS)
    }

    fn make_folder(&self) -> Result<(), String> {
        match &self.out {
            Some(folder) => fs::create_dir_all(folder).map_err(|e| unwritable(folder, &e)),
            None => Ok(()),
        }
    }
}

fn unwritable(path: &Path, reason: &std::io::Error) -> String {
    format!(
        "{}: {reason}; name another folder with --out",
        path.display()
    )
}

fn print(run: &Run, as_json: bool) -> Result<ExitCode, String> {
    if as_json {
        println!("{}", json(run)?);
    } else {
        print!("{run}");
    }
    let is_complete = run.ending == Ending::Complete;
    Ok(ExitCode::from(u8::from(!is_complete)))
}

fn json(value: &impl serde::Serialize) -> Result<String, String> {
    serde_json::to_string_pretty(value).map_err(|e| e.to_string())
}

/// Returns the scenario called `name`, or that in the file `name`.
fn find(name: &str) -> Result<Scenario, String> {
    if name.ends_with(".toml") {
        return scenario::read(Path::new(name)).map_err(|e| e.to_string());
    }
    let known = scenario::builtin();
    let names: Vec<String> = known.iter().map(|it| it.name.clone()).collect();
    let found = known.into_iter().find(|it| it.name == name);
    found.ok_or_else(|| {
        format!(
            "{name}: no such scenario; use one of {}, or a file that ends in .toml",
            names.join(", ")
        )
    })
}

/// A disk as `pollux serve` has it.
#[derive(Debug)]
struct Served(device::Disk);

impl Served {
    fn open(backend: &str) -> Result<Self, String> {
        let spec: BackendSpec = backend.parse().map_err(|e| format!("{e}"))?;
        let disk = spec.open("bench").map_err(|e| e.to_string())?;
        disk.claim().map_err(|e| e.to_string())?;
        Ok(Self(disk))
    }
}

impl Disk for Served {
    fn geometry(&self) -> &Geometry {
        Backend::geometry(&self.0)
    }

    fn spawn_worker(
        &self,
        config: WorkerConfig<'_>,
        notifier: Silent,
    ) -> Result<Worker, SpawnError> {
        self.0.spawn_worker(config, notifier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_found_by_its_name_and_has_a_disk_that_opens() {
        for scenario in scenario::builtin() {
            assert_eq!(find(&scenario.name).unwrap(), scenario);
            Served::open(&scenario.backend).unwrap();
        }
        let error = find("loopback-nul").unwrap_err();
        assert!(
            error.contains("loopback-null") && !error.contains('\n'),
            "{error}"
        );
        let error = find("no-such-file.toml").unwrap_err();
        assert!(error.contains("pollux bench list"), "{error}");
        let error = Served::open("nul,size=1G").unwrap_err();
        assert!(error.contains("null"), "{error}");
    }
}
