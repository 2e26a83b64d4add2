// SPDX-License-Identifier: MIT OR Apache-2.0

//! Who asks, and what they may reach.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{Outcome, Refusal};
use crate::acl::{ACCESS, Acl};
use crate::error::{Errno, Error, Result};
use crate::fs::record::Inode;
use crate::fs::{Attributes, Fs};
use crate::units::Ino;

/// Bits of what is wanted of a file.
pub(super) const READ: u16 = 4;
/// See [`READ`].
pub(super) const WRITE: u16 = 2;
/// See [`READ`]; of a directory: to search it.
pub(super) const SEARCH: u16 = 1;

/// Names of one file that are told.
const MAX_NAMES: usize = 64;
/// Directories on the way to a file.
const MAX_DEPTH: usize = 4096;

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Other groups.
    pub groups: Vec<u32>,
    /// May do everything, whoever it is.
    pub may_all: bool,
}

impl Caller {
    /// One who may do everything.
    pub const ADMINISTRATOR: Self = Self {
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        may_all: true,
    };

    /// A user, where the one with the number 0 may do everything.
    pub const fn user(uid: u32, gid: u32, groups: Vec<u32>) -> Self {
        Self {
            uid,
            gid,
            groups,
            may_all: uid == 0,
        }
    }

    /// Whether the caller may do all that the bits say.
    pub(super) fn may(&self, fs: &Fs, ino: Ino, inode: &Inode, wanted: u16) -> Result<bool> {
        if self.may_all {
            return Ok(true);
        }
        let in_group = |group: u32| self.gid == group || self.groups.contains(&group);
        match fs.get_xattr(ino, ACCESS) {
            Ok(value) => {
                if let Ok(Some(list)) = Acl::parse(&value) {
                    return Ok(list.permits((inode.uid, inode.gid), self.uid, in_group, wanted));
                }
            }
            Err(Error::Posix(Errno::NoAttribute)) => {}
            Err(error) => return Err(error),
        }
        let shift = if self.uid == inode.uid {
            6
        } else if in_group(inode.gid) {
            3
        } else {
            0
        };
        Ok(inode.mode >> shift & wanted == wanted)
    }

    /// The file of a path, as a system call finds it for this caller; symbolic links are not followed.
    pub(super) fn resolve(&self, fs: &Fs, path: &str, wanted: u16) -> Outcome<Attributes> {
        let refuse = |error: Error| Refusal::of(path, &error);
        if !path.starts_with('/') {
            let message = format!("{path:?} does not begin with / (the root of the pool)");
            return Err(Refusal::new(Errno::Invalid, message));
        }
        let mut at = fs.attributes(Ino::ROOT).map_err(refuse)?;
        for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
            if at.inode.is_directory() && !self.may(fs, at.ino, &at.inode, SEARCH).map_err(refuse)? {
                return Err(refuse(Errno::Denied.into()));
            }
            at = if name == ".." {
                fs.attributes(at.inode.parent).map_err(refuse)?
            } else {
                fs.lookup(at.ino, name.as_bytes()).map_err(refuse)?
            };
        }
        if self.may(fs, at.ino, &at.inode, wanted).map_err(refuse)? {
            Ok(at)
        } else {
            Err(refuse(Errno::Denied.into()))
        }
    }
}

/// A directory that the caller can walk to.
#[derive(Debug)]
pub(super) struct Directory {
    /// Its path, without a slash at the end.
    pub(super) path: Vec<u8>,
    /// Itself, and those above it.
    pub(super) above: Vec<Ino>,
}

/// A name under which the caller can find a file.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) directory: Arc<Directory>,
    pub(super) name: Box<[u8]>,
}

impl Way {
    pub(super) fn path(&self) -> Vec<u8> {
        [&self.directory.path[..], b"/", &self.name].concat()
    }
}

/// Directories that were walked to for one request.
pub(super) struct Walk<'a> {
    fs: &'a Fs,
    caller: &'a Caller,
    known: FxHashMap<Ino, Option<Arc<Directory>>>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(fs: &'a Fs, caller: &'a Caller) -> Self {
        Self {
            fs,
            caller,
            known: FxHashMap::default(),
        }
    }

    /// The ways to a file that the caller may read; none: it may not learn of it.
    pub(super) fn ways(&mut self, ino: Ino, inode: &Inode) -> Result<Vec<Way>> {
        if ino == Ino::ROOT || !self.caller.may(self.fs, ino, inode, READ)? {
            return Ok(Vec::new());
        }
        let mut ways = Vec::new();
        for called in self.fs.names_of(ino, MAX_NAMES)? {
            if let Some(directory) = self.directory(called.directory)? {
                let name = called.name;
                ways.push(Way { directory, name });
            }
        }
        Ok(ways)
    }

    /// A directory, if everything on the way to it can be listed and searched, and it too.
    fn directory(&mut self, ino: Ino) -> Result<Option<Arc<Directory>>> {
        let mut chain = Vec::new();
        let mut at = ino;
        let mut found = loop {
            if let Some(known) = self.known.get(&at) {
                break known.clone();
            }
            if chain.len() > MAX_DEPTH {
                return Ok(None);
            }
            let inode = self.fs.attributes(at)?.inode;
            let allowed = self.caller.may(self.fs, at, &inode, READ | SEARCH)?;
            if at == Ino::ROOT {
                let root = Directory {
                    path: Vec::new(),
                    above: vec![at],
                };
                let root = allowed.then(|| Arc::new(root));
                self.known.insert(at, root.clone());
                break root;
            }
            let called = self.fs.names_of(at, 1)?.pop();
            chain.push((at, allowed, called.as_ref().map(|called| called.name.clone())));
            match called {
                Some(called) => at = called.directory,
                None => break None,
            }
        };
        for (at, allowed, name) in chain.into_iter().rev() {
            found = match (found, name) {
                (Some(above), Some(name)) if allowed => Some(Arc::new(Directory {
                    path: [&above.path[..], b"/", &name].concat(),
                    above: above.above.iter().copied().chain([at]).collect(),
                })),
                _ => None,
            };
            self.known.insert(at, found.clone());
        }
        Ok(found)
    }
}
