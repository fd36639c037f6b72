-- checkRegionalCompliance: on which channels may this lead be contacted, by the rules of its jurisdiction? A refusal closes every
-- channel everywhere. A country that no rule names, or none, is judged by the strictest rule: consent only.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA agents_compliance;
SET search_path TO agents_compliance;
SELECT leadroute.publish_policy('agents_compliance', '{
    "leadroute": 1, "steps": [{"capability": "checkRegionalCompliance"}, {"capability": "assignOwner"}],
    "rules": [{"name": "all", "when": "true", "outcome": "nurture", "reason": "permitted"}]}', 'test');
SELECT leadroute.activate_policy('agents_compliance');
SELECT leadroute.create_leads_table('leads', 'agents_compliance');
CREATE VIEW judged AS
    SELECT l.country, l.consent, l.consent_basis AS basis, p.output ->> 'jurisdiction' AS jurisdiction, p.output ->> 'status' AS status,
           (SELECT string_agg(c, ' ' ORDER BY c COLLATE "C") FROM jsonb_array_elements_text(p.output -> 'channels') AS c) AS channels, p.output ->> 'reason' AS reason,
           s.outcome, s.reason_code, lead_id
    FROM leads l JOIN leadroute.lead_states s USING (lead_id) JOIN leadroute.provenance p USING (lead_id) WHERE p.capability = 'checkRegionalCompliance';

-- every jurisdiction by every basis
INSERT INTO leads (country, consent, consent_basis, consent_at)
SELECT country, CASE basis WHEN 'consent' THEN true WHEN 'refused' THEN false END, NULLIF(NULLIF(basis, 'refused'), 'not known'), CASE basis WHEN 'consent' THEN now() - interval '1 day' END
FROM unnest(ARRAY['DE', 'GB', 'US', 'CA', 'BR', 'XX', NULL]) WITH ORDINALITY AS c (country, i),
     unnest(ARRAY['consent', 'existing_customer', 'contract', 'legitimate_interest', 'not known', 'refused']) WITH ORDINALITY AS b (basis, j) ORDER BY i, j;
SELECT jurisdiction, consent, basis, status, channels, reason, outcome, reason_code FROM judged ORDER BY lead_id;
SELECT count(DISTINCT country) AS eea FROM jsonb_array_elements_text((SELECT document #> '{jurisdictions,0,countries}' FROM leadroute.documents WHERE document_id = 1)) AS country;
TRUNCATE leads;

-- consent: without a basis named; by channel; dated in the future; Canada's expires, and has to be dated
INSERT INTO leads (country, consent, consent_basis, consent_at, consent_channels) VALUES
    ('DE', true, NULL, NULL, NULL), ('DE', NULL, 'consent', NULL, NULL), ('de', true, NULL, NULL, NULL), ('DEU', true, NULL, NULL, NULL),
    ('DE', true, NULL, NULL, '{email}'), ('DE', true, NULL, NULL, '{}'), ('DE', true, NULL, NULL, '{fax,NULL}'), ('DE', true, 'hearsay', NULL, NULL),
    ('DE', true, NULL, now() + interval '1 day', NULL),
    ('CA', true, NULL, NULL, NULL), ('CA', true, NULL, now() - interval '729 days', NULL), ('CA', true, NULL, now() - interval '731 days', NULL),
    ('DE', true, NULL, now() - interval '20 years', NULL), ('DE', false, 'contract', NULL, NULL), ('US', false, NULL, NULL, NULL);
SELECT country, jurisdiction, consent, basis, status, channels, reason FROM judged ORDER BY lead_id;
-- the default stop rejects what may not be contacted
SELECT outcome, reason_code, count(*) FROM judged GROUP BY 1, 2 ORDER BY 1;
SELECT v.verdict, count(*) FROM leads JOIN leadroute.lead_states USING (lead_id), leadroute.verify_decision(run_id) v GROUP BY 1 ORDER BY 1;
TRUNCATE leads;

-- rules of the team's own, which a version pins
SELECT leadroute.publish_jurisdictions('agents_compliance', '{"jurisdictions": [
    {"name": "everywhere", "default": true, "max_age_days": 10, "channels": {"pigeon": ["none"], "email": ["consent", "friend"]}}]}', 'test');
SELECT leadroute.publish_policy('agents_compliance', '{
    "leadroute": 1, "steps": [{"capability": "checkRegionalCompliance", "jurisdictions": "agents_compliance", "stop_when": [
        {"when": "NOT ''email'' = ANY (checkRegionalCompliance.channels)", "outcome": "nurture", "reason": "pigeon_only"}]}, {"capability": "assignOwner"}],
    "rules": [{"name": "all", "when": "true", "outcome": "nurture", "reason": "permitted"}]}', 'test');
SELECT leadroute.activate_policy('agents_compliance');
INSERT INTO leads (country, consent, consent_basis, consent_at) VALUES ('DE', NULL, 'friend', NULL), ('DE', NULL, NULL, NULL), ('FR', true, NULL, now() - interval '9 days'), ('FR', true, NULL, now() - interval '11 days');
SELECT jurisdiction, basis, status, channels, reason, reason_code FROM judged ORDER BY lead_id;

DROP SCHEMA agents_compliance CASCADE;
