/*
 * by_hand_lead.c: what all acts of people on leads need: the lead's state, locked; the record of acts; owners by reference.
 *
 * Whoever acts on a lead locks its state first, several in the order of their ids, so acts on one lead happen one after the other. Before
 * that comes the lock on the table of states that every writer takes, in a mode in which writers do not meet: see by_hand_offboard.c.
 * Rows of leads are read without a lock: as long as the state is locked nobody else decides on the lead, and a statement that changes
 * the row meanwhile routes it again behind us.
 */
#include "pipeline/by_hand.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "workers/workers.h"

#define STATE_QUERY "SELECT s.lead_id, s.run_id, s.source_id, s.policy_version_id, s.outcome, s.owner_id, s.pool_id, s.score, s.tier, s.reason_code," \
	" s.accepted_at, s.responded_at, s.finished_at, s.result, s.closed_at IS NOT NULL," \
	" EXISTS (SELECT FROM leadroute.entries e WHERE e.run_id = s.run_id AND e.as_of = s.since AND e.cause IN ('r', 'h'))," \
	" s.load, s.expected_value, s.response_due_at, s.since, s.closed_reason IS NOT DISTINCT FROM 'merged', w.entry_no, w.supersedes" \
	" FROM leadroute.lead_states s LEFT JOIN LATERAL (SELECT e.entry_no, e.supersedes FROM leadroute.entries e WHERE e.run_id = s.run_id AND e.as_of >= s.since" \
	"  ORDER BY e.entry_no DESC LIMIT 1) w ON s.outcome = 'pending' AND s.reason_code = ANY ('{waiting,review,paused}')" \
	" WHERE s.lead_id = ANY ($1) ORDER BY s.lead_id"

static void read_state(uint64 row, LrLeadState *state);
static TimestampTz moment_of(uint64 row, int column);
static void read_owner(LrOwner *owner);

/* What is read of an owner; days are those of the owner's own time zone. */
#define OWNER_COLUMNS "o.owner_id, o.available AND coalesce(o.starts_on <= d.today, true) AND coalesce(o.ends_on >= d.today, true)," \
	" coalesce(o.ends_on < d.today OR (o.ends_on = d.today AND NOT o.available), false)" \
	" FROM leadroute.owners o, LATERAL (SELECT (clock_timestamp() AT TIME ZONE o.timezone)::date AS today) d"

/* Takes the lock that keeps an owner from being offboarded until the transaction ends. Writers of states do not meet at it. */
void
lr_states_enter(void)
{
	LockRelationOid(lr_catalog()->tables[LR_TABLE_LEAD_STATES], RowExclusiveLock);
}

/* ---- states ---- */

/* Finds the states of leads, in the order of their ids, in the current memory context, and locks them if asked to. */
LrLeadState *
lr_lead_states_find(const int64 *lead_ids, int n, bool lock, int *nfound)
{
	MemoryContext memory = CurrentMemoryContext;
	MemoryContext saved;
	LrIdentity	identity;
	Oid			types[] = {INT8ARRAYOID};
	Datum		values[1];
	LrLeadState *states;

	values[0] = lr_int8_array(lead_ids, n);
	if (lock)
		lr_states_enter();
	lr_sql_begin(&identity);
	/* who waited for a lock reads again: the row would be the latest, but what is looked up beside it as old as the statement */
	if (lock)
		(void) lr_sql("SELECT FROM leadroute.lead_states WHERE lead_id = ANY ($1) ORDER BY lead_id FOR UPDATE", false, 1, types, values, NULL);
	*nfound = (int) (lock ? lr_sql(STATE_QUERY " FOR UPDATE OF s", false, 1, types, values, NULL) : lr_sql(STATE_QUERY, true, 1, types, values, NULL));
	saved = MemoryContextSwitchTo(memory);
	states = palloc_extended(sizeof(LrLeadState) * Max(*nfound, 1), MCXT_ALLOC_HUGE);
	for (int i = 0; i < *nfound; i++)
		read_state(i, &states[i]);
	MemoryContextSwitchTo(saved);
	lr_sql_end(&identity);
	return states;
}

/* Finds and locks the state of one lead; raises 42704 if there is none. */
LrLeadState *
lr_lead_state_lock(int64 lead_id)
{
	int			n;
	LrLeadState *state = lr_lead_states_find(&lead_id, 1, true, &n);

	if (n == 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("lead " INT64_FORMAT " does not exist", lead_id),
				errhint("See leadroute.lead_states; lead_of() finds the lead of a row."));
	return state;
}

/* Raises 55000 unless a lead was decided, has a row, and is neither merged nor closed. */
void
lr_lead_must_be_open(const LrLeadState *state)
{
	if (state->merged)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("lead " INT64_FORMAT " was merged into another lead", state->lead_id),
				errhint("Name that one: leadroute.surviving_lead(" INT64_FORMAT ") says which.", state->lead_id));
	if (state->gone)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("the row of lead " INT64_FORMAT " is gone", state->lead_id),
				errhint("Its decisions stay on record: see leadroute.lead_timeline."));
	if (state->run_id == 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("no run has decided lead " INT64_FORMAT " yet", state->lead_id),
				errhint("Route it first, with leadroute.route_lead() or leadroute.route_pending()."));
	if (state->finished_at != 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("lead " INT64_FORMAT " is closed: %s", state->lead_id, state->result),
				errhint("Reopen it first, with leadroute.reopen_lead()."));
}

static void
read_state(uint64 row, LrLeadState *state)
{
	bool		isnull;
	double		score;

	state->lead_id = lr_sql_int64(row, 1, 0);
	state->run_id = lr_sql_int64(row, 2, 0);
	state->source_id = lr_sql_int32(row, 3, 0);
	state->policy_version_id = lr_sql_int32(row, 4, 0);
	(void) lr_outcome_by_name(lr_sql_text(row, 5), &state->outcome);
	state->owner_id = lr_sql_int32(row, 6, 0);
	state->pool_id = lr_sql_int32(row, 7, 0);
	score = DatumGetFloat8(lr_sql_datum(row, 8, &isnull));
	state->score = isnull ? -1 : (int) score;
	state->tier = lr_sql_text(row, 9);
	state->reason_code = lr_sql_text(row, 10);
	state->accepted_at = moment_of(row, 11);
	state->responded_at = moment_of(row, 12);
	state->finished_at = moment_of(row, 13);
	state->result = lr_sql_text(row, 14);
	state->gone = DatumGetBool(lr_sql_datum(row, 15, &isnull));
	state->by_person = DatumGetBool(lr_sql_datum(row, 16, &isnull));
	state->load = DatumGetInt16(lr_sql_datum(row, 17, &isnull));
	state->load = isnull ? 1 : state->load;
	state->expected_value = lr_sql_int64(row, 18, PG_INT64_MIN);
	state->response_due_at = moment_of(row, 19);
	state->since = moment_of(row, 20);
	state->merged = DatumGetBool(lr_sql_datum(row, 21, &isnull));
	state->entry_no = DatumGetInt16(lr_sql_datum(row, 22, &isnull));
	state->entry_no = isnull ? 0 : state->entry_no;
	state->waiting_supersedes = lr_sql_int64(row, 23, 0);
}

static TimestampTz
moment_of(uint64 row, int column)
{
	bool		isnull;
	Datum		moment = lr_sql_datum(row, column, &isnull);

	return isnull ? 0 : DatumGetTimestampTz(moment);
}

/* ---- acts ---- */

/* Puts an act on record; returns its id. */
int64
lr_lead_act(const LrLeadAct *act)
{
	LrIdentity	identity;
	Oid			types[] = {TEXTOID, INT8OID, INT8OID, INT8OID, INT4OID, TEXTOID, TIMESTAMPTZOID, INT8OID, OIDOID};
	Datum		values[lengthof(types)];
	char		nulls[lengthof(types)];
	int64		act_id;

	memset(nulls, ' ', sizeof(nulls));
	values[0] = CStringGetTextDatum(act->act);
	values[1] = Int64GetDatum(act->lead_id);
	values[2] = Int64GetDatum(act->run_id);
	nulls[2] = act->run_id ? ' ' : 'n';
	values[3] = Int64GetDatum(act->new_run_id);
	nulls[3] = act->new_run_id ? ' ' : 'n';
	values[4] = Int32GetDatum(act->owner_id);
	nulls[4] = act->owner_id ? ' ' : 'n';
	values[5] = CStringGetTextDatum(act->reason ? act->reason : "");
	nulls[5] = act->reason && act->reason[0] ? ' ' : 'n';
	values[6] = TimestampTzGetDatum(act->effective_at);
	nulls[6] = act->effective_at ? ' ' : 'n';
	values[7] = Int64GetDatum(act->batch_id);
	nulls[7] = act->batch_id ? ' ' : 'n';
	values[8] = ObjectIdGetDatum(act->user);
	lr_sql_begin(&identity);
	lr_sql_kept(LR_PLAN_LEAD_ACT,
				"INSERT INTO leadroute.lead_acts (act, lead_id, run_id, new_run_id, owner_id, reason, effective_at, batch_id, by_user)"
				" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::pg_catalog.regrole) RETURNING act_id", lengthof(types), types, values, nulls);
	act_id = lr_sql_int64(0, 1, 0);
	lr_sql_end(&identity);
	lr_event_of_act(act);
	lr_sla_of_act(act);
	return act_id;
}

/* Gives each run of a batch the owners who declined its lead, since it was last accepted or reopened: they are not asked again. */
void
lr_find_declined(LrBatch *batch)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {INT8ARRAYOID};
	Datum		values[1];
	int64	   *lead_ids = palloc(sizeof(int64) * Max(batch->n, 1));
	uint64		n;

	for (int i = 0; i < batch->n; i++)
		lead_ids[i] = batch->runs[i].lead_id;
	values[0] = lr_int8_array(lead_ids, batch->n);
	lr_sql_begin(&identity);
	n = lr_sql_kept(LR_PLAN_DECLINED,
					"SELECT a.lead_id, array_agg(DISTINCT a.owner_id) FROM leadroute.lead_acts a WHERE a.lead_id = ANY ($1) AND a.act IN ('decline', 'sla_reassign', 'sla_escalate')"
					" AND NOT EXISTS (SELECT FROM leadroute.lead_acts l WHERE l.lead_id = a.lead_id AND l.act IN ('accept', 'reopen') AND l.act_id > a.act_id)"
					" GROUP BY a.lead_id", 1, types, values, NULL);
	for (uint64 row = 0; row < n; row++)
	{
		int64		lead_id = lr_sql_int64(row, 1, 0);
		bool		isnull;
		ArrayType  *owners = DatumGetArrayTypeP(lr_sql_datum(row, 2, &isnull));
		int			nowners = ArrayGetNItems(ARR_NDIM(owners), ARR_DIMS(owners));

		for (int i = 0; i < batch->n; i++)
		{
			LrRun	   *run = &batch->runs[i];

			if (run->lead_id != lead_id)
				continue;
			run->nexcluded = nowners;
			run->excluded = MemoryContextAlloc(memory, sizeof(int) * nowners);
			memcpy(run->excluded, ARR_DATA_PTR(owners), sizeof(int) * nowners);
		}
	}
	lr_sql_end(&identity);
}

/* Tells whether an owner declined the lead of a run. */
bool
lr_run_excludes(const LrRun *run, int owner_id)
{
	for (int i = 0; i < run->nexcluded; i++)
	{
		if (run->excluded[i] == owner_id)
			return true;
	}
	return false;
}

/* ---- owners ---- */

/* Finds an owner by the reference; false if there is none. */
bool
lr_owner_find(const char *reference, LrOwner *owner)
{
	LrIdentity	identity;
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(reference)};
	bool		found;

	lr_sql_begin(&identity);
	found = lr_sql("SELECT " OWNER_COLUMNS " WHERE o.reference = $1", true, 1, types, values, NULL) > 0;
	if (found)
		read_owner(owner);
	lr_sql_end(&identity);
	return found;
}

/* Returns the owner whom an argument names; raises 42704 if there is none. */
LrOwner
lr_owner_of_argument(Datum reference)
{
	char	   *name = TextDatumGetCString(reference);
	LrOwner		owner;

	if (!lr_owner_find(name, &owner))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("there is no owner \"%s\"", name),
				errhint("Give a reference as in leadroute.owners."));
	return owner;
}

/* Tells whether an owner has left: the last day has come. */
bool
lr_owner_left(int owner_id)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(owner_id)};
	LrOwner		owner = {.left = true};

	lr_sql_begin(&identity);
	if (lr_sql("SELECT " OWNER_COLUMNS " WHERE o.owner_id = $1", true, 1, types, values, NULL) > 0)
		read_owner(&owner);
	lr_sql_end(&identity);
	return owner.left;
}

static void
read_owner(LrOwner *owner)
{
	bool		isnull;

	owner->owner_id = lr_sql_int32(0, 1, 0);
	owner->available = DatumGetBool(lr_sql_datum(0, 2, &isnull));
	owner->left = DatumGetBool(lr_sql_datum(0, 3, &isnull));
}

/* Tells whether an owner is a member of a pool. */
bool
lr_is_member(int pool_id, int owner_id)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(pool_id), Int32GetDatum(owner_id)};
	bool		found;

	lr_sql_begin(&identity);
	found = lr_sql("SELECT FROM leadroute.pool_members WHERE pool_id = $1 AND owner_id = $2", true, 2, types, values, NULL) > 0;
	lr_sql_end(&identity);
	return found;
}

/* Finds the reference of an owner and the name of a pool, in the current memory context; NULL for those that there are not. */
void
lr_names_of(int owner_id, int pool_id, char **owner, char **pool)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(owner_id), Int32GetDatum(pool_id)};
	MemoryContext saved;

	lr_sql_begin(&identity);
	(void) lr_sql_kept(LR_PLAN_NAMES,
					   "SELECT (SELECT o.reference FROM leadroute.owners o WHERE o.owner_id = $1), (SELECT p.name FROM leadroute.pools p WHERE p.pool_id = $2)",
					   2, types, values, NULL);
	saved = MemoryContextSwitchTo(memory);
	*owner = lr_sql_text(0, 1);
	*pool = lr_sql_text(0, 2);
	MemoryContextSwitchTo(saved);
	lr_sql_end(&identity);
}

/* Gives a column of a result a text; NULL is null. */
void
lr_put_name(Datum *values, bool *nulls, int column, const char *text)
{
	nulls[column] = text == NULL;
	values[column] = text ? CStringGetTextDatum(text) : (Datum) 0;
}

/* Returns the reason that an argument gives; raises 22023 if it is empty. */
char *
lr_reason_of_argument(Datum reason)
{
	char	   *words = TextDatumGetCString(reason);

	lr_require_reason(true, words);
	return words;
}
