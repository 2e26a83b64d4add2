// SPDX-License-Identifier: MIT OR Apache-2.0

//! Inodes, directory entries, orphans: who has a name, and where.
//!
//! Kept in memory: 48 bytes per file and 64 per directory, sorted by number; entries are read once, in order.

use super::Stage;
use super::entries::{self, Chain};
use super::issue::Issue;
use super::records::Item;
use super::round::Round;
use super::text::{Name, RecordKind};
use crate::error::Result;
use crate::fs::MAX_LINKS;
use crate::fs::record::{Entry, EntryKey, FileFlags, Inode, InodeKey, Kind, Marks, Orphan, OrphanKey, Totals};
use crate::units::Ino;

/// Where what has lost its name is put.
const LOST_FOUND: &[u8] = b"lost+found";

/// A file, as far as names go.
pub(super) struct Known {
    ino: u64,
    links: u32,
    names: u32,
    /// None: the inode cannot be decoded.
    pub(super) kind: Option<Kind>,
    orphan: bool,
    /// Where it says that its first name is: directory and cookie. Zeros: it says nothing.
    pub(super) first: (u64, u64),
    /// Its first name is there.
    pub(super) found: bool,
}

impl Known {
    /// Neither has a name nor is going.
    pub(super) const fn is_nameless(&self) -> bool {
        self.names == 0 && !self.orphan
    }
}

/// What only directories have.
struct Folder {
    ino: u64,
    parent: u64,
    size: u64,
    entries: u64,
    subdirectories: u32,
    visit: Visit,
    /// Where its first name is: directory and cookie. 0: it has none.
    found: (u64, u64),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    Not,
    Now,
    Done,
}

/// See the module.
pub(super) struct Names {
    known: Vec<Known>,
    folders: Vec<Folder>,
    created: u64,
    next: u64,
    nameless: Vec<(Ino, Kind)>,
    lost_found: Option<Ino>,
}

impl Names {
    /// Reads inodes, orphans and entries.
    pub(super) fn read(round: &mut Round<'_, '_>) -> Result<Self> {
        let mut names = Self {
            known: Vec::new(),
            folders: Vec::new(),
            created: 0,
            next: 2,
            nameless: Vec::new(),
            lost_found: None,
        };
        names.read_inodes(round)?;
        names.check_root(round);
        round.orphans(|round, ino| {
            if let Some(known) = names.find(ino) {
                known.orphan = true;
            } else {
                round.issue(Issue::OrphanWithoutInode { ino });
                round.put::<_, Orphan>(&OrphanKey { ino }, None);
            }
        })?;
        names.read_entries(round)?;
        names.check_files(round)?;
        names.check_folders(round)?;
        names.check_reachable(round)?;
        Ok(names)
    }

    /// What is known about a number.
    pub(super) fn get(&self, ino: Ino) -> Option<&Known> {
        let at = self.known.binary_search_by_key(&ino.0, |known| known.ino).ok()?;
        self.known.get(at)
    }

    fn find(&mut self, ino: Ino) -> Option<&mut Known> {
        let at = self.known.binary_search_by_key(&ino.0, |known| known.ino).ok()?;
        self.known.get_mut(at)
    }

    fn folder(&mut self, ino: Ino) -> Option<&mut Folder> {
        let at = self.folder_at(ino)?;
        self.folders.get_mut(at)
    }

    fn folder_at(&self, ino: Ino) -> Option<usize> {
        self.folders.binary_search_by_key(&ino.0, |folder| folder.ino).ok()
    }

    /// Files of all kinds.
    pub(super) fn count(&self) -> u64 {
        self.known.len() as u64
    }

    /// The highest number.
    pub(super) fn highest(&self) -> Ino {
        Ino(self.known.last().map_or(1, |known| known.ino.max(1)))
    }

    /// Totals after what was created to put lost files into.
    pub(super) fn with_created(&self, totals: Totals) -> Totals {
        Totals {
            next_ino: totals.next_ino.max(Ino(self.next)),
            inodes: totals.inodes + self.created,
            ..totals
        }
    }

    fn read_inodes(&mut self, round: &mut Round<'_, '_>) -> Result<()> {
        let mut inodes = round.records.all::<InodeKey, Inode>()?;
        while let Some(item) = inodes.next()? {
            round.step(Stage::Names)?;
            let (ino, inode) = match item {
                Item::Good(key, inode) if (1..Totals::LAST_INO).contains(&key.ino.0) => (key.ino, Some(inode)),
                Item::Good(key, _) => {
                    let key = crate::meta::encode_key(&key);
                    round.undecodable(RecordKind::Inode, &key, "no file can have this number".to_owned());
                    round.drop_key(key);
                    continue;
                }
                Item::Bad(bytes, key, what) => {
                    round.undecodable(RecordKind::Inode, &bytes, what);
                    round.drop_key(bytes);
                    match key {
                        Some(key) if (1..Totals::LAST_INO).contains(&key.ino.0) => (key.ino, None),
                        _ => continue,
                    }
                }
            };
            let kind = inode.map(|inode| inode.kind());
            self.known.push(Known {
                ino: ino.0,
                links: inode.map_or(0, |inode| inode.links),
                names: 0,
                kind,
                orphan: false,
                first: inode.map_or((0, 0), |inode| (inode.parent.0, inode.place)),
                found: false,
            });
            if let (Some(Kind::Directory), Some(inode)) = (kind, inode) {
                self.folders.push(Folder {
                    ino: ino.0,
                    parent: inode.parent.0,
                    size: inode.size,
                    entries: 0,
                    subdirectories: 0,
                    visit: Visit::Not,
                    found: (0, 0),
                });
            }
        }
        Ok(())
    }

    fn check_root(&mut self, round: &mut Round<'_, '_>) {
        let created = round.around.superblock.created;
        let born = crate::fs::record::Timestamp::new(created.seconds, created.nanos);
        let root = crate::fs::mount::root(born);
        match self.get(Ino::ROOT).map(|known| known.kind) {
            Some(Some(Kind::Directory)) => return,
            Some(Some(kind)) => round.issue(Issue::RootNotDirectory { kind }),
            // Told already that it cannot be decoded.
            Some(None) => {}
            None => {
                round.issue(Issue::RootMissing {});
                // Not to be told as missing by what is in it.
                let known = Known {
                    ino: 1,
                    links: 0,
                    names: 0,
                    kind: None,
                    orphan: false,
                    first: (1, 0),
                    found: false,
                };
                self.known.insert(0, known);
            }
        }
        round.put(&InodeKey { ino: Ino::ROOT }, Some(&root));
    }

    fn read_entries(&mut self, round: &mut Round<'_, '_>) -> Result<()> {
        let mut stream = round.records.all::<EntryKey, Entry>()?;
        let mut chain = Chain::default();
        let mut displaced = Vec::new();
        loop {
            let item = stream.next()?;
            round.step(Stage::Names)?;
            let (key, entry) = match item {
                None => break,
                Some(Item::Good(key, entry)) => (key, Some(entry)),
                Some(Item::Bad(bytes, key, what)) => {
                    round.undecodable(RecordKind::Entry, &bytes, what);
                    let Some(key) = key else {
                        round.drop_key(bytes);
                        continue;
                    };
                    (key, None)
                }
            };
            if !chain.takes(&key) {
                self.end_chain(round, &chain, &mut displaced)?;
                chain = Chain::default();
            }
            chain.add(key, entry);
        }
        self.end_chain(round, &chain, &mut displaced)?;
        for (directory, entry) in displaced {
            // If the name is there already, the file gets another one as lost.
            entries::add(round, directory, &entry.name, entry.ino, entry.kind)?;
        }
        Ok(())
    }

    /// Looks at entries with equal hashes.
    fn end_chain(&mut self, round: &mut Round<'_, '_>, chain: &Chain, displaced: &mut Vec<(Ino, Entry)>) -> Result<()> {
        let Some(directory) = chain.directory() else {
            return Ok(());
        };
        let mut rewrite = false;
        let mut kept: Vec<Entry> = Vec::new();
        let is_folder = self.get(directory).map(|known| known.kind);
        // A root that is something else becomes a directory.
        let countable = matches!(is_folder, Some(None | Some(Kind::Directory))) || directory == Ino::ROOT;
        if chain.is_broken() {
            round.issue(Issue::BrokenChain {
                directory,
                cookie: chain.first(),
            });
            rewrite = true;
        }
        for (cookie, entry) in chain.entries() {
            let Some(entry) = entry else {
                // Told already. The directory counts it.
                if let Some(folder) = self.folder(directory) {
                    folder.entries += 1;
                }
                rewrite = true;
                continue;
            };
            if entry.ino.0 == 0 {
                continue;
            }
            let (name, ino) = (Name(entry.name.clone()), entry.ino);
            let mut entry = entry.clone();
            let keep = if !countable {
                round.issue(Issue::EntryWithoutDirectory { directory, name, ino });
                false
            } else if self.get(ino).is_none() {
                round.issue(Issue::EntryNamesNothing { directory, name, ino });
                false
            } else if kept.iter().any(|other| other.name == entry.name) {
                round.issue(Issue::DuplicateName { directory, name, ino });
                false
            } else if entries::first_cookie(round, &entry.name) != chain.first() {
                round.issue(Issue::EntryMisplaced {
                    directory,
                    name,
                    cookie,
                });
                displaced.push((directory, entry.clone()));
                false
            } else {
                true
            };
            let keep = self.count_name(round, directory, cookie, &mut entry, &mut rewrite)? && keep;
            if let Some(known) = self.find(ino) {
                super::places::count(round, known, (ino, directory, cookie), &entry.name, keep)?;
            }
            rewrite |= !keep;
            if keep {
                kept.push(entry);
            }
        }
        if rewrite {
            chain.rewrite(round, kept);
        }
        Ok(())
    }

    /// Counts an entry; false if it must go.
    fn count_name(
        &mut self,
        round: &mut Round<'_, '_>,
        directory: Ino,
        cookie: u64,
        entry: &mut Entry,
        rewrite: &mut bool,
    ) -> Result<bool> {
        let kind = self.get(entry.ino).and_then(|known| known.kind);
        if let Some(folder) = self.folder(directory) {
            folder.entries += 1;
            folder.subdirectories += u32::from(kind.unwrap_or(entry.kind) == Kind::Directory);
        }
        let Some(known) = self.find(entry.ino) else {
            return Ok(false);
        };
        known.names = known.names.saturating_add(1);
        let Some(kind) = kind else { return Ok(true) };
        let name = Name(entry.name.clone());
        if entry.kind != kind {
            round.issue(Issue::EntryKindWrong {
                directory,
                name: name.clone(),
                recorded: entry.kind,
                found: kind,
            });
            entry.kind = kind;
            *rewrite = true;
        }
        let ino = entry.ino;
        if ino == Ino::ROOT {
            round.issue(Issue::SecondParent { ino, name, directory });
            return Ok(false);
        }
        let Some(folder) = self.folder(ino) else {
            return Ok(true);
        };
        if folder.found.0 == 0 {
            folder.found = (directory.0, cookie);
            return Ok(true);
        }
        // The name where the directory says it is stays.
        let first = folder.found;
        let better = folder.parent == directory.0 && first.0 != directory.0;
        if better {
            folder.found = (directory.0, cookie);
        }
        let (gone, name) = if better {
            let removed = entries::remove_at(round, Ino(first.0), first.1)?;
            (Ino(first.0), removed.map_or(name, Name))
        } else {
            (directory, name)
        };
        round.issue(Issue::SecondParent {
            ino,
            name,
            directory: gone,
        });
        Ok(better)
    }

    fn check_files(&mut self, round: &mut Round<'_, '_>) -> Result<()> {
        for known in &self.known {
            let ino = Ino(known.ino);
            let Some(kind) = known.kind.filter(|kind| *kind != Kind::Directory && ino != Ino::ROOT) else {
                continue;
            };
            if known.names == 0 && !known.orphan && !(known.links == 0 && round.is_store(ino)?) {
                round.issue(Issue::InodeWithoutName { ino, kind });
                self.nameless.push((ino, kind));
                continue;
            }
            super::places::check_first(round, known, ino)?;
            if known.names > 0 && known.orphan {
                round.issue(Issue::OrphanInUse {
                    ino,
                    names: known.names,
                    entries: 0,
                });
                round.put::<_, Orphan>(&OrphanKey { ino }, None);
            }
            if known.links != known.names {
                let (counted, found) = (known.links, known.names);
                round.issue(Issue::LinkCountWrong { ino, counted, found });
                round.edit(ino, |inode| inode.links = found.min(MAX_LINKS))?;
            }
        }
        Ok(())
    }

    fn check_folders(&mut self, round: &mut Round<'_, '_>) -> Result<()> {
        for folder in &self.folders {
            let ino = Ino(folder.ino);
            let Some(&Known {
                names,
                links,
                orphan: doomed,
                first,
                ..
            }) = self.get(ino)
            else {
                continue;
            };
            let (counted, found) = (folder.size, folder.entries);
            if counted != found {
                round.issue(Issue::DirectorySizeWrong { ino, counted, found });
                round.edit(ino, |inode| inode.size = found)?;
            }
            let is_root = ino == Ino::ROOT;
            let orphan = doomed && !is_root && names == 0 && folder.entries == 0;
            if doomed && !orphan {
                round.issue(Issue::OrphanInUse {
                    ino,
                    names,
                    entries: folder.entries,
                });
                round.put::<_, Orphan>(&OrphanKey { ino }, None);
            } else if names == 0 && !is_root && !orphan {
                let kind = Kind::Directory;
                round.issue(Issue::InodeWithoutName { ino, kind });
                self.nameless.push((ino, kind));
            }
            let (counted, found) = (
                links,
                if orphan {
                    0
                } else {
                    folder.subdirectories.saturating_add(2)
                },
            );
            if counted != found && (orphan || !doomed) {
                round.issue(Issue::LinkCountWrong { ino, counted, found });
                round.edit(ino, |inode| inode.links = found)?;
            }
            let found = if is_root { 1 } else { folder.found.0 };
            if found != 0 && folder.parent != found {
                round.issue(Issue::ParentWrong {
                    ino,
                    recorded: Ino(folder.parent),
                    found: Ino(found),
                });
                round.edit(ino, |inode| inode.parent = Ino(found))?;
            }
            if !is_root {
                super::places::check_directory(round, first, ino, folder.found)?;
            }
        }
        Ok(())
    }

    /// Every directory with a name is in one, and so on up to the root or to one without a name. If not, they run in a
    /// circle, which is cut at its lowest number.
    fn check_reachable(&mut self, round: &mut Round<'_, '_>) -> Result<()> {
        let mut path = Vec::new();
        for start in 0..self.folders.len() {
            path.clear();
            let mut next = Some(start);
            while let Some(at) = next {
                let Some(folder) = self.folders.get_mut(at) else { break };
                if folder.visit == Visit::Now {
                    let circle: Vec<usize> = path.iter().copied().skip_while(|other| *other != at).collect();
                    self.cut(round, &circle)?;
                    break;
                }
                if folder.visit == Visit::Done {
                    break;
                }
                folder.visit = Visit::Now;
                path.push(at);
                let (parent, ino) = (Ino(folder.found.0), folder.ino);
                next = (parent.0 != 0 && ino != Ino::ROOT.0)
                    .then(|| self.folder_at(parent))
                    .flatten();
            }
            for at in &path {
                if let Some(folder) = self.folders.get_mut(*at) {
                    folder.visit = Visit::Done;
                }
            }
        }
        Ok(())
    }

    fn cut(&mut self, round: &mut Round<'_, '_>, circle: &[usize]) -> Result<()> {
        let lowest = circle.iter().copied().min().and_then(|at| self.folders.get(at));
        if let Some(folder) = lowest {
            round.issue(Issue::DirectoryLoop { ino: Ino(folder.ino) });
            let (directory, cookie) = folder.found;
            entries::remove_at(round, Ino(directory), cookie)?;
        }
        Ok(())
    }

    /// Gives names to what lost them.
    pub(super) fn reconnect(&mut self, round: &mut Round<'_, '_>) -> Result<()> {
        for (ino, kind) in std::mem::take(&mut self.nameless) {
            let Some(directory) = self.lost_found(round)? else {
                return Ok(());
            };
            let name = format!("#{}", ino.0);
            let mut named = entries::add(round, directory, name.as_bytes(), ino, kind)?;
            for attempt in 0..ATTEMPTS {
                if named.is_some() {
                    break;
                }
                let name = format!("{name}~{attempt}");
                named = entries::add(round, directory, name.as_bytes(), ino, kind)?;
            }
            let Some(cookie) = named else {
                continue;
            };
            let is_directory = kind == Kind::Directory;
            round.edit(directory, |inode| {
                inode.size += 1;
                inode.links += u32::from(is_directory);
            })?;
            round.edit(ino, |inode| {
                (inode.parent, inode.place) = (directory, cookie);
                if !is_directory {
                    inode.links = 1;
                }
            })?;
        }
        Ok(())
    }

    /// The directory for lost files, made if it is not there. None while there is no root to put it into.
    fn lost_found(&mut self, round: &mut Round<'_, '_>) -> Result<Option<Ino>> {
        if let Some(found) = self.lost_found {
            return Ok(Some(found));
        }
        if self
            .get(Ino::ROOT)
            .is_none_or(|root| root.kind != Some(Kind::Directory))
        {
            return Ok(None);
        }
        let mut name = LOST_FOUND.to_vec();
        for attempt in 0..ATTEMPTS {
            match entries::find(round, Ino::ROOT, &name)? {
                Some((_, entry)) => {
                    let reachable = self
                        .get(entry.ino)
                        .is_some_and(|known| known.kind == Some(Kind::Directory));
                    if reachable && entry.kind == Kind::Directory {
                        self.lost_found = Some(entry.ino);
                        return Ok(self.lost_found);
                    }
                }
                None => return self.make_lost_found(round, &name),
            }
            name = [LOST_FOUND, format!("~{attempt}").as_bytes()].concat();
        }
        Ok(None)
    }

    fn make_lost_found(&mut self, round: &mut Round<'_, '_>, name: &[u8]) -> Result<Option<Ino>> {
        let recorded = round.current::<_, Totals>(&crate::fs::record::TotalsKey {})?;
        let next = recorded.map_or(Ino(2), |totals| totals.next_ino);
        let ino = next.max(Ino(self.highest().0 + 1));
        if ino.0 >= Totals::LAST_INO {
            return Ok(None);
        }
        let Some(place) = entries::add(round, Ino::ROOT, name, ino, Kind::Directory)? else {
            return Ok(None);
        };
        let now = round.around.now;
        let inode = Inode {
            size: 0,
            blocks: 0,
            accessed: now,
            modified: now,
            changed: now,
            born: now,
            device: 0,
            parent: Ino::ROOT,
            place,
            uid: 0,
            gid: 0,
            links: 2,
            flags: FileFlags::default(),
            mode: Kind::Directory.mode_bits() | 0o700,
            marks: Marks::default(),
            hidden: 0,
            hidden_in: 0,
        };
        round.put(&InodeKey { ino }, Some(&inode));
        round.edit(Ino::ROOT, |root| {
            root.size += 1;
            root.links += 1;
        })?;
        self.created += 1;
        self.next = ino.0 + 1;
        self.lost_found = Some(ino);
        Ok(self.lost_found)
    }
}

/// Names that are tried.
const ATTEMPTS: u32 = 64;
