/*
 * analysis_findings.c: conditions that are always true or false, rules that never fire, leads that no rule takes.
 */
#include "policy/analysis.h"

#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/memutils.h"

/* What is said of a condition without attributes, or one that compares them with null. */
#define NEVER "it says false or null, whatever the lead"

/* One rule may use up this part of the budget, so that one that is hard does not leave all others open. */
#define SHARE_OF_ONE_RULE 10
/* Rules that are named when several together do something. */
#define MAX_NAMES 5
/* Of more than this nobody looks which can be spared. */
#define MAX_SPARED 16

typedef struct GapSearch
{
	int			doubtful;		/* regions whose lead is no gap */
} GapSearch;

static void find_always_false(LrAnalysis *analysis, LrSubject *subject);
static const LrSet **before_contradiction(LrAnalysis *analysis, LrSubject *subject, char **columns);
static const LrSet **region_seen(LrAnalysis *analysis, const LrSubject *subject, const LrBox *box);
static bool asks_too_early(LrAnalysis *analysis, const LrSubject *subject, const LrBox *box);
static bool find_always_true(LrAnalysis *analysis, LrSubject *subject, bool last);
static void find_true_part(LrAnalysis *analysis, LrSubject *subject, int part);
static bool covers_everything(LrAnalysis *analysis, const LrSubject *subject);
static bool are_covered(LrAnalysis *analysis, const LrSet **region, LrBox **boxes, int n);
static LrBox **boxes_of(List *list);
static void require_values(const LrFormula *formula, const LrSet **region);
static bool only_tests_null(const LrFormula *formula);
static void column_names(LrAnalysis *analysis, const LrFormula *formula, StringInfo names);
static bool is_shadowed(LrAnalysis *analysis, int number, Bitmapset **used);
static bool is_covered(LrAnalysis *analysis, const LrSet **region, int *candidates, int n, Bitmapset **used);
static void report_shadow(LrAnalysis *analysis, LrSubject *subject, Bitmapset *used);
static char *names_of(LrAnalysis *analysis, Bitmapset *subjects);
static bool gap_found(LrAnalysis *analysis, const LrSet **region, void *argument);
static char *column_name(LrAnalysis *analysis, const LrColumn *column);
static const LrSet **everything(LrAnalysis *analysis);

/* ---- conditions that are always true or false ---- */

/* Finds conditions that hold for no lead or for all, and parts that are never false. */
void
lr_find_constant_conditions(LrAnalysis *analysis)
{
	for (int i = 0; i < analysis->nsubjects; i++)
	{
		LrSubject  *subject = &analysis->subjects[i];
		MemoryContext saved = MemoryContextSwitchTo(analysis->scratch);

		CHECK_FOR_INTERRUPTS();
		if (subject->never_holds)
			find_always_false(analysis, subject);
		else if (!find_always_true(analysis, subject, i == analysis->nsubjects - 1))
		{
			for (int part = 0; part < subject->when->nconjuncts; part++)
				find_true_part(analysis, subject, part);
		}
		MemoryContextSwitchTo(saved);
		MemoryContextReset(analysis->scratch);
	}
	for (int i = 0; i < analysis->nbins; i++)
	{
		MemoryContext saved = MemoryContextSwitchTo(analysis->scratch);

		if (analysis->bins[i].never_holds)
			find_always_false(analysis, &analysis->bins[i]);
		else
		{
			for (int part = 0; part < analysis->bins[i].when->nconjuncts; part++)
				find_true_part(analysis, &analysis->bins[i], part);
		}
		MemoryContextSwitchTo(saved);
		MemoryContextReset(analysis->scratch);
	}
}

static void
find_always_false(LrAnalysis *analysis, LrSubject *subject)
{
	char	   *columns;
	const LrSet **region = before_contradiction(analysis, subject, &columns);
	LrWitness	witness;
	LrFinding  *finding;

	if (!lr_witness_find(analysis, region, NULL, NULL, &witness) || lr_witness_truth(analysis, &witness, subject) == LR_TRUE || !lr_finding_wanted(analysis, LR_FINDING_ALWAYS_FALSE, LR_WARNING_FINDING))
		return;
	finding = lr_finding_add(analysis, LR_FINDING_ALWAYS_FALSE, LR_WARNING_FINDING, subject->name, NULL,
							 strcmp(columns, NEVER) == 0 ? "Correct the condition, or leave it out. To ask whether there is a value, write IS NULL or IS NOT NULL." :
							 "Correct the condition, or leave it out.",
							 "No lead can make its condition true: %s.", columns);
	lr_finding_show(analysis, finding, &witness);
}

/* Returns a region in which all parts hold but the first that contradicts the others, and says what the contradiction is over. */
static const LrSet **
before_contradiction(LrAnalysis *analysis, LrSubject *subject, char **columns)
{
	LrBox	   *box = palloc0(sizeof(LrBox));
	bool		exact = true;

	*columns = "no value of an output that it asks for can occur";
	for (int i = 0; i < subject->when->nconjuncts; i++)
	{
		List	   *boxes = lr_formula_boxes(subject->conjuncts[i], true, &exact);
		LrBox	   *more = NULL;
		bool		too_early = false;
		StringInfoData names;
		ListCell   *cell;

		foreach(cell, boxes)
		{
			LrBox	   *product = lr_box_product(box, lfirst(cell));

			if (more || product == NULL)
				continue;
			if (asks_too_early(analysis, subject, product))
				too_early = true;
			else if (lr_region_possible(analysis, region_seen(analysis, subject, product)))
				more = product;
		}
		if (more)
		{
			box = more;
			continue;
		}
		initStringInfo(&names);
		column_names(analysis, subject->conjuncts[i], &names);
		if (too_early)
			*columns = psprintf("%s is not known yet", names.data);
		else if (names.len == 0)
			*columns = NEVER;
		else if (boxes == NIL)
			*columns = psprintf("what it asks of %s cannot be", names.data);
		else
			*columns = psprintf("what it asks of %s contradicts its other parts", names.data);
		break;
	}
	return region_seen(analysis, subject, box);
}

/* Returns the region of a box as a subject sees it. */
static const LrSet **
region_seen(LrAnalysis *analysis, const LrSubject *subject, const LrBox *box)
{
	const LrSet **region = lr_region_of(analysis, box);

	lr_region_forget(analysis, region, subject->sees);
	return region;
}

/* Tells whether a box needs an output that is still to come. */
static bool
asks_too_early(LrAnalysis *analysis, const LrSubject *subject, const LrBox *box)
{
	for (int i = 0; i < box->n; i++)
	{
		if (lr_column_is_later(analysis, box->bounds[i].column, subject->sees) && !lr_set_has(box->bounds[i].set, LR_CELL_NOTHING))
			return true;
	}
	return false;
}

/* Reports a condition that is true for every lead, unless it is the last rule's, which is meant so. */
static bool
find_always_true(LrAnalysis *analysis, LrSubject *subject, bool last)
{
	LrWitness	witness;
	LrFinding  *finding;

	if (!subject->exact || !covers_everything(analysis, subject))
		return false;
	if ((last && subject->rule) || !lr_witness_find(analysis, everything(analysis), subject, NULL, &witness) ||
		!lr_finding_wanted(analysis, LR_FINDING_ALWAYS_TRUE, LR_WARNING_FINDING))
		return true;
	finding = lr_finding_add(analysis, LR_FINDING_ALWAYS_TRUE, LR_WARNING_FINDING, subject->name, NULL,
							 subject->rule ? "Make it the last rule, or give it a condition." : "Correct the condition.",
							 subject->rule ? "Its condition is true for every lead, and it is not the last rule." :
							 "It ends every run here.");
	lr_finding_show(analysis, finding, &witness);
	return true;
}

static bool
covers_everything(LrAnalysis *analysis, const LrSubject *subject)
{
	for (int i = 0; i < subject->nboxes; i++)
	{
		if (subject->boxes[i]->n == 0)
			return true;
	}
	return subject->nboxes > 1 &&
		are_covered(analysis, lr_region_of(analysis, palloc0(sizeof(LrBox))), subject->boxes, subject->nboxes);
}

/* Tells whether boxes cover a region. */
static bool
are_covered(LrAnalysis *analysis, const LrSet **region, LrBox **boxes, int n)
{
	LrBox	  **all = analysis->boxes;
	int		   *candidates = palloc(sizeof(int) * n);
	bool		uncovered;

	for (int i = 0; i < n; i++)
		candidates[i] = i;
	analysis->boxes = boxes;
	analysis->budget = analysis->whole_budget;
	uncovered = lr_find_uncovered(analysis, region, candidates, n, NULL, NULL, NULL);
	analysis->boxes = all;
	return !uncovered && analysis->budget >= 0;
}

static LrBox **
boxes_of(List *list)
{
	LrBox	  **boxes = palloc(sizeof(LrBox *) * list_length(list));
	ListCell   *cell;

	foreach(cell, list)
		boxes[foreach_current_index(cell)] = lfirst(cell);
	return boxes;
}

/* Leaves of a region what has a value in all columns that a formula compares. */
static void
require_values(const LrFormula *formula, const LrSet **region)
{
	ListCell   *cell;

	if (formula->kind == LR_FORMULA_ATOM)
		region[formula->column->number] = lr_set_intersection(region[formula->column->number], formula->column->values);
	foreach(cell, formula->arguments)
		require_values(lfirst(cell), region);
}

/* Reports a part that is not false for any lead: country <> 'DE' OR country <> 'AT'. */
static void
find_true_part(LrAnalysis *analysis, LrSubject *subject, int part)
{
	const LrFormula *formula = subject->conjuncts[part];
	bool		exact = true;
	bool		expected;
	ListCell   *cell;
	List	   *boxes;
	const LrSet **region;
	LrWitness	witness;
	LrFinding  *finding;
	StringInfoData names;
	LrSeverity	severity;

	if (formula->kind == LR_FORMULA_CONSTANT || lr_formula_unknown(formula) || only_tests_null(formula))
		return;
	foreach(cell, lr_formula_boxes(formula, false, &exact))
	{
		if (asks_too_early(analysis, subject, lfirst(cell)) || lr_region_possible(analysis, region_seen(analysis, subject, lfirst(cell))))
			return;
	}
	/* what is never false may still be null: IN (1, NULL) */
	boxes = lr_formula_boxes(formula, true, &exact);
	region = region_seen(analysis, subject, palloc0(sizeof(LrBox)));
	require_values(formula, region);
	if (boxes == NIL || !exact || !are_covered(analysis, region, boxes_of(boxes), list_length(boxes)))
		return;
	/* of an output whose values are known somebody may well ask for all */
	expected = formula->kind == LR_FORMULA_ATOM && formula->column->base->fact >= LR_N_ATTRIBUTES;
	severity = expected ? LR_INFO_FINDING : LR_WARNING_FINDING;
	if (!lr_witness_find(analysis, region_seen(analysis, subject, subject->boxes[0]), subject, NULL, &witness) ||
		!lr_finding_wanted(analysis, LR_FINDING_ALWAYS_TRUE, severity))
		return;
	initStringInfo(&names);
	column_names(analysis, formula, &names);
	finding = lr_finding_add(analysis, LR_FINDING_ALWAYS_TRUE, severity, subject->name, NULL,
							 expected ? "Leave the part out, or ask for IS NOT NULL." : "If none of several values is meant, connect with AND, or write NOT IN.",
							 "What it asks of %s is true for every lead that has a value there.", names.data);
	lr_finding_show(analysis, finding, &witness);
}

static bool
only_tests_null(const LrFormula *formula)
{
	while (formula->kind == LR_FORMULA_NOT)
		formula = linitial(formula->arguments);
	return formula->kind == LR_FORMULA_ATOM && (formula->atom == LR_ATOM_NULL || formula->atom == LR_ATOM_EXISTS || formula->has_default);
}

/* Appends the names of the columns that a formula compares, each once. */
static void
column_names(LrAnalysis *analysis, const LrFormula *formula, StringInfo names)
{
	ListCell   *cell;

	if (formula->kind == LR_FORMULA_ATOM)
	{
		char	   *name = column_name(analysis, formula->column);

		if (strstr(names->data, name) == NULL)
			appendStringInfo(names, "%s%s", names->len ? ", " : "", name);
	}
	foreach(cell, formula->arguments)
		column_names(analysis, lfirst(cell), names);
}

static char *
column_name(LrAnalysis *analysis, const LrColumn *column)
{
	const char *fact = lr_fact_name(analysis->policy->scope, column->base->fact);

	return column->base->member ? psprintf("%s->>'%s'", fact, column->base->member) : pstrdup(fact);
}

/* ---- rules that never fire ---- */

/* Finds rules that earlier ones cover, alone or together. Under the hit policy unique that is an overlap. */
void
lr_find_shadows(LrAnalysis *analysis)
{
	int64		left = analysis->whole_budget;

	if (analysis->policy->hit_policy == LR_HIT_UNIQUE)
		return;
	for (int i = analysis->nstops; i < analysis->nsubjects; i++)
	{
		LrSubject  *subject = &analysis->subjects[i];
		MemoryContext saved;
		Bitmapset  *used = NULL;
		int64		share = Min(left, Max(analysis->whole_budget / SHARE_OF_ONE_RULE, 1));

		CHECK_FOR_INTERRUPTS();
		if (subject->never_holds)
			continue;
		saved = MemoryContextSwitchTo(analysis->scratch);
		analysis->budget = share;
		if (is_shadowed(analysis, i, &used))
		{
			subject->never_fires = true;
			report_shadow(analysis, subject, used);
		}
		if (analysis->budget < 0)
			analysis->report->out_of_budget[LR_FINDING_NEVER_FIRES] = true;
		left = Max(left - (share - Max(analysis->budget, 0)), 0);
		MemoryContextSwitchTo(saved);
		MemoryContextReset(analysis->scratch);
	}
}

/* Tells whether subjects before one cover all its boxes; *used gets those that do. */
static bool
is_shadowed(LrAnalysis *analysis, int number, Bitmapset **used)
{
	const LrSubject *subject = &analysis->subjects[number];

	for (int b = 0; b < subject->nboxes; b++)
	{
		const LrBox *box = subject->boxes[b];
		const LrSet **region = lr_region_of(analysis, box);
		int		   *candidates;
		int			n = lr_box_candidates(analysis, box, subject->first_box, &candidates);
		int			kept = 0;
		int			single = -1;

		(void) lr_region_narrow(analysis, region);
		for (int i = 0; i < n; i++)
		{
			const LrBox *other = analysis->boxes[candidates[i]];

			if (!analysis->subjects[other->subject].covers)
				continue;
			candidates[kept++] = candidates[i];
			if (single < 0 && lr_box_holds(other, region))
				single = other->subject;
		}
		if (single >= 0)
			*used = bms_add_member(*used, single);
		else if (kept == 0 || analysis->budget < 0 || !is_covered(analysis, region, candidates, kept, used))
			return false;
	}
	return true;
}

/* Tells whether candidates cover a region together, and which of them it takes. */
static bool
is_covered(LrAnalysis *analysis, const LrSet **region, int *candidates, int n, Bitmapset **used)
{
	Bitmapset  *needed = NULL;
	int			member = -1;

	if (lr_find_uncovered(analysis, region, candidates, n, &needed, NULL, NULL) || analysis->budget < 0)
		return false;
	/* which of several covers a part is chance: whoever can be spared is not named */
	while (bms_num_members(needed) <= MAX_SPARED && (member = bms_next_member(needed, member)) >= 0)
	{
		int		   *others = palloc(sizeof(int) * n);
		int			kept = 0;
		int64		left = analysis->budget;

		for (int i = 0; i < n; i++)
		{
			int			subject = analysis->boxes[candidates[i]]->subject;

			if (subject != member && bms_is_member(subject, needed))
				others[kept++] = candidates[i];
		}
		if (!lr_find_uncovered(analysis, region, others, kept, NULL, NULL, NULL) && analysis->budget >= 0)
			needed = bms_del_member(needed, member);
		analysis->budget = left;
		pfree(others);
	}
	*used = bms_join(*used, needed);
	return true;
}

static void
report_shadow(LrAnalysis *analysis, LrSubject *subject, Bitmapset *used)
{
	LrWitness	witness;
	LrFinding  *finding;
	bool		single = bms_membership(used) == BMS_SINGLETON;
	const LrSubject *stop;
	bool		found = false;

	if (!lr_finding_wanted(analysis, LR_FINDING_NEVER_FIRES, LR_WARNING_FINDING))
		return;
	for (int b = 0; b < subject->nboxes && !found; b++)
		found = lr_witness_find(analysis, lr_region_of(analysis, subject->boxes[b]), subject, NULL, &witness);
	if (!found)
		return;
	lr_witness_match(analysis, &witness);
	stop = lr_witness_stop(analysis, &witness);
	if (!lr_witness_hits(&witness, subject) || (stop == NULL && (witness.match.rule == NULL || witness.match.rule->number == subject->rule->number)))
		return;
	finding = lr_finding_add(analysis, LR_FINDING_NEVER_FIRES, LR_WARNING_FINDING, subject->name,
							 single ? analysis->subjects[bms_singleton_member(used)].name : NULL,
							 "Put it before them, narrow them, or remove it.",
							 single ? "Whenever it holds, %s has decided before." : "Whenever it holds, one of these has decided before: %s.",
							 names_of(analysis, used));
	lr_finding_show(analysis, finding, &witness);
}

static char *
names_of(LrAnalysis *analysis, Bitmapset *subjects)
{
	StringInfoData names;
	int			member = -1;
	int			n = 0;

	initStringInfo(&names);
	while ((member = bms_next_member(subjects, member)) >= 0)
	{
		if (n++ < MAX_NAMES)
			appendStringInfo(&names, "%s\"%s\"", n > 1 ? ", " : "", analysis->subjects[member].name);
	}
	if (n > MAX_NAMES)
		appendStringInfo(&names, " and %d more", n - MAX_NAMES);
	return names.data;
}

/* ---- leads that no rule takes ---- */

/* Finds combinations that neither a rule nor a stop condition covers, and for which nothing raises. */
void
lr_find_gaps(LrAnalysis *analysis)
{
	MemoryContext saved = MemoryContextSwitchTo(analysis->scratch);
	int		   *candidates = palloc_extended(sizeof(int) * Max(analysis->nboxes, 1), MCXT_ALLOC_HUGE);
	GapSearch	search = {0};
	int			n = 0;

	for (int i = 0; i < analysis->nboxes; i++)
	{
		if (analysis->subjects[analysis->boxes[i]->subject].covers)
			candidates[n++] = i;
	}
	if (analysis->assigns)
	{
		analysis->budget = analysis->whole_budget;
		(void) lr_find_uncovered(analysis, everything(analysis), candidates, n, NULL, gap_found, &search);
		analysis->report->out_of_budget[LR_FINDING_GAP] = analysis->budget < 0;
		analysis->report->doubtful[LR_FINDING_GAP] = search.doubtful > 0;
	}
	MemoryContextSwitchTo(saved);
	MemoryContextReset(analysis->scratch);
}

/* All leads but those for which a cast raises. */
static const LrSet **
everything(LrAnalysis *analysis)
{
	const LrSet **region = palloc(sizeof(LrSet *) * Max(analysis->ncolumns, 1));

	for (int i = 0; i < analysis->ncolumns; i++)
		region[i] = lr_set_intersection(analysis->columns[i]->universe, analysis->columns[i]->sound);
	return region;
}

/* Reports a region without a rule, and goes on. */
static bool
gap_found(LrAnalysis *analysis, const LrSet **region, void *argument)
{
	GapSearch  *search = argument;
	LrWitness	witness;
	LrFinding  *finding;
	char	   *where;

	CHECK_FOR_INTERRUPTS();
	if (!lr_finding_wanted(analysis, LR_FINDING_GAP, LR_WARNING_FINDING))
		return false;
	if (!lr_witness_find(analysis, region, NULL, NULL, &witness))
		return false;
	lr_witness_match(analysis, &witness);
	if (witness.match.nhits > 0 || witness.match.nerrors > 0 || lr_witness_stop(analysis, &witness) != NULL)
	{
		/* a rule that is not wholly known takes it, perhaps not all of the region */
		search->doubtful++;
		return false;
	}
	where = lr_region_text(analysis, region);
	finding = lr_finding_add(analysis, LR_FINDING_GAP, LR_WARNING_FINDING, NULL, NULL, "Add a rule with the condition true behind all others: the last one, and where rules have priorities, with the highest number.",
							 where[0] ? "No rule holds where: %s." : "No rule holds.%s", where);
	lr_finding_show(analysis, finding, &witness);
	return false;
}

/* ---- what is beyond the analysis ---- */

typedef struct Unknown
{
	const char *what;
	LrSubject  *first;
	int64		n;
} Unknown;

/* Lists what the analysis does not know, with the number of rules that use it. */
void
lr_find_unknown(LrAnalysis *analysis)
{
	List	   *unknowns = NIL;
	ListCell   *cell;

	for (int i = 0; i < analysis->nsubjects; i++)
	{
		LrSubject  *subject = &analysis->subjects[i];
		Unknown    *unknown = NULL;
		const char *what = NULL;

		if (subject->exact)
			continue;
		for (int part = 0; part < subject->when->nconjuncts && what == NULL; part++)
			what = lr_formula_unknown(subject->conjuncts[part]);
		if (what == NULL)
			what = "a condition with so many alternatives";
		foreach(cell, unknowns)
		{
			if (strcmp(((Unknown *) lfirst(cell))->what, what) == 0)
				unknown = lfirst(cell);
		}
		if (unknown == NULL)
		{
			unknown = palloc0(sizeof(Unknown));
			unknown->what = what;
			unknown->first = subject;
			unknowns = lappend(unknowns, unknown);
		}
		unknown->n++;
	}
	foreach(cell, unknowns)
	{
		Unknown    *unknown = lfirst(cell);

		if (!lr_finding_wanted(analysis, LR_FINDING_NOT_ANALYSABLE, LR_INFO_FINDING))
			continue;
		lr_finding_add(analysis, LR_FINDING_NOT_ANALYSABLE, LR_INFO_FINDING, unknown->first->name, NULL,
					   "Where you can, compare attributes with constants: =, <, IN, BETWEEN, IS NULL.",
					   "The analysis does not look into %s: such a rule is never said to cover another, or to leave no gap.",
					   unknown->what)->occurrences = unknown->n;
	}
}
