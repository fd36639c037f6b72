/*
 * analysis.c: what is wrong with a policy, before it decides about anybody.
 *
 * Conditions are read once more, as conjunctions of what can be said about single columns (analysis_terms.c): a column is a
 * fact, a member of attributes, or a cast of one; the constants that rules compare it with cut its values into cells
 * (analysis_columns.c), so that a condition becomes a list of boxes of cells (analysis_sets.c), exactly. Then all questions
 * are ones about boxes: which rule lies within earlier ones, alone or together (never_fires), which pairs meet (overlap), what
 * is left of all leads (gap), whose boxes are none or all (always_false, always_true). Boxes are subtracted from regions by
 * dividing these (analysis_search.c). What the outputs of steps can be is known (analysis_domains.c), and stop conditions
 * count as rules before all others.
 *
 * A condition with a part that the analysis does not know is taken for more than it is where it could be covered, and for
 * nothing where it could cover; it is listed as not_analysable. Whatever is said about leads is shown on one
 * (analysis_witness.c), for which the executor has evaluated the rules one by one; a finding whose lead does not show it is
 * none. Each question has a budget of regions to divide; a question that needed more is listed as incomplete.
 */
#include "policy/analysis.h"

#include "common/hashfn.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(leadroute_analyse_document);
PG_FUNCTION_INFO_V1(leadroute_check_version);

static const char *const finding_names[LR_N_FINDINGS] = {
	"mistake", "never_fires", "overlap", "gap", "always_true", "always_false", "dead_target", "suspicious_mix", "not_analysable", "incomplete"
};
static const char *const severity_names[] = {"error", "warning", "info"};

static LrAnalysis *begin(FunctionCallInfo fcinfo, MemoryContext memory);
static void report_mistakes(LrAnalysis *analysis, const LrMistakes *mistakes);
static void read_version_rules(LrPolicy *policy);
static void copy_stops(LrStep *step);
static void analyse(LrAnalysis *analysis, LrPolicy *policy);
static void make_subjects(LrAnalysis *analysis);
static void read_bins(LrAnalysis *analysis, int assigns);
static void read_subject(LrAnalysis *analysis, LrSubject *subject, LrCondition *when);
static void expand_subject(LrAnalysis *analysis, LrSubject *subject, int step);
static LrBox *within_universe(LrBox *box);
static List *forget_later_outputs(LrAnalysis *analysis, List *boxes, int step);
static List *require_done(LrAnalysis *analysis, LrSubject *subject, List *boxes, int step);
static void name_targets(LrAnalysis *analysis);
static void make_boxes(LrAnalysis *analysis);
static void find_incomplete(LrAnalysis *analysis);
static bool is_complete(const LrReport *report, LrFindingKind kind);
static void emit(LrAnalysis *analysis, ReturnSetInfo *result);
static void put_row(ReturnSetInfo *result, LrFindingKind kind, const LrFinding *finding, bool complete);

/* Analyses a document that nobody has published; see the SQL comment. */
Datum
leadroute_analyse_document(PG_FUNCTION_ARGS)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "leadroute analysis", ALLOCSET_DEFAULT_SIZES);
	MemoryContext saved;
	LrMistakes	mistakes = {NIL};
	LrAnalysis *analysis;
	LrPolicy   *policy;

	InitMaterializedSRF(fcinfo, 0);
	saved = MemoryContextSwitchTo(memory);
	analysis = begin(fcinfo, memory);
	policy = lr_policy_compile(lr_json_of_jsonb(PG_GETARG_DATUM(0)), NULL, false, &mistakes);
	lr_check_protected(policy, &mistakes);
	if (mistakes.list == NIL)
	{
		lr_policy_index(policy);
		analyse(analysis, policy);
	}
	else
		report_mistakes(analysis, &mistakes);
	emit(analysis, (ReturnSetInfo *) fcinfo->resultinfo);
	MemoryContextSwitchTo(saved);
	MemoryContextDelete(memory);
	return (Datum) 0;
}

/* Analyses a published version; see the SQL comment. */
Datum
leadroute_check_version(PG_FUNCTION_ARGS)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "leadroute analysis", ALLOCSET_DEFAULT_SIZES);
	LrPolicy   *held = lr_policy_hold(PG_GETARG_INT32(0));
	LrPolicy	policy = *held;
	MemoryContext saved;
	LrAnalysis *analysis;

	InitMaterializedSRF(fcinfo, 0);
	saved = MemoryContextSwitchTo(memory);
	analysis = begin(fcinfo, memory);
	read_version_rules(&policy);
	analyse(analysis, &policy);
	emit(analysis, (ReturnSetInfo *) fcinfo->resultinfo);
	MemoryContextSwitchTo(saved);
	MemoryContextDelete(memory);
	lr_policy_release(held);
	return (Datum) 0;
}

static LrAnalysis *
begin(FunctionCallInfo fcinfo, MemoryContext memory)
{
	LrAnalysis *analysis = palloc0(sizeof(LrAnalysis));

	if (PG_GETARG_INT32(1) < 1 || PG_GETARG_INT32(2) < 1)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("budget and examples have to be positive"),
				errhint("Leave them out, or give 1 or more."));
	analysis->memory = memory;
	analysis->scratch = AllocSetContextCreate(memory, "leadroute analysis question", ALLOCSET_DEFAULT_SIZES);
	analysis->whole_budget = PG_GETARG_INT32(1);
	analysis->examples = PG_GETARG_INT32(2);
	analysis->report = palloc0(sizeof(LrReport));
	return analysis;
}

static void
report_mistakes(LrAnalysis *analysis, const LrMistakes *mistakes)
{
	ListCell   *cell;

	foreach(cell, mistakes->list)
	{
		LrMistake  *mistake = lfirst(cell);

		lr_finding_add(analysis, LR_FINDING_MISTAKE, LR_ERROR_FINDING, NULL, NULL, mistake->hint, "%s: %s", mistake->place, mistake->problem);
	}
}

/* Reads the rules of a version, in the current memory context. What others hold of the version does not grow. */
static void
read_version_rules(LrPolicy *policy)
{
	policy->rule_reads = bms_copy(policy->rule_reads);
	policy->keys = list_copy(policy->keys);
	policy->types = list_copy(policy->types);
	policy->steps = memcpy(palloc(sizeof(LrStep) * Max(policy->nsteps, 1)), policy->steps, sizeof(LrStep) * policy->nsteps);
	for (int s = 0; s < policy->nsteps; s++)
		copy_stops(&policy->steps[s]);
	lr_policy_read_stored_rules(policy);
	/* shapes that are prepared from rules of ours must not outlive them */
	lr_policy_index(policy);
}

/* Gives a step stop conditions of its own: a condition keeps what it was prepared into, and that goes with the analysis. */
static void
copy_stops(LrStep *step)
{
	if (step->nstops == 0)
		return;
	step->stops = memcpy(palloc(sizeof(LrStop) * step->nstops), step->stops, sizeof(LrStop) * step->nstops);
	for (int i = 0; i < step->nstops; i++)
	{
		LrCondition *when = memcpy(palloc(sizeof(LrCondition)), step->stops[i].when, sizeof(LrCondition));

		when->conjuncts = memcpy(palloc(sizeof(LrConjunct) * Max(when->nconjuncts, 1)), when->conjuncts, sizeof(LrConjunct) * when->nconjuncts);
		for (int c = 0; c < when->nconjuncts; c++)
			when->conjuncts[c].state = NULL;
		step->stops[i].when = when;
	}
}

/* Asks all questions. */
static void
analyse(LrAnalysis *analysis, LrPolicy *policy)
{
	int			nest = lr_settings_enter(policy->scope->timezone);

	analysis->policy = policy;
	analysis->evaluator = lr_evaluator_make(policy->scope);
	analysis->all_hits = *policy;
	analysis->all_hits.hit_policy = LR_HIT_UNIQUE;
	analysis->all_hits.evaluator = analysis->evaluator;
	make_subjects(analysis);
	lr_find_constant_conditions(analysis);
	make_boxes(analysis);
	lr_find_shadows(analysis);
	lr_find_overlaps(analysis);
	lr_find_gaps(analysis);
	lr_find_dead_targets(analysis);
	lr_find_mixes(analysis);
	lr_find_unknown(analysis);
	find_incomplete(analysis);
	lr_settings_leave(nest);
}

/* ---- what decides ---- */

/* Reads all conditions, then, when all constants are known, turns them into boxes. */
static void
make_subjects(LrAnalysis *analysis)
{
	LrPolicy   *policy = analysis->policy;
	int			assigns = policy->nsteps;
	int			n = 0;

	for (int s = policy->nsteps - 1; s >= 0; s--)
	{
		if (policy->steps[s].builtin == &lr_assign_owner)
			assigns = s;
	}
	analysis->assigns = assigns < policy->nsteps;
	for (int s = 0; s < assigns; s++)
		analysis->nstops += policy->steps[s].nstops;
	analysis->nsubjects = analysis->nstops + policy->nrules;
	analysis->subjects = palloc_extended(sizeof(LrSubject) * Max(analysis->nsubjects, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);

	for (int s = 0; s < assigns; s++)
	{
		for (int i = 0; i < policy->steps[s].nstops; i++, n++)
		{
			analysis->subjects[n].name = psprintf("steps[%d].stop_when[%d]", s, i);
			read_subject(analysis, &analysis->subjects[n], policy->steps[s].stops[i].when);
			if (lr_step_may_be_skipped(policy, s) && lr_step_sign(&policy->steps[s]) >= 0)
				(void) lr_column_of(analysis, lr_step_sign(&policy->steps[s]), NULL, InvalidOid);
		}
	}
	read_bins(analysis, assigns);
	analysis->reading_rules = true;
	for (int r = 0; r < policy->nrules; r++, n++)
	{
		int			step = -1;

		CHECK_FOR_INTERRUPTS();
		analysis->subjects[n].rule = &policy->rules[r];
		analysis->subjects[n].name = policy->rules[r].name;
		read_subject(analysis, &analysis->subjects[n], policy->rules[r].when);
		while ((step = bms_next_member(policy->rules[r].prerequisites, step)) >= 0)
		{
			if (lr_step_may_be_skipped(policy, step) && lr_step_sign(&policy->steps[step]) >= 0)
				(void) lr_column_of(analysis, lr_step_sign(&policy->steps[step]), NULL, InvalidOid);
		}
	}
	lr_domains_set(analysis);
	lr_columns_complete(analysis);
	lr_links_make(analysis);

	n = 0;
	for (int s = 0; s < assigns; s++)
	{
		for (int i = 0; i < policy->steps[s].nstops; i++)
			expand_subject(analysis, &analysis->subjects[n++], s);
	}
	for (; n < analysis->nsubjects; n++)
	{
		CHECK_FOR_INTERRUPTS();
		expand_subject(analysis, &analysis->subjects[n], -1);
	}
	for (int i = 0; i < analysis->nbins; i++)
		expand_subject(analysis, &analysis->bins[i], analysis->bin_step - 1);
	name_targets(analysis);
}

/* Reads the conditions of the scorecard: they decide nothing, but what is always false there gives no points. */
static void
read_bins(LrAnalysis *analysis, int assigns)
{
	LrPolicy   *policy = analysis->policy;
	LrMistakes	mistakes = {NIL};
	size_t		c;
	size_t		b;
	json_t	   *characteristic;
	json_t	   *bin;

	for (int s = 0; s < assigns; s++)
	{
		json_t	   *characteristics;
		size_t		n = 0;

		if (policy->steps[s].builtin != &lr_compute_score || policy->steps[s].document == NULL)
			continue;
		characteristics = json_object_get(policy->steps[s].document->json, "characteristics");
		json_array_foreach(characteristics, c, characteristic)
			n += json_array_size(json_object_get(characteristic, "bins"));
		analysis->bins = palloc0(sizeof(LrSubject) * Max(n, 1));
		analysis->bin_step = s;
		json_array_foreach(characteristics, c, characteristic)
		{
			json_array_foreach(json_object_get(characteristic, "bins"), b, bin)
			{
				LrSubject  *subject = &analysis->bins[analysis->nbins];
				LrCondition *when = lr_condition_parse(json_string_value(json_object_get(bin, "when")), policy->scope, "", &mistakes);

				if (when == NULL)
					continue;
				subject->name = psprintf("steps[%d].scorecard.characteristics[%d].bins[%d]", s, (int) c, (int) b);
				read_subject(analysis, subject, when);
				analysis->nbins++;
			}
		}
	}
}

static void
read_subject(LrAnalysis *analysis, LrSubject *subject, LrCondition *when)
{
	subject->when = when;
	subject->conjuncts = palloc(sizeof(LrFormula *) * Max(when->nconjuncts, 1));
	for (int i = 0; i < when->nconjuncts; i++)
		subject->conjuncts[i] = lr_formula_of(analysis, when->conjuncts[i].expression);
}

/* Makes a subject's boxes: of the possible ones. step: of what is no rule, the last one whose outputs it can see. */
static void
expand_subject(LrAnalysis *analysis, LrSubject *subject, int step)
{
	List	   *boxes = list_make1(palloc0(sizeof(LrBox)));
	bool		exact = true;
	ListCell   *cell;
	int			needed = -1;

	for (int i = 0; i < subject->when->nconjuncts; i++)
		boxes = lr_boxes_product(boxes, lr_formula_boxes(subject->conjuncts[i], true, &exact), &exact);
	subject->exact = exact;
	subject->covers = exact;
	subject->sees = subject->rule ? analysis->policy->nsteps : step;
	if (subject->rule == NULL)
		boxes = forget_later_outputs(analysis, boxes, step);
	if (subject->rule == NULL && subject < analysis->subjects + analysis->nstops && subject >= analysis->subjects)
		boxes = require_done(analysis, subject, boxes, step);
	while (subject->rule && (needed = bms_next_member(subject->rule->prerequisites, needed)) >= 0)
		boxes = require_done(analysis, subject, boxes, needed);

	subject->boxes = palloc(sizeof(LrBox *) * Max(list_length(boxes), 1));
	foreach(cell, boxes)
	{
		LrBox	   *box = within_universe(lfirst(cell));

		if (box == NULL)
			continue;
		if (analysis->links == NIL || lr_region_possible(analysis, lr_region_of(analysis, box)))
			subject->boxes[subject->nboxes++] = box;
	}
	subject->never_holds = subject->nboxes == 0;
}

/* Takes out of a box what no lead has when rules are asked; NULL if nothing is left. The box is changed. */
static LrBox *
within_universe(LrBox *box)
{
	int			kept = 0;

	for (int i = 0; i < box->n; i++)
	{
		const LrColumn *column = box->bounds[i].column;

		if (!lr_set_overlaps(box->bounds[i].set, column->universe))
			return NULL;
		if (lr_set_contains(box->bounds[i].set, column->universe))
			continue;
		box->bounds[kept] = box->bounds[i];
		if (!lr_set_contains(column->universe, box->bounds[i].set))
			box->bounds[kept].set = lr_set_intersection(box->bounds[i].set, column->universe);
		kept++;
	}
	box->n = kept;
	return box;
}

/* When a step's stop conditions are asked, outputs of later steps are null, whatever they will be. */
static List *
forget_later_outputs(LrAnalysis *analysis, List *boxes, int step)
{
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, boxes)
	{
		LrBox	   *box = lfirst(cell);
		LrBox	   *kept = palloc0(offsetof(LrBox, bounds) + sizeof(LrBound) * (box->n + 1));
		bool		possible = true;

		for (int i = 0; i < box->n; i++)
		{
			if (!lr_column_is_later(analysis, box->bounds[i].column, step))
				kept->bounds[kept->n++] = box->bounds[i];
			else
				possible &= lr_set_has(box->bounds[i].set, LR_CELL_NOTHING);
		}
		if (possible)
			result = lappend(result, kept);
	}
	return result;
}

/* Keeps the leads for which a step is done. */
static List *
require_done(LrAnalysis *analysis, LrSubject *subject, List *boxes, int step)
{
	int			sign = lr_step_sign(&analysis->policy->steps[step]);
	LrBox	   *done;
	const LrColumn *column;
	bool		exact = true;

	if (!lr_step_may_be_skipped(analysis->policy, step))
		return boxes;
	if (sign < 0)
	{
		subject->covers = subject->exact = false;
		return boxes;
	}
	column = lr_column_of(analysis, sign, NULL, InvalidOid);
	done = palloc0(offsetof(LrBox, bounds) + sizeof(LrBound));
	done->bounds[done->n++] = (LrBound) {column, column->values};
	return lr_boxes_product(list_make1(done), boxes, &exact);
}

/* Gives equal targets equal numbers. */
static void
name_targets(LrAnalysis *analysis)
{
	typedef struct Target
	{
		uint64		hash;
		int			number;
	} Target;

	HASHCTL		control = {.keysize = sizeof(uint64),.entrysize = sizeof(Target),.hcxt = analysis->memory};
	HTAB	   *targets = hash_create("leadroute targets", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	StringInfoData name;

	initStringInfo(&name);
	for (int i = analysis->nstops; i < analysis->nsubjects; i++)
	{
		LrSubject  *subject = &analysis->subjects[i];
		const LrRule *rule = subject->rule;
		uint64		hash;
		bool		known;
		Target	   *target;

		resetStringInfo(&name);
		if (rule->owner)
			appendStringInfo(&name, "owner \"%s\"", rule->owner);
		else if (rule->pool && rule->account_owner[0])
			appendStringInfo(&name, "the account's %s, or pool \"%s\"", lr_roles_text(rule->account_owner), rule->pool);
		else if (rule->pool)
			appendStringInfo(&name, "pool \"%s\"", rule->pool);
		else
			appendStringInfo(&name, "%s (%s)", lr_outcome_names[rule->outcome], rule->reason);
		hash = hash_bytes_extended((unsigned char *) name.data, name.len, 0);
		target = hash_search(targets, &hash, HASH_ENTER, &known);
		if (!known)
			target->number = (int) hash_get_num_entries(targets);
		subject->target = target->number;
		subject->target_name = pstrdup(name.data);
	}
}

/* Lists all boxes, in the order of their subjects, and indexes them. */
static void
make_boxes(LrAnalysis *analysis)
{
	int			n = 0;

	for (int i = 0; i < analysis->nsubjects; i++)
		n += analysis->subjects[i].nboxes;
	analysis->boxes = palloc_extended(sizeof(LrBox *) * Max(n, 1), MCXT_ALLOC_HUGE);
	for (int i = 0; i < analysis->nsubjects; i++)
	{
		LrSubject  *subject = &analysis->subjects[i];

		subject->first_box = analysis->nboxes;
		for (int b = 0; b < subject->nboxes; b++)
		{
			subject->boxes[b]->subject = i;
			analysis->boxes[analysis->nboxes++] = subject->boxes[b];
		}
	}
	analysis->index = lr_box_index_make(analysis);
}

/* ---- the report ---- */

/* Tells whether there is room for another finding of a kind; counts it otherwise. */
bool
lr_finding_wanted(LrAnalysis *analysis, LrFindingKind kind, LrSeverity severity)
{
	LrReport   *report = analysis->report;

	if (kind == LR_FINDING_MISTAKE || report->shown[kind][severity] < analysis->examples)
		return true;
	report->more[kind][severity]++;
	return false;
}

/* Adds a finding, in the analysis's memory; the caller fills in witness and occurrences where they are not none and one. */
LrFinding *
lr_finding_add(LrAnalysis *analysis, LrFindingKind kind, LrSeverity severity, const char *rule, const char *other_rule, const char *hint,
			   const char *detail, ...)
{
	MemoryContext saved = MemoryContextSwitchTo(analysis->memory);
	LrFinding  *finding = palloc0(sizeof(LrFinding));
	StringInfoData text;

	initStringInfo(&text);
	for (;;)
	{
		va_list		arguments;
		int			needed;

		va_start(arguments, detail);
		needed = appendStringInfoVA(&text, detail, arguments);
		va_end(arguments);
		if (needed == 0)
			break;
		enlargeStringInfo(&text, needed);
	}
	finding->severity = severity;
	finding->rule = rule ? pstrdup(rule) : NULL;
	finding->other_rule = other_rule ? pstrdup(other_rule) : NULL;
	finding->occurrences = 1;
	finding->detail = text.data;
	finding->hint = hint ? pstrdup(hint) : NULL;
	analysis->report->findings[kind] = lappend(analysis->report->findings[kind], finding);
	analysis->report->shown[kind][severity]++;
	MemoryContextSwitchTo(saved);
	return finding;
}

/* Gives a finding the lead that shows it. */
void
lr_finding_show(LrAnalysis *analysis, LrFinding *finding, const LrWitness *witness)
{
	MemoryContext saved = MemoryContextSwitchTo(analysis->memory);

	finding->witness = datumCopy(witness->lead, false, -1);
	MemoryContextSwitchTo(saved);
}

/* Says which questions are open. */
static void
find_incomplete(LrAnalysis *analysis)
{
	for (LrFindingKind kind = 0; kind < LR_N_FINDINGS; kind++)
	{
		if (analysis->report->out_of_budget[kind])
			(void) lr_finding_add(analysis, LR_FINDING_INCOMPLETE, LR_INFO_FINDING, NULL, NULL, "Give a larger budget.",
								  "The search for %s ran out of its budget of " INT64_FORMAT ": there may be more.", finding_names[kind],
								  analysis->whole_budget);
		else if (analysis->report->doubtful[kind])
			(void) lr_finding_add(analysis, LR_FINDING_INCOMPLETE, LR_INFO_FINDING, NULL, NULL,
								  "See not_analysable.", "The search for %s met rules that it does not look into: there may be more.",
								  finding_names[kind]);
	}
}

static bool
is_complete(const LrReport *report, LrFindingKind kind)
{
	return !report->out_of_budget[kind] && !report->doubtful[kind] && kind != LR_FINDING_INCOMPLETE;
}

static void
emit(LrAnalysis *analysis, ReturnSetInfo *result)
{
	LrReport   *report = analysis->report;
	ListCell   *cell;

	for (LrFindingKind kind = 0; kind < LR_N_FINDINGS; kind++)
	{
		for (LrSeverity severity = 0; severity <= LR_INFO_FINDING; severity++)
		{
			foreach(cell, report->findings[kind])
			{
				if (((LrFinding *) lfirst(cell))->severity == severity)
					put_row(result, kind, lfirst(cell), is_complete(report, kind));
			}
			if (report->more[kind][severity] > 0)
			{
				LrFinding	more = {.severity = severity,.occurrences = report->more[kind][severity]};

				more.detail = psprintf(INT64_FORMAT " more of this kind are not shown.", more.occurrences);
				more.hint = "Ask for more examples.";
				put_row(result, kind, &more, is_complete(report, kind));
			}
		}
	}
}

static void
put_row(ReturnSetInfo *result, LrFindingKind kind, const LrFinding *finding, bool complete)
{
	const char *texts[] = {finding_names[kind], severity_names[finding->severity], finding->rule, finding->other_rule, NULL, NULL,
	finding->detail, finding->hint};
	Datum		values[9];
	bool		nulls[9] = {false};

	for (int i = 0; i < (int) lengthof(texts); i++)
	{
		nulls[i] = texts[i] == NULL;
		values[i] = texts[i] ? CStringGetTextDatum(texts[i]) : (Datum) 0;
	}
	nulls[4] = false;
	values[4] = Int64GetDatum(finding->occurrences);
	nulls[5] = finding->witness == 0;
	values[5] = finding->witness;
	values[8] = BoolGetDatum(complete);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}
