-- Who is away or at a cap gets nothing; who can still respond in time comes first; where nobody can, the lead waits in the overflow,
-- with a time, and is drawn from there in order. Then places that a person gives, and preferences at a cap.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA assignment_overflow;
SET search_path TO assignment_overflow;
INSERT INTO leadroute.owners (reference) VALUES ('over a'), ('over b'), ('over c');
INSERT INTO leadroute.pools (name, minutes_per_lead) VALUES ('over', NULL), ('over busy', 60);
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT p.pool_id, o.owner_id FROM leadroute.pools p, leadroute.owners o
    WHERE (p.name = 'over' AND o.reference IN ('over a', 'over b')) OR (p.name = 'over busy' AND o.reference = 'over c');
SELECT leadroute.publish_policy('over', '{"leadroute": 1, "steps": [{"capability": "validateContact"}, {"capability": "assignOwner", "known_person": "same_owner"}],
    "rules": [{"name": "busy", "when": "source = ''busy''", "pool": "over busy", "first_response_within": "3 hours"},
              {"name": "patient", "when": "source = ''patient''", "pool": "over", "first_response_within": "5 hours"},
              {"name": "working", "when": "source = ''working''", "pool": "over", "first_response_within": "30 minutes", "sla_clock": "working"},
              {"name": "now", "when": "true", "pool": "over"}]}', 'test');
SELECT leadroute.activate_policy('over');
CREATE TABLE leads (id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'), n serial, source text, email text DEFAULT 'p' || nextval('leadroute.lead_ids') || '@acme.example');
SELECT leadroute.attach_table('leads', policy => 'over', classes => '{"source": "plain"}') > 0 AS attached;
CREATE VIEW given AS SELECT l.n, l.source, right(o.reference, 1) AS owner, s.outcome, s.reason_code, s.response_due_at - s.since AS due, s.estimated_at - s.since AS estimated, s.run_id, l.id
    FROM leads l JOIN leadroute.lead_states s ON s.lead_id = l.id LEFT JOIN leadroute.owners o USING (owner_id);
CREATE FUNCTION about(value interval) RETURNS text LANGUAGE sql AS $$ SELECT round(extract(epoch FROM value) / 60) || ' min' $$;

-- a is away for four hours: b gets what comes; within five hours both can respond
INSERT INTO leadroute.absences (owner_id, starts_at, ends_at) SELECT owner_id, now() - interval '1 day', now() + interval '4 hours' FROM leadroute.owners WHERE reference = 'over a';
INSERT INTO leads (source) SELECT 'now' FROM generate_series(1, 3);
INSERT INTO leads (source) SELECT 'patient' FROM generate_series(1, 4);
SELECT source, owner, count(*), min(about(due)) AS due FROM given GROUP BY 1, 2 ORDER BY 1, 2;
-- a working clock does not run while a is away: nobody is late
INSERT INTO leads (source) SELECT 'working' FROM generate_series(1, 2);
SELECT owner, about(due) AS due FROM given WHERE source = 'working' ORDER BY 1;
-- both away: nobody now, and within five hours a alone
INSERT INTO leadroute.absences (owner_id, starts_at, ends_at) SELECT owner_id, now() - interval '1 day', now() + interval '8 hours' FROM leadroute.owners WHERE reference = 'over b';
TRUNCATE leads;
INSERT INTO leads (source) VALUES ('now'), ('patient'), ('now');
SELECT n - min(n) OVER () AS n, source, outcome, reason_code, owner, about(due) AS due, about(estimated) AS estimated FROM given ORDER BY 1;
SELECT pool, place, about(estimated_at - waiting_since) AS estimated FROM leadroute.overflow_leads WHERE pool = 'over' ORDER BY place;
SELECT leadroute.draw_overflow('over') AS drawn, (SELECT count(*) FROM leadroute.entries e JOIN leads l ON l.id = e.lead_id) AS entries;
SELECT count(*) AS unrouted FROM leadroute.unrouted('leads');
SELECT leadroute.route_pending('leads') AS caught_up;
-- back: drawn in order
DELETE FROM leadroute.absences WHERE owner_id IN (SELECT owner_id FROM leadroute.owners WHERE reference = 'over b');
SELECT leadroute.draw_overflow('over', 1) AS drawn;
SELECT n - min(n) OVER () AS n, outcome, owner FROM given ORDER BY 1;
SELECT leadroute.draw_overflow('over') AS drawn;
SELECT DISTINCT d.cause, v.verdict FROM given g JOIN leadroute.decisions d ON d.decision_id = g.run_id, leadroute.verify_decision(g.run_id) v ORDER BY 1;
SELECT t.event, t.outcome, t.reason_code FROM leadroute.lead_timeline t JOIN given g ON g.id = t.lead_id WHERE g.n = (SELECT max(n) FROM given) ORDER BY t.at;

-- work counts: an hour a lead, three hours to respond: three leads, then it is too late
INSERT INTO leads (source) SELECT 'busy' FROM generate_series(1, 5);
SELECT outcome, reason_code, count(*) FROM given WHERE source = 'busy' GROUP BY 1, 2 ORDER BY 1;
SELECT leadroute.why_not(run_id, 'over c') FROM given WHERE source = 'busy' ORDER BY n DESC LIMIT 1;
-- a closed lead makes room, and who waits longest gets it
SELECT leadroute.close_lead(id, 'lost') IS NOT NULL AS closed FROM given WHERE source = 'busy' AND outcome = 'assigned' ORDER BY n LIMIT 1;
SELECT string_agg(outcome::text, ', ' ORDER BY n) FROM given WHERE source = 'busy';

-- the person's owner at a cap: the pool decides, and the record says why
INSERT INTO leads (source, email) VALUES ('now', 'kay@kay.example');
SELECT 'over ' || owner AS first FROM given ORDER BY n DESC LIMIT 1 \gset
INSERT INTO leadroute.caps (owner_id, per, maximum) SELECT s.owner_id, 'open', count(*) FROM leadroute.lead_states s JOIN leadroute.owners o USING (owner_id)
    WHERE o.reference = :'first' AND s.closed_at IS NULL AND s.finished_at IS NULL AND s.outcome = 'assigned' GROUP BY 1;
INSERT INTO leadroute.absences (owner_id, starts_at, ends_at) SELECT owner_id, now(), now() + interval '1 hour' FROM leadroute.owners WHERE false;
DELETE FROM leadroute.absences WHERE owner_id IN (SELECT owner_id FROM leadroute.owners WHERE reference LIKE 'over _');
INSERT INTO leads (source, email) VALUES ('now', 'kay@kay.example');
SELECT 'over ' || owner <> :'first' AS somebody_else, outcome FROM given ORDER BY n DESC LIMIT 1;
SELECT regexp_replace(leadroute.why_not(run_id, :'first'), '(\d+|over \w|turn)', 'N', 'g') FROM given ORDER BY n DESC LIMIT 1;
SELECT DISTINCT v.verdict FROM given g, leadroute.verify_decision(g.run_id) v;
-- a person may not either, unless forced
\set VERBOSITY terse
SELECT leadroute.draw_overflow(NULL, -1);
SELECT leadroute.reassign_lead((SELECT id FROM given WHERE 'over ' || owner <> :'first' AND source = 'now' ORDER BY n LIMIT 1), :'first', 'test');
\set VERBOSITY default
SELECT leadroute.reassign_lead((SELECT id FROM given WHERE 'over ' || owner <> :'first' AND source = 'now' ORDER BY n LIMIT 1), :'first', 'test', force => true) > 0 AS forced;
SELECT count(*) FROM leadroute.cap_usage() WHERE taken IS DISTINCT FROM recounted;

DELETE FROM leadroute.caps WHERE owner_id IN (SELECT owner_id FROM leadroute.owners WHERE reference LIKE 'over _');
DROP TABLE leads CASCADE;
DROP SCHEMA assignment_overflow CASCADE;
