/*
 * explain_rule.c: why a rule held or did not: each conjunct of its condition, with what it read.
 *
 * The condition is read from the rule's text, and each conjunct evaluated by itself; the index has no part in it. What a
 * past decision read comes from its record. Values are shown where the record holds them by value: plain attributes, outputs of
 * steps, the moment; others by their class. A conjunct that reads what is not to be had any more is neither true nor false, unless
 * its rule decided: then it was true.
 *
 * The text of a conjunct is made from its expression by the server, which knows columns of tables only. So it is shown
 * parameters, and the names of facts are put in their place, outside of quotes.
 */
#include "policy/evaluation.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "policy/condition_check.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"

PG_FUNCTION_INFO_V1(leadroute_explain_decided_rule);
PG_FUNCTION_INFO_V1(leadroute_explain_given_rule);

/* A rule, and the run that it is explained for. */
typedef struct Explanation
{
	LrPolicy   *policy;
	int			number;			/* of the rule */
	json_t	   *json;
	LrRun	   *run;
	const LrEvidence *evidence; /* NULL: the caller brought everything, and everything is shown */
	Bitmapset  *unavailable;	/* attributes */
	bool		asked;			/* the run came to its rules */
	int			decided;		/* the rule that decided, or -1 */
	ReturnSetInfo *result;
} Explanation;

static void find_rule(Explanation *e, const char *name);
static void restore_run(Explanation *e, const LrEntry *entry);
static bool came_to_rules(const LrRun *run);
static void explain(Explanation *e);
static void explain_conjunct(Explanation *e, LrCondition *when, int number, LrTruth *truth, bool *unknown, int *sqlstate);
static char *conjunct_text(const LrScope *scope, Expr *expression);
static Node *name_facts(Node *node, void *context);
static char *without_casts_of_text(char *text);
static void append_named(StringInfo out, const char *text, const LrScope *scope);
static bool has_matching_parentheses(const char *text, int length);
static Datum reads_of(const Explanation *e, const LrCondition *reads);
static void append_read(const Explanation *e, StringInfo json, int fact, const char *key);
static bool append_member(const Explanation *e, StringInfo json, const char *key);
static char *note_of(const Explanation *e);
static bool stands_before(const Explanation *e, json_t *other, int number);
static void put_row(Explanation *e, int conjunct, const char *condition, LrTruth truth, bool unknown, int sqlstate, Datum reads,
					const char *note);

/* Explains a rule for a decision; see the SQL comment. */
Datum
leadroute_explain_decided_rule(PG_FUNCTION_ARGS)
{
	Explanation e = {.result = (ReturnSetInfo *) fcinfo->resultinfo};
	LrEntry    *entry;
	LrBatch		batch;

	InitMaterializedSRF(fcinfo, 0);
	entry = lr_entry_load(PG_GETARG_INT64(0));
	if (entry->by_person)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("decision " INT64_FORMAT " was made by a person: no rule was looked at", PG_GETARG_INT64(0)),
				errhint("Ask for the decision that it supersedes: see the column supersedes of leadroute.decisions."));
	e.policy = lr_policy_hold(entry->policy_version_id);
	find_rule(&e, text_to_cstring(PG_GETARG_TEXT_PP(1)));
	lr_batch_init(&batch, e.policy, lr_source_of_given(), entry->as_of, 'm', GetUserId());
	batch.verifying = true;
	e.run = lr_batch_add(&batch);
	restore_run(&e, entry);
	explain(&e);
	MemoryContextDelete(batch.memory);
	lr_policy_release(e.policy);
	return (Datum) 0;
}

/* Explains a rule for a lead that is given; see the SQL comment. */
Datum
leadroute_explain_given_rule(PG_FUNCTION_ARGS)
{
	Explanation e = {.result = (ReturnSetInfo *) fcinfo->resultinfo};
	MemoryContext saved;
	LrBatch		batch;

	InitMaterializedSRF(fcinfo, 0);
	e.policy = lr_policy_hold(PG_GETARG_INT32(0));
	find_rule(&e, text_to_cstring(PG_GETARG_TEXT_PP(1)));
	lr_evaluation_begin(&batch, e.policy, false);
	saved = MemoryContextSwitchTo(batch.memory);
	e.run = lr_evaluation_add(&batch, lr_json_of_jsonb(PG_GETARG_DATUM(2)));
	lr_batch_run(&batch);
	e.asked = came_to_rules(e.run);
	e.decided = e.run->rule ? e.run->rule->number : -1;
	explain(&e);
	MemoryContextSwitchTo(saved);
	MemoryContextDelete(batch.memory);
	lr_policy_release(e.policy);
	return (Datum) 0;
}

/* Finds a rule by its name; one that is switched on comes before others, which may have the same name. */
static void
find_rule(Explanation *e, const char *name)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	Oid			types[] = {INT4OID, TEXTOID};
	Datum		values[] = {Int32GetDatum(e->policy->version_id), CStringGetTextDatum(name)};
	bool		isnull;

	lr_sql_begin(&identity);
	if (lr_sql("SELECT rule_no, rule FROM leadroute.policy_rules WHERE policy_version_id = $1 AND rule ->> 'name' = $2"
			   " ORDER BY coalesce(rule -> 'enabled', 'true') = 'false', rule_no LIMIT 1", true, 2, types, values, NULL) > 0)
	{
		e->number = lr_sql_int32(0, 1, 0);
		MemoryContextSwitchTo(memory);
		e->json = lr_json_of_jsonb(lr_sql_datum(0, 2, &isnull));
	}
	lr_sql_end(&identity);
	MemoryContextSwitchTo(memory);
	if (e->json == NULL)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("version %d of policy \"%s\" has no rule \"%s\"", e->policy->version, e->policy->name, name),
				errhint("SELECT jsonb_path_query(leadroute.policy_document(%s, %d), '$.rules[*].name') lists its rules.",
						quote_literal_cstr(e->policy->name), e->policy->version));
}

/* Gives the run what a past one had when it came to its rules. */
static void
restore_run(Explanation *e, const LrEntry *entry)
{
	LrRun	   *run = e->run;
	LrEvidence *evidence = lr_evidence_read(VARDATA_ANY(entry->evidence), VARSIZE_ANY_EXHDR(entry->evidence), e->policy);

	run->lead_id = entry->lead_id;
	(void) lr_outcome_by_name(entry->outcome, &run->outcome);
	lr_restore_entry(run, entry, evidence, &e->unavailable);
	lr_evidence_restore_flags(evidence, run);
	for (int s = 0; s < e->policy->nsteps; s++)
	{
		if (evidence->steps[s].status != LR_STEP_SKIPPED)
			lr_restore_step(run, &e->policy->steps[s], &evidence->steps[s]);
	}
	e->unavailable = bms_add_members(e->unavailable, run->missing);
	if (bms_is_member(LR_ATTRIBUTES, e->unavailable))
		lr_restore_members(run, evidence);
	(void) lr_outcome_by_name(entry->outcome, &run->outcome);
	run->reason = entry->reason_code;
	e->evidence = evidence;
	e->asked = came_to_rules(run);
	e->decided = entry->rule_no;
}

static bool
came_to_rules(const LrRun *run)
{
	const LrPolicy *policy = run->batch->policy;

	for (int s = 0; s < policy->nsteps; s++)
	{
		if (policy->steps[s].builtin == &lr_assign_owner)
			return run->steps[s].status == LR_STEP_DONE;
	}
	return false;
}

/* Puts a row for each conjunct, and one for the whole. */
static void
explain(Explanation *e)
{
	LrCondition *when = lr_rule_condition(e->policy, e->number);
	LrTruth		whole = LR_TRUE;
	bool		any_unknown = false;
	int			whole_sqlstate = 0;
	int			nest = lr_settings_enter(e->policy->scope->timezone);

	lr_condition_prepare(when, CurrentMemoryContext);
	for (int i = 0; i < when->nconjuncts; i++)
	{
		LrTruth		truth;
		bool		unknown;
		int			sqlstate;

		CHECK_FOR_INTERRUPTS();
		explain_conjunct(e, when, i, &truth, &unknown, &sqlstate);
		any_unknown |= unknown;
		if (unknown || whole == LR_FALSE)
			continue;
		/* false comes first, then errors, then null */
		if (truth == LR_ERROR && whole != LR_ERROR)
			whole_sqlstate = sqlstate;
		if (truth == LR_FALSE || truth == LR_ERROR || (truth == LR_NULL && whole == LR_TRUE))
			whole = truth;
	}
	lr_settings_leave(nest);
	put_row(e, -1, when->text, whole, any_unknown && whole != LR_FALSE, whole_sqlstate, (Datum) 0, note_of(e));
}

static void
explain_conjunct(Explanation *e, LrCondition *when, int number, LrTruth *truth, bool *unknown, int *sqlstate)
{
	LrConjunct *conjunct = &when->conjuncts[number];
	LrCondition one = {.nconjuncts = 1,.conjuncts = conjunct};
	LrConditionError error = {0};
	Bitmapset  *missing;

	lr_find_reads((Node *) conjunct->expression, &one);
	missing = bms_intersect(one.reads, e->unavailable);
	if (bms_is_member(LR_ATTRIBUTES, missing) && lr_restore_has_members(e->evidence, one.keys, one.reads_all_keys))
		missing = bms_del_member(missing, LR_ATTRIBUTES);
	*unknown = false;
	if (bms_is_empty(missing))
		*truth = lr_condition_evaluate(&one, e->policy->evaluator, e->run->values, e->run->isnull, &error);
	else if (e->decided == e->number)
		*truth = LR_TRUE;		/* or the rule would not have decided */
	else
	{
		*truth = LR_NULL;
		*unknown = true;
	}
	*sqlstate = error.sqlstate;
	ResetExprContext(e->policy->evaluator->context);
	put_row(e, number, conjunct_text(e->policy->scope, conjunct->expression), *truth, *unknown, error.sqlstate, reads_of(e, &one), NULL);
}

/* ---- the text of a conjunct ---- */

static char *
conjunct_text(const LrScope *scope, Expr *expression)
{
	char	   *text = deparse_expression(name_facts((Node *) expression, NULL), NIL, false, false);
	int			length = strlen(text);
	StringInfoData out;

	while (length > 1 && has_matching_parentheses(text, length))
	{
		text[length - 1] = '\0';
		text++;
		length -= 2;
	}
	initStringInfo(&out);
	append_named(&out, without_casts_of_text(text), scope);
	return out.data;
}

/* Makes parameters of facts, numbered as these. The C collation is the usual one here, and not said; any other is. */
static Node *
name_facts(Node *node, void *context)
{
	Node	   *copy;

	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Param	   *param = makeNode(Param);

		param->paramkind = PARAM_EXTERN;
		param->paramid = ((Var *) node)->varattno;
		param->paramtype = ((Var *) node)->vartype;
		param->paramtypmod = ((Var *) node)->vartypmod;
		param->paramcollid = ((Var *) node)->varcollid;
		param->location = -1;
		return (Node *) param;
	}
	copy = expression_tree_mutator(node, name_facts, context);
	if (IsA(copy, Const) && ((Const *) copy)->constcollid == C_COLLATION_OID)
		((Const *) copy)->constcollid = get_typcollation(((Const *) copy)->consttype);
	/* the planner makes these of COLLATE, and the server does not show them */
	if (IsA(copy, RelabelType) && OidIsValid(((RelabelType *) copy)->resultcollid) && ((RelabelType *) copy)->resultcollid != C_COLLATION_OID)
	{
		CollateExpr *collate = makeNode(CollateExpr);

		collate->arg = (Expr *) copy;
		collate->collOid = ((RelabelType *) copy)->resultcollid;
		collate->location = -1;
		return (Node *) collate;
	}
	return copy;
}

/* A literal is a text anyway. */
static char *
without_casts_of_text(char *text)
{
	static const char cast[] = "'::text";
	char	   *to = text;
	bool		quoted = false;

	for (const char *from = text; *from;)
	{
		bool		opens = *from == '\'' && !quoted;

		if (quoted && strncmp(from, cast, sizeof(cast) - 1) == 0 && from[sizeof(cast) - 1] != '[')
		{
			*to++ = '\'';
			from += sizeof(cast) - 1;
			quoted = false;
			continue;
		}
		/* a quote that is doubled closes, and opens again */
		if (*from == '\'')
			quoted = opens;
		*to++ = *from++;
	}
	*to = '\0';
	return text;
}

/* Appends a text with the names of facts in place of parameters, but not within quotes. */
static void
append_named(StringInfo out, const char *text, const LrScope *scope)
{
	char		quote = '\0';

	while (*text)
	{
		char	   *end;

		if (quote == '\0' && text[0] == '$' && isdigit((unsigned char) text[1]))
		{
			appendStringInfoString(out, lr_fact_name(scope, (int) strtol(text + 1, &end, 10) - 1));
			text = end;
			continue;
		}
		if (*text == '\'' || *text == '"')
			quote = quote == '\0' ? *text : quote == *text ? '\0' : quote;
		appendStringInfoChar(out, *text++);
	}
}

/* Tells whether the first character opens what the last one closes. */
static bool
has_matching_parentheses(const char *text, int length)
{
	int			depth = 0;
	char		quote = '\0';

	if (text[0] != '(' || text[length - 1] != ')')
		return false;
	for (int i = 0; i < length; i++)
	{
		if (quote != '\0')
			quote = text[i] == quote ? '\0' : quote;
		else if (text[i] == '\'' || text[i] == '"')
			quote = text[i];
		else if (text[i] == '(')
			depth++;
		else if (text[i] == ')' && --depth == 0)
			return i == length - 1;
	}
	return false;
}

/* ---- what it read ---- */

static Datum
reads_of(const Explanation *e, const LrCondition *reads)
{
	StringInfoData json;
	int			fact = -1;
	ListCell   *cell;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	while ((fact = bms_next_member(reads->reads, fact)) >= 0)
	{
		if (fact != LR_ATTRIBUTES || reads->reads_all_keys)
			append_read(e, &json, fact, NULL);
	}
	foreach(cell, reads->keys)
		append_read(e, &json, LR_ATTRIBUTES, lfirst(cell));
	appendStringInfoChar(&json, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

/* Appends a fact, or a member of attributes, by value where it may be shown, otherwise by class. */
static void
append_read(const Explanation *e, StringInfo json, int fact, const char *key)
{
	LrClass		class = e->evidence == NULL || fact >= LR_N_ATTRIBUTES ? LR_CLASS_PLAIN : e->evidence->attributes[fact].class;
	const char *name = lr_fact_name(e->policy->scope, fact);

	appendStringInfoString(json, json->len > 1 ? ", " : "");
	escape_json(json, key ? psprintf("%s.%s", name, key) : name);
	appendStringInfoString(json, ": ");
	if (key && class != LR_CLASS_PLAIN && append_member(e, json, key))
		return;
	if (class != LR_CLASS_PLAIN && (bms_is_member(fact, e->unavailable) || !e->run->isnull[fact]))
		appendStringInfo(json, "{\"class\": \"%s\"%s}", lr_class_names[class],
						 bms_is_member(fact, e->unavailable) ? ", \"unavailable\": true" : "");
	else if (e->run->isnull[fact])
		appendStringInfoString(json, "null");
	else if (fact >= LR_N_FACTS && lr_fact_type(e->policy->scope, fact) == BOOLOID)
		appendStringInfoString(json, DatumGetBool(e->run->values[fact]) ? "true" : "false");	/* a flag */
	else if (key == NULL)
		lr_fact_to_json(json, fact, e->run->values[fact]);
	else
	{
		JsonbValue	buffer;
		Jsonb	   *object = DatumGetJsonbP(e->run->values[fact]);
		JsonbValue *member = JB_ROOT_IS_OBJECT(object) ? getKeyJsonValueFromContainer(&object->root, key, strlen(key), &buffer) : NULL;
		Jsonb	   *value = member ? JsonbValueToJsonb(member) : NULL;

		if (value)
			(void) JsonbToCString(json, &value->root, VARSIZE(value));
		else
			appendStringInfoString(json, "null");
	}
}

/* Appends a member of attributes that is classed by itself, plain; returns false if it is none. */
static bool
append_member(const Explanation *e, StringInfo json, const char *key)
{
	for (int i = 0; i < e->evidence->nmembers; i++)
	{
		if (strcmp(e->evidence->members[i].name, key) == 0)
		{
			appendStringInfoString(json, e->evidence->members[i].json);
			return true;
		}
	}
	return false;
}

/* ---- the whole ---- */

/* Says what else became of the rule. */
static char *
note_of(const Explanation *e)
{
	StringInfoData note;
	json_t	   *prerequisites = json_object_get(e->json, "prerequisites");
	size_t		i;
	json_t	   *prerequisite;

	initStringInfo(&note);
	if (json_is_false(json_object_get(e->json, "enabled")))
		appendStringInfoString(&note, "it is switched off; ");
	json_array_foreach(prerequisites, i, prerequisite)
	{
		for (int s = 0; s < e->policy->nsteps; s++)
		{
			if (strcmp(e->policy->steps[s].capability, json_string_value(prerequisite)) == 0 && e->run->steps[s].status != LR_STEP_DONE)
				appendStringInfo(&note, "it needs %s, which was not done; ", json_string_value(prerequisite));
		}
	}
	if (e->decided == e->number)
		appendStringInfoString(&note, "it decided");
	else if (e->decided >= 0)
	{
		json_t	   *other = lr_rule_json(e->policy, e->decided);

		appendStringInfo(&note, "rule \"%s\" decided%s", json_string_value(json_object_get(other, "name")),
						 stands_before(e, other, e->decided) ? ", which stands before it" : "");
	}
	else if (!e->asked)
		appendStringInfo(&note, "no rule was asked: the run ended with %s, %s", lr_outcome_names[e->run->outcome], e->run->reason);
	else
		appendStringInfoString(&note, "no rule decided");
	return note.data;
}

/* Tells whether another rule is tried before the one that is explained. */
static bool
stands_before(const Explanation *e, json_t *other, int number)
{
	double		own = json_number_value(json_object_get(e->json, "priority"));
	double		others = json_number_value(json_object_get(other, "priority"));

	return e->policy->hit_policy == LR_HIT_FIRST || own == others ? number < e->number : others < own;
}

static void
put_row(Explanation *e, int conjunct, const char *condition, LrTruth truth, bool unknown, int sqlstate, Datum reads,
		const char *note)
{
	static const char *const truths[] = {[LR_FALSE] = "false", [LR_NULL] = "null", [LR_ERROR] = "error", [LR_TRUE] = "true"};
	Datum		values[] = {Int32GetDatum(conjunct), CStringGetTextDatum(condition), CStringGetTextDatum(truths[truth]),
		CStringGetTextDatum(unpack_sql_state(sqlstate)), reads, note ? CStringGetTextDatum(note) : (Datum) 0};
	bool		nulls[] = {conjunct < 0, false, unknown, unknown || truth != LR_ERROR, reads == (Datum) 0, note == NULL};

	tuplestore_putvalues(e->result->setResult, e->result->setDesc, values, nulls);
}
