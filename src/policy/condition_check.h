/*
 * condition_check.h: what a condition may consist of, and what it reads. Used by condition.c, shape.c and types.c only.
 */
#ifndef LR_CONDITION_CHECK_H
#define LR_CONDITION_CHECK_H

#include "policy/condition.h"

extern List *lr_check_raw_expression(Node *expression, const char *text);
extern void lr_check_expression(Node *expression, const char *text, List *literals);
extern bool lr_is_allowed_check(Node *expression);
extern Node *lr_refuse_moving_data(Node *expression);
extern bool lr_may_raise(Node *expression);
extern bool lr_timezone_matters(Node *expression);
extern bool lr_is_member_function(Oid function);
extern void lr_find_reads(Node *expression, LrCondition *condition);

/* condition_constants.c */
extern void lr_check_constants(Node *expression, const char *text);

/* condition_hints.c */
extern const char *lr_condition_hint(const ErrorData *error, const char *text);
extern const char *lr_condition_open_word(const char *name);
extern const char *lr_name_hint(List *fields, const char *text, int place);

/* types.c */
extern bool lr_type_is_allowed(Oid type);

#endif
