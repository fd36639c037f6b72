/*
 * store.c: published versions in their tables.
 *
 * The document is stored without its rules, which have a row each: whoever decides under a version of a hundred thousand
 * rules reads the index, and the text of a rule only to prepare a shape that no other has. The content hash is taken over the
 * document, the pins and the hash of the rules. The index is not part of it: it can be made anew from the rules.
 */
#include "policy/rule_index.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "provenance/provenance.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(leadroute_rebuild_rule_index);

static Datum index_datum(const LrPolicy *policy);

/*
 * Writes a checked version, unless the newest one is the same, dependencies included. Returns its id, and its number; a
 * negative id is that of a version that was there. authors: name[], or 0; whoever publishes is one of them. The caller holds the
 * policy's row, and acts as the owner.
 */
int
lr_policy_store(const LrPolicy *policy, int policy_id, Datum document, Datum pins, Datum reason, Datum authors, int *version)
{
	Oid			types[] = {INT4OID, JSONBOID, JSONBOID, TEXTOID, NAMEOID, BYTEAOID, BYTEAOID, NAMEARRAYOID, INT4OID};
	Datum		values[] = {Int32GetDatum(policy_id), document, pins, reason,
	DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(GetSessionUserId(), false))), (Datum) 0, (Datum) 0, authors, (Datum) 0};
	char		nulls[] = {' ', ' ', ' ', ' ', ' ', ' ', ' ', authors ? ' ' : 'n', ' '};
	Oid			row_types[] = {INT4OID, JSONBOID};
	Datum		row_values[2];
	bool		isnull;
	MemoryContext memory = CurrentMemoryContext;
	int			version_id;

	lr_sql("SELECT sha256(coalesce(string_agg(sha256(convert_to(r::text, 'UTF8')), ''::bytea ORDER BY n), ''))"
		   " FROM jsonb_array_elements(CASE jsonb_typeof($2 -> 'rules') WHEN 'array' THEN $2 -> 'rules' ELSE '[]' END) WITH ORDINALITY AS x (r, n)",
		   true, 3, types, values, nulls);
	{
		MemoryContext saved = MemoryContextSwitchTo(memory);

		values[5] = PointerGetDatum(PG_DETOAST_DATUM_COPY(lr_sql_datum(0, 1, &isnull)));
		MemoryContextSwitchTo(saved);
	}
	/* read as committed now: the row's lock does not renew the snapshot of a transaction that keeps one */
	*version = 1;
	if (lr_sql("SELECT policy_version_id, version, content_hash = leadroute.content_hash(leadroute.without_rules($2), $3, $6)"
			   " FROM leadroute.policy_versions WHERE policy_id = $1 ORDER BY version DESC LIMIT 1", true, 6, types, values, nulls) > 0)
	{
		*version = lr_sql_int32(0, 2, 0);
		if (DatumGetBool(lr_sql_datum(0, 3, &isnull)))
			return -lr_sql_int32(0, 1, 0);
		(*version)++;
	}
	values[6] = index_datum(policy);
	values[8] = Int32GetDatum(*version);
	lr_sql("INSERT INTO leadroute.policy_versions (policy_id, version, frame, pins, rules_hash, content_hash, rule_index, index_hash, reason, published_by, authors, tests)"
		   " VALUES ($1, $9, leadroute.without_rules($2), $3, $6, leadroute.content_hash(leadroute.without_rules($2), $3, $6), $7, sha256($7), $4, $5,"
		   " CASE WHEN $5 = ANY ($8) THEN $8 ELSE array_append($8, $5) END, CASE jsonb_typeof($2 -> 'tests') WHEN 'array' THEN $2 -> 'tests' END)"
		   " RETURNING policy_version_id", false, 9, types, values, nulls);
	version_id = lr_sql_int32(0, 1, 0);
	row_values[0] = Int32GetDatum(version_id);
	row_values[1] = document;
	lr_sql("INSERT INTO leadroute.policy_rules (policy_version_id, rule_no, rule) SELECT $1, n - 1, r"
		   " FROM jsonb_array_elements(CASE jsonb_typeof($2 -> 'rules') WHEN 'array' THEN $2 -> 'rules' ELSE '[]' END) WITH ORDINALITY AS x (r, n)",
		   false, 2, row_types, row_values, NULL);
	lr_sql("SELECT leadroute.derive_policy_steps($1)", false, 1, row_types, row_values, NULL);
	return version_id;
}

static Datum
index_datum(const LrPolicy *policy)
{
	const LrRuleIndex *index = policy->rule_set ? lr_rule_set_index(policy->rule_set) : lr_rule_index_build(policy);
	bytea	   *bytes = MemoryContextAllocHuge(CurrentMemoryContext, VARHDRSZ + index->size);

	SET_VARSIZE(bytes, VARHDRSZ + index->size);
	memcpy(VARDATA(bytes), index, index->size);
	return PointerGetDatum(bytes);
}

/*
 * Gives a loaded version its rules: by the stored index, or, where this server cannot use that, by one made anew from the
 * rules' text. stored: 0 for none.
 */
void
lr_policy_load_rules(LrPolicy *policy, Datum stored)
{
	struct varlena *bytes = stored ? PG_DETOAST_DATUM(stored) : NULL;
	LrRuleIndex *index;

	if (bytes && VARSIZE(bytes) > VARHDRSZ)
	{
		/* what is stored begins behind a header of four bytes; the index wants to be aligned */
		index = MemoryContextAllocHuge(CurrentMemoryContext, VARSIZE(bytes) - VARHDRSZ);
		memcpy(index, VARDATA(bytes), VARSIZE(bytes) - VARHDRSZ);
		if (lr_rule_index_usable(index, VARSIZE(bytes) - VARHDRSZ))
		{
			policy->rule_set = lr_rule_set_make(index);
			if ((Pointer) bytes != DatumGetPointer(stored))
				pfree(bytes);
			return;
		}
		pfree(index);
	}
	lr_policy_reindex(policy);
}

/* Makes a loaded version's index from its rules. */
void
lr_policy_reindex(LrPolicy *policy)
{
	MemoryContext memory = CurrentMemoryContext;
	MemoryContext scratch = AllocSetContextCreate(memory, "leadroute rules", ALLOCSET_DEFAULT_SIZES);

	MemoryContextSwitchTo(scratch);
	lr_policy_read_stored_rules(policy);
	MemoryContextSwitchTo(memory);
	policy->rule_set = lr_rule_set_make(lr_rule_index_build(policy));
	policy->rules = NULL;
	MemoryContextDelete(scratch);
}

/* Gives a loaded version, which has an index only, its rules, in the current memory context. */
void
lr_policy_read_stored_rules(LrPolicy *policy)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	LrMistakes	mistakes = {NIL};
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(policy->version_id)};
	json_t	   *rules;
	json_t	   *pins;
	bool		isnull;

	lr_sql_begin(&identity);
	lr_sql("SELECT (SELECT coalesce(jsonb_agg(r.rule ORDER BY r.rule_no), '[]') FROM leadroute.policy_rules r WHERE r.policy_version_id = $1),"
		   " (SELECT v.pins FROM leadroute.policy_versions v WHERE v.policy_version_id = $1)", true, 1, types, values, NULL);
	MemoryContextSwitchTo(memory);
	rules = lr_json_of_jsonb(lr_sql_datum(0, 1, &isnull));
	pins = lr_json_of_jsonb(lr_sql_datum(0, 2, &isnull));
	lr_sql_end(&identity);
	MemoryContextSwitchTo(memory);
	lr_policy_read_rules(policy, rules, pins, &mistakes);
	lr_mistakes_raise(&mistakes, psprintf("version %d of policy \"%s\", as published,", policy->version, policy->name));
}

/* Reads one rule of a published version, in the current memory context. */
json_t *
lr_rule_json(const LrPolicy *policy, int number)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(policy->version_id), Int32GetDatum(number)};
	json_t	   *json = NULL;
	bool		isnull;

	lr_sql_begin(&identity);
	if (lr_sql_kept(LR_PLAN_RULE, "SELECT rule FROM leadroute.policy_rules WHERE policy_version_id = $1 AND rule_no = $2", 2, types, values, NULL) > 0)
	{
		MemoryContextSwitchTo(memory);
		json = lr_json_of_jsonb(lr_sql_datum(0, 1, &isnull));
	}
	lr_sql_end(&identity);
	MemoryContextSwitchTo(memory);
	if (json == NULL)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("rule %d of version %d of policy \"%s\" is missing from leadroute.policy_rules", number, policy->version, policy->name),
				errhint("Restore the row: decisions depend on it."));
	return json;
}

/* Reads the condition of one rule of a published version, in the current memory context. */
LrCondition *
lr_rule_condition(LrPolicy *policy, int number)
{
	LrMistakes	mistakes = {NIL};
	LrCondition *condition = lr_rule_read_condition(policy, lr_rule_json(policy, number), lr_place_at("rules", number), &mistakes);

	lr_mistakes_raise(&mistakes, psprintf("version %d of policy \"%s\", as published,", policy->version, policy->name));
	return condition;
}

/* Makes the stored index of a version anew; see the SQL comment. */
Datum
leadroute_rebuild_rule_index(PG_FUNCTION_ARGS)
{
	LrPolicy   *policy = lr_policy_hold(PG_GETARG_INT32(0));
	LrIdentity	identity;
	Oid			types[] = {INT4OID, BYTEAOID};
	Datum		values[] = {PG_GETARG_DATUM(0), (Datum) 0};
	LrPolicy	copy = *policy;

	lr_policy_reindex(&copy);
	values[1] = index_datum(&copy);
	lr_sql_begin(&identity);
	lr_sql("UPDATE leadroute.policy_versions SET rule_index = $2, index_hash = sha256($2) WHERE policy_version_id = $1", false, 2, types, values, NULL);
	lr_sql_end(&identity);
	lr_policy_release(policy);
	PG_RETURN_INT64(VARSIZE(DatumGetPointer(values[1])) - VARHDRSZ);
}
