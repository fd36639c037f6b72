/*
 * bounds.c: a canary that does harm ends by itself.
 *
 * Each batch of leads that the candidate decided appends a row to leadroute.trial_tallies: how many there were, how many ended
 * badly, how long they took. No counter is kept that sessions would meet at. Every few leads a session sums the latest
 * tallies, and where one of the trial's bounds is crossed it ends the trial, in the transaction that inserts: if that rolls
 * back, so does the end, and the next session does it again. The policy's lock is taken only if nobody holds it: nobody waits.
 */
#include "policy/policy.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "pipeline/pipeline.h"
#include "registry/registry.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "writer.h"

PG_FUNCTION_INFO_V1(leadroute_check_trials);

/* A session looks at the bounds once in so many leads of the candidate. */
#define LEADS_BETWEEN_CHECKS 16

enum
{
	BOUND_NO_RULE, BOUND_QUARANTINED, BOUND_REJECTED, BOUND_DURATION
};

const char *const lr_bound_names[LR_N_BOUNDS] = {"no_rule", "quarantined", "rejected", "duration_us"};

static const char *const bounds_members[] = {"no_rule", "quarantined", "rejected", "duration_us", "min_leads", "window", NULL};

/* The columns of leadroute.trial_tallies. */
enum
{
	TALLY_AT, TALLY_DURATION, TALLY_TRIAL_ID, TALLY_LEADS, TALLY_NO_RULE, TALLY_QUARANTINED, TALLY_REJECTED
};

static void append_tally(const LrTrial *trial, const int64 *outcomes, int leads, double duration);
static bool check_bounds(const LrTrial *trial, Oid user);
static char *crossed_bound(const LrTrial *trial);
static void trim_tallies(void);

/* Reads the bounds of a trial. Mistakes are noted. */
void
lr_bounds_read(LrTrial *trial, json_t *bounds, LrMistakes *mistakes)
{
	double		min_leads = 100;
	double		window = 1000;

	for (int b = 0; b < LR_N_BOUNDS; b++)
		trial->bounds[b] = get_float8_nan();
	if (!json_is_object(bounds))
	{
		lr_mistake(mistakes, "bounds", "Give {\"no_rule\": 0.2, \"min_leads\": 100}, for example.", "has to be an object");
		return;
	}
	lr_json_known_members(bounds, bounds_members, "bounds", mistakes);
	for (int b = 0; b < LR_N_BOUNDS; b++)
		trial->bounded |= lr_json_number(bounds, lr_bound_names[b], 0, b == BOUND_DURATION ? 1e9 : 1, &trial->bounds[b], "bounds", mistakes);
	(void) lr_json_number(bounds, "min_leads", 1, 1e6, &min_leads, "bounds", mistakes);
	(void) lr_json_number(bounds, "window", 1, 1e6, &window, "bounds", mistakes);
	if (window < min_leads)
		lr_mistake(mistakes, "bounds.window", "Give at least as many as min_leads. Unless given, window is 1000 and min_leads 100.", "is less than min_leads");
	trial->min_leads = (int) min_leads;
	trial->window = (int) window;
}

/* Tallies a batch that the candidate decided, and looks at the bounds now and then. */
void
lr_trial_tally(LrTrial *trial, const LrBatch *batch)
{
	int64		outcomes[LR_N_OUTCOMES] = {0};
	int			leads = 0;

	if (!trial->bounded)
		return;
	for (int i = 0; i < batch->n; i++)
	{
		/* who waits has not been decided */
		if (batch->runs[i].unchanged || (batch->runs[i].outcome == LR_PENDING && strcmp(batch->runs[i].reason, "overflow") != 0))
			continue;
		outcomes[batch->runs[i].outcome]++;
		leads++;
	}
	if (leads == 0)
		return;
	append_tally(trial, outcomes, leads, (double) batch->total_duration * leads);
	trial->unchecked += leads;
	if (trial->unchecked < LEADS_BETWEEN_CHECKS)
		return;
	trial->unchecked = 0;
	(void) check_bounds(trial, batch->user);
}

static void
append_tally(const LrTrial *trial, const int64 *outcomes, int leads, double duration)
{
	LrWriter   *writer = lr_writer_open(lr_catalog()->tables[LR_TABLE_TRIAL_TALLIES], 1);
	TupleTableSlot *slot = lr_writer_row(writer);

	slot->tts_values[TALLY_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
	slot->tts_values[TALLY_DURATION] = Float8GetDatum(duration);
	slot->tts_values[TALLY_TRIAL_ID] = Int32GetDatum(trial->trial_id);
	slot->tts_values[TALLY_LEADS] = Int32GetDatum(leads);
	slot->tts_values[TALLY_NO_RULE] = Int32GetDatum((int32) outcomes[LR_NO_RULE]);
	slot->tts_values[TALLY_QUARANTINED] = Int32GetDatum((int32) outcomes[LR_QUARANTINED]);
	slot->tts_values[TALLY_REJECTED] = Int32GetDatum((int32) outcomes[LR_REJECTED]);
	memset(slot->tts_isnull, false, sizeof(bool) * 7);
	lr_writer_close(writer);
}

/* Ends every trial that crossed a bound; see the SQL comment. */
Datum
leadroute_check_trials(PG_FUNCTION_ARGS)
{
	int			ended = 0;
	ListCell   *cell;

	(void) lr_catalog();
	foreach(cell, lr_trials_running())
	{
		if (((LrTrial *) lfirst(cell))->bounded)
			ended += check_bounds(lfirst(cell), GetUserId());
	}
	trim_tallies();
	PG_RETURN_INT32(ended);
}

/* Ends a trial if it crossed a bound, unless somebody else is at its policy; returns whether it did. */
static bool
check_bounds(const LrTrial *trial, Oid user)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(trial->policy_id)};
	char	   *crossed;
	bool		locked;

	/* what changed behind the snapshot would make the user's transaction fail: another one ends the trial */
	if (IsolationUsesXactSnapshot())
		return false;
	crossed = crossed_bound(trial);
	if (crossed == NULL)
		return false;
	lr_sql_begin(&identity);
	locked = lr_sql("SELECT FROM leadroute.policies WHERE policy_id = $1 FOR UPDATE SKIP LOCKED", false, 1, types, values, NULL) > 0;
	lr_sql_end(&identity);
	if (!locked || !lr_trial_end(trial->trial_id, "aborted_automatically", crossed))
		return false;
	lr_record_act(&(LrAct) {.act = "abort_trial_automatically",.policy_id = trial->policy_id,.policy_version_id = trial->candidate_version_id,
		.previous_version_id = trial->baseline_version_id,.reason = crossed,.current_user = user});
	return true;
}

/* Says which bound the latest leads crossed, in the current memory context; NULL if none. */
static char *
crossed_bound(const LrTrial *trial)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(trial->trial_id), Int32GetDatum(trial->window)};
	int64		leads;
	char	   *crossed = NULL;

	lr_sql_begin(&identity);
	/* from the latest tally backwards, until there are as many leads as the window has */
	lr_sql_kept(LR_PLAN_TALLIED,
				"SELECT coalesce(sum(leads), 0)::bigint, sum(no_rule)::double precision, sum(quarantined)::double precision,"
				" sum(rejected)::double precision, sum(duration_us) FROM (SELECT t.*, sum(leads) OVER (ORDER BY at DESC ROWS UNBOUNDED PRECEDING) - leads AS later"
				" FROM (SELECT * FROM leadroute.trial_tallies WHERE trial_id = $1 ORDER BY at DESC LIMIT $2) t) w WHERE later < $2", 2, types, values, NULL);
	leads = lr_sql_int64(0, 1, 0);
	for (int b = 0; b < LR_N_BOUNDS && leads >= trial->min_leads && crossed == NULL; b++)
	{
		bool		isnull;
		double		mean = DatumGetFloat8(lr_sql_datum(0, b + 2, &isnull)) / (double) leads;

		if (!isnan(trial->bounds[b]) && mean > trial->bounds[b])
		{
			MemoryContext saved = MemoryContextSwitchTo(memory);

			crossed = psprintf("%s was %.4g over the latest " INT64_FORMAT " leads, above %g", lr_bound_names[b], mean, leads, trial->bounds[b]);
			MemoryContextSwitchTo(saved);
		}
	}
	lr_sql_end(&identity);
	return crossed;
}

/* Forgets the tallies that no window reaches any more, and those of trials that ended while their leads were being inserted. */
static void
trim_tallies(void)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[2];
	ListCell   *cell;

	lr_sql_begin(&identity);
	lr_sql("DELETE FROM leadroute.trial_tallies WHERE ctid = ANY (ARRAY(SELECT t.ctid FROM leadroute.trial_tallies t WHERE NOT EXISTS"
		   " (SELECT FROM leadroute.policy_trials r WHERE r.trial_id = t.trial_id AND r.ended_at IS NULL) FOR UPDATE SKIP LOCKED))", false, 0, NULL, NULL, NULL);
	foreach(cell, lr_trials_running())
	{
		values[0] = Int32GetDatum(((LrTrial *) lfirst(cell))->trial_id);
		values[1] = Int32GetDatum(((LrTrial *) lfirst(cell))->window);
		lr_sql("DELETE FROM leadroute.trial_tallies WHERE ctid = ANY (ARRAY(SELECT t.ctid FROM leadroute.trial_tallies t JOIN"
			   " (SELECT at, sum(leads) OVER (ORDER BY at DESC ROWS UNBOUNDED PRECEDING) - leads AS later FROM leadroute.trial_tallies WHERE trial_id = $1) w"
			   " ON t.at = w.at AND w.later >= $2 WHERE t.trial_id = $1 FOR UPDATE OF t SKIP LOCKED))", false, 2, types, values, NULL);
	}
	lr_sql_end(&identity);
}
