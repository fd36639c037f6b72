/*
 * analysis_overlaps.c: pairs of rules that both hold for some lead, and lead to different targets.
 *
 * Under the hit policies priority and first an earlier rule within a later one is a refinement, special before general, and
 * only mentioned; rules that cross are worth a look: which of them decides is a matter of their order. Under unique every
 * pair is an error, also one that leads to the same. Few pairs are listed one by one; many are grouped by their targets, with the number of pairs.
 */
#include "policy/analysis.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* Pairs of a group that are tried for a witness: where conditions are not wholly known, the first need not have one. */
#define MAX_TRIED 8
/* In thousandths of the budget. */
#define COST_OF_PAIR 50

typedef struct Pair
{
	int			earlier;
	int			later;
	const LrBox *box;			/* what they have in common */
} Pair;

typedef struct PairGroup
{
	uint64		hash;			/* of both targets, and severity */
	LrSeverity	severity;
	bool		exact;			/* both rules' conditions are known */
	int64		n;
	int			ntried;
	Pair		tried[MAX_TRIED];
} PairGroup;

typedef struct Overlaps
{
	HTAB	   *by_hash;
	List	   *groups;			/* of PairGroup, in the order of their first pairs */
	int64		n[LR_INFO_FINDING + 1];
	List	   *pairs[LR_INFO_FINDING + 1];	/* the first ones, of Pair */
} Overlaps;

static void find_pairs(LrAnalysis *analysis, Overlaps *overlaps, int later, int *seen);
static LrBox *common_part(LrAnalysis *analysis, const LrSubject *earlier, const LrSubject *later);
static LrSeverity severity_of(LrAnalysis *analysis, const LrSubject *earlier, const LrSubject *later);
static bool lies_within(const LrSubject *inner, const LrSubject *outer);
static void add_pair(LrAnalysis *analysis, Overlaps *overlaps, LrSeverity severity, const Pair *pair);
static bool report_pair(LrAnalysis *analysis, LrSeverity severity, const Pair *pair, int64 n);
static int	compare_ints(const void *a, const void *b);

/* Finds the pairs, and reports them. */
void
lr_find_overlaps(LrAnalysis *analysis)
{
	HASHCTL		control = {.keysize = sizeof(uint64),.entrysize = sizeof(uint64) + sizeof(PairGroup *),.hcxt = analysis->memory};
	Overlaps	overlaps = {0};
	int		   *seen = palloc_extended(sizeof(int) * Max(analysis->nsubjects, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	ListCell   *cell;

	overlaps.by_hash = hash_create("leadroute overlaps", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	analysis->budget = analysis->whole_budget;
	for (int i = analysis->nstops; i < analysis->nsubjects && analysis->budget >= 0; i++)
	{
		CHECK_FOR_INTERRUPTS();
		find_pairs(analysis, &overlaps, i, seen);
	}
	if (analysis->budget < 0)
		analysis->report->out_of_budget[LR_FINDING_OVERLAP] = true;

	for (LrSeverity severity = 0; severity <= LR_INFO_FINDING; severity++)
	{
		if (overlaps.n[severity] <= analysis->examples)
		{
			foreach(cell, overlaps.pairs[severity])
				(void) report_pair(analysis, severity, lfirst(cell), 1);
			continue;
		}
		foreach(cell, overlaps.groups)
		{
			PairGroup	   *group = lfirst(cell);
			bool		reported = false;

			if (group->severity != severity)
				continue;
			if (analysis->report->shown[LR_FINDING_OVERLAP][severity] >= analysis->examples)
			{
				analysis->report->more[LR_FINDING_OVERLAP][severity] += group->exact ? group->n : 0;
				continue;
			}
			/* of pairs that are not wholly known only the one that was shown counts */
			for (int i = 0; i < group->ntried && !reported; i++)
				reported = report_pair(analysis, severity, &group->tried[i], group->exact ? group->n : 1);
		}
	}
	MemoryContextReset(analysis->scratch);
}

/* Finds the earlier rules that meet one and lead elsewhere. */
static void
find_pairs(LrAnalysis *analysis, Overlaps *overlaps, int later, int *seen)
{
	const LrSubject *subject = &analysis->subjects[later];
	MemoryContext saved = MemoryContextSwitchTo(analysis->scratch);
	int		   *others = NULL;
	int			nothers = 0;

	/* who never fires is reported as that */
	if (subject->never_fires)
	{
		MemoryContextSwitchTo(saved);
		return;
	}
	for (int b = 0; b < subject->nboxes && analysis->budget >= 0; b++)
	{
		int		   *candidates;
		int			n = lr_box_candidates(analysis, subject->boxes[b], subject->first_box, &candidates);

		others = others ? repalloc_huge(others, sizeof(int) * (nothers + n + 1)) : palloc_extended(sizeof(int) * (n + 1), MCXT_ALLOC_HUGE);
		for (int i = 0; i < n; i++)
		{
			int			other = analysis->boxes[candidates[i]]->subject;

			if (other < analysis->nstops || seen[other] == later ||
				(analysis->subjects[other].target == subject->target && analysis->policy->hit_policy != LR_HIT_UNIQUE))
				continue;
			seen[other] = later;
			others[nothers++] = other;
		}
		pfree(candidates);
	}
	if (nothers > 1)
		qsort(others, nothers, sizeof(int), compare_ints);
	for (int i = 0; i < nothers; i++)
	{
		const LrSubject *earlier = &analysis->subjects[others[i]];
		LrBox	   *common = analysis->budget >= 0 ? common_part(analysis, earlier, subject) : NULL;
		Pair		pair = {.earlier = others[i],.later = later,.box = common};

		CHECK_FOR_INTERRUPTS();
		(void) lr_charge(analysis, COST_OF_PAIR);
		if (common && !earlier->never_fires)
			add_pair(analysis, overlaps, severity_of(analysis, earlier, subject), &pair);
	}
	MemoryContextSwitchTo(saved);
	MemoryContextReset(analysis->scratch);
}

/* Returns the first part that two subjects have in common and that some lead is in, NULL if there is none. */
static LrBox *
common_part(LrAnalysis *analysis, const LrSubject *earlier, const LrSubject *later)
{
	for (int i = 0; i < earlier->nboxes; i++)
	{
		for (int j = 0; j < later->nboxes; j++)
		{
			LrBox	   *box = lr_boxes_overlap(earlier->boxes[i], later->boxes[j]) ? lr_box_product(earlier->boxes[i], later->boxes[j]) : NULL;

			if (box && (analysis->links == NIL || lr_region_possible(analysis, lr_region_of(analysis, box))))
				return box;
		}
	}
	return NULL;
}

static LrSeverity
severity_of(LrAnalysis *analysis, const LrSubject *earlier, const LrSubject *later)
{
	if (analysis->policy->hit_policy == LR_HIT_UNIQUE)
		return LR_ERROR_FINDING;
	return lies_within(earlier, later) ? LR_INFO_FINDING : LR_WARNING_FINDING;
}

/* Tells whether each box of a subject lies within one of another, all of whose leads it takes. */
static bool
lies_within(const LrSubject *inner, const LrSubject *outer)
{
	for (int i = 0; i < inner->nboxes; i++)
	{
		bool		within = false;

		for (int j = 0; j < outer->nboxes && !within; j++)
			within = lr_box_contains(outer->boxes[j], inner->boxes[i]);
		if (!within)
			return false;
	}
	return outer->exact;
}

static void
add_pair(LrAnalysis *analysis, Overlaps *overlaps, LrSeverity severity, const Pair *pair)
{
	const LrSubject *earlier = &analysis->subjects[pair->earlier];
	const LrSubject *later = &analysis->subjects[pair->later];
	bool		exact = earlier->exact && later->exact;
	uint64		hash = (uint64) earlier->target << 33 ^ (uint64) later->target << 3 ^ (uint64) severity << 1 ^ (exact ? 1 : 0);
	bool		known;
	struct
	{
		uint64		hash;
		PairGroup	   *group;
	}		   *entry = hash_search(overlaps->by_hash, &hash, HASH_ENTER, &known);
	MemoryContext saved = MemoryContextSwitchTo(analysis->memory);
	Pair	   *copy;

	if (!known)
	{
		entry->group = palloc0(sizeof(PairGroup));
		entry->group->severity = severity;
		entry->group->exact = exact;
		overlaps->groups = lappend(overlaps->groups, entry->group);
	}
	entry->group->n++;
	overlaps->n[severity]++;
	if (entry->group->ntried < MAX_TRIED || list_length(overlaps->pairs[severity]) < analysis->examples)
	{
		/* the sets belong to the present question */
		copy = palloc(sizeof(Pair));
		*copy = *pair;
		copy->box = lr_box_product(pair->box, pair->box);
		if (entry->group->ntried < (exact ? 1 : MAX_TRIED))
			entry->group->tried[entry->group->ntried++] = *copy;
		if (list_length(overlaps->pairs[severity]) < analysis->examples)
			overlaps->pairs[severity] = lappend(overlaps->pairs[severity], copy);
	}
	MemoryContextSwitchTo(saved);
}

/* Reports a pair, if a lead shows it. */
static bool
report_pair(LrAnalysis *analysis, LrSeverity severity, const Pair *pair, int64 n)
{
	static const char *const hints[] = {
		"Narrow one of them so that at most one rule holds.",
		"If the order is meant, leave it; otherwise narrow one of them.",
		"Nothing, if that is meant."
	};
	const LrSubject *earlier = &analysis->subjects[pair->earlier];
	const LrSubject *later = &analysis->subjects[pair->later];
	MemoryContext saved = MemoryContextSwitchTo(analysis->scratch);
	LrWitness	witness;
	bool		shown;

	shown = lr_witness_find(analysis, lr_region_of(analysis, pair->box), earlier, later, &witness) &&
		lr_witness_truth(analysis, &witness, later) == LR_TRUE;
	if (shown)
	{
		lr_witness_match(analysis, &witness);
		shown = lr_witness_hits(&witness, earlier) && lr_witness_hits(&witness, later);
	}
	if (shown)
	{
		LrFinding  *finding;

		if (severity == LR_INFO_FINDING)
			finding = lr_finding_add(analysis, LR_FINDING_OVERLAP, severity, later->name, earlier->name, hints[severity],
									 "Special before general: the leads of \"%s\" go to %s and not to %s.", earlier->name, earlier->target_name,
									 later->target_name);
		else
			finding = lr_finding_add(analysis, LR_FINDING_OVERLAP, severity, later->name, earlier->name, hints[severity],
									 severity == LR_ERROR_FINDING ? "Both hold for some leads, and lead to %s and to %s."
									 : "They cross: the leads for which both hold go to %s and not to %s.", earlier->target_name, later->target_name);
		finding->occurrences = n;
		lr_finding_show(analysis, finding, &witness);
	}
	MemoryContextSwitchTo(saved);
	MemoryContextReset(analysis->scratch);
	return shown;
}

static int
compare_ints(const void *a, const void *b)
{
	return *(const int *) a - *(const int *) b;
}
