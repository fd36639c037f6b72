-- A lead of a person who is known already goes to the same owner, if still there, and says so: by e-mail address or phone number, in
-- one statement or several, by insert, change or hand. Where the policy does not ask for it, nothing is kept.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA persons_same_owner;
SET search_path TO persons_same_owner;
INSERT INTO leadroute.pools (name) VALUES ('persons');
SELECT pool_id AS pool FROM leadroute.pools WHERE name = 'persons' \gset
INSERT INTO leadroute.owners (reference) VALUES ('persons a'), ('persons b'), ('persons c');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT :pool, owner_id FROM leadroute.owners WHERE reference LIKE 'persons _' ORDER BY reference;

-- the member, and what is wrong with it
SELECT place, problem, hint FROM leadroute.policy_mistakes('{"leadroute": 1, "steps": [{"capability": "assignOwner", "known_person": "same_owner"}], "rules": []}') WHERE place LIKE 'steps%';
SELECT place, problem, hint FROM leadroute.policy_mistakes('{"leadroute": 1, "steps": [{"capability": "validateContact", "known_person": "same_owner"}, {"capability": "assignOwner", "known_person": "any"}], "rules": []}') WHERE place LIKE 'steps%';
SELECT leadroute.publish_policy('persons off', '{"leadroute": 1, "steps": [{"capability": "validateContact"}, {"capability": "assignOwner"}],
    "rules": [{"name": "all", "when": "true", "pool": "persons"}]}', 'test') AS version;
SELECT leadroute.activate_policy('persons off') AS version;
SELECT leadroute.publish_policy('persons', '{"leadroute": 1, "steps": [{"capability": "validateContact"}, {"capability": "assignOwner", "known_person": "same_owner"}],
    "rules": [{"name": "later", "when": "source = ''later''", "outcome": "nurture", "reason": "later"}, {"name": "all", "when": "true", "pool": "persons"}]}', 'test') AS version;
SELECT leadroute.activate_policy('persons') AS version;
CREATE TABLE leads (id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'), n serial, email text, phone text, country text DEFAULT 'DE', source text);
SELECT leadroute.attach_table('leads', policy => 'persons', reroute_on => ARRAY['email', 'phone', 'source']) > 0 AS attached;
CREATE TABLE off (id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'), n serial, email text, phone text);
SELECT leadroute.attach_table('off', policy => 'persons off') > 0 AS attached;
CREATE VIEW given AS
    SELECT l.n, right(o.reference, 1) AS owner, s.outcome, e.turn, x.n AS like_lead, v.verdict
    FROM leads l JOIN leadroute.lead_states s ON s.lead_id = l.id JOIN leadroute.entries e USING (run_id) LEFT JOIN leadroute.owners o ON o.owner_id = s.owner_id
    LEFT JOIN LATERAL (SELECT (p.output #>> '{preferred,lead_id}')::bigint AS id FROM leadroute.provenance p WHERE p.decision_id = s.run_id AND p.capability = 'assignOwner') k ON true
    LEFT JOIN leads x ON x.id = k.id
    CROSS JOIN LATERAL (SELECT string_agg(v.verdict, ', ') AS verdict FROM leadroute.verify_decision(s.run_id) v) v ORDER BY l.n;
CREATE VIEW kept AS
    SELECT dense_rank() OVER (ORDER BY p.first) AS person, p.keys, p.leads
    FROM (SELECT k.person_id, min(l.n) AS first, (SELECT string_agg(x.kind || CASE WHEN x.shared THEN ' (shared)' ELSE '' END, ', ' ORDER BY x.kind, x.shared) FROM leadroute.person_keys x WHERE x.person_id = k.person_id) AS keys,
                 string_agg(l.n::text, ', ' ORDER BY l.n) AS leads
          FROM leadroute.person_leads k JOIN leads l ON l.id = k.lead_id GROUP BY 1) p;
CREATE FUNCTION empty() RETURNS void LANGUAGE sql AS $$ DELETE FROM persons_same_owner.leads; SELECT setval('persons_same_owner.leads_n_seq', 1, false); $$;

-- off: three leads of one person, three owners, and nothing is kept
INSERT INTO off (email) VALUES ('ada@acme.example');
INSERT INTO off (email) VALUES ('ada@acme.example');
INSERT INTO off (email) VALUES ('ada@acme.example');
SELECT count(DISTINCT s.owner_id) AS owners, (SELECT count(*) FROM leadroute.person_keys) + (SELECT count(*) FROM leadroute.person_leads) AS kept FROM off JOIN leadroute.lead_states s ON s.lead_id = off.id;
DELETE FROM off;

-- one after the other; the address in another spelling; by the number; somebody else in between
INSERT INTO leads (email, phone) VALUES ('ada@acme.example', '030 1234567');
INSERT INTO leads (email) VALUES ('bob@acme.example');
INSERT INTO leads (email) VALUES ('  ADA@Acme.Example ');
INSERT INTO leads (phone) VALUES ('+49 30 1234567');
INSERT INTO leads (email) VALUES ('bob@acme.example');
SELECT * FROM given;
SELECT * FROM kept;
-- neither a value nor a digest of the record
SELECT count(*) FROM leadroute.person_keys k, leadroute.entries e WHERE position(k.digest IN e.evidence) > 0 OR position('acme' IN encode(k.digest, 'escape')) > 0;
SELECT regexp_replace(regexp_replace(e, '(ecision|lead) \d+', '\1 N', 'g'), '\d\d\d\d-[-0-9 :.]+', 'then ', 'g') AS explained
FROM leads l JOIN leadroute.lead_states s ON s.lead_id = l.id, leadroute.explain_decision(s.run_id) e WHERE l.n = 3;
-- by hand, alone and together: nothing changed, the decisions stand
SELECT changed, count(*) FROM leadroute.route_leads(ARRAY(SELECT id FROM leads)) GROUP BY 1;
SELECT changed, count(*) FROM leads, leadroute.route_leads(ARRAY[id]) GROUP BY 1;
SELECT empty();
SELECT count(*) AS keys_left FROM leadroute.person_keys;

-- in one statement: the second follows the first, which has no owner yet
INSERT INTO leads (email) SELECT 'p' || i % 4 || '@acme.example' FROM generate_series(0, 11) AS i;
SELECT * FROM given;
SELECT changed, count(*) FROM leadroute.route_leads(ARRAY(SELECT id FROM leads)) GROUP BY 1;
SELECT changed, count(*) FROM leads, leadroute.route_leads(ARRAY[id]) GROUP BY 1;
SELECT empty();
-- also across batches, and where the first of them goes to nobody
SET leadroute.batch_size = 2;
INSERT INTO leads (email, source) SELECT 'p' || i % 2 || '@acme.example', CASE WHEN i = 0 THEN 'later' END FROM generate_series(0, 7) AS i;
RESET leadroute.batch_size;
SELECT * FROM given;
SELECT empty();
INSERT INTO leads (email, source) SELECT 'p' || i % 2 || '@acme.example', CASE WHEN i = 0 THEN 'later' END FROM generate_series(0, 7) AS i;
SELECT * FROM given;
SELECT empty();

-- in other company than before, nothing changes
SET leadroute.batch_size = 3;
INSERT INTO leads (email) SELECT 'ada@acme.example' FROM generate_series(1, 11);
SET leadroute.batch_size = 4;
SELECT changed, count(*) FROM leadroute.route_leads(ARRAY(SELECT id FROM leads WHERE n <> 5)) GROUP BY 1;
SELECT changed, count(*) FROM leads, leadroute.route_leads(ARRAY[id]) GROUP BY 1;
RESET leadroute.batch_size;
SELECT empty();

-- what identifies nobody: addresses of roles, disposable ones, numbers that came with two addresses, what is malformed
INSERT INTO leads (email) VALUES ('info@acme.example'), ('x@mailinator.com'), ('no address');
INSERT INTO leads (email) VALUES ('info@acme.example'), ('x@mailinator.com'), ('no address');
SELECT count(*) AS kept FROM kept;
INSERT INTO leads (email, phone) VALUES ('ada@acme.example', '030 1234567');
INSERT INTO leads (email, phone) VALUES ('bob@acme.example', '030 1234567');
INSERT INTO leads (phone) VALUES ('030 1234567');
SELECT * FROM kept;
SELECT n, turn IS NOT NULL AS drew, like_lead FROM given WHERE n > 6;
SELECT empty();
INSERT INTO leads (email, phone) VALUES ('ada@acme.example', '030 1234567'), ('bob@acme.example', '030 1234567'), (NULL, '030 1234567');
SELECT * FROM kept;
SELECT empty();

-- a number alone makes somebody known; an address that comes with it says who it is, and what both brought is one person's
INSERT INTO leads (phone) VALUES ('030 1234567');
INSERT INTO leads (email, phone) VALUES ('ada@acme.example', '030 1234567');
INSERT INTO leads (phone) VALUES ('030 7654321');
INSERT INTO leads (email, phone) VALUES ('ada@acme.example', '030 7654321');
INSERT INTO leads (phone) VALUES ('030 7654321');
SELECT * FROM kept;
SELECT n, turn IS NOT NULL AS drew, like_lead FROM given;
SELECT empty();
INSERT INTO leads (email, phone) VALUES (NULL, '030 1234567'), ('ada@acme.example', NULL), ('ada@acme.example', '030 1234567'), (NULL, '030 1234567');
SELECT * FROM kept;
SELECT n, turn IS NOT NULL AS drew, like_lead FROM given;
SELECT empty();

-- still there? switched off, before the first and after the last day, gone from the pool
INSERT INTO leads (email) VALUES ('ada@acme.example');
SELECT s.owner_id AS first FROM leads l JOIN leadroute.lead_states s ON s.lead_id = l.id \gset
UPDATE leadroute.owners SET available = false WHERE owner_id = :first;
INSERT INTO leads (email) VALUES ('ada@acme.example');
UPDATE leadroute.owners SET available = true WHERE owner_id = :first;
SELECT n, s.owner_id = :first AS same_as_first, turn IS NOT NULL AS drew FROM leads l JOIN leadroute.lead_states s ON s.lead_id = l.id JOIN leadroute.entries e USING (run_id) ORDER BY n;
-- the latest by its id
INSERT INTO leads (email) VALUES ('ada@acme.example');
SELECT n, like_lead FROM given WHERE n = 3;
SELECT empty();
INSERT INTO leads (email) VALUES ('ada@acme.example');
SELECT s.owner_id AS first FROM leads l JOIN leadroute.lead_states s ON s.lead_id = l.id \gset
UPDATE leadroute.owners SET timezone = 'Pacific/Kiritimati', ends_on = ((now() AT TIME ZONE 'Pacific/Kiritimati') - interval '1 day')::date WHERE owner_id = :first;
BEGIN;
INSERT INTO leads (email) VALUES ('ada@acme.example');
SELECT turn IS NOT NULL AS drew FROM given WHERE n = 2;
ROLLBACK;
UPDATE leadroute.owners SET starts_on = NULL, ends_on = (now() AT TIME ZONE 'Pacific/Kiritimati')::date WHERE owner_id = :first;
DELETE FROM leadroute.pool_members WHERE owner_id = :first;
INSERT INTO leads (email) VALUES ('ada@acme.example');
SELECT s.owner_id = :first AS same_as_first, e.turn IS NULL AS drew_none FROM leads l JOIN leadroute.lead_states s ON s.lead_id = l.id JOIN leadroute.entries e USING (run_id) WHERE l.n = 3;
-- who is no member of the pool has no place among its candidates, and the decision stands all the same
SELECT changed, count(*) FROM leadroute.route_leads(ARRAY(SELECT id FROM leads WHERE n = 3)) GROUP BY 1;
UPDATE leadroute.owners SET timezone = 'UTC', ends_on = NULL WHERE owner_id = :first;
INSERT INTO leadroute.pool_members (pool_id, owner_id) VALUES (:pool, :first);
-- nobody in the pool is available, but who has the person's lead is
UPDATE leadroute.owners SET available = false WHERE reference LIKE 'persons _' AND owner_id <> :first;
DELETE FROM leadroute.pool_members WHERE owner_id = :first;
INSERT INTO leads (email) VALUES ('ada@acme.example'), ('new@acme.example'), ('new@acme.example');
SELECT n, outcome, turn, like_lead, verdict FROM given WHERE n > 3;
UPDATE leadroute.owners SET available = true WHERE reference LIKE 'persons _';
INSERT INTO leadroute.pool_members (pool_id, owner_id) VALUES (:pool, :first);
SELECT empty();

-- a lead that becomes somebody else's, and one that becomes nobody's; whose last lead it was is forgotten
INSERT INTO leads (email) VALUES ('ada@acme.example'), ('bob@acme.example'), ('cyd@acme.example');
SELECT count(DISTINCT owner) AS owners FROM given;
UPDATE leads SET email = 'bob@acme.example' WHERE n = 1;
SELECT * FROM kept;
SELECT n, turn IS NOT NULL AS drew, like_lead, verdict FROM given;
UPDATE leads SET email = 'info@acme.example' WHERE n = 3;
SELECT * FROM kept;
UPDATE leads SET source = 'later' WHERE n = 1;
SELECT n, outcome, like_lead FROM given;
SELECT empty();

-- erased: with the last lead, by DELETE, TRUNCATE and DROP
INSERT INTO leads (email, phone) VALUES ('ada@acme.example', '030 1234567');
INSERT INTO leads (email) VALUES ('ada@acme.example'), ('bob@acme.example');
DELETE FROM leads WHERE n = 1;
SELECT * FROM kept;
DELETE FROM leads WHERE n = 2;
SELECT * FROM kept;
TRUNCATE leads;
SELECT (SELECT count(*) FROM leadroute.person_keys) AS keys, (SELECT count(*) FROM leadroute.person_leads) AS leads;
INSERT INTO leads (email) VALUES ('ada@acme.example');
CREATE TABLE more (id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'), email text);
SELECT leadroute.attach_table('more', policy => 'persons') > 0 AS attached;
INSERT INTO more (email) VALUES ('ada@acme.example'), ('dan@acme.example');
SELECT (SELECT count(*) FROM leadroute.person_keys) AS keys, (SELECT count(*) FROM leadroute.person_leads) AS leads;
DROP TABLE more;
SELECT (SELECT count(*) FROM leadroute.person_keys) AS keys, (SELECT count(*) FROM leadroute.person_leads) AS leads;
-- a change of the key of digests: found by the old one, known by both from then on
BEGIN;
INSERT INTO leadroute.digest_keys (key_id, key) SELECT max(key_id) + 1, decode(repeat('5a', 32), 'hex') FROM leadroute.digest_keys;
INSERT INTO leads (email) VALUES ('ada@acme.example'), ('new@acme.example');
SELECT n, turn IS NOT NULL AS drew, like_lead, verdict FROM given;
SELECT * FROM kept;
ROLLBACK;
-- rolled back, nothing is known
BEGIN;
INSERT INTO leads (email) VALUES ('eve@acme.example');
ROLLBACK;
INSERT INTO leads (email) VALUES ('eve@acme.example');
SELECT turn IS NOT NULL AS drew FROM given ORDER BY n DESC LIMIT 1;
-- beside another router nothing is noted, and a shadow notes nothing
SELECT leadroute.set_table_mode('leads', 'observe');
INSERT INTO leads (email) VALUES ('fay@acme.example'), ('fay@acme.example'), ('eve@acme.example');
SELECT d.mode, count(*), count(DISTINCT d.owner) AS owners FROM leads l JOIN leadroute.decisions d ON d.lead_id = l.id WHERE l.email LIKE 'fay%' GROUP BY 1;
SELECT * FROM kept;
SELECT DISTINCT verdict FROM given;

-- in the shadow of a candidate that leads elsewhere: leads follow each other there, too, and both decisions verify
SELECT leadroute.set_table_mode('leads', 'route');
INSERT INTO leadroute.pools (name) VALUES ('persons too');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT p.pool_id, o.owner_id FROM leadroute.pools p, leadroute.owners o WHERE p.name = 'persons too' AND o.reference LIKE 'persons _';
SELECT leadroute.publish_policy('persons', '{"leadroute": 1, "steps": [{"capability": "validateContact"}, {"capability": "assignOwner", "known_person": "same_owner"}],
    "rules": [{"name": "too", "when": "true", "pool": "persons too"}]}', 'test') AS version;
SELECT leadroute.start_shadow('persons', 2) > 0 AS started;
INSERT INTO leads (email) SELECT 'g' || i % 2 || '@acme.example' FROM generate_series(1, 8) AS i;
SELECT d.mode, l.email, count(*) AS leads, count(DISTINCT d.owner) AS owners, count(d.turn) AS turns, bool_and(v.verdict = 'identical') AS verified
FROM leads l JOIN leadroute.decisions d ON d.lead_id = l.id CROSS JOIN LATERAL leadroute.verify_decision(d.decision_id) v WHERE l.email LIKE 'g%' GROUP BY 1, 2 ORDER BY 1, 2;
INSERT INTO leads (email) VALUES ('g0@acme.example');
SELECT d.mode, d.turn, v.verdict FROM leads l JOIN leadroute.decisions d ON d.lead_id = l.id CROSS JOIN LATERAL leadroute.verify_decision(d.decision_id) v
WHERE l.n = (SELECT max(n) FROM leads) ORDER BY 1;
SELECT d.mode, count(*) AS explained FROM leads l JOIN leadroute.decisions d ON d.lead_id = l.id CROSS JOIN LATERAL leadroute.explain_decision(d.decision_id) e WHERE e ~ 'already known: lead \d+, decided on' AND l.email LIKE 'g%' GROUP BY 1 ORDER BY 1;
SELECT leadroute.abort_trial('persons', 'enough');

-- a lead whose owner cannot take it goes to somebody else, and is not said to follow
UPDATE leadroute.pools SET strategy = 'balance' WHERE name = 'persons';
INSERT INTO leadroute.caps (owner_id, per, maximum) SELECT s.owner_id, 'open', 0 FROM leads l JOIN leadroute.lead_states s ON s.lead_id = l.id
    WHERE l.email = 'g0@acme.example' ORDER BY l.n DESC LIMIT 1;
INSERT INTO leads (email) VALUES ('g0@acme.example');
SELECT s.outcome, s.owner_id = (SELECT c.owner_id FROM leadroute.caps c JOIN leadroute.owners o USING (owner_id) WHERE o.reference LIKE 'persons _') AS follows,
       (SELECT count(*) FROM leadroute.explain_decision(s.run_id) e WHERE e LIKE 'Who:%') AS said
FROM leads l JOIN leadroute.lead_states s ON s.lead_id = l.id WHERE l.n = (SELECT max(n) FROM leads);
DELETE FROM leadroute.caps c USING leadroute.owners o WHERE o.owner_id = c.owner_id AND o.reference LIKE 'persons _';
UPDATE leadroute.pools SET strategy = 'rotation' WHERE name = 'persons';

-- who could not take a lead, or declined it, is not asked for it again each time that it is routed: it stays with whom it is
SELECT empty();
INSERT INTO leads (email) VALUES ('hal@acme.example');
INSERT INTO leadroute.caps (owner_id, per, maximum) SELECT s.owner_id, 'open', 1 FROM leads l JOIN leadroute.lead_states s ON s.lead_id = l.id;
INSERT INTO leads (email) VALUES ('hal@acme.example');
SELECT count(DISTINCT owner) AS owners FROM given;
SELECT changed FROM leads, leadroute.route_leads(ARRAY[id]) WHERE n = 2;
DELETE FROM leadroute.caps c USING leadroute.owners o WHERE o.owner_id = c.owner_id AND o.reference LIKE 'persons _';
SELECT changed FROM leads, leadroute.route_leads(ARRAY[id]) WHERE n = 2;
SELECT leadroute.decline_lead(id, 'no_capacity') IS NOT NULL AS declined FROM leads WHERE n = 2;
SELECT changed FROM leads, leadroute.route_leads(ARRAY[id]) WHERE n = 2;
-- what a rerouting shows is what it makes: a lead stays with the person's owner, whatever pool the rule leads to
SELECT empty();
INSERT INTO leads (email) VALUES ('ida@acme.example');
DELETE FROM leadroute.pool_members m USING leads l, leadroute.lead_states s, leadroute.pools p WHERE s.lead_id = l.id AND m.owner_id = s.owner_id AND p.pool_id = m.pool_id AND p.name = 'persons';
INSERT INTO leads (email, source) VALUES ('ida@acme.example', 'second');
SELECT l.n, r.action FROM leads l JOIN leadroute.reroute_leads('source = ''second''') r ON r.lead_id = l.id ORDER BY 1;
SELECT l.n, r.action FROM leads l JOIN leadroute.reroute_leads('source = ''second''', reason => 'test', dry_run => false) r ON r.lead_id = l.id ORDER BY 1;

DROP SCHEMA persons_same_owner CASCADE;
SELECT (SELECT count(*) FROM leadroute.person_keys) AS keys, (SELECT count(*) FROM leadroute.person_leads) AS leads;
DELETE FROM leadroute.pool_members m USING leadroute.pools p WHERE p.pool_id = m.pool_id AND p.name LIKE 'persons%';
DELETE FROM leadroute.pools WHERE name LIKE 'persons%';
DELETE FROM leadroute.owners WHERE reference LIKE 'persons _';
