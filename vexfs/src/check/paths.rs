// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which path an inode has, for messages.
//!
//! One pass over all entries finds a name of each wanted file; directories above are found the same way, all of one depth
//! in one pass, up to a limit: a message is not worth more.

use std::collections::BTreeMap;

use super::issue::Issue;
use super::records::{Item, Records};
use crate::error::Result;
use crate::fs::record::{Entry, EntryKey};
use crate::units::Ino;

/// Passes over the entries.
const DEPTH: usize = 24;
/// Files whose paths are told.
const WANTED: usize = 1000;

/// The paths of the files that issues are about.
pub(super) fn of_issues(records: &Records, issues: &[Issue]) -> Result<BTreeMap<Ino, String>> {
    let mut wanted: Vec<Ino> = issues.iter().filter_map(Issue::ino).collect();
    wanted.sort_unstable();
    wanted.dedup();
    wanted.truncate(WANTED);
    let mut places: BTreeMap<Ino, (Ino, Box<[u8]>)> = BTreeMap::new();
    let mut missing = wanted.clone();
    for _ in 0..DEPTH {
        missing.retain(|ino| *ino != Ino::ROOT && !places.contains_key(ino));
        if missing.is_empty() {
            break;
        }
        let mut entries = records.all::<EntryKey, Entry>()?;
        let mut above = Vec::new();
        while let Some(item) = entries.next()? {
            if let Item::Good(key, entry) = item
                && missing.binary_search(&entry.ino).is_ok()
                && !places.contains_key(&entry.ino)
            {
                places.insert(entry.ino, (key.directory, entry.name));
                above.push(key.directory);
            }
        }
        above.sort_unstable();
        above.dedup();
        missing = above;
    }
    Ok(wanted
        .into_iter()
        .filter_map(|ino| Some((ino, join(ino, &places)?)))
        .collect())
}

fn join(ino: Ino, places: &BTreeMap<Ino, (Ino, Box<[u8]>)>) -> Option<String> {
    let mut names = Vec::new();
    let mut at = ino;
    while at != Ino::ROOT {
        let (directory, name) = places.get(&at)?;
        names.push(String::from_utf8_lossy(name));
        at = *directory;
        if names.len() > DEPTH {
            return None;
        }
    }
    names.reverse();
    Some(format!("/{}", names.join("/")))
}
