/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Posted operations: changes that were checked and done here, and that the
 * server carries out later, in the order in which they were posted.
 *
 * A position counts the operations posted before. Of a position one can ask
 * that everything before it is carried out; every call does, so that nobody is
 * told of a state that has been changed since.
 */
#ifndef VEXFS_POST_H
#define VEXFS_POST_H

#include "op.h"

void vexfs_posts_init(struct vexfs_mount *m);
/* The windows are known. */
int vexfs_posts_start(struct vexfs_mount *m);
/* With a session everything begins anew. */
void vexfs_posts_reset(struct vexfs_mount *m);
/*
 * A new server is told how much was posted, and what it grants counts from then
 * on: until its answer nothing more is posted.
 */
u64 vexfs_posts_hold(struct vexfs_mount *m);
/* What replies of a server tell of the operations that may be posted. */
void vexfs_posts_note(struct vexfs_mount *m, u64 epoch, u64 granted);
/* A server has answered that knows what is posted: what it grants counts. */
void vexfs_posts_from(struct vexfs_mount *m, u64 epoch);
/* The mount is GONE. */
void vexfs_posts_stop(struct vexfs_mount *m);

/*
 * Takes encoded operations over. 0: they will be carried out, in this order.
 * -EAGAIN: they cannot be posted, and are to be sent as a call. -EIO: the mount
 * is not healthy. May sleep; never waits for a server that does not answer.
 */
int vexfs_post(struct vexfs_mount *m, const struct vexfs_writer *ops);

/* Has what was posted sent now. */
void vexfs_posts_kick(struct vexfs_mount *m);

/* Waits until all before a position is carried out. -EINTR, -EIO. */
int vexfs_posts_wait(struct vexfs_mount *m, u64 position, bool killable);

/*
 * Has what waits to be sent made durable when it is carried out, with all that
 * was answered before, and waits for that. -ENODATA: nothing waits, or it was
 * carried out and could not be made durable. -EINTR, -EIO.
 */
int vexfs_posts_commit(struct vexfs_mount *m);

/* The position behind all that was posted. */
static inline u64 vexfs_posted(const struct vexfs_mount *m)
{
	return READ_ONCE(m->posts.posted);
}

static inline bool vexfs_posts_done(const struct vexfs_mount *m, u64 position)
{
	return READ_ONCE(m->posts.applied) >= position;
}

#endif /* VEXFS_POST_H */
