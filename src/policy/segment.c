/*
 * segment.c: which leads a trial or a flag is for: a segment, and a share of it.
 *
 * A segment is a condition over the attributes of a lead, as it came: no step has run yet. One that raises or is null does
 * not hold. It uses built-in types only: a policy version pins others, and stops when they change, but nothing pins a segment's.
 *
 * The share goes by a hash of the lead's key and a salt: the first 53 bits, as a number from 0 to 1, lie below the share or
 * not. So a lead stays where it is, wherever and whenever it is routed again, and stays in when the share grows; two salts
 * divide leads independently. The hash is the same on every machine: FNV-1a over key, a zero byte and salt, and the finalizer
 * of MurmurHash3, which spreads it over all bits.
 */
#include "policy/policy.h"

#include "pipeline/pipeline.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(leadroute_lead_share);

struct LrSegment
{
	LrCondition *condition;		/* NULL: it cannot be read any more, and nobody is in it */
};

static LrScope *scope_of_attributes(void);
static uint64 hash_of(const char *key, const char *salt);
static double place_of(const char *key, const char *salt);
static char *key_of_run(const LrRun *run);

/* ---- segments ---- */

/* Makes a segment of a condition that was checked when it was defined, in the current memory context. NULL gives NULL: everybody. */
LrSegment *
lr_segment_make(const char *condition)
{
	LrMistakes	mistakes = {NIL};
	LrSegment  *segment;

	if (condition == NULL)
		return NULL;
	segment = palloc0(sizeof(LrSegment));
	segment->condition = lr_condition_parse(condition, scope_of_attributes(), "segment", &mistakes);
	/* not when it is first evaluated: its states have to go with the segment */
	if (segment->condition)
		lr_condition_prepare(segment->condition, CurrentMemoryContext);
	return segment;
}

/* Returns the attributes that a segment reads. */
const Bitmapset *
lr_segment_reads(const LrSegment *segment)
{
	return segment && segment->condition ? segment->condition->reads : NULL;
}

/* Tells whether a lead is in a segment; NULL is everybody. */
bool
lr_segment_holds(const LrSegment *segment, const LrRun *run)
{
	static LrEvaluator *evaluator = NULL;
	LrConditionError error;
	LrTruth		truth;
	int			nest;

	if (segment == NULL)
		return true;
	if (segment->condition == NULL)
		return false;
	if (evaluator == NULL)
	{
		LrScope    *scope = scope_of_attributes();
		MemoryContext saved = MemoryContextSwitchTo(TopMemoryContext);

		evaluator = lr_evaluator_make(scope);
		MemoryContextSwitchTo(saved);
	}
	nest = segment->condition->timezone_matters ? lr_settings_enter("UTC") : -1;
	truth = lr_condition_evaluate(segment->condition, evaluator, run->values, run->isnull, &error);
	lr_settings_leave(nest);
	ResetExprContext(evaluator->context);
	return truth == LR_TRUE;
}

/*
 * Checks the condition of a segment: what it reads are attributes, and protected ones only if justified; what it uses are built-in
 * types. what names whose segment it is.
 */
void
lr_segment_check(const char *condition, json_t *justifications, const char *what, LrMistakes *mistakes)
{
	LrCondition *parsed = lr_condition_parse(condition, scope_of_attributes(), "segment", mistakes);
	int			fact = LR_AS_OF;

	if (parsed == NULL)
		return;
	if ((fact = bms_next_member(parsed->reads, fact)) >= 0)
		lr_mistake(mistakes, "segment", "Write it over attributes, such as country IN ('DE', 'AT').", "reads \"%s\", and no step has run when it is evaluated",
				   lr_fact_name(scope_of_attributes(), fact));
	if (parsed->types != NIL)
		lr_mistake(mistakes, "segment", "Compare the text, such as attributes->>'stage' IN ('new', 'open').", "uses type %s, which may change or go",
				   format_type_be(linitial_oid(parsed->types)));
	lr_check_protected_model(parsed->reads, parsed->keys, parsed->reads_all_keys, justifications, what, mistakes);
}

/* The names that a segment may use. */
static LrScope *
scope_of_attributes(void)
{
	static LrScope *scope = NULL;

	if (scope == NULL)
	{
		MemoryContext saved = MemoryContextSwitchTo(TopMemoryContext);

		scope = lr_scope_make(NULL, 0, "UTC");
		MemoryContextSwitchTo(saved);
	}
	return scope;
}

/* ---- shares ---- */

/* Tells whether a lead is among a share of all. One that is only evaluated has no key, and is in no share but that of everybody. */
bool
lr_share_takes(const LrRun *run, const char *salt, double share)
{
	char	   *key;
	bool		takes;

	if (share >= 1)
		return true;
	if (run->key == NULL && run->lead_id == 0)
		return false;
	key = key_of_run(run);
	takes = place_of(key, salt) < share;
	if (key != run->key)
		pfree(key);
	return takes;
}

/* Returns where a lead stands for a salt; see the SQL comment. */
Datum
leadroute_lead_share(PG_FUNCTION_ARGS)
{
	(void) lr_catalog();
	PG_RETURN_FLOAT8(place_of(text_to_cstring(PG_GETARG_TEXT_PP(0)), text_to_cstring(PG_GETARG_TEXT_PP(1))));
}

/* Returns a turn for a lead that draws none, always the same. */
int64
lr_hypothetical_turn(int64 lead_id)
{
	char		key[32];

	snprintf(key, sizeof(key), INT64_FORMAT, lead_id);
	return (int64) (hash_of(key, "turn") >> 11);
}

/* Returns a salt that nobody chose, in the current memory context. */
char *
lr_random_salt(void)
{
	unsigned char bytes[8];
	char	   *salt = palloc(2 * sizeof(bytes) + 1);

	if (!pg_strong_random(bytes, sizeof(bytes)))
		ereport(ERROR,
				errcode(ERRCODE_INTERNAL_ERROR),
				errmsg("could not generate random bytes"));
	for (int i = 0; i < (int) sizeof(bytes); i++)
		sprintf(salt + 2 * i, "%02x", bytes[i]);
	return salt;
}

/* Raises 22023 unless a number can be a share. */
void
lr_check_share(double share)
{
	if (!(share >= 0 && share <= 1))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("%g is no share", share),
				errhint("Give a number from 0 to 1, such as 0.1 for every tenth lead."));
}

static double
place_of(const char *key, const char *salt)
{
	return (double) (hash_of(key, salt) >> 11) / (double) (UINT64CONST(1) << 53);
}

static uint64
hash_of(const char *key, const char *salt)
{
	uint64		hash = UINT64CONST(14695981039346656037);

	for (const char *at = key; *at; at++)
		hash = (hash ^ (unsigned char) *at) * UINT64CONST(1099511628211);
	hash = hash * UINT64CONST(1099511628211);
	for (const char *at = salt; *at; at++)
		hash = (hash ^ (unsigned char) *at) * UINT64CONST(1099511628211);
	hash = (hash ^ (hash >> 33)) * UINT64CONST(0xff51afd7ed558ccd);
	hash = (hash ^ (hash >> 33)) * UINT64CONST(0xc4ceb9fe1a85ec53);
	return hash ^ (hash >> 33);
}

/* The key of a lead's row where it has one of its own, otherwise its id. */
static char *
key_of_run(const LrRun *run)
{
	return run->key ? run->key : psprintf(INT64_FORMAT, run->lead_id);
}
