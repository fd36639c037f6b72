-- Agents outside take tasks, keep them, and give them back: who may, in what order, what they are given, and what becomes of a
-- token that is no longer the one.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA tasks_claims;
SET search_path TO tasks_claims;
CREATE ROLE regress_lr_sizer IN ROLE leadroute_agent;
CREATE ROLE regress_lr_rival IN ROLE leadroute_agent;
CREATE ROLE regress_lr_nobody;
GRANT USAGE ON SCHEMA tasks_claims TO regress_lr_sizer, regress_lr_rival;

-- agents declare what they are given
SET ROLE regress_lr_sizer;
\set VERBOSITY sqlstate
SELECT leadroute.register_external_agent('claims-sizer', '1', '{}');
SELECT leadroute.register_external_agent('claims-sizer', '1', '{validateContact}');
SELECT leadroute.register_external_agent('claims-sizer', '1', '{claimsSize}', '{a b}');
SELECT leadroute.register_external_agent('claims-sizer', '1', '{claimsSize}', region => 'e u');
SELECT leadroute.register_external_agent('claims-sizer', '1', '{claimsSize}', breaker_failures => NULL);
SELECT leadroute.register_external_agent('claims-sizer', '1', '{claimsSize}', max_concurrent => 0);
SET ROLE regress_lr_nobody;
SELECT leadroute.register_external_agent('claims-sizer', '1', '{claimsSize}');
SET ROLE regress_lr_sizer;
\set VERBOSITY default
SELECT leadroute.register_external_agent('claims-sizer', '1', '{claimsSize,claimsOther}', '{country,email,attributes.seats}', 'Example Ltd', 'eu') >= 1000 AS registered;
SELECT leadroute.register_external_agent('claims-memory', '1', '{claimsRemember}', '{country}', keeps_state => true) >= 1000 AS registered;
RESET ROLE;
SELECT name, kind, owner, inputs, processor, region, keeps_state FROM leadroute.agents WHERE name LIKE 'claims-%' ORDER BY name;

CREATE TABLE leads (id integer PRIMARY KEY, country text, email text, seats integer);
CREATE TABLE plain_leads (id integer PRIMARY KEY, country text);
CREATE TABLE odd_leads (id integer PRIMARY KEY, country text);
SELECT leadroute.attach_table('leads', policy => 'tasks_claims', classes => '{"country": "plain"}') > 0 AS attached;
SELECT leadroute.attach_table('plain_leads', policy => 'tasks_claims_plain', classes => '{"country": "plain"}') > 0 AS attached;
SELECT leadroute.attach_table('odd_leads', policy => 'tasks_claims_odd') > 0 AS attached;
SELECT leadroute.publish_policy('tasks_claims', '{"leadroute": 1,
    "steps": [{"capability": "claimsSize", "timeouts": {"start_to_close": "10 minutes", "heartbeat": "30 seconds"}}, {"capability": "assignOwner"}],
    "rules": [{"name": "big", "when": "(claimsSize->>''size'')::int > 100", "outcome": "nurture", "reason": "big"},
              {"name": "others", "when": "true", "outcome": "nurture", "reason": "small"}]}', 'test') > 0 AS published,
    leadroute.publish_policy('tasks_claims_plain', '{"leadroute": 1,
    "steps": [{"capability": "claimsRemember"}, {"capability": "assignOwner"}],
    "rules": [{"name": "others", "when": "true", "outcome": "nurture", "reason": "seen"}]}', 'test') > 0 AS published,
    leadroute.publish_policy('tasks_claims_odd', '{"leadroute": 1,
    "steps": [{"capability": "claimsUnheard", "mode": "external", "queue": "odd"}, {"capability": "assignOwner"}],
    "rules": [{"name": "others", "when": "true", "outcome": "nurture", "reason": "heard"}]}', 'test') > 0 AS published;
SELECT leadroute.activate_policy('tasks_claims') > 0 AND leadroute.activate_policy('tasks_claims_plain') > 0 AND leadroute.activate_policy('tasks_claims_odd') > 0 AS active;
CREATE VIEW waiting AS
    SELECT CASE WHEN t.relation_name LIKE 'tasks_claims.%' THEN k.key::integer END AS id, w.queue, w.agent, w.state, w.why, w.attempt FROM leadroute.waiting_tasks w JOIN leadroute.lead_keys k USING (lead_id)
    JOIN leadroute.attached_tables t USING (source_id) WHERE t.relation_name LIKE 'tasks_claims.%';
CREATE VIEW decided AS
    SELECT CASE WHEN t.relation_name LIKE 'tasks_claims.%' THEN k.key::integer END AS id, d.outcome, d.reason_code FROM leadroute.decisions d JOIN leadroute.lead_keys k USING (lead_id)
    JOIN leadroute.attached_tables t USING (source_id) WHERE t.relation_name LIKE 'tasks_claims.%';
CREATE TABLE held (task text, token bigint, capability text, attempt integer, lead_id bigint, inputs jsonb, traceparent text, deadline timestamptz, heartbeat interval, n serial);
GRANT SELECT, INSERT, DELETE ON held TO regress_lr_sizer, regress_lr_rival;
GRANT USAGE ON SEQUENCE held_n_seq TO regress_lr_sizer, regress_lr_rival;
CREATE FUNCTION id_of(lead bigint) RETURNS integer LANGUAGE sql SECURITY DEFINER AS $$ SELECT key::integer FROM leadroute.lead_keys WHERE lead_id = lead $$;

-- what personal data the agent is given is read when it takes the task, and never kept
INSERT INTO leads VALUES (1, 'DE', 'jane@acme.example', 7);
INSERT INTO leads VALUES (2, 'FR', NULL, 900), (3, 'AT', 'joe@acme.example', 5);
INSERT INTO plain_leads VALUES (11, 'DE'), (12, 'FR');
SELECT k.key AS id, x.inputs FROM leadroute.tasks x JOIN leadroute.lead_keys k USING (lead_id) JOIN leadroute.attached_tables t USING (source_id)
    WHERE t.relation_name LIKE 'tasks_claims.%' ORDER BY length(k.key), k.key;
SELECT * FROM waiting ORDER BY id;

-- who may, and what can be asked for
\set VERBOSITY sqlstate
SET ROLE regress_lr_nobody;
SELECT * FROM leadroute.claim_tasks('claims-sizer@1');
SET ROLE regress_lr_rival;
SELECT * FROM leadroute.claim_tasks('claims-sizer@1');
SELECT * FROM leadroute.claim_tasks_for(10, 'claims-sizer@1', NULL, 1, '1 minute', NULL);
SET ROLE regress_lr_sizer;
SELECT * FROM leadroute.claim_tasks('claims-sizer@2');
SELECT * FROM leadroute.claim_tasks('claims-sizer');
SELECT * FROM leadroute.claim_tasks('anybody@1');
SELECT * FROM leadroute.claim_tasks('claims-sizer@1', '{validateContact}');
SELECT * FROM leadroute.claim_tasks('claims-sizer@1', max => 0);
SELECT * FROM leadroute.claim_tasks('claims-sizer@1', max => 10001);
SELECT * FROM leadroute.claim_tasks('claims-sizer@1', lease => '0 seconds');
SELECT * FROM leadroute.claim_tasks('claims-sizer@1', lease => '2 days');
SELECT * FROM leadroute.claim_tasks('claims-sizer@1', holder => 'jane doe');
SELECT * FROM leadroute.claim_tasks(NULL);
\set VERBOSITY default
-- a function that runs as somebody else does not lend out who calls it
RESET ROLE;
CREATE FUNCTION trap() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ SELECT count(*) FROM leadroute.claim_tasks('claims-sizer@1') $$;
ALTER FUNCTION trap() OWNER TO regress_lr_rival;
SELECT trap();

-- the oldest first, each to one only
SET ROLE regress_lr_sizer;
INSERT INTO held SELECT * FROM leadroute.claim_tasks('claims-sizer@1', lease => '20 seconds', holder => 'worker-1');
SELECT id_of(lead_id) AS id, task ~ '^\d+/1$' AS task, token BETWEEN 1 AND 9007199254740991 AS token, capability, attempt, inputs,
    deadline - now() BETWEEN interval '9 minutes' AND interval '11 minutes' AS deadline, heartbeat FROM held;
INSERT INTO held SELECT * FROM leadroute.claim_tasks('claims-sizer@1', '{claimsOther}', 10);
INSERT INTO held SELECT * FROM leadroute.claim_tasks('claims-sizer@1', '{claimsSize}', 10);
INSERT INTO held SELECT * FROM leadroute.claim_tasks('claims-sizer@1', max => 10);
SELECT id_of(lead_id) AS id, inputs, heartbeat FROM held ORDER BY n;
RESET ROLE;
SELECT * FROM waiting ORDER BY id;
SELECT count(*) AS kept FROM leadroute.tasks WHERE inputs::text LIKE '%acme%' OR history::text LIKE '%acme%';
-- the shorter of lease and heartbeat counts
SELECT h.n, t.wake_at - t.started_at AS until FROM held h JOIN leadroute.tasks t ON t.run_id || '/' || t.step_no = h.task ORDER BY h.n;

-- keeping a task: by its token, for as long as its step lets it
SET ROLE regress_lr_sizer;
SELECT task, token FROM held WHERE n = 1 \gset
SELECT leadroute.extend_task(:'task', :token, '10 seconds');
SELECT leadroute.extend_task(:'task', :token, '1 day');
\set VERBOSITY terse
SELECT leadroute.extend_task(:'task', :token, '0');
SELECT leadroute.extend_task(:'task', :token, '25 hours');
SELECT leadroute.extend_task('1; SELECT 1', :token);
\set VERBOSITY sqlstate
SELECT leadroute.extend_task(:'task', :token % 9007199254740991 + 1);
SELECT leadroute.extend_task('9007199254740991/1', 1);
SELECT leadroute.extend_task(:'task', NULL);
\set VERBOSITY default
RESET ROLE;
SELECT wake_at - now() BETWEEN interval '29 seconds' AND interval '31 seconds' AS by_heartbeat FROM leadroute.tasks t JOIN held h ON t.run_id || '/' || t.step_no = h.task WHERE n = 1;
UPDATE leadroute.tasks t SET started_at = started_at - interval '9 minutes 50 seconds' FROM held h WHERE t.run_id || '/' || t.step_no = h.task AND n = 1;
SELECT leadroute.extend_task(:'task', :token, '1 day');
SELECT wake_at - now() BETWEEN interval '5 seconds' AND interval '11 seconds' AS by_deadline FROM leadroute.tasks t JOIN held h ON t.run_id || '/' || t.step_no = h.task WHERE n = 1;

-- giving back: what cannot be used changes nothing
SET ROLE regress_lr_sizer;
\set VERBOSITY sqlstate
SELECT leadroute.complete_task(:'task', :token, '[1]');
SELECT leadroute.complete_task(:'task', :token, NULL);
SELECT leadroute.complete_task(:'task', :token, '{"size": 7}', 1.5);
SELECT leadroute.complete_task(:'task', :token, '{"size": 7}', model => 'a model, by jane');
SELECT leadroute.complete_task(:'task', :token, '{"size": 7}', model => repeat('x', 64));
SELECT leadroute.complete_task(:'task', :token, '{"size": 7}', telemetry => '[]');
SELECT leadroute.complete_task(:'task', :token, '{"size": 7}', telemetry => '{"for": "jane@acme.example"}');
SELECT leadroute.complete_task(:'task', :token, '{"size": 7}', telemetry => '{"nested": {"ms": 1}}');
SELECT leadroute.complete_task(:'task', :token, '{"size": 7}', telemetry => jsonb_build_object('code', repeat('x', 65)));
SELECT leadroute.complete_task(:'task', :token, '{"size": 7}', telemetry => jsonb_build_object('Jane Doe', 1));
SELECT leadroute.complete_task('no task', :token, '{"size": 7}');
SELECT leadroute.complete_task(:'task', :token % 9007199254740991 + 1, '{"size": 7}');
SELECT leadroute.fail_task(:'task', :token, 'Could not find jane@acme.example');
SELECT leadroute.fail_task(:'task', :token % 9007199254740991 + 1, 'not_found');
SELECT * FROM leadroute.complete_tasks(ARRAY[:'task', :'task'], ARRAY[:token, :token], '{"{}","{}"}');
SELECT * FROM leadroute.complete_tasks(ARRAY[:'task'], ARRAY[:token, :token], '{"{}"}');
SELECT * FROM leadroute.complete_tasks(ARRAY[:'task'], ARRAY[:token], '{}');
SELECT * FROM leadroute.fail_tasks(ARRAY[:'task'], ARRAY[:token], '{}');
\set VERBOSITY default
SELECT * FROM leadroute.complete_tasks('{}', '{}', '{}');
RESET ROLE;
SELECT * FROM waiting WHERE id < 10 ORDER BY id;
SELECT * FROM decided;

-- done: the run goes on, once
SET ROLE regress_lr_sizer;
SELECT leadroute.complete_task(:'task', :token, '{"size": 700}', 0.75, 'sizes@2026-11', '{"ms": 12, "cached": false, "region": "eu-1"}');
\set VERBOSITY sqlstate
SELECT leadroute.complete_task(:'task', :token, '{"size": 1}');
SELECT leadroute.extend_task(:'task', :token);
SELECT leadroute.fail_task(:'task', :token, 'too_late');
\set VERBOSITY default
RESET ROLE;
SELECT * FROM decided;
SELECT p.entry_no, p.step_no, p.status, p.agent, p.output, p.confidence, p.attempts FROM leadroute.provenance p JOIN held h USING (lead_id) WHERE h.n = 1 ORDER BY 1, 2;

-- many at a time: those that are not held are told, the others are done
SET ROLE regress_lr_sizer;
SELECT f.refused, f.task = :'task' AS first FROM held a, held b, LATERAL leadroute.complete_tasks(ARRAY[a.task, :'task', b.task], ARRAY[a.token, :token, b.token + 1], '{"{\"size\": 1}","{}","{}"}') f WHERE a.n = 2 AND b.n = 3;
RESET ROLE;
SELECT * FROM decided ORDER BY id;

-- a person decides meanwhile: the holder hears of it at the next heartbeat, and whatever it brings is wanted by nobody
SELECT d.run_id AS decision FROM held h JOIN leadroute.lead_states d USING (lead_id) WHERE h.n = 3 \gset
SELECT leadroute.override_decision(:decision, 'rejected', NULL, 'known to be spam') > 0 AS decided;
SELECT task, token FROM held WHERE n = 3 \gset
SET ROLE regress_lr_sizer;
\set VERBOSITY sqlstate
SELECT leadroute.extend_task(:'task', :token);
SELECT leadroute.complete_task(:'task', :token, '{"size": 1}');
SELECT leadroute.fail_task(:'task', :token, 'too_late');
\set VERBOSITY default
SELECT refused FROM leadroute.complete_tasks(ARRAY[:'task'], ARRAY[:token], '{"{}"}');
SELECT refused FROM leadroute.fail_tasks(ARRAY[:'task'], ARRAY[:token], '{late}');
RESET ROLE;
SELECT * FROM decided ORDER BY id, outcome;

-- an agent that keeps state says which state it answered from, or its step cannot be computed again
SET ROLE regress_lr_sizer;
DELETE FROM held;
INSERT INTO held SELECT * FROM leadroute.claim_tasks('claims-memory@1', max => 2);
SELECT count(*) AS refused FROM (SELECT array_agg(task ORDER BY n) AS tasks, array_agg(token ORDER BY n) AS tokens FROM held) h, LATERAL leadroute.complete_tasks(tasks, tokens, '{"{}","{}"}', models => '{NULL,s-81}');
RESET ROLE;
SELECT p.attempts FROM leadroute.provenance p JOIN held h USING (lead_id) WHERE p.entry_no = 2 AND p.step_no = 1 ORDER BY h.n;

-- what nobody offers waits, visibly; then whoever does takes it, and is given what it declared
INSERT INTO odd_leads VALUES (21, 'DE');
SELECT * FROM waiting;
SET ROLE regress_lr_rival;
SELECT leadroute.register_external_agent('claims-odd', '1', '{claimsUnheard}', '{country}') >= 1000 AS registered;
INSERT INTO held SELECT * FROM leadroute.claim_tasks('claims-odd@1');
SELECT id_of(lead_id) AS id, inputs FROM held WHERE capability = 'claimsUnheard';
SELECT leadroute.complete_task(task, token, '{}') FROM held WHERE capability = 'claimsUnheard';
RESET ROLE;
SELECT p.attempts FROM leadroute.provenance p JOIN held h USING (lead_id) WHERE p.entry_no = 2 AND p.step_no = 1 AND h.capability = 'claimsUnheard';

-- a retired agent is given nothing
SET ROLE regress_lr_rival;
SELECT leadroute.deprecate_agent('claims-odd', '1');
SELECT count(*) FROM leadroute.claim_tasks('claims-odd@1');
SELECT leadroute.deprecate_agent('claims-odd', '1', true);
\set VERBOSITY sqlstate
SELECT count(*) FROM leadroute.claim_tasks('claims-odd@1');
\set VERBOSITY default
RESET ROLE;
INSERT INTO odd_leads VALUES (22, 'FR');
SELECT * FROM waiting;

DELETE FROM leadroute.tasks x USING leadroute.task_queues q WHERE q.queue_id = x.queue_id AND q.name IN ('odd', 'claimsSize', 'claimsRemember');
DROP SCHEMA tasks_claims CASCADE;
DROP OWNED BY regress_lr_sizer, regress_lr_rival, regress_lr_nobody;
DROP ROLE regress_lr_sizer, regress_lr_rival, regress_lr_nobody;
