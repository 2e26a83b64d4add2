// SPDX-License-Identifier: MIT OR Apache-2.0

//! Extended attributes, as front ends ask for them. Who may see or set which namespace is theirs to decide.

use crate::error::{Errno, Error, Result};
use crate::units::Ino;

use super::engine::Fs;
use super::op::Op;
use super::record::Timestamp;
use super::vectors::attribute;

/// Namespaces of names.
const NAMESPACES: [&[u8]; 4] = [b"user.", b"trusted.", b"security.", b"system.posix_acl_"];

/// Whether there can be such an attribute.
pub(super) fn check(name: &[u8]) -> Result<()> {
    let known = NAMESPACES
        .iter()
        .any(|space| name.len() > space.len() && name.starts_with(space));
    if known { Ok(()) } else { Err(Errno::NotSupported.into()) }
}

impl Fs {
    /// The value of an attribute.
    pub fn get_xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        check(name)?;
        if let Some(space) = attribute::space_of(name) {
            return self.vector_attribute(ino, space);
        }
        let mut core = self.core();
        core.state.inode(ino)?;
        let value = core.state.attribute(ino, name)?;
        value
            .map(|value| value.0.to_vec())
            .ok_or(Error::Posix(Errno::NoAttribute))
    }

    /// Sets an attribute; `flags` as in [`super::op::xattr`].
    pub fn set_xattr(&self, ino: Ino, name: &[u8], value: &[u8], flags: u8, now: Timestamp) -> Result<()> {
        check(name)?;
        let operation = Op::SetXattr {
            ino,
            flags,
            time: now,
            name,
            value,
        };
        let set = self.transact_with(std::slice::from_ref(&operation), |core| {
            let inode = core.state.inode(ino)?;
            core.forbid_change(&inode)
        });
        self.tend_vectors(&operation, &set)?;
        set
    }

    /// After an operation that may have set vectors as an attribute: sees to it that they are moved when there are enough of
    /// them, or says why they were refused.
    pub(super) fn tend_vectors(&self, operation: &Op<'_>, outcome: &Result<()>) -> Result<()> {
        let Op::SetXattr { ino, name, value, .. } = *operation else {
            return Ok(());
        };
        let Some(space) = attribute::space_of(name) else {
            return Ok(());
        };
        match outcome {
            Ok(()) => {
                let space = self.core().state.space_named(space)?;
                space.map_or(Ok(()), |space| self.seal_if_due(space))
            }
            Err(error @ Error::Posix(Errno::Invalid | Errno::NotSupported)) => {
                self.tell_refused(ino, space, value, error);
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }

    /// Removes an attribute.
    pub fn remove_xattr(&self, ino: Ino, name: &[u8], now: Timestamp) -> Result<()> {
        check(name)?;
        let operation = Op::RemoveXattr { ino, time: now, name };
        self.transact_with(&[operation], |core| {
            let inode = core.state.inode(ino)?;
            core.forbid_change(&inode)
        })
    }

    /// The names of all attributes, in order.
    pub fn list_xattrs(&self, ino: Ino) -> Result<Vec<Box<[u8]>>> {
        let mut core = self.core();
        core.state.inode(ino)?;
        let attributes = core.state.attributes(ino)?;
        let mut names: Vec<_> = attributes.into_iter().map(|(key, _)| key.name).collect();
        let vectors = core.vector_attributes(ino)?;
        if !vectors.is_empty() {
            names.extend(vectors);
            names.sort_unstable();
        }
        Ok(names)
    }
}
