// SPDX-License-Identifier: GPL-2.0-only
/*
 * Regular files: read, write, map, sync.
 */

#include <linux/fs.h>
#include <linux/iomap.h>
#include <linux/falloc.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/splice.h>
#include <linux/writeback.h>

#include "call.h"
#include "credits.h"

static int vexfs_lock(struct kiocb *iocb, struct inode *inode, bool shared)
{
	if (!(iocb->ki_flags & IOCB_NOWAIT)) {
		if (shared)
			inode_lock_shared(inode);
		else
			inode_lock(inode);
		return 0;
	}
	return (shared ? inode_trylock_shared(inode) : inode_trylock(inode)) ?
		0 : -EAGAIN;
}

static const struct iomap_dio_ops vexfs_dio_read_ops = {
	.submit_io	= vexfs_direct_submit,
};

static ssize_t vexfs_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	ssize_t ret;

	if (!iov_iter_count(to))
		return 0;
	if (!(iocb->ki_flags & IOCB_DIRECT))
		return generic_file_read_iter(iocb, to);

	file_accessed(iocb->ki_filp);
	ret = vexfs_lock(iocb, inode, true);
	if (ret)
		return ret;
	ret = iomap_dio_rw(iocb, to, &vexfs_iomap_ops, &vexfs_dio_read_ops, 0,
			   NULL, 0);
	inode_unlock_shared(inode);
	return ret;
}

/*
 * Of a write that failed some may have arrived, or may do so yet. Who read it
 * meanwhile has what it replaces. What is beyond the server's end must not be
 * there when the file grows: telling the server the size drops it.
 */
static void vexfs_direct_failed(struct inode *inode, loff_t pos, loff_t end)
{
	struct vexfs_inode *vi = vexfs_i(inode);

	invalidate_inode_pages2_range(inode->i_mapping, pos >> PAGE_SHIFT,
				      (end - 1) >> PAGE_SHIFT);
	if (end <= READ_ONCE(vi->disk_size))
		return;
	mutex_lock(&vi->attr_lock);
	WRITE_ONCE(vi->resized, true);
	mutex_unlock(&vi->attr_lock);
	mark_inode_dirty(inode);
}

/*
 * May not wait for anything, unless there is an error: since 6.19 a write within
 * the file is ended where its last bio is, and that may be an interrupt.
 */
static int vexfs_dio_end_io(struct kiocb *iocb, ssize_t size, int error,
			    unsigned int flags)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	u64 end = iocb->ki_pos + size;

	if (error && size)
		vexfs_direct_failed(inode, iocb->ki_pos, end);
	if (error || !size)
		return error;
	atomic64_add(size, &vexfs_mount(inode->i_sb)->counters.written_bytes);
	/* Only a write that was waited for can be here with i_rwsem held. */
	if (end > i_size_read(inode))
		i_size_write(inode, end);
	vexfs_arrived(inode, end);
	return 0;
}

static const struct iomap_dio_ops vexfs_dio_write_ops = {
	.submit_io	= vexfs_direct_submit,
	.end_io		= vexfs_dio_end_io,
};

/* Under i_rwsem; exclusively if the file grows. */
static ssize_t vexfs_write_checks(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	loff_t size = i_size_read(inode);
	ssize_t ret;
	int err;

	/* Early, before anything is dirty that cannot be written. */
	if (!vexfs_healthy(vexfs_mount(inode->i_sb)))
		return -EIO;
	ret = generic_write_checks(iocb, from);
	if (ret <= 0)
		return ret;
	if (iocb->ki_pos > size) {
		if (size % VEXFS_ABI_BLOCK && (iocb->ki_flags & IOCB_NOWAIT))
			return -EAGAIN;
		err = vexfs_zero_tail(inode, size);
		if (err)
			return err;
	}
	err = kiocb_modified(iocb);
	return err ? err : ret;
}

/* What is written at once to make room, in pages. */
#define ROOM_PIECE	4096
/* Nothing was written for so long, or not enough: the pool is taken for full. */
#define ROOM_WAIT	(5 * HZ)
#define ROOM_PATIENCE	(15 * HZ)

/*
 * The pool seems full. Blocks that are overwritten are free when the new ones
 * are durable, so what is dirty may need less room than is kept for it: some of
 * it is written, and the caller tries again as long as this is true. A piece at
 * a time: to write all of it takes as long as there is memory. @since is when
 * the caller began, 0 before the first time.
 */
static bool vexfs_make_room(struct super_block *sb, unsigned long *since)
{
	struct vexfs_mount *m = vexfs_mount(sb);
	u64 held = vexfs_credits_held(m);
	bool first = !*since;

	if (first)
		*since = jiffies ?: 1;
	else if (time_after(jiffies, *since + ROOM_PATIENCE))
		return false;
	/* Not while it is unmounted. */
	if (held && down_read_trylock(&sb->s_umount)) {
		writeback_inodes_sb_nr(sb, ROOM_PIECE,
				       WB_REASON_FS_FREE_SPACE);
		up_read(&sb->s_umount);
		wait_event_killable_timeout(m->write_wait,
					    vexfs_credits_held(m) < held ||
					    !vexfs_healthy(m), ROOM_WAIT);
	}
	if (fatal_signal_pending(current) || vexfs_flush(m))
		return false;
	return first || vexfs_credits_held(m) < held;
}

/* Whether a direct write is within what the server shows of the file. */
static bool vexfs_direct_inside(const struct kiocb *iocb,
				const struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	u64 end = iocb->ki_pos + iov_iter_count(from);

	return !(iocb->ki_flags & IOCB_APPEND) && end <= i_size_read(inode) &&
	       end <= READ_ONCE(vexfs_i(inode)->disk_size);
}

/*
 * Before a direct write beyond the server's end, under i_rwsem: nothing else is
 * there, so if it fails, all of that can be dropped.
 */
static int vexfs_direct_alone(struct kiocb *iocb)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	struct vexfs_inode *vi = vexfs_i(inode);
	u64 shown = READ_ONCE(vi->disk_size);

	if (READ_ONCE(vi->arrived) <= shown &&
	    !filemap_range_needs_writeback(inode->i_mapping, shown, LLONG_MAX))
		return 0;
	if (iocb->ki_flags & IOCB_NOWAIT)
		return -EAGAIN;
	return vexfs_settle(inode, shown, LLONG_MAX);
}

static ssize_t vexfs_direct_write(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	bool shared = vexfs_direct_inside(iocb, from);
	struct iov_iter whole = *from;
	int err = 0;
	unsigned long since = 0;
	ssize_t ret;

retry:
	ret = vexfs_lock(iocb, inode, shared);
	if (ret)
		return ret;
	/* The file may have shrunk while the lock was not held. */
	if (shared && !vexfs_direct_inside(iocb, from)) {
		inode_unlock_shared(inode);
		shared = false;
		goto retry;
	}
	ret = vexfs_write_checks(iocb, from);
	if (ret > 0 && !shared)
		err = vexfs_direct_alone(iocb);
	if (ret > 0)
		ret = err ?: iomap_dio_rw(iocb, from, &vexfs_iomap_ops,
					  &vexfs_dio_write_ops,
					  shared ? 0 : IOMAP_DIO_FORCE_WAIT,
					  NULL, 0);
	/* Times are told with the inode, the size is at once. */
	if (ret > 0 && !shared) {
		err = vexfs_inode_push(inode);
		if (err) {
			iocb->ki_pos -= ret;
			ret = err;
		}
	}
	if (shared)
		inode_unlock_shared(inode);
	else
		inode_unlock(inode);
	if (ret == -ENOSPC && is_sync_kiocb(iocb) &&
	    !(iocb->ki_flags & IOCB_NOWAIT) &&
	    vexfs_make_room(inode->i_sb, &since)) {
		*from = whole;
		goto retry;
	}
	return ret;
}

static ssize_t vexfs_buffered_write(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	unsigned long since = 0;
	ssize_t ret;

retry:
	ret = vexfs_lock(iocb, inode, false);
	if (ret)
		return ret;
	ret = vexfs_write_checks(iocb, from);
	if (ret > 0)
		ret = compat_iomap_buffered_write(iocb, from, &vexfs_iomap_ops,
						  &vexfs_write_ops);
	inode_unlock(inode);
	if (ret == -ENOSPC && vexfs_make_room(inode->i_sb, &since))
		goto retry;
	return ret;
}

static ssize_t vexfs_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	ssize_t ret;

	if (iocb->ki_flags & IOCB_DIRECT) {
		ret = vexfs_direct_write(iocb, from);
		/* A page could not be dropped from the cache. */
		if (ret == -ENOTBLK)
			ret = vexfs_buffered_write(iocb, from);
	} else {
		ret = vexfs_buffered_write(iocb, from);
	}
	return ret > 0 ? generic_write_sync(iocb, ret) : ret;
}

/*
 * Data, then what is known about the file, then one flush. Waits killably, and
 * not for a server that does not answer: then it is EIO.
 */
int vexfs_fsync(struct file *file, loff_t start, loff_t end, int datasync)
{
	struct inode *inode = file_inode(file);
	int err, err2;

	/* First killably for what is under way: writing waits for it too. */
	err = vexfs_wait_range(inode, start, end);
	if (!err)
		err = filemap_fdatawrite_range(inode->i_mapping, start, end);
	err2 = vexfs_wait_range(inode, start, end);
	err = err ? err : err2;
	err2 = file_check_and_advance_wb_err(file);
	err = err ? err : err2;
	if (err)
		return err;
	if (!datasync || (compat_inode_state(inode) & I_DIRTY_DATASYNC)) {
		err = sync_inode_metadata(inode, 1);
		if (err)
			return err;
	}
	return vexfs_flush(vexfs_mount(inode->i_sb));
}

static vm_fault_t vexfs_page_mkwrite(struct vm_fault *vmf)
{
	struct inode *inode = file_inode(vmf->vma->vm_file);
	vm_fault_t ret;

	if (!vexfs_healthy(vexfs_mount(inode->i_sb)))
		return VM_FAULT_SIGBUS;
	sb_start_pagefault(inode->i_sb);
	file_update_time(vmf->vma->vm_file);
	filemap_invalidate_lock_shared(inode->i_mapping);
	ret = compat_iomap_page_mkwrite(vmf, &vexfs_iomap_ops);
	filemap_invalidate_unlock_shared(inode->i_mapping);
	sb_end_pagefault(inode->i_sb);
	return ret;
}

static const struct vm_operations_struct vexfs_vm_operations = {
	.fault		= filemap_fault,
	.map_pages	= filemap_map_pages,
	.page_mkwrite	= vexfs_page_mkwrite,
};

static int vexfs_mmap(struct file *file, struct vm_area_struct *vma)
{
	file_accessed(file);
	vma->vm_ops = &vexfs_vm_operations;
	return 0;
}

static int vexfs_open(struct inode *inode, struct file *file)
{
	file->f_mode |= FMODE_NOWAIT | FMODE_CAN_ODIRECT;
	return generic_file_open(inode, file);
}

const struct file_operations vexfs_file_operations = {
	.open			= vexfs_open,
	.llseek			= vexfs_llseek,
	.read_iter		= vexfs_read_iter,
	.write_iter		= vexfs_write_iter,
	.mmap			= vexfs_mmap,
	.fsync			= vexfs_fsync,
	.splice_read		= filemap_splice_read,
	.splice_write		= iter_file_splice_write,
	.fallocate		= vexfs_fallocate,
	.remap_file_range	= vexfs_remap,
	.fop_flags		= FOP_BUFFER_RASYNC | FOP_DIO_PARALLEL_WRITE,
};

const struct inode_operations vexfs_file_inode_operations = {
	.getattr	= vexfs_getattr,
	.setattr	= vexfs_setattr,
	.listxattr	= vexfs_listxattr,
	.get_inode_acl	= vexfs_get_acl,
	.set_acl	= vexfs_set_acl,
	.fiemap		= vexfs_fiemap,
	.fileattr_get	= vexfs_fileattr_get,
	.fileattr_set	= vexfs_fileattr_set,
};

/* Device nodes, pipes and sockets. */
const struct inode_operations vexfs_special_inode_operations = {
	.getattr	= vexfs_getattr,
	.setattr	= vexfs_setattr,
	.listxattr	= vexfs_listxattr,
	.get_inode_acl	= vexfs_get_acl,
	.set_acl	= vexfs_set_acl,
};
