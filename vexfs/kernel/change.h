/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A change: operations that the server applies together or not at all, and the
 * attributes that its answer shall bring.
 *
 *	change = vexfs_change_new(m, bytes of operations);
 *	vexfs_op_unlink(&change->ops, ...);
 *	vexfs_change_want(change, inode);
 *	err = vexfs_change_apply(change);
 *	vexfs_change_put(change);
 *
 * Applying locks the attributes of the wanted inodes, sends, and brings them up
 * to date. An inode that no longer exists loses its links.
 *
 * A change that cannot fail is posted instead, if that is possible: then
 * ->posted brings the inodes up to date, under the same locks.
 */
#ifndef VEXFS_CHANGE_H
#define VEXFS_CHANGE_H

#include "call.h"
#include "op.h"

#define VEXFS_WANTED	4

/* Bytes of operations for which a change needs no call until it is sent. */
#define VEXFS_SMALL	512

struct vexfs_change {
	struct vexfs_mount *mount;
	struct vexfs_call *call;	/* NULL: not needed so far */
	struct vexfs_writer ops;
	struct inode *wanted[VEXFS_WANTED];
	unsigned int count;
	bool locked;		/* the caller holds the attributes of the one */
	/* If not NULL the operations, several of them each on its own, are posted. */
	void (*posted)(struct vexfs_change *change);
	void *context;		/* of ->posted */
	u8 small[VEXFS_SMALL];
};

struct vexfs_change *vexfs_change_new(struct vexfs_mount *m, u32 room);
/* Sees to it that so many bytes more can be written. */
int vexfs_change_room(struct vexfs_change *change, u32 bytes);
void vexfs_change_want(struct vexfs_change *change, struct inode *inode);
int vexfs_change_apply(struct vexfs_change *change);
void vexfs_change_put(struct vexfs_change *change);

#endif /* VEXFS_CHANGE_H */
