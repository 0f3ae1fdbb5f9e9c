//! Going on with a comparison that ended early, where nothing is different but the time.

use serde::Deserialize;

use super::{Plan, Point, Settings};
use crate::cpus::Placement;
use crate::differences::differences;
use crate::environment::Environment;

/// What a comparison has found out that has fewer rounds than are asked for now, read from its JSON.
#[derive(Clone, Debug, Deserialize)]
pub struct Earlier {
    pub(super) started_unix_s: u64,
    environment: Environment,
    settings: Settings,
    pub(super) points: Vec<Point>,
}

impl Earlier {
    /// Returns how many rounds it has.
    pub(super) fn rounds(&self) -> u32 {
        let rounds = self.points.iter().map(|point| point.round);
        rounds.max().unwrap_or(0)
    }

    /// Sees that its rounds were measured as the next ones of `plan` would be, and that it lacks some.
    ///
    /// # Errors
    /// Why not, on one line.
    pub(super) fn check(
        &self,
        plan: &Plan,
        cpus: &Placement,
        environment: &Environment,
    ) -> Result<(), String> {
        // There may be more of them than were asked for the last time.
        let asked = Settings {
            rounds: self.settings.rounds,
            ..plan.settings(cpus)
        };
        let mut differs = differences(&self.settings, &asked);
        differs.extend(differences(&self.environment, environment));
        if !differs.is_empty() {
            let what = differs.join(", ");
            return Err(format!(
                "it was measured with another {what}; measure anew without --resume"
            ));
        }
        match self.rounds() {
            done if done >= plan.rounds => Err(format!(
                "it has all of its {done} rounds; ask for more with --rounds"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::result::tests::comparison;
    use super::*;
    use crate::compare::Ending;
    use crate::transport::Transport;
    use std::time::Duration;

    /// What the comparison of the tests would be asked for.
    fn plan(rounds: u32) -> Plan {
        Plan {
            pollux: "pollux".into(),
            transport: Transport::VduseVirtio,
            servers: ["pollux", "qemu"].map(|it| it.parse().unwrap()).to_vec(),
            iodepths: vec![1],
            rw: crate::fio::Pattern::RandRead,
            bs: "4k".to_owned(),
            runtime: Duration::from_secs(4),
            ramp_time: Duration::from_secs(1),
            rounds,
            server_cpus: Vec::new(),
            fio_cpus: Vec::new(),
            size_bytes: 1 << 30,
            poll: None,
        }
    }

    #[test]
    fn only_the_same_comparison_goes_on_and_only_if_it_lacks_rounds() {
        let json = serde_json::to_string(&comparison(Ending::Stopped)).unwrap();
        let earlier: Earlier = serde_json::from_str(&json).unwrap();
        let cpus = Placement {
            server: vec![1],
            fio: vec![0],
        };
        let environment = Environment::look();
        let check = |plan: &Plan| earlier.check(plan, &cpus, &environment);
        assert_eq!((earlier.rounds(), check(&plan(5))), (3, Ok(())));
        assert!(check(&plan(3)).unwrap_err().contains("all of its 3 rounds"));
        let other = Plan {
            iodepths: vec![1, 32],
            bs: "8k".to_owned(),
            ..plan(5)
        };
        let reason = check(&other).unwrap_err();
        assert!(reason.contains("another bs, iodepths;"), "{reason}");
    }
}
