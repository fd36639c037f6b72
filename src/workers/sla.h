/*
 * sla.h: what the files about SLAs share: the clock of a lead.
 */
#ifndef LR_SLA_H
#define LR_SLA_H

#include "pipeline/by_hand.h"

/* Moments are 0 for null. */
typedef struct LrClock
{
	int64		lead_id;
	int64		run_id;
	TimestampTz started_at;
	TimestampTz due_at;
	TimestampTz next_at;
	int			policy_version_id;
	int			rule_no;
	int			owner_id;
	int			rung;			/* how many were climbed */
	int			moves;			/* how often the ladder moved the lead */
	bool		breached;
	LrTerms    *terms;			/* of its rule */
	LrSla	   *sla;			/* that of the terms */
} LrClock;

#define LR_CLOCK_COLUMNS "c.lead_id, c.run_id, c.started_at, c.due_at, c.policy_version_id, c.rule_no, c.owner_id, c.rung, c.moves, c.breached"

/* sla.c */
extern void lr_clock_read(uint64 row, LrClock *clock);
extern bool lr_clock_find_terms(LrClock *clock, const LrClock *others, int nothers);
extern TimestampTz lr_clock_moment(const LrClock *clock, int64 amount);
extern TimestampTz lr_clock_next(const LrClock *clock);
extern void lr_clock_set_next(LrClock *clock);
extern void lr_clock_write(const LrClock *clock);

#endif
