/*
 * live.c: choosing owners for the leads of a batch that is routed now.
 *
 * What can be read without others is read first: pools with who is available, their revisions on record, turns in one draw for
 * each pool. Where caps or counters decide, too, the leads are then given away one after the other inside the section of the
 * counters (counters.c): what is read there is true until the places are taken. Inside the section nothing is looked up in
 * tables and nothing waits; where something is missing (a counter that is not in memory, an owner not seen before), the section
 * is left, the thing is got, and the lead is tried again.
 *
 * A turn that falls to a member who cannot take the lead is used up, as are all up to the next who can: so those who can share
 * the leads as their weights say, and nobody gets the leads of whoever stands in front of him.
 *
 * Where nobody acts on what is decided (shadows, tables that are observed, dry runs), counters are read and nothing is taken or
 * drawn.
 */
#include "assignment/live.h"

#include "assignment/counters.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"

typedef enum Verdict
{
	GIVEN,
	PASSED,						/* nobody can take it */
	UNKNOWN						/* something has to be got first */
} Verdict;

static uint64 batches = 0;
static uint64 section = 0;		/* counts sections, so that counters of an earlier one are found again */

static void begin_section(const LrLive *live);
static LivePool *find_live_pool(LrLive *live, LrRun *run, const LrTerms *terms);
static Match *find_match(LrLive *live, Lead *lead);
static void prepare_pools(LrLive *live);
static void value_lead(Lead *lead);
static void get_asked(LrLive *live, Lead *lead);
static void ask(Lead *lead, int owner_id, const char *reason);
static Verdict give(LrLive *live, Lead *lead);
static Verdict give_to_asked(LrLive *live, Lead *lead, Asked *asked, LrPreference *preference);
static Verdict give_to_member(LrLive *live, Lead *lead);
static void return_place(LrLive *live, const LrRun *run, LivePool *pool);
static void note_change(LrLive *live, LivePool *own, int owner_id, int position);
static Verdict read_numbers(LrLive *live, LivePool *pool, const Lead *lead);
static Verdict look_again(LrLive *live, LivePool *pool, const Lead *lead);
static void get_counters(LrLive *live, Lead *lead);
static int64 first_turn(LrLive *live, Lead *lead);
static int64 later_turn(LivePool *pool, int64 turn, int distance);
static void settle(LrLive *live, Lead *lead);

/* Begins to give away the leads of a batch. */
LrLive *
lr_live_begin(LrBatch *batch)
{
	LrLive	   *live = palloc0(sizeof(LrLive));

	live->batch = batch;
	live->number = ++batches;
	live->takes = lr_batch_acts(batch);
	live->leads = palloc(sizeof(Lead) * Max(batch->n, 1));
	return live;
}

/* Adds a lead, whose rule leads to a pool. */
void
lr_live_add(LrLive *live, LrRun *run)
{
	Lead	   *lead = &live->leads[live->nleads++];

	memset(lead, 0, sizeof(*lead));
	lead->run = run;
	lead->terms = lr_rule_terms(live->batch->policy, run->rule);
	lead->live = find_live_pool(live, run, lead->terms);
	/* who has an owner already needs a turn only if that one cannot take the lead */
	lead->live->nturns += run->preferred_owner_id == 0 && run->naccount_preferred == 0 && run->same_person_as < 0 ? 1 : 0;
	lead->wants.nexcluded = run->nexcluded;
	lead->wants.excluded = run->excluded;
	lead->wants.turn = -1;
	lead->match = lead->terms->nskills > 0 ? find_match(live, lead) : NULL;
	lead->wants.match = lead->match ? lead->match->match : NULL;
	value_lead(lead);
	get_asked(live, lead);
	live->sectioned |= lead->live->pool->governed || lead->nasked > 0 || run->same_person_as >= 0;
}

/* Gives them away: each run gets its owner, or what becomes of it without one. */
void
lr_live_assign(LrLive *live)
{
	ListCell   *cell;

	prepare_pools(live);
	if (live->sectioned)
		begin_section(live);
	for (int i = 0; i < live->batch->n; i++)
	{
		const LrRun *run = &live->batch->runs[i];

		/* nobody gets it any more */
		if (run->outcome != LR_ASSIGNED && !run->unchanged)
			return_place(live, run, NULL);
	}
	for (int i = 0; i < live->nleads; i++)
	{
		Lead	   *lead = &live->leads[i];
		Verdict		verdict;

		lead->position = ++lead->live->position;
		return_place(live, lead->run, lead->live);
		while ((verdict = give(live, lead)) == UNKNOWN)
		{
			lr_counters_end();
			get_asked(live, lead);
			get_counters(live, lead);
			CHECK_FOR_INTERRUPTS();
			begin_section(live);
		}
		lead->overflows = verdict == PASSED;
	}
	if (live->sectioned)
		lr_counters_end();
	foreach(cell, live->pools)
	{
		LivePool   *pool = lfirst(cell);

		if (pool->readings && !live->batch->evaluating)
			lr_readings_end(pool->readings);
	}
	for (int i = 0; i < live->nleads; i++)
		settle(live, &live->leads[i]);
}

static void
begin_section(const LrLive *live)
{
	section++;
	if (live->takes)
		lr_counters_begin();
	else
		lr_counters_look();
}

/* ---- before: what others need not wait for ---- */

static LivePool *
find_live_pool(LrLive *live, LrRun *run, const LrTerms *terms)
{
	LrRule	   *rule = run->rule;
	LrPool	   *pool;
	LivePool   *found;

	if (rule->in_hand_of == live->number)
		return rule->in_hand;
	rule->in_hand_of = live->number;
	pool = lr_pool(run->pool_id, live->batch->as_of, terms->within, terms->working_clock);
	/* another rule may lead there as well */
	if (pool->in_hand_of == live->number)
		return rule->in_hand = pool->in_hand;
	found = palloc0(sizeof(LivePool));
	found->pool = pool;
	pool->in_hand = rule->in_hand = found;
	pool->in_hand_of = live->number;
	live->pools = lappend(live->pools, found);
	return found;
}

/* Finds how well members fit the skills that the lead's rule asks for; those that it has waited for long enough are dropped. */
static Match *
find_match(LrLive *live, Lead *lead)
{
	const LrTerms *terms = lead->terms;
	LrPool	   *pool = lead->live->pool;
	uint32		droppable = 0;
	const int  *at_last;
	Match	   *match;
	ListCell   *cell;

	for (int i = 0; i < terms->nskills; i++)
	{
		if (terms->skills[i].wait == 0)
			continue;
		droppable |= (uint32) 1 << i;
		if (lead->run->waiting_since != 0 && live->batch->as_of - lead->run->waiting_since >= terms->skills[i].wait)
			lead->choice.dropped |= (uint32) 1 << i;
	}
	foreach(cell, lead->live->matches)
	{
		match = lfirst(cell);
		if (match->terms == terms && match->dropped == lead->choice.dropped)
			return match;
	}
	match = palloc0(sizeof(Match));
	match->terms = terms;
	match->dropped = lead->choice.dropped;
	match->match = lr_match_terms(pool, terms, match->dropped);
	at_last = lr_match_terms(pool, terms, match->dropped | droppable);
	for (int i = 0; i < pool->nmembers; i++)
		match->anybody |= pool->members[i].on && at_last[i] >= 0;
	lead->live->matches = lappend(lead->live->matches, match);
	return match;
}

/* Puts the pools on record, and draws the turns that the leads need. */
static void
prepare_pools(LrLive *live)
{
	ListCell   *cell;

	foreach(cell, live->pools)
	{
		LivePool   *pool = lfirst(cell);

		/* what nobody is to find is not put on record either */
		if (!live->batch->evaluating)
			lr_pool_record(pool->pool);
		if (pool->pool->governed)
			pool->readings = lr_readings_begin(pool->pool);
		else
			pool->blank = palloc0(sizeof(LrReading) * (pool->pool->nmembers + 1));
		if (live->takes && pool->nturns > 0 && pool->pool->cycle > 0 && lr_strategy_turns(pool->pool))
		{
			pool->next = lr_pool_draw(pool->pool, pool->nturns);
			pool->left = pool->nturns;
		}
		else if (live->takes && live->sectioned && OidIsValid(pool->pool->turns) && lr_strategy_turns(pool->pool))
		{
			/* should one be drawn after all, in the section, its lock must not be waited for there */
			LockRelationOid(pool->pool->turns, RowExclusiveLock);
		}
	}
}

/* Finds what a lead counts. */
static void
value_lead(Lead *lead)
{
	LrRun	   *run = lead->run;

	if (!run->isnull[LR_TIER])
	{
		text	   *tier = DatumGetTextPP(run->values[LR_TIER]);

		run->load = lr_tier_load(VARDATA_ANY(tier), VARSIZE_ANY_EXHDR(tier));
	}
	if (lead->terms->has_value)
		run->expected_value = lr_expected_value(lead->terms, run->isnull[LR_SCORE] ? NULL : &run->values[LR_SCORE]);
	lead->wants.amount = lead->live->pool->measure == LR_MEASURE_COUNT ? 1 : run->expected_value == PG_INT64_MIN ? 0 : run->expected_value;
}

/* Lists who is asked before the pool, as far as it is known by now, and reads those that were not read yet. */
static void
get_asked(LrLive *live, Lead *lead)
{
	int			known = lr_preferred_owner(lead->run);

	if (lead->asked == NULL && (known != 0 || lead->run->naccount_preferred > 0))
		lead->asked = palloc0(sizeof(Asked) * (1 + lead->run->naccount_preferred));
	lead->nasked = 0;
	if (known != 0)
		ask(lead, known, LR_KNOWN_PERSON);
	for (int i = 0; i < lead->run->naccount_preferred; i++)
		ask(lead, lead->run->account_preferred[i], LR_ACCOUNT_OWNER);
	for (int i = 0; i < lead->nasked; i++)
	{
		Asked	   *asked = &lead->asked[i];

		if (asked->alone)
			continue;
		asked->alone = lr_pool(-asked->owner_id, live->batch->as_of, lead->terms->within, lead->terms->working_clock);
		lr_limits_find(&asked->limits, lead->live->pool, asked->owner_id, live->batch->as_of);
	}
	if (lead->nasked > 0 && lead->choice.preferred == NULL)
		lead->choice.preferred = palloc0(sizeof(LrPreference) * (1 + lead->run->naccount_preferred));
}

static void
ask(Lead *lead, int owner_id, const char *reason)
{
	Asked	   *asked = &lead->asked[lead->nasked++];

	if (asked->owner_id == owner_id)
		return;
	memset(asked, 0, sizeof(*asked));
	asked->owner_id = owner_id;
	asked->reason = reason;
}

/* ---- inside the section ---- */

/* Gives one lead away. */
static Verdict
give(LrLive *live, Lead *lead)
{
	int			known = lr_preferred_owner(lead->run);

	/* who has the person's other leads may have become known since */
	if (known != 0 && (lead->nasked == 0 || lead->asked[0].owner_id != known))
		return UNKNOWN;
	lead->choice.npreferred = 0;
	for (int i = 0; i < lead->nasked; i++)
	{
		Verdict		verdict = give_to_asked(live, lead, &lead->asked[i], &lead->choice.preferred[lead->choice.npreferred++]);

		if (verdict != PASSED)
			return verdict;
	}
	return give_to_member(live, lead);
}

static Verdict
give_to_asked(LrLive *live, Lead *lead, Asked *asked, LrPreference *preference)
{
	LrPool	   *alone = asked->alone;
	LrLimits   *of_pool = lr_limits_of(live, lead->live->pool, lead->live->pool->nmembers);

	*preference = (LrPreference) {.owner_id = asked->owner_id,.reason = asked->reason};
	preference->unavailable = alone->nmembers == 0 || !alone->members[0].available;
	for (int i = 0; i < lead->wants.nexcluded; i++)
		preference->unavailable |= lead->wants.excluded[i] == asked->owner_id;
	if (preference->unavailable)
		return PASSED;
	if (!lr_limits_read(live, &asked->limits, alone->members[0].room, lead->run, section, &preference->reading))
		return UNKNOWN;
	if (preference->reading.code == LR_READING_FREE && !lr_limits_read(live, of_pool, -1, lead->run, section, &preference->reading))
		return UNKNOWN;
	if (preference->reading.code != LR_READING_FREE)
		return PASSED;
	if (live->takes)
	{
		lr_limits_take(&asked->limits, lead->run);
		lr_limits_take(of_pool, lead->run);
		note_change(live, lead->live, asked->owner_id, lead->live->position + 1);
	}
	lead->run->owner_id = asked->owner_id;
	return GIVEN;
}

static Verdict
give_to_member(LrLive *live, Lead *lead)
{
	LivePool   *pool = lead->live;
	const LrReading *readings = pool->readings ? pool->readings->now : pool->blank;
	LrLimits   *of_pool = NULL;

	if (pool->pool->cycle == 0)
		return PASSED;
	if (lead->wants.turn < 0 && lr_strategy_turns(pool->pool))
		lead->wants.turn = first_turn(live, lead);
	if (pool->readings)
	{
		LrReading	reading = {0};

		of_pool = lr_limits_of(live, pool->pool, pool->pool->nmembers);
		if (look_again(live, pool, lead) == UNKNOWN || read_numbers(live, pool, lead) == UNKNOWN)
			return UNKNOWN;
		if (!lr_limits_read(live, of_pool, -1, lead->run, section, &reading))
			return UNKNOWN;
		lr_readings_set(pool->readings, pool->pool->nmembers, &reading, pool->position);
	}
	for (;;)
	{
		int			distance;
		int			place = lr_choose(pool->pool, readings, &lead->wants, &distance);
		LrLimits   *limits;
		LrReading	reading = {0};

		if (place < 0)
			break;
		if (pool->readings == NULL)
			limits = NULL;
		else
		{
			limits = lr_limits_of(live, pool->pool, place);
			reading.number = pool->readings->now[place].number;
			if (!lr_limits_read(live, limits, pool->pool->members[place].room, lead->run, section, &reading))
				return UNKNOWN;
			if (reading.code != LR_READING_FREE)
			{
				lr_readings_set(pool->readings, place, &reading, pool->position);
				pool->looked_load = Max(pool->looked_load, lead->run->load);
				continue;
			}
		}
		if (distance > 0 && live->takes)
		{
			lead->wants.turn = later_turn(pool, lead->wants.turn, distance);
			continue;
		}
		lead->run->turn = lead->wants.turn;
		lead->run->owner_id = pool->pool->members[place].owner_id;
		if (limits && live->takes)
		{
			lr_limits_take(limits, lead->run);
			lr_limits_take(of_pool, lead->run);
			note_change(live, pool, lead->run->owner_id, pool->position + 1);
		}
		return GIVEN;
	}
	/* the next lead may use the turn */
	if (live->takes && lead->wants.turn >= 0 && pool->next == lead->wants.turn + 1)
	{
		pool->next--;
		pool->left++;
	}
	return PASSED;
}

/* Counts a lead that is decided anew no more: its owner may have room for it, or for another one. pool: that it goes to now, or NULL. */
static void
return_place(LrLive *live, const LrRun *run, LivePool *pool)
{
	ListCell   *cell;

	if (run->counted == NULL)
		return;
	lr_limits_return(live, run->counted);
	if (pool == NULL)
		return;
	foreach(cell, live->pools)
	{
		LivePool   *other = lfirst(cell);
		int			place = other->readings ? lr_pool_place(other->pool, run->counted->owner_id) : -1;

		if (place >= 0 && other->readings->now[place].code != LR_READING_FREE)
			other->looked = 0;
	}
	note_change(live, pool, run->counted->owner_id, pool->position);
}

/*
 * Reads an owner's number anew where it was read and what became of a lead changed it: in the lead's own pool, from a position on, and in
 * all that go by the owner's open leads, for the leads to come.
 */
static void
note_change(LrLive *live, LivePool *own, int owner_id, int position)
{
	ListCell   *cell;

	foreach(cell, live->pools)
	{
		LivePool   *pool = lfirst(cell);
		LrReading	reading;
		LrLimits   *limits;
		int			place;

		if (pool->readings == NULL || pool->numbers != section || (pool != own && pool->pool->strategy != LR_STRATEGY_LEAST_LOADED))
			continue;
		place = lr_pool_place(pool->pool, owner_id);
		if (place < 0 || !pool->pool->members[place].available)
			continue;
		limits = lr_limits_of(live, pool->pool, place);
		reading = pool->readings->now[place];
		if (limits->section == section && lr_limits_number(live, pool->pool, limits, &reading))
			lr_readings_set(pool->readings, place, &reading, pool == own ? position : pool->position + 1);
	}
}

/* Reads the numbers that the strategy compares, of all who are available. */
static Verdict
read_numbers(LrLive *live, LivePool *pool, const Lead *lead)
{
	if (pool->numbers == section || lr_strategy_turns(pool->pool) || pool->pool->strategy == LR_STRATEGY_FIXED)
		return GIVEN;
	for (int i = 0; i < pool->pool->nmembers; i++)
	{
		LrLimits   *limits;
		LrReading	reading = pool->readings->now[i];

		if (!pool->pool->members[i].available)
			continue;
		limits = lr_limits_of(live, pool->pool, i);
		if (!lr_limits_find_counters(limits, section))
			return UNKNOWN;
		if (lr_limits_number(live, pool->pool, limits, &reading))
			lr_readings_set(pool->readings, i, &reading, pool->position);
	}
	pool->numbers = section;
	return GIVEN;
}

/* Looks again at those who had no room when they were read last. */
static Verdict
look_again(LrLive *live, LivePool *pool, const Lead *lead)
{
	/* for a lighter lead than those that found none there may be room */
	if (pool->looked == section && lead->run->load >= pool->looked_load)
		return GIVEN;
	for (int i = 0; i < pool->pool->nmembers; i++)
	{
		LrReading	reading = {.number = pool->readings->now[i].number};

		if (pool->readings->now[i].code == LR_READING_FREE)
			continue;
		if (!lr_limits_read(live, lr_limits_of(live, pool->pool, i), pool->pool->members[i].room, lead->run, section, &reading))
			return UNKNOWN;
		lr_readings_set(pool->readings, i, &reading, pool->position);
	}
	pool->looked = section;
	pool->looked_load = lead->run->load;
	return GIVEN;
}

/* Has the counters that a lead may need counted: those of the whole pool at once. */
static void
get_counters(LrLive *live, Lead *lead)
{
	LrPool	   *pool = lead->live->pool;
	LrCounterKey *keys = palloc(sizeof(LrCounterKey) * (pool->nmembers + 1 + lead->nasked) * LR_MAX_KEYS);
	int			n = 0;

	for (int i = 0; i <= pool->nmembers; i++)
	{
		LrLimits   *limits = lr_limits_of(live, pool, i);

		for (int k = 0; k < limits->n; k++)
			keys[n++] = limits->limits[k].key;
	}
	for (int i = 0; i < lead->nasked; i++)
	{
		for (int k = 0; k < lead->asked[i].limits.n; k++)
			keys[n++] = lead->asked[i].limits.limits[k].key;
	}
	lr_counters_build(keys, n);
	pfree(keys);
}

/* Returns the lead's turn; where nothing is drawn, that of the run that acts, or one that its id names. */
static int64
first_turn(LrLive *live, Lead *lead)
{
	const LrBatch *beside = live->batch->beside;

	if (live->takes)
	{
		if (lead->live->left == 0)
		{
			lead->live->next = lr_pool_draw(lead->live->pool, 1);
			lead->live->left = 1;
		}
		lead->live->left--;
		return lead->live->next++;
	}
	if (beside && beside->runs[lead->run->beside].turn >= 0 && beside->runs[lead->run->beside].pool_revision_id == lead->live->pool->revision_id)
		return beside->runs[lead->run->beside].turn;
	return lr_hypothetical_turn(lead->run->lead_id);
}

/* Uses up turns until the one that is so much later, or, where other sessions drew in between, the first behind theirs. */
static int64
later_turn(LivePool *pool, int64 turn, int distance)
{
	int64		skipped = Min(pool->left, distance);

	/* those drawn for leads to come are drawn anew when they come */
	pool->next += skipped;
	pool->left -= skipped;
	if (skipped == distance)
		return pool->next - 1;
	pool->next = lr_pool_draw(pool->pool, (int) (distance - skipped));
	if (pool->next == turn + skipped + 1)
		pool->next += distance - skipped - 1;
	pool->left = 0;
	return pool->next++;
}

/* ---- behind it: what follows from whose the lead is ---- */

static void
settle(LrLive *live, Lead *lead)
{
	LrRun	   *run = lead->run;
	LivePool   *pool = lead->live;

	run->pool_revision_id = pool->pool->revision_id;
	if (lead->overflows)
		lr_overflow(live, lead);
	else if (lead->terms->within > 0)
		run->response_due_at = lead->terms->working_clock ? lr_working_end(run->owner_id, live->batch->as_of, lead->terms->within)
			: live->batch->as_of + lead->terms->within;
	if (pool->readings && pool->readings->state_id != 0)
	{
		lead->choice.state_id = pool->readings->state_id;
		/* the lead's own place, or, where nothing new was read, the end of what was known */
		lead->choice.position = pool->readings->events ? lead->position : pool->readings->position;
	}
	lead->choice.nexcluded = run->nexcluded;
	lead->choice.excluded = run->excluded;
	run->choice = lr_choice_write(&lead->choice);
}

