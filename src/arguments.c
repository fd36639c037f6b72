/*
 * arguments.c: functions that act refuse a null argument: a STRICT one would do nothing, and say nothing.
 */
#include "leadroute.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "funcapi.h"
#include "utils/syscache.h"

/* Raises 22004 if an argument of the running function is null, and names it. */
void
lr_refuse_nulls(FunctionCallInfo fcinfo)
{
	lr_refuse_nulls_before(fcinfo, PG_NARGS());
}

/* Raises 22004 if one of the first n arguments is null; those behind may be. */
void
lr_refuse_nulls_before(FunctionCallInfo fcinfo, int n)
{
	for (int i = 0; i < n; i++)
	{
		HeapTuple	tuple;
		Oid		   *types;
		char	  **names = NULL;
		char	   *modes;

		if (!PG_ARGISNULL(i))
			continue;
		tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(fcinfo->flinfo->fn_oid));
		if (!HeapTupleIsValid(tuple))
			elog(ERROR, "cache lookup failed for function %u", fcinfo->flinfo->fn_oid);
		(void) get_func_arg_info(tuple, &types, &names, &modes);
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("argument \"%s\" of %s() is null", names ? names[i] : "?", NameStr(((Form_pg_proc) GETSTRUCT(tuple))->proname)),
				errhint("Give a value; arguments that have a default can be left out."));
	}
}
