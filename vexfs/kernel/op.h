/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Operations in the encoding of the pool's journal (docs/FORMAT.md, part 10).
 *
 * A writer never runs over its end: what does not fit sets ->overflow, and is
 * found when the operations are sent.
 */
#ifndef VEXFS_OP_H
#define VEXFS_OP_H

#include "vexfs.h"

/* SetAttributes.fields */
#define VEXFS_SET_MODE		0x01
#define VEXFS_SET_UID		0x02
#define VEXFS_SET_GID		0x04
#define VEXFS_SET_ACCESSED	0x08
#define VEXFS_SET_MODIFIED	0x10
#define VEXFS_SET_FLAGS		0x20
#define VEXFS_SET_CHANGED	0x40

/* Rename.flags */
#define VEXFS_RENAME_NOREPLACE	1
#define VEXFS_RENAME_EXCHANGE	2
#define VEXFS_RENAME_WHITEOUT	4

/* SetXattr.flags */
#define VEXFS_XATTR_CREATE	1
#define VEXFS_XATTR_REPLACE	2

/* Flags of files besides those of FS_IOC_GETFLAGS that Linux names. */
#define VEXFS_ZSTD_FL		0x20000000
#define VEXFS_NO_CHECKSUM_FL	0x40000000

/* What one operation may preallocate or clone. */
#define VEXFS_STEP_BLOCKS	32768

struct vexfs_writer {
	u8 *start;
	u8 *at;
	u8 *end;
	u32 count;		/* operations */
	bool overflow;
};

struct vexfs_create_op {
	u64 parent;
	u64 ino;
	u16 mode;
	u32 uid;
	u32 gid;
	u64 device;
	u32 flags;
	s64 time;
	const char *name;
	u32 name_length;
	const char *target;
	u32 target_length;
};

struct vexfs_set_op {
	u64 ino;
	u8 fields;
	u16 mode;
	u32 uid;
	u32 gid;
	u32 flags;
	s64 accessed;
	s64 modified;
	s64 changed;
};

struct vexfs_rename_op {
	u64 from;
	u64 to;
	u8 flags;
	u64 whiteout;
	s64 time;
	const struct qstr *name;
	const struct qstr *new_name;
};

struct vexfs_clone_op {
	u64 from;
	u64 from_block;
	u64 to;
	u64 to_block;
	u64 count;
	u64 end;
	s64 time;
};

void vexfs_op_create(struct vexfs_writer *w, const struct vexfs_create_op *op);
void vexfs_op_link(struct vexfs_writer *w, u64 ino, u64 parent, s64 time,
		   const struct qstr *name);
void vexfs_op_adopt(struct vexfs_writer *w, u64 ino, u64 parent, s64 time,
		    const struct qstr *name);
void vexfs_op_unlink(struct vexfs_writer *w, u64 parent, s64 time,
		     const struct qstr *name);
void vexfs_op_rmdir(struct vexfs_writer *w, u64 parent, s64 time,
		    const struct qstr *name);
void vexfs_op_rename(struct vexfs_writer *w, const struct vexfs_rename_op *op);
void vexfs_op_set(struct vexfs_writer *w, const struct vexfs_set_op *op);
void vexfs_op_truncate(struct vexfs_writer *w, u64 ino, u64 size, s64 time);
void vexfs_op_extend(struct vexfs_writer *w, u64 ino, u64 size, s64 modified,
		     s64 changed);
void vexfs_op_set_xattr(struct vexfs_writer *w, u64 ino, u8 flags, s64 time,
			const char *name, const void *value, u32 length);
void vexfs_op_remove_xattr(struct vexfs_writer *w, u64 ino, s64 time,
			   const char *name);
void vexfs_op_preallocate(struct vexfs_writer *w, u64 ino, u64 from, u64 count,
			  u64 end, s64 time);
void vexfs_op_punch(struct vexfs_writer *w, u64 ino, u64 from, u64 count,
		    s64 time);
void vexfs_op_collapse(struct vexfs_writer *w, u64 ino, u64 from, u64 count,
		       s64 time);
void vexfs_op_insert(struct vexfs_writer *w, u64 ino, u64 from, u64 count,
		     s64 time);
/* All of a file without names. */
void vexfs_op_purge(struct vexfs_writer *w, u64 ino);
void vexfs_op_clone(struct vexfs_writer *w, const struct vexfs_clone_op *op);

#endif /* VEXFS_OP_H */
