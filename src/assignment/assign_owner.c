/*
 * assign_owner.c: the agent assignOwner: the first rule that holds chooses the target; a pool's rotation chooses the owner.
 *
 * Rules are matched while the batch goes through its steps. Owners are chosen at the very end (live.c), when it is certain that
 * the lead will be written: a turn that is drawn, a place that is taken, is used, unless the transaction rolls back.
 */
#include "assignment/assignment.h"

#include "agents/accounts.h"
#include "agents/agents.h"
#include "pipeline/by_hand.h"
#include "pipeline/pipeline.h"
#include "policy/policy.h"
#include "provenance/provenance.h"
#include "utils/json.h"

/* The sections of the step's own evidence: each a varint tag, varint length and its bytes. Who does not know a tag goes on behind it. */
enum
{
	SECTION_RULES = 1,			/* varints (rule, SQLSTATE, conjunct) of rules that hold where one should, and of those that raised */
	SECTION_KNOWN_PERSON = 2,	/* varint lead: the earlier lead of the same person */
	SECTION_ACCOUNT_OWNERS = 3	/* varints: owners of the account, in the order in which they are asked */
};

static void configure(LrStep *step, json_t *json, json_t *document, const LrScope *scope, const char *place, LrMistakes *mistakes);
static void prepare(LrStep *step, LrBatch *batch);
static void run(LrStep *step, LrRun *run);
static void unfold(const LrStep *step, const char *detail, int length, StringInfo json);
static void restore(const LrStep *step, LrRun *run, const char *detail, int length);
static void put_section(LrStep *step, LrRun *run, int tag, StringInfo content);
static bool next_section(LrReader *in, int *tag, LrReader *section);
static void unfold_rules(LrReader *in, StringInfo json);
static void unfold_account_owners(LrReader *in, StringInfo json);
static void prefer_account_owners(LrStep *step, LrRun *run);
static void leave_pending(LrRun *run);

typedef struct AssignConfig
{
	bool		known_person;	/* a lead of a person who is known goes to the same owner */
} AssignConfig;

static bool needs_owner(const LrRun *run);

const LrBuiltin lr_assign_owner = {
	.capability = "assignOwner",
	.agent_id = 5,
	.first_fact = LR_N_FACTS,
	.nfacts = 0,
	.recomputable = true,
	.repeatable = true,
	.configure = configure,
	.prepare = prepare,
	.run = run,
	.unfold = unfold,
	.restore = restore,
};

static void
configure(LrStep *step, json_t *json, json_t *document, const LrScope *scope, const char *place, LrMistakes *mistakes)
{
	AssignConfig *config = palloc0(sizeof(AssignConfig));
	const char *known_person = lr_json_string(json, "known_person", false, place, mistakes);

	config->known_person = known_person != NULL;
	if (known_person && strcmp(known_person, "same_owner") != 0)
		lr_mistake(mistakes, lr_place(place, "known_person"), "Give \"same_owner\", or leave it out.", "\"%s\" is not known", known_person);
	step->config = config;
}

/* Finds who has earlier leads of the same persons, where the policy asks for it. */
static void
prepare(LrStep *step, LrBatch *batch)
{
	if (((AssignConfig *) step->config)->known_person)
		lr_persons_find(batch);
}

/* Returns a bit for each step that is done. */
static uint32
steps_done(const LrRun *run)
{
	uint32		done = 0;

	for (int i = 0; i < run->batch->policy->nsteps; i++)
	{
		if (run->steps[i].status == LR_STEP_DONE)
			done |= (uint32) 1 << i;
	}
	return done;
}

static void
run(LrStep *step, LrRun *run)
{
	LrMatch		match;

	lr_rules_match(run->batch->policy, steps_done(run), run->values, run->isnull, !run->batch->linear, &match);
	run->rule = match.rule;
	run->nhits = match.nhits > 1 ? match.nhits : 0;
	run->hits = match.hits;
	run->nerrors = match.nerrors;
	run->errors = match.errors;
	run->ended = true;
	if (match.rule == NULL)
	{
		run->outcome = LR_NO_RULE;
		run->reason = "no_rule_matched";
	}
	else
	{
		run->outcome = match.rule->outcome;
		run->reason = match.rule->reason;
		run->pool_id = match.rule->pool_id;
		leave_pending(run);
	}
	if (run->nhits > 0 || match.nerrors > 0)
	{
		StringInfo	content = lr_detail_make();

		/* a rule that holds is one that raised nothing */
		for (int i = 0; i < run->nhits; i++)
		{
			lr_put_varint(content, run->hits[i]);
			lr_put_varint(content, ERRCODE_SUCCESSFUL_COMPLETION);
			lr_put_varint(content, 0);
		}
		for (int i = 0; i < match.nerrors; i++)
		{
			lr_put_varint(content, match.errors[i].rule);
			lr_put_varint(content, match.errors[i].error.sqlstate);
			lr_put_varint(content, match.errors[i].error.conjunct);
		}
		put_section(step, run, SECTION_RULES, content);
	}
	if (match.rule)
		prefer_account_owners(step, run);
	if (!run->batch->verifying && run->outcome == LR_ASSIGNED)
		lr_person_follow(run);
	if (run->preferred_lead_id != 0 && run->outcome == LR_ASSIGNED)
	{
		StringInfo	content = lr_detail_make();

		lr_put_varint(content, run->preferred_lead_id);
		put_section(step, run, SECTION_KNOWN_PERSON, content);
	}
}

/* A lead whose steps are not as sure as the rule asks for is a person's to decide; one whose pool is paused waits. */
static void
leave_pending(LrRun *run)
{
	const LrTerms *terms = run->outcome == LR_ASSIGNED ? lr_rule_terms(run->batch->policy, run->rule) : NULL;

	if (terms && terms->review_below > 0 && lr_run_confidence(run) < terms->review_below)
		run->reason = "review";
	else if (run->pool_id && lr_paused(run))
		run->reason = "paused";
	else
		return;
	run->outcome = LR_PENDING;
}

/* Notes who of the lead's account is to have it, in the order of the rule's roles, each once. */
static void
prefer_account_owners(LrStep *step, LrRun *run)
{
	StringInfo	content;
	int			n = 0;

	if (run->account_owners == NULL || run->rule->account_owner[0] == '\0')
		return;
	run->account_preferred = palloc(sizeof(int) * LR_ACCOUNT_OWNERS_MAX);
	content = lr_detail_make();
	for (const char *role = run->rule->account_owner; *role; role = strchr(role, '\n') + 1)
	{
		const LrAccountOwner *owner = lr_account_owner_of_role(run->account_owners, role, strchr(role, '\n') - role);
		bool		known = owner == NULL || n == LR_ACCOUNT_OWNERS_MAX;

		for (int i = 0; i < n && !known; i++)
			known = run->account_preferred[i] == owner->owner_id;
		if (known)
			continue;
		run->account_preferred[n++] = owner->owner_id;
		lr_put_varint(content, owner->owner_id);
	}
	run->naccount_preferred = n;
	if (n > 0)
		put_section(step, run, SECTION_ACCOUNT_OWNERS, content);
}

/* Finds the owner of every run of a batch whose rule leads to a pool. */
void
lr_assign_batch(LrBatch *batch)
{
	LrLive	   *live = NULL;
	MemoryContext saved = MemoryContextSwitchTo(batch->memory);

	for (int i = 0; i < batch->n; i++)
	{
		if (!needs_owner(&batch->runs[i]))
			continue;
		if (live == NULL)
			live = lr_live_begin(batch);
		lr_live_add(live, &batch->runs[i]);
	}
	if (live)
		lr_live_assign(live);
	MemoryContextSwitchTo(saved);
}

static bool
needs_owner(const LrRun *run)
{
	return run->outcome == LR_ASSIGNED && !run->unchanged && run->owner_id == 0;
}

/* ---- the step's own evidence ---- */

static void
put_section(LrStep *step, LrRun *run, int tag, StringInfo content)
{
	StringInfo	detail = run->steps[step->number].detail;

	if (detail == NULL)
		run->steps[step->number].detail = detail = lr_detail_make();
	lr_put_varint(detail, tag);
	lr_put_varint(detail, content->len);
	appendBinaryStringInfo(detail, content->data, content->len);
}

/* Reads the next section; false behind the last. */
static bool
next_section(LrReader *in, int *tag, LrReader *section)
{
	int			length;

	if (in->at >= in->end)
		return false;
	*tag = (int) lr_get_varint(in);
	length = (int) lr_get_varint(in);
	section->at = lr_get_bytes(in, length);
	section->end = section->at + length;
	return true;
}

static void
unfold(const LrStep *step, const char *detail, int length, StringInfo json)
{
	LrReader	in = {detail, detail + length};
	LrReader	section;
	int			tag;

	while (next_section(&in, &tag, &section))
	{
		if (tag == SECTION_RULES)
			unfold_rules(&section, json);
		else if (tag == SECTION_ACCOUNT_OWNERS)
			unfold_account_owners(&section, json);
		else if (tag == SECTION_KNOWN_PERSON)
			appendStringInfo(json, ", \"preferred\": {\"reason\": \"" LR_KNOWN_PERSON "\", \"lead_id\": " UINT64_FORMAT "}", lr_get_varint(&section));
	}
}

/* Lists the owners of the account who are asked before the pool. */
static void
unfold_account_owners(LrReader *in, StringInfo json)
{
	const char *between = "";

	appendStringInfoString(json, ", \"account_owners\": [");
	for (; in->at < in->end; between = ", ")
		appendStringInfo(json, "%s%d", between, (int) lr_get_varint(in));
	appendStringInfoChar(json, ']');
}

/* Lists the rules that hold where only one should, and those that raised before the one that decides. */
static void
unfold_rules(LrReader *in, StringInfo json)
{
	StringInfoData hits;
	StringInfoData errors;

	initStringInfo(&hits);
	initStringInfo(&errors);
	while (in->at < in->end)
	{
		int			rule = (int) lr_get_varint(in);
		int			sqlstate = (int) lr_get_varint(in);
		int			conjunct = (int) lr_get_varint(in);

		if (sqlstate == ERRCODE_SUCCESSFUL_COMPLETION)
			appendStringInfo(&hits, "%s%d", hits.len ? ", " : "", rule);
		else
			appendStringInfo(&errors, "%s{\"rule_no\": %d, \"sqlstate\": \"%s\", \"conjunct\": %d}", errors.len ? ", " : "", rule,
							 unpack_sql_state(sqlstate), conjunct);
	}
	if (hits.len > 0)
		appendStringInfo(json, ", \"hits\": [%s]", hits.data);
	if (errors.len > 0)
		appendStringInfo(json, ", \"errors\": [%s]", errors.data);
}

static void
restore(const LrStep *step, LrRun *run, const char *detail, int length)
{
	if (length == 0)
		return;
	run->steps[step->number].detail = lr_detail_make();
	appendBinaryStringInfo(run->steps[step->number].detail, detail, length);
}

/* Gives a run the preference that a past run had, from its record. */
void
lr_preference_restore(LrRun *run, const char *detail, int length)
{
	LrReader	in = {detail, detail + length};
	LrReader	section;
	int			tag;

	while (next_section(&in, &tag, &section))
	{
		if (tag != SECTION_KNOWN_PERSON)
			continue;
		run->preferred_lead_id = lr_get_varint(&section);
		run->preferred_reason = LR_KNOWN_PERSON;
	}
}
