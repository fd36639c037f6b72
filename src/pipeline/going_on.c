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
#include "access/tableam.h"
#include "access/xact.h"
#include "assignment/assignment.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "pipeline/by_hand.h"
#include "pipeline/going_on.h"
#include "provenance/provenance.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(leadroute_continue_runs);

/* Runs that lr_runs_continue() has in hand and has not written. */
static struct
{
	const LrWaiting *waiting;
	int			n;
} in_hand;

static int	leave_out_unasked(LrWaiting *waiting, int n);
static bool same_batch(const LrWaiting *a, const LrWaiting *b);
static int64 go_on(const LrWaiting *waiting, int n, const LrGoingOn *how);
static int64 leave(const LrSource *source, const LrWaiting *waiting, int n, const char *reason);
static int64 go_on_batch(LrSource *source, LrPolicy *policy, const LrWaiting *waiting, int n, const LrGoingOn *how);
static bool go_on_step(LrStep *step, LrRun *run);
static void find_tasks(LrWaiting *waiting, int n);
static bool asks(const LrRun *run);
static LrContinuation *item_of(const LrRun *run, const LrStep *step);
static void give_result(LrStep *step, LrRun *run, LrContinuation *item);
static bool inputs_changed(const LrStep *step, const LrRun *run);
static bool stays_as_it_is(const LrRun *run);
static void keep_asked(const LrRun *run);
static void remove_asked(const LrBatch *batch);
static void tally(const LrSource *source, const LrBatch *batch);

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
	LrWaiting    *waiting;
	int			nwaiting;
	int64		total = 0;
	int			nest;
	const LrWaiting *outer = in_hand.waiting;
	int			nouter = in_hand.n;

	lr_states_enter();
	/* we may be in the trigger of an UPDATE: what it changed is to be seen */
	CommandCounterIncrement();
	nest = lr_by_index_enter();
	qsort(items, n, sizeof(LrContinuation), lr_compare_continuations);
	for (int i = 0; i < n; i++)
	{
		items[i].taken = false;
		if (i == 0 || items[i].lead_id != items[i - 1].lead_id)
			lead_ids[nleads++] = items[i].lead_id;
	}
	if (how->locked)
	{
		lead_ids = how->locked->lead_ids;
		nleads = how->locked->nleads;
		waiting = how->locked->waiting;
		nwaiting = how->locked->nwaiting;
	}
	else
		waiting = lr_waiting_lock(lead_ids, &nleads, how->skip_locked, &nwaiting);
	/* what nobody waits for is dealt with */
	for (int i = 0, l = 0; i < n; i++)
	{
		while (l < nleads && lead_ids[l] < items[i].lead_id)
			l++;
		items[i].taken = l < nleads && lead_ids[l] == items[i].lead_id;
	}
	lr_waiting_match(waiting, nwaiting, items, n);
	if (how->locked)
		nwaiting = leave_out_unasked(waiting, nwaiting);
	if (how->check_tasks)
		find_tasks(waiting, nwaiting);
	PG_TRY();
	{
		for (int first = 0, end; first < nwaiting; first = end)
		{
			for (end = first + 1; end < nwaiting && end - first < lr_batch_size && same_batch(&waiting[first], &waiting[end]); end++)
				;
			in_hand.waiting = &waiting[first];
			in_hand.n = nwaiting - first;
			total += go_on(&waiting[first], end - first, how);
		}
	}
	PG_FINALLY();
	{
		in_hand.waiting = outer;
		in_hand.n = nouter;
	}
	PG_END_TRY();
	lr_settings_leave(nest);
	MemoryContextSwitchTo(saved);
	MemoryContextDelete(memory);
	return total;
}

/* Finds which steps of runs have tasks: those of a lead that was closed, or whose table was detached, are gone. */
static void
find_tasks(LrWaiting *waiting, int n)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {INT8ARRAYOID};
	Datum		values[1];
	int64	   *run_ids = palloc(sizeof(int64) * Max(n, 1));
	uint64		found;
	MemoryContext saved;

	for (int i = 0; i < n; i++)
		run_ids[i] = waiting[i].run_id;
	values[0] = lr_int8_array(run_ids, n);
	lr_sql_begin(&identity);
	found = lr_sql("SELECT run_id, step_no::integer FROM leadroute.tasks WHERE run_id = ANY ($1)", false, 1, types, values, NULL);
	saved = MemoryContextSwitchTo(memory);
	for (int i = 0; i < n; i++)
	{
		waiting[i].tasks_known = true;
		for (uint64 t = 0; t < found; t++)
		{
			if (lr_sql_int64(t, 1, 0) == waiting[i].run_id)
				waiting[i].tasks = bms_add_member(waiting[i].tasks, lr_sql_int32(t, 2, 1) - 1);
		}
	}
	MemoryContextSwitchTo(saved);
	lr_sql_end(&identity);
}

/* Takes out runs that nobody brings anything for; returns how many are left. */
static int
leave_out_unasked(LrWaiting *waiting, int n)
{
	int			kept = 0;

	for (int i = 0; i < n; i++)
	{
		if (waiting[i].nitems > 0)
			waiting[kept++] = waiting[i];
	}
	return kept;
}

static bool
same_batch(const LrWaiting *a, const LrWaiting *b)
{
	return a->source_id == b->source_id && a->policy_version_id == b->policy_version_id && a->mode == b->mode && a->cause == b->cause &&
		a->routed_by == b->routed_by && a->trial_id == b->trial_id &&
		(a->note == NULL ? b->note == NULL : b->note != NULL && strcmp(a->note, b->note) == 0);
}

/*
 * Raises 27000 if a run that is in hand is not what it was: an agent's function has changed a lead amid its run, which would be decided on
 * what it was, and lost what was decided meanwhile.
 */
void
lr_runs_check(void)
{
	Relation	rel;
	TupleTableSlot *slot;
	int64		changed = 0;

	if (in_hand.n == 0)
		return;
	rel = table_open(lr_catalog()->tables[LR_TABLE_LEAD_STATES], RowExclusiveLock);
	slot = table_slot_create(rel, NULL);
	for (int i = 0; i < in_hand.n && changed == 0; i++)
	{
		ItemPointerData tid = in_hand.waiting[i].tid;

		if (in_hand.waiting[i].locked && !table_tuple_fetch_row_version(rel, &tid, SnapshotSelf, slot))
			changed = in_hand.waiting[i].lead_id;
		ExecClearTuple(slot);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	if (changed)
		ereport(ERROR,
				errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
				errmsg("an agent has changed lead " INT64_FORMAT " amid its run", changed),
				errhint("Have it return what it found; conditions and rules see that."));
}

/* Takes runs of one batch on; returns how many. Those whose table or policy version cannot be used any more wait for route_pending(). */
static int64
go_on(const LrWaiting *waiting, int n, const LrGoingOn *how)
{
	LrSource   *source = lr_source_by_id(waiting[0].source_id);
	bool		unusable = false;
	LrPolicy   *policy = source ? lr_policy_try_hold(waiting[0].policy_version_id, &unusable) : NULL;
	int64		total;

	if (source == NULL)
		return 0;
	if (policy == NULL)
		return leave(source, waiting, n, "policy_unusable");
	total = go_on_batch(source, policy, waiting, n, how);
	lr_policy_release(policy);
	return total;
}

/* Lists runs as waiting for route_pending(); returns how many. */
static int64
leave(const LrSource *source, const LrWaiting *waiting, int n, const char *reason)
{
	int64	   *lead_ids = palloc(sizeof(int64) * n);

	for (int i = 0; i < n; i++)
		lead_ids[i] = waiting[i].lead_id;
	lr_record_waiting(source->source_id, lead_ids, n, reason, true, GetCurrentTimestamp(), waiting[0].routed_by);
	return n;
}

static int64
go_on_batch(LrSource *source, LrPolicy *policy, const LrWaiting *waiting, int n, const LrGoingOn *how)
{
	LrBatch		batch;
	LrRecorder	recorder = {.memory = CurrentMemoryContext,.capacity = n};
	TupleTableSlot *slot = MakeSingleTupleTableSlot(source->desc, &TTSOpsHeapTuple);
	HeapTuple  *rows = palloc(sizeof(HeapTuple) * n);
	int64	   *lead_ids = palloc(sizeof(int64) * n);
	int64		total;
	int			nest;
	MemoryContext saved;

	lr_batch_init(&batch, policy, source, GetCurrentTimestamp(), how->cause ? how->cause : waiting[0].cause, waiting[0].routed_by);
	batch.mode = (LrMode) waiting[0].mode;
	batch.note = waiting[0].note;
	batch.continuing = true;
	batch.execution = how->execution;
	batch.instead = go_on_step;
	saved = MemoryContextSwitchTo(batch.memory);
	for (int i = 0; i < n; i++)
		lead_ids[i] = waiting[i].lead_id;
	if (!lr_waiting_fetch(source, lead_ids, n, rows))
	{
		MemoryContextSwitchTo(saved);
		MemoryContextDelete(batch.memory);
		ExecDropSingleTupleTableSlot(slot);
		return leave(source, waiting, n, "table_unreadable");
	}
	/* a row that is gone takes its state along, unless somebody switched our triggers off: then the run waits for reconcile() */
	for (int i = 0; i < n; i++)
	{
		if (rows[i] && waiting[i].entry_no == PG_INT16_MAX)
			(void) leave(source, &waiting[i], 1, "run_too_long");
		else if (rows[i])
			lr_waiting_add(&batch, &waiting[i], slot, rows[i]);
	}
	MemoryContextSwitchTo(saved);
	lr_find_declined(&batch);
	nest = lr_by_index_suspend();
	lr_batch_run(&batch);
	lr_settings_leave(nest);
	for (int i = 0; i < batch.n; i++)
	{
		batch.runs[i].repeats = stays_as_it_is(&batch.runs[i]);
		batch.runs[i].unchanged = batch.runs[i].repeats && batch.runs[i].outcome == LR_PENDING &&
			strcmp(batch.runs[i].reason, batch.runs[i].continued->waiting->reason) == 0 && !asks(&batch.runs[i]);
		keep_asked(&batch.runs[i]);
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

/* Gives a run that goes no further what is on record of its steps, and what somebody brings: none of it is to be done again. */
void
lr_keep_results(LrRun *run)
{
	const LrPolicy *policy = run->batch->policy;

	for (int s = 0; s < policy->nsteps; s++)
	{
		const LrEvidenceStep *recorded = &run->continued->evidence->steps[s];
		LrContinuation *item = recorded->status == LR_STEP_WAITING ? item_of(run, &policy->steps[s]) : NULL;

		if (item && !item->execute)
			give_result(&policy->steps[s], run, item);
		else if (recorded->status == LR_STEP_DONE || recorded->status == LR_STEP_FAILED)
			lr_restore_step(run, &policy->steps[s], recorded);
	}
}

/* Gives a step what is on record of it, or the result that somebody brings; false if it is to be done as for a new run. */
static bool
go_on_step(LrStep *step, LrRun *run)
{
	const LrContinued *continued = run->continued;
	const LrEvidenceStep *recorded = &continued->evidence->steps[step->number];
	LrStepResult *result = &run->steps[step->number];
	LrContinuation *item;

	if (recorded->status == LR_STEP_WAITING && continued->waiting->tasks_known && !bms_is_member(step->number, continued->waiting->tasks))
		return false;
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
	item = item_of(run, step);
	if (item)
		give_result(step, run, item);
	else
		lr_restore_step(run, step, recorded);
	return true;
}

/* Finds what somebody brings for a step; NULL if nobody does. */
static LrContinuation *
item_of(const LrRun *run, const LrStep *step)
{
	const LrWaiting *waiting = run->continued->waiting;

	for (int i = 0; i < waiting->nitems; i++)
	{
		if (waiting->items[i].step == step->number && waiting->items[i].run_id == run->run_id)
			return &waiting->items[i];
	}
	return NULL;
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
		const LrExecution *execution = run->batch->execution;

		/* what takes long is left for a transaction that holds no run, what would take too long for another one */
		item->slow = step->mean_duration > LR_SLOW_STEP;
		if (item->slow || GetCurrentTimestamp() > execution->until)
		{
			item->taken = false;
			result->status = LR_STEP_WAITING;
			return;
		}
		item->taken = lr_step_execute(step, run, item);
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
				(known && !lr_same_value(fact < LR_N_FACTS ? lr_facts[fact].type : JSONBOID, recorded->values[i], run->values[fact])))
				return true;
		}
	}
	return false;
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

/* Tells whether a run asks for a step. */
static bool
asks(const LrRun *run)
{
	for (int i = 0; i < run->batch->policy->nsteps; i++)
	{
		if (run->steps[i].asked)
			return true;
	}
	return false;
}

/* What a step that is asked for again was given before is not its result: its task is another one now, which is not the bringer's to remove. */
static void
keep_asked(const LrRun *run)
{
	const LrWaiting *waiting = run->continued->waiting;

	for (int i = 0; i < waiting->nitems; i++)
	{
		LrContinuation *item = &waiting->items[i];

		if (item->run_id == run->run_id && item->step >= 0 && run->steps[item->step].asked)
			item->taken = false;
	}
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

