/*
 * terms.c: what a rule asks of who works its leads: skills, by when to respond, and what such a lead is worth.
 *
 * Most rules ask for nothing; the index knows which do (LrIndexTarget), and only of these the text is read, once a session,
 * when the first lead meets the rule.
 *
 * A skill is written name[>=level][ for interval], such as "german", "german>=3" or "german>=3 for 2 hours": the last one is
 * dropped when the lead has waited for two hours.
 */
#include "policy/policy.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

#define SKILL_HINT "Give a text such as \"german\", \"german>=3\" or \"german>=3 for 2 hours\"."

static bool read_skill(const char *text, LrSkillTerm *skill);
static int64 span_of(const Interval *interval);

/* Tells whether a rule asks for anything that who assigns has to know. */
bool
lr_terms_any(json_t *rule)
{
	return lr_json_has(rule, "skills") || lr_json_has(rule, "value") || lr_json_has(rule, "review_below") || lr_sla_any(rule);
}

/* Checks the terms that members.c does not. */
void
lr_terms_check(json_t *rule, const char *place, LrMistakes *mistakes)
{
	json_t	   *skills = lr_json_array(rule, "skills", false, place, mistakes);
	double		value;

	for (int i = 0; skills && i < (int) json_array_size(skills); i++)
	{
		const char *text = json_string_value(json_array_get(skills, i));
		LrSkillTerm skill;

		if (text == NULL || text[0] == '\0' || !read_skill(text, &skill))
			lr_mistake(mistakes, lr_place_at(lr_place(place, "skills"), i), SKILL_HINT, "is not a skill");
	}
	(void) lr_json_number(rule, "value", 0, 1e12, &value, place, mistakes);
	(void) lr_json_number(rule, "review_below", 0, 1, &value, place, mistakes);
}

/* Returns the terms of a rule; they live as long as the policy. */
const LrTerms *
lr_rule_terms(LrPolicy *policy, LrRule *rule)
{
	static const LrTerms none = {0};

	if (rule == NULL || !rule->has_terms)
		return &none;
	if (rule->terms == NULL)
	{
		MemoryContext saved = MemoryContextSwitchTo(lr_rule_set_memory(policy->rule_set));

		rule->terms = lr_terms_read(policy, rule->number);
		MemoryContextSwitchTo(saved);
	}
	return rule->terms;
}

/* Reads the terms of a rule of a published version, in the current memory context; number: -1 for none. */
LrTerms *
lr_terms_read(const LrPolicy *policy, int number)
{
	LrTerms    *terms = palloc0(sizeof(LrTerms));
	json_t	   *json;
	json_t	   *skills;
	const char *text;

	if (number < 0)
		return terms;
	json = lr_rule_json(policy, number);
	text = json_string_value(json_object_get(json, "first_response_within"));
	if (text)
		(void) lr_span_read(text, &terms->within);
	text = json_string_value(json_object_get(json, "sla_clock"));
	terms->working_clock = text && strcmp(text, "working") == 0;
	terms->sla = lr_sla_read(json);
	terms->has_value = json_is_number(json_object_get(json, "value"));
	terms->value = json_number_value(json_object_get(json, "value"));
	terms->review_below = json_number_value(json_object_get(json, "review_below"));
	skills = json_object_get(json, "skills");
	terms->nskills = Min((int) json_array_size(skills), LR_MAX_SKILL_TERMS);
	terms->skills = palloc0(sizeof(LrSkillTerm) * Max(terms->nskills, 1));
	for (int i = 0; i < terms->nskills; i++)
		(void) read_skill(json_string_value(json_array_get(skills, i)), &terms->skills[i]);
	return terms;
}

/* Reads a skill, in the current memory context; false if it is none. */
static bool
read_skill(const char *text, LrSkillTerm *skill)
{
	char	   *name = pstrdup(text);
	char	   *span = strstr(name, " for ");
	char	   *level = strstr(name, ">=");

	memset(skill, 0, sizeof(*skill));
	skill->level = 1;
	if (span)
	{
		*span = '\0';
		if (!lr_span_read(span + 5, &skill->wait))
			return false;
	}
	if (level && (span == NULL || level < span))
	{
		char	   *end;
		long		number;

		*level = '\0';
		number = strtol(level + 2, &end, 10);
		while (*end == ' ')
			end++;
		if (number < 1 || number > 10 || *end != '\0')
			return false;
		skill->level = (int) number;
	}
	for (int length = (int) strlen(name); length > 0 && name[length - 1] == ' '; length--)
		name[length - 1] = '\0';
	skill->name = name;
	/* what looks like a comparison and is none is a slip */
	return name[0] != '\0' && strpbrk(name, "<>=") == NULL;
}

typedef struct SpanReading
{
	const char *text;
	int64		span;
} SpanReading;

static void
call_interval_in(void *argument)
{
	SpanReading *reading = argument;

	reading->span = span_of(DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(reading->text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1))));
}

/* Reads a length of time, in microseconds; false if it is none, or not longer than nothing. */
bool
lr_span_read(const char *text, int64 *span)
{
	SpanReading reading = {.text = text};
	int			sqlstate;

	if (!lr_guard(call_interval_in, &reading, &sqlstate))
		return false;
	*span = reading.span;
	return reading.span > 0;
}

/* A day has 24 hours here, a month 30 days. Returns 0 for what is longer than any rule may give: no moment plus that is out of range. */
static int64
span_of(const Interval *interval)
{
	double		days = (double) interval->month * DAYS_PER_MONTH + interval->day + (double) interval->time / USECS_PER_DAY;

	if (days > LR_MAX_SPAN_DAYS)
		return 0;
	return interval->time + ((int64) interval->month * DAYS_PER_MONTH + interval->day) * USECS_PER_DAY;
}
