/*
 * processes.h: what the files of the background workers share: the memory in which they and all sessions meet, and the frame
 * that scheduler and executors run in.
 */
#ifndef LR_PROCESSES_H
#define LR_PROCESSES_H

#include "workers/workers.h"

#include "port/atomics.h"
#include "postmaster/bgworker.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

#define LR_MAX_EXECUTORS 32

/* How many kinds of failure of one part of a database are told apart. */
#define LR_MAX_FAILURES 4

/* What a database needs of the launcher. */
typedef enum LrDatabaseState
{
	LR_DATABASE_ASK,			/* a scheduler, which looks what there is */
	LR_DATABASE_STARTING,
	LR_DATABASE_RUNNING,
	LR_DATABASE_FAILED,			/* another scheduler, at retry_at */
	LR_DATABASE_NO_WORKER,		/* a scheduler, at retry_at: the server had no process for it */
	/* nothing, until somebody says that it has changed */
	LR_DATABASE_ABSENT,			/* the extension is not installed */
	LR_DATABASE_VERSION,		/* it is, in another version than the library's */
	LR_DATABASE_COPY,			/* the database is a copy */
	LR_DATABASE_OFF,			/* leadroute.workers is off */
	LR_DATABASE_CLOSED,			/* it is a template, or allows no connections */
	LR_N_DATABASE_STATES
} LrDatabaseState;

extern const char *const lr_database_state_names[LR_N_DATABASE_STATES];

/* Failures of one kind, so that the log has one line for many. */
typedef struct LrFailure
{
	int			sqlstate;
	int64		silent;			/* not logged since the last one that was */
	TimestampTz logged_at;
} LrFailure;

/* A scheduler or an executor. Written by itself, under the lock but for idle; read by all. */
typedef struct LrWorker
{
	int			pid;			/* 0: nobody */
	Latch	   *latch;
	uint32		generation;		/* the one that was registered last: others go */
	bool		starting;
	pg_atomic_uint32 idle;		/* an executor that waits, and that nobody has woken */
	char		doing[32];
	TimestampTz since;
	TimestampTz started_at;
	int64		tasks;
	int64		transactions;
	int64		failures;
	int			sqlstate;		/* of the last one */
	TimestampTz failed_at;
	TimestampTz retry_at;		/* 0: it holds nothing back */
} LrWorker;

typedef struct LrDatabase
{
	Oid			database;		/* invalid: free */
	LrDatabaseState state;
	int			leavers;		/* transactions that want nobody in it */
	uint32		asks;			/* how often somebody said that something has changed */
	int			failures;		/* schedulers in a row that ended by themselves */
	TimestampTz retry_at;
	pg_atomic_uint32 notices;
	LrFailure	scheduler_failures[LR_MAX_FAILURES];
	LrFailure	executor_failures[LR_MAX_FAILURES];
	LrWorker	scheduler;
	LrWorker	executors[LR_MAX_EXECUTORS];
} LrDatabase;

typedef struct LrShared
{
	LWLock	   *lock;
	int			launcher_pid;
	Latch	   *launcher;
	TimestampTz launched_at;
	bool		rescan;			/* databases have come, gone or changed */
	int			size;
	LrDatabase	databases[FLEXIBLE_ARRAY_MEMBER];
} LrShared;

/* What a new process is told. */
typedef struct LrStart
{
	Oid			database;
	int			place;
	int			executor;		/* -1: the scheduler */
	uint32		generation;
} LrStart;

/* ---- settings, in notice.c ---- */
extern bool lr_workers_enabled;
extern int	lr_max_executors;
extern int	lr_poll_interval;
extern int	lr_tasks_per_transaction;
extern int	lr_executor_idle_time;
extern int	lr_worker_lock_timeout;

/* ---- shared.c ---- */
extern LrShared *lr_shared;
extern void lr_shared_init(void);
extern LrDatabase *lr_database_find(Oid database, bool create);
extern LrDatabase *lr_database_mine(void);
extern void lr_database_ask(LrDatabase *database);
extern void lr_database_wake(LrDatabase *database);
extern void lr_launcher_wake(bool rescan);
extern bool lr_executor_wake(LrDatabase *database);
extern int64 lr_failure_note(LrFailure *failures, int sqlstate);

/* ---- launcher.c, scheduler.c, executor.c: where processes begin ---- */
extern void lr_launcher_init(void);
pg_noreturn extern PGDLLEXPORT void leadroute_launcher_main(Datum argument);
pg_noreturn extern PGDLLEXPORT void leadroute_scheduler_main(Datum argument);
pg_noreturn extern PGDLLEXPORT void leadroute_executor_main(Datum argument);

/* ---- duties.c ---- */
extern void lr_duties_find(void);
extern void lr_duties_look(void);
extern void lr_duties_peek(void);
extern TimestampTz lr_duties_do(void);
extern void lr_duties_begin(void);
extern int	lr_duties_count(void);
extern const char *lr_duty_doing(int number);
extern const char *lr_duty_function(int number);
extern int64 lr_duty_call(int number, int max);
extern void lr_agents_tell(void);

/* ---- process.c ---- */
extern LrDatabase *lr_process_database;
extern LrWorker *lr_process_worker;
extern bool lr_process_register(const LrStart *start, BackgroundWorkerHandle **handle);
extern void lr_process_signals(void);
extern void lr_process_begin(void);
extern void lr_process_check(void);
pg_noreturn extern void lr_process_end(LrDatabaseState state);
extern bool lr_process_transaction(const char *doing, void (*body) (void *), void *argument);
extern int	lr_process_sqlstate(void);
extern void lr_process_wait(TimestampTz until);

/* ---- utility.c ---- */
extern void lr_utility_init(void);

#endif
