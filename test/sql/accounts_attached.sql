-- A table of the team's serves as accounts: leadroute.accounts is in step with it, whatever happens to it.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA accounts_attached;
SET search_path TO accounts_attached;
INSERT INTO leadroute.owners (reference) VALUES ('aa-1'), ('aa-2');
CREATE TYPE kind AS ENUM ('Customer', 'Prospect', 'Channel');
CREATE TABLE crm_accounts ("Id" text PRIMARY KEY, "Account Name" text, website text, more text[], tel text, zip integer, cc char(2), kind kind, parent text, csm text, ae text, opp text, noise text);
INSERT INTO crm_accounts VALUES ('001', 'Attest One GmbH', 'https://www.attest-one.de/', '{attest-one.com,attest-one.eu}', '030 12345670', 10115, 'DE', 'Customer', NULL, 'aa-1', 'aa-2', 'aa-1'),
    ('002', 'Attest Two', NULL, NULL, NULL, NULL, NULL, 'Channel', '001', NULL, 'aa-none', NULL), ('003', NULL, '  ', '{}', ' ', NULL, ' ', NULL, NULL, '', NULL, 'aa-none');
CREATE VIEW kept AS
    SELECT a.external_id AS id, a.name, a.domain_form AS domain, a.phone_form AS phone, a.postcode, a.country, a.type, a.parent_external_id AS parent,
           (SELECT o.reference FROM leadroute.owners o WHERE o.owner_id = a.opportunity_owner_id) AS opportunity,
           (SELECT string_agg(w.role || ' ' || o.reference, ', ' ORDER BY w.role) FROM leadroute.account_owners w JOIN leadroute.owners o USING (owner_id) WHERE w.account_id = a.account_id) AS owners,
           (SELECT string_agg(d.domain, ', ' ORDER BY d.domain) FROM leadroute.account_domains d WHERE d.account_id = a.account_id) AS domains
    FROM leadroute.accounts a JOIN leadroute.account_sources s USING (account_source_id) WHERE s.relation IN ('crm_accounts'::regclass);
-- mistakes in the mapping, all at once
\set VERBOSITY default
SELECT leadroute.attach_accounts('crm_accounts', '{"external_id": "Account Name", "name": "nothing", "domain": 7, "colour": "noise", "owners": {"CSM": "csm", "AE": "nobody", "opportunity": "opp"},
    "types": {"Channel": "friend"}}');
SELECT leadroute.attach_accounts('crm_accounts', '[]');
SELECT leadroute.attach_accounts('crm_accounts', '{"external_id": "Id", "owners": "csm", "types": []}');
SELECT leadroute.attach_accounts('crm_accounts', NULL);
\set VERBOSITY terse
SELECT leadroute.attach_accounts('crm_accounts', '{"external_id": "Id", "name": "Account Name", "domain": "website", "domains": "more", "phone": "tel", "postcode": "zip", "country": "cc", "type": "kind",
    "parent": "parent", "opportunity_owner": "opp", "owners": {"CSM": "csm", "AE": "ae"}, "types": {"Channel": "partner"}}') AS accounts;
SELECT leadroute.attach_accounts('crm_accounts', '{"external_id": "Id"}');
SELECT * FROM kept ORDER BY id;
CREATE TABLE ids AS SELECT external_id, account_id FROM leadroute.accounts JOIN leadroute.account_sources s USING (account_source_id) WHERE s.relation = 'crm_accounts'::regclass;
-- as a set, by each kind of statement; ids stay
INSERT INTO crm_accounts ("Id", "Account Name") SELECT lpad(i::text, 3, '0'), 'Attest ' || i FROM generate_series(4, 203) i;
SELECT count(*), count(name_form) FROM kept JOIN leadroute.accounts a ON a.external_id = id;
UPDATE crm_accounts SET "Account Name" = "Account Name" || ' AG', more = array_append(more, 'attest-new.com'), csm = 'aa-2', ae = NULL, opp = NULL WHERE "Id" <= '002';
UPDATE crm_accounts SET more = '{attest-new.com}' WHERE "Id" = '001';
UPDATE crm_accounts SET noise = 'loud';
UPDATE crm_accounts SET "Id" = 'x03', kind = 'Customer' WHERE "Id" = '003';
INSERT INTO crm_accounts ("Id", "Account Name") VALUES ('002', 'again'), ('204', 'new') ON CONFLICT ("Id") DO UPDATE SET "Account Name" = EXCLUDED."Account Name";
MERGE INTO crm_accounts c USING (VALUES ('001', 'merged'), ('205', 'merged')) AS v (id, name) ON c."Id" = v.id
    WHEN MATCHED THEN UPDATE SET "Account Name" = v.name WHEN NOT MATCHED THEN INSERT ("Id", "Account Name") VALUES (v.id, v.name);
DELETE FROM crm_accounts WHERE "Id" BETWEEN '005' AND '203';
COPY crm_accounts ("Id", website) FROM STDIN;
206	attest-copied.com
\.
SELECT * FROM kept ORDER BY id COLLATE "C";
SELECT i.external_id, i.account_id = a.account_id AS same FROM ids i LEFT JOIN leadroute.accounts a ON a.external_id = i.external_id AND a.account_source_id > 0 ORDER BY 1;
-- what rolls back, rolls back here, too
BEGIN;
DELETE FROM crm_accounts;
SELECT count(*) FROM kept;
ROLLBACK;
SELECT count(*) FROM kept;
-- whatever is in a row, the team's statement goes through
INSERT INTO crm_accounts ("Id", "Account Name", website, more, tel, parent) VALUES ('209', repeat('long name ', 10000), repeat('x', 100000) || '.com',
    ARRAY['', repeat('y', 100000) || '.com', 'no domain', NULL], repeat('0', 100000), repeat('z', 100000));
SELECT id, length(name), domain, phone, domains FROM kept WHERE id = '209';
DELETE FROM crm_accounts WHERE "Id" = '209';
-- an owner that comes later is found by refreshing, as is what triggers did not see
INSERT INTO leadroute.owners (reference) VALUES ('aa-3');
UPDATE crm_accounts SET csm = 'aa-late' WHERE "Id" = '002';
UPDATE leadroute.owners SET reference = 'aa-late' WHERE reference = 'aa-3';
ALTER TABLE crm_accounts DISABLE TRIGGER USER;
DELETE FROM crm_accounts WHERE "Id" = '204';
ALTER TABLE crm_accounts ENABLE TRIGGER USER;
SELECT id, owners FROM kept WHERE id IN ('002', '204') ORDER BY 1;
SELECT leadroute.refresh_accounts('crm_accounts');
SELECT id, owners FROM kept WHERE id IN ('002', '204') ORDER BY 1;
SELECT count(*) AS left_over FROM (SELECT account_id FROM leadroute.account_domains UNION ALL SELECT account_id FROM leadroute.account_owners) x WHERE NOT EXISTS (SELECT FROM leadroute.accounts a WHERE a.account_id = x.account_id);
-- a column that is renamed or dropped is noticed, not read as null
ALTER TABLE crm_accounts RENAME COLUMN tel TO telephone;
INSERT INTO crm_accounts ("Id") VALUES ('207');
ALTER TABLE crm_accounts RENAME COLUMN telephone TO tel;
-- whoever writes the table needs no rights on the accounts, and casts of its types are not called
CREATE FUNCTION spy(kind) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE 'called as %', current_user; END$$;
CREATE CAST (kind AS text) WITH FUNCTION spy(kind) AS ASSIGNMENT;
CREATE ROLE regress_accounts_writer;
GRANT USAGE ON SCHEMA accounts_attached TO regress_accounts_writer;
GRANT SELECT, INSERT, DELETE ON crm_accounts TO regress_accounts_writer;
SET ROLE regress_accounts_writer;
INSERT INTO crm_accounts ("Id", kind) VALUES ('208', 'Customer');
SELECT leadroute.detach_accounts('crm_accounts');
RESET ROLE;
SELECT id, type FROM kept WHERE id = '208';
GRANT leadroute_author TO regress_accounts_writer;
SET ROLE regress_accounts_writer;
SELECT leadroute.detach_accounts('accounts_attached.crm_accounts');
SELECT leadroute.attach_accounts('accounts_attached.crm_accounts', '{"external_id": "Id"}');
CREATE TEMP TABLE temporary_accounts (id text PRIMARY KEY);
SELECT leadroute.attach_accounts('temporary_accounts', '{"external_id": "id"}');
INSERT INTO leadroute.accounts (name, domain) VALUES ('Attest by hand', 'attest-hand.com');
SELECT name_form, domain_form FROM leadroute.accounts WHERE name = 'Attest by hand';
DELETE FROM leadroute.accounts WHERE name = 'Attest by hand';
RESET ROLE;
DROP TABLE temporary_accounts;
CREATE TABLE parted (id text PRIMARY KEY) PARTITION BY HASH (id);
SELECT leadroute.attach_accounts('parted', '{"external_id": "id"}');
CREATE VIEW seen AS SELECT * FROM crm_accounts;
SELECT leadroute.attach_accounts('seen', '{"external_id": "Id"}');
SELECT leadroute.attach_accounts('leadroute.owners', '{"external_id": "owner_id"}');
SELECT leadroute.detach_accounts('parted');
SELECT leadroute.refresh_accounts('parted');
-- what no index holds is no key, and what differs in blanks alone is another id
INSERT INTO crm_accounts ("Id", more) SELECT 'long ', ARRAY[string_agg(md5(i::text), '')] FROM generate_series(1, 200) AS i;
INSERT INTO crm_accounts ("Id") VALUES ('blank'), ('blank ');
DELETE FROM crm_accounts WHERE "Id" = 'blank ';
SELECT '"' || external_id || '"' AS id, (SELECT count(*) FROM leadroute.account_domains d WHERE d.account_id = a.account_id) AS domains
FROM leadroute.accounts a WHERE external_id ~ '^(long|blank)' ORDER BY 1;
SELECT length(leadroute.normalise_company(string_agg(md5(i::text), ''))) AS company, leadroute.normalise_postcode(string_agg(i::text, '')) AS postcode FROM generate_series(1, 200) AS i;
-- emptied, detached, dropped
TRUNCATE crm_accounts;
SELECT count(*) FROM kept;
INSERT INTO crm_accounts ("Id", more) VALUES ('001', '{attest-one.com}'), ('002', NULL);
SELECT leadroute.detach_accounts('crm_accounts');
SELECT count(*) FROM kept;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'crm_accounts'::regclass AND NOT tgisinternal;
INSERT INTO crm_accounts ("Id") VALUES ('003');
SELECT leadroute.attach_accounts('crm_accounts', '{"external_id": "Id", "domains": "website"}');
INSERT INTO crm_accounts ("Id", website) VALUES ('004', 'attest-a.com; attest-b.com, attest-c.com');
SELECT id, domains FROM kept ORDER BY 1;
SELECT account_source_id AS source FROM leadroute.account_sources WHERE relation = 'crm_accounts'::regclass \gset
DROP VIEW kept;
DROP TABLE crm_accounts CASCADE;
SELECT count(*) FROM leadroute.accounts WHERE account_source_id = :source;
SELECT count(*) FROM leadroute.account_sources WHERE account_source_id = :source;

DROP OWNED BY regress_accounts_writer;
DROP ROLE regress_accounts_writer;
DROP SCHEMA accounts_attached CASCADE;
DELETE FROM leadroute.owners WHERE reference LIKE 'aa-%';
