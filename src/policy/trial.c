/*
 * trial.c: trying a version of a policy on real leads before it becomes active.
 *
 * A canary gives a share of the leads to a candidate; a shadow lets the candidate decide beside the active version, on record
 * and acted on by nobody. A policy has at most one trial at a time. It compares with the version that was active when it
 * began: if another one becomes active, the trial ends. Sessions keep the running trials until their table changes; routing.c
 * asks once a statement. Bounds at which a trial ends by itself are in bounds.c.
 *
 * Whoever begins, changes or ends a trial holds the lock of the policy's row, as whoever activates a version does.
 */
#include "policy/policy.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "registry/registry.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(leadroute_start_canary);
PG_FUNCTION_INFO_V1(leadroute_start_shadow);
PG_FUNCTION_INFO_V1(leadroute_change_share);
PG_FUNCTION_INFO_V1(leadroute_promote_candidate);
PG_FUNCTION_INFO_V1(leadroute_abort_trial);

/* What begins a trial. */
typedef struct Start
{
	const char *kind;
	char	   *policy;
	int			version;
	double		share;
	char	   *segment;		/* or NULL */
	char	   *salt;
	Datum		bounds;			/* jsonb */
	char	   *reason;
} Start;

/* A running trial as its table has it. */
typedef struct Running
{
	int			policy_id;
	int			trial_id;
	int			candidate_version_id;
	int			candidate_version;
	int			baseline_version_id;
} Running;

static List *running = NIL;		/* of LrTrial, in trial_memory */
static MemoryContext trial_memory = NULL;
static uint64 trials_generation;

static List *load_trials(void);
static LrTrial *load_trial(uint64 row);
static int	start(const Start *given);
static void check_segment(const Start *given, int candidate_version_id);
static int	version_by_number(int policy_id, const char *policy, int version);
static void end_running(const Running *trial, const char *how, const char *reason);
static void refuse_old_snapshot(void);
static void record(const char *act, const Running *trial, const char *reason, Oid caller);
static bool find_running(int policy_id, Running *found);
static Running require_running(const char *policy);
static char *text_or_null(FunctionCallInfo fcinfo, int argument);

/* ---- what sessions know ---- */

/* Returns the trial of a policy that runs now, NULL if there is none. Stays good for the transaction. */
LrTrial *
lr_trial_running(const char *policy)
{
	ListCell   *cell;

	foreach(cell, lr_trials_running())
	{
		LrTrial    *trial = lfirst(cell);

		if (strcmp(trial->policy, policy) == 0)
			return trial;
	}
	return NULL;
}

/* Returns all trials that run now. */
List *
lr_trials_running(void)
{
	uint64		generation = lr_table_generation(LR_TABLE_POLICY_TRIALS) + lr_table_generation(LR_TABLE_POLICIES);

	if (trial_memory == NULL || trials_generation != generation)
	{
		MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "leadroute trials", ALLOCSET_SMALL_SIZES);
		MemoryContext saved = MemoryContextSwitchTo(memory);
		List	   *loaded = load_trials();

		MemoryContextSwitchTo(saved);
		MemoryContextSetParent(memory, CacheMemoryContext);
		/* a statement in hand may still go by the old ones: they go with the transaction */
		if (trial_memory)
			MemoryContextSetParent(trial_memory, TopTransactionContext);
		trial_memory = memory;
		running = loaded;
		trials_generation = generation;
	}
	return running;
}

/* Tells on which side of a trial a lead stands. */
LrSide
lr_trial_side(const LrTrial *trial, const struct LrRun *run)
{
	if (!lr_segment_holds(trial->segment, run))
		return LR_SIDE_NONE;
	return lr_share_takes(run, trial->salt, trial->share) ? LR_SIDE_CANDIDATE : LR_SIDE_BASELINE;
}

static List *
load_trials(void)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	List	   *trials = NIL;
	uint64		n;

	lr_sql_begin(&identity);
	n = lr_sql("SELECT t.trial_id, t.policy_id, p.name, t.candidate_version_id, t.baseline_version_id, t.kind, t.share, t.salt, t.segment, t.bounds"
			   " FROM leadroute.policy_trials t JOIN leadroute.policies p USING (policy_id) WHERE t.ended_at IS NULL", true, 0, NULL, NULL, NULL);
	MemoryContextSwitchTo(memory);
	for (uint64 i = 0; i < n; i++)
		trials = lappend(trials, load_trial(i));
	lr_sql_end(&identity);
	return trials;
}

static LrTrial *
load_trial(uint64 row)
{
	LrTrial    *trial = palloc0(sizeof(LrTrial));
	LrMistakes	mistakes = {NIL};
	bool		isnull;

	trial->trial_id = lr_sql_int32(row, 1, 0);
	trial->policy_id = lr_sql_int32(row, 2, 0);
	trial->policy = lr_sql_text(row, 3);
	trial->candidate_version_id = lr_sql_int32(row, 4, 0);
	trial->baseline_version_id = lr_sql_int32(row, 5, 0);
	trial->shadow = strcmp(lr_sql_text(row, 6), "shadow") == 0;
	trial->share = DatumGetFloat8(lr_sql_datum(row, 7, &isnull));
	trial->salt = lr_sql_text(row, 8);
	/* what was checked when the trial began is not complained of here */
	lr_bounds_read(trial, lr_json_of_jsonb(lr_sql_datum(row, 10, &isnull)), &mistakes);
	trial->segment = lr_segment_make(lr_sql_text(row, 9));
	return trial;
}

/* ---- beginning ---- */

/* Gives a share of the leads to a candidate; see the SQL comment. */
Datum
leadroute_start_canary(PG_FUNCTION_ARGS)
{
	Start		given = {.kind = "canary"};

	lr_refuse_nulls_before(fcinfo, 3);
	given.policy = lr_checked_name(PG_GETARG_DATUM(0), "policy");
	given.version = PG_GETARG_INT32(1);
	given.share = PG_GETARG_FLOAT8(2);
	given.segment = text_or_null(fcinfo, 3);
	given.salt = text_or_null(fcinfo, 4);
	given.bounds = PG_ARGISNULL(5) ? (Datum) 0 : PG_GETARG_DATUM(5);
	given.reason = text_or_null(fcinfo, 6);
	PG_RETURN_INT32(start(&given));
}

/* Lets a candidate decide beside the active version; see the SQL comment. */
Datum
leadroute_start_shadow(PG_FUNCTION_ARGS)
{
	Start		given = {.kind = "shadow"};

	lr_refuse_nulls_before(fcinfo, 3);
	given.policy = lr_checked_name(PG_GETARG_DATUM(0), "policy");
	given.version = PG_GETARG_INT32(1);
	given.share = PG_GETARG_FLOAT8(2);
	given.segment = text_or_null(fcinfo, 3);
	given.reason = text_or_null(fcinfo, 4);
	PG_RETURN_INT32(start(&given));
}

static int
start(const Start *given)
{
	LrIdentity	identity;
	Oid			caller = GetUserId();
	Oid			types[] = {INT4OID, INT4OID, INT4OID, TEXTOID, FLOAT8OID, TEXTOID, TEXTOID, JSONBOID, TEXTOID, TEXTOID};
	Datum		values[10];
	char		nulls[10];
	Running		present;
	LrPolicyRow row;
	int			candidate;
	int			trial_id;

	lr_check_share(given->share);
	lr_policy_lock(given->policy, false, &row);
	candidate = version_by_number(row.policy_id, given->policy, given->version);
	if (row.active == 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("policy \"%s\" has no active version to compare with", given->policy),
				errhint("Activate one with leadroute.activate_policy()."));
	if (candidate == row.active)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("version %d of policy \"%s\" is the active one", given->version, given->policy),
				errhint("Try another version: see leadroute.policy_version_states."));
	if (find_running(row.policy_id, &present))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("policy \"%s\" has a trial already", given->policy),
				errdetail("Version %d is on trial.", present.candidate_version),
				errhint("End it with leadroute.promote_candidate() or leadroute.abort_trial()."));
	lr_policy_check_usable(candidate, given->policy);
	/* a canary decides as an active version does; nobody acts on a shadow */
	if (strcmp(given->kind, "canary") == 0)
		(void) lr_policy_check_approved(&row, candidate, given->policy, false);
	check_segment(given, candidate);

	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int32GetDatum(row.policy_id);
	values[1] = Int32GetDatum(candidate);
	values[2] = Int32GetDatum(row.active);
	values[3] = CStringGetTextDatum(given->kind);
	values[4] = Float8GetDatum(given->share);
	values[5] = CStringGetTextDatum(given->salt ? given->salt : lr_random_salt());
	values[6] = given->segment ? CStringGetTextDatum(given->segment) : (Datum) 0;
	nulls[6] = given->segment ? ' ' : 'n';
	values[7] = given->bounds;
	nulls[7] = given->bounds ? ' ' : 'n';
	values[8] = CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(), false));
	values[9] = CStringGetTextDatum(given->reason ? given->reason : "");
	lr_sql_begin(&identity);
	lr_sql("INSERT INTO leadroute.policy_trials (policy_id, candidate_version_id, baseline_version_id, kind, share, salt, segment, bounds, started_by, start_reason)"
		   " VALUES ($1, $2, $3, $4, $5, $6, $7, coalesce($8, '{}'), $9::name, $10) RETURNING trial_id", false, 10, types, values, nulls);
	trial_id = lr_sql_int32(0, 1, 0);
	lr_sql_end(&identity);
	lr_record_act(&(LrAct) {.act = strcmp(given->kind, "canary") == 0 ? "start_canary" : "start_shadow",.policy_id = row.policy_id,
		.policy_version_id = candidate,.previous_version_id = row.active,.reason = given->reason ? given->reason : "",.current_user = caller});
	return trial_id;
}

/* Checks segment and bounds of a trial; what the candidate may read, its segment may read. */
static void
check_segment(const Start *given, int candidate_version_id)
{
	LrMistakes	mistakes = {NIL};
	LrPolicy   *candidate = lr_policy_hold(candidate_version_id);
	LrTrial		trial = {0};

	if (given->segment)
		lr_segment_check(given->segment, candidate->justifications, "trial's segment", &mistakes);
	if (given->bounds)
		lr_bounds_read(&trial, lr_json_of_jsonb(given->bounds), &mistakes);
	lr_policy_release(candidate);
	lr_mistakes_raise(&mistakes, psprintf("the trial of policy \"%s\"", given->policy));
}

static int
version_by_number(int policy_id, const char *policy, int version)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(policy_id), Int32GetDatum(version)};
	int			version_id = 0;

	lr_sql_begin(&identity);
	if (lr_sql("SELECT policy_version_id FROM leadroute.policy_versions WHERE policy_id = $1 AND version = $2", true, 2, types, values, NULL) > 0)
		version_id = lr_sql_int32(0, 1, 0);
	lr_sql_end(&identity);
	if (version_id == 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("policy \"%s\" has no version %d", policy, version),
				errhint("See leadroute.policy_version_states."));
	return version_id;
}

/* ---- changing and ending ---- */

/* Gives another share of the leads to the candidate; see the SQL comment. */
Datum
leadroute_change_share(PG_FUNCTION_ARGS)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID, FLOAT8OID};
	Datum		values[2];
	Oid			caller = GetUserId();
	Running		trial;

	lr_refuse_nulls(fcinfo);
	lr_check_share(PG_GETARG_FLOAT8(1));
	trial = require_running(lr_checked_name(PG_GETARG_DATUM(0), "policy"));
	values[0] = Int32GetDatum(trial.trial_id);
	values[1] = PG_GETARG_DATUM(1);
	lr_sql_begin(&identity);
	if (lr_sql("UPDATE leadroute.policy_trials SET share = $2 WHERE trial_id = $1", false, 2, types, values, NULL) == 0)
		refuse_old_snapshot();
	lr_sql_end(&identity);
	record("change_share", &trial, text_to_cstring(PG_GETARG_TEXT_PP(2)), caller);
	PG_RETURN_VOID();
}

/* Makes the candidate the active version, and ends the trial; see the SQL comment. */
Datum
leadroute_promote_candidate(PG_FUNCTION_ARGS)
{
	Oid			types[] = {TEXTOID, INT4OID, TEXTOID};
	Datum		values[3];
	Oid			caller = GetUserId();
	Running		trial;
	char	   *reason;

	lr_refuse_nulls(fcinfo);
	trial = require_running(lr_checked_name(PG_GETARG_DATUM(0), "policy"));
	reason = text_to_cstring(PG_GETARG_TEXT_PP(1));
	end_running(&trial, "promoted", reason);
	record("promote_candidate", &trial, reason, caller);

	/* as the caller, who needs all that it takes to activate a version */
	values[0] = PG_GETARG_DATUM(0);
	values[1] = Int32GetDatum(trial.candidate_version);
	values[2] = PG_GETARG_DATUM(1);
	SPI_connect();
	if (SPI_execute_with_args("SELECT leadroute.activate_policy(name => $1, version => $2, reason => $3)", 3, types, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not activate version %d", trial.candidate_version);
	SPI_finish();
	PG_RETURN_INT32(trial.candidate_version);
}

/* Ends the trial of a policy; see the SQL comment. */
Datum
leadroute_abort_trial(PG_FUNCTION_ARGS)
{
	Oid			caller = GetUserId();
	Running		trial;
	char	   *reason;

	lr_refuse_nulls(fcinfo);
	trial = require_running(lr_checked_name(PG_GETARG_DATUM(0), "policy"));
	reason = text_to_cstring(PG_GETARG_TEXT_PP(1));
	end_running(&trial, "aborted", reason);
	record("abort_trial", &trial, reason, caller);
	PG_RETURN_VOID();
}

/* Ends the trial of a policy that has another active version now, if there is one. The caller holds the policy's lock. */
void
lr_trial_end_with_baseline(int policy_id, Oid caller)
{
	static const char reason[] = "another version became active";
	Running		trial;

	if (!find_running(policy_id, &trial))
		return;
	end_running(&trial, "aborted", reason);
	record("abort_trial", &trial, reason, caller);
}

/* Returns the id of the version that a policy's canary, if it has one, gives leads to; 0 for none. The caller holds the policy's lock. */
int
lr_trial_canary(int policy_id)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(policy_id)};
	int			version_id = 0;

	lr_sql_begin(&identity);
	if (lr_sql("SELECT candidate_version_id FROM leadroute.policy_trials WHERE policy_id = $1 AND kind = 'canary' AND ended_at IS NULL",
			   true, 1, types, values, NULL) > 0)
		version_id = lr_sql_int32(0, 1, 0);
	lr_sql_end(&identity);
	return version_id;
}

/* Ends a trial that was found running while its policy is locked. */
static void
end_running(const Running *trial, const char *how, const char *reason)
{
	if (!lr_trial_end(trial->trial_id, how, reason))
		refuse_old_snapshot();
}

/* Raises 40001 where a trial began after the snapshot that this transaction keeps: it is found, but cannot be changed. */
static void
refuse_old_snapshot(void)
{
	ereport(ERROR,
			errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			errmsg("could not serialize access due to concurrent update"),
			errdetail("The trial began after this transaction."),
			errhint("The transaction might succeed if retried."));
}

static void
record(const char *act, const Running *trial, const char *reason, Oid caller)
{
	lr_record_act(&(LrAct) {.act = act,.policy_id = trial->policy_id,.policy_version_id = trial->candidate_version_id,
		.previous_version_id = trial->baseline_version_id,.reason = reason,.current_user = caller});
}

/* Writes the end of a trial, and forgets its tallies; false if it has ended already. The caller holds the policy's lock. */
bool
lr_trial_end(int trial_id, const char *how, const char *reason)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID, TEXTOID, TEXTOID, TEXTOID};
	Datum		values[] = {Int32GetDatum(trial_id), CStringGetTextDatum(how), CStringGetTextDatum(reason),
	CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(), false))};
	bool		ended;

	lr_sql_begin(&identity);
	ended = lr_sql("UPDATE leadroute.policy_trials SET ended_at = clock_timestamp(), ended_by = $4::name, ended_how = $2, end_reason = $3"
				   " WHERE trial_id = $1 AND ended_at IS NULL", false, 4, types, values, NULL) > 0;
	/* whoever is trimming them has those that are locked */
	lr_sql("DELETE FROM leadroute.trial_tallies WHERE ctid = ANY (ARRAY(SELECT ctid FROM leadroute.trial_tallies WHERE trial_id = $1 FOR UPDATE SKIP LOCKED))",
		   false, 1, types, values, NULL);
	lr_sql_end(&identity);
	return ended;
}

/* Finds the trial of a policy as it is now, and locks the policy; raises 55000 if there is none. */
static Running
require_running(const char *policy)
{
	Running		found;
	LrPolicyRow row;

	lr_policy_lock(policy, false, &row);
	if (!find_running(row.policy_id, &found))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("policy \"%s\" has no trial", policy),
				errhint("Begin one with leadroute.start_canary() or leadroute.start_shadow(); those that ended are in leadroute.policy_trials."));
	return found;
}

static bool
find_running(int policy_id, Running *found)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(policy_id)};
	bool		any;

	lr_sql_begin(&identity);
	any = lr_sql("SELECT t.trial_id, t.candidate_version_id, v.version, t.baseline_version_id FROM leadroute.policy_trials t"
				 " JOIN leadroute.policy_versions v ON v.policy_version_id = t.candidate_version_id WHERE t.policy_id = $1 AND t.ended_at IS NULL",
				 true, 1, types, values, NULL) > 0;
	if (any)
		*found = (Running) {.policy_id = policy_id,.trial_id = lr_sql_int32(0, 1, 0),.candidate_version_id = lr_sql_int32(0, 2, 0),
			.candidate_version = lr_sql_int32(0, 3, 0),.baseline_version_id = lr_sql_int32(0, 4, 0)};
	lr_sql_end(&identity);
	return any;
}

static char *
text_or_null(FunctionCallInfo fcinfo, int argument)
{
	return PG_ARGISNULL(argument) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(argument));
}
