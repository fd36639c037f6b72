/*
 * persons.h: what a batch finds out about persons, between persons.c (who they are) and person_leads.c (who has their leads).
 */
#ifndef LR_PERSONS_H
#define LR_PERSONS_H

#include "assignment/assignment.h"

#include "pipeline/pipeline.h"
#include "provenance/provenance.h"
#include "utils/hsearch.h"

typedef struct LrPerson
{
	int64		person_id;		/* hash key of those that are stored; 0 as long as it has none */
	bool		stored;
	bool		has_email;
	bool		has_owner;		/* somebody has a lead of this person */
	struct LrPerson *joined;	/* who it turned out to be, or NULL */
	int			last_run;		/* of the batch, or -1 */
} LrPerson;

typedef struct LrPersonKey
{
	unsigned char digest[LR_DIGEST_LENGTH]; /* hash key */
	bool		email;
	bool		current;		/* under the digest key in use */
	bool		stored;
	bool		shared;			/* it identifies nobody */
	LrPerson   *person;		/* whose it is, or whose it first was; NULL: unknown */
	struct LrPersonKey *older;	/* the same under an older digest key, or NULL */
} LrPersonKey;

typedef struct LrRunKeys
{
	LrPersonKey *email;
	LrPersonKey *phone;
	LrPerson   *person;
} LrRunKeys;

typedef struct LrPersonSearch
{
	LrBatch    *batch;
	bool		acts;
	int			ndigest_keys;
	const int  *digest_keys;	/* the one in use first */
	HTAB	   *keys;
	HTAB	   *persons;		/* those that are stored */
	LrRunKeys  *runs;
	List	   *made;			/* persons that are new */
	List	   *shares;			/* stored keys that turned out to be shared */
	List	   *joins;			/* stored persons that turned out to be another */
} LrPersonSearch;

extern void lr_person_leads_find(LrPersonSearch *search);
extern void lr_person_leads_note(LrPersonSearch *search);

#endif
