/*
 * synthetic.c: leads that do not exist, the same for the same seed on every machine.
 *
 * For demonstrations, tests and load. Names are put together from syllables; domains end in what RFC 2606 reserves for
 * examples (free-mail addresses use well-known providers with impossible local parts); phone numbers come from ranges that
 * numbering plans set aside for fiction where there are such. The proportions are those of a mixed inbound stream: most leads
 * are usable, some lack consent, some are malformed.
 */
#include "intake/intake.h"

#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

PG_FUNCTION_INFO_V1(leadroute_generate_leads);

/* 2026-01-01 00:00:00 UTC, in microseconds since 2000-01-01 */
#define FIRST_MOMENT INT64CONST(820540800000000)
#define ONE_YEAR (INT64CONST(365) * USECS_PER_DAY)

typedef struct Country
{
	const char *code;
	int			share;
	const char *language;
	const char *phone;			/* prefix; three digits follow */
	const char *regions[4];
} Country;

static const Country countries[] = {
	{"DE", 24, "de", "+4930231252", {"Berlin", "Bayern", "Hessen", "Hamburg"}},
	{"US", 22, "en", "+1212555", {"NY", "CA", "TX", "WA"}},
	{"GB", 12, "en", "+442079460", {"London", "Scotland", "Wales", "North West"}},
	{"FR", 10, "fr", "+33199001", {"Paris", "Lyon", "Bretagne", "Provence"}},
	{"CA", 8, "en", "+1613555", {"ON", "QC", "BC", "AB"}},
	{"BR", 7, "pt", "+551134567", {"SP", "RJ", "MG", "RS"}},
	{"AT", 4, "de", "+431585", {"Wien", "Tirol", "Salzburg", "Graz"}},
	{"NL", 4, "nl", "+31205551", {"Noord-Holland", "Utrecht", "Zeeland", "Limburg"}},
	{"CH", 3, "de", "+41445551", {"ZH", "BE", "VD", "GE"}},
	{"JP", 2, "ja", "+8135551", {"Tokyo", "Osaka", "Kyoto", "Aichi"}},
	{NULL, 4, NULL, NULL, {NULL}},
};

static const char *const industries[] = {"software", "manufacturing", "retail", "finance", "health", "education", "logistics", "energy", NULL, NULL};
static const char *const sources[] = {"web_form", "web_form", "web_form", "event", "partner", "ads", "referral"};
static const char *const syllables[] = {"an", "ber", "cor", "da", "el", "fi", "gra", "ho", "in", "jo", "ka", "lu", "mi", "nor", "os", "pe", "qui", "ra",
"so", "ta", "ul", "vi", "wen", "xa", "yo", "zu"};
static const char *const free_mail[] = {"gmail.com", "outlook.com", "yahoo.com", "gmx.de"};
static const int sizes[] = {3, 8, 15, 40, 90, 180, 450, 1200, 5000, 20000};

static void generate(pg_prng_state *random, int64 number, Datum *values, bool *nulls);
static int	below(pg_prng_state *random, int n);
static char *word(pg_prng_state *random, int nsyllables);
static const Country *choose_country(pg_prng_state *random);
static Datum channels(pg_prng_state *random);

/* Returns synthetic leads; see the SQL comment. */
Datum
leadroute_generate_leads(PG_FUNCTION_ARGS)
{
	int64		n = PG_GETARG_INT64(0);
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	pg_prng_state random;
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "leadroute synthetic leads", ALLOCSET_SMALL_SIZES);

	(void) lr_catalog();
	if (n < 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the number of leads is negative"));
	InitMaterializedSRF(fcinfo, 0);
	pg_prng_seed(&random, (uint64) PG_GETARG_INT64(1));
	for (int64 i = 0; i < n; i++)
	{
		Datum		values[LR_N_ATTRIBUTES];
		bool		nulls[LR_N_ATTRIBUTES];
		MemoryContext saved = MemoryContextSwitchTo(scratch);

		CHECK_FOR_INTERRUPTS();
		memset(nulls, true, sizeof(nulls));
		generate(&random, i + 1, values, nulls);
		MemoryContextSwitchTo(saved);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		MemoryContextReset(scratch);
	}
	MemoryContextDelete(scratch);
	return (Datum) 0;
}

static inline void
put(Datum *values, bool *nulls, int attribute, Datum value)
{
	values[attribute] = value;
	nulls[attribute] = false;
}

static inline void
put_text(Datum *values, bool *nulls, int attribute, const char *value)
{
	if (value)
		put(values, nulls, attribute, CStringGetTextDatum(value));
}

static void
generate(pg_prng_state *random, int64 number, Datum *values, bool *nulls)
{
	const Country *country = choose_country(random);
	char	   *company = word(random, 3);
	char	   *domain = psprintf("%s.example", company);
	char	   *person = word(random, 2);
	int			mail = below(random, 100);
	int			consent = below(random, 100);
	int64		received = FIRST_MOMENT + number * USECS_PER_SEC;
	bool		has_phone;

	put_text(values, nulls, LR_EXTERNAL_ID, psprintf("S-" INT64_FORMAT, number));
	put_text(values, nulls, LR_SOURCE_SYSTEM, "synthetic");
	put_text(values, nulls, LR_SOURCE, sources[below(random, lengthof(sources))]);
	put_text(values, nulls, LR_COUNTRY, country->code);
	put_text(values, nulls, LR_REGION, country->code ? country->regions[below(random, 4)] : NULL);
	put_text(values, nulls, LR_LANGUAGE, country->language);
	put_text(values, nulls, LR_INDUSTRY, industries[below(random, lengthof(industries))]);
	company[0] = pg_toupper(company[0]);
	put_text(values, nulls, LR_COMPANY, psprintf("%s Ltd", company));
	if (below(random, 100) < 60)
		put_text(values, nulls, LR_DOMAIN, domain);
	if (below(random, 100) < 70)
		put(values, nulls, LR_COMPANY_SIZE, Int32GetDatum(sizes[below(random, lengthof(sizes))] + below(random, 5)));

	if (mail < 62)
		put_text(values, nulls, LR_EMAIL, psprintf("%s.%s@%s", person, word(random, 2), domain));
	else if (mail < 82)
		put_text(values, nulls, LR_EMAIL, psprintf("%s." INT64_FORMAT ".synthetic@%s", person, number, free_mail[below(random, lengthof(free_mail))]));
	else if (mail < 88)
		put_text(values, nulls, LR_EMAIL, psprintf("info@%s", domain));
	else if (mail < 93)
		put_text(values, nulls, LR_EMAIL, psprintf("%s at %s", person, domain));
	has_phone = below(random, 100) < 55;
	if (has_phone && country->phone)
		put_text(values, nulls, LR_PHONE, psprintf("%s%0*d", country->phone, country->phone[1] == '1' ? 4 : 3,
												   country->phone[1] == '1' ? 100 + below(random, 100) : below(random, 1000)));
	else if (has_phone)
		put_text(values, nulls, LR_PHONE, "call me");

	if (consent < 78)
	{
		put(values, nulls, LR_CONSENT, BoolGetDatum(true));
		put_text(values, nulls, LR_CONSENT_BASIS, consent < 66 ? "consent" : consent < 72 ? "existing_customer" : "legitimate_interest");
		put(values, nulls, LR_CONSENT_AT, TimestampTzGetDatum(received - below(random, 400) * USECS_PER_DAY));
		if (below(random, 100) < 40)
			put(values, nulls, LR_CONSENT_CHANNELS, channels(random));
	}
	else if (consent < 84)
		put(values, nulls, LR_CONSENT, BoolGetDatum(false));
	put(values, nulls, LR_PRIOR_INTERACTIONS, Int32GetDatum(below(random, 100) < 70 ? 0 : 1 + below(random, 6)));
	put(values, nulls, LR_ATTRIBUTES,
		DirectFunctionCall1(jsonb_in, CStringGetDatum(psprintf("{\"seats\": %d, \"campaign\": \"c%d\"}", 1 + below(random, 500), below(random, 20)))));
	put(values, nulls, LR_RECEIVED_AT, TimestampTzGetDatum(received));
	if (below(random, 100) < 25)
		put_text(values, nulls, LR_TRACEPARENT, psprintf("00-%016llx%016llx-%016llx-01", (unsigned long long) pg_prng_uint64(random),
														 (unsigned long long) pg_prng_uint64(random), (unsigned long long) pg_prng_uint64(random)));
}

static int
below(pg_prng_state *random, int n)
{
	return (int) pg_prng_uint64_range(random, 0, n - 1);
}

static char *
word(pg_prng_state *random, int nsyllables)
{
	StringInfoData out;

	initStringInfo(&out);
	for (int i = 0; i < nsyllables; i++)
		appendStringInfoString(&out, syllables[below(random, lengthof(syllables))]);
	return out.data;
}

static const Country *
choose_country(pg_prng_state *random)
{
	int			at = below(random, 100);
	int			i = 0;

	while (at >= countries[i].share)
		at -= countries[i++].share;
	return &countries[i];
}

static Datum
channels(pg_prng_state *random)
{
	static const char *const names[] = {"email", "phone", "post"};
	Datum		elements[3];
	int			n = 0;

	for (int i = 0; i < 3; i++)
	{
		if (i == 0 || below(random, 2))
			elements[n++] = CStringGetTextDatum(names[i]);
	}
	return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT));
}
