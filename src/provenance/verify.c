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

static void repeat_steps(LrRun *run, const LrEvidence *evidence, Bitmapset **unavailable, const LrEntry *entry);
static bool stopped_behind(const LrPolicy *policy, const LrEvidence *evidence, const LrStep *step, const LrEntry *entry);
static void keep_recorded_target(LrRun *run, const LrEntry *entry);
static void keep_recorded_owner(LrRun *run, const LrEntry *entry);
static void repeat_assignment(LrRun *run, const LrEntry *entry);
static int	owner_on_record(int64 lead_id, const LrEntry *entry);
static void keep_decision_of_person(LrRun *run, const LrEntry *entry);
static void append_decision(StringInfo json, const char *outcome, const char *reason, double score, int rule_no, int pool_id, int64 turn,
							int owner_id, const LrPolicy *policy);
static Datum json_datum(StringInfo json);

/* Decides a past run again; see the SQL comment. */
Datum
leadroute_recompute_decision(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	LrEntry    *entry;
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
	entry = lr_entry_load(PG_GETARG_INT64(0));
	/* what a person decided rests on no step */
	policy = entry->by_person ? lr_policy_hold_to_read(entry->policy_version_id) : lr_policy_hold(entry->policy_version_id);
	evidence = lr_evidence_read(VARDATA_ANY(entry->evidence), VARSIZE_ANY_EXHDR(entry->evidence), policy);

	lr_batch_init(&batch, policy, NULL, entry->as_of, 'm', InvalidOid);
	batch.verifying = true;
	run = lr_batch_add(&batch);
	run->lead_id = entry->lead_id;
	lr_restore_entry(run, entry, evidence, &unavailable);
	run->attributes_length = (int) (VARDATA_ANY(entry->evidence) + evidence->attributes_length - evidence->stable);
	appendBinaryStringInfo(&batch.attributes, evidence->stable, run->attributes_length);
	lr_evidence_restore_flags(evidence, run);
	lr_evidence_flags(run);
	if (entry->by_person)
		keep_decision_of_person(run, entry);
	else
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

/* Repeats the steps that can be repeated, and restores the others; then the assignment. */
static void
repeat_steps(LrRun *run, const LrEvidence *evidence, Bitmapset **unavailable, const LrEntry *entry)
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
		repeatable = step->builtin && step->builtin->recomputable && !bms_overlap(reads, *unavailable) && !LR_STEP_IS_OPEN(recorded->status);
		if (step->builtin == &lr_assign_owner && recorded->status == LR_STEP_DONE)
			lr_preference_restore(run, recorded->detail, recorded->detail_length);
		if (!repeatable && recorded->status != LR_STEP_SKIPPED)
			lr_restore_step(run, step, recorded);
		if (!repeatable && recorded->status == LR_STEP_DONE)
		{
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
	lr_run_finish(run);
	if (entry->cause == 'g')
		keep_recorded_owner(run, entry);
	else if (run->outcome == LR_ASSIGNED)
		repeat_assignment(run, entry);
	lr_settings_leave(nest);
}

/* Tells from the record whether a run ended with a step by a stop condition: nothing behind it ran, and no rule decided. */
static bool
stopped_behind(const LrPolicy *policy, const LrEvidence *evidence, const LrStep *step, const LrEntry *entry)
{
	for (int i = step->number + 1; i < policy->nsteps; i++)
	{
		if (evidence->steps[i].status != LR_STEP_SKIPPED)
			return false;
	}
	return entry->rule_no < 0 && strcmp(entry->reason_code, "no_step_assigns") != 0;
}

/* What was decided on an attribute that is gone stands as it is recorded. */
static void
keep_recorded_target(LrRun *run, const LrEntry *entry)
{
	LrPolicy   *policy = run->batch->policy;

	run->ended = true;
	(void) lr_outcome_by_name(entry->outcome, &run->outcome);
	run->reason = entry->reason_code;
	run->pool_id = entry->pool_id;
	/* a version held to read, for what a person decided, has no rules to be looked up */
	run->rule = entry->rule_no >= 0 ? lr_policy_rule_numbered(policy, entry->rule_no) : NULL;
}

/* What was not decided by the policy stands as it is recorded; its steps are those of the decision before. */
static void
keep_recorded_owner(LrRun *run, const LrEntry *entry)
{
	keep_recorded_target(run, entry);
	run->owner_id = entry->owner_id;
	run->turn = entry->turn;
}

/* Gives the lead to whoever the strategy chooses, of the recorded members, on what was read of them then. */
static void
repeat_assignment(LrRun *run, const LrEntry *entry)
{
	LrPool	   *pool = entry->pool_revision_id ? lr_pool_of_revision(entry->pool_revision_id) : NULL;
	LrChoice	choice = {0};
	const LrPreference *preferred;
	int			place;

	run->turn = entry->turn;
	if (pool == NULL || pool->pool_id != run->pool_id)
		return;
	if (entry->choice)
		lr_choice_read(VARDATA_ANY(entry->choice), VARSIZE_ANY_EXHDR(entry->choice), &choice);
	preferred = lr_choice_preferred(&choice);
	if (preferred)
	{
		if (strcmp(preferred->reason, LR_KNOWN_PERSON) == 0)
			run->owner_id = run->preferred_lead_id != 0 ? owner_on_record(run->preferred_lead_id, entry) : 0;
		for (int i = 0; i < run->naccount_preferred && strcmp(preferred->reason, LR_ACCOUNT_OWNER) == 0; i++)
		{
			if (run->account_preferred[i] == preferred->owner_id)
				run->owner_id = preferred->owner_id;
		}
		return;
	}
	place = lr_choose_again(run, pool, &choice);
	if (place >= 0)
	{
		run->owner_id = pool->members[place].owner_id;
		return;
	}
	/* who might have been there at another moment is not on record, only that nobody was */
	(void) lr_outcome_by_name(entry->outcome, &run->outcome);
	run->reason = entry->reason_code;
	run->turn = -1;
}

/*
 * Returns who had an earlier lead when a decision followed it: the recorded owner, if the lead was ever given to that one; otherwise
 * to whom it was given last. Where the record of the lead is gone, the recorded owner stands.
 */
static int
owner_on_record(int64 lead_id, const LrEntry *entry)
{
	LrIdentity	identity;
	Oid			types[] = {INT8OID, INT4OID};
	Datum		values[] = {Int64GetDatum(lead_id), Int32GetDatum(entry->owner_id)};
	int			owner_id = entry->owner_id;

	lr_sql_begin(&identity);
	/* moments do not tell what was read: a long statement sees what others decided after it began */
	if (lr_sql_kept(LR_PLAN_OWNER_ON_RECORD,
					"SELECT owner_id FROM leadroute.entries WHERE lead_id = $1 AND owner_id IS NOT NULL"
					" ORDER BY owner_id = $2 DESC, as_of DESC LIMIT 1", 2, types, values, NULL) > 0)
		owner_id = lr_sql_int32(0, 1, 0);
	lr_sql_end(&identity);
	return owner_id;
}

/*
 * What a person decided stands as it is recorded; the score is that of the decision before. Whom the ladder of an SLA gave the lead is chosen
 * again; by which rule stands, which has conditions that nobody looked at.
 */
static void
keep_decision_of_person(LrRun *run, const LrEntry *entry)
{
	if (entry->cause == 's')
	{
		run->ended = true;
		run->outcome = LR_ASSIGNED;
		run->reason = entry->reason_code;
		run->pool_id = entry->pool_id;
		if (entry->rule_no >= 0)
		{
			run->rule = palloc0(sizeof(LrRule));
			run->rule->number = entry->rule_no;
			run->rule->has_terms = true;
			run->rule->terms = lr_terms_read(run->batch->policy, entry->rule_no);
		}
	}
	else
	{
		keep_recorded_target(run, entry);
		run->owner_id = entry->owner_id;
	}
	if (!isnan(entry->score))
		lr_run_set(run, LR_SCORE, Int32GetDatum((int32) entry->score));
	if (entry->cause == 's')
		repeat_assignment(run, entry);
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
