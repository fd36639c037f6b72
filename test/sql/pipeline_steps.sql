-- A policy version names the steps, in order. A step that needs another runs only when that one was done; a stop condition ends the
-- run with its outcome; a step that fails quarantines the lead, or is skipped where the policy says so, and the others go on.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA pipeline_steps;
SET search_path TO pipeline_steps;
SELECT leadroute.publish_scorecard('pipeline_steps', '{"base": 10, "characteristics": [
    {"code": "seats", "bins": [{"when": "(attributes->>''seats'')::int > 10", "points": 10}]}]}', 'test');
CREATE TABLE leads (id integer PRIMARY KEY, email text, country text, seats text);
SELECT leadroute.attach_table('leads', policy => 'pipeline_steps') > 0 AS attached;
CREATE VIEW decided AS
    SELECT k.key::int AS id, s.outcome, s.reason_code, s.score,
           (SELECT string_agg(concat_ws(' ', p.capability, p.status, p.sqlstate, p.place), ', ' ORDER BY p.step_no) FROM leadroute.provenance p WHERE p.decision_id = s.run_id) AS steps, s.run_id
    FROM leadroute.lead_states s JOIN leadroute.lead_keys k USING (lead_id) JOIN leadroute.attached_tables t ON t.source_id = k.source_id WHERE t.relation = 'leads'::regclass;
CREATE VIEW verified AS SELECT v.verdict, count(*) FROM decided d, leadroute.verify_decision(d.run_id) v GROUP BY 1 ORDER BY 1;
CREATE FUNCTION try(wanted jsonb) RETURNS TABLE (id integer, outcome leadroute.outcome, reason_code text, score double precision, steps text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM leadroute.publish_policy('pipeline_steps', jsonb_build_object('leadroute', 1, 'steps', wanted,
        'rules', '[{"name": "scored", "when": "score >= 0", "outcome": "nurture", "reason": "scored"}, {"name": "all", "when": "true", "outcome": "nurture", "reason": "not_scored"}]'::jsonb), 'test');
    PERFORM leadroute.activate_policy('pipeline_steps');
    TRUNCATE leads;
    INSERT INTO leads VALUES (1, 'jane@acme.example', 'DE', '20'), (2, 'jane@', 'DE', 'many'), (3, 'joe@acme.example', 'FR', 'many'), (4, NULL, 'XX', NULL);
    RETURN QUERY SELECT d.id, d.outcome, d.reason_code, d.score, d.steps FROM decided d ORDER BY d.id;
END $$;

-- what stops by itself, and what the policy says instead
SELECT * FROM try('[{"capability": "validateContact"}, {"capability": "computeLeadScore", "scorecard": "pipeline_steps"}, {"capability": "assignOwner"}]');
SELECT * FROM verified;
SELECT * FROM try('[{"capability": "validateContact", "stop_when": [{"when": "country = ''XX''", "outcome": "quarantined", "reason": "odd"}, {"when": "email LIKE ''joe%''", "outcome": "rejected", "reason": "joe"}]},
                    {"capability": "computeLeadScore", "scorecard": "pipeline_steps", "on_error": "skip"}, {"capability": "assignOwner"}]');
SELECT * FROM verified;
-- the lead's e-mail is gone: what was decided on it stands
UPDATE leads SET email = NULL;
SELECT * FROM verified;
-- a step that needs one that failed is not run
SELECT * FROM try('[{"capability": "computeLeadScore", "scorecard": "pipeline_steps", "on_error": "skip"}, {"capability": "validateContact", "after": ["computeLeadScore"]},
                    {"capability": "enrichWithFirmographicData", "after": ["validateContact"]}, {"capability": "assignOwner"}]');
SELECT * FROM verified;
SELECT * FROM try('[{"capability": "computeLeadScore", "scorecard": "pipeline_steps", "on_error": "skip"}, {"capability": "assignOwner", "after": ["computeLeadScore"]}]');
SELECT * FROM verified;
-- a stop condition that raises is a failure of its step
SELECT * FROM try('[{"capability": "validateContact", "stop_when": [{"when": "false", "outcome": "rejected", "reason": "x"}, {"when": "(attributes->>''seats'')::int > 100", "outcome": "rejected", "reason": "x"}]}, {"capability": "assignOwner"}]');
SELECT * FROM verified;
SELECT * FROM try('[{"capability": "validateContact", "on_error": "skip", "stop_when": [{"when": "(attributes->>''seats'')::int > 100", "outcome": "rejected", "reason": "x"}]}, {"capability": "assignOwner"}]');
SELECT * FROM verified;
-- steps after the assignment never run; a policy that assigns nothing decides that
SELECT * FROM try('[{"capability": "assignOwner"}, {"capability": "validateContact"}]');
SELECT leadroute.publish_policy('pipeline_steps', '{"leadroute": 1, "steps": [{"capability": "validateContact"}]}', 'test') > 0 AS published;
SELECT leadroute.activate_policy('pipeline_steps') > 0 AS active;
SELECT changed FROM leadroute.route_leads((SELECT array_agg(lead_id) FROM leadroute.lead_keys k JOIN leadroute.attached_tables t USING (source_id) WHERE t.relation = 'leads'::regclass));
SELECT outcome, reason_code, steps FROM decided ORDER BY id;
SELECT * FROM verified;

DROP SCHEMA pipeline_steps CASCADE;
