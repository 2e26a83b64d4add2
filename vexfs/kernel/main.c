// SPDX-License-Identifier: GPL-2.0-only
/*
 * VexFS: load and unload.
 *
 * The parts of the variant are started in one order and ended in the reverse
 * one. While a mount lives, or an exchange with a device, the module cannot be
 * unloaded: both hold it.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/module.h>
#include <linux/printk.h>

#include "module_lifecycle.h"
#include "sealed.h"
#include "variant.h"

#define VEXFS_VERSION "0.1.0"

atomic_t vexfs_mounts = ATOMIC_INIT(0);

struct vexfs_part {
	int (*init)(void);
	void (*exit)(void);
};

static const struct vexfs_part vexfs_parts[] = {
#if VEXFS_HAS_SERVER
	{ vexfs_client_init, vexfs_client_exit },
#endif
	{ vexfs_sealed_init, vexfs_sealed_exit },
#if VEXFS_HAS_SYSFS
	{ vexfs_sysfs_init, vexfs_sysfs_exit },
#endif
	{ vexfs_super_register, vexfs_super_unregister },
};

static DEFINE_LIFECYCLE(vexfs_lifecycle);

/* Ends the first @count parts, the last one first. */
static void vexfs_parts_exit(unsigned int count)
{
	while (count--)
		vexfs_parts[count].exit();
}

static int __init vexfs_init(void)
{
	unsigned int i;
	int err;

	err = lifecycle_begin_init(&vexfs_lifecycle);
	if (err)
		return err;
	for (i = 0; i < ARRAY_SIZE(vexfs_parts); i++) {
		err = vexfs_parts[i].init();
		if (err)
			goto abort;
	}
	lifecycle_finish_init(&vexfs_lifecycle);
	pr_info(VEXFS_VERSION " loaded (" VEXFS_VARIANT ")\n");
	return 0;

abort:
	vexfs_parts_exit(i);
	pr_err("cannot load: %d\n", err);
	lifecycle_unpublish(&vexfs_lifecycle);
	lifecycle_abort_init(&vexfs_lifecycle);
	return err;
}

static void __exit vexfs_exit(void)
{
	lifecycle_begin_exit(&vexfs_lifecycle);
	vexfs_parts_exit(ARRAY_SIZE(vexfs_parts));
	lifecycle_unpublish(&vexfs_lifecycle);
	lifecycle_end_exit(&vexfs_lifecycle);
	pr_info(VEXFS_VERSION " unloaded\n");
}

module_init(vexfs_init);
module_exit(vexfs_exit);

MODULE_AUTHOR("The vexfs-ublk authors");
MODULE_DESCRIPTION("VexFS: mounts pools that a server presents, and sealed images");
MODULE_VERSION(VEXFS_VERSION);
MODULE_LICENSE("GPL");
