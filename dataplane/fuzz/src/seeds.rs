//! Inputs to begin with: drivers that keep to the rules in every way there is, breaches of the rules one by
//! one, and both mixed.

use crate::input::{Action, Input, Piece, Setup};
use crate::random::Random;

const NEXT: u8 = 1;
const WRITE: u8 = 2;
const INDIRECT: u8 = 4;

/// Combinations of INDIRECT_DESC, EVENT_IDX and IN_ORDER.
const FEATURES: u8 = 8;
/// Near the wraps of a split queue's index and of a packed queue's laps.
const STARTS: [u16; 6] = [0, 1 << 15, 0xfffd, 3, 0x8003, 0x7fff];
const ACTIONS: usize = 80;

/// A place in the region that lies apart, which is zero: a header there is a read of sector 0.
fn apart(offset: u16, length: u16) -> Piece {
    let region = 7;
    Piece {
        region,
        offset,
        length,
    }
}

/// The buffers of a read: header, data, status.
fn read() -> [(Piece, u8); 3] {
    [
        (apart(0, 16), NEXT),
        (apart(0x200, 512), NEXT | WRITE),
        (apart(0x800, 1), WRITE),
    ]
}

/// Has the device see what was done, and answer it.
fn serve() -> [Action; 4] {
    let finish = Action::Finish {
        place: 0,
        outcome: 7,
    };
    [Action::Publish, Action::Pass(1), finish, Action::Pass(1)]
}

/// A chain of descriptors as they are, made available in either format.
fn chain(buffers: &[(Piece, u8)]) -> Vec<Action> {
    let mut actions = Vec::new();
    for (index, &(piece, flags)) in (0..).zip(buffers) {
        actions.push(Action::Descriptor {
            index,
            piece,
            flags: flags.into(),
            link: index + 1,
        });
    }
    offer(buffers, actions)
}

/// Makes chain 0 of a split queue available, or all of `buffers` in a packed one.
fn offer(buffers: &[(Piece, u8)], mut actions: Vec<Action>) -> Vec<Action> {
    for &(piece, flags) in buffers {
        let head = 0;
        actions.push(Action::Offer { head, piece, flags });
    }
    actions.extend(serve());
    actions
}

/// An indirect table of `buffers`, at table 2, held by one descriptor with `flags`.
fn table(buffers: &[(Piece, u8)], entries: u16, flags: u8) -> Vec<Action> {
    let mut actions = Vec::new();
    for (index, &(piece, flags)) in (0..).zip(buffers) {
        let (table, link) = (2, index + 1);
        actions.push(Action::Entry {
            table,
            index,
            piece,
            flags,
            link,
        });
    }
    let holder = Piece {
        region: 4,
        offset: 0,
        length: entries,
    };
    let rest = chain(&[(holder, flags)]);
    [actions, rest].concat()
}

/// What a driver may not do, one thing each; a sound read by hand to compare with comes first.
fn breaches() -> Vec<Vec<Action>> {
    let [header, data, status] = read();
    let wild = |region| Piece {
        region,
        offset: 0x1234,
        length: 512,
    };
    let mut all = vec![
        chain(&read()),
        table(&read(), 3, INDIRECT),
        // No end, no status, no header, the wrong order, nothing at all.
        chain(&[header, (apart(64, 16), NEXT), (apart(64, 16), NEXT)]),
        chain(&[header, (apart(64, 16), 0)]),
        chain(&[status]),
        chain(&[data, header, status]),
        chain(&[(apart(0, 0), NEXT), status]),
        chain(&[(apart(0, 15), NEXT), status]),
        // Tables in tables, before more descriptors, of odd lengths, longer than they are.
        table(&[header, (apart(0, 64), INDIRECT), status], 3, INDIRECT),
        table(&read(), 3, INDIRECT | NEXT),
        table(&read(), 0, INDIRECT),
        table(&read(), 15, INDIRECT),
        // A chain twice, and an index that jumps.
        [chain(&read()), chain(&read())].concat(),
        [chain(&read()), vec![Action::Index(1)], serve().to_vec()].concat(),
        [chain(&read()), vec![Action::Index(-1)], serve().to_vec()].concat(),
        [vec![Action::Index(100)], serve().to_vec()].concat(),
    ];
    for region in [0, 2, 3, 6, 8, 9, 10, 11] {
        let data = (wild(region), NEXT | WRITE);
        all.push(chain(&[header, data, status]));
        all.push(chain(&[(wild(region), NEXT), status]));
        all.push(chain(&[header, (wild(region), WRITE)]));
    }
    all
}

/// Something that a driver may do, a device or a backend.
fn sound(random: &mut Random) -> Action {
    let byte = random.next() as u8;
    match random.below(20) {
        0..8 => Action::Request {
            kind: byte,
            sector: (random.next() % 97) as u8,
            data: random.next() as u8,
            place: random.next() as u8,
        },
        8..11 => Action::Publish,
        11..14 => Action::Pass(byte),
        14 => Action::Finish {
            place: byte,
            outcome: random.next() as u8,
        },
        15..17 => Action::Reap(byte),
        17 => Action::Interrupts(byte),
        18 => Action::Kicks(byte),
        // Often with time to finish, always with all regions.
        _ if byte < 64 => Action::Restart {
            patience: byte,
            map: 0,
        },
        _ => Action::Pass(0),
    }
}

fn setup(features: u8, completions: u8, random: &mut Random) -> Setup {
    Setup {
        size: random.next() as u8,
        features,
        start: STARTS[random.below(STARTS.len())],
        depth: random.next() as u8,
        completions,
        seed: random.next() as u16,
        ..Setup::default()
    }
}

/// Returns the inputs.
pub fn seeds() -> Vec<Input> {
    let mut random = Random::new(1);
    let mut seeds = Vec::new();
    for features in 0..FEATURES {
        for completions in [0, 1, 2, 0x82] {
            let setup = setup(features, completions, &mut random);
            let actions = (0..ACTIONS).map(|_| sound(&mut random)).collect();
            seeds.push(Input { setup, actions });
        }
    }
    for breach in breaches() {
        let features = random.next() as u8;
        let mut setup = setup(features | 1, 2, &mut random);
        setup.mischief = [0, 0, 0, 40][random.below(4)];
        let before = (0..random.below(12)).map(|_| sound(&mut random));
        let mut actions: Vec<Action> = before.collect();
        actions.extend(breach);
        actions.push(Action::Restart {
            patience: 1,
            map: 0,
        });
        actions.extend((0..8).map(|_| sound(&mut random)));
        actions.extend(serve());
        seeds.push(Input { setup, actions });
    }
    for misplaced in 1..14 {
        let mut setup = setup(misplaced, 2, &mut random);
        setup.misplaced = misplaced;
        let actions = (0..8).map(|_| sound(&mut random)).collect();
        seeds.push(Input { setup, actions });
    }
    for features in 0..FEATURES {
        // Memory that changes under a driver that means no harm.
        let mut setup = setup(features, 2, &mut random);
        setup.mischief = 64;
        setup.flips = if features & 1 == 0 { 255 } else { 0 };
        let actions = (0..ACTIONS).map(|_| sound(&mut random)).collect();
        seeds.push(Input { setup, actions });
    }
    seeds
}
