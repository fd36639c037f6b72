-- The member sla of rules: what is right, every mistake with its place, drafts, and working time.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET TimeZone = 'UTC';
CREATE SCHEMA slas_policy;
SET search_path TO slas_policy;
INSERT INTO leadroute.pools (name) VALUES ('slas desk'), ('slas heads');
CREATE FUNCTION rule(members jsonb) RETURNS jsonb LANGUAGE sql RETURN jsonb_build_object('leadroute', 1, 'steps', '[{"capability": "assignOwner"}]'::jsonb,
    'rules', jsonb_build_array('{"name": "a", "when": "true", "pool": "slas desk"}'::jsonb || members));
SELECT leadroute.policy_mistakes(rule('{"sla": {"start": "lead.assigned", "stop": "lead.responded", "within": "2 hours", "clock": "working", "ladder": [
    {"at": "50%", "do": "remind"}, {"at": "-30 minutes", "do": "remind"}, {"at": "0", "do": "reassign"}, {"at": "100%", "do": "notify", "pool": "slas heads"},
    {"at": "+1 hour", "do": "escalate", "pool": "slas heads"}, {"at": "200 %", "do": "notify"}]}}'));
SELECT leadroute.policy_mistakes(rule('{"sla": {"within": "2 hours"}, "first_response_within": "1 hour", "sla_clock": "wall"}'));
SELECT leadroute.policy_mistakes(rule('{"sla": null}'));
SELECT c.no, m.* FROM (VALUES
    (1, '{"sla": "2 hours"}'::jsonb), (2, '{"sla": {}}'), (3, '{"sla": {"within": "soon"}}'), (4, '{"sla": {"within": "-1 hour"}}'),
    (5, '{"sla": {"within": "2 hours", "start": "lead.lost", "stop": "lead.won", "clock": "sun", "steps": []}}'),
    (6, '{"sla": {"within": "2 hours", "start": "lead.accepted", "stop": "lead.accepted"}}'),
    (7, '{"sla": {"within": "2 hours", "ladder": {"at": "0"}}}'),
    (8, '{"sla": {"within": "2 hours", "ladder": [7, {}, {"at": "0", "do": "shout"}, {"at": "0", "do": "escalate"}, {"at": "0", "do": "remind", "pool": "slas heads"}]}}'),
    (9, '{"sla": {"within": "2 hours", "ladder": [{"at": "later", "do": "remind"}, {"at": "-3 hours", "do": "remind"}, {"at": "-20%", "do": "remind"}, {"at": "--1 hour", "do": "remind"}]}}'),
    (10, '{"sla": {"within": "2 hours", "ladder": [{"at": "0", "do": "remind"}, {"at": "50%", "do": "remind"}]}}'),
    (11, '{"sla": {"within": "2 hours", "ladder": [{"at": "0", "do": "escalate", "pool": "slas haeds"}, {"at": "0", "do": "notify", "pool": "nowhere at all"}]}}'),
    (12, '{"sla": {"within": "2 hours"}, "escalate_after": ["1 hour"]}'), (13, '{"sla": {"within": "2 hours"}, "pool": null, "outcome": "nurture", "reason": "x"}'),
    (14, jsonb_build_object('sla', jsonb_build_object('within', '2 hours', 'ladder', (SELECT jsonb_agg('{"at": "0", "do": "notify"}'::jsonb) FROM generate_series(1, 51)))))
) AS c (no, members), leadroute.policy_mistakes(rule(c.members)) m ORDER BY c.no, m.place COLLATE "C", m.problem COLLATE "C";

-- a draft keeps it, in its column or, where nulls are in it, as it is
SELECT leadroute.create_draft('slas_policy') AS draft;
CREATE FUNCTION through_draft(document jsonb) RETURNS TABLE (same boolean, in_column boolean) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM leadroute.load_draft('slas_policy', document);
    same := leadroute.draft_document('slas_policy') = document;
    in_column := (SELECT r.sla IS NOT NULL FROM leadroute.draft_rules r WHERE r.draft = 'slas_policy');
    RETURN NEXT;
END $$;
SELECT t.* FROM (VALUES (rule('{"sla": {"within": "2 hours", "ladder": [{"at": "0", "do": "notify"}]}}')), (rule('{"sla": {"within": "2 hours", "ladder": null}}')), (rule('{"sla": 7}'))) AS d (document), LATERAL through_draft(d.document) t;
SELECT leadroute.discard_draft('slas_policy', 'test') IS NOT NULL AS discarded;

-- working time: what is kept as an amount of it is found on the owner's calendar
INSERT INTO leadroute.owners (reference, timezone) VALUES ('slas anna', 'Europe/Berlin');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT p.pool_id, o.owner_id FROM leadroute.pools p, leadroute.owners o WHERE p.name = 'slas desk' AND o.reference = 'slas anna';
SELECT leadroute.publish_policy('slas_policy', rule('{"sla": {"within": "4 hours", "clock": "working", "ladder": [{"at": "50%", "do": "remind"}, {"at": "-30 minutes", "do": "remind"},
    {"at": "+90 minutes", "do": "notify"}]}}'), 'test') > 0 AS published;
SELECT leadroute.activate_policy('slas_policy') > 0 AS active;
CREATE TABLE leads (n integer PRIMARY KEY);
SELECT leadroute.attach_table('leads', policy => 'slas_policy') > 0 AS attached;
INSERT INTO leads VALUES (1), (2);
CREATE FUNCTION nth(place integer) RETURNS bigint LANGUAGE sql RETURN leadroute.lead_of('slas_policy.leads', place::text);
SELECT due_at - started_at AS within, clock, time_left BETWEEN '3 hours' AND '4 hours' AS nearly_all FROM leadroute.sla_status WHERE lead_id = nth(1);
-- from here on the owner works for one hour each morning; another one never
INSERT INTO leadroute.owners (reference) VALUES ('slas bo');
INSERT INTO leadroute.calendars (name) VALUES ('slas mornings'), ('slas never');
INSERT INTO leadroute.calendar_hours (calendar_id, weekday, starts, ends) SELECT calendar_id, d, '09:00', '10:00' FROM leadroute.calendars, generate_series(1, 7) d WHERE name = 'slas mornings';
UPDATE leadroute.owners o SET calendar_id = c.calendar_id FROM leadroute.calendars c WHERE (o.reference, c.name) IN (('slas anna', 'slas mornings'), ('slas bo', 'slas never'));
UPDATE leadroute.sla_clocks SET started_at = '2024-03-04 08:30+01', due_at = '2024-03-07 10:00+01', next_at = '2024-03-05 10:00+01' WHERE lead_id = nth(1);
SELECT leadroute.fire_sla_timers();
SELECT act, reason FROM leadroute.lead_acts WHERE lead_id = nth(1) ORDER BY act_id;
SELECT state, rung, next_at, time_left < '-1 day' AS past FROM leadroute.sla_status WHERE lead_id = nth(1);
SELECT leadroute.reassign_lead(nth(2), 'slas bo', 'test') > 0 AS reassigned;
SELECT state, due_at, time_left, next_at > now() AS looked_at_again FROM leadroute.sla_status WHERE lead_id = nth(2);
UPDATE leadroute.owners SET calendar_id = NULL WHERE reference = 'slas bo';
UPDATE leadroute.sla_clocks SET started_at = started_at - interval '1 day', next_at = now() WHERE lead_id = nth(2);
SELECT leadroute.fire_sla_timers();
SELECT act, reason FROM leadroute.lead_acts WHERE lead_id = nth(2) AND act <> 'reassign' ORDER BY act_id;
SELECT leadroute.reassign_lead(nth(2), 'slas anna', 'test') > 0 AS reassigned;
SELECT s.due_at = leadroute.working_time_end('slas anna', s.started_at, '4 hours') AS due, s.next_at = leadroute.working_time_end('slas anna', s.started_at, '2 hours') AS next,
    s.time_left = leadroute.working_time('slas anna', now(), s.due_at) AS time_left
FROM leadroute.sla_status s WHERE lead_id = nth(2);
DROP SCHEMA slas_policy CASCADE;
DELETE FROM leadroute.sla_clocks;
DELETE FROM leadroute.pool_members WHERE pool_id IN (SELECT pool_id FROM leadroute.pools WHERE name LIKE 'slas %');
DELETE FROM leadroute.pools WHERE name LIKE 'slas %';
DELETE FROM leadroute.owners WHERE reference LIKE 'slas %';
DELETE FROM leadroute.calendars WHERE name LIKE 'slas %';
