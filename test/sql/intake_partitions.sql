-- A partitioned table is attached once: rows are routed whether they come through it or straight into a partition, also in
-- partitions of partitions and in ones that are added later; a partition that leaves takes no triggers along.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA intake_partitions;
SET search_path TO intake_partitions;
SELECT leadroute.publish_policy('intake_partitions', '{
    "leadroute": 1, "steps": [{"capability": "assignOwner"}],
    "rules": [{"name": "de", "when": "country = ''DE''", "outcome": "nurture", "reason": "german"},
              {"name": "all", "when": "true", "outcome": "nurture", "reason": "other"}]}', 'test');
SELECT leadroute.activate_policy('intake_partitions');

CREATE TABLE leads (id integer, year integer, country text, email text, PRIMARY KEY (id, year)) PARTITION BY LIST (year);
CREATE TABLE leads_2024 PARTITION OF leads FOR VALUES IN (2024);
SELECT leadroute.attach_table('leads', policy => 'intake_partitions', reroute_on => '{country}') > 0 AS attached;
-- one by definition, in a schema or not, one attached with its columns in another order, one that is partitioned itself
CREATE TABLE leads_2025 PARTITION OF leads FOR VALUES IN (2025);
CREATE TABLE leads_2026 (email text, dropped text, country text, year integer NOT NULL, id integer NOT NULL);
ALTER TABLE leads_2026 DROP COLUMN dropped;
ALTER TABLE leads ATTACH PARTITION leads_2026 FOR VALUES IN (2026);
CREATE TABLE intake_partitions.leads_later PARTITION OF intake_partitions.leads DEFAULT PARTITION BY HASH (id);
CREATE TABLE leads_later_0 PARTITION OF leads_later FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE later_tree (id integer NOT NULL, year integer NOT NULL, country text, email text) PARTITION BY LIST (year);
CREATE TABLE later_tree_rest PARTITION OF later_tree DEFAULT;
ALTER TABLE leads_later ATTACH PARTITION later_tree FOR VALUES WITH (MODULUS 2, REMAINDER 1);

CREATE VIEW triggers AS
    SELECT t.tgrelid::regclass::text AS relation, string_agg(replace(t.tgname, 'leadroute_', ''), ' ' ORDER BY t.tgname) AS triggers
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE p.pronamespace = 'leadroute'::regnamespace AND t.tgrelid IN
        (SELECT oid FROM pg_class WHERE relnamespace = 'intake_partitions'::regnamespace) GROUP BY 1;
SELECT relation, triggers FROM triggers ORDER BY relation COLLATE "C";

CREATE VIEW routed AS
    SELECT k.key, s.reason_code, s.closed_at IS NOT NULL AS closed, (SELECT count(*) FROM leadroute.entries e WHERE e.lead_id = k.lead_id) AS decisions
    FROM leadroute.lead_keys k JOIN leadroute.lead_states s USING (lead_id) JOIN leadroute.attached_tables t ON t.source_id = k.source_id
    WHERE t.relation = 'leads'::regclass;
-- through the root, through a partition that has partitions, and straight in
INSERT INTO leads VALUES (1, 2024, 'DE', 'a@b.example'), (1, 2025, 'DE', 'a@b.example'), (1, 2026, 'DE', 'a@b.example'), (1, 2030, 'DE', 'a@b.example'), (2, 2030, 'DE', 'a@b.example');
INSERT INTO leads_2026 (id, year, country) VALUES (3, 2026, 'DE');
INSERT INTO leads_later VALUES (3, 2031, 'DE'), (4, 2031, 'AT');
INSERT INTO later_tree_rest SELECT i, 2040, 'DE' FROM generate_series(1, 100) AS i WHERE satisfies_hash_partition('leads_later'::regclass, 2, 1, i) LIMIT 1;
COPY leads (id, year, country) FROM stdin;
10	2024	DE
10	2025	AT
\.
COPY leads_2025 (id, year, country) FROM stdin;
11	2025	AT
\.
SELECT count(*), count(DISTINCT key) AS leads, max(decisions) AS decisions FROM routed;
SELECT key, reason_code FROM routed WHERE reason_code = 'other' ORDER BY key COLLATE "C";
SELECT count(*) AS problems FROM leadroute.reconcile('leads');
SELECT outcome, reason_code FROM leadroute.submit_lead('{"id": 20, "year": 2026, "country": "DE"}', 'leads');
SELECT outcome, reason_code FROM leadroute.submit_lead('{"id": 21, "year": 2026, "country": "DE"}', 'leads_2026');

-- UPDATE of a column of reroute_on, through the root and straight
UPDATE leads SET country = 'AT' WHERE id = 1 AND year = 2024;
UPDATE leads_2026 SET country = 'AT' WHERE id = 1 AND year = 2026;
-- a row that moves to another partition, its key with it, is the same lead; moving alone changes nothing, a new country does
UPDATE leads SET year = 2024, id = 12 WHERE id = 10 AND year = 2025;
UPDATE leads SET year = 2025, country = 'FR' WHERE id = 11 AND year = 2025;
UPDATE leads SET year = 2024, country = 'DE' WHERE id = 11 AND year = 2025;
SELECT key, reason_code, closed, decisions FROM routed WHERE key ~ '"(1|11|12)", "202[4-6]"' ORDER BY key COLLATE "C";
MERGE INTO leads t USING (VALUES (11, 2024), (3, 2026)) AS s (id, year) ON t.id = s.id AND t.year = s.year
    WHEN MATCHED AND s.id = 3 THEN DELETE
    WHEN MATCHED THEN UPDATE SET year = 2025;
SELECT key, reason_code, closed, decisions FROM routed WHERE key LIKE '["11"%' ORDER BY key COLLATE "C";
SELECT leads_table, problem FROM leadroute.reconcile('leads');

-- DELETE and TRUNCATE, of the whole and of parts
DELETE FROM leads WHERE id = 20;
DELETE FROM leads_2026 WHERE id = 21;
SELECT count(*) FROM routed WHERE key ~ '"2[01]"';
TRUNCATE leads_2026;
SELECT count(*) AS open, (SELECT count(*) FROM leads) AS rows FROM routed WHERE NOT closed;
SELECT count(*) AS problems FROM leadroute.reconcile('leads');

-- a partition that leaves is a table like any other: its leads are closed
ALTER TABLE leads DETACH PARTITION leads_2025;
ALTER TABLE leads DETACH PARTITION leads_later;
SELECT relation, triggers FROM triggers ORDER BY relation COLLATE "C";
INSERT INTO leads_2025 VALUES (30, 2025, 'DE');
INSERT INTO later_tree SELECT i, 2041, 'DE' FROM generate_series(1, 100) AS i WHERE satisfies_hash_partition('leads_later'::regclass, 2, 1, i) LIMIT 1;
SELECT count(*) FROM routed WHERE key ~ '"30"|"2041"';
-- and comes back: whatever it brings along is listed, and routed on request
ALTER TABLE leads ATTACH PARTITION leads_2025 FOR VALUES IN (2025);
SELECT reason, count(*) FROM leadroute.unrouted('leads') GROUP BY 1;
SELECT leadroute.route_pending('leads');
DROP TABLE leads_2025;

DROP SCHEMA intake_partitions CASCADE;
