/*
 * by_hand_undo.c: undo_reroute(): the leads that a batch moved go back to whom they were with.
 *
 * Nothing is taken back: each lead gets one more decision, of the person who undoes. A lead that something happened to since stays
 * where it is, and is listed with the reason. What a batch moved, and from where, is in lead_acts and in the entries that these name.
 */
#include "pipeline/by_hand.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(leadroute_undo_reroute);

/* Columns of the result. */
enum
{
	LEAD_ID, ACTION, OLD_OWNER, NEW_OWNER, OUTCOME, DECISION_ID, N_COLUMNS
};

/* A move that a batch made. */
typedef struct Move
{
	int64		lead_id;
	int64		run_id;			/* the decision before */
	int64		new_run_id;		/* the batch's */
	int64		undone_run_id;	/* the one that took it back; 0 if none did */
	bool		known;			/* the decision before is on record */
	LrOutcome	outcome;		/* its */
	int			owner_id;
	int			pool_id;
	bool		worked_on;		/* since the move: accepted, or responded to */
	bool		owner_available;
	TimestampTz accepted_at;	/* by the owner before; 0 if not */
} Move;

static Move *moves_of(int64 batch_id, int *n);
static const char *why_not(const Move *move, const LrLeadState *state);
static int64 put_back(const Move *move, const LrLeadState *state, int64 batch_id, const char *reason);
static void put_row(ReturnSetInfo *result, const Move *move, const LrLeadState *state, const char *action, int64 run_id);

/* Puts the leads of a batch back; see the SQL comment. */
Datum
leadroute_undo_reroute(PG_FUNCTION_ARGS)
{
	lr_refuse_nulls(fcinfo);

	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int64		batch_id = PG_GETARG_INT64(0);
	char	   *reason = lr_reason_of_argument(PG_GETARG_DATUM(1));
	MemoryContext scratch;
	LrLeadState *states;
	Move	   *moves;
	int64	   *lead_ids;
	int			n;
	int			nstates;

	InitMaterializedSRF(fcinfo, 0);
	moves = moves_of(batch_id, &n);
	if (n == 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("there is no batch " INT64_FORMAT, batch_id),
				errhint("See the column batch_id of leadroute.lead_acts."));
	lead_ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int64) * n);
	for (int i = 0; i < n; i++)
		lead_ids[i] = moves[i].lead_id;
	states = lr_lead_states_find(lead_ids, n, true, &nstates);
	/* what happened to them until they were locked */
	moves = moves_of(batch_id, &n);
	scratch = AllocSetContextCreate(CurrentMemoryContext, "leadroute lead put back", ALLOCSET_SMALL_SIZES);
	for (int i = 0, s = 0; i < n && s < nstates; i++)
	{
		const LrLeadState *state;
		MemoryContext saved;
		const char *why;

		CHECK_FOR_INTERRUPTS();
		while (s < nstates - 1 && states[s].lead_id < moves[i].lead_id)
			s++;
		state = &states[s];
		if (state->lead_id != moves[i].lead_id)
			continue;
		saved = MemoryContextSwitchTo(scratch);
		why = why_not(&moves[i], state);
		if (why)
			put_row(result, NULL, state, why, state->run_id);
		else if (moves[i].undone_run_id == state->run_id)
			put_row(result, &moves[i], state, "put back", state->run_id);
		else
		{
			int64		run_id = put_back(&moves[i], state, batch_id, reason);

			if (run_id)
				put_row(result, &moves[i], state, "put back", run_id);
			else
				put_row(result, NULL, state, "left: the owner before is at a cap", state->run_id);
		}
		MemoryContextSwitchTo(saved);
		MemoryContextReset(scratch);
	}
	return (Datum) 0;
}

/* The moves of a batch, in the order of leads, with what became of them. */
static Move *
moves_of(int64 batch_id, int *n)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(batch_id)};
	Move	   *moves;

	lr_sql_begin(&identity);
	*n = (int) lr_sql("SELECT a.lead_id, a.run_id, a.new_run_id, u.new_run_id, e.outcome, e.owner_id, e.pool_id,"
					  " EXISTS (SELECT FROM leadroute.lead_acts l WHERE l.lead_id = a.lead_id AND l.act IN ('accept', 'respond') AND l.act_id > a.act_id),"
					  " o.available AND coalesce(o.starts_on <= d.today, true) AND coalesce(o.ends_on >= d.today, true),"
					  " (SELECT max(l.at) FROM leadroute.lead_acts l WHERE l.lead_id = a.lead_id AND l.act = 'accept' AND l.run_id = a.run_id AND l.act_id < a.act_id)"
					  " FROM leadroute.lead_acts a"
					  " LEFT JOIN leadroute.lead_acts u ON u.batch_id = a.batch_id AND u.lead_id = a.lead_id AND u.act = 'undo_reroute'"
					  " LEFT JOIN leadroute.entries e ON e.run_id = a.run_id AND e.lead_id = a.lead_id"
					  " LEFT JOIN leadroute.owners o ON o.owner_id = e.owner_id"
					  " LEFT JOIN LATERAL (SELECT (clock_timestamp() AT TIME ZONE o.timezone)::date AS today) d ON true"
					  " WHERE a.batch_id = $1 AND a.act = 'reroute' ORDER BY a.lead_id", true, 1, types, values, NULL);
	moves = MemoryContextAllocHuge(memory, sizeof(Move) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		bool		isnull;
		Datum		moment = lr_sql_datum(i, 10, &isnull);
		char	   *outcome = lr_sql_text(i, 5);

		moves[i] = (Move) {.lead_id = lr_sql_int64(i, 1, 0),.run_id = lr_sql_int64(i, 2, 0),.new_run_id = lr_sql_int64(i, 3, 0),
			.undone_run_id = lr_sql_int64(i, 4, 0),.known = outcome != NULL,.owner_id = lr_sql_int32(i, 6, 0),.pool_id = lr_sql_int32(i, 7, 0),
			.worked_on = DatumGetBool(lr_sql_datum(i, 8, &isnull)),.owner_available = lr_sql_int32(i, 6, 0) == 0};
		moves[i].accepted_at = lr_sql_text(i, 10) ? DatumGetTimestampTz(moment) : 0;
		if (outcome)
			(void) lr_outcome_by_name(outcome, &moves[i].outcome);
		if (moves[i].owner_id)
			moves[i].owner_available = DatumGetBool(lr_sql_datum(i, 9, &isnull)) && !isnull;
	}
	lr_sql_end(&identity);
	return moves;
}

/* Says why a lead is left where it is, or returns NULL. */
static const char *
why_not(const Move *move, const LrLeadState *state)
{
	if (state->merged)
		return "left: merged into another lead";
	if (state->gone)
		return "left: its row is gone";
	if (move->undone_run_id && move->undone_run_id == state->run_id)
		return NULL;
	if (state->finished_at)
		return "left: closed since";
	if (state->run_id != move->new_run_id || move->undone_run_id)
		return "left: decided again since";
	if (move->worked_on)
		return "left: accepted or contacted since";
	if (!move->known)
		return "left: the decision before is not on record any more";
	return move->owner_available ? NULL : "left: the owner before is not available";
}

/* Decides that a lead is where it was; returns the decision, 0 if a cap leaves no room. */
static int64
put_back(const Move *move, const LrLeadState *state, int64 batch_id, const char *reason)
{
	LrGift		gift = {.outcome = move->outcome,.owner_id = move->owner_id,.pool_id = move->pool_id,.cause = 'n',
		.reason_code = move->outcome == LR_PENDING ? "overflow" : "undone",.note = reason,.user = GetUserId(),.over_cap = LR_OVER_CAP_TELL};
	int64		run_id = lr_give_lead(state, &gift);
	LrIdentity	identity;
	Oid			types[] = {INT8OID, TIMESTAMPTZOID};
	Datum		values[] = {Int64GetDatum(move->lead_id), TimestampTzGetDatum(move->accepted_at)};

	if (run_id == 0)
		return 0;
	lr_lead_act(&(LrLeadAct) {.act = "undo_reroute",.lead_id = move->lead_id,.run_id = state->run_id,.new_run_id = run_id,.owner_id = state->owner_id,
				.reason = reason,.batch_id = batch_id,.user = gift.user});
	if (move->accepted_at)
	{
		lr_sql_begin(&identity);
		lr_sql("UPDATE leadroute.lead_states SET accepted_at = $2 WHERE lead_id = $1", false, lengthof(types), types, values, NULL);
		lr_sql_end(&identity);
	}
	return run_id;
}

/* move: NULL where the lead was left. */
static void
put_row(ReturnSetInfo *result, const Move *move, const LrLeadState *state, const char *action, int64 run_id)
{
	bool		stood = move && run_id == state->run_id;
	Datum		values[N_COLUMNS];
	bool		nulls[N_COLUMNS] = {false};
	char	   *old_owner;
	char	   *owner;
	char	   *pool;

	lr_names_of(state->owner_id, 0, &old_owner, &pool);
	owner = old_owner;
	if (move && !stood)
		lr_names_of(move->owner_id, 0, &owner, &pool);
	values[LEAD_ID] = Int64GetDatum(state->lead_id);
	lr_put_name(values, nulls, ACTION, action);
	lr_put_name(values, nulls, OLD_OWNER, old_owner);
	lr_put_name(values, nulls, NEW_OWNER, owner);
	values[OUTCOME] = ObjectIdGetDatum(lr_catalog()->outcomes[move && !stood ? move->outcome : state->outcome]);
	values[DECISION_ID] = Int64GetDatum(run_id);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}
