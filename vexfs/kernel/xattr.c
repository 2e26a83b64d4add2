// SPDX-License-Identifier: GPL-2.0-only
/*
 * Extended attributes. They are not cached, but what the server says is not
 * there (the hints of an inode's attributes) is not asked for. Vectors of a file
 * are attributes too, and come and go without us.
 */

#include <linux/capability.h>
#include <linux/slab.h>
#include <linux/xattr.h>

#include "change.h"

#define VECTORS		XATTR_USER_PREFIX "vexfs."

static bool vexfs_may_have(struct inode *inode, const char *name)
{
	u16 hints = vexfs_i(inode)->hints;

	if (!strncmp(name, VECTORS, strlen(VECTORS)))
		return true;
	if (!strcmp(name, XATTR_NAME_POSIX_ACL_ACCESS))
		return hints & VEXFS_HINT_ACL;
	if (!strcmp(name, XATTR_NAME_POSIX_ACL_DEFAULT))
		return hints & VEXFS_HINT_DEFAULT_ACL;
	if (!strncmp(name, XATTR_SECURITY_PREFIX, XATTR_SECURITY_PREFIX_LEN))
		return hints & VEXFS_HINT_SECURITY;
	return hints & VEXFS_HINT_XATTRS;
}

/* The value's length, also if @value is NULL. */
int vexfs_getxattr(struct inode *inode, const char *name, void *value,
		   size_t size)
{
	struct vexfs_call *call;
	size_t length = strlen(name);
	size_t found;
	int err;

	err = vexfs_inode_check(inode);
	if (err)
		return err;
	if (!vexfs_may_have(inode, name))
		return -ENODATA;
	if (length > VEXFS_NAME_BYTES)
		return -ERANGE;
	call = vexfs_call_new(vexfs_mount(inode->i_sb), VEXFS_GETXATTR,
			      sizeof(struct vexfs_named) + length,
			      value ? min_t(size_t, size, XATTR_SIZE_MAX) :
				      XATTR_SIZE_MAX);
	if (IS_ERR(call))
		return PTR_ERR(call);
	call->killable = true;
	vexfs_call_name(call, vexfs_ino(inode), name, length);
	err = vexfs_call(call);
	if (!err) {
		found = call->answer.end - call->answer.at;
		if (found > XATTR_SIZE_MAX)
			err = -EIO;
		else if (value && found > size)
			err = -ERANGE;
		else if (value)
			memcpy(value, call->answer.at, found);
		if (!err)
			err = found;
	}
	vexfs_call_put(call);
	return err;
}

static int vexfs_xattr_get(const struct xattr_handler *handler,
			   struct dentry *dentry, struct inode *inode,
			   const char *name, void *value, size_t size)
{
	return vexfs_getxattr(inode, xattr_full_name(handler, name), value,
			      size);
}

static int vexfs_xattr_set(const struct xattr_handler *handler,
			   struct mnt_idmap *idmap, struct dentry *dentry,
			   struct inode *inode, const char *name,
			   const void *value, size_t size, int flags)
{
	const char *full = xattr_full_name(handler, name);
	struct timespec64 now = current_time(inode);
	struct vexfs_change *change;
	u8 how = 0;
	int err;

	if (strlen(full) > VEXFS_NAME_BYTES)
		return -ERANGE;
	if (flags & XATTR_CREATE)
		how |= VEXFS_XATTR_CREATE;
	if (flags & XATTR_REPLACE)
		how |= VEXFS_XATTR_REPLACE;
	change = vexfs_change_new(vexfs_mount(inode->i_sb),
				  64 + strlen(full) + size);
	if (IS_ERR(change))
		return PTR_ERR(change);
	if (value)
		vexfs_op_set_xattr(&change->ops, vexfs_ino(inode), how,
				   timespec64_to_ns(&now), full, value, size);
	else
		vexfs_op_remove_xattr(&change->ops, vexfs_ino(inode),
				      timespec64_to_ns(&now), full);
	vexfs_change_want(change, inode);
	err = vexfs_change_apply(change);
	vexfs_change_put(change);
	return err;
}

static bool vexfs_trusted_list(struct dentry *dentry)
{
	return capable(CAP_SYS_ADMIN);
}

static const struct xattr_handler vexfs_user_handler = {
	.prefix	= XATTR_USER_PREFIX,
	.get	= vexfs_xattr_get,
	.set	= vexfs_xattr_set,
};

static const struct xattr_handler vexfs_trusted_handler = {
	.prefix	= XATTR_TRUSTED_PREFIX,
	.list	= vexfs_trusted_list,
	.get	= vexfs_xattr_get,
	.set	= vexfs_xattr_set,
};

static const struct xattr_handler vexfs_security_handler = {
	.prefix	= XATTR_SECURITY_PREFIX,
	.get	= vexfs_xattr_get,
	.set	= vexfs_xattr_set,
};

const struct xattr_handler * const vexfs_xattr_handlers[] = {
	&vexfs_user_handler,
	&vexfs_trusted_handler,
	&vexfs_security_handler,
	NULL,
};

/* Copies the names that the caller may see, one by one and checked. */
static ssize_t vexfs_list_copy(const char *at, const char *end, char *list,
			       size_t size)
{
	ssize_t used = 0;

	while (at < end) {
		size_t length = strnlen(at, end - at);

		if (!length || length == end - at || length > VEXFS_NAME_BYTES)
			return -EIO;
		length++;
		if (vexfs_xattr_listed(at)) {
			if (list && used + length > size)
				return -ERANGE;
			if (list)
				memcpy(list + used, at, length);
			used += length;
		}
		at += length;
	}
	return used;
}

ssize_t vexfs_listxattr(struct dentry *dentry, char *list, size_t size)
{
	struct inode *inode = d_inode(dentry);
	struct vexfs_call *call;
	ssize_t used;
	int err;

	err = vexfs_inode_check(inode);
	if (err)
		return err;
	if (!(vexfs_i(inode)->hints & (VEXFS_HINT_XATTRS | VEXFS_HINT_ACL |
				       VEXFS_HINT_DEFAULT_ACL |
				       VEXFS_HINT_SECURITY)))
		return 0;
	call = vexfs_call_new(vexfs_mount(inode->i_sb), VEXFS_LISTXATTR,
			      sizeof(struct vexfs_inode_ref), XATTR_LIST_MAX);
	if (IS_ERR(call))
		return PTR_ERR(call);
	call->killable = true;
	vexfs_call_inode(call, vexfs_ino(inode), inode->i_generation);
	err = vexfs_call(call);
	used = err ? err : vexfs_list_copy(call->answer.at, call->answer.end,
					   list, size);
	vexfs_call_put(call);
	return used;
}
