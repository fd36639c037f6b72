/*
 * guard.c: running what may raise, so that a bad lead never breaks an insert.
 *
 * A condition or an agent that raises an error of data costs that lead its step, not the user the statement. PostgreSQL
 * can only go on after an error from a subtransaction, so that is where such code runs; without an XID of its own one is
 * cheap. What concerns the session or the server rather than the data (cancel, shutdown, out of resources, serialisation
 * failures, internal errors) is raised on. The error's message is dropped: it may hold a value of the lead; what goes on
 * record is the SQLSTATE.
 */
#include "leadroute.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

/*
 * Tells whether an error says something about the data, or the agent, rather than about the session or the server.
 *
 * Not: connection (08), transaction state (25, 2D), rollback (40), resources (53), limits of the program (54), locks and
 * states of objects (55), operator (57), system (58), snapshots (72), configuration file (F0), internal (XX). But 54000 is what
 * functions raise about a value that is beyond them, as chr(1114112) and repeat('x', 2000000000) do: that is about data.
 */
bool
lr_is_data_error(int sqlstate)
{
	static const int aborting[] = {
		MAKE_SQLSTATE('0', '8', '0', '0', '0'), MAKE_SQLSTATE('2', '5', '0', '0', '0'),
		MAKE_SQLSTATE('2', 'D', '0', '0', '0'), MAKE_SQLSTATE('4', '0', '0', '0', '0'),
		MAKE_SQLSTATE('5', '3', '0', '0', '0'), MAKE_SQLSTATE('5', '4', '0', '0', '0'),
		MAKE_SQLSTATE('5', '5', '0', '0', '0'), MAKE_SQLSTATE('5', '7', '0', '0', '0'),
		MAKE_SQLSTATE('5', '8', '0', '0', '0'), MAKE_SQLSTATE('7', '2', '0', '0', '0'),
		MAKE_SQLSTATE('F', '0', '0', '0', '0'), MAKE_SQLSTATE('X', 'X', '0', '0', '0')
	};

	if (sqlstate == ERRCODE_PROGRAM_LIMIT_EXCEEDED)
		return true;
	for (int i = 0; i < (int) lengthof(aborting); i++)
	{
		if (ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_TO_CATEGORY(aborting[i]))
			return false;
	}
	return true;
}

/*
 * Runs body(argument) in an internal subtransaction. Returns true if it returned; false, with its SQLSTATE, if it raised an
 * error of data. Raises any other error on. What body allocates in the current memory context stays.
 */
bool
lr_guard(void (*body) (void *argument), void *argument, int *sqlstate)
{
	return lr_guard_if(body, argument, lr_is_data_error, sqlstate);
}

/* Guards as lr_guard() does, but against the errors of which caught(SQLSTATE), asked once behind the subtransaction, says so. */
bool
lr_guard_if(void (*body) (void *argument), void *argument, bool (*caught) (int sqlstate), int *sqlstate)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool done = false;

	/* up to PostgreSQL 16 there are no subtransactions while parallel workers run, when views unfold entries: nothing is caught then */
	if (IsInParallelMode())
	{
		body(argument);
		return true;
	}
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		body(argument);
		ReleaseCurrentSubTransaction();
		done = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		/* raised on from outside: an abort that finds our subtransaction takes it for a savepoint of the user's */
		if (!caught(error->sqlerrcode))
			ReThrowError(error);
		*sqlstate = error->sqlerrcode;
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return done;
}
