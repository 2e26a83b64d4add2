/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Bytes from the device, checked. Nothing here allocates or sleeps; everything
 * that is returned without an error is within its limits.
 */
#ifndef VEXFS_WIRE_H
#define VEXFS_WIRE_H

#include <asm/byteorder.h>

#include "checks.h"
#include "vexfs.h"

/* The fields of vexfs_abi.h are plain numbers, little-endian on the wire. */
#define le16(x)	le16_to_cpu((__force __le16)(x))
#define le32(x)	le32_to_cpu((__force __le32)(x))
#define le64(x)	le64_to_cpu((__force __le64)(x))
#define to16(x)	((__force __u16)cpu_to_le16(x))
#define to32(x)	((__force __u32)cpu_to_le32(x))
#define to64(x)	((__force __u64)cpu_to_le64(x))

/* Reads forward through a reply's payload. */
struct vexfs_reader {
	const u8 *at;
	const u8 *end;
};

/* The next @length bytes, or NULL if there are not as many. */
const void *vexfs_take(struct vexfs_reader *reader, size_t length);

/* Copies an attribute out and checks it; -ENOENT if there is none. */
int vexfs_take_attr(struct vexfs_reader *reader, const struct vexfs_mount *m,
		    struct vexfs_attr *attr);

/* Checks the super block of a device. The text says what is wrong, or NULL. */
const char *vexfs_check_super(struct vexfs_super *super, u64 device_bytes);

#endif /* VEXFS_WIRE_H */
