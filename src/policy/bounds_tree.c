/*
 * bounds_tree.c: finding, among many rules with bounds, those whose bounds hold a value.
 *
 * A segment tree (J. L. Bentley, Solutions to Klee's rectangle problems, 1977; F. Preparata, M. Shamos: Computational Geometry,
 * 1985, 1.2.3.1). The ends of all bounds cut the order into elementary intervals, the leaves of a complete binary tree. A rule
 * stands in the list of each of the at most 2 log n nodes that together make up its bounds; a value is within the bounds of
 * exactly the rules on the way from its leaf to the root. Each list is ascending, so that rules come out in the order in which
 * they are tried.
 */
#include "policy/rule_index.h"

#include "port/pg_bitutils.h"

static int	compare_points(const void *a, const void *b);
static int	find_leaf(const int64 *points, int npoints, int64 point);
static void enter(const LrBounds *bounds, const int64 *points, int npoints, int nleaves, int32 *counts, const int32 *starts, int32 *lists);
static void visit(int node, int first, int last, int from, int to, int32 place, int32 *counts, const int32 *starts, int32 *lists);

/*
 * Builds a tree over bounds, in ascending order of places. Appends its points and its nodes to trees, its lists to places, and
 * notes in the bucket where they are.
 */
void
lr_tree_build(const LrBounds *bounds, int n, StringInfo trees, StringInfo places, LrIndexBucket *bucket)
{
	int64	   *points = palloc(sizeof(int64) * n * 2);
	int			npoints = 0;
	int			kept = 0;
	int			nleaves;
	int			nnodes;
	int32	   *counts;
	int32	   *starts;
	int32	   *lists;
	int32		base = places->len / (int) sizeof(int32);

	for (int i = 0; i < n; i++)
	{
		if (bounds[i].low > PG_INT64_MIN)
			points[npoints++] = bounds[i].low;
		if (bounds[i].high < PG_INT64_MAX)
			points[npoints++] = bounds[i].high + 1;
	}
	qsort(points, npoints, sizeof(int64), compare_points);
	for (int i = 0; i < npoints; i++)
	{
		if (kept == 0 || points[kept - 1] != points[i])
			points[kept++] = points[i];
	}
	npoints = kept;

	/* leaf 0 is below the first point, leaf i from the i-th point on */
	nleaves = (int) pg_nextpower2_32(npoints + 1);
	nnodes = 2 * nleaves;
	counts = palloc0(sizeof(int32) * nnodes);
	starts = palloc0(sizeof(int32) * (nnodes + 2));
	for (int i = 0; i < n; i++)
		enter(&bounds[i], points, npoints, nleaves, counts, NULL, NULL);
	for (int node = 0; node < nnodes; node++)
		starts[node + 1] = starts[node] + counts[node];
	lists = palloc(sizeof(int32) * Max(starts[nnodes], 1));
	memset(counts, 0, sizeof(int32) * nnodes);
	for (int i = 0; i < n; i++)
		enter(&bounds[i], points, npoints, nleaves, counts, starts, lists);
	for (int node = 0; node <= nnodes; node++)
		starts[node] += base;
	starts[nnodes + 1] = starts[nnodes];

	bucket->tree = trees->len / (int) sizeof(int64);
	bucket->npoints = npoints;
	appendBinaryStringInfo(trees, (char *) points, sizeof(int64) * npoints);
	appendBinaryStringInfo(trees, (char *) starts, sizeof(int32) * (nnodes + 2));
	appendBinaryStringInfo(places, (char *) lists, sizeof(int32) * starts[nnodes] - sizeof(int32) * base);
	pfree(points);
	pfree(counts);
	pfree(starts);
	pfree(lists);
}

/* Counts, or fills in, the nodes that make up one rule's bounds; of one without bounds that is the root. */
static void
enter(const LrBounds *bounds, const int64 *points, int npoints, int nleaves, int32 *counts, const int32 *starts, int32 *lists)
{
	int			from = bounds->low == PG_INT64_MIN ? 0 : find_leaf(points, npoints, bounds->low);
	int			to = bounds->high == PG_INT64_MAX ? nleaves - 1 : find_leaf(points, npoints, bounds->high);

	if (bounds->low <= bounds->high)
		visit(1, 0, nleaves - 1, from, to, bounds->place, counts, starts, lists);
}

/* Counts, or fills in, the nodes that make up the leaves from .. to, of the node that spans first .. last. */
static void
visit(int node, int first, int last, int from, int to, int32 place, int32 *counts, const int32 *starts, int32 *lists)
{
	int			middle = (first + last) / 2;

	if (from <= first && last <= to)
	{
		if (lists)
			lists[starts[node] + counts[node]] = place;
		counts[node]++;
		return;
	}
	if (from <= middle)
		visit(2 * node, first, middle, from, to, place, counts, starts, lists);
	if (to > middle)
		visit(2 * node + 1, middle + 1, last, from, to, place, counts, starts, lists);
}

/* Finds the lists of the rules whose bounds hold a point; returns how many, at most LR_TREE_LEVELS, none of them empty. */
int
lr_tree_lists(const LrRuleIndex *index, const LrIndexBucket *bucket, int64 point, const int32 **lists, const int32 **ends)
{
	const int64 *points = lr_index_section(index, LR_SECTION_TREES, int64) + bucket->tree;
	const int32 *starts = (const int32 *) (points + bucket->npoints);
	const int32 *places = lr_index_section(index, LR_SECTION_PLACES, int32);
	int			nleaves = (int) pg_nextpower2_32(bucket->npoints + 1);
	int			n = 0;

	for (int node = nleaves + find_leaf(points, bucket->npoints, point); node >= 1; node /= 2)
	{
		if (starts[node] < starts[node + 1])
		{
			lists[n] = places + starts[node];
			ends[n++] = places + starts[node + 1];
		}
	}
	return n;
}

/* Finds the list of the rules without bounds, if there are any; returns how many lists. */
int
lr_tree_root(const LrRuleIndex *index, const LrIndexBucket *bucket, const int32 **lists, const int32 **ends)
{
	const int32 *starts = (const int32 *) (lr_index_section(index, LR_SECTION_TREES, int64) + bucket->tree + bucket->npoints);
	const int32 *places = lr_index_section(index, LR_SECTION_PLACES, int32);

	lists[0] = places + starts[1];
	ends[0] = places + starts[2];
	return lists[0] < ends[0] ? 1 : 0;
}

/* Returns the number of points that are not above a value. */
static int
find_leaf(const int64 *points, int npoints, int64 point)
{
	int			low = 0;
	int			high = npoints;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (points[middle] <= point)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int
compare_points(const void *a, const void *b)
{
	int64		one = *(const int64 *) a;
	int64		other = *(const int64 *) b;

	return one < other ? -1 : one > other;
}
