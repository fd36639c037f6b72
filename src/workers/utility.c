/*
 * utility.c: commands before which workers leave a database, and after which they come back.
 *
 * DROP DATABASE, RENAME, SET TABLESPACE and CREATE DATABASE ... TEMPLATE fail while somebody is connected. DROP EXTENSION and ALTER
 * EXTENSION ... UPDATE want all our tables for themselves, and what workers hold in memory is not good behind them. So these
 * commands, when their user may give them, first ask the workers of the database to leave, and wait until they have. Those that wait go at once,
 * those amid a transaction are given a moment and then a SIGTERM, as pg_terminate_backend() does. They stay away until the
 * command's transaction has ended, whatever its end; then the launcher looks what there is.
 *
 * Commands that make or change databases wake the launcher. COMMIT PREPARED tells the workers what the transaction could not.
 */
#include "workers/processes.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/objectaddress.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "tcop/utility.h"
#include "utils/memutils.h"

#include <signal.h>

#define EXTENSION "leadroute"

/* In steps of the wait, of 10 ms: when workers amid a transaction are terminated, and when the command is left to find out itself. */
#define STEP_MS 10
#define TERMINATE_AFTER 20
#define TERMINATE_EVERY 100
#define GIVE_UP_AFTER 1000

static ProcessUtility_hook_type previous_utility = NULL;

/* Places of databases that this transaction keeps workers out of. */
static List *left = NIL;
static bool databases_changed = false;

static void utility(PlannedStmt *planned, const char *query, bool read_only_tree, ProcessUtilityContext context, ParamListInfo params,
					QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion);
static void before(Node *statement);
static void before_create_database(CreatedbStmt *statement);
static void before_alter_database(AlterDatabaseStmt *statement);
static void before_drop_extension(DropStmt *statement);
static void leave_database(const char *name);
static void leave_for_extension(void);
static void leave(Oid database);
static int	ask_to_leave(LrDatabase *database, bool terminate);
static int	ask_worker(LrWorker *worker, bool terminate);
static void transaction_ended(XactEvent event, void *argument);

/* Registers the hooks; only where there is shared memory. */
void
lr_utility_init(void)
{
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = utility;
	RegisterXactCallback(transaction_ended, NULL);
}

static void
utility(PlannedStmt *planned, const char *query, bool read_only_tree, ProcessUtilityContext context, ParamListInfo params,
		QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	Node	   *statement = planned->utilityStmt;
	bool		prepared = IsA(statement, TransactionStmt) && ((TransactionStmt *) statement)->kind == TRANS_STMT_COMMIT_PREPARED;

	if (!IsA(statement, TransactionStmt) && !RecoveryInProgress())
		before(statement);
	if (previous_utility)
		previous_utility(planned, query, read_only_tree, context, params, environment, dest, completion);
	else
		standard_ProcessUtility(planned, query, read_only_tree, context, params, environment, dest, completion);
	if (prepared)
		lr_workers_notice(LR_NOTICE_WORK | LR_NOTICE_TASKS | LR_NOTICE_TIMERS);
}

static void
before(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			leave_database(((DropdbStmt *) statement)->dbname);
			break;
		case T_RenameStmt:
			if (((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
				leave_database(((RenameStmt *) statement)->subname);
			break;
		case T_CreatedbStmt:
			before_create_database((CreatedbStmt *) statement);
			break;
		case T_AlterDatabaseStmt:
			before_alter_database((AlterDatabaseStmt *) statement);
			break;
		case T_DropStmt:
			if (((DropStmt *) statement)->removeType == OBJECT_EXTENSION)
				before_drop_extension((DropStmt *) statement);
			break;
		case T_AlterExtensionStmt:
			if (strcmp(((AlterExtensionStmt *) statement)->extname, EXTENSION) == 0)
				leave_for_extension();
			break;
		default:
			break;
	}
}

static void
before_create_database(CreatedbStmt *statement)
{
	ListCell   *cell;

	databases_changed = true;
	foreach(cell, statement->options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "template") == 0 && option->arg)
			leave_database(defGetString(option));
	}
}

static void
before_alter_database(AlterDatabaseStmt *statement)
{
	ListCell   *cell;

	databases_changed = true;
	foreach(cell, statement->options)
	{
		if (strcmp(lfirst_node(DefElem, cell)->defname, "tablespace") == 0)
			leave_database(statement->dbname);
	}
}

static void
before_drop_extension(DropStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->objects)
	{
		if (strcmp(strVal(lfirst(cell)), EXTENSION) == 0)
			leave_for_extension();
	}
}

/* Has workers leave a database, if it is the user's. */
static void
leave_database(const char *name)
{
	Oid			database = name ? get_database_oid(name, true) : InvalidOid;

	if (OidIsValid(database) && lr_owns_database(database, GetUserId()))
		leave(database);
}

/* Has workers leave this database, if the extension is there and the user's. */
static void
leave_for_extension(void)
{
	Oid			extension = get_extension_oid(EXTENSION, true);

	if (OidIsValid(extension) && lr_owns_extension(extension, GetUserId()))
		leave(MyDatabaseId);
}

/* Has all workers leave a database until the transaction ends; returns when they are gone. */
static void
leave(Oid database)
{
	LrDatabase *place;
	MemoryContext old;

	LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
	place = lr_database_find(database, true);
	LWLockRelease(lr_shared->lock);
	if (place == NULL)
		return;
	if (!list_member_ptr(left, place))
	{
		old = MemoryContextSwitchTo(TopMemoryContext);
		left = lappend(left, place);
		MemoryContextSwitchTo(old);
		LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
		place->leavers++;
		LWLockRelease(lr_shared->lock);
	}
	for (int step = 0; step < GIVE_UP_AFTER; step++)
	{
		if (ask_to_leave(place, step % TERMINATE_EVERY == TERMINATE_AFTER) == 0)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, STEP_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Wakes the workers of a database that somebody wants for himself, or terminates them; returns how many there are. */
static int
ask_to_leave(LrDatabase *database, bool terminate)
{
	int			n;

	LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
	n = ask_worker(&database->scheduler, terminate);
	for (int i = 0; i < LR_MAX_EXECUTORS; i++)
		n += ask_worker(&database->executors[i], terminate);
	LWLockRelease(lr_shared->lock);
	return n;
}

static int
ask_worker(LrWorker *worker, bool terminate)
{
	/* one that has not begun finds that it is no longer meant */
	worker->starting = false;
	if (worker->pid == 0 || worker->pid == MyProcPid)
		return 0;
	SetLatch(worker->latch);
	/* it cannot have ended: it frees its place before */
	if (terminate)
		kill(worker->pid, SIGTERM);
	return 1;
}

/* Lets workers come back, whether what was wanted has been done or not. */
static void
transaction_ended(XactEvent event, void *argument)
{
	ListCell   *cell;

	if (likely(left == NIL && !databases_changed))
		return;
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	LWLockAcquire(lr_shared->lock, LW_EXCLUSIVE);
	foreach(cell, left)
	{
		LrDatabase *place = lfirst(cell);

		place->leavers--;
		if (place->state != LR_DATABASE_CLOSED)
			lr_database_ask(place);
	}
	lr_launcher_wake(true);
	LWLockRelease(lr_shared->lock);
	list_free(left);
	left = NIL;
	databases_changed = false;
}
