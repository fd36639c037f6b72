/*
 * writer.c: appending many rows to one of our tables.
 *
 * As COPY does it: rows go into the heap together, one WAL record a page, then into the indexes. Users' privileges are not
 * asked: they insert leads, the record is ours. The tables have no triggers for rows, no defaults that matter and no
 * row-level security, so none is looked for; whatever indexes there are get their entries.
 */
#include "writer.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "utils/memutils.h"
#include "utils/rel.h"

struct LrWriter
{
	MemoryContext memory;
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *rri;
	TupleDesc	desc;			/* a copy: slots would pin the relation's once each */
	TupleTableSlot **slots;
	int			nslots;			/* made so far */
	int			allocated;
	int			nrows;			/* filled */
	int			capacity;
	BulkInsertState bulk;		/* NULL for few rows */
};

static void insert_rows(LrWriter *writer);
static bool insert_index_entries(LrWriter *writer, int row, bool tolerant);
static void forget_rows(LrWriter *writer);

/* Opens a table for up to capacity rows between flushes; the writer lives in the current memory context. */
LrWriter *
lr_writer_open(Oid relid, int capacity)
{
	LrWriter   *writer = palloc0(sizeof(LrWriter));

	writer->rel = table_open(relid, RowExclusiveLock);
	writer->estate = CreateExecutorState();
	writer->rri = makeNode(ResultRelInfo);
	InitResultRelInfo(writer->rri, writer->rel, 1, NULL, 0);
	ExecOpenIndices(writer->rri, false);
	writer->desc = CreateTupleDescCopyConstr(RelationGetDescr(writer->rel));
	writer->capacity = capacity;
	writer->memory = CurrentMemoryContext;
	writer->allocated = 4;
	writer->slots = palloc(sizeof(TupleTableSlot *) * writer->allocated);
	return writer;
}

/*
 * Returns an empty slot for the next row, all columns null. The caller fills tts_values and tts_isnull; what they point to
 * has to live until the row is written.
 */
TupleTableSlot *
lr_writer_row(LrWriter *writer)
{
	TupleTableSlot *slot;

	if (writer->nrows == writer->capacity)
		lr_writer_flush(writer);
	if (writer->nrows == writer->nslots)
	{
		MemoryContext saved = MemoryContextSwitchTo(writer->memory);

		if (writer->nslots == writer->allocated)
		{
			writer->allocated *= 2;
			writer->slots = repalloc(writer->slots, sizeof(TupleTableSlot *) * writer->allocated);
		}
		writer->slots[writer->nslots++] = MakeSingleTupleTableSlot(writer->desc, &TTSOpsVirtual);
		MemoryContextSwitchTo(saved);
	}
	slot = writer->slots[writer->nrows++];
	memset(slot->tts_isnull, true, slot->tts_tupleDescriptor->natts * sizeof(bool));
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(writer->rel);
	return slot;
}

/* Writes what is left, and closes the table; the lock stays until the end of the transaction. */
void
lr_writer_close(LrWriter *writer)
{
	lr_writer_flush(writer);
	for (int i = 0; i < writer->nslots; i++)
		ExecDropSingleTupleTableSlot(writer->slots[i]);
	if (writer->bulk)
		FreeBulkInsertState(writer->bulk);
	ExecCloseIndices(writer->rri);
	FreeExecutorState(writer->estate);
	table_close(writer->rel, NoLock);
}

/* Writes the rows so far. Raises 23505 if the key of one is taken. */
void
lr_writer_flush(LrWriter *writer)
{
	insert_rows(writer);
	for (int i = 0; i < writer->nrows; i++)
		(void) insert_index_entries(writer, i, false);
	forget_rows(writer);
}

/*
 * Writes those of the rows so far whose key is new; taken, of as many as there are rows, says which ones are not. Returns
 * whether any is taken. The index's own check tells, so that rows that are all new cost no look-up.
 */
bool
lr_writer_flush_new(LrWriter *writer, bool *taken)
{
	bool		any = false;

	insert_rows(writer);
	for (int i = 0; i < writer->nrows; i++)
	{
		taken[i] = insert_index_entries(writer, i, true);
		any |= taken[i];
	}
	if (any)
	{
		CommandCounterIncrement();
		for (int i = 0; i < writer->nrows; i++)
		{
			if (taken[i])
				simple_heap_delete(writer->rel, &writer->slots[i]->tts_tid);
		}
	}
	forget_rows(writer);
	return any;
}

static void
insert_rows(LrWriter *writer)
{
	CommandId	cid = GetCurrentCommandId(true);

	if (writer->nrows == 1)
		table_tuple_insert(writer->rel, writer->slots[0], cid, 0, NULL);
	else if (writer->nrows > 1)
	{
		/* a page at a time is extended anyway; the ring of buffers pays from here on */
		if (writer->bulk == NULL && writer->nrows >= 256)
		{
			MemoryContext saved = MemoryContextSwitchTo(writer->memory);

			writer->bulk = GetBulkInsertState();
			MemoryContextSwitchTo(saved);
		}
		table_multi_insert(writer->rel, writer->slots, writer->nrows, cid, 0, writer->bulk);
	}
}

static bool
insert_index_entries(LrWriter *writer, int row, bool tolerant)
{
	bool		taken;

	GetPerTupleExprContext(writer->estate)->ecxt_scantuple = writer->slots[row];
	taken = lr_insert_index_tuples(writer->rri, writer->slots[row], writer->estate, tolerant);
	ResetPerTupleExprContext(writer->estate);
	return taken;
}

/* What the rows point to may go now. */
static void
forget_rows(LrWriter *writer)
{
	for (int i = 0; i < writer->nrows; i++)
		ExecClearTuple(writer->slots[i]);
	writer->nrows = 0;
}
