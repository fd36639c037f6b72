-- What becomes of tasks that fail: waits that can be computed again, attempts that run out, errors not worth another try, the four
-- time-outs, leases that run out, and what takes the place of a step that failed for good. Time passes here by setting
-- it back, in one transaction, so that workers of the server do not see it.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA tasks_failures;
SET search_path TO tasks_failures;
SELECT leadroute.register_external_agent('failures-first', '1', '{failuresLook}', '{country}', breaker_failures => 100) >= 1000 AS registered,
    leadroute.register_external_agent('failures-second', '1', '{failuresLook}', '{country,email}', breaker_failures => 100) >= 1000 AS registered;
CREATE TABLE leads (id integer PRIMARY KEY, country text, email text);
SELECT leadroute.attach_table('leads', policy => 'tasks_failures', classes => '{"country": "plain"}', reroute_on => '{email}') > 0 AS attached;
CREATE FUNCTION use_step(members jsonb) RETURNS void LANGUAGE sql AS $$
    SELECT leadroute.publish_policy('tasks_failures', jsonb_build_object('leadroute', 1,
        'steps', jsonb_build_array('{"capability": "failuresLook", "agent": "failures-first"}'::jsonb || members, '{"capability": "assignOwner"}'::jsonb),
        'rules', '[{"name": "seen", "when": "(failuresLook->>''seen'')::boolean", "outcome": "nurture", "reason": "seen"},
                   {"name": "others", "when": "true", "outcome": "nurture", "reason": "not_seen"}]'::jsonb), 'test');
    SELECT leadroute.activate_policy('tasks_failures');
$$;
CREATE VIEW mine AS
    SELECT x.*, CASE WHEN t.relation = 'tasks_failures.leads'::regclass THEN k.key::integer END AS id FROM leadroute.tasks x JOIN leadroute.lead_keys k USING (lead_id) JOIN leadroute.attached_tables t USING (source_id)
    WHERE t.relation = 'tasks_failures.leads'::regclass;
CREATE VIEW waiting AS
    SELECT m.id, w.agent, w.state, w.why, w.attempt, m.token IS NOT NULL AS held, m.wake_at - m.scheduled_at AS due_in,
        (SELECT jsonb_agg(h - 'at') FROM jsonb_array_elements(w.history) h) AS history
    FROM mine m JOIN leadroute.waiting_tasks w ON w.task = m.run_id || '/' || m.step_no;
CREATE VIEW decided AS
    SELECT CASE WHEN t.relation = 'tasks_failures.leads'::regclass THEN k.key::integer END AS id, d.outcome, d.reason_code, p.status, p.sqlstate, p.place, p.output, p.attempts ->> 'by' AS by, p.attempts ->> 'fallback' AS fallback,
        (SELECT string_agg(concat_ws(' ', h ->> 'by', h ->> 'attempt', h ->> 'error'), ', ' ORDER BY n) FROM jsonb_array_elements(p.attempts -> 'attempts') WITH ORDINALITY AS h (h, n)) AS attempts
    FROM leadroute.decisions d JOIN leadroute.lead_keys k USING (lead_id) JOIN leadroute.attached_tables t USING (source_id)
    JOIN leadroute.provenance p ON p.decision_id = d.decision_id AND p.as_of = d.as_of AND p.step_no = 1
    WHERE t.relation = 'tasks_failures.leads'::regclass;
CREATE TABLE held (task text, token bigint, capability text, attempt integer, lead_id bigint, inputs jsonb, traceparent text, deadline timestamptz, heartbeat interval);
CREATE FUNCTION take(agent text DEFAULT 'failures-first@1', lease interval DEFAULT '1 minute') RETURNS bigint LANGUAGE sql AS $$
    DELETE FROM held;
    INSERT INTO held SELECT * FROM leadroute.claim_tasks(agent, max => 100, lease => lease);
    SELECT count(*) FROM held;
$$;
CREATE FUNCTION fail(error text, retryable boolean DEFAULT true) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(leadroute.fail_task(task, token, error, retryable)) FROM held;
$$;
CREATE FUNCTION pass(span interval) RETURNS bigint LANGUAGE sql AS $$
    UPDATE leadroute.tasks t SET wake_at = t.wake_at - span, scheduled_at = t.scheduled_at - span, started_at = t.started_at - span
    FROM mine m WHERE m.run_id = t.run_id AND m.step_no = t.step_no;
    SELECT leadroute.fire_task_timers();
$$;

\set ON_ERROR_ROLLBACK on
BEGIN;

-- three attempts; the waits grow, up to a ceiling, less a part that the digest of run, step and attempt gives
SELECT use_step('{"retry": {"attempts": 4, "wait": "10 seconds", "factor": 3, "ceiling": "40 seconds", "jitter": 0.5}}');
INSERT INTO leads VALUES (1, 'DE');
SELECT take(), fail('rate_limited');
SELECT id, agent, state, why, attempt, held, history FROM waiting;
SELECT attempt, wake_at - (history -> -1 ->> 'at')::timestamptz = leadroute.retry_wait(run_id, step_no, attempt, '10 seconds', 3, '40 seconds', 0.5) AS computed,
    wake_at - (history -> -1 ->> 'at')::timestamptz BETWEEN interval '5 seconds' AND interval '10 seconds' AS within FROM mine;
SELECT take(), leadroute.fire_task_timers();
SELECT pass('10 seconds');
SELECT id, agent, state, why, attempt, held FROM waiting;
SELECT take(), fail('rate_limited');
SELECT attempt, wake_at - (history -> -1 ->> 'at')::timestamptz BETWEEN interval '15 seconds' AND interval '30 seconds' AS within FROM mine;
SELECT pass('30 seconds'), take(), fail('unreachable');
SELECT attempt, wake_at - (history -> -1 ->> 'at')::timestamptz BETWEEN interval '20 seconds' AND interval '40 seconds' AS within FROM mine;
SELECT pass('40 seconds'), take(), fail('unreachable');
SELECT * FROM decided;
-- the same for every run, step and attempt; spread between them
SELECT leadroute.retry_wait(4711, 3, 1, '10 seconds', 2, '1 minute', 0), leadroute.retry_wait(4711, 3, 2, '10 seconds', 2, '1 minute', 0), leadroute.retry_wait(4711, 3, 1000, '10 seconds', 100, '1 minute', 0),
    leadroute.retry_wait(4711, 3, 5, '0', 2, '1 minute', 1), leadroute.retry_wait(4711, 3, 1, '10 seconds', 2, '1 minute', 1);
SELECT count(DISTINCT w) > 990 AS spread, min(w) >= '0' AND min(w) < '1 second' AND max(w) > '9 seconds' AND max(w) <= '10 seconds' AS whole
FROM (SELECT leadroute.retry_wait(i, 3, 1, '10 seconds', 2, '1 minute', 1) AS w FROM generate_series(1, 1000) AS i) x;

-- errors that are not worth another try: the agent says so, or the policy
DELETE FROM leads;
SELECT use_step('{"retry": {"not_on": ["not_found", "LR011"]}}');
INSERT INTO leads VALUES (2, 'DE');
SELECT take(), fail('rejected', false);
INSERT INTO leads VALUES (3, 'DE');
SELECT take(), fail('not_found');
INSERT INTO leads VALUES (4, 'DE');
SELECT take(), pass('1 minute');
SELECT * FROM decided WHERE id > 1 ORDER BY id;

-- a lease that runs out is a failed attempt; who had it changes nothing any more
SELECT use_step('{"retry": {"wait": "10 seconds", "jitter": 0}}');
INSERT INTO leads VALUES (5, 'DE');
SELECT take(lease => '20 seconds'), pass('19 seconds'), pass('1 second');
SELECT id, agent, state, why, attempt, held, history FROM waiting;
\set VERBOSITY sqlstate
SELECT leadroute.complete_task(task, token, '{"seen": true}') FROM held;
SELECT leadroute.fail_task(task, token, 'late') FROM held;
SELECT leadroute.extend_task(task, token) FROM held;
CREATE TABLE before AS SELECT * FROM held;
SELECT pass('10 seconds'), take();
SELECT leadroute.complete_task(task, token, '{"seen": true}') FROM before;
SELECT leadroute.extend_task(task, token) FROM before;
\set VERBOSITY default
SELECT b.task = h.task AS same_task, b.token <> h.token AS new_token, h.attempt FROM before b, held h;
SELECT leadroute.complete_task(task, token, '{"seen": true}') FROM held;
SELECT * FROM decided WHERE id = 5;

-- a time-out that is over is not over because the task is extended
SELECT use_step('{"retry": {"attempts": 2, "wait": "10 seconds", "jitter": 0}, "timeouts": {"start_to_close": "50 seconds", "heartbeat": "30 seconds"}}');
INSERT INTO leads VALUES (6, 'DE');
SELECT take(), pass('30 seconds');
SELECT id, agent, state, why, attempt, held FROM waiting;
SELECT pass('10 seconds'), take(), pass('25 seconds');
SELECT leadroute.extend_task(task, token) FROM held;
SELECT pass('25 seconds');
SELECT * FROM decided WHERE id = 6;

-- what nobody takes in time fails at once; so does what took too long with all its attempts
SELECT use_step('{"timeouts": {"schedule_to_start": "1 hour"}}');
INSERT INTO leads VALUES (7, 'DE');
SELECT id, state, due_in FROM waiting;
SELECT pass('59 minutes 50 seconds'), pass('10 seconds');
SELECT use_step('{"retry": {"attempts": 100, "wait": "20 minutes", "factor": 1, "ceiling": "1 hour", "jitter": 0}, "timeouts": {"schedule_to_close": "1 hour"}}');
INSERT INTO leads VALUES (8, 'DE'), (9, 'DE');
SELECT take(), fail('busy'), pass('20 minutes');
SELECT id, state, attempt, due_in FROM waiting ORDER BY id;
SELECT take(), fail('busy'), pass('20 minutes');
-- another wait would be too long: so it ends with this failure
SELECT take(), pass('10 seconds');
SELECT leadroute.fail_task(task, token, 'busy') FROM held WHERE lead_id = (SELECT lead_id FROM mine WHERE id = 8);
SELECT leadroute.extend_task(task, token, '1 day') FROM held WHERE lead_id = (SELECT lead_id FROM mine WHERE id = 9);
SELECT id, state, attempt, due_in FROM waiting ORDER BY id;
SELECT pass('19 minutes 50 seconds');
SELECT id, outcome, sqlstate, place, attempts FROM decided WHERE id IN (7, 8, 9) ORDER BY id;

-- what takes the place of a step that failed for good: an output
SELECT use_step('{"retry": {"attempts": 2, "wait": "10 seconds", "jitter": 0}, "fallback": {"output": {"seen": true, "guessed": true}}}');
INSERT INTO leads VALUES (10, 'DE');
SELECT take(), fail('busy'), pass('10 seconds');
SELECT take(), fail('busy');
SELECT * FROM decided WHERE id = 10;
-- nothing, and the run goes on
SELECT use_step('{"retry": {"attempts": 1}, "fallback": {"skip": true}}');
INSERT INTO leads VALUES (11, 'DE');
SELECT take(), fail('busy');
SELECT * FROM decided WHERE id = 11;
-- another agent, with its own contract and attempts, and time of its own
SELECT use_step('{"retry": {"attempts": 2, "wait": "10 seconds", "jitter": 0}, "timeouts": {"schedule_to_start": "1 hour"}, "fallback": {"agent": "failures-second"}}');
INSERT INTO leads VALUES (12, 'DE', 'jane@acme.example'), (13, 'FR', NULL), (14, 'AT', NULL);
SELECT take(), fail('busy'), pass('10 seconds');
SELECT take('failures-second@1'), take(), fail('busy'), take();
SELECT id, agent, state, why, attempt, due_in, history FROM waiting ORDER BY id;
SELECT take('failures-second@1');
SELECT attempt, inputs FROM held ORDER BY lead_id;
SELECT leadroute.complete_task(task, token, '{"seen": true}') FROM held WHERE inputs ->> 'country' = 'DE';
SELECT leadroute.fail_task(task, token, 'not_found', false) FROM held WHERE inputs ->> 'country' = 'FR';
SELECT leadroute.fail_task(task, token, 'busy') FROM held WHERE inputs ->> 'country' = 'AT';
SELECT id, agent, state, why, attempt FROM waiting;
SELECT pass('10 seconds'), take('failures-second@1'), fail('busy');
SELECT * FROM decided WHERE id IN (12, 13, 14) ORDER BY id;

-- a step that is held goes on when the time is over; its task is then one like any other
SELECT use_step('{"retry": {"attempts": 1}, "hold": {"until": ["email"], "for": "1 hour"}}');
INSERT INTO leads VALUES (15, 'DE', NULL);
SELECT id, agent, state, why, attempt, due_in FROM waiting;
SELECT take(), pass('30 minutes');
-- a clock that is ahead of the one that was read before: it is looked at, and waits on
SELECT pass('30 minutes');
SELECT id, state, wake_at > now() AS later FROM mine;
-- what it is held for arrives
UPDATE leads SET email = 'joe@acme.example' WHERE id = 15;
SELECT id, state FROM mine;
SELECT take();
SELECT count(leadroute.complete_task(task, token, '{"seen": true}')) AS done FROM held;
SELECT use_step('{"retry": {"attempts": 1}, "hold": {"until": ["email"], "for": "10 milliseconds"}}');
INSERT INTO leads VALUES (18, 'FR', NULL);
SELECT id, agent, state, why, attempt, due_in FROM waiting WHERE id = 18;
SELECT pg_sleep(0.02), pass('0');
SELECT id, agent, state, why, attempt FROM waiting WHERE id = 18;
SELECT take('failures-first@1');
SELECT count(leadroute.complete_task(task, token, '{"seen": true}')) AS done FROM held;
SELECT * FROM decided WHERE id IN (15, 18) ORDER BY id;

-- a fallback agent that works elsewhere is not given a lead that has to stay in a region: its step fails
SELECT leadroute.register_external_agent('failures-near', '1', '{failuresLook}', '{country}', region => 'eu', breaker_failures => 100) >= 1000 AS registered;
SELECT use_step('{"agent": "failures-near", "regions": [{"when": "country = ''DE''", "allow": ["eu"]}], "retry": {"attempts": 1}, "fallback": {"agent": "failures-second"}}');
INSERT INTO leads VALUES (19, 'DE'), (20, 'FR');
SELECT take('failures-near@1');
-- arrays of any bounds
SELECT count(*) AS refused FROM leadroute.fail_tasks((SELECT array_agg(task ORDER BY lead_id) FROM held), (SELECT array_agg(token ORDER BY lead_id) FROM held), '[5:6]={down,down}');
SELECT id, agent, state FROM waiting;
SELECT take('failures-second@1');
SELECT count(leadroute.complete_task(task, token, '{"seen": true}')) AS done FROM held;
SELECT * FROM decided WHERE id IN (19, 20) ORDER BY id;

-- nor is one that has come to stay there since it was asked for: its agent is told nothing of it, and the step is looked at again
SELECT use_step('{"agent": "failures-second", "regions": [{"when": "country = ''DE''", "allow": ["eu"]}], "on_error": "skip"}');
INSERT INTO leads VALUES (21, 'FR', '21@acme.example');
UPDATE leads SET country = 'DE' WHERE id = 21;
SELECT take('failures-second@1');
SELECT inputs IS NULL AS without FROM held;
SELECT count(leadroute.complete_task(task, token, '{"seen": true}')) AS done FROM held;
SELECT * FROM decided WHERE id = 21;

-- the same for steps inside the database: attempts count there too, and a function that raises is tried again
CREATE FUNCTION stumble(lead jsonb) RETURNS jsonb LANGUAGE plpgsql AS $f$
BEGIN
    IF lead ->> 'country' <> 'FR' THEN RAISE division_by_zero; END IF;
    RETURN '{"seen": true}';
END $f$;
SELECT leadroute.register_agent('failures-inside', '1', '{failuresLook}', 'stumble(jsonb)') >= 1000 AS registered;
SELECT use_step('{"agent": "failures-inside", "mode": "worker", "retry": {"attempts": 2, "wait": "10 seconds", "jitter": 0}}');
INSERT INTO leads VALUES (16, 'DE'), (17, 'FR');
SELECT leadroute.do_work(100) > 0 AS worked, leadroute.do_work(100) >= 0 AS worked;
SELECT id, agent, state, why, attempt, history FROM waiting;
SELECT pass('10 seconds');
SELECT leadroute.do_work(100) > 0 AS worked, leadroute.do_work(100) >= 0 AS worked;
SELECT * FROM decided WHERE id IN (16, 17) ORDER BY id;

-- an agent can say that it failed, whatever leadroute.on_error is: it is the insert that this aborts
SELECT use_step('{"retry": {"attempts": 1}}');
INSERT INTO leads VALUES (29, 'DE', 'nineteen@example.com');
SELECT take();
-- nor does it leave behind what nobody could read
SELECT leadroute.complete_task(task, token, ('{"deep": ' || repeat('[', 100) || repeat(']', 100) || '}')::jsonb) FROM held;
SET LOCAL leadroute.on_error = abort;
SELECT count(leadroute.fail_task(task, token, 'no_good', false)) AS failed FROM held;
RESET leadroute.on_error;
SELECT * FROM decided WHERE id = 29;

-- nothing is left
SELECT id, state FROM mine;
COMMIT;
DROP SCHEMA tasks_failures CASCADE;
