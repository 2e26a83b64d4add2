// SPDX-License-Identifier: GPL-2.0-only
/*
 * File handles, for NFS and open_by_handle_at: inode number and generation, and
 * those of the directory where the caller wants to come back to it.
 */

#include <linux/exportfs.h>
#include <linux/slab.h>

#include "call.h"

struct vexfs_handle {
	u64 ino;
	u32 generation;
} __packed;

#define HANDLE_WORDS	(sizeof(struct vexfs_handle) / 4)

enum {
	FILEID_VEXFS		= 0xe1,
	FILEID_VEXFS_PARENT	= 0xe2,
};

static int vexfs_encode_fh(struct inode *inode, u32 *fh, int *max_len,
			   struct inode *parent)
{
	struct vexfs_handle *handle = (struct vexfs_handle *)fh;
	int words = parent ? 2 * HANDLE_WORDS : HANDLE_WORDS;

	if (vexfs_query_is_ours(inode))
		return FILEID_INVALID;
	if (*max_len < words) {
		*max_len = words;
		return FILEID_INVALID;
	}
	*max_len = words;
	handle[0].ino = vexfs_ino(inode);
	handle[0].generation = inode->i_generation;
	if (!parent)
		return FILEID_VEXFS;
	handle[1].ino = vexfs_ino(parent);
	handle[1].generation = parent->i_generation;
	return FILEID_VEXFS_PARENT;
}

static struct inode *vexfs_by_number(struct super_block *sb, u64 ino,
				     u32 generation)
{
	struct vexfs_mount *m = vexfs_mount(sb);
	struct vexfs_stamp stamp = vexfs_stamp(m);
	struct vexfs_call *call;
	struct vexfs_attr attr;
	struct inode *inode;
	int err;

	if (!ino)
		return ERR_PTR(-ESTALE);
	inode = ilookup(sb, ino);
	if (inode) {
		if (inode->i_generation == generation && inode->i_nlink)
			return inode;
		iput(inode);
		return ERR_PTR(-ESTALE);
	}
	call = vexfs_call_new(m, VEXFS_GETATTR, sizeof(struct vexfs_inode_ref),
			      sizeof(attr) + PAGE_SIZE);
	if (IS_ERR(call))
		return ERR_CAST(call);
	call->killable = true;
	vexfs_call_inode(call, ino, generation);
	err = vexfs_call(call);
	if (!err)
		err = vexfs_take_attr(&call->answer, m, &attr);
	vexfs_call_put(call);
	if (err)
		return ERR_PTR(err == -ENOENT ? -ESTALE : err);
	if (attr.ino != ino || attr.generation != generation || !attr.links)
		return ERR_PTR(-ESTALE);
	return vexfs_iget(sb, &attr, stamp);
}

static struct dentry *vexfs_fh_to_dentry(struct super_block *sb,
					 struct fid *fid, int words, int type)
{
	const struct vexfs_handle *handle = (const void *)fid->raw;

	if ((type != FILEID_VEXFS && type != FILEID_VEXFS_PARENT) ||
	    words < HANDLE_WORDS)
		return NULL;
	return d_obtain_alias(vexfs_by_number(sb, handle[0].ino,
					      handle[0].generation));
}

static struct dentry *vexfs_fh_to_parent(struct super_block *sb,
					 struct fid *fid, int words, int type)
{
	const struct vexfs_handle *handle = (const void *)fid->raw;

	if (type != FILEID_VEXFS_PARENT || words < 2 * HANDLE_WORDS)
		return NULL;
	return d_obtain_alias(vexfs_by_number(sb, handle[1].ino,
					      handle[1].generation));
}

/* The directory that a directory is in. */
static struct dentry *vexfs_get_parent(struct dentry *child)
{
	struct inode *inode = d_inode(child);
	struct vexfs_mount *m = vexfs_mount(inode->i_sb);
	struct vexfs_stamp stamp = vexfs_stamp(m);
	struct vexfs_call *call;
	struct vexfs_attr attr;
	int err;

	call = vexfs_call_new(m, VEXFS_PARENT, sizeof(struct vexfs_inode_ref),
			      sizeof(struct vexfs_parent) + VEXFS_NAME_BYTES);
	if (IS_ERR(call))
		return ERR_CAST(call);
	call->killable = true;
	vexfs_call_inode(call, vexfs_ino(inode), inode->i_generation);
	err = vexfs_call(call);
	if (!err)
		err = vexfs_take_attr(&call->answer, m, &attr);
	vexfs_call_put(call);
	if (err)
		return ERR_PTR(err == -ENOENT ? -ESTALE : err);
	return d_obtain_alias(vexfs_iget(inode->i_sb, &attr, stamp));
}

const struct export_operations vexfs_export_operations = {
	.encode_fh	= vexfs_encode_fh,
	.fh_to_dentry	= vexfs_fh_to_dentry,
	.fh_to_parent	= vexfs_fh_to_parent,
	.get_parent	= vexfs_get_parent,
};
