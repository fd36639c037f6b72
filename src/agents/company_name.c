/*
 * company_name.c: the normal form of a company's name, in which two spellings of it are equal.
 *
 * Letters become lower-case ASCII ones: those of Latin-1 and Latin Extended-A, Greek and Cyrillic ones by small tables, others
 * stay as they are. ä, ö and ü become ae, oe and ue, as Germans do it where they have no umlauts, ø and æ like them; all other
 * diacritics are dropped. Apostrophes vanish, other punctuation separates words; single letters with a full stop or a slash
 * between them are one word, so that S.A. and SA are the same. Then legal forms go, from the end and, where it is the custom,
 * from the beginning, as long as a word remains, and "and" between words.
 *
 * Plain C on UTF-8: the same bytes give the same form on every server. Stored columns hold it, so a change of these tables
 * asks for an upgrade script that makes the columns anew.
 */
#include "agents/accounts.h"

#include "mb/pg_wchar.h"

#define MAX_WORDS 64
/* Longer ones are no names, and too long for an index. */
#define MAX_LENGTH 500

typedef struct Word
{
	int			at;				/* in the buffer */
	int			length;
	int			letters;
	bool		dotted;			/* a full stop or a slash stands between it and the word before */
} Word;

typedef struct Words
{
	char	   *buffer;			/* the words, one behind the other */
	int			length;
	int			n;
	Word		words[MAX_WORDS];
} Words;

/* From U+00C0, U+0386 and U+0400 on, each to the ASCII letters that stand for it; NULL: it separates words. */
static const char *const latin_letters[] = {
	"a", "a", "a", "a", "ae", "a", "ae", "c", "e", "e", "e", "e", "i", "i", "i", "i", "d", "n", "o", "o", "o", "o",
	"oe", NULL, "oe", "u", "u", "u", "ue", "y", "th", "ss", "a", "a", "a", "a", "ae", "a", "ae", "c", "e", "e", "e",
	"e", "i", "i", "i", "i", "d", "n", "o", "o", "o", "o", "oe", NULL, "oe", "u", "u", "u", "ue", "y", "th", "y", "a",
	"a", "a", "a", "a", "a", "c", "c", "c", "c", "c", "c", "c", "c", "d", "d", "d", "d", "e", "e", "e", "e", "e", "e",
	"e", "e", "e", "e", "g", "g", "g", "g", "g", "g", "g", "g", "h", "h", "h", "h", "i", "i", "i", "i", "i", "i", "i",
	"i", "i", "i", "ij", "ij", "j", "j", "k", "k", "k", "l", "l", "l", "l", "l", "l", "l", "l", "l", "l", "n", "n", "n",
	"n", "n", "n", "n", "ng", "ng", "o", "o", "o", "o", "o", "o", "oe", "oe", "r", "r", "r", "r", "r", "r", "s", "s",
	"s", "s", "s", "s", "s", "s", "t", "t", "t", "t", "t", "t", "u", "u", "u", "u", "u", "u", "u", "u", "u", "u", "u",
	"u", "w", "w", "y", "y", "y", "z", "z", "z", "z", "z", "z", "s",
};

static const char *const greek_letters[] = {
	"a", NULL, "e", "i", "i", NULL, "o", NULL, "y", "o", "i", "a", "v", "g", "d", "e", "z", "i", "th", "i", "k", "l",
	"m", "n", "x", "o", "p", "r", NULL, "s", "t", "y", "f", "ch", "ps", "o", "i", "y", "a", "e", "i", "i", "y", "a",
	"v", "g", "d", "e", "z", "i", "th", "i", "k", "l", "m", "n", "x", "o", "p", "r", "s", "s", "t", "y", "f", "ch",
	"ps", "o", "i", "y", "o", "y", "o",
};

static const char *const cyrillic_letters[] = {
	"e", "e", "dj", "g", "ye", "dz", "i", "i", "j", "lj", "nj", "c", "k", "i", "u", "dz", "a", "b", "v", "g", "d", "e",
	"zh", "z", "i", "y", "k", "l", "m", "n", "o", "p", "r", "s", "t", "u", "f", "kh", "ts", "ch", "sh", "shch", "", "y",
	"", "e", "yu", "ya", "a", "b", "v", "g", "d", "e", "zh", "z", "i", "y", "k", "l", "m", "n", "o", "p", "r", "s", "t",
	"u", "f", "kh", "ts", "ch", "sh", "shch", "", "y", "", "e", "yu", "ya", "e", "e", "dj", "g", "ye", "dz", "i", "i",
	"j", "lj", "nj", "c", "k", "i", "u", "dz",
};

/* What a name may end with, the longer ones before those that they end with. */
static const char *const endings[] = {
	/* German, Swiss, Austrian */
	"gmbh", "mbh", "ggmbh", "gesmbh", "kg", "kgaa", "ohg", "og", "gbr", "ug", "haftungsbeschraenkt", "ag", "se", "ev", "eg", "ek", "partg", "co",
	"gesellschaft mit beschraenkter haftung", "aktiengesellschaft",
	/* English */
	"limited", "ltd", "llc", "llp", "lp", "lllp", "pllc", "plc", "inc", "incorporated", "corp", "corporation", "company", "pty", "proprietary",
	"pte", "pvt", "private", "cic", "ulc", "nv sa", "bhd", "sdn", "dac", "teoranta", "public limited company",
	/* French, Belgian */
	"sa", "sas", "sasu", "sarl", "eurl", "snc", "sca", "scop", "sci", "asbl", "scrl", "selarl", "sa rl", "societe anonyme",
	/* Italian, Spanish, Portuguese, Latin American */
	"srl", "srls", "spa", "sapa", "sl", "slu", "sau", "slne", "sll", "lda", "ltda", "sgps", "unipessoal", "eireli", "sapi", "sab", "s de rl de cv",
	"sa de cv", "sapi de cv", "sab de cv", "sas de cv", "rl de cv", "sociedad anonima", "eirl", "sac", "cia", "societa per azioni",
	/* Dutch */
	"bv", "nv", "vof", "cv", "bvba", "cvba", "besloten vennootschap",
	/* Nordic, Baltic */
	"oy", "oyj", "ab", "abp", "publ", "hb", "kb", "as", "asa", "aps", "a s", "ans", "ivs", "hf", "ehf", "uab", "sia", "oue", "aktiebolag",
	"osakeyhtioe", "aktieselskab",
	/* Central and Eastern European */
	"sp z oo", "sp zoo", "sp zo o", "spolka z oo", "spolka z ograniczona odpowiedzialnoscia", "sp k", "sp j", "spk", "spj", "spolka akcyjna", "sro",
	"spol s ro", "spol sro", "s ro", "s r o", "vos", "ks", "kft", "zrt", "nyrt", "bt", "kkt", "doo", "d o o", "dd", "jdoo", "ad", "ead", "ood", "eood",
	"shpk",
	/* Greek, Russian, Ukrainian, as they are transliterated */
	"ae", "epe", "ike", "ee", "oe", "ooo", "oao", "zao", "pao", "ao", "tov", "too", "jsc", "ojsc", "cjsc", "pjsc",
	/* Turkish, Asian, Gulf */
	"kk", "gk", "yk", "kabushiki kaisha", "godo kaisha", "tbk", "wll", "fze", "fzco", "fzc", "ltd sti", "sti", "anonim sirketi", "limited sirketi",
	"\xe6\xa0\xaa",
	NULL
};

/* What it may begin with. */
static const char *const beginnings[] = {
	"ooo", "oao", "zao", "pao", "ao", "tov", "too", "uab", "sia", "pt", "oue", "kabushiki kaisha", "the", "\xe6\xa0\xaa", NULL
};

/* Between other words. */
static const char *const conjunctions[] = {"and", "und", "et", "och", "og", NULL};

/* Legal forms that are written without spaces: kabushiki gaisha, yugen gaisha, joint-stock and limited companies in Chinese. */
static const char *const unspaced_forms[] = {
	"\xe6\xa0\xaa\xe5\xbc\x8f\xe4\xbc\x9a\xe7\xa4\xbe", "\xe6\x9c\x89\xe9\x99\x90\xe4\xbc\x9a\xe7\xa4\xbe",
	"\xe8\x82\xa1\xe4\xbb\xbd\xe6\x9c\x89\xe9\x99\x90\xe5\x85\xac\xe5\x8f\xb8", "\xe6\x9c\x89\xe9\x99\x90\xe5\x85\xac\xe5\x8f\xb8", NULL
};

static void split(const char *name, int length, Words *words);
static int	read_code(const char *at, const char *end, int *code);
static const char *letters_of(int code, int before, char *ascii);
static bool is_separator(int code);
static void join_initials(Words *words);
static bool ends_with(const Words *words, const char *form, int *n);
static bool begins_with(const Words *words, const char *form, int *n);
static void drop_first(Words *words, int n);
static bool is_word(const Words *words, int i, const char *text, int length);

/* Makes the normal form of a name in UTF-8, palloc'd; false if nothing of it remains, or more than an index can hold. */
bool
lr_company_normalise(const char *name, int length, char **normal, int *normal_length)
{
	Words		words = {0};
	bool		again;
	int			n;
	int			at = 0;

	split(name, length, &words);
	join_initials(&words);
	for (int i = 1; i < words.n - 1; i++)
	{
		for (int c = 0; conjunctions[c]; c++)
		{
			if (!is_word(&words, i, conjunctions[c], strlen(conjunctions[c])))
				continue;
			memmove(&words.words[i], &words.words[i + 1], sizeof(Word) * (words.n - i - 1));
			words.n--;
			break;
		}
	}
	do
	{
		again = false;
		for (int i = 0; beginnings[i] && !again; i++)
		{
			if ((again = begins_with(&words, beginnings[i], &n)))
				drop_first(&words, n);
		}
	} while (again);
	do
	{
		again = false;
		for (int i = 0; endings[i] && !again; i++)
		{
			if ((again = ends_with(&words, endings[i], &n)))
				words.n -= n;
		}
	} while (again);
	if (words.n == 0)
		return false;
	*normal = palloc(words.length + words.n + 1);
	for (int i = 0; i < words.n; i++)
	{
		if (i > 0)
			(*normal)[at++] = ' ';
		memcpy(*normal + at, words.buffer + words.words[i].at, words.words[i].length);
		at += words.words[i].length;
	}
	(*normal)[at] = '\0';
	*normal_length = at;
	return at <= MAX_LENGTH;
}

/* Splits a name into words of lower-case letters and digits. What is behind the 64th word does not count. */
static void
split(const char *name, int length, Words *words)
{
	const char *end = name + length;
	bool		inside = false;
	bool		dotted = false;
	int			before = 0;

	words->buffer = palloc(length * 4 + 5);
	while (name < end)
	{
		int			code;
		int			bytes = read_code(name, end, &code);
		char		ascii[2] = "";
		const char *letters = letters_of(code, before, ascii);
		int			nletters = letters ? (int) strlen(letters) : bytes;
		Word	   *word;

		for (int i = 0; unspaced_forms[i] && code >= 0x4E00; i++)
		{
			if (end - name >= (int) strlen(unspaced_forms[i]) && memcmp(name, unspaced_forms[i], strlen(unspaced_forms[i])) == 0)
			{
				bytes = strlen(unspaced_forms[i]);
				code = ' ';
				break;
			}
		}
		/* apostrophes of all kinds */
		if (code == '\'' || code == '`' || code == 0xB4 || code == 0x2018 || code == 0x2019 || code == 0x2BC)
		{
			name += bytes;
			continue;
		}
		if (is_separator(code))
		{
			dotted = (!inside && dotted) || code == '.' || code == '/';
			inside = false;
			before = 0;
			name += bytes;
			continue;
		}
		if (!inside)
		{
			if (words->n == MAX_WORDS)
				return;
			words->words[words->n++] = (Word) {.at = words->length,.dotted = dotted};
			inside = true;
		}
		dotted = false;
		word = &words->words[words->n - 1];
		memcpy(words->buffer + words->length, letters ? letters : name, nletters);
		words->length += nletters;
		word->length += nletters;
		/* a combining mark is no letter of its own */
		word->letters += code < 0x300 || code > 0x36F;
		before = code;
		name += bytes;
	}
}

/* Reads a character; bytes that are none count one by one. */
static int
read_code(const char *at, const char *end, int *code)
{
	int			bytes = pg_utf_mblen((const unsigned char *) at);

	*code = (unsigned char) *at;
	if (bytes == 1 || bytes > end - at || !pg_utf8_islegal((const unsigned char *) at, bytes))
		return 1;
	*code = (int) utf8_to_unicode((const unsigned char *) at);
	return bytes;
}

/* Returns the letters that stand for a character, NULL if it stands for itself. before: the character before it, of the same word. */
static const char *
letters_of(int code, int before, char *ascii)
{
	/* full-width forms */
	if (code >= 0xFF01 && code <= 0xFF5E)
		code -= 0xFEE0;
	if (code < 0x80)
	{
		ascii[0] = pg_ascii_tolower((unsigned char) code);
		ascii[1] = '\0';
		return ascii;
	}
	/* a diaeresis that is a character of its own, then all other marks */
	if (code == 0x308 && before > 0 && before < 0x80 && strchr("aouAOU", before))
		return "e";
	if (code >= 0x300 && code <= 0x36F)
		return "";
	if (code == 0x3C5 && (before == 0x3BF || before == 0x39F))
		return "u";
	if ((code == 0x3CD || code == 0x3A5) && (before == 0x3BF || before == 0x39F))
		return "u";
	if (code >= 0xC0 && code < 0xC0 + (int) lengthof(latin_letters))
		return latin_letters[code - 0xC0];
	if (code >= 0x386 && code < 0x386 + (int) lengthof(greek_letters))
		return greek_letters[code - 0x386];
	if (code >= 0x400 && code < 0x400 + (int) lengthof(cyrillic_letters))
		return cyrillic_letters[code - 0x400];
	switch (code)
	{
		case 0x218:
		case 0x219:
			return "s";
		case 0x21A:
		case 0x21B:
			return "t";
		case 0x490:
		case 0x491:
			return "g";
		case 0x1E9E:
			return "ss";
	}
	return NULL;
}

/* Tells whether a character separates words: what is neither letter nor digit. */
static bool
is_separator(int code)
{
	if (code >= 0xFF01 && code <= 0xFF5E)
		code -= 0xFEE0;
	if (code < 0x80)
		return !(code >= '0' && code <= '9') && !(code >= 'a' && code <= 'z') && !(code >= 'A' && code <= 'Z');
	return code < 0xC0 || code == 0xD7 || code == 0xF7 || code == 0x387 || (code >= 0x2000 && code <= 0x2BFF) || (code >= 0x3000 && code <= 0x303F) ||
		(code >= 0x3200 && code <= 0x32FF) || (code >= 0xFF5F && code <= 0xFF65) || (code >= 0xFE30 && code <= 0xFE6F);
}

/* Makes single letters with a full stop or a slash between them one word. */
static void
join_initials(Words *words)
{
	int			kept = 0;
	bool		initial = false;	/* the last one kept is made of single letters */

	for (int i = 0; i < words->n; i++)
	{
		bool		single = words->words[i].letters == 1;

		if (i > 0 && single && initial && words->words[i].dotted)
			words->words[kept - 1].length += words->words[i].length;
		else
			words->words[kept++] = words->words[i];
		initial = single;
	}
	words->n = kept;
}

/* Tells whether the last words are a legal form, and others stand before it. */
static bool
ends_with(const Words *words, const char *form, int *n)
{
	const char *end = form + strlen(form);
	int			i = words->n;

	while (end > form)
	{
		const char *start = end;

		while (start > form && start[-1] != ' ')
			start--;
		if (--i < 1 || !is_word(words, i, start, end - start))
			return false;
		end = start > form ? start - 1 : form;
	}
	*n = words->n - i;
	return true;
}

/* Tells whether the first words are a legal form, and others follow. */
static bool
begins_with(const Words *words, const char *form, int *n)
{
	int			i = 0;

	while (*form)
	{
		const char *end = strchr(form, ' ');

		if (end == NULL)
			end = form + strlen(form);
		if (i >= words->n - 1 || !is_word(words, i++, form, end - form))
			return false;
		form = *end ? end + 1 : end;
	}
	*n = i;
	return true;
}

static void
drop_first(Words *words, int n)
{
	words->n -= n;
	memmove(&words->words[0], &words->words[n], sizeof(Word) * words->n);
}

static bool
is_word(const Words *words, int i, const char *text, int length)
{
	return words->words[i].length == length && memcmp(words->buffer + words->words[i].at, text, length) == 0;
}

/* ---- how alike two normal forms are ---- */

/*
 * Lists the trigrams of a normal form, each once, ascending; returns how many. A word counts with two blanks before and one
 * behind it, so that beginnings of words weigh more.
 */
int
lr_trigrams(const char *name, int length, uint32 *trigrams)
{
	uint32		window = ' ' << 8 | ' ';
	int			n = 0;
	int			kept = 0;

	length = Min(length, LR_TRIGRAM_LENGTH);
	for (int i = 0; i <= length; i++)
	{
		unsigned char c = i < length ? (unsigned char) name[i] : ' ';

		window = (window << 8 | c) & 0xFFFFFF;
		trigrams[n++] = window;
		if (c == ' ')
			window = ' ' << 8 | ' ';
	}
	for (int i = 1; i < n; i++)
	{
		uint32		moving = trigrams[i];
		int			at = i;

		for (; at > 0 && trigrams[at - 1] > moving; at--)
			trigrams[at] = trigrams[at - 1];
		trigrams[at] = moving;
	}
	for (int i = 0; i < n; i++)
	{
		if (i == 0 || trigrams[i] != trigrams[kept - 1])
			trigrams[kept++] = trigrams[i];
	}
	return kept;
}

/* Returns how many hundredths of all trigrams of two names both have. */
int
lr_trigram_similarity(const uint32 *a, int na, const uint32 *b, int nb)
{
	int			i = 0;
	int			j = 0;
	int			common = 0;

	while (i < na && j < nb)
	{
		if (a[i] == b[j])
		{
			common++;
			i++;
			j++;
		}
		else if (a[i] < b[j])
			i++;
		else
			j++;
	}
	return na + nb == 0 ? 0 : 100 * common / (na + nb - common);
}
