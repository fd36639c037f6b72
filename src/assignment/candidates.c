/*
 * candidates.c: who was considered for a lead, and why each was taken or passed over, from the record alone.
 */
#include "assignment/assignment.h"

#include "funcapi.h"
#include "pipeline/pipeline.h"
#include "policy/policy.h"
#include "provenance/provenance.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(leadroute_decision_candidates);

typedef struct Candidates
{
	ReturnSetInfo *result;
	const LrEntry *entry;
	LrPool	   *pool;			/* NULL: the revision is gone */
	const LrTerms *terms;
	LrChoice	choice;
	LrReading  *readings;
	const int  *match;			/* or NULL */
} Candidates;

static void put_member(const Candidates *c, int place);
static void put_preferred(const Candidates *c, const LrPreference *preferred);
static const char *verdict_of(const Candidates *c, int place);
static int64 next_turn(const Candidates *c, int place);
static void put_reading(const LrReading *reading, Datum *values, bool *nulls);
static bool is_in(const int *list, int n, int value);

static const char *const cap_of_names[] = {"owner", "member", "pool"};

/* Returns who was considered for a lead; see the SQL comment. */
Datum
leadroute_decision_candidates(PG_FUNCTION_ARGS)
{
	Candidates	c = {.result = (ReturnSetInfo *) fcinfo->resultinfo};
	LrPolicy   *policy;

	InitMaterializedSRF(fcinfo, 0);
	c.entry = lr_entry_load(PG_GETARG_INT64(0));
	policy = lr_policy_hold_to_read(c.entry->policy_version_id);
	c.terms = lr_terms_read(policy, c.entry->rule_no);
	if (c.entry->choice)
		lr_choice_read(VARDATA_ANY(c.entry->choice), VARSIZE_ANY_EXHDR(c.entry->choice), &c.choice);
	for (int i = 0; i < c.choice.npreferred; i++)
		put_preferred(&c, &c.choice.preferred[i]);
	c.pool = c.entry->pool_revision_id ? lr_pool_of_revision(c.entry->pool_revision_id) : NULL;
	if (c.pool)
	{
		c.readings = lr_readings_load(c.pool, c.choice.state_id, c.choice.position);
		c.match = c.terms->nskills > 0 ? lr_match_terms(c.pool, c.terms, c.choice.dropped) : NULL;
		for (int i = 0; i < c.pool->nmembers; i++)
			put_member(&c, i);
	}
	lr_policy_release(policy);
	return (Datum) 0;
}

/* owner_id, of_pool, weight, verdict, per, cap_of, count, maximum, number, level, next_turn */
static void
put_member(const Candidates *c, int place)
{
	const LrMember *member = &c->pool->members[place];
	const LrReading *reading = &c->readings[place];
	Datum		values[11];
	bool		nulls[11] = {false};
	int64		turn = next_turn(c, place);

	for (int i = 0; i < c->choice.npreferred; i++)
	{
		/* listed already */
		if (c->choice.preferred[i].owner_id == member->owner_id)
			return;
	}
	if (c->readings[c->pool->nmembers].code != LR_READING_FREE)
		reading = &c->readings[c->pool->nmembers];
	values[0] = Int32GetDatum(member->owner_id);
	values[1] = BoolGetDatum(true);
	values[2] = Int32GetDatum(member->weight);
	values[3] = CStringGetTextDatum(verdict_of(c, place));
	put_reading(reading, values, nulls);
	values[8] = Int64GetDatum(c->readings[place].number);
	nulls[8] = c->pool->strategy != LR_STRATEGY_BALANCE && c->pool->strategy != LR_STRATEGY_LEAST_LOADED;
	values[9] = Int32GetDatum(c->match ? c->match[place] : 0);
	nulls[9] = c->match == NULL || c->match[place] < 0;
	values[10] = Int64GetDatum(turn);
	nulls[10] = turn < 0;
	tuplestore_putvalues(c->result->setResult, c->result->setDesc, values, nulls);
}

/* An owner who was asked before the pool. */
static void
put_preferred(const Candidates *c, const LrPreference *preferred)
{
	Datum		values[11];
	bool		nulls[11] = {false};
	const char *verdict = preferred->reason;

	if (preferred->unavailable)
		verdict = is_in(c->choice.excluded, c->choice.nexcluded, preferred->owner_id) ? "excluded" : "unavailable";
	else if (preferred->reading.code == LR_READING_LATE)
		verdict = "late";
	else if (preferred->reading.code == LR_READING_CAPPED)
		verdict = preferred->reading.of == LR_CAP_OF_POOL ? "pool_capped" : "capped";
	values[0] = Int32GetDatum(preferred->owner_id);
	values[1] = BoolGetDatum(false);
	nulls[2] = true;
	values[3] = CStringGetTextDatum(verdict);
	put_reading(&preferred->reading, values, nulls);
	nulls[8] = nulls[9] = nulls[10] = true;
	tuplestore_putvalues(c->result->setResult, c->result->setDesc, values, nulls);
}

/* Says why a member was taken or passed over, in the order in which choosing asks. */
static const char *
verdict_of(const Candidates *c, int place)
{
	const LrMember *member = &c->pool->members[place];

	if (member->owner_id == c->entry->owner_id)
		return "taken";
	if (!member->available)
		return "unavailable";
	if (is_in(c->choice.excluded, c->choice.nexcluded, member->owner_id))
		return "excluded";
	if (c->match && c->match[place] < 0)
		return "skill_missing";
	if (lr_choice_preferred(&c->choice))
		return "not_asked";
	if (c->readings[c->pool->nmembers].code != LR_READING_FREE)
		return "pool_capped";
	if (c->readings[place].code == LR_READING_CAPPED)
		return "capped";
	if (c->readings[place].code == LR_READING_LATE)
		return "late";
	switch (c->pool->strategy)
	{
		case LR_STRATEGY_ROTATION:
			return "not_their_turn";
		case LR_STRATEGY_BALANCE:
			return "has_more";
		case LR_STRATEGY_LEAST_LOADED:
			return "less_room";
		case LR_STRATEGY_BEST_SKILL:
			return "fits_less";
		default:
			return "stands_behind";
	}
}

/* Returns the turn, from the lead's on, that is the member's; -1 if the strategy has none, or none is. */
static int64
next_turn(const Candidates *c, int place)
{
	/* who is unavailable has no place in the schedule */
	if (!lr_strategy_turns(c->pool) || c->entry->turn < 0 || !c->pool->members[place].available)
		return -1;
	for (int i = 0; i < c->pool->cycle; i++)
	{
		if (lr_pool_member_of_turn(c->pool, c->entry->turn + i) == place)
			return c->entry->turn + i;
	}
	return -1;
}

static void
put_reading(const LrReading *reading, Datum *values, bool *nulls)
{
	bool		nothing = reading->code == LR_READING_FREE;

	nulls[4] = nulls[5] = nulls[6] = nulls[7] = nothing;
	if (nothing)
		return;
	values[4] = CStringGetTextDatum(lr_per_names[reading->per]);
	values[5] = CStringGetTextDatum(cap_of_names[reading->of]);
	values[6] = Int64GetDatum(reading->count);
	values[7] = Int64GetDatum(reading->maximum);
}

static bool
is_in(const int *list, int n, int value)
{
	for (int i = 0; i < n; i++)
	{
		if (list[i] == value)
			return true;
	}
	return false;
}
