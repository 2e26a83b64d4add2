// SPDX-License-Identifier: GPL-2.0-only
/*
 * Changes. See change.h.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/slab.h>
#include <linux/sort.h>

#include "change.h"
#include "post.h"

/* Makes the call, and takes the operations that there are along. */
static int vexfs_change_call(struct vexfs_change *change, u32 room)
{
	struct vexfs_writer *ops = &change->ops;
	u32 bytes = ops->at - ops->start;
	struct vexfs_call *call;

	call = vexfs_call_new(change->mount, VEXFS_APPLY,
			      sizeof(struct vexfs_apply) + room,
			      VEXFS_WANTED * sizeof(struct vexfs_attr));
	if (IS_ERR(call))
		return PTR_ERR(call);
	change->call = call;
	memcpy(call->payload + sizeof(struct vexfs_apply), ops->start, bytes);
	ops->start = call->payload + sizeof(struct vexfs_apply);
	ops->at = ops->start + bytes;
	ops->end = call->payload + call->room;
	return 0;
}

struct vexfs_change *vexfs_change_new(struct vexfs_mount *m, u32 room)
{
	struct vexfs_change *change = kmalloc(sizeof(*change), GFP_NOFS);
	int err = 0;

	if (!change)
		return ERR_PTR(-ENOMEM);
	memset(change, 0, offsetof(struct vexfs_change, small));
	change->mount = m;
	change->ops.start = change->small;
	change->ops.at = change->small;
	change->ops.end = change->small + sizeof(change->small);
	if (room > sizeof(change->small))
		err = vexfs_change_call(change, room);
	if (err) {
		kfree(change);
		return ERR_PTR(err);
	}
	return change;
}

int vexfs_change_room(struct vexfs_change *change, u32 bytes)
{
	struct vexfs_writer *ops = &change->ops;
	struct vexfs_call *small = change->call;
	int err;

	if (bytes <= ops->end - ops->at)
		return 0;
	err = vexfs_change_call(change, ops->at - ops->start + bytes);
	if (!err && small)
		vexfs_call_put(small);
	return err;
}

void vexfs_change_put(struct vexfs_change *change)
{
	if (change->call)
		vexfs_call_put(change->call);
	kfree(change);
}

/* The same inode twice is one. */
void vexfs_change_want(struct vexfs_change *change, struct inode *inode)
{
	unsigned int i;

	for (i = 0; i < change->count; i++)
		if (change->wanted[i] == inode)
			return;
	if (WARN_ON_ONCE(change->count == VEXFS_WANTED))
		return;
	change->wanted[change->count++] = inode;
}

static int vexfs_by_address(const void *a, const void *b)
{
	const struct inode *x = *(const struct inode **)a;
	const struct inode *y = *(const struct inode **)b;

	return x < y ? -1 : x > y;
}

static void vexfs_change_lock(struct vexfs_change *change)
{
	unsigned int i;

	if (change->locked)
		return;
	sort(change->wanted, change->count, sizeof(*change->wanted),
	     vexfs_by_address, NULL);
	for (i = 0; i < change->count; i++)
		mutex_lock_nested(&vexfs_i(change->wanted[i])->attr_lock, i);
}

static void vexfs_change_unlock(struct vexfs_change *change)
{
	unsigned int i;

	if (change->locked)
		return;
	for (i = change->count; i-- > 0;)
		mutex_unlock(&vexfs_i(change->wanted[i])->attr_lock);
}

static void vexfs_change_learn(struct vexfs_change *change)
{
	unsigned int i;

	for (i = 0; i < change->count; i++) {
		struct inode *inode = change->wanted[i];
		struct vexfs_attr attr;
		int err;

		err = vexfs_take_attr(&change->call->answer,
				      change->call->mount, &attr);
		if (err == -ENOENT) {
			clear_nlink(inode);
			continue;
		}
		/* The server gives an inode that is just being made its own. */
		if (!err && !vexfs_i(inode)->created)
			inode->i_generation = attr.generation;
		if (err || !vexfs_inode_is(inode, &attr)) {
			vexfs_err(change->call->mount,
				  "attributes of inode %llu make no sense\n",
				  vexfs_ino(inode));
			/* Ask again before they are used. */
			vexfs_i(inode)->trust = change->call->mount->trust - 1;
			continue;
		}
		vexfs_inode_learn(inode, &attr);
	}
}

/* -EAGAIN: it must be a call. */
static int vexfs_change_post(struct vexfs_change *change)
{
	int err;

	vexfs_change_lock(change);
	err = vexfs_post(change->mount, &change->ops);
	if (!err)
		change->posted(change);
	vexfs_change_unlock(change);
	return err;
}

int vexfs_change_apply(struct vexfs_change *change)
{
	struct vexfs_apply *apply;
	struct vexfs_call *call;
	unsigned int i;
	int err;

	if (WARN_ON_ONCE(change->ops.overflow))
		return -EIO;
	if (change->posted) {
		err = vexfs_change_post(change);
		if (err != -EAGAIN)
			return err;
	}
	if (!change->call) {
		err = vexfs_change_call(change,
					change->ops.at - change->ops.start);
		if (err)
			return err;
	}
	call = change->call;
	apply = call->payload;
	apply->count = to32(change->ops.count);
	apply->length = to32(change->ops.at - change->ops.start);
	call->length = sizeof(*apply) + (change->ops.at - change->ops.start);

	vexfs_change_lock(change);
	for (i = 0; i < change->count; i++)
		apply->want[i] = to64(vexfs_ino(change->wanted[i]));
	err = vexfs_call(call);
	if (!err)
		vexfs_change_learn(change);
	vexfs_change_unlock(change);
	return err;
}
