/*
 * state_counts.c: what the rows of lead_states come to for counters.
 *
 * A lead counts towards the counters of its owner and its pool while its outcome is assigned: in the window that `since` lies
 * in, and per open while it is neither closed nor finished.
 *
 * Rows are read once for all counters that are wanted: through the index on (owner_id, since) where there is one, owner by owner, or
 * from end to end. Under a snapshot of MVCC what it sees is counted. Under SnapshotAny every version of a row is looked at, and those
 * that transactions in doubt have made or removed are counted for each of these apart. Where others may change rows during the scan,
 * what they did is judged by a snapshot, and only what this transaction did is in doubt.
 */
#include "assignment/counters.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/relscan.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/procarray.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* The columns of lead_states that count. */
enum
{
	STATE_RUN_ID = 2, STATE_SINCE = 3, STATE_CLOSED_AT = 4, STATE_OWNER_ID = 8, STATE_POOL_ID = 9, STATE_OUTCOME = 11,
	STATE_LOAD = 15, STATE_EXPECTED_VALUE = 16, STATE_FINISHED_AT = 20
};

#define OWNER_INDEX "lead_states_owner_id_since"

/* A count in progress. */
typedef struct Count
{
	const LrCounterKey **keys;	/* by owner and pool */
	int			n;
	LrTally   **tallies;		/* in the order of keys */
	Relation	rel;
	Snapshot	snapshot;
	Snapshot	others;
	TupleTableSlot *slot;
	MemoryContext row;			/* emptied behind each row */
} Count;

static int	compare_keys(const void *a, const void *b);
static int	first_of(const Count *count, int owner_id, int pool_id);
static void read_all(Count *count);
static void read_by_owner(Count *count, Relation index);
static bool next_owner(Count *count, Relation index, int *owner_id);
static void read_owner(Count *count, Relation index, int owner_id, TimestampTz since);
static TimestampTz earliest(const Count *count, int owner_id);
static void count_row(Count *count);
static void add(Count *count, const LrState *state, bool made, TransactionId maker, TransactionId remover, bool removed);
static void add_doubt(LrTally *tally, TransactionId xid, int64 delta);
static bool is_over(const Count *count, TransactionId xid, bool hinted, bool *committed);

/* Reads what a row of lead_states counts. */
void
lr_state_read(TupleDesc desc, HeapTuple tuple, LrState *state)
{
	bool		isnull;
	bool		closed;
	bool		finished;
	Datum		value;

	value = heap_getattr(tuple, STATE_OWNER_ID, desc, &isnull);
	state->owner_id = isnull ? 0 : DatumGetInt32(value);
	value = heap_getattr(tuple, STATE_POOL_ID, desc, &isnull);
	state->pool_id = isnull ? 0 : DatumGetInt32(value);
	value = heap_getattr(tuple, STATE_RUN_ID, desc, &isnull);
	state->run_id = isnull ? 0 : DatumGetInt64(value);
	state->since = DatumGetTimestampTz(heap_getattr(tuple, STATE_SINCE, desc, &isnull));
	state->assigned = DatumGetObjectId(heap_getattr(tuple, STATE_OUTCOME, desc, &isnull)) == lr_catalog()->outcomes[LR_ASSIGNED] && state->owner_id != 0;
	(void) heap_getattr(tuple, STATE_CLOSED_AT, desc, &closed);
	(void) heap_getattr(tuple, STATE_FINISHED_AT, desc, &finished);
	state->open = closed && finished;
	value = heap_getattr(tuple, STATE_LOAD, desc, &isnull);
	state->load = isnull ? 1 : DatumGetInt16(value);
	value = heap_getattr(tuple, STATE_EXPECTED_VALUE, desc, &isnull);
	state->expected_value = isnull ? 0 : DatumGetInt64(value);
}

/* Returns what a lead counts towards a counter. */
int64
lr_state_counts(const LrCounterKey *key, const LrState *state)
{
	/* a load of 0: decided while its table was observed, so nobody has it */
	if (!state->assigned || state->load == 0 || (key->owner_id != 0 && key->owner_id != state->owner_id) || (key->pool_id != 0 && key->pool_id != state->pool_id))
		return 0;
	if (key->per == LR_PER_OPEN ? !state->open : state->since < key->window_start || state->since >= key->window_end)
		return 0;
	return lr_counter_amount(key, state->load, state->expected_value);
}

/* Returns what a lead of a load and an expected value counts towards a counter that it counts towards. */
int64
lr_counter_amount(const LrCounterKey *key, int load, int64 expected_value)
{
	switch (key->measure)
	{
		case LR_MEASURE_LOAD:
			return load;
		case LR_MEASURE_VALUE:
			return expected_value;
		case LR_MEASURE_COUNT:
			break;
	}
	return 1;
}

/*
 * Counts the rows of lead_states for n keys, in the current memory context: what a snapshot sees, or, with SnapshotAny, what is
 * committed and, apart, what transactions in doubt did; with a snapshot for the others, of these what it sees, and in doubt is what this
 * transaction did. index: see lr_open_owner_index(); NULL if there is none.
 */
LrTally *
lr_tally_states(Relation rel, Relation index, const LrCounterKey *keys, int n, Snapshot snapshot, Snapshot others)
{
	LrTally    *tallies = palloc0(sizeof(LrTally) * Max(n, 1));
	bool		all = index == NULL;
	Count		count = {.n = n,.rel = rel,.snapshot = snapshot,.others = others};

	count.keys = palloc(sizeof(LrCounterKey *) * Max(n, 1));
	count.tallies = palloc(sizeof(LrTally *) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		count.keys[i] = &keys[i];
		/* that may be any row */
		all |= keys[i].owner_id == 0 && keys[i].per == LR_PER_OPEN;
	}
	qsort(count.keys, n, sizeof(LrCounterKey *), compare_keys);
	for (int i = 0; i < n; i++)
		count.tallies[i] = &tallies[count.keys[i] - keys];
	count.slot = table_slot_create(rel, NULL);
	count.row = AllocSetContextCreate(CurrentMemoryContext, "leadroute row", ALLOCSET_SMALL_SIZES);
	if (all)
		read_all(&count);
	else
		read_by_owner(&count, index);
	ExecDropSingleTupleTableSlot(count.slot);
	MemoryContextDelete(count.row);
	pfree(count.keys);
	pfree(count.tallies);
	return tallies;
}

static int
compare_keys(const void *a, const void *b)
{
	const LrCounterKey *one = *(const LrCounterKey *const *) a;
	const LrCounterKey *other = *(const LrCounterKey *const *) b;

	return lr_compare_scope(one->owner_id, one->pool_id, other->owner_id, other->pool_id);
}

/* Returns the place of the first key of a pair, or where it would be. */
static int
first_of(const Count *count, int owner_id, int pool_id)
{
	int			low = 0;
	int			high = count->n;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (lr_compare_scope(count->keys[middle]->owner_id, count->keys[middle]->pool_id, owner_id, pool_id) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Opens the index on owner and moment, which may be missing after a restore; NULL then. */
Relation
lr_open_owner_index(Relation rel)
{
	Oid			relid = get_relname_relid(OWNER_INDEX, RelationGetNamespace(rel));
	Relation	index;

	if (!OidIsValid(relid) || get_rel_relkind(relid) != RELKIND_INDEX)
		return NULL;
	index = index_open(relid, AccessShareLock);
	if (index->rd_index->indrelid == RelationGetRelid(rel) && index->rd_index->indisvalid && index->rd_rel->relam == BTREE_AM_OID &&
		IndexRelationGetNumberOfKeyAttributes(index) == 2 && index->rd_index->indkey.values[0] == STATE_OWNER_ID &&
		index->rd_index->indkey.values[1] == STATE_SINCE && RelationGetIndexPredicate(index) == NIL)
		return index;
	index_close(index, AccessShareLock);
	return NULL;
}

/* ---- which rows ---- */

static void
read_all(Count *count)
{
	TableScanDesc scan = table_beginscan(count->rel, count->snapshot, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, count->slot))
		count_row(count);
	table_endscan(scan);
}

/* Reads the rows of each owner that a key names, from the first moment that a key wants; of all owners if keys are of pools. */
static void
read_by_owner(Count *count, Relation index)
{
	int			owner_id = PG_INT32_MIN;

	if (count->n > 0 && count->keys[0]->owner_id == 0)
	{
		while (next_owner(count, index, &owner_id))
			read_owner(count, index, owner_id, earliest(count, owner_id));
		return;
	}
	for (int i = 0; i < count->n; i++)
	{
		if (i == 0 || count->keys[i]->owner_id != count->keys[i - 1]->owner_id)
			read_owner(count, index, count->keys[i]->owner_id, earliest(count, count->keys[i]->owner_id));
	}
}

/* Finds the next owner id in the index. */
static bool
next_owner(Count *count, Relation index, int *owner_id)
{
	IndexScanDesc scan = lr_index_beginscan(count->rel, index, count->snapshot, 1);
	ScanKeyData key;
	bool		found;
	bool		isnull = true;

	CHECK_FOR_INTERRUPTS();
	ScanKeyInit(&key, 1, BTGreaterStrategyNumber, F_INT4GT, Int32GetDatum(*owner_id));
	scan->xs_want_itup = true;
	index_rescan(scan, &key, 1, NULL, 0);
	found = index_getnext_tid(scan, ForwardScanDirection) != NULL;
	if (found)
		*owner_id = DatumGetInt32(index_getattr(scan->xs_itup, 1, scan->xs_itupdesc, &isnull));
	index_endscan(scan);
	return found && !isnull;
}

static void
read_owner(Count *count, Relation index, int owner_id, TimestampTz since)
{
	IndexScanDesc scan = lr_index_beginscan(count->rel, index, count->snapshot, 2);
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(owner_id));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE, TimestampTzGetDatum(since));
	index_rescan(scan, keys, 2, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, count->slot))
		count_row(count);
	index_endscan(scan);
}

/* Returns the first moment that a key which concerns the owner wants. */
static TimestampTz
earliest(const Count *count, int owner_id)
{
	TimestampTz since = DT_NOEND;

	for (int i = first_of(count, 0, PG_INT32_MIN); i < count->n && count->keys[i]->owner_id == 0; i++)
		since = Min(since, count->keys[i]->window_start);
	for (int i = first_of(count, owner_id, PG_INT32_MIN); i < count->n && count->keys[i]->owner_id == owner_id; i++)
		since = Min(since, count->keys[i]->per == LR_PER_OPEN ? DT_NOBEGIN : count->keys[i]->window_start);
	return since;
}

/* ---- one row ---- */

static void
count_row(Count *count)
{
	BufferHeapTupleTableSlot *slot = (BufferHeapTupleTableSlot *) count->slot;
	MemoryContext saved = MemoryContextSwitchTo(count->row);
	HeapTuple	tuple = ExecFetchSlotHeapTuple(count->slot, false, NULL);
	LrState		state;
	HeapTupleHeaderData header;
	TransactionId remover = InvalidTransactionId;
	bool		made;
	bool		removed = false;

	CHECK_FOR_INTERRUPTS();
	lr_state_read(RelationGetDescr(count->rel), tuple, &state);
	MemoryContextSwitchTo(saved);
	MemoryContextReset(count->row);
	if (!state.assigned)
		return;
	if (count->snapshot != SnapshotAny)
	{
		add(count, &state, true, InvalidTransactionId, InvalidTransactionId, false);
		return;
	}

	/* the header may change until its page is locked */
	LockBuffer(slot->buffer, BUFFER_LOCK_SHARE);
	memcpy(&header, tuple->t_data, SizeofHeapTupleHeader);
	LockBuffer(slot->buffer, BUFFER_LOCK_UNLOCK);
	if (HeapTupleHeaderXminFrozen(&header))
		made = true;
	else if (HeapTupleHeaderXminInvalid(&header) || (is_over(count, HeapTupleHeaderGetRawXmin(&header), HeapTupleHeaderXminCommitted(&header), &made) && !made))
		return;
	if (!(header.t_infomask & HEAP_XMAX_INVALID) && !HEAP_XMAX_IS_LOCKED_ONLY(header.t_infomask))
	{
		MemoryContextSwitchTo(count->row);
		remover = HeapTupleHeaderGetUpdateXid(&header);
		MemoryContextSwitchTo(saved);
		if (is_over(count, remover, (header.t_infomask & HEAP_XMAX_COMMITTED) != 0, &removed) && !removed)
			remover = InvalidTransactionId;
	}
	add(count, &state, made, HeapTupleHeaderGetRawXmin(&header), remover, removed);
}

/*
 * Adds a version of a row, to all keys of its owner and pool. made: whoever made it has committed, otherwise it is in doubt;
 * remover: who removed it, if anybody; removed: that has committed.
 */
static void
add(Count *count, const LrState *state, bool made, TransactionId maker, TransactionId remover, bool removed)
{
	const int	scopes[3][2] = {{0, state->pool_id}, {state->owner_id, 0}, {state->owner_id, state->pool_id}};

	if (made && removed)
		return;
	for (int s = 0; s < (state->pool_id == 0 ? 2 : 3); s++)
	{
		for (int i = first_of(count, scopes[s][0], scopes[s][1]); i < count->n; i++)
		{
			const LrCounterKey *key = count->keys[i];
			int64		amount;

			if (lr_compare_scope(key->owner_id, key->pool_id, scopes[s][0], scopes[s][1]) != 0)
				break;
			amount = lr_state_counts(key, state);
			if (amount == 0)
				continue;
			if (made)
				count->tallies[i]->committed += amount;
			else
				add_doubt(count->tallies[i], maker, amount);
			if (TransactionIdIsValid(remover))
				add_doubt(count->tallies[i], remover, -amount);
		}
	}
}

static void
add_doubt(LrTally *tally, TransactionId xid, int64 delta)
{
	for (int i = tally->ndoubts - 1; i >= 0; i--)
	{
		if (tally->doubts[i].xid == xid)
		{
			tally->doubts[i].delta += delta;
			return;
		}
	}
	if (tally->ndoubts == tally->allocated)
	{
		tally->allocated = Max(4, 2 * tally->allocated);
		tally->doubts = tally->doubts ? repalloc(tally->doubts, sizeof(LrDoubt) * tally->allocated) : palloc(sizeof(LrDoubt) * tally->allocated);
	}
	tally->doubts[tally->ndoubts++] = (LrDoubt) {xid, delta};
}

/* Tells whether a transaction is over, and then whether it committed; hinted: the row says that it did. */
static bool
is_over(const Count *count, TransactionId xid, bool hinted, bool *committed)
{
	*committed = false;
	if (count->others)
	{
		if (!hinted && TransactionIdIsCurrentTransactionId(xid))
			return false;
		/* what is in progress for the snapshot has not happened */
		*committed = !XidInMVCCSnapshot(xid, count->others) && (hinted || TransactionIdDidCommit(xid));
		return true;
	}
	if (!hinted && (TransactionIdIsCurrentTransactionId(xid) || TransactionIdIsInProgress(xid)))
		return false;
	*committed = hinted || TransactionIdDidCommit(xid);
	return true;
}
