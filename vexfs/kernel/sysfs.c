// SPDX-License-Identifier: GPL-2.0-only
/*
 * What can be seen of mounts that have a server:
 *
 *	/sys/fs/vexfs/<device>/health		HEALTHY, DEGRADED, LOST or GONE
 *	/sys/fs/vexfs/<device>/session, epoch
 *	/sys/fs/vexfs/<device>/writing		requests of writeback in flight
 *	/sys/fs/vexfs/<device>/<counter>	see struct vexfs_counters
 *	/sys/fs/vexfs/<device>/latency		lines "<us> <calls shorter than that>"
 */

#include <linux/kobject.h>
#include <linux/sysfs.h>

#include "variant.h"
#include "vexfs.h"

struct vexfs_counter_attr {
	struct kobj_attribute attr;
	size_t offset;			/* in struct vexfs_counters */
};

static struct vexfs_mount *vexfs_of(struct kobject *kobj)
{
	return container_of(kobj, struct vexfs_mount, kobj);
}

static ssize_t vexfs_counter_show(struct kobject *kobj,
				  struct kobj_attribute *attr, char *buf)
{
	struct vexfs_counter_attr *counter =
		container_of(attr, struct vexfs_counter_attr, attr);
	atomic64_t *value = (void *)&vexfs_of(kobj)->counters + counter->offset;

	return sysfs_emit(buf, "%lld\n", atomic64_read(value));
}

#define COUNTER(_name)							\
static struct vexfs_counter_attr vexfs_attr_##_name = {			\
	.attr = __ATTR(_name, 0444, vexfs_counter_show, NULL),		\
	.offset = offsetof(struct vexfs_counters, _name),		\
}

COUNTER(calls);
COUNTER(posted);
COUNTER(failed);
COUNTER(refused);
COUNTER(timeouts);
COUNTER(retries);
COUNTER(again);
COUNTER(late);
COUNTER(detached);
COUNTER(hostile);
COUNTER(degraded);
COUNTER(healed);
COUNTER(read_bytes);
COUNTER(written_bytes);

static ssize_t health_show(struct kobject *kobj, struct kobj_attribute *attr,
			   char *buf)
{
	return sysfs_emit(buf, "%s\n",
			  vexfs_health_name(vexfs_health(vexfs_of(kobj))));
}

static ssize_t session_show(struct kobject *kobj, struct kobj_attribute *attr,
			    char *buf)
{
	return sysfs_emit(buf, "%016llx\n", vexfs_of(kobj)->session);
}

static ssize_t epoch_show(struct kobject *kobj, struct kobj_attribute *attr,
			  char *buf)
{
	return sysfs_emit(buf, "%llu\n", READ_ONCE(vexfs_of(kobj)->epoch));
}

static ssize_t writing_show(struct kobject *kobj, struct kobj_attribute *attr,
			    char *buf)
{
	return sysfs_emit(buf, "%u\n", READ_ONCE(vexfs_of(kobj)->writes));
}

static ssize_t latency_show(struct kobject *kobj, struct kobj_attribute *attr,
			    char *buf)
{
	struct vexfs_mount *m = vexfs_of(kobj);
	ssize_t length = 0;
	unsigned int i;

	for (i = 0; i < VEXFS_LATENCY_BUCKETS; i++)
		length += sysfs_emit_at(buf, length, "%llu %lld\n", 1ULL << i,
				atomic64_read(&m->counters.latency[i]));
	return length;
}

static struct kobj_attribute vexfs_health_attr = __ATTR_RO(health);
static struct kobj_attribute vexfs_session_attr = __ATTR_RO(session);
static struct kobj_attribute vexfs_epoch_attr = __ATTR_RO(epoch);
static struct kobj_attribute vexfs_writing_attr = __ATTR_RO(writing);
static struct kobj_attribute vexfs_latency_attr = __ATTR_RO(latency);

static struct attribute *vexfs_mount_attrs[] = {
	&vexfs_health_attr.attr,
	&vexfs_session_attr.attr,
	&vexfs_epoch_attr.attr,
	&vexfs_writing_attr.attr,
	&vexfs_latency_attr.attr,
	&vexfs_attr_calls.attr.attr,
	&vexfs_attr_posted.attr.attr,
	&vexfs_attr_failed.attr.attr,
	&vexfs_attr_refused.attr.attr,
	&vexfs_attr_timeouts.attr.attr,
	&vexfs_attr_retries.attr.attr,
	&vexfs_attr_again.attr.attr,
	&vexfs_attr_late.attr.attr,
	&vexfs_attr_detached.attr.attr,
	&vexfs_attr_hostile.attr.attr,
	&vexfs_attr_degraded.attr.attr,
	&vexfs_attr_healed.attr.attr,
	&vexfs_attr_read_bytes.attr.attr,
	&vexfs_attr_written_bytes.attr.attr,
	NULL,
};
ATTRIBUTE_GROUPS(vexfs_mount);

static void vexfs_kobj_release(struct kobject *kobj)
{
	complete(&vexfs_of(kobj)->kobj_gone);
}

static const struct kobj_type vexfs_mount_type = {
	.sysfs_ops	= &kobj_sysfs_ops,
	.default_groups	= vexfs_mount_groups,
	.release	= vexfs_kobj_release,
};

int vexfs_sysfs_add(struct vexfs_mount *m)
{
	/* After a failure too, vexfs_sysfs_remove() ends what was begun. */
	return kobject_init_and_add(&m->kobj, &vexfs_mount_type, vexfs_sysfs_root,
				    "%s", m->name);
}

/* Returns after the last reader of the files has left. */
void vexfs_sysfs_remove(struct vexfs_mount *m)
{
	if (!m->kobj.state_initialized)
		return;
	kobject_del(&m->kobj);
	kobject_put(&m->kobj);
	wait_for_completion(&m->kobj_gone);
}
