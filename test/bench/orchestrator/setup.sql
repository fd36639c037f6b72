-- What the lines of `make bench LINES=orchestrator` insert into, after test/bench/schema.sql: a table and a policy for each. Every policy ends in
-- assignOwner, behind the asynchronous step: what the peers' jobs do not have, a run has, an outcome.
\set ON_ERROR_STOP on
SET client_min_messages = warning;

-- In PL/pgSQL, which keeps its plan from call to call: a function in SQL is prepared anew each time, and takes twice as long.
CREATE FUNCTION bench.noop(lead jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN '{}'::jsonb; END $$;
CREATE FUNCTION bench.clock(lead jsonb) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$ BEGIN RETURN jsonb_build_object('began', clock_timestamp()); END $$;
SELECT leadroute.register_agent('sqlnoop', '1', '{noopStep}', 'bench.noop(jsonb)'), leadroute.register_agent('clock', '1', '{tellTime}', 'bench.clock(jsonb)'),
       leadroute.register_external_agent('noop', '1', '{estimateBudget}') \g /dev/null

SELECT leadroute.publish_policy(p.name, jsonb_build_object('leadroute', 1, 'steps', jsonb_build_array(p.step, '{"capability": "assignOwner"}'::jsonb),
    'rules', '[{"name": "all", "when": "true", "pool": "pool 0"}]'::jsonb), 'bench')
FROM (VALUES ('outside', '{"capability": "estimateBudget", "mode": "external", "agent": "noop@1"}'::jsonb),
             ('inside', '{"capability": "noopStep", "mode": "worker", "agent": "sqlnoop@1"}'),
             ('clocked', '{"capability": "tellTime", "mode": "worker", "agent": "clock@1"}')) AS p (name, step) \g /dev/null
SELECT leadroute.activate_policy(p) FROM unnest('{outside,inside,clocked}'::text[]) AS p \g /dev/null
CREATE TABLE outside (id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'), source text);
CREATE TABLE inside (LIKE outside INCLUDING ALL);
CREATE TABLE clocked (LIKE outside INCLUDING ALL);
SELECT leadroute.attach_table(p, classes => '{"source": "plain"}', policy => p) FROM unnest('{outside,inside,clocked}'::text[]) AS p \g /dev/null

-- The policy of the other lines, and the same with a step more, in front of assignOwner, that nobody does while it is measured.
SELECT leadroute.publish_policy('stepped', jsonb_set(d, '{steps}', jsonb_path_query_array(d, '$.steps[0 to 3]')
    || '{"capability": "estimateBudget", "mode": "external", "agent": "noop@1"}'::jsonb || (d #> '{steps,4}')), 'bench')
FROM leadroute.policy_document('bench', 1) AS d \g /dev/null
SELECT leadroute.activate_policy('stepped') \g /dev/null
SELECT leadroute.create_leads_table('leads_stepped', 'stepped') \g /dev/null

-- When each transaction of the line latency was about to commit, and when it had.
CREATE UNLOGGED TABLE bench.moments (lead_id bigint, at timestamptz, committed_at timestamptz);

-- Raises unless all n leads of a table were decided, each in two entries, and nothing waits any more.
CREATE FUNCTION bench.check_continued(n bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    assigned bigint := (SELECT count(*) FROM leadroute.lead_states WHERE outcome = 'assigned' AND owner_id IS NOT NULL);
    entries bigint := (SELECT count(*) FROM leadroute.entries);
    tasks bigint := (SELECT count(*) FROM leadroute.tasks);
BEGIN
    IF assigned <> n OR entries <> 2 * n OR tasks <> 0 THEN
        RAISE EXCEPTION 'of % leads % are assigned, in % entries, % tasks are left', n, assigned, entries, tasks;
    END IF;
END $$;

-- Raises unless n leads were routed as far as the step that nobody does: some end before it, the others wait, with a task each.
CREATE FUNCTION bench.check_waiting(leads regclass, n bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    entries bigint := (SELECT count(*) FROM leadroute.entries);
    waiting bigint := (SELECT count(*) FROM leadroute.lead_states WHERE outcome = 'pending' AND reason_code = 'waiting');
    tasks bigint := (SELECT count(*) FROM leadroute.tasks WHERE state = 'q');
BEGIN
    PERFORM bench.check_bare(leads, n);
    IF entries <> n OR waiting <> tasks OR waiting < n / 2 THEN
        RAISE EXCEPTION 'of % leads % have an entry, % wait, with % tasks', n, entries, waiting, tasks;
    END IF;
END $$;

-- Returns when no task is left that a run up to the last one of now waits for, looking every 2 ms at the end of the queue.
CREATE PROCEDURE bench.wait_for_workers() LANGUAGE plpgsql AS $$
DECLARE
    last bigint := (SELECT max(run_id) FROM leadroute.entries);
BEGIN
    WHILE EXISTS (SELECT FROM leadroute.tasks WHERE run_id = last) LOOP
        COMMIT;
        PERFORM pg_sleep(0.002);
    END LOOP;
    -- what the executors have in hand besides
    WHILE EXISTS (SELECT FROM leadroute.tasks) LOOP
        COMMIT;
        PERFORM pg_sleep(0.002);
    END LOOP;
END $$;
