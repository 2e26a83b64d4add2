// SPDX-License-Identifier: GPL-2.0-only
/*
 * Listings with attributes taken into the caches of names and inodes.
 *
 * Who lists a directory looks at what is in it next, and who looks a few of its
 * files up looks more of them up. So the first reply of a listing has
 * attributes, and every few lookups that had to ask are followed by a piece of
 * the directory, until the cache has all of it. From then on the directory is
 * complete: no name of it is asked for, not even one that does not exist.
 *
 * What makes it complete is that every reply from its start to its end was taken
 * in while no name left the cache, in one trust of the mount. Names that come
 * meanwhile come through this mount, and are in the cache.
 */

#include <linux/dcache.h>

#include "listing.h"

/* Lookups that ask, for each piece. */
#define LOOKUPS		8

bool vexfs_dir_complete(const struct inode *dir)
{
	const struct vexfs_inode *vi = vexfs_i(dir);

	/* Pairs with vexfs_fill_end(). */
	return smp_load_acquire(&vi->complete) ==
		       READ_ONCE(vexfs_mount(dir->i_sb)->trust) + 1ULL &&
	       READ_ONCE(vi->complete_lost) == atomic64_read(&vi->lost);
}

void vexfs_dir_born(struct inode *dir)
{
	struct vexfs_inode *vi = vexfs_i(dir);

	vi->complete_lost = atomic64_read(&vi->lost);
	vi->complete = vi->trust + 1ULL;
}

void vexfs_dir_doubt(struct inode *dir)
{
	atomic64_inc(&vexfs_i(dir)->lost);
}

/* A dentry that was in the cache: whether it says what the server says. */
static bool vexfs_fill_known(struct dentry *dentry,
			     const struct vexfs_entry *entry,
			     struct vexfs_stamp stamp)
{
	const struct inode *inode = d_inode(dentry);

	if (!inode || vexfs_ino(inode) != entry->ino)
		return false;
	if (stamp.trust == READ_ONCE(vexfs_mount(dentry->d_sb)->trust))
		dentry->d_time = stamp.trust;
	return true;
}

/* Whether the cache has the name now. */
static bool vexfs_fill_name(struct dentry *dir, const struct vexfs_entry *entry,
			    struct vexfs_stamp stamp)
{
	struct qstr name = QSTR_INIT(entry->name, entry->length);
	struct dentry *dentry, *alias;
	struct inode *inode;
	bool known = false;
	COMPAT_D_WAIT(wait);

	/* What the server has by that name is not looked up. */
	if (vexfs_query_is_name(d_inode(dir), entry->name, entry->length))
		return true;
	name.hash = full_name_hash(dir, name.name, name.len);
	dentry = d_lookup(dir, &name);
	if (!dentry && !entry->attr_err) {
		dentry = compat_d_alloc_parallel(dir, &name, &wait);
		if (IS_ERR(dentry))
			return false;
	}
	if (!dentry)
		return false;
	if (!d_in_lookup(dentry)) {
		known = vexfs_fill_known(dentry, entry, stamp);
		dput(dentry);
		return known;
	}

	inode = vexfs_iget(dir->d_sb, &entry->attr, stamp);
	if (!IS_ERR(inode)) {
		dentry->d_time = stamp.trust;
		alias = d_splice_alias(inode, dentry);
		known = !IS_ERR(alias);
		if (known && alias) {
			alias->d_time = stamp.trust;
			dput(alias);
		}
	}
	d_lookup_done(dentry);
	dput(dentry);
	return known;
}

/* Whether the cache has all names before a position. */
static bool vexfs_filled_until(const struct vexfs_inode *vi, u64 position,
			       unsigned int trust)
{
	return READ_ONCE(vi->filled) == position &&
	       vi->filled_trust == trust &&
	       vi->filled_lost == atomic64_read(&vi->lost);
}

/* The reply ended at a position, and the cache has all of it, or not. */
static void vexfs_fill_end(struct vexfs_inode *vi,
			   const struct vexfs_list *list, bool all, u64 end)
{
	if (list->next == VEXFS_DIR_START) {
		vi->filled_trust = list->stamp.trust;
		vi->filled_lost = list->lost;
	} else if (!vexfs_filled_until(vi, list->next, list->stamp.trust)) {
		return;
	}
	WRITE_ONCE(vi->filled, all && !list->end ? end : 0);
	if (!all || !list->end)
		return;
	WRITE_ONCE(vi->complete_lost, vi->filled_lost);
	/* Pairs with vexfs_dir_complete(). */
	smp_store_release(&vi->complete, vi->filled_trust + 1ULL);
}

void vexfs_fill(struct dentry *dir, const struct vexfs_list *list)
{
	struct inode *inode = d_inode(dir);
	struct vexfs_inode *vi = vexfs_i(inode);
	struct vexfs_list rest = *list;
	struct vexfs_entry entry;
	bool all = true;

	while (rest.left) {
		if (vexfs_list_look(&rest, inode, &entry))
			return;
		all &= vexfs_fill_name(dir, &entry, list->stamp);
		vexfs_list_pass(&rest, &entry);
		cond_resched();
	}
	spin_lock(&vi->fill_lock);
	vexfs_fill_end(vi, list, all, rest.next);
	spin_unlock(&vi->fill_lock);
}

void vexfs_fill_ahead(struct dentry *dir)
{
	struct vexfs_inode *vi = vexfs_i(d_inode(dir));
	struct vexfs_list list = {};
	u64 from;

	if (atomic_inc_return(&vi->asked) % LOOKUPS)
		return;
	spin_lock(&vi->fill_lock);
	from = vi->filled;
	if (!vexfs_filled_until(vi, from, READ_ONCE(vexfs_mount(dir->d_sb)->trust)))
		from = 0;
	spin_unlock(&vi->fill_lock);
	/* Without an answer the names are asked for when they are wanted. */
	if (vexfs_list_ask(d_inode(dir), &list, from ?: VEXFS_DIR_START, true))
		return;
	vexfs_fill(dir, &list);
	vexfs_list_drop(&list);
}
