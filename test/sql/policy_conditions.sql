-- Conditions are SQL boolean expressions over the lead. Each line below is one, with whether it holds for the lead.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA policy_conditions;
SET search_path TO policy_conditions;
CREATE TABLE conditions (no integer GENERATED ALWAYS AS IDENTITY, condition text);
INSERT INTO conditions (condition) VALUES
    -- comparisons, lists, patterns
    ('country = ''DE'' AND company_size >= 50'),
    ('country IN (''AT'', ''DE'')'),
    ('country <> ALL (ARRAY[''AT'', ''CH''])'),
    ('company_size BETWEEN 100 AND 200'),
    ('source LIKE ''web%'' AND source NOT LIKE ''%form'''),
    ('source ~ ''^web-[a-z]+$'''),
    ('source ILIKE ''WEB%'''),
    -- the C collation: capital letters stand before small ones
    ('source > ''Z'''),
    ('source < ''a'''),
    -- casts through text
    ('(attributes->>''seats'')::int >= 20'),
    ('(attributes->>''budget'')::numeric * 1.19 > 1000'),
    ('(attributes->>''start'')::date < ''2026-03-01'''),
    ('attributes->>''seats'' = ''20'''),
    ('company_size::text LIKE ''1%'''),
    -- jsonb
    ('attributes ? ''seats'' AND NOT attributes ? ''chairs'''),
    ('attributes @> ''{"tags": ["vip"]}'''),
    ('attributes->''tags''->>0 = ''vip'''),
    ('attributes #>> ''{address,city}'' = ''Köln'''),
    ('(attributes->''opted'')::boolean'),
    -- arrays
    ('''email'' = ANY (consent_channels)'),
    ('consent_channels @> ARRAY[''email'', ''post'']'),
    ('cardinality(consent_channels) = 2'),
    -- booleans and nulls: what is not known is not true
    ('consent'),
    ('NOT consent'),
    ('region = ''BY'''),
    ('region <> ''BY'''),
    ('NOT (region = ''BY'')'),
    ('region IS NULL'),
    ('region IS DISTINCT FROM ''BY'''),
    ('(region = ''BY'') IS NULL'),
    ('region = ''BY'' OR country = ''DE'''),
    ('coalesce(region, country) = ''DE'''),
    ('CASE WHEN region IS NULL THEN company_size > 100 ELSE false END'),
    -- functions and operators that are built in
    ('upper(source) = ''WEB-DEMO'''),
    ('length(source) + 1 = 9'),
    ('split_part(source, ''-'', 2) || ''!'' = ''demo!'''),
    ('greatest(company_size, prior_interactions) % 3 = 0'),
    -- the moment, and times under the policy's own time zone, Europe/Berlin
    ('consent_at < as_of'),
    ('as_of - received_at > interval ''1 day'''),
    ('consent_at = ''2026-01-31 23:30+00'''),
    ('consent_at = ''2026-02-01 00:30'''),
    ('consent_at::date = ''2026-02-01'''),
    ('date_trunc(''day'', consent_at) = ''2026-02-01'''),
    ('extract(hour FROM consent_at) = 0'),
    ('consent_at::text = ''2026-02-01 00:30:00+01'''),
    ('consent_at AT TIME ZONE ''UTC'' = ''2026-01-31 23:30'''),
    ('consent_at + interval ''1 month'' = ''2026-03-01 00:30'''),
    ('interval ''1 day 2 hours''::text = ''1 day 02:00:00'''),
    -- outputs of the steps before, in any spelling of their names
    ('validateContact.status = ''valid'''),
    ('ValidateContact.STATUS = ''valid'''),
    ('validatecontact.email_kind = ''business'' AND NOT validateContact.role_address'),
    ('checkRegionalCompliance.jurisdiction = ''EU/EEA'''),
    ('''email'' = ANY (checkRegionalCompliance.channels)'),
    ('enrichWithFirmographicData.status IS NULL'),
    ('true');
SELECT leadroute.publish_scorecard('policy_conditions', jsonb_build_object('maximum', 1000, 'characteristics', jsonb_agg(
    jsonb_build_object('code', condition, 'bins', jsonb_build_array(jsonb_build_object('when', condition, 'points', 1))) ORDER BY no)), 'test') FROM conditions;
SELECT leadroute.publish_policy('policy_conditions', '{
    "leadroute": 1, "timezone": "Europe/Berlin",
    "steps": [{"capability": "validateContact"}, {"capability": "checkRegionalCompliance"},
              {"capability": "computeLeadScore", "scorecard": "policy_conditions"}]}', 'test');
SELECT leadroute.activate_policy('policy_conditions');
SELECT leadroute.create_leads_table('leads', 'policy_conditions');
-- the session's own settings are of no account
SET TimeZone = 'Asia/Tokyo';
SET DateStyle = 'SQL, DMY';
SET IntervalStyle = 'iso_8601';
SET search_path TO policy_conditions, pg_temp;
CREATE FUNCTION upper(text) RETURNS text LANGUAGE sql AS $$ SELECT 'hijacked' $$;
INSERT INTO leads (email, source, country, company_size, prior_interactions, consent, consent_at, consent_channels, received_at, attributes) VALUES
    ('jane@acme.example', 'web-demo', 'DE', 150, 2, true, '2026-01-31 23:30+00', '{email,post}', '2026-01-01',
     '{"seats": "20", "budget": 900.5, "start": "2026-02-01", "tags": ["vip", "new"], "address": {"city": "Köln"}, "opted": true}');
SELECT r.value ->> 'code' AS condition, (r.value ->> 'points') = '1' AS holds
FROM leads JOIN leadroute.provenance p USING (lead_id), jsonb_array_elements(p.output -> 'reasons') WITH ORDINALITY AS r (value, no)
WHERE p.capability = 'computeLeadScore' ORDER BY r.no;
SELECT v.verdict FROM leads JOIN leadroute.lead_states USING (lead_id), leadroute.verify_decision(run_id) v;
SHOW TimeZone;
SHOW DateStyle;

DROP SCHEMA policy_conditions CASCADE;
