// SPDX-License-Identifier: GPL-2.0-only
/*
 * Proves that lockdep is on and seen: one thread takes lock A then B, releases
 * both, then takes B then A. Nothing can block, but two threads doing so could.
 * Expected: "WARNING: possible circular locking dependency detected". Unloads.
 */

#include <linux/init.h>
#include <linux/module.h>
#include <linux/mutex.h>

static DEFINE_MUTEX(lab_inversion_a);
static DEFINE_MUTEX(lab_inversion_b);

static noinline void lab_inversion_forward(void)
{
	mutex_lock(&lab_inversion_a);
	mutex_lock(&lab_inversion_b);
	mutex_unlock(&lab_inversion_b);
	mutex_unlock(&lab_inversion_a);
}

static noinline void lab_inversion_backward(void)
{
	mutex_lock(&lab_inversion_b);
	mutex_lock(&lab_inversion_a);
	mutex_unlock(&lab_inversion_a);
	mutex_unlock(&lab_inversion_b);
}

static int __init lab_inversion_init(void)
{
	lab_inversion_forward();
	lab_inversion_backward();
	return 0;
}

static void __exit lab_inversion_exit(void)
{
}

module_init(lab_inversion_init);
module_exit(lab_inversion_exit);

MODULE_DESCRIPTION("Lab provoker: lock order inversion");
MODULE_LICENSE("GPL");
