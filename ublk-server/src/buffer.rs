// SPDX-License-Identifier: MIT OR Apache-2.0

//! The memory through which the data of one tag passes.
//!
//! # Contract
//!
//! The driver copies request data to and from the address it was given with a command, at times of its choosing: inside
//! system calls of the queue's thread, until the command completes. A target may let the kernel read and write them as
//! well. So the buffer has three states, and a type for each:
//!
//! 1. [`TagBuffer`]: ours. Dropping it frees it.
//! 2. [`LentBuffer`]: the driver's, from the moment its address goes into a command until that command has completed.
//!    Its bytes cannot be reached.
//! 3. [`BusyBuffer`]: a target's, from the moment it gets a request until it has answered. Its bytes can be borrowed.
//!
//! Dropping a buffer in one of the last two *leaks* it, on purpose: were it freed instead, the kernel could copy a late
//! request or the end of an operation into whatever the process had mapped there since.

use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;

use nix::errno::Errno;

use crate::map::AnonymousMap;

/// A buffer that belongs to us.
#[derive(Debug)]
pub(crate) struct TagBuffer(AnonymousMap);

impl TagBuffer {
    /// A zeroed buffer: a target that answers reads without filling them shows zeros, not this process's memory.
    pub(crate) fn new(len: NonZeroUsize) -> Result<Self, Errno> {
        AnonymousMap::new(len).map(Self)
    }

    /// Where it is, for the ring to register it.
    pub(crate) const fn address(&self) -> *mut u8 {
        self.0.as_ptr()
    }

    /// How many bytes it has.
    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Gives the buffer to the driver.
    pub(crate) fn lend(self) -> LentBuffer {
        LentBuffer(ManuallyDrop::new(self.0))
    }

    /// Gives the buffer to a target.
    pub(crate) fn occupy(self) -> BusyBuffer {
        BusyBuffer(ManuallyDrop::new(self.0))
    }
}

/// A buffer a target works with.
#[derive(Debug)]
pub(crate) struct BusyBuffer(ManuallyDrop<AnonymousMap>);

impl BusyBuffer {
    /// The bytes.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        self.0.as_mut_slice()
    }

    /// Takes the buffer back. To be called when the target has answered, and so none of its operations is under way.
    pub(crate) fn reclaim(self) -> TagBuffer {
        TagBuffer(ManuallyDrop::into_inner(self.0))
    }
}

/// A buffer the driver may touch.
#[derive(Debug)]
pub(crate) struct LentBuffer(ManuallyDrop<AnonymousMap>);

impl LentBuffer {
    /// How a command names the buffer.
    pub(crate) fn address(&self) -> u64 {
        self.0.as_ptr() as u64
    }

    /// Takes the buffer back. To be called when the command that named it has completed.
    pub(crate) fn reclaim(self) -> TagBuffer {
        TagBuffer(ManuallyDrop::into_inner(self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const LEN: NonZeroUsize = NonZeroUsize::new(1 << 20).unwrap();

    /// Whether `address` is mapped in this process.
    fn is_mapped(address: usize) -> bool {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().any(|line| {
            let (start, rest) = line.split_once('-').unwrap();
            let (end, _) = rest.split_once(' ').unwrap();
            (usize::from_str_radix(start, 16).unwrap()..usize::from_str_radix(end, 16).unwrap()).contains(&address)
        })
    }

    #[test]
    fn a_new_buffer_is_all_zeros() {
        let mut buffer = TagBuffer::new(LEN).unwrap().occupy();
        assert_eq!(buffer.as_mut_slice().len(), LEN.get());
        assert!(buffer.as_mut_slice().iter().all(|&byte| byte == 0));
    }

    #[test]
    fn the_bytes_survive_lending() {
        let mut buffer = TagBuffer::new(LEN).unwrap().occupy();
        buffer.as_mut_slice().fill(7);
        let mut buffer = buffer.reclaim().lend().reclaim().occupy();
        assert!(buffer.as_mut_slice().iter().all(|&byte| byte == 7));
    }

    #[test]
    fn a_buffer_dropped_while_lent_or_busy_stays_mapped() {
        let lent = {
            let lent = TagBuffer::new(LEN).unwrap().lend();
            lent.0.as_ptr().addr()
        };
        let busy = {
            let busy = TagBuffer::new(LEN).unwrap().occupy();
            busy.0.as_ptr().addr()
        };
        assert!(is_mapped(lent) && is_mapped(busy));
    }
}
