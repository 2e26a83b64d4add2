// SPDX-License-Identifier: GPL-2.0-only
/*
 * Proves that the lab sees a failed assertion in a module. Expected: "kernel BUG
 * at" with an invalid opcode oops, after which the module stays half loaded; with
 * warn_only=1 a "WARNING:" with a call trace, after which it can be unloaded.
 */

#include <linux/bug.h>
#include <linux/init.h>
#include <linux/module.h>

static bool warn_only;
module_param(warn_only, bool, 0444);
MODULE_PARM_DESC(warn_only, "WARN instead of BUG");

static noinline void lab_bug_raise(bool fatal)
{
	if (fatal)
		BUG();
	WARN(1, "lab_bug: asked to warn\n");
}

static int __init lab_bug_init(void)
{
	lab_bug_raise(!warn_only);
	return 0;
}

static void __exit lab_bug_exit(void)
{
}

module_init(lab_bug_init);
module_exit(lab_bug_exit);

MODULE_DESCRIPTION("Lab provoker: BUG and WARN");
MODULE_LICENSE("GPL");
