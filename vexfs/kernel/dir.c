// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reading directories.
 *
 * Positions: 0 is ".", 1 is "..", 2 the start of the entries; beyond that a
 * position is the server's cookie of the entry before, which is above 0xff.
 * A reply is kept with the open file, so that a reply that is larger than the
 * application's buffer is asked for once.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/pagemap.h>
#include <linux/slab.h>

#include "call.h"

#define DIR_START	2
#define COOKIE_FIRST	0x100
#define REPLY_BYTES	(64 << 10)

/* Of an open directory; under the directory's i_rwsem and f_pos_lock. */
struct vexfs_open_dir {
	struct vexfs_call *call;	/* its answer is what is left, or NULL */
	u32 left;			/* entries in it */
	bool end;			/* nothing follows them */
	u64 next;			/* position they go on from */
};

static int vexfs_dir_open(struct inode *inode, struct file *file)
{
	struct vexfs_open_dir *open = kzalloc(sizeof(*open), GFP_KERNEL);

	if (!open)
		return -ENOMEM;
	file->private_data = open;
	return 0;
}

static void vexfs_dir_forget(struct vexfs_open_dir *open)
{
	if (open->call)
		vexfs_call_put(open->call);
	open->call = NULL;
}

static int vexfs_dir_release(struct inode *inode, struct file *file)
{
	vexfs_dir_forget(file->private_data);
	kfree(file->private_data);
	return 0;
}

static int vexfs_dir_ask(struct inode *inode, struct vexfs_open_dir *open,
			 u64 position)
{
	const struct vexfs_listing *listing;
	struct vexfs_readdir *readdir;
	struct vexfs_call *call;
	int err;

	vexfs_dir_forget(open);
	call = vexfs_call_new(vexfs_mount(inode->i_sb), VEXFS_READDIR,
			      sizeof(*readdir), REPLY_BYTES);
	if (IS_ERR(call))
		return PTR_ERR(call);
	call->killable = true;
	readdir = call->payload;
	readdir->ino = to64(vexfs_ino(inode));
	readdir->cookie = to64(position == DIR_START ? 0 : position);
	call->length = sizeof(*readdir);
	err = vexfs_call(call);
	if (!err) {
		listing = vexfs_take(&call->answer, sizeof(*listing));
		err = listing ? 0 : -EIO;
	}
	if (err) {
		vexfs_call_put(call);
		return err;
	}
	open->call = call;
	open->left = le32(listing->count);
	open->end = le32(listing->end);
	open->next = position;
	return 0;
}

/* Checks and emits the next entry. 1: the application's buffer is full. */
static int vexfs_dir_emit(struct inode *inode, struct vexfs_open_dir *open,
			  struct dir_context *ctx)
{
	struct vexfs_reader rest = open->call->answer;
	const struct vexfs_dirent *entry;
	const char *name;
	u64 cookie;
	u16 length;

	entry = vexfs_take(&rest, sizeof(*entry));
	if (!entry)
		return -EIO;
	length = le16(entry->length);
	cookie = le64(entry->cookie);
	name = vexfs_take(&rest, round_up(length, 8));
	/* Cookies grow: a listing comes to an end whatever the server says. */
	if (!name || !vexfs_name_ok(name, length) || !le64(entry->ino) ||
	    cookie < COOKIE_FIRST || cookie > S64_MAX || cookie <= open->next)
		return -EIO;
	if (!dir_emit(ctx, name, length, le64(entry->ino), entry->kind & 15))
		return 1;
	open->call->answer = rest;
	open->left--;
	open->next = cookie;
	ctx->pos = cookie;
	return 0;
}

static int vexfs_dir_iterate(struct file *file, struct dir_context *ctx)
{
	struct vexfs_open_dir *open = file->private_data;
	struct inode *inode = file_inode(file);
	int err;

	if (ctx->pos < DIR_START) {
		if (!dir_emit_dots(file, ctx))
			return 0;
		/* From the start: what comes is what is there now. */
		vexfs_dir_forget(open);
	}
	for (;;) {
		if (!open->call || open->next != ctx->pos ||
		    (!open->left && !open->end)) {
			err = vexfs_dir_ask(inode, open, ctx->pos);
			if (err)
				return err;
			if (!open->left && !open->end)
				break;
		}
		if (!open->left)
			return 0;
		err = vexfs_dir_emit(inode, open, ctx);
		if (err > 0)
			return 0;
		if (err)
			break;
	}
	vexfs_dir_forget(open);
	atomic64_inc(&vexfs_mount(inode->i_sb)->counters.hostile);
	vexfs_err(vexfs_mount(inode->i_sb),
		  "the listing of directory %llu makes no sense\n",
		  vexfs_ino(inode));
	return -EIO;
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
