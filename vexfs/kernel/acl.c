// SPDX-License-Identifier: GPL-2.0-only
/*
 * POSIX access control lists, kept as the extended attributes of their names.
 */

#include <linux/fs.h>
#include <linux/posix_acl.h>

#include <linux/slab.h>
#include <linux/xattr.h>

#include "change.h"

static const char *vexfs_acl_name(int type)
{
	return type == ACL_TYPE_ACCESS ? XATTR_NAME_POSIX_ACL_ACCESS :
					 XATTR_NAME_POSIX_ACL_DEFAULT;
}

struct posix_acl *vexfs_get_acl(struct inode *inode, int type, bool rcu)
{
	struct posix_acl *acl;
	void *value;
	int size;

	if (rcu)
		return ERR_PTR(-ECHILD);
	size = vexfs_getxattr(inode, vexfs_acl_name(type), NULL, 0);
	if (size == -ENODATA)
		return NULL;
	if (size < 0)
		return ERR_PTR(size);
	value = kvmalloc(size, GFP_KERNEL);
	if (!value)
		return ERR_PTR(-ENOMEM);
	size = vexfs_getxattr(inode, vexfs_acl_name(type), value, size);
	acl = size < 0 ? ERR_PTR(size) :
			 posix_acl_from_xattr(&init_user_ns, value, size);
	kvfree(value);
	if (acl == ERR_PTR(-ENODATA))
		return NULL;
	return acl;
}

int vexfs_set_acl(struct mnt_idmap *idmap, struct dentry *dentry,
		  struct posix_acl *acl, int type)
{
	struct inode *inode = d_inode(dentry);
	struct timespec64 now = current_time(inode);
	struct vexfs_set_op set = {
		.ino = vexfs_ino(inode),
		.fields = VEXFS_SET_CHANGED,
		.changed = timespec64_to_ns(&now),
	};
	u16 has = type == ACL_TYPE_ACCESS ? VEXFS_HINT_ACL :
					    VEXFS_HINT_DEFAULT_ACL;
	struct posix_acl *kept = acl;
	struct vexfs_change *change;
	umode_t mode = inode->i_mode;
	void *value = NULL;
	size_t size = 0;
	int err;

	if (type == ACL_TYPE_DEFAULT && !S_ISDIR(inode->i_mode))
		return acl ? -EACCES : 0;
	if (type == ACL_TYPE_ACCESS && acl) {
		err = posix_acl_update_mode(idmap, inode, &mode, &kept);
		if (err)
			return err;
	}
	if (kept) {
		value = compat_acl_to_xattr(kept, &size);
		if (IS_ERR(value))
			return PTR_ERR(value);
	}
	change = vexfs_change_new(vexfs_mount(inode->i_sb), 256 + size);
	if (IS_ERR(change)) {
		kfree(value);
		return PTR_ERR(change);
	}
	if (kept)
		vexfs_op_set_xattr(&change->ops, set.ino, 0, set.changed,
				   vexfs_acl_name(type), value, size);
	else if (vexfs_i(inode)->hints & has)
		vexfs_op_remove_xattr(&change->ops, set.ino, set.changed,
				      vexfs_acl_name(type));
	kfree(value);
	if (mode != inode->i_mode) {
		set.fields |= VEXFS_SET_MODE;
		set.mode = mode & 07777;
	}
	vexfs_op_set(&change->ops, &set);
	vexfs_change_want(change, inode);
	err = vexfs_change_apply(change);
	vexfs_change_put(change);
	if (!err)
		set_cached_acl(inode, type, kept);
	return err;
}
