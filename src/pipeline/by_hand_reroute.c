/*
 * by_hand_reroute.c: reroute_leads(): many leads are decided again, after a mistake; and undo_reroute().
 *
 * First the leads are found: open ones for which the filter holds, table by table, in the order of their ids. Then their states are
 * locked, all in one order, and looked at again: what is closed meanwhile drops out, what somebody has accepted, or contacted, or decided
 * by hand is left alone unless told otherwise. The others are routed, or, to show what would come out, decided without drawing or writing.
 * A lead stays where it is unless outcome or pool are others now, or its owner is not an available member any more (stays() in routing.c):
 * what a mistake did not touch is not dealt out again.
 *
 * The filter is a condition as segments are. It could ask anything of rows (email LIKE 'a%'), and the leads that are shown are the answer:
 * so whoever filters by what is not classed plain has to have the right to read the table.
 *
 * Each move is a row of lead_acts with the decisions before and behind it, under the number of the batch: that is what undoing goes by.
 */
#include "pipeline/by_hand.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"

PG_FUNCTION_INFO_V1(leadroute_reroute_leads);

/* Leads whose rows are read at a time. */
#define CHUNK 1000

/* Columns of the result. */
enum
{
	LEAD_ID, ACTION, OLD_OWNER, NEW_OWNER, OLD_OUTCOME, NEW_OUTCOME, OLD_POOL, NEW_POOL, REASON_CODE, DECISION_ID, BATCH_ID, N_COLUMNS
};

typedef struct Ids
{
	int64	   *ids;
	Size		n;
	Size		allocated;
} Ids;

typedef struct Rerouting
{
	ReturnSetInfo *result;
	MemoryContext memory;		/* of one row of the result */
	LrSegment  *filter;
	char	   *policy;			/* or NULL */
	char	   *reason;
	bool		dry;
	bool		touched;		/* leads that people have begun to work on, too */
	Oid			user;
	int64		batch_id;		/* 0 while nothing moved */
	LrLeadState *states;		/* ascending by lead id */
	int			n;
} Rerouting;

static void find_leads(Rerouting *work, Ids *found);
static void check_may_filter(const Rerouting *work, const LrSource *source);
static int	next_chunk(int source_id, int64 after, int64 *lead_ids);
static void filter_chunk(const Rerouting *work, const LrSource *source, const int64 *lead_ids, int n, Ids *found);
static List *all_sources(void);
static void add_id(Ids *ids, int64 id);
static const char *left_alone(const Rerouting *work, const LrLeadState *state);
static int	compare_sources_of(const void *a, const void *b, void *argument);
static void decided(const LrRun *run, void *argument);
static int64 take_batch_id(void);
static LrLeadState *state_of(const Rerouting *work, int64 lead_id);
static void put_row(Rerouting *work, const LrLeadState *state, const char *action, const LrRun *run);

/* Decides many leads again; see the SQL comment. */
Datum
leadroute_reroute_leads(PG_FUNCTION_ARGS)
{
	Rerouting	work = {.result = (ReturnSetInfo *) fcinfo->resultinfo,.user = GetUserId()};
	LrMistakes	mistakes = {NIL};
	Ids			found = {.allocated = CHUNK};
	Ids			moving = {0};
	List	   *left = NIL;
	ListCell   *cell;
	char	   *filter;

	lr_refuse_nulls_before(fcinfo, 1);
	if (PG_ARGISNULL(2) || PG_ARGISNULL(3) || PG_ARGISNULL(4))
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("reason, dry_run and accepted must not be null"),
				errhint("Give a value, or leave them out."));
	InitMaterializedSRF(fcinfo, 0);
	filter = TextDatumGetCString(PG_GETARG_DATUM(0));
	work.policy = PG_ARGISNULL(1) ? NULL : lr_checked_name(PG_GETARG_DATUM(1), "policy");
	work.reason = TextDatumGetCString(PG_GETARG_DATUM(2));
	work.dry = PG_GETARG_BOOL(3);
	work.touched = PG_GETARG_BOOL(4);
	lr_require_reason(!work.dry, work.reason);
	lr_segment_check(filter, NULL, "the filter", &mistakes);
	lr_mistakes_raise_hint(&mistakes, "the filter", "Write a condition over attributes, such as country = 'DE'; true is every lead.");
	work.filter = lr_segment_make(filter);
	work.memory = AllocSetContextCreate(CurrentMemoryContext, "leadroute rerouted lead", ALLOCSET_SMALL_SIZES);

	found.ids = palloc(sizeof(int64) * found.allocated);
	find_leads(&work, &found);
	work.states = lr_lead_states_find(found.ids, (int) found.n, !work.dry, &work.n);
	moving.ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int64) * Max(work.n, 1));
	moving.allocated = Max(work.n, 1);
	for (int i = 0; i < work.n; i++)
	{
		const LrLeadState *state = &work.states[i];
		const char *why;

		if (state->gone || state->finished_at || state->run_id == 0)
			continue;
		why = left_alone(&work, state);
		if (why)
			put_row(&work, state, why, NULL);
		else
			add_id(&moving, i);
	}
	/* those of one table together */
	qsort_arg(moving.ids, moving.n, sizeof(int64), compare_sources_of, work.states);
	for (Size i = 0; i < moving.n; i++)
		moving.ids[i] = work.states[moving.ids[i]].lead_id;
	lr_route_by_ids(moving.ids, (int) moving.n, &(LrByIds) {.cause = 'b',.note = work.reason,.policy = work.policy,.locked = true,.dry = work.dry,
					.left = &left,.done = decided,.argument = &work});
	foreach(cell, left)
		put_row(&work, state_of(&work, moving.ids[lfirst_int(cell)]), "cannot be routed", NULL);
	return (Datum) 0;
}

/* ---- finding leads ---- */

/* Finds the open leads for which the filter holds. */
static void
find_leads(Rerouting *work, Ids *found)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "leadroute leads to filter", ALLOCSET_DEFAULT_SIZES);
	List	   *sources = all_sources();
	ListCell   *cell;

	foreach(cell, sources)
	{
		const LrSource *source = lr_source_by_id(lfirst_int(cell));
		int64		lead_ids[CHUNK];
		int64		last = PG_INT64_MIN;
		int			n;

		if (source == NULL)
			continue;
		check_may_filter(work, source);
		while ((n = next_chunk(source->source_id, last, lead_ids)) > 0)
		{
			MemoryContext saved = MemoryContextSwitchTo(memory);

			CHECK_FOR_INTERRUPTS();
			filter_chunk(work, source, lead_ids, n, found);
			last = lead_ids[n - 1];
			MemoryContextSwitchTo(saved);
			MemoryContextReset(memory);
		}
	}
	MemoryContextDelete(memory);
}

/* Raises 42501 if the filter asks for what the caller may not read: the leads that are shown would tell. */
static void
check_may_filter(const Rerouting *work, const LrSource *source)
{
	const Bitmapset *reads = lr_segment_reads(work->filter);
	int			attribute = -1;

	if (pg_class_aclcheck(source->root, work->user, ACL_SELECT) == ACLCHECK_OK && check_enable_rls(source->root, work->user, true) != RLS_ENABLED)
		return;
	while ((attribute = bms_next_member(reads, attribute)) >= 0)
	{
		if (attribute < LR_N_ATTRIBUTES && source->classes[attribute] != LR_CLASS_PLAIN)
			ereport(ERROR,
					errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("permission denied to filter leads by %s", lr_facts[attribute].name),
					errdetail("It is not classed plain in table %s, which you may not read.", get_rel_name(source->root)),
					errhint("Filter by plain attributes, or have SELECT on the table granted to you."));
	}
}

/* Reads the ids of the next open leads of a table that were decided; returns how many. */
static int
next_chunk(int source_id, int64 after, int64 *lead_ids)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID, INT8OID, INT4OID};
	Datum		values[] = {Int32GetDatum(source_id), Int64GetDatum(after), Int32GetDatum(CHUNK)};
	int			n;

	lr_sql_begin(&identity);
	n = (int) lr_sql("SELECT lead_id FROM leadroute.lead_states WHERE source_id = $1 AND lead_id > $2 AND closed_at IS NULL AND finished_at IS NULL"
					 " AND run_id IS NOT NULL AND (outcome <> 'pending' OR reason_code IN ('overflow', 'owner_left')) ORDER BY lead_id LIMIT $3",
					 true, lengthof(types), types, values, NULL);
	for (int i = 0; i < n; i++)
		lead_ids[i] = lr_sql_int64(i, 1, 0);
	lr_sql_end(&identity);
	return n;
}

/* Adds those leads of a chunk for whose rows the filter holds. */
static void
filter_chunk(const Rerouting *work, const LrSource *source, const int64 *lead_ids, int n, Ids *found)
{
	HeapTuple  *rows = palloc(sizeof(HeapTuple) * n);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(source->desc, &TTSOpsHeapTuple);
	LrRun		reading = {.values = palloc0(sizeof(Datum) * LR_N_FACTS),.isnull = palloc(sizeof(bool) * LR_N_FACTS)};

	lr_leads_fetch(source, lead_ids, n, rows);
	for (int i = 0; i < n; i++)
	{
		if (rows[i] == NULL)
			continue;
		memset(reading.isnull, true, sizeof(bool) * LR_N_FACTS);
		lr_run_set(&reading, LR_AS_OF, TimestampTzGetDatum(GetCurrentTimestamp()));
		ExecForceStoreHeapTuple(rows[i], slot, false);
		lr_lead_read(source, slot, &reading);
		if (lr_segment_holds(work->filter, &reading))
			add_id(found, lead_ids[i]);
	}
	ExecDropSingleTupleTableSlot(slot);
}

static List *
all_sources(void)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	List	   *sources = NIL;
	uint64		n;

	lr_sql_begin(&identity);
	n = lr_sql("SELECT source_id FROM leadroute.attached_tables WHERE relation IS NOT NULL ORDER BY source_id", true, 0, NULL, NULL, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		MemoryContext saved = MemoryContextSwitchTo(memory);

		sources = lappend_int(sources, lr_sql_int32(i, 1, 0));
		MemoryContextSwitchTo(saved);
	}
	lr_sql_end(&identity);
	return sources;
}

static void
add_id(Ids *ids, int64 id)
{
	if (ids->n == ids->allocated)
	{
		ids->allocated *= 2;
		ids->ids = repalloc_huge(ids->ids, sizeof(int64) * ids->allocated);
	}
	ids->ids[ids->n++] = id;
}

/* ---- moving them ---- */

/* Says why a lead is left alone, or returns NULL. */
static const char *
left_alone(const Rerouting *work, const LrLeadState *state)
{
	if (work->touched)
		return NULL;
	if (state->accepted_at)
		return "left: accepted";
	if (state->responded_at)
		return "left: contacted";
	return state->by_person ? "left: decided by a person" : NULL;
}

/* Compares places in an array of states by table, then by lead. */
static int
compare_sources_of(const void *a, const void *b, void *argument)
{
	const LrLeadState *states = argument;
	int64		one = *(const int64 *) a;
	int64		other = *(const int64 *) b;

	if (states[one].source_id != states[other].source_id)
		return states[one].source_id < states[other].source_id ? -1 : 1;
	return one < other ? -1 : one > other;
}

static void
decided(const LrRun *run, void *argument)
{
	Rerouting  *work = argument;
	const LrLeadState *state = state_of(work, run->lead_id);

	if (run->unchanged)
	{
		put_row(work, state, "stays", run);
		return;
	}
	if (!work->dry)
	{
		if (work->batch_id == 0)
			work->batch_id = take_batch_id();
		lr_lead_act(&(LrLeadAct) {.act = "reroute",.lead_id = run->lead_id,.run_id = state->run_id,.new_run_id = run->run_id,
					.owner_id = state->owner_id,.reason = work->reason,.batch_id = work->batch_id,.user = work->user});
	}
	put_row(work, state, work->dry ? "would move" : "moved", run);
}

static int64
take_batch_id(void)
{
	LrIdentity	identity;
	int64		batch_id;

	lr_sql_begin(&identity);
	lr_sql("SELECT nextval('leadroute.lead_batch_ids')", false, 0, NULL, NULL, NULL);
	batch_id = lr_sql_int64(0, 1, 0);
	lr_sql_end(&identity);
	return batch_id;
}

static LrLeadState *
state_of(const Rerouting *work, int64 lead_id)
{
	int			low = 0;
	int			high = work->n - 1;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (work->states[middle].lead_id < lead_id)
			low = middle + 1;
		else
			high = middle;
	}
	Assert(work->states[low].lead_id == lead_id);
	return &work->states[low];
}

/* run: what was decided; NULL: nothing was. */
static void
put_row(Rerouting *work, const LrLeadState *state, const char *action, const LrRun *run)
{
	MemoryContext saved = MemoryContextSwitchTo(work->memory);
	const LrCatalog *catalog = lr_catalog();
	bool		moved = run && !run->unchanged;
	LrOutcome	outcome = moved ? run->outcome : state->outcome;
	Datum		values[N_COLUMNS];
	bool		nulls[N_COLUMNS] = {false};
	char	   *owner;
	char	   *pool;

	values[LEAD_ID] = Int64GetDatum(state->lead_id);
	lr_put_name(values, nulls, ACTION, action);
	lr_names_of(state->owner_id, state->pool_id, &owner, &pool);
	lr_put_name(values, nulls, OLD_OWNER, owner);
	lr_put_name(values, nulls, OLD_POOL, pool);
	if (moved)
		lr_names_of(run->owner_id, run->pool_id, &owner, &pool);
	lr_put_name(values, nulls, NEW_OWNER, owner);
	lr_put_name(values, nulls, NEW_POOL, pool);
	values[OLD_OUTCOME] = ObjectIdGetDatum(catalog->outcomes[state->outcome]);
	values[NEW_OUTCOME] = ObjectIdGetDatum(catalog->outcomes[outcome]);
	lr_put_name(values, nulls, REASON_CODE, moved ? run->reason : state->reason_code);
	values[DECISION_ID] = Int64GetDatum(moved ? run->run_id : state->run_id);
	nulls[DECISION_ID] = moved && work->dry;
	values[BATCH_ID] = Int64GetDatum(work->batch_id);
	nulls[BATCH_ID] = !moved || work->dry;
	tuplestore_putvalues(work->result->setResult, work->result->setDesc, values, nulls);
	MemoryContextSwitchTo(saved);
	MemoryContextReset(work->memory);
}
