/*
 * account_lookup.c: finding the accounts that a lead may belong to, for a batch of leads.
 *
 * leadroute.accounts has the normal forms as columns, each with an index of its own: domain, name, and for fuzzy matches the
 * domain's root, the phone number and the postcode. A key is looked up once in a batch; what comes of it is kept, with what is
 * needed of each account. Accounts of one key come in the order of their ids, and of a key that very many have, such as a
 * postcode of a city, the first 1,000 are looked at: the record says so.
 *
 * A lead's candidates are those of its exact keys, or, where there are none, those with a fuzzy name. They are put in an order
 * that the documentation states; the parents of those that are listed, and the owners of the best one, are looked up then.
 */
#include "agents/accounts.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_am_d.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"

/* Accounts of one key that are looked at. */
#define MAX_OF_KEY 1000
/* Parents above one another that are followed; a circle ends there, too. */
#define MAX_PARENTS 50

/* Columns, in the order of sql/accounts.sql. */
enum AccountColumn
{
	ACCOUNT_ID = 1,
	ACCOUNT_SOURCE_ID,
	ACCOUNT_OPPORTUNITY_OWNER_ID,
	ACCOUNT_PARENT_ID,
	ACCOUNT_TYPE,
	ACCOUNT_COUNTRY,
	ACCOUNT_PARENT_EXTERNAL_ID,
	ACCOUNT_EXTERNAL_ID,
	ACCOUNT_NAME,
	ACCOUNT_DOMAIN,
	ACCOUNT_PHONE,
	ACCOUNT_POSTCODE,
	ACCOUNT_DOMAIN_FORM,
	ACCOUNT_ROOT_FORM,
	ACCOUNT_NAME_FORM,
	ACCOUNT_PHONE_FORM,
	ACCOUNT_POSTCODE_FORM
};

enum DomainColumn
{
	DOMAIN_ACCOUNT_ID = 1,
	DOMAIN_DOMAIN,
	DOMAIN_DOMAIN_FORM,
	DOMAIN_ROOT_FORM
};

enum OwnerColumn
{
	OWNER_ACCOUNT_ID = 1,
	OWNER_ROLE,
	OWNER_OWNER_ID
};

/* How accounts are found, and by which table's index. */
typedef enum Way
{
	BY_ID,
	BY_EXTERNAL_ID,
	BY_DOMAIN,
	BY_NAME,
	BY_ROOT,
	BY_PHONE,
	BY_POSTCODE,
	FURTHER_BY_DOMAIN,
	FURTHER_BY_ROOT,
	OWNERS,
	N_WAYS
} Way;

typedef enum Table
{
	ACCOUNTS,
	DOMAINS,
	OWNED,
	N_TABLES
} Table;

static const LrTable tables[N_TABLES] = {LR_TABLE_ACCOUNTS, LR_TABLE_ACCOUNT_DOMAINS, LR_TABLE_ACCOUNT_OWNERS};

/* The index of each way: its table, and its first two columns; 0 for any. */
static const struct
{
	Table		table;
	AttrNumber	first;
	AttrNumber	second;
}			indexes[N_WAYS] = {
	[BY_ID] = {ACCOUNTS, ACCOUNT_ID, 0},
	[BY_EXTERNAL_ID] = {ACCOUNTS, ACCOUNT_SOURCE_ID, ACCOUNT_EXTERNAL_ID},
	[BY_DOMAIN] = {ACCOUNTS, ACCOUNT_DOMAIN_FORM, ACCOUNT_ID},
	[BY_NAME] = {ACCOUNTS, ACCOUNT_NAME_FORM, ACCOUNT_ID},
	[BY_ROOT] = {ACCOUNTS, ACCOUNT_ROOT_FORM, ACCOUNT_ID},
	[BY_PHONE] = {ACCOUNTS, ACCOUNT_PHONE_FORM, ACCOUNT_ID},
	[BY_POSTCODE] = {ACCOUNTS, ACCOUNT_POSTCODE_FORM, ACCOUNT_ID},
	[FURTHER_BY_DOMAIN] = {DOMAINS, DOMAIN_DOMAIN_FORM, DOMAIN_ACCOUNT_ID},
	[FURTHER_BY_ROOT] = {DOMAINS, DOMAIN_ROOT_FORM, DOMAIN_ACCOUNT_ID},
	[OWNERS] = {OWNED, OWNER_ACCOUNT_ID, OWNER_ROLE},
};

/* What is kept of an account. */
typedef struct Account
{
	int64		account_id;
	int64		parent_id;		/* 0: none */
	char	   *parent_external_id; /* of the same source; or NULL */
	int			source_id;
	LrAccountType type;
	int			opportunity_owner_id;	/* 0: no open opportunity */
	char		country[3];		/* "" if it is not known */
	char	   *name;			/* normal forms, for fuzzy matches only; or NULL */
	char	   *root;
	char	   *phone;
	char	   *postcode;
	int			ntrigrams;		/* -1: not made yet */
	uint32	   *trigrams;
} Account;

/* The accounts of a key. */
typedef struct Found
{
	char	   *key;			/* hash key: a letter for the way, and the key */
	uint32		hash;
	uint32		status;
	int			n;
	bool		cut;
	Account   **accounts;
} Found;

#define SH_PREFIX found
#define SH_ELEMENT_TYPE Found
#define SH_KEY_TYPE char *
#define SH_KEY key
#define SH_HASH_KEY(tb, key) hash_bytes((unsigned char *) (key), strlen(key))
#define SH_EQUAL(tb, a, b) (strcmp(a, b) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct LrAccountLookup
{
	MemoryContext memory;
	Snapshot	snapshot;
	Relation	rels[N_TABLES];		/* opened when first needed */
	TupleTableSlot *slots[N_TABLES];
	Relation	indexes[N_WAYS];
	IndexScanDesc scans[N_WAYS];
	bool		no_domains;		/* there are no further ones */
	found_hash *found;
};

/* The candidates of one lead, while they are collected. */
typedef struct Candidate
{
	LrAccountCandidate is;
	const Account *account;
} Candidate;

typedef struct Candidates
{
	int			n;
	int			allocated;
	Candidate  *list;
	bool		cut;
} Candidates;

const char *const lr_account_match_names[LR_N_MATCHES] = {"domain", "name", "fuzzy", "parent"};
const char *const lr_account_type_names[LR_N_ACCOUNT_TYPES] = {"customer", "partner", "prospect", "competitor"};

static const Found *accounts_of(LrAccountLookup *lookup, Way way, Way further, const char *key);
static void read_accounts(LrAccountLookup *lookup, Way way, const char *key, List **accounts, bool *cut);
static void read_further(LrAccountLookup *lookup, Way way, const char *key, List **accounts, bool *cut);
static int	compare_account_ids(const ListCell *a, const ListCell *b);
static Account *account_of_id(LrAccountLookup *lookup, int64 account_id, bool forms);
static Account *keep_account(LrAccountLookup *lookup, bool forms);
static char *key_of(Way way, const char *key);
static void keep_forms(Account *account, TupleTableSlot *slot);
static char *column_text(TupleTableSlot *slot, AttrNumber column);
static void start_scan(LrAccountLookup *lookup, Way way, ScanKeyData *keys, int nkeys);
static void open_way(LrAccountLookup *lookup, Way way);
static void find_exact(LrAccountLookup *lookup, const LrAccountKeys *keys, Candidates *candidates);
static void find_fuzzy(LrAccountLookup *lookup, const LrAccountKeys *keys, Candidates *candidates);
static void add_candidate(Candidates *candidates, const Account *account, LrAccountMatch match, int confidence, int similarity, int agrees);
static bool country_differs(const LrAccountKeys *keys, const Account *account);
static bool country_agrees(const LrAccountKeys *keys, const Account *account);
static int	compare_candidates(const void *a, const void *b);
static int	compare_strength(const Candidate *a, const Candidate *b);
static const Account *ultimate_parent(LrAccountLookup *lookup, const Account *account);
static const Account *parent_of(LrAccountLookup *lookup, const Account *account);
static LrAccountOwners *owners_of(LrAccountLookup *lookup, const Account *account);

/* Begins the look-ups of a batch, in the current memory context, where what is found stays. */
LrAccountLookup *
lr_account_lookup_begin(void)
{
	LrAccountLookup *lookup = palloc0(sizeof(LrAccountLookup));

	lookup->memory = CurrentMemoryContext;
	lookup->snapshot = RegisterSnapshot(GetLatestSnapshot());
	lookup->found = found_create(CurrentMemoryContext, 64, NULL);
	return lookup;
}

/* Ends them. */
void
lr_account_lookup_end(LrAccountLookup *lookup)
{
	for (int i = 0; i < N_WAYS; i++)
	{
		if (lookup->scans[i])
			index_endscan(lookup->scans[i]);
		if (lookup->indexes[i])
			index_close(lookup->indexes[i], AccessShareLock);
	}
	for (int i = 0; i < N_TABLES; i++)
	{
		if (lookup->rels[i] == NULL)
			continue;
		ExecDropSingleTupleTableSlot(lookup->slots[i]);
		table_close(lookup->rels[i], AccessShareLock);
	}
	UnregisterSnapshot(lookup->snapshot);
}

/* Finds the accounts of one lead, in the current memory context; NULL if there are none. */
LrAccountFound *
lr_account_find(LrAccountLookup *lookup, const LrAccountKeys *keys)
{
	Candidates	candidates = {0};
	LrAccountFound *found;
	const Account *best;

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
		const Account *top = ultimate_parent(lookup, candidates.list[i].account);

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
	found->owners = owners_of(lookup, best);
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
		const Found *found;

		if (keys->domains[d] == NULL)
			continue;
		found = accounts_of(lookup, BY_DOMAIN, FURTHER_BY_DOMAIN, keys->domains[d]);
		candidates->cut |= found->cut;
		for (int i = 0; i < found->n; i++)
			add_candidate(candidates, found->accounts[i], LR_MATCH_DOMAIN, 100, 0,
						  country_agrees(keys, found->accounts[i]) ? LR_AGREES_COUNTRY : 0);
	}
	if (keys->name)
	{
		const Found *found = accounts_of(lookup, BY_NAME, N_WAYS, keys->name);

		candidates->cut |= found->cut;
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
		Way			way;
		Way			further;
		const char *key;
	}			ways[] = {{BY_ROOT, FURTHER_BY_ROOT, keys->root}, {BY_PHONE, N_WAYS, keys->phone}, {BY_POSTCODE, N_WAYS, keys->postcode}};
	uint32		trigrams[LR_TRIGRAMS_MAX];
	int			ntrigrams;

	if (keys->name == NULL)
		return;
	ntrigrams = lr_trigrams(keys->name, strlen(keys->name), trigrams);
	for (int w = 0; w < (int) lengthof(ways); w++)
	{
		const Found *found;

		if (ways[w].key == NULL)
			continue;
		found = accounts_of(lookup, ways[w].way, ways[w].further, ways[w].key);
		candidates->cut |= found->cut;
		for (int i = 0; i < found->n; i++)
		{
			Account    *account = found->accounts[i];
			int			agrees = 0;
			int			similarity;

			if (account->name == NULL)
				continue;
			/* the same code means another place in another country */
			if (keys->postcode && account->postcode && strcmp(keys->postcode, account->postcode) == 0 && !country_differs(keys, account))
				agrees |= LR_AGREES_POSTCODE;
			if (ways[w].way == BY_ROOT || (keys->root && account->root && strcmp(keys->root, account->root) == 0))
				agrees |= LR_AGREES_ROOT;
			if (keys->phone && account->phone && strcmp(keys->phone, account->phone) == 0)
				agrees |= LR_AGREES_PHONE;
			if (agrees == 0)
				continue;
			if (account->ntrigrams < 0)
			{
				uint32		theirs[LR_TRIGRAMS_MAX];
				Size		size;

				account->ntrigrams = lr_trigrams(account->name, strlen(account->name), theirs);
				size = sizeof(uint32) * account->ntrigrams;
				account->trigrams = memcpy(MemoryContextAlloc(lookup->memory, size), theirs, size);
			}
			similarity = lr_trigram_similarity(trigrams, ntrigrams, account->trigrams, account->ntrigrams);
			if (similarity >= keys->threshold)
				add_candidate(candidates, account, LR_MATCH_FUZZY, similarity * 3 / 4, similarity,
							  agrees | (country_agrees(keys, account) ? LR_AGREES_COUNTRY : 0));
		}
	}
}

/* Adds an account, unless it is a candidate already: then only what agrees is added. The ways come in the order of their strength. */
static void
add_candidate(Candidates *candidates, const Account *account, LrAccountMatch match, int confidence, int similarity, int agrees)
{
	for (int i = 0; i < candidates->n; i++)
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
country_agrees(const LrAccountKeys *keys, const Account *account)
{
	return keys->country && account->country[0] && strcmp(keys->country, account->country) == 0;
}

static bool
country_differs(const LrAccountKeys *keys, const Account *account)
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

/* ---- parents and owners ---- */

/* Returns the account at the top, above another one; NULL if that is the top itself, or one of a circle. */
static const Account *
ultimate_parent(LrAccountLookup *lookup, const Account *account)
{
	const Account *above[MAX_PARENTS + 1];
	int			n = 0;

	above[n++] = account;
	for (;;)
	{
		const Account *parent = parent_of(lookup, above[n - 1]);

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

/* Looks up the parent of an account; NULL if it has none, or none that is there. */
static const Account *
parent_of(LrAccountLookup *lookup, const Account *account)
{
	ScanKeyData keys[2];

	if (account->parent_id != 0)
		return account_of_id(lookup, account->parent_id, false);
	if (account->parent_external_id == NULL)
		return NULL;
	open_way(lookup, BY_EXTERNAL_ID);
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(account->source_id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(account->parent_external_id));
	start_scan(lookup, BY_EXTERNAL_ID, keys, 2);
	return index_getnext_slot(lookup->scans[BY_EXTERNAL_ID], ForwardScanDirection, lookup->slots[ACCOUNTS]) ? keep_account(lookup, false) : NULL;
}

static LrAccountOwners *
owners_of(LrAccountLookup *lookup, const Account *account)
{
	LrAccountOwner list[LR_ACCOUNT_OWNERS_MAX];
	LrAccountOwners *owners;
	int			n = 0;
	ScanKeyData key;
	TupleTableSlot *slot;

	if (account->opportunity_owner_id != 0)
		list[n++] = (LrAccountOwner) {.role = LR_OPPORTUNITY_ROLE,.owner_id = account->opportunity_owner_id};
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(account->account_id));
	open_way(lookup, OWNERS);
	start_scan(lookup, OWNERS, &key, 1);
	slot = lookup->slots[OWNED];
	while (n < LR_ACCOUNT_OWNERS_MAX && index_getnext_slot(lookup->scans[OWNERS], ForwardScanDirection, slot))
	{
		bool		isnull;

		list[n].role = column_text(slot, OWNER_ROLE);
		list[n++].owner_id = DatumGetInt32(slot_getattr(slot, OWNER_OWNER_ID, &isnull));
	}
	if (n == 0)
		return NULL;
	owners = palloc(offsetof(LrAccountOwners, owners) + sizeof(LrAccountOwner) * n);
	owners->n = n;
	memcpy(owners->owners, list, sizeof(LrAccountOwner) * n);
	return owners;
}

/* ---- reading ---- */

/* Returns the accounts of a key, which are read when it is first asked for. further: a way by which further ones come, or N_WAYS. */
static const Found *
accounts_of(LrAccountLookup *lookup, Way way, Way further, const char *key)
{
	char	   *name = key_of(way, key);
	MemoryContext saved;
	List	   *accounts = NIL;
	Found	   *found = found_lookup(lookup->found, name);
	bool		cut = false;
	bool		was_there;
	ListCell   *cell;

	if (found)
		return found;
	CHECK_FOR_INTERRUPTS();
	saved = MemoryContextSwitchTo(lookup->memory);
	read_accounts(lookup, way, key, &accounts, &cut);
	if (further != N_WAYS)
	{
		read_further(lookup, further, key, &accounts, &cut);
		list_sort(accounts, compare_account_ids);
	}
	found = found_insert(lookup->found, name, &was_there);
	found->cut = cut;
	found->n = 0;
	found->accounts = palloc(sizeof(Account *) * Max(list_length(accounts), 1));
	foreach(cell, accounts)
	{
		Account    *account = lfirst(cell);

		if (found->n == 0 || found->accounts[found->n - 1]->account_id != account->account_id)
			found->accounts[found->n++] = account;
	}
	list_free(accounts);
	MemoryContextSwitchTo(saved);
	return found;
}

/* Returns what the accounts of a key are kept by. */
static char *
key_of(Way way, const char *key)
{
	Size		length = strlen(key);
	char	   *name = palloc(length + 2);

	name[0] = (char) ('a' + (int) way);
	memcpy(name + 1, key, length + 1);
	return name;
}

/* Reads the accounts that have a key. */
static void
read_accounts(LrAccountLookup *lookup, Way way, const char *key, List **accounts, bool *cut)
{
	ScanKeyData scan_key;

	open_way(lookup, way);
	ScanKeyInit(&scan_key, 1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(key));
	start_scan(lookup, way, &scan_key, 1);
	while (index_getnext_slot(lookup->scans[way], ForwardScanDirection, lookup->slots[ACCOUNTS]))
	{
		if (list_length(*accounts) == MAX_OF_KEY)
		{
			*cut = true;
			break;
		}
		*accounts = lappend(*accounts, keep_account(lookup, way != BY_DOMAIN && way != BY_NAME));
	}
}

/* Reads the accounts that have a key among their further domains. */
static void
read_further(LrAccountLookup *lookup, Way way, const char *key, List **accounts, bool *cut)
{
	ScanKeyData scan_key;
	int			n = 0;

	open_way(lookup, way);
	/* most teams have none */
	if (lookup->no_domains)
		return;
	ScanKeyInit(&scan_key, 1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(key));
	start_scan(lookup, way, &scan_key, 1);
	while (index_getnext_slot(lookup->scans[way], ForwardScanDirection, lookup->slots[DOMAINS]))
	{
		bool		isnull;
		Account    *account;

		if (n++ == MAX_OF_KEY)
		{
			*cut = true;
			break;
		}
		account = account_of_id(lookup, DatumGetInt64(slot_getattr(lookup->slots[DOMAINS], DOMAIN_ACCOUNT_ID, &isnull)),
								way == FURTHER_BY_ROOT);
		if (account)
			*accounts = lappend(*accounts, account);
	}
}

static int
compare_account_ids(const ListCell *a, const ListCell *b)
{
	int64		one = ((const Account *) lfirst(a))->account_id;
	int64		other = ((const Account *) lfirst(b))->account_id;

	return one < other ? -1 : one > other;
}

static Account *
account_of_id(LrAccountLookup *lookup, int64 account_id, bool forms)
{
	ScanKeyData key;

	open_way(lookup, BY_ID);
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(account_id));
	start_scan(lookup, BY_ID, &key, 1);
	return index_getnext_slot(lookup->scans[BY_ID], ForwardScanDirection, lookup->slots[ACCOUNTS]) ? keep_account(lookup, forms) : NULL;
}

/* Keeps what is needed of the account in the slot; with its normal forms, if they are to be compared. */
static Account *
keep_account(LrAccountLookup *lookup, bool forms)
{
	TupleTableSlot *slot = lookup->slots[ACCOUNTS];
	MemoryContext saved = MemoryContextSwitchTo(lookup->memory);
	Account    *account = palloc0(sizeof(Account));
	char	   *type;
	char	   *country;
	bool		isnull;
	Datum		value;

	account->account_id = DatumGetInt64(slot_getattr(slot, ACCOUNT_ID, &isnull));
	account->source_id = DatumGetInt32(slot_getattr(slot, ACCOUNT_SOURCE_ID, &isnull));
	value = slot_getattr(slot, ACCOUNT_PARENT_ID, &isnull);
	account->parent_id = isnull ? 0 : DatumGetInt64(value);
	account->parent_external_id = column_text(slot, ACCOUNT_PARENT_EXTERNAL_ID);
	value = slot_getattr(slot, ACCOUNT_OPPORTUNITY_OWNER_ID, &isnull);
	account->opportunity_owner_id = isnull ? 0 : DatumGetInt32(value);
	type = column_text(slot, ACCOUNT_TYPE);
	account->type = LR_ACCOUNT_PROSPECT;
	for (int i = 0; i < LR_N_ACCOUNT_TYPES; i++)
	{
		if (strcmp(type, lr_account_type_names[i]) == 0)
			account->type = (LrAccountType) i;
	}
	country = column_text(slot, ACCOUNT_COUNTRY);
	for (int i = 0; country && strlen(country) == 2 && i < 2; i++)
		account->country[i] = pg_ascii_toupper((unsigned char) country[i]);
	account->ntrigrams = -1;
	if (forms)
		keep_forms(account, slot);
	MemoryContextSwitchTo(saved);
	return account;
}

static void
keep_forms(Account *account, TupleTableSlot *slot)
{
	account->name = column_text(slot, ACCOUNT_NAME_FORM);
	account->root = column_text(slot, ACCOUNT_ROOT_FORM);
	account->phone = column_text(slot, ACCOUNT_PHONE_FORM);
	account->postcode = column_text(slot, ACCOUNT_POSTCODE_FORM);
}

static char *
column_text(TupleTableSlot *slot, AttrNumber column)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static void
start_scan(LrAccountLookup *lookup, Way way, ScanKeyData *keys, int nkeys)
{
	for (int i = 0; i < nkeys; i++)
		keys[i].sk_collation = lookup->indexes[way]->rd_indcollation[i];
	index_rescan(lookup->scans[way], keys, nkeys, NULL, 0);
}

/* Opens a way's table and index, when it is first gone. The index is found by its columns: REINDEX CONCURRENTLY makes another one. */
static void
open_way(LrAccountLookup *lookup, Way way)
{
	Table		table = indexes[way].table;
	MemoryContext saved;
	List	   *oids;
	ListCell   *cell;

	if (lookup->scans[way])
		return;
	saved = MemoryContextSwitchTo(lookup->memory);
	if (lookup->rels[table] == NULL)
	{
		lookup->rels[table] = table_open(lr_catalog()->tables[tables[table]], AccessShareLock);
		lookup->slots[table] = table_slot_create(lookup->rels[table], NULL);
		if (table == DOMAINS)
			lookup->no_domains = RelationGetNumberOfBlocks(lookup->rels[table]) == 0;
	}
	oids = RelationGetIndexList(lookup->rels[table]);
	foreach(cell, oids)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);
		Form_pg_index form = index->rd_index;

		if (form->indisvalid && index->rd_rel->relam == BTREE_AM_OID && RelationGetIndexPredicate(index) == NIL &&
			form->indkey.values[0] == indexes[way].first &&
			(indexes[way].second == 0 || (form->indnkeyatts > 1 && form->indkey.values[1] == indexes[way].second)))
		{
			lookup->indexes[way] = index;
			break;
		}
		index_close(index, AccessShareLock);
	}
	list_free(oids);
	if (lookup->indexes[way] == NULL)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("an index of table \"leadroute.%s\" is missing", RelationGetRelationName(lookup->rels[table])),
				errhint("Make the index anew, as the extension's script does, or install the extension anew."));
	lookup->scans[way] = lr_index_beginscan(lookup->rels[table], lookup->indexes[way], lookup->snapshot, way == BY_EXTERNAL_ID ? 2 : 1);
	MemoryContextSwitchTo(saved);
}
