// SPDX-License-Identifier: GPL-2.0-only
/*
 * The mounted device: made, identified, stopped, and freed when the last
 * exchange with it has ended.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/blkdev.h>
#include <linux/slab.h>

#include "credits.h"
#include "exchange.h"
#include "post.h"
#include "sealed.h"
#include "wire.h"

/*
 * Every mount that has not been freed. Of those of one device the newest is
 * mounted, or about to be; the others have something in flight.
 */
static LIST_HEAD(vexfs_all);
static DEFINE_SPINLOCK(vexfs_all_lock);
static DECLARE_WAIT_QUEUE_HEAD(vexfs_all_wait);

static void vexfs_mount_free_work(struct work_struct *work)
{
	struct vexfs_mount *m = container_of(work, struct vexfs_mount,
					     free_work);

	spin_lock(&vexfs_all_lock);
	list_del(&m->all);
	spin_unlock(&vexfs_all_lock);
	wake_up_all(&vexfs_all_wait);
	/* Whoever ended last may have asked for it when the mount was stopped. */
	cancel_delayed_work_sync(&m->health_work);
	put_device(disk_to_dev(m->bdev->bd_disk));
	kvfree(m->slots);
	kfree(m);
	/* The end of this function is waited for by destroy_workqueue(). */
	module_put(THIS_MODULE);
}

static void vexfs_mount_release(struct kref *ref)
{
	struct vexfs_mount *m = container_of(ref, struct vexfs_mount, ref);

	queue_work(vexfs_wq, &m->free_work);
}

/* Any context. */
void vexfs_mount_put(struct vexfs_mount *m)
{
	kref_put(&m->ref, vexfs_mount_release);
}

struct vexfs_mount *vexfs_mount_new(struct super_block *sb,
				    const struct vexfs_options *options)
{
	struct vexfs_mount *m = kzalloc(sizeof(*m), GFP_KERNEL);

	if (!m)
		return NULL;
	m->wq = alloc_workqueue("vexfs/%s", WQ_MEM_RECLAIM | WQ_UNBOUND, 0,
				sb->s_id);
	if (!m->wq) {
		kfree(m);
		return NULL;
	}
	kref_init(&m->ref);
	m->sb = sb;
	m->bdev = sb->s_bdev;
	get_device(disk_to_dev(m->bdev->bd_disk));
	/* Called from a mount, which holds the module already. */
	__module_get(THIS_MODULE);
	strscpy(m->name, sb->s_id, sizeof(m->name));
	m->options = *options;
	INIT_WORK(&m->free_work, vexfs_mount_free_work);
	spin_lock_init(&m->lock);
	init_waitqueue_head(&m->slot_wait);
	init_waitqueue_head(&m->lane_wait);
	INIT_LIST_HEAD(&m->pending);
	mutex_init(&m->grant_lock);
	spin_lock_init(&m->grant_spin);
	spin_lock_init(&m->room.lock);
	init_completion(&m->kobj_gone);
	vexfs_health_init(m);
	vexfs_release_init(m);
	vexfs_writes_init(m);
	vexfs_posts_init(m);
	vexfs_credits_init(m);
	spin_lock(&vexfs_all_lock);
	list_add(&m->all, &vexfs_all);
	spin_unlock(&vexfs_all_lock);
	return m;
}

static bool vexfs_mount_is_alone(struct vexfs_mount *m)
{
	struct vexfs_mount *other;
	bool alone = true;

	spin_lock(&vexfs_all_lock);
	list_for_each_entry(other, &vexfs_all, all)
		if (other != m && other->bdev == m->bdev)
			alone = false;
	spin_unlock(&vexfs_all_lock);
	return alone;
}

/*
 * Waits for what mounts before this one have left in flight: it would replace
 * what is written from now on.
 */
int vexfs_mount_alone(struct vexfs_mount *m)
{
	long left = wait_event_killable_timeout(vexfs_all_wait,
			vexfs_mount_is_alone(m),
			msecs_to_jiffies(m->options.timeout_ms));

	if (left > 0)
		return 0;
	if (left < 0)
		return -EINTR;
	vexfs_err(m, "writes of the mount before are still under way: is the server running?\n");
	return -ETIMEDOUT;
}

/*
 * Reads the super window, with a timeout: a device whose server has died keeps
 * a read forever. @super holds the machine's numbers afterwards. VEXFS_IS_SEALED:
 * the device is a sealed image instead.
 */
int vexfs_mount_identify(struct vexfs_mount *m, int silent,
			 struct vexfs_super *super)
{
	struct vexfs_exchange *x;
	const char *wrong = NULL;
	int err;

	x = vexfs_exchange_start(m, -1, NULL, 0, 0, sizeof(*super), 0);
	if (IS_ERR(x))
		return PTR_ERR(x);
	err = vexfs_exchange_wait(x, msecs_to_jiffies(m->options.timeout_ms),
				  true);
	if (err == -ETIME) {
		wrong = "the device does not answer: is its server running?";
		err = -ETIMEDOUT;
	} else if (!err && x->status) {
		wrong = "the device cannot be read";
		err = blk_status_to_errno(x->status);
	} else if (!err && vexfs_sealed_is(x->reply)) {
		err = VEXFS_IS_SEALED;
	} else if (!err) {
		memcpy(super, x->reply, sizeof(*super));
		wrong = vexfs_check_super(super, bdev_nr_bytes(m->bdev));
		if (wrong)
			err = -EINVAL;
	}
	vexfs_exchange_put(x);
	if (wrong && !silent)
		vexfs_err(m, "%s\n", wrong);
	if (err)
		return err;

	m->calls = super->calls;
	m->log = super->log;
	m->data_start = super->data_start;
	m->data_end = super->data_end;
	m->max_file_bytes = super->max_file_bytes;
	m->epoch = super->epoch;
	m->own = super->own;
	m->slots = kvcalloc(m->calls.count, sizeof(*m->slots), GFP_KERNEL);
	return m->slots ? vexfs_posts_start(m) : -ENOMEM;
}

/*
 * Ends all that the mount does. What is in flight goes on without it. Does not
 * wait for the server longer than one call.
 */
void vexfs_mount_stop(struct vexfs_mount *m)
{
	vexfs_release_drop(m);
	vexfs_posts_wait(m, vexfs_posted(m), false);
	vexfs_session_end(m);
	vexfs_health_end(m);
	cancel_delayed_work_sync(&m->health_work);
	vexfs_credits_stop(m);
	vexfs_posts_stop(m);
	vexfs_writes_stop(m);
	destroy_workqueue(m->wq);
	m->wq = NULL;
	vexfs_sysfs_remove(m);
	m->sb = NULL;
	vexfs_mount_put(m);
}
