/*
 * waiting_states.c: states of leads that wait, and the entries of their runs, many at a time.
 *
 * Runs go on by the hundred, and most of what statements of SQL cost for each is finding out again how: so states are looked up by their
 * key and locked in place, and the entry that a state names by its index. What is found of a state is its latest version, whatever
 * snapshot the statement has; whoever asks has to be under READ COMMITTED, or is told that it cannot go on.
 */
#include "pipeline/going_on.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/skey.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

/* Columns of lead_states. */
enum
{
	STATE_RUN_ID = 2, STATE_SINCE, STATE_CLOSED_AT, STATE_SOURCE_ID = 6, STATE_POLICY_VERSION_ID, STATE_POOL_ID = 9, STATE_OUTCOME = 11, STATE_REASON_CODE,
	STATE_RESPONDED_AT = 19, STATE_FINISHED_AT
};

/* Columns of entries. */
enum
{
	ENTRY_RUN_ID = 1, ENTRY_AS_OF = 3, ENTRY_SUPERSEDES, ENTRY_POLICY_VERSION_ID = 8, ENTRY_KEY_ID = 10, ENTRY_ROUTED_BY, ENTRY_TRIAL_ID = 17,
	ENTRY_ENTRY_NO = 19, ENTRY_CAUSE, ENTRY_MODE, ENTRY_NOTE = 23, ENTRY_EVIDENCE
};

/* A relation, an index of it and a scan of that. */
typedef struct Lookup
{
	Relation	rel;
	Relation	index;
	TupleTableSlot *slot;
	IndexScanDesc scan;
	Snapshot	snapshot;
} Lookup;

static void open_lookup(Lookup *lookup, Oid relid, LOCKMODE mode, AttrNumber column);
static void close_lookup(Lookup *lookup);
static bool find(Lookup *lookup, int64 key);
static bool lock_row(Lookup *lookup, bool skip);
static bool read_state(TupleTableSlot *slot, LrWaiting *waiting);
static void read_entries(LrWaiting *waiting, int *n);
static void find_entry(LrWaiting *waiting);
static void read_entry(TupleTableSlot *slot, LrWaiting *waiting);
static int	compare_batches(const void *a, const void *b);

static int64
int64_of(TupleTableSlot *slot, int column)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

static int
int32_of(TupleTableSlot *slot, int column)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, column, &isnull);

	return isnull ? 0 : DatumGetInt32(value);
}

static char *
text_of(TupleTableSlot *slot, int column)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

/*
 * Locks the states of leads, whose ids ascend, in this order; skip: passes over those that somebody else has locked. Afterwards lead_ids
 * and n are those that it locked. Returns the runs that wait, of one batch after the other.
 */
LrWaiting *
lr_waiting_lock(int64 *lead_ids, int *n, bool skip, int *nwaiting)
{
	LrWaiting  *waiting = palloc0(sizeof(LrWaiting) * Max(*n, 1));
	Lookup		lookup;
	int			nlocked = 0;

	*nwaiting = 0;
	open_lookup(&lookup, lr_catalog()->tables[LR_TABLE_LEAD_STATES], RowExclusiveLock, 1);
	for (int i = 0; i < *n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!find(&lookup, lead_ids[i]) || !lock_row(&lookup, skip))
			continue;
		waiting[*nwaiting].lead_id = lead_ids[nlocked++] = lead_ids[i];
		if (read_state(lookup.slot, &waiting[*nwaiting]))
			(*nwaiting)++;
	}
	close_lookup(&lookup);
	*n = nlocked;
	read_entries(waiting, nwaiting);
	/* a lead's place within its batch is that of its id */
	qsort(waiting, *nwaiting, sizeof(LrWaiting), compare_batches);
	return waiting;
}

/* Reads the last entries of runs that wait. Runs without one are left out: their record was taken away. */
static void
read_entries(LrWaiting *waiting, int *n)
{
	Lookup		lookup = {0};
	Oid			open = InvalidOid;
	int			kept = 0;

	for (int i = 0; i < *n; i++)
	{
		LrWaiting  *w = &waiting[i];
		Oid			partition = lr_entries_partition_of_past(w->since);

		if (partition != open)
		{
			if (OidIsValid(open))
				close_lookup(&lookup);
			if (OidIsValid(partition))
				open_lookup(&lookup, partition, AccessShareLock, ENTRY_RUN_ID);
			open = partition;
		}
		for (bool more = OidIsValid(open) && find(&lookup, w->run_id); more; more = index_getnext_slot(lookup.scan, ForwardScanDirection, lookup.slot))
			read_entry(lookup.slot, w);
		/* of a lead that keeps its place in an overflow the last entry is younger than the state says, and may be another month's */
		if (w->entry_no == 0 || w->overflow_pool_id)
			find_entry(w);
		if (w->entry_no > 0)
			waiting[kept++] = *w;
	}
	if (OidIsValid(open))
		close_lookup(&lookup);
	*n = kept;
}

/* Finds the last entry of a run that is not where the state says. */
static void
find_entry(LrWaiting *waiting)
{
	LrWaiting  *found;
	int			n;

	found = lr_waiting_find(&waiting->lead_id, 1, &n);
	waiting->entry_no = 0;
	if (n == 0)
		return;
	found->locked = true;
	found->tid = waiting->tid;
	found->responded_at = waiting->responded_at;
	*waiting = *found;
}

/*
 * Fetches the rows of leads by the index of their key, without a plan: rows[i] is that of lead_ids[i], NULL if it is gone. False for a
 * table where that is more than one look-up: other keys than lead ids, partitions, row-level security. Nothing of the owner's runs.
 */
bool
lr_waiting_rows(const LrSource *source, const int64 *lead_ids, int n, HeapTuple *rows)
{
	Lookup		lookup;
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(source->root));
	bool		plain = HeapTupleIsValid(tuple) && ((Form_pg_class) GETSTRUCT(tuple))->relkind == RELKIND_RELATION &&
		!((Form_pg_class) GETSTRUCT(tuple))->relrowsecurity;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	if (source->keyed || !plain || source->nkeys != 1)
		return false;
	open_lookup(&lookup, source->root, AccessShareLock, source->keys[0]);
	for (int i = 0; i < n; i++)
		rows[i] = find(&lookup, lead_ids[i]) ? ExecCopySlotHeapTuple(lookup.slot) : NULL;
	close_lookup(&lookup);
	return true;
}

/* Opens a relation for look-ups by a column of type bigint, on which it has an index. */
static void
open_lookup(Lookup *lookup, Oid relid, LOCKMODE mode, AttrNumber column)
{
	List	   *indexes;
	ListCell   *cell;

	lookup->rel = table_open(relid, mode);
	lookup->index = NULL;
	/* by what it is: REINDEX CONCURRENTLY puts another one in its place */
	indexes = RelationGetIndexList(lookup->rel);
	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), mode);

		if (index->rd_index->indisvalid && index->rd_index->indkey.values[0] == column && index->rd_index->indnatts == 1 &&
			heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
		{
			lookup->index = index;
			break;
		}
		index_close(index, NoLock);
	}
	if (lookup->index == NULL)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("table \"leadroute.%s\" lacks an index", RelationGetRelationName(lookup->rel)),
				errhint("Make one on its column %s.", NameStr(TupleDescAttr(RelationGetDescr(lookup->rel), column - 1)->attname)));
	lookup->slot = table_slot_create(lookup->rel, NULL);
	lookup->snapshot = RegisterSnapshot(IsolationUsesXactSnapshot() ? GetTransactionSnapshot() : GetLatestSnapshot());
	lookup->scan = lr_index_beginscan(lookup->rel, lookup->index, lookup->snapshot, 1);
}

static void
close_lookup(Lookup *lookup)
{
	index_endscan(lookup->scan);
	UnregisterSnapshot(lookup->snapshot);
	ExecDropSingleTupleTableSlot(lookup->slot);
	index_close(lookup->index, NoLock);
	table_close(lookup->rel, NoLock);
}

static bool
find(Lookup *lookup, int64 key)
{
	ScanKeyData scan_key;

	ScanKeyInit(&scan_key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(key));
	index_rescan(lookup->scan, &scan_key, 1, NULL, 0);
	return index_getnext_slot(lookup->scan, ForwardScanDirection, lookup->slot);
}

/* Locks the row that was found, in its latest version; false if it is gone, or locked by somebody else and skip says so. */
static bool
lock_row(Lookup *lookup, bool skip)
{
	TM_FailureData failure;
	ItemPointerData tid = lookup->slot->tts_tid;
	TM_Result	result = table_tuple_lock(lookup->rel, &tid, lookup->snapshot, lookup->slot, GetCurrentCommandId(true), LockTupleExclusive,
										  skip ? LockWaitSkip : LockWaitBlock, IsolationUsesXactSnapshot() ? 0 : TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure);

	if (result == TM_Ok)
		return true;
	if (result == TM_Updated || (result == TM_Deleted && IsolationUsesXactSnapshot()))
		ereport(ERROR,
				errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				errmsg("could not serialize access due to concurrent update"));
	return false;
}

/* Reads a state; false unless it is that of a run that waits. */
static bool
read_state(TupleTableSlot *slot, LrWaiting *waiting)
{
	bool		open;
	bool		unfinished;
	bool		isnull;
	bool		overflows;

	(void) slot_getattr(slot, STATE_CLOSED_AT, &open);
	(void) slot_getattr(slot, STATE_FINISHED_AT, &unfinished);
	waiting->run_id = int64_of(slot, STATE_RUN_ID);
	if (!open || !unfinished || waiting->run_id == 0 || DatumGetObjectId(slot_getattr(slot, STATE_OUTCOME, &isnull)) != lr_catalog()->outcomes[LR_PENDING])
		return false;
	waiting->reason = text_of(slot, STATE_REASON_CODE);
	overflows = strcmp(waiting->reason, "overflow") == 0;
	if (!overflows && strcmp(waiting->reason, "waiting") != 0 && strcmp(waiting->reason, "review") != 0 && strcmp(waiting->reason, "paused") != 0)
		return false;
	waiting->locked = true;
	waiting->tid = slot->tts_tid;
	waiting->since = int64_of(slot, STATE_SINCE);
	waiting->source_id = int32_of(slot, STATE_SOURCE_ID);
	waiting->overflow_pool_id = overflows ? int32_of(slot, STATE_POOL_ID) : 0;
	waiting->responded_at = int64_of(slot, STATE_RESPONDED_AT);
	return true;
}

/* Reads an entry of a run, unless one that is later was read. */
static void
read_entry(TupleTableSlot *slot, LrWaiting *waiting)
{
	bool		isnull;
	int			entry_no = DatumGetInt16(slot_getattr(slot, ENTRY_ENTRY_NO, &isnull));

	if (entry_no <= waiting->entry_no)
		return;
	waiting->policy_version_id = int32_of(slot, ENTRY_POLICY_VERSION_ID);
	waiting->entry_no = entry_no;
	waiting->supersedes = int64_of(slot, ENTRY_SUPERSEDES);
	waiting->cause = DatumGetChar(slot_getattr(slot, ENTRY_CAUSE, &isnull));
	waiting->mode = DatumGetChar(slot_getattr(slot, ENTRY_MODE, &isnull));
	waiting->trial_id = int32_of(slot, ENTRY_TRIAL_ID);
	waiting->note = text_of(slot, ENTRY_NOTE);
	waiting->routed_by = DatumGetObjectId(slot_getattr(slot, ENTRY_ROUTED_BY, &isnull));
	waiting->key_id = int32_of(slot, ENTRY_KEY_ID);
	waiting->evidence = DatumGetByteaPCopy(slot_getattr(slot, ENTRY_EVIDENCE, &isnull));
}

/* Orders runs so that those of one batch come together, and these by their leads. */
static int
compare_batches(const void *a, const void *b)
{
	const LrWaiting *one = a;
	const LrWaiting *other = b;

#define COMPARE(x, y) if ((x) != (y)) return (x) < (y) ? -1 : 1
	COMPARE(one->source_id, other->source_id);
	COMPARE(one->policy_version_id, other->policy_version_id);
	COMPARE(one->mode, other->mode);
	COMPARE(one->cause, other->cause);
	COMPARE(one->routed_by, other->routed_by);
	COMPARE(one->trial_id, other->trial_id);
	if (one->note && other->note && strcmp(one->note, other->note) != 0)
		return strcmp(one->note, other->note);
	COMPARE(one->note != NULL, other->note != NULL);
	COMPARE(one->lead_id, other->lead_id);
#undef COMPARE
	return 0;
}
