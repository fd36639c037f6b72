/*
 * protected.c: attributes that a rule or a model may read only with a recorded justification.
 *
 * Which they are, the attachments of tables say. The justification stands in the document that reads them, or, for a model,
 * in the policy that uses it, and is therefore published, versioned and hashed with it.
 */
#include "policy/policy.h"

#include "pipeline/pipeline.h"

static List *protected_names(void);
static bool is_read(const char *name, const Bitmapset *reads, List *keys, bool reads_all_keys);
static void note(const char *name, const char *reader, LrMistakes *mistakes);

/* Reads the member "justifications" of a document: attribute to reason. NULL if there is none. */
json_t *
lr_read_justifications(json_t *document, LrMistakes *mistakes)
{
	json_t	   *justifications = lr_json_object(document, "justifications", false, "", mistakes);
	const char *attribute;
	json_t	   *reason;

	json_object_foreach(justifications, attribute, reason)
	{
		if (!json_is_string(reason) || json_string_length(reason) < 10)
			lr_mistake(mistakes, lr_place("justifications", attribute), "Say why the attribute may be read, in a sentence.",
					   "has to be a text of at least 10 characters");
	}
	return justifications;
}

/* Notes every protected attribute that a policy reads, itself or through its models, without a justification. */
void
lr_check_protected(const LrPolicy *policy, LrMistakes *mistakes)
{
	Bitmapset  *reads = bms_copy(policy->rule_reads);
	ListCell   *cell;

	for (int s = 0; s < policy->nsteps; s++)
		reads = bms_add_members(reads, policy->steps[s].reads);
	foreach(cell, protected_names())
	{
		const char *name = lfirst(cell);
		bool		justified = json_object_get(policy->justifications, name) != NULL;

		for (int s = 0; s < policy->nsteps; s++)
		{
			if (policy->steps[s].document)
				justified |= json_object_get(json_object_get(policy->steps[s].document->json, "justifications"), name) != NULL;
		}
		if (!justified && is_read(name, reads, policy->keys, policy->reads_all_keys))
			note(name, "policy", mistakes);
	}
}

/* Notes every protected attribute that a model reads without a justification of its own. */
void
lr_check_protected_model(const Bitmapset *reads, List *keys, bool reads_all_keys, json_t *justifications, const char *model, LrMistakes *mistakes)
{
	ListCell   *cell;

	foreach(cell, protected_names())
	{
		const char *name = lfirst(cell);

		if (json_object_get(justifications, name) == NULL && is_read(name, reads, keys, reads_all_keys))
			note(name, model, mistakes);
	}
}

/* The protected attributes of all attached tables, in the current memory context. */
static List *
protected_names(void)
{
	MemoryContext memory = CurrentMemoryContext;
	LrIdentity	identity;
	List	   *names = NIL;
	uint64		n;

	lr_sql_begin(&identity);
	n = lr_sql("SELECT DISTINCT p FROM leadroute.attached_tables, unnest(protected) AS p WHERE relation IS NOT NULL ORDER BY 1", true, 0, NULL, NULL,
			   NULL);
	for (uint64 i = 0; i < n; i++)
	{
		MemoryContext saved = MemoryContextSwitchTo(memory);

		names = lappend(names, pstrdup(lr_sql_text(i, 1)));
		MemoryContextSwitchTo(saved);
	}
	lr_sql_end(&identity);
	return names;
}

static bool
is_read(const char *name, const Bitmapset *reads, List *keys, bool reads_all_keys)
{
	ListCell   *cell;

	if (strncmp(name, "attributes.", 11) == 0)
	{
		foreach(cell, keys)
		{
			if (strcmp(lfirst(cell), name + 11) == 0)
				return true;
		}
		return reads_all_keys;
	}
	for (int fact = 0; fact < LR_N_ATTRIBUTES; fact++)
	{
		if (strcmp(lr_facts[fact].name, name) == 0)
			return bms_is_member(fact, reads);
	}
	return false;
}

static void
note(const char *name, const char *reader, LrMistakes *mistakes)
{
	lr_mistake(mistakes, "justifications", psprintf("Leave it out of conditions and models, or add \"justifications\": {\"%s\": \"why\"}.", name),
			   "attribute \"%s\" is protected, and the %s reads it", name, reader);
}
