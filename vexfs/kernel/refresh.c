// SPDX-License-Identifier: GPL-2.0-only
/*
 * Keeping inode and server in step: telling it what changed here, and asking
 * again when what is known may be wrong.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/writeback.h>

#include "change.h"

/* Whether the server knows less than we do; may be asked without a lock. */
static bool vexfs_push_needed(struct inode *inode)
{
	const struct vexfs_inode *vi = vexfs_i(inode);
	struct timespec64 atime = inode_get_atime(inode);
	struct timespec64 mtime = inode_get_mtime(inode);
	struct timespec64 ctime = inode_get_ctime(inode);

	return READ_ONCE(vi->resized) ||
	       READ_ONCE(vi->arrived) > READ_ONCE(vi->disk_size) ||
	       timespec64_to_ns(&atime) != READ_ONCE(vi->known_atime) ||
	       timespec64_to_ns(&mtime) != READ_ONCE(vi->known_mtime) ||
	       timespec64_to_ns(&ctime) != READ_ONCE(vi->known_ctime);
}

/* What the server is told of an inode. */
struct vexfs_push {
	struct vexfs_set_op set;
	u64 size;		/* 0: as it was */
};

/* Operations that bring the server's size and times to ours. */
static void vexfs_push_ops(struct inode *inode, struct vexfs_writer *ops,
			   struct vexfs_push *push)
{
	struct vexfs_inode *vi = vexfs_i(inode);
	struct timespec64 atime = inode_get_atime(inode);
	struct timespec64 mtime = inode_get_mtime(inode);
	struct timespec64 ctime = inode_get_ctime(inode);
	s64 known_mtime = vi->known_mtime;
	s64 known_ctime = vi->known_ctime;
	struct vexfs_set_op set = {
		.ino = vexfs_ino(inode),
		.accessed = timespec64_to_ns(&atime),
		.modified = timespec64_to_ns(&mtime),
		.changed = timespec64_to_ns(&ctime),
	};
	unsigned long flags;
	u64 size;

	/* A resize of which the server may not know. Nothing was written since. */
	if (vi->resized) {
		vexfs_op_truncate(ops, set.ino, i_size_read(inode),
				  set.changed);
		known_mtime = set.changed;
		known_ctime = set.changed;
	}
	spin_lock_irqsave(&vi->lock, flags);
	size = vi->arrived > vi->disk_size ? vi->arrived : 0;
	spin_unlock_irqrestore(&vi->lock, flags);
	if (size && !vi->resized) {
		vexfs_op_extend(ops, set.ino, size, set.modified, set.changed);
		known_mtime = set.modified;
		known_ctime = set.changed;
	}
	if (set.accessed != vi->known_atime)
		set.fields |= VEXFS_SET_ACCESSED;
	if (set.modified != known_mtime)
		set.fields |= VEXFS_SET_MODIFIED;
	if (set.changed != known_ctime)
		set.fields |= VEXFS_SET_CHANGED;
	if (set.fields)
		vexfs_op_set(ops, &set);
	push->set = set;
	push->size = size;
}

/* What the server would tell of what was posted. */
static void vexfs_push_posted(struct vexfs_change *change)
{
	struct vexfs_push *push = change->context;
	struct vexfs_inode *vi = vexfs_i(change->wanted[0]);
	unsigned long flags;

	vi->known_atime = push->set.accessed;
	vi->known_mtime = push->set.modified;
	vi->known_ctime = push->set.changed;
	spin_lock_irqsave(&vi->lock, flags);
	vi->disk_size = max(vi->disk_size, push->size);
	vi->arrived = max(vi->arrived, vi->disk_size);
	spin_unlock_irqrestore(&vi->lock, flags);
}

/* What was beyond the end is gone at the server too. */
static void vexfs_resize_told(struct vexfs_inode *vi)
{
	unsigned long irq;

	spin_lock_irqsave(&vi->lock, irq);
	vi->arrived = vi->disk_size;
	spin_unlock_irqrestore(&vi->lock, irq);
	WRITE_ONCE(vi->resized, false);
}

/*
 * Tells the server what changed here. No call if nothing did. May be called
 * under a folio lock, and from writeback: allocates with GFP_NOFS.
 */
int vexfs_inode_push(struct inode *inode)
{
	struct vexfs_inode *vi = vexfs_i(inode);
	struct vexfs_change *change;
	struct vexfs_push push;
	unsigned int nofs;
	int err = 0;

	if (!vexfs_push_needed(inode))
		return 0;
	nofs = memalloc_nofs_save();
	mutex_lock(&vi->attr_lock);
	change = vexfs_change_new(vexfs_mount(inode->i_sb), 256);
	if (IS_ERR(change)) {
		err = PTR_ERR(change);
		goto unlock;
	}
	vexfs_push_ops(inode, &change->ops, &push);
	if (change->ops.count) {
		if (!vi->resized) {
			change->posted = vexfs_push_posted;
			change->context = &push;
		}
		change->locked = true;
		vexfs_change_want(change, inode);
		err = vexfs_change_apply(change);
		if (!err && vi->resized)
			vexfs_resize_told(vi);
	}
	vexfs_change_put(change);
unlock:
	mutex_unlock(&vi->attr_lock);
	memalloc_nofs_restore(nofs);
	return err;
}

int vexfs_write_inode(struct inode *inode, struct writeback_control *wbc)
{
	int err;

	if (!inode->i_nlink && !S_ISREG(inode->i_mode))
		return 0;
	err = vexfs_inode_push(inode);
	/* It is kept, to be told when somebody listens again. */
	if (err && vexfs_health(vexfs_mount(inode->i_sb)) < VEXFS_LOST)
		mark_inode_dirty(inode);
	return err;
}

static int vexfs_ask_attr(struct inode *inode, struct vexfs_attr *attr)
{
	struct vexfs_mount *m = vexfs_mount(inode->i_sb);
	struct vexfs_call *call;
	int err;

	call = vexfs_call_new(m, VEXFS_GETATTR, sizeof(struct vexfs_inode_ref),
			      sizeof(*attr) + PAGE_SIZE);
	if (IS_ERR(call))
		return PTR_ERR(call);
	call->killable = true;
	vexfs_call_inode(call, vexfs_ino(inode), inode->i_generation);
	err = vexfs_call(call);
	if (!err)
		err = vexfs_take_attr(&call->answer, m, attr);
	vexfs_call_put(call);
	if (!err && !vexfs_inode_is(inode, attr))
		err = -ESTALE;
	return err == -ENOENT ? -ESTALE : err;
}

/* Asks for the attributes. */
int vexfs_inode_refresh(struct inode *inode)
{
	unsigned int trust = READ_ONCE(vexfs_mount(inode->i_sb)->trust);
	struct vexfs_inode *vi = vexfs_i(inode);
	bool distrusted = vi->trust != trust;
	struct vexfs_attr attr;
	bool cut = false;
	int err;

	/*
	 * A call that failed may have changed the size or not. That nobody
	 * writes meanwhile is only sure under i_rwsem; who cannot have it leaves
	 * the question open.
	 */
	if (distrusted && !inode_trylock(inode))
		return 0;
	if (READ_ONCE(vi->resized)) {
		err = vexfs_inode_push(inode);
		if (err)
			goto unlock;
	}
	mutex_lock(&vi->attr_lock);
	err = vexfs_ask_attr(inode, &attr);
	if (!err) {
		bool ours = i_size_read(inode) != vi->disk_size ||
			mapping_tagged(inode->i_mapping, PAGECACHE_TAG_DIRTY);

		vexfs_inode_learn(inode, &attr);
		vi->trust = trust;
		if (distrusted && S_ISREG(inode->i_mode) && !ours &&
		    i_size_read(inode) != attr.size) {
			i_size_write(inode, attr.size);
			vi->arrived = attr.size;
			cut = true;
		}
	}
	mutex_unlock(&vi->attr_lock);
	if (cut)
		truncate_pagecache(inode, attr.size);
unlock:
	if (distrusted)
		inode_unlock(inode);
	return err;
}

/* Before attributes are used. With nobody to ask, what is known is used. */
int vexfs_inode_check(struct inode *inode)
{
	struct vexfs_mount *m = vexfs_mount(inode->i_sb);

	if (likely(vexfs_i(inode)->trust == READ_ONCE(m->trust)) ||
	    !vexfs_healthy(m))
		return 0;
	forget_all_cached_acls(inode);
	return vexfs_inode_refresh(inode);
}
