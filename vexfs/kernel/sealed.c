// SPDX-License-Identifier: GPL-2.0-only
/*
 * Superblocks of sealed images.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/blkdev.h>
#include <linux/fs_context.h>
#include <linux/magic.h>
#include <linux/slab.h>
#include <linux/statfs.h>

#include "sealed.h"

static_assert(sizeof(struct vexfs_sealed_super) == VEXFS_SEALED_BLOCK);
static_assert(sizeof(struct vexfs_sealed_head) + VEXFS_SEALED_PAYLOAD ==
	      VEXFS_SEALED_BLOCK);
static_assert(VEXFS_SEALED_BLOCK_INODES * sizeof(struct vexfs_sealed_inode) <=
	      VEXFS_SEALED_PAYLOAD);
static_assert(VEXFS_SEALED_BLOCK_EXTENTS * sizeof(struct vexfs_sealed_extent) <=
	      VEXFS_SEALED_PAYLOAD);
static_assert(VEXFS_SEALED_INLINE_EXTENTS * sizeof(struct vexfs_sealed_extent) <=
	      VEXFS_SEALED_INLINE);

#define VEXFS_SEALED_SB_MAGIC	0x56455853	/* "VEXS" */

/* Checks blocks that have arrived. */
struct workqueue_struct *vexfs_sealed_wq;
static struct kmem_cache *vexfs_sealed_cache;

/* Whether the first bytes of a device are those of an image. */
bool vexfs_sealed_is(const void *block)
{
	const struct vexfs_sealed_super *super = block;

	return super->magic == cpu_to_le64(VEXFS_SEALED_MAGIC);
}

static void vexfs_sealed_node_once(void *object)
{
	struct vexfs_sealed_node *node = object;

	inode_init_once(&node->vfs_inode);
}

static struct inode *vexfs_sealed_alloc_inode(struct super_block *sb)
{
	struct vexfs_sealed_node *node;

	node = alloc_inode_sb(sb, vexfs_sealed_cache, GFP_KERNEL);
	return node ? &node->vfs_inode : NULL;
}

static void vexfs_sealed_free_inode(struct inode *inode)
{
	kmem_cache_free(vexfs_sealed_cache, vexfs_sealed_n(inode));
}

static int vexfs_sealed_statfs(struct dentry *dentry, struct kstatfs *st)
{
	struct vexfs_sealed *s = vexfs_sealed(dentry->d_sb);

	st->f_type = VEXFS_SEALED_SB_MAGIC;
	st->f_bsize = VEXFS_SEALED_BLOCK;
	st->f_frsize = VEXFS_SEALED_BLOCK;
	st->f_blocks = s->blocks;
	st->f_files = s->inodes;
	st->f_namelen = NAME_MAX;
	st->f_fsid = uuid_to_fsid(dentry->d_sb->s_uuid.b);
	return 0;
}

static void vexfs_sealed_put_super(struct super_block *sb)
{
	struct vexfs_sealed *s = vexfs_sealed(sb);

	vexfs_sealed_sysfs_remove(s);
	sb->s_fs_info = NULL;
	kfree(s);
	atomic_dec(&vexfs_mounts);
}

static const struct super_operations vexfs_sealed_super_operations = {
	.alloc_inode	= vexfs_sealed_alloc_inode,
	.free_inode	= vexfs_sealed_free_inode,
	.put_super	= vexfs_sealed_put_super,
	.statfs		= vexfs_sealed_statfs,
};

bool vexfs_is_sealed(const struct super_block *sb)
{
	return sb->s_op == &vexfs_sealed_super_operations;
}

/* Takes the first block. The text says what is wrong with it, or NULL. */
static const char *vexfs_sealed_take(struct vexfs_sealed *s,
				     const struct vexfs_sealed_super *super)
{
	u64 inodes = le64_to_cpu(super->inodes);
	u64 sums = 0;

	if (!vexfs_sealed_is(super))
		return "no sealed image; a pool needs a variant that knows servers";
	if (le32_to_cpu(super->crc) !=
	    vexfs_crc(super, sizeof(*super),
		      offsetof(struct vexfs_sealed_super, crc)))
		return "the first block does not match its checksum";
	if (le16_to_cpu(super->major) != VEXFS_SEALED_MAJOR || super->incompat)
		return "the image is of a newer format than this module knows";
	s->blocks = le64_to_cpu(super->blocks);
	if (s->blocks > bdev_nr_bytes(s->sb->s_bdev) >> VEXFS_SEALED_BITS)
		return "the image has lost its end";
	s->body_end = le64_to_cpu(super->body_end);
	s->inodes_at = le64_to_cpu(super->inodes_at);
	s->sums_at = s->blocks;
	switch (le32_to_cpu(super->sums_kind)) {
	case VEXFS_SEALED_SUMS_NONE:
		break;
	case VEXFS_SEALED_SUMS_CRC32C:
		s->summed = true;
		s->sums_at = le64_to_cpu(super->sums_at);
		break;
	default:
		return "the image has checksums that this module does not know";
	}
	/* One after the other: the body, the inodes, the checksums. */
	if (!inodes || inodes > U32_MAX || !s->body_end ||
	    s->body_end > s->blocks || s->inodes_at != s->body_end)
		return "the first block names places that cannot be";
	s->inodes = inodes;
	if (s->summed)
		sums = div_u64(s->body_end - 1 + VEXFS_SEALED_BLOCK_CHECKSUMS - 1,
			       VEXFS_SEALED_BLOCK_CHECKSUMS);
	if (s->sums_at != s->inodes_at +
	    div_u64(inodes + VEXFS_SEALED_BLOCK_INODES - 1,
		    VEXFS_SEALED_BLOCK_INODES) ||
	    s->sums_at > s->blocks || s->blocks - s->sums_at != sums)
		return "the first block names places that cannot be";
	super_set_uuid(s->sb, super->uuid, sizeof(super->uuid));
	return NULL;
}

static int vexfs_sealed_identify(struct vexfs_sealed *s, struct fs_context *fc)
{
	struct vexfs_sealed_super *super;
	const char *wrong;

	/* The one block that is read before the number of blocks is known. */
	s->blocks = 1;
	super = vexfs_sealed_copy(s, 0);
	if (IS_ERR(super))
		return PTR_ERR(super);
	wrong = vexfs_sealed_take(s, super);
	kfree(super);
	if (!wrong)
		return 0;
	if (!(fc->sb_flags & SB_SILENT))
		pr_err("%s: %s\n", s->name, wrong);
	return -EINVAL;
}

int vexfs_sealed_fill_super(struct super_block *sb, struct fs_context *fc)
{
	struct vexfs_sealed *s;
	struct inode *root;
	int err;

	if (!sb_set_blocksize(sb, VEXFS_SEALED_BLOCK))
		return invalf(fc, "vexfs: blocks of the device are not 4096 bytes");
	s = kzalloc(sizeof(*s), GFP_KERNEL);
	if (!s)
		return -ENOMEM;
	s->sb = sb;
	strscpy(s->name, sb->s_id, sizeof(s->name));
	init_completion(&s->kobj_gone);
	sb->s_fs_info = s;
	err = vexfs_sealed_identify(s, fc);
	if (err)
		goto stop;
	sb->s_flags |= SB_RDONLY | SB_POSIXACL;
	sb->s_magic = VEXFS_SEALED_SB_MAGIC;
	sb->s_op = &vexfs_sealed_super_operations;
	sb->s_xattr = vexfs_sealed_xattr_handlers;
	sb->s_export_op = &vexfs_sealed_export_operations;
	sb->s_maxbytes = MAX_LFS_FILESIZE;
	sb->s_time_gran = 1;
	sb->s_time_min = div_s64(S64_MIN, NSEC_PER_SEC);
	sb->s_time_max = div_s64(S64_MAX, NSEC_PER_SEC);
	root = vexfs_sealed_iget(sb, VEXFS_SEALED_ROOT);
	if (IS_ERR(root)) {
		err = PTR_ERR(root);
		goto stop;
	}
	sb->s_root = d_make_root(root);
	if (!sb->s_root) {
		err = -ENOMEM;
		goto stop;
	}
	/* From here on VFS calls put_super for us. */
	atomic_inc(&vexfs_mounts);
	return vexfs_sealed_sysfs_add(s);

stop:
	sb->s_fs_info = NULL;
	kfree(s);
	return err;
}

int vexfs_sealed_reconfigure(struct fs_context *fc)
{
	if (fc->sb_flags & SB_RDONLY)
		return 0;
	errorf(fc, "vexfs: a sealed image is only read");
	return -EROFS;
}

int vexfs_sealed_init(void)
{
	vexfs_sealed_cache = kmem_cache_create("vexfs_sealed_inode",
					       sizeof(struct vexfs_sealed_node),
					       0, SLAB_RECLAIM_ACCOUNT |
					       SLAB_ACCOUNT,
					       vexfs_sealed_node_once);
	if (!vexfs_sealed_cache)
		return -ENOMEM;
	vexfs_sealed_wq = alloc_workqueue("vexfs_sealed",
					  WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	if (!vexfs_sealed_wq) {
		kmem_cache_destroy(vexfs_sealed_cache);
		return -ENOMEM;
	}
	return 0;
}

void vexfs_sealed_exit(void)
{
	destroy_workqueue(vexfs_sealed_wq);
	/* Inodes are freed after a grace period. */
	rcu_barrier();
	kmem_cache_destroy(vexfs_sealed_cache);
}
