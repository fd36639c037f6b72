/*
 * limits.c: the counters that a lead adds to, of its owner, of the owner as a member, and of the pool, and the caps on them.
 *
 * They are found once and kept with the pool until the first window ends; the counters themselves are found again in each
 * section, since between sections they may leave memory.
 */
#include "assignment/live.h"

/* What leads give back to a counter. */
typedef struct Returned
{
	LrCounterKey key;
	int64		amount;
} Returned;

static int64 returned_to(const LrLive *live, const LrCounterKey *key);
static int64 amount_of(const LrRun *run, const CappedCounter *limit);

/*
 * Reads whether there is room for a lead. room: with how many open leads its owner responds in time, -1: any number. Returns
 * false if a counter is not in memory.
 */
bool
lr_limits_read(const LrLive *live, LrLimits *limits, int64 room, const LrRun *run, uint64 section, LrReading *reading)
{
	reading->code = LR_READING_FREE;
	if (!lr_limits_find_counters(limits, section))
		return false;
	for (int i = 0; i < limits->n; i++)
	{
		CappedCounter *limit = &limits->limits[i];
		int64		amount = amount_of(run, limit);
		int64		returned = returned_to(live, &limit->key);
		int64		count;

		if (limit->key.per == LR_PER_OPEN && limit->key.pool_id == 0 && room >= 0)
		{
			count = lr_counter_read(limit->counter, room - amount + 1 + returned) - returned;
			if (count + amount > room)
			{
				reading->code = LR_READING_LATE;
				reading->per = LR_PER_OPEN;
				reading->of = LR_CAP_OF_OWNER;
				reading->count = count;
				reading->maximum = room;
				return true;
			}
		}
		if (limit->maximum == PG_INT64_MAX)
			continue;
		count = lr_counter_read(limit->counter, limit->maximum - amount + 1 + returned) - returned;
		if (count + amount > limit->maximum)
		{
			reading->code = LR_READING_CAPPED;
			reading->per = limit->key.per;
			reading->of = limit->of;
			reading->count = count;
			reading->maximum = limit->maximum;
			return true;
		}
	}
	return true;
}

/* Reads the number that the strategy compares; false if it compares none. Least loaded: the room under the caps per open. */
bool
lr_limits_number(const LrLive *live, const LrPool *pool, const LrLimits *limits, LrReading *reading)
{
	bool		capped = false;

	if (pool->strategy != LR_STRATEGY_BALANCE && pool->strategy != LR_STRATEGY_LEAST_LOADED)
		return false;
	for (int i = 0; i < limits->n; i++)
	{
		const CappedCounter *limit = &limits->limits[i];

		if (pool->strategy == LR_STRATEGY_BALANCE)
		{
			if (limit->key.pool_id == pool->pool_id && limit->key.owner_id != 0 && limit->key.per == pool->over && limit->key.measure == pool->measure)
				reading->number = lr_counter_read(limit->counter, 0) - returned_to(live, &limit->key);
		}
		else if (limit->key.per == LR_PER_OPEN && limit->key.owner_id != 0)
		{
			int64		count = lr_counter_read(limit->counter, 0) - returned_to(live, &limit->key);

			if (limit->maximum == PG_INT64_MAX)
				reading->number = capped ? reading->number : -count;
			else
				reading->number = capped ? Min(reading->number, limit->maximum - count) : limit->maximum - count;
			capped |= limit->maximum != PG_INT64_MAX;
		}
	}
	return true;
}

/*
 * Notes that a lead is decided anew: what it counts it gives back when its state changes (give_back.c), at the end of the batch. Until
 * then the counters have it twice, or against itself.
 */
void
lr_limits_return(LrLive *live, const LrState *state)
{
	LrCounterKey keys[LR_MAX_KEYS];
	int			n = lr_counter_keys_of(state->owner_id, state->pool_id, state->since, keys);

	if (n > 0 && live->returned == NULL)
	{
		HASHCTL		control = {.keysize = sizeof(LrCounterKey),.entrysize = sizeof(Returned),.hcxt = live->batch->memory};

		live->returned = hash_create("leadroute returned places", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	for (int i = 0; i < n; i++)
	{
		bool		found;
		Returned   *returned = hash_search(live->returned, &keys[i], HASH_ENTER, &found);

		returned->amount = (found ? returned->amount : 0) + lr_state_counts(&keys[i], state);
	}
}

static int64
returned_to(const LrLive *live, const LrCounterKey *key)
{
	const Returned *returned = live->returned ? hash_search(live->returned, key, HASH_FIND, NULL) : NULL;

	return returned ? returned->amount : 0;
}

static int64
amount_of(const LrRun *run, const CappedCounter *limit)
{
	return lr_counter_amount(&limit->key, run->load, run->expected_value == PG_INT64_MIN ? 0 : run->expected_value);
}

/* Returns the limits of a member, or of a pool as a whole (place nmembers), as they are at the moment. */
LrLimits *
lr_limits_of(const LrLive *live, LrPool *pool, int place)
{
	LrLimits   *limits;
	MemoryContext saved = MemoryContextSwitchTo(pool->memory);

	if (pool->limits == NULL)
		pool->limits = palloc0(sizeof(LrLimits) * (pool->nmembers + 1));
	limits = &pool->limits[place];
	if (live->batch->as_of < limits->from || live->batch->as_of >= limits->until)
		lr_limits_find(limits, pool, place < pool->nmembers ? pool->members[place].owner_id : 0, live->batch->as_of);
	MemoryContextSwitchTo(saved);
	return limits;
}

/*
 * Finds the counters that leads of an owner from a pool add to, but for those of the pool as a whole, or, for owner 0, those of
 * the pool.
 */
void
lr_limits_find(LrLimits *limits, LrPool *pool, int owner_id, TimestampTz at)
{
	LrCounterKey keys[LR_MAX_KEYS];
	int			nkeys = lr_counter_keys_of(owner_id ? owner_id : -1, pool->pool_id, at, keys);

	if (limits->limits == NULL)
		limits->limits = palloc(sizeof(CappedCounter) * LR_MAX_KEYS);
	limits->n = 0;
	limits->section = 0;
	limits->from = at;
	limits->until = DT_NOEND;
	for (int i = 0; i < nkeys; i++)
	{
		const LrCap *cap;

		if ((keys[i].owner_id == 0) != (owner_id == 0))
			continue;
		cap = lr_cap_of_key(&keys[i], at);
		limits->limits[limits->n++] = (CappedCounter) {
			.key = keys[i],.maximum = cap ? cap->maximum : PG_INT64_MAX,
			.of = keys[i].owner_id == 0 ? LR_CAP_OF_POOL : keys[i].pool_id == 0 ? LR_CAP_OF_OWNER : LR_CAP_OF_MEMBER
		};
		if (keys[i].per != LR_PER_OPEN)
			limits->until = Min(limits->until, keys[i].window_end);
	}
}

/* Finds the counters in this section; false if one is not in memory. */
bool
lr_limits_find_counters(LrLimits *limits, uint64 section)
{
	if (limits->section == section)
		return true;
	for (int i = 0; i < limits->n; i++)
	{
		limits->limits[i].counter = lr_counter_find(&limits->limits[i].key);
		if (limits->limits[i].counter == NULL)
			return false;
	}
	limits->section = section;
	return true;
}

/* Takes the places of a lead. */
void
lr_limits_take(LrLimits *limits, const LrRun *run)
{
	for (int i = 0; i < limits->n; i++)
		lr_counter_take(limits->limits[i].counter, amount_of(run, &limits->limits[i]));
}
