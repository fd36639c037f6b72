/*
 * analysis_search.c: is a region of leads covered by boxes?
 *
 * A region is divided by the column that most of the boxes which meet it narrow, into classes of cells that the same boxes
 * admit: the countries that rules name, each for itself, and all others together. Cells that a box admits which narrows nothing
 * else are covered at once. In each class only the boxes that admit it are left; none of them narrows that column there any
 * more, so a region is divided once a column at most. A class that no box meets is not covered, unless nothing that goes together
 * is left in it (links). Territory rules by the hundred thousand fall apart at the first columns, and cost little more than to
 * sort them.
 */
#include "policy/analysis.h"

#include "common/hashfn.h"
#include "miscadmin.h"

typedef enum LeafResult
{
	LEAF_IMPOSSIBLE,
	LEAF_REPORTED,
	LEAF_ENDS					/* the search */
} LeafResult;

typedef struct Search
{
	LrAnalysis *analysis;
	Bitmapset **used;
	LrRegionFound found;
	void	   *argument;
} Search;

/* A box begins or stops admitting cells. */
typedef struct Event
{
	int32		cell;
	int32		candidate;		/* place in the list */
	bool		begins;
} Event;

/* Cells that the same boxes admit. */
typedef struct Class
{
	uint64		hash;			/* of the boxes */
	LrSet	   *set;
	int			allocated;
	int			n;
	int		   *members;		/* those that narrow the column */
} Class;

typedef struct Division
{
	const LrColumn *column;
	int			nclasses;
	Class	   *classes;
	int			nothers;
	int		   *others;			/* those that do not narrow the column */
} Division;

static bool links_possible(const LrAnalysis *analysis, const LrSet **region);
static bool search(Search *s, const LrSet **region, const int *candidates, int n);
static bool meets(const LrBox *box, const LrSet **region);
static bool keep_region(LrAnalysis *analysis, const LrSet **region, void *argument);
static LeafResult leaf(Search *s, const LrSet **region, ListCell *cell);
static const LrColumn *choose_column(Search *s, const LrSet **region, const int *candidates, int n);
static void divide(Search *s, const LrSet **region, const int *candidates, int n, Division *division);
static int	note_closer(Search *s, const int *candidates, const int *active, const bool *closes, int nactive);
static bool holds_but_for(const LrBox *box, const LrSet **region, const LrColumn *column);
static Class *find_class(Division *division, uint64 hash, int *allocated, HTAB *by_hash);
static const LrSet **copy_region(const LrAnalysis *analysis, const LrSet **region);
static bool combination_fits(const LrLink *link, const LrSet **sets, const LrSet **region);
static int	compare_events(const void *a, const void *b);

/* Takes some thousandths of the budget; returns false if it has run out. */
bool
lr_charge(LrAnalysis *analysis, int64 thousandths)
{
	analysis->charge += thousandths;
	analysis->budget -= analysis->charge / 1000;
	analysis->charge %= 1000;
	return analysis->budget >= 0;
}

/* Makes the region of a box, in the current memory context. */
const LrSet **
lr_region_of(const LrAnalysis *analysis, const LrBox *box)
{
	const LrSet **region = palloc(sizeof(LrSet *) * Max(analysis->ncolumns, 1));

	for (int i = 0; i < analysis->ncolumns; i++)
		region[i] = analysis->columns[i]->universe;
	for (int i = 0; i < box->n; i++)
	{
		int			column = box->bounds[i].column->number;

		region[column] = lr_set_intersection(region[column], box->bounds[i].set);
	}
	return region;
}

/* Tells whether a region can hold a lead: no column is empty, and each link has a combination. */
bool
lr_region_possible(const LrAnalysis *analysis, const LrSet **region)
{
	for (int i = 0; i < analysis->ncolumns; i++)
	{
		if (region[i]->n == 0)
			return false;
	}
	return links_possible(analysis, region);
}

static bool
links_possible(const LrAnalysis *analysis, const LrSet **region)
{
	ListCell   *cell;
	ListCell   *combination;

	foreach(cell, analysis->links)
	{
		LrLink	   *link = lfirst(cell);
		bool		fits = false;

		foreach(combination, link->combinations)
			fits = fits || combination_fits(link, lfirst(combination), region);
		if (!fits)
			return false;
	}
	return true;
}

/* Takes from a region what goes together with nothing else in it; returns false if nothing is left. The region is changed. */
bool
lr_region_narrow(const LrAnalysis *analysis, const LrSet **region)
{
	bool		changed = analysis->links != NIL;
	ListCell   *cell;
	ListCell   *combination;

	if (!lr_region_possible(analysis, region))
		return false;
	while (changed)
	{
		changed = false;
		foreach(cell, analysis->links)
		{
			LrLink	   *link = lfirst(cell);

			for (int i = 0; i < link->ncolumns; i++)
			{
				int			column = link->columns[i]->number;
				const LrSet *possible = lr_set_empty();

				foreach(combination, link->combinations)
				{
					const LrSet **sets = lfirst(combination);

					if (combination_fits(link, sets, region))
						possible = sets[i] ? lr_set_union(possible, sets[i]) : region[column];
					if (possible == region[column])
						break;
				}
				if (possible == region[column] || lr_set_contains(possible, region[column]))
					continue;
				region[column] = lr_set_intersection(region[column], possible);
				changed = true;
			}
		}
		if (changed && !lr_region_possible(analysis, region))
			return false;
	}
	return true;
}

/* Leaves of outputs behind a step that they are null, as they are for whoever asks before. The region is changed. */
void
lr_region_forget(const LrAnalysis *analysis, const LrSet **region, int step)
{
	for (int i = 0; i < analysis->ncolumns; i++)
	{
		if (lr_column_is_later(analysis, analysis->columns[i], step))
			region[i] = lr_set_of(LR_CELL_NOTHING, LR_CELL_NOTHING);
	}
}

/* Finds a part of a region in which everything goes together; NULL if there is none. */
const LrSet **
lr_region_consistent(LrAnalysis *analysis, const LrSet **region)
{
	const LrSet **result = copy_region(analysis, region);
	Search		s = {.analysis = analysis,.found = keep_region,.argument = result};

	return leaf(&s, region, list_head(analysis->links)) == LEAF_IMPOSSIBLE ? NULL : result;
}

static bool
keep_region(LrAnalysis *analysis, const LrSet **region, void *argument)
{
	memcpy(argument, region, sizeof(LrSet *) * analysis->ncolumns);
	return true;
}

/* Tells whether a box holds all leads of a region. */
bool
lr_box_holds(const LrBox *box, const LrSet **region)
{
	for (int i = 0; i < box->n; i++)
	{
		if (!lr_set_contains(box->bounds[i].set, region[box->bounds[i].column->number]))
			return false;
	}
	return true;
}

static bool
combination_fits(const LrLink *link, const LrSet **sets, const LrSet **region)
{
	for (int i = 0; i < link->ncolumns; i++)
	{
		if (sets[i] && !lr_set_overlaps(sets[i], region[link->columns[i]->number]))
			return false;
	}
	return true;
}

/*
 * Looks for parts of a region that no candidate, a number of a box each, covers. found(), unless NULL, is called for each, and
 * ends the search by returning true. Returns whether the search was ended so, or, without found(), whether there is such a part.
 * *used, unless NULL, gets the subjects of boxes that covered. Out of budget, analysis->budget is negative and the answer false.
 */
bool
lr_find_uncovered(LrAnalysis *analysis, const LrSet **region, const int *candidates, int n, Bitmapset **used, LrRegionFound found, void *argument)
{
	Search		s = {.analysis = analysis,.used = used,.found = found,.argument = argument};

	return search(&s, region, candidates, n);
}

static bool
search(Search *s, const LrSet **region, const int *candidates, int n)
{
	LrAnalysis *analysis = s->analysis;
	Division	division;
	int		   *left;
	bool		found = false;

	CHECK_FOR_INTERRUPTS();
	check_stack_depth();
	/* no column is empty where classes are not */
	if (!links_possible(analysis, region))
		return false;
	for (int i = 0; i < n; i++)
	{
		const LrBox *box = analysis->boxes[candidates[i]];

		if (lr_box_holds(box, region))
		{
			if (s->used)
				*s->used = bms_add_member(*s->used, box->subject);
			return false;
		}
	}
	left = palloc(sizeof(int) * Max(n, 1));
	{
		int			kept = 0;

		for (int i = 0; i < n; i++)
		{
			if (meets(analysis->boxes[candidates[i]], region))
				left[kept++] = candidates[i];
		}
		n = kept;
	}
	if (n == 0)
	{
		pfree(left);
		return leaf(s, region, list_head(analysis->links)) == LEAF_ENDS;
	}
	if (!lr_charge(analysis, 50 + 10 * n))
		return false;

	divide(s, region, left, n, &division);
	/* leads that have a value first: whoever reads the findings learns more from them */
	for (int i = 0; i < division.nclasses * 2 && !found && analysis->budget >= 0; i++)
	{
		Class	   *class = &division.classes[i % division.nclasses];
		const LrSet **part;
		int		   *members;

		if ((class->set->ranges[0].low < LR_CELL_VALUES) != (i >= division.nclasses))
			continue;
		part = copy_region(analysis, region);
		members = palloc(sizeof(int) * Max(class->n + division.nothers, 1));
		if (!lr_charge(analysis, 10 * (class->n + division.nothers)))
			break;
		memcpy(members, class->members, sizeof(int) * class->n);
		memcpy(members + class->n, division.others, sizeof(int) * division.nothers);
		part[division.column->number] = class->set;
		found = search(s, part, members, class->n + division.nothers);
		pfree(members);
		pfree(part);
	}
	for (int i = 0; i < division.nclasses; i++)
	{
		pfree(division.classes[i].set);
		pfree(division.classes[i].members);
	}
	pfree(division.classes);
	pfree(division.others);
	pfree(left);
	return found;
}

/*
 * Finds, link by link, what goes together in a part that no box meets, and reports it; the first that does is enough, since
 * they differ in what no box asks for.
 */
static LeafResult
leaf(Search *s, const LrSet **region, ListCell *cell)
{
	LrAnalysis *analysis = s->analysis;
	LrLink	   *link;
	ListCell   *combination;
	LeafResult	result = LEAF_IMPOSSIBLE;

	CHECK_FOR_INTERRUPTS();
	if (cell == NULL)
		return s->found == NULL || s->found(analysis, region, s->argument) ? LEAF_ENDS : LEAF_REPORTED;
	link = lfirst(cell);
	foreach(combination, link->combinations)
	{
		const LrSet **sets = lfirst(combination);
		const LrSet **part;

		if (result != LEAF_IMPOSSIBLE)
			break;
		if (!combination_fits(link, sets, region))
			continue;
		part = copy_region(analysis, region);
		for (int i = 0; i < link->ncolumns; i++)
		{
			if (sets[i])
				part[link->columns[i]->number] = lr_set_intersection(part[link->columns[i]->number], sets[i]);
		}
		result = leaf(s, part, lnext(analysis->links, cell));
	}
	return result;
}

static bool
meets(const LrBox *box, const LrSet **region)
{
	for (int i = 0; i < box->n; i++)
	{
		if (!lr_set_overlaps(box->bounds[i].set, region[box->bounds[i].column->number]))
			return false;
	}
	return true;
}

static const LrSet **
copy_region(const LrAnalysis *analysis, const LrSet **region)
{
	const LrSet **copy = palloc(sizeof(LrSet *) * Max(analysis->ncolumns, 1));

	memcpy(copy, region, sizeof(LrSet *) * analysis->ncolumns);
	return copy;
}

/* Chooses the column that most candidates narrow within the region. */
static const LrColumn *
choose_column(Search *s, const LrSet **region, const int *candidates, int n)
{
	LrAnalysis *analysis = s->analysis;
	int		   *counts = palloc0(sizeof(int) * Max(analysis->ncolumns, 1));
	int			best = -1;

	for (int i = 0; i < n; i++)
	{
		const LrBox *box = analysis->boxes[candidates[i]];

		for (int b = 0; b < box->n; b++)
		{
			int			column = box->bounds[b].column->number;

			if (!lr_set_contains(box->bounds[b].set, region[column]) && (++counts[column], best < 0 || counts[column] > counts[best]))
				best = column;
		}
	}
	pfree(counts);
	return analysis->columns[best];
}

/* Divides a region into classes of cells that the same candidates admit. */
static void
divide(Search *s, const LrSet **region, const int *candidates, int n, Division *division)
{
	LrAnalysis *analysis = s->analysis;
	HASHCTL		control = {.keysize = sizeof(uint64),.entrysize = sizeof(uint64) * 2,.hcxt = CurrentMemoryContext};
	HTAB	   *by_hash;
	const LrSet *whole;
	Event	   *events;
	int			nevents = 0;
	int			allocated = 16;
	int			total = 0;
	int		   *active;			/* candidates that admit the present cells */
	int		   *places;			/* of a candidate among the active ones */
	int			nactive = 0;
	int			nclosers = 0;	/* active ones that cover whatever they admit */
	bool	   *closes = palloc(sizeof(bool) * n);
	uint64		hash = 0;
	const LrSet **narrowed = palloc0(sizeof(LrSet *) * n);

	division->column = choose_column(s, region, candidates, n);
	division->others = palloc(sizeof(int) * n);
	division->nothers = 0;
	division->classes = palloc(sizeof(Class) * allocated);
	division->nclasses = 0;
	whole = region[division->column->number];
	for (int i = 0; i < n; i++)
	{
		const LrSet *set = lr_box_bound(analysis->boxes[candidates[i]], division->column);

		if (set == NULL || lr_set_contains(set, whole))
			division->others[division->nothers++] = candidates[i];
		else
		{
			narrowed[i] = lr_set_intersection(set, whole);
			closes[i] = holds_but_for(analysis->boxes[candidates[i]], region, division->column);
			total += narrowed[i]->n;
		}
	}
	events = palloc_extended(sizeof(Event) * (Size) (total * 2 + whole->n * 2), MCXT_ALLOC_HUGE);
	for (int i = 0; i < n; i++)
	{
		for (int r = 0; narrowed[i] && r < narrowed[i]->n; r++)
		{
			events[nevents++] = (Event) {narrowed[i]->ranges[r].low, i, true};
			events[nevents++] = (Event) {narrowed[i]->ranges[r].high + 1, i, false};
		}
	}
	/* the region's own borders belong to no candidate */
	for (int r = 0; r < whole->n; r++)
	{
		events[nevents++] = (Event) {whole->ranges[r].low, -1, true};
		events[nevents++] = (Event) {whole->ranges[r].high + 1, -1, false};
	}
	qsort(events, nevents, sizeof(Event), compare_events);

	by_hash = hash_create("leadroute classes", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	active = palloc(sizeof(int) * n);
	places = palloc(sizeof(int) * n);
	for (int e = 0, inside = 0; e < nevents;)
	{
		int32		cell = events[e].cell;

		for (; e < nevents && events[e].cell == cell; e++)
		{
			int			candidate = events[e].candidate;

			if (candidate < 0)
				inside += events[e].begins ? 1 : -1;
			else if (events[e].begins)
			{
				places[candidate] = nactive;
				active[nactive++] = candidate;
				nclosers += closes[candidate] ? 1 : 0;
				hash ^= hash_bytes_uint32_extended((uint32) candidate, 1);
			}
			else
			{
				nclosers -= closes[candidate] ? 1 : 0;
				active[places[candidate]] = active[--nactive];
				places[active[places[candidate]]] = places[candidate];
				hash ^= hash_bytes_uint32_extended((uint32) candidate, 1);
			}
		}
		if (inside > 0 && nclosers > 0)
		{
			if (s->used && !lr_charge(analysis, note_closer(s, candidates, active, closes, nactive)))
				break;
		}
		else if (inside > 0)
		{
			Class	   *class = find_class(division, hash, &allocated, by_hash);

			if (class->set == NULL)
			{
				class->n = nactive;
				class->members = palloc(sizeof(int) * Max(nactive, 1));
				for (int i = 0; i < nactive; i++)
					class->members[i] = candidates[active[i]];
				if (!lr_charge(analysis, 10 * nactive))
				{
					lr_set_add(&class->set, &class->allocated, cell, events[e].cell - 1);
					break;
				}
			}
			lr_set_add(&class->set, &class->allocated, cell, events[e].cell - 1);
		}
	}
	hash_destroy(by_hash);
	for (int i = 0; i < n; i++)
	{
		if (narrowed[i])
			pfree(unconstify(LrSet *, narrowed[i]));
	}
	pfree(narrowed);
	pfree(closes);
	pfree(events);
	pfree(active);
	pfree(places);
}

/* Notes which of the active candidates covers the present cells; returns how many were looked at. */
static int
note_closer(Search *s, const int *candidates, const int *active, const bool *closes, int nactive)
{
	for (int i = 0; i < nactive; i++)
	{
		if (closes[active[i]])
		{
			*s->used = bms_add_member(*s->used, s->analysis->boxes[candidates[active[i]]]->subject);
			return i + 1;
		}
	}
	return nactive;
}

static bool
holds_but_for(const LrBox *box, const LrSet **region, const LrColumn *column)
{
	for (int i = 0; i < box->n; i++)
	{
		if (box->bounds[i].column != column && !lr_set_contains(box->bounds[i].set, region[box->bounds[i].column->number]))
			return false;
	}
	return true;
}

static Class *
find_class(Division *division, uint64 hash, int *allocated, HTAB *by_hash)
{
	bool		known;
	uint64	   *entry = hash_search(by_hash, &hash, HASH_ENTER, &known);

	if (!known)
	{
		if (division->nclasses == *allocated)
		{
			*allocated *= 2;
			division->classes = repalloc_huge(division->classes, sizeof(Class) * *allocated);
		}
		memset(&division->classes[division->nclasses], 0, sizeof(Class));
		division->classes[division->nclasses].hash = hash;
		entry[1] = division->nclasses++;
	}
	return &division->classes[entry[1]];
}

static int
compare_events(const void *a, const void *b)
{
	const Event *one = a;
	const Event *other = b;

	/* ends first: a candidate whose ranges touch goes and comes again */
	if (one->cell != other->cell)
		return one->cell < other->cell ? -1 : 1;
	return (int) one->begins - (int) other->begins;
}
