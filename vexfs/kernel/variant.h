/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Build variants: what is compiled in. One source; see Makefile.
 *
 *	safe-ffi	everything
 *	standard	no timeouts, retries or degradation: a call waits until it is
 *			answered. For measuring what safety costs, on machines
 *			that may hang.
 *	safe		no server: sealed images only. They are watched: what was
 *			met is in sysfs, and damage_limit ends what is too bad.
 *	c-only		sealed images, and nothing else
 */
#ifndef VEXFS_VARIANT_H
#define VEXFS_VARIANT_H

#define VEXFS_NAME	"vexfs"

#if defined(VEXFS_VARIANT_C_ONLY)
#define VEXFS_VARIANT		"c-only"
#define VEXFS_HAS_SERVER	0
#define VEXFS_HAS_SYSFS		0
#elif defined(VEXFS_VARIANT_SAFE)
#define VEXFS_VARIANT		"safe"
#define VEXFS_HAS_SERVER	0
#define VEXFS_HAS_SYSFS		1
#elif defined(VEXFS_VARIANT_STANDARD)
#define VEXFS_VARIANT		"standard"
#define VEXFS_HAS_SERVER	1
#define VEXFS_HAS_SYSFS		1
#define vexfs_is_safe		false
#else
#define VEXFS_VARIANT		"safe-ffi"
#define VEXFS_HAS_SERVER	1
#define VEXFS_HAS_SYSFS		1
#define vexfs_is_safe		true
#endif

#include <linux/atomic.h>
#include <linux/kobject.h>

/* Mounts of all kinds. */
extern atomic_t vexfs_mounts;

/* The parts that main.c starts in this order, and ends in the other. */
#if VEXFS_HAS_SYSFS
/* sysfs_root.c */
extern struct kobject *vexfs_sysfs_root;
int vexfs_sysfs_init(void);
void vexfs_sysfs_exit(void);
#endif

#if VEXFS_HAS_SERVER
/* client.c */
int vexfs_client_init(void);
void vexfs_client_exit(void);
#endif

/* super.c, or sealed_type.c where there is no server */
int vexfs_super_register(void);
void vexfs_super_unregister(void);

#endif /* VEXFS_VARIANT_H */
