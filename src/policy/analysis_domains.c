/*
 * analysis_domains.c: what the outputs of steps can be, and which of them go together.
 *
 * Without this a rule for each status of a contact would still leave a gap, for the status that there is not. Outputs of
 * built-in agents have few values, known from the code, a scorecard's range and tiers from its document. Outputs of steps
 * that are not before the one that assigns, or not in the policy, are null. What goes together is a link: a list of
 * combinations of which every lead has one. A combination that the list should not have only makes the analysis find less.
 */
#include "policy/analysis.h"

#include <math.h>

#include "agents/accounts.h"
#include "catalog/pg_type.h"

static const char *const contact_statuses[] = {"valid", "partial", "invalid"};
static const char *const channel_statuses[] = {"ok", "malformed", "missing"};
static const char *const mail_kinds[] = {"business", "free", "disposable"};
static const char *const compliance_statuses[] = {"allowed", "restricted", "denied"};
static const char *const compliance_reasons[] = {
	"consent_refused", "no_lawful_basis", "consent_missing", "consent_in_future", "consent_undated", "consent_expired", "channel_not_consented"
};
static const char *const enrich_statuses[] = {"enriched", "complete", "no_match", "no_domain"};
static const char *const account_statuses[] = {"matched", "ambiguous", "no_match", "no_key"};

/* Of a member that rules compare with more texts, and cast, it is not known which text is cast to what. */
#define MAX_LINKED_TEXTS 100

typedef struct Domain
{
	int			fact;
	bool		always_set;		/* where the step is done */
	int			n;
	const char *const *values;
} Domain;

static const Domain domains[] = {
	{LR_CONTACT_STATUS, true, lengthof(contact_statuses), contact_statuses},
	{LR_CONTACT_EMAIL, true, lengthof(channel_statuses), channel_statuses},
	{LR_CONTACT_EMAIL_KIND, false, lengthof(mail_kinds), mail_kinds},
	{LR_CONTACT_PHONE, true, lengthof(channel_statuses), channel_statuses},
	{LR_COMPLIANCE_STATUS, true, lengthof(compliance_statuses), compliance_statuses},
	{LR_COMPLIANCE_REASON, false, lengthof(compliance_reasons), compliance_reasons},
	{LR_ENRICH_STATUS, true, lengthof(enrich_statuses), enrich_statuses},
	{LR_ACCOUNT_STATUS, true, lengthof(account_statuses), account_statuses},
	{LR_ACCOUNT_TYPE, false, LR_N_ACCOUNT_TYPES, lr_account_type_names},
	{LR_ACCOUNT_MATCH, false, LR_N_MATCHES, lr_account_match_names},
};

static void set_output(LrAnalysis *analysis, LrColumn *column);
static const LrStep *step_of(const LrPolicy *policy, int fact);
static void set_score(LrColumn *column, json_t *scorecard);
static void set_tiers(LrColumn *column, json_t *scorecard);
static void set_jurisdictions(LrColumn *column, json_t *document);
static LrColumn *column_of(const LrAnalysis *analysis, int fact);
static void link_casts(LrAnalysis *analysis);
static void link_members(LrAnalysis *analysis);
static const LrSet *between_points(const LrColumn *column);
static bool find_columns(const LrAnalysis *analysis, const int *facts, int n, LrColumn **columns);
static void link_contact(LrAnalysis *analysis);
static void link_compliance(LrAnalysis *analysis);
static void link_account(LrAnalysis *analysis);
static void link_tiers(LrAnalysis *analysis);
static void add_link(LrAnalysis *analysis, LrColumn **columns, int n, List *combinations);
static const LrSet *value_of(const LrColumn *column, const char *value);
static int	limit_of(json_t *document, const char *member, int otherwise);

/* Sets what the columns that are outputs can be, before the columns are complete. */
void
lr_domains_set(LrAnalysis *analysis)
{
	MemoryContext saved = MemoryContextSwitchTo(analysis->memory);
	ListCell   *cell;

	foreach(cell, analysis->column_list)
	{
		LrColumn   *column = lfirst(cell);

		if (column->base->fact == LR_AS_OF)
			column->never_null = true;
		else if (column->base->fact >= LR_N_ATTRIBUTES)
			set_output(analysis, column);
	}
	MemoryContextSwitchTo(saved);
}

static void
set_output(LrAnalysis *analysis, LrColumn *column)
{
	int			fact = column->base->fact;
	const LrStep *step = step_of(analysis->policy, fact);
	bool		done;

	if (step == NULL)
	{
		column->always_null = true;
		return;
	}
	done = !lr_step_may_be_skipped(analysis->policy, step->number);
	if (column->base->member || OidIsValid(column->cast))
		return;
	for (int i = 0; i < (int) lengthof(domains); i++)
	{
		if (domains[i].fact != fact)
			continue;
		column->ndomain = domains[i].n;
		column->domain = (const char **) domains[i].values;
		column->usual = domains[i].values[0];
		column->never_null = domains[i].always_set && done;
	}
	if (fact == LR_COMPLIANCE_JURISDICTION && step->document)
	{
		set_jurisdictions(column, step->document->json);
		column->never_null = done;
	}
	if (fact == LR_SCORE && step->document)
	{
		set_score(column, step->document->json);
		column->never_null = done;
	}
	if (fact == LR_TIER && step->document)
	{
		set_tiers(column, step->document->json);
		column->never_null &= done;
	}
}

/* Finds the step that gives a fact before rules are asked; NULL if none does. */
static const LrStep *
step_of(const LrPolicy *policy, int fact)
{
	for (int i = 0; i < policy->nsteps && policy->steps[i].builtin != &lr_assign_owner; i++)
	{
		const LrStep *step = &policy->steps[i];

		if (fact >= step->first_fact && fact < step->first_fact + step->nfacts)
			return step;
	}
	return NULL;
}

/* Tells whether a column is an output of a step behind a given one. */
bool
lr_column_is_later(const LrAnalysis *analysis, const LrColumn *column, int step)
{
	for (int s = step + 1; s < analysis->policy->nsteps; s++)
	{
		const LrStep *later = &analysis->policy->steps[s];

		if (column->base->fact >= later->first_fact && column->base->fact < later->first_fact + later->nfacts)
			return true;
	}
	return false;
}

/* Tells whether a lead may come past a step without its outputs. */
bool
lr_step_may_be_skipped(const LrPolicy *policy, int number)
{
	const LrStep *step = &policy->steps[number];
	int			needed = -1;

	if (step->skip_on_error || step->conditional)
		return true;
	while ((needed = bms_next_member(step->after, needed)) >= 0)
	{
		if (lr_step_may_be_skipped(policy, needed))
			return true;
	}
	return false;
}

/* Returns an output that is set exactly where a step is done; -1 if there is none. */
int
lr_step_sign(const LrStep *step)
{
	if (step->builtin == NULL || step->nfacts == 0)
		return -1;
	return step->first_fact;
}

static void
set_score(LrColumn *column, json_t *scorecard)
{
	size_t		i;
	json_t	   *tier;

	column->limited = true;
	column->lowest = limit_of(scorecard, "minimum", 0);
	column->highest = limit_of(scorecard, "maximum", 100);
	/* no cell reaches over the border between two tiers */
	json_array_foreach(json_object_get(scorecard, "tiers"), i, tier)
		lr_column_add_point(column, (LrPoint) {.number = (int64) ceil(json_number_value(json_object_get(tier, "from")))});
}

static int
limit_of(json_t *document, const char *member, int otherwise)
{
	json_t	   *number = json_object_get(document, member);

	return json_is_number(number) ? (int) json_number_value(number) : otherwise;
}

static void
set_tiers(LrColumn *column, json_t *scorecard)
{
	json_t	   *tiers = json_object_get(scorecard, "tiers");
	size_t		n = json_array_size(tiers);

	if (n == 0)
	{
		column->always_null = true;
		return;
	}
	column->domain = palloc(sizeof(char *) * n);
	for (size_t i = 0; i < n; i++)
		column->domain[column->ndomain++] = json_string_value(json_object_get(json_array_get(tiers, i), "tier"));
	column->never_null = json_number_value(json_object_get(json_array_get(tiers, n - 1), "from")) <= limit_of(scorecard, "minimum", 0);
	column->usual = column->domain[0];
}

static void
set_jurisdictions(LrColumn *column, json_t *document)
{
	json_t	   *list = json_object_get(document, "jurisdictions");
	size_t		n = json_array_size(list);

	column->domain = palloc(sizeof(char *) * Max(n, 1));
	for (size_t i = 0; i < n; i++)
		column->domain[column->ndomain++] = json_string_value(json_object_get(json_array_get(list, i), "name"));
}

/* ---- what goes together ---- */

/* Makes the links between columns that are complete. */
void
lr_links_make(LrAnalysis *analysis)
{
	MemoryContext saved = MemoryContextSwitchTo(analysis->memory);

	link_casts(analysis);
	link_members(analysis);
	link_contact(analysis);
	link_compliance(analysis);
	link_account(analysis);
	link_tiers(analysis);
	MemoryContextSwitchTo(saved);
}

/* A member is null for all casts of it, or for none; of a text that rules name it is known what it is cast to. */
static void
link_casts(LrAnalysis *analysis)
{
	ListCell   *cell;
	ListCell   *each;

	foreach(cell, analysis->bases)
	{
		LrBase	   *base = lfirst(cell);
		int			n = list_length(base->columns);
		LrColumn  **columns = palloc(sizeof(LrColumn *) * n);
		const LrSet **nulls = palloc(sizeof(LrSet *) * n);
		const LrSet **others = palloc(sizeof(LrSet *) * n);
		const LrColumn *raw = NULL;
		List	   *combinations;

		if (n < 2)
			continue;
		foreach(each, base->columns)
		{
			LrColumn   *column = lfirst(each);
			int			i = foreach_current_index(each);

			columns[i] = column;
			nulls[i] = column->nulls;
			others[i] = lr_set_difference(column->universe, column->nulls);
			if (!OidIsValid(column->cast))
				raw = column;
		}
		combinations = list_make1(nulls);
		if (raw == NULL || raw->npoints > MAX_LINKED_TEXTS)
			combinations = lappend(combinations, others);
		for (int p = 0; raw && raw->npoints <= MAX_LINKED_TEXTS && p <= raw->npoints; p++)
		{
			const LrSet **sets = palloc(sizeof(LrSet *) * n);

			/* the last one is of all other texts */
			for (int i = 0; i < n; i++)
			{
				bool		is_raw = !OidIsValid(columns[i]->cast);
				int32		place = p >= raw->npoints ? 0 : is_raw ? raw->cells[p] : lr_cast_cell(columns[i], raw->points[p].text);

				if (p < raw->npoints)
					sets[i] = lr_set_of(place, place);
				else
					sets[i] = is_raw ? between_points(columns[i]) : others[i];
			}
			combinations = lappend(combinations, sets);
		}
		add_link(analysis, columns, n, combinations);
	}
}

/* Returns the texts that are no constants. */
static const LrSet *
between_points(const LrColumn *column)
{
	LrSet	   *points = NULL;
	int			allocated;

	for (int i = 0; i < column->npoints; i++)
		lr_set_add(&points, &allocated, column->cells[i], column->cells[i]);
	return points ? lr_set_difference(column->values, points) : column->values;
}

/* Where a document is null, all its members are. It only matters where a condition asks whether there is a member. */
static void
link_members(LrAnalysis *analysis)
{
	for (int fact = 0; fact < analysis->policy->scope->nfacts; fact++)
	{
		LrColumn  **columns = palloc(sizeof(LrColumn *) * Max(analysis->ncolumns, 1));
		const LrSet **nothing = palloc(sizeof(LrSet *) * Max(analysis->ncolumns, 1));
		const LrSet **something = palloc0(sizeof(LrSet *) * Max(analysis->ncolumns, 1));
		bool		asked = false;
		int			n = 0;

		for (int i = 0; i < analysis->ncolumns; i++)
		{
			LrColumn   *column = analysis->columns[i];

			if (column->base->fact != fact || column->base->member == NULL)
				continue;
			asked |= column->asked_for;
			nothing[n] = lr_set_of(LR_CELL_NOTHING, LR_CELL_NOTHING);
			if (!OidIsValid(column->cast))
				something[n] = lr_set_difference(column->universe, nothing[n]);
			columns[n++] = column;
		}
		if (asked && n > 1)
			add_link(analysis, columns, n, list_make2(nothing, something));
	}
}

/* Finds the columns of facts that a step ties together, NULL for those that nobody asks for; returns whether there are two at least. */
static bool
find_columns(const LrAnalysis *analysis, const int *facts, int n, LrColumn **columns)
{
	int			used = 0;

	for (int i = 0; i < n; i++)
	{
		columns[i] = column_of(analysis, facts[i]);
		used += columns[i] != NULL;
	}
	return used >= 2;
}

/* The status follows from what is known of mail and phone (validate_contact.c). */
static void
link_contact(LrAnalysis *analysis)
{
	static const int facts[] = {LR_CONTACT_STATUS, LR_CONTACT_EMAIL, LR_CONTACT_EMAIL_KIND, LR_CONTACT_PHONE, LR_CONTACT_ROLE};
	LrColumn   *columns[lengthof(facts)];
	List	   *combinations = NIL;

	if (!find_columns(analysis, facts, lengthof(facts), columns))
		return;
	/* what is shown first is what a lead should be like */
	for (int m = 0; m < 5; m++)
	{
		int			mail = (m + 2) % 5;

		for (int phone = 0; phone < 3; phone++)
		{
			/* malformed, missing, and well-formed ones by kind */
			bool		ok = mail >= 2;
			bool		usable = (ok && mail != 4) || phone == 0;
			const char *status = !usable ? "invalid" : mail == 0 || phone == 1 ? "partial" : "valid";
			const LrSet **sets = palloc0(sizeof(LrSet *) * lengthof(facts));

			sets[0] = value_of(columns[0], status);
			sets[1] = value_of(columns[1], ok ? "ok" : channel_statuses[mail + 1]);
			sets[2] = ok ? value_of(columns[2], mail_kinds[mail - 2]) : columns[2] ? lr_set_of(LR_CELL_NOTHING, LR_CELL_NOTHING) : NULL;
			sets[3] = value_of(columns[3], channel_statuses[phone]);
			sets[4] = columns[4] == NULL ? NULL : ok ? columns[4]->values : lr_set_of(LR_CELL_NOTHING, LR_CELL_NOTHING);
			combinations = lappend(combinations, sets);
		}
	}
	{
		const LrSet **sets = palloc0(sizeof(LrSet *) * lengthof(facts));

		/* where the step was skipped */
		for (int i = 0; i < (int) lengthof(facts); i++)
			sets[i] = columns[i] ? lr_set_of(LR_CELL_NOTHING, LR_CELL_NOTHING) : NULL;
		combinations = lappend(combinations, sets);
	}
	add_link(analysis, columns, lengthof(facts), combinations);
}

/* Who is allowed has no reason; the status is null where the jurisdiction is. */
static void
link_compliance(LrAnalysis *analysis)
{
	LrColumn   *columns[] = {column_of(analysis, LR_COMPLIANCE_STATUS), column_of(analysis, LR_COMPLIANCE_REASON),
	column_of(analysis, LR_COMPLIANCE_JURISDICTION)};
	List	   *combinations = NIL;

	if ((columns[0] != NULL) + (columns[1] != NULL) + (columns[2] != NULL) < 2)
		return;
	for (int i = 0; i < (int) lengthof(compliance_statuses) + 1; i++)
	{
		const LrSet **sets = palloc0(sizeof(LrSet *) * lengthof(columns));
		bool		done = i < (int) lengthof(compliance_statuses);

		if (columns[0])
			sets[0] = done ? value_of(columns[0], compliance_statuses[i]) : lr_set_of(LR_CELL_NOTHING, LR_CELL_NOTHING);
		if (columns[1] && (i == 0 || !done))
			sets[1] = lr_set_of(LR_CELL_NOTHING, LR_CELL_NOTHING);
		if (columns[2])
			sets[2] = done ? columns[2]->values : lr_set_of(LR_CELL_NOTHING, LR_CELL_NOTHING);
		combinations = lappend(combinations, sets);
	}
	add_link(analysis, columns, lengthof(columns), combinations);
}

/* Nothing is known of an account that was not found, and all but its parent of one that was. */
static void
link_account(LrAnalysis *analysis)
{
	static const int facts[] = {LR_ACCOUNT_STATUS, LR_ACCOUNT_ID, LR_ACCOUNT_TYPE, LR_ACCOUNT_MATCH, LR_ACCOUNT_CONFIDENCE, LR_ACCOUNT_OPEN_OPPORTUNITY};
	LrColumn   *columns[lengthof(facts)];
	List	   *combinations = NIL;

	if (!find_columns(analysis, facts, lengthof(facts), columns))
		return;
	for (int i = 0; i < (int) lengthof(account_statuses) + 1; i++)
	{
		const LrSet **sets = palloc0(sizeof(LrSet *) * lengthof(facts));
		bool		done = i < (int) lengthof(account_statuses);

		if (columns[0])
			sets[0] = done ? value_of(columns[0], account_statuses[i]) : lr_set_of(LR_CELL_NOTHING, LR_CELL_NOTHING);
		for (int f = 1; f < (int) lengthof(facts); f++)
		{
			if (columns[f])
				sets[f] = i < 2 ? columns[f]->values : lr_set_of(LR_CELL_NOTHING, LR_CELL_NOTHING);
		}
		combinations = lappend(combinations, sets);
	}
	add_link(analysis, columns, lengthof(facts), combinations);
}

/* The tier is the first whose lower bound the score reaches. */
static void
link_tiers(LrAnalysis *analysis)
{
	LrColumn   *columns[] = {column_of(analysis, LR_TIER), column_of(analysis, LR_SCORE)};
	const LrStep *step = step_of(analysis->policy, LR_SCORE);
	const LrSet *rest;
	const LrSet **sets;
	List	   *combinations = NIL;
	size_t		i;
	json_t	   *tier;

	if (columns[0] == NULL || columns[1] == NULL || step == NULL || step->document == NULL)
		return;
	rest = columns[1]->values;
	json_array_foreach(json_object_get(step->document->json, "tiers"), i, tier)
	{
		double		from = ceil(json_number_value(json_object_get(tier, "from")));
		const LrSet *below = lr_column_below(columns[1], (LrPoint) {.number = (int64) from}, false);

		sets = palloc0(sizeof(LrSet *) * 2);
		sets[0] = value_of(columns[0], json_string_value(json_object_get(tier, "tier")));
		sets[1] = lr_set_difference(rest, below);
		rest = lr_set_intersection(rest, below);
		combinations = lappend(combinations, sets);
	}
	sets = palloc0(sizeof(LrSet *) * 2);
	sets[0] = lr_set_of(LR_CELL_NOTHING, LR_CELL_NOTHING);
	sets[1] = lr_set_union(lr_set_of(LR_CELL_NOTHING, LR_CELL_NOTHING), rest);
	combinations = lappend(combinations, sets);
	add_link(analysis, columns, 2, combinations);
}

/* Adds a link between those of some columns that are there. */
static void
add_link(LrAnalysis *analysis, LrColumn **columns, int n, List *combinations)
{
	LrLink	   *link = palloc0(sizeof(LrLink));
	ListCell   *cell;

	link->columns = palloc(sizeof(LrColumn *) * n);
	for (int i = 0; i < n; i++)
	{
		if (columns[i])
			link->columns[link->ncolumns++] = columns[i];
	}
	foreach(cell, combinations)
	{
		const LrSet **sets = lfirst(cell);
		int			kept = 0;

		for (int i = 0; i < n; i++)
		{
			if (columns[i])
				sets[kept++] = sets[i];
		}
	}
	link->combinations = combinations;
	analysis->links = lappend(analysis->links, link);
}

static LrColumn *
column_of(const LrAnalysis *analysis, int fact)
{
	for (int i = 0; i < analysis->ncolumns; i++)
	{
		LrColumn   *column = analysis->columns[i];

		if (column->base->fact == fact && column->base->member == NULL && !OidIsValid(column->cast) && !column->always_null)
			return column;
	}
	return NULL;
}

static const LrSet *
value_of(const LrColumn *column, const char *value)
{
	int32		cell;

	if (column == NULL)
		return NULL;
	cell = lr_column_cell(column, (LrPoint) {.text = unconstify(char *, value)});
	return lr_set_of(cell, cell);
}
