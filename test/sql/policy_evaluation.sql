-- evaluate_policy() decides about a lead that is given as an insert would, and writes nothing: versions, documents, many leads at once,
-- outputs that are given instead of made, rules that raise, rules that hold where one should.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA policy_evaluation;
SET search_path TO policy_evaluation;
SET TimeZone TO 'UTC';
\pset format unaligned
\pset fieldsep ' | '
INSERT INTO leadroute.owners (reference) VALUES ('evaluation a'), ('evaluation b');
INSERT INTO leadroute.pools (name) VALUES ('evaluation dach'), ('evaluation big'), ('evaluation nobody');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT pool_id, owner_id FROM leadroute.pools, leadroute.owners WHERE name IN ('evaluation dach', 'evaluation big') AND reference LIKE 'evaluation _';
INSERT INTO leadroute.firmographics (domain, company, company_size) VALUES ('evaluation.example', 'Big', 5000);
SELECT leadroute.publish_scorecard('policy_evaluation', '{"base": 10, "characteristics": [{"code": "mail", "bins": [{"when": "email LIKE ''%@acme.example''", "points": 30}]}], "tiers": [{"tier": "A", "from": 40}]}', 'test') > 0 AS published;
CREATE FUNCTION budget(jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$ SELECT jsonb_build_object('budget', ($1 #>> '{attributes,budget}')::integer, 'tier', $1 #>> '{computeLeadScore,tier}') $$;
SELECT leadroute.register_agent('policyEvaluationBudget', '1', '{policyEvaluationBudget}', 'budget(jsonb)') > 0 AS registered;
CREATE FUNCTION document() RETURNS jsonb LANGUAGE sql AS $f$ SELECT $json$ {
    "leadroute": 1, "timezone": "Europe/Berlin", "hit_policy": "unique",
    "steps": [{"capability": "validateContact"}, {"capability": "enrichWithFirmographicData"}, {"capability": "computeLeadScore", "scorecard": "policy_evaluation"},
              {"capability": "policyEvaluationBudget", "on_error": "skip"}, {"capability": "assignOwner"}],
    "rules": [{"name": "big", "priority": 10, "when": "company_size >= 1000", "pool": "evaluation big"},
              {"name": "rich", "priority": 12, "when": "(policyEvaluationBudget->>'budget')::integer > 1000 AND policyEvaluationBudget->>'tier' = 'A'", "outcome": "nurture", "reason": "rich"},
              {"name": "mine", "priority": 15, "when": "attributes->>'owner' = 'b'", "owner": "evaluation b", "reason": "mine"},
              {"name": "seats", "priority": 17, "when": "(attributes->>'seats')::int > 100 AND country = 'DE'", "pool": "evaluation nobody"},
              {"name": "night", "priority": 18, "when": "extract(hour FROM consent_at) >= 22", "outcome": "nurture", "reason": "night", "prerequisites": ["policyEvaluationBudget"]},
              {"name": "DACH", "priority": 20, "when": "country IN ('DE', 'AT', 'CH')", "pool": "evaluation dach"}]
} $json$::jsonb $f$;
SELECT leadroute.publish_policy('policy_evaluation', document(), 'test') AS published;
SELECT leadroute.activate_policy('policy_evaluation') AS active;
SELECT leadroute.create_leads_table('leads', 'policy_evaluation');

-- as an insert decides, so does an evaluation, of the same rows at the same moment
INSERT INTO leads (external_id, email, country, company_size, attributes) VALUES ('a', 'jane@acme.example', 'DE', 5000, NULL), ('b', 'jane@acme.example', 'AT', 12, '{"budget": "2000"}'),
    ('c', 'jane@evaluation.example', 'DE', NULL, '{"seats": "x"}'), ('d', 'jane', 'DE', 12, NULL), ('e', 'jane@gmail.com', 'FR', NULL, '{"budget": "many"}'),
    ('f', 'jane@gmail.com', 'CH', NULL, '{"owner": "b", "seats": "1"}'), ('g', NULL, NULL, NULL, NULL), ('h', 'jane@gmail.com', 'DE', NULL, '{"seats": "101"}');
CREATE VIEW inserted AS
    SELECT l.external_id, d.outcome, d.reason_code, d.rule, d.pool, d.score, p.output -> 'hits' AS hits, p.output -> 'errors' AS errors,
           to_jsonb(l) - 'lead_id' || jsonb_build_object('as_of', d.as_of) AS lead
    FROM leads l JOIN leadroute.decisions d USING (lead_id) JOIN leadroute.provenance p USING (decision_id) WHERE p.capability = 'assignOwner';
SELECT external_id, outcome, reason_code, rule, pool, score, hits, errors FROM inserted ORDER BY 1;
SELECT v.verdict, count(*) FROM leads JOIN leadroute.decisions d USING (lead_id), leadroute.verify_decision(d.decision_id) v GROUP BY 1 ORDER BY 1;
SELECT count(*) AS leads, count(*) FILTER (WHERE ROW(i.reason_code, i.rule, i.pool, i.score) IS NOT DISTINCT FROM ROW(e.reason_code, e.rule, e.pool, e.score)) AS same,
       count(*) FILTER (WHERE i.outcome = e.outcome) AS same_outcome,
       count(*) FILTER (WHERE jsonb_array_length(coalesce(i.hits, '[]')) = cardinality(e.hits) AND jsonb_array_length(coalesce(i.errors, '[]')) = jsonb_array_length(e.errors)) AS same_hits_and_errors
FROM (SELECT *, row_number() OVER (ORDER BY external_id)::int AS lead_no FROM inserted) i
JOIN leadroute.evaluate_leads('policy_evaluation', ARRAY(SELECT lead FROM inserted ORDER BY external_id)) e USING (lead_no);
-- that nobody is in a pool does not show: no turn is drawn
SELECT e.lead_no, e.outcome, e.reason_code, e.rule, e.pool, e.owner, e.score, e.tier, e.errors, e.hits
FROM leadroute.evaluate_leads('policy_evaluation', ARRAY(SELECT lead FROM inserted ORDER BY external_id) || NULL::jsonb) e ORDER BY 1;
SELECT jsonb_pretty(steps) FROM leadroute.evaluate_policy('policy_evaluation', '{"email": "jane@acme.example", "country": "DE", "attributes": {"seats": "x", "budget": "many"}, "consent_at": "2026-05-04T23:00:00+02:00"}');

-- what is given is not made: the steps do not run, not even one that would fail
SELECT outcome, reason_code, rule, owner, score, tier, s ->> 'capability' AS step, s ->> 'status' AS status, s ->> 'output' AS output
FROM leadroute.evaluate_policy('policy_evaluation', '{"validateContact.status": "valid", "score": 70, "policyEvaluationBudget": {"budget": 3000, "tier": "A"},
    "enrichWithFirmographicData.filled": null, "attributes": {"owner": "b", "budget": "many"}}'), jsonb_array_elements(steps) AS s;
SELECT outcome, reason_code, rule, tier, errors, hits FROM leadroute.evaluate_policy('policy_evaluation', '{"validateContact.status": "invalid", "country": "DE"}');
-- a contact that is given as valid still has its address, for the steps behind
SELECT rule, s #>> '{output,status}' AS enriched FROM leadroute.evaluate_policy('policy_evaluation', '{"validateContact.status": "valid", "email": "jane@evaluation.example"}'), jsonb_array_elements(steps) AS s WHERE s ->> 'capability' = 'enrichWithFirmographicData';
SELECT s ->> 'output' AS output FROM leadroute.evaluate_policy('policy_evaluation', '{"validateContact.status": "valid", "email": "jane@evaluation.example"}'), jsonb_array_elements(steps) AS s WHERE s ->> 'capability' = 'validateContact';
-- a step that failed and was skipped is no prerequisite
SELECT rule FROM leadroute.evaluate_policy('policy_evaluation', '{"validateContact.status": "valid", "attributes": {"budget": "many"}, "consent_at": "2026-05-04T23:00:00+02:00"}');
SELECT rule FROM leadroute.evaluate_policy('policy_evaluation', '{"validateContact.status": "valid", "attributes": {"budget": "1"}, "consent_at": "2026-05-04T23:00:00+02:00"}');
-- moments without an offset are in the policy's time zone, whatever the session's
SELECT rule FROM leadroute.evaluate_policy('policy_evaluation', '{"validateContact.status": "valid", "consent_at": "2026-05-04 22:00"}');
SELECT rule FROM leadroute.evaluate_policy('policy_evaluation', '{"validateContact.status": "valid", "consent_at": "2026-05-04 21:59"}');

-- consent is judged as of the moment that is given
SELECT outcome, s #>> '{output,reason}' AS reason FROM unnest(ARRAY['2026-05-03', '2026-05-05']) AS m, LATERAL leadroute.evaluate_document('{"leadroute": 1, "steps": [{"capability": "checkRegionalCompliance"}, {"capability": "assignOwner"}],
    "rules": [{"name": "all", "when": "true", "pool": "evaluation dach"}]}', jsonb_build_object('country', 'DE', 'consent', true, 'consent_at', '2026-05-04', 'as_of', m)), jsonb_array_elements(steps) AS s WHERE s ->> 'capability' = 'checkRegionalCompliance' ORDER BY m;

-- a document that nobody has published, also for an owner who has no pool yet
SELECT outcome, rule, pool, owner FROM leadroute.evaluate_document(document() || '{"rules": [{"name": "a", "when": "true", "owner": "evaluation a"}]}', '{"validateContact.status": "valid"}');
SELECT count(*) AS pools FROM leadroute.pools WHERE name = 'owner evaluation a';
-- another version
SELECT leadroute.publish_policy('policy_evaluation', document() - 'hit_policy' || '{"rules": []}', 'test') AS published;
SELECT outcome, reason_code, hits FROM leadroute.evaluate_policy('policy_evaluation', '{"validateContact.status": "valid"}', 2);
SELECT outcome, reason_code, hits FROM leadroute.evaluate_policy('policy_evaluation', '{"validateContact.status": "valid", "country": "DE", "attributes": {"owner": "b"}}', 1);

-- nothing is written: a read-only transaction does it, nothing is counted on, no turn is drawn, no owner's pool is made
CREATE VIEW written AS SELECT (SELECT count(*) FROM leadroute.entries) AS entries, (SELECT count(*) FROM leadroute.lead_states) AS states, (SELECT last_value FROM leadroute.run_ids) AS runs,
    (SELECT count(*) FROM leadroute.pool_revisions) AS revisions, (SELECT count(*) FROM leadroute.pools) AS pools, (SELECT sum(last_value) FROM pg_sequences WHERE schemaname = 'leadroute' AND sequencename LIKE 'pool%turns') AS turns;
CREATE TABLE before AS SELECT * FROM written;
BEGIN READ ONLY;
SELECT count(*) AS leads FROM generate_series(1, 3), LATERAL leadroute.evaluate_leads('policy_evaluation', ARRAY(SELECT lead FROM inserted));
SELECT rule FROM leadroute.evaluate_document(document(), '{"email": "jane@gmail.com", "country": "AT"}');
COMMIT;
SELECT b = w AS nothing_written FROM before b, written w;
-- an agent cannot write either, nor can it make itself able to
CREATE TABLE seen (lead jsonb);
CREATE FUNCTION writing(jsonb) RETURNS jsonb LANGUAGE sql AS $$ INSERT INTO policy_evaluation.seen VALUES ($1); SELECT '{}'::jsonb $$;
CREATE FUNCTION trying(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN SET LOCAL transaction_read_only = off; INSERT INTO policy_evaluation.seen VALUES ($1); RETURN '{}'; END $$;
SELECT leadroute.register_agent('policyEvaluationWriting', '1', '{policyEvaluationWriting}', 'writing(jsonb)') > 0 AND leadroute.register_agent('policyEvaluationTrying', '1', '{policyEvaluationTrying}', 'trying(jsonb)') > 0 AS registered;
CREATE FUNCTION calling(capability text) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('leadroute', 1, 'steps', jsonb_build_array(jsonb_build_object('capability', capability))) $$;
SELECT * FROM leadroute.evaluate_document(calling('policyEvaluationWriting'), '{}');
SELECT * FROM leadroute.evaluate_document(calling('policyEvaluationTrying'), '{}');
SELECT outcome FROM leadroute.evaluate_document(calling('policyEvaluationWriting'), '{"policyEvaluationWriting": {}}');
SHOW transaction_read_only;
SELECT count(*) AS seen FROM seen;

-- what fails for a lead is in the result, also where an insert would abort
SET leadroute.on_error = abort;
SELECT outcome, reason_code, s ->> 'sqlstate' AS sqlstate FROM leadroute.evaluate_document(document() #- '{steps,3,on_error}', '{"validateContact.status": "valid", "attributes": {"budget": "many"}}'), jsonb_array_elements(steps) AS s WHERE s ->> 'capability' = 'policyEvaluationBudget';
RESET leadroute.on_error;

-- refused
SELECT * FROM leadroute.evaluate_policy('policy_evaluation', '{"wealth": 3}');
SELECT * FROM leadroute.evaluate_policy('policy_evaluation', '{"company_size": "many"}');
SELECT * FROM leadroute.evaluate_policy('policy_evaluation', '{"as_of": "yesterday noon-ish"}');
SELECT * FROM leadroute.evaluate_policy('policy_evaluation', '[]');
SELECT * FROM leadroute.evaluate_policy('policy_evaluation', '{"policyEvaluationBudget": 3}');
SELECT * FROM leadroute.evaluate_policy('policy_evaluation', '{"policyEvaluationBudget": null}');
SELECT * FROM leadroute.evaluate_leads('policy_evaluation', NULL);
SELECT * FROM leadroute.evaluate_policy('policy_evaluation', '{}', 99);
SELECT * FROM leadroute.evaluate_policy('policy_evaluation none', '{}');
SELECT * FROM leadroute.evaluate_document('{"leadroute": 1, "steps": []}', '{}');
SELECT * FROM leadroute.evaluate_document(NULL, '{}');

DELETE FROM leadroute.firmographics WHERE domain = 'evaluation.example';
DROP SCHEMA policy_evaluation CASCADE;
