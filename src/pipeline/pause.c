/*
 * pause.c: keeping the leads of a table, a region or a pool pending, and letting them go on.
 *
 * A paused lead is a run that waits: it has its entry and its place, and goes on as others do that wait. Sessions keep what is paused until
 * that table changes, so where nothing is paused a batch asks one question of a list that is empty.
 */
#include "pipeline/pipeline.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "pipeline/by_hand.h"
#include "registry/registry.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/varlena.h"

PG_FUNCTION_INFO_V1(leadroute_pause_routing);
PG_FUNCTION_INFO_V1(leadroute_resume_routing);

/* What is paused; the other two are 0, or NULL. */
typedef struct Pause
{
	int			source_id;
	int			pool_id;
	char	   *region;
} Pause;

static Pause *pauses = NULL;	/* in pause_memory */
static int	npauses = 0;
static MemoryContext pause_memory = NULL;
static uint64 pauses_generation = 0;

static void load_pauses(void);
static bool covers(const Pause *pause, const LrRun *run);
static void read_scope(const char *scope, Pause *pause);
static void count(const LrRun *run, void *argument);

/* Tells whether a run has to wait: its table, its lead's region, or the pool that it leads to is paused. */
bool
lr_paused(const LrRun *run)
{
	if (run->batch->verifying || run->batch->evaluating || run->batch->mode == LR_MODE_SHADOW)
		return false;
	if (pauses_generation != lr_table_generation(LR_TABLE_ROUTING_PAUSES))
		load_pauses();
	for (int i = 0; i < npauses; i++)
	{
		if (covers(&pauses[i], run))
			return true;
	}
	return false;
}

static bool
covers(const Pause *pause, const LrRun *run)
{
	if (pause->source_id)
		return pause->source_id == run->batch->source->source_id;
	if (pause->pool_id)
		return pause->pool_id == run->pool_id;
	return !run->isnull[LR_REGION] && strcmp(TextDatumGetCString(run->values[LR_REGION]), pause->region) == 0;
}

static void
load_pauses(void)
{
	uint64		generation = lr_table_generation(LR_TABLE_ROUTING_PAUSES);
	LrIdentity	identity;
	uint64		n;

	if (pause_memory == NULL)
		pause_memory = AllocSetContextCreate(CacheMemoryContext, "leadroute pauses", ALLOCSET_SMALL_SIZES);
	npauses = 0;
	MemoryContextReset(pause_memory);
	lr_sql_begin(&identity);
	n = lr_sql("SELECT source_id, pool_id, region FROM leadroute.routing_pauses", true, 0, NULL, NULL, NULL);
	pauses = MemoryContextAllocZero(pause_memory, sizeof(Pause) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		char	   *region = lr_sql_text(i, 3);

		pauses[i].source_id = lr_sql_int32(i, 1, 0);
		pauses[i].pool_id = lr_sql_int32(i, 2, 0);
		pauses[i].region = region ? MemoryContextStrdup(pause_memory, region) : NULL;
	}
	lr_sql_end(&identity);
	npauses = (int) n;
	/* one that changed while it was read is read again */
	pauses_generation = generation;
}

/* Keeps leads pending; see the SQL comment. */
Datum
leadroute_pause_routing(PG_FUNCTION_ARGS)
{
	lr_refuse_nulls(fcinfo);

	char	   *scope = text_to_cstring(PG_GETARG_TEXT_PP(0));
	LrAct		act = {.act = "pause_routing",.subject = scope,.reason = text_to_cstring(PG_GETARG_TEXT_PP(1)),.current_user = GetUserId()};
	Pause		pause;
	LrIdentity	identity;
	Oid			types[] = {TEXTOID, INT4OID, INT4OID, TEXTOID, TEXTOID};
	Datum		values[5];
	char		nulls[5] = {' ', ' ', ' ', ' ', ' '};
	bool		made;

	lr_require_reason(true, act.reason);
	read_scope(scope, &pause);
	values[0] = PG_GETARG_DATUM(0);
	values[1] = Int32GetDatum(pause.source_id);
	nulls[1] = pause.source_id ? ' ' : 'n';
	values[2] = Int32GetDatum(pause.pool_id);
	nulls[2] = pause.pool_id ? ' ' : 'n';
	values[3] = pause.region ? CStringGetTextDatum(pause.region) : (Datum) 0;
	nulls[3] = pause.region ? ' ' : 'n';
	values[4] = PG_GETARG_DATUM(1);
	lr_sql_begin(&identity);
	made = lr_sql("INSERT INTO leadroute.routing_pauses (scope, source_id, pool_id, region, reason) VALUES ($1, $2, $3, $4, $5)"
				  " ON CONFLICT (scope) DO NOTHING RETURNING scope", false, 5, types, values, nulls) > 0;
	lr_sql_end(&identity);
	if (made)
		lr_record_act(&act);
	PG_RETURN_BOOL(made);
}

/* Ends a pause; see the SQL comment. */
Datum
leadroute_resume_routing(PG_FUNCTION_ARGS)
{
	lr_refuse_nulls(fcinfo);

	char	   *scope = text_to_cstring(PG_GETARG_TEXT_PP(0));
	LrAct		act = {.act = "resume_routing",.subject = scope,.reason = text_to_cstring(PG_GETARG_TEXT_PP(1)),.current_user = GetUserId()};
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {TEXTOID};
	Datum		values[] = {PG_GETARG_DATUM(0)};
	List	   *left = NIL;
	int64		gone_on = 0;
	int64	   *lead_ids;
	bool		ended;
	int			n;

	lr_states_enter();
	lr_sql_begin(&identity);
	ended = lr_sql("DELETE FROM leadroute.routing_pauses WHERE scope = $1 RETURNING scope", false, 1, types, values, NULL) > 0;
	n = (int) lr_sql("SELECT lead_id FROM leadroute.lead_states WHERE outcome = 'pending' AND reason_code = 'paused' AND closed_at IS NULL AND finished_at IS NULL"
					 " ORDER BY since, lead_id FOR UPDATE SKIP LOCKED", false, 0, NULL, NULL, NULL);
	lead_ids = lr_sql_int64s(n, memory);
	lr_sql_end(&identity);
	if (ended)
	{
		act.reason = act.reason[0] ? act.reason : "resumed";
		lr_record_act(&act);
	}
	if (n > 0)
		lr_route_by_ids(lead_ids, n, &(LrByIds) {.cause = 'p',.locked = true,.left = &left,.done = count,.argument = &gone_on});
	PG_RETURN_INT64(gone_on);
}

static void
count(const LrRun *run, void *argument)
{
	*(int64 *) argument += run->outcome == LR_PENDING && strcmp(run->reason, "paused") == 0 ? 0 : 1;
}

/* Reads a scope, and finds what it names. */
static void
read_scope(const char *scope, Pause *pause)
{
	const char *name = strchr(scope, ':');
	LrIdentity	identity;
	Oid			types[] = {TEXTOID, OIDOID};
	Datum		values[2];
	uint64		found;

	memset(pause, 0, sizeof(*pause));
	if (name == NULL || name[1] == '\0' || (strncmp(scope, "pool:", 5) != 0 && strncmp(scope, "source:", 7) != 0 && strncmp(scope, "region:", 7) != 0))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("\"%s\" is no scope of a pause", scope),
				errhint("Give pool:name, source:table or region:name."));
	name++;
	if (scope[0] == 'r')
	{
		pause->region = pstrdup(name);
		return;
	}
	values[0] = CStringGetTextDatum(name);
	/* the search path is pinned: a table is named with its schema */
	values[1] = ObjectIdGetDatum(scope[0] == 's' ? RangeVarGetRelid(makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(name))), NoLock, true) : InvalidOid);
	lr_sql_begin(&identity);
	found = scope[0] == 's' ? lr_sql("SELECT source_id FROM leadroute.attached_tables WHERE relation = $2", true, 2, types, values, NULL)
		: lr_sql("SELECT pool_id FROM leadroute.pools WHERE name = $1", true, 1, types, values, NULL);
	if (found && scope[0] == 's')
		pause->source_id = lr_sql_int32(0, 1, 0);
	else if (found)
		pause->pool_id = lr_sql_int32(0, 1, 0);
	lr_sql_end(&identity);
	if (!found)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				scope[0] == 's' ? errmsg("table \"%s\" is not attached", name) : errmsg("there is no pool \"%s\"", name),
				scope[0] == 's' ? errhint("See leadroute.attached_tables; qualify the table with its schema.") : errhint("See leadroute.pools."));
}
