/*
 * catalog.c: where our objects are, and when what we hold in memory is out of date.
 *
 * The object ids of the extension's tables are looked up once per session, and again after the schema changed (DROP and
 * CREATE EXTENSION). What parts keep in memory is made from configuration tables; each of these carries a statement trigger
 * that sends a relation-cache invalidation, which reaches every session at its next statement after the commit, and this
 * session at once, also when the change is rolled back. Here it becomes a counter per table, which caches compare with the
 * one they were made at.
 */
#include "leadroute.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(leadroute_configuration_changed);

const char *const lr_outcome_names[LR_N_OUTCOMES] = {"pending", "assigned", "nurture", "rejected", "no_rule", "quarantined"};
const char *const lr_class_names[] = {"personal", "direct", "sensitive", "plain"};

static const char *const table_names[LR_N_TABLES] = {
	[LR_TABLE_ATTACHED] = "attached_tables",
	[LR_TABLE_LEAD_KEYS] = "lead_keys",
	[LR_TABLE_LEAD_STATES] = "lead_states",
	[LR_TABLE_AGENTS] = "agents",
	[LR_TABLE_DOCUMENTS] = "documents",
	[LR_TABLE_POLICIES] = "policies",
	[LR_TABLE_OWNERS] = "owners",
	[LR_TABLE_OWNER_SKILLS] = "owner_skills",
	[LR_TABLE_CAPS] = "caps",
	[LR_TABLE_TIER_LOADS] = "tier_loads",
	[LR_TABLE_POOLS] = "pools",
	[LR_TABLE_POOL_MEMBERS] = "pool_members",
	[LR_TABLE_POOL_REVISIONS] = "pool_revisions",
	[LR_TABLE_POOL_STATES] = "pool_states",
	[LR_TABLE_CALENDARS] = "calendars",
	[LR_TABLE_CALENDAR_HOURS] = "calendar_hours",
	[LR_TABLE_HOLIDAYS] = "holidays",
	[LR_TABLE_ABSENCES] = "absences",
	[LR_TABLE_ACCOUNTS] = "accounts",
	[LR_TABLE_ACCOUNT_DOMAINS] = "account_domains",
	[LR_TABLE_ACCOUNT_OWNERS] = "account_owners",
	[LR_TABLE_FIRMOGRAPHICS] = "firmographics",
	[LR_TABLE_ENVIRONMENTS] = "environments",
	[LR_TABLE_DIGEST_KEYS] = "digest_keys",
	[LR_TABLE_ENTRIES] = "entries",
	[LR_TABLE_POLICY_TRIALS] = "policy_trials",
	[LR_TABLE_TRIAL_TALLIES] = "trial_tallies",
	[LR_TABLE_FEATURE_FLAGS] = "feature_flags",
	[LR_TABLE_TASKS] = "tasks",
	[LR_TABLE_ROUTING_PAUSES] = "routing_pauses",
	[LR_TABLE_DATABASE_IDENTITIES] = "database_identities",
	[LR_TABLE_EVENT_ARRIVALS] = "event_arrivals",
	[LR_TABLE_EVENT_CONSUMERS] = "event_consumers",
	[LR_TABLE_EVENT_SUBSCRIPTIONS] = "event_subscriptions",
	[LR_TABLE_SLA_CLOCKS] = "sla_clocks",
};

bool		lr_configuration_changing = false;

static LrCatalog catalog;
static bool catalog_valid = false;
static uint64 generations[LR_N_TABLES];

static void relation_invalidated(Datum argument, Oid relid);
static void schema_invalidated(Datum argument, int cacheid, uint32 hashvalue);
static void check_version(void);
static Oid	find_relation(const char *name);
static Oid	find_outcome(Oid type, const char *label);

/* Registers for invalidations. */
void
lr_catalog_init(void)
{
	CacheRegisterRelcacheCallback(relation_invalidated, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, schema_invalidated, (Datum) 0);
}

/* Returns the object ids of the extension. Raises 55000 if it is not installed here, or in another version. */
const LrCatalog *
lr_catalog(void)
{
	LrCatalog	found;
	HeapTuple	tuple;

	if (likely(catalog_valid))
		return &catalog;

	memset(&found, 0, sizeof(found));
	check_version();
	found.schema = get_namespace_oid("leadroute", false);
	found.tables[0] = InvalidOid;
	/* from here on the look-ups go by schema, so they need it in place */
	catalog.schema = found.schema;
	for (int i = 0; i < LR_N_TABLES; i++)
		found.tables[i] = find_relation(table_names[i]);
	found.run_ids = find_relation("run_ids");
	found.pool_state_ids = find_relation("pool_state_ids");
	found.lead_ids = find_relation("lead_ids");
	found.event_ids = find_relation("event_ids");
	found.lead_keys_pkey = find_relation("lead_keys_pkey");
	found.lead_states_pkey = find_relation("lead_states_pkey");
	found.firmographics_pkey = find_relation("firmographics_pkey");
	found.outcome_type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("outcome"), ObjectIdGetDatum(found.schema));
	for (int i = 0; i < LR_N_OUTCOMES; i++)
		found.outcomes[i] = find_outcome(found.outcome_type, lr_outcome_names[i]);

	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(found.tables[LR_TABLE_LEAD_STATES]));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", found.tables[LR_TABLE_LEAD_STATES]);
	found.owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);

	/* another extension than before: nothing that was made from the old one's tables is good */
	if (memcmp(found.tables, catalog.tables, sizeof(found.tables)) != 0)
	{
		for (int i = 0; i < LR_N_TABLES; i++)
			generations[i]++;
	}
	catalog = found;
	catalog_valid = true;
	return &catalog;
}

/* Counts how often a table changed, as far as this session has been told. */
uint64
lr_table_generation(LrTable table)
{
	return generations[table];
}

/* Tells all sessions, at commit, that a table changed. */
void
lr_table_changed(LrTable table)
{
	CacheInvalidateRelcacheByRelid(lr_catalog()->tables[table]);
}

/* Finds an outcome by its name. */
bool
lr_outcome_by_name(const char *name, LrOutcome *outcome)
{
	for (int i = 0; i < LR_N_OUTCOMES; i++)
	{
		if (strcmp(name, lr_outcome_names[i]) == 0)
		{
			*outcome = (LrOutcome) i;
			return true;
		}
	}
	return false;
}

/* Is the statement trigger of configuration tables. */
Datum
leadroute_configuration_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("function \"%s\" was not called as a statement trigger", "configuration_changed"));
	CacheInvalidateRelcache(trigger->tg_relation);
	lr_configuration_changing = true;
	PG_RETURN_POINTER(NULL);
}

static void
relation_invalidated(Datum argument, Oid relid)
{
	for (int i = 0; i < LR_N_TABLES; i++)
	{
		if (!OidIsValid(relid) || relid == catalog.tables[i])
			generations[i]++;
	}
	/* the owner is found with this table */
	if (!OidIsValid(relid) || relid == catalog.tables[LR_TABLE_LEAD_STATES])
		catalog_valid = false;
}

static void
schema_invalidated(Datum argument, int cacheid, uint32 hashvalue)
{
	catalog_valid = false;
}

/* Returns the version of the extension that is installed in this database; NULL: it is not. */
char *
lr_installed_version(void)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	char	   *installed = NULL;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("leadroute"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		version = heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(rel), &isnull);

		if (!isnull)
			installed = TextDatumGetCString(version);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return installed;
}

/* Raises 55000 unless the extension is installed in the library's version. */
static void
check_version(void)
{
	char	   *installed = lr_installed_version();

	if (installed == NULL)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("extension \"leadroute\" is not installed in this database"),
				errhint("Run CREATE EXTENSION leadroute."));
	if (strcmp(installed, LR_VERSION) != 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("leadroute's library is version %s, but the installed extension is version %s", LR_VERSION, installed),
				errhint("Run ALTER EXTENSION leadroute UPDATE, then connect again."));
}

static Oid
find_relation(const char *name)
{
	Oid			relid = get_relname_relid(name, catalog.schema);

	if (!OidIsValid(relid))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("relation \"leadroute.%s\" does not exist", name),
				errhint("Install the extension anew: it is not complete."));
	return relid;
}

static Oid
find_outcome(Oid type, const char *label)
{
	HeapTuple	tuple = SearchSysCache2(ENUMTYPOIDNAME, ObjectIdGetDatum(type), CStringGetDatum(label));
	Oid			oid;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "enum leadroute.outcome lacks the label \"%s\"", label);
	oid = ((Form_pg_enum) GETSTRUCT(tuple))->oid;
	ReleaseSysCache(tuple);
	return oid;
}
