/*
 * attach.c: making a table's rows leads, and no longer.
 *
 * The caller has to own the table; what follows, the row of leadroute.attached_tables and the triggers, is done as the
 * extension's owner. Partitions that come or go later are noticed by an event trigger.
 */
#include "intake/intake.h"

#include "access/table.h"
#include "catalog/index.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/catalog.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "commands/trigger.h"
#include "json.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "policy/policy.h"
#include "provenance/provenance.h"
#include "registry/registry.h"
#include "rewrite/rewriteHandler.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"

PG_FUNCTION_INFO_V1(leadroute_attach_table);
PG_FUNCTION_INFO_V1(leadroute_detach_table);
PG_FUNCTION_INFO_V1(leadroute_set_table_mode);
PG_FUNCTION_INFO_V1(leadroute_partitions_changed);

static void check_table(Relation rel);
static void check_owner(Relation rel);
static List *key_columns(Relation rel);
static bool key_is_lead_id(Relation rel, List *keys);
static void check_mapping(Relation rel, json_t *mapping, LrMistakes *mistakes);
static void check_classes(Relation rel, json_t *classes, List *keys, LrMistakes *mistakes);
static void check_names(Relation rel, Datum names, bool attributes, const char *what, LrMistakes *mistakes);
static void check_mode(Datum mode);
static void check_baseline_owner(Relation rel, const char *name);
static bool is_attribute(const char *name);
static bool is_column(Relation rel, const char *name);
static int	record(Relation rel, FunctionCallInfo fcinfo, List *keys, bool keyed);
static void check_active_policy(const char *name);
static void sync_triggers(Oid relid);
static void sync_all_triggers(void);
static void close_left(Oid relid);

/* Makes a table's rows leads; see the SQL comment. */
Datum
leadroute_attach_table(PG_FUNCTION_ARGS)
{
	lr_refuse_nulls_before(fcinfo, 7);

	Oid			relid = PG_GETARG_OID(0);
	LrMistakes	mistakes = {NIL};
	Relation	rel;
	List	   *keys;
	int			source_id;

	PreventCommandIfReadOnly("attach_table()");
	check_mode(PG_GETARG_DATUM(6));
	/* new rows wait until the triggers stand: none slips through between */
	rel = table_open(relid, ShareRowExclusiveLock);
	check_table(rel);
	check_owner(rel);
	keys = key_columns(rel);
	check_mapping(rel, lr_json_of_jsonb(PG_GETARG_DATUM(1)), &mistakes);
	check_classes(rel, lr_json_of_jsonb(PG_GETARG_DATUM(2)), keys, &mistakes);
	check_names(rel, PG_GETARG_DATUM(4), true, "protected", &mistakes);
	check_names(rel, PG_GETARG_DATUM(5), false, "reroute_on", &mistakes);
	lr_mistakes_raise(&mistakes, psprintf("the attachment of table \"%s\"", RelationGetRelationName(rel)));

	source_id = record(rel, fcinfo, keys, !key_is_lead_id(rel, keys));
	CommandCounterIncrement();
	/* types and constants are checked by making the source */
	(void) lr_source(rel);
	if (!PG_ARGISNULL(7))
		check_baseline_owner(rel, text_to_cstring(PG_GETARG_TEXT_PP(7)));
	check_active_policy(text_to_cstring(PG_GETARG_TEXT_PP(3)));
	/* made here, so that no insert has to: whoever makes them keeps others waiting until its transaction ends */
	(void) lr_digest_key_id();
	(void) lr_entries_partition(GetCurrentTimestamp());
	sync_triggers(relid);
	table_close(rel, NoLock);
	PG_RETURN_INT32(source_id);
}

/* Has a table's leads routed, or only observed, from now on; see the SQL comment. */
Datum
leadroute_set_table_mode(PG_FUNCTION_ARGS)
{
	LrIdentity	identity;
	Oid			caller = GetUserId();
	Oid			types[] = {OIDOID, TEXTOID};
	Datum		values[2];
	char	   *name;

	lr_refuse_nulls(fcinfo);
	check_mode(PG_GETARG_DATUM(1));
	values[0] = PG_GETARG_DATUM(0);
	values[1] = PG_GETARG_DATUM(1);
	lr_sql_begin(&identity);
	if (lr_sql("UPDATE leadroute.attached_tables SET mode = $2 WHERE relation = $1 RETURNING relation_name", false, 2, types, values, NULL) == 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("table %s is not attached", DatumGetCString(DirectFunctionCall1(regclassout, values[0]))),
				errhint("Attach it with leadroute.attach_table()."));
	name = lr_sql_text(0, 1);
	lr_record_act(&(LrAct) {.act = "set_table_mode",.subject = psprintf("%s: %s", name, TextDatumGetCString(values[1])),
		.reason = text_to_cstring(PG_GETARG_TEXT_PP(2)),.current_user = caller});
	lr_sql_end(&identity);
	PG_RETURN_VOID();
}

/* Ends the routing of a table's rows; see the SQL comment. */
Datum
leadroute_detach_table(PG_FUNCTION_ARGS)
{
	lr_refuse_nulls(fcinfo);

	Oid			relid = PG_GETARG_OID(0);
	Relation	rel;
	LrIdentity	identity;
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(relid)};
	uint64		n;

	PreventCommandIfReadOnly("detach_table()");
	rel = table_open(relid, ShareRowExclusiveLock);
	check_owner(rel);
	lr_sql_begin(&identity);
	n = lr_sql("UPDATE leadroute.attached_tables SET relation = NULL, detached_at = now() WHERE relation = $1 RETURNING source_id", false, 1, types, values, NULL);
	/* its leads cannot be read any more: nobody is to work for them. Attached again, route_lead() asks for it again */
	if (n > 0)
	{
		Oid			source_types[] = {INT4OID};
		Datum		source[] = {Int32GetDatum(lr_sql_int32(0, 1, 0))};

		lr_sql("DELETE FROM leadroute.tasks t USING (SELECT x.run_id, x.step_no FROM leadroute.lead_states s JOIN leadroute.tasks x ON x.run_id = s.run_id"
			   " WHERE s.source_id = $1 AND s.outcome = 'pending' FOR UPDATE OF x SKIP LOCKED) w WHERE t.run_id = w.run_id AND t.step_no = w.step_no",
			   false, 1, source_types, source, NULL);
	}
	lr_sql_end(&identity);
	if (n == 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("table \"%s\" is not attached", RelationGetRelationName(rel)));
	sync_triggers(relid);
	table_close(rel, NoLock);
	PG_RETURN_VOID();
}

/* Is the event trigger for CREATE TABLE and ALTER TABLE: partitions get or lose their triggers. */
Datum
leadroute_partitions_changed(PG_FUNCTION_ARGS)
{
	EventTriggerData *event = (EventTriggerData *) fcinfo->context;
	RangeVar   *partition = NULL;
	RangeVar   *left = NULL;
	Oid			relid;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("function \"%s\" was not called as an event trigger", "partitions_changed"));
	if (IsA(event->parsetree, CreateStmt) && ((CreateStmt *) event->parsetree)->partbound)
		partition = ((CreateStmt *) event->parsetree)->relation;
	else if (IsA(event->parsetree, AlterTableStmt))
	{
		ListCell   *cell;

		foreach(cell, ((AlterTableStmt *) event->parsetree)->cmds)
		{
			AlterTableCmd *command = lfirst(cell);

			if (command->subtype == AT_AttachPartition || command->subtype == AT_DetachPartition ||
				command->subtype == AT_DetachPartitionFinalize)
				partition = ((PartitionCmd *) command->def)->name;
			if (command->subtype == AT_DetachPartition || command->subtype == AT_DetachPartitionFinalize)
				left = ((AlterTableStmt *) event->parsetree)->relation;
		}
	}
	/* the name is the user's: it means what it meant in the statement */
	/* the elements of CREATE SCHEMA fire nothing by themselves */
	else if (IsA(event->parsetree, CreateSchemaStmt) && ((CreateSchemaStmt *) event->parsetree)->schemaElts != NIL)
		sync_all_triggers();
	relid = partition ? RangeVarGetRelid(partition, NoLock, true) : InvalidOid;
	/* the record's own partitions have no triggers */
	if (OidIsValid(relid) && get_rel_namespace(relid) != lr_catalog()->schema)
		sync_triggers(relid);
	relid = left ? RangeVarGetRelid(left, NoLock, true) : InvalidOid;
	if (OidIsValid(relid) && get_rel_namespace(relid) != lr_catalog()->schema)
		close_left(relid);
	PG_RETURN_NULL();
}

static void
check_table(Relation rel)
{
	const char *name = RelationGetRelationName(rel);

	switch (rel->rd_rel->relkind)
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
			break;
		case RELKIND_VIEW:
		case RELKIND_MATVIEW:
			ereport(ERROR,
					errcode(ERRCODE_WRONG_OBJECT_TYPE),
					errmsg("\"%s\" is a view", name),
					errdetail("A view has no rows of its own: nothing would fire when a lead comes in."),
					errhint("Attach the table that the view reads."));
			break;
		case RELKIND_FOREIGN_TABLE:
			ereport(ERROR,
					errcode(ERRCODE_WRONG_OBJECT_TYPE),
					errmsg("\"%s\" is a foreign table", name),
					errdetail("Its rows live on another server, outside of this transaction."),
					errhint("Attach the table there, or copy the rows into a table here."));
			break;
		default:
			ereport(ERROR,
					errcode(ERRCODE_WRONG_OBJECT_TYPE),
					errmsg("\"%s\" is not a table", name),
					errhint("Attach an ordinary or a partitioned table."));
	}
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("\"%s\" is a temporary table", name),
				errdetail("The record of its leads would outlive them."),
				errhint("Attach a permanent table."));
	if (rel->rd_rel->relispartition)
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("\"%s\" is a partition", name),
				errhint("Attach the partitioned table \"%s\": its partitions come along.",
						get_rel_name(llast_oid(get_partition_ancestors(RelationGetRelid(rel))))));
	if (rel->rd_rel->relnamespace == lr_catalog()->schema || IsCatalogRelation(rel))
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("\"%s\" is not a table of yours", name));
	if (rel->rd_rel->relkind == RELKIND_RELATION && has_subclass(RelationGetRelid(rel)) && find_inheritance_children(RelationGetRelid(rel), NoLock) != NIL)
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("\"%s\" has children by inheritance", name),
				errdetail("Rows inserted into a child fire no trigger of the parent's."),
				errhint("Use declarative partitioning, or attach the children one by one."));
}

static void
check_owner(Relation rel)
{
	if (!lr_owns_relation(RelationGetRelid(rel), GetUserId()))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("must be owner of table %s", RelationGetRelationName(rel)),
				errhint("Routing reads every row: only who owns the table can allow it."));
}

/* The names of the primary key's columns, in its order. */
static List *
key_columns(Relation rel)
{
	List	   *names = NIL;
	Oid			index_oid;
	Relation	index;

	(void) RelationGetIndexList(rel);
	index_oid = rel->rd_pkindex;
	if (!OidIsValid(index_oid))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("table \"%s\" has no primary key", RelationGetRelationName(rel)),
				errdetail("A lead's identity is the primary key of its row."),
				errhint("Add one: ALTER TABLE … ADD PRIMARY KEY …"));
	index = index_open(index_oid, AccessShareLock);
	for (int i = 0; i < index->rd_index->indnkeyatts; i++)
		names = lappend(names, get_attname(RelationGetRelid(rel), index->rd_index->indkey.values[i], false));
	index_close(index, AccessShareLock);
	return names;
}

static bool
calls_lead_ids(Node *node, Oid *sequence)
{
	if (node == NULL)
		return false;
	if (IsA(node, Const) && ((Const *) node)->consttype == REGCLASSOID && !((Const *) node)->constisnull)
		return DatumGetObjectId(((Const *) node)->constvalue) == *sequence;
	return expression_tree_walker(node, calls_lead_ids, sequence);
}

/* Tells whether the key is one bigint column that defaults from leadroute.lead_ids. */
static bool
key_is_lead_id(Relation rel, List *keys)
{
	AttrNumber	attnum;
	Oid			sequence = lr_catalog()->lead_ids;
	Node	   *expression;

	if (list_length(keys) != 1)
		return false;
	attnum = get_attnum(RelationGetRelid(rel), linitial(keys));
	if (TupleDescAttr(RelationGetDescr(rel), attnum - 1)->atttypid != INT8OID)
		return false;
	expression = build_column_default(rel, attnum);
	return expression != NULL && calls_lead_ids(expression, &sequence);
}

static void
check_mapping(Relation rel, json_t *mapping, LrMistakes *mistakes)
{
	const char *name;
	json_t	   *target;

	if (!json_is_object(mapping))
	{
		lr_mistake(mistakes, "mapping", "Give {\"attribute\": \"column\", …}.", "has to be an object");
		return;
	}
	json_object_foreach(mapping, name, target)
	{
		char	   *place = lr_place("mapping", name);

		if (!is_attribute(name))
			lr_mistake(mistakes, place, "Write {\"attribute\": \"column\"}. docs/intake.md has the attributes; other columns are reached as attributes->>'column'.",
					   "is not an attribute of a lead");
		else if (json_is_object(target) && json_object_get(target, "value") && json_object_size(target) == 1)
			continue;
		else if (!json_is_string(target) && !json_is_null(target))
			lr_mistake(mistakes, place, NULL, "has to be a column's name, {\"value\": constant} or null");
		else if (json_is_string(target) && !is_column(rel, json_string_value(target)))
			lr_mistake(mistakes, place, "Write {\"attribute\": \"column\"}, the column as psql's \\d shows it.", "table \"%s\" has no column \"%s\"", RelationGetRelationName(rel), json_string_value(target));
	}
}

static void
check_classes(Relation rel, json_t *classes, List *keys, LrMistakes *mistakes)
{
	const char *name;
	json_t	   *class;

	if (!json_is_object(classes))
	{
		lr_mistake(mistakes, "classes", "Give {\"attribute\": \"plain\", …}.", "has to be an object");
		return;
	}
	json_object_foreach(classes, name, class)
	{
		char	   *place = lr_place("classes", name);
		bool		known = is_attribute(name) || (strncmp(name, "attributes.", 11) == 0 && name[11]);
		bool		valid = false;
		ListCell   *cell;

		foreach(cell, keys)
			known |= strcmp(lfirst(cell), name) == 0;
		if (!known)
			lr_mistake(mistakes, place, "Class a column that maps to no attribute as \"attributes.column\".", "is not an attribute of a lead");
		for (int i = LR_CLASS_PERSONAL; i <= LR_CLASS_PLAIN; i++)
			valid |= json_is_string(class) && strcmp(json_string_value(class), lr_class_names[i]) == 0;
		if (!valid)
			lr_mistake(mistakes, place, NULL, "has to be direct, personal, sensitive or plain");
	}
}

static void
check_names(Relation rel, Datum names, bool attributes, const char *what, LrMistakes *mistakes)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(names), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		char	   *name = nulls[i] ? "" : TextDatumGetCString(elements[i]);

		if (attributes ? !is_attribute(name) && strncmp(name, "attributes.", 11) != 0 : !is_column(rel, name))
			lr_mistake(mistakes, lr_place_at(what, i + 1), attributes ? "Name an attribute, or \"attributes.key\"." : NULL,
					   attributes ? "\"%s\" is not an attribute of a lead" : "there is no column \"%s\"", name);
	}
}

static void
check_mode(Datum mode)
{
	char	   *value = TextDatumGetCString(mode);

	(void) lr_catalog();
	if (strcmp(value, "route") != 0 && strcmp(value, "observe") != 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("\"%s\" is no mode", value),
				errhint("Give route, or observe to decide beside the router that acts."));
}

/* What another router decided is compared with, and not read as something that is known of the lead. */
static void
check_baseline_owner(Relation rel, const char *name)
{
	LrMistakes	mistakes = {NIL};
	LrSource   *source = lr_source(rel);

	if (!is_column(rel, name))
		lr_mistake(&mistakes, "baseline_owner", NULL, "there is no column \"%s\"", name);
	else if (source->baseline_owner == 0)
		lr_mistake(&mistakes, "baseline_owner", "Name a column of a built-in type or an enum, such as text.",
				   "the type of column \"%s\" may run functions of its owner when it is read", name);
	for (int i = 0; i < source->nkeys && source->baseline_owner; i++)
	{
		if (source->keys[i] == source->baseline_owner)
			lr_mistake(&mistakes, "baseline_owner", "Name the column with the owner that the other router gives.", "column \"%s\" is part of the key", name);
	}
	for (int i = 0; i < LR_N_ATTRIBUTES && source->baseline_owner; i++)
	{
		if (source->columns[i].attnum == source->baseline_owner)
			lr_mistake(&mistakes, "baseline_owner", psprintf("Map the attribute to nothing: mapping => '{\"%s\": null}'.", lr_facts[i].name),
					   "column \"%s\" is read as attribute \"%s\", too", name, lr_facts[i].name);
	}
	lr_mistakes_raise(&mistakes, psprintf("the attachment of table \"%s\"", RelationGetRelationName(rel)));
}

static bool
is_attribute(const char *name)
{
	for (int i = 0; i < LR_N_ATTRIBUTES; i++)
	{
		if (strcmp(lr_facts[i].name, name) == 0)
			return true;
	}
	return false;
}

static bool
is_column(Relation rel, const char *name)
{
	return get_attnum(RelationGetRelid(rel), name) > 0;
}

/* Writes the row of leadroute.attached_tables. */
static int
record(Relation rel, FunctionCallInfo fcinfo, List *keys, bool keyed)
{
	LrIdentity	identity;
	Oid			types[] = {OIDOID, TEXTOID, TEXTOID, JSONBOID, JSONBOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, BOOLOID, TEXTOID,
	TEXTOID, TEXTOID};
	Datum		values[12];
	char		nulls[] = "            ";
	Datum	   *names = palloc(sizeof(Datum) * list_length(keys));
	ListCell   *cell;
	int			source_id;

	foreach(cell, keys)
		names[foreach_current_index(cell)] = CStringGetTextDatum(lfirst(cell));
	values[0] = ObjectIdGetDatum(RelationGetRelid(rel));
	values[1] = CStringGetTextDatum(quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)), RelationGetRelationName(rel)));
	values[2] = PG_GETARG_DATUM(3);
	values[3] = PG_GETARG_DATUM(1);
	values[4] = PG_GETARG_DATUM(2);
	values[5] = PG_GETARG_DATUM(4);
	values[6] = PG_GETARG_DATUM(5);
	values[7] = PointerGetDatum(construct_array(names, list_length(keys), TEXTOID, -1, false, TYPALIGN_INT));
	values[8] = BoolGetDatum(keyed);
	values[9] = CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	values[10] = PG_GETARG_DATUM(6);
	values[11] = PG_ARGISNULL(7) ? (Datum) 0 : PG_GETARG_DATUM(7);
	nulls[11] = PG_ARGISNULL(7) ? 'n' : ' ';
	lr_sql_begin(&identity);
	if (lr_sql("SELECT FROM leadroute.attached_tables WHERE relation = $1", true, 1, types, values, NULL) > 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("table \"%s\" is attached already", RelationGetRelationName(rel)),
				errhint("Detach it first with leadroute.detach_table(); states and record stay."));
	/* a table that was attached before keeps its number, and so its leads their identity */
	if (lr_sql("UPDATE leadroute.attached_tables SET relation = $1, policy = $3, mapping = $4, classes = $5, protected = $6, reroute_on = $7,"
			   " key_columns = $8, keyed = $9, attached_at = now(), attached_by = $10::name, detached_at = NULL, mode = $11, baseline_owner = $12"
			   " WHERE relation IS NULL AND relation_name = $2 AND keyed = $9"
			   " AND source_id = (SELECT max(source_id) FROM leadroute.attached_tables WHERE relation_name = $2) RETURNING source_id",
			   false, 12, types, values, nulls) == 0)
		lr_sql("INSERT INTO leadroute.attached_tables (relation, relation_name, policy, mapping, classes, protected, reroute_on, key_columns, keyed,"
			   " attached_by, mode, baseline_owner) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::name, $11, $12) RETURNING source_id", false, 12, types, values, nulls);
	source_id = lr_sql_int32(0, 1, 0);
	lr_sql_end(&identity);
	return source_id;
}

/* A table may protect an attribute that the policy reads which is in force, or will be when a scheduled activation is due. */
static void
check_active_policy(const char *name)
{
	TimestampTz moments[] = {GetCurrentTimestamp(), DT_NOEND};

	for (int i = 0; i < (int) lengthof(moments); i++)
	{
		LrPolicy   *policy = lr_policy_hold_active(name, moments[i]);
		LrMistakes	mistakes = {NIL};

		if (policy == NULL)
			continue;
		lr_check_protected(policy, &mistakes);
		lr_mistakes_raise(&mistakes, psprintf("policy \"%s\", which would route the table,", name));
		lr_policy_release(policy);
	}
}

static void
sync_triggers(Oid relid)
{
	LrIdentity	identity;
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(relid)};

	lr_sql_begin(&identity);
	lr_sql("SELECT leadroute.sync_triggers($1::pg_catalog.regclass)", false, 1, types, values, NULL);
	lr_sql_end(&identity);
}

static void
sync_all_triggers(void)
{
	LrIdentity	identity;

	lr_sql_begin(&identity);
	lr_sql("SELECT leadroute.sync_triggers(relation) FROM leadroute.attached_tables WHERE relation IS NOT NULL", false, 0, NULL, NULL, NULL);
	lr_sql_end(&identity);
}

/* Closes the leads that left an attached table, or a partitioned table within it, with a detached partition. */
static void
close_left(Oid relid)
{
	LrIdentity	identity;
	Oid			types[] = {OIDOID, OIDOID};
	Datum		values[] = {ObjectIdGetDatum(relid), ObjectIdGetDatum(GetUserId())};

	lr_sql_begin(&identity);
	lr_sql("SELECT leadroute.close_missing(a.root, 'partition detached', $2::regrole) FROM leadroute.attachment_of($1::regclass) a",
		   false, 2, types, values, NULL);
	lr_sql_end(&identity);
}
