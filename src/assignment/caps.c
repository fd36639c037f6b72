/*
 * caps.c: which caps there are, and which counters a lead counts towards.
 *
 * Counters are kept for caps, for pools that balance (leads or expected values of each member), and for the open leads of owners who
 * are members of a pool that asks for them: least_loaded ones, and those that estimate when somebody can respond. A session reads all
 * that once, and again when one of these tables changed.
 */
#include "assignment/counters.h"

#include "common/hashfn.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

const char *const lr_per_names[LR_N_PERS] = {"hour", "day", "week", "month", "open"};

/* A pool that balances. */
typedef struct Balance
{
	int			pool_id;		/* first: found by it */
	LrPer		per;
	LrMeasure	measure;
	const char *timezone;
} Balance;

typedef struct Config
{
	LrCap	   *caps;			/* by owner, pool, per */
	int			ncaps;
	Balance    *balances;		/* by pool */
	int			nbalances;
	int		   *loaded;			/* owners whose open leads are counted, ascending */
	int			nloaded;
	List	   *timezones;		/* of char *: each name once */
	uint64		hash;
} Config;

/* The latest window that was asked for, of some time zones. */
#define N_WINDOWS 64

typedef struct Window
{
	const char *timezone;
	LrPer		per;
	TimestampTz start;
	TimestampTz end;
} Window;

static Config *config = NULL;	/* in config_memory */
static Config *loading;
static MemoryContext config_memory = NULL;
static uint64 config_generation;
static Window windows[N_WINDOWS];

static const Config *configuration(void);
static void load(void);
static void load_caps(void);
static void load_balances(void);
static void load_owners(void);
static const char *timezone_of(const char *name);
static void hash_in(uint64 value);
static LrPer per_of(const char *name);
static int	compare_int(const void *a, const void *b);
static void window_of(LrPer per, const char *timezone, TimestampTz at, LrCounterKey *key);

/* Returns the caps of an owner (pool_id 0), of an owner as a member of a pool, or of a pool (owner_id 0); good for the transaction. */
const LrCap *
lr_caps_of(int owner_id, int pool_id, int *n)
{
	const Config *all = configuration();
	int			low = 0;
	int			high = all->ncaps;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (lr_compare_scope(all->caps[middle].owner_id, all->caps[middle].pool_id, owner_id, pool_id) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*n = 0;
	while (low + *n < all->ncaps && lr_compare_scope(all->caps[low + *n].owner_id, all->caps[low + *n].pool_id, owner_id, pool_id) == 0)
		(*n)++;
	return &all->caps[low];
}

/* Makes sure that the session knows what is counted, as it is now: in a section of counters this cannot be read. */
void
lr_caps_ready(void)
{
	(void) configuration();
}

/* Returns all caps, by owner, pool and per. */
const LrCap *
lr_all_caps(int *n)
{
	const Config *all = configuration();

	*n = all->ncaps;
	return all->caps;
}

/* Returns which counter a cap is compared with at a moment. */
void
lr_cap_key(const LrCap *cap, TimestampTz at, LrCounterKey *key)
{
	*key = (LrCounterKey) {.database = MyDatabaseId,.owner_id = cap->owner_id,.pool_id = cap->pool_id,.per = cap->per};
	key->measure = cap->per == LR_PER_OPEN ? LR_MEASURE_LOAD : LR_MEASURE_COUNT;
	window_of(cap->per, cap->timezone, at, key);
}

/* Returns the cap that is compared with a counter at a moment, good for the transaction; NULL if the counter is only counted. */
const LrCap *
lr_cap_of_key(const LrCounterKey *key, TimestampTz at)
{
	int			n;
	const LrCap *caps = lr_caps_of(key->owner_id, key->pool_id, &n);

	for (int i = 0; i < n; i++)
	{
		LrCounterKey of_cap;

		/* what a strategy counts may have another window than the cap per the same span */
		lr_cap_key(&caps[i], at, &of_cap);
		if (memcmp(&of_cap, key, sizeof(of_cap)) == 0)
			return &caps[i];
	}
	return NULL;
}

/*
 * Lists the counters that a lead counts towards which an owner gets from a pool (0: from none) at a moment; returns how many, at most
 * LR_MAX_KEYS. Whoever decides takes from these, and whoever takes the lead away gives back to these.
 */
int
lr_counter_keys_of(int owner_id, int pool_id, TimestampTz at, LrCounterKey *keys)
{
	const Config *all = configuration();
	const int	scopes[3][2] = {{owner_id, 0}, {owner_id, pool_id}, {0, pool_id}};
	const Balance *balance;
	int			n = 0;
	bool		open = false;

	if (owner_id == 0 || (all->ncaps == 0 && all->nbalances == 0 && all->nloaded == 0))
		return 0;
	for (int s = 0; s < (pool_id == 0 ? 1 : 3); s++)
	{
		int			ncaps;
		const LrCap *caps = lr_caps_of(scopes[s][0], scopes[s][1], &ncaps);

		for (int i = 0; i < ncaps; i++)
		{
			open |= s == 0 && caps[i].per == LR_PER_OPEN;
			lr_cap_key(&caps[i], at, &keys[n++]);
		}
	}
	balance = all->nbalances == 0 ? NULL : bsearch(&pool_id, all->balances, all->nbalances, sizeof(Balance), compare_int);
	if (balance)
	{
		LrCounterKey *key = &keys[n];
		bool		known = false;

		*key = (LrCounterKey) {.database = MyDatabaseId,.owner_id = owner_id,.pool_id = pool_id,.per = balance->per,.measure = balance->measure};
		window_of(balance->per, balance->timezone, at, key);
		/* a cap may ask for the same */
		for (int k = 0; k < n; k++)
			known |= memcmp(&keys[k], key, sizeof(LrCounterKey)) == 0;
		n += known ? 0 : 1;
	}
	if (!open && all->nloaded > 0 && bsearch(&owner_id, all->loaded, all->nloaded, sizeof(int), compare_int) != NULL)
		keys[n++] = (LrCounterKey) {.database = MyDatabaseId,.owner_id = owner_id,.per = LR_PER_OPEN,.measure = LR_MEASURE_LOAD};
	return n;
}

static int
compare_int(const void *a, const void *b)
{
	int			one = *(const int *) a;
	int			other = *(const int *) b;

	return one < other ? -1 : one > other ? 1 : 0;
}

/* Compares what is counted for, by owner, then pool. */
int
lr_compare_scope(int owner_id, int pool_id, int other_owner_id, int other_pool_id)
{
	if (owner_id != other_owner_id)
		return owner_id < other_owner_id ? -1 : 1;
	return pool_id < other_pool_id ? -1 : pool_id > other_pool_id ? 1 : 0;
}

/* Sets the window of a key. The latest ones are remembered: most leads of a statement ask for the same. */
static void
window_of(LrPer per, const char *timezone, TimestampTz at, LrCounterKey *key)
{
	Window	   *window = &windows[(((uintptr_t) timezone >> 3) + per) % N_WINDOWS];

	if (per == LR_PER_OPEN)
		return;
	if (window->timezone != timezone || window->per != per || at < window->start || at >= window->end)
	{
		TimestampTz end;
		TimestampTz start = lr_window_start(per, timezone, at, &end);

		*window = (Window) {.timezone = timezone,.per = per,.start = start,.end = end};
	}
	key->window_start = window->start;
	key->window_end = window->end;
}

/* ---- reading ---- */

static const Config *
configuration(void)
{
	uint64		generation = lr_table_generation(LR_TABLE_CAPS) + lr_table_generation(LR_TABLE_OWNERS) + lr_table_generation(LR_TABLE_POOLS) +
		lr_table_generation(LR_TABLE_POOL_MEMBERS);

	/* what was read before a section holds in it */
	if (unlikely(config == NULL || (config_generation != generation && !lr_counters_inside())))
	{
		load();
		config_generation = generation;
	}
	return config;
}

static void
load(void)
{
	LrIdentity	identity;

	/* a batch in hand may still point to what was read before: it goes with the transaction */
	if (config)
		MemoryContextSetParent(config_memory, TopTransactionContext);
	config = NULL;
	memset(windows, 0, sizeof(windows));

	lr_sql_begin(&identity);
	config_memory = AllocSetContextCreate(TopTransactionContext, "leadroute caps", ALLOCSET_SMALL_SIZES);
	loading = MemoryContextAllocZero(config_memory, sizeof(Config));
	/* another extension than before has other rows */
	hash_in(lr_catalog()->tables[LR_TABLE_LEAD_STATES]);
	load_caps();
	load_balances();
	load_owners();
	lr_sql_end(&identity);
	MemoryContextSetParent(config_memory, CacheMemoryContext);
	config = loading;
	lr_counters_changed(Max(config->hash, 1), !lr_configuration_changing);
}

static void
load_caps(void)
{
	uint64		n = lr_sql("SELECT coalesce(c.owner_id, 0), coalesce(c.pool_id, 0), c.per, c.maximum, coalesce(o.timezone, p.timezone, 'UTC')"
						   " FROM leadroute.caps c LEFT JOIN leadroute.owners o ON o.owner_id = c.owner_id"
						   " LEFT JOIN leadroute.pools p ON p.pool_id = c.pool_id AND c.owner_id IS NULL"
						   " ORDER BY 1, 2, array_position(ARRAY['hour', 'day', 'week', 'month', 'open'], c.per)", true, 0, NULL, NULL, NULL);

	loading->caps = MemoryContextAlloc(config_memory, sizeof(LrCap) * Max(n, 1));
	loading->ncaps = (int) n;
	for (uint64 i = 0; i < n; i++)
	{
		LrCap	   *cap = &loading->caps[i];

		cap->owner_id = lr_sql_int32(i, 1, 0);
		cap->pool_id = lr_sql_int32(i, 2, 0);
		cap->per = per_of(lr_sql_text(i, 3));
		cap->maximum = lr_sql_int32(i, 4, 0);
		cap->timezone = timezone_of(lr_sql_text(i, 5));
		/* not the maximum: nothing that is counted depends on it */
		hash_in(((uint64) (uint32) cap->owner_id << 32) | (uint32) cap->pool_id);
		hash_in(cap->per);
		hash_in(hash_bytes((const unsigned char *) cap->timezone, (int) strlen(cap->timezone)));
	}
}

static void
load_balances(void)
{
	uint64		n = lr_sql("SELECT pool_id, balance_over, balance_by, timezone FROM leadroute.pools WHERE strategy = 'balance' ORDER BY 1", true, 0, NULL, NULL, NULL);

	loading->balances = MemoryContextAlloc(config_memory, sizeof(Balance) * Max(n, 1));
	loading->nbalances = (int) n;
	for (uint64 i = 0; i < n; i++)
	{
		Balance    *balance = &loading->balances[i];

		balance->pool_id = lr_sql_int32(i, 1, 0);
		balance->per = per_of(lr_sql_text(i, 2));
		balance->measure = strcmp(lr_sql_text(i, 3), "value") == 0 ? LR_MEASURE_VALUE : LR_MEASURE_COUNT;
		balance->timezone = timezone_of(lr_sql_text(i, 4));
		hash_in(((uint64) balance->per << 40) | ((uint64) balance->measure << 32) | (uint32) balance->pool_id);
		hash_in(hash_bytes((const unsigned char *) balance->timezone, (int) strlen(balance->timezone)));
	}
}

static void
load_owners(void)
{
	uint64		n = lr_sql("SELECT DISTINCT m.owner_id FROM leadroute.pool_members m JOIN leadroute.pools p USING (pool_id)"
						   " WHERE p.strategy = 'least_loaded' OR p.minutes_per_lead IS NOT NULL ORDER BY 1", true, 0, NULL, NULL, NULL);

	loading->loaded = MemoryContextAlloc(config_memory, sizeof(int) * Max(n, 1));
	loading->nloaded = (int) n;
	for (uint64 i = 0; i < n; i++)
	{
		loading->loaded[i] = lr_sql_int32(i, 1, 0);
		hash_in(loading->loaded[i]);
	}
}

/* Returns a name that stays: the same for the same time zone. */
static const char *
timezone_of(const char *name)
{
	MemoryContext saved;
	ListCell   *cell;
	char	   *kept;

	foreach(cell, loading->timezones)
	{
		if (strcmp(lfirst(cell), name) == 0)
			return lfirst(cell);
	}
	saved = MemoryContextSwitchTo(config_memory);
	kept = pstrdup(name);
	loading->timezones = lappend(loading->timezones, kept);
	MemoryContextSwitchTo(saved);
	return kept;
}

static void
hash_in(uint64 value)
{
	loading->hash = hash_combine64(loading->hash, hash_bytes_extended((const unsigned char *) &value, sizeof(value), 0));
}

static LrPer
per_of(const char *name)
{
	for (int i = 0; i < LR_N_PERS; i++)
	{
		if (strcmp(name, lr_per_names[i]) == 0)
			return (LrPer) i;
	}
	elog(ERROR, "\"%s\" is no span of a cap", name);
}
