/*
 * work.c: what executors do: steps of policies whose agents are SQL functions, outside of the inserting transaction.
 *
 * A task is taken by the lock on its row, and done in the transaction that took it: the function, what its run does then, the entry, and
 * the removal of the task commit together, or the task is there again as if nobody had touched it. So each effect inside the database
 * happens exactly once, and a worker that is terminated leaves nothing to clean up. A function that takes long is called while its run is not
 * held, so that others can do other steps of the run at the same time; its result is kept with the task, and the run goes on with it in the
 * transaction after that. Whether an attempt that failed is repeated is up to task_attempts_failed().
 *
 * Some errors end the whole transaction: cancels, locks that are not to be had, resources. So does a function that takes longer than it
 * may. Then all tasks of the transaction are queued as before, and whoever called reports the one whose function it was in the next.
 * Where no function was running, the next transaction takes one task alone; if that fails, too, the task is put off, and the others go on.
 */
#include "workers/workers.h"

#include <malloc.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "pipeline/pipeline.h"
#include "policy/policy.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "workers/task_rows.h"

PG_FUNCTION_INFO_V1(leadroute_do_work);

/* One transaction begins nothing more after so many microseconds. */
#define LONGEST_TURN (200 * 1000)

/* Items as the parameters of a statement. */
typedef struct Columns
{
	int			n;
	int64	   *run_ids;
	Datum	   *step_nos;
	Datum	   *outputs;
	Datum	   *errors;
	Datum	   *retryable;
	bool	   *no_output;
	bool	   *no_error;
} Columns;

typedef bool (*Choose) (const LrContinuation *item);

/* The task whose function runs, or in which the transaction failed. */
static struct
{
	int64		run_id;			/* 0: none */
	int			step_no;
	int			attempts_before;
	int			sqlstate;		/* of the failure */
	bool		limited;
	bool		timed_out;
} in_hand;

/* The last transaction failed: the next one takes one task, so that it shows whose fault it is. */
static bool careful = false;

/* What this transaction took, outside of functions. */
static struct
{
	int			nruns;
	int64		run_id;			/* of one run */
	int			step_no;		/* 0: all of its steps that are done */
	int			sqlstate;		/* of the failure; 0: somebody else's */
} in_turn;

/* What the last call found was all somebody else's. */
static bool passed_over = false;

/* The last transaction did tasks that take little time. */
static bool slow_is_next = false;

static int	finish_done(int max);
static int	take_tasks(int max, LrContinuation **items);
static LrContinuation *read_tasks(int n);
static void take_turn(const LrContinuation *items, int n, bool done);
static int	set_slow_apart(LrContinuation *items, int n);
static int	do_quick(LrContinuation *items, int n, LrExecution *execution);
static int	do_slow(LrContinuation *items, int n, LrExecution *execution);
static int	remove_tasks(const LrContinuation *items, int n);
static void tell_breakers(const LrExecution *execution);
static int	report_failed(const LrContinuation *items, int n);
static bool is_worth_retrying(int sqlstate);
static bool is_of_the_task(int sqlstate);
static void put_off(void);
static Columns columns_of(const LrContinuation *items, int n, Choose choose);

/* Does up to max tasks, in the transaction of the caller; returns how many came forward: 0 if there is nothing to do now. */
int
lr_work(int max)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "leadroute work", ALLOCSET_DEFAULT_SIZES);
	MemoryContext saved = MemoryContextSwitchTo(memory);
	LrExecution execution = {.memory = memory,.until = GetCurrentTimestamp() + LONGEST_TURN,.careful = careful};
	LrContinuation *items;
	int			done;
	int			n;
	int			nslow;
	int			nest;

	in_hand.run_id = 0;
	in_turn.nruns = 0;
	in_turn.sqlstate = 0;
	max = careful ? Min(max, 1) : max;
	nest = lr_by_index_enter();
	/* what holds runs is not in one transaction with what may take long */
	done = finish_done(max);
	n = done > 0 ? 0 : take_tasks(max, &items);
	/* one of each queue may have come */
	n = careful ? Min(n, 1) : n;

	if (n > 0)
	{
		take_turn(items, n, false);
		/* agents see what was committed when their tasks were, and not only what was when this transaction began */
		PushActiveSnapshot(GetTransactionSnapshot());
		nslow = set_slow_apart(items, n);
		/* in turn, where there are both */
		if (nslow < n && !(nslow > 0 && slow_is_next))
		{
			done = do_quick(items, n - nslow, &execution);
			slow_is_next = true;
		}
		if (nslow > 0 && done == 0)
		{
			done = do_slow(&items[n - nslow], nslow, &execution);
			slow_is_next = false;
		}
		PopActiveSnapshot();
		/* all at once, and at the end: who tells of several agents does so in their order, and keeps nobody waiting for long */
		tell_breakers(&execution);
	}
	lr_settings_leave(nest);
	MemoryContextSwitchTo(saved);
	MemoryContextDelete(memory);
	careful = false;
	passed_over = done == 0 && n > 0;
	return done;
}

/* Tells whether the last call found tasks, and could do none, since somebody else has their runs in hand: further behind there may be others. */
bool
lr_work_passed_over(void)
{
	return passed_over;
}

/*
 * Has the C library keep what a transaction gave back for the next one, which wants as much again: to get it from the kernel anew, page by
 * page, took a sixth of the time of executors, and of agents that give back hundreds of tasks at a time.
 */
void
lr_keep_memory(void)
{
#ifdef __GLIBC__
	static bool kept = false;

	if (kept)
		return;
	(void) mallopt(M_MMAP_THRESHOLD, 32 * 1024 * 1024);
	(void) mallopt(M_TRIM_THRESHOLD, 64 * 1024 * 1024);
	kept = true;
#endif
}

/* Does tasks in the session of the caller; see the SQL comment. */
Datum
leadroute_do_work(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(lr_work(PG_GETARG_INT32(0)));
}

/* Goes on with runs whose slow steps are done. Their states are locked first, and only then is read what was done. */
static int
finish_done(int max)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(max)};
	Oid			lead_types[] = {INT8ARRAYOID};
	LrContinuation *items;
	LrContinuation *failures;
	int			nfailures = 0;
	int64	   *lead_ids;
	int			n;

	lr_sql_begin(&identity);
	n = (int) lr_sql_kept(LR_PLAN_DONE_LEADS,
						  "SELECT s.lead_id FROM leadroute.lead_states s WHERE s.lead_id = ANY (ARRAY(SELECT t.lead_id FROM leadroute.tasks t WHERE t.state = 'd'"
						  " AND (t.started_at IS NULL OR t.started_at <= clock_timestamp()) ORDER BY t.run_id LIMIT 1000))"
						  " ORDER BY s.lead_id LIMIT $1 FOR UPDATE SKIP LOCKED", 1, types, values, NULL);
	lead_ids = lr_sql_int64s(n, memory);
	if (n > 0)
	{
		values[0] = lr_int8_array(lead_ids, n);
		n = (int) lr_sql_kept(LR_PLAN_DONE_TASKS,
							  "SELECT t.run_id, t.lead_id, t.step_no::integer, t.output, t.error,"
							  " CASE WHEN t.history IS NOT NULL OR p.fallback_queue_id = t.queue_id THEN jsonb_strip_nulls(jsonb_build_object('by', a.name || '@' || a.version,"
							  " 'fallback', CASE WHEN p.fallback_queue_id = t.queue_id THEN 'agent' END, 'attempts', t.history)) END"
							  " FROM leadroute.tasks t LEFT JOIN leadroute.policy_steps p ON p.policy_version_id = t.policy_version_id AND p.step_no = t.step_no"
							  " LEFT JOIN leadroute.task_queues k ON k.queue_id = t.queue_id LEFT JOIN leadroute.agents a ON a.agent_id = k.agent_id"
							  " WHERE t.state = 'd' AND t.lead_id = ANY ($1) ORDER BY t.run_id, t.step_no FOR UPDATE OF t", 1, lead_types, values, NULL);
	}
	MemoryContextSwitchTo(memory);
	items = read_tasks(n);
	/* how it was done, as far as there is something to say */
	for (int i = 0; i < n; i++)
	{
		items[i].detail = lr_sql_text(i, 6);
		items[i].detail_length = items[i].detail ? (int) strlen(items[i].detail) : 0;
	}
	lr_sql_end(&identity);
	if (n == 0)
		return 0;
	take_turn(items, n, true);
	/* those that failed are not results yet; they come last, since a run that ends with one does not take what others gave any more */
	failures = palloc(sizeof(LrContinuation) * n);
	for (int i = 0; i < n; i++)
	{
		if (items[i].failed)
			failures[nfailures++] = items[i];
		else
			items[i - nfailures] = items[i];
	}
	(void) lr_runs_continue(items, n - nfailures, &(LrGoingOn) {0});
	return remove_tasks(items, n - nfailures) + report_failed(failures, nfailures);
}

static int
take_tasks(int max, LrContinuation **items)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(max)};
	int			n;

	lr_sql_begin(&identity);
	n = (int) lr_sql_kept(LR_PLAN_LOCK_WORK, "SELECT run_id, lead_id, step_no::integer, NULL::jsonb, NULL::text, fallback, history, attempt, policy_version_id FROM leadroute.lock_work($1)", 1, types, values, NULL);
	MemoryContextSwitchTo(memory);
	*items = read_tasks(n);
	for (int i = 0; i < n; i++)
	{
		bool		isnull;

		(*items)[i].execute = true;
		(*items)[i].by_fallback = DatumGetBool(lr_sql_datum(i, 6, &isnull));
		(*items)[i].history = lr_sql_text(i, 7);
		(*items)[i].attempts_before = lr_sql_int32(i, 8, 1) - 1;
		(*items)[i].policy_version_id = lr_sql_int32(i, 9, 0);
	}
	lr_sql_end(&identity);
	return n;
}

/* Reads a result of tasks, in the current memory context. */
static LrContinuation *
read_tasks(int n)
{
	LrContinuation *items = palloc0(sizeof(LrContinuation) * Max(n, 1));

	for (int i = 0; i < n; i++)
	{
		bool		isnull;
		Datum		output = lr_sql_datum(i, 4, &isnull);
		const char *error = lr_sql_text(i, 5);

		items[i] = (LrContinuation) {.run_id = lr_sql_int64(i, 1, 0),.lead_id = lr_sql_int64(i, 2, 0),.step = lr_sql_int32(i, 3, 0) - 1};
		if (!isnull)
			items[i].output = datumCopy(output, false, -1);
		if (error && strlen(error) >= 5)
		{
			items[i].failed = true;
			items[i].sqlstate = MAKE_SQLSTATE(error[0], error[1], error[2], error[3], error[4]);
			items[i].place = error[5] == ' ' ? pstrdup(&error[6]) : NULL;
		}
	}
	return items;
}

/* Notes whose turn it is. */
static void
take_turn(const LrContinuation *items, int n, bool done)
{
	in_turn.nruns = 1;
	in_turn.run_id = items[0].run_id;
	in_turn.step_no = done ? 0 : items[0].step + 1;
	for (int i = 1; i < n; i++)
		in_turn.nruns += !done || items[i].run_id != items[i - 1].run_id;
}

/* Puts tasks that take long, as far as this process knows, behind the others; returns how many those are. */
static int
set_slow_apart(LrContinuation *items, int n)
{
	LrContinuation *slow = palloc(sizeof(LrContinuation) * n);
	LrPolicy   *policy = NULL;
	int			version_id = 0;
	int			nslow = 0;

	for (int i = 0; i < n; i++)
	{
		bool		unusable;

		if (items[i].policy_version_id != version_id)
		{
			if (policy)
				lr_policy_release(policy);
			version_id = items[i].policy_version_id;
			policy = lr_policy_try_hold(version_id, &unusable);
		}
		if (policy && items[i].step >= 0 && items[i].step < policy->nsteps && policy->steps[items[i].step].mean_duration > LR_SLOW_STEP)
			slow[nslow++] = items[i];
		else
			items[i - nslow] = items[i];
	}
	if (policy)
		lr_policy_release(policy);
	memcpy(&items[n - nslow], slow, sizeof(LrContinuation) * nslow);
	return nslow;
}

/* Does tasks while their runs are held, and goes on with these; returns how many came forward. */
static int
do_quick(LrContinuation *items, int n, LrExecution *execution)
{
	ListCell   *cell;
	int			done;

	(void) lr_runs_continue(items, n, &(LrGoingOn) {.skip_locked = true,.execution = execution});
	done = remove_tasks(items, n) + report_failed(items, n);
	foreach(cell, execution->failed)
		(void) report_failed(lfirst(cell), 1);
	return done;
}

static bool
is_slow_and_done(const LrContinuation *item)
{
	return item->slow && item->taken;
}

/*
 * Does tasks that take long while nobody's run is held, and keeps the results with them. Those whose lead has changed, or that nobody waits
 * for any more, are seen to behind that: their runs ask for them again.
 */
static int
do_slow(LrContinuation *items, int n, LrExecution *execution)
{
	LrIdentity	identity;
	Oid			types[] = {INT8ARRAYOID, INT4ARRAYOID, JSONBARRAYOID, TEXTARRAYOID};
	Datum		values[4];
	Columns		columns;
	int			nleft = 0;

	for (int i = 0; i < n; i++)
		items[i].slow = true;
	lr_runs_execute(items, n, execution);
	columns = columns_of(items, n, is_slow_and_done);
	if (columns.n > 0)
	{
		values[0] = lr_int8_array(columns.run_ids, columns.n);
		values[1] = lr_array(columns.step_nos, NULL, columns.n, INT4OID);
		values[2] = lr_array(columns.outputs, columns.no_output, columns.n, JSONBOID);
		values[3] = lr_array(columns.errors, columns.no_error, columns.n, TEXTOID);
		lr_sql_begin(&identity);
		lr_sql_kept(LR_PLAN_STORE_DONE,
					"UPDATE leadroute.tasks t SET state = 'd', wake_at = NULL, attempt = t.attempt + 1, output = x.output, error = x.error FROM unnest($1, $2, $3, $4) AS x (run_id, step_no, output, error)"
					" WHERE t.run_id = x.run_id AND t.step_no = x.step_no", 4, types, values, NULL);
		lr_sql_end(&identity);
	}
	for (int i = 0; i < n; i++)
	{
		if (!items[i].taken)
			items[nleft++] = items[i];
	}
	for (int i = 0; i < nleft; i++)
		items[i].slow = false;
	return columns.n + (nleft > 0 ? do_quick(items, nleft, execution) : 0);
}

static bool
is_taken(const LrContinuation *item)
{
	return item->taken && !item->failed;
}

/* Removes the tasks whose results are on record, or wanted by nobody; returns how many. */
static int
remove_tasks(const LrContinuation *items, int n)
{
	LrTaskRows *rows = NULL;
	int			nremoved = 0;

	for (int i = 0; i < n; i++)
	{
		LrTaskRow	row;

		if (!is_taken(&items[i]))
			continue;
		nremoved++;
		if (rows == NULL)
		{
			CommandCounterIncrement();
			rows = lr_task_rows_open();
		}
		/* nobody else changes what this transaction has locked */
		if (lr_task_row_find(rows, items[i].run_id, items[i].step + 1, &row))
			(void) lr_task_row_delete(rows, &row);
	}
	if (rows)
		lr_task_rows_close(rows);
	return nremoved;
}

static bool
has_failed(const LrContinuation *item)
{
	return item->failed && !item->slow;
}

/* Tells the circuit breakers who succeeded, and who failed after that. */
static void
tell_breakers(const LrExecution *execution)
{
	LrIdentity	identity;
	Oid			types[] = {INT4ARRAYOID, TEXTARRAYOID};
	Datum		values[2];
	Datum	   *succeeded;
	Datum	   *failed;
	Datum	   *errors;
	int			nsucceeded = 0;
	int			nfailed = 0;
	bool		isnull;

	for (int i = 0; i < execution->nagents; i++)
	{
		nsucceeded += execution->agents[i].succeeded;
		nfailed += execution->agents[i].failed;
	}
	succeeded = palloc(sizeof(Datum) * Max(nsucceeded, 1));
	failed = palloc(sizeof(Datum) * Max(nfailed, 1));
	errors = palloc(sizeof(Datum) * Max(nfailed, 1));
	nsucceeded = nfailed = 0;
	for (int i = 0; i < execution->nagents; i++)
	{
		for (int k = 0; k < execution->agents[i].succeeded; k++)
			succeeded[nsucceeded++] = Int32GetDatum(execution->agents[i].agent_id);
		for (int k = 0; k < execution->agents[i].failed; k++)
		{
			failed[nfailed] = Int32GetDatum(execution->agents[i].agent_id);
			errors[nfailed++] = CStringGetTextDatum(unpack_sql_state(execution->agents[i].sqlstate));
		}
	}
	values[0] = lr_array(succeeded, NULL, nsucceeded, INT4OID);
	lr_sql_begin(&identity);
	if (nsucceeded > 0)
		lr_sql_kept(LR_PLAN_SUCCEEDED, "SELECT leadroute.agents_succeeded($1)", 1, types, values, NULL);
	values[0] = lr_array(failed, NULL, nfailed, INT4OID);
	values[1] = lr_array(errors, NULL, nfailed, TEXTOID);
	if (nfailed > 0)
	{
		lr_sql_kept(LR_PLAN_FAILED, "SELECT leadroute.agents_failed($1, $2)", 2, types, values, NULL);
		/* there are fallbacks to be taken */
		if (DatumGetBool(lr_sql_datum(0, 1, &isnull)))
			lr_workers_notice(LR_NOTICE_TIMERS);
	}
	lr_sql_end(&identity);
}

/* Reports attempts that failed; returns how many. Circuit breakers are told of all at once: tell_breakers(). */
static int
report_failed(const LrContinuation *items, int n)
{
	LrIdentity	identity;
	Oid			types[] = {INT8ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, BOOLARRAYOID};
	Datum		values[4];
	Columns		columns = columns_of(items, n, has_failed);

	if (columns.n == 0)
		return 0;
	values[0] = lr_int8_array(columns.run_ids, columns.n);
	values[1] = lr_array(columns.step_nos, NULL, columns.n, INT4OID);
	values[2] = lr_array(columns.errors, NULL, columns.n, TEXTOID);
	values[3] = lr_array(columns.retryable, NULL, columns.n, BOOLOID);
	lr_sql_begin(&identity);
	lr_sql_kept(LR_PLAN_TASKS_FAILED, "SELECT leadroute.task_attempts_failed($1, $2, $3, $4, array_fill(false, ARRAY[cardinality($1)]))", 4, types, values, NULL);
	lr_sql_end(&identity);
	return columns.n;
}

/* An agent that is retired, or not what was registered, will not come right by itself. */
static bool
is_worth_retrying(int sqlstate)
{
	return sqlstate != ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
}

static Columns
columns_of(const LrContinuation *items, int n, Choose choose)
{
	Columns		c = {.run_ids = palloc(sizeof(int64) * n),.step_nos = palloc(sizeof(Datum) * n),.outputs = palloc(sizeof(Datum) * n),.errors = palloc(sizeof(Datum) * n),
	.retryable = palloc(sizeof(Datum) * n),.no_output = palloc(sizeof(bool) * n),.no_error = palloc(sizeof(bool) * n)};

	for (int i = 0; i < n; i++)
	{
		const LrContinuation *item = &items[i];
		const char *state = unpack_sql_state(item->sqlstate);

		if (!choose(item))
			continue;
		c.run_ids[c.n] = item->run_id;
		c.step_nos[c.n] = Int32GetDatum(item->step + 1);
		c.outputs[c.n] = item->output;
		c.no_output[c.n] = item->failed || item->output == (Datum) 0;
		c.no_error[c.n] = !item->failed;
		c.errors[c.n] = item->failed ? CStringGetTextDatum(item->place ? psprintf("%s %s", state, item->place) : state) : (Datum) 0;
		c.retryable[c.n++] = BoolGetDatum(is_worth_retrying(item->sqlstate));
	}
	return c;
}

/* ---- errors that end the transaction ---- */

/*
 * Notes whose function runs from here on, and limits how long it may, in microseconds; 0: any time. A session that has a limit of its own
 * keeps that.
 */
void
lr_work_enter(int64 run_id, int step_no, int attempts_before, int64 limit)
{
	in_hand.run_id = run_id;
	in_hand.step_no = step_no;
	in_hand.attempts_before = attempts_before;
	in_hand.timed_out = false;
	in_hand.limited = limit > 0 && !get_timeout_active(STATEMENT_TIMEOUT);
	if (in_hand.limited)
		enable_timeout_after(STATEMENT_TIMEOUT, (int) Min(Max(limit / 1000, 1), PG_INT32_MAX));
}

void
lr_work_leave(void)
{
	in_hand.run_id = 0;
	if (!in_hand.limited)
		return;
	in_hand.limited = false;
	/* it made it, if only just */
	if (get_timeout_indicator(STATEMENT_TIMEOUT, false))
		QueryCancelPending = false;
	disable_timeout(STATEMENT_TIMEOUT, false);
}

/* Tells whether an error may come with the task, or its lead; others are the session's, the server's, or of two that met. */
static bool
is_of_the_task(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_TO_CATEGORY(ERRCODE_CONNECTION_EXCEPTION):
		case ERRCODE_TO_CATEGORY(ERRCODE_INVALID_TRANSACTION_STATE):
		case ERRCODE_TO_CATEGORY(ERRCODE_TRANSACTION_ROLLBACK):
		case ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES):
		case ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION):
		case ERRCODE_TO_CATEGORY(ERRCODE_SYSTEM_ERROR):
			return false;
		default:
			return true;
	}
}

/*
 * Tells whether it was a task's function that ended the transaction, or subtransaction, with an error that is not the session's
 * own affair; or that it was what came before or behind a function, which may be one task's fault, or its lead's. Then
 * lr_work_report_failed() is to be called in the next.
 */
bool
lr_work_failed(int sqlstate)
{
	careful = true;
	if (in_hand.run_id == 0)
	{
		in_turn.sqlstate = is_of_the_task(sqlstate) ? sqlstate : 0;
		return in_turn.nruns > 0 && in_turn.sqlstate != 0;
	}
	in_hand.sqlstate = sqlstate;
	in_hand.timed_out = in_hand.limited && sqlstate == ERRCODE_QUERY_CANCELED && !get_timeout_active(STATEMENT_TIMEOUT);
	if (in_hand.limited)
		disable_timeout(STATEMENT_TIMEOUT, false);
	in_hand.limited = false;
	return sqlstate != ERRCODE_QUERY_CANCELED || in_hand.timed_out;
}

/* Reports that the attempt failed in which the last transaction ended. A task that was made in that transaction is not there, and nothing is reported. */
void
lr_work_report_failed(void)
{
	int			sqlstate = in_hand.timed_out ? MAKE_SQLSTATE('L', 'R', '0', '1', '1') : in_hand.sqlstate;
	LrIdentity	identity;
	Oid			types[] = {INT8OID, INT4OID, INT4OID, TEXTOID, BOOLOID};
	Datum		values[5];

	if (in_hand.run_id == 0)
	{
		/* of several the next transaction finds out which */
		if (in_turn.nruns == 1 && in_turn.sqlstate != 0)
			put_off();
		in_turn.nruns = 0;
		return;
	}
	values[0] = Int64GetDatum(in_hand.run_id);
	values[1] = Int32GetDatum(in_hand.step_no);
	values[2] = Int32GetDatum(in_hand.attempts_before);
	values[3] = CStringGetTextDatum(psprintf("%s%s", unpack_sql_state(sqlstate), in_hand.timed_out ? " start_to_close" : ""));
	values[4] = BoolGetDatum(is_worth_retrying(sqlstate));
	in_hand.run_id = 0;
	lr_sql_begin(&identity);
	lr_sql_kept(LR_PLAN_TASK_ABORTED, "SELECT leadroute.task_attempt_aborted($1, $2, $3, $4, $5)", 5, types, values, NULL);
	lr_sql_end(&identity);
}

/* Puts off a task that cannot go on, by no fault of a function's, so that others come to their turn. Its history says why. */
static void
put_off(void)
{
	LrIdentity	identity;
	Oid			types[] = {INT8OID, INT4OID, TEXTOID};
	Datum		values[] = {Int64GetDatum(in_turn.run_id), Int32GetDatum(in_turn.step_no), CStringGetTextDatum(unpack_sql_state(in_turn.sqlstate))};

	lr_sql_begin(&identity);
	lr_sql_kept(LR_PLAN_PUT_OFF, "SELECT leadroute.put_off_task($1, $2, $3)", 3, types, values, NULL);
	lr_sql_end(&identity);
}
