/*
 * analysis_targets.c: targets that nobody works, and agents that are on their way out.
 *
 * A pool without members who are available leaves its leads without an owner. That is no property of the document: it is
 * looked up as it is now, with one query for all pools and owners.
 */
#include "policy/analysis.h"


/* A pool, by its number, which is what a version pins; or an owner who has no pool yet, by name. */
typedef struct TargetState
{
	int			pool_id;
	char	   *name;
	int64		members;
	int64		available;
} TargetState;

typedef struct TargetStates
{
	int			n;
	TargetState *targets;
} TargetStates;

static TargetStates read_targets(const char *query);
static void report_target(LrAnalysis *analysis, const LrRule *rule, int64 rules, const TargetState *target);
static void report_agents(LrAnalysis *analysis);
static int	compare_pools(const void *a, const void *b);
static int	compare_names(const void *a, const void *b);

/* Reports pools without available members, owners that are switched off, steps with agents that are deprecated or retired. */
void
lr_find_dead_targets(LrAnalysis *analysis)
{
	/* the pool of one owner stands for its owner; a member without an owner gets nothing */
	TargetStates pools = read_targets("SELECT p.pool_id, p.name, count(o.owner_id), count(*) FILTER (WHERE o.available) FROM leadroute.pools p"
									  " LEFT JOIN leadroute.pool_members m USING (pool_id) LEFT JOIN leadroute.owners o USING (owner_id)"
									  " GROUP BY p.pool_id ORDER BY p.pool_id");
	TargetStates owners = read_targets("SELECT 0, o.reference, 1::bigint, o.available::integer::bigint FROM leadroute.owners o"
									   " ORDER BY o.reference COLLATE \"C\"");
	int64	   *rules = palloc0(sizeof(int64) * (analysis->nsubjects + 2));

	/* targets are numbered from one */
	for (int i = analysis->nstops; i < analysis->nsubjects; i++)
		rules[analysis->subjects[i].target]++;
	for (int i = analysis->nstops; i < analysis->nsubjects; i++)
	{
		const LrSubject *subject = &analysis->subjects[i];
		TargetState wanted = {.pool_id = subject->rule->pool_id,.name = subject->rule->owner};
		const TargetState *target;

		if (subject->rule->pool == NULL || rules[subject->target] == 0)
			continue;
		target = wanted.pool_id != 0 ? bsearch(&wanted, pools.targets, pools.n, sizeof(TargetState), compare_pools)
			: bsearch(&wanted, owners.targets, owners.n, sizeof(TargetState), compare_names);
		if (target == NULL || target->available == 0)
			report_target(analysis, subject->rule, rules[subject->target], target);
		rules[subject->target] = 0;
	}
	report_agents(analysis);
}

static TargetStates
read_targets(const char *query)
{
	MemoryContext memory = CurrentMemoryContext;
	MemoryContext saved;
	LrIdentity	identity;
	TargetStates result;

	lr_sql_begin(&identity);
	result.n = (int) lr_sql(query, true, 0, NULL, NULL, NULL);
	saved = MemoryContextSwitchTo(memory);
	result.targets = palloc_extended(sizeof(TargetState) * Max(result.n, 1), MCXT_ALLOC_HUGE);
	for (int i = 0; i < result.n; i++)
		result.targets[i] = (TargetState) {
			.pool_id = lr_sql_int32(i, 1, 0),.name = pstrdup(lr_sql_text(i, 2)),.members = lr_sql_int64(i, 3, 0),.available = lr_sql_int64(i, 4, 0)
		};
	MemoryContextSwitchTo(saved);
	lr_sql_end(&identity);
	return result;
}

static void
report_target(LrAnalysis *analysis, const LrRule *rule, int64 rules, const TargetState *target)
{
	LrFinding  *finding;

	if (!lr_finding_wanted(analysis, LR_FINDING_DEAD_TARGET, LR_WARNING_FINDING))
		return;
	if (rule->owner)
		finding = lr_finding_add(analysis, LR_FINDING_DEAD_TARGET, LR_WARNING_FINDING, rule->name, NULL,
								 "UPDATE leadroute.owners SET available = true, or lead to somebody else.", "Owner \"%s\" is not available.", rule->owner);
	else if (target == NULL)
		finding = lr_finding_add(analysis, LR_FINDING_DEAD_TARGET, LR_WARNING_FINDING, rule->name, NULL, "Publish the policy again, with another pool.",
								 "Pool \"%s\" is no longer there.", rule->pool);
	else
		finding = lr_finding_add(analysis, LR_FINDING_DEAD_TARGET, LR_WARNING_FINDING, rule->name, NULL,
								 target->members ? "Add others to leadroute.pool_members, or make one of them available." : "INSERT INTO leadroute.pool_members adds them.",
								 target->members ? "No member of pool \"%s\" is available." : "Pool \"%s\" has no members.", target->name);
	finding->occurrences = rules;
}

static void
report_agents(LrAnalysis *analysis)
{
	const LrPolicy *policy = analysis->policy;

	for (int i = 0; i < policy->nsteps; i++)
	{
		const LrAgent *agent = policy->steps[i].agent;

		if (!agent->deprecated && !agent->retired)
			continue;
		if (lr_finding_wanted(analysis, LR_FINDING_DEAD_TARGET, LR_WARNING_FINDING))
			(void) lr_finding_add(analysis, LR_FINDING_DEAD_TARGET, LR_WARNING_FINDING, NULL, NULL,
								  "Register another version, and publish the policy again.", "steps[%d], %s: agent \"%s\" version \"%s\" is %s.", i,
								  policy->steps[i].capability, agent->name, agent->version, agent->retired ? "retired" : "deprecated");
	}
}

static int
compare_pools(const void *a, const void *b)
{
	return ((const TargetState *) a)->pool_id - ((const TargetState *) b)->pool_id;
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(((const TargetState *) a)->name, ((const TargetState *) b)->name);
}
