// SPDX-License-Identifier: GPL-2.0-only
/*
 * DSMIL kernel side: load and unload.
 *
 * Binds nothing yet: no platform or PCI driver is registered and no /dev/uioN
 * appears. A loaded module answers to its aliases and shows its state in
 * /sys/module/uio_dsmil/lifecycle/.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/module.h>
#include <linux/printk.h>

#include "module_lifecycle.h"

#define UIO_DSMIL_VERSION "0.1.0"

static DEFINE_LIFECYCLE(uio_dsmil_lifecycle);

static int __init uio_dsmil_init(void)
{
	int err;

	err = lifecycle_begin_init(&uio_dsmil_lifecycle);
	if (err)
		return err;

	lifecycle_finish_init(&uio_dsmil_lifecycle);
	pr_info(UIO_DSMIL_VERSION " loaded, no device bound\n");
	return 0;
}

static void __exit uio_dsmil_exit(void)
{
	lifecycle_begin_exit(&uio_dsmil_lifecycle);
	lifecycle_unpublish(&uio_dsmil_lifecycle);
	lifecycle_end_exit(&uio_dsmil_lifecycle);
	pr_info(UIO_DSMIL_VERSION " unloaded\n");
}

module_init(uio_dsmil_init);
module_exit(uio_dsmil_exit);

MODULE_AUTHOR("The vexfs-ublk authors");
MODULE_DESCRIPTION("DSMIL: kernel side of the user-space driver");
MODULE_VERSION(UIO_DSMIL_VERSION);
MODULE_LICENSE("GPL");
MODULE_ALIAS("dsmil-84dev");
MODULE_ALIAS("dsmil-72dev");
