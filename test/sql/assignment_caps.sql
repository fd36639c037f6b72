-- No owner, member or pool gets more than its cap says, whatever becomes of transactions; what is taken is what lead_states says.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA assignment_caps;
SET search_path TO assignment_caps;
INSERT INTO leadroute.pools (name) VALUES ('caps one'), ('caps two');
SELECT pool_id AS pool FROM leadroute.pools WHERE name = 'caps one' \gset
SELECT pool_id AS other FROM leadroute.pools WHERE name = 'caps two' \gset
INSERT INTO leadroute.owners (reference, timezone) VALUES ('caps a', 'Pacific/Auckland'), ('caps b', 'America/Los_Angeles'), ('caps c', 'UTC');
SELECT owner_id AS a FROM leadroute.owners WHERE reference = 'caps a' \gset
SELECT owner_id AS b FROM leadroute.owners WHERE reference = 'caps b' \gset
SELECT owner_id AS c FROM leadroute.owners WHERE reference = 'caps c' \gset
INSERT INTO leadroute.pool_members (pool_id, owner_id) VALUES (:pool, :a), (:pool, :b), (:other, :a), (:other, :c);
SELECT leadroute.publish_policy('assignment_caps', '{
    "leadroute": 1, "steps": [{"capability": "assignOwner"}],
    "rules": [{"name": "other", "when": "country = ''XX''", "pool": "caps two"}, {"name": "all", "when": "true", "pool": "caps one"}]}', 'test') > 0 AS published;
SELECT leadroute.activate_policy('assignment_caps') > 0 AS active;
CREATE TABLE leads (id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'), country text);
SELECT leadroute.attach_table('leads', policy => 'assignment_caps') > 0 AS attached;
CREATE VIEW given AS
    SELECT coalesce(o.reference, '-') AS owner, p.name AS pool, s.outcome, count(*) FROM leads l JOIN leadroute.lead_states s ON s.lead_id = l.id
    LEFT JOIN leadroute.owners o ON o.owner_id = s.owner_id LEFT JOIN leadroute.pools p ON p.pool_id = s.pool_id GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
CREATE VIEW usage AS SELECT owner, pool, per, maximum, CASE WHEN per IN ('month', 'open') THEN taken END AS taken, taken = recounted AS agree
    FROM leadroute.cap_usage() WHERE owner LIKE 'caps _' OR pool LIKE 'caps ___';

-- leads from before there was a cap count
INSERT INTO leads (country) SELECT NULL FROM generate_series(1, 4);
INSERT INTO leadroute.caps (owner_id, pool_id, per, maximum) VALUES
    (:a, NULL, 'month', 6), (:a, :pool, 'month', 5), (:b, NULL, 'open', 4), (NULL, :other, 'month', 3), (:c, NULL, 'week', 100), (:c, NULL, 'hour', 100), (:c, NULL, 'day', 100);
SELECT * FROM usage;
INSERT INTO leads (country) SELECT NULL FROM generate_series(1, 20);
SELECT * FROM given;
SELECT * FROM usage;
-- of a cap in all, another pool's leads take part; a pool has its own
INSERT INTO leads (country) SELECT 'XX' FROM generate_series(1, 10);
SELECT * FROM given;
SELECT * FROM usage;

-- what is finished, or gone, counts no more per open; what is opened again does
UPDATE leadroute.lead_states SET finished_at = now() WHERE owner_id = :b;
SELECT * FROM usage WHERE per = 'open';
INSERT INTO leads (country) SELECT NULL FROM generate_series(1, 3);
SELECT * FROM usage WHERE per = 'open';
UPDATE leadroute.lead_states SET finished_at = NULL WHERE owner_id = :b;
-- that may be more than the cap allows: nobody decided
SELECT * FROM usage WHERE per = 'open';
UPDATE leadroute.lead_states SET load = 3 WHERE owner_id = :b AND lead_id = (SELECT min(lead_id) FROM leadroute.lead_states WHERE owner_id = :b);
SELECT * FROM usage WHERE per = 'open';
DELETE FROM leads l USING leadroute.lead_states s WHERE s.lead_id = l.id AND s.owner_id = :b;
SELECT * FROM usage WHERE per = 'open';

-- a rollback, a savepoint, an error caught, and an error
BEGIN;
INSERT INTO leads (country) SELECT NULL FROM generate_series(1, 2);
SAVEPOINT one;
INSERT INTO leads (country) SELECT NULL FROM generate_series(1, 2);
SAVEPOINT two;
INSERT INTO leads (country) VALUES (NULL);
RELEASE two;
SELECT * FROM usage WHERE per = 'open';
ROLLBACK TO one;
SELECT * FROM usage WHERE per = 'open';
SAVEPOINT three;
UPDATE leadroute.lead_states SET finished_at = now() WHERE owner_id = :b;
SELECT * FROM usage WHERE per = 'open';
RELEASE three;
INSERT INTO leads (country) VALUES (NULL);
SELECT * FROM usage WHERE per = 'open';
ROLLBACK;
SELECT * FROM usage WHERE per = 'open';
DO $$
BEGIN
    FOR i IN 1..10 LOOP
        BEGIN
            INSERT INTO leads (country) VALUES (NULL);
            IF i % 2 = 0 THEN
                RAISE EXCEPTION 'no';
            END IF;
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
    END LOOP;
END $$;
SELECT * FROM usage WHERE per = 'open';
\set VERBOSITY terse
INSERT INTO leads (id, country) SELECT (SELECT max(id) FROM leads), NULL;
\set VERBOSITY default
SELECT * FROM usage WHERE per = 'open';

-- a lead that is routed again leaves its place, and takes another; one that is deleted keeps it in its window
SELECT count(*) AS routed FROM leads l JOIN leadroute.lead_states s ON s.lead_id = l.id, LATERAL leadroute.route_lead(l.id, 'again') r WHERE s.owner_id = :a;
SELECT * FROM usage;
DELETE FROM leads WHERE country = 'XX';
SELECT * FROM usage;

-- caps that change within a transaction, and are taken back
BEGIN;
UPDATE leadroute.caps SET maximum = 9 WHERE owner_id = :b;
INSERT INTO leads (country) SELECT NULL FROM generate_series(1, 9);
SELECT * FROM usage WHERE per = 'open';
ROLLBACK;
SELECT * FROM usage WHERE per = 'open';
INSERT INTO leads (country) VALUES (NULL);
SELECT * FROM usage WHERE per = 'open';
-- a cap that comes back counts what was given meanwhile
DELETE FROM leadroute.caps WHERE owner_id = :b;
INSERT INTO leads (country) SELECT NULL FROM generate_series(1, 5);
INSERT INTO leadroute.caps (owner_id, per, maximum) VALUES (:b, 'open', 12);
SELECT * FROM usage WHERE per = 'open';
INSERT INTO leads (country) SELECT NULL FROM generate_series(1, 9);
SELECT * FROM usage WHERE per = 'open';

-- rows that were changed behind the triggers' back
SET session_replication_role = replica;
UPDATE leadroute.lead_states SET finished_at = now() WHERE owner_id = :b AND lead_id IN (SELECT lead_id FROM leadroute.lead_states WHERE owner_id = :b AND finished_at IS NULL LIMIT 4);
RESET session_replication_role;
SELECT leadroute.recount_caps();
INSERT INTO leads (country) SELECT NULL FROM generate_series(1, 9);
SELECT * FROM usage WHERE per = 'open';

-- the index, and counting without it
SELECT leadroute.make_owner_index();
DROP INDEX leadroute.lead_states_owner_id_since;
INSERT INTO leads (country) SELECT 'XX' FROM generate_series(1, 2);
SELECT leadroute.recount_caps();
INSERT INTO leads (country) SELECT 'XX' FROM generate_series(1, 2);
SELECT * FROM usage;
SELECT leadroute.make_owner_index();
SELECT leadroute.recount_caps();
INSERT INTO leads (country) SELECT 'XX' FROM generate_series(1, 2);
SELECT * FROM usage;
-- every lead's entry is in it
SET enable_seqscan = off;
SELECT count(*) = (SELECT count(*) FROM given g, generate_series(1, g.count) WHERE owner = 'caps a') AS all_found FROM leadroute.lead_states s JOIN leads l ON l.id = s.lead_id WHERE s.owner_id = :a;
RESET enable_seqscan;

-- what may not be written
\set VERBOSITY terse
INSERT INTO leadroute.caps (per, maximum) VALUES ('day', 1);
INSERT INTO leadroute.caps (owner_id, per, maximum) VALUES (:b, 'open', 1);
CREATE TRIGGER wrong AFTER UPDATE ON leads FOR EACH ROW EXECUTE FUNCTION leadroute.give_back();
UPDATE leads SET country = 'DE' WHERE id = (SELECT max(id) FROM leads);
\set VERBOSITY default

DROP SCHEMA assignment_caps CASCADE;
DELETE FROM leadroute.caps WHERE owner_id IN (:a, :b, :c) OR pool_id IN (:pool, :other);
DELETE FROM leadroute.pool_members WHERE pool_id IN (:pool, :other);
DELETE FROM leadroute.pools WHERE pool_id IN (:pool, :other);
DELETE FROM leadroute.owners WHERE owner_id IN (:a, :b, :c);
