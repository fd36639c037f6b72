-- Property: as long as the same members are available, and nothing is rolled back, after any number of leads each member has had
-- the share that the weights say, but for less than one lead. Random weights, absences and sizes of statements, from a seed.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA assignment_fairness;
SET search_path TO assignment_fairness;
CREATE TABLE leads (id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'), n serial, epoch integer, pool text);
SELECT leadroute.attach_table('leads', policy => 'assignment_fairness', classes => '{"attributes.pool": "plain"}') > 0 AS attached;
INSERT INTO leadroute.pools (name) SELECT 'share ' || n FROM generate_series(1, 12) n;
INSERT INTO leadroute.owners (reference) SELECT 'share ' || n FROM generate_series(1, 25) n;
SELECT leadroute.publish_policy('assignment_fairness', jsonb_build_object('leadroute', 1, 'steps', '[{"capability": "assignOwner"}]'::jsonb, 'rules',
    (SELECT jsonb_agg(jsonb_build_object('name', name, 'when', format('(attributes->>''pool'') = %L', name), 'pool', name) ORDER BY pool_id)
     FROM leadroute.pools WHERE name LIKE 'share %')), 'test');
SELECT leadroute.activate_policy('assignment_fairness');
SELECT setseed(0.20261125);

-- pools of 1 to 25 members; weights mostly small, some large
INSERT INTO leadroute.pool_members (pool_id, owner_id, weight)
    SELECT p.pool_id, o.owner_id, CASE WHEN random() < 0.7 THEN 1 + floor(random() * 4) WHEN random() < 0.7 THEN 1 + floor(random() * 40) ELSE 1 + floor(random() * 400) END
    FROM leadroute.pools p JOIN leadroute.owners o ON o.reference LIKE 'share %' AND p.name LIKE 'share %'
    WHERE substr(o.reference, 7)::int <= 1 + (substr(p.name, 7)::int * substr(p.name, 7)::int) % 25 ORDER BY 1, 2;

CREATE TABLE epochs (epoch integer, pool_id integer, owner_id integer, weight integer);
DO $$
BEGIN
    FOR e IN 1 .. 25 LOOP
        UPDATE leadroute.owners SET available = e = 1 OR random() < 0.75 WHERE reference LIKE 'share %';
        INSERT INTO epochs SELECT e, m.pool_id, m.owner_id, m.weight FROM leadroute.pool_members m JOIN leadroute.owners o USING (owner_id) WHERE o.reference LIKE 'share %' AND o.available;
        FOR i IN 1 .. 6 LOOP
            INSERT INTO leads (epoch, pool) SELECT e, 'share ' || 1 + floor(random() * 12) FROM generate_series(1, floor(random() * CASE i WHEN 6 THEN 600 ELSE 30 END)::int);
        END LOOP;
    END LOOP;
END $$;

-- a stretch: leads of a pool in a row for which the same members were available
CREATE VIEW given AS
    WITH sets AS (SELECT epoch, pool_id, string_agg(owner_id::text, ',' ORDER BY owner_id) AS members FROM epochs GROUP BY 1, 2),
    changes AS (SELECT l.n, l.epoch, s.pool_id, s.owner_id, m.members IS DISTINCT FROM lag(m.members) OVER (PARTITION BY s.pool_id ORDER BY l.n) AS new
                FROM leads l JOIN leadroute.lead_states s ON s.lead_id = l.id LEFT JOIN sets m ON m.epoch = l.epoch AND m.pool_id = s.pool_id),
    stretches AS (SELECT c.*, count(*) FILTER (WHERE new) OVER (PARTITION BY pool_id ORDER BY n) AS stretch FROM changes c)
    SELECT epoch, pool_id, owner_id, stretch, row_number() OVER (PARTITION BY pool_id, stretch ORDER BY n) AS k FROM stretches WHERE owner_id IS NOT NULL;
SELECT count(*) > 5000 AS many, count(*) FILTER (WHERE owner_id IS NULL) > 0 AS some_without, bool_and(owner_id IS NOT NULL OR NOT EXISTS
        (SELECT FROM epochs x WHERE x.epoch = l.epoch AND x.pool_id = s.pool_id)) AS only_where_nobody_was
    FROM leads l JOIN leadroute.lead_states s ON s.lead_id = l.id;
-- the furthest that anybody was from the share, at any moment of any stretch
WITH shares AS (
    SELECT g.stretch, g.pool_id, g.k, e.owner_id, e.weight::numeric / sum(e.weight) OVER (PARTITION BY g.stretch, g.pool_id, g.k) AS share,
           count(*) FILTER (WHERE g.owner_id = e.owner_id) OVER (PARTITION BY g.stretch, g.pool_id, e.owner_id ORDER BY g.k) AS had
    FROM given g JOIN epochs e USING (epoch, pool_id))
SELECT max(abs(had - k * share)) < 1 AS within_one, max(abs(had - k * share)) > 0.5 AS not_trivially, count(*) > 20000 AS looked_at_often FROM shares;

-- a rollback costs turns, not places: with R turns lost nobody is further from the share than 1 + R
CREATE TABLE lost (n integer);
DO $$
DECLARE
    r integer;
BEGIN
    UPDATE leadroute.owners SET available = true WHERE reference LIKE 'share %';
    FOR i IN 1 .. 60 LOOP
        INSERT INTO leads (epoch, pool) SELECT 100, 'share 5' FROM generate_series(1, floor(random() * 20)::int);
        r := floor(random() * 3);
        BEGIN
            INSERT INTO leads (epoch, pool) SELECT 101, 'share 5' FROM generate_series(1, r);
            RAISE division_by_zero;
        EXCEPTION WHEN division_by_zero THEN
            INSERT INTO lost VALUES (r);
        END;
    END LOOP;
END $$;
WITH members AS (SELECT m.owner_id, m.weight::numeric / sum(m.weight) OVER () AS share FROM leadroute.pool_members m JOIN leadroute.pools p USING (pool_id) WHERE p.name = 'share 5'),
    had AS (SELECT m.owner_id, m.share, count(s.lead_id) AS leads, sum(count(s.lead_id)) OVER () AS all_leads
            FROM members m LEFT JOIN (leadroute.lead_states s JOIN leads l ON l.id = s.lead_id AND l.epoch = 100) ON s.owner_id = m.owner_id GROUP BY 1, 2)
SELECT sum(n) > 20 AS many_lost, (SELECT max(abs(leads - share * all_leads)) < 1 + (SELECT sum(n) FROM lost) FROM had) AS within_the_bound FROM lost;
SELECT DISTINCT v.verdict FROM leads l JOIN leadroute.lead_states s ON s.lead_id = l.id, leadroute.verify_decision(s.run_id) v WHERE l.epoch IN (1, 7, 25);
DROP TABLE leads CASCADE;
DROP SCHEMA assignment_fairness CASCADE;
