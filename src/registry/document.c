/*
 * document.c: scorecards and jurisdiction rules: immutable versions that policy versions pin; and the log of what people did.
 */
#include "registry/registry.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "provenance/provenance.h"
#include "utils/builtins.h"
#include "utils/inet.h"
#include "utils/jsonb.h"

static LrDocument *load_first_row(MemoryContext memory);
static void set_text(Datum *values, char *nulls, int i, const char *text);

/* Loads a version of a document by its id, in the current memory context; raises 42704 if it is gone. */
LrDocument *
lr_document_load(int document_id)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	LrDocument *document;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(document_id)};

	lr_sql_begin(&identity);
	if (lr_sql("SELECT document_id, name, version, encode(sha256(convert_to(document::text, 'UTF8')), 'hex'), document"
			   " FROM leadroute.documents WHERE document_id = $1",
			   true, 1, types, values, NULL) == 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("document %d is missing from leadroute.documents", document_id),
				errhint("Restore the row: a policy version depends on it."));
	document = load_first_row(memory);
	lr_sql_end(&identity);
	return document;
}

/* Loads the newest version of a document by kind and name, in the current memory context; NULL if there is none. */
LrDocument *
lr_document_newest(const char *kind, const char *name)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	LrDocument *document = NULL;
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(kind), CStringGetTextDatum(name)};

	lr_sql_begin(&identity);
	if (lr_sql("SELECT document_id, name, version, encode(sha256(convert_to(document::text, 'UTF8')), 'hex'), document FROM leadroute.documents"
			   " WHERE kind = $1 AND name = $2 ORDER BY version DESC LIMIT 1", true, 2, types, values, NULL) > 0)
		document = load_first_row(memory);
	lr_sql_end(&identity);
	return document;
}

static LrDocument *
load_first_row(MemoryContext memory)
{
	MemoryContext saved = MemoryContextSwitchTo(memory);
	LrDocument *document = palloc0(sizeof(LrDocument));
	bool		isnull;

	document->document_id = lr_sql_int32(0, 1, 0);
	document->name = pstrdup(lr_sql_text(0, 2));
	document->version = lr_sql_int32(0, 3, 0);
	document->digest = pstrdup(lr_sql_text(0, 4));
	document->json = lr_json_of_jsonb(lr_sql_datum(0, 5, &isnull));
	MemoryContextSwitchTo(saved);
	return document;
}

/*
 * Stores a checked document as the next version of its name, and logs the act; returns the version. One equal to the newest
 * gives that version again.
 */
int
lr_document_publish(const char *kind, const char *name, Datum document, const char *reason)
{
	LrIdentity	identity;
	Oid			caller = GetUserId();
	Oid			types[] = {TEXTOID, TEXTOID, JSONBOID, TEXTOID, NAMEOID};
	Datum		values[5];
	int			document_id;
	int			version;

	values[0] = CStringGetTextDatum(kind);
	values[1] = CStringGetTextDatum(name);
	values[2] = document;
	values[3] = CStringGetTextDatum(reason);
	values[4] = DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(GetSessionUserId(), false)));
	lr_sql_begin(&identity);
	/* one publisher at a time: version numbers are dense */
	lr_sql("LOCK TABLE leadroute.documents IN SHARE ROW EXCLUSIVE MODE", false, 0, NULL, NULL, NULL);
	if (lr_sql("SELECT version FROM leadroute.documents d WHERE kind = $1 AND name = $2 AND document = $3"
			   " AND version = (SELECT max(version) FROM leadroute.documents n WHERE n.kind = $1 AND n.name = $2)",
			   true, 3, types, values, NULL) > 0)
	{
		version = lr_sql_int32(0, 1, 0);
		lr_sql_end(&identity);
		return version;
	}
	lr_sql("INSERT INTO leadroute.documents (kind, name, version, document, content_hash, reason, published_by)"
		   " SELECT $1, $2, coalesce(max(version), 0) + 1, $3, sha256(convert_to($3::text, 'UTF8')), $4, $5"
		   " FROM leadroute.documents WHERE kind = $1 AND name = $2 RETURNING document_id, version", false, 5, types, values, NULL);
	document_id = lr_sql_int32(0, 1, 0);
	version = lr_sql_int32(0, 2, 0);
	lr_sql_end(&identity);
	lr_record_act(&(LrAct) {.act = "publish_document",.document_id = document_id,.reason = reason,.current_user = caller});
	return version;
}

/* Logs what a person did with a policy, a document or another subject: who, from where and why are taken from the session, never typed. */
void
lr_record_act(const LrAct *act)
{
	LrIdentity	identity;
	Oid			types[] = {TEXTOID, INT4OID, INT4OID, INT4OID, INT4OID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID};
	Datum		values[lengthof(types)] = {0};
	char		nulls[lengthof(types)];
	int			ids[] = {act->policy_id, act->policy_version_id, act->document_id, act->previous_version_id};

	memset(nulls, 'n', sizeof(nulls));
	for (int i = 0; i < (int) lengthof(ids); i++)
	{
		values[i + 1] = Int32GetDatum(ids[i]);
		nulls[i + 1] = ids[i] == 0 ? 'n' : ' ';
	}
	values[6] = TimestampTzGetDatum(act->effective_at);
	nulls[6] = act->effective_at == 0 ? 'n' : ' ';
	set_text(values, nulls, 0, act->act);
	set_text(values, nulls, 5, act->draft);
	set_text(values, nulls, 7, act->overridden);
	set_text(values, nulls, 8, act->reason);
	set_text(values, nulls, 9, GetUserNameFromId(GetSessionUserId(), false));
	set_text(values, nulls, 10, GetUserNameFromId(act->current_user, false));
	set_text(values, nulls, 11, act->subject);
	lr_sql_begin(&identity);
	lr_sql("INSERT INTO leadroute.policy_acts (act, policy_id, policy_version_id, document_id, previous_version_id, draft, effective_at,"
		   " forced, overridden, reason, session_user_name, current_user_name, application, client_address, subject)"
		   " VALUES ($1, $2, $3, $4, $5, $6, $7, $8 IS NOT NULL, $8, $9, $10, $11, current_setting('application_name'), inet_client_addr(), $12)",
		   false, lengthof(types), types, values, nulls);
	lr_sql_end(&identity);
}

static void
set_text(Datum *values, char *nulls, int i, const char *text)
{
	if (text == NULL)
		return;
	values[i] = CStringGetTextDatum(text);
	nulls[i] = ' ';
}

/*
 * Logs that the scheduled activation of a policy took effect, at its moment, as the act of whoever scheduled it: whoever
 * comes after that moment only enters it. The caller acts as the owner, and holds the policy's row.
 */
void
lr_record_due_activation(int policy_id, int previous_version_id)
{
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(policy_id), Int32GetDatum(previous_version_id)};
	char		nulls[] = {' ', previous_version_id == 0 ? 'n' : ' '};

	lr_sql("INSERT INTO leadroute.policy_acts (act, policy_id, policy_version_id, previous_version_id, effective_at, forced, overridden, reason,"
		   " session_user_name, current_user_name, application, client_address)"
		   " SELECT 'activate', a.policy_id, a.policy_version_id, $2, a.effective_at, a.forced, a.overridden, a.reason,"
		   " a.session_user_name, a.current_user_name, a.application, a.client_address"
		   " FROM leadroute.policy_acts a WHERE a.policy_id = $1 AND a.act = 'schedule' ORDER BY a.policy_act_id DESC LIMIT 1",
		   false, 2, types, values, nulls);
}
