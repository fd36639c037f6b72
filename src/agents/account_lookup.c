/*
 * account_lookup.c: finding the accounts that a lead may belong to, and the best one.
 *
 * A lead's candidates are those of its exact keys, or, where there are none, those with a fuzzy name. They are put in an order
 * that the documentation states; the parents of those that are listed, and the owners of the best one, are looked up then.
 */
#include "agents/account_read.h"

/* Parents above one another that are followed; a circle ends there, too. */
#define MAX_PARENTS 50

/* The candidates of one lead, while they are collected. */
typedef struct Candidate
{
	LrAccountCandidate is;
	const LrAccount *account;
} Candidate;

typedef struct Candidates
{
	int			n;
	int			allocated;
	Candidate  *list;
	int			earlier;		/* those of keys before the one in hand: accounts of one key are each there once */
	bool		cut;
} Candidates;

const char *const lr_account_match_names[LR_N_MATCHES] = {"domain", "name", "fuzzy", "parent"};
const char *const lr_account_type_names[LR_N_ACCOUNT_TYPES] = {"customer", "partner", "prospect", "competitor"};

static void find_exact(LrAccountLookup *lookup, const LrAccountKeys *keys, Candidates *candidates);
static void find_fuzzy(LrAccountLookup *lookup, const LrAccountKeys *keys, Candidates *candidates);
static void add_candidate(Candidates *candidates, const LrAccount *account, LrAccountMatch match, int confidence, int similarity, int agrees);
static bool country_differs(const LrAccountKeys *keys, const LrAccount *account);
static bool country_agrees(const LrAccountKeys *keys, const LrAccount *account);
static int	compare_candidates(const void *a, const void *b);
static int	compare_strength(const Candidate *a, const Candidate *b);
static const LrAccount *ultimate_parent(LrAccountLookup *lookup, const LrAccount *account);

/* Finds the accounts of one lead, in the current memory context; NULL if there are none. */
LrAccountFound *
lr_account_find(LrAccountLookup *lookup, const LrAccountKeys *keys)
{
	Candidates	candidates = {0};
	LrAccountFound *found;
	const LrAccount *best;

	find_exact(lookup, keys, &candidates);
	if (candidates.n == 0)
		find_fuzzy(lookup, keys, &candidates);
	if (candidates.n == 0)
		return NULL;
	qsort(candidates.list, candidates.n, sizeof(Candidate), compare_candidates);
	found = palloc0(sizeof(LrAccountFound));
	found->n = Min(candidates.n, LR_CANDIDATES_LISTED);
	found->candidates = palloc(sizeof(LrAccountCandidate) * found->n);
	found->more = candidates.n - found->n;
	found->cut = candidates.cut;
	found->ambiguous = candidates.n > 1 && compare_strength(&candidates.list[0], &candidates.list[1]) == 0;
	best = candidates.list[0].account;
	for (int i = 0; i < found->n; i++)
	{
		const LrAccount *top = ultimate_parent(lookup, candidates.list[i].account);

		found->candidates[i] = candidates.list[i].is;
		found->candidates[i].ultimate_parent_id = top ? top->account_id : 0;
		if (i == 0 && top && keys->parents)
			best = top;
	}
	found->chosen = found->candidates[0];
	if (best != candidates.list[0].account)
	{
		found->chosen.account_id = best->account_id;
		found->chosen.match = LR_MATCH_PARENT;
		found->chosen.type = best->type;
		found->chosen.opportunity = best->opportunity_owner_id != 0;
		found->chosen.ultimate_parent_id = 0;
	}
	found->owners = lr_account_owners(lookup, best);
	/* may be thousands, of each lead of the batch */
	pfree(candidates.list);
	return found;
}

/* ---- candidates ---- */

/* By domain, the lead's own before that of its address, and by name in the same country, if both countries are known. */
static void
find_exact(LrAccountLookup *lookup, const LrAccountKeys *keys, Candidates *candidates)
{
	for (int d = 0; d < (int) lengthof(keys->domains) && candidates->n == 0; d++)
	{
		const LrAccountsOfKey *found;

		if (keys->domains[d] == NULL)
			continue;
		found = lr_accounts_of(lookup, LR_BY_DOMAIN, keys->domains[d]);
		candidates->cut |= found->cut;
		candidates->earlier = candidates->n;
		for (int i = 0; i < found->n; i++)
			add_candidate(candidates, found->accounts[i], LR_MATCH_DOMAIN, 100, 0,
						  country_agrees(keys, found->accounts[i]) ? LR_AGREES_COUNTRY : 0);
	}
	if (keys->name)
	{
		const LrAccountsOfKey *found = lr_accounts_of(lookup, LR_BY_NAME, keys->name);

		candidates->cut |= found->cut;
		candidates->earlier = candidates->n;
		for (int i = 0; i < found->n; i++)
		{
			bool		agrees = country_agrees(keys, found->accounts[i]);

			if (!country_differs(keys, found->accounts[i]))
				add_candidate(candidates, found->accounts[i], LR_MATCH_NAME, agrees ? 90 : 80, 0, agrees ? LR_AGREES_COUNTRY : 0);
		}
	}
}

/* By a name that is alike, among the accounts that agree in the domain's root, the phone number, or the postcode. */
static void
find_fuzzy(LrAccountLookup *lookup, const LrAccountKeys *keys, Candidates *candidates)
{
	struct
	{
		LrAccountWay way;
		const char *key;
	}			ways[] = {{LR_BY_ROOT, keys->root}, {LR_BY_PHONE, keys->phone}, {LR_BY_POSTCODE, keys->postcode}};
	uint32		trigrams[LR_TRIGRAMS_MAX];
	int			ntrigrams;

	if (keys->name == NULL)
		return;
	ntrigrams = lr_trigrams(keys->name, strlen(keys->name), trigrams);
	for (int w = 0; w < (int) lengthof(ways); w++)
	{
		const LrAccountsOfKey *found;

		if (ways[w].key == NULL)
			continue;
		found = lr_accounts_of(lookup, ways[w].way, ways[w].key);
		candidates->cut |= found->cut;
		candidates->earlier = candidates->n;
		for (int i = 0; i < found->n; i++)
		{
			LrAccount  *account = found->accounts[i];
			int			agrees = 0;
			int			similarity;

			if (account->name == NULL)
				continue;
			/* the same code means another place in another country */
			if (keys->postcode && account->postcode && strcmp(keys->postcode, account->postcode) == 0 && !country_differs(keys, account))
				agrees |= LR_AGREES_POSTCODE;
			if (ways[w].way == LR_BY_ROOT || (keys->root && account->root && strcmp(keys->root, account->root) == 0))
				agrees |= LR_AGREES_ROOT;
			if (keys->phone && account->phone && strcmp(keys->phone, account->phone) == 0)
				agrees |= LR_AGREES_PHONE;
			if (agrees == 0)
				continue;
			lr_account_make_trigrams(lookup, account);
			similarity = lr_trigram_similarity(trigrams, ntrigrams, account->trigrams, account->ntrigrams);
			if (similarity >= keys->threshold)
				add_candidate(candidates, account, LR_MATCH_FUZZY, similarity * 3 / 4, similarity,
							  agrees | (country_agrees(keys, account) ? LR_AGREES_COUNTRY : 0));
		}
	}
}

/* Adds an account, unless it is a candidate already: then only what agrees is added. The ways come in the order of their strength. */
static void
add_candidate(Candidates *candidates, const LrAccount *account, LrAccountMatch match, int confidence, int similarity, int agrees)
{
	for (int i = 0; i < candidates->earlier; i++)
	{
		if (candidates->list[i].is.account_id == account->account_id)
		{
			candidates->list[i].is.agrees |= agrees;
			return;
		}
	}
	if (candidates->n == candidates->allocated)
	{
		candidates->allocated = Max(candidates->allocated * 2, 4);
		candidates->list = candidates->list ? repalloc(candidates->list, sizeof(Candidate) * candidates->allocated)
			: palloc(sizeof(Candidate) * candidates->allocated);
	}
	candidates->list[candidates->n++] = (Candidate) {
		.is = {.account_id = account->account_id,.match = match,.confidence = confidence,.similarity = similarity,.agrees = agrees,
			.type = account->type,.opportunity = account->opportunity_owner_id != 0},
		.account = account
	};
}

static bool
country_agrees(const LrAccountKeys *keys, const LrAccount *account)
{
	return keys->country && account->country[0] && strcmp(keys->country, account->country) == 0;
}

static bool
country_differs(const LrAccountKeys *keys, const LrAccount *account)
{
	return keys->country && account->country[0] && strcmp(keys->country, account->country) != 0;
}

static int
compare_candidates(const void *a, const void *b)
{
	const Candidate *one = a;
	const Candidate *other = b;
	int			result = compare_strength(one, other);

	if (result == 0)
		result = one->is.account_id < other->is.account_id ? -1 : one->is.account_id > other->is.account_id;
	return result;
}

/* The better match, then an open opportunity, then the type. */
static int
compare_strength(const Candidate *a, const Candidate *b)
{
	if (a->is.match != b->is.match)
		return (int) a->is.match - (int) b->is.match;
	if (a->is.confidence != b->is.confidence)
		return b->is.confidence - a->is.confidence;
	if (a->is.similarity != b->is.similarity)
		return b->is.similarity - a->is.similarity;
	if (a->is.opportunity != b->is.opportunity)
		return a->is.opportunity ? -1 : 1;
	return (int) a->is.type - (int) b->is.type;
}

/* Returns the account at the top, above another one; NULL if that is the top itself, or one of a circle. */
static const LrAccount *
ultimate_parent(LrAccountLookup *lookup, const LrAccount *account)
{
	const LrAccount *above[MAX_PARENTS + 1];
	int			n = 0;

	above[n++] = account;
	for (;;)
	{
		const LrAccount *parent = lr_account_parent(lookup, above[n - 1]);

		if (parent == NULL)
			return n > 1 ? above[n - 1] : NULL;
		for (int i = 0; i < n; i++)
		{
			if (above[i]->account_id == parent->account_id)
				return NULL;
		}
		if (n > MAX_PARENTS)
			return NULL;
		above[n++] = parent;
	}
}
