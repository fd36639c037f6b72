-- SQL agents: a function of the team's as a step. Only its owner registers it; it runs as its owner and sees the lead's attributes and
-- the outputs so far; what it raises quarantines the lead, not the statement. A function that was replaced stops the step.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA agents_sql;
SET search_path TO agents_sql;
CREATE ROLE regress_lr_agent;
CREATE ROLE regress_lr_app;
GRANT leadroute_agent TO regress_lr_agent;
GRANT USAGE, CREATE ON SCHEMA agents_sql TO regress_lr_agent;
GRANT USAGE ON SCHEMA agents_sql TO regress_lr_app;
CREATE TABLE leads (id integer PRIMARY KEY, email text, country text, seats integer);
SELECT leadroute.attach_table('leads', policy => 'agents_sql', classes => '{"country": "plain"}') > 0 AS attached;
GRANT INSERT ON leads TO regress_lr_app;
CREATE VIEW decided AS
    SELECT k.key::int AS id, s.outcome, s.reason_code,
           (SELECT concat_ws(' ', p.agent || '@' || p.agent_version, p.status, p.sqlstate, p.place, p.output) FROM leadroute.provenance p WHERE p.decision_id = s.run_id AND p.capability = 'estimateBudget') AS step, s.run_id
    FROM leadroute.lead_states s JOIN leadroute.lead_keys k USING (lead_id) JOIN leadroute.attached_tables t ON t.source_id = k.source_id WHERE t.relation = 'leads'::regclass;

SET ROLE regress_lr_agent;
CREATE TABLE prices (country text, price integer);
INSERT INTO prices VALUES ('DE', 10), ('FR', 12);
CREATE FUNCTION estimate(lead jsonb) RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE price integer;
BEGIN
    -- a table that only the agent may read
    SELECT p.price INTO price FROM agents_sql.prices p WHERE p.country = lead ->> 'country';
    RETURN CASE lead ->> 'country'
        WHEN 'null' THEN NULL WHEN 'array' THEN '[1]'::jsonb WHEN 'number' THEN '7'::jsonb
        ELSE jsonb_build_object('budget', price * (lead #>> '{attributes,seats}')::int / (CASE lead ->> 'country' WHEN 'zero' THEN 0 ELSE 1 END), 'by', current_user,
            'contact', lead #>> '{validateContact,status}', 'known', (SELECT string_agg(k, ' ' ORDER BY k COLLATE "C") FROM jsonb_object_keys(lead) AS k)) END;
END $$;
SELECT leadroute.register_agent('budget', '1', '{estimateBudget,guess}', 'estimate(jsonb)', 'seats by price') > 0 AS registered;
SELECT name, version, capabilities, kind, function, owner, state, description FROM leadroute.agents WHERE name = 'budget';

-- what is refused
CREATE FUNCTION wrong(text) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
CREATE FUNCTION many(jsonb) RETURNS SETOF jsonb LANGUAGE sql AS 'SELECT $1';
SELECT leadroute.register_agent('budget', '1', '{estimateBudget}', 'estimate(jsonb)');
SELECT leadroute.register_agent('wrong', '1', '{x}', 'wrong(text)');
SELECT leadroute.register_agent('many', '1', '{x}', 'many(jsonb)');
SELECT leadroute.register_agent('score', '1', '{computeLeadScore}', 'estimate(jsonb)');
SELECT leadroute.register_agent('none', '1', '{}', 'estimate(jsonb)');
SELECT leadroute.register_agent('none', '1', '{x,NULL}', 'estimate(jsonb)');
SELECT leadroute.register_agent('two words', '1', '{x}', 'estimate(jsonb)');
SELECT leadroute.register_agent('none', '', '{x}', 'estimate(jsonb)');
SELECT leadroute.register_agent('theirs', '1', '{x}', 'pg_catalog.jsonb_pretty(jsonb)');
SELECT leadroute.register_agent('avg', '1', '{x}', 'pg_catalog.to_jsonb(anyelement)');
SELECT leadroute.deprecate_agent('nobody', '1');
SELECT leadroute.deprecate_agent('validateContact', '1');
RESET ROLE;

SELECT leadroute.publish_policy('agents_sql', '{
    "leadroute": 1, "steps": [{"capability": "validateContact", "stop_when": []}, {"capability": "estimateBudget"}, {"capability": "assignOwner"}],
    "rules": [{"name": "rich", "when": "(estimateBudget->>''budget'')::int > 100", "outcome": "nurture", "reason": "rich"},
              {"name": "rest", "when": "true", "outcome": "nurture", "reason": "rest"}]}', 'test');
SELECT leadroute.activate_policy('agents_sql');
-- inserted by somebody who may not even call the function; NULL and other values are no objects, an error is the lead's own
SET ROLE regress_lr_app;
INSERT INTO leads VALUES (1, 'jane@acme.example', 'DE', 20), (2, NULL, 'FR', 1), (3, NULL, 'zero', 5), (4, NULL, 'null', 5), (5, NULL, 'array', 5), (6, NULL, 'number', 5), (7, 'jane@acme.example', 'DE', 30);
SELECT current_user;
RESET ROLE;
SELECT id, outcome, reason_code, step FROM decided ORDER BY id;
SELECT v.verdict, count(*) FROM decided, leadroute.verify_decision(run_id) v GROUP BY 1 ORDER BY 1;
TRUNCATE leads;

-- it cannot leave its role or change the session's; what it wrote before it raised is undone
SET ROLE regress_lr_agent;
CREATE TABLE notes (note text);
CREATE FUNCTION escape(lead jsonb) RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO agents_sql.notes VALUES ('was here');
    CASE lead ->> 'country'
        WHEN 'role' THEN SET ROLE regress_lr_app;
        WHEN 'superuser' THEN EXECUTE 'ALTER ROLE regress_lr_agent SUPERUSER';
        WHEN 'reset' THEN RESET ROLE;
        WHEN 'setting' THEN PERFORM set_config('work_mem', '64kB', false);
        WHEN 'temp' THEN CREATE TEMPORARY TABLE t (i int);
        WHEN 'raise' THEN RAISE EXCEPTION 'lead % is bad', lead USING ERRCODE = 'LR042';
        WHEN 'read' THEN PERFORM count(*) FROM leadroute.digest_keys;
        WHEN 'null' THEN PERFORM NULL::int + 1;
    END CASE;
    RETURN '{}';
END $$;
SELECT leadroute.register_agent('budget', '2', '{estimateBudget}', 'escape(jsonb)') > 0 AS registered;
RESET ROLE;
SELECT leadroute.publish_policy('agents_sql', leadroute.policy_document('agents_sql'), 'test');
SELECT leadroute.activate_policy('agents_sql');
SHOW work_mem;
INSERT INTO leads VALUES (1, NULL, 'role'), (2, NULL, 'superuser'), (3, NULL, 'reset'), (4, NULL, 'setting'), (5, NULL, 'temp'), (6, NULL, 'raise'), (7, NULL, 'read'), (8, NULL, 'null'), (9, NULL, 'else');
SELECT id, outcome, reason_code, step FROM decided ORDER BY id;
SHOW work_mem;
SELECT current_user = session_user AS myself, count(*) AS notes FROM notes;
TRUNCATE leads;

-- a version that the policy names, by name or name and version; the newest otherwise
CREATE FUNCTION policy_with(agent text) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('leadroute', 1, 'steps', jsonb_build_array(jsonb_build_object('capability', 'estimateBudget', 'agent', agent)))
$$;
SELECT v.pins #>> '{steps,1,agent}' AS pinned FROM leadroute.policy_versions v JOIN leadroute.policies p USING (policy_id) WHERE p.name = 'agents_sql' ORDER BY v.version;
SELECT a.agent, m.place, m.problem FROM (VALUES ('budget'), ('budget@1'), ('budget@3'), ('validateContact')) AS a (agent) LEFT JOIN LATERAL leadroute.policy_mistakes(policy_with(agent)) m ON true;

-- a replaced function is not the one that was registered: its steps fail, nothing changes its meaning silently
SELECT leadroute.publish_policy('agents_sql', policy_with('budget@1'), 'test');
SELECT leadroute.activate_policy('agents_sql');
INSERT INTO leads VALUES (1, NULL, 'DE', 5);
SET ROLE regress_lr_agent;
CREATE OR REPLACE FUNCTION estimate(lead jsonb) RETURNS jsonb LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$ SELECT '{"budget": 1000000}'::jsonb $$;
RESET ROLE;
INSERT INTO leads VALUES (2, NULL, 'DE', 5);
SELECT id, outcome, reason_code, step FROM decided ORDER BY id;
-- the decision that the former function made verifies by what it gave then
SELECT v.verdict FROM decided, leadroute.verify_decision(run_id) v WHERE id = 1;
SELECT leadroute.activate_policy('agents_sql', 1);
SET ROLE regress_lr_agent;
DROP FUNCTION estimate(jsonb);
RESET ROLE;
INSERT INTO leads VALUES (3, NULL, 'DE', 5);
SELECT id, outcome, reason_code, step FROM decided WHERE id = 3;

-- deprecated: versions that name it go on, new ones cannot; retired: its steps fail
SELECT leadroute.activate_policy('agents_sql', 2);
SET ROLE regress_lr_agent;
SELECT leadroute.deprecate_agent('budget', '2');
RESET ROLE;
INSERT INTO leads VALUES (4, NULL, 'null');
SELECT m.place, m.problem FROM leadroute.policy_mistakes(policy_with('budget@2')) m;
SET ROLE regress_lr_app;
SELECT leadroute.deprecate_agent('budget', '2', true);
RESET ROLE;
CREATE ROLE regress_lr_agent_2;
GRANT leadroute_agent TO regress_lr_agent_2;
SET ROLE regress_lr_agent_2;
SELECT leadroute.deprecate_agent('budget', '2', true);
RESET ROLE;
SELECT leadroute.deprecate_agent('budget', '2', true);
INSERT INTO leads VALUES (5, NULL, 'null');
SELECT id, outcome, reason_code, step FROM decided WHERE id IN (4, 5) ORDER BY id;
SELECT leadroute.activate_policy('agents_sql', 2), leadroute.activate_policy('agents_sql', 3);
SELECT count(*) AS problems FROM leadroute.reconcile('leads');

DROP SCHEMA agents_sql CASCADE;
DROP ROLE regress_lr_agent, regress_lr_agent_2, regress_lr_app;
