// SPDX-License-Identifier: MIT OR Apache-2.0

//! What already lives on a disk, by its magic numbers: to refuse formatting over it, and to erase every trace of it when
//! formatting is forced, so that tools see one content and not two.
//!
//! The table follows libblkid. Finding too much costs a `--force`; finding too little costs somebody's data.

use std::fmt;

use crate::disk::Disk;
use crate::error::Result;

/// Something found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signature {
    /// What it is a sign of.
    pub name: &'static str,
    /// Where its magic number is.
    pub at: u64,
    /// How many bytes it has.
    pub length: u64,
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.name, self.at)
    }
}

/// Where a magic number is.
#[derive(Clone, Copy, Debug)]
enum At {
    Start(u64),
    /// So many bytes before the end of the disk, whose size is first rounded down to whole units.
    End {
        back: u64,
        unit: u64,
    },
}

impl At {
    const fn byte(self, size: u64) -> Option<u64> {
        match self {
            Self::Start(at) => Some(at),
            Self::End { back, unit } => (size - size % unit).checked_sub(back),
        }
    }
}

/// One line of the table: the magic number may be at `at`, and at every `STRIDE` from there, `places` times.
struct Magic {
    name: &'static str,
    at: At,
    bytes: &'static [u8],
    places: u64,
}

/// Distance of the uberblocks of zfs, the only magic number that recurs.
const STRIDE: u64 = 1024;

const fn start(name: &'static str, at: u64, bytes: &'static [u8]) -> Magic {
    Magic {
        name,
        at: At::Start(at),
        bytes,
        places: 1,
    }
}

const fn end(name: &'static str, back: u64, unit: u64, bytes: &'static [u8]) -> Magic {
    Magic {
        name,
        at: At::End { back, unit },
        bytes,
        places: 1,
    }
}

/// The 128 uberblocks in the second half of a label of zfs.
const fn uberblocks(at: At, bytes: &'static [u8]) -> Magic {
    Magic {
        name: "zfs",
        at,
        bytes,
        places: 128,
    }
}

const K: u64 = 1024;
const LABEL_3: At = At::End {
    back: 384 * K,
    unit: 256 * K,
};
const LABEL_4: At = At::End {
    back: 128 * K,
    unit: 256 * K,
};
const UBERBLOCK: &[u8] = &[0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0];
const UBERBLOCK_BIG: &[u8] = &[0, 0, 0, 0, 0, 0xba, 0xb1, 0x0c];
const RAID: &[u8] = &[0xfc, 0x4e, 0x2b, 0xa9];
const RAID_BIG: &[u8] = &[0xa9, 0x2b, 0x4e, 0xfc];
const LUKS: &[u8] = b"LUKS\xba\xbe";
const LUKS_COPY: &[u8] = b"SKUL\xba\xbe";

const TABLE: &[Magic] = &[
    start("a VexFS pool", 4 * K, b"VEXFSPL1"),
    start("a VexFS pool", 8 * K, b"VEXFSPL1"),
    start("a VexFS pool", 4100 * K, b"VEXFSPL1"),
    start("a VexFS pool", 4104 * K, b"VEXFSPL1"),
    start("ext2/ext3/ext4", 0x438, b"\x53\xef"),
    start("xfs", 0, b"XFSB"),
    start("btrfs", 64 * K + 0x40, b"_BHRfS_M"),
    start("btrfs", 64 * K * K + 0x40, b"_BHRfS_M"),
    start("f2fs", 1024, b"\x10\x20\xf5\xf2"),
    start("ntfs", 3, b"NTFS    "),
    start("exfat", 3, b"EXFAT   "),
    start("vfat", 0x52, b"FAT32   "),
    start("vfat", 0x52, b"MSWIN"),
    start("vfat", 0x36, b"FAT12   "),
    start("vfat", 0x36, b"FAT16   "),
    start("vfat", 0x36, b"FAT     "),
    start("vfat", 0x36, b"MSDOS"),
    start("iso9660", 0x8001, b"CD001"),
    start("squashfs", 0, b"hsqs"),
    start("squashfs", 0, b"sqsh"),
    start("erofs", 1024, b"\xe2\xe1\xf5\xe0"),
    start(
        "bcachefs",
        0x1018,
        b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef",
    ),
    start(
        "bcache/bcachefs",
        0x1018,
        b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
    ),
    uberblocks(At::Start(128 * K), UBERBLOCK),
    uberblocks(At::Start(384 * K), UBERBLOCK),
    uberblocks(LABEL_3, UBERBLOCK),
    uberblocks(LABEL_4, UBERBLOCK),
    uberblocks(At::Start(128 * K), UBERBLOCK_BIG),
    uberblocks(At::Start(384 * K), UBERBLOCK_BIG),
    uberblocks(LABEL_3, UBERBLOCK_BIG),
    uberblocks(LABEL_4, UBERBLOCK_BIG),
    start("jfs", 0x8000, b"JFS1"),
    // All versions: ReIsErFs, ReIsEr2Fs, ReIsEr3Fs, ReIsEr4.
    start("reiserfs", 0x2034, b"ReIsEr"),
    start("reiserfs", 0x10034, b"ReIsEr"),
    start("reiserfs", 0x10000, b"ReIsEr4"),
    // At the end of the first page, of any size.
    start("swap", 4 * K - 10, b"SWAPSPACE2"),
    start("swap", 4 * K - 10, b"SWAP-SPACE"),
    start("swap", 8 * K - 10, b"SWAPSPACE2"),
    start("swap", 16 * K - 10, b"SWAPSPACE2"),
    start("swap", 32 * K - 10, b"SWAPSPACE2"),
    start("swap", 64 * K - 10, b"SWAPSPACE2"),
    start("LUKS", 0, LUKS),
    start("LUKS2 copy", 0x4000, LUKS_COPY),
    start("LUKS2 copy", 0x8000, LUKS_COPY),
    start("LUKS2 copy", 0x1_0000, LUKS_COPY),
    start("LUKS2 copy", 0x2_0000, LUKS_COPY),
    start("LUKS2 copy", 0x4_0000, LUKS_COPY),
    start("LUKS2 copy", 0x8_0000, LUKS_COPY),
    start("LUKS2 copy", 0x10_0000, LUKS_COPY),
    start("LUKS2 copy", 0x20_0000, LUKS_COPY),
    start("LUKS2 copy", 0x40_0000, LUKS_COPY),
    start("LVM2 physical volume", 0, b"LABELONE"),
    start("LVM2 physical volume", 512, b"LABELONE"),
    start("LVM2 physical volume", 1024, b"LABELONE"),
    start("LVM2 physical volume", 1536, b"LABELONE"),
    // Version 1.1, 1.2, 1.0 and 0.90, the last in the byte order of its machine.
    start("RAID member", 0, RAID),
    start("RAID member", 4 * K, RAID),
    end("RAID member", 8 * K, 4 * K, RAID),
    end("RAID member", 64 * K, 64 * K, RAID),
    end("RAID member", 64 * K, 64 * K, RAID_BIG),
    // With sectors of 512 and of 4096 bytes.
    start("GPT partition table", 512, b"EFI PART"),
    start("GPT partition table", 4 * K, b"EFI PART"),
    end("GPT partition table (backup)", 512, 512, b"EFI PART"),
    end("GPT partition table (backup)", 4 * K, 4 * K, b"EFI PART"),
];

/// Everything found on a disk, in the order of the table.
pub fn probe(disk: &dyn Disk) -> Result<Vec<Signature>> {
    let size = disk.size_bytes();
    let mut found = Vec::new();
    let mut buffer = Vec::new();
    for magic in TABLE {
        let Some(at) = magic.at.byte(size) else { continue };
        let length = magic.bytes.len();
        let span = (magic.places - 1) * STRIDE + length as u64;
        if at.checked_add(span).is_none_or(|end| end > size) {
            continue;
        }
        buffer.resize(usize::try_from(span).unwrap_or(length), 0);
        disk.read(at, &mut buffer)?;
        for (place, bytes) in (0..).zip(buffer.chunks(usize::try_from(STRIDE).unwrap_or(length))) {
            if bytes.starts_with(magic.bytes) {
                found.push(Signature {
                    name: magic.name,
                    at: at + place * STRIDE,
                    length: length as u64,
                });
            }
        }
    }
    if size >= 512 {
        let mut sector = [0; 512];
        disk.read(0, &mut sector)?;
        if has_partitions(&sector) {
            found.push(Signature {
                name: "MBR partition table",
                at: 446,
                length: 66,
            });
        }
    }
    Ok(found)
}

/// Whether a boot sector has a table with an entry. Boot sectors of file systems end with the same two bytes; their code
/// seldom looks like four entries with a proper "active" flag.
fn has_partitions(sector: &[u8; 512]) -> bool {
    let entries = || sector[446..510].chunks_exact(16);
    let plausible = entries().all(|entry| matches!(entry[0], 0 | 0x80));
    let used = entries().any(|entry| entry[4] != 0 && entry[12..16] != [0; 4]);
    sector[510..] == [0x55, 0xaa] && plausible && used
}

/// Overwrites what was found with zeros.
pub fn erase(disk: &dyn Disk, found: &[Signature]) -> Result<()> {
    for signature in found {
        let length = usize::try_from(signature.length).unwrap_or(0);
        disk.write(signature.at, &vec![0; length])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemDisk;

    const SIZE: u64 = (80 << 20) + 7 * 4096 + 512;

    #[test]
    fn every_magic_number_of_the_table_is_found_and_erased_where_it_is_planted() {
        for magic in TABLE {
            for place in [0, magic.places - 1] {
                let disk = MemDisk::new(SIZE);
                let at = magic.at.byte(SIZE).unwrap() + place * STRIDE;
                disk.write(at, magic.bytes).unwrap();
                let found = probe(&disk).unwrap();
                let planted = found.iter().any(|found| found.name == magic.name && found.at == at);
                assert!(planted, "{} at {at}: {found:?}", magic.name);
                erase(&disk, &found).unwrap();
                assert_eq!(probe(&disk).unwrap(), []);
            }
        }
    }

    #[test]
    fn a_partition_table_counts_only_with_a_partition_in_it() {
        let disk = MemDisk::new(SIZE);
        disk.write(510, &[0x55, 0xaa]).unwrap();
        assert_eq!(probe(&disk).unwrap(), []);
        disk.write(446 + 16 + 4, &[0x83, 0, 0, 0, 0, 8, 0, 0, 0, 0, 1, 0])
            .unwrap();
        assert_eq!(probe(&disk).unwrap()[0].name, "MBR partition table");
        disk.write(446, &[0x33]).unwrap();
        assert_eq!(probe(&disk).unwrap(), [], "boot code is no table");
    }

    #[test]
    fn a_small_disk_is_no_trouble() {
        for size in [0, 1, 511, 512, 4096, 70_000] {
            assert_eq!(probe(&MemDisk::new(size)).unwrap(), []);
        }
    }
}
