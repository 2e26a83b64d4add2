// SPDX-License-Identifier: GPL-2.0-only
/*
 * Is there anybody to ask: the state machine of a mount (see vexfs.h).
 *
 * A call that got no answer makes the mount DEGRADED. Everybody who waits is
 * told at once, and calls are refused from then on, so that no application
 * waits for what another one has found out. A probe asks every second; any
 * late answer makes it ask immediately. When it is answered, the mount is
 * HEALTHY again, as soon as all writes and calls that were under way have ended:
 * none is carried out after one that was begun later. Nothing that was cached
 * about names and attributes before is trusted: of the calls that failed nobody
 * knows what became of them.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/jiffies.h>

#include "exchange.h"
#include "post.h"
#include "trace.h"
#include "vexfs.h"

#define PROBE_PAUSE	HZ

const char *vexfs_health_name(enum vexfs_health health)
{
	static const char * const names[] = {
		[VEXFS_HEALTHY]		= "HEALTHY",
		[VEXFS_DEGRADED]	= "DEGRADED",
		[VEXFS_LOST]		= "LOST",
		[VEXFS_GONE]		= "GONE",
	};

	return names[health];
}

static bool vexfs_health_move(struct vexfs_mount *m, enum vexfs_health from,
			      enum vexfs_health to)
{
	int seen = from;

	if (!atomic_try_cmpxchg(&m->health, &seen, to))
		return false;
	trace_vexfs_health(m, from, to);
	return true;
}

static void vexfs_health_tell(struct vexfs_mount *m)
{
	vexfs_exchange_abandon_all(m);
	wake_up_all(&m->slot_wait);
	wake_up_all(&m->posts.wait);
	vexfs_detach(m);
}

void vexfs_health_degrade(struct vexfs_mount *m, const char *why)
{
	if (!vexfs_health_move(m, VEXFS_HEALTHY, VEXFS_DEGRADED))
		return;
	atomic64_inc(&m->counters.degraded);
	vexfs_err(m, "no answer from the server (%s): degraded until it answers\n",
		  why);
	vexfs_health_tell(m);
	queue_delayed_work(vexfs_wq, &m->health_work, PROBE_PAUSE);
}

void vexfs_health_lose(struct vexfs_mount *m)
{
	if (!vexfs_health_move(m, VEXFS_HEALTHY, VEXFS_LOST) &&
	    !vexfs_health_move(m, VEXFS_DEGRADED, VEXFS_LOST))
		return;
	vexfs_err(m, "the server does not know this mount any more: unmount, and mount again\n");
	vexfs_health_tell(m);
}

/* Any context; also after the mount has gone, when it does nothing. */
void vexfs_health_check(struct vexfs_mount *m)
{
	enum vexfs_health health = vexfs_health(m);

	if (health == VEXFS_HEALTHY || health == VEXFS_DEGRADED)
		mod_delayed_work(vexfs_wq, &m->health_work, 0);
}

static void vexfs_health_work(struct work_struct *work)
{
	struct vexfs_mount *m = container_of(work, struct vexfs_mount,
					     health_work.work);

	if (vexfs_health(m) == VEXFS_LOST || vexfs_health(m) == VEXFS_GONE)
		return;
	if (vexfs_session_resume(m)) {
		queue_delayed_work(vexfs_wq, &m->health_work, PROBE_PAUSE);
		return;
	}
	if (vexfs_health(m) != VEXFS_DEGRADED)
		return;
	/* The last that ends asks again; those who gave up may still hold slots. */
	if (!vexfs_writes_ended(m) || !vexfs_slots_rest(m)) {
		queue_delayed_work(vexfs_wq, &m->health_work, PROBE_PAUSE);
		return;
	}
	/* Before anybody is let in again. */
	WRITE_ONCE(m->trust, m->trust + 1);
	if (vexfs_health_move(m, VEXFS_DEGRADED, VEXFS_HEALTHY)) {
		atomic64_inc(&m->counters.healed);
		vexfs_info(m, "the server answers again\n");
		wake_up_all(&m->slot_wait);
		wake_up_all(&m->posts.wait);
		vexfs_posts_kick(m);
	}
}

void vexfs_health_init(struct vexfs_mount *m)
{
	atomic_set(&m->health, VEXFS_HEALTHY);
	INIT_DELAYED_WORK(&m->health_work, vexfs_health_work);
}

/* Nothing is asked any more, and nobody waits. */
void vexfs_health_end(struct vexfs_mount *m)
{
	int from = atomic_xchg(&m->health, VEXFS_GONE);

	if (from != VEXFS_GONE)
		trace_vexfs_health(m, from, VEXFS_GONE);
	vexfs_health_tell(m);
}
