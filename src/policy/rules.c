/*
 * rules.c: finding the rules that hold for a lead, without trying them all.
 *
 * The index (rule_index.c) has the rules in groups, by the columns that they compare for equality. A lead costs one probe a
 * group. Whatever a probe finds is verified whole by the executor, in the order in which rules are tried, and unless the hit
 * policy wants to know them all the search stops at the first rule that no other group can precede.
 *
 * What a probe skips has a conjunct that is false, with one exception: where the lead's value is null the conjunct is null,
 * and then another conjunct that raises makes the rule an error. So that the index never changes which errors are seen,
 * the rules of a group that may raise are tried one by one when a value that it compares is null.
 *
 * A rule is verified through its shape (shape.c). Shapes are prepared when first needed and kept, the most recently used
 * ones, within leadroute.rule_cache_size.
 */
#include "policy/rule_index.h"

#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "policy/shape.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

typedef struct Shape
{
	MemoryContext memory;		/* NULL while not prepared */
	LrCondition *condition;
	TupleTableSlot *constants;
	Size		size;
	uint64		used;			/* number of the search that used it last */
} Shape;

/* What a lead has in a column. */
typedef struct ColumnValue
{
	uint64		search;			/* for which it was read */
	bool		isnull;
	Datum		value;
} ColumnValue;

/* The index of a policy version in this session. */
struct LrRuleSet
{
	MemoryContext memory;
	LrRuleIndex *index;
	Shape	   *shapes;
	ColumnValue *columns;
	LrRule	  **rules;			/* by place, those that were chosen so far */
	Size		size;			/* of the prepared shapes */
};

/* One search. */
typedef struct Search
{
	LrPolicy   *policy;
	LrRuleSet  *set;
	const LrIndexRule *rules;
	uint32		done;			/* steps that are done */
	Datum	   *values;
	bool	   *isnull;
	bool		all;			/* every rule that holds is wanted */
	int			best;			/* place of the first that holds so far */
	LrMatch    *match;
} Search;

int			lr_rule_cache_size = 65536;

static uint64 searches = 0;

static void search_group(Search *search, const LrIndexGroup *group);
static bool group_hash(Search *search, const LrIndexGroup *group, uint64 *hash);
static const LrIndexBucket *find_bucket(const LrRuleIndex *index, const LrIndexGroup *group, uint64 hash);
static void search_bucket(Search *search, const LrIndexBucket *bucket);
static const ColumnValue *column_value(Search *search, int column);
static Datum member_text(Datum attributes, const char *member, bool *isnull);
static void try_places(Search *search, const int32 *places, int n);
static void try_merged(Search *search, const int32 **lists, const int32 **ends, int nlists);
static void try_rule(Search *search, int place);
static Shape *prepared(LrPolicy *policy, int number);
static void prepare(LrPolicy *policy, Shape *shape, const LrIndexShape *entry);
static void make_room(LrRuleSet *set);
static void finish(Search *search);
static int	compare_ints(const void *a, const void *b);
static int	compare_used(const void *a, const void *b);

/* Registers the setting. */
void
lr_rules_init(void)
{
	DefineCustomIntVariable("leadroute.rule_cache_size",
							"How much memory a session keeps prepared rules in, for each policy version.",
							"Rules whose conditions differ in constants only share one prepared condition. The least recently used go first.",
							&lr_rule_cache_size, 65536, 1024, MAX_KILOBYTES, PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
}

/* Makes what searching an index needs, in the current memory context; the index is not copied. */
LrRuleSet *
lr_rule_set_make(LrRuleIndex *index)
{
	LrRuleSet  *set = palloc0(sizeof(LrRuleSet));

	set->memory = CurrentMemoryContext;
	set->index = index;
	set->shapes = palloc0(sizeof(Shape) * Max(index->nshapes, 1));
	set->columns = palloc0(sizeof(ColumnValue) * Max(index->ncolumns, 1));
	set->rules = palloc0(sizeof(LrRule *) * Max(index->nrules, 1));
	return set;
}

/* Returns the index. */
const LrRuleIndex *
lr_rule_set_index(const LrRuleSet *set)
{
	return set->index;
}

/* Returns the memory that lives as long as the set. */
MemoryContext
lr_rule_set_memory(const LrRuleSet *set)
{
	return set->memory;
}

/* Returns how much memory prepared rules take at present. */
Size
lr_rule_set_prepared(const LrRuleSet *set)
{
	return set->size;
}

/* Returns the rule at a place in the order in which rules are tried. It lives as long as the policy. */
LrRule *
lr_policy_rule(LrPolicy *policy, int place)
{
	LrRuleSet  *set = policy->rule_set;
	const LrIndexRule *entry = lr_index_section(set->index, LR_SECTION_RULES, LrIndexRule) + place;
	const LrIndexTarget *target = lr_index_section(set->index, LR_SECTION_TARGETS, LrIndexTarget) + entry->target;
	LrRule	   *rule = set->rules[place];

	if (rule == NULL)
	{
		rule = MemoryContextAllocZero(set->memory, sizeof(LrRule));
		rule->number = entry->number;
		rule->outcome = (LrOutcome) target->outcome;
		rule->pool_id = target->pool_id;
		rule->reason = lr_index_section(set->index, LR_SECTION_STRINGS, char) + target->reason;
		rule->has_terms = target->has_terms;
		rule->account_owner = lr_index_section(set->index, LR_SECTION_STRINGS, char) + target->account_owner;
		set->rules[place] = rule;
	}
	return rule;
}

/* Returns the rule that has a number in the document, NULL if it is none that is tried. */
LrRule *
lr_policy_rule_numbered(LrPolicy *policy, int number)
{
	const LrIndexRule *rules = lr_index_section(policy->rule_set->index, LR_SECTION_RULES, LrIndexRule);

	for (int place = 0; place < policy->rule_set->index->nrules; place++)
	{
		if (rules[place].number == number)
			return lr_policy_rule(policy, place);
	}
	return NULL;
}

/*
 * Finds the rule that decides about a lead: under every hit policy the first that holds, in the order in which rules are
 * tried. done has a bit for each step that is done. *match also gets the rules that raised: those before the one that decides;
 * all of them, and all that hold, if the hit policy is unique. indexed: false tries all rules one after the other. What *match
 * points to is allocated in the current memory context.
 */
void
lr_rules_match(LrPolicy *policy, uint32 done, Datum *values, bool *isnull, bool indexed, LrMatch *match)
{
	LrRuleSet  *set = policy->rule_set;
	const LrRuleIndex *index = set->index;
	const LrIndexGroup *groups = lr_index_section(index, LR_SECTION_GROUPS, LrIndexGroup);
	Search		search = {.policy = policy,.set = set,.done = done,.values = values,.isnull = isnull,.best = index->nrules,.match = match};

	memset(match, 0, sizeof(*match));
	search.rules = lr_index_section(index, LR_SECTION_RULES, LrIndexRule);
	search.all = policy->hit_policy == LR_HIT_UNIQUE;
	searches++;
	if (unlikely(set->size > (Size) lr_rule_cache_size * 1024))
		make_room(set);
	if (indexed)
	{
		for (int g = 0; g < index->ngroups && (search.all || groups[g].first < search.best); g++)
			search_group(&search, &groups[g]);
	}
	else
	{
		for (int place = 0; place < index->nrules && (search.all || place < search.best); place++)
			try_rule(&search, place);
	}
	finish(&search);
}

static void
search_group(Search *search, const LrIndexGroup *group)
{
	const LrIndexBucket *bucket;
	uint64		hash;

	if (!group_hash(search, group, &hash))
	{
		try_places(search, lr_index_section(search->set->index, LR_SECTION_PLACES, int32) + group->raising, group->nraising);
		return;
	}
	bucket = find_bucket(search->set->index, group, hash);
	if (bucket)
		search_bucket(search, bucket);
}

/* Hashes what a lead has in a group's columns; returns false if it lacks one. */
static bool
group_hash(Search *search, const LrIndexGroup *group, uint64 *hash)
{
	const LrIndexColumn *columns = lr_index_section(search->set->index, LR_SECTION_COLUMNS, LrIndexColumn);

	*hash = 0;
	for (int i = 0; i < group->ncolumns; i++)
	{
		int			column = group->columns[i];
		const ColumnValue *value = column_value(search, column);

		if (value->isnull)
			return false;
		*hash = lr_column_hash(*hash, column, columns[column].member >= 0 ? TEXTOID : lr_facts[columns[column].fact].type, value->value);
	}
	return true;
}

static const LrIndexBucket *
find_bucket(const LrRuleIndex *index, const LrIndexGroup *group, uint64 hash)
{
	const int32 *table = lr_index_section(index, LR_SECTION_TABLES, int32) + group->table;
	const LrIndexBucket *buckets = lr_index_section(index, LR_SECTION_BUCKETS, LrIndexBucket);

	for (uint32 at = (uint32) hash & group->mask; table[at] != 0; at = (at + 1) & group->mask)
	{
		if (buckets[table[at] - 1].hash == hash)
			return &buckets[table[at] - 1];
	}
	return NULL;
}

static void
search_bucket(Search *search, const LrIndexBucket *bucket)
{
	const LrRuleIndex *index = search->set->index;
	const int32 *places = lr_index_section(index, LR_SECTION_PLACES, int32) + bucket->places;
	const LrIndexColumn *column;
	const ColumnValue *value;
	const int32 *lists[LR_TREE_LEVELS];
	const int32 *ends[LR_TREE_LEVELS];

	if (bucket->tree < 0)
	{
		try_places(search, places, bucket->nplaces);
		return;
	}
	column = lr_index_section(index, LR_SECTION_COLUMNS, LrIndexColumn) + bucket->column;
	value = column_value(search, bucket->column);
	if (!value->isnull)
	{
		Oid			type = column->member >= 0 ? TEXTOID : lr_facts[column->fact].type;

		try_merged(search, lists, ends, lr_tree_lists(index, bucket, lr_order_place(type, value->value), lists, ends));
	}
	else
	{
		/* those without a bound here can hold; they stand in the root */
		int			n = lr_tree_root(index, bucket, lists, ends);

		if (bucket->may_raise)
			try_places(search, places, bucket->nplaces);
		else
			try_merged(search, lists, ends, n);
	}
}

/* Reads what the lead has in a column, once a search. */
static const ColumnValue *
column_value(Search *search, int column)
{
	const LrRuleIndex *index = search->set->index;
	const LrIndexColumn *entry = lr_index_section(index, LR_SECTION_COLUMNS, LrIndexColumn) + column;
	ColumnValue *value = &search->set->columns[column];

	if (value->search == searches)
		return value;
	value->search = searches;
	value->isnull = search->isnull[entry->fact];
	if (value->isnull)
		return value;
	value->value = search->values[entry->fact];
	if (entry->member >= 0)
	{
		MemoryContext saved = MemoryContextSwitchTo(search->policy->evaluator->context->ecxt_per_tuple_memory);

		value->value = member_text(value->value, lr_index_section(index, LR_SECTION_STRINGS, char) + entry->member, &value->isnull);
		MemoryContextSwitchTo(saved);
	}
	return value;
}

/* Gives what attributes->>'member' gives. */
static Datum
member_text(Datum attributes, const char *member, bool *isnull)
{
	LOCAL_FCINFO(call, 2);
	Datum		result;

	InitFunctionCallInfoData(*call, NULL, 2, InvalidOid, NULL, NULL);
	call->args[0].value = attributes;
	call->args[0].isnull = false;
	call->args[1].value = CStringGetTextDatum(member);
	call->args[1].isnull = false;
	result = jsonb_object_field_text(call);
	*isnull = call->isnull;
	return result;
}

static void
try_places(Search *search, const int32 *places, int n)
{
	for (int i = 0; i < n && (search->all || places[i] < search->best); i++)
		try_rule(search, places[i]);
}

/* Tries the rules of ascending lists, in ascending order. */
static void
try_merged(Search *search, const int32 **lists, const int32 **ends, int nlists)
{
	while (nlists > 0)
	{
		int			least = 0;

		for (int i = 1; i < nlists; i++)
		{
			if (*lists[i] < *lists[least])
				least = i;
		}
		if (!search->all && *lists[least] >= search->best)
			return;
		try_rule(search, *lists[least]);
		if (++lists[least] == ends[least])
		{
			nlists--;
			lists[least] = lists[nlists];
			ends[least] = ends[nlists];
		}
	}
}

/* Verifies a rule. */
static void
try_rule(Search *search, int place)
{
	LrMatch    *match = search->match;
	const LrIndexRule *rule = &search->rules[place];
	LrEvaluator *evaluator = search->policy->evaluator;
	Shape	   *shape;
	LrConditionError error;
	LrTruth		truth;

	match->verified++;
	if ((rule->needs & ~search->done) != 0)
		return;
	shape = prepared(search->policy, rule->shape);
	lr_constants_read(shape->constants, lr_index_section(search->set->index, LR_SECTION_CONSTANTS, char) + rule->constants);
	evaluator->context->ecxt_outertuple = shape->constants;
	truth = lr_condition_evaluate(shape->condition, evaluator, search->values, search->isnull, &error);
	if (truth == LR_TRUE)
	{
		search->best = Min(search->best, place);
		if (search->all)
		{
			match->hits = match->hits ? repalloc(match->hits, sizeof(int) * (match->nhits + 1)) : palloc(sizeof(int));
			match->hits[match->nhits++] = place;
		}
	}
	else if (truth == LR_ERROR)
	{
		match->errors = match->errors ? repalloc(match->errors, sizeof(LrRuleError) * (match->nerrors + 1)) : palloc(sizeof(LrRuleError));
		match->errors[match->nerrors].rule = place;
		match->errors[match->nerrors++].error = error;
	}
}

static Shape *
prepared(LrPolicy *policy, int number)
{
	LrRuleSet  *set = policy->rule_set;
	Shape	   *shape = &set->shapes[number];

	if (unlikely(shape->memory == NULL))
		prepare(policy, shape, lr_index_section(set->index, LR_SECTION_SHAPES, LrIndexShape) + number);
	shape->used = searches;
	return shape;
}

/* Makes a shape from a rule that has it. */
static void
prepare(LrPolicy *policy, Shape *shape, const LrIndexShape *entry)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "leadroute rule shape", ALLOCSET_SMALL_SIZES);
	MemoryContext saved = MemoryContextSwitchTo(memory);
	LrCondition *when = policy->rules ? policy->rules[entry->example].when
		: lr_rule_condition(policy, lr_index_section(policy->rule_set->index, LR_SECTION_RULES, LrIndexRule)[entry->example].number);
	List	   *constants;
	LrCondition *condition = lr_shape_of(when, &constants);
	TupleTableSlot *slot = lr_shape_slot(constants);

	if (list_length(constants) != entry->nconstants)
		ereport(ERROR,
				errcode(ERRCODE_DATA_CORRUPTED),
				errmsg("the rule index of version %d of policy \"%s\" does not fit its rules", policy->version, policy->name),
				errhint("Make it anew with leadroute.rebuild_rule_index()."));
	lr_condition_prepare(condition, memory);
	MemoryContextSwitchTo(saved);
	MemoryContextSetParent(memory, policy->rule_set->memory);
	shape->condition = condition;
	shape->constants = slot;
	shape->size = MemoryContextMemAllocated(memory, true);
	shape->memory = memory;
	policy->rule_set->size += shape->size;
}

/* Drops the less recently used half of the prepared shapes. */
static void
make_room(LrRuleSet *set)
{
	uint64	   *used = palloc(sizeof(uint64) * set->index->nshapes);
	int			n = 0;
	uint64		limit;

	for (int i = 0; i < set->index->nshapes; i++)
	{
		if (set->shapes[i].memory)
			used[n++] = set->shapes[i].used;
	}
	qsort(used, n, sizeof(uint64), compare_used);
	limit = used[n / 2];
	for (int i = 0; i < set->index->nshapes; i++)
	{
		Shape	   *shape = &set->shapes[i];

		if (shape->memory == NULL || shape->used > limit)
			continue;
		set->size -= shape->size;
		MemoryContextDelete(shape->memory);
		memset(shape, 0, sizeof(*shape));
	}
	pfree(used);
}

/* Puts what was found in order. */
static void
finish(Search *search)
{
	LrMatch    *match = search->match;
	int			kept = 0;

	/* errors of rules behind the one that decides were never asked for */
	for (int i = 0; i < match->nerrors; i++)
	{
		if (search->all || match->errors[i].rule < search->best)
			match->errors[kept++] = match->errors[i];
	}
	match->nerrors = kept;
	/* what begins with its place sorts by it */
	StaticAssertStmt(offsetof(LrRuleError, rule) == 0, "the place comes first");
	if (kept > 1)
		qsort(match->errors, kept, sizeof(LrRuleError), compare_ints);
	for (int i = 0; i < kept; i++)
		match->errors[i].rule = search->rules[match->errors[i].rule].number;
	if (match->nhits > 1)
		qsort(match->hits, match->nhits, sizeof(int), compare_ints);
	for (int i = 0; i < match->nhits; i++)
		match->hits[i] = search->rules[match->hits[i]].number;
	if (search->best < search->set->index->nrules)
		match->rule = lr_policy_rule(search->policy, search->best);
}

static int
compare_ints(const void *a, const void *b)
{
	return *(const int *) a - *(const int *) b;
}

static int
compare_used(const void *a, const void *b)
{
	uint64		one = *(const uint64 *) a;
	uint64		other = *(const uint64 *) b;

	return one < other ? -1 : one > other;
}
