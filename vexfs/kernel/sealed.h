/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Mounts of sealed images: files that are only read, without a server. See
 * vexfs_sealed.h for the bytes.
 *
 * Every block of metadata is copied before it is looked at, so that what was
 * checked is what is used, whoever else writes to the device. Nothing in it is
 * believed: what does not fit is -EFSCORRUPTED and a line in the log.
 */
#ifndef VEXFS_SEALED_MOUNT_H
#define VEXFS_SEALED_MOUNT_H

#include <linux/completion.h>
#include <linux/errno.h>
#include <linux/fs.h>
#include <linux/kobject.h>
#include <linux/workqueue.h>

#include "checks.h"
#include "compat.h"
#include "variant.h"
#include "vexfs_sealed.h"

#ifndef EFSCORRUPTED
#define EFSCORRUPTED	EUCLEAN
#endif

#define VEXFS_SEALED_BITS	12

/* A mounted image. Constant but for the counters. */
struct vexfs_sealed {
	struct super_block *sb;
	char name[32];			/* of the device, for messages */
	u64 blocks;
	u64 body_end;
	u32 inodes;
	u64 inodes_at;
	u64 sums_at;
	bool summed;			/* blocks of files have checksums */

	atomic64_t damaged;		/* damage that was met */
	atomic64_t failed;		/* reads that the device refused */
	atomic64_t read_bytes;		/* of files, from the device */
	struct kobject kobj;
	struct completion kobj_gone;
};

struct vexfs_sealed_node {
	struct vexfs_sealed_inode disk;	/* as in the image, checked */
	struct inode vfs_inode;
};

/* A stretch of a file. */
struct vexfs_sealed_map {
	u64 from;			/* block of the file */
	u64 at;				/* block of the image; 0: a hole */
	u64 count;			/* blocks; of the last hole: very many */
};

static inline struct vexfs_sealed *vexfs_sealed(const struct super_block *sb)
{
	return sb->s_fs_info;
}

static inline struct vexfs_sealed_node *vexfs_sealed_n(const struct inode *inode)
{
	return container_of(inode, struct vexfs_sealed_node, vfs_inode);
}

/* sealed.c */
extern struct workqueue_struct *vexfs_sealed_wq;
bool vexfs_sealed_is(const void *block);
bool vexfs_is_sealed(const struct super_block *sb);
int vexfs_sealed_fill_super(struct super_block *sb, struct fs_context *fc);
int vexfs_sealed_reconfigure(struct fs_context *fc);
int vexfs_sealed_init(void);
void vexfs_sealed_exit(void);

/* sealed_block.c */
int vexfs_sealed_damaged(struct vexfs_sealed *s, u64 at, const char *what);
int vexfs_sealed_inode_damaged(struct vexfs_sealed *s, u64 ino,
			       const char *what);
bool vexfs_sealed_usable(const struct vexfs_sealed *s);
void *vexfs_sealed_copy(struct vexfs_sealed *s, u64 at);
void *vexfs_sealed_block(struct vexfs_sealed *s, u64 at, u16 kind, u64 owner,
			 u32 index);
int vexfs_sealed_bytes(struct vexfs_sealed *s, u64 at, u64 owner, u32 total,
		       u32 from, void *to, u32 count);

static inline u16 vexfs_sealed_count(const void *block)
{
	return le16_to_cpu(((const struct vexfs_sealed_head *)block)->count);
}

/* Whether blocks are some of files and directories. */
static inline bool vexfs_sealed_inside(const struct vexfs_sealed *s, u64 at,
				       u64 count)
{
	return at && at < s->body_end && count <= s->body_end - at;
}

/* sealed_inode.c */
extern const struct inode_operations vexfs_sealed_inode_operations;
struct inode *vexfs_sealed_iget(struct super_block *sb, u64 ino);
int vexfs_sealed_getattr(struct mnt_idmap *idmap, const struct path *path,
			 struct kstat *stat, u32 request_mask,
			 unsigned int flags);

/* sealed_dir.c */
extern const struct inode_operations vexfs_sealed_dir_inode_operations;
extern const struct file_operations vexfs_sealed_dir_operations;
extern const struct export_operations vexfs_sealed_export_operations;

/* sealed_file.c */
extern const struct inode_operations vexfs_sealed_file_inode_operations;
extern const struct file_operations vexfs_sealed_file_operations;
extern const struct iomap_ops vexfs_sealed_iomap_ops;
extern const struct address_space_operations vexfs_sealed_address_operations;

/* sealed_xattr.c */
extern const struct xattr_handler * const vexfs_sealed_xattr_handlers[];
ssize_t vexfs_sealed_listxattr(struct dentry *dentry, char *list, size_t size);
struct posix_acl *vexfs_sealed_get_acl(struct inode *inode, int type, bool rcu);

/* sealed_sysfs.c */
#if VEXFS_HAS_SYSFS
int vexfs_sealed_sysfs_add(struct vexfs_sealed *s);
void vexfs_sealed_sysfs_remove(struct vexfs_sealed *s);
#else
static inline int vexfs_sealed_sysfs_add(struct vexfs_sealed *s)
{
	return 0;
}

static inline void vexfs_sealed_sysfs_remove(struct vexfs_sealed *s)
{
}
#endif

#endif /* VEXFS_SEALED_MOUNT_H */
