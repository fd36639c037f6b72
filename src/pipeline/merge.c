/*
 * merge.c: merges of leads that were made in the CRM. What they do is set-based SQL (merge_states()); it runs as the extension's owner.
 */
#include "pipeline/pipeline.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "provenance/provenance.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(leadroute_merge_leads);

/* Merges leads into another one; see the SQL comment. */
Datum
leadroute_merge_leads(PG_FUNCTION_ARGS)
{
	lr_refuse_nulls(fcinfo);

	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz now = GetCurrentTimestamp();
	Oid			types[] = {INT8OID, INT8ARRAYOID, TEXTOID, OIDOID, TIMESTAMPTZOID};
	Datum		values[] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1), PG_GETARG_DATUM(2), ObjectIdGetDatum(GetUserId()), TimestampTzGetDatum(now)};
	LrIdentity	identity;
	uint64		n;

	InitMaterializedSRF(fcinfo, 0);
	/* a survivor without an owner may get one, as a decision: the record has to have room for it */
	(void) lr_entries_partition(now);
	lr_sql_begin(&identity);
	n = lr_sql("SELECT * FROM leadroute.merge_states($1, $2, $3, $4::pg_catalog.regrole, $5)", false, 5, types, values, NULL);
	for (uint64 i = 0; i < n; i++)
		tuplestore_puttuple(result->setResult, SPI_tuptable->vals[i]);
	lr_sql_end(&identity);
	return (Datum) 0;
}
