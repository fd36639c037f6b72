-- What persons decide: reassign_lead() and override_decision() are new decisions, which verify, are explained, and never edit.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA afterwards_persons;
SET search_path TO afterwards_persons;
INSERT INTO leadroute.owners (reference) VALUES ('persons anna'), ('persons bo'), ('persons cy'), ('persons outside');
INSERT INTO leadroute.pools (name) VALUES ('afterwards_persons');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT pool_id, owner_id FROM leadroute.pools p, leadroute.owners o
    WHERE p.name = 'afterwards_persons' AND o.reference LIKE 'persons %' AND o.reference <> 'persons outside';
SELECT leadroute.publish_scorecard('afterwards_persons', '{"base": 50, "characteristics": [{"code": "a", "bins": [{"when": "country = ''DE''", "points": 20}]}],
    "tiers": [{"tier": "A", "from": 60}, {"tier": "B", "from": 0}]}', 'test') > 0 AS published;
SELECT leadroute.publish_policy('afterwards_persons', '{
    "leadroute": 1, "steps": [{"capability": "computeLeadScore", "scorecard": "afterwards_persons"}, {"capability": "assignOwner"}],
    "rules": [{"name": "fr", "when": "country = ''FR''", "outcome": "nurture", "reason": "french"},
              {"name": "all", "when": "true", "pool": "afterwards_persons"}]}', 'test') > 0 AS published;
SELECT leadroute.activate_policy('afterwards_persons') > 0 AS active;
CREATE TABLE leads (lead_id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'), email text, country text);
SELECT leadroute.attach_table('leads', classes => '{"country": "plain"}', policy => 'afterwards_persons', reroute_on => '{country}') > 0 AS attached;
CREATE VIEW numbered AS SELECT row_number() OVER (ORDER BY lead_id) AS n, lead_id FROM leads;
CREATE FUNCTION nth(place bigint) RETURNS bigint LANGUAGE sql RETURN (SELECT lead_id FROM afterwards_persons.numbered x WHERE x.n = place);
CREATE FUNCTION decision(place bigint) RETURNS bigint LANGUAGE sql RETURN (SELECT s.run_id FROM leadroute.lead_states s WHERE s.lead_id = afterwards_persons.nth(place));
CREATE VIEW states AS
    SELECT x.n, s.outcome, s.reason_code, o.reference AS owner, p.name AS pool, s.score, s.tier, s.accepted_at IS NOT NULL AS accepted,
           s.responded_at IS NOT NULL AS responded
    FROM numbered x JOIN leadroute.lead_states s USING (lead_id) LEFT JOIN leadroute.owners o USING (owner_id) LEFT JOIN leadroute.pools p USING (pool_id) ORDER BY x.n;
CREATE VIEW history AS
    SELECT x.n, d.cause, d.outcome, d.reason_code, d.owner, d.pool, d.rule, d.score, d.turn IS NOT NULL AS turn, d.note, d.policy_version, d.current,
           (SELECT string_agg(v.verdict, ' ') FROM leadroute.verify_decision(d.decision_id) v WHERE v.verdict <> 'environment') AS verdict
    FROM numbered x JOIN leadroute.decisions d USING (lead_id) ORDER BY x.n, d.as_of;
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
INSERT INTO leads (email, country) SELECT 'lead' || i || '@acme.example', 'DE' FROM generate_series(1, 5) i;
INSERT INTO leads (email, country) VALUES ('french@acme.example', 'FR');
SELECT * FROM states;

-- reassigned: to a member, and to somebody outside of the pool
SELECT leadroute.accept_lead(nth(1)) IS NOT NULL AS accepted, leadroute.log_first_response(nth(1)) IS NOT NULL AS responded;
SELECT leadroute.reassign_lead(nth(1), 'persons cy', 'knows the customer') AS given \gset
SELECT leadroute.reassign_lead(nth(1), 'persons cy', 'once more') = :given AS same;
SELECT leadroute.reassign_lead(nth(2), 'persons outside', 'asked for') > :given AS given;
SELECT leadroute.reassign_lead(nth(6), 'persons anna', 'not only to be nurtured') > :given AS given;
SELECT * FROM states WHERE n IN (1, 2, 6);
SELECT raised($$SELECT leadroute.reassign_lead(nth(1), 'persons nobody', 'x')$$);
SELECT raised($$SELECT leadroute.reassign_lead(nth(1), 'persons bo', ' ')$$);
SELECT raised($$SELECT leadroute.reassign_lead(-1, 'persons bo', 'x')$$);
SELECT raised($$SELECT leadroute.reassign_lead(nth(1), NULL, 'x')$$);
-- to who is not available only if that is meant
UPDATE leadroute.owners SET available = false WHERE reference = 'persons bo';
SELECT raised($$SELECT leadroute.reassign_lead(nth(3), 'persons bo', 'x')$$);
UPDATE leadroute.owners SET available = true, ends_on = '2020-01-01' WHERE reference = 'persons bo';
SELECT raised($$SELECT leadroute.reassign_lead(nth(3), 'persons bo', 'x')$$);
UPDATE leadroute.owners SET ends_on = NULL, starts_on = '2999-01-01' WHERE reference = 'persons bo';
SELECT raised($$SELECT leadroute.reassign_lead(nth(3), 'persons bo', 'x')$$);
SELECT leadroute.reassign_lead(nth(3), 'persons bo', 'begins soon', force => true) > :given AS given;
UPDATE leadroute.owners SET starts_on = NULL WHERE reference = 'persons bo';

-- overridden
SELECT decision(4) AS before \gset
SELECT leadroute.override_decision(:before, 'rejected', NULL, 'a competitor') AS rejected \gset
SELECT leadroute.override_decision(:rejected, 'rejected', NULL, 'again') = :rejected AS same, leadroute.override_decision(:before, 'rejected', NULL, 'again') = :rejected AS same;
SELECT raised(format($$SELECT leadroute.override_decision(%s, 'nurture', NULL, 'x')$$, :before));
SELECT leadroute.override_decision(:rejected, 'assigned', 'persons anna', 'it was not') > :rejected AS given;
SELECT leadroute.override_decision(decision(6), 'assigned', 'persons anna', 'has her already') = decision(6) AS same;
SELECT raised($$SELECT leadroute.override_decision(decision(5), 'pending', NULL, 'x')$$);
SELECT raised($$SELECT leadroute.override_decision(decision(5), 'assigned', NULL, 'x')$$);
SELECT raised($$SELECT leadroute.override_decision(decision(5), 'nurture', 'persons anna', 'x')$$);
SELECT raised($$SELECT leadroute.override_decision(decision(5), 'nurture', NULL, '')$$);
SELECT raised($$SELECT leadroute.override_decision(decision(5), 'nurture', NULL, NULL)$$);
SELECT raised($$SELECT leadroute.override_decision(NULL, 'nurture', NULL, 'x')$$);
SELECT raised($$SELECT leadroute.override_decision(decision(5), 'assigned', 'persons nobody', 'x')$$);
SELECT raised($$SELECT leadroute.override_decision(-1, 'nurture', NULL, 'x')$$);
SELECT leadroute.close_lead(nth(5), 'won') IS NOT NULL AS closed;
SELECT raised($$SELECT leadroute.override_decision(decision(5), 'nurture', NULL, 'x')$$);
SELECT raised($$SELECT leadroute.reassign_lead(nth(5), 'persons outside', 'x')$$);
SELECT * FROM states;
-- a session that has decided nothing under the version verifies it, too
\c -
SET client_min_messages = warning;
SET search_path TO afterwards_persons;
SELECT n, cause, verdict FROM history WHERE cause = 'reassigned' AND n = 1;
SELECT regexp_replace(leadroute.why_not(decision_id, 'persons bo'), '\d+', 'N') AS why_not FROM leadroute.decisions
    WHERE lead_id = nth(1) AND cause = 'reassigned' ORDER BY as_of LIMIT 1;
SELECT * FROM history;

-- explained, with the ids and the moment left out
SELECT regexp_replace(e, '\d+(-\d+-\d+ [0-9:.]+)?', '#', 'g') FROM leadroute.explain_decision(decision(1)) e;
SELECT regexp_replace(e, '\d+(-\d+-\d+ [0-9:.]+)?', '#', 'g') FROM leadroute.explain_decision(:rejected) e;
SELECT raised($$SELECT * FROM leadroute.explain_rule(decision(1), 'all')$$);
SELECT p.capability, p.status, p.output, p.input_digest FROM leadroute.provenance p WHERE p.decision_id = decision(1) ORDER BY p.step_no;
-- what no rule decided is nothing to try other rules on
SELECT count(*) AS decisions, count(*) FILTER (WHERE moved) AS moved FROM leadroute.backtest_policy('afterwards_persons', NULL, '-infinity');
-- routed again, a lead is the policy's
SELECT leadroute.route_lead(nth(1)) > :given AS routed;
UPDATE leads SET country = 'FR' WHERE lead_id = nth(2);
SELECT * FROM states WHERE n IN (1, 2);
SELECT event, outcome, reason_code, owner, note FROM leadroute.lead_timeline WHERE lead_id = nth(1) ORDER BY at;
SELECT a.act, o.reference AS owner, a.reason, a.run_id < a.new_run_id AS supersedes FROM leadroute.lead_acts a JOIN numbered x USING (lead_id) LEFT JOIN leadroute.owners o USING (owner_id) ORDER BY a.act_id;
SELECT count(*) AS problems FROM leadroute.reconcile('leads');
-- the table need not be attached any more
SELECT leadroute.detach_table('leads');
SELECT leadroute.reassign_lead(nth(1), 'persons outside', 'after the table') > :given AS given;
SELECT raised($$SELECT leadroute.decline_lead(nth(1), 'no_capacity')$$);
SELECT outcome, owner, verdict FROM history WHERE n = 1 AND current;

DROP SCHEMA afterwards_persons CASCADE;
DELETE FROM leadroute.pool_members WHERE pool_id = (SELECT pool_id FROM leadroute.pools WHERE name = 'afterwards_persons');
DELETE FROM leadroute.pools WHERE name = 'afterwards_persons';
DELETE FROM leadroute.owners WHERE reference LIKE 'persons %';
