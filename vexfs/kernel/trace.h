/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints: calls, health, and the ends of writeback.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM vexfs

#if !defined(VEXFS_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define VEXFS_TRACE_H

#include <linux/tracepoint.h>

#include "vexfs.h"

TRACE_EVENT(vexfs_call_begin,
	TP_PROTO(const struct vexfs_mount *m, u16 opcode, int slot, u64 seq),
	TP_ARGS(m, opcode, slot, seq),
	TP_STRUCT__entry(
		__string(device, m->name)
		__field(u16, opcode)
		__field(int, slot)
		__field(u64, seq)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->opcode = opcode;
		__entry->slot = slot;
		__entry->seq = seq;
	),
	TP_printk("%s opcode %u slot %d seq %llu", __get_str(device),
		  __entry->opcode, __entry->slot, __entry->seq)
);

TRACE_EVENT(vexfs_call_end,
	TP_PROTO(const struct vexfs_mount *m, u16 opcode, int slot, u64 seq,
		 int err, u64 us),
	TP_ARGS(m, opcode, slot, seq, err, us),
	TP_STRUCT__entry(
		__string(device, m->name)
		__field(u16, opcode)
		__field(int, slot)
		__field(u64, seq)
		__field(int, err)
		__field(u64, us)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->opcode = opcode;
		__entry->slot = slot;
		__entry->seq = seq;
		__entry->err = err;
		__entry->us = us;
	),
	TP_printk("%s opcode %u slot %d seq %llu err %d %llu us",
		  __get_str(device), __entry->opcode, __entry->slot,
		  __entry->seq, __entry->err, __entry->us)
);

TRACE_EVENT(vexfs_health,
	TP_PROTO(const struct vexfs_mount *m, int from, int to),
	TP_ARGS(m, from, to),
	TP_STRUCT__entry(
		__string(device, m->name)
		__field(int, from)
		__field(int, to)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->from = from;
		__entry->to = to;
	),
	TP_printk("%s %d -> %d", __get_str(device), __entry->from,
		  __entry->to)
);

TRACE_EVENT(vexfs_written,
	TP_PROTO(const struct vexfs_mount *m, u64 ino, u64 at, u64 bytes,
		 int err),
	TP_ARGS(m, ino, at, bytes, err),
	TP_STRUCT__entry(
		__string(device, m->name)
		__field(u64, ino)
		__field(u64, at)
		__field(u64, bytes)
		__field(int, err)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->ino = ino;
		__entry->at = at;
		__entry->bytes = bytes;
		__entry->err = err;
	),
	TP_printk("%s inode %llu at %llu bytes %llu err %d",
		  __get_str(device), __entry->ino, __entry->at,
		  __entry->bytes, __entry->err)
);

#endif /* VEXFS_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
