//! `pollux top`: what the devices of all daemons do at this moment.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use pollux_control::api::{Client, Survey};
use serde::Serialize;

use crate::output::{Runtime, finish, line, table};

mod columns;
mod draw;
#[cfg(test)]
mod fixture;
mod history;
mod model;
mod rates;
mod screen;

use columns::DEVICE;
use model::{Model, Sample};
use rates::{DeviceRow, rows};

/// How long a daemon may take to answer before it is shown as gone.
const PATIENCE: Duration = Duration::from_secs(2);

/// Shows what the devices of all daemons do, as it happens
#[derive(Debug, Args)]
#[command(after_help = "Example: pollux top
         pollux top --once --json

Enter shows the queues of the selected device, ? the other keys. Without a terminal it prints one table.

P50 and P99 are the latency inside of the device since the last sample. BUSY is the share of the workers' passes that \
found work.")]
pub(crate) struct TopArgs {
    /// Seconds from sample to sample, 0.1 to 3600
    #[arg(short, long, default_value = "1", value_name = "SECONDS", value_parser = seconds)]
    delay: Duration,
    /// Print one table, made of two samples, and end
    #[arg(long)]
    once: bool,
    /// Print a line of JSON for each sample but the first
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runtime: Runtime,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|it| (0.1..=3600.0).contains(it));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "it takes 0.1 to 3600 seconds".into())
}

/// Why a top ended.
#[derive(Debug, thiserror::Error)]
enum TopError {
    #[error("the screen cannot be shown: {0}; print a table with pollux top --once")]
    Screen(io::Error),
    #[error("the samples cannot be printed: {0}; look where the output goes to")]
    Output(io::Error),
    #[error("{}", .0.join("; "))]
    Silent(Vec<String>),
}

/// Where samples come from.
#[derive(Debug)]
struct Source {
    client: Client,
    started: Instant,
}

impl Source {
    fn new(runtime: &Runtime) -> Self {
        Self {
            client: runtime.client(),
            started: Instant::now(),
        }
    }

    /// Asks every daemon now.
    fn sample(&self) -> Sample {
        let (devices, problems) = match self.client.survey(PATIENCE) {
            Ok(Survey { devices, silent }) => (devices, silent),
            Err(error) => (Vec::new(), vec![error]),
        };
        Sample {
            at_s: self.started.elapsed().as_secs_f64(),
            devices,
            problems: problems.iter().map(ToString::to_string).collect(),
        }
    }

    /// Returns a sample every `delay`, the first at once.
    fn samples(self, delay: Duration) -> impl Iterator<Item = Sample> {
        let mut next = Instant::now();
        std::iter::repeat_with(move || {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            // What came too late is not made up for.
            next = Instant::now().max(next) + delay;
            self.sample()
        })
    }
}

/// What is printed of two samples.
#[derive(Serialize)]
struct Report {
    /// When the second was taken, in milliseconds since 1970.
    unix_ms: u64,
    /// From the first to the second.
    seconds: f64,
    devices: Vec<DeviceRow>,
    problems: Vec<String>,
}

impl Report {
    fn new(before: &Sample, after: &Sample) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seconds = after.at_s - before.at_s;
        Self {
            unix_ms: now.map_or(0, |now| now.as_millis() as u64),
            seconds,
            devices: rows(&before.devices, &after.devices, seconds),
            problems: after.problems.clone(),
        }
    }
}

pub(crate) fn main(args: &TopArgs) -> ExitCode {
    let source = Source::new(&args.runtime);
    let is_once = args.once || !(args.json || io::stdout().is_terminal());
    finish(match (is_once, args.json) {
        (false, false) => {
            let runtime_dir = args.runtime.runtime_dir.display().to_string();
            let model = Model::new(runtime_dir, args.delay);
            screen::run(source, model).map_err(TopError::Screen)
        }
        _ => print(source, args, is_once),
    })
}

/// Prints reports: one, or for as long as somebody reads them.
fn print(source: Source, args: &TopArgs, is_once: bool) -> Result<(), TopError> {
    let mut samples = source.samples(args.delay);
    let mut before = samples.next().unwrap_or_default();
    for after in samples {
        let report = Report::new(&before, &after);
        match args.json {
            true => match print_json(&report) {
                // As with head: nobody reads on.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                other => other.map_err(TopError::Output)?,
            },
            // Who does not answer is told below.
            false if report.devices.is_empty() && !report.problems.is_empty() => {}
            false => draw_table(&report.devices),
        }
        if is_once {
            return match report.problems.is_empty() {
                true => Ok(()),
                false => Err(TopError::Silent(report.problems)),
            };
        }
        before = after;
    }
    Ok(())
}

fn print_json(report: &Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, report)?;
    writeln!(out)?;
    out.flush()
}

fn draw_table(devices: &[DeviceRow]) {
    if devices.is_empty() {
        return line("no device is served: start one with pollux serve");
    }
    let mut table = table([""; 0]);
    table.set_header(DEVICE.iter().map(|column| column.title));
    for row in devices {
        table.add_row(DEVICE.iter().map(|column| (column.value)(row).to_string()));
    }
    line(table);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_a_number_of_seconds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "nan", "inf", "1e9", "", "1s"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
