/*
 * keys.c: the identity of a lead: from a row's primary key to its lead id.
 *
 * Where the key is a bigint that defaults from leadroute.lead_ids it is the lead id. Otherwise leadroute.lead_keys maps the
 * key's text form, that of a cast to text, to one, and back. It does not depend on the session: dates are in ISO form, times
 * with a zone in UTC.
 */
#include "intake/intake.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(leadroute_key_of);

static char *key_of_row(const LrSource *source, TupleTableSlot *slot);
static int	enter_settings(const LrSource *source);
static char *key_text_of(const LrSource *source, const Datum *values);
static void find_keys(int source_id, char **keys, int n, int64 *lead_ids);
static bool depends_on_settings(Oid type);

/* Finds how a type becomes text, in the current memory context. */
void
lr_key_text_init(LrKeyText *key_text, Oid type)
{
	Oid			function;
	bool		is_varlena;

	/* boolean, char(n), inet and others have a cast of their own: true, not t. Casts that a user made are not for us. */
	key_text->casts = getBaseType(type) < FirstNormalObjectId &&
		find_coercion_pathway(TEXTOID, type, COERCION_EXPLICIT, &function) == COERCION_PATH_FUNC;
	if (!key_text->casts)
		getTypeOutputInfo(type, &function, &is_varlena);
	fmgr_info_cxt(function, &key_text->function, CurrentMemoryContext);
}

/* Returns the text form of a value, in the way that lr_key_text_init() found. */
char *
lr_key_text(LrKeyText *key_text, Datum value)
{
	return key_text->casts ? TextDatumGetCString(FunctionCall1Coll(&key_text->function, InvalidOid, value))
		: OutputFunctionCall(&key_text->function, value);
}

/* Returns the text form of a row's key. */
char *
lr_lead_key(const LrSource *source, TupleTableSlot *slot)
{
	int			nest = enter_settings(source);
	char	   *key = key_of_row(source, slot);

	lr_settings_leave(nest);
	return key;
}

/* Finds the text forms of the keys of n rows, and their lead ids, 0 for a key that has none. */
void
lr_lead_keys_find(const LrSource *source, MinimalTuple *rows, int n, char **keys, int64 *lead_ids)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(source->desc, &TTSOpsMinimalTuple);
	int			nest = enter_settings(source);

	for (int i = 0; i < n; i++)
	{
		ExecStoreMinimalTuple(rows[i], slot, false);
		keys[i] = key_of_row(source, slot);
	}
	lr_settings_leave(nest);
	ExecDropSingleTupleTableSlot(slot);
	find_keys(source->source_id, keys, n, lead_ids);
}

static char *
key_of_row(const LrSource *source, TupleTableSlot *slot)
{
	Datum		values[INDEX_MAX_KEYS];

	for (int i = 0; i < source->nkeys; i++)
	{
		bool		isnull;

		values[i] = slot_getattr(slot, source->keys[i], &isnull);
	}
	return key_text_of(source, values);
}

/* Pins the settings on which the text form of a table's key depends, if it does; returns what lr_settings_leave wants. */
static int
enter_settings(const LrSource *source)
{
	for (int i = 0; i < source->nkeys; i++)
	{
		if (depends_on_settings(TupleDescAttr(source->desc, source->keys[i] - 1)->atttypid))
			return lr_settings_enter("UTC");
	}
	return -1;
}

/* Returns the text form of a key's values, under pinned settings: of one column its own, of several a JSON array of theirs. */
static char *
key_text_of(const LrSource *source, const Datum *values)
{
	StringInfoData key;

	initStringInfo(&key);
	for (int i = 0; i < source->nkeys; i++)
	{
		char	   *field = lr_key_text(&source->key_text[i], values[i]);

		if (source->nkeys == 1)
			appendStringInfoString(&key, field);
		else
		{
			appendStringInfoString(&key, i == 0 ? "[" : ", ");
			escape_json(&key, field);
		}
	}
	if (source->nkeys > 1)
		appendStringInfoChar(&key, ']');
	return key.data;
}

/* Returns the text form of a key; see the SQL comment. */
Datum
leadroute_key_of(PG_FUNCTION_ARGS)
{
	Relation	rel = table_open(PG_GETARG_OID(0), AccessShareLock);
	const LrSource *source = lr_source(rel);
	Datum		values[INDEX_MAX_KEYS];
	bool		fits = PG_NARGS() == source->nkeys + 1;
	text	   *key;
	int			nest;

	for (int i = 0; i < source->nkeys && fits; i++)
	{
		fits = !PG_ARGISNULL(i + 1) &&
			get_fn_expr_argtype(fcinfo->flinfo, i + 1) == TupleDescAttr(source->desc, source->keys[i] - 1)->atttypid;
		values[i] = PG_GETARG_DATUM(i + 1);
	}
	if (!fits)
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("these are not the columns of the key of table \"%s\"", RelationGetRelationName(rel)),
				errhint("Give them as they are, in their order: see key_columns in leadroute.attached_tables."));
	nest = enter_settings(source);
	key = cstring_to_text(key_text_of(source, values));
	lr_settings_leave(nest);
	table_close(rel, NoLock);
	PG_RETURN_TEXT_P(key);
}

/* Returns the text form of a lead's key; NULL if it has none. */
char *
lr_key_of_lead(int source_id, int64 lead_id)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {INT4OID, INT8OID};
	Datum		values[] = {Int32GetDatum(source_id), Int64GetDatum(lead_id)};
	char	   *key = NULL;

	lr_sql_begin(&identity);
	if (lr_sql_kept(LR_PLAN_KEY_OF_LEAD, "SELECT key FROM leadroute.lead_keys WHERE lead_id = $2 AND source_id = $1", 2, types, values, NULL) > 0)
		key = MemoryContextStrdup(memory, lr_sql_text(0, 1));
	lr_sql_end(&identity);
	return key;
}

/* Finds the text forms of the keys of n leads of a table; NULL for one that has none. */
void
lr_keys_of_leads(const LrSource *source, const int64 *lead_ids, int n, char **keys)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {INT4OID, INT8ARRAYOID};
	Datum		values[2];
	uint64		nrows;

	memset(keys, 0, sizeof(char *) * n);
	if (!source->keyed)
	{
		for (int i = 0; i < n; i++)
			keys[i] = psprintf(INT64_FORMAT, lead_ids[i]);
		return;
	}
	values[0] = Int32GetDatum(source->source_id);
	values[1] = lr_int8_array(lead_ids, n);
	lr_sql_begin(&identity);
	nrows = lr_sql("SELECT w.place::integer, k.key FROM unnest($2) WITH ORDINALITY AS w (lead_id, place) JOIN leadroute.lead_keys k"
				   " ON k.lead_id = w.lead_id AND k.source_id = $1", true, 2, types, values, NULL);
	for (uint64 i = 0; i < nrows; i++)
		keys[lr_sql_int32(i, 1, 1) - 1] = MemoryContextStrdup(memory, lr_sql_text(i, 2));
	lr_sql_end(&identity);
	MemoryContextSwitchTo(memory);
}

/* Finds the lead id of a key, 0 if it has none. */
int64
lr_key_find(int source_id, char *key)
{
	int64		lead_id;

	find_keys(source_id, &key, 1, &lead_id);
	return lead_id;
}

static void
find_keys(int source_id, char **keys, int n, int64 *lead_ids)
{
	const LrCatalog *catalog = lr_catalog();
	Relation	rel = table_open(catalog->tables[LR_TABLE_LEAD_KEYS], AccessShareLock);
	Relation	index = index_open(catalog->lead_keys_pkey, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	IndexScanDesc scan = lr_index_beginscan(rel, index, snapshot, 2);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	ScanKeyData wanted[2];

	for (int i = 0; i < n; i++)
	{
		bool		isnull;

		ScanKeyInit(&wanted[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(source_id));
		ScanKeyInit(&wanted[1], 2, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(keys[i]));
		wanted[1].sk_collation = index->rd_indcollation[1];
		index_rescan(scan, wanted, 2, NULL, 0);
		lead_ids[i] = index_getnext_slot(scan, ForwardScanDirection, slot) ? DatumGetInt64(slot_getattr(slot, 3, &isnull)) : 0;
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
}

static bool
depends_on_settings(Oid type)
{
	switch (getBaseType(type))
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case UUIDOID:
		case NUMERICOID:
		case BOOLOID:
			return false;
		default:
			return true;
	}
}
