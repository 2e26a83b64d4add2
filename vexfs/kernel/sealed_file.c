// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bytes of files of sealed images.
 *
 * A folio is read with a bio for each stretch of the image that it consists of.
 * What has arrived is compared with its checksums in a work item, since those are
 * blocks of the image too; the last of them ends the folio.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bio.h>
#include <linux/fs.h>
#include <linux/fileattr.h>
#include <linux/highmem.h>
#include <linux/iomap.h>
#include <linux/pagemap.h>
#include <linux/slab.h>

#include "sealed.h"

/* A folio that is being read. */
struct vexfs_sealed_folio {
	struct folio *folio;
	atomic_t left;			/* pieces, and who makes them */
	int err;			/* of any */
};

/* One stretch of it. */
struct vexfs_sealed_piece {
	struct work_struct work;
	struct vexfs_sealed_folio *whole;
	u64 at;				/* first block of the image */
	size_t offset;			/* in the folio */
	u32 blocks;
	struct bio_vec vec;
	struct bio bio;
};

static u64 vexfs_sealed_file_blocks(struct inode *inode)
{
	return ((u64)i_size_read(inode) + VEXFS_SEALED_BLOCK - 1) >>
	       VEXFS_SEALED_BITS;
}

/*
 * The place of @block among sorted extents: the last that does not begin behind
 * it, or -1.
 */
static int vexfs_sealed_place(const struct vexfs_sealed_extent *extents,
			      u32 count, u64 block)
{
	u32 from = 0, until = count;

	while (from < until) {
		u32 middle = (from + until) / 2;

		if (le64_to_cpu(extents[middle].from) <= block)
			from = middle + 1;
		else
			until = middle;
	}
	return (int)from - 1;
}

static void *vexfs_sealed_extents(struct inode *inode, u32 index, u32 *count)
{
	const struct vexfs_sealed_inode *disk = &vexfs_sealed_n(inode)->disk;
	struct vexfs_sealed *s = vexfs_sealed(inode->i_sb);
	u64 at = le64_to_cpu(disk->map_at) + index;
	u32 left = le32_to_cpu(disk->map_count) -
		   index * VEXFS_SEALED_BLOCK_EXTENTS;
	void *block = vexfs_sealed_block(s, at, VEXFS_SEALED_EXTENTS,
					 inode->i_ino, index);

	*count = min_t(u32, left, VEXFS_SEALED_BLOCK_EXTENTS);
	if (IS_ERR(block) || vexfs_sealed_count(block) == *count)
		return block;
	kfree(block);
	return ERR_PTR(vexfs_sealed_damaged(s, at,
			"has another number of extents than it should"));
}

/* What a file consists of at @block, given all extents around it. */
static int vexfs_sealed_take_map(struct inode *inode,
				 const struct vexfs_sealed_extent *extents,
				 u32 count, u64 block,
				 struct vexfs_sealed_map *map)
{
	struct vexfs_sealed *s = vexfs_sealed(inode->i_sb);
	int place = vexfs_sealed_place(extents, count, block);
	u64 end = vexfs_sealed_file_blocks(inode);
	u64 next = U64_MAX;

	map->from = block;
	map->at = 0;
	if (place + 1 < (int)count)
		next = le64_to_cpu(extents[place + 1].from);
	if (place >= 0) {
		u64 from = le64_to_cpu(extents[place].from);
		u64 at = le64_to_cpu(extents[place].at);
		u32 blocks = le32_to_cpu(extents[place].count);

		if (!blocks || from >= end || blocks > end - from ||
		    !vexfs_sealed_inside(s, at, blocks) || from + blocks > next)
			return vexfs_sealed_inode_damaged(s, inode->i_ino,
					"has extents that cannot be");
		if (block - from < blocks) {
			map->from = from;
			map->at = at;
			map->count = blocks;
			return 0;
		}
	}
	if (next <= block)
		return vexfs_sealed_inode_damaged(s, inode->i_ino,
						  "has extents out of order");
	map->count = next - block;
	return 0;
}

static int vexfs_sealed_find_map(struct inode *inode, u64 block,
				 struct vexfs_sealed_map *map)
{
	const struct vexfs_sealed_inode *disk = &vexfs_sealed_n(inode)->disk;
	u32 from = 0, until = le32_to_cpu(disk->map_blocks);
	struct vexfs_sealed_extent *extents;
	u64 next = U64_MAX;
	u32 count;
	int err;

	if (!until)
		return vexfs_sealed_take_map(inode, (const void *)disk->inline_bytes,
					     le32_to_cpu(disk->map_count),
					     block, map);
	/* The last block of extents that does not begin behind @block. */
	while (until - from > 1) {
		u32 middle = from + (until - from) / 2;
		void *copy = vexfs_sealed_extents(inode, middle, &count);
		u64 first;

		if (IS_ERR(copy))
			return PTR_ERR(copy);
		extents = copy + sizeof(struct vexfs_sealed_head);
		first = le64_to_cpu(extents[0].from);
		kfree(copy);
		if (first <= block) {
			from = middle;
		} else {
			until = middle;
			next = first;
		}
	}
	extents = vexfs_sealed_extents(inode, from, &count);
	if (IS_ERR(extents))
		return PTR_ERR(extents);
	err = vexfs_sealed_take_map(inode, (void *)extents +
				    sizeof(struct vexfs_sealed_head), count,
				    block, map);
	kfree(extents);
	/* A hole behind the extents of a block ends with the next block's. */
	if (!err && !map->at)
		map->count = min(map->count, next - block);
	return err;
}

static int vexfs_sealed_iomap_begin(struct inode *inode, loff_t offset,
				    loff_t length, unsigned int flags,
				    struct iomap *iomap, struct iomap *srcmap)
{
	u64 end = round_up((u64)offset + length, VEXFS_SEALED_BLOCK);
	struct vexfs_sealed_map map;
	int err;

	err = vexfs_sealed_find_map(inode, offset >> VEXFS_SEALED_BITS, &map);
	if (err)
		return err;
	iomap->bdev = inode->i_sb->s_bdev;
	iomap->offset = map.from << VEXFS_SEALED_BITS;
	if (map.at) {
		iomap->type = IOMAP_MAPPED;
		iomap->addr = map.at << VEXFS_SEALED_BITS;
		iomap->length = map.count << VEXFS_SEALED_BITS;
	} else {
		iomap->type = IOMAP_HOLE;
		iomap->addr = IOMAP_NULL_ADDR;
		iomap->length = min(map.count, (end >> VEXFS_SEALED_BITS) -
				    map.from) << VEXFS_SEALED_BITS;
	}
	return 0;
}

COMPAT_IOMAP_OPS(vexfs_sealed_iomap_ops, vexfs_sealed_iomap_begin);

/* The last one ends the folio; what is behind the end of the file is zeros. */
static void vexfs_sealed_folio_put(struct vexfs_sealed_folio *whole)
{
	struct folio *folio = whole->folio;
	loff_t from = i_size_read(folio->mapping->host) - folio_pos(folio);

	if (!atomic_dec_and_test(&whole->left))
		return;
	from = max_t(loff_t, from, 0);
	if (from < folio_size(folio))
		folio_zero_segment(folio, from, folio_size(folio));
	folio_end_read(folio, !READ_ONCE(whole->err));
	kfree(whole);
}

static int vexfs_sealed_verify(struct vexfs_sealed *s,
			       const struct vexfs_sealed_piece *piece)
{
	const __le32 *sums = NULL;
	void *block = NULL;
	int err = 0;
	u32 i;

	for (i = 0; i < piece->blocks && !err; i++) {
		u64 at = piece->at + i;
		u64 index = div_u64(at - 1, VEXFS_SEALED_BLOCK_CHECKSUMS);
		u32 slot = at - 1 - index * VEXFS_SEALED_BLOCK_CHECKSUMS;
		void *bytes;
		u32 crc;

		if (!block || !slot) {
			kfree(block);
			block = vexfs_sealed_block(s, s->sums_at + index,
						   VEXFS_SEALED_CHECKSUMS, 0,
						   index);
			if (IS_ERR(block))
				return PTR_ERR(block);
			sums = block + sizeof(struct vexfs_sealed_head);
		}
		bytes = kmap_local_folio(piece->whole->folio, piece->offset +
					 ((size_t)i << VEXFS_SEALED_BITS));
		crc = ~compat_crc32c(~0, bytes, VEXFS_SEALED_BLOCK);
		kunmap_local(bytes);
		if (crc != le32_to_cpu(sums[slot]))
			err = vexfs_sealed_damaged(s, at,
					"does not match its checksum");
	}
	kfree(block);
	return err;
}

static void vexfs_sealed_piece_work(struct work_struct *work)
{
	struct vexfs_sealed_piece *piece =
		container_of(work, struct vexfs_sealed_piece, work);
	struct vexfs_sealed_folio *whole = piece->whole;
	struct vexfs_sealed *s =
		vexfs_sealed(whole->folio->mapping->host->i_sb);
	int err = blk_status_to_errno(piece->bio.bi_status);

	if (err) {
		atomic64_inc(&s->failed);
		pr_err_ratelimited("%s: block %llu cannot be read\n", s->name,
				   piece->at);
	} else {
		atomic64_add((u64)piece->blocks << VEXFS_SEALED_BITS,
			     &s->read_bytes);
		if (s->summed)
			err = vexfs_sealed_verify(s, piece);
	}
	if (err)
		WRITE_ONCE(whole->err, err);
	bio_uninit(&piece->bio);
	kfree(piece);
	vexfs_sealed_folio_put(whole);
}

static void vexfs_sealed_end_io(struct bio *bio)
{
	struct vexfs_sealed_piece *piece =
		container_of(bio, struct vexfs_sealed_piece, bio);

	queue_work(vexfs_sealed_wq, &piece->work);
}

static int vexfs_sealed_submit(struct vexfs_sealed_folio *whole, size_t offset,
			       u64 at, u32 blocks)
{
	struct super_block *sb = whole->folio->mapping->host->i_sb;
	struct vexfs_sealed_piece *piece = kmalloc(sizeof(*piece), GFP_NOFS);

	if (!piece)
		return -ENOMEM;
	INIT_WORK(&piece->work, vexfs_sealed_piece_work);
	piece->whole = whole;
	piece->at = at;
	piece->offset = offset;
	piece->blocks = blocks;
	bio_init(&piece->bio, sb->s_bdev, &piece->vec, 1, REQ_OP_READ);
	piece->bio.bi_iter.bi_sector = at << (VEXFS_SEALED_BITS - SECTOR_SHIFT);
	piece->bio.bi_end_io = vexfs_sealed_end_io;
	bio_add_folio_nofail(&piece->bio, whole->folio,
			     (size_t)blocks << VEXFS_SEALED_BITS, offset);
	atomic_inc(&whole->left);
	submit_bio(&piece->bio);
	return 0;
}

/* Begins to read a folio, which is unlocked when it has been read. */
static int vexfs_sealed_read_folio(struct file *file, struct folio *folio)
{
	struct inode *inode = folio->mapping->host;
	u64 end = vexfs_sealed_file_blocks(inode);
	u64 block = folio_pos(folio) >> VEXFS_SEALED_BITS;
	u64 last = block + (folio_size(folio) >> VEXFS_SEALED_BITS);
	struct vexfs_sealed_folio *whole;
	size_t offset = 0;
	int err = 0;

	whole = kmalloc(sizeof(*whole), GFP_NOFS);
	if (!whole) {
		folio_unlock(folio);
		return -ENOMEM;
	}
	whole->folio = folio;
	whole->err = vexfs_sealed_usable(vexfs_sealed(inode->i_sb)) ? 0 : -EIO;
	atomic_set(&whole->left, 1);
	while (!err && !READ_ONCE(whole->err) && block < min(last, end)) {
		struct vexfs_sealed_map map;
		size_t bytes;
		u64 blocks;

		err = vexfs_sealed_find_map(inode, block, &map);
		if (err)
			break;
		blocks = min(map.count - (block - map.from), last - block);
		bytes = blocks << VEXFS_SEALED_BITS;
		if (map.at)
			err = vexfs_sealed_submit(whole, offset,
						  map.at + (block - map.from),
						  blocks);
		else
			folio_zero_range(folio, offset, bytes);
		offset += bytes;
		block += blocks;
	}
	if (err)
		WRITE_ONCE(whole->err, err);
	vexfs_sealed_folio_put(whole);
	return err;
}

static void vexfs_sealed_readahead(struct readahead_control *rac)
{
	struct folio *folio;

	/* What fails is read again by who wants it. */
	while ((folio = readahead_folio(rac)))
		vexfs_sealed_read_folio(NULL, folio);
}

const struct address_space_operations vexfs_sealed_address_operations = {
	.read_folio	= vexfs_sealed_read_folio,
	.readahead	= vexfs_sealed_readahead,
	.migrate_folio	= filemap_migrate_folio,
};

static int vexfs_sealed_open(struct inode *inode, struct file *file)
{
	file->f_mode |= FMODE_NOWAIT | FMODE_CAN_ODIRECT;
	return generic_file_open(inode, file);
}

/* Direct reads go through the page cache, where they are checked. */
static ssize_t vexfs_sealed_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	return iov_iter_count(to) ? filemap_read(iocb, to, 0) : 0;
}

static loff_t vexfs_sealed_llseek(struct file *file, loff_t offset, int whence)
{
	struct inode *inode = file_inode(file);

	switch (whence) {
	case SEEK_HOLE:
		offset = iomap_seek_hole(inode, offset, &vexfs_sealed_iomap_ops);
		break;
	case SEEK_DATA:
		offset = iomap_seek_data(inode, offset, &vexfs_sealed_iomap_ops);
		break;
	default:
		return generic_file_llseek(file, offset, whence);
	}
	if (offset < 0)
		return offset;
	return vfs_setpos(file, offset, inode->i_sb->s_maxbytes);
}

static int vexfs_sealed_fiemap(struct inode *inode,
			       struct fiemap_extent_info *info, u64 start,
			       u64 length)
{
	return iomap_fiemap(inode, info, start, length,
			    &vexfs_sealed_iomap_ops);
}

static int vexfs_sealed_fileattr_get(struct dentry *dentry,
				     compat_fileattr_t *fa)
{
	struct inode *inode = d_inode(dentry);

	fileattr_fill_flags(fa, le32_to_cpu(vexfs_sealed_n(inode)->disk.flags));
	return 0;
}

const struct file_operations vexfs_sealed_file_operations = {
	.open		= vexfs_sealed_open,
	.llseek		= vexfs_sealed_llseek,
	.read_iter	= vexfs_sealed_read_iter,
	.mmap		= generic_file_readonly_mmap,
	.splice_read	= filemap_splice_read,
};

const struct inode_operations vexfs_sealed_file_inode_operations = {
	.getattr	= vexfs_sealed_getattr,
	.listxattr	= vexfs_sealed_listxattr,
	.get_inode_acl	= vexfs_sealed_get_acl,
	.fiemap		= vexfs_sealed_fiemap,
	.fileattr_get	= vexfs_sealed_fileattr_get,
};
