// SPDX-License-Identifier: GPL-2.0-only
/*
 * Writing back: pages to the data window, and what becomes of them when nobody
 * takes them.
 *
 * What is sent to a device whose server does not answer cannot be taken back,
 * and whoever waits for the pages would wait with it: sync, an unmount, a
 * reader. So every write in flight is known (vexfs_mount.writing). If none ends
 * in time and the server does not answer a question either, the mount is
 * degraded, and the writes are *detached*: their pages end with an error, and
 * the bios go on without them, holding the memory. When the server comes back
 * they arrive as if nothing had been; until then
 *
 *  - nothing new is written back, pages stay dirty, and the detached ones cannot
 *    be changed (a mapping asks first, and is refused), so each byte has one
 *    version on its way,
 *  - the mount does not heal, so nobody reads what they will replace, and no
 *    operation overtakes them,
 *  - the device cannot be mounted anew (mount.c).
 *
 * Fewer writes are in flight than the device takes, so that sending one does
 * not wait: calls, and what makes the server come back, find room.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/blkdev.h>
#include <linux/iomap.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/writeback.h>

#include "call.h"
#include "credits.h"
#include "trace.h"
#include "variant.h"

/* What ends an ioend where the kernel has set that before we see it. */
static bio_end_io_t *vexfs_usual_end_io;

static unsigned int vexfs_write_requests(const struct vexfs_mount *m,
					 const struct iomap_ioend *ioend)
{
	return DIV_ROUND_UP(ioend->io_size, m->write_bytes);
}

static bool vexfs_write_has_room(const struct vexfs_mount *m)
{
	return m->writes < m->write_limit || !vexfs_healthy(m);
}

static unsigned long vexfs_write_timeout(const struct vexfs_mount *m)
{
	return msecs_to_jiffies(m->options.timeout_ms);
}

void vexfs_sent(struct vexfs_mount *m)
{
	if (!vexfs_is_safe)
		return;
	if (vexfs_healthy(m))
		queue_delayed_work(vexfs_wq, &m->watch_work,
				   vexfs_write_timeout(m));
	else
		vexfs_detach(m);
}

/* Ends writeback that failed, or reached beyond the server's size. */
void vexfs_ioend_work(struct work_struct *work)
{
	struct vexfs_inode *vi = container_of(work, struct vexfs_inode,
					      ioend_work);
	struct inode *inode = &vi->vfs_inode;
	unsigned int nofs = memalloc_nofs_save();
	struct iomap_ioend *ioend, *next;
	LIST_HEAD(ended);

	spin_lock_irq(&vi->lock);
	list_splice_init(&vi->ioends, &ended);
	spin_unlock_irq(&vi->lock);

	list_for_each_entry(ioend, &ended, io_list)
		if (!ioend->io_bio.bi_status)
			vexfs_arrived(inode,
				      ioend->io_offset + ioend->io_size);
	if (vexfs_inode_push(inode))
		mark_inode_dirty_sync(inode);
	list_for_each_entry_safe(ioend, next, &ended, io_list) {
		int err = blk_status_to_errno(ioend->io_bio.bi_status);

		trace_vexfs_written(vexfs_mount(inode->i_sb), vexfs_ino(inode),
				    ioend->io_offset, ioend->io_size, err);
		list_del_init(&ioend->io_list);
		iomap_finish_ioends(ioend, err);
	}
	memalloc_nofs_restore(nofs);
}

/* Any context. The pages are still under writeback, and keep the inode. */
static void vexfs_write_ended(struct vexfs_mount *m, struct iomap_ioend *ioend)
{
	struct vexfs_inode *vi = vexfs_i(ioend->io_inode);
	u64 end = min_t(u64, ioend->io_offset + ioend->io_size,
			i_size_read(ioend->io_inode));
	unsigned long irq;

	if (!ioend->io_bio.bi_status && end <= READ_ONCE(vi->disk_size)) {
		compat_iomap_end_ioend(ioend, vexfs_usual_end_io);
		return;
	}
	spin_lock_irqsave(&vi->lock, irq);
	list_add_tail(&ioend->io_list, &vi->ioends);
	queue_work(m->wq, &vi->ioend_work);
	spin_unlock_irqrestore(&vi->lock, irq);
}

/* Any context. Nobody waits for the pages, and the inode may be gone. */
static void vexfs_write_ended_late(struct vexfs_mount *m, struct bio *bio)
{
	struct folio_iter fi;

	if (bio->bi_status)
		vexfs_err(m, "bytes that were being written back are lost: %d\n",
			  blk_status_to_errno(bio->bi_status));
	bio_for_each_folio_all(fi, bio)
		folio_put(fi.folio);
	bio_put(bio);
}

/* Ended, or never sent. */
static void vexfs_write_uncounted(const struct iomap_ioend *ioend)
{
	vexfs_delay_ended(vexfs_mount(ioend->io_inode->i_sb),
			  DIV_ROUND_UP(ioend->io_size, VEXFS_ABI_BLOCK));
}

static void vexfs_write_end_io(struct bio *bio)
{
	struct iomap_ioend *ioend = iomap_ioend_from_bio(bio);
	struct vexfs_mount *m = bio->bi_private;
	bool detached, last;
	unsigned long flags;

	spin_lock_irqsave(&m->write_lock, flags);
	detached = list_empty(&ioend->io_list);
	if (!detached)
		list_del_init(&ioend->io_list);
	m->writes -= vexfs_write_requests(m, ioend);
	m->write_progress = jiffies;
	last = !m->writes;
	spin_unlock_irqrestore(&m->write_lock, flags);
	vexfs_delay_ended(m, DIV_ROUND_UP(ioend->io_size, VEXFS_ABI_BLOCK));
	wake_up(&m->write_wait);

	if (detached) {
		atomic64_inc(&m->counters.late);
		vexfs_write_ended_late(m, bio);
	} else {
		bio_put(bio);
		vexfs_write_ended(m, ioend);
	}
	/* The mount may have waited for this to heal. */
	if (last && !vexfs_healthy(m))
		vexfs_health_check(m);
	vexfs_mount_put(m);
}

/* Before a write is sent; waits until there is room for it. */
static void vexfs_write_begin(struct iomap_ioend *ioend)
{
	struct inode *inode = ioend->io_inode;
	struct vexfs_mount *m = vexfs_mount(inode->i_sb);
	struct bio *bio = &ioend->io_bio;

	/*
	 * As direct writes are: the block layer would hold others back until
	 * some have ended, in the middle of sending them.
	 */
	bio->bi_opf |= REQ_SYNC | REQ_IDLE;
	WRITE_ONCE(vexfs_usual_end_io, bio->bi_end_io);
	bio->bi_end_io = vexfs_write_end_io;
	bio->bi_private = m;
	/* For its end, when it is detached: the pages' end puts the other. */
	bio_get(bio);
	vexfs_mount_get(m);
	atomic64_add(ioend->io_size, &m->counters.written_bytes);
	WRITE_ONCE(vexfs_i(inode)->blocks_stale, true);

	spin_lock_irq(&m->write_lock);
	wait_event_lock_irq(m->write_wait, vexfs_write_has_room(m),
			    m->write_lock);
	if (!m->writes)
		m->write_progress = jiffies;
	m->writes += vexfs_write_requests(m, ioend);
	list_add_tail(&ioend->io_list, &m->writing);
	spin_unlock_irq(&m->write_lock);
	vexfs_sent(m);
}

/* One write that is in flight, with a hold on its pages; NULL: none. */
static struct iomap_ioend *vexfs_write_detach(struct vexfs_mount *m)
{
	struct iomap_ioend *ioend;
	struct folio_iter fi;

	spin_lock_irq(&m->write_lock);
	ioend = list_first_entry_or_null(&m->writing, struct iomap_ioend,
					 io_list);
	if (ioend) {
		/* An empty list entry is what its end will know it by. */
		list_del_init(&ioend->io_list);
		bio_for_each_folio_all(fi, &ioend->io_bio)
			folio_get(fi.folio);
	}
	spin_unlock_irq(&m->write_lock);
	return ioend;
}

static void vexfs_detach_work(struct work_struct *work)
{
	struct vexfs_mount *m = container_of(work, struct vexfs_mount,
					     detach_work);
	struct iomap_ioend *ioend;
	unsigned int count = vexfs_reads_detach(m) + vexfs_direct_detach(m);

	while (!vexfs_healthy(m) && (ioend = vexfs_write_detach(m))) {
		struct inode *inode = ioend->io_inode;

		/* They will have arrived before the next call is sent. */
		vexfs_arrived(inode, ioend->io_offset + ioend->io_size);
		mark_inode_dirty_sync(inode);
		/* Afterwards nothing keeps the inode. */
		iomap_finish_ioends(ioend, -EIO);
		count++;
	}
	atomic64_add(count, &m->counters.detached);
	if (count)
		vexfs_warn(m, "%u transfers are under way, and are not waited for any more\n",
			   count);
}

void vexfs_detach(struct vexfs_mount *m)
{
	wake_up_all(&m->write_wait);
	if (vexfs_is_safe)
		queue_work(vexfs_wq, &m->detach_work);
}

/*
 * No transfer has ended for a while: a slow disk below the server, or no server.
 * Asking tells; a call without an answer degrades the mount.
 */
static void vexfs_watch_work(struct work_struct *work)
{
	struct vexfs_mount *m = container_of(work, struct vexfs_mount,
					     watch_work.work);
	unsigned long due, now = jiffies;
	unsigned int transfers;

	spin_lock_irq(&m->write_lock);
	transfers = m->writes + m->reads;
	due = m->write_progress + vexfs_write_timeout(m);
	spin_unlock_irq(&m->write_lock);
	if (!transfers || !vexfs_healthy(m))
		return;
	if (time_after_eq(now, due)) {
		if (vexfs_ask_alive(m, false))
			return;
		due = jiffies + vexfs_write_timeout(m);
	}
	queue_delayed_work(vexfs_wq, &m->watch_work, due - jiffies);
}

/* Whether none is in flight, detached ones included. */
bool vexfs_writes_ended(struct vexfs_mount *m)
{
	unsigned long flags;
	bool ended;

	spin_lock_irqsave(&m->write_lock, flags);
	ended = !m->writes;
	spin_unlock_irqrestore(&m->write_lock, flags);
	return ended;
}

void vexfs_writes_init(struct vexfs_mount *m)
{
	struct request_queue *queue = bdev_get_queue(m->bdev);

	spin_lock_init(&m->write_lock);
	INIT_LIST_HEAD(&m->writing);
	INIT_LIST_HEAD(&m->reading);
	INIT_LIST_HEAD(&m->direct);
	init_waitqueue_head(&m->write_wait);
	INIT_WORK(&m->detach_work, vexfs_detach_work);
	INIT_DELAYED_WORK(&m->watch_work, vexfs_watch_work);
	m->write_bytes = queue_max_sectors(queue) << SECTOR_SHIFT;
	m->write_limit = max_t(unsigned int, queue->nr_requests / 4, 1);
}

/* Nothing is written back any more. */
void vexfs_writes_stop(struct vexfs_mount *m)
{
	cancel_delayed_work_sync(&m->watch_work);
	cancel_work_sync(&m->detach_work);
}

static int vexfs_writeback_map(struct inode *inode, loff_t offset,
			       unsigned int length, struct iomap *iomap)
{
	loff_t size = i_size_read(inode);
	int err;

	/* The whole file at once; it may have shrunk below the page. */
	if (offset < iomap->offset ||
	    offset >= iomap->offset + iomap->length) {
		err = vexfs_map_window(inode, offset,
				       size > offset ? size - offset : 1, false,
				       iomap);
		if (err)
			return err;
	}
	length = min_t(u64, length, iomap->offset + iomap->length - offset);
	vexfs_delay_ends(inode, offset >> VEXFS_ABI_BLOCK_BITS,
			 DIV_ROUND_UP(length, VEXFS_ABI_BLOCK));
	return 0;
}

COMPAT_WRITEBACK_OPS(vexfs_writeback_ops, vexfs_writeback_map,
		     vexfs_write_begin, vexfs_write_uncounted);

/* With nobody to take them, pages stay dirty. */
int vexfs_writepages(struct address_space *mapping,
		     struct writeback_control *wbc)
{
	if (!vexfs_healthy(vexfs_mount(mapping->host->i_sb)) ||
	    vexfs_inode_told(mapping->host, false))
		return wbc->sync_mode == WB_SYNC_ALL ? -EIO : 0;
	return compat_iomap_writepages(mapping, wbc, &vexfs_writeback_ops);
}
