//! What is asked of a comparison.

use std::path::PathBuf;
use std::time::Duration;

use super::{CompareError, Settings};
use crate::cpus::Placement;
use crate::fio::Pattern;
use crate::progress::Course;
use crate::server::{ServerKind, Variant};
use crate::size;
use crate::transport::Transport;
use crate::vhost;

/// Load for counting interrupts, where nothing is timed.
pub(super) const COUNT_TIME: Duration = Duration::from_secs(2);
/// First guess of what a point costs beside its load: starts, stops, fio's own start.
const OVERHEAD: Duration = Duration::from_secs(2);

/// What to compare, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The `pollux` program to start.
    pub pollux: PathBuf,
    /// How the servers are reached.
    pub transport: Transport,
    /// Servers, in the order of a round.
    pub servers: Vec<Variant>,
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
    /// Poll mode of pollux; none for what suits the transport.
    pub poll: Option<String>,
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
        if self.transport.is_driven_here() {
            self.check_vhost()?;
        }
        Ok(())
    }

    fn check_vhost(&self) -> Result<(), CompareError> {
        let wrong = |text: String| Err(CompareError::Plan(text));
        if self.rw != Pattern::RandRead {
            let rw = self.rw;
            return wrong(format!(
                "rw {rw}: the load on {} only reads at random; use --rw randread",
                self.transport
            ));
        }
        if let Some(iodepth) = self.iodepths.iter().find(|&&it| it > vhost::IODEPTH_MAX) {
            return wrong(format!(
                "iodepth {iodepth}: more than a virtqueue holds; use at most {}",
                vhost::IODEPTH_MAX
            ));
        }
        let block_bytes = self.block_bytes()?;
        if block_bytes == 0 || !block_bytes.is_multiple_of(512) {
            return wrong(format!(
                "bs {}: no multiple of 512; use for example 4k",
                self.bs
            ));
        }
        if u64::from(block_bytes) > self.size_bytes {
            return wrong(format!(
                "bs {}: more than the disk of {} bytes; use a larger --size",
                self.bs, self.size_bytes
            ));
        }
        Ok(())
    }

    /// What is going to be measured after `rounds_done` rounds, as far as time goes.
    pub(super) fn course(&self, rounds_done: u32) -> Course {
        let counts = self.counted().count() * self.iodepths.len();
        let counts = u32::try_from(counts).unwrap_or(u32::MAX);
        Course {
            points: self.servers.len() * self.iodepths.len(),
            rounds: self.rounds,
            rounds_done,
            name_width: self.name_width() + " QD 1000".len(),
            expected: self.runtime + self.ramp_time + OVERHEAD,
            rest: (COUNT_TIME + OVERHEAD).saturating_mul(counts),
        }
    }

    /// What a point is called while it is measured.
    pub(super) fn point_name(&self, server: &Variant, iodepth: u32) -> String {
        let width = self.name_width();
        format!("{:width$} QD {iodepth}", server.name())
    }

    fn name_width(&self) -> usize {
        let names = self.servers.iter().map(|it| it.name().len());
        names.max().unwrap_or(0)
    }

    /// Servers that keep no counters, but whose interrupts can be counted from outside.
    pub(super) fn counted(&self) -> impl Iterator<Item = &Variant> {
        // The driver in this process asks for no interrupt.
        let asks = !self.transport.is_driven_here();
        let is_counted = move |it: &&Variant| asks && it.kind() == ServerKind::Qemu;
        self.servers.iter().filter(is_counted)
    }

    /// The block size as a number.
    pub(super) fn block_bytes(&self) -> Result<u32, CompareError> {
        let bytes = size::bytes(&self.bs).and_then(|bytes| {
            u32::try_from(bytes).map_err(|_| "4 GiB or more, use for example 4k".to_owned())
        });
        bytes.map_err(|reason| CompareError::Plan(format!("bs {}: {reason}", self.bs)))
    }

    /// Entries of a virtqueue that the largest depth needs: fio's requests queue up before a full
    /// one, those of a user-space driver need their place.
    pub(super) fn queue_size(&self) -> u16 {
        match self.transport {
            Transport::VduseVirtio | Transport::VduseVirtioPoll => vhost::queue_size(1),
            Transport::VduseVhost | Transport::VhostUser => {
                vhost::queue_size(self.iodepths.iter().copied().max().unwrap_or(1))
            }
        }
    }

    pub(super) fn settings(&self, cpus: &Placement) -> Settings {
        Settings {
            transport: self.transport,
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
            transport: Transport::VduseVirtio,
            servers: vec![ServerKind::Pollux.into()],
            iodepths: vec![1],
            rw: Pattern::RandRead,
            bs: "4k".to_owned(),
            runtime: Duration::from_secs(1),
            ramp_time: Duration::ZERO,
            rounds: 1,
            server_cpus: Vec::new(),
            fio_cpus: Vec::new(),
            size_bytes: 1 << 30,
            poll: None,
        };
        assert!(plan.check().is_ok());
        let refused = |change: fn(&mut Plan)| {
            let mut changed = plan.clone();
            change(&mut changed);
            compare::run(&changed, None).unwrap_err().to_string()
        };
        assert!(refused(|plan| plan.servers.clear()).contains("nothing to do"));
        assert!(refused(|plan| plan.rounds = 0).contains("nothing to do"));
        assert!(refused(|plan| plan.iodepths.push(0)).contains("iodepth 0"));
        assert!(refused(|plan| plan.runtime = Duration::ZERO).contains("runtime 0"));
        let over_vhost = |change: fn(&mut Plan)| {
            let mut changed = plan.clone();
            changed.transport = Transport::VduseVhost;
            change(&mut changed);
            changed.check().map_err(|e| e.to_string())
        };
        assert_eq!(over_vhost(|_| {}), Ok(()));
        let refused = |change| over_vhost(change).unwrap_err();
        assert!(refused(|plan| plan.rw = Pattern::Read).contains("only reads at random"));
        assert!(refused(|plan| plan.iodepths.push(342)).contains("use at most 341"));
        assert!(refused(|plan| plan.bs = "4x".to_owned()).contains("bs 4x"));
        assert!(refused(|plan| plan.bs = "100".to_owned()).contains("no multiple of 512"));
        assert!(refused(|plan| plan.size_bytes = 512).contains("use a larger --size"));
    }
}
