//! `pollux reload`.

use std::process::ExitCode;

use clap::Args;
use pollux_control::daemon::Reloaded;

use crate::output::{Runtime, finish, json, line};

/// Has daemons read their configuration anew
///
/// New devices are served and attached, those that are not in it any more are detached and removed, and the others go on.
/// A configuration with a mistake changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "Example: pollux reload")]
pub(crate) struct ReloadArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runtime: Runtime,
}

/// Asks them. Returns 0, or 1 where one could not do all of it.
pub(crate) fn main(args: &ReloadArgs) -> ExitCode {
    let all = match args.runtime.client().reload() {
        Ok(all) => all,
        Err(error) => return finish(Err(error)),
    };
    if args.json {
        return finish(json(&all));
    }
    let is_whole = all.iter().all(|reloaded| reloaded.failed.is_empty());
    all.iter().for_each(tell);
    match is_whole {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn tell(reloaded: &Reloaded) {
    let Reloaded {
        added,
        removed,
        changed,
        failed,
    } = reloaded;
    added
        .iter()
        .for_each(|name| line(format_args!("{name}: added")));
    removed
        .iter()
        .for_each(|name| line(format_args!("{name}: removed")));
    let left = "described otherwise now, and left as it is until it is removed and added";
    changed
        .iter()
        .for_each(|name| line(format_args!("{name}: {left}")));
    for (name, reason) in failed {
        eprintln!("pollux: {name}: {reason}");
    }
    if *reloaded == Reloaded::default() {
        line("nothing has changed");
    }
}
