-- matchAccount: each way of matching, free mail, ties, parents, owners by role; the record has every candidate and no name.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA accounts_match;
SET search_path TO accounts_match;
INSERT INTO leadroute.owners (reference) VALUES ('am-csm'), ('am-ae'), ('am-opp'), ('am-pool');
INSERT INTO leadroute.pools (name) VALUES ('am');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT p.pool_id, o.owner_id FROM leadroute.pools p, leadroute.owners o WHERE p.name = 'am' AND o.reference = 'am-pool';
-- what a decision says of the account, by what the team calls it
CREATE FUNCTION account(id text) RETURNS text LANGUAGE sql AS $$SELECT a.external_id FROM leadroute.accounts a WHERE a.account_id = id::bigint$$;
CREATE FUNCTION owner(id text) RETURNS text LANGUAGE sql AS $$SELECT o.reference FROM leadroute.owners o WHERE o.owner_id = id::integer$$;
INSERT INTO leadroute.accounts (external_id, name, domain, phone, postcode, country, type) VALUES
    ('am-acme', 'Amtest Acme GmbH', 'www.amtest-acme.de', '030 12345670', '10115', 'DE', 'customer'),
    ('am-acme-fr', 'Amtest Acme SARL', 'amtest-acme.fr', NULL, '75001', 'fr', 'prospect'),
    ('am-nowhere', 'Amtest Nowhere', NULL, NULL, NULL, NULL, 'partner'),
    ('am-free', 'Amtest Free', 'gmail.com', NULL, NULL, NULL, 'customer'),
    ('am-host', 'Amtest Host', 'https://amtest.github.io', NULL, NULL, NULL, 'competitor'),
    ('am-widgets', 'Amtest Widgets International Ltd', 'amtest-widgets.co.uk', '+44 20 7946 0123', 'SW1A 1AA', 'GB', 'prospect'),
    ('am-bare', NULL, 'amtest-bare.com', NULL, NULL, NULL, 'prospect');
INSERT INTO leadroute.account_domains (account_id, domain) SELECT account_id, d FROM leadroute.accounts, unnest('{amtest-acme.com,amtest-acme.eu}'::text[]) d WHERE external_id = 'am-acme';
SELECT leadroute.publish_policy('accounts_match', '{
    "leadroute": 1, "steps": [{"capability": "validateContact", "stop_when": []}, {"capability": "matchAccount"}, {"capability": "assignOwner"}],
    "rules": [{"name": "customer", "when": "matchAccount.type = ''customer''", "pool": "am", "account_owner": ["CSM", "AE", "opportunity"]},
              {"name": "partner", "when": "matchAccount.type = ''partner'' AND matchAccount.confidence >= 80", "outcome": "nurture", "reason": "partner"},
              {"name": "rest", "when": "true", "pool": "am"}]}', 'test') AS version;
SELECT leadroute.activate_policy('accounts_match');
SELECT leadroute.create_leads_table('leads', 'accounts_match');
CREATE VIEW matches AS
    SELECT l.external_id AS lead, p.output ->> 'status' AS status, account(p.output ->> 'account_id') AS account, p.output ->> 'type' AS type, p.output ->> 'match' AS match,
           p.output -> 'confidence' AS confidence, p.output -> 'open_opportunity' AS opportunity, account(p.output ->> 'ultimate_parent_id') AS parent,
           (SELECT string_agg(concat_ws(' ', account(c ->> 'account_id'), c ->> 'match', c ->> 'similarity', c -> 'agrees'), '; ' ORDER BY n)
            FROM jsonb_array_elements(p.output -> 'candidates') WITH ORDINALITY AS x (c, n)) AS candidates, p.output, p.confidence AS step_confidence
    FROM leads l JOIN leadroute.lead_states s USING (lead_id) JOIN leadroute.provenance p ON p.decision_id = s.run_id
    WHERE p.capability = 'matchAccount';
INSERT INTO leads (external_id, company, domain, email, phone, country, attributes) VALUES
    ('01 own domain', NULL, 'AMTEST-acme.de', NULL, NULL, NULL, NULL),
    ('02 business mail', NULL, NULL, 'jane@amtest-acme.fr', NULL, NULL, NULL),
    ('03 further domain', NULL, NULL, 'jane@amtest-acme.eu', NULL, NULL, NULL),
    ('04 own before mail', NULL, 'amtest-acme.de', 'jane@amtest-acme.fr', NULL, NULL, NULL),
    ('05 mail where own is unknown', NULL, 'amtest-unknown.example', 'jane@amtest-acme.fr', NULL, NULL, NULL),
    ('06 free mail', NULL, NULL, 'jane@gmail.com', NULL, NULL, NULL),
    ('07 free domain', NULL, 'gmail.com', NULL, NULL, NULL, NULL),
    ('08 hosting service', NULL, 'github.io', 'jane@github.io', NULL, NULL, NULL),
    ('09 hosted', NULL, 'amtest.github.io', NULL, NULL, NULL, NULL),
    ('10 name, country', 'AMTEST ACME AG', NULL, 'jane@gmail.com', NULL, 'FR', NULL),
    ('11 name, no country', 'Amtest-Acme', NULL, NULL, NULL, NULL, NULL),
    ('12 name, other country', 'Amtest Acme', NULL, NULL, NULL, 'US', NULL),
    ('13 name, account without country', 'amtest nowhere inc.', NULL, NULL, NULL, 'US', NULL),
    ('14 domain and name', 'Amtest Acme', 'amtest-acme.fr', NULL, NULL, NULL, NULL),
    ('15 alike, root', 'Amtest Widgets Internat', 'amtest-widgets.com', NULL, NULL, NULL, NULL),
    ('16 alike, phone', 'Amtest Widgets Intern', NULL, NULL, '020 7946 0123', 'GB', NULL),
    ('17 alike, postcode', 'Amtest Widget International', NULL, NULL, NULL, 'GB', '{"postcode": "sw1a1aa"}'),
    ('18 alike, all', 'Amtest Widget Internat.', 'amtest-widgets.org', NULL, '+44 20 7946 0123', 'GB', '{"postcode": "SW1A 1AA"}'),
    ('19 alike, nothing agrees', 'Amtest Widget International', NULL, NULL, NULL, 'GB', '{"postcode": "SW1A 2AA"}'),
    ('20 postcode of another country', 'Amtest Widget International', NULL, NULL, NULL, 'US', '{"postcode": "SW1A 1AA"}'),
    ('21 not alike, root', 'Zebra', 'amtest-widgets.com', NULL, NULL, NULL, NULL),
    ('22 number', 'Amtest Acmee', NULL, NULL, NULL, 'DE', '{"postcode": 10115}'),
    ('23 nothing', NULL, NULL, NULL, '+44 20 7946 0123', NULL, '{"postcode": "SW1A 1AA"}'),
    ('24 no account', 'Nobody Knows', 'amtest-nobody.example', NULL, NULL, NULL, NULL),
    ('25 legal form only', '& GmbH', NULL, NULL, NULL, NULL, NULL),
    ('26 account without name', 'X', 'amtest-bare.com', NULL, NULL, NULL, NULL);
SELECT lead, status, account, type, match, confidence, candidates FROM matches ORDER BY lead;

-- ties: open opportunity, type, lowest id; the lowest id alone makes it ambiguous
INSERT INTO leadroute.accounts (external_id, name, type) VALUES ('am-tie1', 'Amtest Tie', 'competitor'), ('am-tie2', 'Amtest Tie', 'prospect'), ('am-tie3', 'Amtest Tie', 'prospect');
INSERT INTO leads (external_id, company) VALUES ('t1 lowest id', 'amtest tie');
INSERT INTO leadroute.accounts (external_id, name, type) VALUES ('am-tie4', 'Amtest Tie', 'partner');
INSERT INTO leads (external_id, company) VALUES ('t2 partner', 'amtest tie');
INSERT INTO leadroute.accounts (external_id, name, type) VALUES ('am-tie5', 'Amtest Tie', 'customer');
INSERT INTO leads (external_id, company) VALUES ('t3 customer', 'amtest tie');
UPDATE leadroute.accounts SET opportunity_owner_id = (SELECT owner_id FROM leadroute.owners WHERE reference = 'am-opp') WHERE external_id = 'am-tie1';
INSERT INTO leads (external_id, company) VALUES ('t4 opportunity', 'amtest tie');
UPDATE leadroute.accounts SET domain = 'amtest-tie.com' WHERE external_id = 'am-tie3';
INSERT INTO leads (external_id, company, domain) VALUES ('t5 domain', 'amtest tie', 'amtest-tie.com');
SELECT lead, status, account, type, match, opportunity, candidates FROM matches WHERE lead LIKE 't%' ORDER BY lead;

-- parents: the top one; circles and accounts that are gone do no harm
INSERT INTO leadroute.accounts (external_id, domain, parent_external_id) VALUES ('am-top', 'amtest-top.com', NULL), ('am-mid', 'amtest-mid.com', 'am-top'), ('am-sub', 'amtest-sub.com', 'am-mid'),
    ('am-ring1', 'amtest-ring1.com', 'am-ring2'), ('am-ring2', 'amtest-ring2.com', 'am-ring1'), ('am-self', 'amtest-self.com', 'am-self'), ('am-orphan', 'amtest-orphan.com', 'am-none');
INSERT INTO leadroute.accounts (external_id, domain, parent_id) SELECT 'am-byid', 'amtest-byid.com', account_id FROM leadroute.accounts WHERE external_id = 'am-sub';
INSERT INTO leads (external_id, domain) SELECT 'p ' || d, 'amtest-' || d || '.com' FROM unnest('{top,mid,sub,byid,ring1,ring2,self,orphan}'::text[]) d;
SELECT lead, account, match, parent, output #>> '{candidates,0,ultimate_parent_id}' = output ->> 'ultimate_parent_id' AS listed FROM matches WHERE lead LIKE 'p %' ORDER BY lead;

-- who works the account, by role; the rule asks for them in its order
INSERT INTO leadroute.account_owners (account_id, role, owner_id)
    SELECT a.account_id, v.role, o.owner_id FROM (VALUES ('am-acme', 'AE', 'am-ae'), ('am-acme', 'CSM', 'am-csm'), ('am-acme', 'SDR', 'am-pool'), ('am-acme-fr', 'AE', 'am-ae')) AS v (account, role, owner)
    JOIN leadroute.accounts a ON a.external_id = v.account JOIN leadroute.owners o ON o.reference = v.owner;
UPDATE leadroute.accounts SET opportunity_owner_id = (SELECT owner_id FROM leadroute.owners WHERE reference = 'am-ae') WHERE external_id = 'am-acme';
INSERT INTO leads (external_id, domain) VALUES ('o customer', 'amtest-acme.de'), ('o prospect', 'amtest-acme.fr'), ('o nobody', 'amtest-top.com');
SELECT m.lead, (SELECT string_agg(o.key || ' ' || owner(o.value), ', ' ORDER BY o.key COLLATE "C") FROM jsonb_each_text(m.output -> 'owners') o) AS owners,
       (SELECT string_agg(owner(o), ', ' ORDER BY n) FROM jsonb_array_elements_text(p.output -> 'account_owners') WITH ORDINALITY AS x (o, n)) AS asked_first
FROM matches m JOIN leads l ON l.external_id = m.lead JOIN leadroute.lead_states s USING (lead_id) JOIN leadroute.provenance p ON p.decision_id = s.run_id AND p.capability = 'assignOwner'
WHERE m.lead LIKE 'o %' ORDER BY 1;
SELECT regexp_replace(e, 'account \d+', 'account N', 'g') FROM leads l JOIN leadroute.lead_states s USING (lead_id), leadroute.explain_decision(s.run_id) e
WHERE l.external_id IN ('o customer', '18 alike, all') AND (e LIKE '%atchAccount%' OR e LIKE '       account%' OR e LIKE '%assignOwner%') ORDER BY l.external_id, e COLLATE "C";
SELECT DISTINCT step_confidence FROM matches WHERE lead IN ('o customer', '24 no account', '10 name, country') ORDER BY 1;

-- verified from the record, whatever the accounts are now
DELETE FROM leadroute.account_owners w USING leadroute.accounts a WHERE a.account_id = w.account_id AND a.external_id LIKE 'am-%';
UPDATE leadroute.accounts SET domain = NULL, name = 'Amtest Other', type = 'competitor' WHERE external_id LIKE 'am-acme%';
SELECT v.verdict, v.place, count(*) FROM leads JOIN leadroute.lead_states USING (lead_id), leadroute.verify_decision(run_id) v GROUP BY 1, 2 ORDER BY 1, 2;

-- very many of one key: 20 are listed, 1,000 looked at
INSERT INTO leadroute.accounts (external_id, name) SELECT 'am-many' || lpad(i::text, 4, '0'), 'Amtest Many' FROM generate_series(1, 1100) i;
INSERT INTO leads (external_id, company) VALUES ('m many', 'amtest many');
SELECT status, account, jsonb_array_length(output -> 'candidates') AS listed, output -> 'more_candidates' AS more, output -> 'not_all_looked_at' AS cut FROM matches WHERE lead = 'm many';
SELECT regexp_replace(e, 'account \d+', 'account N', 'g') FROM leads l JOIN leadroute.lead_states s USING (lead_id), leadroute.explain_decision(s.run_id) e
WHERE l.external_id = 'm many' AND e LIKE '       and%';

-- the step's own members
SELECT leadroute.publish_policy('accounts_match', '{
    "leadroute": 1, "steps": [{"capability": "validateContact", "stop_when": [], "free_mail": ["amtest-mid.com"]},
                              {"capability": "matchAccount", "similarity": 0.9, "postcode": "zip", "result": "ultimate_parent"}, {"capability": "assignOwner"}],
    "rules": [{"name": "rest", "when": "matchAccount.status = ''matched''", "pool": "am", "account_owner": "opportunity"}]}', 'test') AS version;
SELECT leadroute.activate_policy('accounts_match');
INSERT INTO leads (external_id, company, domain, email, country, attributes) VALUES
    ('s1 parent', NULL, 'amtest-sub.com', NULL, NULL, NULL), ('s2 top', NULL, 'amtest-top.com', NULL, NULL, NULL),
    ('s3 alike', 'Amtest Widget International', NULL, NULL, 'GB', '{"zip": "SW1A 1AA"}'), ('s4 less', 'Amtest Widget Intern', NULL, NULL, 'GB', '{"zip": "SW1A 1AA"}'),
    ('s5 other member', 'Amtest Widget International', NULL, NULL, 'GB', '{"postcode": "SW1A 1AA"}'), ('s6 free here', NULL, 'amtest-mid.com', 'x@amtest-mid.com', NULL, NULL);
SELECT lead, status, account, match, parent, candidates FROM matches WHERE lead LIKE 's%' ORDER BY lead;
SELECT v.verdict, v.place, count(*) FROM leads JOIN leadroute.lead_states USING (lead_id), leadroute.verify_decision(run_id) v GROUP BY 1, 2 ORDER BY 1, 2;

-- without validateContact before it, addresses and numbers are not known to be some; so they are not looked up
SELECT e.steps #>> '{0,output,status}' AS status, e.steps #>> '{0,output,match}' AS match
FROM unnest('{"{\"email\": \"x@amtest-top.com\"}","{\"email\": \"x@amtest-top.com\", \"domain\": \"amtest-top.com\"}"}'::jsonb[]) WITH ORDINALITY AS l (lead, n),
    leadroute.evaluate_document('{"leadroute": 1, "steps": [{"capability": "matchAccount"}]}', l.lead) e ORDER BY l.n;

-- mistakes
SELECT m.* FROM (VALUES (1, '{"similarity": 0.2}'::jsonb, '{}'::jsonb), (2, '{"similarity": "much"}', '{}'), (3, '{"postcode": 7}', '{}'), (4, '{"result": "child"}', '{}'), (5, '{}', '{"account_owner": []}'),
    (6, '{}', '{"account_owner": ["CSM", "", 7]}'), (7, '{}', '{"account_owner": {"x": 1}}'), (8, '{}', '{"account_owner": "CSM", "pool": null, "outcome": "nurture", "reason": "x"}'),
    (9, '{"capability": "computeLeadScore"}', '{"account_owner": "CSM"}'), (10, '{}', '{"account_owner": null}')) AS v (n, step, rule),
    LATERAL (SELECT v.n, p.* FROM leadroute.policy_mistakes(jsonb_build_object('leadroute', 1, 'steps', jsonb_build_array('{"capability": "matchAccount"}'::jsonb || v.step, '{"capability": "assignOwner"}'::jsonb),
        'rules', jsonb_build_array(jsonb_strip_nulls('{"name": "r", "when": "true", "pool": "am"}'::jsonb || v.rule)))) p) m ORDER BY m.n, 2;

-- drafts: a list is a column, a text stays as it is
SELECT leadroute.create_draft('accounts_match', 'accounts_match');
SELECT account_owner, others FROM leadroute.draft_rules WHERE draft = 'accounts_match';
UPDATE leadroute.draft_rules SET account_owner = '{CSM,AE}' WHERE draft = 'accounts_match';
SELECT leadroute.draft_document('accounts_match') #> '{rules,0,account_owner}' AS list;
SELECT leadroute.load_draft('accounts_match', leadroute.draft_document('accounts_match')), (SELECT account_owner FROM leadroute.draft_rules WHERE draft = 'accounts_match');
SELECT leadroute.discard_draft('accounts_match', 'test');

-- privacy: nothing of an account but its id is in entries, views and explanations; and nothing of leads that is not plain
SELECT count(*) FROM leads JOIN leadroute.entries e USING (lead_id) WHERE encode(e.evidence, 'escape') ~* 'amtest|widget|acme|7946|SW1A';
SELECT count(*) FROM leads JOIN leadroute.lead_states s USING (lead_id) JOIN leadroute.provenance p ON p.decision_id = s.run_id WHERE p.output::text ~* 'amtest|widget|acme|7946|SW1A';

DROP SCHEMA accounts_match CASCADE;
DELETE FROM leadroute.accounts WHERE external_id LIKE 'am-%';
SELECT count(*) FROM leadroute.account_domains;
