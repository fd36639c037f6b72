/*
 * calendar.h: what the files about working time share: clocks, and owners as they were read.
 */
#ifndef LR_CALENDAR_H
#define LR_CALENDAR_H

#include "assignment/assignment.h"

#include "pgtime.h"

/* No work is looked for from here on: far from where timestamps end, so that sums and differences cannot overflow. */
#define LR_CALENDAR_END (END_TIMESTAMP / 2)

/* From a moment up to, and not including, another. */
typedef struct LrSpan
{
	TimestampTz from;
	TimestampTz until;
} LrSpan;

/* Part of a weekday: what the clock shows. */
typedef struct LrHours
{
	TimeADT		starts;
	TimeADT		ends;
} LrHours;

/* All working spans of a schedule in a stretch of time. */
typedef struct LrWindow
{
	TimestampTz from;
	TimestampTz until;
	int			n;
	int			room;
	LrSpan	   *spans;			/* ascending, apart from each other */
} LrWindow;

/* What owners of the same calendar, time zone and region share. */
typedef struct LrSchedule
{
	int			calendar_id;
	pg_tz	   *zone;
	const char *region;			/* "" if none */
	const LrHours *hours[7];	/* from Monday, ascending */
	int			nhours[7];
	bool		empty;			/* no hours at all */
	const DateADT *holidays;	/* ascending */
	int			nholidays;
	LrWindow	windows[2];
	int			latest;			/* the window that was used last */
} LrSchedule;

typedef struct LrOwner
{
	int			owner_id;		/* the key */
	bool		exists;
	LrSpan		dates;			/* of effect */
	LrSchedule *schedule;		/* NULL: works at all hours */
	const LrSpan *absences;		/* ascending, apart from each other */
	int			nabsences;
	LrWorking	known;			/* an answer, which holds between these two */
	TimestampTz known_from;
	TimestampTz known_until;
} LrOwner;

/* ---- calendar_clock.c: what the clock shows ---- */
extern pg_tz *lr_zone(const char *timezone);
extern int64 lr_clock_offset(pg_tz *zone, TimestampTz at, TimestampTz *until);
extern LrSpan lr_days(pg_tz *zone, DateADT from, DateADT until);
extern TimestampTz lr_day_start(pg_tz *zone, DateADT day);
extern int64 lr_floor(int64 value, int64 unit);

/* ---- calendar_owners.c: owners as read ---- */
extern LrOwner *lr_owner_read(int owner_id, TimestampTz at);
extern MemoryContext lr_owner_memory(void);

#endif
