/*
 * leadroute.c: where the server loads us. Each part registers its own settings and hooks.
 */
#include "leadroute.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "assignment/assignment.h"
#include "intake/intake.h"
#include "policy/policy.h"
#include "workers/workers.h"
#include "writer.h"


PG_MODULE_MAGIC;

void		_PG_init(void);

PG_FUNCTION_INFO_V1(leadroute_library_version);

void
_PG_init(void)
{
	lr_catalog_init();
	lr_intake_init();
	lr_policy_init();
	lr_rules_init();
	lr_writer_init();
	lr_readings_init();
	lr_counters_init();
	lr_workers_init();
	lr_events_init();
	lr_slas_init();
	MarkGUCPrefixReserved("leadroute");
}

/* Returns the version of the loaded library. */
Datum
leadroute_library_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(LR_VERSION));
}
