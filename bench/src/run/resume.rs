//! Going on with a run that was stopped, where nothing is different but the time.

use super::{Run, RunError, finished};
use crate::cpus::Pair;
use crate::differences::differences;
use crate::environment::Environment;
use crate::scenario::Scenario;

/// Sees that the rounds that `earlier` has were measured as the next ones of `scenario` would be, and that it lacks some.
///
/// # Errors
/// [`RunError::Resume`] when that is not so.
pub(super) fn check(
    earlier: &Run,
    scenario: &Scenario,
    cpus: Pair,
    environment: &Environment,
) -> Result<(), RunError> {
    let refuse = |text: String| Err(RunError::Resume(text));
    // There may be more of them than were asked for the last time.
    let asked = Scenario {
        rounds: earlier.scenario.rounds,
        ..scenario.clone()
    };
    let differs = differences(&earlier.scenario, &asked)
        .into_iter()
        .chain(differences(&earlier.environment, environment))
        .chain((earlier.cpus != cpus).then(|| "cpus".to_owned()));
    let differs: Vec<String> = differs.collect();
    if !differs.is_empty() {
        let what = differs.join(", ");
        return refuse(format!(
            "it was measured with another {what}; measure anew without --resume"
        ));
    }
    let done = finished(&earlier.ping_pong);
    if done >= scenario.rounds {
        return refuse(format!(
            "it has all of its {done} rounds; ask for more with --rounds"
        ));
    }
    Ok(())
}
