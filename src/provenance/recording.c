/*
 * recording.c: writing a batch of decisions: one entry and one state a lead.
 *
 * A new lead's state is a new row, and rows go in together. A lead that is routed again has a state, which is found, locked
 * and changed. A lead that was just inserted has none, unless its id was used before: the unique index says so when the state
 * is inserted, and only then the old one is looked for.
 */
#include "provenance/provenance.h"

#include "access/table.h"
#include "access/tableam.h"
#include "assignment/counters.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "workers/workers.h"
#include "writer.h"

/* The columns of leadroute.entries. */
enum
{
	ENTRY_RUN_ID, ENTRY_LEAD_ID, ENTRY_AS_OF, ENTRY_SUPERSEDES, ENTRY_TURN, ENTRY_SCORE, ENTRY_SOURCE_ID, ENTRY_POLICY_VERSION_ID,
	ENTRY_ENVIRONMENT_ID, ENTRY_KEY_ID, ENTRY_ROUTED_BY, ENTRY_OUTCOME, ENTRY_RULE_NO, ENTRY_POOL_ID, ENTRY_POOL_REVISION_ID, ENTRY_OWNER_ID,
	ENTRY_TRIAL_ID, ENTRY_DURATION_US, ENTRY_ENTRY_NO, ENTRY_CAUSE, ENTRY_MODE, ENTRY_REASON_CODE, ENTRY_NOTE, ENTRY_EVIDENCE,
	ENTRY_CHOICE
};

/* The columns of leadroute.lead_states. */
enum
{
	STATE_LEAD_ID, STATE_RUN_ID, STATE_SINCE, STATE_CLOSED_AT, STATE_SCORE, STATE_SOURCE_ID, STATE_POLICY_VERSION_ID, STATE_OWNER_ID,
	STATE_POOL_ID, STATE_CHANGED_BY, STATE_OUTCOME, STATE_REASON_CODE, STATE_TIER, STATE_CLOSED_REASON, STATE_LOAD, STATE_EXPECTED_VALUE,
	STATE_RESPONSE_DUE_AT, STATE_ACCEPTED_AT, STATE_RESPONDED_AT, STATE_FINISHED_AT, STATE_RESULT, STATE_ESTIMATED_AT
};

/* What is read of the states of leads that are routed again. */
#define FIND_STATES \
	"SELECT lead_id, run_id, source_id, closed_at, CASE WHEN outcome = 'pending' AND reason_code = 'overflow' THEN pool_id END, since," \
	" coalesce(closed_reason = 'merged', false), finished_at, CASE WHEN outcome = 'assigned' THEN owner_id END, pool_id, load, expected_value," \
	" outcome = 'pending' AND (reason_code = ANY ('{waiting,review,paused}') OR (reason_code = 'overflow'" \
	"  AND EXISTS (SELECT FROM leadroute.policy_steps p WHERE p.policy_version_id = s.policy_version_id)))" \
	" FROM leadroute.lead_states s WHERE lead_id = ANY ($1)"

uint64		lr_state_changes = 0;

/* Run ids that a session takes at a time, at least. */
#define RUN_IDS_AHEAD 32

static int64 take_run_ids(int count);
static void write_entries(LrRecorder *recorder, LrBatch *batch);
static void write_new_states(LrRecorder *recorder, LrBatch *batch);
static void replace_states(LrRecorder *recorder, LrBatch *batch);
static void change_states(LrBatch *batch);
static LrState *counted_state(LrBatch *batch, uint64 row, bool open);
static LrRun *state_found(LrBatch *batch, int64 lead_id, int64 run_id, int source_id, bool closed);

static inline void
put(TupleTableSlot *slot, int column, Datum value)
{
	slot->tts_values[column] = value;
	slot->tts_isnull[column] = false;
}

/* Writes the decisions of a batch, but for runs in which nothing changed; gives each its run id. */
void
lr_record_batch(LrRecorder *recorder, LrBatch *batch)
{
	MemoryContext saved = MemoryContextSwitchTo(batch->memory);
	bool		any_new = false;
	int			nwritten = 0;
	int			nbegun = 0;
	int64		next_run_id;

	/* nobody acts on what is decided while a table is observed: such a lead counts towards nothing (state_counts.c) */
	for (int i = 0; i < batch->n && batch->mode == LR_MODE_OBSERVE; i++)
		batch->runs[i].load = 0;
	for (int i = 0; i < batch->n; i++)
	{
		nwritten += batch->runs[i].unchanged ? 0 : 1;
		nbegun += batch->runs[i].unchanged || batch->runs[i].entry_no ? 0 : 1;
	}
	next_run_id = nbegun > 0 ? take_run_ids(nbegun) : 0;
	for (int i = 0; i < batch->n; i++)
	{
		LrRun	   *run = &batch->runs[i];

		/* one that goes on has its id */
		if (run->entry_no == 0)
			run->run_id = run->unchanged ? run->supersedes : next_run_id++;
		any_new |= !run->has_state;
	}
	/* the states first: they tell what an entry supersedes */
	if (any_new)
		write_new_states(recorder, batch);
	if (nwritten > 0)
		write_entries(recorder, batch);
	replace_states(recorder, batch);
	change_states(batch);
	lr_tasks_remove(batch);
	if (batch->policy->waits)
		lr_tasks_write(recorder, batch);
	lr_slas_of_batch(recorder, batch);
	lr_events_of_batch(recorder, batch);
	MemoryContextSwitchTo(saved);
}

/* Writes what a shadow decided: entries only. No state knows of them, and they supersede nothing. */
void
lr_record_shadow(LrRecorder *recorder, LrBatch *batch)
{
	MemoryContext saved = MemoryContextSwitchTo(batch->memory);
	int64		next_run_id = take_run_ids(batch->n);

	for (int i = 0; i < batch->n; i++)
		batch->runs[i].run_id = next_run_id++;
	write_entries(recorder, batch);
	MemoryContextSwitchTo(saved);
}

/*
 * Takes count run ids, in a row; returns the first. A session takes some ahead, so that statements of one lead do not meet at
 * the sequence; what it does not use stays unused.
 */
static int64
take_run_ids(int count)
{
	static Oid	sequence = InvalidOid;
	static int64 next;
	static int64 left = 0;

	if (left < count || sequence != lr_catalog()->run_ids)
	{
		/* if this raises, what is remembered stays as it was */
		next = lr_numbers_take(lr_catalog()->run_ids, Max(count, RUN_IDS_AHEAD));
		sequence = lr_catalog()->run_ids;
		left = Max(count, RUN_IDS_AHEAD);
	}
	left -= count;
	next += count;
	return next - count;
}

/* Ends the recording of a statement. */
void
lr_recorder_end(LrRecorder *recorder)
{
	if (recorder->entries)
		lr_writer_close(recorder->entries);
	if (recorder->states)
		lr_writer_close(recorder->states);
	if (recorder->changed)
		lr_writer_close(recorder->changed);
	if (recorder->tasks)
		lr_writer_close(recorder->tasks);
	if (recorder->events)
		lr_writer_close(recorder->events);
	if (recorder->clocks)
		lr_writer_close(recorder->clocks);
}

/* Opens a table of the record once a statement. */
static LrWriter *
open_once(LrRecorder *recorder, LrWriter **writer, Oid relid)
{
	if (*writer == NULL)
	{
		MemoryContext saved = MemoryContextSwitchTo(recorder->memory);

		*writer = lr_writer_open(relid, recorder->capacity);
		MemoryContextSwitchTo(saved);
	}
	return *writer;
}

static void
write_entries(LrRecorder *recorder, LrBatch *batch)
{
	const LrCatalog *catalog = lr_catalog();
	int			environment_id = lr_environment_id();
	int			key_id = lr_digest_key_id();
	LrWriter   *writer = open_once(recorder, &recorder->entries, lr_entries_partition(batch->as_of));

	for (int i = 0; i < batch->n; i++)
	{
		LrRun	   *run = &batch->runs[i];
		TupleTableSlot *slot;

		if (run->unchanged)
			continue;
		slot = lr_writer_row(writer);
		put(slot, ENTRY_RUN_ID, Int64GetDatum(run->run_id));
		put(slot, ENTRY_LEAD_ID, Int64GetDatum(run->lead_id));
		put(slot, ENTRY_AS_OF, TimestampTzGetDatum(batch->as_of));
		if (run->supersedes)
			put(slot, ENTRY_SUPERSEDES, Int64GetDatum(run->supersedes));
		if (run->turn >= 0)
			put(slot, ENTRY_TURN, Int64GetDatum(run->turn));
		if (!run->isnull[LR_SCORE])
			put(slot, ENTRY_SCORE, Float8GetDatum(DatumGetInt32(run->values[LR_SCORE])));
		put(slot, ENTRY_SOURCE_ID, Int32GetDatum(batch->source->source_id));
		put(slot, ENTRY_POLICY_VERSION_ID, Int32GetDatum(batch->policy->version_id));
		put(slot, ENTRY_ENVIRONMENT_ID, Int32GetDatum(environment_id));
		put(slot, ENTRY_KEY_ID, Int32GetDatum(key_id));
		put(slot, ENTRY_ROUTED_BY, ObjectIdGetDatum(batch->user));
		put(slot, ENTRY_OUTCOME, ObjectIdGetDatum(catalog->outcomes[run->outcome]));
		if (run->rule)
			put(slot, ENTRY_RULE_NO, Int32GetDatum(run->rule->number));
		if (run->pool_id)
			put(slot, ENTRY_POOL_ID, Int32GetDatum(run->pool_id));
		if (run->pool_revision_id)
			put(slot, ENTRY_POOL_REVISION_ID, Int32GetDatum(run->pool_revision_id));
		if (run->owner_id)
			put(slot, ENTRY_OWNER_ID, Int32GetDatum(run->owner_id));
		if (run->trial_id)
			put(slot, ENTRY_TRIAL_ID, Int32GetDatum(run->trial_id));
		put(slot, ENTRY_DURATION_US, Float4GetDatum(batch->total_duration));
		put(slot, ENTRY_ENTRY_NO, Int16GetDatum(run->entry_no + 1));
		put(slot, ENTRY_CAUSE, CharGetDatum(batch->cause));
		put(slot, ENTRY_MODE, CharGetDatum(batch->mode));
		put(slot, ENTRY_REASON_CODE, CStringGetTextDatum(run->reason));
		if (batch->note)
			put(slot, ENTRY_NOTE, CStringGetTextDatum(batch->note));
		put(slot, ENTRY_EVIDENCE, PointerGetDatum(lr_run_evidence(run)));
		if (run->choice)
			put(slot, ENTRY_CHOICE, PointerGetDatum(run->choice));
	}
	lr_writer_flush(writer);
}

/* Returns since when a lead has the state that a run gives it: who goes on waiting in the same overflow keeps the place. */
static TimestampTz
state_since(const LrRun *run)
{
	return run->outcome == LR_PENDING && run->waiting_pool_id != 0 && run->waiting_pool_id == run->pool_id ? run->waiting_since : run->batch->as_of;
}

/* Fills in the state that a run gives its lead. */
static void
put_state(TupleTableSlot *slot, const LrRun *run)
{
	const LrBatch *batch = run->batch;

	put(slot, STATE_LEAD_ID, Int64GetDatum(run->lead_id));
	put(slot, STATE_RUN_ID, Int64GetDatum(run->run_id));
	put(slot, STATE_SINCE, TimestampTzGetDatum(state_since(run)));
	if (!run->isnull[LR_SCORE])
		put(slot, STATE_SCORE, Float8GetDatum(DatumGetInt32(run->values[LR_SCORE])));
	put(slot, STATE_SOURCE_ID, Int32GetDatum(batch->source->source_id));
	put(slot, STATE_POLICY_VERSION_ID, Int32GetDatum(batch->policy->version_id));
	if (run->owner_id)
		put(slot, STATE_OWNER_ID, Int32GetDatum(run->owner_id));
	if (run->pool_id)
		put(slot, STATE_POOL_ID, Int32GetDatum(run->pool_id));
	put(slot, STATE_CHANGED_BY, ObjectIdGetDatum(batch->user));
	put(slot, STATE_OUTCOME, ObjectIdGetDatum(lr_catalog()->outcomes[run->outcome]));
	put(slot, STATE_REASON_CODE, CStringGetTextDatum(run->reason));
	if (!run->isnull[LR_TIER])
		put(slot, STATE_TIER, run->values[LR_TIER]);
	if (run->load != 1)
		put(slot, STATE_LOAD, Int16GetDatum(run->load));
	if (run->expected_value != PG_INT64_MIN)
		put(slot, STATE_EXPECTED_VALUE, Int64GetDatum(run->expected_value));
	if (run->response_due_at)
		put(slot, STATE_RESPONSE_DUE_AT, TimestampTzGetDatum(run->response_due_at));
	if (run->estimated_at)
		put(slot, STATE_ESTIMATED_AT, TimestampTzGetDatum(run->estimated_at));
	if (run->responded_at)
		put(slot, STATE_RESPONDED_AT, TimestampTzGetDatum(run->responded_at));
}

/* Gives leads that waited their new states: nobody had them, so nothing is given back to counters, and the rows are replaced as they are. */
static void
replace_states(LrRecorder *recorder, LrBatch *batch)
{
	for (int i = 0; i < batch->n; i++)
	{
		LrRun	   *run = &batch->runs[i];

		if (run->state_tid == NULL || run->unchanged)
			continue;
		put_state(lr_writer_row(open_once(recorder, &recorder->changed, lr_catalog()->tables[LR_TABLE_LEAD_STATES])), run);
		lr_writer_replace(recorder->changed, run->state_tid);
	}
	if (recorder->changed)
	{
		lr_state_changes++;
		lr_writer_flush(recorder->changed);
	}
}

static void
write_new_states(LrRecorder *recorder, LrBatch *batch)
{
	LrWriter   *writer = open_once(recorder, &recorder->states, lr_catalog()->tables[LR_TABLE_LEAD_STATES]);
	bool	   *taken = palloc(sizeof(bool) * batch->n);
	int			row = 0;

	for (int i = 0; i < batch->n; i++)
	{
		LrRun	   *run = &batch->runs[i];

		if (run->has_state)
			continue;
		put_state(lr_writer_row(writer), run);
	}
	if (!lr_writer_flush_new(writer, taken))
		return;
	for (int i = 0; i < batch->n; i++)
	{
		if (!batch->runs[i].has_state)
			batch->runs[i].known = taken[row++];
	}
	lr_find_states(batch, true);
	for (int i = 0; i < batch->n; i++)
	{
		/* whoever has the id has not committed, or did so behind our snapshot */
		if (batch->runs[i].known && !batch->runs[i].has_state)
			ereport(ERROR,
					errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					errmsg("lead " INT64_FORMAT " is being routed by another transaction", batch->runs[i].lead_id),
					errhint("Try the transaction again."));
	}
}

/* Gives the leads of a batch that have states their new ones, all at once. */
static void
change_states(LrBatch *batch)
{
	static const Oid element_types[] = {INT8OID, INT8OID, TIMESTAMPTZOID, FLOAT8OID, INT4OID, INT4OID, TEXTOID, TEXTOID, TEXTOID, INT4OID, INT8OID,
	TIMESTAMPTZOID, TIMESTAMPTZOID};
	static const Oid array_types[] = {INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, FLOAT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	TEXTARRAYOID, INT4ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, INT4OID, INT4OID, OIDOID};
	LrIdentity	identity;
	Datum	   *columns[lengthof(element_types)];
	bool	   *nulls[lengthof(element_types)];
	Datum		values[lengthof(array_types)];
	int			nest;
	int			n = 0;

	for (int i = 0; i < batch->n; i++)
		n += batch->runs[i].has_state && !batch->runs[i].unchanged && batch->runs[i].state_tid == NULL;
	if (n == 0)
		return;
	for (int c = 0; c < (int) lengthof(element_types); c++)
	{
		columns[c] = palloc0(sizeof(Datum) * n);
		nulls[c] = palloc0(sizeof(bool) * n);
	}
	n = 0;
	for (int i = 0; i < batch->n; i++)
	{
		LrRun	   *run = &batch->runs[i];

		if (!run->has_state || run->unchanged || run->state_tid)
			continue;
		columns[0][n] = Int64GetDatum(run->lead_id);
		columns[1][n] = Int64GetDatum(run->run_id);
		columns[2][n] = TimestampTzGetDatum(state_since(run));
		nulls[3][n] = run->isnull[LR_SCORE];
		columns[3][n] = Float8GetDatum(run->isnull[LR_SCORE] ? 0 : DatumGetInt32(run->values[LR_SCORE]));
		nulls[4][n] = run->owner_id == 0;
		columns[4][n] = Int32GetDatum(run->owner_id);
		nulls[5][n] = run->pool_id == 0;
		columns[5][n] = Int32GetDatum(run->pool_id);
		columns[6][n] = CStringGetTextDatum(lr_outcome_names[run->outcome]);
		columns[7][n] = CStringGetTextDatum(run->reason);
		nulls[8][n] = run->isnull[LR_TIER];
		columns[8][n] = run->values[LR_TIER];
		nulls[9][n] = run->load == 1;
		columns[9][n] = Int32GetDatum(run->load);
		nulls[10][n] = run->expected_value == PG_INT64_MIN;
		columns[10][n] = Int64GetDatum(run->expected_value);
		nulls[11][n] = run->response_due_at == 0;
		columns[11][n] = TimestampTzGetDatum(run->response_due_at);
		nulls[12][n] = run->estimated_at == 0;
		columns[12][n++] = TimestampTzGetDatum(run->estimated_at);
	}
	for (int c = 0; c < (int) lengthof(element_types); c++)
		values[c] = lr_array(columns[c], nulls[c], n, element_types[c]);
	values[13] = Int32GetDatum(batch->source->source_id);
	values[14] = Int32GetDatum(batch->policy->version_id);
	values[15] = ObjectIdGetDatum(batch->user);
	lr_sql_begin(&identity);
	nest = lr_by_index_enter();
	lr_sql_kept(LR_PLAN_CHANGE_STATE,
				"UPDATE leadroute.lead_states s SET run_id = x.run_id, since = x.since, closed_at = NULL, score = x.score, source_id = $14, policy_version_id = $15,"
				" owner_id = x.owner_id, pool_id = x.pool_id, changed_by = $16::pg_catalog.regrole, outcome = x.outcome::leadroute.outcome, reason_code = x.reason,"
				" tier = x.tier, closed_reason = NULL, load = x.load, expected_value = x.expected_value, response_due_at = x.response_due_at, estimated_at = x.estimated_at,"
				" accepted_at = CASE WHEN s.closed_at IS NULL AND s.owner_id = x.owner_id THEN s.accepted_at END,"
				" responded_at = CASE WHEN s.closed_at IS NULL THEN s.responded_at END, finished_at = NULL, result = NULL"
				" FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
				" AS x (lead_id, run_id, since, score, owner_id, pool_id, outcome, reason, tier, load, expected_value, response_due_at, estimated_at)"
				" WHERE s.lead_id = x.lead_id", lengthof(array_types), array_types, values, NULL);
	lr_settings_leave(nest);
	lr_sql_end(&identity);
}

/*
 * Lists leads that no run can decide now: pending, with the reason and whose statement it was. A decision on what a lead was
 * before it changed does not hold any more; a lead that somebody else routed meanwhile is left as it is.
 */
void
lr_record_waiting(int source_id, const int64 *lead_ids, int n, const char *reason, bool changed, TimestampTz at, Oid user)
{
	LrIdentity	identity;
	Oid			types[] = {INT8ARRAYOID, INT4OID, TEXTOID, TIMESTAMPTZOID, OIDOID, BOOLOID};
	Datum		values[6];

	values[0] = lr_int8_array(lead_ids, n);
	values[1] = Int32GetDatum(source_id);
	values[2] = CStringGetTextDatum(reason);
	values[3] = TimestampTzGetDatum(at);
	values[4] = ObjectIdGetDatum(user);
	values[5] = BoolGetDatum(changed);
	lr_sql_begin(&identity);
	lr_sql_kept(LR_PLAN_WAITING,
				"INSERT INTO leadroute.lead_states (lead_id, since, source_id, changed_by, outcome, reason_code)"
				" SELECT l, $4, $2, $5::pg_catalog.regrole, 'pending', $3 FROM unnest($1) AS l"
				" ON CONFLICT (lead_id) DO UPDATE SET source_id = excluded.source_id, since = excluded.since, closed_at = NULL, score = NULL, policy_version_id = NULL,"
				" owner_id = NULL, pool_id = NULL, changed_by = excluded.changed_by, outcome = 'pending', reason_code = excluded.reason_code, tier = NULL,"
				" closed_reason = NULL, load = NULL, expected_value = NULL, response_due_at = NULL, accepted_at = NULL,"
				" responded_at = CASE WHEN lead_states.closed_at IS NULL THEN lead_states.responded_at END, finished_at = NULL,"
				" result = NULL, estimated_at = NULL WHERE CASE WHEN $6 THEN lead_states.closed_reason IS DISTINCT FROM 'merged'"
				" AND (lead_states.finished_at IS NULL OR lead_states.closed_at IS NOT NULL) ELSE lead_states.closed_at IS NOT NULL END", 6, types, values, NULL);
	lr_sql_end(&identity);
	lr_events_of_waiting(lead_ids, n, at);
}

/* Lists those of some leads that were merged into others, whose rows changed since: nothing routes them. */
void
lr_note_merged_changed(const int64 *lead_ids, int n, TimestampTz at)
{
	LrIdentity	identity;
	Oid			types[] = {INT8ARRAYOID, TIMESTAMPTZOID};
	Datum		values[2];

	values[0] = lr_int8_array(lead_ids, n);
	values[1] = TimestampTzGetDatum(at);
	lr_sql_begin(&identity);
	lr_sql("UPDATE leadroute.lead_merges m SET changed_at = $2 FROM leadroute.lead_states s"
		   " WHERE m.merged_lead_id = ANY ($1) AND s.lead_id = m.merged_lead_id AND s.closed_reason = 'merged'", false, 2, types, values, NULL);
	lr_sql_end(&identity);
}

/* ---- which leads have a state already ---- */

/* Finds the states of the leads that may have one (known), and locks them, if asked to, in the order of their ids. */
void
lr_find_states(LrBatch *batch, bool lock)
{
	LrIdentity	identity;
	Oid			types[] = {INT8ARRAYOID};
	Datum		values[1];
	int64	   *known = palloc(sizeof(int64) * Max(batch->n, 1));
	int			nknown = 0;
	uint64		n;

	for (int i = 0; i < batch->n; i++)
	{
		if (batch->runs[i].known)
			known[nknown++] = batch->runs[i].lead_id;
	}
	values[0] = lr_int8_array(known, nknown);
	lr_sql_begin(&identity);
	n = lr_sql(lock ? FIND_STATES " ORDER BY lead_id FOR UPDATE OF s" : FIND_STATES, !lock, 1, types, values, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		bool		open;
		bool		unfinished;
		bool		isnull;
		LrRun	   *run;

		(void) lr_sql_datum(i, 4, &open);
		run = state_found(batch, lr_sql_int64(i, 1, 0), lr_sql_int64(i, 2, 0), lr_sql_int32(i, 3, 0), !open);
		if (run == NULL)
			continue;
		run->merged = DatumGetBool(lr_sql_datum(i, 7, &isnull));
		(void) lr_sql_datum(i, 8, &unfinished);
		run->finished = !unfinished && open;
		run->in_hand = open && DatumGetBool(lr_sql_datum(i, 13, &isnull));
		if (open && lr_sql_int32(i, 5, 0) != 0)
		{
			run->waiting_pool_id = lr_sql_int32(i, 5, 0);
			run->waiting_since = DatumGetTimestampTz(lr_sql_datum(i, 6, &isnull));
		}
		if (lr_sql_int32(i, 9, 0) != 0)
			run->counted = counted_state(batch, i, open && unfinished);
	}
	lr_sql_end(&identity);
}

/* Returns what a row of the result counts for who has the lead. */
static LrState *
counted_state(LrBatch *batch, uint64 row, bool open)
{
	LrState    *state = MemoryContextAllocZero(batch->memory, sizeof(LrState));
	bool		isnull;
	Datum		load = lr_sql_datum(row, 11, &isnull);

	state->load = isnull ? 1 : DatumGetInt16(load);
	state->assigned = true;
	state->open = open;
	state->since = DatumGetTimestampTz(lr_sql_datum(row, 6, &isnull));
	state->owner_id = lr_sql_int32(row, 9, 0);
	state->pool_id = lr_sql_int32(row, 10, 0);
	state->expected_value = lr_sql_int64(row, 12, 0);
	return state;
}

/* Notes a lead's state; returns its run. An id is one lead's: one that another table's open lead has is taken. */
static LrRun *
state_found(LrBatch *batch, int64 lead_id, int64 run_id, int source_id, bool closed)
{
	for (int i = 0; i < batch->n; i++)
	{
		if (batch->runs[i].lead_id != lead_id)
			continue;
		if (source_id != batch->source->source_id && !closed)
			ereport(ERROR,
					errcode(ERRCODE_UNIQUE_VIOLATION),
					errmsg("lead id " INT64_FORMAT " belongs to a lead of another table", lead_id),
					errhint("Let the key default from leadroute.lead_ids, or give an id that no attached table uses."));
		batch->runs[i].has_state = true;
		batch->runs[i].supersedes = run_id;
		return &batch->runs[i];
	}
	return NULL;
}
