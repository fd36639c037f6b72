/*
 * condition.h: SQL boolean expressions over the facts of a lead.
 */
#ifndef LR_CONDITION_H
#define LR_CONDITION_H

#include "leadroute.h"

#include "json.h"
#include "nodes/execnodes.h"
#include "nodes/primnodes.h"

/* The names that conditions of one policy may use, beside lr_facts[]: SQL agents' outputs. */
typedef struct LrScope
{
	int			nextra;
	char	  **extra;			/* capabilities; extra i is fact LR_N_FACTS + i, a jsonb */
	int			nfacts;			/* LR_N_FACTS + nextra */
	TupleDesc	desc;
	char	   *timezone;		/* the policy version's own */
	bool		reading;		/* for reading records only: conditions keep their text, and are not parsed */
} LrScope;

typedef enum LrTruth
{
	LR_FALSE,
	LR_NULL,
	LR_ERROR,
	LR_TRUE
} LrTruth;

/* What an index may find rules by: a fact, or the text of a member of attributes. */
typedef struct LrTestColumn
{
	int			fact;
	char	   *member;			/* NULL: the fact itself */
} LrTestColumn;

/*
 * A conjunct that compares a column with constants: its value is one of some, or its place in the order of its type lies
 * between two, inclusively. A value for which this does not hold makes the conjunct false; the reverse need not be true.
 */
typedef struct LrTest
{
	LrTestColumn	column;
	int			nvalues;		/* 0: the places count */
	Datum	   *values;			/* of the column's type */
	int64		low;
	int64		high;
} LrTest;

typedef struct LrConjunct
{
	Expr	   *expression;
	ExprState  *state;			/* made when first evaluated */
	bool		may_raise;
	LrTest	   *test;			/* or NULL */
} LrConjunct;

typedef struct LrCondition
{
	char	   *text;
	int			nconjuncts;
	LrConjunct *conjuncts;
	bool		may_raise;
	bool		timezone_matters;
	Bitmapset  *reads;			/* facts */
	List	   *keys;			/* names of members of attributes that it reads, char * */
	bool		reads_all_keys; /* reads attributes other than by constant member names */
	List	   *types;			/* Oids of users' enums and domains that it uses */
} LrCondition;

/* What evaluation needs: one per policy version and session. */
typedef struct LrEvaluator
{
	LrScope    *scope;
	TupleTableSlot *slot;
	ExprContext *context;
	MemoryContext memory;		/* where expression states live */
	bool		guarded;		/* a guard further out catches what conditions raise */
} LrEvaluator;

typedef struct LrConditionError
{
	int			sqlstate;
	int			conjunct;		/* from 0 */
} LrConditionError;

extern Oid	lr_column_type(const LrTestColumn *column);
extern int64 lr_order_place(Oid type, Datum value);
extern LrScope *lr_scope_make(char **extra, int nextra, const char *timezone);
extern int	lr_fact_find(const LrScope *scope, const char *name);
extern const char *lr_fact_name(const LrScope *scope, int fact);
extern bool lr_fact_from_json(const LrScope *scope, int fact, json_t *json, Datum *value);
extern void lr_facts_from_json(const LrScope *scope, json_t *lead, bool strict, Datum *values, bool *isnull);
extern LrCondition *lr_condition_parse(const char *text, const LrScope *scope, const char *place, LrMistakes *mistakes);
extern void lr_condition_add_bound(LrCondition *condition, int fact, const char *operator, Datum constant);
extern LrEvaluator *lr_evaluator_make(LrScope *scope);
extern void lr_condition_prepare(LrCondition *condition, MemoryContext memory);
extern LrTruth lr_condition_evaluate(LrCondition *condition, LrEvaluator *evaluator, Datum *values, bool *isnull,
									 LrConditionError *error);

#endif
