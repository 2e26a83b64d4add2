// SPDX-License-Identifier: GPL-2.0-only
/*
 * Proves that the lab sees a general protection fault: reads while loading from
 * an address that is not canonical, which on x86-64 raises #GP instead of a page
 * fault. Expected: "Oops: general protection fault", naming this module, under
 * KASAN with "KASAN: maybe wild-memory-access". The loading process dies and the
 * module stays half loaded, so the machine must be restarted.
 */

#include <linux/compiler.h>
#include <linux/init.h>
#include <linux/module.h>

#define LAB_GPF_ADDRESS	0x5a5a5a5a5a5a5a58UL

static noinline int lab_gpf_read(const int *p)
{
	OPTIMIZER_HIDE_VAR(p);
	return READ_ONCE(*p);
}

static int __init lab_gpf_init(void)
{
	return lab_gpf_read((const int *)LAB_GPF_ADDRESS);
}

module_init(lab_gpf_init);

MODULE_DESCRIPTION("Lab provoker: general protection fault");
MODULE_LICENSE("GPL");
