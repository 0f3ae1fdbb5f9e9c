//! What is in flight ends: finished in time, or given up.

use std::time::Duration;

use super::{QueuePoller, State};
use crate::backend::{BackendQueue, Outcome};
use crate::inflight::Logged;
use crate::mem::Translator;
use crate::worker::pass::Pass;
use crate::worker::rest::{Health, Rest};
use crate::worker::{Records, Report};

impl<Q: Logged> QueuePoller<Q> {
    /// Finishes what is in flight, waiting for at most `time`. Returns how many requests are left.
    pub(in crate::worker) fn finish<B: BackendQueue>(
        &mut self,
        backend: &mut B,
        time: Duration,
        records: &mut Records<'_>,
    ) -> usize {
        let deadline = std::time::Instant::now() + time;
        let Self { translator, state } = self;
        while state.in_flight.len() > 0 {
            // Once in any case: what is done is no failure.
            state.reap(translator, backend, records);
            if std::time::Instant::now() >= deadline {
                break;
            }
        }
        state.in_flight.len()
    }

    pub(in crate::worker) fn drain<B: BackendQueue>(
        &mut self,
        backend: &mut B,
        time: Duration,
        records: &mut Records<'_>,
    ) -> Report {
        let mut abandoned = 0;
        if self.finish(backend, time, records) > 0 {
            let errors = &records.counters.errors;
            let before = errors.get();
            let time = backend.abort();
            self.finish(backend, time, records);
            backend.abandon();
            let Self { translator, state } = self;
            state.fail_in_flight(translator, records);
            // Some may have ended well after all.
            abandoned = errors.get().wrapping_sub(before) as usize;
        }
        Report {
            state: Some(self.state.queue.state()),
            abandoned,
        }
    }

    pub(in crate::worker) fn beat(&mut self) {
        self.state.in_flight.beat();
    }

    pub(in crate::worker) fn oldest_beats(&self) -> u32 {
        self.state.in_flight.oldest_beats()
    }

    pub(in crate::worker) fn refuse(&mut self) {
        if self.state.health == Health::Sound {
            self.state.health = Health::Failing;
        }
    }

    /// Returns what is left of this poller, drained with `report`, without its memory.
    pub(in crate::worker) fn rest(&self, report: Report) -> Rest {
        let config = self.state.config;
        Rest {
            config: config.at(report.state.unwrap_or(config.state())),
            health: self.state.health,
            fault: self.state.fault,
        }
    }
}

impl<Q: Logged> State<Q> {
    /// Answers everything in flight with an error. The backend has let go of it.
    #[cold]
    fn fail_in_flight(&mut self, translator: &Translator, records: &mut Records<'_>) {
        let errno = nix::errno::Errno::ETIMEDOUT as i32;
        let mut pass = Pass::default();
        for token in 0..self.config.size {
            let failed = Outcome::Failed { errno };
            self.finish(translator, token, failed, &mut None, &mut pass, records);
        }
        self.publish(records);
        pass.record(records);
    }
}
