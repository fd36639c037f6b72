/*
 * policy.c: the policy versions that this session has compiled.
 *
 * Versions never change, so a compiled one stays good until something that it resolved to changes: the registry of agents, a
 * function of an SQL agent, or the extension itself. Which version is active is remembered by policy name, until the table
 * of policies changes. A statement holds its version from beginning to end: it sees one version throughout, whatever other
 * sessions activate meanwhile.
 */
#include "policy/policy.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

typedef struct ActiveVersion
{
	char	   *name;
	int			version_id;		/* 0 if none is active */
	int			scheduled_id;	/* 0, or the version that is so from this moment on */
	TimestampTz scheduled_at;
} ActiveVersion;

static List *compiled = NIL;	/* of LrPolicy, in policy_memory */
static MemoryContext policy_memory = NULL;
static uint64 agents_generation;
static uint64 documents_generation;

static List *active = NIL;		/* of ActiveVersion, in active_memory */
static MemoryContext active_memory = NULL;
static uint64 policies_generation;

static bool functions_changed = false;
static bool types_changed = false;

typedef struct Attempt
{
	int			version_id;
	LrPolicy   *policy;
} Attempt;

static LrPolicy *find_compiled(int version_id, bool reading);
static void try_load(void *argument);
static void function_invalidated(Datum argument, int cacheid, uint32 hashvalue);
static void type_invalidated(Datum argument, int cacheid, uint32 hashvalue);
static void transaction_ended(XactEvent event, void *argument);
static int	active_version(const char *name, TimestampTz as_of);
static int	version_at(const ActiveVersion *entry, TimestampTz as_of);
static LrPolicy *load(int version_id, bool reading);
static void drop_stale(void);
static bool uses_functions(const LrPolicy *policy);

/* Registers for invalidations. */
void
lr_policy_init(void)
{
	CacheRegisterSyscacheCallback(PROCOID, function_invalidated, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, type_invalidated, (Datum) 0);
	CacheRegisterSyscacheCallback(ENUMOID, type_invalidated, (Datum) 0);
	RegisterXactCallback(transaction_ended, NULL);
}

/* Holds the version of a policy that is active at a moment; NULL if none is. Release it at the end of the statement. */
LrPolicy *
lr_policy_hold_active(const char *name, TimestampTz as_of)
{
	int			version_id = active_version(name, as_of);

	return version_id == 0 ? NULL : lr_policy_hold(version_id);
}

/*
 * Holds the active version of a policy as lr_policy_hold_active() does, but a version that cannot be used, because what it
 * pins is no longer what it was, sets *unusable and gives NULL instead of raising.
 */
LrPolicy *
lr_policy_try_hold_active(const char *name, TimestampTz as_of, bool *unusable)
{
	int			version_id = active_version(name, as_of);

	*unusable = false;
	return version_id == 0 ? NULL : lr_policy_try_hold(version_id, unusable);
}

/* Holds a policy version, or sets *unusable and gives NULL where it cannot be used. */
LrPolicy *
lr_policy_try_hold(int version_id, bool *unusable)
{
	Attempt		attempt = {.version_id = version_id};
	int			sqlstate;

	*unusable = false;
	attempt.policy = find_compiled(attempt.version_id, false);
	if (attempt.policy == NULL && !lr_guard(try_load, &attempt, &sqlstate))
		*unusable = true;
	if (attempt.policy)
		attempt.policy->users++;
	return attempt.policy;
}

/* Holds a policy version, compiled. Release it at the end of the statement. */
LrPolicy *
lr_policy_hold(int version_id)
{
	LrPolicy   *policy = find_compiled(version_id, false);

	if (policy == NULL)
		policy = load(version_id, false);
	policy->users++;
	return policy;
}

/*
 * Holds a policy version for reading records that were made under it. They stay readable when the version can no longer
 * decide, because a document or a type that it pins has changed. Release it when the record is read.
 */
LrPolicy *
lr_policy_hold_to_read(int version_id)
{
	LrPolicy   *policy = find_compiled(version_id, true);

	if (policy == NULL)
		policy = load(version_id, true);
	policy->users++;
	return policy;
}

static LrPolicy *
find_compiled(int version_id, bool reading)
{
	ListCell   *cell;

	/* to look it up counts as a change of all tables: before, not while a version is compiled */
	(void) lr_catalog();
	drop_stale();
	foreach(cell, compiled)
	{
		LrPolicy   *candidate = lfirst(cell);

		if (candidate->version_id == version_id && !candidate->stale && (reading || !candidate->reading))
			return candidate;
	}
	return NULL;
}

static void
try_load(void *argument)
{
	Attempt    *attempt = argument;

	attempt->policy = load(attempt->version_id, false);
}

/* Ends a hold. After an error the end of the transaction does it. */
void
lr_policy_release(LrPolicy *policy)
{
	policy->users--;
}

static void
function_invalidated(Datum argument, int cacheid, uint32 hashvalue)
{
	functions_changed = true;
}

static void
type_invalidated(Datum argument, int cacheid, uint32 hashvalue)
{
	types_changed = true;
}

/* No statement outlives its transaction: holds that an error left behind end here. */
static void
transaction_ended(XactEvent event, void *argument)
{
	ListCell   *cell;

	if (event != XACT_EVENT_ABORT && event != XACT_EVENT_COMMIT && event != XACT_EVENT_PREPARE)
		return;
	foreach(cell, compiled)
		((LrPolicy *) lfirst(cell))->users = 0;
}

/* Frees compiled versions that are out of date and that no statement holds. */
static void
drop_stale(void)
{
	ListCell   *cell;

	if (agents_generation != lr_table_generation(LR_TABLE_AGENTS) || documents_generation != lr_table_generation(LR_TABLE_DOCUMENTS))
	{
		agents_generation = lr_table_generation(LR_TABLE_AGENTS);
		documents_generation = lr_table_generation(LR_TABLE_DOCUMENTS);
		foreach(cell, compiled)
			((LrPolicy *) lfirst(cell))->stale = true;
	}
	if (functions_changed || types_changed)
	{
		foreach(cell, compiled)
		{
			LrPolicy   *policy = lfirst(cell);

			if ((functions_changed && uses_functions(policy)) || (types_changed && policy->types != NIL))
				policy->stale = true;
		}
		functions_changed = types_changed = false;
	}
	foreach(cell, compiled)
	{
		LrPolicy   *policy = lfirst(cell);

		if (policy->stale && policy->users == 0)
		{
			compiled = foreach_delete_current(compiled, cell);
			MemoryContextDelete(policy->memory);
		}
	}
}

static bool
uses_functions(const LrPolicy *policy)
{
	for (int i = 0; i < policy->nsteps; i++)
	{
		if (policy->steps[i].builtin == NULL)
			return true;
	}
	return false;
}

/*
 * Returns the id of the version of a policy that is active at a moment, 0 if there is none. A scheduled activation needs nobody
 * to carry it out: the row says from when on which version decides, and every session knows it beforehand.
 */
static int
active_version(const char *name, TimestampTz as_of)
{
	ActiveVersion *entry;
	ActiveVersion found = {0};
	ListCell   *cell;
	LrIdentity	identity;
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	uint64		generation = lr_table_generation(LR_TABLE_POLICIES);
	MemoryContext saved;

	if (active_memory == NULL)
		active_memory = AllocSetContextCreate(CacheMemoryContext, "leadroute active policies", ALLOCSET_SMALL_SIZES);
	if (policies_generation != generation)
	{
		active = NIL;
		MemoryContextReset(active_memory);
		policies_generation = generation;
	}
	foreach(cell, active)
	{
		entry = lfirst(cell);
		if (strcmp(entry->name, name) == 0)
			return version_at(entry, as_of);
	}

	lr_sql_begin(&identity);
	if (lr_sql("SELECT active_version_id, scheduled_version_id, scheduled_at FROM leadroute.policies WHERE name = $1", true, 1, types, values, NULL) > 0)
	{
		found.version_id = lr_sql_int32(0, 1, 0);
		found.scheduled_id = lr_sql_int32(0, 2, 0);
		found.scheduled_at = (TimestampTz) lr_sql_int64(0, 3, 0);
	}
	lr_sql_end(&identity);

	/* an invalidation that came meanwhile makes what was read out of date at once: then it is not kept */
	if (generation == lr_table_generation(LR_TABLE_POLICIES))
	{
		saved = MemoryContextSwitchTo(active_memory);
		entry = palloc(sizeof(ActiveVersion));
		*entry = found;
		entry->name = pstrdup(name);
		active = lappend(active, entry);
		MemoryContextSwitchTo(saved);
	}
	return version_at(&found, as_of);
}

static int
version_at(const ActiveVersion *entry, TimestampTz as_of)
{
	return entry->scheduled_id != 0 && as_of >= entry->scheduled_at ? entry->scheduled_id : entry->version_id;
}

/* Compiles a published version as it was pinned. */
static LrPolicy *
load(int version_id, bool reading)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "leadroute policy", ALLOCSET_DEFAULT_SIZES);
	MemoryContext saved = MemoryContextSwitchTo(memory);
	LrIdentity	identity;
	LrMistakes	mistakes = {NIL};
	Oid			types[] = {INT4OID, BOOLOID};
	Datum		values[] = {Int32GetDatum(version_id), BoolGetDatum(reading)};
	Datum		index;
	json_t	   *document;
	json_t	   *pins;
	char	   *name;
	char	   *hash;
	int			version;
	bool		isnull;
	LrPolicy   *policy;

	lr_sql_begin(&identity);
	if (lr_sql("SELECT v.frame, v.pins, p.name, v.version, encode(v.content_hash, 'hex'),"
			   " v.content_hash = leadroute.content_hash(v.frame, v.pins, v.rules_hash),"
			   " CASE WHEN NOT $2 THEN v.rule_index END, $2 OR v.index_hash = sha256(v.rule_index)"
			   " FROM leadroute.policy_versions v JOIN leadroute.policies p USING (policy_id) WHERE v.policy_version_id = $1",
			   true, 2, types, values, NULL) == 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("policy version %d is missing from leadroute.policy_versions", version_id),
				errhint("Restore the row: decisions depend on it."));
	MemoryContextSwitchTo(memory);
	document = lr_json_of_jsonb(lr_sql_datum(0, 1, &isnull));
	pins = lr_json_of_jsonb(lr_sql_datum(0, 2, &isnull));
	name = pstrdup(lr_sql_text(0, 3));
	version = lr_sql_int32(0, 4, 0);
	hash = pstrdup(lr_sql_text(0, 5));
	if (!DatumGetBool(lr_sql_datum(0, 6, &isnull)))
		lr_mistake(&mistakes, "document", "Restore the row of leadroute.policy_versions, or activate another version.",
				   "is no longer what was published: document and pins do not give the content hash");
	index = lr_sql_datum(0, 7, &isnull);
	/* what is not as it was written is not used: the rules say what it has to be */
	index = isnull || !DatumGetBool(lr_sql_datum(0, 8, &isnull)) || isnull ? (Datum) 0 : PointerGetDatum(PG_DETOAST_DATUM_COPY(index));
	lr_sql_end(&identity);

	MemoryContextSwitchTo(memory);
	policy = lr_policy_compile(document, pins, reading, &mistakes);
	if (!reading)
		lr_mistakes_raise(&mistakes, psprintf("version %d of policy \"%s\", as published,", version, name));
	policy->version_id = version_id;
	policy->version = version;
	policy->name = name;
	policy->hash = hash;
	policy->memory = memory;
	if (!reading)
		lr_policy_load_rules(policy, index);
	if (index)
		pfree(DatumGetPointer(index));

	/* complete: from now on it outlives the statement */
	MemoryContextSetParent(memory, CacheMemoryContext);
	if (policy_memory == NULL)
		policy_memory = AllocSetContextCreate(CacheMemoryContext, "leadroute policies", ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(policy_memory);
	compiled = lappend(compiled, policy);
	MemoryContextSwitchTo(saved);
	return policy;
}
