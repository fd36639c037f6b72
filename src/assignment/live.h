/*
 * live.h: what the files share that give leads away now: the leads in hand, their pools, and the counters they add to.
 */
#ifndef LR_LIVE_H
#define LR_LIVE_H

#include "assignment/counters.h"
#include "pipeline/pipeline.h"
#include "policy/policy.h"

/* A counter that a lead adds to, and the cap on it. */
typedef struct CappedCounter
{
	LrCounterKey key;
	int64		maximum;		/* PG_INT64_MAX: it is only counted */
	LrCapOf		of;
	LrCounter  *counter;		/* good in one section */
} CappedCounter;

/* The limits of a member, or of a pool as a whole; they hold until a window ends. */
typedef struct LrLimits
{
	TimestampTz from;
	TimestampTz until;
	uint64		section;		/* in which the counters were found */
	int			n;
	CappedCounter *limits;
} LrLimits;

/* How well members fit the skills that a rule asks for. */
typedef struct Match
{
	const LrTerms *terms;
	uint32		dropped;
	const int  *match;
	bool		anybody;		/* somebody who is on fits, now or when skills that may be dropped are */
} Match;

/* A pool that leads of the batch go to. */
typedef struct LivePool
{
	LrPool	   *pool;
	int			nturns;			/* that its leads need */
	int64		next;			/* turn */
	int64		left;			/* of those that were drawn */
	LrReadings *readings;		/* NULL where nothing is read */
	const LrReading *blank;		/* then */
	int			position;		/* of the lead in hand, from 1 */
	uint64		numbers;		/* the section in which the numbers were read */
	uint64		looked;			/* and in which those that had no room were looked at again */
	int			looked_load;	/* for a lead of this load; heavier ones that found no room since count */
	List	   *matches;
	bool		estimated;		/* when somebody may take a lead that asks for no skills */
	TimestampTz estimated_at;
} LivePool;

/* An owner who is asked before the pool. */
typedef struct Asked
{
	LrPool	   *alone;			/* the owner as a pool of one; NULL: not read yet */
	int			owner_id;
	const char *reason;
	LrLimits	limits;
} Asked;

/* A lead that is to be given away. */
typedef struct Lead
{
	LrRun	   *run;
	LivePool   *live;
	int			position;		/* among those of the pool, from 1 */
	int			nasked;			/* who is asked before the pool */
	struct Asked *asked;
	const LrTerms *terms;
	Match	   *match;			/* or NULL */
	LrChoice	choice;
	LrWants		wants;
	bool		overflows;
} Lead;

struct LrLive
{
	LrBatch    *batch;
	uint64		number;			/* no other batch of the session has it */
	bool		takes;			/* places and turns */
	bool		sectioned;		/* counters may decide */
	List	   *pools;			/* of LivePool */
	int			nleads;
	Lead	   *leads;
	HTAB	   *returned;		/* what leads of the batch count until their states change, by LrCounterKey; NULL: nothing */
};

/* limits.c */
extern LrLimits *lr_limits_of(const LrLive *live, LrPool *pool, int place);
extern void lr_limits_find(LrLimits *limits, LrPool *pool, int owner_id, TimestampTz at);
extern bool lr_limits_find_counters(LrLimits *limits, uint64 section);
extern void lr_limits_return(LrLive *live, const LrState *state);
extern bool lr_limits_read(const LrLive *live, LrLimits *limits, int64 room, const LrRun *run, uint64 section, LrReading *reading);
extern bool lr_limits_number(const LrLive *live, const LrPool *pool, const LrLimits *limits, LrReading *reading);
extern void lr_limits_take(LrLimits *limits, const LrRun *run);

/* overflow.c */
extern void lr_overflow(const LrLive *live, Lead *lead);

#endif
