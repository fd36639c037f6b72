/*
 * analysis_boxes.c: from formulas to boxes.
 *
 * A formula is true for a list of boxes, its disjunctive normal form, and false for another. An atom is true for one set of
 * cells, false for another, and neither for the rest: nulls, and texts that a cast does not take. As in the executor, what
 * stands on the left is evaluated first: where it raises, the right side does not count, and where it decides, the right side
 * cannot raise.
 */
#include "policy/analysis.h"

/* A conjunct or condition of more boxes than this is taken as unknown. */
#define MAX_BOXES 64

static void atom_sets(const LrFormula *atom, const LrSet **if_true, const LrSet **if_false);
static int	compare_cells(const void *a, const void *b);
static List *atom_boxes(const LrFormula *atom, bool wanted);
static List *disjunction(const LrFormula *formula, bool wanted, bool *exact);
static List *sound_boxes(const LrFormula *formula, bool *exact);
static bool may_raise(const LrFormula *formula);

/* Says for which cells of its column an atom is true, and for which it is false. */
static void
atom_sets(const LrFormula *atom, const LrSet **if_true, const LrSet **if_false)
{
	const LrColumn *column = atom->column;
	LrSet	   *set = NULL;
	int			allocated;
	int32	   *cells;

	switch (atom->atom)
	{
		case LR_ATOM_NULL:
			*if_true = column->nulls;
			*if_false = column->values;
			return;
		case LR_ATOM_EXISTS:
			*if_true = lr_set_difference(column->universe, lr_set_of(LR_CELL_NOTHING, LR_CELL_ABSENT));
			*if_false = lr_set_of(LR_CELL_ABSENT, LR_CELL_ABSENT);
			return;
		case LR_ATOM_LESS:
		case LR_ATOM_LESS_EQUAL:
			*if_true = lr_column_below(column, atom->points[0], atom->atom == LR_ATOM_LESS_EQUAL);
			*if_false = lr_set_difference(column->values, *if_true);
			break;
		default:
			cells = palloc(sizeof(int32) * Max(atom->npoints, 1));
			for (int i = 0; i < atom->npoints; i++)
				cells[i] = lr_column_cell(column, atom->points[i]);
			if (atom->npoints > 1)
				qsort(cells, atom->npoints, sizeof(int32), compare_cells);
			for (int i = 0; i < atom->npoints; i++)
				lr_set_add(&set, &allocated, cells[i], cells[i]);
			*if_true = set ? lr_set_intersection(set, column->values) : lr_set_empty();
			*if_false = atom->null_listed ? lr_set_empty() : lr_set_difference(column->values, *if_true);
			if (atom->atom == LR_ATOM_SAME)
				*if_false = lr_set_union(*if_false, column->nulls);
			break;
	}
	if (atom->has_default)
	{
		int32		cell = lr_column_cell(column, atom->otherwise);

		if (lr_set_has(*if_true, cell))
			*if_true = lr_set_union(*if_true, column->nulls);
		else if (lr_set_has(*if_false, cell))
			*if_false = lr_set_union(*if_false, column->nulls);
	}
}

static int
compare_cells(const void *a, const void *b)
{
	int32		one = *(const int32 *) a;
	int32		other = *(const int32 *) b;

	return one < other ? -1 : one > other;
}

static List *
atom_boxes(const LrFormula *atom, bool wanted)
{
	const LrSet *if_true;
	const LrSet *if_false;
	const LrSet *set;
	LrBox	   *box = palloc0(offsetof(LrBox, bounds) + sizeof(LrBound));

	atom_sets(atom, &if_true, &if_false);
	set = wanted ? if_true : if_false;
	if (set->n == 0)
		return NIL;
	/* nulls that no rule sees matter to who asks before the step that gives the value */
	if (!lr_set_contains(set, atom->column->universe) || !lr_set_contains(set, atom->column->nulls))
		box->bounds[box->n++] = (LrBound) {atom->column, set};
	return list_make1(box);
}

/*
 * Returns the boxes that hold all leads for which a formula is true, or false if that is wanted, in the current memory
 * context. *exact is cleared if they hold others, too.
 */
List *
lr_formula_boxes(const LrFormula *formula, bool wanted, bool *exact)
{
	List	   *boxes;
	ListCell   *cell;

	switch (formula->kind)
	{
		case LR_FORMULA_ATOM:
			return atom_boxes(formula, wanted);
		case LR_FORMULA_NOT:
			return lr_formula_boxes(linitial(formula->arguments), !wanted, exact);
		case LR_FORMULA_CONSTANT:
			return formula->truth == (wanted ? LR_TRUE : LR_FALSE) ? list_make1(palloc0(sizeof(LrBox))) : NIL;
		case LR_FORMULA_UNKNOWN:
			*exact = false;
			return list_make1(palloc0(sizeof(LrBox)));
		default:
			break;
	}
	/* AND is false, and OR true, where one of the arguments is */
	if ((formula->kind == LR_FORMULA_OR) == wanted)
		return disjunction(formula, wanted, exact);
	boxes = list_make1(palloc0(sizeof(LrBox)));
	foreach(cell, formula->arguments)
		boxes = lr_boxes_product(boxes, lr_formula_boxes(lfirst(cell), wanted, exact), exact);
	return boxes;
}

static List *
disjunction(const LrFormula *formula, bool wanted, bool *exact)
{
	List	   *all = NIL;
	ListCell   *cell;

	foreach(cell, formula->arguments)
	{
		List	   *boxes = lr_formula_boxes(lfirst(cell), wanted, exact);

		/* what stands before it must not raise */
		for (int i = 0; i < foreach_current_index(cell); i++)
		{
			if (may_raise(list_nth(formula->arguments, i)))
				boxes = lr_boxes_product(sound_boxes(list_nth(formula->arguments, i), exact), boxes, exact);
		}
		all = list_concat(all, boxes);
		if (list_length(all) > MAX_BOXES)
		{
			*exact = false;
			return list_make1(palloc0(sizeof(LrBox)));
		}
	}
	return all;
}

/*
 * Returns the boxes of all leads for which evaluating a formula does not raise. What decides AND or OR keeps what stands behind
 * it from raising.
 */
static List *
sound_boxes(const LrFormula *formula, bool *exact)
{
	List	   *before;
	LrBox	   *sound = palloc0(offsetof(LrBox, bounds) + sizeof(LrBound));

	if (!may_raise(formula))
		return list_make1(sound);
	switch (formula->kind)
	{
		case LR_FORMULA_ATOM:
			sound->bounds[sound->n++] = (LrBound) {formula->column, formula->column->sound};
			return list_make1(sound);
		case LR_FORMULA_NOT:
			return sound_boxes(linitial(formula->arguments), exact);
		default:
			break;
	}
	before = list_make1(sound);
	for (int i = list_length(formula->arguments) - 1; i >= 0; i--)
	{
		const LrFormula *argument = list_nth(formula->arguments, i);

		before = lr_boxes_product(sound_boxes(argument, exact), before, exact);
		if (i < list_length(formula->arguments) - 1)
			before = list_concat(lr_formula_boxes(argument, formula->kind == LR_FORMULA_OR, exact), before);
	}
	if (list_length(before) > MAX_BOXES)
		*exact = false;
	return *exact ? before : list_make1(palloc0(sizeof(LrBox)));
}

static bool
may_raise(const LrFormula *formula)
{
	ListCell   *cell;

	if (formula->kind == LR_FORMULA_ATOM)
		return OidIsValid(formula->column->cast);
	foreach(cell, formula->arguments)
	{
		if (may_raise(lfirst(cell)))
			return true;
	}
	return false;
}

/* Returns what two lists of boxes have in common; if that is too much, the first list, which is no longer exact. */
List *
lr_boxes_product(List *a, List *b, bool *exact)
{
	List	   *product = NIL;
	ListCell   *one;
	ListCell   *other;

	foreach(one, a)
	{
		foreach(other, b)
		{
			LrBox	   *box = lr_box_product(lfirst(one), lfirst(other));

			if (box)
				product = lappend(product, box);
			if (list_length(product) > MAX_BOXES)
			{
				*exact = false;
				return a;
			}
		}
	}
	return product;
}
