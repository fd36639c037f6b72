/*
 * run_tests.c: running the tests of a policy.
 *
 * The lead of each test is evaluated (evaluate.c), all rules one by one: a test says what the rules mean, not what the index
 * makes of them. What came out is compared with those members of "expect" that are given.
 */
#include "policy/evaluation.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"

PG_FUNCTION_INFO_V1(leadroute_run_tests);

/* Called for each test, in their order, with what came out otherwise: an object as JSON, NULL if nothing did. */
typedef void (*TestDone) (const char *name, const char *difference, const LrRun *run, void *argument);

/* The tests that failed, for who publishes. */
typedef struct Failures
{
	MemoryContext memory;
	List	   *tests;			/* of LrFailedTest */
} Failures;

static void run_tests(const LrCandidate *candidate, json_t *tests, TestDone done, void *argument);
static char *difference_of(const LrCandidate *candidate, json_t *expect, const LrRun *run);
static void compare_text(StringInfo out, json_t *expect, const char *member, const char *got);
static void compare_number(StringInfo out, json_t *expect, const char *member, bool isnull, int got);
static void append_difference(StringInfo out, const char *member, json_t *expected);
static void put_result(const char *name, const char *difference, const LrRun *run, void *argument);
static void keep_failure(const char *name, const char *difference, const LrRun *run, void *argument);

/* Runs tests under a version or a document; see the SQL comment. */
Datum
leadroute_run_tests(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	LrCandidate candidate;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(2))
		return (Datum) 0;
	lr_candidate_open(&candidate, fcinfo, 0, 1);
	run_tests(&candidate, lr_json_of_jsonb(PG_GETARG_DATUM(2)), put_result, result);
	lr_candidate_close(&candidate);
	return (Datum) 0;
}

/*
 * Runs the tests of a document that is compiled without mistakes, and about to be published. Returns those that fail, LrFailedTest
 * each, in the current memory context; NIL if there is none. Call it when the pools of owners are made: the policy is indexed
 * with their numbers.
 */
List *
lr_policy_failed_tests(LrPolicy *policy, json_t *document)
{
	LrCandidate candidate = {.policy = policy,.document = document};
	Failures	failures = {.memory = CurrentMemoryContext};
	json_t	   *tests = json_object_get(document, "tests");

	if (json_array_size(tests) == 0)
		return NIL;
	if (policy->rule_set == NULL)
		lr_policy_index(policy);
	run_tests(&candidate, tests, keep_failure, &failures);
	return failures.tests;
}

static void
run_tests(const LrCandidate *candidate, json_t *tests, TestDone done, void *argument)
{
	int			n = (int) json_array_size(tests);
	LrBatch		batch;

	lr_evaluation_begin(&batch, candidate->policy, false);
	batch.unrecorded = true;
	for (int first = 0; first < n; first += lr_batch_size)
	{
		int			end = Min(first + lr_batch_size, n);
		MemoryContext saved = MemoryContextSwitchTo(batch.memory);

		CHECK_FOR_INTERRUPTS();
		for (int i = first; i < end; i++)
			(void) lr_evaluation_add(&batch, json_object_get(json_array_get(tests, i), "lead"));
		lr_batch_run(&batch);
		for (int i = first; i < end; i++)
		{
			json_t	   *test = json_array_get(tests, i);
			const LrRun *run = &batch.runs[i - first];
			const char *name = json_string_value(json_object_get(test, "name"));

			/* who calls run_tests() by hand may give what no document could be published with */
			done(name ? name : "", difference_of(candidate, json_object_get(test, "expect"), run), run, argument);
		}
		MemoryContextSwitchTo(saved);
		lr_batch_clear(&batch);
	}
	MemoryContextDelete(batch.memory);
}

/* Returns each member that came out otherwise, with what was expected and what came, as JSON; NULL if none did. */
static char *
difference_of(const LrCandidate *candidate, json_t *expect, const LrRun *run)
{
	json_t	   *rule = run->rule ? lr_candidate_rule(candidate, run->rule->number) : NULL;
	const char *owner = json_string_value(json_object_get(rule, "owner"));
	StringInfoData out;

	initStringInfo(&out);
	compare_text(&out, expect, "rule", json_string_value(json_object_get(rule, "name")));
	compare_text(&out, expect, "pool", owner ? lr_owner_pool_name(owner) : json_string_value(json_object_get(rule, "pool")));
	compare_text(&out, expect, "owner", owner);
	compare_text(&out, expect, "outcome", lr_outcome_names[run->outcome]);
	compare_text(&out, expect, "reason", run->reason);
	compare_number(&out, expect, "score", run->isnull[LR_SCORE], run->isnull[LR_SCORE] ? 0 : DatumGetInt32(run->values[LR_SCORE]));
	compare_text(&out, expect, "tier", run->isnull[LR_TIER] ? NULL : TextDatumGetCString(run->values[LR_TIER]));
	if (out.len == 0)
		return NULL;
	appendStringInfoChar(&out, '}');
	return out.data;
}

static void
compare_text(StringInfo out, json_t *expect, const char *member, const char *got)
{
	json_t	   *expected = json_object_get(expect, member);

	if (expected == NULL || (json_is_null(expected) && got == NULL))
		return;
	if (got && json_is_string(expected) && strcmp(json_string_value(expected), got) == 0)
		return;
	append_difference(out, member, expected);
	if (got)
		escape_json(out, got);
	else
		appendStringInfoString(out, "null");
	appendStringInfoChar(out, '}');
}

static void
compare_number(StringInfo out, json_t *expect, const char *member, bool isnull, int got)
{
	json_t	   *expected = json_object_get(expect, member);

	if (expected == NULL || (json_is_null(expected) ? isnull : !isnull && json_number_value(expected) == got))
		return;
	append_difference(out, member, expected);
	appendStringInfo(out, "%s}", isnull ? "null" : psprintf("%d", got));
}

/* Begins the difference in a member; what came is to follow. */
static void
append_difference(StringInfo out, const char *member, json_t *expected)
{
	appendStringInfo(out, "%c\"%s\": {\"expected\": %s, \"got\": ", out->len ? ',' : '{', member, lr_json_text(expected));
}

static void
put_result(const char *name, const char *difference, const LrRun *run, void *argument)
{
	ReturnSetInfo *result = argument;
	Datum		values[] = {CStringGetTextDatum(name), BoolGetDatum(difference == NULL),
		difference ? DirectFunctionCall1(jsonb_in, CStringGetDatum(difference)) : (Datum) 0,
		Int32GetDatum(run->rule ? run->rule->number : 0)};
	bool		nulls[] = {false, false, difference == NULL, run->rule == NULL};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
keep_failure(const char *name, const char *difference, const LrRun *run, void *argument)
{
	Failures   *failures = argument;
	MemoryContext saved = MemoryContextSwitchTo(failures->memory);
	LrFailedTest *test;

	if (difference)
	{
		test = palloc(sizeof(LrFailedTest));
		test->name = pstrdup(name);
		test->difference = pstrdup(difference);
		failures->tests = lappend(failures->tests, test);
	}
	MemoryContextSwitchTo(saved);
}
