/*
 * waiting.c: steps that wait, and the tasks that they wait for.
 *
 * A step that somebody else has to do, or that is held until attributes arrive, is marked as waiting while the batch goes through the
 * steps; those that need it are blocked, the others go on. A run that has not ended then is pending. When it is written, each step that
 * newly waits becomes a row of leadroute.tasks, in the same transaction: rows go in together, as the record does, and workers are told
 * at the commit. Whoever finishes a task takes the run on (going_on.c).
 */
#include "pipeline/pipeline.h"

#include "agents/agents.h"
#include "catalog/pg_type.h"
#include "portability/instr_time.h"
#include "provenance/provenance.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "workers/workers.h"
#include "writer.h"

/* The columns of leadroute.tasks. */
enum
{
	TASK_RUN_ID, TASK_LEAD_ID, TASK_PLACE, TASK_SCHEDULED_AT, TASK_WAKE_AT, TASK_STARTED_AT, TASK_TOKEN, TASK_POLICY_VERSION_ID, TASK_QUEUE_ID,
	TASK_STEP_NO, TASK_ATTEMPT, TASK_STATE, TASK_HOLDER, TASK_TRACEPARENT, TASK_INPUTS, TASK_HISTORY, TASK_OUTPUT,
	TASK_ERROR, TASK_NO_FALLBACK_AGENT
};

static void note_agent(LrExecution *execution, int agent_id, const LrContinuation *item);
static bool waits_here(const LrBatch *batch);
static void begin_at_once(LrStep *step, LrRun *run);
static bool region_allowed(const LrStep *step, const LrAgent *agent, const List *allowed);
static bool regions_of(LrStep *step, LrRun *run, List **allowed);
static bool is_plain(const LrStep *step, const LrSource *source);
static int64 next_place(TimestampTz moment);
static void write_task(LrWriter *writer, LrStep *step, const LrRun *run, bool plain, int *notice);

/* ---- while a batch goes through its steps ---- */

/* Tells whether a step has to wait for others that wait. Of steps that are joined by any, one that is done is enough. */
bool
lr_step_blocked(const LrStep *step, const LrRun *run)
{
	bool		one_done = false;
	bool		waiting = false;
	int			other = -1;

	while ((other = bms_next_member(step->waits_for, other)) >= 0)
	{
		if (!LR_STEP_IS_OPEN(run->steps[other].status))
			continue;
		if (!step->join_any || !bms_is_member(other, step->after))
			return true;
		waiting = true;
	}
	other = -1;
	while (waiting && (other = bms_next_member(step->after, other)) >= 0)
		one_done |= run->steps[other].status == LR_STEP_DONE;
	return waiting && !one_done;
}

/* Tells whether a step is held for attributes that have not arrived; then it waits. */
bool
lr_step_held(LrStep *step, LrRun *run)
{
	LrStepResult *result = &run->steps[step->number];
	TimestampTz until = result->held_until ? result->held_until : run->batch->as_of + step->hold;
	bool		missing = false;
	int			fact = -1;
	char	   *detail;

	while ((fact = bms_next_member(step->hold_until, fact)) >= 0)
		missing |= run->isnull[fact];
	if (!missing || !waits_here(run->batch) || until <= run->batch->as_of)
		return false;
	result->status = LR_STEP_WAITING;
	result->asked = result->held_until == 0;
	result->held = true;
	result->held_until = until;
	detail = psprintf("{\"held_until\": \"%s\"}", timestamptz_to_str(until));
	lr_run_set_detail(run, step, detail, (int) strlen(detail));
	return true;
}

/*
 * Has a step wait for whoever does it, or, where nobody may, gives it up. Returns false for one of a worker that nobody acts on:
 * it is done at once.
 */
bool
lr_step_asks(LrStep *step, LrRun *run)
{
	LrStepResult *result = &run->steps[step->number];
	List	   *allowed = NIL;

	if (!waits_here(run->batch))
	{
		if (step->mode == LR_BY_WORKER && run->batch->mode != LR_MODE_SHADOW)
			return false;
		/* who decides without acting asks nobody outside */
		result->status = LR_STEP_SKIPPED;
		if (step->fallback == LR_FALLBACK_OUTPUT)
			lr_step_give_up(step, run, ERRCODE_FEATURE_NOT_SUPPORTED, "not_asked");
		return true;
	}
	if (step->nregions > 0 && !regions_of(step, run, &allowed))
		return true;
	result->by_fallback = !region_allowed(step, step->agent, allowed);
	if (result->by_fallback && !(step->fallback == LR_FALLBACK_AGENT && region_allowed(step, step->fallback_agent, allowed)))
	{
		lr_step_give_up(step, run, LR_ERRCODE_REGION, "region");
		return true;
	}
	result->no_fallback_agent = step->fallback == LR_FALLBACK_AGENT && !region_allowed(step, step->fallback_agent, allowed);
	result->status = LR_STEP_WAITING;
	result->asked = true;
	if (run->batch->execution)
		begin_at_once(step, run);
	return true;
}

/* An executor that has a run in hand does its next quick step, too, unless the attempt fails: then it is a task as any other. */
static void
begin_at_once(LrStep *step, LrRun *run)
{
	LrStepResult *result = &run->steps[step->number];
	LrExecution *execution = run->batch->execution;
	LrContinuation *item;
	MemoryContext saved;

	if (step->mode != LR_BY_WORKER || result->by_fallback || step->mean_duration == 0 || step->mean_duration > LR_SLOW_STEP ||
		execution->careful || GetCurrentTimestamp() > execution->until)
		return;
	item = MemoryContextAllocZero(execution->memory, sizeof(LrContinuation));
	*item = (LrContinuation) {.run_id = run->run_id,.lead_id = run->lead_id,.step = step->number};
	if (lr_step_execute(step, run, item))
	{
		result->status = LR_STEP_DONE;
		result->asked = false;
		pfree(item);
		return;
	}
	saved = MemoryContextSwitchTo(execution->memory);
	execution->failed = lappend(execution->failed, item);
	MemoryContextSwitchTo(saved);
}

/* Runs a step of a worker for one lead; false if it failed, item says how then. Notes how long such a step takes, and how its agent fares. */
bool
lr_step_execute(LrStep *step, LrRun *run, LrContinuation *item)
{
	LrExecution *execution = run->batch->execution;
	LrAgent    *agent = item->by_fallback && step->fallback_agent ? step->fallback_agent : step->agent;
	instr_time	start;
	instr_time	end;

	item->failed = true;
	if (agent->retired || agent->changed)
	{
		item->sqlstate = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
		item->place = agent->retired ? "agent_retired" : "agent_changed";
		return false;
	}
	INSTR_TIME_SET_CURRENT(start);
	lr_work_enter(run->run_id, step->number + 1, item->attempts_before, step->attempt_within);
	item->failed = !lr_sql_agent_try(step, agent, run, &item->sqlstate, &item->place);
	lr_work_leave();
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	step->mean_duration = (step->mean_duration == 0 ? 1 : 0.9) * step->mean_duration + (step->mean_duration == 0 ? 1 : 0.1) * Max(INSTR_TIME_GET_DOUBLE(end) * 1e6, 0.1);
	note_agent(execution, agent->agent_id, item);
	if (item->failed)
		return false;
	if (item->history || item->by_fallback)
	{
		StringInfoData detail;

		initStringInfo(&detail);
		appendStringInfoString(&detail, "{\"by\": ");
		escape_json(&detail, psprintf("%s@%s", agent->name, agent->version));
		if (item->by_fallback)
			appendStringInfoString(&detail, ", \"fallback\": \"agent\"");
		if (item->history)
			appendStringInfo(&detail, ", \"attempts\": %s", item->history);
		appendStringInfoChar(&detail, '}');
		lr_run_set_detail(run, step, detail.data, detail.len);
	}
	return true;
}

/* Notes how an agent fared, for its circuit breaker: failures in a row count. */
static void
note_agent(LrExecution *execution, int agent_id, const LrContinuation *item)
{
	int			known = 0;

	while (known < execution->nagents && execution->agents[known].agent_id != agent_id)
		known++;
	if (known == (int) lengthof(execution->agents))
		return;
	if (known == execution->nagents)
	{
		execution->agents[known].agent_id = agent_id;
		execution->nagents++;
	}
	if (item->failed)
	{
		execution->agents[known].failed++;
		execution->agents[known].sqlstate = item->sqlstate;
		return;
	}
	execution->agents[known].succeeded++;
	execution->agents[known].failed = 0;
}

/* Who acts on a decision waits for it; so does who decides beside another router. */
static bool
waits_here(const LrBatch *batch)
{
	return !batch->verifying && !batch->evaluating && batch->mode != LR_MODE_SHADOW;
}

/* Finds in which regions the step may be done for a lead; NIL: in all. False if a condition raised: then the step has failed. */
static bool
regions_of(LrStep *step, LrRun *run, List **allowed)
{
	for (int i = 0; i < step->nregions; i++)
	{
		LrConditionError error;
		LrTruth		truth = lr_condition_evaluate(step->regions[i].when, run->batch->policy->evaluator, run->values, run->isnull, &error);

		if (truth == LR_ERROR)
		{
			lr_run_fail(run, step, error.sqlstate, psprintf("regions[%d]", i));
			return false;
		}
		if (truth == LR_TRUE)
		{
			*allowed = step->regions[i].allowed;
			return true;
		}
	}
	return true;
}

/* Tells whether an agent may be given a lead for a step, by where the step may be done for the lead as it is now. */
bool
lr_step_may_be_given(const LrStep *step, const LrRun *run, const LrAgent *agent)
{
	for (int i = 0; i < step->nregions; i++)
	{
		LrConditionError error;
		LrTruth		truth = lr_condition_evaluate(step->regions[i].when, run->batch->policy->evaluator, run->values, run->isnull, &error);

		if (truth == LR_ERROR)
			return false;
		if (truth == LR_TRUE)
			return region_allowed(step, agent, step->regions[i].allowed);
	}
	return true;
}

/* An agent that does not say where it works may not be given what has to stay somewhere. */
static bool
region_allowed(const LrStep *step, const LrAgent *agent, const List *allowed)
{
	ListCell   *cell;

	if (allowed == NIL)
		return true;
	foreach(cell, allowed)
	{
		if (agent->region && strcmp(agent->region, lfirst(cell)) == 0)
			return true;
	}
	return false;
}

/* Gives up a step that failed for good: an output that the policy names takes its place, or the run goes on without it, or it fails. */
void
lr_step_give_up(LrStep *step, LrRun *run, int sqlstate, const char *place)
{
	LrStepResult *result = &run->steps[step->number];

	if (step->fallback != LR_FALLBACK_OUTPUT)
	{
		lr_step_fail(step, run, sqlstate, place);
		return;
	}
	result->status = LR_STEP_DONE;
	lr_run_set(run, step->first_fact, step->fallback_output);
	if (result->detail == NULL)
	{
		char	   *detail = psprintf("{\"fallback\": \"output\", \"sqlstate\": \"%s\", \"place\": \"%s\"}", unpack_sql_state(sqlstate), place ? place : "");

		lr_run_set_detail(run, step, detail, (int) strlen(detail));
	}
}

/* Marks a step failed; where the policy says so the run goes on. */
void
lr_step_fail(LrStep *step, LrRun *run, int sqlstate, const char *place)
{
	LrStepResult *result = &run->steps[step->number];

	if (step->fallback != LR_FALLBACK_SKIP)
	{
		lr_run_fail(run, step, sqlstate, place);
		return;
	}
	result->status = LR_STEP_FAILED;
	result->sqlstate = sqlstate;
	result->place = place;
	for (int i = 0; i < step->nfacts; i++)
		run->isnull[step->first_fact + i] = true;
}

/* Returns how sure an agent that is not ours is of its output, 0 to 1: the member confidence, 1 if there is none. */
double
lr_step_confidence(const LrStep *step, Datum output)
{
	JsonbValue	buffer;
	JsonbValue *value = getKeyJsonValueFromContainer(&DatumGetJsonbP(output)->root, "confidence", strlen("confidence"), &buffer);
	double		confidence;

	if (value == NULL || value->type != jbvNumeric)
		return 1;
	confidence = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(value->val.numeric)));
	return Min(Max(confidence, 0), 1);
}

/* Returns how sure the least sure step of a run is. */
double
lr_run_confidence(const LrRun *run)
{
	const LrPolicy *policy = run->batch->policy;
	double		least = 1;

	for (int i = 0; i < policy->nsteps; i++)
	{
		const LrStep *step = &policy->steps[i];

		if (run->steps[i].status == LR_STEP_DONE && step->builtin == NULL)
			least = Min(least, lr_step_confidence(step, run->values[step->first_fact]));
		else if (run->steps[i].status == LR_STEP_DONE && step->builtin == &lr_match_account && !run->isnull[LR_ACCOUNT_CONFIDENCE])
			least = Min(least, DatumGetInt32(run->values[LR_ACCOUNT_CONFIDENCE]) / 100.0);
	}
	return least;
}

/* ---- when the batch is written ---- */

/* Writes the tasks that the runs of a batch newly wait for. */
void
lr_tasks_write(LrRecorder *recorder, LrBatch *batch)
{
	LrPolicy   *policy = batch->policy;
	LrWriter   *writer = NULL;
	int			notice = 0;

	for (int s = 0; s < policy->nsteps; s++)
	{
		LrStep	   *step = &policy->steps[s];
		bool		plain = false;

		if (!lr_step_can_wait(step))
			continue;
		for (int i = 0; i < batch->n; i++)
		{
			LrRun	   *run = &batch->runs[i];

			if (run->unchanged || run->outcome != LR_PENDING || run->steps[s].status != LR_STEP_WAITING || !run->steps[s].asked)
				continue;
			if (writer == NULL)
			{
				lr_policy_queues(policy);
				if (recorder->tasks == NULL)
				{
					MemoryContext saved = MemoryContextSwitchTo(recorder->memory);

					recorder->tasks = lr_writer_open(lr_catalog()->tables[LR_TABLE_TASKS], recorder->capacity);
					MemoryContextSwitchTo(saved);
				}
				writer = recorder->tasks;
			}
			if (i == 0 || !plain)
				plain = is_plain(step, batch->source);
			write_task(writer, step, run, plain, &notice);
		}
		/* as many rows as the writer has room for */
		if (writer)
			lr_writer_flush(writer);
	}
	if (notice)
		lr_workers_notice(notice);
}

/* Tells whether all that a step's agent is given may be kept with the task. Outputs of steps are on record anyway. */
static bool
is_plain(const LrStep *step, const LrSource *source)
{
	ListCell   *cell;

	if (step->mode != LR_BY_AGENT || step->agent->agent_id == LR_AGENT_ANYBODY)
		return false;
	foreach(cell, step->agent->inputs)
	{
		const char *name = lfirst(cell);

		if (strncmp(name, "attributes.", strlen("attributes.")) == 0)
			return false;
		for (int i = 0; i < LR_N_ATTRIBUTES; i++)
		{
			if (strcmp(lr_facts[i].name, name) == 0 && source->classes[i] != LR_CLASS_PLAIN)
				return false;
		}
	}
	return true;
}

static inline void
put(TupleTableSlot *slot, int column, Datum value)
{
	slot->tts_values[column] = value;
	slot->tts_isnull[column] = false;
}

/*
 * Takes a place for a task: the moment, or, for the many of one statement, a microsecond after the one before. So places tell what was
 * taken already from what is still there, also where a transaction that is open elsewhere keeps the dead entries of the index.
 */
static int64
next_place(TimestampTz moment)
{
	static int64 last = 0;

	last = last < moment || last - moment > USECS_PER_HOUR ? moment : last + 1;
	return last;
}

static void
write_task(LrWriter *writer, LrStep *step, const LrRun *run, bool plain, int *notice)
{
	const LrStepResult *result = &run->steps[step->number];
	const LrBatch *batch = run->batch;
	TupleTableSlot *slot = lr_writer_row(writer);
	bool		held = result->held;
	TimestampTz wake_at = 0;

	put(slot, TASK_RUN_ID, Int64GetDatum(run->run_id));
	put(slot, TASK_LEAD_ID, Int64GetDatum(run->lead_id));
	put(slot, TASK_PLACE, Int64GetDatum(next_place(batch->as_of)));
	put(slot, TASK_SCHEDULED_AT, TimestampTzGetDatum(batch->as_of));
	put(slot, TASK_POLICY_VERSION_ID, Int32GetDatum(batch->policy->version_id));
	put(slot, TASK_STEP_NO, Int16GetDatum(step->number + 1));
	put(slot, TASK_ATTEMPT, Int16GetDatum(0));
	put(slot, TASK_STATE, CharGetDatum(held ? 'h' : 'q'));
	if (held)
		wake_at = result->held_until;
	else
	{
		put(slot, TASK_QUEUE_ID, Int32GetDatum(result->by_fallback ? step->fallback_queue_id : step->queue_id));
		if (step->start_within)
			wake_at = batch->as_of + step->start_within;
		if (step->close_within && (wake_at == 0 || batch->as_of + step->close_within < wake_at))
			wake_at = batch->as_of + step->close_within;
		*notice |= step->mode == LR_BY_WORKER ? LR_NOTICE_WORK : LR_NOTICE_TASKS;
	}
	if (wake_at)
	{
		put(slot, TASK_WAKE_AT, TimestampTzGetDatum(wake_at));
		*notice |= LR_NOTICE_TIMERS;
	}
	if (!run->isnull[LR_TRACEPARENT] && batch->source->classes[LR_TRACEPARENT] == LR_CLASS_PLAIN)
		put(slot, TASK_TRACEPARENT, run->values[LR_TRACEPARENT]);
	if (result->no_fallback_agent && !held)
		put(slot, TASK_NO_FALLBACK_AGENT, BoolGetDatum(true));
	if (plain && !held)
		put(slot, TASK_INPUTS, JsonbPGetDatum(lr_agent_input(run, step)));
}

/*
 * Removes what is left of the tasks of runs that a batch ended, or of those that its runs supersede. An executor that has one in hand
 * finds out by itself that nobody wants it.
 */
void
lr_tasks_remove(const LrBatch *batch)
{
	LrIdentity	identity;
	Oid			types[] = {INT8ARRAYOID};
	Datum		values[1];
	int64	   *run_ids = NULL;
	int			n = 0;

	for (int i = 0; i < batch->n; i++)
	{
		const LrRun *run = &batch->runs[i];

		if (!run->has_tasks || run->unchanged || (run->entry_no > 0 && run->outcome == LR_PENDING && strcmp(run->reason, "waiting") == 0))
			continue;
		if (run_ids == NULL)
			run_ids = palloc(sizeof(int64) * batch->n);
		run_ids[n++] = run->entry_no > 0 ? run->run_id : run->supersedes;
	}
	if (n == 0)
		return;
	values[0] = lr_int8_array(run_ids, n);
	lr_sql_begin(&identity);
	lr_sql_kept(LR_PLAN_REMOVE_TASKS, "DELETE FROM leadroute.tasks t USING (SELECT x.run_id, x.step_no FROM leadroute.tasks x WHERE x.run_id = ANY ($1) FOR UPDATE SKIP LOCKED) x"
				" WHERE t.run_id = x.run_id AND t.step_no = x.step_no", 1, types, values, NULL);
	lr_sql_end(&identity);
}
