// SPDX-License-Identifier: MIT OR Apache-2.0

//! `.vexfs/query`: requests about vectors, by writing and reading a file.
//!
//! The directory `.vexfs` is in the root, and not listed there. A file of the pool with that name is not reachable by it.
//!
//! The kernel opens files by itself, so nobody tells which descriptor asks. But it looks a name up again whenever a file is
//! opened, if it was told to; and every lookup of `query` is told of a new file with a number of its own. So each open file
//! description has its own [`Transaction`], which goes when the kernel forgets the number. What the kernel caches of it is
//! right: the content only grows, and the size is asked for before reading behind the end.
//!
//! Where the kernel keeps written bytes to itself (option `writeback`) this cannot work, and there is no such directory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo};
use nix::libc;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use vexfs::query::Caller;
use vexfs::query::transaction::Transaction;
use vexfs::units::Ino;

use super::VexFilesystem;
use super::convert::now;
use crate::serve::{Failure, Outcome};

/// Name of the directory in the root.
pub(super) const DIRECTORY_NAME: &[u8] = b".vexfs";
const FILE_NAME: &[u8] = b"query";
/// Files of the pool have lower numbers.
const DIRECTORY: u64 = 1 << 63;
/// Numbers from the one behind the directory on are transactions.
const FIRST: u64 = DIRECTORY + 1;
/// Transactions that are open at once.
const MAX_OPEN: usize = 4096;
/// The kernel is to ask again, each time.
pub(super) const NEVER: Duration = Duration::ZERO;

/// One transaction, and how often the kernel was told of it.
struct Open {
    transaction: Arc<Mutex<Transaction>>,
    lookups: u64,
}

/// All that are open.
pub(super) struct Queries {
    next: AtomicU64,
    open: Mutex<FxHashMap<u64, Open>>,
    enabled: bool,
}

impl Queries {
    pub(super) fn new(enabled: bool) -> Self {
        Self {
            next: AtomicU64::new(FIRST),
            open: Mutex::default(),
            enabled,
        }
    }

    /// Whether a number is not one of the pool's.
    pub(super) const fn is_ours(number: INodeNo) -> bool {
        number.0 >= DIRECTORY
    }

    /// Whether a name in a directory of the pool stands for ours.
    pub(super) fn is_directory_name(&self, parent: Ino, name: &[u8]) -> bool {
        self.enabled && parent == Ino::ROOT && name == DIRECTORY_NAME
    }

    pub(super) fn forget(&self, number: INodeNo, times: u64) {
        let mut open = self.open.lock();
        if let Some(one) = open.get_mut(&number.0) {
            one.lookups = one.lookups.saturating_sub(times);
            if one.lookups == 0 {
                open.remove(&number.0);
            }
        }
    }

    fn transaction(&self, number: INodeNo) -> Outcome<Arc<Mutex<Transaction>>> {
        let open = self.open.lock();
        let one = open.get(&number.0).ok_or(Failure::Errno(libc::ESTALE))?;
        Ok(Arc::clone(&one.transaction))
    }
}

impl VexFilesystem {
    pub(super) fn query_directory() -> FileAttr {
        attributes(DIRECTORY, FileType::Directory, 0o555, 0)
    }

    /// A name in the directory.
    pub(super) fn find_query(&self, parent: INodeNo, name: &[u8]) -> Outcome<FileAttr> {
        if parent.0 != DIRECTORY || name != FILE_NAME {
            return Err(Failure::Errno(libc::ENOENT));
        }
        let mut open = self.queries.open.lock();
        if open.len() >= MAX_OPEN {
            return Err(Failure::Errno(libc::ENFILE));
        }
        let number = self.queries.next.fetch_add(1, Ordering::Relaxed);
        let one = Open {
            transaction: Arc::default(),
            lookups: 1,
        };
        open.insert(number, one);
        Ok(attributes(number, FileType::RegularFile, 0o666, 0))
    }

    /// Also has a request answered that is complete: the kernel asks before it reads behind what was written.
    pub(super) fn query_attributes(&self, number: INodeNo) -> Outcome<FileAttr> {
        if number.0 == DIRECTORY {
            return Ok(Self::query_directory());
        }
        let transaction = self.queries.transaction(number)?;
        let mut transaction = transaction.lock();
        self.settle(&mut transaction);
        Ok(attributes(number.0, FileType::RegularFile, 0o666, transaction.size()))
    }

    fn settle(&self, transaction: &mut Transaction) {
        for changed in transaction.settle(&self.fs, now()) {
            self.forget_attributes(changed);
        }
    }

    /// Truncating to nothing begins anew; nothing else can be changed.
    pub(super) fn set_query(&self, number: INodeNo, size: Option<u64>) -> Outcome<FileAttr> {
        if size == Some(0) {
            self.queries.transaction(number)?.lock().clear();
        } else if size.is_some() {
            return Err(Failure::Errno(libc::EINVAL));
        }
        self.query_attributes(number)
    }

    pub(super) fn read_query(&self, number: INodeNo, at: u64, size: u32) -> Outcome<Vec<u8>> {
        let transaction = self.queries.transaction(number)?;
        let mut transaction = transaction.lock();
        self.settle(&mut transaction);
        let size = usize::try_from(size).unwrap_or(0);
        Ok(transaction.read(at, size).to_vec())
    }

    pub(super) fn write_query(&self, number: INodeNo, at: u64, bytes: &[u8], caller: (u32, u32, u32)) -> Outcome<u32> {
        let (uid, gid, process) = caller;
        let caller = Caller::user(uid, gid, self.callers.groups(process).unwrap_or_default());
        let transaction = self.queries.transaction(number)?;
        transaction.lock().write(at, bytes, &caller)?;
        u32::try_from(bytes.len()).map_err(|_| Failure::Errno(libc::EIO))
    }
}

fn attributes(number: u64, kind: FileType, permissions: u16, size: u64) -> FileAttr {
    let time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(UNIX_EPOCH, |since| UNIX_EPOCH + since);
    FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind,
        perm: permissions,
        nlink: if kind == FileType::Directory { 2 } else { 1 },
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}
