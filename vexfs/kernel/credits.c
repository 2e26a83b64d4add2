// SPDX-License-Identifier: GPL-2.0-only
/*
 * See credits.h.
 *
 * Totals only grow: granted by the server, spent here. What is granted, not
 * spent and not held by a block is free for the next one. Free credits keep
 * blocks from everybody else, so after a while without use they are spent
 * unused, which the server is told.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitops.h>
#include <linux/xarray.h>

#include "credits.h"
#include "call.h"

/* Asked for at once: 64 MiB. The server gives less where there is little. */
#define CHUNK		16384
/* Of no use for so long: the server gets them back. */
#define REST		(3 * HZ)
/* Blocks in an entry of the marks, which are values of an xarray. */
#define MARKS		32

static s64 vexfs_credits_left(const struct vexfs_credits *c)
{
	return c->granted - c->spent - c->held;
}

void vexfs_credits_note(struct vexfs_mount *m, u64 epoch, u64 granted)
{
	struct vexfs_credits *c = &m->credits;
	unsigned long irq;

	if (granted <= READ_ONCE(c->granted) || granted > S64_MAX)
		return;
	spin_lock_irqsave(&c->lock, irq);
	/* What a dead server granted and was not told to the next is void. */
	if (epoch == c->epoch)
		WRITE_ONCE(c->granted, max(c->granted, granted));
	spin_unlock_irqrestore(&c->lock, irq);
}

void vexfs_credits_from(struct vexfs_mount *m, u64 epoch)
{
	struct vexfs_credits *c = &m->credits;
	unsigned long irq;

	spin_lock_irqsave(&c->lock, irq);
	c->epoch = epoch;
	spin_unlock_irqrestore(&c->lock, irq);
}

void vexfs_credits_tell(struct vexfs_mount *m, u64 *granted, u64 *spent)
{
	struct vexfs_credits *c = &m->credits;
	unsigned long irq;

	spin_lock_irqsave(&c->lock, irq);
	*granted = c->granted;
	*spent = min(c->spent, c->granted);
	spin_unlock_irqrestore(&c->lock, irq);
}

u64 vexfs_credits_free(struct vexfs_mount *m)
{
	struct vexfs_credits *c = &m->credits;
	unsigned long irq;
	s64 left;

	spin_lock_irqsave(&c->lock, irq);
	left = vexfs_credits_left(c);
	spin_unlock_irqrestore(&c->lock, irq);
	return max_t(s64, left, 0);
}

u64 vexfs_credits_held(struct vexfs_mount *m)
{
	struct vexfs_credits *c = &m->credits;
	unsigned long irq;
	s64 held;

	spin_lock_irqsave(&c->lock, irq);
	held = c->held;
	spin_unlock_irqrestore(&c->lock, irq);
	return max_t(s64, held, 0);
}

/* Takes at most so many. May be 0. */
static u64 vexfs_credits_try(struct vexfs_credits *c, u64 count)
{
	unsigned long irq;
	s64 taken;

	spin_lock_irqsave(&c->lock, irq);
	taken = clamp_t(s64, vexfs_credits_left(c), 0, count);
	c->held += taken;
	spin_unlock_irqrestore(&c->lock, irq);
	return taken;
}

/* More are held, or fewer. */
static void vexfs_credits_hold(struct vexfs_mount *m, s64 more)
{
	struct vexfs_credits *c = &m->credits;
	unsigned long irq;

	if (!more)
		return;
	spin_lock_irqsave(&c->lock, irq);
	c->held += more;
	spin_unlock_irqrestore(&c->lock, irq);
}

void vexfs_delay_ended(struct vexfs_mount *m, u64 count)
{
	struct vexfs_credits *c = &m->credits;
	unsigned long irq;

	spin_lock_irqsave(&c->lock, irq);
	c->held -= count;
	c->spent += count;
	spin_unlock_irqrestore(&c->lock, irq);
}

static u64 vexfs_credits_take(struct vexfs_mount *m, u64 count, bool nowait,
			      int *err)
{
	struct vexfs_credits *c = &m->credits;
	u64 taken = vexfs_credits_try(c, count);
	unsigned int attempt;

	*err = 0;
	for (attempt = 0; !taken && !*err && attempt < 2; attempt++) {
		if (nowait) {
			*err = -EAGAIN;
			break;
		}
		mutex_lock(&m->grant_lock);
		taken = vexfs_credits_try(c, count);
		if (!taken) {
			/* At last behind what was posted: it may free some. */
			*err = vexfs_grant_blocks(m, max_t(u64, count, CHUNK),
						  attempt > 0);
			taken = vexfs_credits_try(c, count);
		}
		mutex_unlock(&m->grant_lock);
	}
	if (!taken && !*err)
		*err = -ENOSPC;
	WRITE_ONCE(c->used, jiffies);
	queue_delayed_work(vexfs_wq, &c->rest, REST);
	return taken;
}

/* Free credits that were of no use go back. */
static void vexfs_credits_rest(struct work_struct *work)
{
	struct vexfs_mount *m = container_of(work, struct vexfs_mount,
					     credits.rest.work);
	struct vexfs_credits *c = &m->credits;
	unsigned long due = READ_ONCE(c->used) + REST;

	if (time_before(jiffies, due)) {
		queue_delayed_work(vexfs_wq, &c->rest, due - jiffies);
		return;
	}
	if (!vexfs_healthy(m))
		return;
	spin_lock_irq(&c->lock);
	c->spent += max_t(s64, vexfs_credits_left(c), 0);
	spin_unlock_irq(&c->lock);
	mutex_lock(&m->grant_lock);
	/* If nobody answers, the next question tells it. */
	vexfs_grant_blocks(m, 0, false);
	mutex_unlock(&m->grant_lock);
}

void vexfs_credits_init(struct vexfs_mount *m)
{
	spin_lock_init(&m->credits.lock);
	INIT_DELAYED_WORK(&m->credits.rest, vexfs_credits_rest);
}

void vexfs_credits_reset(struct vexfs_mount *m)
{
	struct vexfs_credits *c = &m->credits;

	spin_lock_irq(&c->lock);
	/* What is dirty still needs its room. */
	c->granted = 0;
	c->spent = 0;
	c->epoch = 0;
	spin_unlock_irq(&c->lock);
}

void vexfs_credits_stop(struct vexfs_mount *m)
{
	cancel_delayed_work_sync(&m->credits.rest);
}

/* The bits of an entry that stand for blocks of a range. */
static u32 vexfs_marks_of(u64 entry, u64 first, u64 end)
{
	unsigned int from = max(first, entry * MARKS) - entry * MARKS;
	unsigned int to = min(end, (entry + 1) * MARKS) - entry * MARKS;

	return GENMASK(to - 1, from);
}

static u32 vexfs_marks(struct vexfs_inode *vi, u64 entry)
{
	void *value = xa_load(&vi->delayed, entry);

	return value ? xa_to_value(value) : 0;
}

/* Sets and clears marks of an entry; gives those that changed. */
static s64 vexfs_marks_change(struct vexfs_inode *vi, u64 entry, u32 set,
			      u32 clear)
{
	void *old, *found = xa_load(&vi->delayed, entry);
	u32 before, after;

	do {
		old = found;
		before = old ? xa_to_value(old) : 0;
		after = (before | set) & ~clear;
		if (after == before)
			return 0;
		/* Clearing needs no memory. */
		found = xa_cmpxchg(&vi->delayed, entry, old,
				   after ? xa_mk_value(after) : NULL,
				   GFP_NOFS);
		if (xa_is_err(found))
			return xa_err(found);
	} while (found != old);
	return hweight32(before ^ after);
}

/*
 * How many blocks from @first on the file has to itself already. Replaced, they
 * give back what they take, so a full pool accepts them.
 */
static u64 vexfs_replaced(struct inode *inode, u64 first, u64 count)
{
	u64 at = first << VEXFS_ABI_BLOCK_BITS;
	u64 end = (first + count) << VEXFS_ABI_BLOCK_BITS;
	const struct vexfs_extent *extent;
	struct vexfs_range *range;
	struct vexfs_call *call;
	int err;

	call = vexfs_call_new(vexfs_mount(inode->i_sb), VEXFS_EXTENTS,
			      sizeof(*range), 4 << 10);
	if (IS_ERR(call))
		return 0;
	range = call->payload;
	range->ino = to64(vexfs_ino(inode));
	range->from = to64(at);
	range->length = to64(end - at);
	call->length = sizeof(*range);
	err = vexfs_call(call);
	while (!err && at < end &&
	       (extent = vexfs_take(&call->answer, sizeof(*extent)))) {
		u64 from = le64(extent->from), length = le64(extent->length);

		if (from > at || from + length <= at ||
		    le32(extent->flags) & ~VEXFS_EXTENT_PROMISED)
			break;
		at = from + length;
	}
	vexfs_call_put(call);
	return (min(at, end) >> VEXFS_ABI_BLOCK_BITS) - first;
}

s64 vexfs_delay(struct inode *inode, u64 first, u64 count, bool nowait)
{
	struct vexfs_mount *m = vexfs_mount(inode->i_sb);
	struct vexfs_inode *vi = vexfs_i(inode);
	u64 entry, end = first + count, missing = 0, done = first, replaced = 0;
	s64 taken = 0, marked = 0, new = 0;
	int err = 0;

	for (entry = first / MARKS; entry * MARKS < end; entry++)
		missing += hweight32(vexfs_marks_of(entry, first, end) &
				     ~vexfs_marks(vi, entry));
	if (!missing)
		return count;
	taken = vexfs_credits_take(m, missing, nowait, &err);
	if (err == -ENOSPC) {
		replaced = vexfs_replaced(inode, first, count);
		end = first + replaced;
	}

	for (entry = first / MARKS; done < end; entry++) {
		u64 until = min(end, (entry + 1) * MARKS);
		u32 bits = vexfs_marks_of(entry, first, end);
		u32 open = bits & ~vexfs_marks(vi, entry);

		/* As many as there are credits for. */
		while (open && !replaced && hweight32(open) > taken - marked) {
			until = entry * MARKS + __fls(open);
			open &= ~BIT(__fls(open));
		}
		if (until <= done)
			break;
		new = vexfs_marks_change(vi, entry,
					 vexfs_marks_of(entry, done, until), 0);
		if (new < 0)
			break;
		/* A mark that went meanwhile was made again: one too many is held. */
		marked += new;
		done = until;
		if (until < min(end, (entry + 1) * MARKS))
			break;
	}
	vexfs_credits_hold(m, marked - taken);
	if (done > first)
		return done - first;
	return new < 0 ? new : err ?: -ENOSPC;
}

int vexfs_delay_direct(struct inode *inode, u64 first, u64 count, bool nowait)
{
	struct vexfs_mount *m = vexfs_mount(inode->i_sb);
	u64 taken = 0;
	int err = 0;

	while (taken < count && !err)
		taken += vexfs_credits_take(m, count - taken, nowait, &err);
	if (err == -ENOSPC && vexfs_replaced(inode, first, count) == count) {
		vexfs_credits_hold(m, count - taken);
		return 0;
	}
	if (err)
		vexfs_credits_hold(m, -(s64)taken);
	return err;
}

static u64 vexfs_delay_clear(struct inode *inode, u64 first, u64 count)
{
	struct vexfs_inode *vi = vexfs_i(inode);
	u64 end = first + count, cleared = 0;
	unsigned long entry = first / MARKS;
	void *value;

	xa_for_each_range(&vi->delayed, entry, value, first / MARKS,
			  (end - 1) / MARKS)
		cleared += vexfs_marks_change(vi, entry, 0,
					      vexfs_marks_of(entry, first, end));
	return cleared;
}

void vexfs_delay_ends(struct inode *inode, u64 first, u64 count)
{
	u64 cleared = vexfs_delay_clear(inode, first, count);

	/* A page that became dirty without a mark is written all the same. */
	vexfs_credits_hold(vexfs_mount(inode->i_sb), (s64)count - (s64)cleared);
	if (cleared)
		atomic64_inc(&vexfs_i(inode)->delayed_seq);
}

void vexfs_delay_dropped(struct inode *inode, u64 first, u64 count)
{
	u64 cleared;

	if (!count || xa_empty(&vexfs_i(inode)->delayed))
		return;
	cleared = vexfs_delay_clear(inode, first, count);
	vexfs_credits_hold(vexfs_mount(inode->i_sb), -(s64)cleared);
}
