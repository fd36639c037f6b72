/*
 * keys.c: the identity of a lead: from a row's primary key to its lead id.
 *
 * Where the key is a bigint that defaults from leadroute.lead_ids it is the lead id. Otherwise leadroute.lead_keys maps the
 * key's text form to one, and back. The text form does not depend on the session: dates are in ISO form, times with a zone in UTC.
 */
#include "intake/intake.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

static bool depends_on_settings(Oid type);

/* Returns the text form of a row's key: of one column its own, of several a JSON array of theirs. */
char *
lr_lead_key(const LrSource *source, TupleTableSlot *slot)
{
	StringInfoData key;
	int			nest = -1;

	for (int i = 0; i < source->nkeys && nest < 0; i++)
	{
		if (depends_on_settings(TupleDescAttr(source->desc, source->keys[i] - 1)->atttypid))
			nest = lr_settings_enter("UTC");
	}
	initStringInfo(&key);
	for (int i = 0; i < source->nkeys; i++)
	{
		bool		isnull;
		Datum		value = slot_getattr(slot, source->keys[i], &isnull);
		char	   *field = OutputFunctionCall((FmgrInfo *) &source->key_output[i], value);

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
	lr_settings_leave(nest);
	return key.data;
}

/* Returns SQL for the text form of the key of a row of alias t, as lr_lead_key() makes it. */
char *
lr_key_expression(const LrSource *source)
{
	StringInfoData sql;

	initStringInfo(&sql);
	if (source->nkeys > 1)
		appendStringInfoString(&sql, "pg_catalog.jsonb_build_array(");
	for (int i = 0; i < source->nkeys; i++)
		appendStringInfo(&sql, "%st.%s::pg_catalog.text", i ? ", " : "", quote_identifier(source->key_names[i]));
	if (source->nkeys > 1)
		appendStringInfoString(&sql, ")::pg_catalog.text");
	return sql.data;
}

/* Returns SQL for: the row of alias t has the key whose text form is $1. An index on the key can serve it. */
char *
lr_key_condition(const LrSource *source)
{
	StringInfoData sql;

	initStringInfo(&sql);
	for (int i = 0; i < source->nkeys; i++)
	{
		Form_pg_attribute column = TupleDescAttr(source->desc, source->keys[i] - 1);

		appendStringInfo(&sql, "%st.%s = ", i ? " AND " : "", quote_identifier(source->key_names[i]));
		if (source->nkeys == 1)
			appendStringInfoString(&sql, "$1");
		else
			appendStringInfo(&sql, "($1::pg_catalog.jsonb ->> %d)", i);
		appendStringInfo(&sql, "::%s", format_type_extended(column->atttypid, column->atttypmod, FORMAT_TYPE_FORCE_QUALIFY | FORMAT_TYPE_TYPEMOD_GIVEN));
	}
	return sql.data;
}

/* Returns the qualified, quoted name of the attached table. */
char *
lr_root_name(const LrSource *source)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(source->root)), get_rel_name(source->root));
}

/* Fetches the row of a lead into a slot; false if it is gone. */
bool
lr_lead_fetch(const LrSource *source, int64 lead_id, TupleTableSlot *slot)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {TEXTOID};
	Datum		values[1];
	char	   *key = psprintf(INT64_FORMAT, lead_id);
	bool		found;
	int			nest;

	lr_sql_begin(&identity);
	nest = lr_settings_enter("UTC");
	if (source->keyed)
	{
		Oid			key_types[] = {INT4OID, INT8OID};
		Datum		key_values[] = {Int32GetDatum(source->source_id), Int64GetDatum(lead_id)};

		key = lr_sql_kept(LR_PLAN_KEY_OF_LEAD, "SELECT key FROM leadroute.lead_keys WHERE lead_id = $2 AND source_id = $1", 2, key_types,
						  key_values, NULL) > 0 ? lr_sql_text(0, 1) : NULL;
	}
	if (key)
		values[0] = CStringGetTextDatum(key);
	found = key && lr_sql(psprintf("SELECT t.* FROM %s t WHERE %s", lr_root_name(source), lr_key_condition(source)), false, 1, types, values, NULL) > 0;
	if (found)
	{
		MemoryContext saved = MemoryContextSwitchTo(memory);

		ExecForceStoreHeapTuple(heap_copytuple(SPI_tuptable->vals[0]), slot, false);
		MemoryContextSwitchTo(saved);
	}
	lr_settings_leave(nest);
	lr_sql_end(&identity);
	return found;
}

/* Finds the lead id of a key, 0 if it has none. */
int64
lr_key_find(int source_id, const char *key)
{
	const LrCatalog *catalog = lr_catalog();
	Relation	rel = table_open(catalog->tables[LR_TABLE_LEAD_KEYS], AccessShareLock);
	Relation	index = index_open(catalog->lead_keys_pkey, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	IndexScanDesc scan = lr_index_beginscan(rel, index, snapshot, 2);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	ScanKeyData keys[2];
	int64		lead_id = 0;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(source_id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(key));
	keys[1].sk_collation = index->rd_indcollation[1];
	index_rescan(scan, keys, 2, NULL, 0);
	if (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;

		lead_id = DatumGetInt64(slot_getattr(slot, 3, &isnull));
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	return lead_id;
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
