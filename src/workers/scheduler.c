/*
 * scheduler.c: the process that sees to a database: timers, agents outside, and that there are executors.
 *
 * It sleeps until the next moment at which something is due, or until somebody wakes it. Transactions that leave work for executors wake
 * one that waits themselves (notice.c); where none does, the scheduler starts one, up to leadroute.max_executors. Now and then it
 * has one look without being told. Agents outside are told by NOTIFY, once for each queue that has new tasks, however many
 * transactions brought them.
 *
 * If the extension is not installed, or in another version than the library's, or if the database is a copy, the scheduler leaves, and
 * says so to the launcher.
 */
#include "workers/processes.h"

#include "executor/spi.h"
#include "miscadmin.h"

/* Agents outside are told no more often. */
#define TELL_APART (20 * 1000)

/* Once in a while without being asked to. */
#define TELL_EVERY (60 * USECS_PER_SEC)

#define MAX_RETRY (60 * USECS_PER_SEC)

static BackgroundWorkerHandle *handles[LR_MAX_EXECUTORS];

/* What there was at the last look. */
static LrDatabaseState found;
static bool has_queues;

static TimestampTz told_at = 0;
static TimestampTz start_at = 0;
static int	start_failures = 0;

static void look_or_leave(void);
static void look(void *argument);
static void tell_agents(void *argument);
static TimestampTz look_after_executors(bool poll);
static bool is_starting(int *alive, int *free);
static void start_executor(int number);
static void retry_later(void);

void
leadroute_scheduler_main(Datum argument)
{
	LrDatabase *database;
	TimestampTz poll_at = 0;
	bool		tell = true;
	bool		first = true;

	lr_process_begin();
	database = lr_process_database;
	look_or_leave();
	lr_duties_find();
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		uint32		notices = pg_atomic_fetch_and_u32(&database->notices, ~(uint32) (LR_NOTICE_TASKS | LR_NOTICE_TIMERS));
		bool		poll = now >= poll_at;
		TimestampTz next;

		if (poll)
		{
			if (!first)
				look_or_leave();
			first = false;
			poll_at = now + lr_poll_interval * INT64CONST(1000);
		}
		next = look_after_executors(poll);
		tell |= (notices & LR_NOTICE_TASKS) != 0 || now - told_at >= TELL_EVERY;
		if (tell && now - told_at >= TELL_APART)
		{
			told_at = now;
			tell = !lr_process_transaction("telling agents", tell_agents, NULL);
		}
		if (tell)
			next = Min(next, told_at + TELL_APART);
		if (notices & LR_NOTICE_TIMERS)
			lr_duties_look();
		next = Min(next, lr_duties_do());
		lr_process_wait(Min(next, poll_at));
	}
}

/* ---- what there is ---- */

static void
look_or_leave(void)
{
	found = LR_DATABASE_RUNNING;
	if (!lr_process_transaction("looking", look, NULL) || found == LR_DATABASE_RUNNING)
		return;
	if (found == LR_DATABASE_COPY || found == LR_DATABASE_VERSION)
	{
		int64		count;

		LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
		count = lr_failure_note(lr_process_database->scheduler_failures, found);
		LWLockRelease(lr_shared->lock);
		if (count > 0)
			ereport(LOG,
					errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg(found == LR_DATABASE_COPY ? "leadroute: database %u is a copy: no workers there" :
						   "leadroute: database %u has the extension in another version than the library's: no workers there", MyDatabaseId),
					errhint(found == LR_DATABASE_COPY ? "Once nothing else acts for these leads, call leadroute.resume_after_restore()." :
							"Run ALTER EXTENSION leadroute UPDATE, and restart the server if the library is the older one."));
	}
	lr_process_end(found);
}

static void
look(void *argument)
{
	char	   *version = lr_installed_version();
	LrIdentity	identity;
	bool		isnull;

	if (version == NULL)
		found = LR_DATABASE_ABSENT;
	else if (strcmp(version, LR_VERSION) != 0)
		found = LR_DATABASE_VERSION;
	else if (lr_is_copy())
		found = LR_DATABASE_COPY;
	else
	{
		lr_sql_begin(&identity);
		(void) lr_sql("SELECT EXISTS (SELECT FROM leadroute.task_queues WHERE NOT external)", true, 0, NULL, NULL, NULL);
		has_queues = DatumGetBool(lr_sql_datum(0, 1, &isnull));
		lr_sql_end(&identity);
		lr_duties_peek();
	}
}

static void
tell_agents(void *argument)
{
	lr_agents_tell();
}

/* ---- executors ---- */

/* Sees to it that there are executors where there is work for them; returns when to look again. */
static TimestampTz
look_after_executors(bool poll)
{
	LrDatabase *database = lr_process_database;
	bool		work = (pg_atomic_read_u32(&database->notices) & LR_NOTICE_WORK) != 0;
	int			alive;
	int			free;
	TimestampTz now;

	/* one at a time: whether another is needed shows when this one has begun */
	if (is_starting(&alive, &free))
		return DT_NOEND;
	if (alive > 0)
	{
		if ((work || poll) && lr_executor_wake(database))
			return DT_NOEND;
		if (!work)
			return DT_NOEND;
	}
	else if (!work && !has_queues)
		return DT_NOEND;
	if (alive >= lr_max_executors || free < 0)
		return DT_NOEND;
	now = GetCurrentTimestamp();
	if (now >= start_at)
		start_executor(free);
	return Max(start_at, now);
}

/* Tells whether an executor has been registered and has not begun; counts those that have, and finds a place for another. */
static bool
is_starting(int *alive, int *free)
{
	LrDatabase *database = lr_process_database;
	bool		starting = false;
	pid_t		pid;

	*alive = 0;
	*free = -1;
	LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
	for (int i = LR_MAX_EXECUTORS - 1; i >= 0; i--)
	{
		LrWorker   *executor = &database->executors[i];

		if (executor->starting && (handles[i] == NULL || GetBackgroundWorkerPid(handles[i], &pid) == BGWH_STOPPED))
		{
			/* it never began, or was an earlier scheduler's */
			executor->starting = false;
			if (handles[i])
				retry_later();
		}
		if (executor->starting)
			starting = true;
		else if (executor->pid)
			(*alive)++;
		else if (i < lr_max_executors)
			*free = i;
	}
	LWLockRelease(lr_shared->lock);
	return starting;
}

static void
start_executor(int number)
{
	LrDatabase *database = lr_process_database;
	LrWorker   *executor = &database->executors[number];
	LrStart		start = {.database = MyDatabaseId,.place = (int) (database - lr_shared->databases),.executor = number};
	int64		count;

	if (handles[number])
	{
		pfree(handles[number]);
		handles[number] = NULL;
		/* one that never got anything done: the next would fare no better at once */
		if (executor->transactions == 0)
		{
			retry_later();
			return;
		}
		start_failures = 0;
	}
	LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
	executor->starting = true;
	executor->transactions = 0;
	start.generation = ++executor->generation;
	LWLockRelease(lr_shared->lock);
	if (lr_process_register(&start, &handles[number]))
		return;

	retry_later();
	LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
	executor->starting = false;
	count = lr_failure_note(database->executor_failures, ERRCODE_INSUFFICIENT_RESOURCES);
	LWLockRelease(lr_shared->lock);
	if (count > 0)
		ereport(LOG,
				errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("leadroute: there is no process free for an executor of database %u", MyDatabaseId),
				errhint("Raise max_worker_processes: one for each database with leadroute, leadroute.max_executors more for each, and one for the launcher."));
}

static void
retry_later(void)
{
	start_at = GetCurrentTimestamp() + Min(MAX_RETRY, USECS_PER_SEC << Min(start_failures++, 10));
}
