// SPDX-License-Identifier: MIT OR Apache-2.0

//! How a device is attached to the driver, checked before the driver is asked.
//!
//! The driver answers anything it does not like with a bare `EINVAL`; the checks here say which value and why.

use std::num::NonZeroUsize;
use std::thread;

use libublk::sys;
use thiserror::Error;

use crate::map::page_size;
use crate::target::{Limits, WriteCache};
use crate::transfer::Wishes;
use crate::units::Bytes;

/// The driver numbers devices from 0 to this.
pub const MAX_ID: u32 = (1 << 20) - 1;
/// Largest device: addresses beyond are not representable in all of the kernel's signed arithmetic.
pub const MAX_SIZE: Bytes = Bytes::new(1 << 62);
/// More queues than this only help machines that have as many busy processors.
const DEFAULT_MAX_QUEUES: u16 = 4;

/// Shape of the connection between driver and server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The N of `/dev/ublkbN`; the driver chooses if absent.
    pub id: Option<u32>,
    /// Hardware queues, each with a thread. The driver lowers it to the number of processors.
    pub queues: u16,
    /// Requests in flight per queue.
    pub depth: u16,
    /// Threads of each queue, which share its requests.
    pub threads: u16,
    /// Largest request. Each tag has a buffer of this size, whose memory is allocated when used.
    pub io_size: Bytes,
    /// Whether the block layer refuses writes.
    pub read_only: bool,
    /// How driver and server are to talk.
    pub wishes: Wishes,
}

impl Default for Options {
    /// A queue per processor, up to four; 128 requests of up to 512 KiB in flight on each.
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let queues = u16::try_from(processors).unwrap_or(u16::MAX).min(DEFAULT_MAX_QUEUES);
        Self {
            id: None,
            queues,
            depth: 128,
            threads: 1,
            io_size: Bytes::new(512 << 10),
            read_only: false,
            wishes: Wishes::default(),
        }
    }
}

/// A value the driver would not take.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum OptionsError {
    /// See [`Options::id`].
    #[error("device id {0} is not possible: the driver has ids 0 to {MAX_ID}")]
    Id(u32),
    /// See [`Options::queues`].
    #[error("{0} queues are not possible: choose 1 to {max}", max = sys::UBLK_MAX_NR_QUEUES)]
    Queues(u16),
    /// See [`Options::depth`].
    #[error("a queue depth of {0} is not possible: choose 1 to {max}", max = sys::UBLK_MAX_QUEUE_DEPTH)]
    Depth(u16),
    /// See [`Options::threads`].
    #[error("{0} threads per queue are not possible: choose 1 up to its depth")]
    Threads(u16),
    /// See [`Options::io_size`].
    #[error("an I/O size of {size} is not possible: choose a multiple of the page size, {page}, up to {max}", max = max_io_size())]
    IoSize {
        /// What was asked for.
        size: Bytes,
        /// What it must be a multiple of.
        page: Bytes,
    },
    /// A device needs at least one block, and there is an end to addresses.
    #[error("a device of {0} is not possible: choose one block up to {MAX_SIZE}")]
    Size(Bytes),
    /// The last block would be incomplete.
    #[error("a device of {size} is not possible: it is not a whole number of blocks of {block}")]
    PartialBlock {
        /// What was asked for.
        size: Bytes,
        /// The logical block size.
        block: Bytes,
    },
    /// The unit of discards would cut blocks in two.
    #[error("a discard granularity of {granularity} is not possible: it is not a whole number of blocks of {block}")]
    DiscardGranularity {
        /// What the target asked for.
        granularity: Bytes,
        /// The logical block size.
        block: Bytes,
    },
}

/// The driver addresses a byte within a request with this many bits.
const fn max_io_size() -> Bytes {
    Bytes::new(1 << sys::UBLK_IO_BUF_BITS)
}

impl Options {
    /// Checks the options, and the limits of the target they are to carry.
    pub(crate) fn check(&self, limits: &Limits) -> Result<(), OptionsError> {
        if let Some(id) = self.id.filter(|&id| id > MAX_ID) {
            return Err(OptionsError::Id(id));
        }
        if self.queues == 0 || u32::from(self.queues) > sys::UBLK_MAX_NR_QUEUES {
            return Err(OptionsError::Queues(self.queues));
        }
        if self.depth == 0 || u32::from(self.depth) > sys::UBLK_MAX_QUEUE_DEPTH {
            return Err(OptionsError::Depth(self.depth));
        }
        if self.threads == 0 || self.threads > self.depth {
            return Err(OptionsError::Threads(self.threads));
        }
        let page = Bytes::new(page_size().get() as u64);
        if self.io_size.get() == 0 || self.io_size > max_io_size() || !self.io_size.is_multiple_of(page) {
            return Err(OptionsError::IoSize {
                size: self.io_size,
                page,
            });
        }
        if limits.size.get() == 0 || limits.size > MAX_SIZE {
            return Err(OptionsError::Size(limits.size));
        }
        let block = limits.block_size.bytes();
        if !limits.size.is_multiple_of(block) {
            return Err(OptionsError::PartialBlock {
                size: limits.size,
                block,
            });
        }
        match limits.discard {
            Some(granularity) if granularity.get() == 0 || !granularity.is_multiple_of(block) => {
                Err(OptionsError::DiscardGranularity { granularity, block })
            }
            _ => Ok(()),
        }
    }

    /// The I/O size as the driver takes it. Options that passed [`Options::check`] are far below the maximum.
    pub(crate) fn io_bytes(&self) -> u32 {
        u32::try_from(self.io_size.get()).unwrap_or(u32::MAX)
    }
}

/// What the driver is told about the target. Both arguments have been checked.
pub(crate) fn driver_params(limits: &Limits, io_bytes: u32) -> sys::ublk_params {
    // The unit in which space is best used is a page at least: that is what a smaller write costs the page cache.
    const PAGE_SHIFT: u8 = 12;
    let preferred_shift = u8::try_from(limits.preferred.get().max(1).ilog2()).unwrap_or(PAGE_SHIFT);
    let granularity = limits
        .discard
        .map_or(0, |bytes| u32::try_from(bytes.get()).unwrap_or(u32::MAX));
    // A bio counts its bytes in 32 bits; stay below by a whole number of any block size.
    let max_range = (u32::MAX >> 9) & !7;
    let discards = limits.discard.is_some() || limits.write_zeroes;
    sys::ublk_params {
        types: sys::UBLK_PARAM_TYPE_BASIC | if discards { sys::UBLK_PARAM_TYPE_DISCARD } else { 0 },
        basic: sys::ublk_param_basic {
            attrs: match limits.write_cache {
                WriteCache::WriteThrough => 0,
                WriteCache::Flush => sys::UBLK_ATTR_VOLATILE_CACHE,
                WriteCache::FlushAndFua => sys::UBLK_ATTR_VOLATILE_CACHE | sys::UBLK_ATTR_FUA,
            },
            logical_bs_shift: limits.block_size.shift(),
            physical_bs_shift: PAGE_SHIFT,
            io_opt_shift: preferred_shift.max(PAGE_SHIFT),
            io_min_shift: PAGE_SHIFT,
            max_sectors: io_bytes >> 9,
            dev_sectors: limits.size.sectors(),
            ..Default::default()
        },
        discard: sys::ublk_param_discard {
            // The driver wants a granularity even from a target that only zeroes.
            discard_granularity: granularity.max(1 << limits.block_size.shift()),
            max_discard_sectors: if limits.discard.is_some() { max_range } else { 0 },
            max_write_zeroes_sectors: if limits.write_zeroes { max_range } else { 0 },
            max_discard_segments: 1,
            ..Default::default()
        },
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::NO_PREFERENCE;
    use crate::units::BlockSize;

    const LIMITS: Limits = Limits {
        size: Bytes::new(1 << 30),
        block_size: BlockSize::B4096,
        write_cache: WriteCache::WriteThrough,
        discard: Some(Bytes::new(4096)),
        write_zeroes: true,
        preferred: NO_PREFERENCE,
    };

    fn options() -> Options {
        Options {
            id: None,
            queues: 1,
            depth: 1,
            threads: 1,
            io_size: Bytes::new(1 << 20),
            read_only: false,
            wishes: Wishes::default(),
        }
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Options::default().check(&LIMITS), Ok(()));
    }

    #[test]
    fn every_value_is_checked_at_both_ends() {
        for (id, valid) in [(0, true), (MAX_ID, true), (MAX_ID + 1, false), (u32::MAX, false)] {
            let outcome = Options {
                id: Some(id),
                ..options()
            }
            .check(&LIMITS);
            assert_eq!(outcome, if valid { Ok(()) } else { Err(OptionsError::Id(id)) });
        }
        for (queues, valid) in [(0, false), (1, true), (4096, true), (4097, false)] {
            let outcome = Options { queues, ..options() }.check(&LIMITS);
            assert_eq!(
                outcome,
                if valid {
                    Ok(())
                } else {
                    Err(OptionsError::Queues(queues))
                }
            );
        }
        for (depth, valid) in [(0, false), (1, true), (4096, true), (4097, false)] {
            let outcome = Options { depth, ..options() }.check(&LIMITS);
            assert_eq!(outcome, if valid { Ok(()) } else { Err(OptionsError::Depth(depth)) });
        }
        let page = Bytes::new(page_size().get() as u64);
        for (size, valid) in [
            (0, false),
            (512, false),
            (page.get(), true),
            (page.get() + 512, false),
            (32 << 20, true),
            (33 << 20, false),
        ] {
            let size = Bytes::new(size);
            let outcome = Options {
                io_size: size,
                ..options()
            }
            .check(&LIMITS);
            assert_eq!(
                outcome,
                if valid {
                    Ok(())
                } else {
                    Err(OptionsError::IoSize { size, page })
                }
            );
        }
    }

    #[test]
    fn the_limits_of_the_target_are_checked_too() {
        let check = |limits: Limits| options().check(&limits);
        for size in [0, (1 << 62) + 4096] {
            let size = Bytes::new(size);
            assert_eq!(check(Limits { size, ..LIMITS }), Err(OptionsError::Size(size)));
        }
        assert_eq!(
            check(Limits {
                size: MAX_SIZE,
                ..LIMITS
            }),
            Ok(())
        );
        let (size, block) = (Bytes::new(4096 + 512), Bytes::new(4096));
        assert_eq!(
            check(Limits { size, ..LIMITS }),
            Err(OptionsError::PartialBlock { size, block })
        );
        assert_eq!(
            check(Limits {
                size,
                block_size: BlockSize::B512,
                ..LIMITS
            }),
            Ok(())
        );
        for granularity in [0, 512] {
            let granularity = Bytes::new(granularity);
            let outcome = check(Limits {
                discard: Some(granularity),
                ..LIMITS
            });
            assert_eq!(outcome, Err(OptionsError::DiscardGranularity { granularity, block }));
        }
    }

    #[test]
    fn the_driver_is_told_what_the_target_can_do() {
        let params = driver_params(&LIMITS, 1 << 20);
        assert_eq!(params.types, sys::UBLK_PARAM_TYPE_BASIC | sys::UBLK_PARAM_TYPE_DISCARD);
        assert_eq!((params.basic.attrs, params.basic.logical_bs_shift), (0, 12));
        assert_eq!((params.basic.max_sectors, params.basic.dev_sectors), (2048, 1 << 21));
        assert_eq!(
            (params.discard.discard_granularity, params.discard.max_discard_segments),
            (4096, 1)
        );
        assert!(params.discard.max_discard_sectors > 0 && params.discard.max_discard_sectors.is_multiple_of(8));

        let attrs = |write_cache| driver_params(&Limits { write_cache, ..LIMITS }, 4096).basic.attrs;
        assert_eq!(attrs(WriteCache::Flush), sys::UBLK_ATTR_VOLATILE_CACHE);
        assert_eq!(
            attrs(WriteCache::FlushAndFua),
            sys::UBLK_ATTR_VOLATILE_CACHE | sys::UBLK_ATTR_FUA
        );

        let plain = driver_params(
            &Limits {
                discard: None,
                write_zeroes: false,
                preferred: Bytes::new(512 << 10),
                ..LIMITS
            },
            4096,
        );
        assert_eq!(plain.types, sys::UBLK_PARAM_TYPE_BASIC);
        assert_eq!((plain.basic.io_min_shift, plain.basic.io_opt_shift), (12, 19));
        let zeroing = driver_params(
            &Limits {
                discard: None,
                ..LIMITS
            },
            4096,
        );
        assert_eq!(
            (zeroing.discard.discard_granularity, zeroing.discard.max_discard_sectors),
            (4096, 0)
        );
        assert!(zeroing.discard.max_write_zeroes_sectors > 0);
    }
}
