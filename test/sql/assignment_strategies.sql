-- Each strategy of a pool: who gets the lead, what the record says of the others, and that it verifies.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA assignment_strategies;
SET search_path TO assignment_strategies;
INSERT INTO leadroute.owners (reference, languages) VALUES ('strategy a', '{de}'), ('strategy b', '{en,de}'), ('strategy c', '{en}'), ('strategy d', '{}');
INSERT INTO leadroute.owner_skills SELECT owner_id, 'Enterprise', CASE reference WHEN 'strategy a' THEN 3 ELSE 7 END FROM leadroute.owners WHERE reference IN ('strategy a', 'strategy c');
INSERT INTO leadroute.pools (name, strategy, balance_by) VALUES ('strategy rotation', 'rotation', 'count'), ('strategy balance', 'balance', 'count'), ('strategy value', 'balance', 'value'),
    ('strategy load', 'least_loaded', 'count'), ('strategy skill', 'best_skill', 'count'), ('strategy fixed', 'fixed', 'count');
INSERT INTO leadroute.pool_members (pool_id, owner_id, weight, position)
    SELECT p.pool_id, o.owner_id, CASE WHEN o.reference = 'strategy a' AND p.name IN ('strategy rotation', 'strategy balance') THEN 2 ELSE 1 END,
           CASE o.reference WHEN 'strategy c' THEN 1 WHEN 'strategy a' THEN 2 ELSE 3 END
    FROM leadroute.pools p, leadroute.owners o WHERE p.name LIKE 'strategy %' AND o.reference IN ('strategy a', 'strategy b', 'strategy c');
SELECT leadroute.publish_policy('assignment_strategies', '{
    "leadroute": 1, "steps": [{"capability": "assignOwner"}],
    "rules": [{"name": "german", "when": "source = ''german''", "pool": "strategy rotation", "skills": ["de"]},
              {"name": "expert", "when": "source = ''expert''", "pool": "strategy rotation", "skills": ["enterprise>=5", "de for 1 hour"]},
              {"name": "nobody", "when": "source = ''nobody''", "pool": "strategy rotation", "skills": ["welsh"]},
              {"name": "rotation", "when": "source = ''rotation''", "pool": "strategy rotation"},
              {"name": "balance", "when": "source = ''balance''", "pool": "strategy balance"},
              {"name": "large", "when": "source = ''value'' AND region = ''large''", "pool": "strategy value", "value": 900},
              {"name": "small", "when": "source = ''value''", "pool": "strategy value", "value": 100},
              {"name": "load", "when": "source = ''load''", "pool": "strategy load"},
              {"name": "skill", "when": "source = ''skill''", "pool": "strategy skill", "skills": ["enterprise>=2", "de for 3 days"]},
              {"name": "fixed", "when": "source = ''fixed''", "pool": "strategy fixed"}]}', 'test');
SELECT leadroute.activate_policy('assignment_strategies');
CREATE TABLE leads (id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'), n serial, source text, region text);
SELECT leadroute.attach_table('leads', policy => 'assignment_strategies', classes => '{"source": "plain", "region": "plain"}') > 0 AS attached;
CREATE VIEW given AS SELECT l.n, l.source, l.region, right(o.reference, 1) AS owner, s.outcome, s.reason_code, s.run_id, s.expected_value
    FROM leads l JOIN leadroute.lead_states s ON s.lead_id = l.id LEFT JOIN leadroute.owners o USING (owner_id);
CREATE FUNCTION why(who text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT regexp_replace(leadroute.why_not(g.run_id, 'strategy ' || who), 'decision \d+', 'decision N') FROM given g ORDER BY g.n DESC LIMIT 1 $$;

-- rotation: by weight; a skill that the rule asks for keeps others out, whose turns are used up
INSERT INTO leads (source) SELECT 'rotation' FROM generate_series(1, 8);
SELECT string_agg(owner, '' ORDER BY n) FROM given WHERE source = 'rotation';
SELECT why('b') UNION ALL SELECT why('c') UNION ALL SELECT why('d');
INSERT INTO leads (source) SELECT 'german' FROM generate_series(1, 6);
SELECT owner, count(*) FROM given WHERE source = 'german' GROUP BY 1 ORDER BY 1;
SELECT why('c');
-- a skill that may be dropped: until then the lead waits, and says until when; nobody can ever do the other
INSERT INTO leads (source) VALUES ('expert'), ('nobody');
SELECT source, outcome, reason_code, owner FROM given WHERE source IN ('expert', 'nobody') ORDER BY n;
SELECT o.pool, o.estimated_at - o.waiting_since AS estimated, o.place FROM leadroute.overflow_leads o JOIN leads l ON l.id = o.lead_id;
SELECT x FROM given g, leadroute.explain_decision(g.run_id) x WHERE g.source = 'expert' AND x ~ '^(Why|Candidates)';
SELECT leadroute.draw_overflow('strategy rotation') AS drawn;
-- as if an hour had passed
UPDATE leadroute.lead_states SET since = since - interval '1 hour' WHERE outcome = 'pending' AND reason_code = 'overflow';
SELECT leadroute.draw_overflow() AS drawn;
SELECT g.source, g.outcome, g.owner, d.cause, e.supersedes IS NOT NULL AS supersedes FROM given g JOIN leadroute.entries e USING (run_id) JOIN leadroute.decisions d ON d.decision_id = g.run_id WHERE g.source = 'expert';
SELECT why('a') UNION ALL SELECT why('b');
\set VERBOSITY terse
SELECT leadroute.draw_overflow('no pool');
\set VERBOSITY default

-- fixed: the first by position who can
INSERT INTO leads (source) SELECT 'fixed' FROM generate_series(1, 2);
UPDATE leadroute.owners SET available = false WHERE reference = 'strategy c';
INSERT INTO leads (source) SELECT 'fixed' FROM generate_series(1, 2);
UPDATE leadroute.owners SET available = true WHERE reference = 'strategy c';
SELECT string_agg(owner, '' ORDER BY n) FROM given WHERE source = 'fixed';
SELECT why('c') UNION ALL SELECT why('b');

-- best_skill: the best match of what is asked for; who lacks nothing comes first, then by level
INSERT INTO leads (source) SELECT 'skill' FROM generate_series(1, 2);
SELECT string_agg(owner, '' ORDER BY n) FROM given WHERE source = 'skill';
SELECT why('b') UNION ALL SELECT why('c');
UPDATE leadroute.owner_skills SET level = 9 WHERE level = 3;
INSERT INTO leadroute.owner_skills SELECT owner_id, 'enterprise', 9 FROM leadroute.owners WHERE reference = 'strategy b';
INSERT INTO leads (source) SELECT 'skill' FROM generate_series(1, 4);
SELECT owner, count(*) FROM given WHERE source = 'skill' GROUP BY 1 ORDER BY 1;

-- balance by count: by weight, also for who was away for a while
INSERT INTO leads (source) SELECT 'balance' FROM generate_series(1, 4);
UPDATE leadroute.owners SET available = false WHERE reference = 'strategy b';
INSERT INTO leads (source) SELECT 'balance' FROM generate_series(1, 6);
UPDATE leadroute.owners SET available = true WHERE reference = 'strategy b';
INSERT INTO leads (source) SELECT 'balance' FROM generate_series(1, 6);
SELECT string_agg(owner, '' ORDER BY n) FROM given WHERE source = 'balance';
SELECT owner, count(*) FROM given WHERE source = 'balance' GROUP BY 1 ORDER BY 1;
SELECT why('a') UNION ALL SELECT why('c') UNION ALL SELECT why('b');
-- by value: who got a large one waits
INSERT INTO leads (source, region) SELECT 'value', CASE WHEN n IN (1, 5) THEN 'large' END FROM generate_series(1, 20) n;
SELECT owner, count(*), sum(expected_value) FROM given WHERE source = 'value' GROUP BY 1 ORDER BY 1;

-- least loaded: by room under the cap per open, or by what is open
INSERT INTO leadroute.caps (owner_id, pool_id, per, maximum)
    SELECT o.owner_id, p.pool_id, 'open', CASE o.reference WHEN 'strategy a' THEN 2 WHEN 'strategy b' THEN 4 ELSE 6 END
    FROM leadroute.owners o, leadroute.pools p WHERE o.reference ~ 'strategy [abc]' AND p.name = 'strategy load';
INSERT INTO leads (source) SELECT 'load' FROM generate_series(1, 14);
SELECT string_agg(owner, '' ORDER BY n) FROM given WHERE source = 'load';
SELECT outcome, reason_code, count(*) FROM given WHERE source = 'load' GROUP BY 1, 2 ORDER BY 1;
SELECT why('a');

-- every decision verifies from the record, one by one and in sets alike
SELECT v.verdict, count(*) FROM leadroute.entries e JOIN leads l ON l.id = e.lead_id, leadroute.verify_decision(e.run_id) v GROUP BY 1 ORDER BY 1;
-- and a record that was tampered with does not
UPDATE leadroute.entries e SET owner_id = (SELECT owner_id FROM leadroute.owners WHERE reference = 'strategy d') FROM leads l WHERE l.id = e.lead_id AND l.source = 'balance';
SELECT v.verdict, v.place, count(*) FROM leadroute.entries e JOIN leads l ON l.id = e.lead_id, leadroute.verify_decision(e.run_id) v WHERE l.source = 'balance' GROUP BY 1, 2 ORDER BY 1, 2;

DELETE FROM leadroute.caps WHERE pool_id IN (SELECT pool_id FROM leadroute.pools WHERE name LIKE 'strategy %');
DROP TABLE leads CASCADE;
DROP SCHEMA assignment_strategies CASCADE;
