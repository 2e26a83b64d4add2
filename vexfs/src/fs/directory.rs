// SPDX-License-Identifier: MIT OR Apache-2.0

//! Listing directories.
//!
//! A position in a directory is a number that stays valid while entries come and go: an entry that exists all the while is
//! listed once. 0 is the start, 1 is behind `.`, 2 behind `..`; an entry's position is its cookie.

use crate::error::{Damage, Errno, Result};
use crate::units::Ino;

use super::engine::Fs;
use super::name::LAST_COOKIE;
use super::record::{EntryKey, Kind};

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The file.
    pub ino: Ino,
    /// Its type.
    pub kind: Kind,
    /// Its name.
    pub name: Box<[u8]>,
    /// Position behind the entry.
    pub next: u64,
}

/// Part of a directory.
pub type Listing = Vec<DirectoryEntry>;

impl Fs {
    /// At most `limit` entries from a position on. None: there are no more.
    pub fn list(&self, directory: Ino, from: u64, limit: usize) -> Result<Listing> {
        let mut core = self.core();
        let inode = core.state.inode(directory)?;
        if !inode.is_directory() {
            return Err(Errno::NotDirectory.into());
        }
        let mut listing = Vec::new();
        for (position, name, ino) in [(0, &b"."[..], directory), (1, b"..", inode.parent)] {
            if from <= position && listing.len() < limit {
                listing.push(DirectoryEntry {
                    ino,
                    kind: Kind::Directory,
                    name: name.into(),
                    next: position + 1,
                });
            }
        }
        let wanted = limit - listing.len();
        if wanted == 0 {
            return Ok(listing);
        }
        let first = EntryKey {
            directory,
            cookie: from.max(2),
        };
        let end = EntryKey {
            directory: Ino(directory.0 + 1),
            cookie: 0,
        };
        let mut left = wanted;
        let mut strange = None;
        core.state
            .tables
            .entries
            .visit(&core.state.base, &first, &end, |key, entry| {
                if key.cookie > LAST_COOKIE {
                    strange = Some(key.cookie);
                    return false;
                }
                if entry.ino.0 != 0 {
                    listing.push(DirectoryEntry {
                        ino: entry.ino,
                        kind: entry.kind,
                        name: entry.name.clone(),
                        next: key.cookie + 1,
                    });
                    left -= 1;
                }
                left > 0
            })?;
        match strange {
            // What comes before is listed first; going on from there meets it again.
            Some(cookie) if listing.is_empty() => Err(Damage::new(
                directory,
                format_args!("has an entry at the impossible position {cookie:#x}"),
            )),
            _ => Ok(listing),
        }
    }

    /// The directory that a directory is in, and its name there.
    pub fn name_of_directory(&self, ino: Ino) -> Result<(Ino, Box<[u8]>)> {
        let inode = self.core().state.inode(ino)?;
        if !inode.is_directory() {
            return Err(Errno::NotDirectory.into());
        }
        let mut from = 2;
        loop {
            let some = self.list(inode.parent, from, 1024)?;
            let Some(last) = some.last() else {
                return Err(Errno::NoEntry.into());
            };
            from = last.next;
            if let Some(entry) = some.into_iter().find(|entry| entry.ino == ino) {
                return Ok((inode.parent, entry.name));
            }
        }
    }

    /// Everything in a directory except `.` and `..`.
    pub fn list_all(&self, directory: Ino) -> Result<Listing> {
        let mut all = Listing::new();
        let mut from = 2;
        loop {
            let some = self.list(directory, from, 1024)?;
            let Some(last) = some.last() else {
                return Ok(all);
            };
            from = last.next;
            all.extend(some);
        }
    }
}
