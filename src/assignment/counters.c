/*
 * counters.c: counters that are exact while any number of sessions take from them.
 *
 * With the library preloaded, counters are in shared memory, under one lock that is held for a section: from
 * lr_counters_begin() to lr_counters_end(), in which nothing waits. A counter's value is what is committed plus what
 * transactions that still run have taken. Each (sub)transaction that takes or gives back has a reservation with the
 * counter: what it takes counts at once, so that a cap holds whoever commits first; what it gives back counts when it has
 * committed, and for itself at once. Taking and giving of one transaction may be summed: whether it commits or not, the
 * sum has the same effect.
 *
 * Reservations are settled by their session, when its transaction or subtransaction ends. PREPARE leaves them to whoever looks:
 * COMMIT PREPARED may come from any session, or after a crash, and calls nobody. Then the transaction's status tells.
 * After a crash counters are counted from lead_states (counter_build.c), where transactions in doubt are found as well.
 *
 * A counter that has reservations stays in memory; others may be dropped for room, and are counted again when they are needed.
 * Thus what a count finds are rows of transactions that are over, but for those that are in doubt since a crash, and those
 * that did not know of the counter because their configuration was older. For these there are epochs. Whoever reads another
 * configuration than the last one that was seen begins an epoch; a counter of an earlier epoch is counted again at once, and once
 * more when all transactions that ran when the epoch began are over.
 *
 * Otherwise counters live in the session, and in one transaction: a lock of the database makes sessions take turns, and
 * what they need is counted when they hold it. The rest is the same code. On a standby nothing is taken, and nobody locks.
 */
#include "assignment/counters.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define TRANCHE "leadroute counters"
#define MAX_DATABASES 128

/* Distinguishes our lock from the advisory locks of users, who have 1 and 2 here. */
#define LOCK_FIELD 0x4c52

/* How often, in microseconds, it is looked whether the transactions of an epoch's beginning are over. */
#define CHECK_EVERY USECS_PER_SEC

typedef struct Shared
{
	LWLock	   *lock;
	ConditionVariable built;
	int			free;
	uint64		last_epoch;
	LrEpoch		epochs[MAX_DATABASES];
	LrReservation reservations[FLEXIBLE_ARRAY_MEMBER];
} Shared;

static int	max_counters = 32768;
static int	max_reservations = 65536;

static Shared *shared = NULL;
static LrCounterSpace shared_space;

static MemoryContext local_memory = NULL;
static LrCounterSpace local_space;
static int	local_free;
static bool local_locked = false;
static SubTransactionId local_locked_in;

/* This transaction counts by a configuration of its own. */
static bool changing = false;

static shmem_request_hook_type previous_shmem_request = NULL;
static shmem_startup_hook_type previous_shmem_startup = NULL;

static void request_memory(void);
static void start_memory(void);
static Size memory_size(void);
static void make_local_space(void);
static void chain_free(LrCounterSpace *space, int from);
static void look_at_epoch(LrEpoch *epoch);
static void begin_epoch(LrEpoch *epoch, uint64 config);

/* Asks for shared memory, if it is time for that, and registers for the ends of transactions. */
void
lr_counters_init(void)
{
	lr_reservations_init();
	if (!process_shared_preload_libraries_in_progress)
		return;
	DefineCustomIntVariable("leadroute.max_counters",
							"How many counters of caps are in memory at a time.",
							"One for each cap and window that leads are being assigned under, in all databases. Others are counted again when they are needed.",
							&max_counters, 32768, 16, 10000000, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("leadroute.max_reservations",
							"How many places under caps can be taken by transactions that have not ended.",
							"One for each transaction and counter that it takes from. Prepared transactions keep theirs.",
							&max_reservations, 65536, 16, 100000000, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	previous_shmem_request = shmem_request_hook;
	shmem_request_hook = request_memory;
	previous_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = start_memory;
}

static void
request_memory(void)
{
	if (previous_shmem_request)
		previous_shmem_request();
	RequestAddinShmemSpace(add_size(memory_size(), hash_estimate_size(max_counters, sizeof(LrCounter))));
	RequestNamedLWLockTranche(TRANCHE, 1);
}

static Size
memory_size(void)
{
	return MAXALIGN(add_size(offsetof(Shared, reservations), mul_size(max_reservations, sizeof(LrReservation))));
}

static void
start_memory(void)
{
	HASHCTL		control = {.keysize = sizeof(LrCounterKey),.entrysize = sizeof(LrCounter)};
	bool		found;

	if (previous_shmem_startup)
		previous_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct(TRANCHE, memory_size(), &found);
	shared_space.counters = ShmemInitHash("leadroute counters by key", max_counters, max_counters, &control, HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
	shared_space.reservations = shared->reservations;
	shared_space.capacity = max_reservations;
	shared_space.max_counters = max_counters;
	shared_space.free = &shared->free;
	if (!found)
	{
		memset(shared, 0, offsetof(Shared, reservations));
		shared->lock = &GetNamedLWLockTranche(TRANCHE)->lock;
		ConditionVariableInit(&shared->built);
		chain_free(&shared_space, 0);
	}
	shared_space.lock = shared->lock;
	LWLockRelease(AddinShmemInitLock);
}

/* ---- sections ---- */

/*
 * Begins a section in which counters are found, read and taken from. Inside nothing may wait for others, nor last. Where the
 * library is not preloaded, waits for the database's lock, which stays to the end of the transaction.
 */
void
lr_counters_begin(void)
{
	/* inside, nothing is read from tables */
	lr_caps_ready();
	if (!lr_counters_shared())
		lr_counters_lock_local();
	lr_counters_lock();
}

/* Begins a section in which counters are only read, for nobody who acts: what it finds may be out of date behind it. */
void
lr_counters_look(void)
{
	lr_caps_ready();
	lr_counters_lock();
}

void
lr_counters_end(void)
{
	/* a standby may have been promoted since the section began, without the lock */
	if (lr_counters_inside())
		LWLockRelease(shared->lock);
}

/* Tells whether this session is in a section of shared counters. */
bool
lr_counters_inside(void)
{
	return shared != NULL && LWLockHeldByMe(shared->lock);
}

/* Locks the counters that the session uses. */
void
lr_counters_lock(void)
{
	if (lr_counters_shared())
	{
		LWLockAcquire(shared->lock, LW_EXCLUSIVE);
		look_at_epoch(lr_counters_epoch());
	}
	else if (local_memory == NULL)
		make_local_space();
}

/* Looks, now and then, whether all transactions that ran when the epoch began are over. */
static void
look_at_epoch(LrEpoch *epoch)
{
	TimestampTz now;

	if (likely(epoch->passed))
		return;
	now = GetCurrentTimestamp();
	if (now - epoch->checked_at < CHECK_EVERY)
		return;
	epoch->checked_at = now;
	epoch->passed = TransactionIdFollows(GetOldestNonRemovableTransactionId(NULL), XidFromFullTransactionId(epoch->changed_at));
}

/* Waits until no other session of the database counts for itself. */
void
lr_counters_lock_local(void)
{
	LOCKTAG		tag;

	if (local_locked || RecoveryInProgress())
		return;
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, lr_catalog()->tables[LR_TABLE_LEAD_STATES], 0, LOCK_FIELD);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	local_locked = true;
	local_locked_in = GetCurrentSubTransactionId();
	/* what was read without it may have changed since */
	if (local_memory && !lr_reservations_held())
	{
		MemoryContextDelete(local_memory);
		local_memory = NULL;
	}
}

bool
lr_counters_local_locked(void)
{
	return local_locked;
}

/* Tells whether this session uses the counters in shared memory. On a standby nobody keeps them up to date. */
bool
lr_counters_shared(void)
{
	return shared != NULL && !RecoveryInProgress();
}

LrCounterSpace *
lr_counter_space(void)
{
	return lr_counters_shared() ? &shared_space : &local_space;
}

ConditionVariable *
lr_counters_built(void)
{
	return &shared->built;
}

static void
make_local_space(void)
{
	HASHCTL		control = {.keysize = sizeof(LrCounterKey),.entrysize = sizeof(LrCounter)};
	MemoryContext memory = AllocSetContextCreate(TopTransactionContext, "leadroute counters", ALLOCSET_DEFAULT_SIZES);

	control.hcxt = memory;
	local_space.counters = hash_create("leadroute counters", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	local_space.capacity = 64;
	local_space.reservations = MemoryContextAllocHuge(memory, sizeof(LrReservation) * local_space.capacity);
	local_space.free = &local_free;
	chain_free(&local_space, 0);
	local_memory = memory;
}

/* Makes more reservations in the session's memory. */
void
lr_counters_grow(void)
{
	local_space.reservations = repalloc_huge(local_space.reservations, sizeof(LrReservation) * 2 * local_space.capacity);
	local_space.capacity *= 2;
	chain_free(&local_space, local_space.capacity / 2);
}

/* Makes the reservations from one on free ones; those that are free already are lost, so there are none. */
static void
chain_free(LrCounterSpace *space, int from)
{
	for (int i = from; i < space->capacity; i++)
		space->reservations[i] = (LrReservation) {.next = i + 1 < space->capacity ? i + 1 : -1,.previous = -1};
	*space->free = from;
}

/* ---- counters, in a section ---- */

/* Finds a counter; NULL if lr_counters_build() has to count it first, outside of the section. Good to the section's end. */
LrCounter *
lr_counter_find(const LrCounterKey *key)
{
	LrCounter  *counter = lr_counter_peek(key);

	if (counter == NULL || counter->building)
		return NULL;
	counter->used_at = GetCurrentStatementStartTimestamp();
	if (lr_counters_shared())
	{
		LrEpoch    *epoch = lr_counters_epoch();

		if (unlikely(counter->exact != epoch->epoch) && lr_counter_is_due(counter, epoch))
			return NULL;
	}
	return counter;
}

/* Finds a counter in whatever condition it is. */
LrCounter *
lr_counter_peek(const LrCounterKey *key)
{
	return hash_search(lr_counter_space()->counters, key, HASH_FIND, NULL);
}

/* ---- epochs ---- */

/* Returns the database's epoch, in a section of shared counters. */
LrEpoch *
lr_counters_epoch(void)
{
	static int	place = 0;

	if (shared->epochs[place].database == MyDatabaseId)
		return &shared->epochs[place];
	for (place = 0; place < MAX_DATABASES; place++)
	{
		if (shared->epochs[place].database == MyDatabaseId)
			return &shared->epochs[place];
		if (!OidIsValid(shared->epochs[place].database))
			break;
	}
	/* of more databases than there is room for, one begins anew: its counters are counted again */
	place %= MAX_DATABASES;
	shared->epochs[place] = (LrEpoch) {.database = MyDatabaseId,.epoch = ++shared->last_epoch,.changed_at = ReadNextFullTransactionId()};
	return &shared->epochs[place];
}

/*
 * Says what configuration this session counts by, as a hash, and whether that is committed; 0: what was counted may be wrong in any
 * case. One that is not committed is this session's own: the epoch that matters to others begins when it is.
 */
void
lr_counters_changed(uint64 config, bool committed)
{
	LrEpoch    *epoch;

	if (!lr_counters_shared())
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	epoch = lr_counters_epoch();
	if (config == 0 || epoch->config != config)
	{
		begin_epoch(epoch, committed ? config : 0);
		changing |= !committed;
	}
	LWLockRelease(shared->lock);
}

static void
begin_epoch(LrEpoch *epoch, uint64 config)
{
	epoch->config = config;
	epoch->epoch = ++shared->last_epoch;
	epoch->changed_at = ReadNextFullTransactionId();
	epoch->passed = false;
}

/* Tells whether a counter of an earlier epoch has to be counted again now. Whoever has taken from it cannot do that. */
bool
lr_counter_is_due(const LrCounter *counter, const LrEpoch *epoch)
{
	if (counter->counted == epoch->epoch && (counter->recounting || !epoch->passed))
		return false;
	return !lr_counter_is_mine(counter);
}

/* ---- the ends of transactions ---- */

/* Forgets what was the transaction's: its configuration, the lock, and the counters, whose memory goes with it. */
void
lr_counters_transaction_ended(bool committed)
{
	/* what others did up to now, they did without knowing of it */
	if (changing && committed)
		lr_counters_changed(0, true);
	changing = false;
	lr_configuration_changing = false;
	local_memory = NULL;
	local_locked = false;
}

/* Notes what becomes of a lock that a subtransaction has taken. */
void
lr_counters_subtransaction_ended(bool committed, SubTransactionId mine, SubTransactionId parent)
{
	if (!local_locked || local_locked_in != mine)
		return;
	if (committed)
	{
		local_locked_in = parent;
		return;
	}
	/* the lock went with it: what was counted under it may change from now on */
	local_locked = false;
	if (local_memory)
		MemoryContextDelete(local_memory);
	local_memory = NULL;
}
