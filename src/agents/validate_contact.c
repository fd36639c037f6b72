/*
 * validate_contact.c: the agent validateContact: can this lead be reached at all?
 *
 * E-mail and phone are brought to their normal forms (contact.c, phone.c). A lead with neither is invalid, as is one whose
 * only channel is malformed; one usable channel beside a malformed one makes it partial. A disposable address is no channel.
 * The domain of a business address stands in for a missing domain of the company. Policy member free_mail: further domains
 * that count as free-mail.
 */
#include "agents/agents.h"

#include "agents/contact.h"
#include "pipeline/pipeline.h"
#include "policy/policy.h"
#include "utils/array.h"
#include "utils/builtins.h"

typedef struct ContactConfig
{
	int			nfree;
	char	  **free_mail;		/* normal forms */
} ContactConfig;

static void configure(LrStep *step, json_t *json, json_t *document, const LrScope *scope, const char *place, LrMistakes *mistakes);
static void run(LrStep *step, LrRun *run);
static const char *status_of(LrContactStatus status);

const LrBuiltin lr_validate_contact = {
	.capability = "validateContact",
	.agent_id = 1,
	.first_fact = LR_CONTACT_STATUS,
	.nfacts = LR_COMPLIANCE_STATUS - LR_CONTACT_STATUS,
	.recomputable = true,
	.repeatable = true,
	.configure = configure,
	.run = run,
};

static void
configure(LrStep *step, json_t *json, json_t *document, const LrScope *scope, const char *place, LrMistakes *mistakes)
{
	ContactConfig *config = palloc0(sizeof(ContactConfig));
	json_t	   *domains = lr_json_array(json, "free_mail", false, place, mistakes);
	int			n = domains ? (int) json_array_size(domains) : 0;

	config->free_mail = palloc(sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		const char *domain = json_string_value(json_array_get(domains, i));
		int			length;

		if (domain && lr_domain_normalise(domain, strlen(domain), &config->free_mail[config->nfree], &length))
			config->nfree++;
		else
			lr_mistake(mistakes, lr_place_at(lr_place(place, "free_mail"), i), "Give one such as example.com.", "is not a domain");
	}
	step->config = config;
	step->reads = bms_add_member(step->reads, LR_EMAIL);
	step->reads = bms_add_member(step->reads, LR_PHONE);
	step->reads = bms_add_member(step->reads, LR_COUNTRY);
}

static void
run(LrStep *step, LrRun *run)
{
	const ContactConfig *config = step->config;
	const char *problems[2];
	int			nproblems = 0;
	bool		mail_usable;
	bool		phone_usable;
	char		country[3] = "";

	run->mail.status = LR_CONTACT_MISSING;
	run->phone.status = LR_CONTACT_MISSING;
	if (!run->isnull[LR_EMAIL])
	{
		text	   *address = DatumGetTextPP(run->values[LR_EMAIL]);

		lr_mail_parse(VARDATA_ANY(address), VARSIZE_ANY_EXHDR(address), &run->mail);
	}
	if (!run->isnull[LR_PHONE])
	{
		text	   *number = DatumGetTextPP(run->values[LR_PHONE]);

		if (!run->isnull[LR_COUNTRY])
		{
			text	   *code = DatumGetTextPP(run->values[LR_COUNTRY]);

			if (VARSIZE_ANY_EXHDR(code) == 2)
			{
				country[0] = pg_ascii_toupper(VARDATA_ANY(code)[0]);
				country[1] = pg_ascii_toupper(VARDATA_ANY(code)[1]);
			}
		}
		lr_phone_parse(VARDATA_ANY(number), VARSIZE_ANY_EXHDR(number), country[0] ? country : NULL, &run->phone);
	}

	for (int i = 0; i < config->nfree && run->mail.status == LR_CONTACT_OK; i++)
	{
		if (strcmp(run->mail.domain, config->free_mail[i]) == 0)
			run->mail.kind = LR_MAIL_FREE;
	}
	mail_usable = run->mail.status == LR_CONTACT_OK && run->mail.kind != LR_MAIL_DISPOSABLE;
	phone_usable = run->phone.status == LR_CONTACT_OK;
	lr_run_set_text(run, LR_CONTACT_EMAIL, status_of(run->mail.status));
	lr_run_set_text(run, LR_CONTACT_PHONE, status_of(run->phone.status));
	if (run->mail.status == LR_CONTACT_OK)
	{
		lr_run_set_text(run, LR_CONTACT_EMAIL_KIND,
						run->mail.kind == LR_MAIL_FREE ? "free" : run->mail.kind == LR_MAIL_DISPOSABLE ? "disposable" : "business");
		lr_run_set(run, LR_CONTACT_ROLE, BoolGetDatum(run->mail.role));
	}
	if (run->mail.status == LR_CONTACT_MALFORMED)
		problems[nproblems++] = psprintf("email:%s", run->mail.problem);
	if (run->phone.status == LR_CONTACT_MALFORMED)
		problems[nproblems++] = psprintf("phone:%s", run->phone.problem);
	lr_run_set_texts(run, LR_CONTACT_PROBLEMS, problems, nproblems);
	lr_run_set_text(run, LR_CONTACT_STATUS, !mail_usable && !phone_usable ? "invalid" : nproblems > 0 ? "partial" : "valid");
}

static const char *
status_of(LrContactStatus status)
{
	return status == LR_CONTACT_OK ? "ok" : status == LR_CONTACT_MALFORMED ? "malformed" : "missing";
}
