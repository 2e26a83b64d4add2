// SPDX-License-Identifier: GPL-2.0-only
/*
 * Proves that the lab sees sleeping where one must not: sleeps while holding a
 * spinlock. Expected: "BUG: sleeping function called from invalid context"
 * (CONFIG_DEBUG_ATOMIC_SLEEP) and "BUG: scheduling while atomic" (any kernel
 * that counts preemption; its repair of the count then draws a warning about an
 * imbalance after initialisation). Nothing else wants the lock. Unloads.
 */

#include <linux/delay.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/spinlock.h>

static DEFINE_SPINLOCK(lab_atomic_sleep_lock);

static noinline void lab_atomic_sleep_hold(void)
{
	spin_lock(&lab_atomic_sleep_lock);
	/* msleep() does not check its context by itself. */
	might_sleep();
	msleep(20);
	spin_unlock(&lab_atomic_sleep_lock);
}

static int __init lab_atomic_sleep_init(void)
{
	lab_atomic_sleep_hold();
	return 0;
}

static void __exit lab_atomic_sleep_exit(void)
{
}

module_init(lab_atomic_sleep_init);
module_exit(lab_atomic_sleep_exit);

MODULE_DESCRIPTION("Lab provoker: sleep in atomic context");
MODULE_LICENSE("GPL");
