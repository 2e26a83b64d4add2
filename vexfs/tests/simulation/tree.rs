// SPDX-License-Identifier: MIT OR Apache-2.0

//! What can be seen of a filesystem: the same description of an engine and of a model, to compare.
//!
//! Files are numbered in the order in which a walk by sorted names meets them, so hard links show and inode numbers do
//! not matter. Walking an engine checks on the way what must hold of any tree.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};

use vexfs::error::{Errno, Error};
use vexfs::fs::record::Kind;
use vexfs::fs::{Attributes, Fs, Seek};
use vexfs::units::Ino;

use crate::content::{PAGE, page_print};
use crate::model::{Body, Id, Node, ROOT, State};

/// What `stat` tells of a file.
#[derive(Hash, PartialEq, Eq, Debug, Clone)]
pub struct Stat {
    kind: u8,
    permissions: u16,
    owner: (u32, u32),
    links: u32,
    size: u64,
    device: u64,
    flags: u32,
    /// Read, modified, changed, born.
    times: [i64; 4],
}

/// What is known about one file.
#[derive(Hash, PartialEq, Eq, Debug, Clone)]
pub struct Facts {
    stat: Stat,
    /// Name, length, fingerprint.
    xattrs: Vec<(Vec<u8>, usize, u64)>,
    target: Vec<u8>,
    /// Pages that are not zero, with fingerprints.
    pages: Vec<(u64, u64)>,
}

/// A name, the number of its file, and what is known about that where it is met first.
#[derive(Hash, PartialEq, Eq, Debug)]
struct Entry {
    path: Vec<u8>,
    number: usize,
    facts: Option<Facts>,
}

/// Everything that can be seen.
pub struct Tree<File> {
    entries: Vec<Entry>,
    /// The files, by number.
    pub files: Vec<File>,
}

impl<File> Tree<File> {
    /// Equal for equal trees.
    pub fn print(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.entries.hash(&mut hasher);
        hasher.finish()
    }

    /// The first differences to another tree, for people.
    pub fn differences<Other>(&self, wanted: &Tree<Other>) -> String {
        let by_path = |entries: &[Entry]| -> BTreeMap<Vec<u8>, String> {
            let line = |entry: &Entry| (entry.path.clone(), format!("#{} {:?}", entry.number, entry.facts));
            entries.iter().map(line).collect()
        };
        let (found, wanted) = (by_path(&self.entries), by_path(&wanted.entries));
        let mut text = String::new();
        let paths: std::collections::BTreeSet<_> = found.keys().chain(wanted.keys()).collect();
        let nothing = String::from("nothing");
        for path in paths
            .into_iter()
            .filter(|path| found.get(*path) != wanted.get(*path))
            .take(4)
        {
            let name = shown(path);
            let (found, wanted) = (
                found.get(path).unwrap_or(&nothing),
                wanted.get(path).unwrap_or(&nothing),
            );
            let _ = write!(text, "\n  {name}\n    found  {found}\n    wanted {wanted}");
        }
        text
    }
}

/// A path for people: long names are cut.
fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let short: Vec<String> = text.split('/').map(|name| name.chars().take(12).collect()).collect();
    if path.is_empty() { "/".into() } else { short.join("/") }
}

fn print_of(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// What `stat` tells of a model's file.
pub fn stat_of_model(state: &State, node: &Node) -> Stat {
    Stat {
        kind: node.kind as u8,
        permissions: node.permissions,
        owner: (node.uid, node.gid),
        links: state.links(node),
        size: node.size(),
        device: node.device,
        flags: node.flags.0,
        times: [node.accessed.0, node.modified.0, node.changed.0, node.born.0],
    }
}

/// What a model's file looks like.
pub fn facts_of_model(state: &State, node: &Node) -> Facts {
    Facts {
        stat: stat_of_model(state, node),
        xattrs: node
            .xattrs
            .iter()
            .map(|(name, value)| (name.clone(), value.len(), print_of(value)))
            .collect(),
        target: match &node.body {
            Body::Symlink(target) => target.clone(),
            _ => Vec::new(),
        },
        pages: node
            .content()
            .map(|content| content.prints().collect())
            .unwrap_or_default(),
    }
}

/// The tree of a model.
pub fn tree_of_model(state: &State) -> Tree<Id> {
    let mut tree = Tree {
        entries: Vec::new(),
        files: Vec::new(),
    };
    let mut numbers = BTreeMap::new();
    let mut pending = vec![(Vec::new(), ROOT)];
    while let Some((path, id)) = pending.pop() {
        let node = state.node(id);
        let new = numbers.len();
        let number = *numbers.entry(id).or_insert(new);
        let facts = (number == new).then(|| facts_of_model(state, node));
        if facts.is_some() {
            tree.files.push(id);
        }
        for (name, &child) in node.entries().into_iter().flatten().rev() {
            pending.push(([&path[..], b"/", name].concat(), child));
        }
        tree.entries.push(Entry { path, number, facts });
    }
    tree
}

/// A walk found something that must not be.
pub type Wrong = String;

fn wrong(what: &str, path: &[u8]) -> impl Fn(Error) -> Wrong {
    let (what, path) = (what.to_owned(), shown(path));
    move |error| format!("{what} of {path}: {error}")
}

/// The tree of an engine; an error if it is no proper tree.
pub fn tree_of_engine(fs: &Fs) -> Result<Tree<Ino>, Wrong> {
    let mut tree = Tree {
        entries: Vec::new(),
        files: Vec::new(),
    };
    let mut numbers: BTreeMap<Ino, usize> = BTreeMap::new();
    let mut names: Vec<(u32, u32, Vec<u8>)> = Vec::new();
    let mut pending = vec![(Vec::new(), Ino::ROOT, Ino::ROOT)];
    while let Some((path, ino, parent)) = pending.pop() {
        let new = numbers.len();
        let number = *numbers.entry(ino).or_insert(new);
        if number < new {
            names[number].1 += 1;
            tree.entries.push(Entry {
                path,
                number,
                facts: None,
            });
            continue;
        }
        let attributes = fs.attributes(ino).map_err(wrong("attributes", &path))?;
        let facts = facts_of_engine(fs, &attributes).map_err(wrong("content", &path))?;
        tree.files.push(ino);
        if attributes.inode.is_directory() {
            let listing = fs.list_all(ino).map_err(wrong("list", &path))?;
            let mut children = BTreeMap::new();
            let mut subdirectories = 0;
            for entry in listing {
                let found = fs.lookup(ino, &entry.name).map_err(wrong("lookup in", &path))?;
                let listed = (entry.ino, entry.kind);
                if (found.ino, found.inode.kind()) != listed {
                    return Err(format!("{}: lists {listed:?}, finds {found:?}", shown(&path)));
                }
                subdirectories += u32::from(entry.kind == Kind::Directory);
                children.insert(entry.name.to_vec(), entry.ino);
            }
            let inode = attributes.inode;
            if (inode.size, inode.links, inode.parent) != (children.len() as u64, 2 + subdirectories, parent) {
                let entries = children.len();
                let place = shown(&path);
                return Err(format!(
                    "{place}: {entries} entries, {subdirectories} directories, in {parent}, but {inode:?}"
                ));
            }
            for (name, child) in children.into_iter().rev() {
                pending.push(([&path[..], b"/", &name].concat(), child, ino));
            }
            names.push((1, 1, path.clone()));
        } else {
            names.push((attributes.inode.links, 1, path.clone()));
        }
        tree.entries.push(Entry {
            path,
            number,
            facts: Some(facts),
        });
    }
    match names.iter().find(|(counted, found, _)| counted != found) {
        Some((counted, found, path)) => Err(format!("{}: counts {counted} names, has {found}", shown(path))),
        None => Ok(tree),
    }
}

/// What an engine's file looks like.
pub fn facts_of_engine(fs: &Fs, attributes: &Attributes) -> Result<Facts, Error> {
    let Attributes { ino, inode } = *attributes;
    let mut xattrs = Vec::new();
    for name in fs.list_xattrs(ino)? {
        let value = fs.get_xattr(ino, &name)?;
        xattrs.push((name.to_vec(), value.len(), print_of(&value)));
    }
    Ok(Facts {
        stat: stat_of_engine(attributes),
        xattrs,
        target: if inode.kind() == Kind::Symlink {
            fs.read_link(ino)?
        } else {
            Vec::new()
        },
        pages: if inode.kind() == Kind::File {
            pages(fs, ino, inode.size)?
        } else {
            Vec::new()
        },
    })
}

/// What `stat` tells of an engine's file.
pub fn stat_of_engine(attributes: &Attributes) -> Stat {
    let inode = &attributes.inode;
    Stat {
        kind: inode.kind() as u8,
        permissions: inode.mode & 0o7777,
        owner: (inode.uid, inode.gid),
        links: inode.links,
        size: inode.size,
        device: inode.device,
        flags: inode.flags.0,
        times: [inode.accessed.0, inode.modified.0, inode.changed.0, inode.born.0],
    }
}

/// Files up to this size are read as a whole; of longer ones only what is said to be data.
const READ_WHOLE: u64 = 256 << 10;

fn pages(fs: &Fs, ino: Ino, size: u64) -> Result<Vec<(u64, u64)>, Error> {
    let mut pages = Vec::new();
    let mut at = 0;
    let mut buffer = vec![0; READ_WHOLE as usize];
    while at < size {
        let mut end = size;
        if size > READ_WHOLE {
            at = match fs.seek(ino, at, Seek::Data) {
                Err(Error::Posix(Errno::NoSuchRange)) => break,
                other => other? / PAGE * PAGE,
            };
            end = fs.seek(ino, at, Seek::Hole)?.max(at + 1).next_multiple_of(PAGE);
        }
        let count = (end - at).min(READ_WHOLE) as usize;
        let got = fs.read(ino, at, &mut buffer[..count])?;
        buffer[got..].fill(0);
        for (index, page) in buffer[..count.next_multiple_of(PAGE as usize)]
            .chunks_exact(PAGE as usize)
            .enumerate()
        {
            if page.iter().any(|&byte| byte != 0) {
                pages.push((at / PAGE + index as u64, page_print(page)));
            }
        }
        at += count.next_multiple_of(PAGE as usize) as u64;
    }
    Ok(pages)
}
