// SPDX-License-Identifier: GPL-2.0-only
/*
 * Asking for grants: numbers for new inodes, operations that may be posted,
 * blocks that may become dirty.
 *
 * Of numbers the server grants ranges, and the module takes from one at a time.
 * A number is never granted twice, so one that was taken and not used is lost,
 * which is harmless.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "call.h"
#include "credits.h"

/* Numbers asked for at once: at 100,000 files a second ten calls a second. */
#define GRANT_INODES	10000
#define INO_LIMIT	(1ULL << 62)

/* Every reply names the newest range; most name one that is known. */
void vexfs_grant_note(struct vexfs_mount *m, u64 from, u32 count)
{
	unsigned long flags;

	if (!count || from <= VEXFS_ROOT_INO || from >= INO_LIMIT ||
	    count > INO_LIMIT - from)
		return;
	spin_lock_irqsave(&m->grant_spin, flags);
	if (from > m->ino_newest) {
		if (m->ino_next == m->ino_end) {
			m->ino_next = from;
			m->ino_end = from + count;
		} else {
			m->ino_spare = from;
			m->ino_spare_end = from + count;
		}
		m->ino_newest = from + count - 1;
	}
	spin_unlock_irqrestore(&m->grant_spin, flags);
}

/* Grants belong to a session. */
void vexfs_grant_reset(struct vexfs_mount *m)
{
	unsigned long flags;

	spin_lock_irqsave(&m->grant_spin, flags);
	m->ino_next = 0;
	m->ino_end = 0;
	m->ino_spare = 0;
	m->ino_spare_end = 0;
	m->ino_newest = 0;
	spin_unlock_irqrestore(&m->grant_spin, flags);
}

static bool vexfs_grant_take(struct vexfs_mount *m, u64 *ino)
{
	unsigned long flags;
	bool taken;

	spin_lock_irqsave(&m->grant_spin, flags);
	if (m->ino_next == m->ino_end) {
		m->ino_next = m->ino_spare;
		m->ino_end = m->ino_spare_end;
		m->ino_spare = 0;
		m->ino_spare_end = 0;
	}
	taken = m->ino_next < m->ino_end;
	if (taken)
		*ino = m->ino_next++;
	spin_unlock_irqrestore(&m->grant_spin, flags);
	return taken;
}

/* The header of the answer tells what is granted in all. */
static int vexfs_grant_ask(struct vexfs_mount *m, u32 inodes, u64 operations,
			   u64 blocks, bool ordered)
{
	struct vexfs_grant *grant;
	struct vexfs_call *call;
	u64 granted, spent;
	int err;

	call = vexfs_call_new(m, VEXFS_GRANT, sizeof(*grant), 0);
	if (IS_ERR(call))
		return PTR_ERR(call);
	call->apart = !ordered;
	grant = call->payload;
	grant->inodes = to32(inodes);
	grant->meta_credits = to64(operations);
	grant->credits = to64(blocks);
	vexfs_credits_tell(m, &granted, &spent);
	grant->spent = to64(spent);
	call->length = sizeof(*grant);
	err = vexfs_call(call);
	vexfs_call_put(call);
	return err;
}

int vexfs_grant_operations(struct vexfs_mount *m, u64 count)
{
	return vexfs_grant_ask(m, 0, count, 0, false);
}

int vexfs_grant_blocks(struct vexfs_mount *m, u64 count, bool ordered)
{
	return vexfs_grant_ask(m, 0, 0, count, ordered);
}

int vexfs_grant_ino(struct vexfs_mount *m, u64 *ino)
{
	int err;

	if (vexfs_grant_take(m, ino))
		return 0;
	mutex_lock(&m->grant_lock);
	err = vexfs_grant_take(m, ino) ? 0 : -EAGAIN;
	if (err) {
		err = vexfs_grant_ask(m, GRANT_INODES, 0, 0, false);
		if (!err && !vexfs_grant_take(m, ino)) {
			vexfs_err(m, "the server granted no inode numbers\n");
			err = -EIO;
		}
	}
	mutex_unlock(&m->grant_lock);
	return err;
}
