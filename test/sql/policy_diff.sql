-- Differences between documents go by name: as few rows as explain them. Against a base, what two sides changed is told apart, and what
-- does not conflict is taken over: a draft without changes of its own becomes the active version, one with them keeps them.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA policy_diff;
SET search_path TO policy_diff;
\pset format unaligned
\pset fieldsep ' | '
INSERT INTO leadroute.pools (name) VALUES ('policy_diff a'), ('policy_diff b'), ('policy_diff c');
-- rules of one letter each, in an order
CREATE FUNCTION rules(letters text, more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('leadroute', 1, 'steps', '[{"capability": "validateContact"}, {"capability": "assignOwner"}]'::jsonb, 'rules',
        coalesce(jsonb_agg(jsonb_build_object('name', l, 'when', 'true', 'pool', 'policy_diff a') || coalesce(more -> l, '{}') ORDER BY n), '[]'))
    FROM string_to_table(letters, NULL) WITH ORDINALITY AS t (l, n)
$$;

-- what moved: the fewest that explain the order
SELECT a AS old, b AS new, (SELECT string_agg(name || ' ' || kind || coalesce(' ' || (old #>> '{}') || '→' || (new #>> '{}'), ''), ', ') FROM leadroute.document_differences(rules(a), rules(b)) WHERE kind = 'rule moved') AS moved
FROM (VALUES ('abcde', 'abcde'), ('abcde', 'eabcd'), ('abcde', 'bcdea'), ('abcde', 'edcba'), ('abcde', 'xaybczde'), ('abcde', 'ce'), ('abcde', 'acbde'), ('abcde', 'badce'), ('', 'a'), ('', '')) AS c (a, b);
SELECT leadroute.moved('{}'), leadroute.moved('{5}'), leadroute.moved('{3,1,2}'), leadroute.moved(NULL);
-- against every order of six: never more than all but the longest that kept its order
WITH RECURSIVE orders (places) AS (
    SELECT '{}'::integer[] UNION ALL SELECT places || n FROM orders, generate_series(0, 5) AS n WHERE cardinality(places) < 6 AND n <> ALL (places)
), six AS (SELECT places, leadroute.moved(places) AS moved FROM orders WHERE cardinality(places) = 6),
judged AS (
    SELECT (SELECT count(*) FROM unnest(moved) AS m WHERE NOT m) AS kept,
           (SELECT max(length) FROM (SELECT count(*) AS length FROM generate_series(1, 63) AS mask CROSS JOIN generate_series(1, 6) AS i
                WHERE mask & (1 << (i - 1)) <> 0 GROUP BY mask
                HAVING array_agg(places[i] ORDER BY i) = array_agg(places[i] ORDER BY places[i])) AS s) AS longest,
           (SELECT array_agg(p ORDER BY i) = array_agg(p ORDER BY p) FROM unnest(places, moved) WITH ORDINALITY AS u (p, m, i) WHERE NOT m) AS in_order
    FROM six
)
SELECT count(*), bool_and(kept = longest) AS fewest, bool_and(in_order) AS in_order FROM judged;

-- every kind
SELECT * FROM leadroute.document_differences('{"leadroute": 1, "description": "old", "timezone": "UTC", "justifications": {"a": "b"},
    "steps": [{"capability": "validateContact", "free_mail": ["x"]}, {"capability": "checkRegionalCompliance"}, {"capability": "assignOwner"}],
    "rules": [{"name": "stays", "when": "true", "pool": "p"}, {"name": "changes", "when": "country = ''DE''", "pool": "p", "note": "x", "author": null}, {"name": "goes", "when": "true", "pool": "p"}],
    "tests": [{"name": "t", "lead": {"country": "DE"}, "expect": {"rule": "stays"}}, {"name": "gone"}]}',
    '{"leadroute": 1, "description": "new", "hit_policy": "first", "justifications": {"a": "b"},
    "steps": [{"capability": "checkRegionalCompliance"}, {"capability": "validateContact", "free_mail": ["x", "y"]}, {"capability": "enrichWithFirmographicData"}, {"capability": "assignOwner"}],
    "rules": [{"name": "comes", "when": "true", "pool": "p"}, {"name": "changes", "when": "country = ''AT''", "pool": "p", "priority": 3}, {"name": "stays", "when": "true", "pool": "p"}],
    "tests": [{"name": "t", "lead": {"country": "AT"}, "expect": {"rule": "stays"}}, {"name": "new"}]}');
-- names that are there twice (rules that are switched off), and what no policy could be
SELECT * FROM leadroute.document_differences('{"rules": [{"name": "a", "pool": "1"}, {"name": "a", "pool": "2"}, 7, {}]}', '{"rules": [{"name": "a", "pool": "1"}, {"name": "a", "pool": "3"}, {"name": "a"}, 8]}');
SELECT * FROM leadroute.document_differences('{"rules": null, "steps": []}', '{"rules": [], "tests": {}}');
SELECT * FROM leadroute.document_differences('[]', '{"a": 1}');
SELECT count(*) FROM leadroute.document_differences('{"rules": [{"name": "a", "x": null}]}', '{"rules": [{"name": "a"}]}');

-- between versions
SELECT leadroute.publish_policy('policy_diff', rules('abc'), 'one'), leadroute.publish_policy('policy_diff', rules('cab', '{"a": {"note": "x"}}'), 'two');
SELECT * FROM leadroute.policy_differences('policy_diff', 1, 2);
SELECT * FROM leadroute.policy_differences('policy_diff', 2, 1);
SELECT * FROM leadroute.policy_differences('policy_diff', 1, 1);
SELECT * FROM leadroute.policy_differences('policy_diff', 1, 3);
SELECT * FROM leadroute.policy_differences('policy_diff', NULL, 1);

-- three ways
CREATE FUNCTION three(base jsonb, active jsonb, draft jsonb) RETURNS TABLE (conflict boolean, side text, change text, name text, member text, base_value jsonb, active_value jsonb, draft_value jsonb) LANGUAGE sql AS $$
    SELECT conflict, side, part || ' ' || change, name, member, base_value, active_value, draft_value FROM leadroute.compare_three(base, active, draft) ORDER BY name, change, member, side $$;
SELECT * FROM three(rules('abc'), rules('abc', '{"a": {"note": "1"}, "b": {"pool": "policy_diff b"}, "c": {"note": "same"}}'),
                    rules('abc', '{"a": {"note": "2"}, "b": {"note": "3"}, "c": {"note": "same"}}'));
SELECT * FROM three(rules('abc'), rules('abd', '{"b": {"note": "1"}, "d": {"note": "1"}}'), rules('acd', '{"c": {"note": "2"}, "d": {"note": "2"}}'));
-- where a rule leads is one thing
SELECT * FROM three(rules('ab'), rules('ab', '{"a": {"pool": "policy_diff b"}, "b": {"pool": "policy_diff b"}}'),
                    jsonb_set(jsonb_set(rules('ab', '{"b": {"pool": "policy_diff b"}}'), '{rules,0}', '{"name": "a", "when": "true", "outcome": "nurture", "reason": "x"}'), '{description}', '"new"'));

-- a draft that is behind: refused, with what both changed; taken over what does not conflict
SELECT leadroute.activate_policy('policy_diff', 1, 'test');
SELECT leadroute.create_draft('policy_diff', 'policy_diff');
SELECT leadroute.load_draft('policy_diff', rules('xabc', '{"a": {"note": "draft"}, "b": {"pool": "policy_diff c"}}') || '{"description": "draft"}');
SELECT leadroute.publish_policy('policy_diff', rules('abdc', '{"a": {"note": "active", "skills": ["x"]}, "c": {"priority": 5}}') || '{"timezone": "Europe/Berlin"}', 'three');
SELECT leadroute.activate_policy('policy_diff');
SELECT outdated, based_on_version, active_version FROM leadroute.policy_drafts WHERE draft = 'policy_diff';
SELECT leadroute.publish_draft('policy_diff', 'test');
SELECT * FROM leadroute.draft_differences('policy_diff');
SELECT * FROM leadroute.rebase_draft('policy_diff', 'both');
SELECT * FROM leadroute.rebase_draft('policy_diff none');
SELECT * FROM leadroute.rebase_draft('policy_diff');
SELECT jsonb_pretty(leadroute.draft_document('policy_diff') #- '{steps}');
-- once more: what was taken over is no difference any more; still behind
SELECT conflict, side, kind, name, member FROM leadroute.draft_differences('policy_diff') WHERE side <> 'draft';
SELECT leadroute.publish_draft('policy_diff', 'test') IS NULL AS refused;
BEGIN;
SELECT * FROM leadroute.rebase_draft('policy_diff', 'active');
SELECT leadroute.draft_document('policy_diff') -> 'rules' -> 1 AS a;
ROLLBACK;
-- forced over a newer version: on record
BEGIN;
SELECT leadroute.publish_draft('policy_diff', 'in a hurry', true);
SELECT act, version, overridden, reason FROM leadroute.forced_acts WHERE name = 'policy_diff';
ROLLBACK;
SELECT * FROM leadroute.rebase_draft('policy_diff', 'draft');
SELECT outdated, based_on_version, status FROM leadroute.policy_drafts WHERE draft = 'policy_diff';
SELECT leadroute.publish_draft('policy_diff', 'both', true);
SELECT kind, element, member, old, new FROM leadroute.policy_differences('policy_diff', 3, 4);
-- force, where nothing was in the way, is no forced act
SELECT count(*) FROM leadroute.forced_acts WHERE name = 'policy_diff';
SELECT * FROM leadroute.rebase_draft('policy_diff');
-- older than the draft's base after a rollback: nothing was added that publishing would undo
SELECT leadroute.activate_policy('policy_diff', 4, 'test'), leadroute.rollback_policy('policy_diff'), leadroute.rollback_policy('policy_diff');
SELECT outdated, based_on_version, active_version FROM leadroute.policy_drafts WHERE draft = 'policy_diff';
SELECT * FROM leadroute.draft_differences('policy_diff');
-- a draft from before there was a version
SELECT leadroute.create_draft('policy_diff two', 'policy_diff two') ;
SELECT leadroute.publish_policy('policy_diff two', rules('a'), 'one'), leadroute.activate_policy('policy_diff two');
SELECT leadroute.load_draft('policy_diff two', rules('ab'));
SELECT leadroute.publish_draft('policy_diff two', 'test');
SELECT done, kind, name FROM leadroute.rebase_draft('policy_diff two');
SELECT leadroute.publish_draft('policy_diff two', 'test');

-- at random: whoever changed nothing takes over everything; what nobody but the draft changed stays; both sides alike are no conflict
SELECT setseed(0.42);
CREATE FUNCTION random_document(base jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    r jsonb[];
    n integer;
BEGIN
    SELECT array_agg(e) INTO r FROM jsonb_array_elements(base -> 'rules') AS e;
    FOR i IN 1 .. 1 + floor(random() * 4) LOOP
        n := 1 + floor(random() * greatest(cardinality(r), 1));
        CASE floor(random() * 4)
            WHEN 0 THEN r := r[1 : n - 1] || jsonb_build_object('name', 'n' || floor(random() * 8), 'pool', floor(random() * 3)) || r[n : ];
            WHEN 1 THEN r := r[1 : n - 1] || r[n + 1 : ];
            WHEN 2 THEN r[n] := coalesce(r[n], '{"name": "q"}') || jsonb_build_object((ARRAY['note', 'pool', 'when'])[1 + floor(random() * 3)], floor(random() * 4));
            ELSE SELECT array_agg(e ORDER BY CASE WHEN u.i = n THEN random() * cardinality(r) ELSE u.i END) INTO r FROM unnest(r) WITH ORDINALITY AS u (e, i);
        END CASE;
    END LOOP;
    RETURN base || jsonb_build_object('rules', coalesce(to_jsonb(r), '[]')) || CASE WHEN random() < 0.3 THEN jsonb_build_object('description', floor(random() * 3)) ELSE '{}' END;
END $$;
CREATE TABLE trials AS SELECT n, b, a, d FROM generate_series(1, 2000) AS n CROSS JOIN LATERAL (SELECT random_document(rules('abcdef')) AS b WHERE n > 0 OFFSET 0) x
    CROSS JOIN LATERAL (SELECT random_document(b) AS a, random_document(b) AS d OFFSET 0) y;
SELECT count(*) AS trials, count(DISTINCT b) > 1500 AS different,
       bool_and(leadroute.merge_documents(b, a, b, false, false) = a) AS takes_all, bool_and(leadroute.merge_documents(b, b, d, false, false) = d) AS keeps_all,
       bool_and(leadroute.merge_documents(b, a, a, false, false) = a) AS alike,
       bool_and(NOT EXISTS (SELECT FROM leadroute.compare_three(b, a, a) t WHERE t.conflict OR t.side <> 'both')) AS no_conflict,
       bool_and((a = b) = NOT EXISTS (SELECT FROM leadroute.document_differences(b, a))) AS complete
FROM trials;
-- what was merged differs from the active version only in what the draft changed, as long as a name is there once
SELECT count(*) AS stray FROM trials CROSS JOIN LATERAL (SELECT leadroute.merge_documents(b, a, d, true, false) AS m OFFSET 0) x
CROSS JOIN LATERAL leadroute.compare_documents(a, m) c
WHERE c.change <> 'moved' AND NOT EXISTS (SELECT FROM leadroute.compare_documents(b, d) x WHERE x.part = c.part AND x.name IS NOT DISTINCT FROM c.name AND x.occurrence IS NOT DISTINCT FROM c.occurrence)
  AND NOT EXISTS (SELECT FROM unnest(ARRAY[b, a, d]) AS t (document) CROSS JOIN LATERAL leadroute.document_elements(t.document) e WHERE e.name = c.name AND e.occurrence > 1);

SELECT leadroute.discard_draft('policy_diff'), leadroute.discard_draft('policy_diff two');
DELETE FROM leadroute.pools WHERE name LIKE 'policy\_diff%';
DROP SCHEMA policy_diff CASCADE;
