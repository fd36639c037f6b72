/*
 * live.c: choosing owners for the leads of a batch that is routed now.
 *
 * What can be read without others is read first: pools with who is available, their revisions on record, turns in one draw for
 * each pool. Where caps or counters decide, too, the leads are then given away one after the other inside the section of the
 * counters (counters.c): what is read there is true until the places are taken. Inside the section nothing is looked up in
 * tables and nothing waits; where something is missing (a counter that is not in memory, an owner not seen before), the section
 * is left, the thing is got, and the lead is tried again.
 *
 * A turn that falls to a member who cannot take the lead is used up, as are all up to the next who can: so those who can share
 * the leads as their weights say, and nobody gets the leads of whoever stands in front of him.
 *
 * Where nobody acts on what is decided (shadows, tables that are observed), counters are read and nothing is taken or drawn.
 */
#include "assignment/assignment.h"

#include "miscadmin.h"
#include "pipeline/pipeline.h"
#include "policy/policy.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define MAX_LIMITS 16

/* A counter that a lead adds to, and the cap on it. */
typedef struct CappedCounter
{
	LrCounterKey key;
	int64		maximum;		/* PG_INT64_MAX: it is only counted */
	LrCapOf		of;
	LrCounter  *counter;		/* good in one section */
} CappedCounter;

/* The limits of a member, or of a pool as a whole; they hold until a window ends. */
typedef struct LrLimits
{
	TimestampTz from;
	TimestampTz until;
	uint64		section;		/* in which the counters were found */
	int			n;
	CappedCounter	   *limits;
} LrLimits;

/* How well members fit the skills that a rule asks for. */
typedef struct Match
{
	const LrTerms *terms;
	uint32		dropped;
	const int  *match;
	bool		anybody;		/* somebody who is on fits, now or when skills that may be dropped are */
} Match;

/* A pool that leads of the batch go to. */
typedef struct LivePool
{
	LrPool	   *pool;
	int			nleads;
	int64		next;			/* turn */
	int64		left;			/* of those that were drawn */
	LrReadings *readings;		/* NULL where nothing is read */
	const LrReading *blank;		/* then */
	int			position;		/* of the lead in hand, from 1 */
	uint64		numbers;		/* the section in which the numbers were read */
	uint64		looked;			/* and in which those that had no room were looked at again */
	List	   *matches;
} LivePool;

/* A lead that is to be given away. */
typedef struct Lead
{
	LrRun	   *run;
	LivePool   *live;
	int			position;		/* among those of the pool, from 1 */
	LrPool	   *alone;			/* its preferred owner, or NULL */
	LrLimits	alone_limits;
	const LrTerms *terms;
	Match	   *match;			/* or NULL */
	LrChoice	choice;
	LrWants		wants;
	bool		overflows;
} Lead;

struct LrLive
{
	LrBatch    *batch;
	bool		takes;			/* places and turns */
	bool		sectioned;		/* counters may decide */
	List	   *pools;			/* of LivePool */
	int			nleads;
	Lead	   *leads;
};

typedef enum Verdict
{
	GIVEN,
	PASSED,						/* nobody can take it */
	UNKNOWN						/* something has to be got first */
} Verdict;

static uint64 section = 0;		/* counts sections, so that counters of an earlier one are found again */

static LivePool *find_live_pool(LrLive *live, LrRun *run, const LrTerms *terms);
static Match *find_match(LrLive *live, Lead *lead);
static void prepare_pools(LrLive *live);
static void value_lead(Lead *lead);
static void get_alone(LrLive *live, Lead *lead);
static int	preferred_owner(const LrLive *live, const Lead *lead);
static Verdict give(LrLive *live, Lead *lead);
static Verdict give_to_preferred(LrLive *live, Lead *lead);
static Verdict give_to_member(LrLive *live, Lead *lead);
static Verdict read_numbers(LrLive *live, LivePool *pool, const Lead *lead);
static Verdict look_again(LrLive *live, LivePool *pool, const Lead *lead);
static bool read_member(LrLive *live, LrPool *pool, int place, LrLimits *limits, const LrRun *run, LrReading *reading);
static bool member_number(LrPool *pool, const LrLimits *limits, LrReading *reading);
static int64 amount_of(const LrRun *run, const CappedCounter *limit);
static LrLimits *limits_of(LrLive *live, LrPool *pool, int place);
static void find_limits(LrLimits *limits, LrPool *pool, int owner_id, TimestampTz at);
static void add_limit(LrLimits *limits, const LrCounterKey *key, int64 maximum, LrCapOf of);
static bool find_counters(LrLimits *limits);
static void take(LrLive *live, Lead *lead, LrLimits *limits, LrLimits *of_pool);
static void get_counters(LrLive *live, Lead *lead);
static int64 first_turn(LrLive *live, Lead *lead);
static int64 later_turn(LivePool *pool, int64 turn, int distance);
static void settle(LrLive *live, Lead *lead);
static void pass(LrLive *live, Lead *lead);
static TimestampTz estimate(const LivePool *live, const Lead *lead, TimestampTz at);
static TimestampTz free_at(const LrPool *pool, const LrReading *reading, const char *timezone, TimestampTz at);
static TimestampTz skills_dropped_at(const Lead *lead, const LrMember *member, TimestampTz at);

/* Begins to give away the leads of a batch. */
LrLive *
lr_live_begin(LrBatch *batch)
{
	LrLive	   *live = palloc0(sizeof(LrLive));

	live->batch = batch;
	live->takes = lr_batch_acts(batch);
	live->leads = palloc(sizeof(Lead) * Max(batch->n, 1));
	return live;
}

/* Adds a lead, whose rule leads to a pool. */
void
lr_live_add(LrLive *live, LrRun *run)
{
	Lead	   *lead = &live->leads[live->nleads++];

	memset(lead, 0, sizeof(*lead));
	lead->run = run;
	lead->terms = lr_rule_terms(live->batch->policy, run->rule);
	lead->live = find_live_pool(live, run, lead->terms);
	lead->live->nleads++;
	lead->wants.nexcluded = run->nexcluded;
	lead->wants.excluded = run->excluded;
	lead->wants.turn = -1;
	lead->match = lead->terms->nskills > 0 ? find_match(live, lead) : NULL;
	lead->wants.match = lead->match ? lead->match->match : NULL;
	value_lead(lead);
	get_alone(live, lead);
	live->sectioned |= lead->live->pool->governed || lead->alone != NULL || run->same_person_as >= 0;
}

/* Gives them away: each run gets its owner, or what becomes of it without one. */
void
lr_live_assign(LrLive *live)
{
	ListCell   *cell;

	prepare_pools(live);
	if (live->sectioned)
	{
		section++;
		lr_counters_begin();
	}
	for (int i = 0; i < live->nleads; i++)
	{
		Lead	   *lead = &live->leads[i];
		Verdict		verdict;

		lead->position = ++lead->live->position;
		while ((verdict = give(live, lead)) == UNKNOWN)
		{
			lr_counters_end();
			get_alone(live, lead);
			get_counters(live, lead);
			CHECK_FOR_INTERRUPTS();
			section++;
			lr_counters_begin();
		}
		lead->overflows = verdict == PASSED;
	}
	if (live->sectioned)
		lr_counters_end();
	foreach(cell, live->pools)
	{
		LivePool   *pool = lfirst(cell);

		if (pool->readings)
			lr_readings_end(pool->readings);
	}
	for (int i = 0; i < live->nleads; i++)
		settle(live, &live->leads[i]);
}

/* ---- before: what others need not wait for ---- */

static LivePool *
find_live_pool(LrLive *live, LrRun *run, const LrTerms *terms)
{
	LivePool   *found;
	ListCell   *cell;

	foreach(cell, live->pools)
	{
		found = lfirst(cell);
		if (found->pool->pool_id == run->pool_id && found->pool->within == terms->within && found->pool->working_clock == terms->working_clock)
			return found;
	}
	found = palloc0(sizeof(LivePool));
	found->pool = lr_pool(run->pool_id, live->batch->as_of, terms->within, terms->working_clock);
	live->pools = lappend(live->pools, found);
	return found;
}

/* Finds how well members fit the skills that the lead's rule asks for; those that it has waited for long enough are dropped. */
static Match *
find_match(LrLive *live, Lead *lead)
{
	const LrTerms *terms = lead->terms;
	LrPool	   *pool = lead->live->pool;
	uint32		droppable = 0;
	const int  *at_last;
	Match	   *match;
	ListCell   *cell;

	for (int i = 0; i < terms->nskills; i++)
	{
		if (terms->skills[i].wait == 0)
			continue;
		droppable |= (uint32) 1 << i;
		if (lead->run->waiting_since != 0 && live->batch->as_of - lead->run->waiting_since >= terms->skills[i].wait)
			lead->choice.dropped |= (uint32) 1 << i;
	}
	foreach(cell, lead->live->matches)
	{
		match = lfirst(cell);
		if (match->terms == terms && match->dropped == lead->choice.dropped)
			return match;
	}
	match = palloc0(sizeof(Match));
	match->terms = terms;
	match->dropped = lead->choice.dropped;
	match->match = lr_match_terms(pool, terms, match->dropped);
	at_last = lr_match_terms(pool, terms, match->dropped | droppable);
	for (int i = 0; i < pool->nmembers; i++)
		match->anybody |= pool->members[i].on && at_last[i] >= 0;
	lead->live->matches = lappend(lead->live->matches, match);
	return match;
}

/* Puts the pools on record, and draws the turns that the leads need. */
static void
prepare_pools(LrLive *live)
{
	ListCell   *cell;

	foreach(cell, live->pools)
	{
		LivePool   *pool = lfirst(cell);

		lr_pool_record(pool->pool);
		if (pool->pool->governed)
			pool->readings = lr_readings_begin(pool->pool);
		else
			pool->blank = palloc0(sizeof(LrReading) * (pool->pool->nmembers + 1));
		if (live->takes && pool->pool->cycle > 0 && lr_strategy_turns(pool->pool))
		{
			pool->next = lr_pool_draw(pool->pool, pool->nleads);
			pool->left = pool->nleads;
		}
	}
}

/* Finds what a lead counts. */
static void
value_lead(Lead *lead)
{
	LrRun	   *run = lead->run;

	if (!run->isnull[LR_TIER])
	{
		text	   *tier = DatumGetTextPP(run->values[LR_TIER]);

		run->load = lr_tier_load(VARDATA_ANY(tier), VARSIZE_ANY_EXHDR(tier));
	}
	if (lead->terms->has_value)
		run->expected_value = lr_expected_value(lead->terms, run->isnull[LR_SCORE] ? NULL : &run->values[LR_SCORE]);
	lead->wants.amount = lead->live->pool->measure == LR_MEASURE_COUNT ? 1 : run->expected_value == PG_INT64_MIN ? 0 : run->expected_value;
}

/* Reads the owner who has the lead before the pool is asked, if it is known by now who that is. */
static void
get_alone(LrLive *live, Lead *lead)
{
	int			owner_id = preferred_owner(live, lead);

	if (owner_id == 0 || (lead->alone && lead->alone->pool_id == -owner_id))
		return;
	lead->alone = lr_pool(-owner_id, live->batch->as_of, lead->terms->within, lead->terms->working_clock);
	find_limits(&lead->alone_limits, lead->live->pool, owner_id, live->batch->as_of);
}

static int
preferred_owner(const LrLive *live, const Lead *lead)
{
	if (lead->run->same_person_as >= 0 && live->batch->runs[lead->run->same_person_as].owner_id != 0)
		return live->batch->runs[lead->run->same_person_as].owner_id;
	return lead->run->preferred_owner_id;
}

/* ---- inside the section ---- */

/* Gives one lead away. */
static Verdict
give(LrLive *live, Lead *lead)
{
	int			preferred = preferred_owner(live, lead);
	Verdict		verdict = PASSED;

	if (preferred != 0)
	{
		if (lead->alone == NULL || lead->alone->pool_id != -preferred)
			return UNKNOWN;
		verdict = give_to_preferred(live, lead);
	}
	return verdict == PASSED ? give_to_member(live, lead) : verdict;
}

static Verdict
give_to_preferred(LrLive *live, Lead *lead)
{
	LrPool	   *alone = lead->alone;
	LrLimits   *of_pool = limits_of(live, lead->live->pool, lead->live->pool->nmembers);
	LrReading	nothing = {0};

	lead->choice.preferred_owner_id = -alone->pool_id;
	lead->choice.preferred_reason = lead->run->preferred_reason ? lead->run->preferred_reason : "known_person";
	lead->choice.preferred = nothing;
	lead->choice.preferred_unavailable = alone->nmembers == 0 || !alone->members[0].available;
	for (int i = 0; i < lead->wants.nexcluded; i++)
		lead->choice.preferred_unavailable |= lead->wants.excluded[i] == -alone->pool_id;
	if (lead->choice.preferred_unavailable)
		return PASSED;
	if (!read_member(live, alone, 0, &lead->alone_limits, lead->run, &lead->choice.preferred))
		return UNKNOWN;
	if (lead->choice.preferred.code == LR_READING_FREE && !read_member(live, lead->live->pool, -1, of_pool, lead->run, &lead->choice.preferred))
		return UNKNOWN;
	if (lead->choice.preferred.code != LR_READING_FREE)
		return PASSED;
	take(live, lead, &lead->alone_limits, of_pool);
	lead->run->owner_id = -alone->pool_id;
	return GIVEN;
}

static Verdict
give_to_member(LrLive *live, Lead *lead)
{
	LivePool   *pool = lead->live;
	const LrReading *readings = pool->readings ? pool->readings->now : pool->blank;
	LrLimits   *of_pool = NULL;

	if (pool->pool->cycle == 0)
		return PASSED;
	if (lead->wants.turn < 0 && lr_strategy_turns(pool->pool))
		lead->wants.turn = first_turn(live, lead);
	if (pool->readings)
	{
		LrReading	reading = {0};

		of_pool = limits_of(live, pool->pool, pool->pool->nmembers);
		if (look_again(live, pool, lead) == UNKNOWN || read_numbers(live, pool, lead) == UNKNOWN)
			return UNKNOWN;
		if (!read_member(live, pool->pool, -1, of_pool, lead->run, &reading))
			return UNKNOWN;
		lr_readings_set(pool->readings, pool->pool->nmembers, &reading, pool->position);
	}
	for (;;)
	{
		int			distance;
		int			place = lr_choose(pool->pool, readings, &lead->wants, &distance);
		LrLimits   *limits;
		LrReading	reading = {0};

		if (place < 0)
			break;
		if (pool->readings == NULL)
			limits = NULL;
		else
		{
			limits = limits_of(live, pool->pool, place);
			reading.number = pool->readings->now[place].number;
			if (!read_member(live, pool->pool, place, limits, lead->run, &reading))
				return UNKNOWN;
			if (reading.code != LR_READING_FREE)
			{
				lr_readings_set(pool->readings, place, &reading, pool->position);
				continue;
			}
		}
		if (distance > 0 && live->takes)
		{
			lead->wants.turn = later_turn(pool, lead->wants.turn, distance);
			continue;
		}
		lead->run->turn = lead->wants.turn;
		lead->run->owner_id = pool->pool->members[place].owner_id;
		if (limits)
		{
			take(live, lead, limits, of_pool);
			if (live->takes && member_number(pool->pool, limits, &reading))
				lr_readings_set(pool->readings, place, &reading, pool->position + 1);
		}
		return GIVEN;
	}
	/* the next lead may use the turn */
	if (live->takes && lead->wants.turn >= 0 && pool->next == lead->wants.turn + 1)
	{
		pool->next--;
		pool->left++;
	}
	return PASSED;
}

/* Reads the numbers that the strategy compares, of all who are available. */
static Verdict
read_numbers(LrLive *live, LivePool *pool, const Lead *lead)
{
	if (pool->numbers == section || lr_strategy_turns(pool->pool) || pool->pool->strategy == LR_STRATEGY_FIXED)
		return GIVEN;
	for (int i = 0; i < pool->pool->nmembers; i++)
	{
		LrLimits   *limits;
		LrReading	reading = pool->readings->now[i];

		if (!pool->pool->members[i].available)
			continue;
		limits = limits_of(live, pool->pool, i);
		if (!find_counters(limits))
			return UNKNOWN;
		if (member_number(pool->pool, limits, &reading))
			lr_readings_set(pool->readings, i, &reading, pool->position);
	}
	pool->numbers = section;
	return GIVEN;
}

/* Looks again at those who had no room when they were read last. */
static Verdict
look_again(LrLive *live, LivePool *pool, const Lead *lead)
{
	if (pool->looked == section)
		return GIVEN;
	for (int i = 0; i < pool->pool->nmembers; i++)
	{
		LrReading	reading = {.number = pool->readings->now[i].number};

		if (pool->readings->now[i].code == LR_READING_FREE)
			continue;
		if (!read_member(live, pool->pool, i, limits_of(live, pool->pool, i), lead->run, &reading))
			return UNKNOWN;
		lr_readings_set(pool->readings, i, &reading, pool->position);
	}
	pool->looked = section;
	return GIVEN;
}

/*
 * Reads whether a member, or the pool as a whole (place -1), has room for a lead. Returns false if a counter is not in memory.
 */
static bool
read_member(LrLive *live, LrPool *pool, int place, LrLimits *limits, const LrRun *run, LrReading *reading)
{
	int64		room = place >= 0 ? pool->members[place].room : -1;

	reading->code = LR_READING_FREE;
	if (!find_counters(limits))
		return false;
	for (int i = 0; i < limits->n; i++)
	{
		CappedCounter	   *limit = &limits->limits[i];
		int64		amount = amount_of(run, limit);
		int64		count;

		if (limit->key.per == LR_PER_OPEN && limit->key.pool_id == 0 && room >= 0)
		{
			count = lr_counter_read(limit->counter, room - amount + 1);
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
		count = lr_counter_read(limit->counter, limit->maximum - amount + 1);
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
static bool
member_number(LrPool *pool, const LrLimits *limits, LrReading *reading)
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
	switch (limit->key.measure)
	{
		case LR_MEASURE_LOAD:
			return run->load;
		case LR_MEASURE_VALUE:
			return run->expected_value == PG_INT64_MIN ? 0 : run->expected_value;
		default:
			return 1;
	}
}

/* Returns the limits of a member, or of a pool as a whole (place nmembers), as they are at the moment. */
static LrLimits *
limits_of(LrLive *live, LrPool *pool, int place)
{
	LrLimits   *limits;
	MemoryContext saved = MemoryContextSwitchTo(pool->memory);

	if (pool->limits == NULL)
		pool->limits = palloc0(sizeof(LrLimits) * (pool->nmembers + 1));
	limits = &pool->limits[place];
	if (live->batch->as_of < limits->from || live->batch->as_of >= limits->until)
		find_limits(limits, pool, place < pool->nmembers ? pool->members[place].owner_id : 0, live->batch->as_of);
	MemoryContextSwitchTo(saved);
	return limits;
}

/* Finds the counters that leads of an owner in a pool, or, for 0, of the pool as a whole, add to. */
static void
find_limits(LrLimits *limits, LrPool *pool, int owner_id, TimestampTz at)
{
	int			n;
	const LrCap *caps = lr_caps_of(owner_id, pool->pool_id, &n);
	LrCounterKey key;
	TimestampTz end;

	if (limits->limits == NULL)
		limits->limits = palloc(sizeof(CappedCounter) * MAX_LIMITS);
	limits->n = 0;
	limits->section = 0;
	limits->from = at;
	limits->until = DT_NOEND;
	for (int i = 0; i < n; i++)
	{
		lr_cap_key(&caps[i], at, &key);
		add_limit(limits, &key, caps[i].maximum, caps[i].owner_id == 0 ? LR_CAP_OF_POOL : caps[i].pool_id == 0 ? LR_CAP_OF_OWNER : LR_CAP_OF_MEMBER);
		if (caps[i].per == LR_PER_OPEN)
			continue;
		(void) lr_window_start(caps[i].per, caps[i].timezone, at, &end);
		limits->until = Min(limits->until, end);
	}
	if (owner_id == 0)
		return;
	memset(&key, 0, sizeof(key));
	key.database = MyDatabaseId;
	key.owner_id = owner_id;
	if (pool->strategy == LR_STRATEGY_BALANCE)
	{
		key.pool_id = pool->pool_id;
		key.per = pool->over;
		key.measure = pool->measure;
		key.window_start = lr_window_start(pool->over, pool->timezone, at, &end);
		limits->until = Min(limits->until, end);
		add_limit(limits, &key, PG_INT64_MAX, LR_CAP_OF_MEMBER);
	}
	else if (pool->strategy == LR_STRATEGY_LEAST_LOADED || pool->minutes_per_lead > 0)
	{
		key.per = LR_PER_OPEN;
		key.measure = LR_MEASURE_LOAD;
		add_limit(limits, &key, PG_INT64_MAX, LR_CAP_OF_OWNER);
	}
}

/* Adds a limit; a counter is counted once, whatever it is compared with. */
static void
add_limit(LrLimits *limits, const LrCounterKey *key, int64 maximum, LrCapOf of)
{
	for (int i = 0; i < limits->n; i++)
	{
		if (memcmp(&limits->limits[i].key, key, sizeof(*key)) != 0)
			continue;
		limits->limits[i].maximum = Min(limits->limits[i].maximum, maximum);
		return;
	}
	Assert(limits->n < MAX_LIMITS);
	limits->limits[limits->n++] = (CappedCounter) {.key = *key,.maximum = maximum,.of = of};
}

/* Finds the counters in this section; false if one is not in memory. */
static bool
find_counters(LrLimits *limits)
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
static void
take(LrLive *live, Lead *lead, LrLimits *limits, LrLimits *of_pool)
{
	if (!live->takes)
		return;
	for (int i = 0; i < limits->n; i++)
		lr_counter_take(limits->limits[i].counter, amount_of(lead->run, &limits->limits[i]));
	for (int i = 0; i < of_pool->n; i++)
		lr_counter_take(of_pool->limits[i].counter, amount_of(lead->run, &of_pool->limits[i]));
}

/* Has the counters that a lead may need counted: those of the whole pool at once. */
static void
get_counters(LrLive *live, Lead *lead)
{
	LrPool	   *pool = lead->live->pool;
	LrCounterKey *keys = palloc(sizeof(LrCounterKey) * (pool->nmembers + 2) * MAX_LIMITS);
	int			n = 0;

	for (int i = 0; i <= pool->nmembers; i++)
	{
		LrLimits   *limits = limits_of(live, pool, i);

		for (int k = 0; k < limits->n; k++)
			keys[n++] = limits->limits[k].key;
	}
	for (int k = 0; lead->alone && k < lead->alone_limits.n; k++)
		keys[n++] = lead->alone_limits.limits[k].key;
	lr_counters_build(keys, n);
	pfree(keys);
}

/* Returns the lead's turn; where nothing is drawn, that of the run that acts, or one that its id names. */
static int64
first_turn(LrLive *live, Lead *lead)
{
	const LrBatch *beside = live->batch->beside;

	if (live->takes)
	{
		if (lead->live->left == 0)
		{
			lead->live->next = lr_pool_draw(lead->live->pool, 1);
			lead->live->left = 1;
		}
		lead->live->left--;
		return lead->live->next++;
	}
	if (beside && beside->runs[lead->run->beside].turn >= 0 && beside->runs[lead->run->beside].pool_revision_id == lead->live->pool->revision_id)
		return beside->runs[lead->run->beside].turn;
	return lr_hypothetical_turn(lead->run->lead_id);
}

/* Uses up turns until the one that is so much later, or, where other sessions drew in between, the first behind theirs. */
static int64
later_turn(LivePool *pool, int64 turn, int distance)
{
	int64		skipped = Min(pool->left, distance);

	/* those drawn for leads to come are drawn anew when they come */
	pool->next += skipped;
	pool->left -= skipped;
	if (skipped == distance)
		return pool->next - 1;
	pool->next = lr_pool_draw(pool->pool, (int) (distance - skipped));
	if (pool->next == turn + skipped + 1)
		pool->next += distance - skipped - 1;
	pool->left = 0;
	return pool->next++;
}

/* ---- behind it: what follows from whose the lead is ---- */

static void
settle(LrLive *live, Lead *lead)
{
	LrRun	   *run = lead->run;
	LivePool   *pool = lead->live;

	run->pool_revision_id = pool->pool->revision_id;
	if (lead->overflows)
		pass(live, lead);
	else if (lead->terms->within > 0)
		run->response_due_at = lead->terms->working_clock ? lr_working_end(run->owner_id, live->batch->as_of, lead->terms->within)
			: live->batch->as_of + lead->terms->within;
	if (pool->readings && pool->readings->state_id != 0)
	{
		lead->choice.state_id = pool->readings->state_id;
		/* the lead's own place, or, where nothing new was read, the end of what was known */
		lead->choice.position = pool->readings->events ? lead->position : pool->readings->position;
	}
	lead->choice.nexcluded = run->nexcluded;
	lead->choice.excluded = run->excluded;
	run->choice = lr_choice_write(&lead->choice);
}

/* Nobody can take the lead: it waits in the pool's overflow, unless nobody ever can. */
static void
pass(LrLive *live, Lead *lead)
{
	LrRun	   *run = lead->run;
	LrPool	   *pool = lead->live->pool;

	run->outcome = LR_NO_RULE;
	if (pool->non == 0)
		run->reason = "no_available_member";
	else if (lead->match && !lead->match->anybody)
		run->reason = "no_skilled_member";
	else
	{
		run->outcome = LR_PENDING;
		run->reason = "overflow";
		run->estimated_at = estimate(lead->live, lead, live->batch->as_of);
		/* it waits there already: its place in the queue stays */
		run->unchanged = live->takes && run->waiting_pool_id == pool->pool_id;
	}
}

/* Estimates when somebody may take a lead: when he works, windows of caps are over, and skills are dropped. 0: nobody can tell. */
static TimestampTz
estimate(const LivePool *live, const Lead *lead, TimestampTz at)
{
	const LrPool *pool = live->pool;
	const LrReading *readings = live->readings ? live->readings->now : live->blank;
	TimestampTz of_pool = free_at(pool, &readings[pool->nmembers], pool->timezone, at);
	TimestampTz earliest = 0;

	if (of_pool == 0)
		return 0;
	for (int i = 0; i < pool->nmembers; i++)
	{
		const LrMember *member = &pool->members[i];
		TimestampTz moment = free_at(pool, &readings[i], member->timezone, at);
		LrWorking	working;

		if (!member->on || moment == 0)
			continue;
		moment = Max(moment, of_pool);
		if (lead->match && lead->match->match[i] < 0)
		{
			TimestampTz dropped = skills_dropped_at(lead, member, at);

			if (dropped == 0)
				continue;
			moment = Max(moment, dropped);
		}
		lr_owner_working(member->owner_id, moment, &working);
		if (!working.now)
			moment = working.next;
		if (!TIMESTAMP_IS_NOEND(moment) && (earliest == 0 || moment < earliest))
			earliest = moment;
	}
	return earliest;
}

/* Returns from when on a reading does not keep leads away; 0 if nobody can tell. */
static TimestampTz
free_at(const LrPool *pool, const LrReading *reading, const char *timezone, TimestampTz at)
{
	TimestampTz end;

	if (reading->code == LR_READING_FREE)
		return at;
	if (reading->code != LR_READING_CAPPED || reading->per == LR_PER_OPEN || reading->maximum == 0)
		return 0;
	(void) lr_window_start(reading->per, reading->of == LR_CAP_OF_POOL ? pool->timezone : timezone, at, &end);
	return end;
}

/* Returns when the last of the skills that a member lacks is dropped; 0 if one never is. */
static TimestampTz
skills_dropped_at(const Lead *lead, const LrMember *member, TimestampTz at)
{
	TimestampTz since = lead->run->waiting_since ? lead->run->waiting_since : at;
	TimestampTz last = at;

	for (int t = 0; t < lead->terms->nskills; t++)
	{
		const LrSkillTerm *term = &lead->terms->skills[t];

		if (lr_skill_level(member, term->name) >= term->level)
			continue;
		if (term->wait == 0)
			return 0;
		last = Max(last, since + term->wait);
	}
	return last;
}
