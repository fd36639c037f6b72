/*
 * shape.h: conditions without their constants. Used by the rule index only.
 */
#ifndef LR_SHAPE_H
#define LR_SHAPE_H

#include "policy/condition.h"

extern LrCondition *lr_shape_of(const LrCondition *condition, List **constants);
extern char *lr_shape_text(const LrCondition *shape);
extern TupleTableSlot *lr_shape_slot(List *constants);
extern void lr_constant_append(StringInfo out, const Const *constant);
extern void lr_constants_read(TupleTableSlot *slot, const char *at);

#endif
