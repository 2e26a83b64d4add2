/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How a UIO driver answers mmap(), on both kernels.
 *
 * 7.1 replaced uio_info::mmap, which is handed the mapping being made, by
 * uio_info::mmap_prepare, which is handed its description.
 */
#ifndef DSMIL_UIO_COMPAT_H
#define DSMIL_UIO_COMPAT_H

#include <linux/mm.h>
#include <linux/uio_driver.h>

#include "compat.h"

#ifdef COMPAT_UIO_MMAP_PREPARE

typedef struct vm_area_desc compat_uio_mapping_t;
#define compat_uio_mmap mmap_prepare

static inline unsigned long compat_uio_mapping_pgoff(const compat_uio_mapping_t *mapping)
{
	return mapping->pgoff;
}

static inline unsigned long compat_uio_mapping_length(const compat_uio_mapping_t *mapping)
{
	return mapping->end - mapping->start;
}

static inline bool compat_uio_mapping_shared(compat_uio_mapping_t *mapping)
{
	return vma_desc_test(mapping, VMA_SHARED_BIT);
}

/* Device memory, uncached, whose pages come from ops->fault. */
static inline void compat_uio_mapping_set(compat_uio_mapping_t *mapping,
					  const struct vm_operations_struct *ops, void *key)
{
	vma_desc_set_flags(mapping, VMA_IO_BIT, VMA_PFNMAP_BIT, VMA_DONTEXPAND_BIT,
			   VMA_DONTDUMP_BIT);
	mapping->page_prot = pgprot_noncached(mapping->page_prot);
	mapping->vm_ops = ops;
	mapping->private_data = key;
}

#else

typedef struct vm_area_struct compat_uio_mapping_t;
#define compat_uio_mmap mmap

static inline unsigned long compat_uio_mapping_pgoff(const compat_uio_mapping_t *mapping)
{
	return mapping->vm_pgoff;
}

static inline unsigned long compat_uio_mapping_length(const compat_uio_mapping_t *mapping)
{
	return mapping->vm_end - mapping->vm_start;
}

static inline bool compat_uio_mapping_shared(compat_uio_mapping_t *mapping)
{
	return mapping->vm_flags & VM_SHARED;
}

/* Device memory, uncached, whose pages come from ops->fault. */
static inline void compat_uio_mapping_set(compat_uio_mapping_t *mapping,
					  const struct vm_operations_struct *ops, void *key)
{
	vm_flags_set(mapping, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
	mapping->vm_page_prot = pgprot_noncached(mapping->vm_page_prot);
	mapping->vm_ops = ops;
	mapping->vm_private_data = key;
}

#endif /* COMPAT_UIO_MMAP_PREPARE */

#endif /* DSMIL_UIO_COMPAT_H */
