/*
 * task_rows.c: rows of leadroute.tasks by their key, many at a time.
 *
 * Tasks are given back by the hundred, and most of what a statement of SQL costs for each is finding out again how: so they are looked up by
 * their index and deleted in place. The table has no triggers and nothing refers to it.
 */
#include "workers/task_rows.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/skey.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* The columns that are read. */
enum
{
	COLUMN_LEAD_ID = 2, COLUMN_TOKEN = 7, COLUMN_POLICY_VERSION_ID = 8, COLUMN_QUEUE_ID = 9, COLUMN_STATE = 12, COLUMN_HOLDER = 13, COLUMN_HISTORY = 16
};

struct LrTaskRows
{
	Relation	rel;
	Relation	index;
	TupleTableSlot *slot;
	IndexScanDesc scan;
	Snapshot	snapshot;
};

static void read_row(TupleTableSlot *slot, LrTaskRow *row);

/* Opens the table; what is found is what was committed by now, and what this transaction did. Close it before what is read next. */
LrTaskRows *
lr_task_rows_open(void)
{
	LrTaskRows *rows = palloc0(sizeof(LrTaskRows));

	rows->rel = table_open(lr_catalog()->tables[LR_TABLE_TASKS], RowExclusiveLock);
	/* by what it is: REINDEX CONCURRENTLY puts another one in its place */
	list_free(RelationGetIndexList(rows->rel));
	rows->index = index_open(rows->rel->rd_pkindex, RowExclusiveLock);
	rows->slot = table_slot_create(rows->rel, NULL);
	rows->snapshot = RegisterSnapshot(IsolationUsesXactSnapshot() ? GetTransactionSnapshot() : GetLatestSnapshot());
	rows->scan = lr_index_beginscan(rows->rel, rows->index, rows->snapshot, 2);
	return rows;
}

void
lr_task_rows_close(LrTaskRows *rows)
{
	index_endscan(rows->scan);
	UnregisterSnapshot(rows->snapshot);
	ExecDropSingleTupleTableSlot(rows->slot);
	index_close(rows->index, NoLock);
	table_close(rows->rel, NoLock);
	pfree(rows);
}

/* Finds a task, and reads of it what those who give back want to know; false if it is not there. */
bool
lr_task_row_find(LrTaskRows *rows, int64 run_id, int step_no, LrTaskRow *row)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(run_id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT2EQ, Int16GetDatum((int16) step_no));
	index_rescan(rows->scan, keys, 2, NULL, 0);
	if (!index_getnext_slot(rows->scan, ForwardScanDirection, rows->slot))
		return false;
	read_row(rows->slot, row);
	return true;
}

static void
read_row(TupleTableSlot *slot, LrTaskRow *row)
{
	bool		isnull;
	Datum		value;

	row->tid = slot->tts_tid;
	row->lead_id = DatumGetInt64(slot_getattr(slot, COLUMN_LEAD_ID, &isnull));
	value = slot_getattr(slot, COLUMN_TOKEN, &isnull);
	row->token = isnull ? 0 : DatumGetInt64(value);
	row->policy_version_id = DatumGetInt32(slot_getattr(slot, COLUMN_POLICY_VERSION_ID, &isnull));
	value = slot_getattr(slot, COLUMN_QUEUE_ID, &isnull);
	row->queue_id = isnull ? 0 : DatumGetInt32(value);
	row->state = DatumGetChar(slot_getattr(slot, COLUMN_STATE, &isnull));
	value = slot_getattr(slot, COLUMN_HOLDER, &isnull);
	row->holder = isnull ? NULL : TextDatumGetCString(value);
	value = slot_getattr(slot, COLUMN_HISTORY, &isnull);
	row->history = isnull ? (Datum) 0 : PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
}

/* Deletes a task that was found, waiting for whoever changes it; false if it is not what it was any more. */
bool
lr_task_row_delete(LrTaskRows *rows, LrTaskRow *row)
{
	TM_FailureData failure;
	TM_Result	result = table_tuple_delete(rows->rel, &row->tid, GetCurrentCommandId(true), rows->snapshot, InvalidSnapshot, true, &failure, false);

	if (result == TM_Ok)
		return true;
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				errmsg("could not serialize access due to concurrent update"));
	return false;
}
