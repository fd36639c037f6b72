/*
 * pending.c: the work of background workers in the caller's session, where there are none.
 *
 * All of it is one transaction, the caller's; what fails in it must not undo the rest, nor keep the rest from being done the
 * next time. So each duty, and each batch of tasks, is a subtransaction. A task whose function ends it is reported as executors do it.
 */
#include "workers/processes.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/elog.h"

PG_FUNCTION_INFO_V1(leadroute_run_pending);

/* What a subtransaction does, and how much it found to do. */
typedef struct Part
{
	int			duty;			/* -1: tasks */
	int			max;
	int64		did;
} Part;

static int64 do_part(int duty, int max);
static void part_body(void *argument);
static bool is_of_task(int sqlstate);
static bool is_of_duty(int sqlstate);

/* Does what workers do, in the caller's transaction; see the SQL comment. */
Datum
leadroute_run_pending(PG_FUNCTION_ARGS)
{
	int			max;
	LrIdentity	identity;
	int64		total = 0;
	int			nest;

	(void) lr_catalog();
	lr_refuse_nulls(fcinfo);
	max = PG_GETARG_INT32(0);
	if (max < 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("max is negative: %d", max),
				errhint("Say how many tasks to do at most."));
	PreventCommandIfReadOnly("run_pending()");
	if (lr_is_copy())
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("this database is a copy: its workers, timers and deliveries are off"),
				errhint("Once nothing else acts for these leads, call leadroute.resume_after_restore()."));
	lr_become_owner(&identity);
	nest = lr_search_path_enter();
	lr_duties_begin();
	for (int i = 0; i < lr_duties_count(); i++)
		total += do_part(i, Max(max, 1));
	while (max > 0)
	{
		int64		did = do_part(-1, Min(max, lr_tasks_per_transaction));

		if (did == 0)
			break;
		total += did;
		max -= (int) did;
		CHECK_FOR_INTERRUPTS();
	}
	lr_agents_tell();
	lr_settings_leave(nest);
	lr_restore_identity(&identity);
	PG_RETURN_INT64(total);
}

/* Does a duty, or some tasks; returns how much there was to do. */
static int64
do_part(int duty, int max)
{
	Part		part = {.duty = duty,.max = max};
	int			sqlstate;

	/* raises what is the session's own affair, or nobody's in particular */
	if (lr_guard_if(part_body, &part, duty < 0 ? is_of_task : is_of_duty, &sqlstate))
		return part.did;
	if (duty < 0)
	{
		/* without the task that failed the others get on */
		lr_work_report_failed();
		return 1;
	}
	ereport(WARNING,
			errcode(sqlstate),
			errmsg("%s failed: SQLSTATE %s", lr_duty_doing(duty), unpack_sql_state(sqlstate)),
			errdetail("The rest is done all the same."),
			errhint("Call the function alone to see its message: %s.", lr_duty_function(duty)));
	return 0;
}

static void
part_body(void *argument)
{
	Part	   *part = argument;

	part->did = part->duty < 0 ? lr_work(part->max) : lr_duty_call(part->duty, part->max);
}

/* A snapshot of the whole transaction's does not get better: its conflicts are the session's own affair. */
static bool
is_hopeless(int sqlstate)
{
	return IsolationUsesXactSnapshot() && ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_TO_CATEGORY(MAKE_SQLSTATE('4', '0', '0', '0', '0'));
}

static bool
is_of_task(int sqlstate)
{
	return lr_work_failed(sqlstate) && !is_hopeless(sqlstate);
}

static bool
is_of_duty(int sqlstate)
{
	return sqlstate != ERRCODE_QUERY_CANCELED && !is_hopeless(sqlstate);
}
