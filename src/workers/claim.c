/*
 * claim.c: agents outside take tasks.
 *
 * The protocol is SQL, in sql/tasks.sql, and runs as the extension's owner. A function that runs as its owner cannot tell whose
 * statement it is, so claiming, which asks that, begins here.
 */
#include "workers/workers.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(leadroute_claim_tasks);

/* Claims tasks for an agent that the caller may act as; see the SQL comment. */
Datum
leadroute_claim_tasks(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid			types[] = {OIDOID, TEXTOID, TEXTARRAYOID, INT4OID, INTERVALOID, TEXTOID};
	Datum		values[lengthof(types)];
	char		nulls[lengthof(types)];
	LrIdentity	identity;
	uint64		n;

	values[0] = ObjectIdGetDatum(GetUserId());
	nulls[0] = ' ';
	for (int i = 1; i < (int) lengthof(types); i++)
	{
		values[i] = PG_GETARG_DATUM(i - 1);
		nulls[i] = PG_ARGISNULL(i - 1) ? 'n' : ' ';
	}
	(void) lr_catalog();
	InitMaterializedSRF(fcinfo, 0);
	lr_sql_begin(&identity);
	n = lr_sql_kept(LR_PLAN_CLAIM, "SELECT * FROM leadroute.claim_tasks_for($1, $2, $3, $4, $5, $6)", lengthof(types), types, values, nulls);
	for (uint64 i = 0; i < n; i++)
		tuplestore_puttuple(result->setResult, SPI_tuptable->vals[i]);
	lr_sql_end(&identity);
	return (Datum) 0;
}
