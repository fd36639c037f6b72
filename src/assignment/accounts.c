/*
 * accounts.c: tables of the team's that serve as accounts.
 *
 * The caller has to own the table; the rest is done as the extension's owner, by functions of sql/accounts.sql.
 */
#include "leadroute.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(leadroute_attach_accounts);
PG_FUNCTION_INFO_V1(leadroute_detach_accounts);
PG_FUNCTION_INFO_V1(leadroute_refresh_accounts);

static Datum change_source(FunctionCallInfo fcinfo, const char *what, const char *command);
static void check_table(Relation rel);

/* Makes a table serve as accounts; see the SQL comment. */
Datum
leadroute_attach_accounts(PG_FUNCTION_ARGS)
{
	return change_source(fcinfo, "attach_accounts()", "SELECT leadroute.enter_account_source($1, $2)");
}

/* Ends that; see the SQL comment. */
Datum
leadroute_detach_accounts(PG_FUNCTION_ARGS)
{
	return change_source(fcinfo, "detach_accounts()", "SELECT leadroute.leave_account_source($1)");
}

/* Enters a table's rows anew; see the SQL comment. */
Datum
leadroute_refresh_accounts(PG_FUNCTION_ARGS)
{
	return change_source(fcinfo, "refresh_accounts()", "SELECT leadroute.refresh_account_source($1)");
}

/* Runs a statement about a table that is the caller's, and that nobody writes meanwhile; its arguments are the function's. */
static Datum
change_source(FunctionCallInfo fcinfo, const char *what, const char *command)
{
	static const Oid types[] = {REGCLASSOID, JSONBOID};
	Datum		values[2] = {0};
	Relation	rel;
	LrIdentity	identity;
	int64		accounts;

	lr_refuse_nulls(fcinfo);
	PreventCommandIfReadOnly(what);
	for (int i = 0; i < PG_NARGS(); i++)
		values[i] = PG_GETARG_DATUM(i);
	rel = table_open(PG_GETARG_OID(0), ShareRowExclusiveLock);
	check_table(rel);
	lr_sql_begin(&identity);
	(void) lr_sql(command, false, PG_NARGS(), types, values, NULL);
	accounts = lr_sql_int64(0, 1, 0);
	lr_sql_end(&identity);
	table_close(rel, NoLock);
	PG_RETURN_INT64(accounts);
}

static void
check_table(Relation rel)
{
	const char *name = RelationGetRelationName(rel);

	if (!lr_owns_relation(RelationGetRelid(rel), GetUserId()))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("must be owner of table %s", name),
				errhint("Have its owner call the function."));
	/* statements that name a partition or a child fire no triggers of the parent */
	if (rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_rel->relispartition || has_subclass(RelationGetRelid(rel)) ||
		rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("\"%s\" cannot serve as accounts", name),
				errdetail("It is partitioned, inherited from, temporary, or no table."),
				errhint("Attach an ordinary table, or fill leadroute.accounts."));
	if (RelationGetNamespace(rel) == lr_catalog()->schema)
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("\"%s\" is a table of leadroute's own", name),
				errhint("Attach a table of your team's, or fill leadroute.accounts."));
}
