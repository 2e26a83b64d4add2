// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which errnos of the server reach applications.
 *
 * Each operation passes on what POSIX lets it return. Anything else from the
 * server is EIO, with a line in the log: an application is not to be surprised
 * by an errno it cannot have, whatever the other side says.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/errno.h>
#include <linux/printk.h>

#include "errors.h"

static const char * const vexfs_opcode_names[] = {
	[VEXFS_HELLO]		= "HELLO",
	[VEXFS_RESUME]		= "RESUME",
	[VEXFS_GOODBYE]		= "GOODBYE",
	[VEXFS_LOOKUP]		= "LOOKUP",
	[VEXFS_GETATTR]		= "GETATTR",
	[VEXFS_READDIR]		= "READDIR",
	[VEXFS_GETXATTR]	= "GETXATTR",
	[VEXFS_LISTXATTR]	= "LISTXATTR",
	[VEXFS_APPLY]		= "APPLY",
	[VEXFS_STATFS]		= "STATFS",
	[VEXFS_MAP]		= "MAP",
	[VEXFS_GRANT]		= "GRANT",
	[VEXFS_EXTENTS]		= "EXTENTS",
	[VEXFS_SEEK]		= "SEEK",
	[VEXFS_RELEASE]		= "RELEASE",
	[VEXFS_PARENT]		= "PARENT",
	[VEXFS_QUERY]		= "QUERY",
};

const char *vexfs_opcode_name(u16 opcode)
{
	if (opcode < ARRAY_SIZE(vexfs_opcode_names) &&
	    vexfs_opcode_names[opcode])
		return vexfs_opcode_names[opcode];
	return "unknown";
}

static bool vexfs_status_ok(u16 opcode, int status)
{
	switch (status) {
	case -EIO:
	case -ENOMEM:
		return true;
	case -ESTALE:
		if (opcode == VEXFS_QUERY)
			return true;
		fallthrough;
	case -ENOENT:
	case -ENOTDIR:
	case -ENAMETOOLONG:
		return opcode == VEXFS_LOOKUP || opcode == VEXFS_GETATTR ||
		       opcode == VEXFS_READDIR || opcode == VEXFS_PARENT ||
		       opcode == VEXFS_APPLY || opcode == VEXFS_GETXATTR ||
		       opcode == VEXFS_LISTXATTR;
	case -ENODATA:
		return opcode == VEXFS_GETXATTR || opcode == VEXFS_APPLY;
	case -ERANGE:
		return opcode == VEXFS_GETXATTR || opcode == VEXFS_LISTXATTR;
	case -E2BIG:
		/* More vectors than an attribute can hold. */
		return opcode == VEXFS_GETXATTR || opcode == VEXFS_APPLY;
	case -ENXIO:
		return opcode == VEXFS_SEEK;
	case -EOPNOTSUPP:
		return opcode != VEXFS_LOOKUP && opcode != VEXFS_GETATTR;
	case -ENOSPC:
		return opcode == VEXFS_APPLY || opcode == VEXFS_GRANT ||
		       opcode == VEXFS_MAP;
	case -EROFS:
		return opcode == VEXFS_APPLY || opcode == VEXFS_HELLO ||
		       opcode == VEXFS_GRANT;
	case -EEXIST:
	case -ENOTEMPTY:
	case -EISDIR:
	case -EMLINK:
	case -EFBIG:
	case -EINVAL:
	case -EPERM:
	case -EACCES:
	case -EBUSY:
	case -ELOOP:
		return opcode == VEXFS_APPLY;
	default:
		return false;
	}
}

int vexfs_status_errno(struct vexfs_mount *m, u16 opcode, s32 status)
{
	if (status <= 0 && (!status || vexfs_status_ok(opcode, status)))
		return status;
	atomic64_inc(&m->counters.hostile);
	vexfs_err(m, "%s was answered with status %d: EIO\n",
		  vexfs_opcode_name(opcode), status);
	return -EIO;
}
