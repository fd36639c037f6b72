/*
 * match_account.c: the agent matchAccount: which of the team's accounts a lead belongs to.
 *
 * Domain, then name, then a name that is alike where something else agrees (account_lookup.c), for a whole batch at once. The
 * outputs name the best account, by its id; the record also has every candidate with what spoke for it, and who works the best
 * one in which role: rules that ask for the account's owner are repeated from that. Names, domains and numbers of accounts are
 * never on record.
 */
#include "agents/accounts.h"

#include "agents/agents.h"
#include "agents/contact.h"
#include "miscadmin.h"
#include "pipeline/pipeline.h"
#include "policy/policy.h"
#include "provenance/provenance.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"

typedef struct MatchConfig
{
	int			threshold;		/* of a fuzzy match, in hundredths */
	const char *postcode;		/* the member of attributes that is the postcode */
	bool		parents;		/* the result is the ultimate parent */
} MatchConfig;

/* What prepare() leaves for run(). */
typedef struct Matched
{
	bool		has_key;
	LrAccountFound *found;		/* or NULL */
} Matched;

static const char *const agreement_names[LR_N_AGREEMENTS] = {"domain_root", "phone", "postcode", "country"};

static void configure(LrStep *step, json_t *json, json_t *document, const LrScope *scope, const char *place, LrMistakes *mistakes);
static void prepare(LrStep *step, LrBatch *batch);
static void run(LrStep *step, LrRun *run);
static void unfold(const LrStep *step, const char *detail, int length, StringInfo json);
static void restore(const LrStep *step, LrRun *run, const char *detail, int length);
static bool find_keys(const MatchConfig *config, LrRun *run, LrAccountKeys *keys);
static char *own_domain(LrRun *run);
static char *postcode_of(const LrRun *run, const char *member);
static StringInfo detail_of(const LrAccountFound *found);
static void skip_candidates(LrReader *in);
static LrAccountOwners *read_owners(LrReader *in);

const LrBuiltin lr_match_account = {
	.capability = "matchAccount",
	.agent_id = 6,
	.first_fact = LR_ACCOUNT_STATUS,
	.nfacts = LR_N_FACTS - LR_ACCOUNT_STATUS,
	.recomputable = false,
	.configure = configure,
	.prepare = prepare,
	.run = run,
	.unfold = unfold,
	.restore = restore,
};

static void
configure(LrStep *step, json_t *json, json_t *document, const LrScope *scope, const char *place, LrMistakes *mistakes)
{
	static const int reads[] = {LR_DOMAIN, LR_EMAIL, LR_COMPANY, LR_COUNTRY, LR_PHONE, LR_ATTRIBUTES};
	MatchConfig *config = palloc0(sizeof(MatchConfig));
	double		threshold = 0.6;
	const char *postcode = lr_json_string(json, "postcode", false, place, mistakes);
	const char *result = lr_json_string(json, "result", false, place, mistakes);

	(void) lr_json_number(json, "similarity", 0.3, 1, &threshold, place, mistakes);
	config->threshold = (int) (threshold * 100 + 0.5);
	config->postcode = pstrdup(postcode ? postcode : "postcode");
	config->parents = result && strcmp(result, "ultimate_parent") == 0;
	if (result && !config->parents && strcmp(result, "account") != 0)
		lr_mistake(mistakes, lr_place(place, "result"), "Give \"account\" or \"ultimate_parent\".", "\"%s\" is not known", result);
	step->config = config;
	for (int i = 0; i < (int) lengthof(reads); i++)
		step->reads = bms_add_member(step->reads, reads[i]);
	step->keys = list_make1((char *) config->postcode);
}

/* Finds the accounts of all leads of the batch. */
static void
prepare(LrStep *step, LrBatch *batch)
{
	LrAccountLookup *lookup = lr_account_lookup_begin();

	for (int i = 0; i < batch->n; i++)
	{
		LrRun	   *run = &batch->runs[i];
		LrAccountKeys keys;
		Matched	   *result;

		CHECK_FOR_INTERRUPTS();
		run->looked_up = NULL;
		if (run->ended || !lr_step_wanted(step, run))
			continue;
		run->looked_up = result = palloc0(sizeof(Matched));
		result->has_key = find_keys(step->config, run, &keys);
		if (result->has_key)
			result->found = lr_account_find(lookup, &keys);
	}
	lr_account_lookup_end(lookup);
}

static void
run(LrStep *step, LrRun *run)
{
	const Matched *result = run->looked_up;
	const LrAccountFound *found = result ? result->found : NULL;

	run->account_owners = found ? found->owners : NULL;
	if (found == NULL)
	{
		lr_run_set_text(run, LR_ACCOUNT_STATUS, result && result->has_key ? "no_match" : "no_key");
		return;
	}
	lr_run_set_text(run, LR_ACCOUNT_STATUS, found->ambiguous ? "ambiguous" : "matched");
	lr_run_set_text(run, LR_ACCOUNT_ID, psprintf(INT64_FORMAT, found->chosen.account_id));
	lr_run_set_text(run, LR_ACCOUNT_TYPE, lr_account_type_names[found->chosen.type]);
	lr_run_set_text(run, LR_ACCOUNT_MATCH, lr_account_match_names[found->chosen.match]);
	lr_run_set(run, LR_ACCOUNT_CONFIDENCE, Int32GetDatum(found->chosen.confidence));
	lr_run_set(run, LR_ACCOUNT_OPEN_OPPORTUNITY, BoolGetDatum(found->chosen.opportunity));
	if (found->chosen.ultimate_parent_id)
		lr_run_set_text(run, LR_ACCOUNT_PARENT_ID, psprintf(INT64_FORMAT, found->chosen.ultimate_parent_id));
	run->steps[step->number].detail = detail_of(found);
}

/* Finds who has a role for an account; NULL if nobody has. */
const LrAccountOwner *
lr_account_owner_of_role(const LrAccountOwners *owners, const char *role, int length)
{
	for (int i = 0; owners && i < owners->n; i++)
	{
		if ((int) strlen(owners->owners[i].role) == length && memcmp(owners->owners[i].role, role, length) == 0)
			return &owners->owners[i];
	}
	return NULL;
}

/* ---- what a lead is looked for by ---- */

/* Fills in what is known of a lead; false if nothing is. */
static bool
find_keys(const MatchConfig *config, LrRun *run, LrAccountKeys *keys)
{
	char	   *own = own_domain(run);

	memset(keys, 0, sizeof(*keys));
	keys->threshold = config->threshold;
	keys->parents = config->parents;
	keys->domains[0] = own;
	if (run->mail.status == LR_CONTACT_OK && run->mail.kind == LR_MAIL_BUSINESS)
	{
		char	   *of_mail = lr_own_domain_form(run->mail.domain, run->mail.domain_len);

		if (own == NULL || of_mail == NULL || strcmp(own, of_mail) != 0)
			keys->domains[1] = of_mail;
	}
	keys->root = lr_domain_root_form(own ? own : keys->domains[1]);
	if (!run->isnull[LR_COMPANY])
	{
		text	   *name = DatumGetTextPP(run->values[LR_COMPANY]);

		keys->name = lr_company_form(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name));
	}
	if (run->phone.status == LR_CONTACT_OK)
		keys->phone = run->phone.normal;
	if (!run->isnull[LR_COUNTRY])
	{
		text	   *country = DatumGetTextPP(run->values[LR_COUNTRY]);

		if (VARSIZE_ANY_EXHDR(country) == 2)
			keys->country = psprintf("%c%c", pg_ascii_toupper((unsigned char) VARDATA_ANY(country)[0]),
									 pg_ascii_toupper((unsigned char) VARDATA_ANY(country)[1]));
	}
	if (keys->name)
		keys->postcode = postcode_of(run, config->postcode);
	return keys->domains[0] || keys->domains[1] || keys->name;
}

/* The lead's domain, unless it belongs to everybody: as the lists have it, or as the step validateContact has been told. */
static char *
own_domain(LrRun *run)
{
	text	   *domain;
	char	   *normal;

	if (run->isnull[LR_DOMAIN])
		return NULL;
	domain = DatumGetTextPP(run->values[LR_DOMAIN]);
	normal = lr_own_domain_form(VARDATA_ANY(domain), VARSIZE_ANY_EXHDR(domain));
	if (normal && run->mail.status == LR_CONTACT_OK && run->mail.kind != LR_MAIL_BUSINESS && strcmp(normal, run->mail.domain) == 0)
		return NULL;
	return normal;
}

static char *
postcode_of(const LrRun *run, const char *member)
{
	Jsonb	   *attributes;
	JsonbValue	buffer;
	JsonbValue *value;

	if (run->isnull[LR_ATTRIBUTES])
		return NULL;
	attributes = DatumGetJsonbP(run->values[LR_ATTRIBUTES]);
	if (!JB_ROOT_IS_OBJECT(attributes))
		return NULL;
	value = getKeyJsonValueFromContainer(&attributes->root, member, strlen(member), &buffer);
	if (value && value->type == jbvString)
		return lr_postcode_form(value->val.string.val, value->val.string.len);
	if (value && value->type == jbvNumeric)
	{
		char	   *number = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));

		return lr_postcode_form(number, strlen(number));
	}
	return NULL;
}

/* ---- the record ---- */

/*
 * varint count of the candidates that are listed; for each varint account id, u8 match, u8 what agrees, u8 type, u8 whether there
 * is an open opportunity, varint confidence, varint similarity, varint id of the ultimate parent. varint further ones; u8 whether
 * not all were looked at. varint count of owners; for each string role, varint owner id.
 */
static StringInfo
detail_of(const LrAccountFound *found)
{
	StringInfo	detail = lr_detail_make();

	lr_put_varint(detail, found->n);
	for (int i = 0; i < found->n; i++)
	{
		const LrAccountCandidate *candidate = &found->candidates[i];

		lr_put_varint(detail, candidate->account_id);
		appendStringInfoChar(detail, (char) candidate->match);
		appendStringInfoChar(detail, (char) candidate->agrees);
		appendStringInfoChar(detail, (char) candidate->type);
		appendStringInfoChar(detail, (char) candidate->opportunity);
		lr_put_varint(detail, candidate->confidence);
		lr_put_varint(detail, candidate->similarity);
		lr_put_varint(detail, candidate->ultimate_parent_id);
	}
	lr_put_varint(detail, found->more);
	appendStringInfoChar(detail, (char) found->cut);
	lr_put_varint(detail, found->owners ? found->owners->n : 0);
	for (int i = 0; found->owners && i < found->owners->n; i++)
	{
		lr_put_string(detail, found->owners->owners[i].role);
		lr_put_varint(detail, found->owners->owners[i].owner_id);
	}
	return detail;
}

static void
unfold(const LrStep *step, const char *detail, int length, StringInfo json)
{
	LrReader	in = {detail, detail + length};
	uint64		n = lr_get_varint(&in);
	uint64		more;
	LrAccountOwners *owners;

	appendStringInfoString(json, ", \"candidates\": [");
	for (uint64 i = 0; i < n; i++)
	{
		uint64		account_id = lr_get_varint(&in);
		const unsigned char *bytes = (const unsigned char *) lr_get_bytes(&in, 4);
		uint64		confidence = lr_get_varint(&in);
		uint64		similarity = lr_get_varint(&in);
		uint64		parent = lr_get_varint(&in);
		bool		first = true;

		if (bytes[0] >= LR_N_MATCHES || bytes[2] >= LR_N_ACCOUNT_TYPES)
			ereport(ERROR, errcode(ERRCODE_DATA_CORRUPTED), errmsg("the evidence of an entry is damaged"),
					errhint("Restore leadroute.entries from a backup."));
		appendStringInfo(json, "%s{\"account_id\": \"" UINT64_FORMAT "\", \"match\": \"%s\", \"confidence\": " UINT64_FORMAT ", \"type\": \"%s\","
						 " \"open_opportunity\": %s", i ? ", " : "", account_id, lr_account_match_names[bytes[0]], confidence,
						 lr_account_type_names[bytes[2]], bytes[3] ? "true" : "false");
		if (bytes[0] == LR_MATCH_FUZZY)
			appendStringInfo(json, ", \"similarity\": " UINT64_FORMAT, similarity);
		for (int bit = 0; bit < LR_N_AGREEMENTS; bit++)
		{
			if ((bytes[1] & (1 << bit)) == 0)
				continue;
			appendStringInfo(json, "%s\"%s\"", first ? ", \"agrees\": [" : ", ", agreement_names[bit]);
			first = false;
		}
		if (!first)
			appendStringInfoChar(json, ']');
		if (parent)
			appendStringInfo(json, ", \"ultimate_parent_id\": \"" UINT64_FORMAT "\"", parent);
		appendStringInfoChar(json, '}');
	}
	appendStringInfoChar(json, ']');
	more = lr_get_varint(&in);
	if (more > 0)
		appendStringInfo(json, ", \"more_candidates\": " UINT64_FORMAT, more);
	if (*lr_get_bytes(&in, 1))
		appendStringInfoString(json, ", \"not_all_looked_at\": true");
	owners = read_owners(&in);
	for (int i = 0; owners && i < owners->n; i++)
	{
		appendStringInfoString(json, i ? ", " : ", \"owners\": {");
		escape_json(json, owners->owners[i].role);
		appendStringInfo(json, ": %d", owners->owners[i].owner_id);
	}
	if (owners)
		appendStringInfoChar(json, '}');
}

/* Gives a run who worked the account when it was matched. */
static void
restore(const LrStep *step, LrRun *run, const char *detail, int length)
{
	LrReader	in = {detail, detail + length};

	if (length == 0)
		return;
	run->steps[step->number].detail = lr_detail_make();
	appendBinaryStringInfo(run->steps[step->number].detail, detail, length);
	skip_candidates(&in);
	run->account_owners = read_owners(&in);
}

/* Goes to the owners. */
static void
skip_candidates(LrReader *in)
{
	uint64		n = lr_get_varint(in);

	for (uint64 i = 0; i < n; i++)
	{
		(void) lr_get_varint(in);
		(void) lr_get_bytes(in, 4);
		for (int number = 0; number < 3; number++)
			(void) lr_get_varint(in);
	}
	(void) lr_get_varint(in);
	(void) lr_get_bytes(in, 1);
}

/* Reads owners by role; NULL if there are none. */
static LrAccountOwners *
read_owners(LrReader *in)
{
	uint64		n = lr_get_varint(in);
	LrAccountOwners *owners;

	n = Min(n, LR_ACCOUNT_OWNERS_MAX);
	owners = palloc(offsetof(LrAccountOwners, owners) + sizeof(LrAccountOwner) * n);
	owners->n = 0;
	for (uint64 i = 0; i < n; i++)
	{
		owners->owners[i].role = lr_get_string(in);
		owners->owners[i].owner_id = (int) lr_get_varint(in);
		owners->n++;
	}
	return owners->n > 0 ? owners : NULL;
}
