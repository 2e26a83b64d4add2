/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The file .vexfs/query: requests about vectors. Each open file description is a
 * transaction: a request is written, and read with the answer behind it.
 *
 * The server may be replaced at any moment, so what it was sent and has told is
 * here: the request until the file is closed, the answer as soon as its first
 * byte is given out.
 */
#ifndef VEXFS_QUERY_H
#define VEXFS_QUERY_H

#include <linux/mutex.h>

#include "vexfs.h"

/* Who opened the file, as the server is told. */
struct vexfs_caller {
	u32 uid;
	u32 gid;
	u32 flags;		/* VEXFS_CALLER_* */
	u32 count;
	__u32 *groups;		/* as on the wire */
};

struct vexfs_transaction {
	struct mutex lock;	/* what follows, but for the caller */
	struct vexfs_caller caller;
	u8 *request;
	u32 length;		/* bytes of it */
	u32 room;		/* for it */
	u8 *answer;		/* NULL: not answered */
	u32 total;		/* bytes of it */
	u32 numbers;		/* of them that are not for the application */
};

/* query_ask.c */

/* Takes and gives back memory of the transactions of a mount. */
void *vexfs_query_alloc(struct vexfs_mount *m, u32 bytes);
void vexfs_query_free(struct vexfs_mount *m, void *memory, u32 bytes);

/* Has the request answered if it is complete; under ->lock. */
int vexfs_query_ask(struct super_block *sb, struct vexfs_transaction *t);

#endif /* VEXFS_QUERY_H */
