/*
 * contact.h
 *	  What an e-mail address, a phone number or a web domain of a lead says.
 *
 * validateContact judges what people type into forms.  The functions declared
 * here turn such text into a normal form, or into a short code that says why
 * there is none.  They are plain C on (pointer, length): no catalogue, no
 * network, no setting, no error for bad data, so that the same bytes give the
 * same answer wherever and whenever a decision is verified.
 *
 *	  contact.c			e-mail addresses and domain names
 *	  phone.c			phone numbers
 *	  mail_domains.c	free and disposable mail domains, role local parts
 *	  calling_codes.c	calling codes, trunk prefixes, lengths of numbers
 *
 * The one thing from outside is libidn2, which turns an internationalised
 * domain into its A-labels; its version belongs to the environment that a
 * record names.  The codes in "problem" go into records and policies, so they
 * never change their meaning.
 */
#ifndef LEADROUTE_AGENTS_CONTACT_H
#define LEADROUTE_AGENTS_CONTACT_H

/* Longest parts of an address, in octets: RFC 5321 section 4.5.3.1, RFC 1035. */
#define LR_MAIL_MAX			254
#define LR_LOCAL_PART_MAX	64
#define LR_DOMAIN_MAX		253
#define LR_LABEL_MAX		63

/* Most digits of an international number after the plus sign: ITU-T E.164. */
#define LR_PHONE_DIGITS_MAX 15

typedef enum LrContactStatus
{
	LR_CONTACT_MISSING,			/* nothing there but white space */
	LR_CONTACT_OK,
	LR_CONTACT_MALFORMED		/* "problem" says why */
} LrContactStatus;

typedef enum LrMailKind
{
	LR_MAIL_BUSINESS,			/* whatever is in neither list */
	LR_MAIL_FREE,
	LR_MAIL_DISPOSABLE
} LrMailKind;

/*
 * An e-mail address.  All members but status and problem mean something only
 * where status is LR_CONTACT_OK.
 *
 * Problems: no_at_sign, several_at_signs, display_name, mailto,
 * empty_local_part, bad_local_part, local_part_too_long, bad_encoding,
 * address_literal, address_too_long, and those of a domain: empty_domain,
 * bad_domain, empty_label, label_too_long, domain_too_long, single_label,
 * numeric_tld.
 */
typedef struct LrMail
{
	LrContactStatus status;
	const char *problem;		/* static code, NULL if there is none */
	LrMailKind	kind;
	bool		role;			/* info@, sales@, ...: no person's address */
	char	   *normal;			/* palloc'd and NUL-terminated: local part with
								 * ASCII letters in lower case, '@', A-labels */
	int			normal_len;
	const char *domain;			/* inside normal */
	int			domain_len;
} LrMail;

/*
 * A phone number.
 *
 * Problems: no_digits, letters, bad_character, placeholder, no_country,
 * unknown_calling_code, too_short, too_long, bad_area_code.
 */
typedef struct LrPhone
{
	LrContactStatus status;
	const char *problem;		/* static code, NULL if there is none */
	char		normal[20];		/* "+4930123456", NUL-terminated */
	int			normal_len;
	const char *country;		/* the default country, if the number needed it
								 * to become international; else NULL */
} LrPhone;

/*
 * What is known of the national numbers of one country.  The trunk prefix is
 * what subscribers dial before a national number within the country; where
 * several are in use they are separated by '|', the one to try first in front.
 */
typedef struct LrCallingPlan
{
	char		country[3];		/* ISO 3166 alpha-2, "" if not a country's */
	uint16		code;			/* E.164 calling code */
	const char *trunk;			/* NULL if there is none */
	uint8		national_min;	/* digits of a national significant number */
	uint8		national_max;
} LrCallingPlan;

/* contact.c */
extern void lr_mail_parse(const char *address, int len, LrMail *mail);
extern bool lr_domain_normalise(const char *domain, int len,
								char **normal, int *normal_len);

/* phone.c */
extern void lr_phone_parse(const char *number, int len, const char *country,
						   LrPhone *phone);

/* mail_domains.c: these want normal forms */
extern LrMailKind lr_domain_mail_kind(const char *domain, int len);
extern bool lr_domain_is_free_mail(const char *domain, int len);
extern bool lr_local_part_is_role(const char *local, int len);

/* calling_codes.c */
extern const LrCallingPlan *lr_calling_plan_of_country(const char *country);
extern int	lr_calling_plan_of_digits(const char *digits, int ndigits,
									  LrCallingPlan *plan);

#endif							/* LEADROUTE_AGENTS_CONTACT_H */
