// SPDX-License-Identifier: GPL-2.0-only
/*
 * New inodes of every kind, with and without a name.
 *
 * The number comes from a grant, so the inode is complete before the server
 * hears of it: owner, mode, access control lists and security labels go there
 * in the same change as the name.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/fs.h>
#include <linux/kdev_t.h>
#include <linux/posix_acl.h>
#include <linux/security.h>
#include <linux/slab.h>
#include <linux/xattr.h>

#include "change.h"
#include "listing.h"
#include "post.h"

/* Flags that a new file takes from its directory. */
#define INHERITED	(FS_COMPR_FL | FS_NODUMP_FL | FS_NOATIME_FL |	\
			 VEXFS_ZSTD_FL | VEXFS_NO_CHECKSUM_FL)

/* What an attribute takes besides its name and value. */
#define ATTRIBUTE_ROOM	32
/* A new file, without its name. */
#define CREATE_ROOM	64

struct vexfs_birth {
	struct inode *inode;
	struct posix_acl *acl;
	struct posix_acl *default_acl;
	s64 time;
	struct inode *dir;
	u32 flags;
};

static void vexfs_birth_end(struct vexfs_birth *birth)
{
	posix_acl_release(birth->acl);
	posix_acl_release(birth->default_acl);
}

/* An inode that nobody knows of yet: hashed, locked as new. */
static int vexfs_birth_begin(struct vexfs_birth *birth, struct mnt_idmap *idmap,
			     struct inode *dir, umode_t mode, dev_t dev)
{
	struct vexfs_mount *m = vexfs_mount(dir->i_sb);
	struct timespec64 now;
	struct inode *inode;
	u64 ino;
	int err;

	err = posix_acl_create(dir, &mode, &birth->default_acl, &birth->acl);
	if (err)
		return err;
	err = vexfs_grant_ino(m, &ino);
	if (err)
		goto acl;
	inode = new_inode(dir->i_sb);
	if (!inode) {
		err = -ENOMEM;
		goto acl;
	}
	inode->i_ino = ino;
	inode_init_owner(idmap, inode, dir, mode);
	now = simple_inode_init_ts(inode);
	birth->time = timespec64_to_ns(&now);
	inode->i_rdev = dev;
	vexfs_i(inode)->known_atime = birth->time;
	vexfs_i(inode)->known_mtime = birth->time;
	vexfs_i(inode)->known_ctime = birth->time;
	vexfs_i(inode)->birth = birth->time;
	vexfs_i(inode)->trust = READ_ONCE(m->trust);
	if (insert_inode_locked(inode)) {
		vexfs_err(m, "inode number %llu was granted and is in use\n",
			  ino);
		iput(inode);
		err = -EIO;
		goto acl;
	}
	birth->inode = inode;
	birth->dir = dir;
	return 0;

acl:
	vexfs_birth_end(birth);
	return err;
}

static int vexfs_op_acl(struct vexfs_change *change, struct vexfs_birth *birth,
			struct posix_acl *acl, const char *name)
{
	size_t size;
	void *value;

	if (!acl)
		return 0;
	value = compat_acl_to_xattr(acl, &size);
	if (IS_ERR(value))
		return PTR_ERR(value);
	vexfs_op_set_xattr(&change->ops, vexfs_ino(birth->inode), 0,
			   birth->time, name, value, size);
	kfree(value);
	return 0;
}

struct vexfs_labels {
	struct vexfs_change *change;
	s64 time;
};

static int vexfs_initxattrs(struct inode *inode, const struct xattr *xattrs,
			    void *data)
{
	struct vexfs_labels *labels = data;
	const struct xattr *xattr;
	int err;

	for (xattr = xattrs; xattr->name; xattr++) {
		char *name = kasprintf(GFP_NOFS, XATTR_SECURITY_PREFIX "%s",
				       xattr->name);

		if (!name)
			return -ENOMEM;
		err = vexfs_change_room(labels->change, ATTRIBUTE_ROOM +
					strlen(name) + xattr->value_len);
		if (err) {
			kfree(name);
			return err;
		}
		vexfs_op_set_xattr(&labels->change->ops, vexfs_ino(inode), 0,
				   labels->time, name, xattr->value,
				   xattr->value_len);
		kfree(name);
	}
	return 0;
}

static int vexfs_birth_ops(struct vexfs_birth *birth,
			   struct vexfs_change *change, struct inode *dir,
			   const struct qstr *name, bool named,
			   const char *target)
{
	struct inode *inode = birth->inode;
	struct vexfs_labels labels = { change, birth->time };
	struct vexfs_create_op op = {
		.parent = named ? vexfs_ino(dir) : 0,
		.ino = vexfs_ino(inode),
		.mode = inode->i_mode,
		.uid = i_uid_read(inode),
		.gid = i_gid_read(inode),
		.device = new_encode_dev(inode->i_rdev),
		.time = birth->time,
		.name = named ? (const char *)name->name : NULL,
		.name_length = named ? name->len : 0,
		.target = target,
		.target_length = target ? strlen(target) : 0,
	};
	int err;

	if (S_ISREG(inode->i_mode) || S_ISDIR(inode->i_mode))
		op.flags = vexfs_i(dir)->flags & INHERITED;
	birth->flags = op.flags;
	/* The target itself is asked for when it is needed. */
	if (target)
		i_size_write(inode, op.target_length);
	vexfs_op_create(&change->ops, &op);
	err = vexfs_op_acl(change, birth, birth->default_acl,
			   XATTR_NAME_POSIX_ACL_DEFAULT);
	if (!err)
		err = vexfs_op_acl(change, birth, birth->acl,
				   XATTR_NAME_POSIX_ACL_ACCESS);
	if (!err)
		err = security_inode_init_security(inode, dir, name,
						   vexfs_initxattrs, &labels);
	return err == -EOPNOTSUPP ? 0 : err;
}

static u32 vexfs_acl_room(const struct posix_acl *acl)
{
	return acl ? ATTRIBUTE_ROOM + sizeof(XATTR_NAME_POSIX_ACL_DEFAULT) +
		     posix_acl_xattr_size(acl->a_count) : 0;
}

/* What the server would tell of a file that was posted. */
static void vexfs_birth_posted(struct vexfs_change *change)
{
	struct vexfs_birth *birth = change->context;
	struct inode *inode = birth->inode;

	vexfs_inode_born(inode, birth->flags);
	vexfs_i(inode)->told = vexfs_posted(change->mount);
	/* Of a directory the size is the server's to say. */
	vexfs_i(inode)->blocks_stale = S_ISDIR(inode->i_mode);
	if (S_ISDIR(inode->i_mode))
		inc_nlink(birth->dir);
	vexfs_dir_changed(birth->dir, birth->time);
}

/* Tells the server. On success the inode is the server's too. */
static int vexfs_birth_tell(struct vexfs_birth *birth, struct inode *dir,
			    const struct qstr *name, bool named,
			    const char *target)
{
	struct inode *inode = birth->inode;
	struct vexfs_change *change;
	int err;

	change = vexfs_change_new(vexfs_mount(dir->i_sb),
				  CREATE_ROOM + name->len +
				  (target ? strlen(target) : 0) +
				  vexfs_acl_room(birth->acl) +
				  vexfs_acl_room(birth->default_acl));
	if (IS_ERR(change))
		return PTR_ERR(change);
	err = vexfs_birth_ops(birth, change, dir, name, named, target);
	if (!err) {
		vexfs_change_want(change, inode);
		if (named)
			vexfs_change_want(change, dir);
		/* Together or not at all: not with what belongs to it. */
		if (named && change->ops.count == 1) {
			change->posted = vexfs_birth_posted;
			change->context = birth;
		}
		err = vexfs_change_apply(change);
	}
	vexfs_change_put(change);
	if (err)
		return err;
	vexfs_i(inode)->created = true;
	if (S_ISDIR(inode->i_mode) && named)
		vexfs_dir_born(inode);
	set_cached_acl(inode, ACL_TYPE_ACCESS, birth->acl);
	if (S_ISDIR(inode->i_mode))
		set_cached_acl(inode, ACL_TYPE_DEFAULT, birth->default_acl);
	vexfs_inode_setup(inode);
	return 0;
}

static void vexfs_birth_fail(struct vexfs_birth *birth)
{
	clear_nlink(birth->inode);
	discard_new_inode(birth->inode);
}

int vexfs_make(struct mnt_idmap *idmap, struct inode *dir,
	       struct dentry *dentry, umode_t mode, dev_t dev,
	       const char *target)
{
	struct vexfs_birth birth = {};
	int err;

	if (dentry->d_name.len > VEXFS_NAME_BYTES)
		return -ENAMETOOLONG;
	err = vexfs_birth_begin(&birth, idmap, dir, mode, dev);
	if (err)
		return err;
	err = vexfs_birth_tell(&birth, dir, &dentry->d_name, true, target);
	if (err) {
		vexfs_birth_fail(&birth);
		vexfs_dir_doubt(dir);
	} else {
		dentry->d_time = READ_ONCE(vexfs_mount(dir->i_sb)->trust);
		d_instantiate_new(dentry, birth.inode);
	}
	vexfs_birth_end(&birth);
	return err;
}

int vexfs_tmpfile(struct mnt_idmap *idmap, struct inode *dir,
		  struct file *file, umode_t mode)
{
	struct vexfs_birth birth = {};
	int err;

	err = vexfs_birth_begin(&birth, idmap, dir, mode, 0);
	if (err)
		return err;
	err = vexfs_birth_tell(&birth, dir, &file->f_path.dentry->d_name,
			       false, NULL);
	if (err) {
		vexfs_birth_fail(&birth);
	} else {
		/* d_tmpfile() takes the one link that it expects. */
		set_nlink(birth.inode, 1);
		d_tmpfile(file, birth.inode);
		unlock_new_inode(birth.inode);
	}
	vexfs_birth_end(&birth);
	return finish_open_simple(file, err);
}
