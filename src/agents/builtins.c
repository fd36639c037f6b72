/*
 * builtins.c: the list of the built-in agents.
 */
#include "agents/agents.h"

#include "policy/policy.h"

const LrBuiltin *const lr_builtins[] = {&lr_validate_contact, &lr_check_compliance, &lr_enrich, &lr_compute_score, &lr_match_account,
	&lr_assign_owner
};
const int	lr_nbuiltins = lengthof(lr_builtins);

/* Finds a built-in agent by its capability; NULL if there is none. */
const LrBuiltin *
lr_builtin_by_capability(const char *capability)
{
	for (int i = 0; i < lr_nbuiltins; i++)
	{
		if (strcmp(lr_builtins[i]->capability, capability) == 0)
			return lr_builtins[i];
	}
	return NULL;
}
