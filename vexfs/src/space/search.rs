// SPDX-License-Identifier: MIT OR Apache-2.0

//! The next group that may hold a long enough run: a tree of maxima over one number per group.
//!
//! A leaf is an *upper bound* of the longest free run of its group. Taking blocks leaves it as it is, so that the common
//! case touches no tree; a search that fails in a group lowers it to the truth; giving blocks back raises it. The owner
//! (`super::Space`) keeps one rule: a leaf is 0 exactly when its group has no free block.
//!
//! Sixteen children per node: a node is half a cache line, and a million groups are five levels.

const CHILDREN: usize = 16;

/// Upper bounds, and the maxima over them.
#[derive(Debug)]
pub(super) struct MaxTree {
    /// `levels[0]` are the leaves, the last level is the root alone. Entry `i` of a level is the maximum of entries
    /// `16 i .. 16 i + 16` of the level before, as far as they exist.
    levels: Vec<Vec<u16>>,
}

impl MaxTree {
    /// Over these leaves.
    pub(super) fn new(leaves: Vec<u16>) -> Self {
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            levels.push(below.chunks(CHILDREN).map(maximum).collect());
        }
        Self { levels }
    }

    /// Replaces the leaves from a group on, by more than there were.
    pub(super) fn replace_from(&mut self, group: usize, bounds: impl IntoIterator<Item = u16>) {
        let mut leaves = self.levels.swap_remove(0);
        leaves.truncate(group);
        leaves.extend(bounds);
        *self = Self::new(leaves);
    }

    /// The bound of a group.
    #[cfg(test)]
    pub(super) fn bound(&self, group: usize) -> u16 {
        self.levels[0][group]
    }

    /// The largest bound.
    pub(super) fn largest(&self) -> u16 {
        self.levels.last().map_or(0, |root| maximum(root))
    }

    /// Raises the bound of a group to at least `bound`.
    pub(super) fn raise(&mut self, group: usize, bound: u16) {
        let mut index = group;
        for level in &mut self.levels {
            if level[index] >= bound {
                return;
            }
            level[index] = bound;
            index /= CHILDREN;
        }
    }

    /// Lowers the bound of a group to at most `bound`.
    pub(super) fn lower(&mut self, group: usize, bound: u16) {
        let mut index = group;
        let mut value = bound;
        for depth in 0..self.levels.len() {
            let old = self.levels[depth][index];
            if old <= value {
                return;
            }
            self.levels[depth][index] = value;
            let parent = index / CHILDREN;
            // A smaller child cannot change a maximum that another child holds.
            if self.levels.get(depth + 1).is_none_or(|above| above[parent] > old) {
                return;
            }
            value = maximum(children(&self.levels[depth], parent));
            index = parent;
        }
    }

    /// The first group at or after `from` whose bound is at least `want`.
    pub(super) fn next(&self, from: usize, want: u16) -> Option<usize> {
        let mut index = from;
        for (depth, level) in self.levels.iter().enumerate() {
            let end = (index / CHILDREN + 1) * CHILDREN;
            let rest = level.get(index..end.min(level.len()))?;
            if let Some(offset) = rest.iter().position(|bound| *bound >= want) {
                return self.descend(depth, index + offset, want);
            }
            index = end / CHILDREN;
        }
        None
    }

    /// The first leaf below an entry that holds what the entry promises.
    fn descend(&self, depth: usize, entry: usize, want: u16) -> Option<usize> {
        self.levels[..depth].iter().rev().try_fold(entry, |parent, level| {
            let offset = children(level, parent).iter().position(|bound| *bound >= want)?;
            Some(parent * CHILDREN + offset)
        })
    }

    /// Whether every entry is the maximum of its children.
    #[cfg(test)]
    pub(super) fn is_consistent(&self) -> bool {
        self.levels
            .windows(2)
            .all(|pair| pair[0].chunks(CHILDREN).map(maximum).eq(pair[1].iter().copied()))
    }
}

fn children(level: &[u16], parent: usize) -> &[u16] {
    let start = parent * CHILDREN;
    &level[start..(start + CHILDREN).min(level.len())]
}

fn maximum(bounds: &[u16]) -> u16 {
    bounds.iter().copied().fold(0, u16::max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(crate::space::tests::seeded(64))]

        #[test]
        fn the_tree_answers_as_a_scan_would(
            leaves in prop::collection::vec(0..9_u16, 1..700),
            steps in prop::collection::vec((any::<prop::sample::Index>(), 0..10_u16, any::<bool>()), 1..60),
            more in prop::collection::vec(0..9_u16, 1..300),
        ) {
            let mut plain = leaves.clone();
            let mut tree = MaxTree::new(leaves);
            for (place, value, raise) in steps {
                let group = place.index(plain.len());
                if raise {
                    tree.raise(group, value);
                    plain[group] = plain[group].max(value);
                } else {
                    tree.lower(group, value);
                    plain[group] = plain[group].min(value);
                }
                prop_assert!(tree.is_consistent());
                prop_assert_eq!(tree.bound(group), plain[group]);
                prop_assert_eq!(Some(tree.largest()), plain.iter().copied().max());
                let expected = (group..plain.len()).find(|index| plain[*index] >= value);
                prop_assert_eq!(tree.next(group, value), expected);
            }
            plain.pop();
            tree.replace_from(plain.len(), more.iter().copied());
            plain.extend(more);
            prop_assert!(tree.is_consistent());
            prop_assert_eq!(tree.next(plain.len(), 0), None);
            for (group, bound) in plain.iter().enumerate() {
                prop_assert_eq!(tree.bound(group), *bound);
            }
        }
    }
}
