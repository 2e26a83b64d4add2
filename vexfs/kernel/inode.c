// SPDX-License-Identifier: GPL-2.0-only
/*
 * The inode cache: made from what the server says, taken apart when VFS is done.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/fs.h>
#include <linux/kdev_t.h>
#include <linux/pagemap.h>
#include <linux/slab.h>

#include "credits.h"

static struct kmem_cache *vexfs_inode_cache;

static void vexfs_inode_once(void *object)
{
	struct vexfs_inode *vi = object;

	inode_init_once(&vi->vfs_inode);
	mutex_init(&vi->attr_lock);
	spin_lock_init(&vi->lock);
	spin_lock_init(&vi->fill_lock);
	atomic64_set(&vi->lost, 0);
	INIT_LIST_HEAD(&vi->ioends);
	xa_init(&vi->delayed);
	atomic64_set(&vi->delayed_seq, 0);
}

int vexfs_inode_cache_create(void)
{
	vexfs_inode_cache = kmem_cache_create("vexfs_inode",
					      sizeof(struct vexfs_inode), 0,
					      SLAB_RECLAIM_ACCOUNT |
					      SLAB_ACCOUNT,
					      vexfs_inode_once);
	return vexfs_inode_cache ? 0 : -ENOMEM;
}

void vexfs_inode_cache_destroy(void)
{
	kmem_cache_destroy(vexfs_inode_cache);
}

struct inode *vexfs_alloc_inode(struct super_block *sb)
{
	struct vexfs_inode *vi = alloc_inode_sb(sb, vexfs_inode_cache,
						GFP_KERNEL);

	if (!vi)
		return NULL;
	vi->flags = 0;
	vi->hints = 0;
	vi->created = false;
	vi->window = false;
	vi->complete = 0;
	vi->filled = 0;
	atomic_set(&vi->asked, 0);
	vi->told = 0;
	vi->trust = 0;
	vi->data_base = 0;
	vi->data_span = 0;
	vi->disk_size = 0;
	vi->arrived = 0;
	vi->blocks_stale = false;
	vi->resized = false;
	/* Each time: with its memory, the kernel forgets what it knew of a work. */
	INIT_WORK(&vi->ioend_work, vexfs_ioend_work);
	return &vi->vfs_inode;
}

void vexfs_free_inode(struct inode *inode)
{
	if (S_ISLNK(inode->i_mode))
		kfree(inode->i_link);
	kmem_cache_free(vexfs_inode_cache, vexfs_i(inode));
}

void vexfs_evict_inode(struct inode *inode)
{
	struct vexfs_mount *m = vexfs_mount(inode->i_sb);
	struct vexfs_inode *vi = vexfs_i(inode);

	if (inode->i_nlink && !vexfs_healthy(m) &&
	    mapping_tagged(&inode->i_data, PAGECACHE_TAG_DIRTY))
		vexfs_warn(m, "inode %llu: bytes that were not written back are lost\n",
			   vexfs_ino(inode));
	truncate_inode_pages_final(&inode->i_data);
	vexfs_delay_dropped_from(inode, 0);
	/* It may just be leaving after it ended the last writeback. */
	cancel_work_sync(&vi->ioend_work);
	clear_inode(inode);
	if (!vi->created)
		return;
	if (inode->i_nlink)
		atomic64_inc(&m->evicted);
	if (inode->i_nlink && vi->arrived > vi->disk_size)
		vexfs_warn(m, "inode %llu: bytes beyond %llu are lost\n",
			   vexfs_ino(inode), vi->disk_size);
	if (!inode->i_nlink || vi->window)
		vexfs_release_later(m, vexfs_ino(inode), inode->i_generation,
				    inode->i_nlink || vi->window);
}

/* Whether attributes can be those of an inode that is known. */
bool vexfs_inode_is(const struct inode *inode, const struct vexfs_attr *attr)
{
	return attr->ino == vexfs_ino(inode) &&
	       attr->generation == inode->i_generation &&
	       !((attr->mode ^ inode->i_mode) & S_IFMT);
}

void vexfs_apply_flags(struct inode *inode)
{
	u32 flags = vexfs_i(inode)->flags;
	unsigned int set = 0;

	if (flags & FS_IMMUTABLE_FL)
		set |= S_IMMUTABLE;
	if (flags & FS_APPEND_FL)
		set |= S_APPEND;
	if (flags & FS_NOATIME_FL)
		set |= S_NOATIME;
	inode_set_flags(inode, set, S_IMMUTABLE | S_APPEND | S_NOATIME);
}

/* A time that nobody changed here since the server told it becomes the new one. */
static bool vexfs_time_follows(struct timespec64 now, s64 known)
{
	return timespec64_to_ns(&now) == known;
}

/*
 * Takes what the server says. Its size is not ours: bytes that have not been
 * written back yet are beyond it. Under attr_lock, or the inode is new.
 */
void vexfs_inode_learn(struct inode *inode, const struct vexfs_attr *attr)
{
	struct vexfs_inode *vi = vexfs_i(inode);
	unsigned long irq;

	inode->i_mode = attr->mode;
	i_uid_write(inode, attr->uid);
	i_gid_write(inode, attr->gid);
	set_nlink(inode, attr->links);

	if (vexfs_time_follows(inode_get_atime(inode), vi->known_atime))
		inode_set_atime_to_ts(inode, ns_to_timespec64(attr->accessed));
	if (vexfs_time_follows(inode_get_mtime(inode), vi->known_mtime))
		inode_set_mtime_to_ts(inode, ns_to_timespec64(attr->modified));
	if (vexfs_time_follows(inode_get_ctime(inode), vi->known_ctime))
		inode_set_ctime_to_ts(inode, ns_to_timespec64(attr->changed));
	vi->known_atime = attr->accessed;
	vi->known_mtime = attr->modified;
	vi->known_ctime = attr->changed;
	vi->birth = attr->born;

	vi->hints = attr->hints;
	if (vi->hints & VEXFS_HINT_SECURITY)
		inode->i_flags &= ~S_NOSEC;
	if (vi->flags != attr->flags) {
		vi->flags = attr->flags;
		vexfs_apply_flags(inode);
	}

	if (!S_ISREG(inode->i_mode)) {
		i_size_write(inode, attr->size);
		inode->i_blocks = attr->sectors;
		vi->blocks_stale = false;
		return;
	}
	spin_lock_irqsave(&vi->lock, irq);
	if (attr->data_span > vi->data_span) {
		vi->data_base = attr->data_base;
		vi->data_span = attr->data_span;
	}
	vi->disk_size = attr->size;
	vi->arrived = max(vi->arrived, vi->disk_size);
	inode->i_blocks = attr->sectors;
	vi->blocks_stale = false;
	spin_unlock_irqrestore(&vi->lock, irq);
}

/*
 * A file that was posted: what the server would tell of it. Its times are those
 * of its birth.
 */
void vexfs_inode_born(struct inode *inode, u32 flags)
{
	struct vexfs_mount *m = vexfs_mount(inode->i_sb);
	struct vexfs_inode *vi = vexfs_i(inode);
	__le64 born = cpu_to_le64(vi->birth);

	inode->i_generation = ~compat_crc32c(~0, &born, sizeof(born)) | 1;
	set_nlink(inode, S_ISDIR(inode->i_mode) ? 2 : 1);
	vi->flags = flags;
	vexfs_apply_flags(inode);
	if (S_ISREG(inode->i_mode) && vexfs_ino(inode) < m->own.count) {
		vi->data_base = m->own.base + vexfs_ino(inode) * m->own.span;
		vi->data_span = m->own.span;
	}
	vi->created = true;
}

/* Names in a directory changed, and the server is yet to do it. */
void vexfs_dir_changed(struct inode *dir, s64 time)
{
	struct vexfs_inode *vi = vexfs_i(dir);

	inode_set_mtime_to_ts(dir, ns_to_timespec64(time));
	inode_set_ctime_to_ts(dir, ns_to_timespec64(time));
	vi->known_mtime = time;
	vi->known_ctime = time;
	/* Its size is the server's to say. */
	vi->blocks_stale = true;
}

/* Of a posted change: an empty directory has lost its name. */
void vexfs_dir_buried(struct inode *inode, struct inode *parent, s64 time)
{
	clear_nlink(inode);
	inode_set_ctime_to_ts(inode, ns_to_timespec64(time));
	vexfs_i(inode)->known_ctime = time;
	drop_nlink(parent);
}

/* Operations by kind. i_mode, i_rdev and i_size are set. */
void vexfs_inode_setup(struct inode *inode)
{
	switch (inode->i_mode & S_IFMT) {
	case S_IFREG:
		inode->i_op = &vexfs_file_inode_operations;
		inode->i_fop = &vexfs_file_operations;
		inode->i_mapping->a_ops = &vexfs_address_operations;
		mapping_set_large_folios(inode->i_mapping);
		/* Writeback ends need the server; reclaim must not wait. */
		mapping_set_gfp_mask(inode->i_mapping,
				     mapping_gfp_constraint(inode->i_mapping,
							    ~__GFP_FS));
		break;
	case S_IFDIR:
		inode->i_op = &vexfs_dir_inode_operations;
		inode->i_fop = &vexfs_dir_operations;
		break;
	case S_IFLNK:
		inode->i_op = &vexfs_symlink_inode_operations;
		break;
	default:
		inode->i_op = &vexfs_special_inode_operations;
		init_special_inode(inode, inode->i_mode, inode->i_rdev);
		break;
	}
}

struct inode *vexfs_iget(struct super_block *sb, const struct vexfs_attr *attr,
			 struct vexfs_stamp stamp)
{
	struct vexfs_mount *m = vexfs_mount(sb);
	struct vexfs_inode *vi;
	struct inode *inode;

	inode = iget_locked(sb, attr->ino);
	if (!inode)
		return ERR_PTR(-ENOMEM);
	if (!(compat_inode_state(inode) & I_NEW)) {
		if (vexfs_inode_is(inode, attr))
			return inode;
		vexfs_err(m, "inode %llu became another file\n", attr->ino);
		iput(inode);
		return ERR_PTR(-EIO);
	}

	vi = vexfs_i(inode);
	inode->i_generation = attr->generation;
	inode->i_mode = attr->mode;
	inode->i_rdev = new_decode_dev(attr->device);
	inode_set_atime_to_ts(inode, ns_to_timespec64(attr->accessed));
	inode_set_mtime_to_ts(inode, ns_to_timespec64(attr->modified));
	inode_set_ctime_to_ts(inode, ns_to_timespec64(attr->changed));
	vi->known_atime = attr->accessed;
	vi->known_mtime = attr->modified;
	vi->known_ctime = attr->changed;
	vi->created = true;
	vexfs_inode_learn(inode, attr);
	i_size_write(inode, attr->size);
	vexfs_inode_setup(inode);
	/*
	 * While the answer travelled, the inode may have been here by another
	 * name, changed, and forgotten: then the answer is old.
	 */
	vi->trust = stamp.trust;
	if (stamp.evicted != atomic64_read(&m->evicted))
		vi->trust--;
	unlock_new_inode(inode);
	return inode;
}
