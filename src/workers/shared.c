/*
 * shared.c: the memory in which background workers and all sessions meet.
 *
 * One place for each database that workers have to do with. Whoever inserts leads sets bits there and wakes somebody; the launcher
 * reads from there which database needs a scheduler; who drops a database asks those in it to leave. All but the bits and
 * the marks of idle executors is under one lightweight lock, which nobody holds for long. A crash of the server empties the
 * memory; the launcher fills it again.
 *
 * A place keeps its database until that is dropped, so a session may remember its own.
 */
#include "workers/processes.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/guc.h"

#define TRANCHE "leadroute workers"

/* At most one line in the log for a kind of failure in this time. */
#define LOG_EVERY (10 * USECS_PER_MINUTE)

const char *const lr_database_state_names[LR_N_DATABASE_STATES] = {
	[LR_DATABASE_ASK] = "to be started",
	[LR_DATABASE_STARTING] = "starting",
	[LR_DATABASE_RUNNING] = "running",
	[LR_DATABASE_FAILED] = "failed",
	[LR_DATABASE_NO_WORKER] = "no worker process free",
	[LR_DATABASE_ABSENT] = "not installed",
	[LR_DATABASE_VERSION] = "another version",
	[LR_DATABASE_COPY] = "copy",
	[LR_DATABASE_OFF] = "off",
	[LR_DATABASE_CLOSED] = "closed"
};

LrShared   *lr_shared = NULL;

static int	max_databases = 128;
static shmem_request_hook_type previous_shmem_request = NULL;
static shmem_startup_hook_type previous_shmem_startup = NULL;

static void request_memory(void);
static void start_memory(void);
static Size memory_size(void);
static void clear_place(LrDatabase *place, Oid database);

/* Asks for shared memory; only while the server starts. */
void
lr_shared_init(void)
{
	DefineCustomIntVariable("leadroute.max_databases",
							"How many databases background workers can have to do with.",
							"Each database that allows connections and is no template counts, whether leadroute is installed there or not.",
							&max_databases, 128, 1, 10000, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	previous_shmem_request = shmem_request_hook;
	shmem_request_hook = request_memory;
	previous_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = start_memory;
}

static void
request_memory(void)
{
	if (previous_shmem_request)
		previous_shmem_request();
	RequestAddinShmemSpace(memory_size());
	RequestNamedLWLockTranche(TRANCHE, 1);
}

static Size
memory_size(void)
{
	return MAXALIGN(add_size(offsetof(LrShared, databases), mul_size(max_databases, sizeof(LrDatabase))));
}

static void
start_memory(void)
{
	bool		found;

	if (previous_shmem_startup)
		previous_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	lr_shared = ShmemInitStruct(TRANCHE, memory_size(), &found);
	if (!found)
	{
		memset(lr_shared, 0, memory_size());
		lr_shared->lock = &GetNamedLWLockTranche(TRANCHE)->lock;
		lr_shared->size = max_databases;
		for (int i = 0; i < max_databases; i++)
			clear_place(&lr_shared->databases[i], InvalidOid);
	}
	LWLockRelease(AddinShmemInitLock);
}

static void
clear_place(LrDatabase *place, Oid database)
{
	memset(place, 0, sizeof(LrDatabase));
	pg_atomic_init_u32(&place->notices, 0);
	pg_atomic_init_u32(&place->scheduler.idle, 0);
	for (int i = 0; i < LR_MAX_EXECUTORS; i++)
		pg_atomic_init_u32(&place->executors[i].idle, 0);
	place->database = database;
}

/* ---- under the lock ---- */

/* Finds a database's place; NULL if there is none, and, create, no room for one. */
LrDatabase *
lr_database_find(Oid database, bool create)
{
	LrDatabase *free = NULL;

	for (int i = 0; i < lr_shared->size; i++)
	{
		LrDatabase *place = &lr_shared->databases[i];

		if (place->database == database)
			return place;
		if (free == NULL && !OidIsValid(place->database))
			free = place;
	}
	if (!create || free == NULL)
		return NULL;
	clear_place(free, database);
	return free;
}

/* Has the launcher look again at what there is in a database. */
void
lr_database_ask(LrDatabase *database)
{
	database->asks++;
	if (database->state != LR_DATABASE_RUNNING && database->state != LR_DATABASE_STARTING)
	{
		database->state = LR_DATABASE_ASK;
		database->retry_at = 0;
	}
}

/* Wakes all workers of a database. */
void
lr_database_wake(LrDatabase *database)
{
	if (database->scheduler.pid)
		SetLatch(database->scheduler.latch);
	for (int i = 0; i < LR_MAX_EXECUTORS; i++)
	{
		if (database->executors[i].pid)
			SetLatch(database->executors[i].latch);
	}
}

/* Wakes the launcher; rescan: databases have come, gone or changed. */
void
lr_launcher_wake(bool rescan)
{
	lr_shared->rescan |= rescan;
	if (lr_shared->launcher_pid)
		SetLatch(lr_shared->launcher);
}

/*
 * Counts a failure among those of its kind. Returns how many have not been logged, this one included, if it is time to log them; 0 if
 * it is not. Of too many kinds the one that was logged longest ago gives way, but not within its time: so there is an end to it.
 */
int64
lr_failure_note(LrFailure *failures, int sqlstate)
{
	TimestampTz now = GetCurrentTimestamp();
	LrFailure  *failure = &failures[0];
	int64		count;

	for (int i = 0; i < LR_MAX_FAILURES; i++)
	{
		if (failures[i].sqlstate == sqlstate)
		{
			failure = &failures[i];
			break;
		}
		if (failures[i].logged_at < failure->logged_at)
			failure = &failures[i];
	}
	count = ++failure->silent;
	if (failure->logged_at && now - failure->logged_at < LOG_EVERY)
		return 0;
	*failure = (LrFailure) {.sqlstate = sqlstate,.logged_at = now};
	return count;
}

/* ---- without the lock ---- */

/* Returns the place of this session's database; NULL if there is no room for it, or no shared memory. */
LrDatabase *
lr_database_mine(void)
{
	static LrDatabase *mine = NULL;

	if (lr_shared == NULL || !OidIsValid(MyDatabaseId))
		return NULL;
	if (likely(mine && mine->database == MyDatabaseId))
		return mine;
	LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
	mine = lr_database_find(MyDatabaseId, true);
	if (mine && mine->state == LR_DATABASE_ASK)
		lr_launcher_wake(false);
	LWLockRelease(lr_shared->lock);
	return mine;
}

/* Wakes an executor that waits, each but once; false if none does. A latch of somebody who is gone does no harm. */
bool
lr_executor_wake(LrDatabase *database)
{
	for (int i = 0; i < LR_MAX_EXECUTORS; i++)
	{
		LrWorker   *executor = &database->executors[i];

		if (pg_atomic_read_u32(&executor->idle) && pg_atomic_exchange_u32(&executor->idle, 0))
		{
			SetLatch(executor->latch);
			return true;
		}
	}
	return false;
}
