//! Recorded runs, read from the files that the other commands of `pollux bench` printed.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::ReportError;
use crate::compare::{Comparison, Ending, InterruptsCounted, Point, SCHEMA, Settings};
use crate::environment::Environment;
use crate::ring::RingComparison;
use crate::run::{self, SCHEMA_VERSION};

/// A file and what it holds.
#[derive(Clone, Debug)]
pub struct Run {
    /// As it was named, or found below a folder that was.
    pub path: PathBuf,
    /// What was measured.
    pub recorded: Recorded,
}

/// A result of one of the commands.
#[derive(Clone, Debug)]
pub enum Recorded {
    /// Of `pollux bench compare`.
    Comparison(Box<Comparison>),
    /// Of `pollux bench ring`.
    Ring(Box<RingComparison>),
    /// Of `pollux bench run`.
    Scenario(Box<run::Run>),
}

/// What all schemas of a comparison have. Medians and ratios, which they write differently, are drawn anew
/// from the points.
#[derive(Deserialize)]
struct Raw {
    started_unix_s: u64,
    ending: Ending,
    environment: Environment,
    settings: Settings,
    points: Vec<Point>,
    interrupts_counted: Vec<InterruptsCounted>,
}

impl From<Raw> for Comparison {
    fn from(raw: Raw) -> Self {
        Self::new(
            raw.started_unix_s,
            raw.environment,
            raw.settings,
            raw.points,
            raw.interrupts_counted,
            raw.ending,
        )
    }
}

impl Run {
    /// Reads every file of `paths`, and every `.json` file of those that are folders and of the folders in them,
    /// sorted by name.
    ///
    /// # Errors
    /// A file cannot be read or is no recorded run, or a folder has none.
    pub fn read_all(paths: &[PathBuf]) -> Result<Vec<Self>, ReportError> {
        let mut runs = Vec::new();
        for path in paths {
            let mut files = vec![path.clone()];
            if path.is_dir() {
                files = json_files(path)?;
                if files.is_empty() {
                    return Err(ReportError::Empty(path.clone()));
                }
            }
            for file in files {
                runs.push(Self::read(&file)?);
            }
        }
        Ok(runs)
    }

    /// Reads one file.
    ///
    /// # Errors
    /// It cannot be read or is no recorded run.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let text = fs::read_to_string(path).map_err(|reason| ReportError::Read {
            path: path.to_owned(),
            reason,
        })?;
        Self::parse(path, &text)
    }

    /// Reads `text`, which is from `path` or is to go there.
    ///
    /// # Errors
    /// It is no recorded run.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ReportError> {
        Ok(Self {
            path: path.to_owned(),
            recorded: parse(path, text)?,
        })
    }
}

fn json_files(folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let failed = |reason| ReportError::Read {
        path: folder.to_owned(),
        reason,
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        // A symbolic link may lead back to where it lies.
        if path.is_dir() && !path.is_symlink() {
            files.extend(json_files(&path)?);
        } else if path.extension().is_some_and(|it| it == "json") {
            files.push(path);
        }
    }
    Ok(files)
}

fn parse(path: &Path, text: &str) -> Result<Recorded, ReportError> {
    let format = |reason: String| ReportError::Format {
        path: path.to_owned(),
        reason,
    };
    let value: Value = serde_json::from_str(text).map_err(|e| format(e.to_string()))?;
    // From the text once more, so that an error names its line.
    if let Some(version) = value.get("schema_version") {
        return parse_scenario(path, text, version);
    }
    match value.get("schema").map(Value::as_u64) {
        Some(Some(schema)) if (1..=u64::from(SCHEMA)).contains(&schema) => {
            let raw: Raw = serde_json::from_str(text).map_err(|e| format(e.to_string()))?;
            if raw.points.is_empty() {
                return Err(format("it has no points".to_owned()));
            }
            Ok(Recorded::Comparison(Box::new(raw.into())))
        }
        Some(Some(schema)) => Err(ReportError::Schema {
            path: path.to_owned(),
            schema,
            newest: SCHEMA,
        }),
        Some(None) => Err(format("its schema is no number".to_owned())),
        None if value.get("rows").is_some() => {
            let ring = serde_json::from_str(text).map_err(|e| format(e.to_string()))?;
            Ok(Recorded::Ring(ring))
        }
        None => Err(format("it has neither a schema nor rows".to_owned())),
    }
}

/// Reads what `pollux bench run` wrote.
fn parse_scenario(path: &Path, text: &str, version: &Value) -> Result<Recorded, ReportError> {
    let format = |reason: String| ReportError::Format {
        path: path.to_owned(),
        reason,
    };
    match version.as_u64() {
        Some(schema) if (1..=u64::from(SCHEMA_VERSION)).contains(&schema) => {
            let run: run::Run = serde_json::from_str(text).map_err(|e| format(e.to_string()))?;
            match run.summary.is_empty() {
                true => Err(format("it has no points".to_owned())),
                false => Ok(Recorded::Scenario(Box::new(run))),
            }
        }
        Some(schema) => Err(ReportError::Schema {
            path: path.to_owned(),
            schema,
            newest: SCHEMA_VERSION,
        }),
        None => Err(format("its schema_version is no number".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::Drawing;

    fn refused(text: &str) -> String {
        parse(Path::new("run.json"), text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_recorded_run_is_refused_in_one_line() {
        for (text, expected) in [
            ("", "EOF"),
            ("{}", "neither a schema nor rows"),
            ("[1]", "neither a schema nor rows"),
            (r#"{"schema": "2"}"#, "its schema is no number"),
            (r#"{"schema": 2}"#, "missing field"),
            (r#"{"schema": 0}"#, "schema 0 is unknown, known are 1 to 2"),
            (
                r#"{"schema": 99}"#,
                "schema 99 is unknown, known are 1 to 2",
            ),
            (r#"{"rows": 3}"#, "invalid type"),
            (r#"{"schema_version": 1}"#, "missing field"),
            (r#"{"schema_version": 9}"#, "known are 1 to 1"),
        ] {
            let error = refused(text);
            assert!(error.contains(expected), "{text}: {error}");
            assert!(error.starts_with("run.json: "), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn folders_without_results_and_files_that_are_not_there_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let error = Run::read_all(std::slice::from_ref(&path)).unwrap_err();
        assert!(error.to_string().contains("no .json file"), "{error}");
        let error = Run::read_all(&[path.join("none.json")]).unwrap_err();
        assert!(
            error.to_string().contains("none.json: No such file"),
            "{error}"
        );
    }

    #[test]
    fn a_scenario_is_read_as_it_was_printed_and_drawn() {
        let printed = run::tests::measured(|scenario| scenario.rounds = 1).unwrap();
        let text = serde_json::to_string(&printed).unwrap();
        let recorded = parse(Path::new("run.json"), &text).unwrap();
        let Recorded::Scenario(read) = &recorded else {
            panic!("{text}")
        };
        // A float may be off by its last bit after it was text.
        let latencies = |run: &run::Run| {
            let each = run.points.iter().map(|point| point.latencies());
            each.collect::<Option<Vec<_>>>().expect("histograms")
        };
        assert_eq!(latencies(read), latencies(&printed));
        let section = &crate::report::report(&[Run {
            path: "run.json".into(),
            recorded,
        }])
        .sections[0];
        assert_eq!(section.summary.rows.len(), printed.summary.len());
        for figure in &section.figures {
            let is_drawn = match &figure.drawing {
                Drawing::Lines(lines) => lines.series.iter().all(|it| !it.points.is_empty()),
                Drawing::Bars(bars) => bars.groups.iter().all(|it| !it.bars.is_empty()),
            };
            assert!(is_drawn, "{figure:?}");
        }
    }

    #[test]
    fn a_comparison_is_read_as_it_was_printed() {
        let printed = crate::compare::result::tests::comparison(Ending::Failed("why".to_owned()));
        let text = serde_json::to_string(&printed).unwrap();
        let Recorded::Comparison(read) = parse(Path::new("run.json"), &text).unwrap() else {
            panic!("{text}")
        };
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }
}
