// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reading into the page cache, and what becomes of the pages when nobody
 * answers.
 *
 * A read that was sent cannot be taken back, and its pages are locked: whoever
 * wants them, or to unmount, would wait for the server. So reads in flight are
 * known, as writes are (writeback.c). When the mount is degraded they are
 * detached: their pages leave the cache and are unlocked, who waits finds no
 * page and gets EIO, and the bios go on without them, holding the memory.
 *
 * So iomap reads nothing here: it would wait however long that takes. A page of
 * which the cache has a part is written back and dropped, and read whole.
 */

#include <linux/bio.h>
#include <linux/iomap.h>
#include <linux/pagemap.h>

#include "call.h"

struct vexfs_read {
	struct list_head list;		/* vexfs_mount.reading; empty: detached */
	struct vexfs_mount *mount;
	struct bio bio;			/* at the end */
};

static struct bio_set vexfs_read_set;

int vexfs_reads_create(void)
{
	return bioset_init(&vexfs_read_set, BIO_POOL_SIZE,
			   offsetof(struct vexfs_read, bio), BIOSET_NEED_BVECS);
}

void vexfs_reads_destroy(void)
{
	bioset_exit(&vexfs_read_set);
}

static void vexfs_read_end_io(struct bio *bio)
{
	struct vexfs_read *read = container_of(bio, struct vexfs_read, bio);
	struct vexfs_mount *m = read->mount;
	struct folio_iter fi;
	unsigned long flags;
	bool detached;

	spin_lock_irqsave(&m->write_lock, flags);
	detached = list_empty(&read->list);
	if (!detached) {
		list_del_init(&read->list);
		m->reads--;
	}
	m->write_progress = jiffies;
	spin_unlock_irqrestore(&m->write_lock, flags);
	if (detached)
		atomic64_inc(&m->counters.late);
	bio_for_each_folio_all(fi, bio) {
		if (detached)
			folio_put(fi.folio);
		else
			folio_end_read(fi.folio, !bio->bi_status);
	}
	bio_put(bio);
	vexfs_mount_put(m);
}

static void vexfs_read_submit(struct vexfs_read *read)
{
	struct vexfs_mount *m;

	if (!read)
		return;
	m = read->mount;
	atomic64_add(read->bio.bi_iter.bi_size, &m->counters.read_bytes);
	spin_lock_irq(&m->write_lock);
	if (!m->writes && !m->reads)
		m->write_progress = jiffies;
	m->reads++;
	list_add_tail(&read->list, &m->reading);
	spin_unlock_irq(&m->write_lock);
	submit_bio(&read->bio);
	vexfs_sent(m);
}

static struct vexfs_read *vexfs_read_new(struct inode *inode, u64 address,
					 unsigned int folios, gfp_t gfp,
					 blk_opf_t flags)
{
	struct vexfs_mount *m = vexfs_mount(inode->i_sb);
	struct vexfs_read *read;
	struct bio *bio;

	bio = bio_alloc_bioset(inode->i_sb->s_bdev, bio_max_segs(folios),
			       REQ_OP_READ | flags, gfp, &vexfs_read_set);
	if (!bio)
		return NULL;
	bio->bi_iter.bi_sector = address >> SECTOR_SHIFT;
	bio->bi_end_io = vexfs_read_end_io;
	read = container_of(bio, struct vexfs_read, bio);
	INIT_LIST_HEAD(&read->list);
	read->mount = m;
	vexfs_mount_get(m);
	return read;
}

/* What of a folio is to be read: bytes from its start on. The rest is zeros. */
static size_t vexfs_read_length(const struct inode *inode, struct folio *folio)
{
	u64 shown = round_up(READ_ONCE(vexfs_i(inode)->disk_size),
			     VEXFS_ABI_BLOCK);
	u64 pos = folio_pos(folio);

	return pos < shown ? min_t(u64, folio_size(folio), shown - pos) : 0;
}

/* A mapping for a folio up to @length; longer windows are asked for. */
static int vexfs_read_map(struct inode *inode, struct folio *folio,
			  size_t length, struct iomap *iomap)
{
	loff_t pos = folio_pos(folio);
	int err;

	err = vexfs_map_window(inode, pos, length, false, iomap);
	if (!err && iomap->length < length) {
		err = vexfs_map_window(inode, pos + iomap->length,
				       length - iomap->length, false, iomap);
		if (!err)
			err = vexfs_map_window(inode, pos, length, false,
					       iomap);
		if (!err && iomap->length < length)
			err = -EIO;
	}
	return err;
}

/*
 * Adds a locked folio to a read, which is sent when the folio does not fit, and
 * begun anew. After an error the folio is still locked.
 */
static int vexfs_read_add(struct inode *inode, struct vexfs_read **read,
			  struct folio *folio, unsigned int folios, gfp_t gfp,
			  blk_opf_t flags)
{
	size_t length = vexfs_read_length(inode, folio);
	struct iomap iomap = {};
	int err;

	if (length) {
		err = vexfs_read_map(inode, folio, length, &iomap);
		if (err)
			return err;
	}
	if (length < folio_size(folio))
		folio_zero_segment(folio, length, folio_size(folio));
	if (!length) {
		folio_end_read(folio, true);
		return 0;
	}
	if (*read && (bio_end_sector(&(*read)->bio) !=
			      iomap.addr >> SECTOR_SHIFT ||
		      !bio_add_folio(&(*read)->bio, folio, length, 0))) {
		vexfs_read_submit(*read);
		*read = NULL;
	} else if (*read) {
		return 0;
	}
	*read = vexfs_read_new(inode, iomap.addr, folios, gfp, flags);
	if (!*read)
		return -ENOMEM;
	bio_add_folio_nofail(&(*read)->bio, folio, length, 0);
	return 0;
}

/* Drops a locked folio of which the cache has a part; it is looked for again. */
static int vexfs_read_anew(struct folio *folio)
{
	struct address_space *mapping = folio->mapping;
	loff_t start = folio_pos(folio);
	loff_t end = start + folio_size(folio) - 1;
	int err;

	folio_unlock(folio);
	err = vexfs_settle(mapping->host, start, end);
	if (err)
		return err;
	/* What is dirty again by now stays, and is met again. */
	invalidate_inode_pages2_range(mapping, start >> PAGE_SHIFT,
				      end >> PAGE_SHIFT);
	return AOP_TRUNCATED_PAGE;
}

int vexfs_read_folio(struct file *file, struct folio *folio)
{
	struct address_space *mapping = folio->mapping;
	struct inode *inode = mapping->host;
	struct vexfs_read *read = NULL;
	int err;

	err = vexfs_before_io(inode, folio_pos(folio), folio_size(folio),
			      false);
	/* iomap keeps there what part it has. */
	if (!err && folio_test_private(folio))
		return vexfs_read_anew(folio);
	if (!err)
		err = vexfs_read_add(inode, &read, folio, 1,
				     mapping_gfp_constraint(mapping,
							    GFP_KERNEL), 0);
	if (err)
		folio_unlock(folio);
	vexfs_read_submit(read);
	return err;
}

void vexfs_readahead(struct readahead_control *rac)
{
	gfp_t gfp = mapping_gfp_constraint(rac->mapping, GFP_KERNEL) |
		    __GFP_NORETRY | __GFP_NOWARN;
	struct inode *inode = rac->mapping->host;
	struct vexfs_read *read = NULL;
	struct folio *folio;

	/* What is not read now is asked for again by who needs it. */
	if (vexfs_before_io(inode, readahead_pos(rac), readahead_length(rac),
			    false))
		return;
	while ((folio = readahead_folio(rac)))
		if (vexfs_read_add(inode, &read, folio,
				   readahead_count(rac) + 1, gfp, REQ_RAHEAD))
			folio_unlock(folio);
	vexfs_read_submit(read);
}

/*
 * The first block of a locked folio that a write from @pos to @end needs the rest
 * of, and that is not here; negative: none. Beyond the end there is no rest.
 */
static loff_t vexfs_missing(struct inode *inode, struct folio *folio,
			    loff_t pos, loff_t end)
{
	loff_t edges[] = { pos, min_t(loff_t, end, folio_pos(folio) +
				      folio_size(folio)) };
	unsigned int i;

	if (folio_test_uptodate(folio))
		return -1;
	for (i = 0; i < ARRAY_SIZE(edges); i++) {
		loff_t start = round_down(edges[i], VEXFS_ABI_BLOCK);

		if (start != edges[i] && start < i_size_read(inode) &&
		    !iomap_is_partially_uptodate(folio,
						 offset_in_folio(folio, start),
						 VEXFS_ABI_BLOCK))
			return start;
	}
	return -1;
}

/*
 * The folio to write to. What it lacks of blocks that are changed in part is read
 * here: iomap would wait for it, however long that takes.
 */
struct folio *vexfs_write_folio(struct iomap_iter *iter, loff_t pos,
				unsigned int len)
{
	struct inode *inode = iter->inode;
	struct folio *folio;
	loff_t missing;

	for (;;) {
		folio = iomap_get_folio(iter, pos, len);
		if (IS_ERR(folio))
			return folio;
		missing = vexfs_missing(inode, folio, pos, pos + len);
		if (missing < 0)
			return folio;
		folio_unlock(folio);
		folio_put(folio);
		if (iter->flags & IOMAP_NOWAIT)
			return ERR_PTR(-EAGAIN);
		folio = read_mapping_folio(inode->i_mapping,
					   missing >> PAGE_SHIFT, NULL);
		if (IS_ERR(folio))
			return folio;
		folio_put(folio);
	}
}

/* One read that is in flight, with holds on it and its pages; NULL: none. */
static struct vexfs_read *vexfs_read_detach(struct vexfs_mount *m)
{
	struct vexfs_read *read;
	struct folio_iter fi;

	spin_lock_irq(&m->write_lock);
	read = list_first_entry_or_null(&m->reading, struct vexfs_read, list);
	if (read) {
		list_del_init(&read->list);
		m->reads--;
		bio_get(&read->bio);
		/* For its end, and for ours. */
		bio_for_each_folio_all(fi, &read->bio)
			folio_ref_add(fi.folio, 2);
	}
	spin_unlock_irq(&m->write_lock);
	return read;
}

unsigned int vexfs_reads_detach(struct vexfs_mount *m)
{
	struct vexfs_read *read;
	struct folio_iter fi;
	unsigned int count = 0;

	while (!vexfs_healthy(m) && (read = vexfs_read_detach(m))) {
		bio_for_each_folio_all(fi, &read->bio) {
			generic_error_remove_folio(fi.folio->mapping, fi.folio);
			folio_end_read(fi.folio, false);
			folio_put(fi.folio);
		}
		bio_put(&read->bio);
		count++;
	}
	return count;
}
