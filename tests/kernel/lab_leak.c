// SPDX-License-Identifier: GPL-2.0-only
/*
 * Proves that the lab sees a leak: allocates slab objects and forgets them, one
 * batch while loading and one more every interval. Expected: SUnreclaim of
 * /proc/meminfo grows steadily, and kmemleak reports unreferenced objects whose
 * backtrace names this module. Unloading stops the growth and frees nothing.
 *
 * The default rate is 2.5 MiB/s up to 256 MiB, so that a forgotten lab_leak does
 * not end the machine; limit_mib=0 lets it.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/compiler.h>
#include <linux/init.h>
#include <linux/jiffies.h>
#include <linux/module.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

static unsigned int object_bytes = 1024;
module_param(object_bytes, uint, 0444);
MODULE_PARM_DESC(object_bytes, "bytes of one leaked object");

static unsigned int batch = 256;
module_param(batch, uint, 0444);
MODULE_PARM_DESC(batch, "objects leaked at a time");

static unsigned int interval_ms = 100;
module_param(interval_ms, uint, 0444);
MODULE_PARM_DESC(interval_ms, "milliseconds between batches, 0: only one batch");

static unsigned int limit_mib = 256;
module_param(limit_mib, uint, 0444);
MODULE_PARM_DESC(limit_mib, "MiB after which no more is leaked, 0: no limit");

/* Written by one context at a time: the loader, then the work. */
static u64 lab_leak_bytes;

static bool lab_leak_full(void)
{
	return limit_mib && lab_leak_bytes >= (u64)limit_mib * SZ_1M;
}

static noinline bool lab_leak_batch(void)
{
	unsigned int i;
	void *p;

	for (i = 0; i < batch && !lab_leak_full(); i++) {
		/* Zeroed: a stale pointer inside would hide other objects. */
		p = kzalloc(object_bytes, GFP_KERNEL | __GFP_NOWARN);
		if (!p)
			return false;
		OPTIMIZER_HIDE_VAR(p);
		lab_leak_bytes += object_bytes;
	}
	return !lab_leak_full();
}

static void lab_leak_work_fn(struct work_struct *work)
{
	if (lab_leak_batch())
		schedule_delayed_work(to_delayed_work(work),
				      msecs_to_jiffies(interval_ms));
	else
		pr_info("stopped after %llu bytes\n", lab_leak_bytes);
}

static DECLARE_DELAYED_WORK(lab_leak_work, lab_leak_work_fn);

static int __init lab_leak_init(void)
{
	if (!object_bytes || object_bytes > KMALLOC_MAX_SIZE)
		return -EINVAL;

	if (lab_leak_batch() && interval_ms)
		schedule_delayed_work(&lab_leak_work,
				      msecs_to_jiffies(interval_ms));
	return 0;
}

static void __exit lab_leak_exit(void)
{
	cancel_delayed_work_sync(&lab_leak_work);
	pr_info("leaked %llu bytes\n", lab_leak_bytes);
}

module_init(lab_leak_init);
module_exit(lab_leak_exit);

MODULE_DESCRIPTION("Lab provoker: slab memory leak");
MODULE_LICENSE("GPL");
