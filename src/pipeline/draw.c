/*
 * draw.c: drawing leads from the overflows of pools, those that wait longest first.
 *
 * They are routed again as they are now; who can still be given to nobody waits on, and keeps the place. Leads that somebody else
 * has in hand are left out: two that draw at once, or somebody who routes a lead by hand, do not wait for each other.
 */
#include "pipeline/by_hand.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(leadroute_draw_overflow);

/* Which leads are drawn; what is 0 does not matter. */
typedef struct Wanted
{
	Datum		pool;			/* a text, its name */
	int			of_owner;		/* of pools that this owner is a member of */
	int64		max;			/* of each pool */
} Wanted;

static int64 draw(const Wanted *wanted);
static int64 *lock_waiting(const Wanted *wanted, int *n);
static void count_drawn(const LrRun *run, void *argument);

/* Routes leads again that wait in overflows; see the SQL comment. */
Datum
leadroute_draw_overflow(PG_FUNCTION_ARGS)
{
	Wanted		wanted = {.max = PG_ARGISNULL(1) ? PG_INT64_MAX : PG_GETARG_INT32(1)};

	if (wanted.max < 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("max is negative"),
				errhint("Give how many leads are tried at most; null for all."));
	if (!PG_ARGISNULL(0))
	{
		LrIdentity	identity;
		Oid			types[] = {TEXTOID};

		wanted.pool = PG_GETARG_DATUM(0);
		lr_sql_begin(&identity);
		if (lr_sql("SELECT FROM leadroute.pools WHERE name = $1", true, 1, types, &wanted.pool, NULL) == 0)
			ereport(ERROR,
					errcode(ERRCODE_UNDEFINED_OBJECT),
					errmsg("there is no pool \"%s\"", TextDatumGetCString(wanted.pool)),
					errhint("See leadroute.pools."));
		lr_sql_end(&identity);
	}
	PG_RETURN_INT64(draw(&wanted));
}

/* Gives leads that wait to an owner whose place became free, or to whoever else can take them now: as many as there are places. */
void
lr_draw_for_owner(int owner_id, int64 max)
{
	(void) draw(&(Wanted) {.of_owner = owner_id,.max = max});
}

static int64
draw(const Wanted *wanted)
{
	List	   *left = NIL;
	int64		drawn = 0;
	int64	   *lead_ids;
	int			n;

	lr_states_enter();
	lead_ids = lock_waiting(wanted, &n);
	/* leads whose row or table is gone wait for those who see to that */
	if (n > 0)
		lr_route_by_ids(lead_ids, n, &(LrByIds) {.cause = 'v',.locked = true,.left = &left,.done = count_drawn,.argument = &drawn});
	return drawn;
}

static int64 *
lock_waiting(const Wanted *wanted, int *n)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {TEXTOID, INT4OID, INT8OID};
	Datum		values[] = {wanted->pool, Int32GetDatum(wanted->of_owner), Int64GetDatum(wanted->max)};
	char		nulls[] = {wanted->pool ? ' ' : 'n', ' ', ' '};
	int64	   *lead_ids;

	lr_sql_begin(&identity);
	/* so many of each pool, lest one that nobody helps keeps the others waiting; what is locked is looked at again */
	*n = (int) lr_sql("SELECT s.lead_id FROM leadroute.lead_states s JOIN (SELECT w.lead_id, row_number() OVER (PARTITION BY w.pool_id ORDER BY w.since, w.lead_id) AS place"
					  "  FROM leadroute.lead_states w JOIN leadroute.attached_tables t ON t.source_id = w.source_id AND t.relation IS NOT NULL AND t.mode = 'route'"
					  "  WHERE w.outcome = 'pending' AND w.reason_code = 'overflow' AND w.closed_at IS NULL AND w.finished_at IS NULL"
					  "  AND ($1 IS NULL OR w.pool_id = (SELECT p.pool_id FROM leadroute.pools p WHERE p.name = $1))"
					  "  AND ($2 = 0 OR w.pool_id = ANY (ARRAY(SELECT m.pool_id FROM leadroute.pool_members m WHERE m.owner_id = $2)))) w USING (lead_id)"
					  " WHERE w.place <= $3 AND s.outcome = 'pending' AND s.reason_code = 'overflow' AND s.closed_at IS NULL AND s.finished_at IS NULL"
					  " ORDER BY s.since, s.lead_id FOR UPDATE OF s SKIP LOCKED", false, 3, types, values, nulls);
	lead_ids = lr_sql_int64s(*n, memory);
	lr_sql_end(&identity);
	return lead_ids;
}

static void
count_drawn(const LrRun *run, void *argument)
{
	*(int64 *) argument += run->outcome != LR_PENDING && !run->unchanged ? 1 : 0;
}
