/*
 * restore.c: giving a run what a past run had, from its record.
 *
 * Verification, backtests and explanations begin here. Plain attributes stand in the record by value. Others come from the
 * lead's row as it is now, where their digest is the recorded one; otherwise they are unavailable, and never guessed.
 */
#include "provenance/provenance.h"

#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/json.h"
#include "utils/jsonb.h"

static bool read_current(LrRun *run, const LrEntry *entry, bool *isnull, Datum *values);

/* Reads the last entry of a run, in the current memory context; raises 42704 if there is none. */
LrEntry *
lr_entry_load(int64 run_id)
{
	MemoryContext memory = CurrentMemoryContext;
	MemoryContext saved;
	LrIdentity	identity;
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(run_id)};
	LrEntry    *entry;
	Datum		choice;
	bool		isnull;

	lr_sql_begin(&identity);
	if (lr_sql_kept(LR_PLAN_RECORDED,
					"SELECT e.lead_id, e.as_of, e.turn, e.source_id, e.policy_version_id, e.key_id, e.rule_no, e.pool_id, e.pool_revision_id,"
					" e.owner_id, e.outcome, e.reason_code, e.evidence, e.score,"
					" jsonb_build_object('engine', x.engine, 'server', x.server, 'libc', x.libc, 'collation', x.\"collation\", 'tzdata', x.tzdata,"
					" 'encoding', x.encoding), e.choice, e.cause, e.cause IN ('r', 'h', 'n', 's') OR (e.outcome = 'pending' AND e.reason_code = 'owner_left')"
					" FROM leadroute.entries e LEFT JOIN leadroute.environments x USING (environment_id)"
					" WHERE e.run_id = $1 ORDER BY e.entry_no DESC LIMIT 1", 1, types, values, NULL) == 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("decision " INT64_FORMAT " does not exist", run_id),
				errhint("See the column decision_id of leadroute.decisions."));
	saved = MemoryContextSwitchTo(memory);
	entry = palloc0(sizeof(LrEntry));
	entry->lead_id = lr_sql_int64(0, 1, 0);
	entry->as_of = DatumGetTimestampTz(lr_sql_datum(0, 2, &isnull));
	entry->turn = lr_sql_int64(0, 3, -1);
	entry->source_id = lr_sql_int32(0, 4, 0);
	entry->policy_version_id = lr_sql_int32(0, 5, 0);
	entry->key_id = lr_sql_int32(0, 6, 0);
	entry->rule_no = lr_sql_int32(0, 7, -1);
	entry->pool_id = lr_sql_int32(0, 8, 0);
	entry->pool_revision_id = lr_sql_int32(0, 9, 0);
	entry->owner_id = lr_sql_int32(0, 10, 0);
	entry->outcome = pstrdup(lr_sql_text(0, 11));
	entry->reason_code = pstrdup(lr_sql_text(0, 12));
	entry->evidence = DatumGetByteaPCopy(lr_sql_datum(0, 13, &isnull));
	entry->score = DatumGetFloat8(lr_sql_datum(0, 14, &isnull));
	if (isnull)
		entry->score = get_float8_nan();
	entry->cause = DatumGetChar(lr_sql_datum(0, 17, &isnull));
	entry->environment = pstrdup(lr_sql_text(0, 15));
	choice = lr_sql_datum(0, 16, &isnull);
	entry->choice = isnull ? NULL : DatumGetByteaPCopy(choice);
	entry->by_person = DatumGetBool(lr_sql_datum(0, 18, &isnull));
	MemoryContextSwitchTo(saved);
	lr_sql_end(&identity);
	return entry;
}

/* Gives a run the attributes that the recorded one had; notes those that are not to be had any more. */
void
lr_restore_entry(LrRun *run, const LrEntry *entry, const LrEvidence *evidence, Bitmapset **unavailable)
{
	Datum		current[LR_N_ATTRIBUTES];
	bool		current_isnull[LR_N_ATTRIBUTES];
	bool		found = lr_restore_needs_row(evidence, NULL) && read_current(run, entry, current_isnull, current);

	lr_restore_attributes(run, evidence, NULL, entry->key_id, found ? current : NULL, current_isnull, unavailable);
}

/* Reads the lead's row as it is now; false if it is gone. */
static bool
read_current(LrRun *run, const LrEntry *entry, bool *isnull, Datum *values)
{
	LrSource   *source = lr_source_by_id(entry->source_id);
	TupleTableSlot *slot;
	bool		found;
	LrRun		reading = *run;
	MemoryContext saved = MemoryContextSwitchTo(run->batch->memory);

	if (source == NULL)
	{
		MemoryContextSwitchTo(saved);
		return false;
	}
	slot = MakeSingleTupleTableSlot(source->desc, &TTSOpsHeapTuple);
	found = lr_lead_fetch(source, entry->lead_id, false, slot);
	if (found)
	{
		reading.values = values;
		reading.isnull = isnull;
		lr_lead_read(source, slot, &reading);
	}
	/* values point into the slot's tuple, which goes with the batch's memory */
	MemoryContextSwitchTo(saved);
	return found;
}

/* Tells whether any of the wanted attributes (NULL: any at all) is to be had from the lead's row only. */
bool
lr_restore_needs_row(const LrEvidence *evidence, const Bitmapset *wanted)
{
	for (int i = 0; i < LR_N_ATTRIBUTES; i++)
	{
		if (evidence->attributes[i].known && evidence->attributes[i].class != LR_CLASS_PLAIN && (wanted == NULL || bms_is_member(i, wanted)))
			return true;
	}
	return false;
}

/*
 * Gives a run the wanted attributes (NULL: all) that the recorded one had. current and current_isnull: those of the lead's row as
 * it is now; current NULL: it is gone. Those that are not to be had any more are added to *unavailable.
 */
void
lr_restore_attributes(LrRun *run, const LrEvidence *evidence, const Bitmapset *wanted, int key_id, const Datum *current,
					  const bool *current_isnull, Bitmapset **unavailable)
{
	run->unreadable = evidence->unreadable;
	for (int i = 0; i < LR_N_ATTRIBUTES; i++)
	{
		const LrEvidenceAttribute *attribute = &evidence->attributes[i];
		unsigned char digest[LR_DIGEST_LENGTH];

		if (!attribute->known || (wanted && !bms_is_member(i, wanted)))
			continue;
		if (attribute->class == LR_CLASS_PLAIN)
		{
			lr_run_set(run, i, attribute->value);
			continue;
		}
		if (current && !current_isnull[i])
		{
			lr_fact_digest(key_id, i, current[i], digest);
			if (memcmp(digest, attribute->digest, sizeof(digest)) == 0)
			{
				lr_run_set(run, i, current[i]);
				continue;
			}
		}
		*unavailable = bms_add_member(*unavailable, i);
	}
}

/* Tells whether the record holds all members of attributes that somebody reads by these names. */
bool
lr_restore_has_members(const LrEvidence *evidence, List *keys, bool reads_all_keys)
{
	ListCell   *cell;

	foreach(cell, keys)
	{
		bool		found = false;

		for (int i = 0; i < evidence->nmembers && !found; i++)
			found = strcmp(evidence->members[i].name, lfirst(cell)) == 0;
		if (!found)
			return false;
	}
	return !reads_all_keys;
}

/* Gives a run attributes made of the members that the record holds, for who reads no others. */
void
lr_restore_members(LrRun *run, const LrEvidence *evidence)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	for (int i = 0; i < evidence->nmembers; i++)
	{
		appendStringInfoString(&json, i ? ", " : "");
		escape_json(&json, evidence->members[i].name);
		appendStringInfo(&json, ": %s", evidence->members[i].json);
	}
	appendStringInfoChar(&json, '}');
	lr_run_set(run, LR_ATTRIBUTES, DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
}

/* Gives a run what a step gave that was done, or failed, or its place in waiting. */
void
lr_restore_step(LrRun *run, LrStep *step, const LrEvidenceStep *recorded)
{
	if (step->builtin == NULL && recorded->detail_length > 0)
		lr_run_set_detail(run, step, recorded->detail, recorded->detail_length);
	if (recorded->status == LR_STEP_FAILED)
	{
		const char *state = recorded->sqlstate;

		lr_step_fail(step, run, MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]), recorded->place[0] ? recorded->place : NULL);
		return;
	}
	run->steps[step->number].status = recorded->status;
	if (recorded->status != LR_STEP_DONE)
		return;
	for (int i = 0; i < step->nfacts; i++)
	{
		if (recorded->known & (1u << i))
			lr_run_set(run, step->first_fact + i, recorded->values[i]);
	}
	if (step->builtin && step->builtin->restore)
		step->builtin->restore(step, run, recorded->detail, recorded->detail_length);
}
