/*
 * source.c: attached tables as this session knows them: which column gives which attribute, and how.
 *
 * Rows come from the attached table or straight from one of its partitions, whose columns may stand in another order, so
 * what is remembered belongs to the relation whose rows are read. It is made again when the relation's definition or
 * leadroute.attached_tables changed.
 */
#include "intake/intake.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "json.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "policy/condition.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

bool		lr_enabled = true;
int			lr_on_error = LR_ON_ERROR_RECORD;
int			lr_batch_size = 500;

static const struct config_enum_entry on_error_options[] = {
	{"record", LR_ON_ERROR_RECORD, false},
	{"abort", LR_ON_ERROR_ABORT, false},
	{NULL, 0, false}
};

typedef struct SourceEntry
{
	Oid			relid;
	LrSource   *source;			/* NULL until first made */
} SourceEntry;

static HTAB *sources = NULL;
static uint64 attached_generation;

static void relation_invalidated(Datum argument, Oid relid);
static void forget_stale_sources(void);
static LrSource *make_source(Relation rel);
static void read_keys(LrSource *source, Relation rel, Datum names);
static void check_key_type(Relation rel, Form_pg_attribute column);
static bool is_trusted_type(Oid type);
static void read_baseline_owner(LrSource *source, Relation rel, const char *name);
static void read_columns(LrSource *source, Relation rel, json_t *mapping);
static void read_column(LrSource *source, Relation rel, int attribute, const char *name);
static Expr *conversion(Form_pg_attribute column, Oid target);
static Datum constant(int attribute, json_t *value, bool *isnull);
static void read_classes(LrSource *source, json_t *classes);
static void read_reroute(LrSource *source, Relation rel, Datum names);
static AttrNumber column_number(Relation rel, const char *name);

/* Registers the settings of intake, and for invalidations. */
void
lr_intake_init(void)
{
	DefineCustomBoolVariable("leadroute.enabled",
							 "Routes leads as they are inserted.",
							 "When off, inserted leads are only listed as unrouted, with who inserted them; route_pending() routes them later.",
							 &lr_enabled, true, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("leadroute.on_error",
							 "What happens when an agent fails for a lead.",
							 "record: the lead is quarantined and the insert goes through; abort: the statement fails.",
							 &lr_on_error, LR_ON_ERROR_RECORD, on_error_options, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("leadroute.batch_size",
							"How many leads of one statement are worked on at a time.",
							"More leads at a time cost more memory and share more look-ups.",
							&lr_batch_size, 500, 1, 10000, PGC_USERSET, 0, NULL, NULL, NULL);
	CacheRegisterRelcacheCallback(relation_invalidated, (Datum) 0);
}

/* Returns how to read the rows of a relation; raises 55000 if it is not attached. Stays good for the transaction. */
LrSource *
lr_source(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);
	SourceEntry *entry;
	LrSource   *source;

	if (sources == NULL)
	{
		HASHCTL		control = {.keysize = sizeof(Oid),.entrysize = sizeof(SourceEntry),.hcxt = CacheMemoryContext};

		sources = hash_create("leadroute sources", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	if (attached_generation != lr_table_generation(LR_TABLE_ATTACHED))
	{
		attached_generation = lr_table_generation(LR_TABLE_ATTACHED);
		relation_invalidated((Datum) 0, InvalidOid);
	}
	entry = hash_search(sources, &relid, HASH_FIND, NULL);
	if (entry && entry->source && entry->source->valid)
		return entry->source;
	forget_stale_sources();
	source = make_source(rel);
	entry = hash_search(sources, &relid, HASH_ENTER, NULL);
	entry->source = source;
	MemoryContextSetParent(source->memory, CacheMemoryContext);
	return source;
}

/* Returns how to read the attached table of a source id; NULL if it is detached or dropped. */
LrSource *
lr_source_by_id(int source_id)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(source_id)};
	Oid			relid = InvalidOid;
	Relation	rel;
	LrSource   *source;

	lr_sql_begin(&identity);
	if (lr_sql("SELECT relation FROM leadroute.attached_tables WHERE source_id = $1", true, 1, types, values, NULL) > 0)
	{
		bool		isnull;
		Datum		value = lr_sql_datum(0, 1, &isnull);

		relid = isnull ? InvalidOid : DatumGetObjectId(value);
	}
	lr_sql_end(&identity);
	rel = OidIsValid(relid) ? try_relation_open(relid, AccessShareLock) : NULL;
	if (rel == NULL)
		return NULL;
	source = lr_source(rel);
	relation_close(rel, NoLock);
	return source;
}

static void
relation_invalidated(Datum argument, Oid relid)
{
	HASH_SEQ_STATUS scan;
	SourceEntry *entry;

	if (sources == NULL)
		return;
	hash_seq_init(&scan, sources);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->source && (!OidIsValid(relid) || relid == entry->relid))
			entry->source->valid = false;
	}
}

/* Forgets what is out of date, also of relations that are gone. A statement further out may still read it: it goes with the transaction. */
static void
forget_stale_sources(void)
{
	HASH_SEQ_STATUS scan;
	SourceEntry *entry;

	hash_seq_init(&scan, sources);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->source && entry->source->valid)
			continue;
		if (entry->source)
			MemoryContextSetParent(entry->source->memory, TopTransactionContext);
		hash_search(sources, &entry->relid, HASH_REMOVE, NULL);
	}
}

static LrSource *
make_source(Relation rel)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "leadroute source", ALLOCSET_SMALL_SIZES);
	MemoryContext saved = MemoryContextSwitchTo(memory);
	LrSource   *source = palloc0(sizeof(LrSource));
	LrIdentity	identity;
	List	   *ancestors = rel->rd_rel->relispartition ? get_partition_ancestors(RelationGetRelid(rel)) : NIL;
	Datum	   *relids = palloc(sizeof(Datum) * (list_length(ancestors) + 1));
	int			nrelids = 0;
	ListCell   *cell;
	Oid			types[] = {OIDARRAYOID};
	Datum		values[1];
	bool		isnull;

	if (rel->rd_rel->relkind != RELKIND_RELATION && rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("\"%s\" is no longer a table", RelationGetRelationName(rel)),
				errhint("Detach it with leadroute.detach_table()."));
	source->relid = RelationGetRelid(rel);
	source->memory = memory;
	source->valid = true;
	relids[nrelids++] = ObjectIdGetDatum(RelationGetRelid(rel));
	foreach(cell, ancestors)
		relids[nrelids++] = ObjectIdGetDatum(lfirst_oid(cell));
	values[0] = PointerGetDatum(construct_array(relids, nrelids, OIDOID, sizeof(Oid), true, TYPALIGN_INT));

	lr_sql_begin(&identity);
	if (lr_sql("SELECT source_id, relation::oid, policy, keyed, mapping, classes, key_columns, reroute_on, mode = 'observe', baseline_owner"
			   " FROM leadroute.attached_tables"
			   " WHERE relation = ANY ($1::oid[]) ORDER BY array_position($1::oid[], relation::oid) DESC LIMIT 1", true, 1, types, values, NULL) == 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("table \"%s\" has leadroute's triggers but is not attached", RelationGetRelationName(rel)),
				errhint("Run leadroute.attach_table() for it, or drop its triggers whose names begin with leadroute_ or zz_leadroute_."));
	MemoryContextSwitchTo(memory);
	source->source_id = lr_sql_int32(0, 1, 0);
	source->root = DatumGetObjectId(lr_sql_datum(0, 2, &isnull));
	source->policy = pstrdup(lr_sql_text(0, 3));
	source->keyed = DatumGetBool(lr_sql_datum(0, 4, &isnull));
	source->desc = CreateTupleDescCopy(RelationGetDescr(rel));
	source->context = CreateStandaloneExprContext();
	source->observed = DatumGetBool(lr_sql_datum(0, 9, &isnull));
	read_keys(source, rel, lr_sql_datum(0, 7, &isnull));
	read_baseline_owner(source, rel, lr_sql_text(0, 10));
	read_columns(source, rel, lr_json_of_jsonb(lr_sql_datum(0, 5, &isnull)));
	read_classes(source, lr_json_of_jsonb(lr_sql_datum(0, 6, &isnull)));
	read_reroute(source, rel, lr_sql_datum(0, 8, &isnull));
	lr_sql_end(&identity);
	MemoryContextSwitchTo(saved);
	return source;
}

static void
read_keys(LrSource *source, Relation rel, Datum names)
{
	Datum	   *elements;
	bool	   *nulls;

	deconstruct_array(DatumGetArrayTypeP(names), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &source->nkeys);
	source->keys = palloc(sizeof(AttrNumber) * source->nkeys);
	source->key_names = palloc(sizeof(char *) * source->nkeys);
	source->key_text = palloc0(sizeof(LrKeyText) * source->nkeys);
	for (int i = 0; i < source->nkeys; i++)
	{
		source->key_names[i] = TextDatumGetCString(elements[i]);
		source->keys[i] = column_number(rel, source->key_names[i]);
		if (source->keys[i] == InvalidAttrNumber)
			ereport(ERROR,
					errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("table \"%s\" has no column \"%s\", its key when it was attached", RelationGetRelationName(rel), source->key_names[i]),
					errhint("Detach it with leadroute.detach_table() and attach it again: its leads stay the same leads."));
		check_key_type(rel, TupleDescAttr(source->desc, source->keys[i] - 1));
		lr_key_text_init(&source->key_text[i], TupleDescAttr(source->desc, source->keys[i] - 1)->atttypid);
	}
}

/*
 * Refuses a key whose type is made by somebody who could have us run code of theirs: we read keys as the extension's owner.
 * Values of built-in types, enums, and types that only a superuser can make are read by trusted functions alone.
 */
static void
check_key_type(Relation rel, Form_pg_attribute column)
{
	if (!is_trusted_type(getBaseType(column->atttypid)))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("column \"%s\" of table \"%s\" cannot be a lead's key", NameStr(column->attname), RelationGetRelationName(rel)),
				errdetail("Its type %s may run functions of its owner when it is read.", format_type_be(getBaseType(column->atttypid))),
				errhint("Use a key of built-in types or enums, such as bigint, uuid or text."));
}

static bool
is_trusted_type(Oid type)
{
	HeapTuple	tuple;
	Oid			owner;

	if (type < FirstNormalObjectId || type_is_enum(type))
		return true;
	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", type);
	owner = ((Form_pg_type) GETSTRUCT(tuple))->typowner;
	ReleaseSysCache(tuple);
	return superuser_arg(owner);
}

/* Finds the column in which another router names the owner; one that is gone by now, or that is not to be trusted, is none. */
static void
read_baseline_owner(LrSource *source, Relation rel, const char *name)
{
	AttrNumber	attnum = name ? column_number(rel, name) : InvalidAttrNumber;

	if (attnum == InvalidAttrNumber || !is_trusted_type(getBaseType(TupleDescAttr(source->desc, attnum - 1)->atttypid)))
		return;
	source->baseline_owner = attnum;
	lr_key_text_init(&source->baseline_text, TupleDescAttr(source->desc, attnum - 1)->atttypid);
}

/*
 * Decides for every attribute where it comes from, and which columns are left for attributes. What another router decided is
 * not among them: we decide beside it.
 */
static void
read_columns(LrSource *source, Relation rel, json_t *mapping)
{
	bool	   *used = palloc0(sizeof(bool) * (source->desc->natts + 1));

	for (int i = 0; i < source->nkeys; i++)
		used[source->keys[i]] = true;
	if (source->baseline_owner)
		used[source->baseline_owner] = true;
	for (int attribute = 0; attribute < LR_N_ATTRIBUTES; attribute++)
	{
		const char *name = lr_facts[attribute].name;
		json_t	   *target = json_object_get(mapping, name);
		LrColumn   *column = &source->columns[attribute];

		if (target && json_is_object(target))
		{
			bool		isnull;

			column->constant = constant(attribute, json_object_get(target, "value"), &isnull);
			column->kind = isnull ? LR_COLUMN_NONE : LR_COLUMN_CONSTANT;
		}
		else if (target == NULL || json_is_string(target))
			read_column(source, rel, attribute, target ? json_string_value(target) : name);
		if (target && json_is_string(target) && column->kind == LR_COLUMN_NONE)
			column->kind = LR_COLUMN_MISSING;
		if (column->attnum > 0)
			used[column->attnum] = true;
	}
	source->rest = palloc(sizeof(AttrNumber) * Max(source->desc->natts, 1));
	for (int a = 1; a <= source->desc->natts; a++)
	{
		if (!used[a] && !TupleDescAttr(source->desc, a - 1)->attisdropped)
			source->rest[source->nrest++] = a;
	}
}

static void
read_column(LrSource *source, Relation rel, int attribute, const char *name)
{
	LrColumn   *column = &source->columns[attribute];
	AttrNumber	attnum = column_number(rel, name);
	Form_pg_attribute definition;
	Expr	   *expression;

	if (attnum == InvalidAttrNumber)
		return;
	definition = TupleDescAttr(source->desc, attnum - 1);
	column->attnum = attnum;
	column->kind = LR_COLUMN_DIRECT;
	if (getBaseType(definition->atttypid) == lr_facts[attribute].type || IsBinaryCoercible(definition->atttypid, lr_facts[attribute].type))
		return;
	expression = conversion(definition, lr_facts[attribute].type);
	if (expression == NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("column \"%s\" of table \"%s\" cannot be read as attribute \"%s\"", name, RelationGetRelationName(rel), lr_facts[attribute].name),
				errdetail("Its type is %s; the attribute's is %s.", format_type_be(definition->atttypid), format_type_be(lr_facts[attribute].type)),
				errhint("Map another column, or add a generated column of that type."));
	column->kind = LR_COLUMN_CONVERTED;
	column->conversion = ExecInitExpr(expression, NULL);
	source->follows_settings |= contain_mutable_functions((Node *) expression);
}

static bool
is_users_function(Oid function, void *context)
{
	return function >= FirstNormalObjectId;
}

static bool
calls_users_function(Node *node, void *context)
{
	if (node == NULL)
		return false;
	return check_functions_in_node(node, is_users_function, NULL) || expression_tree_walker(node, calls_users_function, context);
}

/* Makes the cast of a column to an attribute's type; NULL if there is none, or none that is built in. */
static Expr *
conversion(Form_pg_attribute column, Oid target)
{
	Var		   *var = makeVar(1, column->attnum, column->atttypid, column->atttypmod, column->attcollation, 0);
	Node	   *cast = coerce_to_target_type(NULL, (Node *) var, column->atttypid, target, -1, COERCION_EXPLICIT, COERCE_EXPLICIT_CAST, -1);

	if (cast == NULL || calls_users_function(cast, NULL))
		return NULL;
	return expression_planner((Expr *) cast);
}

/* Turns a constant of the mapping into the attribute's type; raises 22023 if it does not fit. */
static Datum
constant(int attribute, json_t *value, bool *isnull)
{
	const LrFactInfo *fact = &lr_facts[attribute];

	*isnull = value == NULL || json_is_null(value);
	if (*isnull)
		return (Datum) 0;
	if (fact->type == TEXTOID && json_is_string(value))
		return CStringGetTextDatum(json_string_value(value));
	if (fact->type == INT4OID && json_is_integer(value) && json_integer_value(value) >= 0 && json_integer_value(value) <= PG_INT32_MAX)
		return Int32GetDatum((int32) json_integer_value(value));
	if (fact->type == BOOLOID && json_is_boolean(value))
		return BoolGetDatum(json_is_true(value));
	if (fact->type == TIMESTAMPTZOID && json_is_string(value))
	{
		int			nest = lr_settings_enter("UTC");
		Datum		moment = DirectFunctionCall3(timestamptz_in, CStringGetDatum(json_string_value(value)), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));

		lr_settings_leave(nest);
		return moment;
	}
	if (fact->type == TEXTARRAYOID && json_is_array(value))
	{
		int			n = (int) json_array_size(value);
		Datum	   *elements = palloc(sizeof(Datum) * Max(n, 1));
		bool		fits = true;

		for (int i = 0; i < n && fits; i++)
		{
			fits = json_is_string(json_array_get(value, i));
			if (fits)
				elements[i] = CStringGetTextDatum(json_string_value(json_array_get(value, i)));
		}
		if (fits)
			return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT));
	}
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("the constant for attribute \"%s\" does not fit its type %s", fact->name, format_type_be(fact->type)),
			errhint("Give it as {\"%s\": {\"value\": …}} with a JSON value of that kind.", fact->name));
}

static void
read_classes(LrSource *source, json_t *classes)
{
	const char *name;
	json_t	   *value;

	source->plain_keys = palloc(sizeof(char *) * Max(json_object_size(classes), 1));
	source->key_plain = true;
	for (int i = 0; i < source->nkeys; i++)
	{
		const char *class = json_string_value(json_object_get(classes, source->key_names[i]));

		source->key_plain &= class && strcmp(class, "plain") == 0;
	}
	json_object_foreach(classes, name, value)
	{
		for (int i = 0; i < LR_N_ATTRIBUTES; i++)
		{
			if (strcmp(name, lr_facts[i].name) != 0)
				continue;
			for (int class = LR_CLASS_PERSONAL; class <= LR_CLASS_PLAIN; class++)
			{
				if (strcmp(json_string_value(value), lr_class_names[class]) == 0)
					source->classes[i] = (LrClass) class;
			}
		}
		if (strncmp(name, "attributes.", 11) == 0 && strcmp(json_string_value(value), "plain") == 0)
			source->plain_keys[source->nplain_keys++] = pstrdup(name + 11);
	}
}

static void
read_reroute(LrSource *source, Relation rel, Datum names)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(names), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	source->reroute = palloc(sizeof(AttrNumber) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		AttrNumber	attnum = column_number(rel, TextDatumGetCString(elements[i]));

		if (attnum != InvalidAttrNumber)
			source->reroute[source->nreroute++] = attnum;
	}
}

static AttrNumber
column_number(Relation rel, const char *name)
{
	AttrNumber	attnum = get_attnum(RelationGetRelid(rel), name);

	return attnum > 0 ? attnum : InvalidAttrNumber;
}
