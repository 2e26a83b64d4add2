// SPDX-License-Identifier: GPL-2.0-only
/*
 * What mounts with a server share: settings, the workqueue, caches, memory for transfers.
 */

#include <linux/module.h>

#include "vexfs.h"

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

int vexfs_client_init(void)
{
	int err;

	vexfs_wq = alloc_workqueue(VEXFS_NAME, WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	if (!vexfs_wq)
		return -ENOMEM;
	err = vexfs_inode_cache_create();
	if (err)
		goto destroy_wq;
	err = vexfs_reads_create();
	if (err)
		goto destroy_cache;
	err = vexfs_direct_create();
	if (err)
		goto destroy_reads;
	return 0;

destroy_reads:
	vexfs_reads_destroy();
destroy_cache:
	vexfs_inode_cache_destroy();
destroy_wq:
	destroy_workqueue(vexfs_wq);
	return err;
}

void vexfs_client_exit(void)
{
	/* Waits for the ends of late exchanges. */
	destroy_workqueue(vexfs_wq);
	/* Inodes are freed after a grace period. */
	rcu_barrier();
	vexfs_direct_destroy();
	vexfs_reads_destroy();
	vexfs_inode_cache_destroy();
}
