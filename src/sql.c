/*
 * sql.c: statements of our own, run as the extension's owner.
 *
 * Users cause reads and writes of our tables that they may not do themselves. Such statements run through SPI under the
 * owner's identity, with constant text and parameters, never pasted together from values. If one raises, the transaction's
 * abort gives the identity back.
 */
#include "leadroute.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

/* Takes the identity of the extension's owner. */
void
lr_become_owner(LrIdentity *saved)
{
	Oid			owner = lr_catalog()->owner;

	GetUserIdAndSecContext(&saved->user, &saved->context);
	SetUserIdAndSecContext(owner, saved->context | SECURITY_LOCAL_USERID_CHANGE);
}

/* Gives the caller's identity back. */
void
lr_restore_identity(const LrIdentity *saved)
{
	SetUserIdAndSecContext(saved->user, saved->context);
}

/* Opens SPI as the extension's owner. */
void
lr_sql_begin(LrIdentity *saved)
{
	lr_become_owner(saved);
	saved->nest = lr_search_path_enter();
	SPI_connect();
}

/* Closes SPI and gives the caller's identity back. */
void
lr_sql_end(const LrIdentity *saved)
{
	SPI_finish();
	lr_settings_leave(saved->nest);
	lr_restore_identity(saved);
}

/*
 * Runs one statement, between lr_sql_begin and lr_sql_end; returns the number of rows. Read-only ones still take a fresh
 * snapshot: configuration is read as committed now, whatever the isolation level of the user's transaction.
 */
uint64
lr_sql(const char *command, bool read_only, int nargs, const Oid *types, const Datum *values, const char *nulls)
{
	int			code;

	/* beside parallel workers no new snapshot can be taken */
	if (read_only)
		PushActiveSnapshot(IsInParallelMode() ? GetActiveSnapshot() : GetLatestSnapshot());
	code = SPI_execute_with_args(command, nargs, (Oid *) types, (Datum *) values, nulls, read_only, 0);
	if (read_only)
		PopActiveSnapshot();
	if (code < 0)
		ereport(ERROR,
				errcode(ERRCODE_INTERNAL_ERROR),
				errmsg("leadroute: statement failed: %s", SPI_result_code_string(code)),
				errdetail("The statement was: %s", command));
	return SPI_processed;
}

/*
 * Runs one statement whose plan is kept for the session, between lr_sql_begin and lr_sql_end; returns the number of rows. It
 * sees what was committed when it began, and all that this transaction did.
 */
uint64
lr_sql_kept(LrPlan plan, const char *command, int nargs, const Oid *types, const Datum *values, const char *nulls)
{
	static SPIPlanPtr plans[LR_N_PLANS];
	int			code;

	if (plans[plan] == NULL)
	{
		SPIPlanPtr	prepared = SPI_prepare(command, nargs, (Oid *) types);

		if (prepared == NULL || SPI_keepplan(prepared) != 0)
			elog(ERROR, "could not prepare \"%s\"", command);
		plans[plan] = prepared;
	}
	code = SPI_execute_plan(plans[plan], (Datum *) values, nulls, false, 0);
	if (code < 0)
		elog(ERROR, "statement failed: %s", SPI_result_code_string(code));
	return SPI_processed;
}

/* Returns a column of a result row as text, or NULL; columns count from 1. */
char *
lr_sql_text(uint64 row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

/* Returns a column of a result row as it is. */
Datum
lr_sql_datum(uint64 row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

/* Returns an integer column of a result row. */
int32
lr_sql_int32(uint64 row, int column, int32 if_null)
{
	bool		isnull;
	Datum		value = lr_sql_datum(row, column, &isnull);

	return isnull ? if_null : DatumGetInt32(value);
}

/* Returns a bigint column of a result row. */
int64
lr_sql_int64(uint64 row, int column, int64 if_null)
{
	bool		isnull;
	Datum		value = lr_sql_datum(row, column, &isnull);

	return isnull ? if_null : DatumGetInt64(value);
}

/* Returns the first column, bigint and never null, of all rows of a result, in a memory context. */
int64 *
lr_sql_int64s(int n, MemoryContext memory)
{
	int64	   *elements = MemoryContextAllocHuge(memory, sizeof(int64) * Max(n, 1));

	for (int i = 0; i < n; i++)
		elements[i] = lr_sql_int64(i, 1, 0);
	return elements;
}

/* Returns numbers as a parameter of type bigint[]. */
Datum
lr_int8_array(const int64 *elements, int n)
{
	Datum	   *datums = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		datums[i] = Int64GetDatum(elements[i]);
	return PointerGetDatum(construct_array(datums, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* Returns elements of a type as a parameter, an array of it; nulls: NULL if there are none. */
Datum
lr_array(const Datum *elements, const bool *nulls, int n, Oid type)
{
	int			dimensions[] = {n};
	int			lower[] = {1};
	int16		length;
	bool		by_value;
	char		align;

	get_typlenbyvalalign(type, &length, &by_value, &align);
	return PointerGetDatum(construct_md_array((Datum *) elements, (bool *) nulls, 1, dimensions, lower, type, length, by_value, align));
}
