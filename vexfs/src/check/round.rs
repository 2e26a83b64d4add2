// SPDX-License-Identifier: MIT OR Apache-2.0

//! One look at all records: what is found, and the records that would mend it.
//!
//! A look reads the records as they are and never sees its own changes, so that one damage is told once: what follows from
//! mending it (a file that lost its only name, blocks that nobody uses any more) is found by the next look.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::issue::Issue;
use super::names::Names;
use super::records::{Item, Records};
use super::text::{Name, RecordKind};
use super::{Progress, Stage};
use crate::disk::Disk;
use crate::error::{Errno, Result};
use crate::fs::record::{
    AttributeKey, Bytes, Inode, InodeKey, Marks, Orphan, OrphanKey, PlaceKey, SessionKey, Timestamp, Totals, TotalsKey,
};
use crate::fs::replay::Changes;
use crate::fs::session::SessionRecord;
use crate::fs::vectors::record::CentreKey;
use crate::fs::{MAX_XATTR_NAME, MAX_XATTR_VALUE};
use crate::meta::base::KeyRange;
use crate::meta::{Key, Record, encode_key};
use crate::pool::Superblock;
use crate::units::{Ino, Run};

/// What all looks share.
pub(super) struct Surroundings<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) superblock: &'a Superblock,
    /// The pool's own blocks, sorted.
    pub(super) system: Vec<Run>,
    /// Keys of records that are lost with pages of tables.
    pub(super) lost: Vec<KeyRange>,
    /// See [`crate::pool::Pool::same_boot`].
    pub(super) same_boot: bool,
    pub(super) verify_data: bool,
    pub(super) rebuild_vectors: bool,
    pub(super) memory_bytes: u64,
    pub(super) max_issues: usize,
    pub(super) now: Timestamp,
    pub(super) progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

impl Surroundings<'_> {
    /// Whether a record may have been lost with a page of a table.
    pub(super) fn may_be_lost<K: Key>(&self, key: &K) -> bool {
        if self.lost.is_empty() {
            return false;
        }
        let key = encode_key(key);
        self.lost.iter().any(|(from, to)| **from <= *key && *key <= **to)
    }
}

/// One look. See the module.
pub(super) struct Round<'a, 'b> {
    pub(super) around: &'a mut Surroundings<'b>,
    pub(super) records: &'a Records,
    pub(super) found: Found,
    pub(super) fixes: Changes,
    /// Promises have turned out to be too many: they are taken back.
    pub(super) drop_promises: bool,
    pub(super) promised: u64,
    pub(super) promises_exceed: bool,
    done: u64,
}

/// The issues of a look.
#[derive(Default)]
pub(super) struct Found {
    pub(super) issues: Vec<Issue>,
    pub(super) counts: BTreeMap<&'static str, u64>,
}

impl Found {
    pub(super) fn add(&mut self, issue: Issue, limit: usize) {
        tracing::debug!(%issue, "check");
        *self.counts.entry(issue.name()).or_default() += 1;
        if self.issues.len() < limit {
            self.issues.push(issue);
        }
    }
}

impl<'a, 'b> Round<'a, 'b> {
    /// Looks at everything.
    pub(super) fn look(around: &'a mut Surroundings<'b>, records: &'a Records, drop_promises: bool) -> Result<Self> {
        let mut round = Self {
            around,
            records,
            found: Found::default(),
            fixes: Changes::new(),
            drop_promises,
            promised: 0,
            promises_exceed: false,
            done: 0,
        };
        let mut names = Names::read(&mut round)?;
        round.places(&names)?;
        round.files(&names)?;
        round.attributes(&names)?;
        round.session()?;
        round.vectors(&names)?;
        round.unknown_tags()?;
        names.reconnect(&mut round)?;
        round.totals(&names)?;
        Ok(round)
    }

    pub(super) fn issue(&mut self, issue: Issue) {
        self.found.add(issue, self.around.max_issues);
    }

    /// A record was looked at.
    pub(super) fn step(&mut self, stage: Stage) -> Result<()> {
        self.done += 1;
        if self.done.is_multiple_of(4096) {
            let progress = Progress { stage, done: self.done };
            if (self.around.progress)(progress).is_break() {
                return Err(Errno::Interrupted.into());
            }
        }
        Ok(())
    }

    pub(super) fn undecodable(&mut self, kind: RecordKind, key: &[u8], what: String) {
        self.issue(Issue::UndecodableRecord {
            kind,
            key: Name::from(key),
            what,
        });
    }

    /// Sets a record, or removes it.
    pub(super) fn put<K: Key, V: Record>(&mut self, key: &K, value: Option<&V>) {
        let value = value.map(|value| {
            let mut bytes = Vec::new();
            value.encode(&mut bytes);
            bytes
        });
        self.fixes.insert(encode_key(key), value);
    }

    pub(super) fn drop_key(&mut self, key: Vec<u8>) {
        self.fixes.insert(key, None);
    }

    /// A record as it will be.
    pub(super) fn current<K: Key, V: Record>(&self, key: &K) -> Result<Option<V>> {
        match self.fixes.get(&encode_key(key)) {
            Some(value) => Ok(value.as_ref().and_then(|value| V::decode(value).ok())),
            None => self.records.record(key),
        }
    }

    /// Changes an inode as it will be.
    pub(super) fn edit(&mut self, ino: Ino, change: impl FnOnce(&mut Inode)) -> Result<()> {
        let key = InodeKey { ino };
        if let Some(mut inode) = self.current::<_, Inode>(&key)? {
            change(&mut inode);
            self.put(&key, Some(&inode));
        }
        Ok(())
    }

    /// Attributes beside their inodes, which say whether they have any.
    fn attributes(&mut self, names: &Names) -> Result<()> {
        let mut inodes = self.records.all::<InodeKey, Inode>()?;
        let mut attributes = self.records.all::<AttributeKey, Bytes>()?;
        while let Some(item) = inodes.next()? {
            let Item::Good(InodeKey { ino }, inode) = item else {
                continue;
            };
            while let Some(item) = attributes.next_if(|key| key.ino < ino)? {
                self.attribute(names, item)?;
            }
            let mut found = Marks::default();
            while let Some(item) = attributes.next_if(|key| key.ino == ino)? {
                found = found.with(self.attribute(names, item)?);
            }
            if found != inode.marks && names.get(ino).is_some() {
                self.issue(Issue::MarksWrong {
                    ino,
                    recorded: inode.marks.0,
                    found: found.0,
                });
                self.edit(ino, |inode| inode.marks = found)?;
            }
        }
        while let Some(item) = attributes.next()? {
            self.attribute(names, item)?;
        }
        Ok(())
    }

    /// What an attribute marks its inode with: nothing if it goes.
    fn attribute(&mut self, names: &Names, item: Item<AttributeKey, Bytes>) -> Result<Marks> {
        self.step(Stage::Attributes)?;
        let (key, value) = match item {
            Item::Good(key, value) => (key, value),
            Item::Bad(key, _, what) => {
                self.undecodable(RecordKind::Attribute, &key, what);
                self.drop_key(key);
                return Ok(Marks::default());
            }
        };
        let (ino, name) = (key.ino, Name(key.name.clone()));
        let length = key.name.len();
        let issue = if names.get(ino).is_none() {
            Issue::AttributeOfMissingInode { ino, name }
        } else if length == 0 || length > MAX_XATTR_NAME || key.name.contains(&0) {
            Issue::AttributeName { ino, name }
        } else if value.0.len() > MAX_XATTR_VALUE {
            let bytes = value.0.len() as u64;
            Issue::AttributeTooLarge { ino, name, bytes }
        } else {
            return Ok(Marks::of_name(&key.name));
        };
        self.issue(issue);
        self.drop_key(encode_key(&key));
        Ok(Marks::default())
    }

    /// What is remembered of a client. Without it the client has to begin again.
    fn session(&mut self) -> Result<()> {
        let mut parts = self.records.all::<SessionKey, SessionRecord>()?;
        let mut end = 0;
        while let Some(item) = parts.next()? {
            self.step(Stage::Attributes)?;
            let (key, what) = match item {
                Item::Good(key, SessionRecord::Session(_)) if key.part == 0 => continue,
                Item::Good(key, SessionRecord::Window(window)) if key.part > 0 && key.part >= end => {
                    end = key.part.saturating_add(window.span);
                    continue;
                }
                Item::Good(key, _) => (encode_key(&key), "it contradicts the others".to_owned()),
                Item::Bad(key, _, what) => (key, what),
            };
            self.undecodable(RecordKind::Session, &key, what);
            self.drop_key(key);
        }
        Ok(())
    }

    fn unknown_tags(&mut self) -> Result<()> {
        for (from, to) in [
            (vec![], vec![InodeKey::TAG]),
            (vec![SessionKey::TAG + 1], vec![PlaceKey::TAG]),
            (vec![CentreKey::TAG + 1], vec![u8::MAX; crate::meta::base::MAX_KEY]),
        ] {
            let mut stream = self.records.scan(&from, &to)?;
            let mut tags: BTreeMap<u8, u64> = BTreeMap::new();
            while let Some((key, _)) = stream.next()? {
                self.step(Stage::Attributes)?;
                *tags.entry(key.first().copied().unwrap_or(0)).or_default() += 1;
                self.drop_key(key);
            }
            for (tag, records) in tags {
                self.issue(Issue::UnknownTag { tag, records });
            }
        }
        Ok(())
    }

    fn totals(&mut self, names: &Names) -> Result<()> {
        let mut totals = self.records.all::<TotalsKey, Totals>()?;
        let mut recorded = None;
        while let Some(item) = totals.next()? {
            match item {
                Item::Good(_, value) => recorded = Some(value),
                Item::Bad(key, _, what) => {
                    self.undecodable(RecordKind::Totals, &key, what);
                    self.drop_key(key);
                }
            }
        }
        let right = Totals {
            next_ino: Ino(names.highest().0 + 1).max(recorded.map_or(Ino(2), |totals| totals.next_ino)),
            inodes: names.count(),
            promised: self.promised,
        };
        match recorded {
            None => {
                if !self.found.counts.contains_key("UndecodableRecord") {
                    self.issue(Issue::TotalsMissing {});
                }
            }
            Some(totals) => {
                if totals.next_ino < right.next_ino {
                    self.issue(Issue::NextInoTooLow {
                        next: totals.next_ino,
                        highest: names.highest(),
                    });
                }
                if totals.inodes != right.inodes {
                    self.issue(Issue::InodeCountWrong {
                        counted: totals.inodes,
                        found: right.inodes,
                    });
                }
                if totals.promised != right.promised {
                    self.issue(Issue::PromisedWrong {
                        counted: totals.promised,
                        found: right.promised,
                    });
                }
            }
        }
        let right = names.with_created(right);
        if recorded != Some(right) {
            self.put(&TotalsKey {}, Some(&right));
        }
        Ok(())
    }

    /// Every orphan record.
    pub(super) fn orphans(&mut self, mut each: impl FnMut(&mut Self, Ino)) -> Result<()> {
        let mut orphans = self.records.all::<OrphanKey, Orphan>()?;
        while let Some(item) = orphans.next()? {
            self.step(Stage::Names)?;
            match item {
                Item::Good(key, _) => each(self, key.ino),
                Item::Bad(bytes, key, what) => {
                    self.undecodable(RecordKind::Orphan, &bytes, what);
                    // It says at least that the file was to be removed, from the start again.
                    match key {
                        Some(key) => {
                            self.put(&key, Some(&Orphan { next_chunk: 0 }));
                            each(self, key.ino);
                        }
                        None => self.drop_key(bytes),
                    }
                }
            }
        }
        Ok(())
    }
}
