-- Edges of choosing: loads that differ, numbers that others in the batch change, overflows whose leads change, windows that differ.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA assignment_edges;
SET search_path TO assignment_edges;
INSERT INTO leadroute.owners (reference) VALUES ('edge a'), ('edge b');
INSERT INTO leadroute.pools (name, strategy) VALUES ('edge one', 'rotation'), ('edge balance', 'balance'), ('edge load', 'least_loaded'), ('edge load a', 'least_loaded');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT p.pool_id, o.owner_id FROM leadroute.pools p, leadroute.owners o
    WHERE p.name LIKE 'edge %' AND (o.reference = 'edge a' OR o.reference = 'edge b' AND p.name IN ('edge balance', 'edge load'));
SELECT owner_id AS a FROM leadroute.owners WHERE reference = 'edge a' \gset
SELECT pool_id AS one FROM leadroute.pools WHERE name = 'edge one' \gset
SELECT pool_id AS balance FROM leadroute.pools WHERE name = 'edge balance' \gset
INSERT INTO leadroute.tier_loads VALUES ('Edge', 3);
INSERT INTO leadroute.caps VALUES (:a, :one, 'open', 4);
SELECT leadroute.publish_scorecard('edges', '{"base": 5, "characteristics": [{"code": "n", "bins": [{"when": "region = ''large''", "points": 90}], "otherwise": 0}],
    "tiers": [{"tier": "Edge", "from": 50}]}', 'test') AS version;
SELECT leadroute.publish_policy('edges', '{"leadroute": 1,
    "steps": [{"capability": "validateContact"}, {"capability": "computeLeadScore", "scorecard": "edges"}, {"capability": "assignOwner", "known_person": "same_owner"}],
    "rules": [{"name": "one", "when": "source = ''one''", "pool": "edge one"}, {"name": "balance", "when": "source = ''balance''", "pool": "edge balance"},
              {"name": "load", "when": "source = ''load''", "pool": "edge load"}, {"name": "load a", "when": "source = ''load a''", "pool": "edge load a"}]}', 'test') AS version;
SELECT leadroute.activate_policy('edges') AS version;
CREATE TABLE leads (id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'), n serial, email text, source text, region text);
SELECT leadroute.attach_table('leads', policy => 'edges', reroute_on => ARRAY['region'], classes => '{"source": "plain", "region": "plain"}') > 0 AS attached;
CREATE VIEW given AS SELECT l.n, l.source, l.region, right(o.reference, 1) AS owner, s.outcome, s.reason_code, s.tier, s.load, s.since, s.run_id
    FROM leads l JOIN leadroute.lead_states s ON s.lead_id = l.id LEFT JOIN leadroute.owners o USING (owner_id);

-- where there is no room for a heavy lead there is for a light one behind it
INSERT INTO leads (source, email, region) SELECT 'one', i || '@edge.example', CASE WHEN i = 3 THEN 'large' END FROM generate_series(1, 5) i;
SELECT n, region, owner, outcome, reason_code, load FROM given ORDER BY n;
-- who waits is decided anew where the lead changed, and keeps the place; where it did not, nothing is written
SELECT since AS before, run_id AS run FROM given WHERE n = 3 \gset
UPDATE leads SET region = 'small' WHERE n = 3;
SELECT outcome, reason_code, tier, load, since = :'before' AS same_place, run_id <> :run AS new FROM given WHERE n = 3;
SELECT run_id AS run FROM given WHERE n = 3 \gset
SELECT leadroute.draw_overflow('edge one');
SELECT run_id <> :run AS new FROM given WHERE n = 3;

-- who has it keeps it under a full cap: the lead's own place is free for it; so it is for another one where a full pool loses none
UPDATE leads SET region = 'small' WHERE n = 1;
SELECT n, owner, outcome FROM given WHERE n = 1;
UPDATE leadroute.caps SET owner_id = NULL WHERE pool_id = :one;
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT :one, owner_id FROM leadroute.owners WHERE reference = 'edge b';
SELECT leadroute.decline_lead(id, 'no_capacity', 'edge a') > 0 AS declined FROM leads WHERE n IN (1, 2) ORDER BY n;
UPDATE leads SET region = 'medium' WHERE n IN (1, 4, 5);
SELECT outcome, count(*), bool_and(owner = 'b') FILTER (WHERE n < 3) AS moved FROM given WHERE source = 'one' GROUP BY 1 ORDER BY 1;
SELECT c.maximum, c.taken, c.recounted FROM leadroute.cap_usage() c WHERE c.pool = 'edge one';

-- a person moves a lead within a full pool: the pool has no more for it
SELECT leadroute.reassign_lead(id, 'edge b', 'test') > 0 AS given FROM leads WHERE n = 4;
-- what is decided while a table is observed takes no place, and gives none back; a person who gives such a lead afterwards takes one
SELECT leadroute.set_table_mode('leads', 'observe');
UPDATE leadroute.caps SET maximum = 9 WHERE pool_id = :one;
INSERT INTO leads (source, email) SELECT 'one', 'o' || i || '@edge.example' FROM generate_series(1, 3) i;
SELECT outcome, load, count(*) FROM given WHERE source = 'one' AND n > 5 GROUP BY 1, 2;
SELECT c.maximum, c.taken, c.recounted FROM leadroute.cap_usage() c WHERE c.pool = 'edge one';
SELECT leadroute.recount_caps();
SELECT leadroute.set_table_mode('leads', 'route');
SELECT c.maximum, c.taken, c.recounted FROM leadroute.cap_usage() c WHERE c.pool = 'edge one';
SELECT leadroute.reassign_lead(l.id, CASE g.owner WHEN 'a' THEN 'edge b' ELSE 'edge a' END, 'test') > 0 AS given FROM leads l JOIN given g USING (n) WHERE n = 6;
SELECT c.maximum, c.taken, c.recounted FROM leadroute.cap_usage() c WHERE c.pool = 'edge one';
DELETE FROM leads WHERE n > 5;
SELECT c.maximum, c.taken, c.recounted FROM leadroute.cap_usage() c WHERE c.pool = 'edge one';
UPDATE leadroute.caps SET maximum = 4 WHERE pool_id = :one;

-- a draw does not give up who waits because all are away for a moment; leads of one pool do not keep those of another one waiting
INSERT INTO leadroute.caps SELECT NULL, pool_id, 'open', 0 FROM leadroute.pools WHERE name = 'edge load';
INSERT INTO leads (source, email) VALUES ('load', 'w1@edge.example');
DELETE FROM leadroute.caps WHERE pool_id = (SELECT pool_id FROM leadroute.pools WHERE name = 'edge load');
UPDATE leadroute.caps SET maximum = 5 WHERE pool_id = :one;
UPDATE leadroute.owners SET available = false WHERE reference LIKE 'edge _';
SELECT leadroute.draw_overflow('edge load');
UPDATE leadroute.owners SET available = true WHERE reference LIKE 'edge _';
UPDATE leadroute.caps SET maximum = 4 WHERE pool_id = :one;
SELECT o.pool, o.place FROM leadroute.overflow_leads o WHERE o.pool LIKE 'edge %' ORDER BY 1;
SELECT leadroute.draw_overflow(max => 1);
SELECT o.pool, o.place FROM leadroute.overflow_leads o WHERE o.pool LIKE 'edge %' ORDER BY 1;
DELETE FROM leads WHERE source = 'load';

-- balance: what a person known brings one of them counts for the next lead of the same statement
INSERT INTO leads (source, email) VALUES ('balance', 'known@edge.example');
INSERT INTO leads (source, email) SELECT 'balance', CASE WHEN i BETWEEN 2 AND 7 THEN 'known' ELSE 'b' || i END || '@edge.example' FROM generate_series(1, 13) i;
SELECT string_agg(owner, '' ORDER BY n) FROM given WHERE source = 'balance';
-- least loaded: so does what another pool gives
INSERT INTO leads (source, email) SELECT CASE WHEN i BETWEEN 2 AND 6 THEN 'load a' ELSE 'load' END, 'l' || i || '@edge.example' FROM generate_series(1, 12) i;
SELECT source, string_agg(owner, '' ORDER BY n) FROM given WHERE source LIKE 'load%' GROUP BY 1 ORDER BY 1;
SELECT v.verdict, count(*) FROM leads l JOIN leadroute.entries e ON e.lead_id = l.id, leadroute.verify_decision(e.run_id) v GROUP BY 1 ORDER BY 1;

-- a person who gives is told of the cap's own window, not of the one in which the pool balances
SELECT e.name AS early, l.name AS late, e.starts_at + interval '1 hour' AS moment FROM (VALUES ('Pacific/Kiritimati'), ('Pacific/Midway')) z (name)
    CROSS JOIN LATERAL (SELECT z.name, w.starts_at FROM leadroute.cap_window('month', z.name, now()) w) e
    JOIN LATERAL (SELECT o.name, w.starts_at FROM (VALUES ('Pacific/Kiritimati'), ('Pacific/Midway')) o (name), leadroute.cap_window('month', o.name, now()) w) l
    ON l.starts_at > e.starts_at \gset
UPDATE leadroute.pools SET balance_over = 'month', timezone = :'early' WHERE name = 'edge balance';
UPDATE leadroute.owners SET timezone = :'late' WHERE reference = 'edge a';
UPDATE leadroute.lead_states s SET since = :'moment' FROM leads l WHERE l.id = s.lead_id AND l.source = 'balance';
DELETE FROM leadroute.caps WHERE pool_id = :one;
INSERT INTO leadroute.caps VALUES (:a, :balance, 'month', 1);
SELECT leadroute.reassign_lead(id, 'edge a', 'test') > 0 AS given FROM leads WHERE n = (SELECT max(n) FROM given WHERE source = 'balance' AND owner = 'b');
\set VERBOSITY terse
DO $$ BEGIN
    PERFORM leadroute.reassign_lead(id, 'edge a', 'test') FROM leads WHERE n = (SELECT max(n) FROM given WHERE source = 'balance' AND owner = 'b');
EXCEPTION WHEN OTHERS THEN RAISE WARNING '%', SQLSTATE;
END $$;

-- skills that look alike once written down are others; a pool that is gone is written down once
INSERT INTO leadroute.owner_skills VALUES (:a, 'edge 1:x', 2);
INSERT INTO leads (source, email) VALUES ('load a', 's1@edge.example');
DELETE FROM leadroute.owner_skills WHERE owner_id = :a;
INSERT INTO leadroute.owner_skills VALUES (:a, 'edge', 1), (:a, 'x', 2);
INSERT INTO leads (source, email) VALUES ('load a', 's2@edge.example');
SELECT skills FROM leadroute.pool_revisions WHERE pool_name = 'edge load a' AND skills IS NOT NULL ORDER BY pool_revision_id;
DELETE FROM leadroute.pool_members WHERE pool_id = :one;
SELECT count(*) AS revisions FROM leadroute.pool_revisions WHERE pool_id = :one \gset
DELETE FROM leadroute.pools WHERE pool_id = :one;
INSERT INTO leads (source, email) VALUES ('one', 'g1@edge.example');
INSERT INTO leads (source, email) VALUES ('one', 'g2@edge.example');
SELECT count(*) - :revisions AS more FROM leadroute.pool_revisions WHERE pool_id = :one;

-- lengths of time have a bound
SELECT place, problem FROM leadroute.policy_mistakes('{"leadroute": 1, "steps": [{"capability": "assignOwner"}],
    "rules": [{"name": "all", "when": "true", "pool": "edge load", "first_response_within": "293000 years", "skills": ["de for 293000 years", "en for 100 years"]}]}');

DELETE FROM leadroute.caps WHERE owner_id = :a;
DELETE FROM leadroute.owner_skills WHERE owner_id = :a;
DELETE FROM leadroute.tier_loads WHERE tier = 'Edge';
DROP TABLE leads CASCADE;
DROP SCHEMA assignment_edges CASCADE;
DELETE FROM leadroute.pool_members WHERE pool_id IN (SELECT pool_id FROM leadroute.pools WHERE name LIKE 'edge %');
DELETE FROM leadroute.pools WHERE name LIKE 'edge %';
DELETE FROM leadroute.owners WHERE reference LIKE 'edge _';
