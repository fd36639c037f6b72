/*
 * writer.c: appending many rows to one of our tables.
 *
 * As COPY does it: rows go into the heap together, one WAL record a page, then into the indexes. Users' privileges are not
 * asked: they insert leads, the record is ours. The tables have no triggers for rows, no defaults that matter and no
 * row-level security, so none is looked for; whatever indexes there are get their entries.
 *
 * Most statements bring one lead, and for these looking up what a table and its indexes are like takes nearly as long as
 * inserting the row. So that is kept for the session, until the relation cache says that the table changed. It holds as long as all
 * indexes are B-trees over plain columns, as ours are, partial ones among them; where somebody added another kind, the executor's
 * own way is taken.
 *
 * Keys from sequences go to the right end of their index. The server inserts there without coming down from the root, as long
 * as it remembers the rightmost leaf (_bt_search_insert() in nbtinsert.c), which it does for high trees only. For ours it is
 * told: the way down is a third of what an entry costs. It checks each time whether the leaf is the right one, so a wrong hint
 * costs a look, and where it keeps being wrong, as for leads that are routed again, no more is given.
 */
#include "writer.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* A table as this session knows it. */
typedef struct Target
{
	Oid			relid;
	bool		stale;			/* freed at the end of the transaction: writers may still use it */
	bool		plain;			/* all indexes are B-trees over columns */
	MemoryContext memory;
	TupleDesc	desc;			/* a copy: slots would pin the relation's once each */
	int			nindexes;
	Oid		   *indexes;
	IndexInfo **infos;
	ExprState **predicates;		/* of each index: which rows it has; NULL: all */
	ExprContext *context;
	int		   *misses;			/* of each index: hints in a row that were wrong */
} Target;

/* Hints that may be wrong, one after the other: other sessions split the leaf, or hold it, now and then. */
#define MAX_MISSES 8

struct LrWriter
{
	MemoryContext memory;
	const Target *target;
	Relation	rel;
	Relation   *indexes;		/* of a plain table */
	EState	   *estate;			/* of another one */
	ResultRelInfo *rri;
	TupleTableSlot **slots;
	int			nslots;			/* made so far */
	int			allocated;
	int			nrows;			/* filled */
	int			capacity;
	ItemPointerData *replaced;	/* of each row: the version that it replaces; NULL: they are new */
};

static List *targets = NIL;		/* in CacheMemoryContext */

static void relation_invalidated(Datum argument, Oid relid);
static void transaction_ended(XactEvent event, void *argument);
static const Target *find_target(Relation rel);
static Target *make_target(Relation rel);
static bool is_plain_index(Relation index, const IndexInfo *info);
static void insert_rows(LrWriter *writer);
static void replace_rows(LrWriter *writer);
static bool insert_index_entries(LrWriter *writer, int row, bool tolerant, bool summarizing);
static bool in_index(const Target *target, int i, TupleTableSlot *slot);
static void aim_right(Relation index);
static void forget_rows(LrWriter *writer);

/* Registers for invalidations. */
void
lr_writer_init(void)
{
	CacheRegisterRelcacheCallback(relation_invalidated, (Datum) 0);
	RegisterXactCallback(transaction_ended, NULL);
}

/* Opens a table for up to capacity rows between flushes; the writer lives in the current memory context. */
LrWriter *
lr_writer_open(Oid relid, int capacity)
{
	LrWriter   *writer = palloc0(sizeof(LrWriter));

	writer->rel = table_open(relid, RowExclusiveLock);
	writer->target = find_target(writer->rel);
	if (writer->target->plain)
	{
		writer->indexes = palloc(sizeof(Relation) * Max(writer->target->nindexes, 1));
		/* partial ones are opened when a row is in them: most have none of a statement's */
		for (int i = 0; i < writer->target->nindexes; i++)
			writer->indexes[i] = writer->target->predicates[i] ? NULL : index_open(writer->target->indexes[i], RowExclusiveLock);
	}
	else
	{
		writer->estate = CreateExecutorState();
		writer->rri = makeNode(ResultRelInfo);
		InitResultRelInfo(writer->rri, writer->rel, 1, NULL, 0);
		ExecOpenIndices(writer->rri, false);
	}
	writer->capacity = capacity;
	writer->memory = CurrentMemoryContext;
	writer->allocated = 4;
	writer->slots = palloc(sizeof(TupleTableSlot *) * writer->allocated);
	return writer;
}

static void
relation_invalidated(Datum argument, Oid relid)
{
	ListCell   *cell;

	foreach(cell, targets)
	{
		Target	   *target = lfirst(cell);

		target->stale |= !OidIsValid(relid) || target->relid == relid;
	}
}

/* No writer outlives its transaction. */
static void
transaction_ended(XactEvent event, void *argument)
{
	ListCell   *cell;

	if (event != XACT_EVENT_ABORT && event != XACT_EVENT_COMMIT && event != XACT_EVENT_PREPARE)
		return;
	foreach(cell, targets)
	{
		Target	   *target = lfirst(cell);

		if (!target->stale)
			continue;
		targets = foreach_delete_current(targets, cell);
		MemoryContextDelete(target->memory);
	}
}

/* Returns what an open table is like. */
static const Target *
find_target(Relation rel)
{
	Target	   *target;
	MemoryContext saved;
	ListCell   *cell;

	foreach(cell, targets)
	{
		target = lfirst(cell);
		if (target->relid == RelationGetRelid(rel) && !target->stale)
			return target;
	}
	target = make_target(rel);
	saved = MemoryContextSwitchTo(CacheMemoryContext);
	targets = lappend(targets, target);
	MemoryContextSwitchTo(saved);
	MemoryContextSetParent(target->memory, CacheMemoryContext);
	return target;
}

static Target *
make_target(Relation rel)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "leadroute table", ALLOCSET_SMALL_SIZES);
	MemoryContext saved = MemoryContextSwitchTo(memory);
	Target	   *target = palloc0(sizeof(Target));
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *cell;

	target->memory = memory;
	target->relid = RelationGetRelid(rel);
	target->desc = CreateTupleDescCopyConstr(RelationGetDescr(rel));
	target->indexes = palloc(sizeof(Oid) * Max(list_length(indexes), 1));
	target->infos = palloc(sizeof(IndexInfo *) * Max(list_length(indexes), 1));
	target->predicates = palloc0(sizeof(ExprState *) * Max(list_length(indexes), 1));
	target->misses = palloc0(sizeof(int) * Max(list_length(indexes), 1));
	target->context = CreateStandaloneExprContext();
	target->plain = true;
	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), RowExclusiveLock);
		IndexInfo  *info = BuildIndexInfo(index);

		if (info->ii_ReadyForInserts)
		{
			target->indexes[target->nindexes] = lfirst_oid(cell);
			if (info->ii_Predicate != NIL)
				target->predicates[target->nindexes] = ExecInitQual((List *) expression_planner((Expr *) info->ii_Predicate), NULL);
			target->infos[target->nindexes++] = info;
		}
		target->plain &= is_plain_index(index, info);
		index_close(index, NoLock);
	}
	MemoryContextSwitchTo(saved);
	return target;
}

static bool
is_plain_index(Relation index, const IndexInfo *info)
{
	return index->rd_rel->relam == BTREE_AM_OID && info->ii_Expressions == NIL && info->ii_ExclusionOps == NULL &&
		index->rd_index->indimmediate;
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
		writer->slots[writer->nslots++] = MakeSingleTupleTableSlot(writer->target->desc, &TTSOpsHeapTuple);
		MemoryContextSwitchTo(saved);
	}
	slot = writer->slots[writer->nrows++];
	memset(slot->tts_isnull, true, slot->tts_tupleDescriptor->natts * sizeof(bool));
	return slot;
}

/*
 * Has the rows so far replace others, each the version at its place, which this transaction has locked. All rows between two flushes
 * replace, or none does.
 */
void
lr_writer_replace(LrWriter *writer, const ItemPointerData *tid)
{
	if (writer->replaced == NULL)
		writer->replaced = MemoryContextAlloc(writer->memory, sizeof(ItemPointerData) * writer->capacity);
	writer->replaced[writer->nrows - 1] = *tid;
}

/* Writes what is left, and closes the table; the lock stays until the end of the transaction. */
void
lr_writer_close(LrWriter *writer)
{
	lr_writer_flush(writer);
	for (int i = 0; i < writer->nslots; i++)
		ExecDropSingleTupleTableSlot(writer->slots[i]);
	for (int i = 0; writer->indexes && i < writer->target->nindexes; i++)
	{
		if (writer->indexes[i])
			index_close(writer->indexes[i], NoLock);
	}
	if (writer->rri)
	{
		ExecCloseIndices(writer->rri);
		FreeExecutorState(writer->estate);
	}
	table_close(writer->rel, NoLock);
}

/* Writes the rows so far. Raises 23505 if the key of one is taken. */
void
lr_writer_flush(LrWriter *writer)
{
	if (writer->replaced && writer->nrows > 0)
		replace_rows(writer);
	else
	{
		insert_rows(writer);
		for (int i = 0; i < writer->nrows; i++)
			(void) insert_index_entries(writer, i, false, false);
	}
	forget_rows(writer);
}

/* Puts the rows into the place of those that they replace. */
static void
replace_rows(LrWriter *writer)
{
	CommandId	cid = GetCurrentCommandId(true);

	for (int i = 0; i < writer->nrows; i++)
	{
		TupleTableSlot *slot = writer->slots[i];
		TM_FailureData failure;
		LockTupleMode mode;
		TU_UpdateIndexes indexes;

		ExecStoreHeapTuple(heap_form_tuple(writer->target->desc, slot->tts_values, slot->tts_isnull), slot, true);
		slot->tts_tableOid = RelationGetRelid(writer->rel);
		if (lr_tuple_update(writer->rel, &writer->replaced[i], slot, cid, &failure, &mode, &indexes) != TM_Ok)
			elog(ERROR, "a row that is locked has changed");
		/* B-trees have no entries of a version on the page of the one before whose columns are the same */
		if (indexes == TU_All || (indexes == TU_Summarizing && writer->rri))
			(void) insert_index_entries(writer, i, false, indexes == TU_Summarizing);
	}
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
		taken[i] = insert_index_entries(writer, i, true, false);
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

/* Puts the rows into the heap. Formed here: the server would copy what their values point to once more, to own it. */
static void
insert_rows(LrWriter *writer)
{
	CommandId	cid = GetCurrentCommandId(true);

	for (int i = 0; i < writer->nrows; i++)
	{
		TupleTableSlot *slot = writer->slots[i];

		ExecStoreHeapTuple(heap_form_tuple(writer->target->desc, slot->tts_values, slot->tts_isnull), slot, true);
		/* the values are still there: who asks for a column need not take the tuple apart */
		slot->tts_nvalid = slot->tts_tupleDescriptor->natts;
		slot->tts_tableOid = RelationGetRelid(writer->rel);
	}
	/* no ring of buffers: the session would write each page itself that the ring gives up */
	if (writer->nrows == 1)
		table_tuple_insert(writer->rel, writer->slots[0], cid, 0, NULL);
	else if (writer->nrows > 1)
		table_multi_insert(writer->rel, writer->slots, writer->nrows, cid, 0, NULL);
}

/* Inserts the index entries of a row, or only those of indexes that summarize; returns whether its key is taken, if tolerant, and otherwise raises 23505. */
static bool
insert_index_entries(LrWriter *writer, int row, bool tolerant, bool summarizing)
{
	TupleTableSlot *slot = writer->slots[row];
	Datum		values[INDEX_MAX_KEYS];
	bool		isnull[INDEX_MAX_KEYS];
	bool		taken = false;

	if (writer->rri)
	{
		GetPerTupleExprContext(writer->estate)->ecxt_scantuple = slot;
		taken = lr_insert_index_tuples(writer->rri, slot, writer->estate, tolerant, summarizing);
		ResetPerTupleExprContext(writer->estate);
		return taken;
	}
	for (int i = 0; i < writer->target->nindexes; i++)
	{
		Relation	index;
		IndexInfo  *info = writer->target->infos[i];
		IndexUniqueCheck check;

		if (writer->target->predicates[i] && !in_index(writer->target, i, slot))
			continue;
		if (writer->indexes[i] == NULL)
			writer->indexes[i] = index_open(writer->target->indexes[i], RowExclusiveLock);
		index = writer->indexes[i];
		check = !index->rd_index->indisunique ? UNIQUE_CHECK_NO : tolerant ? UNIQUE_CHECK_PARTIAL : UNIQUE_CHECK_YES;
		if (RelationGetTargetBlock(index) == InvalidBlockNumber && writer->target->misses[i] < MAX_MISSES)
			aim_right(index);
		FormIndexDatum(info, slot, NULL, values, isnull);
		/* for what need not be unique it gives false, too */
		if (!index_insert(index, values, isnull, &slot->tts_tid, writer->rel, check, false, info))
			taken |= check == UNIQUE_CHECK_PARTIAL;
		writer->target->misses[i] = RelationGetTargetBlock(index) == InvalidBlockNumber ? writer->target->misses[i] + 1 : 0;
	}
	return taken;
}

/* Tells whether a partial index has a row. */
static bool
in_index(const Target *target, int i, TupleTableSlot *slot)
{
	bool		in;

	target->context->ecxt_scantuple = slot;
	in = ExecQual(target->predicates[i], target->context);
	ResetExprContext(target->context);
	return in;
}

/* Has the server try the rightmost leaf first. */
static void
aim_right(Relation index)
{
	Buffer		leaf = lr_rightmost_leaf(index);

	if (!BufferIsValid(leaf))
		return;
	RelationSetTargetBlock(index, BufferGetBlockNumber(leaf));
	UnlockReleaseBuffer(leaf);
}

/* What the rows point to may go now. */
static void
forget_rows(LrWriter *writer)
{
	for (int i = 0; i < writer->nrows; i++)
		ExecClearTuple(writer->slots[i]);
	writer->nrows = 0;
}
