/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT OR Apache-2.0 */
/*
 * The language between vexfs.ko and the server behind its block device.
 *
 * docs/ABI.md tells what the messages mean, in which order they may come, and
 * what either side may assume after the other has died. This header has their
 * bytes. The server's mirror asserts the same sizes and offsets.
 *
 * All numbers are little-endian; every structure is free of padding; reserved
 * fields are zero when sent and ignored when received.
 */
#ifndef VEXFS_ABI_H
#define VEXFS_ABI_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stdint.h>
typedef uint8_t __u8;
typedef uint16_t __u16;
typedef uint32_t __u32;
typedef uint64_t __u64;
typedef int32_t __s32;
typedef int64_t __s64;
#endif

/* Both sides must have the same major number, and speak the lower minor. */
#define VEXFS_ABI_MAJOR		1
#define VEXFS_ABI_MINOR		0

/* The unit of every transfer and of every address of a window. */
#define VEXFS_ABI_BLOCK		4096u

#define VEXFS_NAME_BYTES	255u
#define VEXFS_LABEL_BYTES	64u

/* ------------------------------------------------------------------ super */

/* "VEXFSDEV" */
#define VEXFS_SUPER_MAGIC	0x5645445346584556ULL

/* A window of equal pieces: piece i starts at base + i * stride. */
struct vexfs_window {
	__u64 base;		/* byte on the device */
	__u32 stride;		/* bytes of a piece, a multiple of 4096 */
	__u32 count;		/* pieces */
};

/* The windows that files have without asking: of inode i at base + i * span. */
struct vexfs_own_windows {
	__u64 base;		/* byte on the device */
	__u64 span;		/* bytes of each */
	__u64 count;		/* of inode numbers below this; 0: ask for the place */
};

/* The first block of the device. Read at mount, never written. */
struct vexfs_super {
	__u64 magic;
	__u16 major;
	__u16 minor;
	__u32 crc;		/* CRC-32C of the block with this field 0 */
	__u64 incompat;		/* features a client must know to mount */
	__u64 ro_compat;	/* ... to mount for writing */
	__u8 uuid[16];
	__u8 label[VEXFS_LABEL_BYTES];	/* UTF-8, zero-filled */
	struct vexfs_window calls;
	struct vexfs_window log;
	__u64 data_start;	/* file bytes are at or above this */
	__u64 data_end;		/* and below this */
	__u64 max_file_bytes;
	__u64 epoch;		/* of the server; see docs/ABI.md */
	struct vexfs_own_windows own;
	__u8 reserved[3896];
};

/* ------------------------------------------------------------------ calls */

/* "VXRQ", "VXRP" */
#define VEXFS_REQUEST_MAGIC	0x51525856u
#define VEXFS_REPLY_MAGIC	0x50525856u

/* What a request asks for. */
enum vexfs_opcode {
	VEXFS_HELLO	= 1,	/* vexfs_hello		-> vexfs_welcome */
	VEXFS_RESUME	= 2,	/* vexfs_resume		-> vexfs_welcome */
	VEXFS_GOODBYE	= 3,	/* nothing		-> nothing */
	VEXFS_LOOKUP	= 4,	/* vexfs_named		-> vexfs_attr */
	VEXFS_GETATTR	= 5,	/* vexfs_inode_ref -> vexfs_attr, target of a link */
	VEXFS_READDIR	= 6,	/* vexfs_readdir -> vexfs_listing, vexfs_dirent... */
	VEXFS_GETXATTR	= 7,	/* vexfs_named		-> value */
	VEXFS_LISTXATTR	= 8,	/* vexfs_inode_ref -> names, each with its zero byte */
	VEXFS_APPLY	= 9,	/* vexfs_apply, operations -> vexfs_attr[4] */
	VEXFS_STATFS	= 10,	/* nothing		-> vexfs_statfs */
	VEXFS_MAP	= 11,	/* vexfs_map		-> vexfs_mapped */
	VEXFS_GRANT	= 12,	/* vexfs_grant -> nothing: the reply's header tells */
	VEXFS_EXTENTS	= 13,	/* vexfs_range		-> vexfs_extent... */
	VEXFS_SEEK	= 14,	/* vexfs_seek		-> vexfs_position */
	VEXFS_RELEASE	= 15,	/* vexfs_inode_ref	-> nothing */
	VEXFS_PARENT	= 16,	/* vexfs_inode_ref	-> vexfs_parent */
	VEXFS_QUERY	= 17,	/* vexfs_query -> vexfs_queried; see there */
};

/* Starts the first block of a call slot when it is written. */
struct vexfs_request {
	__u32 magic;
	__u32 crc;		/* CRC-32C of header and payload with this field 0 */
	__u64 session;		/* 0 in HELLO */
	__u64 seq;		/* of this call; a retry has the same */
	__u64 after;		/* posted operations before this position come first */
	__u16 opcode;
	__u16 slot;		/* the one it is written to */
	__u32 length;		/* bytes of payload that follow the header */
	__u32 capacity;		/* bytes of the slot that will be read */
	__u32 reserved0;
	__u64 reserved1[2];
};

/* Reply flags. */
#define VEXFS_REPLY_AGAIN	1u	/* the request is unknown: send it again, same seq */
#define VEXFS_REPLY_PARTIAL	2u	/* there is more; ask again from where it ends */
#define VEXFS_REPLY_NO_SESSION	4u	/* the session is unknown: HELLO */

/* Starts the first block of a call slot when it is read. */
struct vexfs_reply {
	__u32 magic;
	__u32 crc;		/* CRC-32C of header and payload with this field 0 */
	__u64 session;
	__u64 seq;
	__u64 epoch;		/* another than before: the server is a new one */
	__u64 applied;		/* posted operations before this position are applied */
	__u64 credits;		/* data blocks granted since HELLO; never goes down */
	__u64 ino_from;		/* newest grant of inode numbers */
	__u32 ino_count;
	__s32 status;		/* 0 or a negative errno */
	__u16 flags;
	__u16 slot;
	__u32 length;		/* bytes of payload that follow the header */
	__u64 meta_credits;	/* operations at positions below may be posted */
	__u64 reserved;
};

/* ---------------------------------------------------------------- payloads */

/* Attribute hints: what is not there need not be asked for. */
#define VEXFS_HINT_XATTRS	1u	/* has extended attributes */
#define VEXFS_HINT_ACL		2u	/* system.posix_acl_access is among them */
#define VEXFS_HINT_DEFAULT_ACL	4u	/* system.posix_acl_default is */
#define VEXFS_HINT_SECURITY	8u	/* something in security. is */

/* Everything about an inode. ino 0: there is none. */
struct vexfs_attr {
	__u64 ino;
	__u64 size;		/* bytes; of a directory its entries; of a link its target */
	__u64 sectors;		/* of 512 bytes, as stat counts */
	__s64 accessed;		/* nanoseconds since 1970 */
	__s64 modified;
	__s64 changed;
	__s64 born;
	__u64 device;		/* of a device node, as new_encode_dev() */
	__u64 parent;		/* of a directory */
	__u32 uid;
	__u32 gid;
	__u32 links;
	__u32 flags;		/* as FS_IOC_GETFLAGS */
	__u16 mode;
	__u16 hints;
	__u32 generation;	/* CRC-32C of born, lowest bit set; another: another file */
	__u64 data_base;	/* byte 0 of the file on the device */
	__u64 data_span;	/* bytes from there that are the file's; 0: MAP first */
	__u64 reserved[2];
};

struct vexfs_hello {
	__u16 major;
	__u16 minor;
	__u32 read_only;	/* 1: nothing will be changed */
	__u64 known_incompat;	/* features the client knows */
	__u64 known_ro_compat;
	__u64 nonce;		/* random: the same HELLO again begins nothing new */
	__u64 reserved[4];
};

/* After the server has changed, or a reply said so. */
struct vexfs_resume {
	__u64 session;
	__u64 posted;		/* position up to which the client has posted */
	__u64 credits;		/* granted to the client so far, ... */
	__u64 spent;		/* ... and used or given back by it */
	__u64 reserved[4];
};

struct vexfs_welcome {
	__u64 session;
	__u16 major;
	__u16 minor;
	__u32 read_only;
	__u64 applied;		/* as in the reply's header; 0 after HELLO */
	__u64 reserved[5];
	struct vexfs_attr root;
};

struct vexfs_inode_ref {
	__u64 ino;
	__u32 generation;	/* 0: any */
	__u32 reserved;
};

/* An inode and a name of this many bytes behind it. */
struct vexfs_named {
	__u64 ino;
	__u16 length;
	__u16 reserved[3];
};

struct vexfs_readdir {
	__u64 ino;
	__u64 cookie;		/* entries behind this one; 0: from the start */
	__u32 attributes;	/* 1: with attributes */
	__u32 reserved;
};

struct vexfs_listing {
	__u32 count;
	__u32 end;		/* 1: nothing follows */
};

/*
 * One entry, followed by its name and zeros up to a multiple of 8, and by a
 * vexfs_attr if attributes were asked for.
 */
struct vexfs_dirent {
	__u64 ino;
	__u64 cookie;
	__u16 length;
	__u8 kind;		/* as d_type */
	__u8 reserved[5];
};

/*
 * Changes, all or none. The operations follow, in the encoding of the journal
 * (docs/FORMAT.md): those marked "from a client" there.
 */
struct vexfs_apply {
	__u64 want[4];		/* inodes whose attributes the reply shall have, or 0 */
	__u32 count;		/* operations */
	__u32 length;		/* bytes of them */
};

struct vexfs_statfs {
	__u64 blocks;		/* of 4096 bytes */
	__u64 free;
	__u64 available;
	__u64 files;
	__u64 files_free;
	__u64 reserved[3];
};

/* Asks for a longer window of a file's bytes. */
struct vexfs_map {
	__u64 ino;
	__u64 bytes;
};

struct vexfs_mapped {
	__u64 base;
	__u64 span;
};

struct vexfs_grant {
	__u32 inodes;		/* numbers wanted */
	__u32 reserved0;
	__u64 credits;		/* data blocks wanted */
	__u64 meta_credits;
	__u64 spent;		/* data blocks used or given back since HELLO */
	__u64 reserved1[4];
};

struct vexfs_range {
	__u64 ino;
	__u64 from;		/* bytes */
	__u64 length;
};

#define VEXFS_EXTENT_PROMISED	1u	/* preallocated: reads as zeros */
#define VEXFS_EXTENT_SHARED	2u
#define VEXFS_EXTENT_ENCODED	4u	/* compressed */
#define VEXFS_EXTENT_INLINE	8u

struct vexfs_extent {
	__u64 from;		/* byte of the file */
	__u64 length;
	__u64 place;		/* byte of the pool */
	__u32 flags;
	__u32 reserved;
};

#define VEXFS_SEEK_DATA		3u
#define VEXFS_SEEK_HOLE		4u

struct vexfs_seek {
	__u64 ino;
	__u64 from;
	__u32 what;
	__u32 reserved;
};

struct vexfs_position {
	__u64 position;
};

/* A directory that has the inode, and the name there (of length bytes). */
struct vexfs_parent {
	struct vexfs_attr attr;
	__u16 length;
	__u16 reserved[3];
};

/*
 * A request about vectors (docs/VECTORS.md) and its answer, in pieces: what
 * vexfs_query.what says. Requests of a lane come one after the other, with
 * numbers that grow.
 */
#define VEXFS_QUERY_PIECE	1u	/* of the request, which follows -> nothing */
#define VEXFS_QUERY_RUN		2u	/* groups follow -> the answer's beginning */
#define VEXFS_QUERY_ANSWER	3u	/* -> more of it */

#define VEXFS_QUERY_LANES	4u
#define VEXFS_QUERY_STEPS	0x1000000u	/* numbers are multiples of it */
#define VEXFS_QUERY_REQUEST_BYTES	0x1000000u
#define VEXFS_QUERY_ANSWER_BYTES	0x2000000u

#define VEXFS_CALLER_MAY_ALL	1u	/* whoever it is */
#define VEXFS_CALLER_LOOKS	2u	/* nothing may be changed */

struct vexfs_query {
	__u64 number;		/* of the request; not 0 */
	__u32 what;
	__u32 lane;
	__u32 total;		/* bytes of the request */
	__u32 from;		/* byte of request or answer where the piece begins */
	__u32 count;		/* bytes, or groups (__u32 each), that follow */
	__u32 flags;		/* VEXFS_CALLER_*; with RUN, as what follows */
	__u32 uid;
	__u32 gid;
};

/*
 * A piece of an answer: count bytes that begin at byte from. The answer begins
 * with the numbers (__u64 each) of inodes whose attributes changed. total 0: the
 * request is not complete, and was not carried out.
 */
struct vexfs_queried {
	__u32 total;		/* bytes of the answer, the numbers included */
	__u32 changed;		/* numbers */
	__u32 from;
	__u32 count;
};

/* -------------------------------------------------------------------- log */

/* "VXLG" */
#define VEXFS_BATCH_MAGIC	0x474c5856u

/* The WRITE is answered when it and everything answered before is durable. */
#define VEXFS_BATCH_COMMIT	1u

/* Starts a piece of the log window. Operations follow, as in vexfs_apply. */
struct vexfs_batch {
	__u32 magic;
	__u32 crc;		/* CRC-32C of header and payload with this field 0 */
	__u64 session;
	__u64 position;		/* of the first operation: operations posted before it */
	__u32 count;		/* operations */
	__u32 length;		/* bytes of them */
	__u32 flags;		/* VEXFS_BATCH_* */
	__u32 reserved0;
	__u64 reserved[3];
};

/* ------------------------------------------------------------------ sizes */

#define VEXFS_ABI_ASSERT(type, size) \
	_Static_assert(sizeof(struct type) == (size), #type)

VEXFS_ABI_ASSERT(vexfs_window, 16);
VEXFS_ABI_ASSERT(vexfs_own_windows, 24);
VEXFS_ABI_ASSERT(vexfs_super, 4096);
VEXFS_ABI_ASSERT(vexfs_request, 64);
VEXFS_ABI_ASSERT(vexfs_reply, 88);
VEXFS_ABI_ASSERT(vexfs_attr, 128);
VEXFS_ABI_ASSERT(vexfs_hello, 64);
VEXFS_ABI_ASSERT(vexfs_resume, 64);
VEXFS_ABI_ASSERT(vexfs_welcome, 192);
VEXFS_ABI_ASSERT(vexfs_inode_ref, 16);
VEXFS_ABI_ASSERT(vexfs_named, 16);
VEXFS_ABI_ASSERT(vexfs_readdir, 24);
VEXFS_ABI_ASSERT(vexfs_listing, 8);
VEXFS_ABI_ASSERT(vexfs_dirent, 24);
VEXFS_ABI_ASSERT(vexfs_apply, 40);
VEXFS_ABI_ASSERT(vexfs_statfs, 64);
VEXFS_ABI_ASSERT(vexfs_map, 16);
VEXFS_ABI_ASSERT(vexfs_mapped, 16);
VEXFS_ABI_ASSERT(vexfs_grant, 64);
VEXFS_ABI_ASSERT(vexfs_range, 24);
VEXFS_ABI_ASSERT(vexfs_extent, 32);
VEXFS_ABI_ASSERT(vexfs_seek, 24);
VEXFS_ABI_ASSERT(vexfs_position, 8);
VEXFS_ABI_ASSERT(vexfs_parent, 136);
VEXFS_ABI_ASSERT(vexfs_query, 40);
VEXFS_ABI_ASSERT(vexfs_queried, 16);
VEXFS_ABI_ASSERT(vexfs_batch, 64);

#endif /* VEXFS_ABI_H */
