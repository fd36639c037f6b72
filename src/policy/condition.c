/*
 * condition.c: SQL boolean expressions over the facts of a lead.
 *
 * Data teams write conditions in the language they know; the server's parser reads them and its executor runs them. A name
 * in a condition becomes a Var that points into the array of facts. What would make a decision depend on anything but the
 * facts is refused when the condition is defined (condition_check.c).
 *
 * A condition is a conjunction, and its conjuncts are independent: any conjunct false makes it false; otherwise any error
 * makes it an error; otherwise any null makes it null. So neither the order of evaluation nor an index that skips what
 * cannot match changes what is seen. Conjuncts that cannot raise are evaluated first and bare; one that may raise runs in an
 * internal subtransaction (guard.c), and only if no other conjunct was false. A batch has one for all its leads (batch.c): only
 * a lead for which something did raise is looked at again, conjunct by conjunct.
 */
#include "policy/condition.h"

#include "policy/condition_check.h"

#include "access/stratnum.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parser.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

/* An IN list longer than this is not expanded into index keys. */
#define MAX_EQUALITY_VALUES 64

typedef struct Definition
{
	const char *text;
	const LrScope *scope;
	MemoryContext memory;
	Expr	   *expression;		/* the result */
	ErrorData  *error;			/* or what was wrong */
} Definition;

static void define(void *argument);
static Node *transform(const Definition *definition, List **literals);
static bool use_c_collation(Node *node, void *context);
static Node *raw_expression(const char *text);
static Node *resolve_name(ParseState *pstate, ColumnRef *cref);
static int	find_fact(const LrScope *scope, List *fields);
static void add_conjunct(LrCondition *condition, LrConjunct *conjunct, Expr *expression);
static LrTest *find_test(Expr *expression);
static bool find_column(Expr *expression, LrTestColumn *column);
static bool find_comparison(OpExpr *comparison, LrTest *test);
static bool find_membership(ScalarArrayOpExpr *membership, LrTest *test);
static void prepare_conjunct(LrConjunct *conjunct, MemoryContext memory);
static LrTruth evaluate_conjunct(LrConjunct *conjunct, LrEvaluator *evaluator, int *sqlstate);

/* ---- scope ---- */

/* Makes the scope of a policy version's conditions, in the current memory context. */
LrScope *
lr_scope_make(const LrExtraFact *extra, int nextra, const char *timezone)
{
	LrScope    *scope = palloc0(sizeof(LrScope));

	scope->nextra = nextra;
	scope->extra = palloc(sizeof(LrExtraFact) * Max(nextra, 1));
	for (int i = 0; i < nextra; i++)
		scope->extra[i] = (LrExtraFact) {.name = pstrdup(extra[i].name),.type = extra[i].type};
	scope->nfacts = LR_N_FACTS + nextra;
	scope->timezone = pstrdup(timezone);
	scope->desc = CreateTemplateTupleDesc(scope->nfacts);
	for (int i = 0; i < scope->nfacts; i++)
	{
		Oid			type = lr_fact_type(scope, i);

		TupleDescInitEntry(scope->desc, i + 1, i < LR_N_FACTS ? lr_facts[i].name : scope->extra[i - LR_N_FACTS].name, type, -1, 0);
		if (OidIsValid(get_typcollation(type)))
			TupleDescInitEntryCollation(scope->desc, i + 1, C_COLLATION_OID);
	}
	return scope;
}

/* Returns the type of a fact. */
Oid
lr_fact_type(const LrScope *scope, int fact)
{
	return fact < LR_N_FACTS ? lr_facts[fact].type : scope->extra[fact - LR_N_FACTS].type;
}

/* Finds a fact by its name, such as country, score or validateContact.status; -1 if there is none. As in SQL, case does not matter. */
int
lr_fact_find(const LrScope *scope, const char *name)
{
	for (int i = 0; i < LR_N_FACTS; i++)
	{
		const LrFactInfo *fact = &lr_facts[i];
		size_t		length = fact->capability ? strlen(fact->capability) : 0;

		if ((fact->capability == NULL || i == LR_SCORE || i == LR_TIER) && pg_strcasecmp(name, fact->name) == 0)
			return i;
		if (fact->capability && pg_strncasecmp(name, fact->capability, length) == 0 && name[length] == '.' &&
			pg_strcasecmp(name + length + 1, fact->name) == 0)
			return i;
	}
	for (int i = 0; i < scope->nextra; i++)
	{
		if (pg_strcasecmp(name, scope->extra[i].name) == 0)
			return LR_N_FACTS + i;
	}
	return -1;
}

/* Returns the name by which lr_fact_find() finds a fact. */
const char *
lr_fact_name(const LrScope *scope, int fact)
{
	if (fact >= LR_N_FACTS)
		return scope->extra[fact - LR_N_FACTS].name;
	return lr_facts[fact].capability ? psprintf("%s.%s", lr_facts[fact].capability, lr_facts[fact].name) : lr_facts[fact].name;
}

/* ---- definition ---- */

/*
 * Reads a condition, in the current memory context. Returns NULL, and notes the mistake with its place, if it is none or
 * not an allowed one.
 */
LrCondition *
lr_condition_parse(const char *text, const LrScope *scope, const char *place, LrMistakes *mistakes)
{
	Definition	definition = {.text = text,.scope = scope,.memory = CurrentMemoryContext};
	LrCondition *condition;
	List	   *conjuncts;
	ErrorContextCallback *callers = error_context_stack;
	int			nest;
	int			sqlstate;
	ListCell   *cell;

	if (scope->reading)
	{
		condition = palloc0(sizeof(LrCondition));
		condition->text = pstrdup(text);
		return condition;
	}
	nest = lr_settings_enter(scope->timezone);
	/* callers further out, such as a function in SQL, would take the place in our text for one in theirs */
	error_context_stack = NULL;
	/* errors of the definition are caught inside, with their message: it speaks of the author's own text */
	(void) lr_guard(define, &definition, &sqlstate);
	error_context_stack = callers;
	lr_settings_leave(nest);
	if (definition.expression == NULL)
	{
		ErrorData  *error = definition.error;

		if (error == NULL)
			lr_mistake(mistakes, place, NULL, "cannot be used: SQLSTATE %s", unpack_sql_state(sqlstate));
		else if (error->cursorpos > 0)
			lr_mistake(mistakes, place, lr_condition_hint(error, text), "%s, at character %d", error->message, error->cursorpos);
		else
			lr_mistake(mistakes, place, lr_condition_hint(error, text), "%s", error->message);
		return NULL;
	}

	condition = palloc0(sizeof(LrCondition));
	condition->text = pstrdup(text);
	conjuncts = make_ands_implicit(definition.expression);
	condition->conjuncts = palloc0(sizeof(LrConjunct) * Max(list_length(conjuncts), 1));
	/* what cannot raise comes first */
	for (int raising = 0; raising <= 1; raising++)
	{
		foreach(cell, conjuncts)
		{
			if (lr_may_raise(lfirst(cell)) == (raising == 1))
				add_conjunct(condition, &condition->conjuncts[condition->nconjuncts++], lfirst(cell));
		}
	}
	return condition;
}

/* Parses, checks and simplifies; an error becomes definition->error. */
static void
define(void *argument)
{
	Definition *definition = argument;

	MemoryContext scratch = AllocSetContextCreate(definition->memory, "leadroute condition", ALLOCSET_DEFAULT_SIZES);
	MemoryContext outside = MemoryContextSwitchTo(scratch);

	PG_TRY();
	{
		List	   *literals;
		Node	   *expression = transform(definition, &literals);
		MemoryContext saved;

		lr_check_expression(expression, definition->text, literals);
		lr_check_constants(expression, definition->text);
		expression = (Node *) expression_planner((Expr *) lr_refuse_moving_data(expression));
		saved = MemoryContextSwitchTo(definition->memory);
		definition->expression = copyObject((Expr *) expression);
		MemoryContextSwitchTo(saved);
	}
	PG_CATCH();
	{
		MemoryContext saved = MemoryContextSwitchTo(definition->memory);

		definition->error = CopyErrorData();
		MemoryContextSwitchTo(saved);
		PG_RE_THROW();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(outside);
	MemoryContextDelete(scratch);
}

/* Turns text into a boolean expression over facts. */
static Node *
transform(const Definition *definition, List **literals)
{
	ParseState *pstate = make_parsestate(NULL);
	Node	   *expression = raw_expression(definition->text);

	*literals = lr_check_raw_expression(expression, definition->text);
	pstate->p_sourcetext = definition->text;
	pstate->p_pre_columnref_hook = resolve_name;
	pstate->p_ref_hook_state = (void *) definition->scope;
	expression = transformExpr(pstate, expression, EXPR_KIND_WHERE);
	expression = coerce_to_boolean(pstate, expression, "a condition");
	assign_expr_collations(pstate, expression);
	(void) use_c_collation(expression, NULL);
	free_parsestate(pstate);
	return expression;
}

/* What has no collation of its own, such as attributes->>'city', would get the database's; here it is C, as for attributes. */
static bool
use_c_collation(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (!IsA(node, List) && !IsA(node, CaseWhen))
	{
		if (exprCollation(node) == DEFAULT_COLLATION_OID && !IsA(node, CollateExpr))
			exprSetCollation(node, C_COLLATION_OID);
		if (exprInputCollation(node) == DEFAULT_COLLATION_OID)
			exprSetInputCollation(node, C_COLLATION_OID);
	}
	return expression_tree_walker(node, use_c_collation, context);
}

/* Parses one bare expression, nothing before or behind it. */
static Node *
raw_expression(const char *text)
{
	List	   *statements = raw_parser(text, RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *select = (SelectStmt *) linitial_node(RawStmt, statements)->stmt;
	ResTarget  *target;

	if (list_length(select->targetList) > 1)
		ereport(ERROR,
				errcode(ERRCODE_SYNTAX_ERROR),
				errmsg("a condition has to be one boolean expression, and here are %d", list_length(select->targetList)),
				errhint("Connect them with AND or OR; write numbers without commas, lists as country IN ('DE', 'AT')."),
				errposition(pg_mbstrlen_with_len(text, lsecond_node(ResTarget, select->targetList)->location) + 1));
	if (!IsA(select, SelectStmt) || select->targetList == NIL || select->fromClause || select->whereClause ||
		select->groupClause || select->havingClause || select->windowClause || select->sortClause || select->limitCount ||
		select->limitOffset || select->lockingClause || select->distinctClause || select->op != SETOP_NONE)
		ereport(ERROR,
				errcode(ERRCODE_SYNTAX_ERROR),
				errmsg("a condition has to be one boolean expression"),
				errhint("Write what would stand behind WHERE, such as country = 'DE' AND company_size >= 50."));
	target = linitial_node(ResTarget, select->targetList);
	if (target->name && lr_condition_open_word(target->name))
		ereport(ERROR,
				errcode(ERRCODE_SYNTAX_ERROR),
				errmsg("a condition cannot end in %s", lr_condition_open_word(target->name)),
				errhint("Write what has to follow it, or leave it out."),
				errposition(pg_mbstrlen(text) + 1));
	if (target->name)
		ereport(ERROR,
				errcode(ERRCODE_SYNTAX_ERROR),
				errmsg("a condition cannot have an alias, such as \"%s\" here", target->name),
				errhint("Leave the word out, or write the operator that is missing before it."),
				errposition(pg_mbstrlen(text) + 1));
	return target->val;
}

/* Is the parser's hook for names: every name is a fact. */
static Node *
resolve_name(ParseState *pstate, ColumnRef *cref)
{
	const LrScope *scope = pstate->p_ref_hook_state;
	int			fact = find_fact(scope, cref->fields);
	Form_pg_attribute attribute;
	Var		   *var;

	if (fact < 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_COLUMN),
				errmsg("\"%s\" is neither an attribute of a lead nor an output of a step", NameListToString(cref->fields)),
				errhint("%s", lr_name_hint(cref->fields, pstate->p_sourcetext, cref->location)),
				parser_errposition(pstate, cref->location));
	attribute = TupleDescAttr(scope->desc, fact);
	var = makeVar(1, fact + 1, attribute->atttypid, -1, attribute->attcollation, 0);
	var->location = cref->location;
	return (Node *) var;
}

/* Finds a fact by its name as the parser has it; -1 if there is none. */
static int
find_fact(const LrScope *scope, List *fields)
{
	const char *first;

	if (list_length(fields) > 2 || !IsA(linitial(fields), String) || !IsA(llast(fields), String))
		return -1;
	first = strVal(linitial(fields));
	return lr_fact_find(scope, list_length(fields) == 2 ? psprintf("%s.%s", first, strVal(lsecond(fields))) : first);
}

/* Fills in one conjunct, and what the condition reads through it. */
static void
add_conjunct(LrCondition *condition, LrConjunct *conjunct, Expr *expression)
{
	conjunct->expression = expression;
	conjunct->may_raise = lr_may_raise((Node *) expression);
	conjunct->test = find_test(expression);
	condition->may_raise |= conjunct->may_raise;
	condition->timezone_matters |= lr_timezone_matters((Node *) expression);
	lr_find_reads((Node *) expression, condition);
}

/*
 * Adds the conjunct "fact operator constant" to a condition, in the current memory context. The operator is one that compares
 * two values of the fact's type, and cannot raise: it is evaluated before what may.
 */
void
lr_condition_add_bound(LrCondition *condition, int fact, const char *operator, Datum constant)
{
	Oid			type = lr_facts[fact].type;
	Oid			number = OpernameGetOprid(list_make2(makeString("pg_catalog"), makeString(pstrdup(operator))), type, type);
	int16		length;
	bool		by_value;
	LrConjunct *conjuncts = palloc0(sizeof(LrConjunct) * (condition->nconjuncts + 1));
	int			place = 0;
	Expr	   *expression;

	get_typlenbyval(type, &length, &by_value);
	expression = make_opclause(number, BOOLOID, false, (Expr *) makeVar(1, fact + 1, type, -1, get_typcollation(type), 0),
							   (Expr *) makeConst(type, -1, get_typcollation(type), length, constant, false, by_value), InvalidOid, InvalidOid);
	set_opfuncid((OpExpr *) expression);
	while (place < condition->nconjuncts && !condition->conjuncts[place].may_raise)
		place++;
	memcpy(conjuncts, condition->conjuncts, sizeof(LrConjunct) * place);
	memcpy(conjuncts + place + 1, condition->conjuncts + place, sizeof(LrConjunct) * (condition->nconjuncts - place));
	add_conjunct(condition, &conjuncts[place], expression);
	condition->conjuncts = conjuncts;
	condition->nconjuncts++;
}

/* ---- what an index can find ---- */

/* Recognises a comparison of a column with constants; NULL for anything else. */
static LrTest *
find_test(Expr *expression)
{
	LrTest	   *test = palloc0(sizeof(LrTest));
	Expr	   *column = expression;
	bool		negated = IsA(expression, BoolExpr) && ((BoolExpr *) expression)->boolop == NOT_EXPR;

	test->low = PG_INT64_MIN;
	test->high = PG_INT64_MAX;
	/* the parser makes these of consent = true and consent = false */
	if (negated)
		column = linitial(((BoolExpr *) expression)->args);
	if (IsA(column, Var) && find_column(column, &test->column))
	{
		test->nvalues = 1;
		test->values = palloc(sizeof(Datum));
		test->values[0] = BoolGetDatum(!negated);
		return test;
	}
	if (IsA(expression, OpExpr) && list_length(((OpExpr *) expression)->args) == 2)
		return find_comparison((OpExpr *) expression, test) ? test : NULL;
	if (IsA(expression, ScalarArrayOpExpr) && ((ScalarArrayOpExpr *) expression)->useOr)
		return find_membership((ScalarArrayOpExpr *) expression, test) ? test : NULL;
	return NULL;
}

/* Recognises fact and attributes->>'member', of a type that can be looked up. */
static bool
find_column(Expr *expression, LrTestColumn *column)
{
	Expr	   *object;
	Const	   *member;

	if (IsA(expression, Var))
	{
		column->fact = ((Var *) expression)->varattno - 1;
		column->member = NULL;
		return column->fact < LR_N_FACTS && OidIsValid(lr_column_type(column));
	}
	if (!IsA(expression, OpExpr) || ((OpExpr *) expression)->opfuncid != F_JSONB_OBJECT_FIELD_TEXT)
		return false;
	object = linitial(((OpExpr *) expression)->args);
	member = lsecond(((OpExpr *) expression)->args);
	if (!IsA(object, Var) || ((Var *) object)->varattno != LR_ATTRIBUTES + 1 || !IsA(member, Const) || member->constisnull)
		return false;
	column->fact = LR_ATTRIBUTES;
	column->member = TextDatumGetCString(member->constvalue);
	return true;
}

/* Returns the type of a column that can be looked up, InvalidOid for other facts. */
Oid
lr_column_type(const LrTestColumn *column)
{
	Oid			type = column->member ? TEXTOID : lr_facts[column->fact].type;

	return type == TEXTOID || type == INT4OID || type == BOOLOID || type == TIMESTAMPTZOID ? type : InvalidOid;
}

static bool
find_comparison(OpExpr *comparison, LrTest *test)
{
	Expr	   *left = linitial(comparison->args);
	Const	   *constant = lsecond(comparison->args);
	Oid			operator = comparison->opno;
	Oid			type;
	int64		place;

	if (IsA(left, Const))
	{
		left = lsecond(comparison->args);
		constant = linitial(comparison->args);
		operator = get_commutator(operator);
	}
	if (!IsA(constant, Const) || constant->constisnull || !find_column(left, &test->column))
		return false;
	type = lr_column_type(&test->column);
	if (constant->consttype != type || (type == TEXTOID && comparison->inputcollid != C_COLLATION_OID))
		return false;
	place = lr_order_place(type, constant->constvalue);
	switch (get_op_opfamily_strategy(operator, lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY)->btree_opf))
	{
		case BTEqualStrategyNumber:
			test->nvalues = 1;
			test->values = palloc(sizeof(Datum));
			test->values[0] = constant->constvalue;
			return true;
		case BTLessStrategyNumber:
		case BTLessEqualStrategyNumber:
			test->high = place;
			return true;
		case BTGreaterStrategyNumber:
		case BTGreaterEqualStrategyNumber:
			test->low = place;
			return true;
		default:
			return false;
	}
}

static bool
find_membership(ScalarArrayOpExpr *membership, LrTest *test)
{
	Const	   *constant = lsecond(membership->args);
	Oid			type;
	ArrayType  *array;
	bool	   *nulls;
	int16		length;
	bool		by_value;
	char		align;

	if (!IsA(constant, Const) || constant->constisnull || !find_column(linitial(membership->args), &test->column))
		return false;
	type = lr_column_type(&test->column);
	if (get_element_type(constant->consttype) != type || (type == TEXTOID && membership->inputcollid != C_COLLATION_OID) ||
		get_op_opfamily_strategy(membership->opno, lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY)->btree_opf) != BTEqualStrategyNumber)
		return false;
	array = DatumGetArrayTypeP(constant->constvalue);
	get_typlenbyvalalign(type, &length, &by_value, &align);
	deconstruct_array(array, type, length, by_value, align, &test->values, &nulls, &test->nvalues);
	if (test->nvalues == 0 || test->nvalues > MAX_EQUALITY_VALUES)
		return false;
	for (int i = 0; i < test->nvalues; i++)
	{
		if (nulls[i])
			return false;
	}
	return true;
}

/* Returns a number that orders values of a column's type as the type does; different texts may have the same. */
int64
lr_order_place(Oid type, Datum value)
{
	uint64		prefix = 0;
	text	   *string;

	switch (type)
	{
		case INT4OID:
			return DatumGetInt32(value);
		case BOOLOID:
			return DatumGetBool(value);
		case TIMESTAMPTZOID:
			return DatumGetTimestampTz(value);
		default:
			string = DatumGetTextPP(value);
			for (int i = 0; i < 8; i++)
				prefix = prefix << 8 | (i < (int) VARSIZE_ANY_EXHDR(string) ? (unsigned char) VARDATA_ANY(string)[i] : 0);
			return (int64) (prefix ^ (UINT64CONST(1) << 63));
	}
}

/* ---- evaluation ---- */

/* Makes what evaluation needs, in the current memory context. */
LrEvaluator *
lr_evaluator_make(LrScope *scope)
{
	LrEvaluator *evaluator = palloc0(sizeof(LrEvaluator));

	evaluator->scope = scope;
	evaluator->memory = CurrentMemoryContext;
	evaluator->slot = MakeSingleTupleTableSlot(scope->desc, &TTSOpsVirtual);
	evaluator->context = CreateStandaloneExprContext();
	evaluator->context->ecxt_scantuple = evaluator->slot;
	return evaluator;
}

/*
 * Evaluates a condition over facts. On LR_ERROR, *error says what raised, and in which conjunct. What the evaluation
 * allocates lives until the caller resets the evaluator's per-tuple memory.
 */
LrTruth
lr_condition_evaluate(LrCondition *condition, LrEvaluator *evaluator, Datum *values, bool *isnull, LrConditionError *error)
{
	TupleTableSlot *slot = evaluator->slot;
	LrTruth		result = LR_TRUE;

	/* a virtual slot is two arrays; pointing it at the facts saves copying them */
	slot->tts_values = values;
	slot->tts_isnull = isnull;
	slot->tts_nvalid = evaluator->scope->nfacts;
	slot->tts_flags &= ~TTS_FLAG_EMPTY;

	for (int i = 0; i < condition->nconjuncts; i++)
	{
		int			sqlstate = 0;
		LrTruth		truth = evaluate_conjunct(&condition->conjuncts[i], evaluator, &sqlstate);

		if (truth == LR_FALSE)
			return LR_FALSE;
		if (truth == LR_ERROR && result != LR_ERROR)
		{
			error->sqlstate = sqlstate;
			error->conjunct = i;
		}
		if (truth == LR_ERROR || (truth == LR_NULL && result == LR_TRUE))
			result = truth;
	}
	return result;
}

/* Prepares all of a condition for evaluation, in the given memory. */
void
lr_condition_prepare(LrCondition *condition, MemoryContext memory)
{
	for (int i = 0; i < condition->nconjuncts; i++)
		prepare_conjunct(&condition->conjuncts[i], memory);
}

static void
prepare_conjunct(LrConjunct *conjunct, MemoryContext memory)
{
	MemoryContext saved = MemoryContextSwitchTo(memory);
	LrIdentity	identity;

	/* who inserts needs no privilege on the functions of a condition */
	lr_become_owner(&identity);
	conjunct->state = ExecInitExpr(conjunct->expression, NULL);
	lr_restore_identity(&identity);
	MemoryContextSwitchTo(saved);
}

typedef struct Evaluation
{
	LrConjunct *conjunct;
	LrEvaluator *evaluator;
	bool		isnull;
	Datum		value;
} Evaluation;

static void
evaluate(void *argument)
{
	Evaluation *evaluation = argument;

	evaluation->value = ExecEvalExprSwitchContext(evaluation->conjunct->state, evaluation->evaluator->context, &evaluation->isnull);
}

static LrTruth
evaluate_conjunct(LrConjunct *conjunct, LrEvaluator *evaluator, int *sqlstate)
{
	Evaluation	evaluation = {.conjunct = conjunct,.evaluator = evaluator};

	if (unlikely(conjunct->state == NULL))
		prepare_conjunct(conjunct, evaluator->memory);
	if (!conjunct->may_raise || evaluator->guarded)
		evaluate(&evaluation);
	else if (!lr_guard(evaluate, &evaluation, sqlstate))
		return LR_ERROR;
	return evaluation.isnull ? LR_NULL : DatumGetBool(evaluation.value) ? LR_TRUE : LR_FALSE;
}
