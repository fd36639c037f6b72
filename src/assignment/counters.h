/*
 * counters.h: what the counters' own files share: counters.c, reservations.c, counter_build.c, state_counts.c, give_back.c.
 */
#ifndef LR_COUNTERS_H
#define LR_COUNTERS_H

#include "assignment/assignment.h"

#include "access/htup.h"
#include "access/transam.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "utils/hsearch.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* What one transaction, or subtransaction, has done to a counter, and may still undo. */
typedef struct LrReservation
{
	LrCounter  *counter;		/* NULL: free */
	FullTransactionId xid;		/* of the transaction as a whole; of what a count found, of the subtransaction */
	int			pid;			/* of the session that settles it; 0: whoever looks does */
	SubTransactionId subid;
	int64		delta;			/* taken, or, below zero, given back */
	int			next;			/* in the counter's list, or in that of the free ones; -1 behind the last */
	int			previous;
} LrReservation;

struct LrCounter
{
	LrCounterKey key;
	int64		value;			/* what is committed, and what transactions that run have taken */
	int			first;			/* of its reservations; -1 if there is none */
	bool		building;		/* counted for the first time: nobody reads it */
	bool		recounting;		/* counted again, while others go on */
	uint64		counted;		/* the epoch in which it was counted last */
	uint64		exact;			/* the epoch for which nobody can have missed it */
	TimestampTz used_at;
};

/* A database's configuration, as far as somebody has seen it. */
typedef struct LrEpoch
{
	Oid			database;
	uint64		config;			/* a hash of what is counted; 0: somebody is changing it */
	uint64		epoch;
	FullTransactionId changed_at;	/* the next transaction then */
	bool		passed;			/* all that ran then are over */
	TimestampTz checked_at;
} LrEpoch;

/* A hash of counters and their reservations: the server's, or, where the library is not preloaded, the transaction's own. */
typedef struct LrCounterSpace
{
	HTAB	   *counters;
	LrReservation *reservations;
	int			capacity;		/* reservations */
	int			max_counters;	/* of shared memory */
	LWLock	   *lock;			/* of shared memory; NULL in the session's */
	int		   *free;			/* the first free one; -1 if there is none */
} LrCounterSpace;

/* What a row of lead_states counts. */
typedef struct LrState
{
	int			owner_id;		/* 0: none */
	int			pool_id;
	int64		run_id;
	TimestampTz since;
	bool		assigned;
	bool		open;
	int			load;
	int64		expected_value;
} LrState;

/* What was counted for one key; transactions in doubt apart, each xid once. */
typedef struct LrDoubt
{
	TransactionId xid;
	int64		delta;
} LrDoubt;

typedef struct LrTally
{
	int64		committed;
	LrDoubt    *doubts;
	int			ndoubts;
	int			allocated;
} LrTally;

/* ---- counters.c ---- */
extern LrCounterSpace *lr_counter_space(void);
extern bool lr_counters_shared(void);
extern void lr_counters_lock(void);
extern void lr_counters_lock_local(void);
extern bool lr_counters_local_locked(void);
extern LrEpoch *lr_counters_epoch(void);
extern ConditionVariable *lr_counters_built(void);
extern void lr_counters_changed(uint64 config, bool committed);
extern void lr_counters_grow(void);
extern void lr_counters_transaction_ended(bool committed);
extern void lr_counters_subtransaction_ended(bool committed, SubTransactionId mine, SubTransactionId parent);
extern bool lr_counter_is_due(const LrCounter *counter, const LrEpoch *epoch);
extern LrCounter *lr_counter_peek(const LrCounterKey *key);

/* ---- reservations.c ---- */
extern void lr_reservations_init(void);
extern bool lr_reservations_held(void);
extern LrCounter *lr_counter_enter(const LrCounterKey *key);
extern void lr_counter_remove(LrCounter *counter);
extern void lr_counter_post(LrCounter *counter, int64 delta);
extern void lr_counter_doubt(LrCounter *counter, FullTransactionId xid, int64 delta);
extern bool lr_counters_inside(void);
extern bool lr_counter_is_mine(const LrCounter *counter);

/* ---- caps.c ---- */
extern void lr_caps_ready(void);
extern int	lr_compare_scope(int owner_id, int pool_id, int other_owner_id, int other_pool_id);

/* ---- counter_build.c ---- */
extern void lr_counters_abandon(void);

/* ---- state_counts.c ---- */
extern void lr_state_read(TupleDesc desc, HeapTuple tuple, LrState *state);
extern int64 lr_state_counts(const LrCounterKey *key, const LrState *state);
extern Relation lr_open_owner_index(Relation rel);
extern LrTally *lr_tally_states(Relation rel, Relation index, const LrCounterKey *keys, int n, Snapshot snapshot, Snapshot others);

#endif
