/*
 * members.c: what a rule says beside its condition: whose lead it is, who may work it, by when, and from when until when
 * the rule holds.
 *
 * A rule that names an owner leads to a pool of one, which publishing makes for the owner once and for all: rotation, record
 * and revisions need to know nothing of owners as targets. Dates of effect become conjuncts of the condition; what a rule
 * asks of steps becomes their numbers. The rest is checked here and stays in the document, for those who act on it.
 */
#include "policy/policy.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"

/* The owners and agents that there are, by name, so that a hundred thousand rules cost one query. */
typedef struct Known
{
	char	   *name;
	int			id;				/* an owner's pool, 0 if it has none yet; whether an agent may be used */
} Known;

typedef struct KnownList
{
	bool		loaded;
	int			n;
	Known	   *known;			/* by name */
} KnownList;

struct LrMembers
{
	LrPolicy   *policy;
	bool		publishing;
	LrMistakes *mistakes;
	KnownList	owners;
	KnownList	agents;
	KnownList	pools;			/* ordinary ones that are named as an owner's would be */
};

/* Text that is read as a value of another type. */
typedef struct Reading
{
	PGFunction	input;
	const char *text;
	Datum		value;
	char	   *problem;
	MemoryContext memory;
} Reading;

static void read_agents(LrMembers *members, json_t *json, const char *place);
static void read_account_owner(LrMembers *members, json_t *json, LrRule *rule, const char *place);
static void add_role(LrMembers *members, json_t *role, StringInfo roles, const char *place);
static void read_prerequisites(LrMembers *members, json_t *json, LrRule *rule, const char *place);
static void read_times(LrMembers *members, json_t *json, const char *place);
static bool read_interval(LrMembers *members, json_t *json, const char *place, Interval **interval);
static bool read_moment(LrMembers *members, json_t *json, const char *member, const char *place, TimestampTz *moment);
static bool read_value(LrMembers *members, PGFunction input, const char *text, Datum *value, char **problem);
static Known *find_known(KnownList *list, const char *query, const char *name);
static int	compare_known(const void *a, const void *b);

/* Starts reading the rules of a policy, in the current memory context. */
LrMembers *
lr_members_begin(LrPolicy *policy, bool publishing, LrMistakes *mistakes)
{
	LrMembers  *members = palloc0(sizeof(LrMembers));

	members->policy = policy;
	members->publishing = publishing;
	members->mistakes = mistakes;
	return members;
}

/* Reads which of several rules that hold decides. */
LrHitPolicy
lr_read_hit_policy(json_t *document, LrMistakes *mistakes)
{
	const char *text = lr_json_string(document, "hit_policy", false, "", mistakes);

	if (text == NULL || strcmp(text, "priority") == 0)
		return LR_HIT_PRIORITY;
	if (strcmp(text, "first") == 0)
		return LR_HIT_FIRST;
	if (strcmp(text, "unique") == 0)
		return LR_HIT_UNIQUE;
	lr_mistake(mistakes, "hit_policy", "Give \"priority\", \"first\" or \"unique\".", "\"%s\" is not known", text);
	return LR_HIT_PRIORITY;
}

/* Reads a rule's members beside name, condition and target, and checks them. */
void
lr_members_read(LrMembers *members, json_t *json, LrRule *rule, const char *place)
{
	json_t	   *priority = json_object_get(json, "priority");

	if (members->policy->hit_policy == LR_HIT_FIRST && priority && !json_is_null(priority))
		lr_mistake(members->mistakes, lr_place(place, "priority"), "Leave it out: under hit policy \"first\" the order of the document decides.",
				   "has no effect");
	read_prerequisites(members, json, rule, place);
	read_account_owner(members, json, rule, place);
	/* what follows changes no decision, and was checked when the version was published */
	if (!members->publishing)
		return;
	(void) lr_json_string(json, "author", false, place, members->mistakes);
	(void) lr_json_string(json, "note", false, place, members->mistakes);
	read_agents(members, json, place);
	lr_terms_check(json, place, members->mistakes);
	read_times(members, json, place);
}

/* Adds a rule's dates of effect to its condition. rule->when may be NULL: then they are only checked. */
void
lr_members_read_dates(LrMembers *members, json_t *json, LrRule *rule, const char *place)
{
	TimestampTz from;
	TimestampTz until;
	bool		has_from;
	bool		has_until;

	if (members->policy->reading)
		return;
	has_from = read_moment(members, json, "effective_from", place, &from);
	has_until = read_moment(members, json, "effective_until", place, &until);
	if (has_from && has_until && from >= until)
		lr_mistake(members->mistakes, lr_place(place, "effective_until"), "The rule holds from effective_from up to, and not including, effective_until.",
				   "is not after effective_from");
	if (rule->when && has_from)
		lr_condition_add_bound(rule->when, LR_AS_OF, ">=", TimestampTzGetDatum(from));
	if (rule->when && has_until)
		lr_condition_add_bound(rule->when, LR_AS_OF, "<", TimestampTzGetDatum(until));
}

/* Finds an owner, and the pool that is the owner's own; 0 as long as publishing has not made it. */
int
lr_members_find_owner(LrMembers *members, const char *reference, const char *place)
{
	Known	   *owner = find_known(&members->owners, "SELECT o.reference, p.pool_id FROM leadroute.owners o LEFT JOIN leadroute.pools p ON p.of_owner = o.owner_id"
								   " ORDER BY o.reference COLLATE \"C\"", reference);
	char	   *name = lr_owner_pool_name(reference);

	if (owner == NULL)
		lr_mistake(members->mistakes, place, "INSERT INTO leadroute.owners (reference) makes one.", "there is no owner \"%s\"", reference);
	else if (owner->id == 0 && find_known(&members->pools, "SELECT name, pool_id FROM leadroute.pools WHERE starts_with(name, 'owner ') ORDER BY name COLLATE \"C\"", name))
		lr_mistake(members->mistakes, place, psprintf("Rename that pool, or lead to it with \"pool\": \"%s\".", name),
				   "the pool of owner \"%s\" would be called \"%s\", and there is another pool of that name", reference, name);
	return owner ? owner->id : 0;
}

/* Returns what the pool of one owner is called. */
char *
lr_owner_pool_name(const char *reference)
{
	return psprintf("owner %s", reference);
}

/* Returns a rule's roles of account owners as text. */
char *
lr_roles_text(const char *account_owner)
{
	StringInfoData text;

	initStringInfo(&text);
	for (const char *at = account_owner; *at; at++)
	{
		if (*at != '\n')
			appendStringInfoChar(&text, *at);
		else if (at[1])
			appendStringInfoString(&text, ", ");
	}
	return text.data;
}

/* Makes the pools of the owners that rules lead to, where there are none yet, and enters their numbers into the rules. */
void
lr_make_owner_pools(LrPolicy *policy)
{
	Datum	   *references = palloc(sizeof(Datum) * Max(policy->nrules, 1));
	int			n = 0;
	LrIdentity	identity;
	Oid			types[] = {TEXTARRAYOID};
	Datum		values[1];
	KnownList	owners = {false};

	for (int i = 0; i < policy->nrules; i++)
	{
		if (policy->rules[i].owner && policy->rules[i].pool_id == 0)
			references[n++] = CStringGetTextDatum(policy->rules[i].owner);
	}
	if (n == 0)
		return;
	values[0] = PointerGetDatum(construct_array(references, n, TEXTOID, -1, false, TYPALIGN_INT));
	lr_sql_begin(&identity);
	/* another session may be publishing another policy for the same owners */
	lr_sql("LOCK TABLE leadroute.pools IN SHARE ROW EXCLUSIVE MODE", false, 0, NULL, NULL, NULL);
	lr_sql("INSERT INTO leadroute.pools (name, description, of_owner)"
		   " SELECT 'owner ' || o.reference, 'Of one owner, for rules that name the owner.', o.owner_id FROM leadroute.owners o"
		   " WHERE o.reference = ANY ($1) ORDER BY o.reference COLLATE \"C\" ON CONFLICT (of_owner) DO NOTHING", false, 1, types, values, NULL);
	lr_sql("INSERT INTO leadroute.pool_members (pool_id, owner_id)"
		   " SELECT p.pool_id, o.owner_id FROM leadroute.owners o JOIN leadroute.pools p ON p.of_owner = o.owner_id"
		   " WHERE o.reference = ANY ($1) ORDER BY p.pool_id ON CONFLICT DO NOTHING", false, 1, types, values, NULL);
	lr_sql_end(&identity);
	for (int i = 0; i < policy->nrules; i++)
	{
		LrRule	   *rule = &policy->rules[i];
		Known	   *owner;

		if (rule->owner == NULL || rule->pool_id != 0)
			continue;
		owner = find_known(&owners, "SELECT o.reference, p.pool_id FROM leadroute.owners o JOIN leadroute.pools p ON p.of_owner = o.owner_id"
						   " ORDER BY o.reference COLLATE \"C\"", rule->owner);
		if (owner == NULL)
			ereport(ERROR,
					errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					errmsg("owner \"%s\" is no longer there", rule->owner),
					errhint("Publish again."));
		rule->pool_id = owner->id;
	}
}

static void
read_agents(LrMembers *members, json_t *json, const char *place)
{
	json_t	   *agents = lr_json_array(json, "agents", false, place, members->mistakes);

	if (agents && json_array_size(agents) == 0)
		lr_mistake(members->mistakes, lr_place(place, "agents"), "Name at least one, or leave it out.", "is empty");
	for (int i = 0; agents && i < (int) json_array_size(agents); i++)
	{
		const char *name = json_string_value(json_array_get(agents, i));
		Known	   *agent = name ? find_known(&members->agents, "SELECT name, bool_or(state <> 'retired')::integer FROM leadroute.agents"
											  " GROUP BY name ORDER BY name COLLATE \"C\"", name) : NULL;

		if (agent == NULL)
			lr_mistake(members->mistakes, lr_place_at(lr_place(place, "agents"), i), "Name a registered agent: see leadroute.agents.",
					   "%s is not an agent", name ? psprintf("\"%s\"", name) : "it");
		else if (agent->id == 0)
			lr_mistake(members->mistakes, lr_place_at(lr_place(place, "agents"), i), "Leave it out, or register another version of it.",
					   "agent \"%s\" is retired", name);
	}
}

/* Which of the account's owners is to have the lead before the pool is asked: roles, in order. The step that finds the account stands before. */
static void
read_account_owner(LrMembers *members, json_t *json, LrRule *rule, const char *place)
{
	json_t	   *account_owner = json_object_get(json, "account_owner");
	char	   *here = lr_place(place, "account_owner");
	StringInfoData roles;
	bool		matches = false;

	initStringInfo(&roles);
	if (json_is_array(account_owner))
	{
		if (json_array_size(account_owner) == 0)
			lr_mistake(members->mistakes, here, "Name at least one role, or leave it out.", "is empty");
		for (int i = 0; i < (int) json_array_size(account_owner); i++)
			add_role(members, json_array_get(account_owner, i), &roles, lr_place_at(here, i));
	}
	else if (account_owner && !json_is_null(account_owner))
		add_role(members, account_owner, &roles, here);
	rule->account_owner = roles.data;
	if (roles.len == 0)
		return;
	/* the roles are matched with the account's, which is an output of the step */
	members->policy->rule_reads = bms_add_member(members->policy->rule_reads, LR_ACCOUNT_ID);
	if (!members->publishing)
		return;
	if (!lr_json_has(json, "pool"))
		lr_mistake(members->mistakes, here, "Add \"pool\": where the lead goes if no such owner can take it.", "goes together with \"pool\" only");
	for (int s = 0; s < members->policy->nsteps && members->policy->steps[s].builtin != &lr_assign_owner; s++)
		matches |= members->policy->steps[s].builtin == &lr_match_account;
	if (!matches)
		lr_mistake(members->mistakes, here, "Add the step {\"capability\": \"matchAccount\"} before assignOwner.", "no step before assignOwner finds the account");
}

static void
add_role(LrMembers *members, json_t *role, StringInfo roles, const char *place)
{
	const char *name = json_string_value(role);

	if (name == NULL || name[0] == '\0' || strchr(name, '\n'))
		lr_mistake(members->mistakes, place, "Give a role such as \"CSM\", or \"opportunity\".", "is not a role");
	else
		appendStringInfo(roles, "%s\n", name);
}

/* Steps that have to be done before the rule can hold: those before the one that assigns. */
static void
read_prerequisites(LrMembers *members, json_t *json, LrRule *rule, const char *place)
{
	json_t	   *prerequisites = lr_json_array(json, "prerequisites", false, place, members->mistakes);
	LrPolicy   *policy = members->policy;

	for (int i = 0; prerequisites && i < (int) json_array_size(prerequisites); i++)
	{
		const char *capability = json_string_value(json_array_get(prerequisites, i));
		int			found = -1;

		for (int s = 0; capability && s < policy->nsteps && policy->steps[s].builtin != &lr_assign_owner; s++)
		{
			if (strcmp(policy->steps[s].capability, capability) == 0)
				found = s;
		}
		if (found < 0)
			lr_mistake(members->mistakes, lr_place_at(lr_place(place, "prerequisites"), i),
					   "Name the capability of a step that stands before assignOwner.",
					   "%s is not an earlier step", capability ? psprintf("\"%s\"", capability) : "it");
		else
			rule->prerequisites = bms_add_member(rule->prerequisites, found);
	}
}

/* By when somebody has to have answered, on which clock, and when others are told that nobody has. */
static void
read_times(LrMembers *members, json_t *json, const char *place)
{
	json_t	   *within = json_object_get(json, "first_response_within");
	const char *clock = lr_json_string(json, "sla_clock", false, place, members->mistakes);
	json_t	   *escalate = lr_json_array(json, "escalate_after", false, place, members->mistakes);
	Interval   *earlier = NULL;
	Interval   *interval;

	if (within && !json_is_null(within))
		(void) read_interval(members, within, lr_place(place, "first_response_within"), &interval);
	if (clock && strcmp(clock, "wall") != 0 && strcmp(clock, "working") != 0)
		lr_mistake(members->mistakes, lr_place(place, "sla_clock"), "Give \"wall\" or \"working\".", "\"%s\" is not known", clock);
	for (int i = 0; escalate && i < (int) json_array_size(escalate); i++)
	{
		char	   *here = lr_place_at(lr_place(place, "escalate_after"), i);

		if (!read_interval(members, json_array_get(escalate, i), here, &interval))
			continue;
		if (earlier && !DatumGetBool(DirectFunctionCall2(interval_gt, PointerGetDatum(interval), PointerGetDatum(earlier))))
			lr_mistake(members->mistakes, here, "Give them in ascending order, each once.", "is not longer than the one before");
		earlier = interval;
	}
}

static bool
read_interval(LrMembers *members, json_t *json, const char *place, Interval **interval)
{
	Interval	zero = {0};
	Interval	longest = {.day = LR_MAX_SPAN_DAYS};
	Datum		value;
	char	   *problem;

	if (!json_is_string(json))
		lr_mistake(members->mistakes, place, "Give a text such as \"4 hours\".", "has to be a length of time");
	else if (!read_value(members, interval_in, json_string_value(json), &value, &problem))
		lr_mistake(members->mistakes, place, "Give a text such as \"4 hours\".", "%s", problem);
	else if (!DatumGetBool(DirectFunctionCall2(interval_gt, value, PointerGetDatum(&zero))))
		lr_mistake(members->mistakes, place, "Give a text such as \"4 hours\".", "has to be longer than nothing");
	else if (DatumGetBool(DirectFunctionCall2(interval_gt, value, PointerGetDatum(&longest))))
		lr_mistake(members->mistakes, place, "Give a text such as \"4 hours\".", "is longer than 100 years");
	else
	{
		*interval = DatumGetIntervalP(value);
		return true;
	}
	return false;
}

/* A moment without an offset is one in the policy's time zone. Words such as "tomorrow" would mean another time each day. */
static bool
read_moment(LrMembers *members, json_t *json, const char *member, const char *place, TimestampTz *moment)
{
	static const char hint[] = "Give a date or a moment, such as 2026-06-01 or 2026-06-01T09:00:00+02:00.";
	const char *text = lr_json_string(json, member, false, place, members->mistakes);
	Datum		value;
	char	   *problem;

	if (text == NULL)
		return false;
	if (!lr_begins_with_date(text))
		lr_mistake(members->mistakes, lr_place(place, member), hint, "\"%s\" is no fixed date", text);
	else if (!read_value(members, timestamptz_in, text, &value, &problem))
		lr_mistake(members->mistakes, lr_place(place, member), hint, "%s", problem);
	else
	{
		*moment = DatumGetTimestampTz(value);
		return true;
	}
	return false;
}

/* Tells whether a text begins with a date in digits, year first. */
bool
lr_begins_with_date(const char *text)
{
	for (int i = 0; i < 10; i++)
	{
		if (i == 4 || i == 7 ? text[i] != '-' : !isdigit((unsigned char) text[i]))
			return false;
	}
	return true;
}

static void
call_input(void *argument)
{
	Reading    *reading = argument;

	PG_TRY();
	{
		reading->value = DirectFunctionCall3(reading->input, CStringGetDatum(reading->text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	}
	PG_CATCH();
	{
		MemoryContext saved = MemoryContextSwitchTo(reading->memory);
		ErrorData  *error = CopyErrorData();

		reading->problem = error->message;
		MemoryContextSwitchTo(saved);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/* Reads a text as the policy means it, whatever the session's settings. Returns false, and what is wrong, if it cannot. */
static bool
read_value(LrMembers *members, PGFunction input, const char *text, Datum *value, char **problem)
{
	Reading		reading = {.input = input,.text = text,.memory = CurrentMemoryContext};
	int			nest = lr_settings_enter(members->policy->scope->timezone);
	int			sqlstate;
	bool		done = lr_guard(call_input, &reading, &sqlstate);

	lr_settings_leave(nest);
	*value = reading.value;
	*problem = reading.problem;
	return done;
}

/* Finds a name in a list, which a query fills when it is first asked for. */
static Known *
find_known(KnownList *list, const char *query, const char *name)
{
	Known		wanted = {.name = (char *) name};

	if (!list->loaded)
	{
		MemoryContext memory = CurrentMemoryContext;
		MemoryContext saved;
		LrIdentity	identity;

		lr_sql_begin(&identity);
		list->n = (int) lr_sql(query, true, 0, NULL, NULL, NULL);
		saved = MemoryContextSwitchTo(memory);
		list->known = palloc(sizeof(Known) * Max(list->n, 1));
		for (int i = 0; i < list->n; i++)
			list->known[i] = (Known) {.name = pstrdup(lr_sql_text(i, 1)),.id = lr_sql_int32(i, 2, 0)};
		MemoryContextSwitchTo(saved);
		lr_sql_end(&identity);
		list->loaded = true;
	}
	return bsearch(&wanted, list->known, list->n, sizeof(Known), compare_known);
}

static int
compare_known(const void *a, const void *b)
{
	return strcmp(((const Known *) a)->name, ((const Known *) b)->name);
}
