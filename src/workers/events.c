/*
 * events.c: writing events: what happened to leads, for whoever wants to know.
 *
 * Events are written by the transactions that cause them, and only of the kinds that somebody consumes or subscribes to. What is wanted is
 * remembered by the session until the tables that say so change; where nobody wants anything, the insert path compares two numbers.
 *
 * The decisions of a batch become rows of event_arrivals together. A row has ids and codes in columns; words are made of them by whoever
 * gives the events their positions (number_events()). Ids are taken while the states of the leads are locked, never ahead: so those of one
 * lead ascend in the order in which things happened, which is the order of positions.
 */
#include "workers/workers.h"

#include "catalog/pg_type.h"
#include "pipeline/by_hand.h"
#include "provenance/provenance.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "writer.h"

PG_FUNCTION_INFO_V1(leadroute_event_wanted);

/* The kinds that are written here; others are SQL's. */
typedef enum Kind
{
	KIND_WAITING = LR_PENDING,	/* those of decisions go by their outcome */
	KIND_ASSIGNED = LR_ASSIGNED,
	KIND_NURTURE = LR_NURTURE,
	KIND_REJECTED = LR_REJECTED,
	KIND_NO_RULE = LR_NO_RULE,
	KIND_QUARANTINED = LR_QUARANTINED,
	KIND_POOL_EMPTY,
	KIND_REMOVED,
	KIND_ACCEPTED,
	KIND_DECLINED,
	KIND_RESPONDED,
	KIND_CLOSED,
	KIND_REOPENED,
	N_KINDS
} Kind;

static const char *const kind_names[N_KINDS] = {
	[KIND_WAITING] = "lead.waiting",
	[KIND_ASSIGNED] = "lead.assigned",
	[KIND_NURTURE] = "lead.nurture",
	[KIND_REJECTED] = "lead.rejected",
	[KIND_NO_RULE] = "lead.no_rule",
	[KIND_QUARANTINED] = "lead.quarantined",
	[KIND_POOL_EMPTY] = "pool.empty",
	[KIND_REMOVED] = "lead.removed",
	[KIND_ACCEPTED] = "lead.accepted",
	[KIND_DECLINED] = "lead.declined",
	[KIND_RESPONDED] = "lead.responded",
	[KIND_CLOSED] = "lead.closed",
	[KIND_REOPENED] = "lead.reopened",
};

/* The columns of leadroute.event_arrivals. */
enum
{
	EVENT_ID, EVENT_AT, EVENT_LEAD_ID, EVENT_RUN_ID, EVENT_SCORE, EVENT_SOURCE_ID, EVENT_POLICY_VERSION_ID, EVENT_OWNER_ID, EVENT_POOL_ID,
	EVENT_CAUSE, EVENT_KIND, EVENT_REASON_CODE, EVENT_TIER, EVENT_DATA
};

/* A pool in which nobody could take leads of the batch in hand. */
typedef struct EmptyPool
{
	int			pool_id;
	const char *reason;
	int			nleads;
} EmptyPool;

/* What is wanted, as far as this session has been told. */
static struct
{
	bool		known;
	uint64		generation;
	bool		of_batches;		/* one of those that batches write */
	bool		kinds[N_KINDS];
	MemoryContext memory;
	List	   *names;			/* of all kinds that are wanted */
} wanted;

int			lr_event_retention = 7 * 24 * 60;
int			lr_stuck_after = 3600;
int			lr_no_rule_window = 900;
int			lr_no_rule_decisions = 100;
double		lr_no_rule_rate = 0.2;

static void find_wanted(void);
static void read_wanted(uint64 generation);
static bool counts(const LrRun *run);
static List *note_empty(List *pools, const LrRun *run);
static void put_event(LrWriter *writer, const LrRun *run, int64 event_id);
static void put_empty_pool(LrWriter *writer, const LrBatch *batch, const EmptyPool *pool, int64 event_id);

static inline void
put(TupleTableSlot *slot, int column, Datum value)
{
	slot->tts_values[column] = value;
	slot->tts_isnull[column] = false;
}

/* Registers settings. */
void
lr_events_init(void)
{
	DefineCustomIntVariable("leadroute.event_retention",
							"How long events and alerts are kept at most.",
							"Before that, events go when all consumers have passed them.",
							&lr_event_retention, 7 * 24 * 60, 1, INT_MAX, PGC_SIGHUP, GUC_UNIT_MIN, NULL, NULL, NULL);
	DefineCustomIntVariable("leadroute.stuck_after",
							"How long a lead may be pending before an event run.stuck says so.",
							NULL,
							&lr_stuck_after, 3600, 1, INT_MAX, PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("leadroute.no_rule_window",
							"The time over which the share of decisions without a rule is taken.",
							"Of the latest 10,000 decisions, those that are not older.",
							&lr_no_rule_window, 900, 1, INT_MAX, PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("leadroute.no_rule_decisions",
							"How many decisions it takes for their share without a rule to mean something.",
							NULL,
							&lr_no_rule_decisions, 100, 1, 10000, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomRealVariable("leadroute.no_rule_rate",
							 "The share of decisions without a rule, 0 to 1, above which an event no_rule.rate says so.",
							 NULL,
							 &lr_no_rule_rate, 0.2, 0, 1, PGC_SUSET, 0, NULL, NULL, NULL);
}

/* Tells whether anybody wants events of a kind; see the SQL comment. */
Datum
leadroute_event_wanted(PG_FUNCTION_ARGS)
{
	char	   *kind = text_to_cstring(PG_GETARG_TEXT_PP(0));
	ListCell   *cell;

	find_wanted();
	foreach(cell, wanted.names)
	{
		if (strcmp(lfirst(cell), kind) == 0)
			PG_RETURN_BOOL(true);
	}
	PG_RETURN_BOOL(false);
}

/* ---- what is wanted ---- */

static void
find_wanted(void)
{
	uint64		generation = lr_table_generation(LR_TABLE_EVENT_CONSUMERS) + lr_table_generation(LR_TABLE_EVENT_SUBSCRIPTIONS);

	if (unlikely(!wanted.known || wanted.generation != generation))
		read_wanted(generation);
}

static void
read_wanted(uint64 generation)
{
	LrIdentity	identity;
	uint64		n;
	MemoryContext saved;

	wanted.known = false;
	if (wanted.memory == NULL)
		wanted.memory = AllocSetContextCreate(CacheMemoryContext, "leadroute events wanted", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(wanted.memory);
	wanted.names = NIL;
	wanted.of_batches = false;
	memset(wanted.kinds, 0, sizeof(wanted.kinds));
	lr_sql_begin(&identity);
	n = lr_sql("SELECT k.kind FROM leadroute.event_kinds k WHERE EXISTS (SELECT FROM leadroute.event_consumers c WHERE leadroute.kind_among(k.kind, c.kinds))"
			   " OR EXISTS (SELECT FROM leadroute.event_subscriptions s WHERE leadroute.kind_among(k.kind, s.kinds))", true, 0, NULL, NULL, NULL);
	saved = MemoryContextSwitchTo(wanted.memory);
	for (uint64 row = 0; row < n; row++)
	{
		char	   *name = lr_sql_text(row, 1);

		wanted.names = lappend(wanted.names, pstrdup(name));
		for (int i = 0; i < N_KINDS; i++)
		{
			if (strcmp(name, kind_names[i]) != 0)
				continue;
			wanted.kinds[i] = true;
			wanted.of_batches |= i <= KIND_POOL_EMPTY;
		}
	}
	MemoryContextSwitchTo(saved);
	lr_sql_end(&identity);
	wanted.generation = generation;
	wanted.known = true;
}

/* ---- decisions ---- */

/*
 * Writes the events of a batch that was recorded just now, whose states are locked. What was decided while the table is observed nobody acts
 * on, so nobody is told.
 */
void
lr_events_of_batch(LrRecorder *recorder, LrBatch *batch)
{
	List	   *empty = NIL;
	ListCell   *cell;
	int			n = 0;
	int64		next;
	MemoryContext saved;

	find_wanted();
	if (likely(!wanted.of_batches) || batch->mode == LR_MODE_OBSERVE)
		return;
	for (int i = 0; i < batch->n; i++)
	{
		const LrRun *run = &batch->runs[i];

		n += counts(run) ? 1 : 0;
		if (wanted.kinds[KIND_POOL_EMPTY] && !run->unchanged && run->pool_id != 0 && run->rule && run->owner_id == 0)
			empty = note_empty(empty, run);
	}
	if (n + list_length(empty) == 0)
		return;
	if (recorder->events == NULL)
	{
		saved = MemoryContextSwitchTo(recorder->memory);
		recorder->events = lr_writer_open(lr_catalog()->tables[LR_TABLE_EVENT_ARRIVALS], recorder->capacity);
		MemoryContextSwitchTo(saved);
	}
	next = lr_numbers_take(lr_catalog()->event_ids, n + list_length(empty));
	for (int i = 0; i < batch->n; i++)
	{
		if (counts(&batch->runs[i]))
			put_event(recorder->events, &batch->runs[i], next++);
	}
	foreach(cell, empty)
		put_empty_pool(recorder->events, batch, lfirst(cell), next++);
	lr_writer_flush(recorder->events);
}

/* Tells whether a run becomes an event of its own. */
static bool
counts(const LrRun *run)
{
	return !run->unchanged && wanted.kinds[run->outcome];
}

/* Counts a lead that met a pool in which nobody could take it. */
static List *
note_empty(List *pools, const LrRun *run)
{
	EmptyPool  *pool;
	ListCell   *cell;

	if (run->outcome != LR_NO_RULE && run->outcome != LR_PENDING)
		return pools;
	foreach(cell, pools)
	{
		pool = lfirst(cell);
		if (pool->pool_id == run->pool_id && strcmp(pool->reason, run->reason) == 0)
		{
			pool->nleads++;
			return pools;
		}
	}
	pool = palloc(sizeof(EmptyPool));
	*pool = (EmptyPool) {.pool_id = run->pool_id,.reason = run->reason,.nleads = 1};
	return lappend(pools, pool);
}

static void
put_event(LrWriter *writer, const LrRun *run, int64 event_id)
{
	const LrBatch *batch = run->batch;
	TupleTableSlot *slot = lr_writer_row(writer);

	put(slot, EVENT_ID, Int64GetDatum(event_id));
	put(slot, EVENT_AT, TimestampTzGetDatum(batch->as_of));
	put(slot, EVENT_LEAD_ID, Int64GetDatum(run->lead_id));
	put(slot, EVENT_RUN_ID, Int64GetDatum(run->run_id));
	if (!run->isnull[LR_SCORE])
		put(slot, EVENT_SCORE, Float8GetDatum(DatumGetInt32(run->values[LR_SCORE])));
	put(slot, EVENT_SOURCE_ID, Int32GetDatum(batch->source->source_id));
	put(slot, EVENT_POLICY_VERSION_ID, Int32GetDatum(batch->policy->version_id));
	if (run->owner_id)
		put(slot, EVENT_OWNER_ID, Int32GetDatum(run->owner_id));
	if (run->pool_id)
		put(slot, EVENT_POOL_ID, Int32GetDatum(run->pool_id));
	put(slot, EVENT_CAUSE, CharGetDatum(batch->cause));
	put(slot, EVENT_KIND, CStringGetTextDatum(kind_names[run->outcome]));
	put(slot, EVENT_REASON_CODE, CStringGetTextDatum(run->reason));
	if (!run->isnull[LR_TIER])
		put(slot, EVENT_TIER, run->values[LR_TIER]);
}

static void
put_empty_pool(LrWriter *writer, const LrBatch *batch, const EmptyPool *pool, int64 event_id)
{
	TupleTableSlot *slot = lr_writer_row(writer);
	char	   *data = psprintf("{\"leads\": %d}", pool->nleads);

	put(slot, EVENT_ID, Int64GetDatum(event_id));
	put(slot, EVENT_AT, TimestampTzGetDatum(batch->as_of));
	put(slot, EVENT_SOURCE_ID, Int32GetDatum(batch->source->source_id));
	put(slot, EVENT_POLICY_VERSION_ID, Int32GetDatum(batch->policy->version_id));
	put(slot, EVENT_POOL_ID, Int32GetDatum(pool->pool_id));
	put(slot, EVENT_CAUSE, CharGetDatum(batch->cause));
	put(slot, EVENT_KIND, CStringGetTextDatum(kind_names[KIND_POOL_EMPTY]));
	put(slot, EVENT_REASON_CODE, CStringGetTextDatum(pool->reason));
	put(slot, EVENT_DATA, DirectFunctionCall1(jsonb_in, CStringGetDatum(data)));
}

/* ---- others ---- */

/* Writes the events of leads that were listed as waiting since a moment, without a run. */
void
lr_events_of_waiting(const int64 *lead_ids, int n, TimestampTz at)
{
	LrIdentity	identity;
	Oid			types[] = {INT8ARRAYOID, TIMESTAMPTZOID};
	Datum		values[2];

	find_wanted();
	if (!wanted.kinds[KIND_WAITING])
		return;
	values[0] = lr_int8_array(lead_ids, n);
	values[1] = TimestampTzGetDatum(at);
	lr_sql_begin(&identity);
	lr_sql_kept(LR_PLAN_WAITING_EVENTS,
				"INSERT INTO leadroute.event_arrivals (kind, at, lead_id, run_id, source_id, reason_code)"
				" SELECT 'lead.waiting', $2, s.lead_id, s.run_id, s.source_id, s.reason_code FROM leadroute.lead_states s"
				" WHERE s.lead_id = ANY ($1) AND s.outcome = 'pending' AND s.since = $2", 2, types, values, NULL);
	lr_sql_end(&identity);
}

/* Writes the events of leads whose rows went. */
void
lr_events_of_removed(const int64 *lead_ids, int n)
{
	LrIdentity	identity;
	Oid			types[] = {INT8ARRAYOID};
	Datum		values[1];

	find_wanted();
	if (!wanted.kinds[KIND_REMOVED])
		return;
	values[0] = lr_int8_array(lead_ids, n);
	lr_sql_begin(&identity);
	lr_sql("INSERT INTO leadroute.event_arrivals (kind, lead_id, run_id, source_id) SELECT 'lead.removed', s.lead_id, s.run_id, s.source_id"
		   " FROM leadroute.lead_states s WHERE s.lead_id = ANY ($1) AND s.closed_reason = 'deleted' ORDER BY s.lead_id", false, 1, types, values, NULL);
	lr_sql_end(&identity);
}

/* Writes the event of what somebody did with a lead. Acts that decide are told by their decisions. */
void
lr_event_of_act(const LrLeadAct *act)
{
	static const struct
	{
		const char *act;
		Kind		kind;
	}			kinds[] = {{"accept", KIND_ACCEPTED}, {"decline", KIND_DECLINED}, {"respond", KIND_RESPONDED}, {"close", KIND_CLOSED}, {"reopen", KIND_REOPENED}};
	LrIdentity	identity;
	Oid			types[] = {TEXTOID, INT8OID, INT8OID, TEXTOID, INT4OID, TEXTOID};
	Datum		values[lengthof(types)];
	char		nulls[lengthof(types)];
	Kind		kind = N_KINDS;

	find_wanted();
	for (int i = 0; i < (int) lengthof(kinds); i++)
	{
		if (strcmp(kinds[i].act, act->act) == 0)
			kind = kinds[i].kind;
	}
	if (kind == N_KINDS || !wanted.kinds[kind])
		return;
	memset(nulls, ' ', sizeof(nulls));
	values[0] = CStringGetTextDatum(kind_names[kind]);
	values[1] = Int64GetDatum(act->lead_id);
	values[2] = Int64GetDatum(act->run_id);
	nulls[2] = act->run_id ? ' ' : 'n';
	/* reasons but codes are words of people: they stay on record */
	values[3] = kind == KIND_CLOSED ? CStringGetTextDatum(act->reason) : (Datum) 0;
	nulls[3] = kind == KIND_CLOSED ? ' ' : 'n';
	values[4] = Int32GetDatum(act->owner_id);
	nulls[4] = act->owner_id ? ' ' : 'n';
	values[5] = kind == KIND_DECLINED ? CStringGetTextDatum(act->reason) : (Datum) 0;
	nulls[5] = kind == KIND_DECLINED ? ' ' : 'n';
	lr_sql_begin(&identity);
	lr_sql_kept(LR_PLAN_EMIT_EVENT,
				"SELECT leadroute.emit_event($1, $2, $3, CASE WHEN $4 IS NOT NULL THEN pg_catalog.jsonb_build_object('result', $4) END, $5, NULL, NULL, $6)",
				lengthof(types), types, values, nulls);
	lr_sql_end(&identity);
}
