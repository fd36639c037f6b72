-- reconcile() compares rows, states and decisions, and finds each kind of disagreement, also where somebody made it by hand.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA observe_reconcile;
SET search_path TO observe_reconcile;
SELECT leadroute.publish_policy('observe_reconcile', '{"leadroute": 1, "steps": [{"capability": "assignOwner"}], "rules": [{"name": "all", "when": "true", "outcome": "nurture", "reason": "test"}]}', 'test');
SELECT leadroute.activate_policy('observe_reconcile');
CREATE TABLE leads (id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'), name text);
CREATE TABLE keyed (id text PRIMARY KEY);
SELECT leadroute.attach_table('leads', policy => 'observe_reconcile') > 0 AS attached;
SELECT leadroute.attach_table('keyed', policy => 'observe_reconcile') > 0 AS attached;
INSERT INTO leads (name) SELECT 'lead ' || i FROM generate_series(1, 5) AS i;
INSERT INTO keyed SELECT 'lead ' || i FROM generate_series(1, 5) AS i;
CREATE FUNCTION lead(name text, OUT lead_id bigint) LANGUAGE sql AS $$ SELECT leadroute.lead_of('observe_reconcile.keyed', $1) $$;
CREATE VIEW problems AS SELECT r.leads_table, r.problem, coalesce(l.name, k.key) AS lead FROM leadroute.attached_tables t, leadroute.reconcile(t.relation) r
    LEFT JOIN leads l ON l.id = r.lead_id LEFT JOIN leadroute.lead_keys k ON k.lead_id = r.lead_id
    WHERE t.relation IN ('leads'::regclass, 'keyed'::regclass) ORDER BY 1, 2, 3;
SELECT * FROM problems;

BEGIN;
DELETE FROM leadroute.lead_states WHERE lead_id IN (SELECT id FROM leads WHERE name = 'lead 1') OR lead_id = lead('lead 1');
SELECT * FROM problems;
ROLLBACK;
BEGIN;
UPDATE leadroute.lead_states SET closed_at = now() WHERE lead_id IN (SELECT id FROM leads WHERE name = 'lead 2') OR lead_id = lead('lead 2');
SELECT * FROM problems;
ROLLBACK;
BEGIN;
SET LOCAL session_replication_role = replica;
DELETE FROM keyed WHERE id = 'lead 3';
SELECT * FROM problems;
ROLLBACK;
BEGIN;
SET LOCAL session_replication_role = replica;
INSERT INTO keyed VALUES ('lead 6');
UPDATE keyed SET id = 'lead 7' WHERE id = 'lead 4';
SELECT * FROM problems;
ROLLBACK;
BEGIN;
DELETE FROM leadroute.entries WHERE lead_id = lead('lead 4');
SELECT * FROM problems;
ROLLBACK;
BEGIN;
UPDATE leadroute.lead_states SET outcome = 'rejected' WHERE lead_id = lead('lead 4');
UPDATE leadroute.lead_states SET owner_id = -1 WHERE lead_id = lead('lead 5');
SELECT * FROM problems;
ROLLBACK;
BEGIN;
INSERT INTO leadroute.entries SELECT (e).* FROM (SELECT jsonb_populate_record(e, '{"run_id": -7}') AS e FROM leadroute.entries e WHERE lead_id = lead('lead 5')) AS s;
SELECT * FROM problems;
ROLLBACK;
BEGIN;
INSERT INTO leadroute.entries SELECT * FROM leadroute.entries WHERE lead_id = lead('lead 5');
SELECT * FROM problems;
ROLLBACK;
-- before since nobody looks
BEGIN;
UPDATE leadroute.lead_states SET outcome = 'rejected' WHERE lead_id = lead('lead 4');
SELECT count(*) FROM leadroute.reconcile('keyed', now() - interval '1 hour');
SELECT count(*) FROM leadroute.reconcile('keyed', now() + interval '1 hour');
ROLLBACK;
SELECT * FROM problems;
CREATE TABLE other (id integer PRIMARY KEY);
SELECT * FROM leadroute.reconcile('other');
DROP SCHEMA observe_reconcile CASCADE;
