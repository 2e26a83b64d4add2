// SPDX-License-Identifier: MIT OR Apache-2.0

//! Anonymous memory mappings: zeroed, page-aligned, allocated by the kernel page by page on first touch.
//!
//! # Contract
//!
//! The mapping itself synchronises nothing. Two kinds of use are sound, and the types keep them apart:
//!
//! - one owner: [`AnonymousMap::as_mut_slice`] takes `&mut self`, so the borrow checker is the proof;
//! - shared: [`read`], [`write`], [`bytes`], [`stretch`], [`zero`] and [`release`] take `&self` and are `unsafe`; the caller holds a
//!   lock.
//!
//! [`read`]: AnonymousMap::read
//! [`write`]: AnonymousMap::write
//! [`bytes`]: AnonymousMap::bytes
//! [`stretch`]: AnonymousMap::stretch
//! [`zero`]: AnonymousMap::zero
//! [`release`]: AnonymousMap::release

use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr::NonNull;
use std::slice;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};
use nix::unistd::{SysconfVar, sysconf};

/// A private anonymous mapping, unmapped on drop.
#[derive(Debug)]
pub(crate) struct AnonymousMap {
    start: NonNull<u8>,
    len: NonZeroUsize,
}

// SAFETY: the mapping is plain memory without ties to the thread that made it.
unsafe impl Send for AnonymousMap {}
// SAFETY: through `&self` the memory is reached only by `unsafe` methods whose callers exclude data races.
unsafe impl Sync for AnonymousMap {}

impl AnonymousMap {
    /// Maps `len` bytes of zeros. Address space is taken now, memory when touched.
    pub(crate) fn new(len: NonZeroUsize) -> Result<Self, Errno> {
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: without MAP_FIXED and an address hint, the kernel picks a place that is not in use.
        let start = unsafe { mmap_anonymous(None, len, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags)? };
        Ok(Self {
            start: start.cast(),
            len,
        })
    }

    /// Where the mapping starts. For handing out to the kernel; dereferencing it is the caller's responsibility.
    pub(crate) const fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// How many bytes it has.
    pub(crate) const fn len(&self) -> usize {
        self.len.get()
    }

    /// All of it, for its only user.
    pub(crate) const fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: start and len describe one live mapping, zero-initialised by the kernel; `&mut self` makes the
        // reference unique for as long as it lives.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len.get()) }
    }

    /// Copies from the mapping, starting at `offset`, into all of `into`.
    ///
    /// # Panics
    ///
    /// If the stretch is not inside the mapping.
    ///
    /// # Safety
    ///
    /// Nobody writes to the stretch during the call, and `into` does not overlap the mapping.
    pub(crate) unsafe fn read(&self, offset: usize, into: &mut [u8]) {
        let from = self.checked(offset..offset.saturating_add(into.len()));
        // SAFETY: `from` has `into.len()` bytes inside the mapping; the caller excludes overlap and writers.
        unsafe { std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) }
    }

    /// Copies all of `from` into the mapping, starting at `offset`.
    ///
    /// # Panics
    ///
    /// If the stretch is not inside the mapping.
    ///
    /// # Safety
    ///
    /// Nobody else reads or writes the stretch during the call, and `from` does not overlap the mapping.
    pub(crate) unsafe fn write(&self, offset: usize, from: &[u8]) {
        let into = self.checked(offset..offset.saturating_add(from.len()));
        // SAFETY: `into` has `from.len()` bytes inside the mapping; the caller excludes overlap and other users.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), into, from.len()) }
    }

    /// A stretch as it is in memory, for others to copy from.
    ///
    /// # Panics
    ///
    /// If the stretch is not inside the mapping.
    ///
    /// # Safety
    ///
    /// Nobody writes to the stretch as long as the reference lives.
    pub(crate) unsafe fn bytes(&self, range: Range<usize>) -> &[u8] {
        let len = range.len();
        let start = self.checked(range);
        // SAFETY: `len` bytes inside the mapping, initialised by the kernel; the caller excludes writers.
        unsafe { slice::from_raw_parts(start, len) }
    }

    /// The same for others to copy to.
    ///
    /// # Panics
    ///
    /// If the stretch is not inside the mapping.
    ///
    /// # Safety
    ///
    /// Nobody else reads or writes the stretch as long as the reference lives.
    #[expect(
        clippy::mut_from_ref,
        reason = "as the caller promises, there is no other reference to the stretch"
    )]
    pub(crate) unsafe fn stretch(&self, range: Range<usize>) -> &mut [u8] {
        let len = range.len();
        let start = self.checked(range);
        // SAFETY: `len` bytes inside the mapping, initialised by the kernel; the caller excludes other users.
        unsafe { slice::from_raw_parts_mut(start, len) }
    }

    /// Overwrites a stretch with zeros; its memory stays allocated.
    ///
    /// # Panics
    ///
    /// If the stretch is not inside the mapping.
    ///
    /// # Safety
    ///
    /// Nobody else reads or writes the stretch during the call.
    pub(crate) unsafe fn zero(&self, range: Range<usize>) {
        let len = range.len();
        let into = self.checked(range);
        // SAFETY: `into` has `len` bytes inside the mapping; the caller excludes other users.
        unsafe { std::ptr::write_bytes(into, 0, len) }
    }

    /// Makes a stretch read as zeros and gives the memory of every page wholly inside it back to the kernel.
    ///
    /// # Panics
    ///
    /// If the stretch is not inside the mapping.
    ///
    /// # Safety
    ///
    /// Nobody else reads or writes the stretch during the call.
    pub(crate) unsafe fn release(&self, range: Range<usize>) -> Result<(), Errno> {
        let page = page_size().get();
        // The mapping starts at a page boundary, so offsets and addresses are aligned alike.
        let first = range.start.next_multiple_of(page).min(range.end);
        let last = (range.end - range.end % page).max(first);
        // SAFETY: a part of `range`, which the caller has to itself.
        unsafe { self.zero(range.start..first) };
        // SAFETY: likewise.
        unsafe { self.zero(last..range.end) };
        if last > first {
            let pages = NonNull::new(self.checked(first..last)).ok_or(Errno::EFAULT)?;
            // SAFETY: whole pages of this mapping; for private anonymous memory MADV_DONTNEED means that the next
            // touch finds zeros, and the caller excludes anyone who could see the change halfway.
            unsafe { madvise(pages.cast(), last - first, MmapAdvise::MADV_DONTNEED)? };
        }
        Ok(())
    }

    /// The start of `range`, proven to be inside the mapping.
    fn checked(&self, range: Range<usize>) -> *mut u8 {
        assert!(
            range.start <= range.end && range.end <= self.len.get(),
            "{range:?} is outside the mapping of {} bytes",
            self.len
        );
        // SAFETY: just checked: not beyond one past the end of the mapping.
        unsafe { self.start.as_ptr().add(range.start) }
    }
}

impl Drop for AnonymousMap {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and whoever borrowed from it is gone.
        if let Err(errno) = unsafe { munmap(self.start.cast(), self.len.get()) } {
            tracing::warn!("unmapping {} bytes failed: {errno}", self.len);
        }
    }
}

/// The size of a page of memory.
pub(crate) fn page_size() -> NonZeroUsize {
    const SMALLEST: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
    match sysconf(SysconfVar::PAGE_SIZE) {
        Ok(Some(size)) => usize::try_from(size)
            .ok()
            .and_then(NonZeroUsize::new)
            .unwrap_or(SMALLEST),
        Ok(None) | Err(_) => SMALLEST,
    }
}
