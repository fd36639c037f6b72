-- run_pending() does in the session what background workers do: tasks, each with its attempts, timers, activations. One that ends its
-- transaction costs no other anything. All of it is in one transaction here, where workers see nothing.
SET client_min_messages = warning;
CREATE TABLE workers_leads (lead_id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'), name text, source text);
SELECT leadroute.attach_table('workers_leads', policy => 'workers') > 0 AS attached;
INSERT INTO leadroute.pools (name) VALUES ('workers');
INSERT INTO leadroute.owners (reference) VALUES ('workers one');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT pool_id, owner_id FROM leadroute.pools, leadroute.owners WHERE name = 'workers' AND reference = 'workers one';
CREATE FUNCTION workers_try(lead jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    CASE lead ->> 'source' WHEN 'broken' THEN RAISE division_by_zero; WHEN 'aborts' THEN RAISE serialization_failure;
        WHEN 'sleeps' THEN PERFORM pg_sleep(60); ELSE NULL; END CASE;
    RETURN jsonb_build_object('source', lead ->> 'source');
END $$;
SELECT leadroute.register_agent('workersTry', '1', '{workersTry}', 'workers_try(jsonb)') > 0 AS registered;
UPDATE leadroute.agents SET breaker_failures = 100 WHERE name = 'workersTry';
SELECT leadroute.publish_policy('workers', '{"leadroute": 1, "steps": [
    {"capability": "workersTry", "mode": "worker", "retry": {"attempts": 1}, "timeouts": {"start_to_close": "50 milliseconds"}, "fallback": {"skip": true}},
    {"capability": "assignOwner"}], "rules": [{"name": "any", "when": "true", "pool": "workers"}]}', 'with failures') > 0 AS published;
SELECT leadroute.activate_policy('workers') > 0 AS activated;
CREATE VIEW workers_done AS
    SELECT l.name, l.source, s.outcome, s.reason_code, p.status, p.sqlstate, p.place, p.output
    FROM workers_leads l JOIN leadroute.lead_states s USING (lead_id)
    LEFT JOIN LATERAL (SELECT * FROM leadroute.provenance p WHERE p.decision_id = s.run_id AND p.capability = 'workersTry' ORDER BY p.status = 'waiting' LIMIT 1) p ON true;

BEGIN;
INSERT INTO workers_leads (name, source) VALUES ('a', 'fine'), ('b', 'broken'), ('c', 'aborts'), ('d', 'sleeps'), ('e', 'fine');
SELECT name, outcome, reason_code, status FROM workers_done ORDER BY 1;
-- so many at most; what other scripts left is no matter
SELECT leadroute.run_pending(0) >= 0 AS none;
SELECT leadroute.run_pending() > 0 AS done;
SELECT * FROM workers_done ORDER BY 1;
SELECT leadroute.run_pending() AS nothing_left;
COMMIT;

-- what is due is done
BEGIN;
SELECT leadroute.publish_policy('workers', '{"leadroute": 1, "steps": [{"capability": "assignOwner"}], "rules": [{"name": "any", "when": "true", "outcome": "nurture", "reason": "later"}]}', 'without') > 0 AS published;
SELECT leadroute.activate_policy('workers', NULL, 'at its time', clock_timestamp() + interval '20 milliseconds') > 0 AS activated;
SELECT scheduled_at IS NOT NULL AS scheduled FROM leadroute.policies WHERE name = 'workers';
SELECT pg_sleep(0.03);
SELECT leadroute.run_pending() AS due;
SELECT p.scheduled_at IS NOT NULL AS scheduled, v.version FROM leadroute.policies p JOIN leadroute.policy_versions v ON v.policy_version_id = p.active_version_id WHERE p.name = 'workers';
SELECT leadroute.run_pending() AS due;
ROLLBACK;

-- a duty that fails is named, and keeps nothing else from being done
BEGIN;
ALTER FUNCTION leadroute.check_trials() RENAME TO workers_trials;
CREATE FUNCTION leadroute.check_trials() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RAISE division_by_zero USING MESSAGE = 'with a value in it'; END $$;
INSERT INTO workers_leads (name, source) VALUES ('f', 'fine');
SELECT leadroute.run_pending() > 0 AS done;
SELECT name, outcome FROM workers_done WHERE name = 'f';
ROLLBACK;

\set VERBOSITY sqlstate
SELECT leadroute.run_pending(-1);
SELECT leadroute.run_pending(NULL);
\set VERBOSITY default
BEGIN READ ONLY;
SELECT leadroute.run_pending();
ROLLBACK;

-- a copy: another identity than the database's own
SELECT leadroute.is_copy();
SELECT count(*), bool_and(i.database_oid = d.oid AND i.database_name = d.datname AND i.system_identifier = c.system_identifier) AS mine
FROM leadroute.database_identities i, pg_database d, pg_control_system() c WHERE d.datname = current_database();
BEGIN;
INSERT INTO leadroute.database_identities (system_identifier, database_oid, database_name) VALUES (1, 1, 'elsewhere');
SELECT leadroute.is_copy();
SAVEPOINT a;
SELECT leadroute.run_pending();
ROLLBACK TO a;
SELECT leadroute.resume_after_restore();
SELECT leadroute.is_copy();
SELECT leadroute.resume_after_restore();
SELECT count(*) FROM leadroute.database_identities;
ROLLBACK;
SELECT leadroute.is_copy();

-- who may what
SET ROLE leadroute_auditor;
SELECT count(*) > 0 AS shown FROM leadroute.worker_status();
SELECT leadroute.is_copy();
SELECT leadroute.run_pending();
SELECT leadroute.resume_after_restore();
SET ROLE leadroute_operator;
SELECT leadroute.run_pending() >= 0 AS done;
SELECT leadroute.resume_after_restore();
SELECT leadroute.notice_workers(7);
SELECT leadroute.enter_activations();
RESET ROLE;

-- what an agent's function does: it is planned as in any session, and cannot change a lead amid its run. What is wrong with one lead, or one
-- table, outside of functions keeps no other from its turn; and route_pending() takes such leads up again
BEGIN;
CREATE ROLE workers_tenant;
CREATE SCHEMA workers_apart AUTHORIZATION workers_tenant;
CREATE TABLE workers_apart.leads (lead_id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'), name text, source text) PARTITION BY RANGE (lead_id);
CREATE TABLE workers_apart.all_leads PARTITION OF workers_apart.leads DEFAULT;
SELECT leadroute.attach_table('workers_apart.leads', policy => 'workers') > 0 AS attached;
ALTER TABLE workers_apart.leads OWNER TO workers_tenant;
CREATE FUNCTION workers_act(lead jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM public.workers_leads WHERE workers_leads.name = 'changed' AND source = lead ->> 'source';
    RETURN jsonb_build_object('planned', concat_ws(' ', current_setting('enable_seqscan'), current_setting('enable_hashjoin'), current_setting('enable_mergejoin')));
END $$;
SELECT leadroute.register_agent('workersAct', '1', '{workersTry}', 'workers_act(jsonb)') > 0 AS registered;
SELECT leadroute.publish_policy('workers', '{"leadroute": 1, "steps": [
    {"capability": "workersTry", "agent": "workersAct", "mode": "worker", "retry": {"attempts": 1}, "fallback": {"skip": true}},
    {"capability": "assignOwner"}], "rules": [{"name": "any", "when": "true", "pool": "workers"}]}', 'acts') > 0 AS published;
SELECT leadroute.activate_policy('workers') > 0 AS activated;
INSERT INTO workers_apart.leads (name, source) VALUES ('apart', 'fine');
INSERT INTO workers_leads (name, source) VALUES ('damaged', 'fine'), ('changed', 'acts'), ('g', 'fine');
UPDATE leadroute.entries SET evidence = '\x0300' WHERE lead_id = (SELECT lead_id FROM workers_leads WHERE name = 'damaged');
REVOKE ALL ON SCHEMA workers_apart FROM workers_tenant;
SELECT leadroute.run_pending() > 0 AS done;
SELECT name, s.outcome, s.reason_code FROM (TABLE workers_leads UNION ALL TABLE workers_apart.leads) l JOIN leadroute.lead_states s USING (lead_id)
    WHERE name IN ('apart', 'changed', 'damaged', 'g') ORDER BY 1;
SELECT p.status, p.sqlstate, p.output FROM leadroute.provenance p JOIN workers_leads l USING (lead_id) WHERE l.name IN ('changed', 'g') AND p.capability = 'workersTry' AND p.status <> 'waiting' ORDER BY 1;
SELECT t.state, t.wake_at > now() AS later, h ->> 'error' AS error FROM leadroute.tasks t JOIN workers_leads l USING (lead_id), jsonb_array_elements(t.history) h WHERE l.name = 'damaged';
GRANT ALL ON SCHEMA workers_apart TO workers_tenant;
SELECT leadroute.route_pending('workers_apart.leads');
SELECT leadroute.run_pending() > 0 AS done;
SELECT s.outcome, s.reason_code FROM workers_apart.leads l JOIN leadroute.lead_states s USING (lead_id);
ROLLBACK;

DROP VIEW workers_done;
SELECT leadroute.detach_table('workers_leads');
DROP TABLE workers_leads;
DROP FUNCTION workers_try(jsonb);
