/*
 * analysis_sets.c: sets of cells, and boxes of them.
 *
 * A set is a list of ranges of cells; one that grew from many points has many. What is asked most is whether a small set
 * meets or lies in a large one, so these questions look each range of the smaller up in the larger.
 */
#include "policy/analysis.h"

static LrSet *make(int n);
static int	find_range(const LrSet *set, int32 cell);
static void append(LrSet *set, int32 low, int32 high);

static LrSet *
make(int n)
{
	LrSet	   *set = palloc_extended(offsetof(LrSet, ranges) + sizeof(LrRange) * (Size) Max(n, 1), MCXT_ALLOC_HUGE);

	set->n = 0;
	return set;
}

/* Makes a set of nothing, in the current memory context, as all functions here do. */
LrSet *
lr_set_empty(void)
{
	return make(0);
}

/* Makes a set of the cells between two, inclusively. */
LrSet *
lr_set_of(int32 low, int32 high)
{
	LrSet	   *set = make(1);

	append(set, low, high);
	return set;
}

/* Adds cells behind those of a set that is being built. *set is NULL at first. */
void
lr_set_add(LrSet **set, int *allocated, int32 low, int32 high)
{
	if (*set == NULL)
	{
		*set = make(4);
		*allocated = 4;
	}
	if ((*set)->n == *allocated)
	{
		*allocated *= 2;
		*set = repalloc_huge(*set, offsetof(LrSet, ranges) + sizeof(LrRange) * (Size) *allocated);
	}
	append(*set, low, high);
}

/* Appends a range behind the others; neighbours become one. */
static void
append(LrSet *set, int32 low, int32 high)
{
	if (low > high)
		return;
	if (set->n > 0 && set->ranges[set->n - 1].high >= low - 1)
		set->ranges[set->n - 1].high = Max(set->ranges[set->n - 1].high, high);
	else
		set->ranges[set->n++] = (LrRange) {low, high};
}

LrSet *
lr_set_intersection(const LrSet *a, const LrSet *b)
{
	LrSet	   *result;
	int			j;

	if (a->n > b->n)
		return lr_set_intersection(b, a);
	result = make(a->n + b->n);
	for (int i = 0; i < a->n; i++)
	{
		for (j = find_range(b, a->ranges[i].low); j < b->n && b->ranges[j].low <= a->ranges[i].high; j++)
			append(result, Max(a->ranges[i].low, b->ranges[j].low), Min(a->ranges[i].high, b->ranges[j].high));
	}
	return result;
}

LrSet *
lr_set_difference(const LrSet *a, const LrSet *b)
{
	LrSet	   *result = make(a->n + b->n);

	for (int i = 0; i < a->n; i++)
	{
		int32		low = a->ranges[i].low;

		for (int j = find_range(b, low); j < b->n && b->ranges[j].low <= a->ranges[i].high; j++)
		{
			append(result, low, b->ranges[j].low - 1);
			low = b->ranges[j].high + 1;
		}
		append(result, low, a->ranges[i].high);
	}
	return result;
}

LrSet *
lr_set_union(const LrSet *a, const LrSet *b)
{
	LrSet	   *result = make(a->n + b->n);
	int			i = 0;
	int			j = 0;

	while (i < a->n || j < b->n)
	{
		if (j >= b->n || (i < a->n && a->ranges[i].low <= b->ranges[j].low))
			append(result, a->ranges[i].low, a->ranges[i].high), i++;
		else
			append(result, b->ranges[j].low, b->ranges[j].high), j++;
	}
	return result;
}

/* Finds the first range that ends at a cell or behind it. */
static int
find_range(const LrSet *set, int32 cell)
{
	int			low = 0;
	int			high = set->n;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (set->ranges[middle].high < cell)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool
lr_set_has(const LrSet *set, int32 cell)
{
	int			at = find_range(set, cell);

	return at < set->n && set->ranges[at].low <= cell;
}

bool
lr_set_contains(const LrSet *outer, const LrSet *inner)
{
	if (outer == inner)
		return true;
	for (int i = 0; i < inner->n; i++)
	{
		int			at = find_range(outer, inner->ranges[i].low);

		if (at >= outer->n || outer->ranges[at].low > inner->ranges[i].low || outer->ranges[at].high < inner->ranges[i].high)
			return false;
	}
	return true;
}

bool
lr_set_overlaps(const LrSet *a, const LrSet *b)
{
	if (a->n > b->n)
		return lr_set_overlaps(b, a);
	for (int i = 0; i < a->n; i++)
	{
		int			at = find_range(b, a->ranges[i].low);

		if (at < b->n && b->ranges[at].low <= a->ranges[i].high)
			return true;
	}
	return false;
}

bool
lr_set_equal(const LrSet *a, const LrSet *b)
{
	return a == b || (a->n == b->n && memcmp(a->ranges, b->ranges, sizeof(LrRange) * a->n) == 0);
}

/* Returns the number of cells. */
int
lr_set_count(const LrSet *set)
{
	int			count = 0;

	for (int i = 0; i < set->n; i++)
		count += set->ranges[i].high - set->ranges[i].low + 1;
	return count;
}

/* Tells whether two boxes have a lead in common, as far as single columns say. */
bool
lr_boxes_overlap(const LrBox *a, const LrBox *b)
{
	int			i = 0;
	int			j = 0;

	while (i < a->n && j < b->n)
	{
		int			order = a->bounds[i].column->number - b->bounds[j].column->number;

		if (order == 0 && !lr_set_overlaps(a->bounds[i].set, b->bounds[j].set))
			return false;
		i += order <= 0;
		j += order >= 0;
	}
	return true;
}

/* Tells whether a box holds all leads of another. */
bool
lr_box_contains(const LrBox *outer, const LrBox *inner)
{
	int			j = 0;

	for (int i = 0; i < outer->n; i++)
	{
		while (j < inner->n && inner->bounds[j].column->number < outer->bounds[i].column->number)
			j++;
		if (j >= inner->n || inner->bounds[j].column != outer->bounds[i].column || !lr_set_contains(outer->bounds[i].set, inner->bounds[j].set))
			return false;
	}
	return true;
}

/* Makes the box of what two have in common; NULL if that is nothing. */
LrBox *
lr_box_product(const LrBox *a, const LrBox *b)
{
	LrBox	   *box = palloc(offsetof(LrBox, bounds) + sizeof(LrBound) * (a->n + b->n + 1));
	int			i = 0;
	int			j = 0;

	box->subject = a->subject;
	box->n = 0;
	while (i < a->n || j < b->n)
	{
		int			order = i >= a->n ? 1 : j >= b->n ? -1 : a->bounds[i].column->number - b->bounds[j].column->number;
		LrBound		bound = order <= 0 ? a->bounds[i] : b->bounds[j];

		if (order == 0)
			bound.set = lr_set_intersection(bound.set, b->bounds[j].set);
		if (bound.set->n == 0)
			return NULL;
		box->bounds[box->n++] = bound;
		i += order <= 0;
		j += order >= 0;
	}
	return box;
}

/* Returns what a box leaves of a column, NULL if it does not narrow it. */
const LrSet *
lr_box_bound(const LrBox *box, const LrColumn *column)
{
	for (int i = 0; i < box->n; i++)
	{
		if (box->bounds[i].column == column)
			return box->bounds[i].set;
	}
	return NULL;
}
