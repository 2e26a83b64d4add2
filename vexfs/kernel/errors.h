/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Names of operations and errnos of the server. See errors.c.
 */
#ifndef VEXFS_ERRORS_H
#define VEXFS_ERRORS_H

#include "vexfs.h"

const char *vexfs_opcode_name(u16 opcode);
int vexfs_status_errno(struct vexfs_mount *m, u16 opcode, s32 status);

#endif /* VEXFS_ERRORS_H */
