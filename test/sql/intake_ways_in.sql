-- Whatever statement brings a row, the lead is routed once, when the statement ends, in its transaction: INSERT of one or
-- many rows, from a query, by COPY, MERGE, a CTE or a function; with ON CONFLICT only the rows that were really inserted.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA intake_ways_in;
SET search_path TO intake_ways_in;
SELECT leadroute.publish_policy('intake_ways_in', '{
    "leadroute": 1, "steps": [{"capability": "assignOwner"}],
    "rules": [{"name": "all", "when": "true", "outcome": "nurture", "reason": "test"}]}', 'test');
SELECT leadroute.activate_policy('intake_ways_in');
CREATE TABLE leads (id text PRIMARY KEY, email text, n integer);
SELECT leadroute.attach_table('leads', policy => 'intake_ways_in') > 0 AS attached;

-- how often each lead was routed, and whether rows, states and decisions agree
CREATE VIEW routed AS
    SELECT string_agg(k.key || ' ' || (SELECT count(*) FROM leadroute.entries e WHERE e.lead_id = k.lead_id), ', ' ORDER BY k.key COLLATE "C") AS leads,
           (SELECT count(*) FROM leadroute.reconcile('intake_ways_in.leads')) AS problems
    FROM leadroute.lead_keys k JOIN leadroute.attached_tables t USING (source_id) WHERE t.relation = 'intake_ways_in.leads'::regclass;

INSERT INTO leads VALUES ('one');
INSERT INTO leads VALUES ('two'), ('three'), ('four');
INSERT INTO leads SELECT 'query ' || i FROM generate_series(1, 3) AS i;
SELECT leads, problems FROM routed;
TRUNCATE leads;

COPY leads (id, email) FROM stdin;
copied 1	a@b.example
copied 2	\N
\.
WITH made AS (INSERT INTO leads VALUES ('cte 1'), ('cte 2') RETURNING id) SELECT count(*) FROM made;
CREATE FUNCTION add_leads(n integer) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. n LOOP
        INSERT INTO intake_ways_in.leads VALUES ('function ' || i);
    END LOOP;
    -- the decision is there when the INSERT is done
    RETURN (SELECT count(*) FROM leadroute.lead_states s JOIN leadroute.attached_tables t USING (source_id)
            WHERE t.relation = 'intake_ways_in.leads'::regclass AND s.outcome = 'nurture' AND s.closed_at IS NULL);
END $$;
SELECT add_leads(2);
PREPARE prepared (text) AS INSERT INTO leads VALUES ($1);
EXECUTE prepared ('prepared');
SELECT leads, problems FROM routed;
TRUNCATE leads;

-- a repeat is refused as ever, and nothing of the statement is left
INSERT INTO leads VALUES ('one', NULL, 1);
INSERT INTO leads VALUES ('other'), ('one');
SELECT leads, problems FROM routed;
-- ON CONFLICT: only what was inserted is routed
INSERT INTO leads VALUES ('one'), ('two') ON CONFLICT DO NOTHING;
INSERT INTO leads VALUES ('one'), ('two'), ('three') ON CONFLICT (id) DO UPDATE SET n = 7;
INSERT INTO leads VALUES ('one'), ('two') ON CONFLICT DO NOTHING;
SELECT leads, problems FROM routed;
MERGE INTO leads t USING (VALUES ('one'), ('two'), ('four'), ('five')) AS s (id) ON t.id = s.id
    WHEN MATCHED AND s.id = 'two' THEN DELETE
    WHEN MATCHED THEN UPDATE SET n = 8
    WHEN NOT MATCHED AND s.id = 'five' THEN DO NOTHING
    WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id);
SELECT leads, problems FROM routed;
SELECT id, n FROM leads ORDER BY id COLLATE "C";
TRUNCATE leads;

-- what is rolled back was never there, a savepoint's work included
BEGIN;
INSERT INTO leads VALUES ('kept');
SAVEPOINT s;
INSERT INTO leads VALUES ('lost');
ROLLBACK TO s;
INSERT INTO leads VALUES ('kept, too');
SAVEPOINT s;
INSERT INTO leads VALUES ('released');
RELEASE s;
COMMIT;
BEGIN;
INSERT INTO leads VALUES ('never');
ROLLBACK;
DO $$ BEGIN
    INSERT INTO intake_ways_in.leads VALUES ('in a block');
    BEGIN
        INSERT INTO intake_ways_in.leads VALUES ('undone');
        INSERT INTO intake_ways_in.leads VALUES ('in a block');
    EXCEPTION WHEN unique_violation THEN NULL;
    END;
END $$;
SELECT leads, problems FROM routed;
TRUNCATE leads;

-- the transaction that inserted sees its decision; a deferred constraint that fails takes lead and decision away together
BEGIN;
INSERT INTO leads VALUES ('seen');
SELECT outcome, reason_code, current FROM leadroute.decisions WHERE lead_id = leadroute.lead_of('leads', 'seen');
ROLLBACK;
ALTER TABLE leads ADD parent text REFERENCES leads DEFERRABLE INITIALLY DEFERRED;
\set VERBOSITY terse
INSERT INTO leads VALUES ('orphan', NULL, NULL, 'nobody');
\set VERBOSITY default
SELECT leads, problems FROM routed;

-- the team's own triggers have their say first; a row that they drop is no lead
CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.n = 0 THEN RETURN NULL; END IF;
    NEW.id := NEW.id || ' mended';
    RETURN NEW;
END $$;
CREATE TRIGGER own BEFORE INSERT ON leads FOR EACH ROW EXECUTE FUNCTION own();
INSERT INTO leads VALUES ('a', NULL, 1), ('b', NULL, 0);
-- statements that insert nothing
INSERT INTO leads VALUES ('b', NULL, 0);
INSERT INTO leads SELECT WHERE false;
COPY leads FROM stdin;
\.
DELETE FROM leads WHERE false;
UPDATE leads SET id = '' WHERE false;
SELECT leads, problems FROM routed;
-- a trigger that inserts further leads while leads are routed
CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.n > 0 THEN INSERT INTO intake_ways_in.leads VALUES (NEW.id || ' ' || NEW.n, NULL, NEW.n - 1); END IF;
    RETURN NULL;
END $$;
DROP TRIGGER own ON leads;
CREATE TRIGGER more AFTER INSERT ON leads FOR EACH ROW EXECUTE FUNCTION more();
INSERT INTO leads VALUES ('deep', NULL, 3);
SELECT leads, problems FROM routed;

-- many at once: more than a batch holds
DROP TRIGGER more ON leads;
SET leadroute.batch_size = 7;
INSERT INTO leads SELECT 'many ' || i FROM generate_series(1, 100) AS i;
RESET leadroute.batch_size;
SELECT count(*) AS leads, count(DISTINCT s.lead_id) AS states, count(DISTINCT e.run_id) AS runs, count(DISTINCT e.as_of) AS moments
FROM leads l JOIN leadroute.lead_keys k ON k.key = l.id JOIN leadroute.lead_states s USING (lead_id) JOIN leadroute.entries e USING (lead_id)
WHERE l.id LIKE 'many%';
SELECT problems FROM routed;

DROP SCHEMA intake_ways_in CASCADE;
