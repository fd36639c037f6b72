/*
 * compile.h: what the reading of a document's parts shares. Used by compile.c and steps.c only.
 */
#ifndef LR_COMPILE_H
#define LR_COMPILE_H

#include "policy/policy.h"

typedef struct LrCompilation
{
	LrPolicy   *policy;
	json_t	   *pins;			/* NULL when publishing */
	bool		reading;
	LrMistakes *mistakes;
	LrMembers  *members;
	json_t	   *pools;			/* name to id */
	bool		assigns;		/* a step does */
	Bitmapset  *waiting;		/* numbers of the steps so far that may wait, themselves or for others */
} LrCompilation;

/* compile.c */
extern json_t *lr_pinned(LrCompilation *c, const char *kind, int number);
extern void lr_add_reads(LrPolicy *policy, const LrCondition *condition, Bitmapset **reads);

/* steps.c */
extern void lr_step_read(LrCompilation *c, json_t *json, int number);

/* waits.c */
extern LrStepMode lr_step_mode(const LrAgent *agent, json_t *json);
extern void lr_step_read_waits(LrCompilation *c, json_t *json, LrStep *step, const char *place);
extern void lr_step_find_waits(LrCompilation *c, LrStep *step);
extern void lr_step_narrow_reads(LrCompilation *c, json_t *json, LrStep *step);

#endif
