/*
 * readings.c: what was read of a pool's members beyond the revision, and its record.
 *
 * A lead that is given away by counters is decided on what they were at that moment. Written out for each lead, a pool of a
 * thousand members would fill the record; so a batch writes one state, of what changed since the state that the session wrote
 * last, and a lead refers to it with its place in the batch: what holds for the lead is all that was read up to there. Chains
 * of states are short. What a transaction wrote that is rolled back, no later state builds on.
 *
 * The compact form: for each change the distance in position from the one before, the member's place, and the reading; whole
 * numbers are varints.
 */
#include "assignment/assignment.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "provenance/provenance.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "writer.h"

/* States that build on each other. */
#define MAX_DEPTH 32

/* The columns of leadroute.pool_states. */
enum
{
	STATE_ID, STATE_BASE_ID, STATE_REVISION_ID, STATE_READINGS
};

/* The state of a revision that this session wrote last. */
typedef struct Known
{
	Oid			relid;			/* of leadroute.pool_states: an extension made anew counts anew */
	int			pool_id;
	int			revision_id;
	int64		state_id;
	int			depth;
	int			position;
	LrReading  *now;
} Known;

static List *known_states = NIL;	/* in known_memory */
static MemoryContext known_memory = NULL;

static void transaction_event(XactEvent event, void *argument);
static void subtransaction_event(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *argument);
static void forget_known(void);
static Known *find_known(const LrPool *pool);
static void keep_known(const LrReadings *readings);
static void put_event(LrReadings *readings, int place, const LrReading *reading, int position);
static bool same_reading(const LrReading *a, const LrReading *b);
static void apply_events(LrReading *now, int n, const char *data, int length, int position);
static void load_state(LrReading *now, int n, int64 state_id, int position, int depth);

/* Registers for the ends of transactions. */
void
lr_readings_init(void)
{
	RegisterXactCallback(transaction_event, NULL);
	RegisterSubXactCallback(subtransaction_event, NULL);
}

/* Begins to read the members of a pool that is on record, in the current memory context: with what is known from before. */
LrReadings *
lr_readings_begin(LrPool *pool)
{
	LrReadings *readings = palloc0(sizeof(LrReadings));
	Known	   *known = find_known(pool);
	Size		size = sizeof(LrReading) * (pool->nmembers + 1);

	readings->pool = pool;
	readings->now = palloc0(size);
	if (known)
	{
		memcpy(readings->now, known->now, size);
		if (known->depth < MAX_DEPTH)
		{
			readings->base_id = known->state_id;
			readings->depth = known->depth + 1;
			readings->position = known->position;
		}
		else
		{
			for (int i = 0; i <= pool->nmembers; i++)
			{
				static const LrReading nothing = {0};

				if (!same_reading(&readings->now[i], &nothing))
					put_event(readings, i, &readings->now[i], 0);
			}
		}
	}
	return readings;
}

/* Notes what was read of a member: it holds from a position in the batch on, counted from 1. */
void
lr_readings_set(LrReadings *readings, int place, const LrReading *reading, int position)
{
	if (same_reading(&readings->now[place], reading))
		return;
	readings->now[place] = *reading;
	put_event(readings, place, reading, position);
}

/*
 * Writes what was read, if there is anything new; state_id is then what the batch's decisions refer to, with their positions.
 * Where there is nothing new it is the state before, with its own last position, or 0.
 */
void
lr_readings_end(LrReadings *readings)
{
	LrWriter   *writer;
	TupleTableSlot *slot;
	bytea	   *bytes;

	if (readings->events == NULL)
	{
		readings->state_id = readings->base_id;
		return;
	}
	readings->state_id = lr_numbers_take(lr_catalog()->pool_state_ids, 1);
	bytes = palloc(VARHDRSZ + readings->events->len);
	SET_VARSIZE(bytes, VARHDRSZ + readings->events->len);
	memcpy(VARDATA(bytes), readings->events->data, readings->events->len);
	writer = lr_writer_open(lr_catalog()->tables[LR_TABLE_POOL_STATES], 1);
	slot = lr_writer_row(writer);
	slot->tts_values[STATE_ID] = Int64GetDatum(readings->state_id);
	slot->tts_isnull[STATE_ID] = false;
	slot->tts_values[STATE_BASE_ID] = Int64GetDatum(readings->base_id);
	slot->tts_isnull[STATE_BASE_ID] = readings->base_id == 0;
	slot->tts_values[STATE_REVISION_ID] = Int32GetDatum(readings->pool->revision_id);
	slot->tts_isnull[STATE_REVISION_ID] = false;
	slot->tts_values[STATE_READINGS] = PointerGetDatum(bytes);
	slot->tts_isnull[STATE_READINGS] = false;
	lr_writer_close(writer);
	keep_known(readings);
}

/* Reads what was read of the members up to a position of a state, in the current memory context. */
LrReading *
lr_readings_load(LrPool *pool, int64 state_id, int position)
{
	LrReading  *now = palloc0(sizeof(LrReading) * (pool->nmembers + 1));

	load_state(now, pool->nmembers + 1, state_id, position, 0);
	return now;
}

static void
transaction_event(XactEvent event, void *argument)
{
	/* what is prepared may yet be rolled back */
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		forget_known();
}

static void
subtransaction_event(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *argument)
{
	if (event == SUBXACT_EVENT_ABORT_SUB && known_states != NIL)
		forget_known();
}

static void
forget_known(void)
{
	if (known_memory)
		MemoryContextReset(known_memory);
	known_states = NIL;
}

static Known *
find_known(const LrPool *pool)
{
	ListCell   *cell;

	foreach(cell, known_states)
	{
		Known	   *known = lfirst(cell);

		if (known->relid == lr_catalog()->tables[LR_TABLE_POOL_STATES] && known->pool_id == pool->pool_id && known->revision_id == pool->revision_id)
			return known;
	}
	return NULL;
}

static void
keep_known(const LrReadings *readings)
{
	Known	   *known = find_known(readings->pool);
	Size		size = sizeof(LrReading) * (readings->pool->nmembers + 1);
	MemoryContext saved;

	/* revisions come and go */
	if (known == NULL && list_length(known_states) >= 64)
		forget_known();
	if (known_memory == NULL)
		known_memory = AllocSetContextCreate(TopMemoryContext, "leadroute pool states", ALLOCSET_SMALL_SIZES);
	saved = MemoryContextSwitchTo(known_memory);
	if (known == NULL)
	{
		known = palloc(sizeof(Known));
		known->relid = lr_catalog()->tables[LR_TABLE_POOL_STATES];
		known->pool_id = readings->pool->pool_id;
		known->revision_id = readings->pool->revision_id;
		known->now = palloc(size);
		known_states = lappend(known_states, known);
	}
	known->state_id = readings->state_id;
	known->depth = readings->depth;
	known->position = readings->position;
	memcpy(known->now, readings->now, size);
	MemoryContextSwitchTo(saved);
}

static void
put_event(LrReadings *readings, int place, const LrReading *reading, int position)
{
	if (readings->events == NULL)
	{
		readings->events = makeStringInfo();
		readings->position = 0;
	}
	lr_put_varint(readings->events, position - readings->position);
	lr_put_varint(readings->events, place);
	lr_put_varint(readings->events, reading->code | reading->per << 2 | reading->of << 5);
	if (reading->code != LR_READING_FREE)
	{
		lr_put_varint(readings->events, reading->count);
		lr_put_varint(readings->events, reading->maximum);
	}
	/* may be below 0 */
	lr_put_varint(readings->events, ((uint64) reading->number << 1) ^ (uint64) (reading->number >> 63));
	readings->position = position;
}

static bool
same_reading(const LrReading *a, const LrReading *b)
{
	return a->code == b->code && a->number == b->number &&
		(a->code == LR_READING_FREE || (a->per == b->per && a->of == b->of && a->count == b->count && a->maximum == b->maximum));
}

static void
apply_events(LrReading *now, int n, const char *data, int length, int position)
{
	LrReader	in = {data, data + length};
	int			at = 0;

	while (in.at < in.end)
	{
		int			place;
		int			what;
		uint64		number;
		LrReading	reading = {0};

		at += (int) lr_get_varint(&in);
		if (at > position)
			break;
		place = (int) lr_get_varint(&in);
		what = (int) lr_get_varint(&in);
		reading.code = what & 3;
		reading.per = what >> 2 & 7;
		reading.of = what >> 5;
		if (reading.code != LR_READING_FREE)
		{
			reading.count = lr_get_varint(&in);
			reading.maximum = lr_get_varint(&in);
		}
		number = lr_get_varint(&in);
		reading.number = (int64) (number >> 1) ^ -(int64) (number & 1);
		if (place >= 0 && place < n)
			now[place] = reading;
	}
}

static void
load_state(LrReading *now, int n, int64 state_id, int position, int depth)
{
	LrIdentity	identity;
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(state_id)};
	MemoryContext memory = CurrentMemoryContext;
	MemoryContext saved;
	bytea	   *bytes = NULL;
	int64		base_id = 0;
	bool		isnull;

	if (depth > 2 * MAX_DEPTH)
		return;
	lr_sql_begin(&identity);
	if (lr_sql_kept(LR_PLAN_POOL_STATE, "SELECT base_id, readings FROM leadroute.pool_states WHERE pool_state_id = $1", 1, types, values, NULL) > 0)
	{
		base_id = lr_sql_int64(0, 1, 0);
		saved = MemoryContextSwitchTo(memory);
		bytes = DatumGetByteaPCopy(lr_sql_datum(0, 2, &isnull));
		MemoryContextSwitchTo(saved);
	}
	lr_sql_end(&identity);
	if (base_id != 0)
		load_state(now, n, base_id, INT_MAX, depth + 1);
	if (bytes)
		apply_events(now, n, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes), position);
}
