// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a worker's directory holds after so many steps, and whether what is found there may be.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::perform::{ATTRIBUTE, attribute_of, bytes_of, name_of};
use super::plan::{PAGE, Piece, Step};

/// Files by name.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    files: BTreeMap<u8, File>,
}

/// What was written to a file, in this order, and up to where it is.
#[derive(Debug, Clone, Default)]
struct File {
    pieces: Vec<Piece>,
    size: u64,
    attribute: Option<u64>,
}

impl State {
    pub(super) fn names(&self) -> impl Iterator<Item = u8> {
        self.files.keys().copied()
    }

    pub(super) fn size(&self, name: u8) -> u64 {
        self.files.get(&name).map_or(0, |file| file.size)
    }

    pub(super) fn apply(&mut self, step: &Step) {
        match *step {
            Step::Replace { name, piece } => {
                let mut file = File::default();
                file.write(piece);
                self.files.insert(name, file);
            }
            Step::Write { name, piece, .. } => self.files.entry(name).or_default().write(piece),
            Step::Truncate { name, length } => self.files.entry(name).or_default().cut(length),
            Step::SyncAll => {}
            Step::Attribute { name, tag } => self.files.entry(name).or_default().attribute = Some(tag),
            Step::Rename { from, to } => {
                if let Some(file) = self.files.remove(&from) {
                    self.files.insert(to, file);
                }
            }
            Step::Remove { name } => {
                self.files.remove(&name);
            }
        }
    }

    /// Whether this may be found: this state, with `next` not begun, under way or done but not yet durable. If not, why.
    pub(super) fn accepts(&self, found: &Found, next: &Step) -> Result<(), String> {
        let Some(before) = self.difference(found) else {
            return Ok(());
        };
        if !next.is_durable() {
            // What comes after it will be tried on its own.
            return Err(before);
        }
        let mut done = self.clone();
        done.apply(next);
        let Some(after) = done.difference(found) else {
            return Ok(());
        };
        if let Step::Write { name, .. } = *next
            && let Some(file) = found.files.get(&name_of(name))
            && mixed(&self.bytes(name), &done.bytes(name), &file.bytes)
        {
            return self.difference(&found.with(name, self.bytes(name))).map_or(Ok(()), Err);
        }
        Err(format!("{before}; were the next step done: {after}"))
    }

    /// Whether this may be found, with pages of a write there that came after steps of which nothing is there: bytes go their
    /// own way, and names and attributes one after the other. How long a file is, is among the latter.
    pub(super) fn accepts_ahead(&self, found: &Found, (name, piece): (u8, Piece)) -> bool {
        let Some(file) = found.files.get(&name_of(name)) else {
            return false;
        };
        let before = self.bytes(name);
        let mut done = self.clone();
        done.files.entry(name).or_default().write(piece);
        let mut after = done.bytes(name);
        after.truncate(before.len());
        mixed(&before, &after, &file.bytes) && self.difference(&found.with(name, before)).is_none()
    }

    fn bytes(&self, name: u8) -> Vec<u8> {
        self.files.get(&name).map(File::bytes).unwrap_or_default()
    }

    /// The first difference, in words.
    fn difference(&self, found: &Found) -> Option<String> {
        for (&name, file) in &self.files {
            let shown = name_of(name);
            let Some(other) = found.files.get(&shown) else {
                return Some(format!("{shown} is missing"));
            };
            let wanted = file.bytes();
            if wanted != other.bytes {
                let at = wanted.iter().zip(&other.bytes).position(|(one, other)| one != other);
                let at = at.unwrap_or(wanted.len().min(other.bytes.len()));
                return Some(format!(
                    "{shown} should have {} bytes and has {}, the first difference is at {at}",
                    wanted.len(),
                    other.bytes.len()
                ));
            }
            if file.attribute.map(attribute_of) != other.attribute {
                return Some(format!("{shown} has another attribute"));
            }
        }
        let unexpected = found
            .files
            .keys()
            .find(|name| !self.files.keys().any(|&known| name_of(known) == **name));
        unexpected.map(|name| format!("{name} must not be there"))
    }
}

impl File {
    fn write(&mut self, piece: Piece) {
        self.pieces.retain(|old| old.at < piece.at || old.end() > piece.end());
        self.pieces.push(piece);
        self.size = self.size.max(piece.end());
    }

    fn cut(&mut self, length: u64) {
        for piece in &mut self.pieces {
            piece.length = piece.length.min(length.saturating_sub(piece.at));
        }
        self.pieces.retain(|piece| piece.length > 0);
        self.size = length;
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; place(self.size)];
        for piece in &self.pieces {
            if let Some(target) = bytes.get_mut(place(piece.at)..place(piece.end())) {
                target.copy_from_slice(&bytes_of(piece));
            }
        }
        bytes
    }
}

/// Whether each page is as before or as after, and the end between those of both. What was behind the end is zeros.
fn mixed(before: &[u8], after: &[u8], found: &[u8]) -> bool {
    if found.len() < before.len() || found.len() > after.len() {
        return false;
    }
    let mut zeros = before.to_vec();
    zeros.resize(after.len(), 0);
    let page = place(PAGE);
    let pages = found.chunks(page).zip(zeros.chunks(page)).zip(after.chunks(page));
    pages.into_iter().all(|((found, before), after)| {
        let same = |other: &[u8]| other.starts_with(found);
        same(before) || same(after)
    })
}

/// Files here are small.
fn place(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

/// What is in a directory.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    files: BTreeMap<String, FoundFile>,
}

#[derive(Debug, Clone)]
struct FoundFile {
    bytes: Vec<u8>,
    attribute: Option<Vec<u8>>,
}

impl Found {
    /// The same with other bytes of a file.
    fn with(&self, name: u8, bytes: Vec<u8>) -> Self {
        let mut other = self.clone();
        if let Some(file) = other.files.get_mut(&name_of(name)) {
            file.bytes = bytes;
        }
        other
    }

    /// Reads it. A draft that was not renamed in time is no file.
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == super::perform::DRAFT {
                continue;
            }
            let path = entry.path();
            let bytes = fs::read(&path).with_context(|| name.clone())?;
            let attribute = xattr::get(&path, ATTRIBUTE).with_context(|| format!("attribute of {name}"))?;
            files.insert(name, FoundFile { bytes, attribute });
        }
        Ok(Self { files })
    }
}
