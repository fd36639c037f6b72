/*
 * give_back.c: what a change of a lead's state gives back to counters; and the counters as people see them.
 *
 * A trigger before each change of a row of lead_states. A lead that is decided anew, closed or deleted leaves the counters of the
 * decision before: that is given back here. What a new decision takes, whoever decides has taken before (lr_counter_take()). Within one
 * decision the row's load counts, does so no more, or does so again, as the lead is finished, closed or opened again.
 *
 * Before the row changes, the counters are in memory that it counts towards, and they stay there until the transaction ends, also where
 * nothing is given back. So nobody counts them from the rows while these change (counter_build.c): a version of the row that a scan has
 * passed, or has yet to come to, is never in doubt. Only of a window that is over for an hour is nothing counted for this.
 *
 * Where counters live in one transaction, the session that has counted gives back to its own. Another one will count anew.
 */
#include "assignment/counters.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "provenance/provenance.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(leadroute_give_back);
PG_FUNCTION_INFO_V1(leadroute_cap_counters);
PG_FUNCTION_INFO_V1(leadroute_recount_caps);

static void give_back(const LrState *before, const LrState *after);
static void post_all(const LrCounterKey *keys, const int64 *deltas, int n);
static void post_local(const LrCounterKey *keys, const int64 *deltas, int n);
static int64 *read_caps(const LrCounterKey *keys, int n);

/* Is the trigger of lead_states, before rows are updated or deleted, and after all are. */
Datum
leadroute_give_back(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	LrState		before;
	LrState		after;

	if (!CALLED_AS_TRIGGER(fcinfo) || !(TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event) || (TRIGGER_FIRED_FOR_ROW(trigger->tg_event) &&
		TRIGGER_FIRED_BEFORE(trigger->tg_event) && !TRIGGER_FIRED_BY_INSERT(trigger->tg_event))))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("function \"%s\" was not called as a trigger before updates or deletes of rows", "give_back"));
	(void) lr_catalog();
	if (TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
	{
		lr_counters_changed(0, true);
		PG_RETURN_POINTER(NULL);
	}
	lr_state_changes++;
	desc = RelationGetDescr(trigger->tg_relation);
	lr_state_read(desc, trigger->tg_trigtuple, &before);
	if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		lr_state_read(desc, trigger->tg_newtuple, &after);
	else
		after = (LrState) {0};
	if (before.assigned)
		give_back(&before, &after);
	PG_RETURN_POINTER(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple : trigger->tg_trigtuple);
}

static void
give_back(const LrState *before, const LrState *after)
{
	LrCounterKey keys[LR_MAX_KEYS];
	int64		deltas[LR_MAX_KEYS];
	int			n = lr_counter_keys_of(before->owner_id, before->pool_id, before->since, keys);
	bool		same = after->assigned && after->owner_id == before->owner_id && after->pool_id == before->pool_id &&
		after->run_id == before->run_id && after->since == before->since;

	for (int i = 0; i < n; i++)
		deltas[i] = (same ? lr_state_counts(&keys[i], after) : 0) - lr_state_counts(&keys[i], before);
	if (n == 0)
		return;
	if (lr_counters_shared())
		post_all(keys, deltas, n);
	else
		post_local(keys, deltas, n);
}

/* Posts to counters in shared memory, having them counted first if need be. */
static void
post_all(const LrCounterKey *keys, const int64 *deltas, int n)
{
	TimestampTz an_hour_ago = GetCurrentTimestamp() - USECS_PER_HOUR;
	LrCounterKey missing[LR_MAX_KEYS];
	int			done = 0;

	while (done < n)
	{
		int			nmissing = 0;

		CHECK_FOR_INTERRUPTS();
		lr_counters_begin();
		while (done < n)
		{
			LrCounter  *counter = lr_counter_find(&keys[done]);

			if (counter)
				lr_counter_post(counter, deltas[done]);
			else if (keys[done].per == LR_PER_OPEN || keys[done].window_end > an_hour_ago || lr_counter_peek(&keys[done]))
				break;
			done++;
		}
		for (int i = done; i < n; i++)
		{
			if (lr_counter_find(&keys[i]) == NULL && (keys[i].per == LR_PER_OPEN || keys[i].window_end > an_hour_ago || lr_counter_peek(&keys[i])))
				missing[nmissing++] = keys[i];
		}
		lr_counters_end();
		if (nmissing > 0)
			lr_counters_build(missing, nmissing);
	}
}

/* Posts to the counters that this transaction has counted. What counts again has to wait for its turn, as what is taken does. */
static void
post_local(const LrCounterKey *keys, const int64 *deltas, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (deltas[i] > 0)
			lr_counters_lock_local();
	}
	if (!lr_counters_local_locked())
		return;
	lr_counters_begin();
	for (int i = 0; i < n; i++)
	{
		LrCounter  *counter = lr_counter_peek(&keys[i]);

		if (counter)
			lr_counter_post(counter, deltas[i]);
	}
	lr_counters_end();
}

/* Returns the caps and what is counted for each in the window that it is now. */
Datum
leadroute_cap_counters(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz now = GetCurrentTimestamp();
	const LrCap *caps;
	LrCounterKey *keys;
	int64	   *taken;
	int			n;

	(void) lr_catalog();
	caps = lr_all_caps(&n);
	keys = palloc(sizeof(LrCounterKey) * Max(n, 1));

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < n; i++)
		lr_cap_key(&caps[i], now, &keys[i]);
	taken = read_caps(keys, n);
	for (int i = 0; i < n; i++)
	{
		bool		open = caps[i].per == LR_PER_OPEN;
		Datum		values[] = {Int32GetDatum(caps[i].owner_id), Int32GetDatum(caps[i].pool_id), CStringGetTextDatum(lr_per_names[caps[i].per]),
			Int32GetDatum((int32) caps[i].maximum), TimestampTzGetDatum(keys[i].window_start), TimestampTzGetDatum(keys[i].window_end), Int64GetDatum(taken[i])};
		bool		isnull[] = {caps[i].owner_id == 0, caps[i].pool_id == 0, false, false, open, open, false};

		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	return (Datum) 0;
}

/* Reads counters, as they count for others; what is not in memory is counted, and not kept. */
static int64 *
read_caps(const LrCounterKey *keys, int n)
{
	int64	   *taken = palloc(sizeof(int64) * Max(n, 1));
	LrCounterKey *missing = palloc(sizeof(LrCounterKey) * Max(n, 1));
	int		   *places = palloc(sizeof(int) * Max(n, 1));
	int			nmissing = 0;
	Relation	rel;
	Relation	index;
	LrTally    *tallies;

	lr_counters_look();
	for (int i = 0; i < n; i++)
	{
		LrCounter  *counter = lr_counters_shared() ? lr_counter_peek(&keys[i]) : NULL;

		/* one of an earlier epoch is not what the next who needs it will read */
		if (counter && !counter->building && counter->counted == lr_counters_epoch()->epoch)
			taken[i] = lr_counter_read(counter, 0);
		else
		{
			places[nmissing] = i;
			missing[nmissing++] = keys[i];
		}
	}
	lr_counters_end();
	if (nmissing == 0)
		return taken;
	rel = table_open(lr_catalog()->tables[LR_TABLE_LEAD_STATES], AccessShareLock);
	index = lr_open_owner_index(rel);
	tallies = lr_tally_states(rel, index, missing, nmissing, SnapshotAny, NULL);
	if (index)
		index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	for (int i = 0; i < nmissing; i++)
	{
		taken[places[i]] = tallies[i].committed;
		for (int d = 0; d < tallies[i].ndoubts; d++)
		{
			const LrDoubt *doubt = &tallies[i].doubts[d];

			taken[places[i]] += TransactionIdIsCurrentTransactionId(doubt->xid) ? doubt->delta : Max(doubt->delta, 0);
		}
	}
	return taken;
}

/* Has all counters of the database counted again. */
Datum
leadroute_recount_caps(PG_FUNCTION_ARGS)
{
	(void) lr_catalog();
	lr_counters_changed(0, true);
	PG_RETURN_VOID();
}
