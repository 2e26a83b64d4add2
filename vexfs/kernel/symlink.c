// SPDX-License-Identifier: GPL-2.0-only
/*
 * Symbolic links: their targets never change, so they are asked for once.
 */

#include <linux/namei.h>
#include <linux/slab.h>

#include "call.h"

static char *vexfs_ask_target(struct inode *inode)
{
	struct vexfs_mount *m = vexfs_mount(inode->i_sb);
	struct vexfs_call *call;
	struct vexfs_attr attr;
	char *target = NULL;
	int err;

	call = vexfs_call_new(m, VEXFS_GETATTR, sizeof(struct vexfs_inode_ref),
			      sizeof(attr) + PATH_MAX);
	if (IS_ERR(call))
		return ERR_CAST(call);
	call->killable = true;
	vexfs_call_inode(call, vexfs_ino(inode), inode->i_generation);
	err = vexfs_call(call);
	if (!err)
		err = vexfs_take_attr(&call->answer, m, &attr);
	if (!err) {
		size_t length = call->answer.end - call->answer.at;
		const char *at = (const char *)call->answer.at;

		if (!length || length >= PATH_MAX || memchr(at, 0, length) ||
		    length != attr.size)
			err = -EIO;
		else
			target = kmemdup_nul(at, length, GFP_NOFS);
		if (!err && !target)
			err = -ENOMEM;
	}
	vexfs_call_put(call);
	return err ? ERR_PTR(err) : target;
}

static const char *vexfs_get_link(struct dentry *dentry, struct inode *inode,
				  struct delayed_call *done)
{
	char *target;

	if (!dentry)
		return ERR_PTR(-ECHILD);
	target = vexfs_ask_target(inode);
	if (IS_ERR(target))
		return target;
	/* VFS reads i_link without a lock; it is freed with the inode. */
	if (cmpxchg(&inode->i_link, NULL, target))
		kfree(target);
	return inode->i_link;
}

const struct inode_operations vexfs_symlink_inode_operations = {
	.get_link	= vexfs_get_link,
	.getattr	= vexfs_getattr,
	.setattr	= vexfs_setattr,
	.listxattr	= vexfs_listxattr,
};
