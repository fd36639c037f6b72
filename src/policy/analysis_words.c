/*
 * analysis_words.c: a region of leads in words.
 */
#include "policy/analysis.h"

#include "utils/builtins.h"

static void append_set(StringInfo text, const LrColumn *column, const LrSet *set);

/* Says what a region narrows, for people. */
char *
lr_region_text(const LrAnalysis *analysis, const LrSet **region)
{
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < analysis->ncolumns; i++)
	{
		const LrColumn *column = analysis->columns[i];
		const LrSet *set = region[i];

		if (!column->read_by_rules || lr_set_contains(set, column->sound))
			continue;
		/* that it is null goes without saying */
		if (OidIsValid(column->cast) && lr_set_contains(column->nulls, set) && list_length(column->base->columns) > 1)
			continue;
		appendStringInfoString(&text, text.len ? ", " : "");
		if (column->base->member)
			appendStringInfo(&text, "%s->>'%s'", lr_fact_name(analysis->policy->scope, column->base->fact), column->base->member);
		else
			appendStringInfoString(&text, lr_fact_name(analysis->policy->scope, column->base->fact));
		if (OidIsValid(column->cast))
			appendStringInfo(&text, "::%s", format_type_be(column->cast));
		append_set(&text, column, set);
	}
	return text.data;
}

static void
append_set(StringInfo text, const LrColumn *column, const LrSet *set)
{
	const LrSet *values = lr_set_intersection(set, column->values);
	bool		null = lr_set_overlaps(set, column->nulls);
	int			shown = 0;
	LrPoint		point;

	if (values->n == 0)
	{
		appendStringInfoString(text, null ? " null" : " that cannot be cast");
		return;
	}
	if (lr_set_contains(set, column->values))
	{
		appendStringInfoString(text, " not null");
		return;
	}
	for (int r = 0; r < values->n && shown < 5; r++)
	{
		int32		low = values->ranges[r].low;
		int32		high = values->ranges[r].high;

		bool		low_named = lr_cell_is_point(column, low);
		bool		high_named = lr_cell_is_point(column, high);

		if (low == high && !low_named && column->kind == LR_COLUMN_TEXT)
		{
			/* between two texts: no rule names it */
			appendStringInfoString(text, shown == 0 ? " of another value" : " or another value");
			break;
		}
		appendStringInfoString(text, shown ? ", " : " ");
		shown++;
		if (low == high && low_named && lr_column_value(column, low, &point))
			appendStringInfoString(text, lr_point_text(column, point));
		else
		{
			LrPoint		below;
			LrPoint		above;
			bool		has_below = lr_column_value(column, low_named ? low : low - 1, &below);
			bool		has_above = lr_column_value(column, high_named ? high : high + 1, &above);

			if (has_below)
				appendStringInfo(text, "%s %s", low_named ? "from" : "above", lr_point_text(column, below));
			if (has_above)
				appendStringInfo(text, "%s%s %s", has_below ? " " : "", high_named ? "up to" : "below", lr_point_text(column, above));
		}
	}
	if (null)
		appendStringInfoString(text, " or null");
}
