// SPDX-License-Identifier: MIT OR Apache-2.0

//! Any bytes in slots and log: no panic, an answer to every READ, and a pool that stays sound.

use proptest::prelude::*;
use vexfs::client::addresses::SLOTS;
use vexfs::client::wire::{self, OPCODES};
use vexfs::disk::SplitMix64;
use vexfs::fs::Patience;
use vexfs::fs::op::Op;
use vexfs::units::{FileBlock, Ino};
use zerocopy::IntoBytes;

use crate::bench::{Bench, NOW};
use crate::peer::{Ask, batch};

/// Numbers that tend to be wrong.
const EDGES: [u64; 12] = [
    0,
    1,
    2,
    3,
    4095,
    4096,
    1 << 31,
    1 << 32,
    (1 << 51) - 1,
    1 << 62,
    i64::MAX as u64,
    u64::MAX,
];

fn edge(random: &mut SplitMix64) -> u64 {
    let index = usize::try_from(random.below(EDGES.len() as u64)).unwrap();
    EDGES[index]
}

/// An operation with fields that are possible now and then.
fn operation(random: &mut SplitMix64, bench: &mut Bench, names: &'static [&'static [u8]]) -> Op<'static> {
    let name = |random: &mut SplitMix64| names[usize::try_from(random.below(names.len() as u64)).unwrap()];
    let ino = Ino(if random.below(3) == 0 {
        edge(random)
    } else {
        1 + random.below(30)
    });
    let parent = if random.below(2) == 0 { Ino::ROOT } else { ino };
    let (from, count, end) = (FileBlock(edge(random)), edge(random), edge(random));
    let time = NOW;
    match random.below(14) {
        0..=3 => Op::Create {
            parent,
            ino: if random.below(4) == 0 { ino } else { bench.number() },
            mode: [0o100_644, 0o040_755, 0o120_777, 0, u16::MAX][usize::try_from(random.below(5)).unwrap()],
            uid: 0,
            gid: 0,
            device: edge(random),
            flags: 0,
            time,
            name: name(random),
            target: if random.below(3) == 0 { b"target" } else { b"" },
        },
        4 => Op::Unlink {
            parent,
            time,
            name: name(random),
        },
        5 => Op::Rename {
            from: parent,
            to: Ino::ROOT,
            flags: random.below(9).to_le_bytes()[0],
            whiteout: ino,
            time,
            name: name(random),
            new_name: name(random),
        },
        6 => Op::Truncate { ino, size: end, time },
        7 => Op::Extend {
            ino,
            size: end,
            modified: time,
            changed: time,
        },
        8 => Op::Preallocate {
            ino,
            from,
            count,
            end,
            time,
        },
        9 => Op::Punch { ino, from, count, time },
        10 => Op::Collapse { ino, from, count, time },
        11 => Op::Insert { ino, from, count, time },
        12 => Op::Clone {
            from: ino,
            from_block: from,
            to: Ino(1 + random.below(30)),
            to_block: FileBlock(edge(random)),
            count,
            end,
            time,
        },
        _ => Op::Purge { ino, until: u64::MAX },
    }
}

const NAMES: &[&[u8]] = &[b"a", b"b", b"c", b"", b".", b"..", b"a/b", &[b'n'; 255], &[b'm'; 256]];

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Payloads of any bytes behind a header that is right.
    #[test]
    fn any_payload_of_any_call_is_answered(
        calls in proptest::collection::vec((0..=u16::try_from(OPCODES.len()).unwrap() + 1, any::<Vec<u8>>(), 0_u32..200_000, 0..SLOTS), 1..40)
    ) {
        let mut bench = Bench::new();
        for (opcode, payload, capacity, slot) in calls {
            let ask = Ask { opcode, payload, after: 0, capacity };
            bench.seq += 1;
            let reply = bench.call_as(slot, bench.seq, &ask);
            prop_assert_eq!(reply.fixed.seq.get(), bench.seq);
            prop_assert!(reply.payload.len() <= capacity as usize);
        }
        bench.check();
    }

    /// Bytes that are no request, or one with a part changed.
    #[test]
    fn what_is_no_request_is_forgotten(
        noise in proptest::collection::vec((any::<Vec<u8>>(), 0_usize..80, 1_u8.., 0..SLOTS), 1..40)
    ) {
        let mut bench = Bench::new();
        for (bytes, at, change, slot) in noise {
            bench.send(slot, &bytes);
            bench.seq += 1;
            let mut damaged = Ask::named(wire::Opcode::Lookup, 1, b"a name").encode(bench.session, slot, bench.seq);
            damaged[at] ^= change;
            bench.send(slot, &damaged);
            prop_assert!(bench.fetch(slot).has(wire::REPLY_AGAIN));
            prop_assert!(bench.server.post(&bytes, Patience::Refuse).is_err());
        }
        prop_assert!(bench.attr(Ino::ROOT).is_ok());
        bench.check();
    }

    /// Operations with any fields, one or several at a time, by calls and by posting.
    #[test]
    fn any_operations_are_applied_or_refused_and_the_pool_stays_sound(seed: u64) {
        let mut random = SplitMix64::new(seed);
        let mut bench = Bench::new();
        let mut position = 0;
        for _ in 0..30 {
            let count = 1 + random.below(3);
            let operations: Vec<Op<'_>> = (0..count).map(|_| operation(&mut random, &mut bench, NAMES)).collect();
            if random.below(8) > 0 {
                let _refused = bench.apply(&operations);
            } else {
                let bytes = batch(bench.session, position, &operations);
                if bench.server.post(&bytes, Patience::Wait).is_ok() {
                    position += count;
                } else {
                    bench.hello(seed);
                    position = 0;
                }
            }
            let ino = Ino(1 + random.below(30));
            let _stored = bench.server.fs().store(ino, random.below(40) << 12, &[7; 8192]);
        }
        bench.check();
    }
}

#[test]
fn nothing_is_kept_of_slots_that_nobody_reads() {
    let bench = Bench::new();
    // A READ per slot is parked, however many come.
    let mut into = vec![0; 4096];
    for round in 0..3 {
        for slot in 0..SLOTS {
            let ticket = bench.server.read(slot, &mut into, std::sync::Arc::new(|| ()));
            assert_eq!(ticket, Some(round + 1));
        }
    }
    for slot in 0..SLOTS {
        for ticket in 1..=2 {
            assert!(bench.server.look_again(slot, ticket, false, &mut into), "displaced");
        }
        assert!(!bench.server.look_again(slot, 3, false, &mut into));
    }
    assert_eq!(wire::Reply::default().as_bytes().len(), 88);
}
