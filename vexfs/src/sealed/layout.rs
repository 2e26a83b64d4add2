// SPDX-License-Identifier: MIT OR Apache-2.0

//! The bytes of `vexfs/kernel/vexfs_sealed.h`: its structures, field by field, little-endian and without padding. What
//! the fields mean is told in `docs/FORMAT-SEALED.md`. A test compiles that header and compares sizes and offsets.

use zerocopy::little_endian::{I64, U16, U32, U64};

use crate::checksum::Crc;
use crate::mirror::{constants, structures};
use crate::units::BLOCK_SIZE;

structures! {
    explained in "docs/FORMAT-SEALED.md tells what the fields mean";

    /// Block 0.
    Super = "vexfs_sealed_super" {
        magic: U64, major: U16, minor: U16, crc: U32, incompat: U64, uuid: [u8; 16], label: [u8; LABEL],
        blocks: U64, body_end: U64, inodes: U64, inodes_at: U64, sums_at: U64, sums_kind: U32, reserved0: U32,
        reserved: [u8; 3944],
    }
    /// Starts every other block of metadata.
    Head = "vexfs_sealed_head" { magic: U32, crc: U32, at: U64, owner: U64, kind: U16, count: U16, index: U32, }
    /// Blocks of a file that lie side by side in the image.
    Extent = "vexfs_sealed_extent" { from: U64, at: U64, count: U32, reserved: U32, }
    /// Everything about a file but its names, attributes and bytes.
    Inode = "vexfs_sealed_inode" {
        ino: U64, parent: U64, size: U64, blocks: U64, accessed: I64, modified: I64, changed: I64, born: I64,
        map_at: U64, xattrs_at: U64, map_blocks: U32, map_count: U32, xattrs_bytes: U32, device: U32, uid: U32, gid: U32,
        links: U32, flags: U32, generation: U32, mode: U16, reserved0: U16, reserved1: U64, inline_bytes: [u8; INLINE],
    }
    /// A name in a directory; it follows.
    Entry = "vexfs_sealed_entry" { ino: U64, kind: u8, length: u8, }
    /// An attribute; name and value follow.
    Xattr = "vexfs_sealed_xattr" { value_bytes: U32, name_bytes: U16, reserved: U16, }
}

constants! {
    /// `VEXFSEAL`.
    MAGIC: u64 = 0x4c41_4553_4658_4556;
    /// A reader must have the same.
    MAJOR: u16 = 1;
    /// A reader may have another.
    MINOR: u16 = 0;
    /// Unit of everything.
    BLOCK: usize = BLOCK_SIZE;
    /// Bytes of the label.
    LABEL: usize = 64;
    /// Number of the root directory.
    ROOT: u64 = 1;
    /// `VXSB`.
    HEAD_MAGIC: u32 = 0x4253_5856;
    /// Bytes of a block behind its head.
    PAYLOAD: usize = BLOCK - size_of::<Head>();
    /// [`Head::kind`]: inodes.
    INODES: u16 = 1;
    /// [`Head::kind`]: names of a directory.
    ENTRIES: u16 = 2;
    /// [`Head::kind`]: extents of a file.
    EXTENTS: u16 = 3;
    /// [`Head::kind`]: bytes of attributes or a target.
    BYTES: u16 = 4;
    /// [`Head::kind`]: checksums of blocks.
    CHECKSUMS: u16 = 5;
    /// Inodes of a block.
    BLOCK_INODES: u64 = (PAYLOAD / size_of::<Inode>()) as u64;
    /// Extents of a block.
    BLOCK_EXTENTS: usize = PAYLOAD / size_of::<Extent>();
    /// Checksums of a block.
    BLOCK_CHECKSUMS: u64 = (PAYLOAD / 4) as u64;
    /// Bytes of an inode for extents or a target.
    INLINE: usize = 128;
    /// Extents that fit there.
    INLINE_EXTENTS: usize = INLINE / size_of::<Extent>();
    /// Blocks of files have no checksums.
    SUMS_NONE: u32 = 0;
    /// Each has its CRC32C.
    SUMS_CRC32C: u32 = 1;
}

/// Where the checksum is in block 0.
pub(super) const SUPER_CRC: usize = std::mem::offset_of!(Super, crc);
/// Where it is in other blocks.
pub(super) const HEAD_CRC: usize = std::mem::offset_of!(Head, crc);
/// A block.
pub(super) type Bytes = [u8; BLOCK];

/// The checksum of a block as if the four bytes at `field` were 0.
pub(super) fn crc_of(block: &Bytes, field: usize) -> u32 {
    let (before, rest) = block.split_at(field);
    let after = rest.get(4..).unwrap_or_default();
    Crc::of_all([before, &[0; 4], after]).0
}

/// Writes the checksum of a block into it.
pub(super) fn seal(block: &mut Bytes, field: usize) {
    let crc = crc_of(block, field).to_le_bytes();
    if let Some(place) = block.get_mut(field..field + 4) {
        place.copy_from_slice(&crc);
    }
}

const _: () = {
    assert!(size_of::<Super>() == BLOCK);
    assert!(size_of::<Head>() == 32);
    assert!(size_of::<Inode>() == 256);
    assert!(size_of::<Extent>() == 24);
};
