// SPDX-License-Identifier: MIT OR Apache-2.0

//! How hard a search tries: the one knob callers see, and the numbers it stands for.

/// Dimensions from which on large cosines are rare in real data, however many more there are.
const MANY: f32 = 64.0;

/// The numbers of a search.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Effort {
    /// Leaves to read at most.
    pub leaves: usize,
    /// Leaves are passed over where an answer would need a residual with a larger cosine than this with the direction to
    /// the query: large cosines are rare in many dimensions. Infinite: no leaf is passed over.
    pub reach: f32,
    /// Share of the one-bit error bound that is allowed for before an item is passed over.
    pub doubt: f32,
    /// Candidates that are compared exactly.
    pub compared: usize,
}

impl Default for Effort {
    fn default() -> Self {
        Self::level(50)
    }
}

impl Effort {
    /// Reads everything, compares everything: the same answer as comparing all vectors.
    pub const ALL: Self = Self {
        leaves: usize::MAX,
        reach: f32::INFINITY,
        doubt: f32::INFINITY,
        compared: usize::MAX,
    };

    /// The effort of a level from 0 (quick) to 100 (thorough); 50 is the default.
    pub fn level(level: u8) -> Self {
        let share = f32::from(level.min(100)) / 100.0;
        let leaves = 16.0 * 2.0_f32.powf(share * 8.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "16 to 4,096")]
        let leaves = leaves as usize;
        Self {
            leaves,
            reach: 0.4 + 0.3 * share,
            doubt: 0.5 + share,
            compared: 24 + usize::from(level),
        }
    }

    /// The cosine that counts as too large among so many dimensions: in few, large ones are common. Where all are, infinity.
    #[expect(clippy::cast_precision_loss, reason = "at most 16,384")]
    pub(super) fn cosine(&self, dimensions: usize) -> f32 {
        let cosine = self.reach * (MANY / dimensions as f32).sqrt().max(1.0);
        if cosine < 1.0 { cosine } else { f32::INFINITY }
    }
}
