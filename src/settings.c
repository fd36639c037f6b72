/*
 * settings.c: putting the session under settings of ours for a while, so that its own change nothing.
 *
 * Names in our statements and in conditions are looked up in pg_catalog only; text forms of dates and numbers, and what
 * computes with a time zone, follow the given time zone and the ISO style. An error gives the session's settings back by
 * itself, with its transaction or subtransaction.
 */
#include "leadroute.h"

#include "catalog/namespace.h"
#include "jit/jit.h"
#include "optimizer/cost.h"
#include "utils/guc.h"

#define SEARCH_PATH "pg_catalog, pg_temp"

/* What lr_by_index_enter() switches off. */
typedef struct Planning
{
	bool		jit;
	bool		seqscan;
	bool		bitmapscan;
	bool		hashjoin;
	bool		mergejoin;
} Planning;

/* The session's own, from before it was switched off. */
static Planning outside = {true, true, true, true, true};

static void
set(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/* Pins the search path; returns what lr_settings_leave wants. Costs nothing where it is pinned already. */
int
lr_search_path_enter(void)
{
	int			nest;

	if (strcmp(namespace_search_path, SEARCH_PATH) == 0)
		return -1;
	nest = NewGUCNestLevel();
	set("search_path", SEARCH_PATH);
	return nest;
}

/* Sets what hardly any session has changed: not at all where it has not. */
static void
set_if_changed(const char *name, const char *value)
{
	if (strcmp(GetConfigOption(name, false, false), value) != 0)
		set(name, value);
}

/* Pins the time zone and the forms of text, and the search path; returns what lr_settings_leave wants. */
int
lr_settings_enter(const char *timezone)
{
	int			nest = NewGUCNestLevel();

	set("search_path", SEARCH_PATH);
	set("TimeZone", timezone);
	set("DateStyle", "ISO, YMD");
	set("IntervalStyle", "postgres");
	set("extra_float_digits", "3");
	set("bytea_output", "hex");
	/* what conditions, and data in them, mean */
	set_if_changed("standard_conforming_strings", "on");
	set_if_changed("transform_null_equals", "off");
	set_if_changed("array_nulls", "on");
	set_if_changed("quote_all_identifiers", "off");
	set_if_changed("timezone_abbreviations", "Default");
	return nest;
}

static bool
goes_by_index(void)
{
	return !jit_enabled && !enable_seqscan && !enable_bitmapscan && !enable_hashjoin && !enable_mergejoin;
}

/*
 * Has statements find the few rows that they name by index, whatever statistics say: tables that fill and empty in a moment have none
 * that hold. Returns what lr_settings_leave wants.
 */
int
lr_by_index_enter(void)
{
	int			nest = NewGUCNestLevel();

	if (!goes_by_index())
		outside = (Planning) {jit_enabled, enable_seqscan, enable_bitmapscan, enable_hashjoin, enable_mergejoin};
	/* what has no index looks dear then, and would be compiled each time */
	set("jit", "off");
	set("enable_seqscan", "off");
	set("enable_bitmapscan", "off");
	set("enable_hashjoin", "off");
	set("enable_mergejoin", "off");
	return nest;
}

/*
 * Has statements planned as the session has it, within lr_by_index_enter(): those of agents are not ours, and their plans are kept. Returns what
 * lr_settings_leave wants.
 */
int
lr_by_index_suspend(void)
{
	int			nest;

	if (!goes_by_index())
		return -1;
	nest = NewGUCNestLevel();
	if (outside.jit)
		set("jit", "on");
	if (outside.seqscan)
		set("enable_seqscan", "on");
	if (outside.bitmapscan)
		set("enable_bitmapscan", "on");
	if (outside.hashjoin)
		set("enable_hashjoin", "on");
	if (outside.mergejoin)
		set("enable_mergejoin", "on");
	return nest;
}

/* Makes the transaction read-only, until a nest of settings that the caller has entered is left; nobody can undo it before. */
void
lr_read_only_enter(void)
{
	/* this one cannot be saved as others are, from version 16 on; as SET LOCAL it ends with the nest, too */
	(void) set_config_option("transaction_read_only", "on", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

/* Gives the session its own settings back, also from what an agent set meanwhile. */
void
lr_settings_leave(int nest)
{
	if (nest >= 0)
		AtEOXact_GUC(false, nest);
}
