/*
 * tests.c: the tests that a policy document brings along: given this lead, expect that rule, pool, outcome.
 *
 * Here they are checked, as the rest of a document is, when it is published; run_tests.c runs them. A version that decides does not
 * know its tests: they are stored beside its frame, which holds their hash.
 */
#include "policy/policy.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"

static const char *const test_members[] = {"name", "lead", "expect", "note", NULL};
static const char *const expect_members[] = {"rule", "pool", "owner", "outcome", "reason", "score", "tier", NULL};

typedef struct Names
{
	int			n;
	const char **names;			/* ascending */
} Names;

/* What tests are checked against. */
typedef struct Checking
{
	const LrScope *scope;
	LrMembers  *members;
	json_t	   *pools;			/* name to id */
	Names		rules;
	Names		owner_pools;	/* of the owners that rules name */
	LrMistakes *mistakes;
} Checking;

/* A fact that is read, under a guard. */
typedef struct Reading
{
	const LrScope *scope;
	int			fact;
	json_t	   *json;
	bool		fits;
} Reading;

static Names rule_names(json_t *rules, const char *member, bool of_pool);
static void check_test(Checking *c, json_t *json, const char *place);
static void check_lead(Checking *c, json_t *lead, const char *place);
static bool is_moment(int fact);
static void read_fact(void *argument);
static void check_expect(Checking *c, json_t *expect, const char *place);
static bool expects(Checking *c, json_t *expect, const char *member, const char **text, const char *place);
static bool has_name(const Names *names, const char *name);
static int	compare_strings(const void *a, const void *b);

/* Notes what is wrong with the tests of a document whose rules are read. pools: all there are, name to id. */
void
lr_tests_check(const LrPolicy *policy, json_t *document, LrMembers *members, json_t *pools, LrMistakes *mistakes)
{
	json_t	   *tests = lr_json_array(document, "tests", false, "", mistakes);
	json_t	   *rules = json_object_get(document, "rules");
	int			n = tests ? (int) json_array_size(tests) : 0;
	LrPlacedName *names = palloc(sizeof(LrPlacedName) * Max(n, 1));
	int			nnames = 0;
	Checking	c = {.scope = policy->scope,.members = members,.pools = pools,.mistakes = mistakes};
	int			nest;

	if (n == 0)
		return;
	c.rules = rule_names(rules, "name", false);
	c.owner_pools = rule_names(rules, "owner", true);
	nest = lr_settings_enter(policy->scope->timezone);
	for (int i = 0; i < n; i++)
	{
		json_t	   *test = json_array_get(tests, i);
		const char *name = json_string_value(json_object_get(test, "name"));

		CHECK_FOR_INTERRUPTS();
		check_test(&c, test, lr_place_at("tests", i));
		if (name)
			names[nnames++] = (LrPlacedName) {.name = name,.number = i};
	}
	lr_settings_leave(nest);
	lr_names_check("tests", names, nnames, "Results name tests: each needs a name of its own.", mistakes);
}

/* The values that rules have in a member, in order; of_pool: those of the pools of such owners. */
static Names
rule_names(json_t *rules, const char *member, bool of_pool)
{
	Names		result = {0};
	size_t		i;
	json_t	   *rule;

	result.names = palloc_extended(sizeof(char *) * Max(json_array_size(rules), 1), MCXT_ALLOC_HUGE);
	json_array_foreach(rules, i, rule)
	{
		const char *name = json_string_value(json_object_get(rule, member));

		if (name)
			result.names[result.n++] = of_pool ? lr_owner_pool_name(name) : name;
	}
	qsort(result.names, result.n, sizeof(char *), compare_strings);
	return result;
}

static void
check_test(Checking *c, json_t *json, const char *place)
{
	json_t	   *lead;
	json_t	   *expect;

	if (!json_is_object(json))
	{
		lr_mistake(c->mistakes, place, "Give {\"name\": \"…\", \"lead\": {…}, \"expect\": {…}}.", "has to be an object");
		return;
	}
	lr_json_known_members(json, test_members, place, c->mistakes);
	(void) lr_json_string(json, "name", true, place, c->mistakes);
	(void) lr_json_string(json, "note", false, place, c->mistakes);
	lead = lr_json_object(json, "lead", true, place, c->mistakes);
	expect = lr_json_object(json, "expect", true, place, c->mistakes);
	if (lead)
		check_lead(c, lead, lr_place(place, "lead"));
	if (expect)
		check_expect(c, expect, lr_place(place, "expect"));
}

/* The facts of a lead are known, and of their types. */
static void
check_lead(Checking *c, json_t *lead, const char *place)
{
	const char *name;
	json_t	   *json;

	json_object_foreach(lead, name, json)
	{
		Reading		reading = {.scope = c->scope,.fact = lr_fact_find(c->scope, name),.json = json};
		int			sqlstate;

		if (reading.fact < 0)
			lr_mistake(c->mistakes, lr_place(place, name),
					   "Give attributes without a column as members of \"attributes\", outputs as \"step.output\".",
					   "is neither an attribute of a lead nor an output of a step");
		else if (reading.fact >= LR_N_FACTS && !json_is_object(json))
			lr_mistake(c->mistakes, lr_place(place, name), "Give what the agent would: {…}.", "has to be an object");
		else if (!json_is_null(json) && (!lr_guard(read_fact, &reading, &sqlstate) || !reading.fits))
			lr_mistake(c->mistakes, lr_place(place, name),
					   "Text is a string, numbers are integers, moments are strings in ISO form, lists are arrays of strings.",
					   "has a value of another type");
		else if (json_is_string(json) && is_moment(reading.fact) && !lr_begins_with_date(json_string_value(json)))
			lr_mistake(c->mistakes, lr_place(place, name), "Give a date or a moment, such as 2026-06-01 or 2026-06-01T09:00:00+02:00.",
					   "\"%s\" is no fixed date", json_string_value(json));
	}
}

static bool
is_moment(int fact)
{
	return fact < LR_N_FACTS && lr_facts[fact].type == TIMESTAMPTZOID;
}

static void
read_fact(void *argument)
{
	Reading    *reading = argument;
	Datum		value;

	reading->fits = lr_fact_from_json(reading->scope, reading->fact, reading->json, &value);
}

/* What is expected can come out. */
static void
check_expect(Checking *c, json_t *expect, const char *place)
{
	json_t	   *score = json_object_get(expect, "score");
	const char *text;
	LrOutcome	outcome;

	lr_json_known_members(expect, expect_members, place, c->mistakes);
	if (json_object_size(expect) == 0)
		lr_mistake(c->mistakes, place, "Say what has to come out, such as {\"rule\": \"…\"}.", "is empty");
	if (expects(c, expect, "rule", &text, place) && !has_name(&c->rules, text))
		lr_mistake(c->mistakes, lr_place(place, "rule"), "Name a rule of this document, or give null for none.",
				   "there is no rule \"%s\"", text);
	if (expects(c, expect, "pool", &text, place) && json_object_get(c->pools, text) == NULL && !has_name(&c->owner_pools, text))
		lr_mistake(c->mistakes, lr_place(place, "pool"), lr_pool_hint(c->pools, text), "there is no pool \"%s\"", text);
	if (expects(c, expect, "owner", &text, place))
		(void) lr_members_find_owner(c->members, text, lr_place(place, "owner"));
	if (expects(c, expect, "outcome", &text, place) && (!lr_outcome_by_name(text, &outcome) || outcome == LR_PENDING))
		lr_mistake(c->mistakes, lr_place(place, "outcome"), "Give assigned, nurture, rejected, no_rule or quarantined.",
				   "\"%s\" is not an outcome", text);
	(void) expects(c, expect, "reason", &text, place);
	(void) expects(c, expect, "tier", &text, place);
	if (score && !json_is_number(score) && !json_is_null(score))
		lr_mistake(c->mistakes, lr_place(place, "score"), "Give a number, or null for none.", "has to be a number");
}

/* Tells whether a text is expected, and which; null, for none, is no text. */
static bool
expects(Checking *c, json_t *expect, const char *member, const char **text, const char *place)
{
	json_t	   *json = json_object_get(expect, member);

	*text = json_string_value(json);
	if (json && !json_is_string(json) && !json_is_null(json))
		lr_mistake(c->mistakes, lr_place(place, member), "Give a string, or null for none.", "has to be a string");
	return *text != NULL;
}

static bool
has_name(const Names *names, const char *name)
{
	return bsearch(&name, names->names, names->n, sizeof(char *), compare_strings) != NULL;
}

static int
compare_strings(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}
