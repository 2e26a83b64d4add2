// SPDX-License-Identifier: GPL-2.0-only
/*
 * Calls: slots, attempts, and what an answer must be to count. See call.h.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/blkdev.h>
#include <linux/delay.h>
#include <linux/ktime.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "call.h"
#include "credits.h"
#include "errors.h"
#include "post.h"
#include "trace.h"
#include "variant.h"

/* Pause before a request is sent again to a server that asked for it. */
#define AGAIN_PAUSE_MS	10

struct vexfs_call *vexfs_call_new(struct vexfs_mount *m, u16 opcode,
				  u32 payload, u32 answer)
{
	struct vexfs_call *call;
	u32 bytes = round_up(sizeof(struct vexfs_request) + payload,
			     VEXFS_ABI_BLOCK);

	if (bytes > m->calls.stride)
		return ERR_PTR(-E2BIG);
	call = kzalloc(sizeof(*call), GFP_NOFS);
	if (!call)
		return ERR_PTR(-ENOMEM);
	call->request = vexfs_buffer_new(bytes);
	if (!call->request) {
		kfree(call);
		return ERR_PTR(-ENOMEM);
	}
	call->mount = m;
	call->opcode = opcode;
	call->room = bytes - sizeof(struct vexfs_request);
	call->payload = call->request->data + sizeof(struct vexfs_request);
	call->capacity = min_t(u32, m->calls.stride,
			       round_up(sizeof(struct vexfs_reply) + answer,
					VEXFS_ABI_BLOCK));
	return call;
}

void vexfs_call_put(struct vexfs_call *call)
{
	if (call->exchange)
		vexfs_exchange_put(call->exchange);
	vexfs_buffer_put(call->request);
	kfree(call);
}

void vexfs_call_inode(struct vexfs_call *call, u64 ino, u32 generation)
{
	struct vexfs_inode_ref *ref = call->payload;

	ref->ino = to64(ino);
	ref->generation = to32(generation);
	call->length = sizeof(*ref);
}

void vexfs_call_name(struct vexfs_call *call, u64 ino, const char *name,
		     u16 length)
{
	struct vexfs_named *named = call->payload;

	named->ino = to64(ino);
	named->length = to16(length);
	memcpy(named + 1, name, length);
	call->length = sizeof(*named) + length;
}

/* Slot 0 is the health layer's own: it must not wait for what it rescues. */
static int vexfs_slot_try(struct vexfs_mount *m, bool single)
{
	unsigned int first = single ? 0 : 1;
	unsigned int end = single ? 1 : m->calls.count;
	unsigned long flags;
	unsigned int slot;
	int found = -1;

	spin_lock_irqsave(&m->lock, flags);
	for (slot = first; slot < end; slot++) {
		if (!m->slots[slot].uses) {
			m->slots[slot].uses = 1;
			found = slot;
			break;
		}
	}
	spin_unlock_irqrestore(&m->lock, flags);
	return found;
}

static int vexfs_slot_take(struct vexfs_call *call)
{
	struct vexfs_mount *m = call->mount;
	unsigned long patience = vexfs_patience(m);
	int slot = vexfs_slot_try(m, call->single);
	DEFINE_WAIT(wait);

	if (slot >= 0)
		return slot;
	if (call->single)
		return -EBUSY;
	for (;;) {
		prepare_to_wait_exclusive(&m->slot_wait, &wait,
					  call->killable ? TASK_KILLABLE :
							   TASK_UNINTERRUPTIBLE);
		slot = vexfs_slot_try(m, false);
		if (slot >= 0)
			break;
		if (!vexfs_healthy(m)) {
			slot = -EIO;
			break;
		}
		if (call->killable && fatal_signal_pending(current)) {
			slot = -EINTR;
			break;
		}
		patience = schedule_timeout(patience);
		if (!patience) {
			slot = -ETIME;
			break;
		}
	}
	finish_wait(&m->slot_wait, &wait);
	return slot;
}

static void vexfs_slot_give(struct vexfs_mount *m, unsigned int slot)
{
	unsigned long flags;

	spin_lock_irqsave(&m->lock, flags);
	vexfs_slot_drop(m, slot);
	spin_unlock_irqrestore(&m->lock, flags);
}

static u32 vexfs_call_seal(struct vexfs_call *call, int slot)
{
	struct vexfs_request *request = call->request->data;
	u32 bytes = sizeof(*request) + call->length;

	call->session = call->opcode == VEXFS_HELLO ?
		0 : READ_ONCE(call->mount->session);
	call->slot = slot;
	call->seq = atomic64_inc_return(&call->mount->seq);
	WRITE_ONCE(call->mount->slots[slot].seq, call->seq);
	request->magic = to32(VEXFS_REQUEST_MAGIC);
	request->session = to64(call->session);
	request->seq = to64(call->seq);
	request->after = to64(call->after);
	request->crc = 0;
	request->opcode = to16(call->opcode);
	request->slot = to16(slot);
	request->length = to32(call->length);
	request->capacity = to32(call->capacity);
	request->crc = to32(vexfs_crc(request, bytes,
				      offsetof(struct vexfs_request, crc)));
	return round_up(bytes, VEXFS_ABI_BLOCK);
}

/* What an attempt came to. */
enum vexfs_outcome {
	VEXFS_ANSWERED,		/* call->answer is set, *status is the server's */
	VEXFS_ASK_AGAIN,	/* the server lives and wants the request again */
	VEXFS_NO_ANSWER,	/* not in time, or not to be understood */
	VEXFS_STOP,		/* *status says why */
};

/* Reads the reply that has arrived. Nothing in it is trusted. */
static enum vexfs_outcome vexfs_call_read(struct vexfs_call *call, int slot,
					  int *status)
{
	struct vexfs_mount *m = call->mount;
	struct vexfs_exchange *x = call->exchange;
	struct vexfs_reply *reply = x->reply;
	u64 session = READ_ONCE(m->session);
	const char *wrong = NULL;
	u32 length;

	if (x->status) {
		vexfs_warn(m, "%s: the device failed: %d\n",
			   vexfs_opcode_name(call->opcode),
			   blk_status_to_errno(x->status));
		return VEXFS_NO_ANSWER;
	}

	length = le32(reply->length);
	if (le32(reply->magic) != VEXFS_REPLY_MAGIC)
		wrong = "magic";
	else if (length > call->capacity - sizeof(*reply))
		wrong = "length";
	else if (le32(reply->crc) !=
		 vexfs_crc(reply, sizeof(*reply) + length,
			   offsetof(struct vexfs_reply, crc)))
		wrong = "checksum";
	else if (le16(reply->slot) != slot)
		wrong = "slot";
	if (wrong) {
		atomic64_inc(&m->counters.hostile);
		vexfs_err(m, "%s: the reply's %s is wrong\n",
			  vexfs_opcode_name(call->opcode), wrong);
		return VEXFS_NO_ANSWER;
	}

	call->flags = le16(reply->flags);
	call->epoch = le64(reply->epoch);
	if (call->flags & VEXFS_REPLY_NO_SESSION) {
		/* A remount has begun another one: the call is asked in that. */
		if (call->session != session)
			return VEXFS_ASK_AGAIN;
		vexfs_health_lose(m);
		*status = -EIO;
		return VEXFS_STOP;
	}
	/* An older reply: the READ overtook its WRITE. */
	if ((call->flags & VEXFS_REPLY_AGAIN) || le64(reply->seq) != call->seq)
		return VEXFS_ASK_AGAIN;
	if (le64(reply->session) != call->session) {
		atomic64_inc(&m->counters.hostile);
		vexfs_err(m, "%s: the reply is of another session\n",
			  vexfs_opcode_name(call->opcode));
		return VEXFS_NO_ANSWER;
	}

	call->answer.at = (const u8 *)(reply + 1);
	call->answer.end = call->answer.at + length;
	vexfs_grant_note(m, le64(reply->ino_from), le32(reply->ino_count));
	if (call->opcode == VEXFS_HELLO || call->opcode == VEXFS_RESUME) {
		vexfs_posts_from(m, call->epoch);
		vexfs_credits_from(m, call->epoch);
	}
	vexfs_posts_note(m, call->epoch, le64(reply->meta_credits));
	vexfs_credits_note(m, call->epoch, le64(reply->credits));
	/* Another server took over: it wants to know what we hold. */
	if (call->opcode != VEXFS_HELLO && call->opcode != VEXFS_RESUME &&
	    call->epoch != READ_ONCE(m->epoch))
		vexfs_health_check(m);
	*status = vexfs_status_errno(m, call->opcode, (s32)le32(reply->status));
	return VEXFS_ANSWERED;
}

static enum vexfs_outcome vexfs_call_attempt(struct vexfs_call *call, int slot,
					     u32 bytes, unsigned long deadline,
					     int *status)
{
	struct vexfs_mount *m = call->mount;
	u64 at = m->calls.base + (u64)m->calls.stride * slot;
	unsigned long now = jiffies;
	unsigned long patience = time_before(now, deadline) ?
		deadline - now : 1;
	struct vexfs_exchange *x;
	int err;

	if (!vexfs_is_safe)
		patience = MAX_SCHEDULE_TIMEOUT;
	if (call->exchange)
		vexfs_exchange_put(call->exchange);
	call->exchange = NULL;
	x = vexfs_exchange_start(m, slot, call->request, bytes, at,
				 call->capacity, at);
	if (IS_ERR(x)) {
		*status = PTR_ERR(x);
		return VEXFS_STOP;
	}
	call->exchange = x;

	err = vexfs_exchange_wait(x, patience, call->killable);
	/* What takes long is not the server's silence. */
	while (err == -ETIME && call->patient) {
		err = vexfs_ask_alive(m, true);
		if (!err)
			err = vexfs_exchange_wait(x, patience, call->killable);
	}
	switch (err) {
	case 0:
		return vexfs_call_read(call, slot, status);
	case -ETIME:
		atomic64_inc(&m->counters.timeouts);
		return VEXFS_NO_ANSWER;
	default:
		*status = err;
		return VEXFS_STOP;
	}
}

/*
 * A retry waits half as long: a server that did not answer in the first time is
 * not likely to be busy only. The whole is bounded by timeout * (1 + retries / 2).
 */
static int vexfs_call_attempts(struct vexfs_call *call, int slot)
{
	struct vexfs_mount *m = call->mount;
	unsigned int retries = call->single || !vexfs_is_safe ?
		0 : m->options.retries;
	unsigned long timeout = msecs_to_jiffies(m->options.timeout_ms);
	u32 bytes = vexfs_call_seal(call, slot);
	unsigned int attempt;

	trace_vexfs_call_begin(m, call->opcode, slot, call->seq);
	for (attempt = 0; attempt <= retries; attempt++) {
		unsigned long deadline = jiffies +
			(attempt ? timeout / 2 : timeout);
		enum vexfs_outcome outcome;
		int status = -EIO;

		if (attempt)
			atomic64_inc(&m->counters.retries);
		for (;;) {
			outcome = vexfs_call_attempt(call, slot, bytes,
						     deadline, &status);
			if (outcome != VEXFS_ASK_AGAIN)
				break;
			atomic64_inc(&m->counters.again);
			if (vexfs_is_safe && time_after(jiffies, deadline))
				break;
			msleep(AGAIN_PAUSE_MS);
			if (call->session != READ_ONCE(m->session) &&
			    call->opcode != VEXFS_HELLO)
				bytes = vexfs_call_seal(call, slot);
		}
		if (outcome == VEXFS_ANSWERED || outcome == VEXFS_STOP)
			return status;
		/* A device that fails at once is not asked in a loop. */
		if (attempt < retries && time_before(jiffies, deadline))
			msleep(min_t(unsigned int, 100 << attempt,
				     jiffies_to_msecs(deadline - jiffies)));
	}
	if (!call->single)
		vexfs_health_degrade(m, vexfs_opcode_name(call->opcode));
	return -EIO;
}

static void vexfs_call_count(struct vexfs_call *call, ktime_t begin)
{
	u64 us = ktime_us_delta(ktime_get(), begin);
	unsigned int bucket = min_t(unsigned int, fls64(us),
				    VEXFS_LATENCY_BUCKETS - 1);

	atomic64_inc(&call->mount->counters.latency[bucket]);
}

int vexfs_call(struct vexfs_call *call)
{
	struct vexfs_mount *m = call->mount;
	ktime_t begin;
	int slot, err;

	if (WARN_ON_ONCE(call->length > call->room))
		return -EINVAL;
	if (!call->single && !vexfs_healthy(m)) {
		atomic64_inc(&m->counters.refused);
		return -EIO;
	}

	atomic64_inc(&m->counters.calls);
	begin = ktime_get();
	if (!call->single && !call->apart) {
		call->after = vexfs_posted(m);
		if (!vexfs_posts_done(m, call->after))
			vexfs_posts_kick(m);
	}
	slot = vexfs_slot_take(call);
	if (slot < 0) {
		if (slot == -ETIME)
			vexfs_health_degrade(m, "waiting for a call slot");
		err = slot == -EINTR ? -EINTR : -EIO;
	} else {
		err = vexfs_call_attempts(call, slot);
		vexfs_slot_give(m, slot);
	}
	vexfs_call_count(call, begin);
	trace_vexfs_call_end(m, call->opcode, slot, call->seq, err,
			     ktime_us_delta(ktime_get(), begin));
	if (err == -EIO)
		atomic64_inc(&m->counters.failed);
	return err;
}

int vexfs_ask_alive(struct vexfs_mount *m, bool killable)
{
	struct vexfs_call *call = vexfs_call_new(m, VEXFS_STATFS, 0,
						 sizeof(struct vexfs_statfs));
	int err;

	if (IS_ERR(call))
		return PTR_ERR(call);
	call->killable = killable;
	call->apart = true;
	err = vexfs_call(call);
	vexfs_call_put(call);
	return err;
}

/*
 * What was posted comes first. A flush may take as long as the server's disk
 * does. So what is asked when it takes long is not the flush but whether the
 * server lives.
 */
int vexfs_flush(struct vexfs_mount *m)
{
	unsigned long patience = vexfs_patience(m);
	struct vexfs_exchange *x;
	int err;

	err = vexfs_posts_commit(m);
	if (err != -ENODATA)
		return err;
	err = vexfs_posts_wait(m, vexfs_posted(m), true);
	if (err)
		return err;
	if (!vexfs_healthy(m))
		return -EIO;
	x = vexfs_exchange_start(m, -1, NULL, 0, 0, 0, 0);
	if (IS_ERR(x))
		return PTR_ERR(x);
	while ((err = vexfs_exchange_wait(x, patience, true)) == -ETIME) {
		err = vexfs_ask_alive(m, true);
		if (err)
			break;
	}
	if (!err)
		err = blk_status_to_errno(x->status);
	vexfs_exchange_put(x);
	return err;
}
