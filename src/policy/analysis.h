/*
 * analysis.h: what rules leave uncovered, hide or share, found without leads. Used by the analysis*.c files only.
 *
 * analysis.c says how it works. A column is what conditions compare with constants; its values, in their order, are cut at
 * these constants into cells, which are numbers; a set is what a part of a condition leaves of a column, and a box one set a
 * column: the leads for which a conjunction holds.
 */
#ifndef LR_ANALYSIS_H
#define LR_ANALYSIS_H

#include "policy/policy.h"

#include "utils/numeric.h"

/* Cells of what is no value. The others are the constants and the places between them, in ascending order. */
#define LR_CELL_NOTHING 0		/* the fact is null, of a member the whole document */
#define LR_CELL_ABSENT 1		/* the document has no such member */
#define LR_CELL_JSON_NULL 2		/* it has, and it is null */
#define LR_CELL_ERROR 3			/* it has, and the cast raises */
#define LR_CELL_VALUES 4

typedef struct LrRange
{
	int32		low;
	int32		high;			/* inclusive */
} LrRange;

typedef struct LrSet
{
	int			n;
	LrRange		ranges[FLEXIBLE_ARRAY_MEMBER];	/* ascending, apart from one another */
} LrSet;

typedef union LrPoint
{
	int64		number;
	char	   *text;
	Numeric		decimal;
} LrPoint;

typedef enum LrColumnKind
{
	LR_COLUMN_NUMBER,			/* integers, booleans, dates and moments: LrPoint.number */
	LR_COLUMN_TEXT,
	LR_COLUMN_DECIMAL
} LrColumnKind;

/* A fact, or a member of one that is a document, and the columns that show it. */
typedef struct LrBase
{
	int			fact;
	char	   *member;			/* or NULL */
	List	   *columns;		/* of LrColumn */
} LrBase;

typedef struct LrColumn
{
	int			number;
	LrBase	   *base;
	Oid			cast;			/* to this type, through text; InvalidOid: as it is */
	Oid			type;			/* of the values */
	LrColumnKind kind;
	bool		read_by_rules;	/* otherwise only stop conditions read it */
	bool		asked_for;		/* whether there is such a member matters */
	int			npoints;		/* constants, ascending once the columns are complete */
	int			allocated;
	LrPoint    *points;
	int32	   *cells;			/* of the points, once the columns are complete */
	int32		last_cell;
	int			ndomain;		/* the only values that it can have, if not 0 */
	const char **domain;
	const char *usual;			/* the value to show where any will do, or NULL */
	bool		limited;		/* numbers lie between these two */
	int64		lowest;
	int64		highest;
	bool		never_null;
	bool		always_null;
	/* once the columns are complete */
	const LrSet *universe;
	const LrSet *nulls;
	const LrSet *values;
	const LrSet *sound;			/* all but what raises */
} LrColumn;

/* One set a column that a conjunction narrows, in the order of the columns' numbers. */
typedef struct LrBound
{
	const LrColumn *column;
	const LrSet *set;
} LrBound;

typedef struct LrBox
{
	int			subject;
	int			n;
	LrBound		bounds[FLEXIBLE_ARRAY_MEMBER];
} LrBox;

typedef enum LrFormulaKind
{
	LR_FORMULA_CONSTANT,		/* true, false or null */
	LR_FORMULA_ATOM,
	LR_FORMULA_AND,
	LR_FORMULA_OR,
	LR_FORMULA_NOT,
	LR_FORMULA_UNKNOWN			/* beyond the analysis */
} LrFormulaKind;

typedef enum LrAtomKind
{
	LR_ATOM_IN,					/* equal to one of the points */
	LR_ATOM_LESS,				/* than the point */
	LR_ATOM_LESS_EQUAL,
	LR_ATOM_NULL,				/* is null */
	LR_ATOM_SAME,				/* IS NOT DISTINCT FROM the point, IS TRUE, IS FALSE */
	LR_ATOM_EXISTS				/* attributes ? 'member' */
} LrAtomKind;

typedef struct LrFormula
{
	LrFormulaKind kind;
	LrTruth		truth;			/* of a constant */
	List	   *arguments;		/* of LrFormula */
	const char *unknown;		/* what it is that the analysis does not know */
	LrColumn   *column;
	LrAtomKind	atom;
	int			npoints;
	LrPoint    *points;
	bool		null_listed;	/* one of the constants compared with is null */
	bool		has_default;	/* COALESCE(column, point) */
	LrPoint		otherwise;
} LrFormula;

/* What can decide about a lead: a rule, or a stop condition, which comes before all rules. */
typedef struct LrSubject
{
	const LrRule *rule;			/* NULL for a stop condition */
	LrCondition *when;
	const char *name;			/* of the rule; of a stop condition its place in the document */
	int			sees;			/* of what is no rule: the last step whose outputs it can see */
	LrFormula **conjuncts;
	bool		exact;			/* its boxes are all leads for which it holds, and no others */
	bool		covers;			/* where its boxes are, no later rule decides */
	int			nboxes;
	LrBox	  **boxes;
	int			first_box;		/* in LrAnalysis.boxes */
	int			target;
	const char *target_name;
	bool		never_holds;
	bool		never_fires;
} LrSubject;

/* What goes together: at least one of its combinations holds for every lead. NULL for any set. */
typedef struct LrLink
{
	int			ncolumns;
	LrColumn  **columns;
	List	   *combinations;	/* of const LrSet *[ncolumns] */
} LrLink;

typedef struct LrBoxIndex LrBoxIndex;

typedef struct LrAnalysis
{
	LrPolicy   *policy;
	LrPolicy	all_hits;		/* the same policy, and all rules that hold are wanted */
	MemoryContext memory;
	MemoryContext scratch;		/* for one question */
	int			examples;
	LrEvaluator *evaluator;
	bool		reading_rules;	/* columns that come up are read by rules */
	List	   *bases;
	List	   *column_list;	/* until they are complete */
	int			ncolumns;
	LrColumn  **columns;
	List	   *links;
	bool		assigns;		/* a step does */
	int			nstops;
	int			nsubjects;
	LrSubject  *subjects;		/* stop conditions, then rules in the order in which they are tried */
	int			nbins;
	LrSubject  *bins;			/* conditions of the scorecard */
	int			bin_step;
	int			nboxes;
	LrBox	  **boxes;			/* in the order of their subjects */
	LrBoxIndex *index;
	int64		whole_budget;	/* of each question */
	int64		budget;			/* what is left for the present one; negative when it ran out */
	int64		charge;			/* thousandths of it that were used and not yet taken */
	struct LrReport *report;
} LrAnalysis;

/* analysis_sets.c */
extern LrSet *lr_set_empty(void);
extern LrSet *lr_set_of(int32 low, int32 high);
extern void lr_set_add(LrSet **set, int *allocated, int32 low, int32 high);
extern LrSet *lr_set_intersection(const LrSet *a, const LrSet *b);
extern LrSet *lr_set_difference(const LrSet *a, const LrSet *b);
extern LrSet *lr_set_union(const LrSet *a, const LrSet *b);
extern bool lr_set_has(const LrSet *set, int32 cell);
extern bool lr_set_contains(const LrSet *outer, const LrSet *inner);
extern bool lr_set_overlaps(const LrSet *a, const LrSet *b);
extern bool lr_set_equal(const LrSet *a, const LrSet *b);
extern int	lr_set_count(const LrSet *set);
extern bool lr_boxes_overlap(const LrBox *a, const LrBox *b);
extern bool lr_box_contains(const LrBox *outer, const LrBox *inner);
extern const LrSet *lr_box_bound(const LrBox *box, const LrColumn *column);
extern LrBox *lr_box_product(const LrBox *a, const LrBox *b);

/* analysis_columns.c */
extern LrColumn *lr_column_of(LrAnalysis *analysis, int fact, const char *member, Oid cast);
extern void lr_column_add_point(LrColumn *column, LrPoint point);
extern int	lr_points_compare(LrColumnKind kind, LrPoint a, LrPoint b);
extern void lr_columns_complete(LrAnalysis *analysis);
extern const LrSet *lr_column_below(const LrColumn *column, LrPoint point, bool inclusive);
extern int32 lr_column_cell(const LrColumn *column, LrPoint point);
extern bool lr_column_has(const LrColumn *column, const LrSet *set, LrPoint point);
extern bool lr_cell_is_point(const LrColumn *column, int32 cell);
extern bool lr_column_value(const LrColumn *column, int32 cell, LrPoint *point);
extern char *lr_point_text(const LrColumn *column, LrPoint point);

/* analysis_domains.c */
extern void lr_domains_set(LrAnalysis *analysis);
extern void lr_links_make(LrAnalysis *analysis);
extern bool lr_column_is_later(const LrAnalysis *analysis, const LrColumn *column, int step);
extern bool lr_step_may_be_skipped(const LrPolicy *policy, int step);
extern int	lr_step_sign(const LrStep *step);

/* analysis_terms.c */
extern LrFormula *lr_formula_of(LrAnalysis *analysis, Expr *expression);
extern const char *lr_formula_unknown(const LrFormula *formula);

/* analysis_boxes.c */
extern List *lr_formula_boxes(const LrFormula *formula, bool wanted, bool *exact);
extern List *lr_boxes_product(List *a, List *b, bool *exact);

/* analysis_search.c */
typedef bool (*LrRegionFound) (LrAnalysis *analysis, const LrSet **region, void *argument);

extern bool lr_charge(LrAnalysis *analysis, int64 thousandths);
extern const LrSet **lr_region_of(const LrAnalysis *analysis, const LrBox *box);
extern bool lr_region_possible(const LrAnalysis *analysis, const LrSet **region);
extern bool lr_region_narrow(const LrAnalysis *analysis, const LrSet **region);
extern void lr_region_forget(const LrAnalysis *analysis, const LrSet **region, int step);
extern const LrSet **lr_region_consistent(LrAnalysis *analysis, const LrSet **region);
extern bool lr_box_holds(const LrBox *box, const LrSet **region);
extern bool lr_find_uncovered(LrAnalysis *analysis, const LrSet **region, const int *candidates, int n, Bitmapset **used,
							  LrRegionFound found, void *argument);

/* analysis_index.c */
extern LrBoxIndex *lr_box_index_make(LrAnalysis *analysis);
extern int	lr_box_candidates(LrAnalysis *analysis, const LrBox *box, int before, int **candidates);

/* analysis_witness.c */
typedef struct LrWitness
{
	Datum		lead;			/* jsonb */
	Datum	   *values;			/* facts */
	bool	   *isnull;
	uint32		done;			/* steps */
	LrMatch		match;			/* once lr_witness_match() has tried all rules */
} LrWitness;

extern bool lr_witness_find(LrAnalysis *analysis, const LrSet **region, const LrSubject *one, const LrSubject *other, LrWitness *witness);
extern LrTruth lr_witness_truth(LrAnalysis *analysis, const LrWitness *witness, const LrSubject *subject);
extern void lr_witness_match(LrAnalysis *analysis, LrWitness *witness);
extern bool lr_witness_hits(const LrWitness *witness, const LrSubject *subject);
extern const LrSubject *lr_witness_stop(LrAnalysis *analysis, const LrWitness *witness);
extern int32 lr_cast_cell(const LrColumn *column, char *text);

/* analysis_words.c */
extern char *lr_region_text(const LrAnalysis *analysis, const LrSet **region);

/* ---- findings ---- */
typedef enum LrFindingKind
{
	LR_FINDING_MISTAKE,
	LR_FINDING_NEVER_FIRES,
	LR_FINDING_OVERLAP,
	LR_FINDING_GAP,
	LR_FINDING_ALWAYS_TRUE,
	LR_FINDING_ALWAYS_FALSE,
	LR_FINDING_DEAD_TARGET,
	LR_FINDING_SUSPICIOUS_MIX,
	LR_FINDING_NOT_ANALYSABLE,
	LR_FINDING_INCOMPLETE,
	LR_N_FINDINGS
} LrFindingKind;

typedef enum LrSeverity
{
	LR_ERROR_FINDING,
	LR_WARNING_FINDING,
	LR_INFO_FINDING
} LrSeverity;

typedef struct LrFinding
{
	LrSeverity	severity;
	const char *rule;			/* or NULL, as all that follow but the number */
	const char *other_rule;
	int64		occurrences;
	Datum		witness;		/* 0: none */
	const char *detail;
	const char *hint;
} LrFinding;

typedef struct LrReport
{
	List	   *findings[LR_N_FINDINGS];	/* of LrFinding */
	int			shown[LR_N_FINDINGS][LR_INFO_FINDING + 1];
	int64		more[LR_N_FINDINGS][LR_INFO_FINDING + 1];	/* that are not shown, to save room */
	bool		out_of_budget[LR_N_FINDINGS];
	bool		doubtful[LR_N_FINDINGS];	/* because of rules that are not wholly known */
} LrReport;

/* analysis.c */
extern bool lr_finding_wanted(LrAnalysis *analysis, LrFindingKind kind, LrSeverity severity);
extern LrFinding *lr_finding_add(LrAnalysis *analysis, LrFindingKind kind, LrSeverity severity, const char *rule, const char *other_rule,
								 const char *hint, const char *detail, ...) __attribute__((format(printf, 7, 8)));
extern void lr_finding_show(LrAnalysis *analysis, LrFinding *finding, const LrWitness *witness);

/* analysis_findings.c, analysis_overlaps.c, analysis_targets.c, analysis_text.c */
extern void lr_find_constant_conditions(LrAnalysis *analysis);
extern void lr_find_shadows(LrAnalysis *analysis);
extern void lr_find_gaps(LrAnalysis *analysis);
extern void lr_find_unknown(LrAnalysis *analysis);
extern void lr_find_overlaps(LrAnalysis *analysis);
extern void lr_find_dead_targets(LrAnalysis *analysis);
extern void lr_find_mixes(LrAnalysis *analysis);

#endif
