// SPDX-License-Identifier: MIT OR Apache-2.0

//! Things that were read and may be wanted again, up to so many bytes of them. What is pushed out is not chosen. What a
//! number means never changes: nothing that is held can be out of date.

use parking_lot::RwLock;
use rustc_hash::FxHashMap;

use crate::units::Ino;

/// See the module.
pub(super) struct Cache<V> {
    held: RwLock<Held<V>>,
    budget: usize,
}

struct Held<V> {
    values: FxHashMap<(Ino, u64), (V, usize)>,
    bytes: usize,
}

/// What a value costs besides its bytes, about.
const OVERHEAD: usize = 64;

impl<V> Cache<V> {
    pub(super) fn new(budget: usize) -> Self {
        Self {
            held: RwLock::new(Held {
                values: FxHashMap::default(),
                bytes: 0,
            }),
            budget,
        }
    }

    /// Shows what there is of each.
    pub(super) fn get_all(&self, space: Ino, ids: impl Iterator<Item = u64>, mut each: impl FnMut(usize, Option<&V>)) {
        let held = self.held.read();
        for (at, id) in ids.enumerate() {
            each(at, held.values.get(&(space, id)).map(|(value, _)| value));
        }
    }

    pub(super) fn put(&self, space: Ino, id: u64, value: V, bytes: usize) {
        let bytes = bytes + OVERHEAD;
        let mut held = self.held.write();
        let Held { values, bytes: total } = &mut *held;
        *total += bytes;
        if let Some((_, old)) = values.insert((space, id), (value, bytes)) {
            *total -= old;
        }
        if *total > self.budget {
            let goal = self.budget / 8 * 7;
            values.retain(|_, (_, bytes)| {
                let stays = *total <= goal;
                if !stays {
                    *total -= *bytes;
                }
                stays
            });
        }
    }

    pub(super) fn remove(&self, space: Ino, ids: impl Iterator<Item = u64>) {
        let mut held = self.held.write();
        for id in ids {
            if let Some((_, bytes)) = held.values.remove(&(space, id)) {
                held.bytes -= bytes;
            }
        }
    }

    pub(super) fn remove_space(&self, space: Ino) {
        let mut held = self.held.write();
        let Held { values, bytes: total } = &mut *held;
        values.retain(|(other, _), (_, bytes)| {
            let stays = *other != space;
            if !stays {
                *total -= *bytes;
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_allowed_and_what_is_held_is_found() {
        let cache = Cache::new(100 * (OVERHEAD + 10));
        for id in 0..1000 {
            cache.put(Ino(1), id, id, 10);
            cache.put(Ino(2), id, id + 1, 10);
            let held = cache.held.read();
            assert!(held.bytes <= cache.budget && held.values.len() * (OVERHEAD + 10) == held.bytes);
        }
        let mut found = 0;
        cache.get_all(Ino(2), 0..1000, |at, value| {
            if let Some(value) = value {
                assert_eq!(*value, at as u64 + 1);
                found += 1;
            }
        });
        assert!(found > 0);
        cache.remove_space(Ino(2));
        cache.remove(Ino(1), 0..1000);
        let held = cache.held.read();
        assert_eq!((held.bytes, held.values.len()), (0, 0));
    }
}
