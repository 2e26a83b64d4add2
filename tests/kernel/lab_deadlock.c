// SPDX-License-Identifier: GPL-2.0-only
/*
 * Proves that the lab sees a deadlock that has happened: two threads take two
 * mutexes in opposite order, each holding its first before either asks for its
 * second. Expected: "INFO: task lab_deadlock/0 blocked for more than N seconds"
 * after the hung task timeout (kernel.hung_task_timeout_secs), and before it,
 * where lockdep is on, its report of the order.
 *
 * Loading returns at once, or with loader=1 never: the loading process then
 * waits, unkillably, for one of the two mutexes. The threads never end, so the
 * module cannot be unloaded and the machine must be restarted.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/err.h>
#include <linux/init.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched.h>

static bool loader;
module_param(loader, bool, 0444);
MODULE_PARM_DESC(loader, "block the loading process too");

static DEFINE_MUTEX(lab_deadlock_a);
static DEFINE_MUTEX(lab_deadlock_b);

struct lab_deadlock_side {
	struct mutex *first;
	struct mutex *second;
	struct completion *mine;	/* first is held */
	struct completion *other;	/* the other side holds its first */
};

static DECLARE_COMPLETION(lab_deadlock_a_held);
static DECLARE_COMPLETION(lab_deadlock_b_held);

static struct lab_deadlock_side lab_deadlock_sides[] = {
	{ &lab_deadlock_a, &lab_deadlock_b,
	  &lab_deadlock_a_held, &lab_deadlock_b_held },
	{ &lab_deadlock_b, &lab_deadlock_a,
	  &lab_deadlock_b_held, &lab_deadlock_a_held },
};

static int lab_deadlock_thread(void *data)
{
	struct lab_deadlock_side *side = data;

	mutex_lock(side->first);
	complete_all(side->mine);
	wait_for_completion(side->other);
	mutex_lock(side->second);

	/* Not reached. */
	mutex_unlock(side->second);
	mutex_unlock(side->first);
	return 0;
}

static int __init lab_deadlock_init(void)
{
	struct task_struct *tasks[ARRAY_SIZE(lab_deadlock_sides)];
	int i, err;

	for (i = 0; i < ARRAY_SIZE(tasks); i++) {
		tasks[i] = kthread_create(lab_deadlock_thread,
					  &lab_deadlock_sides[i],
					  "lab_deadlock/%d", i);
		if (IS_ERR(tasks[i])) {
			err = PTR_ERR(tasks[i]);
			goto err_stop;
		}
	}
	for (i = 0; i < ARRAY_SIZE(tasks); i++)
		wake_up_process(tasks[i]);

	wait_for_completion(&lab_deadlock_a_held);
	wait_for_completion(&lab_deadlock_b_held);
	pr_info("two threads are deadlocked\n");
	if (loader) {
		mutex_lock(&lab_deadlock_a);
		mutex_unlock(&lab_deadlock_a);
	}
	return 0;

err_stop:
	/* None of the threads has run yet, so stopping ends them unrun. */
	while (i--)
		kthread_stop(tasks[i]);
	return err;
}

module_init(lab_deadlock_init);

MODULE_DESCRIPTION("Lab provoker: deadlock, hung tasks");
MODULE_LICENSE("GPL");
