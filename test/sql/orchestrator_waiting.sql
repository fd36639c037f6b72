-- Steps that cannot run in the inserting transaction: the lead waits, other steps go on, and the run comes to one outcome, whoever
-- brings the results. Done by background workers where the library is preloaded, by run_pending() otherwise, with the same outcome: so
-- this script asks for what came out, and never who did it.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA orchestrator_waiting;
SET search_path TO orchestrator_waiting;

-- Works, as workers would, until something is the case.
CREATE PROCEDURE work_until(condition text) LANGUAGE plpgsql AS $$
DECLARE
    reached boolean;
BEGIN
    FOR i IN 1 .. 3000 LOOP
        PERFORM leadroute.run_pending();
        COMMIT;
        EXECUTE 'SELECT ' || condition INTO reached;
        IF reached THEN
            RETURN;
        END IF;
        PERFORM pg_sleep(0.02);
    END LOOP;
    RAISE 'this was not reached: %', condition;
END $$;
-- Takes the only task that there is for an agent.
CREATE TABLE claims (name text PRIMARY KEY, task text, token bigint, inputs jsonb);
CREATE FUNCTION claim(name text, agent text) RETURNS jsonb LANGUAGE sql AS $$
    INSERT INTO claims SELECT $1, c.task, c.token, c.inputs FROM leadroute.claim_tasks($2, max => 10) c
    ON CONFLICT ON CONSTRAINT claims_pkey DO UPDATE SET task = excluded.task, token = excluded.token, inputs = excluded.inputs RETURNING inputs
$$;
CREATE FUNCTION complete(name text, output jsonb, confidence real DEFAULT NULL, model text DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
    SELECT leadroute.complete_task(c.task, c.token, $2, $3, $4) FROM claims c WHERE c.name = $1
$$;
CREATE FUNCTION fail(name text, error text, retryable boolean DEFAULT true) RETURNS void LANGUAGE sql AS $$
    SELECT leadroute.fail_task(c.task, c.token, $2, $3) FROM claims c WHERE c.name = $1
$$;

-- Agents inside note that they ran; budget fails for leads without a size, flaky the first time.
CREATE TABLE ledger (lead text, agent text, tried boolean DEFAULT false);
CREATE SEQUENCE flaky_calls;
CREATE FUNCTION budget(lead jsonb) RETURNS jsonb LANGUAGE plpgsql SET search_path = orchestrator_waiting, pg_temp AS $$
BEGIN
    INSERT INTO ledger VALUES (lead ->> 'external_id', 'budget');
    RETURN jsonb_build_object('amount', 1000 / (lead ->> 'company_size')::integer);
END $$;
CREATE FUNCTION flaky(lead jsonb) RETURNS jsonb LANGUAGE plpgsql SET search_path = orchestrator_waiting, pg_temp AS $$
BEGIN
    IF nextval('flaky_calls') % 2 = 1 THEN
        RAISE no_data_found;
    END IF;
    INSERT INTO ledger VALUES (lead ->> 'external_id', 'flaky');
    RETURN '{"ok": true}';
END $$;
CREATE FUNCTION spare(lead jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"amount": 7}'::jsonb $$;
SELECT leadroute.register_agent('ow_spare', '1', '{owBudget}', 'spare(jsonb)') > 0 AS registered;
SELECT leadroute.register_agent('ow_budget', '1', '{owBudget}', 'budget(jsonb)') > 0 AS registered;
SELECT leadroute.register_agent('ow_flaky', '1', '{owFlaky}', 'flaky(jsonb)') > 0 AS registered;
SELECT leadroute.register_external_agent('ow_look', '1', '{owLook}', '{country,email,attributes.seats,owBudget}', 'Look Ltd', 'eu') > 0 AS registered;
SELECT leadroute.register_external_agent('ow_rank', '1', '{owRank}', '{country}', region => 'us', keeps_state => true) > 0 AS registered;

INSERT INTO leadroute.owners (reference) VALUES ('ow-1'), ('ow-2');
INSERT INTO leadroute.pools (name) VALUES ('ow pool'), ('ow other');
INSERT INTO leadroute.pool_members (pool_id, owner_id)
    SELECT pool_id, owner_id FROM leadroute.pools JOIN leadroute.owners ON (name = 'ow pool') = (reference = 'ow-1')
    WHERE name LIKE 'ow %' AND reference LIKE 'ow-%';
CREATE TABLE leads (external_id text PRIMARY KEY, country text, region text, email text, company_size integer, industry text, attributes jsonb);
SELECT leadroute.attach_table('leads', policy => 'orchestrator_waiting', reroute_on => '{company_size,industry,country}',
    classes => '{"external_id": "plain", "country": "plain", "region": "plain", "company_size": "plain", "industry": "plain"}') > 0 AS attached;
CREATE FUNCTION use(document jsonb) RETURNS void LANGUAGE sql AS $$
    SELECT leadroute.publish_policy('orchestrator_waiting', '{"leadroute": 1}' || document, 'test');
    SELECT leadroute.activate_policy('orchestrator_waiting');
$$;
CREATE FUNCTION state(lead text, OUT outcome leadroute.outcome, OUT reason_code text, OUT owner text) LANGUAGE sql STABLE AS $$
    SELECT s.outcome, s.reason_code, o.reference FROM leadroute.lead_states s LEFT JOIN leadroute.owners o USING (owner_id)
    WHERE s.lead_id = leadroute.lead_of('leads', lead)
$$;
-- The steps of the last entry.
CREATE FUNCTION steps(lead text) RETURNS TABLE (step_no integer, capability text, status text, error text, output jsonb, by text, fallback text, attempts text)
    LANGUAGE sql STABLE AS $$
    SELECT p.step_no, p.capability, p.status, concat_ws(' ', p.sqlstate, p.place), p.output, p.attempts ->> 'by', p.attempts ->> 'fallback',
           (SELECT string_agg(a ->> 'error', ', ' ORDER BY n) FROM jsonb_array_elements(p.attempts -> 'attempts') WITH ORDINALITY AS e (a, n))
    FROM leadroute.provenance p
    WHERE p.lead_id = leadroute.lead_of('leads', lead)
        AND (p.as_of, p.entry_no) = (SELECT e.as_of, e.entry_no FROM leadroute.entries e WHERE e.lead_id = p.lead_id ORDER BY e.as_of DESC, e.entry_no DESC LIMIT 1)
    ORDER BY p.step_no
$$;
CREATE VIEW tasks AS
    SELECT k.key AS lead, t.state, t.why FROM leadroute.waiting_tasks t JOIN leadroute.lead_keys k USING (lead_id)
    WHERE k.source_id = (SELECT a.source_id FROM leadroute.attachment_of('leads') a);

-- An executor, an agent outside, and a step that needs neither
SELECT use('{
    "steps": [{"capability": "owBudget", "mode": "worker"},
              {"capability": "owLook"},
              {"capability": "checkRegionalCompliance", "stop_when": []},
              {"capability": "assignOwner"}],
    "rules": [{"name": "rich", "when": "(owBudget->>''amount'')::int > 5 AND owLook->>''known'' = ''yes''", "pool": "ow pool"},
              {"name": "others", "when": "true", "outcome": "nurture", "reason": "poor"}]}');
BEGIN;
INSERT INTO leads VALUES ('one', 'DE', 'eu', 'one@acme.example', 100, NULL, '{"seats": 3, "secret": "x"}');
SELECT * FROM state('one');
SELECT step_no, capability, status, output IS NOT NULL AS output FROM steps('one');
SELECT queue, capability, agent, state, why FROM leadroute.waiting_tasks WHERE lead_id = leadroute.lead_of('leads', 'one') ORDER BY task;
COMMIT;
CALL work_until($$(SELECT status = 'done' FROM steps('one') WHERE step_no = 1)$$);
SELECT * FROM state('one');
-- what the contract names, and no more
SELECT claim('one', 'ow_look@1');
SELECT lead, state, why FROM tasks;
SELECT complete('one', '{"known": "yes"}', 0.9, 'look-7');
SELECT * FROM state('one');
SELECT step_no, capability, status, CASE step_no WHEN 3 THEN '…' ELSE output::text END AS output, by, fallback, attempts FROM steps('one');
SELECT confidence, attempts FROM leadroute.provenance WHERE lead_id = leadroute.lead_of('leads', 'one') AND step_no = 2 AND status = 'done';
SELECT count(*) FROM tasks;
-- one run, an entry for each result
CREATE FUNCTION entries(lead text) RETURNS TABLE (run bigint, entry_no integer, outcome leadroute.outcome, reason_code text, cause "char") LANGUAGE sql STABLE AS $$
    SELECT dense_rank() OVER (ORDER BY e.run_id), e.entry_no, e.outcome, e.reason_code, e.cause FROM leadroute.entries e
    WHERE e.lead_id = leadroute.lead_of('leads', lead) ORDER BY 1, 2
$$;
SELECT * FROM entries('one');
SELECT count(*) AS decisions FROM leadroute.decisions WHERE lead_id = leadroute.lead_of('leads', 'one') AND current;

-- joined by all, a step waits for every one; by any, for the first; one whose condition does not hold is skipped, at once
SELECT use('{
    "steps": [{"capability": "owLook"}, {"capability": "owRank", "when": "country = ''DE''"},
              {"capability": "owBudget", "mode": "worker", "agent": "ow_spare", "after": ["owLook", "owRank"], "join": "any"},
              {"capability": "owFlaky", "mode": "worker", "after": ["owLook", "owRank"], "join": "all", "retry": {"wait": "1 millisecond"}},
              {"capability": "assignOwner"}],
    "rules": [{"name": "all", "when": "true", "pool": "ow pool"}]}');
INSERT INTO leads VALUES ('join', 'DE'), ('skip', 'FR');
SELECT step_no, status FROM steps('join');
SELECT step_no, status FROM steps('skip');
SELECT claim('rank', 'ow_rank@1');
SELECT complete('rank', '{"rank": 2}');
CALL work_until($$(SELECT status = 'done' FROM steps('join') WHERE step_no = 3)$$);
SELECT step_no, status FROM steps('join');
-- whose answers may depend on what it was asked before, and does not say which state answered, cannot be asked again
SELECT attempts FROM leadroute.provenance WHERE lead_id = leadroute.lead_of('leads', 'join') AND step_no = 2 AND status = 'done' AND entry_no = 2;
SELECT count(*) FROM leadroute.claim_tasks('ow_look@1', max => 10) c, LATERAL leadroute.complete_task(c.task, c.token, '{}');
CALL work_until($$(SELECT outcome = 'assigned' FROM state('join')) AND (SELECT outcome = 'assigned' FROM state('skip'))$$);
SELECT step_no, status, attempts FROM steps('join');
SELECT step_no, status FROM steps('skip');
SELECT lead, agent, count(*) FROM ledger WHERE agent = 'flaky' GROUP BY 1, 2 ORDER BY 1;

-- Held until attributes arrive, or for so long
SELECT use('{
    "steps": [{"capability": "owBudget", "mode": "worker", "agent": "ow_budget", "hold": {"until": ["company_size", "industry"], "for": "1 hour"}},
              {"capability": "assignOwner"}],
    "rules": [{"name": "all", "when": "true", "pool": "ow pool"}]}');
INSERT INTO leads VALUES ('held', 'DE');
SELECT * FROM state('held');
SELECT lead, state, why FROM tasks;
SELECT status, output FROM steps('held');
UPDATE leads SET company_size = 4 WHERE external_id = 'held';
SELECT lead, state, why FROM tasks;
UPDATE leads SET industry = 'finance' WHERE external_id = 'held';
CALL work_until($$(SELECT outcome = 'assigned' FROM state('held'))$$);
SELECT status, output FROM steps('held');
SELECT count(*) FROM tasks;
-- nothing to wait for
BEGIN;
INSERT INTO leads VALUES ('not held', 'DE', NULL, NULL, 5, 'finance');
SELECT status FROM steps('not held');
COMMIT;
CALL work_until($$(SELECT outcome = 'assigned' FROM state('not held'))$$);
-- a step in the transaction can be held, too; what is missing when the time is over stays so
SELECT use('{
    "steps": [{"capability": "owBudget", "agent": "ow_spare", "hold": {"until": ["industry"], "for": "50 milliseconds"}}, {"capability": "assignOwner"}],
    "rules": [{"name": "all", "when": "true", "pool": "ow pool"}]}');
INSERT INTO leads VALUES ('too late', 'DE');
CALL work_until($$(SELECT outcome = 'assigned' FROM state('too late'))$$);
SELECT status, output FROM steps('too late');
SELECT * FROM entries('too late');

-- Not sure enough: a person decides. That ends the run which waits.
SELECT use('{
    "steps": [{"capability": "owLook", "review_below": 0.5}, {"capability": "owRank"}, {"capability": "assignOwner"}],
    "rules": [{"name": "careful", "priority": 1, "when": "country = ''DE''", "pool": "ow pool", "review_below": 0.8},
              {"name": "others", "priority": 2, "when": "true", "pool": "ow pool"}]}');
INSERT INTO leads VALUES ('sure', 'DE');
SELECT claim('look', 'ow_look@1'), claim('rank', 'ow_rank@1');
SELECT complete('look', '{}', 0.9);
SELECT complete('rank', '{}', 0.8);
SELECT * FROM state('sure');
INSERT INTO leads VALUES ('step', 'FR');
SELECT claim('look', 'ow_look@1'), claim('rank', 'ow_rank@1');
SELECT complete('look', '{"mark": 1}', 0.4);
SELECT * FROM state('step');
SELECT step_no, status FROM steps('step');
-- the other task is wanted no more
\set VERBOSITY sqlstate
SELECT complete('rank', '{}', 0.9);
\set VERBOSITY default
INSERT INTO leads VALUES ('rule', 'DE'), ('not careful', 'FR');
SELECT count(*) FROM leadroute.claim_tasks('ow_look@1', max => 10) c, LATERAL leadroute.complete_task(c.task, c.token, '{}', 0.7);
SELECT count(*) FROM leadroute.claim_tasks('ow_rank@1', max => 10) c, LATERAL leadroute.complete_task(c.task, c.token, '{}');
SELECT * FROM state('rule');
SELECT * FROM state('not careful');
CREATE VIEW reviews AS SELECT k.key AS lead, r.confidence, r.decision_id FROM leadroute.review_queue r JOIN leadroute.lead_keys k USING (lead_id)
    WHERE r.leads_table = 'orchestrator_waiting.leads';
SELECT lead, confidence FROM reviews ORDER BY lead;
SELECT leadroute.override_decision(decision_id, 'assigned', 'ow-2', 'looks fine') = decision_id AS same_run FROM reviews WHERE lead = 'step';
SELECT leadroute.override_decision(decision_id, 'rejected', NULL, 'a test') = decision_id AS same_run FROM reviews WHERE lead = 'rule';
SELECT * FROM state('step');
SELECT * FROM entries('step');
SELECT lead FROM reviews;
-- a step that failed for good can be left to a person
SELECT use('{
    "steps": [{"capability": "owLook", "on_error": "escalate"}, {"capability": "assignOwner"}], "rules": [{"name": "all", "when": "true", "pool": "ow pool"}]}');
INSERT INTO leads VALUES ('escalated', 'DE');
SELECT claim('look', 'ow_look@1');
SELECT fail('look', 'not_today', false);
SELECT * FROM state('escalated');
SELECT status, error, by, attempts FROM steps('escalated') WHERE step_no = 1;
SELECT lead FROM reviews;
SELECT leadroute.override_decision(decision_id, 'nurture', NULL, 'later') > 0 AS decided FROM reviews;

-- Failures: tried again, given to another agent, replaced, left out, or for good
SELECT use('{
    "steps": [{"capability": "owBudget", "mode": "worker", "agent": "ow_budget", "retry": {"attempts": 2, "wait": "1 millisecond"}, "fallback": {"agent": "ow_spare"}},
              {"capability": "owFlaky", "mode": "worker", "retry": {"attempts": 3, "wait": "1 millisecond", "not_on": ["P0002"]}, "fallback": {"output": {"ok": false}}},
              {"capability": "owLook", "fallback": {"skip": true}},
              {"capability": "owRank", "after": ["owBudget"]},
              {"capability": "assignOwner"}],
    "rules": [{"name": "all", "when": "true", "pool": "ow pool"}]}');
SELECT setval('flaky_calls', 2);
INSERT INTO leads VALUES ('fails', 'DE', NULL, NULL, 0);
CALL work_until($$(SELECT bool_and(status = 'done') FROM steps('fails') WHERE step_no <= 2)$$);
SELECT claim('look', 'ow_look@1');
SELECT fail('look', 'no_idea', false);
SELECT step_no, status, error, output, by, fallback, attempts FROM steps('fails');
SELECT claim('rank', 'ow_rank@1');
BEGIN;
SELECT fail('rank', 'no_idea');
SELECT lead, state, why FROM tasks;
COMMIT;
CALL work_until($$(SELECT state = 'queued' FROM tasks WHERE lead = 'fails')$$);
SELECT claim('rank', 'ow_rank@1');
SELECT fail('rank', 'no_rank_at_all', false);
SELECT * FROM state('fails');
SELECT step_no, status, error, fallback, attempts FROM steps('fails');
-- what failed left nothing behind
SELECT agent, count(*) FROM ledger WHERE lead = 'fails' GROUP BY 1;

-- so it is for a step that takes long, which is done while its run is not held: what was tried before is on record
CREATE FUNCTION slow(lead jsonb) RETURNS jsonb LANGUAGE plpgsql SET search_path = orchestrator_waiting, pg_temp AS $$
BEGIN
    PERFORM pg_catalog.pg_sleep(0.02);
    IF nextval('flaky_calls') = 2 THEN
        RAISE no_data_found;
    END IF;
    RETURN '{"slow": true}';
END $$;
SELECT leadroute.register_agent('ow_slow', '1', '{owSlow}', 'slow(jsonb)') > 0 AS registered;
SELECT use('{"steps": [{"capability": "owSlow", "mode": "worker", "retry": {"wait": "1 millisecond"}}, {"capability": "assignOwner"}],
    "rules": [{"name": "all", "when": "true", "pool": "ow pool"}]}');
SELECT setval('flaky_calls', 1, false);
INSERT INTO leads VALUES ('slow', 'DE');
CALL work_until($$(SELECT outcome = 'assigned' FROM state('slow'))$$);
INSERT INTO leads VALUES ('slow again', 'DE');
CALL work_until($$(SELECT outcome = 'assigned' FROM state('slow again'))$$);
SELECT status, output, by, attempts FROM steps('slow');
SELECT status, output, by, attempts FROM steps('slow again');

-- Time-outs: nobody takes it, or whoever has it is silent
SELECT use('{
    "steps": [{"capability": "owLook", "timeouts": {"schedule_to_start": "10 milliseconds"}, "fallback": {"output": {"late": true}}},
              {"capability": "owRank", "timeouts": {"heartbeat": "10 milliseconds"}, "retry": {"attempts": 1}, "on_error": "skip"},
              {"capability": "assignOwner"}],
    "rules": [{"name": "all", "when": "true", "pool": "ow pool"}]}');
BEGIN;
INSERT INTO leads VALUES ('silent', 'DE');
SELECT claim('rank', 'ow_rank@1');
COMMIT;
CALL work_until($$(SELECT outcome = 'assigned' FROM state('silent'))$$);
SELECT step_no, status, error, output, by, fallback, attempts FROM steps('silent');
\set VERBOSITY sqlstate
SELECT complete('rank', '{}');
\set VERBOSITY default

-- Regions: a lead that has to stay in one is not offered elsewhere; who does not say where it works is elsewhere
SELECT use('{
    "steps": [{"capability": "owRank", "regions": [{"when": "country = ''DE''", "allow": ["eu", "de"]}], "on_error": "skip"},
              {"capability": "owLook", "regions": [{"when": "country = ''DE''", "allow": ["eu", "de"]}]},
              {"capability": "assignOwner"}],
    "rules": [{"name": "all", "when": "true", "pool": "ow pool"}]}');
INSERT INTO leads VALUES ('stays', 'DE'), ('goes', 'US');
SELECT step_no, status, error FROM steps('stays');
SELECT step_no, status, error FROM steps('goes');
SELECT c.capability, c.lead_id = leadroute.lead_of('leads', 'goes') AS goes FROM leadroute.claim_tasks('ow_rank@1', max => 10) c, LATERAL leadroute.complete_task(c.task, c.token, '{}');
SELECT count(*) FROM leadroute.claim_tasks('ow_look@1', max => 10) c, LATERAL leadroute.complete_task(c.task, c.token, '{}');
SELECT * FROM state('stays');
SELECT * FROM state('goes');

-- The lead changes while it waits. What a step was not given changes nothing for it; what it was given has it asked again.
SELECT use('{
    "steps": [{"capability": "owLook"}, {"capability": "assignOwner"}],
    "rules": [{"name": "large", "priority": 1, "when": "company_size > 50", "pool": "ow pool"}, {"name": "small", "priority": 2, "when": "true", "pool": "ow other"}]}');
INSERT INTO leads VALUES ('changes', 'DE', NULL, 'a@acme.example', 3), ('other', 'DE', NULL, 'b@acme.example', 3);
INSERT INTO claims SELECT k.key, c.task, c.token, c.inputs FROM leadroute.claim_tasks('ow_look@1', max => 10) c JOIN leadroute.lead_keys k USING (lead_id);
SELECT name, inputs FROM claims WHERE name IN ('changes', 'other') ORDER BY name;
UPDATE leads SET company_size = 100 WHERE external_id = 'changes';
SELECT lead, state FROM tasks ORDER BY lead;
SELECT complete('changes', '{}');
SELECT * FROM state('changes');
SELECT d.rule FROM leadroute.decisions d WHERE d.lead_id = leadroute.lead_of('leads', 'changes') AND d.outcome = 'assigned';
UPDATE leads SET country = 'FR' WHERE external_id = 'other';
SELECT lead, state FROM tasks ORDER BY lead;
\set VERBOSITY sqlstate
SELECT complete('other', '{}');
\set VERBOSITY default
SELECT claim('other', 'ow_look@1');
-- nobody said so, as the column is not among those that route again: it is seen when the result comes
UPDATE leads SET email = 'c@acme.example' WHERE external_id = 'other';
SELECT complete('other', '{}');
SELECT * FROM state('other');
SELECT lead, state FROM tasks ORDER BY lead;
SELECT claim('other', 'ow_look@1');
SELECT complete('other', '{}');
SELECT * FROM state('other');
SELECT * FROM entries('other');

-- The lead goes while it waits: so does what it waited for
INSERT INTO leads VALUES ('goes away', 'DE');
SELECT claim('goes away', 'ow_look@1') IS NOT NULL AS claimed;
INSERT INTO leads VALUES ('goes away, too', 'DE');
DELETE FROM leads WHERE external_id LIKE 'goes away%';
\set VERBOSITY sqlstate
SELECT complete('goes away', '{}');
\set VERBOSITY default
SELECT count(*) FROM leadroute.claim_tasks('ow_look@1', max => 10);
SELECT count(*) AS left_over FROM leadroute.tasks t WHERE NOT EXISTS (SELECT FROM leadroute.lead_states s WHERE s.run_id = t.run_id AND s.closed_at IS NULL);

-- Closed, it is waited for no more; reopened, it is asked for again. So it is where the table is attached again.
INSERT INTO leads VALUES ('closed', 'DE');
SELECT leadroute.close_lead(leadroute.lead_of('leads', 'closed'), 'lost') IS NOT NULL AS closed;
SELECT count(*) FROM tasks;
SELECT leadroute.reopen_lead(leadroute.lead_of('leads', 'closed'), 'not lost') > 0 AS reopened;
SELECT lead, state FROM tasks;
SELECT leadroute.detach_table('leads');
SELECT count(*) FROM leadroute.claim_tasks('ow_look@1', max => 10);
SELECT leadroute.attach_table('leads', policy => 'orchestrator_waiting', reroute_on => '{company_size,industry,country}',
    classes => '{"external_id": "plain", "country": "plain", "region": "plain", "company_size": "plain", "industry": "plain"}') > 0 AS attached;
SELECT leadroute.route_lead(leadroute.lead_of('leads', 'closed'), 'attached again') > 0 AS looked;
SELECT claim('closed', 'ow_look@1');
SELECT complete('closed', '{}');
SELECT * FROM state('closed');

-- Paused: by pool, table and region. Who waits longest goes on first.
SELECT use('{"steps": [{"capability": "assignOwner"}], "rules": [{"name": "large", "priority": 1, "when": "company_size > 50", "pool": "ow pool"},
    {"name": "small", "priority": 2, "when": "true", "pool": "ow other"}]}');
SELECT leadroute.pause_routing('pool:ow pool', 'they are at a fair');
SELECT leadroute.pause_routing('region:eu', 'an incident');
INSERT INTO leads VALUES ('p1', 'DE', 'us', NULL, 100), ('p2', 'DE', 'us', NULL, 1), ('p3', 'DE', 'eu', NULL, 1), ('p4', 'DE', 'eu', NULL, 100);
SELECT external_id, s.* FROM leads, state(external_id) s WHERE external_id LIKE 'p_' ORDER BY 1;
SELECT leadroute.pause_routing('source:orchestrator_waiting.leads', 'all of it');
INSERT INTO leads VALUES ('p5', 'DE', 'us', NULL, 1);
SELECT external_id, s.* FROM leads, state(external_id) s WHERE external_id LIKE 'p_' ORDER BY 1;
SELECT scope, reason, paused_by = session_user AS by_me FROM leadroute.routing_pauses ORDER BY scope;
SELECT leadroute.resume_routing('source:orchestrator_waiting.leads', 'they can');
SELECT external_id, s.* FROM leads, state(external_id) s WHERE external_id LIKE 'p_' ORDER BY 1;
SELECT leadroute.resume_routing('region:eu');
SELECT leadroute.resume_routing('pool:ow pool', 'back');
SELECT external_id, s.* FROM leads, state(external_id) s WHERE external_id LIKE 'p_' ORDER BY 1;
SELECT * FROM entries('p4');
-- a run that waits for an agent, and then is paused: the result is kept
SELECT use('{"steps": [{"capability": "owLook"}, {"capability": "assignOwner"}], "rules": [{"name": "all", "when": "true", "pool": "ow pool"}]}');
INSERT INTO leads VALUES ('q1', 'DE', 'eu');
SELECT leadroute.pause_routing('pool:ow pool', 'again');
SELECT claim('q1', 'ow_look@1') IS NOT NULL AS claimed, complete('q1', '{"kept": true}');
SELECT * FROM state('q1');
SELECT leadroute.resume_routing('pool:ow pool');
SELECT * FROM state('q1');
SELECT step_no, status, output FROM steps('q1');

-- so it is where the table is paused, and what an agent inside has done is not done again
SELECT use('{"steps": [{"capability": "owBudget", "mode": "worker", "agent": "ow_budget"}, {"capability": "owRank"}, {"capability": "assignOwner"}],
    "rules": [{"name": "all", "when": "true", "pool": "ow pool"}]}');
INSERT INTO leads VALUES ('q2', 'DE', 'eu', NULL, 10);
CALL work_until($$(SELECT status = 'done' FROM steps('q2') WHERE step_no = 1)$$);
SELECT leadroute.pause_routing('source:orchestrator_waiting.leads', 'again');
SELECT claim('q2', 'ow_rank@1') IS NOT NULL AS claimed, complete('q2', '{"kept": true}');
SELECT * FROM state('q2');
SELECT step_no, status, output FROM steps('q2');
SELECT leadroute.resume_routing('source:orchestrator_waiting.leads');
SELECT * FROM state('q2');
SELECT step_no, status, output FROM steps('q2');
SELECT count(*) FROM ledger WHERE lead = 'q2';

-- What is on record verifies, whoever brought it; and everything adds up
SELECT v.verdict, v.place, count(*) FROM leadroute.decisions d, leadroute.verify_decision(d.decision_id) v
    WHERE d.leads_table = 'orchestrator_waiting.leads' AND d.current GROUP BY 1, 2 ORDER BY 1, 2;
SELECT problem, count(*) FROM leadroute.reconcile('leads') GROUP BY 1;
SELECT count(*) FROM tasks;

DROP SCHEMA orchestrator_waiting CASCADE;
SELECT leadroute.deprecate_agent(name, version, true) FROM leadroute.agents WHERE name LIKE 'ow\_%';
