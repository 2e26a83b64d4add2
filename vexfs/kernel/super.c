// SPDX-License-Identifier: GPL-2.0-only
/*
 * Superblocks: options, mounting, remounting, sync.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/blkdev.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "call.h"
#include "sealed.h"

enum {
	OPT_TIMEOUT,
	OPT_RETRIES,
};

static const struct fs_parameter_spec vexfs_parameters[] = {
	fsparam_u32("timeout", OPT_TIMEOUT),
	fsparam_u32("retries", OPT_RETRIES),
	{}
};

static int vexfs_parse_param(struct fs_context *fc, struct fs_parameter *param)
{
	struct vexfs_options *options = fc->fs_private;
	struct fs_parse_result result;
	int opt = fs_parse(fc, vexfs_parameters, param, &result);

	if (opt < 0)
		return opt;
	switch (opt) {
	case OPT_TIMEOUT:
		if (result.uint_32 < 10 || result.uint_32 > 600000)
			return invalf(fc, "vexfs: timeout is 10 to 600000 ms");
		options->timeout_ms = result.uint_32;
		break;
	case OPT_RETRIES:
		if (result.uint_32 > 10)
			return invalf(fc, "vexfs: retries is 0 to 10");
		options->retries = result.uint_32;
		break;
	}
	return 0;
}

static int vexfs_show_options(struct seq_file *seq, struct dentry *root)
{
	const struct vexfs_mount *m = vexfs_mount(root->d_sb);

	seq_printf(seq, ",timeout=%u,retries=%u", m->options.timeout_ms,
		   m->options.retries);
	return 0;
}

static int vexfs_sync_fs(struct super_block *sb, int wait)
{
	return wait && !sb_rdonly(sb) ? vexfs_flush(vexfs_mount(sb)) : 0;
}

/* Writers are kept out, and all they wrote was synced after that. */
static int vexfs_freeze_fs(struct super_block *sb)
{
	return vexfs_sync_fs(sb, 1);
}

static void vexfs_put_super(struct super_block *sb)
{
	struct vexfs_mount *m = vexfs_mount(sb);

	vexfs_mount_stop(m);
	sb->s_fs_info = NULL;
	atomic_dec(&vexfs_mounts);
}

/* The device was removed under the mount. */
static void vexfs_shutdown(struct super_block *sb)
{
	struct vexfs_mount *m = vexfs_mount(sb);

	vexfs_err(m, "the device is gone: unmount\n");
	vexfs_health_end(m);
}

static const struct super_operations vexfs_super_operations = {
	.alloc_inode	= vexfs_alloc_inode,
	.free_inode	= vexfs_free_inode,
	.evict_inode	= vexfs_evict_inode,
	.write_inode	= vexfs_write_inode,
	.put_super	= vexfs_put_super,
	.sync_fs	= vexfs_sync_fs,
	.freeze_fs	= vexfs_freeze_fs,
	.statfs		= vexfs_statfs,
	.show_options	= vexfs_show_options,
	.shutdown	= vexfs_shutdown,
};

static void vexfs_super_setup(struct super_block *sb,
			      const struct vexfs_super *super)
{
	super_set_uuid(sb, super->uuid, sizeof(super->uuid));
	sb->s_magic = VEXFS_SB_MAGIC;
	sb->s_op = &vexfs_super_operations;
	sb->s_xattr = vexfs_xattr_handlers;
	sb->s_export_op = &vexfs_export_operations;
	compat_set_dentry_operations(sb, &vexfs_dentry_operations);
	sb->s_maxbytes = min_t(u64, super->max_file_bytes, MAX_LFS_FILESIZE);
	sb->s_max_links = VEXFS_MAX_LINKS;
	sb->s_time_gran = 1;
	sb->s_time_min = div_s64(S64_MIN, NSEC_PER_SEC);
	sb->s_time_max = div_s64(S64_MAX, NSEC_PER_SEC);
	sb->s_flags |= SB_POSIXACL | SB_NOSEC;
	sb->s_iflags |= SB_I_CGROUPWB;
}

static int vexfs_fill_super(struct super_block *sb, struct fs_context *fc)
{
	struct vexfs_super *super;
	struct vexfs_statfs room;
	struct vexfs_attr attr;
	struct vexfs_mount *m;
	struct inode *root;
	int err;

	if (!sb_set_blocksize(sb, VEXFS_ABI_BLOCK))
		return invalf(fc, "vexfs: blocks of the device are not 4096 bytes");
	super = kmalloc(sizeof(*super), GFP_KERNEL);
	m = vexfs_mount_new(sb, fc->fs_private);
	if (!super || !m) {
		err = -ENOMEM;
		goto stop;
	}
	sb->s_fs_info = m;
	err = vexfs_mount_alone(m);
	if (!err)
		err = vexfs_mount_identify(m, fc->sb_flags & SB_SILENT, super);
	if (err)
		goto stop;
	vexfs_super_setup(sb, super);
	err = vexfs_session_begin(m, sb_rdonly(sb), &attr);
	if (!err)
		err = vexfs_room_ask(m, &room);
	if (err)
		goto stop;
	if (m->server_read_only && !sb_rdonly(sb)) {
		warnf(fc, "vexfs: the pool is read-only");
		sb->s_flags |= SB_RDONLY;
	}

	if (attr.ino != VEXFS_ROOT_INO || !S_ISDIR(attr.mode)) {
		vexfs_err(m, "the root is not a directory\n");
		err = -EIO;
		goto stop;
	}
	root = vexfs_iget(sb, &attr, vexfs_stamp(m));
	if (IS_ERR(root)) {
		err = PTR_ERR(root);
		goto stop;
	}
	sb->s_root = d_make_root(root);
	if (!sb->s_root) {
		err = -ENOMEM;
		goto stop;
	}
	/* From here on VFS calls put_super for us. */
	atomic_inc(&vexfs_mounts);
	err = vexfs_sysfs_add(m);
	kfree(super);
	return err;

stop:
	if (m)
		vexfs_mount_stop(m);
	sb->s_fs_info = NULL;
	kfree(super);
	return err == VEXFS_IS_SEALED ? vexfs_sealed_fill_super(sb, fc) : err;
}

static int vexfs_get_tree(struct fs_context *fc)
{
	return get_tree_bdev(fc, vexfs_fill_super);
}

static int vexfs_reconfigure(struct fs_context *fc)
{
	struct super_block *sb = fc->root->d_sb;
	struct vexfs_mount *m;
	bool writable = !(fc->sb_flags & SB_RDONLY);
	int err;

	if (vexfs_is_sealed(sb))
		return vexfs_sealed_reconfigure(fc);
	m = vexfs_mount(sb);
	sync_filesystem(sb);
	if (writable && sb_rdonly(sb)) {
		if (m->server_read_only && !m->session_read_only)
			return invalf(fc, "vexfs: the pool is read-only");
		if (m->session_read_only) {
			struct vexfs_attr root;

			err = vexfs_session_begin(m, false, &root);
			if (err)
				return err;
			if (m->server_read_only)
				return invalf(fc, "vexfs: the pool is read-only");
		}
	}
	m->options = *(struct vexfs_options *)fc->fs_private;
	return 0;
}

static void vexfs_free_fc(struct fs_context *fc)
{
	kfree(fc->fs_private);
}

static const struct fs_context_operations vexfs_context_operations = {
	.parse_param	= vexfs_parse_param,
	.get_tree	= vexfs_get_tree,
	.reconfigure	= vexfs_reconfigure,
	.free		= vexfs_free_fc,
};

static int vexfs_init_fs_context(struct fs_context *fc)
{
	struct vexfs_options *options = kzalloc(sizeof(*options), GFP_KERNEL);

	if (!options)
		return -ENOMEM;
	if (fc->purpose == FS_CONTEXT_FOR_RECONFIGURE &&
	    !vexfs_is_sealed(fc->root->d_sb)) {
		*options = vexfs_mount(fc->root->d_sb)->options;
	} else {
		options->timeout_ms = READ_ONCE(vexfs_default_timeout_ms);
		options->retries = READ_ONCE(vexfs_default_retries);
	}
	fc->fs_private = options;
	fc->ops = &vexfs_context_operations;
	return 0;
}

static struct file_system_type vexfs_type = {
	.owner			= THIS_MODULE,
	.name			= VEXFS_NAME,
	.init_fs_context	= vexfs_init_fs_context,
	.parameters		= vexfs_parameters,
	.kill_sb		= kill_block_super,
	.fs_flags		= FS_REQUIRES_DEV | FS_ALLOW_IDMAP,
};
MODULE_ALIAS_FS(VEXFS_NAME);

int vexfs_super_register(void)
{
	return register_filesystem(&vexfs_type);
}

void vexfs_super_unregister(void)
{
	unregister_filesystem(&vexfs_type);
}
