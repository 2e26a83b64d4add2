/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT OR Apache-2.0 */
/*
 * The bytes of a sealed image: a tree of files that is only read, and needs no
 * server. docs/FORMAT-SEALED.md tells what they mean; vexfs/src/sealed/layout.rs
 * is the same in Rust, and a test compares sizes and offsets.
 *
 * All numbers are little-endian; every structure is free of padding; reserved
 * fields are zero.
 */
#ifndef VEXFS_SEALED_H
#define VEXFS_SEALED_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stdint.h>
typedef uint8_t __u8;
typedef uint16_t __le16;
typedef uint32_t __le32;
typedef uint64_t __le64;
#endif

/* "VEXFSEAL" */
#define VEXFS_SEALED_MAGIC	0x4c41455346584556ULL
#define VEXFS_SEALED_MAJOR	1
#define VEXFS_SEALED_MINOR	0
#define VEXFS_SEALED_BLOCK	4096u
#define VEXFS_SEALED_LABEL	64u
#define VEXFS_SEALED_ROOT	1

/* "VXSB": starts every block of metadata but the first block of the image. */
#define VEXFS_SEALED_HEAD_MAGIC	0x42535856u

/* Bytes of such a block behind its head. */
#define VEXFS_SEALED_PAYLOAD	4064u

/* What is in such a block. */
#define VEXFS_SEALED_INODES	1
#define VEXFS_SEALED_ENTRIES	2
#define VEXFS_SEALED_EXTENTS	3
#define VEXFS_SEALED_BYTES	4	/* attributes, targets of symbolic links */
#define VEXFS_SEALED_CHECKSUMS	5

/* How many of them a block has room for. */
#define VEXFS_SEALED_BLOCK_INODES	15
#define VEXFS_SEALED_BLOCK_EXTENTS	169
#define VEXFS_SEALED_BLOCK_CHECKSUMS	1016

/* What an inode has room for. */
#define VEXFS_SEALED_INLINE		128u
#define VEXFS_SEALED_INLINE_EXTENTS	5

/* Kinds of checksums of the blocks of files. */
#define VEXFS_SEALED_SUMS_NONE		0
#define VEXFS_SEALED_SUMS_CRC32C	1

/* Block 0. */
struct vexfs_sealed_super {
	__le64 magic;
	__le16 major;
	__le16 minor;
	__le32 crc;		/* CRC-32C of the block with this field 0 */
	__le64 incompat;	/* features that must be known to read it */
	__u8 uuid[16];
	__u8 label[VEXFS_SEALED_LABEL];	/* UTF-8, zero-filled */
	__le64 blocks;		/* of the image, this one included */
	__le64 body_end;	/* block behind the last of files and directories */
	__le64 inodes;		/* numbers are 1 to this */
	__le64 inodes_at;	/* first block of inodes */
	__le64 sums_at;		/* first block of checksums */
	__le32 sums_kind;
	__le32 reserved0;
	__u8 reserved[3944];
};

struct vexfs_sealed_head {
	__le32 magic;
	__le32 crc;		/* CRC-32C of the block with this field 0 */
	__le64 at;		/* the number of this block */
	__le64 owner;		/* inode it is of; 0: of several */
	__le16 kind;
	__le16 count;		/* things in it; of BYTES: bytes */
	__le32 index;		/* which block of its run this is */
};

/* Blocks of a file that lie side by side in the image. */
struct vexfs_sealed_extent {
	__le64 from;		/* block of the file */
	__le64 at;		/* block of the image */
	__le32 count;
	__le32 reserved;
};

struct vexfs_sealed_inode {
	__le64 ino;
	__le64 parent;		/* of a directory; of the root: itself */
	__le64 size;		/* as stat tells it */
	__le64 blocks;		/* that its extents name */
	__le64 accessed;	/* nanoseconds since 1970, two's complement */
	__le64 modified;
	__le64 changed;
	__le64 born;
	__le64 map_at;		/* first block of extents, entries or target */
	__le64 xattrs_at;	/* first block of attributes; 0: none */
	__le32 map_blocks;	/* 0: inline, or nothing */
	__le32 map_count;	/* extents; blocks of entries; bytes of the target */
	__le32 xattrs_bytes;
	__le32 device;
	__le32 uid;
	__le32 gid;
	__le32 links;
	__le32 flags;		/* as FS_IOC_GETFLAGS tells them */
	__le32 generation;
	__le16 mode;
	__le16 reserved0;
	__le64 reserved1;
	__u8 inline_bytes[VEXFS_SEALED_INLINE];	/* extents, or the target */
};

/* A name in a directory; it follows. */
struct vexfs_sealed_entry {
	__le64 ino;
	__u8 kind;		/* as in d_type */
	__u8 length;
} __attribute__((__packed__));

/* An attribute; name and value follow. */
struct vexfs_sealed_xattr {
	__le32 value_bytes;
	__le16 name_bytes;
	__le16 reserved;
};

#endif /* VEXFS_SEALED_H */
