// SPDX-License-Identifier: GPL-2.0-only
/*
 * Directories of sealed images: their names are sorted, so looking for one halves
 * the blocks and then the names of one block. Also handles of files.
 *
 * Positions: 0 is ".", 1 is "..", then 2 + (block of the directory << 12 | name).
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/exportfs.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "sealed.h"

#define DIR_START	2

struct vexfs_sealed_name {
	u64 ino;
	const char *name;
	u8 length;
	u8 kind;
};

static void *vexfs_sealed_names(struct inode *dir, u32 index)
{
	u64 at = le64_to_cpu(vexfs_sealed_n(dir)->disk.map_at) + index;

	return vexfs_sealed_block(vexfs_sealed(dir->i_sb), at,
				  VEXFS_SEALED_ENTRIES, dir->i_ino, index);
}

/* Name @slot of a block, checked. */
static int vexfs_sealed_name(struct inode *dir, const void *block, u32 slot,
			     struct vexfs_sealed_name *name)
{
	struct vexfs_sealed *s = vexfs_sealed(dir->i_sb);
	u32 head = sizeof(struct vexfs_sealed_head);
	u32 first = head + 2 * vexfs_sealed_count(block);
	const struct vexfs_sealed_entry *entry;
	u32 at = 0;

	if (first <= VEXFS_SEALED_BLOCK)
		at = le16_to_cpup(block + head + 2 * slot);
	if (at < first || at + sizeof(*entry) > VEXFS_SEALED_BLOCK)
		goto damaged;
	entry = block + at;
	name->ino = le64_to_cpu(entry->ino);
	name->name = block + at + sizeof(*entry);
	name->length = entry->length;
	name->kind = entry->kind;
	if (at + sizeof(*entry) + name->length <= VEXFS_SEALED_BLOCK &&
	    vexfs_name_ok(name->name, name->length) && name->kind < 16 &&
	    vexfs_kind_ok(name->kind << 12) && name->ino &&
	    name->ino <= s->inodes)
		return 0;
damaged:
	return vexfs_sealed_inode_damaged(s, dir->i_ino,
					  "has a name that is none");
}

static int vexfs_sealed_compare(const struct qstr *wanted,
				const struct vexfs_sealed_name *name)
{
	int order = memcmp(wanted->name, name->name,
			   min_t(u32, wanted->len, name->length));

	return order ? order : (int)wanted->len - name->length;
}

/*
 * Looks for a name among those of a block. 0: it is there; 1: it would be in a
 * later block; -ENOENT: it is nowhere, or in an earlier block (*before).
 */
static int vexfs_sealed_find_in(struct inode *dir, const void *block,
				const struct qstr *wanted, bool *before,
				struct vexfs_sealed_name *name)
{
	u32 from = 0, until = vexfs_sealed_count(block);
	u32 last = until;

	while (from < until) {
		u32 middle = (from + until) / 2;
		int err = vexfs_sealed_name(dir, block, middle, name);
		int order;

		if (err)
			return err;
		order = vexfs_sealed_compare(wanted, name);
		if (!order)
			return 0;
		if (order < 0)
			until = middle;
		else
			from = middle + 1;
	}
	*before = !from;
	return from == last ? 1 : -ENOENT;
}

static int vexfs_sealed_find(struct inode *dir, const struct qstr *wanted,
			     u64 *ino, u8 *kind)
{
	u32 from = 0, until = le32_to_cpu(vexfs_sealed_n(dir)->disk.map_blocks);
	struct vexfs_sealed_name name;

	while (from < until) {
		u32 middle = from + (until - from) / 2;
		void *block = vexfs_sealed_names(dir, middle);
		bool before = false;
		int err;

		if (IS_ERR(block))
			return PTR_ERR(block);
		err = vexfs_sealed_find_in(dir, block, wanted, &before, &name);
		kfree(block);
		if (!err) {
			*ino = name.ino;
			*kind = name.kind;
			return 0;
		}
		if (err == 1)
			from = middle + 1;
		else if (before)
			until = middle;
		else
			return err;
	}
	return -ENOENT;
}

static struct dentry *vexfs_sealed_lookup(struct inode *dir,
					  struct dentry *dentry,
					  unsigned int flags)
{
	struct vexfs_sealed *s = vexfs_sealed(dir->i_sb);
	struct inode *inode;
	u64 ino;
	u8 kind;
	int err;

	if (dentry->d_name.len > NAME_MAX)
		return ERR_PTR(-ENAMETOOLONG);
	err = vexfs_sealed_find(dir, &dentry->d_name, &ino, &kind);
	if (err == -ENOENT)
		return d_splice_alias(NULL, dentry);
	if (err)
		return ERR_PTR(err);
	inode = vexfs_sealed_iget(dir->i_sb, ino);
	if (IS_ERR(inode))
		return ERR_CAST(inode);
	/* A directory is in one directory only: so there are no circles. */
	if (inode->i_mode >> 12 != kind ||
	    (S_ISDIR(inode->i_mode) &&
	     (ino == VEXFS_SEALED_ROOT ||
	      le64_to_cpu(vexfs_sealed_n(inode)->disk.parent) != dir->i_ino))) {
		iput(inode);
		return ERR_PTR(vexfs_sealed_inode_damaged(s, ino,
				"is not what its directory says"));
	}
	return d_splice_alias(inode, dentry);
}

static int vexfs_sealed_iterate(struct file *file, struct dir_context *ctx)
{
	struct inode *dir = file_inode(file);
	u32 blocks = le32_to_cpu(vexfs_sealed_n(dir)->disk.map_blocks);
	struct vexfs_sealed_name name;

	if (!dir_emit_dots(file, ctx))
		return 0;
	for (;;) {
		u64 place = ctx->pos - DIR_START;
		u64 index = place >> VEXFS_SEALED_BITS;
		u32 slot = place & (VEXFS_SEALED_BLOCK - 1);
		void *block;
		int err = 0;

		if (index >= blocks)
			return 0;
		block = vexfs_sealed_names(dir, index);
		if (IS_ERR(block))
			return PTR_ERR(block);
		for (; slot < vexfs_sealed_count(block); slot++) {
			err = vexfs_sealed_name(dir, block, slot, &name);
			if (err)
				break;
			if (!dir_emit(ctx, name.name, name.length, name.ino,
				      name.kind)) {
				err = 1;
				break;
			}
			ctx->pos++;
		}
		kfree(block);
		if (err)
			return min(err, 0);
		ctx->pos = DIR_START + ((index + 1) << VEXFS_SEALED_BITS);
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
}

static loff_t vexfs_sealed_dir_llseek(struct file *file, loff_t offset,
				      int whence)
{
	return generic_file_llseek_size(file, offset, whence, S64_MAX,
					i_size_read(file_inode(file)));
}

const struct file_operations vexfs_sealed_dir_operations = {
	.iterate_shared	= vexfs_sealed_iterate,
	.llseek		= vexfs_sealed_dir_llseek,
	.read		= generic_read_dir,
};

const struct inode_operations vexfs_sealed_dir_inode_operations = {
	.lookup		= vexfs_sealed_lookup,
	.getattr	= vexfs_sealed_getattr,
	.listxattr	= vexfs_sealed_listxattr,
	.get_inode_acl	= vexfs_sealed_get_acl,
};

static struct inode *vexfs_sealed_by_number(struct super_block *sb, u64 ino,
					    u32 generation)
{
	struct inode *inode;

	/* A handle is not of the image: what it names wrongly is no damage. */
	if (!ino || ino > vexfs_sealed(sb)->inodes)
		return ERR_PTR(-ESTALE);
	inode = vexfs_sealed_iget(sb, ino);
	if (IS_ERR(inode) || !generation || inode->i_generation == generation)
		return inode;
	iput(inode);
	return ERR_PTR(-ESTALE);
}

static struct dentry *vexfs_sealed_fh_to_dentry(struct super_block *sb,
						struct fid *fid, int words,
						int type)
{
	return generic_fh_to_dentry(sb, fid, words, type,
				    vexfs_sealed_by_number);
}

static struct dentry *vexfs_sealed_fh_to_parent(struct super_block *sb,
						struct fid *fid, int words,
						int type)
{
	return generic_fh_to_parent(sb, fid, words, type,
				    vexfs_sealed_by_number);
}

static struct dentry *vexfs_sealed_get_parent(struct dentry *child)
{
	struct inode *inode = d_inode(child);

	return d_obtain_alias(vexfs_sealed_iget(inode->i_sb,
			le64_to_cpu(vexfs_sealed_n(inode)->disk.parent)));
}

const struct export_operations vexfs_sealed_export_operations = {
	.encode_fh	= generic_encode_ino32_fh,
	.fh_to_dentry	= vexfs_sealed_fh_to_dentry,
	.fh_to_parent	= vexfs_sealed_fh_to_parent,
	.get_parent	= vexfs_sealed_get_parent,
};
