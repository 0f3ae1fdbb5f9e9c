//! Storage that writes down what it is handed, for tests of wrappers.

use std::sync::{Arc, Mutex, MutexGuard};

use super::{Backend, BackendQueue, DiskError, DiskOptions, Outcome, Submission, Token};
use crate::blk::{Data, Geometry, Operation, SectorRange};

/// An operation that was accepted: its token, its kind, its first sector, where its data is, its ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) token: Token,
    pub(super) kind: &'static str,
    pub(super) sectors: Vec<SectorRange>,
    pub(super) data: Vec<(usize, usize)>,
}

impl Accepted {
    pub(super) fn of(token: Token, operation: Operation<'_, '_>) -> Self {
        let place = |data: Data<'_, '_>| {
            let place =
                |segment: &crate::mem::Segment<'_>| (segment.as_ptr() as usize, segment.len());
            data.iter().map(place).collect()
        };
        let (kind, sectors, data) = match operation {
            Operation::Read { range, into } => ("read", vec![range], place(into)),
            Operation::Write { range, from } => ("write", vec![range], place(from)),
            Operation::Flush => ("flush", vec![], vec![]),
            Operation::Discard(ranges) => ("discard", ranges.to_vec(), vec![]),
            Operation::SecureErase(ranges) => ("secure_erase", ranges.to_vec(), vec![]),
            Operation::WriteZeroes {
                ranges,
                unmap: true,
            } => ("unmap", ranges.to_vec(), vec![]),
            Operation::WriteZeroes {
                ranges,
                unmap: false,
            } => ("zeroes", ranges.to_vec(), vec![]),
        };
        Self {
            token,
            kind,
            sectors,
            data,
        }
    }
}

/// What all queues of a disk did, and what they are to do.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) accepted: Vec<Accepted>,
    /// Operations that are taken before it is busy.
    pub(super) room: usize,
    /// They complete later.
    pub(super) is_asynchronous: bool,
    pub(super) refused: usize,
    pub(super) abandons: usize,
}

/// The disk. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Recorder {
    geometry: Geometry,
    log: Arc<Mutex<Log>>,
}

#[derive(Debug)]
pub(super) struct RecorderQueue {
    log: Arc<Mutex<Log>>,
    uncommitted: Vec<Token>,
    pending: Vec<Token>,
}

impl Recorder {
    pub(super) fn new() -> Self {
        let options = DiskOptions {
            size_bytes: 1 << 30,
            ..DiskOptions::default()
        };
        let log = Log {
            accepted: Vec::new(),
            room: usize::MAX,
            is_asynchronous: false,
            refused: 0,
            abandons: 0,
        };
        Self {
            geometry: options.geometry().unwrap(),
            log: Arc::new(Mutex::new(log)),
        }
    }

    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap()
    }
}

impl Backend for Recorder {
    type Queue = RecorderQueue;

    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn open_queue(&self) -> std::io::Result<RecorderQueue> {
        Ok(RecorderQueue {
            log: Arc::clone(&self.log),
            uncommitted: Vec::new(),
            pending: Vec::new(),
        })
    }

    fn resized(&self, _size_bytes: u64) -> Result<Geometry, DiskError> {
        Ok(self.geometry.clone())
    }

    fn resize(&mut self, geometry: Geometry) -> Result<(), DiskError> {
        self.geometry = geometry;
        Ok(())
    }
}

impl BackendQueue for RecorderQueue {
    fn submit(&mut self, token: Token, operation: Operation<'_, '_>) -> Submission {
        let mut log = self.log.lock().unwrap();
        if log.room == 0 {
            log.refused += 1;
            return Submission::Busy;
        }
        log.room -= 1;
        log.accepted.push(Accepted::of(token, operation));
        if !log.is_asynchronous {
            return Submission::Complete(Outcome::Done);
        }
        self.uncommitted.push(token);
        Submission::Pending
    }

    fn commit(&mut self) {
        self.pending.append(&mut self.uncommitted);
    }

    fn complete(&mut self) -> Option<(Token, Outcome)> {
        assert_eq!(
            self.uncommitted, [0; 0],
            "waited for what was not committed"
        );
        Some((self.pending.pop()?, Outcome::Done))
    }

    fn in_flight(&self) -> usize {
        self.uncommitted.len() + self.pending.len()
    }

    fn abandon(&mut self) {
        self.uncommitted.clear();
        self.pending.clear();
        self.log.lock().unwrap().abandons += 1;
    }
}
