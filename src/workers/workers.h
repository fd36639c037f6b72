/*
 * workers.h: what waits for somebody outside of the inserting transaction, and who sees to it.
 */
#ifndef LR_WORKERS_H
#define LR_WORKERS_H

#include "leadroute.h"

/* What a transaction leaves behind for the workers of its database. */
typedef enum LrNotice
{
	LR_NOTICE_WORK = 1,			/* tasks for executors */
	LR_NOTICE_TASKS = 2,		/* tasks for agents outside */
	LR_NOTICE_TIMERS = 4,		/* something is due at a new moment */
	LR_NOTICE_INSTALLED = 8		/* the extension is here, or another version, or may work now */
} LrNotice;

/* notice.c */
extern void lr_workers_init(void);
extern void lr_workers_notice(int what);

/* identity.c */
extern bool lr_is_copy(void);

/* work.c */
extern int	lr_work(int max);
extern void lr_keep_memory(void);
extern void lr_work_enter(int64 run_id, int step_no, int attempts_before, int64 limit);
extern void lr_work_leave(void);
extern bool lr_work_passed_over(void);
extern bool lr_work_failed(int sqlstate);
extern void lr_work_report_failed(void);

/* events.c */
struct LrBatch;
struct LrRecorder;
struct LrLeadAct;

extern void lr_events_init(void);
extern void lr_events_of_batch(struct LrRecorder *recorder, struct LrBatch *batch);
extern void lr_events_of_waiting(const int64 *lead_ids, int n, TimestampTz at);
extern void lr_events_of_removed(const int64 *lead_ids, int n);
extern void lr_event_of_act(const struct LrLeadAct *act);

/* sla_ladder.c */
extern void lr_slas_init(void);

/* sla.c */
extern void lr_slas_of_batch(struct LrRecorder *recorder, struct LrBatch *batch);
extern void lr_sla_of_act(const struct LrLeadAct *act);

#endif
