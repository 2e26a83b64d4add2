// SPDX-License-Identifier: MIT OR Apache-2.0

//! From files to their names: what a file is called, and the path that leads to it.
//!
//! An inode tells where its first name is, records tell of the further ones; so a path costs a few lookups, however large
//! the directories are.

use crate::error::{Damage, Result};
use crate::units::Ino;

use super::apply::Chain;
use super::engine::{Core, Fs};
use super::record::{Entry, EntryKey};

/// One name of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Called {
    /// The directory it is in.
    pub directory: Ino,
    /// The name there.
    pub name: Box<[u8]>,
}

impl Fs {
    /// The names of a file, at most `limit`; none of one that has lost them, and of the root.
    pub fn names_of(&self, ino: Ino, limit: usize) -> Result<Vec<Called>> {
        self.core().names_of(ino, limit)
    }

    /// A path of a file from the root, if it has a name.
    pub fn path_of(&self, ino: Ino) -> Result<Option<Vec<u8>>> {
        let mut core = self.core();
        let mut names: Vec<Box<[u8]>> = Vec::new();
        let (mut at, mut chain) = (ino, Chain::new(ino));
        while at != Ino::ROOT {
            let Some(called) = core.names_of(at, 1)?.pop() else {
                return Ok(None);
            };
            names.push(called.name);
            at = called.directory;
            chain.goes_on(at)?;
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        Ok(Some(path))
    }
}

impl Core {
    /// See [`Fs::names_of`].
    pub(super) fn names_of(&mut self, ino: Ino, limit: usize) -> Result<Vec<Called>> {
        let inode = self.state.inode(ino)?;
        let mut places = Vec::new();
        if inode.place != 0 {
            places.push((inode.parent, inode.place));
        }
        if inode.links > 1 && !inode.is_directory() && limit > 1 {
            let further = self.state.further_names(ino, limit - 1)?;
            places.extend(further.into_iter().map(|key| (key.directory, key.cookie)));
        }
        places
            .into_iter()
            .map(|(directory, cookie)| {
                let key = EntryKey { directory, cookie };
                match self.state.tables.entries.get(&self.state.base, &key)? {
                    Some(Entry { ino: found, name, .. }) if *found == ino => Ok(Called {
                        directory,
                        name: name.clone(),
                    }),
                    _ => Err(Damage::new(
                        ino,
                        format_args!("has no name at {cookie:#x} in {directory}, where it says it has"),
                    )),
                }
            })
            .collect()
    }
}
