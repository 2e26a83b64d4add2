// SPDX-License-Identifier: GPL-2.0-only
/*
 * Proves that the lab sees a use after free: allocates an object, frees it and
 * reads it while loading. Expected: "BUG: KASAN: slab-use-after-free" naming
 * this module. Without KASAN the read is harmless and silent, unless KFENCE
 * (kfence.sample_interval=10 and, say, rounds=1000) happens to own the object:
 * "BUG: KFENCE: use-after-free read". Unloads.
 */

#include <linux/compiler.h>
#include <linux/delay.h>
#include <linux/init.h>
#include <linux/module.h>
#include <linux/slab.h>

#define LAB_UAF_SIZE	64

static unsigned int rounds = 1;
module_param(rounds, uint, 0444);
MODULE_PARM_DESC(rounds, "how many objects to misuse, 1 ms apart");

static noinline u8 lab_uaf_read(const u8 *p)
{
	return READ_ONCE(p[LAB_UAF_SIZE / 2]);
}

static int __init lab_uaf_init(void)
{
	unsigned int i;
	u8 *p, *stale;

	for (i = 0; i < rounds; i++) {
		p = kzalloc(LAB_UAF_SIZE, GFP_KERNEL);
		if (!p)
			return -ENOMEM;
		stale = p;
		/* Else the compiler knows what was freed, and warns. */
		OPTIMIZER_HIDE_VAR(stale);
		kfree(p);
		lab_uaf_read(stale);
		usleep_range(1000, 1500);
	}
	return 0;
}

static void __exit lab_uaf_exit(void)
{
}

module_init(lab_uaf_init);
module_exit(lab_uaf_exit);

MODULE_DESCRIPTION("Lab provoker: use after free");
MODULE_LICENSE("GPL");
