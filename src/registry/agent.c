/*
 * agent.c: the registry of agents.
 *
 * A built-in agent is C of ours. An SQL agent is a function of the team's: it runs as its owner, who alone can register it,
 * and its definition is pinned by digest, so that a replaced function stops the step rather than changing its meaning.
 * External agents take tasks.
 */
#include "registry/registry.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "agents/agents.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "provenance/provenance.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(leadroute_register_agent);
PG_FUNCTION_INFO_V1(leadroute_register_external_agent);
PG_FUNCTION_INFO_V1(leadroute_deprecate_agent);

static Oid	owner_of(Oid function);
static bool function_digest(Oid function, unsigned char *digest);
static void check_agent_function(Oid function);
static void check_name(const char *value, const char *what);
static void check_capabilities(ArrayType *capabilities);
static void check_inputs(ArrayType *inputs);
static void resolve_function(LrAgent *agent, const char *signature, const unsigned char *digest);

/* ---- loading ---- */

/* Loads an agent version, in the current memory context; raises 42704 if there is none. */
LrAgent *
lr_agent_load(int agent_id)
{
	MemoryContext memory = CurrentMemoryContext;
	MemoryContext saved;
	LrIdentity	identity;
	LrAgent    *agent;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(agent_id)};
	char	   *kind;
	char	   *state;
	char	   *signature;
	bool		isnull;
	Datum		digest;

	lr_sql_begin(&identity);
	if (lr_sql("SELECT name, version, kind, state, function, function_digest, owner, region, inputs IS NOT NULL, array_to_string(inputs, e'\\n') FROM leadroute.agents WHERE agent_id = $1",
			   true, 1, types, values, NULL) == 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("agent %d is not in the registry", agent_id),
				errhint("Restore its row of leadroute.agents, or publish and activate a policy version that does not use it."));
	saved = MemoryContextSwitchTo(memory);
	agent = palloc0(sizeof(LrAgent));
	agent->agent_id = agent_id;
	agent->name = lr_sql_text(0, 1);
	agent->name = pstrdup(agent->name);
	agent->version = pstrdup(lr_sql_text(0, 2));
	kind = lr_sql_text(0, 3);
	state = lr_sql_text(0, 4);
	signature = lr_sql_text(0, 5);
	agent->kind = strcmp(kind, "builtin") == 0 ? LR_AGENT_BUILTIN : strcmp(kind, "sql") == 0 ? LR_AGENT_SQL : LR_AGENT_EXTERNAL;
	agent->retired = strcmp(state, "retired") == 0;
	agent->deprecated = strcmp(state, "deprecated") == 0;
	agent->region = lr_sql_text(0, 8);
	agent->declares = DatumGetBool(lr_sql_datum(0, 9, &isnull));
	for (char *name = agent->declares ? strtok(lr_sql_text(0, 10), "\n") : NULL; name; name = strtok(NULL, "\n"))
		agent->inputs = lappend(agent->inputs, pstrdup(name));
	if (agent->kind == LR_AGENT_SQL)
	{
		digest = lr_sql_datum(0, 6, &isnull);
		agent->owner = DatumGetObjectId(lr_sql_datum(0, 7, &isnull));
		resolve_function(agent, signature, (unsigned char *) VARDATA_ANY(DatumGetByteaPP(digest)));
	}
	MemoryContextSwitchTo(saved);
	lr_sql_end(&identity);
	return agent;
}

/* Finds the function of an SQL agent, and whether it is still what was registered. */
static void
resolve_function(LrAgent *agent, const char *signature, const unsigned char *digest)
{
	unsigned char now[32];
	LOCAL_FCINFO(fcinfo, 1);
	Oid			function;

	/* null for a function that was dropped, which DirectFunctionCall does not know */
	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = CStringGetTextDatum(signature);
	fcinfo->args[0].isnull = false;
	function = DatumGetObjectId(to_regprocedure(fcinfo));
	/* given to another role, it would still run as the one that registered it */
	if (fcinfo->isnull || owner_of(function) != agent->owner || !function_digest(function, now) || memcmp(now, digest, sizeof(now)) != 0)
	{
		agent->changed = true;
		return;
	}
	fmgr_info_cxt(function, &agent->function, CurrentMemoryContext);
}

static Oid
owner_of(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid			owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

/*
 * Chooses the agent version for a capability when a policy is published: the wanted one (name or name@version), otherwise
 * the newest. Returns 0, and notes the mistake, if there is none that may be used. anybody: where nobody offers the capability yet,
 * whoever will.
 */
int
lr_agent_choose(const char *capability, const char *wanted, bool anybody, const char *place, LrMistakes *mistakes)
{
	LrIdentity	identity;
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(capability), wanted ? CStringGetTextDatum(wanted) : (Datum) 0};
	char		nulls[] = {' ', wanted ? ' ' : 'n'};
	int			agent_id = 0;
	bool		deprecated = false;

	lr_sql_begin(&identity);
	if (lr_sql("SELECT agent_id, state FROM leadroute.agents"
			   " WHERE $1 = ANY (capabilities) AND ($2 IS NULL OR name = $2 OR name || '@' || version = $2)"
			   " ORDER BY state = 'active' DESC, agent_id DESC LIMIT 1",
			   true, 2, types, values, nulls) > 0)
	{
		agent_id = lr_sql_int32(0, 1, 0);
		deprecated = strcmp(lr_sql_text(0, 2), "active") != 0;
	}
	lr_sql_end(&identity);

	if (agent_id == 0 && anybody)
		return LR_AGENT_ANYBODY;
	if (agent_id == 0 && wanted)
		lr_mistake(mistakes, lr_place(place, "agent"), "See leadroute.agents.", "no agent \"%s\" offers \"%s\"", wanted, capability);
	else if (agent_id == 0)
		lr_mistake(mistakes, lr_place(place, "capability"), "See leadroute.agents, or register an agent for it.",
				   "no agent offers \"%s\"", capability);
	else if (deprecated)
		lr_mistake(mistakes, lr_place(place, wanted ? "agent" : "capability"), "Name another agent, or register a newer version.",
				   "every agent version for it is deprecated or retired");
	else
		return agent_id;
	return 0;
}

/* ---- registering ---- */

/* Registers one version of an SQL agent; see the SQL comment. */
Datum
leadroute_register_agent(PG_FUNCTION_ARGS)
{
	lr_refuse_nulls(fcinfo);

	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *version = text_to_cstring(PG_GETARG_TEXT_PP(1));
	ArrayType  *capabilities = PG_GETARG_ARRAYTYPE_P(2);
	Oid			function = PG_GETARG_OID(3);
	unsigned char digest[32];
	bytea	   *digest_value = palloc(VARHDRSZ + sizeof(digest));
	LrIdentity	identity;
	Oid			types[] = {TEXTOID, TEXTOID, TEXTARRAYOID, TEXTOID, BYTEAOID, OIDOID, TEXTOID};
	Datum		values[7];
	int			agent_id;
	HeapTuple	tuple;
	Oid			owner;

	(void) lr_catalog();
	check_name(name, "an agent");
	check_name(version, "a version");
	check_capabilities(capabilities);
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_FUNCTION),
				errmsg("function with OID %u does not exist", function));
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	if (!lr_owns_function(function, GetUserId()))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("must be owner of function %s to register it as an agent", format_procedure(function)),
				errhint("An agent runs as the owner of its function: SET ROLE %s, or ask that role to register it.",
						quote_identifier(GetUserNameFromId(owner, false))));
	check_agent_function(function);
	if (!function_digest(function, digest))
		elog(ERROR, "cache lookup failed for function %u", function);
	SET_VARSIZE(digest_value, VARHDRSZ + sizeof(digest));
	memcpy(VARDATA(digest_value), digest, sizeof(digest));

	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(version);
	values[2] = PointerGetDatum(capabilities);
	values[3] = CStringGetTextDatum(format_procedure_qualified(function));
	values[4] = PointerGetDatum(digest_value);
	values[5] = ObjectIdGetDatum(owner);
	values[6] = PG_GETARG_DATUM(4);
	lr_sql_begin(&identity);
	lr_sql("INSERT INTO leadroute.agents (name, version, capabilities, kind, function, function_digest, owner, description)"
		   " VALUES ($1, $2, $3, 'sql', $4, $5, $6, $7) RETURNING agent_id", false, 7, types, values, NULL);
	agent_id = lr_sql_int32(0, 1, 0);
	lr_sql_end(&identity);
	PG_RETURN_INT32(agent_id);
}

/* Registers one version of an agent outside; see the SQL comment. */
Datum
leadroute_register_external_agent(PG_FUNCTION_ARGS)
{
	enum {NAME, VERSION, CAPABILITIES, INPUTS, PROCESSOR, REGION, KEEPS_STATE, MAX_CONCURRENT, MAX_PER_SECOND, FAILURES, COOLDOWN, PROBES, DESCRIPTION, OWNER, N};
	Oid			types[] = {TEXTOID, TEXTOID, TEXTARRAYOID, TEXTARRAYOID, TEXTOID, TEXTOID, BOOLOID, INT4OID, FLOAT4OID, INT4OID, INTERVALOID, INT4OID,
	TEXTOID, OIDOID};
	Datum		values[N];
	char		nulls[N];
	LrIdentity	identity;
	int			agent_id;

	for (int i = 0; i < OWNER; i++)
	{
		bool		optional = i == PROCESSOR || i == REGION || i == MAX_CONCURRENT || i == MAX_PER_SECOND;

		if (PG_ARGISNULL(i) && !optional)
			ereport(ERROR,
					errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					errmsg("argument %d of register_external_agent() is null", i + 1),
					errhint("Only processor, region, max_concurrent and max_per_second may be null."));
		values[i] = PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	values[OWNER] = ObjectIdGetDatum(GetUserId());
	nulls[OWNER] = ' ';
	(void) lr_catalog();
	check_name(TextDatumGetCString(values[NAME]), "an agent");
	check_name(TextDatumGetCString(values[VERSION]), "a version");
	check_capabilities(DatumGetArrayTypeP(values[CAPABILITIES]));
	check_inputs(DatumGetArrayTypeP(values[INPUTS]));
	if (nulls[REGION] == ' ')
		check_name(TextDatumGetCString(values[REGION]), "a region");
	lr_sql_begin(&identity);
	lr_sql("INSERT INTO leadroute.agents (name, version, capabilities, inputs, processor, region, keeps_state, max_concurrent, max_per_second,"
		   " breaker_failures, breaker_cooldown, breaker_probes, description, owner, kind)"
		   " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 'external') RETURNING agent_id", false, N, types, values, nulls);
	agent_id = lr_sql_int32(0, 1, 0);
	lr_sql_end(&identity);
	PG_RETURN_INT32(agent_id);
}

/* Marks an agent version deprecated, or retired; see the SQL comment. */
Datum
leadroute_deprecate_agent(PG_FUNCTION_ARGS)
{
	lr_refuse_nulls(fcinfo);

	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *version = text_to_cstring(PG_GETARG_TEXT_PP(1));
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID};
	Datum		values[] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1), CStringGetTextDatum(PG_GETARG_BOOL(2) ? "retired" : "deprecated")};
	LrIdentity	identity;
	Oid			caller = GetUserId();
	bool		isnull;

	lr_sql_begin(&identity);
	if (lr_sql("SELECT kind, owner FROM leadroute.agents WHERE name = $1 AND version = $2", true, 2, types, values, NULL) == 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("agent \"%s\" version \"%s\" does not exist", name, version),
				errhint("See leadroute.agents."));
	if (strcmp(lr_sql_text(0, 1), "builtin") == 0)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("agent \"%s\" is built in and cannot be deprecated", name),
				errhint("Leave its step out of the policy."));
	if (!has_privs_of_role(caller, DatumGetObjectId(lr_sql_datum(0, 2, &isnull))))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("must have the role that agent \"%s\" runs as to deprecate it", name));
	if (lr_sql("UPDATE leadroute.agents SET state = $3 WHERE name = $1 AND version = $2 AND (state <> 'retired' OR $3 = 'retired')",
			   false, 3, types, values, NULL) == 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("agent \"%s\" version \"%s\" is retired", name, version),
				errhint("Register a new version: a retired one stays so."));
	lr_sql_end(&identity);
	PG_RETURN_VOID();
}

/*
 * Digests what makes up a function's meaning: language, body and properties. Not its whole definition as the server prints
 * it, which another major version may print in another way.
 */
static bool
function_digest(Oid function, unsigned char *digest)
{
	LrIdentity	identity;
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(function)};
	int			nest;
	bool		found;

	lr_sql_begin(&identity);
	/* a body in standard SQL is printed, and its text follows settings such as quote_all_identifiers */
	nest = lr_settings_enter("UTC");
	found = lr_sql("SELECT concat_ws(' ', l.lanname, p.provolatile, p.proisstrict, p.prosecdef, p.proparallel, p.proconfig, p.probin,"
				   " coalesce(pg_get_function_sqlbody(p.oid), p.prosrc))"
				   " FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.oid = $1", true, 1, types, values, NULL) > 0;
	lr_settings_leave(nest);
	if (found)
	{
		char	   *definition = lr_sql_text(0, 1);

		lr_sha256(definition, strlen(definition), digest);
	}
	lr_sql_end(&identity);
	return found;
}

/* Refuses tags that cannot be used, or that mean something else already. */
static void
check_capabilities(ArrayType *capabilities)
{
	Datum	   *tags;
	bool	   *nulls;
	int			ntags;

	deconstruct_array(capabilities, TEXTOID, -1, false, TYPALIGN_INT, &tags, &nulls, &ntags);
	if (ntags == 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("an agent needs at least one capability"),
				errhint("Give a tag for the work that it does, such as ARRAY['estimateBudget']."));
	for (int i = 0; i < ntags; i++)
	{
		char	   *tag = nulls[i] ? "" : TextDatumGetCString(tags[i]);

		check_name(tag, "a capability");
		for (int fact = 0; fact < LR_N_FACTS; fact++)
		{
			if ((lr_facts[fact].capability == NULL || fact == LR_SCORE || fact == LR_TIER) && pg_strcasecmp(lr_facts[fact].name, tag) == 0)
				ereport(ERROR,
						errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("capability \"%s\" has the name of something that is known of a lead", tag),
						errhint("Choose another tag: conditions reach the output under it."));
		}
		if (lr_builtin_by_capability(tag))
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("capability \"%s\" belongs to a built-in agent", tag),
					errhint("Choose a tag of your own; conditions and models reach the output under it."));
	}
}

/* Refuses inputs that are neither attributes of a lead nor tags of capabilities. */
static void
check_inputs(ArrayType *inputs)
{
	Datum	   *names;
	bool	   *nulls;
	int			n;

	deconstruct_array(inputs, TEXTOID, -1, false, TYPALIGN_INT, &names, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		char	   *name = nulls[i] ? "" : TextDatumGetCString(names[i]);

		if (strncmp(name, "attributes.", strlen("attributes.")) == 0 && name[strlen("attributes.")] != '\0' && strlen(name) <= 127)
			continue;			/* a key of the lead's attributes, which may have any name */
		check_name(name, "an input");
	}
}

static void
check_agent_function(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(tuple);
	bool		fits = proc->prokind == PROKIND_FUNCTION && !proc->proretset && proc->pronargs == 1 &&
		proc->proargtypes.values[0] == JSONBOID && proc->prorettype == JSONBOID;

	ReleaseSysCache(tuple);
	if (!fits)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				errmsg("function %s cannot be an agent", format_procedure(function)),
				errdetail("An agent's function takes one jsonb and returns one jsonb."),
				errhint("Declare it as: CREATE FUNCTION name(lead jsonb) RETURNS jsonb …"));
}

static void
check_name(const char *value, const char *what)
{
	size_t		length = strlen(value);

	if (length == 0 || length > 63 || !isalnum((unsigned char) value[0]) || strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-") != length)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("\"%s\" cannot name %s", value, what),
				errhint("Use letters, digits, and _ . + - behind the first, 63 characters at most."));
}
