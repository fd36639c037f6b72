/*
 * evaluation.h: deciding without writing: what evaluate.c, backtest.c and explain_rule.c share.
 */
#ifndef LR_EVALUATION_H
#define LR_EVALUATION_H

#include "pipeline/pipeline.h"
#include "policy/policy.h"
#include "provenance/provenance.h"

/* A policy version, or a document that nobody has published. */
typedef struct LrCandidate
{
	LrPolicy   *policy;
	json_t	   *document;		/* NULL: a version */
} LrCandidate;

/* evaluate.c */
extern void lr_candidate_open(LrCandidate *candidate, FunctionCallInfo fcinfo, int version_argument, int document_argument);
extern void lr_candidate_close(LrCandidate *candidate);
extern json_t *lr_candidate_rule(const LrCandidate *candidate, int number);
extern LrSource *lr_source_of_given(void);
extern void lr_evaluation_begin(LrBatch *batch, LrPolicy *policy, bool indexed);
extern LrRun *lr_evaluation_add(LrBatch *batch, json_t *lead);


#endif
