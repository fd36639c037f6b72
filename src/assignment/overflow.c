/*
 * overflow.c: leads that nobody in their pool can take.
 *
 * Such a lead waits in the pool's overflow, visibly, with the time at which somebody may take it, and is drawn from there in order
 * (draw_overflow()). Only where nobody ever could, as things are when it comes, has it an outcome: no_rule.
 */
#include "assignment/live.h"

#include "miscadmin.h"

static TimestampTz estimate_once(LivePool *live, const Lead *lead, TimestampTz at);
static TimestampTz estimate(const LivePool *live, const Lead *lead, TimestampTz at);
static TimestampTz free_at(const LrPool *pool, const LrReading *reading, const char *timezone, TimestampTz at);
static TimestampTz skills_dropped_at(const Lead *lead, const LrMember *member, TimestampTz at);

/* Nobody can take the lead: it waits in the pool's overflow, unless nobody ever can. */
void
lr_overflow(const LrLive *live, Lead *lead)
{
	LrRun	   *run = lead->run;
	LrPool	   *pool = lead->live->pool;

	/* a draw only takes out who can be given away: somebody switched off may be back tomorrow */
	bool		stays = live->batch->cause == 'v' && run->waiting_pool_id == pool->pool_id;

	run->outcome = LR_NO_RULE;
	if (pool->non == 0 && !stays)
		run->reason = "no_available_member";
	else if (lead->match && !lead->match->anybody && !stays)
		run->reason = "no_skilled_member";
	else
	{
		run->outcome = LR_PENDING;
		run->reason = "overflow";
		run->estimated_at = estimate_once(lead->live, lead, live->batch->as_of);
		/* it waits there already: only what it waits with may be new, and its place in the queue stays (recording.c) */
		run->unchanged = live->takes && run->waiting_pool_id == pool->pool_id && (run->repeats || live->batch->cause == 'b');
	}
}

/* Estimates as estimate() does; of leads that ask for no skills the answer is the same for all of a batch. */
static TimestampTz
estimate_once(LivePool *live, const Lead *lead, TimestampTz at)
{
	CHECK_FOR_INTERRUPTS();
	if (lead->match)
		return estimate(live, lead, at);
	if (!live->estimated)
		live->estimated_at = estimate(live, lead, at);
	live->estimated = true;
	return live->estimated_at;
}

/* Estimates when somebody may take a lead: when he works, windows of caps are over, and skills are dropped. 0: nobody can tell. */
static TimestampTz
estimate(const LivePool *live, const Lead *lead, TimestampTz at)
{
	const LrPool *pool = live->pool;
	const LrReading *readings = live->readings ? live->readings->now : live->blank;
	TimestampTz of_pool = free_at(pool, &readings[pool->nmembers], pool->timezone, at);
	TimestampTz earliest = 0;

	if (of_pool == 0)
		return 0;
	for (int i = 0; i < pool->nmembers; i++)
	{
		const LrMember *member = &pool->members[i];
		TimestampTz moment = free_at(pool, &readings[i], member->timezone, at);
		LrWorking	working;

		if (!member->on || moment == 0)
			continue;
		moment = Max(moment, of_pool);
		if (lead->match && lead->match->match[i] < 0)
		{
			TimestampTz dropped = skills_dropped_at(lead, member, at);

			if (dropped == 0)
				continue;
			moment = Max(moment, dropped);
		}
		lr_owner_working(member->owner_id, moment, &working);
		if (!working.now)
			moment = working.next;
		if (!TIMESTAMP_IS_NOEND(moment) && (earliest == 0 || moment < earliest))
			earliest = moment;
	}
	return earliest;
}

/* Returns from when on a reading does not keep leads away; 0 if nobody can tell. */
static TimestampTz
free_at(const LrPool *pool, const LrReading *reading, const char *timezone, TimestampTz at)
{
	TimestampTz end;

	if (reading->code == LR_READING_FREE)
		return at;
	if (reading->code != LR_READING_CAPPED || reading->per == LR_PER_OPEN || reading->maximum == 0)
		return 0;
	(void) lr_window_start(reading->per, reading->of == LR_CAP_OF_POOL ? pool->timezone : timezone, at, &end);
	return end;
}

/* Returns when the last of the skills that a member lacks is dropped; 0 if one never is. */
static TimestampTz
skills_dropped_at(const Lead *lead, const LrMember *member, TimestampTz at)
{
	TimestampTz since = lead->run->waiting_since ? lead->run->waiting_since : at;
	TimestampTz last = at;

	for (int t = 0; t < lead->terms->nskills; t++)
	{
		const LrSkillTerm *term = &lead->terms->skills[t];

		if (lr_skill_level(member, term->name) >= term->level)
			continue;
		if (term->wait == 0)
			return 0;
		last = Max(last, since + term->wait);
	}
	return last;
}
