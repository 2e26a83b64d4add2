// SPDX-License-Identifier: MIT OR Apache-2.0

//! Vectors as extended attributes: `user.vexfs.vec.<space>` is all vectors of a file in a space, back to back in the order
//! of their ordinals.
//!
//! Setting one gives the file exactly the vectors of the value, with ordinals from 0 on; removing it removes them all. They
//! are made of the file's contents as they are then. Vectors that together are longer than a value can be are listed, but
//! fail to be read as one (E2BIG).

use crate::error::{Errno, Error, Result};
use crate::fs::engine::{Core, Fs};
use crate::fs::state::State;
use crate::units::Ino;

use super::MAX_ORDINALS;
use super::change::{Put, put_vectors, remove_range};
use super::record::SpaceState;
use crate::fs::op::vectors::WHOLE;

/// What the names of these attributes begin with.
pub const PREFIX: &[u8] = b"user.vexfs.vec.";

/// The space that an attribute's name tells, if it is one of these.
pub(in crate::fs) fn space_of(name: &[u8]) -> Option<&[u8]> {
    name.strip_prefix(PREFIX)
}

/// As an operation sets it; the inode is put back by the caller.
pub(in crate::fs) fn set(state: &mut State, ino: Ino, space: &[u8], flags: u8, value: &[u8]) -> Result<()> {
    // To one who copies attributes from elsewhere: there is no such attribute here.
    let space = state.space_named(space)?.ok_or(Error::Posix(Errno::NotSupported))?;
    let of = state.inode(ino)?.modified;
    let put = Put {
        ino,
        space,
        flags: flags | WHOLE,
        ordinal: 0,
        of,
        bytes: value,
    };
    put_vectors(state, &put)
}

/// As an operation removes it.
pub(in crate::fs) fn remove(state: &mut State, ino: Ino, space: &[u8]) -> Result<()> {
    let space = state.space_named(space)?.ok_or(Error::Posix(Errno::NoAttribute))?;
    match remove_range(state, ino, space, 0, MAX_ORDINALS)? {
        0 => Err(Errno::NoAttribute.into()),
        _ => Ok(()),
    }
}

impl Core {
    /// The names of these attributes that a file has.
    pub(in crate::fs) fn vector_attributes(&mut self, ino: Ino) -> Result<Vec<Box<[u8]>>> {
        let spaces = self.state.spaces_of(ino)?;
        let active = spaces
            .into_iter()
            .filter(|(_, space)| space.state == SpaceState::Active);
        Ok(active.map(|(_, space)| [PREFIX, &space.name].concat().into()).collect())
    }
}

impl Fs {
    /// The value of the attribute of a space.
    pub(in crate::fs) fn vector_attribute(&self, ino: Ino, space: &[u8]) -> Result<Vec<u8>> {
        let (space, bytes) = {
            let mut core = self.core();
            core.state.inode(ino)?;
            let space = core.state.space_named(space)?.ok_or(Error::Posix(Errno::NoAttribute))?;
            let record = core.state.space(space)?;
            let shape = record.ok_or(Error::Posix(Errno::NoAttribute))?.shape;
            (space, shape.vector_bytes())
        };
        let most = crate::fs::MAX_XATTR_VALUE / bytes.max(1);
        if self.core().state.embeddings_in(ino, space, most + 1)?.len() > most {
            return Err(Errno::AttributeTooLarge.into());
        }
        let found = self.vectors_of(ino, space)?;
        if found.is_empty() {
            return Err(Errno::NoAttribute.into());
        }
        Ok(found.into_iter().flat_map(|embedded| embedded.bytes).collect())
    }

    /// Says in the log why a value was refused: a caller only gets a number.
    pub(in crate::fs) fn tell_refused(&self, ino: Ino, space: &[u8], value: &[u8], error: &Error) {
        let shown = String::from_utf8_lossy(space).into_owned();
        let reason = match self.space(space) {
            Ok(found) => match found.space.shape.count(value) {
                Err(reason) => reason.to_string(),
                Ok(_) => error.to_string(),
            },
            Err(_) => "there is no such space".to_owned(),
        };
        tracing::warn!(%ino, space = shown, "vectors refused: {reason}");
    }
}
