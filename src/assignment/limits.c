/*
 * limits.c: the counters that a lead adds to, of its owner, of the owner as a member, and of the pool, and the caps on them.
 *
 * They are found once and kept with the pool until the first window ends; the counters themselves are found again in each
 * section, since between sections they may leave memory.
 */
#include "assignment/live.h"

#include "assignment/counters.h"

static int64 amount_of(const LrRun *run, const CappedCounter *limit);
static int64 freed(const LrBatch *batch, const LrCounterKey *key);
static int64 maximum_of(const LrCounterKey *key, TimestampTz at);

/*
 * Reads whether there is room for a lead. room: with how many open leads its owner responds in time, -1: any number. Returns
 * false if a counter is not in memory.
 */
bool
lr_limits_read(LrLimits *limits, int64 room, const LrRun *run, uint64 section, LrReading *reading)
{
	reading->code = LR_READING_FREE;
	if (!lr_limits_find_counters(limits, section))
		return false;
	for (int i = 0; i < limits->n; i++)
	{
		CappedCounter	   *limit = &limits->limits[i];
		int64		amount = amount_of(run, limit);
		int64		free = freed(run->batch, &limit->key);
		int64		count;

		if (limit->key.per == LR_PER_OPEN && limit->key.pool_id == 0 && room >= 0)
		{
			count = lr_counter_read(limit->counter, room - amount + 1 + free) - free;
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
		count = lr_counter_read(limit->counter, limit->maximum - amount + 1 + free) - free;
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
lr_limits_number(const LrPool *pool, const LrLimits *limits, LrReading *reading)
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
				reading->number = lr_counter_read(limit->counter, 0);
		}
		else if (limit->key.per == LR_PER_OPEN && limit->key.owner_id != 0)
		{
			int64		count = lr_counter_read(limit->counter, 0);

			if (limit->maximum == PG_INT64_MAX)
				reading->number = capped ? reading->number : -count;
			else
				reading->number = capped ? Min(reading->number, limit->maximum - count) : limit->maximum - count;
			capped |= limit->maximum != PG_INT64_MAX;
		}
	}
	return true;
}

static int64
amount_of(const LrRun *run, const CappedCounter *limit)
{
	return lr_counter_amount(&limit->key, run->load, run->expected_value == PG_INT64_MIN ? 0 : run->expected_value);
}

/* Returns what the leads of a batch that are decided again count towards a counter until they are written: it comes back then. */
static int64
freed(const LrBatch *batch, const LrCounterKey *key)
{
	int			first = 0;
	int			end = batch->nheld;
	int64		amount = 0;

	/* they are in the order of their owners */
	while (key->owner_id != 0 && first < end)
	{
		int			middle = first + (end - first) / 2;

		if (batch->held[middle].owner_id < key->owner_id)
			first = middle + 1;
		else
			end = middle;
	}
	for (int i = first; i < batch->nheld && (key->owner_id == 0 || batch->held[i].owner_id == key->owner_id); i++)
		amount += lr_state_counts(key, &batch->held[i]);
	return amount;
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
		if ((keys[i].owner_id == 0) != (owner_id == 0))
			continue;
		limits->limits[limits->n++] = (CappedCounter) {
			.key = keys[i],.maximum = maximum_of(&keys[i], at),
			.of = keys[i].owner_id == 0 ? LR_CAP_OF_POOL : keys[i].pool_id == 0 ? LR_CAP_OF_OWNER : LR_CAP_OF_MEMBER
		};
		if (keys[i].per != LR_PER_OPEN)
			limits->until = Min(limits->until, keys[i].window_end);
	}
}

/* Returns the cap on a counter; PG_INT64_MAX if it is only counted. */
static int64
maximum_of(const LrCounterKey *key, TimestampTz at)
{
	int			n;
	const LrCap *caps = lr_caps_of(key->owner_id, key->pool_id, &n);

	for (int i = 0; i < n; i++)
	{
		LrCounterKey of_cap;

		lr_cap_key(&caps[i], at, &of_cap);
		if (memcmp(&of_cap, key, sizeof(of_cap)) == 0)
			return caps[i].maximum;
	}
	return PG_INT64_MAX;
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
