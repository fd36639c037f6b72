-- Published versions never change: an equal document gives the version that is there, another one the next. One version at a
-- time is active; rollback goes back to the one before. Who did what, when and why is on record. A version pins the documents
-- that it was published with.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA policy_versions;
SET search_path TO policy_versions;
CREATE ROLE regress_lr_author;
GRANT leadroute_author TO regress_lr_author;
CREATE FUNCTION document(reason text) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('leadroute', 1, 'steps', '[{"capability": "computeLeadScore", "scorecard": "policy_versions"}, {"capability": "assignOwner"}]'::jsonb,
        'rules', jsonb_build_array(jsonb_build_object('name', 'all', 'when', 'true', 'outcome', 'nurture', 'reason', reason)))
$$;
SELECT leadroute.publish_scorecard('policy_versions', '{"base": 10, "characteristics": []}', 'first');
SELECT leadroute.publish_scorecard('policy_versions', '{"characteristics": [], "base": 10}', 'the same');

SELECT leadroute.publish_policy('policy_versions', document('one'), 'first');
SELECT leadroute.publish_policy('policy_versions', document('one'), 'the same');
SELECT leadroute.publish_policy('policy_versions', document('two'), 'second');
SELECT leadroute.publish_policy('policy_versions', document('one'), 'as the first, but the newest is another');
-- published is not active
CREATE TABLE leads (id text PRIMARY KEY);
SELECT leadroute.attach_table('leads', policy => 'policy_versions') > 0 AS attached;
INSERT INTO leads VALUES ('waits');
SELECT outcome, reason_code FROM leadroute.lead_states WHERE lead_id = leadroute.lead_of('leads', 'waits');

SELECT leadroute.activate_policy('policy_versions', 1, 'go');
SELECT leadroute.route_pending('leads');
SELECT leadroute.activate_policy('policy_versions', 2);
INSERT INTO leads VALUES ('by two');
SELECT leadroute.activate_policy('policy_versions', 2, 'no change');
SELECT leadroute.activate_policy('policy_versions', reason => 'the newest');
INSERT INTO leads VALUES ('by three');
SELECT leadroute.rollback_policy('policy_versions', 'it was better before');
INSERT INTO leads VALUES ('by two again');
SELECT leadroute.rollback_policy('policy_versions');
INSERT INTO leads VALUES ('by one');
SELECT leadroute.rollback_policy('policy_versions');
SELECT k.key, d.policy_version, d.reason_code, d.policy_hash = encode(v.content_hash, 'hex') AS hash
FROM leadroute.decisions d JOIN leadroute.lead_keys k USING (lead_id) JOIN leadroute.policy_versions v ON v.version = d.policy_version
    JOIN leadroute.policies p ON p.policy_id = v.policy_id AND p.name = d.policy
WHERE d.policy = 'policy_versions' ORDER BY k.key COLLATE "C";

-- the hash is over the document, its rules, and pins; nobody but the owner can change a version
SELECT version, content_hash = leadroute.content_hash(frame, pins, rules_hash) AS hash, reason FROM leadroute.policy_versions
    WHERE policy_id = (SELECT policy_id FROM leadroute.policies WHERE name = 'policy_versions') ORDER BY version;
SET ROLE regress_lr_author;
UPDATE leadroute.policy_versions SET frame = '{}';
DELETE FROM leadroute.documents;
UPDATE leadroute.policies SET active_version_id = 1;
RESET ROLE;
SELECT h.act, h.name, h.version, h.previous_version, h.reason, h.session_user_name = session_user AS by_me FROM leadroute.policy_history h
    WHERE h.name IN ('policy_versions', 'scorecard policy_versions') ORDER BY h.at, h.act COLLATE "C", h.version;

-- a new scorecard version counts from the next published version on
SELECT leadroute.publish_scorecard('policy_versions', '{"base": 20, "characteristics": []}', 'better');
INSERT INTO leads VALUES ('still 10');
SELECT leadroute.publish_policy('policy_versions', document('one'), 'with the new scorecard');
SELECT leadroute.activate_policy('policy_versions');
INSERT INTO leads VALUES ('now 20');
SELECT k.key, s.score FROM leadroute.lead_states s JOIN leadroute.lead_keys k USING (lead_id) WHERE k.key IN ('still 10', 'now 20') ORDER BY 1 DESC;
-- a document or a version that somebody tampered with stops the version rather than changing its meaning
BEGIN;
UPDATE leadroute.documents SET document = '{"base": 99, "characteristics": []}', content_hash = sha256(convert_to('{"base": 99, "characteristics": []}', 'UTF8'))
    WHERE kind = 'scorecard' AND name = 'policy_versions' AND version = 1;
SELECT leadroute.activate_policy('policy_versions', 2);
ROLLBACK;
BEGIN;
UPDATE leadroute.documents SET document = '{"base": 99, "characteristics": []}' WHERE kind = 'scorecard' AND name = 'policy_versions' AND version = 1;
SELECT leadroute.activate_policy('policy_versions', 3);
ROLLBACK;
\c -
SET search_path TO policy_versions;
SET client_min_messages = warning;
BEGIN;
UPDATE leadroute.policy_versions v SET frame = document('tampered') FROM leadroute.policies p WHERE p.policy_id = v.policy_id AND p.name = 'policy_versions' AND v.version = 2;
SELECT leadroute.activate_policy('policy_versions', 2);
ROLLBACK;

-- rolled back with its transaction, an activation never was
BEGIN;
SELECT leadroute.activate_policy('policy_versions', 2);
INSERT INTO leads VALUES ('inside');
SELECT reason_code FROM leadroute.lead_states WHERE lead_id = leadroute.lead_of('leads', 'inside');
ROLLBACK;
INSERT INTO leads VALUES ('outside');
SELECT reason_code FROM leadroute.lead_states WHERE lead_id = leadroute.lead_of('leads', 'outside');

-- what is not there
SELECT leadroute.activate_policy('policy_versions', 99);
SELECT leadroute.activate_policy('policy_versions none');
SELECT leadroute.activate_policy(NULL);
SELECT leadroute.rollback_policy('policy_versions none');

-- protected attributes are read only with a justification
CREATE TABLE people (id text PRIMARY KEY, age integer, region text);
SELECT leadroute.attach_table('people', policy => 'policy_versions', protected => '{region,attributes.age}') > 0 AS attached;
SELECT place, problem, hint FROM leadroute.policy_mistakes('{"leadroute": 1, "steps": [{"capability": "assignOwner"}], "rules": [
    {"name": "a", "when": "region = ''BY''", "outcome": "nurture", "reason": "x"}, {"name": "b", "when": "(attributes->>''age'')::int > 40", "outcome": "nurture", "reason": "x"}]}');
SELECT place, problem FROM leadroute.policy_mistakes('{"leadroute": 1, "steps": [{"capability": "assignOwner"}], "justifications": {"attributes.age": "the offer is for pensioners"}, "rules": [
    {"name": "b", "when": "(attributes->>''age'')::int > 40", "outcome": "nurture", "reason": "x"}]}');
SELECT place, problem FROM leadroute.policy_mistakes('{"leadroute": 1, "steps": [{"capability": "assignOwner"}], "rules": [
    {"name": "b", "when": "attributes @> ''{\"age\": 40}''", "outcome": "nurture", "reason": "x"}]}');
SELECT leadroute.detach_table('people');

DROP SCHEMA policy_versions CASCADE;
DROP ROLE regress_lr_author;
