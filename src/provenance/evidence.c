/*
 * evidence.c: the compact form of what a run read and what its steps gave.
 *
 * One entry a lead, not a row a step: names stand in the policy version, values here. The layout, version 3:
 *
 *	u8 version, u32 length of the stable part, stable part, float32 duration of each step (microseconds)
 *	stable part: attributes, unreadable, flags, steps
 *	attributes: u32 bits of those that are known; 5 bytes of classes, two bits each; for each known one its value if it is
 *		plain, otherwise its digest; varint count of plain members of "attributes", for each string name, string JSON
 *	unreadable: u8 0, or attribute + 1 and 5 bytes of SQLSTATE
 *	flags: varint count; for each that the policy version reads, in the order of its pins, u8. Version 1 had none
 *	steps: varint count; for each u8 status; if failed 5 bytes of SQLSTATE and string place; if done its outputs; and unless it was
 *		skipped varint length and bytes of detail: of a built-in agent its own; of others what is known of their attempts, JSON. Up to
 *		version 2 only steps that were done had one, and none was waiting
 *	outputs: of a built-in agent u16 bits of those that are known and their values; of others one string, JSON
 *	value: text string; int varint (zigzag); bool u8; time 8 bytes; text[] varint count and per element varint length + 1
 *		(0 is null) and bytes; jsonb string
 *
 * Numbers are little-endian on every machine; a string is varint length and bytes. Two runs over the same inputs have equal
 * stable parts: that is how routing by hand finds that nothing changed.
 */
#include "provenance/provenance.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#define FORMAT_VERSION 3
#define HEADER_LENGTH 5

static void put_u32(StringInfo out, uint32 value);
static void put_value(StringInfo out, Oid type, Datum value);
static void put_digest(StringInfo out, int fact, Datum value);
static void put_plain_members(StringInfo out, LrRun *run);
static void put_step(StringInfo out, const LrStep *step, const LrRun *run);
static void put_sqlstate(StringInfo out, int sqlstate);

/* ---- numbers and strings ---- */

/* Makes room for n bytes and returns where they go. A lead's evidence is some hundred pieces of some bytes each. */
static inline char *
room(StringInfo out, int n)
{
	char	   *at;

	if (unlikely(out->len + n >= out->maxlen))
		enlargeStringInfo(out, n);
	at = out->data + out->len;
	out->len += n;
	return at;
}

static inline void
put_byte(StringInfo out, int value)
{
	*room(out, 1) = (char) value;
}

static inline void
put_varint(StringInfo out, uint64 value)
{
	while (value >= 0x80)
	{
		put_byte(out, (int) (value | 0x80));
		value >>= 7;
	}
	put_byte(out, (int) value);
}

static inline void
put_bytes(StringInfo out, const void *bytes, size_t length)
{
	put_varint(out, length);
	memcpy(room(out, (int) length), bytes, length);
}

/* Appends an unsigned number, 7 bits a byte, the lowest first. */
void
lr_put_varint(StringInfo out, uint64 value)
{
	put_varint(out, value);
}

/* Appends a string: its length and its bytes. */
void
lr_put_string(StringInfo out, const char *value)
{
	put_bytes(out, value, strlen(value));
}

static void
put_text(StringInfo out, Datum value)
{
	text	   *string = DatumGetTextPP(value);

	put_bytes(out, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
}

static void
put_u32(StringInfo out, uint32 value)
{
	char	   *at = room(out, 4);

	for (int i = 0; i < 4; i++)
		at[i] = (char) (value >> (8 * i));
}

static void
put_sqlstate(StringInfo out, int sqlstate)
{
	memcpy(room(out, 5), unpack_sql_state(sqlstate), 5);
}

/* ---- attributes ---- */

/* Begins a run's evidence with its attributes, before any agent fills one in. */
void
lr_evidence_attributes(LrRun *run)
{
	const LrSource *source = run->batch->source;
	StringInfo	out = &run->batch->attributes;
	ExprContext *scratch = run->batch->policy->evaluator->context;
	MemoryContext saved = MemoryContextSwitchTo(scratch->ecxt_per_tuple_memory);
	uint32		known = 0;
	uint64		classes = 0;

	run->attributes_at = out->len;
	for (int i = 0; i < LR_N_ATTRIBUTES; i++)
	{
		known |= (run->isnull[i] ? 0 : 1u) << i;
		classes |= (uint64) source->classes[i] << (2 * i);
	}
	put_u32(out, known);
	for (int i = 0; i < 5; i++)
		put_byte(out, (int) (classes >> (8 * i)));
	for (int i = 0; i < LR_N_ATTRIBUTES; i++)
	{
		if (run->isnull[i])
			continue;
		if (source->classes[i] == LR_CLASS_PLAIN)
			put_value(out, lr_facts[i].type, run->values[i]);
		else
			put_digest(out, i, run->values[i]);
	}
	put_plain_members(out, run);
	put_byte(out, run->unreadable + 1);
	if (run->unreadable >= 0)
		put_sqlstate(out, run->unreadable_sqlstate);
	lr_evidence_flags(run);
	/* JSON's text forms take some kB for every member: too much to keep for a whole batch */
	MemoryContextSwitchTo(saved);
	ResetExprContext(scratch);
}

static void
put_value(StringInfo out, Oid type, Datum value)
{
	switch (type)
	{
		case TEXTOID:
			put_text(out, value);
			break;
		case INT4OID:
			{
				int64		number = DatumGetInt32(value);

				put_varint(out, ((uint64) number << 1) ^ (uint64) (number >> 63));
				break;
			}
		case BOOLOID:
			put_byte(out, DatumGetBool(value));
			break;
		case TIMESTAMPTZOID:
			put_u32(out, (uint32) DatumGetTimestampTz(value));
			put_u32(out, (uint32) ((uint64) DatumGetTimestampTz(value) >> 32));
			break;
		case TEXTARRAYOID:
			{
				Datum	   *elements;
				bool	   *nulls;
				int			n;

				deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
				put_varint(out, n);
				for (int i = 0; i < n; i++)
				{
					text	   *element = nulls[i] ? NULL : DatumGetTextPP(elements[i]);

					put_varint(out, element ? VARSIZE_ANY_EXHDR(element) + 1 : 0);
					if (element)
						memcpy(room(out, (int) VARSIZE_ANY_EXHDR(element)), VARDATA_ANY(element), VARSIZE_ANY_EXHDR(element));
				}
				break;
			}
		default:
			{
				Jsonb	   *jsonb = DatumGetJsonbP(value);

				lr_put_string(out, JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb)));
				break;
			}
	}
}

/* Appends the values of flags, behind the attributes, which have to be the last that was appended. */
void
lr_evidence_flags(LrRun *run)
{
	const LrPolicy *policy = run->batch->policy;
	StringInfo	out = &run->batch->attributes;

	lr_put_varint(out, policy->nflags);
	for (int i = 0; i < policy->nflags; i++)
		put_value(out, BOOLOID, run->isnull[policy->flags[i].fact] ? BoolGetDatum(false) : run->values[policy->flags[i].fact]);
	run->attributes_length = out->len - run->attributes_at;
}

/* Appends the digest of an attribute's value. */
static void
put_digest(StringInfo out, int fact, Datum value)
{
	unsigned char digest[LR_DIGEST_LENGTH];

	lr_fact_digest(lr_digest_key_id(), fact, value, digest);
	memcpy(room(out, sizeof(digest)), digest, sizeof(digest));
}

/* Computes the digest of an attribute's value. */
void
lr_fact_digest(int key_id, int fact, Datum value, unsigned char *digest)
{
	switch (lr_facts[fact].type)
	{
		case INT4OID:
			{
				int32		number = DatumGetInt32(value);

				lr_digest(key_id, &number, sizeof(number), digest);
				break;
			}
		case BOOLOID:
			{
				char		truth = DatumGetBool(value) ? 1 : 0;

				lr_digest(key_id, &truth, sizeof(truth), digest);
				break;
			}
		case TIMESTAMPTZOID:
			{
				TimestampTz moment = DatumGetTimestampTz(value);

				lr_digest(key_id, &moment, sizeof(moment), digest);
				break;
			}
		default:
			{
				struct varlena *bytes = PG_DETOAST_DATUM_PACKED(value);

				lr_digest(key_id, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes), digest);
				break;
			}
	}
}

/* Appends those members of "attributes" that are classed plain by themselves. */
static void
put_plain_members(StringInfo out, LrRun *run)
{
	const LrSource *source = run->batch->source;
	Jsonb	   *jsonb;
	StringInfoData members;
	int			n = 0;

	if (source->nplain_keys == 0 || run->isnull[LR_ATTRIBUTES] || source->classes[LR_ATTRIBUTES] == LR_CLASS_PLAIN)
	{
		put_varint(out, 0);
		return;
	}
	jsonb = DatumGetJsonbP(run->values[LR_ATTRIBUTES]);
	initStringInfo(&members);
	for (int i = 0; i < source->nplain_keys && JB_ROOT_IS_OBJECT(jsonb); i++)
	{
		JsonbValue	buffer;
		JsonbValue *value = getKeyJsonValueFromContainer(&jsonb->root, source->plain_keys[i], strlen(source->plain_keys[i]), &buffer);

		if (value)
		{
			Jsonb	   *member = JsonbValueToJsonb(value);

			lr_put_string(&members, source->plain_keys[i]);
			lr_put_string(&members, JsonbToCString(NULL, &member->root, VARSIZE(member)));
			n++;
		}
	}
	put_varint(out, n);
	appendBinaryStringInfo(out, members.data, members.len);
}

/* ---- steps ---- */

/* Finishes a run's evidence, in the batch's buffer: attributes, steps, and the time that each step took. */
void
lr_evidence_finish(LrRun *run)
{
	const LrPolicy *policy = run->batch->policy;
	StringInfo	out = &run->batch->evidence;
	uint32		stable;

	while (out->len % MAXIMUM_ALIGNOF != 0)
		put_byte(out, 0);
	run->evidence_at = out->len;
	put_u32(out, 0);			/* the bytea's own header */
	put_byte(out, FORMAT_VERSION);
	put_u32(out, 0);
	memcpy(room(out, run->attributes_length), run->batch->attributes.data + run->attributes_at, run->attributes_length);
	put_varint(out, policy->nsteps);
	for (int i = 0; i < policy->nsteps; i++)
		put_step(out, &policy->steps[i], run);
	stable = out->len - run->evidence_at - VARHDRSZ - HEADER_LENGTH;
	for (int i = 0; i < 4; i++)
		out->data[run->evidence_at + VARHDRSZ + 1 + i] = (char) (stable >> (8 * i));
	for (int i = 0; i < policy->nsteps; i++)
	{
		uint32		bits;

		memcpy(&bits, &run->batch->durations[i], sizeof(bits));
		put_u32(out, bits);
	}
	SET_VARSIZE(out->data + run->evidence_at, out->len - run->evidence_at);
}

static void
put_step(StringInfo out, const LrStep *step, const LrRun *run)
{
	const LrStepResult *result = &run->steps[step->number];
	uint32		known = 0;

	put_byte(out, result->status);
	if (result->status == LR_STEP_FAILED)
	{
		put_sqlstate(out, result->sqlstate);
		lr_put_string(out, result->place ? result->place : "");
	}
	if (result->status == LR_STEP_SKIPPED)
		return;
	if (result->status == LR_STEP_DONE && step->builtin == NULL)
		put_value(out, JSONBOID, run->values[step->first_fact]);
	else if (result->status == LR_STEP_DONE)
	{
		for (int i = 0; i < step->nfacts; i++)
			known |= (run->isnull[step->first_fact + i] ? 0 : 1u) << i;
		put_byte(out, known);
		put_byte(out, known >> 8);
		for (int i = 0; i < step->nfacts; i++)
		{
			if (known & (1u << i))
				put_value(out, lr_facts[step->first_fact + i].type, run->values[step->first_fact + i]);
		}
	}
	if (result->detail)
		put_bytes(out, result->detail->data, result->detail->len);
	else
		put_byte(out, 0);
}

/* ---- reading ---- */

static void
damaged(void)
{
	ereport(ERROR,
			errcode(ERRCODE_DATA_CORRUPTED),
			errmsg("the evidence of an entry is damaged"),
			errhint("Restore leadroute.entries from a backup."));
}

/* Takes an unsigned number; raises XX001 where there is none. */
uint64
lr_get_varint(LrReader *in)
{
	uint64		value = 0;

	for (int shift = 0; shift < 64; shift += 7)
	{
		unsigned char byte;

		if (in->at >= in->end)
			break;
		byte = (unsigned char) *in->at++;
		value |= (uint64) (byte & 0x7f) << shift;
		if (byte < 0x80)
			return value;
	}
	damaged();
	return 0;
}

/* Takes bytes; raises XX001 where there are not as many. */
const char *
lr_get_bytes(LrReader *in, int length)
{
	const char *bytes = in->at;

	if (length < 0 || in->end - in->at < length)
		damaged();
	in->at += length;
	return bytes;
}

/* Takes a string. */
char *
lr_get_string(LrReader *in)
{
	uint64		length = lr_get_varint(in);

	if (length > (uint64) (in->end - in->at) || !pg_verifymbstr(in->at, (int) length, true))
		damaged();
	return pnstrdup(lr_get_bytes(in, (int) length), length);
}

static uint32
get_u32(LrReader *in)
{
	const unsigned char *bytes = (const unsigned char *) lr_get_bytes(in, 4);

	return bytes[0] | (uint32) bytes[1] << 8 | (uint32) bytes[2] << 16 | (uint32) bytes[3] << 24;
}

static Datum
get_value(LrReader *in, Oid type)
{
	switch (type)
	{
		case TEXTOID:
			return CStringGetTextDatum(lr_get_string(in));
		case INT4OID:
			{
				uint64		number = lr_get_varint(in);

				return Int32GetDatum((int32) ((int64) (number >> 1) ^ -(int64) (number & 1)));
			}
		case BOOLOID:
			return BoolGetDatum(*lr_get_bytes(in, 1) != 0);
		case TIMESTAMPTZOID:
			{
				uint64		low = get_u32(in);

				return TimestampTzGetDatum((TimestampTz) (low | (uint64) get_u32(in) << 32));
			}
		case TEXTARRAYOID:
			{
				uint64		n = lr_get_varint(in);
				Datum	   *elements;
				bool	   *nulls;
				int			dimensions[1] = {(int) n};
				int			lower[1] = {1};

				if (n > (uint64) (in->end - in->at))
					damaged();
				elements = palloc(sizeof(Datum) * Max(n, 1));
				nulls = palloc(sizeof(bool) * Max(n, 1));
				for (uint64 i = 0; i < n; i++)
				{
					uint64		length = lr_get_varint(in);

					nulls[i] = length == 0;
					if (length > (uint64) (in->end - in->at) + 1 || (length > 1 && !pg_verifymbstr(in->at, (int) length - 1, true)))
						damaged();
					elements[i] = length ? PointerGetDatum(cstring_to_text_with_len(lr_get_bytes(in, (int) length - 1), (int) length - 1)) : (Datum) 0;
				}
				return PointerGetDatum(n == 0 ? construct_empty_array(TEXTOID)
									   : construct_md_array(elements, nulls, 1, dimensions, lower, TEXTOID, -1, false, TYPALIGN_INT));
			}
		default:
			return DirectFunctionCall1(jsonb_in, CStringGetDatum(lr_get_string(in)));
	}
}

/* Reads evidence whole, in the current memory context; raises XX001 if it is damaged. */
LrEvidence *
lr_evidence_read(const char *data, int length, const LrPolicy *policy)
{
	LrEvidence *evidence = palloc0(sizeof(LrEvidence));
	LrReader	in = {data, data + length};
	uint64		classes = 0;
	uint32		known;
	int			version = *lr_get_bytes(&in, 1);

	if (version < 1 || version > FORMAT_VERSION)
		damaged();
	evidence->stable = data + HEADER_LENGTH;
	evidence->stable_length = (int) get_u32(&in);
	if (evidence->stable_length < 0 || evidence->stable_length > length - HEADER_LENGTH)
		damaged();
	known = get_u32(&in);
	for (int i = 0; i < 5; i++)
		classes |= (uint64) (unsigned char) *lr_get_bytes(&in, 1) << (8 * i);
	for (int i = 0; i < LR_N_ATTRIBUTES; i++)
	{
		LrEvidenceAttribute *attribute = &evidence->attributes[i];

		attribute->known = (known & (1u << i)) != 0;
		attribute->class = (LrClass) ((classes >> (2 * i)) & 3);
		if (!attribute->known)
			continue;
		if (attribute->class == LR_CLASS_PLAIN)
			attribute->value = get_value(&in, lr_facts[i].type);
		else
			attribute->digest = (const unsigned char *) lr_get_bytes(&in, LR_DIGEST_LENGTH);
	}
	evidence->nmembers = (int) lr_get_varint(&in);
	if (evidence->nmembers < 0 || evidence->nmembers > length)
		damaged();
	evidence->members = palloc(sizeof(LrEvidenceMember) * Max(evidence->nmembers, 1));
	for (int i = 0; i < evidence->nmembers; i++)
	{
		evidence->members[i].name = lr_get_string(&in);
		evidence->members[i].json = lr_get_string(&in);
	}
	evidence->unreadable = (unsigned char) *lr_get_bytes(&in, 1) - 1;
	if (evidence->unreadable >= LR_N_ATTRIBUTES)
		damaged();
	if (evidence->unreadable >= 0)
		evidence->unreadable_sqlstate = pnstrdup(lr_get_bytes(&in, 5), 5);
	evidence->attributes_length = (int) (in.at - data);
	evidence->nflags = version >= 2 ? (int) lr_get_varint(&in) : 0;
	if (evidence->nflags != (version >= 2 ? policy->nflags : 0))
		damaged();
	evidence->flags = palloc(sizeof(bool) * Max(evidence->nflags, 1));
	for (int i = 0; i < evidence->nflags; i++)
		evidence->flags[i] = *lr_get_bytes(&in, 1) != 0;

	evidence->nsteps = (int) lr_get_varint(&in);
	if (evidence->nsteps != policy->nsteps)
		damaged();
	evidence->steps = palloc0(sizeof(LrEvidenceStep) * Max(evidence->nsteps, 1));
	for (int i = 0; i < evidence->nsteps; i++)
	{
		const LrStep *step = &policy->steps[i];
		LrEvidenceStep *recorded = &evidence->steps[i];
		const unsigned char *bits;

		recorded->status = (LrStepStatus) (unsigned char) *lr_get_bytes(&in, 1);
		if (recorded->status > (version >= 3 ? LR_STEP_BLOCKED : LR_STEP_FAILED))
			damaged();
		if (recorded->status == LR_STEP_FAILED)
		{
			recorded->sqlstate = pnstrdup(lr_get_bytes(&in, 5), 5);
			recorded->place = lr_get_string(&in);
		}
		if (recorded->status == LR_STEP_SKIPPED || (version < 3 && recorded->status != LR_STEP_DONE))
			continue;
		recorded->values = palloc0(sizeof(Datum) * Max(step->nfacts, 1));
		if (recorded->status != LR_STEP_DONE)
			recorded->known = 0;
		else if (step->builtin == NULL)
		{
			recorded->known = 1;
			recorded->values[0] = get_value(&in, JSONBOID);
			if (!JB_ROOT_IS_OBJECT(DatumGetJsonbP(recorded->values[0])))
				damaged();
		}
		else
		{
			bits = (const unsigned char *) lr_get_bytes(&in, 2);
			recorded->known = bits[0] | (uint32) bits[1] << 8;
			for (int f = 0; f < step->nfacts; f++)
			{
				if (recorded->known & (1u << f))
					recorded->values[f] = get_value(&in, lr_facts[step->first_fact + f].type);
			}
		}
		recorded->detail_length = (int) lr_get_varint(&in);
		recorded->detail = lr_get_bytes(&in, recorded->detail_length);
	}
	for (int i = 0; i < evidence->nsteps && in.end - in.at >= 4; i++)
	{
		uint32		number = get_u32(&in);

		memcpy(&evidence->steps[i].duration, &number, sizeof(number));
	}
	return evidence;
}

/* Gives a run the flags that a past one had, whatever they are now; before there were any in evidence, all were off. */
void
lr_evidence_restore_flags(const LrEvidence *evidence, LrRun *run)
{
	const LrPolicy *policy = run->batch->policy;

	for (int i = 0; i < policy->nflags; i++)
		lr_run_set(run, policy->flags[i].fact, BoolGetDatum(i < evidence->nflags && evidence->flags[i]));
}

/* Returns the part of evidence that depends on inputs and outputs only. */
const char *
lr_evidence_stable(const char *data, int length, int *stable_length)
{
	LrReader	in = {data, data + length};

	(void) lr_get_bytes(&in, 1);
	*stable_length = (int) get_u32(&in);
	return lr_get_bytes(&in, *stable_length);
}
