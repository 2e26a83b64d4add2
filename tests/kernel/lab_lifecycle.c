// SPDX-License-Identifier: GPL-2.0-only
/*
 * Self-test of module_lifecycle.h: loads if the state machine is right and says
 * "lab_lifecycle: ok"; else loading fails with -EPROTO (or the error that kept
 * the test from running) and the log names the first mismatch.
 *
 *  - every pair of states, tried from every state the machine can be in,
 *    against a table written here by hand from the documentation of the states
 *  - states out of range
 *  - the counters and the names
 *  - threads racing for one transition: exactly one wins, every time
 *
 * The refusals that the test provokes are logged by the machine, rate-limited.
 * While loaded, /sys/module/lab_lifecycle/lifecycle/ shows a live machine.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/err.h>
#include <linux/init.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/string.h>

#include "module_lifecycle.h"

#define LAB_THREADS	8
#define LAB_ROUNDS	50
#define LAB_STATES	5

static DEFINE_LIFECYCLE(lab_lifecycle);

/* lab_expected[from][to], in the order of lab_names. */
static const bool lab_expected[LAB_STATES][LAB_STATES] = {
	{ 0, 1, 0, 0, 0 },
	{ 0, 0, 1, 1, 0 },
	{ 0, 0, 0, 1, 1 },
	{ 0, 0, 0, 0, 1 },
	{ 1, 0, 1, 1, 0 },
};

static const char * const lab_names[LAB_STATES] = {
	"UNINITIALIZED", "INITIALIZING", "INITIALIZED", "ERROR",
	"SHUTTING_DOWN",
};

static void lab_reset(struct lifecycle *lc, int state)
{
	atomic_set(&lc->state, state);
	atomic64_set(&lc->transitions, 0);
	atomic64_set(&lc->refused, 0);
}

/* Try from -> to on a machine that is in @in. */
static int lab_try(struct lifecycle *lc, int in, int from, int to)
{
	bool valid = from >= 0 && from < LAB_STATES &&
		     to >= 0 && to < LAB_STATES && lab_expected[from][to];
	int want = !valid ? -EINVAL : in != from ? -EBUSY : 0;
	int want_state = want ? in : to;
	int got;

	lab_reset(lc, in);
	got = lifecycle_transition(lc, from, to);
	if (got != want) {
		pr_err("in %s: %d -> %d returned %d, not %d\n", lab_names[in],
		       from, to, got, want);
		return -EPROTO;
	}
	if (lifecycle_state(lc) != want_state) {
		pr_err("in %s: %d -> %d left state %d, not %d\n",
		       lab_names[in], from, to, lifecycle_state(lc),
		       want_state);
		return -EPROTO;
	}
	if (atomic64_read(&lc->transitions) != !want ||
	    atomic64_read(&lc->refused) != !!want) {
		pr_err("in %s: %d -> %d counted %lld made, %lld refused\n",
		       lab_names[in], from, to,
		       atomic64_read(&lc->transitions),
		       atomic64_read(&lc->refused));
		return -EPROTO;
	}
	return 0;
}

static int __init lab_test_table(struct lifecycle *lc)
{
	int in, from, to, err;

	if (LIFECYCLE_NR_STATES != LAB_STATES) {
		pr_err("%d states, not %d\n", LIFECYCLE_NR_STATES, LAB_STATES);
		return -EPROTO;
	}
	for (in = 0; in < LAB_STATES; in++) {
		if (strcmp(lifecycle_state_name(in), lab_names[in])) {
			pr_err("state %d is called %s, not %s\n", in,
			       lifecycle_state_name(in), lab_names[in]);
			return -EPROTO;
		}
		/* One more on either side: out of range. */
		for (from = -1; from <= LAB_STATES; from++) {
			for (to = -1; to <= LAB_STATES; to++) {
				err = lab_try(lc, in, from, to);
				if (err)
					return err;
			}
		}
	}
	return 0;
}

struct lab_race {
	struct lifecycle *lc;
	struct completion done;
	atomic_t waiting;	/* threads that are not at the line yet */
	atomic_t running;	/* threads that have not finished */
	atomic_t won;
	atomic_t busy;
};

static int lab_racer(void *data)
{
	struct lab_race *race = data;
	int err;

	/* All have a CPU or are runnable before any of them starts. */
	atomic_dec(&race->waiting);
	while (atomic_read(&race->waiting))
		cond_resched();

	err = lifecycle_transition(race->lc, LIFECYCLE_UNINITIALIZED,
				   LIFECYCLE_INITIALIZING);
	if (!err)
		atomic_inc(&race->won);
	else if (err == -EBUSY)
		atomic_inc(&race->busy);

	if (atomic_dec_and_test(&race->running))
		complete(&race->done);
	return 0;
}

static int __init lab_test_race(struct lifecycle *lc)
{
	struct task_struct *tasks[LAB_THREADS];
	struct lab_race race = {
		.lc = lc,
		.done = COMPLETION_INITIALIZER_ONSTACK(race.done),
		.waiting = ATOMIC_INIT(LAB_THREADS),
		.running = ATOMIC_INIT(LAB_THREADS),
	};
	int i;

	lab_reset(lc, LIFECYCLE_UNINITIALIZED);
	for (i = 0; i < LAB_THREADS; i++) {
		tasks[i] = kthread_create(lab_racer, &race,
					  "lab_lifecycle/%d", i);
		if (IS_ERR(tasks[i]))
			goto err_stop;
		/* The thread ends by itself and the reference must not. */
		get_task_struct(tasks[i]);
	}
	for (i = 0; i < LAB_THREADS; i++)
		wake_up_process(tasks[i]);
	wait_for_completion(&race.done);
	/* The last to finish may still be in complete(), on our stack. */
	for (i = 0; i < LAB_THREADS; i++) {
		kthread_stop(tasks[i]);
		put_task_struct(tasks[i]);
	}

	if (atomic_read(&race.won) != 1 ||
	    atomic_read(&race.busy) != LAB_THREADS - 1) {
		pr_err("race: %d of %d won, %d were told busy\n",
		       atomic_read(&race.won), LAB_THREADS,
		       atomic_read(&race.busy));
		return -EPROTO;
	}
	if (lifecycle_state(lc) != LIFECYCLE_INITIALIZING ||
	    atomic64_read(&lc->transitions) != 1 ||
	    atomic64_read(&lc->refused) != LAB_THREADS - 1) {
		pr_err("race: state %d, %lld made, %lld refused\n",
		       lifecycle_state(lc), atomic64_read(&lc->transitions),
		       atomic64_read(&lc->refused));
		return -EPROTO;
	}
	return 0;

err_stop:
	while (i--) {
		kthread_stop(tasks[i]);
		put_task_struct(tasks[i]);
	}
	return -ENOMEM;
}

static int __init lab_lifecycle_init(void)
{
	int i, err;

	err = lab_test_table(&lab_lifecycle);
	if (err)
		return err;
	for (i = 0; i < LAB_ROUNDS; i++) {
		err = lab_test_race(&lab_lifecycle);
		if (err)
			return err;
	}

	lab_reset(&lab_lifecycle, LIFECYCLE_UNINITIALIZED);
	err = lifecycle_transition(&lab_lifecycle, LIFECYCLE_UNINITIALIZED,
				   LIFECYCLE_INITIALIZING);
	if (err)
		return err;
	err = lifecycle_publish(&lab_lifecycle);
	if (err)
		goto err_abort;
	err = lifecycle_transition(&lab_lifecycle, LIFECYCLE_INITIALIZING,
				   LIFECYCLE_INITIALIZED);
	if (err)
		goto err_unpublish;

	pr_info("ok\n");
	return 0;

err_unpublish:
	lifecycle_unpublish(&lab_lifecycle);
err_abort:
	lifecycle_abort_init(&lab_lifecycle);
	return err;
}

static void __exit lab_lifecycle_exit(void)
{
	lifecycle_begin_exit(&lab_lifecycle);
	lifecycle_unpublish(&lab_lifecycle);
	lifecycle_end_exit(&lab_lifecycle);
}

module_init(lab_lifecycle_init);
module_exit(lab_lifecycle_exit);

MODULE_DESCRIPTION("Lab: self-test of the module state machine");
MODULE_LICENSE("GPL");
