/*
 * task_rows.h: rows of leadroute.tasks by their key.
 */
#ifndef LR_TASK_ROWS_H
#define LR_TASK_ROWS_H

#include "leadroute.h"

#include "storage/itemptr.h"

/* A task, as far as those who give it back want to know. */
typedef struct LrTaskRow
{
	ItemPointerData tid;
	int64		lead_id;
	int64		token;			/* 0 for null */
	int			policy_version_id;
	int			queue_id;		/* 0 for null */
	char		state;
	char	   *holder;			/* or NULL */
	Datum		history;		/* jsonb; 0 for null */
} LrTaskRow;

typedef struct LrTaskRows LrTaskRows;

extern LrTaskRows *lr_task_rows_open(void);
extern void lr_task_rows_close(LrTaskRows *rows);
extern bool lr_task_row_find(LrTaskRows *rows, int64 run_id, int step_no, LrTaskRow *row);
extern bool lr_task_row_delete(LrTaskRows *rows, LrTaskRow *row);

#endif
