// SPDX-License-Identifier: GPL-2.0-only
/*
 * What can be seen of a mounted image:
 *
 *	/sys/fs/vexfs/<device>/health		HEALTHY, DEGRADED (damage or
 *						failures were met) or LOST (more
 *						damage than damage_limit allows)
 *	/sys/fs/vexfs/<device>/damaged		damage that was met
 *	/sys/fs/vexfs/<device>/failed		reads that the device refused
 *	/sys/fs/vexfs/<device>/read_bytes	of files
 */

#include <linux/kobject.h>
#include <linux/sysfs.h>

#include "sealed.h"

static struct vexfs_sealed *vexfs_sealed_of(struct kobject *kobj)
{
	return container_of(kobj, struct vexfs_sealed, kobj);
}

static ssize_t health_show(struct kobject *kobj, struct kobj_attribute *attr,
			   char *buf)
{
	struct vexfs_sealed *s = vexfs_sealed_of(kobj);

	if (!vexfs_sealed_usable(s))
		return sysfs_emit(buf, "LOST\n");
	if (atomic64_read(&s->damaged) || atomic64_read(&s->failed))
		return sysfs_emit(buf, "DEGRADED\n");
	return sysfs_emit(buf, "HEALTHY\n");
}

#define COUNTER(_name)							\
static ssize_t _name##_show(struct kobject *kobj,			\
			    struct kobj_attribute *attr, char *buf)	\
{									\
	return sysfs_emit(buf, "%lld\n",				\
			  atomic64_read(&vexfs_sealed_of(kobj)->_name)); \
}									\
static struct kobj_attribute vexfs_sealed_##_name##_attr =		\
	__ATTR_RO(_name)

COUNTER(damaged);
COUNTER(failed);
COUNTER(read_bytes);

static struct kobj_attribute vexfs_sealed_health_attr = __ATTR_RO(health);

static struct attribute *vexfs_sealed_attrs[] = {
	&vexfs_sealed_health_attr.attr,
	&vexfs_sealed_damaged_attr.attr,
	&vexfs_sealed_failed_attr.attr,
	&vexfs_sealed_read_bytes_attr.attr,
	NULL,
};
ATTRIBUTE_GROUPS(vexfs_sealed);

static void vexfs_sealed_kobj_release(struct kobject *kobj)
{
	complete(&vexfs_sealed_of(kobj)->kobj_gone);
}

static const struct kobj_type vexfs_sealed_type = {
	.sysfs_ops	= &kobj_sysfs_ops,
	.default_groups	= vexfs_sealed_groups,
	.release	= vexfs_sealed_kobj_release,
};

int vexfs_sealed_sysfs_add(struct vexfs_sealed *s)
{
	/* After a failure too, vexfs_sealed_sysfs_remove() ends what was begun. */
	return kobject_init_and_add(&s->kobj, &vexfs_sealed_type,
				    vexfs_sysfs_root, "%s", s->name);
}

/* Returns after the last reader of the files has left. */
void vexfs_sealed_sysfs_remove(struct vexfs_sealed *s)
{
	if (!s->kobj.state_initialized)
		return;
	kobject_del(&s->kobj);
	kobject_put(&s->kobj);
	wait_for_completion(&s->kobj_gone);
}
