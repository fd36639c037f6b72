/*
 * restore.c: giving a run what a past run had, from its record.
 *
 * Verification, backtests and explanations begin here. Plain attributes stand in the record by value. Others come from the
 * lead's row as it is now, where their digest is the recorded one; otherwise they are unavailable, and never guessed.
 */
#include "provenance/provenance.h"

#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"

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
lr_restore_attributes(LrRun *run, const LrEvidence *evidence, const Bitmapset *wanted, int key_id, const Datum *current, const bool *current_isnull,
					  Bitmapset **unavailable)
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

/* Gives a run what a step gave that was done, or failed. */
void
lr_restore_step(LrRun *run, LrStep *step, const LrEvidenceStep *recorded)
{
	if (recorded->status == LR_STEP_FAILED)
	{
		const char *state = recorded->sqlstate;

		lr_run_fail(run, step, MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]), recorded->place[0] ? recorded->place : NULL);
		return;
	}
	run->steps[step->number].status = LR_STEP_DONE;
	for (int i = 0; i < step->nfacts; i++)
	{
		if (recorded->known & (1u << i))
			lr_run_set(run, step->first_fact + i, recorded->values[i]);
	}
	if (step->builtin && step->builtin->restore)
		step->builtin->restore(step, run, recorded->detail, recorded->detail_length);
}
