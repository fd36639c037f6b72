-- leadroute: the extension script. It is assembled from the files of sql/ in the order that the Makefile spells out.
\echo Use "CREATE EXTENSION leadroute" to load this file. \quit

SET LOCAL search_path TO pg_catalog, pg_temp;

-- A plain CREATE SCHEMA: a schema that somebody else made beforehand would be a trap.
CREATE SCHEMA leadroute;
COMMENT ON SCHEMA leadroute IS 'leadroute: inserted leads are routed leads, with their record, in one transaction.';

-- Roles belong to the cluster, not to the database: another database may have made them already.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['leadroute_author', 'leadroute_approver', 'leadroute_operator', 'leadroute_agent', 'leadroute_auditor'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = role_name) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', role_name);
        END IF;
    END LOOP;
END $$;
COMMENT ON ROLE leadroute_author IS 'Writes policies, scorecards, pools; attaches tables. May not activate.';
COMMENT ON ROLE leadroute_approver IS 'Activates and rolls back policy versions.';
COMMENT ON ROLE leadroute_operator IS 'Runs the routing: submits, routes by hand, catches up, reconciles.';
COMMENT ON ROLE leadroute_agent IS 'Registers agents and does their work.';
COMMENT ON ROLE leadroute_auditor IS 'Reads the record. Sees no direct identifiers.';

-- The library and this script must fit each other: every entry point checks it.
CREATE FUNCTION leadroute.library_version() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'leadroute_library_version';
COMMENT ON FUNCTION leadroute.library_version() IS
    'Returns the version of the loaded library, text such as 0.1. It has to equal the installed version of the extension; other functions raise 55000 where it does not.';

-- Every table that the library keeps in memory carries this trigger; each session reads it anew after a change commits.
CREATE FUNCTION leadroute.configuration_changed() RETURNS trigger
    LANGUAGE c SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'leadroute_configuration_changed';
COMMENT ON FUNCTION leadroute.configuration_changed() IS
    'Statement trigger of the configuration tables: tells all sessions to read the configuration anew at their next statement. Raises 39P01 when called in any other way.';

-- A restore brings what was, in any order: triggers that check or stamp rows leave it alone. What pg_dump writes turns row_security
-- off; anybody could, so who restores also has to be who could write without the trigger.
CREATE FUNCTION leadroute.restoring() RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT current_setting('row_security') = 'off' AND pg_has_role(session_user, current_user, 'MEMBER');
$$;
COMMENT ON FUNCTION leadroute.restoring() IS
    'Whether rows come from a dump. Part of triggers that run as the owner of the extension: true where row_security is off and the session''s user is a superuser or a member of that owner.';
