/*
 * unfold.c: evidence as people and tools read it: JSON, and a row a step.
 */
#include "provenance/provenance.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"

PG_FUNCTION_INFO_V1(leadroute_entry_evidence);
PG_FUNCTION_INFO_V1(leadroute_entry_steps);
PG_FUNCTION_INFO_V1(leadroute_entry_tier);

static const char *const status_names[] = {"skipped", "done", "failed", "waiting", "blocked"};

static void append_attributes(const LrEvidence *evidence, StringInfo json);
static void append_flags(const LrEvidence *evidence, const LrPolicy *policy, StringInfo json);
static void append_attribute(const LrEvidenceAttribute *attribute, int number, StringInfo json);
static void append_output(const LrEvidenceStep *recorded, const LrStep *step, StringInfo json);
static char *input_digest(const LrEvidence *evidence, const LrPolicy *policy, int number);
static float confidence_of(const LrEvidenceStep *recorded, const LrStep *step);
static const char *model_of(const LrStep *step);

/* Unfolds the evidence of an entry; see the SQL comment. */
Datum
leadroute_entry_evidence(PG_FUNCTION_ARGS)
{
	bytea	   *bytes = PG_GETARG_BYTEA_PP(0);
	LrPolicy   *policy = lr_policy_hold_to_read(PG_GETARG_INT32(1));
	LrEvidence *evidence = lr_evidence_read(VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes), policy);
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	lr_evidence_to_json(evidence, policy, &json);
	appendStringInfoChar(&json, '}');
	lr_policy_release(policy);
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
}

/* Unfolds the steps of an entry, a row each; see the SQL comment. */
Datum
leadroute_entry_steps(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bytea	   *bytes = PG_GETARG_BYTEA_PP(0);
	LrPolicy   *policy = lr_policy_hold_to_read(PG_GETARG_INT32(1));
	LrEvidence *evidence = lr_evidence_read(VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes), policy);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < evidence->nsteps; i++)
	{
		const LrStep *step = &policy->steps[i];
		const LrEvidenceStep *recorded = &evidence->steps[i];
		bool		done = recorded->status == LR_STEP_DONE;
		bool		failed = recorded->status == LR_STEP_FAILED;
		const char *model = model_of(step);
		Datum		values[13];
		bool		nulls[13] = {false};
		StringInfoData json;

		initStringInfo(&json);
		if (done)
			append_output(recorded, step, &json);
		values[0] = Int32GetDatum(i + 1);
		values[1] = CStringGetTextDatum(step->capability);
		values[2] = CStringGetTextDatum(step->agent->name);
		values[3] = CStringGetTextDatum(step->agent->version);
		values[4] = model ? CStringGetTextDatum(model) : (Datum) 0;
		nulls[4] = model == NULL;
		values[5] = CStringGetTextDatum(status_names[recorded->status]);
		values[6] = failed ? CStringGetTextDatum(recorded->sqlstate) : (Datum) 0;
		nulls[6] = !failed;
		values[7] = failed && recorded->place[0] ? CStringGetTextDatum(recorded->place) : (Datum) 0;
		nulls[7] = !failed || !recorded->place[0];
		values[8] = CStringGetTextDatum(input_digest(evidence, policy, i));
		values[9] = done ? DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)) : (Datum) 0;
		nulls[9] = !done;
		values[10] = Float4GetDatum(confidence_of(recorded, step));
		nulls[10] = !done;
		values[11] = Float4GetDatum(recorded->duration);
		nulls[8] = nulls[11] = recorded->status == LR_STEP_SKIPPED;
		nulls[12] = step->builtin != NULL || recorded->detail_length == 0;
		values[12] = nulls[12] ? (Datum) 0 : DirectFunctionCall1(jsonb_in, CStringGetDatum(pnstrdup(recorded->detail, recorded->detail_length)));
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	lr_policy_release(policy);
	return (Datum) 0;
}

/* Finds the tier of an entry; see the SQL comment. */
Datum
leadroute_entry_tier(PG_FUNCTION_ARGS)
{
	bytea	   *bytes = PG_GETARG_BYTEA_PP(0);
	LrPolicy   *policy = lr_policy_hold_to_read(PG_GETARG_INT32(1));
	LrEvidence *evidence = lr_evidence_read(VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes), policy);
	Datum		tier = (Datum) 0;

	for (int i = 0; i < evidence->nsteps; i++)
	{
		int			output = LR_TIER - policy->steps[i].first_fact;

		if (policy->steps[i].builtin == &lr_compute_score && evidence->steps[i].status == LR_STEP_DONE && (evidence->steps[i].known & (1u << output)))
			tier = evidence->steps[i].values[output];
	}
	lr_policy_release(policy);
	if (tier == (Datum) 0)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(tier);
}

/* Appends the members attributes, unreadable, flags and steps. */
void
lr_evidence_to_json(const LrEvidence *evidence, const LrPolicy *policy, StringInfo json)
{
	append_attributes(evidence, json);
	if (evidence->unreadable >= 0)
		appendStringInfo(json, ", \"unreadable\": {\"attribute\": \"%s\", \"sqlstate\": \"%s\"}", lr_facts[evidence->unreadable].name,
						 evidence->unreadable_sqlstate);
	append_flags(evidence, policy, json);
	appendStringInfoString(json, ", \"steps\": ");
	lr_steps_to_json(evidence, policy, json);
}

/* Appends the steps, as an array. */
void
lr_steps_to_json(const LrEvidence *evidence, const LrPolicy *policy, StringInfo json)
{
	appendStringInfoChar(json, '[');
	for (int i = 0; i < evidence->nsteps; i++)
	{
		const LrStep *step = &policy->steps[i];
		const LrEvidenceStep *recorded = &evidence->steps[i];

		appendStringInfo(json, "%s{\"capability\": ", i ? ", " : "");
		escape_json(json, step->capability);
		appendStringInfoString(json, ", \"agent\": ");
		escape_json(json, psprintf("%s@%s", step->agent->name, step->agent->version));
		if (model_of(step))
		{
			appendStringInfoString(json, ", \"model\": ");
			escape_json(json, model_of(step));
		}
		appendStringInfo(json, ", \"status\": \"%s\"", status_names[recorded->status]);
		if (recorded->status == LR_STEP_DONE)
		{
			appendStringInfo(json, ", \"confidence\": %g, \"output\": ", confidence_of(recorded, step));
			append_output(recorded, step, json);
		}
		if (recorded->status == LR_STEP_FAILED)
		{
			appendStringInfo(json, ", \"sqlstate\": \"%s\", \"place\": ", recorded->sqlstate);
			escape_json(json, recorded->place);
		}
		appendStringInfoChar(json, '}');
	}
	appendStringInfoChar(json, ']');
}

static void
append_attributes(const LrEvidence *evidence, StringInfo json)
{
	bool		first = true;

	appendStringInfoString(json, "\"attributes\": {");
	for (int i = 0; i < LR_N_ATTRIBUTES; i++)
	{
		if (!evidence->attributes[i].known)
			continue;
		appendStringInfo(json, "%s\"%s\": ", first ? "" : ", ", lr_facts[i].name);
		append_attribute(&evidence->attributes[i], i, json);
		first = false;
	}
	for (int i = 0; i < evidence->nmembers; i++)
	{
		appendStringInfoString(json, first ? "" : ", ");
		escape_json(json, psprintf("attributes.%s", evidence->members[i].name));
		appendStringInfo(json, ": %s", evidence->members[i].json);
		first = false;
	}
	appendStringInfoChar(json, '}');
}

/* Those that the policy version reads, if it reads any. */
static void
append_flags(const LrEvidence *evidence, const LrPolicy *policy, StringInfo json)
{
	for (int i = 0; i < evidence->nflags; i++)
	{
		appendStringInfoString(json, i ? ", " : ", \"flags\": {");
		escape_json(json, policy->flags[i].name);
		appendStringInfo(json, ": %s", evidence->flags[i] ? "true" : "false");
	}
	if (evidence->nflags > 0)
		appendStringInfoChar(json, '}');
}

static void
append_attribute(const LrEvidenceAttribute *attribute, int number, StringInfo json)
{
	if (attribute->class == LR_CLASS_PLAIN)
	{
		lr_fact_to_json(json, number, attribute->value);
		return;
	}
	appendStringInfoString(json, "{\"digest\": \"");
	for (int i = 0; i < LR_DIGEST_LENGTH; i++)
		appendStringInfo(json, "%02x", attribute->digest[i]);
	appendStringInfo(json, "\", \"class\": \"%s\"}", lr_class_names[attribute->class]);
}

static void
append_output(const LrEvidenceStep *recorded, const LrStep *step, StringInfo json)
{
	bool		first = true;

	if (step->builtin == NULL)
	{
		lr_fact_to_json(json, step->first_fact, recorded->values[0]);
		return;
	}
	/* "status" comes first in what agents append, hence the member that is always there */
	appendStringInfoChar(json, '{');
	for (int i = 0; i < step->nfacts; i++)
	{
		if (!(recorded->known & (1u << i)))
			continue;
		appendStringInfo(json, "%s\"%s\": ", first ? "" : ", ", lr_facts[step->first_fact + i].name);
		lr_fact_to_json(json, step->first_fact + i, recorded->values[i]);
		first = false;
	}
	if (step->builtin->unfold && recorded->detail_length > 0)
	{
		StringInfoData more;

		initStringInfo(&more);
		step->builtin->unfold(step, recorded->detail, recorded->detail_length, &more);
		/* what agents append begins with a comma */
		appendStringInfoString(json, first ? more.data + 1 : more.data);
	}
	appendStringInfoChar(json, '}');
}

/* SHA-256 over what the record holds of a step's inputs: attributes, and outputs of the steps before it. */
static char *
input_digest(const LrEvidence *evidence, const LrPolicy *policy, int number)
{
	const LrStep *step = &policy->steps[number];
	const Bitmapset *reads = step->builtin == &lr_assign_owner ? policy->rule_reads : step->reads;
	StringInfoData inputs;

	initStringInfo(&inputs);
	for (int i = 0; i < LR_N_ATTRIBUTES; i++)
	{
		if (!bms_is_member(i, reads) || !evidence->attributes[i].known)
			continue;
		appendStringInfo(&inputs, "%s=", lr_facts[i].name);
		append_attribute(&evidence->attributes[i], i, &inputs);
		appendStringInfoChar(&inputs, '\n');
	}
	for (int i = 0; i < evidence->nflags; i++)
	{
		if (bms_is_member(policy->flags[i].fact, reads) || policy->flags[i].fact == step->flag)
			appendStringInfo(&inputs, LR_FLAG_PREFIX "%s=%s\n", policy->flags[i].name, evidence->flags[i] ? "true" : "false");
	}
	/* an enriched attribute reaches the steps behind as an output of the enrichment */
	for (int s = 0; s < number; s++)
	{
		if (evidence->steps[s].status != LR_STEP_DONE)
			continue;
		appendStringInfo(&inputs, "%s=", policy->steps[s].capability);
		append_output(&evidence->steps[s], &policy->steps[s], &inputs);
		appendStringInfoChar(&inputs, '\n');
	}
	return lr_sha256_hex(inputs.data, inputs.len);
}

/* A rule is certain, a match of accounts as good as what it goes by; another agent may say how sure it is. */
static float
confidence_of(const LrEvidenceStep *recorded, const LrStep *step)
{
	if (recorded->status != LR_STEP_DONE)
		return 1;
	if (step->builtin == &lr_match_account)
	{
		int			output = LR_ACCOUNT_CONFIDENCE - step->first_fact;

		return recorded->known & (1u << output) ? DatumGetInt32(recorded->values[output]) / 100.0 : 1;
	}
	return step->builtin ? 1 : lr_step_confidence(step, recorded->values[0]);
}

static const char *
model_of(const LrStep *step)
{
	return step->document ? psprintf("%s@%d", step->document->name, step->document->version) : NULL;
}
