/*
 * revision.c: the record of pools as decisions read them.
 *
 * A revision is written once, by whoever first routes after something changed, never per lead. With it begins a schedule, at
 * the pool's next turn: so after any number of leads each member has its share since the change. Two sessions may both write
 * one before they see each other's, and until then their schedules are shifted; from when they do, all take the one with the
 * lower id.
 */
#include "assignment/assignment.h"

#include "catalog/pg_type.h"
#include "provenance/provenance.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* The name of the pool with the id $1; of one that was deleted since, its number. */
#define POOL_NAME "coalesce((SELECT p.name FROM leadroute.pools p WHERE p.pool_id = $1), '#' || $1)"

static LrPool *read_revision(void);
static void content_hash(const LrPool *pool, unsigned char *hash);
static bool find_revision(LrPool *pool, Datum hash);
static bool has_revision(const LrPool *pool);
static void write_revision(LrPool *pool, Datum hash);
static char *skills_text(const LrMember *member);
static void read_skills(LrMember *member, char *text);

/* Makes sure that the pool, as this session knows it, is on record. */
void
lr_pool_record(LrPool *pool)
{
	unsigned char hash[32];
	bytea	   *hash_value;

	/* a revision of ours may have been rolled back since, or one with a lower id come into sight */
	if (pool->revision_id != 0 && pool->revision_generation == lr_table_generation(LR_TABLE_POOL_REVISIONS))
		return;
	content_hash(pool, hash);
	hash_value = palloc(VARHDRSZ + sizeof(hash));
	SET_VARSIZE(hash_value, VARHDRSZ + sizeof(hash));
	memcpy(VARDATA(hash_value), hash, sizeof(hash));
	if (!find_revision(pool, PointerGetDatum(hash_value)))
		write_revision(pool, PointerGetDatum(hash_value));
	pool->revision_generation = lr_table_generation(LR_TABLE_POOL_REVISIONS);
	pfree(hash_value);
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

	lr_sql_begin(&identity);
	if (lr_sql_kept(LR_PLAN_POOL_REVISION,
					"SELECT pool_id, within_us, working_clock, base_turn, strategy, measure, owner_ids, weights, available, positions, skills"
					" FROM leadroute.pool_revisions WHERE pool_revision_id = $1", 1, types, values, NULL) > 0)
	{
		MemoryContext saved = MemoryContextSwitchTo(memory);

		pool = read_revision();
		pool->revision_id = revision_id;
		MemoryContextSwitchTo(saved);
	}
	lr_sql_end(&identity);
	if (pool)
		lr_pool_make_schedule(pool);
	return pool;
}

static LrPool *
read_revision(void)
{
	LrPool	   *pool = palloc0(sizeof(LrPool));
	Datum	   *columns[5];
	bool	   *nulls[5];
	static const Oid types[] = {INT4OID, INT4OID, BOOLOID, INT4OID, TEXTOID};
	static const int lengths[] = {4, 4, 1, 4, -1};
	const char *strategy = lr_sql_text(0, 5);
	bool		isnull;

	pool->pool_id = lr_sql_int32(0, 1, 0);
	pool->within = lr_sql_int64(0, 2, 0);
	pool->working_clock = DatumGetBool(lr_sql_datum(0, 3, &isnull));
	pool->base = lr_sql_int64(0, 4, 0);
	for (int i = 0; i < LR_N_STRATEGIES; i++)
	{
		if (strcmp(lr_strategy_names[i], strategy) == 0)
			pool->strategy = (LrStrategy) i;
	}
	pool->measure = strcmp(lr_sql_text(0, 6), "value") == 0 ? LR_MEASURE_VALUE : LR_MEASURE_COUNT;
	for (int i = 0; i < (int) lengthof(columns); i++)
	{
		Datum		array = lr_sql_datum(0, 7 + i, &isnull);

		columns[i] = NULL;
		if (!isnull)
			deconstruct_array(DatumGetArrayTypePCopy(array), types[i], lengths[i], types[i] != TEXTOID, types[i] == BOOLOID ? TYPALIGN_CHAR : TYPALIGN_INT,
							  &columns[i], &nulls[i], &pool->nmembers);
	}
	pool->members = palloc0(sizeof(LrMember) * Max(pool->nmembers, 1));
	for (int i = 0; i < pool->nmembers; i++)
	{
		LrMember   *member = &pool->members[i];

		member->owner_id = DatumGetInt32(columns[0][i]);
		member->weight = DatumGetInt32(columns[1][i]);
		member->available = DatumGetBool(columns[2][i]);
		member->position = columns[3] ? DatumGetInt32(columns[3][i]) : 0;
		if (columns[4] && !nulls[4][i])
			read_skills(member, TextDatumGetCString(columns[4][i]));
	}
	return pool;
}

/* Hashes all that decisions read of a pool. No name of a skill has a comma. */
static void
content_hash(const LrPool *pool, unsigned char *hash)
{
	StringInfoData content;

	initStringInfo(&content);
	appendStringInfo(&content, "%s %d;", lr_strategy_names[pool->strategy], pool->measure);
	for (int i = 0; i < pool->nmembers; i++)
	{
		const LrMember *member = &pool->members[i];

		appendStringInfo(&content, "%d:%d:%d:%d", member->owner_id, member->weight, member->available ? 1 : 0, member->position);
		for (int k = 0; k < member->nskills; k++)
			appendStringInfo(&content, ",%s %d", member->skills[k].name, member->skills[k].level);
		appendStringInfoChar(&content, ',');
	}
	lr_sha256(content.data, content.len, hash);
	pfree(content.data);
}

/* Finds the revision that holds: the first one, of those that say the same, behind the last one that says another thing. */
static bool
find_revision(LrPool *pool, Datum hash)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID, INT8OID, BOOLOID, BYTEAOID};
	Datum		values[] = {Int32GetDatum(pool->pool_id), Int64GetDatum(pool->within), BoolGetDatum(pool->working_clock), hash};
	bool		found;

	lr_sql_begin(&identity);
	found = lr_sql("SELECT r.pool_revision_id, r.base_turn FROM leadroute.pool_revisions r"
				   " WHERE r.pool_id = $1 AND r.pool_name = " POOL_NAME " AND r.within_us = $2 AND r.working_clock = $3 AND r.content_hash = $4 AND r.pool_revision_id >"
				   " coalesce((SELECT o.pool_revision_id FROM leadroute.pool_revisions o WHERE o.pool_id = $1 AND o.within_us = $2 AND o.working_clock = $3"
				   " AND o.content_hash <> $4 ORDER BY o.pool_revision_id DESC LIMIT 1), 0) ORDER BY r.pool_revision_id LIMIT 1", true, 4, types, values, NULL) > 0;
	if (found)
	{
		pool->revision_id = lr_sql_int32(0, 1, 0);
		pool->base = lr_sql_int64(0, 2, 0);
	}
	lr_sql_end(&identity);
	return found;
}

/* Tells whether the pool was ever on record: the first schedule begins with the first turn, whoever writes it. */
static bool
has_revision(const LrPool *pool)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID, INT8OID, BOOLOID};
	Datum		values[] = {Int32GetDatum(pool->pool_id), Int64GetDatum(pool->within), BoolGetDatum(pool->working_clock)};
	bool		found;

	lr_sql_begin(&identity);
	found = lr_sql("SELECT FROM leadroute.pool_revisions WHERE pool_id = $1 AND within_us = $2 AND working_clock = $3 LIMIT 1", true, 3, types, values, NULL) > 0;
	lr_sql_end(&identity);
	return found;
}

static void
write_revision(LrPool *pool, Datum hash)
{
	Datum	   *columns[5];
	bool	   *nulls = palloc0(sizeof(bool) * Max(pool->nmembers, 1));
	int			dims[] = {pool->nmembers};
	int			lows[] = {1};
	bool		any_skills = false;
	LrIdentity	identity;
	Oid			types[] = {INT4OID, INT4ARRAYOID, INT4ARRAYOID, BOOLARRAYOID, INT4ARRAYOID, TEXTARRAYOID, BYTEAOID, INT8OID, BOOLOID, INT8OID, TEXTOID, TEXTOID};
	Datum		values[12];
	char		is_null[] = "            ";

	for (int i = 0; i < (int) lengthof(columns); i++)
		columns[i] = palloc(sizeof(Datum) * Max(pool->nmembers, 1));
	for (int i = 0; i < pool->nmembers; i++)
	{
		const LrMember *member = &pool->members[i];

		columns[0][i] = Int32GetDatum(member->owner_id);
		columns[1][i] = Int32GetDatum(member->weight);
		columns[2][i] = BoolGetDatum(member->available);
		columns[3][i] = Int32GetDatum(member->position);
		columns[4][i] = CStringGetTextDatum(skills_text(member));
		nulls[i] = member->nskills == 0;
		any_skills |= !nulls[i];
	}
	pool->base = OidIsValid(pool->turns) && has_revision(pool) ? lr_numbers_next(pool->turns) : 0;
	values[0] = Int32GetDatum(pool->pool_id);
	values[1] = PointerGetDatum(construct_array(columns[0], pool->nmembers, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	values[2] = PointerGetDatum(construct_array(columns[1], pool->nmembers, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	values[3] = PointerGetDatum(construct_array(columns[2], pool->nmembers, BOOLOID, sizeof(bool), true, TYPALIGN_CHAR));
	values[4] = PointerGetDatum(construct_array(columns[3], pool->nmembers, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	is_null[4] = pool->strategy == LR_STRATEGY_FIXED ? ' ' : 'n';
	values[5] = pool->nmembers == 0 ? PointerGetDatum(construct_empty_array(TEXTOID))
		: PointerGetDatum(construct_md_array(columns[4], nulls, 1, dims, lows, TEXTOID, -1, false, TYPALIGN_INT));
	is_null[5] = any_skills ? ' ' : 'n';
	values[6] = hash;
	values[7] = Int64GetDatum(pool->within);
	values[8] = BoolGetDatum(pool->working_clock);
	values[9] = Int64GetDatum(pool->base);
	values[10] = CStringGetTextDatum(lr_strategy_names[pool->strategy]);
	values[11] = CStringGetTextDatum(pool->measure == LR_MEASURE_VALUE ? "value" : "count");
	lr_sql_begin(&identity);
	lr_sql("INSERT INTO leadroute.pool_revisions (pool_id, pool_name, owner_ids, weights, available, positions, skills, content_hash, seen_at, within_us,"
		   " working_clock, base_turn, strategy, measure)"
		   " SELECT $1, " POOL_NAME ", $2, $3, $4, $5, $6, $7, clock_timestamp(), $8, $9, $10, $11, $12"
		   " RETURNING pool_revision_id", false, 12, types, values, is_null);
	pool->revision_id = lr_sql_int32(0, 1, 0);
	lr_sql_end(&identity);
	lr_table_changed(LR_TABLE_POOL_REVISIONS);
}

static char *
skills_text(const LrMember *member)
{
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < member->nskills; i++)
		appendStringInfo(&text, "%s%s %d", i ? ", " : "", member->skills[i].name, member->skills[i].level);
	return text.data;
}

/* Reads what skills_text() wrote; it is the reader's now. A name may hold anything but ", ". */
static void
read_skills(LrMember *member, char *text)
{
	int			n = 1;

	for (const char *at = text; (at = strstr(at, ", ")) != NULL; at += 2)
		n++;
	member->skills = palloc(sizeof(LrSkill) * n);
	while (text)
	{
		char	   *end = strstr(text, ", ");
		char	   *level;

		if (end)
			*end = '\0';
		level = strrchr(text, ' ');
		if (level)
		{
			*level = '\0';
			member->skills[member->nskills].name = text;
			member->skills[member->nskills++].level = atoi(level + 1);
		}
		text = end ? end + 2 : NULL;
	}
}
