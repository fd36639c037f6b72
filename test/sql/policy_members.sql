-- What a rule says beside condition and target: an owner instead of a pool, agents, skills, prerequisites, times and dates of
-- effect. Each is checked when the policy is defined; dates and owners decide.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA policy_members;
SET search_path TO policy_members;
SET DateStyle TO 'ISO, YMD';
\pset format unaligned
\pset fieldsep ' | '
INSERT INTO leadroute.owners (reference) VALUES ('policy_members a'), ('policy_members b'), ('policy_members taken');
INSERT INTO leadroute.pools (name) VALUES ('policy_members'), ('owner policy_members taken');
CREATE FUNCTION agent(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT ''{}''::jsonb';
SELECT leadroute.register_agent('policyMembersRetired', '1', '{policyMembers}', 'agent(jsonb)') > 0 AS registered;
SELECT leadroute.deprecate_agent('policyMembersRetired', '1', true);
CREATE FUNCTION rule(members jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('leadroute', 1, 'timezone', 'Europe/Berlin', 'steps', '[{"capability": "validateContact"}, {"capability": "assignOwner"}, {"capability": "enrichWithFirmographicData"}]'::jsonb,
        'rules', jsonb_build_array('{"name": "a", "when": "true", "pool": "policy_members"}' || members))
$$;

-- all of them, as they should be
SELECT leadroute.policy_mistakes(rule('{"agents": ["validateContact"], "skills": ["German", "enterprise"], "prerequisites": ["validateContact"],
    "first_response_within": "4 hours", "sla_clock": "working", "escalate_after": ["1 hour", "90 minutes", "1 day"], "effective_from": "2026-06-01",
    "effective_until": "2026-06-01T09:00:00+02:00", "author": "anna", "note": "test", "enabled": true}'));
SELECT leadroute.policy_mistakes(rule('{"agents": null, "skills": null, "prerequisites": null, "first_response_within": null, "sla_clock": null, "escalate_after": null,
    "effective_from": null, "effective_until": null, "author": null, "note": null, "owner": null}'));

-- what is wrong with each
SELECT c.members, m.place, m.problem, m.hint FROM (VALUES (1, '{"agents": []}'::jsonb), (2, '{"agents": ["nobody", 7, "policyMembersRetired"]}'), (3, '{"agents": "validateContact"}'),
    (4, '{"skills": ["", 7]}'), (5, '{"prerequisites": ["enrichWithFirmographicData", "assignOwner", "telepathy", 7]}'),
    (6, '{"first_response_within": "soon"}'), (7, '{"first_response_within": 4}'), (8, '{"first_response_within": "-1 hour"}'), (9, '{"first_response_within": "0"}'),
    (10, '{"sla_clock": "sun"}'), (11, '{"escalate_after": ["1 hour", "60 minutes", "later", "2 hours", "1 hour"]}'), (12, '{"escalate_after": "1 hour"}'),
    (13, '{"effective_from": "tomorrow"}'), (14, '{"effective_from": "2026-02-30"}'), (15, '{"effective_until": "2026-06-01 now"}'), (16, '{"effective_from": "infinity"}'),
    (17, '{"effective_from": "2026-06-01T00:00:00+00:00", "effective_until": "2026-06-01T02:00:00"}'),
    (18, '{"owner": "policy_members a"}'), (19, '{"pool": null, "owner": "nobody"}'), (20, '{"pool": null, "owner": "policy_members taken"}'), (21, '{"pool": null}'),
    (22, '{"author": 7, "note": ["x"]}'), (23, '{"escalate_after": ["1 hour", null]}')) AS c (no, members), leadroute.policy_mistakes(rule(c.members)) m ORDER BY c.no, m.place COLLATE "C", m.problem COLLATE "C";
SELECT m.place, m.problem, m.hint FROM leadroute.policy_mistakes(rule('{"priority": 1}') || '{"hit_policy": "first"}') m;
SELECT m.place, m.problem, m.hint FROM leadroute.policy_mistakes(rule('{"priority": 1}') || '{"hit_policy": "any"}') m;
SELECT h AS allowed FROM unnest(ARRAY['priority', 'first', 'unique']) AS h WHERE NOT EXISTS (SELECT FROM leadroute.policy_mistakes(rule('{}') || jsonb_build_object('hit_policy', h)));

-- dates of effect: from the first moment on, up to the last one and not with it, in the policy's time zone
CREATE TABLE leads (id integer PRIMARY KEY, country text);
SELECT leadroute.attach_table('leads', policy => 'policy_members') > 0 AS attached;
CREATE FUNCTION dated(from_text text, until_text text) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    PERFORM leadroute.publish_policy('policy_members', jsonb_build_object('leadroute', 1, 'timezone', 'Pacific/Auckland', 'steps', '[{"capability": "assignOwner"}]'::jsonb, 'rules', jsonb_build_array(
        jsonb_strip_nulls(jsonb_build_object('name', 'dated', 'when', 'country = ''DE'' OR country IS NULL -- a comment', 'outcome', 'nurture', 'reason', 'x', 'effective_from', from_text, 'effective_until', until_text)),
        jsonb_build_object('name', 'rest', 'when', 'true', 'outcome', 'rejected', 'reason', 'x'))), 'test');
    RETURN leadroute.activate_policy('policy_members');
END $$;
CREATE VIEW decided AS SELECT CASE WHEN t.relation = 'leads'::regclass THEN k.key::int END AS id, d.rule FROM leadroute.decisions d JOIN leadroute.lead_keys k USING (lead_id) JOIN leadroute.attached_tables t USING (source_id) WHERE t.relation = 'leads'::regclass;
SELECT dated((now() - interval '1 minute')::text, (now() + interval '1 day')::text) > 0 AS in_effect;
INSERT INTO leads VALUES (1, 'DE'), (2, 'FR'), (3, NULL);
SELECT dated((now() + interval '1 day')::text, NULL) > 0 AS not_yet;
INSERT INTO leads VALUES (11, 'DE'), (12, 'FR'), (13, NULL);
SELECT dated(NULL, (now() - interval '1 minute')::text) > 0 AS no_more;
INSERT INTO leads VALUES (21, 'DE'), (22, 'FR'), (23, NULL);
-- without an offset a moment is one in the time zone of the policy
SELECT dated(to_char(now() AT TIME ZONE 'Pacific/Auckland' - interval '3 hours', 'YYYY-MM-DD HH24:MI:SS'), NULL) > 0 AS in_effect;
INSERT INTO leads VALUES (31, 'DE');
SELECT dated(to_char(now() AT TIME ZONE 'Pacific/Auckland' + interval '3 hours', 'YYYY-MM-DD HH24:MI:SS'), NULL) > 0 AS not_yet;
INSERT INTO leads VALUES (41, 'DE');
SELECT * FROM decided ORDER BY id;
SELECT count(*) AS not_verified FROM decided d JOIN leadroute.lead_keys k ON k.key = d.id::text JOIN leadroute.decisions x USING (lead_id), leadroute.verify_decision(x.decision_id) v WHERE v.verdict = 'different';

-- an owner as target: publishing, and only publishing, makes a pool of one
SELECT count(*) AS mistakes FROM leadroute.policy_mistakes(rule('{"pool": null, "owner": "policy_members a"}'));
SELECT count(*) AS pools FROM leadroute.pools WHERE of_owner IS NOT NULL AND name LIKE '%policy_members%';
SELECT leadroute.publish_policy('policy_members', rule('{"pool": null, "owner": "policy_members a"}') || jsonb_build_object('steps', '[{"capability": "assignOwner"}]'::jsonb, 'rules', '[
    {"name": "a", "when": "country = ''DE''", "owner": "policy_members a"}, {"name": "a too", "when": "country = ''AT''", "owner": "policy_members a"},
    {"name": "b", "when": "country = ''FR''", "owner": "policy_members b", "reason": "french"}]'::jsonb), 'owners') > 0 AS published;
SELECT leadroute.activate_policy('policy_members') > 0 AS active;
SELECT p.name, o.reference, m.weight, to_regclass(format('leadroute.pool_%s_turns', p.pool_id)) IS NULL AS no_sequence FROM leadroute.pools p JOIN leadroute.pool_members m USING (pool_id)
    JOIN leadroute.owners o ON o.owner_id = m.owner_id AND o.owner_id = p.of_owner WHERE p.name LIKE '%policy_members%' ORDER BY 1;
INSERT INTO leads VALUES (51, 'DE'), (52, 'AT'), (53, 'FR'), (54, 'DE');
SELECT k.key, d.owner, d.pool, d.rule, d.reason_code FROM leadroute.decisions d JOIN leadroute.lead_keys k USING (lead_id) JOIN leadroute.attached_tables t USING (source_id)
    WHERE CASE WHEN t.relation = 'leads'::regclass THEN k.key::int > 50 END ORDER BY 1;
-- published again, there are no more pools, and it is the same version
SELECT count(*) AS before FROM leadroute.pools \gset
SELECT leadroute.publish_policy('policy_members', leadroute.policy_document('policy_members', max(version)), 'again') = max(version) AS same FROM leadroute.policy_versions JOIN leadroute.policies USING (policy_id) WHERE name = 'policy_members';
SELECT count(*) = :before AS no_more_pools FROM leadroute.pools;

-- nobody edits such a pool; an owner who is away gets nothing, and the lead waits
INSERT INTO leadroute.pool_members SELECT p.pool_id, o.owner_id FROM leadroute.pools p, leadroute.owners o WHERE p.name = 'owner policy_members a' AND o.reference = 'policy_members b';
UPDATE leadroute.pool_members SET weight = 2 WHERE pool_id = (SELECT pool_id FROM leadroute.pools WHERE name = 'owner policy_members a');
DELETE FROM leadroute.pool_members WHERE pool_id = (SELECT pool_id FROM leadroute.pools WHERE name = 'owner policy_members a');
UPDATE leadroute.pools SET of_owner = NULL WHERE name = 'owner policy_members a';
UPDATE leadroute.pool_members SET weight = 3 WHERE pool_id = (SELECT pool_id FROM leadroute.pools WHERE name = 'policy_members');
UPDATE leadroute.owners SET available = false WHERE reference = 'policy_members a';
INSERT INTO leads VALUES (61, 'DE'), (62, 'FR');
SELECT k.key, d.outcome, d.owner, d.pool, d.reason_code FROM leadroute.decisions d JOIN leadroute.lead_keys k USING (lead_id) JOIN leadroute.attached_tables t USING (source_id)
    WHERE CASE WHEN t.relation = 'leads'::regclass THEN k.key::int > 60 END ORDER BY 1;
DROP SCHEMA policy_members CASCADE;
