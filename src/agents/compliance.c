/*
 * compliance.c: the agent checkRegionalCompliance: on which channels may this lead be contacted?
 *
 * The rules are data: a document of jurisdictions, each with its countries, and for each channel the bases on which the law
 * there lets a company contact somebody. The lead's country chooses the jurisdiction; a country that none names, or none
 * given, is judged by the one marked default. An explicit refusal (consent is false) closes every channel. Basis "consent"
 * needs consent given; where a jurisdiction sets max_age_days, not longer ago than that; and where the lead names the channels
 * that the consent is for, only these. Basis "none" in a list means that no basis is needed (opt-out regimes).
 */
#include "agents/agents.h"

#include "catalog/pg_type.h"
#include "pipeline/pipeline.h"
#include "policy/policy.h"
#include "utils/array.h"
#include "utils/builtins.h"

#define MAX_CHANNELS 8

typedef struct Channel
{
	char	   *name;
	int			nbases;
	char	  **bases;
} Channel;

typedef struct Jurisdiction
{
	char	   *name;
	int			max_age_days;	/* of consent; 0 for no limit */
	int			nchannels;
	Channel		channels[MAX_CHANNELS];
} Jurisdiction;

typedef struct ComplianceConfig
{
	Jurisdiction *by_country[26 * 26];
	Jurisdiction *otherwise;
} ComplianceConfig;

static void configure(LrStep *step, json_t *json, json_t *document, const LrScope *scope, const char *place, LrMistakes *mistakes);
static void run(LrStep *step, LrRun *run);
static ComplianceConfig *read_document(json_t *document, LrMistakes *mistakes);
static void read_jurisdiction(ComplianceConfig *config, json_t *json, const char *place, LrMistakes *mistakes);
static void read_channels(Jurisdiction *jurisdiction, json_t *channels, const char *place, LrMistakes *mistakes);
static int	country_index(const char *code, int length);
static bool channel_permitted(const Channel *channel, const char *basis, const char **reason, const Jurisdiction *jurisdiction, LrRun *run);
static bool consent_names_channel(LrRun *run, const char *channel);

const LrBuiltin lr_check_compliance = {
	.capability = "checkRegionalCompliance",
	.agent_id = 2,
	.first_fact = LR_COMPLIANCE_STATUS,
	.nfacts = LR_ENRICH_STATUS - LR_COMPLIANCE_STATUS,
	.document_kind = "jurisdictions",
	.recomputable = true,
	.repeatable = true,
	.configure = configure,
	.run = run,
};

static void
configure(LrStep *step, json_t *json, json_t *document, const LrScope *scope, const char *place, LrMistakes *mistakes)
{
	static const int reads[] = {LR_COUNTRY, LR_CONSENT, LR_CONSENT_BASIS, LR_CONSENT_AT, LR_CONSENT_CHANNELS, LR_AS_OF};

	for (int i = 0; i < (int) lengthof(reads); i++)
		step->reads = bms_add_member(step->reads, reads[i]);
	if (document)
		step->config = read_document(document, mistakes);
}

/* Notes what is wrong with a document of jurisdictions. */
void
lr_jurisdictions_check(json_t *document, LrMistakes *mistakes)
{
	(void) read_document(document, mistakes);
}

static ComplianceConfig *
read_document(json_t *document, LrMistakes *mistakes)
{
	static const char *const members[] = {"description", "sources", "jurisdictions", NULL};
	ComplianceConfig *config = palloc0(sizeof(ComplianceConfig));
	json_t	   *list;

	if (!json_is_object(document))
	{
		lr_mistake(mistakes, "document", "Give {\"jurisdictions\": […]}.", "has to be an object");
		return config;
	}
	lr_json_known_members(document, members, "", mistakes);
	list = lr_json_array(document, "jurisdictions", true, "", mistakes);
	for (int i = 0; list && i < (int) json_array_size(list); i++)
		read_jurisdiction(config, json_array_get(list, i), lr_place_at("jurisdictions", i), mistakes);
	if (list && config->otherwise == NULL)
		lr_mistake(mistakes, "jurisdictions", "Give one of them \"default\": true.", "have none for countries that no other names");
	return config;
}

static void
read_jurisdiction(ComplianceConfig *config, json_t *json, const char *place, LrMistakes *mistakes)
{
	static const char *const members[] = {"name", "countries", "default", "max_age_days", "channels", "note", NULL};
	Jurisdiction *jurisdiction = palloc0(sizeof(Jurisdiction));
	const char *name;
	json_t	   *countries;
	json_t	   *channels;
	double		days = 0;

	if (!json_is_object(json))
	{
		lr_mistake(mistakes, place, NULL, "has to be an object");
		return;
	}
	lr_json_known_members(json, members, place, mistakes);
	name = lr_json_string(json, "name", true, place, mistakes);
	jurisdiction->name = name ? pstrdup(name) : "";
	if (lr_json_number(json, "max_age_days", 1, 36500, &days, place, mistakes))
		jurisdiction->max_age_days = (int) days;
	channels = lr_json_object(json, "channels", true, place, mistakes);
	if (channels)
		read_channels(jurisdiction, channels, lr_place(place, "channels"), mistakes);
	if (lr_json_boolean(json, "default", false, place, mistakes))
	{
		if (config->otherwise)
			lr_mistake(mistakes, lr_place(place, "default"), NULL, "\"%s\" is the default already", config->otherwise->name);
		config->otherwise = jurisdiction;
	}
	countries = lr_json_array(json, "countries", false, place, mistakes);
	for (int i = 0; countries && i < (int) json_array_size(countries); i++)
	{
		const char *code = json_string_value(json_array_get(countries, i));
		int			index = code ? country_index(code, strlen(code)) : -1;
		char	   *at = lr_place_at(lr_place(place, "countries"), i);

		if (index < 0)
			lr_mistake(mistakes, at, "Give ISO 3166 alpha-2 codes such as DE.", "is not a country code");
		else if (config->by_country[index])
			lr_mistake(mistakes, at, NULL, "\"%s\" belongs to \"%s\" already", code, config->by_country[index]->name);
		else
			config->by_country[index] = jurisdiction;
	}
}

static void
read_channels(Jurisdiction *jurisdiction, json_t *channels, const char *place, LrMistakes *mistakes)
{
	const char *name;
	json_t	   *bases;

	json_object_foreach(channels, name, bases)
	{
		Channel    *channel = &jurisdiction->channels[jurisdiction->nchannels];

		if (jurisdiction->nchannels == MAX_CHANNELS)
		{
			lr_mistake(mistakes, place, NULL, "has more than %d channels", MAX_CHANNELS);
			return;
		}
		if (!json_is_array(bases))
		{
			lr_mistake(mistakes, lr_place(place, name), "Give the bases that permit it, such as [\"consent\"].", "has to be an array");
			continue;
		}
		channel->name = pstrdup(name);
		channel->bases = palloc(sizeof(char *) * Max(json_array_size(bases), 1));
		for (int i = 0; i < (int) json_array_size(bases); i++)
		{
			const char *basis = json_string_value(json_array_get(bases, i));

			if (basis == NULL)
				lr_mistake(mistakes, lr_place_at(lr_place(place, name), i), NULL, "has to be a string");
			else
				channel->bases[channel->nbases++] = pstrdup(basis);
		}
		jurisdiction->nchannels++;
	}
}

static int
country_index(const char *code, int length)
{
	int			first;
	int			second;

	if (length != 2)
		return -1;
	first = pg_ascii_toupper(code[0]) - 'A';
	second = pg_ascii_toupper(code[1]) - 'A';
	if (first < 0 || first >= 26 || second < 0 || second >= 26)
		return -1;
	return first * 26 + second;
}

static void
run(LrStep *step, LrRun *run)
{
	const ComplianceConfig *config = step->config;
	const Jurisdiction *jurisdiction = config->otherwise;
	const char *permitted[MAX_CHANNELS];
	int			npermitted = 0;
	const char *reason = NULL;
	const char *basis = "none";
	bool		refused = !run->isnull[LR_CONSENT] && !DatumGetBool(run->values[LR_CONSENT]);

	if (!run->isnull[LR_COUNTRY])
	{
		text	   *country = DatumGetTextPP(run->values[LR_COUNTRY]);
		int			index = country_index(VARDATA_ANY(country), VARSIZE_ANY_EXHDR(country));

		if (index >= 0 && config->by_country[index])
			jurisdiction = config->by_country[index];
	}
	/* consent without a named basis is a basis */
	if (!run->isnull[LR_CONSENT_BASIS])
		basis = TextDatumGetCString(run->values[LR_CONSENT_BASIS]);
	else if (!run->isnull[LR_CONSENT] && !refused)
		basis = "consent";

	for (int i = 0; i < jurisdiction->nchannels && !refused; i++)
	{
		if (channel_permitted(&jurisdiction->channels[i], basis, &reason, jurisdiction, run))
			permitted[npermitted++] = jurisdiction->channels[i].name;
	}
	if (refused)
		reason = "consent_refused";
	lr_run_set_text(run, LR_COMPLIANCE_JURISDICTION, jurisdiction->name);
	lr_run_set_texts(run, LR_COMPLIANCE_CHANNELS, permitted, npermitted);
	lr_run_set_text(run, LR_COMPLIANCE_STATUS,
					npermitted == 0 ? "denied" : npermitted < jurisdiction->nchannels ? "restricted" : "allowed");
	lr_run_set_text(run, LR_COMPLIANCE_REASON, npermitted == jurisdiction->nchannels && npermitted > 0 ? NULL : reason);
}

/* Tells whether a channel is open; if not, *reason says why. */
static bool
channel_permitted(const Channel *channel, const char *basis, const char **reason, const Jurisdiction *jurisdiction, LrRun *run)
{
	TimestampTz as_of = DatumGetTimestampTz(run->values[LR_AS_OF]);
	bool		needs_none = false;
	bool		listed = false;

	for (int i = 0; i < channel->nbases; i++)
	{
		needs_none |= strcmp(channel->bases[i], "none") == 0;
		listed |= strcmp(channel->bases[i], basis) == 0;
	}
	if (needs_none)
		return true;
	if (!listed)
		*reason = "no_lawful_basis";
	else if (strcmp(basis, "consent") != 0)
		return true;
	else if (run->isnull[LR_CONSENT])
		*reason = "consent_missing";
	else if (!run->isnull[LR_CONSENT_AT] && DatumGetTimestampTz(run->values[LR_CONSENT_AT]) > as_of)
		*reason = "consent_in_future";
	else if (jurisdiction->max_age_days > 0 && run->isnull[LR_CONSENT_AT])
		*reason = "consent_undated";
	else if (jurisdiction->max_age_days > 0 &&
			 DatumGetTimestampTz(run->values[LR_CONSENT_AT]) < as_of - (int64) jurisdiction->max_age_days * USECS_PER_DAY)
		*reason = "consent_expired";
	else if (!consent_names_channel(run, channel->name))
		*reason = "channel_not_consented";
	else
		return true;
	return false;
}

/* Consent without channels is for all; with channels, for these. */
static bool
consent_names_channel(LrRun *run, const char *channel)
{
	ArrayType  *channels;
	ArrayIterator iterator;
	Datum		value;
	bool		isnull;
	bool		found = false;

	if (run->isnull[LR_CONSENT_CHANNELS])
		return true;
	channels = DatumGetArrayTypeP(run->values[LR_CONSENT_CHANNELS]);
	iterator = array_create_iterator(channels, 0, NULL);
	while (!found && array_iterate(iterator, &value, &isnull))
	{
		if (!isnull)
		{
			text	   *name = DatumGetTextPP(value);

			found = VARSIZE_ANY_EXHDR(name) == strlen(channel) && memcmp(VARDATA_ANY(name), channel, strlen(channel)) == 0;
		}
	}
	array_free_iterator(iterator);
	return found;
}
