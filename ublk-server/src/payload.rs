// SPDX-License-Identifier: MIT OR Apache-2.0

//! The data of a request, in the three ways the driver gives access to it.
//!
//! | place | what the target does | who copies |
//! |---|---|---|
//! | [`Payload::Memory`] | reads or fills memory of the server | the driver, before a write arrives or after a read is answered |
//! | [`Payload::Channel`] | copies between its own memory and the request, with system calls | nobody else |
//! | [`Payload::Registered`] | names the application's own pages in operations of the ring | nobody |

use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use libublk::sys;
use nix::errno::Errno;
use nix::sys::uio;

/// The data of one request, or where it goes.
#[derive(Debug)]
pub enum Payload<'r> {
    /// Memory of the server.
    Memory(Memory<'r>),
    /// Behind the channel to the driver.
    Channel(Channel<'r>),
    /// Pages that only operations of the ring can reach.
    Registered(Registered),
}

impl Payload<'_> {
    /// How many bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Memory(memory) => memory.bytes.len(),
            Self::Channel(channel) => channel.len,
            Self::Registered(registered) => registered.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of it for an operation of the ring; none if the ring cannot reach it.
    pub(crate) fn span(&mut self) -> Option<Span<'_>> {
        match self {
            Self::Memory(memory) => {
                let registered = memory.registered;
                Some(Span::of(memory.bytes, registered))
            }
            Self::Channel(_) => None,
            Self::Registered(registered) => Some(registered.span(0..registered.len)),
        }
    }
}

/// Memory that the driver copies from or to.
#[derive(Debug)]
pub struct Memory<'r> {
    bytes: &'r mut [u8],
    registered: Option<Registration>,
}

impl<'r> Memory<'r> {
    /// A part of the memory may be registered with the ring.
    pub(crate) const fn new(bytes: &'r mut [u8], registered: Option<Registration>) -> Self {
        Self { bytes, registered }
    }

    /// The bytes. Of a read: what earlier requests of the tag left there, zeros at first.
    pub const fn bytes(&mut self) -> &mut [u8] {
        self.bytes
    }

    /// The same memory, for a target that this one has handle the request.
    pub const fn lend(&mut self) -> Memory<'_> {
        Memory {
            bytes: self.bytes,
            registered: self.registered,
        }
    }

    /// What of this memory the ring knows.
    pub(crate) const fn registration(&self) -> Option<Registration> {
        self.registered
    }
}

/// Memory that was registered with the ring, whose pages it need not look up for each operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Registration {
    pub(crate) index: u16,
    /// Where it begins.
    pub(crate) start: usize,
    pub(crate) len: usize,
}

/// Data that the target copies itself, from or to wherever it wants it.
#[derive(Debug)]
pub struct Channel<'r> {
    file: BorrowedFd<'r>,
    /// Where the driver has the request.
    position: u64,
    len: usize,
}

impl<'r> Channel<'r> {
    pub(crate) fn new(file: BorrowedFd<'r>, queue: u16, tag: u16, len: usize) -> Self {
        let position = u64::from(sys::UBLKSRV_IO_BUF_OFFSET)
            + (u64::from(queue) << sys::UBLK_QID_OFF)
            + (u64::from(tag) << sys::UBLK_TAG_OFF);
        Self { file, position, len }
    }

    /// Copies data of a write, from a byte of it on.
    pub fn take(&self, at: usize, into: &mut [u8]) -> Result<(), Errno> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let count = uio::pread(self.file, rest, self.offset(at + done)?)?;
            done += moved(count)?;
        }
        Ok(())
    }

    /// Copies data of a read, to a byte of it on.
    pub fn give(&self, at: usize, from: &[u8]) -> Result<(), Errno> {
        let mut done = 0;
        while let Some(rest) = from.get(done..).filter(|rest| !rest.is_empty()) {
            let count = uio::pwrite(self.file, rest, self.offset(at + done)?)?;
            done += moved(count)?;
        }
        Ok(())
    }

    fn offset(&self, at: usize) -> Result<i64, Errno> {
        i64::try_from(self.position + at as u64).map_err(|_| Errno::EOVERFLOW)
    }
}

/// A copy that moves nothing would be repeated for ever.
fn moved(count: usize) -> Result<usize, Errno> {
    if count == 0 { Err(Errno::EIO) } else { Ok(count) }
}

/// The application's pages, in the ring's table of buffers.
#[derive(Debug, Clone, Copy)]
pub struct Registered {
    index: u16,
    len: u32,
}

impl Registered {
    pub(crate) const fn new(index: u16, len: u32) -> Self {
        Self { index, len }
    }

    /// How many bytes.
    pub(crate) const fn len(self) -> usize {
        self.len as usize
    }

    /// A part of it for an operation.
    pub(crate) fn span(&self, range: Range<u32>) -> Span<'static> {
        Span {
            // A buffer that the kernel registered begins at address 0.
            address: std::ptr::without_provenance_mut(range.start as usize),
            len: range.end.min(self.len).saturating_sub(range.start),
            index: Some(self.index),
            memory: PhantomData,
        }
    }
}

/// What an operation of the ring reads or writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span<'m> {
    address: *mut u8,
    len: u32,
    /// The registered buffer that it is in.
    index: Option<u16>,
    memory: PhantomData<&'m mut [u8]>,
}

impl<'m> Span<'m> {
    /// Memory, which may be inside a registered part.
    pub(crate) fn of(bytes: &'m mut [u8], registered: Option<Registration>) -> Self {
        Self::at(bytes.as_mut_ptr(), bytes.len(), registered)
    }

    /// Memory to be written from.
    pub(crate) fn from(bytes: &'m [u8], registered: Option<Registration>) -> Self {
        Self::at(bytes.as_ptr().cast_mut(), bytes.len(), registered)
    }

    fn at(address: *mut u8, len: usize, registered: Option<Registration>) -> Self {
        let inside = |part: &Registration| {
            let start = address.addr().wrapping_sub(part.start);
            start <= part.len && len <= part.len - start
        };
        Self {
            address,
            // A request is 32 MiB at most.
            len: u32::try_from(len).unwrap_or(u32::MAX),
            index: registered.filter(inside).map(|part| part.index),
            memory: PhantomData,
        }
    }

    pub(crate) const fn address(&self) -> *mut u8 {
        self.address
    }

    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    pub(crate) const fn index(&self) -> Option<u16> {
        self.index
    }

    /// What comes after so many bytes; none if there are not so many.
    pub(crate) fn after(self, bytes: u32) -> Option<Self> {
        Some(Self {
            address: self.address.wrapping_add(bytes as usize),
            len: self.len.checked_sub(bytes)?,
            ..self
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_memory_wholly_inside_a_registered_part_is_named_by_its_index() {
        let mut memory = vec![0_u8; 64];
        let part = Registration {
            index: 7,
            start: memory.as_ptr().addr() + 16,
            len: 32,
        };
        for (range, inside) in [
            (16..48, true),
            (20..40, true),
            (48..48, true),
            (15..20, false),
            (40..49, false),
            (0..64, false),
        ] {
            let span = Span::of(&mut memory[range.clone()], Some(part));
            assert_eq!(span.index(), inside.then_some(7), "{range:?}");
            assert_eq!(span.len() as usize, range.len());
        }
        assert_eq!(Span::of(&mut memory, None).index(), None);
    }

    #[test]
    fn pages_of_the_application_begin_at_address_zero() {
        let registered = Registered::new(3, 8192);
        let span = registered.span(4096..8192);
        assert_eq!((span.address().addr(), span.len(), span.index()), (4096, 4096, Some(3)));
        assert_eq!(registered.span(4096..9000).len(), 4096, "not beyond its end");
        let rest = span.after(512).unwrap();
        assert_eq!((rest.address().addr(), rest.len()), (4608, 3584));
        assert!(span.after(4097).is_none());
    }
}
