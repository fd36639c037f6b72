/*
 * persons.c: whose lead it is: a lead of a person who is known already goes to the same owner.
 *
 * A person is known by keyed digests of the normal forms of e-mail address and phone number that validateContact found, never
 * by value. An address identifies a person, unless it is a role's. A number identifies the person whose address came with it;
 * if it comes with the addresses of two people, it is a shared one, and identifies nobody from then on. Whom a number alone
 * made known is whoever brings an address with it later.
 *
 * A batch looks up the keys of all its leads at once, and adds those that are new in the order of their digests, so that two
 * batches wait for one another in one direction only. Whoever adds a key second waits for the first's commit, and then looks
 * again: two first leads of one person go to one owner. Keys that are found are locked against being erased meanwhile. A
 * person who is known, but has nobody, is locked as well, since the next decision says who it is.
 *
 * Only batches that act add anything. What is evaluated is not asked for persons at all: the answer would tell who is known. Leads whose
 * rerouting is shown are no such guesses.
 */
#include "assignment/persons.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

static bool collect_keys(LrPersonSearch *search);
static LrPersonKey *add_key(LrPersonSearch *search, bool email, const char *value, int length);
static void look_up_keys(LrPersonSearch *search);
static void forget_answers(LrPersonSearch *search);
static void adopt_older(LrPersonSearch *search);
static void find_persons(LrPersonSearch *search);
static LrPerson *make_person(LrPersonSearch *search);
static LrPerson *true_person(LrPersonKey *key);
static void tie_phone(LrPersonSearch *search, LrPersonKey *phone, LrPerson *person);
static bool add_new_keys(LrPersonSearch *search);
static void number_persons(LrPersonSearch *search);
static void write_shares(LrPersonSearch *search);
static void write_joins(LrPersonSearch *search);
static HTAB *make_hash(const char *name, Size key_size, Size entry_size);
static Datum digest_datum(const unsigned char *digest);
static int	compare_digests(const void *a, const void *b);

/* Finds, for all leads of a batch, who has an earlier lead of the same person; notes the persons of those that are new. */
void
lr_persons_find(LrBatch *batch)
{
	LrPersonSearch		search = {.batch = batch,.acts = lr_batch_acts(batch)};

	if ((batch->evaluating && batch->cause != 'b') || batch->n == 0)
		return;
	search.ndigest_keys = lr_digest_key_ids(&search.digest_keys);
	if (!collect_keys(&search))
		return;
	do
	{
		CHECK_FOR_INTERRUPTS();
		forget_answers(&search);
		look_up_keys(&search);
		find_persons(&search);
	} while (search.acts && !add_new_keys(&search));
	if (search.acts)
	{
		write_shares(&search);
		write_joins(&search);
	}
	lr_person_leads_find(&search);
	if (search.acts)
		lr_person_leads_note(&search);
	hash_destroy(search.keys);
	hash_destroy(search.persons);
}

/* ---- keys ---- */

/* Collects the keys of all leads that have any; returns whether there are some. */
static bool
collect_keys(LrPersonSearch *search)
{
	LrBatch    *batch = search->batch;

	for (int i = 0; i < batch->n; i++)
	{
		LrRun	   *run = &batch->runs[i];
		bool		email = !run->ended && run->mail.status == LR_CONTACT_OK && !run->mail.role && run->mail.kind != LR_MAIL_DISPOSABLE;
		bool		phone = !run->ended && run->phone.status == LR_CONTACT_OK;

		run->same_person_as = -1;
		/* a lead that is routed again may have lost what identified somebody */
		if (!email && !phone && (search->runs == NULL && batch->cause == 'i'))
			continue;
		if (search->runs == NULL)
		{
			search->runs = palloc0(sizeof(LrRunKeys) * batch->n);
			search->keys = make_hash("leadroute person keys", LR_DIGEST_LENGTH, sizeof(LrPersonKey));
			search->persons = make_hash("leadroute persons", sizeof(int64), sizeof(LrPerson));
		}
		if (email)
			search->runs[i].email = add_key(search, true, run->mail.normal, run->mail.normal_len);
		if (phone)
			search->runs[i].phone = add_key(search, false, run->phone.normal, run->phone.normal_len);
	}
	return search->runs != NULL;
}

/* Adds the key that a normal form makes, under the digest key in use, and under older ones. */
static LrPersonKey *
add_key(LrPersonSearch *search, bool email, const char *value, int length)
{
	/* prefixed: these digests are no others of the record */
	char	   *data = palloc(length + 6);
	LrPersonKey *newest = NULL;
	LrPersonKey *last = NULL;

	memcpy(data, email ? "email:" : "phone:", 6);
	memcpy(data + 6, value, length);
	for (int i = 0; i < search->ndigest_keys; i++)
	{
		unsigned char digest[LR_DIGEST_LENGTH];
		LrPersonKey *key;
		bool		found;

		lr_digest(search->digest_keys[i], data, length + 6, digest);
		key = hash_search(search->keys, digest, HASH_ENTER, &found);
		if (!found)
		{
			memset((char *) key + LR_DIGEST_LENGTH, 0, sizeof(LrPersonKey) - LR_DIGEST_LENGTH);
			key->email = email;
		}
		key->current |= i == 0;
		if (newest == NULL)
			newest = key;
		else
			last->older = key;
		last = key;
	}
	pfree(data);
	return newest;
}

static void
forget_answers(LrPersonSearch *search)
{
	HASH_SEQ_STATUS status;
	LrPersonKey *key;

	hash_seq_init(&status, search->keys);
	while ((key = hash_seq_search(&status)) != NULL)
	{
		key->stored = key->shared = false;
		key->person = NULL;
	}
	hash_destroy(search->persons);
	search->persons = make_hash("leadroute persons", sizeof(int64), sizeof(LrPerson));
	search->made = search->shares = search->joins = NIL;
}

/* Finds the keys that are known. Who acts locks them: nobody erases a person meanwhile. */
static void
look_up_keys(LrPersonSearch *search)
{
	int			n = (int) hash_get_num_entries(search->keys);
	Datum	   *digests = palloc(sizeof(Datum) * Max(n, 1));
	HASH_SEQ_STATUS status;
	LrPersonKey *key;
	LrIdentity	identity;
	Oid			types[] = {BYTEAARRAYOID};
	Datum		values[1];
	uint64		nfound;
	int			i = 0;

	if (n == 0)
		return;
	hash_seq_init(&status, search->keys);
	while ((key = hash_seq_search(&status)) != NULL)
		digests[i++] = digest_datum(key->digest);
	values[0] = PointerGetDatum(construct_array(digests, n, BYTEAOID, -1, false, TYPALIGN_INT));
	/* a scalar subquery: as EXISTS the planner may hash all addresses that there are, for each batch */
	lr_sql_begin(&identity);
	nfound = search->acts
		? lr_sql_kept(LR_PLAN_PERSON_KEYS_LOCKED,
					  "SELECT k.digest, k.person_id, k.shared, (SELECT true FROM leadroute.person_keys e WHERE e.person_id = k.person_id AND e.kind = 'email' LIMIT 1)"
					  " FROM leadroute.person_keys k WHERE k.digest = ANY ($1) ORDER BY k.digest FOR KEY SHARE OF k", 1, types, values, NULL)
		: lr_sql_kept(LR_PLAN_PERSON_KEYS,
					  "SELECT k.digest, k.person_id, k.shared, (SELECT true FROM leadroute.person_keys e WHERE e.person_id = k.person_id AND e.kind = 'email' LIMIT 1)"
					  " FROM leadroute.person_keys k WHERE k.digest = ANY ($1)", 1, types, values, NULL);
	for (uint64 row = 0; row < nfound; row++)
	{
		bool		isnull;
		bytea	   *digest = DatumGetByteaPP(lr_sql_datum(row, 1, &isnull));
		int64		person_id = lr_sql_int64(row, 2, 0);
		LrPerson   *person;
		bool		found;

		key = hash_search(search->keys, VARDATA_ANY(digest), HASH_FIND, NULL);
		Assert(key);
		key->stored = true;
		key->shared = DatumGetBool(lr_sql_datum(row, 3, &isnull));
		person = hash_search(search->persons, &person_id, HASH_ENTER, &found);
		if (!found)
			*person = (LrPerson) {.person_id = person_id,.stored = true,.last_run = -1};
		(void) lr_sql_datum(row, 4, &isnull);
		person->has_email = !isnull;
		key->person = person;
	}
	lr_sql_end(&identity);
	adopt_older(search);
}

/* Takes what is known under an older digest key over to the one in use. */
static void
adopt_older(LrPersonSearch *search)
{
	HASH_SEQ_STATUS status;
	LrPersonKey *key;

	if (search->ndigest_keys < 2)
		return;
	hash_seq_init(&status, search->keys);
	while ((key = hash_seq_search(&status)) != NULL)
	{
		for (LrPersonKey *older = key->older; older && !key->stored && !key->person; older = older->older)
		{
			key->person = older->person;
			key->shared = older->shared;
		}
	}
}

/* ---- persons ---- */

/* Says of each lead whose it is, in the order of the batch. */
static void
find_persons(LrPersonSearch *search)
{
	for (int i = 0; i < search->batch->n; i++)
	{
		LrPersonKey *email = search->runs[i].email;
		LrPersonKey *phone = search->runs[i].phone;
		LrPerson   *by_email = true_person(email);
		LrPerson   *by_phone = true_person(phone);
		LrPerson   *person = by_email;

		if (email == NULL)
		{
			person = by_phone;
			if (person == NULL && phone && !phone->shared)
				phone->person = person = make_person(search);
		}
		else
		{
			if (person == NULL && by_phone && !by_phone->has_email)
				person = by_phone;
			if (person == NULL)
				person = make_person(search);
			email->person = person;
			person->has_email = true;
			if (phone)
				tie_phone(search, phone, person);
		}
		search->runs[i].person = person;
	}
}

static LrPerson *
make_person(LrPersonSearch *search)
{
	LrPerson   *person = palloc0(sizeof(LrPerson));

	person->last_run = -1;
	search->made = lappend(search->made, person);
	return person;
}

/* Returns whom a key identifies, or NULL. */
static LrPerson *
true_person(LrPersonKey *key)
{
	if (key == NULL || key->shared)
		return NULL;
	while (key->person && key->person->joined)
		key->person = key->person->joined;
	return key->person;
}

/* Settles whose a number is that came with an address of the person's. */
static void
tie_phone(LrPersonSearch *search, LrPersonKey *phone, LrPerson *person)
{
	LrPerson   *other = true_person(phone);

	if (phone->shared || other == person)
		return;
	if (other && other->has_email)
	{
		phone->shared = true;
		if (phone->stored)
			search->shares = lappend(search->shares, phone);
		return;
	}
	if (other)
	{
		/* whom the number alone made known */
		other->joined = person;
		if (other->stored)
			search->joins = lappend(search->joins, other);
	}
	phone->person = person;
}

/* Writes the keys that are new; returns false if another session was faster with one: then all has to be looked up again. */
static bool
add_new_keys(LrPersonSearch *search)
{
	LrPersonKey **news = palloc(sizeof(LrPersonKey *) * Max(hash_get_num_entries(search->keys), 1));
	int			n = 0;
	Datum	   *columns[3];
	int64	   *persons;
	HASH_SEQ_STATUS status;
	LrPersonKey *key;
	LrIdentity	identity;
	Oid			types[] = {BYTEAARRAYOID, BOOLARRAYOID, BOOLARRAYOID, INT8ARRAYOID};
	Datum		values[4];
	uint64		added;

	number_persons(search);
	hash_seq_init(&status, search->keys);
	while ((key = hash_seq_search(&status)) != NULL)
	{
		if (key->current && !key->stored && key->person)
			news[n++] = key;
	}
	if (n == 0)
		return true;
	qsort(news, n, sizeof(LrPersonKey *), compare_digests);
	for (int i = 0; i < (int) lengthof(columns); i++)
		columns[i] = palloc(sizeof(Datum) * n);
	persons = palloc(sizeof(int64) * n);
	for (int i = 0; i < n; i++)
	{
		LrPerson   *person = news[i]->person;

		while (person->joined)
			person = person->joined;
		columns[0][i] = digest_datum(news[i]->digest);
		columns[1][i] = BoolGetDatum(news[i]->email);
		columns[2][i] = BoolGetDatum(news[i]->shared);
		persons[i] = person->person_id;
	}
	values[0] = PointerGetDatum(construct_array(columns[0], n, BYTEAOID, -1, false, TYPALIGN_INT));
	values[1] = PointerGetDatum(construct_array(columns[1], n, BOOLOID, 1, true, TYPALIGN_CHAR));
	values[2] = PointerGetDatum(construct_array(columns[2], n, BOOLOID, 1, true, TYPALIGN_CHAR));
	values[3] = lr_int8_array(persons, n);
	lr_sql_begin(&identity);
	added = lr_sql_kept(LR_PLAN_ADD_PERSON_KEYS,
						"INSERT INTO leadroute.person_keys (digest, kind, shared, person_id)"
						" SELECT u.digest, CASE WHEN u.email THEN 'email' ELSE 'phone' END, u.shared, u.person_id"
						" FROM unnest($1, $2, $3, $4) AS u (digest, email, shared, person_id) ORDER BY u.digest ON CONFLICT (digest) DO NOTHING", 4, types, values, NULL);
	lr_sql_end(&identity);
	return added == (uint64) n;
}

/* Gives the new persons their numbers. */
static void
number_persons(LrPersonSearch *search)
{
	ListCell   *cell;
	int64		next;

	if (search->made == NIL)
		return;
	next = lr_numbers_take(get_relname_relid("person_ids", lr_catalog()->schema), list_length(search->made));
	foreach(cell, search->made)
		((LrPerson *) lfirst(cell))->person_id = next++;
}

static void
write_shares(LrPersonSearch *search)
{
	Datum	   *digests = palloc(sizeof(Datum) * Max(list_length(search->shares), 1));
	int			n = 0;
	LrIdentity	identity;
	Oid			types[] = {BYTEAARRAYOID};
	Datum		values[1];
	ListCell   *cell;

	if (search->shares == NIL)
		return;
	foreach(cell, search->shares)
		digests[n++] = digest_datum(((LrPersonKey *) lfirst(cell))->digest);
	values[0] = PointerGetDatum(construct_array(digests, n, BYTEAOID, -1, false, TYPALIGN_INT));
	lr_sql_begin(&identity);
	lr_sql("WITH locked AS MATERIALIZED (SELECT digest FROM leadroute.person_keys WHERE digest = ANY ($1) ORDER BY digest FOR NO KEY UPDATE)"
		   " UPDATE leadroute.person_keys k SET shared = true FROM locked l WHERE k.digest = l.digest", false, 1, types, values, NULL);
	lr_sql_end(&identity);
}

static void
write_joins(LrPersonSearch *search)
{
	int64	   *olds = palloc(sizeof(int64) * Max(list_length(search->joins), 1));
	int64	   *news = palloc(sizeof(int64) * Max(list_length(search->joins), 1));
	int			n = 0;
	LrIdentity	identity;
	Oid			types[] = {INT8ARRAYOID, INT8ARRAYOID};
	Datum		values[2];
	ListCell   *cell;

	if (search->joins == NIL)
		return;
	foreach(cell, search->joins)
	{
		LrPerson   *person = lfirst(cell);
		LrPerson   *whole = person;

		while (whole->joined)
			whole = whole->joined;
		olds[n] = person->person_id;
		news[n++] = whole->person_id;
	}
	values[0] = lr_int8_array(olds, n);
	values[1] = lr_int8_array(news, n);
	lr_sql_begin(&identity);
	lr_sql("SELECT leadroute.join_persons($1, $2)", false, 2, types, values, NULL);
	lr_sql_end(&identity);
}

/* ---- small things ---- */

static HTAB *
make_hash(const char *name, Size key_size, Size entry_size)
{
	HASHCTL		control = {.keysize = key_size,.entrysize = entry_size,.hcxt = CurrentMemoryContext};

	return hash_create(name, 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static Datum
digest_datum(const unsigned char *digest)
{
	bytea	   *value = palloc(VARHDRSZ + LR_DIGEST_LENGTH);

	SET_VARSIZE(value, VARHDRSZ + LR_DIGEST_LENGTH);
	memcpy(VARDATA(value), digest, LR_DIGEST_LENGTH);
	return PointerGetDatum(value);
}

static int
compare_digests(const void *a, const void *b)
{
	return memcmp((*(LrPersonKey *const *) a)->digest, (*(LrPersonKey *const *) b)->digest, LR_DIGEST_LENGTH);
}
