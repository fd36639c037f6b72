/*
 * assign_owner.c: the agent assignOwner: the first rule that holds chooses the target; a pool's rotation chooses the owner.
 *
 * Rules are matched while the batch goes through its steps. Turns are drawn at the very end, when it is certain that the
 * lead will be written: a turn that is drawn is used, unless the transaction rolls back.
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
static void assign(LrRun *run);

const LrBuiltin lr_assign_owner = {
	.capability = "assignOwner",
	.agent_id = 5,
	.first_fact = LR_N_FACTS,
	.nfacts = 0,
	.recomputable = true,
	.configure = configure,
	.run = run,
	.unfold = unfold,
	.restore = restore,
};

static void
configure(LrStep *step, json_t *json, json_t *document, const LrScope *scope, const char *place, LrMistakes *mistakes)
{
}

static void
run(LrStep *step, LrRun *run)
{
	LrMatch		match;

	lr_rules_match(run->batch->policy, run->values, run->isnull, &match);
	run->rule = match.rule;
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
	if (match.nerrors > 0)
	{
		StringInfo	detail = lr_detail_make();

		for (int i = 0; i < match.nerrors; i++)
		{
			lr_put_varint(detail, match.errors[i].rule);
			lr_put_varint(detail, match.errors[i].error.sqlstate);
			lr_put_varint(detail, match.errors[i].error.conjunct);
		}
		run->steps[step->number].detail = detail;
	}
}

/* Draws a turn for every run of a batch that leads to a pool. */
void
lr_assign_batch(LrBatch *batch)
{
	for (int i = 0; i < batch->n; i++)
	{
		if (batch->runs[i].outcome == LR_ASSIGNED && !batch->runs[i].unchanged)
			assign(&batch->runs[i]);
	}
}

static void
assign(LrRun *run)
{
	LrPool	   *pool = lr_pool(run->pool_id);

	lr_pool_record(pool);
	run->pool_revision_id = pool->revision_id;
	if (pool->cycle == 0)
	{
		run->outcome = LR_NO_RULE;
		run->reason = "no_available_member";
		return;
	}
	run->turn = lr_pool_draw(pool);
	run->owner_id = pool->owner_ids[lr_pool_owner_of_turn(pool, run->turn)];
}

/* Lists the rules that raised before the one that holds. */
static void
unfold(const LrStep *step, const char *detail, int length, StringInfo json)
{
	LrReader	in = {detail, detail + length};

	appendStringInfoString(json, ", \"errors\": [");
	for (int n = 0; in.at < in.end; n++)
	{
		int			rule = (int) lr_get_varint(&in);
		int			sqlstate = (int) lr_get_varint(&in);
		int			conjunct = (int) lr_get_varint(&in);

		appendStringInfo(json, "%s{\"rule_no\": %d, \"sqlstate\": \"%s\", \"conjunct\": %d}", n ? ", " : "", rule,
						 unpack_sql_state(sqlstate), conjunct);
	}
	appendStringInfoChar(json, ']');
}

static void
restore(const LrStep *step, LrRun *run, const char *detail, int length)
{
	if (length == 0)
		return;
	run->steps[step->number].detail = lr_detail_make();
	appendBinaryStringInfo(run->steps[step->number].detail, detail, length);
}
