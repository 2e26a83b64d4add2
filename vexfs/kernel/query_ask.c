// SPDX-License-Identifier: GPL-2.0-only
/*
 * Having a request about vectors answered.
 *
 * It travels in pieces, in one of a few lanes. Another server than the one that
 * had a piece says that it knows nothing of it (ESTALE): then all begins anew,
 * in the same lane and under the same number, by which the server knows changes
 * that were made before. An answer that takes long is waited for as long as the
 * server lives.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/slab.h>
#include <linux/unaligned.h>

#include "call.h"
#include "query.h"

/* Bytes of request or answer in a call. */
#define PIECE		(64 << 10)
/* Of all requests and answers of a mount. */
#define MEMORY		(64 << 20)
/* Servers that may be replaced while one request is answered. */
#define ATTEMPTS	16

/* A request on its way. */
struct vexfs_asking {
	struct vexfs_mount *mount;
	struct vexfs_transaction *t;
	unsigned int lane;
	u64 number;
	u32 flags;
};

void *vexfs_query_alloc(struct vexfs_mount *m, u32 bytes)
{
	void *memory = NULL;

	if (atomic64_add_return(bytes, &m->query_bytes) <= MEMORY)
		memory = kvmalloc(bytes, GFP_KERNEL_ACCOUNT);
	if (!memory)
		atomic64_sub(bytes, &m->query_bytes);
	return memory;
}

void vexfs_query_free(struct vexfs_mount *m, void *memory, u32 bytes)
{
	if (!memory)
		return;
	kvfree(memory);
	atomic64_sub(bytes, &m->query_bytes);
}

/* A call of somebody who was killed may be under way still. */
static bool vexfs_lane_rests(const struct vexfs_mount *m,
			     const struct vexfs_lane *lane)
{
	const struct vexfs_slot *slot = &m->slots[lane->slot];

	return !lane->left || !slot->uses || READ_ONCE(slot->seq) != lane->left;
}

static int vexfs_lane_try(struct vexfs_mount *m)
{
	unsigned long flags;
	unsigned int i;
	int found = -1;

	spin_lock_irqsave(&m->lock, flags);
	for (i = 0; i < VEXFS_QUERY_LANES && found < 0; i++) {
		struct vexfs_lane *lane = &m->lanes[i];

		if (lane->used || !vexfs_lane_rests(m, lane))
			continue;
		lane->used = true;
		lane->left = 0;
		found = i;
	}
	spin_unlock_irqrestore(&m->lock, flags);
	return found;
}

/* Those who have one may take as long as their requests do. */
static int vexfs_lane_take(struct vexfs_mount *m)
{
	int lane = -1;
	long left;

	for (;;) {
		if (!vexfs_healthy(m))
			return -EIO;
		left = wait_event_killable_timeout(m->lane_wait,
				(lane = vexfs_lane_try(m)) >= 0, HZ);
		if (left < 0)
			return -EINTR;
		if (left > 0)
			return lane;
	}
}

static void vexfs_lane_give(struct vexfs_mount *m, unsigned int lane)
{
	unsigned long flags;

	spin_lock_irqsave(&m->lock, flags);
	m->lanes[lane].used = false;
	spin_unlock_irqrestore(&m->lock, flags);
	wake_up(&m->lane_wait);
}

static struct vexfs_call *vexfs_query_call(const struct vexfs_asking *asking,
					   u32 what, u32 from, u32 follows,
					   u32 answer)
{
	struct vexfs_call *call;
	struct vexfs_query *query;

	call = vexfs_call_new(asking->mount, VEXFS_QUERY,
			      sizeof(*query) + follows,
			      sizeof(struct vexfs_queried) + answer);
	if (IS_ERR(call))
		return call;
	call->killable = true;
	call->length = sizeof(*query) + follows;
	query = call->payload;
	memset(query, 0, sizeof(*query));
	query->number = to64(asking->number);
	query->what = to32(what);
	query->lane = to32(asking->lane);
	query->total = to32(asking->t->length);
	query->from = to32(from);
	return call;
}

static int vexfs_query_send(const struct vexfs_asking *asking)
{
	const struct vexfs_transaction *t = asking->t;
	struct vexfs_query *query;
	struct vexfs_call *call;
	u32 at, count;
	int err = 0;

	for (at = 0; at < t->length && !err; at += count) {
		count = min_t(u32, t->length - at, PIECE);
		call = vexfs_query_call(asking, VEXFS_QUERY_PIECE, at, count,
					0);
		if (IS_ERR(call))
			return PTR_ERR(call);
		query = call->payload;
		query->count = to32(count);
		memcpy(query + 1, t->request + at, count);
		/* Only what is carried out comes after what was posted. */
		call->apart = true;
		err = vexfs_call(call);
		vexfs_call_put(call);
	}
	return err;
}

static int vexfs_query_nonsense(struct vexfs_mount *m)
{
	atomic64_inc(&m->counters.hostile);
	vexfs_err(m, "the answer to a query makes no sense\n");
	return -EIO;
}

/* Takes the beginning of an answer, and makes room for it; 0: there is none. */
static int vexfs_query_begin(const struct vexfs_asking *asking,
			     const struct vexfs_queried *told, u8 **answer)
{
	struct vexfs_transaction *t = asking->t;
	u32 total = le32(told->total), changed = le32(told->changed);

	if (!total)
		return 0;
	if (total > VEXFS_QUERY_ANSWER_BYTES || changed >= total / sizeof(u64))
		return vexfs_query_nonsense(asking->mount);
	*answer = vexfs_query_alloc(asking->mount, total);
	if (!*answer)
		return -ENOMEM;
	t->total = total;
	t->numbers = changed * sizeof(u64);
	return 0;
}

/* Takes a piece of an answer; how many bytes, or an errno. */
static int vexfs_query_take(const struct vexfs_asking *asking,
			    struct vexfs_call *call, u32 from, u8 **answer)
{
	struct vexfs_transaction *t = asking->t;
	const struct vexfs_queried *told;
	const void *bytes;
	u32 count;
	int err;

	told = vexfs_take(&call->answer, sizeof(*told));
	if (!told)
		return vexfs_query_nonsense(asking->mount);
	if (!from) {
		err = vexfs_query_begin(asking, told, answer);
		if (err || !*answer)
			return err;
	}
	count = le32(told->count);
	if (le32(told->from) != from || le32(told->total) != t->total ||
	    !count || count > t->total - from)
		return vexfs_query_nonsense(asking->mount);
	bytes = vexfs_take(&call->answer, count);
	if (!bytes)
		return vexfs_query_nonsense(asking->mount);
	memcpy(*answer + from, bytes, count);
	return count;
}

static struct vexfs_call *vexfs_query_run(const struct vexfs_asking *asking)
{
	const struct vexfs_caller *caller = &asking->t->caller;
	u32 groups = caller->count * sizeof(*caller->groups);
	struct vexfs_query *query;
	struct vexfs_call *call;

	call = vexfs_query_call(asking, VEXFS_QUERY_RUN, 0, groups, PIECE);
	if (IS_ERR(call))
		return call;
	call->patient = true;
	query = call->payload;
	query->count = to32(caller->count);
	query->flags = to32(caller->flags | asking->flags);
	query->uid = to32(caller->uid);
	query->gid = to32(caller->gid);
	memcpy(query + 1, caller->groups, groups);
	return call;
}

/* The server goes on with what it was asked, though nobody waits. */
static void vexfs_query_left(const struct vexfs_asking *asking,
			     const struct vexfs_call *call)
{
	struct vexfs_mount *m = asking->mount;
	struct vexfs_lane *lane = &m->lanes[asking->lane];
	unsigned long flags;

	spin_lock_irqsave(&m->lock, flags);
	lane->slot = call->slot;
	lane->left = call->seq;
	spin_unlock_irqrestore(&m->lock, flags);
}

/* The answer, all of it; it stays NULL if the request is not complete. */
static int vexfs_query_fetch(const struct vexfs_asking *asking, u8 **answer)
{
	struct vexfs_transaction *t = asking->t;
	struct vexfs_call *call;
	u32 from = 0;
	int err;

	call = vexfs_query_run(asking);
	for (;;) {
		if (IS_ERR(call))
			return PTR_ERR(call);
		err = vexfs_call(call);
		if (err == -EINTR && call->patient && call->seq)
			vexfs_query_left(asking, call);
		if (!err)
			err = vexfs_query_take(asking, call, from, answer);
		vexfs_call_put(call);
		if (err <= 0)
			return err;
		from += err;
		if (from == t->total)
			return 0;
		call = vexfs_query_call(asking, VEXFS_QUERY_ANSWER, from, 0,
					PIECE);
		if (!IS_ERR(call))
			call->apart = true;
	}
}

/* What is known of the attributes of files is asked for again. */
static void vexfs_query_changed(struct super_block *sb,
				const struct vexfs_transaction *t)
{
	unsigned int trust = READ_ONCE(vexfs_mount(sb)->trust);
	struct inode *inode;
	u32 at;

	for (at = 0; at < t->numbers; at += sizeof(u64)) {
		inode = ilookup(sb, get_unaligned_le64(t->answer + at));
		if (inode) {
			WRITE_ONCE(vexfs_i(inode)->trust, trust - 1);
			iput(inode);
		}
		cond_resched();
	}
}

static int vexfs_query_try(const struct vexfs_asking *asking)
{
	struct vexfs_transaction *t = asking->t;
	u8 *answer = NULL;
	int err;

	err = vexfs_query_send(asking);
	if (!err)
		err = vexfs_query_fetch(asking, &answer);
	if (!err) {
		t->answer = answer;
		return 0;
	}
	vexfs_query_free(asking->mount, answer, t->total);
	t->total = 0;
	t->numbers = 0;
	return err;
}

int vexfs_query_ask(struct super_block *sb, struct vexfs_transaction *t)
{
	struct vexfs_asking asking = { .mount = vexfs_mount(sb), .t = t };
	struct vexfs_mount *m = asking.mount;
	unsigned int attempt;
	int lane, err;
	bool writable;

	lane = vexfs_lane_take(m);
	if (lane < 0)
		return lane;
	asking.lane = lane;
	/* Of whom the lane is, is the only one who counts in it. */
	asking.number = ++m->lanes[lane].number * VEXFS_QUERY_STEPS;
	/* Who only looks need not wait for a frozen mount. */
	writable = sb_start_write_trylock(sb);
	if (!writable || sb_rdonly(sb))
		asking.flags = VEXFS_CALLER_LOOKS;
	for (attempt = 0; attempt < ATTEMPTS; attempt++) {
		err = vexfs_query_try(&asking);
		if (err != -ESTALE)
			break;
	}
	if (writable)
		sb_end_write(sb);
	vexfs_lane_give(m, lane);
	if (!err && t->answer)
		vexfs_query_changed(sb, t);
	return err == -ESTALE ? -EIO : err;
}
