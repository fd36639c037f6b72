/*
 * analysis_witness.c: a lead that shows a finding, and the proof that it does.
 *
 * Of a region a lead is made that says as little as possible: columns that the region does not narrow are left out where they
 * may be null, others get a constant that rules name, or a value between two. It is written as JSON, read back as
 * match_rules() reads it, and the server's executor evaluates the conditions. Where a rule asks for what the analysis does
 * not know (country LIKE 'A%'), the constants of that part are tried as values of the attributes that it reads: if one of
 * them makes it true, the lead shows the finding; if none does, there is no finding.
 */
#include "policy/analysis.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "policy/condition_check.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/formatting.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

/* Texts that are tried for one column. */
#define MAX_TEXTS 200

/* A value that a lead gets whatever the region says. */
typedef struct Override
{
	int			fact;
	char	   *member;
	char	   *text;
} Override;

/* What a part that the analysis does not know is made of. */
typedef struct Parts
{
	List	   *bases;			/* of LrBase: texts that it reads */
	List	   *texts;			/* of char *: constants, and what patterns begin with */
} Parts;

typedef struct Cast
{
	Oid			type;
	char	   *text;
	Datum		value;
} Cast;

typedef enum Pick
{
	PICK_OMIT,
	PICK_NULL,
	PICK_TEXT,
	PICK_LITERAL				/* JSON as it is */
} Pick;

static void make_lead(LrAnalysis *analysis, const LrSet **region, List *overrides, LrWitness *witness);
static char *lead_json(LrAnalysis *analysis, const LrSet **region, List *overrides, bool all);
static void append_base(StringInfo json, LrAnalysis *analysis, const LrBase *base, Pick pick, const char *value);
static bool has_document(const LrSet **region, const LrBase *base);
static Pick pick_value(LrAnalysis *analysis, const LrSet **region, const LrBase *base, const char **value);
static Pick pick_text(const LrSet **region, const LrBase *base, const char **value);
static bool fits_all(const LrSet **region, const LrBase *base, char *text);
static bool asks_nothing(const LrColumn *column, const LrSet *set);
static int32 pick_cell(const LrColumn *column, const LrSet *set);
static const Override *override_of(List *overrides, const LrBase *base);
static void call_input(void *argument);
static bool satisfy(LrAnalysis *analysis, const LrSet **region, const LrSubject *subject, List **overrides, LrWitness *witness);
static bool satisfy_part(LrAnalysis *analysis, const LrSet **region, LrConjunct *conjunct, List **overrides, LrWitness *witness);
static bool conjunct_holds(LrAnalysis *analysis, LrConjunct *conjunct, const LrWitness *witness);
static bool collect_parts(Node *node, void *argument);
static void add_text(Parts *parts, const char *text);

/*
 * Finds a lead in a region for which one or two subjects hold, NULL for none, in the current memory context. Returns false if
 * the lead that it makes does not show it.
 */
bool
lr_witness_find(LrAnalysis *analysis, const LrSet **region, const LrSubject *one, const LrSubject *other, LrWitness *witness)
{
	List	   *overrides = NIL;

	region = lr_region_consistent(analysis, region);
	if (region == NULL)
		return false;
	make_lead(analysis, region, NIL, witness);
	if (one && !satisfy(analysis, region, one, &overrides, witness))
		return false;
	if (other && !satisfy(analysis, region, other, &overrides, witness))
		return false;
	return one == NULL || lr_witness_truth(analysis, witness, one) == LR_TRUE;
}

/* Says whether a subject holds for a witness. */
LrTruth
lr_witness_truth(LrAnalysis *analysis, const LrWitness *witness, const LrSubject *subject)
{
	LrConditionError error;
	LrTruth		truth;
	int			step = -1;

	if (subject->rule)
	{
		while ((step = bms_next_member(subject->rule->prerequisites, step)) >= 0)
		{
			if ((witness->done & ((uint32) 1 << step)) == 0)
				return LR_FALSE;
		}
	}
	truth = lr_condition_evaluate(subject->when, analysis->evaluator, witness->values, witness->isnull, &error);
	ResetExprContext(analysis->evaluator->context);
	return truth;
}

/* Tries all rules for a witness, one by one, as if more than one could decide. */
void
lr_witness_match(LrAnalysis *analysis, LrWitness *witness)
{
	lr_rules_match(&analysis->all_hits, witness->done, witness->values, witness->isnull, false, &witness->match);
	ResetExprContext(analysis->evaluator->context);
}

/* Tells whether a rule is among those that held. */
bool
lr_witness_hits(const LrWitness *witness, const LrSubject *subject)
{
	for (int i = 0; i < witness->match.nhits; i++)
	{
		if (witness->match.hits[i] == subject->rule->number)
			return true;
	}
	return false;
}

/* Returns the stop condition that ends the run of a witness before rules are asked, NULL if none does. */
const LrSubject *
lr_witness_stop(LrAnalysis *analysis, const LrWitness *witness)
{
	for (int i = 0; i < analysis->nstops; i++)
	{
		LrTruth		truth = lr_witness_truth(analysis, witness, &analysis->subjects[i]);

		if (truth == LR_TRUE || truth == LR_ERROR)
			return &analysis->subjects[i];
	}
	return NULL;
}

/* ---- the lead ---- */

static void
make_lead(LrAnalysis *analysis, const LrSet **region, List *overrides, LrWitness *witness)
{
	LrPolicy   *policy = analysis->policy;
	int			nfacts = policy->scope->nfacts;
	Datum		all = DirectFunctionCall1(jsonb_in, CStringGetDatum(lead_json(analysis, region, overrides, true)));

	memset(witness, 0, sizeof(*witness));
	witness->values = palloc(sizeof(Datum) * nfacts);
	witness->isnull = palloc(sizeof(bool) * nfacts);
	memset(witness->isnull, true, sizeof(bool) * nfacts);
	lr_facts_read(policy->scope, lr_json_of_jsonb(all), true, witness->values, witness->isnull);
	witness->lead = DirectFunctionCall1(jsonb_in, CStringGetDatum(lead_json(analysis, region, overrides, false)));
	witness->done = PG_UINT32_MAX;
	for (int i = 0; i < policy->nsteps; i++)
	{
		int			sign = lr_step_sign(&policy->steps[i]);

		if (sign >= 0 && witness->isnull[sign] && lr_step_may_be_skipped(policy, i))
		{
			for (int c = 0; c < analysis->ncolumns; c++)
			{
				if (analysis->columns[c]->base->fact == sign)
					witness->done &= ~((uint32) 1 << i);
			}
		}
	}
}

/* Writes the lead as facts by their names. all: also what only stop conditions read. */
static char *
lead_json(LrAnalysis *analysis, const LrSet **region, List *overrides, bool all)
{
	StringInfoData json;
	ListCell   *cell;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	for (int fact = 0; fact < analysis->policy->scope->nfacts; fact++)
	{
		StringInfoData members;
		bool		document = false;

		initStringInfo(&members);
		foreach(cell, analysis->bases)
		{
			const LrBase *base = lfirst(cell);
			const Override *override = override_of(overrides, base);
			StringInfo	to = base->member ? &members : &json;
			bool		wanted = all || override;
			const char *value = override ? override->text : NULL;
			Pick		pick;
			ListCell   *column;

			foreach(column, base->columns)
				wanted |= ((LrColumn *) lfirst(column))->read_by_rules;
			if (base->fact != fact || !wanted)
				continue;
			document |= base->member && has_document(region, base);
			pick = override ? PICK_TEXT : pick_value(analysis, region, base, &value);
			append_base(to, analysis, base, pick, value);
		}
		foreach(cell, overrides)
		{
			const Override *override = lfirst(cell);
			LrBase		base = {.fact = override->fact,.member = override->member};
			bool		known = false;

			for (int i = 0; i < list_length(analysis->bases); i++)
				known |= override_of(list_make1(lfirst(cell)), list_nth(analysis->bases, i)) != NULL;
			if (override->fact == fact && !known)
				append_base(override->member ? &members : &json, analysis, &base, PICK_TEXT, override->text);
		}
		if (members.len > 0 || document)
		{
			appendStringInfoString(&json, json.len > 1 ? ", " : "");
			escape_json(&json, lr_fact_name(analysis->policy->scope, fact));
			appendStringInfo(&json, ": {%s}", members.data);
		}
		pfree(members.data);
	}
	appendStringInfoChar(&json, '}');
	return json.data;
}

static void
append_base(StringInfo json, LrAnalysis *analysis, const LrBase *base, Pick pick, const char *value)
{
	if (pick == PICK_OMIT)
		return;
	/* a list of members begins with none, the lead with its brace */
	if (json->len > 0 && json->data[json->len - 1] != '{')
		appendStringInfoString(json, ", ");
	escape_json(json, base->member ? base->member : lr_fact_name(analysis->policy->scope, base->fact));
	appendStringInfoString(json, ": ");
	if (pick == PICK_NULL)
		appendStringInfoString(json, "null");
	else if (pick == PICK_TEXT)
		escape_json(json, value);
	else
		appendStringInfoString(json, value);
}

/* Tells whether the document has to be there, although the member may be missing. */
static bool
has_document(const LrSet **region, const LrBase *base)
{
	ListCell   *cell;

	foreach(cell, base->columns)
	{
		const LrColumn *column = lfirst(cell);

		if (!OidIsValid(column->cast) && !lr_set_has(region[column->number], LR_CELL_NOTHING))
			return true;
	}
	return false;
}

/* Chooses what a lead of a region has in a base. */
static Pick
pick_value(LrAnalysis *analysis, const LrSet **region, const LrBase *base, const char **value)
{
	const LrColumn *column = linitial(base->columns);
	StringInfoData json;
	LrPoint		point;

	if (base->member || lr_facts[base->fact].type == TEXTOID)
		return pick_text(region, base, value);
	if (!lr_column_value(column, pick_cell(column, region[column->number]), &point))
		return PICK_OMIT;
	initStringInfo(&json);
	lr_fact_to_json(&json, base->fact, column->type == BOOLOID ? BoolGetDatum(point.number != 0) : column->type == INT4OID ? Int32GetDatum((int32) point.number) :
					TimestampTzGetDatum(point.number));
	*value = json.data;
	return PICK_LITERAL;
}

/* Chooses a text that all columns of a base admit, or one of the ways to have none. */
static Pick
pick_text(const LrSet **region, const LrBase *base, const char **value)
{
	const LrColumn *first = linitial(base->columns);
	int32		cell;
	int			tried = 0;
	LrPoint		point;
	ListCell   *each;

	if (list_length(base->columns) == 1)
	{
		cell = pick_cell(first, region[first->number]);
		if (lr_column_value(first, cell, &point))
		{
			*value = lr_point_text(first, point);
			return PICK_TEXT;
		}
		*value = "x";
		return cell == LR_CELL_ERROR ? PICK_TEXT : cell == LR_CELL_JSON_NULL ? PICK_NULL : PICK_OMIT;
	}
	/* what the most special of the columns admits, until it suits the others */
	foreach(each, base->columns)
	{
		const LrColumn *column = lfirst(each);
		const LrSet *set = region[column->number];

		if (asks_nothing(column, set))
			continue;
		/* constants before what lies between them */
		for (int constants = 1; constants >= 0; constants--)
		{
			for (int r = 0; r < set->n; r++)
			{
				for (cell = Max(set->ranges[r].low, LR_CELL_ERROR); cell <= set->ranges[r].high && tried < MAX_TEXTS; cell++)
				{
					char	   *text = "x";

					if (cell >= LR_CELL_VALUES && lr_cell_is_point(column, cell) != (constants == 1))
						continue;
					if (cell >= LR_CELL_VALUES && lr_column_value(column, cell, &point))
						text = lr_point_text(column, point);
					tried++;
					/* a cast passes over a space, a comparison of texts does not */
					for (int spaces = 0; spaces <= 1; spaces++)
					{
						if (spaces)
							text = psprintf(" %s", text);
						if (fits_all(region, base, text))
						{
							*value = text;
							return PICK_TEXT;
						}
					}
				}
			}
		}
	}
	foreach(each, base->columns)
	{
		if (!OidIsValid(((LrColumn *) lfirst(each))->cast))
			first = lfirst(each);
	}
	return lr_set_has(region[first->number], LR_CELL_JSON_NULL) && !lr_set_has(region[first->number], LR_CELL_ABSENT) ? PICK_NULL : PICK_OMIT;
}

static bool
fits_all(const LrSet **region, const LrBase *base, char *text)
{
	ListCell   *cell;

	foreach(cell, base->columns)
	{
		const LrColumn *column = lfirst(cell);

		if (!lr_set_has(region[column->number], OidIsValid(column->cast) ? lr_cast_cell(column, text) : lr_column_cell(column, (LrPoint) {.text = text})))
			return false;
	}
	return true;
}

/* Returns the cell of what a text is cast to. */
int32
lr_cast_cell(const LrColumn *column, char *text)
{
	Cast		cast = {.type = column->cast,.text = text};
	LrPoint		point;
	int			sqlstate;

	if (!lr_guard(call_input, &cast, &sqlstate))
		return LR_CELL_ERROR;
	switch (column->cast)
	{
		case INT2OID:
			point.number = DatumGetInt16(cast.value);
			break;
		case INT8OID:
			point.number = DatumGetInt64(cast.value);
			break;
		case BOOLOID:
			point.number = DatumGetBool(cast.value);
			break;
		case NUMERICOID:
			point.decimal = DatumGetNumeric(cast.value);
			break;
		default:
			point.number = DatumGetInt32(cast.value);
			break;
	}
	return lr_column_cell(column, point);
}

static void
call_input(void *argument)
{
	Cast	   *cast = argument;
	Oid			function;
	Oid			parameter;

	getTypeInputInfo(cast->type, &function, &parameter);
	cast->value = OidInputFunctionCall(function, cast->text, parameter, -1);
}

/* Tells whether a set asks for nothing, but perhaps that there is a document. */
static bool
asks_nothing(const LrColumn *column, const LrSet *set)
{
	return lr_set_overlaps(set, lr_set_of(LR_CELL_NOTHING, LR_CELL_ABSENT)) && lr_set_contains(set, column->values) &&
		(lr_set_equal(set, column->universe) || lr_set_has(set, LR_CELL_ABSENT));
}

/* Chooses a cell of a set: nothing where anything will do, otherwise a constant, then what lies between, then what is none. */
static int32
pick_cell(const LrColumn *column, const LrSet *set)
{
	int32		between = -1;
	static const int32 special[] = {LR_CELL_ABSENT, LR_CELL_JSON_NULL, LR_CELL_NOTHING, LR_CELL_ERROR};

	if (asks_nothing(column, set))
		return lr_set_has(set, LR_CELL_ABSENT) ? LR_CELL_ABSENT : LR_CELL_NOTHING;
	if (column->usual)
	{
		int32		cell = lr_column_cell(column, (LrPoint) {.text = unconstify(char *, column->usual)});

		if (lr_set_has(set, cell))
			return cell;
	}
	for (int r = 0; r < set->n; r++)
	{
		int32		low = Max(set->ranges[r].low, LR_CELL_VALUES);

		for (int32 cell = low; cell <= Min(set->ranges[r].high, low + 1); cell++)
		{
			if (lr_cell_is_point(column, cell))
				return cell;
			if (between < 0)
				between = cell;
		}
	}
	if (between >= 0)
		return between;
	for (int i = 0; i < (int) lengthof(special); i++)
	{
		if (lr_set_has(set, special[i]))
			return special[i];
	}
	return LR_CELL_NOTHING;
}

static const Override *
override_of(List *overrides, const LrBase *base)
{
	ListCell   *cell;

	foreach(cell, overrides)
	{
		const Override *override = lfirst(cell);

		if (override->fact == base->fact && (override->member == NULL) == (base->member == NULL) &&
			(base->member == NULL || strcmp(override->member, base->member) == 0))
			return override;
	}
	return NULL;
}

/* ---- what the analysis does not know ---- */

/* Makes those parts of a condition true that the analysis does not know, if trying can. */
static bool
satisfy(LrAnalysis *analysis, const LrSet **region, const LrSubject *subject, List **overrides, LrWitness *witness)
{
	for (int i = 0; i < subject->when->nconjuncts && !subject->exact; i++)
	{
		LrConjunct *conjunct = &subject->when->conjuncts[i];

		if (lr_formula_unknown(subject->conjuncts[i]) && !conjunct_holds(analysis, conjunct, witness) &&
			!satisfy_part(analysis, region, conjunct, overrides, witness))
			return false;
	}
	return lr_witness_truth(analysis, witness, subject) == LR_TRUE;
}

static bool
satisfy_part(LrAnalysis *analysis, const LrSet **region, LrConjunct *conjunct, List **overrides, LrWitness *witness)
{
	Parts		parts = {NIL, NIL};
	ListCell   *base_cell;
	ListCell   *text_cell;

	(void) collect_parts((Node *) conjunct->expression, &parts);
	foreach(base_cell, parts.bases)
	{
		const LrBase *read = lfirst(base_cell);
		const LrBase *base = NULL;
		ListCell   *cell;

		/* what another part has settled stays */
		if (override_of(*overrides, read))
			continue;
		foreach(cell, analysis->bases)
		{
			const LrBase *known = lfirst(cell);

			if (known->fact == read->fact && (known->member == NULL) == (read->member == NULL) &&
				(known->member == NULL || strcmp(known->member, read->member) == 0))
				base = known;
		}
		foreach(text_cell, parts.texts)
		{
			Override   *override = palloc(sizeof(Override));
			List	   *more;

			CHECK_FOR_INTERRUPTS();
			if (base && !fits_all(region, base, lfirst(text_cell)))
				continue;
			*override = (Override) {.fact = read->fact,.member = read->member,.text = lfirst(text_cell)};
			more = lappend(list_copy(*overrides), override);
			make_lead(analysis, region, more, witness);
			if (conjunct_holds(analysis, conjunct, witness))
			{
				*overrides = more;
				return true;
			}
		}
	}
	return false;
}

static bool
conjunct_holds(LrAnalysis *analysis, LrConjunct *conjunct, const LrWitness *witness)
{
	LrConjunct	copy = *conjunct;
	LrCondition single = {.nconjuncts = 1,.conjuncts = &copy};
	LrConditionError error;
	LrTruth		truth;

	truth = lr_condition_evaluate(&single, analysis->evaluator, witness->values, witness->isnull, &error);
	conjunct->state = copy.state;
	ResetExprContext(analysis->evaluator->context);
	return truth == LR_TRUE;
}

/* Collects the texts that an expression reads, and the constants in it that could be their values. */
static bool
collect_parts(Node *node, void *argument)
{
	Parts	   *parts = argument;
	LrBase	   *base;

	if (node == NULL)
		return false;
	if (IsA(node, OpExpr) && ((OpExpr *) node)->opfuncid == F_JSONB_OBJECT_FIELD_TEXT)
	{
		Node	   *object = linitial(((OpExpr *) node)->args);
		Const	   *key = lsecond(((OpExpr *) node)->args);

		if (IsA(object, Var) && IsA(key, Const) && !key->constisnull)
		{
			base = palloc0(sizeof(LrBase));
			base->fact = ((Var *) object)->varattno - 1;
			base->member = TextDatumGetCString(key->constvalue);
			parts->bases = lappend(parts->bases, base);
			return false;
		}
	}
	if (IsA(node, Var) && ((Var *) node)->vartype == TEXTOID)
	{
		base = palloc0(sizeof(LrBase));
		base->fact = ((Var *) node)->varattno - 1;
		parts->bases = lappend(parts->bases, base);
	}
	if (IsA(node, Const) && !((Const *) node)->constisnull && list_length(parts->texts) < MAX_TEXTS)
	{
		Oid			function;
		bool		varlena;

		getTypeOutputInfo(((Const *) node)->consttype, &function, &varlena);
		add_text(parts, OidOutputFunctionCall(function, ((Const *) node)->constvalue));
	}
	return expression_tree_walker(node, collect_parts, argument);
}

/* Adds a constant, without what makes it a pattern, and in both cases. */
static void
add_text(Parts *parts, const char *text)
{
	char	   *plain = palloc(strlen(text) + 1);
	char	   *to = plain;

	for (const char *at = text; *at; at++)
	{
		if (strchr("%_^$*+?()|{}\"", *at) == NULL)
			*to++ = *at;
	}
	*to = '\0';
	parts->texts = lappend(parts->texts, plain);
	parts->texts = lappend(parts->texts, pstrdup(text));
	parts->texts = lappend(parts->texts, str_toupper(plain, strlen(plain), C_COLLATION_OID));
	parts->texts = lappend(parts->texts, str_tolower(plain, strlen(plain), C_COLLATION_OID));
}
