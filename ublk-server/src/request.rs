// SPDX-License-Identifier: MIT OR Apache-2.0

//! From the driver's descriptor of a request to a checked [`Request`], and from its outcome to what the driver is told.

use libublk::sys;

use crate::payload::Payload;
use crate::target::{IoError, Request};
use crate::units::ByteRange;

/// The operation is the low byte of `op_flags`; flags are above it.
const OPERATION_MASK: u32 = 0xff;

/// Reads the descriptor. `payload` says where so many bytes of data are or go; none if there is no room for so many.
pub(crate) fn decode<'b>(
    desc: &sys::ublksrv_io_desc,
    payload: impl FnOnce(usize) -> Option<Payload<'b>>,
) -> Result<Request<'b>, IoError> {
    let data = |range: ByteRange| {
        let len = usize::try_from(range.len()).map_err(|_| IoError::Malformed)?;
        payload(len).ok_or(IoError::Malformed)
    };
    let flag = |flag| desc.op_flags & flag != 0;
    let range = || ByteRange::from_sectors(desc.start_sector, desc.nr_sectors).ok_or(IoError::Malformed);
    match desc.op_flags & OPERATION_MASK {
        sys::UBLK_IO_OP_READ => {
            let range = range()?;
            Ok(Request::Read {
                offset: range.start(),
                into: data(range)?,
            })
        }
        sys::UBLK_IO_OP_WRITE => {
            let range = range()?;
            let fua = flag(sys::UBLK_IO_F_FUA);
            Ok(Request::Write {
                offset: range.start(),
                from: data(range)?,
                fua,
            })
        }
        sys::UBLK_IO_OP_FLUSH => Ok(Request::Flush),
        sys::UBLK_IO_OP_DISCARD => Ok(Request::Discard { range: range()? }),
        sys::UBLK_IO_OP_WRITE_ZEROES => Ok(Request::WriteZeroes {
            range: range()?,
            may_unmap: !flag(sys::UBLK_IO_F_NOUNMAP),
        }),
        _ => Err(IoError::Unsupported),
    }
}

/// What the driver is told of a request: bytes moved by reads and writes, 0 for the rest, or a negated errno.
pub(crate) fn completion(request: &sys::ublksrv_io_desc, outcome: Result<(), IoError>) -> i32 {
    match outcome {
        Err(error) => -(error.errno() as i32),
        Ok(()) => match request.op_flags & OPERATION_MASK {
            // A request that decoded fits its buffer, which is far smaller than 2 GiB. A lower count is safe anyway:
            // the block layer sends the rest again.
            sys::UBLK_IO_OP_READ | sys::UBLK_IO_OP_WRITE => {
                ByteRange::from_sectors(0, request.nr_sectors).map_or(0, |r| i32::try_from(r.len()).unwrap_or(0))
            }
            // The length of a discard can exceed an i32, and the driver wants no count here.
            _ => 0,
        },
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;
    use proptest::prelude::*;

    use super::*;
    use crate::payload::Memory;

    /// Decodes with a buffer, and tells the request with the length of its data in the place of it.
    fn decode(desc: &sys::ublksrv_io_desc, buffer: &mut [u8]) -> Result<Decoded, IoError> {
        let request = super::decode(desc, |len| {
            Some(Payload::Memory(Memory::new(buffer.get_mut(..len)?, None)))
        })?;
        Ok(match request {
            Request::Read { offset, into } => Decoded::Read(offset, into.len()),
            Request::Write { offset, from, fua } => Decoded::Write(offset, from.len(), fua),
            Request::Flush => Decoded::Flush,
            Request::Discard { range } => Decoded::Discard(range),
            Request::WriteZeroes { range, may_unmap } => Decoded::WriteZeroes(range, may_unmap),
        })
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Decoded {
        Read(u64, usize),
        Write(u64, usize, bool),
        Flush,
        Discard(ByteRange),
        WriteZeroes(ByteRange, bool),
    }

    fn desc(op_flags: u32, start_sector: u64, nr_sectors: u32) -> sys::ublksrv_io_desc {
        sys::ublksrv_io_desc {
            op_flags,
            nr_sectors,
            start_sector,
            addr: 0,
        }
    }

    #[test]
    fn each_operation_is_recognised_with_its_flags() {
        let mut buffer = [0x5a; 4096];
        let mut of = |op_flags| decode(&desc(op_flags, 8, 1), &mut buffer).unwrap();
        let range = ByteRange::new(4096, 512).unwrap();
        assert_eq!(of(0), Decoded::Read(4096, 512));
        assert_eq!(of(1), Decoded::Write(4096, 512, false));
        assert_eq!(of(1 | 1 << 13), Decoded::Write(4096, 512, true));
        assert_eq!(of(2), Decoded::Flush);
        assert_eq!(of(3), Decoded::Discard(range));
        assert_eq!(of(5), Decoded::WriteZeroes(range, true));
        assert_eq!(of(5 | 1 << 15), Decoded::WriteZeroes(range, false));
    }

    #[test]
    fn flags_that_do_not_matter_do_not_hide_the_operation() {
        let mut buffer = [0; 512];
        let failfast_and_meta = 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11;
        assert!(matches!(
            decode(&desc(failfast_and_meta, 0, 1), &mut buffer),
            Ok(Decoded::Read(0, 512))
        ));
    }

    #[test]
    fn data_longer_than_the_buffer_is_refused() {
        let mut buffer = [0; 4096];
        for op in [0, 1] {
            assert!(matches!(decode(&desc(op, 0, 9), &mut buffer), Err(IoError::Malformed)));
            assert!(decode(&desc(op, 0, 8), &mut buffer).is_ok());
        }
        assert!(
            decode(&desc(3, 0, u32::MAX), &mut buffer).is_ok(),
            "a discard carries no data"
        );
    }

    #[test]
    fn unknown_operations_are_answered_with_eopnotsupp() {
        let mut buffer = [0; 512];
        for op in [4, 6, 10, 13, 18, 0xff] {
            let desc = desc(op, 0, 1);
            let outcome = decode(&desc, &mut buffer).map(|_| ());
            assert_eq!(
                completion(&desc, outcome),
                -(Errno::EOPNOTSUPP as i32),
                "operation {op}"
            );
        }
    }

    #[test]
    fn completions_count_bytes_only_for_data() {
        assert_eq!(completion(&desc(0, 0, 8), Ok(())), 4096);
        assert_eq!(completion(&desc(1, 0, 8), Ok(())), 4096);
        assert_eq!(completion(&desc(2, 0, 0), Ok(())), 0);
        assert_eq!(completion(&desc(3, 0, u32::MAX), Ok(())), 0);
        assert_eq!(completion(&desc(5, 0, u32::MAX), Ok(())), 0);
        assert_eq!(
            completion(&desc(1, 0, 8), Err(IoError::Malformed)),
            -(Errno::EINVAL as i32)
        );
    }

    proptest! {
        #[test]
        fn no_descriptor_makes_the_decoder_panic_or_overrun(
            op_flags in any::<u32>(), start in any::<u64>(), sectors in any::<u32>(), len in 0_usize..8192,
        ) {
            let mut buffer = vec![0; len];
            match decode(&desc(op_flags, start, sectors), &mut buffer) {
                Ok(Decoded::Read(offset, length) | Decoded::Write(offset, length, _)) => {
                    prop_assert_eq!((Some(offset), length as u64), (start.checked_mul(512), u64::from(sectors) * 512));
                }
                Ok(Decoded::Flush) | Err(_) => {}
                Ok(Decoded::Discard(range) | Decoded::WriteZeroes(range, _)) => {
                    prop_assert!(range.end() >= range.start());
                }
            }
        }
    }
}
