/*
 * routing.c: from rows of an attached table to decisions, in sets.
 *
 * Whoever has leads to route, a trigger or a person, begins a routing, adds rows, and ends it. Rows are collected into
 * batches; each batch goes through the pipeline (batch.c), draws its turns (assignment) and is written (provenance). Memory
 * is bounded by the batch, not by the statement. Where no policy is active, or what the active version
 * pins has changed, or routing is off, leads are listed as waiting.
 *
 * While the policy has a trial (trial.c) there is a second batch, of the candidate. A canary's leads leave the first batch
 * for it, and are decided and written as the others are. A shadow's leads stay in the first and are copied: what the candidate
 * decides is written as entries of their own, and nothing else. Leads of a table that is observed take part in no trial.
 */
#include "pipeline/pipeline.h"

#include "access/htup_details.h"
#include "assignment/assignment.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "pipeline/by_hand.h"
#include "provenance/provenance.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "writer.h"

/* A batch of large leads ends before it is full. */
#define MAX_BATCH_BYTES (16 * 1024 * 1024)

struct LrRouting
{
	MemoryContext memory;
	LrSource   *source;
	LrPolicy   *policy;			/* NULL while leads have to wait */
	const char *waiting;		/* why they wait, or NULL */
	bool		dry;			/* nothing is drawn or written */
	TimestampTz as_of;
	char		cause;
	Oid			user;
	LrBatch		batch;
	LrTrial    *trial;			/* NULL: none */
	LrBatch    *candidate;		/* of the trial */
	LrRecorder	recorder;
	TupleTableSlot *row;
	int			capacity;
	int64		total;
	int			nrows;			/* added since the last batch was finished */
	int			allocated;
	MinimalTuple *rows;			/* NULL each if nothing but the lead id is wanted of them */
	int64	   *lead_ids;		/* of the rows, where they are the rows' keys */
	char	  **keys;			/* of the rows, as text; NULL where they are the lead ids */
	MemoryContext row_memory;	/* that of the batch, if leads do not wait */
	LrRunDone	done;
	void	   *argument;
};

static LrRouting *begin(LrSource *source, char cause, const char *note, bool dry, LrRunDone done, void *argument);
static void make_room(LrRouting *routing);
static void finish_rows(LrRouting *routing);
static void find_lead_ids(LrRouting *routing);
static void route_rows(LrRouting *routing);
static void leave_out_merged(LrBatch *batch);
static void go_on(LrRouting *routing);
static void begin_trial(LrRouting *routing);
static void divide(LrRouting *routing);
static void add_to_candidate(LrBatch *candidate, const LrRun *run, int place);
static void route_batch(LrRouting *routing, LrBatch *batch);
static void route_shadow(LrRouting *routing);
static void find_unchanged(LrBatch *batch);
static bool is_unchanged(LrRun *run, uint64 row);
static bool stays(LrRun *run, uint64 row);
static bool may_keep(LrRun *run, uint64 row);
static bool was_asked(uint64 row, int owner_id);

/* Begins a routing. done, if given, is called for each run when it is written. */
LrRouting *
lr_routing_begin(LrSource *source, char cause, const char *note, LrRunDone done, void *argument)
{
	/* before anything is read that decides: see by_hand_offboard.c */
	lr_states_enter();
	return begin(source, cause, note, false, done, argument);
}

/* Begins a routing that shows what would come out: nothing is drawn, locked or written. */
LrRouting *
lr_routing_begin_dry(LrSource *source, char cause, LrRunDone done, void *argument)
{
	return begin(source, cause, NULL, true, done, argument);
}

static LrRouting *
begin(LrSource *source, char cause, const char *note, bool dry, LrRunDone done, void *argument)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "leadroute routing", ALLOCSET_SMALL_SIZES);
	MemoryContext saved = MemoryContextSwitchTo(memory);
	LrRouting  *routing = palloc0(sizeof(LrRouting));
	bool		unusable = false;

	routing->memory = memory;
	routing->source = source;
	routing->cause = cause;
	routing->dry = dry;
	routing->as_of = GetCurrentTimestamp();
	routing->user = GetUserId();
	routing->capacity = lr_batch_size;
	routing->done = done;
	routing->argument = argument;
	routing->policy = lr_on_error == LR_ON_ERROR_ABORT && !source->observed ? lr_policy_hold_active(source->policy, routing->as_of)
		: lr_policy_try_hold_active(source->policy, routing->as_of, &unusable);
	if (routing->policy == NULL)
		routing->waiting = unusable ? "policy_unusable" : "no_policy";
	else
	{
		lr_batch_init(&routing->batch, routing->policy, source, routing->as_of, cause, routing->user);
		routing->batch.note = note && note[0] ? note : NULL;
		if (source->observed)
			routing->batch.mode = LR_MODE_OBSERVE;
		else
			begin_trial(routing);
		routing->batch.evaluating = dry;
		if (routing->trial)
			routing->candidate->evaluating = dry;
	}
	routing->recorder.memory = memory;
	routing->recorder.capacity = routing->capacity;
	routing->row = MakeSingleTupleTableSlot(source->desc, &TTSOpsMinimalTuple);
	routing->row_memory = routing->policy ? routing->batch.memory : AllocSetContextCreate(memory, "leadroute rows", ALLOCSET_DEFAULT_SIZES);
	routing->allocated = Min(4, routing->capacity);
	routing->rows = palloc(sizeof(MinimalTuple) * routing->allocated);
	routing->lead_ids = palloc(sizeof(int64) * routing->allocated);
	MemoryContextSwitchTo(saved);
	return routing;
}

/* Makes all leads of a routing wait instead. */
void
lr_routing_wait(LrRouting *routing, const char *reason)
{
	routing->waiting = reason;
}

/* Tells whether the leads will have to wait. */
bool
lr_routing_waits(const LrRouting *routing)
{
	return routing->waiting != NULL;
}

/* Raises 55000 if the leads would have to wait: who routes by hand wants a decision. */
void
lr_routing_require_policy(const LrRouting *routing)
{
	/* raises what is wrong with a version that cannot be used */
	if (routing->waiting)
		(void) lr_policy_hold_active(routing->source->policy, routing->as_of);
	if (routing->waiting)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("policy \"%s\" has no active version", routing->source->policy),
				errhint("Publish one with leadroute.publish_policy() and activate it with leadroute.activate_policy()."));
}

/* Adds a row. */
void
lr_routing_add(LrRouting *routing, TupleTableSlot *slot)
{
	const LrSource *source = routing->source;
	MemoryContext saved = MemoryContextSwitchTo(routing->row_memory);
	MinimalTuple row = NULL;

	if (routing->nrows == routing->allocated)
		make_room(routing);
	if (!routing->waiting || source->keyed)
	{
		row = ExecCopySlotMinimalTuple(slot);
		slot = routing->row;
		ExecStoreMinimalTuple(row, slot, false);
	}
	if (!routing->waiting)
		lr_lead_read(source, slot, lr_batch_add(&routing->batch));
	if (!source->keyed)
		routing->lead_ids[routing->nrows] = lr_lead_id_direct(source, slot);
	routing->rows[routing->nrows++] = row;
	MemoryContextSwitchTo(saved);
	if (routing->nrows == routing->capacity || MemoryContextMemAllocated(routing->row_memory, false) > MAX_BATCH_BYTES)
		finish_rows(routing);
}

/* Ends a routing; returns how many leads were routed. */
int64
lr_routing_end(LrRouting *routing)
{
	int64		total;

	finish_rows(routing);
	lr_recorder_end(&routing->recorder);
	total = routing->total;
	ExecDropSingleTupleTableSlot(routing->row);
	if (routing->policy)
		lr_policy_release(routing->policy);
	if (routing->trial)
		lr_policy_release(routing->candidate->policy);
	MemoryContextDelete(routing->memory);
	return total;
}

/* Most statements bring one lead: room grows with need, as far as a batch goes. */
static void
make_room(LrRouting *routing)
{
	routing->allocated = Min(routing->allocated * 4, routing->capacity);
	routing->rows = repalloc(routing->rows, sizeof(MinimalTuple) * routing->allocated);
	routing->lead_ids = repalloc(routing->lead_ids, sizeof(int64) * routing->allocated);
}

static void
finish_rows(LrRouting *routing)
{
	MemoryContext saved = MemoryContextSwitchTo(routing->row_memory);

	if (routing->nrows > 0)
	{
		find_lead_ids(routing);
		if (routing->waiting)
		{
			lr_record_waiting(routing->source->source_id, routing->lead_ids, routing->nrows, routing->waiting, routing->cause == 'u',
							  routing->as_of, routing->user);
			if (routing->cause == 'u')
				lr_note_merged_changed(routing->lead_ids, routing->nrows, routing->as_of);
		}
		else
			route_rows(routing);
		routing->nrows = 0;
	}
	MemoryContextSwitchTo(saved);
	if (routing->policy)
	{
		lr_batch_clear(&routing->batch);
		if (routing->trial)
			lr_batch_clear(routing->candidate);
	}
	else
		MemoryContextReset(routing->row_memory);
}

/* Finds the lead ids of the rows by their keys. A key that has none yet gets one. */
static void
find_lead_ids(LrRouting *routing)
{
	const LrSource *source = routing->source;
	char	  **keys;
	int			nnew = 0;
	int64		next;
	LrWriter   *writer;

	routing->keys = NULL;
	if (!source->keyed)
		return;
	routing->keys = keys = palloc(sizeof(char *) * routing->nrows);
	lr_lead_keys_find(source, routing->rows, routing->nrows, keys, routing->lead_ids);
	for (int i = 0; i < routing->nrows; i++)
		nnew += routing->lead_ids[i] == 0;
	if (nnew == 0)
		return;
	next = lr_numbers_take(lr_catalog()->lead_ids, nnew);
	writer = lr_writer_open(lr_catalog()->tables[LR_TABLE_LEAD_KEYS], nnew);
	for (int i = 0; i < routing->nrows; i++)
	{
		TupleTableSlot *slot;

		if (routing->lead_ids[i] != 0)
			continue;
		routing->lead_ids[i] = next++;
		slot = lr_writer_row(writer);
		slot->tts_values[0] = Int32GetDatum(source->source_id);
		slot->tts_values[1] = CStringGetTextDatum(keys[i]);
		slot->tts_values[2] = Int64GetDatum(routing->lead_ids[i]);
		memset(slot->tts_isnull, false, 3 * sizeof(bool));
	}
	lr_writer_close(writer);
}

static void
route_rows(LrRouting *routing)
{
	LrBatch    *batch = &routing->batch;

	for (int i = 0; i < batch->n; i++)
	{
		batch->runs[i].lead_id = routing->lead_ids[i];
		batch->runs[i].key = routing->keys ? routing->keys[i] : NULL;
		batch->runs[i].known = batch->cause != 'i';
	}
	if (batch->cause != 'i')
	{
		lr_find_states(batch, !routing->dry);
		leave_out_merged(batch);
		go_on(routing);
		lr_find_declined(batch);
	}
	if (routing->trial)
		divide(routing);
	route_batch(routing, batch);
	if (routing->trial && routing->trial->shadow)
	{
		if (!routing->dry)
			route_shadow(routing);
	}
	else if (routing->trial)
	{
		route_batch(routing, routing->candidate);
		if (!routing->dry)
			lr_trial_tally(routing->trial, routing->candidate);
	}
}

/* Takes the leads that were merged into others out of a batch: their survivors are routed. Who asks for one by hand is told. */
static void
leave_out_merged(LrBatch *batch)
{
	int64	   *merged = NULL;
	int			nmerged = 0;
	int			kept = 0;

	for (int i = 0; i < batch->n; i++)
	{
		if (!batch->runs[i].merged)
		{
			if (kept != i)
				batch->runs[kept] = batch->runs[i];
			kept++;
			continue;
		}
		if (batch->cause == 'm')
			ereport(ERROR,
					errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("lead " INT64_FORMAT " was merged into another lead", batch->runs[i].lead_id),
					errhint("Route that one: leadroute.surviving_lead(" INT64_FORMAT ") says which.", batch->runs[i].lead_id));
		if (merged == NULL)
			merged = palloc(sizeof(int64) * batch->n);
		merged[nmerged++] = batch->runs[i].lead_id;
	}
	batch->n = kept;
	if (nmerged > 0)
		lr_note_merged_changed(merged, nmerged, batch->as_of);
}

/*
 * Takes the leads that wait in the middle of a run out of a batch: their runs go on, on the leads as they are now. Who reroutes them in
 * a batch has them begin anew.
 */
static void
go_on(LrRouting *routing)
{
	LrBatch    *batch = &routing->batch;
	LrContinuation *items = NULL;
	int			n = 0;
	int			kept = 0;

	for (int i = 0; i < batch->n; i++)
	{
		LrRun	   *run = &batch->runs[i];

		run->has_tasks = run->in_hand;
		if (!run->in_hand || routing->dry || strchr("umpv", batch->cause) == NULL)
		{
			if (kept != i)
				batch->runs[kept] = *run;
			kept++;
			continue;
		}
		if (items == NULL)
			items = palloc0(sizeof(LrContinuation) * batch->n);
		items[n++] = (LrContinuation) {.run_id = run->supersedes,.lead_id = run->lead_id,.step = -1};
	}
	batch->n = kept;
	if (n == 0)
		return;
	routing->total += lr_runs_continue(items, n, &(LrGoingOn) {.cause = batch->cause == 'v' ? 'v' : 0,.done = routing->done,.argument = routing->argument});
}

/* Takes a batch through the pipeline and writes what came of it. */
static void
route_batch(LrRouting *routing, LrBatch *batch)
{
	if (batch->n == 0)
		return;
	lr_batch_run(batch);
	if (batch->cause != 'i')
		find_unchanged(batch);
	lr_assign_batch(batch);
	if (!routing->dry)
		lr_record_batch(&routing->recorder, batch);
	for (int i = 0; i < batch->n && routing->done; i++)
		routing->done(&batch->runs[i], routing->argument);
	routing->total += batch->n;
}

/* Holds the candidate of the policy's trial, if there is one that can be used: otherwise all leads are the active version's. */
static void
begin_trial(LrRouting *routing)
{
	LrTrial    *trial = lr_trial_running(routing->source->policy);
	LrPolicy   *candidate;
	bool		unusable;

	/* another version may have become active since the trial was read */
	if (likely(trial == NULL) || trial->baseline_version_id != routing->policy->version_id)
		return;
	candidate = lr_policy_try_hold(trial->candidate_version_id, &unusable);
	if (candidate == NULL)
		return;
	routing->trial = trial;
	routing->candidate = palloc(sizeof(LrBatch));
	lr_batch_init(routing->candidate, candidate, routing->source, routing->as_of, routing->cause, routing->user);
	routing->candidate->mode = trial->shadow ? LR_MODE_SHADOW : LR_MODE_CANARY;
	routing->candidate->beside = trial->shadow ? &routing->batch : NULL;
	routing->candidate->note = routing->batch.note;
}

/* Gives the candidate its leads. Their states are found, and locked, before: those of both batches in one order. */
static void
divide(LrRouting *routing)
{
	const LrTrial *trial = routing->trial;
	LrBatch    *batch = &routing->batch;
	int			kept = 0;

	for (int i = 0; i < batch->n; i++)
	{
		LrRun	   *run = &batch->runs[i];
		LrSide		side;

		if ((i & 63) == 0)
			CHECK_FOR_INTERRUPTS();
		side = lr_trial_side(trial, run);
		run->trial_id = side == LR_SIDE_NONE ? 0 : trial->trial_id;
		if (side == LR_SIDE_CANDIDATE)
			add_to_candidate(routing->candidate, run, i);
		if (side == LR_SIDE_CANDIDATE && !trial->shadow)
			continue;
		if (kept != i)
			batch->runs[kept] = *run;
		kept++;
	}
	batch->n = kept;
}

/* Adds a lead to the candidate's batch: what was read of it, and its state. place: of its run in the other batch. */
static void
add_to_candidate(LrBatch *candidate, const LrRun *run, int place)
{
	LrRun	   *twin = lr_batch_add(candidate);

	memcpy(twin->values, run->values, sizeof(Datum) * LR_N_ATTRIBUTES);
	memcpy(twin->isnull, run->isnull, sizeof(bool) * LR_N_ATTRIBUTES);
	twin->unreadable = run->unreadable;
	twin->unreadable_sqlstate = run->unreadable_sqlstate;
	twin->lead_id = run->lead_id;
	twin->key = run->key;
	twin->trial_id = run->trial_id;
	twin->beside = place;
	twin->waiting_since = run->waiting_since;
	twin->waiting_pool_id = run->waiting_pool_id;
	if (candidate->mode == LR_MODE_SHADOW)
		return;
	twin->known = run->known;
	twin->has_state = run->has_state;
	twin->finished = run->finished;
	twin->nexcluded = run->nexcluded;
	twin->excluded = run->excluded;
	twin->supersedes = run->supersedes;
	twin->waiting_pool_id = run->waiting_pool_id;
	twin->waiting_since = run->waiting_since;
	twin->counted = run->counted;
}

/* Has the candidate decide on what the active version decided, for the record only. What stands unchanged is not decided again. */
static void
route_shadow(LrRouting *routing)
{
	LrBatch    *shadow = routing->candidate;
	int			kept = 0;

	for (int i = 0; i < shadow->n; i++)
	{
		if (!routing->batch.runs[shadow->runs[i].beside].unchanged)
			shadow->runs[kept++] = shadow->runs[i];
	}
	shadow->n = kept;
	if (shadow->n == 0)
		return;
	lr_batch_run(shadow);
	lr_assign_batch(shadow);
	lr_record_shadow(&routing->recorder, shadow);
}

/*
 * Finds the runs of leads routed again in which nothing changed: the same policy version, attributes, outputs and rule, and
 * an owner who is still there, or still the one to be preferred. Their decision stands; so does that of a lead that is closed. A run that was
 * left waiting for another reason than its own, such as a policy version that could not be used, has no tasks any more, and is not the same.
 */
static void
find_unchanged(LrBatch *batch)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {INT8OID};

	for (int i = 0; i < batch->n; i++)
	{
		LrRun	   *run = &batch->runs[i];
		Datum		values[] = {Int64GetDatum(run->supersedes)};

		if (run->supersedes == 0)
			continue;
		/* whoever locked the lead before may have taken it out of the overflow */
		if (run->finished || (batch->cause == 'v' && run->waiting_pool_id == 0))
		{
			run->unchanged = true;
			continue;
		}
		lr_sql_begin(&identity);
		if (lr_sql_kept(LR_PLAN_ENTRY,
						"SELECT e.evidence, e.policy_version_id, e.rule_no, e.owner_id, e.outcome, s.closed_at IS NULL, e.mode = 'o', s.pool_id, e.choice"
						" FROM leadroute.entries e JOIN leadroute.lead_states s USING (lead_id) WHERE e.run_id = $1 AND s.run_id = $1 AND s.outcome = e.outcome"
						" AND (s.outcome <> 'pending' OR s.reason_code = e.reason_code)",
						1, types, values, NULL) > 0)
		{
			MemoryContext saved = MemoryContextSwitchTo(memory);

			run->unchanged = batch->cause == 'b' ? stays(run, 0) : is_unchanged(run, 0);
			MemoryContextSwitchTo(saved);
		}
		lr_sql_end(&identity);
	}
}

static bool
is_unchanged(LrRun *run, uint64 row)
{
	bool		isnull;
	bytea	   *evidence = DatumGetByteaPP(lr_sql_datum(row, 1, &isnull));
	int			stable_length;
	int			own_length;
	const char *stable = lr_evidence_stable(VARDATA_ANY(evidence), VARSIZE_ANY_EXHDR(evidence), &stable_length);
	bytea	   *own_evidence = lr_run_evidence(run);
	const char *own = lr_evidence_stable(VARDATA(own_evidence), VARSIZE(own_evidence) - VARHDRSZ, &own_length);
	const char *outcome = lr_sql_text(row, 5);
	const LrTerms *terms;
	LrPool	   *pool;

	if (stable_length != own_length || memcmp(stable, own, own_length) != 0 ||
		lr_sql_int32(row, 2, 0) != run->batch->policy->version_id ||
		lr_sql_int32(row, 3, -1) != (run->rule ? run->rule->number : -1) ||
		!DatumGetBool(lr_sql_datum(row, 6, &isnull)))
		return false;
	/* nobody acted on what was decided while the table was observed */
	if (DatumGetBool(lr_sql_datum(row, 7, &isnull)) != (run->batch->mode == LR_MODE_OBSERVE))
		return false;
	run->repeats = true;
	if (run->outcome != LR_ASSIGNED)
		return strcmp(outcome, lr_outcome_names[run->outcome]) == 0;
	terms = lr_rule_terms(run->batch->policy, run->rule);
	pool = lr_pool(run->pool_id, run->batch->as_of, terms->within, terms->working_clock);
	if (strcmp(outcome, "assigned") == 0)
		return may_keep(run, row);
	/* nobody was there, and nobody is; who waits in an overflow may leave it */
	return strcmp(outcome, "no_rule") == 0 && pool->non == 0;
}

/*
 * Tells whether a lead that is rerouted in a batch stays where it is: what moves it is another outcome, another pool, or an owner who
 * does not work in the pool any more. That the policy's version is another one is what such batches are for.
 */
static bool
stays(LrRun *run, uint64 row)
{
	bool		isnull;

	if (strcmp(lr_sql_text(row, 5), lr_outcome_names[run->outcome]) != 0 || !DatumGetBool(lr_sql_datum(row, 6, &isnull)) ||
		DatumGetBool(lr_sql_datum(row, 7, &isnull)) != (run->batch->mode == LR_MODE_OBSERVE))
		return false;
	return run->outcome != LR_ASSIGNED || (lr_sql_int32(row, 8, 0) == run->pool_id && may_keep(run, row));
}

/*
 * Tells whether who has a lead can go on having it: a member who is still there, or the one to be preferred, who has not declined it.
 * One who was asked before, and could not take the lead, is not preferred again: whoever took it has begun to work on it.
 */
static bool
may_keep(LrRun *run, uint64 row)
{
	int			owner_id = lr_sql_int32(row, 4, 0);
	const LrTerms *terms = lr_rule_terms(run->batch->policy, run->rule);
	int			preferred = lr_preferred_owner(run);
	bool		of_account = false;

	if (lr_run_excludes(run, owner_id))
		return false;
	/* who is followed may go to somebody else */
	if (run->same_person_as >= 0 && !run->batch->runs[run->same_person_as].unchanged)
		return false;
	for (int i = 0; i < run->naccount_preferred; i++)
		of_account |= run->account_preferred[i] == owner_id;
	if (preferred != 0 && preferred != owner_id && !was_asked(row, preferred))
		return false;
	if (preferred != owner_id && ((preferred == 0 && run->preferred_lead_id != 0) || !lr_pool_has_on(lr_pool(of_account ? -owner_id : run->pool_id, run->batch->as_of, terms->within, terms->working_clock), owner_id)))
		return false;
	/* who follows this lead in the batch wants to know */
	run->owner_id = owner_id;
	return true;
}

/* Tells whether an owner was asked before the pool when the decision that stands was made; another one than who got the lead, so in vain. */
static bool
was_asked(uint64 row, int owner_id)
{
	bool		isnull;
	Datum		value = lr_sql_datum(row, 9, &isnull);
	bytea	   *written;
	LrChoice	choice = {0};

	if (isnull)
		return false;
	written = DatumGetByteaPP(value);
	lr_choice_read(VARDATA_ANY(written), VARSIZE_ANY_EXHDR(written), &choice);
	for (int i = 0; i < choice.npreferred; i++)
	{
		if (choice.preferred[i].owner_id == owner_id)
			return true;
	}
	return false;
}
