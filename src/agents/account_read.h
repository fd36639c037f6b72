/*
 * account_read.h: accounts as matching reads them. Used by account_lookup.c only.
 */
#ifndef LR_ACCOUNT_READ_H
#define LR_ACCOUNT_READ_H

#include "agents/accounts.h"

/* What is kept of an account. */
typedef struct LrAccount
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
} LrAccount;

/* The accounts of a key. */
typedef struct LrAccountsOfKey
{
	char	   *key;			/* hash key: a letter for the way, and the key */
	uint32		hash;
	uint32		status;
	int			n;
	bool		cut;
	LrAccount **accounts;
} LrAccountsOfKey;

/* How accounts are found, and by which table's index. */
typedef enum LrAccountWay
{
	LR_BY_ID,
	LR_BY_EXTERNAL_ID,
	LR_BY_DOMAIN,
	LR_BY_NAME,
	LR_BY_ROOT,
	LR_BY_PHONE,
	LR_BY_POSTCODE,
	LR_FURTHER_BY_DOMAIN,
	LR_FURTHER_BY_ROOT,
	LR_OWNERS_OF,
	LR_N_ACCOUNT_WAYS
} LrAccountWay;

extern const LrAccountsOfKey *lr_accounts_of(LrAccountLookup *lookup, LrAccountWay way, const char *key);
extern void lr_account_make_trigrams(LrAccountLookup *lookup, LrAccount *account);
extern LrAccount *lr_account_parent(LrAccountLookup *lookup, const LrAccount *account);
extern LrAccountOwners *lr_account_owners(LrAccountLookup *lookup, const LrAccount *account);

#endif
