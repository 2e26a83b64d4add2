/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Differences between the kernels this project builds for (6.12 and 7.x).
 *
 * Every version test of the kernel sources is in this file.
 */
#ifndef VEXFS_COMPAT_H
#define VEXFS_COMPAT_H

#include <linux/module.h>
#include <linux/version.h>

/* 6.14 made the attribute that module_attribute callbacks receive const. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 14, 0)
typedef const struct module_attribute compat_module_attribute_t;
#else
typedef struct module_attribute compat_module_attribute_t;
#endif

/* 7.1 replaced uio_info::mmap by uio_info::mmap_prepare. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 1, 0)
#define COMPAT_UIO_MMAP_PREPARE
#endif

#endif /* VEXFS_COMPAT_H */
