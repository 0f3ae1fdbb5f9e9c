//! How every command ends and prints: errors on one line, tables for people, JSON for programs.

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use pollux_control::api::Client;
use pollux_control::daemon::RUNTIME_DIR;

/// Where to find daemons.
#[derive(Clone, Debug, Args)]
pub(crate) struct Runtime {
    /// Folder of the daemons' sockets and locks
    #[arg(long, default_value = RUNTIME_DIR)]
    pub(crate) runtime_dir: PathBuf,
}

impl Runtime {
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.runtime_dir)
    }
}

/// Turns a result into an exit code: an error is printed and gives 1.
pub(crate) fn finish<E: Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pollux: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a line; a reader that has gone away (as `head` does) is no error.
pub(crate) fn line(text: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints a value as indented JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<(), serde_json::Error> {
    line(serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Returns an empty table with `header`.
pub(crate) fn table<const N: usize>(header: [&str; N]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table
        .load_preset(comfy_table::presets::NOTHING)
        .set_header(header);
    table
}

/// Returns `bytes` in the largest binary unit that divides it.
pub(crate) fn size(bytes: u64) -> String {
    let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
    let unit = units
        .iter()
        .find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    unit.map_or_else(
        || bytes.to_string(),
        |(shift, unit)| format!("{}{unit}", bytes >> shift),
    )
}
