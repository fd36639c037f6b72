/*
 * complete.c: agents outside give back tasks that are done.
 *
 * Leases are fenced: a task is given back with the token of its claim, or nothing happens. As everybody does it, the states of the leads
 * are locked first, in their order, and only then the tasks are looked at for good. Each is deleted, and its run goes on with the result,
 * in this transaction. Those who come too late are told so, and why.
 */
#include "workers/workers.h"

#include "agents/agents.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "pipeline/going_on.h"
#include "policy/policy.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "workers/task_rows.h"

PG_FUNCTION_INFO_V1(leadroute_complete_tasks);

/* Who gives back so many tasks at a time will do so again. */
#define MANY 100

/* A task that somebody gives back. */
typedef struct Given
{
	char	   *task;
	int64		run_id;
	int			step_no;
	int64		token;
	Datum		output;
	Datum		confidence;
	bool		no_confidence;
	Datum		model;			/* text; 0 for null */
	Datum		telemetry;		/* jsonb; 0 for null */
	LrTaskRow	row;
	bool		held;			/* with this token */
} Given;

/* An agent whose tasks are given back. */
typedef struct Giver
{
	char	   *name;			/* name@version */
	int			agent_id;		/* 0: it is in the registry no longer */
	bool		keeps_state;
	int			ntasks;			/* that are given back */
} Giver;

static Given *read_results(FunctionCallInfo fcinfo, int *n);
static Datum *elements_of(FunctionCallInfo fcinfo, int argument, Oid type, int n, bool **nulls);
static void read_task(Given *result);
static void check(FunctionCallInfo fcinfo);
static void find_held(Given *results, int n, LrLocked *locked);
static int	compare_leads(const void *a, const void *b);
static int64 go_on(Given *results, int n, LrLocked *locked, List **givers);
static Giver *giver_of(List **givers, const char *holder);
static bool by_fallback(const LrTaskRow *row, int step_no);
static char *detail_of(const Given *result, const Giver *giver);
static void tell_breakers(List *givers);
static void put_refused(FunctionCallInfo fcinfo, const Given *results, int n);

/* Gives back tasks that are done; see the SQL comment. */
Datum
leadroute_complete_tasks(PG_FUNCTION_ARGS)
{
	int			n;
	Given	   *results;
	List	   *givers = NIL;
	LrLocked	locked = {0};

	InitMaterializedSRF(fcinfo, 0);
	results = read_results(fcinfo, &n);
	if (n == 0)
		return (Datum) 0;
	check(fcinfo);
	if (n >= MANY)
		lr_keep_memory();
	find_held(results, n, &locked);
	if (go_on(results, n, &locked, &givers) > 0)
		tell_breakers(givers);
	put_refused(fcinfo, results, n);
	return (Datum) 0;
}

/* ---- what is given back ---- */

static void
refuse(const char *message, const char *hint)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("%s", message),
			errhint("%s", hint));
}

static Given *
read_results(FunctionCallInfo fcinfo, int *n)
{
	Datum	   *tasks;
	Datum	   *tokens;
	Datum	   *outputs;
	Datum	   *confidences;
	Datum	   *models;
	Datum	   *telemetry;
	bool	   *no_task;
	bool	   *no_token;
	bool	   *no_output;
	bool	   *no_confidence;
	bool	   *no_model;
	bool	   *no_telemetry;
	Given	   *results;

	*n = PG_ARGISNULL(0) ? 0 : ArrayGetNItems(ARR_NDIM(PG_GETARG_ARRAYTYPE_P(0)), ARR_DIMS(PG_GETARG_ARRAYTYPE_P(0)));
	tasks = elements_of(fcinfo, 0, TEXTOID, *n, &no_task);
	tokens = elements_of(fcinfo, 1, INT8OID, *n, &no_token);
	if (tasks == NULL || tokens == NULL)
		refuse("as many tokens as tasks are needed", "Give back each task with the token that claim_tasks() gave with it.");
	outputs = elements_of(fcinfo, 2, JSONBOID, *n, &no_output);
	confidences = elements_of(fcinfo, 3, FLOAT4OID, *n, &no_confidence);
	models = elements_of(fcinfo, 4, TEXTOID, *n, &no_model);
	telemetry = elements_of(fcinfo, 5, JSONBOID, *n, &no_telemetry);
	if (outputs == NULL || (confidences == NULL && !PG_ARGISNULL(3)) || (models == NULL && !PG_ARGISNULL(4)) || (telemetry == NULL && !PG_ARGISNULL(5)))
		refuse("as many results as tasks are needed", "Give an output for each task; the other arrays may be null.");
	results = palloc0(sizeof(Given) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		Given	   *result = &results[i];

		result->task = no_task[i] ? "" : TextDatumGetCString(tasks[i]);
		read_task(result);
		result->token = no_token[i] ? 0 : DatumGetInt64(tokens[i]);
		if (no_output[i] || !JB_ROOT_IS_OBJECT(DatumGetJsonbP(outputs[i])))
			refuse("an output is no object", "Give an object, such as {\"mark\": 2}.");
		if (!lr_output_is_flat(outputs[i]))
			refuse("an output is nested too deeply", "Give 100 levels of objects and arrays at most.");
		result->output = outputs[i];
		result->no_confidence = confidences == NULL || no_confidence[i];
		result->confidence = result->no_confidence ? (Datum) 0 : confidences[i];
		result->model = models && !no_model[i] ? models[i] : (Datum) 0;
		result->telemetry = telemetry && !no_telemetry[i] ? telemetry[i] : (Datum) 0;
	}
	return results;
}

/* Returns the elements of an array argument; NULL if it is null, or has not n of them. */
static Datum *
elements_of(FunctionCallInfo fcinfo, int argument, Oid type, int n, bool **nulls)
{
	Datum	   *elements;
	int			found;
	bool		wide = type == INT8OID;

	if (PG_ARGISNULL(argument))
		return NULL;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(argument), type, wide ? 8 : type == FLOAT4OID ? 4 : -1, wide || type == FLOAT4OID,
					  wide ? TYPALIGN_DOUBLE : TYPALIGN_INT, &elements, nulls, &found);
	return found == n ? elements : NULL;
}

/* Reads run and step of a task's id, such as 4711/3. */
static void
read_task(Given *result)
{
	const char *at = result->task;
	int			digits = 0;

	for (; *at >= '0' && *at <= '9' && digits < 16; at++, digits++)
		result->run_id = result->run_id * 10 + (*at - '0');
	if (digits > 0 && *at == '/')
	{
		digits = 0;
		for (at++; *at >= '0' && *at <= '9' && digits < 4; at++, digits++)
			result->step_no = result->step_no * 10 + (*at - '0');
	}
	if (digits == 0 || *at != '\0' || strchr(result->task, '/') == NULL)
		refuse("what was given is no task", "Give the id that claim_tasks() gave, such as 4711/3.");
}

/* Checks what few give back; raises 22023. */
static void
check(FunctionCallInfo fcinfo)
{
	LrIdentity	identity;
	Oid			types[] = {JSONBARRAYOID, FLOAT4ARRAYOID, TEXTARRAYOID, JSONBARRAYOID};
	Datum		values[4];
	char		nulls[4];

	if (PG_ARGISNULL(3) && PG_ARGISNULL(4) && PG_ARGISNULL(5))
		return;
	for (int i = 0; i < 4; i++)
	{
		values[i] = PG_GETARG_DATUM(2 + i);
		nulls[i] = PG_ARGISNULL(2 + i) ? 'n' : ' ';
	}
	lr_sql_begin(&identity);
	lr_sql_kept(LR_PLAN_CHECK_RESULTS, "SELECT leadroute.check_results($1, $2, $3, $4)", 4, types, values, nulls);
	lr_sql_end(&identity);
}

/* ---- giving back ---- */

static int
compare_results(const void *a, const void *b)
{
	const Given *one = *(Given *const *) a;
	const Given *other = *(Given *const *) b;

	if (one->run_id != other->run_id)
		return one->run_id < other->run_id ? -1 : 1;
	return one->step_no < other->step_no ? -1 : one->step_no > other->step_no;
}

static int
compare_leads(const void *a, const void *b)
{
	int64		one = *(const int64 *) a;
	int64		other = *(const int64 *) b;

	return one < other ? -1 : one > other;
}

/* Finds the tasks that are held with their tokens, locks the states of their leads, and deletes those that are still held then. */
static void
find_held(Given *results, int n, LrLocked *locked)
{
	Given	  **order = palloc(sizeof(Given *) * n);
	int64	   *lead_ids = palloc(sizeof(int64) * n);
	int			nleads = 0;
	int			ndistinct = 0;
	LrTaskRows *rows;

	for (int i = 0; i < n; i++)
		order[i] = &results[i];
	qsort(order, n, sizeof(Given *), compare_results);
	for (int i = 1; i < n; i++)
	{
		if (compare_results(&order[i - 1], &order[i]) == 0)
			refuse("a task was given twice", "Give each task once.");
	}
	LockRelationOid(lr_catalog()->tables[LR_TABLE_LEAD_STATES], RowExclusiveLock);
	rows = lr_task_rows_open();
	for (int i = 0; i < n; i++)
	{
		if (lr_task_row_find(rows, order[i]->run_id, order[i]->step_no, &order[i]->row) && order[i]->row.token == order[i]->token)
			lead_ids[nleads++] = order[i]->row.lead_id;
	}
	lr_task_rows_close(rows);
	if (nleads == 0)
		return;
	qsort(lead_ids, nleads, sizeof(int64), compare_leads);
	for (int i = 0; i < nleads; i++)
	{
		if (i == 0 || lead_ids[i] != lead_ids[i - 1])
			lead_ids[ndistinct++] = lead_ids[i];
	}
	locked->waiting = lr_waiting_lock(lead_ids, &ndistinct, false, &locked->nwaiting);
	locked->lead_ids = lead_ids;
	locked->nleads = ndistinct;
	rows = lr_task_rows_open();
	for (int i = 0; i < n; i++)
	{
		Given	   *result = order[i];

		/* a holder's heartbeat may move the row while we look */
		for (;;)
		{
			if (!lr_task_row_find(rows, result->run_id, result->step_no, &result->row) || result->row.token != result->token || result->token == 0 ||
				result->row.state != 'c')
				break;
			result->held = lr_task_row_delete(rows, &result->row);
			if (result->held)
				break;
			lr_task_rows_close(rows);
			rows = lr_task_rows_open();
		}
	}
	lr_task_rows_close(rows);
}

/* Has the runs go on whose tasks were held; returns how many there were. */
static int64
go_on(Given *results, int n, LrLocked *locked, List **givers)
{
	LrContinuation *items = palloc0(sizeof(LrContinuation) * n);
	int			nheld = 0;

	for (int i = 0; i < n; i++)
	{
		Given	   *result = &results[i];
		LrContinuation *item = &items[nheld];
		Giver	   *giver;

		if (!result->held)
			continue;
		item->run_id = result->run_id;
		item->lead_id = result->row.lead_id;
		item->step = result->step_no - 1;
		item->output = result->output;
		if (!result->no_confidence)
		{
			char	   *member = psprintf("{\"confidence\": %s}", DatumGetCString(DirectFunctionCall1(float4out, result->confidence)));

			item->output = DirectFunctionCall2(jsonb_concat, result->output, DirectFunctionCall1(jsonb_in, CStringGetDatum(member)));
		}
		giver = giver_of(givers, result->row.holder);
		giver->ntasks++;
		item->detail = detail_of(result, giver);
		item->detail_length = (int) strlen(item->detail);
		nheld++;
	}
	if (nheld > 0)
		(void) lr_runs_continue(items, nheld, &(LrGoingOn) {.locked = locked});
	return nheld;
}

/* Finds an agent by who holds a task: name@version, and behind a slash whatever it calls itself. */
static Giver *
giver_of(List **givers, const char *holder)
{
	int			length = holder ? (int) strcspn(holder, "/") : 0;
	MemoryContext memory = CurrentMemoryContext;
	Giver	   *giver;
	LrIdentity	identity;
	Oid			types[] = {TEXTOID};
	Datum		values[1];
	ListCell   *cell;

	foreach(cell, *givers)
	{
		giver = lfirst(cell);
		if ((int) strlen(giver->name) == length && strncmp(giver->name, holder, length) == 0)
			return giver;
	}
	giver = palloc0(sizeof(Giver));
	giver->name = pnstrdup(holder ? holder : "", length);
	values[0] = CStringGetTextDatum(giver->name);
	lr_sql_begin(&identity);
	if (lr_sql_kept(LR_PLAN_GIVER, "SELECT agent_id, keeps_state FROM leadroute.agents WHERE kind = 'external' AND name || '@' || version = $1", 1, types, values, NULL) > 0)
	{
		bool		isnull;

		giver->agent_id = lr_sql_int32(0, 1, 0);
		giver->keeps_state = DatumGetBool(lr_sql_datum(0, 2, &isnull));
	}
	lr_sql_end(&identity);
	MemoryContextSwitchTo(memory);
	*givers = lappend(*givers, giver);
	return giver;
}

/* Tells whether it was the fallback agent's task. */
static bool
by_fallback(const LrTaskRow *row, int step_no)
{
	LrPolicy   *policy = lr_policy_hold_to_read(row->policy_version_id);
	bool		found = false;

	if (step_no >= 1 && step_no <= policy->nsteps && policy->steps[step_no - 1].fallback == LR_FALLBACK_AGENT)
	{
		lr_policy_queues(policy);
		found = policy->steps[step_no - 1].fallback_queue_id == row->queue_id;
	}
	lr_policy_release(policy);
	return found;
}

/* Makes what is kept with the step: who did it, by which model, after which attempts. */
static char *
detail_of(const Given *result, const Giver *giver)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"by\": ");
	escape_json(&json, giver->name);
	if (result->model)
	{
		appendStringInfoString(&json, ", \"model\": ");
		escape_json(&json, TextDatumGetCString(result->model));
	}
	if (result->row.history)
	{
		appendStringInfoString(&json, ", \"attempts\": ");
		(void) JsonbToCString(&json, &DatumGetJsonbP(result->row.history)->root, 0);
	}
	if (by_fallback(&result->row, result->step_no))
		appendStringInfoString(&json, ", \"fallback\": \"agent\"");
	if (result->telemetry)
	{
		appendStringInfoString(&json, ", \"telemetry\": ");
		(void) JsonbToCString(&json, &DatumGetJsonbP(result->telemetry)->root, 0);
	}
	if (giver->keeps_state && !result->model)
		appendStringInfoString(&json, ", \"recomputable\": false");
	appendStringInfoChar(&json, '}');
	return json.data;
}

static void
tell_breakers(List *givers)
{
	LrIdentity	identity;
	Oid			types[] = {INT4ARRAYOID};
	Datum		values[1];
	Datum	   *agents;
	int			n = 0;
	ListCell   *cell;

	foreach(cell, givers)
		n += ((const Giver *) lfirst(cell))->ntasks;
	agents = palloc(sizeof(Datum) * n);
	n = 0;
	foreach(cell, givers)
	{
		const Giver *giver = lfirst(cell);

		for (int i = 0; giver->agent_id && i < giver->ntasks; i++)
			agents[n++] = Int32GetDatum(giver->agent_id);
	}
	values[0] = lr_array(agents, NULL, n, INT4OID);
	lr_sql_begin(&identity);
	lr_sql_kept(LR_PLAN_SUCCEEDED, "SELECT leadroute.agents_succeeded($1)", 1, types, values, NULL);
	lr_sql_end(&identity);
}

/* Lists the tasks that were not held, and why. */
static void
put_refused(FunctionCallInfo fcinfo, const Given *results, int n)
{
	ReturnSetInfo *set = (ReturnSetInfo *) fcinfo->resultinfo;

	for (int i = 0; i < n; i++)
	{
		LrIdentity	identity;
		Oid			types[] = {INT8OID, INT4OID};
		Datum		arguments[] = {Int64GetDatum(results[i].run_id), Int32GetDatum(results[i].step_no)};
		Datum		values[2];
		bool		nulls[2] = {false};

		if (results[i].held)
			continue;
		values[0] = CStringGetTextDatum(results[i].task);
		lr_sql_begin(&identity);
		lr_sql_kept(LR_PLAN_WHY_REFUSED, "SELECT leadroute.why_refused($1, $2)", 2, types, arguments, NULL);
		values[1] = lr_sql_datum(0, 1, &nulls[1]);
		tuplestore_putvalues(set->setResult, set->setDesc, values, nulls);
		lr_sql_end(&identity);
	}
}
