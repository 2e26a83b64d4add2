// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is done to a filesystem: typed actions, made from a seed.
//!
//! An action names its files by position among those there are when it runs. So any part of a sequence is a sequence too,
//! which is what makes shrinking possible.

use vexfs::disk::SplitMix64;
use vexfs::fs::record::{FileFlags, Kind};
use vexfs::fs::vectors::PREFIX;
use vexfs::fs::{Preallocation, Seek};

use crate::content::PAGE;

/// Among which files one is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Among {
    Files,
    Directories,
    Symlinks,
    Everything,
    Held,
}

/// A file: the one at this place, modulo how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick(pub Among, pub u8);

/// A name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// One of those in the directory, if there are any.
    There(u8),
    /// One of a few.
    Known(u8),
}

/// A name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(pub u8, pub Name);

/// One call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Create(Place, Kind, u16, u8),
    CreateUnnamed(u8, u16),
    Link(Pick, Place),
    Unlink(Place),
    RemoveDirectory(Place),
    Rename(Place, Place, u8),
    SetMode(Pick, u16),
    SetOwner(Pick, u8, Option<u16>),
    SetTimes(Pick, Option<i64>, Option<i64>),
    SetFlags(Pick, FileFlags),
    TouchAccessed(Pick),
    SetXattr(Pick, u8, u32, u8),
    GetXattr(Pick, u8),
    RemoveXattr(Pick, u8),
    Write(Pick, u64, u32, u8),
    /// At the end of the file.
    Append(Pick, u32, u8),
    Read(Pick, u64, u32),
    Truncate(Pick, u64),
    Preallocate(Pick, Preallocation, u64, u64),
    CloneRange(Pick, u64, Pick, u64, u64),
    CloneTree(Pick, Place),
    RemoveTree(Place),
    ReadLink(Pick),
    Hold(Pick),
    Release(Pick),
    List(Pick, u8),
    Seek(Pick, u64, Seek),
    Flush,
    Checkpoint,
    /// Moves vectors into slabs, and into leaves of the index.
    Seal,
    Statistics,
    /// Write as much as is said to be available.
    FillUp,
    /// Promise space to a file of its own until so many blocks are available.
    Squeeze(u16),
}

/// The bytes of a known name. Some are no names.
pub fn known_name(number: u8) -> Vec<u8> {
    match number % 12 {
        6 => vec![b'n'; 255],
        7 => b"\xff\xfe not utf-8 \n".to_vec(),
        8 => vec![b'm'; 256],
        9 => b"..".to_vec(),
        10 => b"a/b".to_vec(),
        11 => b"i".to_vec(),
        letter => vec![b'a' + letter],
    }
}

/// The attribute of the space that every pool has: vectors of four signed bytes.
pub const VECTORS: &[u8] = b"user.vexfs.vec.v";

/// The name of an extended attribute. Some are none.
pub fn xattr_name(number: u8) -> Vec<u8> {
    match number % 10 {
        0 => b"user.a".to_vec(),
        1 => b"user.b".to_vec(),
        2 => b"trusted.overlay.opaque".to_vec(),
        3 => b"security.selinux".to_vec(),
        4 => b"system.posix_acl_access".to_vec(),
        5 => [b"user.".to_vec(), vec![b'x'; 250]].concat(),
        6 => b"nothing.known".to_vec(),
        8 => VECTORS.to_vec(),
        9 => [PREFIX, b"none"].concat(),
        _ => [b"user.".to_vec(), vec![b'y'; 251]].concat(),
    }
}

/// The target of a symbolic link.
pub fn symlink_target(number: u8) -> Vec<u8> {
    match number % 6 {
        0 => vec![b't'; 4095],
        1 => vec![b't'; 4096],
        2 => b"../a".to_vec(),
        _ => vec![b'/'; usize::from(number)],
    }
}

/// How large the bytes of a sequence get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Mostly below 64 KiB.
    Small,
    /// Some of several MiB.
    Large,
}

/// Makes actions.
pub struct Generator {
    random: SplitMix64,
    scale: Scale,
}

impl Generator {
    pub const fn new(seed: u64, scale: Scale) -> Self {
        Self {
            random: SplitMix64::new(seed),
            scale,
        }
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.random.below(limit)
    }

    fn byte(&mut self) -> u8 {
        self.random.next() as u8
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// Files to work on are few, so that things happen to the same ones.
    fn number(&mut self) -> u8 {
        self.below(6) as u8
    }

    fn file(&mut self) -> Pick {
        let among = match self.below(24) {
            0 => Among::Everything,
            1 | 2 => Among::Held,
            _ => Among::Files,
        };
        Pick(among, self.number())
    }

    fn any(&mut self) -> Pick {
        let among = self.of(&[Among::Files, Among::Directories, Among::Everything, Among::Everything]);
        Pick(among, self.byte())
    }

    fn directory(&mut self) -> u8 {
        if self.one_in(2) { 0 } else { self.byte() }
    }

    fn there(&mut self) -> Place {
        let name = if self.one_in(8) {
            Name::Known(self.byte())
        } else {
            Name::There(self.byte())
        };
        Place(self.directory(), name)
    }

    fn new_place(&mut self) -> Place {
        let name = if self.one_in(12) {
            self.byte()
        } else {
            self.of(&[0, 1, 2, 3, 4, 5, 6, 7, 11])
        };
        Place(self.directory(), Name::Known(name))
    }

    /// A length or offset: near the limits that the format has, or anywhere.
    fn bytes(&mut self) -> u64 {
        let edge = |base: u64, off: u64| (base + off).saturating_sub(2);
        let off = self.below(5);
        match self.below(14) {
            0 => self.below(80),
            1 => edge(2048, off),
            2 => self.below(2048),
            3 | 4 => edge(PAGE, off),
            5 => self.below(5) * PAGE,
            6 | 7 => self.below(4 * PAGE),
            8 => edge(32 * PAGE, off),
            9 => self.below(40) * PAGE,
            10 => self.below(200_000),
            11 if self.scale == Scale::Large => edge(1 << 20, off),
            12 if self.scale == Scale::Large => self.below(6 << 20),
            13 => self.below(600) * PAGE,
            _ => self.below(20_000),
        }
    }

    /// How much is written at once.
    fn length(&mut self) -> u64 {
        match self.scale {
            Scale::Small => self.bytes() % 300_000,
            Scale::Large => self.bytes(),
        }
    }

    /// An offset or length in whole blocks, mostly.
    fn blocks(&mut self) -> u64 {
        if self.one_in(10) {
            self.bytes()
        } else {
            self.below(40) * PAGE
        }
    }

    fn flags(&mut self) -> FileFlags {
        self.of(&[
            FileFlags(0),
            FileFlags(0),
            FileFlags::COMPRESS,
            FileFlags::COMPRESS,
            FileFlags(FileFlags::COMPRESS.0 | FileFlags::ZSTD.0),
            FileFlags::NO_CHECKSUM,
            FileFlags(FileFlags::NO_CHECKSUM.0 | FileFlags::NO_ATIME.0),
            FileFlags(FileFlags::COMPRESS.0 | FileFlags::NO_DUMP.0),
            FileFlags::APPEND,
            FileFlags::IMMUTABLE,
            FileFlags(0x8000_0000),
        ])
    }

    /// The next action. The number after each is how often it happens, of 1000.
    #[expect(
        clippy::same_functions_in_if_condition,
        reason = "the lot changes between the conditions"
    )]
    pub fn action(&mut self) -> Action {
        let mut lot = self.below(1000);
        let mut share = |often: u64| {
            let hit = lot < often;
            lot = lot.saturating_sub(if hit { 0 } else { often });
            hit
        };
        if share(150) {
            let kind = self.of(&[Kind::File; 5]);
            let kind = if self.one_in(3) {
                self.of(&[Kind::Symlink, Kind::Fifo, Kind::Character, Kind::Block, Kind::Socket])
            } else {
                kind
            };
            Action::Create(self.new_place(), kind, self.mode(), self.byte())
        } else if share(70) {
            Action::Create(self.new_place(), Kind::Directory, self.mode(), self.byte())
        } else if share(15) {
            Action::CreateUnnamed(self.directory(), self.mode())
        } else if share(40) {
            Action::Link(
                if self.one_in(4) {
                    Pick(Among::Held, self.byte())
                } else {
                    self.any()
                },
                self.new_place(),
            )
        } else if share(45) {
            Action::Unlink(self.there())
        } else if share(25) {
            Action::RemoveDirectory(self.there())
        } else if share(65) {
            let to = if self.one_in(2) { self.there() } else { self.new_place() };
            Action::Rename(self.there(), to, self.of(&[0, 0, 0, 0, 1, 2, 2, 4, 5, 6, 8]))
        } else if share(15) {
            Action::SetMode(self.any(), self.mode())
        } else if share(15) {
            let mode = self.one_in(4).then(|| self.mode());
            Action::SetOwner(self.any(), self.byte(), mode)
        } else if share(10) {
            let mut time = || self.one_in(2).then(|| self.below(1 << 62).cast_signed() - (1 << 61));
            let (accessed, modified) = (time(), time());
            Action::SetTimes(self.any(), accessed, modified)
        } else if share(30) {
            let file = if self.one_in(4) { self.any() } else { self.file() };
            Action::SetFlags(file, self.flags())
        } else if share(10) {
            Action::TouchAccessed(self.any())
        } else if share(50) {
            let length = match self.below(8) {
                0 => 65_536,
                1 => 65_537,
                2 => self.below(65_536),
                _ => self.below(300),
            };
            Action::SetXattr(self.any(), self.byte(), length as u32, self.of(&[0, 0, 0, 1, 2, 4]))
        } else if share(10) {
            Action::GetXattr(self.any(), self.byte())
        } else if share(15) {
            Action::RemoveXattr(self.any(), self.byte())
        } else if share(150) {
            let fill = self.byte();
            Action::Write(self.file(), self.bytes(), self.length() as u32, fill)
        } else if share(25) {
            Action::Append(self.file(), self.length() as u32, self.byte())
        } else if share(20) {
            Action::Read(self.file(), self.bytes(), self.bytes() as u32)
        } else if share(35) {
            let size = if self.one_in(20) {
                self.of(&[u64::MAX, 1 << 63, 40 << 20])
            } else {
                self.bytes()
            };
            Action::Truncate(self.file(), size)
        } else if share(80) {
            self.preallocate()
        } else if share(45) {
            let length = if self.one_in(3) { 0 } else { self.blocks() };
            let (from, to) = (self.file(), self.file());
            Action::CloneRange(from, self.blocks(), to, self.blocks(), length)
        } else if share(8) {
            Action::CloneTree(self.any(), self.new_place())
        } else if share(8) {
            Action::RemoveTree(self.there())
        } else {
            self.small_action()
        }
    }

    fn small_action(&mut self) -> Action {
        match self.below(18) {
            0 => Action::ReadLink(Pick(Among::Symlinks, self.byte())),
            1 => Action::ReadLink(self.any()),
            2..=4 => Action::Hold(self.any()),
            5 => Action::Release(Pick(Among::Held, self.byte())),
            6 => Action::Release(self.any()),
            7 => Action::List(Pick(Among::Directories, self.byte()), self.byte()),
            8 => Action::Seek(self.file(), self.bytes(), self.of(&[Seek::Data, Seek::Hole])),
            9..=11 => Action::Flush,
            12 => Action::Checkpoint,
            13 => Action::Statistics,
            14..=16 => Action::Seal,
            _ if self.one_in(4) => Action::FillUp,
            _ => Action::List(self.any(), self.byte()),
        }
    }

    fn preallocate(&mut self) -> Action {
        let keep_size = self.one_in(2);
        let mode = self.of(&[
            Preallocation::Allocate { keep_size },
            Preallocation::Punch,
            Preallocation::Punch,
            Preallocation::Zero { keep_size },
            Preallocation::Collapse,
            Preallocation::Insert,
        ]);
        let whole = matches!(mode, Preallocation::Collapse | Preallocation::Insert) || self.one_in(2);
        let (at, length) = if whole {
            (self.blocks(), self.blocks())
        } else {
            (self.bytes(), self.bytes())
        };
        let at = if self.one_in(60) { i64::MAX as u64 - 1 } else { at };
        Action::Preallocate(self.file(), mode, at, length)
    }

    fn mode(&mut self) -> u16 {
        self.of(&[0o644, 0o600, 0o755, 0o4755, 0o2755, 0o6711, 0o2644, 0o1777, 0o7777, 0])
    }
}
