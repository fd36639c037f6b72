-- A pool's leads rotate by weight: over every full cycle each available member gets exactly the shares that the weights say, spread
-- evenly. Who is unavailable is passed over, whose weight only counts in relation; changes hold from the next statement on.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA assignment_rotation;
SET search_path TO assignment_rotation;
INSERT INTO leadroute.pools (name) VALUES ('assignment_rotation'), ('assignment_rotation empty');
SELECT pool_id AS pool FROM leadroute.pools WHERE name = 'assignment_rotation' \gset
INSERT INTO leadroute.owners (reference) VALUES ('rotation a'), ('rotation b'), ('rotation c');
INSERT INTO leadroute.pool_members (pool_id, owner_id, weight) SELECT :pool, owner_id, CASE reference WHEN 'rotation a' THEN 3 WHEN 'rotation b' THEN 2 ELSE 1 END
    FROM leadroute.owners WHERE reference LIKE 'rotation _' ORDER BY reference;
SELECT leadroute.publish_policy('assignment_rotation', '{
    "leadroute": 1, "steps": [{"capability": "assignOwner"}],
    "rules": [{"name": "empty", "when": "country = ''XX''", "pool": "assignment_rotation empty"}, {"name": "all", "when": "true", "pool": "assignment_rotation"}]}', 'test');
SELECT leadroute.activate_policy('assignment_rotation');
CREATE TABLE leads (id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'), n serial, country text);
SELECT leadroute.attach_table('leads', policy => 'assignment_rotation') > 0 AS attached;
CREATE VIEW given AS
    SELECT l.n, right(o.reference, 1) AS owner, s.outcome, s.reason_code, e.turn FROM leads l JOIN leadroute.lead_states s ON s.lead_id = l.id JOIN leadroute.entries e USING (run_id) LEFT JOIN leadroute.owners o ON o.owner_id = s.owner_id;
CREATE VIEW shares AS SELECT owner, count(*) AS leads FROM given GROUP BY 1 ORDER BY 1;

-- one by one, and many at once; turns are used without gaps
INSERT INTO leads DEFAULT VALUES;
INSERT INTO leads DEFAULT VALUES;
INSERT INTO leads (country) SELECT NULL FROM generate_series(1, 598);
SELECT * FROM shares;
SELECT count(DISTINCT turn), min(turn), max(turn) FROM given;
SELECT string_agg(owner, '' ORDER BY turn) AS first_two_cycles FROM given WHERE turn < 12;
-- in every window of one cycle each got the same shares
SELECT DISTINCT (SELECT string_agg(w.owner, '' ORDER BY w.owner) FROM given w WHERE w.turn BETWEEN g.turn AND g.turn + 5) AS shares FROM given g WHERE g.turn <= 594;
TRUNCATE leads;

-- weights in relation only: 30, 20, 10 is 3, 2, 1
UPDATE leadroute.pool_members SET weight = weight * 10 WHERE pool_id = :pool;
INSERT INTO leads (country) SELECT NULL FROM generate_series(1, 60);
SELECT * FROM shares;
TRUNCATE leads;
-- far apart, and without a common divisor
UPDATE leadroute.pool_members m SET weight = CASE o.reference WHEN 'rotation a' THEN 1000 WHEN 'rotation b' THEN 7 ELSE 1 END FROM leadroute.owners o WHERE o.owner_id = m.owner_id AND pool_id = :pool;
INSERT INTO leads (country) SELECT NULL FROM generate_series(1, 2 * 1008);
SELECT * FROM shares;
TRUNCATE leads;
\set VERBOSITY terse
UPDATE leadroute.pool_members SET weight = 0 WHERE pool_id = :pool;
\set VERBOSITY default
UPDATE leadroute.pool_members SET weight = 1 WHERE pool_id = :pool;

-- switched off between statements of one transaction, and on again
BEGIN;
INSERT INTO leads (country) SELECT NULL FROM generate_series(1, 30);
UPDATE leadroute.owners SET available = false WHERE reference = 'rotation b';
INSERT INTO leads (country) SELECT NULL FROM generate_series(1, 20);
UPDATE leadroute.owners SET available = true WHERE reference = 'rotation b';
INSERT INTO leads (country) SELECT NULL FROM generate_series(1, 30);
COMMIT;
SELECT * FROM shares;
SELECT count(*) FILTER (WHERE owner = 'b') AS while_off FROM given WHERE n IN (SELECT n FROM leads ORDER BY n OFFSET 30 LIMIT 20);
-- rolled back, nothing changed but for the turns drawn
BEGIN;
UPDATE leadroute.owners SET available = false WHERE reference <> 'rotation b' AND reference LIKE 'rotation _';
INSERT INTO leads (country) SELECT NULL FROM generate_series(1, 5);
ROLLBACK;
TRUNCATE leads;
INSERT INTO leads (country) SELECT NULL FROM generate_series(1, 30);
SELECT * FROM shares;
SELECT count(*) AS leads, count(DISTINCT v.verdict) AS verdicts, min(v.verdict) AS verdict FROM leads l JOIN leadroute.lead_states s ON s.lead_id = l.id, leadroute.verify_decision(s.run_id) v;
TRUNCATE leads;

-- a new member takes part at once; one who leaves gets nothing more
INSERT INTO leadroute.owners (reference) VALUES ('rotation d');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT :pool, owner_id FROM leadroute.owners WHERE reference = 'rotation d';
DELETE FROM leadroute.pool_members WHERE owner_id = (SELECT owner_id FROM leadroute.owners WHERE reference = 'rotation a');
INSERT INTO leads (country) SELECT NULL FROM generate_series(1, 30);
SELECT * FROM shares;
TRUNCATE leads;

-- nobody there: a pool without members, one whose members are all unavailable, one that was deleted
INSERT INTO leads (country) VALUES ('XX');
UPDATE leadroute.owners SET available = false WHERE reference LIKE 'rotation _';
INSERT INTO leads DEFAULT VALUES;
DELETE FROM leadroute.pools WHERE name = 'assignment_rotation empty';
INSERT INTO leads (country) VALUES ('XX');
SELECT owner, outcome, reason_code, turn FROM given ORDER BY n;
SELECT count(DISTINCT v.verdict) AS verdicts, min(v.verdict) AS verdict FROM leads l JOIN leadroute.lead_states s ON s.lead_id = l.id, leadroute.verify_decision(s.run_id) v;
UPDATE leadroute.owners SET available = true WHERE reference LIKE 'rotation _';
-- the record says who was considered and that somebody was not available
SELECT DISTINCT cardinality(r.owner_ids) AS members, r.weights, r.available FROM leadroute.pool_revisions r WHERE r.pool_id = :pool ORDER BY 1, 2, 3;

DROP SCHEMA assignment_rotation CASCADE;
DELETE FROM leadroute.pool_members WHERE pool_id = :pool;
DELETE FROM leadroute.pools WHERE pool_id = :pool;
DELETE FROM leadroute.owners WHERE reference LIKE 'rotation _';
SELECT count(*) AS sequences_left FROM pg_class WHERE relname = 'pool_' || :pool || '_turns';
