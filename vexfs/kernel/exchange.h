/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Exchanges: bytes to and from the device, by bios that nobody waits for.
 *
 * An exchange has an outgoing bio, an incoming one, or both. Their memory
 * belongs to the exchange, and the exchange to whoever holds a reference: the
 * caller, and each bio in flight. A caller that gives up drops its reference
 * and goes; the bios end when they end. An exchange holds its mount, the mount
 * its disk and the module, so even a reply after unmount finds everything in
 * its place.
 */
#ifndef VEXFS_EXCHANGE_H
#define VEXFS_EXCHANGE_H

#include <linux/refcount.h>

#include "vexfs.h"

/* Bytes that several exchanges send: the attempts of one call. */
struct vexfs_buffer {
	refcount_t ref;
	u32 size;
	void *data;
};

struct vexfs_half {
	struct bio bio;
	struct vexfs_exchange *exchange;
	struct work_struct work;	/* submits where waiting is allowed */
	void *data;
	u32 bytes;
	u64 at;				/* byte on the device */
	blk_opf_t opf;
	struct bio_vec *vecs;
};

struct vexfs_exchange {
	refcount_t ref;
	struct vexfs_mount *mount;
	struct work_struct free_work;
	int slot;			/* -1: none */
	struct list_head pending;	/* under mount->lock */
	struct completion done;		/* the last half ended, or abandoned */
	bool waited_for;		/* under mount->lock */
	bool ended;			/* under mount->lock: ->status is set */
	bool abandoned;			/* under mount->lock */
	blk_status_t status;		/* of the half that decides */
	struct vexfs_buffer *request;
	void *reply;
	u32 reply_bytes;
	struct vexfs_half out;
	struct vexfs_half in;
};

struct vexfs_buffer *vexfs_buffer_new(u32 size);
void vexfs_buffer_put(struct vexfs_buffer *buffer);

/*
 * Sends @request to @out_at if it is not NULL, and reads @reply_bytes from
 * @in_at if that is not 0; with neither it is a flush. Never waits for the
 * device.
 */
struct vexfs_exchange *
vexfs_exchange_start(struct vexfs_mount *m, int slot,
		     struct vexfs_buffer *request, u32 request_bytes,
		     u64 out_at, u32 reply_bytes, u64 in_at);

/*
 * 0: it ended, see ->status. -ETIME: not yet. -EINTR: a fatal signal came.
 * -EIO: the mount stopped waiting.
 */
int vexfs_exchange_wait(struct vexfs_exchange *x, unsigned long patience,
			bool killable);

/* Waits on after -EIO, for what the mount does not wait for. */
void vexfs_exchange_again(struct vexfs_exchange *x);

/* The caller is no longer interested. */
void vexfs_exchange_put(struct vexfs_exchange *x);

/* Whether nothing of a call is under way any more, except in slot 0. */
bool vexfs_slots_rest(struct vexfs_mount *m);

/* Ends the waiting of all callers of a mount. */
void vexfs_exchange_abandon_all(struct vexfs_mount *m);

/* Gives back a use of a slot; mount->lock is held. */
void vexfs_slot_drop(struct vexfs_mount *m, unsigned int slot);

#endif /* VEXFS_EXCHANGE_H */
