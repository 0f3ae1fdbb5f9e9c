//! `pollux metrics`.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use pollux_control::api::{Seen, exposition};

use crate::output::{Runtime, finish};

/// How long a daemon may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Prints what Prometheus wants to know of all devices
#[derive(Debug, Args)]
#[command(after_help = "Example: pollux metrics > pollux.prom

The text is OpenMetrics, the same that GET /metrics on a daemon's socket answers. control/METRICS.md in the sources tells
what each metric means, and tools/grafana has a dashboard.")]
pub(crate) struct MetricsArgs {
    #[command(flatten)]
    runtime: Runtime,
}

/// Prints them. Returns 0, or 1 where a daemon does not answer; what the others said is printed then, too.
pub(crate) fn main(args: &MetricsArgs) -> ExitCode {
    let survey = match args.runtime.client().survey(PATIENCE) {
        Ok(survey) => survey,
        Err(error) => return finish(Err(error)),
    };
    let devices = survey.devices.into_iter();
    let seen: Vec<Seen> = devices.map(|it| (it.name.clone(), Some(it))).collect();
    let printed = exposition(seen)
        .map_err(|e| e.to_string())
        .and_then(|text| {
            let mut out = std::io::stdout().lock();
            out.write_all(text.as_bytes())
                .map_err(|e| format!("standard output: {e}"))
        });
    let silent = survey
        .silent
        .into_iter()
        .next()
        .map(|error| error.to_string());
    finish(printed.and(silent.map_or(Ok(()), Err)))
}
