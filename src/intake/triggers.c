/*
 * triggers.c: what fires on attached tables.
 *
 * Rows come as a set: the transition table of the statement. Nothing is queued per row. A statement that changed no row
 * costs next to nothing.
 */
#include "intake/intake.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "pipeline/pipeline.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"
#include "workers/workers.h"

/* Ids that one statement closes at a time. */
#define CLOSE_CHUNK 10000

PG_FUNCTION_INFO_V1(leadroute_route_inserted);
PG_FUNCTION_INFO_V1(leadroute_route_updated);
PG_FUNCTION_INFO_V1(leadroute_close_deleted);
PG_FUNCTION_INFO_V1(leadroute_follow_key);

static TriggerData *check_call(FunctionCallInfo fcinfo, const char *name, bool right);
static bool next_row(Tuplestorestate *rows, TupleTableSlot *slot);
static void rewind_rows(Tuplestorestate *rows);
static bool must_reroute(const LrSource *source, TupleTableSlot *old_row, TupleTableSlot *new_row);
static void close_leads(const LrSource *source, const int64 *lead_ids, int n);
static void close_truncated(const LrSource *source);

/* Routes the rows of an INSERT; see the SQL comment. */
Datum
leadroute_route_inserted(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	LrRouting  *routing;
	TupleTableSlot *slot;

	check_call(fcinfo, "route_inserted", CALLED_AS_TRIGGER(fcinfo) && TRIGGER_FIRED_BY_INSERT(trigger->tg_event) &&
			   TRIGGER_FIRED_AFTER(trigger->tg_event) && TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event) && trigger->tg_newtable);
	slot = MakeSingleTupleTableSlot(RelationGetDescr(trigger->tg_relation), &TTSOpsMinimalTuple);
	rewind_rows(trigger->tg_newtable);
	if (next_row(trigger->tg_newtable, slot))
	{
		routing = lr_routing_begin(lr_source(trigger->tg_relation), 'i', NULL, NULL, NULL);
		if (!lr_enabled)
			lr_routing_wait(routing, "routing_disabled");
		do
			lr_routing_add(routing, slot);
		while (next_row(trigger->tg_newtable, slot));
		lr_routing_end(routing);
	}
	ExecDropSingleTupleTableSlot(slot);
	PG_RETURN_POINTER(NULL);
}

/* Routes again the rows of an UPDATE in which a column of reroute_on changed; see the SQL comment. */
Datum
leadroute_route_updated(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	LrSource   *source;
	LrRouting  *routing = NULL;
	TupleTableSlot *old_row;
	TupleTableSlot *new_row;

	check_call(fcinfo, "route_updated", CALLED_AS_TRIGGER(fcinfo) && TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) &&
			   TRIGGER_FIRED_AFTER(trigger->tg_event) && TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event) &&
			   trigger->tg_newtable && trigger->tg_oldtable);
	old_row = MakeSingleTupleTableSlot(RelationGetDescr(trigger->tg_relation), &TTSOpsMinimalTuple);
	new_row = MakeSingleTupleTableSlot(RelationGetDescr(trigger->tg_relation), &TTSOpsMinimalTuple);
	rewind_rows(trigger->tg_oldtable);
	rewind_rows(trigger->tg_newtable);
	source = lr_source(trigger->tg_relation);
	/* both tables hold the rows in the order in which they were changed */
	while (next_row(trigger->tg_newtable, new_row))
	{
		bool		paired = next_row(trigger->tg_oldtable, old_row);

		if (paired && !must_reroute(source, old_row, new_row))
			continue;
		if (routing == NULL)
		{
			routing = lr_routing_begin(source, 'u', NULL, NULL, NULL);
			if (!lr_enabled)
				lr_routing_wait(routing, "routing_disabled");
		}
		lr_routing_add(routing, new_row);
	}
	if (routing)
		lr_routing_end(routing);
	ExecDropSingleTupleTableSlot(old_row);
	ExecDropSingleTupleTableSlot(new_row);
	PG_RETURN_POINTER(NULL);
}

/* Closes the states of deleted rows; see the SQL comment. */
Datum
leadroute_close_deleted(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	LrSource   *source;
	TupleTableSlot *slot;
	int64	   *lead_ids;
	int			n = 0;

	check_call(fcinfo, "close_deleted", CALLED_AS_TRIGGER(fcinfo) && TRIGGER_FIRED_AFTER(trigger->tg_event) &&
			   TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event) &&
			   (TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event) || (TRIGGER_FIRED_BY_DELETE(trigger->tg_event) && trigger->tg_oldtable)));
	if (TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
	{
		close_truncated(lr_source(trigger->tg_relation));
		PG_RETURN_POINTER(NULL);
	}
	slot = MakeSingleTupleTableSlot(RelationGetDescr(trigger->tg_relation), &TTSOpsMinimalTuple);
	rewind_rows(trigger->tg_oldtable);
	if (next_row(trigger->tg_oldtable, slot))
	{
		source = lr_source(trigger->tg_relation);
		lead_ids = palloc(sizeof(int64) * CLOSE_CHUNK);
		do
		{
			int64		lead_id = source->keyed ? lr_key_find(source->source_id, lr_lead_key(source, slot)) : lr_lead_id_direct(source, slot);

			if (lead_id != 0)
				lead_ids[n++] = lead_id;
			if (n == CLOSE_CHUNK)
			{
				close_leads(source, lead_ids, n);
				n = 0;
			}
		}
		while (next_row(trigger->tg_oldtable, slot));
		close_leads(source, lead_ids, n);
	}
	ExecDropSingleTupleTableSlot(slot);
	PG_RETURN_POINTER(NULL);
}

/* Follows a changed primary key; see the SQL comment. */
Datum
leadroute_follow_key(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	LrSource   *source;
	LrIdentity	identity;
	Oid			types[] = {INT4OID, TEXTOID, TEXTOID};
	Datum		values[3];

	check_call(fcinfo, "follow_key", CALLED_AS_TRIGGER(fcinfo) && TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) &&
			   TRIGGER_FIRED_BEFORE(trigger->tg_event) && TRIGGER_FIRED_FOR_ROW(trigger->tg_event));
	source = lr_source(trigger->tg_relation);
	if (!source->keyed)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("the key of table \"%s\" is the lead id and cannot change", RelationGetRelationName(trigger->tg_relation)),
				errhint("Delete the row and insert it anew: the lead then gets a record of its own."));
	values[0] = Int32GetDatum(source->source_id);
	values[1] = CStringGetTextDatum(lr_lead_key(source, trigger->tg_trigslot));
	values[2] = CStringGetTextDatum(lr_lead_key(source, trigger->tg_newslot));
	lr_sql_begin(&identity);
	lr_sql("UPDATE leadroute.lead_keys SET key = $3 WHERE source_id = $1 AND key = $2", false, 3, types, values, NULL);
	lr_sql_end(&identity);
	PG_RETURN_POINTER(trigger->tg_newtuple);
}

static TriggerData *
check_call(FunctionCallInfo fcinfo, const char *name, bool right)
{
	if (!right)
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("function \"%s\" was not called as the trigger that it is made for", name),
				errhint("leadroute.attach_table() makes the triggers."));
	return (TriggerData *) fcinfo->context;
}

/* A transition table is shared by all triggers of the statement: ours reads from the beginning. */
static void
rewind_rows(Tuplestorestate *rows)
{
	tuplestore_select_read_pointer(rows, tuplestore_alloc_read_pointer(rows, EXEC_FLAG_REWIND));
	tuplestore_rescan(rows);
}

static bool
next_row(Tuplestorestate *rows, TupleTableSlot *slot)
{
	return tuplestore_gettupleslot(rows, true, false, slot);
}

static bool
must_reroute(const LrSource *source, TupleTableSlot *old_row, TupleTableSlot *new_row)
{
	slot_getallattrs(old_row);
	slot_getallattrs(new_row);
	for (int i = 0; i < source->nkeys + source->nreroute; i++)
	{
		/* rows of different keys are no pair: better one too many */
		int			column = (i < source->nkeys ? source->keys[i] : source->reroute[i - source->nkeys]) - 1;
		Form_pg_attribute attribute = TupleDescAttr(source->desc, column);

		if (old_row->tts_isnull[column] != new_row->tts_isnull[column])
			return true;
		if (!old_row->tts_isnull[column] &&
			!datum_image_eq(old_row->tts_values[column], new_row->tts_values[column], attribute->attbyval, attribute->attlen))
			return true;
	}
	return false;
}

/* Closes the states of leads, and forgets their keys. */
static void
close_leads(const LrSource *source, const int64 *lead_ids, int n)
{
	LrIdentity	identity;
	Oid			types[] = {INT8ARRAYOID, OIDOID, INT4OID};
	Datum		values[3];

	if (n == 0)
		return;
	values[0] = lr_int8_array(lead_ids, n);
	values[1] = ObjectIdGetDatum(GetUserId());
	values[2] = Int32GetDatum(source->source_id);
	lr_sql_begin(&identity);
	lr_sql_kept(LR_PLAN_CLOSE,
				"UPDATE leadroute.lead_states SET closed_at = clock_timestamp(), closed_reason = 'deleted', changed_by = $2::pg_catalog.regrole"
				" WHERE lead_id = ANY ($1) AND closed_at IS NULL AND source_id = $3", 3, types, values, NULL);
	/* whose last lead went is known no longer */
	lr_sql_kept(LR_PLAN_FORGET_PERSONS, "SELECT leadroute.forget_persons($1) WHERE EXISTS (SELECT FROM leadroute.person_leads WHERE lead_id = ANY ($1))",
				1, types, values, NULL);
	if (source->keyed)
		lr_sql("DELETE FROM leadroute.lead_keys WHERE lead_id = ANY ($1) AND source_id = $3", false, 3, types, values, NULL);
	lr_sql_end(&identity);
	lr_events_of_removed(lead_ids, n);
}

/* Closes the states of leads whose rows a TRUNCATE removed: of the table, or of the one partition. */
static void
close_truncated(const LrSource *source)
{
	LrIdentity	identity;
	Oid			types[] = {OIDOID, OIDOID};
	Datum		values[] = {ObjectIdGetDatum(source->root), ObjectIdGetDatum(GetUserId())};

	lr_sql_begin(&identity);
	lr_sql("SELECT leadroute.close_missing($1::regclass, 'deleted', $2::regrole)", false, 2, types, values, NULL);
	lr_sql_end(&identity);
}
