// SPDX-License-Identifier: GPL-2.0-only
/*
 * Proves that the lab sees an RCU stall by itself: a thread on the last online
 * CPU stays in one RCU read-side section with preemption off, and keeps telling
 * the soft lockup watchdog that it lives. Expected: "rcu: INFO: rcu_... detected
 * stalls" or "self-detected stall" after rcupdate.rcu_cpu_stall_timeout seconds,
 * later "INFO: task kworker" hung for want of that CPU, and no soft lockup.
 *
 * Loading returns at once. The section ends after the given time or when the
 * module is unloaded.
 */

#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/init.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/nmi.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/timekeeping.h>

static unsigned int seconds;
module_param(seconds, uint, 0444);
MODULE_PARM_DESC(seconds, "seconds to stall, 0: until unloaded");

static struct task_struct *lab_rcu_stall_task;

static noinline void lab_rcu_stall_section(void)
{
	u64 start = ktime_get_mono_fast_ns();

	rcu_read_lock();
	while (!kthread_should_stop()) {
		if (seconds && ktime_get_mono_fast_ns() - start >=
			       (u64)seconds * NSEC_PER_SEC)
			break;
		touch_softlockup_watchdog();
		mdelay(1);
	}
	rcu_read_unlock();
}

static int lab_rcu_stall_thread(void *data)
{
	preempt_disable();
	lab_rcu_stall_section();
	preempt_enable();

	/* kthread_stop() needs a live task. */
	while (!kthread_should_stop())
		schedule_timeout_interruptible(HZ / 10);
	return 0;
}

static int __init lab_rcu_stall_init(void)
{
	lab_rcu_stall_task = kthread_create(lab_rcu_stall_thread, NULL,
					    "lab_rcu_stall");
	if (IS_ERR(lab_rcu_stall_task))
		return PTR_ERR(lab_rcu_stall_task);
	kthread_bind(lab_rcu_stall_task, cpumask_last(cpu_online_mask));
	wake_up_process(lab_rcu_stall_task);
	return 0;
}

static void __exit lab_rcu_stall_exit(void)
{
	kthread_stop(lab_rcu_stall_task);
}

module_init(lab_rcu_stall_init);
module_exit(lab_rcu_stall_exit);

MODULE_DESCRIPTION("Lab provoker: RCU stall");
MODULE_LICENSE("GPL");
