// SPDX-License-Identifier: MIT OR Apache-2.0

//! The steps of a worker: which one comes follows from the seed, its number and the state before it.

use super::state::State;

/// Names a worker uses.
const NAMES: u8 = 12;
/// Bytes of the largest write.
const LARGEST: u64 = 40_000;
/// A file is not extended beyond this.
const FULL: u64 = 256 << 10;
/// Pages, and what a write past the cache is made of.
pub(super) const PAGE: u64 = 4096;
/// So many steps in a row may go by without anything being made durable.
const LAZY: u64 = 8;

/// How bytes get to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Through the page cache, then fdatasync.
    Synced,
    /// Through the page cache with `O_DSYNC`.
    Synchronous,
    /// Past the page cache, with `O_DSYNC`.
    Direct,
}

/// So many bytes from an offset on, which follow from a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) at: u64,
    pub(super) length: u64,
    pub(super) tag: u64,
}

impl Piece {
    pub(super) const fn end(&self) -> u64 {
        self.at + self.length
    }
}

/// What a worker does next. All but the last three return when it is durable, and with it all that came before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A new file in place of what had the name: written beside it, synced, renamed, the directory synced.
    Replace { name: u8, piece: Piece },
    /// Bytes of a file, over others or at its end.
    Write { name: u8, piece: Piece, way: Way },
    /// A file is cut, and synced.
    Truncate { name: u8, length: u64 },
    /// All of the filesystem is synced.
    SyncAll,
    /// An attribute.
    Attribute { name: u8, tag: u64 },
    /// A file gets another name, in place of what had it.
    Rename { from: u8, to: u8 },
    /// A file loses its name.
    Remove { name: u8 },
}

impl Step {
    /// Whether it is durable, and all before it, when it returned.
    pub(super) const fn is_durable(&self) -> bool {
        !matches!(self, Self::Attribute { .. } | Self::Rename { .. } | Self::Remove { .. })
    }
}

/// All steps of a worker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    seed: u64,
}

impl Plan {
    pub(super) fn new(seed: u64, worker: u64) -> Self {
        Self {
            seed: fastrand::Rng::with_seed(seed ^ (worker << 48)).u64(..),
        }
    }

    /// The step with this number, `state` being what those before it made.
    pub(super) fn step(self, number: u64, state: &State) -> Step {
        let mut random = fastrand::Rng::with_seed(self.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        if number % LAZY == LAZY - 1 {
            return Step::SyncAll;
        }
        let tag = random.u64(..);
        let length = random.u64(1..LARGEST);
        let any = random.u8(..NAMES);
        let replace = Step::Replace {
            name: any,
            piece: Piece { at: 0, length, tag },
        };
        let names: Vec<u8> = state.names().collect();
        let Some(name) = random.choice(names) else {
            return replace;
        };
        let size = state.size(name);
        match random.u8(..16) {
            0..=2 => replace,
            3..=8 => {
                let way = random.choice([Way::Synced, Way::Synchronous, Way::Direct]);
                let at = if size < FULL && random.bool() {
                    size
                } else {
                    random.u64(..=size)
                };
                let (way, piece) = match way {
                    Some(Way::Direct) => {
                        let (at, length) = (at - at % PAGE, length.next_multiple_of(PAGE));
                        (Way::Direct, Piece { at, length, tag })
                    }
                    way => (way.unwrap_or(Way::Synced), Piece { at, length, tag }),
                };
                Step::Write { name, piece, way }
            }
            9 => Step::Truncate {
                name,
                length: random.u64(..=size),
            },
            10..=11 => Step::Attribute { name, tag },
            12..=14 => Step::Rename { from: name, to: any },
            _ => Step::Remove { name },
        }
    }
}
