/*
 * match.c: matching rules by hand: for tests, for measuring, and to see what the index of a version is like.
 */
#include "policy/rule_index.h"

#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "intake/intake.h"
#include "miscadmin.h"
#include "pipeline/pipeline.h"
#include "portability/instr_time.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(leadroute_match_rules);
PG_FUNCTION_INFO_V1(leadroute_measure_rules);
PG_FUNCTION_INFO_V1(leadroute_rule_index);

static void append_errors(StringInfo json, const LrMatch *match);
static Datum int_array(const int *numbers, int n);

/* Finds the rules that hold for facts that the caller gives; see the SQL comment. */
Datum
leadroute_match_rules(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	LrPolicy   *policy = lr_policy_hold(PG_GETARG_INT32(0));
	ArrayType  *leads = PG_GETARG_ARRAYTYPE_P(1);
	bool		indexed = PG_GETARG_BOOL(2);
	int			nfacts = policy->scope->nfacts;
	Datum	   *values = palloc(sizeof(Datum) * nfacts);
	bool	   *isnull = palloc(sizeof(bool) * nfacts);
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "leadroute match", ALLOCSET_DEFAULT_SIZES);
	Datum	   *documents;
	bool	   *missing;
	int			n;
	int			nest;

	InitMaterializedSRF(fcinfo, 0);
	deconstruct_array(leads, JSONBOID, -1, false, TYPALIGN_INT, &documents, &missing, &n);
	nest = lr_settings_enter(policy->scope->timezone);
	for (int i = 0; i < n; i++)
	{
		MemoryContext saved = MemoryContextSwitchTo(scratch);
		LrMatch		match;
		StringInfoData errors;
		Datum		row[5];
		bool		nulls[5] = {false};

		CHECK_FOR_INTERRUPTS();
		memset(isnull, true, sizeof(bool) * nfacts);
		if (!missing[i])
			lr_facts_from_json(policy->scope, lr_json_of_jsonb(documents[i]), true, values, isnull);
		lr_rules_match(policy, PG_UINT32_MAX, values, isnull, indexed, &match);
		initStringInfo(&errors);
		append_errors(&errors, &match);
		row[0] = Int32GetDatum(i + 1);
		nulls[1] = match.rule == NULL;
		row[1] = match.rule ? Int32GetDatum(match.rule->number) : (Datum) 0;
		row[2] = int_array(match.hits, match.nhits);
		row[3] = DirectFunctionCall1(jsonb_in, CStringGetDatum(errors.data));
		row[4] = Int32GetDatum(match.verified);
		tuplestore_putvalues(result->setResult, result->setDesc, row, nulls);
		MemoryContextSwitchTo(saved);
		ResetExprContext(policy->evaluator->context);
		MemoryContextReset(scratch);
	}
	lr_settings_leave(nest);
	lr_policy_release(policy);
	return (Datum) 0;
}

/* Fills in facts by their names, under the scope's settings. Unless strict, what is no fact is passed over. */
void
lr_facts_from_json(const LrScope *scope, json_t *lead, bool strict, Datum *values, bool *isnull)
{
	const char *name;
	json_t	   *json;

	json_object_foreach(lead, name, json)
	{
		int			fact = lr_fact_find(scope, name);

		if (fact < 0 && !strict)
			continue;
		if (fact < 0)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("\"%s\" is neither an attribute of a lead nor an output of a step", name),
					errhint("Give attributes without a column as members of \"attributes\", outputs as \"step.output\"."));
		if (json_is_null(json))
			continue;
		if (!lr_fact_from_json(scope, fact, json, &values[fact]))
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("\"%s\" has a value of another type", name),
					errhint("Text is a string, numbers are integers, moments are strings in ISO form, lists are arrays of strings."));
		isnull[fact] = false;
	}
}

/* Reads a fact's value from JSON, in the current memory context and under the scope's settings; returns false if it is none of its type. */
bool
lr_fact_from_json(const LrScope *scope, int fact, json_t *json, Datum *value)
{
	Oid			type = fact < LR_N_FACTS ? lr_facts[fact].type : JSONBOID;

	switch (type)
	{
		case TEXTOID:
			if (!json_is_string(json))
				return false;
			*value = CStringGetTextDatum(json_string_value(json));
			return true;
		case INT4OID:
			if (!json_is_integer(json) || json_integer_value(json) < PG_INT32_MIN || json_integer_value(json) > PG_INT32_MAX)
				return false;
			*value = Int32GetDatum((int32) json_integer_value(json));
			return true;
		case BOOLOID:
			if (!json_is_boolean(json))
				return false;
			*value = BoolGetDatum(json_is_true(json));
			return true;
		case TIMESTAMPTZOID:
			if (!json_is_string(json))
				return false;
			*value = DirectFunctionCall3(timestamptz_in, CStringGetDatum(json_string_value(json)), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
			return true;
		case TEXTARRAYOID:
			{
				Datum	   *elements;
				size_t		i;
				json_t	   *element;

				if (!json_is_array(json))
					return false;
				elements = palloc(sizeof(Datum) * Max(json_array_size(json), 1));
				json_array_foreach(json, i, element)
				{
					if (!json_is_string(element))
						return false;
					elements[i] = CStringGetTextDatum(json_string_value(element));
				}
				*value = PointerGetDatum(construct_array(elements, (int) json_array_size(json), TEXTOID, -1, false, TYPALIGN_INT));
				return true;
			}
		default:
			*value = DirectFunctionCall1(jsonb_in, CStringGetDatum(lr_json_text(json)));
			return true;
	}
}

static void
append_errors(StringInfo json, const LrMatch *match)
{
	appendStringInfoChar(json, '[');
	for (int i = 0; i < match->nerrors; i++)
		appendStringInfo(json, "%s{\"rule_no\": %d, \"sqlstate\": \"%s\", \"conjunct\": %d}", i ? ", " : "", match->errors[i].rule,
						 unpack_sql_state(match->errors[i].error.sqlstate), match->errors[i].error.conjunct);
	appendStringInfoChar(json, ']');
}

static Datum
int_array(const int *numbers, int n)
{
	Datum	   *elements = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		elements[i] = Int32GetDatum(numbers[i]);
	return PointerGetDatum(construct_array(elements, n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
}

/* Measures what matching costs; see the SQL comment. */
Datum
leadroute_measure_rules(PG_FUNCTION_ARGS)
{
	LrPolicy   *policy = lr_policy_hold(PG_GETARG_INT32(0));
	ArrayType  *leads = PG_GETARG_ARRAYTYPE_P(1);
	int			rounds = PG_GETARG_INT32(2);
	bool		indexed = PG_GETARG_BOOL(3);
	int			nfacts = policy->scope->nfacts;
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "leadroute match", ALLOCSET_DEFAULT_SIZES);
	MemoryContext saved;
	Datum	  **values;
	bool	  **isnull;
	Datum	   *documents;
	bool	   *missing;
	int			n;
	int64		hits = 0;
	int64		verified = 0;
	instr_time	start;
	instr_time	end;
	int			nest;
	TupleDesc	desc;
	Datum		row[4];
	bool		nulls[4] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (rounds < 1)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the number of rounds has to be positive"),
				errhint("Give 1 or more."));
	deconstruct_array(leads, JSONBOID, -1, false, TYPALIGN_INT, &documents, &missing, &n);
	values = palloc(sizeof(Datum *) * Max(n, 1));
	isnull = palloc(sizeof(bool *) * Max(n, 1));
	nest = lr_settings_enter(policy->scope->timezone);
	for (int i = 0; i < n; i++)
	{
		values[i] = palloc(sizeof(Datum) * nfacts);
		isnull[i] = palloc(sizeof(bool) * nfacts);
		memset(isnull[i], true, sizeof(bool) * nfacts);
		if (!missing[i])
			lr_facts_from_json(policy->scope, lr_json_of_jsonb(documents[i]), false, values[i], isnull[i]);
	}
	saved = MemoryContextSwitchTo(scratch);
	/* one round to prepare what is needed */
	for (int round = 0; round <= rounds; round++)
	{
		if (round == 1)
		{
			INSTR_TIME_SET_CURRENT(start);
			hits = verified = 0;
		}
		for (int i = 0; i < n; i++)
		{
			LrMatch		match;

			lr_rules_match(policy, PG_UINT32_MAX, values[i], isnull[i], indexed, &match);
			hits += match.rule != NULL;
			verified += match.verified;
			if ((i & 63) == 63)
			{
				CHECK_FOR_INTERRUPTS();
				ResetExprContext(policy->evaluator->context);
				MemoryContextReset(scratch);
			}
		}
	}
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	MemoryContextSwitchTo(saved);
	lr_settings_leave(nest);
	lr_policy_release(policy);
	row[0] = Int64GetDatum((int64) n * rounds);
	row[1] = Int64GetDatum(hits);
	row[2] = Float8GetDatum(n ? INSTR_TIME_GET_DOUBLE(end) * 1e9 / ((double) n * rounds) : 0);
	row[3] = Float8GetDatum(n ? (double) verified / ((double) n * rounds) : 0);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), row, nulls));
}

/* Describes the index of a version; see the SQL comment. */
Datum
leadroute_rule_index(PG_FUNCTION_ARGS)
{
	LrPolicy   *policy = lr_policy_hold(PG_GETARG_INT32(0));
	const LrRuleIndex *index = lr_rule_set_index(policy->rule_set);
	const LrIndexBucket *buckets = lr_index_section(index, LR_SECTION_BUCKETS, LrIndexBucket);
	int			ntrees = 0;
	TupleDesc	desc;
	Datum		row[8];
	bool		nulls[8] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	for (int i = 0; i < index->nbuckets; i++)
		ntrees += buckets[i].tree >= 0;
	row[0] = Int32GetDatum(index->nrules);
	/* in memory, the pointers to rules that have decided included */
	row[1] = Int64GetDatum((int64) index->size + (int64) sizeof(LrRule *) * index->nrules);
	row[2] = Int32GetDatum(index->ncolumns);
	row[3] = Int32GetDatum(index->ngroups);
	row[4] = Int32GetDatum(index->nbuckets);
	row[5] = Int32GetDatum(ntrees);
	row[6] = Int32GetDatum(index->nshapes);
	row[7] = Int64GetDatum((int64) lr_rule_set_prepared(policy->rule_set));
	lr_policy_release(policy);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), row, nulls));
}
