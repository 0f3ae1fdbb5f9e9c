//! Tables as Markdown, and Markdown files whose tables are kept.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::comparison::overview;
use super::model::{Align, Table};
use super::{Recorded, ReportError, Run, report};
use crate::compare::Comparison;

/// What a kept table begins with; its form and its files follow, relative to the Markdown file's folder.
const BEGIN: &str = "<!-- pollux bench report: ";
const BEGIN_END: &str = " -->";
/// What it ends with.
const END: &str = "<!-- end of report -->";

/// Which tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The medians of each run.
    Tables,
    /// Pollux over all transports, in one table.
    Overview,
    /// One row a run: what was measured, how and where.
    Index,
}

impl FromStr for Form {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "tables" => Ok(Self::Tables),
            "overview" => Ok(Self::Overview),
            "index" => Ok(Self::Index),
            _ => Err(format!(
                "{text}: unknown form; use tables, overview or index"
            )),
        }
    }
}

impl Form {
    /// Returns `runs` in this form.
    pub fn write(self, runs: &[Run]) -> String {
        match self {
            Self::Tables => tables(runs),
            Self::Overview => {
                let comparisons: Vec<&Comparison> = runs.iter().filter_map(comparison).collect();
                table(&overview(&comparisons))
            }
            Self::Index => super::index::write(runs),
        }
    }
}

fn comparison(run: &Run) -> Option<&Comparison> {
    match &run.recorded {
        Recorded::Comparison(comparison) => Some(comparison),
        Recorded::Ring(_) | Recorded::Scenario(_) => None,
    }
}

fn tables(runs: &[Run]) -> String {
    let sections = report(runs).sections;
    let several = sections.len() > 1;
    let one = |section: &super::model::Section| {
        let name = section.source.rsplit('/').next().unwrap_or_default();
        let head = format!("## {}: `{name}`\n\n", section.title);
        let head = if several { head } else { String::new() };
        head + &table(&section.summary)
    };
    sections.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// Returns `table` without its title.
pub(super) fn table(table: &Table) -> String {
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::from("|");
        for cell in cells {
            // An empty cell takes one space, as people write it.
            let space = if cell.is_empty() { "" } else { " " };
            let cell = cell.replace('|', "\\|");
            let _ = write!(line, " {cell}{space}|");
        }
        line + "\n"
    };
    let mut text = line(&mut table.columns.iter().map(|column| column.title.as_str()));
    text.push('|');
    for column in &table.columns {
        text.push_str(match column.align {
            Align::Left => "---|",
            Align::Right => "---:|",
        });
    }
    text.push('\n');
    for row in &table.rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

/// Returns `text`, the content of the Markdown file `path`, with every kept table drawn anew from its files.
///
/// # Errors
/// The marks around a table are not in order, or a file cannot be read.
pub fn update(path: &Path, text: &str) -> Result<String, ReportError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut updated = String::new();
    let mut open: Option<usize> = None;
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let mark = |reason: String| ReportError::Mark {
            path: path.to_owned(),
            line: number,
            reason,
        };
        let begin = line.trim_end().strip_prefix(BEGIN);
        let ends = line.trim_end() == END;
        match (open, begin) {
            (Some(_), Some(_)) => return Err(mark("a table begins inside of another".to_owned())),
            (None, None) if ends => return Err(mark("no table begins before this end".to_owned())),
            (Some(_), None) if !ends => continue,
            (Some(_), None) => open = None,
            (None, _) => {}
        }
        updated += line;
        if let Some(begin) = begin {
            let command = begin.strip_suffix(BEGIN_END).unwrap_or_default();
            let mut words = command.split_whitespace();
            let form: Form = words.next().unwrap_or_default().parse().map_err(mark)?;
            let files: Vec<PathBuf> = words.map(|word| folder.join(word)).collect();
            if files.is_empty() {
                return Err(mark("no file is named".to_owned()));
            }
            updated = updated + "\n" + &form.write(&Run::read_all(&files)?) + "\n";
            open = Some(number);
        }
    }
    match open {
        None => Ok(updated),
        Some(line) => Err(ReportError::Mark {
            path: path.to_owned(),
            line,
            reason: "the table that begins here has no end".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Ending;
    use crate::compare::result::tests::comparison;
    use crate::report::model::Column;

    #[test]
    fn tables_are_written_as_people_write_them() {
        let written = table(&Table {
            title: String::new(),
            columns: vec![Column::words("server"), Column::numbers("IOPS")],
            rows: vec![
                vec!["a|b".into(), "7".into()],
                vec![String::new(), "8".into()],
            ],
        });
        assert_eq!(
            written,
            "| server | IOPS |\n|---|---:|\n| a\\|b | 7 |\n| | 8 |\n"
        );
    }

    #[test]
    fn a_kept_table_is_drawn_anew_and_nothing_else_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let run = serde_json::to_string(&comparison(Ending::Complete)).unwrap();
        std::fs::write(folder.path().join("run.json"), run).unwrap();
        let path = folder.path().join("README.md");
        let text = format!("before\n{BEGIN}overview run.json{BEGIN_END}\nstale\n{END}\nafter\n");
        let updated = update(&path, &text).unwrap();
        assert!(updated.starts_with("before\n") && updated.ends_with(&format!("{END}\nafter\n")));
        let row = "| `/dev/vdX` | 1 | 8000 | 120 | 0.50 | 4.00 x |\n";
        assert!(
            updated.contains(row) && !updated.contains("stale"),
            "{updated}"
        );
        assert_eq!(update(&path, &updated).unwrap(), updated);
        assert_eq!(update(&path, "no table\n").unwrap(), "no table\n");
    }

    #[test]
    fn marks_out_of_order_are_named_with_their_line() {
        let path = Path::new("README.md");
        for (text, expected) in [
            (format!("a\n{END}\n"), "line 2: no table begins before"),
            (
                format!("{BEGIN}chart x{BEGIN_END}\n{END}\n"),
                "line 1: chart: unknown form",
            ),
            (
                format!("{BEGIN}tables{BEGIN_END}\n{END}\n"),
                "line 1: no file is named",
            ),
        ] {
            let error = update(path, &text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
