/*
 * rows.c: reading the rows of an attached table.
 *
 * A table is its owner's: planning a query on it may already run functions of theirs, in index predicates, statistics or
 * constraints. So it is read as its owner, in a security-restricted operation, by queries that touch nothing of ours; what
 * is ours is looked up apart from them.
 *
 * A row that is read to be routed is locked first: whoever changes or deletes it meanwhile comes before, and then it is read
 * as it is by then, or after, and then finds the decision. The row's lock comes before that of its state, as in an UPDATE.
 */
#include "intake/intake.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "provenance/provenance.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

/* Rows that are read at a time. */
#define CHUNK 1000

PG_FUNCTION_INFO_V1(leadroute_attached_rows);

struct LrRowScan
{
	const LrSource *source;
	LrIdentity	identity;
	int			nest;
	Portal		portal;
	SPITupleTable *chunk;
	uint64		n;
	uint64		next;
};

typedef struct KeyOfLead
{
	char	   *key;
	int			place;
} KeyOfLead;

static int	compare_keys(const void *a, const void *b);
static void read_as_owner(const LrSource *source, LrIdentity *saved);
static char *columns(const LrSource *source);
static char *key_condition(const LrSource *source, const char *key);
static char *key_order(const LrSource *source);
static char *table_name(const LrSource *source);
static char *key_shown(const LrSource *source, const char *key);
static char *baseline_owner(const LrSource *source, TupleTableSlot *slot);

/* Begins to read all rows of a table, in the order of their keys. */
LrRowScan *
lr_rows_begin(const LrSource *source)
{
	LrRowScan  *scan = palloc0(sizeof(LrRowScan));

	scan->source = source;
	read_as_owner(source, &scan->identity);
	scan->nest = lr_settings_enter("UTC");
	SPI_connect();
	scan->portal = SPI_cursor_open_with_args(NULL, psprintf("SELECT %s FROM %s t ORDER BY %s", columns(source), table_name(source), key_order(source)),
											 0, NULL, NULL, NULL, true, 0);
	lr_restore_identity(&scan->identity);
	return scan;
}

/*
 * Begins to read the rows of some keys; those that are gone are left out. lock: each is locked until the transaction ends, and read
 * as it is then.
 */
LrRowScan *
lr_rows_begin_keys(const LrSource *source, char **keys, int n, bool lock)
{
	LrRowScan  *scan = palloc0(sizeof(LrRowScan));
	Oid			types[] = {TEXTARRAYOID};
	Datum	   *elements = palloc(sizeof(Datum) * Max(n, 1));
	Datum		values[1];

	for (int i = 0; i < n; i++)
		elements[i] = CStringGetTextDatum(keys[i]);
	values[0] = PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT));
	scan->source = source;
	read_as_owner(source, &scan->identity);
	scan->nest = lr_settings_enter("UTC");
	SPI_connect();
	scan->portal = SPI_cursor_open_with_args(NULL, psprintf("SELECT %s FROM pg_catalog.unnest($1) AS wanted (key) JOIN %s t ON %s%s", columns(source),
															table_name(source), key_condition(source, "wanted.key"), lock ? " FOR NO KEY UPDATE OF t" : ""),
											 1, types, values, NULL, !lock, 0);
	lr_restore_identity(&scan->identity);
	return scan;
}

/* Gives the next row in a slot, which is good until the next call; false behind the last. */
bool
lr_rows_next(LrRowScan *scan, TupleTableSlot *slot)
{
	if (scan->next == scan->n)
	{
		LrIdentity	identity;

		CHECK_FOR_INTERRUPTS();
		ExecClearTuple(slot);
		SPI_freetuptable(scan->chunk);
		read_as_owner(scan->source, &identity);
		SPI_cursor_fetch(scan->portal, true, CHUNK);
		lr_restore_identity(&identity);
		scan->chunk = SPI_tuptable;
		scan->n = SPI_processed;
		scan->next = 0;
		if (scan->n == 0)
			return false;
	}
	ExecForceStoreHeapTuple(scan->chunk->vals[scan->next++], slot, false);
	return true;
}

/* Ends the reading. */
void
lr_rows_end(LrRowScan *scan)
{
	SPI_cursor_close(scan->portal);
	SPI_finish();
	lr_settings_leave(scan->nest);
}

/* Fetches the row of a lead into a slot, in the current memory context, and locks it if asked to; false if it is gone. */
bool
lr_lead_fetch(const LrSource *source, int64 lead_id, bool lock, TupleTableSlot *slot)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {TEXTOID};
	Datum		values[1];
	char	   *key = source->keyed ? lr_key_of_lead(source->source_id, lead_id) : psprintf(INT64_FORMAT, lead_id);
	bool		found;
	int			nest;

	if (key == NULL)
		return false;
	values[0] = CStringGetTextDatum(key);
	read_as_owner(source, &identity);
	nest = lr_settings_enter("UTC");
	SPI_connect();
	found = lr_sql(psprintf("SELECT %s FROM %s t WHERE %s%s", columns(source), table_name(source), key_condition(source, "$1"), lock ? " FOR NO KEY UPDATE" : ""),
				   !lock, 1, types, values, NULL) > 0;
	if (found)
	{
		MemoryContext saved = MemoryContextSwitchTo(memory);

		ExecForceStoreHeapTuple(heap_copytuple(SPI_tuptable->vals[0]), slot, false);
		MemoryContextSwitchTo(saved);
	}
	SPI_finish();
	lr_settings_leave(nest);
	lr_restore_identity(&identity);
	return found;
}

/*
 * Fetches the rows of n leads at once, in the current memory context: rows[i] is that of lead_ids[i], NULL if it is gone. Unlike
 * lr_lead_fetch(), it is one query, and locks nothing.
 */
void
lr_leads_fetch(const LrSource *source, const int64 *lead_ids, int n, HeapTuple *rows)
{
	MemoryContext memory = CurrentMemoryContext;
	KeyOfLead  *wanted = palloc(sizeof(KeyOfLead) * Max(n, 1));
	char	  **keys = palloc(sizeof(char *) * Max(n, 1));
	TupleTableSlot *slot;
	LrRowScan  *scan;
	int			nkeys = 0;

	memset(rows, 0, sizeof(HeapTuple) * n);
	/* as they are now: a worker's transaction began before what it found in it was committed, and a statement before it got a lock */
	PushActiveSnapshot(IsInParallelMode() ? GetActiveSnapshot() : GetLatestSnapshot());
	lr_keys_of_leads(source, lead_ids, n, keys);
	for (int i = 0; i < n; i++)
	{
		if (keys[i])
			wanted[nkeys++] = (KeyOfLead) {.key = keys[i],.place = i};
	}
	qsort(wanted, nkeys, sizeof(KeyOfLead), compare_keys);
	for (int i = 0; i < nkeys; i++)
		keys[i] = wanted[i].key;
	if (nkeys == 0)
	{
		PopActiveSnapshot();
		return;
	}
	slot = MakeSingleTupleTableSlot(source->desc, &TTSOpsHeapTuple);
	scan = lr_rows_begin_keys(source, keys, nkeys, false);
	while (lr_rows_next(scan, slot))
	{
		KeyOfLead	key = {.key = lr_lead_key(source, slot)};
		KeyOfLead  *found = bsearch(&key, wanted, nkeys, sizeof(KeyOfLead), compare_keys);

		if (found)
		{
			MemoryContext saved = MemoryContextSwitchTo(memory);

			rows[found->place] = ExecCopySlotHeapTuple(slot);
			MemoryContextSwitchTo(saved);
		}
	}
	lr_rows_end(scan);
	ExecDropSingleTupleTableSlot(slot);
	PopActiveSnapshot();
}

static int
compare_keys(const void *a, const void *b)
{
	return strcmp(((const KeyOfLead *) a)->key, ((const KeyOfLead *) b)->key);
}

/* Lists the rows of an attached table with their lead ids; see the SQL comment. */
Datum
leadroute_attached_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Relation	rel = table_open(PG_GETARG_OID(0), AccessShareLock);
	const LrSource *source = lr_source(rel);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(source->desc, &TTSOpsHeapTuple);
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "leadroute rows", ALLOCSET_DEFAULT_SIZES);
	LrRowScan  *scan;

	InitMaterializedSRF(fcinfo, 0);
	scan = lr_rows_begin(source);
	while (lr_rows_next(scan, slot))
	{
		MemoryContext saved = MemoryContextSwitchTo(scratch);
		char	   *key = lr_lead_key(source, slot);
		int64		lead_id = source->keyed ? lr_key_find(source->source_id, key) : lr_lead_id_direct(source, slot);
		char	   *owner = baseline_owner(source, slot);
		Datum		values[] = {Int64GetDatum(lead_id), CStringGetTextDatum(key_shown(source, key)), owner ? CStringGetTextDatum(owner) : (Datum) 0};
		bool		nulls[] = {lead_id == 0, false, owner == NULL};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		MemoryContextSwitchTo(saved);
		MemoryContextReset(scratch);
	}
	lr_rows_end(scan);
	MemoryContextDelete(scratch);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	return (Datum) 0;
}

static void
read_as_owner(const LrSource *source, LrIdentity *saved)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(source->root));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("the attached table with OID %u does not exist any more", source->root));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	GetUserIdAndSecContext(&saved->user, &saved->context);
	SetUserIdAndSecContext(owner, saved->context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
}

/* SQL for: all columns of alias t, in their places. A dropped one keeps its place in the rows as we read them, but not in t.*. */
static char *
columns(const LrSource *source)
{
	StringInfoData sql;

	initStringInfo(&sql);
	for (int i = 0; i < source->desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(source->desc, i);

		appendStringInfoString(&sql, i ? ", " : "");
		if (column->attisdropped)
			appendStringInfoString(&sql, "NULL");
		else
			appendStringInfo(&sql, "t.%s", quote_identifier(NameStr(column->attname)));
	}
	return sql.data;
}

/* SQL for: the row of alias t has the key whose text form the SQL expression key gives. An index on the key can serve it. */
static char *
key_condition(const LrSource *source, const char *key)
{
	StringInfoData sql;

	initStringInfo(&sql);
	for (int i = 0; i < source->nkeys; i++)
	{
		Form_pg_attribute column = TupleDescAttr(source->desc, source->keys[i] - 1);

		/* not to a domain: its checks are somebody's functions. Without the flag, char(n) and bit(n) would become of length 1. */
		const char *type = format_type_extended(getBaseType(column->atttypid), -1, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);

		appendStringInfo(&sql, "%st.%s::%s = ", i ? " AND " : "", quote_identifier(source->key_names[i]), type);
		if (source->nkeys == 1)
			appendStringInfoString(&sql, key);
		else
			appendStringInfo(&sql, "(%s::pg_catalog.jsonb ->> %d)", key, i);
		appendStringInfo(&sql, "::%s", type);
	}
	return sql.data;
}

static char *
key_order(const LrSource *source)
{
	StringInfoData sql;

	initStringInfo(&sql);
	for (int i = 0; i < source->nkeys; i++)
		appendStringInfo(&sql, "%st.%s", i ? ", " : "", quote_identifier(source->key_names[i]));
	return sql.data;
}

static char *
table_name(const LrSource *source)
{
	/* rows of children by inheritance are not leads: they fire no trigger of the table's */
	return psprintf("%s%s", get_rel_relkind(source->root) == RELKIND_RELATION ? "ONLY " : "",
					quote_qualified_identifier(get_namespace_name(get_rel_namespace(source->root)), get_rel_name(source->root)));
}

/* A key is shown where its columns are classed plain, or where it is nothing but a lead id; otherwise its digest is. */
static char *
key_shown(const LrSource *source, const char *key)
{
	unsigned char digest[LR_DIGEST_LENGTH];
	char	   *hex;

	if (source->key_plain || !source->keyed)
		return pstrdup(key);
	lr_digest(lr_digest_key_id(), key, strlen(key), digest);
	hex = palloc(2 * LR_DIGEST_LENGTH + 1);
	for (int i = 0; i < LR_DIGEST_LENGTH; i++)
		sprintf(hex + 2 * i, "%02x", digest[i]);
	return hex;
}

/* Returns the owner that another router gave a row's lead; NULL if none, or if there is no such router. */
static char *
baseline_owner(const LrSource *source, TupleTableSlot *slot)
{
	Datum		value;
	bool		isnull = true;

	if (source->baseline_owner)
		value = slot_getattr(slot, source->baseline_owner, &isnull);
	return isnull || source->baseline_owner == 0 ? NULL : lr_key_text((LrKeyText *) &source->baseline_text, value);
}
