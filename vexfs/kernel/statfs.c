// SPDX-License-Identifier: GPL-2.0-only
/*
 * How full the pool is.
 *
 * A mount begins with asking. What the server said last is said again for a
 * moment, as long as nothing was posted and nobody called it since, and for any
 * time while it does not answer: df must not fail, or wait, because of one mount
 * among many.
 */

#include <linux/jiffies.h>
#include <linux/statfs.h>

#include "call.h"
#include "credits.h"
#include "post.h"

/* Blocks come back to the pool by themselves as well, so not for ever. */
#define FRESH_MS 1000

static void vexfs_room_remember(struct vexfs_mount *m, u64 posted, u64 calls,
				const struct vexfs_statfs *reply)
{
	struct vexfs_room *room = &m->room;

	spin_lock(&room->lock);
	room->figures = *reply;
	room->posted = posted;
	room->calls = calls;
	room->since = jiffies;
	room->known = true;
	spin_unlock(&room->lock);
}

static u64 vexfs_calls(struct vexfs_mount *m)
{
	return atomic64_read(&m->counters.calls);
}

static bool vexfs_room_recall(struct vexfs_mount *m, struct vexfs_statfs *into)
{
	struct vexfs_room *room = &m->room;
	bool usable;

	spin_lock(&room->lock);
	usable = room->known &&
		 (!vexfs_healthy(m) ||
		  (room->posted == vexfs_posted(m) &&
		   room->calls == vexfs_calls(m) &&
		   time_before(jiffies, room->since + msecs_to_jiffies(FRESH_MS))));
	*into = room->figures;
	spin_unlock(&room->lock);
	return usable;
}

int vexfs_room_ask(struct vexfs_mount *m, struct vexfs_statfs *into)
{
	const struct vexfs_statfs *reply;
	u64 posted = vexfs_posted(m);
	u64 calls = vexfs_calls(m) + 1;
	struct vexfs_call *call;
	int err;

	call = vexfs_call_new(m, VEXFS_STATFS, 0, sizeof(*reply));
	if (IS_ERR(call))
		return PTR_ERR(call);
	call->killable = true;
	err = vexfs_call(call);
	reply = err ? NULL : vexfs_take(&call->answer, sizeof(*reply));
	if (reply) {
		*into = *reply;
		vexfs_room_remember(m, posted, calls, reply);
	} else if (!err) {
		err = -EIO;
	}
	vexfs_call_put(call);
	return err;
}

int vexfs_statfs(struct dentry *dentry, struct kstatfs *st)
{
	struct vexfs_mount *m = vexfs_mount(dentry->d_sb);
	struct vexfs_statfs room;
	u64 spare;
	int err = 0;

	if (!vexfs_room_recall(m, &room)) {
		err = vexfs_room_ask(m, &room);
		/* It may have become clear just now that nobody answers. */
		if (err && err != -EINTR && vexfs_room_recall(m, &room))
			err = 0;
	}
	if (err)
		return err;
	st->f_type = VEXFS_SB_MAGIC;
	st->f_bsize = VEXFS_ABI_BLOCK;
	st->f_frsize = VEXFS_ABI_BLOCK;
	st->f_blocks = le64(room.blocks);
	st->f_bfree = le64(room.free);
	st->f_bavail = le64(room.available);
	/* What is kept for us can be written by anybody here. */
	spare = vexfs_credits_free(m);
	st->f_bfree = min(st->f_bfree + spare, st->f_blocks);
	st->f_bavail = min(st->f_bavail + spare, st->f_blocks);
	st->f_files = le64(room.files);
	st->f_ffree = le64(room.files_free);
	st->f_namelen = VEXFS_NAME_BYTES;
	st->f_fsid = uuid_to_fsid(dentry->d_sb->s_uuid.b);
	return 0;
}
