/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Data credits: room in the pool for blocks that are dirty in the page cache, so
 * that write(2) learns of a full pool, and writing back does not.
 *
 * A block takes a credit when a write is about to make it dirty, and is marked
 * in its inode (vexfs_inode.delayed). When its page goes to be written back, the
 * mark goes and the credit is under way; when the write has ended, whatever its
 * result, the credit is spent. A dirty page that is dropped gives it back. The
 * page's lock orders marks and writeback; who made a mark before it had the
 * lock finds out by vexfs_inode.delayed_seq that writeback was quicker.
 *
 * A direct write takes credits while it is under way: the server cannot tell it
 * from writing back, and would give it room that is kept for dirty pages.
 */
#ifndef VEXFS_CREDITS_H
#define VEXFS_CREDITS_H

#include "vexfs.h"

void vexfs_credits_init(struct vexfs_mount *m);
/* With a session everything begins anew. */
void vexfs_credits_reset(struct vexfs_mount *m);
void vexfs_credits_stop(struct vexfs_mount *m);
/* What replies of a server tell. Any context. */
void vexfs_credits_note(struct vexfs_mount *m, u64 epoch, u64 granted);
/*
 * A server has answered that knows what it granted: what it grants from now on
 * counts. 0: one is about to be told, and nobody's counts until it answers.
 */
void vexfs_credits_from(struct vexfs_mount *m, u64 epoch);
/* What a new server, or one that is asked for more, is told. */
void vexfs_credits_tell(struct vexfs_mount *m, u64 *granted, u64 *spent);
/* Blocks of the pool that are kept for us and not needed now. */
u64 vexfs_credits_free(struct vexfs_mount *m);
/* Blocks that are dirty, or under way to the server. */
u64 vexfs_credits_held(struct vexfs_mount *m);

/*
 * Before blocks become dirty: how many of them, from @first on, have credits
 * now; at least one. -ENOSPC, -EAGAIN with @nowait, -EIO, -ENOMEM.
 */
s64 vexfs_delay(struct inode *inode, u64 first, u64 count, bool nowait);
/*
 * Before blocks are written directly: all of them have credits, which
 * vexfs_delay_ended() takes. 0, or it fails as above.
 */
int vexfs_delay_direct(struct inode *inode, u64 first, u64 count, bool nowait);
/* They go to be written back; also if they had none. Under the page's lock. */
void vexfs_delay_ends(struct inode *inode, u64 first, u64 count);
/* They were dropped from the cache; nobody makes them dirty at the same time. */
void vexfs_delay_dropped(struct inode *inode, u64 first, u64 count);
/* The file was cut. */
static inline void vexfs_delay_dropped_from(struct inode *inode, loff_t size)
{
	u64 first = DIV_ROUND_UP_ULL(size, VEXFS_ABI_BLOCK);

	vexfs_delay_dropped(inode, first,
			    (S64_MAX >> VEXFS_ABI_BLOCK_BITS) - first);
}

/* Blocks that went to be written have been, or have failed. Any context. */
void vexfs_delay_ended(struct vexfs_mount *m, u64 count);

#endif /* VEXFS_CREDITS_H */
