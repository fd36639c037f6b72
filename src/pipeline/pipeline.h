/*
 * pipeline.h: runs and batches: how leads go through the steps of a policy version.
 */
#ifndef LR_PIPELINE_H
#define LR_PIPELINE_H

#include "leadroute.h"

#include "agents/contact.h"
#include "intake/intake.h"
#include "policy/policy.h"

/* What a run is to its lead, as in leadroute.entries. */
typedef enum LrMode
{
	LR_MODE_ROUTE = 'r',
	LR_MODE_CANARY = 'c',		/* decided by the candidate of a trial */
	LR_MODE_SHADOW = 's',		/* by a candidate that nobody acts on: no decision of the lead */
	LR_MODE_OBSERVE = 'o'		/* beside another router, that acts */
} LrMode;

typedef enum LrStepStatus
{
	LR_STEP_SKIPPED,
	LR_STEP_DONE,
	LR_STEP_FAILED,
	LR_STEP_WAITING,			/* for an executor, an agent outside, or attributes */
	LR_STEP_BLOCKED				/* by steps before it that wait */
} LrStepStatus;

#define LR_STEP_IS_OPEN(status) ((status) == LR_STEP_WAITING || (status) == LR_STEP_BLOCKED)

typedef struct LrStepResult
{
	LrStepStatus status;
	int			sqlstate;		/* of a failure */
	const char *place;			/* of a failure: what raised, a code, never a value; or NULL */
	StringInfo	detail;			/* the agent's own evidence; of one that is not ours what is known of its attempts, JSON; or NULL */
	bool		asked;			/* it waits, and a task for it has to be made */
	bool		by_fallback;	/* the task is for the fallback agent */
	bool		no_fallback_agent;	/* whose region may not be given the lead */
	bool		held;			/* it waits for attributes */
	TimestampTz held_until;		/* of a step that is, or was, held */
} LrStepResult;

/* One lead going through one policy version. */
typedef struct LrRun
{
	struct LrBatch *batch;
	int64		lead_id;
	char	   *key;			/* of its row, as text; NULL where that is the lead id */
	int			trial_id;		/* 0: it takes part in none */
	int			beside;			/* in a shadow: the run of batch->beside that does act */
	Datum	   *values;			/* facts */
	bool	   *isnull;
	bool		ended;
	LrOutcome	outcome;
	const char *reason;
	LrStepResult *steps;
	int			unreadable;		/* attribute that could not be converted, or -1 */
	int			unreadable_sqlstate;
	Bitmapset  *missing;		/* in a verification: attributes that an agent filled in, whose values are not on record */

	const void *looked_up;		/* what the step in hand looked up for this lead; or NULL */

	/* what validateContact found, for the steps behind it; not on the record but by digest */
	LrMail		mail;
	LrPhone		phone;

	/* who works the lead's account, by role; or NULL */
	const struct LrAccountOwners *account_owners;

	/* assignment */
	LrRule	   *rule;
	int			nhits;			/* under the hit policy unique, where several rules hold: their numbers */
	int		   *hits;
	int			nerrors;		/* rules that raised */
	LrRuleError *errors;
	int			pool_id;
	int			pool_revision_id;
	int64		turn;			/* -1 if none was drawn */
	int			owner_id;
	TimestampTz waiting_since;	/* in an overflow; 0: it is in none */
	int			waiting_pool_id;
	struct LrState *counted;	/* of a lead that somebody has: what it counts until it is decided anew, or NULL */
	bool		repeats;		/* the same as the decision before: only who is there may have changed */
	int			load;			/* what it counts while it is open */
	int64		expected_value; /* PG_INT64_MIN: the rule says nothing of it */
	TimestampTz response_due_at;	/* 0 for none */
	TimestampTz estimated_at;	/* of a lead that overflows; 0: unknown */
	bytea	   *choice;			/* what was read to choose, or NULL */
	int			preferred_owner_id;	/* who has the person's other leads, and is asked before all others; 0: nobody */
	int			naccount_preferred; /* owners of the account, who are asked next, in order */
	int		   *account_preferred;
	const char *preferred_reason;
	int64		preferred_lead_id;	/* the earlier lead of the same person; 0 if there is none */
	int			nexcluded;		/* owners who declined the lead, and are not asked again */
	int		   *excluded;
	int			same_person_as;	/* the run of the batch, before this one, whose owner it is to have; until rules are found, the next one of the same person; -1: none */

	/* record: places in the batch's buffers */
	int			attributes_at;
	int			attributes_length;
	int			evidence_at;
	int64		run_id;
	int64		supersedes;		/* 0 if it is the lead's first */
	bool		known;			/* the lead may have a row in lead_states */
	bool		has_state;		/* it has, and it is locked */
	const ItemPointerData *state_tid;	/* where; NULL: wherever it is. Of a run that waits: nobody has its lead */
	TimestampTz responded_at;	/* what stays of that state; 0 for null */
	bool		merged;			/* into another lead, which is routed in its place */
	bool		finished;		/* the lead is closed, won or lost: its decision stands until it is reopened */
	bool		unchanged;		/* routed by hand, and nothing changed: the run is not written */
	bool		in_hand;		/* its lead waits in the middle of a run */
	bool		has_tasks;		/* tasks may be left, of this run that goes on or of the one that it supersedes */
	int			entry_no;		/* of the entry before, if the run goes on; 0: it begins */
	struct LrContinued *continued;	/* what is on record of it; NULL: it begins */

	void	   *evaluation;		/* of who decides without writing */
} LrRun;

/* Many leads going through one policy version in one statement: the unit of work. */
typedef struct LrBatch
{
	MemoryContext memory;
	MemoryContext statement_memory; /* outlives the batch */
	MemoryContext lookup_memory;	/* what agents looked up, for the batches to come */
	void	   *lookups;
	LrPolicy   *policy;
	LrSource   *source;
	TimestampTz as_of;
	char		cause;			/* as in leadroute.entries */
	LrMode		mode;
	struct LrBatch *beside;		/* of a shadow: the batch that acts */
	const char *note;			/* or NULL */
	Oid			user;			/* who caused it */
	bool		verifying;		/* a past run: nothing is looked up, drawn or written */
	bool		evaluating;		/* to see what would come out: nothing is drawn or written, and agents cannot write either */
	bool		unrecorded;		/* no evidence is made */
	bool		linear;			/* rules are tried one after the other, without the index */
	bool		continuing;		/* runs that waited; their flags are those that they had */
	struct LrExecution *execution;	/* of an executor: steps of workers are done in it; or NULL */
	bool		(*instead) (LrStep *step, LrRun *run);	/* does a step in another way, if it returns true; or NULL */
	int			n;
	int			allocated;
	LrRun	   *runs;
	StringInfoData attributes;	/* of all runs: the first part of their evidence */
	StringInfoData evidence;	/* of all runs: finished, each a bytea */
	float	   *durations;		/* of each step, in microseconds a lead */
	float		total_duration;
} LrBatch;

/* batch.c */
extern void lr_batch_init(LrBatch *batch, LrPolicy *policy, LrSource *source, TimestampTz as_of, char cause, Oid user);
extern LrRun *lr_batch_add(LrBatch *batch);
extern void lr_batch_run(LrBatch *batch);
extern void lr_batch_clear(LrBatch *batch);
extern void lr_step_run(LrStep *step, LrRun *run);
extern void lr_run_apply_stops(LrStep *step, LrRun *run);
extern bool lr_step_wanted(const LrStep *step, const LrRun *run);
extern void lr_run_finish(LrRun *run);

extern bool lr_batch_acts(const LrBatch *batch);
extern bytea *lr_run_evidence(const LrRun *run);

/* For agents: giving outputs, details and failing. */
extern StringInfo lr_detail_make(void);
extern void lr_run_set_text(LrRun *run, int fact, const char *value);
extern void lr_run_set_texts(LrRun *run, int fact, const char *const *values, int n);
extern void lr_run_set(LrRun *run, int fact, Datum value);
extern void lr_run_set_detail(LrRun *run, const LrStep *step, const char *detail, int length);
extern void lr_run_fail(LrRun *run, LrStep *step, int sqlstate, const char *place);
extern void lr_run_end(LrRun *run, LrOutcome outcome, const char *reason);

/* routing.c: from rows to decisions, in sets */
typedef struct LrRouting LrRouting;
typedef void (*LrRunDone) (const LrRun *run, void *argument);

extern LrRouting *lr_routing_begin(LrSource *source, char cause, const char *note, LrRunDone done, void *argument);
extern LrRouting *lr_routing_begin_dry(LrSource *source, char cause, LrRunDone done, void *argument);
extern bool lr_routing_waits(const LrRouting *routing);
extern void lr_routing_wait(LrRouting *routing, const char *reason);
extern void lr_routing_require_policy(const LrRouting *routing);
extern void lr_routing_add(LrRouting *routing, TupleTableSlot *slot);
extern int64 lr_routing_end(LrRouting *routing);

/* manual.c: leads by their ids */
typedef struct LrByIds
{
	char		cause;			/* as in leadroute.entries */
	const char *note;
	const char *policy;			/* NULL: that of the lead's table */
	bool		locked;			/* the states are, and keep others from deciding; otherwise the leads' rows are locked */
	bool		dry;			/* nothing is drawn or written */
	List	  **left;			/* gets the places of leads that cannot be routed; NULL: that raises */
	LrRunDone	done;
	void	   *argument;
} LrByIds;

extern void lr_route_by_ids(const int64 *lead_ids, int n, const LrByIds *how);

/* waiting.c: steps that wait, and their tasks */
struct LrRecorder;

/* What takes longer, in microseconds, is done while nobody's run is held. */
#define LR_SLOW_STEP 5000

#define LR_ERRCODE_REGION MAKE_SQLSTATE('L', 'R', '0', '1', '3')

extern bool lr_step_blocked(const LrStep *step, const LrRun *run);
extern bool lr_step_held(LrStep *step, LrRun *run);
extern bool lr_step_asks(LrStep *step, LrRun *run);
extern bool lr_step_may_be_given(const LrStep *step, const LrRun *run, const LrAgent *agent);
extern void lr_step_give_up(LrStep *step, LrRun *run, int sqlstate, const char *place);
extern void lr_step_fail(LrStep *step, LrRun *run, int sqlstate, const char *place);
extern double lr_step_confidence(const LrStep *step, Datum output);
extern double lr_run_confidence(const LrRun *run);
extern void lr_tasks_write(struct LrRecorder *recorder, LrBatch *batch);
extern void lr_tasks_remove(const LrBatch *batch);

/* unchanged.c */
extern void lr_find_unchanged(LrBatch *batch);

/* pause.c */
extern bool lr_paused(const LrRun *run);

/* going_on.c: runs that waited go on */
typedef struct LrContinuation
{
	int64		run_id;
	int64		lead_id;
	int			step;			/* whose result this is; -1: no result, just have a look */
	bool		execute;		/* an executor has it: the step is done now */
	bool		failed;			/* for good; of one that is executed: this time */
	int			sqlstate;
	const char *place;			/* or NULL */
	Datum		output;			/* jsonb; 0 if it failed */
	const char *detail;			/* JSON; or NULL */
	int			detail_length;
	bool		taken;			/* the result is in the run's record, or nobody wants it any more */
	bool		slow;			/* of one that is executed: in a transaction that holds no run */
	bool		by_fallback;	/* of one that is executed: by the fallback agent */
	int			attempts_before;	/* of one that is executed */
	int			policy_version_id;	/* of one that is executed */
	char	   *history;		/* of one that is executed: attempts before, a JSON array; or NULL */
} LrContinuation;

/* What an executor does in one transaction. */
typedef struct LrExecution
{
	MemoryContext memory;		/* outlives the runs */
	TimestampTz until;			/* begins nothing after that */
	bool		careful;		/* begins no step whose task is new: if it ended the transaction, nobody could be told of a failed attempt */
	List	   *failed;			/* of LrContinuation: attempts that failed of steps that were begun at once, whose tasks are new */
	int			nagents;
	struct
	{
		int			agent_id;
		int			succeeded;
		int			failed;		/* since the last one that succeeded */
		int			sqlstate;	/* of the last one that failed */
	}			agents[64];		/* how they fared, as far as there is room */
} LrExecution;

/* States that somebody has locked, and the runs of those that wait. */
typedef struct LrLocked
{
	int64	   *lead_ids;		/* ascending */
	int			nleads;
	struct LrWaiting *waiting;
	int			nwaiting;
} LrLocked;

typedef struct LrGoingOn
{
	char		cause;			/* as in leadroute.entries; 0: that of the run */
	LrLocked   *locked;			/* all that items are about, by who calls; NULL: they are to be locked */
	bool		skip_locked;	/* leave out runs that somebody else has in hand */
	bool		check_tasks;	/* a step that waits, and whose task is gone, is asked again */
	LrExecution *execution;		/* of an executor; or NULL */
	LrRunDone	done;
	void	   *argument;
} LrGoingOn;

extern void lr_keep_results(LrRun *run);
extern void lr_runs_check(void);
extern int64 lr_runs_continue(LrContinuation *items, int n, const LrGoingOn *how);
extern void lr_runs_execute(LrContinuation *items, int n, LrExecution *execution);
extern bool lr_step_execute(LrStep *step, LrRun *run, LrContinuation *item);

#endif
