/*
 * steps.c: the steps of a policy document: which agent does each, by which document, behind which others, and what ends the run.
 */
#include "policy/compile.h"

#include "agents/agents.h"
#include "pipeline/pipeline.h"

static const char *const step_members[] = {"capability", "agent", "after", "stop_when", "on_error", "note", "scorecard", "jurisdictions", "free_mail", "flag", "known_person", "similarity",
	"postcode", "result", "mode", "join", "when", "hold", "queue", "priority", "timeouts", "retry", "fallback", "review_below", "regions", NULL
};
static const char *const stop_members[] = {"when", "outcome", "reason", NULL};

static void read_agent(LrCompilation *c, json_t *json, LrStep *step, const char *place);
static void read_inputs(LrCompilation *c, json_t *json, LrStep *step);
static void read_document(LrCompilation *c, json_t *json, LrStep *step, const char *place);
static void read_after(LrCompilation *c, json_t *json, LrStep *step, const char *place);
static void read_flag(LrCompilation *c, json_t *json, LrStep *step, const char *place);
static void read_known_person(LrCompilation *c, json_t *json, LrStep *step, const char *place);
static void read_stops(LrCompilation *c, json_t *json, LrStep *step, const char *place);
static void add_default_stop(LrCompilation *c, LrStep *step);

/* Reads a step: its agent and document, what it needs, reads and gives, and where it ends the run. */
void
lr_step_read(LrCompilation *c, json_t *json, int number)
{
	LrStep	   *step = &c->policy->steps[number];
	char	   *place = lr_place_at("steps", number);
	const char *capability;
	const char *on_error;

	step->number = number;
	step->json = json;
	step->capability = "";
	step->flag = -1;
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
	read_flag(c, json, step, place);
	read_after(c, json, step, place);
	read_document(c, json, step, place);

	on_error = lr_json_string(json, "on_error", false, place, c->mistakes);
	step->skip_on_error = on_error && strcmp(on_error, "skip") == 0;
	step->escalates = on_error && strcmp(on_error, "escalate") == 0;
	if (on_error && strcmp(on_error, "skip") != 0 && strcmp(on_error, "quarantine") != 0 && strcmp(on_error, "escalate") != 0)
		lr_mistake(c->mistakes, lr_place(place, "on_error"), "Give \"quarantine\", \"skip\" or \"escalate\".", "\"%s\" is not known", on_error);
	if (step->builtin == &lr_assign_owner && step->skip_on_error)
		lr_mistake(c->mistakes, lr_place(place, "on_error"), "Leave it out.", "assignOwner cannot be skipped");

	read_known_person(c, json, step, place);

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
			if (c->policy->scope->extra[i].type == JSONBOID && strcmp(c->policy->scope->extra[i].name, capability) == 0)
				step->first_fact = LR_N_FACTS + i;
		}
		step->nfacts = 1;
		read_inputs(c, json, step);
	}
	lr_step_read_waits(c, json, step, place);
	c->policy->reads_all_keys |= step->reads_all_keys;
	c->policy->timezone_matters |= step->timezone_matters;
	c->policy->keys = list_concat(c->policy->keys, step->keys);
	c->policy->types = list_concat_unique_oid(c->policy->types, step->types);
	read_stops(c, json, step, place);
	lr_step_find_waits(c, step);
}

static void
read_agent(LrCompilation *c, json_t *json, LrStep *step, const char *place)
{
	const char *wanted = lr_json_string(json, "agent", false, place, c->mistakes);
	json_t	   *pin = lr_pinned(c, "steps", step->number);
	int			agent_id = pin ? (int) json_integer_value(json_object_get(pin, "agent_id"))
		: lr_agent_choose(step->capability, wanted, wanted == NULL && lr_step_mode(NULL, json) == LR_BY_AGENT, place, c->mistakes);

	if (agent_id != 0)
		step->agent = lr_agent_load(agent_id);
}

/* Finds what an agent that is not ours is given: what it declared, otherwise everything. */
static void
read_inputs(LrCompilation *c, json_t *json, LrStep *step)
{
	const LrScope *scope = c->policy->scope;
	ListCell   *cell;

	if (step->agent == NULL || !step->agent->declares)
	{
		step->reads = bms_add_range(NULL, 0, step->first_fact - 1);
		step->reads_all_keys = true;
		lr_step_narrow_reads(c, json, step);
		return;
	}
	foreach(cell, step->agent->inputs)
	{
		const char *name = lfirst(cell);
		bool		member = strncmp(name, "attributes.", strlen("attributes.")) == 0;
		int			fact = member ? LR_ATTRIBUTES : lr_fact_find(scope, name);

		if (member)
			step->keys = lappend(step->keys, pstrdup(name + strlen("attributes.")));
		else if (fact == LR_ATTRIBUTES)
			step->reads_all_keys = true;
		if (fact >= 0 && (fact <= LR_AS_OF || fact < step->first_fact))
			step->reads = bms_add_member(step->reads, fact);
		/* a capability: all that the step gives */
		for (int s = 0; s < step->number; s++)
		{
			if (strcmp(c->policy->steps[s].capability, name) == 0 && c->policy->steps[s].nfacts > 0)
				step->reads = bms_add_range(step->reads, c->policy->steps[s].first_fact,
											c->policy->steps[s].first_fact + c->policy->steps[s].nfacts - 1);
		}
	}
}

static void
read_document(LrCompilation *c, json_t *json, LrStep *step, const char *place)
{
	static const char *const kinds[] = {"scorecard", "jurisdictions"};
	json_t	   *pin = lr_pinned(c, "steps", step->number);
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
read_after(LrCompilation *c, json_t *json, LrStep *step, const char *place)
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
		{
			step->after = bms_add_member(step->after, found);
			step->conditional |= c->policy->steps[found].conditional;
			if (step->builtin == &lr_assign_owner && c->policy->steps[found].conditional)
				lr_mistake(c->mistakes, lr_place_at(lr_place(place, "after"), i), "Leave it out: rules see the outputs of a step that is off as null.",
						   "\"%s\" may be switched off by a flag, and nothing would assign then", capability);
		}
	}
}

/* Reads the flag that switches a step on and off. */
static void
read_flag(LrCompilation *c, json_t *json, LrStep *step, const char *place)
{
	const char *name = lr_json_string(json, "flag", false, place, c->mistakes);

	if (name == NULL)
		return;
	step->flag = lr_fact_find(c->policy->scope, psprintf(LR_FLAG_PREFIX "%s", name));
	step->conditional = true;
	if (step->flag < 0)
		lr_mistake(c->mistakes, lr_place(place, "flag"), psprintf("leadroute.set_flag('%s') makes one.", name), "there is no flag \"%s\"", name);
	if (step->builtin == &lr_assign_owner)
		lr_mistake(c->mistakes, lr_place(place, "flag"), "Leave it out, and write flags.name in the conditions of rules.", "assignOwner cannot be switched off");
}

/* Checks that whose lead it is can be known: assignOwner reads it itself, from what validateContact finds. */
static void
read_known_person(LrCompilation *c, json_t *json, LrStep *step, const char *place)
{
	json_t	   *known_person = json_object_get(json, "known_person");

	if (known_person == NULL || json_is_null(known_person))
		return;
	if (step->builtin != &lr_assign_owner)
	{
		lr_mistake(c->mistakes, lr_place(place, "known_person"), "Leave it out: it is a member of the step assignOwner.", "means nothing to \"%s\"",
				   step->capability);
		return;
	}
	for (int s = 0; s < step->number; s++)
	{
		if (c->policy->steps[s].builtin == &lr_validate_contact)
			return;
	}
	lr_mistake(c->mistakes, lr_place(place, "known_person"), "Put {\"capability\": \"validateContact\"} before it.",
			   "a person is known by what the step validateContact finds, and there is none before this one");
}

static void
read_stops(LrCompilation *c, json_t *json, LrStep *step, const char *place)
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
		when = lr_condition_member(stop_json, stop_place, c->mistakes);
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
			lr_add_reads(c->policy, stop->when, &step->stop_reads);
			step->may_raise |= stop->when->may_raise;
			step->reads = bms_add_members(step->reads, step->stop_reads);
			step->nstops++;
		}
	}
}

/* Contacts that cannot be reached and leads that must not be contacted end the run, unless the policy says otherwise. */
static void
add_default_stop(LrCompilation *c, LrStep *step)
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
