-- Conditions that raise: what is about data stands in the record of the lead, in a batch as alone; what is about the session aborts the
-- statement, and leaves nothing behind.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA policy_errors;
SET search_path TO policy_errors;
SELECT leadroute.publish_policy('policy_errors', '{"leadroute": 1, "steps": [{"capability": "assignOwner"}],
    "rules": [{"name": "character", "when": "chr(company_size) > ''a''", "outcome": "nurture", "reason": "character"},
              {"name": "long", "when": "length(repeat(''xx'', company_size)) > 100", "outcome": "nurture", "reason": "long"},
              {"name": "seats", "when": "(attributes->>''seats'')::int > 5", "outcome": "nurture", "reason": "seats"},
              {"name": "list", "when": "jsonb_typeof((attributes->>''list'')::jsonb) = ''array''", "outcome": "nurture", "reason": "list"},
              {"name": "rest", "when": "true", "outcome": "nurture", "reason": "rest"}]}', 'test') AS published;
SELECT leadroute.activate_policy('policy_errors') AS active;
CREATE TABLE leads (id text PRIMARY KEY, company_size integer, seats text, list text);
SELECT leadroute.attach_table('leads', policy => 'policy_errors', classes => '{"company_size": "plain"}') > 0 AS attached;
CREATE VIEW runs AS SELECT l.id, s.run_id, s.outcome, s.reason_code, p.output -> 'errors' AS errors
    FROM leads l JOIN leadroute.lead_states s ON s.lead_id = leadroute.lead_of('leads', l.id) JOIN leadroute.provenance p ON p.decision_id = s.run_id OFFSET 0;

-- a value beyond what a function takes is one of the data, although its SQLSTATE, 54000, is of a class that is about the session
INSERT INTO leads (id, company_size) VALUES ('one', 2000000000);
INSERT INTO leads (id, company_size) VALUES ('a', 98), ('b', 2000000000), ('c', 65), ('d', NULL), ('e', 1999999999);
SELECT id, outcome, reason_code, errors FROM runs ORDER BY 1;
SELECT DISTINCT v.verdict FROM runs r, LATERAL leadroute.verify_decision(r.run_id) v;
SELECT rule, errors FROM leadroute.evaluate_policy('policy_errors', '{"company_size": 2000000000}');
SELECT conjunct_no, truth, sqlstate FROM leadroute.explain_rule('policy_errors', NULL, 'character', '{"company_size": 2000000000}');
-- also where it is defined: then it is a mistake, with its place
SELECT place, problem FROM leadroute.policy_mistakes('{"leadroute": 1, "steps": [{"capability": "assignOwner"}], "rules": [{"name": "r", "when": "company = chr(2000000000)", "outcome": "nurture", "reason": "x"}]}');

-- a stack that is too deep, 54001, is about the session: the statement aborts, whichever lead it came to
\set VERBOSITY sqlstate
INSERT INTO leads (id, seats, list) VALUES ('f', '7', '[]'), ('g', NULL, repeat('[', 1000000));
\set VERBOSITY default
SELECT count(*) FROM leads WHERE id IN ('f', 'g');
-- and the next one is guarded as before
INSERT INTO leads (id, seats) VALUES ('h', 'many');
SELECT id, outcome, reason_code, errors FROM runs WHERE id = 'h';
DROP SCHEMA policy_errors CASCADE;
