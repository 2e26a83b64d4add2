// SPDX-License-Identifier: GPL-2.0-only
/*
 * Inodes of sealed images, and symbolic links.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/fs.h>
#include <linux/kdev_t.h>
#include <linux/pagemap.h>
#include <linux/posix_acl.h>
#include <linux/slab.h>
#include <linux/stat.h>
#include <linux/xattr.h>

#include "sealed.h"

/* What cannot be in an inode, or NULL. */
static const char *vexfs_sealed_wrong(const struct vexfs_sealed *s,
				      const struct vexfs_sealed_inode *disk,
				      u64 ino)
{
	u16 mode = le16_to_cpu(disk->mode);
	u64 size = le64_to_cpu(disk->size);
	u64 parent = le64_to_cpu(disk->parent);
	u32 blocks = le32_to_cpu(disk->map_blocks);
	u32 count = le32_to_cpu(disk->map_count);
	u32 xattrs = le32_to_cpu(disk->xattrs_bytes);
	u32 wanted = 0;

	if (le64_to_cpu(disk->ino) != ino)
		return "is where another belongs";
	if (!vexfs_kind_ok(mode) || !disk->links ||
	    le32_to_cpu(disk->uid) == U32_MAX ||
	    le32_to_cpu(disk->gid) == U32_MAX)
		return "has no type, no name or no owner";
	if (ino == VEXFS_SEALED_ROOT && !S_ISDIR(mode))
		return "is the root, and no directory";
	switch (mode & S_IFMT) {
	case S_IFREG:
		if (size > MAX_LFS_FILESIZE ||
		    le64_to_cpu(disk->blocks) > U64_MAX >> 3)
			return "is too long";
		if (count > VEXFS_SEALED_INLINE_EXTENTS)
			wanted = (count - 1) / VEXFS_SEALED_BLOCK_EXTENTS + 1;
		break;
	case S_IFDIR:
		wanted = count;
		if (!parent || parent > s->inodes || size > S64_MAX ||
		    (parent == ino) != (ino == VEXFS_SEALED_ROOT))
			return "is in an impossible directory";
		break;
	case S_IFLNK:
		if (!count || count >= PATH_MAX || size != count)
			return "has an impossible target";
		if (count > VEXFS_SEALED_INLINE)
			wanted = (count - 1) / VEXFS_SEALED_PAYLOAD + 1;
		break;
	default:
		if (count || size)
			return "has contents, which its type has not";
	}
	if (blocks != wanted ||
	    (blocks && !vexfs_sealed_inside(s, le64_to_cpu(disk->map_at),
					    blocks)))
		return "has its contents where they cannot be";
	if (xattrs && !vexfs_sealed_inside(s, le64_to_cpu(disk->xattrs_at),
					   (xattrs - 1) /
					   VEXFS_SEALED_PAYLOAD + 1))
		return "has its attributes where they cannot be";
	return NULL;
}

static int vexfs_sealed_load(struct vexfs_sealed *s, u64 ino,
			     struct vexfs_sealed_inode *disk)
{
	u32 index = (ino - 1) / VEXFS_SEALED_BLOCK_INODES;
	u32 slot = (ino - 1) % VEXFS_SEALED_BLOCK_INODES;
	const struct vexfs_sealed_inode *inodes;
	const char *wrong;
	void *block;

	block = vexfs_sealed_block(s, s->inodes_at + index,
				   VEXFS_SEALED_INODES, 0, index);
	if (IS_ERR(block))
		return PTR_ERR(block);
	inodes = block + sizeof(struct vexfs_sealed_head);
	*disk = inodes[slot];
	kfree(block);
	wrong = vexfs_sealed_wrong(s, disk, ino);
	return wrong ? vexfs_sealed_inode_damaged(s, ino, wrong) : 0;
}

static void vexfs_sealed_setup(struct inode *inode,
			       const struct vexfs_sealed_inode *disk)
{
	u32 flags = le32_to_cpu(disk->flags);

	inode->i_mode = le16_to_cpu(disk->mode);
	inode->i_generation = le32_to_cpu(disk->generation);
	i_uid_write(inode, le32_to_cpu(disk->uid));
	i_gid_write(inode, le32_to_cpu(disk->gid));
	set_nlink(inode, le32_to_cpu(disk->links));
	inode_set_atime_to_ts(inode, ns_to_timespec64(le64_to_cpu(disk->accessed)));
	inode_set_mtime_to_ts(inode, ns_to_timespec64(le64_to_cpu(disk->modified)));
	inode_set_ctime_to_ts(inode, ns_to_timespec64(le64_to_cpu(disk->changed)));
	i_size_write(inode, le64_to_cpu(disk->size));
	inode->i_blocks = le64_to_cpu(disk->blocks) << (VEXFS_SEALED_BITS - SECTOR_SHIFT);
	if (flags & FS_IMMUTABLE_FL)
		inode->i_flags |= S_IMMUTABLE;
	if (flags & FS_APPEND_FL)
		inode->i_flags |= S_APPEND;
	if (!disk->xattrs_bytes)
		cache_no_acl(inode);
	switch (inode->i_mode & S_IFMT) {
	case S_IFREG:
		inode->i_op = &vexfs_sealed_file_inode_operations;
		inode->i_fop = &vexfs_sealed_file_operations;
		inode->i_mapping->a_ops = &vexfs_sealed_address_operations;
		mapping_set_large_folios(inode->i_mapping);
		break;
	case S_IFDIR:
		inode->i_op = &vexfs_sealed_dir_inode_operations;
		inode->i_fop = &vexfs_sealed_dir_operations;
		break;
	case S_IFLNK:
		inode->i_op = &vexfs_sealed_inode_operations;
		break;
	default:
		inode->i_op = &vexfs_sealed_inode_operations;
		init_special_inode(inode, inode->i_mode,
				   new_decode_dev(le32_to_cpu(disk->device)));
	}
}

struct inode *vexfs_sealed_iget(struct super_block *sb, u64 ino)
{
	struct vexfs_sealed *s = vexfs_sealed(sb);
	struct vexfs_sealed_node *node;
	struct inode *inode;
	int err;

	if (!ino || ino > s->inodes)
		return ERR_PTR(vexfs_sealed_inode_damaged(s, ino,
							  "does not exist"));
	inode = iget_locked(sb, ino);
	if (!inode)
		return ERR_PTR(-ENOMEM);
	if (!(compat_inode_state(inode) & I_NEW))
		return inode;
	node = vexfs_sealed_n(inode);
	err = vexfs_sealed_load(s, ino, &node->disk);
	if (err) {
		iget_failed(inode);
		return ERR_PTR(err);
	}
	vexfs_sealed_setup(inode, &node->disk);
	unlock_new_inode(inode);
	return inode;
}

int vexfs_sealed_getattr(struct mnt_idmap *idmap, const struct path *path,
			 struct kstat *stat, u32 request_mask,
			 unsigned int flags)
{
	struct inode *inode = d_inode(path->dentry);
	const struct vexfs_sealed_inode *disk = &vexfs_sealed_n(inode)->disk;
	u32 told = le32_to_cpu(disk->flags);

	generic_fillattr(idmap, request_mask, inode, stat);
	stat->result_mask |= STATX_BTIME;
	stat->btime = ns_to_timespec64(le64_to_cpu(disk->born));
	stat->attributes_mask |= STATX_ATTR_COMPRESSED | STATX_ATTR_IMMUTABLE |
				 STATX_ATTR_APPEND | STATX_ATTR_NODUMP;
	if (told & FS_COMPR_FL)
		stat->attributes |= STATX_ATTR_COMPRESSED;
	if (told & FS_IMMUTABLE_FL)
		stat->attributes |= STATX_ATTR_IMMUTABLE;
	if (told & FS_APPEND_FL)
		stat->attributes |= STATX_ATTR_APPEND;
	if (told & FS_NODUMP_FL)
		stat->attributes |= STATX_ATTR_NODUMP;
	return 0;
}

static const char *vexfs_sealed_get_link(struct dentry *dentry,
					 struct inode *inode,
					 struct delayed_call *done)
{
	const struct vexfs_sealed_inode *disk = &vexfs_sealed_n(inode)->disk;
	struct vexfs_sealed *s = vexfs_sealed(inode->i_sb);
	u32 count = le32_to_cpu(disk->map_count);
	char *target;
	int err = 0;

	if (!dentry)
		return ERR_PTR(-ECHILD);
	target = kmalloc(count + 1, GFP_KERNEL);
	if (!target)
		return ERR_PTR(-ENOMEM);
	if (count <= VEXFS_SEALED_INLINE)
		memcpy(target, disk->inline_bytes, count);
	else
		err = vexfs_sealed_bytes(s, le64_to_cpu(disk->map_at),
					 inode->i_ino, count, 0, target, count);
	if (!err && memchr(target, 0, count))
		err = vexfs_sealed_inode_damaged(s, inode->i_ino,
						 "has a target that is no path");
	if (err) {
		kfree(target);
		return ERR_PTR(err);
	}
	target[count] = 0;
	set_delayed_call(done, kfree_link, target);
	return target;
}

/* Symbolic links, device nodes, pipes and sockets. */
const struct inode_operations vexfs_sealed_inode_operations = {
	.get_link	= vexfs_sealed_get_link,
	.getattr	= vexfs_sealed_getattr,
	.listxattr	= vexfs_sealed_listxattr,
	.get_inode_acl	= vexfs_sealed_get_acl,
};
