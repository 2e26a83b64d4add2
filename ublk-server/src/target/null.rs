// SPDX-License-Identifier: MIT OR Apache-2.0

//! The target that does nothing: what remains of an I/O is the transport, which is what it measures.
//!
//! Writes are dropped and reads leave the request's data as it is. With [`Transfer::Copy`], the default, applications
//! therefore read zeros or what was last written to the device under the same tag, but never other memory of the server,
//! since buffers start as zeros. In the other ways they read what their own pages held, or, through the page cache, whatever
//! the kernel's pages held, as with the kernel's `null_blk`: only for measuring.

use super::{Io, IoError, Limits, NO_PREFERENCE, Request, Target, WriteCache, range_within, within};
use crate::transfer::Transfer;
use crate::units::{BlockSize, Bytes};

/// Completes everything, stores nothing.
#[derive(Debug)]
pub struct Null {
    limits: Limits,
}

impl Null {
    /// A null device that looks `size` large.
    pub const fn new(size: Bytes, block_size: BlockSize, write_cache: WriteCache) -> Self {
        let discard = Some(block_size.bytes());
        Self {
            limits: Limits {
                size,
                block_size,
                write_cache,
                discard,
                write_zeroes: true,
                preferred: NO_PREFERENCE,
            },
        }
    }

    fn check(&self, request: &Request<'_>) -> Result<(), IoError> {
        let size = self.limits.size;
        match request {
            Request::Read { offset, into } => range_within(*offset, into.len(), size)?,
            Request::Write { offset, from, .. } => range_within(*offset, from.len(), size)?,
            Request::Discard { range } | Request::WriteZeroes { range, .. } => within(*range, size)?,
            Request::Flush => return Ok(()),
        };
        Ok(())
    }
}

impl Target for Null {
    fn name(&self) -> &'static str {
        "null"
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn transfers(&self) -> &'static [Transfer] {
        &[
            Transfer::Copy,
            Transfer::UserCopy,
            Transfer::ZeroCopy,
            Transfer::ZeroCopyByHand,
        ]
    }

    async fn handle(&self, _io: &Io<'_>, request: Request<'_>) -> Result<(), IoError> {
        self.check(&request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::{Memory, Payload};
    use crate::units::ByteRange;

    const SIZE: u64 = 1 << 20;

    fn null() -> Null {
        Null::new(Bytes::new(SIZE), BlockSize::B512, WriteCache::WriteThrough)
    }

    fn read(offset: u64, buffer: &mut [u8]) -> Result<(), IoError> {
        null().check(&Request::Read {
            offset,
            into: Payload::Memory(Memory::new(buffer, None)),
        })
    }

    #[test]
    fn a_read_leaves_the_buffer_alone() {
        let mut buffer = [0x5a; 512];
        assert_eq!(read(0, &mut buffer), Ok(()));
        assert_eq!(buffer, [0x5a; 512]);
    }

    #[test]
    fn the_end_of_the_device_is_respected() {
        let null = null();
        let range = |start| ByteRange::new(start, 512).unwrap();
        for (start, outcome) in [
            (SIZE - 512, Ok(())),
            (SIZE - 511, Err(IoError::OutOfRange)),
            (SIZE, Err(IoError::OutOfRange)),
        ] {
            let mut buffer = [0; 512];
            assert_eq!(read(start, &mut buffer), outcome);
            assert_eq!(
                null.check(&Request::Write {
                    offset: start,
                    from: Payload::Memory(Memory::new(&mut buffer, None)),
                    fua: false
                }),
                outcome
            );
            assert_eq!(null.check(&Request::Discard { range: range(start) }), outcome);
            assert_eq!(
                null.check(&Request::WriteZeroes {
                    range: range(start),
                    may_unmap: true
                }),
                outcome
            );
        }
        assert_eq!(read(u64::MAX, &mut [0; 512]), Err(IoError::OutOfRange));
        assert_eq!(null.check(&Request::Flush), Ok(()));
    }
}
