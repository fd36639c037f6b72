/*
 * process.c: the frame that the scheduler and the executors of a database run in.
 *
 * A worker begins by taking the place in shared memory that it was registered for; if somebody wants the database for himself, or has
 * registered another one since, it goes. It frees the place as one of the last things, when the server no longer counts it among
 * those who are connected.
 *
 * Work is done in transactions (lr_process_transaction()) with nothing but waiting in between, and no transaction is open while
 * a worker waits. An error ends the transaction, not the worker. The log gets one line for many errors of a kind, with SQLSTATE and
 * place: a message might quote a lead.
 *
 * SIGTERM lets a worker that waits go quietly. Amid a transaction it ends that, as in any session; what the transaction had in hand
 * is as before, and another worker takes it.
 */
#include "workers/processes.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

/* The longest wait after errors in a row. */
#define MAX_BACK_OFF (60 * USECS_PER_SEC)

LrDatabase *lr_process_database = NULL;
LrWorker   *lr_process_worker = NULL;

static bool is_executor = false;
static int	executor_number;

/* The database's asks when the scheduler took its place. */
static uint32 asks;
static char *database_name = NULL;
static MemoryContext process_memory = NULL;
static volatile sig_atomic_t amid = false;

/* Errors in a row, and the last one. */
static int	errors = 0;
static int	sqlstate = 0;

static void terminate(SIGNAL_ARGS);
static void take_place(const LrStart *start);
static void leave_place(int code, Datum argument);
static void quit_if_asked(void);
static void pin_settings(void);
static void pin_lock_timeout(void);
static bool is_wanted(void);
static void note_error(const char *doing, ErrorData *error);
static void show(const char *doing);

/* Registers a scheduler or an executor with the server; false if there is no process free. */
bool
lr_process_register(const LrStart *start, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker = {.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,.bgw_restart_time = BGW_NEVER_RESTART,.bgw_notify_pid = MyProcPid};
	const char *role = start->executor < 0 ? "scheduler" : "executor";

	StaticAssertStmt(sizeof(LrStart) <= BGW_EXTRALEN, "what a worker is told fits");
	snprintf(worker.bgw_name, BGW_MAXLEN, "leadroute %s", role);
	snprintf(worker.bgw_type, BGW_MAXLEN, "leadroute %s", role);
	strlcpy(worker.bgw_library_name, "leadroute", BGW_MAXLEN);
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "leadroute_%s_main", role);
	memcpy(worker.bgw_extra, start, sizeof(LrStart));
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

/* Sets what signals do; the launcher has the same. */
void
lr_process_signals(void)
{
	pqsignal(SIGTERM, terminate);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	process_memory = AllocSetContextCreate(TopMemoryContext, "leadroute worker", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(process_memory);
}

static void
terminate(SIGNAL_ARGS)
{
	int			saved = errno;

	ShutdownRequestPending = true;
	if (amid)
		die(postgres_signal_arg);
	SetLatch(MyLatch);
	errno = saved;
}

/* Begins a scheduler or an executor: takes its place and connects. */
void
lr_process_begin(void)
{
	LrStart		start;

	memcpy(&start, MyBgworkerEntry->bgw_extra, sizeof(start));
	lr_process_signals();
	take_place(&start);
	amid = true;
	quit_if_asked();
	BackgroundWorkerInitializeConnectionByOid(start.database, InvalidOid, 0);
	pin_settings();
	amid = false;
	StartTransactionCommand();
	database_name = MemoryContextStrdup(process_memory, get_database_name(MyDatabaseId));
	CommitTransactionCommand();
	MemoryContextSwitchTo(process_memory);
}

static void
take_place(const LrStart *start)
{
	LrDatabase *database = &lr_shared->databases[start->place];
	LrWorker   *worker;

	is_executor = start->executor >= 0;
	executor_number = start->executor;
	worker = is_executor ? &database->executors[start->executor] : &database->scheduler;
	LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
	if (database->database != start->database || worker->generation != start->generation || !worker->starting || database->leavers > 0)
	{
		LWLockRelease(lr_shared->lock);
		proc_exit(0);
	}
	worker->starting = false;
	worker->pid = MyProcPid;
	worker->latch = MyLatch;
	worker->tasks = worker->transactions = worker->failures = 0;
	worker->sqlstate = 0;
	worker->failed_at = worker->retry_at = 0;
	worker->since = worker->started_at = GetCurrentTimestamp();
	strlcpy(worker->doing, "starting", sizeof(worker->doing));
	pg_atomic_write_u32(&worker->idle, 0);
	if (!is_executor)
		database->state = LR_DATABASE_RUNNING;
	asks = database->asks;
	lr_process_database = database;
	lr_process_worker = worker;
	LWLockRelease(lr_shared->lock);
	/* registered before the connection is made, this is called when it is gone */
	on_shmem_exit(leave_place, (Datum) 0);
}

static void
leave_place(int code, Datum argument)
{
	LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
	lr_process_worker->pid = 0;
	pg_atomic_write_u32(&lr_process_worker->idle, 0);
	if (!is_executor)
		lr_launcher_wake(false);
	else if (lr_process_database->scheduler.pid)
		SetLatch(lr_process_database->scheduler.latch);
	LWLockRelease(lr_shared->lock);
}

/* Ends the process if somebody has asked it to; the launcher in a way that the server starts it again. */
static void
quit_if_asked(void)
{
	if (ShutdownRequestPending)
		proc_exit(lr_process_worker ? 0 : 1);
}

/* Whatever database and role have set as defaults: workers do the same in each. */
static void
pin_settings(void)
{
	static const char *const pinned[][2] = {
		{"search_path", "pg_catalog, pg_temp"}, {"statement_timeout", "0"}, {"idle_in_transaction_session_timeout", "0"},
		{"default_transaction_isolation", "read committed"}, {"default_transaction_read_only", "off"}, {"default_transaction_deferrable", "off"},
		{"row_security", "on"}, {"session_replication_role", "origin"}, {"leadroute.on_error", "record"}, {"jit", "off"}
	};

	for (int i = 0; i < (int) lengthof(pinned); i++)
		SetConfigOption(pinned[i][0], pinned[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("application_name", MyBgworkerEntry->bgw_type, PGC_USERSET, PGC_S_OVERRIDE);
	pin_lock_timeout();
}

static void
pin_lock_timeout(void)
{
	char		value[16];

	snprintf(value, sizeof(value), "%d", lr_worker_lock_timeout);
	SetConfigOption("lock_timeout", value, PGC_SUSET, PGC_S_OVERRIDE);
}

/* Sees to what happened while the worker waited or worked, between two transactions; ends it if it is no longer wanted. */
void
lr_process_check(void)
{
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		if (lr_process_worker)
			pin_lock_timeout();
	}
	quit_if_asked();
	if (lr_process_worker && !is_wanted())
		lr_process_end(lr_workers_enabled ? LR_DATABASE_ASK : LR_DATABASE_OFF);
}

static bool
is_wanted(void)
{
	LrDatabase *database = lr_process_database;

	/* read without the lock: whoever changes it wakes us afterwards */
	if (!lr_workers_enabled || database->leavers > 0)
		return false;
	if (!is_executor)
		return database->state != LR_DATABASE_CLOSED;
	return database->state < LR_DATABASE_ABSENT && executor_number < lr_max_executors;
}

/* Ends the process quietly. A scheduler says how it leaves the database, unless that may have changed since it looked. */
void
lr_process_end(LrDatabaseState state)
{
	LrDatabase *database = lr_process_database;

	if (!is_executor)
	{
		LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
		if (database->state == LR_DATABASE_RUNNING)
			database->state = state == LR_DATABASE_OFF || database->asks == asks ? state : LR_DATABASE_ASK;
		lr_database_wake(database);
		LWLockRelease(lr_shared->lock);
	}
	proc_exit(0);
}

/*
 * Runs body(argument) in a transaction; doing is what worker_status() shows meanwhile. False if it raised an error, which is noted;
 * then the worker should wait (lr_process_wait() sees to how long) before it tries again.
 */
bool
lr_process_transaction(const char *doing, void (*body) (void *), void *argument)
{
	volatile bool done = false;

	amid = true;
	quit_if_asked();
	show(doing);
	pgstat_report_activity(STATE_RUNNING, doing);
	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		body(argument);
		if (ActiveSnapshotSet())
			PopActiveSnapshot();
		CommitTransactionCommand();
		done = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		HOLD_INTERRUPTS();
		disable_all_timeouts(false);
		QueryCancelPending = false;
		MemoryContextSwitchTo(process_memory);
		error = CopyErrorData();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		note_error(doing, error);
		FreeErrorData(error);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(process_memory);
	amid = false;
	if (done)
	{
		errors = 0;
		sqlstate = 0;
	}
	if (lr_process_worker)
	{
		LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
		lr_process_worker->transactions += done;
		if (done)
			lr_process_worker->retry_at = 0;
		LWLockRelease(lr_shared->lock);
	}
	/* autovacuum goes by this */
	pgstat_report_stat(false);
	return done;
}

/* Returns what the last transaction failed with; 0: it did not. */
int
lr_process_sqlstate(void)
{
	return sqlstate;
}

/* Counts an error, says so in the log unless it has said it lately, and holds the worker back for a while. */
static void
note_error(const char *doing, ErrorData *error)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		wait = Min(MAX_BACK_OFF, (int64) 100 * 1000 << Min(errors, 20));
	int64		count;

	errors++;
	sqlstate = error->sqlerrcode;
	if (lr_process_worker == NULL)
		count = errors == 1;
	else
	{
		LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
		lr_process_worker->failures++;
		lr_process_worker->sqlstate = sqlstate;
		lr_process_worker->failed_at = now;
		lr_process_worker->retry_at = now + wait;
		count = lr_failure_note(is_executor ? lr_process_database->executor_failures : lr_process_database->scheduler_failures, sqlstate);
		LWLockRelease(lr_shared->lock);
	}
	if (count > 0)
		ereport(LOG,
				errcode(sqlstate),
				errmsg("leadroute: a worker failed in database \"%s\" while it was %s: SQLSTATE %s in %s",
					   database_name ? database_name : "", doing, unpack_sql_state(sqlstate), error->funcname ? error->funcname : "a function"),
				errdetail("Errors of this kind since the last such line: " INT64_FORMAT ".", count),
				errhint("It tries again, less often while it fails. leadroute.worker_status() shows what workers do."),
				errhidestmt(true), errhidecontext(true));
}

/* Shows in worker_status() what the worker does. */
static void
show(const char *doing)
{
	if (lr_process_worker == NULL || strcmp(lr_process_worker->doing, doing) == 0)
		return;
	LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
	strlcpy(lr_process_worker->doing, doing, sizeof(lr_process_worker->doing));
	lr_process_worker->since = GetCurrentTimestamp();
	LWLockRelease(lr_shared->lock);
}

/*
 * Waits until a moment, or until somebody wakes the worker; behind errors not before it may try again, whoever wakes it. Returns
 * when there is something to look at.
 */
void
lr_process_wait(TimestampTz until)
{
	TimestampTz not_before = lr_process_worker ? lr_process_worker->retry_at : 0;

	if (not_before > until)
		until = not_before;
	show("waiting");
	pgstat_report_activity(STATE_IDLE, NULL);
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		long		ms = until <= now ? 0 : (long) Min((until - now + 999) / 1000, 3600 * 1000);
		int			events;

		if (ms > 1000)
			pgstat_report_stat(true);
		events = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		lr_process_check();
		if (GetCurrentTimestamp() < not_before)
			continue;
		if ((events & WL_LATCH_SET) || GetCurrentTimestamp() >= until)
			break;
	}
}
