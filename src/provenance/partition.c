/*
 * partition.c: the partition of the record that a moment falls into.
 */
#include "provenance/provenance.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/lsyscache.h"

static Oid	cached = InvalidOid;
static TimestampTz cached_from;
static TimestampTz cached_to;
static uint64 entries_generation;

static void find_month(TimestampTz moment, TimestampTz *from, TimestampTz *to, char *name);

/* Returns the partition for a moment; makes it if it is missing. */
Oid
lr_entries_partition(TimestampTz as_of)
{
	LrIdentity	identity;
	Oid			types[] = {TIMESTAMPTZOID};
	Datum		values[] = {TimestampTzGetDatum(as_of)};
	char		name[NAMEDATALEN];

	if (entries_generation == lr_table_generation(LR_TABLE_ENTRIES) && OidIsValid(cached) && as_of >= cached_from && as_of < cached_to)
		return cached;
	entries_generation = lr_table_generation(LR_TABLE_ENTRIES);
	find_month(as_of, &cached_from, &cached_to, name);
	cached = get_relname_relid(name, lr_catalog()->schema);
	if (!OidIsValid(cached) || !get_rel_relispartition(cached))
	{
		lr_sql_begin(&identity);
		lr_sql("SELECT leadroute.make_entry_partition($1)", false, 1, types, values, NULL);
		lr_sql_end(&identity);
		cached = get_relname_relid(name, lr_catalog()->schema);
	}
	if (!OidIsValid(cached) || !get_rel_relispartition(cached))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("\"leadroute.%s\" is not a partition of the record", name),
				errhint("Attach it again to leadroute.entries, or rename it."));
	return cached;
}

/* Returns the partition for a moment of the past; InvalidOid if it was taken away. */
Oid
lr_entries_partition_of_past(TimestampTz as_of)
{
	TimestampTz from;
	TimestampTz to;
	char		name[NAMEDATALEN];
	Oid			relid;

	if (entries_generation == lr_table_generation(LR_TABLE_ENTRIES) && OidIsValid(cached) && as_of >= cached_from && as_of < cached_to)
		return cached;
	find_month(as_of, &from, &to, name);
	relid = get_relname_relid(name, lr_catalog()->schema);
	return OidIsValid(relid) && get_rel_relispartition(relid) ? relid : InvalidOid;
}

static void
find_month(TimestampTz moment, TimestampTz *from, TimestampTz *to, char *name)
{
	struct pg_tm tm;
	fsec_t		fraction;

	if (timestamp2tm(moment, NULL, &tm, &fraction, NULL, NULL) != 0)
		ereport(ERROR,
				errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("timestamp out of range"));
	snprintf(name, NAMEDATALEN, "entries_%04d_%02d", tm.tm_year, tm.tm_mon);
	tm.tm_mday = 1;
	tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
	tm2timestamp(&tm, 0, NULL, from);
	if (++tm.tm_mon > 12)
	{
		tm.tm_mon = 1;
		tm.tm_year++;
	}
	tm2timestamp(&tm, 0, NULL, to);
}
