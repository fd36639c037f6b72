/*
 * by_hand_give.c: decisions that people make: reassign_lead(), override_decision(), and what the other acts have in common with them.
 *
 * What a person decides is a decision as any other, an entry that supersedes the one before; it never edits. No step runs: its evidence
 * has no attributes and skipped steps, the policy version is that of the decision before, and so is the score, which belongs to the lead.
 * To verify it is to see that it stands as recorded.
 */
#include "pipeline/by_hand.h"

#include "assignment/counters.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "provenance/provenance.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(leadroute_reassign_lead);
PG_FUNCTION_INFO_V1(leadroute_override_decision);

static LrOutcome outcome_of_argument(Oid outcome);
static int64 lead_of_decision(int64 run_id);
static bool take_place(const LrRun *run, const LrLeadState *state, const LrGift *gift);
static bool choose_owner(LrRun *run, const LrLeadState *state, const LrGift *gift);
static LrState counted_before(const LrLeadState *state);
static LrSource *source_of(int source_id);
static int	version_that_decided(const LrLeadState *state);

/* Gives a lead to an owner whom a person names; see the SQL comment. */
Datum
leadroute_reassign_lead(PG_FUNCTION_ARGS)
{
	lr_refuse_nulls(fcinfo);

	char	   *reason = lr_reason_of_argument(PG_GETARG_DATUM(2));
	Oid			user = GetUserId();
	LrLeadState *state = lr_lead_state_lock(PG_GETARG_INT64(0));
	LrOwner		owner = lr_owner_of_argument(PG_GETARG_DATUM(1));
	LrGift		gift = {.outcome = LR_ASSIGNED,.owner_id = owner.owner_id,.cause = 'r',.reason_code = "reassigned",.note = reason,.user = user,
		.over_cap = PG_GETARG_BOOL(3) ? LR_OVER_CAP_FORCE : LR_OVER_CAP_RAISE};
	int64		run_id;

	lr_lead_must_be_open(state);
	if (state->outcome == LR_ASSIGNED && state->owner_id == owner.owner_id)
		PG_RETURN_INT64(state->run_id);
	if (!owner.available && !PG_GETARG_BOOL(3))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("owner \"%s\" is not available", TextDatumGetCString(PG_GETARG_DATUM(1))),
				errhint("Name another owner, or pass force => true."));
	gift.pool_id = lr_is_member(state->pool_id, owner.owner_id) ? state->pool_id : 0;
	run_id = lr_give_lead(state, &gift);
	lr_lead_act(&(LrLeadAct) {.act = "reassign",.lead_id = state->lead_id,.run_id = state->run_id,.new_run_id = run_id,
				.owner_id = state->owner_id,.reason = reason,.user = user});
	PG_RETURN_INT64(run_id);
}

/* Decides as a person, in place of a decision; see the SQL comment. */
Datum
leadroute_override_decision(PG_FUNCTION_ARGS)
{
	int64		decision_id;
	LrOutcome	outcome;
	char	   *reason;
	Oid			user = GetUserId();
	LrLeadState *state;
	LrOwner		owner = {0};
	LrGift		gift;
	int64		run_id;

	/* outcomes but one have no owner */
	lr_refuse_nulls_before(fcinfo, 2);
	if (PG_ARGISNULL(3))
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("argument \"%s\" of %s() is null", "reason", "override_decision"),
				errhint("Say why: it goes on record."));
	decision_id = PG_GETARG_INT64(0);
	outcome = outcome_of_argument(PG_GETARG_OID(1));
	reason = lr_reason_of_argument(PG_GETARG_DATUM(3));
	if ((outcome == LR_ASSIGNED) != !PG_ARGISNULL(2))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg(outcome == LR_ASSIGNED ? "the outcome assigned takes an owner" : "the outcome %s takes no owner", lr_outcome_names[outcome]),
				errhint("Give the owner's reference with assigned, and null with every other outcome."));
	state = lr_lead_state_lock(lead_of_decision(decision_id));
	if (outcome == LR_ASSIGNED)
		owner = lr_owner_of_argument(PG_GETARG_DATUM(2));
	if (owner.left)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("owner \"%s\" has left", TextDatumGetCString(PG_GETARG_DATUM(2))),
				errhint("Name another owner, or set ends_on of this one in leadroute.owners."));
	if (!state->gone && state->run_id && state->outcome == outcome && state->owner_id == owner.owner_id)
		PG_RETURN_INT64(state->run_id);
	lr_lead_must_be_open(state);
	if (state->run_id != decision_id)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("decision " INT64_FORMAT " does not hold any more", decision_id),
				errdetail("Decision " INT64_FORMAT " of lead " INT64_FORMAT " does.", state->run_id, state->lead_id),
				errhint("Look at it with leadroute.explain_decision(), and override that one."));
	gift = (LrGift) {.outcome = outcome,.owner_id = owner.owner_id,.cause = 'h',.reason_code = "overridden",.note = reason,.user = user};
	gift.pool_id = owner.owner_id && lr_is_member(state->pool_id, owner.owner_id) ? state->pool_id : 0;
	run_id = lr_give_lead(state, &gift);
	lr_lead_act(&(LrLeadAct) {.act = "override",.lead_id = state->lead_id,.run_id = state->run_id,.new_run_id = run_id,
				.owner_id = state->owner_id,.reason = reason,.user = user});
	PG_RETURN_INT64(run_id);
}

/* Returns the outcome that an argument names; raises 22023 for pending, which decides nothing. */
static LrOutcome
outcome_of_argument(Oid outcome)
{
	for (int i = 0; i < LR_N_OUTCOMES; i++)
	{
		if (lr_catalog()->outcomes[i] == outcome && i != LR_PENDING)
			return (LrOutcome) i;
	}
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("a person cannot decide that a lead is pending"),
			errhint("Give assigned, nurture, rejected, no_rule or quarantined."));
	return LR_PENDING;
}

static int64
lead_of_decision(int64 run_id)
{
	LrIdentity	identity;
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(run_id)};
	int64		lead_id;

	lr_sql_begin(&identity);
	if (lr_sql("SELECT lead_id FROM leadroute.entries WHERE run_id = $1 LIMIT 1", true, 1, types, values, NULL) == 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("decision " INT64_FORMAT " does not exist", run_id),
				errhint("See the column decision_id of leadroute.decisions."));
	lead_id = lr_sql_int64(0, 1, 0);
	lr_sql_end(&identity);
	return lead_id;
}

/*
 * Gives a lead to an owner, or takes it from all, as a person decided: one more decision, which supersedes the one before. The state is
 * locked. Returns the decision's id, or, where a cap leaves no room and the gift says so, 0. What people give goes through here, and nothing else does.
 */
int64
lr_give_lead(const LrLeadState *state, const LrGift *gift)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "leadroute decision of a person", ALLOCSET_SMALL_SIZES);
	MemoryContext saved = MemoryContextSwitchTo(memory);
	LrPolicy   *policy = lr_policy_hold_to_read(version_that_decided(state));
	LrSource   *source = source_of(state->source_id);
	LrRecorder	recorder = {.memory = memory,.capacity = 1};
	LrBatch		batch;
	LrRun	   *run;
	int64		run_id = 0;

	lr_batch_init(&batch, policy, source, GetCurrentTimestamp(), gift->cause, gift->user);
	batch.note = gift->note && gift->note[0] ? gift->note : NULL;
	batch.mode = source->observed ? LR_MODE_OBSERVE : LR_MODE_ROUTE;
	run = lr_batch_add(&batch);
	run->lead_id = state->lead_id;
	run->known = run->has_state = true;
	run->supersedes = state->run_id;
	if (state->entry_no > 0)
	{
		/* it ends the run that waits, and what that asked for */
		run->run_id = state->run_id;
		run->entry_no = state->entry_no;
		run->supersedes = state->waiting_supersedes;
		run->has_tasks = true;
	}
	run->ended = true;
	run->outcome = gift->outcome;
	run->reason = gift->reason_code;
	run->owner_id = gift->owner_id;
	run->pool_id = gift->pool_id;
	/* as_of and attributes are not what a person is asked for */
	lr_evidence_attributes(run);
	if (state->score >= 0)
		lr_run_set(run, LR_SCORE, Int32GetDatum(state->score));
	lr_run_set_text(run, LR_TIER, state->tier);
	lr_evidence_finish(run);
	/* what the lead counts, and by when, stays what it was */
	run->load = state->load ? state->load : lr_tier_load(state->tier, state->tier ? (int) strlen(state->tier) : 0);
	run->expected_value = state->expected_value;
	run->response_due_at = state->responded_at || gift->outcome != LR_ASSIGNED ? 0 : state->response_due_at;
	if (gift->outcome == LR_ASSIGNED && gift->owner_id == 0 ? choose_owner(run, state, gift) : take_place(run, state, gift))
	{
		lr_record_batch(&recorder, &batch);
		run_id = run->run_id;
	}
	lr_recorder_end(&recorder);
	lr_policy_release(policy);
	MemoryContextSwitchTo(saved);
	MemoryContextDelete(memory);
	return run_id;
}

/*
 * Takes the place that a lead has with its new owner. Returns false where a cap leaves none and the gift says that the caller sees to
 * that; otherwise raises 55000 then.
 */
static bool
take_place(const LrRun *run, const LrLeadState *state, const LrGift *gift)
{
	LrState		before = counted_before(state);
	LrCap		full;
	int64		count;

	if (gift->outcome != LR_ASSIGNED || run->batch->mode == LR_MODE_OBSERVE)
		return true;
	if (lr_place_take(gift->owner_id, gift->pool_id, run->load, run->expected_value == PG_INT64_MIN ? 0 : run->expected_value,
					  run->batch->as_of, gift->over_cap == LR_OVER_CAP_FORCE, &before, &full, &count))
		return true;
	if (gift->over_cap == LR_OVER_CAP_RAISE)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("a cap leaves no room for the lead"),
				errdetail("%s takes " INT64_FORMAT " %s, and has " INT64_FORMAT ".",
						  full.owner_id == 0 ? "The pool" : full.pool_id == 0 ? "The owner" : "The owner as a member of the pool", full.maximum,
						  full.per == LR_PER_OPEN ? "open at a time" : psprintf("per %s", lr_per_names[full.per]), count),
				errhint("Name another owner, raise the cap in leadroute.caps, or use leadroute.reassign_lead() with force => true."));
	return false;
}

/*
 * Chooses who of a pool gets a lead, as routing does: who has it, and who declined it, is passed over. Returns false where nobody can take
 * it; then nothing was taken.
 */
static bool
choose_owner(LrRun *run, const LrLeadState *state, const LrGift *gift)
{
	LrRule	   *rule = palloc0(sizeof(LrRule));
	LrState	   *before = palloc(sizeof(LrState));

	rule->number = gift->rule_no;
	rule->outcome = LR_ASSIGNED;
	rule->pool_id = gift->pool_id;
	rule->terms = gift->terms;
	rule->has_terms = gift->terms != NULL;
	run->rule = rule;
	lr_find_declined(run->batch);
	run->excluded = run->excluded ? repalloc(run->excluded, sizeof(int) * (run->nexcluded + 1)) : palloc(sizeof(int));
	run->excluded[run->nexcluded++] = state->owner_id;
	*before = counted_before(state);
	run->counted = before->owner_id ? before : NULL;
	lr_assign_batch(run->batch);
	/* no rule asks for anything in another pool, and none leads there */
	if (gift->terms == NULL)
		run->rule = NULL;
	return run->outcome == LR_ASSIGNED && run->owner_id != 0;
}

/* What a lead counts for who has it, until it is decided anew. */
static LrState
counted_before(const LrLeadState *state)
{
	return (LrState) {.owner_id = state->owner_id,.pool_id = state->pool_id,.since = state->since,.assigned = state->outcome == LR_ASSIGNED && state->owner_id,
		.open = !state->gone && state->finished_at == 0,.load = state->load,.expected_value = state->expected_value == PG_INT64_MIN ? 0 : state->expected_value};
}

/* The lead's table; where it is not attached any more, just its id: nothing is read of it. */
static LrSource *
source_of(int source_id)
{
	LrSource   *source = lr_source_by_id(source_id);

	if (source == NULL)
	{
		source = palloc0(sizeof(LrSource));
		source->source_id = source_id;
	}
	return source;
}

/* The version under which the lead was decided last; while it waits, its latest entry says. */
static int
version_that_decided(const LrLeadState *state)
{
	LrIdentity	identity;
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(state->run_id)};
	int			version_id = state->policy_version_id;

	if (version_id)
		return version_id;
	lr_sql_begin(&identity);
	if (lr_sql("SELECT policy_version_id FROM leadroute.entries WHERE run_id = $1 LIMIT 1", true, 1, types, values, NULL) > 0)
		version_id = lr_sql_int32(0, 1, 0);
	lr_sql_end(&identity);
	if (version_id == 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("the record of lead " INT64_FORMAT " is not there any more", state->lead_id),
				errhint("Route it first, with leadroute.route_lead()."));
	return version_id;
}
