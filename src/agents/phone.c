/*
 * phone.c
 *	  Phone numbers: from what people type to the international form.
 *
 * The text is walked once; its digits go into a small buffer, separators and
 * an extension at the end are dropped.  What remains is either international
 * ("+", "00", from North America "011") or national, and then the country that
 * the lead names completes it.  A calling code that nobody has, a length that
 * the country's numbering plan does not have, and numbers that only fill a
 * form are malformed.  Whether a number is in service cannot be known here.
 *
 * The normal form is E.164: '+', calling code, national significant number,
 * that is without the trunk prefix, which in most countries is a 0 that people
 * also write after the calling code: "+49 (0)30 123456".  Where the plan has
 * no trunk prefix, as in Italy, the 0 belongs to the number and stays.
 *
 * The normal form of a normal form is itself.  That is why the checks are made
 * on the national significant number, which is the same in both spellings, and
 * why what is checked in digits as typed must never occur in a normal form.
 */
#include "postgres.h"

#include "contact.h"

/* Room for what precedes a number: "00", and a calling code in front of it. */
#define DIGITS_MAX	(LR_PHONE_DIGITS_MAX + 8)

/* Fewest digits that make a placeholder by repeating or counting. */
#define REPEATED_MIN	6
#define COUNTING_MIN	7

/* The North American Numbering Plan. */
#define NANP_CODE		1

#define IS_DIGIT(c)		((unsigned char) ((c) - '0') < 10)
#define LOWER(c)		((unsigned char) ((c) - 'A') < 26 ? (c) + ('a' - 'A') : (c))
#define IS_LETTER(c)	((unsigned char) (LOWER(c) - 'a') < 26)

typedef struct Digits
{
	char		digit[DIGITS_MAX];
	int			count;
	bool		plus;			/* a plus sign came first */
	bool		anything;		/* something other than a space was there */
} Digits;

static const char *scan(const char *text, const char *end, Digits *digits);
static int	separator_length(const char *text, const char *end);
static bool is_extension(const char *text, const char *end);
static const char *resolve(const Digits *digits, const char *country,
						   LrPhone *phone);
static int	international_prefix(const Digits *digits,
								 const LrCallingPlan *home);
static const char *complete(const LrCallingPlan *plan, const char *national,
							int count, LrPhone *phone);
static void write_normal(int code, const char *national, int count,
						 LrPhone *phone);
static int	trunk_length(const LrCallingPlan *plan, const char *national,
						 int count);
static bool starts_with_own_code(const LrCallingPlan *plan,
								 const char *national, int count);
static bool is_repeated(const char *digit, int count);
static bool is_counting(const char *digit, int count);

/*
 * Read a phone number; country (ISO 3166 alpha-2 in upper case, or NULL) is
 * where it is if it does not say so itself.
 */
void
lr_phone_parse(const char *number, int len, const char *country,
			   LrPhone *phone)
{
	Digits		digits;

	memset(phone, 0, sizeof(LrPhone));
	phone->problem = scan(number, number + len, &digits);
	if (phone->problem == NULL && !digits.anything)
	{
		phone->status = LR_CONTACT_MISSING;
		return;
	}

	if (phone->problem == NULL)
		phone->problem = resolve(&digits, country, phone);
	if (phone->problem != NULL)
	{
		memset(phone->normal, 0, sizeof(phone->normal));
		phone->normal_len = 0;
		phone->country = NULL;
		phone->status = LR_CONTACT_MALFORMED;
		return;
	}
	phone->status = LR_CONTACT_OK;
}

/*
 * Collect the digits.
 */
static const char *
scan(const char *text, const char *end, Digits *digits)
{
	const char *p = text;

	digits->count = 0;
	digits->plus = false;
	digits->anything = false;

	while (p < end)
	{
		char		c = *p;
		int			length;

		if (IS_DIGIT(c))
		{
			if (digits->count == DIGITS_MAX)
				return "too_long";
			digits->digit[digits->count++] = c;
			digits->anything = true;
			p++;
		}
		else if ((length = separator_length(p, end)) > 0)
		{
			if (c == '-' || c == '.' || c == '/' || c == '(' || c == ')')
				digits->anything = true;
			p += length;
		}
		else if (c == '+' && digits->count == 0 && !digits->plus)
		{
			digits->plus = true;
			digits->anything = true;
			p++;
		}
		else if (digits->count > 0 && is_extension(p, end))
			break;
		else
			return IS_LETTER(c) ? "letters" : "bad_character";
	}
	return NULL;
}

/*
 * Measure the separator at text, 0 if there is none.  Besides the ASCII ones
 * these are the spaces, dashes and invisible direction marks that come along
 * when a number is copied from a web page or an address book.
 */
static int
separator_length(const char *text, const char *end)
{
	const unsigned char *s = (const unsigned char *) text;

	switch (s[0])
	{
		case ' ':
		case '\t':
		case '\n':
		case '\v':
		case '\f':
		case '\r':
		case '-':
		case '.':
		case '(':
		case ')':
		case '/':
			return 1;
		case 0xc2:				/* U+00A0 no-break space */
			return end - text >= 2 && s[1] == 0xa0 ? 2 : 0;
		case 0xe2:
			if (end - text < 3)
				return 0;
			if (s[1] == 0x80 &&
				(s[2] <= 0x8f ||	/* U+2000..200F spaces, marks */
				 (s[2] >= 0x90 && s[2] <= 0x95) ||	/* U+2010..2015 dashes */
				 (s[2] >= 0xaa && s[2] <= 0xaf)))	/* U+202A..202F */
				return s[2] >= 0x80 ? 3 : 0;
			if (s[1] == 0x88 && s[2] == 0x92)	/* U+2212 minus */
				return 3;
			return 0;
		case 0xef:				/* U+FEFF byte order mark */
			return end - text >= 3 && s[1] == 0xbb && s[2] == 0xbf ? 3 : 0;
		default:
			return 0;
	}
}

/*
 * Recognise an extension that goes to the end of the text: ";ext=12" (RFC
 * 3966), "ext. 12", "extension 12", "x12", "#12".
 */
static bool
is_extension(const char *text, const char *end)
{
	static const char *const words[] = {"extension", "extn", "ext", "x", "#"};
	const char *p = text;
	int			digits = 0;
	int			i;

	if (*p == ';')
		p++;
	for (i = 0; i < (int) lengthof(words); i++)
	{
		const char *word = words[i];
		const char *q = p;

		while (q < end && *word != '\0' && LOWER(*q) == *word)
		{
			q++;
			word++;
		}
		if (*word == '\0')
		{
			p = q;
			break;
		}
	}
	if (i == lengthof(words))
		return false;

	while (p < end && (*p == ' ' || *p == '.' || *p == ':' || *p == '='))
		p++;
	for (; p < end && IS_DIGIT(*p); p++)
		digits++;
	while (p < end && (*p == ' ' || *p == ')'))
		p++;
	return p == end && digits >= 1 && digits <= 8;
}

/*
 * Find the numbering plan that the digits belong to, and complete the number.
 */
static const char *
resolve(const Digits *digits, const char *country, LrPhone *phone)
{
	const LrCallingPlan *home = NULL;
	const char *digit = digits->digit;
	int			count = digits->count;
	int			prefix;

	if (count == 0)
		return "no_digits";
	if (is_repeated(digit, count))
		return "placeholder";

	if (country != NULL)
		home = lr_calling_plan_of_country(country);

	prefix = international_prefix(digits, home);
	if (digits->plus || prefix > 0)
	{
		LrCallingPlan plan;
		int			code_len;

		digit += prefix;
		count -= prefix;
		code_len = lr_calling_plan_of_digits(digit, count, &plan);
		if (code_len == 0)
			return "unknown_calling_code";
		return complete(&plan, digit + code_len, count - code_len, phone);
	}

	if (is_counting(digit, count))
		return "placeholder";
	if (home == NULL)
		return "no_country";
	phone->country = home->country;
	return complete(home, digit, count, phone);
}

/*
 * Measure the prefix that announces a calling code.  People also write it
 * after a plus sign, which no calling code minds: none starts with 0.
 */
static int
international_prefix(const Digits *digits, const LrCallingPlan *home)
{
	const char *digit = digits->digit;

	if (digits->count >= 2 && memcmp(digit, "00", 2) == 0)
		return 2;
	if (home != NULL && home->code == NANP_CODE && !digits->plus &&
		digits->count >= 3 && memcmp(digit, "011", 3) == 0)
		return 3;
	return 0;
}

/*
 * Bring what follows the calling code into shape, check it against the plan
 * and write the normal form.
 */
static const char *
complete(const LrCallingPlan *plan, const char *national, int count,
		 LrPhone *phone)
{
	int			skip = trunk_length(plan, national, count);

	national += skip;
	count -= skip;

	/* "49 30 123456" without a plus, where that is no national number */
	if (phone->country != NULL && count > plan->national_max &&
		starts_with_own_code(plan, national, count))
	{
		LrCallingPlan zone;

		skip = lr_calling_plan_of_digits(national, count, &zone);
		national += skip;
		count -= skip;
		skip = trunk_length(plan, national, count);
		national += skip;
		count -= skip;
	}

	if (is_repeated(national, count) || is_counting(national, count))
		return "placeholder";
	if (count < plan->national_min)
		return "too_short";
	if (count > plan->national_max)
		return "too_long";

	/* Where numbers have a trunk prefix, none starts with 0 without it. */
	if (plan->trunk != NULL && national[0] == '0')
		return "bad_area_code";

	/* Area and exchange codes of North America start with 2 to 9. */
	if (plan->code == NANP_CODE && (national[0] < '2' || national[3] < '2'))
		return "bad_area_code";

	write_normal(plan->code, national, count, phone);
	return NULL;
}

/*
 * Write the E.164 form.
 */
static void
write_normal(int code, const char *national, int count, LrPhone *phone)
{
	char	   *to = phone->normal;

	*to++ = '+';
	if (code >= 100)
		*to++ = '0' + code / 100;
	if (code >= 10)
		*to++ = '0' + code / 10 % 10;
	*to++ = '0' + code % 10;
	memcpy(to, national, count);
	to += count;
	*to = '\0';
	phone->normal_len = to - phone->normal;
	Assert(phone->normal_len <= 1 + LR_PHONE_DIGITS_MAX);
}

/*
 * Measure the trunk prefix in front of a national number.  One that starts
 * with 0 is recognised always: no national number of that country does.  An 8
 * or 1 may be the number's own and is taken for a prefix only if the number is
 * too long otherwise.
 */
static int
trunk_length(const LrCallingPlan *plan, const char *national, int count)
{
	const char *trunk = plan->trunk;
	int			unfitting = 0;

	while (trunk != NULL && *trunk != '\0')
	{
		bool		zero = (*trunk == '0');
		int			length = 0;
		int			rest;

		while (length < count && national[length] == *trunk)
		{
			length++;
			trunk++;
		}
		if ((*trunk == '\0' || *trunk == '|') &&
			(zero || count > plan->national_max))
		{
			rest = count - length;
			if (rest >= plan->national_min && rest <= plan->national_max)
				return length;
			if (zero && unfitting == 0)
				unfitting = length;
		}

		/* go to the next alternative */
		while (*trunk != '\0' && *trunk++ != '|')
			;
	}
	return unfitting;
}

/*
 * Say whether the digits start with the calling code of their own country and
 * are a number of that country without it.
 */
static bool
starts_with_own_code(const LrCallingPlan *plan, const char *national,
					 int count)
{
	LrCallingPlan zone;
	int			code_len = lr_calling_plan_of_digits(national, count, &zone);

	if (code_len == 0 || zone.code != plan->code)
		return false;
	national += code_len;
	count -= code_len;
	count -= trunk_length(plan, national, count);
	return count >= plan->national_min && count <= plan->national_max;
}

/*
 * Recognise one digit repeated.
 */
static bool
is_repeated(const char *digit, int count)
{
	return count >= REPEATED_MIN &&
		memcmp(digit, digit + 1, count - 1) == 0;
}

/*
 * Recognise counting up or down, 9 and 0 being neighbours.
 */
static bool
is_counting(const char *digit, int count)
{
	int			step;
	int			i;

	if (count < COUNTING_MIN)
		return false;
	step = (digit[1] - digit[0] + 10) % 10;
	if (step != 1 && step != 9)
		return false;
	for (i = 2; i < count; i++)
	{
		if ((digit[i] - digit[i - 1] + 10) % 10 != step)
			return false;
	}
	return true;
}
