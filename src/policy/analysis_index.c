/*
 * analysis_index.c: the boxes that meet a box.
 *
 * Boxes are grouped by the columns that they narrow to few cells. In each group they are sorted by the hash of these cells, and
 * by the cell of each column. A box that names all columns of a group finds those it meets by the hash, one that names fewer
 * by the column that it names best, and one that names none has to look at all.
 */
#include "policy/analysis.h"

#include "common/hashfn.h"

/* A bound of more cells than this does not count as naming them; a box is entered under that many combinations at most. */
#define MAX_FEW_CELLS 64
#define MAX_KEY_COLUMNS 8

typedef struct IndexKey
{
	uint64		key;			/* hash of cells, or a cell */
	int			box;
} IndexKey;

typedef struct KeyList
{
	int			n;
	int			allocated;
	IndexKey   *keys;
} KeyList;

typedef struct BoxGroup
{
	int			ncolumns;
	const LrColumn *columns[MAX_KEY_COLUMNS];
	KeyList		tuples;
	KeyList		cells[MAX_KEY_COLUMNS];
	int			nboxes;
	int			allocated;
	int		   *boxes;
} BoxGroup;

struct LrBoxIndex
{
	List	   *groups;
	int		   *seen;			/* by box: number of the last question that found it */
	int			question;
};

static void add_box(LrBoxIndex *index, const LrBox *box, int number);
static int	few_cells(const LrBox *box, const LrSet **sets, const LrColumn **columns);
static void add_key(KeyList *list, uint64 key, int box);
static void sort_keys(KeyList *list);
static int	first_key(const KeyList *list, uint64 key);
static int32 nth_cell(const LrSet *set, int n);
static uint64 hash_cells(const LrSet **sets, int n, int combination);
static int	compare_keys(const void *a, const void *b);
static int	compare_ints(const void *a, const void *b);

/* Builds the index over analysis->boxes, in the current memory context. */
LrBoxIndex *
lr_box_index_make(LrAnalysis *analysis)
{
	LrBoxIndex *index = palloc0(sizeof(LrBoxIndex));
	ListCell   *cell;

	index->seen = palloc0(sizeof(int) * Max(analysis->nboxes, 1));
	for (int i = 0; i < analysis->nboxes; i++)
		add_box(index, analysis->boxes[i], i);
	foreach(cell, index->groups)
	{
		BoxGroup   *group = lfirst(cell);

		sort_keys(&group->tuples);
		for (int c = 0; c < group->ncolumns; c++)
			sort_keys(&group->cells[c]);
	}
	return index;
}

static void
add_box(LrBoxIndex *index, const LrBox *box, int number)
{
	const LrColumn *columns[MAX_KEY_COLUMNS];
	const LrSet *sets[MAX_KEY_COLUMNS];
	int			n = few_cells(box, sets, columns);
	int			combinations = 1;
	BoxGroup   *group = NULL;
	ListCell   *cell;

	foreach(cell, index->groups)
	{
		BoxGroup   *candidate = lfirst(cell);

		if (candidate->ncolumns == n && memcmp(candidate->columns, columns, sizeof(columns[0]) * n) == 0)
		{
			group = candidate;
			break;
		}
	}
	if (group == NULL)
	{
		group = palloc0(sizeof(BoxGroup));
		group->ncolumns = n;
		memcpy(group->columns, columns, sizeof(columns[0]) * n);
		index->groups = lappend(index->groups, group);
	}
	if (group->nboxes == group->allocated)
	{
		group->allocated = Max(16, group->allocated * 2);
		group->boxes = group->boxes ? repalloc_huge(group->boxes, sizeof(int) * group->allocated) : palloc(sizeof(int) * group->allocated);
	}
	group->boxes[group->nboxes++] = number;
	for (int c = 0; c < n; c++)
	{
		int			count = lr_set_count(sets[c]);

		combinations *= count;
		for (int i = 0; i < count; i++)
			add_key(&group->cells[c], nth_cell(sets[c], i), number);
	}
	for (int i = 0; i < combinations; i++)
		add_key(&group->tuples, hash_cells(sets, n, i), number);
}

/* Finds the bounds of a box that name few cells; returns how many they are. */
static int
few_cells(const LrBox *box, const LrSet **sets, const LrColumn **columns)
{
	int			n = 0;
	int			combinations = 1;

	for (int i = 0; i < box->n && n < MAX_KEY_COLUMNS; i++)
	{
		const LrSet *set = box->bounds[i].set;
		int			count = set->n > MAX_FEW_CELLS ? set->n : lr_set_count(set);

		if (combinations * count > MAX_FEW_CELLS)
			continue;
		combinations *= count;
		sets[n] = set;
		columns[n++] = box->bounds[i].column;
	}
	return n;
}

/*
 * Finds the boxes with numbers below a given one that meet a box, in ascending order, in the current memory context. Returns
 * how many they are. Out of budget, analysis->budget is negative, and some may be missing.
 */
int
lr_box_candidates(LrAnalysis *analysis, const LrBox *box, int before, int **candidates)
{
	LrBoxIndex *index = analysis->index;
	ListCell   *cell;
	int			allocated = 16;
	int			n = 0;

	*candidates = palloc(sizeof(int) * allocated);
	index->question++;
	foreach(cell, index->groups)
	{
		BoxGroup   *group = lfirst(cell);
		const LrSet *sets[MAX_KEY_COLUMNS];
		int			ncombinations = 1;
		int			best = -1;
		int			best_count = 0;
		const KeyList *list = NULL;
		uint64	   *keys;
		int			nkeys = 0;

		if (group->boxes[0] >= before)
			continue;
		/* all columns of the group are named, or at least one of them */
		for (int c = 0; c < group->ncolumns; c++)
		{
			int			count;

			sets[c] = lr_box_bound(box, group->columns[c]);
			count = sets[c] ? lr_set_count(sets[c]) : MAX_FEW_CELLS + 1;
			if (count <= MAX_FEW_CELLS && (best < 0 || count < best_count))
			{
				best = c;
				best_count = count;
			}
			ncombinations = ncombinations > MAX_FEW_CELLS || count > MAX_FEW_CELLS ? MAX_FEW_CELLS + 1 : ncombinations * count;
		}
		keys = palloc(sizeof(uint64) * (MAX_FEW_CELLS + 1));
		if (group->ncolumns > 0 && ncombinations <= MAX_FEW_CELLS)
		{
			list = &group->tuples;
			for (; nkeys < ncombinations; nkeys++)
				keys[nkeys] = hash_cells(sets, group->ncolumns, nkeys);
		}
		else if (best >= 0)
		{
			list = &group->cells[best];
			for (; nkeys < best_count; nkeys++)
				keys[nkeys] = nth_cell(sets[best], nkeys);
		}
		for (int k = 0; k < (list ? nkeys : 1); k++)
		{
			for (int i = list ? first_key(list, keys[k]) : 0; i < (list ? list->n : group->nboxes); i++)
			{
				int			other = list ? list->keys[i].box : group->boxes[i];

				if ((list && list->keys[i].key != keys[k]) || other >= before)
					break;
				if (!lr_charge(analysis, 1))
					return n;
				if (index->seen[other] == index->question)
					continue;
				index->seen[other] = index->question;
				if (!lr_boxes_overlap(box, analysis->boxes[other]))
					continue;
				if (n == allocated)
				{
					allocated *= 2;
					*candidates = repalloc_huge(*candidates, sizeof(int) * allocated);
				}
				(*candidates)[n++] = other;
			}
		}
		pfree(keys);
	}
	qsort(*candidates, n, sizeof(int), compare_ints);
	return n;
}

static void
add_key(KeyList *list, uint64 key, int box)
{
	if (list->n == list->allocated)
	{
		list->allocated = Max(16, list->allocated * 2);
		list->keys = list->keys ? repalloc_huge(list->keys, sizeof(IndexKey) * list->allocated) : palloc(sizeof(IndexKey) * list->allocated);
	}
	list->keys[list->n++] = (IndexKey) {key, box};
}

static void
sort_keys(KeyList *list)
{
	if (list->n > 0)
		qsort(list->keys, list->n, sizeof(IndexKey), compare_keys);
}

/* Finds the first entry of a key. */
static int
first_key(const KeyList *list, uint64 key)
{
	int			low = 0;
	int			high = list->n;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (list->keys[middle].key < key)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int32
nth_cell(const LrSet *set, int n)
{
	int			range = 0;

	while (n > set->ranges[range].high - set->ranges[range].low)
	{
		n -= set->ranges[range].high - set->ranges[range].low + 1;
		range++;
	}
	return set->ranges[range].low + n;
}

static uint64
hash_cells(const LrSet **sets, int n, int combination)
{
	uint64		hash = 0;

	for (int i = 0; i < n; i++)
	{
		int			count = lr_set_count(sets[i]);

		hash = hash_combine64(hash, hash_bytes_uint32_extended((uint32) nth_cell(sets[i], combination % count), 7));
		combination /= count;
	}
	return hash;
}

static int
compare_keys(const void *a, const void *b)
{
	const IndexKey *one = a;
	const IndexKey *other = b;

	if (one->key != other->key)
		return one->key < other->key ? -1 : 1;
	return one->box - other->box;
}

static int
compare_ints(const void *a, const void *b)
{
	return *(const int *) a - *(const int *) b;
}
