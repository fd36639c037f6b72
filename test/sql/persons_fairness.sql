-- fairness_report() shows what each member of a pool got against what it was due by weight, over the leads that came while it was available.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA persons_fairness;
SET search_path TO persons_fairness;
INSERT INTO leadroute.pools (name) VALUES ('fairness');
SELECT pool_id AS pool FROM leadroute.pools WHERE name = 'fairness' \gset
INSERT INTO leadroute.owners (reference) VALUES ('fairness a'), ('fairness b'), ('fairness c');
INSERT INTO leadroute.pool_members (pool_id, owner_id, weight) SELECT :pool, owner_id, CASE reference WHEN 'fairness a' THEN 2 ELSE 1 END FROM leadroute.owners WHERE reference LIKE 'fairness _' ORDER BY reference;
SELECT leadroute.publish_policy('fairness', '{"leadroute": 1, "steps": [{"capability": "validateContact"}, {"capability": "assignOwner", "known_person": "same_owner"}],
    "rules": [{"name": "all", "when": "true", "pool": "fairness"}]}', 'test') AS version;
SELECT leadroute.activate_policy('fairness') AS version;
CREATE TABLE leads (id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'), n serial, email text);
SELECT leadroute.attach_table('leads', policy => 'fairness') > 0 AS attached;
-- nothing yet
SELECT * FROM leadroute.fairness_report('fairness');
-- 40 leads by weight; 20 more while a is away: 10 of these are due to each other member, none to a
INSERT INTO leads (email) SELECT 'p' || i || '@acme.example' FROM generate_series(1, 40) AS i;
UPDATE leadroute.owners SET available = false WHERE reference = 'fairness a';
INSERT INTO leads (email) SELECT 'q' || i || '@acme.example' FROM generate_series(1, 20) AS i;
UPDATE leadroute.owners SET available = true WHERE reference = 'fairness a';
SELECT owner, weight, weight_share, leads, share, due, difference, preferred, held FROM leadroute.fairness_report('fairness');
SELECT sum(leads) AS leads, sum(due) AS due, sum(difference) AS difference, sum(share) AS share, bool_and(abs(difference) < 1) AS within_one FROM leadroute.fairness_report('fairness');
-- leads of somebody who is known go past the rotation: it shows
SELECT s.owner_id AS first FROM leads l JOIN leadroute.lead_states s ON s.lead_id = l.id WHERE l.email = 'p1@acme.example' \gset
INSERT INTO leads (email) SELECT 'p1@acme.example' FROM generate_series(1, 8) AS i;
SELECT owner, leads, share, due, difference, preferred, held FROM leadroute.fairness_report('fairness');
-- expected values, as the states have them; a lead that was taken away counts as given, not as held
UPDATE leadroute.lead_states s SET expected_value = CASE WHEN l.n <= 4 THEN 100 ELSE 10 END FROM leads l WHERE l.id = s.lead_id AND l.n <= 40;
UPDATE leadroute.owners SET available = false WHERE owner_id = :first;
SELECT count(*) FROM leadroute.route_leads(ARRAY(SELECT id FROM leads WHERE n = 1));
UPDATE leadroute.owners SET available = true WHERE owner_id = :first;
SELECT owner, leads, held, expected_value, value_share, value_due, value_difference FROM leadroute.fairness_report('fairness');
-- who left the pool, and who has no row any more
DELETE FROM leadroute.pool_members WHERE owner_id IN (SELECT owner_id FROM leadroute.owners WHERE reference IN ('fairness b', 'fairness c'));
DELETE FROM leadroute.owners WHERE reference = 'fairness c';
SELECT regexp_replace(owner, '#\d+', '#N') AS owner, weight, weight_share, leads, due FROM leadroute.fairness_report('fairness') ORDER BY weight NULLS LAST, owner COLLATE "C" DESC;
SELECT count(*) FROM leadroute.fairness_report('fairness', now() + interval '1 day') WHERE leads > 0 OR share IS NOT NULL;
-- what is no pool, and who may
SELECT * FROM leadroute.fairness_report('fairnes');
SELECT * FROM leadroute.fairness_report(NULL);
SET ROLE leadroute_author;
SELECT count(*) FROM leadroute.fairness_report('fairness');
SET ROLE leadroute_agent;
SELECT count(*) FROM leadroute.fairness_report('fairness');
RESET ROLE;
DROP SCHEMA persons_fairness CASCADE;
DELETE FROM leadroute.pool_members WHERE pool_id = :pool;
DELETE FROM leadroute.pools WHERE pool_id = :pool;
DELETE FROM leadroute.owners WHERE reference LIKE 'fairness _';
