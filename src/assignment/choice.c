/*
 * choice.c: what a decision read to choose its owner, in the compact form of leadroute.entries.choice.
 *
 * Parts that are there are written with a letter in front; an entry whose choice read nothing but the pool's revision and the
 * turn has none.
 */
#include "assignment/assignment.h"

#include "policy/policy.h"
#include "provenance/provenance.h"

enum
{
	PART_STATE = 'S',
	PART_DROPPED = 'D',
	PART_EXCLUDED = 'X',
	PART_PREFERRED = 'P'
};

/*
 * Chooses again, on what is on record, for a run whose rule leads to a pool as it was; returns the member's place, or -1.
 * Memory is the caller's.
 */
int
lr_choose_again(LrRun *run, LrPool *pool, const LrChoice *choice)
{
	const LrTerms *terms = lr_rule_terms(run->batch->policy, run->rule);
	LrWants		wants = {.nexcluded = choice->nexcluded,.excluded = choice->excluded,.turn = run->turn};
	LrReading  *readings = lr_readings_load(pool, choice->state_id, choice->position);
	int			distance;

	if (terms->nskills > 0)
		wants.match = lr_match_terms(pool, terms, choice->dropped);
	wants.amount = 1;
	if (pool->measure == LR_MEASURE_VALUE)
		wants.amount = lr_expected_value(terms, run->isnull[LR_SCORE] ? NULL : &run->values[LR_SCORE]);
	if (lr_strategy_turns(pool) && run->turn < 0)
		return -1;
	return lr_choose(pool, readings, &wants, &distance);
}

/* Returns who of those asked before the pool has the lead; NULL if the pool was asked. */
const LrPreference *
lr_choice_preferred(const LrChoice *choice)
{
	for (int i = 0; i < choice->npreferred; i++)
	{
		if (!choice->preferred[i].unavailable && choice->preferred[i].reading.code == LR_READING_FREE)
			return &choice->preferred[i];
	}
	return NULL;
}

/* Returns the compact form, in the current memory context; NULL if nothing was read. */
bytea *
lr_choice_write(const LrChoice *choice)
{
	StringInfoData out;

	if (choice->state_id == 0 && choice->dropped == 0 && choice->nexcluded == 0 && choice->npreferred == 0)
		return NULL;
	initStringInfo(&out);
	appendStringInfoSpaces(&out, VARHDRSZ);
	if (choice->state_id != 0)
	{
		appendStringInfoChar(&out, PART_STATE);
		lr_put_varint(&out, choice->state_id);
		lr_put_varint(&out, choice->position);
	}
	if (choice->dropped != 0)
	{
		appendStringInfoChar(&out, PART_DROPPED);
		lr_put_varint(&out, choice->dropped);
	}
	if (choice->nexcluded > 0)
	{
		appendStringInfoChar(&out, PART_EXCLUDED);
		lr_put_varint(&out, choice->nexcluded);
		for (int i = 0; i < choice->nexcluded; i++)
			lr_put_varint(&out, choice->excluded[i]);
	}
	for (int i = 0; i < choice->npreferred; i++)
	{
		const LrPreference *preferred = &choice->preferred[i];

		appendStringInfoChar(&out, PART_PREFERRED);
		lr_put_varint(&out, preferred->owner_id);
		lr_put_string(&out, preferred->reason);
		lr_put_varint(&out, preferred->unavailable ? 1 : 0);
		lr_put_varint(&out, preferred->reading.code);
		lr_put_varint(&out, preferred->reading.per);
		lr_put_varint(&out, preferred->reading.of);
		lr_put_varint(&out, preferred->reading.count);
		lr_put_varint(&out, preferred->reading.maximum);
	}
	SET_VARSIZE(out.data, out.len);
	return (bytea *) out.data;
}

/* Reads the compact form. */
void
lr_choice_read(const char *data, int length, LrChoice *choice)
{
	LrReader	in = {data, data + length};
	LrPreference *preferred;

	memset(choice, 0, sizeof(*choice));
	while (in.at < in.end)
	{
		switch (*lr_get_bytes(&in, 1))
		{
			case PART_STATE:
				choice->state_id = lr_get_varint(&in);
				choice->position = (int) lr_get_varint(&in);
				break;
			case PART_DROPPED:
				choice->dropped = (uint32) lr_get_varint(&in);
				break;
			case PART_EXCLUDED:
				choice->nexcluded = (int) lr_get_varint(&in);
				choice->excluded = palloc(sizeof(int) * Min(Max(choice->nexcluded, 1), length));
				choice->nexcluded = Min(choice->nexcluded, length);
				for (int i = 0; i < choice->nexcluded; i++)
					choice->excluded[i] = (int) lr_get_varint(&in);
				break;
			case PART_PREFERRED:
				/* each takes more bytes than one */
				if (choice->preferred == NULL)
					choice->preferred = palloc0(sizeof(LrPreference) * length);
				preferred = &choice->preferred[choice->npreferred++];
				preferred->owner_id = (int) lr_get_varint(&in);
				preferred->reason = lr_get_string(&in);
				preferred->unavailable = lr_get_varint(&in) != 0;
				preferred->reading.code = (LrReadingCode) lr_get_varint(&in);
				preferred->reading.per = (LrPer) lr_get_varint(&in);
				preferred->reading.of = (LrCapOf) lr_get_varint(&in);
				preferred->reading.count = lr_get_varint(&in);
				preferred->reading.maximum = lr_get_varint(&in);
				break;
			default:
				ereport(ERROR,
						errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("the record of a choice cannot be read"),
						errhint("Restore leadroute.entries from a backup."));
		}
	}
}
