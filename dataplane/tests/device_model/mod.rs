//! Plain, slow models of the device side of a virtqueue, written from the specification: byte by byte,
//! one step at a time, sharing no code with either side under test. They expect a sound driver.

#![allow(dead_code, unreachable_pub)]

pub mod packed;
pub mod split;

use pollux_dataplane::driver::DriverMemory;
use pollux_dataplane::mem::Iova;
use pollux_dataplane::ring::RingState;

/// Flags of a descriptor, in both formats.
pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;

/// One buffer: address, length, whether the device writes it.
pub type Piece = (u64, u32, bool);

/// A chain that the device took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Head in a split virtqueue, buffer id in a packed one.
    pub id: u16,
    /// What it moves the ring on by: 1 in a split virtqueue, its descriptors in a packed one.
    pub steps: u16,
    pub pieces: Vec<Piece>,
}

/// A device over the memory of a driver.
pub trait Device {
    /// Where it goes on.
    fn state(&self) -> RingState;

    /// Steps after which the ring says the same again.
    fn period(&self) -> u64;

    /// Takes the next chain.
    fn pop(&mut self, memory: &DriverMemory) -> Option<Taken>;

    /// Returns `batch`, which the device used in order, with one used entry; `written` bytes in the last.
    fn give(&mut self, memory: &DriverMemory, batch: &[Taken], written: u32);

    /// Returns whether the driver asked for an interrupt for anything given since it was last settled.
    fn interrupt_wanted(&self, memory: &DriverMemory) -> bool;

    /// Notes that the driver was interrupted, or did not ask for it.
    fn interrupt_settled(&mut self);

    /// Tells the driver not to kick.
    fn suppress_kicks(&self, memory: &DriverMemory);

    /// Asks for a kick at the next chain. Returns whether one is there.
    fn request_kick(&self, memory: &DriverMemory) -> bool;
}

fn read_u16(memory: &DriverMemory, at: Iova) -> u16 {
    u16::from_le_bytes(memory.read(at, 2).try_into().unwrap())
}

fn write_u16(memory: &DriverMemory, at: Iova, value: u16) {
    memory.write(at, &value.to_le_bytes());
}

fn read_u32(memory: &DriverMemory, at: Iova) -> u32 {
    u32::from_le_bytes(memory.read(at, 4).try_into().unwrap())
}

fn write_u32(memory: &DriverMemory, at: Iova, value: u32) {
    memory.write(at, &value.to_le_bytes());
}

fn read_u64(memory: &DriverMemory, at: Iova) -> u64 {
    u64::from_le_bytes(memory.read(at, 8).try_into().unwrap())
}

fn offset(area: Iova, bytes: u64) -> Iova {
    Iova(area.0 + bytes)
}
