//! Access patterns, as fio names them.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is asked of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Pattern {
    /// Reads, one block after the other.
    Read,
    /// Writes, one block after the other.
    Write,
    /// Reads and writes, one block after the other.
    Rw,
    /// Reads anywhere.
    RandRead,
    /// Writes anywhere.
    RandWrite,
    /// Reads and writes anywhere.
    RandRw,
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// Blocks follow no order.
    pub(crate) random: bool,
    /// Reads in 100 requests.
    pub(crate) read_percent: u32,
}

impl Pattern {
    /// Returns what a client does, with `rwmixread` reads in 100 requests of the mixed ones.
    pub(crate) fn access(self, rwmixread: u32) -> Access {
        let (random, read_percent) = match self {
            Self::Read => (false, 100),
            Self::Write => (false, 0),
            Self::Rw => (false, rwmixread),
            Self::RandRead => (true, 100),
            Self::RandWrite => (true, 0),
            Self::RandRw => (true, rwmixread),
        };
        Access {
            random,
            read_percent,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Rw => "rw",
            Self::RandRead => "randread",
            Self::RandWrite => "randwrite",
            Self::RandRw => "randrw",
        })
    }
}
