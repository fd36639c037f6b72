-- merge_leads() follows what was merged in the CRM: merged leads are worked no longer, their survivor stands for them, with an owner if
-- any of them had one. The same merge again changes nothing; chains are followed; a merged row routes nothing any more, and that is listed.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA persons_merges;
SET search_path TO persons_merges;
INSERT INTO leadroute.pools (name) VALUES ('merges');
SELECT pool_id AS pool FROM leadroute.pools WHERE name = 'merges' \gset
INSERT INTO leadroute.owners (reference) VALUES ('merges a'), ('merges b'), ('merges c');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT :pool, owner_id FROM leadroute.owners WHERE reference LIKE 'merges _' ORDER BY reference;
SELECT leadroute.publish_policy('merges', '{"leadroute": 1, "steps": [{"capability": "validateContact"}, {"capability": "assignOwner", "known_person": "same_owner"}],
    "rules": [{"name": "later", "when": "source = ''later''", "outcome": "nurture", "reason": "later"}, {"name": "all", "when": "true", "pool": "merges"}]}', 'test') AS version;
SELECT leadroute.activate_policy('merges') AS version;
-- ids as no other test has them
CREATE TABLE leads (id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'), email text, source text);
SELECT leadroute.attach_table('leads', policy => 'merges', reroute_on => ARRAY['email', 'source']) > 0 AS attached;
CREATE TABLE keyed (name text PRIMARY KEY, email text, source text);
SELECT leadroute.attach_table('keyed', policy => 'merges', reroute_on => ARRAY['email', 'source']) > 0 AS attached;
CREATE VIEW states AS
    SELECT s.lead_id - 7000000000 AS lead, s.outcome, s.reason_code, right(o.reference, 1) AS owner, s.closed_at IS NOT NULL AS closed, s.closed_reason,
           leadroute.surviving_lead(s.lead_id) - 7000000000 AS survivor, s.accepted_at IS NOT NULL AS accepted, v.verdict
    FROM leadroute.lead_states s LEFT JOIN leadroute.owners o USING (owner_id)
    CROSS JOIN LATERAL (SELECT string_agg(v.verdict, ', ' ORDER BY v.verdict) AS verdict FROM leadroute.verify_decision(s.run_id) v) v
    WHERE s.lead_id BETWEEN 7000000000 AND 7000000099 ORDER BY 1;
CREATE FUNCTION merge(survivor bigint, VARIADIC merged bigint[]) RETURNS TABLE (merged_lead bigint, survivor_lead bigint, changed boolean) LANGUAGE sql AS $$
    SELECT merged_lead_id - 7000000000, survivor_lead_id - 7000000000, changed
    FROM leadroute.merge_leads(survivor + 7000000000, ARRAY(SELECT 7000000000 + u FROM unnest(merged) AS u), 'duplicates in the CRM') $$;
CREATE FUNCTION refuse(command text) RETURNS TABLE (state text, message text, detail text, hint text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN NEXT;
END $$;

INSERT INTO leads SELECT 7000000000 + i, 'p' || i || '@acme.example', CASE WHEN i IN (4, 5, 6, 9) THEN 'later' END FROM generate_series(1, 9) AS i;
SELECT * FROM states;
-- the survivor keeps its owner; again, nothing happens; one more is added
SELECT * FROM merge(1, 2);
SELECT * FROM merge(1, 2);
SELECT * FROM merge(1, 2, 3, 3);
SELECT * FROM states WHERE lead <= 3;
SELECT merged_lead_id - 7000000000 AS merged, survivor_lead_id - 7000000000 AS survivor, merged_by = current_user::regrole AS by_me, reason, changed_at FROM leadroute.lead_merges WHERE merged_lead_id > 7000000000 ORDER BY 1;
-- no owner: that of whoever responded or accepted last, and a decision of its own
UPDATE leadroute.lead_states SET accepted_at = '2026-03-01 09:00+00' WHERE lead_id = 7000000007;
SELECT * FROM merge(4, 7, 8);
SELECT * FROM states WHERE lead IN (4, 7, 8);
SELECT regexp_replace(regexp_replace(e, '\d\d\d\d-[-0-9 :.]+', 'then ', 'g'), 'decision \d+', 'decision N', 'gi') AS explained
FROM leadroute.lead_states s, leadroute.explain_decision(s.run_id) e WHERE s.lead_id = 7000000004;
SELECT d.cause, d.mode, d.owner, d.reason_code, d.note, d.current, d.supersedes IS NOT NULL AS supersedes FROM leadroute.decisions d WHERE d.lead_id = 7000000004 ORDER BY d.decision_id;
-- nobody among them has an owner: nothing to take over
SELECT * FROM merge(5, 6);
SELECT * FROM states WHERE lead IN (5, 6);
-- chains: into one that was merged is into its survivor; the survivor merged on takes all along
SELECT * FROM merge(6, 9);
SELECT * FROM merge(1, 5);
SELECT * FROM merge(1, 5, 6, 9);
SELECT lead, survivor, closed_reason FROM states;
-- what makes no sense
SELECT * FROM refuse('SELECT leadroute.merge_leads(7000000001, ARRAY[7000000001])');
SELECT * FROM refuse('SELECT leadroute.merge_leads(7000000002, ARRAY[7000000001])');
SELECT * FROM refuse('SELECT leadroute.merge_leads(7000000004, ARRAY[7000000002])');
SELECT * FROM refuse('SELECT leadroute.merge_leads(7000000001, ARRAY[7000000050])');
SELECT * FROM refuse('SELECT leadroute.merge_leads(7000000050, ARRAY[7000000001])');
SELECT * FROM refuse('SELECT leadroute.merge_leads(7000000001, ARRAY[7000000004, NULL])');
SELECT * FROM refuse('SELECT leadroute.merge_leads(7000000001, NULL)');
SELECT * FROM leadroute.merge_leads(7000000001, '{}');

-- a merged row routes nothing any more: by change, by hand, by catching up; it is no problem either
UPDATE leads SET source = 'later' WHERE id IN (7000000001, 7000000002);
SELECT lead, outcome, closed_reason FROM states WHERE lead <= 2;
UPDATE leads SET source = NULL WHERE id IN (7000000001, 7000000002);
SET leadroute.enabled = off;
UPDATE leads SET source = 'later' WHERE id = 7000000003;
RESET leadroute.enabled;
SELECT lead, outcome, closed_reason FROM states WHERE lead <= 3;
SELECT * FROM refuse('SELECT leadroute.route_lead(7000000002)');
SELECT leadroute.route_pending('leads') AS routed;
SELECT count(*) AS unrouted FROM leadroute.unrouted('leads');
SELECT * FROM leadroute.reconcile('leads');
SELECT merged_lead_id - 7000000000 AS merged FROM leadroute.lead_merges WHERE changed_at IS NOT NULL AND merged_lead_id > 7000000000 ORDER BY 1;
SELECT t.lead_id - 7000000000 AS lead, t.event, t.outcome, CASE WHEN t.reason_code LIKE '%lead%' THEN replace(t.reason_code, '70000000', '') ELSE t.reason_code END AS reason_code, t.owner, t.note
FROM leadroute.lead_timeline t WHERE t.lead_id IN (7000000001, 7000000002) ORDER BY t.lead_id, t.at, t.event, t.reason_code;

-- merged after its row went, as many CRMs do; not into one that is gone
DELETE FROM leads WHERE id IN (7000000004, 7000000002);
SELECT lead, closed_reason, survivor FROM states WHERE lead IN (2, 4, 7);
-- what people do with a merged lead is meant for the one that stands for it
SELECT * FROM refuse('SELECT leadroute.close_lead(7000000002, ''won'')');
SELECT * FROM refuse('SELECT leadroute.reopen_lead(7000000002)');
SELECT * FROM refuse('SELECT leadroute.merge_leads(7000000007, ARRAY[7000000001])');
SELECT * FROM merge(1, 4);
SELECT lead, closed_reason, survivor FROM states WHERE lead IN (2, 4, 7);
-- an id that is used again is another lead
INSERT INTO leads VALUES (7000000002, 'again@acme.example');
SELECT lead, outcome, closed, survivor FROM states WHERE lead = 2;
SELECT * FROM merge(1, 2);
SELECT lead, closed, survivor FROM states WHERE lead = 2;
TRUNCATE leads;

-- persons: those of all are one from then on, and theirs is the survivor's owner
INSERT INTO leads VALUES (7000000021, 'ada@acme.example'), (7000000022, 'ada@private.example'), (7000000023, NULL), (7000000024, 'ada@private.example');
SELECT changed FROM merge(21, 22, 23);
SELECT l.lead_id - 7000000000 AS lead, dense_rank() OVER (ORDER BY l.person_id) AS person, (SELECT count(*) FROM leadroute.person_keys k WHERE k.person_id = l.person_id) AS keys FROM leadroute.person_leads l WHERE l.lead_id BETWEEN 7000000000 AND 7000000099 ORDER BY 1;
INSERT INTO leads VALUES (7000000025, 'ada@private.example');
SELECT a.owner_id = b.owner_id AS same_owner FROM leadroute.lead_states a, leadroute.lead_states b WHERE a.lead_id = 7000000025 AND b.lead_id IN (7000000024);
-- the survivor had none: it has the merged one's
INSERT INTO leads VALUES (7000000031, 'info@acme.example'), (7000000032, 'bob@acme.example');
SELECT changed FROM merge(31, 32);
INSERT INTO leads VALUES (7000000033, 'bob@acme.example');
SELECT a.owner_id = b.owner_id AS same_owner FROM leadroute.lead_states a, leadroute.lead_states b WHERE a.lead_id = 7000000033 AND b.lead_id = 7000000031;

-- leads of several tables
INSERT INTO keyed VALUES ('x', 'x@acme.example', 'later'), ('y', 'y@acme.example', NULL);
SELECT m.changed FROM leadroute.merge_leads(leadroute.lead_of('keyed', 'x'), ARRAY[7000000033, leadroute.lead_of('keyed', 'y')]) m;
SELECT s.outcome, s.reason_code, s.closed_reason FROM leadroute.lead_states s WHERE s.lead_id IN (leadroute.lead_of('keyed', 'x'), leadroute.lead_of('keyed', 'y')) ORDER BY s.lead_id;
-- pending: it will be decided on; rejected: it stays so
SET leadroute.enabled = off;
INSERT INTO keyed VALUES ('waits', 'w@acme.example', NULL);
RESET leadroute.enabled;
INSERT INTO keyed VALUES ('no', 'no address', NULL), ('z', 'z@acme.example', NULL), ('v', 'v@acme.example', NULL);
SELECT m.changed FROM leadroute.merge_leads(leadroute.lead_of('keyed', 'waits'), ARRAY[leadroute.lead_of('keyed', 'v')]) m;
SELECT changed FROM leadroute.merge_leads(leadroute.lead_of('keyed', 'no'), ARRAY[leadroute.lead_of('keyed', 'z')]);
SELECT s.outcome, s.reason_code FROM leadroute.lead_states s WHERE s.lead_id IN (leadroute.lead_of('keyed', 'waits'), leadroute.lead_of('keyed', 'no')) ORDER BY s.lead_id;
SELECT leadroute.route_pending('keyed') AS routed;
SELECT * FROM leadroute.reconcile('keyed');
-- who waits in an overflow is given to who worked on the other one, and waits no longer
INSERT INTO leads VALUES (7000000041, 'm41@acme.example');
INSERT INTO leadroute.caps (owner_id, per, maximum) SELECT owner_id, 'open', 0 FROM leadroute.owners WHERE reference LIKE 'merges _';
INSERT INTO leads VALUES (7000000042, 'm42@acme.example');
SELECT lead, outcome, reason_code, owner IS NOT NULL AS owned FROM states WHERE lead > 40;
SELECT changed FROM merge(42, 41);
SELECT lead, outcome, reason_code, owner IS NOT NULL AS owned, survivor, verdict FROM states WHERE lead > 40;
SELECT count(*) FROM leadroute.overflow_leads WHERE lead_id = 7000000042;
SELECT agree, count(*) FROM (SELECT taken = recounted AS agree FROM leadroute.cap_usage() WHERE owner LIKE 'merges _') AS u GROUP BY 1;
DELETE FROM leadroute.caps c USING leadroute.owners o WHERE o.owner_id = c.owner_id AND o.reference LIKE 'merges _';

-- who may
SET ROLE leadroute_author;
SELECT * FROM leadroute.merge_leads(7000000001, ARRAY[7000000002]);
RESET ROLE;
DROP SCHEMA persons_merges CASCADE;
DELETE FROM leadroute.lead_merges;
DELETE FROM leadroute.pool_members WHERE pool_id = :pool;
DELETE FROM leadroute.pools WHERE pool_id = :pool;
DELETE FROM leadroute.owners WHERE reference LIKE 'merges _';
SELECT (SELECT count(*) FROM leadroute.person_keys) AS keys, (SELECT count(*) FROM leadroute.person_leads) AS leads;
