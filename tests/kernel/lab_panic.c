// SPDX-License-Identifier: GPL-2.0-only
/*
 * Proves that the lab sees a panic and that the machine's end is noticed.
 * Expected: "Kernel panic - not syncing: lab_panic", then whatever panic= on the
 * kernel command line asks for.
 */

#include <linux/init.h>
#include <linux/module.h>
#include <linux/panic.h>

static int __init lab_panic_init(void)
{
	panic("lab_panic: asked to panic");
}

module_init(lab_panic_init);

MODULE_DESCRIPTION("Lab provoker: panic");
MODULE_LICENSE("GPL");
