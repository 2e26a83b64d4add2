// SPDX-License-Identifier: GPL-2.0-only
/*
 * Extended attributes and access control lists of sealed images.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/fs.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/slab.h>
#include <linux/xattr.h>

#include "sealed.h"

/* One attribute of an inode, on the way through all. */
struct vexfs_sealed_attr {
	u32 value_at;			/* of the bytes of all attributes */
	u32 value_bytes;
	u32 next;			/* where the next begins */
	u32 length;			/* of the name */
	char name[XATTR_NAME_MAX + 1];
};

static int vexfs_sealed_attr_bytes(struct inode *inode, u32 from, void *to,
				   u32 count)
{
	const struct vexfs_sealed_inode *disk = &vexfs_sealed_n(inode)->disk;

	return vexfs_sealed_bytes(vexfs_sealed(inode->i_sb),
				  le64_to_cpu(disk->xattrs_at), 0,
				  le32_to_cpu(disk->xattrs_bytes), from, to,
				  count);
}

/* 1: there is another one; 0: there is none. Begins with next = 0. */
static int vexfs_sealed_next(struct inode *inode, struct vexfs_sealed_attr *attr)
{
	u32 total = le32_to_cpu(vexfs_sealed_n(inode)->disk.xattrs_bytes);
	u32 left = total - attr->next;
	struct vexfs_sealed_xattr head;
	int err;

	if (!left)
		return 0;
	if (left < sizeof(head))
		goto damaged;
	err = vexfs_sealed_attr_bytes(inode, attr->next, &head, sizeof(head));
	if (err)
		return err;
	left -= sizeof(head);
	attr->length = le16_to_cpu(head.name_bytes);
	attr->value_bytes = le32_to_cpu(head.value_bytes);
	if (!attr->length || attr->length > XATTR_NAME_MAX ||
	    attr->value_bytes > XATTR_SIZE_MAX ||
	    attr->length + attr->value_bytes > left)
		goto damaged;
	err = vexfs_sealed_attr_bytes(inode, attr->next + sizeof(head),
				      attr->name, attr->length);
	if (err)
		return err;
	if (memchr(attr->name, 0, attr->length))
		goto damaged;
	attr->name[attr->length] = 0;
	attr->value_at = attr->next + sizeof(head) + attr->length;
	attr->next = attr->value_at + attr->value_bytes;
	return 1;
damaged:
	return vexfs_sealed_inode_damaged(vexfs_sealed(inode->i_sb),
					  inode->i_ino,
					  "has attributes that make no sense");
}

/* The value's length, also if @value is NULL. */
static int vexfs_sealed_getxattr(struct inode *inode, const char *name,
				 void *value, size_t size)
{
	struct vexfs_sealed_attr *attr;
	int err;

	if (!vexfs_sealed_n(inode)->disk.xattrs_bytes)
		return -ENODATA;
	attr = kzalloc(sizeof(*attr), GFP_NOFS);
	if (!attr)
		return -ENOMEM;
	do {
		err = vexfs_sealed_next(inode, attr);
	} while (err == 1 && strcmp(attr->name, name));
	if (!err)
		err = -ENODATA;
	if (err == 1 && value && attr->value_bytes > size)
		err = -ERANGE;
	if (err == 1 && value)
		err = vexfs_sealed_attr_bytes(inode, attr->value_at, value,
					      attr->value_bytes);
	if (err >= 0)
		err = attr->value_bytes;
	kfree(attr);
	return err;
}

ssize_t vexfs_sealed_listxattr(struct dentry *dentry, char *list, size_t size)
{
	struct inode *inode = d_inode(dentry);
	struct vexfs_sealed_attr *attr;
	ssize_t used = 0;
	int err;

	if (!vexfs_sealed_n(inode)->disk.xattrs_bytes)
		return 0;
	attr = kzalloc(sizeof(*attr), GFP_NOFS);
	if (!attr)
		return -ENOMEM;
	while ((err = vexfs_sealed_next(inode, attr)) == 1) {
		if (!vexfs_xattr_listed(attr->name))
			continue;
		if (list && used + attr->length + 1 > size) {
			err = -ERANGE;
			break;
		}
		if (list)
			memcpy(list + used, attr->name, attr->length + 1);
		used += attr->length + 1;
		/* Of a list that is longer nothing can be told. */
		if (used > XATTR_LIST_MAX) {
			err = -E2BIG;
			break;
		}
	}
	kfree(attr);
	return err ? err : used;
}

static int vexfs_sealed_xattr_get(const struct xattr_handler *handler,
				  struct dentry *dentry, struct inode *inode,
				  const char *name, void *value, size_t size)
{
	return vexfs_sealed_getxattr(inode, xattr_full_name(handler, name),
				     value, size);
}

static const struct xattr_handler vexfs_sealed_user_handler = {
	.prefix	= XATTR_USER_PREFIX,
	.get	= vexfs_sealed_xattr_get,
};

static const struct xattr_handler vexfs_sealed_trusted_handler = {
	.prefix	= XATTR_TRUSTED_PREFIX,
	.get	= vexfs_sealed_xattr_get,
};

static const struct xattr_handler vexfs_sealed_security_handler = {
	.prefix	= XATTR_SECURITY_PREFIX,
	.get	= vexfs_sealed_xattr_get,
};

const struct xattr_handler * const vexfs_sealed_xattr_handlers[] = {
	&vexfs_sealed_user_handler,
	&vexfs_sealed_trusted_handler,
	&vexfs_sealed_security_handler,
	NULL,
};

struct posix_acl *vexfs_sealed_get_acl(struct inode *inode, int type, bool rcu)
{
	const char *name = type == ACL_TYPE_ACCESS ?
		XATTR_NAME_POSIX_ACL_ACCESS : XATTR_NAME_POSIX_ACL_DEFAULT;
	struct posix_acl *acl;
	void *value;
	int size;

	if (rcu)
		return ERR_PTR(-ECHILD);
	size = vexfs_sealed_getxattr(inode, name, NULL, 0);
	if (size <= 0)
		return size == -ENODATA ? NULL : ERR_PTR(size ? size : -EFSCORRUPTED);
	value = kvmalloc(size, GFP_KERNEL);
	if (!value)
		return ERR_PTR(-ENOMEM);
	size = vexfs_sealed_getxattr(inode, name, value, size);
	acl = size < 0 ? ERR_PTR(size) :
			 posix_acl_from_xattr(&init_user_ns, value, size);
	kvfree(value);
	return acl;
}
