/*
 * sla.c: the clocks of leads: started and stopped with what happens to them, and the ladders that are climbed when nothing does.
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
#include "miscadmin.h"
#include "pipeline/by_hand.h"
#include "provenance/provenance.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "workers/processes.h"
#include "writer.h"

PG_FUNCTION_INFO_V1(leadroute_fire_sla_clocks);

/* The columns of leadroute.sla_clocks that a new one has. */
enum
{
	CLOCK_LEAD_ID, CLOCK_RUN_ID, CLOCK_STARTED_AT, CLOCK_DUE_AT, CLOCK_NEXT_AT, CLOCK_POLICY_VERSION_ID, CLOCK_RULE_NO, CLOCK_OWNER_ID,
	CLOCK_RUNG, CLOCK_MOVES, CLOCK_FAILURES, CLOCK_START_ON, CLOCK_STOP_ON, CLOCK_WORKING, CLOCK_BREACHED
};

/* The clock of a lead; moments are 0 for null. */
typedef struct Clock
{
	int64		lead_id;
	int64		run_id;
	TimestampTz started_at;
	TimestampTz due_at;
	TimestampTz next_at;
	int			policy_version_id;
	int			rule_no;
	int			owner_id;
	int			rung;			/* how many were climbed */
	int			moves;			/* how often the ladder moved the lead */
	bool		breached;
	const LrSla *sla;
} Clock;

#define CLOCK_COLUMNS "c.lead_id, c.run_id, c.started_at, c.due_at, c.policy_version_id, c.rule_no, c.owner_id, c.rung, c.moves, c.breached"

/* The clocks of rules that the session has come across. */
typedef struct KnownSla
{
	int			policy_version_id;
	int			rule_no;
	LrTerms    *terms;
} KnownSla;

#define MAX_KNOWN 200

static MemoryContext known_memory = NULL;
static KnownSla known[MAX_KNOWN];
static int	nknown = 0;

int			lr_sla_max_moves = 3;

static void start_clock(LrRecorder *recorder, const LrRun *run, const LrSla *sla);
static void change_clock(const LrRun *run);
static void begin(Clock *clock, TimestampTz at);
static TimestampTz moment_of(const Clock *clock, int64 amount);
static TimestampTz next_of(const Clock *clock);
static void set_next(Clock *clock);
static bool read_clock(uint64 row, Clock *clock);
static TimestampTz moment_column(uint64 row, int column);
static LrTerms *find_terms(int policy_version_id, int rule_no);
static void write_clock(const Clock *clock);
static void drop_clock(int64 lead_id);
static int	climb(Clock *clock, const LrLeadState *state, TimestampTz now);
static bool moves_later(const Clock *clock, TimestampTz now);
static void breach(Clock *clock, const LrLeadState *state);
static bool climb_rung(Clock *clock, const LrLeadState *state, bool passed_over);
static bool move(Clock *clock, const LrLeadState *state, const LrRung *rung, int pool_id, const char *place);
static int	pool_by_name(const char *name);
static int	pool_of_rule(const Clock *clock);
static void note(const Clock *clock, const LrLeadState *state, const char *act, int64 new_run_id, const char *reason);
static void tell(const char *kind, const Clock *clock, const LrLeadState *state, int rung, const char *reason, const char *to_pool, int64 new_run_id);

static inline void
put(TupleTableSlot *slot, int column, Datum value)
{
	slot->tts_values[column] = value;
	slot->tts_isnull[column] = false;
}

/* Registers settings. */
void
lr_slas_init(void)
{
	DefineCustomIntVariable("leadroute.sla_max_moves",
							"How often the ladders of SLAs move a lead to another owner.",
							"After that they only tell. It counts anew once the clock has stopped.",
							&lr_sla_max_moves, 3, 0, 1000, PGC_SUSET, 0, NULL, NULL, NULL);
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
	Clock		clock = {.lead_id = run->lead_id,.run_id = run->run_id,.policy_version_id = run->batch->policy->version_id,
		.rule_no = run->rule->number,.owner_id = run->owner_id,.sla = sla};
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
	Clock		clock;
	bool		found;

	lr_sql_begin(&identity);
	found = lr_sql_kept(LR_PLAN_CLOCK, "SELECT " CLOCK_COLUMNS " FROM leadroute.sla_clocks c WHERE c.lead_id = $1 AND c.run_id = $2", 2, types, values, NULL) > 0 &&
		read_clock(0, &clock);
	lr_sql_end(&identity);
	if (!found)
		return;
	clock.run_id = run->run_id;
	if (clock.owner_id == run->owner_id)
		set_next(&clock);
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
	write_clock(&clock);
}

/* Stops, or starts, the clock of a lead with which somebody did something. */
void
lr_sla_of_act(const LrLeadAct *act)
{
	LrIdentity	identity;
	Oid			types[] = {INT8OID, CHAROID, TIMESTAMPTZOID};
	Datum		values[] = {Int64GetDatum(act->lead_id), CharGetDatum(act->act[0]), TimestampTzGetDatum(act->effective_at ? act->effective_at : GetCurrentTimestamp())};
	Clock		clock;
	bool		waits;

	if (strcmp(act->act, "accept") != 0 && strcmp(act->act, "respond") != 0 && strcmp(act->act, "close") != 0)
		return;
	lr_sql_begin(&identity);
	lr_sql_kept(LR_PLAN_STOP_CLOCK, "SELECT leadroute.stop_sla_clock($1, $2, $3) FROM leadroute.sla_clocks WHERE lead_id = $1", 3, types, values, NULL);
	waits = act->act[0] == 'a' &&
		lr_sql_kept(LR_PLAN_WAITING_CLOCK, "SELECT " CLOCK_COLUMNS " FROM leadroute.sla_clocks c WHERE c.lead_id = $1 AND c.started_at IS NULL", 1, types, values, NULL) > 0 &&
		read_clock(0, &clock);
	lr_sql_end(&identity);
	if (waits && clock.run_id == act->run_id)
	{
		clock.started_at = DatumGetTimestampTz(values[2]);
		clock.due_at = moment_of(&clock, clock.sla->within);
		set_next(&clock);
		write_clock(&clock);
	}
}

/* Has a clock begin, or wait for what starts it. */
static void
begin(Clock *clock, TimestampTz at)
{
	clock->started_at = clock->sla->start == 'g' ? at : 0;
	clock->due_at = clock->started_at ? moment_of(clock, clock->sla->within) : 0;
	set_next(clock);
}

/* ---- clocks ---- */

/* Returns when so much of the clock's time has passed since its start. */
static TimestampTz
moment_of(const Clock *clock, int64 amount)
{
	return clock->sla->working ? lr_working_end(clock->owner_id, clock->started_at, amount) : clock->started_at + amount;
}

/* Returns the next moment at which something is due; 0 if there is none. */
static TimestampTz
next_of(const Clock *clock)
{
	TimestampTz rung;

	if (clock->started_at == 0)
		return 0;
	if (clock->rung >= clock->sla->nrungs)
		return clock->breached ? 0 : clock->due_at;
	rung = moment_of(clock, clock->sla->rungs[clock->rung].amount);
	return clock->breached ? rung : Min(rung, clock->due_at);
}

/* Notes when to look at a clock next: one whose owner never works again, as far as is known, once a day. */
static void
set_next(Clock *clock)
{
	clock->next_at = next_of(clock);
	if (TIMESTAMP_IS_NOEND(clock->next_at))
		clock->next_at = GetCurrentTimestamp() + USECS_PER_DAY;
	/* the scheduler looks that often by itself */
	if (clock->next_at && clock->next_at < GetCurrentTimestamp() + lr_poll_interval * INT64CONST(1000))
		lr_workers_notice(LR_NOTICE_TIMERS);
}

/* Reads a row of CLOCK_COLUMNS; false if its rule has no clock. */
static bool
read_clock(uint64 row, Clock *clock)
{
	bool		isnull;
	LrTerms    *terms;

	clock->lead_id = lr_sql_int64(row, 1, 0);
	clock->run_id = lr_sql_int64(row, 2, 0);
	clock->started_at = moment_column(row, 3);
	clock->due_at = moment_column(row, 4);
	clock->next_at = 0;
	clock->policy_version_id = lr_sql_int32(row, 5, 0);
	clock->rule_no = lr_sql_int32(row, 6, 0);
	clock->owner_id = lr_sql_int32(row, 7, 0);
	clock->rung = DatumGetInt16(lr_sql_datum(row, 8, &isnull));
	clock->moves = DatumGetInt16(lr_sql_datum(row, 9, &isnull));
	clock->breached = DatumGetBool(lr_sql_datum(row, 10, &isnull));
	terms = find_terms(clock->policy_version_id, clock->rule_no);
	clock->sla = terms->sla;
	return terms->sla != NULL;
}

static TimestampTz
moment_column(uint64 row, int column)
{
	bool		isnull;
	Datum		moment = lr_sql_datum(row, column, &isnull);

	return isnull ? 0 : DatumGetTimestampTz(moment);
}

/* Finds the terms of a rule of a published version, which never changes. What is returned is good until many others were asked for. */
static LrTerms *
find_terms(int policy_version_id, int rule_no)
{
	LrPolicy   *policy;
	MemoryContext saved;
	LrTerms    *terms;
	static uint64 generation = 0;

	if (nknown == MAX_KNOWN || generation != lr_table_generation(LR_TABLE_LEAD_STATES))
	{
		nknown = 0;
		generation = lr_table_generation(LR_TABLE_LEAD_STATES);
		if (known_memory)
			MemoryContextReset(known_memory);
	}
	for (int i = 0; i < nknown; i++)
	{
		if (known[i].policy_version_id == policy_version_id && known[i].rule_no == rule_no)
			return known[i].terms;
	}
	if (known_memory == NULL)
		known_memory = AllocSetContextCreate(CacheMemoryContext, "leadroute clocks of rules", ALLOCSET_SMALL_SIZES);
	policy = lr_policy_hold_to_read(policy_version_id);
	saved = MemoryContextSwitchTo(known_memory);
	terms = lr_terms_read(policy, rule_no);
	MemoryContextSwitchTo(saved);
	lr_policy_release(policy);
	known[nknown++] = (KnownSla) {policy_version_id, rule_no, terms};
	return terms;
}

static void
write_clock(const Clock *clock)
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

static void
drop_clock(int64 lead_id)
{
	LrIdentity	identity;
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(lead_id)};

	lr_sql_begin(&identity);
	lr_sql("DELETE FROM leadroute.sla_clocks WHERE lead_id = $1", false, 1, types, values, NULL);
	lr_sql_end(&identity);
}

/* ---- ladders ---- */

/* Climbs the ladders of leads whose states the caller has locked; see the SQL comment. */
Datum
leadroute_fire_sla_clocks(PG_FUNCTION_ARGS)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(0);
	int			nids = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {INT8ARRAYOID};
	Datum		values[] = {PointerGetDatum(array)};
	int			nstates;
	int			nclocks;
	LrLeadState *states = lr_lead_states_find((int64 *) ARR_DATA_PTR(array), nids, true, &nstates);
	Clock	   *clocks;
	int64		done = 0;

	lr_sql_begin(&identity);
	nclocks = (int) lr_sql("SELECT " CLOCK_COLUMNS " FROM leadroute.sla_clocks c WHERE c.lead_id = ANY ($1) AND c.next_at <= pg_catalog.clock_timestamp()"
						   " ORDER BY c.lead_id", false, 1, types, values, NULL);
	clocks = MemoryContextAlloc(memory, sizeof(Clock) * Max(nclocks, 1));
	for (int i = 0; i < nclocks; i++)
		clocks[i].lead_id = lr_sql_int64(i, 1, 0);
	lr_sql_end(&identity);
	for (int i = 0, s = 0; i < nclocks; i++)
	{
		LrLeadState *state;
		Datum		lead_id[] = {Int64GetDatum(clocks[i].lead_id)};
		Oid			lead_type[] = {INT8OID};
		bool		found;

		CHECK_FOR_INTERRUPTS();
		while (s < nstates && states[s].lead_id < clocks[i].lead_id)
			s++;
		state = s < nstates && states[s].lead_id == clocks[i].lead_id ? &states[s] : NULL;
		lr_sql_begin(&identity);
		found = lr_sql_kept(LR_PLAN_DUE_CLOCK, "SELECT " CLOCK_COLUMNS " FROM leadroute.sla_clocks c WHERE c.lead_id = $1", 1, lead_type, lead_id, NULL) > 0 &&
			read_clock(0, &clocks[i]);
		lr_sql_end(&identity);
		/* what was decided since goes by another clock, or by none */
		if (!found || state == NULL || state->run_id != clocks[i].run_id || state->gone || state->finished_at || state->owner_id == 0)
			drop_clock(clocks[i].lead_id);
		else
			done += climb(&clocks[i], state, GetCurrentTimestamp());
	}
	PG_RETURN_INT64(done);
}

/* Does what is due of a clock, each once and in order; returns how much that was. A lead that was moved begins a new time. */
static int
climb(Clock *clock, const LrLeadState *state, TimestampTz now)
{
	int			done = 0;
	bool		moved = false;

	/* the owner's calendar may be another one by now */
	if (TIMESTAMP_IS_NOEND(clock->due_at))
		clock->due_at = moment_of(clock, clock->sla->within);
	while (!moved)
	{
		TimestampTz next = next_of(clock);

		if (next == 0 || next > now)
			break;
		done++;
		if (!clock->breached && clock->due_at == next)
			breach(clock, state);
		else
		{
			clock->rung++;
			moved = climb_rung(clock, state, moves_later(clock, now));
		}
	}
	if (moved)
		return done;
	set_next(clock);
	write_clock(clock);
	return done;
}

/* Tells whether a rung further up that moves the lead is due as well: whoever was away for long does not move it twice. */
static bool
moves_later(const Clock *clock, TimestampTz now)
{
	for (int i = clock->rung; i < clock->sla->nrungs && moment_of(clock, clock->sla->rungs[i].amount) <= now; i++)
	{
		if (clock->sla->rungs[i].action == LR_RUNG_REASSIGN || clock->sla->rungs[i].action == LR_RUNG_ESCALATE)
			return true;
	}
	return false;
}

/* The time has run out. */
static void
breach(Clock *clock, const LrLeadState *state)
{
	clock->breached = true;
	note(clock, state, "breach", 0, NULL);
	tell("sla.breached", clock, state, 0, NULL, NULL, 0);
}

/* Climbs the rung that was counted last; returns whether the lead has another owner now. */
static bool
climb_rung(Clock *clock, const LrLeadState *state, bool passed_over)
{
	const LrRung *rung = &clock->sla->rungs[clock->rung - 1];
	const char *place = psprintf("rung %d", clock->rung);
	int			pool_id = state->pool_id;

	if (rung->action == LR_RUNG_REMIND)
	{
		note(clock, state, "remind", 0, place);
		tell("sla.due", clock, state, clock->rung, NULL, NULL, 0);
		return false;
	}
	if (rung->action == LR_RUNG_NOTIFY)
	{
		note(clock, state, "notify", 0, place);
		tell("sla.notified", clock, state, clock->rung, "ladder", rung->pool, 0);
		return false;
	}
	if (rung->action == LR_RUNG_ESCALATE)
		pool_id = pool_by_name(rung->pool);
	else if (pool_id == 0)
		pool_id = pool_of_rule(clock);
	if (!passed_over && pool_id != 0 && clock->moves < lr_sla_max_moves && move(clock, state, rung, pool_id, place))
		return true;
	note(clock, state, "notify", 0, psprintf("%s: %s", place, passed_over ? "passed over" : clock->moves >= lr_sla_max_moves ? "moved often" : "nobody else"));
	tell("sla.notified", clock, state, clock->rung, passed_over ? "passed_over" : clock->moves >= lr_sla_max_moves ? "moved_often" : "nobody_else",
		 rung->pool, 0);
	return false;
}

/* Gives the lead to somebody else of a pool; returns false where nobody can take it, and it stays with its owner. */
static bool
move(Clock *clock, const LrLeadState *state, const LrRung *rung, int pool_id, const char *place)
{
	bool		reassigns = rung->action == LR_RUNG_REASSIGN;
	LrGift		gift = {.outcome = LR_ASSIGNED,.pool_id = pool_id,.rule_no = clock->rule_no,.cause = 's',.note = place,.user = GetUserId(),
		.reason_code = reassigns ? "sla_reassigned" : "sla_escalated",.terms = reassigns ? find_terms(clock->policy_version_id, clock->rule_no) : NULL};
	int64		run_id;

	/* before the new decision, which restarts the clock and goes on with the ladder from here */
	write_clock(clock);
	run_id = lr_give_lead(state, &gift);
	if (run_id == 0)
		return false;
	note(clock, state, reassigns ? "sla_reassign" : "sla_escalate", run_id, place);
	tell(reassigns ? "sla.reassigned" : "sla.escalated", clock, state, clock->rung, NULL, rung->pool, run_id);
	return true;
}

/* Returns a pool by its name, or 0 if it is not there any more. */
static int
pool_by_name(const char *name)
{
	LrIdentity	identity;
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	int			pool_id = 0;

	lr_sql_begin(&identity);
	if (lr_sql("SELECT pool_id FROM leadroute.pools WHERE name = $1", true, 1, types, values, NULL) > 0)
		pool_id = lr_sql_int32(0, 1, 0);
	lr_sql_end(&identity);
	return pool_id;
}

/* Returns the pool that the clock's rule leads to, for a lead that a person gave to somebody outside of it; 0 if it is not there any more. */
static int
pool_of_rule(const Clock *clock)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(clock->policy_version_id), Int32GetDatum(clock->rule_no)};
	int			pool_id = 0;

	lr_sql_begin(&identity);
	if (lr_sql("SELECT p.pool_id FROM leadroute.policy_rules r JOIN leadroute.pools p ON p.name = r.rule ->> 'pool'"
			   " WHERE r.policy_version_id = $1 AND r.rule_no = $2", true, 2, types, values, NULL) > 0)
		pool_id = lr_sql_int32(0, 1, 0);
	lr_sql_end(&identity);
	return pool_id;
}

/* Puts on record what the ladder did. */
static void
note(const Clock *clock, const LrLeadState *state, const char *act, int64 new_run_id, const char *reason)
{
	lr_lead_act(&(LrLeadAct) {.act = act,.lead_id = state->lead_id,.run_id = state->run_id,.new_run_id = new_run_id,.owner_id = state->owner_id,
				.reason = reason,.user = GetUserId()});
}

/* Writes the event of it, if anybody wants it. rung: 0 for none. */
static void
tell(const char *kind, const Clock *clock, const LrLeadState *state, int rung, const char *reason, const char *to_pool, int64 new_run_id)
{
	LrIdentity	identity;
	Oid			types[] = {TEXTOID, INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, TEXTOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(kind), Int64GetDatum(state->lead_id), Int64GetDatum(new_run_id ? new_run_id : state->run_id),
		TimestampTzGetDatum(clock->started_at), TimestampTzGetDatum(clock->due_at), Int32GetDatum(rung), CStringGetTextDatum(reason ? reason : ""),
	CStringGetTextDatum(to_pool ? to_pool : "")};
	char		nulls[] = {' ', ' ', ' ', ' ', ' ', rung ? ' ' : 'n', reason ? ' ' : 'n', to_pool ? ' ' : 'n'};

	lr_sql_begin(&identity);
	lr_sql_kept(LR_PLAN_TELL_SLA, "SELECT leadroute.tell_sla($1, $2, $3, $4, $5, $6, $7, $8)", lengthof(types), types, values, nulls);
	lr_sql_end(&identity);
}
