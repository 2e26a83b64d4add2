// SPDX-License-Identifier: GPL-2.0-only
/*
 * Blocks of a sealed image, checked.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/buffer_head.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "sealed.h"

#if VEXFS_HAS_SYSFS
static unsigned int vexfs_damage_limit;
module_param_named(damage_limit, vexfs_damage_limit, uint, 0644);
MODULE_PARM_DESC(damage_limit, "so much damage ends the mount of a sealed image; 0: never");

/* Whether a mount still reads: one that met too much damage ends it. */
bool vexfs_sealed_usable(const struct vexfs_sealed *s)
{
	unsigned int limit = READ_ONCE(vexfs_damage_limit);

	return !limit || atomic64_read(&s->damaged) < limit;
}
#else
bool vexfs_sealed_usable(const struct vexfs_sealed *s)
{
	return true;
}
#endif

int vexfs_sealed_damaged(struct vexfs_sealed *s, u64 at, const char *what)
{
	atomic64_inc(&s->damaged);
	pr_err_ratelimited("%s: block %llu %s: the image is damaged\n", s->name,
			   at, what);
	return -EFSCORRUPTED;
}

int vexfs_sealed_inode_damaged(struct vexfs_sealed *s, u64 ino,
			       const char *what)
{
	atomic64_inc(&s->damaged);
	pr_err_ratelimited("%s: inode %llu %s: the image is damaged\n", s->name,
			   ino, what);
	return -EFSCORRUPTED;
}

/* A copy of a block, to be given to kfree(). */
void *vexfs_sealed_copy(struct vexfs_sealed *s, u64 at)
{
	struct buffer_head *bh;
	void *block;

	if (!vexfs_sealed_usable(s))
		return ERR_PTR(-EIO);
	if (at >= s->blocks)
		return ERR_PTR(vexfs_sealed_damaged(s, at, "does not exist"));
	bh = sb_bread(s->sb, at);
	if (!bh) {
		atomic64_inc(&s->failed);
		pr_err_ratelimited("%s: block %llu cannot be read\n", s->name,
				   at);
		return ERR_PTR(-EIO);
	}
	block = kmemdup(bh->b_data, VEXFS_SEALED_BLOCK, GFP_NOFS);
	brelse(bh);
	return block ? block : ERR_PTR(-ENOMEM);
}

/* A block of metadata: it is whole, and the one that belongs there. */
void *vexfs_sealed_block(struct vexfs_sealed *s, u64 at, u16 kind, u64 owner,
			 u32 index)
{
	struct vexfs_sealed_head *head = vexfs_sealed_copy(s, at);
	const char *wrong = NULL;

	if (IS_ERR(head))
		return head;
	if (head->magic != cpu_to_le32(VEXFS_SEALED_HEAD_MAGIC) ||
	    le32_to_cpu(head->crc) !=
	    vexfs_crc(head, VEXFS_SEALED_BLOCK,
		      offsetof(struct vexfs_sealed_head, crc)))
		wrong = "does not match its checksum";
	else if (le64_to_cpu(head->at) != at ||
		 le16_to_cpu(head->kind) != kind ||
		 le64_to_cpu(head->owner) != owner ||
		 le32_to_cpu(head->index) != index)
		wrong = "is not the one that belongs there";
	if (!wrong)
		return head;
	kfree(head);
	return ERR_PTR(vexfs_sealed_damaged(s, at, wrong));
}

/* Some of @total bytes that are in blocks of their own from @at on. */
int vexfs_sealed_bytes(struct vexfs_sealed *s, u64 at, u64 owner, u32 total,
		       u32 from, void *to, u32 count)
{
	while (count) {
		u32 index = from / VEXFS_SEALED_PAYLOAD;
		u32 start = from % VEXFS_SEALED_PAYLOAD;
		u32 here = min(total - index * VEXFS_SEALED_PAYLOAD,
			       VEXFS_SEALED_PAYLOAD);
		u32 some = min(count, here - start);
		void *block = vexfs_sealed_block(s, at + index,
						 VEXFS_SEALED_BYTES, owner,
						 index);

		if (IS_ERR(block))
			return PTR_ERR(block);
		if (vexfs_sealed_count(block) != here) {
			kfree(block);
			return vexfs_sealed_damaged(s, at + index,
					"has another number of bytes than it should");
		}
		memcpy(to, block + sizeof(struct vexfs_sealed_head) + start,
		       some);
		kfree(block);
		to += some;
		from += some;
		count -= some;
	}
	return 0;
}
