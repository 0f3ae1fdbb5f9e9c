//! `pollux doctor`: what this host lacks.

use std::process::ExitCode;

use clap::Args;
use pollux_control::doctor::{State, examine};

use crate::output::{finish, json, line};

/// Shows what this host lacks for VDUSE, and the command that mends each
#[derive(Debug, Args)]
#[command(after_help = "Example: pollux doctor

Ends with 1 when devices cannot be served or attached here, 0 otherwise.")]
pub(crate) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn main(args: &DoctorArgs) -> ExitCode {
    let findings = examine();
    if args.json {
        if json(&findings).is_err() {
            return ExitCode::FAILURE;
        }
    } else {
        for finding in &findings {
            let mark = match finding.state {
                State::Good => "ok      ",
                State::Warning => "warning ",
                State::Missing => "MISSING ",
            };
            line(format_args!("{mark}{}: {}", finding.check, finding.detail));
            if let Some(remedy) = &finding.remedy {
                line(format_args!("        -> {remedy}"));
            }
        }
    }
    let missing = findings
        .iter()
        .filter(|finding| finding.state == State::Missing)
        .count();
    match missing {
        0 => ExitCode::SUCCESS,
        count => finish(Err(format!(
            "{count} of these must be mended before devices can be served"
        ))),
    }
}
