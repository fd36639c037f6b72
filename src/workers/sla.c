/*
 * sla.c: the clocks of leads: started and stopped with what happens to them. sla_ladder.c does what is due.
 *
 * A clock is a row of sla_clocks, one a lead. It is written by the transaction that assigns the lead, under the lock of the lead's state, as is
 * everything that changes it. What moments it has follows from the rule (slas.c in policy) and from its start; the row keeps the next one,
 * which has an index. A clock whose lead was decided otherwise since, or is gone, is found so when it is due, and goes.
 *
 * A new owner has all the time again: the clock restarts. The ladder begins anew as well, unless it was the ladder that moved the lead: then it
 * goes on where it was, so that no rung comes twice, and a lead is moved leadroute.sla_max_moves times at most, whatever moves it in between.
 */
#include "workers/workers.h"

#include "assignment/assignment.h"
#include "catalog/pg_type.h"
#include "provenance/provenance.h"
#include "utils/builtins.h"
#include "workers/processes.h"
#include "workers/sla.h"
#include "writer.h"

/* The columns of leadroute.sla_clocks that a new one has. */
enum
{
	CLOCK_LEAD_ID, CLOCK_RUN_ID, CLOCK_STARTED_AT, CLOCK_DUE_AT, CLOCK_NEXT_AT, CLOCK_POLICY_VERSION_ID, CLOCK_RULE_NO, CLOCK_OWNER_ID,
	CLOCK_RUNG, CLOCK_MOVES, CLOCK_FAILURES, CLOCK_START_ON, CLOCK_STOP_ON, CLOCK_WORKING, CLOCK_BREACHED
};

static void start_clock(LrRecorder *recorder, const LrRun *run, const LrSla *sla);
static void change_clock(const LrRun *run);
static void begin(LrClock *clock, TimestampTz at);
static TimestampTz moment_column(uint64 row, int column);

static inline void
put(TupleTableSlot *slot, int column, Datum value)
{
	slot->tts_values[column] = value;
	slot->tts_isnull[column] = false;
}

/* ---- starting and stopping ---- */

/* Starts the clocks of a batch that was recorded just now, whose states are locked. */
void
lr_slas_of_batch(LrRecorder *recorder, LrBatch *batch)
{
	if (batch->mode == LR_MODE_OBSERVE)
		return;
	for (int i = 0; i < batch->n; i++)
	{
		const LrRun *run = &batch->runs[i];
		const LrSla *sla;

		if (run->unchanged || run->owner_id == 0)
			continue;
		/* nobody looked at rules: the clock that runs is the lead's still */
		if (run->rule == NULL || batch->cause == 's')
		{
			if (run->has_state)
				change_clock(run);
			continue;
		}
		sla = run->rule->has_terms ? lr_rule_terms(batch->policy, run->rule)->sla : NULL;
		if (sla)
			start_clock(recorder, run, sla);
	}
	if (recorder->clocks)
		lr_writer_flush(recorder->clocks);
}

/* Starts the clock of a lead that a rule gave to somebody. */
static void
start_clock(LrRecorder *recorder, const LrRun *run, const LrSla *sla)
{
	LrClock		clock = {.lead_id = run->lead_id,.run_id = run->run_id,.policy_version_id = run->batch->policy->version_id,
		.rule_no = run->rule->number,.owner_id = run->owner_id,.sla = (LrSla *) sla};
	LrIdentity	identity;
	Oid			types[] = {INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, INT4OID, INT4OID, CHAROID, CHAROID, BOOLOID};
	Datum		values[lengthof(types)];
	char		nulls[lengthof(types)];

	begin(&clock, run->batch->as_of);
	if (!run->has_state)
	{
		TupleTableSlot *slot;

		if (recorder->clocks == NULL)
		{
			MemoryContext saved = MemoryContextSwitchTo(recorder->memory);

			recorder->clocks = lr_writer_open(lr_catalog()->tables[LR_TABLE_SLA_CLOCKS], recorder->capacity);
			MemoryContextSwitchTo(saved);
		}
		slot = lr_writer_row(recorder->clocks);
		put(slot, CLOCK_LEAD_ID, Int64GetDatum(clock.lead_id));
		put(slot, CLOCK_RUN_ID, Int64GetDatum(clock.run_id));
		if (clock.started_at)
		{
			put(slot, CLOCK_STARTED_AT, TimestampTzGetDatum(clock.started_at));
			put(slot, CLOCK_DUE_AT, TimestampTzGetDatum(clock.due_at));
			put(slot, CLOCK_NEXT_AT, TimestampTzGetDatum(clock.next_at));
		}
		put(slot, CLOCK_POLICY_VERSION_ID, Int32GetDatum(clock.policy_version_id));
		put(slot, CLOCK_RULE_NO, Int32GetDatum(clock.rule_no));
		put(slot, CLOCK_OWNER_ID, Int32GetDatum(clock.owner_id));
		put(slot, CLOCK_RUNG, Int16GetDatum(0));
		put(slot, CLOCK_MOVES, Int16GetDatum(0));
		put(slot, CLOCK_FAILURES, Int16GetDatum(0));
		put(slot, CLOCK_START_ON, CharGetDatum(sla->start));
		put(slot, CLOCK_STOP_ON, CharGetDatum(sla->stop));
		put(slot, CLOCK_WORKING, BoolGetDatum(sla->working));
		put(slot, CLOCK_BREACHED, BoolGetDatum(false));
		return;
	}
	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int64GetDatum(clock.lead_id);
	values[1] = Int64GetDatum(clock.run_id);
	values[2] = Int64GetDatum(run->supersedes);
	values[3] = TimestampTzGetDatum(clock.started_at);
	values[4] = TimestampTzGetDatum(clock.due_at);
	values[5] = TimestampTzGetDatum(clock.next_at);
	nulls[3] = nulls[4] = nulls[5] = clock.started_at ? ' ' : 'n';
	values[6] = Int32GetDatum(clock.policy_version_id);
	values[7] = Int32GetDatum(clock.rule_no);
	values[8] = Int32GetDatum(clock.owner_id);
	values[9] = CharGetDatum(sla->start);
	values[10] = CharGetDatum(sla->stop);
	values[11] = BoolGetDatum(sla->working);
	lr_sql_begin(&identity);
	lr_sql_kept(LR_PLAN_START_CLOCK, "SELECT leadroute.start_sla_clock($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
				lengthof(types), types, values, nulls);
	lr_sql_end(&identity);
}

/* Restarts the clock of a lead that a person, or the ladder, gave to another owner; with the same one it goes on. */
static void
change_clock(const LrRun *run)
{
	LrIdentity	identity;
	Oid			types[] = {INT8OID, INT8OID};
	Datum		values[] = {Int64GetDatum(run->lead_id), Int64GetDatum(run->supersedes)};
	LrClock		clock;
	bool		found;

	lr_sql_begin(&identity);
	found = lr_sql_kept(LR_PLAN_CLOCK, "SELECT " LR_CLOCK_COLUMNS " FROM leadroute.sla_clocks c WHERE c.lead_id = $1 AND c.run_id = $2",
						2, types, values, NULL) > 0;
	if (found)
		lr_clock_read(0, &clock);
	lr_sql_end(&identity);
	if (!found || !lr_clock_find_terms(&clock, NULL, 0))
		return;
	clock.run_id = run->run_id;
	if (clock.owner_id == run->owner_id)
		lr_clock_set_next(&clock);
	else
	{
		clock.owner_id = run->owner_id;
		clock.breached = false;
		if (run->batch->cause == 's')
			clock.moves++;
		else
			clock.rung = 0;
		begin(&clock, run->batch->as_of);
	}
	lr_clock_write(&clock);
}

/* Stops, or starts, the clock of a lead with which somebody did something. */
void
lr_sla_of_act(const LrLeadAct *act)
{
	LrIdentity	identity;
	Oid			types[] = {INT8OID, CHAROID, TIMESTAMPTZOID};
	Datum		values[] = {Int64GetDatum(act->lead_id), CharGetDatum(act->act[0]), TimestampTzGetDatum(act->effective_at ? act->effective_at : GetCurrentTimestamp())};
	LrClock		clock;
	bool		waits;

	if (strcmp(act->act, "accept") != 0 && strcmp(act->act, "respond") != 0 && strcmp(act->act, "close") != 0)
		return;
	lr_sql_begin(&identity);
	lr_sql_kept(LR_PLAN_STOP_CLOCK, "SELECT leadroute.stop_sla_clock($1, $2, $3) FROM leadroute.sla_clocks WHERE lead_id = $1", 3, types, values, NULL);
	waits = act->act[0] == 'a' &&
		lr_sql_kept(LR_PLAN_WAITING_CLOCK, "SELECT " LR_CLOCK_COLUMNS " FROM leadroute.sla_clocks c WHERE c.lead_id = $1 AND c.started_at IS NULL",
					1, types, values, NULL) > 0;
	if (waits)
		lr_clock_read(0, &clock);
	lr_sql_end(&identity);
	if (waits && clock.run_id == act->run_id && lr_clock_find_terms(&clock, NULL, 0))
	{
		clock.started_at = DatumGetTimestampTz(values[2]);
		clock.due_at = lr_clock_moment(&clock, clock.sla->within);
		lr_clock_set_next(&clock);
		lr_clock_write(&clock);
	}
}

/* Has a clock begin, or wait for what starts it. */
static void
begin(LrClock *clock, TimestampTz at)
{
	clock->started_at = clock->sla->start == 'g' ? at : 0;
	clock->due_at = clock->started_at ? lr_clock_moment(clock, clock->sla->within) : 0;
	lr_clock_set_next(clock);
}

/* ---- clocks ---- */

/* Returns when so much of the clock's time has passed since its start. */
TimestampTz
lr_clock_moment(const LrClock *clock, int64 amount)
{
	return clock->sla->working ? lr_working_end(clock->owner_id, clock->started_at, amount) : clock->started_at + amount;
}

/* Returns the next moment at which something is due; 0 if there is none. */
TimestampTz
lr_clock_next(const LrClock *clock)
{
	TimestampTz rung;

	if (clock->started_at == 0)
		return 0;
	if (clock->rung >= clock->sla->nrungs)
		return clock->breached ? 0 : clock->due_at;
	rung = lr_clock_moment(clock, clock->sla->rungs[clock->rung].amount);
	return clock->breached ? rung : Min(rung, clock->due_at);
}

/* Notes when to look at a clock next: one whose owner never works again, as far as is known, once a day. */
void
lr_clock_set_next(LrClock *clock)
{
	clock->next_at = lr_clock_next(clock);
	if (TIMESTAMP_IS_NOEND(clock->next_at))
		clock->next_at = GetCurrentTimestamp() + USECS_PER_DAY;
	/* the scheduler looks that often by itself */
	if (clock->next_at && clock->next_at < GetCurrentTimestamp() + lr_poll_interval * INT64CONST(1000))
		lr_workers_notice(LR_NOTICE_TIMERS);
}

/* Reads a row of LR_CLOCK_COLUMNS, but for the terms. */
void
lr_clock_read(uint64 row, LrClock *clock)
{
	bool		isnull;

	memset(clock, 0, sizeof(*clock));
	clock->lead_id = lr_sql_int64(row, 1, 0);
	clock->run_id = lr_sql_int64(row, 2, 0);
	clock->started_at = moment_column(row, 3);
	clock->due_at = moment_column(row, 4);
	clock->policy_version_id = lr_sql_int32(row, 5, 0);
	clock->rule_no = lr_sql_int32(row, 6, 0);
	clock->owner_id = lr_sql_int32(row, 7, 0);
	clock->rung = DatumGetInt16(lr_sql_datum(row, 8, &isnull));
	clock->moves = DatumGetInt16(lr_sql_datum(row, 9, &isnull));
	clock->breached = DatumGetBool(lr_sql_datum(row, 10, &isnull));
}

static TimestampTz
moment_column(uint64 row, int column)
{
	bool		isnull;
	Datum		moment = lr_sql_datum(row, column, &isnull);

	return isnull ? 0 : DatumGetTimestampTz(moment);
}

/* Finds the terms of a clock's rule, in the current memory context, or with other clocks that are in hand; false if it has no clock. */
bool
lr_clock_find_terms(LrClock *clock, const LrClock *others, int nothers)
{
	LrPolicy   *policy;

	clock->terms = NULL;
	for (int i = 0; i < nothers && clock->terms == NULL; i++)
	{
		if (others[i].policy_version_id == clock->policy_version_id && others[i].rule_no == clock->rule_no)
			clock->terms = others[i].terms;
	}
	if (clock->terms == NULL)
	{
		policy = lr_policy_hold_to_read(clock->policy_version_id);
		clock->terms = lr_terms_read(policy, clock->rule_no);
		lr_policy_release(policy);
	}
	clock->sla = clock->terms->sla;
	return clock->sla != NULL;
}

/* Writes what changed of a clock. */
void
lr_clock_write(const LrClock *clock)
{
	LrIdentity	identity;
	Oid			types[] = {INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, INT4OID, INT4OID, BOOLOID};
	Datum		values[] = {Int64GetDatum(clock->lead_id), Int64GetDatum(clock->run_id), TimestampTzGetDatum(clock->started_at),
		TimestampTzGetDatum(clock->due_at), TimestampTzGetDatum(clock->next_at), Int32GetDatum(clock->owner_id), Int32GetDatum(clock->rung),
	Int32GetDatum(clock->moves), BoolGetDatum(clock->breached)};
	char		nulls[] = {' ', ' ', clock->started_at ? ' ' : 'n', clock->due_at ? ' ' : 'n', clock->next_at ? ' ' : 'n', ' ', ' ', ' ', ' '};

	lr_sql_begin(&identity);
	lr_sql_kept(LR_PLAN_WRITE_CLOCK, "UPDATE leadroute.sla_clocks SET run_id = $2, started_at = $3, due_at = $4, next_at = $5, owner_id = $6, rung = $7, moves = $8,"
				" breached = $9, failures = 0 WHERE lead_id = $1", lengthof(types), types, values, nulls);
	lr_sql_end(&identity);
}
