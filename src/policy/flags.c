/*
 * flags.c: feature flags: named switches that conditions read as flags.name, and that switch steps on and off.
 *
 * A flag is on for a lead if it is enabled, its segment holds and the lead is among its share. It is evaluated once for each
 * lead of a batch, before any step, and only if the policy version reads it; the version pins which ones it reads, in the
 * order in which their values stand in the record. A flag that was dropped since is off. Sessions keep all flags until their
 * table changes.
 */
#include "policy/policy.h"

#include "catalog/pg_type.h"
#include "pipeline/pipeline.h"
#include "miscadmin.h"
#include "registry/registry.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(leadroute_set_flag);
PG_FUNCTION_INFO_V1(leadroute_drop_flag);

/* Facts are columns of a row: there is room for so many. */
#define MAX_FLAGS 1000

typedef struct LrFlag
{
	char	   *name;
	bool		enabled;
	double		share;
	char	   *salt;
	LrSegment  *segment;		/* NULL: everybody */
} LrFlag;

static LrFlag *flags = NULL;	/* by name, in flag_memory */
static int	nflags;
static MemoryContext flag_memory = NULL;
static uint64 flags_generation;

static bool reads_flag(const LrPolicy *policy, int fact);
static void load_flags(void);
static LrFlag *find_flag(const char *name);
static int	compare_flags(const void *a, const void *b);
static bool is_on(const LrFlag *flag, const LrRun *run);
static char *checked_flag_name(Datum name);
static void check_room(void);
static void check_unused(const char *name);

/* ---- what a policy version reads ---- */

/* Finds the flags that a policy reads: all that are pinned, or, when publishing, those that a condition or a step names. */
void
lr_flags_find(LrPolicy *policy, bool all)
{
	const LrScope *scope = policy->scope;

	policy->flags = palloc0(sizeof(LrPolicyFlag) * Max(scope->nextra, 1));
	for (int i = 0; i < scope->nextra; i++)
	{
		if (scope->extra[i].type != BOOLOID || !(all || reads_flag(policy, LR_N_FACTS + i)))
			continue;
		policy->flags[policy->nflags].name = scope->extra[i].name + strlen(LR_FLAG_PREFIX);
		policy->flags[policy->nflags++].fact = LR_N_FACTS + i;
	}
}

static bool
reads_flag(const LrPolicy *policy, int fact)
{
	bool		found = bms_is_member(fact, policy->rule_reads);

	for (int s = 0; s < policy->nsteps && !found; s++)
		found = policy->steps[s].flag == fact || bms_is_member(fact, policy->steps[s].reads);
	return found;
}

/* ---- evaluating ---- */

/* Gives every run of a batch the values of the flags that its policy version reads, but for those that it has: given, or recorded. */
void
lr_flags_evaluate(LrBatch *batch)
{
	LrPolicy   *policy = batch->policy;

	if (policy->nflags == 0)
		return;
	load_flags();
	if (policy->flags_generation != flags_generation)
	{
		for (int f = 0; f < policy->nflags; f++)
			policy->flags[f].flag = find_flag(policy->flags[f].name);
		policy->flags_generation = flags_generation;
	}
	for (int i = 0; i < batch->n; i++)
	{
		if ((i & 63) == 0)
			CHECK_FOR_INTERRUPTS();
		for (int f = 0; f < policy->nflags; f++)
		{
			if (batch->runs[i].isnull[policy->flags[f].fact])
				lr_run_set(&batch->runs[i], policy->flags[f].fact, BoolGetDatum(is_on(policy->flags[f].flag, &batch->runs[i])));
		}
	}
}

static bool
is_on(const LrFlag *flag, const LrRun *run)
{
	return flag && flag->enabled && lr_share_takes(run, flag->salt, flag->share) && lr_segment_holds(flag->segment, run);
}

/* Lists the names of all flags there are, in the current memory context. */
List *
lr_flag_names(void)
{
	List	   *names = NIL;

	load_flags();
	for (int i = 0; i < nflags; i++)
		names = lappend(names, pstrdup(flags[i].name));
	return names;
}

/* Reads all flags, unless they are as they were. */
static void
load_flags(void)
{
	/* 0 is for never, here and in policies */
	uint64		generation = lr_table_generation(LR_TABLE_FEATURE_FLAGS) + 1;
	MemoryContext memory;
	MemoryContext saved;
	LrIdentity	identity;
	LrFlag	   *loaded;
	uint64		n;

	if (flag_memory && flags_generation == generation)
		return;
	memory = AllocSetContextCreate(CurrentMemoryContext, "leadroute flags", ALLOCSET_SMALL_SIZES);
	saved = MemoryContextSwitchTo(memory);
	lr_sql_begin(&identity);
	n = lr_sql("SELECT name, enabled, share, salt, segment FROM leadroute.feature_flags", true, 0, NULL, NULL, NULL);
	MemoryContextSwitchTo(memory);
	loaded = palloc0(sizeof(LrFlag) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		char	   *segment = lr_sql_text(i, 5);

		loaded[i].name = pstrdup(lr_sql_text(i, 1));
		loaded[i].enabled = DatumGetBool(lr_sql_datum(i, 2, &isnull));
		loaded[i].share = DatumGetFloat8(lr_sql_datum(i, 3, &isnull));
		loaded[i].salt = pstrdup(lr_sql_text(i, 4));
		loaded[i].segment = lr_segment_make(segment);
	}
	lr_sql_end(&identity);
	qsort(loaded, n, sizeof(LrFlag), compare_flags);
	MemoryContextSwitchTo(saved);

	MemoryContextSetParent(memory, CacheMemoryContext);
	if (flag_memory)
		MemoryContextDelete(flag_memory);
	flag_memory = memory;
	flags = loaded;
	nflags = (int) n;
	flags_generation = generation;
}

static LrFlag *
find_flag(const char *name)
{
	LrFlag		wanted = {.name = (char *) name};

	return nflags ? bsearch(&wanted, flags, nflags, sizeof(LrFlag), compare_flags) : NULL;
}

static int
compare_flags(const void *a, const void *b)
{
	return strcmp(((const LrFlag *) a)->name, ((const LrFlag *) b)->name);
}

/* ---- defining ---- */

/* Makes a flag, or changes it; see the SQL comment. */
Datum
leadroute_set_flag(PG_FUNCTION_ARGS)
{
	LrIdentity	identity;
	LrMistakes	mistakes = {NIL};
	Oid			caller = GetUserId();
	Oid			types[] = {TEXTOID, BOOLOID, FLOAT8OID, TEXTOID, TEXTOID, TEXTOID};
	Datum		values[6];
	char		nulls[6];
	char	   *name;

	lr_refuse_nulls_before(fcinfo, 1);
	name = checked_flag_name(PG_GETARG_DATUM(0));
	if (!PG_ARGISNULL(2))
		lr_check_share(PG_GETARG_FLOAT8(2));
	if (!PG_ARGISNULL(3) && VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(3)) > 0)
		lr_segment_check(text_to_cstring(PG_GETARG_TEXT_PP(3)), NULL, "flag", &mistakes);
	lr_mistakes_raise(&mistakes, psprintf("flag \"%s\"", name));
	for (int i = 0; i < 5; i++)
	{
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
		values[i] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
	}
	values[5] = CStringGetTextDatum(lr_random_salt());
	nulls[5] = ' ';
	lr_sql_begin(&identity);
	if (lr_sql("UPDATE leadroute.feature_flags SET enabled = coalesce($2, enabled), share = coalesce($3, share),"
			   " segment = CASE WHEN $4 = '' THEN NULL ELSE coalesce($4, segment) END, description = coalesce($5, description) WHERE name = $1",
			   false, 6, types, values, nulls) == 0)
	{
		check_room();
		lr_sql("INSERT INTO leadroute.feature_flags (name, enabled, share, segment, description, salt)"
			   " VALUES ($1, coalesce($2, false), coalesce($3, 1), nullif($4, ''), coalesce($5, ''), $6)", false, 6, types, values, nulls);
	}
	lr_sql_end(&identity);
	lr_record_act(&(LrAct) {.act = "set_flag",.subject = name,.reason = PG_ARGISNULL(5) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(5)),.current_user = caller});
	PG_RETURN_VOID();
}

/* Drops a flag; see the SQL comment. */
Datum
leadroute_drop_flag(PG_FUNCTION_ARGS)
{
	LrIdentity	identity;
	Oid			caller = GetUserId();
	Oid			types[] = {TEXTOID};
	Datum		values[1];
	char	   *name;
	uint64		n;

	lr_refuse_nulls(fcinfo);
	name = checked_flag_name(PG_GETARG_DATUM(0));
	values[0] = CStringGetTextDatum(name);
	check_unused(name);
	lr_sql_begin(&identity);
	n = lr_sql("DELETE FROM leadroute.feature_flags WHERE name = $1", false, 1, types, values, NULL);
	lr_sql_end(&identity);
	if (n == 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("there is no flag \"%s\"", name),
				errhint("See leadroute.feature_flags."));
	lr_record_act(&(LrAct) {.act = "drop_flag",.subject = name,.reason = text_to_cstring(PG_GETARG_TEXT_PP(1)),.current_user = caller});
	PG_RETURN_VOID();
}

/* A flag is written in conditions without quotes. */
static char *
checked_flag_name(Datum name)
{
	char	   *value = TextDatumGetCString(name);

	(void) lr_catalog();
	if (strlen(value) == 0 || strlen(value) > 50 || !islower((unsigned char) value[0]) ||
		strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(value))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("\"%s\" cannot name a flag", value),
				errhint("Begin with a letter; use lower-case letters, digits and underscores, 50 at most."));
	return value;
}

static void
check_room(void)
{
	lr_sql("SELECT count(*) FROM leadroute.feature_flags", true, 0, NULL, NULL, NULL);
	if (lr_sql_int64(0, 1, 0) >= MAX_FLAGS)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("there are %d flags, and no room for more", MAX_FLAGS),
				errhint("Drop those that have served their time with leadroute.drop_flag()."));
}

/* Raises 55000 if a version that decides now reads the flag. */
static void
check_unused(const char *name)
{
	LrIdentity	identity;
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};

	lr_sql_begin(&identity);
	if (lr_sql("SELECT p.name, v.version FROM leadroute.policy_versions v JOIN leadroute.policies p USING (policy_id)"
			   " WHERE v.pins -> 'flags' ? $1 AND (v.policy_version_id IN (p.active_version_id, p.scheduled_version_id) OR v.policy_version_id IN"
			   " (SELECT t.candidate_version_id FROM leadroute.policy_trials t WHERE t.ended_at IS NULL)) ORDER BY 1, 2 LIMIT 1", true, 1, types, values, NULL) > 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("flag \"%s\" is in use", name),
				errdetail("Version %s of policy \"%s\" reads it.", lr_sql_text(0, 2), lr_sql_text(0, 1)),
				errhint("Activate a version that does not, or switch the flag off with leadroute.set_flag('%s', enabled => false).", name));
	lr_sql_end(&identity);
}
