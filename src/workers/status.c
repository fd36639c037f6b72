/*
 * status.c: what the workers do, for people to see.
 */
#include "workers/processes.h"

#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/elog.h"

PG_FUNCTION_INFO_V1(leadroute_worker_status);

#define STATUS_COLUMNS 12

static void put(ReturnSetInfo *result, Oid database, const char *worker, const char *state, const LrWorker *details, TimestampTz retry_at);
static void put_database(ReturnSetInfo *result, const LrDatabase *database);

/* Shows launcher, databases and workers; see the SQL comment. */
Datum
leadroute_worker_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	LrWorker	launcher = {0};
	LrDatabase *copy;

	(void) lr_catalog();
	InitMaterializedSRF(fcinfo, 0);
	if (lr_shared == NULL)
	{
		put(result, InvalidOid, "launcher", "library not preloaded", NULL, 0);
		return (Datum) 0;
	}
	LWLockAcquire(lr_shared->lock, LW_SHARED);
	launcher.pid = lr_shared->launcher_pid;
	launcher.since = launcher.started_at = lr_shared->launched_at;
	LWLockRelease(lr_shared->lock);
	put(result, InvalidOid, "launcher",
		!lr_workers_enabled ? "off" : launcher.pid ? "running" : RecoveryInProgress() ? "in recovery" : "not running", launcher.pid ? &launcher : NULL, 0);
	copy = palloc(sizeof(LrDatabase));
	for (int i = 0; i < lr_shared->size; i++)
	{
		LWLockAcquire(lr_shared->lock, LW_SHARED);
		*copy = lr_shared->databases[i];
		LWLockRelease(lr_shared->lock);
		if (OidIsValid(copy->database))
			put_database(result, copy);
	}
	pfree(copy);
	return (Datum) 0;
}

/* Shows a database: its scheduler, or why there is none, and its executors. */
static void
put_database(ReturnSetInfo *result, const LrDatabase *database)
{
	bool		retried = database->state == LR_DATABASE_FAILED || database->state == LR_DATABASE_NO_WORKER;

	if (database->scheduler.pid)
		put(result, database->database, "scheduler", database->scheduler.doing, &database->scheduler, database->scheduler.retry_at);
	else
		put(result, database->database, "scheduler", database->leavers > 0 ? "kept out" : lr_database_state_names[database->state], NULL,
			retried ? database->retry_at : 0);
	for (int i = 0; i < LR_MAX_EXECUTORS; i++)
	{
		const LrWorker *executor = &database->executors[i];

		if (executor->pid)
			put(result, database->database, "executor", executor->doing, executor, executor->retry_at);
	}
}

static void
put(ReturnSetInfo *result, Oid database, const char *worker, const char *state, const LrWorker *details, TimestampTz retry_at)
{
	Datum		values[STATUS_COLUMNS] = {0};
	bool		nulls[STATUS_COLUMNS];
	char	   *name = OidIsValid(database) ? get_database_name(database) : NULL;

	/* dropped just now */
	if (OidIsValid(database) && name == NULL)
		return;
	memset(nulls, true, sizeof(nulls));
#define SET(column, value) (values[column] = (value), nulls[column] = false)
	if (name)
		SET(0, CStringGetTextDatum(name));
	SET(1, CStringGetTextDatum(worker));
	SET(3, CStringGetTextDatum(details && details->retry_at > GetCurrentTimestamp() ? "held back by failures" : state));
	if (details)
	{
		SET(2, Int32GetDatum(details->pid));
		SET(4, TimestampTzGetDatum(details->since));
		SET(5, TimestampTzGetDatum(details->started_at));
		SET(6, Int64GetDatum(details->tasks));
		SET(7, Int64GetDatum(details->transactions));
		SET(8, Int64GetDatum(details->failures));
		if (details->sqlstate)
		{
			SET(9, CStringGetTextDatum(unpack_sql_state(details->sqlstate)));
			SET(10, TimestampTzGetDatum(details->failed_at));
		}
	}
	if (retry_at > GetCurrentTimestamp())
		SET(11, TimestampTzGetDatum(retry_at));
#undef SET
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}
