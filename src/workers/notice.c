/*
 * notice.c: telling the workers of a database, when a transaction commits, that there is something to do.
 *
 * A transaction that leaves work behind sets a flag of its session, nothing else. When it has committed, and all it wrote can be
 * seen, the flag becomes bits in the database's place in shared memory. Only who sets a bit that was not set wakes somebody: for
 * work in the database an executor that waits, otherwise the scheduler. Whoever is woken takes the bit first and looks
 * then, so nothing that commits later is overlooked.
 *
 * Where the library is not preloaded there is no shared memory, and nobody is told: run_pending() looks by itself. Prepared
 * transactions call back nobody; COMMIT PREPARED tells all that there might be (utility.c), and workers look now and then.
 */
#include "workers/processes.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/guc.h"

PG_FUNCTION_INFO_V1(leadroute_notice_workers);

#define ALL_NOTICES (LR_NOTICE_WORK | LR_NOTICE_TASKS | LR_NOTICE_TIMERS | LR_NOTICE_INSTALLED)

bool		lr_workers_enabled = true;
int			lr_max_executors = 2;
int			lr_poll_interval = 1000;
int			lr_tasks_per_transaction = 1000;
int			lr_executor_idle_time = 60;
int			lr_worker_lock_timeout = 2000;

/* Of the transaction that runs. */
static int	pending = 0;

static void define_settings(void);
static void transaction_ended(XactEvent event, void *argument);
static void tell(int what);

/* Registers settings and hooks. */
void
lr_workers_init(void)
{
	define_settings();
	RegisterXactCallback(transaction_ended, NULL);
	if (!process_shared_preload_libraries_in_progress)
		return;
	lr_shared_init();
	lr_launcher_init();
	lr_utility_init();
}

static void
define_settings(void)
{
	DefineCustomBoolVariable("leadroute.workers",
							 "Runs background workers, where the library is preloaded.",
							 "When off, what waits is done by run_pending() only.",
							 &lr_workers_enabled, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("leadroute.max_executors",
							"How many executors a database may have at a time.",
							"They run the steps that policies leave to workers. They, a scheduler for each database with leadroute, and one launcher are taken from max_worker_processes.",
							&lr_max_executors, 2, 1, LR_MAX_EXECUTORS, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("leadroute.poll_interval",
							"How often workers look for what nobody has told them of.",
							"That is what prepared transactions leave behind, where they are not committed by a session of this server, and what somebody else failed to see to.",
							&lr_poll_interval, 1000, 10, 3600000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("leadroute.tasks_per_transaction",
							"How many tasks an executor takes in one transaction at most.",
							"It begins with one and takes more as long as they are done quickly.",
							&lr_tasks_per_transaction, 1000, 1, 10000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("leadroute.executor_idle_time",
							"How long an executor waits for more work before it ends.",
							"The last one of a database stays.",
							&lr_executor_idle_time, 60, 1, 86400, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("leadroute.worker_lock_timeout",
							"How long workers wait for a lock.",
							"After that they give the work back and try again later, so that no transaction of theirs stays open behind somebody else's. 0: any time.",
							&lr_worker_lock_timeout, 2000, 0, 3600000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}

/* Has the workers of this database woken when the transaction commits; what: bits of LrNotice. */
void
lr_workers_notice(int what)
{
	pending |= what;
}

/* Is lr_workers_notice() for SQL; see the SQL comment. */
Datum
leadroute_notice_workers(PG_FUNCTION_ARGS)
{
	lr_workers_notice(PG_GETARG_INT32(0) & ALL_NOTICES);
	PG_RETURN_VOID();
}

static void
transaction_ended(XactEvent event, void *argument)
{
	if (likely(pending == 0))
		return;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			if (lr_shared)
				tell(pending);
			pending = 0;
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			pending = 0;
			break;
		default:
			break;
	}
}

static void
tell(int what)
{
	LrDatabase *database = lr_database_mine();
	bool		scheduler;
	uint32		before;

	if (database == NULL)
		return;
	before = pg_atomic_fetch_or_u32(&database->notices, what & ~LR_NOTICE_INSTALLED);
	scheduler = (what & ~before & (LR_NOTICE_TASKS | LR_NOTICE_TIMERS)) != 0;
	if (what & ~before & LR_NOTICE_WORK)
		scheduler |= !lr_executor_wake(database);
	/* read without the lock: a scheduler that comes or goes now looks by itself */
	if (scheduler && database->scheduler.pid)
		SetLatch(database->scheduler.latch);

	/* whoever has something for workers has the extension */
	if ((what & LR_NOTICE_INSTALLED) || unlikely(database->state == LR_DATABASE_ABSENT))
	{
		LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
		lr_database_ask(database);
		lr_launcher_wake(false);
		LWLockRelease(lr_shared->lock);
	}
}
