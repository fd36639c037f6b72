/*
 * types.c: users' types in conditions: enums, and domains all of whose checks are built in.
 *
 * A team's enum of stages or domain of postcodes belongs into conditions as well as the server's own types do. Their
 * definitions may change, though, and a published version must not change its meaning: it pins them by digest.
 */
#include "policy/policy.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "nodes/nodes.h"
#include "policy/condition_check.h"
#include "provenance/provenance.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

static bool checks_are_allowed(Oid domain);
static Oid	base_of(Oid type);
static char *definition(Oid type);

/* Tells whether conditions may use a type: a built-in one, an enum, or a domain over such whose checks are built in. */
bool
lr_type_is_allowed(Oid type)
{
	if (type < FirstNormalObjectId || type_is_enum(type))
		return true;
	return get_typtype(type) == TYPTYPE_DOMAIN && checks_are_allowed(type) && lr_type_is_allowed(base_of(type));
}

/* Looks at a domain's own checks as they were written: what the planner makes of them may have lost a function. */
static bool
checks_are_allowed(Oid domain)
{
	Relation	rel = table_open(ConstraintRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		allowed = true;

	ScanKeyInit(&key, Anum_pg_constraint_contypid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(domain));
	scan = systable_beginscan(rel, ConstraintTypidIndexId, true, NULL, 1, &key);
	while (allowed && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		Datum		check = heap_getattr(tuple, Anum_pg_constraint_conbin, RelationGetDescr(rel), &isnull);

		if (!isnull)
			allowed = lr_is_allowed_check(stringToNode(TextDatumGetCString(check)));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return allowed;
}

/* The type that a domain is made from, which may be a domain itself; InvalidOid for other types. */
static Oid
base_of(Oid type)
{
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Oid			base;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	base = ((Form_pg_type) GETSTRUCT(tuple))->typbasetype;
	ReleaseSysCache(tuple);
	return base;
}

/* Appends an object: each type's qualified name to the digest of its definition. */
void
lr_types_to_json(List *types, StringInfo json)
{
	ListCell   *cell;

	appendStringInfoChar(json, '{');
	foreach(cell, types)
	{
		char	   *text = definition(lfirst_oid(cell));

		appendStringInfoString(json, foreach_current_index(cell) ? ", " : "");
		escape_json(json, format_type_be_qualified(lfirst_oid(cell)));
		appendStringInfo(json, ": \"%s\"", lr_sha256_hex(text, strlen(text)));
	}
	appendStringInfoChar(json, '}');
}

/* Finds a type by its qualified name, as lr_types_to_json() gives it; InvalidOid if it is gone. */
Oid
lr_type_by_name(const char *name)
{
	LrIdentity	identity;
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	Oid			type = InvalidOid;
	bool		isnull = true;

	lr_sql_begin(&identity);
	if (lr_sql("SELECT to_regtype($1)::oid", true, 1, types, values, NULL) > 0)
		type = DatumGetObjectId(lr_sql_datum(0, 1, &isnull));
	lr_sql_end(&identity);
	return isnull ? InvalidOid : type;
}

/* All that makes up a type's meaning: labels in their order, or base type and constraints, down to what is built in. */
static char *
definition(Oid type)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(type)};
	char	   *text = NULL;
	Oid			base;

	lr_sql_begin(&identity);
	if (lr_sql("SELECT CASE t.typtype"
			   " WHEN 'e' THEN (SELECT string_agg(quote_literal(e.enumlabel), ',' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid)"
			   " ELSE format_type(t.typbasetype, t.typtypmod) || ' ' || t.typnotnull || coalesce("
			   "(SELECT string_agg(pg_get_constraintdef(c.oid), ' ' ORDER BY c.conname) FROM pg_constraint c WHERE c.contypid = t.oid), '') END"
			   " FROM pg_type t WHERE t.oid = $1", true, 1, types, values, NULL) > 0 && lr_sql_text(0, 1))
		text = MemoryContextStrdup(memory, lr_sql_text(0, 1));
	lr_sql_end(&identity);
	base = base_of(type);
	if (base >= FirstNormalObjectId)
		text = psprintf("%s over %s", text ? text : "", definition(base));
	return text ? text : pstrdup("");
}
