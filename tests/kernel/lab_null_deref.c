// SPDX-License-Identifier: GPL-2.0-only
/*
 * Proves that the lab sees a NULL dereference in a module: reads through a NULL
 * pointer while loading. Expected: an oops whose call trace names this module,
 * "BUG: kernel NULL pointer dereference"; or, where KASAN's inline checks touch
 * the shadow of address 0 first, "Oops: general protection fault" followed by
 * "KASAN: null-ptr-deref". The loading process dies and the module stays half
 * loaded, so the machine must be restarted.
 */

#include <linux/compiler.h>
#include <linux/init.h>
#include <linux/module.h>

static noinline int lab_null_deref_read(const int *p)
{
	/* Without this the compiler may prove the fault and drop the read. */
	OPTIMIZER_HIDE_VAR(p);
	return READ_ONCE(*p);
}

static int __init lab_null_deref_init(void)
{
	return lab_null_deref_read(NULL);
}

module_init(lab_null_deref_init);

MODULE_DESCRIPTION("Lab provoker: NULL dereference");
MODULE_LICENSE("GPL");
