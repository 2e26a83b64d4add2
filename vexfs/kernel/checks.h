/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is looked at in bytes that come from a device, whoever wrote them: a
 * server or a sealed image.
 */
#ifndef VEXFS_CHECKS_H
#define VEXFS_CHECKS_H

#include <linux/capability.h>
#include <linux/limits.h>
#include <linux/stat.h>
#include <linux/string.h>
#include <linux/xattr.h>

#include "compat.h"

/* CRC-32C of a block of bytes whose checksum field is at @field. */
static inline u32 vexfs_crc(const void *data, size_t length, size_t field)
{
	static const u8 zero[4];
	u32 crc;

	crc = compat_crc32c(~0, data, field);
	crc = compat_crc32c(crc, zero, sizeof(zero));
	crc = compat_crc32c(crc, data + field + 4, length - field - 4);
	return ~crc;
}

static inline bool vexfs_kind_ok(u16 mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		return true;
	default:
		return false;
	}
}

/* Names in directories: what VFS may be told. */
static inline bool vexfs_name_ok(const char *name, size_t length)
{
	if (!length || length > NAME_MAX ||
	    memchr(name, 0, length) || memchr(name, '/', length))
		return false;
	return !(name[0] == '.' &&
		 (length == 1 || (length == 2 && name[1] == '.')));
}

/* Whether the caller may know that a file has such an attribute. */
static inline bool vexfs_xattr_listed(const char *name)
{
	if (!strncmp(name, XATTR_TRUSTED_PREFIX, XATTR_TRUSTED_PREFIX_LEN))
		return capable(CAP_SYS_ADMIN);
	return !strncmp(name, XATTR_USER_PREFIX, XATTR_USER_PREFIX_LEN) ||
	       !strncmp(name, XATTR_SECURITY_PREFIX,
			XATTR_SECURITY_PREFIX_LEN) ||
	       !strcmp(name, XATTR_NAME_POSIX_ACL_ACCESS) ||
	       !strcmp(name, XATTR_NAME_POSIX_ACL_DEFAULT);
}

#endif /* VEXFS_CHECKS_H */
