/*
 * types.c: users' types in conditions: enums, and domains all of whose checks are built in.
 *
 * A team's enum of stages or domain of postcodes belongs into conditions as well as the server's own types do. Their
 * definitions may change, though, and a published version must not change its meaning: it pins them by digest.
 */
#include "policy/policy.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "policy/condition_check.h"
#include "provenance/provenance.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

static char *definition(Oid type);

/* Tells whether conditions may use a type: a built-in one, an enum, or a domain over such whose checks are built in. */
bool
lr_type_is_allowed(Oid type)
{
	DomainConstraintRef *domain;
	ListCell   *cell;

	if (type < FirstNormalObjectId)
		return true;
	if (type_is_enum(type))
		return true;
	if (get_typtype(type) != TYPTYPE_DOMAIN || !lr_type_is_allowed(getBaseType(type)))
		return false;
	domain = palloc0(sizeof(DomainConstraintRef));
	InitDomainConstraintRef(type, domain, CurrentMemoryContext, false);
	foreach(cell, domain->constraints)
	{
		DomainConstraintState *constraint = lfirst(cell);

		if (constraint->constrainttype == DOM_CONSTRAINT_CHECK && !lr_is_allowed_check((Node *) constraint->check_expr))
			return false;
	}
	return true;
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
	base = getBaseType(type);
	if (base != type && base >= FirstNormalObjectId)
		text = psprintf("%s over %s", text ? text : "", definition(base));
	return text ? text : pstrdup("");
}
