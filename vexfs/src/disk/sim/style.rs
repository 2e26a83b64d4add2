// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which un-synced sectors survive a crash.

use super::decide;

/// How a crash chooses, itself chosen by the seed.
pub(super) struct Style {
    seed: u64,
    manner: Manner,
}

enum Manner {
    NothingSurvives,
    EverythingSurvives,
    /// Writes below the number survive, the one with the number in part.
    Prefix(u64),
    /// Each write survives or not, as a whole.
    WholeWrites,
    /// Each sector of each write survives or not.
    Sectors,
    /// Each write survives, is lost or is torn.
    Mixed,
    /// One write in eight is lost as a whole.
    FewLost,
    /// One write in eight survives as a whole.
    FewSurvive,
}

/// In the place of a sector's number where a decision is about the whole write.
const WHOLE: u64 = u64::MAX;

impl Style {
    /// For a crash after `writes` writes.
    pub(super) fn of(seed: u64, writes: u64) -> Self {
        let manner = match decide(seed, WHOLE, 0) % 8 {
            0 => Manner::NothingSurvives,
            1 => Manner::EverythingSurvives,
            2 => Manner::Prefix(decide(seed, WHOLE, 1) % (writes + 1)),
            3 => Manner::WholeWrites,
            4 => Manner::Sectors,
            5 => Manner::Mixed,
            6 => Manner::FewLost,
            _ => Manner::FewSurvive,
        };
        Self { seed, manner }
    }

    /// Whether what a write left in a sector is on the medium.
    pub(super) fn keeps(&self, write: u64, sector: u64) -> bool {
        let coin = decide(self.seed, write, sector) & 1 == 0;
        let of_write = decide(self.seed, write, WHOLE);
        match self.manner {
            Manner::NothingSurvives => false,
            Manner::EverythingSurvives => true,
            Manner::Prefix(cut) => write < cut || (write == cut && coin),
            Manner::WholeWrites => of_write & 1 == 0,
            Manner::Sectors => coin,
            Manner::Mixed => match of_write % 3 {
                0 => true,
                1 => false,
                _ => coin,
            },
            Manner::FewLost => !of_write.is_multiple_of(8),
            Manner::FewSurvive => of_write.is_multiple_of(8),
        }
    }
}
