// SPDX-License-Identifier: MIT OR Apache-2.0

//! Everything in a pool as a value that can be compared, and pools of random trees.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;

use vexfs::disk::SplitMix64;
use vexfs::fs::record::{FileFlags, Kind, Timestamp};
use vexfs::fs::vectors::space::{Element, Field, FieldKind, Metric, Shape};
use vexfs::fs::vectors::{Embedded, NewSpace, PREFIX, Put};
use vexfs::fs::{Fs, MountOptions, NewFile, Preallocation, Seek, SetAttributes};
use vexfs::units::Ino;

const ACCESS_LIST: &[u8] = b"system.posix_acl_access";

/// Everything about one file that a copy must keep.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Type and permissions.
    pub(crate) mode: u16,
    pub(crate) owner: (u32, u32),
    pub(crate) links: u32,
    pub(crate) size: u64,
    pub(crate) accessed: Timestamp,
    pub(crate) modified: Timestamp,
    pub(crate) born: Timestamp,
    pub(crate) device: u64,
    pub(crate) flags: u32,
    pub(crate) target: Vec<u8>,
    pub(crate) attributes: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) embeddings: Vec<Embeddings>,
    pub(crate) data: Vec<Range<u64>>,
    pub(crate) promised: Vec<Range<u64>>,
    pub(crate) content: Vec<u8>,
    /// The first path of the same file.
    pub(crate) same_as: Vec<u8>,
}

/// What a copy must keep of vectors in a space, and of the space.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Embeddings {
    name: Box<[u8]>,
    shape: Shape,
    effort: u16,
    fields: Vec<Field>,
    vectors: Vec<Embedded>,
}

pub(crate) fn open(pool: &Path, read_only: bool) -> Fs {
    let options = MountOptions {
        read_only,
        background: false,
        ..MountOptions::default()
    };
    Fs::open(pool, &options).unwrap()
}

/// Everything below a path of a pool, by path.
pub(crate) fn tree(pool: &Path, top: &str) -> BTreeMap<Vec<u8>, Entry> {
    let fs = open(pool, true);
    let top = fs.resolve(top.as_bytes()).unwrap();
    let mut found = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    let mut pending = vec![(top.ino, Vec::new())];
    while let Some((ino, path)) = pending.pop() {
        let entry = entry(&fs, ino);
        if entry.mode >> 12 == 4 {
            for child in fs.list_all(ino).unwrap() {
                pending.push((child.ino, [&path, b"/".as_slice(), &child.name].concat()));
            }
        }
        inodes.insert(path.clone(), ino);
        found.insert(path, entry);
    }
    let mut firsts: HashMap<Ino, Vec<u8>> = HashMap::new();
    for (path, entry) in &mut found {
        let first = firsts.entry(inodes[path]).or_insert_with(|| path.clone());
        entry.same_as.clone_from(first);
    }
    found
}

fn entry(fs: &Fs, ino: Ino) -> Entry {
    let inode = fs.attributes(ino).unwrap().inode;
    let file = inode.kind() == Kind::File;
    let (mut data, mut content) = (Vec::new(), Vec::new());
    let mut at = 0;
    while file && at < inode.size {
        let Ok(start) = fs.seek(ino, at, Seek::Data) else { break };
        at = fs.seek(ino, start, Seek::Hole).unwrap();
        let mut bytes = vec![0; usize::try_from(at - start).unwrap()];
        assert_eq!(fs.read(ino, start, &mut bytes).unwrap(), bytes.len());
        content.extend(bytes);
        data.push(start..at);
    }
    let names = fs.list_xattrs(ino).unwrap();
    Entry {
        mode: inode.mode,
        owner: (inode.uid, inode.gid),
        links: inode.links,
        size: inode.size,
        accessed: inode.accessed,
        modified: inode.modified,
        born: inode.born,
        device: inode.device,
        flags: inode.flags.0,
        target: if inode.kind() == Kind::Symlink {
            fs.read_link(ino).unwrap()
        } else {
            Vec::new()
        },
        attributes: names
            .iter()
            .filter(|name| !name.starts_with(PREFIX))
            .map(|name| (name.to_vec(), fs.get_xattr(ino, name).unwrap()))
            .collect(),
        embeddings: embeddings(fs, ino),
        data,
        promised: if file {
            fs.promised_ranges(ino).unwrap()
        } else {
            Vec::new()
        },
        content,
        same_as: Vec::new(),
    }
}

fn embeddings(fs: &Fs, ino: Ino) -> Vec<Embeddings> {
    let of_space = |space: Ino| {
        let record = fs.space_record(space).unwrap().unwrap();
        Embeddings {
            name: record.name,
            shape: record.shape,
            effort: record.effort,
            fields: record.fields,
            vectors: fs.vectors_of(ino, space).unwrap(),
        }
    };
    let mut found: Vec<_> = fs.spaces_of(ino).unwrap().into_iter().map(of_space).collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

/// Names of all spaces of a pool.
pub(crate) fn spaces(pool: &Path) -> Vec<Box<[u8]>> {
    let fs = open(pool, true);
    let mut names: Vec<_> = fs.spaces().unwrap().into_iter().map(|info| info.space.name).collect();
    names.sort();
    names
}

/// Fills a pool with a random tree of everything that a pool can hold.
pub(crate) fn fill(pool: &Path, seed: u64, files: usize) {
    let fs = open(pool, false);
    let mut random = SplitMix64::new(seed);
    let mut directories = vec![Ino::ROOT];
    let mut others: Vec<Ino> = Vec::new();
    let mut protected = Vec::new();
    let spaces = make_spaces(&fs);
    for index in 0..files {
        let parent = pick(&mut random, &directories);
        let name = name(&mut random, index);
        if random.below(8) == 0 && !others.is_empty() {
            let ino = pick(&mut random, &others);
            fs.link(ino, parent, &name, Timestamp(0)).unwrap();
            continue;
        }
        let kinds = [
            Kind::File,
            Kind::File,
            Kind::File,
            Kind::Directory,
            Kind::Symlink,
            Kind::Fifo,
            Kind::Socket,
            Kind::Character,
            Kind::Block,
        ];
        let kind = pick(&mut random, &kinds);
        let target = vec![b't'; usize::try_from(1 + random.below(600)).unwrap()];
        let device = kind == Kind::Character || kind == Kind::Block;
        let made = fs
            .create(
                parent,
                &name,
                &NewFile {
                    kind,
                    permissions: 0,
                    uid: 0,
                    gid: 0,
                    device: if device { random.below(1 << 20) } else { 0 },
                    target: if kind == Kind::Symlink { &target } else { b"" },
                    now: time(&mut random),
                },
            )
            .unwrap()
            .ino;
        if kind == Kind::Directory {
            directories.push(made);
        } else {
            others.push(made);
        }
        if kind == Kind::File {
            contents(&fs, made, &mut random);
        }
        attributes(&fs, made, kind, &mut random);
        if [Kind::File, Kind::Directory].contains(&kind) {
            vectors(&fs, made, &spaces, &mut random);
        }
        if random.below(16) == 0 && kind != Kind::Symlink {
            protected.push(made);
        }
    }
    // Making files in a directory changes its times: all are set at the end.
    for &ino in directories.iter().chain(&others) {
        let flags = fs.attributes(ino).unwrap().inode.flags;
        let protection = if protected.contains(&ino) {
            FileFlags::IMMUTABLE.0
        } else {
            0
        };
        let mut permissions = u16::try_from(random.below(0o10000)).unwrap();
        if fs.get_xattr(ino, ACCESS_LIST).is_ok() {
            // The kernel keeps both alike.
            permissions = permissions & 0o7000 | 0o770;
        }
        let set = SetAttributes {
            permissions: Some(permissions),
            uid: Some(id(&mut random)),
            gid: Some(id(&mut random)),
            accessed: Some(time(&mut random)),
            modified: Some(time(&mut random)),
            flags: Some(FileFlags(flags.0 | protection)),
            now: Timestamp(1),
        };
        fs.set_attributes(ino, &set).unwrap();
    }
    fs.close().unwrap();
}

/// Two that files have vectors in, and one without.
fn make_spaces(fs: &Fs) -> [(Ino, Shape); 2] {
    let make = |name: &[u8], dimensions, element, metric, fields: &[Field]| {
        let shape = Shape::new(dimensions, element, metric).unwrap();
        let new = NewSpace {
            name,
            shape,
            effort: 70,
            fields,
            now: Timestamp(0),
        };
        (fs.create_space(&new).unwrap(), shape)
    };
    let fields = [
        Field::new(FieldKind::Filter, b"user.lang".as_slice()),
        Field::new(FieldKind::Text, b"user.title".as_slice()),
    ];
    make(b"empty", 5, Element::F32, Metric::Dot, &fields);
    [
        make(b"wide", 4096, Element::I8, Metric::L1, &fields),
        make(b"bits", 9, Element::Binary, Metric::Hamming, &[]),
    ]
}

/// A few vectors, with gaps; of some files more than an attribute holds.
fn vectors(fs: &Fs, ino: Ino, spaces: &[(Ino, Shape)], random: &mut SplitMix64) {
    for &(space, shape) in spaces {
        let mut ordinal = below_one_of(random, &[1, 40_000]);
        for _ in 0..random.below(4) {
            let count = 1 + random.below(15);
            let vector: Vec<u8> = (0..shape.vector_bytes()).map(|at| u8::from(at % 8 == 0)).collect();
            let bytes = vector.repeat(usize::try_from(count).unwrap());
            fs.put_vectors(&Put {
                ino,
                space,
                ordinal: u32::try_from(ordinal).unwrap(),
                whole: false,
                of: Some(time(random)),
                bytes: &bytes,
                now: Timestamp(0),
            })
            .unwrap();
            ordinal += count + random.below(3);
        }
    }
}

fn pick<T: Copy>(random: &mut SplitMix64, from: &[T]) -> T {
    from[usize::try_from(random.below(from.len() as u64)).unwrap()]
}

fn below_one_of(random: &mut SplitMix64, limits: &[u64]) -> u64 {
    let limit = pick(random, limits);
    random.below(limit)
}

fn id(random: &mut SplitMix64) -> u32 {
    u32::try_from(below_one_of(random, &[10, 100_000, u64::from(u32::MAX)])).unwrap()
}

/// Any time a pool can tell, before 1970 too.
fn time(random: &mut SplitMix64) -> Timestamp {
    let near = random.below(4_000_000_000_000_000_000).cast_signed();
    Timestamp(near - 1_000_000_000_000_000_000)
}

/// Names of all lengths and bytes.
fn name(random: &mut SplitMix64, index: usize) -> Vec<u8> {
    let mut name = format!("{index}").into_bytes();
    match random.below(4) {
        0 => name.extend(vec![b'x'; 200]),
        1 => name.extend("-\u{e4}\u{4e2d}".bytes()),
        2 => name.extend([0xff, b'\n', b'=', b' ', 0x80]),
        _ => {}
    }
    name
}

fn contents(fs: &Fs, ino: Ino, random: &mut SplitMix64) {
    let flags = pick(
        random,
        &[
            0,
            0,
            FileFlags::COMPRESS.0,
            FileFlags::COMPRESS.0 | FileFlags::ZSTD.0,
            FileFlags::NO_CHECKSUM.0,
        ],
    );
    let set = SetAttributes {
        flags: Some(FileFlags(flags)),
        ..SetAttributes::default()
    };
    fs.set_attributes(ino, &set).unwrap();
    for _ in 0..random.below(4) {
        let at = below_one_of(random, &[1, 5000, 1 << 20, 1 << 40]);
        let length = 1 + below_one_of(random, &[100, 5000, 300_000]);
        let seed = random.next().to_le_bytes()[0];
        let bytes: Vec<u8> = (0..length).map(|index| (index / 50).to_le_bytes()[0] ^ seed).collect();
        assert_eq!(fs.write(ino, at, &bytes, Timestamp(0)).unwrap(), bytes.len());
    }
    if random.below(4) == 0 {
        let size = random.below(1 << 42);
        fs.truncate(ino, size, Timestamp(0)).unwrap();
    }
    for _ in 0..random.below(3) {
        let mode = Preallocation::Allocate { keep_size: true };
        let at = below_one_of(random, &[1, 1 << 20, 1 << 43]);
        fs.preallocate(ino, mode, at, 1 + random.below(40_000), Timestamp(0))
            .unwrap();
    }
}

fn attributes(fs: &Fs, ino: Ino, kind: Kind, random: &mut SplitMix64) {
    for index in 0..random.below(4) {
        let space = pick(random, &["user", "trusted", "security"]);
        let name = format!("{space}.{index}{}", pick(random, &["", "=", "%3D", "%", "\n"]));
        let length = below_one_of(random, &[1, 50, 4000]);
        let value: Vec<u8> = (0..length).map(|_| random.next().to_le_bytes()[0]).collect();
        fs.set_xattr(ino, name.as_bytes(), &value, 0, Timestamp(0)).unwrap();
    }
    if kind != Kind::Symlink && random.below(3) == 0 {
        let list = access_list(&[
            (1, 7, u32::MAX),
            (2, 5, 1000),
            (2, 4, 70_000),
            (4, 5, u32::MAX),
            (16, 7, u32::MAX),
            (32, 0, u32::MAX),
        ]);
        fs.set_xattr(ino, ACCESS_LIST, &list, 0, Timestamp(0)).unwrap();
    }
    if kind == Kind::Directory && random.below(3) == 0 {
        // One that no text can tell.
        fs.set_xattr(ino, b"system.posix_acl_default", b"strange", 0, Timestamp(0))
            .unwrap();
    }
}

/// The kernel's bytes of an access list: tag, permissions, id.
pub(crate) fn access_list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}
