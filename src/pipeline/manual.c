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

/* Rows that are locked at a time. */
#define CATCH_UP_CHUNK 1000

typedef struct Results
{
	int64		run_id;			/* of the last run */
	ReturnSetInfo *rows;		/* or NULL */
} Results;

static void keep_result(const LrRun *run, void *argument);
static void route_by_id(const int64 *lead_ids, int n, char *reason, Results *results);
static LrRouting *begin_routing(LrSource *source, const LrByIds *how);
static void end_routing(LrRouting *routing, TupleTableSlot *slot);
static int	source_of_lead(int64 lead_id);
static List *attached_sources(FunctionCallInfo fcinfo);
static int	add_locked(LrRouting *routing, const LrSource *source, char **keys, int n);
static int64 catch_up(LrSource *source, int64 max);
static bool is_decided(const LrSource *source, TupleTableSlot *slot);
static int	compare_ids(const void *a, const void *b);

/* Routes one lead by hand; see the SQL comment. */
Datum
leadroute_route_lead(PG_FUNCTION_ARGS)
{
	lr_refuse_nulls(fcinfo);

	int64		lead_id = PG_GETARG_INT64(0);
	Results		results = {0};

	route_by_id(&lead_id, 1, text_to_cstring(PG_GETARG_TEXT_PP(1)), &results);
	PG_RETURN_INT64(results.run_id);
}

/* Routes many leads by hand; see the SQL comment. */
Datum
leadroute_route_leads(PG_FUNCTION_ARGS)
{
	lr_refuse_nulls(fcinfo);

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

static void
route_by_id(const int64 *lead_ids, int n, char *reason, Results *results)
{
	lr_route_by_ids(lead_ids, n, &(LrByIds) {.cause = 'm',.note = reason,.done = keep_result,.argument = results});
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

/*
 * Routes leads by their ids; those of one table that follow each other go together. Unless the states are locked, ids ascend: rows are
 * locked in their order.
 */
void
lr_route_by_ids(const int64 *lead_ids, int n, const LrByIds *how)
{
	LrRouting  *routing = NULL;
	LrSource   *source = NULL;
	int			last = 0;		/* source id */
	TupleTableSlot *slot = NULL;
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "leadroute by hand", ALLOCSET_DEFAULT_SIZES);

	for (int i = 0; i < n; i++)
	{
		int			source_id = source_of_lead(lead_ids[i]);
		MemoryContext saved;
		bool		found;

		CHECK_FOR_INTERRUPTS();
		if (source_id == 0 || source_id != last)
		{
			end_routing(routing, slot);
			routing = NULL;
			last = source_id;
			source = source_id ? lr_source_by_id(source_id) : NULL;
			if (source)
			{
				routing = begin_routing(source, how);
				slot = MakeSingleTupleTableSlot(source->desc, &TTSOpsHeapTuple);
			}
		}
		if (source == NULL && how->left == NULL)
			ereport(ERROR,
					errcode(source_id ? ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE : ERRCODE_UNDEFINED_OBJECT),
					source_id ? errmsg("the table of lead " INT64_FORMAT " is not attached any more", lead_ids[i])
					: errmsg("lead " INT64_FORMAT " does not exist", lead_ids[i]),
					errhint("See leadroute.lead_states; leads that were never routed are in leadroute.unrouted_leads, and route_pending() routes them."));
		if (source == NULL)
		{
			*how->left = lappend_int(*how->left, i);
			continue;
		}
		saved = MemoryContextSwitchTo(scratch);
		found = lr_lead_fetch(source, lead_ids[i], !how->locked && !how->dry, slot);
		MemoryContextSwitchTo(saved);
		if (!found && how->left == NULL)
			ereport(ERROR,
					errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("the row of lead " INT64_FORMAT " is gone", lead_ids[i]),
					errhint("Its decisions stay on record: see leadroute.lead_timeline."));
		if (how->left == NULL)
			lr_routing_require_policy(routing);
		if (found && !lr_routing_waits(routing))
			lr_routing_add(routing, slot);
		else
			*how->left = lappend_int(*how->left, i);
		ExecClearTuple(slot);
		MemoryContextReset(scratch);
	}
	end_routing(routing, slot);
	MemoryContextDelete(scratch);
}

static LrRouting *
begin_routing(LrSource *source, const LrByIds *how)
{
	if (how->policy)
	{
		/* the same table, under another policy */
		LrSource   *other = palloc(sizeof(LrSource));

		*other = *source;
		other->policy = pstrdup(how->policy);
		source = other;
	}
	return how->dry ? lr_routing_begin_dry(source, how->cause, how->done, how->argument)
		: lr_routing_begin(source, how->cause, how->note, how->done, how->argument);
}

static void
end_routing(LrRouting *routing, TupleTableSlot *slot)
{
	if (routing == NULL)
		return;
	lr_routing_end(routing);
	ExecDropSingleTupleTableSlot(slot);
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
	LrRowScan  *scan;
	TupleTableSlot *slot = MakeSingleTupleTableSlot(source->desc, &TTSOpsHeapTuple);
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "leadroute catching up", ALLOCSET_DEFAULT_SIZES);
	MemoryContext chunk = AllocSetContextCreate(CurrentMemoryContext, "leadroute keys to catch up", ALLOCSET_DEFAULT_SIZES);
	char	   *keys[CATCH_UP_CHUNK];
	int			n = 0;
	int64		added = 0;
	int64		total;

	/* one session at a time catches up with a table: no lead is routed twice */
	lr_sql_begin(&identity);
	lr_sql("SELECT FROM leadroute.attached_tables WHERE source_id = $1 FOR UPDATE", false, 1, types, values, NULL);
	lr_sql_end(&identity);

	routing = lr_routing_begin(source, 'p', NULL, NULL, NULL);
	scan = lr_rows_begin(source);
	while (added + n < max && lr_rows_next(scan, slot))
	{
		MemoryContext saved = MemoryContextSwitchTo(scratch);

		if (!is_decided(source, slot))
			keys[n++] = MemoryContextStrdup(chunk, lr_lead_key(source, slot));
		MemoryContextSwitchTo(saved);
		MemoryContextReset(scratch);
		if (n == CATCH_UP_CHUNK)
		{
			added += add_locked(routing, source, keys, n);
			n = 0;
			MemoryContextReset(chunk);
		}
	}
	added += add_locked(routing, source, keys, n);
	lr_rows_end(scan);
	total = lr_routing_end(routing);
	ExecDropSingleTupleTableSlot(slot);
	MemoryContextDelete(scratch);
	MemoryContextDelete(chunk);
	return total;
}

/* Adds the rows of some keys to a routing, each as it is once it is locked; returns how many are still there. */
static int
add_locked(LrRouting *routing, const LrSource *source, char **keys, int n)
{
	TupleTableSlot *slot;
	LrRowScan  *scan;
	int			added = 0;

	if (n == 0)
		return 0;
	slot = MakeSingleTupleTableSlot(source->desc, &TTSOpsHeapTuple);
	scan = lr_rows_begin_keys(source, keys, n, true);
	for (; lr_rows_next(scan, slot); added++)
		lr_routing_add(routing, slot);
	lr_rows_end(scan);
	ExecDropSingleTupleTableSlot(slot);
	return added;
}

/* Tells whether a run has decided the lead of a row. */
static bool
is_decided(const LrSource *source, TupleTableSlot *slot)
{
	int64		lead_id = source->keyed ? lr_key_find(source->source_id, lr_lead_key(source, slot)) : lr_lead_id_direct(source, slot);
	LrIdentity	identity;
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(lead_id)};
	bool		decided;

	if (lead_id == 0)
		return false;
	lr_sql_begin(&identity);
	decided = lr_sql_kept(LR_PLAN_DECIDED, "SELECT FROM leadroute.lead_states WHERE lead_id = $1"
						  " AND ((outcome <> 'pending' OR reason_code = ANY ('{overflow,waiting,review,paused}')) AND closed_at IS NULL OR closed_reason = 'merged')",
						  1, types, values, NULL) > 0;
	lr_sql_end(&identity);
	return decided;
}

static int
compare_ids(const void *a, const void *b)
{
	int64		one = *(const int64 *) a;
	int64		other = *(const int64 *) b;

	return one < other ? -1 : one > other;
}
