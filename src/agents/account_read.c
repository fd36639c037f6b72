/*
 * account_read.c: reading accounts by their keys, for a batch of leads.
 *
 * leadroute.accounts has the normal forms as columns, each with an index of its own: domain, name, and for fuzzy matches the
 * domain's root, the phone number and the postcode. A key is looked up once in a batch; what comes of it is kept, with what is
 * needed of each account. Accounts of one key come in the order of their ids, and of a key that very many have, such as a
 * postcode of a city, the first 1,000 are looked at.
 */
#include "agents/account_read.h"

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
}			indexes[LR_N_ACCOUNT_WAYS] = {
	[LR_BY_ID] = {ACCOUNTS, ACCOUNT_ID, 0},
	[LR_BY_EXTERNAL_ID] = {ACCOUNTS, ACCOUNT_SOURCE_ID, ACCOUNT_EXTERNAL_ID},
	[LR_BY_DOMAIN] = {ACCOUNTS, ACCOUNT_DOMAIN_FORM, ACCOUNT_ID},
	[LR_BY_NAME] = {ACCOUNTS, ACCOUNT_NAME_FORM, ACCOUNT_ID},
	[LR_BY_ROOT] = {ACCOUNTS, ACCOUNT_ROOT_FORM, ACCOUNT_ID},
	[LR_BY_PHONE] = {ACCOUNTS, ACCOUNT_PHONE_FORM, ACCOUNT_ID},
	[LR_BY_POSTCODE] = {ACCOUNTS, ACCOUNT_POSTCODE_FORM, ACCOUNT_ID},
	[LR_FURTHER_BY_DOMAIN] = {DOMAINS, DOMAIN_DOMAIN_FORM, DOMAIN_ACCOUNT_ID},
	[LR_FURTHER_BY_ROOT] = {DOMAINS, DOMAIN_ROOT_FORM, DOMAIN_ACCOUNT_ID},
	[LR_OWNERS_OF] = {OWNED, OWNER_ACCOUNT_ID, OWNER_ROLE},
};

#define SH_PREFIX found
#define SH_ELEMENT_TYPE LrAccountsOfKey
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
	Relation	indexes[LR_N_ACCOUNT_WAYS];
	IndexScanDesc scans[LR_N_ACCOUNT_WAYS];
	bool		no_domains;		/* there are no further ones */
	found_hash *found;
};

static void read_accounts(LrAccountLookup *lookup, LrAccountWay way, const char *key, List **accounts, bool *cut);
static void read_further(LrAccountLookup *lookup, LrAccountWay way, const char *key, List **accounts, bool *cut);
static int	compare_account_ids(const ListCell *a, const ListCell *b);
static LrAccount *account_of_id(LrAccountLookup *lookup, int64 account_id, bool forms);
static LrAccount *keep_account(LrAccountLookup *lookup, bool forms);
static void keep_forms(LrAccount *account, TupleTableSlot *slot);
static char *column_text(TupleTableSlot *slot, AttrNumber column);
static char *key_of(LrAccountWay way, const char *key);
static void start_scan(LrAccountLookup *lookup, LrAccountWay way, ScanKeyData *keys, int nkeys);
static void open_way(LrAccountLookup *lookup, LrAccountWay way);

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
	for (int i = 0; i < LR_N_ACCOUNT_WAYS; i++)
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

/* Returns the accounts of a key, which are read when it is first asked for. */
const LrAccountsOfKey *
lr_accounts_of(LrAccountLookup *lookup, LrAccountWay way, const char *key)
{
	LrAccountWay further = way == LR_BY_DOMAIN ? LR_FURTHER_BY_DOMAIN : way == LR_BY_ROOT ? LR_FURTHER_BY_ROOT : LR_N_ACCOUNT_WAYS;
	char	   *name = key_of(way, key);
	MemoryContext saved;
	List	   *accounts = NIL;
	LrAccountsOfKey *found = found_lookup(lookup->found, name);
	bool		cut = false;
	bool		was_there;
	ListCell   *cell;

	if (found)
		return found;
	CHECK_FOR_INTERRUPTS();
	saved = MemoryContextSwitchTo(lookup->memory);
	read_accounts(lookup, way, key, &accounts, &cut);
	if (further != LR_N_ACCOUNT_WAYS)
	{
		read_further(lookup, further, key, &accounts, &cut);
		list_sort(accounts, compare_account_ids);
	}
	found = found_insert(lookup->found, name, &was_there);
	found->cut = cut;
	found->n = 0;
	found->accounts = palloc(sizeof(LrAccount *) * Max(list_length(accounts), 1));
	foreach(cell, accounts)
	{
		LrAccount  *account = lfirst(cell);

		if (found->n == 0 || found->accounts[found->n - 1]->account_id != account->account_id)
			found->accounts[found->n++] = account;
	}
	list_free(accounts);
	MemoryContextSwitchTo(saved);
	return found;
}

/* Looks up the parent of an account; NULL if it has none, or none that is there. */
LrAccount *
lr_account_parent(LrAccountLookup *lookup, const LrAccount *account)
{
	ScanKeyData keys[2];

	if (account->parent_id != 0)
		return account_of_id(lookup, account->parent_id, false);
	if (account->parent_external_id == NULL)
		return NULL;
	open_way(lookup, LR_BY_EXTERNAL_ID);
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(account->source_id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(account->parent_external_id));
	start_scan(lookup, LR_BY_EXTERNAL_ID, keys, 2);
	return index_getnext_slot(lookup->scans[LR_BY_EXTERNAL_ID], ForwardScanDirection, lookup->slots[ACCOUNTS]) ? keep_account(lookup, false) : NULL;
}

/* Looks up who works an account; NULL: nobody. */
LrAccountOwners *
lr_account_owners(LrAccountLookup *lookup, const LrAccount *account)
{
	LrAccountOwner list[LR_ACCOUNT_OWNERS_MAX];
	LrAccountOwners *owners;
	int			n = 0;
	ScanKeyData key;
	TupleTableSlot *slot;

	if (account->opportunity_owner_id != 0)
		list[n++] = (LrAccountOwner) {.role = LR_OPPORTUNITY_ROLE,.owner_id = account->opportunity_owner_id};
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(account->account_id));
	open_way(lookup, LR_OWNERS_OF);
	start_scan(lookup, LR_OWNERS_OF, &key, 1);
	slot = lookup->slots[OWNED];
	while (n < LR_ACCOUNT_OWNERS_MAX && index_getnext_slot(lookup->scans[LR_OWNERS_OF], ForwardScanDirection, slot))
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

/* Makes the trigrams of an account's name, unless they are made. */
void
lr_account_make_trigrams(LrAccountLookup *lookup, LrAccount *account)
{
	uint32		trigrams[LR_TRIGRAMS_MAX];

	if (account->ntrigrams >= 0)
		return;
	account->ntrigrams = lr_trigrams(account->name, strlen(account->name), trigrams);
	account->trigrams = MemoryContextAlloc(lookup->memory, sizeof(uint32) * account->ntrigrams);
	memcpy(account->trigrams, trigrams, sizeof(uint32) * account->ntrigrams);
}

/* Returns what the accounts of a key are kept by. */
static char *
key_of(LrAccountWay way, const char *key)
{
	Size		length = strlen(key);
	char	   *name = palloc(length + 2);

	name[0] = (char) ('a' + (int) way);
	memcpy(name + 1, key, length + 1);
	return name;
}

/* Reads the accounts that have a key. */
static void
read_accounts(LrAccountLookup *lookup, LrAccountWay way, const char *key, List **accounts, bool *cut)
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
		*accounts = lappend(*accounts, keep_account(lookup, way != LR_BY_DOMAIN && way != LR_BY_NAME));
	}
}

/* Reads the accounts that have a key among their further domains. */
static void
read_further(LrAccountLookup *lookup, LrAccountWay way, const char *key, List **accounts, bool *cut)
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
		LrAccount  *account;

		if (n++ == MAX_OF_KEY)
		{
			*cut = true;
			break;
		}
		account = account_of_id(lookup, DatumGetInt64(slot_getattr(lookup->slots[DOMAINS], DOMAIN_ACCOUNT_ID, &isnull)),
								way == LR_FURTHER_BY_ROOT);
		if (account)
			*accounts = lappend(*accounts, account);
	}
}

static int
compare_account_ids(const ListCell *a, const ListCell *b)
{
	int64		one = ((const LrAccount *) lfirst(a))->account_id;
	int64		other = ((const LrAccount *) lfirst(b))->account_id;

	return one < other ? -1 : one > other;
}

static LrAccount *
account_of_id(LrAccountLookup *lookup, int64 account_id, bool forms)
{
	ScanKeyData key;

	open_way(lookup, LR_BY_ID);
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(account_id));
	start_scan(lookup, LR_BY_ID, &key, 1);
	return index_getnext_slot(lookup->scans[LR_BY_ID], ForwardScanDirection, lookup->slots[ACCOUNTS]) ? keep_account(lookup, forms) : NULL;
}

/* Keeps what is needed of the account in the slot; with its normal forms, if they are to be compared. */
static LrAccount *
keep_account(LrAccountLookup *lookup, bool forms)
{
	TupleTableSlot *slot = lookup->slots[ACCOUNTS];
	MemoryContext saved = MemoryContextSwitchTo(lookup->memory);
	LrAccount  *account = palloc0(sizeof(LrAccount));
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
keep_forms(LrAccount *account, TupleTableSlot *slot)
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
start_scan(LrAccountLookup *lookup, LrAccountWay way, ScanKeyData *keys, int nkeys)
{
	for (int i = 0; i < nkeys; i++)
		keys[i].sk_collation = lookup->indexes[way]->rd_indcollation[i];
	index_rescan(lookup->scans[way], keys, nkeys, NULL, 0);
}

/* Opens a way's table and index, when it is first gone. The index is found by its columns: REINDEX CONCURRENTLY makes another one. */
static void
open_way(LrAccountLookup *lookup, LrAccountWay way)
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
	lookup->scans[way] = lr_index_beginscan(lookup->rels[table], lookup->indexes[way], lookup->snapshot, way == LR_BY_EXTERNAL_ID ? 2 : 1);
	MemoryContextSwitchTo(saved);
}
