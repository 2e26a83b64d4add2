// SPDX-License-Identifier: MIT OR Apache-2.0

//! How to search under a filter: compare the few that match, scan every leaf, or route.

use crate::vector::index::effort::Effort;

/// Matches up to which comparing all of them is cheapest.
const FEW: usize = 4096;
/// Vectors up to which every leaf may be scanned: with a filter in the scan, that is about a millisecond.
const ALL_LEAVES: usize = 1_000_000;
/// Share of matching vectors above which a filter needs no further effort.
const MOST: f32 = 0.5;
/// Most times that the number of leaves is raised.
const RAISED: f32 = 32.0;

/// A way to search.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Plan {
    /// Find the ids that match by other means, and compare them all (`Index::search_among`).
    Among,
    /// Search with the filter's mask and this effort.
    Masked(Effort),
}

/// The way to search `total` vectors of which about `matching` pass the filter.
///
/// A filter thins out what leaves hold, so more of them are needed for the same number of answers, the more the fewer match;
/// and the reach that passes over leaves would judge them by items that the filter then refuses.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate"
)]
pub fn plan(effort: Effort, total: usize, matching: usize) -> Plan {
    if matching <= FEW {
        return Plan::Among;
    }
    let share = matching as f32 / total.max(1) as f32;
    if share > MOST {
        return Plan::Masked(effort);
    }
    let leaves = if total <= ALL_LEAVES {
        usize::MAX
    } else {
        let raised = share.powf(-0.4).clamp(1.0, RAISED);
        (effort.leaves.min(1 << 24) as f32 * raised) as usize
    };
    Plan::Masked(Effort {
        leaves,
        reach: f32::INFINITY,
        compared: effort.compared.saturating_mul(3),
        ..effort
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewer_match_the_more_is_read_until_all_that_match_are_compared() {
        let effort = Effort::default();
        assert_eq!(plan(effort, 10_000_000, 9_000_000), Plan::Masked(effort));
        let leaves = |matching| match plan(effort, 10_000_000, matching) {
            Plan::Masked(effort) => effort.leaves,
            Plan::Among => usize::MAX,
        };
        assert!(leaves(1_000_000) > effort.leaves && leaves(100_000) > leaves(1_000_000));
        assert_eq!(plan(effort, 10_000_000, 4096), Plan::Among);
        assert!(matches!(
            plan(effort, 500_000, 50_000),
            Plan::Masked(Effort { leaves: usize::MAX, .. })
        ));
    }
}
