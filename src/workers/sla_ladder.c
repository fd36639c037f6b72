/*
 * sla_ladder.c: what is done when a clock says so: the rungs of its ladder, and the end of its time.
 *
 * A ladder moves a lead as routing would choose, and decides as a person does: lr_give_lead() chooses of a pool, passing over who has the
 * lead and who declined it, and no step runs. Where nobody can take it, it stays where it is. Each thing that is done is an act on record, and an event.
 */
#include "workers/workers.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "workers/sla.h"

PG_FUNCTION_INFO_V1(leadroute_fire_sla_clocks);

static int	sla_max_moves = 3;

static void drop_clock(int64 lead_id);
static int	climb(LrClock *clock, const LrLeadState *state, TimestampTz now);
static bool moves_later(const LrClock *clock, TimestampTz now);
static void breach(LrClock *clock, const LrLeadState *state);
static bool climb_rung(LrClock *clock, const LrLeadState *state, bool passed_over);
static bool move(LrClock *clock, const LrLeadState *state, const LrRung *rung, int pool_id, const char *place);
static int	pool_by_name(const char *name);
static int	pool_of_rule(const LrClock *clock);
static void note(const LrClock *clock, const LrLeadState *state, const char *act, int64 new_run_id, const char *reason);
static void tell(const char *kind, const LrClock *clock, const LrLeadState *state, int rung, const char *reason, const char *to_pool, int64 new_run_id);

/* Registers settings. */
void
lr_slas_init(void)
{
	DefineCustomIntVariable("leadroute.sla_max_moves",
							"How often the ladders of SLAs move a lead to another owner.",
							"After that they only tell. It counts anew once the clock has stopped.",
							&sla_max_moves, 3, 0, 1000, PGC_SUSET, 0, NULL, NULL, NULL);
}

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
	LrClock	   *clocks;
	int64		done = 0;

	lr_sql_begin(&identity);
	nclocks = (int) lr_sql("SELECT " LR_CLOCK_COLUMNS " FROM leadroute.sla_clocks c WHERE c.lead_id = ANY ($1) AND c.next_at <= pg_catalog.clock_timestamp()"
						   " ORDER BY c.lead_id", false, 1, types, values, NULL);
	clocks = MemoryContextAlloc(memory, sizeof(LrClock) * Max(nclocks, 1));
	for (int i = 0; i < nclocks; i++)
		lr_clock_read(i, &clocks[i]);
	lr_sql_end(&identity);
	for (int i = 0, s = 0; i < nclocks; i++)
	{
		LrClock    *clock = &clocks[i];
		LrLeadState *state;

		CHECK_FOR_INTERRUPTS();
		while (s < nstates && states[s].lead_id < clock->lead_id)
			s++;
		state = s < nstates && states[s].lead_id == clock->lead_id ? &states[s] : NULL;
		/* what was decided since goes by another clock, or by none */
		if (state == NULL || state->run_id != clock->run_id || state->gone || state->finished_at || state->owner_id == 0 ||
			!lr_clock_find_terms(clock, clocks, i))
			drop_clock(clock->lead_id);
		else
			done += climb(clock, state, GetCurrentTimestamp());
	}
	PG_RETURN_INT64(done);
}

/* Drops a clock that counts no more. */
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

/* Does what is due of a clock, each once and in order; returns how much that was. A lead that was moved begins a new time. */
static int
climb(LrClock *clock, const LrLeadState *state, TimestampTz now)
{
	int			done = 0;
	bool		moved = false;

	/* the owner's calendar may be another one by now */
	if (TIMESTAMP_IS_NOEND(clock->due_at))
		clock->due_at = lr_clock_moment(clock, clock->sla->within);
	while (!moved)
	{
		TimestampTz next = lr_clock_next(clock);

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
	lr_clock_set_next(clock);
	lr_clock_write(clock);
	return done;
}

/* Tells whether a rung further up that moves the lead is due as well: whoever was away for long does not move it twice. */
static bool
moves_later(const LrClock *clock, TimestampTz now)
{
	for (int i = clock->rung; i < clock->sla->nrungs && lr_clock_moment(clock, clock->sla->rungs[i].amount) <= now; i++)
	{
		if (clock->sla->rungs[i].action == LR_RUNG_REASSIGN || clock->sla->rungs[i].action == LR_RUNG_ESCALATE)
			return true;
	}
	return false;
}

/* The time has run out. */
static void
breach(LrClock *clock, const LrLeadState *state)
{
	clock->breached = true;
	note(clock, state, "breach", 0, NULL);
	tell("sla.breached", clock, state, 0, NULL, NULL, 0);
}

/* Climbs the rung that was counted last; returns whether the lead has another owner now. */
static bool
climb_rung(LrClock *clock, const LrLeadState *state, bool passed_over)
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
	if (!passed_over && pool_id != 0 && clock->moves < sla_max_moves && move(clock, state, rung, pool_id, place))
		return true;
	note(clock, state, "notify", 0, psprintf("%s: %s", place, passed_over ? "passed over" : clock->moves >= sla_max_moves ? "moved often" : "nobody else"));
	tell("sla.notified", clock, state, clock->rung, passed_over ? "passed_over" : clock->moves >= sla_max_moves ? "moved_often" : "nobody_else",
		 rung->pool, 0);
	return false;
}

/* Gives the lead to somebody else of a pool; returns false where nobody can take it, and it stays with its owner. */
static bool
move(LrClock *clock, const LrLeadState *state, const LrRung *rung, int pool_id, const char *place)
{
	bool		reassigns = rung->action == LR_RUNG_REASSIGN;
	LrGift		gift = {.outcome = LR_ASSIGNED,.pool_id = pool_id,.rule_no = clock->rule_no,.cause = 's',.note = place,.user = GetUserId(),
		.reason_code = reassigns ? "sla_reassigned" : "sla_escalated",.terms = reassigns ? clock->terms : NULL};
	int64		run_id;

	/* before the new decision, which restarts the clock and goes on with the ladder from here */
	lr_clock_write(clock);
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
pool_of_rule(const LrClock *clock)
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
note(const LrClock *clock, const LrLeadState *state, const char *act, int64 new_run_id, const char *reason)
{
	lr_lead_act(&(LrLeadAct) {.act = act,.lead_id = state->lead_id,.run_id = state->run_id,.new_run_id = new_run_id,.owner_id = state->owner_id,
				.reason = reason,.user = GetUserId()});
}

/* Writes the event of it, if anybody wants it. rung: 0 for none. */
static void
tell(const char *kind, const LrClock *clock, const LrLeadState *state, int rung, const char *reason, const char *to_pool, int64 new_run_id)
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
