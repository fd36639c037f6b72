/*
 * intake.h: attached tables, and reading a row of one as a lead.
 */
#ifndef LR_INTAKE_H
#define LR_INTAKE_H

#include "leadroute.h"

#include "executor/tuptable.h"
#include "fmgr.h"
#include "nodes/execnodes.h"
#include "utils/rel.h"

struct LrRun;

typedef enum LrColumnKind
{
	LR_COLUMN_NONE,
	LR_COLUMN_DIRECT,			/* the column has the attribute's type, or one of the same form */
	LR_COLUMN_CONVERTED,
	LR_COLUMN_CONSTANT,
	LR_COLUMN_MISSING			/* it was mapped, and is renamed or dropped since */
} LrColumnKind;

typedef struct LrColumn
{
	LrColumnKind kind;
	AttrNumber	attnum;
	ExprState  *conversion;
	Datum		constant;
} LrColumn;

/* How a column of the key becomes text: as a cast to text does it, which is not always the type's output function. */
typedef struct LrKeyText
{
	bool		casts;			/* cast gives text; otherwise it gives a C string */
	FmgrInfo	function;
} LrKeyText;

/* A table, or a partition of one, whose rows are leads: how to read them. */
typedef struct LrSource
{
	Oid			relid;			/* hash key: the relation whose rows are read */
	bool		valid;
	MemoryContext memory;
	int			source_id;
	Oid			root;			/* the attached table */
	char	   *policy;
	bool		keyed;
	int			nkeys;
	AttrNumber *keys;
	char	  **key_names;
	LrKeyText  *key_text;
	bool		observed;		/* another router acts, we decide beside it */
	AttrNumber	baseline_owner; /* the column with the owner that it gives; or 0 */
	LrKeyText	baseline_text;
	bool		key_plain;		/* all key columns are classed plain */
	LrColumn	columns[LR_N_ATTRIBUTES];
	LrClass		classes[LR_N_ATTRIBUTES];
	bool		follows_settings;	/* a conversion does, such as that of text to a time */
	int			nrest;			/* columns that are reachable in attributes */
	AttrNumber *rest;
	int			nplain_keys;	/* members of attributes that are classed plain */
	char	  **plain_keys;
	int			nreroute;
	AttrNumber *reroute;
	TupleDesc	desc;
	ExprContext *context;
} LrSource;

/* source.c */
extern void lr_intake_init(void);
extern LrSource *lr_source(Relation rel);
extern LrSource *lr_source_by_id(int source_id);

/* lead.c */
extern void lr_lead_read(const LrSource *source, TupleTableSlot *slot, struct LrRun *run);
extern char *lr_lead_key(const LrSource *source, TupleTableSlot *slot);
extern int64 lr_lead_id_direct(const LrSource *source, TupleTableSlot *slot);

/* columns.c */
extern Datum lr_columns_to_jsonb(const LrSource *source, TupleTableSlot *slot, const Datum *own);

/* keys.c */
extern void lr_key_text_init(LrKeyText *key_text, Oid type);
extern char *lr_key_text(LrKeyText *key_text, Datum value);
extern int64 lr_key_find(int source_id, char *key);
extern void lr_lead_keys_find(const LrSource *source, MinimalTuple *rows, int n, char **keys, int64 *lead_ids);
extern char *lr_key_of_lead(int source_id, int64 lead_id);
extern void lr_keys_of_leads(const LrSource *source, const int64 *lead_ids, int n, char **keys);

/* rows.c */
typedef struct LrRowScan LrRowScan;

extern LrRowScan *lr_rows_begin(const LrSource *source);
extern LrRowScan *lr_rows_begin_keys(const LrSource *source, char **keys, int n, bool lock);
extern bool lr_rows_next(LrRowScan *scan, TupleTableSlot *slot);
extern void lr_rows_end(LrRowScan *scan);
extern void lr_leads_fetch(const LrSource *source, const int64 *lead_ids, int n, HeapTuple *rows);
extern bool lr_lead_fetch(const LrSource *source, int64 lead_id, bool lock, TupleTableSlot *slot);

#endif
