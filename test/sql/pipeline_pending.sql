-- No lead passes unnoticed: what a statement could not route is listed with the reason and with whose statement it was, and
-- route_pending() routes it later: rows loaded with leadroute.enabled off, rows that logical replication brought, rows that
-- met no active policy.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA pipeline_pending;
SET search_path TO pipeline_pending;
CREATE ROLE regress_lr_loader;
CREATE TABLE leads (id text PRIMARY KEY, country text);
CREATE TABLE numbered (id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'), country text);
SELECT leadroute.attach_table('leads', policy => 'pipeline_pending', classes => '{"id": "plain"}') > 0 AS attached;
SELECT leadroute.attach_table('numbered', policy => 'pipeline_pending') > 0 AS attached;
GRANT USAGE ON SCHEMA pipeline_pending TO regress_lr_loader;
GRANT INSERT ON leads TO regress_lr_loader;

-- no policy yet: the lead comes in, and waits
SET ROLE regress_lr_loader;
INSERT INTO leads VALUES ('early', 'DE');
RESET ROLE;
SELECT row_key, reason, by_user, since IS NOT NULL AS dated FROM leadroute.unrouted('leads');
SELECT outcome, reason_code, run_id FROM leadroute.lead_states WHERE lead_id = leadroute.lead_of('leads', 'early');
SELECT event, outcome, reason_code, by_user FROM leadroute.lead_timeline WHERE lead_id = leadroute.lead_of('leads', 'early');
SELECT count(*) AS problems FROM leadroute.reconcile('leads');
SELECT leadroute.route_pending('leads');
\set VERBOSITY sqlstate
SELECT leadroute.route_lead(leadroute.lead_of('leads', 'early'));
\set VERBOSITY default

SELECT leadroute.publish_policy('pipeline_pending', '{
    "leadroute": 1, "steps": [{"capability": "assignOwner"}],
    "rules": [{"name": "all", "when": "true", "outcome": "nurture", "reason": "test"}]}', 'test');
SELECT leadroute.activate_policy('pipeline_pending');

-- only a superuser switches routing off
SET ROLE regress_lr_loader;
SET leadroute.enabled = off;
SET leadroute.on_error = abort;
RESET ROLE;
SET leadroute.enabled = off;
INSERT INTO leads VALUES ('bulk 1', 'DE'), ('bulk 2', 'FR');
INSERT INTO numbered (country) VALUES ('DE');
SET ROLE regress_lr_loader;
INSERT INTO leads VALUES ('bulk 3', 'FR');
RESET ROLE;
RESET leadroute.enabled;
-- replication fires no triggers of ours: such rows were not seen at all
SET session_replication_role = replica;
INSERT INTO leads VALUES ('replicated 1', 'DE'), ('replicated 2', 'FR');
INSERT INTO numbered (country) VALUES ('FR');
RESET session_replication_role;
SELECT leads_table, CASE leads_table WHEN 'pipeline_pending.leads' THEN row_key END AS key, reason, by_user = session_user AS by_me, by_user = 'regress_lr_loader' AS by_loader
FROM leadroute.unrouted_leads WHERE leads_table LIKE 'pipeline_pending.%' ORDER BY leads_table COLLATE "C", row_key COLLATE "C", reason;
-- reconcile tells the rows that nobody saw
SELECT leads_table, problem FROM leadroute.reconcile('leads');

-- as many at a time as one asks for; nothing twice
SELECT leadroute.route_pending('leads', 4);
SELECT count(*) FROM leadroute.unrouted('leads');
SELECT leadroute.route_pending('leads', 0);
SELECT leadroute.route_pending('leads', NULL);
SELECT leadroute.route_pending('leads');
SELECT leadroute.route_pending('numbered');
SELECT leadroute.route_pending('numbered');
SELECT d.leads_table, d.cause, d.outcome, count(*), count(DISTINCT d.lead_id) AS leads FROM leadroute.decisions d
    WHERE d.leads_table LIKE 'pipeline_pending.%' GROUP BY 1, 2, 3 ORDER BY d.leads_table COLLATE "C";
SELECT count(*) AS problems FROM leadroute.reconcile('leads');
SELECT count(*) AS problems FROM leadroute.reconcile('numbered');

-- a waiting lead that is deleted is waited for no more; one whose row replication removed shows as such
SET leadroute.enabled = off;
INSERT INTO leads VALUES ('gone', 'DE');
RESET leadroute.enabled;
DELETE FROM leads WHERE id = 'gone';
SELECT count(*) FROM leadroute.unrouted('leads');
SET session_replication_role = replica;
DELETE FROM leads WHERE id = 'replicated 1';
RESET session_replication_role;
SELECT leads_table, problem FROM leadroute.reconcile('leads');

-- a key that is not plain is listed as its digest
CREATE TABLE secret (id text PRIMARY KEY);
INSERT INTO secret VALUES ('jane@acme.example');
SELECT leadroute.attach_table('secret', policy => 'pipeline_pending') > 0 AS attached;
SELECT row_key ~ '^[0-9a-f]{32}$' AS digest, reason FROM leadroute.unrouted('secret');

-- of one table, or of all; not of one that is not attached
CREATE TABLE other (id text PRIMARY KEY);
SELECT leadroute.route_pending('other');
SELECT * FROM leadroute.unrouted('other');

DROP SCHEMA pipeline_pending CASCADE;
DROP ROLE regress_lr_loader;
