/*
 * publish.c: checking, publishing, activating and rolling back policies.
 */
#include "policy/policy.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "provenance/provenance.h"
#include "scoring/scoring.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

PG_FUNCTION_INFO_V1(leadroute_policy_mistakes);
PG_FUNCTION_INFO_V1(leadroute_publish_policy);
PG_FUNCTION_INFO_V1(leadroute_activate_policy);
PG_FUNCTION_INFO_V1(leadroute_rollback_policy);
PG_FUNCTION_INFO_V1(leadroute_publish_scorecard);
PG_FUNCTION_INFO_V1(leadroute_publish_jurisdictions);

static void activate(int policy_id, int version_id, int previous, const char *act, const char *reason, Oid caller);
static int	version_number(int version_id);

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

	char	   *name = lr_checked_name(PG_GETARG_DATUM(0), "policy");
	char	   *reason = text_to_cstring(PG_GETARG_TEXT_PP(2));
	LrMistakes	mistakes = {NIL};
	LrPolicy   *policy;
	LrIdentity	identity;
	Oid			caller = GetUserId();
	Oid			types[] = {TEXTOID};
	Datum		values[] = {PG_GETARG_DATUM(0)};
	Datum		pins;
	int			policy_id;
	int			version_id;
	int			version;

	policy = lr_policy_compile(lr_json_of_jsonb(PG_GETARG_DATUM(1)), NULL, false, &mistakes);
	lr_check_protected(policy, &mistakes);
	lr_mistakes_raise(&mistakes, psprintf("the document for policy \"%s\"", name));
	lr_make_owner_pools(policy);

	pins = DirectFunctionCall1(jsonb_in, CStringGetDatum(lr_policy_pins(policy)));
	lr_sql_begin(&identity);
	/* one publisher at a time: version numbers are dense */
	lr_sql("LOCK TABLE leadroute.policies IN SHARE ROW EXCLUSIVE MODE", false, 0, NULL, NULL, NULL);
	if (lr_sql("SELECT policy_id FROM leadroute.policies WHERE name = $1", true, 1, types, values, NULL) == 0)
		lr_sql("INSERT INTO leadroute.policies (name) VALUES ($1) RETURNING policy_id", false, 1, types, values, NULL);
	policy_id = lr_sql_int32(0, 1, 0);
	version_id = lr_policy_store(policy, policy_id, PG_GETARG_DATUM(1), pins, PG_GETARG_DATUM(2), &version);
	lr_sql_end(&identity);
	if (version_id > 0)
		lr_record_act("publish", policy_id, version_id, 0, 0, reason, caller);
	PG_RETURN_INT32(version);
}

/* Makes a version the active one; see the SQL comment. */
Datum
leadroute_activate_policy(PG_FUNCTION_ARGS)
{
	char	   *name;
	char	   *reason = PG_ARGISNULL(2) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(2));
	LrIdentity	identity;
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[2];
	char		nulls[] = {' ', PG_ARGISNULL(1) ? 'n' : ' '};
	int			policy_id;
	int			previous;
	int			version_id = 0;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("the policy's name is null"));
	name = lr_checked_name(PG_GETARG_DATUM(0), "policy");
	policy_id = lr_policy_by_name(name, &previous);
	values[0] = Int32GetDatum(policy_id);
	values[1] = PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1);
	lr_sql_begin(&identity);
	if (lr_sql("SELECT policy_version_id FROM leadroute.policy_versions WHERE policy_id = $1 AND ($2 IS NULL OR version = $2)"
			   " ORDER BY version DESC LIMIT 1", true, 2, types, values, nulls) > 0)
		version_id = lr_sql_int32(0, 1, 0);
	lr_sql_end(&identity);
	if (version_id == 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("policy \"%s\" has no version %d", name, DatumGetInt32(values[1])),
				errhint("See leadroute.policy_history."));
	lr_policy_check_usable(version_id, name);
	activate(policy_id, version_id, previous, "activate", reason, GetUserId());
	PG_RETURN_INT32(version_number(version_id));
}

/* Makes the version active that was so before the present one; see the SQL comment. */
Datum
leadroute_rollback_policy(PG_FUNCTION_ARGS)
{
	lr_refuse_nulls(fcinfo);

	char	   *name = lr_checked_name(PG_GETARG_DATUM(0), "policy");
	char	   *reason = text_to_cstring(PG_GETARG_TEXT_PP(1));
	LrIdentity	identity;
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[2];
	int			present;
	int			policy_id = lr_policy_by_name(name, &present);
	int			version_id = 0;

	/* the latest activation of the present version says what was before it; a rollback does not count as one */
	values[0] = Int32GetDatum(policy_id);
	values[1] = Int32GetDatum(present);
	lr_sql_begin(&identity);
	if (lr_sql("SELECT previous_version_id FROM leadroute.policy_acts WHERE policy_id = $1 AND act = 'activate' AND policy_version_id = $2"
			   " ORDER BY policy_act_id DESC LIMIT 1", true, 2, types, values, NULL) > 0)
		version_id = lr_sql_int32(0, 1, 0);
	lr_sql_end(&identity);
	if (version_id == 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("policy \"%s\" has no version to go back to", name),
				errhint("Activate the version that you want by its number: see leadroute.policy_history."));
	lr_policy_check_usable(version_id, name);
	activate(policy_id, version_id, present, "rollback", reason, GetUserId());
	PG_RETURN_INT32(version_number(version_id));
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

/* Returns the name of a policy or document; raises 22023 if it cannot be one. */
char *
lr_checked_name(Datum name, const char *what)
{
	char	   *value = TextDatumGetCString(name);

	(void) lr_catalog();
	if (value[0] == '\0' || strlen(value) > 100 || strpbrk(value, "@\n\r\t"))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("\"%s\" cannot name a %s", value, what),
				errhint("Use 1 to 100 characters, and no \"@\"."));
	return value;
}

/* Finds a policy, and locks it: activations of one policy happen one after the other. */
int
lr_policy_by_name(const char *name, int *active_version_id)
{
	LrIdentity	identity;
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	int			policy_id;

	lr_sql_begin(&identity);
	if (lr_sql("SELECT policy_id, active_version_id FROM leadroute.policies WHERE name = $1 FOR UPDATE", false, 1, types, values, NULL) == 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("policy \"%s\" does not exist", name),
				errhint("Publish it first with leadroute.publish_policy()."));
	policy_id = lr_sql_int32(0, 1, 0);
	*active_version_id = lr_sql_int32(0, 2, 0);
	lr_sql_end(&identity);
	return policy_id;
}

static void
activate(int policy_id, int version_id, int previous, const char *act, const char *reason, Oid caller)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(policy_id), Int32GetDatum(version_id)};

	if (version_id == previous)
		return;
	lr_sql_begin(&identity);
	lr_sql("UPDATE leadroute.policies SET active_version_id = $2 WHERE policy_id = $1", false, 2, types, values, NULL);
	lr_sql_end(&identity);
	/* what a trial compares with is gone */
	lr_trial_end_with_baseline(policy_id, "another version became active", caller);
	lr_record_act(act, policy_id, version_id, 0, previous, reason, caller);
}

/* Raises 55000 if a version's agents are gone, or it reads what is protected by now. */
void
lr_policy_check_usable(int version_id, const char *name)
{
	LrPolicy   *policy = lr_policy_hold(version_id);
	LrMistakes	mistakes = {NIL};

	for (int i = 0; i < policy->nsteps; i++)
	{
		LrAgent    *agent = policy->steps[i].agent;

		if (agent->retired || agent->changed)
			ereport(ERROR,
					errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("version %d of policy \"%s\" cannot become active", policy->version, name),
					errdetail("Its step \"%s\" uses agent \"%s\" version \"%s\", which %s.", policy->steps[i].capability, agent->name,
							  agent->version, agent->retired ? "is retired" : "is no longer the function that was registered"),
					errhint("Publish a new version that uses another agent version."));
	}
	lr_check_protected(policy, &mistakes);
	if (mistakes.list != NIL)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("version %d of policy \"%s\" cannot become active", policy->version, name),
				errdetail("%s.", ((LrMistake *) linitial(mistakes.list))->problem),
				errhint("%s", ((LrMistake *) linitial(mistakes.list))->hint));
	lr_policy_release(policy);
}

static int
version_number(int version_id)
{
	LrPolicy   *policy = lr_policy_hold(version_id);
	int			version = policy->version;

	lr_policy_release(policy);
	return version;
}
