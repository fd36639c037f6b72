/*
 * compile.c: from a policy document to what the pipeline runs.
 *
 * The same reading serves publishing, where every mistake is noted with its place and the newest agents and documents are
 * chosen, and loading, where the pins of the published version say which ones. docs/policy.md describes the document.
 */
#include "policy/compile.h"
#include "policy/rule_index.h"

#include "agents/agents.h"
#include "assignment/assignment.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "pipeline/pipeline.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/varlena.h"

#define MAKE_POOL "INSERT INTO leadroute.pools (name) makes one."
#define MAX_STEPS 32

static const char *const document_members[] = {"leadroute", "description", "timezone", "hit_policy", "steps", "rules", "tests", "justifications", NULL};
static const char *const rule_members[] = {"name", "priority", "when", "pool", "account_owner", "owner", "outcome", "reason", "agents", "skills", "value", "prerequisites",
	"first_response_within", "review_below", "sla_clock", "escalate_after", "sla", "effective_from", "effective_until", "enabled", "author", "note", NULL
};

static void read_header(LrCompilation *c, json_t *document);
static void make_scope(LrCompilation *c, json_t *steps, const char *timezone);
static LrCondition *read_condition(LrMembers *members, const LrScope *scope, json_t *json, const char *place, LrMistakes *mistakes);
static void read_rules(LrCompilation *c, json_t *rules);
static void mark_raising(LrPolicy *policy);
static void use_pinned_reads(LrCompilation *c);
static bool read_rule(LrCompilation *c, json_t *json, int number);
static void read_target(LrCompilation *c, json_t *json, LrRule *rule, const char *place);
static int	find_pool(LrCompilation *c, const char *name, const char *place);
static json_t *all_pools(void);
static void add_key(LrPolicy *policy, char *key);
static void append_reads(const LrPolicy *policy, StringInfo json);
static int	compare_names(const void *a, const void *b);
static int	compare_numbers(const void *a, const void *b);
static void check_types(LrCompilation *c);
static int	compare_rules(const void *a, const void *b);

/*
 * Compiles a document, in the current memory context. pins is NULL when publishing. Mistakes are noted; where there are any,
 * what is returned cannot run. reading: only what it takes to read records: conditions are not parsed.
 */
LrPolicy *
lr_policy_compile(json_t *document, json_t *pins, bool reading, LrMistakes *mistakes)
{
	LrCompilation c = {.policy = palloc0(sizeof(LrPolicy)),.pins = pins,.reading = reading,.mistakes = mistakes};
	LrPolicy   *policy = c.policy;
	json_t	   *steps;

	policy->memory = CurrentMemoryContext;
	if (!json_is_object(document))
	{
		lr_mistake(mistakes, "document", "Give {\"steps\": […], \"rules\": […]}.", "has to be an object");
		return policy;
	}
	read_header(&c, document);
	steps = lr_json_array(document, "steps", true, "", mistakes);
	make_scope(&c, steps, json_string_value(json_object_get(document, "timezone")));

	policy->nsteps = steps ? (int) json_array_size(steps) : 0;
	policy->steps = palloc0(sizeof(LrStep) * Max(policy->nsteps, 1));
	if (steps && policy->nsteps == 0)
		lr_mistake(mistakes, "steps", "Name at least one, such as {\"capability\": \"validateContact\"}.", "is empty");
	if (policy->nsteps > MAX_STEPS)
	{
		lr_mistake(mistakes, "steps", NULL, "has more than %d steps", MAX_STEPS);
		return policy;
	}
	for (int i = 0; i < policy->nsteps; i++)
	{
		lr_step_read(&c, json_array_get(steps, i), i);
		c.assigns |= policy->steps[i].builtin == &lr_assign_owner;
	}
	if (pins)
		use_pinned_reads(&c);
	else
	{
		read_rules(&c, lr_json_array(document, "rules", false, "", mistakes));
		lr_tests_check(policy, document, c.members, c.pools, mistakes);
	}
	lr_flags_find(policy, pins != NULL);
	if (pins)
		check_types(&c);
	return policy;
}

/* Makes a document that was compiled without mistakes ready to decide under, though nobody has published it. */
void
lr_policy_index(LrPolicy *policy)
{
	policy->rule_set = lr_rule_set_make(lr_rule_index_build(policy));
}

/* Reads the rules of a loaded version, all of them, for an index that has to be made anew. */
void
lr_policy_read_rules(LrPolicy *policy, json_t *rules, json_t *pins, LrMistakes *mistakes)
{
	LrCompilation c = {.policy = policy,.pins = pins,.mistakes = mistakes,.assigns = true};

	read_rules(&c, rules);
}

/* Reads the rules, in the order in which they will be tried. */
static void
read_rules(LrCompilation *c, json_t *rules)
{
	LrPolicy   *policy = c->policy;
	int			n = rules ? (int) json_array_size(rules) : 0;
	LrPlacedName   *names = palloc(sizeof(LrPlacedName) * Max(n, 1));
	int			nnames = 0;

	c->members = lr_members_begin(policy, c->pins == NULL, c->mistakes);
	c->pools = c->pins ? json_object_get(c->pins, "pools") : all_pools();
	policy->rules = palloc_extended(sizeof(LrRule) * Max(n, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	policy->nrules = 0;
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (read_rule(c, json_array_get(rules, i), i))
			names[nnames++] = (LrPlacedName) {.name = json_string_value(json_object_get(json_array_get(rules, i), "name")),.number = i};
	}
	/* records name rules */
	lr_names_check("rules", names, nnames, "Records name rules: each needs a name of its own.", c->mistakes);
	qsort(policy->rules, policy->nrules, sizeof(LrRule), policy->hit_policy == LR_HIT_FIRST ? compare_numbers : compare_rules);
	if (policy->nrules > 0 && policy->nsteps > 0 && !c->assigns)
		lr_mistake(c->mistakes, "rules", "Add the step {\"capability\": \"assignOwner\"}.", "are never used: no step assigns");
	for (int r = 0; r < policy->nrules; r++)
		policy->rules_may_raise |= policy->rules[r].when->may_raise;
	mark_raising(policy);
}

/* Guards are for steps that need them. */
static void
mark_raising(LrPolicy *policy)
{
	for (int s = 0; s < policy->nsteps; s++)
	{
		if (policy->steps[s].builtin == &lr_assign_owner)
			policy->steps[s].may_raise |= policy->rules_may_raise;
	}
}

/* What a published version's rules read is pinned, so that nobody has to read them to know. */
static void
use_pinned_reads(LrCompilation *c)
{
	LrPolicy   *policy = c->policy;
	json_t	   *pin = json_object_get(c->pins, "rules");
	size_t		i;
	json_t	   *name;
	const char *type;
	json_t	   *digest;

	policy->nrules = (int) json_integer_value(json_object_get(pin, "count"));
	json_array_foreach(json_object_get(pin, "reads"), i, name)
	{
		int			fact = lr_fact_find(policy->scope, json_string_value(name));

		if (fact < 0)
			lr_mistake(c->mistakes, "rules", "Publish the policy again.", "read \"%s\", which this version of leadroute does not know", json_string_value(name));
		else
			policy->rule_reads = bms_add_member(policy->rule_reads, fact);
	}
	json_array_foreach(json_object_get(pin, "keys"), i, name)
		policy->keys = lappend(policy->keys, pstrdup(json_string_value(name)));
	policy->reads_all_keys |= json_is_true(json_object_get(pin, "reads_all_keys"));
	policy->conditions_read_all_keys |= json_is_true(json_object_get(pin, "conditions_read_all_keys"));
	policy->timezone_matters |= json_is_true(json_object_get(pin, "timezone_matters"));
	policy->rules_may_raise = json_is_true(json_object_get(pin, "may_raise"));
	mark_raising(policy);
	json_object_foreach(json_object_get(c->pins, "types"), type, digest)
	{
		Oid			oid = lr_type_by_name(type);

		if (OidIsValid(oid))
			policy->types = list_append_unique_oid(policy->types, oid);
		else
			lr_mistake(c->mistakes, "types", "Publish the policy again: its conditions then mean what the type means now.",
					   "type %s is no longer what the policy version pinned", type);
	}
}

/* Notes names that several members of a list have; hint says why each needs one of its own. */
void
lr_names_check(const char *list, LrPlacedName *names, int n, const char *hint, LrMistakes *mistakes)
{
	qsort(names, n, sizeof(LrPlacedName), compare_names);
	for (int i = 1; i < n; i++)
	{
		if (strcmp(names[i].name, names[i - 1].name) == 0)
			lr_mistake(mistakes, lr_place(lr_place_at(list, names[i].number), "name"), hint, "\"%s\" is taken by %s[%d]", names[i].name, list,
					   names[i - 1].number);
	}
}

static void
read_header(LrCompilation *c, json_t *document)
{
	double		format = 0;
	const char *timezone;

	lr_json_known_members(document, document_members, "", c->mistakes);
	if (!lr_json_number(document, "leadroute", 1, 1, &format, "", c->mistakes) && json_object_get(document, "leadroute") == NULL)
		lr_mistake(c->mistakes, "leadroute", "Give 1, the format of the document.", "is missing");
	(void) lr_json_string(document, "description", false, "", c->mistakes);
	timezone = lr_json_string(document, "timezone", false, "", c->mistakes);
	if (timezone && pg_tzset(timezone) == NULL)
		lr_mistake(c->mistakes, "timezone", "Give an IANA name such as Europe/Berlin.", "is not a known time zone");
	c->policy->hit_policy = lr_read_hit_policy(document, c->mistakes);
	c->policy->justifications = lr_read_justifications(document, c->mistakes);
}

/* The names of SQL agents' capabilities, and of flags, are known to conditions before the steps are read. */
static void
make_scope(LrCompilation *c, json_t *steps, const char *timezone)
{
	/* more are refused in a moment; a row has no room for any number of columns */
	int			nsteps = steps ? Min((int) json_array_size(steps), MAX_STEPS) : 0;
	json_t	   *pinned_flags = c->pins ? json_object_get(c->pins, "flags") : NULL;
	List	   *flags = c->pins ? NIL : lr_flag_names();
	LrExtraFact *extra = palloc(sizeof(LrExtraFact) * (nsteps + list_length(flags) + json_array_size(pinned_flags) + 1));
	int			nextra = 0;
	ListCell   *cell;

	for (int i = 0; i < nsteps; i++)
	{
		const char *capability = json_string_value(json_object_get(json_array_get(steps, i), "capability"));

		if (capability && lr_builtin_by_capability(capability) == NULL)
			extra[nextra++] = (LrExtraFact) {.name = pstrdup(capability),.type = JSONBOID};
	}
	foreach(cell, flags)
		extra[nextra++] = (LrExtraFact) {.name = psprintf(LR_FLAG_PREFIX "%s", (char *) lfirst(cell)),.type = BOOLOID};
	for (int i = 0; i < (int) json_array_size(pinned_flags); i++)
		extra[nextra++] = (LrExtraFact) {.name = psprintf(LR_FLAG_PREFIX "%s", json_string_value(json_array_get(pinned_flags, i))),.type = BOOLOID};
	c->policy->scope = lr_scope_make(extra, nextra, timezone && pg_tzset(timezone) ? timezone : "UTC");
	c->policy->scope->reading = c->reading;
	c->policy->reading = c->reading;
	c->policy->evaluator = lr_evaluator_make(c->policy->scope);
}

/* Reads a rule; returns whether it is switched on and has a name. */
static bool
read_rule(LrCompilation *c, json_t *json, int number)
{
	LrRule	   *rule = &c->policy->rules[c->policy->nrules];
	char	   *place = lr_place_at("rules", number);
	const char *name;
	bool		enabled;

	if (!json_is_object(json))
	{
		lr_mistake(c->mistakes, place, "Give {\"name\": \"…\", \"when\": \"…\", \"pool\": \"…\"}.", "has to be an object");
		return false;
	}
	lr_json_known_members(json, rule_members, place, c->mistakes);
	memset(rule, 0, sizeof(*rule));
	rule->number = number;
	(void) lr_json_number(json, "priority", -1e9, 1e9, &rule->priority, place, c->mistakes);
	name = lr_json_string(json, "name", true, place, c->mistakes);
	rule->name = name ? pstrdup(name) : "";
	enabled = lr_json_boolean(json, "enabled", true, place, c->mistakes);
	read_target(c, json, rule, place);
	rule->has_terms = rule->outcome == LR_ASSIGNED && lr_terms_any(json);
	lr_members_read(c->members, json, rule, place);
	if (c->pins == NULL)
		lr_sla_check(json, c->pools, place, c->mistakes);
	rule->when = read_condition(c->members, c->policy->scope, json, place, c->mistakes);
	if (rule->when)
	{
		lr_add_reads(c->policy, rule->when, &c->policy->rule_reads);
		if (enabled)
			c->policy->nrules++;
	}
	return name && enabled;
}

/* Reads the condition of a rule, dates of effect included; NULL if there is a mistake in it. */
static LrCondition *
read_condition(LrMembers *members, const LrScope *scope, json_t *json, const char *place, LrMistakes *mistakes)
{
	LrRule		rule = {0};
	const char *when = lr_condition_member(json, place, mistakes);

	if (when)
		rule.when = lr_condition_parse(when, scope, lr_place(place, "when"), mistakes);
	lr_members_read_dates(members, json, &rule, place);
	return rule.when;
}

/* Reads the condition of one rule of a published version. */
LrCondition *
lr_rule_read_condition(LrPolicy *policy, json_t *json, const char *place, LrMistakes *mistakes)
{
	return read_condition(lr_members_begin(policy, false, mistakes), policy->scope, json, place, mistakes);
}

/* A rule leads to a pool, to an owner, or to an outcome with a reason. */
static void
read_target(LrCompilation *c, json_t *json, LrRule *rule, const char *place)
{
	const char *pool = lr_json_string(json, "pool", false, place, c->mistakes);
	const char *owner = lr_json_string(json, "owner", false, place, c->mistakes);
	const char *outcome = lr_json_string(json, "outcome", false, place, c->mistakes);
	const char *reason = lr_json_string(json, "reason", false, place, c->mistakes);

	rule->outcome = LR_ASSIGNED;
	rule->reason = reason ? pstrdup(reason) : "rule_matched";
	if (lr_json_has(json, "pool") + lr_json_has(json, "owner") + lr_json_has(json, "outcome") != 1)
		lr_mistake(c->mistakes, place, "Give exactly one of them.", "needs either \"pool\", \"owner\" or \"outcome\"");
	/* one of another type is on the list already */
	if ((pool != NULL) + (owner != NULL) + (outcome != NULL) != 1)
		return;
	if (owner)
	{
		rule->owner = pstrdup(owner);
		rule->pool = lr_owner_pool_name(owner);
		rule->pool_id = c->pins ? find_pool(c, rule->pool, place) : lr_members_find_owner(c->members, owner, lr_place(place, "owner"));
		return;
	}
	if (pool)
	{
		rule->pool = pstrdup(pool);
		rule->pool_id = find_pool(c, pool, lr_place(place, "pool"));
		return;
	}
	if (!lr_outcome_by_name(outcome, &rule->outcome) || rule->outcome == LR_PENDING || rule->outcome == LR_ASSIGNED || rule->outcome == LR_NO_RULE)
		lr_mistake(c->mistakes, lr_place(place, "outcome"), "Give rejected, nurture or quarantined.", "\"%s\" cannot be a rule's outcome", outcome);
	if (!lr_json_has(json, "reason"))
		lr_mistake(c->mistakes, lr_place(place, "reason"), "Give a code such as low_score.", "is missing");
}

static int
find_pool(LrCompilation *c, const char *name, const char *place)
{
	json_t	   *pool_id = json_object_get(c->pools, name);

	if (pool_id == NULL && c->pins == NULL)
		lr_mistake(c->mistakes, place, lr_pool_hint(c->pools, name), "there is no pool \"%s\"", name);
	return (int) json_integer_value(pool_id);
}

/* Says which pool may be meant by a name that is none: one that differs in case, or in few letters. */
const char *
lr_pool_hint(json_t *pools, const char *name)
{
	int			length = strlen(name);
	int			least = Min(length / 3, 2) + 1;
	const char *nearest = NULL;
	const char *known;
	json_t	   *pool_id;

	/* among thousands, looking for each of thousands of mistakes takes too long */
	if (length > NAMEDATALEN || json_object_size(pools) > 1000)
		return MAKE_POOL;
	json_object_foreach(pools, known, pool_id)
	{
		int			distance = 0;

		if (pg_strcasecmp(known, name) != 0)
			distance = varstr_levenshtein_less_equal(name, length, known, strlen(known), 1, 1, 1, least - 1, true);
		if (distance < least)
		{
			least = distance;
			nearest = known;
		}
	}
	return nearest ? psprintf("Perhaps \"%s\" is meant. " MAKE_POOL, nearest) : MAKE_POOL;
}

/* All pools there are, in the form of the pins. */
static json_t *
all_pools(void)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	json_t	   *pools = NULL;
	bool		isnull;

	lr_sql_begin(&identity);
	if (lr_sql("SELECT coalesce(jsonb_object_agg(name, pool_id), '{}') FROM leadroute.pools", true, 0, NULL, NULL, NULL) > 0)
	{
		MemoryContext saved = MemoryContextSwitchTo(memory);

		pools = lr_json_of_jsonb(lr_sql_datum(0, 1, &isnull));
		MemoryContextSwitchTo(saved);
	}
	lr_sql_end(&identity);
	return pools;
}

/* Notes what a condition reads, for the policy and for the step or the rules. */
void
lr_add_reads(LrPolicy *policy, const LrCondition *condition, Bitmapset **reads)
{
	ListCell   *cell;

	*reads = bms_add_members(*reads, condition->reads);
	foreach(cell, condition->keys)
		add_key(policy, lfirst(cell));
	policy->types = list_concat_unique_oid(policy->types, condition->types);
	policy->reads_all_keys |= condition->reads_all_keys;
	policy->conditions_read_all_keys |= condition->reads_all_keys;
	policy->timezone_matters |= condition->timezone_matters;
}

static void
add_key(LrPolicy *policy, char *key)
{
	ListCell   *cell;

	foreach(cell, policy->keys)
	{
		if (strcmp(lfirst(cell), key) == 0)
			return;
	}
	policy->keys = lappend(policy->keys, key);
}

/* An enum or a domain that changed would change the meaning of conditions. */
static void
check_types(LrCompilation *c)
{
	StringInfoData present;
	json_t	   *types;
	const char *name;
	json_t	   *digest;

	initStringInfo(&present);
	lr_types_to_json(c->policy->types, &present);
	types = lr_json_of_jsonb(DirectFunctionCall1(jsonb_in, CStringGetDatum(present.data)));
	json_object_foreach(types, name, digest)
	{
		json_t	   *pin = json_object_get(json_object_get(c->pins, "types"), name);

		if (pin == NULL || !json_equal(pin, digest))
			lr_mistake(c->mistakes, "types", "Publish the policy again: its conditions then mean what the type means now.",
					   "type %s is no longer what the policy version pinned", name);
	}
}

/* Returns what a published version pinned for an element of a list; NULL when publishing. */
json_t *
lr_pinned(LrCompilation *c, const char *kind, int number)
{
	return c->pins ? json_array_get(json_object_get(c->pins, kind), number) : NULL;
}

static int
compare_names(const void *a, const void *b)
{
	const LrPlacedName *one = a;
	const LrPlacedName *other = b;
	int			result = strcmp(one->name, other->name);

	return result ? result : one->number - other->number;
}

static int
compare_numbers(const void *a, const void *b)
{
	return ((const LrRule *) a)->number - ((const LrRule *) b)->number;
}

static int
compare_rules(const void *a, const void *b)
{
	const LrRule *one = a;
	const LrRule *other = b;

	if (one->priority != other->priority)
		return one->priority < other->priority ? -1 : 1;
	return one->number - other->number;
}

/* Returns the pins of a compiled policy as JSON text: what each step and rule resolved to. */
char *
lr_policy_pins(const LrPolicy *policy)
{
	StringInfoData json;
	Bitmapset  *pools = NULL;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"steps\": [");
	for (int i = 0; i < policy->nsteps; i++)
	{
		const LrStep *step = &policy->steps[i];

		appendStringInfo(&json, "%s{\"agent_id\": %d, \"agent\": ", i ? ", " : "", step->agent->agent_id);
		escape_json(&json, psprintf("%s@%s", step->agent->name, step->agent->version));
		if (step->document)
		{
			appendStringInfo(&json, ", \"document_id\": %d, \"document_digest\": \"%s\", \"document\": ", step->document->document_id,
							 step->document->digest);
			escape_json(&json, psprintf("%s@%d", step->document->name, step->document->version));
		}
		if (step->fallback_agent)
		{
			appendStringInfo(&json, ", \"fallback_agent_id\": %d, \"fallback_agent\": ", step->fallback_agent->agent_id);
			escape_json(&json, psprintf("%s@%s", step->fallback_agent->name, step->fallback_agent->version));
		}
		appendStringInfoChar(&json, '}');
	}
	appendStringInfoString(&json, "], \"rules\": ");
	append_reads(policy, &json);
	appendStringInfoString(&json, ", \"pools\": {");
	for (int i = 0; i < policy->nrules; i++)
	{
		if (policy->rules[i].pool == NULL || bms_is_member(policy->rules[i].pool_id, pools))
			continue;
		appendStringInfoString(&json, pools ? ", " : "");
		escape_json(&json, policy->rules[i].pool);
		appendStringInfo(&json, ": %d", policy->rules[i].pool_id);
		pools = bms_add_member(pools, policy->rules[i].pool_id);
	}
	appendStringInfoString(&json, "}, \"types\": ");
	lr_types_to_json(policy->types, &json);
	for (int i = 0; i < policy->nflags; i++)
	{
		appendStringInfoString(&json, i ? ", " : ", \"flags\": [");
		escape_json(&json, policy->flags[i].name);
	}
	appendStringInfoString(&json, policy->nflags ? "]}" : "}");
	return json.data;
}

/* What is read, by rules or steps; a session that loads the version does not look at each rule. */
static void
append_reads(const LrPolicy *policy, StringInfo json)
{
	int			fact = -1;
	bool		first = true;
	ListCell   *cell;

	appendStringInfo(json, "{\"count\": %d, \"may_raise\": %s, \"timezone_matters\": %s, \"reads_all_keys\": %s,"
					 " \"conditions_read_all_keys\": %s, \"reads\": [", policy->nrules,
					 policy->rules_may_raise ? "true" : "false", policy->timezone_matters ? "true" : "false",
					 policy->reads_all_keys ? "true" : "false", policy->conditions_read_all_keys ? "true" : "false");
	while ((fact = bms_next_member(policy->rule_reads, fact)) >= 0)
	{
		appendStringInfoString(json, first ? "" : ", ");
		escape_json(json, lr_fact_name(policy->scope, fact));
		first = false;
	}
	appendStringInfoString(json, "], \"keys\": [");
	foreach(cell, policy->keys)
	{
		appendStringInfoString(json, foreach_current_index(cell) ? ", " : "");
		escape_json(json, lfirst(cell));
	}
	appendStringInfoString(json, "]}");
}
