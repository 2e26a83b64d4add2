// SPDX-License-Identifier: GPL-2.0-only
/*
 * The page cache of files: iomap over the data window.
 *
 * Byte o of a file is at data_base + o, so mapping is an addition and nothing is
 * allocated here. What needs care is the end of the file: the server shows of a
 * file what is below the size it knows, and learns of a larger one by Extend,
 * when the bytes have arrived. So:
 *
 *  - Writeback that reaches beyond the server's size ends in a work item, which
 *    sends Extend before it ends the writeback of the pages. A clean page is
 *    therefore below the server's size, and can be dropped and read again.
 *  - If Extend fails, the bytes have arrived all the same and are remembered
 *    (vexfs_inode.arrived); whoever reads there, or writes the inode, sends it
 *    once more. So it is with a resize that failed (vexfs_inode.resized), which
 *    goes before all else. A direct write beyond the server's end that failed is
 *    one: what of it arrives is dropped by telling the size again.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/iomap.h>
#include <linux/pagemap.h>
#include <linux/writeback.h>

#include "call.h"
#include "credits.h"
#include "post.h"

/* Asks for a window of a file that is longer than the one it was given. */
static int vexfs_window_grow(struct inode *inode, u64 bytes)
{
	struct vexfs_mount *m = vexfs_mount(inode->i_sb);
	struct vexfs_inode *vi = vexfs_i(inode);
	const struct vexfs_mapped *mapped;
	struct vexfs_call *call;
	struct vexfs_map *map;
	u64 base = 0, span = 0;
	unsigned long irq;
	int err;

	call = vexfs_call_new(m, VEXFS_MAP, sizeof(*map), sizeof(*mapped));
	if (IS_ERR(call))
		return PTR_ERR(call);
	map = call->payload;
	map->ino = to64(vexfs_ino(inode));
	map->bytes = to64(bytes);
	call->length = sizeof(*map);
	err = vexfs_call(call);
	if (!err) {
		mapped = vexfs_take(&call->answer, sizeof(*mapped));
		if (mapped) {
			base = le64(mapped->base);
			span = le64(mapped->span);
		}
		if (span < bytes || (base | span) % VEXFS_ABI_BLOCK ||
		    base < m->data_start || base >= m->data_end ||
		    span > m->data_end - base) {
			vexfs_err(m, "inode %llu: its window makes no sense\n",
				  vexfs_ino(inode));
			err = -EIO;
		}
	}
	vexfs_call_put(call);
	if (err)
		return err;
	spin_lock_irqsave(&vi->lock, irq);
	if (span > vi->data_span) {
		vi->data_base = base;
		vi->data_span = span;
	}
	vi->window = true;
	spin_unlock_irqrestore(&vi->lock, irq);
	return 0;
}

/* Fills a mapping for the block at @offset. */
int vexfs_map_window(struct inode *inode, loff_t offset, u64 length,
		     bool nowait, struct iomap *iomap)
{
	struct vexfs_inode *vi = vexfs_i(inode);
	u64 start = round_down(offset, VEXFS_ABI_BLOCK);
	u64 end = round_up(offset + length, VEXFS_ABI_BLOCK);
	unsigned long irq;
	u64 base, span;
	int err;

	if (end > round_up(inode->i_sb->s_maxbytes, VEXFS_ABI_BLOCK))
		return -EFBIG;
	spin_lock_irqsave(&vi->lock, irq);
	base = vi->data_base;
	span = vi->data_span;
	spin_unlock_irqrestore(&vi->lock, irq);
	if (start >= span) {
		if (nowait)
			return -EAGAIN;
		err = vexfs_window_grow(inode, end);
		if (err)
			return err;
		spin_lock_irqsave(&vi->lock, irq);
		base = vi->data_base;
		span = vi->data_span;
		spin_unlock_irqrestore(&vi->lock, irq);
	}
	iomap->bdev = inode->i_sb->s_bdev;
	iomap->type = IOMAP_MAPPED;
	iomap->flags = 0;
	iomap->offset = start;
	iomap->addr = base + start;
	iomap->length = min(span, end) - start;
	return 0;
}

/* Waits until the server has the inode. */
int vexfs_inode_told(struct inode *inode, bool nowait)
{
	struct vexfs_mount *m = vexfs_mount(inode->i_sb);
	u64 told = READ_ONCE(vexfs_i(inode)->told);

	if (likely(vexfs_posts_done(m, told)))
		return 0;
	return nowait ? -EAGAIN : vexfs_posts_wait(m, told, false);
}

/* What was mapped becomes dirty: as much of it as there is room for. */
static int vexfs_delay_mapped(struct inode *inode, unsigned int flags, u64 seq,
			      struct iomap *iomap)
{
	s64 blocks = vexfs_delay(inode, iomap->offset >> VEXFS_ABI_BLOCK_BITS,
				 iomap->length >> VEXFS_ABI_BLOCK_BITS,
				 flags & IOMAP_NOWAIT);

	if (blocks < 0)
		return blocks;
	iomap->length = blocks << VEXFS_ABI_BLOCK_BITS;
	iomap->validity_cookie = seq;
	compat_iomap_set_write_ops(iomap, &vexfs_write_ops);
	return 0;
}

/* With the page locked: whether what was marked still is. */
static bool vexfs_iomap_valid(struct inode *inode, const struct iomap *iomap)
{
	return iomap->validity_cookie ==
	       atomic64_read(&vexfs_i(inode)->delayed_seq);
}

const compat_write_ops_t vexfs_write_ops = {
	.get_folio	= vexfs_write_folio,
	.iomap_valid	= vexfs_iomap_valid,
};

/* Before a range of the page cache is changed. */
static int vexfs_before_change(struct inode *inode, loff_t offset, u64 length,
			       bool nowait)
{
	struct vexfs_inode *vi = vexfs_i(inode);
	u64 shown = READ_ONCE(vi->disk_size);

	if (!vexfs_healthy(vexfs_mount(inode->i_sb)))
		return -EIO;
	if (likely(!READ_ONCE(vi->resized)) &&
	    (likely(READ_ONCE(vi->arrived) <= shown) ||
	     offset + length <= shown))
		return 0;
	return nowait ? -EAGAIN : vexfs_inode_push(inode);
}

/* Before a range is read or written at the server. */
int vexfs_before_io(struct inode *inode, loff_t offset, u64 length, bool nowait)
{
	int err = vexfs_before_change(inode, offset, length, nowait);

	return err ?: vexfs_inode_told(inode, nowait);
}

static int vexfs_iomap_begin(struct inode *inode, loff_t offset, loff_t length,
			     unsigned int flags, struct iomap *iomap,
			     struct iomap *srcmap)
{
	struct vexfs_inode *vi = vexfs_i(inode);
	u64 seq = atomic64_read(&vi->delayed_seq);
	bool direct = flags & IOMAP_DIRECT;
	bool nowait = flags & IOMAP_NOWAIT;
	u64 shown;
	int err;

	/* A buffered write concerns the server later, as writeback. */
	if (direct || !(flags & IOMAP_WRITE))
		err = vexfs_before_io(inode, offset, length, nowait);
	else
		err = vexfs_before_change(inode, offset, length, nowait);
	if (err)
		return err;
	shown = READ_ONCE(vi->disk_size);
	err = vexfs_map_window(inode, offset, length, nowait, iomap);
	if (err)
		return err;
	if (flags & IOMAP_WRITE)
		return direct ? 0 : vexfs_delay_mapped(inode, flags, seq, iomap);
	/* Beyond the server's end there are zeros; it need not be asked. */
	shown = round_up(shown, VEXFS_ABI_BLOCK);
	if (iomap->offset >= shown) {
		iomap->type = IOMAP_HOLE;
		iomap->addr = IOMAP_NULL_ADDR;
		return 0;
	}
	iomap->length = min(iomap->length, shown - iomap->offset);
	if (flags & IOMAP_ZERO)
		return vexfs_delay_mapped(inode, flags, seq, iomap);
	atomic64_add(min_t(u64, length, iomap->length),
		     &vexfs_mount(inode->i_sb)->counters.read_bytes);
	return 0;
}

COMPAT_IOMAP_OPS(vexfs_iomap_ops, vexfs_iomap_begin);

/* Bytes up to @end are at the server. */
void vexfs_arrived(struct inode *inode, u64 end)
{
	struct vexfs_inode *vi = vexfs_i(inode);
	unsigned long irq;

	spin_lock_irqsave(&vi->lock, irq);
	vi->arrived = max(vi->arrived, min_t(u64, end, i_size_read(inode)));
	vi->blocks_stale = true;
	spin_unlock_irqrestore(&vi->lock, irq);
}

const struct address_space_operations vexfs_address_operations = {
	.read_folio		= vexfs_read_folio,
	.readahead		= vexfs_readahead,
	.writepages		= vexfs_writepages,
	.dirty_folio		= iomap_dirty_folio,
	.release_folio		= iomap_release_folio,
	.invalidate_folio	= iomap_invalidate_folio,
	.is_partially_uptodate	= iomap_is_partially_uptodate,
	.migrate_folio		= filemap_migrate_folio,
	.error_remove_folio	= generic_error_remove_folio,
};

/*
 * Waits for writeback of a range, killably: with a server that has died it ends
 * when the server comes back or the device is removed.
 */
int vexfs_wait_range(struct inode *inode, loff_t start, loff_t end)
{
	pgoff_t index = start >> PAGE_SHIFT;
	struct folio_batch batch;
	unsigned int i;
	int err = 0;

	folio_batch_init(&batch);
	while (!err && filemap_get_folios_tag(inode->i_mapping, &index,
					      end >> PAGE_SHIFT,
					      PAGECACHE_TAG_WRITEBACK,
					      &batch)) {
		for (i = 0; i < folio_batch_count(&batch) && !err; i++)
			err = folio_wait_writeback_killable(batch.folios[i]);
		folio_batch_release(&batch);
		cond_resched();
	}
	return err;
}

/* Writes a range and waits until it has arrived and is shown. */
int vexfs_settle(struct inode *inode, loff_t start, loff_t end)
{
	struct vexfs_inode *vi = vexfs_i(inode);
	int err;

	err = vexfs_wait_range(inode, start, end);
	if (!err)
		err = filemap_fdatawrite_range(inode->i_mapping, start, end);
	if (!err)
		err = vexfs_wait_range(inode, start, end);
	if (!err && (READ_ONCE(vi->resized) ||
		     READ_ONCE(vi->arrived) > READ_ONCE(vi->disk_size)))
		err = vexfs_inode_push(inode);
	return err;
}

/*
 * Before the file grows beyond @size: what the page that holds its end has
 * behind it (a mapping may have been written there) becomes zeros, and arrives
 * before the size does.
 */
int vexfs_zero_tail(struct inode *inode, loff_t size)
{
	bool zeroed = false;
	int err;

	if (!(size & (VEXFS_ABI_BLOCK - 1)))
		return 0;
	err = compat_iomap_truncate_page(inode, size, &zeroed, &vexfs_iomap_ops,
					 &vexfs_write_ops);
	if (!err && zeroed)
		err = vexfs_settle(inode, size, size);
	return err;
}
