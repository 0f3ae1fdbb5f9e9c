//! The probes for tracers, as the notes of the program have them (see `dataplane/src/worker/probes.rs`).

use std::collections::BTreeMap;

use object::elf::FileHeader64;
use object::read::elf::{FileHeader, SectionHeader};
use object::{Endianness, Object, ObjectSegment};

/// Where the program has a probe, and what a tracer finds there.
struct Probe {
    provider: String,
    name: String,
    arguments: Vec<String>,
    address: u64,
    semaphore: u64,
}

impl Probe {
    /// Reads the description of a note: three addresses, and three strings that end with 0.
    fn of(description: &[u8]) -> Self {
        let (addresses, strings) = description.split_at(3 * 8);
        let mut addresses = addresses
            .chunks(8)
            .map(|it| u64::from_ne_bytes(it.try_into().unwrap()));
        let mut strings = strings
            .split(|byte| *byte == 0)
            .map(String::from_utf8_lossy);
        let mut address = || addresses.next().unwrap();
        let mut string = || strings.next().unwrap().into_owned();
        let (at, _base, semaphore) = (address(), address(), address());
        Self {
            provider: string(),
            name: string(),
            arguments: string().split_whitespace().map(str::to_owned).collect(),
            address: at,
            semaphore,
        }
    }
}

/// Returns the probes of `program`, an ELF file.
fn probes(program: &[u8]) -> object::Result<Vec<Probe>> {
    let header = FileHeader64::<Endianness>::parse(program)?;
    let endian = header.endian()?;
    let mut found = Vec::new();
    for section in header.sections(endian, program)?.iter() {
        let Some(mut notes) = section.notes(endian, program)? else {
            continue;
        };
        while let Some(note) = notes.next()? {
            if note.name() == b"stapsdt" {
                found.push(Probe::of(note.desc()));
            }
        }
    }
    Ok(found)
}

/// Returns the byte that `program` has at `address` in memory.
fn byte_at(program: &[u8], address: u64) -> Option<u8> {
    let file = object::File::parse(program).ok()?;
    let mut segments = file.segments();
    let bytes = segments.find_map(|segment| segment.data_range(address, 1).ok().flatten());
    bytes.map(|bytes| bytes[0])
}

#[test]
fn tracers_find_three_probes_that_cost_a_nop_each() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_pollux")).unwrap();
    let mut arguments = BTreeMap::new();
    for probe in probes(&program).unwrap() {
        if probe.provider != "pollux" {
            continue;
        }
        let name = &probe.name;
        assert_eq!(probe.semaphore, 0, "{name} is skipped without a tracer");
        if cfg!(target_arch = "x86_64") {
            let byte = byte_at(&program, probe.address);
            assert_eq!(byte, Some(0x90), "{name} at {:#x}", probe.address);
        }
        let count = probe.arguments.len();
        assert_eq!(*arguments.entry(probe.name).or_insert(count), count);
    }
    let expected = [("begin", 2), ("complete", 3), ("submit", 4)];
    let expected = expected.map(|(name, count)| (name.to_owned(), count));
    assert_eq!(arguments, BTreeMap::from(expected));
}
