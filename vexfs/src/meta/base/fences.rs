// SPDX-License-Identifier: MIT OR Apache-2.0

//! A sorted list of keys in memory, made for one question: which is the last that is not greater than a given one?
//!
//! The bytes of all keys lie in one vector. A second vector holds of each key the eight bytes that follow the prefix common
//! to all, as a number: the search runs over it and looks at whole keys only where the numbers are equal.

use std::cmp::Ordering;

use super::data::common;

pub(super) struct Fences {
    prefix: usize,
    heads: Vec<u64>,
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

fn head(rest: &[u8]) -> u64 {
    if let Some(eight) = rest.first_chunk() {
        return u64::from_be_bytes(*eight);
    }
    rest.iter()
        .zip([56, 48, 40, 32, 24, 16, 8])
        .fold(0, |head, (byte, shift)| head | u64::from(*byte) << shift)
}

impl Fences {
    /// From keys in ascending order.
    pub(super) fn new<'a>(keys: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for key in keys {
            bytes.extend_from_slice(key);
            ends.push(bytes.len());
        }
        Self::from_parts(bytes, ends)
    }

    /// From keys in ascending order that lie one after the other, and where each of them ends.
    pub(super) fn from_parts(bytes: Vec<u8>, ends: Vec<usize>) -> Self {
        let mut fences = Self {
            prefix: 0,
            heads: Vec::new(),
            ends,
            bytes,
        };
        if let Some(last) = fences.ends.len().checked_sub(1) {
            fences.prefix = common(fences.key(0), fences.key(last));
            let heads = (0..=last).map(|index| head(&fences.key(index)[fences.prefix..]));
            fences.heads = heads.collect();
        }
        fences
    }

    /// Key `index` < number of keys.
    pub(super) fn key(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    /// Index of the last key that is not greater.
    pub(super) fn find(&self, key: &[u8]) -> Option<usize> {
        let prefix = self.bytes.get(..self.prefix)?;
        let (start, rest) = key.split_at(self.prefix.min(key.len()));
        match start.cmp(prefix) {
            Ordering::Less => return None,
            Ordering::Greater => return self.heads.len().checked_sub(1),
            Ordering::Equal => {}
        }
        let wanted = head(rest);
        let mut after = self.heads.partition_point(|head| *head <= wanted);
        while after > 0 && self.heads[after - 1] == wanted && self.key(after - 1) > key {
            after -= 1;
        }
        after.checked_sub(1)
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        16 * self.heads.capacity() + self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn the_search_agrees_with_comparing_every_key(
            keys in proptest::collection::btree_set(proptest::collection::vec(0_u8..3, 0..14), 0..40),
            wanted in proptest::collection::vec(0_u8..3, 0..14),
            prefix in proptest::collection::vec(0_u8..3, 0..4),
        ) {
            let keys: BTreeSet<Vec<u8>> = keys.into_iter().map(|key| [&prefix[..], &key].concat()).collect();
            let fences = Fences::new(keys.iter().map(Vec::as_slice));
            for wanted in [[&prefix[..], &wanted].concat(), wanted] {
                let expected = keys.iter().filter(|key| **key <= wanted).count().checked_sub(1);
                prop_assert_eq!(fences.find(&wanted), expected);
            }
        }
    }
}
