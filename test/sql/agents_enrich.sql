-- enrichWithFirmographicData fills what the lead lacks from leadroute.firmographics, by its domain or that of its business address;
-- it never overwrites what the lead brings, and never touches the lead's row. The record keeps what was filled in: it verifies also
-- when the table says something else by then.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA agents_enrich;
SET search_path TO agents_enrich;
INSERT INTO leadroute.firmographics (domain, company, industry, company_size, country, region) VALUES
    ('agents-enrich-acme.example', 'Acme Ltd', 'tools', 500, 'GB', 'LND'), ('agents-enrich-small.example', NULL, NULL, 3, NULL, NULL),
    ('xn--agents-enrich-bcher-kbc.example', 'Bücher', 'books', 10, 'DE', NULL);
SELECT leadroute.publish_policy('agents_enrich', '{
    "leadroute": 1, "steps": [{"capability": "validateContact", "stop_when": []}, {"capability": "enrichWithFirmographicData"}, {"capability": "assignOwner"}],
    "rules": [{"name": "by name", "when": "company = ''Acme Ltd'' AND region = ''LND'' AND company_size = 0", "outcome": "nurture", "reason": "by_name"},
              {"name": "big", "when": "company_size >= 100", "outcome": "nurture", "reason": "big"},
              {"name": "tools", "when": "industry = ''tools''", "outcome": "nurture", "reason": "tools"},
              {"name": "rest", "when": "true", "outcome": "nurture", "reason": "rest"}]}', 'test');
SELECT leadroute.activate_policy('agents_enrich');
SELECT leadroute.create_leads_table('leads', 'agents_enrich');
INSERT INTO leads (email, domain, company, industry, company_size, country, region) VALUES
    ('jane@agents-enrich-acme.example', NULL, NULL, NULL, NULL, NULL, NULL),
    ('jane@gmail.com', 'agents-enrich-acme.example', NULL, NULL, NULL, NULL, NULL),
    ('jane@elsewhere.example', 'WWW.Agents-Enrich-Acme.example.', NULL, NULL, NULL, NULL, NULL),
    ('jane@agents-enrich-acme.example', 'agents-enrich-small.example', NULL, NULL, NULL, NULL, NULL),
    ('jane@agents-enrich-acme.example', NULL, 'Her Own', 'other', 7, 'FR', 'IDF'),
    ('jane@agents-enrich-acme.example', NULL, NULL, NULL, 0, NULL, NULL),
    ('jane@gmail.com', NULL, NULL, NULL, NULL, NULL, NULL), ('jane@agents-enrich-none.example', NULL, NULL, NULL, NULL, NULL, NULL), (NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    ('jane@agents-enrich-acme.example', 'not a domain', NULL, NULL, NULL, NULL, NULL), (NULL, 'agents-enrich-bücher.example', NULL, NULL, NULL, NULL, NULL);
SELECT l.email, l.domain, p.output ->> 'status' AS status, p.output -> 'filled' AS filled, (p.output -> 'values') - 'company' AS plain, p.output #> '{values,company}' ? 'digest' AS company_digest, s.reason_code
FROM leads l JOIN leadroute.lead_states s USING (lead_id) JOIN leadroute.provenance p USING (lead_id) WHERE p.capability = 'enrichWithFirmographicData' ORDER BY lead_id;
-- the lead's row is as it came
SELECT count(company) AS companies, count(company_size) AS sizes FROM leads;

-- the table changes: past decisions verify, new ones see it
UPDATE leadroute.firmographics SET company_size = 5 WHERE domain = 'agents-enrich-acme.example';
DELETE FROM leadroute.firmographics WHERE domain = 'agents-enrich-small.example';
SELECT v.verdict, v.place, count(*) FROM leads JOIN leadroute.lead_states USING (lead_id), leadroute.verify_decision(run_id) v GROUP BY 1, 2 ORDER BY 1, 2;
SELECT count(*) FILTER (WHERE r.changed) AS changed, count(*) FROM leadroute.route_leads((SELECT array_agg(lead_id) FROM leads), 'firmographics changed') r;
SELECT s.reason_code, count(*) FROM leads JOIN leadroute.lead_states s USING (lead_id) GROUP BY 1 ORDER BY 1;
SELECT v.verdict, v.place, count(*) FROM leads JOIN leadroute.decisions d USING (lead_id), leadroute.verify_decision(d.decision_id) v GROUP BY 1, 2 ORDER BY 1, 2;

-- without validateContact before it, the address is not known to be one: the domain alone counts
SELECT leadroute.publish_policy('agents_enrich', '{"leadroute": 1, "steps": [{"capability": "enrichWithFirmographicData"}]}', 'test');
SELECT leadroute.activate_policy('agents_enrich');
INSERT INTO leads (email, domain) VALUES ('jane@agents-enrich-acme.example', NULL), ('jane@gmail.com', 'agents-enrich-acme.example');
SELECT l.domain, p.output ->> 'status' AS status, s.outcome, s.reason_code FROM leads l JOIN leadroute.provenance p USING (lead_id) JOIN leadroute.lead_states s USING (lead_id)
WHERE p.decision_id = s.run_id AND p.step_no = 1 ORDER BY lead_id DESC LIMIT 2;

DROP SCHEMA agents_enrich CASCADE;
DELETE FROM leadroute.firmographics WHERE domain LIKE '%agents-enrich-%';
