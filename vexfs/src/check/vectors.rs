// SPDX-License-Identifier: MIT OR Apache-2.0

//! Spaces and vectors: everything that names something is compared with what it names, and counted.
//!
//! Kept in memory: the spaces, and 24 bytes per slab. What an embedding or vector names is looked up.

use std::collections::BTreeMap;

use super::Stage;
use super::indexes::Indexed;
use super::issue::Issue;
use super::names::{Known, Names};
use super::records::Item;
use super::round::Round;
use super::text::{Name, RecordKind};
use crate::error::Result;
use crate::fs::read::read_extent;
use crate::fs::record::{Bytes, Inode, InodeKey, Kind, RowKey};
use crate::fs::vectors::record::SpaceState;
use crate::fs::vectors::record::{
    Embedding, EmbeddingKey, GrowingKey, Place, Slab, SlabKey, Space, SpaceKey, SpaceName, SpaceNameKey, Vector,
    VectorKey,
};
use crate::fs::vectors::slab::{self, Sealed};
use crate::meta::{Key, Record, encode_key};
use crate::units::{BLOCK_SIZE, FileBlock, Ino};

/// What was found of a space.
pub(super) struct Counted {
    pub(super) space: Space,
    /// Bytes of its store.
    pub(super) size: u64,
    vectors: u64,
    growing: u64,
    next: u64,
    /// Slabs by their first block, and the vectors that were found in each.
    pub(super) slabs: BTreeMap<u64, (Slab, u64)>,
    pub(super) index: Option<Indexed>,
}

pub(super) type Spaces = BTreeMap<Ino, Counted>;

impl Round<'_, '_> {
    /// Whether a file without names is the store of a space.
    pub(super) fn is_store(&self, ino: Ino) -> Result<bool> {
        Ok(self
            .records
            .record::<SpaceKey, Space>(&SpaceKey { space: ino })?
            .is_some())
    }

    /// Looks at all of them.
    pub(super) fn vectors(&mut self, names: &Names) -> Result<()> {
        let mut spaces = self.spaces(names)?;
        self.space_names(&spaces)?;
        self.slabs(&mut spaces)?;
        self.indexes(&mut spaces)?;
        self.embeddings(names, &spaces)?;
        self.each_vector(&mut spaces)?;
        self.growing(&spaces)?;
        self.compare_indexes(&mut spaces)?;
        self.compare_spaces(spaces);
        Ok(())
    }

    /// Every good record of a kind; the others are told and dropped.
    pub(super) fn each_record<K: Key, V: Record>(
        &mut self,
        kind: RecordKind,
        mut each: impl FnMut(&mut Self, K, V) -> Result<()>,
    ) -> Result<()> {
        let mut items = self.records.all::<K, V>()?;
        while let Some(item) = items.next()? {
            self.step(Stage::Vectors)?;
            match item {
                Item::Good(key, value) => each(self, key, value)?,
                Item::Bad(bytes, _, what) => {
                    self.undecodable(kind, &bytes, what);
                    self.drop_key(bytes);
                }
            }
        }
        Ok(())
    }

    fn spaces(&mut self, names: &Names) -> Result<Spaces> {
        let mut spaces = Spaces::new();
        self.each_record(RecordKind::Space, |round, key: SpaceKey, space: Space| {
            let inode: Option<Inode> = round.records.record(&InodeKey { ino: key.space })?;
            let size = inode.as_ref().map_or(0, |inode| inode.size);
            let usable = inode.is_some_and(|inode| inode.kind() == Kind::File && inode.links == 0);
            let known = names.get(key.space).is_some_and(Known::is_nameless);
            if !usable || !known {
                let name = Name(space.name.clone());
                round.issue(Issue::SpaceWithoutStore { space: key.space, name });
                round.drop_key(encode_key(&key));
                return Ok(());
            }
            let counted = Counted {
                space,
                size,
                vectors: 0,
                growing: 0,
                next: 1,
                slabs: BTreeMap::new(),
                index: None,
            };
            spaces.insert(key.space, counted);
            Ok(())
        })?;
        Ok(spaces)
    }

    fn space_names(&mut self, spaces: &Spaces) -> Result<()> {
        let mut told: BTreeMap<Box<[u8]>, Ino> = BTreeMap::new();
        self.each_record(RecordKind::SpaceName, |round, key: SpaceNameKey, name: SpaceName| {
            let space = Ino(name.space);
            let right = spaces
                .get(&space)
                .is_some_and(|counted| counted.space.state == SpaceState::Active && counted.space.name == key.name);
            if right {
                told.insert(key.name, space);
            } else {
                let shown = Name(key.name.clone());
                round.issue(Issue::SpaceNameWrong { space, name: shown });
                round.drop_key(encode_key(&key));
            }
            Ok(())
        })?;
        for (&space, counted) in spaces {
            let record = &counted.space;
            if record.state == SpaceState::Dropped || told.get(&record.name) == Some(&space) {
                continue;
            }
            let name = Name(record.name.clone());
            self.issue(Issue::SpaceNameWrong { space, name });
            let mut key = SpaceNameKey {
                name: record.name.clone(),
            };
            if told.contains_key(&record.name) {
                // Two of one name: this one gets another.
                key.name = format!("space-{}", space.0).into_bytes().into();
                let renamed = Space {
                    name: key.name.clone(),
                    ..record.clone()
                };
                self.put(&SpaceKey { space }, Some(&renamed));
            }
            told.insert(key.name.clone(), space);
            self.put(&key, Some(&SpaceName { space: space.0 }));
        }
        Ok(())
    }

    fn slabs(&mut self, spaces: &mut Spaces) -> Result<()> {
        self.each_record(RecordKind::Slab, |round, key: SlabKey, slab: Slab| {
            let SlabKey { space, at } = key;
            let fits = spaces.get_mut(&space).is_some_and(|counted| {
                let bytes = counted.space.shape.vector_bytes();
                let count = usize::try_from(slab.vectors).unwrap_or(usize::MAX);
                let behind = counted.slabs.last_key_value();
                let apart = behind.is_none_or(|(before, (slab, _))| before.saturating_add(slab.blocks) <= at);
                let fits = apart && count <= slab::capacity(bytes) && slab.blocks == slab::blocks(count, bytes);
                if fits {
                    counted.slabs.insert(at, (slab, 0));
                }
                fits
            });
            if !fits {
                round.issue(Issue::SlabWrong { space, at });
                round.drop_key(encode_key(&key));
            }
            Ok(())
        })
    }

    fn embeddings(&mut self, names: &Names, spaces: &Spaces) -> Result<()> {
        self.each_record(
            RecordKind::Embedding,
            |round, key: EmbeddingKey, embedding: Embedding| {
                let vector = embedding.vector;
                let record: Option<Vector> = round.records.record(&VectorKey {
                    space: key.space,
                    vector,
                })?;
                let right =
                    record.is_some_and(|record| record.ino == key.ino && u64::from(record.ordinal) == key.ordinal);
                if !right || names.get(key.ino).is_none() || !spaces.contains_key(&key.space) {
                    let EmbeddingKey { ino, space, ordinal } = key;
                    round.issue(Issue::EmbeddingOfNothing { ino, space, ordinal });
                    round.drop_key(encode_key(&key));
                }
                Ok(())
            },
        )
    }

    fn each_vector(&mut self, spaces: &mut Spaces) -> Result<()> {
        let mut buffer = Vec::new();
        self.each_record(RecordKind::Vector, |round, key: VectorKey, record: Vector| {
            let VectorKey { space, vector } = key;
            let ordinal = u64::from(record.ordinal);
            let embedding: Option<Embedding> = round.records.record(&EmbeddingKey {
                ino: record.ino,
                space,
                ordinal,
            })?;
            let named = embedding.is_some_and(|embedding| embedding.vector == vector);
            let Some(counted) = spaces.get_mut(&space).filter(|_| named) else {
                round.issue(Issue::VectorOfNothing { space, vector });
                round.drop_key(encode_key(&key));
                return Ok(());
            };
            let bytes = counted.space.shape.vector_bytes();
            let there = match record.place {
                Place::Growing => {
                    let growing: Option<Bytes> = round.records.record(&GrowingKey { space, vector })?;
                    growing.is_some_and(|growing| counted.space.shape.count(&growing.0) == Ok(1))
                }
                Place::Sealed(at) => {
                    let stride = slab::stride(bytes) as u64;
                    let slab = counted.slabs.range_mut(..=FileBlock::of(at).0).next_back();
                    slab.is_some_and(|(first, (slab, alive))| {
                        let offset = at - FileBlock(*first).byte_at();
                        let inside = offset.is_multiple_of(stride) && offset / stride < slab.vectors;
                        *alive += u64::from(inside);
                        inside
                    })
                }
            };
            if !there {
                round.issue(Issue::VectorLost {
                    space,
                    vector,
                    ino: record.ino,
                });
                round.drop_key(encode_key(&key));
                return Ok(());
            }
            counted.vectors += 1;
            counted.growing += u64::from(record.place == Place::Growing);
            counted.next = counted.next.max(vector + 1);
            if let Some(index) = &mut counted.index {
                index.meet(vector, &record);
            }
            if let (Place::Sealed(at), true) = (record.place, round.around.verify_data) {
                let right = round.holds(space, at, bytes, &mut buffer, |sealed| {
                    (sealed.space, sealed.vector, sealed.ino, sealed.ordinal)
                        == (space, vector, record.ino, record.ordinal)
                })?;
                if !right {
                    let ino = record.ino;
                    round.issue(Issue::VectorDamaged { space, vector, ino });
                }
            }
            Ok(())
        })
    }

    /// Whether the record at a byte of a store is the right one. If its blocks cannot be read, that is told with the blocks
    /// of the store.
    fn holds(
        &self,
        space: Ino,
        at: u64,
        vector_bytes: usize,
        buffer: &mut Vec<u8>,
        is_right: impl FnOnce(Sealed<'_>) -> bool,
    ) -> Result<bool> {
        let stride = slab::stride(vector_bytes) as u64;
        buffer.clear();
        let mut block = FileBlock::of(at);
        while block.byte_at() < at + stride {
            let Some(bytes) = self.store_block(space, block)? else {
                return Ok(true);
            };
            buffer.extend_from_slice(&bytes);
            block = block.plus(1);
        }
        let offset = usize::try_from(at % BLOCK_SIZE as u64).unwrap_or(0);
        let record = buffer.get(offset..).unwrap_or_default();
        Ok(Sealed::decode(record, vector_bytes).is_some_and(is_right))
    }

    pub(super) fn store_block(&self, space: Ino, block: FileBlock) -> Result<Option<Vec<u8>>> {
        use crate::data::chunk_of;
        use crate::data::row::{Ptr, Row};
        use crate::fs::{Extent, Source};
        let (chunk, index) = chunk_of(block);
        let row: Option<Row> = self.records.record(&RowKey { ino: space, chunk })?;
        let Some(Row::Map(map)) = row else { return Ok(None) };
        let source = match map.get(index) {
            Ptr::Data(block, crc) => Source::Blocks(crate::units::Run::new(block, 1), Some(vec![crc])),
            _ => return Ok(None),
        };
        let extent = Extent {
            at: block,
            count: 1,
            source,
        };
        let mut bytes = vec![0; BLOCK_SIZE];
        let read = read_extent(self.around.disk, &extent, &mut bytes);
        Ok(read.is_ok().then_some(bytes))
    }

    fn growing(&mut self, spaces: &Spaces) -> Result<()> {
        self.each_record(RecordKind::Growing, |round, key: GrowingKey, _: Bytes| {
            let GrowingKey { space, vector } = key;
            let record: Option<Vector> = round.records.record(&VectorKey { space, vector })?;
            let growing = record.is_some_and(|record| record.place == Place::Growing);
            if !growing || !spaces.contains_key(&space) {
                round.issue(Issue::VectorOfNothing { space, vector });
                round.drop_key(encode_key(&key));
            }
            Ok(())
        })
    }

    fn compare_spaces(&mut self, spaces: Spaces) {
        for (space, counted) in spaces {
            let Counted {
                space: record,
                vectors,
                growing,
                next,
                slabs,
                ..
            } = counted;
            for (at, (slab, alive)) in slabs {
                if slab.alive != alive {
                    let counted = slab.alive;
                    self.issue(Issue::SlabCountWrong {
                        space,
                        at,
                        counted,
                        found: alive,
                    });
                    self.put(&SlabKey { space, at }, Some(&Slab { alive, ..slab }));
                }
            }
            let right = Space {
                vectors,
                growing,
                next: record.next.max(next),
                ..record.clone()
            };
            if right != record {
                self.issue(Issue::SpaceCountsWrong {
                    space,
                    counted: record.vectors,
                    found: vectors,
                });
                // Its name may be mended by the same look.
                let name = self.fixed_name(space).unwrap_or_else(|| right.name.clone());
                self.put(&SpaceKey { space }, Some(&Space { name, ..right }));
            }
        }
    }

    fn fixed_name(&self, space: Ino) -> Option<Box<[u8]>> {
        let fixed = self.fixes.get(&encode_key(&SpaceKey { space }))?.as_ref()?;
        Space::decode(fixed).ok().map(|space| space.name)
    }
}
