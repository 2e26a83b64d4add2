// SPDX-License-Identifier: MIT OR Apache-2.0

//! What files know of their own names: the first is in the inode, each further one is a record.

use super::Stage;
use super::issue::Issue;
use super::names::{Known, Names};
use super::records::Item;
use super::round::Round;
use super::text::{Name, RecordKind};
use crate::error::Result;
use crate::fs::record::{Entry, EntryKey, Further, Kind, PlaceKey};
use crate::meta::encode_key;
use crate::units::Ino;

/// A file has a name there. `stays`: the name is not about to be taken away or moved.
pub(super) fn count(
    round: &mut Round<'_, '_>,
    known: &mut Known,
    (ino, directory, cookie): (Ino, Ino, u64),
    name: &[u8],
    stays: bool,
) -> Result<()> {
    if known.first == (directory.0, cookie) {
        known.found = true;
        return Ok(());
    }
    // Where directories are is compared with their parents.
    if !stays || matches!(known.kind, None | Some(Kind::Directory)) {
        return Ok(());
    }
    let key = PlaceKey { ino, directory, cookie };
    let told = round.current::<_, Further>(&key)?.is_some();
    if known.first.1 == 0 {
        round.edit(ino, |inode| (inode.parent, inode.place) = (directory, cookie))?;
        known.first = (directory.0, cookie);
        known.found = true;
        if told {
            round.put::<_, Further>(&key, None);
        }
    } else if told {
        return Ok(());
    } else {
        round.put(&key, Some(&Further));
    }
    let name = Name::from(name);
    round.issue(Issue::NameUnknown { ino, directory, name });
    Ok(())
}

/// After all names were counted: the first name of a file must have been among them.
pub(super) fn check_first(round: &mut Round<'_, '_>, known: &Known, ino: Ino) -> Result<()> {
    let (directory, cookie) = (Ino(known.first.0), known.first.1);
    if known.found || directory.0 == 0 && cookie == 0 {
        return Ok(());
    }
    round.issue(Issue::NameGone { ino, directory, cookie });
    round.edit(ino, |inode| (inode.parent, inode.place) = (Ino(0), 0))
}

/// A directory is where its parent says, but perhaps under another entry than it says.
pub(super) fn check_directory(round: &mut Round<'_, '_>, first: (u64, u64), ino: Ino, found: (u64, u64)) -> Result<()> {
    if found.0 == 0 || found.0 != first.0 || found.1 == first.1 {
        return Ok(());
    }
    let (directory, cookie) = (Ino(found.0), found.1);
    let entry = round.current::<_, Entry>(&EntryKey { directory, cookie })?;
    let name = Name(entry.map(|entry| entry.name).unwrap_or_default());
    round.issue(Issue::NameUnknown { ino, directory, name });
    round.edit(ino, |inode| inode.place = cookie)
}

impl Round<'_, '_> {
    /// Looks at the records of further names.
    pub(super) fn places(&mut self, names: &Names) -> Result<()> {
        let mut places = self.records.all::<PlaceKey, Further>()?;
        while let Some(item) = places.next()? {
            self.step(Stage::Names)?;
            let key = match item {
                Item::Good(key, _) => key,
                Item::Bad(bytes, _, what) => {
                    self.undecodable(RecordKind::Place, &bytes, what);
                    self.drop_key(bytes);
                    continue;
                }
            };
            let PlaceKey { ino, directory, cookie } = key;
            let bytes = encode_key(&key);
            // Made the first name by this very look.
            if self.fixes.contains_key(&bytes) {
                continue;
            }
            let entry: Option<Entry> = self.records.record(&EntryKey { directory, cookie })?;
            let names_it = entry.is_some_and(|entry| entry.ino == ino);
            let known = names.get(ino).filter(|known| known.kind != Some(Kind::Directory));
            if names_it && known.is_some_and(|known| known.first != (directory.0, cookie)) {
                continue;
            }
            // An inode that cannot be decoded is told as such.
            if known.is_none_or(|known| known.kind.is_some()) {
                self.issue(Issue::NameGone { ino, directory, cookie });
            }
            self.drop_key(bytes);
        }
        Ok(())
    }
}
