/*
 * lead.c: reading a row of an attached table as a lead: its attributes become the first facts of a run.
 */
#include "intake/intake.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "pipeline/pipeline.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"

typedef struct Conversion
{
	const LrSource *source;
	TupleTableSlot *slot;
	const LrColumn *column;
	Datum		value;
	bool		isnull;
} Conversion;

static void convert(void *argument);
static void build_attributes(void *argument);
static void set_unreadable(LrRun *run, int attribute, int sqlstate);

/*
 * Reads the attributes of a row. Values point into the slot's tuple, which has to live as long as the run. An attribute
 * that cannot be converted is null, and run->unreadable names it.
 */
void
lr_lead_read(const LrSource *source, TupleTableSlot *slot, LrRun *run)
{
	int			nest = source->follows_settings ? lr_settings_enter("UTC") : -1;

	run->unreadable = -1;
	slot_getallattrs(slot);
	for (int i = 0; i < LR_N_ATTRIBUTES; i++)
	{
		const LrColumn *column = &source->columns[i];

		run->isnull[i] = true;
		switch (column->kind)
		{
			case LR_COLUMN_NONE:
				break;
			case LR_COLUMN_MISSING:
				set_unreadable(run, i, ERRCODE_UNDEFINED_COLUMN);
				break;
			case LR_COLUMN_CONSTANT:
				run->values[i] = column->constant;
				run->isnull[i] = false;
				break;
			case LR_COLUMN_DIRECT:
				run->values[i] = slot->tts_values[column->attnum - 1];
				run->isnull[i] = slot->tts_isnull[column->attnum - 1];
				if (!run->isnull[i] && lr_facts[i].type != INT4OID && lr_facts[i].type != BOOLOID && lr_facts[i].type != TIMESTAMPTZOID &&
					VARATT_IS_EXTENDED(DatumGetPointer(run->values[i])) && !VARATT_IS_SHORT(DatumGetPointer(run->values[i])))
					run->values[i] = PointerGetDatum(detoast_attr((struct varlena *) DatumGetPointer(run->values[i])));
				break;
			case LR_COLUMN_CONVERTED:
				{
					Conversion	conversion = {.source = source,.slot = slot,.column = column,.isnull = true};
					int			sqlstate;

					if (!slot->tts_isnull[column->attnum - 1] && !lr_guard(convert, &conversion, &sqlstate))
						set_unreadable(run, i, sqlstate);
					run->values[i] = conversion.value;
					run->isnull[i] = conversion.isnull;
					break;
				}
		}
	}
	lr_settings_leave(nest);
	if (source->nrest > 0)
	{
		Conversion	building = {.source = source,.slot = slot,.value = run->values[LR_ATTRIBUTES],.isnull = run->isnull[LR_ATTRIBUTES]};
		int			sqlstate;

		if (!lr_guard(build_attributes, &building, &sqlstate))
		{
			building.isnull = true;
			set_unreadable(run, LR_ATTRIBUTES, sqlstate);
		}
		run->values[LR_ATTRIBUTES] = building.value;
		run->isnull[LR_ATTRIBUTES] = building.isnull;
	}
}

/* Returns the lead id of a row whose key is one. */
int64
lr_lead_id_direct(const LrSource *source, TupleTableSlot *slot)
{
	bool		isnull;

	return DatumGetInt64(slot_getattr(slot, source->keys[0], &isnull));
}

static void
convert(void *argument)
{
	Conversion *conversion = argument;
	ExprContext *context = conversion->source->context;
	MemoryContext saved = CurrentMemoryContext;
	Datum		value;
	bool		isnull;

	context->ecxt_scantuple = conversion->slot;
	value = ExecEvalExpr(conversion->column->conversion, context, &isnull);
	MemoryContextSwitchTo(saved);
	conversion->value = value;
	conversion->isnull = isnull;
}

static void
build_attributes(void *argument)
{
	Conversion *building = argument;
	ExprContext *scratch = building->source->context;
	MemoryContext saved;
	Datum		value;

	/* what making JSON leaves behind is several times its size */
	ResetExprContext(scratch);
	saved = MemoryContextSwitchTo(scratch->ecxt_per_tuple_memory);
	value = lr_columns_to_jsonb(building->source, building->slot, building->isnull ? NULL : &building->value);
	MemoryContextSwitchTo(saved);
	building->value = datumCopy(value, false, -1);
	building->isnull = false;
}

static void
set_unreadable(LrRun *run, int attribute, int sqlstate)
{
	if (run->unreadable >= 0)
		return;
	run->unreadable = attribute;
	run->unreadable_sqlstate = sqlstate;
}
