/*
 * contact_fuzz.c
 *	  libFuzzer harness for the contact parser, without a server.
 *
 * It starts with cases whose results are known.  They are tests and, written
 * to the corpus directory named on the command line, what the fuzzer mutates.
 * Then each input goes through all three parsers, and what must hold for any
 * bytes is checked: the normal form is its own normal form, stays within its
 * bounds, and does not change with white space around the text.  Inputs are
 * heap copies of their exact size, so that the address sanitizer sees a read
 * past the end.
 *
 * The server's headers are not included here: the few functions that the
 * parser calls are stood in for at the end of this file.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint8_t uint8;
typedef uint16_t uint16;

#include "../../src/agents/contact.h"

#define lengthof(array) ((int) (sizeof(array) / sizeof((array)[0])))

#define CHECK(condition) \
	((condition) ? (void) 0 : fail(#condition, __LINE__))

typedef struct MailCase
{
	const char *address;
	const char *normal;			/* NULL if there is none */
	const char *problem;		/* NULL with no normal form: missing */
	LrMailKind	kind;
	bool		role;
} MailCase;

typedef struct PhoneCase
{
	const char *number;
	const char *country;
	const char *normal;
	const char *problem;
} PhoneCase;

typedef struct DomainCase
{
	const char *domain;
	const char *normal;
} DomainCase;

#define LABEL_63 "abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz-012345678"
#define LOCAL_64 "abcdefghijklmnopqrstuvwxyz.abcdefghijklmnopqrstuvwxyz.0123456789"

static const MailCase mail_cases[] = {
	{"", NULL, NULL, LR_MAIL_BUSINESS, false},
	{" \t\r\n\xc2\xa0", NULL, NULL, LR_MAIL_BUSINESS, false},
	{"Anna.Schmidt@Example.COM", "anna.schmidt@example.com", NULL, LR_MAIL_BUSINESS, false},
	{" \xc2\xa0 a@b.c\n", "a@b.c", NULL, LR_MAIL_BUSINESS, false},
	{"Info+spring@acme.example", "info+spring@acme.example", NULL, LR_MAIL_BUSINESS, true},
	{"No-Reply@acme.example", "no-reply@acme.example", NULL, LR_MAIL_BUSINESS, true},
	{"vertrieb@gmx.de", "vertrieb@gmx.de", NULL, LR_MAIL_FREE, true},
	{"j.d@GMail.com", "j.d@gmail.com", NULL, LR_MAIL_FREE, false},
	{"j.d@mail.gmail.com", "j.d@mail.gmail.com", NULL, LR_MAIL_BUSINESS, false},
	{"x@mailinator.com", "x@mailinator.com", NULL, LR_MAIL_DISPOSABLE, false},
	{"x@a.b.mailinator.com", "x@a.b.mailinator.com", NULL, LR_MAIL_DISPOSABLE, false},
	{"!#$%&'*+-/=?^_`{|}~@x.example", "!#$%&'*+-/=?^_`{|}~@x.example", NULL, LR_MAIL_BUSINESS, false},
	{"\"John Doe\"@x.example", "\"john doe\"@x.example", NULL, LR_MAIL_BUSINESS, false},
	{"\"a@b\\\"c\"@x.example", "\"a@b\\\"c\"@x.example", NULL, LR_MAIL_BUSINESS, false},
	{"\"\"@x.example", NULL, "empty_local_part", LR_MAIL_BUSINESS, false},
	{"\"a\\", NULL, "no_at_sign", LR_MAIL_BUSINESS, false},
	{"\"@\\", NULL, "bad_local_part", LR_MAIL_BUSINESS, false},
	{"\"a\".b@x.example", NULL, "bad_local_part", LR_MAIL_BUSINESS, false},
	{"j\xc3\xbcrgen@m\xc3\xbcller.example", "j\xc3\xbcrgen@xn--mller-kva.example", NULL, LR_MAIL_BUSINESS, false},
	{"a@FA\xc3\x9f.de", "a@xn--fa-hia.de", NULL, LR_MAIL_BUSINESS, false},
	{"a@XN--FA-HIA.de", "a@xn--fa-hia.de", NULL, LR_MAIL_BUSINESS, false},
	{"\xe7\x94\xa8\xe6\x88\xb7@\xe4\xbe\x8b\xe5\xad\x90.\xe5\xb9\xbf\xe5\x91\x8a", "\xe7\x94\xa8\xe6\x88\xb7@xn--fsqu00a.xn--4rr70v", NULL, LR_MAIL_BUSINESS, false},
	{"a@x\xe3\x80\x82" "example", "a@x.example", NULL, LR_MAIL_BUSINESS, false},
	{"a@x\xef\xbc\x8f" "y.example", NULL, "bad_domain", LR_MAIL_BUSINESS, false},
	{"a@\xff.example", NULL, "bad_encoding", LR_MAIL_BUSINESS, false},
	{"a\xed\xa0\x80@x.example", NULL, "bad_encoding", LR_MAIL_BUSINESS, false},
	{"a\xe0\x82\xaf@x.example", NULL, "bad_encoding", LR_MAIL_BUSINESS, false},
	{"a\xc3@x.example", NULL, "bad_encoding", LR_MAIL_BUSINESS, false},
	{"a\xe2\x80\x8b@x.example", NULL, "bad_local_part", LR_MAIL_BUSINESS, false},
	{"nobody", NULL, "no_at_sign", LR_MAIL_BUSINESS, false},
	{"Anna <a@b.c>", NULL, "display_name", LR_MAIL_BUSINESS, false},
	{"<a@b.c>", NULL, "display_name", LR_MAIL_BUSINESS, false},
	{"MailTo:a@b.c", NULL, "mailto", LR_MAIL_BUSINESS, false},
	{"@b.c", NULL, "empty_local_part", LR_MAIL_BUSINESS, false},
	{".a@b.c", NULL, "bad_local_part", LR_MAIL_BUSINESS, false},
	{"a.@b.c", NULL, "bad_local_part", LR_MAIL_BUSINESS, false},
	{"a..b@b.c", NULL, "bad_local_part", LR_MAIL_BUSINESS, false},
	{"a b@b.c", NULL, "bad_local_part", LR_MAIL_BUSINESS, false},
	{"a@b@c.example", NULL, "several_at_signs", LR_MAIL_BUSINESS, false},
	{"a@", NULL, "empty_domain", LR_MAIL_BUSINESS, false},
	{"a@[192.0.2.1]", NULL, "address_literal", LR_MAIL_BUSINESS, false},
	{"a@192.0.2.1", NULL, "numeric_tld", LR_MAIL_BUSINESS, false},
	{"a@localhost", NULL, "single_label", LR_MAIL_BUSINESS, false},
	{"a@b.example.", NULL, "empty_label", LR_MAIL_BUSINESS, false},
	{"a@.b.example", NULL, "empty_label", LR_MAIL_BUSINESS, false},
	{"a@-b.example", NULL, "bad_domain", LR_MAIL_BUSINESS, false},
	{"a@b-.example", NULL, "bad_domain", LR_MAIL_BUSINESS, false},
	{"a@b_c.example", NULL, "bad_domain", LR_MAIL_BUSINESS, false},
	{"a@b.example, c@d.example", NULL, "several_at_signs", LR_MAIL_BUSINESS, false},
	{LOCAL_64 "@x.example", LOCAL_64 "@x.example", NULL, LR_MAIL_BUSINESS, false},
	{"a" LOCAL_64 "@x.example", NULL, "local_part_too_long", LR_MAIL_BUSINESS, false},
	{"a@" LABEL_63 ".example", "a@" LABEL_63 ".example", NULL, LR_MAIL_BUSINESS, false},
	{"a@x" LABEL_63 ".example", NULL, "label_too_long", LR_MAIL_BUSINESS, false},
	{"a@" LABEL_63 "." LABEL_63 "." LABEL_63 ".abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz-012345",
	"a@" LABEL_63 "." LABEL_63 "." LABEL_63 ".abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz-012345", NULL, LR_MAIL_BUSINESS, false},
	{"a@" LABEL_63 "." LABEL_63 "." LABEL_63 ".abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz-0123456", NULL, "address_too_long", LR_MAIL_BUSINESS, false},
	{"a@" LABEL_63 "." LABEL_63 "." LABEL_63 "." LABEL_63, NULL, "domain_too_long", LR_MAIL_BUSINESS, false},
};

static const PhoneCase phone_cases[] = {
	{"", "DE", NULL, NULL},
	{" \t\xc2\xa0", NULL, NULL, NULL},
	{"-", "DE", NULL, "no_digits"},
	{"+", "DE", NULL, "no_digits"},
	{"030 / 123-456", "DE", "+4930123456", NULL},
	{"+49 (0)30 123456", NULL, "+4930123456", NULL},
	{"0049 30 123456", "FR", "+4930123456", NULL},
	{"+0049 30 123456", "FR", "+4930123456", NULL},
	{"(+49) 30\xc2\xa0" "123456 ext. 12", NULL, "+4930123456", NULL},
	{"\xe2\x80\xaa+49\xe2\x80\x93" "30\xe2\x80\x91" "123456\xe2\x80\xac", NULL, "+4930123456", NULL},
	{"030123456;ext=12", "DE", "+4930123456", NULL},
	{"030123456 x", "DE", NULL, "letters"},
	{"030123456 x123456789", "DE", NULL, "letters"},
	{"030123456#12", "DE", "+4930123456", NULL},
	{"30 123456", NULL, NULL, "no_country"},
	{"30 123456", "ZZ", NULL, "no_country"},
	{"(212) 736-5000", "US", "+12127365000", NULL},
	{"1-212-736-5000 x12", "CA", "+12127365000", NULL},
	{"011 49 30 123456", "US", "+4930123456", NULL},
	{"011 49 30 1234", "GB", "+441149301234", NULL},
	{"112-736-5000", "US", NULL, "bad_area_code"},
	{"212-136-5000", "US", NULL, "bad_area_code"},
	{"736-5000", "US", NULL, "too_short"},
	{"06 698 83145", "IT", "+390669883145", NULL},
	{"+39 06 698 83145", NULL, "+390669883145", NULL},
	{"8 (495) 123-45-68", "RU", "+74951234568", NULL},
	{"495 123-45-68", "RU", "+74951234568", NULL},
	{"7 495 123-45-68", "RU", "+74951234568", NULL},
	{"06 1 234 5679", "HU", "+3612345679", NULL},
	{"8 612 34566", "LT", "+37061234566", NULL},
	{"0 612 34566", "LT", "+37061234566", NULL},
	{"8 029 123 45 68", "BY", "+375291234568", NULL},
	{"8 0029 345 60 80", "BY", NULL, "bad_area_code"},
	{"044 55 1234 5679", "MX", "+525512345679", NULL},
	{"+52 1 55 1234 5679", NULL, "+525512345679", NULL},
	{"91 98765 43211", "IN", "+919876543211", NULL},
	{"091 98765 43211", "IN", "+919876543211", NULL},
	{"33 1 23 45 67 80", "FR", "+33123456780", NULL},
	{"+44 07911 123457", NULL, "+447911123457", NULL},
	{"+49 (0)(0)30 123456", NULL, NULL, "bad_area_code"},
	{"+683 4002", NULL, "+6834002", NULL},
	{"+800 1234 5670", NULL, "+80012345670", NULL},
	{"+999 1234 5670", NULL, NULL, "unknown_calling_code"},
	{"+0 30 123456", "DE", NULL, "unknown_calling_code"},
	{"01 23 45 67", "FR", NULL, "placeholder"},
	{"01 23 45 68", "FR", NULL, "too_short"},
	{"01 23 45 67 80 0", "FR", NULL, "too_long"},
	{"0000000", "DE", NULL, "placeholder"},
	{"0000000", NULL, NULL, "placeholder"},
	{"1234567890", "US", NULL, "placeholder"},
	{"1234567890", NULL, NULL, "placeholder"},
	{"0123456789", "FR", NULL, "placeholder"},
	{"+33 9876543210", NULL, NULL, "placeholder"},
	{"+1 555 555 5555", NULL, NULL, "placeholder"},
	{"030 123456 / 030 123457 / 030 123458", "DE", NULL, "too_long"},
	{"call me", "DE", NULL, "letters"},
	{"0800 FLOWERS", "GB", NULL, "letters"},
	{"tel:+4930123456", "DE", NULL, "letters"},
	{"030+123456", "DE", NULL, "bad_character"},
	{"++4930123456", "DE", NULL, "bad_character"},
	{"030 123456\xff", "DE", NULL, "bad_character"},
	{"030 123456\xe2\x80", "DE", NULL, "bad_character"},
};

static const DomainCase domain_cases[] = {
	{"", NULL},
	{"com", NULL},
	{"Example.com", "example.com"},
	{" HTTPS://www.Example.com:8443/path?query#x ", "example.com"},
	{"http://example.com.", "example.com"},
	{"www.www.example.com", "example.com"},
	{"www.com", "www.com"},
	{"example.com?utm=1", "example.com"},
	{"example.com:", "example.com"},
	{"example.com:x", NULL},
	{"example.com..", NULL},
	{"user@example.com", NULL},
	{"ftp://example.com", NULL},
	{"http://http://example.com", NULL},
	{"http://192.0.2.1/", NULL},
	{"http://[2001:db8::1]/", NULL},
	{"https://www.b\xc3\xbc" "cher.example/", "xn--bcher-kva.example"},
	{"\xef\xbd\x97\xef\xbd\x97\xef\xbd\x97.example.com", "example.com"},
};

static const char *const countries[] = {
	NULL, "DE", "US", "CA", "IT", "RU", "KZ", "HU", "LT", "BY", "MX", "GB",
	"FR", "IN", "BR", "AR", "SM", "VA", "AU", "NU", "LU", "MH", "ZZ", ""
};

extern int	LLVMFuzzerInitialize(int *argc, char ***argv);
extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run_cases(const char *corpus);
static void check_calling_codes(void);
static void write_seed(const char *corpus, const char *text,
					   const char *country);
static void check_mail(const char *text, int len);
static void check_phone(const char *text, int len, const char *country);
static void check_domain(const char *text, int len);
static char *exact_copy(const char *text, int len);
static void fail(const char *condition, int line);

extern void *palloc(size_t size);
extern void pfree(void *pointer);
extern void ExceptionalCondition(void);
extern bool errstart(void);
extern bool errstart_cold(void);
extern int	errcode(int code);
extern int	errmsg(const char *format,...);
extern void errfinish(void);

/*
 * Run the known cases before fuzzing starts.
 */
int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *corpus = NULL;
	int			i;

	for (i = 1; i < *argc && corpus == NULL; i++)
	{
		if ((*argv)[i][0] != '-')
			corpus = (*argv)[i];
	}
	check_calling_codes();
	run_cases(corpus);
	return 0;
}

/*
 * Check one input: a byte that picks a country, then the text.
 */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *country;
	char	   *text;
	int			len;

	if (size == 0)
		return 0;
	country = countries[data[0] % lengthof(countries)];
	len = size - 1;
	text = exact_copy((const char *) data + 1, len);
	check_mail(text, len);
	check_phone(text, len, country);
	check_domain(text, len);
	free(text);
	return 0;
}

static void
run_cases(const char *corpus)
{
	int			i;

	for (i = 0; i < lengthof(mail_cases); i++)
	{
		const MailCase *c = &mail_cases[i];
		int			len = strlen(c->address);
		char	   *text = exact_copy(c->address, len);
		LrMail		mail;

		lr_mail_parse(text, len, &mail);
		if ((c->normal == NULL) != (mail.normal == NULL) ||
			(c->problem == NULL) != (mail.problem == NULL) ||
			(c->normal != NULL && strcmp(c->normal, mail.normal) != 0) ||
			(c->problem != NULL && strcmp(c->problem, mail.problem) != 0))
		{
			fprintf(stderr, "address \"%s\": normal %s, problem %s\n", c->address,
					mail.normal ? mail.normal : "none",
					mail.problem ? mail.problem : "none");
			abort();
		}
		CHECK(mail.kind == c->kind);
		CHECK(mail.role == c->role);
		pfree(mail.normal);
		check_mail(text, len);
		free(text);
		write_seed(corpus, c->address, NULL);
	}
	for (i = 0; i < lengthof(phone_cases); i++)
	{
		const PhoneCase *c = &phone_cases[i];
		int			len = strlen(c->number);
		char	   *text = exact_copy(c->number, len);
		LrPhone		phone;

		lr_phone_parse(text, len, c->country, &phone);
		if ((c->problem == NULL) != (phone.problem == NULL) ||
			strcmp(c->normal ? c->normal : "", phone.normal) != 0 ||
			(c->problem != NULL && strcmp(c->problem, phone.problem) != 0))
		{
			fprintf(stderr, "number \"%s\": normal \"%s\", problem %s\n", c->number,
					phone.normal, phone.problem ? phone.problem : "none");
			abort();
		}
		check_phone(text, len, c->country);
		free(text);
		write_seed(corpus, c->number, c->country);
	}
	for (i = 0; i < lengthof(domain_cases); i++)
	{
		const DomainCase *c = &domain_cases[i];
		int			len = strlen(c->domain);
		char	   *text = exact_copy(c->domain, len);
		char	   *normal;
		int			normal_len;
		bool		ok = lr_domain_normalise(text, len, &normal, &normal_len);

		if (ok != (c->normal != NULL) || (ok && strcmp(c->normal, normal) != 0))
		{
			fprintf(stderr, "domain \"%s\": normal %s\n", c->domain,
					ok ? normal : "none");
			abort();
		}
		pfree(normal);
		check_domain(text, len);
		free(text);
		write_seed(corpus, c->domain, NULL);
	}
}

/*
 * Check that each country is found, and its calling code as well.
 */
static void
check_calling_codes(void)
{
	int			found = 0;
	int			i;

	for (i = 0; i < 26 * 26; i++)
	{
		char		country[3] = {'A' + i / 26, 'A' + i % 26, '\0'};
		const LrCallingPlan *plan = lr_calling_plan_of_country(country);
		LrCallingPlan zone;
		char		digits[12];

		if (plan == NULL)
			continue;
		found++;
		CHECK(strcmp(plan->country, country) == 0);
		snprintf(digits, sizeof(digits), "%u", plan->code);
		CHECK(lr_calling_plan_of_digits(digits, strlen(digits), &zone) ==
			  (int) strlen(digits));
		CHECK(zone.code == plan->code);
		CHECK(zone.national_min <= plan->national_min);
		CHECK(zone.national_max >= plan->national_max);
		CHECK(plan->national_min <= plan->national_max);
		CHECK(strlen(digits) + zone.national_max <= LR_PHONE_DIGITS_MAX);
	}
	CHECK(found >= 249);		/* entries of ISO 3166-1 */
}

static void
write_seed(const char *corpus, const char *text, const char *country)
{
	static int	number = 0;
	char		path[1024];
	FILE	   *file;
	int			pick = 0;
	int			i;

	if (corpus == NULL)
		return;
	for (i = 1; country != NULL && i < lengthof(countries); i++)
	{
		if (strcmp(countries[i], country) == 0)
			pick = i;
	}
	snprintf(path, sizeof(path), "%s/seed-%03d", corpus, number++);
	file = fopen(path, "wb");
	if (file == NULL)
	{
		perror(path);
		exit(1);
	}
	fputc(pick, file);
	fputs(text, file);
	fclose(file);
}

static void
check_mail(const char *text, int len)
{
	LrMail		mail;
	LrMail		again;
	char	   *copy;
	char	   *domain;
	int			domain_len;
	int			i;

	lr_mail_parse(text, len, &mail);
	CHECK((mail.status == LR_CONTACT_MALFORMED) == (mail.problem != NULL));
	CHECK((mail.status == LR_CONTACT_OK) == (mail.normal != NULL));
	if (mail.status != LR_CONTACT_OK)
		return;

	CHECK(mail.normal_len == (int) strlen(mail.normal));
	CHECK(mail.normal_len <= LR_MAIL_MAX);
	CHECK(mail.domain_len >= 3 && mail.domain_len <= LR_DOMAIN_MAX);
	CHECK(mail.domain + mail.domain_len == mail.normal + mail.normal_len);
	CHECK(mail.domain[-1] == '@');
	CHECK(mail.domain - mail.normal - 1 <= LR_LOCAL_PART_MAX);
	CHECK(mail.domain - mail.normal - 1 >= 1);
	for (i = 0; i < mail.normal_len; i++)
		CHECK(mail.normal[i] < 'A' || mail.normal[i] > 'Z');

	copy = exact_copy(mail.normal, mail.normal_len);
	lr_mail_parse(copy, mail.normal_len, &again);
	CHECK(again.status == LR_CONTACT_OK);
	CHECK(strcmp(again.normal, mail.normal) == 0);
	CHECK(again.kind == mail.kind && again.role == mail.role);
	CHECK(again.domain_len == mail.domain_len);
	pfree(again.normal);
	free(copy);

	copy = malloc(len + 4);
	memcpy(copy, " \t", 2);
	memcpy(copy + 2, text, len);
	memcpy(copy + 2 + len, "\xc2\xa0", 2);
	lr_mail_parse(copy, len + 4, &again);
	CHECK(again.status == LR_CONTACT_OK);
	CHECK(strcmp(again.normal, mail.normal) == 0);
	pfree(again.normal);
	free(copy);

	CHECK(lr_domain_normalise(mail.domain, mail.domain_len, &domain, &domain_len));
	CHECK(lr_domain_is_free_mail(mail.domain, mail.domain_len) ==
		  (mail.kind == LR_MAIL_FREE));
	pfree(domain);
	pfree(mail.normal);
}

static void
check_phone(const char *text, int len, const char *country)
{
	LrPhone		phone;
	LrPhone		again;
	char	   *copy;
	int			pass;

	lr_phone_parse(text, len, country, &phone);
	CHECK((phone.status == LR_CONTACT_MALFORMED) == (phone.problem != NULL));
	CHECK((phone.status == LR_CONTACT_OK) == (phone.normal_len > 0));
	CHECK(phone.normal_len == (int) strlen(phone.normal));
	if (phone.status != LR_CONTACT_OK)
	{
		CHECK(phone.country == NULL);
		return;
	}

	CHECK(phone.normal[0] == '+' && phone.normal[1] != '0');
	CHECK(strspn(phone.normal + 1, "0123456789") == (size_t) phone.normal_len - 1);
	CHECK(phone.normal_len >= 1 + 7);
	CHECK(phone.normal_len <= 1 + LR_PHONE_DIGITS_MAX);
	CHECK(phone.country == NULL ||
		  (country != NULL && strcmp(phone.country, country) == 0));

	copy = exact_copy(phone.normal, phone.normal_len);
	for (pass = 0; pass < 2; pass++)
	{
		lr_phone_parse(copy, phone.normal_len, pass == 0 ? NULL : country, &again);
		CHECK(again.status == LR_CONTACT_OK);
		CHECK(again.country == NULL);
		CHECK(strcmp(again.normal, phone.normal) == 0);
	}
	free(copy);
}

static void
check_domain(const char *text, int len)
{
	char	   *normal;
	char	   *again;
	char	   *copy;
	int			normal_len;
	int			again_len;
	char		url[LR_DOMAIN_MAX + 32];
	LrMail		mail;

	if (!lr_domain_normalise(text, len, &normal, &normal_len))
	{
		CHECK(normal == NULL && normal_len == 0);
		return;
	}
	CHECK(normal_len == (int) strlen(normal));
	CHECK(normal_len >= 3 && normal_len <= LR_DOMAIN_MAX);

	copy = exact_copy(normal, normal_len);
	CHECK(lr_domain_normalise(copy, normal_len, &again, &again_len));
	CHECK(again_len == normal_len && strcmp(again, normal) == 0);
	pfree(again);
	free(copy);

	snprintf(url, sizeof(url), "Https://%s.:443/x", normal);
	CHECK(lr_domain_normalise(url, strlen(url), &again, &again_len));
	CHECK(again_len == normal_len && strcmp(again, normal) == 0);
	pfree(again);

	/* What is a domain here is one in an address. */
	if (normal_len <= LR_MAIL_MAX - 2)
	{
		snprintf(url, sizeof(url), "a@%s", normal);
		lr_mail_parse(url, strlen(url), &mail);
		CHECK(mail.status == LR_CONTACT_OK);
		CHECK(strcmp(mail.domain, normal) == 0);
		pfree(mail.normal);
	}
	pfree(normal);
}

static char *
exact_copy(const char *text, int len)
{
	char	   *copy = malloc(len);

	if (len > 0)
		memcpy(copy, text, len);
	return copy;
}

static void
fail(const char *condition, int line)
{
	fprintf(stderr, "line %d: does not hold: %s\n", line, condition);
	abort();
}

/*
 * Stand in for the server.
 */
void *
palloc(size_t size)
{
	return malloc(size);
}

void
pfree(void *pointer)
{
	free(pointer);
}

void
ExceptionalCondition(void)
{
	abort();
}

bool
errstart(void)
{
	abort();
}

bool
errstart_cold(void)
{
	abort();
}

int
errcode(int code)
{
	return code;
}

int
errmsg(const char *format,...)
{
	return format != NULL;
}

void
errfinish(void)
{
	abort();
}
