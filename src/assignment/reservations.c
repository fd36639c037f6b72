/*
 * reservations.c: taking from counters and giving back, and what becomes of it when transactions end: see counters.c.
 *
 * What a session has reserved in its transaction, it knows as a list: of a subtransaction behind what its parents have, so that the end of
 * one concerns the end of the list.
 */
#include "assignment/counters.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "utils/memutils.h"

/* What became of a transaction. */
typedef enum Fate
{
	FATE_MINE,
	FATE_RUNS,
	FATE_COMMITTED,
	FATE_ABORTED,
	FATE_FORGOTTEN				/* too long ago for the server to know */
} Fate;

/* The reservations of this transaction: those of a subtransaction stand behind those of its parents. */
static int *own = NULL;
static int	nown = 0;
static int	own_allocated = 0;
static LrCounterSpace *own_space;

static LrReservation *find_own(LrCounterSpace *space, const LrCounter *counter, SubTransactionId subid);
static int	new_reservation(LrCounterSpace *space, LrCounter *counter);
static void change(LrReservation *reservation, int64 delta);
static void settle(LrCounterSpace *space, int number, bool committed);
static void settle_orphans(LrCounterSpace *space, LrCounter *counter);
static Fate fate_of(FullTransactionId xid);
static bool evict(LrCounterSpace *space, TimestampTz unused_since);
static void make_room(LrCounterSpace *space, bool counters);
static void transaction_ended(XactEvent event, void *argument);
static void subtransaction_ended(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *argument);
static void merge_into_parent(SubTransactionId mine, SubTransactionId parent);

/* Registers for the ends of transactions. */
void
lr_reservations_init(void)
{
	RegisterXactCallback(transaction_ended, NULL);
	RegisterSubXactCallback(subtransaction_ended, NULL);
}

/* Tells whether this transaction has reserved anything. */
bool
lr_reservations_held(void)
{
	return nown > 0;
}

/*
 * Returns what a counter comes to for this transaction. Where it is enough, this is exact; below, it may be too high by what
 * prepared transactions took that were rolled back since, and by what this transaction gave back.
 */
int64
lr_counter_read(LrCounter *counter, int64 enough)
{
	LrCounterSpace *space = lr_counter_space();
	int64		given = 0;

	if (counter->value < enough)
		return counter->value;
	settle_orphans(space, counter);
	for (int i = counter->first; i >= 0; i = space->reservations[i].next)
	{
		const LrReservation *reservation = &space->reservations[i];

		if (reservation->delta < 0 &&
			(reservation->pid == MyProcPid || (reservation->pid == 0 && TransactionIdIsCurrentTransactionId(XidFromFullTransactionId(reservation->xid)))))
			given -= reservation->delta;
	}
	return counter->value - given;
}

/* Takes from a counter. If the transaction, or the subtransaction, ends otherwise than by committing, that is undone. */
void
lr_counter_take(LrCounter *counter, int64 amount)
{
	lr_counter_post(counter, amount);
}

/* Takes from a counter, or gives back, or keeps it in memory for this transaction. Raises 53400 if there is no room. */
void
lr_counter_post(LrCounter *counter, int64 delta)
{
	LrCounterSpace *space = lr_counter_space();
	SubTransactionId subid = GetCurrentSubTransactionId();
	LrReservation *reservation = find_own(space, counter, subid);
	int			number;
	FullTransactionId xid;

	if (reservation)
	{
		change(reservation, reservation->delta + delta);
		return;
	}
	/* what may raise comes before anything changes */
	if (nown == own_allocated)
	{
		int			wanted = Max(64, 2 * own_allocated);

		own = own ? repalloc_huge(own, sizeof(int) * wanted) : MemoryContextAllocHuge(TopTransactionContext, sizeof(int) * wanted);
		own_allocated = wanted;
	}
	xid = GetTopFullTransactionId();
	number = new_reservation(space, counter);
	reservation = &space->reservations[number];
	reservation->xid = xid;
	reservation->pid = MyProcPid;
	reservation->subid = subid;
	own[nown++] = number;
	own_space = space;
	change(reservation, delta);
}

/* Notes what a count found of a transaction that has not ended. */
void
lr_counter_doubt(LrCounter *counter, FullTransactionId xid, int64 delta)
{
	LrCounterSpace *space = lr_counter_space();
	int			number = new_reservation(space, counter);

	space->reservations[number].xid = xid;
	change(&space->reservations[number], delta);
}

/* Makes a counter. Raises 53400 if there is no room. */
LrCounter *
lr_counter_enter(const LrCounterKey *key)
{
	LrCounterSpace *space = lr_counter_space();
	LrCounter  *counter;
	bool		found;

	if (space->lock && hash_get_num_entries(space->counters) >= space->max_counters)
		make_room(space, true);
	counter = hash_search(space->counters, key, HASH_ENTER, &found);
	Assert(!found);
	counter->value = 0;
	counter->first = -1;
	counter->building = false;
	counter->recounting = false;
	counter->counted = 0;
	counter->exact = 0;
	counter->used_at = GetCurrentStatementStartTimestamp();
	return counter;
}

/* Drops a counter. The reservations that it still has are those that a count left which failed. */
void
lr_counter_remove(LrCounter *counter)
{
	LrCounterSpace *space = lr_counter_space();

	while (counter->first >= 0)
		settle(space, counter->first, true);
	(void) hash_search(space->counters, &counter->key, HASH_REMOVE, NULL);
}

/* Tells whether this transaction has done something to a counter. */
bool
lr_counter_is_mine(const LrCounter *counter)
{
	LrCounterSpace *space = lr_counter_space();

	for (int i = counter->first; i >= 0; i = space->reservations[i].next)
	{
		const LrReservation *reservation = &space->reservations[i];

		if (reservation->pid == MyProcPid ||
			(reservation->pid == 0 && TransactionIdIsCurrentTransactionId(XidFromFullTransactionId(reservation->xid))))
			return true;
	}
	return false;
}

/* Returns the first reservation of this subtransaction with a counter, or NULL. */
static LrReservation *
find_own(LrCounterSpace *space, const LrCounter *counter, SubTransactionId subid)
{
	for (int i = nown > 0 ? counter->first : -1; i >= 0; i = space->reservations[i].next)
	{
		if (space->reservations[i].pid == MyProcPid && space->reservations[i].subid == subid)
			return &space->reservations[i];
	}
	return NULL;
}

static int
new_reservation(LrCounterSpace *space, LrCounter *counter)
{
	int			number;
	LrReservation *reservation;

	if (*space->free < 0)
	{
		if (space->lock)
			make_room(space, false);
		else
			lr_counters_grow();
	}
	number = *space->free;
	reservation = &space->reservations[number];
	*space->free = reservation->next;
	*reservation = (LrReservation) {.counter = counter,.next = counter->first,.previous = -1};
	if (counter->first >= 0)
		space->reservations[counter->first].previous = number;
	counter->first = number;
	return number;
}

/* Sets what a reservation comes to: what it takes is part of the value. */
static void
change(LrReservation *reservation, int64 delta)
{
	reservation->counter->value += Max(delta, 0) - Max(reservation->delta, 0);
	reservation->delta = delta;
}

/* Ends a reservation. */
static void
settle(LrCounterSpace *space, int number, bool committed)
{
	LrReservation *reservation = &space->reservations[number];
	LrCounter  *counter = reservation->counter;

	counter->value += committed ? Min(reservation->delta, 0) : -Max(reservation->delta, 0);
	if (reservation->previous >= 0)
		space->reservations[reservation->previous].next = reservation->next;
	else
		counter->first = reservation->next;
	if (reservation->next >= 0)
		space->reservations[reservation->next].previous = reservation->previous;
	*reservation = (LrReservation) {.next = *space->free,.previous = -1};
	*space->free = number;
}

/* Settles what no session does, as far as the transactions are over. */
static void
settle_orphans(LrCounterSpace *space, LrCounter *counter)
{
	int			next;

	for (int i = counter->first; i >= 0; i = next)
	{
		const LrReservation *reservation = &space->reservations[i];

		next = reservation->next;
		if (reservation->pid != 0)
			continue;
		switch (fate_of(reservation->xid))
		{
			case FATE_MINE:
			case FATE_RUNS:
				break;
			case FATE_COMMITTED:
				settle(space, i, true);
				break;
			case FATE_ABORTED:
				settle(space, i, false);
				break;
			case FATE_FORGOTTEN:
				/* the rows know: counted again, by the next who needs it */
				settle(space, i, true);
				counter->counted = 0;
				counter->exact = 0;
				break;
		}
	}
}

static Fate
fate_of(FullTransactionId full)
{
	TransactionId xid = XidFromFullTransactionId(full);

	if (TransactionIdIsCurrentTransactionId(xid))
		return FATE_MINE;
	if (lr_transaction_is_forgotten(full))
		return FATE_FORGOTTEN;
	if (TransactionIdIsInProgress(xid))
		return FATE_RUNS;
	return TransactionIdDidCommit(xid) ? FATE_COMMITTED : FATE_ABORTED;
}

/* ---- room ---- */

/* Makes room in shared memory for one counter, or one reservation, or raises 53400. */
static void
make_room(LrCounterSpace *space, bool counters)
{
	static const int64 unused[] = {USECS_PER_HOUR, USECS_PER_MINUTE, 0};
	HASH_SEQ_STATUS scan;
	LrCounter  *counter;

	hash_seq_init(&scan, space->counters);
	while ((counter = hash_seq_search(&scan)) != NULL)
		settle_orphans(space, counter);
	if (!counters && *space->free >= 0)
		return;
	for (int i = 0; counters && i < (int) lengthof(unused); i++)
	{
		if (evict(space, GetCurrentStatementStartTimestamp() - unused[i]))
			return;
	}
	ereport(ERROR,
			errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			counters ? errmsg("there is no room for another counter of caps") : errmsg("there is no room for another reservation under caps"),
			counters ? errdetail("All %d counters are in use by transactions that have not ended.", space->max_counters) :
			errdetail("Transactions that have not ended hold all %d reservations.", space->capacity),
			errhint("Raise \"%s\" and restart the server; or end long transactions, prepared ones included.", counters ? "leadroute.max_counters" : "leadroute.max_reservations"));
}

/* Drops the counters whose window is over, and those unused for some time; returns whether there was one. */
static bool
evict(LrCounterSpace *space, TimestampTz unused_since)
{
	TimestampTz now = GetCurrentTimestamp();
	HASH_SEQ_STATUS scan;
	LrCounter  *counter;
	bool		any = false;

	hash_seq_init(&scan, space->counters);
	while ((counter = hash_seq_search(&scan)) != NULL)
	{
		if (counter->building || counter->recounting || counter->first >= 0)
			continue;
		if (counter->used_at > unused_since && (counter->key.per == LR_PER_OPEN || counter->key.window_end > now))
			continue;
		(void) hash_search(space->counters, &counter->key, HASH_REMOVE, NULL);
		any = true;
	}
	return any;
}

/* ---- the ends of transactions ---- */

static void
transaction_ended(XactEvent event, void *argument)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	if (event == XACT_EVENT_ABORT)
		lr_counters_abandon();
	lr_counters_transaction_ended(event == XACT_EVENT_COMMIT);
	if (nown > 0 && own_space->lock)
	{
		LWLockAcquire(own_space->lock, LW_EXCLUSIVE);
		while (nown > 0)
		{
			int			number = own[--nown];

			if (event == XACT_EVENT_PREPARE)
				own_space->reservations[number].pid = 0;
			else
				settle(own_space, number, event == XACT_EVENT_COMMIT);
		}
		LWLockRelease(own_space->lock);
	}
	own = NULL;
	nown = own_allocated = 0;
}

static void
subtransaction_ended(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *argument)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		lr_counters_abandon();
	if (nown > 0 && own_space->reservations[own[nown - 1]].subid == mine && (event == SUBXACT_EVENT_ABORT_SUB || event == SUBXACT_EVENT_COMMIT_SUB))
	{
		if (own_space->lock)
			LWLockAcquire(own_space->lock, LW_EXCLUSIVE);
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			merge_into_parent(mine, parent);
		else
		{
			while (nown > 0 && own_space->reservations[own[nown - 1]].subid == mine)
				settle(own_space, own[--nown], false);
		}
		if (own_space->lock)
			LWLockRelease(own_space->lock);
	}
	if (event == SUBXACT_EVENT_COMMIT_SUB || event == SUBXACT_EVENT_ABORT_SUB)
		lr_counters_subtransaction_ended(event == SUBXACT_EVENT_COMMIT_SUB, mine, parent);
}

/* From now on what a subtransaction did is part of its parent: where that has a reservation with the same counter, one is enough. */
static void
merge_into_parent(SubTransactionId mine, SubTransactionId parent)
{
	int			first = nown;
	int			kept;

	while (first > 0 && own_space->reservations[own[first - 1]].subid == mine)
		first--;
	kept = first;
	for (int i = first; i < nown; i++)
	{
		LrReservation *reservation = &own_space->reservations[own[i]];
		LrReservation *of_parent = find_own(own_space, reservation->counter, parent);

		if (of_parent)
		{
			int64		delta = reservation->delta;

			change(reservation, 0);
			change(of_parent, of_parent->delta + delta);
			settle(own_space, own[i], true);
		}
		else
		{
			reservation->subid = parent;
			own[kept++] = own[i];
		}
	}
	nown = kept;
}
