/*
 * verify.c: deciding a past run again from its record.
 *
 * Inputs come from the record: plain attributes by value, the moment, the policy version with all it pins, the members of the
 * pool as they were, the turn. Attributes of other classes come from the lead's row as it is now, where their digest is the
 * recorded one. An attribute that is gone or changed is unavailable: a step that reads it keeps its recorded output, as does
 * one whose agent read tables of its own or is not ours.
 */
#include "provenance/provenance.h"

#include "assignment/assignment.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/json.h"
#include "utils/jsonb.h"

PG_FUNCTION_INFO_V1(leadroute_recompute_decision);

typedef struct Entry
{
	int64		lead_id;
	TimestampTz as_of;
	int64		turn;			/* -1 for null */
	double		score;			/* NaN for null */
	int			source_id;
	int			policy_version_id;
	int			key_id;
	int			rule_no;		/* -1 for null */
	int			pool_id;
	int			pool_revision_id;
	int			owner_id;
	char	   *outcome;
	char	   *reason_code;
	bytea	   *evidence;
	char	   *environment;	/* JSON */
} Entry;

static Entry *load_entry(int64 run_id);
static void restore_attributes(LrRun *run, const Entry *entry, const LrEvidence *evidence, Bitmapset **unavailable);
static bool read_current(LrRun *run, const Entry *entry, bool *isnull, Datum *values);
static void repeat_steps(LrRun *run, const LrEvidence *evidence, Bitmapset **unavailable, const Entry *entry);
static bool stopped_behind(const LrPolicy *policy, const LrEvidence *evidence, const LrStep *step, const Entry *entry);
static void restore_step(LrRun *run, const LrStep *step, const LrEvidenceStep *recorded);
static void keep_recorded_target(LrRun *run, const Entry *entry);
static void repeat_assignment(LrRun *run, const Entry *entry);
static void append_decision(StringInfo json, const char *outcome, const char *reason, double score, int rule_no, int pool_id, int64 turn,
							int owner_id, const LrPolicy *policy);
static Datum json_datum(StringInfo json);

/* Decides a past run again; see the SQL comment. */
Datum
leadroute_recompute_decision(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Entry	   *entry;
	LrPolicy   *policy;
	LrEvidence *evidence;
	LrBatch		batch;
	LrRun	   *run;
	Bitmapset  *unavailable = NULL;
	StringInfoData recorded;
	StringInfoData recomputed;
	StringInfoData environment;
	Datum		values[4];
	bool		nulls[4] = {false};
	Datum		names[LR_N_ATTRIBUTES];
	int			nnames = 0;
	int			attribute = -1;
	LrEvidence *again;

	InitMaterializedSRF(fcinfo, 0);
	entry = load_entry(PG_GETARG_INT64(0));
	policy = lr_policy_hold(entry->policy_version_id);
	evidence = lr_evidence_read(VARDATA_ANY(entry->evidence), VARSIZE_ANY_EXHDR(entry->evidence), policy);

	lr_batch_init(&batch, policy, NULL, entry->as_of, 'm', InvalidOid);
	batch.verifying = true;
	run = lr_batch_add(&batch);
	run->lead_id = entry->lead_id;
	restore_attributes(run, entry, evidence, &unavailable);
	run->attributes_length = (int) (VARDATA_ANY(entry->evidence) + evidence->attributes_length - evidence->stable);
	appendBinaryStringInfo(&batch.attributes, evidence->stable, run->attributes_length);
	lr_evidence_restore_flags(evidence, run);
	lr_evidence_flags(run);
	repeat_steps(run, evidence, &unavailable, entry);
	lr_evidence_finish(run);
	again = lr_evidence_read(VARDATA(lr_run_evidence(run)), VARSIZE(lr_run_evidence(run)) - VARHDRSZ, policy);

	initStringInfo(&recorded);
	append_decision(&recorded, entry->outcome, entry->reason_code, entry->score, entry->rule_no, entry->pool_id, entry->turn, entry->owner_id, policy);
	lr_evidence_to_json(evidence, policy, &recorded);
	appendStringInfo(&recorded, ", \"environment\": %s}", entry->environment);
	initStringInfo(&recomputed);
	append_decision(&recomputed, lr_outcome_names[run->outcome], run->reason,
					run->isnull[LR_SCORE] ? get_float8_nan() : DatumGetInt32(run->values[LR_SCORE]), run->rule ? run->rule->number : -1, run->pool_id, run->turn,
					run->owner_id, policy);
	lr_evidence_to_json(again, policy, &recomputed);
	appendStringInfoChar(&recomputed, '}');
	initStringInfo(&environment);
	lr_environment_json(&environment);

	while ((attribute = bms_next_member(unavailable, attribute)) >= 0)
		names[nnames++] = CStringGetTextDatum(lr_facts[attribute].name);
	values[0] = json_datum(&recorded);
	values[1] = json_datum(&recomputed);
	values[2] = json_datum(&environment);
	values[3] = PointerGetDatum(construct_array(names, nnames, TEXTOID, -1, false, TYPALIGN_INT));
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	lr_policy_release(policy);
	MemoryContextDelete(batch.memory);
	return (Datum) 0;
}

static Entry *
load_entry(int64 run_id)
{
	MemoryContext memory = CurrentMemoryContext;
	MemoryContext saved;
	LrIdentity	identity;
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(run_id)};
	Entry	   *entry;
	bool		isnull;

	lr_sql_begin(&identity);
	if (lr_sql_kept(LR_PLAN_RECORDED,
					"SELECT e.lead_id, e.as_of, e.turn, e.source_id, e.policy_version_id, e.key_id, e.rule_no, e.pool_id, e.pool_revision_id,"
					" e.owner_id, e.outcome, e.reason_code, e.evidence, e.score,"
					" jsonb_build_object('engine', x.engine, 'server', x.server, 'libc', x.libc, 'collation', x.\"collation\", 'tzdata', x.tzdata,"
					" 'encoding', x.encoding)"
					" FROM leadroute.entries e LEFT JOIN leadroute.environments x USING (environment_id)"
					" WHERE e.run_id = $1 ORDER BY e.entry_no DESC LIMIT 1", 1, types, values, NULL) == 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("decision " INT64_FORMAT " does not exist", run_id),
				errhint("See the column decision_id of leadroute.decisions."));
	saved = MemoryContextSwitchTo(memory);
	entry = palloc0(sizeof(Entry));
	entry->lead_id = lr_sql_int64(0, 1, 0);
	entry->as_of = DatumGetTimestampTz(lr_sql_datum(0, 2, &isnull));
	entry->turn = lr_sql_int64(0, 3, -1);
	entry->source_id = lr_sql_int32(0, 4, 0);
	entry->policy_version_id = lr_sql_int32(0, 5, 0);
	entry->key_id = lr_sql_int32(0, 6, 0);
	entry->rule_no = lr_sql_int32(0, 7, -1);
	entry->pool_id = lr_sql_int32(0, 8, 0);
	entry->pool_revision_id = lr_sql_int32(0, 9, 0);
	entry->owner_id = lr_sql_int32(0, 10, 0);
	entry->outcome = pstrdup(lr_sql_text(0, 11));
	entry->reason_code = pstrdup(lr_sql_text(0, 12));
	entry->evidence = DatumGetByteaPCopy(lr_sql_datum(0, 13, &isnull));
	entry->score = DatumGetFloat8(lr_sql_datum(0, 14, &isnull));
	if (isnull)
		entry->score = get_float8_nan();
	entry->environment = pstrdup(lr_sql_text(0, 15));
	MemoryContextSwitchTo(saved);
	lr_sql_end(&identity);
	return entry;
}

/* Gives a run the attributes that the recorded one had; notes those that are not to be had any more. */
static void
restore_attributes(LrRun *run, const Entry *entry, const LrEvidence *evidence, Bitmapset **unavailable)
{
	Datum		current[LR_N_ATTRIBUTES];
	bool		current_isnull[LR_N_ATTRIBUTES];
	bool		needed = false;

	run->unreadable = evidence->unreadable;
	for (int i = 0; i < LR_N_ATTRIBUTES; i++)
	{
		const LrEvidenceAttribute *attribute = &evidence->attributes[i];

		if (attribute->known && attribute->class == LR_CLASS_PLAIN)
			lr_run_set(run, i, attribute->value);
		needed |= attribute->known && attribute->class != LR_CLASS_PLAIN;
	}
	if (!needed)
		return;
	if (!read_current(run, entry, current_isnull, current))
		memset(current_isnull, true, sizeof(current_isnull));
	for (int i = 0; i < LR_N_ATTRIBUTES; i++)
	{
		const LrEvidenceAttribute *attribute = &evidence->attributes[i];
		unsigned char digest[LR_DIGEST_LENGTH];

		if (!attribute->known || attribute->class == LR_CLASS_PLAIN)
			continue;
		if (!current_isnull[i])
		{
			lr_fact_digest(entry->key_id, i, current[i], digest);
			if (memcmp(digest, attribute->digest, sizeof(digest)) == 0)
			{
				lr_run_set(run, i, current[i]);
				continue;
			}
		}
		*unavailable = bms_add_member(*unavailable, i);
	}
}

/* Reads the lead's row as it is now; false if it is gone. */
static bool
read_current(LrRun *run, const Entry *entry, bool *isnull, Datum *values)
{
	LrSource   *source = lr_source_by_id(entry->source_id);
	TupleTableSlot *slot;
	bool		found;
	LrRun		reading = *run;
	MemoryContext saved = MemoryContextSwitchTo(run->batch->memory);

	if (source == NULL)
	{
		MemoryContextSwitchTo(saved);
		return false;
	}
	slot = MakeSingleTupleTableSlot(source->desc, &TTSOpsHeapTuple);
	found = lr_lead_fetch(source, entry->lead_id, false, slot);
	if (found)
	{
		reading.values = values;
		reading.isnull = isnull;
		lr_lead_read(source, slot, &reading);
	}
	/* values point into the slot's tuple, which goes with the batch's memory */
	MemoryContextSwitchTo(saved);
	return found;
}

/* Repeats the steps that can be repeated, and restores the others; then the assignment. */
static void
repeat_steps(LrRun *run, const LrEvidence *evidence, Bitmapset **unavailable, const Entry *entry)
{
	LrPolicy   *policy = run->batch->policy;
	int			nest = policy->timezone_matters ? lr_settings_enter(policy->scope->timezone) : -1;

	if (run->unreadable >= 0)
	{
		run->ended = true;
		run->outcome = LR_QUARANTINED;
		run->reason = "unreadable_attribute";
	}
	for (int i = 0; i < policy->nsteps && !run->ended; i++)
	{
		LrStep	   *step = &policy->steps[i];
		const LrEvidenceStep *recorded = &evidence->steps[i];
		Bitmapset  *reads = step->builtin == &lr_assign_owner ? policy->rule_reads : step->reads;
		bool		repeatable;

		/* what was filled in counts as gone where somebody reads it */
		*unavailable = bms_add_members(*unavailable, bms_intersect(reads, run->missing));
		repeatable = step->builtin && step->builtin->recomputable && !bms_overlap(reads, *unavailable);
		if (!repeatable && recorded->status == LR_STEP_FAILED)
			lr_run_fail(run, step, MAKE_SQLSTATE(recorded->sqlstate[0], recorded->sqlstate[1], recorded->sqlstate[2], recorded->sqlstate[3],
												 recorded->sqlstate[4]), recorded->place[0] ? recorded->place : NULL);
		else if (!repeatable && recorded->status == LR_STEP_DONE)
		{
			restore_step(run, step, recorded);
			if (step->builtin == &lr_assign_owner)
				keep_recorded_target(run, entry);
			else if (!bms_overlap(step->stop_reads, *unavailable))
				lr_run_apply_stops(step, run);
			else if (stopped_behind(policy, evidence, step, entry))
				keep_recorded_target(run, entry);
		}
		else if (repeatable)
		{
			lr_step_run(step, run);
			lr_run_apply_stops(step, run);
		}
		ResetExprContext(policy->evaluator->context);
	}
	if (!run->ended)
	{
		run->outcome = LR_NO_RULE;
		run->reason = "no_step_assigns";
	}
	if (run->outcome == LR_ASSIGNED)
		repeat_assignment(run, entry);
	lr_settings_leave(nest);
}

/* Tells from the record whether a run ended with a step by a stop condition: nothing behind it ran, and no rule decided. */
static bool
stopped_behind(const LrPolicy *policy, const LrEvidence *evidence, const LrStep *step, const Entry *entry)
{
	for (int i = step->number + 1; i < policy->nsteps; i++)
	{
		if (evidence->steps[i].status != LR_STEP_SKIPPED)
			return false;
	}
	return entry->rule_no < 0 && strcmp(entry->reason_code, "no_step_assigns") != 0;
}

static void
restore_step(LrRun *run, const LrStep *step, const LrEvidenceStep *recorded)
{
	run->steps[step->number].status = LR_STEP_DONE;
	for (int i = 0; i < step->nfacts; i++)
	{
		if (recorded->known & (1u << i))
			lr_run_set(run, step->first_fact + i, recorded->values[i]);
	}
	if (step->builtin && step->builtin->restore)
		step->builtin->restore(step, run, recorded->detail, recorded->detail_length);
}

/* What was decided on an attribute that is gone stands as it is recorded. */
static void
keep_recorded_target(LrRun *run, const Entry *entry)
{
	LrPolicy   *policy = run->batch->policy;

	run->ended = true;
	(void) lr_outcome_by_name(entry->outcome, &run->outcome);
	run->reason = entry->reason_code;
	run->pool_id = entry->pool_id;
	run->rule = lr_policy_rule_numbered(policy, entry->rule_no);
}

/* Gives the lead to whoever had the recorded turn among the recorded members. */
static void
repeat_assignment(LrRun *run, const Entry *entry)
{
	LrPool	   *pool = entry->pool_revision_id ? lr_pool_of_revision(entry->pool_revision_id) : NULL;

	run->turn = entry->turn;
	if (pool == NULL || pool->pool_id != run->pool_id)
		return;
	if (pool->cycle == 0)
	{
		run->outcome = LR_NO_RULE;
		run->reason = "no_available_member";
		run->turn = -1;
	}
	else if (run->turn >= 0)
		run->owner_id = pool->owner_ids[lr_pool_owner_of_turn(pool, run->turn)];
}

static void
append_decision(StringInfo json, const char *outcome, const char *reason, double score, int rule_no, int pool_id, int64 turn,
				int owner_id, const LrPolicy *policy)
{
	appendStringInfo(json, "{\"policy\": {\"name\": ");
	escape_json(json, policy->name);
	appendStringInfo(json, ", \"version\": %d, \"hash\": \"%s\"}, \"outcome\": \"%s\", \"reason\": ", policy->version, policy->hash, outcome);
	escape_json(json, reason);
	if (!isnan(score))
		appendStringInfo(json, ", \"score\": %g", score);
	if (rule_no >= 0)
		appendStringInfo(json, ", \"rule_no\": %d", rule_no);
	if (pool_id)
		appendStringInfo(json, ", \"pool_id\": %d", pool_id);
	if (turn >= 0)
		appendStringInfo(json, ", \"turn\": " INT64_FORMAT, turn);
	if (owner_id)
		appendStringInfo(json, ", \"owner_id\": %d", owner_id);
	appendStringInfoString(json, ", ");
}

static Datum
json_datum(StringInfo json)
{
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json->data));
}
