-- A lead is its row's primary key. A bigint that defaults from leadroute.lead_ids is the lead id itself; every other key,
-- uuid, text, composite or of any built-in type, is mapped to one by leadroute.lead_keys, and stays the same lead when it
-- changes. Neither the session's date style nor the time zone makes another lead of it.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA intake_identity;
SET search_path TO intake_identity;
SELECT leadroute.publish_policy('intake_identity', '{
    "leadroute": 1, "steps": [{"capability": "assignOwner"}],
    "rules": [{"name": "all", "when": "true", "outcome": "nurture", "reason": "test"}]}', 'test');
SELECT leadroute.activate_policy('intake_identity');

CREATE VIEW keys AS
    SELECT t.relation_name, t.keyed, k.key, s.outcome, s.closed_at IS NOT NULL AS closed
    FROM leadroute.attached_tables t JOIN leadroute.lead_states s USING (source_id)
    LEFT JOIN leadroute.lead_keys k USING (source_id, lead_id) WHERE t.relation_name LIKE 'intake_identity.%';

-- the key is the lead id
CREATE TABLE numbered (id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'), email text);
SELECT leadroute.attach_table('numbered', policy => 'intake_identity') > 0 AS attached;
INSERT INTO numbered (email) VALUES ('a@b.example');
SELECT keyed, key, outcome FROM keys WHERE relation_name LIKE '%numbered';
SELECT s.lead_id = n.id AS id_is_key, leadroute.lead_of('numbered', n.id::text) = n.id AS found FROM numbered n JOIN leadroute.lead_states s ON s.lead_id = n.id;
UPDATE numbered SET id = id + 1000000;
UPDATE numbered SET id = id, email = 'c@d.example';

-- bigint, but of the team's own numbering
CREATE TABLE own_numbers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text);
SELECT leadroute.attach_table('own_numbers', policy => 'intake_identity') > 0 AS attached;
INSERT INTO own_numbers (email) VALUES ('a@b.example');
-- uuid, text, composite
CREATE TABLE uuids (id uuid PRIMARY KEY, email text);
SELECT leadroute.attach_table('uuids', policy => 'intake_identity') > 0 AS attached;
INSERT INTO uuids VALUES ('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11');
CREATE TABLE texts (id text PRIMARY KEY, email text);
SELECT leadroute.attach_table('texts', policy => 'intake_identity') > 0 AS attached;
INSERT INTO texts VALUES ('lead "1"');
CREATE TABLE composites (a text, b boolean, c char(5), d inet, e timestamptz, f date, g numeric, PRIMARY KEY (a, b, c, d, e, f, g), email text);
SELECT leadroute.attach_table('composites', policy => 'intake_identity') > 0 AS attached;
INSERT INTO composites VALUES ('x"', true, 'ab', '10.0.0.1', '2026-01-31 12:00+00', '2026-01-31', 1.0);
CREATE TYPE kind AS ENUM ('cold', 'warm');
CREATE DOMAIN known_kind AS kind CHECK (VALUE IS NOT NULL);
CREATE TABLE domains (id known_kind PRIMARY KEY, email text);
SELECT leadroute.attach_table('domains', policy => 'intake_identity') > 0 AS attached;
INSERT INTO domains VALUES ('warm');
SELECT relation_name, keyed, key, outcome, closed FROM keys WHERE keyed ORDER BY relation_name COLLATE "C";

-- the same lead under other settings
SET DateStyle = 'German';
SET TimeZone = 'Asia/Tokyo';
SELECT count(*) AS unrouted FROM leadroute.unrouted('composites');
SELECT count(*) AS problems FROM leadroute.reconcile('composites');
SELECT leadroute.route_lead(k.lead_id) = s.run_id AS found FROM leadroute.lead_keys k JOIN leadroute.lead_states s USING (lead_id, source_id)
    JOIN leadroute.attached_tables t USING (source_id) WHERE t.relation_name LIKE 'intake_identity.%' ORDER BY t.relation_name COLLATE "C";
SELECT leadroute.lead_of('composites', leadroute.key_of('composites', a, b, c, d, e, f, g)) IS NOT NULL AS found FROM composites c;
SELECT outcome FROM leadroute.submit_lead('{"a": "y", "b": false, "c": "d", "d": "10.0.0.2", "e": "2026-02-28 12:00+00", "f": "2026-02-28", "g": 2}', 'composites');
RESET DateStyle;
RESET TimeZone;
SELECT leadroute.key_of('uuids', c), 'another type' FROM composites;
SELECT leadroute.key_of('composites', a, b, c) FROM composites;

-- a changed key is the same lead still: by its own statement, by a trigger of the team's, or only in its text form
SELECT lead_id AS lead FROM leadroute.lead_keys k JOIN leadroute.attached_tables t USING (source_id) WHERE t.relation = 'texts'::regclass \gset
UPDATE texts SET id = 'lead 2';
CREATE FUNCTION renamed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.id := upper(NEW.id); RETURN NEW; END $$;
CREATE TRIGGER renaming BEFORE UPDATE ON texts FOR EACH ROW EXECUTE FUNCTION renamed();
UPDATE texts SET email = 'a@b.example';
SELECT leadroute.lead_of('texts', 'LEAD 2') = :lead AS same_lead, leadroute.lead_of('texts', 'lead 2') AS former_key;
UPDATE composites SET g = 1.00 WHERE a = 'x"';
SELECT key FROM keys WHERE relation_name LIKE '%composites' AND key LIKE '%1.00%';
SELECT count(*) AS problems FROM leadroute.reconcile('texts');
SELECT count(*) AS problems FROM leadroute.reconcile('composites');
-- a renamed key column stops the table until it is attached again; nothing is lost by that
ALTER TABLE texts RENAME COLUMN id TO code;
DROP TRIGGER renaming ON texts;
INSERT INTO texts VALUES ('lead 3');
SELECT leadroute.detach_table('texts');
SELECT leadroute.attach_table('texts', policy => 'intake_identity') > 0 AS attached;
INSERT INTO texts VALUES ('lead 3');
SELECT leadroute.lead_of('texts', 'LEAD 2') = :lead AS same_lead;

-- a deleted key can come again: then it is another lead
DELETE FROM texts WHERE code = 'LEAD 2';
INSERT INTO texts VALUES ('LEAD 2');
SELECT leadroute.lead_of('texts', 'LEAD 2') <> :lead AS another_lead;
SELECT closed_at IS NOT NULL AS closed, closed_reason FROM leadroute.lead_states WHERE lead_id = :lead;
SELECT count(*) AS problems FROM leadroute.reconcile('texts');

DROP SCHEMA intake_identity CASCADE;
