// SPDX-License-Identifier: MIT OR Apache-2.0

//! A RAM disk.
//!
//! # Memory
//!
//! One anonymous mapping as large as the device. The kernel fills in pages when they are first written; a discard, and
//! a write-zeroes that may unmap, gives whole pages back. A device larger than the host's memory can be made, and used
//! until memory runs out; as with the kernel's own RAM disk, the out-of-memory killer then decides.
//!
//! # Concurrency
//!
//! Queue threads serve overlapping requests at the same time, and unsynchronised copies would be data races. So the
//! device is divided into regions, and a copy holds the lock of the region it is in: shared to read, exclusive to
//! write. A request spanning regions goes through them one after the other, never holding two locks. The consequences:
//!
//! - no torn blocks: a region is larger than a block and a multiple of it, so a reader sees each block before or after
//!   a concurrent write, never a mixture;
//! - no order between the regions of one request, which no disk promises either;
//! - no deadlock, as nobody waits for a lock while holding one.
//!
//! With [`Transfer::UserCopy`] the kernel copies, in a system call made with the lock held: between the application's pages
//! and the mapping, without a buffer between them. A system call and not an operation of the ring, because a lock must not
//! be held while others run, and because the ring would do no more than make that call at its next submission.
//!
//! There is a fixed number of locks, shared by the regions in turn, so that a device of any size costs the same.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use nix::errno::Errno;
use thiserror::Error;

use super::{Io, IoError, Limits, NO_PREFERENCE, Payload, Request, Target, WriteCache, range_within, within};
use crate::map::{AnonymousMap, page_size};
use crate::payload::Channel;
use crate::transfer::Transfer;
use crate::units::{BlockSize, ByteRange, Bytes};

/// What one lock covers. A multiple of every block and page size there is.
const REGION: usize = 256 << 10;
/// Enough that queue threads rarely meet at one by accident.
const LOCKS: usize = 256;

/// A disk in memory; its content ends with the process.
#[derive(Debug)]
pub struct Mem {
    map: AnonymousMap,
    locks: Box<[RegionLock]>,
    limits: Limits,
}

/// Why a RAM disk cannot be made.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MemError {
    /// A mapping needs at least one byte.
    #[error("a RAM disk of 0 bytes is not possible: choose a larger size")]
    Empty,
    /// The address space is not there.
    #[error(
        "cannot reserve {size} of address space for the RAM disk ({errno}): choose a smaller size, or lift the limit (ulimit -v, vm.overcommit_memory=2)"
    )]
    Reserve {
        /// What was asked for.
        size: Bytes,
        /// What the kernel said.
        errno: Errno,
    },
}

/// A lock on a cache line of its own, so that neighbours do not slow each other down.
#[derive(Debug, Default)]
#[repr(align(64))]
struct RegionLock(RwLock<()>);

impl RegionLock {
    // The lock guards bytes, for which every content is valid: there is nothing a panic could have left half-done.
    fn shared(&self) -> RwLockReadGuard<'_, ()> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn exclusive(&self) -> RwLockWriteGuard<'_, ()> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mem {
    /// An empty RAM disk.
    pub fn new(size: Bytes, block_size: BlockSize, write_cache: WriteCache) -> Result<Self, MemError> {
        let len = usize::try_from(size.get()).map_err(|_| MemError::Reserve {
            size,
            errno: Errno::ENOMEM,
        })?;
        let len = NonZeroUsize::new(len).ok_or(MemError::Empty)?;
        let map = AnonymousMap::new(len).map_err(|errno| MemError::Reserve { size, errno })?;
        let granularity = Bytes::new(page_size().get() as u64).max(block_size.bytes());
        Ok(Self {
            map,
            locks: (0..LOCKS).map(|_| RegionLock::default()).collect(),
            limits: Limits {
                size,
                block_size,
                write_cache,
                discard: Some(granularity),
                write_zeroes: true,
                preferred: NO_PREFERENCE,
            },
        })
    }

    fn serve(&self, request: Request<'_>) -> Result<(), IoError> {
        let size = self.limits.size;
        match request {
            Request::Read { offset, into } => {
                let range = range_within(offset, into.len(), size)?;
                match into {
                    Payload::Memory(mut memory) => self.read(range, memory.bytes()),
                    Payload::Channel(channel) => self.give(range, &channel),
                    Payload::Registered(_) => Err(IoError::Unsupported),
                }
            }
            Request::Write { offset, from, .. } => {
                let range = range_within(offset, from.len(), size)?;
                match from {
                    Payload::Memory(mut memory) => self.write(range, memory.bytes()),
                    Payload::Channel(channel) => self.take(range, &channel),
                    Payload::Registered(_) => Err(IoError::Unsupported),
                }
            }
            Request::Flush => Ok(()),
            Request::Discard { range } | Request::WriteZeroes { range, may_unmap: true } => {
                self.release(within(range, size)?)
            }
            Request::WriteZeroes {
                range,
                may_unmap: false,
            } => self.zero(within(range, size)?),
        }
    }

    /// `range` is inside the device and as long as `into`.
    fn read(&self, range: ByteRange, into: &mut [u8]) -> Result<(), IoError> {
        let mut rest = into;
        for part in parts(range)? {
            let (now, later) = rest.split_at_mut_checked(part.len()).ok_or(IoError::Malformed)?;
            let _shared = self.lock_of(&part).shared();
            // SAFETY: the part is inside one region, whose lock is held: nobody writes there. `now` is exclusively
            // ours, and this module never hands out references into the mapping, so they do not overlap.
            unsafe { self.map.read(part.start, now) };
            rest = later;
        }
        Ok(())
    }

    /// `range` is inside the device and as long as `from`.
    fn write(&self, range: ByteRange, from: &[u8]) -> Result<(), IoError> {
        let mut rest = from;
        for part in parts(range)? {
            let (now, later) = rest.split_at_checked(part.len()).ok_or(IoError::Malformed)?;
            let _exclusive = self.lock_of(&part).exclusive();
            // SAFETY: the part is inside one region, whose lock is held exclusively: nobody else reads or writes
            // there. This module never hands out references into the mapping, so `now` is elsewhere.
            unsafe { self.map.write(part.start, now) };
            rest = later;
        }
        Ok(())
    }

    /// `range` is inside the device and as long as the request.
    fn give(&self, range: ByteRange, request: &Channel<'_>) -> Result<(), IoError> {
        let mut at = 0;
        for part in parts(range)? {
            let len = part.len();
            let _shared = self.lock_of(&part).shared();
            // SAFETY: the part is inside one region, whose lock is held: nobody writes there, nor does this reference.
            let bytes: &[u8] = unsafe { self.map.bytes(part) };
            request.give(at, bytes).map_err(IoError::Backing)?;
            at += len;
        }
        Ok(())
    }

    /// `range` is inside the device and as long as the request.
    fn take(&self, range: ByteRange, request: &Channel<'_>) -> Result<(), IoError> {
        let mut at = 0;
        for part in parts(range)? {
            let len = part.len();
            let _exclusive = self.lock_of(&part).exclusive();
            // SAFETY: the part is inside one region, whose lock is held exclusively: nobody else reads or writes there.
            let bytes = unsafe { self.map.stretch(part) };
            request.take(at, bytes).map_err(IoError::Backing)?;
            at += len;
        }
        Ok(())
    }

    fn zero(&self, range: ByteRange) -> Result<(), IoError> {
        for part in parts(range)? {
            let _exclusive = self.lock_of(&part).exclusive();
            // SAFETY: the part is inside one region, whose lock is held exclusively.
            unsafe { self.map.zero(part) };
        }
        Ok(())
    }

    fn release(&self, range: ByteRange) -> Result<(), IoError> {
        for part in parts(range)? {
            let _exclusive = self.lock_of(&part).exclusive();
            // SAFETY: the part is inside one region, whose lock is held exclusively.
            unsafe { self.map.release(part) }.map_err(IoError::Backing)?;
        }
        Ok(())
    }

    /// The lock for a part of one region.
    fn lock_of(&self, part: &Range<usize>) -> &RegionLock {
        &self.locks[part.start / REGION % self.locks.len()]
    }
}

/// Cuts a range at the borders of regions, in ascending order.
fn parts(range: ByteRange) -> Result<impl Iterator<Item = Range<usize>>, IoError> {
    let mut next = usize::try_from(range.start()).map_err(|_| IoError::OutOfRange)?;
    let end = usize::try_from(range.end()).map_err(|_| IoError::OutOfRange)?;
    Ok(std::iter::from_fn(move || {
        let start = next;
        // Saturation only shortens a part that would have ended beyond `end` anyway.
        next = (start - start % REGION).saturating_add(REGION).min(end);
        (start < end).then_some(start..next)
    }))
}

impl Target for Mem {
    fn name(&self) -> &'static str {
        "mem"
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn transfers(&self) -> &'static [Transfer] {
        &[Transfer::Copy, Transfer::UserCopy]
    }

    async fn handle(&self, _io: &Io<'_>, request: Request<'_>) -> Result<(), IoError> {
        self.serve(request)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;
    use std::time::{Duration, Instant};

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::payload::Memory;

    fn mem(size: usize) -> Mem {
        Mem::new(Bytes::new(size as u64), BlockSize::B512, WriteCache::WriteThrough).unwrap()
    }

    fn read(mem: &Mem, offset: u64, len: usize) -> Result<Vec<u8>, IoError> {
        let mut bytes = vec![0xee; len];
        mem.serve(Request::Read {
            offset,
            into: Payload::Memory(Memory::new(&mut bytes, None)),
        })
        .map(|()| bytes)
    }

    fn write(mem: &Mem, offset: u64, from: &[u8]) -> Result<(), IoError> {
        mem.serve(Request::Write {
            offset,
            from: Payload::Memory(Memory::new(&mut from.to_vec(), None)),
            fua: false,
        })
    }

    /// Just over two regions, and not a whole number of pages.
    const SIZE: usize = 2 * REGION + 3 * 4096 + 512;

    #[derive(Debug, Clone)]
    enum Op {
        Read,
        Write(u8),
        Discard,
        WriteZeroes { may_unmap: bool },
    }

    /// Any stretch, with the interesting places made likely: borders of pages, of regions, and of the device.
    fn stretch() -> impl Strategy<Value = (u64, usize)> {
        let border = prop_oneof![
            3 => 0..SIZE + 8192,
            1 => (0..SIZE / 4096 + 2).prop_map(|page| page * 4096),
            1 => (0..4_usize).prop_map(|region| region * REGION),
            1 => Just(SIZE),
        ];
        let near = prop_oneof![Just(0_i64), -512..512_i64];
        let len = prop_oneof![3 => 0..16384_usize, 1 => 0..SIZE + 1, 1 => (0..5_usize).prop_map(|pages| pages * 4096)];
        (border, near, len).prop_map(|(border, near, len)| ((border as u64).saturating_add_signed(near), len))
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            2 => Just(Op::Read),
            4 => (1..=u8::MAX).prop_map(Op::Write),
            2 => Just(Op::Discard),
            2 => any::<bool>().prop_map(|may_unmap| Op::WriteZeroes { may_unmap }),
        ]
    }

    /// Bytes that differ from place to place, so that data landing in the wrong place is noticed.
    fn pattern(seed: u8, len: usize) -> Vec<u8> {
        (0..len)
            .map(|i| u8::try_from((i + i / 256 * 31 + usize::from(seed)) % 251).unwrap())
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn behaves_like_a_plain_array(ops in vec((op(), stretch()), 1..40)) {
            let mem = mem(SIZE);
            let mut model = vec![0_u8; SIZE];
            for (op, (offset, len)) in ops {
                let at = usize::try_from(offset).unwrap();
                let inside = at.checked_add(len).is_some_and(|end| end <= SIZE);
                let expected = if inside { Ok(()) } else { Err(IoError::OutOfRange) };
                let range = ByteRange::new(offset, len as u64).unwrap();
                match op {
                    Op::Read => {
                        let expected = expected.map(|()| model[at..at + len].to_vec());
                        prop_assert!(read(&mem, offset, len) == expected, "read {len} at {offset}");
                    }
                    Op::Write(seed) => {
                        let data = pattern(seed, len);
                        prop_assert_eq!(write(&mem, offset, &data), expected);
                        if inside {
                            model[at..at + len].copy_from_slice(&data);
                        }
                    }
                    Op::Discard => {
                        prop_assert_eq!(mem.serve(Request::Discard { range }), expected);
                        if inside {
                            model[at..at + len].fill(0);
                        }
                    }
                    Op::WriteZeroes { may_unmap } => {
                        prop_assert_eq!(mem.serve(Request::WriteZeroes { range, may_unmap }), expected);
                        if inside {
                            model[at..at + len].fill(0);
                        }
                    }
                }
            }
            prop_assert!(read(&mem, 0, SIZE).as_ref() == Ok(&model), "the final content differs");
        }

        #[test]
        fn parts_cover_the_range_and_stay_in_their_regions(start in 0..1_u64 << 40, len in 0..4_u64 << 20) {
            let mut next = usize::try_from(start).unwrap();
            for part in parts(ByteRange::new(start, len).unwrap()).unwrap() {
                prop_assert!(part.start == next && !part.is_empty());
                prop_assert_eq!(part.start / REGION, (part.end - 1) / REGION);
                next = part.end;
            }
            prop_assert_eq!(next as u64, start + len);
        }
    }

    #[test]
    fn offsets_near_the_top_of_64_bits_are_refused() {
        let mem = mem(SIZE);
        assert_eq!(write(&mem, u64::MAX, &[1]), Err(IoError::OutOfRange));
        assert_eq!(read(&mem, u64::MAX - 511, 512), Err(IoError::OutOfRange));
        let range = ByteRange::new(u64::MAX - 512, 512).unwrap();
        assert_eq!(mem.serve(Request::Discard { range }), Err(IoError::OutOfRange));
    }

    #[test]
    fn sizes_that_cannot_be_mapped_are_refused_with_the_reason() {
        let new = |size| Mem::new(size, BlockSize::B512, WriteCache::WriteThrough).map(|_| ());
        assert_eq!(new(Bytes::new(0)), Err(MemError::Empty));
        let size = Bytes::new(1 << 62);
        assert_eq!(
            new(size),
            Err(MemError::Reserve {
                size,
                errno: Errno::ENOMEM
            })
        );
    }

    #[test]
    fn a_device_far_larger_than_memory_is_sparse() {
        let mem = mem(1 << 40);
        write(&mem, (1 << 40) - 4096, &[7; 4096]).unwrap();
        assert_eq!(
            read(&mem, (1 << 40) - 8192, 8192).unwrap(),
            [[0; 4096], [7; 4096]].concat()
        );
    }

    /// Memory in use by the mapping that holds `mem`, in KiB.
    fn resident(mem: &Mem) -> u64 {
        let address = mem.map.as_ptr().addr();
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = smaps.lines();
        lines
            .find(|line| {
                let Some((start, end)) = line.split(' ').next().and_then(|range| range.split_once('-')) else {
                    return false;
                };
                let (Ok(start), Ok(end)) = (usize::from_str_radix(start, 16), usize::from_str_radix(end, 16)) else {
                    return false;
                };
                (start..end).contains(&address)
            })
            .unwrap();
        let rss = lines.find(|line| line.starts_with("Rss:")).unwrap();
        rss.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn discarding_gives_memory_back_and_zeroing_in_place_keeps_it() {
        const LEN: usize = 64 << 20;
        let mem = mem(LEN);
        let all = ByteRange::new(0, LEN as u64).unwrap();
        assert!(resident(&mem) < 4 << 10);
        write(&mem, 0, &vec![1; LEN]).unwrap();
        assert!(resident(&mem) >= 64 << 10);
        mem.serve(Request::WriteZeroes {
            range: all,
            may_unmap: false,
        })
        .unwrap();
        assert!(resident(&mem) >= 64 << 10);
        mem.serve(Request::Discard { range: all }).unwrap();
        assert!(resident(&mem) < 4 << 10);
        write(&mem, 0, &vec![1; LEN]).unwrap();
        mem.serve(Request::WriteZeroes {
            range: all,
            may_unmap: true,
        })
        .unwrap();
        assert!(resident(&mem) < 4 << 10);
    }

    type Serve = fn(&Mem);

    /// One request of each kind for the first region.
    const KINDS: [(&str, Serve); 4] = [
        ("read", |mem| drop(read(mem, 0, 4096).unwrap())),
        ("write", |mem| write(mem, 0, &[1; 4096]).unwrap()),
        ("discard", |mem| mem.serve(Request::Discard { range: BLOCK }).unwrap()),
        ("zero", |mem| {
            mem.serve(Request::WriteZeroes {
                range: BLOCK,
                may_unmap: false,
            })
            .unwrap();
        }),
    ];
    const BLOCK: ByteRange = ByteRange::new(0, 4096).unwrap();

    /// Whether the request waits for whoever holds a lock of `mem` now.
    fn waits<'scope>(scope: &'scope thread::Scope<'scope, '_>, mem: &'scope Mem, serve: Serve) -> bool {
        let thread = scope.spawn(move || serve(mem));
        // Generous towards a request that does not wait, on a busy machine; one that waits takes the full time.
        let end = Instant::now() + Duration::from_millis(300);
        while !thread.is_finished() && Instant::now() < end {
            thread::sleep(Duration::from_millis(1));
        }
        !thread.is_finished()
    }

    #[test]
    fn everything_waits_for_a_writer_of_the_region_and_only_changes_wait_for_a_reader() {
        for (kind, serve) in KINDS {
            let mem = mem(REGION);
            thread::scope(|scope| {
                let writing = mem.lock_of(&(0..1)).exclusive();
                assert!(waits(scope, &mem, serve), "{kind} beside a write");
                drop(writing);
            });
            thread::scope(|scope| {
                let reading = mem.lock_of(&(0..1)).shared();
                assert_eq!(waits(scope, &mem, serve), kind != "read", "{kind} beside a read");
                drop(reading);
            });
        }
    }

    #[test]
    fn nothing_waits_for_a_neighbouring_region() {
        for (kind, serve) in KINDS {
            let mem = mem(2 * REGION);
            thread::scope(|scope| {
                let writing = mem.lock_of(&(REGION..REGION + 1)).exclusive();
                assert!(!waits(scope, &mem, serve), "{kind}");
                drop(writing);
            });
        }
    }

    #[test]
    fn concurrent_writes_never_leave_a_torn_block() {
        const BLOCK: usize = 4096;
        let mem = mem(REGION * 2);
        // Across the border of two regions, so that requests of several parts are in the game.
        let start = (REGION - 2 * BLOCK) as u64;
        let end = Instant::now() + Duration::from_millis(500);
        let mem = &mem;
        thread::scope(|scope| {
            for byte in [1_u8, 2] {
                scope.spawn(move || {
                    while Instant::now() < end {
                        write(mem, start, &[byte; 4 * BLOCK]).unwrap();
                    }
                });
            }
            scope.spawn(move || {
                let range = ByteRange::new(start, 4 * BLOCK as u64).unwrap();
                while Instant::now() < end {
                    mem.serve(Request::WriteZeroes {
                        range,
                        may_unmap: false,
                    })
                    .unwrap();
                }
            });
            while Instant::now() < end {
                for block in read(mem, start, 4 * BLOCK).unwrap().chunks(BLOCK) {
                    assert!(block.iter().all(|&byte| byte == block[0]), "a torn block");
                }
            }
        });
    }
}
