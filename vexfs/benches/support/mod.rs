// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the benchmarks share.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

pub(crate) mod data;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vexfs::disk::{Disk, MemDisk};
use vexfs::error::Result;
use vexfs::fs::record::{Kind, Timestamp};
use vexfs::fs::{Fs, MountOptions, NewFile};
use vexfs::pool::format::{FormatOptions, Seeds, format_disk, format_path};
use vexfs::pool::{Access, Host, OpenOptions, Pool};

pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);

pub(crate) const FILE: NewFile<'static> = NewFile {
    kind: Kind::File,
    permissions: 0o644,
    uid: 1000,
    gid: 1000,
    device: 0,
    target: b"",
    now: NOW,
};

/// First bytes of every write of file contents that [`NoDataDisk`] is to forget.
pub(crate) const MARK: [u8; 16] = *b"contents of file";

/// A disk on which file contents vanish: what is measured is the engine, not the memory below it.
pub(crate) struct NoDataDisk(MemDisk);

impl Disk for NoDataDisk {
    fn size_bytes(&self) -> u64 {
        self.0.size_bytes()
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        self.0.read(at, into)
    }

    fn write(&self, at: u64, from: &[u8]) -> Result<()> {
        if from.starts_with(&MARK) {
            Ok(())
        } else {
            self.0.write(at, from)
        }
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn discard(&self, _: Range<u64>) -> Result<()> {
        Ok(())
    }
}

/// A pool on a disk without contents.
pub(crate) fn pool_without_data(bytes: u64) -> Fs {
    let disk = Arc::new(NoDataDisk(MemDisk::new(bytes)));
    format_disk(&*disk, &FormatOptions::default(), &Seeds::from_number(1), &Host::this()).expect("format");
    let pool = Pool::open_disk(disk, &OpenOptions::new(Access::ReadWrite)).expect("open");
    Fs::mount(pool, &manual()).expect("mount")
}

/// Contents that [`NoDataDisk`] forgets.
pub(crate) fn contents(bytes: usize) -> Vec<u8> {
    MARK.iter().copied().cycle().take(bytes).collect()
}

pub(crate) fn manual() -> MountOptions {
    MountOptions {
        background: false,
        ..MountOptions::default()
    }
}

/// A fresh pool in a file of the build directory.
pub(crate) fn pool_file(name: &str, bytes: u64) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let options = FormatOptions {
        size_bytes: Some(bytes),
        force: true,
        ..FormatOptions::default()
    };
    format_path(&path, &options).expect("format");
    path
}

/// A generator of numbers that looks random and is the same every time.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}
