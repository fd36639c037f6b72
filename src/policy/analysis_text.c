/*
 * analysis_text.c: AND, OR and NOT that do not say what they seem to say.
 *
 * a OR b AND c is what the language takes it for, a OR (b AND c), and often not what its author does. The parser drops
 * parentheses, so the text is read token by token with the server's own scanner: what stands between the same parentheses,
 * CASE and END, or commas is one level, and on one level AND and OR should not meet. The AND of BETWEEN is none.
 */
#include "policy/analysis.h"

#include "common/keywords.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "parser/scanner.h"

#define MAX_LEVELS 64

typedef struct Level
{
	bool		has_and;
	bool		has_or;
	int			betweens;		/* whose AND is still to come */
	int			not_at;			/* offset of a NOT whose operand has no parentheses, or -1 */
	bool		operand;		/* an operand begins here */
} Level;

typedef struct TextScan
{
	const char *text;
	int			depth;
	Level		levels[MAX_LEVELS];
	int			mixed_at;		/* offset of the word that mixes, or -1 */
	int			not_at;			/* of a NOT that an OR follows, or -1 */
	const char *word;			/* AND or OR, which mixes */
} TextScan;

static bool mentions_or(const char *text);
static void scan_text(TextScan *scan);
static void see_token(TextScan *scan, int at, const char *next);
static void begin_level(TextScan *scan);
static bool word_at(const char *text, const char *word);
static int	character_of(const char *text, int offset);

/* Reports conditions that mix AND and OR on one level, and NOT in front of a comparison that OR follows. */
void
lr_find_mixes(LrAnalysis *analysis)
{
	for (int i = 0; i < analysis->nsubjects; i++)
	{
		const LrSubject *subject = &analysis->subjects[i];
		TextScan		scan = {.text = subject->when->text,.mixed_at = -1,.not_at = -1};

		CHECK_FOR_INTERRUPTS();
		/* most conditions have no OR */
		if (!mentions_or(scan.text))
			continue;
		scan_text(&scan);
		if (scan.mixed_at >= 0 && lr_finding_wanted(analysis, LR_FINDING_SUSPICIOUS_MIX, LR_WARNING_FINDING))
			(void) lr_finding_add(analysis, LR_FINDING_SUSPICIOUS_MIX, LR_WARNING_FINDING, subject->name, NULL,
								  "AND binds first: put parentheses around what belongs together.",
								  "AND and OR are mixed without parentheses, with %s at character %d.", scan.word, character_of(scan.text, scan.mixed_at));
		else if (scan.mixed_at < 0 && scan.not_at >= 0 && lr_finding_wanted(analysis, LR_FINDING_SUSPICIOUS_MIX, LR_INFO_FINDING))
			(void) lr_finding_add(analysis, LR_FINDING_SUSPICIOUS_MIX, LR_INFO_FINDING, subject->name, NULL,
								  "Put parentheses around what NOT is meant for.",
								  "NOT at character %d is for what stands before OR only.", character_of(scan.text, scan.not_at));
	}
}

static bool
mentions_or(const char *text)
{
	for (; *text; text++)
	{
		if ((text[0] == 'o' || text[0] == 'O') && (text[1] == 'r' || text[1] == 'R'))
			return true;
	}
	return false;
}

static void
scan_text(TextScan *scan)
{
	core_yy_extra_type extra;
	core_yyscan_t scanner = scanner_init(scan->text, &extra, &ScanKeywords, ScanKeywordTokens);
	core_YYSTYPE value;
	YYLTYPE		at;
	YYLTYPE		next;
	int			token;

	/* conditions that got here were scanned without an error before */
	scan->depth = -1;
	begin_level(scan);
	token = core_yylex(&value, &at, scanner);
	while (token != 0)
	{
		token = core_yylex(&value, &next, scanner);
		see_token(scan, at, token != 0 ? scan->text + next : "");
		at = next;
	}
	scanner_finish(scanner);
}

/* Takes in one token; next is where the following one begins. */
static void
see_token(TextScan *scan, int at, const char *next)
{
	const char *token = scan->text + at;
	Level	   *level = &scan->levels[scan->depth];
	bool		begins = level->operand;

	level->operand = false;
	if (*token == '(' || *token == '[' || word_at(token, "case"))
		begin_level(scan);
	else if ((*token == ')' || *token == ']' || word_at(token, "end")) && scan->depth > 0)
		scan->depth--;
	else if (*token == ',' || word_at(token, "when") || word_at(token, "then") || word_at(token, "else"))
	{
		scan->depth--;
		begin_level(scan);
	}
	else if (word_at(token, "between"))
		level->betweens++;
	else if (word_at(token, "and") && level->betweens > 0)
		level->betweens--;
	else if (word_at(token, "and") || word_at(token, "or"))
	{
		bool		is_or = word_at(token, "or");

		level->operand = true;
		if (is_or ? level->has_and : level->has_or)
		{
			if (scan->mixed_at < 0)
			{
				scan->mixed_at = at;
				scan->word = is_or ? "OR" : "AND";
			}
		}
		if (is_or && level->not_at >= 0 && scan->not_at < 0)
			scan->not_at = level->not_at;
		level->not_at = -1;
		level->has_or |= is_or;
		level->has_and |= !is_or;
	}
	else if (word_at(token, "not") && begins && *next != '(')
		level->not_at = at;
}

static void
begin_level(TextScan *scan)
{
	/* what is nested deeper is not looked at apart */
	if (scan->depth < MAX_LEVELS - 1)
		scan->depth++;
	memset(&scan->levels[scan->depth], 0, sizeof(Level));
	scan->levels[scan->depth].not_at = -1;
	scan->levels[scan->depth].operand = true;
}

static bool
word_at(const char *text, const char *word)
{
	size_t		length = strlen(word);

	return pg_strncasecmp(text, word, length) == 0 && !isalnum((unsigned char) text[length]) && text[length] != '_' && text[length] != '$' &&
		!IS_HIGHBIT_SET(text[length]);
}

/* Counts characters from 1, as messages of the parser do. */
static int
character_of(const char *text, int offset)
{
	return pg_mbstrlen_with_len(text, offset) + 1;
}
