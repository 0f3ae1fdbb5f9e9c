//! One pass over a virtqueue: take what is there, hand it to the backend, return what is done.

use std::sync::Arc;

use quanta::Instant;

use super::answer::{Answer, status_of, write_serial};
use super::in_flight::{InFlight, InFlightTable};
use super::lone_chain::LoneChain;
use super::pass::Pass;
use super::rest::{Health, Rest};
use super::{Progress, Records, probes};
use crate::backend::{BackendQueue, Outcome, Submission, Token};
use crate::blk::{Geometry, Ranges, Request, Status, parse};
use crate::inflight::{Logged, QueueLog};
use crate::limits::PASS_REQUESTS_MAX;
use crate::mem::{Direction, FaultGuard, RegionTable, Segment, Translator};
use crate::ring::{Chain, Done, DriverFault, Head, QueueConfig, RingState};

mod ending;

/// The data path of one virtqueue of one format. Made, used and dropped on one thread.
#[derive(Debug)]
pub(super) struct QueuePoller<Q> {
    translator: Translator,
    state: State<Q>,
}

/// What changes from request to request, apart from the memory that they lie in.
#[derive(Debug)]
struct State<Q> {
    queue: Q,
    config: QueueConfig,
    guard: FaultGuard,
    in_flight: InFlightTable,
    /// The backend had no room for the next chain.
    stalled: bool,
    /// The chain of the last pass, if it took one only: a driver that has one request at a time uses the same memory again.
    lone: Option<LoneChain>,
    health: Health,
    fault: Option<DriverFault>,
    /// What tracers know it by.
    number: u32,
}

impl<Q: Logged> QueuePoller<Q> {
    /// Returns a poller that goes on with `rest` over `queue` in the memory of `table`, with kicks
    /// suppressed. `guard` watches that memory.
    pub(super) fn new(
        mut queue: Q,
        rest: Rest,
        table: Arc<RegionTable>,
        guard: FaultGuard,
    ) -> Self {
        queue.suppress_kicks();
        let Rest {
            config,
            health,
            fault,
        } = rest;
        Self {
            translator: Translator::new(table),
            state: State {
                queue,
                config,
                guard,
                in_flight: InFlightTable::new(config.size),
                stalled: false,
                lone: None,
                health,
                fault,
                number: probes::number(),
            },
        }
    }

    #[inline]
    pub(super) fn enter(&self) {
        self.state.guard.enter();
    }

    #[inline]
    pub(super) fn queue(&mut self) -> &mut Q {
        &mut self.state.queue
    }

    /// Begins `log` with nothing in flight.
    pub(super) fn begin(&self, log: &mut QueueLog) {
        self.state.queue.begin(log);
    }

    pub(super) fn state(&self) -> RingState {
        self.state.queue.state()
    }

    /// Returns whether new chains are still taken.
    #[inline]
    pub(super) fn is_running(&self) -> bool {
        self.state.health != Health::Stopped
    }

    #[inline]
    pub(super) fn fault(&self) -> Option<DriverFault> {
        self.state.fault
    }

    #[inline]
    pub(super) fn in_flight(&self) -> usize {
        self.state.in_flight.len()
    }

    #[inline]
    pub(super) fn may_sleep(&self, completions_signalled: bool) -> bool {
        if self.in_flight() > 0 {
            completions_signalled
        } else {
            // Nothing is pending, so nothing tells when the backend has room again.
            !self.state.stalled
        }
    }

    #[inline]
    pub(super) fn poll_once<B: BackendQueue>(
        &mut self,
        backend: &mut B,
        geometry: &Geometry,
        records: &mut Records<'_>,
    ) -> Progress {
        let Self { translator, state } = self;
        let mut moved = 0;
        if state.in_flight.len() > 0 {
            moved += state.reap(translator, backend, records);
        }
        if state.health != Health::Stopped {
            match state.queue.has_available() {
                Ok(true) => moved += state.take_batch(translator, backend, geometry, records),
                Ok(false) => {}
                Err(fault) => state.stop(fault, records),
            }
        }
        if moved == 0 {
            Progress::Idle
        } else {
            Progress::Busy(moved)
        }
    }
}

impl<Q: Logged> State<Q> {
    /// Takes requests until there are no more or the pass is full. Apart from `poll_once` so that an idle
    /// pass does not pay for the large frame.
    #[inline(never)]
    fn take_batch<B: BackendQueue>(
        &mut self,
        translator: &Translator,
        backend: &mut B,
        geometry: &Geometry,
        records: &mut Records<'_>,
    ) -> usize {
        let mut pass = Pass::starting_at(records.latency.begin());
        let mut chain = Chain::new(translator);
        self.stalled = false;
        let mut last = None;
        if let Some(lone) = self.lone.take() {
            lone.prefetch(&self.queue);
        }
        while !pass.is_full() {
            match self.queue.take(&mut chain) {
                Ok(Some(head)) => {
                    probes::begin(self.number, head.id());
                    last = Some(head.id());
                    if let Some(log) = &mut records.in_flight {
                        Q::taken(log, &head);
                    }
                    self.serve(head, &mut chain, backend, geometry, &mut pass, records);
                }
                Ok(None) => break,
                Err(fault) => self.stop(fault, records),
            }
            if self.stalled || self.health == Health::Stopped {
                break;
            }
        }
        backend.commit();
        self.publish(records);
        if pass.taken == 1 {
            self.lone = last.and_then(|id| LoneChain::of(id, &chain));
        }
        pass.record(records);
        pass.record_latency(records);
        pass.taken
    }

    /// Serves one chain, or puts it back where the backend has no room for it.
    #[inline]
    fn serve<'table, B: BackendQueue>(
        &mut self,
        head: Head,
        chain: &mut Chain<'table>,
        backend: &mut B,
        geometry: &Geometry,
        pass: &mut Pass,
        records: &mut Records<'_>,
    ) {
        if self.in_flight.contains(head.id()) {
            self.break_queue(DriverFault::HeadInFlight(head.id()), pass);
            return self.give_up(head, pass);
        }
        let last_byte = chain.last_writable();
        // Only an in-order queue asks whether a chain was filled completely.
        let only_status = !Q::IN_ORDER || matches!(chain.writable(), [status] if status.len() == 1);
        let mut ranges = Ranges::new();
        let mut parsed = parse(chain, &mut ranges, geometry);
        if self.guard.take() {
            // Zeros stood in for part of what was read: it must not reach the storage.
            parsed = Err(DriverFault::MemoryMissing);
        }
        let request = match parsed {
            Ok(_) if self.health != Health::Sound => Request::Answer(Status::IoError),
            Ok(request) => request,
            Err(fault) => {
                self.break_queue(fault, pass);
                Request::Answer(Status::IoError)
            }
        };
        let Some((last_byte, status_at)) = last_byte else {
            return self.give_up(head, pass);
        };
        let (read_bytes, write_bytes) = (request.read_bytes(), request.write_bytes());
        // A read fills all that it is given, or fails.
        let whole = only_status || read_bytes > 0;
        let answer = match request {
            Request::Answer(status) => Answer::of(status, 0, whole),
            Request::GetId(into) => Answer::of(Status::Ok, write_serial(geometry, into), false),
            Request::Operation(operation) => {
                probes::submit(self.number, head.id(), read_bytes, write_bytes);
                match backend.submit(head.id(), operation) {
                    Submission::Complete(outcome) => Answer::of(
                        status_of(outcome, records.counters),
                        read_bytes as u32,
                        whole,
                    ),
                    Submission::Pending => {
                        pass.taken += 1;
                        if let Some(log) = &mut records.in_flight {
                            self.queue.kept(log, &head);
                        }
                        return self.in_flight.insert(InFlight {
                            head,
                            status_at,
                            read_bytes: read_bytes as u32,
                            write_bytes: write_bytes as u32,
                            whole,
                            taken_at: pass.taken_at,
                        });
                    }
                    Submission::Busy => {
                        self.stalled = true;
                        return self.queue.put_back(head);
                    }
                }
            }
        };
        pass.taken += 1;
        pass.bytes_read += read_bytes;
        pass.bytes_written += write_bytes;
        let (done, status) = self.answer(head, last_byte, answer, pass);
        self.push(done, records);
        pass.count(status);
    }

    /// Returns a chain with the next publication.
    #[inline]
    fn push(&mut self, done: Done, records: &mut Records<'_>) {
        if let Some(log) = &mut records.in_flight {
            Q::returned(log, done.id());
        }
        self.queue.push(done);
    }

    /// Shows the driver what was pushed.
    #[inline]
    fn publish(&mut self, records: &mut Records<'_>) {
        match &mut records.in_flight {
            Some(log) => self.queue.publish_logged(log),
            None => self.queue.publish(),
        }
    }

    /// Keeps a chain that cannot be answered: the driver has to reset the queue to get it back.
    #[cold]
    fn give_up(&mut self, head: Head, pass: &mut Pass) {
        pass.taken += 1;
        if Q::IN_ORDER {
            // Nothing behind it can go back either.
            self.health = Health::Stopped;
        }
        head.abandon();
    }

    /// Writes the status of a chain into `last_byte`. Returns the chain, to be pushed, and the status.
    #[inline]
    fn answer(
        &mut self,
        head: Head,
        last_byte: Segment<'_>,
        answer: Answer,
        pass: &mut Pass,
    ) -> (Done, Status) {
        let Answer {
            mut status,
            written,
            whole,
        } = answer;
        last_byte.store_last(status as u8);
        if self.guard.take() {
            // What was read or written on the way was not the driver's memory.
            self.break_queue(DriverFault::MemoryMissing, pass);
            status = Status::IoError;
            last_byte.store_last(status as u8);
            self.guard.take();
        }
        probes::complete(self.number, head.id(), status);
        let done = match status {
            Status::Ok if whole => head.done_whole(written.saturating_add(1)),
            Status::Ok => head.done(written.saturating_add(1)),
            _ => head.done(1),
        };
        (done, status)
    }

    /// Returns what the backend has finished.
    #[inline(never)]
    fn reap<B: BackendQueue>(
        &mut self,
        translator: &Translator,
        backend: &mut B,
        records: &mut Records<'_>,
    ) -> usize {
        let mut pass = Pass::default();
        let mut reaped = 0;
        let mut now = None;
        while reaped < PASS_REQUESTS_MAX
            && let Some((token, outcome)) = backend.complete()
        {
            reaped += 1;
            self.finish(translator, token, outcome, &mut now, &mut pass, records);
        }
        self.publish(records);
        pass.record(records);
        reaped
    }

    /// `now` is filled at the first timed request, for all of a pass.
    fn finish(
        &mut self,
        translator: &Translator,
        token: Token,
        outcome: Outcome,
        now: &mut Option<Instant>,
        pass: &mut Pass,
        records: &mut Records<'_>,
    ) {
        let Some(request) = self.in_flight.remove(token) else {
            return;
        };
        let InFlight {
            head,
            status_at,
            read_bytes,
            write_bytes,
            whole,
            taken_at,
        } = request;
        let answer = Answer::of(status_of(outcome, records.counters), read_bytes, whole);
        let last_byte = translator
            .table()
            .segment(status_at, 1, Direction::Writable);
        let Ok(last_byte) = last_byte else {
            // It was resolved in this very table, so this does not happen.
            return self.give_up(head, pass);
        };
        let (done, status) = self.answer(head, last_byte, answer, pass);
        self.push(done, records);
        pass.bytes_read += u64::from(read_bytes);
        pass.bytes_written += u64::from(write_bytes);
        pass.count(status);
        *now = now.or_else(|| records.latency.now_for(taken_at));
        records.latency.record(taken_at, *now, 1);
    }

    /// Notes a breach that leaves the ring usable.
    #[cold]
    fn break_queue(&mut self, fault: DriverFault, pass: &mut Pass) {
        pass.faults += 1;
        self.fault.get_or_insert(fault);
        if self.health == Health::Sound {
            self.health = Health::Failing;
        }
    }

    /// Notes a breach after which the ring cannot be read any more.
    #[cold]
    fn stop(&mut self, fault: DriverFault, records: &mut Records<'_>) {
        records.counters.driver_faults.add(1);
        self.fault.get_or_insert(fault);
        self.health = Health::Stopped;
    }
}
