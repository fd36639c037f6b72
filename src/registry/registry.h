/*
 * registry.h: agents and the versioned documents that steps depend on.
 */
#ifndef LR_REGISTRY_H
#define LR_REGISTRY_H

#include "leadroute.h"

#include "fmgr.h"
#include "json.h"

typedef enum LrAgentKind
{
	LR_AGENT_BUILTIN,
	LR_AGENT_SQL,
	LR_AGENT_EXTERNAL
} LrAgentKind;

/* One version of an agent, as a policy version pins it. */
typedef struct LrAgent
{
	int			agent_id;
	char	   *name;
	char	   *version;
	LrAgentKind kind;
	bool		retired;
	bool		changed;		/* the function is no longer what was registered */
	bool		deprecated;
	FmgrInfo	function;		/* of an SQL agent */
	bool		running;		/* further out in this session */
	Oid			owner;			/* whom it runs as */
	bool		declares;		/* what it is given: */
	List	   *inputs;			/* names; "attributes.key" for one member */
	char	   *region;			/* where it works; NULL: unknown */
} LrAgent;

/* Stands for whoever offers a capability: no agent did when the policy was published. */
#define LR_AGENT_ANYBODY 99

extern LrAgent *lr_agent_load(int agent_id);
extern int	lr_agent_choose(const char *capability, const char *wanted, bool anybody, const char *place, LrMistakes *mistakes);

/* A pinned version of a scorecard or of jurisdiction rules. */
typedef struct LrDocument
{
	int			document_id;
	char	   *name;
	int			version;
	char	   *digest;			/* hex */
	json_t	   *json;
} LrDocument;

extern LrDocument *lr_document_load(int document_id);
extern LrDocument *lr_document_newest(const char *kind, const char *name);
extern int	lr_document_publish(const char *kind, const char *name, Datum document, const char *reason);

/* What a person did with a policy or a document; ids of 0 and pointers of NULL are null. */
typedef struct LrAct
{
	const char *act;
	int			policy_id;
	int			policy_version_id;
	int			document_id;
	int			previous_version_id;
	const char *draft;
	const char *subject;		/* what it is about, if that is neither a policy nor a document */
	TimestampTz effective_at;	/* of acts that change which version decides */
	const char *overridden;		/* which checks it went past: then it was forced */
	const char *reason;
	Oid			current_user;	/* who called, before the owner's identity was taken */
} LrAct;

extern void lr_record_act(const LrAct *act);
extern void lr_record_due_activation(int policy_id, int previous_version_id);

#endif
