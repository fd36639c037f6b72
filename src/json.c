/*
 * json.c: reading documents with jansson, and collecting what is wrong with them.
 *
 * Documents (policies, scorecards, jurisdictions) are stored as jsonb, and read with jansson when they are published and
 * when a session first needs them; never per lead. jansson's memory is ours: palloc in the context that is current when
 * reading begins, so that an error anywhere leaves nothing behind.
 */
#include "json.h"

#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/varlena.h"

static void *
json_allocate(size_t size)
{
	return palloc(size);
}

static void
json_release(void *pointer)
{
	if (pointer)
		pfree(pointer);
}

/* Reads a jsonb value into jansson's form, in the current memory context. */
json_t *
lr_json_of_jsonb(Datum document)
{
	Jsonb	   *jsonb = DatumGetJsonbP(document);
	char	   *text = JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));
	json_error_t error;
	json_malloc_t allocate;
	json_free_t release;
	json_t	   *volatile json = NULL;

	/* another library in this process may use jansson with an allocator of its own */
	json_get_alloc_funcs(&allocate, &release);
	json_set_alloc_funcs(json_allocate, json_release);
	PG_TRY();
	{
		json = json_loads(text, JSON_DECODE_ANY, &error);
	}
	PG_FINALLY();
	{
		json_set_alloc_funcs(allocate, release);
	}
	PG_END_TRY();
	if (json == NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the document cannot be read: %s", error.text),
				errdetail("At character %d.", error.position),
				errhint("Numbers have to fit a double; in a database that is not UTF8, documents have to be ASCII."));
	return json;
}

/* Returns a value as JSON text, in the current memory context. */
char *
lr_json_text(json_t *json)
{
	json_malloc_t allocate;
	json_free_t release;
	char	   *volatile text = NULL;

	json_get_alloc_funcs(&allocate, &release);
	json_set_alloc_funcs(json_allocate, json_release);
	PG_TRY();
	{
		text = json_dumps(json, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
	}
	PG_FINALLY();
	{
		json_set_alloc_funcs(allocate, release);
	}
	PG_END_TRY();
	return text;
}

/* Notes one mistake. */
void
lr_mistake(LrMistakes *mistakes, const char *place, const char *hint, const char *problem, ...)
{
	LrMistake  *mistake = palloc(sizeof(LrMistake));
	StringInfoData text;

	initStringInfo(&text);
	for (;;)
	{
		va_list		arguments;
		int			needed;

		va_start(arguments, problem);
		needed = appendStringInfoVA(&text, problem, arguments);
		va_end(arguments);
		if (needed == 0)
			break;
		enlargeStringInfo(&text, needed);
	}
	mistake->place = pstrdup(place);
	mistake->problem = text.data;
	mistake->hint = hint ? pstrdup(hint) : NULL;
	mistakes->list = lappend(mistakes->list, mistake);
}

/* Raises 22023 with every mistake and its place in the detail; returns if there is none. */
void
lr_mistakes_raise(const LrMistakes *mistakes, const char *what)
{
	lr_mistakes_raise_hint(mistakes, what, "Each line names the place in the document, what is wrong there, and how to mend it.");
}

/* The same, with a hint of the caller's. */
void
lr_mistakes_raise_hint(const LrMistakes *mistakes, const char *what, const char *hint)
{
	StringInfoData detail;
	ListCell   *cell;
	int			n = list_length(mistakes->list);

	if (n == 0)
		return;
	initStringInfo(&detail);
	foreach(cell, mistakes->list)
	{
		LrMistake  *mistake = lfirst(cell);

		if (foreach_current_index(cell) == 50)
		{
			appendStringInfo(&detail, "\n… and %d more", n - 50);
			break;
		}
		appendStringInfo(&detail, "%s%s: %s", detail.len ? "\n" : "", mistake->place, mistake->problem);
		if (mistake->hint)
			appendStringInfo(&detail, " (%s)", mistake->hint);
	}
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg_plural("%s has %d mistake", "%s has %d mistakes", n, what, n),
			errdetail_internal("%s", detail.data),
			errhint("%s", hint));
}

/* Returns the place of a member: parent.member. */
char *
lr_place(const char *parent, const char *member)
{
	return parent[0] ? psprintf("%s.%s", parent, member) : pstrdup(member);
}

/* Returns the place of an element: parent[index]. */
char *
lr_place_at(const char *parent, int index)
{
	return psprintf("%s[%d]", parent, index);
}

/* Tells whether an object has a member that is not null. */
bool
lr_json_has(json_t *object, const char *member)
{
	json_t	   *value = json_object_get(object, member);

	return value != NULL && !json_is_null(value);
}

/* Finds a member of the wanted type; notes a missing or ill-typed one. */
static json_t *
find_member(json_t *object, const char *member, json_type type, const char *type_name, bool required, const char *place, LrMistakes *mistakes)
{
	json_t	   *value = json_object_get(object, member);

	if (value == NULL || json_is_null(value))
	{
		if (required)
			lr_mistake(mistakes, lr_place(place, member), psprintf("Give %s.", type_name), "is missing");
		return NULL;
	}
	if (json_typeof(value) != type)
	{
		lr_mistake(mistakes, lr_place(place, member), type == JSON_STRING ? "Write one text, in double quotes."
				   : type == JSON_ARRAY ? "Write a list in brackets, also of one: [ … ]." : "Write members in braces: {\"name\": … }.", "has to be %s", type_name);
		return NULL;
	}
	return value;
}

/* Returns a string member, or NULL. */
const char *
lr_json_string(json_t *object, const char *member, bool required, const char *place, LrMistakes *mistakes)
{
	json_t	   *value = find_member(object, member, JSON_STRING, "a string", required, place, mistakes);

	if (value == NULL)
		return NULL;
	if (json_string_length(value) == 0)
	{
		lr_mistake(mistakes, lr_place(place, member), required ? "Give a text." : "Give a text, or leave the member out.", "is an empty string");
		return NULL;
	}
	return json_string_value(value);
}

/* Reads a number member within bounds; returns whether there is one. */
bool
lr_json_number(json_t *object, const char *member, double lowest, double highest, double *value, const char *place, LrMistakes *mistakes)
{
	json_t	   *number = json_object_get(object, member);

	if (number == NULL || json_is_null(number))
		return false;
	if (!json_is_number(number))
	{
		lr_mistake(mistakes, lr_place(place, member), "Write a number without quotes, such as 1.", "has to be a number");
		return false;
	}
	if (json_number_value(number) < lowest || json_number_value(number) > highest)
	{
		lr_mistake(mistakes, lr_place(place, member), lowest == highest ? psprintf("Give %.15g.", lowest) : psprintf("Give %.15g to %.15g.", lowest, highest),
				   "is out of range");
		return false;
	}
	*value = json_number_value(number);
	return true;
}

/* Returns a boolean member, or the default. */
bool
lr_json_boolean(json_t *object, const char *member, bool otherwise, const char *place, LrMistakes *mistakes)
{
	json_t	   *value = json_object_get(object, member);

	if (value == NULL || json_is_null(value))
		return otherwise;
	if (!json_is_boolean(value))
	{
		lr_mistake(mistakes, lr_place(place, member), "Write true or false, without quotes.", "has to be true or false");
		return otherwise;
	}
	return json_is_true(value);
}

/* Returns an array member, or NULL. */
json_t *
lr_json_array(json_t *object, const char *member, bool required, const char *place, LrMistakes *mistakes)
{
	return find_member(object, member, JSON_ARRAY, "an array", required, place, mistakes);
}

/* Returns an object member, or NULL. */
json_t *
lr_json_object(json_t *object, const char *member, bool required, const char *place, LrMistakes *mistakes)
{
	return find_member(object, member, JSON_OBJECT, "an object", required, place, mistakes);
}

/* Notes every member that is not among the known ones (NULL-terminated): a misspelt one would be silently ignored. */
void
lr_json_known_members(json_t *object, const char *const *known, const char *place, LrMistakes *mistakes)
{
	const char *key;
	json_t	   *value;

	json_object_foreach(object, key, value)
	{
		StringInfoData names;
		bool		found = false;
		const char *nearest = NULL;
		int			least = 3;

		for (int i = 0; known[i] && !found; i++)
			found = strcmp(known[i], key) == 0;
		if (found)
			continue;
		initStringInfo(&names);
		for (int i = 0; known[i]; i++)
		{
			int			distance = least;

			appendStringInfo(&names, "%s%s", i ? ", " : "", known[i]);
			if (strlen(key) <= NAMEDATALEN)
				distance = varstr_levenshtein_less_equal(key, strlen(key), known[i], strlen(known[i]), 1, 1, 1, least - 1, true);
			/* of short names most are near each other: then is not when */
			if (distance < least && distance * 2 < (int) strlen(key) && pg_tolower((unsigned char) key[0]) == pg_tolower((unsigned char) known[i][0]))
			{
				least = distance;
				nearest = known[i];
			}
		}
		lr_mistake(mistakes, lr_place(place, key), psprintf("%sKnown here: %s.", nearest ? psprintf("Perhaps %s is meant. ", nearest) : "", names.data),
				   "is not known");
		pfree(names.data);
	}
}
