/*
 * identity.c: telling a database from its copies.
 *
 * A database is known by the server's system identifier and its own object id. Both are on record in database_identities, which
 * goes into dumps and templates with the rest: whoever finds another identity there than its own is a copy. A restore
 * itself is noted as well, when it installs the extension, since tables are filled in any order.
 *
 * A standby has its primary's identity, promoted or not. pg_upgrade makes a new system identifier, so what it made is a copy.
 */
#include "workers/workers.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"

PG_FUNCTION_INFO_V1(leadroute_system_identifier);
PG_FUNCTION_INFO_V1(leadroute_is_copy);

static bool look(void);

/* Returns the server's system identifier, as pg_control_system() does. */
Datum
leadroute_system_identifier(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64((int64) GetSystemIdentifier());
}

/* Is lr_is_copy() for SQL; see the SQL comment. */
Datum
leadroute_is_copy(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(lr_is_copy());
}

/* Tells whether this database is a copy of another, and nobody has said that it may act. */
bool
lr_is_copy(void)
{
	static bool copy = false;
	static bool known = false;
	static uint64 generation = 0;

	/* looking up the catalog first: it is what makes generations move when the extension is another one */
	(void) lr_catalog();
	if (!known || generation != lr_table_generation(LR_TABLE_DATABASE_IDENTITIES))
	{
		known = false;
		generation = lr_table_generation(LR_TABLE_DATABASE_IDENTITIES);
		copy = look();
		known = true;
	}
	return copy;
}

static bool
look(void)
{
	LrIdentity	identity;
	Oid			types[] = {INT8OID, OIDOID};
	Datum		values[] = {Int64GetDatum((int64) GetSystemIdentifier()), ObjectIdGetDatum(MyDatabaseId)};
	bool		copy;

	lr_sql_begin(&identity);
	copy = lr_sql("SELECT FROM leadroute.database_identities WHERE (system_identifier, database_oid) <> ($1, $2) LIMIT 1", true, 2, types, values, NULL) > 0;
	lr_sql_end(&identity);
	return copy;
}
