/*
 * rule_index.c: building the index over the rules of a policy version.
 *
 * Tuple-space search (V. Srinivasan, S. Suri, G. Varghese: Packet Classification using Tuple Space Search, SIGCOMM 1999).
 * Rules are grouped by the set of columns that they compare for equality with constants (column = c, column IN (...)); each
 * group has one hash table from the constants to the rules, its buckets. A large bucket whose rules also set bounds to a
 * column has a tree over these (bounds_tree.c). Rules without an equality form a group whose only bucket holds them all.
 * rules.c searches.
 */
#include "policy/rule_index.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "policy/shape.h"
#include "port/pg_bitutils.h"
#include "provenance/provenance.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

/* A rule whose IN lists multiply to more keys than this goes by fewer of its equalities. */
#define MAX_KEYS_PER_RULE 64
/* A bucket of fewer rules is searched as it is. */
#define MIN_TREE_RULES 8

#define ORDER_MARK 0x01020304

typedef struct Builder
{
	const LrPolicy *policy;
	StringInfoData sections[LR_N_SECTIONS];
	List	   *columns;		/* of LrTestColumn */
	List	   *groups;			/* of GroupBuilder */
	HTAB	   *shapes;			/* by digest */
	int			nshapes;
	HTAB	   *targets;
	int			ntargets;
	MemoryContext scratch;
} Builder;

typedef struct Key
{
	uint64		hash;
	int32		place;
} Key;

typedef struct GroupBuilder
{
	int			ncolumns;
	int			columns[LR_GROUP_COLUMNS];
	int			nkeys;
	int			allocated;
	Key		   *keys;
	List	   *raising;		/* places */
} GroupBuilder;

typedef struct ShapeEntry
{
	uint8		digest[32];
	int			number;
} ShapeEntry;

typedef struct Target
{
	int32		outcome;
	int32		pool_id;
	int32		has_terms;
	char		reason[64];
	char		account_owner[64];
} Target;

typedef struct TargetNumber
{
	Target	key;
	int			number;
} TargetNumber;

static void add_rule(Builder *builder, int place);
static int	add_shape(Builder *builder, int place, int32 *constants);
static int	add_target(Builder *builder, const LrRule *rule);
static void add_keys(Builder *builder, const LrRule *rule, int place);
static int	find_column(Builder *builder, const LrTestColumn *column);
static GroupBuilder *find_group(Builder *builder, const int *columns, int ncolumns);
static void finish_group(Builder *builder, GroupBuilder *group);
static void add_bucket(Builder *builder, const Key *keys, int n);
static void add_tree(Builder *builder, const int32 *places, int n, LrIndexBucket *bucket);
static int	bounded_column(Builder *builder, const int32 *places, int n);
static void column_bounds(const LrRule *rule, const LrTestColumn *column, LrBounds *bounds);
static bool same_column(const LrTestColumn *a, const LrTestColumn *b);
static int32 add_string(Builder *builder, const char *string);
static HTAB *make_table(const char *name, Size keysize, Size entrysize);
static LrRuleIndex *assemble(Builder *builder);
static int	compare_keys(const void *a, const void *b);
static int	compare_groups(const void *a, const void *b);
static int	compare_ints(const void *a, const void *b);

/* Builds the index over policy->rules, in the current memory context. */
LrRuleIndex *
lr_rule_index_build(const LrPolicy *policy)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "leadroute rule index", ALLOCSET_DEFAULT_SIZES);
	MemoryContext saved = MemoryContextSwitchTo(memory);
	Builder    *builder = palloc0(sizeof(Builder));
	ListCell   *cell;
	LrRuleIndex *index;
	LrRuleIndex *result;

	builder->policy = policy;
	for (int i = 0; i < LR_N_SECTIONS; i++)
		initStringInfo(&builder->sections[i]);
	builder->shapes = make_table("leadroute shapes", sizeof(((ShapeEntry *) NULL)->digest), sizeof(ShapeEntry));
	builder->targets = make_table("leadroute targets", sizeof(Target), sizeof(TargetNumber));
	builder->scratch = AllocSetContextCreate(memory, "leadroute shape", ALLOCSET_DEFAULT_SIZES);
	for (int place = 0; place < policy->nrules; place++)
	{
		CHECK_FOR_INTERRUPTS();
		add_rule(builder, place);
	}
	foreach(cell, builder->groups)
		finish_group(builder, lfirst(cell));
	index = assemble(builder);
	MemoryContextSwitchTo(saved);
	result = palloc(index->size);
	memcpy(result, index, index->size);
	MemoryContextDelete(memory);
	return result;
}

/* Tells whether stored bytes are an index that this server can use. */
bool
lr_rule_index_usable(const LrRuleIndex *index, Size size)
{
	return size >= sizeof(LrRuleIndex) && index->magic == LR_INDEX_MAGIC && index->format == LR_INDEX_FORMAT && index->order == ORDER_MARK &&
		index->server == PG_VERSION_NUM / 10000 && (Size) index->size == size;
}

static void
add_rule(Builder *builder, int place)
{
	const LrRule *rule = &builder->policy->rules[place];
	LrIndexRule entry = {.number = rule->number,.target = add_target(builder, rule)};
	int			step = -1;

	while ((step = bms_next_member(rule->prerequisites, step)) >= 0)
		entry.needs |= (uint32) 1 << step;
	entry.shape = add_shape(builder, place, &entry.constants);
	appendBinaryStringInfo(&builder->sections[LR_SECTION_RULES], (char *) &entry, sizeof(entry));
	add_keys(builder, rule, place);
}

/* Finds or adds the shape of a rule's condition, and adds its constants. */
static int
add_shape(Builder *builder, int place, int32 *constants)
{
	const LrRule *rule = &builder->policy->rules[place];
	MemoryContext saved = MemoryContextSwitchTo(builder->scratch);
	List	   *lifted;
	char	   *text = lr_shape_text(lr_shape_of(rule->when, &lifted));
	uint8		digest[32];
	bool		found;
	ShapeEntry *shape;
	ListCell   *cell;
	StringInfo	out = &builder->sections[LR_SECTION_CONSTANTS];

	lr_sha256(text, strlen(text), digest);
	shape = hash_search(builder->shapes, digest, HASH_ENTER, &found);
	if (!found)
	{
		LrIndexShape entry = {.example = place,.nconstants = list_length(lifted),.may_raise = rule->when->may_raise};

		shape->number = builder->nshapes++;
		appendBinaryStringInfo(&builder->sections[LR_SECTION_SHAPES], (char *) &entry, sizeof(entry));
	}
	enlargeStringInfo(out, MAXIMUM_ALIGNOF);
	while (out->len % MAXIMUM_ALIGNOF)
		appendStringInfoChar(out, '\0');
	*constants = out->len;
	foreach(cell, lifted)
		lr_constant_append(out, lfirst(cell));
	MemoryContextSwitchTo(saved);
	MemoryContextReset(builder->scratch);
	return shape->number;
}

static int
add_target(Builder *builder, const LrRule *rule)
{
	Target	key;
	TargetNumber *target;
	bool		found;

	memset(&key, 0, sizeof(key));
	key.outcome = rule->outcome;
	key.pool_id = rule->pool_id;
	key.has_terms = rule->has_terms;
	strlcpy(key.reason, rule->reason, sizeof(key.reason));
	strlcpy(key.account_owner, rule->account_owner, sizeof(key.account_owner));
	target = hash_search(builder->targets, &key, HASH_ENTER, &found);
	if (!found || strlen(rule->reason) >= sizeof(key.reason) || strlen(rule->account_owner) >= sizeof(key.account_owner))
	{
		LrIndexTarget entry = {.outcome = rule->outcome,.pool_id = rule->pool_id,.reason = add_string(builder, rule->reason),
			.account_owner = add_string(builder, rule->account_owner),.has_terms = rule->has_terms};

		target->number = builder->ntargets++;
		appendBinaryStringInfo(&builder->sections[LR_SECTION_TARGETS], (char *) &entry, sizeof(entry));
	}
	return target->number;
}

/* Enters one rule under every combination of the constants it compares with. */
static void
add_keys(Builder *builder, const LrRule *rule, int place)
{
	const LrTest *tests[LR_GROUP_COLUMNS];
	int			columns[LR_GROUP_COLUMNS];
	int			sorted[LR_GROUP_COLUMNS];
	int			ncolumns = 0;
	int			nkeys = 1;
	GroupBuilder *group;

	for (int i = 0; i < rule->when->nconjuncts && ncolumns < LR_GROUP_COLUMNS; i++)
	{
		const LrTest *test = rule->when->conjuncts[i].test;
		int			column;
		bool		known = false;

		if (test == NULL || test->nvalues == 0 || nkeys * test->nvalues > MAX_KEYS_PER_RULE)
			continue;
		column = find_column(builder, &test->column);
		for (int c = 0; c < ncolumns; c++)
			known |= columns[c] == column;
		if (known)
			continue;
		tests[ncolumns] = test;
		columns[ncolumns++] = column;
		nkeys *= test->nvalues;
	}

	memcpy(sorted, columns, sizeof(int) * ncolumns);
	qsort(sorted, ncolumns, sizeof(int), compare_ints);
	group = find_group(builder, sorted, ncolumns);
	for (int k = 0; k < nkeys; k++)
	{
		uint64		hash = 0;

		for (int s = 0; s < ncolumns; s++)
		{
			int			rest = k;

			for (int c = 0; c < ncolumns; c++)
			{
				if (columns[c] == sorted[s])
					hash = lr_column_hash(hash, sorted[s], lr_column_type(&tests[c]->column), tests[c]->values[rest % tests[c]->nvalues]);
				rest /= tests[c]->nvalues;
			}
		}
		if (group->nkeys == group->allocated)
		{
			group->allocated = Max(16, group->allocated * 2);
			group->keys = group->keys ? repalloc_huge(group->keys, sizeof(Key) * group->allocated) : palloc(sizeof(Key) * group->allocated);
		}
		group->keys[group->nkeys++] = (Key) {.hash = hash,.place = place};
	}
	if (rule->when->may_raise)
		group->raising = lappend_int(group->raising, place);
}

static int
find_column(Builder *builder, const LrTestColumn *column)
{
	LrIndexColumn entry;
	ListCell   *cell;

	foreach(cell, builder->columns)
	{
		if (same_column(lfirst(cell), column))
			return foreach_current_index(cell);
	}
	builder->columns = lappend(builder->columns, unconstify(LrTestColumn *, column));
	entry.fact = column->fact;
	entry.member = column->member ? add_string(builder, column->member) : -1;
	appendBinaryStringInfo(&builder->sections[LR_SECTION_COLUMNS], (char *) &entry, sizeof(entry));
	return list_length(builder->columns) - 1;
}

static bool
same_column(const LrTestColumn *a, const LrTestColumn *b)
{
	return a->fact == b->fact && (a->member == NULL) == (b->member == NULL) && (a->member == NULL || strcmp(a->member, b->member) == 0);
}

static GroupBuilder *
find_group(Builder *builder, const int *columns, int ncolumns)
{
	GroupBuilder *group;
	ListCell   *cell;

	foreach(cell, builder->groups)
	{
		group = lfirst(cell);
		if (group->ncolumns == ncolumns && memcmp(group->columns, columns, sizeof(int) * ncolumns) == 0)
			return group;
	}
	group = palloc0(sizeof(GroupBuilder));
	group->ncolumns = ncolumns;
	memcpy(group->columns, columns, sizeof(int) * ncolumns);
	builder->groups = lappend(builder->groups, group);
	return group;
}

/* Writes a group: its buckets, and the hash table over them. */
static void
finish_group(Builder *builder, GroupBuilder *group)
{
	StringInfo	places = &builder->sections[LR_SECTION_PLACES];
	StringInfo	tables = &builder->sections[LR_SECTION_TABLES];
	StringInfo	buckets = &builder->sections[LR_SECTION_BUCKETS];
	LrIndexGroup entry = {.ncolumns = group->ncolumns,.first = group->keys[0].place};
	int			first = buckets->len / (int) sizeof(LrIndexBucket);
	int			nbuckets = 0;
	int32	   *table;
	ListCell   *cell;

	memcpy(entry.columns, group->columns, sizeof(int) * group->ncolumns);
	entry.raising = places->len / (int) sizeof(int32);
	entry.nraising = list_length(group->raising);
	foreach(cell, group->raising)
	{
		int32		place = lfirst_int(cell);

		appendBinaryStringInfo(places, (char *) &place, sizeof(place));
	}

	qsort(group->keys, group->nkeys, sizeof(Key), compare_keys);
	for (int from = 0, to; from < group->nkeys; from = to)
	{
		CHECK_FOR_INTERRUPTS();
		for (to = from; to < group->nkeys && group->keys[to].hash == group->keys[from].hash;)
			to++;
		add_bucket(builder, group->keys + from, to - from);
		nbuckets++;
	}

	/* at least one place stays free: a search for what is not there ends */
	entry.table = tables->len / (int) sizeof(int32);
	entry.mask = pg_nextpower2_32(nbuckets + nbuckets / 2 + 1) - 1;
	table = palloc0(sizeof(int32) * (entry.mask + 1));
	for (int b = first; b < first + nbuckets; b++)
	{
		uint32		at = (uint32) ((LrIndexBucket *) buckets->data)[b].hash & entry.mask;

		while (table[at] != 0)
			at = (at + 1) & entry.mask;
		table[at] = b + 1;
	}
	appendBinaryStringInfo(tables, (char *) table, sizeof(int32) * (entry.mask + 1));
	pfree(table);
	appendBinaryStringInfo(&builder->sections[LR_SECTION_GROUPS], (char *) &entry, sizeof(entry));
}

static void
add_bucket(Builder *builder, const Key *keys, int n)
{
	StringInfo	places = &builder->sections[LR_SECTION_PLACES];
	LrIndexBucket bucket = {.hash = keys[0].hash,.places = places->len / (int) sizeof(int32),.tree = -1};
	int32	   *own = palloc(sizeof(int32) * n);

	for (int i = 0; i < n; i++)
	{
		/* two keys of one rule may fall together */
		if (bucket.nplaces > 0 && own[bucket.nplaces - 1] == keys[i].place)
			continue;
		own[bucket.nplaces++] = keys[i].place;
		bucket.may_raise |= builder->policy->rules[keys[i].place].when->may_raise;
	}
	appendBinaryStringInfo(places, (char *) own, sizeof(int32) * bucket.nplaces);
	if (bucket.nplaces >= MIN_TREE_RULES)
		add_tree(builder, own, bucket.nplaces, &bucket);
	appendBinaryStringInfo(&builder->sections[LR_SECTION_BUCKETS], (char *) &bucket, sizeof(bucket));
	pfree(own);
}

/* Gives a bucket a tree over the column to which most of its rules set bounds, if there is one. */
static void
add_tree(Builder *builder, const int32 *places, int n, LrIndexBucket *bucket)
{
	LrBounds   *bounds;

	bucket->column = bounded_column(builder, places, n);
	if (bucket->column < 0)
		return;
	bounds = palloc(sizeof(LrBounds) * n);
	for (int i = 0; i < n; i++)
	{
		bounds[i].place = places[i];
		column_bounds(&builder->policy->rules[places[i]], list_nth(builder->columns, bucket->column), &bounds[i]);
	}
	lr_tree_build(bounds, n, &builder->sections[LR_SECTION_TREES], &builder->sections[LR_SECTION_PLACES], bucket);
	pfree(bounds);
}

static int
bounded_column(Builder *builder, const int32 *places, int n)
{
	int		   *counts = palloc0(sizeof(int) * (list_length(builder->columns) + n * 2));
	int			best = -1;

	for (int i = 0; i < n; i++)
	{
		const LrCondition *when = builder->policy->rules[places[i]].when;

		for (int c = 0; c < when->nconjuncts; c++)
		{
			const LrTest *test = when->conjuncts[c].test;
			int			column;

			if (test == NULL || test->nvalues > 0)
				continue;
			column = find_column(builder, &test->column);
			/* of a rule that bounds more columns than this, the others do not count */
			if (column < list_length(builder->columns) && column < n * 2)
				counts[column]++;
		}
	}
	for (int column = 0; column < Min(list_length(builder->columns), n * 2); column++)
	{
		if (counts[column] * 2 >= n && (best < 0 || counts[column] > counts[best]))
			best = column;
	}
	pfree(counts);
	return best;
}

static void
column_bounds(const LrRule *rule, const LrTestColumn *column, LrBounds *bounds)
{
	bounds->low = PG_INT64_MIN;
	bounds->high = PG_INT64_MAX;
	for (int c = 0; c < rule->when->nconjuncts; c++)
	{
		const LrTest *test = rule->when->conjuncts[c].test;

		if (test == NULL || test->nvalues > 0 || !same_column(&test->column, column))
			continue;
		bounds->low = Max(bounds->low, test->low);
		bounds->high = Min(bounds->high, test->high);
	}
}

static int32
add_string(Builder *builder, const char *string)
{
	StringInfo	strings = &builder->sections[LR_SECTION_STRINGS];
	int32		at = strings->len;

	appendBinaryStringInfo(strings, string, strlen(string) + 1);
	return at;
}

static HTAB *
make_table(const char *name, Size keysize, Size entrysize)
{
	HASHCTL		control = {.keysize = keysize,.entrysize = entrysize,.hcxt = CurrentMemoryContext};

	return hash_create(name, 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Puts the sections together. */
static LrRuleIndex *
assemble(Builder *builder)
{
	StringInfoData all;
	LrRuleIndex header = {.magic = LR_INDEX_MAGIC,.format = LR_INDEX_FORMAT,.server = PG_VERSION_NUM / 10000,.order = ORDER_MARK};

	header.nrules = builder->policy->nrules;
	header.ncolumns = list_length(builder->columns);
	header.ngroups = list_length(builder->groups);
	header.nshapes = builder->nshapes;
	header.nbuckets = builder->sections[LR_SECTION_BUCKETS].len / (int) sizeof(LrIndexBucket);
	for (int place = 0; place < builder->policy->nrules; place++)
		header.may_raise |= builder->policy->rules[place].when->may_raise;
	qsort(builder->sections[LR_SECTION_GROUPS].data, header.ngroups, sizeof(LrIndexGroup), compare_groups);

	initStringInfo(&all);
	appendBinaryStringInfo(&all, (char *) &header, sizeof(header));
	for (int i = 0; i < LR_N_SECTIONS; i++)
	{
		while (all.len % MAXIMUM_ALIGNOF)
			appendStringInfoChar(&all, '\0');
		header.sections[i] = all.len;
		appendBinaryStringInfo(&all, builder->sections[i].data, builder->sections[i].len);
	}
	header.size = all.len;
	memcpy(all.data, &header, sizeof(header));
	return (LrRuleIndex *) all.data;
}

/* Extends a hash by a column's value. Equal hashes of different values do no harm: every candidate is verified whole. */
uint64
lr_column_hash(uint64 hash, int column, Oid type, Datum value)
{
	uint64		own;

	if (type == TEXTOID)
	{
		text	   *string = DatumGetTextPP(value);

		own = hash_bytes_extended((unsigned char *) VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string), column + 1);
	}
	else
	{
		int64		place = lr_order_place(type, value);

		own = hash_bytes_extended((unsigned char *) &place, sizeof(place), column + 1);
	}
	return hash_combine64(hash, own);
}

static int
compare_keys(const void *a, const void *b)
{
	const Key  *one = a;
	const Key  *other = b;

	if (one->hash != other->hash)
		return one->hash < other->hash ? -1 : 1;
	return one->place - other->place;
}

static int
compare_groups(const void *a, const void *b)
{
	return ((const LrIndexGroup *) a)->first - ((const LrIndexGroup *) b)->first;
}

static int
compare_ints(const void *a, const void *b)
{
	return *(const int *) a - *(const int *) b;
}
