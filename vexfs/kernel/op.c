// SPDX-License-Identifier: GPL-2.0-only
/*
 * Encoding of operations. Fields and their order: docs/FORMAT.md, part 10.
 */

#include <linux/string.h>
#include <linux/unaligned.h>

#include "op.h"

enum {
	OP_CREATE = 1,
	OP_LINK = 2,
	OP_UNLINK = 3,
	OP_REMOVE_DIRECTORY = 4,
	OP_RENAME = 5,
	OP_SET_ATTRIBUTES = 6,
	OP_TRUNCATE = 7,
	OP_SET_XATTR = 8,
	OP_REMOVE_XATTR = 9,
	OP_PREALLOCATE = 13,
	OP_PUNCH = 14,
	OP_COLLAPSE = 15,
	OP_INSERT = 16,
	OP_CLONE = 17,
	OP_PURGE = 18,
	OP_ADOPT = 19,
	OP_EXTEND = 20,
};

static u8 *vexfs_room(struct vexfs_writer *w, size_t bytes)
{
	u8 *at = w->at;

	if (w->overflow || bytes > w->end - at) {
		w->overflow = true;
		return NULL;
	}
	w->at = at + bytes;
	return at;
}

static void put8(struct vexfs_writer *w, u8 value)
{
	u8 *at = vexfs_room(w, 1);

	if (at)
		*at = value;
}

static void put16(struct vexfs_writer *w, u16 value)
{
	u8 *at = vexfs_room(w, 2);

	if (at)
		put_unaligned_le16(value, at);
}

static void put32(struct vexfs_writer *w, u32 value)
{
	u8 *at = vexfs_room(w, 4);

	if (at)
		put_unaligned_le32(value, at);
}

static void put64(struct vexfs_writer *w, u64 value)
{
	u8 *at = vexfs_room(w, 8);

	if (at)
		put_unaligned_le64(value, at);
}

static void put_bytes(struct vexfs_writer *w, const void *bytes, u32 length)
{
	u8 *at;

	put32(w, length);
	at = vexfs_room(w, length);
	if (at && length)
		memcpy(at, bytes, length);
}

static void put_name(struct vexfs_writer *w, const struct qstr *name)
{
	put_bytes(w, name->name, name->len);
}

static void begin(struct vexfs_writer *w, u8 number)
{
	w->count++;
	put8(w, number);
}

void vexfs_op_create(struct vexfs_writer *w, const struct vexfs_create_op *op)
{
	begin(w, OP_CREATE);
	put64(w, op->parent);
	put64(w, op->ino);
	put16(w, op->mode);
	put32(w, op->uid);
	put32(w, op->gid);
	put64(w, op->device);
	put32(w, op->flags);
	put64(w, op->time);
	put_bytes(w, op->name, op->name_length);
	put_bytes(w, op->target, op->target_length);
}

static void vexfs_op_named_inode(struct vexfs_writer *w, u8 number, u64 ino,
				 u64 parent, s64 time, const struct qstr *name)
{
	begin(w, number);
	put64(w, ino);
	put64(w, parent);
	put64(w, time);
	put_name(w, name);
}

void vexfs_op_link(struct vexfs_writer *w, u64 ino, u64 parent, s64 time,
		   const struct qstr *name)
{
	vexfs_op_named_inode(w, OP_LINK, ino, parent, time, name);
}

void vexfs_op_adopt(struct vexfs_writer *w, u64 ino, u64 parent, s64 time,
		    const struct qstr *name)
{
	vexfs_op_named_inode(w, OP_ADOPT, ino, parent, time, name);
}

static void vexfs_op_remove(struct vexfs_writer *w, u8 number, u64 parent,
			    s64 time, const struct qstr *name)
{
	begin(w, number);
	put64(w, parent);
	put64(w, time);
	put_name(w, name);
}

void vexfs_op_unlink(struct vexfs_writer *w, u64 parent, s64 time,
		     const struct qstr *name)
{
	vexfs_op_remove(w, OP_UNLINK, parent, time, name);
}

void vexfs_op_rmdir(struct vexfs_writer *w, u64 parent, s64 time,
		    const struct qstr *name)
{
	vexfs_op_remove(w, OP_REMOVE_DIRECTORY, parent, time, name);
}

void vexfs_op_rename(struct vexfs_writer *w, const struct vexfs_rename_op *op)
{
	begin(w, OP_RENAME);
	put64(w, op->from);
	put64(w, op->to);
	put8(w, op->flags);
	put64(w, op->whiteout);
	put64(w, op->time);
	put_name(w, op->name);
	put_name(w, op->new_name);
}

void vexfs_op_set(struct vexfs_writer *w, const struct vexfs_set_op *op)
{
	begin(w, OP_SET_ATTRIBUTES);
	put64(w, op->ino);
	put8(w, op->fields);
	put16(w, op->mode);
	put32(w, op->uid);
	put32(w, op->gid);
	put32(w, op->flags);
	put64(w, op->accessed);
	put64(w, op->modified);
	put64(w, op->changed);
}

void vexfs_op_truncate(struct vexfs_writer *w, u64 ino, u64 size, s64 time)
{
	begin(w, OP_TRUNCATE);
	put64(w, ino);
	put64(w, size);
	put64(w, time);
}

void vexfs_op_extend(struct vexfs_writer *w, u64 ino, u64 size, s64 modified,
		     s64 changed)
{
	begin(w, OP_EXTEND);
	put64(w, ino);
	put64(w, size);
	put64(w, modified);
	put64(w, changed);
}

void vexfs_op_set_xattr(struct vexfs_writer *w, u64 ino, u8 flags, s64 time,
			const char *name, const void *value, u32 length)
{
	begin(w, OP_SET_XATTR);
	put64(w, ino);
	put8(w, flags);
	put64(w, time);
	put_bytes(w, name, strlen(name));
	put_bytes(w, value, length);
}

void vexfs_op_remove_xattr(struct vexfs_writer *w, u64 ino, s64 time,
			   const char *name)
{
	begin(w, OP_REMOVE_XATTR);
	put64(w, ino);
	put64(w, time);
	put_bytes(w, name, strlen(name));
}

static void vexfs_op_range(struct vexfs_writer *w, u8 number, u64 ino,
			   u64 from, u64 count)
{
	begin(w, number);
	put64(w, ino);
	put64(w, from);
	put64(w, count);
}

void vexfs_op_preallocate(struct vexfs_writer *w, u64 ino, u64 from, u64 count,
			  u64 end, s64 time)
{
	vexfs_op_range(w, OP_PREALLOCATE, ino, from, count);
	put64(w, end);
	put64(w, time);
}

void vexfs_op_punch(struct vexfs_writer *w, u64 ino, u64 from, u64 count,
		    s64 time)
{
	vexfs_op_range(w, OP_PUNCH, ino, from, count);
	put64(w, time);
}

void vexfs_op_collapse(struct vexfs_writer *w, u64 ino, u64 from, u64 count,
		       s64 time)
{
	vexfs_op_range(w, OP_COLLAPSE, ino, from, count);
	put64(w, time);
}

void vexfs_op_insert(struct vexfs_writer *w, u64 ino, u64 from, u64 count,
		     s64 time)
{
	vexfs_op_range(w, OP_INSERT, ino, from, count);
	put64(w, time);
}

void vexfs_op_clone(struct vexfs_writer *w, const struct vexfs_clone_op *op)
{
	begin(w, OP_CLONE);
	put64(w, op->from);
	put64(w, op->from_block);
	put64(w, op->to);
	put64(w, op->to_block);
	put64(w, op->count);
	put64(w, op->end);
	put64(w, op->time);
}

void vexfs_op_purge(struct vexfs_writer *w, u64 ino)
{
	begin(w, OP_PURGE);
	put64(w, ino);
	put64(w, U64_MAX);
}
