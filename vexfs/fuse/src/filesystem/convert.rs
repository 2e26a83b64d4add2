// SPDX-License-Identifier: MIT OR Apache-2.0

//! The engine's terms in those of the protocol, and back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};
use vexfs::fs::Attributes;
use vexfs::fs::record::{Kind, Timestamp};
use vexfs::units::{BLOCK_SIZE, Ino};

/// How long the kernel may rely on what it was told. Nobody but it changes the files, so this is only a bound on how
/// long a fault in this reasoning could show.
pub(super) const FOREVER: Duration = Duration::from_secs(86_400);

pub(super) const fn ino(number: INodeNo) -> Ino {
    Ino(number.0)
}

pub(super) const fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Fifo => FileType::NamedPipe,
        Kind::Character => FileType::CharDevice,
        Kind::Directory => FileType::Directory,
        Kind::Block => FileType::BlockDevice,
        Kind::File => FileType::RegularFile,
        Kind::Symlink => FileType::Symlink,
        Kind::Socket => FileType::Socket,
    }
}

pub(super) fn file_attributes(found: &Attributes) -> FileAttr {
    let inode = &found.inode;
    FileAttr {
        ino: INodeNo(found.ino.0),
        size: found.size(),
        blocks: found.sectors(),
        atime: system_time(inode.accessed),
        mtime: system_time(inode.modified),
        ctime: system_time(inode.changed),
        crtime: system_time(inode.born),
        kind: file_type(inode.kind()),
        perm: inode.mode & 0o7777,
        nlink: inode.links,
        uid: inode.uid,
        gid: inode.gid,
        // The kernel's 32 bits for a device number are the low ones of the C library's 64.
        rdev: u32::try_from(inode.device & u64::from(u32::MAX)).unwrap_or(0),
        blksize: u32::try_from(BLOCK_SIZE).unwrap_or(4096),
        flags: 0,
    }
}

/// What the kernel is told of a name that does not exist, so that it need not ask again: file number 0.
pub(super) fn no_file() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

fn system_time(time: Timestamp) -> SystemTime {
    let distance = Duration::from_nanos(time.0.unsigned_abs());
    if time.0 < 0 {
        UNIX_EPOCH - distance
    } else {
        UNIX_EPOCH + distance
    }
}

pub(super) fn now() -> Timestamp {
    timestamp(SystemTime::now())
}

pub(super) fn time_or_now(time: TimeOrNow, now: Timestamp) -> Timestamp {
    match time {
        TimeOrNow::SpecificTime(time) => timestamp(time),
        TimeOrNow::Now => now,
    }
}

/// The time as the kernel sent it.
///
/// The kernel sends seconds, rounded down, and nanoseconds to add. For times before 1970 the crate below takes the
/// nanoseconds away instead (`system_time_from_time`), so they are added here to the seconds that it meant.
pub(super) fn timestamp(time: SystemTime) -> Timestamp {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => Timestamp::new(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            let seconds = i64::try_from(before.as_secs()).map_or(i64::MIN, |seconds| -seconds);
            Timestamp::new(seconds, before.subsec_nanos())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_through_also_before_1970_and_after_2038() {
        for time in [
            0,
            1,
            -1,
            1_500_000_000,
            -1_500_000_000,
            5_000_000_000_123_456_789,
            i64::MIN,
            i64::MAX,
        ] {
            let told = system_time(Timestamp(time));
            let since = told.duration_since(UNIX_EPOCH);
            let nanos = since.map_or_else(
                |before| -i128::try_from(before.duration().as_nanos()).unwrap(),
                |since| i128::try_from(since.as_nanos()).unwrap(),
            );
            assert_eq!(nanos, i128::from(time));
        }
    }

    #[test]
    fn half_a_second_before_1970_is_understood_as_the_kernel_sends_it() {
        // (-1 s, 500 000 000 ns), as the crate below makes it a system time.
        let sent = UNIX_EPOCH - Duration::new(1, 500_000_000);
        assert_eq!(timestamp(sent), Timestamp(-500_000_000));
    }
}
