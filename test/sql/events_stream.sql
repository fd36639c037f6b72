-- Events: the catalogue, what decisions and acts write, reading by cursor, alerts, checks, pruning. Only what somebody wants is written.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA events_stream;
SET search_path TO events_stream;
INSERT INTO leadroute.owners (reference) VALUES ('events anna'), ('events bo');
INSERT INTO leadroute.pools (name) VALUES ('events desk'), ('events nobody');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT pool_id, owner_id FROM leadroute.pools p, leadroute.owners o
    WHERE p.name = 'events desk' AND o.reference LIKE 'events %';
SELECT leadroute.publish_policy('events_stream', '{
    "leadroute": 1, "steps": [{"capability": "validateContact", "stop_when": []}, {"capability": "assignOwner"}],
    "rules": [{"name": "fr", "when": "country = ''FR''", "outcome": "nurture", "reason": "french"},
              {"name": "it", "when": "country = ''IT''", "outcome": "rejected", "reason": "italian"},
              {"name": "es", "when": "country = ''ES''", "pool": "events nobody"},
              {"name": "xx", "when": "country = ''XX'' AND 1 / (company_size - 1) > 0", "pool": "events desk"},
              {"name": "de", "when": "country = ''DE''", "pool": "events desk"}]}', 'test') > 0 AS published;
SELECT leadroute.activate_policy('events_stream') > 0 AS active;
CREATE TABLE leads (n integer PRIMARY KEY, email text, country text, company_size integer);
SELECT leadroute.attach_table('leads', classes => '{"country": "plain"}', policy => 'events_stream', reroute_on => '{country}') > 0 AS attached;
CREATE FUNCTION raised(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    EXECUTE statement;
    RETURN 'nothing';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(hint, ''));
END $$;
CREATE FUNCTION nth(place integer) RETURNS bigint LANGUAGE sql RETURN leadroute.lead_of('events_stream.leads', place::text);
-- reads all that there is for a consumer, and is done with it
CREATE FUNCTION take(name text) RETURNS TABLE (n integer, kind text, data jsonb) LANGUAGE plpgsql AS $$
DECLARE
    e record;
BEGIN
    LOOP
        FOR e IN SELECT * FROM leadroute.read_events(name, 3) LOOP
            n := (SELECT l.n FROM events_stream.leads l WHERE nth(l.n) = e.lead_id);
            kind := e.kind;
            data := e.data - '{leads_table,policy,version,survivor}'::text[];
            RETURN NEXT;
            PERFORM leadroute.ack_events(name, e.position);
        END LOOP;
        EXIT WHEN NOT FOUND;
    END LOOP;
END $$;

-- nobody wants anything: nothing is written
INSERT INTO leads VALUES (1, 'one@acme.example', 'DE');
SELECT leadroute.accept_lead(nth(1)) IS NOT NULL AS accepted;
SELECT count(*) FROM leadroute.event_arrivals WHERE lead_id = nth(1);
SELECT leadroute.event_wanted('lead.assigned'), leadroute.event_wanted('lead.accepted');

-- a consumer of some kinds
SELECT leadroute.create_event_consumer('events all', '{lead.*,pool.empty,policy.changed}', 'of the test') >= 0 AS made;
SELECT leadroute.event_wanted('lead.assigned'), leadroute.event_wanted('lead.accepted'), leadroute.event_wanted('sla.due');
INSERT INTO leads VALUES (2, 'two@acme.example', 'DE'), (3, 'three@acme.example', 'FR'), (4, 'four@acme.example', 'IT'), (5, 'five@acme.example', 'ES'),
    (6, 'six@acme.example', 'ES'), (7, 'seven@acme.example', 'US'), (8, 'eight@acme.example', 'XX');
UPDATE leads SET country = 'DE' WHERE n = 3;
SELECT leadroute.accept_lead(nth(2)) IS NOT NULL AS accepted, leadroute.log_first_response(nth(2)) IS NOT NULL AS responded;
SELECT leadroute.close_lead(nth(2), 'won') IS NOT NULL AS closed;
SELECT leadroute.reopen_lead(nth(2), 'words of a person') > 0 AS reopened;
SELECT leadroute.decline_lead(nth(3), 'no_capacity') > 0 AS declined;
SELECT leadroute.reassign_lead(nth(3), 'events anna', 'words of a person') > 0 AS reassigned;
SELECT count(*) FROM leadroute.merge_leads(nth(2), ARRAY[nth(7)], 'words of a person');
BEGIN;
SET LOCAL leadroute.enabled = off;
INSERT INTO leads VALUES (9, 'nine@acme.example', 'DE');
COMMIT;
DO $$ BEGIN PERFORM leadroute.require_approval('events_stream', true, 'words of a person'); PERFORM leadroute.require_approval('events_stream', false, 'test'); END $$;
DELETE FROM leads WHERE n = 9;
-- whose turn it was is not the point
SELECT n, kind, data - '{owner}'::text[] AS data, data ? 'owner' AS has_owner FROM take('events all');
SELECT * FROM leadroute.read_events('events all');
-- all data is as the catalogue says, and nothing of the lead is in it
SELECT e.kind, k.key FROM leadroute.events e CROSS JOIN jsonb_object_keys(e.data) AS k (key) JOIN leadroute.event_kinds c USING (kind) WHERE NOT c.schema -> 'properties' ? k.key;
SELECT e.kind, r.key FROM leadroute.events e JOIN leadroute.event_kinds c USING (kind) CROSS JOIN jsonb_array_elements_text(c.schema -> 'required') AS r (key) WHERE NOT e.data ? r.key;
SELECT count(*) FROM leadroute.events WHERE data::text ~ 'acme|words';
-- what is rolled back was not
BEGIN;
INSERT INTO leads VALUES (10, 'ten@acme.example', 'DE');
ROLLBACK;
SELECT * FROM leadroute.read_events('events all');

-- the same again until it is acknowledged; never back
INSERT INTO leads SELECT i, 'x@acme.example', 'DE' FROM generate_series(20, 24) i;
SELECT count(*), count(DISTINCT position) FROM leadroute.read_events('events all', 2);
SELECT array_agg(lead_id ORDER BY position) = ARRAY[nth(20), nth(21)] AS first_two FROM leadroute.read_events('events all', 2);
SELECT leadroute.ack_events('events all', position) = position AS acked FROM leadroute.read_events('events all', 2);
SELECT leadroute.ack_events('events all', 0) > 0 AS stays;
SELECT array_agg(lead_id ORDER BY position) = ARRAY[nth(22), nth(23), nth(24)] AS others FROM leadroute.read_events('events all');
SELECT consumer, behind, lost FROM leadroute.event_consumer_status WHERE consumer = 'events all';
-- a consumer of other kinds passes over them by itself
SELECT leadroute.create_event_consumer('events sla', '{sla.due}', from_start => true) >= 0 AS made;
SELECT * FROM leadroute.read_events('events sla');
SELECT behind FROM leadroute.event_consumer_status WHERE consumer = 'events sla';
SELECT leadroute.create_event_consumer('events start', NULL, from_start => true) >= 0 AS made;
SELECT count(*) >= 5 AS from_start FROM leadroute.read_events('events start', 1000);
SELECT leadroute.drop_event_consumer('events start');

-- refusals
SELECT raised($$SELECT leadroute.create_event_consumer('events x', '{lead.*,lead.lost}')$$);
SELECT raised($$SELECT leadroute.create_event_consumer('events x', '{}')$$);
SELECT raised($$SELECT leadroute.create_event_consumer('events all')$$);
SELECT raised($$SELECT * FROM leadroute.read_events('events x')$$);
SELECT raised($$SELECT * FROM leadroute.read_events('events all', 0)$$);
SELECT raised($$SELECT leadroute.ack_events('events x', 0)$$);
SELECT raised($$SELECT leadroute.ack_events('events all', 9007199254740991)$$);
SELECT raised($$SELECT leadroute.drop_event_consumer('events x')$$);
SELECT raised($$SELECT leadroute.subscribe_events('events x', '{alert.raised}')$$);
SELECT raised($$SELECT leadroute.subscribe_events('events x', '{lead.*}', threshold => 2)$$);
SELECT raised($$SELECT leadroute.unsubscribe_events('events x')$$);
-- under a snapshot that is kept, what has positions is read, and none are given
INSERT INTO leads VALUES (30, 'x@acme.example', 'DE');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM leadroute.read_events('events all');
COMMIT;
SELECT count(*) FROM leadroute.read_events('events all');

-- pruning: what all have passed
SELECT leadroute.ack_events('events all', max(position)) > 0 AS acked FROM leadroute.read_events('events all');
SELECT * FROM leadroute.read_events('events sla');
SELECT leadroute.prune_events() > 0 AS pruned;
SELECT count(*) FROM leadroute.events;
SELECT leadroute.drop_event_consumer('events sla');
-- and what is too old, though somebody has not
INSERT INTO leads VALUES (31, 'x@acme.example', 'DE');
SELECT count(*) FROM leadroute.read_events('events all');
SELECT leadroute.prune_events();
UPDATE leadroute.events SET at = at - interval '8 days';
SELECT leadroute.prune_events();
SELECT behind, lost FROM leadroute.event_consumer_status WHERE consumer = 'events all';
SELECT * FROM leadroute.read_events('events all');
SELECT lost FROM leadroute.event_consumer_status WHERE consumer = 'events all';
SELECT leadroute.drop_event_consumer('events all');
INSERT INTO leads VALUES (32, 'x@acme.example', 'DE');
SELECT count(*) FROM leadroute.event_arrivals;

-- an act for each alert: filter, condition, threshold, quiet period
SELECT leadroute.subscribe_events('events filter', '{lead.rejected,lead.nurture}', filter => '{"reason_code": "italian"}');
SELECT leadroute.subscribe_events('events condition', '{pool.empty}', condition => '$.leads >= 3');
SELECT leadroute.subscribe_events('events three', '{lead.no_rule}', threshold => 3, within => '1 hour', quiet => '1 hour');
SELECT leadroute.create_event_consumer('events alerts', '{alert.raised}') >= 0 AS made;
-- what counts is remembered before the first alert, too
SELECT leadroute.subscribe_events('events two', '{lead.rejected}', threshold => 2, within => '1 hour');
INSERT INTO leads VALUES (33, 'x@acme.example', 'IT');
SELECT leadroute.number_events() > 0 AS numbered;
INSERT INTO leads VALUES (34, 'x@acme.example', 'IT');
SELECT leadroute.number_events() > 0 AS numbered;
SELECT kind, count FROM leadroute.event_alerts WHERE subscription = 'events two';
SELECT leadroute.unsubscribe_events('events two'), leadroute.ack_events('events alerts', (SELECT last_position FROM leadroute.event_numbering)) > 0 AS acknowledged;
DELETE FROM leadroute.event_alerts;
DELETE FROM leadroute.event_subscription_states;
INSERT INTO leads VALUES (40, 'x@acme.example', 'IT'), (41, 'x@acme.example', 'FR'), (42, 'x@acme.example', 'ES'), (43, 'x@acme.example', 'ES'), (44, 'x@acme.example', 'US');
SELECT kind, data - '{alert,position}'::text[] AS data FROM leadroute.read_events('events alerts');
INSERT INTO leads VALUES (45, 'x@acme.example', 'ES'), (46, 'x@acme.example', 'ES'), (47, 'x@acme.example', 'ES');
INSERT INTO leads SELECT i, 'x@acme.example', 'US' FROM generate_series(50, 57) i;
SELECT kind, data - '{alert,position}'::text[] AS data FROM leadroute.read_events('events alerts');
SELECT subscription, kind, lead_id IS NOT NULL AS of_lead, count, suppressed, data ->> 'reason_code' AS reason_code, data ->> 'pool' AS pool FROM leadroute.event_alerts ORDER BY alert_id;
SELECT subscription, suppressed, cardinality(recent) FROM leadroute.event_subscription_states ORDER BY 1;
-- it is quiet no more, and what was swallowed is told
UPDATE leadroute.event_subscription_states SET raised_at = raised_at - interval '1 hour' WHERE subscription = 'events three';
INSERT INTO leads SELECT i, 'x@acme.example', 'US' FROM generate_series(60, 62) i;
SELECT leadroute.number_events() > 0 AS numbered;
SELECT subscription, count, suppressed FROM leadroute.event_alerts WHERE subscription = 'events three' ORDER BY alert_id;
-- too far apart
UPDATE leadroute.event_subscription_states SET raised_at = raised_at - interval '1 hour', recent = ARRAY[now() - interval '61 minutes', now() - interval '62 minutes'] WHERE subscription = 'events three';
INSERT INTO leads VALUES (63, 'x@acme.example', 'US');
SELECT leadroute.number_events() > 0 AS numbered;
SELECT count(*) FROM leadroute.event_alerts WHERE subscription = 'events three';
SELECT leadroute.unsubscribe_events(subscription) FROM leadroute.event_subscriptions WHERE subscription LIKE 'events %';
SELECT leadroute.drop_event_consumer('events alerts');

-- what has to be looked for: leads that wait too long, and too many decisions without a rule; each is told once
SELECT leadroute.create_event_consumer('events checks', '{run.stuck,no_rule.rate}') >= 0 AS made;
BEGIN;
SET LOCAL leadroute.enabled = off;
INSERT INTO leads VALUES (70, 'x@acme.example', 'DE'), (71, 'x@acme.example', 'DE');
COMMIT;
UPDATE leadroute.lead_states SET since = since - interval '2 hours' WHERE lead_id = nth(70);
SELECT leadroute.fire_event_checks() > 0 AS raised;
SELECT n, kind, data - '{since}'::text[] AS data FROM take('events checks') WHERE n IS NOT NULL;
SELECT leadroute.fire_event_checks() >= 0 AS checked;
SELECT n, kind FROM take('events checks') WHERE n IS NOT NULL;
SELECT leadroute.route_pending('leads');
INSERT INTO leads SELECT i, 'x@acme.example', CASE WHEN i < 140 THEN 'US' ELSE 'DE' END FROM generate_series(101, 200) i;
CREATE FUNCTION checked() RETURNS TABLE (kind text, leads_table text, above boolean, enough boolean, over text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM leadroute.fire_event_checks();
    RETURN QUERY SELECT e.kind, e.data ->> 'leads_table', (e.data ->> 'share')::numeric > 0.2, (e.data ->> 'decisions')::int > 100, e.data ->> 'window'
        FROM leadroute.read_events('events checks') e WHERE e.data ->> 'leads_table' = 'events_stream.leads';
    PERFORM leadroute.ack_events('events checks', n.last_position) FROM leadroute.event_numbering n;
END $$;
SELECT * FROM checked();
SELECT * FROM checked();
INSERT INTO leads SELECT i, 'x@acme.example', 'DE' FROM generate_series(1001, 2000) i;
SELECT * FROM checked();
SELECT m.kind FROM leadroute.event_marks m JOIN leadroute.attached_tables t ON t.source_id = m.subject AND t.relation = 'leads'::regclass WHERE m.kind = 'no_rule.rate';
-- it is over, and begins again
INSERT INTO leads SELECT i, 'x@acme.example', 'US' FROM generate_series(2001, 3000) i;
SELECT * FROM checked();
SELECT leadroute.drop_event_consumer('events checks');
SELECT leadroute.prune_events() > 0 AS pruned;
DELETE FROM leadroute.event_marks;

-- circuit breakers
SELECT leadroute.create_event_consumer('events breakers', '{breaker.*}') >= 0 AS made;
INSERT INTO leadroute.agents (name, version, kind, capabilities, inputs, owner, breaker_failures) VALUES ('events_agent', '1', 'external', '{eventsWork}', '{}', 'leadroute_agent', 2);
SELECT leadroute.agents_failed(ARRAY[a.agent_id, a.agent_id], '{LR010 x,LR010 x}') AS opened FROM leadroute.agents a WHERE a.name = 'events_agent';
UPDATE leadroute.agent_states SET breaker = 'closed', failures = 0 WHERE agent_id = (SELECT agent_id FROM leadroute.agents WHERE name = 'events_agent');
SELECT kind, data FROM leadroute.read_events('events breakers');
SELECT leadroute.drop_event_consumer('events breakers');
DELETE FROM leadroute.agent_states WHERE agent_id = (SELECT agent_id FROM leadroute.agents WHERE name = 'events_agent');
DELETE FROM leadroute.agents WHERE name = 'events_agent';
SELECT leadroute.prune_events() > 0 AS pruned;

-- who may
SELECT r.rolname, f.name, has_function_privilege(r.rolname, f.name, 'EXECUTE') AS may
FROM pg_roles r, (VALUES ('leadroute.read_events(text,integer)'), ('leadroute.number_events(integer)')) AS f (name)
WHERE r.rolname IN ('leadroute_operator', 'leadroute_auditor', 'leadroute_agent') ORDER BY 1, 2;
DROP SCHEMA events_stream CASCADE;
DELETE FROM leadroute.event_alerts;
DELETE FROM leadroute.pool_members WHERE pool_id IN (SELECT pool_id FROM leadroute.pools WHERE name LIKE 'events %');
DELETE FROM leadroute.pools WHERE name LIKE 'events %';
DELETE FROM leadroute.owners WHERE reference LIKE 'events %';
