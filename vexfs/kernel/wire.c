// SPDX-License-Identifier: GPL-2.0-only
/*
 * Checked decoding of what the device says.
 */

#include <linux/string.h>

#include "wire.h"

const void *vexfs_take(struct vexfs_reader *reader, size_t length)
{
	const u8 *at = reader->at;

	if (length > reader->end - at)
		return NULL;
	reader->at = at + length;
	return at;
}

int vexfs_take_attr(struct vexfs_reader *reader, const struct vexfs_mount *m,
		    struct vexfs_attr *attr)
{
	const struct vexfs_attr *wire = vexfs_take(reader, sizeof(*wire));

	if (!wire)
		return -EIO;
	attr->ino = le64(wire->ino);
	attr->size = le64(wire->size);
	attr->sectors = le64(wire->sectors);
	attr->accessed = le64(wire->accessed);
	attr->modified = le64(wire->modified);
	attr->changed = le64(wire->changed);
	attr->born = le64(wire->born);
	attr->device = le64(wire->device);
	attr->parent = le64(wire->parent);
	attr->uid = le32(wire->uid);
	attr->gid = le32(wire->gid);
	attr->links = le32(wire->links);
	attr->flags = le32(wire->flags);
	attr->mode = le16(wire->mode);
	attr->hints = le16(wire->hints);
	attr->generation = le32(wire->generation);
	attr->data_base = le64(wire->data_base);
	attr->data_span = le64(wire->data_span);

	if (!attr->ino)
		return -ENOENT;
	if (attr->ino >= 1ULL << 62 || !vexfs_kind_ok(attr->mode) ||
	    attr->size > m->max_file_bytes || attr->device > U32_MAX ||
	    attr->sectors > S64_MAX >> 9)
		return -EIO;
	if (S_ISREG(attr->mode) && attr->data_span &&
	    (attr->data_base < m->data_start ||
	     attr->data_base >= m->data_end ||
	     attr->data_span > m->data_end - attr->data_base ||
	     (attr->data_base | attr->data_span) % VEXFS_ABI_BLOCK))
		return -EIO;
	return 0;
}

static bool vexfs_window_ok(const struct vexfs_window *window, u64 end)
{
	return window->base % VEXFS_ABI_BLOCK == 0 && window->base &&
	       window->stride % VEXFS_ABI_BLOCK == 0 && window->stride &&
	       window->count && window->base < end &&
	       (u64)window->stride * window->count <= end - window->base;
}

static void vexfs_window_read(struct vexfs_window *window)
{
	window->base = le64(window->base);
	window->stride = le32(window->stride);
	window->count = le32(window->count);
}

const char *vexfs_check_super(struct vexfs_super *super, u64 device_bytes)
{
	u32 crc;

	if (le64(super->magic) != VEXFS_SUPER_MAGIC)
		return "not a vexfs device";
	crc = vexfs_crc(super, sizeof(*super),
			offsetof(struct vexfs_super, crc));
	if (le32(super->crc) != crc)
		return "the super window's checksum is wrong";

	super->major = le16(super->major);
	super->minor = le16(super->minor);
	super->incompat = le64(super->incompat);
	super->ro_compat = le64(super->ro_compat);
	super->data_start = le64(super->data_start);
	super->data_end = le64(super->data_end);
	super->max_file_bytes = le64(super->max_file_bytes);
	super->epoch = le64(super->epoch);
	vexfs_window_read(&super->calls);
	vexfs_window_read(&super->log);
	super->label[VEXFS_LABEL_BYTES - 1] = 0;

	if (super->major != VEXFS_ABI_MAJOR)
		return "the server speaks another version of the language";
	if (!vexfs_window_ok(&super->calls, device_bytes) ||
	    super->calls.count < 2 || super->calls.count > U16_MAX)
		return "the window of call slots is out of range";
	if (!vexfs_window_ok(&super->log, device_bytes))
		return "the log window is out of range";
	if (super->data_start % VEXFS_ABI_BLOCK ||
	    super->data_end % VEXFS_ABI_BLOCK || !super->data_start ||
	    super->data_start >= super->data_end ||
	    super->data_end > device_bytes)
		return "the data window is out of range";
	super->own.base = le64(super->own.base);
	super->own.span = le64(super->own.span);
	super->own.count = le64(super->own.count);
	if (super->own.count &&
	    ((super->own.base | super->own.span) % VEXFS_ABI_BLOCK ||
	     super->own.base < super->data_start || !super->own.span ||
	     super->own.base >= super->data_end ||
	     super->own.count > (super->data_end - super->own.base) /
				super->own.span))
		return "the windows of files are out of range";
	if (!super->max_file_bytes || super->max_file_bytes > S64_MAX)
		return "the longest file is out of range";
	return NULL;
}
