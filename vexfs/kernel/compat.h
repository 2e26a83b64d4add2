/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Differences between the kernels this project builds for (6.12 and 7.x).
 *
 * Every version test of the kernel sources is in this file.
 */
#ifndef VEXFS_COMPAT_H
#define VEXFS_COMPAT_H

#include <linux/crc32.h>
#include <linux/fs.h>
#include <linux/iomap.h>
#include <linux/module.h>
#include <linux/posix_acl_xattr.h>
#include <linux/slab.h>
#include <linux/version.h>
#include <linux/writeback.h>

/* 7.0 renamed the header of folio batches. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 0, 0)
#include <linux/folio_batch.h>
#else
#include <linux/pagevec.h>
#endif

/* 6.14 made the attribute that module_attribute callbacks receive const. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 14, 0)
typedef const struct module_attribute compat_module_attribute_t;
#else
typedef struct module_attribute compat_module_attribute_t;
#endif

/*
 * 6.15 has CRC-32C in one function of the kernel itself; before, the fast one
 * was in a module of its own, and ours would have to be loaded after it.
 */
static inline u32 compat_crc32c(u32 crc, const void *data, size_t length)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 15, 0)
	return crc32c(crc, data, length);
#else
	return __crc32c_le(crc, data, length);
#endif
}

/* 6.14 gave d_revalidate the directory and the name. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 14, 0)
#define COMPAT_D_REVALIDATE(_name, _dentry, _flags)			\
	_name(struct inode *compat_dir, const struct qstr *compat_qstr,	\
	      struct dentry *_dentry, unsigned int _flags)
#else
#define COMPAT_D_REVALIDATE(_name, _dentry, _flags)			\
	_name(struct dentry *_dentry, unsigned int _flags)
#endif

/* 7.3 tells create nothing of O_EXCL. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 3, 0)
#define COMPAT_CREATE(_name, _idmap, _dir, _dentry, _mode)		\
	_name(struct mnt_idmap *_idmap, struct inode *_dir,		\
	      struct dentry *_dentry, umode_t _mode)
#else
#define COMPAT_CREATE(_name, _idmap, _dir, _dentry, _mode)		\
	_name(struct mnt_idmap *_idmap, struct inode *_dir,		\
	      struct dentry *_dentry, umode_t _mode, bool compat_excl)
#endif

/* 6.15 lets mkdir return another dentry than it was given; NULL: the same. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 15, 0)
typedef struct dentry *compat_mkdir_t;
#define compat_mkdir_result(err) ERR_PTR(err)
#else
typedef int compat_mkdir_t;
#define compat_mkdir_result(err) (err)
#endif

/* 7.1 waits for names that others look up without being given where. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 1, 0)
#define COMPAT_D_WAIT(_wait)
#define compat_d_alloc_parallel(parent, name, wait) \
	d_alloc_parallel(parent, name)
#else
#define COMPAT_D_WAIT(_wait) DECLARE_WAIT_QUEUE_HEAD_ONSTACK(_wait)
#define compat_d_alloc_parallel(parent, name, wait) \
	d_alloc_parallel(parent, name, wait)
#endif

/* 6.17 hides the default dentry operations of a superblock. */
static inline void
compat_set_dentry_operations(struct super_block *sb,
			     const struct dentry_operations *ops)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 17, 0)
	set_default_d_op(sb, ops);
#else
	sb->s_d_op = ops;
#endif
}

/* 6.17 renamed the structure of inode flags. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 17, 0)
typedef struct file_kattr compat_fileattr_t;
#else
typedef struct fileattr compat_fileattr_t;
#endif

/* 6.19 hides i_state. */
static inline unsigned int compat_inode_state(struct inode *inode)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
	return inode_state_read_once(inode);
#else
	return READ_ONCE(inode->i_state);
#endif
}

/* 7.0 lets posix_acl_to_xattr() allocate. Gives kmalloc'ed bytes or an error. */
static inline void *compat_acl_to_xattr(const struct posix_acl *acl,
					size_t *size)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 0, 0)
	void *value = posix_acl_to_xattr(&init_user_ns, acl, size, GFP_NOFS);

	return value ? value : ERR_PTR(-ENOMEM);
#else
	void *value;
	int err;

	*size = posix_acl_xattr_size(acl->a_count);
	value = kmalloc(*size, GFP_NOFS);
	if (!value)
		return ERR_PTR(-ENOMEM);
	err = posix_acl_to_xattr(&init_user_ns, acl, value, *size);
	if (err < 0) {
		kfree(value);
		return ERR_PTR(err);
	}
	return value;
#endif
}

/* 7.1 replaced uio_info::mmap by uio_info::mmap_prepare. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 1, 0)
#define COMPAT_UIO_MMAP_PREPARE
#endif

/*
 * iomap: 6.17 split writeback into a call per range and one that submits, and
 * moved the functions of folios out of the mapping; 7.0 gave reads a context;
 * 7.2 an iteration in one call.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 2, 0)
#define COMPAT_IOMAP_OPS(_name, _begin)					\
static DEFINE_IOMAP_ITER_NEXT(_name##_next, _begin)			\
const struct iomap_ops _name = {					\
	.iomap_begin	= _begin,					\
	.iomap_next	= _name##_next,					\
}
#else
#define COMPAT_IOMAP_OPS(_name, _begin)					\
const struct iomap_ops _name = {					\
	.iomap_begin	= _begin,					\
}
#endif

/*
 * @_map: int (struct inode *, loff_t offset, unsigned int length,
 *	       struct iomap *)
 * @_prepare: void (struct iomap_ioend *), before it is submitted
 * @_drop: void (const struct iomap_ioend *), if it is not
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 17, 0)
#define COMPAT_WRITEBACK_OPS(_name, _map, _prepare, _drop)		\
static ssize_t _name##_range(struct iomap_writepage_ctx *wpc,		\
			     struct folio *folio, u64 pos,		\
			     unsigned int len, u64 end_pos)		\
{									\
	int err = _map(wpc->inode, pos, len, &wpc->iomap);		\
									\
	if (err)							\
		return err;						\
	return iomap_add_to_ioend(wpc, folio, pos, end_pos, len);	\
}									\
									\
static int _name##_submit(struct iomap_writepage_ctx *wpc, int error)	\
{									\
	if (!error)							\
		_prepare(wpc->wb_ctx);					\
	else								\
		_drop(wpc->wb_ctx);					\
	return iomap_ioend_writeback_submit(wpc, error);		\
}									\
									\
static const struct iomap_writeback_ops _name = {			\
	.writeback_range	= _name##_range,			\
	.writeback_submit	= _name##_submit,			\
}
#else
#define COMPAT_WRITEBACK_OPS(_name, _map, _prepare, _drop)		\
static int _name##_map(struct iomap_writepage_ctx *wpc,			\
		       struct inode *inode, loff_t offset,		\
		       unsigned int len)				\
{									\
	return _map(inode, offset, len, &wpc->iomap);			\
}									\
									\
static int _name##_prepare(struct iomap_ioend *ioend, int status)	\
{									\
	if (!status)							\
		_prepare(ioend);					\
	else								\
		_drop(ioend);						\
	return status;							\
}									\
									\
static const struct iomap_writeback_ops _name = {			\
	.map_blocks	= _name##_map,					\
	.prepare_ioend	= _name##_prepare,				\
}
#endif

/*
 * Ends the writeback of an ioend that succeeded, where sleeping is not allowed.
 * @usual: what the kernel had set as the end of its bio.
 */
static inline void compat_iomap_end_ioend(struct iomap_ioend *ioend,
					  bio_end_io_t *usual)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 17, 0)
	struct bio *bio = &ioend->io_bio;
	struct folio_iter fi;

	bio_for_each_folio_all(fi, bio)
		iomap_finish_folio_write(ioend->io_inode, fi.folio, fi.length);
	bio_put(bio);
#else
	usual(&ioend->io_bio);
#endif
}

static inline int
compat_iomap_writepages(struct address_space *mapping,
			struct writeback_control *wbc,
			const struct iomap_writeback_ops *ops)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 17, 0)
	struct iomap_writepage_ctx wpc = {
		.inode	= mapping->host,
		.wbc	= wbc,
		.ops	= ops,
	};

	return iomap_writepages(&wpc);
#else
	struct iomap_writepage_ctx wpc = {};

	return iomap_writepages(mapping, wbc, &wpc, ops);
#endif
}

/* 6.17 made what is asked with a page locked an argument of each write. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 17, 0)
typedef struct iomap_write_ops compat_write_ops_t;
#define compat_iomap_set_write_ops(iomap, write_ops) ((void)(write_ops))
#else
typedef struct iomap_folio_ops compat_write_ops_t;
#define compat_iomap_set_write_ops(iomap, write_ops) \
	((iomap)->folio_ops = (write_ops))
#endif

static inline ssize_t
compat_iomap_buffered_write(struct kiocb *iocb, struct iov_iter *from,
			    const struct iomap_ops *ops,
			    const compat_write_ops_t *write_ops)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 17, 0)
	return iomap_file_buffered_write(iocb, from, ops, write_ops, NULL);
#else
	return iomap_file_buffered_write(iocb, from, ops, NULL);
#endif
}

static inline int compat_iomap_truncate_page(struct inode *inode, loff_t pos,
					     bool *did_zero,
					     const struct iomap_ops *ops,
					     const compat_write_ops_t *write_ops)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 17, 0)
	return iomap_truncate_page(inode, pos, did_zero, ops, write_ops, NULL);
#else
	return iomap_truncate_page(inode, pos, did_zero, ops);
#endif
}

static inline int compat_iomap_zero_range(struct inode *inode, loff_t pos,
					  loff_t length,
					  const struct iomap_ops *ops,
					  const compat_write_ops_t *write_ops)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 17, 0)
	return iomap_zero_range(inode, pos, length, NULL, ops, write_ops, NULL);
#else
	return iomap_zero_range(inode, pos, length, NULL, ops);
#endif
}

static inline vm_fault_t compat_iomap_page_mkwrite(struct vm_fault *vmf,
						   const struct iomap_ops *ops)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 16, 0)
	return iomap_page_mkwrite(vmf, ops, NULL);
#else
	return iomap_page_mkwrite(vmf, ops);
#endif
}

#endif /* VEXFS_COMPAT_H */
