/*
 * slas.c: what a rule promises: the clock of an SLA, and the ladder that is climbed while it runs.
 *
 * A clock starts and stops on stated events, and counts wall time or the owner's working time. Every moment of it, the rungs of the ladder and
 * the end, is kept as an amount of that time since the start: so a rung is found by one computation, whichever clock it is.
 *
 * first_response_within, sla_clock and escalate_after are the short form: the clock of the first response, and a ladder that only tells.
 */
#include "policy/policy.h"

#define AT_HINT "Give a moment such as \"50%\", \"-30 minutes\", \"0\" or \"+1 hour\": in parts of the time, or before or after its end."

static const char *const sla_members[] = {"start", "stop", "within", "clock", "ladder", NULL};
static const char *const rung_members[] = {"at", "do", "pool", NULL};

static LrSla *read_sla(json_t *sla, json_t *pools, const char *place, LrMistakes *mistakes);
static LrSla *read_short_form(json_t *rule);
static void read_event(json_t *sla, const char *member, const char *const *events, const char *codes, char *event, const char *place, LrMistakes *mistakes);
static void read_ladder(LrSla *sla, json_t *ladder, json_t *pools, const char *place, LrMistakes *mistakes);
static bool read_at(const char *text, int64 within, int64 *amount);

/* Tells whether a rule has a clock. */
bool
lr_sla_any(json_t *rule)
{
	return lr_json_has(rule, "sla") || lr_json_has(rule, "first_response_within") || lr_json_has(rule, "escalate_after");
}

/* Checks the member sla of a rule; pools: all there are, by name. */
void
lr_sla_check(json_t *rule, json_t *pools, const char *place, LrMistakes *mistakes)
{
	json_t	   *sla = lr_json_object(rule, "sla", false, place, mistakes);

	if (sla == NULL)
		return;
	if (lr_json_has(rule, "outcome"))
		lr_mistake(mistakes, lr_place(place, "sla"), "Leave it out: nobody gets the lead.", "goes together with \"pool\" or \"owner\"");
	if (lr_json_has(rule, "escalate_after"))
		lr_mistake(mistakes, lr_place(place, "escalate_after"), "Give rungs of \"sla\" instead, such as {\"at\": \"+1 hour\", \"do\": \"notify\"}.",
				   "does not go together with \"sla\"");
	(void) read_sla(sla, pools, lr_place(place, "sla"), mistakes);
}

/* Reads the clock of a rule of a published version, in the current memory context; NULL if it has none. */
LrSla *
lr_sla_read(json_t *rule)
{
	json_t	   *sla = json_object_get(rule, "sla");

	return json_is_object(sla) ? read_sla(sla, NULL, "", NULL) : read_short_form(rule);
}

/* Reads the long form. Mistakes are noted, where there is a list for them; what is returned is then of no use. */
static LrSla *
read_sla(json_t *json, json_t *pools, const char *place, LrMistakes *mistakes)
{
	static const char *const starts[] = {"lead.assigned", "lead.accepted"};
	static const char *const stops[] = {"lead.responded", "lead.accepted", "lead.closed"};
	LrMistakes	ignored = {NIL};
	LrSla	   *sla = palloc0(sizeof(LrSla));
	const char *within;
	const char *clock;

	mistakes = mistakes ? mistakes : &ignored;
	lr_json_known_members(json, sla_members, place, mistakes);
	read_event(json, "start", starts, "ga", &sla->start, place, mistakes);
	read_event(json, "stop", stops, "rac", &sla->stop, place, mistakes);
	if (sla->start == sla->stop)
		lr_mistake(mistakes, lr_place(place, "stop"), "Give another event than that which starts it.", "is where the clock starts");
	within = lr_json_string(json, "within", true, place, mistakes);
	if (within && !lr_span_read(within, &sla->within))
		lr_mistake(mistakes, lr_place(place, "within"), "Give a text such as \"4 hours\".", "\"%s\" is no length of time, or none that a clock can have", within);
	clock = lr_json_string(json, "clock", false, place, mistakes);
	sla->working = clock && strcmp(clock, "working") == 0;
	if (clock && !sla->working && strcmp(clock, "wall") != 0)
		lr_mistake(mistakes, lr_place(place, "clock"), "Give \"wall\" or \"working\".", "\"%s\" is not known", clock);
	read_ladder(sla, lr_json_array(json, "ladder", false, place, mistakes), pools, lr_place(place, "ladder"), mistakes);
	return sla;
}

/* Reads the short form: what is told after a time is told to the lead's own pool. */
static LrSla *
read_short_form(json_t *rule)
{
	LrSla	   *sla;
	json_t	   *after = json_object_get(rule, "escalate_after");
	const char *within = json_string_value(json_object_get(rule, "first_response_within"));
	const char *clock = json_string_value(json_object_get(rule, "sla_clock"));

	if (within == NULL && json_array_size(after) == 0)
		return NULL;
	sla = palloc0(sizeof(LrSla));
	sla->start = 'g';
	sla->stop = 'r';
	sla->working = clock && strcmp(clock, "working") == 0;
	sla->rungs = palloc0(sizeof(LrRung) * Max((int) json_array_size(after), 1));
	for (int i = 0; i < (int) json_array_size(after) && i < LR_MAX_RUNGS; i++)
	{
		LrRung	   *rung = &sla->rungs[sla->nrungs++];

		rung->action = LR_RUNG_NOTIFY;
		(void) lr_span_read(json_string_value(json_array_get(after, i)), &rung->amount);
	}
	/* without a time of response the last of them is the end */
	if (within == NULL || !lr_span_read(within, &sla->within))
		sla->within = sla->rungs[sla->nrungs - 1].amount;
	return sla;
}

/* Reads an event's name as its code; the first is what holds if none is given. */
static void
read_event(json_t *sla, const char *member, const char *const *events, const char *codes, char *event, const char *place, LrMistakes *mistakes)
{
	const char *name = lr_json_string(sla, member, false, place, mistakes);
	StringInfoData known;

	*event = codes[0];
	if (name == NULL)
		return;
	initStringInfo(&known);
	for (int i = 0; codes[i]; i++)
	{
		if (strcmp(events[i], name) == 0)
		{
			*event = codes[i];
			return;
		}
		appendStringInfo(&known, "%s\"%s\"", i == 0 ? "" : codes[i + 1] ? ", " : " or ", events[i]);
	}
	lr_mistake(mistakes, lr_place(place, member), psprintf("Give %s.", known.data), "\"%s\" is no event that a clock can go by", name);
}

/* Reads the rungs, which ascend in time. */
static void
read_ladder(LrSla *sla, json_t *ladder, json_t *pools, const char *place, LrMistakes *mistakes)
{
	static const char *const actions[] = {"remind", "reassign", "escalate", "notify", NULL};
	int			n = ladder ? (int) json_array_size(ladder) : 0;

	if (n > LR_MAX_RUNGS)
	{
		lr_mistake(mistakes, place, NULL, "has more than %d rungs", LR_MAX_RUNGS);
		return;
	}
	sla->rungs = palloc0(sizeof(LrRung) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		json_t	   *json = json_array_get(ladder, i);
		char	   *here = lr_place_at(place, i);
		LrRung	   *rung = &sla->rungs[sla->nrungs++];
		const char *at;
		const char *action;
		const char *pool;

		if (!json_is_object(json))
		{
			lr_mistake(mistakes, here, "Give a rung such as {\"at\": \"50%\", \"do\": \"remind\"}.", "has to be an object");
			continue;
		}
		lr_json_known_members(json, rung_members, here, mistakes);
		at = lr_json_string(json, "at", true, here, mistakes);
		action = lr_json_string(json, "do", true, here, mistakes);
		pool = lr_json_string(json, "pool", false, here, mistakes);
		rung->pool = pool ? pstrdup(pool) : NULL;
		rung->action = LR_N_RUNGS;
		for (int a = 0; action && actions[a]; a++)
			rung->action = strcmp(actions[a], action) == 0 ? (LrRungAction) a : rung->action;
		if (action && rung->action == LR_N_RUNGS)
			lr_mistake(mistakes, lr_place(here, "do"), "Give \"remind\", \"reassign\", \"escalate\" or \"notify\".", "\"%s\" is not known", action);
		if (rung->action == LR_RUNG_ESCALATE && pool == NULL)
			lr_mistake(mistakes, lr_place(here, "pool"), "Name the pool that the lead goes to.", "is missing");
		if (pool && (rung->action == LR_RUNG_REMIND || rung->action == LR_RUNG_REASSIGN))
			lr_mistake(mistakes, lr_place(here, "pool"), "Leave it out, or give \"escalate\" or \"notify\".", "does not go together with \"%s\"", action);
		if (pool && pools && json_object_get(pools, pool) == NULL)
			lr_mistake(mistakes, lr_place(here, "pool"), lr_pool_hint(pools, pool), "there is no pool \"%s\"", pool);
		if (at == NULL || sla->within == 0)
			continue;
		if (!read_at(at, sla->within, &rung->amount))
			lr_mistake(mistakes, lr_place(here, "at"), AT_HINT, "\"%s\" is no moment of the clock", at);
		else if (rung->amount <= 0)
			lr_mistake(mistakes, lr_place(here, "at"), AT_HINT, "\"%s\" is before the clock starts", at);
		else if (i > 0 && rung->amount < rung[-1].amount)
			lr_mistake(mistakes, lr_place(here, "at"), "Give the rungs in the order of their moments.", "is before the rung above it");
	}
}

/* Reads the moment of a rung as the time since the start; false if it is none. */
static bool
read_at(const char *text, int64 within, int64 *amount)
{
	char	   *end;
	double		percent = strtod(text, &end);
	int64		span;
	bool		before = text[0] == '-';

	while (*end == ' ')
		end++;
	if (end != text && strcmp(end, "%") == 0)
	{
		if (!(percent >= 0 && percent <= 10000))
			return false;
		*amount = (int64) (within * (percent / 100));
		return true;
	}
	text += text[0] == '-' || text[0] == '+' ? 1 : 0;
	while (*text == ' ')
		text++;
	if (strcmp(text, "0") == 0)
	{
		*amount = within;
		return true;
	}
	/* another sign within would turn it round again */
	if (!isdigit((unsigned char) text[0]) || !lr_span_read(text, &span))
		return false;
	*amount = before ? within - span : within + span;
	return true;
}
