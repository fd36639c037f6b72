/*
 * duties.c: what is done when its time has come: timers of tasks and of SLAs, scheduled activations, overflows, trials, partitions.
 *
 * Each duty is a function of SQL that does what is due, at most so many at a time, and returns how many it did. Some say when
 * the next is due: the scheduler sleeps until then and looks again when a transaction has left something with a new moment. The
 * others are done every so often, not before the scheduler has been there for a minute. Each runs in a transaction of its own, and one that
 * fails keeps no other from its turn.
 *
 * What is past is not looked at each time: behind an open transaction of somebody else's, dead entries of what was done gather at
 * that end of an index. Only now and then the look goes over all.
 */
#include "workers/processes.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

/* How many of a kind are done in one transaction. */
#define AT_A_TIME 1000

/* How far back a look goes, and how often one goes back all the way. */
#define LOOK_BACK (60 * USECS_PER_SEC)
#define LOOK_AT_ALL (60 * USECS_PER_SEC)

/* Between two calls that somebody has asked for, and between those that nobody has. */
#define LOOK_APART ((int64) 50 * 1000)
#define CALL_EVERY (60 * USECS_PER_SEC)

typedef struct Duty
{
	const char *doing;
	const char *function;
	const char *call;			/* $1: how many at most */
	const char *due;			/* the next moment after $1, null: none; NULL: it is done every so many seconds */
	int			every;
} Duty;

static const Duty duties[] = {
	{"firing timers of tasks", "leadroute.fire_task_timers(integer)", "SELECT leadroute.fire_task_timers($1)",
	"SELECT leadroute.next_task_timer($1)", 0},
	{"firing timers of SLAs", "leadroute.fire_sla_timers(integer)", "SELECT leadroute.fire_sla_timers($1)",
	"SELECT min(next_at) FROM leadroute.sla_clocks WHERE next_at > $1", 0},
	{"entering activations", "leadroute.enter_activations()", "SELECT leadroute.enter_activations()",
	"SELECT min(scheduled_at) FROM leadroute.policies WHERE scheduled_at > $1", 0},
	{"giving events their positions", "leadroute.number_events(integer)", "SELECT leadroute.number_events($1)",
	"SELECT CASE WHEN EXISTS (SELECT FROM leadroute.event_arrivals) THEN clock_timestamp() END", 0},
	{"drawing overflows", "leadroute.draw_overflow(text, integer)", "SELECT leadroute.draw_overflow(NULL, $1)", NULL, 60},
	{"looking for what is stuck", "leadroute.fire_event_checks(integer)", "SELECT leadroute.fire_event_checks($1)", NULL, 60},
	{"checking trials", "leadroute.check_trials()", "SELECT leadroute.check_trials()", NULL, 60},
	{"making partitions", "leadroute.make_partitions_ahead(integer)", "SELECT leadroute.make_partitions_ahead()", NULL, 6 * 3600}
};

#define N_DUTIES ((int) lengthof(duties))

typedef struct Progress
{
	bool		exists;
	TimestampTz next;
	TimestampTz called_at;
	TimestampTz looked_at_all;
	int			in_vain;		/* calls in a row that found less than was due: somebody else has it in hand */
	int			failures;
} Progress;

static Progress progress[N_DUTIES];

/* What is in hand. */
static int	current;
static int	at_a_time;
static int64 did;

static void find(void *argument);
static void do_duty(void *argument);
static int64 call_duty(int number, int max);
static void look(int number);

/* Finds which duties there are in this database. */
void
lr_duties_find(void)
{
	(void) lr_process_transaction("starting", find, NULL);
	for (int i = 0; i < N_DUTIES; i++)
		progress[i].next = duties[i].due ? 0 : GetCurrentTimestamp() + USECS_PER_MINUTE;
}

static void
find(void *argument)
{
	LrIdentity	identity;

	lr_sql_begin(&identity);
	for (int i = 0; i < N_DUTIES; i++)
	{
		Oid			types[] = {TEXTOID};
		Datum		values[] = {CStringGetTextDatum(duties[i].function)};
		bool		isnull;

		(void) lr_sql("SELECT to_regprocedure($1)", true, 1, types, values, NULL);
		(void) lr_sql_datum(0, 1, &isnull);
		progress[i].exists = !isnull;
	}
	lr_sql_end(&identity);
}

/* Has it looked again when something is due. */
void
lr_duties_look(void)
{
	for (int i = 0; i < N_DUTIES; i++)
	{
		if (duties[i].due && progress[i].exists && progress[i].failures == 0)
			progress[i].next = Min(progress[i].next, progress[i].called_at + LOOK_APART);
	}
}

/* Does what is due; returns when the next is. */
TimestampTz
lr_duties_do(void)
{
	TimestampTz next = DT_NOEND;

	for (current = 0; current < N_DUTIES; current++)
	{
		Progress   *p = &progress[current];
		TimestampTz now = GetCurrentTimestamp();

		if (!p->exists)
			continue;
		if (p->next <= now)
		{
			at_a_time = AT_A_TIME;
			p->called_at = now;
			if (!lr_process_transaction(duties[current].doing, do_duty, NULL))
				p->next = GetCurrentTimestamp() + Min(USECS_PER_MINUTE, USECS_PER_SEC << Min(p->failures++, 10));
			else
			{
				p->failures = 0;
				if (did >= AT_A_TIME)
					p->next = now;
				else if (duties[current].due == NULL)
					p->next = now + duties[current].every * USECS_PER_SEC;
			}
			lr_process_check();
		}
		next = Min(next, p->next);
	}
	return next;
}

static void
do_duty(void *argument)
{
	did = call_duty(current, at_a_time);
	if (duties[current].due && did < at_a_time)
	{
		progress[current].in_vain = did == 0 ? progress[current].in_vain + 1 : 0;
		look(current);
	}
}

/* Looks, in a transaction of the caller's, when things are due of which nobody may have told. */
void
lr_duties_peek(void)
{
	for (int i = 0; i < N_DUTIES; i++)
	{
		if (duties[i].due && progress[i].exists && progress[i].failures == 0 && progress[i].called_at)
			look(i);
	}
}

/* Does a duty once; returns how much it found to do. */
static int64
call_duty(int number, int max)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(max)};
	bool		isnull;
	Datum		value;
	int64		n;

	lr_sql_begin(&identity);
	(void) lr_sql(duties[number].call, false, strstr(duties[number].call, "$1") ? 1 : 0, types, values, NULL);
	value = lr_sql_datum(0, 1, &isnull);
	n = isnull ? 0 : SPI_gettypeid(SPI_tuptable->tupdesc, 1) == INT8OID ? DatumGetInt64(value) : DatumGetInt32(value);
	lr_sql_end(&identity);
	return n;
}

/* Looks when a duty has something to do next. It is done once in a while in any case. */
static void
look(int number)
{
	Progress   *p = &progress[number];
	LrIdentity	identity;
	Oid			types[] = {TIMESTAMPTZOID};
	TimestampTz now = GetCurrentTimestamp();
	bool		all = now - p->looked_at_all >= LOOK_AT_ALL;
	Datum		values[] = {TimestampTzGetDatum(all ? DT_NOBEGIN : now - LOOK_BACK)};
	Datum		value;
	bool		isnull;

	lr_sql_begin(&identity);
	(void) lr_sql(duties[number].due, true, 1, types, values, NULL);
	value = lr_sql_datum(0, 1, &isnull);
	p->next = p->called_at + CALL_EVERY;
	if (!isnull)
		p->next = Min(p->next, Max(DatumGetTimestampTz(value), p->called_at + (LOOK_APART << Min(p->in_vain, 5))));
	lr_sql_end(&identity);
	if (all)
		p->looked_at_all = now;
}

/* ---- in the caller's session ---- */

void
lr_duties_begin(void)
{
	find(NULL);
}

int
lr_duties_count(void)
{
	return N_DUTIES;
}

const char *
lr_duty_doing(int number)
{
	return duties[number].doing;
}

const char *
lr_duty_function(int number)
{
	return duties[number].function;
}

/* Does a duty once, at most so much of it. Returns how much there was to do; of those that are done every so often, nothing. */
int64
lr_duty_call(int number, int max)
{
	int64		n = progress[number].exists ? call_duty(number, max) : 0;

	return duties[number].due ? n : 0;
}

/* ---- agents outside ---- */

/* Names each queue that has new tasks to those who listen; at times all that have any. */
void
lr_agents_tell(void)
{
	static TimestampTz told_all_at = 0;
	LrIdentity	identity;
	TimestampTz now = GetCurrentTimestamp();
	bool		all = now - told_all_at >= LOOK_AT_ALL;
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(all ? PG_INT64_MIN : now - LOOK_BACK)};

	lr_sql_begin(&identity);
	(void) lr_sql("SELECT pg_notify('leadroute_tasks', n.name) FROM (SELECT DISTINCT q.name FROM leadroute.task_queues q WHERE q.external AND EXISTS ("
				  "SELECT FROM leadroute.tasks t WHERE t.queue_id = q.queue_id AND t.state = 'q' AND t.place > $1)) n",
				  false, 1, types, values, NULL);
	lr_sql_end(&identity);
	if (all)
		told_all_at = now;
}
