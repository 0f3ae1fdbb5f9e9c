//! Well-formed block requests: what was asked, and whether the answer is right.

use pollux_dataplane::driver::{Buffer, DriverMemory, QueueDriver, Used};
use pollux_dataplane::mem::Iova;

use crate::memory::{Memory, NEAR_BYTES};

/// Sectors of the disk: requests can reach over its end.
pub(crate) const CAPACITY_SECTORS: u64 = 96;
const DATA_BYTES_MAX: u32 = 1024;
const PIECES_MAX: u32 = 3;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;
const SECURE_ERASE: u32 = 14;
const KINDS: [u32; 9] = [
    IN,
    OUT,
    IN,
    OUT,
    FLUSH,
    GET_ID,
    DISCARD,
    WRITE_ZEROES,
    SECURE_ERASE,
];

const OK: u8 = 0;
const IO_ERROR: u8 = 1;
/// What no device writes.
const NO_STATUS: u8 = 0xff;

/// Memory of one request that begins with the header.
#[derive(Clone, Copy, Debug)]
struct Slot {
    header: Iova,
    status: Iova,
    data: Iova,
}

/// A request that the device has.
#[derive(Clone, Copy, Debug)]
struct Request {
    ticket: usize,
    kind: u32,
    data: Iova,
    bytes: u32,
    /// The status, if nothing fails.
    expected: Option<u8>,
}

/// All requests of a queue.
#[derive(Debug)]
pub(crate) struct Requests {
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// By head or buffer id.
    lent: Vec<Option<Request>>,
    /// The one whose data lies across the border of two regions.
    across: Option<usize>,
}

impl Requests {
    /// Returns room for `size` requests in `memory`.
    pub(crate) fn new(memory: &mut DriverMemory, size: u16) -> Self {
        let slots = (0..size).map(|_| Slot {
            header: memory.allocate(16, 16),
            status: memory.allocate(1, 1),
            data: memory.allocate(u64::from(DATA_BYTES_MAX), 16),
        });
        Self {
            slots: slots.collect(),
            free: (0..usize::from(size)).rev().collect(),
            lent: vec![None; usize::from(size)],
            across: None,
        }
    }

    /// Returns where the header of `ticket` lies, whatever ticket that is.
    pub(crate) fn header(&self, ticket: u8) -> Iova {
        self.slots[usize::from(ticket) % self.slots.len()].header
    }

    /// Adds a request. Returns whether there was room for it.
    pub(crate) fn add(
        &mut self,
        memory: &Memory,
        queue: &mut QueueDriver,
        [kind, sector, data, place]: [u8; 4],
    ) -> bool {
        let Some(&ticket) = self.free.last() else {
            return false;
        };
        let slot = self.slots[ticket];
        let kind = KINDS[usize::from(kind) % KINDS.len()];
        let bytes = match kind {
            IN | OUT => u32::from(data & 3) % 3 * 512,
            GET_ID => 8 + u32::from(data & 3) * 8,
            DISCARD | WRITE_ZEROES | SECURE_ERASE => 16,
            _ => 0,
        };
        let sector = u64::from(sector) % (CAPACITY_SECTORS + 4);
        let request = Request {
            ticket,
            kind,
            data: self.data(memory, ticket, place),
            bytes,
            expected: expected(kind, sector, bytes),
        };
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        if kind == IN || kind == OUT {
            header[8..].copy_from_slice(&sector.to_le_bytes());
        }
        memory.write(slot.header, &header);
        memory.write(slot.status, &[NO_STATUS]);
        let content = match kind {
            OUT => vec![ticket as u8 + 1; bytes as usize],
            DISCARD | WRITE_ZEROES | SECURE_ERASE => [sector, 1].map(u64::to_le_bytes).concat(),
            _ => vec![0; bytes as usize],
        };
        memory.write(request.data, &content);
        let buffers = buffers(slot, &request, data >> 2);
        let Some(head) = queue.add(&buffers) else {
            return false;
        };
        self.free.pop();
        if request.data.0 < memory.border().0 && request.data.0 + 4096 > memory.border().0 {
            self.across = Some(ticket);
        }
        self.lent[usize::from(head)] = Some(request);
        true
    }

    /// Returns where the data of `ticket` goes: near its header, into the region behind, or across the
    /// border of the two if no other request is there.
    fn data(&self, memory: &Memory, ticket: usize, place: u8) -> Iova {
        let border = memory.border().0;
        match place % 4 {
            0 | 1 => self.slots[ticket].data,
            2 if self.across.is_none() => Iova(border - 1 - u64::from(place >> 2) * 16),
            _ => {
                let at = border + u64::from(DATA_BYTES_MAX) * (ticket as u64 + 1);
                assert!(at + u64::from(DATA_BYTES_MAX) <= border + NEAR_BYTES);
                Iova(at)
            }
        }
    }

    /// Takes a request back that the device returned.
    ///
    /// # Panics
    ///
    /// If `check`, when it was not lent or the answer is wrong; `is_reliable` if nothing may fail.
    pub(crate) fn take_back(
        &mut self,
        memory: &Memory,
        used: Used,
        check: bool,
        is_reliable: bool,
    ) {
        let lent = self.lent.get_mut(usize::from(used.head));
        let Some(request) = lent.and_then(Option::take) else {
            assert!(!check, "{used:?} was not lent");
            return;
        };
        self.free.push(request.ticket);
        if self.across == Some(request.ticket) {
            self.across = None;
        }
        if check {
            let status = self.slots[request.ticket].status;
            answer(memory, request, status, used.written, is_reliable);
        }
    }

    /// Returns how many requests the device has.
    pub(crate) fn lent(&self) -> usize {
        self.lent.iter().flatten().count()
    }
}

/// Returns the status of a request, where that is clear.
fn expected(kind: u32, sector: u64, bytes: u32) -> Option<u8> {
    let is_inside = sector + u64::from(bytes / 512) <= CAPACITY_SECTORS;
    match kind {
        IN | OUT if !is_inside => Some(IO_ERROR),
        IN | OUT | FLUSH | GET_ID => Some(OK),
        _ => None,
    }
}

/// Cuts a request into buffers: header, data in up to three pieces, status.
fn buffers(slot: Slot, request: &Request, cuts: u8) -> Vec<Buffer> {
    let mut buffers = vec![Buffer::readable(slot.header, 16)];
    let pieces = 1 + u32::from(cuts) % PIECES_MAX;
    let is_in = matches!(request.kind, IN | GET_ID);
    let mut at = 0;
    while at < request.bytes {
        let bytes = (request.bytes / pieces + 1).min(request.bytes - at);
        let address = Iova(request.data.0 + u64::from(at));
        buffers.push(match is_in {
            true => Buffer::writable(address, bytes),
            false => Buffer::readable(address, bytes),
        });
        at += bytes;
    }
    buffers.push(Buffer::writable(slot.status, 1));
    buffers
}

fn answer(memory: &Memory, request: Request, at: Iova, written: u32, is_reliable: bool) {
    let mut status = [NO_STATUS];
    memory.read(at, &mut status);
    let [status] = status;
    assert!(status <= 2, "status {status:#x} of {request:?}");
    if is_reliable && let Some(expected) = request.expected {
        assert_eq!(status, expected, "{request:?}");
    }
    if status != OK {
        assert_eq!(written, 1, "{request:?}");
        return;
    }
    let mut data = vec![0; request.bytes as usize];
    memory.read(request.data, &mut data);
    match request.kind {
        IN => {
            assert_eq!(written, request.bytes + 1, "{request:?}");
            let is_filled = data.iter().all(|&byte| byte != 0 && byte == data[0]);
            assert!(is_filled, "{request:?}");
        }
        GET_ID => assert_eq!(written, request.bytes.min(20) + 1, "{request:?}"),
        _ => assert_eq!(written, 1, "{request:?}"),
    }
}
