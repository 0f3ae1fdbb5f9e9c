//! What is asked of a comparison.

use std::path::PathBuf;
use std::time::Duration;

use super::{CompareError, Settings};
use crate::cpus::Placement;
use crate::fio::Pattern;
use crate::server::ServerKind;

/// What to compare, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The `pollux` program to start.
    pub pollux: PathBuf,
    /// Servers, in the order of a round.
    pub servers: Vec<ServerKind>,
    /// Queue depths, in the order of a round.
    pub iodepths: Vec<u32>,
    /// Access pattern.
    pub rw: Pattern,
    /// Block size as fio writes it.
    pub bs: String,
    /// Measured time of one point.
    pub runtime: Duration,
    /// Load before the measured time of one point.
    pub ramp_time: Duration,
    /// Rounds; each measures every server at every depth.
    pub rounds: u32,
    /// CPUs for the servers; empty to have one chosen.
    pub server_cpus: Vec<usize>,
    /// CPUs for fio; empty to have one chosen.
    pub fio_cpus: Vec<usize>,
    /// Size of the null disk.
    pub size_bytes: u64,
    /// Poll mode of pollux.
    pub poll: String,
}

impl Plan {
    pub(super) fn check(&self) -> Result<(), CompareError> {
        let wrong = |text: &str| Err(CompareError::Plan(text.to_owned()));
        if self.servers.is_empty() || self.iodepths.is_empty() || self.rounds == 0 {
            return wrong("compare: nothing to do; give at least one server, iodepth and round");
        }
        if self.iodepths.contains(&0) {
            return wrong("iodepth 0: no request could be sent; use 1 or more");
        }
        if self.runtime.is_zero() {
            return wrong("runtime 0: nothing would be measured; use at least 1 second");
        }
        Ok(())
    }

    pub(super) fn settings(&self, cpus: &Placement) -> Settings {
        Settings {
            servers: self.servers.clone(),
            iodepths: self.iodepths.clone(),
            rw: self.rw,
            bs: self.bs.clone(),
            runtime_ms: millis(self.runtime),
            ramp_time_ms: millis(self.ramp_time),
            rounds: self.rounds,
            cpus: cpus.clone(),
            size_bytes: self.size_bytes,
            poll: self.poll.clone(),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare;

    #[test]
    fn plans_that_measure_nothing_are_refused() {
        let plan = Plan {
            pollux: "pollux".into(),
            servers: vec![ServerKind::Pollux],
            iodepths: vec![1],
            rw: Pattern::RandRead,
            bs: "4k".to_owned(),
            runtime: Duration::from_secs(1),
            ramp_time: Duration::ZERO,
            rounds: 1,
            server_cpus: Vec::new(),
            fio_cpus: Vec::new(),
            size_bytes: 1 << 30,
            poll: "busy".to_owned(),
        };
        assert!(plan.check().is_ok());
        let refused = |change: fn(&mut Plan)| {
            let mut changed = plan.clone();
            change(&mut changed);
            compare::run(&changed).unwrap_err().to_string()
        };
        assert!(refused(|plan| plan.servers.clear()).contains("nothing to do"));
        assert!(refused(|plan| plan.rounds = 0).contains("nothing to do"));
        assert!(refused(|plan| plan.iodepths.push(0)).contains("iodepth 0"));
        assert!(refused(|plan| plan.runtime = Duration::ZERO).contains("runtime 0"));
    }
}
