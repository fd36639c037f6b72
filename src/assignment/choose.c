/*
 * choose.c: the strategies: which member of a pool a lead goes to, given what was read of the members.
 *
 * A pure function of its arguments, all of which are on record: routing calls it with what it reads now, verification with
 * what was read then. Members that are unavailable, excluded, lack a skill, or are read to have no room are passed over.
 */
#include "assignment/assignment.h"

#include <math.h>

#include "policy/policy.h"

static bool may_take(const LrPool *pool, const LrReading *readings, const LrWants *wants, int place);
static int	choose_by_turn(const LrPool *pool, const LrReading *readings, const LrWants *wants, int *distance);
static int	choose_by_skill(const LrPool *pool, const LrReading *readings, const LrWants *wants, int *distance);
static int	choose_by_number(const LrPool *pool, const LrReading *readings, const LrWants *wants);
static int	choose_by_position(const LrPool *pool, const LrReading *readings, const LrWants *wants);
static bool has_less(const LrPool *pool, const LrReading *readings, const LrWants *wants, int a, int b);

/* Tells whether a pool's strategy draws turns. */
bool
lr_strategy_turns(const LrPool *pool)
{
	return pool->strategy == LR_STRATEGY_ROTATION || pool->strategy == LR_STRATEGY_BEST_SKILL;
}

/*
 * Returns the place of the member that a lead goes to, -1 if there is none. distance: how many turns behind that of the lead
 * the member's is, under strategies that draw turns, and 0 otherwise.
 */
int
lr_choose(const LrPool *pool, const LrReading *readings, const LrWants *wants, int *distance)
{
	*distance = 0;
	if (readings[pool->nmembers].code != LR_READING_FREE)
		return -1;
	switch (pool->strategy)
	{
		case LR_STRATEGY_ROTATION:
			return choose_by_turn(pool, readings, wants, distance);
		case LR_STRATEGY_BEST_SKILL:
			return choose_by_skill(pool, readings, wants, distance);
		case LR_STRATEGY_FIXED:
			return choose_by_position(pool, readings, wants);
		default:
			return choose_by_number(pool, readings, wants);
	}
}

/*
 * Returns how well the skills of each member fit what a lead asks for: the sum of the levels of those it asks for, -1 where one
 * is missing that was not dropped (a bit each), in the current memory context.
 */
const int *
lr_match_terms(const LrPool *pool, const LrTerms *terms, uint32 dropped)
{
	int		   *match = palloc(sizeof(int) * Max(pool->nmembers, 1));

	for (int i = 0; i < pool->nmembers; i++)
	{
		match[i] = 0;
		for (int t = 0; t < terms->nskills && match[i] >= 0; t++)
		{
			int			level = lr_skill_level(&pool->members[i], terms->skills[t].name);

			if (level >= terms->skills[t].level)
				match[i] += level;
			else if ((dropped & ((uint32) 1 << t)) == 0)
				match[i] = -1;
		}
	}
	return match;
}

/* Returns a member's level in a skill, 0 for none. */
int
lr_skill_level(const LrMember *member, const char *skill)
{
	for (int i = 0; i < member->nskills; i++)
	{
		if (pg_strcasecmp(member->skills[i].name, skill) == 0)
			return member->skills[i].level;
	}
	return 0;
}

/* Returns the expected value of a lead, 0 if its rule gives none: the rule's value times the score, if there is one, within bounds. */
int64
lr_expected_value(const LrTerms *terms, const Datum *score)
{
	double		value = terms->has_value ? terms->value * (score ? DatumGetInt32(*score) : 1) : 0;

	/* a rule's value goes up to 1e12, an agent's score as far as an integer does */
	return llround(Max(Min(value, 1e18), -1e18));
}

static bool
may_take(const LrPool *pool, const LrReading *readings, const LrWants *wants, int place)
{
	if (!pool->members[place].available || readings[place].code != LR_READING_FREE)
		return false;
	if (wants->match && wants->match[place] < 0)
		return false;
	for (int i = 0; i < wants->nexcluded; i++)
	{
		if (wants->excluded[i] == pool->members[place].owner_id)
			return false;
	}
	return true;
}

static int
choose_by_turn(const LrPool *pool, const LrReading *readings, const LrWants *wants, int *distance)
{
	bool		anybody = false;

	/* a cycle may be a thousand times as long as the list of members */
	for (int i = 0; i < pool->nmembers && !anybody; i++)
		anybody = may_take(pool, readings, wants, i);
	for (int i = 0; anybody && i < pool->cycle; i++)
	{
		int			place = lr_pool_member_of_turn(pool, wants->turn + i);

		if (!may_take(pool, readings, wants, place))
			continue;
		*distance = i;
		return place;
	}
	return -1;
}

/* The best match; of equal ones the one whose turn it is next. */
static int
choose_by_skill(const LrPool *pool, const LrReading *readings, const LrWants *wants, int *distance)
{
	int			best = -1;

	for (int i = 0; i < pool->nmembers; i++)
	{
		if (may_take(pool, readings, wants, i) && (best < 0 || (wants->match && wants->match[i] > wants->match[best])))
			best = i;
	}
	for (int i = 0; best >= 0 && i < pool->cycle; i++)
	{
		int			place = lr_pool_member_of_turn(pool, wants->turn + i);

		if ((wants->match && wants->match[place] != wants->match[best]) || !may_take(pool, readings, wants, place))
			continue;
		*distance = i;
		return place;
	}
	return -1;
}

static int
choose_by_position(const LrPool *pool, const LrReading *readings, const LrWants *wants)
{
	int			best = -1;

	for (int i = 0; i < pool->nmembers; i++)
	{
		if ((best < 0 || pool->members[i].position < pool->members[best].position) && may_take(pool, readings, wants, i))
			best = i;
	}
	return best;
}

static int
choose_by_number(const LrPool *pool, const LrReading *readings, const LrWants *wants)
{
	int			best = -1;

	for (int i = 0; i < pool->nmembers; i++)
	{
		if (may_take(pool, readings, wants, i) && (best < 0 || has_less(pool, readings, wants, i, best)))
			best = i;
	}
	return best;
}

/*
 * Tells whether the member a comes before b. Balance: who has least for the weight when half of this lead is added (the divisor
 * method of Webster, so that shares stay even from the first lead on). Least loaded: who has more room.
 */
static bool
has_less(const LrPool *pool, const LrReading *readings, const LrWants *wants, int a, int b)
{
	if (pool->strategy == LR_STRATEGY_LEAST_LOADED)
		return readings[a].number > readings[b].number;
	return (2 * (double) readings[a].number + wants->amount) * pool->members[b].weight < (2 * (double) readings[b].number + wants->amount) * pool->members[a].weight;
}
