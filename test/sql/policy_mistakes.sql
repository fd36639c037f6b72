-- A document is checked whole: every mistake is told at once, with its place and how to mend it, by policy_mistakes() as rows
-- and by publish_policy() in the detail of one error; nothing is published then.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA policy_mistakes;
SET search_path TO policy_mistakes;
\pset format unaligned
\pset fieldsep ' | '
CREATE TABLE documents (no integer PRIMARY KEY, document jsonb);
INSERT INTO documents VALUES (1, '{
    "leadroute": 2, "descripton": "misspelt", "description": 7, "timezone": "Mars/Olympus", "justifications": {"age": "because"},
    "steps": [
        {"capability": "validateContact", "free_mail": ["example.com", "no domain"], "scorecard": "standard"},
        {"capability": "validateContact"},
        {"capability": "checkRegionalCompliance", "jurisdictions": "policy_mistakes nowhere", "after": ["computeLeadScore", 7, "validateContact"]},
        {"capability": "estimatePolicyMistakes"},
        {"capability": "computeLeadScore", "scorecard": "policy_mistakes none", "on_error": "ignore", "agent": "nobody", "retries": 3},
        {"capability": "enrichWithFirmographicData", "stop_when": [
            {"when": "country = ''XX''", "outcome": "assigned", "reason": "x"}, {"when": "nonsense(country)", "outcome": "rejected"}, "country", {"outcome": ""}]},
        {"capability": "assignOwner", "on_error": "skip"},
        {"capabilty": "assignOwner"},
        "assignOwner"],
    "rules": [
        {"name": "first", "when": "shoe_size = 1", "pool": "policy_mistakes nowhere", "enabled": "yes"},
        {"name": "first", "when": "true", "outcome": "nurture", "reason": "x", "priority": "high"},
        {"name": "both", "when": "true", "pool": "policy_mistakes nowhere", "outcome": "nurture", "reason": "x"},
        {"name": "neither", "when": "true"},
        {"name": "", "when": 1, "outcome": "pending"},
        {"when": "true", "outcome": "lost", "reason": "x", "priority": 1e12},
        ["rule"]]}');
SELECT m.place, m.problem, m.hint FROM documents d, leadroute.policy_mistakes(d.document) m WHERE d.no = 1;
SELECT count(*) >= 30 AS all_at_once FROM documents d, leadroute.policy_mistakes(d.document) m WHERE d.no = 1;
SELECT leadroute.publish_policy('policy_mistakes', document, 'test') FROM documents WHERE no = 1;
SELECT count(*) AS published FROM leadroute.policies WHERE name = 'policy_mistakes';

-- documents that are none, or lack what they need
SELECT d.document, m.place, m.problem, m.hint FROM (VALUES ('[]'::jsonb), ('null'), ('"x"'), ('{}'), ('{"leadroute": 1, "steps": []}'), ('{"leadroute": 1, "steps": {}}'),
    ('{"leadroute": 1, "steps": [{"capability": "validateContact"}], "rules": [{"name": "a", "when": "true", "outcome": "nurture", "reason": "x"}]}')) AS d (document),
    leadroute.policy_mistakes(d.document) m;
SELECT leadroute.policy_mistakes(jsonb_build_object('leadroute', 1, 'steps', (SELECT jsonb_agg('{}'::jsonb) FROM generate_series(1, 33))));
SELECT leadroute.policy_mistakes('{"leadroute": 1e400}');
SELECT leadroute.policy_mistakes('{"leadroute": 1, "steps": [{"capability": "validateContact"}]}');

-- names
SELECT leadroute.publish_policy('', '{}', 'test');
SELECT leadroute.publish_policy('a@b', '{}', 'test');
SELECT leadroute.publish_policy(repeat('x', 101), '{}', 'test');

-- what spreadsheets make of quotes
SELECT place, problem, hint FROM leadroute.policy_mistakes('{"leadroute": 1, "steps": [{"capability": "assignOwner"}], "rules": [
    {"name": "a", "when": "country = ‘DE’", "outcome": "nurture", "reason": "x"}, {"name": "b", "when": "“DE” = country", "outcome": "nurture", "reason": "x"}]}');
-- scorecards and jurisdictions likewise
SELECT leadroute.publish_scorecard('policy_mistakes', '{
    "base": 1.5, "minimum": 10, "maximum": 10, "descripton": "x", "justifications": [],
    "characteristics": [
        {"code": "size", "bins": [{"when": "company_size > ''many''", "points": 1}, {"when": "true"}, {"points": 1e7, "when": "true"}, 7], "otherwise": "none"},
        {"code": "size", "bins": {}}, {"bins": []}, "size"],
    "tiers": [{"tier": "B", "from": 50}, {"tier": "A", "from": 70}, {"tier": "C"}, {"from": 10}, "D"]}', 'test');
SELECT leadroute.publish_jurisdictions('policy_mistakes', '{
    "jurisdictions": [
        {"name": "A", "countries": ["DE", "DEU", 7, "ÖÖ"], "channels": {"email": ["consent", 7], "phone": "consent"}, "max_age_days": 0},
        {"countries": ["DE"], "default": true, "channels": {}}, {"name": "C", "default": true, "chanels": {}}, "D"]}', 'test');
SELECT leadroute.publish_jurisdictions('policy_mistakes', '{"jurisdictions": []}', 'test');
SELECT count(*) AS published FROM leadroute.documents WHERE name = 'policy_mistakes';

DROP SCHEMA policy_mistakes CASCADE;
