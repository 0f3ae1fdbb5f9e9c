//! Why there is no report.

use std::io;
use std::path::PathBuf;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file or folder cannot be read.
    #[error("{}: {reason}; name a file that `pollux bench compare --json` printed, or a folder of them", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        reason: io::Error,
    },
    /// A folder without results.
    #[error("{}: no .json file in it or below; name a folder of results that `pollux bench compare --json` printed", .0.display())]
    Empty(PathBuf),
    /// What is in the file is no result that is known here.
    #[error("{}: no recorded run: {reason}; record one with `pollux bench compare --json > run.json`", path.display())]
    Format {
        /// Which.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// Written by a later version.
    #[error("{}: schema {schema} is unknown, known are 1 to {newest}; use the version of pollux that wrote it, or a newer one", path.display())]
    Schema {
        /// Which.
        path: PathBuf,
        /// The schema that it names.
        schema: u64,
        /// The newest that is known.
        newest: u32,
    },
    /// A Markdown file whose marks are not in order.
    #[error("{}: line {line}: {reason}; write <!-- pollux bench report: overview FILE... --> before and <!-- end of report --> after the table", path.display())]
    Mark {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The report cannot be written.
    #[error("{}: {reason}; choose a place to write to with --out", path.display())]
    Write {
        /// Where to.
        path: PathBuf,
        /// What the kernel said.
        reason: io::Error,
    },
}
