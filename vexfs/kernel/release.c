// SPDX-License-Identifier: GPL-2.0-only
/*
 * Telling the server that a file without names is not used any more.
 *
 * Inodes are evicted wherever their last user leaves, also where memory is
 * reclaimed: nobody there may wait for the server. So they are listed, and a
 * work item tells. What cannot be listed or told stays until the session ends,
 * which releases everything.
 */

#include <linux/slab.h>

#include "call.h"
#include "post.h"

struct vexfs_release {
	struct list_head list;
	u64 ino;
	u32 generation;
	bool named;		/* only its window goes */
};

static struct vexfs_release *vexfs_release_next(struct vexfs_mount *m)
{
	struct vexfs_release *release;

	spin_lock(&m->release_lock);
	release = list_first_entry_or_null(&m->release_list,
					   struct vexfs_release, list);
	if (release)
		list_del(&release->list);
	spin_unlock(&m->release_lock);
	return release;
}

static int vexfs_release_post(struct vexfs_mount *m, u64 ino)
{
	u8 bytes[32];
	struct vexfs_writer ops = {
		.start = bytes,
		.at = bytes,
		.end = bytes + sizeof(bytes),
	};

	vexfs_op_purge(&ops, ino);
	return vexfs_post(m, &ops);
}

static void vexfs_release_work(struct work_struct *work)
{
	struct vexfs_mount *m = container_of(work, struct vexfs_mount,
					     release_work);
	struct vexfs_release *release;

	while ((release = vexfs_release_next(m))) {
		struct vexfs_call *call;

		if (!release->named && !vexfs_release_post(m, release->ino)) {
			kfree(release);
			continue;
		}
		call = vexfs_call_new(m, VEXFS_RELEASE,
					sizeof(struct vexfs_inode_ref), 0);

		if (!IS_ERR(call)) {
			vexfs_call_inode(call, release->ino,
					 release->generation);
			vexfs_call(call);
			vexfs_call_put(call);
		}
		kfree(release);
	}
}

void vexfs_release_later(struct vexfs_mount *m, u64 ino, u32 generation,
			 bool named)
{
	struct vexfs_release *release = kmalloc(sizeof(*release), GFP_NOFS);

	if (!release)
		return;
	release->ino = ino;
	release->generation = generation;
	release->named = named;
	spin_lock(&m->release_lock);
	list_add_tail(&release->list, &m->release_list);
	spin_unlock(&m->release_lock);
	queue_work(m->wq, &m->release_work);
}

/* The session is about to end. */
void vexfs_release_drop(struct vexfs_mount *m)
{
	struct vexfs_release *release;

	cancel_work_sync(&m->release_work);
	while ((release = vexfs_release_next(m)))
		kfree(release);
}

void vexfs_release_init(struct vexfs_mount *m)
{
	spin_lock_init(&m->release_lock);
	INIT_LIST_HEAD(&m->release_list);
	INIT_WORK(&m->release_work, vexfs_release_work);
}
