/*
 * numbers.c: taking numbers from our sequences, as many at a time as a batch needs.
 *
 * nextval() takes one, and notes for the session which sequence was used last: after an insert, an application that asks
 * lastval() for the id of its row would be given a number of ours. So the sequence's one row is advanced here, under the same
 * protocol: the row changes in place under the buffer's lock, takes part in no transaction, and WAL holds a value some numbers
 * ahead, so that not every call has to write it. After a crash the numbers in between are skipped; none is given twice.
 */
#include "leadroute.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "catalog/pg_class.h"
#include "catalog/pg_sequence.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/* How many numbers WAL is ahead. */
#define AHEAD 32

static int64 highest_number(Oid sequence);
static void log_sequence(Relation rel, Buffer buffer, HeapTuple row);

/* Takes count numbers, in a row, from a sequence that counts up by one; returns the first. Raises 2200H if it is used up. */
int64
lr_numbers_take(Oid sequence, int64 count)
{
	int64		highest = highest_number(sequence);
	Relation	rel = relation_open(sequence, RowExclusiveLock);
	Buffer		buffer = ReadBuffer(rel, 0);
	HeapTupleData row;
	Form_pg_sequence_data state;
	int64		first;
	int64		last;
	int64		allowed;		/* numbers behind last_value that WAL allows for */
	bool		logged;

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	row.t_data = (HeapTupleHeader) PageGetItem(BufferGetPage(buffer), PageGetItemId(BufferGetPage(buffer), FirstOffsetNumber));
	row.t_len = ItemIdGetLength(PageGetItemId(BufferGetPage(buffer), FirstOffsetNumber));
	state = (Form_pg_sequence_data) GETSTRUCT(&row);

	first = state->last_value + (state->is_called ? 1 : 0);
	if (first > highest - count + 1)
	{
		UnlockReleaseBuffer(buffer);
		ereport(ERROR,
				errcode(ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED),
				errmsg("sequence \"%s\" is used up", RelationGetRelationName(rel)),
				errhint("Its numbers end at " INT64_FORMAT ".", highest));
	}
	last = first + count - 1;
	allowed = state->is_called ? state->log_cnt : 0;
	/* the first change behind a checkpoint is logged in any case: recovery begins there */
	logged = RelationNeedsWAL(rel) && (allowed < count || PageGetLSN(BufferGetPage(buffer)) <= GetRedoRecPtr());
	allowed = logged ? Min(AHEAD, highest - last) : Max(allowed - count, 0);
	/* an xid makes the commit wait for the record to be flushed */
	if (logged)
		(void) GetTopTransactionId();

	START_CRIT_SECTION();
	MarkBufferDirty(buffer);
	state->is_called = true;
	state->log_cnt = 0;
	state->last_value = last + allowed;
	if (logged)
		log_sequence(rel, buffer, &row);
	state->last_value = last;
	state->log_cnt = allowed;
	END_CRIT_SECTION();

	UnlockReleaseBuffer(buffer);
	relation_close(rel, NoLock);
	return first;
}

/* Returns the number that would be taken next, without taking it. */
int64
lr_numbers_next(Oid sequence)
{
	Relation	rel = relation_open(sequence, AccessShareLock);
	Buffer		buffer = ReadBuffer(rel, 0);
	Form_pg_sequence_data state;
	int64		next;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	state = (Form_pg_sequence_data) PageGetItem(BufferGetPage(buffer), PageGetItemId(BufferGetPage(buffer), FirstOffsetNumber));
	state = (Form_pg_sequence_data) ((char *) state + ((HeapTupleHeader) state)->t_hoff);
	next = state->last_value + (state->is_called ? 1 : 0);
	UnlockReleaseBuffer(buffer);
	relation_close(rel, AccessShareLock);
	return next;
}

static int64
highest_number(Oid sequence)
{
	HeapTuple	tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(sequence));
	int64		highest;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("sequence with OID %u does not exist", sequence));
	highest = ((Form_pg_sequence) GETSTRUCT(tuple))->seqmax;
	ReleaseSysCache(tuple);
	return highest;
}

/* Writes the row as it is now to WAL, the way the server's own recovery of sequences reads it. */
static void
log_sequence(Relation rel, Buffer buffer, HeapTuple row)
{
	xl_seq_rec	record;
	XLogRecPtr	end;

	lr_sequence_record(&record, rel);
	XLogBeginInsert();
	XLogRegisterBuffer(0, buffer, REGBUF_WILL_INIT);
	XLogRegisterData((char *) &record, sizeof(record));
	XLogRegisterData((char *) row->t_data, row->t_len);
	end = XLogInsert(RM_SEQ_ID, XLOG_SEQ_LOG);
	PageSetLSN(BufferGetPage(buffer), end);
}
