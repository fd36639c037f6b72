/*
 * calendar.c: when owners work: by their dates, hours of the week, holidays and absences.
 *
 * An owner works while the clock of the owner's zone shows a time within a span of the calendar, on a day that is no holiday of
 * the owner's region, from the first to the last day of the owner, and outside absences. Without a calendar all hours are
 * working hours, holidays too.
 *
 * A schedule's spans are computed for a stretch of days at a time and kept, two stretches per schedule: around the moment that
 * statements ask about, and wherever else one looks. All questions are answered by going from span to span; the answers are
 * functions of the tables and the moments asked about, never of what happens to be kept.
 */
#include "assignment/calendar.h"

#include "catalog/pg_type.h"
#include "common/int.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/memutils.h"

/* How far a stretch reaches, and how far one looks for the next span. */
#define STRETCH (8 * USECS_PER_DAY)
#define HORIZON (366 * USECS_PER_DAY)

PG_FUNCTION_INFO_V1(leadroute_owner_working);
PG_FUNCTION_INFO_V1(leadroute_next_working_time);
PG_FUNCTION_INFO_V1(leadroute_working_time);
PG_FUNCTION_INFO_V1(leadroute_working_time_end);

static bool next_span(LrOwner *owner, TimestampTz at, TimestampTz limit, LrSpan *span);
static bool next_scheduled(LrSchedule *schedule, TimestampTz at, TimestampTz limit, LrSpan *span);
static const LrSpan *first_behind(const LrSpan *spans, int n, TimestampTz at);
static LrWindow *window_at(LrSchedule *schedule, TimestampTz at);
static void compute_window(LrSchedule *schedule, LrWindow *window, TimestampTz from);
static void compute_day(LrSchedule *schedule, LrWindow *window, DateADT day, int64 offset, TimestampTz from, TimestampTz until);
static bool is_holiday(const LrSchedule *schedule, DateADT day);
static void add_span(LrWindow *window, TimestampTz from, TimestampTz until);
static TimestampTz later(TimestampTz at, int64 amount);
static int	owner_argument(FunctionCallInfo fcinfo);
static TimestampTz moment_argument(FunctionCallInfo fcinfo, int argument);

/* Tells whether an owner works at a moment, until when that is so, and when the owner works next. An owner who is not there never does. */
void
lr_owner_working(int owner_id, TimestampTz at, LrWorking *working)
{
	LrOwner    *owner = lr_owner_read(owner_id, at);
	LrSpan		span;

	if (at >= owner->known_from && at < owner->known_until)
	{
		*working = owner->known;
		return;
	}
	if (next_span(owner, at, later(at, HORIZON), &span))
	{
		working->now = span.from <= at;
		working->until = working->now ? span.until : span.from;
		working->next = span.from;
		owner->known = *working;
		owner->known_from = at;
		owner->known_until = working->until;
	}
	else
	{
		working->now = false;
		working->until = later(at, HORIZON);
		working->next = DT_NOEND;
	}
}

/* Returns how many microseconds an owner works from one moment up to another. */
int64
lr_working_time(int owner_id, TimestampTz from, TimestampTz to)
{
	LrOwner    *owner = lr_owner_read(owner_id, from);
	LrSpan		span = {from, from};
	int64		amount = 0;

	to = Min(to, LR_CALENDAR_END);
	while (next_span(owner, span.until, to, &span))
	{
		CHECK_FOR_INTERRUPTS();
		amount += Min(span.until, to) - span.from;
		if (span.until >= to)
			break;
	}
	return amount;
}

/*
 * Returns when an owner who begins at a moment has worked so many microseconds; of 0, when the owner works next. DT_NOEND if that is
 * never, as far as is known, or the owner does not work for a year meanwhile.
 */
TimestampTz
lr_working_end(int owner_id, TimestampTz from, int64 amount)
{
	LrOwner    *owner = lr_owner_read(owner_id, from);
	LrSpan		span = {from, from};

	while (next_span(owner, span.until, later(span.until, HORIZON), &span))
	{
		TimestampTz end;

		CHECK_FOR_INTERRUPTS();
		/* what works at all hours has a span without end */
		if (!pg_add_s64_overflow(span.from, Max(amount, 0), &end) && end <= span.until)
			return end;
		amount -= span.until - span.from;
	}
	return DT_NOEND;
}

/* Is the SQL function owner_working(). */
Datum
leadroute_owner_working(PG_FUNCTION_ARGS)
{
	LrWorking	working;

	lr_refuse_nulls(fcinfo);
	lr_owner_working(owner_argument(fcinfo), moment_argument(fcinfo, 1), &working);
	PG_RETURN_BOOL(working.now);
}

/* Is the SQL function next_working_time(). */
Datum
leadroute_next_working_time(PG_FUNCTION_ARGS)
{
	LrWorking	working;
	TimestampTz at;

	lr_refuse_nulls(fcinfo);
	at = moment_argument(fcinfo, 1);
	lr_owner_working(owner_argument(fcinfo), at, &working);
	if (working.now)
		PG_RETURN_TIMESTAMPTZ(at);
	if (TIMESTAMP_IS_NOEND(working.next))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(working.next);
}

/* Is the SQL function working_time(). */
Datum
leadroute_working_time(PG_FUNCTION_ARGS)
{
	Interval   *amount;

	lr_refuse_nulls(fcinfo);
	amount = palloc0(sizeof(Interval));
	amount->time = lr_working_time(owner_argument(fcinfo), moment_argument(fcinfo, 1), moment_argument(fcinfo, 2));
	PG_RETURN_INTERVAL_P(amount);
}

/* Is the SQL function working_time_end(). */
Datum
leadroute_working_time_end(PG_FUNCTION_ARGS)
{
	Interval   *amount;
	TimestampTz end;

	lr_refuse_nulls(fcinfo);
	amount = PG_GETARG_INTERVAL_P(2);
	if (amount->month != 0 || amount->day != 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("an amount of working time has no days or months"),
				errhint("Give hours and minutes, such as interval '8 hours'."));
	if (amount->time < 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("an amount of working time cannot be negative"),
				errhint("Give hours and minutes, such as interval '8 hours'."));
	end = lr_working_end(owner_argument(fcinfo), moment_argument(fcinfo, 1), amount->time);
	if (TIMESTAMP_IS_NOEND(end))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(end);
}

/* Finds the first span before a limit in which an owner works at or behind a moment. It begins at that moment or later. */
static bool
next_span(LrOwner *owner, TimestampTz at, TimestampTz limit, LrSpan *span)
{
	if (!owner->exists)
		return false;
	at = Max(at, owner->dates.from);
	limit = Min(Min(limit, owner->dates.until), LR_CALENDAR_END);
	while (at < limit)
	{
		const LrSpan *absence = first_behind(owner->absences, owner->nabsences, at);

		CHECK_FOR_INTERRUPTS();
		if (absence && absence->from <= at)
		{
			at = absence->until;
			continue;
		}
		if (owner->schedule == NULL)
			*span = (LrSpan) {at, DT_NOEND};
		else if (!next_scheduled(owner->schedule, at, limit, span))
			return false;
		else if (span->from > at)
		{
			at = span->from;
			continue;
		}
		span->from = at;
		span->until = Min(span->until, owner->dates.until);
		if (absence)
			span->until = Min(span->until, absence->from);
		return true;
	}
	return false;
}

/* Finds the first span of a schedule before a limit that holds a moment or begins behind it. */
static bool
next_scheduled(LrSchedule *schedule, TimestampTz at, TimestampTz limit, LrSpan *span)
{
	if (schedule->empty)
		return false;
	while (at < limit)
	{
		LrWindow   *window = window_at(schedule, at);
		const LrSpan *found = first_behind(window->spans, window->n, at);

		CHECK_FOR_INTERRUPTS();
		if (found)
		{
			*span = *found;
			return found->from < limit;
		}
		at = window->until;
	}
	return false;
}

/* Returns the first of ascending spans that ends behind a moment, or NULL. */
static const LrSpan *
first_behind(const LrSpan *spans, int n, TimestampTz at)
{
	int			low = 0;
	int			high = n;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (spans[middle].until > at)
			high = middle;
		else
			low = middle + 1;
	}
	return low < n ? &spans[low] : NULL;
}

/* Returns the stretch of a schedule that holds a moment; computes it, in place of the one not used last, if there is none. */
static LrWindow *
window_at(LrSchedule *schedule, TimestampTz at)
{
	for (int i = 0; i < 2; i++)
	{
		LrWindow   *window = &schedule->windows[schedule->latest ^ i];

		if (at >= window->from && at < window->until)
		{
			schedule->latest ^= i;
			return window;
		}
	}
	schedule->latest ^= 1;
	compute_window(schedule, &schedule->windows[schedule->latest], at);
	return &schedule->windows[schedule->latest];
}

/* Goes along the clock, from one change of its offset to the next, and day by day between. */
static void
compute_window(LrSchedule *schedule, LrWindow *window, TimestampTz from)
{
	TimestampTz end = from + STRETCH;
	TimestampTz at = from;

	/* not to be used if this is interrupted */
	window->from = window->until = from;
	window->n = 0;
	while (at < end)
	{
		TimestampTz until;
		int64		offset = lr_clock_offset(schedule->zone, at, &until);

		until = Min(until, end);
		for (DateADT day = lr_floor(at + offset, USECS_PER_DAY) / USECS_PER_DAY; (int64) day * USECS_PER_DAY - offset < until; day++)
			compute_day(schedule, window, day, offset, at, until);
		at = until;
	}
	window->until = end;
}

/* Adds a day's spans, as far as they lie in a stretch of constant offset. */
static void
compute_day(LrSchedule *schedule, LrWindow *window, DateADT day, int64 offset, TimestampTz from, TimestampTz until)
{
	TimestampTz midnight = (int64) day * USECS_PER_DAY - offset;
	/* j2day() counts from Sunday */
	int			weekday = (j2day(day + POSTGRES_EPOCH_JDATE) + 6) % 7;
	const LrHours *hours = schedule->hours[weekday];

	if (schedule->nhours[weekday] == 0 || is_holiday(schedule, day))
		return;
	for (int i = 0; i < schedule->nhours[weekday]; i++)
	{
		TimestampTz starts = Max(from, midnight + hours[i].starts);
		TimestampTz ends = Min(until, midnight + hours[i].ends);

		if (starts < ends)
			add_span(window, starts, ends);
	}
}

static bool
is_holiday(const LrSchedule *schedule, DateADT day)
{
	int			low = 0;
	int			high = schedule->nholidays;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (schedule->holidays[middle] >= day)
			high = middle;
		else
			low = middle + 1;
	}
	return low < schedule->nholidays && schedule->holidays[low] == day;
}

/* Appends a span; one that touches the last continues it, or overlaps it, where hours came in that nobody checked. */
static void
add_span(LrWindow *window, TimestampTz from, TimestampTz until)
{
	if (window->n > 0 && window->spans[window->n - 1].until >= from)
	{
		window->spans[window->n - 1].until = Max(window->spans[window->n - 1].until, until);
		return;
	}
	if (window->n == window->room)
	{
		int			room = Max(32, 2 * window->room);

		window->spans = window->spans ? repalloc(window->spans, sizeof(LrSpan) * room) : MemoryContextAlloc(lr_owner_memory(), sizeof(LrSpan) * room);
		window->room = room;
	}
	window->spans[window->n++] = (LrSpan) {from, until};
}

/* Adds to a moment, up to where the calendar ends. */
static TimestampTz
later(TimestampTz at, int64 amount)
{
	return at >= LR_CALENDAR_END - amount ? LR_CALENDAR_END : at + amount;
}

/* Finds the owner whose reference is the first argument. */
static int
owner_argument(FunctionCallInfo fcinfo)
{
	LrIdentity	identity;
	Oid			types[] = {TEXTOID};
	Datum		values[] = {PG_GETARG_DATUM(0)};
	int			owner_id;

	lr_sql_begin(&identity);
	if (lr_sql("SELECT owner_id FROM leadroute.owners WHERE reference = $1", true, 1, types, values, NULL) == 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("there is no owner \"%s\"", text_to_cstring(PG_GETARG_TEXT_PP(0))),
				errhint("See the column reference of leadroute.owners."));
	owner_id = lr_sql_int32(0, 1, 0);
	lr_sql_end(&identity);
	return owner_id;
}

static TimestampTz
moment_argument(FunctionCallInfo fcinfo, int argument)
{
	TimestampTz at = PG_GETARG_TIMESTAMPTZ(argument);

	if (TIMESTAMP_NOT_FINITE(at) || at >= LR_CALENDAR_END)
		ereport(ERROR,
				errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("the moment is out of range"),
				errhint("Give a moment such as now()."));
	return at;
}
