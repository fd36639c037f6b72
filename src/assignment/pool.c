/*
 * pool.c: pools, their members, and whose turn it is.
 *
 * Each pool has a sequence; a lead draws a number from it and no lock is held for longer than that. The number's place in a
 * fixed schedule says who takes the lead. The schedule spreads a member's shares evenly: of weight w, the k-th share of a
 * cycle is due at (2k + 1) / 2w of it (the divisor method of Webster; as stride scheduling: C. Waldspurger, W. Weihl, 1995),
 * ties going to the lower owner id. Who is not available has no place in it.
 *
 * The members as they were read are on record as a revision, written by whoever first routes after a change.
 */
#include "assignment/assignment.h"

#include "catalog/pg_type.h"
#include "catalog/namespace.h"
#include "provenance/provenance.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

typedef struct Share
{
	int			place;
	int64		weight;
	int64		ordinal;		/* 2k + 1 */
} Share;

static List *pools = NIL;		/* of LrPool, in pool_memory */
static MemoryContext pool_memory = NULL;
static uint64 pools_generation;
static uint64 revisions_generation;

static void load_members(LrPool *pool);
static void read_members(LrPool *pool, Datum owner_ids, Datum weights, Datum available);
static void make_schedule(LrPool *pool);
static int	compare_shares(const void *a, const void *b);
static ArrayType *int_array(const int *values, int n);
static ArrayType *bool_array(const bool *values, int n);
static void content_hash(const LrPool *pool, unsigned char *hash);
static int	find_revision(const LrPool *pool, Datum hash);

/* Returns a pool as it is now; it stays good for the statement. */
LrPool *
lr_pool(int pool_id)
{
	uint64		generation = lr_table_generation(LR_TABLE_POOLS) + lr_table_generation(LR_TABLE_OWNERS) + lr_table_generation(LR_TABLE_POOL_MEMBERS);
	MemoryContext saved;
	ListCell   *cell;
	LrPool	   *pool = NULL;

	if (pool_memory == NULL || pools_generation != generation)
	{
		/* a batch in hand may still point to the old ones: they go with the transaction */
		if (pool_memory)
			MemoryContextSetParent(pool_memory, TopTransactionContext);
		pool_memory = AllocSetContextCreate(CacheMemoryContext, "leadroute pools", ALLOCSET_SMALL_SIZES);
		pools = NIL;
		pools_generation = generation;
	}
	foreach(cell, pools)
	{
		if (((LrPool *) lfirst(cell))->pool_id == pool_id)
			pool = lfirst(cell);
	}
	if (pool == NULL)
	{
		MemoryContext mine = pool_memory;

		saved = MemoryContextSwitchTo(mine);
		pool = palloc0(sizeof(LrPool));
		pool->pool_id = pool_id;
		load_members(pool);
		make_schedule(pool);
		/* pools of one owner share a sequence: there may be as many as there are owners */
		pool->turns = get_relname_relid(pool->of_owner ? "owner_turns" : psprintf("pool_%d_turns", pool_id), lr_catalog()->schema);
		pools = lappend(pools, pool);
		MemoryContextSwitchTo(saved);
	}
	return pool;
}

/* Returns a pool as a past decision read it, in the current memory context; NULL if the revision is gone. */
LrPool *
lr_pool_of_revision(int revision_id)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(revision_id)};
	LrPool	   *pool = NULL;
	bool		isnull;

	lr_sql_begin(&identity);
	if (lr_sql_kept(LR_PLAN_POOL_REVISION, "SELECT pool_id, owner_ids, weights, available FROM leadroute.pool_revisions WHERE pool_revision_id = $1",
					1, types, values, NULL) > 0)
	{
		MemoryContext saved = MemoryContextSwitchTo(memory);

		pool = palloc0(sizeof(LrPool));
		pool->pool_id = lr_sql_int32(0, 1, 0);
		pool->revision_id = revision_id;
		read_members(pool, lr_sql_datum(0, 2, &isnull), lr_sql_datum(0, 3, &isnull), lr_sql_datum(0, 4, &isnull));
		make_schedule(pool);
		MemoryContextSwitchTo(saved);
	}
	lr_sql_end(&identity);
	return pool;
}

/* Makes sure that the pool, as this session knows it, is on record; returns its revision. */
int
lr_pool_record(LrPool *pool)
{
	unsigned char hash[32];
	bytea	   *hash_value;
	LrIdentity	identity;
	Oid			types[] = {INT4OID, INT4ARRAYOID, INT4ARRAYOID, BOOLARRAYOID, BYTEAOID};
	Datum		values[5];

	/* a revision of ours may have been rolled back since */
	if (revisions_generation != lr_table_generation(LR_TABLE_POOL_REVISIONS))
	{
		ListCell   *cell;

		revisions_generation = lr_table_generation(LR_TABLE_POOL_REVISIONS);
		foreach(cell, pools)
			((LrPool *) lfirst(cell))->revision_id = 0;
	}
	if (pool->revision_id != 0)
		return pool->revision_id;

	content_hash(pool, hash);
	hash_value = palloc(VARHDRSZ + sizeof(hash));
	SET_VARSIZE(hash_value, VARHDRSZ + sizeof(hash));
	memcpy(VARDATA(hash_value), hash, sizeof(hash));
	pool->revision_id = find_revision(pool, PointerGetDatum(hash_value));
	if (pool->revision_id != 0)
		return pool->revision_id;

	values[0] = Int32GetDatum(pool->pool_id);
	values[1] = PointerGetDatum(int_array(pool->owner_ids, pool->nmembers));
	values[2] = PointerGetDatum(int_array(pool->weights, pool->nmembers));
	values[3] = PointerGetDatum(bool_array(pool->available, pool->nmembers));
	values[4] = PointerGetDatum(hash_value);
	lr_sql_begin(&identity);
	lr_sql("INSERT INTO leadroute.pool_revisions (pool_id, pool_name, owner_ids, weights, available, content_hash, seen_at)"
		   " SELECT $1, coalesce((SELECT p.name FROM leadroute.pools p WHERE p.pool_id = $1), '#' || $1), $2, $3, $4, $5, clock_timestamp()"
		   " RETURNING pool_revision_id", false, 5, types, values, NULL);
	pool->revision_id = lr_sql_int32(0, 1, 0);
	lr_sql_end(&identity);
	lr_table_changed(LR_TABLE_POOL_REVISIONS);
	return pool->revision_id;
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

/* Returns whose turn it is: a place in owner_ids, or -1 if nobody is available. */
int
lr_pool_owner_of_turn(const LrPool *pool, int64 turn)
{
	return pool->cycle == 0 ? -1 : pool->schedule[turn % pool->cycle];
}

/* Tells whether an owner is an available member. */
bool
lr_pool_has_available(const LrPool *pool, int owner_id)
{
	for (int i = 0; i < pool->nmembers; i++)
	{
		if (pool->owner_ids[i] == owner_id)
			return pool->available[i];
	}
	return false;
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
	n = lr_sql("SELECT m.owner_id, m.weight, o.available, EXISTS (SELECT FROM leadroute.pools p WHERE p.pool_id = m.pool_id AND p.of_owner IS NOT NULL)"
			   " FROM leadroute.pool_members m JOIN leadroute.owners o USING (owner_id) WHERE m.pool_id = $1 ORDER BY m.owner_id", true, 1, types, values, NULL);
	saved = MemoryContextSwitchTo(memory);
	pool->nmembers = (int) n;
	pool->owner_ids = palloc(sizeof(int) * Max(n, 1));
	pool->weights = palloc(sizeof(int) * Max(n, 1));
	pool->available = palloc(sizeof(bool) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;

		pool->owner_ids[i] = lr_sql_int32(i, 1, 0);
		pool->weights[i] = lr_sql_int32(i, 2, 1);
		pool->available[i] = DatumGetBool(lr_sql_datum(i, 3, &isnull));
		pool->of_owner = DatumGetBool(lr_sql_datum(i, 4, &isnull));
	}
	MemoryContextSwitchTo(saved);
	lr_sql_end(&identity);
}

static void
read_members(LrPool *pool, Datum owner_ids, Datum weights, Datum available)
{
	ArrayType  *owners = DatumGetArrayTypePCopy(owner_ids);

	pool->nmembers = ArrayGetNItems(ARR_NDIM(owners), ARR_DIMS(owners));
	pool->owner_ids = (int *) ARR_DATA_PTR(owners);
	pool->weights = (int *) ARR_DATA_PTR(DatumGetArrayTypePCopy(weights));
	pool->available = (bool *) ARR_DATA_PTR(DatumGetArrayTypePCopy(available));
}

static void
make_schedule(LrPool *pool)
{
	int			divisor = 0;
	int			n = 0;
	Share	   *shares;

	for (int i = 0; i < pool->nmembers; i++)
	{
		int			a = pool->available[i] ? pool->weights[i] : 0;
		int			b = divisor;

		while (b != 0)
		{
			int			rest = a % b;

			a = b;
			b = rest;
		}
		divisor = a;
	}
	for (int i = 0; i < pool->nmembers; i++)
		pool->cycle += pool->available[i] ? pool->weights[i] / divisor : 0;

	shares = palloc(sizeof(Share) * Max(pool->cycle, 1));
	for (int i = 0; i < pool->nmembers; i++)
	{
		int			weight = pool->available[i] ? pool->weights[i] / divisor : 0;

		for (int k = 0; k < weight; k++)
			shares[n++] = (Share) {.place = i,.weight = weight,.ordinal = 2 * (int64) k + 1};
	}
	qsort(shares, n, sizeof(Share), compare_shares);
	pool->schedule = palloc(sizeof(int) * Max(n, 1));
	for (int i = 0; i < n; i++)
		pool->schedule[i] = shares[i].place;
	pfree(shares);
}

static int
compare_shares(const void *a, const void *b)
{
	const Share *one = a;
	const Share *other = b;
	int64		left = one->ordinal * other->weight;
	int64		right = other->ordinal * one->weight;

	if (left != right)
		return left < right ? -1 : 1;
	return one->place - other->place;
}

static ArrayType *
int_array(const int *values, int n)
{
	Datum	   *elements = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		elements[i] = Int32GetDatum(values[i]);
	return construct_array(elements, n, INT4OID, sizeof(int32), true, TYPALIGN_INT);
}

static ArrayType *
bool_array(const bool *values, int n)
{
	Datum	   *elements = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		elements[i] = BoolGetDatum(values[i]);
	return construct_array(elements, n, BOOLOID, sizeof(bool), true, TYPALIGN_CHAR);
}

static void
content_hash(const LrPool *pool, unsigned char *hash)
{
	StringInfoData content;

	initStringInfo(&content);
	for (int i = 0; i < pool->nmembers; i++)
		appendStringInfo(&content, "%d:%d:%d,", pool->owner_ids[i], pool->weights[i], pool->available[i] ? 1 : 0);
	lr_sha256(content.data, content.len, hash);
}

static int
find_revision(const LrPool *pool, Datum hash)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID, BYTEAOID};
	Datum		values[] = {Int32GetDatum(pool->pool_id), hash};
	int			revision_id = 0;

	lr_sql_begin(&identity);
	if (lr_sql("SELECT r.pool_revision_id FROM leadroute.pool_revisions r JOIN leadroute.pools p ON p.pool_id = r.pool_id AND p.name = r.pool_name"
			   " WHERE r.pool_id = $1 AND r.content_hash = $2 LIMIT 1", true, 2, types, values, NULL) > 0)
		revision_id = lr_sql_int32(0, 1, 0);
	lr_sql_end(&identity);
	return revision_id;
}
