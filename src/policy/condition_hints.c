/*
 * condition_hints.c: how to mend a condition.
 *
 * The server's parser says what it found, in its own words: a syntax error at a place, a type that has no such operator. Who
 * writes rules knows fields and values rather than grammars, so each such message gets a hint that shows the way it is
 * written. What to say follows from the SQLSTATE and from what stands at the place; where the message itself is looked at,
 * it is for names of types, which no language of messages translates.
 *
 * Refusals of our own (condition_check.c) bring their hints along.
 */
#include "policy/condition_check.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/varlena.h"

#define EXAMPLE "country = 'DE' AND company_size >= 50"
#define QUOTES "Texts stand in single quotes: 'DE'."
#define STRAIGHT_QUOTES "Quotes have to be straight ones: 'DE'. These come from a word processor or a spreadsheet."
#define NO_PARAMETERS "A condition has no parameters: write the value itself, such as country = 'DE'."
#define ONE_EXPRESSION "Write only what would stand behind WHERE, such as " EXAMPLE "."

static const char *syntax_hint(const char *text, const char *at);
static const char *type_hint(const char *at, const char *message);
static const char *constant_hint(const char *text, const char *at, const char *message);
static const char *outputs_of(const char *capability);
static bool begins_curly(const char *text);
static const char *nearest_fact(const char *name);
static bool stands_alone(int fact);
static const char *skip_quoted(const char *at);
static bool starts_with(const char *at, const char *word);
static bool ends_before(const char *text, const char *at, const char *what);

/* Returns the text of a condition, an object's member "when"; notes a missing or ill-typed one. */
const char *
lr_condition_member(json_t *object, const char *place, LrMistakes *mistakes)
{
	json_t	   *value = json_object_get(object, "when");

	if (value && !json_is_null(value) && !json_is_string(value))
	{
		lr_mistake(mistakes, lr_place(place, "when"), "Write one SQL expression in double quotes: \"" EXAMPLE "\".", "has to be a string");
		return NULL;
	}
	return lr_json_string(object, "when", true, place, mistakes);
}

/* Returns how to mend what the server refused, or NULL. */
const char *
lr_condition_hint(const ErrorData *error, const char *text)
{
	const char *at = text;

	for (int i = 1; i < error->cursorpos && *at; i++)
		at += pg_mblen(at);
	switch (error->sqlerrcode)
	{
		case ERRCODE_UNDEFINED_FUNCTION:
			return type_hint(at, error->message);
		case ERRCODE_INVALID_DATETIME_FORMAT:
		case ERRCODE_DATETIME_FIELD_OVERFLOW:
			return strstr(error->message, "interval") ? "Write a length of time such as interval '2 days'."
				: "Write a day as '2026-01-31', a moment as '2026-01-31 12:00+01'.";
	}
	if (error->hint)
		return error->hint;
	switch (error->sqlerrcode)
	{
		case ERRCODE_SYNTAX_ERROR:
			return syntax_hint(text, at);
		case ERRCODE_INVALID_TEXT_REPRESENTATION:
			return constant_hint(text, at, error->message);
		case ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE:
			return "Write a value that the type can hold, or a number without quotes, which takes the type that it needs.";
		case ERRCODE_DATATYPE_MISMATCH:
			return strstr(error->message, "boolean") ? "Compare it with something, such as company_size >= 50."
				: "Cast one of them, such as company_size::text.";
		case ERRCODE_GROUPING_ERROR:
		case ERRCODE_WINDOWING_ERROR:
			return "A condition sees one lead. What counts or sums over leads comes from an agent.";
		case ERRCODE_FEATURE_NOT_SUPPORTED:
			return "A condition sees one value at a time: compare with = ANY (consent_channels), or attributes @> '{\"tags\": [\"vip\"]}'.";
		case ERRCODE_UNDEFINED_OBJECT:
			return starts_with(at, "COLLATE") ? "Leave it out for the C collation, or use one of pg_collation, such as \"POSIX\" or \"und-x-icu\"."
				: "Use a built-in type such as integer, numeric, text, date or timestamptz; a type of your own under its qualified name.";
		case ERRCODE_COLLATION_MISMATCH:
		case ERRCODE_INDETERMINATE_COLLATION:
			return "Write COLLATE once in a comparison.";
		case ERRCODE_UNDEFINED_PARAMETER:
			return NO_PARAMETERS;
		case ERRCODE_UNDEFINED_TABLE:
		case ERRCODE_UNDEFINED_SCHEMA:
			return "Conditions read the lead and the outputs of steps only. Make a function of yours an agent.";
		case ERRCODE_INVALID_PARAMETER_VALUE:
			if (ends_before(text, at, "ZONE"))
				return "Give an IANA name such as 'Europe/Berlin'.";
			return strstr(error->message, "timestamp") || strstr(error->message, "date") ? "Use a unit such as hour, day, month, year, dow or epoch."
				: "Use a value that is within its bounds.";
		case ERRCODE_INVALID_REGULAR_EXPRESSION:
		case ERRCODE_INVALID_ESCAPE_SEQUENCE:
			return "Mend the pattern: it raises for every lead.";
		case ERRCODE_CHARACTER_NOT_IN_REPERTOIRE:
			return "Write the character itself.";
		case ERRCODE_STATEMENT_TOO_COMPLEX:
		case ERRCODE_OUT_OF_MEMORY:
			return "Make several rules of it, or use IN.";
		default:
			return ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_DATA_EXCEPTION ? "It raises for every lead: write a value for which it can be computed."
				: "Conditions look like " EXAMPLE ".";
	}
}

/* ---- grammar ---- */

/* Says what is likely meant where the grammar does not go on. */
static const char *
syntax_hint(const char *text, const char *at)
{
	static const char *const statements[] = {"SELECT", "WITH", "VALUES", "INSERT", "UPDATE", "DELETE", "MERGE", "DROP", "ALTER", "CREATE", "SET", "FROM",
		"WHERE", "UNION", "INTERSECT", "EXCEPT", "RETURNING", "INTO", NULL};
	const char *start = text + strspn(text, " \t\n");

	for (int i = 0; statements[i]; i++)
	{
		if (starts_with(at, statements[i]) || starts_with(start, statements[i]))
			return ONE_EXPRESSION;
	}
	if (strlen(text) > 10000)
		return "Make several rules of it, or use IN.";
	if (starts_with(start, "IF"))
		return "Write the condition alone: what follows from it, other members of the rule say.";
	switch (*at)
	{
		case '\0':
			if (strchr("?:@", text[strlen(text) - 1]))
				return NO_PARAMETERS;
			return "It ends too early: a value, a closing parenthesis, THEN or END is missing.";
		case ';':
			return "Leave the semicolon out: a condition is one expression, not a statement.";
		case '?':
		case ':':
		case '{':
		case '@':
			return NO_PARAMETERS;
		case '[':
			return "Lists stand in parentheses: country IN ('DE', 'AT').";
		case '"':
			return QUOTES;
		case '$':
			return "Write the text in single quotes, such as 'DE'.";
		case '/':
			return "Close the comment with */.";
		case '\'':
			if (skip_quoted(at) == NULL)
				return "Close the text with a quote; a quote within it is written twice: 'O''Brien'.";
			if (ends_before(text, at, "IN"))
				return "Lists stand in parentheses: country IN ('DE', 'AT').";
			if (ends_before(text, at, "NOT"))
				return "Write <> for what is not equal, and IS NOT DISTINCT FROM or IS DISTINCT FROM where null counts.";
			break;
		case ')':
			if (ends_before(text, at, "("))
				return "Write at least one value between the parentheses.";
			return "A value is missing before the parenthesis, or it was never opened.";
		case '=':
			if (at[1] == '>')
				return "Greater or equal is written >=.";
			/* FALLTHROUGH */
		case '<':
		case '>':
			return "Each comparison has two sides: company_size >= 10 AND company_size <= 20, or company_size BETWEEN 10 AND 20.";
	}
	if (starts_with(at, "AND") || starts_with(at, "OR"))
		return "A comparison is missing before it.";
	if (starts_with(at, "NULL"))
		return "Write IS NULL or IS NOT NULL.";
	if (starts_with(at, "DEFAULT"))
		return "Write the value itself.";
	if (ends_before(text, at, "IS"))
		return "IS is for NULL, TRUE, FALSE and DISTINCT FROM; equality is written with =.";
	if (starts_with(at, "IN"))
		return "Write IN or NOT IN, without another operator.";
	if (ends_before(text, at, "IN"))
		return "Lists stand in parentheses: country IN ('DE', 'AT'). For an array write 'email' = ANY (consent_channels).";
	return "An operator, AND or OR is missing before it. Conditions look like " EXAMPLE ".";
}

/* Returns the word, in capitals, if the grammar took AND, OR and the like at a condition's end for an alias, else NULL. */
const char *
lr_condition_open_word(const char *name)
{
	static const char *const open[] = {"and", "or", "not", "in", "is", "like", "between", "case", "when", "then", "else", NULL};

	for (int i = 0; open[i]; i++)
	{
		if (strcmp(name, open[i]) == 0)
			return asc_toupper(name, strlen(name));
	}
	return NULL;
}

/* ---- types ---- */

/* Says how to get to an operator or a function that exists. */
static const char *
type_hint(const char *at, const char *message)
{
	if (strncmp(at, "==", 2) == 0)
		return "Equality is written with one =.";
	if (strncmp(at, "&&", 2) == 0)
		return "Connect conditions with AND.";
	if (strncmp(at, "||", 2) == 0)
		return "Connect conditions with OR; join texts by casts: company || company_size::text.";
	if (*at == '!')
		return "Write NOT, or <>.";
	if (*at == '@' || *at == ':')
		return NO_PARAMETERS;
	if (strstr(message, "record"))
		return "Lists are compared with IN: country IN ('DE', 'AT').";
	if (strstr(message, "interval") || strstr(message, "timestamp"))
		return "Write days and moments as '2026-01-31' and '2026-01-31 12:00+01', lengths of time as interval '2 days'.";
	if (strstr(message, "text") && strstr(message, "integer") && strchr("=<>", *at))
		return "Put the constant in quotes, or cast the text to a number: (attributes->>'seats')::int > 5.";
	if (strstr(message, "boolean"))
		return "Write consent, or NOT consent.";
	if (IS_HIGHBIT_SET(*at) || isalpha((unsigned char) *at) || *at == '_')
	{
		if (starts_with(at, "LIKE") || starts_with(at, "ILIKE") || starts_with(at, "SIMILAR") || starts_with(at, "NOT"))
			return "Patterns are for texts: cast what is none, such as company_size::text LIKE '1%'.";
		return "Use a built-in function, with values of the types that it takes; cast where they differ. Make a function of yours an agent.";
	}
	return "The two sides have to be of types that can be compared: cast one of them, such as company_size::text.";
}

/* Says how a constant of the type is written. */
static const char *
constant_hint(const char *text, const char *at, const char *message)
{
	const char *behind = *at == '\'' ? skip_quoted(at) : at;

	/* attributes->>'seats'::int casts 'seats' */
	if (behind && strncmp(behind, "::", 2) == 0 && (ends_before(text, at, "->>") || ends_before(text, at, "->")))
		return "A cast binds closer than ->>: write (attributes->>'seats')::int.";
	if (strstr(message, "boolean"))
		return "Write true or false, or compare: country = 'DE'.";
	if (strstr(message, "interval"))
		return "Write a length of time such as interval '2 days'.";
	if (strstr(message, "json"))
		return "Names and texts within JSON stand in double quotes: '{\"tags\": [\"vip\"]}'.";
	if (strstr(message, "enum"))
		return "Write one of the labels that the type has.";
	if (*at == '\'' && at[1] == '{' && strstr(message, "array literal"))
		return "Write an array as ARRAY[1, 2], or as '{1,2}'.";
	if (strstr(message, "array literal"))
		return "Write 'email' = ANY (consent_channels), or compare with an array: consent_channels @> ARRAY['email'].";
	if (strstr(message, "integer") || strstr(message, "bigint") || strstr(message, "numeric") || strstr(message, "double precision"))
		return "Write a number, without quotes, units or separators, such as 5000.";
	return "Write a value as the type reads it.";
}

/* ---- names ---- */

/* Says what may be meant by a name that is neither an attribute nor an output. place: where it stands in the text, or -1. */
const char *
lr_name_hint(List *fields, const char *text, int place)
{
	const char *first = IsA(linitial(fields), String) ? strVal(linitial(fields)) : "*";
	const char *last = IsA(llast(fields), String) ? strVal(llast(fields)) : "*";
	const char *at = place >= 0 ? text + place : "";
	const char *outputs;
	const char *nearest;

	if (pg_strcasecmp(first, "attributes") == 0 || ends_before(text, at, "->") || ends_before(text, at, "->>"))
		return psprintf("Members of attributes are written attributes->>'%s'.", last);
	if (pg_strcasecmp(first, "flags") == 0 && list_length(fields) == 2)
		return psprintf("There is no flag \"%s\" that this condition can read: leadroute.set_flag('%s') makes one, for policies.", last, last);
	outputs = outputs_of(first);
	if (outputs)
		return outputs;
	if (pg_strcasecmp(first, "assignOwner") == 0)
		return "It is the step that tries the rules: what it gives, no rule can read.";
	if (*at == '"' || *at == '@')
		return QUOTES;
	if (begins_curly(at))
		return STRAIGHT_QUOTES;
	for (int fact = 0; fact < LR_N_FACTS && list_length(fields) > 1; fact++)
	{
		if (stands_alone(fact) && (pg_strcasecmp(last, lr_facts[fact].name) == 0 || pg_strcasecmp(first, lr_facts[fact].name) == 0))
			return psprintf("It stands alone: %s.", lr_facts[fact].name);
	}
	nearest = nearest_fact(last);
	if (nearest && list_length(fields) == 1)
		return psprintf("Perhaps %s is meant. Attributes without a column are reached as attributes->>'%s'; outputs as step.output.", nearest, last);
	/* names are folded: only the text says whether it was a code such as DE */
	if (isupper((unsigned char) *at) && strspn(at, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == strlen(first))
		return QUOTES;
	return "Attributes without a column are reached as attributes->>'name'; outputs as step.output.";
}

/* Says whether a text begins with a typographic quote, U+2018 to U+201F in UTF-8: of those the parser makes names. */
static bool
begins_curly(const char *text)
{
	return strncmp(text, "\xe2\x80", 2) == 0 && (unsigned char) text[2] >= 0x98 && (unsigned char) text[2] <= 0x9f;
}

/* Lists what a step gives, or returns NULL if that is no built-in step with outputs. */
static const char *
outputs_of(const char *capability)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int fact = 0; fact < LR_N_FACTS; fact++)
	{
		if (lr_facts[fact].capability && pg_strcasecmp(capability, lr_facts[fact].capability) == 0)
			appendStringInfo(&names, "%s%s.%s", names.len ? ", " : "", lr_facts[fact].capability, lr_facts[fact].name);
	}
	return names.len ? psprintf("Its outputs are %s.", names.data) : NULL;
}

/* Returns the attribute or output that a misspelt name is nearest to, or NULL if none is near. */
static const char *
nearest_fact(const char *name)
{
	int			length = strlen(name);
	int			least = Min(length / 2, 3) + 1;
	const char *nearest = NULL;

	if (length > NAMEDATALEN)
		return NULL;
	for (int fact = 0; fact < LR_N_FACTS; fact++)
	{
		const char *known = lr_facts[fact].name;
		int			distance;

		if (!stands_alone(fact))
			continue;
		distance = varstr_levenshtein_less_equal(name, length, known, strlen(known), 1, 1, 1, least - 1, true);
		if (distance < least)
		{
			least = distance;
			nearest = known;
		}
	}
	return nearest;
}

/* Tells whether a fact is known without the name of a step. */
static bool
stands_alone(int fact)
{
	return lr_facts[fact].capability == NULL || fact == LR_SCORE || fact == LR_TIER;
}

/* ---- looking at the text ---- */

/* Returns what stands behind a text in quotes, NULL if it is not closed. */
static const char *
skip_quoted(const char *at)
{
	for (at++; *at; at++)
	{
		if (*at == '\'' && at[1] == '\'')
			at++;
		else if (*at == '\'')
			return at + 1;
	}
	return NULL;
}

/* Tells whether a word, in any case, stands here. */
static bool
starts_with(const char *at, const char *word)
{
	size_t		length = strlen(word);

	return pg_strncasecmp(at, word, length) == 0 && !isalnum((unsigned char) at[length]) && at[length] != '_';
}

/* Tells whether something stands right before a place, but for blanks. */
static bool
ends_before(const char *text, const char *at, const char *what)
{
	size_t		length = strlen(what);

	while (at > text && isspace((unsigned char) at[-1]))
		at--;
	if (at < text + length || pg_strncasecmp(at - length, what, length) != 0)
		return false;
	return !isalpha((unsigned char) what[0]) || at == text + length || !isalnum((unsigned char) at[-(int) length - 1]);
}
