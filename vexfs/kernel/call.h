/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Calls: the one way to ask the server something.
 *
 *	call = vexfs_call_new(m, VEXFS_LOOKUP, payload bytes, reply bytes);
 *	... fill call->payload, set call->length ...
 *	err = vexfs_call(call);
 *	... read call->answer ...
 *	vexfs_call_put(call);
 *
 * A call is checked, waits for a slot, is sent, waited for with a timeout, sent
 * again at most as often as the mount's options say, and counted. It returns 0,
 * an errno that its operation may have, or EIO; it always returns.
 */
#ifndef VEXFS_CALL_H
#define VEXFS_CALL_H

#include "exchange.h"
#include "wire.h"

struct vexfs_call {
	struct vexfs_mount *mount;
	u16 opcode;
	bool killable;		/* only asks: a fatal signal may end it */
	bool single;		/* of the health layer: slot 0, one attempt */
	bool apart;		/* does not come after what was posted */
	bool patient;		/* is waited for as long as the server lives */
	u32 length;		/* bytes of payload */
	u32 room;		/* for payload */
	u32 capacity;		/* of the reply, header included */
	void *payload;

	/* After vexfs_call() returned 0. */
	struct vexfs_reader answer;
	u16 flags;		/* VEXFS_REPLY_* */
	u64 epoch;

	struct vexfs_buffer *request;
	struct vexfs_exchange *exchange;
	u64 session;
	int slot;
	u64 seq;		/* 0: it was not sent */
	u64 after;		/* position in the log */
};

struct vexfs_call *vexfs_call_new(struct vexfs_mount *m, u16 opcode,
				  u32 payload, u32 answer);
int vexfs_call(struct vexfs_call *call);
void vexfs_call_put(struct vexfs_call *call);

/* Payloads that are an inode, or an inode and a name. */
void vexfs_call_inode(struct vexfs_call *call, u64 ino, u32 generation);
void vexfs_call_name(struct vexfs_call *call, u64 ino, const char *name,
		     u16 length);

/* Whether the server answers: 0, or the mount is degraded, or interrupted. */
int vexfs_ask_alive(struct vexfs_mount *m, bool killable);

/* Makes what was sent to the device before durable. */
int vexfs_flush(struct vexfs_mount *m);

#endif /* VEXFS_CALL_H */
