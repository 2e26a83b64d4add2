// SPDX-License-Identifier: MIT OR Apache-2.0

//! A piece of a device in this process's address space. All `unsafe` of memory access is here.
//!
//! A mapping is never moved or shrunk, is readable and writable for as long as the value lives, and is gone when it is
//! dropped. What is behind it may change at any time: access is by volatile words only, never by reference.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// A type that the link carries in one access.
pub trait Word: Copy + sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for u16 {}
    impl Sealed for u32 {}
    impl Sealed for u64 {}
}

impl Word for u8 {}
impl Word for u16 {}
impl Word for u32 {}
impl Word for u64 {}

/// See the module.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory belongs to the mapping alone, and every access is one volatile machine access, which several
// threads may make at once as they may to any device.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `length` bytes at `offset` of a file or device.
    pub fn of_file(file: impl AsFd, offset: usize, length: usize) -> io::Result<Self> {
        let size = NonZeroUsize::new(length).ok_or(io::ErrorKind::InvalidInput)?;
        let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let (access, sharing) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice touches nobody's memory.
        let base = unsafe { mmap(None, size, access, sharing, file, offset) }?;
        Ok(Self {
            base: base.cast(),
            length,
        })
    }

    /// Maps the last `length` of the first `end` bytes of a UIO device's map 0.
    ///
    /// UIO takes the page offset of a mapping for the number of the map, so a part can only be had by mapping from the
    /// beginning and giving back what is not wanted. Behind `uio_dsmil` nothing is populated before it is touched, so
    /// both steps only move borders.
    pub fn of_uio(device: impl AsFd, end: usize, length: usize) -> io::Result<Self> {
        let mut whole = Self::of_file(device, 0, end)?;
        let surplus = end.checked_sub(length).ok_or(io::ErrorKind::InvalidInput)?;
        if surplus > 0 {
            // SAFETY: `surplus` is less than the mapping's length (`length` is not 0, or `of_file` had refused), so
            // the result lies inside it.
            let kept = unsafe { whole.base.add(surplus) };
            // SAFETY: these bytes are the mapping's own, and after the next line it does not know them any more.
            unsafe { munmap(whole.base.cast(), surplus) }?;
            whole.base = kept;
            whole.length = length;
        }
        Ok(whole)
    }

    /// Memory that stands for a device, all zeros.
    pub fn anonymous(length: usize) -> io::Result<Self> {
        let size = NonZeroUsize::new(length).ok_or(io::ErrorKind::InvalidInput)?;
        let (access, sharing) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE);
        // SAFETY: as in `of_file`.
        let base = unsafe { mmap_anonymous(None, size, access, sharing) }?;
        Ok(Self {
            base: base.cast(),
            length,
        })
    }

    /// Bytes in it.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Reads a word. `None` if it does not lie wholly inside, or is not aligned.
    pub fn read<T: Word>(&self, offset: usize) -> Option<T> {
        let place = self.place::<T>(offset)?;
        // SAFETY: `place` is inside the mapping and aligned; every bit pattern is a valid `Word`.
        let value = unsafe { place.read_volatile() };
        // What is read next must not be older than this.
        fence(Ordering::Acquire);
        Some(value)
    }

    /// Writes a word. `None`, and nothing is written, if it does not lie wholly inside or is not aligned.
    pub fn write<T: Word>(&self, offset: usize, value: T) -> Option<()> {
        let place = self.place::<T>(offset)?;
        // What was written before must be visible to who sees this.
        fence(Ordering::Release);
        // SAFETY: `place` is inside the mapping and aligned, and no reference to it exists.
        unsafe { place.write_volatile(value) };
        Some(())
    }

    fn place<T: Word>(&self, offset: usize) -> Option<NonNull<T>> {
        let end = offset.checked_add(size_of::<T>())?;
        if end > self.length || !offset.is_multiple_of(size_of::<T>()) {
            return None;
        }
        // SAFETY: `offset` is below the mapping's length. The base is page-aligned, so the place is aligned.
        Some(unsafe { self.base.add(offset) }.cast())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, whole, and nothing refers to it any more.
        // An error would mean that it is not there, which leaves nothing to do.
        let _not_there = unsafe { munmap(self.base.cast(), self.length) };
    }
}
