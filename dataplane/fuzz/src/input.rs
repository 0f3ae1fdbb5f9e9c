//! What a fuzzer chooses, and how it lies in its bytes: fields of fixed size, one after the other, so that
//! a change of one byte changes one thing and seeds can be written.

use arbitrary::{Arbitrary, Result, Unstructured};

/// Actions of one input, at most.
const ACTIONS_MAX: usize = 512;

/// How a case begins.
#[derive(Arbitrary, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// Chooses the size of the queue, from 4 to 64.
    pub size: u8,
    /// INDIRECT_DESC, EVENT_IDX and IN_ORDER, in the lowest bits.
    pub features: u8,
    /// Where both sides start.
    pub start: u16,
    /// Operations that the backend takes before it is busy, less 1.
    pub depth: u8,
    /// Which operations the backend completes at once, and how.
    pub completions: u8,
    /// Chooses the memory map.
    pub map: u8,
    /// Puts a ring part where it cannot be; 0 does not.
    pub misplaced: u8,
    /// How often the backend writes into the rings, in 256ths.
    pub mischief: u8,
    /// Whether a second thread writes into the memory; 0 to 239 for not.
    pub flips: u8,
    /// For what is random in all that.
    pub seed: u16,
}

/// A buffer somewhere.
#[derive(Arbitrary, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Chooses a region, or none.
    pub region: u8,
    /// Where in it.
    pub offset: u16,
    /// Chooses the length.
    pub length: u16,
}

/// A step of the driver, the device or the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The driver adds a block request.
    Request {
        /// Chooses its type.
        kind: u8,
        /// First sector.
        sector: u8,
        /// How its data is cut and how much it is.
        data: u8,
        /// Where its data is.
        place: u8,
    },
    /// The driver shows what it added, and kicks if it has to.
    Publish,
    /// The device does so many passes.
    Pass(u8),
    /// The backend finishes an operation.
    Finish {
        /// Which one.
        place: u8,
        /// How.
        outcome: u8,
    },
    /// The driver takes so many requests back.
    Reap(u8),
    /// The driver asks for an interrupt, or for none.
    Interrupts(u8),
    /// The device asks for a kick, or for none.
    Kicks(u8),
    /// The device stops, and another one goes on, with another memory map.
    Restart {
        /// Whether the backend gets time to finish.
        patience: u8,
        /// Chooses the memory map.
        map: u8,
    },
    /// The driver writes a descriptor as it is.
    Descriptor {
        /// Which.
        index: u8,
        /// Its buffer.
        piece: Piece,
        /// Its flags.
        flags: u16,
        /// `next`, or the buffer id.
        link: u8,
    },
    /// The driver writes an entry of an indirect table, or of what may be used as one.
    Entry {
        /// Which table.
        table: u8,
        /// Which entry.
        index: u8,
        /// Its buffer.
        piece: Piece,
        /// Its flags.
        flags: u8,
        /// `next`.
        link: u8,
    },
    /// The driver makes a chain available: in a split queue that at `head`; in a packed one the descriptor
    /// is `piece` with `flags` and `head` as its id.
    Offer {
        /// Head or buffer id.
        head: u8,
        /// Its buffer.
        piece: Piece,
        /// Its flags.
        flags: u8,
    },
    /// The driver stores an index: the avail index of a split queue, so far from where it is.
    Index(i16),
    /// The driver stores 8 bytes anywhere in its rings, tables and requests.
    Store {
        /// Where.
        offset: u16,
        /// How the value is made.
        kind: u8,
        /// The value.
        value: u32,
    },
    /// The driver writes a request header.
    Header {
        /// Of which of its requests.
        ticket: u8,
        /// Type.
        kind: u8,
        /// Sector.
        sector: u16,
    },
}

/// One case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input {
    /// How it begins.
    pub setup: Setup,
    /// What happens.
    pub actions: Vec<Action>,
}

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        let setup = bytes.arbitrary()?;
        let mut actions = Vec::new();
        while !bytes.is_empty() && actions.len() < ACTIONS_MAX {
            actions.push(bytes.arbitrary()?);
        }
        Ok(Self { setup, actions })
    }
}

impl<'a> Arbitrary<'a> for Action {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        let kind: u8 = bytes.arbitrary()?;
        Ok(match kind % 16 {
            0 | 14 => Self::Request {
                kind: bytes.arbitrary()?,
                sector: bytes.arbitrary()?,
                data: bytes.arbitrary()?,
                place: bytes.arbitrary()?,
            },
            1 => Self::Publish,
            2 | 15 => Self::Pass(bytes.arbitrary()?),
            3 => Self::Finish {
                place: bytes.arbitrary()?,
                outcome: bytes.arbitrary()?,
            },
            4 => Self::Reap(bytes.arbitrary()?),
            5 => Self::Interrupts(bytes.arbitrary()?),
            6 => Self::Kicks(bytes.arbitrary()?),
            7 => Self::Restart {
                patience: bytes.arbitrary()?,
                map: bytes.arbitrary()?,
            },
            8 => Self::Descriptor {
                index: bytes.arbitrary()?,
                piece: bytes.arbitrary()?,
                flags: bytes.arbitrary()?,
                link: bytes.arbitrary()?,
            },
            9 => Self::Entry {
                table: bytes.arbitrary()?,
                index: bytes.arbitrary()?,
                piece: bytes.arbitrary()?,
                flags: bytes.arbitrary()?,
                link: bytes.arbitrary()?,
            },
            10 => Self::Offer {
                head: bytes.arbitrary()?,
                piece: bytes.arbitrary()?,
                flags: bytes.arbitrary()?,
            },
            11 => Self::Index(bytes.arbitrary()?),
            12 => Self::Store {
                offset: bytes.arbitrary()?,
                kind: bytes.arbitrary()?,
                value: bytes.arbitrary()?,
            },
            _ => Self::Header {
                ticket: bytes.arbitrary()?,
                kind: bytes.arbitrary()?,
                sector: bytes.arbitrary()?,
            },
        })
    }
}

impl Input {
    /// Returns the bytes that a fuzzer has to choose for this input.
    pub fn encode(&self) -> Vec<u8> {
        let Setup {
            size,
            features,
            start,
            depth,
            completions,
            map,
            misplaced,
            mischief,
            flips,
            seed,
        } = self.setup;
        let mut bytes = vec![size, features];
        bytes.extend(start.to_le_bytes());
        bytes.extend([depth, completions, map, misplaced, mischief, flips]);
        bytes.extend(seed.to_le_bytes());
        for action in &self.actions {
            action.encode(&mut bytes);
        }
        bytes
    }
}

impl Piece {
    fn bytes(self) -> [u8; 5] {
        let (offset, length) = (self.offset.to_le_bytes(), self.length.to_le_bytes());
        [self.region, offset[0], offset[1], length[0], length[1]]
    }
}

impl Action {
    fn encode(self, bytes: &mut Vec<u8>) {
        match self {
            Self::Request {
                kind,
                sector,
                data,
                place,
            } => bytes.extend([0, kind, sector, data, place]),
            Self::Publish => bytes.push(1),
            Self::Pass(count) => bytes.extend([2, count]),
            Self::Finish { place, outcome } => bytes.extend([3, place, outcome]),
            Self::Reap(count) => bytes.extend([4, count]),
            Self::Interrupts(how) => bytes.extend([5, how]),
            Self::Kicks(how) => bytes.extend([6, how]),
            Self::Restart { patience, map } => bytes.extend([7, patience, map]),
            Self::Descriptor {
                index,
                piece,
                flags,
                link,
            } => {
                bytes.extend([8, index]);
                bytes.extend(piece.bytes());
                bytes.extend(flags.to_le_bytes());
                bytes.push(link);
            }
            Self::Entry {
                table,
                index,
                piece,
                flags,
                link,
            } => {
                bytes.extend([9, table, index]);
                bytes.extend(piece.bytes());
                bytes.extend([flags, link]);
            }
            Self::Offer { head, piece, flags } => {
                bytes.extend([10, head]);
                bytes.extend(piece.bytes());
                bytes.push(flags);
            }
            Self::Index(by) => {
                bytes.push(11);
                bytes.extend(by.to_le_bytes());
            }
            Self::Store {
                offset,
                kind,
                value,
            } => {
                bytes.push(12);
                bytes.extend(offset.to_le_bytes());
                bytes.push(kind);
                bytes.extend(value.to_le_bytes());
            }
            Self::Header {
                ticket,
                kind,
                sector,
            } => {
                bytes.extend([13, ticket, kind]);
                bytes.extend(sector.to_le_bytes());
            }
        }
    }
}
