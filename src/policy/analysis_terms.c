/*
 * analysis_terms.c: from a condition's expressions to boxes.
 *
 * What compares a column with constants becomes an atom: equality and order, IN, NOT IN, BETWEEN, IS NULL, IS DISTINCT FROM,
 * booleans, attributes ? 'member', COALESCE of a column with a constant. AND, OR and NOT join them; anything else is unknown,
 * with a word for what it is.
 */
#include "policy/analysis.h"

#include "access/stratnum.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

static LrFormula *make_formula(LrFormulaKind kind);
static LrFormula *make_unknown(const char *what);
static LrFormula *negate(LrFormula *formula);
static LrFormula *of_boolean(LrAnalysis *analysis, BoolExpr *expression);
static LrFormula *of_column(LrAnalysis *analysis, Expr *expression, LrPoint point, LrAtomKind atom);
static LrFormula *of_comparison(LrAnalysis *analysis, OpExpr *comparison);
static LrFormula *of_membership(LrAnalysis *analysis, ScalarArrayOpExpr *membership);
static LrFormula *of_distinct(LrAnalysis *analysis, DistinctExpr *distinct);
static LrFormula *of_truth(LrAnalysis *analysis, BooleanTest *test);
static bool find_column(LrAnalysis *analysis, Expr *expression, LrFormula *atom);
static bool find_base(Expr *expression, int *fact, char **member);
static Oid	cast_type(Expr *expression, Expr **argument);
static int	strategy_of(Oid operator, LrColumn *column, Oid constant_type, Oid collation);
static bool point_of(LrColumn *column, Oid type, Datum value, LrPoint *point, int *beside);
static const char *describe(Expr *expression);

static LrFormula *
make_formula(LrFormulaKind kind)
{
	LrFormula  *formula = palloc0(sizeof(LrFormula));

	formula->kind = kind;
	return formula;
}

static LrFormula *
make_unknown(const char *what)
{
	LrFormula  *formula = make_formula(LR_FORMULA_UNKNOWN);

	formula->unknown = what;
	return formula;
}

static LrFormula *
negate(LrFormula *formula)
{
	LrFormula  *result = make_formula(LR_FORMULA_NOT);

	result->arguments = list_make1(formula);
	return result;
}

/* Reads a boolean expression, in the current memory context; columns that it compares get to know its constants. */
LrFormula *
lr_formula_of(LrAnalysis *analysis, Expr *expression)
{
	LrFormula  *formula;

	switch (nodeTag(expression))
	{
		case T_Const:
			formula = make_formula(LR_FORMULA_CONSTANT);
			formula->truth = ((Const *) expression)->constisnull ? LR_NULL : DatumGetBool(((Const *) expression)->constvalue) ? LR_TRUE : LR_FALSE;
			return formula;
		case T_BoolExpr:
			return of_boolean(analysis, (BoolExpr *) expression);
		case T_OpExpr:
			return of_comparison(analysis, (OpExpr *) expression);
		case T_ScalarArrayOpExpr:
			return of_membership(analysis, (ScalarArrayOpExpr *) expression);
		case T_DistinctExpr:
			return of_distinct(analysis, (DistinctExpr *) expression);
		case T_BooleanTest:
			return of_truth(analysis, (BooleanTest *) expression);
		case T_NullTest:
			if (((NullTest *) expression)->argisrow)
				return make_unknown("row");
			formula = of_column(analysis, ((NullTest *) expression)->arg, (LrPoint) {.number = 0}, LR_ATOM_NULL);
			if (formula->kind == LR_FORMULA_ATOM && formula->has_default)
				return make_unknown("COALESCE");
			return ((NullTest *) expression)->nulltesttype == IS_NULL ? formula : negate(formula);
		default:
			/* a boolean column: consent, coalesce(consent, false), (attributes->>'vip')::boolean */
			return of_column(analysis, expression, (LrPoint) {.number = 1}, LR_ATOM_IN);
	}
}

static LrFormula *
of_boolean(LrAnalysis *analysis, BoolExpr *expression)
{
	LrFormula  *formula;
	ListCell   *cell;

	if (expression->boolop == NOT_EXPR)
		return negate(lr_formula_of(analysis, linitial(expression->args)));
	formula = make_formula(expression->boolop == AND_EXPR ? LR_FORMULA_AND : LR_FORMULA_OR);
	foreach(cell, expression->args)
		formula->arguments = lappend(formula->arguments, lr_formula_of(analysis, lfirst(cell)));
	return formula;
}

/* Makes an atom of an expression that is a column. */
static LrFormula *
of_column(LrAnalysis *analysis, Expr *expression, LrPoint point, LrAtomKind kind)
{
	LrFormula  *atom = make_formula(LR_FORMULA_ATOM);

	if (!find_column(analysis, expression, atom))
		return make_unknown(describe(expression));
	/* what is not boolean cannot be a condition by itself */
	if (kind == LR_ATOM_IN && atom->column->type != BOOLOID)
		return make_unknown(describe(expression));
	atom->atom = kind;
	if (kind != LR_ATOM_NULL)
	{
		atom->npoints = 1;
		atom->points = palloc(sizeof(LrPoint));
		atom->points[0] = point;
	}
	return atom;
}

static LrFormula *
of_comparison(LrAnalysis *analysis, OpExpr *comparison)
{
	LrFormula  *atom = make_formula(LR_FORMULA_ATOM);
	Expr	   *left = linitial(comparison->args);
	Const	   *constant = list_length(comparison->args) == 2 ? lsecond(comparison->args) : NULL;
	Oid			operator = comparison->opno;
	Oid			negator;
	int			strategy;
	int			beside = 0;
	char	   *member;
	int			fact;

	if (comparison->opfuncid == F_JSONB_EXISTS && constant && IsA(constant, Const) && !constant->constisnull && IsA(left, Var))
	{
		fact = ((Var *) left)->varattno - 1;
		if (fact != LR_ATTRIBUTES && fact < LR_N_FACTS)
			return make_unknown(describe((Expr *) comparison));
		member = TextDatumGetCString(constant->constvalue);
		atom->column = lr_column_of(analysis, fact, member, InvalidOid);
		atom->column->asked_for = true;
		atom->atom = LR_ATOM_EXISTS;
		return atom;
	}
	if (constant && IsA(left, Const) && !IsA(constant, Const))
	{
		left = lsecond(comparison->args);
		constant = linitial(comparison->args);
		operator = get_commutator(operator);
	}
	if (constant == NULL || !IsA(constant, Const) || !find_column(analysis, left, atom))
		return make_unknown(describe((Expr *) comparison));
	strategy = strategy_of(operator, atom->column, constant->consttype, comparison->inputcollid);
	if (strategy == 0)
	{
		negator = get_negator(operator);
		if (!OidIsValid(negator) || strategy_of(negator, atom->column, constant->consttype, comparison->inputcollid) != BTEqualStrategyNumber)
			return make_unknown(describe((Expr *) comparison));
	}
	if (constant->constisnull)
	{
		LrFormula  *null = make_formula(LR_FORMULA_CONSTANT);

		null->truth = LR_NULL;
		return null;
	}
	atom->points = palloc0(sizeof(LrPoint));
	if (!point_of(atom->column, constant->consttype, constant->constvalue, &atom->points[0], &beside))
		return make_unknown(describe((Expr *) comparison));
	atom->npoints = 1;
	switch (strategy)
	{
		case 0:
		case BTEqualStrategyNumber:
			/* 10.5 is no integer, and none is equal to it */
			atom->npoints = beside == 0 ? 1 : 0;
			atom->atom = LR_ATOM_IN;
			break;
		case BTLessStrategyNumber:
		case BTGreaterEqualStrategyNumber:
			/* less than 10.5 is less than or equal to 10 */
			atom->atom = beside > 0 ? LR_ATOM_LESS_EQUAL : LR_ATOM_LESS;
			break;
		default:
			atom->atom = beside < 0 ? LR_ATOM_LESS : LR_ATOM_LESS_EQUAL;
			break;
	}
	if (atom->npoints > 0)
		lr_column_add_point(atom->column, atom->points[0]);
	return strategy == 0 || strategy == BTGreaterStrategyNumber || strategy == BTGreaterEqualStrategyNumber ? negate(atom) : atom;
}

static LrFormula *
of_membership(LrAnalysis *analysis, ScalarArrayOpExpr *membership)
{
	LrFormula  *atom = make_formula(LR_FORMULA_ATOM);
	Const	   *constant = lsecond(membership->args);
	Oid			operator = membership->opno;
	Oid			type;
	int16		length;
	bool		by_value;
	char		align;
	Datum	   *values;
	bool	   *nulls;
	int			n;

	if (!IsA(constant, Const) || constant->constisnull || !find_column(analysis, linitial(membership->args), atom))
		return make_unknown(describe((Expr *) membership));
	type = get_element_type(constant->consttype);
	/* = ANY is IN, <> ALL is NOT IN */
	if (!membership->useOr)
		operator = get_negator(operator);
	if (!OidIsValid(type) || !OidIsValid(operator) || strategy_of(operator, atom->column, type, membership->inputcollid) != BTEqualStrategyNumber)
		return make_unknown(describe((Expr *) membership));
	get_typlenbyvalalign(type, &length, &by_value, &align);
	deconstruct_array(DatumGetArrayTypeP(constant->constvalue), type, length, by_value, align, &values, &nulls, &n);
	atom->atom = LR_ATOM_IN;
	atom->points = palloc(sizeof(LrPoint) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		int			beside;

		if (nulls[i])
			atom->null_listed = true;
		else if (!point_of(atom->column, type, values[i], &atom->points[atom->npoints], &beside))
			return make_unknown(describe((Expr *) membership));
		else if (beside == 0)
			lr_column_add_point(atom->column, atom->points[atom->npoints++]);
	}
	/* x IN () is false for null, too */
	if (n == 0)
		return make_unknown("an empty list");
	return membership->useOr ? atom : negate(atom);
}

static LrFormula *
of_distinct(LrAnalysis *analysis, DistinctExpr *distinct)
{
	LrFormula  *atom = make_formula(LR_FORMULA_ATOM);
	Expr	   *left = linitial(distinct->args);
	Const	   *constant = lsecond(distinct->args);
	int			beside;

	if (IsA(left, Const))
	{
		left = lsecond(distinct->args);
		constant = linitial(distinct->args);
	}
	if (!IsA(constant, Const) || !find_column(analysis, left, atom) || atom->has_default ||
		strategy_of(distinct->opno, atom->column, constant->consttype, distinct->inputcollid) != BTEqualStrategyNumber)
		return make_unknown(describe((Expr *) distinct));
	if (constant->constisnull)
		atom->atom = LR_ATOM_NULL;
	else
	{
		atom->atom = LR_ATOM_SAME;
		atom->points = palloc(sizeof(LrPoint));
		if (!point_of(atom->column, constant->consttype, constant->constvalue, &atom->points[0], &beside) || beside != 0)
			return make_unknown(describe((Expr *) distinct));
		atom->npoints = 1;
		lr_column_add_point(atom->column, atom->points[0]);
	}
	return negate(atom);
}

/* IS TRUE and its kin. */
static LrFormula *
of_truth(LrAnalysis *analysis, BooleanTest *test)
{
	BoolTestType kind = test->booltesttype;
	bool		of_null = kind == IS_UNKNOWN || kind == IS_NOT_UNKNOWN;
	LrPoint		point = {.number = kind == IS_TRUE || kind == IS_NOT_TRUE};
	LrFormula  *atom = of_column(analysis, test->arg, point, of_null ? LR_ATOM_NULL : LR_ATOM_SAME);

	if (atom->kind == LR_FORMULA_ATOM && atom->has_default)
		return make_unknown("COALESCE");
	return kind == IS_NOT_TRUE || kind == IS_NOT_FALSE || kind == IS_NOT_UNKNOWN ? negate(atom) : atom;
}

/* Recognises what can be a column, also one with a default, and enters it into an atom. */
static bool
find_column(LrAnalysis *analysis, Expr *expression, LrFormula *atom)
{
	int			fact;
	char	   *member;
	Expr	   *argument;
	Oid			cast;

	if (IsA(expression, CoalesceExpr) && list_length(((CoalesceExpr *) expression)->args) == 2)
	{
		Const	   *constant = lsecond(((CoalesceExpr *) expression)->args);
		int			beside;

		if (!IsA(constant, Const) || constant->constisnull || IsA(linitial(((CoalesceExpr *) expression)->args), CoalesceExpr) ||
			!find_column(analysis, linitial(((CoalesceExpr *) expression)->args), atom) ||
			!point_of(atom->column, constant->consttype, constant->constvalue, &atom->otherwise, &beside) || beside != 0)
			return false;
		lr_column_add_point(atom->column, atom->otherwise);
		atom->has_default = true;
		return true;
	}
	/* an integer compared with a decimal number */
	if (IsA(expression, FuncExpr) && (((FuncExpr *) expression)->funcid == F_NUMERIC_INT4 || ((FuncExpr *) expression)->funcid == F_NUMERIC_INT8))
		expression = linitial(((FuncExpr *) expression)->args);
	if (find_base(expression, &fact, &member))
	{
		Oid			type = member ? TEXTOID : fact < LR_N_FACTS ? lr_facts[fact].type : JSONBOID;

		if (type != TEXTOID && type != INT4OID && type != BOOLOID && type != TIMESTAMPTZOID)
			return false;
		atom->column = lr_column_of(analysis, fact, member, InvalidOid);
		return true;
	}
	cast = cast_type(expression, &argument);
	if (!OidIsValid(cast) || !find_base(argument, &fact, &member) || (member == NULL && lr_facts[fact].type != TEXTOID))
		return false;
	atom->column = lr_column_of(analysis, fact, member, cast);
	return true;
}

/* Recognises a fact, and a member of attributes or of an SQL agent's output. */
static bool
find_base(Expr *expression, int *fact, char **member)
{
	OpExpr	   *access = (OpExpr *) expression;
	Const	   *key;

	*member = NULL;
	if (IsA(expression, Var))
	{
		*fact = ((Var *) expression)->varattno - 1;
		return *fact < LR_N_FACTS;
	}
	if (!IsA(expression, OpExpr) || access->opfuncid != F_JSONB_OBJECT_FIELD_TEXT || !IsA(linitial(access->args), Var))
		return false;
	key = lsecond(access->args);
	if (!IsA(key, Const) || key->constisnull)
		return false;
	*fact = ((Var *) linitial(access->args))->varattno - 1;
	*member = TextDatumGetCString(key->constvalue);
	return *fact == LR_ATTRIBUTES || *fact >= LR_N_FACTS;
}

/* Recognises a cast through text to a type whose values are ordered as numbers are, InvalidOid for anything else. */
static Oid
cast_type(Expr *expression, Expr **argument)
{
	CoerceViaIO *cast = (CoerceViaIO *) expression;
	CaseExpr   *guarded;

	if (!IsA(expression, CoerceViaIO))
		return InvalidOid;
	*argument = cast->arg;
	switch (cast->resulttype)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case NUMERICOID:
		case BOOLOID:
			return cast->resulttype;
		case DATEOID:
			/* lr_refuse_moving_data() put a CASE around it, whose ELSE is the text itself */
			guarded = (CaseExpr *) cast->arg;
			if (!IsA(guarded, CaseExpr) || guarded->arg || list_length(guarded->args) != 1)
				return InvalidOid;
			*argument = guarded->defresult;
			return DATEOID;
		default:
			return InvalidOid;
	}
}

/* Returns how an operator compares a column with a constant, as an index would; 0 if it does not. */
static int
strategy_of(Oid operator, LrColumn *column, Oid constant_type, Oid collation)
{
	TypeCacheEntry *type = lookup_type_cache(column->type, TYPECACHE_BTREE_OPFAMILY);

	if (!OidIsValid(operator) || (column->type == TEXTOID && collation != C_COLLATION_OID))
		return 0;
	if (column->kind == LR_COLUMN_NUMBER && constant_type == NUMERICOID)
		type = lookup_type_cache(NUMERICOID, TYPECACHE_BTREE_OPFAMILY);
	else if (column->type != constant_type && type->btree_opf != INTEGER_BTREE_FAM_OID)
		return 0;
	return get_op_opfamily_strategy(operator, type->btree_opf);
}

/*
 * Reads a constant that a column is compared with. *beside: 0 if it is a value of the column's type; otherwise the point is the
 * nearest that is, and lies before (1) or behind (-1) the constant.
 */
static bool
point_of(LrColumn *column, Oid type, Datum value, LrPoint *point, int *beside)
{
	*beside = 0;
	if (column->kind == LR_COLUMN_TEXT)
	{
		point->text = TextDatumGetCString(value);
		return type == TEXTOID;
	}
	if (column->kind == LR_COLUMN_DECIMAL)
	{
		point->decimal = DatumGetNumericCopy(value);
		return type == NUMERICOID;
	}
	switch (type)
	{
		case BOOLOID:
			point->number = DatumGetBool(value);
			return column->type == BOOLOID;
		case DATEOID:
			point->number = DatumGetDateADT(value);
			return column->type == DATEOID && !DATE_NOT_FINITE(point->number);
		case TIMESTAMPTZOID:
			point->number = DatumGetTimestampTz(value);
			return column->type == TIMESTAMPTZOID && !TIMESTAMP_NOT_FINITE(point->number);
		case INT2OID:
			point->number = DatumGetInt16(value);
			break;
		case INT4OID:
			point->number = DatumGetInt32(value);
			break;
		case INT8OID:
			point->number = DatumGetInt64(value);
			break;
		case NUMERICOID:
			{
				Datum		whole;

				/* beyond int8 or NaN: nobody compares an attribute with that */
				if (numeric_is_nan(DatumGetNumeric(value)) || numeric_is_inf(DatumGetNumeric(value)) ||
					DatumGetBool(DirectFunctionCall2(numeric_gt, DirectFunctionCall1(numeric_abs, value),
													 DirectFunctionCall1(int8_numeric, Int64GetDatum(INT64CONST(1000000000000000))))))
					return false;
				whole = DirectFunctionCall1(numeric_floor, value);
				point->number = DatumGetInt64(DirectFunctionCall1(numeric_int8, whole));
				*beside = DatumGetBool(DirectFunctionCall2(numeric_eq, whole, value)) ? 0 : 1;
				break;
			}
		default:
			return false;
	}
	if (column->type != INT2OID && column->type != INT4OID && column->type != INT8OID)
		return false;
	if (column->type == INT4OID && (point->number > PG_INT32_MAX || point->number < PG_INT32_MIN))
	{
		*beside = point->number > 0 ? 1 : -1;
		point->number = point->number > 0 ? PG_INT32_MAX : PG_INT32_MIN;
	}
	if (column->type == INT2OID && (point->number > PG_INT16_MAX || point->number < PG_INT16_MIN))
	{
		*beside = point->number > 0 ? 1 : -1;
		point->number = point->number > 0 ? PG_INT16_MAX : PG_INT16_MIN;
	}
	return true;
}

/* Names what the analysis does not know, by the function that stands for it where there is one. */
static const char *
describe(Expr *expression)
{
	OpExpr	   *operation = (OpExpr *) expression;
	char	   *name;
	const char *inner = NULL;
	ListCell   *cell;

	switch (nodeTag(expression))
	{
		case T_OpExpr:
			name = get_opname(operation->opno);
			foreach(cell, operation->args)
			{
				Expr	   *argument = lfirst(cell);

				if (inner == NULL && !IsA(argument, Var) && !IsA(argument, Const))
					inner = describe(argument);
			}
			if (inner)
				return inner;
			if (name && strstr(name, "~"))
				return psprintf("a pattern (%s)", name);
			if (list_length(operation->args) == 2 && !IsA(lsecond(operation->args), Const) && !IsA(linitial(operation->args), Const))
				return "a comparison of two attributes";
			return psprintf("operator %s", name ? name : "?");
		case T_ScalarArrayOpExpr:
			return IsA(lsecond(((ScalarArrayOpExpr *) expression)->args), Const) ? describe(linitial(((ScalarArrayOpExpr *) expression)->args)) :
				"a list that is not constant";
		case T_FuncExpr:
			name = get_func_name(((FuncExpr *) expression)->funcid);
			return psprintf("function %s()", name ? name : "?");
		case T_CoerceViaIO:
			return psprintf("a cast to %s", format_type_be(((CoerceViaIO *) expression)->resulttype));
		case T_CoerceToDomain:
			return psprintf("a cast to %s", format_type_be(((CoerceToDomain *) expression)->resulttype));
		case T_RelabelType:
			return describe(((RelabelType *) expression)->arg);
		case T_CaseExpr:
			return "CASE";
		case T_CoalesceExpr:
			return "COALESCE";
		case T_MinMaxExpr:
			return "GREATEST or LEAST";
		case T_NullIfExpr:
			return "NULLIF";
		case T_DistinctExpr:
			return "IS DISTINCT FROM";
		case T_CollateExpr:
			return "a collation";
		case T_ArrayExpr:
		case T_ArrayCoerceExpr:
			return "an array";
		default:
			return "a comparison of another kind";
	}
}

/* Returns the first thing in a formula that the analysis does not know, NULL if there is none. */
const char *
lr_formula_unknown(const LrFormula *formula)
{
	ListCell   *cell;

	if (formula->kind == LR_FORMULA_UNKNOWN)
		return formula->unknown;
	foreach(cell, formula->arguments)
	{
		const char *unknown = lr_formula_unknown(lfirst(cell));

		if (unknown)
			return unknown;
	}
	return NULL;
}
