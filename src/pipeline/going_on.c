/*
 * going_on.c: runs that waited go on.
 *
 * Whoever has a result for a run that waits, or a reason to look at it again, comes here, with many at a time. The states of the leads
 * are locked, in the order of their ids; runs that do not wait any more are passed over. Each run goes through the steps of its policy
 * version once more, as part of a batch: built-in steps are done again, on the lead as it is now; of the others those that were done
 * stand as they are on record, those that wait get their results, and those behind them run. What a step was given may have changed
 * meanwhile: then it is done, or asked for, again. So the entry that is appended is a decision on one and the same lead, or the run
 * waits on. All of it is in the transaction of who brings the result.
 */
#include "pipeline/pipeline.h"

#include "access/table.h"
#include "assignment/assignment.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pipeline/by_hand.h"
#include "provenance/provenance.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(leadroute_continue_runs);
PG_FUNCTION_INFO_V1(leadroute_read_task_inputs);

/* A run that waits, as it is on record. */
typedef struct Waiting
{
	int64		lead_id;
	int64		run_id;
	int			source_id;
	int			policy_version_id;
	int			entry_no;
	int64		supersedes;
	char		cause;
	char		mode;
	int			trial_id;
	char	   *note;			/* or NULL */
	Oid			routed_by;
	int			key_id;
	bytea	   *evidence;
	char	   *reason;
	int			overflow_pool_id;	/* 0: it waits in none */
	TimestampTz since;
	LrContinuation *items;		/* results for it, in a row */
	int			nitems;
} Waiting;

/* What is on record of a run that goes on. */
typedef struct LrContinued
{
	const Waiting *waiting;
	LrEvidence *evidence;
	Bitmapset  *changed;		/* attributes that are not what they were */
} LrContinued;

#define WAITING_RUNS \
	"SELECT s.lead_id, s.run_id, s.source_id, e.policy_version_id, e.entry_no, e.supersedes, e.cause, e.mode, e.trial_id, e.note, e.routed_by::oid, e.key_id," \
	" e.evidence, s.reason_code, CASE WHEN s.reason_code = 'overflow' THEN s.pool_id END, s.since" \
	" FROM leadroute.lead_states s CROSS JOIN LATERAL (SELECT * FROM leadroute.entries x WHERE x.run_id = s.run_id AND x.as_of >= s.since" \
	"  ORDER BY x.entry_no DESC LIMIT 1) e" \
	" WHERE s.lead_id = ANY ($1) AND s.outcome = 'pending' AND s.reason_code = ANY ('{waiting,review,paused,overflow}')" \
	" AND s.closed_at IS NULL AND s.finished_at IS NULL" \
	" ORDER BY s.source_id, e.policy_version_id, e.mode, e.cause, e.routed_by, e.trial_id, e.note, s.lead_id"

static int64 *lock_states(const int64 *lead_ids, int *n, bool skip);
static Waiting *find_waiting(const int64 *lead_ids, int n, int *nfound);
static void match_items(Waiting *waiting, int n, LrContinuation *items, int nitems);
static bool same_batch(const Waiting *a, const Waiting *b);
static int64 go_on(const Waiting *waiting, int n, const LrGoingOn *how);
static int64 go_on_batch(LrSource *source, LrPolicy *policy, const Waiting *waiting, int n, const LrGoingOn *how);
static void add_run(LrBatch *batch, const Waiting *waiting, TupleTableSlot *slot, HeapTuple row);
static void find_changed(LrRun *run);
static bool go_on_step(LrStep *step, LrRun *run);
static void give_result(LrStep *step, LrRun *run, LrContinuation *item);
static bool inputs_changed(const LrStep *step, const LrRun *run);
static bool same_value(Oid type, Datum a, Datum b);
static bool stays_as_it_is(const LrRun *run);
static void remove_asked(const LrBatch *batch);
static void tally(const LrSource *source, const LrBatch *batch);
static int	compare_items(const void *a, const void *b);

/*
 * Takes runs on that wait: items bring results, or are a reason to look. Afterwards item->taken tells whether a result is dealt with: it is
 * in the record, or the run does not want it any more. Returns how many runs it went on with.
 */
int64
lr_runs_continue(LrContinuation *items, int n, const LrGoingOn *how)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "leadroute going on", ALLOCSET_DEFAULT_SIZES);
	MemoryContext saved = MemoryContextSwitchTo(memory);
	int64	   *lead_ids = palloc(sizeof(int64) * Max(n, 1));
	int			nleads = 0;
	Waiting    *waiting;
	int			nwaiting;
	int64		total = 0;

	lr_states_enter();
	qsort(items, n, sizeof(LrContinuation), compare_items);
	for (int i = 0; i < n; i++)
	{
		items[i].taken = false;
		if (i == 0 || items[i].lead_id != items[i - 1].lead_id)
			lead_ids[nleads++] = items[i].lead_id;
	}
	if (!how->locked)
		lead_ids = lock_states(lead_ids, &nleads, how->skip_locked);
	waiting = find_waiting(lead_ids, nleads, &nwaiting);
	/* what nobody waits for is dealt with */
	for (int i = 0, l = 0; i < n; i++)
	{
		while (l < nleads && lead_ids[l] < items[i].lead_id)
			l++;
		items[i].taken = l < nleads && lead_ids[l] == items[i].lead_id;
	}
	match_items(waiting, nwaiting, items, n);
	for (int first = 0, end; first < nwaiting; first = end)
	{
		for (end = first + 1; end < nwaiting && end - first < lr_batch_size && same_batch(&waiting[first], &waiting[end]); end++)
			;
		total += go_on(&waiting[first], end - first, how);
	}
	MemoryContextSwitchTo(saved);
	MemoryContextDelete(memory);
	return total;
}

static int
compare_items(const void *a, const void *b)
{
	const LrContinuation *one = a;
	const LrContinuation *other = b;

	if (one->lead_id != other->lead_id)
		return one->lead_id < other->lead_id ? -1 : 1;
	return one->step < other->step ? -1 : one->step > other->step;
}

/* Locks the states of leads, in the order of their ids; returns those that it locked. */
static int64 *
lock_states(const int64 *lead_ids, int *n, bool skip)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {INT8ARRAYOID};
	Datum		values[] = {lr_int8_array(lead_ids, *n)};
	int64	   *locked;

	lr_sql_begin(&identity);
	if (skip)
		*n = (int) lr_sql_kept(LR_PLAN_LOCK_STATES_SKIP, "SELECT lead_id FROM leadroute.lead_states WHERE lead_id = ANY ($1) ORDER BY lead_id FOR UPDATE SKIP LOCKED",
							   1, types, values, NULL);
	else
		*n = (int) lr_sql_kept(LR_PLAN_LOCK_STATES, "SELECT lead_id FROM leadroute.lead_states WHERE lead_id = ANY ($1) ORDER BY lead_id FOR UPDATE",
							   1, types, values, NULL);
	locked = lr_sql_int64s(*n, memory);
	lr_sql_end(&identity);
	return locked;
}

/* Reads the runs that wait, of leads whose states are locked: a statement after the one that locked sees what others did before. */
static Waiting *
find_waiting(const int64 *lead_ids, int n, int *nfound)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {INT8ARRAYOID};
	Datum		values[] = {lr_int8_array(lead_ids, n)};
	MemoryContext saved;
	Waiting    *waiting;
	bool		isnull;

	lr_sql_begin(&identity);
	*nfound = n == 0 ? 0 : (int) lr_sql_kept(LR_PLAN_WAITING_RUNS, WAITING_RUNS, 1, types, values, NULL);
	saved = MemoryContextSwitchTo(memory);
	waiting = palloc0(sizeof(Waiting) * Max(*nfound, 1));
	for (int i = 0; i < *nfound; i++)
	{
		Waiting    *w = &waiting[i];
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

/* Gives each run that waits the items that are for it. Both are few, or in order: items by lead. */
static void
match_items(Waiting *waiting, int n, LrContinuation *items, int nitems)
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

static bool
same_batch(const Waiting *a, const Waiting *b)
{
	return a->source_id == b->source_id && a->policy_version_id == b->policy_version_id && a->mode == b->mode && a->cause == b->cause &&
		a->routed_by == b->routed_by && a->trial_id == b->trial_id &&
		(a->note == NULL ? b->note == NULL : b->note != NULL && strcmp(a->note, b->note) == 0);
}

/* Takes runs of one batch on; returns how many. Those whose table or policy version cannot be used any more wait for route_pending(). */
static int64
go_on(const Waiting *waiting, int n, const LrGoingOn *how)
{
	LrSource   *source = lr_source_by_id(waiting[0].source_id);
	bool		unusable = false;
	LrPolicy   *policy = source ? lr_policy_try_hold(waiting[0].policy_version_id, &unusable) : NULL;
	int64		total;

	if (source == NULL)
		return 0;
	if (policy == NULL)
	{
		int64	   *lead_ids = palloc(sizeof(int64) * n);

		for (int i = 0; i < n; i++)
			lead_ids[i] = waiting[i].lead_id;
		lr_record_waiting(source->source_id, lead_ids, n, "policy_unusable", true, GetCurrentTimestamp(), waiting[0].routed_by);
		return n;
	}
	total = go_on_batch(source, policy, waiting, n, how);
	lr_policy_release(policy);
	return total;
}

static int64
go_on_batch(LrSource *source, LrPolicy *policy, const Waiting *waiting, int n, const LrGoingOn *how)
{
	LrBatch		batch;
	LrRecorder	recorder = {.memory = CurrentMemoryContext,.capacity = n};
	TupleTableSlot *slot = MakeSingleTupleTableSlot(source->desc, &TTSOpsHeapTuple);
	HeapTuple  *rows = palloc(sizeof(HeapTuple) * n);
	int64	   *lead_ids = palloc(sizeof(int64) * n);
	int64		total;
	MemoryContext saved;

	lr_batch_init(&batch, policy, source, GetCurrentTimestamp(), how->cause ? how->cause : waiting[0].cause, waiting[0].routed_by);
	batch.mode = (LrMode) waiting[0].mode;
	batch.note = waiting[0].note;
	batch.continuing = true;
	batch.instead = go_on_step;
	saved = MemoryContextSwitchTo(batch.memory);
	for (int i = 0; i < n; i++)
		lead_ids[i] = waiting[i].lead_id;
	lr_leads_fetch(source, lead_ids, n, rows);
	/* a row that is gone takes its state along, unless somebody switched our triggers off: then the run waits for reconcile() */
	for (int i = 0; i < n; i++)
	{
		if (rows[i])
			add_run(&batch, &waiting[i], slot, rows[i]);
	}
	MemoryContextSwitchTo(saved);
	lr_find_declined(&batch);
	lr_batch_run(&batch);
	for (int i = 0; i < batch.n; i++)
	{
		batch.runs[i].repeats = stays_as_it_is(&batch.runs[i]);
		batch.runs[i].unchanged = batch.runs[i].repeats && batch.runs[i].outcome == LR_PENDING &&
			strcmp(batch.runs[i].reason, batch.runs[i].continued->waiting->reason) == 0;
	}
	lr_assign_batch(&batch);
	remove_asked(&batch);
	lr_record_batch(&recorder, &batch);
	lr_recorder_end(&recorder);
	tally(source, &batch);
	for (int i = 0; i < batch.n && how->done; i++)
		how->done(&batch.runs[i], how->argument);
	total = batch.n;
	ExecDropSingleTupleTableSlot(slot);
	MemoryContextDelete(batch.memory);
	return total;
}

/* Adds a run that waits to a batch: the lead as it is now, and what is on record. */
static void
add_run(LrBatch *batch, const Waiting *waiting, TupleTableSlot *slot, HeapTuple row)
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
	run->waiting_pool_id = waiting->overflow_pool_id;
	run->waiting_since = waiting->overflow_pool_id ? waiting->since : 0;
	run->continued = continued;
	continued->waiting = waiting;
	continued->evidence = lr_evidence_read(VARDATA_ANY(waiting->evidence), VARSIZE_ANY_EXHDR(waiting->evidence), batch->policy);
	lr_evidence_restore_flags(continued->evidence, run);
	for (int s = 0; s < batch->policy->nsteps; s++)
		open += continued->evidence->steps[s].status == LR_STEP_WAITING;
	for (int i = 0; i < waiting->nitems; i++)
		open -= waiting->items[i].step >= 0 && !waiting->items[i].execute;
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
			same = same_value(lr_facts[i].type, before->value, run->values[i]);
		else if (same && before->known)
		{
			lr_fact_digest(continued->waiting->key_id, i, run->values[i], digest);
			same = memcmp(digest, before->digest, sizeof(digest)) == 0;
		}
		if (!same)
			continued->changed = bms_add_member(continued->changed, i);
	}
}

/* Gives a step what is on record of it, or the result that somebody brings; false if it is to be done as for a new run. */
static bool
go_on_step(LrStep *step, LrRun *run)
{
	const LrContinued *continued = run->continued;
	const LrEvidenceStep *recorded = &continued->evidence->steps[step->number];
	LrStepResult *result = &run->steps[step->number];

	if (recorded->status == LR_STEP_WAITING && step->hold_until && recorded->detail_length > 0 && recorded->detail[0] == '{' &&
		strncmp(recorded->detail, "{\"held_until\"", strlen("{\"held_until\"")) == 0)
	{
		char	   *detail = pnstrdup(recorded->detail, recorded->detail_length);
		char	   *until = strchr(detail, ':') + 3;

		*strrchr(until, '"') = '\0';
		result->held_until = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(until), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
		return false;
	}
	if (step->builtin || recorded->status == LR_STEP_SKIPPED || recorded->status == LR_STEP_BLOCKED || inputs_changed(step, run))
		return false;
	if (recorded->status != LR_STEP_WAITING)
	{
		lr_restore_step(run, step, recorded);
		return true;
	}
	for (int i = 0; i < continued->waiting->nitems; i++)
	{
		if (continued->waiting->items[i].step == step->number && continued->waiting->items[i].run_id == run->run_id)
		{
			give_result(step, run, &continued->waiting->items[i]);
			return true;
		}
	}
	lr_restore_step(run, step, recorded);
	return true;
}

/* Gives a run the result of a step; one that an executor has is done here, and waits on if it fails: whether it is tried again is not ours to say. */
static void
give_result(LrStep *step, LrRun *run, LrContinuation *item)
{
	LrStepResult *result = &run->steps[step->number];

	if (item->detail)
		lr_run_set_detail(run, step, item->detail, item->detail_length);
	if (item->execute)
	{
		item->failed = true;
		if (step->agent->retired || step->agent->changed)
		{
			item->sqlstate = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
			item->place = step->agent->retired ? "agent_retired" : "agent_changed";
		}
		else
			item->failed = !lr_sql_agent_try(step, run, &item->sqlstate, &item->place);
		if (item->failed)
			item->taken = false;
		result->status = item->failed ? LR_STEP_WAITING : LR_STEP_DONE;
	}
	else if (item->failed)
		lr_step_give_up(step, run, item->sqlstate, item->place);
	else
	{
		result->status = LR_STEP_DONE;
		lr_run_set(run, step->first_fact, item->output);
	}
}

/* Tells whether what a step is given is not what it was. The moment is always another one. */
static bool
inputs_changed(const LrStep *step, const LrRun *run)
{
	const LrContinued *continued = run->continued;
	const LrPolicy *policy = run->batch->policy;

	if (bms_overlap(step->reads, continued->changed))
		return true;
	for (int s = 0; s < step->number; s++)
	{
		const LrStep *earlier = &policy->steps[s];
		const LrEvidenceStep *recorded = &continued->evidence->steps[s];

		for (int i = 0; i < earlier->nfacts; i++)
		{
			int			fact = earlier->first_fact + i;
			bool		known = recorded->status == LR_STEP_DONE && (recorded->known & (1u << i)) != 0;

			/* what was not there yet it cannot have been given */
			if (!bms_is_member(fact, step->reads) || LR_STEP_IS_OPEN(recorded->status))
				continue;
			if (known != !run->isnull[fact] ||
				(known && !same_value(fact < LR_N_FACTS ? lr_facts[fact].type : JSONBOID, recorded->values[i], run->values[fact])))
				return true;
		}
	}
	return false;
}

static bool
same_value(Oid type, Datum a, Datum b)
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

/* Tells whether a run has come to where it was. */
static bool
stays_as_it_is(const LrRun *run)
{
	const LrEvidence *before = run->continued->evidence;
	bytea	   *own_evidence = lr_run_evidence(run);
	int			own_length;
	const char *own = lr_evidence_stable(VARDATA(own_evidence), VARSIZE(own_evidence) - VARHDRSZ, &own_length);

	return own_length == before->stable_length && memcmp(own, before->stable, own_length) == 0;
}

/* Removes the tasks of steps that are asked for again, and of holds that are over. Those of results are their bringers'. */
static void
remove_asked(const LrBatch *batch)
{
	LrIdentity	identity;
	Oid			types[] = {INT8ARRAYOID, INT4ARRAYOID};
	Datum		values[2];
	int64	   *run_ids = NULL;
	Datum	   *step_nos = NULL;
	int			n = 0;

	for (int i = 0; i < batch->n; i++)
	{
		const LrRun *run = &batch->runs[i];

		for (int s = 0; s < batch->policy->nsteps; s++)
		{
			bool		over = run->steps[s].asked || (run->steps[s].held_until && run->steps[s].status != LR_STEP_WAITING);

			if (run->continued->evidence->steps[s].status != LR_STEP_WAITING || !over || run->unchanged)
				continue;
			if (run_ids == NULL)
			{
				run_ids = palloc(sizeof(int64) * batch->n * batch->policy->nsteps);
				step_nos = palloc(sizeof(Datum) * batch->n * batch->policy->nsteps);
			}
			run_ids[n] = run->run_id;
			step_nos[n++] = Int32GetDatum(s + 1);
		}
	}
	if (n == 0)
		return;
	values[0] = lr_int8_array(run_ids, n);
	values[1] = PointerGetDatum(construct_array(step_nos, n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	lr_sql_begin(&identity);
	lr_sql_kept(LR_PLAN_REMOVE_ASKED, "DELETE FROM leadroute.tasks t USING unnest($1, $2) AS x (run_id, step_no) WHERE t.run_id = x.run_id AND t.step_no = x.step_no",
				2, types, values, NULL);
	lr_sql_end(&identity);
}

/* What a canary decided late counts in its trial, if that still runs. */
static void
tally(const LrSource *source, const LrBatch *batch)
{
	LrTrial    *trial = batch->mode == LR_MODE_CANARY ? lr_trial_running(source->policy) : NULL;

	if (trial && batch->n > 0 && batch->runs[0].trial_id == trial->trial_id)
		lr_trial_tally(trial, batch);
}

/* ---- for statements of our own ---- */

/* Takes runs on with results; see the SQL comment. */
Datum
leadroute_continue_runs(PG_FUNCTION_ARGS)
{
	Datum	   *columns[6];
	bool	   *nulls[6];
	static const Oid types[] = {INT8OID, INT8OID, INT4OID, JSONBOID, TEXTOID, JSONBOID};
	int			n = 0;
	LrContinuation *items;

	for (int i = 0; i < 6; i++)
	{
		int			length;
		Oid			type = types[i];

		deconstruct_array(PG_GETARG_ARRAYTYPE_P(i), type, type == INT8OID ? 8 : type == INT4OID ? 4 : -1, type == INT8OID || type == INT4OID,
						  type == INT8OID ? TYPALIGN_DOUBLE : TYPALIGN_INT, &columns[i], &nulls[i], &length);
		if (i > 0 && length != n)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("the arrays are not of one length"),
					errhint("Give an element for each run in every one of them."));
		n = length;
	}
	items = palloc0(sizeof(LrContinuation) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		LrContinuation *item = &items[i];

		item->run_id = DatumGetInt64(columns[0][i]);
		item->lead_id = DatumGetInt64(columns[1][i]);
		item->step = DatumGetInt32(columns[2][i]) - 1;
		if (!nulls[3][i])
			item->output = columns[3][i];
		if (!nulls[4][i])
		{
			char	   *error = TextDatumGetCString(columns[4][i]);

			if (strlen(error) < 5)
				elog(ERROR, "\"%s\" begins with no SQLSTATE", error);
			item->failed = true;
			item->sqlstate = MAKE_SQLSTATE(error[0], error[1], error[2], error[3], error[4]);
			item->place = error[5] == ' ' ? &error[6] : NULL;
		}
		if (!nulls[5][i])
		{
			Jsonb	   *detail = DatumGetJsonbP(columns[5][i]);

			item->detail = JsonbToCString(NULL, &detail->root, VARSIZE(detail));
			item->detail_length = (int) strlen(item->detail);
		}
		if (nulls[3][i] && nulls[4][i])
			item->step = -1;
	}
	PG_RETURN_INT64(lr_runs_continue(items, n, &(LrGoingOn) {0}));
}

/* Reads what agents are given for tasks; see the SQL comment. */
Datum
leadroute_read_task_inputs(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum	   *columns[3];
	bool	   *nulls;
	int			n;
	int64	   *lead_ids;
	int			nleads = 0;
	LrContinuation *items;
	Waiting    *waiting;
	int			nwaiting;

	InitMaterializedSRF(fcinfo, 0);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), INT8OID, 8, true, TYPALIGN_DOUBLE, &columns[0], &nulls, &n);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), INT8OID, 8, true, TYPALIGN_DOUBLE, &columns[1], &nulls, &n);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), INT4OID, 4, true, TYPALIGN_INT, &columns[2], &nulls, &n);
	items = palloc0(sizeof(LrContinuation) * Max(n, 1));
	lead_ids = palloc(sizeof(int64) * Max(n, 1));
	for (int i = 0; i < n; i++)
		items[i] = (LrContinuation) {.run_id = DatumGetInt64(columns[0][i]),.lead_id = DatumGetInt64(columns[1][i]),.step = DatumGetInt32(columns[2][i]) - 1};
	qsort(items, n, sizeof(LrContinuation), compare_items);
	for (int i = 0; i < n; i++)
	{
		if (i == 0 || items[i].lead_id != items[i - 1].lead_id)
			lead_ids[nleads++] = items[i].lead_id;
	}
	waiting = find_waiting(lead_ids, nleads, &nwaiting);
	match_items(waiting, nwaiting, items, n);
	for (int i = 0; i < nwaiting; i++)
	{
		LrSource   *source = lr_source_by_id(waiting[i].source_id);
		bool		unusable;
		LrPolicy   *policy = source ? lr_policy_try_hold(waiting[i].policy_version_id, &unusable) : NULL;
		HeapTuple	row = NULL;
		LrBatch		batch;
		MemoryContext saved;

		if (policy == NULL)
			continue;
		lr_batch_init(&batch, policy, source, GetCurrentTimestamp(), waiting[i].cause, waiting[i].routed_by);
		saved = MemoryContextSwitchTo(batch.memory);
		batch.continuing = true;
		lr_leads_fetch(source, &waiting[i].lead_id, 1, &row);
		if (row)
		{
			TupleTableSlot *slot = MakeSingleTupleTableSlot(source->desc, &TTSOpsHeapTuple);
			LrRun	   *run;

			add_run(&batch, &waiting[i], slot, row);
			run = &batch.runs[0];
			for (int s = 0; s < policy->nsteps; s++)
			{
				const LrEvidenceStep *recorded = &run->continued->evidence->steps[s];

				if (recorded->status == LR_STEP_DONE)
					lr_restore_step(run, &policy->steps[s], recorded);
			}
			for (int j = 0; j < waiting[i].nitems; j++)
			{
				const LrContinuation *item = &waiting[i].items[j];
				Datum		values[3];
				bool		isnull[3] = {false};

				if (item->run_id != run->run_id || item->step < 0 || item->step >= policy->nsteps)
					continue;
				values[0] = Int64GetDatum(item->run_id);
				values[1] = Int32GetDatum(item->step + 1);
				values[2] = JsonbPGetDatum(lr_agent_input(run, &policy->steps[item->step]));
				tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
			}
			ExecDropSingleTupleTableSlot(slot);
		}
		MemoryContextSwitchTo(saved);
		MemoryContextDelete(batch.memory);
		lr_policy_release(policy);
	}
	return (Datum) 0;
}
