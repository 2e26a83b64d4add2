// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reading directories.
 *
 * Positions: 0 is ".", 1 is "..", 2 the start of the entries; beyond that a
 * position is the server's cookie of the entry before, which is above 0xff.
 * A reply is kept with the open file, so that a reply that is larger than the
 * application's buffer is asked for once.
 */

#include <linux/slab.h>

#include "listing.h"

/* file->private_data, under f_pos_lock. */
static int vexfs_dir_open(struct inode *inode, struct file *file)
{
	struct vexfs_list *list = kzalloc(sizeof(*list), GFP_KERNEL);

	if (!list)
		return -ENOMEM;
	file->private_data = list;
	return 0;
}

static int vexfs_dir_release(struct inode *inode, struct file *file)
{
	vexfs_list_drop(file->private_data);
	kfree(file->private_data);
	return 0;
}

/* The start of a directory comes with attributes: see fill.c. */
static int vexfs_dir_ask(struct file *file, u64 position)
{
	struct inode *inode = file_inode(file);
	struct vexfs_list *list = file->private_data;
	bool attributes = position == VEXFS_DIR_START &&
			  !vexfs_dir_complete(inode);
	int err;

	err = vexfs_list_ask(inode, list, position, attributes);
	if (!err && attributes)
		vexfs_fill(file->f_path.dentry, list);
	return err;
}

static int vexfs_dir_iterate(struct file *file, struct dir_context *ctx)
{
	struct vexfs_list *list = file->private_data;
	struct inode *inode = file_inode(file);
	struct vexfs_entry entry;
	int err;

	if (ctx->pos < VEXFS_DIR_START) {
		if (!dir_emit_dots(file, ctx))
			return 0;
		/* From the start: what comes is what is there now. */
		vexfs_list_drop(list);
	}
	for (;;) {
		if (!list->call || list->next != ctx->pos ||
		    (!list->left && !list->end)) {
			err = vexfs_dir_ask(file, ctx->pos);
			if (err)
				return err;
		}
		if (!list->left)
			return 0;
		err = vexfs_list_look(list, inode, &entry);
		if (err) {
			vexfs_list_drop(list);
			return err;
		}
		/* One of the pool that is not reachable by it. */
		if (!vexfs_query_is_name(inode, entry.name, entry.length) &&
		    !dir_emit(ctx, entry.name, entry.length, entry.ino,
			      entry.kind))
			return 0;
		vexfs_list_pass(list, &entry);
		ctx->pos = list->next;
	}
}

static loff_t vexfs_dir_llseek(struct file *file, loff_t offset, int whence)
{
	return generic_file_llseek_size(file, offset, whence, S64_MAX,
					i_size_read(file_inode(file)));
}

const struct file_operations vexfs_dir_operations = {
	.open		= vexfs_dir_open,
	.release	= vexfs_dir_release,
	.iterate_shared	= vexfs_dir_iterate,
	.llseek		= vexfs_dir_llseek,
	.read		= generic_read_dir,
	.fsync		= vexfs_fsync,
};
