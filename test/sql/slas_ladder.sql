-- SLAs: the clock of a lead, what starts, stops and restarts it, and the ladder: each rung once, on the record, and nothing thrashes.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET TimeZone = 'UTC';
CREATE SCHEMA slas_ladder;
SET search_path TO slas_ladder;
INSERT INTO leadroute.owners (reference) VALUES ('sla anna'), ('sla bo'), ('sla cy'), ('sla head'), ('sla alone');
INSERT INTO leadroute.pools (name) VALUES ('sla desk'), ('sla heads'), ('sla alone'), ('sla empty');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT p.pool_id, o.owner_id FROM leadroute.pools p, leadroute.owners o
    WHERE (p.name, o.reference) IN (('sla desk', 'sla anna'), ('sla desk', 'sla bo'), ('sla desk', 'sla cy'), ('sla heads', 'sla head'), ('sla alone', 'sla alone'));
SELECT leadroute.publish_policy('slas_ladder', '{
    "leadroute": 1, "steps": [{"capability": "validateContact", "stop_when": []}, {"capability": "assignOwner"}],
    "rules": [{"name": "ladder", "when": "country = ''DE''", "pool": "sla desk", "sla": {"within": "2 hours", "ladder": [
                  {"at": "50%", "do": "remind"}, {"at": "-30 minutes", "do": "notify", "pool": "sla heads"}, {"at": "0", "do": "reassign"},
                  {"at": "+1 hour", "do": "escalate", "pool": "sla heads"}]}},
              {"name": "short", "when": "country = ''FR''", "pool": "sla desk", "first_response_within": "1 hour", "escalate_after": ["90 minutes", "3 hours"]},
              {"name": "alone", "when": "country = ''IT''", "pool": "sla alone", "sla": {"within": "1 hour", "stop": "lead.accepted", "ladder": [
                  {"at": "0", "do": "reassign"}, {"at": "+1 minute", "do": "escalate", "pool": "sla empty"}]}},
              {"name": "accepted", "when": "country = ''ES''", "pool": "sla desk", "sla": {"start": "lead.accepted", "stop": "lead.closed", "within": "1 day", "clock": "working"}},
              {"name": "often", "when": "country = ''PT''", "pool": "sla desk", "sla": {"within": "1 hour", "ladder": [
                  {"at": "0", "do": "reassign"}, {"at": "0", "do": "notify"}]}},
              {"name": "none", "when": "country = ''US''", "pool": "sla desk"}]}', 'test') > 0 AS published;
SELECT leadroute.activate_policy('slas_ladder') > 0 AS active;
CREATE TABLE leads (n integer PRIMARY KEY, email text, country text);
SELECT leadroute.attach_table('leads', classes => '{"country": "plain"}', policy => 'slas_ladder', reroute_on => '{country}') > 0 AS attached;
CREATE FUNCTION nth(place integer) RETURNS bigint LANGUAGE sql RETURN leadroute.lead_of('slas_ladder.leads', place::text);
CREATE FUNCTION owner_of(place integer) RETURNS text LANGUAGE sql
    RETURN (SELECT o.reference FROM leadroute.lead_states s JOIN leadroute.owners o USING (owner_id) WHERE s.lead_id = slas_ladder.nth(place));
-- time passes for the clock of a lead
CREATE FUNCTION pass(place integer, span interval) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    UPDATE leadroute.sla_clocks SET started_at = started_at - span, due_at = due_at - span, next_at = next_at - span WHERE lead_id = slas_ladder.nth(place);
    RETURN leadroute.fire_sla_timers();
END $$;
CREATE VIEW clocks AS
    SELECT l.n, s.rule, s.waits_for, s.clock, s.state, s.due_at - s.started_at AS within, s.next_at - s.started_at AS next, s.rung, s.moves, c.breached,
           round(extract(epoch FROM s.time_left) / 60) AS minutes_left
    FROM leads l JOIN leadroute.sla_status s ON s.lead_id = nth(l.n) JOIN leadroute.sla_clocks c USING (lead_id) ORDER BY l.n;
CREATE VIEW acts AS
    SELECT l.n, a.act, a.reason, a.new_run_id IS NOT NULL AS decided FROM leads l JOIN leadroute.lead_acts a ON a.lead_id = nth(l.n) ORDER BY l.n, a.act_id;
SELECT leadroute.create_event_consumer('sla test', '{sla.*}') >= 0 AS made;
CREATE FUNCTION told() RETURNS TABLE (n integer, kind text, data jsonb) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT l.n, e.kind, e.data - '{leads_table,due_at,started_at,owner,from_owner}'::text[]
        || CASE WHEN e.data ? 'from_owner' THEN jsonb_build_object('moved', e.data ->> 'from_owner' <> (e.data ->> 'owner')) ELSE '{}' END
        FROM leadroute.read_events('sla test', 1000) e JOIN slas_ladder.leads l ON slas_ladder.nth(l.n) = e.lead_id ORDER BY e.position;
    PERFORM leadroute.ack_events('sla test', x.last_position) FROM leadroute.event_numbering x;
END $$;

-- who has which clock
INSERT INTO leads SELECT i, 'lead@acme.example', c FROM unnest('{DE,FR,IT,ES,PT,US}'::text[]) WITH ORDINALITY AS u (c, i);
SELECT * FROM clocks;
SELECT leadroute.fire_sla_timers();

-- rung by rung
SELECT pass(1, '59 minutes');
SELECT pass(1, '1 minute');
SELECT pass(1, '0');
SELECT * FROM told();
SELECT pass(1, '30 minutes');
SELECT * FROM told();
SELECT owner_of(1) AS owner_before \gset
SELECT pass(1, '30 minutes');
SELECT * FROM told();
SELECT owner_of(1) <> :'owner_before' AS moved, owner_of(1) IN ('sla anna', 'sla bo', 'sla cy') AS of_desk;
-- a new time, the same ladder
SELECT * FROM clocks WHERE n = 1;
SELECT pass(1, '2 hours');
SELECT pass(1, '1 hour');
SELECT owner_of(1);
SELECT * FROM told();
SELECT * FROM clocks WHERE n = 1;
-- once more the time of the new owner; then nothing is due any more
SELECT pass(1, '2 hours');
SELECT pass(1, '100 days');
SELECT * FROM clocks WHERE n = 1;
SELECT * FROM told();
SELECT * FROM acts WHERE n = 1;
SELECT event, reason_code, note FROM leadroute.lead_timeline WHERE lead_id = nth(1) ORDER BY at, decision_id, event COLLATE "C";
SELECT d.cause, d.reason_code, d.rule, d.pool, v.verdict FROM leadroute.decisions d, LATERAL leadroute.verify_decision(d.decision_id) v WHERE d.lead_id = nth(1) ORDER BY d.decision_id;
SELECT leadroute.why_not(run_id, 'sla head') LIKE 'sla head has the lead%' AS why FROM leadroute.lead_states WHERE lead_id = nth(1);
SELECT line FROM leadroute.lead_states s, LATERAL leadroute.explain_decision(s.run_id) AS line WHERE s.lead_id = nth(1) AND line LIKE 'Why%';
SELECT count(*) FILTER (WHERE c.verdict = 'excluded') AS passed_over FROM leadroute.decisions d, LATERAL leadroute.decision_candidates(d.decision_id) c
WHERE d.lead_id = nth(1) AND d.reason_code = 'sla_reassigned';
-- who was passed over is not asked again
UPDATE leads SET country = 'US' WHERE n = 1;
SELECT owner_of(1) NOT IN (:'owner_before', 'sla head') AS others;
SELECT * FROM clocks WHERE n = 1;

-- the short form tells only
SELECT pass(2, '1 hour');
SELECT pass(2, '30 minutes');
SELECT pass(2, '90 minutes');
SELECT * FROM told();
SELECT * FROM clocks WHERE n = 2;
SELECT leadroute.log_first_response(nth(2)) IS NOT NULL AS responded;
SELECT * FROM told();
SELECT * FROM clocks WHERE n = 2;
-- once responded, no clock waits for a response
SELECT leadroute.reassign_lead(nth(2), 'sla head', 'test') > 0 AS reassigned;
UPDATE leads SET country = 'DE' WHERE n = 2;
SELECT count(*) FROM leadroute.sla_clocks WHERE lead_id = nth(2);

-- nobody else: the lead stays where it is
SELECT pass(3, '1 hour');
SELECT pass(3, '1 minute');
SELECT owner_of(3);
SELECT * FROM told();
SELECT * FROM acts WHERE n = 3;
SELECT leadroute.accept_lead(nth(3)) IS NOT NULL AS accepted;
SELECT * FROM told();
SELECT * FROM clocks WHERE n = 3;

-- a clock that waits for its start; working time of who works always is wall time
SELECT leadroute.accept_lead(nth(4)) IS NOT NULL AS accepted;
SELECT * FROM clocks WHERE n = 4;
SELECT leadroute.reassign_lead(nth(4), 'sla head', 'test') > 0 AS reassigned;
SELECT state, moves FROM clocks WHERE n = 4;
SELECT leadroute.accept_lead(nth(4)) IS NOT NULL AS accepted;
SELECT state FROM clocks WHERE n = 4;
SELECT leadroute.close_lead(nth(4), 'won') IS NOT NULL AS closed;
SELECT * FROM told();

-- moved so often by the ladder, a lead is moved no more, whoever decides in between
SET leadroute.sla_max_moves = 2;
SELECT pass(5, '1 hour');
SELECT pass(5, '1 hour');
SELECT leadroute.reassign_lead(nth(5), 'sla alone', 'test') > 0 AS reassigned;
SELECT * FROM clocks WHERE n = 5;
-- back into the pool of the rule
SELECT pass(5, '1 hour');
SELECT owner_of(5) IN ('sla anna', 'sla bo', 'sla cy') AS of_desk;
SELECT leadroute.reassign_lead(nth(5), 'sla head', 'test') > 0 AS reassigned;
SELECT pass(5, '1 hour');
SELECT owner_of(5);
RESET leadroute.sla_max_moves;
SELECT * FROM told();
SELECT * FROM clocks WHERE n = 5;

-- decided again with the same owner by the same rule the clock goes on; by another rule it restarts; by one without, it ends
INSERT INTO leads VALUES (10, 'lead@acme.example', 'DE'), (11, 'lead@acme.example', 'DE'), (12, 'lead@acme.example', 'DE'), (13, 'lead@acme.example', 'DE');
SELECT pass(10, '10 minutes');
SELECT leadroute.route_lead(nth(10), 'test') > 0 AS routed;
SELECT minutes_left FROM clocks WHERE n = 10;
UPDATE leads SET country = 'FR' WHERE n = 10;
SELECT rule, minutes_left, rung FROM clocks WHERE n = 10;
UPDATE leads SET country = 'US' WHERE n = 10;
SELECT * FROM clocks WHERE n = 10;
SELECT count(*) FROM leadroute.sla_clocks WHERE lead_id = nth(10);
SELECT pass(10, '100 days');
SELECT count(*) FROM leadroute.sla_clocks WHERE lead_id = nth(10);
-- declined: the next one has all the time
SELECT pass(11, '61 minutes');
SELECT leadroute.decline_lead(nth(11), 'no_capacity') > 0 AS declined;
SELECT rule, minutes_left, rung FROM clocks WHERE n = 11;
-- whoever was away for long moves it once
SELECT pass(12, '10 hours');
SELECT * FROM acts WHERE n = 12;
SELECT owner_of(12);
-- gone
SELECT nth(13) AS gone \gset
DELETE FROM leads WHERE n = 13;
UPDATE leadroute.sla_clocks SET next_at = now() WHERE lead_id = :gone;
SELECT leadroute.fire_sla_timers();
SELECT count(*) FROM leadroute.sla_clocks WHERE lead_id = :gone;
SELECT count(*) FROM leadroute.lead_acts WHERE lead_id = :gone;

-- what cannot go on comes again, later, and keeps no other waiting
INSERT INTO leads VALUES (20, 'lead@acme.example', 'DE'), (21, 'lead@acme.example', 'DE');
UPDATE leadroute.sla_clocks SET rule_no = 99, next_at = now() WHERE lead_id = nth(20);
SET client_min_messages = error;
SELECT pass(21, '1 hour');
SET client_min_messages = warning;
SELECT failures, next_at > now() AS later FROM leadroute.sla_clocks WHERE lead_id = nth(20);
SELECT * FROM acts WHERE n IN (20, 21);
DELETE FROM leadroute.sla_clocks WHERE lead_id = nth(20);
-- rolled back, it is due still
BEGIN;
SELECT pass(21, '30 minutes');
ROLLBACK;
SELECT rung FROM clocks WHERE n = 21;

-- all data is as the catalogue says
SELECT DISTINCT e.kind, k.key FROM leadroute.events e CROSS JOIN jsonb_object_keys(e.data) AS k (key) JOIN leadroute.event_kinds c USING (kind) WHERE NOT c.schema -> 'properties' ? k.key;
SELECT DISTINCT e.kind, r.key FROM leadroute.events e JOIN leadroute.event_kinds c USING (kind) CROSS JOIN jsonb_array_elements_text(c.schema -> 'required') AS r (key) WHERE NOT e.data ? r.key;

-- a table that is observed has no clocks
SELECT leadroute.set_table_mode('leads', 'observe', 'test');
INSERT INTO leads VALUES (30, 'lead@acme.example', 'DE');
SELECT count(*) FROM leadroute.sla_clocks WHERE lead_id = nth(30);

SELECT leadroute.drop_event_consumer('sla test');
SELECT leadroute.prune_events() > 0 AS pruned;
DROP SCHEMA slas_ladder CASCADE;
DELETE FROM leadroute.sla_clocks;
DELETE FROM leadroute.pool_members WHERE pool_id IN (SELECT pool_id FROM leadroute.pools WHERE name LIKE 'sla %');
DELETE FROM leadroute.pools WHERE name LIKE 'sla %';
DELETE FROM leadroute.owners WHERE reference LIKE 'sla %';
