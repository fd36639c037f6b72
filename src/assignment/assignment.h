/*
 * assignment.h: who works a lead: owners and when they work, caps and their counters, pools and how they choose.
 */
#ifndef LR_ASSIGNMENT_H
#define LR_ASSIGNMENT_H

#include "leadroute.h"

#include "utils/date.h"

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

/* Leads of an owner (pool_id 0), of an owner as a member of a pool, or of a pool (owner_id 0), since a moment or open. */
typedef struct LrCounterKey
{
	Oid			database;
	int			owner_id;
	int			pool_id;
	LrPer		per;
	LrMeasure	measure;
	TimestampTz window_start;	/* 0 per open */
} LrCounterKey;

typedef struct LrCounter LrCounter;

extern void lr_counters_init(void);
extern void lr_counters_begin(void);
extern void lr_counters_end(void);
extern LrCounter *lr_counter_find(const LrCounterKey *key);
extern void lr_counters_build(const LrCounterKey *keys, int n);
extern int64 lr_counter_read(LrCounter *counter, int64 enough);
extern void lr_counter_take(LrCounter *counter, int64 amount);

/* ---- caps.c: which caps there are ---- */
typedef struct LrCap
{
	int			owner_id;		/* 0: of the pool as a whole */
	int			pool_id;		/* 0: of the owner in all */
	LrPer		per;
	int64		maximum;
	const char *timezone;
} LrCap;

extern const char *const lr_per_names[LR_N_PERS];
extern const LrCap *lr_caps_of(int owner_id, int pool_id, int *n);
extern void lr_cap_key(const LrCap *cap, TimestampTz at, LrCounterKey *key);

/* ---- pool.c ---- */
typedef struct LrPool
{
	int			pool_id;
	int			revision_id;	/* 0 as long as it is not on record */
	int			nmembers;
	int		   *owner_ids;		/* ascending */
	int		   *weights;
	bool	   *available;
	int			cycle;			/* turns until the rotation repeats; 0 if nobody is available */
	int		   *schedule;		/* of cycle places in owner_ids */
	bool		of_owner;		/* made for one owner, whom rules name */
	Oid			turns;			/* the sequence */
} LrPool;

extern LrPool *lr_pool(int pool_id);
extern LrPool *lr_pool_of_revision(int revision_id);
extern int	lr_pool_record(LrPool *pool);
extern int64 lr_pool_draw(LrPool *pool, int count);
extern int	lr_pool_owner_of_turn(const LrPool *pool, int64 turn);
extern bool lr_pool_has_available(const LrPool *pool, int owner_id);

/* ---- assign_owner.c ---- */
struct LrBatch;
extern void lr_assign_batch(struct LrBatch *batch);

#endif
