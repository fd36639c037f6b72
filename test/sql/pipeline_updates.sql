-- A lead is routed again when a column of reroute_on changes, and only then. DELETE and TRUNCATE close its state; the record
-- stays. An id that comes again goes on with the lead's record.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA pipeline_updates;
SET search_path TO pipeline_updates;
SELECT leadroute.publish_policy('pipeline_updates', '{
    "leadroute": 1, "steps": [{"capability": "assignOwner"}],
    "rules": [{"name": "de", "when": "country = ''DE''", "outcome": "nurture", "reason": "german"},
              {"name": "all", "when": "true", "outcome": "nurture", "reason": "other"}]}', 'test');
SELECT leadroute.activate_policy('pipeline_updates');
CREATE TABLE leads (id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'), name text UNIQUE, country text, region text, note text);
SELECT leadroute.attach_table('leads', policy => 'pipeline_updates', reroute_on => '{country,region}') > 0 AS attached;
CREATE VIEW decided AS
    SELECT l.name, string_agg(d.reason_code || ' on ' || d.cause || CASE WHEN d.current THEN '' WHEN d.superseded_by IS NOT NULL THEN ', superseded' ELSE ', not current' END,
                              '; ' ORDER BY d.decision_id) AS decisions
    FROM leads l JOIN leadroute.decisions d ON d.lead_id = l.id GROUP BY l.name;
INSERT INTO leads (name, country) VALUES ('a', 'DE'), ('b', 'FR'), ('c', NULL);

-- other columns; the same value; a column changed and others not; null to value and back; several rows at once
UPDATE leads SET note = 'called';
UPDATE leads SET country = country, note = 'called again';
SELECT name, decisions FROM decided ORDER BY name;
UPDATE leads SET country = 'DE' WHERE name <> 'c';
UPDATE leads SET country = 'DE' WHERE name = 'c';
UPDATE leads SET country = NULL WHERE name = 'c';
SELECT name, decisions FROM decided ORDER BY name;
UPDATE leads SET region = name;
-- where the decision would be the same, it stands
INSERT INTO leads (name, country) VALUES ('b', 'FR'), ('d', 'FR') ON CONFLICT (name) DO UPDATE SET country = 'FR';
SELECT name, decisions FROM decided WHERE name IN ('b', 'd') ORDER BY name;
SELECT leads_table, problem FROM leadroute.reconcile('leads');
-- while routing is off, a changed lead waits: its decision was on what it is no longer
SET leadroute.enabled = off;
UPDATE leads SET country = 'AT' WHERE name = 'd';
RESET leadroute.enabled;
SELECT name, decisions FROM decided WHERE name = 'd';
SELECT l.name, u.reason, u.by_user = session_user AS by_me FROM leadroute.unrouted('leads') u JOIN leads l ON l.id = u.lead_id;
SELECT count(*) AS problems FROM leadroute.reconcile('leads');
SELECT leadroute.route_pending('leads');
SELECT name, decisions FROM decided WHERE name = 'd';

-- DELETE closes, by whose statement; the record stays
SELECT id AS a, (SELECT count(*) FROM leadroute.entries e WHERE e.lead_id = l.id) AS decisions FROM leads l WHERE name = 'a' \gset
DELETE FROM leads WHERE name = 'a';
SELECT outcome, reason_code, closed_reason, closed_at >= since AS closed_later, changed_by = current_user::regrole AS by_me FROM leadroute.lead_states WHERE lead_id = :a;
SELECT count(*) = :decisions AS record_stays FROM leadroute.decisions WHERE lead_id = :a;
SELECT event, reason_code FROM leadroute.lead_timeline WHERE lead_id = :a ORDER BY at;
\set VERBOSITY sqlstate
SELECT leadroute.route_lead(:a);
\set VERBOSITY default
-- rolled back, it is open still
BEGIN;
DELETE FROM leads;
ROLLBACK;
SELECT count(*) AS open FROM leadroute.lead_states s JOIN leads l ON l.id = s.lead_id WHERE s.closed_at IS NULL;
-- the same id again: open again, and the new decision supersedes the old one
INSERT INTO leads (id, name, country) VALUES (:a, 'a', 'FR');
SELECT outcome, reason_code, closed_at, closed_reason FROM leadroute.lead_states WHERE lead_id = :a;
SELECT decisions FROM decided WHERE name = 'a';
-- also where it waited in between
DELETE FROM leads WHERE id = :a;
SET leadroute.enabled = off;
INSERT INTO leads (id, name, country) VALUES (:a, 'a', 'DE');
RESET leadroute.enabled;
SELECT leadroute.route_pending('leads');
SELECT decisions FROM decided WHERE name = 'a';
-- an id belongs to one table
CREATE TABLE others (id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'), name text);
SELECT leadroute.attach_table('others', policy => 'pipeline_updates') > 0 AS attached;
\set VERBOSITY sqlstate
INSERT INTO others (id) VALUES (:a);
\set VERBOSITY default
SELECT count(*) AS still_theirs FROM leadroute.lead_states s JOIN leadroute.attached_tables t USING (source_id) WHERE s.lead_id = :a AND t.relation = 'leads'::regclass;
-- by a foreign key's cascade
CREATE TABLE parents (name text PRIMARY KEY);
INSERT INTO parents SELECT name FROM leads;
ALTER TABLE leads ADD FOREIGN KEY (name) REFERENCES parents ON DELETE CASCADE;
DELETE FROM parents WHERE name IN ('c', 'd');
SELECT count(*) AS closed FROM leadroute.lead_states s JOIN leadroute.attached_tables t USING (source_id)
    WHERE t.relation = 'leads'::regclass AND s.closed_at IS NOT NULL;
SELECT leads_table, problem FROM leadroute.reconcile('leads');
-- TRUNCATE closes what is left
TRUNCATE leads;
SELECT count(*) FILTER (WHERE closed_at IS NULL) AS open, count(*) AS all FROM leadroute.lead_states s JOIN leadroute.attached_tables t USING (source_id)
    WHERE t.relation = 'leads'::regclass;
SELECT count(*) AS problems FROM leadroute.reconcile('leads');

DROP SCHEMA pipeline_updates CASCADE;
