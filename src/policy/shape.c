/*
 * shape.c: what rules have in common: their conditions without the constants.
 *
 * Ten thousand territories are one condition with ten thousand sets of constants. So the constants that a condition compares
 * with are lifted out of it: what is left, its shape, is prepared once by the server's executor, and a rule is the number of
 * its shape and its constants. Evaluating a rule points a second row of the shape's expressions at the rule's constants. A
 * constant that means more than its value stays in the shape: names of members, what functions take, lists that the executor
 * hashes once, values of users' types, which are stored by numbers of this database.
 */
#include "policy/shape.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "policy/condition_check.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

typedef struct Lifting
{
	List	   *constants;		/* of Const */
} Lifting;

static Node *lift(Node *node, void *context);
static void put_untested_first(const LrCondition *condition, LrCondition *shape);
static bool is_liftable(const Node *node);
static bool is_object_number(Oid type);
static char *without_locations(char *text);

/*
 * Takes the constants out of a condition, in the current memory context. *constants gets them, Const each, in the order in
 * which the shape numbers them.
 */
LrCondition *
lr_shape_of(const LrCondition *condition, List **constants)
{
	Lifting		lifting = {NIL};
	LrCondition *shape = palloc(sizeof(LrCondition));

	*shape = *condition;
	shape->conjuncts = palloc0(sizeof(LrConjunct) * Max(condition->nconjuncts, 1));
	for (int i = 0; i < condition->nconjuncts; i++)
	{
		shape->conjuncts[i].expression = (Expr *) lift((Node *) condition->conjuncts[i].expression, &lifting);
		shape->conjuncts[i].may_raise = condition->conjuncts[i].may_raise;
	}
	*constants = lifting.constants;
	put_untested_first(condition, shape);
	return shape;
}

/*
 * Puts conjuncts in the order in which they are likely to be false for a rule that the index found: it has looked at the
 * equalities, and perhaps at one pair of bounds. What may raise stays behind, where it is: errors name it by its place.
 */
static void
put_untested_first(const LrCondition *condition, LrCondition *shape)
{
	LrConjunct *ordered = palloc(sizeof(LrConjunct) * Max(condition->nconjuncts, 1));
	int			n = 0;

	for (int pass = 0; pass < 4; pass++)
	{
		for (int i = 0; i < condition->nconjuncts; i++)
		{
			const LrConjunct *conjunct = &condition->conjuncts[i];
			int			turn = conjunct->may_raise ? 3 : conjunct->test == NULL ? 0 : conjunct->test->nvalues == 0 ? 1 : 2;

			if (turn == pass)
				ordered[n++] = shape->conjuncts[i];
		}
	}
	shape->conjuncts = ordered;
}

static Node *
lift(Node *node, void *context)
{
	Lifting    *lifting = context;
	List	   *arguments = NIL;
	Node	   *copy;
	ListCell   *cell;

	if (node == NULL)
		return NULL;
	copy = expression_tree_mutator(node, lift, context);
	if (IsA(node, OpExpr) && !lr_is_member_function(((OpExpr *) node)->opfuncid))
		arguments = ((OpExpr *) copy)->args;
	else if (IsA(node, ScalarArrayOpExpr) && !OidIsValid(((ScalarArrayOpExpr *) node)->hashfuncid))
		arguments = ((ScalarArrayOpExpr *) copy)->args;
	foreach(cell, arguments)
	{
		Const	   *constant = lfirst(cell);

		if (!is_liftable(lfirst(cell)))
			continue;
		lifting->constants = lappend(lifting->constants, constant);
		lfirst(cell) = makeVar(OUTER_VAR, list_length(lifting->constants), constant->consttype, constant->consttypmod, constant->constcollid, 0);
	}
	return copy;
}

static bool
is_liftable(const Node *node)
{
	const Const *constant = (const Const *) node;

	return IsA(node, Const) && !constant->constisnull && constant->consttype < FirstNormalObjectId && constant->constlen >= -1 &&
		!is_object_number(constant->consttype) && !is_object_number(get_element_type(constant->consttype));
}

/* Numbers of objects differ from database to database. */
static bool
is_object_number(Oid type)
{
	return type == OIDOID || type == REGPROCOID || (type >= REGPROCEDUREOID && type <= REGTYPEOID) || type == REGROLEOID ||
		type == REGNAMESPACEOID || type == REGCONFIGOID || type == REGDICTIONARYOID || type == REGCOLLATIONOID;
}

/* Returns a text that two shapes share exactly if they are the same. */
char *
lr_shape_text(const LrCondition *shape)
{
	List	   *expressions = NIL;

	for (int i = 0; i < shape->nconjuncts; i++)
		expressions = lappend(expressions, shape->conjuncts[i].expression);
	return without_locations(nodeToString(expressions));
}

/* Where in its text a node stands says nothing about the node. */
static char *
without_locations(char *text)
{
	static const char mark[] = ":location ";
	char	   *to = text;

	for (char *from = text; *from;)
	{
		if (strncmp(from, mark, sizeof(mark) - 1) == 0)
		{
			from += sizeof(mark) - 1;
			while (*from == '-' || isdigit((unsigned char) *from))
				from++;
		}
		else
			*to++ = *from++;
	}
	*to = '\0';
	return text;
}

/* Makes the row that a shape reads its constants from. */
TupleTableSlot *
lr_shape_slot(List *constants)
{
	TupleDesc	desc = CreateTemplateTupleDesc(list_length(constants));
	TupleTableSlot *slot;
	ListCell   *cell;

	foreach(cell, constants)
	{
		Const	   *constant = lfirst(cell);

		TupleDescInitEntry(desc, foreach_current_index(cell) + 1, NULL, constant->consttype, constant->consttypmod, 0);
		TupleDescInitEntryCollation(desc, foreach_current_index(cell) + 1, constant->constcollid);
	}
	slot = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
	ExecStoreAllNullTuple(slot);
	memset(slot->tts_isnull, false, sizeof(bool) * desc->natts);
	return slot;
}

/* Appends a constant as lr_constants_read() reads it. */
void
lr_constant_append(StringInfo out, const Const *constant)
{
	static const char padding[8] = {0};
	Size		length;

	appendBinaryStringInfo(out, padding, MAXALIGN(out->len) - out->len);
	if (constant->constbyval)
		appendBinaryStringInfo(out, (const char *) &constant->constvalue, sizeof(Datum));
	else if (constant->constlen > 0)
		appendBinaryStringInfo(out, DatumGetPointer(constant->constvalue), constant->constlen);
	else
	{
		struct varlena *value = PG_DETOAST_DATUM(constant->constvalue);

		length = VARSIZE(value);
		appendBinaryStringInfo(out, (char *) value, length);
	}
}

/* Points a shape's row at the constants that begin at a place in memory, MAXALIGNed. */
void
lr_constants_read(TupleTableSlot *slot, const char *at)
{
	for (int i = 0; i < slot->tts_tupleDescriptor->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(slot->tts_tupleDescriptor, i);

		if (attribute->attbyval)
		{
			slot->tts_values[i] = *(const Datum *) at;
			at += sizeof(Datum);
		}
		else
		{
			slot->tts_values[i] = PointerGetDatum(at);
			at += MAXALIGN(attribute->attlen > 0 ? (Size) attribute->attlen : (Size) VARSIZE(at));
		}
	}
}
