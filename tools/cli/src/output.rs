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

/// Says on one line what is wrong with the command line, and returns 2. Help is printed as it is.
pub(crate) fn refuse(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    let is_help = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if is_help || !error.use_stderr() {
        // There is nobody left to tell when this fails.
        let _ = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    }
    eprintln!("pollux: {}", one_line(&error.render().to_string()));
    ExitCode::from(2)
}

/// Returns what is wrong and any tips, without the usage.
pub(crate) fn one_line(rendered: &str) -> String {
    let lines = rendered.lines().map(str::trim);
    let said = lines.take_while(|line| {
        !line.starts_with("Usage:") && !line.starts_with("For more information")
    });
    let words: Vec<&str> = said.filter(|line| !line.is_empty()).collect();
    let said = words.join(" ").replace(" tip: ", "; tip: ");
    let said = said.strip_prefix("error: ").unwrap_or(&said);
    match rendered.contains("Usage:") {
        true => format!("{said}; see --help"),
        false => said.to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_command_line_fit_on_one_line() {
        let command = || {
            clap::Command::new("pollux")
                .arg(clap::arg!(--name <NAME> "a name").required(true))
                .arg(clap::arg!(--poll <POLL> "a mode").value_parser(["busy", "event"]))
        };
        for (args, expected) in [
            (
                vec!["pollux"],
                "the following required arguments were not provided: --name <NAME>; see --help",
            ),
            (
                vec!["pollux", "--name", "d0", "--poll", "x"],
                "invalid value 'x' for '--poll <POLL>' [possible values: busy, event]",
            ),
            (
                vec!["pollux", "--nam", "d0"],
                "unexpected argument '--nam' found; tip: a similar argument exists: '--name'; see --help",
            ),
        ] {
            let error = command().try_get_matches_from(args).unwrap_err();
            assert_eq!(one_line(&error.render().to_string()), expected);
        }
    }
}
