/*
 * rule_index.h: the rules of a policy version in the form that is stored with it, and searched as it is.
 *
 * One piece of memory: a header, then sections, each MAXALIGNed; what refers to something gives its place in a section. It is
 * written when a version is published and read by every session that decides under it. Another format, byte order or major
 * version of the server (whose parser and planner made the shapes) makes it unusable: it is then made anew from the rules.
 */
#ifndef LR_RULE_INDEX_H
#define LR_RULE_INDEX_H

#include "policy/policy.h"

#define LR_INDEX_MAGIC 0x5852524c	/* "LRRX" */
#define LR_INDEX_FORMAT 2
/* Columns that one group may compare for equality. */
#define LR_GROUP_COLUMNS 8
/* Levels that the tree of a bucket may have. */
#define LR_TREE_LEVELS 32

typedef enum LrSection
{
	LR_SECTION_COLUMNS,			/* LrIndexColumn */
	LR_SECTION_GROUPS,			/* LrIndexGroup, by first */
	LR_SECTION_RULES,			/* LrIndexRule, in the order in which they are tried */
	LR_SECTION_TARGETS,			/* LrIndexTarget */
	LR_SECTION_SHAPES,			/* LrIndexShape */
	LR_SECTION_TABLES,			/* int32: hash tables with open addressing; number of a bucket + 1, 0 for free */
	LR_SECTION_BUCKETS,			/* LrIndexBucket */
	LR_SECTION_TREES,			/* int64: of a tree the points, then, two in each, the first places of its nodes */
	LR_SECTION_PLACES,			/* int32: places of rules, ascending within a list */
	LR_SECTION_CONSTANTS,		/* see shape.c */
	LR_SECTION_STRINGS,			/* zero-terminated */
	LR_N_SECTIONS
} LrSection;

struct LrRuleIndex
{
	uint32		magic;
	uint16		format;
	uint16		server;			/* major version */
	uint32		order;			/* 0x01020304 */
	int32		size;			/* bytes, the header included */
	int32		nrules;
	int32		ncolumns;
	int32		ngroups;
	int32		nshapes;
	int32		nbuckets;
	int32		may_raise;		/* whether any rule may */
	int32		sections[LR_N_SECTIONS];	/* offsets */
};

typedef struct LrIndexColumn
{
	int32		fact;
	int32		member;			/* a string, or -1 */
} LrIndexColumn;

typedef struct LrIndexGroup
{
	int32		ncolumns;
	int32		columns[LR_GROUP_COLUMNS];	/* ascending */
	int32		first;			/* the lowest place of its rules */
	int32		table;
	uint32		mask;			/* size of the table, a power of two, - 1 */
	int32		raising;		/* its rules that may raise, in LR_SECTION_PLACES */
	int32		nraising;
} LrIndexGroup;

typedef struct LrIndexBucket
{
	uint64		hash;
	int32		places;
	int32		nplaces;
	int32		tree;			/* or -1 */
	int32		npoints;
	int32		column;			/* of the tree */
	int32		may_raise;		/* whether any of its rules may */
} LrIndexBucket;

typedef struct LrIndexRule
{
	int32		number;			/* place in the document */
	int32		shape;
	int32		constants;
	int32		target;
	uint32		needs;			/* steps that have to be done, a bit each */
} LrIndexRule;

typedef struct LrIndexTarget
{
	int32		outcome;
	int32		pool_id;
	int32		reason;
	int32		has_terms;		/* its rules ask something of who works the lead: see terms.c */
	int32		account_owner;	/* roles, each ending with a line feed */
} LrIndexTarget;

typedef struct LrIndexShape
{
	int32		example;		/* place of a rule that has it */
	int32		nconstants;
	int32		may_raise;
} LrIndexShape;

#define lr_index_section(index, section, type) ((type *) ((char *) (index) + (index)->sections[section]))

extern LrRuleIndex *lr_rule_index_build(const LrPolicy *policy);
extern bool lr_rule_index_usable(const LrRuleIndex *index, Size size);
extern uint64 lr_column_hash(uint64 hash, int column, Oid type, Datum value);

/* The tree of a bucket, built over its rules' bounds. */
typedef struct LrBounds
{
	int32		place;
	int64		low;
	int64		high;			/* inclusive */
} LrBounds;

extern void lr_tree_build(const LrBounds *bounds, int n, StringInfo trees, StringInfo places, LrIndexBucket *bucket);
extern int	lr_tree_root(const LrRuleIndex *index, const LrIndexBucket *bucket, const int32 **lists, const int32 **ends);
extern int	lr_tree_lists(const LrRuleIndex *index, const LrIndexBucket *bucket, int64 point, const int32 **lists, const int32 **ends);

#endif
