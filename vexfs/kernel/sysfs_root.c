// SPDX-License-Identifier: GPL-2.0-only
/*
 * What can be seen of the module:
 *
 *	/sys/fs/vexfs/mounts		number of mounts
 *	/sys/fs/vexfs/variant		what was built
 *	/sys/fs/vexfs/<device>/		see sysfs.c, sealed_sysfs.c
 */

#include <linux/fs.h>
#include <linux/sysfs.h>

#include "variant.h"

struct kobject *vexfs_sysfs_root;

static ssize_t mounts_show(struct kobject *kobj, struct kobj_attribute *attr,
			   char *buf)
{
	return sysfs_emit(buf, "%d\n", atomic_read(&vexfs_mounts));
}

static ssize_t variant_show(struct kobject *kobj, struct kobj_attribute *attr,
			    char *buf)
{
	return sysfs_emit(buf, "%s\n", VEXFS_VARIANT);
}

static struct kobj_attribute vexfs_mounts_attr = __ATTR_RO(mounts);
static struct kobj_attribute vexfs_variant_attr = __ATTR_RO(variant);

static const struct attribute * const vexfs_root_attrs[] = {
	&vexfs_mounts_attr.attr,
	&vexfs_variant_attr.attr,
	NULL,
};

int vexfs_sysfs_init(void)
{
	int err;

	vexfs_sysfs_root = kobject_create_and_add(VEXFS_NAME, fs_kobj);
	if (!vexfs_sysfs_root)
		return -ENOMEM;
	err = sysfs_create_files(vexfs_sysfs_root, vexfs_root_attrs);
	if (err)
		kobject_put(vexfs_sysfs_root);
	return err;
}

void vexfs_sysfs_exit(void)
{
	sysfs_remove_files(vexfs_sysfs_root, vexfs_root_attrs);
	kobject_put(vexfs_sysfs_root);
}
