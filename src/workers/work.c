/*
 * work.c: what executors do: steps of policies whose agents are SQL functions, outside of the inserting transaction.
 *
 * A task is taken by the lock on its row, and done in the transaction that took it: the function, what its run does then, the entry, and
 * the removal of the task commit together, or the task is there again as if nobody had touched it. So each effect inside the database
 * happens exactly once, and a worker that is terminated leaves nothing to clean up. Whether an attempt that failed is repeated is up to
 * task_attempts_failed().
 */
#include "workers/workers.h"

#include "catalog/pg_type.h"
#include "pipeline/pipeline.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(leadroute_do_work);

static int	take_tasks(int max, LrContinuation **items);
static void remove_done(const LrContinuation *items, int n);
static void report_failed(const LrContinuation *items, int n);

/* Does up to max tasks, in the transaction of the caller; returns how many it had in hand: 0 if there is nothing to do. */
int
lr_work(int max)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "leadroute work", ALLOCSET_DEFAULT_SIZES);
	MemoryContext saved = MemoryContextSwitchTo(memory);
	LrContinuation *items;
	int			n = take_tasks(max, &items);

	if (n > 0)
	{
		(void) lr_runs_continue(items, n, &(LrGoingOn) {.skip_locked = true});
		remove_done(items, n);
		report_failed(items, n);
	}
	MemoryContextSwitchTo(saved);
	MemoryContextDelete(memory);
	return n;
}

/* Does tasks in the session of the caller; see the SQL comment. */
Datum
leadroute_do_work(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(lr_work(PG_GETARG_INT32(0)));
}

static int
take_tasks(int max, LrContinuation **items)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(max)};
	int			n;
	MemoryContext saved;

	lr_sql_begin(&identity);
	n = (int) lr_sql_kept(LR_PLAN_LOCK_WORK, "SELECT run_id, lead_id, step_no FROM leadroute.lock_work($1)", 1, types, values, NULL);
	saved = MemoryContextSwitchTo(memory);
	*items = palloc0(sizeof(LrContinuation) * Max(n, 1));
	for (int i = 0; i < n; i++)
		(*items)[i] = (LrContinuation) {.run_id = lr_sql_int64(i, 1, 0),.lead_id = lr_sql_int64(i, 2, 0),.step = lr_sql_int32(i, 3, 0) - 1,.execute = true};
	MemoryContextSwitchTo(saved);
	lr_sql_end(&identity);
	return n;
}

/* Removes the tasks whose results are on record, or wanted by nobody. */
static void
remove_done(const LrContinuation *items, int n)
{
	LrIdentity	identity;
	Oid			types[] = {INT8ARRAYOID, INT4ARRAYOID};
	Datum		values[2];
	int64	   *run_ids = palloc(sizeof(int64) * n);
	Datum	   *step_nos = palloc(sizeof(Datum) * n);
	int			nremoved = 0;

	for (int i = 0; i < n; i++)
	{
		if (!items[i].taken)
			continue;
		run_ids[nremoved] = items[i].run_id;
		step_nos[nremoved++] = Int32GetDatum(items[i].step + 1);
	}
	if (nremoved == 0)
		return;
	values[0] = lr_int8_array(run_ids, nremoved);
	values[1] = PointerGetDatum(construct_array(step_nos, nremoved, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	lr_sql_begin(&identity);
	lr_sql_kept(LR_PLAN_TASKS_DONE, "DELETE FROM leadroute.tasks t USING unnest($1, $2) AS x (run_id, step_no) WHERE t.run_id = x.run_id AND t.step_no = x.step_no",
				2, types, values, NULL);
	lr_sql_end(&identity);
}

/* Reports attempts that failed. */
static void
report_failed(const LrContinuation *items, int n)
{
	LrIdentity	identity;
	Oid			types[] = {INT8ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, BOOLARRAYOID};
	Datum		values[4];
	int64	   *run_ids = palloc(sizeof(int64) * n);
	Datum	   *step_nos = palloc(sizeof(Datum) * n);
	Datum	   *errors = palloc(sizeof(Datum) * n);
	Datum	   *retryable = palloc(sizeof(Datum) * n);
	int			nfailed = 0;

	for (int i = 0; i < n; i++)
	{
		if (items[i].taken || !items[i].failed)
			continue;
		run_ids[nfailed] = items[i].run_id;
		step_nos[nfailed] = Int32GetDatum(items[i].step + 1);
		errors[nfailed] = CStringGetTextDatum(items[i].place ? psprintf("%s %s", unpack_sql_state(items[i].sqlstate), items[i].place)
											  : unpack_sql_state(items[i].sqlstate));
		retryable[nfailed++] = BoolGetDatum(items[i].sqlstate != ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE);
	}
	if (nfailed == 0)
		return;
	values[0] = lr_int8_array(run_ids, nfailed);
	values[1] = PointerGetDatum(construct_array(step_nos, nfailed, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	values[2] = PointerGetDatum(construct_array(errors, nfailed, TEXTOID, -1, false, TYPALIGN_INT));
	values[3] = PointerGetDatum(construct_array(retryable, nfailed, BOOLOID, sizeof(bool), true, TYPALIGN_CHAR));
	lr_sql_begin(&identity);
	lr_sql_kept(LR_PLAN_TASKS_FAILED, "SELECT leadroute.task_attempts_failed($1, $2, $3, $4)", 4, types, values, NULL);
	lr_sql_end(&identity);
}
