/*
 * by_hand.h: what people do with leads once they are routed: what the files by_hand*.c share.
 */
#ifndef LR_BY_HAND_H
#define LR_BY_HAND_H

#include "pipeline/pipeline.h"

/* The state of a lead; moments are 0 for null, ids as well. */
typedef struct LrLeadState
{
	int64		lead_id;
	int64		run_id;
	int			source_id;
	int			policy_version_id;
	LrOutcome	outcome;
	int			owner_id;
	int			pool_id;
	int			score;			/* -1 for null */
	char	   *tier;			/* or NULL */
	char	   *reason_code;
	int			load;
	int64		expected_value; /* PG_INT64_MIN for null */
	TimestampTz since;
	TimestampTz response_due_at;
	TimestampTz accepted_at;
	TimestampTz responded_at;
	TimestampTz finished_at;
	char	   *result;			/* or NULL */
	bool		gone;			/* its row is, or it was merged */
	bool		merged;			/* into another lead */
	bool		by_person;		/* a person made the decision that stands */
	int			entry_no;		/* of the last entry of a run that waits; 0: none does */
	int64		waiting_supersedes; /* what such a run supersedes; 0: nothing */
} LrLeadState;

/* What somebody did with a lead: a row of leadroute.lead_acts. */
typedef struct LrLeadAct
{
	const char *act;
	int64		lead_id;
	int64		run_id;			/* the decision that it is about */
	int64		new_run_id;		/* the one that it made; 0 if none */
	int			owner_id;		/* who had the lead; 0 if nobody */
	const char *reason;			/* a code, or words; or NULL */
	TimestampTz effective_at;	/* 0 for null */
	int64		batch_id;		/* 0 for null */
	Oid			user;
} LrLeadAct;

/* An owner by reference. */
typedef struct LrOwner
{
	int			owner_id;
	bool		available;		/* by switch and dates */
	bool		left;			/* the last day has come */
} LrOwner;

/* What becomes of a lead that is given to an owner who is at a cap. */
typedef enum LrOverCap
{
	LR_OVER_CAP_RAISE,
	LR_OVER_CAP_TELL,			/* lr_give_lead() returns 0 */
	LR_OVER_CAP_FORCE
} LrOverCap;

/* A person's decision. */
typedef struct LrGift
{
	LrOutcome	outcome;
	int			owner_id;		/* 0 unless assigned; 0 with assigned: whoever of the pool can take it, but for who has it */
	int			pool_id;		/* 0: none */
	int			rule_no;		/* where somebody is chosen by the terms of a rule: which */
	LrTerms    *terms;			/* NULL: of none */
	char		cause;			/* as in leadroute.entries */
	const char *reason_code;
	const char *note;
	Oid			user;
	LrOverCap	over_cap;
} LrGift;

/* by_hand_lead.c */
extern void lr_states_enter(void);
extern LrLeadState *lr_lead_states_find(const int64 *lead_ids, int n, bool lock, int *nfound);
extern LrLeadState *lr_lead_state_lock(int64 lead_id);
extern void lr_lead_must_be_open(const LrLeadState *state);
extern int64 lr_lead_act(const LrLeadAct *act);
extern bool lr_owner_find(const char *reference, LrOwner *owner);
extern LrOwner lr_owner_of_argument(Datum reference);
extern bool lr_owner_left(int owner_id);
extern bool lr_is_member(int pool_id, int owner_id);
extern char *lr_reason_of_argument(Datum reason);
extern void lr_find_declined(LrBatch *batch);
extern bool lr_run_excludes(const LrRun *run, int owner_id);
extern void lr_put_name(Datum *values, bool *nulls, int column, const char *text);
extern void lr_names_of(int owner_id, int pool_id, char **owner, char **pool);

/* draw.c */
extern void lr_draw_for_owner(int owner_id, int64 max);

/* by_hand_give.c: lr_give_lead() returns 0 where nobody of the pool can take the lead, or a cap leaves no room */
extern int64 lr_give_lead(const LrLeadState *state, const LrGift *gift);

#endif
