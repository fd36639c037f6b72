/*
 * calling_codes.c
 *	  Which calling code a country has, and what its national numbers look like.
 *
 * One table, ordered by country.  Two indexes, over the two letters of a
 * country and over the calling codes, are filled from it at the first look-up,
 * so that each fact is written down once.  Several countries share a code (+1,
 * +7, +44, +599); a number that shows only the code may be as long as any of
 * them allows.
 *
 * Facts: country codes from ISO 3166-1; calling codes from the "List of ITU-T
 * Recommendation E.164 assigned country codes"; trunk prefixes and lengths of
 * national significant numbers, of fixed and mobile services, from the national
 * numbering plans that administrations file under ITU-T E.129, compared with
 * the metadata of libphonenumber (2025).  Lengths leave out short codes, and
 * numbers below eight digits in all where the plan has longer ones.  Prefixes
 * that went out of use but are still written (Lithuania, Mexico, Uzbekistan)
 * stay.  Belarus, Kazakhstan, Russia and Turkmenistan dial 8.
 */
#include "postgres.h"

#include "contact.h"

#define CODE_MAX	999

static const LrCallingPlan plans[] =
{
	/* not a country's */
	{"", 800, NULL, 8, 8},	/* international freephone */
	{"", 808, NULL, 8, 8},	/* international shared cost */
	{"", 870, NULL, 9, 12},	/* Inmarsat */
	{"", 878, NULL, 12, 12},	/* universal personal numbers */
	{"", 881, NULL, 9, 10},	/* mobile satellite systems */
	{"", 882, NULL, 7, 12},	/* international networks */
	{"", 883, NULL, 8, 12},	/* international networks */
	{"", 888, NULL, 11, 11},	/* disaster relief */
	{"", 979, NULL, 9, 9},	/* international premium rate */

	/* countries and territories, by ISO code */
	{"AC", 247, NULL, 5, 5},	/* Ascension Island, reserved in ISO 3166 */
	{"AD", 376, NULL, 6, 9},	/* Andorra */
	{"AE", 971, "0", 8, 9},	/* United Arab Emirates */
	{"AF", 93, "0", 9, 9},	/* Afghanistan */
	{"AG", 1, "1", 10, 10},	/* Antigua and Barbuda */
	{"AI", 1, "1", 10, 10},	/* Anguilla */
	{"AL", 355, "0", 8, 9},	/* Albania */
	{"AM", 374, "0", 8, 8},	/* Armenia */
	{"AO", 244, NULL, 9, 9},	/* Angola */
	{"AQ", 672, NULL, 6, 6},	/* Antarctica */
	{"AR", 54, "0", 10, 11},	/* Argentina */
	{"AS", 1, "1", 10, 10},	/* American Samoa */
	{"AT", 43, "0", 6, 13},	/* Austria */
	{"AU", 61, "0", 9, 10},	/* Australia */
	{"AW", 297, NULL, 7, 7},	/* Aruba */
	{"AX", 358, "0", 5, 10},	/* Aland Islands */
	{"AZ", 994, "0", 9, 9},	/* Azerbaijan */
	{"BA", 387, "0", 8, 9},	/* Bosnia and Herzegovina */
	{"BB", 1, "1", 10, 10},	/* Barbados */
	{"BD", 880, "0", 6, 10},	/* Bangladesh */
	{"BE", 32, "0", 8, 9},	/* Belgium */
	{"BF", 226, NULL, 8, 8},	/* Burkina Faso */
	{"BG", 359, "0", 6, 9},	/* Bulgaria */
	{"BH", 973, NULL, 8, 8},	/* Bahrain */
	{"BI", 257, NULL, 8, 8},	/* Burundi */
	{"BJ", 229, NULL, 10, 10},	/* Benin */
	{"BL", 590, "0", 9, 9},	/* Saint Barthelemy */
	{"BM", 1, "1", 10, 10},	/* Bermuda */
	{"BN", 673, NULL, 7, 7},	/* Brunei Darussalam */
	{"BO", 591, "0", 8, 8},	/* Bolivia */
	{"BQ", 599, NULL, 7, 7},	/* Bonaire, Sint Eustatius and Saba */
	{"BR", 55, "0", 10, 11},	/* Brazil */
	{"BS", 1, "1", 10, 10},	/* Bahamas */
	{"BT", 975, NULL, 7, 8},	/* Bhutan */
	{"BV", 47, NULL, 8, 8},	/* Bouvet Island */
	{"BW", 267, NULL, 7, 8},	/* Botswana */
	{"BY", 375, "80|8|0", 9, 10},	/* Belarus */
	{"BZ", 501, NULL, 7, 7},	/* Belize */
	{"CA", 1, "1", 10, 10},	/* Canada */
	{"CC", 61, "0", 9, 10},	/* Cocos (Keeling) Islands */
	{"CD", 243, "0", 7, 10},	/* Congo, The Democratic Republic of the */
	{"CF", 236, NULL, 8, 8},	/* Central African Republic */
	{"CG", 242, NULL, 9, 9},	/* Congo */
	{"CH", 41, "0", 9, 9},	/* Switzerland */
	{"CI", 225, NULL, 10, 10},	/* Cote d'Ivoire */
	{"CK", 682, NULL, 5, 5},	/* Cook Islands */
	{"CL", 56, NULL, 9, 9},	/* Chile */
	{"CM", 237, NULL, 9, 9},	/* Cameroon */
	{"CN", 86, "0", 9, 11},	/* China */
	{"CO", 57, "0", 8, 10},	/* Colombia */
	{"CR", 506, NULL, 8, 8},	/* Costa Rica */
	{"CU", 53, "0", 6, 10},	/* Cuba */
	{"CV", 238, NULL, 7, 7},	/* Cabo Verde */
	{"CW", 599, NULL, 7, 8},	/* Curacao */
	{"CX", 61, "0", 9, 10},	/* Christmas Island */
	{"CY", 357, NULL, 8, 8},	/* Cyprus */
	{"CZ", 420, NULL, 9, 9},	/* Czechia */
	{"DE", 49, "0", 6, 13},	/* Germany */
	{"DJ", 253, NULL, 8, 8},	/* Djibouti */
	{"DK", 45, NULL, 8, 8},	/* Denmark */
	{"DM", 1, "1", 10, 10},	/* Dominica */
	{"DO", 1, "1", 10, 10},	/* Dominican Republic */
	{"DZ", 213, "0", 8, 9},	/* Algeria */
	{"EC", 593, "0", 8, 9},	/* Ecuador */
	{"EE", 372, NULL, 7, 8},	/* Estonia */
	{"EG", 20, "0", 8, 10},	/* Egypt */
	{"EH", 212, "0", 9, 9},	/* Western Sahara */
	{"ER", 291, "0", 7, 7},	/* Eritrea */
	{"ES", 34, NULL, 9, 9},	/* Spain */
	{"ET", 251, "0", 9, 9},	/* Ethiopia */
	{"FI", 358, "0", 5, 10},	/* Finland */
	{"FJ", 679, NULL, 7, 7},	/* Fiji */
	{"FK", 500, NULL, 5, 5},	/* Falkland Islands (Malvinas) */
	{"FM", 691, NULL, 7, 7},	/* Micronesia, Federated States of */
	{"FO", 298, NULL, 6, 6},	/* Faroe Islands */
	{"FR", 33, "0", 9, 9},	/* France */
	{"GA", 241, NULL, 7, 8},	/* Gabon */
	{"GB", 44, "0", 9, 10},	/* United Kingdom */
	{"GD", 1, "1", 10, 10},	/* Grenada */
	{"GE", 995, "0", 9, 9},	/* Georgia */
	{"GF", 594, "0", 9, 9},	/* French Guiana */
	{"GG", 44, "0", 10, 10},	/* Guernsey */
	{"GH", 233, "0", 9, 9},	/* Ghana */
	{"GI", 350, NULL, 8, 8},	/* Gibraltar */
	{"GL", 299, NULL, 6, 6},	/* Greenland */
	{"GM", 220, NULL, 7, 9},	/* Gambia */
	{"GN", 224, NULL, 8, 9},	/* Guinea */
	{"GP", 590, "0", 9, 9},	/* Guadeloupe */
	{"GQ", 240, NULL, 9, 9},	/* Equatorial Guinea */
	{"GR", 30, NULL, 10, 10},	/* Greece */
	{"GS", 500, NULL, 5, 5},	/* South Georgia and the South Sandwich Islands */
	{"GT", 502, NULL, 8, 8},	/* Guatemala */
	{"GU", 1, "1", 10, 10},	/* Guam */
	{"GW", 245, NULL, 9, 9},	/* Guinea-Bissau */
	{"GY", 592, NULL, 7, 7},	/* Guyana */
	{"HK", 852, NULL, 8, 8},	/* Hong Kong */
	{"HM", 672, NULL, 6, 6},	/* Heard Island and McDonald Islands */
	{"HN", 504, NULL, 8, 8},	/* Honduras */
	{"HR", 385, "0", 8, 9},	/* Croatia */
	{"HT", 509, NULL, 8, 8},	/* Haiti */
	{"HU", 36, "06", 8, 9},	/* Hungary */
	{"ID", 62, "0", 7, 12},	/* Indonesia */
	{"IE", 353, "0", 7, 10},	/* Ireland */
	{"IL", 972, "0", 8, 10},	/* Israel */
	{"IM", 44, "0", 10, 10},	/* Isle of Man */
	{"IN", 91, "0", 10, 10},	/* India */
	{"IO", 246, NULL, 7, 7},	/* British Indian Ocean Territory */
	{"IQ", 964, "0", 8, 10},	/* Iraq */
	{"IR", 98, "0", 10, 10},	/* Iran */
	{"IS", 354, NULL, 7, 9},	/* Iceland */
	{"IT", 39, NULL, 6, 12},	/* Italy */
	{"JE", 44, "0", 10, 10},	/* Jersey */
	{"JM", 1, "1", 10, 10},	/* Jamaica */
	{"JO", 962, "0", 8, 9},	/* Jordan */
	{"JP", 81, "0", 9, 10},	/* Japan */
	{"KE", 254, "0", 7, 9},	/* Kenya */
	{"KG", 996, "0", 9, 9},	/* Kyrgyzstan */
	{"KH", 855, "0", 8, 9},	/* Cambodia */
	{"KI", 686, "0", 5, 8},	/* Kiribati */
	{"KM", 269, NULL, 7, 7},	/* Comoros */
	{"KN", 1, "1", 10, 10},	/* Saint Kitts and Nevis */
	{"KP", 850, "0", 8, 10},	/* North Korea */
	{"KR", 82, "0", 8, 10},	/* South Korea */
	{"KW", 965, NULL, 8, 8},	/* Kuwait */
	{"KY", 1, "1", 10, 10},	/* Cayman Islands */
	{"KZ", 7, "8", 10, 10},	/* Kazakhstan */
	{"LA", 856, "0", 8, 10},	/* Laos */
	{"LB", 961, "0", 7, 8},	/* Lebanon */
	{"LC", 1, "1", 10, 10},	/* Saint Lucia */
	{"LI", 423, "0", 7, 9},	/* Liechtenstein */
	{"LK", 94, "0", 9, 9},	/* Sri Lanka */
	{"LR", 231, "0", 7, 9},	/* Liberia */
	{"LS", 266, NULL, 8, 8},	/* Lesotho */
	{"LT", 370, "0|8", 8, 8},	/* Lithuania */
	{"LU", 352, NULL, 5, 11},	/* Luxembourg */
	{"LV", 371, NULL, 8, 8},	/* Latvia */
	{"LY", 218, "0", 9, 9},	/* Libya */
	{"MA", 212, "0", 9, 9},	/* Morocco */
	{"MC", 377, "0", 8, 9},	/* Monaco */
	{"MD", 373, "0", 8, 8},	/* Moldova */
	{"ME", 382, "0", 8, 8},	/* Montenegro */
	{"MF", 590, "0", 9, 9},	/* Saint Martin (French part) */
	{"MG", 261, "0", 9, 9},	/* Madagascar */
	{"MH", 692, "1", 7, 7},	/* Marshall Islands */
	{"MK", 389, "0", 8, 8},	/* North Macedonia */
	{"ML", 223, NULL, 8, 8},	/* Mali */
	{"MM", 95, "0", 6, 10},	/* Myanmar */
	{"MN", 976, "0", 8, 10},	/* Mongolia */
	{"MO", 853, NULL, 8, 8},	/* Macao */
	{"MP", 1, "1", 10, 10},	/* Northern Mariana Islands */
	{"MQ", 596, "0", 9, 9},	/* Martinique */
	{"MR", 222, NULL, 8, 8},	/* Mauritania */
	{"MS", 1, "1", 10, 10},	/* Montserrat */
	{"MT", 356, NULL, 8, 8},	/* Malta */
	{"MU", 230, NULL, 7, 8},	/* Mauritius */
	{"MV", 960, NULL, 7, 7},	/* Maldives */
	{"MW", 265, "0", 7, 9},	/* Malawi */
	{"MX", 52, "01|044|045|1", 10, 10},	/* Mexico */
	{"MY", 60, "0", 8, 10},	/* Malaysia */
	{"MZ", 258, NULL, 8, 9},	/* Mozambique */
	{"NA", 264, "0", 8, 9},	/* Namibia */
	{"NC", 687, NULL, 6, 6},	/* New Caledonia */
	{"NE", 227, NULL, 8, 8},	/* Niger */
	{"NF", 672, NULL, 6, 6},	/* Norfolk Island */
	{"NG", 234, "0", 8, 10},	/* Nigeria */
	{"NI", 505, NULL, 8, 8},	/* Nicaragua */
	{"NL", 31, "0", 9, 9},	/* Netherlands */
	{"NO", 47, NULL, 8, 8},	/* Norway */
	{"NP", 977, "0", 8, 10},	/* Nepal */
	{"NR", 674, NULL, 7, 7},	/* Nauru */
	{"NU", 683, NULL, 4, 7},	/* Niue */
	{"NZ", 64, "0", 8, 10},	/* New Zealand */
	{"OM", 968, NULL, 8, 8},	/* Oman */
	{"PA", 507, NULL, 7, 8},	/* Panama */
	{"PE", 51, "0", 8, 9},	/* Peru */
	{"PF", 689, NULL, 8, 8},	/* French Polynesia */
	{"PG", 675, NULL, 7, 8},	/* Papua New Guinea */
	{"PH", 63, "0", 8, 10},	/* Philippines */
	{"PK", 92, "0", 9, 10},	/* Pakistan */
	{"PL", 48, NULL, 9, 9},	/* Poland */
	{"PM", 508, "0", 6, 9},	/* Saint Pierre and Miquelon */
	{"PN", 64, "0", 8, 10},	/* Pitcairn */
	{"PR", 1, "1", 10, 10},	/* Puerto Rico */
	{"PS", 970, "0", 8, 9},	/* Palestine, State of */
	{"PT", 351, NULL, 9, 9},	/* Portugal */
	{"PW", 680, NULL, 7, 7},	/* Palau */
	{"PY", 595, "0", 7, 9},	/* Paraguay */
	{"QA", 974, NULL, 8, 8},	/* Qatar */
	{"RE", 262, "0", 9, 9},	/* Reunion */
	{"RO", 40, "0", 9, 9},	/* Romania */
	{"RS", 381, "0", 7, 10},	/* Serbia */
	{"RU", 7, "8", 10, 10},	/* Russian Federation */
	{"RW", 250, "0", 8, 9},	/* Rwanda */
	{"SA", 966, "0", 9, 9},	/* Saudi Arabia */
	{"SB", 677, NULL, 5, 7},	/* Solomon Islands */
	{"SC", 248, NULL, 7, 7},	/* Seychelles */
	{"SD", 249, "0", 9, 9},	/* Sudan */
	{"SE", 46, "0", 7, 9},	/* Sweden */
	{"SG", 65, NULL, 8, 8},	/* Singapore */
	{"SH", 290, NULL, 4, 5},	/* Saint Helena, Ascension and Tristan da Cunha */
	{"SI", 386, "0", 8, 8},	/* Slovenia */
	{"SJ", 47, NULL, 8, 8},	/* Svalbard and Jan Mayen */
	{"SK", 421, "0", 9, 9},	/* Slovakia */
	{"SL", 232, "0", 8, 8},	/* Sierra Leone */
	{"SM", 378, NULL, 8, 10},	/* San Marino */
	{"SN", 221, NULL, 9, 9},	/* Senegal */
	{"SO", 252, "0", 6, 9},	/* Somalia */
	{"SR", 597, NULL, 6, 7},	/* Suriname */
	{"SS", 211, "0", 9, 9},	/* South Sudan */
	{"ST", 239, NULL, 7, 7},	/* Sao Tome and Principe */
	{"SV", 503, NULL, 8, 8},	/* El Salvador */
	{"SX", 1, "1", 10, 10},	/* Sint Maarten (Dutch part) */
	{"SY", 963, "0", 8, 9},	/* Syria */
	{"SZ", 268, NULL, 8, 8},	/* Eswatini */
	{"TA", 290, NULL, 4, 4},	/* Tristan da Cunha, reserved in ISO 3166 */
	{"TC", 1, "1", 10, 10},	/* Turks and Caicos Islands */
	{"TD", 235, NULL, 8, 8},	/* Chad */
	{"TF", 262, "0", 9, 9},	/* French Southern Territories */
	{"TG", 228, NULL, 8, 8},	/* Togo */
	{"TH", 66, "0", 8, 9},	/* Thailand */
	{"TJ", 992, NULL, 9, 9},	/* Tajikistan */
	{"TK", 690, NULL, 4, 7},	/* Tokelau */
	{"TL", 670, NULL, 7, 8},	/* Timor-Leste */
	{"TM", 993, "8", 8, 8},	/* Turkmenistan */
	{"TN", 216, NULL, 8, 8},	/* Tunisia */
	{"TO", 676, NULL, 5, 7},	/* Tonga */
	{"TR", 90, "0", 10, 10},	/* Turkiye */
	{"TT", 1, "1", 10, 10},	/* Trinidad and Tobago */
	{"TV", 688, NULL, 5, 7},	/* Tuvalu */
	{"TW", 886, "0", 8, 9},	/* Taiwan */
	{"TZ", 255, "0", 9, 9},	/* Tanzania */
	{"UA", 380, "0", 9, 9},	/* Ukraine */
	{"UG", 256, "0", 9, 9},	/* Uganda */
	{"UK", 44, "0", 9, 10},	/* reserved in ISO 3166 for GB */
	{"UM", 1, "1", 10, 10},	/* United States Minor Outlying Islands */
	{"US", 1, "1", 10, 10},	/* United States */
	{"UY", 598, "0", 8, 8},	/* Uruguay */
	{"UZ", 998, "8", 9, 9},	/* Uzbekistan */
	{"VA", 39, NULL, 6, 11},	/* Holy See (Vatican City State) */
	{"VC", 1, "1", 10, 10},	/* Saint Vincent and the Grenadines */
	{"VE", 58, "0", 10, 10},	/* Venezuela */
	{"VG", 1, "1", 10, 10},	/* Virgin Islands, British */
	{"VI", 1, "1", 10, 10},	/* Virgin Islands, U.S. */
	{"VN", 84, "0", 9, 10},	/* Vietnam */
	{"VU", 678, NULL, 5, 7},	/* Vanuatu */
	{"WF", 681, NULL, 6, 6},	/* Wallis and Futuna */
	{"WS", 685, NULL, 5, 10},	/* Samoa */
	{"XK", 383, "0", 8, 9},	/* Kosovo, user-assigned in ISO 3166 */
	{"YE", 967, "0", 7, 9},	/* Yemen */
	{"YT", 262, "0", 9, 9},	/* Mayotte */
	{"ZA", 27, "0", 9, 9},	/* South Africa */
	{"ZM", 260, "0", 9, 9},	/* Zambia */
	{"ZW", 263, "0", 7, 10}	/* Zimbabwe */
};

/* What countries with the same code have in common; plan 0 is no entry. */
typedef struct Zone
{
	int16		plan;			/* one of them, plus 1 */
	uint8		national_min;
	uint8		national_max;
} Zone;

static Zone zones[CODE_MAX + 1];
static int16 plan_of_letters[26 * 26];	/* plus 1, 0 is no country */
static bool filled = false;

#define IS_UPPER(c)			((unsigned char) ((c) - 'A') < 26)
#define LETTERS(country)	(((country)[0] - 'A') * 26 + ((country)[1] - 'A'))

static void fill(void);

/*
 * Find the plan of a country, NULL if there is no such country.
 */
const LrCallingPlan *
lr_calling_plan_of_country(const char *country)
{
	int			plan;

	if (!filled)
		fill();
	if (!IS_UPPER(country[0]) || !IS_UPPER(country[1]) || country[2] != '\0')
		return NULL;
	plan = plan_of_letters[LETTERS(country)];
	return plan > 0 ? &plans[plan - 1] : NULL;
}

/*
 * Find the calling code that digits start with, and return its length, 0 if
 * none does.  The plan then says what all its countries together allow.
 *
 * No assigned code is the beginning of another one.
 */
int
lr_calling_plan_of_digits(const char *digits, int ndigits, LrCallingPlan *plan)
{
	int			code = 0;
	int			i;

	if (!filled)
		fill();

	for (i = 0; i < ndigits && i < 3; i++)
	{
		code = code * 10 + (digits[i] - '0');
		if (code == 0)
			return 0;
		if (zones[code].plan != 0)
		{
			*plan = plans[zones[code].plan - 1];
			plan->country[0] = '\0';
			plan->national_min = zones[code].national_min;
			plan->national_max = zones[code].national_max;
			return i + 1;
		}
	}
	return 0;
}

/*
 * Fill the indexes.
 */
static void
fill(void)
{
	int			i;

	for (i = 0; i < (int) lengthof(plans); i++)
	{
		const LrCallingPlan *plan = &plans[i];
		Zone	   *zone = &zones[plan->code];

		Assert(i == 0 || strcmp(plans[i - 1].country, plan->country) < 0 ||
			   plan->country[0] == '\0');
		if (plan->country[0] != '\0')
			plan_of_letters[LETTERS(plan->country)] = i + 1;
		if (zone->plan == 0)
		{
			zone->plan = i + 1;
			zone->national_min = plan->national_min;
			zone->national_max = plan->national_max;
			continue;
		}

		/* Countries that share a code share the trunk prefix. */
		Assert((plan->trunk == NULL) == (plans[zone->plan - 1].trunk == NULL));
		Assert(plan->trunk == NULL ||
			   strcmp(plan->trunk, plans[zone->plan - 1].trunk) == 0);
		zone->national_min = Min(zone->national_min, plan->national_min);
		zone->national_max = Max(zone->national_max, plan->national_max);
	}
	filled = true;
}
