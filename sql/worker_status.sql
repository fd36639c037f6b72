-- worker_status: what background workers do, their work in the caller's session, and what becomes of a database that is a copy.

CREATE FUNCTION leadroute.notice_workers(what integer) RETURNS void
    LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_notice_workers';
COMMENT ON FUNCTION leadroute.notice_workers(integer) IS
    'Has the background workers of this database woken when the transaction commits. what: a sum of 1 tasks for executors, 2 tasks for agents outside, 4 something is due at a new moment, 8 the extension has come or changed. Does nothing where the library is not preloaded.';

CREATE FUNCTION leadroute.system_identifier() RETURNS bigint
    LANGUAGE c STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_system_identifier';
COMMENT ON FUNCTION leadroute.system_identifier() IS 'Returns the server''s system identifier, that of pg_control_system(): a copy of the files has the same, any other server another.';

CREATE TABLE leadroute.database_identities (
    system_identifier bigint NOT NULL,
    database_oid oid NOT NULL,
    database_name text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.database_identities
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();
COMMENT ON TABLE leadroute.database_identities IS 'Which database this is. A dump, a template and a clone bring it along, so that a copy finds another identity than its own here: see is_copy().';
COMMENT ON COLUMN leadroute.database_identities.system_identifier IS 'That of the server: see system_identifier(). 0: the extension was installed by a restore.';
COMMENT ON COLUMN leadroute.database_identities.database_oid IS 'The database''s object id; 0: the extension was installed by a restore.';
COMMENT ON COLUMN leadroute.database_identities.database_name IS 'Its name when this was recorded; nothing goes by it.';
COMMENT ON COLUMN leadroute.database_identities.recorded_at IS 'When this was recorded.';

-- Scripts of pg_dump turn row_security off. Tables are filled in any order then, and nobody may act before all of them are.
INSERT INTO leadroute.database_identities (system_identifier, database_oid, database_name)
    SELECT leadroute.system_identifier(), oid, datname FROM pg_database WHERE datname = current_database()
    UNION ALL SELECT 0, 0, 'restore' WHERE leadroute.restoring();

CREATE FUNCTION leadroute.is_copy() RETURNS boolean
    LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_is_copy';
COMMENT ON FUNCTION leadroute.is_copy() IS
    'Whether this database is a copy: a restored dump, made from a template, a clone, or the result of pg_upgrade. Its workers, timers and deliveries are off, and tasks are given to nobody, until resume_after_restore(). Leads that are inserted are routed all the same. A standby, promoted or not, is no copy.';

CREATE FUNCTION leadroute.resume_after_restore() RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    copy boolean := leadroute.is_copy();
BEGIN
    IF copy THEN
        DELETE FROM leadroute.database_identities;
        INSERT INTO leadroute.database_identities (system_identifier, database_oid, database_name)
            SELECT leadroute.system_identifier(), oid, datname FROM pg_database WHERE datname = current_database();
    END IF;
    PERFORM leadroute.notice_workers(8);
    RETURN copy;
END $$;
COMMENT ON FUNCTION leadroute.resume_after_restore() IS
    'Lets a copy act: workers, timers and deliveries begin when it commits, and tasks are given out. Call it where nothing else acts for these leads any more; otherwise agents outside are asked twice, and people told twice. Returns whether the database was a copy; if it was not, nothing changes.';

CREATE FUNCTION leadroute.worker_status()
    RETURNS TABLE (database text, worker text, pid integer, state text, since timestamptz, started_at timestamptz, tasks bigint, transactions bigint, failures bigint,
                   last_sqlstate text, last_failure_at timestamptz, retry_at timestamptz)
    LANGUAGE c ROWS 10 SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_worker_status';
COMMENT ON FUNCTION leadroute.worker_status() IS
    'Shows the background workers of all databases: the launcher, the scheduler of each database, or why there is none, and its executors. state: what a worker does; of a database without a scheduler: to be started, starting, failed, no worker process free, not installed, another version, copy, off, closed (it is a template or allows no connections), kept out (somebody drops, renames or copies the database, or changes the extension). since: from when on it does that. tasks, transactions, failures: of this process. last_sqlstate: of its last failure. retry_at: when it tries again, if it failed. Where the library is not preloaded there is one row that says so.';

CREATE FUNCTION leadroute.run_pending(max integer DEFAULT 1000) RETURNS bigint
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_run_pending';
COMMENT ON FUNCTION leadroute.run_pending(integer) IS
    'Does in this session what background workers do: fires timers that are due, enters activations, draws overflows, checks trials, and runs tasks that policies leave to workers. max: how many tasks at most, and how many timers of each kind. Returns how many timers and tasks there were to do. pg_cron calls it each minute where it is scheduled (see schedule_maintenance); beside running workers it does no harm. Raises 22023 if max is negative, 22004 if it is null, 55000 in a copy (see is_copy), 25006 where nothing can be written.';

-- The launcher is told when this commits.
SELECT leadroute.notice_workers(8);
