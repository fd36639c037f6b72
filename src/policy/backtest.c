/*
 * backtest.c: deciding history again under a candidate, without writing.
 *
 * A cursor over the current decisions of a policy gives some at a time. Each becomes a run of the candidate as it was then: its
 * moment, its attributes (provenance/restore.c), and, where these cannot be had or made anew, what its steps gave:
 *
 *	- What an agent gave that is not ours, or that read tables of its own, stands as it is recorded, if the candidate has a step
 *	  by the same agent version. Otherwise enrichment is looked up as it would be today. SQL agents are not called.
 *	- Other built-in agents decide anew. Where one reads an attribute that is gone or changed, its recorded output stands if
 *	  candidate and recorded version do not differ up to that step: then it would give the same again.
 *
 * A decision that comes to something else that reads what is not to be had is not guessed: it is unavailable, and says what
 * it lacks. No turn is drawn: decisions are compared by outcome and pool. An owner whom a rule names has a pool of one.
 *
 * A document that nobody has published could ask anything of rows (email LIKE 'a%'), and its moves are the answer. So under a
 * document rows are read for those only who may read the table themselves; for others they are not to be had. What a published
 * version reads stands there under its author's name.
 */
#include "policy/evaluation.h"

#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rls.h"

PG_FUNCTION_INFO_V1(leadroute_backtest);

/* Decisions that are read, and decided again, at a time. */
#define CHUNK 500

/* How the steps of the candidate relate to those of a version that decided. */
typedef struct StepsOfVersion
{
	int			version_id;
	LrPolicy   *policy;			/* held to read */
	int			shared;			/* so many steps from the first on are the same in both */
	int		   *same_agent;		/* of each step of the candidate: that of the version by the same agent, or -1 */
} StepsOfVersion;

/* A decision, and how it is decided again. */
typedef struct Past
{
	int64		run_id;
	int64		lead_id;
	TimestampTz as_of;
	int			source_id;
	int			key_id;
	int			rule_no;		/* -1 for null */
	int			pool_id;		/* 0 for null */
	LrOutcome	outcome;
	bool		nobody;			/* the rule led to a pool in which nobody was available */
	const StepsOfVersion *version;
	LrEvidence *evidence;
	Datum	   *current;		/* the lead's row as it is now; NULL if it is not needed, or gone */
	bool	   *current_isnull;
	Bitmapset  *unavailable;	/* attributes */
	List	   *lacks;			/* names of what it would take to decide again; NIL if it was decided */
} Past;

typedef struct Backtest
{
	LrCandidate candidate;
	Oid			caller;
	MemoryContext memory;		/* of the whole */
	Bitmapset  *wanted;			/* attributes that the candidate reads */
	bool		wants_all_keys;	/* other than by SQL agents, which are not called */
	List	   *versions;		/* of StepsOfVersion */
	ReturnSetInfo *result;
} Backtest;

static Portal open_decisions(FunctionCallInfo fcinfo);
static int	read_chunk(Backtest *test, Portal portal, Past *pasts, MemoryContext memory);
static const StepsOfVersion *steps_of_version(Backtest *test, int version_id);
static bool same_step(const LrStep *one, const LrStep *other);
static bool same_members(json_t *one, json_t *other);
static void find_wanted(Backtest *test);
static void read_rows(Backtest *test, Past *pasts, int n);
static void read_rows_of_source(const Backtest *test, int source_id, Past **pasts, int n);
static bool may_read(const Backtest *test, const LrSource *source);
static void decide(Backtest *test, Past *pasts, int n, LrBatch *batch);
static void restore(Backtest *test, Past *past, LrRun *run);
static void restore_flags(const Past *past, LrRun *run);
static bool repeat_step(LrStep *step, LrRun *run);
static void give_up(LrRun *run, const Bitmapset *attributes, const char *capability);
static void put_row(Backtest *test, const Past *past, const LrRun *run);

/* Decides the decisions of a span again; see the SQL comment. */
Datum
leadroute_backtest(PG_FUNCTION_ARGS)
{
	Backtest	test = {.caller = GetUserId(),.memory = CurrentMemoryContext,.result = (ReturnSetInfo *) fcinfo->resultinfo};
	MemoryContext memory;
	Past	   *pasts = palloc(sizeof(Past) * CHUNK);
	LrBatch		batch;
	LrIdentity	identity;
	Portal		portal;
	ListCell   *cell;
	int			n;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(3) || PG_ARGISNULL(4))
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("policy and span must not be null"));
	InitMaterializedSRF(fcinfo, 0);
	lr_candidate_open(&test.candidate, fcinfo, 1, 2);
	find_wanted(&test);
	memory = AllocSetContextCreate(CurrentMemoryContext, "leadroute past decisions", ALLOCSET_DEFAULT_SIZES);
	lr_evaluation_begin(&batch, test.candidate.policy, true);
	batch.unrecorded = true;
	batch.instead = repeat_step;

	lr_sql_begin(&identity);
	portal = open_decisions(fcinfo);
	while ((n = read_chunk(&test, portal, pasts, memory)) > 0)
	{
		MemoryContext saved = MemoryContextSwitchTo(memory);

		CHECK_FOR_INTERRUPTS();
		read_rows(&test, pasts, n);
		decide(&test, pasts, n, &batch);
		MemoryContextSwitchTo(saved);
		lr_batch_clear(&batch);
		MemoryContextReset(memory);
	}
	SPI_cursor_close(portal);
	lr_sql_end(&identity);
	foreach(cell, test.versions)
		lr_policy_release(((StepsOfVersion *) lfirst(cell))->policy);
	lr_candidate_close(&test.candidate);
	return (Datum) 0;
}

/* Opens a cursor over the current decisions of a policy, argument 0, in the span of arguments 3 and 4. */
static Portal
open_decisions(FunctionCallInfo fcinfo)
{
	Oid			types[] = {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(3), PG_GETARG_DATUM(4)};

	return SPI_cursor_open_with_args(NULL,
									 "SELECT e.run_id, e.lead_id, e.as_of, e.source_id, e.policy_version_id, e.key_id, e.rule_no, e.pool_id, e.outcome,"
									 " e.reason_code IN ('no_available_member', 'no_skilled_member', 'overflow'), e.evidence"
									 " FROM leadroute.entries e JOIN leadroute.lead_states s ON s.lead_id = e.lead_id AND s.run_id = e.run_id"
									 " WHERE e.as_of >= $2 AND e.as_of < $3 AND e.outcome <> 'pending' AND s.outcome <> 'pending'"
									 /* what a person or a merge decided, no policy would have */
									 " AND e.cause NOT IN ('r', 'h', 'n', 's', 'g')"
									 " AND e.policy_version_id IN (SELECT v.policy_version_id FROM leadroute.policy_versions v WHERE v.policy_id = $1)",
									 3, types, values, NULL, true, 0);
}

/* Reads the next decisions into memory; returns how many. */
static int
read_chunk(Backtest *test, Portal portal, Past *pasts, MemoryContext memory)
{
	SPITupleTable *rows;
	int			n;

	SPI_cursor_fetch(portal, true, CHUNK);
	rows = SPI_tuptable;
	n = (int) SPI_processed;
	for (int i = 0; i < n; i++)
	{
		Past	   *past = &pasts[i];
		Datum		values[11];
		bool		isnull[11];
		MemoryContext saved;
		bytea	   *evidence;

		heap_deform_tuple(rows->vals[i], rows->tupdesc, values, isnull);
		memset(past, 0, sizeof(*past));
		past->run_id = DatumGetInt64(values[0]);
		past->lead_id = DatumGetInt64(values[1]);
		past->as_of = DatumGetTimestampTz(values[2]);
		past->source_id = DatumGetInt32(values[3]);
		past->version = steps_of_version(test, DatumGetInt32(values[4]));
		past->key_id = DatumGetInt32(values[5]);
		past->rule_no = isnull[6] ? -1 : DatumGetInt32(values[6]);
		past->pool_id = isnull[7] ? 0 : DatumGetInt32(values[7]);
		for (int outcome = 0; outcome < LR_N_OUTCOMES; outcome++)
		{
			if (lr_catalog()->outcomes[outcome] == DatumGetObjectId(values[8]))
				past->outcome = (LrOutcome) outcome;
		}
		past->nobody = DatumGetBool(values[9]);
		saved = MemoryContextSwitchTo(memory);
		evidence = DatumGetByteaPCopy(values[10]);
		past->evidence = lr_evidence_read(VARDATA_ANY(evidence), VARSIZE_ANY_EXHDR(evidence), past->version->policy);
		MemoryContextSwitchTo(saved);
	}
	SPI_freetuptable(rows);
	return n;
}

/* ---- the steps of the candidate, and those of the versions that decided ---- */

static const StepsOfVersion *
steps_of_version(Backtest *test, int version_id)
{
	const LrPolicy *candidate = test->candidate.policy;
	StepsOfVersion *version;
	MemoryContext saved;
	ListCell   *cell;

	foreach(cell, test->versions)
	{
		version = lfirst(cell);
		if (version->version_id == version_id)
			return version;
	}
	saved = MemoryContextSwitchTo(test->memory);
	version = palloc0(sizeof(StepsOfVersion));
	version->version_id = version_id;
	version->policy = lr_policy_hold_to_read(version_id);
	while (version->shared < Min(candidate->nsteps, version->policy->nsteps) &&
		   same_step(&candidate->steps[version->shared], &version->policy->steps[version->shared]))
		version->shared++;
	version->same_agent = palloc(sizeof(int) * Max(candidate->nsteps, 1));
	for (int s = 0; s < candidate->nsteps; s++)
	{
		version->same_agent[s] = -1;
		for (int r = 0; r < version->policy->nsteps; r++)
		{
			const LrStep *recorded = &version->policy->steps[r];

			if (recorded->agent->agent_id == candidate->steps[s].agent->agent_id && strcmp(recorded->capability, candidate->steps[s].capability) == 0)
				version->same_agent[s] = r;
		}
	}
	test->versions = lappend(test->versions, version);
	MemoryContextSwitchTo(saved);
	return version;
}

/* Tells whether two steps give the same for the same lead. */
static bool
same_step(const LrStep *one, const LrStep *other)
{
	return strcmp(one->capability, other->capability) == 0 && one->agent->agent_id == other->agent->agent_id &&
		(one->document ? one->document->document_id : 0) == (other->document ? other->document->document_id : 0) &&
		same_members(one->json, other->json) && same_members(other->json, one->json);
}

/* Tells whether each member of a step that bears on what its agent gives is the same in another. */
static bool
same_members(json_t *one, json_t *other)
{
	static const char *const irrelevant[] = {"stop_when", "on_error", "note", "agent", "scorecard", "jurisdictions"};
	const char *member;
	json_t	   *value;

	json_object_foreach(one, member, value)
	{
		bool		matters = true;

		for (int i = 0; i < (int) lengthof(irrelevant); i++)
			matters &= strcmp(member, irrelevant[i]) != 0;
		if (matters && !json_equal(value, json_object_get(other, member)))
			return false;
	}
	return true;
}

/* Finds what the candidate reads of leads. */
static void
find_wanted(Backtest *test)
{
	const LrPolicy *policy = test->candidate.policy;

	test->wanted = bms_copy(policy->rule_reads);
	test->wants_all_keys = policy->conditions_read_all_keys;
	for (int s = 0; s < policy->nsteps; s++)
	{
		test->wanted = bms_add_members(test->wanted, policy->steps[s].reads);
		test->wants_all_keys |= policy->steps[s].builtin && policy->steps[s].reads_all_keys;
	}
}

/* ---- the leads' rows ---- */

/* Reads the rows of the leads that have something there which is not on record by value. */
static void
read_rows(Backtest *test, Past *pasts, int n)
{
	Past	  **of_source = palloc(sizeof(Past *) * n);
	bool	   *done = palloc0(sizeof(bool) * n);

	for (int i = 0; i < n; i++)
	{
		int			count = 0;

		for (int j = i; j < n && !done[i]; j++)
		{
			if (done[j] || pasts[j].source_id != pasts[i].source_id)
				continue;
			if (j > i)
				done[j] = true;
			if (lr_restore_needs_row(pasts[j].evidence, test->wanted))
				of_source[count++] = &pasts[j];
		}
		if (count > 0)
			read_rows_of_source(test, pasts[i].source_id, of_source, count);
	}
}

static void
read_rows_of_source(const Backtest *test, int source_id, Past **pasts, int n)
{
	LrSource   *source = lr_source_by_id(source_id);
	int64	   *lead_ids = palloc(sizeof(int64) * n);
	HeapTuple  *rows = palloc(sizeof(HeapTuple) * n);
	TupleTableSlot *slot;

	if (source == NULL || !may_read(test, source))
		return;
	for (int i = 0; i < n; i++)
		lead_ids[i] = pasts[i]->lead_id;
	lr_leads_fetch(source, lead_ids, n, rows);
	slot = MakeSingleTupleTableSlot(source->desc, &TTSOpsHeapTuple);
	for (int i = 0; i < n; i++)
	{
		LrRun		reading = {.values = palloc(sizeof(Datum) * LR_N_ATTRIBUTES),.isnull = palloc(sizeof(bool) * LR_N_ATTRIBUTES)};

		if (rows[i] == NULL)
			continue;
		ExecForceStoreHeapTuple(rows[i], slot, false);
		lr_lead_read(source, slot, &reading);
		pasts[i]->current = reading.values;
		pasts[i]->current_isnull = reading.isnull;
	}
	/* values point into the rows, which stay */
	ExecDropSingleTupleTableSlot(slot);
}

/* Tells whether the caller may learn what the rows of a table hold: any row of it, any column. */
static bool
may_read(const Backtest *test, const LrSource *source)
{
	if (test->candidate.document == NULL)
		return true;
	return pg_class_aclcheck(source->root, test->caller, ACL_SELECT) == ACLCHECK_OK &&
		check_enable_rls(source->root, test->caller, true) != RLS_ENABLED;
}

/* ---- deciding ---- */

static void
decide(Backtest *test, Past *pasts, int n, LrBatch *batch)
{
	for (int i = 0; i < n; i++)
	{
		LrRun	   *run = lr_batch_add(batch);
		MemoryContext saved = MemoryContextSwitchTo(batch->memory);

		restore(test, &pasts[i], run);
		MemoryContextSwitchTo(saved);
	}
	lr_batch_run(batch);
	for (int i = 0; i < n; i++)
		put_row(test, &pasts[i], &batch->runs[i]);
}

/* Gives a run what the lead was when it was decided. */
static void
restore(Backtest *test, Past *past, LrRun *run)
{
	const LrPolicy *policy = test->candidate.policy;

	run->lead_id = past->lead_id;
	run->evaluation = past;
	restore_flags(past, run);
	lr_run_set(run, LR_AS_OF, TimestampTzGetDatum(past->as_of));
	lr_restore_attributes(run, past->evidence, test->wanted, past->key_id, past->current, past->current_isnull, &past->unavailable);
	if (run->unreadable >= 0)
	{
		const char *state = past->evidence->unreadable_sqlstate;

		run->unreadable_sqlstate = MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]);
	}
	/* members that are on record by themselves do where nobody reads others */
	if (bms_is_member(LR_ATTRIBUTES, past->unavailable) && lr_restore_has_members(past->evidence, policy->keys, test->wants_all_keys))
	{
		lr_restore_members(run, past->evidence);
		past->unavailable = bms_del_member(past->unavailable, LR_ATTRIBUTES);
	}
}

/* Flags that the decision recorded are as they were; others are as they are now, for the lead's key. */
static void
restore_flags(const Past *past, LrRun *run)
{
	const LrPolicy *policy = run->batch->policy;
	const LrPolicy *recorded = past->version->policy;

	if (policy->nflags > 0)
		run->key = lr_key_of_lead(past->source_id, past->lead_id);
	for (int i = 0; i < policy->nflags; i++)
	{
		for (int r = 0; r < past->evidence->nflags; r++)
		{
			if (strcmp(recorded->flags[r].name, policy->flags[i].name) == 0)
				lr_run_set(run, policy->flags[i].fact, BoolGetDatum(past->evidence->flags[r]));
		}
	}
}

/* Gives what a step gave then, where that stands, or gives up where it reads what is not to be had; otherwise it runs anew. */
static bool
repeat_step(LrStep *step, LrRun *run)
{
	Past	   *past = run->evaluation;
	const LrPolicy *policy = run->batch->policy;
	int			number = past->version->same_agent[step->number];
	const LrEvidenceStep *recorded = number >= 0 ? &past->evidence->steps[number] : NULL;
	const Bitmapset *reads = step->builtin == &lr_assign_owner ? policy->rule_reads : step->reads;
	bool		recomputable = step->builtin && step->builtin->recomputable;
	bool		lacking;

	if (!lr_step_wanted(step, run))
		return false;
	/* what was filled in then, and is not on record by value */
	past->unavailable = bms_add_members(past->unavailable, run->missing);
	lacking = bms_overlap(reads, past->unavailable);
	if (step->builtin != &lr_assign_owner && recorded && recorded->status != LR_STEP_SKIPPED &&
		(recomputable ? lacking && step->number < past->version->shared : true))
	{
		if (bms_overlap(step->stop_reads, past->unavailable))
			give_up(run, bms_intersect(step->stop_reads, past->unavailable), NULL);
		else
			lr_restore_step(run, step, recorded);
		return true;
	}
	if (step->builtin == NULL)
		give_up(run, NULL, step->capability);
	else if (lacking)
		give_up(run, bms_intersect(reads, past->unavailable), NULL);
	else
		return false;
	return true;
}

/* Ends a run that cannot be decided again: attributes, or what a capability gives, are not to be had. */
static void
give_up(LrRun *run, const Bitmapset *attributes, const char *capability)
{
	Past	   *past = run->evaluation;
	int			attribute = -1;

	while ((attribute = bms_next_member(attributes, attribute)) >= 0)
		past->lacks = lappend(past->lacks, (char *) lr_facts[attribute].name);
	if (capability)
		past->lacks = lappend(past->lacks, (char *) capability);
	run->ended = true;
	run->outcome = LR_PENDING;
	run->reason = "";
}

static void
put_row(Backtest *test, const Past *past, const LrRun *run)
{
	const LrCatalog *catalog = lr_catalog();
	bool		decided = past->lacks == NIL;
	Datum		values[10];
	bool		nulls[10] = {false};
	LrOutcome	target = past->nobody ? LR_ASSIGNED : past->outcome;

	values[0] = Int64GetDatum(past->run_id);
	values[1] = Int32GetDatum(past->version->version_id);
	values[2] = Int32GetDatum(past->rule_no);
	nulls[2] = past->rule_no < 0;
	values[3] = ObjectIdGetDatum(catalog->outcomes[past->outcome]);
	values[4] = Int32GetDatum(past->pool_id);
	nulls[4] = past->pool_id == 0;
	values[5] = Int32GetDatum(run->rule ? run->rule->number : 0);
	nulls[5] = !decided || run->rule == NULL;
	values[6] = ObjectIdGetDatum(catalog->outcomes[run->outcome]);
	nulls[6] = !decided;
	values[7] = Int32GetDatum(run->pool_id);
	nulls[7] = !decided || run->pool_id == 0;
	/* whether somebody was available is not the candidate's doing */
	values[8] = BoolGetDatum(run->outcome != target || (target == LR_ASSIGNED && run->pool_id != past->pool_id));
	nulls[8] = !decided;
	nulls[9] = decided;
	values[9] = (Datum) 0;
	if (!decided)
	{
		Datum	   *names = palloc(sizeof(Datum) * list_length(past->lacks));
		ListCell   *cell;

		foreach(cell, past->lacks)
			names[foreach_current_index(cell)] = CStringGetTextDatum(lfirst(cell));
		values[9] = PointerGetDatum(construct_array(names, list_length(past->lacks), TEXTOID, -1, false, TYPALIGN_INT));
	}
	tuplestore_putvalues(test->result->setResult, test->result->setDesc, values, nulls);
}
