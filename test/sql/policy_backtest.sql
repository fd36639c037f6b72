-- backtest_policy() decides history again under a candidate, and writes nothing: attributes from the record, or from rows where they are
-- what they were; recorded outputs where they stand; what is not to be had is counted, not guessed.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA policy_backtest;
SET search_path TO policy_backtest;
\pset format unaligned
\pset fieldsep ' | '
INSERT INTO leadroute.owners (reference) VALUES ('backtest a'), ('backtest b');
INSERT INTO leadroute.pools (name) VALUES ('backtest one'), ('backtest two'), ('backtest nobody');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT pool_id, owner_id FROM leadroute.pools, leadroute.owners WHERE name IN ('backtest one', 'backtest two') AND reference LIKE 'backtest _';
INSERT INTO leadroute.firmographics (domain, industry, company_size) VALUES ('backtest.example', 'it', 500);
CREATE TABLE facts (key text PRIMARY KEY, value integer);
INSERT INTO facts VALUES ('budget', 10);
CREATE FUNCTION budget(jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$ SELECT jsonb_build_object('budget', value) FROM policy_backtest.facts WHERE key = 'budget' $$;
SELECT leadroute.register_agent('policyBacktestBudget', '1', '{policyBacktestBudget}', 'budget(jsonb)') > 0 AS registered;
CREATE FUNCTION with_rules(rules jsonb, steps jsonb DEFAULT NULL) RETURNS jsonb LANGUAGE sql AS $f$ SELECT $json$ {"leadroute": 1, "steps": [{"capability": "validateContact"}, {"capability": "enrichWithFirmographicData"},
    {"capability": "policyBacktestBudget"}, {"capability": "assignOwner"}]} $json$::jsonb || CASE WHEN steps IS NULL THEN '{}' ELSE jsonb_build_object('steps', steps) END || jsonb_build_object('rules', rules) $f$;
SELECT leadroute.publish_policy('policy_backtest', with_rules('[{"name": "big", "when": "company_size >= 100", "pool": "backtest one"}, {"name": "FR", "when": "country = ''FR''", "pool": "backtest nobody"},
    {"name": "b", "when": "country = ''AT''", "owner": "backtest b"}, {"name": "rest", "when": "true", "outcome": "nurture", "reason": "rest"}]'), 'test') AS published;
SELECT leadroute.activate_policy('policy_backtest') AS active;
CREATE TABLE leads (id text, part integer, country text, company_size integer, email text, attributes jsonb, PRIMARY KEY (id, part));
SELECT leadroute.attach_table('leads', policy => 'policy_backtest', classes => '{"country": "plain", "company_size": "plain", "attributes.seats": "plain"}') > 0 AS attached;
INSERT INTO leads VALUES ('a', 1, 'DE', 500, 'jane@acme.example', NULL), ('a', 2, 'DE', 5, 'jane@acme.example', '{"seats": "7", "secret": "yes"}'), ('b', 1, 'FR', 5, 'jane@gmail.com', '{"seats": "70"}'),
    ('c', 1, 'AT', NULL, 'joe@backtest.example', NULL), ('d', 1, 'AT', 5, 'jane@gmail.com', NULL), ('e', 1, 'DE', 5, 'jane', NULL), ('f', 1, NULL, NULL, NULL, NULL), ('g', 1, 'DE', 5, 'joe@gmail.com', '{"secret": "no"}');
CREATE VIEW decided AS SELECT k.key, d.* FROM leadroute.decisions d JOIN leadroute.lead_keys k USING (lead_id) WHERE d.policy = 'policy_backtest';
SELECT key, outcome, reason_code, rule, pool FROM decided ORDER BY key;
-- the example's number depends on what ran before
CREATE FUNCTION moves(document jsonb) RETURNS TABLE (was text, will_be text, moved boolean, leads bigint, unavailable bigint, lacks text[], example text) LANGUAGE sql AS $$
    SELECT concat_ws(' ', m.from_outcome, m.from_pool, 'by ' || m.from_rule), concat_ws(' ', m.to_outcome, m.to_pool, 'by ' || m.to_rule), m.moved, m.leads, m.unavailable, m.lacks,
           (SELECT d.key FROM policy_backtest.decided d WHERE d.decision_id = m.example_decision)
    FROM leadroute.backtest_document('policy_backtest', document, '-infinity') m;
$$;

-- under the version that decided nothing moves, not even where nobody was available
SELECT from_outcome, from_pool, from_rule, to_outcome, to_pool, to_rule, moved, leads, unavailable, lacks FROM leadroute.backtest_policy('policy_backtest', 1, '-infinity');
-- other rules: by which one each would go, and where to; another rule to the same pool is no move
SELECT * FROM moves(with_rules('[{"name": "medium", "when": "company_size >= 10", "pool": "backtest one"}, {"name": "seats", "when": "(attributes->>''seats'')::int > 10", "pool": "backtest two"}, {"name": "a", "when": "country = ''AT''", "owner": "backtest a"},
    {"name": "secret", "when": "attributes->>''secret'' = ''yes''", "outcome": "rejected", "reason": "secret"}, {"name": "rest", "when": "true", "outcome": "nurture", "reason": "rest"}]'));
-- rules that raise do not hold, and stop nothing
SELECT * FROM moves(with_rules('[{"name": "raises", "when": "10 / (company_size - 5) >= 0 AND country = ''DE''", "pool": "backtest one"}, {"name": "rest", "when": "true", "outcome": "nurture", "reason": "rest"}]'));
-- no step is left out: a candidate without a contact check lets more through
SELECT * FROM moves(with_rules('[{"name": "DE", "when": "country = ''DE''", "pool": "backtest one"}]', '[{"capability": "assignOwner"}]'));

-- tables that agents read have changed since: what they gave stands
UPDATE facts SET value = 5000;
UPDATE leadroute.firmographics SET company_size = 1 WHERE domain = 'backtest.example';
SELECT * FROM moves(with_rules('[{"name": "big", "when": "company_size >= 100", "pool": "backtest one"}, {"name": "rich", "when": "(policyBacktestBudget->>''budget'')::int > 100", "pool": "backtest two"}, {"name": "rest", "when": "true", "outcome": "nurture", "reason": "rest"}]'));
-- an agent that is not on record is not called; but who does not come to it needs it not
SELECT leadroute.register_agent('policyBacktestBudget', '2', '{policyBacktestBudget}', 'budget(jsonb)') > 0 AS registered;
SELECT * FROM moves(with_rules('[{"name": "rich", "when": "(policyBacktestBudget->>''budget'')::int > 100", "pool": "backtest two"}]'));
SELECT * FROM moves(with_rules('[{"name": "poor", "when": "(policyBacktestBudget->>''budget'')::int < 100", "pool": "backtest two"}]', '[{"capability": "policyBacktestBudget", "agent": "policyBacktestBudget@1"}, {"capability": "assignOwner"}]'));

-- what an agent filled in stands by value where it is plain; otherwise nobody knows it any more
SELECT * FROM moves(jsonb_set(with_rules('[{"name": "it", "when": "industry = ''it''", "pool": "backtest two"}]'), '{steps,2,agent}', '"policyBacktestBudget@1"')) WHERE was LIKE 'assigned backtest one%';

-- rows that changed or went: what candidates read of them is not guessed; what the record holds by value is there, and so is what the steps
-- gave, as long as the candidate has the same ones up to there
UPDATE leads SET email = 'new@acme.example', attributes = '{"seats": "700"}' WHERE id IN ('a', 'e');
DELETE FROM leads WHERE id = 'b';
CREATE FUNCTION first_agent(rules jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_set(with_rules(rules), '{steps,2,agent}', '"policyBacktestBudget@1"') $$;
SELECT * FROM moves(first_agent('[{"name": "DE", "when": "country = ''DE''", "pool": "backtest one"}]'));
SELECT * FROM moves(jsonb_set(first_agent('[{"name": "DE", "when": "country = ''DE''", "pool": "backtest one"}]'), '{steps,0,free_mail}', '["acme.example"]'));
SELECT * FROM moves(jsonb_set(first_agent('[{"name": "DE", "when": "country = ''DE''", "pool": "backtest one"}]'), '{steps,0,stop_when}', '[{"when": "email LIKE ''new%''", "outcome": "rejected", "reason": "new"}]'));
-- members of attributes that are plain by themselves are on record; others are not
SELECT * FROM moves(first_agent('[{"name": "seats", "when": "(attributes->>''seats'')::int > 10", "pool": "backtest one"}]'));
SELECT * FROM moves(first_agent('[{"name": "secret", "when": "attributes->>''secret'' = ''yes'' AND email IS NOT NULL", "pool": "backtest one"}]'));

-- under a document rows are for those who may read them: others could ask what the record does not show, piece by piece
CREATE ROLE regress_lr_auditor;
GRANT leadroute_auditor TO regress_lr_auditor;
CREATE FUNCTION asked() RETURNS jsonb LANGUAGE sql AS $$ SELECT policy_backtest.with_rules('[{"name": "j", "when": "email LIKE ''j%''", "outcome": "nurture", "reason": "j"}, {"name": "seats", "when": "(attributes->>''seats'')::int > 5", "outcome": "nurture", "reason": "s"}]', '[{"capability": "assignOwner"}]') $$;
GRANT USAGE ON SCHEMA policy_backtest TO regress_lr_auditor;
SET ROLE regress_lr_auditor;
SELECT to_rule, sum(leads) AS leads, sum(unavailable) AS unavailable, lacks FROM leadroute.backtest_document('policy_backtest', asked(), '-infinity') GROUP BY 1, 4 ORDER BY 1, 4;
SELECT to_rule, sum(leads) AS leads, lacks FROM leadroute.backtest_policy('policy_backtest', 1, '-infinity') GROUP BY 1, 3 ORDER BY 1, 3;
RESET ROLE;
GRANT SELECT ON leads TO regress_lr_auditor;
SET ROLE regress_lr_auditor;
SELECT to_rule, sum(leads) AS leads, sum(unavailable) AS unavailable, lacks FROM leadroute.backtest_document('policy_backtest', asked(), '-infinity') GROUP BY 1, 4 ORDER BY 1, 4;
RESET ROLE;
ALTER TABLE leads ENABLE ROW LEVEL SECURITY;
SET ROLE regress_lr_auditor;
SELECT to_rule, sum(leads) AS leads, sum(unavailable) AS unavailable FROM leadroute.backtest_document('policy_backtest', asked(), '-infinity') GROUP BY 1 ORDER BY 1;
RESET ROLE;
ALTER TABLE leads DISABLE ROW LEVEL SECURITY;

-- superseded decisions are history no more; spans are of moments, without their end
SELECT count(*) AS decisions FROM decided;
UPDATE leads SET country = 'FR' WHERE id = 'g';
SELECT leadroute.route_lead(leadroute.lead_of('leads', leadroute.key_of('leads', 'g'::text, 1)), 'test') > 0 AS routed;
SELECT count(*) AS decisions FROM decided;
SELECT sum(leads) AS leads FROM leadroute.backtest_policy('policy_backtest', 1, '-infinity', 'infinity');
SELECT min(as_of) AS first, max(as_of) AS last FROM decided \gset
SELECT sum(leads) AS leads FROM leadroute.backtest_policy('policy_backtest', 1, :'first', :'last');
SELECT sum(leads) AS leads FROM leadroute.backtest_policy('policy_backtest', 1, :'last', 'infinity');
SELECT count(*) AS moves FROM leadroute.backtest_policy('policy_backtest', 1, 'infinity');

-- nothing is written
BEGIN READ ONLY;
SELECT sum(leads) AS leads FROM leadroute.backtest_policy('policy_backtest', NULL, '-infinity');
COMMIT;
-- more than one batch
INSERT INTO leads SELECT 'many', i, CASE WHEN i % 3 = 0 THEN 'AT' ELSE 'CH' END, i, 'jane@gmail.com', NULL FROM generate_series(1, 1700) AS i;
SELECT from_pool, to_pool, to_rule, moved, leads FROM leadroute.backtest_document('policy_backtest', with_rules('[{"name": "biggest", "when": "company_size > 1000", "pool": "backtest two"}, {"name": "mail", "when": "email LIKE ''jane%''", "pool": "backtest one"}]', '[{"capability": "assignOwner"}]'), '-infinity')
WHERE leads > 10;

-- refused
SELECT * FROM leadroute.backtest_policy('policy_backtest', 99, '-infinity');
SELECT * FROM leadroute.backtest_policy('policy_backtest none', 1, '-infinity');
SELECT * FROM leadroute.backtest_policy('policy_backtest', 1, NULL);
SELECT * FROM leadroute.backtest_document('policy_backtest none', with_rules('[]'), '-infinity');
SELECT * FROM leadroute.backtest_document('policy_backtest', '{"leadroute": 1}', '-infinity');
SELECT * FROM leadroute.backtest_document('policy_backtest', NULL, '-infinity');

DELETE FROM leadroute.firmographics WHERE domain = 'backtest.example';
DROP SCHEMA policy_backtest CASCADE;
DROP ROLE regress_lr_auditor;
