// SPDX-License-Identifier: MIT OR Apache-2.0

//! The hardware interface: where everything is in the 360 MiB region, who writes it, and in which order.
//!
//! Chunk 0 begins with the control block; chunk `1 + n` belongs to device `n`; the rest is reserved. Every word is 32
//! bits, little-endian, and has exactly one writer, so no operation needs a read-modify-write across the link.
//!
//! One command is in flight at a time:
//!
//! 1. The driver writes command, argument and data, then [`SEQUENCE`], then rings the doorbell.
//! 2. The firmware executes a sequence number once, however often it is rung; writes status, data and check, then
//!    [`ANSWER_SEQUENCE`], then raises the interrupt.
//! 3. A driver that is tired of waiting writes [`ABORT`] and rings. The firmware answers the command, with
//!    [`Status::Aborted`] if it was not and will not be executed, and then writes [`ABORT_ACK`].
//! 4. [`RESET`] drops whatever is in flight; [`RESET_ACK`] says that the mailbox is idle.
//!
//! [`STOP`] overrides everything: odd means stop, even means run; the firmware repeats the value in [`STOP_ACK`].

/// Bytes in a chunk.
pub const CHUNK_SIZE: usize = 4 << 20;
/// Chunks in the region.
pub const CHUNKS: usize = 90;
/// Bytes in the region: 360 MiB.
pub const REGION_SIZE: usize = CHUNK_SIZE * CHUNKS;
/// The address that firmware gives the region's first byte; regions to unlock are named by such addresses.
pub const REGION_BASE: u64 = 0x5200_0000;

/// The control block's chunk.
pub const CONTROL_CHUNK: usize = 0;

// Written by the firmware.

/// [`MAGIC_VALUE`] once the firmware runs. All ones: the device is gone.
pub const MAGIC: usize = 0x000;
/// Version of this interface: [`VERSION_VALUE`].
pub const VERSION: usize = 0x004;
/// Number of device groups: 7, or 6 in legacy mode.
pub const GROUPS: usize = 0x008;
/// Counts up while the firmware is alive.
pub const HEARTBEAT: usize = 0x010;
/// Bit `n` of these three words: device `n` is there.
pub const PRESENCE: usize = 0x014;
/// Counts changes of [`PRESENCE`].
pub const PRESENCE_GENERATION: usize = 0x020;
/// The sequence number that was answered last; written after everything else of the answer.
pub const ANSWER_SEQUENCE: usize = 0x040;
/// A [`Status`].
pub const ANSWER_STATUS: usize = 0x044;
/// What was read.
pub const ANSWER_DATA: usize = 0x048;
/// [`check`] of the three words above.
pub const ANSWER_CHECK: usize = 0x04c;
/// The sequence number that was aborted last.
pub const ABORT_ACK: usize = 0x050;
/// Follows [`STOP`].
pub const STOP_ACK: usize = 0x054;
/// Follows [`RESET`].
pub const RESET_ACK: usize = 0x058;
/// [`SENSORS`] pairs of words: temperature in thousandths of a degree Celsius (signed), number of samples taken.
pub const SENSOR_TABLE: usize = 0x080;
/// Thermal sensors.
pub const SENSORS: usize = 8;

// Written by the driver.

/// An [`Opcode`].
pub const COMMAND: usize = 0x200;
/// Of a token: group in bits 8 to 15, device position within the group in bits 0 to 7.
pub const ARGUMENT: usize = 0x204;
/// A token's new value, or the low half of an address.
pub const DATA_LOW: usize = 0x208;
/// The high half of an address.
pub const DATA_HIGH: usize = 0x20c;
/// Names the command; written after everything else of it. Never 0.
pub const SEQUENCE: usize = 0x210;
/// The sequence number to abort.
pub const ABORT: usize = 0x214;
/// Odd: stop. Even: run.
pub const STOP: usize = 0x218;
/// Any new value resets the mailbox.
pub const RESET: usize = 0x21c;

/// Bytes of the control block.
pub const CONTROL_SIZE: usize = 0x220;

/// What [`MAGIC`] reads.
pub const MAGIC_VALUE: u32 = u32::from_le_bytes(*b"DSML");
/// What [`VERSION`] reads.
pub const VERSION_VALUE: u32 = 1;
/// What every word reads once the device was pulled.
pub const GONE: u32 = u32::MAX;

// In a device's chunk; written by the firmware.

/// [`DEVICE_MAGIC`] plus the device's number.
pub const DEVICE_ID: usize = 0x000;
/// Capabilities, a bit set that is the device's own business.
pub const DEVICE_CAPABILITIES: usize = 0x004;
/// What [`DEVICE_ID`] reads for device 0.
pub const DEVICE_MAGIC: u32 = u32::from_le_bytes([0, b'd', b'e', b'v']);

/// What a command asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Opcode {
    /// Read a token.
    Read = 1,
    /// Write a token; its group's region must be unlocked.
    Write = 2,
    /// Unlock the region that holds an address.
    Unlock = 3,
    /// Check all tokens.
    Verify = 4,
}

impl Opcode {
    /// What a word from the link means, if anything.
    pub fn from_word(word: u32) -> Option<Self> {
        [Self::Read, Self::Write, Self::Unlock, Self::Verify]
            .into_iter()
            .find(|&opcode| opcode as u32 == word)
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// Done.
    Ok = 1,
    /// The command names nothing there is.
    Invalid = 2,
    /// The token's region is locked.
    Locked = 3,
    /// The firmware tried and failed.
    Fault = 4,
    /// Not executed, because the driver aborted it.
    Aborted = 5,
}

impl Status {
    /// What a word from the link means, if anything.
    pub fn from_word(word: u32) -> Option<Self> {
        [Self::Ok, Self::Invalid, Self::Locked, Self::Fault, Self::Aborted]
            .into_iter()
            .find(|&status| status as u32 == word)
    }
}

/// Guards an answer: any change of one bit in the four words is seen.
pub fn check(sequence: u32, status: u32, data: u32) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    for word in [sequence, status, data] {
        // Multiplying by an odd number and rotating are invertible: two answers that differ in one word differ here.
        hash = (hash ^ word).wrapping_mul(0x0100_0193).rotate_left(13);
    }
    hash
}

/// The chunk that belongs to a device, by its number.
pub fn device_chunk(device: usize) -> usize {
    1 + device
}

/// Anything that holds control words: a chunk of the device, or memory that stands for one.
///
/// Reads and writes are single accesses that no compiler drops, joins or moves. Writes become visible to the other side
/// in program order, and a read never sees older values than the reads before it.
pub trait Registers {
    /// Reads the word at a byte offset of the control block.
    fn read(&self, offset: usize) -> u32;
    /// Writes the word at a byte offset of the control block.
    fn write(&self, offset: usize, value: u32);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_check_sees_every_change_of_one_word(words: [u32; 3], place in 0..3_usize, other: u32) {
            let mut changed = words;
            changed[place] = other;
            prop_assume!(changed != words);
            let [a, b, c] = words;
            let [x, y, z] = changed;
            prop_assert_ne!(check(a, b, c), check(x, y, z));
        }
    }

    #[test]
    fn chunks_of_all_devices_and_the_control_block_fit_the_region() {
        assert_eq!(REGION_SIZE, 360 << 20);
        assert!(device_chunk(83) < CHUNKS && CONTROL_SIZE <= CHUNK_SIZE);
        const { assert!(SENSOR_TABLE + SENSORS * 8 <= COMMAND, "sensors and commands overlap") };
    }
}
