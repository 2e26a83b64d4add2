// SPDX-License-Identifier: GPL-2.0-only
/*
 * VexFS kernel client: load and unload.
 *
 * Registers no filesystem yet: a loaded module occupies its name, shows its
 * state in /sys/module/vexfs/lifecycle/, and serves nothing.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/module.h>
#include <linux/printk.h>

#include "module_lifecycle.h"

#define VEXFS_VERSION "0.1.0"

static DEFINE_LIFECYCLE(vexfs_lifecycle);

static int __init vexfs_init(void)
{
	int err;

	err = lifecycle_begin_init(&vexfs_lifecycle);
	if (err)
		return err;

	lifecycle_finish_init(&vexfs_lifecycle);
	pr_info(VEXFS_VERSION " loaded, no filesystem registered\n");
	return 0;
}

static void __exit vexfs_exit(void)
{
	lifecycle_begin_exit(&vexfs_lifecycle);
	lifecycle_unpublish(&vexfs_lifecycle);
	lifecycle_end_exit(&vexfs_lifecycle);
	pr_info(VEXFS_VERSION " unloaded\n");
}

module_init(vexfs_init);
module_exit(vexfs_exit);

MODULE_AUTHOR("The vexfs-ublk authors");
MODULE_DESCRIPTION("VexFS: filesystem client of a ublk-served pool");
MODULE_VERSION(VEXFS_VERSION);
MODULE_LICENSE("GPL");
