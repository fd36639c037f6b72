/*
 * launcher.c: the process that sees to it that each database with leadroute has its scheduler.
 *
 * It is connected to no database and reads pg_database alone: when it begins, when somebody has made, changed or dropped a
 * database, and each minute. Every database that allows connections and is no template gets a scheduler, which looks whether
 * the extension is installed and says so in shared memory when it leaves; then there is none until a session says that something
 * has changed. A scheduler that ends otherwise is started again, after longer and longer waits. So it goes, too, where the
 * server has no process free for one.
 *
 * The server starts the launcher when recovery has finished, so on a standby when it has been promoted, and again if it dies.
 */
#include "workers/processes.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#define RESCAN_EVERY (60 * USECS_PER_SEC)
#define MAX_STARTING 4
#define MAX_RETRY (300 * USECS_PER_SEC)

/* A scheduler that ran for so long did not fail in a row with the one before. */
#define LONG_ENOUGH (60 * USECS_PER_SEC)

static BackgroundWorkerHandle **handles;
static bool full = false;

static void begin(void);
static void leave(int code, Datum argument);
static void scan_databases(void *argument);
static void see_database(Form_pg_database row);
static void forget_databases(List *found);
static TimestampTz look_after_all(void);
static void switch_off(void);
static void look_after(int place, TimestampTz now, int *starting);
static void start_scheduler(int place, TimestampTz now);
static void retry_later(LrDatabase *database, LrDatabaseState state, TimestampTz now);

/* Registers the launcher; only while the server starts. */
void
lr_launcher_init(void)
{
	BackgroundWorker worker = {.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,.bgw_restart_time = 1};

	/* pg_upgrade wants nobody to act meanwhile */
	if (IsBinaryUpgrade)
		return;
	strlcpy(worker.bgw_name, "leadroute launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "leadroute launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_library_name, "leadroute", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "leadroute_launcher_main", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

void
leadroute_launcher_main(Datum argument)
{
	TimestampTz scanned_at = 0;

	begin();
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		TimestampTz next;
		bool		rescan;

		LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
		rescan = lr_shared->rescan;
		lr_shared->rescan = false;
		LWLockRelease(lr_shared->lock);
		if (rescan || now - scanned_at >= RESCAN_EVERY)
		{
			/* what failed is tried again with the next one */
			(void) lr_process_transaction("looking for databases", scan_databases, NULL);
			scanned_at = now;
		}
		next = look_after_all();
		lr_process_wait(Min(next, scanned_at + RESCAN_EVERY));
	}
}

static void
begin(void)
{
	lr_process_signals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	SetConfigOption("application_name", "leadroute launcher", PGC_USERSET, PGC_S_OVERRIDE);
	handles = palloc0(sizeof(BackgroundWorkerHandle *) * lr_shared->size);
	LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
	lr_shared->launcher_pid = MyProcPid;
	lr_shared->launcher = MyLatch;
	lr_shared->launched_at = GetCurrentTimestamp();
	/* what the last launcher registered and has not begun is not waited for */
	for (int i = 0; i < lr_shared->size; i++)
	{
		LrDatabase *database = &lr_shared->databases[i];

		if (database->state == LR_DATABASE_STARTING && database->scheduler.pid == 0)
			database->state = LR_DATABASE_ASK;
	}
	LWLockRelease(lr_shared->lock);
	before_shmem_exit(leave, (Datum) 0);
}

static void
leave(int code, Datum argument)
{
	LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
	lr_shared->launcher_pid = 0;
	LWLockRelease(lr_shared->lock);
}

/* ---- which databases there are ---- */

static void
scan_databases(void *argument)
{
	Relation	rel = table_open(DatabaseRelationId, AccessShareLock);
	TableScanDesc scan = table_beginscan_catalog(rel, 0, NULL);
	HeapTuple	tuple;
	List	   *found = NIL;

	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database row = (Form_pg_database) GETSTRUCT(tuple);

		found = lappend_oid(found, row->oid);
		see_database(row);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	forget_databases(found);
}

/* Notes whether workers may connect to a database. */
static void
see_database(Form_pg_database row)
{
	bool		open = row->datallowconn && !row->datistemplate && !database_is_invalid_form(row);
	LrDatabase *database;

	LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
	database = lr_database_find(row->oid, open);
	if (database == NULL)
	{
		LWLockRelease(lr_shared->lock);
		if (open && !full)
			ereport(LOG,
					errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					errmsg("leadroute: there are more databases than background workers can have to do with"),
					errhint("Raise leadroute.max_databases, and restart the server."));
		full |= open;
		return;
	}
	if (!open)
	{
		database->state = LR_DATABASE_CLOSED;
		lr_database_wake(database);
	}
	else if (database->state == LR_DATABASE_CLOSED || (database->state == LR_DATABASE_OFF && lr_workers_enabled))
		database->state = LR_DATABASE_ASK;
	LWLockRelease(lr_shared->lock);
}

/* Frees the places of databases that are gone. */
static void
forget_databases(List *found)
{
	LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < lr_shared->size; i++)
	{
		LrDatabase *database = &lr_shared->databases[i];
		bool		used = database->leavers > 0 || database->scheduler.pid != 0;

		for (int e = 0; e < LR_MAX_EXECUTORS; e++)
			used |= database->executors[e].pid != 0;
		if (OidIsValid(database->database) && !used && !list_member_oid(found, database->database))
			database->database = InvalidOid;
	}
	LWLockRelease(lr_shared->lock);
}

/* ---- their schedulers ---- */

/* Starts the schedulers that are wanted; returns when to look again. */
static TimestampTz
look_after_all(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = DT_NOEND;
	int			starting = 0;

	if (!lr_workers_enabled)
	{
		switch_off();
		return next;
	}
	for (int i = 0; i < lr_shared->size; i++)
	{
		LrDatabase *database = &lr_shared->databases[i];

		if (!OidIsValid(database->database))
			continue;
		look_after(i, now, &starting);
		if ((database->state == LR_DATABASE_FAILED || database->state == LR_DATABASE_NO_WORKER) && database->leavers == 0)
			next = Min(next, database->retry_at);
	}
	return next;
}

/* Has databases that were to get a scheduler get none: theirs may have heard that workers are off before we did, and we have asked for another. */
static void
switch_off(void)
{
	LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < lr_shared->size; i++)
	{
		LrDatabase *database = &lr_shared->databases[i];

		if (OidIsValid(database->database) && database->state == LR_DATABASE_ASK && database->scheduler.pid == 0)
			database->state = LR_DATABASE_OFF;
	}
	LWLockRelease(lr_shared->lock);
}

static void
look_after(int place, TimestampTz now, int *starting)
{
	LrDatabase *database = &lr_shared->databases[place];
	pid_t		pid;
	bool		gone = true;
	bool		start;

	if (handles[place])
	{
		gone = GetBackgroundWorkerPid(handles[place], &pid) == BGWH_STOPPED;
		if (gone)
		{
			pfree(handles[place]);
			handles[place] = NULL;
		}
	}
	LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
	if (gone && database->scheduler.pid == 0)
	{
		/* it did not say why it went */
		if (database->state == LR_DATABASE_RUNNING || database->state == LR_DATABASE_STARTING)
		{
			if (database->leavers > 0)
				database->state = LR_DATABASE_ASK;
			else
				retry_later(database, LR_DATABASE_FAILED, now);
		}
	}
	if (database->state == LR_DATABASE_OFF)
		database->state = LR_DATABASE_ASK;
	start = gone && database->scheduler.pid == 0 && database->leavers == 0 && *starting < MAX_STARTING &&
		(database->state == LR_DATABASE_ASK ||
		 ((database->state == LR_DATABASE_FAILED || database->state == LR_DATABASE_NO_WORKER) && database->retry_at <= now));
	*starting += start || database->state == LR_DATABASE_STARTING;
	LWLockRelease(lr_shared->lock);
	if (start)
		start_scheduler(place, now);
}

static void
start_scheduler(int place, TimestampTz now)
{
	LrDatabase *database = &lr_shared->databases[place];
	LrStart		start = {.database = database->database,.place = place,.executor = -1};
	int64		count = 0;

	LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
	database->state = LR_DATABASE_STARTING;
	database->scheduler.starting = true;
	start.generation = ++database->scheduler.generation;
	LWLockRelease(lr_shared->lock);
	if (lr_process_register(&start, &handles[place]))
		return;

	LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
	database->scheduler.starting = false;
	retry_later(database, LR_DATABASE_NO_WORKER, now);
	count = lr_failure_note(database->scheduler_failures, ERRCODE_INSUFFICIENT_RESOURCES);
	LWLockRelease(lr_shared->lock);
	if (count > 0)
		ereport(LOG,
				errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("leadroute: there is no process free for the scheduler of database %u", database->database),
				errhint("Raise max_worker_processes: one for each database with leadroute, leadroute.max_executors more for each, and one for the launcher."));
}

static void
retry_later(LrDatabase *database, LrDatabaseState state, TimestampTz now)
{
	if (now - database->scheduler.started_at > LONG_ENOUGH && state == LR_DATABASE_FAILED)
		database->failures = 0;
	database->state = state;
	database->retry_at = now + Min(MAX_RETRY, USECS_PER_SEC << Min(database->failures, 20));
	database->failures++;
}
