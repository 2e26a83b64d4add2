/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * State machine of a module's life.
 *
 *	from \ to	UNINIT.	INIT-ING	INIT-ED	ERROR	SHUTTING_DOWN
 *	UNINITIALIZED	-	start		-	-	-
 *	INITIALIZING	-	-		ready	failed	-
 *	INITIALIZED	-	-		-	broke	stop
 *	ERROR		-	-		-	-	stop
 *	SHUTTING_DOWN	gone	-		refused	refused	-
 *
 * Every pair marked "-" is invalid, a state to itself included.
 *
 *  - A failed initialisation goes through ERROR and SHUTTING_DOWN like any
 *    other end of life: the one way back to UNINITIALIZED is through the state
 *    in which things are released.
 *  - ERROR is left only by shutting down. There is no repair in place.
 *  - A shutdown that is refused (mounts are live) returns to the state it came
 *    from, INITIALIZED or ERROR; a shutdown whose release failed ends in ERROR.
 *    The machine does not remember where a shutdown came from, the caller that
 *    made the transition into SHUTTING_DOWN does, and only that caller may
 *    leave SHUTTING_DOWN.
 *
 * A transition is one compare-and-exchange from the state the caller expects.
 * Of any number of racing callers one wins and is the owner of the work that
 * belongs to the new state; the others get -EBUSY and must not touch anything.
 * A successful transition is a full memory barrier, and lifecycle_state()
 * is an acquire, so what was written before INITIALIZED was entered is seen by
 * whoever reads INITIALIZED.
 *
 * Visible in /sys/module/<name>/lifecycle/ between lifecycle_publish() and
 * lifecycle_unpublish():
 *
 *	state		name of the current state, upper case
 *	transitions	number of transitions made
 *	refused		number of transitions refused, invalid or lost to a race
 *
 * The counters are statistics: each is exact, but they and the state are not
 * read at one instant.
 */
#ifndef VEXFS_MODULE_LIFECYCLE_H
#define VEXFS_MODULE_LIFECYCLE_H

#include <linux/atomic.h>
#include <linux/bits.h>
#include <linux/bug.h>
#include <linux/container_of.h>
#include <linux/errno.h>
#include <linux/module.h>
#include <linux/printk.h>
#include <linux/sysfs.h>
#include <linux/types.h>

#include "compat.h"

enum lifecycle_state {
	LIFECYCLE_UNINITIALIZED,
	LIFECYCLE_INITIALIZING,
	LIFECYCLE_INITIALIZED,
	LIFECYCLE_ERROR,
	LIFECYCLE_SHUTTING_DOWN,
	LIFECYCLE_NR_STATES
};

struct lifecycle {
	atomic_t state;			/* enum lifecycle_state */
	atomic64_t transitions;
	atomic64_t refused;
	struct module_attribute state_attr;
	struct module_attribute transitions_attr;
	struct module_attribute refused_attr;
	struct attribute *attrs[4];	/* the three above, NULL */
	struct attribute_group group;
};

static inline const char *lifecycle_state_name(enum lifecycle_state state)
{
	static const char * const names[LIFECYCLE_NR_STATES] = {
		[LIFECYCLE_UNINITIALIZED]	= "UNINITIALIZED",
		[LIFECYCLE_INITIALIZING]	= "INITIALIZING",
		[LIFECYCLE_INITIALIZED]		= "INITIALIZED",
		[LIFECYCLE_ERROR]		= "ERROR",
		[LIFECYCLE_SHUTTING_DOWN]	= "SHUTTING_DOWN",
	};

	return (unsigned int)state < LIFECYCLE_NR_STATES ? names[state] :
							   "INVALID";
}

static inline bool lifecycle_allows(enum lifecycle_state from,
				    enum lifecycle_state to)
{
	static const u8 allowed[LIFECYCLE_NR_STATES] = {
		[LIFECYCLE_UNINITIALIZED] = BIT(LIFECYCLE_INITIALIZING),
		[LIFECYCLE_INITIALIZING]  = BIT(LIFECYCLE_INITIALIZED) |
					    BIT(LIFECYCLE_ERROR),
		[LIFECYCLE_INITIALIZED]	  = BIT(LIFECYCLE_ERROR) |
					    BIT(LIFECYCLE_SHUTTING_DOWN),
		[LIFECYCLE_ERROR]	  = BIT(LIFECYCLE_SHUTTING_DOWN),
		[LIFECYCLE_SHUTTING_DOWN] = BIT(LIFECYCLE_UNINITIALIZED) |
					    BIT(LIFECYCLE_INITIALIZED) |
					    BIT(LIFECYCLE_ERROR),
	};

	if ((unsigned int)from >= LIFECYCLE_NR_STATES ||
	    (unsigned int)to >= LIFECYCLE_NR_STATES)
		return false;
	return allowed[from] & BIT(to);
}

static inline enum lifecycle_state lifecycle_state(const struct lifecycle *lc)
{
	return atomic_read_acquire(&lc->state);
}

/**
 * lifecycle_transition() - move from one state to another, or refuse
 * @lc: the state machine
 * @from: state the caller believes the machine to be in
 * @to: state to enter
 *
 * Callable from any context.
 *
 * Return: 0; -EINVAL if no machine may ever go from @from to @to; -EBUSY if the
 * machine is not in @from. After an error nothing has changed but @lc->refused.
 */
static inline int lifecycle_transition(struct lifecycle *lc,
				       enum lifecycle_state from,
				       enum lifecycle_state to)
{
	int seen = from;

	if (!lifecycle_allows(from, to)) {
		atomic64_inc(&lc->refused);
		pr_warn_ratelimited("lifecycle: %s -> %s refused: invalid\n",
				    lifecycle_state_name(from),
				    lifecycle_state_name(to));
		return -EINVAL;
	}

	if (!atomic_try_cmpxchg(&lc->state, &seen, to)) {
		atomic64_inc(&lc->refused);
		pr_warn_ratelimited("lifecycle: %s -> %s refused: state is %s\n",
				    lifecycle_state_name(from),
				    lifecycle_state_name(to),
				    lifecycle_state_name(seen));
		return -EBUSY;
	}

	atomic64_inc(&lc->transitions);
	return 0;
}

/*
 * End of an initialisation that failed; the caller owns INITIALIZING and has
 * released what it took. No one else may leave the states passed here, so a
 * refusal is a bug of the caller.
 */
static inline void lifecycle_abort_init(struct lifecycle *lc)
{
	WARN_ON_ONCE(lifecycle_transition(lc, LIFECYCLE_INITIALIZING,
					  LIFECYCLE_ERROR));
	WARN_ON_ONCE(lifecycle_transition(lc, LIFECYCLE_ERROR,
					  LIFECYCLE_SHUTTING_DOWN));
	WARN_ON_ONCE(lifecycle_transition(lc, LIFECYCLE_SHUTTING_DOWN,
					  LIFECYCLE_UNINITIALIZED));
}

/*
 * The core calls module_exit once and nothing can refuse it any more, so this
 * takes whichever of the two running states the module is in.
 */
static inline void lifecycle_begin_exit(struct lifecycle *lc)
{
	enum lifecycle_state from = lifecycle_state(lc);

	/* INITIALIZED may still break while we look; ERROR stays. */
	if (from == LIFECYCLE_INITIALIZED &&
	    !lifecycle_transition(lc, from, LIFECYCLE_SHUTTING_DOWN))
		return;
	WARN_ON_ONCE(lifecycle_transition(lc, LIFECYCLE_ERROR,
					  LIFECYCLE_SHUTTING_DOWN));
}

static inline void lifecycle_end_exit(struct lifecycle *lc)
{
	WARN_ON_ONCE(lifecycle_transition(lc, LIFECYCLE_SHUTTING_DOWN,
					  LIFECYCLE_UNINITIALIZED));
}

static inline ssize_t lifecycle_state_show(compat_module_attribute_t *attr,
					   struct module_kobject *mk, char *buf)
{
	const struct lifecycle *lc =
		container_of_const(attr, struct lifecycle, state_attr);

	return sysfs_emit(buf, "%s\n",
			  lifecycle_state_name(lifecycle_state(lc)));
}

static inline ssize_t
lifecycle_transitions_show(compat_module_attribute_t *attr,
			   struct module_kobject *mk, char *buf)
{
	const struct lifecycle *lc =
		container_of_const(attr, struct lifecycle, transitions_attr);

	return sysfs_emit(buf, "%lld\n", atomic64_read(&lc->transitions));
}

static inline ssize_t lifecycle_refused_show(compat_module_attribute_t *attr,
					     struct module_kobject *mk,
					     char *buf)
{
	const struct lifecycle *lc =
		container_of_const(attr, struct lifecycle, refused_attr);

	return sysfs_emit(buf, "%lld\n", atomic64_read(&lc->refused));
}

/*
 * Static storage only: sysfs keeps pointers into it, and lockdep takes the
 * attributes' addresses as lock classes.
 */
#define LIFECYCLE_INIT(_name) {						\
	.state			= ATOMIC_INIT(LIFECYCLE_UNINITIALIZED),	\
	.transitions		= ATOMIC64_INIT(0),			\
	.refused		= ATOMIC64_INIT(0),			\
	.state_attr		= __ATTR(state, 0444,			\
					 lifecycle_state_show, NULL),	\
	.transitions_attr	= __ATTR(transitions, 0444,		\
					 lifecycle_transitions_show,	\
					 NULL),				\
	.refused_attr		= __ATTR(refused, 0444,			\
					 lifecycle_refused_show, NULL),	\
	.attrs			= {					\
		&(_name).state_attr.attr,				\
		&(_name).transitions_attr.attr,				\
		&(_name).refused_attr.attr,				\
		NULL,							\
	},								\
	.group			= {					\
		.name	= "lifecycle",					\
		.attrs	= (_name).attrs,				\
	},								\
}

#define DEFINE_LIFECYCLE(_name)						\
	struct lifecycle _name = LIFECYCLE_INIT(_name)

/* Of the module this is compiled into, at any time its code can run. */
static inline int lifecycle_publish(struct lifecycle *lc)
{
	return sysfs_create_group(&THIS_MODULE->mkobj.kobj, &lc->group);
}

/* Returns after the last reader of the files has left. */
static inline void lifecycle_unpublish(struct lifecycle *lc)
{
	sysfs_remove_group(&THIS_MODULE->mkobj.kobj, &lc->group);
}

/**
 * lifecycle_begin_init() - start of module_init: enter INITIALIZING, visibly
 * @lc: the state machine
 *
 * Return: 0, and the caller goes on to lifecycle_finish_init() or, if something
 * fails, releases what it took, then calls lifecycle_unpublish() and
 * lifecycle_abort_init(); or an errno, and the machine is UNINITIALIZED again.
 */
static inline int lifecycle_begin_init(struct lifecycle *lc)
{
	int err;

	err = lifecycle_transition(lc, LIFECYCLE_UNINITIALIZED,
				   LIFECYCLE_INITIALIZING);
	if (err)
		return err;

	err = lifecycle_publish(lc);
	if (err) {
		pr_err("cannot create sysfs group: %d\n", err);
		lifecycle_abort_init(lc);
	}
	return err;
}

/* The module serves. Only the owner of INITIALIZING calls this: no refusal. */
static inline void lifecycle_finish_init(struct lifecycle *lc)
{
	WARN_ON_ONCE(lifecycle_transition(lc, LIFECYCLE_INITIALIZING,
					  LIFECYCLE_INITIALIZED));
}

#endif /* VEXFS_MODULE_LIFECYCLE_H */
