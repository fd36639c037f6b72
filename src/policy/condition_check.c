/*
 * condition_check.c: what a condition may consist of, and what it reads.
 *
 * A condition must give the same answer for the same facts for ever. PostgreSQL asks the same of a publication's row
 * filters, and the rules here are its rules (immutable built-in functions and operators, no subqueries) with what leads need
 * on top: casts through text, enums, domains whose checks are built in, and built-in date and time functions that are stable only because they depend on the time
 * zone and the date style, which a policy version brings along.
 */
#include "policy/condition_check.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_language.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_node.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

typedef struct RawContext
{
	ParseState *pstate;
	List	   *literals;
} RawContext;

typedef struct CheckContext
{
	const char *text;
	List	   *literals;		/* of A_Const: the strings, as they were written */
	Node	   *function_caller;	/* where to point for a function that is not allowed */
} CheckContext;

static bool check_raw_node(Node *node, void *context);
static bool names_moving_time(const char *literal);
static bool check_node(Node *node, CheckContext *context);
static bool joins_boolean(Node *caller);
static bool refuse_function(Oid function, void *context);
static bool unallowed_in_check(Node *node, void *context);
static Node *replace_casts(Node *node, void *context);
static Expr *text_constant(const char *value);
static bool may_raise_node(Node *node, void *context);
static bool timezone_node(Node *node, void *context);
static bool reads_node(Node *node, LrCondition *condition);
static bool is_deterministic(Oid function);
static bool follows_locale(Oid function);
static bool is_of_query_language(Oid function);
static bool is_datetime_type(Oid type);

static void check_operator(Node *node, CheckContext *context);
static void check_literal(const Const *constant, const CheckContext *context);
static bool holds_datetime(Oid type);
static bool names_object(Oid type);
pg_noreturn static void refuse(Node *node, const char *text, const char *hint, const char *what);
pg_noreturn static void refuse_at(int location, const char *text, const char *hint, const char *what);

/* ---- what is allowed ---- */

/* Refuses, before analysis, what the parser would look up in the database. Returns the string literals. */
List *
lr_check_raw_expression(Node *expression, const char *text)
{
	RawContext	context = {.pstate = make_parsestate(NULL)};

	context.pstate->p_sourcetext = text;
	(void) check_raw_node(expression, &context);
	return context.literals;
}

static bool
check_raw_node(Node *node, void *argument)
{
	RawContext *context = argument;

	if (node == NULL)
		return false;
	if (IsA(node, SubLink))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("a condition cannot contain a subquery"),
				errhint("Compare with constants: country IN ('DE', 'AT'). Facts from tables come from agents."),
				parser_errposition(context->pstate, ((SubLink *) node)->location));
	if (IsA(node, A_Const) && !((A_Const *) node)->isnull && IsA(&((A_Const *) node)->val, String))
		context->literals = lappend(context->literals, node);
	return raw_expression_tree_walker(node, check_raw_node, context);
}

static bool
names_moving_time(const char *literal)
{
	static const char *const moving[] = {"now", "today", "tomorrow", "yesterday"};

	for (const char *at = literal; *at; at++)
	{
		if (at > literal && isalpha((unsigned char) at[-1]))
			continue;
		for (int i = 0; i < (int) lengthof(moving); i++)
		{
			if (pg_strncasecmp(at, moving[i], strlen(moving[i])) == 0 && !isalpha((unsigned char) at[strlen(moving[i])]))
				return true;
		}
	}
	return false;
}

/* Refuses, with the place and the allowed way, whatever could make a condition depend on more than the facts. */
void
lr_check_expression(Node *expression, const char *text, List *literals)
{
	CheckContext context = {.text = text,.literals = literals};

	(void) check_node(expression, &context);
}

static bool
check_node(Node *node, CheckContext *context)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_List:
		case T_Var:
		case T_FuncExpr:
		case T_OpExpr:
		case T_DistinctExpr:
		case T_NullIfExpr:
		case T_ScalarArrayOpExpr:
		case T_BoolExpr:
		case T_RelabelType:
		case T_CoerceViaIO:
		case T_CoerceToDomain:
		case T_ArrayCoerceExpr:
		case T_CaseExpr:
		case T_CaseWhen:
		case T_CaseTestExpr:
		case T_ArrayExpr:
		case T_CoalesceExpr:
		case T_MinMaxExpr:
		case T_NullTest:
		case T_BooleanTest:
		case T_CollateExpr:
			break;
		case T_Const:
			check_literal((Const *) node, context);
			break;
		case T_Aggref:
		case T_WindowFunc:
		case T_GroupingFunc:
			refuse(node, context->text, "A condition sees one lead.", "a condition cannot contain an aggregate or window function");
		case T_SQLValueFunction:
			refuse(node, context->text, exprType(node) == NAMEOID ? "Who inserts does not decide: bring along what matters as an attribute of the lead."
				   : "Write as_of, the moment of the decision.", "a condition cannot ask for the current time or user");
		case T_SubscriptingRef:
			refuse(node, context->text, "Write attributes->>'seats' for a member, 'email' = ANY (consent_channels) for elements of an array.",
				   "a condition cannot use subscripts");
		case T_RowCompareExpr:
			refuse(node, context->text, "Write it out: a < 1 OR (a = 1 AND b < 2). Rows can be compared for equality.", "a condition cannot compare rows by their order");
		case T_NamedArgExpr:
			refuse(node, context->text, "Give the arguments in their order, without names.", "a condition cannot name the arguments of a function");
		default:
			refuse(node, context->text, "Conditions are made of attributes, outputs, constants, operators, built-in functions, CASE, COALESCE and casts.",
				   "a condition cannot contain this kind of expression");
	}
	check_operator(node, context);
	/* lists and the arms of CASE have no type of their own */
	if (!IsA(node, List) && !IsA(node, CaseWhen) && !lr_type_is_allowed(exprType(node)))
		refuse(node, context->text, "Cast to a built-in type such as integer, numeric, text or date.",
			   "a condition can use built-in types, enums, and domains with built-in checks only");
	if (!IsA(node, List) && !IsA(node, CaseWhen) && names_object(exprType(node)))
		refuse(node, context->text, "Compare plain text instead.", "a condition cannot refer to objects of the database, whose definitions may change");
	context->function_caller = node;
	if (!IsA(node, List) && check_functions_in_node(node, refuse_function, context))
		return true;
	return expression_tree_walker(node, check_node, context);
}

/* Tells whether || is meant as other languages mean it. */
static bool
joins_boolean(Node *caller)
{
	List	   *arguments = IsA(caller, OpExpr) ? ((OpExpr *) caller)->args : NIL;
	ListCell   *cell;

	foreach(cell, arguments)
	{
		if (exprType(lfirst(cell)) == BOOLOID)
			return true;
	}
	return false;
}

static bool
refuse_function(Oid function, void *argument)
{
	CheckContext *context = argument;
	char	   *name;

	/* an enum's labels are pinned with the policy version */
	if (is_deterministic(function) || function == F_ENUM_IN || function == F_ENUM_OUT)
		return false;
	name = get_func_name(function);
	if (function >= FirstNormalObjectId)
		refuse(context->function_caller, context->text, "Register the function as an agent and use its output.",
			   psprintf("function \"%s\" is not a built-in one", name ? name : "?"));
	if (function == F_TEXTANYCAT || function == F_ANYTEXTCAT)
		refuse(context->function_caller, context->text, joins_boolean(context->function_caller) ? "Connect conditions with OR."
			   : "Cast what is no text: company || company_size::text.", "operator || joins two texts");
	if (is_of_query_language(function))
		refuse(context->function_caller, context->text,
			   "Say it with others: as_of - received_at for age(received_at), lpad(country, 5, ' ') for lpad(country, 5).",
			   psprintf("function \"%s\" is one that the server has in SQL", name ? name : "?"));
	refuse(context->function_caller, context->text,
		   follows_locale(function) ? "It follows the server's locale: use extract(), date_trunc() and plain numbers."
		   : "Write as_of for the current time; use immutable functions otherwise.",
		   psprintf("function \"%s\" does not always give the same result", name ? name : "?"));
}

/*
 * Tells whether a function gives the same result for the same arguments, given a time zone and a date style: immutable
 * built-in ones, and stable built-in ones that only compute with dates and times.
 */
static bool
is_deterministic(Oid function)
{
	HeapTuple	tuple;
	Form_pg_proc proc;
	bool		result;

	if (function >= FirstNormalObjectId)
		return false;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		return false;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	if (proc->prokind != PROKIND_FUNCTION || proc->proretset || proc->prolang != INTERNALlanguageId)
		result = false;
	else if (proc->provolatile == PROVOLATILE_IMMUTABLE)
		result = true;
	else if (proc->provolatile == PROVOLATILE_VOLATILE)
		result = false;
	else
	{
		bool		has_datetime = is_datetime_type(proc->prorettype);

		/* timetz depends on which offset is in force today */
		result = proc->pronargs > 0 && proc->prorettype != TIMETZOID;
		for (int i = 0; i < proc->pronargs; i++)
		{
			Oid			type = proc->proargtypes.values[i];

			has_datetime |= is_datetime_type(type);
			if (!is_datetime_type(type) && type != TEXTOID && type != CSTRINGOID && type != OIDOID && type != INT4OID)
				result = false;
		}
		result &= has_datetime && !follows_locale(function);
	}
	ReleaseSysCache(tuple);
	return result;
}

/* Tells of functions that follow lc_time or lc_monetary: to_char, and to_timestamp and to_date with the locale's names of months. */
static bool
follows_locale(Oid function)
{
	return function == F_TO_CHAR_TIMESTAMPTZ_TEXT || function == F_TO_CHAR_TIMESTAMP_TEXT || function == F_TO_CHAR_INTERVAL_TEXT ||
		function == F_TO_TIMESTAMP_TEXT_TEXT || function == F_TO_DATE || function == F_CASH_IN || function == F_CASH_OUT ||
		function == F_MONEY_INT4 || function == F_MONEY_INT8 || function == F_MONEY_NUMERIC || function == F_NUMERIC_MONEY;
}

static bool
is_of_query_language(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	bool		result = HeapTupleIsValid(tuple) && ((Form_pg_proc) GETSTRUCT(tuple))->prolang == SQLlanguageId;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return result;
}

static bool
is_datetime_type(Oid type)
{
	return type == DATEOID || type == TIMEOID || type == TIMESTAMPOID || type == TIMESTAMPTZOID || type == INTERVALOID;
}

/* Refuses operators and collations that users made: under the same name they may mean something else tomorrow. */
static void
check_operator(Node *node, CheckContext *context)
{
	Oid			object = InvalidOid;

	if (IsA(node, OpExpr) || IsA(node, DistinctExpr) || IsA(node, NullIfExpr))
		object = ((OpExpr *) node)->opno;
	else if (IsA(node, ScalarArrayOpExpr))
		object = ((ScalarArrayOpExpr *) node)->opno;
	else if (IsA(node, CollateExpr))
		object = ((CollateExpr *) node)->collOid;
	if (object >= FirstNormalObjectId)
		refuse(node, context->text, "Use those of pg_catalog.", "a condition can use built-in operators and collations only");
}

/* Refuses a literal that the parser froze at definition: 'today'::date is a day only now. */
static void
check_literal(const Const *constant, const CheckContext *context)
{
	ListCell   *cell;
	const A_Const *nearest = NULL;

	if (constant->constisnull || constant->location < 0 || !holds_datetime(constant->consttype))
		return;
	/* a typed literal's location is that of its type name: the literal itself is the next one */
	foreach(cell, context->literals)
	{
		const A_Const *literal = lfirst(cell);

		if (literal->location >= constant->location && (nearest == NULL || literal->location < nearest->location))
			nearest = literal;
	}
	if (nearest && names_moving_time(nearest->val.sval.sval))
		refuse_at(constant->location, context->text, "Write as_of, or a fixed date such as '2026-01-31'.",
				  "a literal that means another time each day would freeze when the condition is defined");
}

/* Tells whether a type is of dates or times, or an array or range of them. */
static bool
holds_datetime(Oid type)
{
	Oid			element = get_element_type(type);
	Oid			subtype;

	if (OidIsValid(element))
		type = element;
	if (type_is_multirange(type))
		type = get_multirange_range(type);
	subtype = get_range_subtype(type);
	if (OidIsValid(subtype))
		type = subtype;
	return is_datetime_type(type) || type == TIMETZOID;
}

/* Tells whether values of a type stand for objects: with a text search configuration, functions read what it is at the moment. */
static bool
names_object(Oid type)
{
	switch (type)
	{
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGCLASSOID:
		case REGTYPEOID:
		case REGROLEOID:
		case REGNAMESPACEOID:
		case REGCOLLATIONOID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
			return true;
		default:
			return false;
	}
}

static void
refuse(Node *node, const char *text, const char *hint, const char *what)
{
	refuse_at(exprLocation(node), text, hint, what);
}

static void
refuse_at(int location, const char *text, const char *hint, const char *what)
{
	ParseState *pstate = make_parsestate(NULL);

	pstate->p_sourcetext = text;
	ereport(ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg_internal("%s", what),
			errhint("%s", hint),
			parser_errposition(pstate, location));
}

/* Tells whether a domain's check is made of built-in, deterministic functions only. */
bool
lr_is_allowed_check(Node *expression)
{
	return !unallowed_in_check(expression, NULL);
}

static bool
is_unallowed_function(Oid function, void *context)
{
	return !is_deterministic(function);
}

static bool
unallowed_in_check(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, SQLValueFunction) || IsA(node, SubLink) || check_functions_in_node(node, is_unallowed_function, NULL))
		return true;
	return expression_tree_walker(node, unallowed_in_check, context);
}

/*
 * Makes casts from text to a date or time fail on words that mean another time each day: a lead that says 'today' would be
 * decided one way now and another way when the decision is verified. CASE does it with what the server has: text that
 * holds such a word is replaced by one that is no date, which raises 22007.
 */
Node *
lr_refuse_moving_data(Node *expression)
{
	return replace_casts(expression, NULL);
}

static Node *
replace_casts(Node *node, void *context)
{
	CoerceViaIO *cast;
	CaseExpr   *guarded;
	CaseWhen   *moving;

	if (node == NULL)
		return NULL;
	node = expression_tree_mutator(node, replace_casts, context);
	if (!IsA(node, CoerceViaIO))
		return node;
	cast = (CoerceViaIO *) node;
	if (!is_datetime_type(cast->resulttype))
		return node;
	if (IsA(cast->arg, CaseTestExpr))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("a condition cannot cast an array of texts to dates or times"),
				errhint("Cast the one element that is meant."));
	/* varchar, name and others say today as well */
	if (exprType((Node *) cast->arg) != TEXTOID)
	{
		CoerceViaIO *text = makeNode(CoerceViaIO);

		text->arg = cast->arg;
		text->resulttype = TEXTOID;
		text->resultcollid = C_COLLATION_OID;
		text->coerceformat = COERCE_IMPLICIT_CAST;
		text->location = -1;
		cast->arg = (Expr *) text;
	}
	moving = makeNode(CaseWhen);
	moving->expr = make_opclause(OID_TEXT_ICREGEXEQ_OP, BOOLOID, false, copyObject(cast->arg), text_constant("now|today|tomorrow|yesterday"),
								 InvalidOid, C_COLLATION_OID);
	moving->result = text_constant("no fixed date");
	moving->location = -1;
	set_opfuncid((OpExpr *) moving->expr);
	guarded = makeNode(CaseExpr);
	guarded->casetype = TEXTOID;
	guarded->casecollid = C_COLLATION_OID;
	guarded->args = list_make1(moving);
	guarded->defresult = cast->arg;
	guarded->location = -1;
	cast->arg = (Expr *) guarded;
	return node;
}

static Expr *
text_constant(const char *value)
{
	return (Expr *) makeConst(TEXTOID, -1, C_COLLATION_OID, -1, CStringGetTextDatum(value), false, false);
}

/* ---- what it reads, and how it may behave ---- */

/* Tells whether evaluating an expression may raise an error: anything but comparisons, logic and member access. */
bool
lr_may_raise(Node *expression)
{
	return may_raise_node(expression, NULL);
}

static bool
may_raise_node(Node *node, void *context)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_OpExpr:
			if (!lr_operator_compares(((OpExpr *) node)->opno) && !lr_is_member_function(((OpExpr *) node)->opfuncid))
				return true;
			break;
		case T_DistinctExpr:
		case T_NullIfExpr:
			/* made from the equality operator of the type */
			break;
		case T_ScalarArrayOpExpr:
			if (!lr_operator_compares(((ScalarArrayOpExpr *) node)->opno))
				return true;
			break;
		case T_FuncExpr:
			if (!lr_is_member_function(((FuncExpr *) node)->funcid))
				return true;
			break;
		case T_CoerceViaIO:
		case T_CoerceToDomain:
		case T_ArrayCoerceExpr:
		case T_MinMaxExpr:
			return true;
		case T_ArrayExpr:
			/* of arrays, which may be of different lengths */
			if (((ArrayExpr *) node)->multidims)
				return true;
			break;
		default:
			break;
	}
	return expression_tree_walker(node, may_raise_node, context);
}

/* Tells whether a function looks at a member of a document: attributes->'a', attributes->>'a' and attributes ? 'a' cannot raise. */
bool
lr_is_member_function(Oid function)
{
	return function == F_JSONB_OBJECT_FIELD || function == F_JSONB_OBJECT_FIELD_TEXT || function == F_JSONB_EXISTS;
}

/* Tells whether an expression computes with the time zone or the date style. */
bool
lr_timezone_matters(Node *expression)
{
	return timezone_node(expression, NULL);
}

/* Some functions are called immutable that nevertheless follow a setting. */
static bool
follows_settings(Oid function, void *context)
{
	return func_volatile(function) != PROVOLATILE_IMMUTABLE || function == F_FLOAT4OUT || function == F_FLOAT8OUT || function == F_BYTEAOUT ||
		function == F_INTERVAL_OUT || function == F_QUOTE_IDENT || function == F_CONVERT || function == F_CONVERT_FROM || function == F_CONVERT_TO;
}

static bool
timezone_node(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (check_functions_in_node(node, follows_settings, NULL))
		return true;
	return expression_tree_walker(node, timezone_node, context);
}

/* Adds the facts and the members of attributes that an expression reads. */
void
lr_find_reads(Node *expression, LrCondition *condition)
{
	(void) reads_node(expression, condition);
}

static bool
reads_node(Node *node, LrCondition *condition)
{
	if (node == NULL)
		return false;
	if (!IsA(node, List) && !IsA(node, CaseWhen) && exprType(node) >= FirstNormalObjectId)
		condition->types = list_append_unique_oid(condition->types, exprType(node));
	if (IsA(node, OpExpr) && lr_is_member_function(((OpExpr *) node)->opfuncid))
	{
		Node	   *object = linitial(((OpExpr *) node)->args);
		Node	   *key = lsecond(((OpExpr *) node)->args);

		if (IsA(object, Var) && ((Var *) object)->varattno == LR_ATTRIBUTES + 1 && IsA(key, Const) && !((Const *) key)->constisnull)
		{
			condition->reads = bms_add_member(condition->reads, LR_ATTRIBUTES);
			condition->keys = lappend(condition->keys, TextDatumGetCString(((Const *) key)->constvalue));
			return false;
		}
	}
	if (IsA(node, Var))
	{
		int			fact = ((Var *) node)->varattno - 1;

		condition->reads = bms_add_member(condition->reads, fact);
		if (fact == LR_ATTRIBUTES)
			condition->reads_all_keys = true;
		return false;
	}
	return expression_tree_walker(node, reads_node, condition);
}
