/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Build variants: what is compiled in. One source; see Makefile.
 *
 *	safe-ffi	everything
 *	standard	no timeouts, retries or degradation: a call waits until it is
 *			answered. For measuring what safety costs, on machines
 *			that may hang.
 */
#ifndef VEXFS_VARIANT_H
#define VEXFS_VARIANT_H

#ifdef VEXFS_VARIANT_STANDARD
#define VEXFS_VARIANT	"standard"
#define vexfs_is_safe	false
#else
#define VEXFS_VARIANT	"safe-ffi"
#define vexfs_is_safe	true
#endif

#endif /* VEXFS_VARIANT_H */
