-- Tests that a policy brings along: checked with the document, part of the version and of its hash, run without the index; a version that
-- decides does not read them. Coverage says what hits each rule.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA policy_tests;
SET search_path TO policy_tests;
\pset format unaligned
\pset fieldsep ' | '
INSERT INTO leadroute.owners (reference) VALUES ('policy_tests a');
INSERT INTO leadroute.pools (name) VALUES ('policy_tests');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT pool_id, owner_id FROM leadroute.pools, leadroute.owners WHERE name = 'policy_tests' AND reference = 'policy_tests a';
CREATE FUNCTION tested(tests jsonb, rules jsonb DEFAULT NULL) RETURNS jsonb LANGUAGE sql AS $f$ SELECT $json$ {
    "leadroute": 1, "timezone": "Europe/Berlin", "steps": [{"capability": "validateContact"}, {"capability": "assignOwner"}],
    "rules": [{"name": "off", "when": "true", "pool": "policy_tests", "enabled": false},
              {"name": "DE", "when": "country = 'DE'", "pool": "policy_tests"}, {"name": "AT", "when": "country = 'AT'", "owner": "policy_tests a"},
              {"name": "morning", "when": "extract(hour FROM as_of) < 12", "outcome": "nurture", "reason": "early"}]
} $json$::jsonb || CASE WHEN rules IS NULL THEN '{}' ELSE jsonb_build_object('rules', rules) END || CASE WHEN tests IS NULL THEN '{}' ELSE jsonb_build_object('tests', tests) END $f$;

-- what can be wrong with them, with places
SELECT c.no, m.place, m.problem, m.hint FROM (VALUES (1, '{}'::jsonb), (2, '[3]'), (3, '[{}]'), (4, '[{"name": "", "lead": [], "expect": 3, "expects": {}, "note": 1}]'),
    (5, '[{"name": "a", "lead": {}, "expect": {}}]'), (6, '[{"name": "a", "lead": {}, "expect": {"score": "10"}}, {"name": "b", "lead": {}, "expect": {"tier": "A"}}, {"name": "a", "lead": {}, "expect": {"tier": null}}, {"name": "a", "lead": {}, "expect": {"tier": null}}]'),
    (7, '[{"name": "a", "lead": {"wealth": 1, "company_size": "1", "received_at": "soon", "consent": 1, "consent_channels": [1], "email": 3, "score": 1.5, "validateContact.stat": "x", "traceparent": null}, "expect": {"rule": null}}]'),
    (8, '[{"name": "a", "lead": {}, "expect": {"rule": "de", "pool": "nowhere", "owner": "nobody", "outcome": "pending", "reason": 1, "tier": true, "points": 3}}]'),
    (10, '[{"name": "a", "lead": {"as_of": "today", "received_at": "2026-05-04 25:00", "consent_at": "2026-05-04"}, "expect": {"rule": null}}]'),
    (9, '[{"name": "a", "lead": {}, "expect": {"rule": ["DE"], "pool": 1, "owner": 1, "outcome": "lost"}}]')) AS c (no, tests),
    leadroute.policy_mistakes(tested(c.tests)) m ORDER BY c.no, m.place COLLATE "C", m.problem COLLATE "C";
-- and what is right: nothing at all, null, none, a rule that is switched off, the pool of an owner
SELECT c.no FROM (VALUES (1, NULL::jsonb), (2, 'null'), (3, '[]'), (4, '[{"name": "a", "note": "n", "lead": {"country": null, "attributes": {"x": 1}, "as_of": "2026-05-04", "validateContact.status": "valid", "tier": "A"},
    "expect": {"rule": "off", "pool": "owner policy_tests a", "owner": "policy_tests a", "outcome": "no_rule", "reason": "x", "score": 1.5, "tier": null}}]')) AS c (no, tests)
WHERE NOT EXISTS (SELECT FROM leadroute.policy_mistakes(tested(c.tests))) ORDER BY 1;

-- run: only what is expected is compared, null expects that there is none
CREATE FUNCTION tests() RETURNS jsonb LANGUAGE sql AS $f$ SELECT $json$ [
    {"name": "German", "lead": {"country": "DE", "email": "jane@acme.example"}, "expect": {"rule": "DE", "pool": "policy_tests", "owner": null, "outcome": "assigned", "reason": "rule_matched", "score": null, "tier": null}},
    {"name": "Austrian", "lead": {"country": "AT", "email": "jane@acme.example"}, "expect": {"rule": "AT", "owner": "policy_tests a", "pool": "owner policy_tests a"}},
    {"name": "scored", "lead": {"country": "DE", "validateContact.status": "valid", "score": 70, "tier": "A"}, "expect": {"score": 70.0, "tier": "A"}},
    {"name": "morning", "lead": {"validateContact.status": "valid", "as_of": "2026-05-04 11:59"}, "expect": {"outcome": "nurture", "reason": "early"}},
    {"name": "noon", "lead": {"validateContact.status": "valid", "as_of": "2026-05-04 12:00"}, "expect": {"outcome": "no_rule", "rule": null}},
    {"name": "unreachable", "lead": {"country": "DE"}, "expect": {"outcome": "rejected", "reason": "invalid_contact", "rule": null, "pool": null}}
] $json$::jsonb $f$;
SELECT * FROM leadroute.run_document_tests(tested(tests()));
SELECT * FROM leadroute.run_document_tests(tested('[{"name": "wrong", "lead": {"country": "DE", "validateContact.status": "valid", "score": 3}, "expect": {"rule": "AT", "pool": null, "owner": "policy_tests a", "outcome": "rejected", "reason": "x", "score": 4, "tier": "A"}},
    {"name": "half right", "lead": {"country": "AT", "validateContact.status": "valid"}, "expect": {"rule": "AT", "pool": "policy_tests"}},
    {"name": "switched off", "lead": {"country": "DE", "validateContact.status": "valid"}, "expect": {"rule": "off"}}]'));
SELECT count(*) AS none FROM leadroute.run_document_tests(tested(NULL));
SELECT count(*) AS none FROM leadroute.run_document_tests(tested('[]'));
SELECT count(*) AS none FROM leadroute.run_document_tests(NULL);
SELECT * FROM leadroute.run_document_tests(tested('[{"name": "a"}]'));

-- given by hand, they may be anything
SELECT * FROM leadroute.run_tests(NULL, tested(NULL), '[{}, 3, {"name": 7, "expect": [1]}, {"name": "x", "expect": {"rule": 7, "score": "3", "tier": {}}}]');
SELECT * FROM leadroute.run_tests(NULL, tested(NULL), '[{"lead": []}]');
SELECT * FROM leadroute.run_tests(NULL, tested(NULL), '{}');

-- published with the version, given back as they were, part of its hash
SELECT leadroute.publish_policy('policy_tests', tested(NULL), 'test') AS published;
SELECT leadroute.publish_policy('policy_tests', tested(tests()), 'test') AS published;
SELECT leadroute.publish_policy('policy_tests', tested(tests()), 'again') AS same;
SELECT leadroute.publish_policy('policy_tests', tested(jsonb_set(tests(), '{0,note}', '"why"')), 'test') AS published;
SELECT leadroute.publish_policy('policy_tests', tested('[]'), 'test') AS published;
SELECT leadroute.publish_policy('policy_tests', tested('null'), 'test') AS published;
SELECT count(*) AS versions, count(DISTINCT content_hash) AS hashes, count(tests) AS with_tests, bool_and((tests IS NOT NULL) = (length(frame ->> 'tests') = 64)) AS by_hash
FROM leadroute.policy_versions JOIN leadroute.policies USING (policy_id) WHERE name = 'policy_tests' AND frame ->> 'tests' IS NOT NULL;
SELECT v.version FROM (VALUES (1, tested(NULL)), (2, tested(tests())), (3, tested(jsonb_set(tests(), '{0,note}', '"why"'))), (4, tested('[]')), (5, tested('null'))) AS v (version, document)
WHERE leadroute.policy_document('policy_tests', v.version) IS DISTINCT FROM v.document;
SELECT leadroute.activate_policy('policy_tests', 2) AS active;
SELECT test, passed, difference FROM leadroute.run_policy_tests('policy_tests');
SELECT count(*) AS none FROM leadroute.run_policy_tests('policy_tests', 1);
SELECT count(*) AS none FROM leadroute.run_policy_tests('policy_tests', 4);
SELECT * FROM leadroute.run_policy_tests('policy_tests', 9);

-- coverage: what tests and decisions hit, under this version and, by name, under any
CREATE TABLE leads (id integer PRIMARY KEY, country text, email text DEFAULT 'jane@acme.example');
SELECT leadroute.attach_table('leads', policy => 'policy_tests') > 0 AS attached;
INSERT INTO leads VALUES (1, 'DE'), (2, 'DE'), (3, 'AT');
SELECT rule_no, rule, enabled, tests, decisions, decisions_by_version, last_hit IS NOT NULL AND last_hit <= clock_timestamp() AS hit FROM leadroute.rule_coverage('policy_tests') WHERE rule <> 'morning';
-- the rules in another order, one renamed
SELECT leadroute.publish_policy('policy_tests', tested(tests(), '[{"name": "AT", "when": "country = ''AT''", "pool": "policy_tests"}, {"name": "German", "when": "country = ''DE''", "pool": "policy_tests"}, {"name": "off", "when": "false", "pool": "policy_tests"},
    {"name": "off", "when": "true", "pool": "policy_tests", "enabled": false}]'), 'test') AS published;
SELECT leadroute.publish_policy('policy_tests', tested(jsonb_path_query_array(tests(), '$[*] ? (@.name == "Austrian")') #- '{0,expect,owner}', '[{"name": "AT", "when": "country = ''AT''", "pool": "policy_tests"}, {"name": "German", "when": "country = ''DE''", "pool": "policy_tests"}, {"name": "off", "when": "false", "pool": "policy_tests"},
    {"name": "off", "when": "true", "pool": "policy_tests", "enabled": false}]') #- '{tests,0,expect,pool}', 'test') AS published;
SELECT leadroute.activate_policy('policy_tests', 6) AS active;
INSERT INTO leads VALUES (4, 'AT'), (5, 'FR');
SELECT rule_no, rule, enabled, tests, decisions, decisions_by_version, last_hit IS NOT NULL AS hit FROM leadroute.rule_coverage('policy_tests');
SELECT rule, decisions, decisions_by_version FROM leadroute.rule_coverage('policy_tests', 2, 1) WHERE rule <> 'morning';
SELECT rule, decisions, last_hit FROM leadroute.rule_coverage('policy_tests', 2, 0);
SELECT * FROM leadroute.rule_coverage('policy_tests', 2, -1);
SELECT * FROM leadroute.rule_coverage('policy_tests', 2, NULL);
SELECT * FROM leadroute.rule_coverage('policy_tests none');

-- tests that are not those that were published say nothing; what decides does not read them
UPDATE leadroute.policy_versions v SET tests = tests() - 0 FROM leadroute.policies p WHERE p.policy_id = v.policy_id AND p.name = 'policy_tests' AND v.version IN (2, 6);
SELECT * FROM leadroute.run_policy_tests('policy_tests', 2);
SELECT * FROM leadroute.rule_coverage('policy_tests', 2);
\c -
SET search_path TO policy_tests;
\set SHOW_CONTEXT never
INSERT INTO leads VALUES (6, 'AT');
SELECT outcome FROM leadroute.lead_states WHERE lead_id = leadroute.lead_of('leads', '6');
SET client_min_messages = warning;
DROP SCHEMA policy_tests CASCADE;
