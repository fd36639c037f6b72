/*
 * evaluate.c: deciding about leads that are given, without writing anything.
 *
 * An evaluation is a batch as any other: it goes through the steps of a published version, or of a document that nobody has
 * published, with look-ups and SQL agents. What differs is where its leads come from, an object of facts by name each, and
 * that it ends before turns are drawn: it shows the pool, and an owner only where the rule names one. A step whose
 * outputs are given does not run; what is given stands. SQL agents run in a transaction that is read-only for them.
 */
#include "policy/evaluation.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "provenance/provenance.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"

PG_FUNCTION_INFO_V1(leadroute_evaluate);

/* What the caller gave for one lead. */
typedef struct Given
{
	Bitmapset  *steps;			/* numbers of those whose outputs are given */
	Datum	   *values;
	bool	   *isnull;
} Given;

/* Columns of the result. */
enum
{
	LEAD_NO, OUTCOME, REASON_CODE, RULE_NO, RULE, POOL, OWNER, SCORE, TIER, STEPS, ERRORS, HITS, N_COLUMNS
};

static bool give(LrStep *step, LrRun *run);
static void put_row(ReturnSetInfo *result, const LrCandidate *candidate, const LrRun *run, int lead_no);
static void put_target(const LrCandidate *candidate, int number, Datum *values, bool *nulls);
static Datum steps_of(const LrRun *run);
static Datum errors_of(const LrCandidate *candidate, const LrRun *run);
static Datum hits_of(const LrCandidate *candidate, const LrRun *run);

/* Decides about leads that are given; see the SQL comment. */
Datum
leadroute_evaluate(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	LrCandidate candidate;
	LrBatch		batch;
	Datum	   *leads;
	bool	   *missing;
	int			n;

	if (PG_ARGISNULL(2) || PG_ARGISNULL(3))
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("leads and the choice of the index must not be null"));
	InitMaterializedSRF(fcinfo, 0);
	lr_candidate_open(&candidate, fcinfo, 0, 1);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), JSONBOID, -1, false, TYPALIGN_INT, &leads, &missing, &n);
	lr_evaluation_begin(&batch, candidate.policy, PG_GETARG_BOOL(3));
	for (int first = 0; first < n; first += lr_batch_size)
	{
		int			end = Min(first + lr_batch_size, n);
		MemoryContext saved = MemoryContextSwitchTo(batch.memory);

		CHECK_FOR_INTERRUPTS();
		for (int i = first; i < end; i++)
			(void) lr_evaluation_add(&batch, missing[i] ? NULL : lr_json_of_jsonb(leads[i]));
		lr_batch_run(&batch);
		for (int i = first; i < end; i++)
			put_row(result, &candidate, &batch.runs[i - first], i + 1);
		MemoryContextSwitchTo(saved);
		lr_batch_clear(&batch);
	}
	MemoryContextDelete(batch.memory);
	lr_candidate_close(&candidate);
	return (Datum) 0;
}

/*
 * Opens what is to decide: the version whose id, or the document that, is an argument of a function; one of them is null. Raises
 * 22023 with all mistakes of a document, 22004 if both are null.
 */
void
lr_candidate_open(LrCandidate *candidate, FunctionCallInfo fcinfo, int version_argument, int document_argument)
{
	LrMistakes	mistakes = {NIL};

	memset(candidate, 0, sizeof(*candidate));
	if (PG_ARGISNULL(version_argument) && PG_ARGISNULL(document_argument))
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("there is neither a version nor a document to decide under"),
				errhint("Give a document such as leadroute.policy_document() returns."));
	if (PG_ARGISNULL(document_argument))
	{
		candidate->policy = lr_policy_hold(PG_GETARG_INT32(version_argument));
		return;
	}
	candidate->document = lr_json_of_jsonb(PG_GETARG_DATUM(document_argument));
	candidate->policy = lr_policy_compile(candidate->document, NULL, false, &mistakes);
	lr_check_protected(candidate->policy, &mistakes);
	lr_mistakes_raise(&mistakes, "the document");
	lr_policy_index(candidate->policy);
}

/* Ends what lr_candidate_open() began. */
void
lr_candidate_close(LrCandidate *candidate)
{
	if (candidate->document == NULL)
		lr_policy_release(candidate->policy);
}

/* Returns a rule by its place in the document. */
json_t *
lr_candidate_rule(const LrCandidate *candidate, int number)
{
	return candidate->document ? json_array_get(json_object_get(candidate->document, "rules"), number)
		: lr_rule_json(candidate->policy, number);
}

/* Returns the source of leads that no table holds: the caller brings them, so nothing about them is hidden. */
LrSource *
lr_source_of_given(void)
{
	static LrSource source;

	for (int i = 0; i < LR_N_ATTRIBUTES; i++)
		source.classes[i] = LR_CLASS_PLAIN;
	return &source;
}

/* Begins an evaluation, in the current memory context: a batch that decides, and then goes away. */
void
lr_evaluation_begin(LrBatch *batch, LrPolicy *policy, bool indexed)
{
	lr_batch_init(batch, policy, lr_source_of_given(), GetCurrentTimestamp(), 'm', GetUserId());
	batch->evaluating = true;
	batch->linear = !indexed;
	batch->instead = give;
}

/* Adds a lead to an evaluation; NULL: one that nothing is known about. */
LrRun *
lr_evaluation_add(LrBatch *batch, json_t *lead)
{
	const LrPolicy *policy = batch->policy;
	int			nfacts = policy->scope->nfacts;
	LrRun	   *run = lr_batch_add(batch);
	Given	   *given = palloc0(sizeof(Given));
	const char *name;
	json_t	   *json;
	int			nest;

	if (lead && !json_is_object(lead))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a lead has to be an object"),
				errhint("Give facts by name, such as {\"country\": \"DE\", \"score\": 70}."));
	nest = lr_settings_enter(policy->scope->timezone);
	lr_facts_read(policy->scope, lead, true, run->values, run->isnull);
	lr_settings_leave(nest);
	given->values = palloc(sizeof(Datum) * nfacts);
	given->isnull = palloc(sizeof(bool) * nfacts);
	memcpy(given->values, run->values, sizeof(Datum) * nfacts);
	memcpy(given->isnull, run->isnull, sizeof(bool) * nfacts);
	/* an output that is given as null is given, too */
	json_object_foreach(lead, name, json)
	{
		int			fact = lr_fact_find(policy->scope, name);

		for (int s = 0; s < policy->nsteps; s++)
		{
			const LrStep *step = &policy->steps[s];

			if (fact < step->first_fact || fact >= step->first_fact + step->nfacts)
				continue;
			if (step->builtin == NULL && !json_is_object(json))
				ereport(ERROR,
						errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"%s\" has to be an object", name),
						errhint("Give what the agent would: {\"%s\": {…}}.", name));
			given->steps = bms_add_member(given->steps, s);
		}
	}
	run->evaluation = given;
	return run;
}

/* Gives the outputs that the caller gave, in place of running the step. */
static bool
give(LrStep *step, LrRun *run)
{
	const Given *given = run->evaluation;

	if (!bms_is_member(step->number, given->steps))
		return false;
	/* beside its outputs it leaves the address, read, for the steps behind */
	if (step->builtin == &lr_validate_contact)
		step->builtin->run(step, run);
	run->steps[step->number].status = LR_STEP_DONE;
	for (int fact = step->first_fact; fact < step->first_fact + step->nfacts; fact++)
	{
		run->values[fact] = given->values[fact];
		run->isnull[fact] = given->isnull[fact];
	}
	return true;
}

/* ---- results ---- */

static void
put_row(ReturnSetInfo *result, const LrCandidate *candidate, const LrRun *run, int lead_no)
{
	Datum		values[N_COLUMNS];
	bool		nulls[N_COLUMNS] = {false};

	values[LEAD_NO] = Int32GetDatum(lead_no);
	values[OUTCOME] = ObjectIdGetDatum(lr_catalog()->outcomes[run->outcome]);
	values[REASON_CODE] = CStringGetTextDatum(run->reason);
	nulls[RULE_NO] = nulls[RULE] = nulls[POOL] = nulls[OWNER] = true;
	if (run->rule)
		put_target(candidate, run->rule->number, values, nulls);
	nulls[SCORE] = run->isnull[LR_SCORE];
	values[SCORE] = nulls[SCORE] ? (Datum) 0 : Float8GetDatum(DatumGetInt32(run->values[LR_SCORE]));
	nulls[TIER] = run->isnull[LR_TIER];
	values[TIER] = run->values[LR_TIER];
	values[STEPS] = steps_of(run);
	values[ERRORS] = errors_of(candidate, run);
	values[HITS] = hits_of(candidate, run);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Names the rule that decided, and where it leads to, in the words of the document. */
static void
put_target(const LrCandidate *candidate, int number, Datum *values, bool *nulls)
{
	json_t	   *rule = lr_candidate_rule(candidate, number);
	const char *owner = json_string_value(json_object_get(rule, "owner"));
	const char *pool = owner ? lr_owner_pool_name(owner) : json_string_value(json_object_get(rule, "pool"));

	values[RULE_NO] = Int32GetDatum(number);
	values[RULE] = CStringGetTextDatum(json_string_value(json_object_get(rule, "name")));
	values[POOL] = pool ? CStringGetTextDatum(pool) : (Datum) 0;
	values[OWNER] = owner ? CStringGetTextDatum(owner) : (Datum) 0;
	nulls[RULE_NO] = nulls[RULE] = false;
	nulls[POOL] = pool == NULL;
	nulls[OWNER] = owner == NULL;
}

static Datum
steps_of(const LrRun *run)
{
	const LrPolicy *policy = run->batch->policy;
	bytea	   *bytes = lr_run_evidence(run);
	LrEvidence *evidence = lr_evidence_read(VARDATA(bytes), VARSIZE(bytes) - VARHDRSZ, policy);
	StringInfoData json;

	initStringInfo(&json);
	lr_steps_to_json(evidence, policy, &json);
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

static Datum
errors_of(const LrCandidate *candidate, const LrRun *run)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '[');
	for (int i = 0; i < run->nerrors; i++)
	{
		const LrRuleError *error = &run->errors[i];

		appendStringInfoString(&json, i ? ", {\"rule\": " : "{\"rule\": ");
		escape_json(&json, json_string_value(json_object_get(lr_candidate_rule(candidate, error->rule), "name")));
		appendStringInfo(&json, ", \"sqlstate\": \"%s\", \"conjunct\": %d}", unpack_sql_state(error->error.sqlstate), error->error.conjunct);
	}
	appendStringInfoChar(&json, ']');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

static Datum
hits_of(const LrCandidate *candidate, const LrRun *run)
{
	Datum	   *names = palloc(sizeof(Datum) * Max(run->nhits, 1));

	for (int i = 0; i < run->nhits; i++)
		names[i] = CStringGetTextDatum(json_string_value(json_object_get(lr_candidate_rule(candidate, run->hits[i]), "name")));
	return PointerGetDatum(construct_array(names, run->nhits, TEXTOID, -1, false, TYPALIGN_INT));
}
