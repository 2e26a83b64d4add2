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
#include <linux/cpumask.h>
#include <linux/err.h>
#include <linux/init.h>
#include <linux/kthread.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/processor.h>
#include <linux/sched.h>
#include <linux/string.h>

#include "module_lifecycle.h"

#define LAB_MAX_THREADS	8
#define LAB_ROUNDS	10000
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
	int threads;
	atomic_t arrived;	/* barriers passed, over all threads */
	atomic_t running;	/* threads that have rounds left */
	struct completion done;	/* none has */
	atomic_t won;
	atomic_t busy;
	int err;		/* written by the judge between two barriers */
};

struct lab_racer {
	struct lab_race *race;
	struct task_struct *task;
	bool judge;		/* of each round; one of the racers */
};

/* Spins: whoever leaves must be running at the same time as the others. */
static void lab_barrier(struct lab_race *race, int *passed)
{
	int target = race->threads * ++*passed;

	atomic_inc_return(&race->arrived);
	while (atomic_read_acquire(&race->arrived) < target) {
		cpu_relax();
		cond_resched();
	}
}

/* All others are between two barriers: nothing moves. */
static int lab_judge(struct lab_race *race)
{
	struct lifecycle *lc = race->lc;
	int losers = race->threads - 1;

	if (atomic_read(&race->won) != 1 || atomic_read(&race->busy) != losers) {
		pr_err("race: %d of %d won, %d were told busy\n",
		       atomic_read(&race->won), race->threads,
		       atomic_read(&race->busy));
		return -EPROTO;
	}
	if (lifecycle_state(lc) != LIFECYCLE_INITIALIZING ||
	    atomic64_read(&lc->transitions) != 1 ||
	    atomic64_read(&lc->refused) != losers) {
		pr_err("race: state %d, %lld made, %lld refused\n",
		       lifecycle_state(lc), atomic64_read(&lc->transitions),
		       atomic64_read(&lc->refused));
		return -EPROTO;
	}
	atomic_set(&race->won, 0);
	atomic_set(&race->busy, 0);
	lab_reset(lc, LIFECYCLE_UNINITIALIZED);
	return 0;
}

static int lab_racer_thread(void *data)
{
	struct lab_racer *racer = data;
	struct lab_race *race = racer->race;
	int round, err, passed = 0;

	for (round = 0; round < LAB_ROUNDS; round++) {
		lab_barrier(race, &passed);
		if (race->err)
			break;
		err = lifecycle_transition(race->lc, LIFECYCLE_UNINITIALIZED,
					   LIFECYCLE_INITIALIZING);
		if (!err)
			atomic_inc(&race->won);
		else if (err == -EBUSY)
			atomic_inc(&race->busy);
		lab_barrier(race, &passed);
		if (racer->judge)
			race->err = lab_judge(race);
	}

	if (atomic_dec_and_test(&race->running))
		complete(&race->done);

	/* kthread_stop() needs a live task. */
	while (!kthread_should_stop())
		schedule_timeout_interruptible(1);
	return 0;
}

static int __init lab_test_race(struct lifecycle *lc)
{
	struct lab_racer racers[LAB_MAX_THREADS];
	struct lab_race race = {
		.lc = lc,
		.threads = clamp_t(int, num_online_cpus(), 2, LAB_MAX_THREADS),
		.done = COMPLETION_INITIALIZER_ONSTACK(race.done),
	};
	unsigned int cpu = cpumask_first(cpu_online_mask);
	int i, err = 0;

	lab_reset(lc, LIFECYCLE_UNINITIALIZED);
	for (i = 0; i < race.threads; i++) {
		struct lab_racer *racer = &racers[i];

		racer->race = &race;
		racer->judge = !i;
		racer->task = kthread_create(lab_racer_thread, racer,
					     "lab_lifecycle/%d", i);
		if (IS_ERR(racer->task)) {
			err = PTR_ERR(racer->task);
			break;
		}
		/* One thread to a CPU; two to the only one. */
		kthread_bind(racer->task, cpu);
		cpu = cpumask_next(cpu, cpu_online_mask);
		if (cpu >= nr_cpu_ids)
			cpu = cpumask_first(cpu_online_mask);
	}
	/*
	 * kthread_stop() keeps a thread that has not started from running at
	 * all: wanted if one is missing, but it would leave the others at the
	 * barrier for ever if the race was on.
	 */
	if (!err) {
		atomic_set(&race.running, race.threads);
		for (i = 0; i < race.threads; i++)
			wake_up_process(racers[i].task);
		wait_for_completion(&race.done);
	}
	while (i--)
		kthread_stop(racers[i].task);
	return err ? err : race.err;
}

static int __init lab_lifecycle_init(void)
{
	int err;

	err = lab_test_table(&lab_lifecycle);
	if (err)
		return err;
	err = lab_test_race(&lab_lifecycle);
	if (err)
		return err;

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
