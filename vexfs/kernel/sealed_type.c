// SPDX-License-Identifier: GPL-2.0-only
/*
 * The filesystem where there is no server: sealed images only.
 */

#include <linux/fs_context.h>
#include <linux/module.h>

#include "sealed.h"

static int vexfs_get_tree(struct fs_context *fc)
{
	return get_tree_bdev(fc, vexfs_sealed_fill_super);
}

static const struct fs_context_operations vexfs_context_operations = {
	.get_tree	= vexfs_get_tree,
	.reconfigure	= vexfs_sealed_reconfigure,
};

static int vexfs_init_fs_context(struct fs_context *fc)
{
	fc->ops = &vexfs_context_operations;
	return 0;
}

static struct file_system_type vexfs_type = {
	.owner			= THIS_MODULE,
	.name			= VEXFS_NAME,
	.init_fs_context	= vexfs_init_fs_context,
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
