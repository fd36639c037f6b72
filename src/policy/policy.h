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

/* Who does a step, and when. */
typedef enum LrStepMode
{
	LR_IN_TRANSACTION,			/* of whoever routes the lead */
	LR_BY_WORKER,				/* an executor, afterwards: see src/workers */
	LR_BY_AGENT					/* somebody outside, who takes tasks */
} LrStepMode;

/* What takes the place of a step that failed for good. */
typedef enum LrFallback
{
	LR_FALLBACK_NONE,
	LR_FALLBACK_AGENT,
	LR_FALLBACK_OUTPUT,
	LR_FALLBACK_SKIP
} LrFallback;

/* Leads for which a step may only be done in some regions. */
typedef struct LrRegionLimit
{
	LrCondition *when;
	List	   *allowed;		/* names of regions */
} LrRegionLimit;

typedef struct LrStep
{
	int			number;			/* place in the policy, from 0 */
	json_t	   *json;			/* as the document has it */
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
	int			flag;			/* the fact of the flag that switches it on, or -1 */
	bool		conditional;	/* a flag may switch it, or a step that it needs, off */
	Bitmapset  *after;			/* numbers of the steps that it needs */
	int			nstops;
	LrStop	   *stops;

	/* what steps wait for: see waits.c */
	LrStepMode	mode;
	bool		join_any;		/* one of the steps that it needs is enough */
	LrCondition *when;			/* the step is for leads for which it holds; NULL: for all */
	Bitmapset  *waits_for;		/* numbers of the steps before it that it has to wait for, while they wait */
	Bitmapset  *hold_until;		/* attributes that it is held for; NULL: it is not */
	int64		hold;			/* for how long at most, microseconds */
	double		review_below;	/* confidence below which a person decides; 0: none does */
	bool		escalates;		/* a failure for good is a person's to decide */
	int			nregions;
	LrRegionLimit *regions;		/* the first one that holds counts */
	LrFallback	fallback;
	Datum		fallback_output;
	LrAgent    *fallback_agent;
	int			queue_id;		/* of its tasks; 0 until lr_policy_queues() */
	int			fallback_queue_id;
	int64		start_within;	/* microseconds from when it is queued; 0: whenever */
	int64		close_within;
	int64		attempt_within; /* microseconds that one attempt may take; 0: any time */
	double		mean_duration;	/* of what an executor did in this session, microseconds; 0: unknown */
} LrStep;

/* What a rule asks of who works its leads. */
#define LR_MAX_SKILL_TERMS 32

/* The longest time that a rule gives, in days: a hundred years. */
#define LR_MAX_SPAN_DAYS 36000

typedef struct LrSkillTerm
{
	char	   *name;
	int			level;
	int64		wait;			/* microseconds after which it is dropped; 0: never */
} LrSkillTerm;

/* What is done on a rung of an SLA's ladder, in the order of the names in slas.c. */
typedef enum LrRungAction
{
	LR_RUNG_REMIND,
	LR_RUNG_REASSIGN,			/* to somebody else of the lead's pool */
	LR_RUNG_ESCALATE,			/* to somebody of the pool that is named */
	LR_RUNG_NOTIFY,
	LR_N_RUNGS
} LrRungAction;

#define LR_MAX_RUNGS 50

typedef struct LrRung
{
	int64		amount;			/* of the clock's time since its start, in microseconds */
	LrRungAction action;
	char	   *pool;			/* or NULL */
} LrRung;

/* The clock of a rule; see slas.c. */
typedef struct LrSla
{
	char		start;			/* g assigned, a accepted */
	char		stop;			/* r responded, a accepted, c closed */
	bool		working;		/* only the owner's working time counts */
	int64		within;			/* microseconds */
	int			nrungs;
	LrRung	   *rungs;			/* ascending */
} LrSla;

typedef struct LrTerms
{
	int64		within;			/* microseconds until the first response; 0: as may be */
	bool		working_clock;	/* only working time counts */
	int			nskills;
	LrSkillTerm *skills;
	bool		has_value;
	double		value;
	double		review_below;	/* confidence of the steps below which a person decides; 0: none does */
	LrSla	   *sla;			/* NULL: no clock runs */
} LrTerms;

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
	char	   *account_owner;	/* roles, each ending with a line feed, in order: who of the account is to have it; "": nobody */
	Bitmapset  *prerequisites;	/* numbers of the steps that have to be done for the rule to hold */
	bool		has_terms;
	LrTerms    *terms;			/* see lr_rule_terms() */
	void	   *in_hand;		/* what assignment has of its pool for the batch in hand, */
	uint64		in_hand_of;		/* if that is this one */
} LrRule;

/* Which of the rules that hold decides. */
typedef enum LrHitPolicy
{
	LR_HIT_PRIORITY,			/* the first by (priority, place) */
	LR_HIT_FIRST,				/* the first of the document */
	LR_HIT_UNIQUE				/* one only; where there are more, that is on record, and it is as under LR_HIT_PRIORITY */
} LrHitPolicy;

/* A feature flag that a policy version reads. */
typedef struct LrPolicyFlag
{
	const char *name;
	int			fact;
	struct LrFlag *flag;		/* as it is now; NULL if there is none: see flags.c */
} LrPolicyFlag;

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
	bool		conditions_read_all_keys;	/* rules or stop conditions do, not only agents */
	bool		timezone_matters;
	json_t	   *justifications; /* attribute to reason, or NULL */
	bool		waits;			/* a step may have a lead wait */
	bool		queues_known;
	int			nflags;
	LrPolicyFlag *flags;		/* in the order of the record */
	uint64		flags_generation;	/* of what they point to */
} LrPolicy;

/* policy.c */
extern void lr_policy_init(void);
extern LrPolicy *lr_policy_hold_active(const char *name, TimestampTz as_of);
extern LrPolicy *lr_policy_try_hold_active(const char *name, TimestampTz as_of, bool *unusable);
extern LrPolicy *lr_policy_hold(int version_id);
extern LrPolicy *lr_policy_hold_to_read(int version_id);
extern LrPolicy *lr_policy_try_hold(int version_id, bool *unusable);
extern void lr_policy_release(LrPolicy *policy);

/* types.c */
extern void lr_types_to_json(List *types, StringInfo json);
extern Oid	lr_type_by_name(const char *name);

/* compile.c */
typedef struct LrPlacedName
{
	const char *name;
	int			number;			/* place in its list */
} LrPlacedName;

extern LrPolicy *lr_policy_compile(json_t *document, json_t *pins, bool reading, LrMistakes *mistakes);
extern const char *lr_pool_hint(json_t *pools, const char *name);
extern void lr_names_check(const char *list, LrPlacedName *names, int n, const char *hint, LrMistakes *mistakes);
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
extern bool lr_begins_with_date(const char *text);
extern char *lr_owner_pool_name(const char *reference);
extern char *lr_roles_text(const char *account_owner);
extern void lr_make_owner_pools(LrPolicy *policy);

/* terms.c */
extern bool lr_terms_any(json_t *rule);
extern void lr_terms_check(json_t *rule, const char *place, LrMistakes *mistakes);
extern const LrTerms *lr_rule_terms(LrPolicy *policy, LrRule *rule);
extern LrTerms *lr_terms_read(const LrPolicy *policy, int number);
extern bool lr_span_read(const char *text, int64 *span);

/* slas.c */
extern bool lr_sla_any(json_t *rule);
extern void lr_sla_check(json_t *rule, json_t *pools, const char *place, LrMistakes *mistakes);
extern LrSla *lr_sla_read(json_t *rule);

/* waits.c */
extern bool lr_step_can_wait(const LrStep *step);
extern void lr_policy_queues(LrPolicy *policy);

/* tests.c */
extern void lr_tests_check(const LrPolicy *policy, json_t *document, LrMembers *members, json_t *pools, LrMistakes *mistakes);

/* run_tests.c */
typedef struct LrFailedTest
{
	char	   *name;
	char	   *difference;		/* JSON: of each member that came out otherwise, what was expected and what came */
} LrFailedTest;

extern List *lr_policy_failed_tests(LrPolicy *policy, json_t *document);

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
extern void lr_policy_check_usable(int version_id, const char *name);
extern const char *lr_policy_check_approved(const LrPolicyRow *row, int version_id, const char *name, bool force);
extern void lr_require_reason(bool force, const char *reason);

/* store.c */
extern int	lr_policy_store(const LrPolicy *policy, int policy_id, Datum document, Datum pins, Datum reason, Datum authors, int *version);
extern void lr_policy_load_rules(LrPolicy *policy, Datum stored);
extern void lr_policy_reindex(LrPolicy *policy);
extern json_t *lr_rule_json(const LrPolicy *policy, int number);
extern void lr_policy_read_stored_rules(LrPolicy *policy);
extern LrCondition *lr_rule_condition(LrPolicy *policy, int number);

/* segment.c: which leads a trial or a flag is for */
typedef struct LrSegment LrSegment;
struct LrRun;

extern LrSegment *lr_segment_make(const char *condition);
extern const Bitmapset *lr_segment_reads(const LrSegment *segment);
extern bool lr_segment_holds(const LrSegment *segment, const struct LrRun *run);
extern void lr_segment_check(const char *condition, json_t *justifications, const char *what, LrMistakes *mistakes);
extern bool lr_share_takes(const struct LrRun *run, const char *salt, double share);
extern int64 lr_hypothetical_turn(int64 lead_id);
extern char *lr_random_salt(void);
extern void lr_check_share(double share);

/* flags.c */
struct LrBatch;

#define LR_FLAG_PREFIX "flags."

extern List *lr_flag_names(void);
extern void lr_flags_find(LrPolicy *policy, bool all);
extern void lr_flags_evaluate(struct LrBatch *batch);

/* trial.c */
#define LR_N_BOUNDS 4

typedef struct LrTrial
{
	int			trial_id;
	int			policy_id;
	char	   *policy;
	int			candidate_version_id;
	int			baseline_version_id;
	bool		shadow;			/* the candidate decides, and nothing acts on it */
	double		share;
	char	   *salt;
	LrSegment  *segment;		/* NULL: everybody */
	bool		bounded;
	double		bounds[LR_N_BOUNDS];	/* in the order of lr_bound_names[]; NaN for none */
	int			min_leads;
	int			window;
	int			unchecked;		/* leads that this session tallied since it last looked at the bounds */
} LrTrial;

/* Where a lead stands in a trial. */
typedef enum LrSide
{
	LR_SIDE_NONE,				/* outside of its segment */
	LR_SIDE_BASELINE,
	LR_SIDE_CANDIDATE
} LrSide;

extern const char *const lr_bound_names[LR_N_BOUNDS];
extern LrTrial *lr_trial_running(const char *policy);
extern List *lr_trials_running(void);
extern LrSide lr_trial_side(const LrTrial *trial, const struct LrRun *run);
extern bool lr_trial_end(int trial_id, const char *how, const char *reason);
extern void lr_trial_end_with_baseline(int policy_id, Oid caller);
extern int	lr_trial_canary(int policy_id);

/* bounds.c */
extern void lr_bounds_read(LrTrial *trial, json_t *bounds, LrMistakes *mistakes);
extern void lr_trial_tally(LrTrial *trial, const struct LrBatch *batch);

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
extern MemoryContext lr_rule_set_memory(const LrRuleSet *set);
extern Size lr_rule_set_prepared(const LrRuleSet *set);
extern LrRule *lr_policy_rule(LrPolicy *policy, int place);
extern LrRule *lr_policy_rule_numbered(LrPolicy *policy, int number);
extern void lr_rules_match(LrPolicy *policy, uint32 done, Datum *values, bool *isnull, bool indexed, LrMatch *match);

#endif
