/*
 * pool.c: pools and their members, as decisions read them at a moment.
 *
 * Who is available depends on the moment, and on by when the rule wants a first response: a pool is kept once for each such
 * time, and it is kept until a calendar, a date or somebody's hand changes it. So most statements find it as the last one did.
 */
#include "assignment/assignment.h"

#include "catalog/namespace.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

const char *const lr_strategy_names[LR_N_STRATEGIES] = {"rotation", "balance", "least_loaded", "best_skill", "fixed"};

/* A pool of which nothing ever changes by itself is looked at again after this long, in microseconds. */
#define LONGEST (USECS_PER_DAY)

/* What a pool is found by. */
typedef struct PoolKey
{
	int64		within;
	int			pool_id;
	int			working_clock;
} PoolKey;

typedef struct PoolEntry
{
	PoolKey		key;
	LrPool	   *pool;
} PoolEntry;

static HTAB *pools;				/* in pool_memory */
static MemoryContext pool_memory = NULL;
static uint64 pools_generation;

static uint64 configuration_generation(void);
static void make_pools(void);
static LrPool *make_pool(int pool_id, TimestampTz at, int64 within, bool working_clock);
static void load_pool(LrPool *pool);
static void load_members(LrPool *pool);
static void load_skills(LrPool *pool);
static void find_available(LrPool *pool);
static bool counts_minutes(const LrPool *pool);
static bool can_respond(const LrPool *pool, const LrWorking *working);
static TimestampTz changes_at(const LrPool *pool, const LrWorking *working);
static bool is_governed(const LrPool *pool);

/*
 * Returns a pool as it is at a moment, for leads that want a first response within so many microseconds, 0 for none; it stays
 * good for the statement. A negative id is that of an owner alone.
 */
LrPool *
lr_pool(int pool_id, TimestampTz at, int64 within, bool working_clock)
{
	uint64		generation = configuration_generation();
	LrPool	   *pool;
	PoolKey		key;
	PoolEntry  *entry;
	bool		found;

	if (pool_memory == NULL || pools_generation != generation)
	{
		/* a batch in hand may still point to the old ones: they go with the transaction */
		if (pool_memory)
			MemoryContextSetParent(pool_memory, TopTransactionContext);
		pool_memory = NULL;
		make_pools();
		pools_generation = generation;
	}
	memset(&key, 0, sizeof(key));
	key.pool_id = pool_id;
	key.within = within;
	key.working_clock = working_clock;
	entry = hash_search(pools, &key, HASH_FIND, NULL);
	if (entry && at >= entry->pool->from && at < entry->pool->until)
		return entry->pool;
	if (entry)
	{
		LrPool	   *old = entry->pool;

		/* the moment of another statement: this one's is looked at anew */
		(void) hash_search(pools, &key, HASH_REMOVE, NULL);
		MemoryContextSetParent(old->memory, TopTransactionContext);
	}
	pool = make_pool(pool_id, at, within, working_clock);
	MemoryContextSetParent(pool->memory, pool_memory);
	entry = hash_search(pools, &key, HASH_ENTER, &found);
	entry->pool = pool;
	return pool;
}

static void
make_pools(void)
{
	HASHCTL		control = {.keysize = sizeof(PoolKey),.entrysize = sizeof(PoolEntry)};

	pool_memory = AllocSetContextCreate(CacheMemoryContext, "leadroute pools", ALLOCSET_SMALL_SIZES);
	control.hcxt = pool_memory;
	pools = hash_create("leadroute pools by id", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Draws the next turns of a pool; returns the first. */
int64
lr_pool_draw(LrPool *pool, int count)
{
	if (!OidIsValid(pool->turns))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("pool %d has no sequence \"leadroute.pool_%d_turns\"", pool->pool_id, pool->pool_id),
				errhint("Create it: CREATE SEQUENCE leadroute.pool_%d_turns MINVALUE 0 START 0.", pool->pool_id));
	return lr_numbers_take(pool->turns, count);
}

/* Tells whether an owner is a member who is still there: on, and within the dates. */
bool
lr_pool_has_on(const LrPool *pool, int owner_id)
{
	int			place = lr_pool_place(pool, owner_id);

	return place >= 0 && pool->members[place].on;
}

/* Returns an owner's place among the members, -1 if there is none. */
int
lr_pool_place(const LrPool *pool, int owner_id)
{
	int			low = 0;
	int			high = pool->nmembers;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (pool->members[middle].owner_id < owner_id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < pool->nmembers && pool->members[low].owner_id == owner_id ? low : -1;
}

/* Counts changes of everything that pools are made of. */
static uint64
configuration_generation(void)
{
	static const LrTable tables[] = {LR_TABLE_POOLS, LR_TABLE_OWNERS, LR_TABLE_OWNER_SKILLS, LR_TABLE_POOL_MEMBERS, LR_TABLE_CAPS, LR_TABLE_TIER_LOADS,
	LR_TABLE_CALENDARS, LR_TABLE_CALENDAR_HOURS, LR_TABLE_HOLIDAYS, LR_TABLE_ABSENCES};
	uint64		sum = 0;

	for (int i = 0; i < (int) lengthof(tables); i++)
		sum += lr_table_generation(tables[i]);
	return sum;
}

/* Reads a pool, in a memory context of its own. */
static LrPool *
make_pool(int pool_id, TimestampTz at, int64 within, bool working_clock)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "leadroute pool", ALLOCSET_SMALL_SIZES);
	MemoryContext saved = MemoryContextSwitchTo(memory);
	LrPool	   *pool = palloc0(sizeof(LrPool));

	pool->memory = memory;
	pool->pool_id = pool_id;
	pool->within = within;
	pool->working_clock = working_clock;
	pool->from = at;
	pool->timezone = "UTC";
	load_pool(pool);
	load_members(pool);
	load_skills(pool);
	find_available(pool);
	lr_pool_make_schedule(pool);
	pool->governed = is_governed(pool);
	/* pools of one owner share a sequence: there may be as many as there are owners */
	if (pool_id > 0)
		pool->turns = get_relname_relid(pool->of_owner ? "owner_turns" : psprintf("pool_%d_turns", pool_id), lr_catalog()->schema);
	MemoryContextSwitchTo(saved);
	return pool;
}

static void
load_pool(LrPool *pool)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(pool->pool_id)};
	bool		isnull;

	lr_sql_begin(&identity);
	if (lr_sql("SELECT strategy, balance_by, balance_over, timezone, minutes_per_lead, of_owner IS NOT NULL FROM leadroute.pools WHERE pool_id = $1",
			   true, 1, types, values, NULL) > 0)
	{
		const char *strategy = lr_sql_text(0, 1);
		const char *over = lr_sql_text(0, 3);

		for (int i = 0; i < LR_N_STRATEGIES; i++)
		{
			if (strcmp(lr_strategy_names[i], strategy) == 0)
				pool->strategy = (LrStrategy) i;
		}
		pool->measure = strcmp(lr_sql_text(0, 2), "value") == 0 ? LR_MEASURE_VALUE : LR_MEASURE_COUNT;
		pool->over = over[0] == 'd' ? LR_PER_DAY : over[0] == 'w' ? LR_PER_WEEK : LR_PER_MONTH;
		pool->timezone = MemoryContextStrdup(memory, lr_sql_text(0, 4));
		pool->minutes_per_lead = lr_sql_int32(0, 5, 0);
		pool->of_owner = DatumGetBool(lr_sql_datum(0, 6, &isnull));
	}
	lr_sql_end(&identity);
}

static void
load_members(LrPool *pool)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(pool->pool_id)};
	MemoryContext memory = CurrentMemoryContext;
	MemoryContext saved;
	uint64		n;

	lr_sql_begin(&identity);
	if (pool->pool_id > 0)
		n = lr_sql("SELECT m.owner_id, m.weight, m.position, o.available, o.timezone, m.starts_on, m.ends_on"
				   " FROM leadroute.pool_members m JOIN leadroute.owners o USING (owner_id) WHERE m.pool_id = $1 ORDER BY m.owner_id", true, 1, types, values, NULL);
	else
		n = lr_sql("SELECT o.owner_id, 1, 0, o.available, o.timezone, NULL::date, NULL::date FROM leadroute.owners o WHERE o.owner_id = -$1",
				   true, 1, types, values, NULL);
	saved = MemoryContextSwitchTo(memory);
	pool->nmembers = (int) n;
	pool->members = palloc0(sizeof(LrMember) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		LrMember   *member = &pool->members[i];
		bool		isnull;
		Datum		date;

		member->owner_id = lr_sql_int32(i, 1, 0);
		member->weight = lr_sql_int32(i, 2, 1);
		member->position = lr_sql_int32(i, 3, 0);
		member->on = DatumGetBool(lr_sql_datum(i, 4, &isnull));
		member->room = -1;
		/* pool members mostly share one */
		member->timezone = i > 0 && strcmp(pool->members[i - 1].timezone, lr_sql_text(i, 5)) == 0 ? pool->members[i - 1].timezone : pstrdup(lr_sql_text(i, 5));
		date = lr_sql_datum(i, 6, &isnull);
		member->starts_on = isnull ? DATEVAL_NOBEGIN : DatumGetDateADT(date);
		date = lr_sql_datum(i, 7, &isnull);
		member->ends_on = isnull ? DATEVAL_NOEND : DatumGetDateADT(date);
	}
	MemoryContextSwitchTo(saved);
	lr_sql_end(&identity);
}

/* Reads the members' skills; languages are skills of level 10. */
static void
load_skills(LrPool *pool)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(pool->pool_id)};
	MemoryContext memory = CurrentMemoryContext;
	MemoryContext saved;
	uint64		n;
	int			place = 0;

	lr_sql_begin(&identity);
	n = lr_sql("SELECT s.owner_id, s.skill, max(s.level) FROM (SELECT m.owner_id FROM leadroute.pool_members m WHERE m.pool_id = $1 UNION ALL SELECT -$1 WHERE $1 < 0) m"
			   " JOIN (SELECT k.owner_id, lower(k.skill COLLATE \"C\") AS skill, k.level FROM leadroute.owner_skills k"
			   "       UNION ALL SELECT o.owner_id, lower(l COLLATE \"C\"), 10 FROM leadroute.owners o, unnest(o.languages) AS l) s USING (owner_id)"
			   " GROUP BY 1, 2 ORDER BY 1, s.skill COLLATE \"C\"", true, 1, types, values, NULL);
	saved = MemoryContextSwitchTo(memory);
	for (uint64 i = 0; i < n; i++)
	{
		int			owner_id = lr_sql_int32(i, 1, 0);
		LrMember   *member;

		while (place < pool->nmembers && pool->members[place].owner_id < owner_id)
			place++;
		if (place == pool->nmembers || pool->members[place].owner_id != owner_id)
			continue;
		member = &pool->members[place];
		if (member->nskills == 0)
			member->skills = palloc(sizeof(LrSkill) * (n - i));
		member->skills[member->nskills].name = pstrdup(lr_sql_text(i, 2));
		member->skills[member->nskills++].level = lr_sql_int32(i, 3, 1);
		if (i + 1 == n || lr_sql_int32(i + 1, 1, 0) != owner_id)
			member->skills = repalloc(member->skills, sizeof(LrSkill) * member->nskills);
	}
	MemoryContextSwitchTo(saved);
	lr_sql_end(&identity);
}

/* Finds who is available at the moment from which the pool is, and until when that is so. */
static void
find_available(LrPool *pool)
{
	/* what is left of the time is not the same for long */
	pool->until = pool->from + (counts_minutes(pool) ? USECS_PER_MINUTE : LONGEST);
	pool->non = 0;
	for (int i = 0; i < pool->nmembers; i++)
	{
		LrMember   *member = &pool->members[i];
		LrWorking	working;

		if (!DATE_IS_NOBEGIN(member->starts_on) || !DATE_IS_NOEND(member->ends_on))
		{
			TimestampTz midnight;

			(void) lr_window_start(LR_PER_DAY, member->timezone, pool->from, &midnight);
			pool->until = Min(pool->until, midnight);
			member->on &= lr_day_in(member->timezone, pool->from, member->starts_on, member->ends_on);
		}
		if (!member->on)
			continue;
		lr_owner_working(member->owner_id, pool->from, &working);
		pool->until = Min(pool->until, changes_at(pool, &working));
		member->on = working.now || !TIMESTAMP_IS_NOEND(working.next);
		member->available = can_respond(pool, &working);
		pool->non += member->on ? 1 : 0;
		if (member->available && counts_minutes(pool))
			member->room = lr_working_time(member->owner_id, pool->from, pool->from + pool->within) / (pool->minutes_per_lead * USECS_PER_MINUTE);
	}
}

/* Tells whether the work that owners have already says by when they respond. */
static bool
counts_minutes(const LrPool *pool)
{
	return pool->minutes_per_lead > 0 && pool->within > 0 && !pool->working_clock;
}

static bool
can_respond(const LrPool *pool, const LrWorking *working)
{
	if (working->now)
		return true;
	if (pool->within == 0 || TIMESTAMP_IS_NOEND(working->next))
		return false;
	/* on a clock of working time nobody is late */
	return pool->working_clock || working->next <= pool->from + pool->within;
}

/* Returns from when on somebody's answer may be another one. */
static TimestampTz
changes_at(const LrPool *pool, const LrWorking *working)
{
	if (!working->now && pool->within > 0 && !pool->working_clock && !TIMESTAMP_IS_NOEND(working->next) && working->next - pool->within > pool->from)
		return Min(working->until, working->next - pool->within);
	return working->until;
}

/* Tells whether a lead that goes to a member counts towards anything. */
static bool
is_governed(const LrPool *pool)
{
	LrCounterKey keys[LR_MAX_KEYS];

	for (int i = 0; i < pool->nmembers; i++)
	{
		if (lr_counter_keys_of(pool->members[i].owner_id, Max(pool->pool_id, 0), pool->from, keys) > 0)
			return true;
	}
	return false;
}
