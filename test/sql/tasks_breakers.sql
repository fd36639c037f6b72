-- A failing agent is not hammered: its circuit breaker opens, lets probes through, and closes; leads take the fallback meanwhile. And
-- how much an agent is given: by queue, at a time, and a second. Time passes here by setting it back, in one
-- transaction, so that workers of the server do not see it.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA tasks_breakers;
SET search_path TO tasks_breakers;
SELECT leadroute.register_external_agent('breakers-a', '1', '{breakersLook}', '{country}', breaker_failures => 3, breaker_cooldown => '10 minutes', breaker_probes => 2) >= 1000 AS registered;
CREATE TABLE leads (id integer PRIMARY KEY, country text);
SELECT leadroute.attach_table('leads', policy => 'tasks_breakers', classes => '{"country": "plain"}') > 0 AS attached;
CREATE FUNCTION use_steps(VARIADIC members jsonb[]) RETURNS void LANGUAGE sql AS $$
    SELECT leadroute.publish_policy('tasks_breakers', jsonb_build_object('leadroute', 1,
        'steps', (SELECT jsonb_agg(m) FROM unnest(members) AS m) || jsonb_build_array('{"capability": "assignOwner"}'::jsonb),
        'rules', '[{"name": "all", "when": "true", "outcome": "nurture", "reason": "seen"}]'::jsonb), 'test');
    SELECT leadroute.activate_policy('tasks_breakers');
$$;
CREATE VIEW mine AS
    SELECT x.*, CASE WHEN t.relation_name LIKE 'tasks_breakers.%' THEN k.key::integer END AS id FROM leadroute.tasks x JOIN leadroute.lead_keys k USING (lead_id) JOIN leadroute.attached_tables t USING (source_id)
    WHERE t.relation = 'tasks_breakers.leads'::regclass;
CREATE VIEW waiting AS SELECT m.id, w.capability, w.state, w.why, w.attempt FROM mine m JOIN leadroute.waiting_tasks w ON w.task = m.run_id || '/' || m.step_no;
CREATE VIEW breaker AS
    SELECT state, failures, opens_at, last_error, opened_at IS NOT NULL AS opened, probes_from - opened_at AS cooldown, probes_left
    FROM leadroute.circuit_breakers WHERE agent = 'breakers-a';
CREATE TABLE held (task text, token bigint, capability text, attempt integer, lead_id bigint, inputs jsonb, traceparent text, deadline timestamptz, heartbeat interval);
CREATE FUNCTION take(most integer DEFAULT 100, agent text DEFAULT 'breakers-a@1') RETURNS bigint LANGUAGE sql AS $$
    WITH given AS (INSERT INTO held SELECT * FROM leadroute.claim_tasks(agent, max => most) RETURNING *) SELECT count(*) FROM given;
$$;
CREATE FUNCTION fail(most bigint DEFAULT NULL, retryable boolean DEFAULT true) RETURNS bigint LANGUAGE sql AS $$
    WITH given AS (DELETE FROM held WHERE task IN (SELECT task FROM held ORDER BY lead_id LIMIT most) RETURNING *)
    SELECT count(leadroute.fail_task(task, token, 'busy', retryable)) FROM given;
$$;
CREATE FUNCTION complete(most bigint DEFAULT NULL) RETURNS bigint LANGUAGE sql AS $$
    WITH given AS (DELETE FROM held WHERE task IN (SELECT task FROM held ORDER BY lead_id LIMIT most) RETURNING *)
    SELECT count(leadroute.complete_task(task, token, '{}')) FROM given;
$$;
CREATE FUNCTION pass(span interval) RETURNS bigint LANGUAGE sql AS $$
    UPDATE leadroute.tasks t SET wake_at = t.wake_at - span, scheduled_at = t.scheduled_at - span, started_at = t.started_at - span
    FROM mine m WHERE m.run_id = t.run_id AND m.step_no = t.step_no;
    UPDATE leadroute.agent_states s SET opened_at = opened_at - span, probed_at = probed_at - span FROM leadroute.agents a WHERE a.agent_id = s.agent_id AND a.name LIKE 'breakers-%';
    UPDATE leadroute.agent_allowances s SET at = at - span FROM leadroute.agents a WHERE a.agent_id = s.agent_id AND a.name LIKE 'breakers-%';
    SELECT leadroute.fire_task_timers();
$$;

\set ON_ERROR_ROLLBACK on
BEGIN;

-- failures in a row: a success between them, or what is the lead's fault, does not count
SELECT * FROM breaker;
SELECT use_steps('{"capability": "breakersLook", "retry": {"attempts": 50, "wait": "1 minute", "factor": 1, "jitter": 0}}');
INSERT INTO leads SELECT i, 'DE' FROM generate_series(1, 8) AS i;
SELECT take(8), fail(2);
SELECT * FROM breaker;
SELECT complete(1);
SELECT * FROM breaker;
SELECT fail(3, false);
SELECT * FROM breaker;
-- time-outs count as well
SELECT pass('1 minute');
SELECT * FROM breaker;
DELETE FROM held;
SELECT take(1), fail();
SELECT * FROM breaker;
-- open: nothing is given out
SELECT take();
SELECT state, why, count(*) FROM waiting GROUP BY 1, 2 ORDER BY 1;
SELECT pass('1 minute'), take();
SELECT state, why, count(*) FROM waiting GROUP BY 1, 2 ORDER BY 1;
-- half open: probes only, and all of them have to succeed
SELECT pass('8 minutes'), take(), pass('1 minute'), take(1), take(), take();
SELECT * FROM breaker;
SELECT state, why, count(*) FROM waiting GROUP BY 1, 2 ORDER BY 1;
SELECT complete(1);
SELECT * FROM breaker;
SELECT fail(1);
SELECT * FROM breaker;
SELECT take(), pass('10 minutes'), take();
-- probes of which nothing is heard are lost after another cooldown
SELECT leadroute.override_decision(run_id, 'rejected', NULL, 'test') > 0 AS decided FROM mine WHERE state = 'c' ORDER BY id;
DELETE FROM held;
INSERT INTO leads SELECT i, 'DE' FROM generate_series(9, 12) AS i;
SELECT take(), pass('9 minutes'), take(), pass('1 minute'), take();
-- each counts, though they are given back together
SELECT count(*) AS refused FROM leadroute.complete_tasks((SELECT array_agg(task) FROM held), (SELECT array_agg(token) FROM held), (SELECT array_agg('{}'::jsonb) FROM held));
DELETE FROM held;
SELECT * FROM breaker;
SELECT take();
SELECT complete();
SELECT * FROM waiting;

-- open, and the step has a fallback: its leads take it at once, those that wait and those that come
SELECT use_steps('{"capability": "breakersLook", "retry": {"attempts": 50}, "fallback": {"output": {"guessed": true}}}');
INSERT INTO leads SELECT i, 'DE' FROM generate_series(13, 19) AS i;
SELECT take(3), fail(3);
SELECT state FROM breaker;
SELECT leadroute.fire_task_timers(3), leadroute.fire_task_timers();
INSERT INTO leads VALUES (20, 'DE');
SELECT leadroute.next_task_timer(now() - interval '1 minute') <= clock_timestamp() + interval '1 second' AS soon, leadroute.fire_task_timers();
SELECT state, count(*) FROM waiting GROUP BY 1;
SELECT d.outcome, p.status, p.output, p.attempts #>> '{attempts,0,error}' AS error, p.attempts ->> 'fallback' AS fallback, count(*)
FROM leadroute.decisions d JOIN leadroute.lead_keys k USING (lead_id) JOIN leadroute.attached_tables t USING (source_id) JOIN leadroute.provenance p ON p.decision_id = d.decision_id AND p.as_of = d.as_of
WHERE CASE WHEN t.relation = 'leads'::regclass THEN k.key::integer BETWEEN 13 AND 20 END AND p.step_no = 1 GROUP BY 1, 2, 3, 4, 5;
-- when the time is over, those left are for probes
SELECT pass('10 minutes'), take();
SELECT complete(), pass('0');

-- queues of different names share; what one does not need the others get
SELECT leadroute.register_external_agent('breakers-b', '1', '{breakersOne,breakersTwo,breakersThree}', '{country}') >= 1000 AS registered;
SELECT use_steps('{"capability": "breakersOne"}');
INSERT INTO leads SELECT i, 'DE' FROM generate_series(101, 130) AS i;
SELECT use_steps('{"capability": "breakersTwo"}');
INSERT INTO leads SELECT i, 'DE' FROM generate_series(131, 133) AS i;
SELECT take(2, 'breakers-b@1');
SELECT capability, count(*), array_agg(DISTINCT inputs) FROM held GROUP BY 1 ORDER BY 1;
SELECT take(8, 'breakers-b@1');
SELECT capability, count(*) FROM held GROUP BY 1 ORDER BY 1;
SELECT complete();
SELECT take(10, 'breakers-b@1');
SELECT capability, count(*) FROM held GROUP BY 1 ORDER BY 1;
SELECT complete();
-- priority, then age, within one name
SELECT use_steps('{"capability": "breakersThree", "queue": "breakersOne", "priority": 5}');
INSERT INTO leads SELECT i, 'DE' FROM generate_series(134, 136) AS i;
SELECT queue, capability, priority, external, queued, claimed, oldest IS NOT NULL AS waits FROM leadroute.task_queue_depths WHERE queue LIKE 'breakers%' ORDER BY queue COLLATE "C", priority;
SELECT take(5, 'breakers-b@1');
SELECT capability, array_agg(k.key ORDER BY length(k.key), k.key) FROM held JOIN leadroute.lead_keys k USING (lead_id) JOIN leadroute.attached_tables t USING (source_id) WHERE t.relation = 'leads'::regclass GROUP BY 1 ORDER BY 1;
SELECT complete(), take(100, 'breakers-b@1');
SELECT complete();

-- so many at a time, however they come to an end
SELECT leadroute.register_external_agent('breakers-c', '1', '{breakersFew}', '{country}', max_concurrent => 3) >= 1000 AS registered;
SELECT use_steps('{"capability": "breakersFew", "retry": {"attempts": 2, "wait": "1 hour", "jitter": 0}}');
INSERT INTO leads SELECT i, 'DE' FROM generate_series(201, 220) AS i;
SELECT take(2, 'breakers-c@1'), take(10, 'breakers-c@1'), take(10, 'breakers-c@1');
SELECT complete(1), take(10, 'breakers-c@1');
SELECT fail(1), take(10, 'breakers-c@1');
SELECT leadroute.override_decision(run_id, 'rejected', NULL, 'test') > 0 AS decided FROM mine WHERE state = 'c' ORDER BY id LIMIT 1;
SELECT take(10, 'breakers-c@1'), take(10, 'breakers-c@1');
SELECT pass('1 minute'), take(10, 'breakers-c@1'), take(10, 'breakers-c@1');
DELETE FROM leadroute.tasks t USING mine m WHERE m.run_id = t.run_id;
DELETE FROM held;

-- so many a second: a second's worth at once, at least one
SELECT leadroute.register_external_agent('breakers-d', '1', '{breakersSlowly}', '{country}', max_per_second => 0.01) >= 1000 AS registered,
    leadroute.register_external_agent('breakers-e', '1', '{breakersFast}', '{country}', max_per_second => 15) >= 1000 AS registered;
SELECT use_steps('{"capability": "breakersSlowly"}');
INSERT INTO leads SELECT i, 'DE' FROM generate_series(301, 303) AS i;
SELECT take(100, 'breakers-d@1'), take(1, 'breakers-d@1'), pass('50 seconds'), take(1, 'breakers-d@1'), pass('50 seconds'), take(100, 'breakers-d@1');
SELECT count(*) FROM leadroute.agent_allowances a JOIN leadroute.agents USING (agent_id) WHERE name = 'breakers-d';
DELETE FROM leadroute.tasks t USING mine m WHERE m.run_id = t.run_id;
DELETE FROM held;
SELECT use_steps('{"capability": "breakersFast"}');
INSERT INTO leads SELECT i, 'DE' FROM generate_series(401, 450) AS i;
SELECT take(100, 'breakers-e@1');
SELECT complete(), pass('1 hour'), take(100, 'breakers-e@1');

DELETE FROM leadroute.tasks t USING mine m WHERE m.run_id = t.run_id;
COMMIT;
DROP SCHEMA tasks_breakers CASCADE;
