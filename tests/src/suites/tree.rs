// SPDX-License-Identifier: MIT OR Apache-2.0

//! Trees of files, described down to the last bit that a copy should keep, and compared.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::hash::Hasher;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// One file of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Type and permissions.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// When its content changed, to the nanosecond.
    pub modified: (i64, i64),
    /// Which device it stands for.
    pub device: u64,
    /// Extended attributes, ACLs among them.
    pub attributes: BTreeMap<OsString, Vec<u8>>,
    /// What it holds.
    pub content: Content,
    /// The first name of the same file, if this is a further one.
    pub same_as: Option<PathBuf>,
}

/// What a file holds.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// Bytes: how many, and a hash of them.
    Bytes(u64, u64),
    /// The target of a symbolic link.
    Target(PathBuf),
    /// Nothing that could be compared: directories, devices, pipes.
    None,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(length, hash) => write!(f, "{length} bytes ({hash:016x})"),
            Self::Target(target) => write!(f, "-> {}", target.display()),
            Self::None => write!(f, "none"),
        }
    }
}

/// Everything below `root`, by path.
pub fn describe(root: &Path) -> Result<BTreeMap<PathBuf, Node>> {
    let mut nodes = BTreeMap::new();
    let mut seen = HashMap::new();
    for path in walk(root)? {
        let node = node(root, &path, &mut seen).with_context(|| format!("looking at {}", path.display()))?;
        nodes.insert(relative(root, &path), node);
    }
    Ok(nodes)
}

/// What differs between two trees, one line each; nothing if they are the same.
pub fn differences(wanted: &BTreeMap<PathBuf, Node>, found: &BTreeMap<PathBuf, Node>) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, node) in wanted {
        match found.get(path) {
            None => lines.push(format!("{}: missing", path.display())),
            Some(other) if other != node => lines.push(format!("{}: {node:?} became {other:?}", path.display())),
            Some(_) => {}
        }
    }
    let unexpected = found.keys().filter(|path| !wanted.contains_key(*path));
    lines.extend(unexpected.map(|path| format!("{}: not there before", path.display())));
    lines
}

/// Length and hash of every regular file below `root`.
pub fn digest(root: &Path) -> Result<BTreeMap<PathBuf, Content>> {
    let mut contents = BTreeMap::new();
    for path in walk(root)? {
        if fs::symlink_metadata(&path)?.is_file() {
            let content = bytes(&path).with_context(|| format!("reading {}", path.display()))?;
            contents.insert(relative(root, &path), content);
        }
    }
    Ok(contents)
}

/// All paths below `root`, sorted, directories before what is in them.
fn walk(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).with_context(|| format!("listing {}", directory.display()))? {
            let entry = entry.with_context(|| format!("listing {}", directory.display()))?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn relative(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap_or(path).to_owned()
}

fn node(root: &Path, path: &Path, seen: &mut HashMap<(u64, u64), PathBuf>) -> Result<Node> {
    let meta = fs::symlink_metadata(path)?;
    let kind = meta.file_type();
    let mut attributes = BTreeMap::new();
    for name in xattr::list(path)? {
        let value = xattr::get(path, &name)?.with_context(|| format!("{} is listed but not there", name.display()))?;
        attributes.insert(name, value);
    }
    let content = if kind.is_file() {
        bytes(path)?
    } else if kind.is_symlink() {
        Content::Target(fs::read_link(path)?)
    } else {
        Content::None
    };
    let mut same_as = None;
    if !kind.is_dir() && meta.nlink() > 1 {
        let name = relative(root, path);
        let first = seen.entry((meta.dev(), meta.ino())).or_insert_with(|| name.clone());
        same_as = (*first != name).then(|| first.clone());
    }
    let is_device = kind.is_block_device() || kind.is_char_device();
    Ok(Node {
        mode: meta.mode(),
        owner: (meta.uid(), meta.gid()),
        modified: (meta.mtime(), meta.mtime_nsec()),
        device: if is_device { meta.rdev() } else { 0 },
        attributes,
        content,
        same_as,
    })
}

fn bytes(path: &Path) -> Result<Content> {
    let mut file = File::open(path)?;
    let mut hasher = DefaultHasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut length = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(Content::Bytes(length, hasher.finish()));
        }
        hasher.write(buffer.get(..count).unwrap_or_default());
        length += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::{Duration, SystemTime};

    use super::*;

    /// Changes a tree.
    type Change = fn(&Path);

    fn example(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("lab-tree-{}-{name}", std::process::id()));
        let _fresh = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("d")).unwrap();
        fs::write(root.join("d/a"), "one").unwrap();
        fs::hard_link(root.join("d/a"), root.join("d/b")).unwrap();
        symlink("a", root.join("d/l")).unwrap();
        root
    }

    #[test]
    fn every_change_of_a_tree_is_told() {
        let changes: [(&str, Change); 6] = [
            ("content", |root| {
                let modified = fs::metadata(root.join("d/a")).unwrap().modified().unwrap();
                fs::write(root.join("d/a"), "two").unwrap();
                File::options()
                    .write(true)
                    .open(root.join("d/a"))
                    .unwrap()
                    .set_modified(modified)
                    .unwrap();
            }),
            ("mode", |root| {
                fs::set_permissions(root.join("d/a"), fs::Permissions::from_mode(0o600)).unwrap();
            }),
            ("time", |root| {
                let file = File::options().write(true).open(root.join("d/a")).unwrap();
                file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_nanos(7))
                    .unwrap();
            }),
            ("missing", |root| fs::remove_file(root.join("d/l")).unwrap()),
            ("more", |root| fs::write(root.join("c"), "").unwrap()),
            ("link", |root| {
                fs::remove_file(root.join("d/b")).unwrap();
                fs::copy(root.join("d/a"), root.join("d/b")).unwrap();
            }),
        ];
        for (name, change) in changes {
            let root = example(name);
            let before = describe(&root).unwrap();
            assert_eq!(differences(&before, &describe(&root).unwrap()), Vec::<String>::new());
            change(&root);
            assert!(!differences(&before, &describe(&root).unwrap()).is_empty(), "{name}");
            fs::remove_dir_all(&root).unwrap();
        }
    }
}
