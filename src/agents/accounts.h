/*
 * accounts.h: matching leads to the team's accounts: normal forms, look-ups, what was found.
 */
#ifndef LR_ACCOUNTS_H
#define LR_ACCOUNTS_H

#include "leadroute.h"

/* What of a name counts when names are compared by trigrams, in bytes. */
#define LR_TRIGRAM_LENGTH 100
#define LR_TRIGRAMS_MAX (LR_TRIGRAM_LENGTH + 1)

/* Accounts that the record lists; of further ones it says how many. */
#define LR_CANDIDATES_LISTED 20
#define LR_ACCOUNT_OWNERS_MAX 50

/* company_name.c: these want UTF-8 */
extern bool lr_company_normalise(const char *name, int length, char **normal, int *normal_length);
extern int	lr_trigrams(const char *name, int length, uint32 *trigrams);
extern int	lr_trigram_similarity(const uint32 *a, int na, const uint32 *b, int nb);

/* domain_root.c: these want normal forms */
extern bool lr_domain_is_host(const char *domain, int length);
extern bool lr_domain_root(const char *domain, int length, const char **root, int *root_length);

/* account_forms.c */
extern char *lr_company_form(const char *name, int length);
extern char *lr_postcode_form(const char *postcode, int length);
extern char *lr_own_domain_form(const char *domain, int length);
extern char *lr_domain_root_form(const char *domain);

/* Why an account is a candidate, the strongest first; in the order of lr_account_match_names[]. */
typedef enum LrAccountMatch
{
	LR_MATCH_DOMAIN,
	LR_MATCH_NAME,
	LR_MATCH_FUZZY,
	LR_MATCH_PARENT,
	LR_N_MATCHES
} LrAccountMatch;

/* In the order in which they are preferred, and of lr_account_type_names[]. */
typedef enum LrAccountType
{
	LR_ACCOUNT_CUSTOMER,
	LR_ACCOUNT_PARTNER,
	LR_ACCOUNT_PROSPECT,
	LR_ACCOUNT_COMPETITOR,
	LR_N_ACCOUNT_TYPES
} LrAccountType;

extern const char *const lr_account_match_names[LR_N_MATCHES];
extern const char *const lr_account_type_names[LR_N_ACCOUNT_TYPES];

/* What of a lead agrees with what of an account, beside what made it a candidate; bits. */
#define LR_AGREES_ROOT		1
#define LR_AGREES_PHONE		2
#define LR_AGREES_POSTCODE	4
#define LR_AGREES_COUNTRY	8
#define LR_N_AGREEMENTS		4

typedef struct LrAccountCandidate
{
	int64		account_id;
	LrAccountMatch match;
	int			confidence;		/* hundredths */
	int			similarity;		/* of the names, in hundredths; of a fuzzy match */
	int			agrees;
	LrAccountType type;
	bool		opportunity;	/* an open one */
	int64		ultimate_parent_id; /* 0: it has none */
} LrAccountCandidate;

/* Who works an account, by role. */
typedef struct LrAccountOwner
{
	char	   *role;
	int			owner_id;
} LrAccountOwner;

typedef struct LrAccountOwners
{
	int			n;
	LrAccountOwner owners[FLEXIBLE_ARRAY_MEMBER];
} LrAccountOwners;

/* The role of the owner of the open opportunity. */
#define LR_OPPORTUNITY_ROLE "opportunity"

/* What is looked for, of one lead, all in normal form; NULL for what is not known. */
typedef struct LrAccountKeys
{
	const char *domains[2];		/* its own, that of its business address */
	const char *name;
	const char *root;
	const char *phone;
	const char *postcode;
	const char *country;
	int			threshold;		/* of the similarity, in hundredths */
	bool		parents;		/* the ultimate parent is what is wanted */
} LrAccountKeys;

/* What was found. */
typedef struct LrAccountFound
{
	int			n;				/* candidates that are listed, the best first */
	LrAccountCandidate *candidates;
	int			more;			/* further ones */
	bool		cut;			/* some key has more accounts than are looked at */
	bool		ambiguous;		/* nothing but its id sets the best one apart */
	LrAccountCandidate chosen;
	LrAccountOwners *owners;	/* of the chosen one; NULL: nobody */
} LrAccountFound;

/* account_lookup.c */
typedef struct LrAccountLookup LrAccountLookup;

extern LrAccountLookup *lr_account_lookup_begin(void);
extern LrAccountFound *lr_account_find(LrAccountLookup *lookup, const LrAccountKeys *keys);
extern void lr_account_lookup_end(LrAccountLookup *lookup);

/* match_account.c */
struct LrRun;
extern const LrAccountOwner *lr_account_owner_of_role(const LrAccountOwners *owners, const char *role, int length);

#endif
