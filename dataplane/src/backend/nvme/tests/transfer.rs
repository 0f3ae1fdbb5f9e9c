//! Data goes to where it belongs, from wherever it is.

use super::*;

#[test]
fn every_alignment_and_size_is_written_and_read_back() {
    let rig = Rig::new();
    let mut queue = rig.queue();
    let mut seed = 0;
    for start in [0, 4, 512, 4092, 4095, 2] {
        for bytes in [512, 4096, 4608, 8192, 12288, 65536, (1 << 20) + 512] {
            seed += 1;
            let range = sectors(8 * seed, bytes);
            let data = pattern(seed, bytes);
            rig.fill(start, &data);
            let from = [rig.segment(start, bytes)];
            let write = Operation::Write { range, from: &from };
            assert_eq!(rig.run(&mut queue, write), Outcome::Done);
            assert!(rig.on_disk(range) == data, "{bytes} bytes from {start}");
            // One byte on, so that the bytes before are not there by chance.
            let into_start = 2 << 20 | start;
            let into = [rig.segment(into_start, bytes)];
            let read = Operation::Read { range, into: &into };
            assert_eq!(rig.run(&mut queue, read), Outcome::Done);
            let read = rig.bytes(into_start, bytes as usize);
            assert!(read == data, "{bytes} bytes to {into_start}");
        }
    }
    let counts = queue.counts();
    // Four of six places are on a dword; the longest is two commands.
    assert_eq!((counts.registered, counts.copied), (4 * 16, 2 * 16));
    assert_eq!(counts.system_calls, 0);
}

#[test]
fn pieces_that_do_not_meet_at_bounds_of_pages_are_copied() {
    let rig = Rig::new();
    let mut queue = rig.queue();
    for (parts, is_copied) in [
        (
            vec![(0x800, 0x800), (0x4000, 0x2000), (0x9000, 0x200)],
            false,
        ),
        (vec![(0x2000, 0x1000), (0x1000, 0x1000)], false),
        (vec![(0x800, 0x200), (0x4000, 0x200)], true),
        (
            vec![(0x1000, 0x1000), (0x4100, 0xf00), (0x8000, 0x100)],
            true,
        ),
        (vec![(0x1001, 0x1ff), (0x3000, 0x1), (0x5000, 0xe00)], true),
    ] {
        let bytes = parts.iter().map(|(_, bytes)| bytes).sum();
        let data = pattern(bytes, bytes);
        let mut at = 0;
        for (start, length) in &parts {
            rig.fill(*start, &data[at..at + *length as usize]);
            at += *length as usize;
        }
        let part = |offset| {
            let part = |(start, bytes): &(u64, u64)| rig.segment(start + offset, *bytes);
            parts.iter().map(part).collect::<Vec<_>>()
        };
        let before = queue.counts();
        let range = sectors(64, bytes);
        let from = part(0);
        let write = Operation::Write { range, from: &from };
        assert_eq!(rig.run(&mut queue, write), Outcome::Done);
        assert!(rig.on_disk(range) == data, "{parts:x?}");
        let into = part(1 << 20);
        let read = Operation::Read { range, into: &into };
        assert_eq!(rig.run(&mut queue, read), Outcome::Done);
        let mut read = Vec::new();
        for (start, length) in &parts {
            read.extend(rig.bytes(start + (1 << 20), *length as usize));
        }
        assert!(read == data, "{parts:x?}");
        let copied = queue.counts().copied - before.copied;
        assert_eq!(copied, if is_copied { 2 } else { 0 }, "{parts:x?}");
    }
}

#[test]
fn memory_that_the_device_cannot_reach_is_copied() {
    let rig = Rig::new();
    let mut queue = rig.nvme.open_queue().expect("a queue");
    let before = rig.model.mapped();
    let range = sectors(3, 8192);
    let write = |queue: &mut NvmeQueue, seed| {
        rig.fill(0, &pattern(seed, 8192));
        let from = [rig.segment(0, 8192)];
        let write = Operation::Write { range, from: &from };
        assert_eq!(rig.run(queue, write), Outcome::Done);
        assert!(rig.on_disk(range) == pattern(seed, 8192));
        (queue.counts().registered, queue.counts().copied)
    };
    assert_eq!(write(&mut queue, 1), (0, 1));
    queue.set_memory(&rig.memory);
    assert_eq!(rig.model.mapped(), before + 1);
    assert_eq!(write(&mut queue, 2), (1, 1));
    queue.set_memory(&RegionTable::default());
    assert_eq!(rig.model.mapped(), before);
    assert_eq!(write(&mut queue, 3), (1, 2));
}

#[test]
fn queues_wrap_with_any_number_in_flight() {
    let rig = Rig::new();
    let mut queue = rig.queue();
    let mut next = 0;
    for round in 0..40 {
        // As many as fit at most, so that both rings wrap at every place.
        let count = 1 + round % 7;
        let mut tokens = Vec::new();
        for slot in 0..count {
            next += 1;
            let start = slot * 4096;
            rig.fill(start, &pattern(next, 4096));
            let from = [rig.segment(start, 4096)];
            let range = sectors(8 * slot, 4096);
            let write = Operation::Write { range, from: &from };
            assert_eq!(queue.submit(next as Token, write), Submission::Pending);
            tokens.push((next as Token, Outcome::Done));
        }
        assert_eq!(rig.settle(&mut queue), tokens);
        for slot in 0..count {
            let data = pattern(next - (count - 1 - slot), 4096);
            assert!(rig.on_disk(sectors(8 * slot, 4096)) == data);
        }
    }
}

#[test]
fn the_device_learns_of_a_batch_at_once() {
    let rig = Rig::new();
    let mut queue = rig.queue();
    let seen = || rig.model.state().seen.len();
    for token in 0..3 {
        assert_eq!(queue.submit(token, Operation::Flush), Submission::Pending);
        rig.model.step();
    }
    assert_eq!(seen(), 0);
    queue.commit();
    rig.model.step();
    assert_eq!(seen(), 3);
    assert_eq!(rig.settle(&mut queue).len(), 3);
}

#[test]
fn commands_end_in_any_order() {
    let rig = Rig::new();
    let mut queue = rig.queue();
    rig.model.state().holds = true;
    for token in 0..7_u64 {
        let into = [rig.segment(token * 4096, 4096)];
        let range = sectors(8 * token, 4096);
        let read = Operation::Read { range, into: &into };
        assert_eq!(queue.submit(token as Token, read), Submission::Pending);
    }
    assert_eq!(queue.submit(9, Operation::Flush), Submission::Busy);
    queue.commit();
    rig.model.step();
    for (index, token) in [(3, 3), (5, 6), (0, 0), (2, 4), (0, 1), (1, 5), (0, 2)] {
        rig.model.release(index);
        assert_eq!(queue.complete(), Some((token, Outcome::Done)));
        assert_eq!(queue.complete(), None);
        let data = rig.bytes(u64::from(token) * 4096, 4096);
        assert!(data == rig.on_disk(sectors(8 * u64::from(token), 4096)));
    }
    assert_eq!(queue.in_flight(), 0);
}
