/*
 * condition_constants.c: constants that would raise for every lead.
 *
 * 1 / 0 = 1 and country ~ '(' are conditions by their types, and yet no lead could ever be judged by them. They are refused
 * where they are defined, with their place: expressions of constants alone are computed here, as the planner would a moment
 * later without saying where; patterns, time zones and fields of dates are tried on a value that is always there.
 */
#include "policy/condition_check.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_node.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

static bool check_constants(Node *node, void *context);
static void try_pattern(OpExpr *match, ParseState *pstate);
static void try_name(FuncExpr *call, ParseState *pstate);
static Const *constant_of(Node *node);

/* Raises what the constants of an expression raise, with the place in the text. */
void
lr_check_constants(Node *expression, const char *text)
{
	ParseState *pstate = make_parsestate(NULL);

	pstate->p_sourcetext = text;
	(void) check_constants(expression, pstate);
}

static bool
check_constants(Node *node, void *context)
{
	ParseState *pstate = context;
	ParseCallbackState callback;

	if (node == NULL || IsA(node, Const) || IsA(node, Var))
		return false;
	if ((IsA(node, OpExpr) || IsA(node, FuncExpr) || IsA(node, CoerceViaIO)) && !contain_var_clause(node))
	{
		setup_parser_errposition_callback(&callback, pstate, exprLocation(node));
		(void) eval_const_expressions(NULL, copyObject(node));
		cancel_parser_errposition_callback(&callback);
		return false;
	}
	if (IsA(node, OpExpr))
		try_pattern((OpExpr *) node, pstate);
	if (IsA(node, FuncExpr))
		try_name((FuncExpr *) node, pstate);
	return expression_tree_walker(node, check_constants, context);
}

/* Tries a constant pattern. LIKE looks at an escape at the end only where the text goes that far. */
static void
try_pattern(OpExpr *match, ParseState *pstate)
{
	ParseCallbackState callback;
	Const	   *pattern = list_length(match->args) == 2 ? constant_of(lsecond(match->args)) : NULL;
	char	   *written;
	int			escapes = 0;

	if (pattern == NULL)
		return;
	switch (match->opfuncid)
	{
		case F_TEXTREGEXEQ:
		case F_TEXTREGEXNE:
		case F_TEXTICREGEXEQ:
		case F_TEXTICREGEXNE:
			setup_parser_errposition_callback(&callback, pstate, pattern->location);
			(void) OidFunctionCall2Coll(match->opfuncid, C_COLLATION_OID, CStringGetTextDatum(""), pattern->constvalue);
			cancel_parser_errposition_callback(&callback);
			break;
		case F_TEXTLIKE:
		case F_TEXTNLIKE:
		case F_TEXTICLIKE:
		case F_TEXTICNLIKE:
			written = TextDatumGetCString(pattern->constvalue);
			while (escapes < (int) strlen(written) && written[strlen(written) - 1 - escapes] == '\\')
				escapes++;
			if (escapes % 2 == 1)
				ereport(ERROR,
						errcode(ERRCODE_INVALID_ESCAPE_SEQUENCE),
						errmsg("LIKE pattern must not end with escape character"),
						parser_errposition(pstate, pattern->location));
			break;
		default:
			break;
	}
}

/* Tries a constant that names a time zone or a field of dates, on the moment zero. */
static void
try_name(FuncExpr *call, ParseState *pstate)
{
	ParseCallbackState callback;
	Const	   *name = list_length(call->args) == 2 ? constant_of(linitial(call->args)) : NULL;

	if (name == NULL)
		return;
	switch (call->funcid)
	{
		case F_TIMEZONE_TEXT_TIMESTAMP:
		case F_TIMEZONE_TEXT_TIMESTAMPTZ:
		case F_EXTRACT_TEXT_DATE:
		case F_EXTRACT_TEXT_TIME:
		case F_EXTRACT_TEXT_TIMESTAMP:
		case F_EXTRACT_TEXT_TIMESTAMPTZ:
		case F_DATE_PART_TEXT_TIME:
		case F_DATE_PART_TEXT_TIMESTAMP:
		case F_DATE_PART_TEXT_TIMESTAMPTZ:
		case F_DATE_TRUNC_TEXT_TIMESTAMP:
		case F_DATE_TRUNC_TEXT_TIMESTAMPTZ:
			setup_parser_errposition_callback(&callback, pstate, name->location >= 0 ? name->location : exprLocation((Node *) call));
			(void) OidFunctionCall2Coll(call->funcid, C_COLLATION_OID, name->constvalue, Int64GetDatum(0));
			cancel_parser_errposition_callback(&callback);
			break;
		default:
			break;
	}
}

static Const *
constant_of(Node *node)
{
	return node && IsA(node, Const) && !((Const *) node)->constisnull ? (Const *) node : NULL;
}
