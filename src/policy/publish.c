/*
 * publish.c: checking and publishing policies, from a document or from a draft, and the documents that steps depend on.
 *
 * A draft knows the version that it was based on. What became active since then would be undone by publishing it: that is
 * refused, with what both sides changed, unless the caller forces it.
 */
#include "policy/policy.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "provenance/provenance.h"
#include "scoring/scoring.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

PG_FUNCTION_INFO_V1(leadroute_policy_mistakes);
PG_FUNCTION_INFO_V1(leadroute_publish_policy);
PG_FUNCTION_INFO_V1(leadroute_publish_draft);
PG_FUNCTION_INFO_V1(leadroute_discard_draft);
PG_FUNCTION_INFO_V1(leadroute_publish_scorecard);
PG_FUNCTION_INFO_V1(leadroute_publish_jurisdictions);

#define SHOWN_DIFFERENCES 20
#define SHOWN_TESTS 20

/* A draft as its row has it, locked to the end of the transaction. */
typedef struct Draft
{
	char	   *name;
	char	   *policy;
	int			based_on;		/* id of a version, or 0 */
	Datum		authors;		/* name[] */
} Draft;

static int	publish(const char *name, Datum document, const char *reason, bool force, const Draft *draft);
static void lock_draft(Draft *draft);
static Datum draft_document(const Draft *draft);
static void refuse_failed_tests(LrPolicy *policy, json_t *document, bool force, StringInfo overridden);
static void refuse_newer_version(const Draft *draft, bool force, StringInfo overridden);
static char *draft_differences(const Draft *draft);
static void append_value(StringInfo text, const char *label, const char *value);
static void append_overridden(StringInfo overridden, const char *what);

/* Lists every mistake of a document; see the SQL comment. */
Datum
leadroute_policy_mistakes(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	LrMistakes	mistakes = {NIL};
	LrPolicy   *policy = lr_policy_compile(lr_json_of_jsonb(PG_GETARG_DATUM(0)), NULL, false, &mistakes);
	ListCell   *cell;

	lr_check_protected(policy, &mistakes);
	InitMaterializedSRF(fcinfo, 0);
	foreach(cell, mistakes.list)
	{
		LrMistake  *mistake = lfirst(cell);
		Datum		values[] = {CStringGetTextDatum(mistake->place), CStringGetTextDatum(mistake->problem),
		mistake->hint ? CStringGetTextDatum(mistake->hint) : (Datum) 0};
		bool		nulls[] = {false, false, mistake->hint == NULL};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* Publishes a document as the next version of a policy; see the SQL comment. */
Datum
leadroute_publish_policy(PG_FUNCTION_ARGS)
{
	lr_refuse_nulls(fcinfo);
	PG_RETURN_INT32(publish(lr_checked_name(PG_GETARG_DATUM(0), "policy"), PG_GETARG_DATUM(1), text_to_cstring(PG_GETARG_TEXT_PP(2)),
							PG_GETARG_BOOL(3), NULL));
}

/* Publishes a draft as the next version of its policy; see the SQL comment. */
Datum
leadroute_publish_draft(PG_FUNCTION_ARGS)
{
	lr_refuse_nulls(fcinfo);

	Draft		draft = {.name = text_to_cstring(PG_GETARG_TEXT_PP(0))};
	Datum		document;

	lock_draft(&draft);
	document = draft_document(&draft);
	PG_RETURN_INT32(publish(lr_checked_name(CStringGetTextDatum(draft.policy), "policy"), document, text_to_cstring(PG_GETARG_TEXT_PP(1)),
							PG_GETARG_BOOL(2), &draft));
}

/* Throws a draft away; see the SQL comment. */
Datum
leadroute_discard_draft(PG_FUNCTION_ARGS)
{
	lr_refuse_nulls(fcinfo);

	Draft		draft = {.name = text_to_cstring(PG_GETARG_TEXT_PP(0))};
	LrAct		act = {.act = "discard",.draft = draft.name,.reason = text_to_cstring(PG_GETARG_TEXT_PP(1)),.current_user = GetUserId()};
	LrIdentity	identity;
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[] = {PG_GETARG_DATUM(0), (Datum) 0};

	lock_draft(&draft);
	values[1] = CStringGetTextDatum(draft.policy);
	lr_sql_begin(&identity);
	if (lr_sql("SELECT policy_id FROM leadroute.policies WHERE name = $2", true, 2, types, values, NULL) > 0)
		act.policy_id = lr_sql_int32(0, 1, 0);
	lr_sql("DELETE FROM leadroute.drafts WHERE draft = $1", false, 1, types, values, NULL);
	lr_sql_end(&identity);
	lr_record_act(&act);
	PG_RETURN_VOID();
}

/* Checks a document and stores it, with the reason, as the next version of a policy. Returns the version's number. draft: NULL, or where it comes from. */
static int
publish(const char *name, Datum document, const char *reason, bool force, const Draft *draft)
{
	LrAct		act = {.act = "publish",.draft = draft ? draft->name : NULL,.reason = reason,.current_user = GetUserId()};
	LrMistakes	mistakes = {NIL};
	json_t	   *json;
	LrPolicy   *policy;
	LrPolicyRow row;
	LrIdentity	identity;
	Oid			types[] = {TEXTOID, INT4OID};
	Datum		values[2];
	Datum		pins;
	StringInfoData overridden;
	int			version_id;
	int			version;

	lr_require_reason(true, reason);
	initStringInfo(&overridden);
	/* before the work, and, when the policy is locked, once more */
	if (draft)
		refuse_newer_version(draft, force, &overridden);
	json = lr_json_of_jsonb(document);
	policy = lr_policy_compile(json, NULL, false, &mistakes);
	lr_check_protected(policy, &mistakes);
	if (draft)
		lr_mistakes_raise_hint(&mistakes, psprintf("draft \"%s\"", draft->name),
							   "Each line names the place in the document, what is wrong there, and how to mend it; leadroute.check_draft() names the rules.");
	lr_mistakes_raise(&mistakes, psprintf("the document for policy \"%s\"", name));
	lr_make_owner_pools(policy);

	resetStringInfo(&overridden);
	refuse_failed_tests(policy, json, force, &overridden);
	pins = DirectFunctionCall1(jsonb_in, CStringGetDatum(lr_policy_pins(policy)));
	/* one publisher of a policy at a time: version numbers are dense */
	lr_policy_lock(name, true, &row);
	if (draft)
		refuse_newer_version(draft, force, &overridden);
	lr_sql_begin(&identity);
	version_id = lr_policy_store(policy, row.policy_id, document, pins, CStringGetTextDatum(reason), draft ? draft->authors : (Datum) 0, &version);
	if (draft)
	{
		values[0] = CStringGetTextDatum(draft->name);
		values[1] = Int32GetDatum(abs(version_id));
		lr_sql("UPDATE leadroute.drafts SET based_on_version_id = $2, checked_at = now(), published_at = now() WHERE draft = $1",
			   false, 2, types, values, NULL);
	}
	lr_sql_end(&identity);
	act.policy_id = row.policy_id;
	act.policy_version_id = version_id;
	act.overridden = overridden.len > 0 ? overridden.data : NULL;
	if (version_id > 0)
		lr_record_act(&act);
	return version;
}

/* Reads a draft's row by its name, and locks it: what others change in the draft waits until this transaction ends. */
static void
lock_draft(Draft *draft)
{
	MemoryContext memory = CurrentMemoryContext;
	MemoryContext saved;
	LrIdentity	identity;
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(draft->name)};
	bool		isnull;

	lr_sql_begin(&identity);
	if (lr_sql("SELECT policy, based_on_version_id, authors FROM leadroute.drafts WHERE draft = $1 FOR UPDATE", false, 1, types, values, NULL) == 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("draft \"%s\" does not exist", draft->name),
				errhint("Make it with leadroute.create_draft(); see leadroute.policy_drafts."));
	saved = MemoryContextSwitchTo(memory);
	draft->policy = pstrdup(lr_sql_text(0, 1));
	draft->based_on = lr_sql_int32(0, 2, 0);
	draft->authors = PointerGetDatum(PG_DETOAST_DATUM_COPY(lr_sql_datum(0, 3, &isnull)));
	MemoryContextSwitchTo(saved);
	lr_sql_end(&identity);
}

/* Returns the document of a draft, as it is now that the draft is locked. */
static Datum
draft_document(const Draft *draft)
{
	MemoryContext memory = CurrentMemoryContext;
	MemoryContext saved;
	LrIdentity	identity;
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(draft->name)};
	Datum		document;
	bool		isnull;

	lr_sql_begin(&identity);
	lr_sql("SELECT leadroute.draft_document($1)", true, 1, types, values, NULL);
	saved = MemoryContextSwitchTo(memory);
	document = PointerGetDatum(PG_DETOAST_DATUM_COPY(lr_sql_datum(0, 1, &isnull)));
	MemoryContextSwitchTo(saved);
	lr_sql_end(&identity);
	return document;
}

/* Raises 55000 if a test that the document brings fails, unless forced. */
static void
refuse_failed_tests(LrPolicy *policy, json_t *document, bool force, StringInfo overridden)
{
	List	   *failed = lr_policy_failed_tests(policy, document);
	int			n = list_length(failed);
	StringInfoData names;
	ListCell   *cell;

	if (n == 0)
		return;
	if (force)
	{
		append_overridden(overridden, psprintf(n == 1 ? "%d failed test" : "%d failed tests", n));
		return;
	}
	initStringInfo(&names);
	foreach(cell, failed)
	{
		if (foreach_current_index(cell) == SHOWN_TESTS)
			break;
		appendStringInfo(&names, "%s\"%s\"", names.len ? ", " : "", ((LrFailedTest *) lfirst(cell))->name);
	}
	if (n > SHOWN_TESTS)
		appendStringInfo(&names, " and %d more", n - SHOWN_TESTS);
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg_plural("%d test of the document fails", "%d tests of the document fail", n, n),
			errdetail_internal("%s.", names.data),
			errhint("leadroute.run_document_tests() says why. Mend the rules or the tests, or give force => true and a reason: that is on record in leadroute.forced_acts."));
}

/* Raises 55000 if a version that is newer than the one that the draft was based on has become active, unless forced. */
static void
refuse_newer_version(const Draft *draft, bool force, StringInfo overridden)
{
	LrIdentity	identity;
	Oid			types[] = {TEXTOID, INT4OID};
	Datum		values[] = {CStringGetTextDatum(draft->policy), Int32GetDatum(draft->based_on)};
	int			newer = 0;
	int			based_on = 0;

	lr_sql_begin(&identity);
	if (lr_sql("SELECT a.version, b.version FROM leadroute.active_policies a LEFT JOIN leadroute.policy_versions b ON b.policy_version_id = $2"
			   " WHERE a.name = $1 AND a.version > coalesce(b.version, 0)", true, 2, types, values, NULL) > 0)
	{
		newer = lr_sql_int32(0, 1, 0);
		based_on = lr_sql_int32(0, 2, 0);
	}
	lr_sql_end(&identity);
	if (newer == 0)
		return;
	if (!force)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				based_on ? errmsg("draft \"%s\" is based on version %d of policy \"%s\", and version %d is active", draft->name, based_on, draft->policy, newer)
				: errmsg("draft \"%s\" is based on no version of policy \"%s\", and version %d is active", draft->name, draft->policy, newer),
				errdetail_internal("%s", draft_differences(draft)),
				errhint("Take over what does not conflict with leadroute.rebase_draft(); leadroute.draft_differences() shows all. Or give force => true and a reason: that is on record in leadroute.forced_acts."));
	append_overridden(overridden, psprintf("newer active version %d", newer));
}

/* Returns what the active version and a draft changed, conflicts first, as lines, the first of them only. */
static char *
draft_differences(const Draft *draft)
{
	StringInfoData text;
	LrIdentity	identity;
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(draft->name)};
	uint64		n;

	initStringInfo(&text);
	lr_sql_begin(&identity);
	/* what tests hold may have been a person's: they are named only */
	n = lr_sql("SELECT CASE WHEN conflict THEN 'conflict' WHEN side = 'both' THEN 'both alike' ELSE side END, kind, name, member,"
			   " CASE WHEN kind NOT LIKE 'test %' AND member IS NOT NULL THEN coalesce(base::text, 'nothing') END,"
			   " CASE WHEN kind NOT LIKE 'test %' AND member IS NOT NULL AND side <> 'draft' THEN coalesce(active::text, 'nothing') END,"
			   " CASE WHEN kind NOT LIKE 'test %' AND member IS NOT NULL AND side <> 'active' THEN coalesce(draft_value::text, 'nothing') END"
			   " FROM leadroute.draft_differences($1)", true, 1, types, values, NULL);
	for (uint64 i = 0; i < Min(n, SHOWN_DIFFERENCES); i++)
	{
		char	   *name = lr_sql_text(i, 3);
		char	   *member = lr_sql_text(i, 4);

		appendStringInfo(&text, "%s%s: %s", i ? "\n" : "", lr_sql_text(i, 1), lr_sql_text(i, 2));
		if (name)
			appendStringInfo(&text, " \"%s\"", name);
		if (member)
			appendStringInfo(&text, " %s", member);
		append_value(&text, " was", lr_sql_text(i, 5));
		append_value(&text, ", active", lr_sql_text(i, 6));
		append_value(&text, ", draft", lr_sql_text(i, 7));
	}
	if (n > SHOWN_DIFFERENCES)
		appendStringInfo(&text, "\n… and " UINT64_FORMAT " more", n - SHOWN_DIFFERENCES);
	if (n == 0)
		appendStringInfoString(&text, "Neither of them changed the document.");
	lr_sql_end(&identity);
	return text.data;
}

static void
append_value(StringInfo text, const char *label, const char *value)
{
	int			shown;

	if (value == NULL)
		return;
	shown = pg_mbcliplen(value, strlen(value), 80);
	appendStringInfo(text, "%s %.*s%s", label, shown, value, value[shown] ? "…" : "");
}

static void
append_overridden(StringInfo overridden, const char *what)
{
	appendStringInfo(overridden, "%s%s", overridden->len ? ", " : "", what);
}

/* Publishes a scorecard; see the SQL comment. */
Datum
leadroute_publish_scorecard(PG_FUNCTION_ARGS)
{
	lr_refuse_nulls(fcinfo);

	char	   *name = lr_checked_name(PG_GETARG_DATUM(0), "scorecard");
	LrMistakes	mistakes = {NIL};

	lr_scorecard_check(lr_json_of_jsonb(PG_GETARG_DATUM(1)), &mistakes);
	lr_mistakes_raise(&mistakes, psprintf("scorecard \"%s\"", name));
	PG_RETURN_INT32(lr_document_publish("scorecard", name, PG_GETARG_DATUM(1), text_to_cstring(PG_GETARG_TEXT_PP(2))));
}

/* Publishes jurisdiction rules; see the SQL comment. */
Datum
leadroute_publish_jurisdictions(PG_FUNCTION_ARGS)
{
	lr_refuse_nulls(fcinfo);

	char	   *name = lr_checked_name(PG_GETARG_DATUM(0), "jurisdictions");
	LrMistakes	mistakes = {NIL};

	lr_jurisdictions_check(lr_json_of_jsonb(PG_GETARG_DATUM(1)), &mistakes);
	lr_mistakes_raise(&mistakes, psprintf("jurisdictions \"%s\"", name));
	PG_RETURN_INT32(lr_document_publish("jurisdictions", name, PG_GETARG_DATUM(1), text_to_cstring(PG_GETARG_TEXT_PP(2))));
}
