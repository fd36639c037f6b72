-- validateContact: can the lead be reached at all? One usable channel makes it valid, a malformed one beside it partial, none
-- invalid; a disposable address is no channel. It says what kind of address it is, and why something is malformed, never the value.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA agents_contact;
SET search_path TO agents_contact;
SELECT leadroute.publish_policy('agents_contact', '{
    "leadroute": 1, "steps": [{"capability": "validateContact", "free_mail": ["Club.Example"]}, {"capability": "assignOwner"}],
    "rules": [{"name": "role", "when": "validateContact.role_address", "outcome": "nurture", "reason": "role_address"},
              {"name": "all", "when": "true", "outcome": "nurture", "reason": "reachable"}]}', 'test');
SELECT leadroute.activate_policy('agents_contact');
SELECT leadroute.create_leads_table('leads', 'agents_contact');
INSERT INTO leads (email, phone, country) VALUES
    ('Jane.Doe@Acme.example', NULL, NULL), ('info@acme.example', NULL, NULL), ('jane@gmail.com', NULL, NULL), ('jane@club.example', NULL, NULL),
    ('jane@mailinator.com', NULL, NULL), ('jane@mailinator.com', '+49 30 901820', NULL),
    (NULL, NULL, NULL), ('', '', NULL), ('jane', NULL, NULL), ('jane@', NULL, NULL), ('@acme.example', NULL, NULL), ('jane@acme', NULL, NULL),
    ('jane..doe@acme.example', NULL, NULL), ('jane doe@acme.example', NULL, NULL), ('jane@-acme.example', NULL, NULL), ('jane@bücher.example', NULL, NULL),
    (repeat('x', 65) || '@acme.example', NULL, NULL), ('  jane@acme.example  ', NULL, NULL),
    (NULL, '+49 (30) 90 18 20', NULL), (NULL, '030 901820', 'DE'), (NULL, '030 901820', 'de'), (NULL, '030 901820', NULL), (NULL, '12', 'DE'), (NULL, 'call me', 'DE'),
    (NULL, '+999 123456789', NULL), ('jane@acme.example', 'call me', 'DE'), ('jane@', '+49 30 901820', NULL);
SELECT l.email, l.phone, l.country, p.output - 'problems' AS output, p.output -> 'problems' AS problems, s.outcome, s.reason_code
FROM leads l JOIN leadroute.lead_states s USING (lead_id) JOIN leadroute.provenance p USING (lead_id)
WHERE p.capability = 'validateContact' ORDER BY lead_id;
SELECT v.verdict, count(*) FROM leads JOIN leadroute.lead_states USING (lead_id), leadroute.verify_decision(run_id) v GROUP BY 1 ORDER BY 1;
DROP SCHEMA agents_contact CASCADE;
