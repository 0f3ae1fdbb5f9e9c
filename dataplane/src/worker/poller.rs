//! One pass over a virtqueue: take what is there, hand it to the backend, return what is done.

use std::sync::Arc;
use std::time::Instant;

use super::in_flight::{InFlight, InFlightTable};
use super::pass::Pass;
use super::rest::{Health, Rest};
use super::{QueueSetup, Records, Report};
use crate::backend::{BackendQueue, Outcome, Submission, Token};
use crate::blk::{Geometry, Ranges, Request, Status, parse};
use crate::limits::PASS_REQUESTS_MAX;
use crate::mem::{FaultGuard, Iova, RegionTable};
use crate::ring::{Chain, DriverFault, Head, QueueConfig, SetupError, SplitQueue};

/// What a pass did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// This many requests were taken or returned.
    Busy(usize),
    /// Nothing.
    Idle,
}

/// The data path of one virtqueue. Made, used and dropped on one thread.
#[derive(Debug)]
pub struct Poller {
    queue: SplitQueue,
    config: QueueConfig,
    table: Arc<RegionTable>,
    guard: FaultGuard,
    in_flight: InFlightTable,
    /// A chain that the backend had no room for.
    stalled: Option<Head>,
    health: Health,
    fault: Option<DriverFault>,
}

impl Poller {
    /// Returns a poller of the queue in `setup`, with kicks suppressed.
    ///
    /// # Errors
    ///
    /// [`SetupError`] when the driver's queue cannot be served.
    pub fn new(setup: &QueueSetup) -> Result<Self, SetupError> {
        Self::resume(Rest::fresh(setup.queue), Arc::clone(&setup.table))
    }

    /// Returns a poller that goes on with `rest` in the memory of `table`.
    ///
    /// # Errors
    ///
    /// [`SetupError`] when the queue is not in that memory.
    pub(super) fn resume(rest: Rest, table: Arc<RegionTable>) -> Result<Self, SetupError> {
        let Rest {
            config,
            health,
            fault,
        } = rest;
        let guard = FaultGuard::new(Arc::clone(&table));
        let queue = SplitQueue::new(&config, &table)?;
        queue.suppress_kicks();
        Ok(Self {
            queue,
            config,
            table,
            guard,
            in_flight: InFlightTable::new(config.size),
            stalled: None,
            health,
            fault,
        })
    }

    /// Returns the virtqueue.
    pub fn queue(&mut self) -> &mut SplitQueue {
        &mut self.queue
    }

    /// Returns whether new chains are still taken.
    pub fn is_running(&self) -> bool {
        self.health != Health::Stopped
    }

    /// Returns the driver's first breach of the specification.
    pub fn fault(&self) -> Option<DriverFault> {
        self.fault
    }

    /// Returns how many requests the backend has.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Returns whether a worker may sleep now: everything that can happen to the queue wakes it.
    /// `completions_signalled` tells whether the backend's completions do.
    pub fn may_sleep(&self, completions_signalled: bool) -> bool {
        if self.in_flight.len() > 0 {
            completions_signalled
        } else {
            // Nothing is pending, so nothing tells when the backend has room again.
            self.stalled.is_none()
        }
    }

    /// Does one bounded pass. What was completed is visible to the driver when it returns; whether to
    /// interrupt it is the caller's to ask of the queue.
    #[inline]
    pub fn poll_once<Q: BackendQueue>(
        &mut self,
        backend: &mut Q,
        geometry: &Geometry,
        records: &mut Records<'_>,
    ) -> Progress {
        let mut moved = 0;
        if self.in_flight.len() > 0 {
            moved += self.reap(backend, records);
        }
        if self.is_running() {
            match self.next() {
                Ok(Some(head)) => moved += self.take_batch(head, backend, geometry, records),
                Ok(None) => {}
                Err(fault) => self.stop(fault, records),
            }
        }
        self.queue.publish();
        if moved == 0 {
            Progress::Idle
        } else {
            Progress::Busy(moved)
        }
    }

    /// Finishes what is in flight, waiting until `deadline`; abandons the rest and answers it with an
    /// error.
    pub fn drain<Q: BackendQueue>(
        &mut self,
        backend: &mut Q,
        deadline: Instant,
        records: &mut Records<'_>,
    ) -> Report {
        while self.in_flight.len() > 0 && Instant::now() < deadline {
            self.reap(backend, records);
            self.queue.publish();
        }
        let abandoned = self.in_flight.len();
        if abandoned > 0 {
            backend.abandon();
            self.fail_in_flight(records);
        }
        let mut next_avail = self.queue.next_avail();
        if let Some(head) = self.stalled.take() {
            // Taken but never started: the next one to serve this queue takes it again.
            head.abandon();
            next_avail = next_avail.wrapping_sub(1);
        }
        Report {
            next_avail: Some(next_avail),
            abandoned,
        }
    }

    /// Answers everything in flight with an error. The backend has let go of it.
    #[cold]
    fn fail_in_flight(&mut self, records: &mut Records<'_>) {
        let errno = nix::errno::Errno::ETIMEDOUT as i32;
        let mut pass = Pass::starting_at(Instant::now());
        for token in 0..self.config.size {
            self.finish(token, Outcome::Failed { errno }, &mut pass, records);
        }
        records.counters.driver_faults.add(pass.faults);
        self.queue.publish();
    }

    /// Returns what is left of this poller, drained with `report`, without its memory.
    pub(super) fn rest(&self, report: Report) -> Rest {
        let config = QueueConfig {
            next_avail: report.next_avail.unwrap_or(self.config.next_avail),
            ..self.config
        };
        Rest {
            config,
            health: self.health,
            fault: self.fault,
        }
    }

    #[inline]
    fn next(&mut self) -> Result<Option<Head>, DriverFault> {
        match self.stalled.take() {
            Some(head) => Ok(Some(head)),
            None => self.queue.pop(),
        }
    }

    /// Takes requests from `head` on until there are no more or the pass is full. Apart from
    /// `poll_once` so that an idle pass does not pay for the large frame.
    #[inline(never)]
    fn take_batch<Q: BackendQueue>(
        &mut self,
        head: Head,
        backend: &mut Q,
        geometry: &Geometry,
        records: &mut Records<'_>,
    ) -> usize {
        let taken_at = Instant::now();
        let table = Arc::clone(&self.table);
        let mut chain = Chain::new(&table);
        let mut ranges = Ranges::new();
        let mut pass = Pass::starting_at(taken_at);
        let mut next = Some(head);
        while let Some(head) = next {
            if let Some(head) =
                self.serve(head, &mut chain, &mut ranges, backend, geometry, &mut pass)
            {
                self.stalled = Some(head);
                break;
            }
            if pass.is_full() {
                break;
            }
            next = match self.next() {
                Ok(next) => next,
                Err(fault) => {
                    self.stop(fault, records);
                    None
                }
            };
        }
        backend.commit();
        pass.record(records);
        pass.taken
    }

    /// Serves one chain. Returns its head when the backend has no room for it.
    #[inline]
    fn serve<'table, Q: BackendQueue>(
        &mut self,
        head: Head,
        chain: &mut Chain<'table>,
        ranges: &mut Ranges,
        backend: &mut Q,
        geometry: &Geometry,
        pass: &mut Pass,
    ) -> Option<Head> {
        if self.in_flight.contains(head.index()) {
            self.break_queue(DriverFault::HeadInFlight(head.index()), pass);
            pass.taken += 1;
            head.abandon();
            return None;
        }
        let resolved = self.queue.resolve(&head, chain);
        let status = chain.last_writable();
        let mut parsed = resolved.and_then(|()| parse(chain, ranges, geometry));
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
        let Some(status) = status else {
            // Nowhere to answer: the driver will have to reset the queue to get this chain back.
            pass.taken += 1;
            head.abandon();
            return None;
        };
        let (read_bytes, write_bytes) = (request.read_bytes(), request.write_bytes());
        let (outcome, written) = match request {
            Request::Answer(answer) => (answer, 0),
            Request::GetId(into) => (Status::Ok, write_serial(geometry, into)),
            Request::Operation(operation) => match backend.submit(head.index(), operation) {
                Submission::Complete(outcome) => (status_of(outcome), read_bytes as u32),
                Submission::Pending => {
                    let (read_bytes, write_bytes) = (read_bytes as u32, write_bytes as u32);
                    let taken_at = pass.taken_at;
                    let request = InFlight {
                        head,
                        status,
                        read_bytes,
                        write_bytes,
                        taken_at,
                    };
                    self.in_flight.insert(request);
                    pass.taken += 1;
                    return None;
                }
                Submission::Busy => return Some(head),
            },
        };
        pass.taken += 1;
        pass.bytes_read += read_bytes;
        pass.bytes_written += write_bytes;
        let outcome = self.answer(head, status, outcome, written, pass);
        pass.count(outcome);
        None
    }

    /// Writes the status of a chain and returns the chain. Returns the status written.
    #[inline]
    fn answer(
        &mut self,
        head: Head,
        at: Iova,
        mut status: Status,
        written: u32,
        pass: &mut Pass,
    ) -> Status {
        // The address was resolved in this very table.
        let _ = self.table.store_byte(at, status as u8);
        if self.guard.take() {
            // What was read or written on the way was not the driver's memory.
            self.break_queue(DriverFault::MemoryMissing, pass);
            status = Status::IoError;
            let _ = self.table.store_byte(at, status as u8);
        }
        let written = if status == Status::Ok { written } else { 0 };
        self.queue.push(head, written.saturating_add(1));
        status
    }

    /// Returns what the backend has finished.
    fn reap<Q: BackendQueue>(&mut self, backend: &mut Q, records: &mut Records<'_>) -> usize {
        let mut pass = Pass::starting_at(Instant::now());
        let mut reaped = 0;
        while reaped < PASS_REQUESTS_MAX
            && let Some((token, outcome)) = backend.complete()
        {
            reaped += 1;
            self.finish(token, outcome, &mut pass, records);
        }
        records.counters.driver_faults.add(pass.faults);
        reaped
    }

    fn finish(
        &mut self,
        token: Token,
        outcome: Outcome,
        pass: &mut Pass,
        records: &mut Records<'_>,
    ) {
        let Some(request) = self.in_flight.remove(token) else {
            return;
        };
        let InFlight {
            head,
            status,
            read_bytes,
            write_bytes,
            taken_at,
        } = request;
        let status = self.answer(head, status, status_of(outcome), read_bytes, pass);
        let counters = records.counters;
        counters.requests.add(1);
        counters.bytes_read.add(u64::from(read_bytes));
        counters.bytes_written.add(u64::from(write_bytes));
        counters.errors.add(u64::from(status != Status::Ok));
        let latency = pass.taken_at.saturating_duration_since(taken_at);
        records.latency.saturating_record(latency.as_nanos() as u64);
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

#[inline]
fn status_of(outcome: Outcome) -> Status {
    match outcome {
        Outcome::Done => Status::Ok,
        Outcome::Failed { .. } => Status::IoError,
        Outcome::Unsupported => Status::Unsupported,
    }
}

/// Writes as much of the serial as fits. Returns how many bytes that is.
fn write_serial(geometry: &Geometry, into: &[crate::mem::Segment<'_>]) -> u32 {
    let mut written = 0;
    for segment in into {
        let rest = &geometry.serial[written..];
        segment.copy_from(rest);
        written += rest.len().min(segment.len());
    }
    written as u32
}
