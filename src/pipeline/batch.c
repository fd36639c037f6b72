/*
 * batch.c: taking a batch of leads through the steps of a policy version.
 *
 * The batch goes step by step, not lead by lead: an agent that looks something up does so for all leads at once. A lead's
 * run ends when a step's stop condition holds, when an agent fails for it, or when a rule chose its target; the other leads
 * go on. Nothing is written here, and no turn is drawn.
 */
#include "pipeline/pipeline.h"

#include "assignment/assignment.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "provenance/provenance.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* A step, and the leads of a batch that it has still to do. */
typedef struct StepOfBatch
{
	LrBatch    *batch;
	LrStep	   *step;
	int			next;
} StepOfBatch;

static void run_step(LrBatch *batch, LrStep *step);
static void run_guarded(LrBatch *batch, LrStep *step);
static void run_leads(void *argument);
static void run_lead(LrStep *step, LrRun *run);
static void clear_result(const LrStep *step, LrRun *run);
static bool is_for(LrStep *step, LrRun *run);
static bool aborts(const LrBatch *batch);
static void quarantine_unreadable(LrRun *run);

/* Prepares an empty batch, in the current memory context. */
void
lr_batch_init(LrBatch *batch, LrPolicy *policy, LrSource *source, TimestampTz as_of, char cause, Oid user)
{
	memset(batch, 0, sizeof(*batch));
	/* most statements bring one lead: room grows with need */
	batch->allocated = 4;
	batch->runs = palloc(sizeof(LrRun) * batch->allocated);
	batch->durations = palloc0(sizeof(float) * Max(policy->nsteps, 1));
	batch->statement_memory = CurrentMemoryContext;
	batch->memory = AllocSetContextCreate(CurrentMemoryContext, "leadroute batch", ALLOCSET_DEFAULT_SIZES);
	batch->policy = policy;
	batch->source = source;
	batch->as_of = as_of;
	batch->cause = cause;
	batch->mode = LR_MODE_ROUTE;
	batch->user = user;
	initStringInfo(&batch->attributes);
	initStringInfo(&batch->evidence);
}

/* Adds a lead to a batch: a run whose facts are all null but as_of. Runs may move until the last is added. */
LrRun *
lr_batch_add(LrBatch *batch)
{
	LrRun	   *run;
	int			nfacts = batch->policy->scope->nfacts;
	MemoryContext saved = MemoryContextSwitchTo(batch->memory);

	if (batch->n == batch->allocated)
	{
		batch->allocated *= 2;
		batch->runs = repalloc(batch->runs, sizeof(LrRun) * batch->allocated);
	}
	run = &batch->runs[batch->n++];
	memset(run, 0, sizeof(*run));
	run->batch = batch;
	run->values = palloc(sizeof(Datum) * nfacts);
	run->isnull = palloc(sizeof(bool) * nfacts);
	memset(run->isnull, true, sizeof(bool) * nfacts);
	run->steps = palloc0(sizeof(LrStepResult) * Max(batch->policy->nsteps, 1));
	run->turn = -1;
	run->unreadable = -1;
	run->same_person_as = -1;
	run->load = 1;
	run->expected_value = PG_INT64_MIN;
	lr_run_set(run, LR_AS_OF, TimestampTzGetDatum(batch->as_of));
	MemoryContextSwitchTo(saved);
	return run;
}

/* Takes all leads of a batch through the steps; each run ends with an outcome, and with its evidence but for durations. */
void
lr_batch_run(LrBatch *batch)
{
	LrPolicy   *policy = batch->policy;
	MemoryContext saved = MemoryContextSwitchTo(batch->memory);
	int			nest = policy->timezone_matters ? lr_settings_enter(policy->scope->timezone) : -1;
	instr_time	start;
	instr_time	end;

	INSTR_TIME_SET_CURRENT(start);
	if (!batch->verifying && !batch->continuing)
		lr_flags_evaluate(batch);
	for (int i = 0; i < batch->n; i++)
	{
		if (!batch->verifying && !batch->unrecorded)
			lr_evidence_attributes(&batch->runs[i]);
		if (batch->runs[i].unreadable >= 0)
			quarantine_unreadable(&batch->runs[i]);
		else if (lr_paused(&batch->runs[i]))
		{
			if (batch->continuing)
				lr_keep_results(&batch->runs[i]);
			lr_run_end(&batch->runs[i], LR_PENDING, "paused");
		}
	}
	for (int s = 0; s < policy->nsteps; s++)
		run_step(batch, &policy->steps[s]);
	for (int i = 0; i < batch->n; i++)
		lr_run_finish(&batch->runs[i]);
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	batch->total_duration = INSTR_TIME_GET_MICROSEC(end) / (float) Max(batch->n, 1);
	for (int i = 0; i < batch->n && !batch->unrecorded; i++)
		lr_evidence_finish(&batch->runs[i]);
	lr_settings_leave(nest);
	MemoryContextSwitchTo(saved);
}

/* Empties a batch for the next leads. */
void
lr_batch_clear(LrBatch *batch)
{
	MemoryContextReset(batch->memory);
	resetStringInfo(&batch->attributes);
	resetStringInfo(&batch->evidence);
	batch->n = 0;
}

/* Tells whether the runs of a batch have consequences: those that are repeated, evaluated, tried in the shadow or beside another router have none. */
bool
lr_batch_acts(const LrBatch *batch)
{
	return !batch->verifying && !batch->evaluating && (batch->mode == LR_MODE_ROUTE || batch->mode == LR_MODE_CANARY);
}

static void
run_step(LrBatch *batch, LrStep *step)
{
	instr_time	start;
	instr_time	end;

	INSTR_TIME_SET_CURRENT(start);
	if (step->builtin && step->builtin->prepare && !batch->verifying)
		step->builtin->prepare(step, batch);
	/* for one lead, guards for just the conjuncts that it comes to are less */
	if (step->may_raise && step->builtin && step->builtin->repeatable && batch->n > 1)
		run_guarded(batch, step);
	else
	{
		StepOfBatch all = {.batch = batch,.step = step};

		run_leads(&all);
	}
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	batch->durations[step->number] = INSTR_TIME_GET_DOUBLE(end) * 1e6 / Max(batch->n, 1);
}

/*
 * Runs a step whose conditions may raise, under one guard for all leads. A lead for which something raises is run again by
 * itself, with a guard for each conjunct that may raise, and the others go on.
 */
static void
run_guarded(LrBatch *batch, LrStep *step)
{
	LrEvaluator *evaluator = batch->policy->evaluator;
	StepOfBatch rest = {.batch = batch,.step = step};
	int			sqlstate;
	volatile bool done;

	do
	{
		evaluator->guarded = true;
		/* the evaluator is kept for the session: what is raised on must not leave it without guards */
		PG_TRY();
		{
			done = lr_guard(run_leads, &rest, &sqlstate);
		}
		PG_FINALLY();
		{
			evaluator->guarded = false;
		}
		PG_END_TRY();
		if (!done)
		{
			clear_result(step, &batch->runs[rest.next]);
			run_lead(step, &batch->runs[rest.next]);
			rest.next++;
		}
	} while (!done);
}

/* Runs a step for all leads from the next one on, whose runs have not ended. */
static void
run_leads(void *argument)
{
	StepOfBatch *work = argument;

	for (; work->next < work->batch->n; work->next++)
	{
		LrRun	   *run = &work->batch->runs[work->next];

		if (run->ended)
			continue;
		if ((work->next & 63) == 0)
			CHECK_FOR_INTERRUPTS();
		run_lead(work->step, run);
	}
}

static void
run_lead(LrStep *step, LrRun *run)
{
	lr_step_run(step, run);
	lr_run_apply_stops(step, run);
	ResetExprContext(run->batch->policy->evaluator->context);
}

/* Takes back what a step that raised on its way has given so far. */
static void
clear_result(const LrStep *step, LrRun *run)
{
	memset(&run->steps[step->number], 0, sizeof(LrStepResult));
	for (int i = 0; i < step->nfacts; i++)
		run->isnull[step->first_fact + i] = true;
	run->ended = false;
}

/* Runs one step for one lead: gives its outputs, or marks it failed or skipped. */
void
lr_step_run(LrStep *step, LrRun *run)
{
	LrStepResult *result = &run->steps[step->number];

	if (unlikely(run->batch->instead != NULL) && run->batch->instead(step, run))
		return;
	if (unlikely(step->waits_for != NULL) && lr_step_blocked(step, run))
	{
		result->status = LR_STEP_BLOCKED;
		return;
	}
	if (!lr_step_wanted(step, run) || !is_for(step, run) || (step->hold_until && lr_step_held(step, run)))
		return;
	result->status = LR_STEP_DONE;
	if (step->agent->retired)
		lr_run_fail(run, step, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "agent_retired");
	else if (step->agent->changed)
		lr_run_fail(run, step, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "agent_changed");
	else if (step->builtin)
		step->builtin->run(step, run);
	else if (step->mode == LR_IN_TRANSACTION || !lr_step_asks(step, run))
		lr_sql_agent_run(step, run);
}

/* Tells whether the step's condition holds for the lead; one that raises fails the step. */
static bool
is_for(LrStep *step, LrRun *run)
{
	LrConditionError error;
	LrTruth		truth;

	if (likely(step->when == NULL))
		return true;
	truth = lr_condition_evaluate(step->when, run->batch->policy->evaluator, run->values, run->isnull, &error);
	if (truth == LR_ERROR)
		lr_run_fail(run, step, error.sqlstate, "when");
	return truth == LR_TRUE;
}

/* Ends the run if one of the step's stop conditions holds. */
void
lr_run_apply_stops(LrStep *step, LrRun *run)
{
	/* who is not sure enough leaves it to a person */
	if (step->review_below > 0 && run->steps[step->number].status == LR_STEP_DONE &&
		lr_step_confidence(step, run->values[step->first_fact]) < step->review_below)
		lr_run_end(run, LR_PENDING, "review");
	for (int i = 0; i < step->nstops && !run->ended && run->steps[step->number].status == LR_STEP_DONE; i++)
	{
		LrConditionError error;
		LrTruth		truth = lr_condition_evaluate(step->stops[i].when, run->batch->policy->evaluator, run->values, run->isnull, &error);

		if (truth == LR_TRUE)
			lr_run_end(run, step->stops[i].outcome, step->stops[i].reason);
		else if (truth == LR_ERROR)
			lr_run_fail(run, step, error.sqlstate, psprintf("stop_when[%d]", i));
	}
}

/* Tells whether a step is for a run: it is not switched off by its flag, and the steps that it needs are done. */
bool
lr_step_wanted(const LrStep *step, const LrRun *run)
{
	int			needed = -1;

	if (step->flag >= 0 && (run->isnull[step->flag] || !DatumGetBool(run->values[step->flag])))
		return false;
	while ((needed = bms_next_member(step->after, needed)) >= 0)
	{
		bool		done = run->steps[needed].status == LR_STEP_DONE;

		if (done == step->join_any)
			return done;
	}
	return step->after == NULL || !step->join_any;
}

/* Ends a run. */
void
lr_run_end(LrRun *run, LrOutcome outcome, const char *reason)
{
	run->ended = true;
	run->outcome = outcome;
	run->reason = reason;
}

/* Gives a run that came through all steps its outcome: pending while steps wait. Those of a run that ended wait no longer. */
void
lr_run_finish(LrRun *run)
{
	const LrPolicy *policy = run->batch->policy;
	bool		waits = false;

	for (int i = 0; i < policy->nsteps && policy->waits; i++)
	{
		if (!LR_STEP_IS_OPEN(run->steps[i].status))
			continue;
		waits = true;
		if (run->ended)
			memset(&run->steps[i], 0, sizeof(LrStepResult));
	}
	if (!run->ended && waits)
	{
		run->outcome = LR_PENDING;
		run->reason = "waiting";
	}
	else if (!run->ended)
		lr_run_end(run, LR_NO_RULE, "no_step_assigns");
}

/* Tells whether what fails aborts the statement. Where a run goes on that waited, that is an agent's, which has to be able to say that it failed. */
static bool
aborts(const LrBatch *batch)
{
	return lr_on_error == LR_ON_ERROR_ABORT && !batch->continuing && lr_batch_acts(batch);
}

/* An attribute that cannot be read in its type is an error of data, found before any agent ran. */
static void
quarantine_unreadable(LrRun *run)
{
	if (aborts(run->batch))
		ereport(ERROR,
				errcode(run->unreadable_sqlstate),
				errmsg("attribute \"%s\" of a lead cannot be read", lr_facts[run->unreadable].name),
				errhint("Set leadroute.on_error to record to quarantine such leads."));
	lr_run_end(run, LR_QUARANTINED, "unreadable_attribute");
}

/* Returns the finished evidence of a run; it stays good until the batch is cleared. */
bytea *
lr_run_evidence(const LrRun *run)
{
	return (bytea *) (run->batch->evidence.data + run->evidence_at);
}

/* ---- for agents ---- */

/* Makes room for an agent's own evidence: a small buffer, there is one for every lead. */
StringInfo
lr_detail_make(void)
{
	StringInfo	detail = palloc(sizeof(StringInfoData));

	detail->maxlen = 48;
	detail->data = palloc(detail->maxlen);
	resetStringInfo(detail);
	return detail;
}

/* Gives an output. The value has to live in the batch's memory. */
void
lr_run_set(LrRun *run, int fact, Datum value)
{
	run->values[fact] = value;
	run->isnull[fact] = false;
}

/* Gives a text output; NULL is null. */
void
lr_run_set_text(LrRun *run, int fact, const char *value)
{
	if (value == NULL)
		run->isnull[fact] = true;
	else
		lr_run_set(run, fact, CStringGetTextDatum(value));
}

/* Gives an output of several texts; none is null. */
void
lr_run_set_texts(LrRun *run, int fact, const char *const *values, int n)
{
	Datum		elements[16];

	Assert(n <= (int) lengthof(elements));
	if (n == 0)
	{
		run->isnull[fact] = true;
		return;
	}
	for (int i = 0; i < n; i++)
		elements[i] = CStringGetTextDatum(values[i]);
	lr_run_set(run, fact, PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT)));
}

/* Gives a step what is known of how it was done, JSON. */
void
lr_run_set_detail(LrRun *run, const LrStep *step, const char *detail, int length)
{
	LrStepResult *result = &run->steps[step->number];

	result->detail = lr_detail_make();
	appendBinaryStringInfo(result->detail, detail, length);
}

/*
 * Marks a step failed for a lead: place says what raised, a code or a name of the policy's, never a value of the lead. The
 * lead is quarantined unless the step may be skipped, or left to a person, or the statement aborts if leadroute.on_error says so.
 */
void
lr_run_fail(LrRun *run, LrStep *step, int sqlstate, const char *place)
{
	LrStepResult *result = &run->steps[step->number];

	result->status = LR_STEP_FAILED;
	result->sqlstate = sqlstate;
	result->place = place;
	for (int i = 0; i < step->nfacts; i++)
		run->isnull[step->first_fact + i] = true;
	if (step->skip_on_error)
		return;
	if (step->escalates)
	{
		lr_run_end(run, LR_PENDING, "review");
		return;
	}
	if (aborts(run->batch))
		ereport(ERROR,
				errcode(sqlstate),
				errmsg("agent \"%s\" version \"%s\" failed for a lead", step->agent->name, step->agent->version),
				place ? errdetail("At %s.", place) : 0,
				errhint("Set leadroute.on_error to record to quarantine such leads."));
	lr_run_end(run, LR_QUARANTINED, "agent_failed");
}
