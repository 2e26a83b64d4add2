// SPDX-License-Identifier: MIT OR Apache-2.0

//! Chains of directory entries: looking at one, and changing entries by name.
//!
//! A chain are the entries of a directory whose names have equal hashes, at cookies without gaps from the hash on; each but
//! the last says that the chain goes on (the last may say so too: what came behind it was removed).

use super::round::Round;
use crate::error::Result;
use crate::fs::name;
use crate::fs::record::{Entry, EntryKey, Kind};
use crate::units::Ino;

/// The entries of a chain, as they are. None: one that cannot be decoded.
#[derive(Default)]
pub(super) struct Chain {
    entries: Vec<(EntryKey, Option<Entry>)>,
}

const LOW: u64 = name::CHAIN - 1;

impl Chain {
    /// Whether an entry is one of the chain.
    pub(super) fn takes(&self, key: &EntryKey) -> bool {
        self.entries
            .first()
            .is_none_or(|(first, _)| first.directory == key.directory && first.cookie & !LOW == key.cookie & !LOW)
    }

    pub(super) fn add(&mut self, key: EntryKey, entry: Option<Entry>) {
        self.entries.push((key, entry));
    }

    /// Where it is, unless it is empty.
    pub(super) fn directory(&self) -> Option<Ino> {
        self.entries.first().map(|(key, _)| key.directory)
    }

    /// The cookie it must begin at.
    pub(super) fn first(&self) -> u64 {
        self.entries.first().map_or(0, |(key, _)| key.cookie & !LOW)
    }

    /// Cookies and entries.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, Option<&Entry>)> {
        self.entries.iter().map(|(key, entry)| (key.cookie, entry.as_ref()))
    }

    /// Whether looking for a name would not get to all of them.
    pub(super) fn is_broken(&self) -> bool {
        let gap = (self.first()..)
            .zip(&self.entries)
            .any(|(cookie, (key, _))| key.cookie != cookie);
        let ends = |(_, entry): &(EntryKey, Option<Entry>)| entry.as_ref().is_some_and(|entry| !entry.chained);
        let before_last = self.entries.split_last().map_or(&[][..], |(_, before)| before);
        gap || before_last.iter().any(ends)
    }

    /// Writes it anew with these entries.
    pub(super) fn rewrite(&self, round: &mut Round<'_, '_>, kept: Vec<Entry>) {
        let Some(directory) = self.directory() else { return };
        for (key, _) in &self.entries {
            round.put::<_, Entry>(key, None);
        }
        let count = kept.len();
        for ((index, cookie), entry) in (1..).zip(self.first()..).zip(kept) {
            let entry = Entry {
                chained: index < count,
                ..entry
            };
            round.put(&EntryKey { directory, cookie }, Some(&entry));
        }
    }
}

/// Where the chain of a name begins.
pub(super) fn first_cookie(round: &Round<'_, '_>, name: &[u8]) -> u64 {
    name::cookie(&round.around.superblock.name_hash_key, name)
}

/// The entry of a name, as it will be.
pub(super) fn find(round: &Round<'_, '_>, directory: Ino, name: &[u8]) -> Result<Option<(EntryKey, Entry)>> {
    let first = first_cookie(round, name);
    for cookie in first..first + name::CHAIN {
        let key = EntryKey { directory, cookie };
        match round.current::<_, Entry>(&key)? {
            Some(entry) if *entry.name == *name => return Ok(Some((key, entry))),
            Some(entry) if entry.chained => {}
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// Adds a name and gives its cookie; none if it exists, or its chain is full.
pub(super) fn add(round: &mut Round<'_, '_>, directory: Ino, name: &[u8], ino: Ino, kind: Kind) -> Result<Option<u64>> {
    if find(round, directory, name)?.is_some() {
        return Ok(None);
    }
    let first = first_cookie(round, name);
    for cookie in first..first + name::CHAIN {
        let key = EntryKey { directory, cookie };
        let occupant = round.current::<_, Entry>(&key)?;
        match occupant {
            Some(other) if other.ino.0 != 0 => {
                if !other.chained {
                    let chained = true;
                    round.put(&key, Some(&Entry { chained, ..other }));
                }
            }
            free => {
                let entry = Entry {
                    ino,
                    kind,
                    chained: free.is_some(),
                    name: name.into(),
                };
                round.put(&key, Some(&entry));
                return Ok(Some(cookie));
            }
        }
    }
    Ok(None)
}

/// Removes the entry at a place; gives its name.
pub(super) fn remove_at(round: &mut Round<'_, '_>, directory: Ino, cookie: u64) -> Result<Option<Box<[u8]>>> {
    let key = EntryKey { directory, cookie };
    let Some(entry) = round.current::<_, Entry>(&key)? else {
        return Ok(None);
    };
    let mark = entry.chained.then(|| Entry {
        ino: Ino(0),
        name: Box::default(),
        ..entry.clone()
    });
    round.put(&key, mark.as_ref());
    Ok(Some(entry.name))
}
