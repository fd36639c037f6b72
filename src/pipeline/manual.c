/*
 * manual.c: routing by hand: leads by their ids, and catching up with leads that no run has decided.
 */
#include "pipeline/pipeline.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "provenance/provenance.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(leadroute_route_lead);
PG_FUNCTION_INFO_V1(leadroute_route_leads);
PG_FUNCTION_INFO_V1(leadroute_route_pending);
PG_FUNCTION_INFO_V1(leadroute_unrouted);

typedef struct Results
{
	int64		run_id;			/* of the last run */
	ReturnSetInfo *rows;		/* or NULL */
} Results;

static void keep_result(const LrRun *run, void *argument);
static void route_by_id(const int64 *lead_ids, int n, const char *reason, Results *results);
static int	source_of_lead(int64 lead_id);
static List *attached_sources(FunctionCallInfo fcinfo);
static int64 catch_up(LrSource *source, int64 max);
static void list_unrouted(LrSource *source, ReturnSetInfo *result);
static char *unrouted_query(const LrSource *source, const char *columns);
static int	compare_ids(const void *a, const void *b);

/* Routes one lead by hand; see the SQL comment. */
Datum
leadroute_route_lead(PG_FUNCTION_ARGS)
{
	int64		lead_id = PG_GETARG_INT64(0);
	Results		results = {0};

	route_by_id(&lead_id, 1, text_to_cstring(PG_GETARG_TEXT_PP(1)), &results);
	PG_RETURN_INT64(results.run_id);
}

/* Routes many leads by hand; see the SQL comment. */
Datum
leadroute_route_leads(PG_FUNCTION_ARGS)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(0);
	Results		results = {.rows = (ReturnSetInfo *) fcinfo->resultinfo};
	Datum	   *elements;
	bool	   *nulls;
	int			n;
	int			nids = 0;
	int64	   *ids;

	InitMaterializedSRF(fcinfo, 0);
	deconstruct_array(array, INT8OID, sizeof(int64), true, TYPALIGN_DOUBLE, &elements, &nulls, &n);
	ids = palloc(sizeof(int64) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		if (!nulls[i])
			ids[nids++] = DatumGetInt64(elements[i]);
	}
	/* locks are taken in the order of ids, and each lead once */
	qsort(ids, nids, sizeof(int64), compare_ids);
	n = 0;
	for (int i = 0; i < nids; i++)
	{
		if (i == 0 || ids[i] != ids[i - 1])
			ids[n++] = ids[i];
	}
	route_by_id(ids, n, text_to_cstring(PG_GETARG_TEXT_PP(1)), &results);
	return (Datum) 0;
}

/* Routes leads that no run has decided; see the SQL comment. */
Datum
leadroute_route_pending(PG_FUNCTION_ARGS)
{
	List	   *sources = attached_sources(fcinfo);
	int64		max = PG_ARGISNULL(1) ? PG_INT64_MAX : PG_GETARG_INT64(1);
	int64		total = 0;
	ListCell   *cell;

	foreach(cell, sources)
	{
		LrSource   *source = lr_source_by_id(lfirst_int(cell));

		if (source && total < max)
			total += catch_up(source, max - total);
	}
	PG_RETURN_INT64(total);
}

/* Lists leads that no run has decided; see the SQL comment. */
Datum
leadroute_unrouted(PG_FUNCTION_ARGS)
{
	List	   *sources = attached_sources(fcinfo);
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	foreach(cell, sources)
	{
		LrSource   *source = lr_source_by_id(lfirst_int(cell));

		if (source)
			list_unrouted(source, (ReturnSetInfo *) fcinfo->resultinfo);
	}
	return (Datum) 0;
}

static void
keep_result(const LrRun *run, void *argument)
{
	Results    *results = argument;

	results->run_id = run->run_id;
	if (results->rows)
	{
		Datum		values[] = {Int64GetDatum(run->lead_id), Int64GetDatum(run->run_id), BoolGetDatum(!run->unchanged)};
		bool		nulls[] = {false, false, false};

		tuplestore_putvalues(results->rows->setResult, results->rows->setDesc, values, nulls);
	}
}

/* Routes leads by their ids, ascending; those of one table together. */
static void
route_by_id(const int64 *lead_ids, int n, const char *reason, Results *results)
{
	LrRouting  *routing = NULL;
	LrSource   *source = NULL;
	TupleTableSlot *slot = NULL;
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "leadroute by hand", ALLOCSET_DEFAULT_SIZES);

	for (int i = 0; i < n; i++)
	{
		int			source_id = source_of_lead(lead_ids[i]);
		MemoryContext saved;
		bool		found;

		CHECK_FOR_INTERRUPTS();
		if (source == NULL || source->source_id != source_id)
		{
			if (routing)
			{
				lr_routing_end(routing);
				ExecDropSingleTupleTableSlot(slot);
			}
			source = source_id ? lr_source_by_id(source_id) : NULL;
			if (source == NULL)
				ereport(ERROR,
						errcode(source_id ? ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE : ERRCODE_UNDEFINED_OBJECT),
						source_id ? errmsg("the table of lead " INT64_FORMAT " is not attached any more", lead_ids[i])
						: errmsg("lead " INT64_FORMAT " does not exist", lead_ids[i]),
						errhint("See leadroute.lead_states; leads that were never routed are in leadroute.unrouted_leads, and route_pending() routes them."));
			routing = lr_routing_begin(source, 'm', reason, keep_result, results);
			slot = MakeSingleTupleTableSlot(source->desc, &TTSOpsHeapTuple);
		}
		saved = MemoryContextSwitchTo(scratch);
		found = lr_lead_fetch(source, lead_ids[i], slot);
		if (!found)
			ereport(ERROR,
					errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("the row of lead " INT64_FORMAT " is gone", lead_ids[i]),
					errhint("Its decisions stay on record: see leadroute.lead_timeline."));
		MemoryContextSwitchTo(saved);
		lr_routing_require_policy(routing);
		lr_routing_add(routing, slot);
		ExecClearTuple(slot);
		MemoryContextReset(scratch);
	}
	if (routing)
	{
		lr_routing_end(routing);
		ExecDropSingleTupleTableSlot(slot);
	}
	MemoryContextDelete(scratch);
}

/* Finds the table that a lead belongs to: its state or its key says, or a table that takes lead ids as keys has it. */
static int
source_of_lead(int64 lead_id)
{
	LrIdentity	identity;
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(lead_id)};
	int			source_id = 0;

	lr_sql_begin(&identity);
	if (lr_sql_kept(LR_PLAN_SOURCE_OF_LEAD,
					"SELECT source_id FROM leadroute.lead_states WHERE lead_id = $1"
					" UNION ALL SELECT source_id FROM leadroute.lead_keys WHERE lead_id = $1 LIMIT 1", 1, types, values, NULL) > 0)
		source_id = lr_sql_int32(0, 1, 0);
	lr_sql_end(&identity);
	return source_id;
}

/* The source ids of the table that argument 0 names, or of all. */
static List *
attached_sources(FunctionCallInfo fcinfo)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {OIDOID};
	Datum		values[] = {PG_ARGISNULL(0) ? (Datum) 0 : PG_GETARG_DATUM(0)};
	char		nulls[] = {PG_ARGISNULL(0) ? 'n' : ' '};
	List	   *sources = NIL;
	uint64		n;

	lr_sql_begin(&identity);
	n = lr_sql("SELECT source_id FROM leadroute.attached_tables WHERE relation IS NOT NULL AND ($1 IS NULL OR relation = $1) ORDER BY source_id",
			   true, 1, types, values, nulls);
	for (uint64 i = 0; i < n; i++)
	{
		MemoryContext saved = MemoryContextSwitchTo(memory);

		sources = lappend_int(sources, lr_sql_int32(i, 1, 0));
		MemoryContextSwitchTo(saved);
	}
	lr_sql_end(&identity);
	if (sources == NIL && !PG_ARGISNULL(0))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("table %s is not attached", DatumGetCString(DirectFunctionCall1(regclassout, PG_GETARG_DATUM(0)))),
				errhint("Attach it with leadroute.attach_table()."));
	return sources;
}

/* Routes up to max leads of a table that no run has decided. */
static int64
catch_up(LrSource *source, int64 max)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(source->source_id)};
	LrRouting  *routing;
	TupleTableSlot *slot;
	Portal		portal;
	int64		fetched = 0;
	int64		total;
	int			nest;

	lr_sql_begin(&identity);
	/* one session at a time catches up with a table: no lead is routed twice */
	lr_sql("SELECT FROM leadroute.attached_tables WHERE source_id = $1 FOR UPDATE", false, 1, types, values, NULL);
	nest = lr_settings_enter("UTC");
	portal = SPI_cursor_open_with_args(NULL, unrouted_query(source, "t.*"), 1, types, values, NULL, false, 0);
	lr_settings_leave(nest);
	lr_restore_identity(&identity);

	routing = lr_routing_begin(source, 'p', NULL, NULL, NULL);
	slot = MakeSingleTupleTableSlot(source->desc, &TTSOpsHeapTuple);
	while (fetched < max)
	{
		SPITupleTable *rows;
		uint64		n;

		lr_become_owner(&identity);
		nest = lr_settings_enter("UTC");
		SPI_cursor_fetch(portal, true, Min(max - fetched, 1000));
		lr_settings_leave(nest);
		lr_restore_identity(&identity);
		rows = SPI_tuptable;
		n = SPI_processed;
		for (uint64 i = 0; i < n; i++)
		{
			ExecForceStoreHeapTuple(rows->vals[i], slot, false);
			lr_routing_add(routing, slot);
		}
		ExecClearTuple(slot);
		SPI_freetuptable(rows);
		fetched += n;
		if (n == 0)
			break;
	}
	total = lr_routing_end(routing);
	SPI_cursor_close(portal);
	SPI_finish();
	lr_settings_leave(identity.nest);
	return total;
}

static void
list_unrouted(LrSource *source, ReturnSetInfo *result)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(source->source_id)};
	Portal		portal;
	int			nest;
	char	   *key = lr_key_expression(source);
	char	   *columns = psprintf("%s, %s, s.reason_code, s.changed_by::pg_catalog.text, s.since", source->keyed ? "k.lead_id" : psprintf("t.%s", quote_identifier(source->key_names[0])), key);

	lr_sql_begin(&identity);
	nest = lr_settings_enter("UTC");
	portal = SPI_cursor_open_with_args(NULL, unrouted_query(source, columns), 1, types, values, NULL, true, 0);
	for (;;)
	{
		SPITupleTable *rows;
		uint64		n;

		SPI_cursor_fetch(portal, true, 1000);
		rows = SPI_tuptable;
		n = SPI_processed;
		if (n == 0)
			break;
		for (uint64 i = 0; i < n; i++)
		{
			Datum		row[6];
			bool		nulls[6] = {false};
			char	   *text = SPI_getvalue(rows->vals[i], rows->tupdesc, 2);

			row[0] = CStringGetTextDatum(lr_root_name(source));
			row[1] = SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &nulls[1]);
			if (!source->key_plain && source->keyed)
			{
				unsigned char digest[LR_DIGEST_LENGTH];
				char	   *hex = palloc(2 * LR_DIGEST_LENGTH + 1);

				lr_digest(lr_digest_key_id(), text, strlen(text), digest);
				for (int d = 0; d < LR_DIGEST_LENGTH; d++)
					sprintf(hex + 2 * d, "%02x", digest[d]);
				text = hex;
			}
			row[2] = CStringGetTextDatum(text);
			row[3] = SPI_getbinval(rows->vals[i], rows->tupdesc, 3, &nulls[3]);
			if (nulls[3])
			{
				row[3] = CStringGetTextDatum("not_seen");
				nulls[3] = false;
			}
			row[4] = SPI_getbinval(rows->vals[i], rows->tupdesc, 4, &nulls[4]);
			row[5] = SPI_getbinval(rows->vals[i], rows->tupdesc, 5, &nulls[5]);
			tuplestore_putvalues(result->setResult, result->setDesc, row, nulls);
		}
		SPI_freetuptable(rows);
	}
	SPI_cursor_close(portal);
	lr_settings_leave(nest);
	lr_sql_end(&identity);
}

/* Selects the rows t of a table whose leads no run has decided; $1 is the source id. */
static char *
unrouted_query(const LrSource *source, const char *columns)
{
	const char *root = lr_root_name(source);

	if (!source->keyed)
		return psprintf("SELECT %s FROM %s t LEFT JOIN leadroute.lead_states s ON s.lead_id = t.%s"
						" WHERE s.run_id IS NULL AND s.closed_at IS NULL AND $1 IS NOT NULL ORDER BY t.%s",
						columns, root, quote_identifier(source->key_names[0]), quote_identifier(source->key_names[0]));
	return psprintf("SELECT %s FROM %s t LEFT JOIN leadroute.lead_keys k ON k.source_id = $1 AND k.key = %s"
					" LEFT JOIN leadroute.lead_states s ON s.lead_id = k.lead_id WHERE s.run_id IS NULL AND s.closed_at IS NULL ORDER BY k.lead_id",
					columns, root, lr_key_expression(source));
}

static int
compare_ids(const void *a, const void *b)
{
	int64		one = *(const int64 *) a;
	int64		other = *(const int64 *) b;

	return one < other ? -1 : one > other;
}
