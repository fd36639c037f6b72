/*
 * going_on.h: runs that wait, as they are on record: what going_on.c and waiting_runs.c share.
 */
#ifndef LR_GOING_ON_H
#define LR_GOING_ON_H

#include "pipeline/pipeline.h"

#include "access/htup.h"
#include "executor/tuptable.h"
#include "provenance/provenance.h"
#include "storage/itemptr.h"

/* A run that waits, as it is on record. */
typedef struct LrWaiting
{
	bool		locked;			/* its lead's state is, by this transaction: */
	ItemPointerData tid;		/* where it is */
	TimestampTz responded_at;	/* what is kept of it; 0 for null */
	int64		lead_id;
	int64		run_id;
	int			source_id;
	int			policy_version_id;
	int			entry_no;
	int64		supersedes;
	char		cause;
	char		mode;
	int			trial_id;
	char	   *note;			/* or NULL */
	Oid			routed_by;
	int			key_id;
	bytea	   *evidence;
	char	   *reason;
	int			overflow_pool_id;	/* 0: it waits in none */
	TimestampTz since;
	bool		tasks_known;
	Bitmapset  *tasks;			/* if that is known: steps that have a task */
	LrContinuation *items;		/* results for it, in a row */
	int			nitems;
} LrWaiting;

/* What is on record of a run that goes on. */
typedef struct LrContinued
{
	const LrWaiting *waiting;
	LrEvidence *evidence;
	Bitmapset  *changed;		/* attributes that are not what they were */
} LrContinued;

/* waiting_runs.c */
extern LrWaiting *lr_waiting_find(const int64 *lead_ids, int n, int *nfound);
extern bool lr_waiting_fetch(const LrSource *source, const int64 *lead_ids, int n, HeapTuple *rows);
extern void lr_waiting_match(LrWaiting *waiting, int n, LrContinuation *items, int nitems);
extern void lr_waiting_add(LrBatch *batch, const LrWaiting *waiting, TupleTableSlot *slot, HeapTuple row);
extern bool lr_same_value(Oid type, Datum a, Datum b);
extern int	lr_compare_continuations(const void *a, const void *b);

/* waiting_states.c */
extern bool lr_waiting_rows(const LrSource *source, const int64 *lead_ids, int n, HeapTuple *rows);
extern LrWaiting *lr_waiting_lock(int64 *lead_ids, int *n, bool skip, int *nwaiting);

#endif
