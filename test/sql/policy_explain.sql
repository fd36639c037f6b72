-- explain_rule(): each conjunct of a rule, true, false, null or error, with what it read: for rules that held and rules that did not, from the
-- record of a decision or for a lead that is given. What is not plain shows by its class.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA policy_explain;
SET search_path TO policy_explain;
\pset format unaligned
\pset fieldsep ' | '
INSERT INTO leadroute.owners (reference) VALUES ('explain a');
INSERT INTO leadroute.pools (name) VALUES ('explain');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT pool_id, owner_id FROM leadroute.pools, leadroute.owners WHERE name = 'explain' AND reference = 'explain a';
INSERT INTO leadroute.firmographics (domain, industry, company_size) VALUES ('explain.example', 'it', 500);
SELECT leadroute.publish_policy('policy_explain', $json$ {"leadroute": 1, "timezone": "Europe/Berlin",
    "steps": [{"capability": "validateContact"}, {"capability": "enrichWithFirmographicData", "after": ["validateContact"]}, {"capability": "assignOwner"}],
    "rules": [{"name": "VIP", "priority": 1, "when": "attributes->>'vip' = 'yes' AND email LIKE '%@acme.example'", "pool": "explain"},
              {"name": "seats", "priority": 2, "effective_from": "2020-01-01", "when": "(attributes->>'seats')::int > 100 AND country IN ('DE', 'AT') AND (consent OR phone IS NULL)", "pool": "explain"},
              {"name": "off", "priority": 3, "when": "false", "pool": "explain", "enabled": false},
              {"name": "off", "priority": 3, "when": "company_size > 100 AND industry = 'it'", "pool": "explain"},
              {"name": "switched off", "priority": 3, "when": "country = 'DE' AND validateContact.status = 'valid'", "pool": "explain", "enabled": false},
              {"name": "enriched", "priority": 4, "when": "country = 'DE'", "prerequisites": ["enrichWithFirmographicData", "validateContact"], "pool": "explain"},
              {"name": "DE", "priority": 5, "when": "country = 'DE'", "pool": "explain"},
              {"name": "rest", "priority": 9, "when": "true", "outcome": "nurture", "reason": "rest"}]} $json$, 'test') AS published;
SELECT leadroute.activate_policy('policy_explain') AS active;
CREATE TABLE leads (id integer PRIMARY KEY, country text, company_size integer, industry text, domain text, email text, phone text, consent boolean, attributes jsonb);
SELECT leadroute.attach_table('leads', policy => 'policy_explain', classes => '{"email": "direct", "phone": "direct", "consent": "sensitive", "country": "plain", "company_size": "plain", "attributes.seats": "plain"}') > 0 AS attached;
INSERT INTO leads VALUES (1, 'DE', 5, NULL, NULL, 'jane@acme.example', NULL, true, '{"seats": "many", "vip": "no"}'), (2, 'AT', 5, NULL, NULL, 'jane@acme.example', NULL, NULL, '{"seats": "101"}'),
    (3, NULL, NULL, NULL, 'explain.example', 'jane@gmail.com', NULL, false, '{"vip": "yes"}'), (4, 'DE', NULL, NULL, NULL, 'jane', NULL, NULL, NULL);
CREATE FUNCTION decision(id integer) RETURNS bigint LANGUAGE sql AS $$ SELECT run_id FROM leadroute.lead_states WHERE lead_id = leadroute.lead_of('policy_explain.leads', id::text) $$;
CREATE TABLE made AS SELECT i AS id, decision(i) AS decision_id FROM generate_series(1, 4) AS i;
SELECT id, outcome, reason_code, rule FROM made JOIN leadroute.decisions USING (decision_id) ORDER BY 1;
CREATE FUNCTION told(id integer, rule text) RETURNS TABLE (conjunct_no integer, condition text, truth text, sqlstate text, reads text, note text) LANGUAGE sql AS $$
    SELECT conjunct_no, condition, truth, sqlstate, regexp_replace(reads::text, '"as_of": "[^"]*"', '"as_of": "…"'), note FROM policy_explain.made m, leadroute.explain_rule(m.decision_id, rule) WHERE m.id = told.id $$;

-- a lead whose seats are no number: error; and the rules that held, one of which decided
SELECT * FROM told(1, 'VIP');
SELECT * FROM told(1, 'seats');
SELECT * FROM told(1, 'enriched');
SELECT * FROM told(1, 'DE');
SELECT * FROM told(1, 'rest');
-- switched off; a name that one rule has which is switched off, and one which is not
SELECT * FROM told(1, 'switched off');
SELECT * FROM told(1, 'off');
-- one that decided
SELECT * FROM told(2, 'seats');
-- what an agent filled in: by value where it is plain
SELECT * FROM told(3, 'off');
SELECT * FROM told(3, 'VIP');
SELECT * FROM told(3, 'seats');
-- the run ended before its rules; the prerequisite was not done
SELECT * FROM told(4, 'enriched');

-- the lead is another one by now: what was not plain is neither true nor false, and what the record holds is as it was
UPDATE leads SET email = 'joe@acme.example', attributes = '{"vip": "yes", "seats": "1"}', country = 'CH', consent = false;
SELECT * FROM told(1, 'VIP');
SELECT * FROM told(1, 'seats');
SELECT * FROM told(2, 'seats');
DELETE FROM leads WHERE id IN (1, 2);
SELECT * FROM told(2, 'seats');

-- what is explained agrees with what was decided, lead by lead and rule by rule: the first that holds decided, and those before it that
-- raised are those on record, with the same conjuncts
SELECT leadroute.create_leads_table('many', 'policy_explain');
INSERT INTO many (country, company_size, domain, email, phone, consent, attributes)
    SELECT CASE WHEN g.n % 3 = 0 THEN 'DE' ELSE g.country END, g.company_size, CASE WHEN g.n % 7 = 0 THEN 'explain.example' ELSE g.domain END, g.email, g.phone, g.consent,
           (ARRAY['{"seats": "many", "vip": "yes"}', '{"seats": "150"}', '{"seats": "9", "vip": "yes"}', '{"vip": "no"}', NULL]::jsonb[])[1 + g.n % 5]
    FROM (SELECT *, row_number() OVER () AS n FROM leadroute.generate_leads(150, 11)) g;
WITH told AS MATERIALIZED (
    SELECT d.decision_id, d.rule AS decided, r.rule_no, r.rule ->> 'name' AS name, (r.rule ->> 'priority')::int AS priority, x.*
    FROM many JOIN leadroute.decisions d USING (lead_id) CROSS JOIN leadroute.policy_rules r CROSS JOIN LATERAL leadroute.explain_rule(d.decision_id, r.rule ->> 'name') x
    WHERE r.policy_version_id = leadroute.policy_version_id('policy_explain', 1) AND r.rule -> 'enabled' IS NULL AND d.reason_code IN ('rule_matched', 'rest')
), expected AS (
    SELECT decision_id, decided, (array_agg(name ORDER BY priority, rule_no) FILTER (WHERE conjunct_no IS NULL AND truth = 'true'))[1] AS holds,
           min(priority * 100 + rule_no) FILTER (WHERE name = decided) AS until
    FROM told GROUP BY 1, 2
), raised AS (
    SELECT e.decision_id, jsonb_agg(jsonb_build_object('rule_no', t.rule_no, 'sqlstate', t.sqlstate, 'conjunct', c.conjunct) ORDER BY t.priority, t.rule_no) AS errors
    FROM expected e JOIN told t USING (decision_id)
    JOIN LATERAL (SELECT min(u.conjunct_no) AS conjunct FROM told u WHERE u.decision_id = t.decision_id AND u.rule_no = t.rule_no AND u.truth = 'error') c ON true
    WHERE t.conjunct_no IS NULL AND t.truth = 'error' AND t.priority * 100 + t.rule_no < e.until GROUP BY 1
)
SELECT count(*) > 60 AS many, count(DISTINCT e.decided) > 3 AS many_rules, bool_and(e.holds = e.decided) AS the_first_that_holds,
       count(r.errors) > 5 AS many_raised, bool_and(r.errors IS NOT DISTINCT FROM p.output -> 'errors') AS same_errors
FROM expected e LEFT JOIN raised r USING (decision_id) JOIN leadroute.provenance p USING (decision_id) WHERE p.capability = 'assignOwner';

-- for a lead that is given everything is shown
SELECT * FROM leadroute.explain_rule('policy_explain', NULL, 'VIP', '{"email": "jane@gmail.com", "attributes": {"vip": "yes"}}');
SELECT * FROM leadroute.explain_rule('policy_explain', 1, 'seats', '{"email": "jane@gmail.com", "phone": "+49 30 1234567", "consent": true, "country": "AT", "attributes": {"seats": 101}, "as_of": "2020-01-01T00:00:00+01:00"}');
SELECT * FROM leadroute.explain_rule('policy_explain', 1, 'seats', '{"email": "jane@gmail.com", "phone": "+49 30 1234567", "country": "AT", "attributes": {"seats": 101}, "as_of": "2019-12-31T22:59:59Z"}');
SELECT * FROM leadroute.explain_rule('policy_explain', 1, 'off', '{"validateContact.status": "valid", "domain": "explain.example"}');
SELECT * FROM leadroute.explain_rule('policy_explain', 1, 'rest', '{}');

-- the text of a conjunct, as the server writes it, with the names of facts
SELECT leadroute.publish_policy('policy_explain', jsonb_build_object('leadroute', 1, 'steps', '[{"capability": "assignOwner"}]'::jsonb, 'rules', jsonb_build_array(jsonb_build_object('name', 'all', 'outcome', 'nurture', 'reason', 'x', 'when',
    $$source = 'it''s $1 ''::text' AND domain > 'x' COLLATE "ucs_basic" AND company COLLATE "POSIX" <> 'z' AND source = ANY (ARRAY['a''::text', 'b)']) AND (source = 'a' OR source = '(') AND (region = 'a') IS NOT TRUE AND NULLIF(source, 'z') IS NULL
      AND email LIKE '%\_%' AND date_trunc('month', received_at)::date > '2026-01-01' AND attributes->>'$2''' = '$3' AND attributes->'a'->>0 = 'x' AND attributes @> '{"b": "$4"}' AND NOT consent AND computeLeadScore.score BETWEEN 1 AND 10
      AND CASE WHEN tier = 'A' THEN prior_interactions > 3 ELSE language = 'de' END AND company_size IN (1, 2) AND as_of - received_at > interval '2 days' AND 'phone' = ANY (consent_channels)$$))), 'test') AS published;
SELECT conjunct_no, condition, truth, reads FROM leadroute.explain_rule('policy_explain', 2, 'all', '{"source": "a", "email": "a_b", "attributes": {"a": ["x"], "b": "$4"}, "company_size": 2, "as_of": "2026-05-04", "consent_channels": ["phone"]}') WHERE conjunct_no IS NOT NULL;

-- the index is not asked: that of another version, in its place, changes nothing
UPDATE leadroute.policy_versions v SET rule_index = w.rule_index, index_hash = w.index_hash FROM leadroute.policy_versions w
    WHERE v.policy_version_id = leadroute.policy_version_id('policy_explain', 1) AND w.policy_version_id = leadroute.policy_version_id('policy_explain', 2);
\c -
SET search_path TO policy_explain;
SET client_min_messages = warning;
SELECT * FROM leadroute.match_rules('policy_explain', 1, '{"country": "DE"}');
SELECT * FROM told(3, 'off');
SELECT * FROM told(1, 'DE');
SELECT leadroute.rebuild_rule_index('policy_explain', 1) > 0 AS rebuilt;
-- refused
SELECT * FROM leadroute.explain_rule((SELECT decision_id FROM made WHERE id = 3), 'none');
SELECT * FROM leadroute.explain_rule(-1, 'none');
SELECT * FROM leadroute.explain_rule('policy_explain', 2, 'none', '{}');
SELECT * FROM leadroute.explain_rule('policy_explain', 2, 'all', '{"wealth": 3}');
BEGIN READ ONLY;
SELECT count(*) AS rows FROM leadroute.explain_rule((SELECT decision_id FROM made WHERE id = 3), 'off');
COMMIT;

DELETE FROM leadroute.firmographics WHERE domain = 'explain.example';
DROP SCHEMA policy_explain CASCADE;
