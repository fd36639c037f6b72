/*
 * routing.c: from rows of an attached table to decisions, in sets.
 *
 * Whoever has leads to route, a trigger or a person, begins a routing, adds rows, and ends it. Rows are collected into
 * batches; each batch goes through the pipeline (batch.c), draws its turns (assignment) and is written (provenance). Memory
 * is bounded by the batch, not by the statement. Where no policy is active, or what the active version
 * pins has changed, or routing is off, leads are listed as waiting.
 */
#include "pipeline/pipeline.h"

#include "access/htup_details.h"
#include "assignment/assignment.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "provenance/provenance.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "writer.h"

/* A batch of large leads ends before it is full. */
#define MAX_BATCH_BYTES (16 * 1024 * 1024)

struct LrRouting
{
	MemoryContext memory;
	LrSource   *source;
	LrPolicy   *policy;			/* NULL while leads have to wait */
	const char *waiting;		/* why they wait, or NULL */
	TimestampTz as_of;
	char		cause;
	Oid			user;
	LrBatch		batch;
	LrRecorder	recorder;
	TupleTableSlot *row;
	int			capacity;
	int64		total;
	int			nids;			/* of leads that wait */
	int64	   *ids;
	List	   *new_keys;		/* of NewKey */
	MemoryContext key_memory;
	LrRunDone	done;
	void	   *argument;
};

typedef struct NewKey
{
	char	   *key;
	int64		lead_id;
} NewKey;

static int64 lead_id_of(LrRouting *routing, TupleTableSlot *slot);
static void write_keys(LrRouting *routing);
static void finish_batch(LrRouting *routing);
static void finish_waiting(LrRouting *routing);
static void find_unchanged(LrBatch *batch);
static bool is_unchanged(LrRun *run, uint64 row);

/* Begins a routing. done, if given, is called for each run when it is written. */
LrRouting *
lr_routing_begin(LrSource *source, char cause, const char *note, LrRunDone done, void *argument)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "leadroute routing", ALLOCSET_SMALL_SIZES);
	MemoryContext saved = MemoryContextSwitchTo(memory);
	LrRouting  *routing = palloc0(sizeof(LrRouting));
	bool		unusable = false;

	routing->memory = memory;
	routing->source = source;
	routing->cause = cause;
	routing->as_of = GetCurrentTimestamp();
	routing->user = GetUserId();
	routing->capacity = lr_batch_size;
	routing->done = done;
	routing->argument = argument;
	routing->policy = lr_on_error == LR_ON_ERROR_ABORT ? lr_policy_hold_active(source->policy)
		: lr_policy_try_hold_active(source->policy, &unusable);
	if (routing->policy == NULL)
		routing->waiting = unusable ? "policy_unusable" : "no_policy";
	else
	{
		lr_batch_init(&routing->batch, routing->policy, source, routing->as_of, cause, routing->user);
		routing->batch.note = note && note[0] ? note : NULL;
	}
	routing->recorder.memory = memory;
	routing->recorder.capacity = routing->capacity;
	routing->row = MakeSingleTupleTableSlot(source->desc, &TTSOpsMinimalTuple);
	routing->key_memory = AllocSetContextCreate(memory, "leadroute keys", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(saved);
	return routing;
}

/* Makes all leads of a routing wait instead. */
void
lr_routing_wait(LrRouting *routing, const char *reason)
{
	routing->waiting = reason;
}

/* Raises 55000 if the leads would have to wait: who routes by hand wants a decision. */
void
lr_routing_require_policy(const LrRouting *routing)
{
	/* raises what is wrong with a version that cannot be used */
	if (routing->waiting)
		(void) lr_policy_hold_active(routing->source->policy);
	if (routing->waiting)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("policy \"%s\" has no active version", routing->source->policy),
				errhint("Publish one with leadroute.publish_policy() and activate it with leadroute.activate_policy()."));
}

/* Adds a row. */
void
lr_routing_add(LrRouting *routing, TupleTableSlot *slot)
{
	LrBatch    *batch = &routing->batch;
	MemoryContext saved;
	LrRun	   *run;

	if (routing->waiting)
	{
		if (routing->ids == NULL)
			routing->ids = MemoryContextAlloc(routing->memory, sizeof(int64) * routing->capacity);
		routing->ids[routing->nids++] = lead_id_of(routing, slot);
		if (routing->nids == routing->capacity)
			finish_waiting(routing);
		return;
	}
	saved = MemoryContextSwitchTo(batch->memory);
	run = lr_batch_add(batch);
	ExecStoreMinimalTuple(ExecCopySlotMinimalTuple(slot), routing->row, false);
	run->lead_id = lead_id_of(routing, routing->row);
	lr_lead_read(routing->source, routing->row, run);
	MemoryContextSwitchTo(saved);
	if (batch->n == routing->capacity || MemoryContextMemAllocated(batch->memory, false) > MAX_BATCH_BYTES)
		finish_batch(routing);
}

/* Ends a routing; returns how many leads were routed. */
int64
lr_routing_end(LrRouting *routing)
{
	int64		total;

	finish_waiting(routing);
	finish_batch(routing);
	lr_recorder_end(&routing->recorder);
	total = routing->total;
	ExecDropSingleTupleTableSlot(routing->row);
	if (routing->policy)
		lr_policy_release(routing->policy);
	MemoryContextDelete(routing->memory);
	return total;
}

/* Finds a row's lead id; one whose key has none yet gets one. */
static int64
lead_id_of(LrRouting *routing, TupleTableSlot *slot)
{
	const LrSource *source = routing->source;
	MemoryContext saved;
	char	   *key;
	NewKey	   *new_key;
	int64		lead_id;

	if (!source->keyed)
		return lr_lead_id_direct(source, slot);
	saved = MemoryContextSwitchTo(routing->key_memory);
	key = lr_lead_key(source, slot);
	lead_id = lr_key_find(source->source_id, key);
	if (lead_id == 0)
	{
		new_key = palloc(sizeof(NewKey));
		new_key->key = key;
		new_key->lead_id = lead_id = lr_numbers_take(lr_catalog()->lead_ids, 1);
		routing->new_keys = lappend(routing->new_keys, new_key);
	}
	MemoryContextSwitchTo(saved);
	return lead_id;
}

static void
write_keys(LrRouting *routing)
{
	LrWriter   *writer;
	ListCell   *cell;

	if (routing->new_keys != NIL)
	{
		writer = lr_writer_open(lr_catalog()->tables[LR_TABLE_LEAD_KEYS], list_length(routing->new_keys));
		foreach(cell, routing->new_keys)
		{
			NewKey	   *new_key = lfirst(cell);
			TupleTableSlot *slot = lr_writer_row(writer);

			slot->tts_values[0] = Int32GetDatum(routing->source->source_id);
			slot->tts_values[1] = CStringGetTextDatum(new_key->key);
			slot->tts_values[2] = Int64GetDatum(new_key->lead_id);
			memset(slot->tts_isnull, false, 3 * sizeof(bool));
		}
		lr_writer_close(writer);
		routing->new_keys = NIL;
	}
	MemoryContextReset(routing->key_memory);
}

static void
finish_batch(LrRouting *routing)
{
	LrBatch    *batch = &routing->batch;
	MemoryContext saved;

	if (routing->policy == NULL || batch->n == 0)
		return;
	saved = MemoryContextSwitchTo(batch->memory);
	write_keys(routing);
	if (batch->cause != 'i')
	{
		for (int i = 0; i < batch->n; i++)
			batch->runs[i].known = true;
		lr_lock_states(batch);
	}
	lr_batch_run(batch);
	if (batch->cause != 'i')
		find_unchanged(batch);
	lr_assign_batch(batch);
	lr_record_batch(&routing->recorder, batch);
	for (int i = 0; i < batch->n && routing->done; i++)
		routing->done(&batch->runs[i], routing->argument);
	routing->total += batch->n;
	MemoryContextSwitchTo(saved);
	lr_batch_clear(batch);
}

static void
finish_waiting(LrRouting *routing)
{
	MemoryContext scratch;
	MemoryContext saved;

	if (routing->nids > 0)
	{
		scratch = AllocSetContextCreate(routing->memory, "leadroute waiting", ALLOCSET_DEFAULT_SIZES);
		saved = MemoryContextSwitchTo(scratch);
		write_keys(routing);
		lr_record_waiting(routing->source->source_id, routing->ids, routing->nids, routing->waiting, routing->cause == 'u', routing->as_of, routing->user);
		routing->nids = 0;
		MemoryContextSwitchTo(saved);
		MemoryContextDelete(scratch);
	}
}

/*
 * Finds the runs of leads routed again in which nothing changed: the same policy version, attributes, outputs and rule, and
 * an owner who is still an available member of the pool. Their decision stands.
 */
static void
find_unchanged(LrBatch *batch)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {INT8OID};

	for (int i = 0; i < batch->n; i++)
	{
		LrRun	   *run = &batch->runs[i];
		Datum		values[] = {Int64GetDatum(run->supersedes)};

		if (run->supersedes == 0)
			continue;
		lr_sql_begin(&identity);
		if (lr_sql_kept(LR_PLAN_ENTRY,
						"SELECT e.evidence, e.policy_version_id, e.rule_no, e.owner_id, e.outcome, s.closed_at IS NULL"
						" FROM leadroute.entries e JOIN leadroute.lead_states s USING (lead_id) WHERE e.run_id = $1 AND s.run_id = $1 AND s.outcome = e.outcome",
						1, types, values, NULL) > 0)
		{
			MemoryContext saved = MemoryContextSwitchTo(memory);

			run->unchanged = is_unchanged(run, 0);
			MemoryContextSwitchTo(saved);
		}
		lr_sql_end(&identity);
	}
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

	if (stable_length != own_length || memcmp(stable, own, own_length) != 0 ||
		lr_sql_int32(row, 2, 0) != run->batch->policy->version_id ||
		lr_sql_int32(row, 3, -1) != (run->rule ? run->rule->number : -1) ||
		!DatumGetBool(lr_sql_datum(row, 6, &isnull)))
		return false;
	if (run->outcome != LR_ASSIGNED)
		return strcmp(outcome, lr_outcome_names[run->outcome]) == 0;
	if (strcmp(outcome, "assigned") == 0)
		return lr_pool_has_available(lr_pool(run->pool_id), lr_sql_int32(row, 4, 0));
	/* nobody was available, and nobody is */
	return lr_pool(run->pool_id)->cycle == 0;
}
