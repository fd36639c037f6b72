-- verify_decision() decides again from the record and compares: identical, or each difference by its place; what the lead has no more
-- is unavailable, and its steps stand as recorded; another environment is told beside it. Superseded decisions verify as well.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA provenance_verify;
SET search_path TO provenance_verify;
INSERT INTO leadroute.pools (name) VALUES ('provenance_verify');
INSERT INTO leadroute.owners (reference) VALUES ('verify a'), ('verify b');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT pool_id, owner_id FROM leadroute.pools, leadroute.owners WHERE name = 'provenance_verify' AND reference LIKE 'verify _';
SELECT pool_id AS pool FROM leadroute.pools WHERE name = 'provenance_verify' \gset
SELECT leadroute.publish_scorecard('provenance_verify', '{"base": 10, "characteristics": [{"code": "mail", "bins": [{"when": "email LIKE ''%@acme.example''", "points": 30}]}]}', 'test');
SELECT leadroute.publish_policy('provenance_verify', '{
    "leadroute": 1, "steps": [{"capability": "validateContact"}, {"capability": "checkRegionalCompliance"}, {"capability": "computeLeadScore", "scorecard": "provenance_verify"}, {"capability": "assignOwner"}],
    "rules": [{"name": "secret", "when": "attributes->>''secret'' = ''yes''", "outcome": "nurture", "reason": "secret"},
              {"name": "scored", "when": "score >= 40", "pool": "provenance_verify"}, {"name": "rest", "when": "true", "outcome": "nurture", "reason": "rest"}]}', 'test');
SELECT leadroute.activate_policy('provenance_verify');
SELECT leadroute.create_leads_table('leads', 'provenance_verify');
INSERT INTO leads (external_id, email, country, consent, attributes) VALUES ('pool', 'jane@acme.example', 'DE', true, NULL), ('rest', 'jane@gmail.com', 'DE', true, '{}'),
    ('secret', 'jane@gmail.com', 'DE', true, '{"secret": "yes", "note": "x"}'), ('invalid', 'jane', 'DE', true, NULL), ('refused', 'jane@gmail.com', 'DE', false, NULL);
CREATE VIEW verified AS
    SELECT l.external_id, v.verdict, regexp_replace(v.place, 'digest.*', 'digest') AS place, v.recorded, v.recomputed FROM leads l JOIN leadroute.lead_states s USING (lead_id), leadroute.verify_decision(s.run_id) WITH ORDINALITY AS v
    ORDER BY lead_id, v.ordinality;
CREATE FUNCTION entry_of(wanted text) RETURNS bigint LANGUAGE sql AS $$ SELECT run_id FROM leads JOIN leadroute.lead_states USING (lead_id) WHERE external_id = wanted $$;
SELECT * FROM verified;

-- whoever tampers with the record is found out: each place with both values
BEGIN;
UPDATE leadroute.entries SET turn = turn + 1 WHERE run_id = entry_of('pool');
SELECT external_id, verdict, place, recorded <> recomputed AS both FROM verified WHERE external_id = 'pool';
ROLLBACK;
BEGIN;
UPDATE leadroute.entries SET owner_id = (SELECT owner_id FROM leadroute.owners WHERE reference = 'verify b') WHERE run_id = entry_of('pool');
SELECT external_id, verdict, place, recorded <> recomputed AS both FROM verified WHERE external_id = 'pool';
ROLLBACK;
BEGIN;
UPDATE leadroute.entries SET outcome = 'rejected', reason_code = 'disliked', score = 99, rule_no = NULL WHERE run_id = entry_of('rest');
SELECT * FROM verified WHERE external_id = 'rest';
ROLLBACK;
BEGIN;
UPDATE leadroute.entries e SET evidence = o.evidence FROM leadroute.entries o WHERE e.run_id = entry_of('refused') AND o.run_id = entry_of('invalid');
SELECT external_id, verdict, place FROM verified WHERE external_id = 'refused' AND verdict = 'different' AND place IN ('outcome', 'reason', 'steps[1].status');
ROLLBACK;
BEGIN;
UPDATE leadroute.pool_revisions SET owner_ids = (SELECT array_agg(owner_id ORDER BY owner_id DESC) FROM leadroute.owners WHERE reference LIKE 'verify _') WHERE pool_id = :pool;
SELECT external_id, verdict, place FROM verified WHERE external_id = 'pool';
ROLLBACK;
BEGIN;
UPDATE leadroute.entries SET evidence = substr(evidence, 1, 10) WHERE run_id = entry_of('rest');
SELECT * FROM leadroute.verify_decision(entry_of('rest'));
ROLLBACK;
-- the environment is another one: told, and the decision still compared
BEGIN;
UPDATE leadroute.environments SET tzdata = '1999z', "collation" = 'another', server = 'PostgreSQL 0.1';
SELECT external_id, verdict, place, recorded FROM verified WHERE external_id IN ('pool', 'rest');
ROLLBACK;
SELECT external_id, verdict FROM verified;

-- an e-mail address that changed is not the one that was judged; what was decided on it stands
UPDATE leads SET email = 'joe@acme.example' WHERE external_id IN ('pool', 'rest', 'invalid');
UPDATE leads SET attributes = attributes - 'secret' WHERE external_id = 'secret';
SELECT external_id, verdict, place FROM verified;
-- tampering is still found where it can be
BEGIN;
UPDATE leadroute.entries SET owner_id = (SELECT owner_id FROM leadroute.owners WHERE reference = 'verify b') WHERE run_id = entry_of('pool');
SELECT external_id, verdict, place FROM verified WHERE external_id = 'pool';
ROLLBACK;
-- back again, it is available again
UPDATE leads SET email = 'jane@acme.example' WHERE external_id = 'pool';
SELECT external_id, verdict, place FROM verified WHERE external_id = 'pool';

-- superseded decisions verify as they were: other attributes, another policy version, other members
SELECT changed FROM leadroute.route_leads((SELECT array_agg(lead_id) FROM leads WHERE external_id = 'rest'), 'changed');
UPDATE leadroute.owners SET available = false WHERE reference = 'verify a';
DELETE FROM leadroute.pool_members WHERE pool_id = :pool AND owner_id = (SELECT owner_id FROM leadroute.owners WHERE reference = 'verify b');
SELECT changed FROM leadroute.route_leads((SELECT array_agg(lead_id) FROM leads WHERE external_id IN ('pool', 'rest')), 'nobody left');
SELECT leadroute.publish_policy('provenance_verify', '{"leadroute": 1, "steps": [{"capability": "assignOwner"}], "rules": [{"name": "only", "when": "country = ''DE''", "outcome": "nurture", "reason": "second"}]}', 'test');
SELECT leadroute.activate_policy('provenance_verify');
SELECT changed FROM leadroute.route_leads((SELECT array_agg(lead_id) FROM leads WHERE external_id = 'pool'), 'second version');
SELECT l.external_id, d.outcome, d.reason_code, d.policy_version, d.current, string_agg(concat_ws(' ', v.verdict, v.place), ', ' ORDER BY v.verdict, v.place) AS verdicts
FROM leads l JOIN leadroute.decisions d USING (lead_id), leadroute.verify_decision(d.decision_id) v WHERE l.external_id IN ('pool', 'rest') GROUP BY lead_id, l.external_id, d.outcome, d.reason_code, d.policy_version, d.current, d.decision_id ORDER BY lead_id, d.decision_id;

-- the row is gone: everything personal is unavailable
SELECT entry_of('pool') AS pool_run, entry_of('secret') AS secret_run, (SELECT min(decision_id) FROM leads JOIN leadroute.decisions USING (lead_id) WHERE external_id = 'pool') AS first_run \gset
DELETE FROM leads;
SELECT verdict, place FROM leadroute.verify_decision(:first_run);
SELECT verdict, place FROM leadroute.verify_decision(:secret_run);
DROP TABLE leads CASCADE;
SELECT verdict, place FROM leadroute.verify_decision(:first_run);
-- not by a policy version that is another one by now
\c -
BEGIN;
UPDATE leadroute.policy_versions SET frame = '{}' WHERE policy_id = (SELECT policy_id FROM leadroute.policies WHERE name = 'provenance_verify') AND version = 1;
SELECT * FROM leadroute.verify_decision(:first_run);
ROLLBACK;
SELECT * FROM leadroute.verify_decision(-1);
SET client_min_messages = warning;

DROP SCHEMA provenance_verify CASCADE;
DELETE FROM leadroute.pool_members WHERE pool_id = :pool;
DELETE FROM leadroute.pools WHERE pool_id = :pool;
DELETE FROM leadroute.owners WHERE reference LIKE 'verify _';
