/*
 * sql_agent.c: running an SQL agent: a function of the team's, in the inserting transaction.
 *
 * The function gets one object: the lead's attributes that are known, and the outputs of the steps so far under their
 * capabilities. It runs as its owner, who registered it, in a security-restricted operation, with a search path of
 * pg_catalog alone unless it sets its own, and in an internal subtransaction:
 * whatever it raises about data fails the step, not the statement. What it returns, an object, is the step's output.
 * Where nothing is to be written, the function may not write either: that raises, and the evaluation ends.
 */
#include "agents/agents.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "pipeline/pipeline.h"
#include "policy/policy.h"
#include "provenance/provenance.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

typedef struct Call
{
	LrStep	   *step;
	LrAgent    *agent;
	LrRun	   *run;
	FmgrInfo   *function;
	Datum		result;
	const char *place;			/* of a failure that is not the function's own; or NULL */
} Call;

static void call(void *argument);

/* Runs the step's function for one lead. */
void
lr_sql_agent_run(LrStep *step, LrRun *run)
{
	int			sqlstate;
	const char *place;

	if (!lr_sql_agent_try(step, step->agent, run, &sqlstate, &place))
		lr_run_fail(run, step, sqlstate, place);
}

/* Runs the function of an agent for one lead, and gives the output; false if it failed. */
bool
lr_sql_agent_try(LrStep *step, LrAgent *agent, LrRun *run, int *sqlstate, const char **place)
{
	Call		work = {.step = step,.agent = agent,.run = run};
	FmgrInfo	again;
	bool		running = agent->running;
	volatile bool done = false;

	/* a function of language SQL keeps its state where it was looked up: one that comes back to itself needs another place */
	if (agent->running)
		fmgr_info_cxt(agent->function.fn_oid, &again, CurrentMemoryContext);
	work.function = agent->running ? &again : &agent->function;
	agent->running = true;
	PG_TRY();
	{
		done = lr_guard(call, &work, sqlstate);
	}
	PG_FINALLY();
	{
		agent->running = running;
	}
	PG_END_TRY();
	*place = work.place;
	if (!done)
		return false;
	lr_run_set(run, step->first_fact, work.result);
	return true;
}

static void
call(void *argument)
{
	Call	   *work = argument;
	LrAgent    *agent = work->agent;
	LOCAL_FCINFO(fcinfo, 1);
	PgStat_FunctionCallUsage usage;
	LrIdentity	identity;
	uint64		changes = lr_state_changes;
	int			nest;

	GetUserIdAndSecContext(&identity.user, &identity.context);
	SetUserIdAndSecContext(agent->owner, identity.context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	nest = NewGUCNestLevel();
	(void) lr_search_path_enter();
	if (work->run->batch->evaluating)
		lr_read_only_enter();
	InitFunctionCallInfoData(*fcinfo, work->function, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = JsonbPGetDatum(lr_agent_input(work->run, work->step));
	fcinfo->args[0].isnull = false;
	pgstat_init_function_usage(fcinfo, &usage);
	work->result = FunctionCallInvoke(fcinfo);
	pgstat_end_function_usage(&usage, true);
	/* what the function set for the session goes with it */
	AtEOXact_GUC(false, nest);
	SetUserIdAndSecContext(identity.user, identity.context);
	if (unlikely(lr_state_changes != changes))
		lr_runs_check();
	work->place = fcinfo->isnull || !JB_ROOT_IS_OBJECT(DatumGetJsonbP(work->result)) ? "output_not_an_object"
		: lr_output_is_flat(work->result) ? NULL : "output_too_deep";
	if (work->place == NULL)
		return;
	/* what it wrote goes with it, as with any failure: it may be called again */
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("an agent gave what cannot be used"));
}
