// SPDX-License-Identifier: GPL-2.0-only
/*
 * Names: looked up, linked and removed.
 *
 * Nobody but this client changes the names of a mounted pool, so what the
 * dentry cache says is true, also that a name does not exist, until the mount
 * was degraded: then each name is asked for once more at its next use.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/namei.h>

#include "change.h"
#include "listing.h"
#include "post.h"

/* The inode of a name; NULL if there is none. */
struct inode *vexfs_find(struct inode *dir, const struct qstr *name,
			 struct vexfs_stamp *stamp)
{
	struct vexfs_mount *m = vexfs_mount(dir->i_sb);
	struct vexfs_call *call;
	struct vexfs_attr attr;
	int err;

	if (name->len > VEXFS_NAME_BYTES)
		return ERR_PTR(-ENAMETOOLONG);
	call = vexfs_call_new(m, VEXFS_LOOKUP,
			      sizeof(struct vexfs_named) + name->len,
			      sizeof(attr));
	if (IS_ERR(call))
		return ERR_CAST(call);
	call->killable = true;
	vexfs_call_name(call, vexfs_ino(dir), name->name, name->len);
	*stamp = vexfs_stamp(m);
	err = vexfs_call(call);
	if (!err)
		err = vexfs_take_attr(&call->answer, m, &attr);
	vexfs_call_put(call);
	if (err == -ENOENT)
		return NULL;
	if (err)
		return ERR_PTR(err);
	return vexfs_iget(dir->i_sb, &attr, *stamp);
}

static struct dentry *vexfs_lookup(struct inode *dir, struct dentry *dentry,
				   unsigned int flags)
{
	struct vexfs_stamp stamp = vexfs_stamp(vexfs_mount(dir->i_sb));
	bool complete = vexfs_dir_complete(dir);
	struct inode *inode = NULL;
	struct dentry *alias;

	if (dentry->d_name.len > VEXFS_NAME_BYTES)
		return ERR_PTR(-ENAMETOOLONG);
	if (vexfs_query_is_name(dir, dentry->d_name.name, dentry->d_name.len))
		return vexfs_query_find_dir(dentry);
	if (!complete)
		inode = vexfs_find(dir, &dentry->d_name, &stamp);
	if (IS_ERR(inode))
		return ERR_CAST(inode);
	alias = d_splice_alias(inode, dentry);
	if (IS_ERR(alias))
		return alias;
	(alias ? alias : dentry)->d_time = stamp.trust;
	/* With an alias, the dentry is in lookup still. */
	if (!complete && !alias)
		vexfs_fill_ahead(dentry->d_parent);
	return alias;
}

static int COMPAT_D_REVALIDATE(vexfs_d_revalidate, dentry, flags)
{
	struct vexfs_mount *m = vexfs_mount(dentry->d_sb);
	struct vexfs_stamp stamp;
	struct dentry *parent;
	struct inode *inode;
	int valid;

	if (likely(dentry->d_time == READ_ONCE(m->trust)) || IS_ROOT(dentry))
		return 1;
	inode = d_inode_rcu(dentry);
	if (inode && vexfs_query_is_ours(inode))
		return 1;
	/* With nobody to ask, what is known is used. */
	if (!vexfs_healthy(m))
		return 1;
	if (flags & LOOKUP_RCU)
		return -ECHILD;

	parent = dget_parent(dentry);
	inode = vexfs_find(d_inode(parent), &dentry->d_name, &stamp);
	dput(parent);
	if (IS_ERR(inode))
		return PTR_ERR(inode);
	valid = inode == d_inode(dentry);
	if (valid)
		dentry->d_time = stamp.trust;
	iput(inode);
	return valid;
}

static void vexfs_d_prune(struct dentry *dentry)
{
	if (IS_ROOT(dentry) || d_unhashed(dentry) || d_is_negative(dentry) ||
	    vexfs_query_is_ours(d_inode(dentry)))
		return;
	/* The parent is kept by its child. */
	vexfs_dir_doubt(d_inode(dentry->d_parent));
}

const struct dentry_operations vexfs_dentry_operations = {
	.d_revalidate	= vexfs_d_revalidate,
	.d_prune	= vexfs_d_prune,
};

static int COMPAT_CREATE(vexfs_create, idmap, dir, dentry, mode)
{
	return vexfs_make(idmap, dir, dentry, mode, 0, NULL);
}

static int vexfs_mknod(struct mnt_idmap *idmap, struct inode *dir,
		       struct dentry *dentry, umode_t mode, dev_t dev)
{
	return vexfs_make(idmap, dir, dentry, mode, dev, NULL);
}

static compat_mkdir_t vexfs_mkdir(struct mnt_idmap *idmap, struct inode *dir,
				  struct dentry *dentry, umode_t mode)
{
	return compat_mkdir_result(vexfs_make(idmap, dir, dentry,
					      mode | S_IFDIR, 0, NULL));
}

static int vexfs_symlink(struct mnt_idmap *idmap, struct inode *dir,
			 struct dentry *dentry, const char *target)
{
	return vexfs_make(idmap, dir, dentry, S_IFLNK | 0777, 0, target);
}

static s64 vexfs_now(struct inode *inode)
{
	struct timespec64 now = current_time(inode);

	return timespec64_to_ns(&now);
}

/* Of a posted change: a file has more or fewer names. */
static void vexfs_links_posted(struct inode *inode, int more, s64 time)
{
	struct vexfs_inode *vi = vexfs_i(inode);

	if (more > 0)
		inc_nlink(inode);
	else if (inode->i_nlink)
		drop_nlink(inode);
	inode_set_ctime_to_ts(inode, ns_to_timespec64(time));
	vi->known_ctime = time;
}

struct vexfs_naming {
	struct inode *dir;
	struct inode *inode;
	s64 time;
};

static void vexfs_link_posted(struct vexfs_change *change)
{
	struct vexfs_naming *naming = change->context;

	vexfs_links_posted(naming->inode, 1, naming->time);
	vexfs_dir_changed(naming->dir, naming->time);
}

static void vexfs_unlink_posted(struct vexfs_change *change)
{
	struct vexfs_naming *naming = change->context;

	vexfs_links_posted(naming->inode, -1, naming->time);
	vexfs_dir_changed(naming->dir, naming->time);
}

static int vexfs_link(struct dentry *old, struct inode *dir,
		      struct dentry *dentry)
{
	struct vexfs_mount *m = vexfs_mount(dir->i_sb);
	const struct qstr *name = &dentry->d_name;
	struct inode *inode = d_inode(old);
	struct vexfs_naming naming = { dir, inode, vexfs_now(dir) };
	struct vexfs_change *change;
	int err;

	if (vexfs_query_is_ours(inode))
		return -EPERM;
	if (name->len > VEXFS_NAME_BYTES)
		return -ENAMETOOLONG;
	change = vexfs_change_new(m, 64 + name->len);
	if (IS_ERR(change))
		return PTR_ERR(change);
	if (inode->i_nlink) {
		vexfs_op_link(&change->ops, vexfs_ino(inode), vexfs_ino(dir),
			      naming.time, name);
		change->posted = vexfs_link_posted;
		change->context = &naming;
	} else {
		vexfs_op_adopt(&change->ops, vexfs_ino(inode), vexfs_ino(dir),
			       naming.time, name);
	}
	vexfs_change_want(change, inode);
	vexfs_change_want(change, dir);
	err = vexfs_change_apply(change);
	vexfs_change_put(change);
	if (err) {
		vexfs_dir_doubt(dir);
		return err;
	}
	ihold(inode);
	dentry->d_time = READ_ONCE(m->trust);
	d_instantiate(dentry, inode);
	return 0;
}

static int vexfs_remove(struct inode *dir, struct dentry *dentry,
			void (*op)(struct vexfs_writer *w, u64 parent,
				   s64 time, const struct qstr *name),
			void (*posted)(struct vexfs_change *change))
{
	struct vexfs_naming naming = { dir, d_inode(dentry), vexfs_now(dir) };
	struct vexfs_mount *m = vexfs_mount(dir->i_sb);
	struct vexfs_change *change;
	int err;

	if (vexfs_query_is_ours(naming.inode))
		return -EPERM;
	change = vexfs_change_new(m, 64 + dentry->d_name.len);
	if (IS_ERR(change))
		return PTR_ERR(change);
	op(&change->ops, vexfs_ino(dir), naming.time, &dentry->d_name);
	change->posted = posted;
	change->context = &naming;
	vexfs_change_want(change, d_inode(dentry));
	vexfs_change_want(change, dir);
	err = vexfs_change_apply(change);
	vexfs_change_put(change);
	return err;
}

static int vexfs_unlink(struct inode *dir, struct dentry *dentry)
{
	return vexfs_remove(dir, dentry, vexfs_op_unlink, vexfs_unlink_posted);
}

/*
 * Under the lock of a directory: whether it is known to have no names. First
 * what is cached: a name that is dropped from there makes it incomplete before.
 */
bool vexfs_dir_empty(struct dentry *dentry)
{
	return simple_empty(dentry) && vexfs_dir_complete(d_inode(dentry));
}

static void vexfs_rmdir_posted(struct vexfs_change *change)
{
	struct vexfs_naming *naming = change->context;

	vexfs_dir_buried(naming->inode, naming->dir, naming->time);
	vexfs_dir_changed(naming->dir, naming->time);
}

static int vexfs_rmdir(struct inode *dir, struct dentry *dentry)
{
	/* Whether it is empty may be the server's to say. */
	int err = vexfs_remove(dir, dentry, vexfs_op_rmdir,
			       vexfs_dir_empty(dentry) ? vexfs_rmdir_posted :
							 NULL);

	if (!err)
		clear_nlink(d_inode(dentry));
	return err;
}

const struct inode_operations vexfs_dir_inode_operations = {
	.lookup		= vexfs_lookup,
	.create		= vexfs_create,
	.link		= vexfs_link,
	.unlink		= vexfs_unlink,
	.symlink	= vexfs_symlink,
	.mkdir		= vexfs_mkdir,
	.rmdir		= vexfs_rmdir,
	.mknod		= vexfs_mknod,
	.rename		= vexfs_rename,
	.tmpfile	= vexfs_tmpfile,
	.getattr	= vexfs_getattr,
	.setattr	= vexfs_setattr,
	.listxattr	= vexfs_listxattr,
	.get_inode_acl	= vexfs_get_acl,
	.set_acl	= vexfs_set_acl,
	.fileattr_get	= vexfs_fileattr_get,
	.fileattr_set	= vexfs_fileattr_set,
};
