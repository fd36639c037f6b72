/*
 * rules.c: finding the first rule that holds, without trying them all.
 *
 * Tuple-space search (V. Srinivasan, S. Suri, G. Varghese: Packet Classification using Tuple Space Search, SIGCOMM 1999).
 * Rules are grouped by the set of facts that they compare for equality with constants (fact = c, fact IN (...)); each group
 * has one hash table from the constants to the rules, in the order in which rules are tried. A lead costs one probe a group.
 * Rules without an equality form a group whose only bucket holds them all. Whatever a probe finds is verified whole by the
 * executor, in order, and the search stops at the first rule that no other group can precede.
 *
 * What a probe skips has a conjunct that is false, with one exception: where the lead's fact is null the conjunct is null,
 * and then another conjunct that raises makes the rule an error. So that the index never changes which errors are seen,
 * the rules of a group that may raise are tried one by one when a fact of the group is null.
 */
#include "policy/policy.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* A rule whose IN lists multiply to more keys than this goes by fewer of its equalities. */
#define MAX_KEYS_PER_RULE 64
/* Facts that one group may compare. */
#define MAX_GROUP_FACTS 8

typedef struct Bucket
{
	uint64		hash;
	uint32		status;
	int			nrules;
	int			allocated;
	int		   *rules;			/* places in policy->rules, ascending */
} Bucket;

#define SH_PREFIX bucket
#define SH_ELEMENT_TYPE Bucket
#define SH_KEY_TYPE uint64
#define SH_KEY hash
#define SH_HASH_KEY(tb, key) ((uint32) (key))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

typedef struct RuleGroup
{
	int			nfacts;
	int			facts[MAX_GROUP_FACTS]; /* ascending */
	bucket_hash *buckets;
	int			first;			/* the lowest place of its rules */
	int			nraising;
	int		   *raising;		/* places of its rules that may raise */
} RuleGroup;

struct LrRuleIndex
{
	int			ngroups;
	RuleGroup	   *groups;			/* by first */
};

static void index_rule(LrRuleIndex *index, LrRule *rule, int place, MemoryContext memory);
static RuleGroup *find_group(LrRuleIndex *index, const int *facts, int nfacts, int place, MemoryContext memory);
static void add_to_bucket(RuleGroup *group, uint64 hash, int place);
static uint64 hash_fact(uint64 hash, int fact, Datum value);
static int	compare_groups(const void *a, const void *b);
static int	compare_places(const void *a, const void *b);

/* Builds the index over policy->rules, in the policy's memory. */
void
lr_rule_index_build(LrPolicy *policy)
{
	LrRuleIndex *index = palloc0(sizeof(LrRuleIndex));

	index->groups = palloc0(sizeof(RuleGroup) * Max(policy->nrules, 1));
	for (int place = 0; place < policy->nrules; place++)
		index_rule(index, &policy->rules[place], place, policy->memory);
	qsort(index->groups, index->ngroups, sizeof(RuleGroup), compare_groups);
	policy->index = index;
}

/* Enters one rule under every combination of the constants it compares with. */
static void
index_rule(LrRuleIndex *index, LrRule *rule, int place, MemoryContext memory)
{
	LrEquality *by_fact[MAX_GROUP_FACTS];
	int			facts[MAX_GROUP_FACTS];
	int			nfacts = 0;
	int			nkeys = 1;
	RuleGroup	   *group;

	for (int fact = 0; fact < LR_N_FACTS && nfacts < MAX_GROUP_FACTS; fact++)
	{
		for (int i = 0; i < rule->when->nconjuncts; i++)
		{
			LrEquality *equality = rule->when->conjuncts[i].equality;

			if (equality && equality->fact == fact && equality->nvalues > 0 && nkeys * equality->nvalues <= MAX_KEYS_PER_RULE)
			{
				by_fact[nfacts] = equality;
				facts[nfacts++] = fact;
				nkeys *= equality->nvalues;
				break;
			}
		}
	}

	group = find_group(index, facts, nfacts, place, memory);
	for (int key = 0; key < nkeys; key++)
	{
		uint64		hash = 0;
		int			rest = key;

		for (int i = 0; i < nfacts; i++)
		{
			hash = hash_fact(hash, facts[i], by_fact[i]->values[rest % by_fact[i]->nvalues]);
			rest /= by_fact[i]->nvalues;
		}
		add_to_bucket(group, hash, place);
	}
	if (rule->when->may_raise)
	{
		if (group->raising == NULL)
			group->raising = palloc(sizeof(int));
		else
			group->raising = repalloc(group->raising, sizeof(int) * (group->nraising + 1));
		group->raising[group->nraising++] = place;
	}
}

static RuleGroup *
find_group(LrRuleIndex *index, const int *facts, int nfacts, int place, MemoryContext memory)
{
	RuleGroup	   *group;

	for (int i = 0; i < index->ngroups; i++)
	{
		group = &index->groups[i];
		if (group->nfacts == nfacts && memcmp(group->facts, facts, sizeof(int) * nfacts) == 0)
			return group;
	}
	group = &index->groups[index->ngroups++];
	group->nfacts = nfacts;
	memcpy(group->facts, facts, sizeof(int) * nfacts);
	group->buckets = bucket_create(memory, 16, NULL);
	group->first = place;
	return group;
}

/* Adds a rule to a bucket; its place is never lower than what the bucket holds. */
static void
add_to_bucket(RuleGroup *group, uint64 hash, int place)
{
	bool		found;
	Bucket	   *bucket = bucket_insert(group->buckets, hash, &found);

	if (!found)
	{
		bucket->nrules = 0;
		bucket->allocated = 1;
		bucket->rules = palloc(sizeof(int));
	}
	if (bucket->nrules > 0 && bucket->rules[bucket->nrules - 1] == place)
		return;
	if (bucket->nrules == bucket->allocated)
	{
		bucket->allocated *= 2;
		bucket->rules = repalloc(bucket->rules, sizeof(int) * bucket->allocated);
	}
	bucket->rules[bucket->nrules++] = place;
}

/* Extends a hash by one fact. Equal hashes of different constants do no harm: every candidate is verified whole. */
static uint64
hash_fact(uint64 hash, int fact, Datum value)
{
	uint64		own;

	if (lr_facts[fact].type == TEXTOID)
	{
		text	   *string = DatumGetTextPP(value);

		own = hash_bytes_extended((unsigned char *) VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string), fact + 1);
	}
	else
		own = hash_bytes_uint32_extended((uint32) DatumGetInt32(value), fact + 1);
	return hash_combine64(hash, own);
}

/*
 * Finds the first rule that holds for a lead. *match also gets the rules before it that raised. Errors are allocated in the
 * current memory context.
 */
void
lr_rules_match(LrPolicy *policy, Datum *values, bool *isnull, LrMatch *match)
{
	LrRuleIndex *index = policy->index;
	int			best = policy->nrules;
	int			kept = 0;

	memset(match, 0, sizeof(*match));
	for (int g = 0; g < index->ngroups; g++)
	{
		RuleGroup	   *group = &index->groups[g];
		uint64		hash = 0;
		bool		missing = false;
		const int  *places = NULL;
		int			nplaces = 0;

		if (group->first >= best)
			break;
		for (int i = 0; i < group->nfacts && !missing; i++)
		{
			missing = isnull[group->facts[i]];
			if (!missing)
				hash = hash_fact(hash, group->facts[i], values[group->facts[i]]);
		}
		if (missing)
		{
			places = group->raising;
			nplaces = group->nraising;
		}
		else
		{
			Bucket	   *bucket = bucket_lookup(group->buckets, hash);

			if (bucket)
			{
				places = bucket->rules;
				nplaces = bucket->nrules;
			}
		}

		for (int i = 0; i < nplaces && places[i] < best; i++)
		{
			LrConditionError error;
			LrTruth		truth = lr_condition_evaluate(policy->rules[places[i]].when, policy->evaluator, values, isnull, &error);

			if (truth == LR_TRUE)
				best = places[i];
			else if (truth == LR_ERROR)
			{
				match->errors = match->errors ? repalloc(match->errors, sizeof(LrRuleError) * (match->nerrors + 1)) : palloc(sizeof(LrRuleError));
				match->errors[match->nerrors].rule = places[i];
				match->errors[match->nerrors++].error = error;
			}
		}
	}

	/* errors of rules behind the one that holds were never asked for */
	for (int i = 0; i < match->nerrors; i++)
	{
		if (match->errors[i].rule < best)
			match->errors[kept++] = match->errors[i];
	}
	match->nerrors = kept;
	if (kept > 1)
		qsort(match->errors, kept, sizeof(LrRuleError), compare_places);
	for (int i = 0; i < kept; i++)
		match->errors[i].rule = policy->rules[match->errors[i].rule].number;
	if (best < policy->nrules)
		match->rule = &policy->rules[best];
}

static int
compare_groups(const void *a, const void *b)
{
	return ((const RuleGroup *) a)->first - ((const RuleGroup *) b)->first;
}

static int
compare_places(const void *a, const void *b)
{
	return ((const LrRuleError *) a)->rule - ((const LrRuleError *) b)->rule;
}
