/*
 * waits.c: the members of steps by which a lead may have to wait, and which steps wait for which.
 *
 * A step that an executor or somebody outside does, or that is held until attributes arrive, leaves the lead waiting. The steps behind
 * it go on as far as they do not need it: a step waits for those that it names in "after" and those whose outputs it reads.
 * assignOwner waits for all before it; and all wait for a built-in step that waits, since these leave more behind than their outputs.
 * How tasks are queued, tried again and given up is not read here but by SQL, from leadroute.policy_steps.
 */
#include "policy/compile.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#define SPAN_HINT "Give a length of time such as \"30 seconds\" or \"2 hours\"."

static const char *const mode_names[] = {"transaction", "worker", "external", NULL};
static const char *const timeout_members[] = {"schedule_to_start", "start_to_close", "schedule_to_close", "heartbeat", NULL};
static const char *const retry_members[] = {"attempts", "wait", "factor", "ceiling", "jitter", "not_on", NULL};
static const char *const hold_members[] = {"until", "for", NULL};
static const char *const fallback_members[] = {"agent", "output", "skip", NULL};
static const char *const region_members[] = {"when", "allow", NULL};

static void read_mode(LrCompilation *c, json_t *json, LrStep *step, const char *place);
static void read_join(LrCompilation *c, json_t *json, LrStep *step, const char *place);
static void read_when(LrCompilation *c, json_t *json, LrStep *step, const char *place);
static void read_hold(LrCompilation *c, json_t *json, LrStep *step, const char *place);
static void read_timeouts(LrCompilation *c, json_t *json, LrStep *step, const char *place);
static void read_retry(LrCompilation *c, json_t *json, const char *place);
static void read_fallback(LrCompilation *c, json_t *json, LrStep *step, const char *place);
static void read_regions(LrCompilation *c, json_t *json, LrStep *step, const char *place);
static int64 read_time(json_t *json, const char *member, const char *place, LrMistakes *mistakes);
static void must_wait(LrCompilation *c, json_t *json, const LrStep *step, const char *place);

/* Tells whether a step may have a lead wait. */
bool
lr_step_can_wait(const LrStep *step)
{
	return step->mode != LR_IN_TRANSACTION || step->hold_until != NULL;
}

/* Returns who does a step; agent: NULL while it is not known. What is not known otherwise is done in the transaction. */
LrStepMode
lr_step_mode(const LrAgent *agent, json_t *json)
{
	const char *name = json_string_value(json_object_get(json, "mode"));

	for (int i = 0; name && mode_names[i]; i++)
	{
		if (strcmp(name, mode_names[i]) == 0)
			return (LrStepMode) i;
	}
	return agent && agent->kind == LR_AGENT_EXTERNAL ? LR_BY_AGENT : LR_IN_TRANSACTION;
}

/* Reads what a step may wait for, and what becomes of it then. */
void
lr_step_read_waits(LrCompilation *c, json_t *json, LrStep *step, const char *place)
{
	read_mode(c, json, step, place);
	read_join(c, json, step, place);
	read_when(c, json, step, place);
	read_hold(c, json, step, place);
	read_timeouts(c, json, step, place);
	read_retry(c, json, place);
	read_fallback(c, json, step, place);
	read_regions(c, json, step, place);
	(void) lr_json_number(json, "review_below", 0, 1, &step->review_below, place, c->mistakes);
	must_wait(c, json, step, place);
}

static void
read_mode(LrCompilation *c, json_t *json, LrStep *step, const char *place)
{
	static const char *const hints[] = {"Leave it out, or give \"transaction\": built-in agents run there.",
		"Give \"transaction\" or \"worker\".", "Leave it out, or give \"external\": nobody else can run it."};
	const char *name = lr_json_string(json, "mode", false, place, c->mistakes);
	double		priority;
	bool		fits;

	step->mode = lr_step_mode(step->agent, json);
	if (lr_json_string(json, "queue", false, place, c->mistakes) && strlen(json_string_value(json_object_get(json, "queue"))) >= NAMEDATALEN)
		lr_mistake(c->mistakes, lr_place(place, "queue"), "Give a name of 63 bytes at most.", "is too long");
	(void) lr_json_number(json, "priority", -1000, 1000, &priority, place, c->mistakes);
	if (name && strcmp(name, mode_names[step->mode]) != 0)
		lr_mistake(c->mistakes, lr_place(place, "mode"), "Give \"transaction\", \"worker\" or \"external\".", "\"%s\" is not known", name);
	if (step->agent == NULL)
		return;
	fits = step->agent->kind == LR_AGENT_EXTERNAL ? step->mode == LR_BY_AGENT
		: step->agent->kind == LR_AGENT_SQL ? step->mode != LR_BY_AGENT : step->mode == LR_IN_TRANSACTION;
	if (!fits)
		lr_mistake(c->mistakes, lr_place(place, "mode"), hints[step->agent->kind], "agent \"%s\" cannot do its work so", step->agent->name);
	if (step->agent->kind == LR_AGENT_EXTERNAL && !step->agent->declares)
		lr_mistake(c->mistakes, lr_place(place, "agent"), "Register a version with leadroute.register_external_agent().",
				   "\"%s\" does not declare what it is given", step->agent->name);
}

static void
read_join(LrCompilation *c, json_t *json, LrStep *step, const char *place)
{
	const char *join = lr_json_string(json, "join", false, place, c->mistakes);

	step->join_any = join && strcmp(join, "any") == 0;
	if (join && !step->join_any && strcmp(join, "all") != 0)
		lr_mistake(c->mistakes, lr_place(place, "join"), "Give \"all\" or \"any\".", "\"%s\" is not known", join);
	if (join && !lr_json_has(json, "after"))
		lr_mistake(c->mistakes, lr_place(place, "join"), "Name the steps in \"after\".", "there is nothing to join");
}

/* Reads for which leads the step is. */
static void
read_when(LrCompilation *c, json_t *json, LrStep *step, const char *place)
{
	Bitmapset  *reads = NULL;
	const char *when = lr_json_has(json, "when") ? lr_condition_member(json, place, c->mistakes) : NULL;

	if (when == NULL)
		return;
	if (step->builtin == &lr_assign_owner)
	{
		lr_mistake(c->mistakes, lr_place(place, "when"), "Leave it out: conditions stand in the rules.", "assignOwner is for every lead");
		return;
	}
	step->when = lr_condition_parse(when, c->policy->scope, lr_place(place, "when"), c->mistakes);
	if (step->when == NULL)
		return;
	step->conditional = true;
	lr_add_reads(c->policy, step->when, &reads);
	step->may_raise |= step->when->may_raise;
	step->reads = bms_add_members(step->reads, reads);
}

/* Reads until which attributes arrive, and how long, the step is held. */
static void
read_hold(LrCompilation *c, json_t *json, LrStep *step, const char *place)
{
	json_t	   *hold = lr_json_object(json, "hold", false, place, c->mistakes);
	char	   *here = lr_place(place, "hold");
	json_t	   *until;

	if (hold == NULL)
		return;
	lr_json_known_members(hold, hold_members, here, c->mistakes);
	until = lr_json_array(hold, "until", true, here, c->mistakes);
	for (int i = 0; until && i < (int) json_array_size(until); i++)
	{
		const char *name = json_string_value(json_array_get(until, i));
		int			fact = name ? lr_fact_find(c->policy->scope, name) : -1;

		if (fact < 0 || fact >= LR_N_ATTRIBUTES)
			lr_mistake(c->mistakes, lr_place_at(lr_place(here, "until"), i), "Name an attribute such as \"company_size\".", "is not an attribute of leads");
		else
			step->hold_until = bms_add_member(step->hold_until, fact);
	}
	if (until && json_array_size(until) == 0)
		lr_mistake(c->mistakes, lr_place(here, "until"), "Name an attribute such as \"company_size\".", "is empty");
	step->hold = read_time(hold, "for", here, c->mistakes);
	if (!lr_json_has(hold, "for"))
		lr_mistake(c->mistakes, lr_place(here, "for"), SPAN_HINT, "is missing");
	step->reads = bms_add_members(step->reads, step->hold_until);
}

static void
read_timeouts(LrCompilation *c, json_t *json, LrStep *step, const char *place)
{
	json_t	   *timeouts = lr_json_object(json, "timeouts", false, place, c->mistakes);
	char	   *here = lr_place(place, "timeouts");

	if (timeouts == NULL)
		return;
	lr_json_known_members(timeouts, timeout_members, here, c->mistakes);
	step->start_within = read_time(timeouts, "schedule_to_start", here, c->mistakes);
	step->close_within = read_time(timeouts, "schedule_to_close", here, c->mistakes);
	step->attempt_within = read_time(timeouts, "start_to_close", here, c->mistakes);
	(void) read_time(timeouts, "heartbeat", here, c->mistakes);
}

static void
read_retry(LrCompilation *c, json_t *json, const char *place)
{
	json_t	   *retry = lr_json_object(json, "retry", false, place, c->mistakes);
	char	   *here = lr_place(place, "retry");
	json_t	   *not_on;
	double		number;

	if (retry == NULL)
		return;
	lr_json_known_members(retry, retry_members, here, c->mistakes);
	if (lr_json_number(retry, "attempts", 1, 1000, &number, here, c->mistakes) && number != (int) number)
		lr_mistake(c->mistakes, lr_place(here, "attempts"), "Give a whole number.", "is not one");
	(void) lr_json_number(retry, "factor", 1, 100, &number, here, c->mistakes);
	(void) lr_json_number(retry, "jitter", 0, 1, &number, here, c->mistakes);
	(void) read_time(retry, "wait", here, c->mistakes);
	(void) read_time(retry, "ceiling", here, c->mistakes);
	not_on = lr_json_array(retry, "not_on", false, here, c->mistakes);
	for (int i = 0; not_on && i < (int) json_array_size(not_on); i++)
	{
		if (!json_is_string(json_array_get(not_on, i)))
			lr_mistake(c->mistakes, lr_place_at(lr_place(here, "not_on"), i), "Give an SQLSTATE, or a code of the agent's.", "has to be a text");
	}
}

static void
read_fallback(LrCompilation *c, json_t *json, LrStep *step, const char *place)
{
	json_t	   *fallback = lr_json_object(json, "fallback", false, place, c->mistakes);
	char	   *here = lr_place(place, "fallback");
	json_t	   *pin = lr_pinned(c, "steps", step->number);
	json_t	   *output;
	const char *wanted;
	bool		skip;

	if (fallback == NULL)
		return;
	lr_json_known_members(fallback, fallback_members, here, c->mistakes);
	wanted = lr_json_string(fallback, "agent", false, here, c->mistakes);
	output = lr_json_object(fallback, "output", false, here, c->mistakes);
	skip = lr_json_boolean(fallback, "skip", false, here, c->mistakes);
	if ((wanted != NULL) + (output != NULL) + skip != 1)
	{
		lr_mistake(c->mistakes, here, "Give {\"agent\": \"…\"}, {\"output\": {…}} or {\"skip\": true}.", "needs exactly one of them");
		return;
	}
	if (skip)
	{
		step->fallback = LR_FALLBACK_SKIP;
		step->conditional = true;
	}
	else if (output)
	{
		step->fallback = LR_FALLBACK_OUTPUT;
		step->fallback_output = DirectFunctionCall1(jsonb_in, CStringGetDatum(lr_json_text(output)));
	}
	else
	{
		int			agent_id = pin ? (int) json_integer_value(json_object_get(pin, "fallback_agent_id"))
			: lr_agent_choose(step->capability, wanted, false, here, c->mistakes);

		if (agent_id == 0)
			return;
		step->fallback = LR_FALLBACK_AGENT;
		step->fallback_agent = lr_agent_load(agent_id);
		if (step->agent && step->fallback_agent->kind != step->agent->kind)
			lr_mistake(c->mistakes, lr_place(here, "agent"), "Name one of the same kind.", "\"%s\" is not of the kind of \"%s\"", step->fallback_agent->name,
					   step->agent->name);
	}
}

/* Reads in which regions the step may be done for some leads. */
static void
read_regions(LrCompilation *c, json_t *json, LrStep *step, const char *place)
{
	json_t	   *regions = lr_json_array(json, "regions", false, place, c->mistakes);

	step->regions = palloc0(sizeof(LrRegionLimit) * Max(json_array_size(regions), 1));
	for (int i = 0; regions && i < (int) json_array_size(regions); i++)
	{
		LrRegionLimit *limit = &step->regions[step->nregions];
		json_t	   *element = json_array_get(regions, i);
		char	   *here = lr_place_at(lr_place(place, "regions"), i);
		Bitmapset  *reads = NULL;
		const char *when;
		json_t	   *allow;

		if (!json_is_object(element))
		{
			lr_mistake(c->mistakes, here, "Give {\"when\": \"country = 'DE'\", \"allow\": [\"eu\"]}.", "has to be an object");
			continue;
		}
		lr_json_known_members(element, region_members, here, c->mistakes);
		when = lr_condition_member(element, here, c->mistakes);
		allow = lr_json_array(element, "allow", true, here, c->mistakes);
		for (int r = 0; allow && r < (int) json_array_size(allow); r++)
		{
			const char *region = json_string_value(json_array_get(allow, r));

			if (region)
				limit->allowed = lappend(limit->allowed, pstrdup(region));
			else
				lr_mistake(c->mistakes, lr_place_at(lr_place(here, "allow"), r), "Give the name of a region, such as \"eu\".", "has to be a text");
		}
		limit->when = when ? lr_condition_parse(when, c->policy->scope, lr_place(here, "when"), c->mistakes) : NULL;
		if (limit->when == NULL)
			continue;
		lr_add_reads(c->policy, limit->when, &reads);
		step->may_raise |= limit->when->may_raise;
		step->reads = bms_add_members(step->reads, reads);
		step->nregions++;
	}
}

/* Reads a length of time, in microseconds; 0 if it is left out, or a mistake. */
static int64
read_time(json_t *json, const char *member, const char *place, LrMistakes *mistakes)
{
	const char *text = lr_json_string(json, member, false, place, mistakes);
	int64		span = 0;

	if (text && !lr_span_read(text, &span))
	{
		lr_mistake(mistakes, lr_place(place, member), SPAN_HINT, "\"%s\" is not a length of time", text);
		return 0;
	}
	return span;
}

/* Notes members that mean nothing to a step that runs in the transaction. */
static void
must_wait(LrCompilation *c, json_t *json, const LrStep *step, const char *place)
{
	static const char *const members[] = {"queue", "priority", "timeouts", "retry", "fallback", "regions"};

	for (int i = 0; step->mode == LR_IN_TRANSACTION && i < (int) lengthof(members); i++)
	{
		if (lr_json_has(json, members[i]))
			lr_mistake(c->mistakes, lr_place(place, members[i]), "Leave it out, or give \"mode\": \"worker\".", "is for steps that run outside of the transaction");
	}
	if (step->builtin && step->review_below > 0)
		lr_mistake(c->mistakes, lr_place(place, "review_below"), "Leave it out; a rule can have it.", "built-in agents are certain");
}

/* Finds which of the steps before it a step has to wait for, once it is read. */
void
lr_step_find_waits(LrCompilation *c, LrStep *step)
{
	LrPolicy   *policy = c->policy;
	int			other = -1;

	while ((other = bms_next_member(c->waiting, other)) >= 0)
	{
		const LrStep *before = &policy->steps[other];
		Bitmapset  *outputs = before->nfacts ? bms_add_range(NULL, before->first_fact, before->first_fact + before->nfacts - 1) : NULL;

		if (step->builtin == &lr_assign_owner || before->builtin || bms_is_member(other, step->after) || bms_overlap(step->reads, outputs))
			step->waits_for = bms_add_member(step->waits_for, other);
	}
	if (lr_step_can_wait(step) || step->waits_for)
		c->waiting = bms_add_member(c->waiting, step->number);
	policy->waits |= lr_step_can_wait(step);
}

/* Returns a step's number and those of all steps that it comes behind, by what "after" says. */
static Bitmapset *
steps_behind(const LrPolicy *policy, const LrStep *step)
{
	Bitmapset  *found = bms_make_singleton(step->number);
	int			other = -1;

	while ((other = bms_next_member(step->after, other)) >= 0)
		found = bms_add_members(found, steps_behind(policy, &policy->steps[other]));
	return found;
}

/*
 * Takes out of what a step is given, which declared nothing and so is given everything, the outputs of steps that may still wait when it
 * runs, if "after" says behind which steps it comes.
 */
void
lr_step_narrow_reads(LrCompilation *c, json_t *json, LrStep *step)
{
	Bitmapset  *behind;
	int			other = -1;

	if (!lr_json_has(json, "after"))
		return;
	behind = steps_behind(c->policy, step);
	while ((other = bms_next_member(c->waiting, other)) >= 0)
	{
		const LrStep *before = &c->policy->steps[other];

		for (int i = 0; i < before->nfacts && !bms_is_member(other, behind); i++)
			step->reads = bms_del_member(step->reads, before->first_fact + i);
	}
}

/* Finds where the tasks of a published version's steps are queued, once a session. */
void
lr_policy_queues(LrPolicy *policy)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(policy->version_id)};
	uint64		n;

	if (policy->queues_known)
		return;
	lr_sql_begin(&identity);
	n = lr_sql("SELECT step_no, queue_id, fallback_queue_id FROM leadroute.policy_steps WHERE policy_version_id = $1", true, 1, types, values, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		LrStep	   *step = &policy->steps[lr_sql_int32(i, 1, 1) - 1];

		step->queue_id = lr_sql_int32(i, 2, 0);
		step->fallback_queue_id = lr_sql_int32(i, 3, 0);
	}
	lr_sql_end(&identity);
	policy->queues_known = true;
}
