//! Limits of the controller, and what it refuses.

use super::*;

/// Returns first block, count and flags of the commands that were seen.
fn seen(rig: &Rig) -> Vec<(u64, u64)> {
    let state = rig.model.state();
    let word = |command: &[u8], at: usize| {
        u32::from_le_bytes(command[at..at + 4].try_into().expect("4 bytes"))
    };
    let blocks = |command: &[u8; 64]| {
        let count = u64::from(word(command, 48) & 0xffff) + 1;
        (u64::from(word(command, 40)), count)
    };
    state.seen.iter().map(blocks).collect()
}

#[test]
fn requests_are_split_into_commands_of_the_length_allowed() {
    let model = Model::new();
    model.state().mdts = 1;
    let rig = Rig::over(model);
    let mut queue = rig.queue();
    for (start, mapped) in [(512, true), (512, false)] {
        if !mapped {
            queue.set_memory(&RegionTable::default());
        }
        rig.model.state().seen.clear();
        // More commands than the queue has room for.
        let range = sectors(1, 20 * 8192 + 512);
        let data = pattern(u64::from(mapped), range.bytes());
        rig.fill(start, &data);
        let from = [rig.segment(start, range.bytes())];
        let write = Operation::Write { range, from: &from };
        assert_eq!(rig.run(&mut queue, write), Outcome::Done);
        assert!(rig.on_disk(range) == data);
        let mut expected: Vec<_> = (0..20).map(|number| (1 + 16 * number, 16)).collect();
        expected.push((321, 1));
        assert_eq!(seen(&rig), expected);
        let into = [rig.segment(2 << 20, range.bytes())];
        let read = Operation::Read { range, into: &into };
        assert_eq!(rig.run(&mut queue, read), Outcome::Done);
        assert!(rig.bytes(2 << 20, data.len()) == data);
    }
}

#[test]
fn the_first_error_of_a_request_is_the_requests() {
    let model = Model::new();
    model.state().mdts = 1;
    let rig = Rig::over(model);
    let mut queue = rig.queue();
    for (block, status, outcome) in [
        (40, 0x281, failed(Errno::EIO)),
        (0, 0x4080, failed(Errno::EINVAL)),
        (319, 0x002, Outcome::Unsupported),
    ] {
        rig.model.state().bad = Some((block, status));
        let into = [rig.segment(0, 20 * 8192)];
        let range = sectors(0, 20 * 8192);
        let read = Operation::Read { range, into: &into };
        assert_eq!(queue.submit(1, read), Submission::Pending);
        // Behind one that fails, others go on.
        let behind = Operation::Read {
            range: sectors(400, 8192),
            into: &[rig.segment(1 << 20, 8192)],
        };
        assert_eq!(queue.submit(2, behind), Submission::Pending);
        let mut completed = rig.settle(&mut queue);
        completed.sort_by_key(|(token, _)| *token);
        assert_eq!(completed, [(1, outcome), (2, Outcome::Done)]);
    }
    rig.model.state().bad = None;
    assert_eq!(rig.run(&mut queue, Operation::Flush), Outcome::Done);
}

#[test]
fn ranges_are_deallocated_as_many_at_a_time_as_allowed() {
    let model = Model::new();
    model.state().ranges_max = 3;
    let rig = Rig::over(model);
    let mut queue = rig.queue();
    let ranges: Vec<_> = (0..8).map(|number| sectors(16 * number, 4096)).collect();
    let empty = [sectors(3, 0)];
    let nothing = queue.submit(1, Operation::Discard(&empty));
    assert_eq!(nothing, Submission::Complete(Outcome::Done));
    let discard = Operation::Discard(&ranges);
    assert_eq!(rig.run(&mut queue, discard), Outcome::Done);
    assert_eq!(rig.model.state().seen.len(), 3);
    for range in ranges {
        assert!(rig.on_disk(range).iter().all(|byte| *byte == 0));
        let behind = sectors(range.first + 8, 4096);
        assert!(rig.on_disk(behind).iter().any(|byte| *byte != 0));
    }
}

#[test]
fn zeroes_and_durable_writes_have_their_flags() {
    let rig = Rig::new();
    let mut queue = rig.queue();
    let range = sectors(8, 4096);
    let flags = |rig: &Rig| {
        let last = *rig.model.state().seen.last().expect("a command");
        u32::from_le_bytes(last[48..52].try_into().expect("4 bytes")) >> 16
    };
    let ranges = [range];
    let zeroes = |unmap| Operation::WriteZeroes {
        ranges: &ranges,
        unmap,
    };
    assert_eq!(rig.run(&mut queue, zeroes(true)), Outcome::Done);
    assert_eq!(flags(&rig), 1 << 9);
    assert!(rig.on_disk(range).iter().all(|byte| *byte == 0));
    let from = [rig.segment(0, 4096)];
    let write = || Operation::Write { range, from: &from };
    assert_eq!(rig.run(&mut queue, write()), Outcome::Done);
    assert_eq!(flags(&rig), 0);
    queue.set_write_through(true);
    assert_eq!(rig.run(&mut queue, write()), Outcome::Done);
    assert_eq!(flags(&rig), 1 << 14);
    assert_eq!(rig.run(&mut queue, zeroes(false)), Outcome::Done);
    assert_eq!(flags(&rig), 1 << 14);
    queue.set_write_through(false);
    assert_eq!(rig.run(&mut queue, write()), Outcome::Done);
    assert_eq!(flags(&rig), 0);
    assert_eq!(rig.run(&mut queue, Operation::Flush), Outcome::Done);
    let last = *rig.model.state().seen.last().expect("a command");
    assert_eq!((last[0], &last[4..8]), (0, &[1, 0, 0, 0][..]));
}

#[test]
fn without_a_volatile_cache_every_write_is_durable() {
    let model = Model::new();
    model.state().volatile_cache = false;
    let rig = Rig::over(model);
    let mut queue = rig.queue();
    queue.set_write_through(true);
    let from = [rig.segment(0, 4096)];
    let range = sectors(8, 4096);
    let write = Operation::Write { range, from: &from };
    assert_eq!(rig.run(&mut queue, write), Outcome::Done);
    let last = *rig.model.state().seen.last().expect("a command");
    assert_eq!(&last[48..52], &[7, 0, 0, 0]);
    assert_eq!(rig.run(&mut queue, Operation::Flush), Outcome::Done);
}

#[test]
fn a_namespace_is_described_as_it_is() {
    let rig = Rig::new();
    let geometry = rig.nvme.geometry();
    assert_eq!(
        (geometry.capacity_sectors, geometry.block_bytes),
        (16384, 512)
    );
    assert!(geometry.volatile_cache && geometry.write_zeroes_may_unmap && !geometry.read_only);
    assert_eq!(&geometry.serial[..8], b"MODEL-1\0");
    let model = Model::new();
    model.state().block_bytes = 4096;
    model.state().volatile_cache = false;
    model.state().write_protected = true;
    let options = NvmeOptions {
        read_only: true,
        serial: "mine".into(),
        ..options()
    };
    let nvme = open(&model, &options).expect("a namespace");
    let geometry = nvme.geometry();
    assert_eq!(
        (geometry.capacity_sectors, geometry.block_bytes),
        (16384, 4096)
    );
    assert!(!geometry.volatile_cache && geometry.read_only);
    assert_eq!(&geometry.serial[..5], b"mine\0");
}

#[test]
fn blocks_of_4096_bytes_are_counted_as_such() {
    let model = Model::new();
    model.state().block_bytes = 4096;
    let rig = Rig::over(model);
    let mut queue = rig.queue();
    let range = sectors(16, 12288);
    let data = pattern(5, 12288);
    rig.fill(0x800, &data);
    let from = [rig.segment(0x800, 12288)];
    let write = Operation::Write { range, from: &from };
    assert_eq!(rig.run(&mut queue, write), Outcome::Done);
    assert!(rig.on_disk(range) == data);
    assert_eq!(seen(&rig), [(2, 3)]);
}

#[test]
fn what_cannot_be_served_is_refused() {
    fn refused(change: impl FnOnce(&Model), options: &NvmeOptions) -> String {
        let model = Model::new();
        change(&model);
        let error = open(&model, options).expect_err("refused").to_string();
        assert_eq!(model.mapped(), 0, "{error}");
        error
    }
    for (nsid, error) in [(2, "namespace 2"), (3, "namespace 3"), (0, "namespace 0")] {
        let options = NvmeOptions { nsid, ..options() };
        let refused = refused(|_| {}, &options);
        assert!(refused.contains(error), "{refused}");
    }
    let format = refused(|model| model.state().block_bytes = 8192, &options());
    assert!(format.contains("blocks of 8192 bytes"), "{format}");
    let metadata = refused(|model| model.state().metadata_bytes = 8, &options());
    assert!(metadata.contains("8 bytes of metadata"), "{metadata}");
    let protected = refused(|model| model.state().write_protected = true, &options());
    assert!(protected.contains("add ro=on"), "{protected}");
    let stuck = refused(|model| model.state().is_stuck = true, &options());
    assert!(stuck.contains("does not answer"), "{stuck}");
    let gone = refused(Model::remove, &options());
    assert!(gone.contains("is gone"), "{gone}");
    let serial = NvmeOptions {
        serial: "012345678901234567890".into(),
        ..options()
    };
    assert!(refused(|_| {}, &serial).contains("20 bytes"));
}

#[test]
fn another_size_of_the_namespace_is_taken_on() {
    let mut rig = Rig::new();
    let mut queue = rig.queue();
    let refused = rig.nvme.resized(16 << 20).expect_err("too much");
    assert!(
        refused.to_string().contains("has 8388608 bytes"),
        "{refused}"
    );
    rig.model.state().disk.resize(16 << 20, 0x5a);
    let geometry = rig.nvme.resized(16 << 20).expect("its size");
    assert_eq!(geometry.capacity_sectors, 32768);
    rig.nvme.resize(geometry.clone()).expect("taken on");
    assert_eq!(*rig.nvme.geometry(), geometry);
    let range = sectors(32760, 4096);
    let into = [rig.segment(0, 4096)];
    let read = Operation::Read { range, into: &into };
    assert_eq!(rig.run(&mut queue, read), Outcome::Done);
    assert!(rig.bytes(0, 4096).iter().all(|byte| *byte == 0x5a));
    rig.model.state().block_bytes = 4096;
    let formatted = rig.nvme.resized(16 << 20).expect_err("other blocks");
    assert!(
        formatted.to_string().contains("serve it anew"),
        "{formatted}"
    );
}
