/*
 * assign_owner.c: the agent assignOwner: the first rule that holds chooses the target; a pool's rotation chooses the owner.
 *
 * Rules are matched while the batch goes through its steps. Turns are drawn at the very end, when it is certain that the
 * lead will be written: a turn that is drawn is used, unless the transaction rolls back.
 */
#include "assignment/assignment.h"

#include "agents/agents.h"
#include "miscadmin.h"
#include "pipeline/by_hand.h"
#include "pipeline/pipeline.h"
#include "policy/policy.h"
#include "provenance/provenance.h"
#include "utils/json.h"

static void configure(LrStep *step, json_t *json, json_t *document, const LrScope *scope, const char *place, LrMistakes *mistakes);
static void run(LrStep *step, LrRun *run);
static void unfold(const LrStep *step, const char *detail, int length, StringInfo json);
static void restore(const LrStep *step, LrRun *run, const char *detail, int length);

/* The turns that a batch draws from one pool. */
typedef struct Draw
{
	LrPool	   *pool;
	int			revision_id;
	int			count;
	int64		next;
} Draw;

static void draw_turns(LrBatch *batch);
static bool needs_turn(const LrRun *run);
static Draw *find_draw(Draw *draws, int *ndraws, const LrRun *run);
static void assign(LrRun *run, Draw *draw);
static void give_turn(LrRun *run, LrPool *pool, int64 turn);
static void assign_hypothetically(LrRun *run);

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

/*
 * Draws a turn for every run of a batch that leads to a pool: of each pool as many as it needs at once. Where nobody acts on
 * what the batch decides, no turn is drawn.
 */
void
lr_assign_batch(LrBatch *batch)
{
	if (!lr_batch_acts(batch))
	{
		for (int i = 0; i < batch->n; i++)
		{
			if (needs_turn(&batch->runs[i]))
				assign_hypothetically(&batch->runs[i]);
		}
		return;
	}
	draw_turns(batch);
}

static void
draw_turns(LrBatch *batch)
{
	Draw	   *draws = palloc(sizeof(Draw) * Max(batch->n, 1));
	int			ndraws = 0;

	for (int i = 0; i < batch->n; i++)
	{
		if (needs_turn(&batch->runs[i]))
			find_draw(draws, &ndraws, &batch->runs[i])->count++;
	}
	for (int i = 0; i < ndraws; i++)
	{
		draws[i].revision_id = lr_pool_record(draws[i].pool);
		if (draws[i].pool->cycle > 0)
			draws[i].next = lr_pool_draw(draws[i].pool, draws[i].count);
	}
	for (int i = 0; i < batch->n; i++)
	{
		if (needs_turn(&batch->runs[i]))
			assign(&batch->runs[i], find_draw(draws, &ndraws, &batch->runs[i]));
	}
	pfree(draws);
}

static bool
needs_turn(const LrRun *run)
{
	return run->outcome == LR_ASSIGNED && !run->unchanged && run->turn < 0;
}

/* Finds what is drawn from the run's pool. */
static Draw *
find_draw(Draw *draws, int *ndraws, const LrRun *run)
{
	for (int i = 0; i < *ndraws; i++)
	{
		if (draws[i].pool->pool_id == run->pool_id)
			return &draws[i];
	}
	draws[*ndraws] = (Draw) {.pool = lr_pool(run->pool_id)};
	return &draws[(*ndraws)++];
}

static void
assign(LrRun *run, Draw *draw)
{
	run->pool_revision_id = draw->revision_id;
	if (draw->pool->cycle == 0)
	{
		run->outcome = LR_NO_RULE;
		run->reason = "no_available_member";
		return;
	}
	give_turn(run, draw->pool, draw->next++);
}

/*
 * Gives a lead to whose turn it is. Who declined it is passed over, to the next turn that is drawn: where nobody acts on it, to the
 * one behind.
 */
static void
give_turn(LrRun *run, LrPool *pool, int64 turn)
{
	bool		anybody = false;

	for (int i = 0; i < pool->nmembers && !anybody; i++)
		anybody = pool->available[i] && !lr_run_excludes(run, pool->owner_ids[i]);
	if (!anybody)
	{
		run->outcome = LR_PENDING;
		run->reason = "overflow";
		return;
	}
	for (;;)
	{
		int			owner_id = pool->owner_ids[lr_pool_owner_of_turn(pool, turn)];

		if (!lr_run_excludes(run, owner_id))
		{
			run->turn = turn;
			run->owner_id = owner_id;
			return;
		}
		CHECK_FOR_INTERRUPTS();
		turn = lr_batch_acts(run->batch) ? lr_pool_draw(pool, 1) : turn + 1;
	}
}

/*
 * Gives a lead to whoever would have it: where the run that acts drew a turn of the same pool with the same members, to whose
 * turn that is, otherwise to whose turn the lead's id names. The turn is recorded, and verifies as one that was drawn.
 */
static void
assign_hypothetically(LrRun *run)
{
	const LrRun *beside = run->batch->beside ? &run->batch->beside->runs[run->beside] : NULL;
	LrPool	   *pool = lr_pool(run->pool_id);

	if (!run->batch->evaluating)
		run->pool_revision_id = lr_pool_record(pool);
	if (pool->cycle == 0)
	{
		run->outcome = LR_NO_RULE;
		run->reason = "no_available_member";
		return;
	}
	give_turn(run, pool, beside && beside->turn >= 0 && beside->pool_revision_id == run->pool_revision_id ? beside->turn : lr_hypothetical_turn(run->lead_id));
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
