/*
 * contact.c
 *	  E-mail addresses and domain names: syntax and normal form.
 *
 * An address is an addr-spec of RFC 5321 and 5322, a dot-atom or a quoted
 * string, '@' and a domain, with the UTF-8 local parts of RFC 6531.  What the
 * RFCs allow but no lead has, such as comments, the obsolete forms and address
 * literals, is malformed, with a code that says what was found.
 *
 * The local part is walked once.  The domain is checked label by label while
 * it is copied in lower case into a buffer on the stack.  Only when that stops
 * at a byte that is not ASCII does libidn2 make A-labels of the domain (UTS
 * #46, not transitional), and the same walk checks what came out, so nothing
 * that a mapping produces escapes the rules.  Memory is allocated once, at the
 * end, for the normal form; bad data costs none.
 *
 * Nothing here depends on the locale.  Text that is not valid UTF-8 is
 * malformed, whatever the encoding of the database.
 */
#include "postgres.h"

#include <idn2.h>

#include "contact.h"

/* Longest internationalised domain in UTF-8 that is offered to libidn2. */
#define IDN_INPUT_MAX	1024

/*
 * What each byte may be part of.  Those of an atom are in RFC 5322 section
 * 3.2.3; those of a label are letters, digits and hyphens.  The bit that says
 * upper case is the one that makes lower case of it.
 */
#define CHAR_ATOM	0x01
#define CHAR_DIGIT	0x02
#define CHAR_ALPHA	0x04
#define CHAR_HYPHEN 0x08
#define CHAR_UPPER	0x20
#define CHAR_LABEL	(CHAR_DIGIT | CHAR_ALPHA | CHAR_HYPHEN)

#define A	CHAR_ATOM
#define H	(CHAR_ATOM | CHAR_HYPHEN)
#define N	(CHAR_ATOM | CHAR_DIGIT)
#define U	(CHAR_ATOM | CHAR_ALPHA | CHAR_UPPER)
#define L	(CHAR_ATOM | CHAR_ALPHA)

static const uint8 char_class[256] = {
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	0, A, 0, A, A, A, A, A, 0, 0, A, A, 0, H, 0, A,
	N, N, N, N, N, N, N, N, N, N, 0, 0, 0, A, 0, A,
	0, U, U, U, U, U, U, U, U, U, U, U, U, U, U, U,
	U, U, U, U, U, U, U, U, U, U, U, 0, 0, 0, A, A,
	A, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L,
	L, L, L, L, L, L, L, L, L, L, L, A, A, A, A, 0
};

#undef A
#undef H
#undef N
#undef U
#undef L

#define CLASS(c)	(char_class[(unsigned char) (c)])
#define LOWER(c)	((c) | (CLASS(c) & CHAR_UPPER))

static void trim(const char **text, const char **end);
static const char *whole_problem(const char *text, const char *end);
static const char *scan_local_part(const char *text, const char *end,
								   const char **at);
static const char *scan_dot_atom(const char *text, const char *at);
static const char *scan_quoted_string(const char *text, const char *end,
									  const char **at);
static int	utf8_visible_length(const char *text, const char *end);
static const char *scan_domain(const char *text, const char *end,
							   char *domain, int *domain_len);
static bool is_ascii(const char *text, const char *end);
static const char *idn_to_ascii(const char *text, const char *end,
								char *ascii, int *ascii_len);
static const char *scan_ascii_domain(const char *text, const char *end,
									 char *domain, int *domain_len);
static void strip_url(const char **text, const char **end);
static bool strip_prefix(const char **text, const char *end, const char *prefix);
static void copy_lower(char *to, const char *from, int len);

/*
 * Read an e-mail address.
 */
void
lr_mail_parse(const char *address, int len, LrMail *mail)
{
	const char *text = address;
	const char *end = address + len;
	const char *at;
	char		domain[LR_DOMAIN_MAX + 1];
	int			domain_len;
	int			local_len;

	memset(mail, 0, sizeof(LrMail));
	trim(&text, &end);
	if (text == end)
	{
		mail->status = LR_CONTACT_MISSING;
		return;
	}

	mail->problem = whole_problem(text, end);
	if (mail->problem == NULL)
		mail->problem = scan_local_part(text, end, &at);
	if (mail->problem == NULL)
		mail->problem = scan_domain(at + 1, end, domain, &domain_len);
	if (mail->problem == NULL && (at - text) + 1 + domain_len > LR_MAIL_MAX)
		mail->problem = "address_too_long";
	if (mail->problem != NULL)
	{
		mail->status = LR_CONTACT_MALFORMED;
		return;
	}

	local_len = at - text;
	mail->status = LR_CONTACT_OK;
	mail->normal_len = local_len + 1 + domain_len;
	mail->normal = palloc(mail->normal_len + 1);
	copy_lower(mail->normal, text, local_len);
	mail->normal[local_len] = '@';
	memcpy(mail->normal + local_len + 1, domain, domain_len);
	mail->normal[mail->normal_len] = '\0';
	mail->domain = mail->normal + local_len + 1;
	mail->domain_len = domain_len;
	mail->kind = lr_domain_mail_kind(mail->domain, domain_len);
	mail->role = lr_local_part_is_role(mail->normal, local_len);
}

/*
 * Reduce a web address or domain name to the domain, without the "www." that
 * says nothing about whose it is.  False if that leaves no domain name.
 */
bool
lr_domain_normalise(const char *domain, int len, char **normal, int *normal_len)
{
	const char *text = domain;
	const char *end = domain + len;
	const char *rest;
	char		buffer[LR_DOMAIN_MAX + 1];

	*normal = NULL;
	*normal_len = 0;

	trim(&text, &end);
	strip_url(&text, &end);
	if (scan_domain(text, end, buffer, normal_len) != NULL)
	{
		*normal_len = 0;
		return false;
	}

	text = buffer;
	end = buffer + *normal_len;
	for (rest = text; strip_prefix(&rest, end, "www."); text = rest)
	{
		if (memchr(rest, '.', end - rest) == NULL)
			break;				/* "www.com" is a domain itself */
	}

	*normal_len = end - text;
	*normal = palloc(*normal_len + 1);
	memcpy(*normal, text, *normal_len);
	(*normal)[*normal_len] = '\0';
	return true;
}

/*
 * Take white space, no-break spaces included, off both ends.
 */
static void
trim(const char **text, const char **end)
{
	const char *left = *text;
	const char *right = *end;

	for (;;)
	{
		if (left < right && (*left == ' ' || (*left >= '\t' && *left <= '\r')))
			left++;
		else if (right - left >= 2 && memcmp(left, "\xc2\xa0", 2) == 0)
			left += 2;
		else
			break;
	}
	for (;;)
	{
		if (left < right &&
			(right[-1] == ' ' || (right[-1] >= '\t' && right[-1] <= '\r')))
			right--;
		else if (right - left >= 2 && memcmp(right - 2, "\xc2\xa0", 2) == 0)
			right -= 2;
		else
			break;
	}
	*text = left;
	*end = right;
}

/*
 * Recognise what is not an address although it may contain one.
 */
static const char *
whole_problem(const char *text, const char *end)
{
	if (end[-1] == '>' && memchr(text, '<', end - text) != NULL)
		return "display_name";
	if (strip_prefix(&text, end, "mailto:"))
		return "mailto";
	return NULL;
}

/*
 * Walk the local part and find the '@' that ends it.
 */
static const char *
scan_local_part(const char *text, const char *end, const char **at)
{
	const char *problem = NULL;

	*at = memchr(text, '@', end - text);
	if (*at == NULL)
		return "no_at_sign";
	if (*text == '"')
		problem = scan_quoted_string(text, end, at);
	if (problem == NULL && *at - text > LR_LOCAL_PART_MAX)
		problem = "local_part_too_long";
	if (problem == NULL && *text != '"')
		problem = scan_dot_atom(text, *at);
	return problem;
}

/*
 * Walk atoms separated by single dots, up to the '@' at at, which ends every
 * inner loop as well because it belongs to no atom.
 */
static const char *
scan_dot_atom(const char *text, const char *at)
{
	const char *p = text;

	if (text == at)
		return "empty_local_part";
	for (;;)
	{
		const char *atom = p;

		for (;;)
		{
			int			length;

			while (CLASS(*p) & CHAR_ATOM)
				p++;
			if (!IS_HIGHBIT_SET(*p))
				break;
			length = utf8_visible_length(p, at);
			if (length <= 0)
				return length < 0 ? "bad_encoding" : "bad_local_part";
			p += length;
		}
		if (p == atom)
			return "bad_local_part";
		if (p == at)
			return NULL;
		if (*p != '.')
			return "bad_local_part";
		p++;
	}
}

/*
 * Walk a quoted string (RFC 5321 section 4.1.2) that '@' must follow.  An
 * empty one is legal mail syntax, but an empty local part all the same.
 */
static const char *
scan_quoted_string(const char *text, const char *end, const char **at)
{
	const char *p = text + 1;

	while (p < end && *p != '"')
	{
		unsigned char c = *p;

		if (IS_HIGHBIT_SET(c))
		{
			int			length = utf8_visible_length(p, end);

			if (length <= 0)
				return length < 0 ? "bad_encoding" : "bad_local_part";
			p += length;
			continue;
		}
		if (c == '\\' && ++p < end)
			c = *p;
		if (c < 0x20 || c > 0x7e || p == end)
			return "bad_local_part";
		p++;
	}
	if (end - p < 2 || p[1] != '@')
		return "bad_local_part";
	if (p == text + 1)
		return "empty_local_part";
	*at = p + 1;
	return NULL;
}

/*
 * Measure the UTF-8 character (RFC 3629) at text: its length, 0 if it is a
 * control, space or invisible formatting character, -1 if it is not UTF-8.
 */
static int
utf8_visible_length(const char *text, const char *end)
{
	const unsigned char *s = (const unsigned char *) text;
	uint32		code;
	uint32		least;
	int			length;
	int			i;

	if (s[0] >= 0xc2 && s[0] <= 0xdf)
	{
		length = 2;
		code = s[0] & 0x1f;
		least = 0x80;
	}
	else if ((s[0] & 0xf0) == 0xe0)
	{
		length = 3;
		code = s[0] & 0x0f;
		least = 0x800;
	}
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
	{
		length = 4;
		code = s[0] & 0x07;
		least = 0x10000;
	}
	else
		return -1;

	if (end - text < length)
		return -1;
	for (i = 1; i < length; i++)
	{
		if ((s[i] & 0xc0) != 0x80)
			return -1;
		code = code << 6 | (s[i] & 0x3f);
	}
	if (code < least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
		return -1;

	if (code <= 0xa0 ||			/* C1 controls, no-break space */
		code == 0xad ||			/* soft hyphen */
		(code >= 0x2000 && code <= 0x200f) ||	/* spaces, joiners, marks */
		(code >= 0x2028 && code <= 0x202f) ||	/* separators, embeddings */
		(code >= 0x205f && code <= 0x206f) ||	/* more of them */
		code == 0x3000 || code == 0xfeff ||
		(code >= 0xfff0 && code <= 0xffff))		/* specials, non-characters */
		return 0;
	return length;
}

/*
 * Check a domain and write its A-labels, in lower case, into domain, which has
 * room for LR_DOMAIN_MAX bytes and a NUL.
 */
static const char *
scan_domain(const char *text, const char *end, char *domain, int *domain_len)
{
	char		ascii[LR_DOMAIN_MAX + 1];
	const char *problem;

	if (text == end)
		return "empty_domain";
	if (*text == '[')
		return "address_literal";

	problem = scan_ascii_domain(text, end, domain, domain_len);
	if (problem != NULL && !is_ascii(text, end))
	{
		int			ascii_len;

		problem = idn_to_ascii(text, end, ascii, &ascii_len);
		if (problem == NULL)
			problem = scan_ascii_domain(ascii, ascii + ascii_len,
										domain, domain_len);
	}
	if (problem != NULL && memchr(text, '@', end - text) != NULL)
		problem = "several_at_signs";
	return problem;
}

/*
 * Say whether all bytes are ASCII.
 */
static bool
is_ascii(const char *text, const char *end)
{
	while (text < end && !IS_HIGHBIT_SET(*text))
		text++;
	return text == end;
}

/*
 * Turn an internationalised domain into A-labels.
 */
static const char *
idn_to_ascii(const char *text, const char *end, char *ascii, int *ascii_len)
{
	char		input[IDN_INPUT_MAX + 1];
	uint8	   *output = NULL;
	int			result;

	if (end - text > IDN_INPUT_MAX)
		return "domain_too_long";
	if (memchr(text, '\0', end - text) != NULL)
		return "bad_domain";
	memcpy(input, text, end - text);
	input[end - text] = '\0';

	result = idn2_lookup_u8((const uint8 *) input, &output,
							IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
	switch (result)
	{
		case IDN2_OK:
			break;
		case IDN2_MALLOC:
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory")));
			break;
		case IDN2_ENCODING_ERROR:
			return "bad_encoding";
		case IDN2_TOO_BIG_LABEL:
			return "label_too_long";
		case IDN2_TOO_BIG_DOMAIN:
			return "domain_too_long";
		default:
			return "bad_domain";
	}

	*ascii_len = strnlen((const char *) output, LR_DOMAIN_MAX + 1);
	if (*ascii_len <= LR_DOMAIN_MAX)
		memcpy(ascii, output, *ascii_len);
	idn2_free(output);
	return *ascii_len <= LR_DOMAIN_MAX ? NULL : "domain_too_long";
}

/*
 * Check labels of letters, digits and inner hyphens (RFC 1123 section 2.1, RFC
 * 5890), at least two, the last not all digits, while copying them.
 */
static const char *
scan_ascii_domain(const char *text, const char *end, char *domain,
				  int *domain_len)
{
	int			len = end - text;
	int			i = 0;
	int			label;			/* where the current label starts */
	int			classes;		/* of the characters in it */

	if (len > LR_DOMAIN_MAX)
		return "domain_too_long";

	for (;;)
	{
		int			c;

		label = i;
		classes = 0;
		while (i < len && ((c = CLASS(text[i])) & CHAR_LABEL))
		{
			domain[i] = text[i] | (c & CHAR_UPPER);
			classes |= c;
			i++;
		}
		if (i < len && text[i] != '.')
			return "bad_domain";
		if (i == label)
			return "empty_label";
		if (text[label] == '-' || text[i - 1] == '-')
			return "bad_domain";
		if (i - label > LR_LABEL_MAX)
			return "label_too_long";
		if (i == len)
			break;
		domain[i++] = '.';
	}
	if (label == 0)
		return "single_label";
	if (!(classes & (CHAR_ALPHA | CHAR_HYPHEN)))
		return "numeric_tld";

	domain[len] = '\0';
	*domain_len = len;
	return NULL;
}

/*
 * Narrow a web address to its host: without scheme, path, query, fragment,
 * port and the dot of the root.
 */
static void
strip_url(const char **text, const char **end)
{
	const char *host = *text;
	const char *stop;
	const char *port;

	if (!strip_prefix(&host, *end, "http://"))
		strip_prefix(&host, *end, "https://");

	for (stop = host; stop < *end; stop++)
	{
		if (*stop == '/' || *stop == '?' || *stop == '#')
			break;
	}

	for (port = stop; port > host && (CLASS(port[-1]) & CHAR_DIGIT); port--)
		;
	if (port > host && port[-1] == ':')
		stop = port - 1;
	if (stop > host && stop[-1] == '.')
		stop--;

	*text = host;
	*end = stop;
}

/*
 * Skip a prefix, which is given in lower case, and say whether it was there.
 */
static bool
strip_prefix(const char **text, const char *end, const char *prefix)
{
	const char *p = *text;

	for (; *prefix != '\0'; prefix++, p++)
	{
		if (p == end || LOWER(*p) != *prefix)
			return false;
	}
	*text = p;
	return true;
}

/*
 * Copy with the ASCII letters in lower case.
 */
static void
copy_lower(char *to, const char *from, int len)
{
	int			i;

	for (i = 0; i < len; i++)
		to[i] = LOWER(from[i]);
}
