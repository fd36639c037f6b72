/*
 * assign_owner.c: the agent assignOwner: the first rule that holds chooses the target; a pool's rotation chooses the owner.
 *
 * Rules are matched while the batch goes through its steps. Turns are drawn at the very end, when it is certain that the
 * lead will be written: a turn that is drawn is used, unless the transaction rolls back.
 */
#include "assignment/assignment.h"

#include "agents/accounts.h"
#include "agents/agents.h"
#include "pipeline/pipeline.h"
#include "policy/policy.h"
#include "provenance/provenance.h"
#include "utils/json.h"

static void configure(LrStep *step, json_t *json, json_t *document, const LrScope *scope, const char *place, LrMistakes *mistakes);
static void run(LrStep *step, LrRun *run);
static void unfold(const LrStep *step, const char *detail, int length, StringInfo json);
static void restore(const LrStep *step, LrRun *run, const char *detail, int length);
static void prefer_account_owners(LrRun *run);

/* The turns that a batch draws from one pool. */
typedef struct Draw
{
	LrPool	   *pool;
	int			revision_id;
	int			count;
	int64		next;
} Draw;

/* In the step's detail, in the place of an SQLSTATE: an owner who is to have the lead, in the place of a rule. */
#define PREFERRED ERRCODE_WARNING

static void draw_turns(LrBatch *batch);
static bool needs_turn(const LrRun *run);
static Draw *find_draw(Draw *draws, int *ndraws, const LrRun *run);
static void assign(LrRun *run, Draw *draw);
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
		prefer_account_owners(run);
	}
	if (run->nhits > 0 || match.nerrors > 0 || run->preferred_owner_id)
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
		if (run->preferred_owner_id)
		{
			lr_put_varint(detail, run->preferred_owner_id);
			lr_put_varint(detail, PREFERRED);
			lr_put_varint(detail, 0);
		}
		for (int i = 0; i < run->nmore_preferred; i++)
		{
			lr_put_varint(detail, run->more_preferred[i]);
			lr_put_varint(detail, PREFERRED);
			lr_put_varint(detail, 0);
		}
		run->steps[step->number].detail = detail;
	}
}

/* Notes who of the lead's account is to have it, in the order of the rule's roles, each once. */
static void
prefer_account_owners(LrRun *run)
{
	int			n = 0;

	if (run->account_owners == NULL || run->rule->account_owner[0] == '\0')
		return;
	for (const char *role = run->rule->account_owner; *role; role = strchr(role, '\n') + 1)
	{
		const LrAccountOwner *owner = lr_account_owner_of_role(run->account_owners, role, strchr(role, '\n') - role);
		bool		known = owner == NULL || owner->owner_id == run->preferred_owner_id;

		for (int i = 0; i < n; i++)
			known |= run->more_preferred[i] == owner->owner_id;
		if (known)
			continue;
		if (run->preferred_owner_id == 0)
		{
			run->preferred_owner_id = owner->owner_id;
			run->preferred_reason = "account_owner";
			continue;
		}
		if (n == 0)
			run->more_preferred = palloc(sizeof(int) * LR_ACCOUNT_OWNERS_MAX);
		run->more_preferred[n++] = owner->owner_id;
	}
	run->nmore_preferred = n;
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
	run->turn = draw->next++;
	run->owner_id = draw->pool->owner_ids[lr_pool_owner_of_turn(draw->pool, run->turn)];
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

	run->pool_revision_id = lr_pool_record(pool);
	if (pool->cycle == 0)
	{
		run->outcome = LR_NO_RULE;
		run->reason = "no_available_member";
		return;
	}
	run->turn = beside && beside->turn >= 0 && beside->pool_revision_id == run->pool_revision_id ? beside->turn : lr_hypothetical_turn(run->lead_id);
	run->owner_id = pool->owner_ids[lr_pool_owner_of_turn(pool, run->turn)];
}

/* Lists who is to have the lead before the pool, the rules that hold where only one should, and those that raised before the one that decides. */
static void
unfold(const LrStep *step, const char *detail, int length, StringInfo json)
{
	LrReader	in = {detail, detail + length};
	StringInfoData hits;
	StringInfoData errors;
	StringInfoData preferred;

	initStringInfo(&preferred);
	initStringInfo(&hits);
	initStringInfo(&errors);
	while (in.at < in.end)
	{
		int			rule = (int) lr_get_varint(&in);
		int			sqlstate = (int) lr_get_varint(&in);
		int			conjunct = (int) lr_get_varint(&in);

		if (sqlstate == ERRCODE_SUCCESSFUL_COMPLETION)
			appendStringInfo(&hits, "%s%d", hits.len ? ", " : "", rule);
		else if (sqlstate == PREFERRED)
			appendStringInfo(&preferred, "%s%d", preferred.len ? ", " : "", rule);
		else
			appendStringInfo(&errors, "%s{\"rule_no\": %d, \"sqlstate\": \"%s\", \"conjunct\": %d}", errors.len ? ", " : "", rule,
							 unpack_sql_state(sqlstate), conjunct);
	}
	if (preferred.len > 0)
		appendStringInfo(json, ", \"account_owners\": [%s]", preferred.data);
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
