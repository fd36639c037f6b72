/*
 * environment.c: the versions that a decision depends on beside its inputs: engine, server, libc, collation, time zones.
 *
 * Each combination is a row of leadroute.environments, which entries refer to. A session finds its row once; where there is
 * none it writes one. Two sessions may write the same: duplicates do no harm, and nobody waits.
 */
#include "provenance/provenance.h"

#include "catalog/pg_database.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include <gnu/libc-version.h>
#include <idn2.h>

#define NPARTS 6

static char *parts[NPARTS];		/* in the order of the columns */
static const char *const part_names[NPARTS] = {"engine", "server", "libc", "collation", "tzdata", "encoding"};
static int	environment_id = 0;
static uint64 environments_generation;

static void find_parts(void);
static char *collation_version(void);
static char *tzdata_version(void);

/* Returns the id of the present environment; records it if need be. */
int
lr_environment_id(void)
{
	LrIdentity	identity;
	Oid			types[NPARTS];
	Datum		values[NPARTS];

	/* a row of ours may have been rolled back since */
	if (environments_generation != lr_table_generation(LR_TABLE_ENVIRONMENTS))
	{
		environments_generation = lr_table_generation(LR_TABLE_ENVIRONMENTS);
		environment_id = 0;
	}
	if (environment_id != 0)
		return environment_id;

	find_parts();
	for (int i = 0; i < NPARTS; i++)
	{
		types[i] = TEXTOID;
		values[i] = CStringGetTextDatum(parts[i]);
	}
	lr_sql_begin(&identity);
	if (lr_sql("SELECT min(environment_id) FROM leadroute.environments"
			   " WHERE engine = $1 AND server = $2 AND libc = $3 AND \"collation\" = $4 AND tzdata = $5 AND encoding = $6 HAVING count(*) > 0",
			   true, NPARTS, types, values, NULL) == 0)
	{
		lr_sql("INSERT INTO leadroute.environments (engine, server, libc, \"collation\", tzdata, encoding) VALUES ($1, $2, $3, $4, $5, $6)"
			   " RETURNING environment_id", false, NPARTS, types, values, NULL);
		lr_table_changed(LR_TABLE_ENVIRONMENTS);
	}
	environment_id = lr_sql_int32(0, 1, 0);
	lr_sql_end(&identity);
	return environment_id;
}

/* Appends the present environment as a JSON object. */
void
lr_environment_json(StringInfo json)
{
	find_parts();
	appendStringInfoChar(json, '{');
	for (int i = 0; i < NPARTS; i++)
	{
		appendStringInfo(json, "%s\"%s\": ", i ? ", " : "", part_names[i]);
		escape_json(json, parts[i]);
	}
	appendStringInfoChar(json, '}');
}

static void
find_parts(void)
{
	MemoryContext saved;

	if (parts[0] != NULL)
		return;
	saved = MemoryContextSwitchTo(CacheMemoryContext);
	/* the one that runs, which may be a later minor version than the one we were built for */
	parts[1] = psprintf("PostgreSQL %s", GetConfigOption("server_version", false, false));
	parts[2] = psprintf("glibc %s, libidn2 %s", gnu_get_libc_version(), idn2_check_version(NULL));
	parts[3] = collation_version();
	parts[4] = tzdata_version();
	parts[5] = pstrdup(GetDatabaseEncodingName());
	parts[0] = psprintf("leadroute %s", LR_VERSION);
	MemoryContextSwitchTo(saved);
}

static char *
collation_version(void)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
	bool		isnull;
	Datum		value;
	char	   *version;

	if (!HeapTupleIsValid(tuple))
		return pstrdup("unknown");
	value = SysCacheGetAttr(DATABASEOID, tuple, Anum_pg_database_datcollversion, &isnull);
	version = isnull ? pstrdup("none") : TextDatumGetCString(value);
	ReleaseSysCache(tuple);
	return version;
}

/*
 * The release of the time zone data, such as 2026a, which zic writes into the first line of tzdata.zi. Where neither the
 * server nor the system has that file, the zones' own next transitions stand for it.
 */
static char *
tzdata_version(void)
{
	char		share[MAXPGPATH];
	char		path[MAXPGPATH];
	char		line[64] = "";

	get_share_path(my_exec_path, share);
	for (int i = 0; i < 2 && line[0] == '\0'; i++)
	{
		FILE	   *file;

		snprintf(path, sizeof(path), "%s/tzdata.zi", i == 0 ? psprintf("%s/timezone", share) : "/usr/share/zoneinfo");
		file = AllocateFile(path, "r");
		if (file == NULL)
			continue;
		if (fgets(line, sizeof(line), file) == NULL || strncmp(line, "# version ", 10) != 0)
			line[0] = '\0';
		FreeFile(file);
	}
	if (line[0])
		return pnstrdup(line + 10, strcspn(line + 10, "\r\n"));
	return pstrdup("unknown");
}
