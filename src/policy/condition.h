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

/* An equality between a fact and constants, by which an index may find the rule. */
typedef struct LrEquality
{
	int			fact;
	int			nvalues;
	Datum	   *values;			/* of the fact's type */
} LrEquality;

typedef struct LrConjunct
{
	Expr	   *expression;
	ExprState  *state;			/* made when first evaluated */
	bool		may_raise;
	LrEquality *equality;		/* or NULL */
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

extern LrScope *lr_scope_make(char **extra, int nextra, const char *timezone);
extern LrCondition *lr_condition_parse(const char *text, const LrScope *scope, const char *place, LrMistakes *mistakes);
extern void lr_condition_add_bound(LrCondition *condition, int fact, const char *operator, Datum constant);
extern LrEvaluator *lr_evaluator_make(LrScope *scope);
extern LrTruth lr_condition_evaluate(LrCondition *condition, LrEvaluator *evaluator, Datum *values, bool *isnull,
									 LrConditionError *error);

#endif
