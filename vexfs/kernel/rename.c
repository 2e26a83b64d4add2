// SPDX-License-Identifier: GPL-2.0-only
/*
 * Renaming, with all its flags.
 */

#include "change.h"
#include "listing.h"

struct vexfs_renaming {
	struct inode *inode;
	struct inode *target;	/* what loses this name, or NULL */
	struct inode *from;
	struct inode *to;
	s64 time;
};

/* What the server would tell of a renaming that was posted. */
static void vexfs_rename_posted(struct vexfs_change *change)
{
	struct vexfs_renaming *renaming = change->context;
	struct timespec64 time = ns_to_timespec64(renaming->time);
	struct inode *inode = renaming->inode;

	inode_set_ctime_to_ts(inode, time);
	vexfs_i(inode)->known_ctime = renaming->time;
	if (renaming->target && S_ISDIR(renaming->target->i_mode)) {
		vexfs_dir_buried(renaming->target, renaming->to,
				 renaming->time);
	} else if (renaming->target) {
		drop_nlink(renaming->target);
		inode_set_ctime_to_ts(renaming->target, time);
		vexfs_i(renaming->target)->known_ctime = renaming->time;
	}
	if (S_ISDIR(inode->i_mode) && renaming->from != renaming->to) {
		drop_nlink(renaming->from);
		inc_nlink(renaming->to);
	}
	vexfs_dir_changed(renaming->from, renaming->time);
	vexfs_dir_changed(renaming->to, renaming->time);
}

int vexfs_rename(struct mnt_idmap *idmap, struct inode *old_dir,
		 struct dentry *old_dentry, struct inode *new_dir,
		 struct dentry *new_dentry, unsigned int flags)
{
	struct vexfs_mount *m = vexfs_mount(old_dir->i_sb);
	struct timespec64 now = current_time(old_dir);
	struct inode *target = d_inode(new_dentry);
	struct vexfs_rename_op op = {
		.from = vexfs_ino(old_dir),
		.to = vexfs_ino(new_dir),
		.time = timespec64_to_ns(&now),
		.name = &old_dentry->d_name,
		.new_name = &new_dentry->d_name,
	};
	struct vexfs_renaming renaming = {
		d_inode(old_dentry), target, old_dir, new_dir, op.time
	};
	struct vexfs_change *change;
	int err;

	if (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
		return -EINVAL;
	if (vexfs_query_is_ours(renaming.inode) ||
	    (target && vexfs_query_is_ours(target)))
		return -EPERM;
	if (op.new_name->len > VEXFS_NAME_BYTES)
		return -ENAMETOOLONG;
	if (flags & RENAME_NOREPLACE)
		op.flags |= VEXFS_RENAME_NOREPLACE;
	if (flags & RENAME_EXCHANGE)
		op.flags |= VEXFS_RENAME_EXCHANGE;
	if (flags & RENAME_WHITEOUT) {
		op.flags |= VEXFS_RENAME_WHITEOUT;
		err = vexfs_grant_ino(m, &op.whiteout);
		if (err)
			return err;
	}

	change = vexfs_change_new(m, 64 + op.name->len + op.new_name->len);
	if (IS_ERR(change))
		return PTR_ERR(change);
	vexfs_op_rename(&change->ops, &op);
	vexfs_change_want(change, d_inode(old_dentry));
	if (target)
		vexfs_change_want(change, target);
	vexfs_change_want(change, old_dir);
	vexfs_change_want(change, new_dir);
	/* Whether a directory is empty may be the server's to say. */
	if (!(flags & (RENAME_EXCHANGE | RENAME_WHITEOUT)) &&
	    (!target || !S_ISDIR(target->i_mode) ||
	     vexfs_dir_empty(new_dentry))) {
		change->posted = vexfs_rename_posted;
		change->context = &renaming;
	}
	err = vexfs_change_apply(change);
	vexfs_change_put(change);
	if (!err && target && S_ISDIR(target->i_mode) &&
	    !(flags & RENAME_EXCHANGE))
		clear_nlink(target);
	/* No dentry is made for the file that stays under the old name. */
	if (err || (flags & RENAME_WHITEOUT)) {
		vexfs_dir_doubt(old_dir);
		vexfs_dir_doubt(new_dir);
	}
	if (!err) {
		old_dentry->d_time = READ_ONCE(m->trust);
		new_dentry->d_time = READ_ONCE(m->trust);
	}
	return err;
}
