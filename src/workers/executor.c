/*
 * executor.c: the process that runs the steps that policies leave to workers.
 *
 * It takes tasks in transactions of some until there are none, then waits to be woken. How many it takes at a time follows from how
 * long they take: many short ones share a transaction, long ones have each its own, so that another executor can take the next.
 * A task whose function fails in a way that ends the transaction is reported in the next one; all others of that transaction are
 * queued as before.
 */
#include "workers/processes.h"

#ifdef __GLIBC__
#endif

#include "portability/instr_time.h"

/* Transactions shorter than the first take more tasks the next time, longer than the second fewer, in milliseconds. */
#define SHORT 20
#define LONG 100

static int	at_a_time = 1;
static int	taken;
static bool again;				/* there may be more to do at once */

static bool work(void);
static void call_another(void);
static void work_body(void *argument);
static void report_body(void *argument);
static bool is_last(void);

void
leadroute_executor_main(Datum argument)
{
	LrDatabase *database;

	lr_process_begin();
	lr_keep_memory();
	database = lr_process_database;
	for (;;)
	{
		TimestampTz idle_since;
		bool		ok = true;

		/* taken first: what commits from now on sets it again */
		pg_atomic_fetch_and_u32(&database->notices, ~(uint32) LR_NOTICE_WORK);
		do
		{
			lr_process_check();
			ok = work();
		} while (ok && again);
		if (!ok)
		{
			/* another one may have better luck meanwhile; and this one looks again */
			lr_process_wait(0);
			continue;
		}

		idle_since = GetCurrentTimestamp();
		pg_atomic_write_u32(&lr_process_worker->idle, 1);
		pg_memory_barrier();
		if ((pg_atomic_read_u32(&database->notices) & LR_NOTICE_WORK) == 0)
			lr_process_wait(idle_since + lr_executor_idle_time * USECS_PER_SEC);
		pg_atomic_write_u32(&lr_process_worker->idle, 0);
		if (GetCurrentTimestamp() >= idle_since + lr_executor_idle_time * USECS_PER_SEC && !is_last())
			lr_process_end(LR_DATABASE_RUNNING);
	}
}

/* Does some tasks; false if that failed. */
static bool
work(void)
{
	instr_time	before;
	instr_time	after;
	double		ms;

	taken = 0;
	INSTR_TIME_SET_CURRENT(before);
	if (!lr_process_transaction("running tasks", work_body, NULL))
	{
		at_a_time = 1;
		/* the task is to blame, not the server: the next one may do better */
		again = lr_work_failed(lr_process_sqlstate()) && lr_process_transaction("reporting a failure", report_body, NULL);
		return again;
	}
	INSTR_TIME_SET_CURRENT(after);
	INSTR_TIME_SUBTRACT(after, before);
	ms = INSTR_TIME_GET_MILLISEC(after);
	if (taken >= at_a_time)
		call_another();
	if (ms > LONG)
		at_a_time = Max(1, at_a_time / 2);
	else if (ms < SHORT && taken >= at_a_time)
		at_a_time = Min(at_a_time * 2, lr_tasks_per_transaction);
	at_a_time = Min(at_a_time, lr_tasks_per_transaction);
	again = taken > 0;
	/* behind what somebody else has in hand there may be tasks that nobody has */
	if (lr_work_passed_over() && at_a_time < lr_tasks_per_transaction)
	{
		at_a_time = Min(at_a_time * 2, lr_tasks_per_transaction);
		again = true;
	}
	if (taken > 0)
	{
		LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
		lr_process_worker->tasks += taken;
		LWLockRelease(lr_shared->lock);
	}
	return true;
}

/*
 * Has another executor help, where there was as much to do as this one takes at a time: a transaction that leaves many tasks wakes one, and
 * its notice is taken.
 */
static void
call_another(void)
{
	LrDatabase *database = lr_process_database;
	int			alive = 0;

	if (lr_executor_wake(database))
		return;
	/* read without the lock: one that comes or goes now looks by itself */
	for (int i = 0; i < LR_MAX_EXECUTORS; i++)
		alive += database->executors[i].pid != 0 || database->executors[i].starting;
	if (alive >= lr_max_executors)
		return;
	pg_atomic_fetch_or_u32(&database->notices, LR_NOTICE_WORK);
	if (database->scheduler.pid)
		SetLatch(database->scheduler.latch);
}

static void
work_body(void *argument)
{
	taken = lr_work(at_a_time);
}

static void
report_body(void *argument)
{
	lr_work_report_failed();
}

/* Tells whether the database has no other executor. */
static bool
is_last(void)
{
	bool		last = true;

	LWLockAcquire(lr_shared->lock, LW_SHARED);
	for (int i = 0; i < LR_MAX_EXECUTORS; i++)
	{
		LrWorker   *executor = &lr_process_database->executors[i];

		if (executor != lr_process_worker && executor->pid)
			last = false;
	}
	LWLockRelease(lr_shared->lock);
	return last;
}
