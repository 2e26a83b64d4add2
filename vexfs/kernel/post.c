// SPDX-License-Identifier: GPL-2.0-only
/*
 * Posted operations. See post.h.
 *
 * They are collected in pieces. A piece is sent when it is full, a few
 * milliseconds after its first operation, or when somebody asks; one at a time,
 * by one work item, while the next is filled. It is kept until the server has
 * carried all of it out, and sent again when its write failed.
 *
 * A piece may ask to be made durable as well, for who waits in fsync. If that
 * takes long, the request is left to itself, and the piece sent again without:
 * nobody waits for a disk who did not ask for it.
 *
 * The server grants how many may be posted, and keeps room in the pool for what
 * they do. Where it grants none, operations are sent as calls, which are told
 * when the pool is full.
 *
 * While the mount is degraded nothing is posted, and what was is kept. If it is
 * refused by a server that answers, the two disagree about the state: the mount
 * is lost, loudly.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/blkdev.h>
#include <linux/delay.h>
#include <linux/slab.h>

#include "call.h"
#include "post.h"
#include "variant.h"

/* How long the first operation of a piece waits for others. */
#define DELAY_MS	5
/* Asked for when fewer than LOW are left. Each keeps half a block of the pool. */
#define GRANT		4096
#define LOW		2048
/* After the server granted nothing. */
#define DENIED		HZ
/* A piece that is made durable holds up those behind it for so long. */
#define COMMIT_MS	100
/* Between attempts to send a piece that the device failed. */
#define PAUSE_MS	200

static struct vexfs_piece *vexfs_piece(struct vexfs_posts *posts, u32 number)
{
	return &posts->pieces[number % VEXFS_PIECES];
}

void vexfs_posts_kick(struct vexfs_mount *m)
{
	mod_delayed_work(m->posts.wq, &m->posts.work, 0);
}

/* Takes operations into the open piece. -ENOBUFS: wait, and try again. */
static int vexfs_post_try(struct vexfs_mount *m, const struct vexfs_writer *ops)
{
	struct vexfs_posts *posts = &m->posts;
	u32 bytes = ops->at - ops->start;
	struct vexfs_piece *piece;
	u8 *room;

	lockdep_assert_held(&posts->lock);
	if (posts->posted + ops->count > posts->granted)
		return time_before(jiffies, posts->denied_until) ?
			-EAGAIN : -ENOBUFS;
	if (posts->open - posts->first == VEXFS_PIECES)
		return -ENOBUFS;
	piece = vexfs_piece(posts, posts->open);
	if (piece->bytes + bytes > posts->room) {
		if (!piece->count)
			return -EAGAIN;
		posts->open++;
		vexfs_posts_kick(m);
		if (posts->open - posts->first == VEXFS_PIECES)
			return -ENOBUFS;
		piece = vexfs_piece(posts, posts->open);
	}
	if (!piece->count) {
		piece->position = posts->posted;
		queue_delayed_work(posts->wq, &posts->work,
				   msecs_to_jiffies(DELAY_MS));
	}
	room = piece->buffer->data + sizeof(struct vexfs_batch);
	memcpy(room + piece->bytes, ops->start, bytes);
	piece->bytes += bytes;
	piece->count += ops->count;
	WRITE_ONCE(posts->posted, posts->posted + ops->count);
	return 0;
}

static int vexfs_post_locked(struct vexfs_mount *m,
			     const struct vexfs_writer *ops)
{
	int err;

	spin_lock(&m->posts.lock);
	err = vexfs_healthy(m) ? vexfs_post_try(m, ops) : -EIO;
	spin_unlock(&m->posts.lock);
	return err;
}

int vexfs_post(struct vexfs_mount *m, const struct vexfs_writer *ops)
{
	int err;

	if (!ops->count || ops->overflow)
		return -EAGAIN;
	err = vexfs_post_locked(m, ops);
	while (err == -ENOBUFS) {
		vexfs_posts_kick(m);
		wait_event_timeout(m->posts.wait,
				   (err = vexfs_post_locked(m, ops)) != -ENOBUFS,
				   VEXFS_SLEEP);
	}
	if (!err)
		atomic64_add(ops->count, &m->counters.posted);
	return err;
}

static u32 vexfs_piece_seal(struct vexfs_mount *m, struct vexfs_piece *piece)
{
	struct vexfs_batch *batch = piece->buffer->data;
	u32 bytes = sizeof(*batch) + piece->bytes;

	memset(batch, 0, sizeof(*batch));
	batch->magic = to32(VEXFS_BATCH_MAGIC);
	batch->session = to64(READ_ONCE(m->session));
	batch->position = to64(piece->position);
	batch->count = to32(piece->count);
	batch->length = to32(piece->bytes);
	batch->flags = to32(piece->commit ? VEXFS_BATCH_COMMIT : 0);
	batch->crc = to32(vexfs_crc(batch, bytes,
				    offsetof(struct vexfs_batch, crc)));
	return round_up(bytes, VEXFS_ABI_BLOCK);
}

/*
 * Sends a piece once, and waits until it is carried out, however long that
 * takes: a server that was stopped has it, and may go on with it. -ETIME: it was
 * to be made durable as well, and that takes long.
 */
static int vexfs_piece_send(struct vexfs_mount *m, struct vexfs_piece *piece,
			    u32 bytes)
{
	u64 at = m->log.base +
		(u64)m->log.stride * (piece->position % m->log.count);
	struct vexfs_exchange *x;
	int err;

	x = vexfs_exchange_start(m, -1, piece->buffer, bytes, at, 0, 0);
	if (IS_ERR(x))
		return PTR_ERR(x);
	for (;;) {
		err = vexfs_exchange_wait(x, piece->commit ?
					  msecs_to_jiffies(COMMIT_MS) :
					  vexfs_patience(m), false);
		if (!err || vexfs_health(m) >= VEXFS_LOST ||
		    (err == -ETIME && piece->commit))
			break;
		if (err == -ETIME)
			vexfs_ask_alive(m, false);
		else
			vexfs_exchange_again(x);
	}
	if (!err)
		err = blk_status_to_errno(x->status);
	vexfs_exchange_put(x);
	return err;
}

/* Whether nobody uses the spare buffer: a request that was left to itself may. */
static bool vexfs_posts_may_commit(const struct vexfs_posts *posts)
{
	return refcount_read(&posts->spare->ref) == 1;
}

/* Who waits until it is durable asks once more, and is told why if it fails. */
static void vexfs_piece_only_send(struct vexfs_mount *m,
				  struct vexfs_piece *piece)
{
	struct vexfs_buffer *sent = piece->buffer;

	memcpy(m->posts.spare->data, sent->data,
	       sizeof(struct vexfs_batch) + piece->bytes);
	piece->buffer = m->posts.spare;
	m->posts.spare = sent;
	piece->commit = false;
	vexfs_piece_seal(m, piece);
}

/* 0, or the mount is lost or gone. */
static int vexfs_piece_deliver(struct vexfs_mount *m, struct vexfs_piece *piece)
{
	unsigned int failed = 0;
	u32 bytes;
	int err;

	if (!vexfs_posts_may_commit(&m->posts))
		piece->commit = false;
	bytes = vexfs_piece_seal(m, piece);
	for (;;) {
		err = vexfs_piece_send(m, piece, bytes);
		if (!err)
			return 0;
		if (vexfs_health(m) >= VEXFS_LOST)
			return err;
		if (piece->commit) {
			vexfs_piece_only_send(m, piece);
			continue;
		}
		vexfs_warn(m, "posted operations from %llu on: the device failed: %d\n",
			   piece->position, err);
		if (vexfs_healthy(m) && ++failed > m->options.retries) {
			vexfs_err(m, "posted changes are refused, and lost with later ones\n");
			vexfs_health_lose(m);
			return err;
		}
		wait_event_timeout(m->posts.wait,
				   vexfs_health(m) != VEXFS_DEGRADED, VEXFS_SLEEP);
		if (vexfs_health(m) < VEXFS_LOST)
			msleep(PAUSE_MS);
	}
}

/* The oldest piece that has something; NULL: none. Closes it. */
static struct vexfs_piece *vexfs_posts_next(struct vexfs_posts *posts)
{
	struct vexfs_piece *piece = vexfs_piece(posts, posts->first);

	spin_lock(&posts->lock);
	if (posts->first == posts->open) {
		if (piece->count)
			posts->open++;
		else
			piece = NULL;
	}
	spin_unlock(&posts->lock);
	return piece;
}

static void vexfs_posts_applied(struct vexfs_posts *posts,
				struct vexfs_piece *piece)
{
	spin_lock(&posts->lock);
	WRITE_ONCE(posts->applied, piece->position + piece->count);
	if (piece->commit)
		WRITE_ONCE(posts->committed, posts->applied);
	piece->commit = false;
	piece->count = 0;
	piece->bytes = 0;
	posts->first++;
	spin_unlock(&posts->lock);
	wake_up_all(&posts->wait);
}

/* Only when nothing is to be sent: calls wait for that, and hold the slots. */
static void vexfs_posts_grant(struct vexfs_mount *m)
{
	struct vexfs_posts *posts = &m->posts;
	bool ask;

	spin_lock(&posts->lock);
	ask = posts->granted < posts->posted + LOW &&
	      !time_before(jiffies, posts->denied_until);
	spin_unlock(&posts->lock);
	if (!ask)
		return;
	vexfs_grant_operations(m, GRANT);
	spin_lock(&posts->lock);
	if (posts->granted <= posts->posted)
		posts->denied_until = jiffies + DENIED;
	spin_unlock(&posts->lock);
	wake_up_all(&posts->wait);
}

static void vexfs_posts_work(struct work_struct *work)
{
	struct vexfs_mount *m = container_of(work, struct vexfs_mount,
					     posts.work.work);
	struct vexfs_piece *piece;

	while (vexfs_healthy(m)) {
		piece = vexfs_posts_next(&m->posts);
		if (!piece)
			break;
		if (vexfs_piece_deliver(m, piece))
			return;
		vexfs_posts_applied(&m->posts, piece);
	}
	if (vexfs_healthy(m) && m->session && !m->session_read_only)
		vexfs_posts_grant(m);
}

int vexfs_posts_wait(struct vexfs_mount *m, u64 position, bool killable)
{
	struct vexfs_posts *posts = &m->posts;
	long left = 0;

	while (!vexfs_posts_done(m, position) && !left) {
		if (!vexfs_healthy(m))
			return -EIO;
		vexfs_posts_kick(m);
		if (killable)
			left = wait_event_killable_timeout(posts->wait,
					vexfs_posts_done(m, position) ||
					!vexfs_healthy(m), VEXFS_SLEEP);
		else
			left = wait_event_timeout(posts->wait,
					vexfs_posts_done(m, position) ||
					!vexfs_healthy(m), VEXFS_SLEEP);
	}
	if (left < 0)
		return -EINTR;
	return vexfs_posts_done(m, position) ? 0 : -EIO;
}

int vexfs_posts_commit(struct vexfs_mount *m)
{
	struct vexfs_posts *posts = &m->posts;
	struct vexfs_piece *piece;
	u64 position = 0;
	int err;

	spin_lock(&posts->lock);
	piece = vexfs_piece(posts, posts->open);
	/* If all are full, it is not the open one. */
	if (posts->open - posts->first < VEXFS_PIECES && piece->count) {
		piece->commit = true;
		position = posts->posted;
	}
	spin_unlock(&posts->lock);
	if (!position)
		return -ENODATA;
	err = vexfs_posts_wait(m, position, true);
	if (err)
		return err;
	return READ_ONCE(posts->committed) >= position ? 0 : -ENODATA;
}

void vexfs_posts_note(struct vexfs_mount *m, u64 epoch, u64 granted)
{
	struct vexfs_posts *posts = &m->posts;

	if (granted <= READ_ONCE(posts->granted))
		return;
	spin_lock(&posts->lock);
	if (epoch == posts->epoch)
		WRITE_ONCE(posts->granted, max(posts->granted, granted));
	spin_unlock(&posts->lock);
}

void vexfs_posts_from(struct vexfs_mount *m, u64 epoch)
{
	struct vexfs_posts *posts = &m->posts;

	spin_lock(&posts->lock);
	posts->epoch = epoch;
	spin_unlock(&posts->lock);
}

u64 vexfs_posts_hold(struct vexfs_mount *m)
{
	struct vexfs_posts *posts = &m->posts;
	u64 posted;

	spin_lock(&posts->lock);
	posted = posts->posted;
	posts->granted = posted;
	posts->epoch = 0;
	spin_unlock(&posts->lock);
	return posted;
}

void vexfs_posts_reset(struct vexfs_mount *m)
{
	struct vexfs_posts *posts = &m->posts;

	spin_lock(&posts->lock);
	posts->posted = 0;
	posts->applied = 0;
	posts->committed = 0;
	posts->granted = 0;
	posts->epoch = 0;
	spin_unlock(&posts->lock);
}

void vexfs_posts_init(struct vexfs_mount *m)
{
	struct vexfs_posts *posts = &m->posts;

	spin_lock_init(&posts->lock);
	init_waitqueue_head(&posts->wait);
	INIT_DELAYED_WORK(&posts->work, vexfs_posts_work);
}

int vexfs_posts_start(struct vexfs_mount *m)
{
	struct vexfs_posts *posts = &m->posts;
	u32 bytes = min_t(u32, m->log.stride, m->write_bytes);
	unsigned int i;

	posts->room = bytes - sizeof(struct vexfs_batch);
	posts->wq = alloc_ordered_workqueue("vexfs-post/%s", WQ_MEM_RECLAIM,
					    m->name);
	if (!posts->wq)
		return -ENOMEM;
	for (i = 0; i < VEXFS_PIECES; i++) {
		posts->pieces[i].buffer = vexfs_buffer_new(bytes);
		if (!posts->pieces[i].buffer)
			return -ENOMEM;
	}
	posts->spare = vexfs_buffer_new(bytes);
	return posts->spare ? 0 : -ENOMEM;
}

void vexfs_posts_stop(struct vexfs_mount *m)
{
	struct vexfs_posts *posts = &m->posts;
	unsigned int i;

	if (!posts->wq)
		return;
	cancel_delayed_work_sync(&posts->work);
	destroy_workqueue(posts->wq);
	posts->wq = NULL;
	if (posts->applied != posts->posted)
		vexfs_err(m, "%llu changes that were made last are lost\n",
			  posts->posted - posts->applied);
	for (i = 0; i < VEXFS_PIECES; i++)
		vexfs_buffer_put(posts->pieces[i].buffer);
	vexfs_buffer_put(posts->spare);
}
