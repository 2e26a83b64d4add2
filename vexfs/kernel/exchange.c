// SPDX-License-Identifier: GPL-2.0-only
/*
 * Exchanges. See exchange.h for who owns what.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/blkdev.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "exchange.h"

struct vexfs_buffer *vexfs_buffer_new(u32 size)
{
	struct vexfs_buffer *buffer = kmalloc(sizeof(*buffer), GFP_NOFS);

	if (!buffer)
		return NULL;
	/* Zeroed: what is not filled in goes to the device too. */
	buffer->data = kvzalloc(size, GFP_NOFS);
	if (!buffer->data) {
		kfree(buffer);
		return NULL;
	}
	buffer->size = size;
	refcount_set(&buffer->ref, 1);
	return buffer;
}

void vexfs_buffer_put(struct vexfs_buffer *buffer)
{
	if (buffer && refcount_dec_and_test(&buffer->ref)) {
		kvfree(buffer->data);
		kfree(buffer);
	}
}

void vexfs_slot_drop(struct vexfs_mount *m, unsigned int slot)
{
	lockdep_assert_held(&m->lock);
	if (--m->slots[slot].uses == 0)
		wake_up(&m->slot_wait);
}

bool vexfs_slots_rest(struct vexfs_mount *m)
{
	unsigned long flags;
	unsigned int slot;
	bool rest = true;

	spin_lock_irqsave(&m->lock, flags);
	for (slot = 1; slot < m->calls.count && rest; slot++)
		rest = !m->slots[slot].uses;
	spin_unlock_irqrestore(&m->lock, flags);
	return rest;
}

static void vexfs_exchange_free(struct vexfs_exchange *x)
{
	struct vexfs_mount *m = x->mount;

	vexfs_buffer_put(x->request);
	kvfree(x->reply);
	kfree(x->out.vecs);
	kfree(x->in.vecs);
	kfree(x);
	vexfs_mount_put(m);
}

static void vexfs_exchange_free_work(struct work_struct *work)
{
	vexfs_exchange_free(container_of(work, struct vexfs_exchange,
					 free_work));
}

void vexfs_exchange_put(struct vexfs_exchange *x)
{
	unsigned long flags;

	spin_lock_irqsave(&x->mount->lock, flags);
	x->waited_for = false;
	list_del_init(&x->pending);
	spin_unlock_irqrestore(&x->mount->lock, flags);
	if (refcount_dec_and_test(&x->ref))
		vexfs_exchange_free(x);
}

/* A half is over: from any context, also long after everybody has left. */
static void vexfs_half_done(struct vexfs_half *half, blk_status_t status)
{
	struct vexfs_exchange *x = half->exchange;
	struct vexfs_mount *m = x->mount;
	bool decides = half == &x->in || !x->in.bytes;
	unsigned long flags;

	bio_uninit(&half->bio);
	spin_lock_irqsave(&m->lock, flags);
	if (decides) {
		x->status = status;
		x->ended = true;
		list_del_init(&x->pending);
		if (x->waited_for) {
			complete(&x->done);
		} else {
			atomic64_inc(&m->counters.late);
			/* Somebody lives at the other end. */
			vexfs_health_check(m);
		}
	}
	if (x->slot >= 0)
		vexfs_slot_drop(m, x->slot);
	spin_unlock_irqrestore(&m->lock, flags);

	/* Freeing may sleep; this may be an interrupt. */
	if (refcount_dec_and_test(&x->ref))
		queue_work(vexfs_wq, &x->free_work);
}

static void vexfs_half_end_io(struct bio *bio)
{
	struct vexfs_half *half = container_of(bio, struct vexfs_half, bio);

	if (bio->bi_status == BLK_STS_AGAIN && (half->opf & REQ_NOWAIT)) {
		half->opf &= ~REQ_NOWAIT;
		queue_work(vexfs_wq, &half->work);
		return;
	}
	vexfs_half_done(half, bio->bi_status);
}

static void vexfs_half_submit(struct vexfs_half *half)
{
	struct vexfs_mount *m = half->exchange->mount;
	unsigned int vecs = DIV_ROUND_UP(half->bytes, PAGE_SIZE);
	u32 done = 0;

	bio_init(&half->bio, m->bdev, half->vecs, vecs, half->opf);
	half->bio.bi_iter.bi_sector = half->at >> SECTOR_SHIFT;
	half->bio.bi_end_io = vexfs_half_end_io;
	while (done < half->bytes) {
		u8 *data = half->data + done;
		u32 length = min_t(u32, half->bytes - done, PAGE_SIZE);
		struct page *page = is_vmalloc_addr(data) ?
			vmalloc_to_page(data) : virt_to_page(data);

		__bio_add_page(&half->bio, page, length, offset_in_page(data));
		done += length;
	}
	submit_bio(&half->bio);
}

/* The queue was full. Waiting for it is for a thread that has time. */
static void vexfs_half_submit_work(struct work_struct *work)
{
	struct vexfs_half *half = container_of(work, struct vexfs_half, work);

	bio_uninit(&half->bio);
	vexfs_half_submit(half);
}

/*
 * REQ_IDLE with REQ_SYNC marks a write as somebody's who waits, as direct I/O
 * is. Writeback throttling makes all others wait for those before them, which a
 * server that was stopped does not finish; it does so whatever REQ_NOWAIT says.
 */
#define WAITED_FOR	(REQ_SYNC | REQ_IDLE | REQ_META)

static int vexfs_half_init(struct vexfs_exchange *x, struct vexfs_half *half,
			   void *data, u32 bytes, u64 at, blk_opf_t opf)
{
	half->exchange = x;
	half->data = data;
	half->bytes = bytes;
	half->at = at;
	half->opf = opf | REQ_NOWAIT;
	INIT_WORK(&half->work, vexfs_half_submit_work);
	if (!bytes)
		return 0;
	half->vecs = kmalloc_array(DIV_ROUND_UP(bytes, PAGE_SIZE),
				   sizeof(*half->vecs), GFP_NOFS);
	return half->vecs ? 0 : -ENOMEM;
}

struct vexfs_exchange *
vexfs_exchange_start(struct vexfs_mount *m, int slot,
		     struct vexfs_buffer *request, u32 request_bytes,
		     u64 out_at, u32 reply_bytes, u64 in_at)
{
	bool has_out = request || !reply_bytes;
	struct vexfs_exchange *x;
	struct blk_plug plug;
	unsigned long flags;

	x = kzalloc(sizeof(*x), GFP_NOFS);
	if (!x)
		return ERR_PTR(-ENOMEM);
	vexfs_mount_get(m);
	x->mount = m;
	x->slot = slot;
	x->waited_for = true;
	x->reply_bytes = reply_bytes;
	INIT_WORK(&x->free_work, vexfs_exchange_free_work);
	INIT_LIST_HEAD(&x->pending);
	init_completion(&x->done);
	refcount_set(&x->ref, 1 + has_out + !!reply_bytes);

	if (request) {
		refcount_inc(&request->ref);
		x->request = request;
	}
	if (reply_bytes)
		x->reply = kvmalloc(reply_bytes, GFP_NOFS);
	if ((reply_bytes && !x->reply) ||
	    vexfs_half_init(x, &x->out, request ? request->data : NULL,
			    request ? request_bytes : 0, out_at,
			    REQ_OP_WRITE | WAITED_FOR |
			    (request ? 0 : REQ_PREFLUSH)) ||
	    vexfs_half_init(x, &x->in, x->reply, reply_bytes, in_at,
			    REQ_OP_READ | WAITED_FOR)) {
		vexfs_exchange_free(x);
		return ERR_PTR(-ENOMEM);
	}

	spin_lock_irqsave(&m->lock, flags);
	list_add_tail(&x->pending, &m->pending);
	if (slot >= 0)
		m->slots[slot].uses += has_out + !!reply_bytes;
	spin_unlock_irqrestore(&m->lock, flags);

	blk_start_plug(&plug);
	if (has_out)
		vexfs_half_submit(&x->out);
	if (reply_bytes)
		vexfs_half_submit(&x->in);
	blk_finish_plug(&plug);
	return x;
}

int vexfs_exchange_wait(struct vexfs_exchange *x, unsigned long patience,
			bool killable)
{
	long left;

	do {
		unsigned long sleep = patience;

		if (patience != MAX_SCHEDULE_TIMEOUT)
			sleep = min_t(unsigned long, patience, VEXFS_SLEEP);
		patience -= sleep;
		if (killable)
			left = wait_for_completion_killable_timeout(&x->done,
								    sleep);
		else
			left = wait_for_completion_io_timeout(&x->done, sleep);
	} while (!left && patience);
	if (left == 0)
		return -ETIME;
	if (left < 0)
		return -EINTR;
	return READ_ONCE(x->abandoned) ? -EIO : 0;
}

void vexfs_exchange_again(struct vexfs_exchange *x)
{
	struct vexfs_mount *m = x->mount;
	unsigned long flags;

	spin_lock_irqsave(&m->lock, flags);
	x->abandoned = false;
	reinit_completion(&x->done);
	if (x->ended) {
		complete(&x->done);
	} else {
		x->waited_for = true;
		if (list_empty(&x->pending))
			list_add_tail(&x->pending, &m->pending);
	}
	spin_unlock_irqrestore(&m->lock, flags);
}

void vexfs_exchange_abandon_all(struct vexfs_mount *m)
{
	struct vexfs_exchange *x, *next;
	unsigned long flags;

	spin_lock_irqsave(&m->lock, flags);
	list_for_each_entry_safe(x, next, &m->pending, pending) {
		list_del_init(&x->pending);
		x->abandoned = true;
		/* What comes now is late. */
		x->waited_for = false;
		complete(&x->done);
	}
	spin_unlock_irqrestore(&m->lock, flags);
}
