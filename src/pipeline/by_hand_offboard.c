/*
 * by_hand_offboard.c: offboard_owner(): somebody leaves, and all open leads that they have are decided anew, in one transaction.
 *
 * Leads come in meanwhile. A statement that decided while the owner was still available has to be seen before the leads are looked for,
 * and one that decides from then on has to see that the owner is not. So every routing takes, before it reads anything that it decides by,
 * the lock on lead_states that it will write under anyway (lr_states_enter()), in a mode in which writers do not meet. Offboarding takes
 * it in one that writers have to wait for: it waits for those that may have decided, and those that come behind it begin with what it
 * committed, since taking the lock also takes in what others changed. No insert waits for another one; while somebody is offboarded they
 * wait for that.
 *
 * To keep them from waiting behind a long transaction for which the offboarding waits, the first wait is without a place in the queue.
 *
 * Once the lock is there nobody else holds a state, and the rows of leads are read without locks: nothing else is waited for.
 */
#include "pipeline/by_hand.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(leadroute_offboard_owner);

/* Columns of the result. */
enum
{
	LEAD_ID, OLD_OWNER, NEW_OWNER, OUTCOME, REASON_CODE, DECISION_ID, N_COLUMNS
};

typedef struct Offboarding
{
	ReturnSetInfo *result;
	int			owner_id;
	char	   *owner;
	char	   *reason;
	Oid			user;
} Offboarding;

static void wait_for_writers(void);
static void switch_off(int owner_id);
static int64 *leads_of(int owner_id, int *n);
static void decided(const LrRun *run, void *argument);
static void leave_waiting(Offboarding *work, int64 lead_id);
static void put_row(Offboarding *work, int64 lead_id, int64 old_run_id, int64 run_id, LrOutcome outcome, int owner_id, const char *reason_code);

/* Takes an owner's open leads away, because they leave; see the SQL comment. */
Datum
leadroute_offboard_owner(PG_FUNCTION_ARGS)
{
	lr_refuse_nulls(fcinfo);

	Offboarding work = {.result = (ReturnSetInfo *) fcinfo->resultinfo,.user = GetUserId()};
	List	   *left = NIL;
	ListCell   *cell;
	int64	   *lead_ids;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	work.owner = TextDatumGetCString(PG_GETARG_DATUM(0));
	work.reason = lr_reason_of_argument(PG_GETARG_DATUM(1));
	work.owner_id = lr_owner_of_argument(PG_GETARG_DATUM(0)).owner_id;
	wait_for_writers();
	switch_off(work.owner_id);
	lead_ids = leads_of(work.owner_id, &n);
	lr_route_by_ids(lead_ids, n, &(LrByIds) {.cause = 'l',.note = work.reason,.locked = true,.left = &left,.done = decided,.argument = &work});
	foreach(cell, left)
		leave_waiting(&work, lead_ids[lfirst_int(cell)]);
	return (Datum) 0;
}

static void
wait_for_writers(void)
{
	LOCKTAG		tag;
	Oid			states = lr_catalog()->tables[LR_TABLE_LEAD_STATES];

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, states);
	WaitForLockers(tag, ShareRowExclusiveLock, false);
	LockRelationOid(states, ShareRowExclusiveLock);
}

/* Switches an owner off, and makes today the last day; what is so already stays. */
static void
switch_off(int owner_id)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(owner_id)};

	lr_sql_begin(&identity);
	lr_sql("UPDATE leadroute.owners o SET available = false, ends_on = greatest(o.starts_on, least(o.ends_on, d.today))"
		   " FROM leadroute.owners p, LATERAL (SELECT (clock_timestamp() AT TIME ZONE p.timezone)::date AS today) d"
		   " WHERE o.owner_id = $1 AND p.owner_id = $1 AND (o.available OR o.ends_on IS NULL OR o.ends_on > greatest(o.starts_on, d.today))",
		   false, 1, types, values, NULL);
	lr_sql_end(&identity);
}

/* The open leads that an owner has, those of one table together. */
static int64 *
leads_of(int owner_id, int *n)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(owner_id)};
	int64	   *lead_ids;

	lr_sql_begin(&identity);
	*n = (int) lr_sql("SELECT lead_id FROM leadroute.lead_states WHERE owner_id = $1 AND outcome = 'assigned' AND closed_at IS NULL AND finished_at IS NULL"
					  " ORDER BY source_id, lead_id", true, 1, types, values, NULL);
	lead_ids = lr_sql_int64s(*n, memory);
	lr_sql_end(&identity);
	return lead_ids;
}

static void
decided(const LrRun *run, void *argument)
{
	put_row(argument, run->lead_id, run->supersedes, run->run_id, run->outcome, run->owner_id, run->reason);
}

/* Has a lead wait that cannot be routed: its table is detached, its row is gone, or its policy is not active. */
static void
leave_waiting(Offboarding *work, int64 lead_id)
{
	LrLeadState *state = lr_lead_state_lock(lead_id);
	LrGift		gift = {.outcome = LR_PENDING,.pool_id = state->pool_id,.cause = 'l',.reason_code = "owner_left",.note = work->reason,.user = work->user};
	int64		run_id = lr_give_lead(state, &gift);

	put_row(work, lead_id, state->run_id, run_id, LR_PENDING, 0, gift.reason_code);
}

static void
put_row(Offboarding *work, int64 lead_id, int64 old_run_id, int64 run_id, LrOutcome outcome, int owner_id, const char *reason_code)
{
	Datum		values[N_COLUMNS];
	bool		nulls[N_COLUMNS] = {false};
	char	   *owner;
	char	   *pool;

	lr_lead_act(&(LrLeadAct) {.act = "offboard",.lead_id = lead_id,.run_id = old_run_id,.new_run_id = run_id,.owner_id = work->owner_id,
				.reason = work->reason,.user = work->user});
	lr_names_of(owner_id, 0, &owner, &pool);
	values[LEAD_ID] = Int64GetDatum(lead_id);
	lr_put_name(values, nulls, OLD_OWNER, work->owner);
	lr_put_name(values, nulls, NEW_OWNER, owner);
	values[OUTCOME] = ObjectIdGetDatum(lr_catalog()->outcomes[outcome]);
	lr_put_name(values, nulls, REASON_CODE, reason_code);
	values[DECISION_ID] = Int64GetDatum(run_id);
	tuplestore_putvalues(work->result->setResult, work->result->setDesc, values, nulls);
}
