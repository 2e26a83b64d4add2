// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tables of vectors, and the primitive changes of them that operations are made of.

use std::ops::Range;

use crate::error::Result;
use crate::fs::record::Bytes;
use crate::fs::state::{CacheLimits, State};
use crate::meta::{Frozen, Key, Previous, Record, Table, encoded};
use crate::units::Ino;

use super::record::{
    CentreKey, Embedding, EmbeddingKey, GrowingKey, IndexKey, IndexRecord, LeafKey, LeafRow, Slab, SlabKey, Space,
    SpaceKey, SpaceName, SpaceNameKey, Vector, VectorKey,
};

/// Every table of vectors, in the order of their tags: what is done to all of them is written once.
macro_rules! tables {
    ($($table:ident: $key:ident => $record:ident, $set:ident, $undo:ident, $limit:expr;)*) => {
        /// The maps, by kind of record.
        pub(in crate::fs) struct VectorTables {
            $(pub(super) $table: Table<$key, $record>,)*
            /// Vectors that went.
            pub(super) gone: Gone,
            /// Whether there may be spaces; none: not known yet.
            used: Option<bool>,
        }

        /// What a checkpoint writes of them.
        pub(in crate::fs) struct FrozenVectors {
            $($table: Frozen<$key, $record>,)*
        }

        impl FrozenVectors {
            /// Number of records.
            pub(in crate::fs) fn len(&self) -> usize {
                0 $(+ self.$table.len())*
            }

            /// Records in the order of their tags.
            pub(in crate::fs) fn records(&self) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> + '_ {
                std::iter::empty()$(.chain(encoded(&self.$table)))*
            }
        }

        impl VectorTables {
            /// Empty layers; see [`crate::fs::state::Tables::new`].
            pub(in crate::fs) fn new(limits: CacheLimits, unknown_to_base: Ino) -> Self {
                Self {
                    $($table: Table::new($limit(limits), unknown_to_base),)*
                    gone: Gone::default(),
                    used: None,
                }
            }

            /// Changed keys since the last freeze.
            pub(in crate::fs) fn active_len(&self) -> usize {
                0 $(+ self.$table.active_len())*
            }

            /// Changed keys that are not in the base.
            pub(in crate::fs) fn changed_len(&self) -> usize {
                0 $(+ self.$table.changed_len())*
            }

            /// Hands what changed to a checkpoint.
            pub(in crate::fs) fn freeze(&mut self) -> FrozenVectors {
                FrozenVectors {
                    $($table: self.$table.freeze(),)*
                }
            }

            /// The base now holds what was frozen.
            pub(in crate::fs) fn thawed(&mut self, unknown_to_base: Ino) {
                $(self.$table.thawed(unknown_to_base);)*
            }

            /// Puts an encoded record without its tag, if it is one of these; what does not decode is left out.
            pub(in crate::fs) fn plant(&mut self, tag: u8, key: &[u8], value: Option<&[u8]>) {
                match tag {
                    $($key::TAG => {
                        if let (Ok(key), Ok(value)) = ($key::decode(key), value.map($record::decode).transpose()) {
                            self.$table.set(&key, value);
                        }
                    })*
                    _ => {}
                }
            }
        }

        /// A change to be taken back.
        pub(in crate::fs) enum VectorUndo {
            $($undo($key, Previous<$record>),)*
        }

        impl VectorUndo {
            pub(in crate::fs) fn take_back(self, tables: &mut VectorTables) {
                match self {
                    $(Self::$undo(key, previous) => tables.$table.restore(&key, previous),)*
                }
            }
        }

        impl State {
            $(pub(super) fn $set(&mut self, key: $key, record: Option<$record>) {
                let previous = self.tables.vectors.$table.set(&key, record);
                self.note(VectorUndo::$undo(key, previous));
            })*
        }
    };
}

/// Vectors that went since somebody last asked, for what is kept in memory of them. Also some that came back, when a
/// transaction was taken back: who asks looks again.
#[derive(Debug, Default)]
pub(super) struct Gone {
    pub(super) vectors: Vec<(Ino, u64)>,
    /// There were too many to note.
    pub(super) overflowed: bool,
}

impl Gone {
    /// Noted at most: whoever searches seldom looks up again what is left.
    const MOST: usize = 65_536;

    pub(super) fn note(&mut self, space: Ino, vector: u64) {
        if self.vectors.len() < Self::MOST {
            self.vectors.push((space, vector));
        } else {
            self.overflowed = true;
        }
    }

    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}

const fn few(_: CacheLimits) -> usize {
    super::MAX_SPACES
}

const fn rows(limits: CacheLimits) -> usize {
    limits.rows
}

/// Vectors are long and seldom read alone.
const fn long(_: CacheLimits) -> usize {
    64
}

tables! {
    spaces: SpaceKey => Space, set_space, Space, few;
    names: SpaceNameKey => SpaceName, set_space_name, Name, few;
    embeddings: EmbeddingKey => Embedding, set_embedding, Embedding, rows;
    vectors: VectorKey => Vector, set_vector, Vector, rows;
    growing: GrowingKey => Bytes, set_growing, Growing, long;
    slabs: SlabKey => Slab, set_slab, Slab, few;
    indexes: IndexKey => IndexRecord, set_index, Index, few;
    leaves: LeafKey => LeafRow, set_leaf, Leaf, few;
    centres: CentreKey => Bytes, set_centre, Centre, long;
}

/// First and last key of what belongs to a file or space.
fn embeddings_of(ino: Ino, space: Ino) -> (EmbeddingKey, EmbeddingKey) {
    let at = |space| EmbeddingKey { ino, space, ordinal: 0 };
    (at(space), at(Ino(space.0.saturating_add(1))))
}

/// The same in all spaces.
fn all_embeddings_of(ino: Ino) -> (EmbeddingKey, EmbeddingKey) {
    let from = |ino| embeddings_of(ino, Ino(0)).0;
    (from(ino), from(Ino(ino.0.saturating_add(1))))
}

impl State {
    /// A space, also one that is being dropped.
    pub(in crate::fs) fn space(&mut self, space: Ino) -> Result<Option<&Space>> {
        self.tables.vectors.spaces.get(&self.base, &SpaceKey { space })
    }

    /// The space of a name.
    pub(in crate::fs) fn space_named(&mut self, name: &[u8]) -> Result<Option<Ino>> {
        let key = SpaceNameKey { name: name.into() };
        let found = self.tables.vectors.names.get(&self.base, &key)?;
        Ok(found.map(|name| Ino(name.space)))
    }

    /// Whether there are spaces, or were since the pool was opened. Pools without pay nothing for vectors of files.
    fn may_have_vectors(&mut self) -> Result<bool> {
        let vectors = &mut self.tables.vectors;
        if vectors.spaces.changed_len() > 0 {
            vectors.used = Some(true);
        }
        if let Some(used) = vectors.used {
            return Ok(used);
        }
        let (from, to) = (SpaceKey { space: Ino(0) }, SpaceKey { space: Ino(u64::MAX) });
        let used = !vectors.spaces.scan(&self.base, &from, &to, 1)?.is_empty();
        vectors.used = Some(used);
        Ok(used)
    }

    /// There is a space now. A checkpoint may come before anybody asks.
    pub(super) fn note_space(&mut self) {
        self.tables.vectors.used = Some(true);
    }

    /// All spaces, also those that are being dropped.
    pub(in crate::fs) fn spaces(&self) -> Result<Vec<(Ino, Space)>> {
        let (from, to) = (SpaceKey { space: Ino(0) }, SpaceKey { space: Ino(u64::MAX) });
        let found = self.tables.vectors.spaces.scan(&self.base, &from, &to, usize::MAX)?;
        Ok(found.into_iter().map(|(key, space)| (key.space, space)).collect())
    }

    pub(super) fn embedding(&mut self, key: EmbeddingKey) -> Result<Option<u64>> {
        let found = self.tables.vectors.embeddings.get(&self.base, &key)?;
        Ok(found.map(|embedding| embedding.vector))
    }

    /// Ordinals and vectors of a file in a space.
    pub(in crate::fs) fn embeddings_in(&self, ino: Ino, space: Ino, limit: usize) -> Result<Vec<(EmbeddingKey, u64)>> {
        let (from, to) = embeddings_of(ino, space);
        self.scan_embeddings(&from, &to, limit)
    }

    /// The same in all spaces.
    pub(in crate::fs) fn embeddings(&mut self, ino: Ino, limit: usize) -> Result<Vec<(EmbeddingKey, u64)>> {
        if !self.may_have_vectors()? {
            return Ok(Vec::new());
        }
        let (from, to) = all_embeddings_of(ino);
        self.scan_embeddings(&from, &to, limit)
    }

    /// Whether a file has vectors in any space, also in one that is being dropped. Asked again it costs a look into a map.
    pub(in crate::fs) fn has_vectors(&mut self, ino: Ino) -> Result<bool> {
        if !self.may_have_vectors()? {
            return Ok(false);
        }
        let (from, to) = all_embeddings_of(ino);
        self.tables.vectors.embeddings.has_any(&self.base, ino, &from, &to)
    }

    pub(super) fn scan_embeddings(
        &self,
        from: &EmbeddingKey,
        to: &EmbeddingKey,
        limit: usize,
    ) -> Result<Vec<(EmbeddingKey, u64)>> {
        let found = self.tables.vectors.embeddings.scan(&self.base, from, to, limit)?;
        Ok(found
            .into_iter()
            .map(|(key, embedding)| (key, embedding.vector))
            .collect())
    }

    /// The spaces that a file has vectors in, in order of their numbers. Costs a scan per space, not per vector.
    pub(in crate::fs) fn spaces_of(&mut self, ino: Ino) -> Result<Vec<(Ino, Space)>> {
        let mut found = Vec::new();
        if !self.may_have_vectors()? {
            return Ok(found);
        }
        let (mut from, to) = all_embeddings_of(ino);
        while let Some((key, _)) = self.scan_embeddings(&from, &to, 1)?.first() {
            let space = key.space;
            from = embeddings_of(ino, Ino(space.0.saturating_add(1))).0;
            if let Some(record) = self.space(space)? {
                found.push((space, record.clone()));
            }
        }
        Ok(found)
    }

    /// A vector of a space.
    pub(in crate::fs) fn vector(&mut self, space: Ino, vector: u64) -> Result<Option<Vector>> {
        let key = VectorKey { space, vector };
        Ok(self.tables.vectors.vectors.get(&self.base, &key)?.copied())
    }

    /// Vectors of a space from a number on.
    pub(in crate::fs) fn vectors_from(&self, space: Ino, from: u64, limit: usize) -> Result<Vec<(u64, Vector)>> {
        let key = |vector| VectorKey { space, vector };
        let tables = &self.tables.vectors;
        let found = tables.vectors.scan(&self.base, &key(from), &key(u64::MAX), limit)?;
        Ok(found.into_iter().map(|(key, vector)| (key.vector, vector)).collect())
    }

    pub(super) fn growing(&mut self, space: Ino, vector: u64) -> Result<Option<&Bytes>> {
        let key = GrowingKey { space, vector };
        self.tables.vectors.growing.get(&self.base, &key)
    }

    /// Growing vectors of a space from a number on, at most so many and about so many bytes.
    pub(in crate::fs) fn growing_from(&self, space: Ino, from: u64, limit: usize) -> Result<Vec<(u64, Box<[u8]>)>> {
        let key = |vector| GrowingKey { space, vector };
        let tables = &self.tables.vectors;
        let found = tables.growing.scan(&self.base, &key(from), &key(u64::MAX), limit)?;
        Ok(found.into_iter().map(|(key, bytes)| (key.vector, bytes.0)).collect())
    }

    /// Slabs of a space from a block of its store on.
    pub(in crate::fs) fn slabs_from(&self, space: Ino, from: u64, limit: usize) -> Result<Vec<(u64, Slab)>> {
        let key = |at| SlabKey { space, at };
        let tables = &self.tables.vectors;
        let found = tables.slabs.scan(&self.base, &key(from), &key(u64::MAX), limit)?;
        Ok(found.into_iter().map(|(key, slab)| (key.at, slab)).collect())
    }

    pub(super) fn slab(&mut self, space: Ino, at: u64) -> Result<Option<Slab>> {
        let key = SlabKey { space, at };
        Ok(self.tables.vectors.slabs.get(&self.base, &key)?.copied())
    }

    /// The index of a space.
    pub(in crate::fs) fn index(&mut self, space: Ino) -> Result<Option<&IndexRecord>> {
        self.tables.vectors.indexes.get(&self.base, &IndexKey { space })
    }

    pub(super) fn leaf(&mut self, space: Ino, leaf: u64) -> Result<Option<LeafRow>> {
        let key = LeafKey { space, leaf };
        Ok(self.tables.vectors.leaves.get(&self.base, &key)?.copied())
    }

    /// Leaves of a space, of these numbers.
    pub(super) fn leaves_in(&self, space: Ino, leaves: Range<u64>, limit: usize) -> Result<Vec<(u64, LeafRow)>> {
        let key = |leaf| LeafKey { space, leaf };
        let tables = &self.tables.vectors;
        let found = tables
            .leaves
            .scan(&self.base, &key(leaves.start), &key(leaves.end), limit)?;
        Ok(found.into_iter().map(|(key, row)| (key.leaf, row)).collect())
    }

    /// Centres of leaves of a space, of these numbers.
    pub(super) fn centres_in(&self, space: Ino, leaves: Range<u64>, limit: usize) -> Result<Vec<(u64, Box<[u8]>)>> {
        let key = |leaf| CentreKey { space, leaf };
        let tables = &self.tables.vectors;
        let found = tables
            .centres
            .scan(&self.base, &key(leaves.start), &key(leaves.end), limit)?;
        Ok(found.into_iter().map(|(key, bytes)| (key.leaf, bytes.0)).collect())
    }
}
