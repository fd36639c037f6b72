-- By hand: submit_lead() inserts and gives the decision at once; route_lead() and route_leads() decide again, and where
-- nothing changed the decision stands: the same id comes back, no turn is drawn, nothing is written.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA pipeline_manual;
SET search_path TO pipeline_manual;
INSERT INTO leadroute.owners (reference) VALUES ('pipeline_manual anna'), ('pipeline_manual bo');
INSERT INTO leadroute.pools (name) VALUES ('pipeline_manual');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT pool_id, owner_id FROM leadroute.pools p, leadroute.owners o
    WHERE p.name = 'pipeline_manual' AND o.reference LIKE 'pipeline_manual %';
SELECT leadroute.publish_policy('pipeline_manual', '{
    "leadroute": 1, "steps": [{"capability": "validateContact", "stop_when": []}, {"capability": "assignOwner"}],
    "rules": [{"name": "de", "when": "country = ''DE''", "pool": "pipeline_manual"},
              {"name": "fr", "when": "country = ''FR''", "outcome": "nurture", "reason": "french"}]}', 'test');
SELECT leadroute.activate_policy('pipeline_manual');
SELECT leadroute.create_leads_table('leads', 'pipeline_manual');

-- submit_lead
SELECT leads_table, outcome, reason_code, owner, pool, rule, policy, policy_version, cause, note, turn, current, supersedes
    FROM leadroute.submit_lead('{"email": "a@b.example", "country": "DE", "attributes": {"seats": 7}, "consent_channels": ["email"]}');
SELECT outcome FROM leadroute.submit_lead('{"email": "c@d.example", "country": "FR"}', 'leads');
SELECT outcome, reason_code FROM leadroute.submit_lead('{}');
SELECT email, country, attributes, consent_channels FROM leads ORDER BY lead_id;
-- what cannot be a lead
SELECT * FROM leadroute.submit_lead('[1]');
SELECT * FROM leadroute.submit_lead('null');
SELECT * FROM leadroute.submit_lead('{"email": "a@b.example", "e-mail": "x", "shoe size": 44}');
SELECT * FROM leadroute.submit_lead('{"company_size": "many"}');
CREATE TABLE other (id text PRIMARY KEY);
SELECT * FROM leadroute.submit_lead('{"id": "x"}', 'other');
SET search_path TO pg_catalog;
SELECT * FROM leadroute.submit_lead('{}');
SET search_path TO pipeline_manual;
SELECT count(*) FROM leads;

SELECT lead_id AS de FROM leads WHERE country = 'DE' \gset
SELECT lead_id AS fr FROM leads WHERE country = 'FR' \gset
SELECT lead_id AS none FROM leads WHERE country IS NULL \gset
SELECT run_id AS de_run FROM leadroute.lead_states WHERE lead_id = :de \gset
SELECT pool_id AS pool FROM leadroute.pools WHERE name = 'pipeline_manual' \gset
-- nothing changed: the decisions stand, and no turn is drawn
SELECT leadroute.route_lead(:de) = :de_run AS stands, leadroute.route_lead(:de, 'again') = :de_run AS stands_again;
SELECT r.changed, r.decision_id = s.run_id AS current FROM leadroute.route_leads(ARRAY[:fr, :de, :none, :de, NULL], 'all') r JOIN leadroute.lead_states s USING (lead_id)
    ORDER BY r.lead_id;
SELECT * FROM leadroute.route_leads('{}');
SELECT count(*) AS decisions FROM leadroute.decisions WHERE leads_table = 'pipeline_manual.leads';
SELECT nextval('leadroute.pool_' || :pool || '_turns') AS next_turn;

-- the row changed: another decision, which supersedes
UPDATE leads SET country = 'DE' WHERE lead_id = :fr;
SELECT changed FROM leadroute.route_leads(ARRAY[:fr], 'moved to Berlin');
SELECT d.outcome, d.owner, d.cause, d.note, d.current, d.supersedes IS NOT NULL AS supersedes, d.superseded_by IS NOT NULL AS superseded
FROM leadroute.decisions d WHERE d.lead_id = :fr ORDER BY d.decision_id;
-- also one that leads to the same target: what was read was another
UPDATE leads SET email = 'new@b.example' WHERE lead_id = :de;
SELECT changed FROM leadroute.route_leads(ARRAY[:de]);
SELECT changed FROM leadroute.route_leads(ARRAY[:de]);
-- the owner became unavailable, or left the pool: somebody else takes over; that another one left is of no account
UPDATE leadroute.owners SET available = false WHERE owner_id = (SELECT owner_id FROM leadroute.lead_states WHERE lead_id = :fr);
SELECT changed FROM leadroute.route_leads(ARRAY[:fr]);
UPDATE leadroute.owners SET available = true WHERE reference LIKE 'pipeline_manual %';
SELECT changed FROM leadroute.route_leads(ARRAY[:fr]);
DELETE FROM leadroute.pool_members WHERE owner_id = (SELECT owner_id FROM leadroute.lead_states WHERE lead_id = :fr);
SELECT changed FROM leadroute.route_leads(ARRAY[:fr]);
-- nobody left: no owner, and that decision stands as long as nobody is there
DELETE FROM leadroute.pool_members WHERE pool_id = :pool;
SELECT changed FROM leadroute.route_leads(ARRAY[:fr]);
SELECT changed FROM leadroute.route_leads(ARRAY[:fr]);
SELECT outcome, reason_code FROM leadroute.lead_states WHERE lead_id = :fr;
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT :pool, owner_id FROM leadroute.owners WHERE reference LIKE 'pipeline_manual %';
SELECT changed FROM leadroute.route_leads(ARRAY[:fr]);
SELECT outcome, reason_code FROM leadroute.lead_states WHERE lead_id = :fr;
-- another version: decided by that one from now on, though the rules say the same
SELECT leadroute.publish_policy('pipeline_manual', jsonb_set(leadroute.policy_document('pipeline_manual'), '{description}', '"second"'), 'test');
SELECT changed FROM leadroute.route_leads(ARRAY[:none]);
SELECT leadroute.activate_policy('pipeline_manual');
SELECT changed FROM leadroute.route_leads(ARRAY[:none]);
SELECT count(*) AS problems FROM leadroute.reconcile('leads');

-- what cannot be routed
\set VERBOSITY terse
SELECT leadroute.route_lead(-1);
\set VERBOSITY sqlstate
DELETE FROM leads WHERE lead_id = :none;
SELECT leadroute.route_lead(:none);
SELECT changed FROM leadroute.route_leads(ARRAY[:de, :none]);
SELECT leadroute.detach_table('leads');
SELECT leadroute.route_lead(:de);
\set VERBOSITY default

-- the quick start once more: what decides stays
BEGIN;
SELECT leadroute.setup('pipeline_manual.first');
SELECT leadroute.publish_policy('default', leadroute.policy_document('default') || '{"description": "ours"}', 'test') > 0 AS published;
SELECT leadroute.activate_policy('default') > 0 AS active;
SET LOCAL client_min_messages = notice;
SELECT leadroute.setup('pipeline_manual.second');
SELECT leadroute.policy_document('default') ->> 'description' AS description, count(*) = 2 AS versions FROM leadroute.policy_versions JOIN leadroute.policies USING (policy_id) WHERE name = 'default';
ROLLBACK;

DROP SCHEMA pipeline_manual CASCADE;
DELETE FROM leadroute.pool_members WHERE pool_id = :pool;
DELETE FROM leadroute.pools WHERE pool_id = :pool;
DELETE FROM leadroute.owners WHERE reference LIKE 'pipeline_manual %';
