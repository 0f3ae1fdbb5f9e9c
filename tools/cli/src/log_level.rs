//! `pollux log-level`.

use std::process::ExitCode;

use clap::Args;
use pollux_control::api::{DaemonLevel, Level};

use crate::output::{Runtime, finish, json, line};

/// Shows or changes how much daemons log while they serve
#[derive(Debug, Args)]
#[command(after_help = "Example: pollux log-level debug

A daemon logs to its stderr, or to the journal as a service. It begins with what RUST_LOG says [info].")]
pub(crate) struct LogLevelArgs {
    /// How much from now on: off, error, warn, info, debug or trace
    level: Option<Level>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runtime: Runtime,
}

/// Asks every daemon. Returns 0, or 1 where one does not answer or none is there.
pub(crate) fn main(args: &LogLevelArgs) -> ExitCode {
    let all = match args.runtime.client().log_level(args.level) {
        Ok(all) => all,
        Err(error) => return finish(Err(error)),
    };
    if args.json {
        return finish(json(&all));
    }
    for DaemonLevel { pid, level } in all {
        line(format_args!("process {pid}: {level}"));
    }
    ExitCode::SUCCESS
}
