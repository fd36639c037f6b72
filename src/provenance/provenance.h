/*
 * provenance.h: the record: digests, evidence, entries, environments.
 */
#ifndef LR_PROVENANCE_H
#define LR_PROVENANCE_H

#include "leadroute.h"

#include "pipeline/pipeline.h"

#define LR_DIGEST_LENGTH 16


/* digest.c */
extern int	lr_digest_key_id(void);
extern int	lr_digest_key_ids(const int **key_ids);
extern void lr_digest(int key_id, const void *data, size_t length, unsigned char *digest);
extern char *lr_sha256_hex(const void *data, size_t length);
extern void lr_sha256(const void *data, size_t length, unsigned char *digest);

/* environment.c */
extern int	lr_environment_id(void);
extern void lr_environment_json(StringInfo json);

/* evidence.c: writing */
extern void lr_evidence_attributes(LrRun *run);
extern void lr_evidence_flags(LrRun *run);
extern void lr_evidence_finish(LrRun *run);
extern void lr_put_varint(StringInfo out, uint64 value);
extern void lr_put_string(StringInfo out, const char *value);

/* evidence.c: reading */
typedef struct LrReader
{
	const char *at;
	const char *end;
} LrReader;

extern uint64 lr_get_varint(LrReader *in);
extern char *lr_get_string(LrReader *in);
extern const char *lr_get_bytes(LrReader *in, int length);

/* Evidence, read. */
typedef struct LrEvidenceAttribute
{
	bool		known;
	LrClass		class;
	Datum		value;			/* where the class is plain */
	const unsigned char *digest;	/* otherwise */
} LrEvidenceAttribute;

typedef struct LrEvidenceMember
{
	char	   *name;
	char	   *json;
} LrEvidenceMember;

typedef struct LrEvidenceStep
{
	LrStepStatus status;
	char	   *sqlstate;		/* of a failure */
	char	   *place;
	uint32		known;			/* bits of outputs */
	Datum	   *values;
	const char *detail;
	int			detail_length;
	float		duration;		/* microseconds */
} LrEvidenceStep;

typedef struct LrEvidence
{
	const char *stable;
	int			stable_length;
	int			attributes_length;	/* from the beginning to the flags */
	LrEvidenceAttribute attributes[LR_N_ATTRIBUTES];
	int			nmembers;
	LrEvidenceMember *members;
	int			unreadable;		/* attribute, or -1 */
	char	   *unreadable_sqlstate;
	int			nflags;
	bool	   *flags;			/* in the order of policy->flags */
	int			nsteps;
	LrEvidenceStep *steps;
} LrEvidence;

extern LrEvidence *lr_evidence_read(const char *data, int length, const LrPolicy *policy);
extern void lr_evidence_restore_flags(const LrEvidence *evidence, LrRun *run);
extern const char *lr_evidence_stable(const char *data, int length, int *stable_length);
extern void lr_fact_digest(int key_id, int fact, Datum value, unsigned char *digest);

/* restore.c */
typedef struct LrEntry
{
	int64		lead_id;
	TimestampTz as_of;
	int64		turn;			/* -1 for null */
	double		score;			/* NaN for null */
	int			source_id;
	int			policy_version_id;
	int			key_id;
	int			rule_no;		/* -1 for null */
	int			pool_id;
	int			pool_revision_id;
	int			owner_id;
	char		cause;
	char	   *outcome;
	char	   *reason_code;
	bool		by_person;		/* a person decided it: no step ran */
	bytea	   *evidence;
	bytea	   *choice;			/* or NULL */
	char	   *environment;	/* JSON */
} LrEntry;

extern LrEntry *lr_entry_load(int64 run_id);
extern void lr_restore_entry(LrRun *run, const LrEntry *entry, const LrEvidence *evidence, Bitmapset **unavailable);
extern bool lr_restore_needs_row(const LrEvidence *evidence, const Bitmapset *wanted);
extern void lr_restore_attributes(LrRun *run, const LrEvidence *evidence, const Bitmapset *wanted, int key_id, const Datum *current,
								  const bool *current_isnull, Bitmapset **unavailable);
extern bool lr_restore_has_members(const LrEvidence *evidence, List *keys, bool reads_all_keys);
extern void lr_restore_members(LrRun *run, const LrEvidence *evidence);
extern void lr_restore_step(LrRun *run, LrStep *step, const LrEvidenceStep *recorded);

/* unfold.c */
extern void lr_steps_to_json(const LrEvidence *evidence, const LrPolicy *policy, StringInfo json);
extern void lr_evidence_to_json(const LrEvidence *evidence, const LrPolicy *policy, StringInfo json);

/* recording.c: the tables of the record, open for the batches of one statement */
typedef struct LrRecorder
{
	MemoryContext memory;
	int			capacity;
	struct LrWriter *entries;	/* opened when first needed */
	struct LrWriter *states;
	struct LrWriter *changed;	/* states, of leads that waited */
	struct LrWriter *tasks;
	struct LrWriter *events;
	struct LrWriter *clocks;
} LrRecorder;

/* Counts changes of states of leads, by this session. */
extern uint64 lr_state_changes;

extern void lr_record_batch(LrRecorder *recorder, LrBatch *batch);
extern void lr_record_shadow(LrRecorder *recorder, LrBatch *batch);
extern void lr_recorder_end(LrRecorder *recorder);
extern void lr_record_waiting(int source_id, const int64 *lead_ids, int n, const char *reason, bool changed, TimestampTz at, Oid user);
extern void lr_find_states(LrBatch *batch, bool lock);
extern void lr_note_merged_changed(const int64 *lead_ids, int n, TimestampTz at);

/* partition.c */
extern Oid	lr_entries_partition(TimestampTz as_of);
extern Oid	lr_entries_partition_of_past(TimestampTz as_of);

#endif
