/*
 * life.c: what becomes of a published version: approval, activation, now or at a moment, and rollback.
 *
 * A version never changes; what changes is the policy's row, which names the version that decides, and perhaps the one that
 * does so from a moment on. Whoever acts on a policy locks its row first, so acts on one policy happen one after the other,
 * and those on different policies do not wait for each other. An activation whose moment has come is settled by whoever acts
 * next: it becomes the active version, with its act, before anything else is done, so that a rollback finds what it expects.
 * Readers need no settling: they compare the moment (policy.c, and the view active_policies).
 */
#include "policy/policy.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(leadroute_activate_policy);
PG_FUNCTION_INFO_V1(leadroute_rollback_policy);
PG_FUNCTION_INFO_V1(leadroute_cancel_activation);
PG_FUNCTION_INFO_V1(leadroute_approve_policy);
PG_FUNCTION_INFO_V1(leadroute_require_approval);
PG_FUNCTION_INFO_V1(leadroute_enter_activations);

#define ROW_QUERY "SELECT policy_id, active_version_id, scheduled_version_id, scheduled_at, approval_required FROM leadroute.policies" \
	" WHERE name = $1 FOR UPDATE"

static void activate(const LrPolicyRow *row, int version_id, LrAct act);
static void warn_of_unheard(int version_id);
static void schedule(const LrPolicyRow *row, const char *name, int version_id, TimestampTz at, LrAct act);
static void settle(LrPolicyRow *row);
static int	find_version(const LrPolicyRow *row, const char *name, bool newest, int version);
static bool is_approved(int version_id);
static int	version_number(int version_id);

/* Makes a version the active one, now or at a moment; see the SQL comment. */
Datum
leadroute_activate_policy(PG_FUNCTION_ARGS)
{
	char	   *name;
	LrAct		act = {.act = "activate",.reason = PG_ARGISNULL(2) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(2)),.current_user = GetUserId()};
	bool		now = PG_ARGISNULL(3);
	TimestampTz at = now ? 0 : PG_GETARG_TIMESTAMPTZ(3);
	bool		force = !PG_ARGISNULL(4) && PG_GETARG_BOOL(4);
	LrPolicyRow row;
	int			version_id;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("the policy's name is null"));
	name = lr_checked_name(PG_GETARG_DATUM(0), "policy");
	lr_require_reason(force, act.reason);
	if (!now && (TIMESTAMP_NOT_FINITE(at) || at <= GetCurrentTimestamp()))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("an activation cannot be scheduled for %s", TIMESTAMP_NOT_FINITE(at) ? "no moment" : "a moment that is past"),
				errhint("Give a moment to come, or leave it out to activate now."));
	lr_policy_lock(name, false, &row);
	version_id = find_version(&row, name, PG_ARGISNULL(1), PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1));
	lr_policy_check_usable(version_id, name);
	if (version_id != row.active || (!now && row.scheduled))
	{
		act.overridden = lr_policy_check_approved(&row, version_id, name, force);
		if (now)
			activate(&row, version_id, act);
		else
			schedule(&row, name, version_id, at, act);
		warn_of_unheard(version_id);
	}
	else if (!now)
		ereport(NOTICE,
				errcode(ERRCODE_SUCCESSFUL_COMPLETION),
				errmsg("version %d of policy \"%s\" is active already: nothing is scheduled", version_number(version_id), name));
	PG_RETURN_INT32(version_number(version_id));
}

/* Warns of leads that a hold keeps to its end, since nothing tells when what it waits for arrives. */
static void
warn_of_unheard(int version_id)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(version_id)};
	StringInfoData list;
	uint64		n;

	lr_sql_begin(&identity);
	n = lr_sql("SELECT string_agg(format('%s of %s', attribute, leads_table), ', '), count(*) FROM leadroute.unheard_holds($1) HAVING count(*) > 0", true, 1, types, values, NULL);
	MemoryContextSwitchTo(memory);
	initStringInfo(&list);
	if (n > 0)
		appendStringInfoString(&list, lr_sql_text(0, 1));
	lr_sql_end(&identity);
	if (n > 0)
		ereport(WARNING,
				errcode(ERRCODE_WARNING),
				errmsg("leads are held for attributes whose UPDATE does not wake them"),
				errdetail("They wait for the whole time of the hold, or until somebody routes them by hand: %s.", list.data),
				errhint("Attach the table with these columns in reroute_on."));
}

/* Makes the version active that was so before the present one; see the SQL comment. */
Datum
leadroute_rollback_policy(PG_FUNCTION_ARGS)
{
	lr_refuse_nulls(fcinfo);

	char	   *name = lr_checked_name(PG_GETARG_DATUM(0), "policy");
	LrAct		act = {.act = "rollback",.reason = text_to_cstring(PG_GETARG_TEXT_PP(1)),.current_user = GetUserId()};
	bool		force = PG_GETARG_BOOL(2);
	LrIdentity	identity;
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[2];
	LrPolicyRow row;
	int			version_id = 0;

	lr_require_reason(force, act.reason);
	lr_policy_lock(name, false, &row);
	/* the latest activation of the present version says what was before it; a rollback does not count as one */
	values[0] = Int32GetDatum(row.policy_id);
	values[1] = Int32GetDatum(row.active);
	lr_sql_begin(&identity);
	if (lr_sql("SELECT previous_version_id FROM leadroute.policy_acts WHERE policy_id = $1 AND act = 'activate' AND policy_version_id = $2"
			   " ORDER BY policy_act_id DESC LIMIT 1", true, 2, types, values, NULL) > 0)
		version_id = lr_sql_int32(0, 1, 0);
	lr_sql_end(&identity);
	if (version_id == 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("policy \"%s\" has no version to go back to", name),
				errhint("Activate the version that you want by its number: see leadroute.policy_version_states."));
	lr_policy_check_usable(version_id, name);
	act.overridden = lr_policy_check_approved(&row, version_id, name, force);
	activate(&row, version_id, act);
	PG_RETURN_INT32(version_number(version_id));
}

/* Cancels what activate() scheduled; see the SQL comment. */
Datum
leadroute_cancel_activation(PG_FUNCTION_ARGS)
{
	lr_refuse_nulls(fcinfo);

	char	   *name = lr_checked_name(PG_GETARG_DATUM(0), "policy");
	LrAct		act = {.act = "cancel",.reason = text_to_cstring(PG_GETARG_TEXT_PP(1)),.current_user = GetUserId()};
	LrIdentity	identity;
	Oid			types[] = {INT4OID};
	Datum		values[1];
	LrPolicyRow row;

	lr_policy_lock(name, false, &row);
	if (row.scheduled == 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("policy \"%s\" has no scheduled activation", name),
				errhint("Once its moment has come, leadroute.rollback_policy() goes back to the version before."));
	values[0] = Int32GetDatum(row.policy_id);
	lr_sql_begin(&identity);
	lr_sql("UPDATE leadroute.policies SET scheduled_version_id = NULL, scheduled_at = NULL WHERE policy_id = $1", false, 1, types, values, NULL);
	lr_sql_end(&identity);
	act.policy_id = row.policy_id;
	act.policy_version_id = row.scheduled;
	act.effective_at = row.scheduled_at;
	lr_record_act(&act);
	PG_RETURN_INT32(version_number(row.scheduled));
}

/* Approves a version as somebody who did not write it; see the SQL comment. */
Datum
leadroute_approve_policy(PG_FUNCTION_ARGS)
{
	lr_refuse_nulls(fcinfo);

	char	   *name = lr_checked_name(PG_GETARG_DATUM(0), "policy");
	LrAct		act = {.act = "approve",.reason = text_to_cstring(PG_GETARG_TEXT_PP(2)),.current_user = GetUserId()};
	char	   *user = GetUserNameFromId(GetSessionUserId(), false);
	LrIdentity	identity;
	Oid			types[] = {INT4OID, TEXTOID};
	Datum		values[2];
	bool		isnull;
	bool		is_author;
	bool		approved_before;
	LrPolicyRow row;
	int			version_id;

	lr_policy_lock(name, false, &row);
	version_id = find_version(&row, name, false, PG_GETARG_INT32(1));
	values[0] = Int32GetDatum(version_id);
	values[1] = CStringGetTextDatum(user);
	lr_sql_begin(&identity);
	lr_sql("SELECT $2::name = ANY (v.authors), EXISTS (SELECT FROM leadroute.policy_acts a WHERE a.policy_id = v.policy_id AND a.act = 'approve'"
		   " AND a.policy_version_id = v.policy_version_id AND a.session_user_name = $2::name)"
		   " FROM leadroute.policy_versions v WHERE v.policy_version_id = $1", true, 2, types, values, NULL);
	is_author = DatumGetBool(lr_sql_datum(0, 1, &isnull));
	approved_before = DatumGetBool(lr_sql_datum(0, 2, &isnull));
	lr_sql_end(&identity);
	if (is_author)
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("version %d of policy \"%s\" has to be approved by somebody else", PG_GETARG_INT32(1), name),
				errdetail("The session's user, \"%s\", is one of its authors.", user),
				errhint("Log in as another member of leadroute_approver; leadroute.policy_version_states names the authors."));
	act.policy_id = row.policy_id;
	act.policy_version_id = version_id;
	if (!approved_before)
		lr_record_act(&act);
	PG_RETURN_INT32(PG_GETARG_INT32(1));
}

/* Says whether versions need an approval; see the SQL comment. */
Datum
leadroute_require_approval(PG_FUNCTION_ARGS)
{
	lr_refuse_nulls(fcinfo);

	char	   *name = lr_checked_name(PG_GETARG_DATUM(0), "policy");
	bool		required = PG_GETARG_BOOL(1);
	LrAct		act = {.act = required ? "require_approval" : "waive_approval",.reason = text_to_cstring(PG_GETARG_TEXT_PP(2)),.current_user = GetUserId()};
	LrIdentity	identity;
	Oid			types[] = {INT4OID, BOOLOID};
	Datum		values[2];
	LrPolicyRow row;
	int			canary;

	lr_require_reason(true, act.reason);
	lr_policy_lock(name, false, &row);
	if (row.approval_required == required)
		PG_RETURN_BOOL(false);
	canary = required ? lr_trial_canary(row.policy_id) : 0;
	if (canary && !is_approved(canary))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("version %d of policy \"%s\" decides as a canary without an approval", version_number(canary), name),
				errhint("Approve it with leadroute.approve_policy(), or end the trial with leadroute.abort_trial(), first."));
	if (required && row.scheduled && !is_approved(row.scheduled))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("version %d of policy \"%s\" is scheduled without an approval", version_number(row.scheduled), name),
				errhint("Approve it with leadroute.approve_policy(), or cancel it with leadroute.cancel_activation(), first."));
	values[0] = Int32GetDatum(row.policy_id);
	values[1] = BoolGetDatum(required);
	lr_sql_begin(&identity);
	lr_sql("UPDATE leadroute.policies SET approval_required = $2 WHERE policy_id = $1", false, 2, types, values, NULL);
	lr_sql_end(&identity);
	act.policy_id = row.policy_id;
	/* from now on versions become active past a check that there was */
	act.overridden = required ? NULL : "required approval";
	lr_record_act(&act);
	PG_RETURN_BOOL(true);
}

/* Returns what shall be the name of a policy or a document; raises 22023 if it cannot be one. */
char *
lr_checked_name(Datum name, const char *what)
{
	char	   *value = TextDatumGetCString(name);

	(void) lr_catalog();
	if (value[0] == '\0' || strlen(value) > 100 || strpbrk(value, "@\n\r\t"))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("\"%s\" cannot name a %s", value, what),
				errhint("Use 1 to 100 characters, and no \"@\"."));
	return value;
}

/* Raises 22023 if a check shall be overridden, and nobody says why. */
void
lr_require_reason(bool force, const char *reason)
{
	if (force && strspn(reason, " \t\r\n") == strlen(reason))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the reason is empty"),
				errhint("Say why: it goes on record."));
}

/* Settles all activations whose moment has come; see the SQL comment. */
Datum
leadroute_enter_activations(PG_FUNCTION_ARGS)
{
	LrIdentity	identity;
	LrPolicyRow row;
	char	  **names;
	MemoryContext memory = CurrentMemoryContext;
	int			n;

	lr_sql_begin(&identity);
	n = (int) lr_sql("SELECT name FROM leadroute.policies WHERE scheduled_at <= clock_timestamp() ORDER BY name", true, 0, NULL, NULL, NULL);
	names = MemoryContextAlloc(memory, sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
		names[i] = MemoryContextStrdup(memory, lr_sql_text(i, 1));
	lr_sql_end(&identity);
	for (int i = 0; i < n; i++)
		lr_policy_lock(names[i], false, &row);
	PG_RETURN_INT32(n);
}

/*
 * Finds a policy by its name, or, create, makes it; locks its row to the end of the transaction, and settles an activation that
 * is due. Raises 42704 if there is none.
 */
void
lr_policy_lock(const char *name, bool create, LrPolicyRow *row)
{
	LrIdentity	identity;
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	bool		isnull;
	uint64		found;

	lr_sql_begin(&identity);
	found = lr_sql(ROW_QUERY, false, 1, types, values, NULL);
	if (found == 0 && create)
	{
		/* another session may be making it, too */
		lr_sql("INSERT INTO leadroute.policies (name) VALUES ($1) ON CONFLICT (name) DO NOTHING", false, 1, types, values, NULL);
		found = lr_sql(ROW_QUERY, false, 1, types, values, NULL);
	}
	if (found == 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("policy \"%s\" does not exist", name),
				errhint("See leadroute.policies; leadroute.publish_policy() makes a new one."));
	row->policy_id = lr_sql_int32(0, 1, 0);
	row->active = lr_sql_int32(0, 2, 0);
	row->scheduled = lr_sql_int32(0, 3, 0);
	row->scheduled_at = (TimestampTz) lr_sql_int64(0, 4, 0);
	row->approval_required = DatumGetBool(lr_sql_datum(0, 5, &isnull));
	if (row->scheduled && row->scheduled_at <= GetCurrentTimestamp())
		settle(row);
	lr_sql_end(&identity);
}

/* Enters an activation whose moment has come. The caller acts as the owner, and holds the row. */
static void
settle(LrPolicyRow *row)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(row->policy_id)};

	lr_sql("UPDATE leadroute.policies SET active_version_id = scheduled_version_id, scheduled_version_id = NULL, scheduled_at = NULL"
		   " WHERE policy_id = $1", false, 1, types, values, NULL);
	/* it may have been made active by hand meanwhile */
	if (row->scheduled != row->active)
	{
		lr_trial_end_with_baseline(row->policy_id, GetSessionUserId());
		lr_record_due_activation(row->policy_id, row->active);
	}
	row->active = row->scheduled;
	row->scheduled = 0;
}

static void
activate(const LrPolicyRow *row, int version_id, LrAct act)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(row->policy_id), Int32GetDatum(version_id)};

	lr_sql_begin(&identity);
	lr_sql("UPDATE leadroute.policies SET active_version_id = $2 WHERE policy_id = $1", false, 2, types, values, NULL);
	lr_sql_end(&identity);
	lr_trial_end_with_baseline(row->policy_id, act.current_user);
	act.policy_id = row->policy_id;
	act.policy_version_id = version_id;
	act.previous_version_id = row->active;
	act.effective_at = GetCurrentTransactionStartTimestamp();
	lr_record_act(&act);
}

static void
schedule(const LrPolicyRow *row, const char *name, int version_id, TimestampTz at, LrAct act)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID, INT4OID, TIMESTAMPTZOID};
	Datum		values[] = {Int32GetDatum(row->policy_id), Int32GetDatum(version_id), TimestampTzGetDatum(at)};

	if (row->scheduled)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("policy \"%s\" has a scheduled activation already", name),
				errdetail("Version %d becomes active at %s.", version_number(row->scheduled), timestamptz_to_str(row->scheduled_at)),
				errhint("Cancel it first with leadroute.cancel_activation()."));
	lr_sql_begin(&identity);
	lr_sql("UPDATE leadroute.policies SET scheduled_version_id = $2, scheduled_at = $3 WHERE policy_id = $1", false, 3, types, values, NULL);
	lr_sql_end(&identity);
	act.act = "schedule";
	act.policy_id = row->policy_id;
	act.policy_version_id = version_id;
	act.effective_at = at;
	lr_record_act(&act);
}

/* Returns the id of a version, or of the newest; raises 42704 if there is none. */
static int
find_version(const LrPolicyRow *row, const char *name, bool newest, int version)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(row->policy_id), Int32GetDatum(version)};
	char		nulls[] = {' ', newest ? 'n' : ' '};
	int			version_id = 0;

	lr_sql_begin(&identity);
	if (lr_sql("SELECT policy_version_id FROM leadroute.policy_versions WHERE policy_id = $1 AND ($2 IS NULL OR version = $2)"
			   " ORDER BY version DESC LIMIT 1", true, 2, types, values, nulls) > 0)
		version_id = lr_sql_int32(0, 1, 0);
	lr_sql_end(&identity);
	if (version_id == 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				newest ? errmsg("policy \"%s\" has no version", name) : errmsg("policy \"%s\" has no version %d", name, version),
				errhint("See leadroute.policy_version_states."));
	return version_id;
}

/* Raises 55000 if a version's agents are gone, or it reads what is protected by now. */
void
lr_policy_check_usable(int version_id, const char *name)
{
	LrPolicy   *policy = lr_policy_hold(version_id);
	LrMistakes	mistakes = {NIL};

	for (int i = 0; i < policy->nsteps; i++)
	{
		LrAgent    *agent = policy->steps[i].agent;

		if (agent->retired || agent->changed)
			ereport(ERROR,
					errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("version %d of policy \"%s\" cannot become active", policy->version, name),
					errdetail("Its step \"%s\" uses agent \"%s\" version \"%s\", which %s.", policy->steps[i].capability, agent->name,
							  agent->version, agent->retired ? "is retired" : "is no longer the function that was registered"),
					errhint("Publish a new version that uses another agent version."));
	}
	lr_check_protected(policy, &mistakes);
	if (mistakes.list != NIL)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("version %d of policy \"%s\" cannot become active", policy->version, name),
				errdetail("%s.", ((LrMistake *) linitial(mistakes.list))->problem),
				errhint("%s", ((LrMistake *) linitial(mistakes.list))->hint));
	lr_policy_release(policy);
}

/*
 * Raises 55000 if the policy requires an approval that a version does not have. Returns NULL, or, force, what is overridden.
 */
const char *
lr_policy_check_approved(const LrPolicyRow *row, int version_id, const char *name, bool force)
{
	if (!row->approval_required || is_approved(version_id))
		return NULL;
	if (!force)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("version %d of policy \"%s\" is not approved", version_number(version_id), name),
				errdetail("The policy requires an approval by somebody who is not among the version's authors."),
				errhint("Approve it with leadroute.approve_policy(). activate_policy() and rollback_policy() also take force => true and a reason: that is on record in leadroute.forced_acts."));
	return "missing approval";
}

static bool
is_approved(int version_id)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(version_id)};
	bool		approved;

	lr_sql_begin(&identity);
	approved = lr_sql("SELECT FROM leadroute.policy_versions v JOIN leadroute.policy_acts a USING (policy_id, policy_version_id)"
					  " WHERE v.policy_version_id = $1 AND a.act = 'approve' AND a.session_user_name <> ALL (v.authors) LIMIT 1",
					  true, 1, types, values, NULL) > 0;
	lr_sql_end(&identity);
	return approved;
}

/* Returns the number of a version, also of one that cannot be used any more. */
static int
version_number(int version_id)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(version_id)};
	int			version = 0;

	lr_sql_begin(&identity);
	if (lr_sql("SELECT version FROM leadroute.policy_versions WHERE policy_version_id = $1", true, 1, types, values, NULL) > 0)
		version = lr_sql_int32(0, 1, 0);
	lr_sql_end(&identity);
	return version;
}
