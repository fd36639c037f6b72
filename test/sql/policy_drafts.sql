-- A draft is a document as rows: it takes what COPY and INSERT bring, in their order, says what is wrong with it by rule, and gives each
-- document back as it was. Who wrote it comes from the session; any change unchecks it; what is noted of it nobody writes.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA policy_drafts;
GRANT USAGE ON SCHEMA policy_drafts TO PUBLIC;
SET search_path TO policy_drafts;
\pset format unaligned
\pset fieldsep ' | '
CREATE ROLE regress_lr_anna LOGIN IN ROLE leadroute_author;
CREATE ROLE regress_lr_bert LOGIN IN ROLE leadroute_author;
CREATE ROLE regress_lr_auditor LOGIN IN ROLE leadroute_auditor;
INSERT INTO leadroute.pools (name) VALUES ('policy_drafts one'), ('policy_drafts two');
CREATE FUNCTION roundtrip(document jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM leadroute.load_draft('policy_drafts', document);
    RETURN leadroute.draft_document('policy_drafts')::text = document::text;
END $$;
GRANT EXECUTE ON FUNCTION roundtrip(jsonb) TO PUBLIC;

-- from nothing: standard steps, as far as there is what they need, and no rule
SET SESSION AUTHORIZATION regress_lr_anna;
SELECT leadroute.create_draft('policy_drafts');
SELECT leadroute.draft_document('policy_drafts') - 'steps' AS document,
       leadroute.draft_document('policy_drafts') -> 'steps' @> '[{"capability": "computeLeadScore"}]'
           = EXISTS (SELECT FROM leadroute.documents WHERE kind = 'scorecard' AND name = 'standard') AS scores_if_it_can;
SELECT draft, policy, status, rules, tests, based_on_version, active_version, outdated, authors, created_by, changed_by FROM leadroute.policy_drafts WHERE draft = 'policy_drafts';
SELECT leadroute.create_draft('policy_drafts');
SELECT leadroute.create_draft(NULL);
SELECT leadroute.create_draft('policy_drafts', 'other', 1);

-- territories from a spreadsheet are one COPY, and keep their order
COPY leadroute.draft_rules (draft, name, condition, pool, priority, skills) FROM stdin (FORMAT csv);
policy_drafts,Bavaria,"country = 'DE' AND region = 'Bayern'",policy_drafts one,10,
policy_drafts,Germany,country = 'DE',policy_drafts two,20,"{German,""French, too""}"
policy_drafts,all,true,policy_drafts one,99.50,
\.
-- and from a query
INSERT INTO leadroute.draft_rules (draft, name, condition, outcome, reason, author, note)
    SELECT 'policy_drafts', 'no ' || c, format('country = %L', c), 'rejected', 'country', NULL, 'from a query' FROM unnest('{XX,YY}'::text[]) AS c;
SELECT name, priority, author, note, position = min(position) OVER () + row_number() OVER (ORDER BY position) - 1 AS in_order FROM leadroute.draft_rules WHERE draft = 'policy_drafts' ORDER BY position;
SELECT jsonb_array_elements(leadroute.draft_document('policy_drafts') -> 'rules') AS rules;
-- between two others
INSERT INTO leadroute.draft_rules (draft, position, name, condition, pool)
    SELECT 'policy_drafts', avg(position), 'Hamburg', 'region = ''Hamburg''', 'policy_drafts one' FROM leadroute.draft_rules WHERE name IN ('Bavaria', 'Germany');
SELECT r ->> 'name' AS name, r ->> 'author' AS author FROM jsonb_array_elements(leadroute.draft_document('policy_drafts') -> 'rules') AS r;
-- once more, from a spreadsheet that was mended
INSERT INTO leadroute.draft_rules AS r (draft, position, name, condition, pool) SELECT draft, position, name, 'region = ''HH''', pool FROM leadroute.draft_rules WHERE draft = 'policy_drafts' AND name = 'Hamburg'
    ON CONFLICT (draft, position) DO UPDATE SET condition = excluded.condition;
MERGE INTO leadroute.draft_rules r USING (VALUES ('Bavaria', 15)) AS s (name, priority) ON r.draft = 'policy_drafts' AND r.name = s.name WHEN MATCHED THEN UPDATE SET priority = s.priority;
SELECT name, priority, condition FROM leadroute.draft_rules WHERE draft = 'policy_drafts' AND name IN ('Bavaria', 'Hamburg') ORDER BY position;
-- what there is no draft for
INSERT INTO leadroute.draft_rules (draft, name, condition) VALUES ('policy_drafts none', 'a', 'true');
UPDATE leadroute.draft_rules SET draft = 'policy_drafts none' WHERE draft = 'policy_drafts' AND name = 'all';
INSERT INTO leadroute.draft_tests (draft, name) VALUES ('policy_drafts none', 'a');
\set VERBOSITY terse
INSERT INTO leadroute.draft_rules (draft, name) VALUES ('policy_drafts', 'no condition');
INSERT INTO leadroute.draft_rules (draft, name, condition, others) VALUES ('policy_drafts', 'a', 'true', '[]');
\set VERBOSITY default

-- mistakes name the rule
INSERT INTO leadroute.draft_rules (draft, name, condition, pool, sla_clock) VALUES ('policy_drafts', 'bad', 'country = ', 'policy_drafts none', 'sundial'), ('policy_drafts', 'worse', 'now() > as_of', NULL, NULL);
SELECT * FROM leadroute.draft_mistakes('policy_drafts');
SELECT kind, place, rule FROM leadroute.check_draft('policy_drafts');
SELECT leadroute.publish_draft('policy_drafts', 'first');
SELECT status, checked_at IS NULL AS unchecked FROM leadroute.policy_drafts WHERE draft = 'policy_drafts';
DELETE FROM leadroute.draft_rules WHERE draft = 'policy_drafts' AND name IN ('bad', 'worse');
SELECT * FROM leadroute.check_draft('policy_drafts');
CREATE FUNCTION pg_temp.status() RETURNS text LANGUAGE sql AS $$ SELECT status || ', by ' || changed_by FROM leadroute.policy_drafts WHERE draft = 'policy_drafts' $$;
SELECT pg_temp.status();

-- each change unchecks it, whoever does it; a note does not
\c -
SET client_min_messages = warning;
SET search_path TO policy_drafts;
\pset format unaligned
\pset fieldsep ' | '
\set SHOW_CONTEXT never
CREATE FUNCTION unchecked(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    PERFORM leadroute.check_draft('policy_drafts');
    EXECUTE change;
    SELECT status || ', by ' || changed_by INTO result FROM leadroute.policy_drafts WHERE draft = 'policy_drafts';
    RETURN result;
END $$;
GRANT EXECUTE ON FUNCTION unchecked(text) TO PUBLIC;
SET SESSION AUTHORIZATION regress_lr_bert;
SELECT unchecked('UPDATE leadroute.drafts SET note = ''read this'' WHERE draft = ''policy_drafts''');
SELECT unchecked('UPDATE leadroute.draft_rules SET note = ''x'' WHERE draft = ''policy_drafts'' AND name = ''nobody''');
SELECT unchecked('UPDATE leadroute.draft_rules SET note = ''x'' WHERE draft = ''policy_drafts'' AND name = ''all''');
SELECT unchecked('DELETE FROM leadroute.draft_rules WHERE draft = ''policy_drafts'' AND name = ''no YY''');
SELECT unchecked('INSERT INTO leadroute.draft_rules (draft, name, condition, pool) VALUES (''policy_drafts'', ''z'', ''true'', ''policy_drafts one'')');
SELECT unchecked('UPDATE leadroute.drafts SET frame = frame || ''{"description": "d"}'' WHERE draft = ''policy_drafts''');
SELECT unchecked('SELECT 1');
SELECT authors FROM leadroute.policy_drafts WHERE draft = 'policy_drafts';

-- published: the document is the draft, its authors are the version's; the draft goes on from there
SELECT leadroute.publish_draft('policy_drafts', 'first');
SELECT leadroute.policy_document('policy_drafts', 1) = leadroute.draft_document('policy_drafts') AS equal;
SELECT v.version, v.published_by, v.authors, v.reason FROM leadroute.policy_versions v JOIN leadroute.policies p USING (policy_id) WHERE p.name = 'policy_drafts';
SELECT status, based_on_version, outdated FROM leadroute.policy_drafts WHERE draft = 'policy_drafts';
SELECT leadroute.publish_draft('policy_drafts', 'the same');
SELECT act, version, draft, reason, forced, session_user_name FROM leadroute.policy_history WHERE name = 'policy_drafts' ORDER BY at;
SELECT leadroute.create_draft('policy_drafts', 'policy_drafts two', 1);
SELECT leadroute.draft_document('policy_drafts two') = leadroute.policy_document('policy_drafts', 1) AS equal;
SELECT leadroute.publish_draft('policy_drafts none', 'x');
SELECT leadroute.publish_draft('policy_drafts', NULL);
SELECT leadroute.publish_draft('policy_drafts', ' ', true);

-- what is noted of a draft nobody writes, and drafts are read by all roles
UPDATE leadroute.drafts SET checked_at = now();
UPDATE leadroute.drafts SET authors = '{}';
UPDATE leadroute.drafts SET based_on_version_id = NULL;
INSERT INTO leadroute.drafts (draft, policy, frame, created_by) VALUES ('x', 'x', '{}', 'somebody');
DELETE FROM leadroute.drafts;
INSERT INTO leadroute.drafts (draft, policy, frame, based_on_version_id) SELECT 'x', 'policy_drafts other', '{}', based_on_version_id FROM leadroute.drafts WHERE draft = 'policy_drafts';
\set VERBOSITY terse
INSERT INTO leadroute.drafts (draft, policy, frame) VALUES ('x', 'x', '{"rules": [{}]}');
\set VERBOSITY default
SET SESSION AUTHORIZATION regress_lr_auditor;
SELECT count(*) > 1 AS read FROM leadroute.draft_rules;
SELECT leadroute.draft_document('policy_drafts') IS NOT NULL AS read;
SELECT leadroute.create_draft('policy_drafts', 'mine');
INSERT INTO leadroute.draft_rules (draft, name, condition) VALUES ('policy_drafts', 'a', 'true');

-- each document comes out as it went in
SET SESSION AUTHORIZATION regress_lr_anna;
SELECT roundtrip(d), d AS document FROM unnest(ARRAY[
    '{}', '{"rules": null, "tests": null, "steps": null}', '{"rules": {}, "tests": 7}', '{"rules": [], "tests": []}', '{"leadroute": 1.0, "unknown": [null]}',
    '{"rules": [{"name": "a", "when": "true"}]}',
    '{"rules": [{"name": "a", "when": "true", "priority": 10}, {"name": "a", "when": "true", "priority": 10.00}, {"name": "a", "when": "true", "priority": 1e3}, {"name": "", "when": "", "priority": -0.5}]}',
    '{"rules": [{"name": "a", "when": "true", "pool": null, "priority": null, "enabled": null, "skills": null, "author": null, "note": null, "others": null}]}',
    '{"rules": [{"name": "a", "when": "true", "pool": 7, "priority": "7", "enabled": "yes", "skills": "German", "author": {}, "note": ["x"], "owner": true}]}',
    '{"rules": [{"name": "a", "when": "true", "agents": [], "skills": ["x", null], "prerequisites": [1], "escalate_after": [["x"]]}]}',
    '{"rules": [{"name": "a", "when": "true", "agents": ["x", "y,\"z\" "], "skills": ["", "NULL", "{}"], "prerequisites": ["a"], "escalate_after": ["1 hour", "2 hours"]}]}',
    '{"rules": [{"name": "a", "when": "true", "pool": "p", "owner": "o", "outcome": "nurture", "reason": "r", "first_response_within": "1 h", "sla_clock": "wall", "effective_from": "2026-01-01", "effective_until": "", "enabled": false, "author": "anna", "note": "n"}]}',
    '{"rules": [{"name": "a", "when": "true", "poool": "p", "condition": "x", "draft": 1, "position": 2}]}',
    '{"tests": [{"name": "t", "lead": {"country": "DE"}, "expect": {"rule": "a"}}, {"name": "t", "lead": null, "expect": null}, {"name": "", "lead": 7, "more": [1]}]}']::jsonb[]) AS d;
-- or is refused, with its places
SELECT leadroute.load_draft('policy_drafts', '{"rules": [7, {}, {"name": "a"}, {"name": "a", "when": 7}, {"name": null, "when": "true"}, {"name": "a", "when": "true"}], "tests": [null, {"name": 1}, {"name": "a"}]}');
SELECT leadroute.load_draft('policy_drafts', jsonb_build_object('rules', (SELECT jsonb_agg(n) FROM generate_series(1, 23) AS n)));
SELECT leadroute.load_draft('policy_drafts', '[]');
SELECT leadroute.load_draft('policy_drafts', NULL);
SELECT leadroute.load_draft('policy_drafts none', '{}');
SELECT leadroute.draft_document('policy_drafts none');
SELECT * FROM leadroute.draft_mistakes('policy_drafts none');
SELECT * FROM leadroute.check_draft('policy_drafts none');
-- what was loaded and published is the document, nulls included, and no author is added
SELECT leadroute.load_draft('policy_drafts', '{"leadroute": 1, "description": null, "steps": [{"capability": "assignOwner", "note": null}],
    "rules": [{"name": "all", "when": "true", "pool": "policy_drafts one", "owner": null, "enabled": null, "priority": 1.0}]}');
SELECT leadroute.publish_draft('policy_drafts', 'loaded');
SELECT leadroute.policy_document('policy_drafts', 2);
-- a column counts instead of what else the document says
UPDATE leadroute.draft_rules SET enabled = false WHERE draft = 'policy_drafts';
SELECT leadroute.draft_document('policy_drafts') -> 'rules' AS rules;

-- thrown away, with its rows; that is on record
SELECT leadroute.discard_draft('policy_drafts two', 'not needed');
SELECT leadroute.discard_draft('policy_drafts two');
SELECT leadroute.create_draft('policy_drafts never', 'policy_drafts three');
SELECT leadroute.discard_draft('policy_drafts three');
SELECT count(*) FROM leadroute.draft_rules WHERE draft IN ('policy_drafts two', 'policy_drafts three');
SELECT act, name, draft, reason, session_user_name FROM leadroute.policy_history WHERE draft LIKE 'policy\_drafts t%' AND act = 'discard' ORDER BY at;
SELECT leadroute.discard_draft('policy_drafts');

RESET SESSION AUTHORIZATION;
SELECT count(*) FROM leadroute.draft_rules WHERE draft LIKE 'policy\_drafts%';
DELETE FROM leadroute.pools WHERE name LIKE 'policy\_drafts%';
DROP SCHEMA policy_drafts CASCADE;
DROP ROLE regress_lr_anna, regress_lr_bert, regress_lr_auditor;
