/*
 * calendar_clock.c: time zones: what the clock shows, when days begin, and the windows that caps count over.
 *
 * Between two changes of its offset a clock runs evenly; the server's time zone library says where the changes are. Whatever
 * goes by the clock is computed for each even stretch apart, so hours that a change skips are not there, and hours that it
 * repeats are there twice.
 *
 * A day begins at the first moment at which the clock shows it, or a later one, and ends where the next day begins. So the days
 * follow each other without gaps and overlaps, also where a clock is put back over midnight; a day that a zone left out is empty.
 */
#include "assignment/calendar.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/varlena.h"

#define SECONDS_TO_UNIX ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY)

/* Clocks differ by less than a day; looking for a moment that a clock shows begins so long before it. */
#define WIDEST_OFFSET (26 * USECS_PER_HOUR)

PG_FUNCTION_INFO_V1(leadroute_timezone_mistake);
PG_FUNCTION_INFO_V1(leadroute_cap_window);

static DateADT day_at(pg_tz *zone, TimestampTz at);
static TimestampTz hour_start(pg_tz *zone, TimestampTz at, TimestampTz *end);
static bool is_plainly_known(const char *name);
static char *nearest_zone(const char *name, bool *is_one);

/* Tells whether a moment lies in dates of a time zone; from may be DATEVAL_NOBEGIN, until (the last day) DATEVAL_NOEND. */
bool
lr_day_in(const char *timezone, TimestampTz at, DateADT from, DateADT until)
{
	LrSpan		span;

	if (DATE_IS_NOBEGIN(from) && DATE_IS_NOEND(until))
		return true;
	span = lr_days(lr_zone(timezone), from, until);
	return at >= span.from && at < span.until;
}

/*
 * Returns the start of the window that a moment lies in, and where it ends. An hour that the clock shows twice is two windows; one
 * of which a change takes a part is shorter. Days, weeks and months have all hours that belong to them. Per open there is one.
 */
TimestampTz
lr_window_start(LrPer per, const char *timezone, TimestampTz at, TimestampTz *end)
{
	pg_tz	   *zone;
	DateADT		day;
	DateADT		first;
	DateADT		next;
	int			year;
	int			month;
	int			mday;

	if (per == LR_PER_OPEN)
	{
		*end = DT_NOEND;
		return 0;
	}
	zone = lr_zone(timezone);
	if (per == LR_PER_HOUR)
		return hour_start(zone, at, end);

	day = day_at(zone, at);
	switch (per)
	{
		case LR_PER_WEEK:
			/* j2day() counts from Sunday */
			first = day - (j2day(day + POSTGRES_EPOCH_JDATE) + 6) % 7;
			next = first + 7;
			break;
		case LR_PER_MONTH:
			j2date(day + POSTGRES_EPOCH_JDATE, &year, &month, &mday);
			first = day - (mday - 1);
			next = month == 12 ? date2j(year + 1, 1, 1) - POSTGRES_EPOCH_JDATE : date2j(year, month + 1, 1) - POSTGRES_EPOCH_JDATE;
			break;
		default:
			first = day;
			next = day + 1;
			break;
	}
	*end = lr_day_start(zone, next);
	return lr_day_start(zone, first);
}

/* Finds a time zone by its name. Configuration has been checked; where this server's tzdata lacks it, UTC has to do. */
pg_tz *
lr_zone(const char *timezone)
{
	static char missing[TZ_STRLEN_MAX + 1];
	pg_tz	   *zone = pg_tzset(timezone);

	if (zone != NULL)
		return zone;
	if (strncmp(missing, timezone, TZ_STRLEN_MAX) != 0)
	{
		strlcpy(missing, timezone, sizeof(missing));
		ereport(WARNING,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("there is no time zone \"%s\" on this server: UTC is used", timezone),
				errhint("Update the server's time zone data, or timezone of the rows of leadroute.owners and leadroute.pools that name it."));
	}
	return pg_tzset("UTC");
}

/* Returns what a clock shows less UTC, in microseconds, and until when that is so (DT_NOEND if for ever). */
int64
lr_clock_offset(pg_tz *zone, TimestampTz at, TimestampTz *until)
{
	pg_time_t	moment = lr_floor(at, USECS_PER_SEC) / USECS_PER_SEC + SECONDS_TO_UNIX;
	long int	offset = 0;
	bool		first = true;

	*until = DT_NOEND;
	for (;;)
	{
		long int	before;
		long int	after;
		int			before_dst;
		int			after_dst;
		pg_time_t	boundary;
		int			found = pg_next_dst_boundary(&moment, &before, &before_dst, &boundary, &after, &after_dst, zone);

		if (first && found >= 0)
			offset = before;
		first = false;
		if (found <= 0)
			break;
		if (after != offset)
		{
			*until = (boundary - SECONDS_TO_UNIX) * USECS_PER_SEC;
			break;
		}
		/* only the abbreviation changed */
		moment = boundary;
	}
	return (int64) offset * USECS_PER_SEC;
}

/* Returns when dates begin and end; from may be DATEVAL_NOBEGIN, until (the last day) DATEVAL_NOEND. */
LrSpan
lr_days(pg_tz *zone, DateADT from, DateADT until)
{
	LrSpan		span;

	span.from = lr_day_start(zone, from);
	span.until = DATE_IS_NOEND(until) ? DT_NOEND : lr_day_start(zone, until + 1);
	return span;
}

/* Returns when a day begins: the first moment at which the clock shows it or a later one. */
TimestampTz
lr_day_start(pg_tz *zone, DateADT day)
{
	int64		midnight;
	TimestampTz at;

	if (day < DATETIME_MIN_JULIAN - POSTGRES_EPOCH_JDATE)
		return DT_NOBEGIN;
	if (day >= LR_CALENDAR_END / USECS_PER_DAY)
		return DT_NOEND;
	midnight = (int64) day * USECS_PER_DAY;
	at = midnight - WIDEST_OFFSET;
	for (;;)
	{
		TimestampTz until;
		int64		offset = lr_clock_offset(zone, at, &until);

		if (midnight - offset < until)
			return Max(at, midnight - offset);
		at = until;
	}
}

/* Rounds down, below zero as well. */
int64
lr_floor(int64 value, int64 unit)
{
	int64		rest = value % unit;

	return value - (rest < 0 ? rest + unit : rest);
}

/* Returns a hint if a name is no time zone's as pg_timezone_names spells it; else null. */
Datum
leadroute_timezone_mistake(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *nearest;
	bool		is_one;

	if (is_plainly_known(name))
		PG_RETURN_NULL();
	nearest = nearest_zone(name, &is_one);
	if (is_one)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(nearest ? psprintf("Perhaps \"%s\" is meant. See pg_timezone_names.", nearest)
									 : "Give an IANA name such as Europe/Berlin: see pg_timezone_names."));
}

/* Is the SQL function cap_window(). */
Datum
leadroute_cap_window(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {[LR_PER_HOUR] = "hour",[LR_PER_DAY] = "day",[LR_PER_WEEK] = "week",[LR_PER_MONTH] = "month"};
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *timezone = text_to_cstring(PG_GETARG_TEXT_PP(1));
	TimestampTz at = PG_GETARG_TIMESTAMPTZ(2);
	TupleDesc	columns;
	Datum		values[2];
	bool		nulls[2] = {false, false};
	TimestampTz end;
	int			per;

	for (per = 0; per < (int) lengthof(names); per++)
	{
		if (strcmp(name, names[per]) == 0)
			break;
	}
	if (per == (int) lengthof(names))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("caps per \"%s\" have no windows", name),
				errhint("Give hour, day, week or month."));
	if (pg_tzset(timezone) == NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("there is no time zone \"%s\"", timezone),
				errhint("See pg_timezone_names."));
	if (TIMESTAMP_NOT_FINITE(at) || at >= LR_CALENDAR_END - USECS_PER_DAY * 31)
		ereport(ERROR,
				errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("the moment is out of range"),
				errhint("Give a moment such as now()."));
	if (get_call_result_type(fcinfo, NULL, &columns) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = TimestampTzGetDatum(lr_window_start((LrPer) per, timezone, at, &end));
	values[1] = TimestampTzGetDatum(end);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(columns), values, nulls)));
}

/* Returns the day that a moment belongs to. */
static DateADT
day_at(pg_tz *zone, TimestampTz at)
{
	TimestampTz until;
	DateADT		day = lr_floor(at + lr_clock_offset(zone, at, &until), USECS_PER_DAY) / USECS_PER_DAY;

	/* the clock was put back over midnight */
	while (lr_day_start(zone, day + 1) <= at)
		day++;
	return day;
}

static TimestampTz
hour_start(pg_tz *zone, TimestampTz at, TimestampTz *end)
{
	TimestampTz until;
	int64		offset = lr_clock_offset(zone, at, &until);
	TimestampTz start = lr_floor(at + offset, USECS_PER_HOUR) - offset;
	TimestampTz changed;

	*end = Min(start + USECS_PER_HOUR, until);
	for (;;)
	{
		(void) lr_clock_offset(zone, start, &changed);
		if (changed > at)
			return start;
		start = changed;
	}
}

/*
 * Tells, without reading the list of all zones, that a name is surely one of them. A name that the library accepts is either a
 * file's, given back as it is spelt there, or describes a zone, as EST5 does; then it has digits.
 */
static bool
is_plainly_known(const char *name)
{
	pg_tz	   *zone;

	if (!(name[0] >= 'A' && name[0] <= 'Z') || strlen(name) > TZ_STRLEN_MAX || strpbrk(name, "0123456789<") != NULL)
		return false;
	zone = pg_tzset(name);
	return zone != NULL && pg_tz_acceptable(zone) && strcmp(pg_get_timezone_name(zone), name) == 0;
}

/*
 * Returns the zone that may be meant by a name: that differs in case or few letters, or whose city it is; NULL if there is none.
 * Says also whether the name is one. Names in lower case are no zones, but say how the server's files are laid out.
 */
static char *
nearest_zone(const char *name, bool *is_one)
{
	pg_tzenum  *zones;
	pg_tz	   *zone;
	int			length = strlen(name);
	int			least = Min(length / 3, 3);
	char	   *nearest = NULL;

	*is_one = false;
	if (length > TZ_STRLEN_MAX)
		return NULL;
	zones = pg_tzenumerate_start();
	while ((zone = pg_tzenumerate_next(zones)) != NULL)
	{
		const char *known = pg_get_timezone_name(zone);
		const char *city = strrchr(known, '/');
		int			distance;

		CHECK_FOR_INTERRUPTS();
		if (!(known[0] >= 'A' && known[0] <= 'Z'))
			continue;
		*is_one |= strcmp(known, name) == 0;
		if (pg_strcasecmp(known, name) == 0 || (city && pg_strcasecmp(city + 1, name) == 0))
			distance = 0;
		else
			distance = varstr_levenshtein_less_equal(name, length, known, strlen(known), 1, 1, 1, least, true);
		if (distance < least || (distance == least && (nearest == NULL || strcmp(known, nearest) < 0)))
		{
			least = distance;
			nearest = pstrdup(known);
		}
	}
	pg_tzenumerate_end(zones);
	return nearest;
}
