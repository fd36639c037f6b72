/*
 * policy.h: a policy version, compiled: the steps, the rules and the index over them.
 */
#ifndef LR_POLICY_H
#define LR_POLICY_H

#include "leadroute.h"

#include "agents/agents.h"
#include "json.h"
#include "policy/condition.h"
#include "registry/registry.h"

/* Ends a run after a step. */
typedef struct LrStop
{
	LrCondition *when;
	LrOutcome	outcome;
	char	   *reason;
} LrStop;

typedef struct LrStep
{
	int			number;			/* place in the policy, from 0 */
	char	   *capability;
	const LrBuiltin *builtin;	/* NULL for other agents */
	LrAgent    *agent;
	int			first_fact;
	int			nfacts;
	LrDocument *document;		/* or NULL */
	void	   *config;
	Bitmapset  *reads;			/* facts that it depends on */
	Bitmapset  *stop_reads;		/* those that its stop conditions depend on */
	bool		reads_all_keys;
	List	   *keys;			/* members of attributes that it reads */
	List	   *types;			/* users' enums and domains that it uses */
	bool		timezone_matters;
	bool		may_raise;		/* a condition that it evaluates may */
	bool		skip_on_error;	/* otherwise a failure quarantines the lead */
	Bitmapset  *after;			/* numbers of the steps that it needs */
	int			nstops;
	LrStop	   *stops;
} LrStep;

typedef struct LrRule
{
	int			number;			/* place in the document, from 0 */
	char	   *name;
	double		priority;
	LrCondition *when;
	LrOutcome	outcome;		/* LR_ASSIGNED: to the pool */
	char	   *reason;
	char	   *pool;
	int			pool_id;
	char	   *owner;			/* NULL, or whose pool of one it is */
	Bitmapset  *prerequisites;	/* numbers of the steps that have to be done for the rule to hold */
} LrRule;

/* Which of the rules that hold decides. */
typedef enum LrHitPolicy
{
	LR_HIT_PRIORITY,			/* the first by (priority, place) */
	LR_HIT_FIRST,				/* the first of the document */
	LR_HIT_UNIQUE				/* one only; where there are more, that is on record, and it is as under LR_HIT_PRIORITY */
} LrHitPolicy;

typedef struct LrRuleIndex LrRuleIndex;
typedef struct LrRuleSet LrRuleSet;

typedef struct LrPolicy
{
	MemoryContext memory;
	int			users;			/* statements that hold it */
	bool		stale;			/* freed when nobody holds it any more */
	bool		reading;		/* good for reading records only */
	int			version_id;
	int			version;
	char	   *name;
	char	   *hash;			/* hex */
	LrScope    *scope;
	LrEvaluator *evaluator;
	int			nsteps;
	LrStep	   *steps;
	int			nrules;
	LrRule	   *rules;			/* in the order in which they are tried; NULL if the version was loaded */
	LrHitPolicy hit_policy;
	bool		rules_may_raise;
	LrRuleSet  *rule_set;
	Bitmapset  *rule_reads;
	List	   *keys;			/* members of attributes that anything reads */
	List	   *types;			/* users' enums and domains that anything uses */
	bool		reads_all_keys;
	bool		timezone_matters;
	json_t	   *justifications; /* attribute to reason, or NULL */
} LrPolicy;

/* policy.c */
extern void lr_policy_init(void);
extern LrPolicy *lr_policy_hold_active(const char *name, TimestampTz as_of);
extern LrPolicy *lr_policy_try_hold_active(const char *name, TimestampTz as_of, bool *unusable);
extern LrPolicy *lr_policy_hold(int version_id);
extern LrPolicy *lr_policy_hold_to_read(int version_id);
extern void lr_policy_release(LrPolicy *policy);

/* types.c */
extern void lr_types_to_json(List *types, StringInfo json);
extern Oid	lr_type_by_name(const char *name);

/* compile.c */
extern LrPolicy *lr_policy_compile(json_t *document, json_t *pins, bool reading, LrMistakes *mistakes);
extern char *lr_policy_pins(const LrPolicy *policy);
extern LrCondition *lr_rule_read_condition(LrPolicy *policy, json_t *json, const char *place, LrMistakes *mistakes);
extern void lr_policy_index(LrPolicy *policy);
extern void lr_policy_read_rules(LrPolicy *policy, json_t *rules, json_t *pins, LrMistakes *mistakes);

/* members.c */
typedef struct LrMembers LrMembers;

extern LrMembers *lr_members_begin(LrPolicy *policy, bool publishing, LrMistakes *mistakes);
extern LrHitPolicy lr_read_hit_policy(json_t *document, LrMistakes *mistakes);
extern void lr_members_read(LrMembers *members, json_t *json, LrRule *rule, const char *place);
extern void lr_members_read_dates(LrMembers *members, json_t *json, LrRule *rule, const char *place);
extern int	lr_members_find_owner(LrMembers *members, const char *reference, const char *place);
extern char *lr_owner_pool_name(const char *reference);
extern void lr_make_owner_pools(LrPolicy *policy);

/* protected.c */
extern json_t *lr_read_justifications(json_t *document, LrMistakes *mistakes);
extern void lr_check_protected(const LrPolicy *policy, LrMistakes *mistakes);
extern void lr_check_protected_model(const Bitmapset *reads, List *keys, bool reads_all_keys, json_t *justifications, const char *model,
									 LrMistakes *mistakes);

/* life.c */
typedef struct LrPolicyRow
{
	int			policy_id;
	int			active;			/* ids of versions; 0 if there is none */
	int			scheduled;
	TimestampTz scheduled_at;
	bool		approval_required;
} LrPolicyRow;

extern char *lr_checked_name(Datum name, const char *what);
extern void lr_policy_lock(const char *name, bool create, LrPolicyRow *row);
extern void lr_require_reason(bool force, const char *reason);

/* store.c */
extern int	lr_policy_store(const LrPolicy *policy, int policy_id, Datum document, Datum pins, Datum reason, Datum authors, int *version);
extern void lr_policy_load_rules(LrPolicy *policy, Datum stored);
extern void lr_policy_reindex(LrPolicy *policy);
extern LrCondition *lr_rule_condition(LrPolicy *policy, int number);

/* rules.c */
typedef struct LrRuleError
{
	int			rule;			/* number */
	LrConditionError error;
} LrRuleError;

typedef struct LrMatch
{
	LrRule	   *rule;			/* NULL if none held */
	int			nhits;			/* under the hit policy unique: the numbers of all that hold */
	int		   *hits;
	int			nerrors;
	LrRuleError *errors;		/* in the order in which rules are tried */
	int			verified;		/* rules that were evaluated */
} LrMatch;

extern void lr_rules_init(void);
extern LrRuleSet *lr_rule_set_make(LrRuleIndex *index);
extern const LrRuleIndex *lr_rule_set_index(const LrRuleSet *set);
extern Size lr_rule_set_prepared(const LrRuleSet *set);
extern LrRule *lr_policy_rule(LrPolicy *policy, int place);
extern LrRule *lr_policy_rule_numbered(LrPolicy *policy, int number);
extern void lr_rules_match(LrPolicy *policy, uint32 done, Datum *values, bool *isnull, bool indexed, LrMatch *match);

#endif
