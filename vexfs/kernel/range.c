// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ranges of files: allocate, punch, zero, collapse, insert, clone; data and
 * holes; extents.
 *
 * Changes of whole blocks are operations. Before one is sent, the page cache
 * holds nothing that belongs there: what is dirty is written and shown, then
 * the pages go. i_rwsem and the invalidate lock keep others from bringing new
 * ones.
 */

#include <linux/fs.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/pagemap.h>

#include "change.h"

#define BLOCK	((u64)VEXFS_ABI_BLOCK)

enum vexfs_range_kind {
	RANGE_PREALLOCATE,
	RANGE_PUNCH,
	RANGE_COLLAPSE,
	RANGE_INSERT,
};

/* One operation on whole blocks. */
static int vexfs_range_step(struct inode *inode, enum vexfs_range_kind kind,
			    u64 from, u64 count, u64 end)
{
	struct timespec64 mtime = inode_get_mtime(inode);
	s64 time = timespec64_to_ns(&mtime);
	u64 ino = vexfs_ino(inode);
	struct vexfs_change *change;
	int err;

	change = vexfs_change_new(vexfs_mount(inode->i_sb), 128);
	if (IS_ERR(change))
		return PTR_ERR(change);
	switch (kind) {
	case RANGE_PREALLOCATE:
		vexfs_op_preallocate(&change->ops, ino, from, count, end, time);
		break;
	case RANGE_PUNCH:
		vexfs_op_punch(&change->ops, ino, from, count, time);
		break;
	case RANGE_COLLAPSE:
		vexfs_op_collapse(&change->ops, ino, from, count, time);
		break;
	case RANGE_INSERT:
		vexfs_op_insert(&change->ops, ino, from, count, time);
		break;
	}
	vexfs_change_want(change, inode);
	err = vexfs_change_apply(change);
	vexfs_change_put(change);
	return err;
}

/* In steps that the server takes; only the last one makes the file longer. */
static int vexfs_range_steps(struct inode *inode, enum vexfs_range_kind kind,
			     u64 from, u64 count, u64 end)
{
	int err = 0;

	while (count && !err) {
		u64 step = min_t(u64, count, VEXFS_STEP_BLOCKS);

		err = vexfs_range_step(inode, kind, from, step,
				       step == count ? end : 0);
		from += step;
		count -= step;
		if (!err && fatal_signal_pending(current))
			err = -EINTR;
	}
	return err;
}

static int vexfs_allocate(struct inode *inode, loff_t offset, loff_t len,
			  loff_t new_size)
{
	u64 from = offset / BLOCK;
	u64 count = DIV_ROUND_UP_ULL(offset + len, BLOCK) - from;
	loff_t size = i_size_read(inode);
	int err = 0;

	if (new_size > size) {
		err = vexfs_zero_tail(inode, size);
		if (!err)
			err = vexfs_settle(inode, 0, LLONG_MAX);
	}
	if (!err)
		err = vexfs_range_steps(inode, RANGE_PREALLOCATE, from, count,
					new_size > size ? new_size : 0);
	if (!err && new_size > size) {
		i_size_write(inode, new_size);
		pagecache_isize_extended(inode, size, new_size);
	}
	return err;
}

/* Zeros that are written, of part of a block inside the file. */
static int vexfs_zero_part(struct inode *inode, loff_t from, loff_t to)
{
	to = min(to, i_size_read(inode));
	if (from >= to)
		return 0;
	return compat_iomap_zero_range(inode, from, to - from, &vexfs_iomap_ops,
				       &vexfs_write_ops);
}

/* Whole blocks become holes; what of the range is in other blocks, zeros. */
static int vexfs_punch(struct inode *inode, loff_t offset, loff_t len)
{
	loff_t end = offset + len;
	loff_t from = round_up(offset, BLOCK);
	loff_t until = round_down(end, BLOCK);
	int err;

	/* The block that holds the end of the file goes as a whole. */
	if (end >= i_size_read(inode))
		until = round_up(end, BLOCK);
	err = vexfs_settle(inode, round_down(offset, BLOCK),
			   round_up(end, BLOCK) - 1);
	if (!err)
		err = vexfs_zero_part(inode, offset, min(from, end));
	if (!err && until >= from)
		err = vexfs_zero_part(inode, until, end);
	if (err || until <= from)
		return err;
	truncate_pagecache_range(inode, from, until - 1);
	return vexfs_range_steps(inode, RANGE_PUNCH, from / BLOCK,
				 (until - from) / BLOCK, 0);
}

/* Collapse or insert: all that lies behind moves. */
static int vexfs_shift(struct inode *inode, enum vexfs_range_kind kind,
		       loff_t offset, loff_t len)
{
	struct vexfs_inode *vi = vexfs_i(inode);
	loff_t size = i_size_read(inode);
	unsigned long irq;
	int err;

	if (!IS_ALIGNED(offset | len, BLOCK))
		return -EINVAL;
	if (kind == RANGE_COLLAPSE ? offset + len >= size : offset >= size)
		return -EINVAL;
	if (kind == RANGE_INSERT && len > inode->i_sb->s_maxbytes - size)
		return -EFBIG;
	err = vexfs_settle(inode, 0, LLONG_MAX);
	if (err)
		return err;
	truncate_pagecache(inode, offset);
	err = vexfs_range_step(inode, kind, offset / BLOCK, len / BLOCK, 0);
	if (err)
		return err;
	spin_lock_irqsave(&vi->lock, irq);
	vi->arrived = vi->disk_size;
	spin_unlock_irqrestore(&vi->lock, irq);
	i_size_write(inode, kind == RANGE_COLLAPSE ? size - len : size + len);
	return 0;
}

long vexfs_fallocate(struct file *file, int mode, loff_t offset, loff_t len)
{
	struct inode *inode = file_inode(file);
	loff_t new_size = 0;
	int err;

	if (!S_ISREG(inode->i_mode))
		return -EOPNOTSUPP;
	if (!vexfs_healthy(vexfs_mount(inode->i_sb)))
		return -EIO;
	inode_lock(inode);
	inode_dio_wait(inode);
	filemap_invalidate_lock(inode->i_mapping);
	err = file_modified(file);
	if (err)
		goto unlock;
	if (!(mode & FALLOC_FL_KEEP_SIZE) && offset + len > i_size_read(inode))
		new_size = offset + len;

	switch (mode & ~FALLOC_FL_KEEP_SIZE) {
	case 0:
	case FALLOC_FL_ZERO_RANGE:
		if (new_size)
			err = inode_newsize_ok(inode, new_size);
		if (!err && mode & FALLOC_FL_ZERO_RANGE)
			err = vexfs_punch(inode, offset, len);
		if (!err)
			err = vexfs_allocate(inode, offset, len, new_size);
		break;
	case FALLOC_FL_PUNCH_HOLE:
		err = vexfs_punch(inode, offset, len);
		break;
	case FALLOC_FL_COLLAPSE_RANGE:
		err = vexfs_shift(inode, RANGE_COLLAPSE, offset, len);
		break;
	case FALLOC_FL_INSERT_RANGE:
		err = vexfs_shift(inode, RANGE_INSERT, offset, len);
		break;
	default:
		err = -EOPNOTSUPP;
	}
unlock:
	filemap_invalidate_unlock(inode->i_mapping);
	inode_unlock(inode);
	if (!err && (file->f_flags & O_DSYNC || IS_SYNC(inode)))
		err = vfs_fsync(file, 0);
	return err;
}

static int vexfs_clone_steps(struct inode *in, u64 from, struct inode *out,
			     u64 to, u64 count, u64 end)
{
	struct timespec64 mtime = inode_get_mtime(out);
	struct vexfs_clone_op op = {
		.from = vexfs_ino(in),
		.to = vexfs_ino(out),
		.time = timespec64_to_ns(&mtime),
	};
	int err = 0;

	while (count && !err) {
		struct vexfs_change *change;

		op.from_block = from;
		op.to_block = to;
		op.count = min_t(u64, count, VEXFS_STEP_BLOCKS);
		op.end = min_t(u64, end, (to + op.count) * BLOCK);
		change = vexfs_change_new(vexfs_mount(in->i_sb), 128);
		if (IS_ERR(change))
			return PTR_ERR(change);
		vexfs_op_clone(&change->ops, &op);
		vexfs_change_want(change, out);
		err = vexfs_change_apply(change);
		vexfs_change_put(change);
		from += op.count;
		to += op.count;
		count -= op.count;
		if (!err && op.end > i_size_read(out))
			i_size_write(out, op.end);
		if (!err && count && fatal_signal_pending(current))
			err = -EINTR;
	}
	return err;
}

loff_t vexfs_remap(struct file *file_in, loff_t pos_in, struct file *file_out,
		   loff_t pos_out, loff_t len, unsigned int flags)
{
	struct inode *in = file_inode(file_in);
	struct inode *out = file_inode(file_out);
	loff_t size;
	u64 count;
	int err;

	if (flags & ~(REMAP_FILE_DEDUP | REMAP_FILE_ADVISORY))
		return -EINVAL;
	if (!vexfs_healthy(vexfs_mount(in->i_sb)))
		return -EIO;
	lock_two_nondirectories(in, out);
	filemap_invalidate_lock_two(in->i_mapping, out->i_mapping);
	err = generic_remap_file_range_prep(file_in, pos_in, file_out, pos_out,
					    &len, flags);
	if (err < 0 || !len)
		goto unlock;

	size = i_size_read(out);
	err = vexfs_settle(in, 0, LLONG_MAX);
	if (!err && pos_out > size)
		err = vexfs_zero_tail(out, size);
	if (!err)
		err = vexfs_settle(out, 0, LLONG_MAX);
	if (err)
		goto unlock;
	count = DIV_ROUND_UP_ULL(len, BLOCK);
	truncate_inode_pages_range(out->i_mapping, pos_out,
				   pos_out + count * BLOCK - 1);
	err = vexfs_clone_steps(in, pos_in / BLOCK, out, pos_out / BLOCK,
				count, pos_out + len);
unlock:
	filemap_invalidate_unlock_two(in->i_mapping, out->i_mapping);
	unlock_two_nondirectories(in, out);
	return err < 0 ? err : len;
}

static loff_t vexfs_seek(struct inode *inode, loff_t offset, u32 what)
{
	const struct vexfs_position *position;
	struct vexfs_seek *seek;
	struct vexfs_call *call;
	loff_t found = -EIO;
	int err;

	call = vexfs_call_new(vexfs_mount(inode->i_sb), VEXFS_SEEK,
			      sizeof(*seek), sizeof(*position));
	if (IS_ERR(call))
		return PTR_ERR(call);
	call->killable = true;
	seek = call->payload;
	seek->ino = to64(vexfs_ino(inode));
	seek->from = to64(offset);
	seek->what = to32(what);
	call->length = sizeof(*seek);
	err = vexfs_call(call);
	if (!err) {
		position = vexfs_take(&call->answer, sizeof(*position));
		if (position)
			found = le64(position->position);
		if (found < offset || found > i_size_read(inode))
			found = -EIO;
	}
	vexfs_call_put(call);
	return err ? err : found;
}

loff_t vexfs_llseek(struct file *file, loff_t offset, int whence)
{
	struct inode *inode = file_inode(file);
	loff_t size;
	int err;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return generic_file_llseek(file, offset, whence);

	inode_lock_shared(inode);
	size = i_size_read(inode);
	if (offset < 0 || offset >= size) {
		offset = -ENXIO;
	} else {
		/* What only the cache knows is data too. */
		err = vexfs_settle(inode, offset, LLONG_MAX);
		offset = err ? err :
			vexfs_seek(inode, offset, whence == SEEK_DATA ?
				   VEXFS_SEEK_DATA : VEXFS_SEEK_HOLE);
	}
	inode_unlock_shared(inode);
	if (offset < 0)
		return offset;
	return vfs_setpos(file, offset, inode->i_sb->s_maxbytes);
}

static u32 vexfs_fiemap_flags(u32 flags)
{
	u32 out = 0;

	if (flags & VEXFS_EXTENT_PROMISED)
		out |= FIEMAP_EXTENT_UNWRITTEN;
	if (flags & VEXFS_EXTENT_SHARED)
		out |= FIEMAP_EXTENT_SHARED;
	if (flags & VEXFS_EXTENT_ENCODED)
		out |= FIEMAP_EXTENT_ENCODED;
	if (flags & VEXFS_EXTENT_INLINE)
		out |= FIEMAP_EXTENT_DATA_INLINE | FIEMAP_EXTENT_NOT_ALIGNED;
	return out;
}

/* Emits what one answer holds. @at moves behind it. 1: no more is wanted. */
static int vexfs_fiemap_some(struct inode *inode,
			     struct fiemap_extent_info *info, u64 *at, u64 end,
			     bool *more)
{
	const struct vexfs_extent *extent;
	struct vexfs_range *range;
	struct vexfs_call *call;
	int err;

	call = vexfs_call_new(vexfs_mount(inode->i_sb), VEXFS_EXTENTS,
			      sizeof(*range), 16 << 10);
	if (IS_ERR(call))
		return PTR_ERR(call);
	call->killable = true;
	range = call->payload;
	range->ino = to64(vexfs_ino(inode));
	range->from = to64(*at);
	range->length = to64(end - *at);
	call->length = sizeof(*range);
	err = vexfs_call(call);
	*more = call->flags & VEXFS_REPLY_PARTIAL;
	while (!err && call->answer.at < call->answer.end) {
		u64 from, length;
		bool last;

		extent = vexfs_take(&call->answer, sizeof(*extent));
		from = extent ? le64(extent->from) : 0;
		length = extent ? le64(extent->length) : 0;
		/* Extents ascend: this comes to an end whatever is said. */
		if (!extent || !length || from + length <= *at ||
		    from + length < from) {
			err = -EIO;
			break;
		}
		last = !*more && call->answer.at == call->answer.end &&
		       end >= i_size_read(inode);
		err = fiemap_fill_next_extent(info, from, le64(extent->place),
				length,
				vexfs_fiemap_flags(le32(extent->flags)) |
				(last ? FIEMAP_EXTENT_LAST : 0));
		*at = from + length;
	}
	vexfs_call_put(call);
	return err;
}

int vexfs_fiemap(struct inode *inode, struct fiemap_extent_info *info,
		 u64 start, u64 len)
{
	bool more = true;
	u64 end;
	int err;

	err = fiemap_prep(inode, info, start, &len, FIEMAP_FLAG_SYNC);
	if (err)
		return err;
	end = start + len;
	inode_lock_shared(inode);
	err = vexfs_settle(inode, start, end - 1);
	while (!err && more && start < end) {
		u64 before = start;

		err = vexfs_fiemap_some(inode, info, &start, end, &more);
		if (!err && more && start == before)
			err = -EIO;
	}
	inode_unlock_shared(inode);
	return err < 0 ? err : 0;
}
