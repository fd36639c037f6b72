/*
 * assignment.h: who works a lead: owners and when they work, caps and their counters, pools and how they choose.
 */
#ifndef LR_ASSIGNMENT_H
#define LR_ASSIGNMENT_H

#include "leadroute.h"

#include "utils/date.h"

struct LrState;

/* What a cap counts over; in the order of lr_per_names[]. */
typedef enum LrPer
{
	LR_PER_HOUR,
	LR_PER_DAY,
	LR_PER_WEEK,
	LR_PER_MONTH,
	LR_PER_OPEN,				/* leads that are open at a time */
	LR_N_PERS
} LrPer;

/* ---- calendar.c, calendar_clock.c: when owners work; who is no owner never does ---- */

/* Whether an owner works at a moment, by dates, hours, holidays and absences; the switch (available) is not asked. */
typedef struct LrWorking
{
	bool		now;
	TimestampTz until;			/* the first moment behind it at which that may be otherwise */
	TimestampTz next;			/* where not now: when the owner works next; DT_NOEND if not within a year */
} LrWorking;

extern void lr_owner_working(int owner_id, TimestampTz at, LrWorking *working);
/* In microseconds; the end is DT_NOEND if it is never, or behind a year without work; of 0 it is when the owner works next. */
extern int64 lr_working_time(int owner_id, TimestampTz from, TimestampTz to);
extern TimestampTz lr_working_end(int owner_id, TimestampTz from, int64 amount);
/* from: DATEVAL_NOBEGIN if always; until: the last day, DATEVAL_NOEND if there is none. */
extern bool lr_day_in(const char *timezone, TimestampTz at, DateADT from, DateADT until);
extern TimestampTz lr_window_start(LrPer per, const char *timezone, TimestampTz at, TimestampTz *end);

/* ---- counters.c: what caps are compared with ---- */
typedef enum LrMeasure
{
	LR_MEASURE_COUNT,			/* leads */
	LR_MEASURE_LOAD,			/* their loads */
	LR_MEASURE_VALUE			/* their expected values */
} LrMeasure;

/* Leads of an owner (pool_id 0), of an owner as a member of a pool, or of a pool (owner_id 0), of a window or open. */
typedef struct LrCounterKey
{
	Oid			database;
	int			owner_id;
	int			pool_id;
	LrPer		per;
	LrMeasure	measure;
	int			zero;			/* keys are compared as bytes: no gap in between */
	TimestampTz window_start;	/* 0 per open */
	TimestampTz window_end;		/* the first moment behind it; 0 per open */
} LrCounterKey;

typedef struct LrCounter LrCounter;

extern void lr_counters_init(void);
extern void lr_counters_begin(void);
extern void lr_counters_look(void);
extern void lr_counters_end(void);
extern LrCounter *lr_counter_find(const LrCounterKey *key);
extern void lr_counters_build(const LrCounterKey *keys, int n);
extern int64 lr_counter_read(LrCounter *counter, int64 enough);
extern void lr_counter_take(LrCounter *counter, int64 amount);
extern int64 lr_counter_amount(const LrCounterKey *key, int load, int64 expected_value);

/* ---- caps.c: which caps there are, and what is counted ---- */
typedef struct LrCap
{
	int			owner_id;		/* 0: of the pool as a whole */
	int			pool_id;		/* 0: of the owner in all */
	LrPer		per;
	int64		maximum;
	const char *timezone;
} LrCap;

/* Counters that one lead counts towards, at most: of three kinds, five caps each, and what two strategies ask for. */
#define LR_MAX_KEYS (3 * LR_N_PERS + 2)

extern const char *const lr_per_names[LR_N_PERS];
extern const LrCap *lr_caps_of(int owner_id, int pool_id, int *n);
extern const LrCap *lr_all_caps(int *n);
extern void lr_cap_key(const LrCap *cap, TimestampTz at, LrCounterKey *key);
extern const LrCap *lr_cap_of_key(const LrCounterKey *key, TimestampTz at);
extern int	lr_counter_keys_of(int owner_id, int pool_id, TimestampTz at, LrCounterKey *keys);

/* ---- pool.c: pools and their members as decisions read them ---- */
typedef enum LrStrategy
{
	LR_STRATEGY_ROTATION,
	LR_STRATEGY_BALANCE,
	LR_STRATEGY_LEAST_LOADED,
	LR_STRATEGY_BEST_SKILL,
	LR_STRATEGY_FIXED,
	LR_N_STRATEGIES
} LrStrategy;

typedef struct LrSkill
{
	char	   *name;
	int			level;
} LrSkill;

typedef struct LrMember
{
	int			owner_id;
	int			weight;
	int			position;
	bool		available;
	bool		on;				/* may be available at another moment */
	int64		room;			/* open leads with which a first response is in time; -1: any number */
	int			nskills;
	LrSkill    *skills;			/* languages among them */
	char	   *timezone;
	DateADT		starts_on;		/* of the membership; DATEVAL_NOBEGIN and DATEVAL_NOEND for none */
	DateADT		ends_on;
} LrMember;

struct LrLimits;

typedef struct LrPool
{
	MemoryContext memory;
	struct LrLimits *limits;	/* of the members and the pool: see limits.c */
	void	   *in_hand;		/* what live.c has of it for the batch in hand, */
	uint64		in_hand_of;		/* if that is this one */
	int			pool_id;
	int64		within;			/* microseconds until the first response, 0: who works now */
	bool		working_clock;
	TimestampTz from;			/* it is so from then */
	TimestampTz until;			/* up to then */
	int			revision_id;	/* 0 as long as it is not on record */
	uint64		revision_generation;
	int64		base;			/* the turn with which the schedule of the revision begins */
	LrStrategy	strategy;
	LrMeasure	measure;		/* that the strategy balance evens out */
	LrPer		over;
	char	   *timezone;
	int			minutes_per_lead;	/* 0 for none */
	bool		governed;		/* caps or counters decide, too */
	int			nmembers;
	LrMember   *members;		/* by owner id */
	int			non;			/* of those that are on */
	int			cycle;			/* turns until the rotation repeats; 0 if nobody is available */
	int		   *schedule;		/* of cycle places in members */
	bool		of_owner;		/* made for one owner, whom rules name */
	Oid			turns;			/* the sequence */
} LrPool;

extern const char *const lr_strategy_names[LR_N_STRATEGIES];
extern LrPool *lr_pool(int pool_id, TimestampTz at, int64 within, bool working_clock);
extern int64 lr_pool_draw(LrPool *pool, int count);
extern bool lr_pool_has_on(const LrPool *pool, int owner_id);
extern int	lr_pool_place(const LrPool *pool, int owner_id);

/* ---- revision.c: their record ---- */
extern void lr_pool_record(LrPool *pool);
extern LrPool *lr_pool_of_revision(int revision_id);

/* ---- schedule.c ---- */
extern void lr_pool_make_schedule(LrPool *pool);
extern int	lr_pool_member_of_turn(const LrPool *pool, int64 turn);

/* ---- readings.c: what was read of the members, and its record ---- */
typedef enum LrReadingCode
{
	LR_READING_FREE,
	LR_READING_CAPPED,			/* of the cap per, and whose it is, count was read, which leaves no room up to maximum */
	LR_READING_LATE				/* has so many open leads (count) that only up to maximum would be in time */
} LrReadingCode;

typedef enum LrCapOf
{
	LR_CAP_OF_OWNER,
	LR_CAP_OF_MEMBER,
	LR_CAP_OF_POOL
} LrCapOf;

typedef struct LrReading
{
	LrReadingCode code;
	LrPer		per;
	LrCapOf		of;
	int64		count;
	int64		maximum;
	int64		number;			/* that the strategy compares; 0 under those that compare none */
} LrReading;

typedef struct LrReadings
{
	LrPool	   *pool;
	LrReading  *now;			/* of each member, then of the pool itself */
	int64		state_id;		/* what they are on record as; 0 while nothing was read */
	int64		base_id;
	int			depth;
	int			position;		/* of the last event; on record, of all before */
	StringInfo	events;
} LrReadings;

extern void lr_readings_init(void);
extern LrReadings *lr_readings_begin(LrPool *pool);
extern void lr_readings_set(LrReadings *readings, int place, const LrReading *reading, int position);
extern void lr_readings_end(LrReadings *readings);
extern LrReading *lr_readings_load(LrPool *pool, int64 state_id, int position);

/* ---- choose.c: the strategies ---- */

/* What a lead asks of a member. */
typedef struct LrWants
{
	int			nexcluded;
	const int  *excluded;		/* owners */
	const int  *match;			/* how well each member's skills fit, -1: not; NULL: nothing is asked */
	int64		amount;			/* what it adds to what the strategy balances */
	int64		turn;			/* -1 where the strategy needs none */
} LrWants;

extern bool lr_strategy_turns(const LrPool *pool);
extern int	lr_choose(const LrPool *pool, const LrReading *readings, const LrWants *wants, int *distance);
struct LrTerms;
extern int	lr_skill_level(const LrMember *member, const char *skill);
extern const int *lr_match_terms(const LrPool *pool, const struct LrTerms *terms, uint32 dropped);
extern int64 lr_expected_value(const struct LrTerms *terms, const Datum *score);

/* ---- persons.c: whose lead it is ---- */
struct LrBatch;
struct LrRun;

#define LR_KNOWN_PERSON "known_person"
#define LR_ACCOUNT_OWNER "account_owner"

extern void lr_persons_find(struct LrBatch *batch);
extern void lr_person_follow(struct LrRun *run);
extern int	lr_preferred_owner(const struct LrRun *run);

/* ---- assign_owner.c ---- */
extern void lr_assign_batch(struct LrBatch *batch);
extern void lr_preference_restore(struct LrRun *run, const char *detail, int length);

/* ---- live.c: choosing for leads that are routed now ---- */
struct LrRun;
typedef struct LrLive LrLive;

extern LrLive *lr_live_begin(struct LrBatch *batch);
extern void lr_live_add(LrLive *live, struct LrRun *run);
extern void lr_live_assign(LrLive *live);

/* ---- places.c ---- */
struct LrState;
extern bool lr_place_take(int owner_id, int pool_id, int load, int64 expected_value, TimestampTz at, bool force, const struct LrState *before,
						  LrCap *full, int64 *count);

/* ---- loads.c: what an open lead counts ---- */
extern int	lr_tier_load(const char *tier, int length);

/* ---- choice.c: what a decision read to choose, on its record ---- */
typedef struct LrPreference
{
	int			owner_id;
	const char *reason;			/* known_person or account_owner */
	bool		unavailable;
	LrReading	reading;		/* otherwise: free, and has the lead, or not */
} LrPreference;

typedef struct LrChoice
{
	int64		state_id;		/* 0: nothing was read */
	int			position;
	uint32		dropped;		/* skills that were dropped, a bit each */
	int			nexcluded;
	int		   *excluded;
	int			npreferred;
	LrPreference *preferred;	/* who was asked before the pool, in order */
} LrChoice;

extern int	lr_choose_again(struct LrRun *run, LrPool *pool, const LrChoice *choice);
extern const LrPreference *lr_choice_preferred(const LrChoice *choice);
extern bytea *lr_choice_write(const LrChoice *choice);
extern void lr_choice_read(const char *data, int length, LrChoice *choice);

#endif
