-- What cannot be attached is refused, with what was found and the way out; nothing is left behind.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA intake_refusals;
SET search_path TO intake_refusals;
CREATE ROLE regress_lr_team;
CREATE ROLE regress_lr_other;
GRANT leadroute_author TO regress_lr_team;
GRANT CREATE, USAGE ON SCHEMA intake_refusals TO regress_lr_team, regress_lr_other;

CREATE TABLE keyless (email text);
SELECT leadroute.attach_table('keyless');
CREATE TABLE keyed (id bigint PRIMARY KEY, email text, boxes box);
CREATE VIEW seen AS SELECT * FROM keyed;
SELECT leadroute.attach_table('seen');
CREATE MATERIALIZED VIEW kept AS SELECT * FROM keyed;
SELECT leadroute.attach_table('kept');
CREATE SEQUENCE numbers;
SELECT leadroute.attach_table('numbers');
CREATE FOREIGN DATA WRAPPER regress_lr_nowhere;
CREATE SERVER regress_lr_nowhere FOREIGN DATA WRAPPER regress_lr_nowhere;
CREATE FOREIGN TABLE abroad (id bigint, email text) SERVER regress_lr_nowhere;
SELECT leadroute.attach_table('abroad');
CREATE TABLE whole (id bigint PRIMARY KEY, email text) PARTITION BY RANGE (id);
CREATE TABLE part PARTITION OF whole FOR VALUES FROM (0) TO (1000);
SELECT leadroute.attach_table('part');
CREATE TEMPORARY TABLE passing (id bigint PRIMARY KEY, email text);
SELECT leadroute.attach_table('passing');
CREATE TABLE child (PRIMARY KEY (id)) INHERITS (keyed);
SELECT leadroute.attach_table('keyed');
DROP TABLE child;
SELECT leadroute.attach_table('leadroute.pools');
SELECT leadroute.attach_table('pg_catalog.pg_class');
SELECT leadroute.attach_table('nowhere');

-- somebody else's table: only who owns it can let it be read
SET ROLE regress_lr_other;
CREATE TABLE theirs (id bigint PRIMARY KEY, email text);
SELECT leadroute.attach_table('theirs');
SET ROLE regress_lr_team;
SELECT leadroute.attach_table('theirs');
SELECT leadroute.detach_table('theirs');

-- a key whose type belongs to somebody who is no superuser: reading it could run their functions under our rights
CREATE TYPE pair AS (a integer, b integer);
CREATE TABLE paired (id pair PRIMARY KEY, email text);
SELECT leadroute.attach_table('paired');
RESET ROLE;

-- mapping, classes, protected and reroute_on: every mistake at once
SELECT leadroute.attach_table('keyed',
    mapping => '{"e-mail": "email", "email": "mail", "phone": 7, "country": {"value": "DE", "or": 1}, "consent": {"value": true}}',
    classes => '{"email": "secret", "shoe_size": "plain", "attributes.shoe_size": "plain", "country": 1, "id": "plain"}',
    protected => '{age,attributes.age,region}', reroute_on => '{email,colour,NULL}');
SELECT leadroute.attach_table('keyed', mapping => '[]', classes => '7');
-- constants and columns have to fit the attribute's type
SELECT leadroute.attach_table('keyed', mapping => '{"consent": {"value": "yes"}}');
SELECT leadroute.attach_table('keyed', mapping => '{"company_size": {"value": -1}}');
SELECT leadroute.attach_table('keyed', mapping => '{"consent_channels": {"value": ["email", 1]}}');
SELECT leadroute.attach_table('keyed', mapping => '{"received_at": {"value": "yesterday evening"}}');
SELECT leadroute.attach_table('keyed', mapping => '{"company_size": "boxes"}');
SELECT count(*) AS attached FROM leadroute.attached_tables WHERE relation_name LIKE 'intake_refusals.%';
SELECT count(*) AS triggers FROM pg_trigger WHERE tgrelid = 'keyed'::regclass;

-- twice
SELECT leadroute.attach_table('keyed') > 0 AS attached;
SELECT leadroute.attach_table('keyed');
SELECT leadroute.detach_table('keyed');
SELECT leadroute.detach_table('keyed');

-- the triggers' functions are for attached tables only
CREATE TRIGGER mine AFTER INSERT ON keyed FOR EACH ROW EXECUTE FUNCTION leadroute.route_inserted();
INSERT INTO keyed VALUES (1);
DROP TRIGGER mine ON keyed;
CREATE TRIGGER mine AFTER INSERT ON keyed REFERENCING NEW TABLE AS new_leads FOR EACH STATEMENT EXECUTE FUNCTION leadroute.route_inserted();
INSERT INTO keyed VALUES (1);

DROP SCHEMA intake_refusals CASCADE;
DROP SERVER regress_lr_nowhere;
DROP FOREIGN DATA WRAPPER regress_lr_nowhere;
DROP ROLE regress_lr_team, regress_lr_other;
