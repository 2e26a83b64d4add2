// SPDX-License-Identifier: MIT OR Apache-2.0

//! From the driver's descriptor of a request to a checked [`Request`], and from its outcome to what the driver is told.

use libublk::sys;

use crate::target::{IoError, Request};
use crate::units::ByteRange;

/// The operation is the low byte of `op_flags`; flags are above it.
const OPERATION_MASK: u32 = 0xff;

/// Reads the descriptor. `buffer` is the tag's buffer: it holds the data of a write and takes the data of a read.
pub(crate) fn decode<'b>(desc: &sys::ublksrv_io_desc, buffer: &'b mut [u8]) -> Result<Request<'b>, IoError> {
    let flag = |flag| desc.op_flags & flag != 0;
    let range = || ByteRange::from_sectors(desc.start_sector, desc.nr_sectors).ok_or(IoError::Malformed);
    match desc.op_flags & OPERATION_MASK {
        sys::UBLK_IO_OP_READ => {
            let range = range()?;
            Ok(Request::Read {
                offset: range.start(),
                into: data(buffer, range)?,
            })
        }
        sys::UBLK_IO_OP_WRITE => {
            let range = range()?;
            let fua = flag(sys::UBLK_IO_F_FUA);
            Ok(Request::Write {
                offset: range.start(),
                from: data(buffer, range)?,
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

/// The part of the buffer that carries the data of `range`.
fn data(buffer: &mut [u8], range: ByteRange) -> Result<&mut [u8], IoError> {
    let len = usize::try_from(range.len()).map_err(|_| IoError::Malformed)?;
    buffer.get_mut(..len).ok_or(IoError::Malformed)
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
        let mut of = |op_flags| format!("{:?}", decode(&desc(op_flags, 8, 1), &mut buffer).unwrap());
        assert!(of(0).starts_with("Read { offset: 4096, into: [90, 90,"));
        assert!(of(1).starts_with("Write { offset: 4096, from: [90, 90,") && of(1).ends_with("fua: false }"));
        assert!(of(1 | 1 << 13).ends_with("fua: true }"));
        assert_eq!(of(2), "Flush");
        assert_eq!(of(3), "Discard { range: ByteRange { start: 4096, len: 512 } }");
        assert_eq!(
            of(5),
            "WriteZeroes { range: ByteRange { start: 4096, len: 512 }, may_unmap: true }"
        );
        assert_eq!(
            of(5 | 1 << 15),
            "WriteZeroes { range: ByteRange { start: 4096, len: 512 }, may_unmap: false }"
        );
    }

    #[test]
    fn flags_that_do_not_matter_do_not_hide_the_operation() {
        let mut buffer = [0; 512];
        let failfast_and_meta = 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11;
        assert!(matches!(
            decode(&desc(failfast_and_meta, 0, 1), &mut buffer),
            Ok(Request::Read { offset: 0, .. })
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
                Ok(Request::Read { offset, into }) => {
                    prop_assert_eq!((Some(offset), into.len() as u64), (start.checked_mul(512), u64::from(sectors) * 512));
                }
                Ok(Request::Write { offset, from, .. }) => {
                    prop_assert_eq!((Some(offset), from.len() as u64), (start.checked_mul(512), u64::from(sectors) * 512));
                }
                Ok(Request::Flush) | Err(_) => {}
                Ok(Request::Discard { range } | Request::WriteZeroes { range, .. }) => {
                    prop_assert!(range.end() >= range.start());
                }
            }
        }
    }
}
