// SPDX-License-Identifier: GPL-2.0-only
/*
 * Asking for listings of directories, and reading what the server sends. None
 * of it is trusted.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "listing.h"

/* The server's cookies of entries are above the positions that are not its. */
#define COOKIE_FIRST	0x100
#define REPLY_BYTES	(64 << 10)

void vexfs_list_drop(struct vexfs_list *list)
{
	if (list->call)
		vexfs_call_put(list->call);
	list->call = NULL;
}

static int vexfs_list_nonsense(struct vexfs_mount *m, const struct inode *dir)
{
	atomic64_inc(&m->counters.hostile);
	vexfs_err(m, "the listing of directory %llu makes no sense\n",
		  vexfs_ino(dir));
	return -EIO;
}

int vexfs_list_ask(struct inode *dir, struct vexfs_list *list, u64 position,
		   bool attributes)
{
	struct vexfs_mount *m = vexfs_mount(dir->i_sb);
	const struct vexfs_listing *listing;
	struct vexfs_readdir *readdir;
	struct vexfs_call *call;
	int err;

	vexfs_list_drop(list);
	call = vexfs_call_new(m, VEXFS_READDIR, sizeof(*readdir), REPLY_BYTES);
	if (IS_ERR(call))
		return PTR_ERR(call);
	call->killable = true;
	readdir = call->payload;
	readdir->ino = to64(vexfs_ino(dir));
	readdir->cookie = to64(position == VEXFS_DIR_START ? 0 : position);
	readdir->attributes = to32(attributes);
	call->length = sizeof(*readdir);

	list->stamp = vexfs_stamp(m);
	list->lost = atomic64_read(&vexfs_i(dir)->lost);
	err = vexfs_call(call);
	if (err)
		goto put;
	listing = vexfs_take(&call->answer, sizeof(*listing));
	if (!listing || (!listing->count && !listing->end)) {
		err = vexfs_list_nonsense(m, dir);
		goto put;
	}
	list->call = call;
	list->rest = call->answer;
	list->left = le32(listing->count);
	list->end = le32(listing->end);
	list->attributes = attributes;
	list->next = position;
	return 0;

put:
	vexfs_call_put(call);
	return err;
}

static bool vexfs_list_parse(const struct vexfs_list *list,
			     struct vexfs_entry *entry)
{
	const struct vexfs_dirent *wire;

	entry->rest = list->rest;
	wire = vexfs_take(&entry->rest, sizeof(*wire));
	if (!wire)
		return false;
	entry->length = le16(wire->length);
	entry->ino = le64(wire->ino);
	entry->next = le64(wire->cookie);
	entry->kind = wire->kind & 15;
	entry->name = vexfs_take(&entry->rest, round_up(entry->length, 8));
	/* Cookies grow: a listing comes to an end whatever the server says. */
	if (!entry->name || !vexfs_name_ok(entry->name, entry->length) ||
	    !entry->ino || entry->next < COOKIE_FIRST ||
	    entry->next > S64_MAX || entry->next <= list->next)
		return false;
	entry->attr_err = -ENOENT;
	if (!list->attributes)
		return true;
	entry->attr_err = vexfs_take_attr(&entry->rest, list->call->mount,
					  &entry->attr);
	return entry->attr_err ? entry->attr_err == -ENOENT :
				 entry->attr.ino == entry->ino;
}

int vexfs_list_look(const struct vexfs_list *list, const struct inode *dir,
		    struct vexfs_entry *entry)
{
	return vexfs_list_parse(list, entry) ? 0 :
	       vexfs_list_nonsense(list->call->mount, dir);
}

void vexfs_list_pass(struct vexfs_list *list, const struct vexfs_entry *entry)
{
	list->rest = entry->rest;
	list->left--;
	list->next = entry->next;
}
