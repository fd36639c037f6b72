/*
 * compat.h: every difference between PostgreSQL 15 and 18 that concerns us.
 *
 * The rest of the code is written for the newest server; what an older one spells differently is given the newer
 * spelling, or a wrapper prefixed lr_, here and nowhere else.
 */
#ifndef LR_COMPAT_H
#define LR_COMPAT_H

#include "postgres.h"

#include "access/genam.h"
#include "access/nbtree.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "commands/sequence.h"
#include "executor/executor.h"
#include "storage/lwlock.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "leadroute supports PostgreSQL 15 to 18"
#endif

#if PG_VERSION_NUM < 160000
#include "catalog/pg_class.h"
#define lr_owns_relation(relid, role) pg_class_ownercheck(relid, role)
#define lr_owns_function(funcid, role) pg_proc_ownercheck(funcid, role)
#define lr_owns_database(database, role) pg_database_ownercheck(database, role)
#define lr_owns_extension(extension, role) pg_extension_ownercheck(extension, role)
#else
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_proc.h"
#define lr_owns_relation(relid, role) object_ownercheck(RelationRelationId, relid, role)
#define lr_owns_function(funcid, role) object_ownercheck(ProcedureRelationId, funcid, role)
#define lr_owns_database(database, role) object_ownercheck(DatabaseRelationId, database, role)
#define lr_owns_extension(extension, role) object_ownercheck(ExtensionRelationId, extension, role)
#endif

/* Which indexes want an entry of a new version of a row. Up to PostgreSQL 15 all, or none. */
#if PG_VERSION_NUM < 160000
typedef enum TU_UpdateIndexes
{
	TU_None,
	TU_All,
	TU_Summarizing
} TU_UpdateIndexes;
#endif

/*
 * Inserts the index tuples of a new row. A key that is taken raises 23505, or, if tolerant, is entered all the same, without
 * waiting for anybody: true is returned, and the caller has to take the row back. summarizing: only those of BRIN and the like.
 */
static inline bool
lr_insert_index_tuples(ResultRelInfo *rri, TupleTableSlot *slot, EState *estate, bool tolerant, bool summarizing)
{
	bool		conflict = false;

#if PG_VERSION_NUM >= 160000
	list_free(ExecInsertIndexTuples(rri, slot, estate, false, tolerant, &conflict, NIL, summarizing));
#else
	list_free(ExecInsertIndexTuples(rri, slot, estate, false, tolerant, &conflict, NIL));
#endif
	return conflict;
}

/* Updates a tuple, waiting for nobody: the caller has it locked. indexes: which of them want entries of it. */
static inline TM_Result
lr_tuple_update(Relation rel, ItemPointer tid, TupleTableSlot *slot, CommandId cid, TM_FailureData *failure, LockTupleMode *mode, TU_UpdateIndexes *indexes)
{
#if PG_VERSION_NUM >= 160000
	return table_tuple_update(rel, tid, slot, cid, InvalidSnapshot, InvalidSnapshot, true, failure, mode, indexes);
#else
	bool		all;
	TM_Result	result = table_tuple_update(rel, tid, slot, cid, InvalidSnapshot, InvalidSnapshot, true, failure, mode, &all);

	*indexes = all ? TU_All : TU_None;
	return result;
#endif
}

static inline IndexScanDesc
lr_index_beginscan(Relation heap, Relation index, Snapshot snapshot, int nkeys)
{
#if PG_VERSION_NUM >= 180000
	return index_beginscan(heap, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(heap, index, snapshot, nkeys, 0);
#endif
}

/* Returns the rightmost leaf of a B-tree, pinned and locked for reading; InvalidBuffer if it has none. */
static inline Buffer
lr_rightmost_leaf(Relation index)
{
#if PG_VERSION_NUM >= 170000
	return _bt_get_endpoint(index, 0, true);
#else
	return _bt_get_endpoint(index, 0, true, NULL);
#endif
}

/* Says in a WAL record which sequence it is of. */
static inline void
lr_sequence_record(xl_seq_rec *record, Relation rel)
{
#if PG_VERSION_NUM >= 160000
	record->locator = rel->rd_locator;
#else
	record->node = rel->rd_node;
#endif
}

/* Tells whether an operator compares, as an ordering index does. */
static inline bool
lr_operator_compares(Oid opno)
{
#if PG_VERSION_NUM >= 180000
	return get_op_index_interpretation(opno) != NIL;
#else
	return get_op_btree_interpretation(opno) != NIL;
#endif
}

/* Tells whether the server has forgotten whether a transaction committed. */
static inline bool
lr_transaction_is_forgotten(FullTransactionId full)
{
	FullTransactionId next = ReadNextFullTransactionId();
	bool		forgotten;

	if (U64FromFullTransactionId(next) - U64FromFullTransactionId(full) >= ((uint64) 1 << 31))
		return true;
	LWLockAcquire(XactTruncationLock, LW_SHARED);
#if PG_VERSION_NUM >= 170000
	forgotten = TransactionIdPrecedes(XidFromFullTransactionId(full), TransamVariables->oldestClogXid);
#else
	forgotten = TransactionIdPrecedes(XidFromFullTransactionId(full), ShmemVariableCache->oldestClogXid);
#endif
	LWLockRelease(XactTruncationLock);
	return forgotten;
}

/* PostgreSQL 18 writes it in front of a declaration, and under this name. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn _Noreturn
#endif

#endif
