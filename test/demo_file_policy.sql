-- The part of demo_file.sql for a file that nobody has seen before: a table with its columns, all of them text, a mapping by
-- name, and a policy that makes do with what is there. Needs the temporary table file_columns (place, name).

-- Which column is which attribute: by name, whatever its case, with blanks or dashes for underscores, or by another usual name.
CREATE TEMPORARY TABLE file_mapping AS
SELECT DISTINCT ON (attribute) attribute, name
FROM (SELECT c.place, c.name, trim('_' FROM regexp_replace(lower(c.name), '[^a-z0-9]+', '_', 'g')) AS normal FROM file_columns c) AS c
JOIN (VALUES ('external_id', '{external_id}'), ('source_system', '{source_system}'), ('source', '{source,lead_source}'),
             ('country', '{country,country_code}'), ('region', '{region,state,province}'), ('language', '{language}'), ('industry', '{industry}'),
             ('company', '{company,company_name,account_name,organization,organisation}'), ('domain', '{domain,website}'),
             ('company_size', '{company_size,employees,number_of_employees,no_of_employees}'),
             ('email', '{email,e_mail,email_address,e_mail_address}'), ('phone', '{phone,phone_number,telephone,mobile,mobile_phone}'),
             ('consent', '{consent}'), ('consent_basis', '{consent_basis}'), ('consent_at', '{consent_at}'), ('consent_channels', '{consent_channels}'),
             ('prior_interactions', '{prior_interactions}'), ('attributes', '{attributes}'), ('received_at', '{received_at}'),
             ('traceparent', '{traceparent}')) AS a (attribute, names) ON c.normal = ANY (a.names::text[])
ORDER BY attribute, array_position(a.names::text[], c.normal), place;

SELECT format('CREATE TABLE file_leads (line bigint GENERATED ALWAYS AS IDENTITY (START WITH 2) PRIMARY KEY, %s)',
              string_agg(format('%I text', name), ', ' ORDER BY place)) AS create
FROM file_columns \gset
:create;
COMMENT ON TABLE file_leads IS 'The lines of the file; the first is the header, so the leads begin with line 2.';

-- What is not a column of the file is left unknown, but for the external id: that is the line.
SELECT leadroute.attach_table('file_leads', policy => 'file', classes => leadroute.standard_classes() || '{"line": "plain"}',
    mapping => '{"external_id": "line"}' || coalesce((SELECT jsonb_object_agg(attribute, name) FROM file_mapping), '{}')) AS source_id \gset

INSERT INTO leadroute.owners (reference, available) VALUES ('rep-1', true), ('rep-2', true), ('rep-3', true), ('rep-4', false), ('senior-1', true), ('senior-2', true);
INSERT INTO leadroute.pools (name) VALUES ('inbound'), ('key_accounts');
INSERT INTO leadroute.pool_members (pool_id, owner_id, weight)
    SELECT p.pool_id, o.owner_id, CASE o.reference WHEN 'rep-1' THEN 2 ELSE 1 END
    FROM leadroute.pools p JOIN leadroute.owners o ON (p.name = 'inbound') = (o.reference LIKE 'rep-%');

SELECT leadroute.publish_scorecard('file', $json$ {
    "description": "What can be said of any lead: size, address, phone, earlier contacts, industry.",
    "base": 20,
    "characteristics": [
        {"code": "company_size", "bins": [{"when": "company_size >= 1000", "points": 30}, {"when": "company_size >= 100", "points": 20},
                                          {"when": "company_size >= 10", "points": 10}]},
        {"code": "email", "bins": [{"when": "email IS NOT NULL AND domain IS NOT NULL", "points": 15}, {"when": "email IS NOT NULL", "points": 10}]},
        {"code": "phone", "bins": [{"when": "phone IS NOT NULL", "points": 10}]},
        {"code": "prior_interactions", "bins": [{"when": "prior_interactions >= 3", "points": 15}, {"when": "prior_interactions >= 1", "points": 10}]},
        {"code": "industry", "bins": [{"when": "industry IS NOT NULL", "points": 5}]}
    ],
    "tiers": [{"tier": "A", "from": 65}, {"tier": "B", "from": 45}, {"tier": "C", "from": 0}]
} $json$, 'demonstration') AS version \gset

-- A file without addresses and numbers cannot be checked for them. One that says nothing of consent is routed all the same,
-- and the record of each lead says what the rules of its jurisdiction make of that: in a policy of your own, leave out stop_when.
SELECT coalesce(bool_or(attribute IN ('email', 'phone')), false) AS has_contact, coalesce(bool_or(attribute LIKE 'consent%'), false) AS has_consent
FROM file_mapping \gset
SELECT leadroute.publish_policy('file', jsonb_build_object(
    'leadroute', 1,
    'description', 'Large and promising leads to the senior owners, the others to everybody.',
    'steps', CASE WHEN :'has_contact' THEN '[{"capability": "validateContact"}]' ELSE '[]' END::jsonb
             || CASE WHEN :'has_consent' THEN '{"capability": "checkRegionalCompliance"}' ELSE '{"capability": "checkRegionalCompliance", "stop_when": []}' END::jsonb
             || '[{"capability": "enrichWithFirmographicData"}, {"capability": "computeLeadScore", "scorecard": "file"}, {"capability": "assignOwner"}]',
    'rules', '[{"name": "key accounts", "priority": 1, "when": "company_size >= 1000 OR computeLeadScore.tier = ''A''", "pool": "key_accounts"},
               {"name": "everyone else", "priority": 2, "when": "true", "pool": "inbound"}]'::jsonb), 'demonstration') AS version \gset
SELECT leadroute.activate_policy('file', :version, 'demonstration') AS version \gset

\if :has_consent
\else
\echo 'The file says nothing of consent: regional rules are checked and recorded, but stop no lead.'
\echo
\endif
\if :has_contact
\else
\echo 'The file has neither e-mail addresses nor phone numbers: contacts are not checked.'
\echo
\endif
