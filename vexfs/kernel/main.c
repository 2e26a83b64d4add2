// SPDX-License-Identifier: GPL-2.0-only
/*
 * VexFS kernel client: load and unload.
 *
 * Everything is taken in one order and given back in the reverse one. While a
 * mount lives, or an exchange with a device, the module cannot be unloaded:
 * both hold it.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/module.h>
#include <linux/printk.h>

#include "module_lifecycle.h"
#include "variant.h"
#include "vexfs.h"

#define VEXFS_VERSION "0.1.0"

unsigned int vexfs_default_timeout_ms = 5000;
module_param_named(timeout_ms, vexfs_default_timeout_ms, uint, 0644);
MODULE_PARM_DESC(timeout_ms, "milliseconds until a call is tried again; of mounts made later");

unsigned int vexfs_default_retries = 3;
module_param_named(retries, vexfs_default_retries, uint, 0644);
MODULE_PARM_DESC(retries, "attempts of a call after the first; of mounts made later");

/*
 * Frees what ends late, submits what finds its queue full, and probes servers
 * that do not answer. Of the module, not of a mount: it outlives them.
 */
struct workqueue_struct *vexfs_wq;
atomic_t vexfs_mounts = ATOMIC_INIT(0);

static DEFINE_LIFECYCLE(vexfs_lifecycle);

static int __init vexfs_init(void)
{
	int err;

	err = lifecycle_begin_init(&vexfs_lifecycle);
	if (err)
		return err;

	err = -ENOMEM;
	vexfs_wq = alloc_workqueue(VEXFS_NAME, WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	if (!vexfs_wq)
		goto abort;
	err = vexfs_inode_cache_create();
	if (err)
		goto destroy_wq;
	err = vexfs_reads_create();
	if (err)
		goto destroy_cache;
	err = vexfs_direct_create();
	if (err)
		goto destroy_reads;
	err = vexfs_sysfs_init();
	if (err)
		goto destroy_direct;
	err = vexfs_super_register();
	if (err)
		goto exit_sysfs;

	lifecycle_finish_init(&vexfs_lifecycle);
	pr_info(VEXFS_VERSION " loaded (" VEXFS_VARIANT ")\n");
	return 0;

exit_sysfs:
	vexfs_sysfs_exit();
destroy_direct:
	vexfs_direct_destroy();
destroy_reads:
	vexfs_reads_destroy();
destroy_cache:
	vexfs_inode_cache_destroy();
destroy_wq:
	destroy_workqueue(vexfs_wq);
abort:
	pr_err("cannot load: %d\n", err);
	lifecycle_unpublish(&vexfs_lifecycle);
	lifecycle_abort_init(&vexfs_lifecycle);
	return err;
}

static void __exit vexfs_exit(void)
{
	lifecycle_begin_exit(&vexfs_lifecycle);
	vexfs_super_unregister();
	vexfs_sysfs_exit();
	/* Waits for the ends of late exchanges. */
	destroy_workqueue(vexfs_wq);
	/* Inodes are freed after a grace period. */
	rcu_barrier();
	vexfs_direct_destroy();
	vexfs_reads_destroy();
	vexfs_inode_cache_destroy();
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
