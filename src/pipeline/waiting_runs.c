/*
 * waiting_runs.c: runs that wait: finding them, and what is done with them as they are.
 *
 * A run that waits is the state of its lead and its last entry, which has all that was done so far. With the lead's row as it is now it is
 * a run again. Some look at it only: who reads what an agent is to be given, and an executor that does a step which takes long.
 */
#include "pipeline/going_on.h"

#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "agents/agents.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/jsonb.h"

PG_FUNCTION_INFO_V1(leadroute_read_task_inputs);

#define WAITING_RUNS \
	"SELECT s.lead_id, s.run_id, s.source_id, e.policy_version_id, e.entry_no, e.supersedes, e.cause, e.mode, e.trial_id, e.note, e.routed_by::oid, e.key_id," \
	" e.evidence, s.reason_code, CASE WHEN s.reason_code = 'overflow' THEN s.pool_id END, s.since" \
	" FROM leadroute.lead_states s CROSS JOIN LATERAL (SELECT * FROM leadroute.entries x WHERE x.run_id = s.run_id AND x.as_of >= s.since" \
	"  ORDER BY x.entry_no DESC LIMIT 1) e" \
	" WHERE s.lead_id = ANY ($1) AND s.outcome = 'pending' AND s.reason_code = ANY ('{waiting,review,paused,overflow}')" \
	" AND s.closed_at IS NULL AND s.finished_at IS NULL" \
	" ORDER BY s.source_id, e.policy_version_id, e.mode, e.cause, e.routed_by, e.trial_id, e.note, s.lead_id"

static void find_changed(LrRun *run);
static LrAgent *plain_only(const LrAgent *agent, const LrSource *source);
static void ask_for(LrStep *step, LrAgent *agent);

/* Reads the runs that wait of some leads, those of one batch after the other. */
LrWaiting *
lr_waiting_find(const int64 *lead_ids, int n, int *nfound)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {INT8ARRAYOID};
	Datum		values[] = {lr_int8_array(lead_ids, n)};
	MemoryContext saved;
	LrWaiting    *waiting;
	bool		isnull;

	lr_sql_begin(&identity);
	*nfound = n == 0 ? 0 : (int) lr_sql_kept(LR_PLAN_WAITING_RUNS, WAITING_RUNS, 1, types, values, NULL);
	saved = MemoryContextSwitchTo(memory);
	waiting = palloc0(sizeof(LrWaiting) * Max(*nfound, 1));
	for (int i = 0; i < *nfound; i++)
	{
		LrWaiting    *w = &waiting[i];
		Datum		since;

		w->lead_id = lr_sql_int64(i, 1, 0);
		w->run_id = lr_sql_int64(i, 2, 0);
		w->source_id = lr_sql_int32(i, 3, 0);
		w->policy_version_id = lr_sql_int32(i, 4, 0);
		w->entry_no = DatumGetInt16(lr_sql_datum(i, 5, &isnull));
		w->supersedes = lr_sql_int64(i, 6, 0);
		w->cause = DatumGetChar(lr_sql_datum(i, 7, &isnull));
		w->mode = DatumGetChar(lr_sql_datum(i, 8, &isnull));
		w->trial_id = lr_sql_int32(i, 9, 0);
		w->note = lr_sql_text(i, 10);
		w->routed_by = DatumGetObjectId(lr_sql_datum(i, 11, &isnull));
		w->key_id = lr_sql_int32(i, 12, 0);
		w->evidence = DatumGetByteaPCopy(lr_sql_datum(i, 13, &isnull));
		w->reason = lr_sql_text(i, 14);
		w->overflow_pool_id = lr_sql_int32(i, 15, 0);
		since = lr_sql_datum(i, 16, &isnull);
		w->since = DatumGetTimestampTz(since);
	}
	MemoryContextSwitchTo(saved);
	lr_sql_end(&identity);
	return waiting;
}

/* What lr_waiting_fetch() fetches. */
typedef struct Fetching
{
	const LrSource *source;
	const int64 *lead_ids;
	int			n;
	HeapTuple  *rows;
} Fetching;

static void
fetch(void *argument)
{
	Fetching   *fetching = argument;

	if (!lr_waiting_rows(fetching->source, fetching->lead_ids, fetching->n, fetching->rows))
		lr_leads_fetch(fetching->source, fetching->lead_ids, fetching->n, fetching->rows);
}

/*
 * Fetches the leads' rows as they are now. False, and no rows, if the table cannot be read, such as where its owner has lost a right: that
 * is no affair of who goes on with leads of other tables, too.
 */
bool
lr_waiting_fetch(const LrSource *source, const int64 *lead_ids, int n, HeapTuple *rows)
{
	Fetching	fetching = {source, lead_ids, n, rows};
	int			sqlstate;

	if (lr_guard(fetch, &fetching, &sqlstate))
		return true;
	memset(rows, 0, sizeof(HeapTuple) * n);
	return false;
}

/* Gives each run that waits the items that are for it. Both are few, or in order: items by lead. */
void
lr_waiting_match(LrWaiting *waiting, int n, LrContinuation *items, int nitems)
{
	for (int i = 0; i < n; i++)
	{
		int			low = 0;
		int			high = nitems;

		while (low < high)
		{
			int			middle = (low + high) / 2;

			if (items[middle].lead_id < waiting[i].lead_id)
				low = middle + 1;
			else
				high = middle;
		}
		waiting[i].items = &items[low];
		while (low + waiting[i].nitems < nitems && items[low + waiting[i].nitems].lead_id == waiting[i].lead_id)
			waiting[i].nitems++;
	}
}

/* Orders results by lead, and those of a lead by step. */
int
lr_compare_continuations(const void *a, const void *b)
{
	const LrContinuation *one = a;
	const LrContinuation *other = b;

	if (one->lead_id != other->lead_id)
		return one->lead_id < other->lead_id ? -1 : 1;
	return one->step < other->step ? -1 : one->step > other->step;
}

/* Adds a run that waits to a batch: the lead as it is now, and what is on record. */
void
lr_waiting_add(LrBatch *batch, const LrWaiting *waiting, TupleTableSlot *slot, HeapTuple row)
{
	LrRun	   *run = lr_batch_add(batch);
	LrContinued *continued = palloc0(sizeof(LrContinued));
	int			open = 0;

	ExecStoreHeapTuple(row, slot, false);
	lr_lead_read(batch->source, slot, run);
	run->lead_id = waiting->lead_id;
	run->run_id = waiting->run_id;
	run->entry_no = waiting->entry_no;
	run->supersedes = waiting->supersedes;
	run->trial_id = waiting->trial_id;
	run->known = run->has_state = true;
	run->state_tid = waiting->locked ? &waiting->tid : NULL;
	run->responded_at = waiting->responded_at;
	run->waiting_pool_id = waiting->overflow_pool_id;
	run->waiting_since = waiting->overflow_pool_id ? waiting->since : 0;
	run->continued = continued;
	continued->waiting = waiting;
	continued->evidence = lr_evidence_read(VARDATA_ANY(waiting->evidence), VARSIZE_ANY_EXHDR(waiting->evidence), batch->policy);
	lr_evidence_restore_flags(continued->evidence, run);
	for (int s = 0; s < batch->policy->nsteps; s++)
		open += continued->evidence->steps[s].status == LR_STEP_WAITING;
	for (int i = 0; i < waiting->nitems; i++)
		open -= waiting->items[i].step >= 0;
	run->has_tasks = open > 0;
	find_changed(run);
}

/* Finds the attributes that are not what the last entry says. */
static void
find_changed(LrRun *run)
{
	LrContinued *continued = run->continued;

	for (int i = 0; i < LR_N_ATTRIBUTES; i++)
	{
		const LrEvidenceAttribute *before = &continued->evidence->attributes[i];
		unsigned char digest[LR_DIGEST_LENGTH];
		bool		same = before->known == !run->isnull[i];

		if (same && before->known && before->class == LR_CLASS_PLAIN)
			same = lr_same_value(lr_facts[i].type, before->value, run->values[i]);
		else if (same && before->known)
		{
			lr_fact_digest(continued->waiting->key_id, i, run->values[i], digest);
			same = memcmp(digest, before->digest, sizeof(digest)) == 0;
		}
		if (!same)
			continued->changed = bms_add_member(continued->changed, i);
	}
}

/* Tells whether two values of a fact's type are the same. */
bool
lr_same_value(Oid type, Datum a, Datum b)
{
	struct varlena *one;
	struct varlena *other;

	if (type == INT4OID || type == BOOLOID || type == TIMESTAMPTZOID)
		return type == INT4OID ? DatumGetInt32(a) == DatumGetInt32(b)
			: type == BOOLOID ? DatumGetBool(a) == DatumGetBool(b) : DatumGetTimestampTz(a) == DatumGetTimestampTz(b);
	one = PG_DETOAST_DATUM_PACKED(a);
	other = PG_DETOAST_DATUM_PACKED(b);
	return VARSIZE_ANY_EXHDR(one) == VARSIZE_ANY_EXHDR(other) && memcmp(VARDATA_ANY(one), VARDATA_ANY(other), VARSIZE_ANY_EXHDR(one)) == 0;
}

/* What is done for each of some runs that wait, one after the other, without a lock: as they are on record, on their leads as they are now. */
typedef void (*VisitRun) (LrRun *run, const LrWaiting *waiting, void *argument);

static void
visit_runs(LrContinuation *items, int n, VisitRun visit, void *argument)
{
	int64	   *lead_ids = palloc(sizeof(int64) * Max(n, 1));
	int			nleads = 0;
	LrWaiting    *waiting;
	int			nwaiting;

	qsort(items, n, sizeof(LrContinuation), lr_compare_continuations);
	for (int i = 0; i < n; i++)
	{
		if (i == 0 || items[i].lead_id != items[i - 1].lead_id)
			lead_ids[nleads++] = items[i].lead_id;
	}
	waiting = lr_waiting_find(lead_ids, nleads, &nwaiting);
	lr_waiting_match(waiting, nwaiting, items, n);
	for (int i = 0; i < nwaiting; i++)
	{
		LrSource   *source = lr_source_by_id(waiting[i].source_id);
		bool		unusable;
		LrPolicy   *policy = source ? lr_policy_try_hold(waiting[i].policy_version_id, &unusable) : NULL;
		HeapTuple	row = NULL;
		LrBatch		batch;
		MemoryContext saved;

		CHECK_FOR_INTERRUPTS();
		if (policy == NULL)
			continue;
		lr_batch_init(&batch, policy, source, GetCurrentTimestamp(), waiting[i].cause, waiting[i].routed_by);
		saved = MemoryContextSwitchTo(batch.memory);
		batch.continuing = true;
		(void) lr_waiting_fetch(source, &waiting[i].lead_id, 1, &row);
		if (row)
		{
			TupleTableSlot *slot = MakeSingleTupleTableSlot(source->desc, &TTSOpsHeapTuple);

			lr_waiting_add(&batch, &waiting[i], slot, row);
			for (int s = 0; s < policy->nsteps; s++)
			{
				const LrEvidenceStep *recorded = &batch.runs[0].continued->evidence->steps[s];

				if (recorded->status == LR_STEP_DONE)
					lr_restore_step(&batch.runs[0], &policy->steps[s], recorded);
			}
			visit(&batch.runs[0], &waiting[i], argument);
			ExecDropSingleTupleTableSlot(slot);
		}
		MemoryContextSwitchTo(saved);
		MemoryContextDelete(batch.memory);
		lr_policy_release(policy);
	}
}

/* Tells whether an item is about a step that a run waits for. */
static bool
is_wanted(const LrRun *run, const LrContinuation *item)
{
	return item->run_id == run->run_id && item->step >= 0 && item->step < run->batch->policy->nsteps &&
		run->continued->evidence->steps[item->step].status == LR_STEP_WAITING;
}

/* What leadroute_read_task_inputs() has in hand. */
typedef struct ReadingInputs
{
	ReturnSetInfo *result;
	LrAgent    *agent;			/* who asks: it may be another one than the policy version pinned, such as one that the step falls back to */
} ReadingInputs;

static void
put_inputs(LrRun *run, const LrWaiting *waiting, void *argument)
{
	ReadingInputs *reading = argument;
	ReturnSetInfo *result = reading->result;

	for (int i = 0; i < waiting->nitems; i++)
	{
		const LrContinuation *item = &waiting->items[i];
		Datum		values[3];
		bool		isnull[3] = {false};
		LrStep		step;

		if (!is_wanted(run, item))
			continue;
		step = run->batch->policy->steps[item->step];
		/* since it was asked for, the lead may have changed, and have to stay elsewhere */
		if (!lr_step_may_be_given(&step, run, reading->agent))
			continue;
		if (step.agent->agent_id == LR_AGENT_ANYBODY)
			ask_for(&step, plain_only(reading->agent, run->batch->source));
		else if (step.agent->agent_id != reading->agent->agent_id)
			ask_for(&step, reading->agent);
		values[0] = Int64GetDatum(item->run_id);
		values[1] = Int32GetDatum(item->step + 1);
		values[2] = JsonbPGetDatum(lr_agent_input(run, &step));
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
}

/* Returns an agent that nobody named, as a copy that declares what is plain only: no author of a policy has agreed that it sees more. */
static LrAgent *
plain_only(const LrAgent *agent, const LrSource *source)
{
	LrAgent    *copy = palloc(sizeof(LrAgent));
	ListCell   *cell;

	*copy = *agent;
	copy->inputs = NIL;
	foreach(cell, agent->inputs)
	{
		char	   *name = lfirst(cell);
		bool		plain = true;

		for (int i = 0; i < LR_N_ATTRIBUTES; i++)
		{
			if (strcmp(lr_facts[i].name, name) == 0)
				plain = source->classes[i] == LR_CLASS_PLAIN;
		}
		if (strncmp(name, "attributes.", strlen("attributes.")) == 0)
		{
			plain = source->classes[LR_ATTRIBUTES] == LR_CLASS_PLAIN;
			for (int i = 0; i < source->nplain_keys; i++)
				plain |= strcmp(source->plain_keys[i], name + strlen("attributes.")) == 0;
		}
		if (plain)
			copy->inputs = lappend(copy->inputs, name);
	}
	return copy;
}

/* Has a step, or rather a copy of it, be that of another agent, with the inputs that this one declared. */
static void
ask_for(LrStep *step, LrAgent *agent)
{
	ListCell   *cell;

	step->agent = agent;
	step->keys = NIL;
	step->reads_all_keys = false;
	foreach(cell, agent->inputs)
	{
		char	   *name = lfirst(cell);

		if (strncmp(name, "attributes.", strlen("attributes.")) == 0)
			step->keys = lappend(step->keys, name + strlen("attributes."));
		else if (strcmp(name, lr_facts[LR_ATTRIBUTES].name) == 0)
			step->reads_all_keys = true;
	}
}

/* Reads what an agent is given for tasks; see the SQL comment. */
Datum
leadroute_read_task_inputs(PG_FUNCTION_ARGS)
{
	Datum	   *columns[3];
	bool	   *nulls;
	int			n;
	LrContinuation *items;
	ReadingInputs reading = {(ReturnSetInfo *) fcinfo->resultinfo, lr_agent_load(PG_GETARG_INT32(3))};

	InitMaterializedSRF(fcinfo, 0);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), INT8OID, 8, true, TYPALIGN_DOUBLE, &columns[0], &nulls, &n);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), INT8OID, 8, true, TYPALIGN_DOUBLE, &columns[1], &nulls, &n);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), INT4OID, 4, true, TYPALIGN_INT, &columns[2], &nulls, &n);
	items = palloc0(sizeof(LrContinuation) * Max(n, 1));
	for (int i = 0; i < n; i++)
		items[i] = (LrContinuation) {.run_id = DatumGetInt64(columns[0][i]),.lead_id = DatumGetInt64(columns[1][i]),.step = DatumGetInt32(columns[2][i]) - 1};
	visit_runs(items, n, put_inputs, &reading);
	return (Datum) 0;
}

/* What lr_runs_execute() has in hand. */
typedef struct Executing
{
	MemoryContext memory;
	LrExecution *execution;
} Executing;

static void
execute_steps(LrRun *run, const LrWaiting *waiting, void *argument)
{
	Executing  *executing = argument;

	for (int i = 0; i < waiting->nitems; i++)
	{
		LrContinuation *item = &waiting->items[i];
		LrStep	   *step;
		MemoryContext saved;
		int			nest;
		bool		done;

		/* what the function would be given is not what is on record: the run has to see to that first */
		if (!item->slow || !is_wanted(run, item) || run->continued->changed != NULL || GetCurrentTimestamp() > executing->execution->until)
			continue;
		step = &run->batch->policy->steps[item->step];
		item->taken = true;
		run->batch->execution = executing->execution;
		nest = lr_by_index_suspend();
		done = lr_step_execute(step, run, item);
		lr_settings_leave(nest);
		if (!done)
			continue;
		saved = MemoryContextSwitchTo(executing->memory);
		item->output = datumCopy(run->values[step->first_fact], false, -1);
		MemoryContextSwitchTo(saved);
	}
}

/*
 * Does steps of workers that take long, while no run is held: others may go on with the run meanwhile, also with other steps of it. An item
 * whose step was begun is taken then, and has an output, in the current memory context, or failed.
 */
void
lr_runs_execute(LrContinuation *items, int n, LrExecution *execution)
{
	Executing	executing = {.memory = CurrentMemoryContext,.execution = execution};

	for (int i = 0; i < n; i++)
		items[i].taken = items[i].failed = false;
	visit_runs(items, n, execute_steps, &executing);
}
