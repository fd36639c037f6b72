/*
 * agents.h: the built-in agents, and what a step needs to run one.
 */
#ifndef LR_AGENTS_H
#define LR_AGENTS_H

#include "leadroute.h"

#include "json.h"
#include "policy/condition.h"
#include "registry/registry.h"
#include "utils/jsonb.h"

struct LrStep;
struct LrRun;
struct LrBatch;

/*
 * A built-in agent. Its outputs are facts, which the record keeps by itself; whatever else explains them goes into
 * run->steps[step].detail, an encoding of the agent's own that unfold() turns into members of the output.
 */
typedef struct LrBuiltin
{
	const char *capability;
	int			agent_id;		/* in leadroute.agents */
	int			first_fact;
	int			nfacts;
	const char *document_kind;	/* of the document that the step names; NULL if it has none */
	bool		recomputable;	/* false where tables were read: the recorded output then stands */
	bool		repeatable;		/* run() can be called again for a lead when a condition raised */

	/* Reads the step's members of the policy document, and its document; sets step->config and step->reads. */
	void		(*configure) (struct LrStep *step, json_t *json, json_t *document, const LrScope *scope, const char *place, LrMistakes *mistakes);
	/* Looks up, for all leads of a batch at once, what run() will want; or NULL. */
	void		(*prepare) (struct LrStep *step, struct LrBatch *batch);
	/* Does the work for one lead. */
	void		(*run) (struct LrStep *step, struct LrRun *run);
	/* Appends JSON members that explain the output; or NULL. */
	void		(*unfold) (const struct LrStep *step, const char *detail, int length, StringInfo json);
	/* Gives a run what a past run of the step did beyond its outputs; or NULL. */
	void		(*restore) (const struct LrStep *step, struct LrRun *run, const char *detail, int length);
} LrBuiltin;

extern const LrBuiltin *const lr_builtins[];
extern const int lr_nbuiltins;
extern const LrBuiltin *lr_builtin_by_capability(const char *capability);

extern const LrBuiltin lr_validate_contact;
extern const LrBuiltin lr_check_compliance;
extern const LrBuiltin lr_enrich;
extern const LrBuiltin lr_compute_score;
extern const LrBuiltin lr_match_account;
extern const LrBuiltin lr_assign_owner;


/* sql_agent.c */
extern void lr_sql_agent_run(struct LrStep *step, struct LrRun *run);
extern bool lr_sql_agent_try(struct LrStep *step, LrAgent *agent, struct LrRun *run, int *sqlstate, const char **place);

/* agent_input.c */
extern Jsonb *lr_agent_input(const struct LrRun *run, const struct LrStep *step);

/* compliance.c */
extern void lr_jurisdictions_check(json_t *document, LrMistakes *mistakes);

/* Levels of objects and arrays that an output of an agent of the team's may have. */
#define LR_MAX_OUTPUT_DEPTH 100

extern bool lr_output_is_flat(Datum output);

#endif
