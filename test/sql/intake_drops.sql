-- A dropped table is attached no longer and its leads are closed, also by a role whose name needs quotes.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA intake_drops;
SET search_path TO intake_drops;
CREATE ROLE "regress_lr Anna's" SUPERUSER;
CREATE TABLE dropped (id text PRIMARY KEY, email text);
SELECT leadroute.attach_table('dropped', policy => 'intake_drops') AS source \gset
INSERT INTO dropped VALUES ('a'), ('b');
SET SESSION AUTHORIZATION "regress_lr Anna's";
DROP TABLE dropped;
SELECT closed_reason, changed_by, count(*) FROM leadroute.lead_states WHERE source_id = :source GROUP BY 1, 2;
SELECT relation IS NULL AS detached FROM leadroute.attached_tables WHERE source_id = :source;
RESET SESSION AUTHORIZATION;
DROP SCHEMA intake_drops CASCADE;
DELETE FROM leadroute.lead_states WHERE source_id = :source;
DROP ROLE "regress_lr Anna's";
