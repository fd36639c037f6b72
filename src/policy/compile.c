/*
 * compile.c: from a policy document to what the pipeline runs.
 *
 * The same reading serves publishing, where every mistake is noted with its place and the newest agents and documents are
 * chosen, and loading, where the pins of the published version say which ones. docs/policy.md describes the document.
 */
#include "policy/policy.h"

#include "agents/agents.h"
#include "assignment/assignment.h"
#include "catalog/pg_type.h"
#include "pgtime.h"
#include "pipeline/pipeline.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#define MAX_STEPS 32

static const char *const document_members[] = {"leadroute", "description", "timezone", "hit_policy", "steps", "rules", "justifications", NULL};
static const char *const step_members[] = {"capability", "agent", "after", "stop_when", "on_error", "note", "scorecard", "jurisdictions", "free_mail", NULL};
static const char *const stop_members[] = {"when", "outcome", "reason", NULL};
static const char *const rule_members[] = {"name", "priority", "when", "pool", "owner", "outcome", "reason", "agents", "skills", "prerequisites",
	"first_response_within", "sla_clock", "escalate_after", "effective_from", "effective_until", "enabled", "author", "note", NULL
};

typedef struct Compilation
{
	LrPolicy   *policy;
	json_t	   *pins;			/* NULL when publishing */
	bool		reading;
	LrMistakes *mistakes;
	LrMembers  *members;
	const char **rule_names;	/* of all rules so far, those with mistakes too; NULL for one that is switched off */
} Compilation;

static void read_header(Compilation *c, json_t *document);
static void make_scope(Compilation *c, json_t *steps, const char *timezone);
static void read_step(Compilation *c, json_t *json, int number);
static void read_agent(Compilation *c, json_t *json, LrStep *step, const char *place);
static void read_document(Compilation *c, json_t *json, LrStep *step, const char *place);
static void read_after(Compilation *c, json_t *json, LrStep *step, const char *place);
static void read_stops(Compilation *c, json_t *json, LrStep *step, const char *place);
static void add_default_stop(Compilation *c, LrStep *step);
static void read_rule(Compilation *c, json_t *json, int number);
static void read_target(Compilation *c, json_t *json, LrRule *rule, const char *place);
static int	find_pool(Compilation *c, const char *name, const char *place);
static void add_reads(LrPolicy *policy, const LrCondition *condition, Bitmapset **reads);
static void check_types(Compilation *c);
static json_t *pinned(Compilation *c, const char *kind, int number);
static int	compare_rules(const void *a, const void *b);

/*
 * Compiles a document, in the current memory context. pins is NULL when publishing. Mistakes are noted; where there are any,
 * what is returned cannot run. reading: only what it takes to read records: conditions are not parsed.
 */
LrPolicy *
lr_policy_compile(json_t *document, json_t *pins, bool reading, LrMistakes *mistakes)
{
	Compilation c = {.policy = palloc0(sizeof(LrPolicy)),.pins = pins,.reading = reading,.mistakes = mistakes};
	LrPolicy   *policy = c.policy;
	json_t	   *steps;
	json_t	   *rules;
	bool		assigns = false;

	policy->memory = CurrentMemoryContext;
	if (!json_is_object(document))
	{
		lr_mistake(mistakes, "document", "Give {\"steps\": […], \"rules\": […]}.", "has to be an object");
		return policy;
	}
	read_header(&c, document);
	steps = lr_json_array(document, "steps", true, "", mistakes);
	rules = lr_json_array(document, "rules", false, "", mistakes);
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
		read_step(&c, json_array_get(steps, i), i);
		assigns |= policy->steps[i].builtin == &lr_assign_owner;
	}

	policy->rules = palloc0(sizeof(LrRule) * Max(rules ? json_array_size(rules) : 0, 1));
	c.members = lr_members_begin(policy, pins == NULL, mistakes);
	c.rule_names = palloc0(sizeof(char *) * Max(rules ? json_array_size(rules) : 0, 1));
	for (int i = 0; rules && i < (int) json_array_size(rules); i++)
		read_rule(&c, json_array_get(rules, i), i);
	qsort(policy->rules, policy->nrules, sizeof(LrRule), compare_rules);
	if (policy->nrules > 0 && policy->nsteps > 0 && !assigns)
		lr_mistake(mistakes, "rules", "Add the step {\"capability\": \"assignOwner\"}.", "are never used: no step assigns");

	for (int s = 0; s < policy->nsteps; s++)
	{
		for (int r = 0; r < policy->nrules && policy->steps[s].builtin == &lr_assign_owner; r++)
			policy->steps[s].may_raise |= policy->rules[r].when->may_raise;
	}
	if (pins)
		check_types(&c);
	if (mistakes->list == NIL && !reading)
		lr_rule_index_build(policy);
	return policy;
}

static void
read_header(Compilation *c, json_t *document)
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

/* The names of SQL agents' capabilities are known to conditions before the steps are read. */
static void
make_scope(Compilation *c, json_t *steps, const char *timezone)
{
	/* more are refused in a moment; a row has no room for any number of columns */
	int			nsteps = steps ? Min((int) json_array_size(steps), MAX_STEPS) : 0;
	char	  **extra = palloc(sizeof(char *) * Max(nsteps, 1));
	int			nextra = 0;

	for (int i = 0; i < nsteps; i++)
	{
		const char *capability = json_string_value(json_object_get(json_array_get(steps, i), "capability"));

		if (capability && lr_builtin_by_capability(capability) == NULL)
			extra[nextra++] = pstrdup(capability);
	}
	c->policy->scope = lr_scope_make(extra, nextra, timezone && pg_tzset(timezone) ? timezone : "UTC");
	c->policy->scope->reading = c->reading;
	c->policy->reading = c->reading;
	c->policy->evaluator = lr_evaluator_make(c->policy->scope);
}

static void
read_step(Compilation *c, json_t *json, int number)
{
	LrStep	   *step = &c->policy->steps[number];
	char	   *place = lr_place_at("steps", number);
	const char *capability;
	const char *on_error;

	step->number = number;
	step->capability = "";
	if (!json_is_object(json))
	{
		lr_mistake(c->mistakes, place, "Give {\"capability\": \"…\"}.", "has to be an object");
		return;
	}
	lr_json_known_members(json, step_members, place, c->mistakes);
	capability = lr_json_string(json, "capability", true, place, c->mistakes);
	if (capability == NULL)
		return;
	step->capability = pstrdup(capability);
	for (int i = 0; i < number; i++)
	{
		if (pg_strcasecmp(c->policy->steps[i].capability, capability) == 0)
			lr_mistake(c->mistakes, lr_place(place, "capability"), "Each capability runs once in a run.", "\"%s\" is a step already", capability);
	}
	step->builtin = lr_builtin_by_capability(capability);
	read_agent(c, json, step, place);
	read_after(c, json, step, place);
	read_document(c, json, step, place);

	on_error = lr_json_string(json, "on_error", false, place, c->mistakes);
	step->skip_on_error = on_error && strcmp(on_error, "skip") == 0;
	if (on_error && strcmp(on_error, "skip") != 0 && strcmp(on_error, "quarantine") != 0)
		lr_mistake(c->mistakes, lr_place(place, "on_error"), "Give \"quarantine\" or \"skip\".", "\"%s\" is not known", on_error);
	if (step->builtin == &lr_assign_owner && step->skip_on_error)
		lr_mistake(c->mistakes, lr_place(place, "on_error"), "Leave it out.", "assignOwner cannot be skipped");

	if (step->builtin)
	{
		step->first_fact = step->builtin->first_fact;
		step->nfacts = step->builtin->nfacts;
		step->builtin->configure(step, json, step->document ? step->document->json : NULL, c->policy->scope, place, c->mistakes);
	}
	else
	{
		for (int i = 0; i < c->policy->scope->nextra; i++)
		{
			if (strcmp(c->policy->scope->extra[i], capability) == 0)
				step->first_fact = LR_N_FACTS + i;
		}
		step->nfacts = 1;
		/* it is given everything */
		step->reads = bms_add_range(NULL, 0, step->first_fact - 1);
		step->reads_all_keys = true;
	}
	c->policy->reads_all_keys |= step->reads_all_keys;
	c->policy->timezone_matters |= step->timezone_matters;
	c->policy->keys = list_concat(c->policy->keys, step->keys);
	c->policy->types = list_concat_unique_oid(c->policy->types, step->types);
	read_stops(c, json, step, place);
}

static void
read_agent(Compilation *c, json_t *json, LrStep *step, const char *place)
{
	const char *wanted = lr_json_string(json, "agent", false, place, c->mistakes);
	json_t	   *pin = pinned(c, "steps", step->number);
	int			agent_id = pin ? (int) json_integer_value(json_object_get(pin, "agent_id"))
		: lr_agent_choose(step->capability, wanted, place, c->mistakes);

	if (agent_id == 0)
		return;
	step->agent = lr_agent_load(agent_id);
	if (step->agent->kind == LR_AGENT_EXTERNAL)
		lr_mistake(c->mistakes, lr_place(place, "agent"), "Name a built-in or an SQL agent.",
				   "\"%s\" is external; this version of leadroute runs steps in the transaction only", step->agent->name);
}

static void
read_document(Compilation *c, json_t *json, LrStep *step, const char *place)
{
	static const char *const kinds[] = {"scorecard", "jurisdictions"};
	json_t	   *pin = pinned(c, "steps", step->number);
	const char *kind = step->builtin ? step->builtin->document_kind : NULL;
	const char *name;

	for (int i = 0; i < (int) lengthof(kinds); i++)
	{
		if (json_object_get(json, kinds[i]) && (kind == NULL || strcmp(kinds[i], kind) != 0))
			lr_mistake(c->mistakes, lr_place(place, kinds[i]), "Leave it out.", "means nothing to \"%s\"", step->capability);
	}
	if (kind == NULL)
		return;
	if (pin)
	{
		step->document = lr_document_load((int) json_integer_value(json_object_get(pin, "document_id")));
		if (strcmp(step->document->digest, json_string_value(json_object_get(pin, "document_digest"))) != 0)
			lr_mistake(c->mistakes, lr_place(place, kind), "Restore the document as it was published.",
					   "version %d of \"%s\" is no longer what the policy version pinned", step->document->version, step->document->name);
		return;
	}
	name = lr_json_string(json, kind, false, place, c->mistakes);
	if (name == NULL)
		name = "standard";
	step->document = lr_document_newest(kind, name);
	if (step->document == NULL)
		lr_mistake(c->mistakes, lr_place(place, kind), psprintf("Publish it first with leadroute.publish_%s().", kind), "there is no %s \"%s\"",
				   kind, name);
}

static void
read_after(Compilation *c, json_t *json, LrStep *step, const char *place)
{
	json_t	   *after = lr_json_array(json, "after", false, place, c->mistakes);

	for (int i = 0; after && i < (int) json_array_size(after); i++)
	{
		const char *capability = json_string_value(json_array_get(after, i));
		int			found = -1;

		for (int s = 0; capability && s < step->number; s++)
		{
			if (strcmp(c->policy->steps[s].capability, capability) == 0)
				found = s;
		}
		if (found < 0)
			lr_mistake(c->mistakes, lr_place_at(lr_place(place, "after"), i), "Name the capability of a step that stands before this one.",
					   "%s is not an earlier step", capability ? psprintf("\"%s\"", capability) : "it");
		else
			step->after = bms_add_member(step->after, found);
	}
}

static void
read_stops(Compilation *c, json_t *json, LrStep *step, const char *place)
{
	json_t	   *stops = lr_json_array(json, "stop_when", false, place, c->mistakes);

	if (stops == NULL)
	{
		add_default_stop(c, step);
		return;
	}
	step->stops = palloc0(sizeof(LrStop) * Max(json_array_size(stops), 1));
	for (int i = 0; i < (int) json_array_size(stops); i++)
	{
		json_t	   *stop_json = json_array_get(stops, i);
		LrStop	   *stop = &step->stops[step->nstops];
		char	   *stop_place = lr_place_at(lr_place(place, "stop_when"), i);
		const char *when;
		const char *outcome;
		const char *reason;

		if (!json_is_object(stop_json))
		{
			lr_mistake(c->mistakes, stop_place, "Give {\"when\": \"…\", \"outcome\": \"…\", \"reason\": \"…\"}.", "has to be an object");
			continue;
		}
		lr_json_known_members(stop_json, stop_members, stop_place, c->mistakes);
		when = lr_json_string(stop_json, "when", true, stop_place, c->mistakes);
		outcome = lr_json_string(stop_json, "outcome", true, stop_place, c->mistakes);
		reason = lr_json_string(stop_json, "reason", true, stop_place, c->mistakes);
		if (outcome && (!lr_outcome_by_name(outcome, &stop->outcome) || stop->outcome == LR_PENDING || stop->outcome == LR_ASSIGNED ||
						stop->outcome == LR_NO_RULE))
			lr_mistake(c->mistakes, lr_place(stop_place, "outcome"), "Give rejected, nurture or quarantined.",
					   "\"%s\" cannot end a run here", outcome);
		stop->reason = reason ? pstrdup(reason) : NULL;
		stop->when = when ? lr_condition_parse(when, c->policy->scope, lr_place(stop_place, "when"), c->mistakes) : NULL;
		if (stop->when && outcome && reason)
		{
			add_reads(c->policy, stop->when, &step->stop_reads);
			step->may_raise |= stop->when->may_raise;
			step->reads = bms_add_members(step->reads, step->stop_reads);
			step->nstops++;
		}
	}
}

/* Contacts that cannot be reached and leads that must not be contacted end the run, unless the policy says otherwise. */
static void
add_default_stop(Compilation *c, LrStep *step)
{
	const char *when;
	const char *reason;

	if (step->builtin == &lr_validate_contact)
	{
		when = "validateContact.status = 'invalid'";
		reason = "invalid_contact";
	}
	else if (step->builtin == &lr_check_compliance)
	{
		when = "checkRegionalCompliance.status = 'denied'";
		reason = "contact_not_permitted";
	}
	else
		return;
	step->nstops = 1;
	step->stops = palloc0(sizeof(LrStop));
	step->stops[0].outcome = LR_REJECTED;
	step->stops[0].reason = pstrdup(reason);
	step->stops[0].when = lr_condition_parse(when, c->policy->scope, step->capability, c->mistakes);
}

static void
read_rule(Compilation *c, json_t *json, int number)
{
	LrRule	   *rule = &c->policy->rules[c->policy->nrules];
	char	   *place = lr_place_at("rules", number);
	const char *name;
	const char *when;
	bool		enabled;

	if (!json_is_object(json))
	{
		lr_mistake(c->mistakes, place, "Give {\"name\": \"…\", \"when\": \"…\", \"pool\": \"…\"}.", "has to be an object");
		return;
	}
	lr_json_known_members(json, rule_members, place, c->mistakes);
	memset(rule, 0, sizeof(*rule));
	rule->number = number;
	(void) lr_json_number(json, "priority", -1e9, 1e9, &rule->priority, place, c->mistakes);
	name = lr_json_string(json, "name", true, place, c->mistakes);
	when = lr_json_string(json, "when", true, place, c->mistakes);
	rule->name = name ? pstrdup(name) : "";
	enabled = lr_json_boolean(json, "enabled", true, place, c->mistakes);
	for (int i = 0; name && enabled && i < number; i++)
	{
		if (c->rule_names[i] && strcmp(c->rule_names[i], name) == 0)
			lr_mistake(c->mistakes, lr_place(place, "name"), "Records name rules: each needs a name of its own.", "\"%s\" is taken by rules[%d]",
					   name, i);
	}
	c->rule_names[number] = enabled ? name : NULL;
	read_target(c, json, rule, place);
	lr_members_read(c->members, json, rule, place);
	if (when)
		rule->when = lr_condition_parse(when, c->policy->scope, lr_place(place, "when"), c->mistakes);
	lr_members_read_dates(c->members, json, rule, place);
	if (rule->when)
	{
		add_reads(c->policy, rule->when, &c->policy->rule_reads);
		if (enabled)
			c->policy->nrules++;
	}
}

/* A rule leads to a pool, to an owner, or to an outcome with a reason. */
static void
read_target(Compilation *c, json_t *json, LrRule *rule, const char *place)
{
	const char *pool = lr_json_string(json, "pool", false, place, c->mistakes);
	const char *owner = lr_json_string(json, "owner", false, place, c->mistakes);
	const char *outcome = lr_json_string(json, "outcome", false, place, c->mistakes);
	const char *reason = lr_json_string(json, "reason", false, place, c->mistakes);

	rule->outcome = LR_ASSIGNED;
	rule->reason = reason ? pstrdup(reason) : "rule_matched";
	if ((pool != NULL) + (owner != NULL) + (outcome != NULL) != 1)
	{
		lr_mistake(c->mistakes, place, "Give exactly one of them.", "needs either \"pool\", \"owner\" or \"outcome\"");
		return;
	}
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
	if (reason == NULL)
		lr_mistake(c->mistakes, lr_place(place, "reason"), "Give a code such as low_score.", "is missing");
}

static int
find_pool(Compilation *c, const char *name, const char *place)
{
	LrIdentity	identity;
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	int			pool_id = 0;

	if (c->pins)
		return (int) json_integer_value(json_object_get(json_object_get(c->pins, "pools"), name));
	lr_sql_begin(&identity);
	if (lr_sql("SELECT pool_id FROM leadroute.pools WHERE name = $1", true, 1, types, values, NULL) > 0)
		pool_id = lr_sql_int32(0, 1, 0);
	lr_sql_end(&identity);
	if (pool_id == 0)
		lr_mistake(c->mistakes, place, "INSERT INTO leadroute.pools (name) makes one.", "there is no pool \"%s\"", name);
	return pool_id;
}

/* Notes what a condition reads, for the policy and for the step or the rules. */
static void
add_reads(LrPolicy *policy, const LrCondition *condition, Bitmapset **reads)
{
	*reads = bms_add_members(*reads, condition->reads);
	policy->keys = list_concat(policy->keys, condition->keys);
	policy->types = list_concat_unique_oid(policy->types, condition->types);
	policy->reads_all_keys |= condition->reads_all_keys;
	policy->timezone_matters |= condition->timezone_matters;
}

/* An enum or a domain that changed would change the meaning of conditions. */
static void
check_types(Compilation *c)
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

static json_t *
pinned(Compilation *c, const char *kind, int number)
{
	return c->pins ? json_array_get(json_object_get(c->pins, kind), number) : NULL;
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
	bool		first = true;

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
		appendStringInfoChar(&json, '}');
	}
	appendStringInfoString(&json, "], \"pools\": {");
	for (int i = 0; i < policy->nrules; i++)
	{
		if (policy->rules[i].pool == NULL)
			continue;
		appendStringInfoString(&json, first ? "" : ", ");
		escape_json(&json, policy->rules[i].pool);
		appendStringInfo(&json, ": %d", policy->rules[i].pool_id);
		first = false;
	}
	appendStringInfoString(&json, "}, \"types\": ");
	lr_types_to_json(policy->types, &json);
	appendStringInfoChar(&json, '}');
	return json.data;
}
