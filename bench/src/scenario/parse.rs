//! From text to a scenario, and what to say where that fails.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Scenario;

/// Names that are as similar as this are meant, perhaps.
const SIMILAR: f64 = 0.75;

/// Why there is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file.
    #[error("{path}: {reason}; `pollux bench list` shows the scenarios that need no file")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// What is in it.
    #[error("{file}:{line}:{column}: {reason}")]
    Toml {
        /// The file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong.
        reason: String,
    },
    /// What is in it, as a whole.
    #[error("{file}: {reason}")]
    Senseless {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
}

/// Reads the scenario in the file at `path`.
///
/// # Errors
/// [`ScenarioError`] when there is none, or it makes no sense.
pub fn read(path: &Path) -> Result<Scenario, ScenarioError> {
    let text = fs::read_to_string(path).map_err(|reason| ScenarioError::File {
        path: path.to_owned(),
        reason,
    })?;
    parse(&path.display().to_string(), &text)
}

/// Reads the scenario `text`, which is from `file`.
///
/// # Errors
/// [`ScenarioError`] when it makes no sense, with the place and, of a key that is not known, the nearest that is.
pub fn parse(file: &str, text: &str) -> Result<Scenario, ScenarioError> {
    let scenario: Scenario = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let (line, column) = place(text, at);
        ScenarioError::Toml {
            file: file.to_owned(),
            line,
            column,
            reason: explain(error.message()),
        }
    })?;
    scenario
        .check()
        .map_err(|reason| ScenarioError::Senseless {
            file: file.to_owned(),
            reason,
        })?;
    Ok(scenario)
}

/// Returns line and column of byte `at`, from 1.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    let line = before.matches('\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

/// Adds to serde's message, `unknown field `x`, expected one of `y`, `z``, which of them is nearest. The same is
/// done with variants.
fn explain(message: &str) -> String {
    let one_line = message.lines().collect::<Vec<_>>().join(" ");
    if !one_line.starts_with("unknown ") {
        return one_line;
    }
    let mut words = one_line.split('`').skip(1).step_by(2);
    let Some(unknown) = words.next() else {
        return one_line;
    };
    let likeness = |known: &str| strsim::jaro_winkler(unknown, known);
    let nearest = words.max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
    match nearest.filter(|known| likeness(known) >= SIMILAR) {
        Some(known) => format!("{one_line}; did you mean `{known}`?"),
        None => one_line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "name = \"mine\"
transport = \"loopback\"
backend = \"null,size=1G\"
rw = \"randread\"
bs = \"4k\"
ramp_time_ms = 0
runtime_ms = 100
rounds = 2

[ring]
format = \"packed\"
size = 256

[[loads]]
kind = \"closed\"
iodepths = [1, 32]

[[loads]]
kind = \"open\"
rates = [0.5]
";

    fn refused(from: &str, to: &str) -> String {
        let text = SOUND.replace(from, to);
        assert_ne!(text, SOUND, "{from} is not there");
        parse("a.toml", &text).expect_err(to).to_string()
    }

    #[test]
    fn a_sound_scenario_is_understood() {
        let scenario = parse("a.toml", SOUND).unwrap();
        assert_eq!(scenario.block_bytes(), 4096);
        assert_eq!(scenario.least_ms(), 3 * 100 * 2);
        assert_eq!((scenario.ring.requests(), scenario.rwmixread), (85, 50));
        assert_eq!(parse("again", &scenario.to_toml()).unwrap(), scenario);
    }

    #[test]
    fn an_unknown_key_is_placed_and_the_nearest_is_named() {
        let error = refused("runtime_ms", "runtme_ms");
        assert!(
            error.starts_with("a.toml:7:1: unknown field `runtme_ms`"),
            "{error}"
        );
        assert!(error.ends_with("did you mean `runtime_ms`?"), "{error}");
        let error = refused("iodepths", "iodepth");
        assert!(error.starts_with("a.toml:16:1: "), "{error}");
        assert!(error.ends_with("did you mean `iodepths`?"), "{error}");
        let error = refused("\"packed\"", "\"paked\"");
        assert!(error.starts_with("a.toml:11:10: "), "{error}");
        assert!(error.ends_with("did you mean `packed`?"), "{error}");
        let error = refused("rounds", "zzz = 1\nrounds");
        assert!(!error.contains("did you mean"), "{error}");
    }

    #[test]
    fn values_that_make_no_sense_are_placed_with_a_remedy() {
        for (from, to, place, remedy) in [
            ("\"4k\"", "\"4x\"", "a.toml:5:6: ", "use for example 4k"),
            ("\"4k\"", "\"2M\"", "a.toml:5:6: ", "up to 1M"),
            ("= 100", "= 0", "a.toml:7:14: ", "use 1 to"),
            ("= 256", "= 300", "a.toml:12:8: ", "use 512"),
            ("32]", "257]", "a.toml:16:12: ", "use 1 to 256"),
            ("[0.5]", "[1.5]", "a.toml:20:9: ", "use 0.1 to 0.95"),
            ("\"mine\"", "\"a/b\"", "a.toml:1:8: ", "use letters"),
            (
                "rounds = 2",
                "rounds = 2\nqueues = 2",
                "a.toml:9:10: ",
                "use 1 to 1",
            ),
            ("rounds = 2", "", "a.toml:1:1: ", "missing field `rounds`"),
        ] {
            let error = refused(from, to);
            assert!(error.starts_with(place), "{to}: {error}");
            assert!(
                error.contains(remedy) && !error.contains('\n'),
                "{to}: {error}"
            );
        }
    }

    #[test]
    fn loads_that_do_not_fit_together_are_refused() {
        for (from, to, remedy) in [
            ("size = 256", "size = 64", "raise ring.size"),
            ("iodepths = [1, 32]", "", "write iodepths"),
            ("rates = [0.5]", "", "write rates"),
            ("rates = [0.5]", "iodepths = [1]", "write rates"),
            (
                "kind = \"closed\"\niodepths = [1, 32]",
                "kind = \"open\"\nrates = [0.5]",
                "closed one before it",
            ),
        ] {
            let error = refused(from, to);
            assert!(error.contains(remedy), "{to}: {error}");
        }
    }
}
