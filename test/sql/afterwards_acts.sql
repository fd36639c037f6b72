-- What owners do with leads: accept, decline, respond, close, reopen. Each act once: repeated it changes nothing, contradicting it raises.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA afterwards_acts;
SET search_path TO afterwards_acts;
INSERT INTO leadroute.owners (reference) VALUES ('acts anna'), ('acts bo'), ('acts cy');
INSERT INTO leadroute.pools (name) VALUES ('afterwards_acts');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT pool_id, owner_id FROM leadroute.pools p, leadroute.owners o
    WHERE p.name = 'afterwards_acts' AND o.reference LIKE 'acts %';
SELECT leadroute.publish_policy('afterwards_acts', '{
    "leadroute": 1, "steps": [{"capability": "validateContact", "stop_when": []}, {"capability": "assignOwner"}],
    "rules": [{"name": "fr", "when": "country = ''FR''", "outcome": "nurture", "reason": "french"},
              {"name": "all", "when": "true", "pool": "afterwards_acts"}]}', 'test') > 0 AS published;
SELECT leadroute.activate_policy('afterwards_acts') > 0 AS active;
CREATE TABLE leads (lead_id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'), email text, country text);
SELECT leadroute.attach_table('leads', classes => '{"country": "plain"}', policy => 'afterwards_acts', reroute_on => '{country}') > 0 AS attached;
-- the places of leads in the table, not their ids, which other tests take as well
CREATE VIEW numbered AS SELECT row_number() OVER (ORDER BY lead_id) AS n, lead_id FROM leads;
CREATE FUNCTION nth(place bigint) RETURNS bigint LANGUAGE sql RETURN (SELECT lead_id FROM afterwards_acts.numbered x WHERE x.n = place);
CREATE VIEW states AS
    SELECT x.n, s.outcome, s.reason_code, o.reference AS owner, s.accepted_at IS NOT NULL AS accepted, s.responded_at IS NOT NULL AS responded,
           s.finished_at IS NOT NULL AS finished, s.result
    FROM numbered x JOIN leadroute.lead_states s USING (lead_id) LEFT JOIN leadroute.owners o USING (owner_id) ORDER BY x.n;
CREATE VIEW timeline AS
    SELECT x.n, t.event, t.outcome, t.reason_code, t.owner, t.note FROM numbered x JOIN leadroute.lead_timeline t USING (lead_id) ORDER BY x.n, t.at, t.event;
-- what a statement raises, whatever ids it names
CREATE FUNCTION raised(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
    hint text;
BEGIN
    EXECUTE statement;
    RETURN 'nothing';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN regexp_replace(concat_ws(' | ', SQLSTATE, SQLERRM, nullif(detail, ''), nullif(hint, '')), '(lead|decision|batch) -?\d+', '\1 N', 'gi');
END $$;
INSERT INTO leads (email) SELECT 'lead' || i || '@acme.example' FROM generate_series(1, 6) i;
INSERT INTO leads (email, country) VALUES ('french@acme.example', 'FR');
SELECT * FROM states;

-- accepted once
SELECT leadroute.accept_lead(nth(1)) AS first \gset
SELECT leadroute.accept_lead(nth(1)) = :'first' AS same, leadroute.accept_lead(nth(1), 'acts anna') = :'first' AS same_owner;
SELECT raised($$SELECT leadroute.accept_lead(nth(1), 'acts bo')$$);
SELECT raised($$SELECT leadroute.accept_lead(nth(1), 'nobody')$$);
SELECT raised($$SELECT leadroute.accept_lead(nth(7))$$);
SELECT raised($$SELECT leadroute.accept_lead(-1)$$);
SELECT raised($$SELECT leadroute.accept_lead(NULL)$$);

-- declined: by the next candidate, and whoever declined is not asked again
SELECT leadroute.decline_lead(nth(2), 'no_capacity', 'acts bo') AS declined \gset
SELECT leadroute.decline_lead(nth(2), 'no_capacity', 'acts bo') = :declined AS same;
SELECT * FROM states WHERE n = 2;
SELECT leadroute.decline_lead(nth(2), 'wrong_region') > :declined AS declined;
SELECT * FROM states WHERE n = 2;
SELECT leadroute.route_lead(nth(2)) = run_id AS stands FROM leadroute.lead_states WHERE lead_id = nth(2);
SELECT leadroute.decline_lead(nth(2), 'wrong_region') > :declined AS declined;
SELECT n, outcome, reason_code, owner FROM states WHERE n = 2;
SELECT owner, pool, outcome, reason_code, accepted_at, overdue FROM leadroute.open_leads WHERE lead_id = nth(2);
SELECT raised($$SELECT leadroute.decline_lead(nth(2), 'wrong_region')$$);
-- accepting and reopening end that
SELECT leadroute.close_lead(nth(2), 'lost') IS NOT NULL AS closed;
SELECT leadroute.reopen_lead(nth(2)) = run_id AS stands FROM leadroute.lead_states WHERE lead_id = nth(2);
SELECT leadroute.route_lead(nth(2)) > :declined AS routed;
SELECT outcome, owner IS NOT NULL AS owned FROM states WHERE n = 2;
-- a declined decision says so, and verifies
SELECT d.cause, d.note, d.outcome, (SELECT string_agg(v.verdict, ' ') FROM leadroute.verify_decision(d.decision_id) v WHERE v.verdict <> 'environment') AS verdict
    FROM leadroute.decisions d WHERE d.lead_id = nth(2) ORDER BY d.as_of;
SELECT raised($$SELECT leadroute.decline_lead(nth(3), 'Jane is ill')$$);
SELECT raised($$SELECT leadroute.decline_lead(nth(3), '')$$);
SELECT raised($$SELECT leadroute.decline_lead(nth(3), NULL)$$);
SELECT raised($$SELECT leadroute.decline_lead(nth(1), 'no_capacity')$$);
SELECT raised($$SELECT leadroute.decline_lead(nth(3), 'no_capacity', 'acts anna')$$);
SELECT raised($$SELECT leadroute.decline_lead(nth(7), 'no_capacity')$$);

-- the first response
SELECT leadroute.log_first_response(nth(3), '2024-05-05 10:00Z') AS first;
SELECT leadroute.log_first_response(nth(3)) AS first;
SELECT raised($$SELECT leadroute.log_first_response(nth(4), clock_timestamp() + interval '1 day')$$);
SELECT raised($$SELECT leadroute.log_first_response(nth(4), 'infinity')$$);
SELECT raised($$SELECT leadroute.log_first_response(nth(7))$$);

-- closed, for good, until it is reopened
SELECT leadroute.close_lead(nth(4), 'won', 1200.50) AS closed \gset
SELECT leadroute.close_lead(nth(4), 'won', 1200.50) = :'closed' AS same;
SELECT c.value, c.converted_at = s.finished_at AS same_moment FROM leadroute.conversions c JOIN leadroute.lead_states s USING (lead_id) WHERE lead_id = nth(4);
SELECT raised($$SELECT leadroute.close_lead(nth(4), 'lost')$$);
SELECT raised($$SELECT leadroute.close_lead(nth(5), 'lost', 1)$$);
SELECT raised($$SELECT leadroute.close_lead(nth(5), 'maybe')$$);
SELECT raised($$SELECT leadroute.accept_lead(nth(4))$$);
SELECT raised($$SELECT leadroute.decline_lead(nth(4), 'no_capacity')$$);
SELECT leadroute.log_first_response(nth(4)) IS NOT NULL AS responded;
-- routing again leaves it alone
UPDATE leads SET country = 'FR' WHERE lead_id = nth(4);
SELECT leadroute.route_lead(nth(4)) = run_id AS stands FROM leadroute.lead_states WHERE lead_id = nth(4);
SELECT * FROM states WHERE n = 4;
SELECT count(*) AS open FROM leadroute.open_leads WHERE lead_id = nth(4);
SELECT leadroute.reopen_lead(nth(4), 'it was not signed') = run_id AS stands FROM leadroute.lead_states WHERE lead_id = nth(4);
SELECT leadroute.reopen_lead(nth(4)) = run_id AS same FROM leadroute.lead_states WHERE lead_id = nth(4);
SELECT count(*) AS conversions FROM leadroute.conversions WHERE lead_id = nth(4);
SELECT * FROM states WHERE n = 4;
SELECT leadroute.route_lead(nth(4)) > 0 AS routed;
SELECT * FROM states WHERE n = 4;
SELECT leadroute.close_lead(nth(7), 'lost') IS NOT NULL AS closed;

-- one whose row goes, and one whose id comes again
SELECT leadroute.close_lead(nth(6), 'won') IS NOT NULL AS closed;
SELECT nth(6) AS sixth \gset
DELETE FROM leads WHERE lead_id = :sixth;
SELECT raised(format('SELECT leadroute.close_lead(%s, ''won'')', :sixth));
SELECT raised(format('SELECT leadroute.reopen_lead(%s)', :sixth));
SELECT raised(format('SELECT leadroute.accept_lead(%s)', :sixth));
INSERT INTO leads (lead_id, email) VALUES (:sixth, 'again@acme.example');
SELECT outcome, owner IS NOT NULL AS owned, accepted, responded, finished, result FROM states WHERE n = 6;

-- one that no run has decided
SET leadroute.enabled = off;
INSERT INTO leads (email) VALUES ('later@acme.example');
RESET leadroute.enabled;
SELECT raised($$SELECT leadroute.accept_lead(nth(8))$$);
SELECT raised($$SELECT leadroute.close_lead(nth(8), 'lost')$$);
SELECT owner, outcome, reason_code FROM leadroute.open_leads WHERE lead_id = nth(8);

SELECT * FROM timeline WHERE n IN (1, 2, 3, 4);
SELECT a.act, o.reference AS owner, a.reason, a.effective_at = '2024-05-05 10:00Z' AS effective, a.by_user::text = current_user AS by_me, a.run_id IS NOT NULL AS run
    FROM leadroute.lead_acts a JOIN numbered x USING (lead_id) LEFT JOIN leadroute.owners o USING (owner_id) ORDER BY a.act_id;
SELECT count(*) AS problems FROM leadroute.reconcile('leads');

DROP SCHEMA afterwards_acts CASCADE;
DELETE FROM leadroute.pool_members WHERE pool_id = (SELECT pool_id FROM leadroute.pools WHERE name = 'afterwards_acts');
DELETE FROM leadroute.pools WHERE name = 'afterwards_acts';
DELETE FROM leadroute.owners WHERE reference LIKE 'acts %';
