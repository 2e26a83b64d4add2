// SPDX-License-Identifier: GPL-2.0-only
/*
 * stat, chmod, chown, utimes, truncate, chattr.
 */

#include <linux/fs.h>
#include <linux/fileattr.h>
#include <linux/pagemap.h>
#include <linux/posix_acl.h>
#include <linux/stat.h>

#include "change.h"
#include "credits.h"

/* Flags that chattr shows, sets and clears. The pool has others besides. */
#define SETTABLE	(FS_COMPR_FL | FS_IMMUTABLE_FL | FS_APPEND_FL |	\
			 FS_NODUMP_FL | FS_NOATIME_FL)

/*
 * Bytes in the page cache have no blocks at the server yet. Programs take a file
 * with fewer blocks than its size wants for one with holes, so what is cached
 * counts while some of it is still to be written.
 */
static void vexfs_stat_blocks(struct inode *inode, struct kstat *stat)
{
	struct address_space *mapping = inode->i_mapping;
	u64 cached;

	if (!mapping_tagged(mapping, PAGECACHE_TAG_DIRTY) &&
	    !mapping_tagged(mapping, PAGECACHE_TAG_WRITEBACK))
		return;
	cached = min_t(u64, (u64)READ_ONCE(mapping->nrpages) << PAGE_SHIFT,
		       round_up(stat->size, VEXFS_ABI_BLOCK));
	stat->blocks = max_t(u64, stat->blocks, cached >> SECTOR_SHIFT);
}

int vexfs_getattr(struct mnt_idmap *idmap, const struct path *path,
		  struct kstat *stat, u32 request_mask, unsigned int flags)
{
	struct inode *inode = d_inode(path->dentry);
	struct vexfs_inode *vi = vexfs_i(inode);
	/* Of a directory its size too is the server's to say. */
	u32 from_server = STATX_BLOCKS |
			  (S_ISDIR(inode->i_mode) ? STATX_SIZE : 0);
	int err;

	err = vexfs_inode_check(inode);
	if (!err && (request_mask & from_server) &&
	    READ_ONCE(vi->blocks_stale) && !(flags & AT_STATX_DONT_SYNC) &&
	    vexfs_healthy(vexfs_mount(inode->i_sb)))
		err = vexfs_inode_refresh(inode);
	/* With nobody to ask, what is known is told. */
	if (err && vexfs_healthy(vexfs_mount(inode->i_sb)))
		return err;

	generic_fillattr(idmap, request_mask, inode, stat);
	stat->result_mask |= STATX_BTIME;
	stat->btime = ns_to_timespec64(vi->birth);
	stat->attributes_mask |= STATX_ATTR_COMPRESSED | STATX_ATTR_IMMUTABLE |
				 STATX_ATTR_APPEND | STATX_ATTR_NODUMP;
	if (vi->flags & FS_COMPR_FL)
		stat->attributes |= STATX_ATTR_COMPRESSED;
	if (vi->flags & FS_IMMUTABLE_FL)
		stat->attributes |= STATX_ATTR_IMMUTABLE;
	if (vi->flags & FS_APPEND_FL)
		stat->attributes |= STATX_ATTR_APPEND;
	if (vi->flags & FS_NODUMP_FL)
		stat->attributes |= STATX_ATTR_NODUMP;
	if (S_ISREG(inode->i_mode)) {
		vexfs_stat_blocks(inode, stat);
		if (request_mask & STATX_DIOALIGN) {
			stat->result_mask |= STATX_DIOALIGN;
			stat->dio_mem_align = SECTOR_SIZE;
			stat->dio_offset_align = VEXFS_ABI_BLOCK;
		}
	}
	return 0;
}

/*
 * Brings the page cache to a new size. The server is told afterwards: of what is
 * beyond the new end nothing may arrive there later than that, or a file that
 * grows again would show it.
 */
static int vexfs_resize_cache(struct inode *inode, loff_t size)
{
	struct vexfs_inode *vi = vexfs_i(inode);
	loff_t old = i_size_read(inode);
	unsigned long irq;
	int err;

	if (size > old) {
		err = vexfs_zero_tail(inode, old);
		if (err)
			return err;
	}
	/*
	 * For the server the size may grow though it shrinks here. It then drops
	 * what is beyond its own end, so that must not hold bytes of ours.
	 */
	if (size > READ_ONCE(vi->disk_size))
		err = vexfs_settle(inode, vi->disk_size, LLONG_MAX);
	else
		err = vexfs_wait_range(inode, size, LLONG_MAX);
	if (err)
		return err;
	truncate_setsize(inode, size);
	vexfs_delay_dropped_from(inode, size);
	spin_lock_irqsave(&vi->lock, irq);
	vi->arrived = min_t(u64, vi->arrived, size);
	spin_unlock_irqrestore(&vi->lock, irq);
	return 0;
}

/*
 * The page cache has the new size, and the server was asked for it. Without an
 * answer it is told before the file is used again (refresh.c); if it refused,
 * the file is as long as it was.
 */
static void vexfs_resized(struct inode *inode, loff_t old, int err)
{
	struct vexfs_inode *vi = vexfs_i(inode);
	bool unknown = err == -EIO || err == -EINTR || err == -ENOMEM;

	mutex_lock(&vi->attr_lock);
	WRITE_ONCE(vi->resized, unknown);
	if (err && !unknown)
		i_size_write(inode, old);
	mutex_unlock(&vi->attr_lock);
	if (unknown)
		mark_inode_dirty(inode);
}

/* Returns the time of the change. */
static s64 vexfs_setattr_ops(struct mnt_idmap *idmap, struct inode *inode,
			      struct iattr *attr, struct vexfs_writer *ops)
{
	struct vexfs_set_op set = { .ino = vexfs_ino(inode) };
	unsigned int valid = attr->ia_valid;
	struct timespec64 now;

	now = valid & ATTR_CTIME ? attr->ia_ctime : current_time(inode);
	set.changed = timespec64_to_ns(&now);
	set.fields = VEXFS_SET_CHANGED;
	if (valid & ATTR_SIZE)
		vexfs_op_truncate(ops, set.ino, attr->ia_size, set.changed);
	if (valid & ATTR_MODE) {
		umode_t mode = attr->ia_mode;
		vfsgid_t group = valid & ATTR_GID ?
			attr->ia_vfsgid : i_gid_into_vfsgid(idmap, inode);

		if (!in_group_or_capable(idmap, inode, group))
			mode &= ~S_ISGID;
		attr->ia_mode = mode;
		set.mode = mode & 07777;
		set.fields |= VEXFS_SET_MODE;
	}
	if (valid & ATTR_UID) {
		set.uid = from_kuid(&init_user_ns,
				    from_vfsuid(idmap, i_user_ns(inode),
						attr->ia_vfsuid));
		set.fields |= VEXFS_SET_UID;
	}
	if (valid & ATTR_GID) {
		set.gid = from_kgid(&init_user_ns,
				    from_vfsgid(idmap, i_user_ns(inode),
						attr->ia_vfsgid));
		set.fields |= VEXFS_SET_GID;
	}
	if (valid & ATTR_ATIME) {
		set.accessed = timespec64_to_ns(&attr->ia_atime);
		set.fields |= VEXFS_SET_ACCESSED;
	}
	if (valid & ATTR_MTIME) {
		set.modified = timespec64_to_ns(&attr->ia_mtime);
		set.fields |= VEXFS_SET_MODIFIED;
	}
	if (set.fields != VEXFS_SET_CHANGED || !(valid & ATTR_SIZE))
		vexfs_op_set(ops, &set);
	return set.changed;
}

/*
 * Times that the caller set become those of the inode whatever was there, also
 * ones of the past; they are what the server has.
 */
static void vexfs_setattr_times(struct inode *inode, const struct iattr *attr)
{
	struct vexfs_inode *vi = vexfs_i(inode);

	if (attr->ia_valid & ATTR_ATIME)
		inode_set_atime_to_ts(inode, ns_to_timespec64(vi->known_atime));
	if (attr->ia_valid & (ATTR_MTIME | ATTR_SIZE))
		inode_set_mtime_to_ts(inode, ns_to_timespec64(vi->known_mtime));
	inode_set_ctime_to_ts(inode, ns_to_timespec64(vi->known_ctime));
}

struct vexfs_setattr {
	struct mnt_idmap *idmap;
	struct iattr *attr;
	s64 changed;
};

/* What the server would tell of attributes that were posted. */
static void vexfs_setattr_posted(struct vexfs_change *change)
{
	struct vexfs_setattr *set = change->context;
	struct inode *inode = change->wanted[0];
	struct vexfs_inode *vi = vexfs_i(inode);
	struct iattr *attr = set->attr;

	i_uid_update(set->idmap, attr, inode);
	i_gid_update(set->idmap, attr, inode);
	if (attr->ia_valid & ATTR_MODE)
		inode->i_mode = (inode->i_mode & S_IFMT) |
				(attr->ia_mode & 07777);
	if (attr->ia_valid & ATTR_ATIME)
		vi->known_atime = timespec64_to_ns(&attr->ia_atime);
	if (attr->ia_valid & ATTR_MTIME)
		vi->known_mtime = timespec64_to_ns(&attr->ia_mtime);
	vi->known_ctime = set->changed;
}

int vexfs_setattr(struct mnt_idmap *idmap, struct dentry *dentry,
		  struct iattr *attr)
{
	struct inode *inode = d_inode(dentry);
	bool resize = attr->ia_valid & ATTR_SIZE;
	loff_t old = i_size_read(inode);
	struct vexfs_setattr set = { idmap, attr };
	struct vexfs_change *change;
	int err;

	err = setattr_prepare(idmap, dentry, attr);
	if (err)
		return err;
	if (resize && !S_ISREG(inode->i_mode))
		return -EINVAL;
	change = vexfs_change_new(vexfs_mount(inode->i_sb), 256);
	if (IS_ERR(change))
		return PTR_ERR(change);

	if (resize) {
		inode_dio_wait(inode);
		filemap_invalidate_lock(inode->i_mapping);
		err = vexfs_healthy(vexfs_mount(inode->i_sb)) ?
			vexfs_resize_cache(inode, attr->ia_size) : -EIO;
	}
	if (!err) {
		set.changed = vexfs_setattr_ops(idmap, inode, attr,
						&change->ops);
		vexfs_change_want(change, inode);
		/* Access control lists may have to follow the mode. */
		if (!resize && !(vexfs_i(inode)->hints & VEXFS_HINT_ACL)) {
			change->posted = vexfs_setattr_posted;
			change->context = &set;
		}
		err = vexfs_change_apply(change);
		if (resize)
			vexfs_resized(inode, old, err);
	}
	if (resize)
		filemap_invalidate_unlock(inode->i_mapping);
	vexfs_change_put(change);
	if (err)
		return err;
	vexfs_setattr_times(inode, attr);
	if (attr->ia_valid & ATTR_MODE)
		err = posix_acl_chmod(idmap, dentry, inode->i_mode);
	return err;
}

int vexfs_fileattr_get(struct dentry *dentry, compat_fileattr_t *fa)
{
	struct inode *inode = d_inode(dentry);
	int err = vexfs_inode_check(inode);

	if (err)
		return err;
	fileattr_fill_flags(fa, vexfs_i(inode)->flags & SETTABLE);
	return 0;
}

int vexfs_fileattr_set(struct mnt_idmap *idmap, struct dentry *dentry,
		       compat_fileattr_t *fa)
{
	struct inode *inode = d_inode(dentry);
	struct timespec64 now = current_time(inode);
	struct vexfs_set_op set = {
		.ino = vexfs_ino(inode),
		.fields = VEXFS_SET_FLAGS | VEXFS_SET_CHANGED,
		.flags = (vexfs_i(inode)->flags & ~SETTABLE) | fa->flags,
		.changed = timespec64_to_ns(&now),
	};
	struct vexfs_change *change;
	int err;

	if (fileattr_has_fsx(fa) || (fa->flags & ~SETTABLE))
		return -EOPNOTSUPP;
	change = vexfs_change_new(vexfs_mount(inode->i_sb), 128);
	if (IS_ERR(change))
		return PTR_ERR(change);
	vexfs_op_set(&change->ops, &set);
	vexfs_change_want(change, inode);
	err = vexfs_change_apply(change);
	vexfs_change_put(change);
	return err;
}
