/*
 * analysis_columns.c: the columns that conditions compare, and how their values are cut into cells.
 *
 * While conditions are read each column gathers the constants that it is compared with. Then they are put in order, and
 * their numbers and the places between them are the column's cells. A place between two constants with no value of the type
 * in it (between 5 and 6, or between 'a' and the text that follows it) does not exist. What sets and boxes say of cells is
 * thereby exactly what the conditions say of values.
 */
#include "policy/analysis.h"

#include "catalog/pg_type.h"
#include "datatype/timestamp.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/fmgrprotos.h"

static void set_kind(LrColumn *column);
static LrBase *find_base(LrAnalysis *analysis, int fact, const char *member);
static int	compare_in_column(const void *a, const void *b, void *argument);
static void complete(LrColumn *column);
static bool can_be(const LrColumn *column, LrPoint point);
static int	find_cell(const LrColumn *column, int32 cell);
static int	find_point(const LrColumn *column, LrPoint point, bool *found);
static bool between(const LrColumn *column, int place, LrPoint *point);
static bool number_between(const LrColumn *column, const LrPoint *low, const LrPoint *high, LrPoint *point);
static bool text_between(const LrPoint *low, const LrPoint *high, LrPoint *point);
static bool decimal_between(const LrPoint *low, const LrPoint *high, LrPoint *point);

/* Finds or adds a column, in the analysis's memory. */
LrColumn *
lr_column_of(LrAnalysis *analysis, int fact, const char *member, Oid cast)
{
	MemoryContext saved = MemoryContextSwitchTo(analysis->memory);
	LrBase	   *base = find_base(analysis, fact, member);
	LrColumn   *column = NULL;
	ListCell   *cell;

	foreach(cell, base->columns)
	{
		if (((LrColumn *) lfirst(cell))->cast == cast)
			column = lfirst(cell);
	}
	if (column == NULL)
	{
		column = palloc0(sizeof(LrColumn));
		column->number = list_length(analysis->column_list);
		column->base = base;
		column->cast = cast;
		set_kind(column);
		base->columns = lappend(base->columns, column);
		analysis->column_list = lappend(analysis->column_list, column);
	}
	column->read_by_rules |= analysis->reading_rules;
	MemoryContextSwitchTo(saved);
	return column;
}

static void
set_kind(LrColumn *column)
{
	column->type = OidIsValid(column->cast) ? column->cast : column->base->member ? TEXTOID : lr_facts[column->base->fact].type;
	column->kind = column->type == TEXTOID ? LR_COLUMN_TEXT : column->type == NUMERICOID ? LR_COLUMN_DECIMAL : LR_COLUMN_NUMBER;
	if (column->type == BOOLOID)
	{
		lr_column_add_point(column, (LrPoint) {.number = 0});
		lr_column_add_point(column, (LrPoint) {.number = 1});
	}
}

static LrBase *
find_base(LrAnalysis *analysis, int fact, const char *member)
{
	LrBase	   *base;
	ListCell   *cell;

	foreach(cell, analysis->bases)
	{
		base = lfirst(cell);
		if (base->fact == fact && (base->member == NULL) == (member == NULL) && (member == NULL || strcmp(base->member, member) == 0))
			return base;
	}
	base = palloc0(sizeof(LrBase));
	base->fact = fact;
	base->member = member ? pstrdup(member) : NULL;
	analysis->bases = lappend(analysis->bases, base);
	return base;
}

/* Notes a constant that a column is compared with. */
void
lr_column_add_point(LrColumn *column, LrPoint point)
{
	/* one after the other, rules often say the same */
	if (column->npoints > 0 && lr_points_compare(column->kind, column->points[column->npoints - 1], point) == 0)
		return;
	if (column->npoints == column->allocated)
	{
		column->allocated = Max(8, column->allocated * 2);
		column->points = column->points ? repalloc_huge(column->points, sizeof(LrPoint) * column->allocated)
			: palloc(sizeof(LrPoint) * column->allocated);
	}
	column->points[column->npoints++] = point;
}

int
lr_points_compare(LrColumnKind kind, LrPoint a, LrPoint b)
{
	if (kind == LR_COLUMN_TEXT)
		return strcmp(a.text, b.text);
	if (kind == LR_COLUMN_DECIMAL)
		return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a.decimal), NumericGetDatum(b.decimal)));
	return a.number < b.number ? -1 : a.number > b.number;
}

static int
compare_in_column(const void *a, const void *b, void *argument)
{
	return lr_points_compare(((const LrColumn *) argument)->kind, *(const LrPoint *) a, *(const LrPoint *) b);
}

/* Puts all columns' constants in order, and says which cells there are. */
void
lr_columns_complete(LrAnalysis *analysis)
{
	MemoryContext saved = MemoryContextSwitchTo(analysis->memory);
	ListCell   *cell;

	analysis->ncolumns = list_length(analysis->column_list);
	analysis->columns = palloc(sizeof(LrColumn *) * Max(analysis->ncolumns, 1));
	foreach(cell, analysis->column_list)
	{
		analysis->columns[foreach_current_index(cell)] = lfirst(cell);
		complete(lfirst(cell));
	}
	MemoryContextSwitchTo(saved);
}

static void
complete(LrColumn *column)
{
	LrSet	   *values = NULL;
	LrSet	   *nulls = NULL;
	int			allocated;
	int			nulls_allocated;
	int			n = 0;
	int32		cell = LR_CELL_VALUES;
	bool		member = column->base->member != NULL;
	bool		raw = !OidIsValid(column->cast);
	LrPoint		point;

	for (int i = 0; i < column->ndomain; i++)
		lr_column_add_point(column, (LrPoint) {.text = unconstify(char *, column->domain[i])});
	if (column->npoints > 0)
		qsort_arg(column->points, column->npoints, sizeof(LrPoint), compare_in_column, column);
	for (int i = 0; i < column->npoints; i++)
	{
		if (n == 0 || lr_points_compare(column->kind, column->points[n - 1], column->points[i]) != 0)
			column->points[n++] = column->points[i];
	}
	column->npoints = n;

	lr_set_add(&nulls, &nulls_allocated, LR_CELL_NOTHING, member && raw ? LR_CELL_JSON_NULL : LR_CELL_NOTHING);
	/* what does not exist gets no cell, so that ranges of neighbours stay ranges */
	column->cells = palloc_extended(sizeof(int32) * Max(n, 1), MCXT_ALLOC_HUGE);
	for (int i = 0; i <= n; i++)
	{
		if (column->ndomain == 0 && between(column, i, &point))
			lr_set_add(&values, &allocated, cell, cell), cell++;
		if (i == n)
			break;
		column->cells[i] = cell++;
		if (can_be(column, column->points[i]))
			lr_set_add(&values, &allocated, column->cells[i], column->cells[i]);
	}
	column->last_cell = cell - 1;
	if (column->always_null)
		values = NULL;
	column->nulls = nulls;
	column->values = values ? values : lr_set_empty();
	/* steps before the one that gives it see it null all the same */
	column->sound = column->never_null ? column->values : lr_set_union(nulls, column->values);
	column->universe = raw || column->always_null ? column->sound : lr_set_union(lr_set_of(LR_CELL_ERROR, LR_CELL_ERROR), column->values);
	if (!raw && !column->never_null && !column->always_null)
		column->universe = lr_set_union(nulls, column->universe);
}

/* Tells whether a column can have a constant that rules compare it with. */
static bool
can_be(const LrColumn *column, LrPoint point)
{
	if (column->limited)
		return point.number >= column->lowest && point.number <= column->highest;
	for (int i = 0; i < column->ndomain; i++)
	{
		if (strcmp(column->domain[i], point.text) == 0)
			return true;
	}
	return column->ndomain == 0;
}

/* Finds the place of a value among a column's constants. */
static int
find_point(const LrColumn *column, LrPoint point, bool *found)
{
	int			low = 0;
	int			high = column->npoints;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (lr_points_compare(column->kind, column->points[middle], point) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*found = low < column->npoints && lr_points_compare(column->kind, column->points[low], point) == 0;
	return low;
}

/* Returns the cell that a value lies in; -1 if the column has no such value. */
int32
lr_column_cell(const LrColumn *column, LrPoint point)
{
	bool		found;
	int			place = find_point(column, point, &found);
	int32		cell;

	if (found)
		return column->cells[place];
	/* the one before the next constant, unless that is the constant before */
	cell = place < column->npoints ? column->cells[place] - 1 : column->last_cell;
	return cell < LR_CELL_VALUES || (place > 0 && cell == column->cells[place - 1]) ? -1 : cell;
}

/* Returns the values less than a constant. */
const LrSet *
lr_column_below(const LrColumn *column, LrPoint point, bool inclusive)
{
	int32		cell = lr_column_cell(column, point);

	return lr_set_intersection(column->values, lr_set_of(LR_CELL_VALUES, cell - (inclusive ? 0 : 1)));
}

/* Tells whether a value is in a set. */
bool
lr_column_has(const LrColumn *column, const LrSet *set, LrPoint point)
{
	return lr_set_has(set, lr_column_cell(column, point));
}

/* Finds the first constant whose cell is not before a cell. */
static int
find_cell(const LrColumn *column, int32 cell)
{
	int			low = 0;
	int			high = column->npoints;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (column->cells[middle] < cell)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Tells whether a cell is that of a constant. */
bool
lr_cell_is_point(const LrColumn *column, int32 cell)
{
	int			place = find_cell(column, cell);

	return place < column->npoints && column->cells[place] == cell;
}

/* Gives a value that lies in a cell. */
bool
lr_column_value(const LrColumn *column, int32 cell, LrPoint *point)
{
	int			place = find_cell(column, cell);

	if (cell < LR_CELL_VALUES || cell > column->last_cell)
		return false;
	if (!lr_cell_is_point(column, cell))
		return between(column, place, point);
	*point = column->points[place];
	return true;
}

/* Gives a value before the constant at a place and behind the one before it; returns false if there is none. */
static bool
between(const LrColumn *column, int place, LrPoint *point)
{
	const LrPoint *low = place > 0 ? &column->points[place - 1] : NULL;
	const LrPoint *high = place < column->npoints ? &column->points[place] : NULL;

	if (column->kind == LR_COLUMN_TEXT)
		return text_between(low, high, point);
	if (column->kind == LR_COLUMN_DECIMAL)
		return decimal_between(low, high, point);
	return number_between(column, low, high, point);
}

/* Steps away from the nearer constant by what people would take: a unit, of time a day or, where that is too much, a second. */
static bool
number_between(const LrColumn *column, const LrPoint *low, const LrPoint *high, LrPoint *point)
{
	int64		least = PG_INT32_MIN;
	int64		most = PG_INT32_MAX;
	int64		first;
	int64		last;

	switch (column->type)
	{
		case BOOLOID:
			least = 0;
			most = 1;
			break;
		case INT2OID:
			least = PG_INT16_MIN;
			most = PG_INT16_MAX;
			break;
		case INT8OID:
			least = PG_INT64_MIN;
			most = PG_INT64_MAX;
			break;
		case TIMESTAMPTZOID:
			least = MIN_TIMESTAMP;
			most = END_TIMESTAMP - 1;
			break;
		case DATEOID:
			least = DATETIME_MIN_JULIAN - POSTGRES_EPOCH_JDATE;
			most = DATE_END_JULIAN - POSTGRES_EPOCH_JDATE - 1;
			break;
		default:
			break;
	}
	if (column->limited)
	{
		least = column->lowest;
		most = column->highest;
	}
	if ((low && low->number >= most) || (high && high->number <= least))
		return false;
	first = low ? Max(low->number + 1, least) : least;
	last = high ? Min(high->number - 1, most) : most;
	if (first > last)
		return false;
	if (low == NULL)
		point->number = high ? last : Max(least, Min(most, 0));
	else
		point->number = first;
	if (column->type == TIMESTAMPTZOID)
	{
		static const int64 steps[] = {USECS_PER_DAY, USECS_PER_HOUR, USECS_PER_SEC};

		for (int i = lengthof(steps) - 1; i >= 0; i--)
		{
			if (low && low->number >= first - 1 && last - low->number >= steps[i])
				point->number = low->number + steps[i];
			else if (low == NULL && high && high->number - first >= steps[i])
				point->number = high->number - steps[i];
		}
	}
	return true;
}

static bool
text_between(const LrPoint *low, const LrPoint *high, LrPoint *point)
{
	static const char *const plain[] = {"other", "XX", "ZZ", "x", "A", "0", ""};
	static const char *const behind[] = {"a", "0", " ", "\x01"};

	for (int i = 0; i < (int) lengthof(plain) + (int) lengthof(behind); i++)
	{
		char	   *text;

		if (i < (int) lengthof(plain))
			text = unconstify(char *, plain[i]);
		else if (low)
			text = psprintf("%s%s", low->text, behind[i - lengthof(plain)]);
		else
			continue;
		/* the last one is the first text behind the lower constant */
		if ((low == NULL || strcmp(low->text, text) < 0) && (high == NULL || strcmp(text, high->text) < 0))
		{
			point->text = text;
			return true;
		}
	}
	return false;
}

static bool
decimal_between(const LrPoint *low, const LrPoint *high, LrPoint *point)
{
	Datum		one = DirectFunctionCall1(int4_numeric, Int32GetDatum(1));
	Datum		value;

	if (low && high)
		value = DirectFunctionCall2(numeric_mul, DirectFunctionCall2(numeric_add, NumericGetDatum(low->decimal), NumericGetDatum(high->decimal)),
									DirectFunctionCall3(numeric_in, CStringGetDatum("0.5"), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	else if (low)
		value = DirectFunctionCall2(numeric_add, NumericGetDatum(low->decimal), one);
	else if (high)
		value = DirectFunctionCall2(numeric_sub, NumericGetDatum(high->decimal), one);
	else
		value = DirectFunctionCall1(int4_numeric, Int32GetDatum(0));
	/* whole numbers read more easily */
	if (low && high)
	{
		Datum		whole = DirectFunctionCall1(numeric_ceil, value);

		if (DatumGetBool(DirectFunctionCall2(numeric_lt, whole, NumericGetDatum(high->decimal))))
			value = whole;
	}
	point->decimal = DatumGetNumeric(value);
	return (low == NULL || lr_points_compare(LR_COLUMN_DECIMAL, *low, *point) < 0) &&
		(high == NULL || lr_points_compare(LR_COLUMN_DECIMAL, *point, *high) < 0);
}

/* Returns a value as text that a cast to the column's type reads back. */
char *
lr_point_text(const LrColumn *column, LrPoint point)
{
	switch (column->type)
	{
		case TEXTOID:
			return point.text;
		case NUMERICOID:
			return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(point.decimal)));
		case BOOLOID:
			return point.number ? "true" : "false";
		case DATEOID:
			return DatumGetCString(DirectFunctionCall1(date_out, DateADTGetDatum((DateADT) point.number)));
		case TIMESTAMPTZOID:
			return DatumGetCString(DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(point.number)));
		default:
			return psprintf(INT64_FORMAT, point.number);
	}
}
