-- leadroute.on_error = abort turns a quarantine into an error of the statement, which names the agent and the SQLSTATE, never a value.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA pipeline_abort;
SET search_path TO pipeline_abort;
CREATE FUNCTION agent(lead jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'cannot read %', lead ->> 'email' USING ERRCODE = 'LR042', DETAIL = lead::text; END $$;
SELECT leadroute.register_agent('pipeline_abort', '1', '{pipelineAbort}', 'agent(jsonb)') > 0 AS registered;
SELECT leadroute.publish_scorecard('pipeline_abort', '{"characteristics": [{"code": "seats", "bins": [{"when": "(attributes->>''seats'')::int > 10", "points": 10}]}]}', 'test');
CREATE TABLE leads (id text PRIMARY KEY, email text, seats text, company_size text);
SELECT leadroute.attach_table('leads', policy => 'pipeline_abort') > 0 AS attached;
SELECT leadroute.publish_policy('pipeline_abort', '{"leadroute": 1, "steps": [{"capability": "computeLeadScore", "scorecard": "pipeline_abort"}, {"capability": "pipelineAbort"}]}', 'test');
SELECT leadroute.publish_policy('pipeline_abort', '{"leadroute": 1, "steps": [{"capability": "computeLeadScore", "scorecard": "pipeline_abort", "on_error": "skip"}, {"capability": "pipelineAbort", "on_error": "skip"},
    {"capability": "validateContact", "stop_when": [{"when": "email::int = 1", "outcome": "rejected", "reason": "x"}]}]}', 'test');
SELECT leadroute.activate_policy('pipeline_abort', 1);
SET leadroute.on_error = abort;
\set SHOW_CONTEXT always
INSERT INTO leads VALUES ('1', 'jane@acme.example', 'secret seats', '5');
\echo :LAST_ERROR_SQLSTATE
INSERT INTO leads VALUES ('1', 'jane@acme.example', '5', '5');
\echo :LAST_ERROR_SQLSTATE
INSERT INTO leads VALUES ('1', 'jane@acme.example', '5', 'secret size');
\echo :LAST_ERROR_SQLSTATE
SELECT leadroute.activate_policy('pipeline_abort', 2);
INSERT INTO leads VALUES ('1', 'jane@acme.example', 'secret seats', '5');
\echo :LAST_ERROR_SQLSTATE
\set SHOW_CONTEXT never
SELECT count(*) FROM leads;
-- recorded instead: every step that failed, by its SQLSTATE and place
RESET leadroute.on_error;
INSERT INTO leads VALUES ('1', 'jane@acme.example', 'secret seats', '5');
SELECT s.outcome, s.reason_code, p.capability, p.status, p.sqlstate, p.place FROM leadroute.lead_states s JOIN leadroute.provenance p ON p.decision_id = s.run_id WHERE s.lead_id = leadroute.lead_of('leads', '1') ORDER BY p.step_no;
DROP SCHEMA pipeline_abort CASCADE;
