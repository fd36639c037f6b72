/*
 * counter_build.c: counting what is not in memory, and counting again what may have missed something.
 *
 * A counter that is not in memory has no reservations, so no transaction that knows of it has touched rows that it counts and is
 * still running: those that come wait here, until it is counted; who changes a row of lead_states sees to it beforehand that the counters
 * are in memory which the row counts towards, and keeps them there (give_back.c). What a scan finds in doubt, of transactions that were
 * prepared before a crash or did not know of the counter, becomes reservations in their name.
 *
 * A counter that is in memory is counted again without stopping anybody. Under the lock a snapshot is taken, and of each
 * reservation it is noted whether the snapshot sees it; what the snapshot shows and what it does not see yet is what the
 * counter should have come to at that moment. Whatever it was off by then, it still is when the scan is over, since all that
 * happened meanwhile was added and subtracted.
 */
#include "assignment/counters.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

/* What this session is counting: others wait for it, so it is given up when this fails. */
static LrCounter **claimed = NULL;
static int	nclaimed = 0;

static bool build_shared(Relation rel, Relation index, const LrCounterKey *keys, int n);
static void build_local(Relation rel, Relation index, const LrCounterKey *keys, int n);
static int64 not_yet_seen(const LrCounter *counter, Snapshot snapshot);
static void count_new(Relation rel, Relation index, const LrEpoch *epoch);
static void count_again(Relation rel, Relation index, const LrEpoch *epoch, Snapshot snapshot, const int64 *off_by);
static void fill(LrCounter *counter, const LrTally *tally);
static FullTransactionId full_xid(TransactionId xid);

/*
 * Makes sure, outside of a section, that counters are in memory and counted, waiting for sessions that are counting them. Raises
 * 53400 if there is no room for them all.
 */
void
lr_counters_build(const LrCounterKey *keys, int n)
{
	/* locked before anybody can wait for us: to wait for a lock then would be a deadlock that nobody detects */
	Relation	rel = table_open(lr_catalog()->tables[LR_TABLE_LEAD_STATES], AccessShareLock);
	Relation	index = lr_open_owner_index(rel);
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "leadroute counting", ALLOCSET_DEFAULT_SIZES);
	MemoryContext saved = MemoryContextSwitchTo(memory);

	if (lr_counters_shared())
	{
		while (!build_shared(rel, index, keys, n))
			ConditionVariableSleep(lr_counters_built(), PG_WAIT_EXTENSION);
		ConditionVariableCancelSleep();
	}
	else
		build_local(rel, index, keys, n);
	MemoryContextSwitchTo(saved);
	MemoryContextDelete(memory);
	if (index)
		index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
}

/* Gives up what this session was counting. */
void
lr_counters_abandon(void)
{
	if (nclaimed == 0)
		return;
	lr_counters_lock();
	while (nclaimed > 0)
	{
		LrCounter  *counter = claimed[--nclaimed];

		if (counter->building)
			lr_counter_remove(counter);
		else
			counter->recounting = false;
	}
	lr_counters_end();
	ConditionVariableBroadcast(lr_counters_built());
}

/* Counts those that nobody else is counting; returns whether there are no others to wait for. */
static bool
build_shared(Relation rel, Relation index, const LrCounterKey *keys, int n)
{
	int64	   *off_by = palloc(sizeof(int64) * Max(n, 1));
	Snapshot	snapshot = NULL;
	bool		waiting = false;
	LrEpoch    *epoch;
	LrEpoch		begun;

	claimed = MemoryContextAlloc(TopTransactionContext, sizeof(LrCounter *) * Max(n, 1));
	lr_counters_lock();
	epoch = lr_counters_epoch();
	/* those that are there are not to make room for those that are not */
	for (int i = 0; i < n; i++)
	{
		LrCounter  *counter = lr_counter_peek(&keys[i]);

		if (counter)
			counter->used_at = GetCurrentStatementStartTimestamp() + 1;
	}
	for (int i = 0; i < n; i++)
	{
		LrCounter  *counter = lr_counter_peek(&keys[i]);

		if (counter == NULL)
		{
			counter = lr_counter_enter(&keys[i]);
			counter->building = true;
			counter->used_at++;
			claimed[nclaimed++] = counter;
		}
		else if (counter->building)
			waiting = true;
		else if (counter->exact != epoch->epoch && lr_counter_is_due(counter, epoch))
		{
			if (counter->recounting)
				waiting = true;
			else
			{
				counter->recounting = true;
				claimed[nclaimed++] = counter;
			}
		}
	}
	for (int i = 0; i < nclaimed; i++)
	{
		if (!claimed[i]->recounting)
			continue;
		if (snapshot == NULL)
			snapshot = RegisterSnapshot(GetLatestSnapshot());
		off_by[i] = not_yet_seen(claimed[i], snapshot) - claimed[i]->value;
	}
	begun = *epoch;
	lr_counters_end();
	if (nclaimed == 0)
	{
		pfree(claimed);
		return !waiting;
	}
	count_new(rel, index, &begun);
	if (snapshot)
	{
		count_again(rel, index, &begun, snapshot, off_by);
		UnregisterSnapshot(snapshot);
	}
	nclaimed = 0;
	pfree(claimed);
	ConditionVariableBroadcast(lr_counters_built());
	/* what is a duplicate in keys looked as if somebody else had it */
	return waiting ? build_shared(rel, index, keys, n) : true;
}

/* Returns what a snapshot's count lacks for the counter to come out right once its reservations are settled, in a section. */
static int64
not_yet_seen(const LrCounter *counter, Snapshot snapshot)
{
	LrCounterSpace *space = lr_counter_space();
	int64		sum = 0;

	for (int i = counter->first; i >= 0; i = space->reservations[i].next)
	{
		const LrReservation *reservation = &space->reservations[i];
		TransactionId xid = XidFromFullTransactionId(reservation->xid);

		if (XidInMVCCSnapshot(xid, snapshot))
			sum += Max(reservation->delta, 0);
		else if (!lr_transaction_is_forgotten(reservation->xid) && TransactionIdDidCommit(xid))
			sum -= Min(reservation->delta, 0);
		else
			sum += Max(reservation->delta, 0);
	}
	return sum;
}

/* Counts the claimed counters that were not in memory. */
static void
count_new(Relation rel, Relation index, const LrEpoch *epoch)
{
	LrCounterKey *keys = palloc(sizeof(LrCounterKey) * nclaimed);
	int			n = 0;
	LrTally    *tallies;

	for (int i = 0; i < nclaimed; i++)
	{
		if (claimed[i]->building)
			keys[n++] = claimed[i]->key;
	}
	if (n == 0)
		return;
	tallies = lr_tally_states(rel, index, keys, n, SnapshotAny, NULL);
	lr_counters_lock();
	n = 0;
	for (int i = 0; i < nclaimed; i++)
	{
		if (claimed[i]->building)
			fill(claimed[i], &tallies[n++]);
	}
	/* nothing raises any more */
	for (int i = 0; i < nclaimed; i++)
	{
		LrCounter  *counter = claimed[i];

		if (!counter->building)
			continue;
		counter->building = false;
		counter->counted = epoch->epoch;
		counter->exact = epoch->passed ? epoch->epoch : 0;
	}
	lr_counters_end();
}

/* Counts the claimed counters that are in memory, and sets them right. */
static void
count_again(Relation rel, Relation index, const LrEpoch *epoch, Snapshot snapshot, const int64 *off_by)
{
	LrCounterKey *keys = palloc(sizeof(LrCounterKey) * nclaimed);
	int			n = 0;
	LrTally    *tallies;

	for (int i = 0; i < nclaimed; i++)
	{
		if (claimed[i]->recounting)
			keys[n++] = claimed[i]->key;
	}
	tallies = lr_tally_states(rel, index, keys, n, snapshot, NULL);
	lr_counters_lock();
	n = 0;
	for (int i = 0; i < nclaimed; i++)
	{
		LrCounter  *counter = claimed[i];

		if (!counter->recounting)
			continue;
		counter->value += tallies[n++].committed + off_by[i];
		counter->recounting = false;
		counter->counted = epoch->epoch;
		counter->exact = epoch->passed ? epoch->epoch : 0;
	}
	lr_counters_end();
}

/* Counts what is not in the session's memory yet: under the database's lock, if anybody is to take from it. */
static void
build_local(Relation rel, Relation index, const LrCounterKey *keys, int n)
{
	LrCounterKey *missing = palloc(sizeof(LrCounterKey) * Max(n, 1));
	int			nmissing = 0;
	Snapshot	snapshot;
	LrTally    *tallies;

	lr_counters_lock();
	for (int i = 0; i < n; i++)
	{
		if (lr_counter_peek(&keys[i]) == NULL)
			missing[nmissing++] = keys[i];
	}
	/* whoever takes has the lock; others may give back while we read */
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	tallies = lr_tally_states(rel, index, missing, nmissing, SnapshotAny, snapshot);
	UnregisterSnapshot(snapshot);
	for (int i = 0; i < nmissing; i++)
	{
		if (lr_counter_peek(&missing[i]) == NULL)
			fill(lr_counter_enter(&missing[i]), &tallies[i]);
	}
	lr_counters_end();
}

/* Gives a counter what was counted for it. */
static void
fill(LrCounter *counter, const LrTally *tally)
{
	counter->value = tally->committed;
	for (int i = 0; i < tally->ndoubts; i++)
	{
		if (tally->doubts[i].delta != 0)
			lr_counter_doubt(counter, full_xid(tally->doubts[i].xid), tally->doubts[i].delta);
	}
}

/* Returns the full id of a transaction that the server knows of. */
static FullTransactionId
full_xid(TransactionId xid)
{
	FullTransactionId next = ReadNextFullTransactionId();

	return FullTransactionIdFromU64(U64FromFullTransactionId(next) - (uint32) (XidFromFullTransactionId(next) - xid));
}
