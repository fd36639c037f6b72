/*
 * columns.c: columns that map to no attribute, as one jsonb object: the attribute "attributes".
 *
 * Values are made JSON as to_jsonb() would, but whatever the session's settings: dates in ISO form, times with a zone in UTC.
 * Composite values are strings.
 * A column that is itself mapped to attributes gives its members first; the other columns follow.
 */
#include "intake/intake.h"

#include "catalog/pg_type.h"
#include "common/int.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"

static void push_members(JsonbParseState **state, Jsonb *jsonb);
static void push_column(JsonbParseState **state, Form_pg_attribute column, Datum value, bool isnull);
static void push_datum(JsonbParseState **state, Oid type, Datum value);
static void push_string(JsonbParseState **state, const char *string, int length);

/* Returns the columns of a row that map to no attribute, as a jsonb object; own is the value of one that maps to it, or NULL. */
Datum
lr_columns_to_jsonb(const LrSource *source, TupleTableSlot *slot, const Datum *own)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	if (own)
		push_members(&state, DatumGetJsonbP(*own));
	for (int i = 0; i < source->nrest; i++)
	{
		AttrNumber	attnum = source->rest[i];

		push_column(&state, TupleDescAttr(source->desc, attnum - 1), slot->tts_values[attnum - 1], slot->tts_isnull[attnum - 1]);
	}
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

static void
push_members(JsonbParseState **state, Jsonb *jsonb)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;

	if (!JB_ROOT_IS_OBJECT(jsonb))
		return;
	iterator = JsonbIteratorInit(&jsonb->root);
	token = JsonbIteratorNext(&iterator, &value, true);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_END_OBJECT)
		pushJsonbValue(state, token, &value);
}

static void
push_column(JsonbParseState **state, Form_pg_attribute column, Datum value, bool isnull)
{
	JsonbValue	key = {.type = jbvString};
	JsonbValue	null = {.type = jbvNull};

	key.val.string.val = NameStr(column->attname);
	key.val.string.len = strlen(NameStr(column->attname));
	pushJsonbValue(state, WJB_KEY, &key);
	if (isnull)
		pushJsonbValue(state, WJB_VALUE, &null);
	else
		push_datum(state, getBaseType(column->atttypid), value);
}

static void
push_datum(JsonbParseState **state, Oid type, Datum value)
{
	JsonbValue	json;
	Numeric		number = NULL;

	switch (type)
	{
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			{
				text	   *string = DatumGetTextPP(value);

				push_string(state, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
				return;
			}
		case BOOLOID:
			json.type = jbvBool;
			json.val.boolean = DatumGetBool(value);
			pushJsonbValue(state, WJB_VALUE, &json);
			return;
		case INT2OID:
			number = int64_to_numeric(DatumGetInt16(value));
			break;
		case INT4OID:
			number = int64_to_numeric(DatumGetInt32(value));
			break;
		case INT8OID:
			number = int64_to_numeric(DatumGetInt64(value));
			break;
		case FLOAT4OID:
			number = DatumGetNumeric(DirectFunctionCall1(float4_numeric, value));
			break;
		case FLOAT8OID:
			number = DatumGetNumeric(DirectFunctionCall1(float8_numeric, value));
			break;
		case NUMERICOID:
			number = DatumGetNumeric(value);
			break;
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			{
				char		buffer[MAXDATELEN + 1];
				int			utc = 0;

				JsonEncodeDateTime(buffer, value, type, type == TIMESTAMPTZOID ? &utc : NULL);
				push_string(state, pstrdup(buffer), strlen(buffer));
				return;
			}
		case JSONBOID:
			{
				Jsonb	   *jsonb = DatumGetJsonbP(value);

				if (JB_ROOT_IS_SCALAR(jsonb))
					JsonbExtractScalar(&jsonb->root, &json);
				else
				{
					json.type = jbvBinary;
					json.val.binary.data = &jsonb->root;
					json.val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
				}
				pushJsonbValue(state, WJB_VALUE, &json);
				return;
			}
		case JSONOID:
			{
				Jsonb	   *jsonb = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(TextDatumGetCString(value))));

				push_datum(state, JSONBOID, JsonbPGetDatum(jsonb));
				return;
			}
		default:
			if (OidIsValid(get_element_type(type)))
			{
				int			nest = lr_settings_enter("UTC");
				char	   *array = TextDatumGetCString(DirectFunctionCall1(array_to_json, value));

				lr_settings_leave(nest);
				push_datum(state, JSONBOID, DirectFunctionCall1(jsonb_in, CStringGetDatum(array)));
				return;
			}
			{
				Oid			output;
				bool		is_varlena;
				int			nest = lr_settings_enter("UTC");
				char	   *string;

				getTypeOutputInfo(type, &output, &is_varlena);
				string = OidOutputFunctionCall(output, value);
				lr_settings_leave(nest);
				push_string(state, string, strlen(string));
				return;
			}
	}

	/* JSON has no word for these */
	if (numeric_is_nan(number) || numeric_is_inf(number))
	{
		char	   *string = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number)));

		push_string(state, string, strlen(string));
		return;
	}
	json.type = jbvNumeric;
	json.val.numeric = number;
	pushJsonbValue(state, WJB_VALUE, &json);
}

static void
push_string(JsonbParseState **state, const char *string, int length)
{
	JsonbValue	json = {.type = jbvString};

	json.val.string.val = (char *) string;
	json.val.string.len = length;
	pushJsonbValue(state, WJB_VALUE, &json);
}
