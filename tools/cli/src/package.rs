//! What packages install beside the program, from the definition of its command line: completions and man pages.

use std::fs::create_dir_all;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::output::finish;

/// Pages that are written by hand.
const PAGES: [(&str, &str, &str); 2] = [
    (
        "man5",
        "pollux.toml.5",
        include_str!("../man/pollux.toml.5"),
    ),
    (
        "man7",
        "pollux-guide.7",
        include_str!("../man/pollux-guide.7"),
    ),
];

/// Prints what completes `pollux` in a shell
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  pollux completions bash > /etc/bash_completion.d/pollux")]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Writes the man pages
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  pollux man --out /usr/local/share/man")]
pub(crate) struct ManArgs {
    /// Folder that takes man1, man5 and man7; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Prints the completions of `command`. Returns 0, or 1 when stdout takes no more.
pub(crate) fn completions(args: &CompletionsArgs, mut command: Command) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "pollux", &mut script);
    finish(io::stdout().write_all(&script))
}

/// Writes the pages of `command` and of all below it, and those written by hand. Returns 0, or 1 when a file cannot
/// be written.
pub(crate) fn man(args: &ManArgs, command: Command) -> ExitCode {
    let folder = args.out.display();
    let refuse =
        |reason| format!("cannot write man pages to {folder}: {reason}; give --out another folder");
    finish(write(&args.out, command).map_err(refuse))
}

fn write(folder: &Path, command: Command) -> io::Result<()> {
    let commands = folder.join("man1");
    create_dir_all(&commands)?;
    clap_mangen::generate_to(command, &commands)?;
    for entry in std::fs::read_dir(&commands)? {
        let path = entry?.path();
        std::fs::write(&path, as_written(&std::fs::read_to_string(&path)?))?;
    }
    for (section, name, text) in PAGES {
        let folder = folder.join(section);
        create_dir_all(&folder)?;
        std::fs::write(folder.join(name), text)?;
    }
    Ok(())
}

/// Keeps the lines of what follows the options, which are tables and examples.
fn as_written(page: &str) -> String {
    const EXTRA: &str = ".SH EXTRA\n";
    let Some((before, extra)) = page.split_once(EXTRA) else {
        return page.to_owned();
    };
    let (extra, after) = extra.split_at(extra.find(".SH ").unwrap_or(extra.len()));
    format!("{before}.SH EXAMPLES\n.nf\n{extra}.fi\n{after}")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_shown_command_has_a_page_whose_examples_keep_their_lines() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), crate::Cli::command()).unwrap();
        let page = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let serve = page("man1/pollux-serve.1");
        let (_, examples) = serve.split_once(".SH EXAMPLES\n.nf\n").unwrap();
        assert!(
            examples.contains("pollux serve") && examples.contains("\n.fi\n"),
            "{serve}"
        );
        assert!(page("man1/pollux-bench-run.1").contains("pollux\\-bench\\-run"));
        assert!(!folder.path().join("man1/pollux-man.1").exists());
        for (section, name, _) in PAGES {
            assert!(page(&format!("{section}/{name}")).contains(".TH pollux"));
        }
    }

    #[test]
    fn completions_know_the_commands() {
        let mut script = Vec::new();
        clap_complete::generate(
            Shell::Bash,
            &mut crate::Cli::command(),
            "pollux",
            &mut script,
        );
        assert!(String::from_utf8(script).unwrap().contains("serve"));
    }
}
