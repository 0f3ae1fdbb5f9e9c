//! What the commands do.

use super::{AbortAnswer, Fetched, Queue, State};
use crate::backend::nvme::dma::PAGE_BYTES;
use crate::mem::Iova;

const INVALID_OPCODE: u16 = 0x01;
const INVALID_FIELD: u16 = 0x02;
const DATA_TRANSFER_ERROR: u16 = 0x04;
const ABORT_REQUESTED: u16 = 0x07;
const INVALID_PRP_OFFSET: u16 = 0x13;

fn dword(command: &[u8], number: usize) -> u32 {
    u32::from_le_bytes(command[4 * number..][..4].try_into().expect("4 bytes"))
}

fn quad(command: &[u8], number: usize) -> u64 {
    u64::from(dword(command, number)) | u64::from(dword(command, number + 1)) << 32
}

impl State {
    /// Returns status and result.
    pub(super) fn execute(&mut self, queue: u16, command: &Fetched) -> (u16, u32) {
        match queue {
            0 => self.administrate(command),
            _ => (self.serve(command), 0),
        }
    }

    fn administrate(&mut self, command: &Fetched) -> (u16, u32) {
        let (first, second) = (dword(command, 10), dword(command, 11));
        let id = first as u16;
        let page = quad(command, 6);
        match command[0] {
            0x00 => {
                self.held.retain(|(queue, _)| *queue != id);
                self.deletions += 1;
            }
            0x01 => {
                assert_eq!(second, u32::from(id) << 16 | 1);
                let queue = self.queues.get_mut(&id).expect("its completion queue");
                assert_eq!(queue.entries - 1, (first >> 16) as u16);
                queue.submissions = page;
            }
            0x04 => {
                self.queues.remove(&id);
                for doorbell in [0, 4] {
                    self.store(super::DOORBELLS + 8 * u64::from(id) + doorbell, 0);
                }
            }
            0x05 => {
                let queue = Queue::new(0, page, (first >> 16) as u16 + 1);
                assert!(self.queues.insert(id, queue).is_none(), "queue {id}");
            }
            0x06 => return self.identify(first as u8, dword(command, 1), page),
            0x08 => return (0, self.abort(id, (first >> 16) as u16)),
            0x02 => {
                self.logs_read.push(first as u8);
                let written = self.write(page, &[0xff; PAGE_BYTES as usize]);
                return (if written { 0 } else { DATA_TRANSFER_ERROR }, 0);
            }
            0x09 if id == 0x0b && self.is_fixed && second >> 8 != 0 => return (INVALID_FIELD, 0),
            0x09 if id == 0x0b => {}
            // Two of each kind, counted from 0.
            0x09 => return (0, 1 << 16 | 1),
            _ => return (INVALID_OPCODE, 0),
        }
        (0, 0)
    }

    /// Returns dword 0 of the answer: whether the command was not aborted.
    fn abort(&mut self, queue: u16, id: u16) -> u32 {
        let is_that =
            |held: &(u16, Fetched)| held.0 == queue && (dword(&held.1, 0) >> 16) as u16 == id;
        let Some(index) = self.held.iter().position(is_that) else {
            return 1;
        };
        match self.abort_answer {
            AbortAnswer::Obeyed => {
                let (queue, command) = self.held.remove(index);
                self.complete(queue, &command, ABORT_REQUESTED, 0);
                0
            }
            AbortAnswer::TooLate => {
                let (queue, command) = self.held.remove(index);
                self.finish(queue, &command);
                1
            }
            AbortAnswer::Refused | AbortAnswer::Silence => 1,
        }
    }

    fn identify(&self, cns: u8, nsid: u32, page: u64) -> (u16, u32) {
        let mut data = [0; PAGE_BYTES as usize];
        match cns {
            0x00 if nsid == 1 => {
                let blocks = self.disk.len() / self.block_bytes;
                data[..8].copy_from_slice(&blocks.to_le_bytes());
                data[33] = 1 << 3;
                data[99] = u8::from(self.write_protected);
                data[128] = self.metadata_bytes;
                data[130] = self.block_bytes.ilog2() as u8;
            }
            0x00 => {}
            0x01 => {
                data[4..24].copy_from_slice(b"MODEL-1             ");
                data[77] = self.mdts;
                data[258] = self.acl;
                data[516] = 2;
                data[520] = 0b1100;
                data[525] = u8::from(self.volatile_cache);
            }
            0x06 if self.ranges_max > 0 => data[3] = self.ranges_max,
            _ => return (INVALID_FIELD, 0),
        }
        let written = self.write(page, &data);
        (if written { 0 } else { DATA_TRANSFER_ERROR }, 0)
    }

    fn serve(&mut self, command: &Fetched) -> u16 {
        let first = quad(command, 10);
        let count = u64::from(dword(command, 12) as u16) + 1;
        let bytes = self.bytes(first, count);
        let is_on_blocks = [0x01, 0x02, 0x08].contains(&command[0]);
        if let Some((bad, status)) = self.bad
            && is_on_blocks
            && (first..first + count).contains(&bad)
        {
            return status;
        }
        match command[0] {
            0x00 => 0,
            0x01 | 0x02 => {
                let length = bytes.len() as u64;
                if self.mdts > 0 && length > PAGE_BYTES << self.mdts {
                    return INVALID_FIELD;
                }
                match self.pages(quad(command, 6), quad(command, 8), length) {
                    Ok(pages) => self.transfer(command[0] == 0x01, bytes, &pages),
                    Err(status) => status,
                }
            }
            0x08 => {
                self.disk[bytes].fill(0);
                0
            }
            0x09 => self.deallocate(dword(command, 10) as u8, quad(command, 6)),
            _ => INVALID_OPCODE,
        }
    }

    fn bytes(&self, first: u64, count: u64) -> std::ops::Range<usize> {
        let start = (first as usize).saturating_mul(self.block_bytes);
        start..start.saturating_add(count as usize * self.block_bytes)
    }

    fn deallocate(&mut self, last: u8, ranges: u64) -> u16 {
        if self.ranges_max > 0 && last >= self.ranges_max {
            return INVALID_FIELD;
        }
        for number in 0..=u64::from(last) {
            let mut range = [0; 16];
            let read = self.memory.read(Iova(ranges + 16 * number), &mut range);
            read.expect("the ranges");
            let bytes = self.bytes(quad(&range, 2), u64::from(dword(&range, 1)));
            self.disk[bytes].fill(0);
        }
        0
    }

    /// Returns where the data is and how much of it, as the PRP entries say.
    fn pages(&self, first: u64, second: u64, bytes: u64) -> Result<Vec<(u64, u64)>, u16> {
        if !first.is_multiple_of(4) {
            return Err(INVALID_PRP_OFFSET);
        }
        let length = bytes.min(PAGE_BYTES - first % PAGE_BYTES);
        let mut pages = vec![(first, length)];
        let mut left = bytes - length;
        let mut list = second;
        let in_list = left > PAGE_BYTES;
        while left > 0 {
            let mut entry = second;
            if in_list {
                assert!(list - second < PAGE_BYTES, "more than a page of entries");
                let mut bytes = [0; 8];
                let read = self.memory.read(Iova(list), &mut bytes);
                read.map_err(|_| DATA_TRANSFER_ERROR)?;
                entry = u64::from_le_bytes(bytes);
                list += 8;
            }
            if !entry.is_multiple_of(PAGE_BYTES) {
                return Err(INVALID_PRP_OFFSET);
            }
            pages.push((entry, left.min(PAGE_BYTES)));
            left -= left.min(PAGE_BYTES);
        }
        Ok(pages)
    }

    fn transfer(
        &mut self,
        to_disk: bool,
        bytes: std::ops::Range<usize>,
        pages: &[(u64, u64)],
    ) -> u16 {
        let mut at = bytes.start;
        for (address, length) in pages {
            let part = at..at + *length as usize;
            at = part.end;
            let reached = if to_disk {
                let into = &mut self.disk[part];
                self.memory.read(Iova(*address), into).is_ok()
            } else {
                self.write(*address, &self.disk[part])
            };
            if !reached {
                return DATA_TRANSFER_ERROR;
            }
        }
        0
    }
}
