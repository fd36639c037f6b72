/*
 * scoring.h: models.
 */
#ifndef LR_SCORING_H
#define LR_SCORING_H

#include "json.h"

extern void lr_scorecard_check(json_t *document, LrMistakes *mistakes);

#endif
