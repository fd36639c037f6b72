/*
 * writer.h: appending many rows to one of our tables.
 */
#ifndef LR_WRITER_H
#define LR_WRITER_H

#include "leadroute.h"

#include "executor/tuptable.h"

typedef struct LrWriter LrWriter;

extern void lr_writer_init(void);
extern LrWriter *lr_writer_open(Oid relid, int capacity);
extern TupleTableSlot *lr_writer_row(LrWriter *writer);
extern void lr_writer_replace(LrWriter *writer, const ItemPointerData *tid);
extern void lr_writer_flush(LrWriter *writer);
extern bool lr_writer_flush_new(LrWriter *writer, bool *taken);
extern void lr_writer_close(LrWriter *writer);

#endif
