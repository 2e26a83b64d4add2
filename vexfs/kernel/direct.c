// SPDX-License-Identifier: GPL-2.0-only
/*
 * Direct I/O that can be left alone: whoever waits for it is not kept by a server
 * that does not answer.
 *
 * What is sent to the device is a bio of our own, and the caller's ends with it,
 * or before, when the mount is degraded. Its bytes are in pages of our own. A read
 * is copied when it has ended: what comes too late does not reach memory that its
 * owner uses for something else. A write is copied before it begins: what comes too
 * late writes what was to be written, whatever its owner has in that memory by then.
 * As with pages of the cache, the mount heals when the last write has ended.
 */

#include <linux/bio.h>
#include <linux/iomap.h>

#include "call.h"
#include "credits.h"
#include "variant.h"

struct vexfs_direct {
	struct list_head list;		/* vexfs_mount.direct; empty: detached */
	struct vexfs_mount *mount;
	struct bio *caller;		/* ended when this is detached */
	struct bvec_iter all;		/* of bio, before it was sent */
	bool write;
	struct bio bio;			/* at the end */
};

static struct bio_set vexfs_direct_set;

int vexfs_direct_create(void)
{
	return bioset_init(&vexfs_direct_set, BIO_POOL_SIZE,
			   offsetof(struct vexfs_direct, bio),
			   BIOSET_NEED_BVECS);
}

void vexfs_direct_destroy(void)
{
	bioset_exit(&vexfs_direct_set);
}

static unsigned int vexfs_direct_requests(const struct vexfs_direct *direct)
{
	return DIV_ROUND_UP(direct->all.bi_size, direct->mount->write_bytes);
}

static u64 vexfs_direct_blocks(const struct bvec_iter *all)
{
	return DIV_ROUND_UP(all->bi_size, VEXFS_ABI_BLOCK);
}

/* Under write_lock. */
static void vexfs_direct_unlist(struct vexfs_direct *direct)
{
	list_del_init(&direct->list);
	if (!direct->write)
		direct->mount->reads--;
}

static void vexfs_direct_free(struct vexfs_direct *direct)
{
	unsigned int i;

	for (i = 0; i < direct->bio.bi_vcnt; i++)
		put_page(direct->bio.bi_io_vec[i].bv_page);
	bio_put(&direct->bio);
}

static void vexfs_direct_end_io(struct bio *bio)
{
	struct vexfs_direct *direct = container_of(bio, struct vexfs_direct,
						   bio);
	struct vexfs_mount *m = direct->mount;
	struct bio *caller = direct->caller;
	bool detached, last = false;
	unsigned long flags;

	spin_lock_irqsave(&m->write_lock, flags);
	detached = list_empty(&direct->list);
	if (!detached)
		vexfs_direct_unlist(direct);
	if (direct->write) {
		m->writes -= vexfs_direct_requests(direct);
		last = !m->writes;
	}
	m->write_progress = jiffies;
	spin_unlock_irqrestore(&m->write_lock, flags);
	if (direct->write)
		vexfs_delay_ended(m, vexfs_direct_blocks(&direct->all));
	wake_up(&m->write_wait);

	if (detached) {
		atomic64_inc(&m->counters.late);
	} else {
		if (!direct->write && !bio->bi_status) {
			bio->bi_iter = direct->all;
			bio_copy_data(caller, bio);
		}
		caller->bi_status = bio->bi_status;
		bio_endio(caller);
	}
	vexfs_direct_free(direct);
	/* The mount may have waited for this to heal. */
	if (last && !vexfs_healthy(m))
		vexfs_health_check(m);
	vexfs_mount_put(m);
}

/* Pages for its bytes. */
static bool vexfs_direct_room(struct bio *bio, unsigned int bytes)
{
	unsigned int order = get_order(DIV_ROUND_UP(bytes, BIO_MAX_VECS));
	gfp_t gfp = GFP_NOFS | __GFP_NOWARN | (order ? __GFP_COMP : 0);

	while (bytes) {
		unsigned int some = min_t(unsigned int, bytes,
					  PAGE_SIZE << order);
		struct page *page = alloc_pages(gfp, order);

		if (!page)
			return false;
		/* Each in an entry of its own, by which it is freed. */
		bvec_set_page(&bio->bi_io_vec[bio->bi_vcnt++], page, some, 0);
		bio->bi_iter.bi_size += some;
		bytes -= some;
	}
	return true;
}

static struct vexfs_direct *vexfs_direct_new(struct vexfs_mount *m,
					     struct bio *caller)
{
	unsigned int bytes = caller->bi_iter.bi_size;
	unsigned int entries = min_t(unsigned int, BIO_MAX_VECS,
				     DIV_ROUND_UP(bytes, PAGE_SIZE));
	struct vexfs_direct *direct;
	struct bio *bio;

	bio = bio_alloc_bioset(caller->bi_bdev, entries, caller->bi_opf,
			       GFP_NOFS, &vexfs_direct_set);
	if (!bio)
		return NULL;
	direct = container_of(bio, struct vexfs_direct, bio);
	direct->mount = m;
	direct->caller = caller;
	direct->write = op_is_write(bio_op(caller));
	bio->bi_iter.bi_sector = caller->bi_iter.bi_sector;
	bio->bi_ioprio = caller->bi_ioprio;
	bio->bi_end_io = vexfs_direct_end_io;
	if (!vexfs_direct_room(bio, bytes)) {
		vexfs_direct_free(direct);
		return NULL;
	}
	direct->all = bio->bi_iter;
	if (direct->write)
		bio_copy_data(bio, caller);
	return direct;
}

void vexfs_direct_submit(const struct iomap_iter *iter, struct bio *caller,
			 loff_t offset)
{
	struct vexfs_mount *m = vexfs_mount(iter->inode->i_sb);
	u64 blocks = vexfs_direct_blocks(&caller->bi_iter);
	bool write = op_is_write(bio_op(caller));
	struct vexfs_direct *direct;
	int err;

	if (!vexfs_is_safe && !write) {
		submit_bio(caller);
		return;
	}
	if (write) {
		err = vexfs_delay_direct(iter->inode,
					 offset >> VEXFS_ABI_BLOCK_BITS, blocks,
					 iter->flags & IOMAP_NOWAIT);
		if (err) {
			caller->bi_status = errno_to_blk_status(err);
			bio_endio(caller);
			return;
		}
	}
	direct = vexfs_direct_new(m, caller);
	if (!direct) {
		if (write)
			vexfs_delay_ended(m, blocks);
		caller->bi_status = BLK_STS_RESOURCE;
		bio_endio(caller);
		return;
	}
	vexfs_mount_get(m);
	spin_lock_irq(&m->write_lock);
	if (!m->writes && !m->reads)
		m->write_progress = jiffies;
	if (direct->write)
		m->writes += vexfs_direct_requests(direct);
	else
		m->reads++;
	list_add_tail(&direct->list, &m->direct);
	spin_unlock_irq(&m->write_lock);
	submit_bio(&direct->bio);
	vexfs_sent(m);
}

/* The caller of one that is in flight, which goes on alone; NULL: none. */
static struct bio *vexfs_direct_detach_one(struct vexfs_mount *m)
{
	struct vexfs_direct *direct;
	struct bio *caller = NULL;

	spin_lock_irq(&m->write_lock);
	direct = list_first_entry_or_null(&m->direct, struct vexfs_direct,
					  list);
	if (direct) {
		vexfs_direct_unlist(direct);
		caller = direct->caller;
	}
	spin_unlock_irq(&m->write_lock);
	return caller;
}

unsigned int vexfs_direct_detach(struct vexfs_mount *m)
{
	struct bio *caller;
	unsigned int count = 0;

	while (!vexfs_healthy(m) && (caller = vexfs_direct_detach_one(m))) {
		caller->bi_status = BLK_STS_IOERR;
		bio_endio(caller);
		count++;
	}
	return count;
}
