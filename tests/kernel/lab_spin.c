// SPDX-License-Identifier: GPL-2.0-only
/*
 * Proves that the lab sees a processor that never yields: a thread on the last
 * online CPU spins with preemption off. Expected: "watchdog: BUG: soft lockup"
 * after twice kernel.watchdog_thresh, then an RCU stall, then "INFO: task
 * kworker" hung for want of that CPU. With irqs_off=1 the CPU's own timer is
 * silenced too, so no soft lockup: "Watchdog detected hard LOCKUP" where the
 * kernel has a detector that works on the machine, and an RCU stall seen by the
 * other CPUs. On a machine with one CPU nothing else runs any more.
 *
 * Loading returns at once. The thread spins for the given time, or until the
 * module is unloaded, which works as long as another CPU is left.
 */

#include <linux/cpumask.h>
#include <linux/err.h>
#include <linux/init.h>
#include <linux/irqflags.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/preempt.h>
#include <linux/processor.h>
#include <linux/sched.h>
#include <linux/timekeeping.h>

static bool irqs_off;
module_param(irqs_off, bool, 0444);
MODULE_PARM_DESC(irqs_off, "spin with interrupts off");

static unsigned int seconds;
module_param(seconds, uint, 0444);
MODULE_PARM_DESC(seconds, "seconds to spin, 0: until unloaded");

static struct task_struct *lab_spin_task;

static noinline void lab_spin_loop(void)
{
	u64 start = ktime_get_mono_fast_ns();

	while (!kthread_should_stop()) {
		if (seconds && ktime_get_mono_fast_ns() - start >=
			       (u64)seconds * NSEC_PER_SEC)
			break;
		cpu_relax();
	}
}

static int lab_spin_thread(void *data)
{
	preempt_disable();
	if (irqs_off)
		local_irq_disable();
	lab_spin_loop();
	if (irqs_off)
		local_irq_enable();
	preempt_enable();

	/* kthread_stop() needs a live task. */
	while (!kthread_should_stop())
		schedule_timeout_interruptible(HZ / 10);
	return 0;
}

static int __init lab_spin_init(void)
{
	lab_spin_task = kthread_create(lab_spin_thread, NULL, "lab_spin");
	if (IS_ERR(lab_spin_task))
		return PTR_ERR(lab_spin_task);
	kthread_bind(lab_spin_task, cpumask_last(cpu_online_mask));
	wake_up_process(lab_spin_task);
	return 0;
}

static void __exit lab_spin_exit(void)
{
	kthread_stop(lab_spin_task);
}

module_init(lab_spin_init);
module_exit(lab_spin_exit);

MODULE_DESCRIPTION("Lab provoker: soft lockup");
MODULE_LICENSE("GPL");
