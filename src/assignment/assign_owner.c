/*
 * assign_owner.c: the agent assignOwner: the first rule that holds chooses the target; a pool's rotation chooses the owner.
 *
 * Rules are matched while the batch goes through its steps. Owners are chosen at the very end (live.c), when it is certain that
 * the lead will be written: a turn that is drawn, a place that is taken, is used, unless the transaction rolls back.
 */
#include "assignment/assignment.h"

#include "agents/agents.h"
#include "pipeline/pipeline.h"
#include "policy/policy.h"
#include "provenance/provenance.h"
#include "utils/json.h"

static void configure(LrStep *step, json_t *json, json_t *document, const LrScope *scope, const char *place, LrMistakes *mistakes);
static void run(LrStep *step, LrRun *run);
static void unfold(const LrStep *step, const char *detail, int length, StringInfo json);
static void restore(const LrStep *step, LrRun *run, const char *detail, int length);

static bool needs_owner(const LrRun *run);

const LrBuiltin lr_assign_owner = {
	.capability = "assignOwner",
	.agent_id = 5,
	.first_fact = LR_N_FACTS,
	.nfacts = 0,
	.recomputable = true,
	.repeatable = true,
	.configure = configure,
	.run = run,
	.unfold = unfold,
	.restore = restore,
};

static void
configure(LrStep *step, json_t *json, json_t *document, const LrScope *scope, const char *place, LrMistakes *mistakes)
{
}

/* Returns a bit for each step that is done. */
static uint32
steps_done(const LrRun *run)
{
	uint32		done = 0;

	for (int i = 0; i < run->batch->policy->nsteps; i++)
	{
		if (run->steps[i].status == LR_STEP_DONE)
			done |= (uint32) 1 << i;
	}
	return done;
}

static void
run(LrStep *step, LrRun *run)
{
	LrMatch		match;

	lr_rules_match(run->batch->policy, steps_done(run), run->values, run->isnull, !run->batch->linear, &match);
	run->rule = match.rule;
	run->nhits = match.nhits > 1 ? match.nhits : 0;
	run->hits = match.hits;
	run->nerrors = match.nerrors;
	run->errors = match.errors;
	run->ended = true;
	if (match.rule == NULL)
	{
		run->outcome = LR_NO_RULE;
		run->reason = "no_rule_matched";
	}
	else
	{
		run->outcome = match.rule->outcome;
		run->reason = match.rule->reason;
		run->pool_id = match.rule->pool_id;
	}
	if (run->nhits > 0 || match.nerrors > 0)
	{
		StringInfo	detail = lr_detail_make();

		/* a rule that holds is one that raised nothing */
		for (int i = 0; i < run->nhits; i++)
		{
			lr_put_varint(detail, run->hits[i]);
			lr_put_varint(detail, ERRCODE_SUCCESSFUL_COMPLETION);
			lr_put_varint(detail, 0);
		}
		for (int i = 0; i < match.nerrors; i++)
		{
			lr_put_varint(detail, match.errors[i].rule);
			lr_put_varint(detail, match.errors[i].error.sqlstate);
			lr_put_varint(detail, match.errors[i].error.conjunct);
		}
		run->steps[step->number].detail = detail;
	}
}

/* Finds the owner of every run of a batch whose rule leads to a pool. */
void
lr_assign_batch(LrBatch *batch)
{
	LrLive	   *live = NULL;
	MemoryContext saved = MemoryContextSwitchTo(batch->memory);

	for (int i = 0; i < batch->n; i++)
	{
		if (!needs_owner(&batch->runs[i]))
			continue;
		if (live == NULL)
			live = lr_live_begin(batch);
		lr_live_add(live, &batch->runs[i]);
	}
	if (live)
		lr_live_assign(live);
	MemoryContextSwitchTo(saved);
}

static bool
needs_owner(const LrRun *run)
{
	return run->outcome == LR_ASSIGNED && !run->unchanged && run->owner_id == 0;
}

/* Lists the rules that hold where only one should, and those that raised before the one that decides. */
static void
unfold(const LrStep *step, const char *detail, int length, StringInfo json)
{
	LrReader	in = {detail, detail + length};
	StringInfoData hits;
	StringInfoData errors;

	initStringInfo(&hits);
	initStringInfo(&errors);
	while (in.at < in.end)
	{
		int			rule = (int) lr_get_varint(&in);
		int			sqlstate = (int) lr_get_varint(&in);
		int			conjunct = (int) lr_get_varint(&in);

		if (sqlstate == ERRCODE_SUCCESSFUL_COMPLETION)
			appendStringInfo(&hits, "%s%d", hits.len ? ", " : "", rule);
		else
			appendStringInfo(&errors, "%s{\"rule_no\": %d, \"sqlstate\": \"%s\", \"conjunct\": %d}", errors.len ? ", " : "", rule,
							 unpack_sql_state(sqlstate), conjunct);
	}
	if (hits.len > 0)
		appendStringInfo(json, ", \"hits\": [%s]", hits.data);
	if (errors.len > 0)
		appendStringInfo(json, ", \"errors\": [%s]", errors.data);
}

static void
restore(const LrStep *step, LrRun *run, const char *detail, int length)
{
	if (length == 0)
		return;
	run->steps[step->number].detail = lr_detail_make();
	appendBinaryStringInfo(run->steps[step->number].detail, detail, length);
}
