-- The standard leads table and tables of one's own: an inserted row is a lead, routed when the statement ends. Columns map to
-- attributes by name or by the mapping, constants stand in for what a table lacks, everything else is in attributes. Rows
-- that were there before are listed, and routed on request.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA intake_attach;
SET search_path TO intake_attach;

INSERT INTO leadroute.owners (reference) VALUES ('intake_attach anna');
INSERT INTO leadroute.pools (name) VALUES ('intake_attach');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT pool_id, owner_id FROM leadroute.pools p, leadroute.owners o
    WHERE p.name = 'intake_attach' AND o.reference = 'intake_attach anna';
SELECT leadroute.publish_policy('intake_attach', '{
    "leadroute": 1,
    "steps": [{"capability": "assignOwner"}],
    "rules": [{"name": "german", "when": "country = ''DE''", "pool": "intake_attach"},
              {"name": "big", "when": "(attributes->>''seats'')::int >= 100", "outcome": "nurture", "reason": "big"}]}', 'test');
SELECT leadroute.activate_policy('intake_attach');

-- the standard table is an ordinary table of its maker, and routes what is inserted
SELECT leadroute.create_leads_table('leads', 'intake_attach');
SELECT count(*) AS members FROM pg_depend WHERE objid = 'leads'::regclass AND refclassid = 'pg_extension'::regclass;
INSERT INTO leads (email, country) VALUES ('jane@acme.example', 'DE') RETURNING email;
INSERT INTO leads (email, attributes) VALUES ('joe@acme.example', '{"seats": "120"}'), ('jim@acme.example', '{"seats": "20"}');
SELECT l.email, s.outcome, s.reason_code, o.reference AS owner
FROM leads l JOIN leadroute.lead_states s USING (lead_id) LEFT JOIN leadroute.owners o USING (owner_id) ORDER BY l.lead_id;
-- external ids are unique within a source system
INSERT INTO leads (source_system, external_id) VALUES ('crm', '1'), ('crm', '2'), ('web', '1');
\set VERBOSITY terse
INSERT INTO leads (source_system, external_id) VALUES ('crm', '1');
\set VERBOSITY default
-- the names of tables are taken as SQL takes them
SELECT leadroute.create_leads_table('intake_attach."Odd name"', 'intake_attach');
SELECT leadroute.create_leads_table('a.b.c');
SELECT leadroute.create_leads_table('leads');
SELECT leadroute.create_leads_table('intake_attach_nowhere.leads');

-- a table that the team already has: mapped and equally named columns, a constant, and the rest in attributes
CREATE TABLE contacts (
    id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'),
    mail varchar(100), country char(2), staff bigint, seats integer, since date, note text, extra jsonb);
INSERT INTO contacts (mail, country) VALUES ('old@acme.example', 'DE'), ('older@acme.example', 'FR');
SELECT leadroute.attach_table('contacts', policy => 'intake_attach',
    mapping => '{"email": "mail", "company_size": "staff", "attributes": "extra", "consent": {"value": true}, "consent_basis": {"value": "contract"},
                 "consent_channels": {"value": ["email"]}, "language": null, "received_at": {"value": "2026-01-31 12:00+00"}}',
    classes => '{"country": "plain", "company_size": "plain", "consent": "plain", "consent_basis": "plain", "consent_channels": "plain",
                 "received_at": "plain", "attributes.seats": "plain", "attributes.since": "plain", "attributes.vip": "plain", "email": "direct"}') > 0 AS attached;
INSERT INTO contacts (mail, country, staff, seats, since, note, extra)
    VALUES ('new@acme.example', 'FR', 250, 100, '2026-01-31', 'call her', '{"vip": true, "seats": 1}');
-- plain attributes stand in the record by value, others by digest; what nobody classed is personal
SELECT (a.value ->> 'digest') IS NOT NULL AS digest, a.key, CASE WHEN a.value ? 'digest' THEN a.value - 'digest' ELSE a.value END AS value
FROM leadroute.entries e JOIN contacts c ON c.id = e.lead_id,
     jsonb_each(leadroute.entry_evidence(e.evidence, e.policy_version_id) -> 'attributes') a
WHERE c.mail = 'new@acme.example' ORDER BY a.key COLLATE "C";
SELECT s.outcome, s.reason_code FROM leadroute.lead_states s JOIN contacts c ON c.id = s.lead_id WHERE c.mail = 'new@acme.example';

-- rows that were there before: listed, and routed on request, as many as one asks for
SELECT leads_table, row_key = lead_id::text AS key_is_id, reason, by_user, since FROM leadroute.unrouted('contacts') ORDER BY lead_id;
SELECT leadroute.route_pending('contacts', 1);
SELECT leadroute.route_pending('contacts');
SELECT leadroute.route_pending('contacts');
SELECT count(*) FROM leadroute.unrouted('contacts');
SELECT c.mail, d.outcome, d.reason_code, d.cause FROM leadroute.decisions d JOIN contacts c ON c.id = d.lead_id ORDER BY c.id;

-- a column that cannot be read in the attribute's type costs that lead its routing, not the insert
CREATE TABLE loose (id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'), country text, company_size text);
SELECT leadroute.attach_table('loose', policy => 'intake_attach') > 0 AS attached;
INSERT INTO loose (country, company_size) VALUES ('DE', '50'), ('DE', 'fifty'), ('DE', NULL);
SELECT l.company_size, s.outcome, s.reason_code FROM loose l JOIN leadroute.lead_states s ON s.lead_id = l.id ORDER BY l.id;

-- detached, a table's rows are no leads any more; its states and record stay, and it keeps its number when attached again
SELECT source_id FROM leadroute.attached_tables WHERE relation = 'contacts'::regclass \gset
SELECT leadroute.detach_table('contacts');
INSERT INTO contacts (mail) VALUES ('later@acme.example');
SELECT count(*) AS states FROM leadroute.lead_states WHERE source_id = :source_id;
SELECT count(*) AS triggers FROM pg_trigger WHERE tgrelid = 'contacts'::regclass;
SELECT leadroute.detach_table('contacts');
SELECT leadroute.attach_table('contacts', policy => 'intake_attach') = :source_id AS same_number;
SELECT reason, count(*) FROM leadroute.unrouted('contacts') GROUP BY 1;

-- a dropped table is attached no longer
DROP TABLE contacts;
SELECT relation IS NULL AS detached, detached_at IS NOT NULL AS dated FROM leadroute.attached_tables WHERE source_id = :source_id;
SELECT count(*) AS decisions_kept FROM leadroute.entries WHERE source_id = :source_id;

DROP SCHEMA intake_attach CASCADE;
SELECT count(*) AS still_attached FROM leadroute.attached_tables WHERE relation_name LIKE 'intake_attach.%' AND relation IS NOT NULL;
DELETE FROM leadroute.pool_members m USING leadroute.pools p WHERE p.pool_id = m.pool_id AND p.name = 'intake_attach';
DELETE FROM leadroute.pools WHERE name = 'intake_attach';
DELETE FROM leadroute.owners WHERE reference LIKE 'intake_attach %';
