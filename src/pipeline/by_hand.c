/*
 * by_hand.c: what owners do with a lead that they have: accept it or decline it, respond, close it, reopen it.
 *
 * An act that was done already is not done again, and gives what the first one gave; one that contradicts what is on record raises
 * 55000. All are rows of lead_acts. Only declining makes a decision: the lead is routed again, and who declined it is passed over.
 */
#include "pipeline/by_hand.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(leadroute_accept_lead);
PG_FUNCTION_INFO_V1(leadroute_decline_lead);
PG_FUNCTION_INFO_V1(leadroute_log_first_response);
PG_FUNCTION_INFO_V1(leadroute_close_lead);
PG_FUNCTION_INFO_V1(leadroute_reopen_lead);

/* Clocks of other machines may be ahead by so much. */
#define CLOCKS_DIFFER (5 * USECS_PER_MINUTE)

static int	owner_argument(FunctionCallInfo fcinfo, int argument);
static void must_have(const LrLeadState *state, int owner_id);
static char *reason_code_of_argument(Datum reason);
static bool has_declined(int64 lead_id, int owner_id);
static void keep_run_id(const LrRun *run, void *argument);
static void set_state(int64 lead_id, const char *command, TimestampTz at, const char *result);
static void note_conversion(int64 lead_id, TimestampTz at, Datum value, bool unknown);
static void forget_conversion(int64 lead_id, TimestampTz at);

/* Notes that the owner of a lead takes it; see the SQL comment. */
Datum
leadroute_accept_lead(PG_FUNCTION_ARGS)
{
	int			owner_id;
	LrLeadState *state;
	TimestampTz now;

	lr_refuse_nulls_before(fcinfo, 1);
	state = lr_lead_state_lock(PG_GETARG_INT64(0));
	owner_id = owner_argument(fcinfo, 1);
	if (!state->gone && state->accepted_at && (owner_id == 0 || owner_id == state->owner_id))
		PG_RETURN_TIMESTAMPTZ(state->accepted_at);
	lr_lead_must_be_open(state);
	must_have(state, owner_id);
	now = GetCurrentTimestamp();
	set_state(state->lead_id, "UPDATE leadroute.lead_states SET accepted_at = $2 WHERE lead_id = $1", now, NULL);
	lr_lead_act(&(LrLeadAct) {.act = "accept",.lead_id = state->lead_id,.run_id = state->run_id,.owner_id = state->owner_id,.user = GetUserId()});
	PG_RETURN_TIMESTAMPTZ(now);
}

/* Has a lead go to the next candidate; see the SQL comment. */
Datum
leadroute_decline_lead(PG_FUNCTION_ARGS)
{
	char	   *reason;
	int			owner_id;
	LrLeadState *state;
	int64		run_id = 0;

	lr_refuse_nulls_before(fcinfo, 2);
	reason = reason_code_of_argument(PG_GETARG_DATUM(1));
	state = lr_lead_state_lock(PG_GETARG_INT64(0));
	owner_id = owner_argument(fcinfo, 2);
	if (owner_id && owner_id != state->owner_id && state->run_id && has_declined(state->lead_id, owner_id))
		PG_RETURN_INT64(state->run_id);
	lr_lead_must_be_open(state);
	must_have(state, owner_id);
	if (state->accepted_at)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("lead " INT64_FORMAT " is accepted", state->lead_id),
				errhint("Give it to somebody else with leadroute.reassign_lead()."));
	/* before the routing, which passes over who declined */
	lr_lead_act(&(LrLeadAct) {.act = "decline",.lead_id = state->lead_id,.run_id = state->run_id,.owner_id = state->owner_id,.reason = reason,
				.user = GetUserId()});
	lr_route_by_ids(&state->lead_id, 1, &(LrByIds) {.cause = 'd',.note = reason,.locked = true,.done = keep_run_id,.argument = &run_id});
	PG_RETURN_INT64(run_id);
}

/* Stops the clock of the first response; see the SQL comment. */
Datum
leadroute_log_first_response(PG_FUNCTION_ARGS)
{
	lr_refuse_nulls(fcinfo);

	TimestampTz at = PG_GETARG_TIMESTAMPTZ(1);
	LrLeadState *state = lr_lead_state_lock(PG_GETARG_INT64(0));

	if (!state->gone && state->responded_at)
		PG_RETURN_TIMESTAMPTZ(state->responded_at);
	if (TIMESTAMP_NOT_FINITE(at) || at > GetCurrentTimestamp() + CLOCKS_DIFFER)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a response cannot have been at a moment to come"),
				errhint("Give the moment of the response, or leave it out for now."));
	if (state->gone)
		lr_lead_must_be_open(state);
	must_have(state, 0);
	set_state(state->lead_id, "UPDATE leadroute.lead_states SET responded_at = $2 WHERE lead_id = $1", at, NULL);
	lr_lead_act(&(LrLeadAct) {.act = "respond",.lead_id = state->lead_id,.run_id = state->run_id,.owner_id = state->owner_id,.effective_at = at,
				.user = GetUserId()});
	PG_RETURN_TIMESTAMPTZ(at);
}

/* Ends the work on a lead; see the SQL comment. */
Datum
leadroute_close_lead(PG_FUNCTION_ARGS)
{
	char	   *result;
	bool		won;
	LrLeadState *state;
	TimestampTz now;

	lr_refuse_nulls_before(fcinfo, 2);
	result = text_to_cstring(PG_GETARG_TEXT_PP(1));
	won = strcmp(result, "won") == 0;
	if (!won && strcmp(result, "lost") != 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a lead cannot end as \"%s\"", result),
				errhint("Give won or lost."));
	if (!won && !PG_ARGISNULL(2))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a lead that is lost has no value"),
				errhint("Leave the value out, or give won."));
	state = lr_lead_state_lock(PG_GETARG_INT64(0));
	if (!state->gone && state->finished_at && strcmp(state->result, result) == 0)
		PG_RETURN_TIMESTAMPTZ(state->finished_at);
	lr_lead_must_be_open(state);
	now = GetCurrentTimestamp();
	set_state(state->lead_id, "UPDATE leadroute.lead_states SET finished_at = $2, result = $3 WHERE lead_id = $1", now, result);
	if (won)
		note_conversion(state->lead_id, now, PG_ARGISNULL(2) ? (Datum) 0 : PG_GETARG_DATUM(2), PG_ARGISNULL(2));
	lr_lead_act(&(LrLeadAct) {.act = "close",.lead_id = state->lead_id,.run_id = state->run_id,.owner_id = state->owner_id,.reason = result,
				.user = GetUserId()});
	/* the place is free */
	if (state->owner_id)
		lr_draw_for_owner(state->owner_id, state->load);
	PG_RETURN_TIMESTAMPTZ(now);
}

/* Opens a closed lead again; see the SQL comment. */
Datum
leadroute_reopen_lead(PG_FUNCTION_ARGS)
{
	lr_refuse_nulls(fcinfo);

	char	   *reason = text_to_cstring(PG_GETARG_TEXT_PP(1));
	LrLeadState *state = lr_lead_state_lock(PG_GETARG_INT64(0));
	int64		run_id = state->run_id;

	if (state->gone || state->finished_at == 0)
	{
		lr_lead_must_be_open(state);
		PG_RETURN_INT64(run_id);
	}
	set_state(state->lead_id, "UPDATE leadroute.lead_states SET finished_at = NULL, result = NULL WHERE lead_id = $1", 0, NULL);
	if (strcmp(state->result, "won") == 0)
		forget_conversion(state->lead_id, state->finished_at);
	lr_lead_act(&(LrLeadAct) {.act = "reopen",.lead_id = state->lead_id,.run_id = state->run_id,.owner_id = state->owner_id,.reason = reason,
				.user = GetUserId()});
	/* a run that waited goes on; what it had asked for is gone */
	if (state->entry_no > 0)
		lr_route_by_ids(&state->lead_id, 1, &(LrByIds) {.cause = 'p',.note = reason,.locked = true,.done = keep_run_id,.argument = &run_id});
	/* who has left meanwhile works no lead */
	if (state->owner_id && lr_owner_left(state->owner_id))
		lr_route_by_ids(&state->lead_id, 1, &(LrByIds) {.cause = 'l',.note = reason,.locked = true,.done = keep_run_id,.argument = &run_id});
	PG_RETURN_INT64(run_id);
}

/* Returns the owner whom an argument names, or 0 if it names none. */
static int
owner_argument(FunctionCallInfo fcinfo, int argument)
{
	return PG_ARGISNULL(argument) ? 0 : lr_owner_of_argument(PG_GETARG_DATUM(argument)).owner_id;
}

/* Raises 55000 unless somebody has a lead; owner_id: who, or 0 for anybody. */
static void
must_have(const LrLeadState *state, int owner_id)
{
	if (state->owner_id == 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("nobody has lead " INT64_FORMAT, state->lead_id),
				errdetail("Its outcome is %s (%s).", lr_outcome_names[state->outcome], state->reason_code),
				errhint("Give it to somebody with leadroute.reassign_lead()."));
	if (owner_id && owner_id != state->owner_id)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("another owner has lead " INT64_FORMAT, state->lead_id),
				errhint("See leadroute.open_leads."));
}

/* Returns the code that an argument gives; raises 22023 for what could be words about somebody. */
static char *
reason_code_of_argument(Datum reason)
{
	char	   *code = TextDatumGetCString(reason);
	size_t		length = strlen(code);

	if (length == 0 || length >= NAMEDATALEN || code[0] < 'a' || code[0] > 'z' || strspn(code, "abcdefghijklmnopqrstuvwxyz0123456789_") != length)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the reason is no code"),
				errhint("Give a code in lower case, such as no_capacity or wrong_region: it goes on record, which holds no personal data."));
	return code;
}

/* Tells whether an owner declined a lead since it was last accepted or reopened. */
static bool
has_declined(int64 lead_id, int owner_id)
{
	LrRun		run = {.lead_id = lead_id};
	LrBatch		batch = {.n = 1,.runs = &run};

	lr_find_declined(&batch);
	return lr_run_excludes(&run, owner_id);
}

static void
keep_run_id(const LrRun *run, void *argument)
{
	*(int64 *) argument = run->run_id;
}

/* Changes a state by a command whose parameters are the lead, a moment and a result. */
static void
set_state(int64 lead_id, const char *command, TimestampTz at, const char *result)
{
	LrIdentity	identity;
	Oid			types[] = {INT8OID, TIMESTAMPTZOID, TEXTOID};
	Datum		values[] = {Int64GetDatum(lead_id), TimestampTzGetDatum(at), CStringGetTextDatum(result ? result : "")};

	lr_sql_begin(&identity);
	lr_sql(command, false, lengthof(types), types, values, NULL);
	lr_sql_end(&identity);
}

/* A lead that is won has converted. */
static void
note_conversion(int64 lead_id, TimestampTz at, Datum value, bool unknown)
{
	LrIdentity	identity;
	Oid			types[] = {INT8OID, TIMESTAMPTZOID, NUMERICOID};
	Datum		values[] = {Int64GetDatum(lead_id), TimestampTzGetDatum(at), value};
	char		nulls[] = {' ', ' ', unknown ? 'n' : ' '};

	lr_sql_begin(&identity);
	lr_sql("SELECT leadroute.record_conversion($1, $2, $3)", false, lengthof(types), types, values, nulls);
	lr_sql_end(&identity);
}

/* One that is reopened has not, as far as we noted it. */
static void
forget_conversion(int64 lead_id, TimestampTz at)
{
	LrIdentity	identity;
	Oid			types[] = {INT8OID, TIMESTAMPTZOID};
	Datum		values[] = {Int64GetDatum(lead_id), TimestampTzGetDatum(at)};

	lr_sql_begin(&identity);
	lr_sql("DELETE FROM leadroute.conversions WHERE lead_id = $1 AND converted_at = $2", false, lengthof(types), types, values, NULL);
	lr_sql_end(&identity);
}
