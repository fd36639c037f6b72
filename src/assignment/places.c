/*
 * places.c: taking a place for a lead whose owner the pool did not choose: a person gave it, or a merge.
 */
#include "assignment/counters.h"
#include "assignment/live.h"

#include "miscadmin.h"

PG_FUNCTION_INFO_V1(leadroute_take_place);

static bool read_counters(const LrCounterKey *keys, int n, LrCounter **counters);

/*
 * Takes what a lead adds to every counter of an owner, and of a pool, 0 for none. Where a cap leaves no room nothing is taken and
 * false is returned, with the cap and what was read, unless forced. before: what the lead counts until its state changes, or NULL.
 */
bool
lr_place_take(int owner_id, int pool_id, int load, int64 expected_value, TimestampTz at, bool force, const LrState *before, LrCap *full, int64 *count)
{
	LrCounterKey keys[LR_MAX_KEYS];
	LrCounter  *counters[LR_MAX_KEYS];
	const LrCap *caps[LR_MAX_KEYS];
	int			n = lr_counter_keys_of(owner_id, pool_id, at, keys);
	bool		room = true;

	if (n == 0)
		return true;
	for (int i = 0; i < n; i++)
		caps[i] = force ? NULL : lr_cap_of_key(&keys[i], at);
	lr_counters_begin();
	while (!read_counters(keys, n, counters))
	{
		lr_counters_end();
		lr_counters_build(keys, n);
		CHECK_FOR_INTERRUPTS();
		lr_counters_begin();
	}
	for (int i = 0; i < n && room; i++)
	{
		int64		amount = lr_counter_amount(&keys[i], load, expected_value);
		int64		returned = before ? lr_state_counts(&keys[i], before) : 0;

		if (caps[i] == NULL)
			continue;
		*count = lr_counter_read(counters[i], caps[i]->maximum - amount + 1 + returned) - returned;
		*full = *caps[i];
		room = *count + amount <= caps[i]->maximum;
	}
	for (int i = 0; i < n && room; i++)
		lr_counter_take(counters[i], lr_counter_amount(&keys[i], load, expected_value));
	lr_counters_end();
	return room;
}

static bool
read_counters(const LrCounterKey *keys, int n, LrCounter **counters)
{
	for (int i = 0; i < n; i++)
	{
		counters[i] = lr_counter_find(&keys[i]);
		if (counters[i] == NULL)
			return false;
	}
	return true;
}

/* Is the SQL function take_place(), for what merges give. */
Datum
leadroute_take_place(PG_FUNCTION_ARGS)
{
	LrCap		full;
	int64		count;
	int			load = PG_ARGISNULL(2) ? 1 : PG_GETARG_INT16(2);

	if (load != 0)
		(void) lr_place_take(PG_GETARG_INT32(0), PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1), load,
							 PG_ARGISNULL(3) ? 0 : PG_GETARG_INT64(3), PG_GETARG_TIMESTAMPTZ(4), true, NULL, &full, &count);
	PG_RETURN_VOID();
}
