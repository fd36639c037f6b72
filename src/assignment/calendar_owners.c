/*
 * calendar_owners.c: owners and their calendars as they were read, kept by the session.
 *
 * Who is asked for an owner will ask for the others of the same pools: they are read together, in a fixed number of
 * statements. Hours and holidays belong to schedules, which owners of the same calendar, time zone and region share; so do the
 * spans that are computed from them. All of it goes when one of the tables changes. Nothing of it is handed out of these files.
 *
 * Absences pile up, and hardly anybody asks about last year's: only those of the last weeks and later ones are read, until
 * somebody asks about an earlier moment.
 */
#include "assignment/calendar.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#define ABSENCES_BEFORE_NOW (35 * USECS_PER_DAY)

static MemoryContext memory = NULL;
static HTAB *owners;			/* of LrOwner */
static List *schedules;			/* of LrSchedule */
static TimestampTz absences_since;
static uint64 read_generation;
static bool usable = false;		/* false also where reading was interrupted */

static void reset(uint64 generation, TimestampTz since);
static uint64 generation_now(void);
static void read_owners(int owner_id);
static void enter_owner(uint64 row, List **added);
static LrSchedule *schedule_of(int calendar_id, pg_tz *zone, const char *region, List **added);
static void read_absences(Datum owner_ids);
static void read_hours(List *added);
static int	first_of(const int *values, int n, int value);
static void read_holidays(List *added);
static bool lies_in(const char *region, const char *larger);
static int	compare_days(const void *a, const void *b);
static Datum int_array(Datum *ids, int n);

/* Returns an owner as the tables are now, for questions about a moment and later ones; good until the next call. */
LrOwner *
lr_owner_read(int owner_id, TimestampTz at)
{
	uint64		generation = generation_now();
	LrOwner    *owner;

	if (!usable || generation != read_generation)
		reset(generation, GetCurrentTransactionStartTimestamp() - ABSENCES_BEFORE_NOW);
	if (at < absences_since)
		reset(generation, DT_NOBEGIN);
	owner = hash_search(owners, &owner_id, HASH_FIND, NULL);
	if (unlikely(owner == NULL))
	{
		usable = false;
		read_owners(owner_id);
		usable = true;
		owner = hash_search(owners, &owner_id, HASH_FIND, NULL);
	}
	return owner;
}

/* Returns where what belongs to owners and schedules lives. */
MemoryContext
lr_owner_memory(void)
{
	return memory;
}

static void
reset(uint64 generation, TimestampTz since)
{
	HASHCTL		control = {.keysize = sizeof(int),.entrysize = sizeof(LrOwner)};

	usable = false;
	if (memory == NULL)
		memory = AllocSetContextCreate(CacheMemoryContext, "leadroute calendars", ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(memory);
	control.hcxt = memory;
	owners = hash_create("leadroute owners", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	schedules = NIL;
	absences_since = since;
	read_generation = generation;
	usable = true;
}

static uint64
generation_now(void)
{
	return lr_table_generation(LR_TABLE_OWNERS) + lr_table_generation(LR_TABLE_CALENDARS) + lr_table_generation(LR_TABLE_CALENDAR_HOURS)
		+ lr_table_generation(LR_TABLE_HOLIDAYS) + lr_table_generation(LR_TABLE_ABSENCES);
}

/* Reads an owner and those who share a pool with it, but for whom we have. */
static void
read_owners(int owner_id)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(owner_id)};
	List	   *added = NIL;
	Datum	   *ids;
	uint64		n;
	bool		found;
	LrOwner    *owner;

	/* who is not there has an entry as well */
	owner = hash_search(owners, &owner_id, HASH_ENTER, &found);
	memset(owner, 0, sizeof(LrOwner));
	owner->owner_id = owner_id;

	lr_sql_begin(&identity);
	n = lr_sql("SELECT o.owner_id, o.timezone, o.region, o.starts_on, o.ends_on, o.calendar_id FROM leadroute.owners o"
			   " WHERE o.owner_id IN (SELECT $1 UNION SELECT fellow.owner_id FROM leadroute.pool_members m JOIN leadroute.pool_members fellow USING (pool_id)"
			   " WHERE m.owner_id = $1)", true, 1, types, values, NULL);
	ids = palloc(sizeof(Datum) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;

		ids[i] = lr_sql_datum(i, 1, &isnull);
		enter_owner(i, &added);
	}
	if (n > 0)
		read_absences(int_array(ids, (int) n));
	if (added != NIL)
	{
		read_hours(added);
		read_holidays(added);
	}
	lr_sql_end(&identity);
}

/* Takes up an owner from a row of the result. */
static void
enter_owner(uint64 row, List **added)
{
	int			owner_id = lr_sql_int32(row, 1, 0);
	pg_tz	   *zone = lr_zone(lr_sql_text(row, 2));
	char	   *region = lr_sql_text(row, 3);
	int			calendar_id = lr_sql_int32(row, 6, 0);
	bool		found;
	bool		starts_null;
	bool		ends_null;
	Datum		starts = lr_sql_datum(row, 4, &starts_null);
	Datum		ends = lr_sql_datum(row, 5, &ends_null);
	bool		works_always;
	LrOwner    *owner = hash_search(owners, &owner_id, HASH_ENTER, &found);

	if (found && owner->exists)
		return;
	memset(owner, 0, sizeof(LrOwner));
	owner->owner_id = owner_id;
	owner->exists = true;
	owner->dates = lr_days(zone, starts_null ? DATEVAL_NOBEGIN : DatumGetDateADT(starts), ends_null ? DATEVAL_NOEND : DatumGetDateADT(ends));
	owner->known_from = owner->known_until = DT_NOBEGIN;
	(void) lr_sql_datum(row, 6, &works_always);
	if (!works_always)
		owner->schedule = schedule_of(calendar_id, zone, region ? region : "", added);
}

/* Finds or makes a schedule; a new one, whose hours and holidays are still to be read, is added to the list. */
static LrSchedule *
schedule_of(int calendar_id, pg_tz *zone, const char *region, List **added)
{
	MemoryContext saved;
	LrSchedule *schedule;
	ListCell   *cell;

	foreach(cell, schedules)
	{
		schedule = lfirst(cell);
		if (schedule->calendar_id == calendar_id && schedule->zone == zone && strcmp(schedule->region, region) == 0)
			return schedule;
	}
	saved = MemoryContextSwitchTo(memory);
	schedule = palloc0(sizeof(LrSchedule));
	schedule->calendar_id = calendar_id;
	schedule->zone = zone;
	schedule->region = pstrdup(region);
	schedule->empty = true;
	schedules = lappend(schedules, schedule);
	MemoryContextSwitchTo(saved);
	*added = lappend(*added, schedule);
	return schedule;
}

/* Gives owners their absences; those that overlap or touch become one. */
static void
read_absences(Datum owner_ids)
{
	Oid			types[] = {INT4ARRAYOID, TIMESTAMPTZOID};
	Datum		values[] = {owner_ids, TimestampTzGetDatum(absences_since)};
	LrOwner    *owner = NULL;
	LrSpan	   *spans;
	uint64		n;

	n = lr_sql("SELECT owner_id, starts_at, coalesce(ends_at, 'infinity') FROM leadroute.absences"
			   " WHERE owner_id = ANY ($1) AND coalesce(ends_at, 'infinity') >= $2 ORDER BY owner_id, starts_at", true, 2, types, values, NULL);
	spans = MemoryContextAllocHuge(memory, sizeof(LrSpan) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		int			owner_id = lr_sql_int32(i, 1, 0);
		bool		isnull;
		TimestampTz from = DatumGetTimestampTz(lr_sql_datum(i, 2, &isnull));
		TimestampTz until = DatumGetTimestampTz(lr_sql_datum(i, 3, &isnull));

		if (owner == NULL || owner->owner_id != owner_id)
		{
			/* the rows of an owner whom we had before come again */
			owner = hash_search(owners, &owner_id, HASH_FIND, NULL);
			owner->absences = spans;
			owner->nabsences = 0;
		}
		else if (spans[-1].until >= from)
		{
			spans[-1].until = Max(spans[-1].until, until);
			continue;
		}
		*spans++ = (LrSpan) {from, until};
		owner->nabsences++;
	}
}

static void
read_hours(List *added)
{
	Oid			types[] = {INT4ARRAYOID};
	Datum		values[1];
	Datum	   *ids = palloc(sizeof(Datum) * list_length(added));
	int		   *calendars;
	int		   *weekdays;
	LrHours    *hours;
	int			n;
	ListCell   *cell;

	foreach(cell, added)
		ids[foreach_current_index(cell)] = Int32GetDatum(((LrSchedule *) lfirst(cell))->calendar_id);
	values[0] = int_array(ids, list_length(added));
	n = (int) lr_sql("SELECT calendar_id, weekday, starts, ends FROM leadroute.calendar_hours WHERE calendar_id = ANY ($1) ORDER BY 1, 2, 3",
					 true, 1, types, values, NULL);
	calendars = palloc(sizeof(int) * Max(n, 1));
	weekdays = palloc(sizeof(int) * Max(n, 1));
	hours = MemoryContextAlloc(memory, sizeof(LrHours) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		bool		isnull;

		calendars[i] = lr_sql_int32(i, 1, 0);
		weekdays[i] = lr_sql_int32(i, 2, 1) - 1;
		hours[i].starts = DatumGetTimeADT(lr_sql_datum(i, 3, &isnull));
		hours[i].ends = DatumGetTimeADT(lr_sql_datum(i, 4, &isnull));
	}
	foreach(cell, added)
	{
		LrSchedule *schedule = lfirst(cell);

		for (int i = first_of(calendars, n, schedule->calendar_id); i < n && calendars[i] == schedule->calendar_id; i++)
		{
			if (schedule->nhours[weekdays[i]]++ == 0)
				schedule->hours[weekdays[i]] = &hours[i];
			schedule->empty = false;
		}
	}
}

/* Returns the first place of a value in an ascending array, or where it would be. */
static int
first_of(const int *values, int n, int value)
{
	int			low = 0;

	while (low < n)
	{
		int			middle = (low + n) / 2;

		if (values[middle] >= value)
			n = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* Gives schedules the holidays of their regions and of those that these lie in. */
static void
read_holidays(List *added)
{
	Oid			types[] = {TEXTARRAYOID};
	Datum		values[1];
	Datum	   *regions = palloc(sizeof(Datum) * list_length(added));
	char	  **names;
	DateADT    *days;
	uint64		n;
	ListCell   *cell;

	foreach(cell, added)
		regions[foreach_current_index(cell)] = CStringGetTextDatum(((LrSchedule *) lfirst(cell))->region);
	values[0] = PointerGetDatum(construct_array(regions, list_length(added), TEXTOID, -1, false, TYPALIGN_INT));
	n = lr_sql("SELECT h.region, h.day FROM leadroute.holidays h WHERE h.region IN (SELECT array_to_string(p.parts[1:i], '-')"
			   " FROM (SELECT DISTINCT string_to_array(r, '-') FROM unnest($1) r) p (parts), generate_series(1, cardinality(p.parts)) i)",
			   true, 1, types, values, NULL);
	names = palloc(sizeof(char *) * Max(n, 1));
	days = palloc(sizeof(DateADT) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;

		names[i] = lr_sql_text(i, 1);
		days[i] = DatumGetDateADT(lr_sql_datum(i, 2, &isnull));
	}
	foreach(cell, added)
	{
		LrSchedule *schedule = lfirst(cell);
		LrSchedule *twin = NULL;
		ListCell   *before;
		DateADT    *mine;

		foreach(before, schedules)
		{
			twin = lfirst(before);
			if (twin->holidays && strcmp(twin->region, schedule->region) == 0)
				break;
			twin = NULL;
		}
		if (twin)
		{
			schedule->holidays = twin->holidays;
			schedule->nholidays = twin->nholidays;
			continue;
		}
		mine = MemoryContextAlloc(memory, sizeof(DateADT) * Max(n, 1));
		for (uint64 i = 0; i < n; i++)
		{
			if (lies_in(schedule->region, names[i]))
				mine[schedule->nholidays++] = days[i];
		}
		qsort(mine, schedule->nholidays, sizeof(DateADT), compare_days);
		schedule->holidays = mine;
	}
}

/* Tells whether a region is another one or a part of it. */
static bool
lies_in(const char *region, const char *larger)
{
	size_t		length = strlen(larger);

	return strncmp(region, larger, length) == 0 && (region[length] == '\0' || region[length] == '-');
}

static int
compare_days(const void *a, const void *b)
{
	DateADT		one = *(const DateADT *) a;
	DateADT		other = *(const DateADT *) b;

	return one < other ? -1 : one > other;
}

static Datum
int_array(Datum *ids, int n)
{
	return PointerGetDatum(construct_array(ids, n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
}
