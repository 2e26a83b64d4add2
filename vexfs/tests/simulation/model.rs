// SPDX-License-Identifier: MIT OR Apache-2.0

//! The reference: what a filesystem is, in plain collections.
//!
//! Written from POSIX and the Linux manual pages, and from what the engine's public API promises in its comments; nothing of
//! the engine's own code is used but the types of its API.
//!
//! A call that must fail answers with *every* errno that applies: the standard leaves open which one wins. A call
//! that the engine carries out in several transactions leaves the states between them in [`Model::passed`]: a crash may
//! leave any of them. `names` (files and names) and `bytes` (contents) hold the calls.

mod bytes;
pub mod names;

use std::collections::BTreeMap;
use std::sync::Arc;

use vexfs::error::Errno;
use vexfs::fs::record::{FileFlags, Kind, Timestamp};

use crate::content::Content;

/// A file of the model. Never used twice.
pub type Id = u64;
/// The root directory.
pub const ROOT: Id = 1;

/// Every errno that may be the answer.
pub type Refused = Vec<Errno>;
/// What a call answers.
pub type Outcome<T> = Result<T, Refused>;

/// A file of any kind.
#[derive(Clone)]
pub struct Node {
    pub kind: Kind,
    pub permissions: u16,
    pub uid: u32,
    pub gid: u32,
    pub device: u64,
    pub flags: FileFlags,
    pub accessed: Timestamp,
    pub modified: Timestamp,
    pub changed: Timestamp,
    pub born: Timestamp,
    /// Names in directories.
    pub names: u32,
    /// How often it is held open.
    pub holders: u32,
    pub xattrs: BTreeMap<Vec<u8>, Arc<[u8]>>,
    pub body: Body,
}

/// What is in a file.
#[derive(Clone)]
pub enum Body {
    File(Content),
    Directory { entries: BTreeMap<Vec<u8>, Id>, parent: Id },
    Symlink(Vec<u8>),
    Special,
}

impl Node {
    pub const fn is_directory(&self) -> bool {
        matches!(self.body, Body::Directory { .. })
    }

    pub fn entries(&self) -> Option<&BTreeMap<Vec<u8>, Id>> {
        match &self.body {
            Body::Directory { entries, .. } => Some(entries),
            _ => None,
        }
    }

    pub const fn content(&self) -> Option<&Content> {
        match &self.body {
            Body::File(content) => Some(content),
            _ => None,
        }
    }

    /// As `stat` tells it; of a directory the number of entries.
    pub fn size(&self) -> u64 {
        match &self.body {
            Body::File(content) => content.size(),
            Body::Directory { entries, .. } => entries.len() as u64,
            Body::Symlink(target) => target.len() as u64,
            Body::Special => 0,
        }
    }

    fn is_immutable(&self) -> bool {
        self.flags.has(FileFlags::IMMUTABLE)
    }

    /// Immutable, or only to be appended to.
    pub fn is_protected(&self) -> bool {
        self.flags.any(FileFlags(FileFlags::IMMUTABLE.0 | FileFlags::APPEND.0))
    }

    fn touch(&mut self, now: Timestamp) {
        self.modified = now;
        self.changed = now;
    }

    /// A change of the contents: the permission to act as the owner goes.
    fn touch_contents(&mut self, now: Timestamp) {
        self.touch(now);
        self.permissions = without_set_ids(self.permissions);
    }
}

/// Set-user-ID goes; set-group-ID only where it means executing, for else it means mandatory locking.
const fn without_set_ids(permissions: u16) -> u16 {
    let dropped = if permissions & 0o010 == 0 { 0o4000 } else { 0o6000 };
    permissions & !dropped
}

/// Everything there is at one moment. Copies share their files.
#[derive(Clone)]
pub struct State {
    nodes: BTreeMap<Id, Arc<Node>>,
    next: Id,
}

impl State {
    /// An empty filesystem whose root was made then.
    pub fn new(born: Timestamp) -> Self {
        let root = Node {
            kind: Kind::Directory,
            permissions: 0o755,
            uid: 0,
            gid: 0,
            device: 0,
            flags: FileFlags::default(),
            accessed: born,
            modified: born,
            changed: born,
            born,
            names: 1,
            holders: 0,
            xattrs: BTreeMap::new(),
            body: Body::Directory {
                entries: BTreeMap::new(),
                parent: ROOT,
            },
        };
        Self {
            nodes: BTreeMap::from([(ROOT, Arc::new(root))]),
            next: ROOT + 1,
        }
    }

    /// A file that exists.
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[&id]
    }

    /// Every file, with or without a name.
    pub fn nodes(&self) -> impl Iterator<Item = (Id, &Node)> {
        self.nodes.iter().map(|(&id, node)| (id, &**node))
    }

    /// What a name stands for.
    pub fn find(&self, directory: Id, name: &[u8]) -> Option<Id> {
        self.node(directory).entries()?.get(name).copied()
    }

    /// Names of a file as `stat` counts: a directory has its own, `.` and the `..` of its subdirectories.
    pub fn links(&self, node: &Node) -> u32 {
        let Some(entries) = node.entries() else {
            return node.names;
        };
        let subdirectories = entries.values().filter(|id| self.node(**id).is_directory()).count();
        if node.names == 0 { 0 } else { 2 + subdirectories as u32 }
    }

    /// The names from the root to a directory.
    pub fn path(&self, directory: Id) -> Vec<u8> {
        let mut path = Vec::new();
        let mut at = directory;
        while at != ROOT {
            let Body::Directory { parent, .. } = self.node(at).body else {
                break;
            };
            let entries = self.node(parent).entries().into_iter().flatten();
            let Some((name, _)) = entries.into_iter().find(|(_, id)| **id == at) else {
                break;
            };
            path.splice(0..0, [b"/", &name[..]].concat());
            at = parent;
        }
        path
    }

    fn change(&mut self, id: Id) -> &mut Node {
        Arc::make_mut(self.nodes.get_mut(&id).expect("a file that exists"))
    }

    fn add(&mut self, node: Node) -> Id {
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, Arc::new(node));
        id
    }

    /// A file without names goes when nobody holds it.
    fn bury(&mut self, id: Id) {
        let node = self.node(id);
        if node.names == 0 && node.holders == 0 {
            self.nodes.remove(&id);
        }
    }

    /// What is left when nobody holds anything any more: after a crash.
    pub fn without_holders(&self) -> Self {
        let mut state = self.clone();
        state.nodes.retain(|_, node| node.names > 0);
        let held: Vec<Id> = state
            .nodes()
            .filter(|(_, node)| node.holders > 0)
            .map(|(id, _)| id)
            .collect();
        for id in held {
            state.change(id).holders = 0;
        }
        state
    }
}

/// The model: a state, and the calls that change it.
pub struct Model {
    /// How things are.
    pub state: State,
    /// How they were between the transactions of the last call, in order, the last one not included.
    pub passed: Vec<State>,
    /// Errors with which the last call may fail although the model carried it out.
    pub tolerated: Refused,
}

impl Model {
    pub const fn new(state: State) -> Self {
        Self {
            state,
            passed: Vec::new(),
            tolerated: Vec::new(),
        }
    }

    /// Call before each call.
    pub fn begin(&mut self) {
        self.passed.clear();
        self.tolerated.clear();
    }

    /// A transaction ends here, and the call goes on.
    fn pass(&mut self) {
        self.passed.push(self.state.clone());
    }
}

/// Gathers the reasons to refuse a call.
#[derive(Default)]
struct Reasons(Refused);

impl Reasons {
    fn when(&mut self, applies: bool, errno: Errno) {
        if applies {
            self.0.push(errno);
        }
    }

    fn decide(self) -> Outcome<()> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }

    /// What a name must be like.
    fn name(&mut self, name: &[u8]) {
        self.when(name.len() > 255, Errno::NameTooLong);
        let reserved = name.is_empty() || name == b"." || name == b"..";
        self.when(reserved || name.contains(&b'/') || name.contains(&0), Errno::Invalid);
    }

    /// A directory in which names are to change. False if it is none.
    fn directory(&mut self, node: &Node) -> bool {
        self.when(!node.is_directory(), Errno::NotDirectory);
        self.when(node.is_directory() && node.names == 0, Errno::NoEntry);
        self.when(node.is_immutable(), Errno::NotPermitted);
        node.is_directory()
    }

    /// A regular file is wanted. False if it is none.
    fn regular(&mut self, node: &Node) -> bool {
        self.when(node.is_directory(), Errno::IsDirectory);
        self.when(!node.is_directory() && node.kind != Kind::File, Errno::Invalid);
        node.kind == Kind::File
    }
}
