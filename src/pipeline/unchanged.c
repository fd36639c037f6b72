/*
 * unchanged.c: leads that are routed again, and in which nothing changed.
 *
 * Their decision stands, and nothing is written: routing by hand, or a change that changes nothing, costs a lead neither its owner nor a
 * line of its record. The stable part of the evidence tells; whether the owner can go on having the lead is asked of the pool as it is now.
 */
#include "pipeline/pipeline.h"

#include "assignment/assignment.h"
#include "catalog/pg_type.h"
#include "pipeline/by_hand.h"
#include "provenance/provenance.h"
#include "utils/builtins.h"

static bool is_unchanged(LrRun *run, uint64 row);
static bool stays(LrRun *run, uint64 row);
static bool may_keep(LrRun *run, uint64 row);
static bool was_asked(uint64 row, int owner_id);

/*
 * Finds the runs of leads routed again in which nothing changed: the same policy version, attributes, outputs and rule, and
 * an owner who is still there, or still the one to be preferred. Their decision stands; so does that of a lead that is closed. A run that was
 * left waiting for another reason than its own, such as a policy version that could not be used, has no tasks any more, and is not the same.
 */
void
lr_find_unchanged(LrBatch *batch)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {INT8OID, INT8OID};
	int			nest = -1;

	for (int i = 0; i < batch->n; i++)
	{
		LrRun	   *run = &batch->runs[i];
		Datum		values[] = {Int64GetDatum(run->supersedes), Int64GetDatum(run->lead_id)};

		if (run->supersedes == 0)
			continue;
		/* whoever locked the lead before may have taken it out of the overflow */
		if (run->finished || (batch->cause == 'v' && run->waiting_pool_id == 0))
		{
			run->unchanged = true;
			continue;
		}
		if (nest < 0)
			nest = lr_by_index_enter();
		lr_sql_begin(&identity);
		if (lr_sql_kept(LR_PLAN_ENTRY,
						"SELECT e.evidence, e.policy_version_id, e.rule_no, e.owner_id, e.outcome, s.closed_at IS NULL, e.mode = 'o', s.pool_id, e.choice"
						" FROM leadroute.entries e JOIN leadroute.lead_states s USING (lead_id)"
						" WHERE e.run_id = $1 AND s.lead_id = $2 AND s.run_id = $1 AND s.outcome = e.outcome"
						" AND (s.outcome <> 'pending' OR s.reason_code = e.reason_code)", 2, types, values, NULL) > 0)
		{
			MemoryContext saved = MemoryContextSwitchTo(memory);

			run->unchanged = batch->cause == 'b' ? stays(run, 0) : is_unchanged(run, 0);
			MemoryContextSwitchTo(saved);
		}
		lr_sql_end(&identity);
	}
	lr_settings_leave(nest);
}

static bool
is_unchanged(LrRun *run, uint64 row)
{
	bool		isnull;
	bytea	   *evidence = DatumGetByteaPP(lr_sql_datum(row, 1, &isnull));
	int			stable_length;
	int			own_length;
	const char *stable = lr_evidence_stable(VARDATA_ANY(evidence), VARSIZE_ANY_EXHDR(evidence), &stable_length);
	bytea	   *own_evidence = lr_run_evidence(run);
	const char *own = lr_evidence_stable(VARDATA(own_evidence), VARSIZE(own_evidence) - VARHDRSZ, &own_length);
	const char *outcome = lr_sql_text(row, 5);
	const LrTerms *terms;
	LrPool	   *pool;

	if (stable_length != own_length || memcmp(stable, own, own_length) != 0 ||
		lr_sql_int32(row, 2, 0) != run->batch->policy->version_id ||
		lr_sql_int32(row, 3, -1) != (run->rule ? run->rule->number : -1) ||
		!DatumGetBool(lr_sql_datum(row, 6, &isnull)))
		return false;
	/* nobody acted on what was decided while the table was observed */
	if (DatumGetBool(lr_sql_datum(row, 7, &isnull)) != (run->batch->mode == LR_MODE_OBSERVE))
		return false;
	run->repeats = true;
	if (run->outcome != LR_ASSIGNED)
		return strcmp(outcome, lr_outcome_names[run->outcome]) == 0;
	terms = lr_rule_terms(run->batch->policy, run->rule);
	pool = lr_pool(run->pool_id, run->batch->as_of, terms->within, terms->working_clock);
	if (strcmp(outcome, "assigned") == 0)
		return may_keep(run, row);
	/* nobody was there, and nobody is; who waits in an overflow may leave it */
	return strcmp(outcome, "no_rule") == 0 && pool->non == 0;
}

/*
 * Tells whether a lead that is rerouted in a batch stays where it is: what moves it is another outcome, another pool, or an owner who
 * does not work in the pool any more. That the policy's version is another one is what such batches are for.
 */
static bool
stays(LrRun *run, uint64 row)
{
	bool		isnull;

	if (strcmp(lr_sql_text(row, 5), lr_outcome_names[run->outcome]) != 0 || !DatumGetBool(lr_sql_datum(row, 6, &isnull)) ||
		DatumGetBool(lr_sql_datum(row, 7, &isnull)) != (run->batch->mode == LR_MODE_OBSERVE))
		return false;
	return run->outcome != LR_ASSIGNED || (lr_sql_int32(row, 8, 0) == run->pool_id && may_keep(run, row));
}

/*
 * Tells whether who has a lead can go on having it: a member who is still there, or the one to be preferred, who has not declined it.
 * One who was asked before, and could not take the lead, is not preferred again: whoever took it has begun to work on it.
 */
static bool
may_keep(LrRun *run, uint64 row)
{
	int			owner_id = lr_sql_int32(row, 4, 0);
	const LrTerms *terms = lr_rule_terms(run->batch->policy, run->rule);
	int			preferred = lr_preferred_owner(run);
	bool		of_account = false;

	if (lr_run_excludes(run, owner_id))
		return false;
	/* who is followed may go to somebody else */
	if (run->same_person_as >= 0 && !run->batch->runs[run->same_person_as].unchanged)
		return false;
	for (int i = 0; i < run->naccount_preferred; i++)
		of_account |= run->account_preferred[i] == owner_id;
	if (preferred != 0 && preferred != owner_id && !was_asked(row, preferred))
		return false;
	if (preferred != owner_id && ((preferred == 0 && run->preferred_lead_id != 0) || !lr_pool_has_on(lr_pool(of_account ? -owner_id : run->pool_id, run->batch->as_of, terms->within, terms->working_clock), owner_id)))
		return false;
	/* who follows this lead in the batch wants to know */
	run->owner_id = owner_id;
	return true;
}

/* Tells whether an owner was asked before the pool when the decision that stands was made; another one than who got the lead, so in vain. */
static bool
was_asked(uint64 row, int owner_id)
{
	bool		isnull;
	Datum		value = lr_sql_datum(row, 9, &isnull);
	bytea	   *written;
	LrChoice	choice = {0};

	if (isnull)
		return false;
	written = DatumGetByteaPP(value);
	lr_choice_read(VARDATA_ANY(written), VARSIZE_ANY_EXHDR(written), &choice);
	for (int i = 0; i < choice.npreferred; i++)
	{
		if (choice.preferred[i].owner_id == owner_id)
			return true;
	}
	return false;
}
