// SPDX-License-Identifier: MIT OR Apache-2.0

//! What lies where on the device, and the block that says so.
//!
//! | from | what |
//! |---|---|
//! | 0 | the super block |
//! | 2^30 | call slots |
//! | 2^31 | pieces of the log |
//! | 2^40 | a window of 4 GiB for every inode number below 2^29 − 2^8 |
//! | 2^61 | windows that were asked for, to 2^62 |
//!
//! Clients learn all this from the super block.

use std::ops::Range;

use zerocopy::IntoBytes;

use super::wire;
use crate::checksum::Crc;
use crate::pool::Superblock;
use crate::units::{BLOCK_SIZE, Ino};

/// Size of the device.
pub const DEVICE_BYTES: u64 = 1 << 62;
/// Where call slots are.
pub const CALLS: u64 = 1 << 30;
/// Bytes of a call slot: an attribute of the largest size fits.
pub const CALL_BYTES: u32 = 128 << 10;
/// Call slots.
pub const SLOTS: u16 = 32;
/// What a session remembers slots for: those, and behind them the lanes of requests about vectors.
pub const REMEMBERED_SLOTS: u16 = SLOTS + QUERY_LANES;
/// Lanes of requests about vectors.
pub const QUERY_LANES: u16 = 4;
const _: () = assert!(QUERY_LANES as u32 == wire::QUERY_LANES);
/// Where the log is.
pub const LOG: u64 = 1 << 31;
/// Bytes of a piece of the log.
pub const LOG_BYTES: u32 = 256 << 10;
/// Pieces of the log.
pub const LOG_PIECES: u32 = 8;
/// Where bytes of files begin.
const DATA: u64 = 1 << 40;
/// Bytes of the window that every file has.
pub const SPAN: u64 = 1 << 32;
/// Inode numbers below have a window without asking.
const OWN_WINDOWS: u64 = (MAPPED.start - DATA) / SPAN;
/// Windows that were asked for.
pub const MAPPED: Range<u64> = 1 << 61..1 << 62;
/// Files are at most so long: what one window can be.
pub const MAX_FILE_BYTES: u64 = 1 << 60;

/// What a transfer is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The super block, alone.
    Super,
    /// A call slot, from its start.
    Call(u16),
    /// A piece of the log, from its start.
    Log(u32),
    /// Bytes of a file.
    Data(Ino, u64),
    /// An address in the part for windows that were asked for.
    Mapped(u64),
    /// Nothing, or several things at once.
    Nothing,
}

/// What a transfer of so many bytes is about.
pub fn place(offset: u64, length: u64) -> Place {
    let piece = |base: u64, bytes: u32, count: u32| {
        let index = offset.checked_sub(base)? / u64::from(bytes);
        let starts = (offset - base).is_multiple_of(u64::from(bytes));
        (index < u64::from(count) && starts && length <= u64::from(bytes)).then_some(index)
    };
    if offset == 0 && length == BLOCK_SIZE as u64 {
        return Place::Super;
    }
    if let Some(slot) = piece(CALLS, CALL_BYTES, u32::from(SLOTS)).and_then(|index| u16::try_from(index).ok()) {
        return Place::Call(slot);
    }
    if let Some(index) = piece(LOG, LOG_BYTES, LOG_PIECES).and_then(|index| u32::try_from(index).ok()) {
        return Place::Log(index);
    }
    if MAPPED.contains(&offset) {
        return Place::Mapped(offset);
    }
    match offset.checked_sub(DATA) {
        Some(at) if offset < MAPPED.start && at % SPAN + length <= SPAN => Place::Data(Ino(at / SPAN), at % SPAN),
        _ => Place::Nothing,
    }
}

/// The window that a file has without asking: its base.
pub const fn own_window(ino: Ino) -> Option<u64> {
    if ino.0 < OWN_WINDOWS {
        Some(DATA + ino.0 * SPAN)
    } else {
        None
    }
}

/// The super block.
pub fn super_block(pool: &Superblock) -> [u8; BLOCK_SIZE] {
    let mut label = [0; wire::LABEL_BYTES as usize];
    for (place, byte) in label.iter_mut().zip(pool.label.bytes()) {
        *place = byte;
    }
    let window = |base: u64, stride: u32, count: u32| wire::Window {
        base: base.into(),
        stride: stride.into(),
        count: count.into(),
    };
    let mut block = wire::Super {
        magic: wire::SUPER_MAGIC.into(),
        major: wire::ABI_MAJOR.into(),
        minor: wire::ABI_MINOR.into(),
        uuid: *pool.uuid.as_bytes(),
        label,
        calls: window(CALLS, CALL_BYTES, u32::from(SLOTS)),
        log: window(LOG, LOG_BYTES, LOG_PIECES),
        data_start: DATA.into(),
        data_end: DEVICE_BYTES.into(),
        max_file_bytes: MAX_FILE_BYTES.into(),
        epoch: pool.epoch.into(),
        own: wire::OwnWindows {
            base: DATA.into(),
            span: SPAN.into(),
            count: OWN_WINDOWS.into(),
        },
        ..wire::Super::default()
    };
    block.crc = Crc::of(block.as_bytes()).0.into();
    zerocopy::transmute!(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_about_what_the_page_says() {
        let block = BLOCK_SIZE as u64;
        assert_eq!(place(0, block), Place::Super);
        assert_eq!(place(0, 2 * block), Place::Nothing, "a scan");
        assert_eq!(place(CALLS + 3 * u64::from(CALL_BYTES), block), Place::Call(3));
        assert_eq!(place(CALLS + block, block), Place::Nothing, "not from the start");
        assert_eq!(place(CALLS, 2 * u64::from(CALL_BYTES)), Place::Nothing, "two slots");
        assert_eq!(
            place(CALLS + u64::from(SLOTS) * u64::from(CALL_BYTES), block),
            Place::Nothing
        );
        assert_eq!(place(LOG + u64::from(LOG_BYTES), block), Place::Log(1));
        assert_eq!(
            place(MAPPED.start - block, block),
            Place::Data(Ino((1 << 29) - (1 << 8) - 1), SPAN - block)
        );
        assert_eq!(place(MAPPED.start - block, 2 * block), Place::Nothing);
        assert_eq!(place(MAPPED.end - block, block), Place::Mapped(MAPPED.end - block));
        for ino in [1, 2, 77, (1 << 29) - (1 << 8) - 1] {
            let base = own_window(Ino(ino)).expect("a window");
            assert_eq!(place(base + 12 * block, block), Place::Data(Ino(ino), 12 * block));
        }
        assert_eq!(own_window(Ino((1 << 29) - (1 << 8))), None);
    }
}
