// SPDX-License-Identifier: MIT OR Apache-2.0

//! The end of a log and damage in its middle are told apart.

use std::ops::Range;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::disk::MemDisk;
use crate::units::{BLOCK_SIZE, Block};

const REGION: Run = Run {
    start: Block(3),
    count: 16,
};

/// A batch that was written: where, its newest transaction, and what it says is durable.
#[derive(Debug, Clone)]
struct Written {
    bytes: Range<u64>,
    newest: Seq,
    durable: Seq,
}

/// A log of some laps whose older part is checkpointed, on a disk; its batches since the tail.
struct Made {
    disk: Arc<MemDisk>,
    log: Log,
    batches: Vec<Written>,
}

/// Batches of so many bytes, after each of which the disk may be synced.
fn make(batches: &[(usize, bool)]) -> Made {
    let disk = Arc::new(MemDisk::new(64 * BLOCK_SIZE as u64));
    let start = Tail {
        position: 12345,
        seq: Seq(40),
        chain: Crc(7),
    };
    let mut journal = Journal::resume(Arc::clone(&disk) as Arc<dyn Disk>, REGION, 5, start.position, start);
    let (mut tail, mut durable) = (start, start.seq);
    let mut written: Vec<Written> = Vec::new();
    for &(bytes, synced) in batches {
        if !journal.has_room(bytes) {
            tail = journal.end();
            durable = tail.seq;
            journal.advance_tail(tail.position);
            written.clear();
        }
        let from = journal.end().position;
        let newest = journal.push(|out| out.resize(out.len() + bytes, 0xAB));
        journal.write_out(durable).unwrap();
        let bytes = from..journal.end().position;
        written.push(Written { bytes, newest, durable });
        if synced {
            durable = newest;
        }
    }
    let log = Log {
        region: REGION,
        tail,
        resumed_at: start.position,
        epoch: 5,
        durable: tail.seq,
        tolerant: false,
    };
    Made {
        disk,
        log,
        batches: written,
    }
}

impl Made {
    /// Bytes of a batch change.
    fn damage(&self, bytes: Range<u64>) {
        for position in bytes {
            let place = Place::of(REGION, position);
            let mut byte = [0];
            self.disk.read(place.byte_at, &mut byte).unwrap();
            self.disk.write(place.byte_at, &[!byte[0]]).unwrap();
        }
    }

    fn recover(&self) -> Recovery {
        recover(self.disk.as_ref(), &self.log, |_| Ok(Verdict::Applied)).unwrap()
    }

    /// What the batches say was durable, if these are all that is left.
    fn told<'a>(&self, left: impl IntoIterator<Item = &'a Written>) -> Seq {
        let told = left.into_iter().map(|batch| batch.durable).max();
        told.unwrap_or_default().max(self.log.durable)
    }
}

fn batches() -> impl Strategy<Value = Vec<(usize, bool)>> {
    prop::collection::vec((1..6000_usize, any::<bool>()), 1..60)
}

proptest! {
    #[test]
    fn damage_behind_which_a_batch_vouches_for_it_is_told(
        made in batches(), which: prop::sample::Index, at: prop::sample::Index, length in 1..300_u64,
    ) {
        let made = make(&made);
        let hit = which.index(made.batches.len());
        let Range { start, end } = made.batches[hit].bytes;
        let from = start + at.index(usize::try_from(end - start).unwrap()) as u64;
        made.damage(from..(from + length).min(end));
        let found = made.recover();
        let before = made.batches[..hit].last().map_or(made.log.tail.seq, |batch| batch.newest);
        prop_assert_eq!(found.applied, before);
        let others = made.batches.iter().enumerate().filter(|(index, _)| *index != hit);
        prop_assert_eq!(found.durable, made.told(others.map(|(_, batch)| batch)));
    }

    #[test]
    fn the_power_may_go_at_any_moment_without_an_alarm(made in batches(), lost: u64) {
        let made = make(&made);
        // Of what no sync covered, anything may be missing; which syncs there were is what later batches told.
        let durable = made.told(&made.batches);
        let unsure: Vec<_> = made.batches.iter().filter(|batch| batch.newest > durable).collect();
        for (index, batch) in unsure.iter().enumerate() {
            if lost >> (index % 64) & 1 == 1 {
                made.damage(batch.bytes.clone());
            }
        }
        let found = made.recover();
        prop_assert!(found.applied >= found.durable && found.durable >= made.log.durable);
    }
}
