/*
 * window.c: the hour, day, week or month of the clock in a time zone that a moment lies in.
 */
#include "assignment/assignment.h"

#include "pgtime.h"
#include "utils/datetime.h"

static TimestampTz local_midnight(pg_tz *zone, int year, int month, int day);

/* Returns when the window began, and its end, the first moment behind it. */
TimestampTz
lr_window_start(LrPer per, const char *timezone, TimestampTz at, TimestampTz *end)
{
	pg_tz	   *zone = pg_tzset(timezone);
	struct pg_tm tm;
	fsec_t		fraction;
	int			offset;
	int			julian;
	int			year;
	int			month;
	int			day;

	if (per == LR_PER_OPEN)
	{
		*end = DT_NOEND;
		return 0;
	}
	if (zone == NULL || timestamp2tm(at, &offset, &tm, &fraction, NULL, zone) != 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("time zone \"%s\" is not known", timezone),
				errhint("Give a name of pg_timezone_names, such as Europe/Berlin."));
	if (per == LR_PER_HOUR)
	{
		TimestampTz start = at - (tm.tm_min * SECS_PER_MINUTE + tm.tm_sec) * USECS_PER_SEC - fraction;

		*end = start + USECS_PER_HOUR;
		return start;
	}
	if (per == LR_PER_MONTH)
	{
		*end = tm.tm_mon == 12 ? local_midnight(zone, tm.tm_year + 1, 1, 1) : local_midnight(zone, tm.tm_year, tm.tm_mon + 1, 1);
		return local_midnight(zone, tm.tm_year, tm.tm_mon, 1);
	}
	julian = date2j(tm.tm_year, tm.tm_mon, tm.tm_mday);
	if (per == LR_PER_WEEK)
		julian -= (j2day(julian) + 6) % 7;
	j2date(julian + (per == LR_PER_WEEK ? 7 : 1), &year, &month, &day);
	*end = local_midnight(zone, year, month, day);
	j2date(julian, &year, &month, &day);
	return local_midnight(zone, year, month, day);
}

static TimestampTz
local_midnight(pg_tz *zone, int year, int month, int day)
{
	struct pg_tm tm = {.tm_year = year,.tm_mon = month,.tm_mday = day,.tm_isdst = -1};
	int			offset = DetermineTimeZoneOffset(&tm, zone);
	TimestampTz moment;

	if (tm2timestamp(&tm, 0, &offset, &moment) != 0)
		ereport(ERROR,
				errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("timestamp out of range"));
	return moment;
}
