/*
 * agent_input.c: what agents that are not ours are given: an object of the lead's attributes and of the outputs so far.
 *
 * An agent that declared its inputs is given these and nothing else; one that did not is given all that is known. The object is put
 * together as jsonb at once, not as text that has to be read again: there is one for every call.
 */
#include "agents/agents.h"

#include "catalog/pg_type.h"
#include "pipeline/pipeline.h"
#include "policy/policy.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

static bool is_given(const LrStep *step, const char *name);
static void push_members(JsonbParseState **state, Datum value, List *names);
static void push_key(JsonbParseState **state, const char *name);
static void push_fact(JsonbParseState **state, const LrRun *run, int fact, const char *name);
static void push_text(JsonbParseState **state, JsonbIteratorToken token, char *text, int length);
static void push_texts(JsonbParseState **state, Datum value);
static void push_jsonb(JsonbParseState **state, Datum value);

/* Makes what an agent is given of a lead: what it declared, otherwise everything that is known. */
Jsonb *
lr_agent_input(const LrRun *run, const LrStep *step)
{
	const LrPolicy *policy = run->batch->policy;
	const LrAgent *agent = step->agent;
	JsonbParseState *state = NULL;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i <= LR_AS_OF; i++)
	{
		if (run->isnull[i])
			continue;
		if (i == LR_ATTRIBUTES && agent->declares && !step->reads_all_keys && step->keys != NIL)
		{
			push_key(&state, lr_facts[i].name);
			push_members(&state, run->values[i], step->keys);
		}
		else if (is_given(step, lr_facts[i].name))
			push_fact(&state, run, i, lr_facts[i].name);
	}
	for (int s = 0; s < step->number; s++)
	{
		const LrStep *earlier = &policy->steps[s];

		if (run->steps[s].status != LR_STEP_DONE || earlier->nfacts == 0)
			continue;
		if (agent->declares ? !is_given(step, earlier->capability) : !bms_is_member(earlier->first_fact, step->reads))
			continue;
		if (earlier->builtin == NULL)
		{
			push_fact(&state, run, earlier->first_fact, earlier->capability);
			continue;
		}
		push_key(&state, earlier->capability);
		(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		for (int i = earlier->first_fact; i < earlier->first_fact + earlier->nfacts; i++)
			push_fact(&state, run, i, lr_facts[i].name);
		(void) pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* Tells whether a step's agent is given an attribute, or the outputs of a capability: who declares nothing is given all. */
static bool
is_given(const LrStep *step, const char *name)
{
	ListCell   *cell;

	foreach(cell, step->agent->inputs)
	{
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	}
	return !step->agent->declares;
}

/* Appends an object of some members of attributes. */
static void
push_members(JsonbParseState **state, Datum value, List *names)
{
	Jsonb	   *jsonb = DatumGetJsonbP(value);
	ListCell   *cell;

	(void) pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	foreach(cell, names)
	{
		JsonbValue	buffer;
		JsonbValue *member = JB_ROOT_IS_OBJECT(jsonb) ? getKeyJsonValueFromContainer(&jsonb->root, lfirst(cell), strlen(lfirst(cell)), &buffer) : NULL;

		if (member == NULL)
			continue;
		push_key(state, lfirst(cell));
		(void) pushJsonbValue(state, WJB_VALUE, member);
	}
	(void) pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

static void
push_key(JsonbParseState **state, const char *name)
{
	push_text(state, WJB_KEY, (char *) name, (int) strlen(name));
}

/* Appends a fact under a name, if it is known. */
static void
push_fact(JsonbParseState **state, const LrRun *run, int fact, const char *name)
{
	Oid			type = fact < LR_N_FACTS ? lr_facts[fact].type : JSONBOID;
	Datum		value = run->values[fact];
	JsonbValue	scalar;

	if (run->isnull[fact])
		return;
	push_key(state, name);
	switch (type)
	{
		case TEXTOID:
			{
				text	   *string = DatumGetTextPP(value);

				push_text(state, WJB_VALUE, VARDATA_ANY(string), (int) VARSIZE_ANY_EXHDR(string));
				return;
			}
		case INT4OID:
			scalar.type = jbvNumeric;
			scalar.val.numeric = int64_to_numeric(DatumGetInt32(value));
			break;
		case BOOLOID:
			scalar.type = jbvBool;
			scalar.val.boolean = DatumGetBool(value);
			break;
		case TIMESTAMPTZOID:
			{
				char		buffer[MAXDATELEN + 1];
				int			utc = 0;

				JsonEncodeDateTime(buffer, value, TIMESTAMPTZOID, &utc);
				push_text(state, WJB_VALUE, pstrdup(buffer), (int) strlen(buffer));
				return;
			}
		case TEXTARRAYOID:
			push_texts(state, value);
			return;
		default:
			push_jsonb(state, value);
			return;
	}
	(void) pushJsonbValue(state, WJB_VALUE, &scalar);
}

static void
push_text(JsonbParseState **state, JsonbIteratorToken token, char *text, int length)
{
	JsonbValue	string = {.type = jbvString};

	string.val.string.val = text;
	string.val.string.len = length;
	(void) pushJsonbValue(state, token, &string);
}

static void
push_texts(JsonbParseState **state, Datum value)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	(void) pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < n; i++)
	{
		JsonbValue	null = {.type = jbvNull};

		if (nulls[i])
			(void) pushJsonbValue(state, WJB_ELEM, &null);
		else
			push_text(state, WJB_ELEM, VARDATA_ANY(DatumGetPointer(elements[i])), (int) VARSIZE_ANY_EXHDR(DatumGetPointer(elements[i])));
	}
	(void) pushJsonbValue(state, WJB_END_ARRAY, NULL);
}

static void
push_jsonb(JsonbParseState **state, Datum value)
{
	Jsonb	   *jsonb = DatumGetJsonbP(value);
	JsonbValue	content;

	if (!JB_ROOT_IS_SCALAR(jsonb) || !JsonbExtractScalar(&jsonb->root, &content))
	{
		content.type = jbvBinary;
		content.val.binary.data = &jsonb->root;
		content.val.binary.len = (int) (VARSIZE(jsonb) - VARHDRSZ);
	}
	(void) pushJsonbValue(state, WJB_VALUE, &content);
}

/* ---- what they give ---- */

/* Tells whether an output is no deeper than may be: what is kept as text is read by recursion, by whoever reads the record, and with less room for it. */
bool
lr_output_is_flat(Datum output)
{
	JsonbIterator *iterator = JsonbIteratorInit(&DatumGetJsonbP(output)->root);
	JsonbValue	value;
	JsonbIteratorToken token;
	int			depth = 0;

	while (depth <= LR_MAX_OUTPUT_DEPTH && (token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
	{
		if (token == WJB_BEGIN_OBJECT || token == WJB_BEGIN_ARRAY)
			depth++;
		else if (token == WJB_END_OBJECT || token == WJB_END_ARRAY)
			depth--;
	}
	return depth <= LR_MAX_OUTPUT_DEPTH;
}
