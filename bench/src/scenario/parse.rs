//! From text to a scenario, and what to say where that fails.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pollux_toml::Mistake;

use super::Scenario;

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
    #[error(transparent)]
    Toml(#[from] Mistake),
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
    let scenario: Scenario = pollux_toml::parse(file, text)?;
    scenario
        .check()
        .map_err(|reason| ScenarioError::Senseless {
            file: file.to_owned(),
            reason,
        })?;
    Ok(scenario)
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
