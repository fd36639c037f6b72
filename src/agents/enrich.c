/*
 * enrich.c: the agent enrichWithFirmographicData: what is known of the company behind a domain.
 *
 * The domain is the lead's own, or that of its business e-mail address. leadroute.firmographics gives what is missing:
 * nothing that the lead brings is overwritten, and the lead's row is not touched; the steps behind see the filled values,
 * and the record keeps them. The table may change any day, so a verification takes the recorded values.
 */
#include "agents/agents.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "common/hashfn.h"
#include "agents/contact.h"
#include "pipeline/pipeline.h"
#include "policy/policy.h"
#include "provenance/provenance.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/json.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* The columns of leadroute.firmographics behind domain, and the attributes that they fill. */
static const int filled_attributes[] = {LR_COMPANY, LR_INDUSTRY, LR_COMPANY_SIZE, LR_COUNTRY, LR_REGION};
#define NFILLED ((int) lengthof(filled_attributes))

/* Firms that a statement keeps in mind at most. */
#define MAX_KNOWN_FIRMS 20000

/* A table of up to 2 MB is read whole once a session has had that many leads. */
#define SMALL_TABLE_BLOCKS (2 * 1024 * 1024 / BLCKSZ)
#define MANY_LEADS 100

typedef struct Firm
{
	char	   *domain;			/* hash key */
	uint32		hash;
	uint32		status;
	bool		found;
	Datum		values[NFILLED];
	bool		isnull[NFILLED];
} Firm;

#define SH_PREFIX firm
#define SH_ELEMENT_TYPE Firm
#define SH_KEY_TYPE char *
#define SH_KEY domain
#define SH_HASH_KEY(tb, key) hash_bytes((unsigned char *) (key), strlen(key))
#define SH_EQUAL(tb, a, b) (strcmp(a, b) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* Of a domain that the table does not have. */
static const Firm no_firm = {.found = false};

static void configure(LrStep *step, json_t *json, json_t *document, const LrScope *scope, const char *place, LrMistakes *mistakes);
static void prepare(LrStep *step, LrBatch *batch);
static void run(LrStep *step, LrRun *run);
static void unfold(const LrStep *step, const char *detail, int length, StringInfo json);
static void restore(const LrStep *step, LrRun *run, const char *detail, int length);
static char *domain_of(LrRun *run);
static firm_hash *known_firms(LrBatch *batch);
static firm_hash *whole_table(void);
static void keep_firm(Firm *firm, TupleTableSlot *slot);
static void look_up(firm_hash *firms, List *domains, LrBatch *batch);
static void record_filled(LrRun *run, StringInfo detail, int attribute);

const LrBuiltin lr_enrich = {
	.capability = "enrichWithFirmographicData",
	.agent_id = 3,
	.first_fact = LR_ENRICH_STATUS,
	.nfacts = LR_SCORE - LR_ENRICH_STATUS,
	.recomputable = false,
	.configure = configure,
	.prepare = prepare,
	.run = run,
	.unfold = unfold,
	.restore = restore,
};

static void
configure(LrStep *step, json_t *json, json_t *document, const LrScope *scope, const char *place, LrMistakes *mistakes)
{
	step->reads = bms_add_member(step->reads, LR_DOMAIN);
	step->reads = bms_add_member(step->reads, LR_EMAIL);
	for (int i = 0; i < NFILLED; i++)
		step->reads = bms_add_member(step->reads, filled_attributes[i]);
}

/* Looks up those domains of the batch that the statement has not met yet, each once. */
static void
prepare(LrStep *step, LrBatch *batch)
{
	static int	nleads = 0;		/* that this session has had */
	firm_hash  *table;
	firm_hash  *firms;
	char	  **domains = palloc0(sizeof(char *) * batch->n);
	List	   *unknown = NIL;

	nleads = Min(nleads + batch->n, MANY_LEADS);
	table = nleads == MANY_LEADS ? whole_table() : NULL;
	firms = table ? table : known_firms(batch);

	for (int i = 0; i < batch->n; i++)
	{
		bool		found;

		domains[i] = batch->runs[i].ended ? NULL : domain_of(&batch->runs[i]);
		if (domains[i] == NULL)
			continue;
		if (table == NULL && firm_lookup(firms, domains[i]) == NULL)
		{
			char	   *domain = MemoryContextStrdup(batch->lookup_memory, domains[i]);

			firm_insert(firms, domain, &found)->found = false;
			unknown = lappend(unknown, domain);
		}
	}
	if (unknown != NIL)
		look_up(firms, unknown, batch);
	for (int i = 0; i < batch->n; i++)
	{
		const Firm *firm = domains[i] ? firm_lookup(firms, domains[i]) : NULL;

		batch->runs[i].looked_up = domains[i] && firm == NULL ? &no_firm : firm;
	}
}

/*
 * The whole table in memory, if it is small; NULL otherwise. Kept for the session until the table changes: a look-up then
 * costs a hash, not a descent into the index.
 */
static firm_hash *
whole_table(void)
{
	static MemoryContext memory = NULL;
	static firm_hash *firms = NULL;
	static uint64 generation;
	Relation	rel;
	TableScanDesc scan;
	TupleTableSlot *slot;
	Snapshot	snapshot;
	MemoryContext saved;

	if (firms && generation == lr_table_generation(LR_TABLE_FIRMOGRAPHICS))
		return firms;
	if (memory == NULL)
		memory = AllocSetContextCreate(CacheMemoryContext, "leadroute firmographics", ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(memory);
	firms = NULL;
	generation = lr_table_generation(LR_TABLE_FIRMOGRAPHICS);
	rel = table_open(lr_catalog()->tables[LR_TABLE_FIRMOGRAPHICS], AccessShareLock);
	if (RelationGetNumberOfBlocks(rel) <= SMALL_TABLE_BLOCKS)
	{
		firm_hash  *reading = firm_create(memory, 1024, NULL);

		slot = table_slot_create(rel, NULL);
		snapshot = RegisterSnapshot(GetLatestSnapshot());
		scan = table_beginscan(rel, snapshot, 0, NULL);
		saved = MemoryContextSwitchTo(memory);
		while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		{
			bool		found;

			slot_getallattrs(slot);
			keep_firm(firm_insert(reading, TextDatumGetCString(slot->tts_values[0]), &found), slot);
		}
		MemoryContextSwitchTo(saved);
		table_endscan(scan);
		UnregisterSnapshot(snapshot);
		ExecDropSingleTupleTableSlot(slot);
		firms = reading;
	}
	table_close(rel, AccessShareLock);
	return firms;
}

/* Keeps what a row of the table says, in the current memory context. */
static void
keep_firm(Firm *firm, TupleTableSlot *slot)
{
	firm->found = true;
	for (int i = 0; i < NFILLED; i++)
	{
		firm->isnull[i] = slot->tts_isnull[i + 1];
		if (!firm->isnull[i])
			firm->values[i] = filled_attributes[i] == LR_COMPANY_SIZE ? slot->tts_values[i + 1]
				: PointerGetDatum(DatumGetTextPCopy(slot->tts_values[i + 1]));
	}
}

/* The firms that the statement knows of so far; bounded. */
static firm_hash *
known_firms(LrBatch *batch)
{
	firm_hash  *firms = batch->lookups;

	if (firms && firms->members > MAX_KNOWN_FIRMS)
	{
		MemoryContextDelete(batch->lookup_memory);
		firms = NULL;
	}
	if (firms == NULL)
	{
		batch->lookup_memory = AllocSetContextCreate(batch->statement_memory, "leadroute firms", ALLOCSET_DEFAULT_SIZES);
		firms = batch->lookups = firm_create(batch->lookup_memory, Max(batch->n, 8), NULL);
	}
	return firms;
}

static void
look_up(firm_hash *firms, List *domains, LrBatch *batch)
{
	const LrCatalog *catalog = lr_catalog();
	Relation	rel = table_open(catalog->tables[LR_TABLE_FIRMOGRAPHICS], AccessShareLock);
	Relation	index = index_open(catalog->firmographics_pkey, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	IndexScanDesc scan = lr_index_beginscan(rel, index, snapshot, 1);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	ScanKeyData key;
	ListCell   *cell;

	foreach(cell, domains)
	{
		Firm	   *firm = firm_lookup(firms, lfirst(cell));
		MemoryContext saved;

		ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(firm->domain));
		key.sk_collation = index->rd_indcollation[0];
		index_rescan(scan, &key, 1, NULL, 0);
		if (!index_getnext_slot(scan, ForwardScanDirection, slot))
			continue;
		slot_getallattrs(slot);
		saved = MemoryContextSwitchTo(batch->lookup_memory);
		keep_firm(firm, slot);
		MemoryContextSwitchTo(saved);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
}

static void
run(LrStep *step, LrRun *run)
{
	const Firm *firm = run->looked_up;
	const char *filled[NFILLED];
	int			nfilled = 0;
	StringInfo	detail = NULL;

	for (int i = 0; firm && firm->found && i < NFILLED; i++)
	{
		int			attribute = filled_attributes[i];

		if (!run->isnull[attribute] || firm->isnull[i])
			continue;
		lr_run_set(run, attribute, firm->values[i]);
		filled[nfilled++] = lr_facts[attribute].name;
		if (detail == NULL)
			detail = lr_detail_make();
		record_filled(run, detail, attribute);
	}
	run->steps[step->number].detail = detail;
	lr_run_set_texts(run, LR_ENRICH_FILLED, filled, nfilled);
	lr_run_set_text(run, LR_ENRICH_STATUS,
					firm == NULL ? "no_domain" : !firm->found ? "no_match" : nfilled > 0 ? "enriched" : "complete");
}

/* The lead's domain, or that of its business address, in normal form; NULL if there is neither. */
static char *
domain_of(LrRun *run)
{
	if (!run->isnull[LR_DOMAIN])
	{
		text	   *domain = DatumGetTextPP(run->values[LR_DOMAIN]);
		char	   *normal;
		int			length;

		if (lr_domain_normalise(VARDATA_ANY(domain), VARSIZE_ANY_EXHDR(domain), &normal, &length))
			return normal;
	}
	if (run->mail.status == LR_CONTACT_OK && run->mail.kind == LR_MAIL_BUSINESS)
		return (char *) run->mail.domain;
	return NULL;
}

/* ---- the record: each filled attribute, by value where it is plain, otherwise by digest ---- */

static void
record_filled(LrRun *run, StringInfo detail, int attribute)
{
	LrClass		class = run->batch->source->classes[attribute];

	appendStringInfoChar(detail, (char) attribute);
	appendStringInfoChar(detail, class == LR_CLASS_PLAIN ? 1 : 0);
	if (attribute == LR_COMPANY_SIZE)
	{
		if (class == LR_CLASS_PLAIN)
			lr_put_varint(detail, DatumGetInt32(run->values[attribute]));
		else
		{
			int32		number = DatumGetInt32(run->values[attribute]);
			unsigned char digest[LR_DIGEST_LENGTH];

			lr_digest(lr_digest_key_id(), &number, sizeof(number), digest);
			appendBinaryStringInfo(detail, (char *) digest, sizeof(digest));
		}
	}
	else if (class == LR_CLASS_PLAIN)
		lr_put_string(detail, TextDatumGetCString(run->values[attribute]));
	else
	{
		text	   *value = DatumGetTextPP(run->values[attribute]);
		unsigned char digest[LR_DIGEST_LENGTH];

		lr_digest(lr_digest_key_id(), VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), digest);
		appendBinaryStringInfo(detail, (char *) digest, sizeof(digest));
	}
}

static void
unfold(const LrStep *step, const char *detail, int length, StringInfo json)
{
	LrReader	in = {detail, detail + length};

	appendStringInfoString(json, ", \"values\": {");
	for (int n = 0; in.at < in.end; n++)
	{
		int			attribute = (unsigned char) *lr_get_bytes(&in, 1);
		bool		plain = *lr_get_bytes(&in, 1) == 1;

		if (attribute >= LR_N_ATTRIBUTES)
			break;
		appendStringInfo(json, "%s\"%s\": ", n ? ", " : "", lr_facts[attribute].name);
		if (!plain)
		{
			appendStringInfoString(json, "{\"digest\": \"");
			for (int i = 0; i < LR_DIGEST_LENGTH; i++)
				appendStringInfo(json, "%02x", (unsigned char) *lr_get_bytes(&in, 1));
			appendStringInfoString(json, "\"}");
		}
		else if (attribute == LR_COMPANY_SIZE)
			appendStringInfo(json, UINT64_FORMAT, lr_get_varint(&in));
		else
			escape_json(json, lr_get_string(&in));
	}
	appendStringInfoChar(json, '}');
}

/* Gives a run the values that a past run filled in; those that are not on record by value are missing. */
static void
restore(const LrStep *step, LrRun *run, const char *detail, int length)
{
	LrReader	in = {detail, detail + length};
	StringInfo	copy = lr_detail_make();

	appendBinaryStringInfo(copy, detail, length);
	run->steps[step->number].detail = copy;
	while (in.at < in.end)
	{
		int			attribute = (unsigned char) *lr_get_bytes(&in, 1);
		bool		plain = *lr_get_bytes(&in, 1) == 1;

		if (attribute >= LR_N_ATTRIBUTES)
			break;
		if (!plain)
		{
			(void) lr_get_bytes(&in, LR_DIGEST_LENGTH);
			run->missing = bms_add_member(run->missing, attribute);
		}
		else if (attribute == LR_COMPANY_SIZE)
			lr_run_set(run, attribute, Int32GetDatum((int32) lr_get_varint(&in)));
		else
			lr_run_set(run, attribute, CStringGetTextDatum(lr_get_string(&in)));
	}
}
