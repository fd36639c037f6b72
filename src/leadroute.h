/*
 * leadroute.h: what all parts share: the words of the domain as C types, and the few services that every part uses.
 *
 * A lead is seen as an array of facts: its attributes, the moment, and the outputs of the steps so far. Conditions, agents
 * and the record all speak of facts by number; lr_facts[] gives each its name and type. A fact that is null is simply not
 * known. Facts beyond LR_N_FACTS belong to one policy version: the outputs of its SQL agents, a jsonb each, and its feature flags.
 */
#ifndef LEADROUTE_H
#define LEADROUTE_H

#include "postgres.h"

#include "compat.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "nodes/bitmapset.h"
#include "utils/timestamp.h"

/* The version of the library; the installed extension has to have the same. */
#define LR_VERSION "0.1"

typedef enum LrFact
{
	/* attributes of the lead */
	LR_EXTERNAL_ID,
	LR_SOURCE_SYSTEM,
	LR_SOURCE,
	LR_COUNTRY,
	LR_REGION,
	LR_LANGUAGE,
	LR_INDUSTRY,
	LR_COMPANY,
	LR_DOMAIN,
	LR_COMPANY_SIZE,
	LR_EMAIL,
	LR_PHONE,
	LR_CONSENT,
	LR_CONSENT_BASIS,
	LR_CONSENT_AT,
	LR_CONSENT_CHANNELS,
	LR_PRIOR_INTERACTIONS,
	LR_ATTRIBUTES,
	LR_RECEIVED_AT,
	LR_TRACEPARENT,
	LR_N_ATTRIBUTES,

	/* the moment of the decision */
	LR_AS_OF = LR_N_ATTRIBUTES,

	/* outputs of the built-in agents, in the order of lr_builtins[] */
	LR_CONTACT_STATUS,
	LR_CONTACT_EMAIL,
	LR_CONTACT_EMAIL_KIND,
	LR_CONTACT_ROLE,
	LR_CONTACT_PHONE,
	LR_CONTACT_PROBLEMS,
	LR_COMPLIANCE_STATUS,
	LR_COMPLIANCE_JURISDICTION,
	LR_COMPLIANCE_REASON,
	LR_COMPLIANCE_CHANNELS,
	LR_ENRICH_STATUS,
	LR_ENRICH_FILLED,
	LR_SCORE,
	LR_TIER,
	LR_ACCOUNT_STATUS,
	LR_ACCOUNT_ID,
	LR_ACCOUNT_TYPE,
	LR_ACCOUNT_MATCH,
	LR_ACCOUNT_CONFIDENCE,
	LR_ACCOUNT_OPEN_OPPORTUNITY,
	LR_ACCOUNT_PARENT_ID,
	LR_N_FACTS
} LrFact;

typedef struct LrFactInfo
{
	const char *capability;		/* NULL for attributes and as_of */
	const char *name;
	Oid			type;
} LrFactInfo;

extern const LrFactInfo lr_facts[LR_N_FACTS];
extern void lr_fact_to_json(StringInfo json, int fact, Datum value);

/* Classes of attributes, in the order of leadroute's documentation; what nobody classed is personal. */
typedef enum LrClass
{
	LR_CLASS_PERSONAL,
	LR_CLASS_DIRECT,
	LR_CLASS_SENSITIVE,
	LR_CLASS_PLAIN
} LrClass;

extern const char *const lr_class_names[];

/* In the order of the enum type leadroute.outcome. */
typedef enum LrOutcome
{
	LR_PENDING,
	LR_ASSIGNED,
	LR_NURTURE,
	LR_REJECTED,
	LR_NO_RULE,
	LR_QUARANTINED,
	LR_N_OUTCOMES
} LrOutcome;

extern const char *const lr_outcome_names[LR_N_OUTCOMES];
extern bool lr_outcome_by_name(const char *name, LrOutcome *outcome);

/* ---- settings ---- */
typedef enum LrOnError
{
	LR_ON_ERROR_RECORD,
	LR_ON_ERROR_ABORT
} LrOnError;

extern bool lr_enabled;
extern int	lr_on_error;
extern int	lr_batch_size;

/* ---- catalog.c: where our objects are, and when what we hold in memory is out of date ---- */
typedef enum LrTable
{
	LR_TABLE_ATTACHED,
	LR_TABLE_LEAD_KEYS,
	LR_TABLE_LEAD_STATES,
	LR_TABLE_AGENTS,
	LR_TABLE_DOCUMENTS,
	LR_TABLE_POLICIES,
	LR_TABLE_OWNERS,
	LR_TABLE_OWNER_SKILLS,
	LR_TABLE_CAPS,
	LR_TABLE_TIER_LOADS,
	LR_TABLE_POOLS,
	LR_TABLE_POOL_MEMBERS,
	LR_TABLE_POOL_REVISIONS,
	LR_TABLE_POOL_STATES,
	LR_TABLE_CALENDARS,
	LR_TABLE_CALENDAR_HOURS,
	LR_TABLE_HOLIDAYS,
	LR_TABLE_ABSENCES,
	LR_TABLE_ACCOUNTS,
	LR_TABLE_ACCOUNT_DOMAINS,
	LR_TABLE_ACCOUNT_OWNERS,
	LR_TABLE_FIRMOGRAPHICS,
	LR_TABLE_ENVIRONMENTS,
	LR_TABLE_DIGEST_KEYS,
	LR_TABLE_ENTRIES,
	LR_TABLE_POLICY_TRIALS,
	LR_TABLE_TRIAL_TALLIES,
	LR_TABLE_FEATURE_FLAGS,
	LR_TABLE_TASKS,
	LR_TABLE_ROUTING_PAUSES,
	LR_TABLE_DATABASE_IDENTITIES,
	LR_TABLE_EVENT_ARRIVALS,
	LR_TABLE_EVENT_CONSUMERS,
	LR_TABLE_EVENT_SUBSCRIPTIONS,
	LR_TABLE_SLA_CLOCKS,
	LR_N_TABLES
} LrTable;

typedef struct LrCatalog
{
	Oid			schema;
	Oid			owner;
	Oid			tables[LR_N_TABLES];
	Oid			run_ids;
	Oid			pool_state_ids;
	Oid			lead_ids;
	Oid			event_ids;
	Oid			lead_keys_pkey;
	Oid			lead_states_pkey;
	Oid			firmographics_pkey;
	Oid			outcome_type;
	Oid			outcomes[LR_N_OUTCOMES];
} LrCatalog;

extern void lr_catalog_init(void);
extern const LrCatalog *lr_catalog(void);
extern char *lr_installed_version(void);

/* Counts upward each time the table changed, as far as this session has been told. */
extern uint64 lr_table_generation(LrTable table);
extern void lr_table_changed(LrTable table);

/* This transaction has changed the configuration, and not ended. */
extern bool lr_configuration_changing;

/* The extension's owner, for what callers may cause but not do. */
typedef struct LrIdentity
{
	Oid			user;
	int			context;
	int			nest;			/* of settings */
} LrIdentity;

extern void lr_become_owner(LrIdentity *saved);
extern void lr_restore_identity(const LrIdentity *saved);

/* ---- sql.c: statements of our own, run as the extension's owner ---- */
extern void lr_sql_begin(LrIdentity *saved);
extern void lr_sql_end(const LrIdentity *saved);
extern uint64 lr_sql(const char *command, bool read_only, int nargs, const Oid *types, const Datum *values, const char *nulls);

/* Statements that run often keep their plan for the session. */
typedef enum LrPlan
{
	LR_PLAN_CHANGE_STATE,
	LR_PLAN_WAITING,
	LR_PLAN_ENTRY,
	LR_PLAN_KEY_OF_LEAD,
	LR_PLAN_SOURCE_OF_LEAD,
	LR_PLAN_CLOSE,
	LR_PLAN_DECIDED,
	LR_PLAN_RECORDED,
	LR_PLAN_POOL_REVISION,
	LR_PLAN_POOL_STATE,
	LR_PLAN_RULE,
	LR_PLAN_TALLIED,
	LR_PLAN_PERSON_KEYS,
	LR_PLAN_PERSON_KEYS_LOCKED,
	LR_PLAN_ADD_PERSON_KEYS,
	LR_PLAN_PERSON_LEADS,
	LR_PLAN_NOTE_PERSON_LEADS,
	LR_PLAN_FORGET_PERSONS,
	LR_PLAN_OWNER_ON_RECORD,
	LR_PLAN_DECLINED,
	LR_PLAN_LEAD_ACT,
	LR_PLAN_NAMES,
	LR_PLAN_REMOVE_TASKS,
	LR_PLAN_REMOVE_ASKED,
	LR_PLAN_WAITING_RUNS,
	LR_PLAN_LOCK_WORK,
	LR_PLAN_TASKS_FAILED,
	LR_PLAN_SUCCEEDED,
	LR_PLAN_FAILED,
	LR_PLAN_TASK_ABORTED,
	LR_PLAN_PUT_OFF,
	LR_PLAN_CHECK_RESULTS,
	LR_PLAN_GIVER,
	LR_PLAN_WHY_REFUSED,
	LR_PLAN_DONE_LEADS,
	LR_PLAN_DONE_TASKS,
	LR_PLAN_STORE_DONE,
	LR_PLAN_CLAIM,
	LR_PLAN_WAITING_EVENTS,
	LR_PLAN_EMIT_EVENT,
	LR_PLAN_START_CLOCK,
	LR_PLAN_CLOCK,
	LR_PLAN_STOP_CLOCK,
	LR_PLAN_WAITING_CLOCK,
	LR_PLAN_WRITE_CLOCK,
	LR_PLAN_TELL_SLA,
	LR_N_PLANS
} LrPlan;

extern uint64 lr_sql_kept(LrPlan plan, const char *command, int nargs, const Oid *types, const Datum *values, const char *nulls);
extern char *lr_sql_text(uint64 row, int column);
extern Datum lr_sql_datum(uint64 row, int column, bool *isnull);
extern int32 lr_sql_int32(uint64 row, int column, int32 if_null);
extern int64 lr_sql_int64(uint64 row, int column, int64 if_null);
extern int64 *lr_sql_int64s(int n, MemoryContext memory);
extern Datum lr_int8_array(const int64 *elements, int n);
extern Datum lr_array(const Datum *elements, const bool *nulls, int n, Oid type);

/* ---- settings.c: settings of ours for a while ---- */
extern int	lr_search_path_enter(void);
extern int	lr_settings_enter(const char *timezone);
extern int	lr_by_index_enter(void);
extern int	lr_by_index_suspend(void);
extern void lr_read_only_enter(void);
extern void lr_settings_leave(int nest);

/* ---- arguments.c: functions that act, and refuse null ---- */
extern void lr_refuse_nulls(FunctionCallInfo fcinfo);
extern void lr_refuse_nulls_before(FunctionCallInfo fcinfo, int n);

/* ---- numbers.c: numbers from our sequences ---- */
extern int64 lr_numbers_take(Oid sequence, int64 count);
extern int64 lr_numbers_next(Oid sequence);

/* ---- guard.c: running what may raise ---- */
extern bool lr_guard(void (*body) (void *argument), void *argument, int *sqlstate);
extern bool lr_guard_if(void (*body) (void *argument), void *argument, bool (*caught) (int sqlstate), int *sqlstate);
extern bool lr_is_data_error(int sqlstate);

#endif
