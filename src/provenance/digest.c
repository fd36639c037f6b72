/*
 * digest.c: keyed digests, which stand in the record for what must not stand there itself.
 *
 * HMAC-SHA-256 (RFC 2104, FIPS 198-1), its first 128 bits. The key is a secret of the database, made when it is first
 * needed; without it a digest says nothing, not even by trying out likely values.
 *
 * A lead has half a dozen of them, of some bytes each. So the two states of SHA-256 behind the padded key, with which every
 * HMAC begins, are computed once a key, and a digest is two blocks. OpenSSL's EVP_MAC does the same, but allocates, copies and
 * frees several contexts for each message: some 1,500 instructions, for as little as a name.
 */
/* SHA256_Update() and its kin are deprecated in favour of EVP, for that which they do not do: choose the algorithm. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "provenance/provenance.h"

#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#define KEY_LENGTH 32

typedef struct DigestKey
{
	int			key_id;
	SHA256_CTX	inner;			/* behind the key padded for the inner hash */
	SHA256_CTX	outer;
} DigestKey;

static DigestKey keys[8];
static int	nkeys = 0;
static int	current_key = 0;
static uint64 keys_generation;

static void forget_stale_keys(void);
static DigestKey *find_key(int key_id);
static int	make_key(void);
static DigestKey *remember_key(int key_id, Datum secret);
static void begin_hash(SHA256_CTX *context, const bytea *secret, unsigned char pad);
pg_noreturn static void crypto_failed(const char *what);

/* Returns the key that new digests are made with; makes the first one. */
int
lr_digest_key_id(void)
{
	forget_stale_keys();
	if (current_key == 0)
	{
		LrIdentity	identity;
		int			key_id = 0;

		lr_sql_begin(&identity);
		if (lr_sql("SELECT key_id, key FROM leadroute.digest_keys ORDER BY key_id DESC LIMIT 1", true, 0, NULL, NULL, NULL) > 0)
		{
			bool		isnull;

			key_id = lr_sql_int32(0, 1, 0);
			remember_key(key_id, lr_sql_datum(0, 2, &isnull));
		}
		lr_sql_end(&identity);
		current_key = key_id ? key_id : make_key();
	}
	return current_key;
}

/*
 * Finds the keys that there are: the one that new digests are made with first, then older ones, which some digests may still be
 * made with. Returns how many.
 */
int
lr_digest_key_ids(const int **key_ids)
{
	static int	ids[lengthof(keys)];
	static int	nids = 0;
	static uint64 ids_generation;
	int			newest = lr_digest_key_id();

	if (nids == 0 || ids_generation != keys_generation || ids[0] != newest)
	{
		LrIdentity	identity;
		Oid			types[] = {INT4OID};
		Datum		values[] = {Int32GetDatum(lengthof(keys))};
		uint64		n;

		lr_sql_begin(&identity);
		n = lr_sql("SELECT key_id FROM leadroute.digest_keys ORDER BY key_id DESC LIMIT $1", true, 1, types, values, NULL);
		for (uint64 i = 0; i < n; i++)
			ids[i] = lr_sql_int32(i, 1, 0);
		lr_sql_end(&identity);
		nids = (int) n;
		ids_generation = keys_generation;
	}
	*key_ids = ids;
	return nids;
}

/* Computes the digest, LR_DIGEST_LENGTH bytes, of some data under a key; raises 42704 if the key is gone. */
void
lr_digest(int key_id, const void *data, size_t length, unsigned char *digest)
{
	const DigestKey *key = find_key(key_id);
	SHA256_CTX	context = key->inner;
	unsigned char full[SHA256_DIGEST_LENGTH];

	SHA256_Update(&context, data, length);
	SHA256_Final(full, &context);
	context = key->outer;
	SHA256_Update(&context, full, sizeof(full));
	SHA256_Final(full, &context);
	memcpy(digest, full, LR_DIGEST_LENGTH);
}

/* Computes SHA-256, 32 bytes. */
void
lr_sha256(const void *data, size_t length, unsigned char *digest)
{
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);

	if (context == NULL || pg_cryptohash_init(context) < 0 || pg_cryptohash_update(context, data, length) < 0 ||
		pg_cryptohash_final(context, digest, PG_SHA256_DIGEST_LENGTH) < 0)
		crypto_failed("compute SHA-256");
	pg_cryptohash_free(context);
}

/* Computes SHA-256 in hex. */
char *
lr_sha256_hex(const void *data, size_t length)
{
	unsigned char digest[PG_SHA256_DIGEST_LENGTH];
	char	   *hex = palloc(2 * sizeof(digest) + 1);

	lr_sha256(data, length, digest);
	for (int i = 0; i < (int) sizeof(digest); i++)
		sprintf(hex + 2 * i, "%02x", digest[i]);
	return hex;
}

static void
forget_stale_keys(void)
{
	if (keys_generation == lr_table_generation(LR_TABLE_DIGEST_KEYS))
		return;
	keys_generation = lr_table_generation(LR_TABLE_DIGEST_KEYS);
	OPENSSL_cleanse(keys, sizeof(keys));
	nkeys = 0;
	current_key = 0;
}

static DigestKey *
find_key(int key_id)
{
	LrIdentity	identity;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(key_id)};
	DigestKey  *key;
	bool		isnull;

	forget_stale_keys();
	for (int i = 0; i < nkeys; i++)
	{
		if (keys[i].key_id == key_id)
			return &keys[i];
	}
	lr_sql_begin(&identity);
	if (lr_sql("SELECT key FROM leadroute.digest_keys WHERE key_id = $1", true, 1, types, values, NULL) == 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("digest key %d is missing from leadroute.digest_keys", key_id),
				errhint("Restore the row from a backup; without it digests made with it cannot be compared."));
	key = remember_key(key_id, lr_sql_datum(0, 1, &isnull));
	lr_sql_end(&identity);
	return key;
}

/* Makes the database's key; two sessions that need the first one agree on it. */
static int
make_key(void)
{
	LrIdentity	identity;
	unsigned char secret[KEY_LENGTH];
	bytea	   *value = palloc(VARHDRSZ + KEY_LENGTH);
	Oid			types[] = {BYTEAOID};
	Datum		values[] = {PointerGetDatum(value)};
	int			key_id;

	if (!pg_strong_random(secret, sizeof(secret)))
		crypto_failed("make a random key");
	SET_VARSIZE(value, VARHDRSZ + KEY_LENGTH);
	memcpy(VARDATA(value), secret, KEY_LENGTH);
	lr_sql_begin(&identity);
	lr_sql("LOCK TABLE leadroute.digest_keys IN SHARE ROW EXCLUSIVE MODE", false, 0, NULL, NULL, NULL);
	if (lr_sql("SELECT max(key_id) FROM leadroute.digest_keys HAVING count(*) > 0", true, 0, NULL, NULL, NULL) == 0)
		lr_sql("INSERT INTO leadroute.digest_keys (key_id, key) VALUES (1, $1) RETURNING key_id", false, 1, types, values, NULL);
	key_id = lr_sql_int32(0, 1, 0);
	lr_sql_end(&identity);
	forget_stale_keys();
	return key_id;
}

static DigestKey *
remember_key(int key_id, Datum secret)
{
	bytea	   *value = DatumGetByteaPP(secret);
	DigestKey  *key;

	if (nkeys == lengthof(keys))
		memmove(&keys[0], &keys[1], sizeof(keys[0]) * --nkeys);
	key = &keys[nkeys++];
	key->key_id = key_id;
	begin_hash(&key->inner, value, 0x36);
	begin_hash(&key->outer, value, 0x5c);
	return key;
}

/* Hashes the key, padded to a block of SHA-256 and mixed with a byte. */
static void
begin_hash(SHA256_CTX *context, const bytea *secret, unsigned char pad)
{
	unsigned char block[SHA256_CBLOCK];

	memset(block, pad, sizeof(block));
	for (int i = 0; i < Min((int) VARSIZE_ANY_EXHDR(secret), KEY_LENGTH); i++)
		block[i] ^= (unsigned char) VARDATA_ANY(secret)[i];
	SHA256_Init(context);
	SHA256_Update(context, block, sizeof(block));
	OPENSSL_cleanse(block, sizeof(block));
}

static void
crypto_failed(const char *what)
{
	ereport(ERROR,
			errcode(ERRCODE_INTERNAL_ERROR),
			errmsg("OpenSSL could not %s", what));
}
