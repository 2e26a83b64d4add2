// SPDX-License-Identifier: MIT OR Apache-2.0

//! Vectors of files on their way. As attributes they could be too long, and would lose what they were made of and where
//! ordinals are missing, so they go beside them, with what their space is: where there is none of that name, it is made.

use std::collections::HashMap;

use anyhow::Result;
use vexfs::fs::record::Timestamp;
use vexfs::fs::vectors::record::Space;
use vexfs::fs::vectors::space::{Field, Shape};
use vexfs::fs::vectors::{MAX_ORDINALS, NewSpace, PREFIX, Put, Run, runs};
use vexfs::fs::{Fs, MAX_XATTR_VALUE};
use vexfs::units::Ino;

use super::Attribute;
use crate::failure::failed;

/// A space, as far as another pool needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) name: Box<[u8]>,
    pub(crate) shape: Shape,
    pub(crate) effort: u16,
    pub(crate) fields: Vec<Field>,
}

impl From<Space> for Described {
    fn from(space: Space) -> Self {
        Self {
            name: space.name,
            shape: space.shape,
            effort: space.effort,
            fields: space.fields,
        }
    }
}

/// The vectors of a file in a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Embeddings {
    pub(crate) space: Described,
    /// By ordinal.
    pub(crate) runs: Vec<Run>,
}

impl Embeddings {
    /// Those of a file of a pool.
    pub(crate) fn of(fs: &Fs, ino: Ino) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        for number in fs.spaces_of(ino)? {
            if let Some(space) = fs.space_record(number)? {
                found.push(Self {
                    space: space.into(),
                    runs: runs(&fs.vectors_of(ino, number)?),
                });
            }
        }
        Ok(found)
    }

    /// All spaces of a pool, without vectors.
    pub(crate) fn spaces(fs: &Fs) -> Result<Vec<Self>> {
        let empty = |info: vexfs::fs::vectors::SpaceInfo| Self {
            space: info.space.into(),
            runs: Vec::new(),
        };
        Ok(fs.spaces()?.into_iter().map(empty).collect())
    }

    /// The attribute that other programs know them as; none if they are too long for one.
    pub(crate) fn attribute(&self) -> Option<Attribute> {
        let name = [PREFIX, &self.space.name].concat();
        let value: Vec<u8> = self.runs.iter().flat_map(|run| run.bytes.iter().copied()).collect();
        (value.len() <= MAX_XATTR_VALUE).then(|| (name.into(), value))
    }

    /// What people call them.
    pub(crate) fn shown(&self) -> String {
        format!("vectors in the space {}", String::from_utf8_lossy(&self.space.name))
    }
}

/// Puts vectors into a pool.
pub(crate) struct Putter<'a> {
    fs: &'a Fs,
    now: Timestamp,
    /// By name.
    spaces: HashMap<Box<[u8]>, Ino>,
}

impl<'a> Putter<'a> {
    pub(crate) fn new(fs: &'a Fs, now: Timestamp) -> Self {
        Self {
            fs,
            now,
            spaces: HashMap::new(),
        }
    }

    /// The file has these vectors in their space afterwards, and no others.
    pub(crate) fn put(&mut self, ino: Ino, embeddings: &Embeddings) -> Result<()> {
        let space = self.space(&embeddings.space)?;
        if !embeddings.runs.is_empty() && self.fs.spaces_of(ino)?.contains(&space) {
            self.fs.remove_vectors(ino, space, 0, MAX_ORDINALS, self.now)?;
        }
        for run in &embeddings.runs {
            self.fs.put_vectors(&Put {
                ino,
                space,
                ordinal: run.ordinal,
                whole: false,
                of: Some(run.of),
                bytes: &run.bytes,
                now: self.now,
            })?;
        }
        Ok(())
    }

    /// The space, which is made if it is missing.
    fn space(&mut self, wanted: &Described) -> Result<Ino> {
        if let Some(&space) = self.spaces.get(&wanted.name) {
            return Ok(space);
        }
        let space = match self.fs.space(&wanted.name) {
            Ok(info) if info.space.shape == wanted.shape => info.id,
            Ok(info) => {
                let name = String::from_utf8_lossy(&wanted.name).into_owned();
                return Err(failed(
                    format!(
                        "the space {name} there has vectors of {}, and here {}",
                        shown(info.space.shape),
                        shown(wanted.shape)
                    ),
                    format!("rename one of them: vexfs-ublk space rename POOL {name} ANOTHER"),
                ));
            }
            Err(error) if error.errno() == nix::errno::Errno::ENOENT as i32 => self.fs.create_space(&NewSpace {
                name: &wanted.name,
                shape: wanted.shape,
                effort: wanted.effort,
                fields: &wanted.fields,
                now: self.now,
            })?,
            Err(error) => return Err(error.into()),
        };
        self.spaces.insert(wanted.name.clone(), space);
        Ok(space)
    }
}

fn shown(shape: Shape) -> String {
    format!("{} × {} compared by {}", shape.dimensions, shape.element, shape.metric)
}
