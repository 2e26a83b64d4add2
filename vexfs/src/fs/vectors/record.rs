// SPDX-License-Identifier: MIT OR Apache-2.0

//! The records of vectors; notation as in [`crate::fs::record`]. The number of a space is the inode number of its store.
//!
//! | tag | record | key | value |
//! |---|---|---|---|
//! | 17 | space | space 8 | version 1 · state 1 · element 1 · metric 1 · dimensions v · effort v · created 8 · next vector v · vectors v · growing v · name length v, name · fields v, then per field: kind 1, length v, name |
//! | 18 | name of a space | name | space v |
//! | 19 | embedding | ino 8 · space 8 · ordinal 8 | vector v |
//! | 20 | vector | space 8 · vector 8 | ino v · ordinal v · of 8 · place v (0: growing; else 1 + byte in the store) · indexed 1 |
//! | 21 | bytes of a growing vector | space 8 · vector 8 | the bytes |
//! | 22 | slab | space 8 · first file block of the store 8 | blocks v · vectors v · alive v |
//! | 23 | index | space 8 | version 1 · state 1 · tier 1 · seed 8 · below v · origin |
//! | 24 | leaf | space 8 · leaf 8 | generation v · items v · stuck v · centred v · inner 4 · outer 4 · at v · blocks v |
//! | 25 | centre of a leaf | space 8 · leaf 8 | the centre |

use crate::codec::{DecodeError, Reader, Writer};
use crate::fs::record::{Timestamp, be64, keys};
use crate::meta::{Key, Record};
use crate::units::Ino;
use crate::vector::codec::Tier;
use crate::vector::codec::block::MAX_ITEMS;

use super::space::{Element, Field, Metric, Shape};
use super::{MAX_FIELDS, MAX_ORDINALS, MAX_VECTOR};

type Decoded<T> = std::result::Result<T, DecodeError>;

keys! {
    /// Key of a [`Space`].
    SpaceKey = 17 { space: Ino } owner |key| Some(key.space);
    /// Key of an [`Embedding`].
    EmbeddingKey = 19 { ino: Ino, space: Ino, ordinal: u64 } owner |key| Some(key.ino);
    /// Key of a [`Vector`].
    VectorKey = 20 { space: Ino, vector: u64 } owner |key| Some(key.space);
    /// Key of the bytes of a growing vector.
    GrowingKey = 21 { space: Ino, vector: u64 } owner |key| Some(key.space);
    /// Key of a [`Slab`].
    SlabKey = 22 { space: Ino, at: u64 } owner |key| Some(key.space);
    /// Key of an [`IndexRecord`].
    IndexKey = 23 { space: Ino } owner |key| Some(key.space);
    /// Key of a [`LeafRow`].
    LeafKey = 24 { space: Ino, leaf: u64 } owner |key| Some(key.space);
    /// Key of the centre of a leaf.
    CentreKey = 25 { space: Ino, leaf: u64 } owner |key| Some(key.space);
}

/// Key of a name of a space.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SpaceNameKey {
    /// The name.
    pub name: Box<[u8]>,
}

impl Key for SpaceNameKey {
    const TAG: u8 = 18;

    fn encode(&self, out: &mut Vec<u8>) {
        out.put(&self.name);
    }

    fn decode(bytes: &[u8]) -> Decoded<Self> {
        Ok(Self { name: bytes.into() })
    }

    fn owner(&self) -> Option<Ino> {
        None
    }
}

/// Whether a space is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpaceState {
    /// It is.
    Active,
    /// It has lost its name and is being taken apart.
    Dropped,
}

/// A space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// Whether it is in use.
    pub state: SpaceState,
    /// What its vectors are.
    pub shape: Shape,
    /// How much searches do unless they say it; 0: what is built in.
    pub effort: u16,
    /// When it was made.
    pub created: Timestamp,
    /// The next vector gets this number.
    pub next: u64,
    /// Vectors that files have.
    pub vectors: u64,
    /// Those of them whose bytes are in records.
    pub growing: u64,
    /// Its name.
    pub name: Box<[u8]>,
    /// What it declares, in order.
    pub fields: Vec<Field>,
}

impl Record for Space {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(1);
        out.put_u8(match self.state {
            SpaceState::Active => 0,
            SpaceState::Dropped => 1,
        });
        out.put_u8(self.shape.element as u8);
        out.put_u8(self.shape.metric as u8);
        out.put_varint(u64::from(self.shape.dimensions));
        out.put_varint(u64::from(self.effort));
        out.put_u64(self.created.0.cast_unsigned());
        for number in [self.next, self.vectors, self.growing] {
            out.put_varint(number);
        }
        out.put_counted(&self.name);
        out.put_varint(self.fields.len() as u64);
        for field in &self.fields {
            out.put_u8(field.kind);
            out.put_counted(&field.name);
        }
    }

    fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new(bytes);
        match reader.u8("space version")? {
            1 => {}
            other => return Err(DecodeError::invalid("space version", other)),
        }
        let state = match reader.u8("space state")? {
            0 => SpaceState::Active,
            1 => SpaceState::Dropped,
            other => return Err(DecodeError::invalid("space state", other)),
        };
        let (element, metric) = (reader.u8("element")?, reader.u8("metric")?);
        let element = Element::of_number(element).ok_or(DecodeError::invalid("element", element))?;
        let metric = Metric::of_number(metric).ok_or(DecodeError::invalid("metric", metric))?;
        let dimensions = reader.varint32("dimensions")?;
        let shape = Shape::new(dimensions, element, metric);
        let shape = shape.map_err(|_| DecodeError::invalid("dimensions or metric", dimensions))?;
        let effort = reader.varint("effort")?;
        let effort = u16::try_from(effort).map_err(|_| DecodeError::invalid("effort", effort))?;
        let created = Timestamp(reader.u64("created")?.cast_signed());
        let next = reader.varint("next vector")?;
        if next > MAX_VECTOR {
            return Err(DecodeError::invalid("next vector", next));
        }
        let (vectors, growing) = (reader.varint("vectors")?, reader.varint("growing")?);
        if vectors > next || growing > vectors {
            return Err(DecodeError::invalid("vectors", vectors));
        }
        let name = reader.counted("name")?;
        if !super::space::is_name(name) {
            return Err(DecodeError::invalid("name", name.len() as u64));
        }
        let count = reader.varint("fields")?;
        if count > MAX_FIELDS as u64 {
            return Err(DecodeError::invalid("fields", count));
        }
        let fields: Decoded<Vec<Field>> = (0..count)
            .map(|_| {
                let kind = reader.u8("field kind")?;
                let name = reader.counted("field name")?;
                Field::decode(&[&[kind], name].concat()).ok_or(DecodeError::invalid("field", kind))
            })
            .collect();
        let space = Self {
            state,
            shape,
            effort,
            created,
            next,
            vectors,
            growing,
            name: name.into(),
            fields: fields?,
        };
        reader.end()?;
        Ok(space)
    }
}

/// A record of numbers alone.
macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident < $limit:expr),* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name { $($(#[$field_doc])* pub $field: u64),* }

        impl Record for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                $(out.put_varint(self.$field);)*
            }

            fn decode(bytes: &[u8]) -> Decoded<Self> {
                let mut reader = Reader::new(bytes);
                let record = Self { $($field: reader.varint(stringify!($field))?),* };
                reader.end()?;
                $(if record.$field >= $limit {
                    return Err(DecodeError::invalid(stringify!($field), record.$field));
                })*
                Ok(record)
            }
        }
    )*};
}

numbers! {
    /// What a name of a space stands for.
    SpaceName {
        /// The space.
        space < u64::MAX
    }
    /// A vector of a file.
    Embedding {
        /// Its number in the space.
        vector < MAX_VECTOR
    }
    /// A stretch of a space's store.
    Slab {
        /// Blocks, from the one in the key on.
        blocks < 1 << 20,
        /// Vectors in it.
        vectors < 1 << 20,
        /// Those of them that files still have.
        alive < 1 << 20
    }
}

/// Where the bytes of a vector are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a record.
    Growing,
    /// In a slab: byte offset in the store.
    Sealed(u64),
}

/// A vector, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vector {
    /// The file.
    pub ino: Ino,
    /// Which of the file's.
    pub ordinal: u32,
    /// When the contents were modified that it was made from.
    pub of: Timestamp,
    /// Where its bytes are.
    pub place: Place,
    /// Whether it is in a leaf of the index, as far as there is one.
    pub indexed: bool,
}

impl Record for Vector {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.ino.0);
        out.put_varint(u64::from(self.ordinal));
        out.put_u64(self.of.0.cast_unsigned());
        out.put_varint(match self.place {
            Place::Growing => 0,
            Place::Sealed(at) => at + 1,
        });
        out.put_u8(u8::from(self.indexed));
    }

    fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new(bytes);
        let ino = Ino(reader.varint("ino")?);
        let ordinal = reader.varint32("ordinal")?;
        if ordinal >= MAX_ORDINALS {
            return Err(DecodeError::invalid("ordinal", ordinal));
        }
        let of = Timestamp(reader.u64("of")?.cast_signed());
        let place = match reader.varint("place")? {
            0 => Place::Growing,
            at if at <= crate::fs::MAX_FILE_BYTES => Place::Sealed(at - 1),
            at => return Err(DecodeError::invalid("place", at)),
        };
        let indexed = match reader.u8("indexed")? {
            0 => false,
            1 => true,
            other => return Err(DecodeError::invalid("indexed", other)),
        };
        reader.end()?;
        Ok(Self {
            ino,
            ordinal,
            of,
            place,
            indexed,
        })
    }
}

/// Whether an index is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexState {
    /// It is being built: what there is of it says nothing.
    Building,
    /// It is.
    InUse,
}

/// The index of a space. Without one, or while it is built, every vector is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexRecord {
    /// Whether it is used.
    pub state: IndexState,
    /// Sharper codes beside the one-bit ones.
    pub tier: Tier,
    /// Of the rotation.
    pub seed: u64,
    /// All vectors with smaller numbers are in leaves.
    pub below: u64,
    /// A point near the middle of all, as [`encode_centre`](crate::vector::index::store::encode_centre) makes it; empty: zero.
    pub origin: Box<[u8]>,
}

impl Record for IndexRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(1);
        out.put_u8(match self.state {
            IndexState::Building => 0,
            IndexState::InUse => 1,
        });
        out.put_u8(self.tier as u8);
        out.put_u64(self.seed);
        out.put_varint(self.below);
        out.put(&self.origin);
    }

    fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new(bytes);
        match reader.u8("index version")? {
            1 => {}
            other => return Err(DecodeError::invalid("index version", other)),
        }
        let state = match reader.u8("index state")? {
            0 => IndexState::Building,
            1 => IndexState::InUse,
            other => return Err(DecodeError::invalid("index state", other)),
        };
        let tier = reader.u8("tier")?;
        let tier = Tier::of_number(tier).ok_or(DecodeError::invalid("tier", tier))?;
        let seed = reader.u64("seed")?;
        let below = reader.varint("below")?;
        if below > MAX_VECTOR {
            return Err(DecodeError::invalid("below", below));
        }
        let origin = reader.bytes(reader.remaining(), "origin")?.into();
        Ok(Self {
            state,
            tier,
            seed,
            below,
            origin,
        })
    }
}

/// A leaf of an index: what is known of its items, and where its blocks are in the space's store.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LeafRow {
    /// Counts how often it was written.
    pub generation: u32,
    /// Items in it.
    pub items: u32,
    /// Items at the last attempt to split it that found nothing to split.
    pub stuck: u32,
    /// Items when its centre was put into their middle.
    pub centred: u32,
    /// Between these distances from the centre lie its items.
    pub radii: [f32; 2],
    /// First block, of the store.
    pub at: u64,
    /// Blocks.
    pub blocks: u64,
}

impl Record for LeafRow {
    fn encode(&self, out: &mut Vec<u8>) {
        for number in [self.generation, self.items, self.stuck, self.centred] {
            out.put_varint(u64::from(number));
        }
        for radius in self.radii {
            out.put_u32(radius.to_bits());
        }
        out.put_varint(self.at);
        out.put_varint(self.blocks);
    }

    fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new(bytes);
        let row = Self {
            generation: reader.varint32("generation")?,
            items: reader.varint32("items")?,
            stuck: reader.varint32("stuck")?,
            centred: reader.varint32("centred")?,
            radii: [reader.u32("inner")?, reader.u32("outer")?].map(f32::from_bits),
            at: reader.varint("at")?,
            blocks: reader.varint("blocks")?,
        };
        reader.end()?;
        if row.radii.iter().any(|radius| !radius.is_finite()) {
            return Err(DecodeError::invalid("radius", row.radii[0].to_bits()));
        }
        let end = row.at.checked_add(row.blocks);
        if end.is_none_or(|end| end > crate::fs::MAX_FILE_BLOCKS) || row.items == 0 || row.items as usize > MAX_ITEMS {
            return Err(DecodeError::invalid("leaf", row.at));
        }
        Ok(row)
    }
}

/// A leaf as an operation carries it: its number, its record, and its centre unless that stays as it is.
pub fn encode_leaf(leaf: u32, row: &LeafRow, centre: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u32(leaf);
    let mut record = Vec::new();
    row.encode(&mut record);
    out.put_counted(&record);
    out.put(centre);
    out
}

/// The reverse, of untrusted bytes.
pub fn decode_leaf(bytes: &[u8]) -> Decoded<(u32, LeafRow, &[u8])> {
    let mut reader = Reader::new(bytes);
    let leaf = reader.u32("leaf")?;
    let row = LeafRow::decode(reader.counted("leaf record")?)?;
    Ok((leaf, row, reader.bytes(reader.remaining(), "centre")?))
}
