-- Many leads at once: offboard_owner() moves all open leads of who leaves; reroute_leads() shows, then makes, the moves after a mistake,
-- and leaves alone what people work on; undo_reroute() puts back what nothing happened to since.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA afterwards_batches;
SET search_path TO afterwards_batches;
INSERT INTO leadroute.owners (reference) VALUES ('batches anna'), ('batches bo'), ('batches cy'), ('batches solo');
INSERT INTO leadroute.pools (name) VALUES ('batches one'), ('batches two'), ('batches solo');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT pool_id, owner_id FROM leadroute.pools p, leadroute.owners o
    WHERE (p.name, o.reference) IN (('batches one', 'batches anna'), ('batches one', 'batches bo'), ('batches two', 'batches cy'), ('batches solo', 'batches solo'));
SELECT leadroute.set_flag('afterwards_batches') IS NOT NULL AS flag;
CREATE FUNCTION policy(pool_of_de text) RETURNS jsonb LANGUAGE sql RETURN jsonb_build_object('leadroute', 1,
    'steps', '[{"capability": "validateContact", "stop_when": [], "flag": "afterwards_batches"}, {"capability": "assignOwner"}]'::jsonb,
    'rules', jsonb_build_array('{"name": "fr", "when": "country = ''FR''", "outcome": "nurture", "reason": "french"}'::jsonb,
        '{"name": "at", "when": "country = ''AT''", "pool": "batches solo"}'::jsonb,
        jsonb_build_object('name', 'de', 'when', 'country = ''DE''', 'pool', pool_of_de),
        '{"name": "all", "when": "true", "pool": "batches one"}'::jsonb));
SELECT leadroute.publish_policy('afterwards_batches', policy('batches one'), 'test') > 0 AS published;
SELECT leadroute.activate_policy('afterwards_batches') > 0 AS active;
CREATE TABLE leads (lead_id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'), email text, country text);
SELECT leadroute.attach_table('leads', classes => '{"country": "plain"}', policy => 'afterwards_batches') > 0 AS attached;
CREATE TABLE keyed (k text PRIMARY KEY, country text);
SELECT leadroute.attach_table('keyed', classes => '{"country": "plain"}', policy => 'afterwards_batches') > 0 AS attached;
CREATE VIEW rows AS SELECT 'leads ' || row_number() OVER (ORDER BY lead_id) AS n, lead_id, country FROM leads
    UNION ALL SELECT 'keyed ' || d.k, leadroute.lead_of('afterwards_batches.keyed', d.k), d.country FROM keyed d;
CREATE FUNCTION nth(place text) RETURNS bigint LANGUAGE sql RETURN (SELECT lead_id FROM afterwards_batches.rows x WHERE x.n = place);
CREATE VIEW states AS
    SELECT x.n, x.country, s.outcome, s.reason_code, o.reference AS owner, p.name AS pool, s.accepted_at IS NOT NULL AS accepted
    FROM rows x JOIN leadroute.lead_states s USING (lead_id) LEFT JOIN leadroute.owners o USING (owner_id) LEFT JOIN leadroute.pools p USING (pool_id) ORDER BY x.n;
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
INSERT INTO leads (email, country) SELECT 'lead' || i || '@acme.example', 'DE' FROM generate_series(1, 6) i;
INSERT INTO leads (email, country) VALUES ('x@acme.example', 'FR'), ('y@acme.example', 'IT'), ('z@acme.example', 'AT');
INSERT INTO keyed VALUES ('a', 'DE'), ('b', 'IT');
SELECT * FROM states;

-- what moves, while nothing is wrong: nothing
SELECT action, count(*) FROM leadroute.reroute_leads('true') JOIN rows USING (lead_id) GROUP BY 1;

-- last night's mistake: leads from Germany belong to the other pool
SELECT leadroute.publish_policy('afterwards_batches', policy('batches two'), 'test') > 0 AS published;
SELECT leadroute.activate_policy('afterwards_batches') > 0 AS active;
SELECT leadroute.accept_lead(nth('leads 1')) IS NOT NULL AS accepted, leadroute.log_first_response(nth('leads 2')) IS NOT NULL AS responded,
       leadroute.close_lead(nth('leads 3'), 'lost') IS NOT NULL AS closed, leadroute.reassign_lead(nth('leads 4'), 'batches anna', 'x') > 0 AS given;
CREATE TABLE before AS SELECT (SELECT count(*) FROM leadroute.entries) AS entries, (SELECT count(*) FROM leadroute.lead_acts) AS acts,
    (SELECT last_value FROM leadroute.run_ids) AS run_ids, (SELECT count(*) FROM leadroute.pool_revisions) AS revisions;
SELECT x.n, r.action, r.old_owner, r.new_owner, r.old_outcome, r.new_outcome, r.old_pool, r.new_pool, r.reason_code, r.decision_id IS NOT NULL AS decision, r.batch_id
    FROM leadroute.reroute_leads('country IN (''DE'', ''IT'')') r JOIN rows x USING (lead_id) ORDER BY x.n;
-- that was a look: nothing is drawn or written, and it works where nothing can be
SELECT entries = (SELECT count(*) FROM leadroute.entries), acts = (SELECT count(*) FROM leadroute.lead_acts), run_ids = (SELECT last_value FROM leadroute.run_ids),
    revisions = (SELECT count(*) FROM leadroute.pool_revisions) FROM before;
BEGIN READ ONLY;
SELECT count(*) FROM leadroute.reroute_leads('country = ''DE''') JOIN rows USING (lead_id);
COMMIT;
CREATE TABLE moved AS SELECT x.n, r.* FROM leadroute.reroute_leads('country IN (''DE'', ''IT'')', reason => 'wrong pool', dry_run => false) r JOIN rows x USING (lead_id);
SELECT n, action, old_owner, new_owner, old_pool, new_pool, batch_id IS NOT NULL AS batch FROM moved ORDER BY n;
SELECT * FROM states;
SELECT DISTINCT d.cause, d.note, d.policy_version, v.verdict FROM leadroute.decisions d JOIN rows USING (lead_id), leadroute.verify_decision(d.decision_id) v
    WHERE d.cause = 'rerouted' AND v.verdict <> 'environment';
-- once more: all is where it belongs
SELECT r.action, count(*) FROM leadroute.reroute_leads('country IN (''DE'', ''IT'')', reason => 'again', dry_run => false) r JOIN rows x USING (lead_id) GROUP BY 1 ORDER BY 1;

-- undone, but for what happened to since
SELECT leadroute.accept_lead(nth('leads 5')) IS NOT NULL AS accepted;
SELECT max(batch_id) AS batch FROM moved \gset
SELECT x.n, u.action, u.old_owner, u.new_owner, u.outcome FROM leadroute.undo_reroute(:batch, 'it was right') u JOIN rows x USING (lead_id) ORDER BY x.n;
SELECT * FROM states WHERE n IN ('leads 5', 'leads 6', 'keyed a');
SELECT count(*) AS decisions, max(d.decision_id) AS latest FROM leadroute.decisions d JOIN rows USING (lead_id) \gset
SELECT x.n, u.action, u.old_owner, u.new_owner, u.outcome FROM leadroute.undo_reroute(:batch, 'again') u JOIN rows x USING (lead_id) ORDER BY x.n;
SELECT count(*) = :decisions AS no_new_decision FROM leadroute.decisions d JOIN rows USING (lead_id);
SELECT d.cause, d.reason_code, d.note, d.owner, d.pool, (SELECT string_agg(v.verdict, ' ') FROM leadroute.verify_decision(d.decision_id) v WHERE v.verdict <> 'environment') AS verdict
    FROM leadroute.decisions d WHERE d.lead_id = nth('leads 6') ORDER BY d.as_of;
SELECT event, owner FROM leadroute.lead_timeline WHERE lead_id = nth('leads 6') ORDER BY at;

-- told so, it moves what people work on, too; and undoing gives back that it was accepted
CREATE TABLE all_moved AS SELECT x.n, r.* FROM leadroute.reroute_leads('country = ''DE''', NULL, 'all of them', false, true) r JOIN rows x USING (lead_id);
SELECT n, action, old_owner, new_owner FROM all_moved ORDER BY n;
SELECT * FROM states WHERE n = 'leads 1';
SELECT leadroute.close_lead(nth('leads 2'), 'won') IS NOT NULL AS closed;
SELECT leadroute.reassign_lead(nth('leads 4'), 'batches bo', 'x') > 0 AS given;
UPDATE leadroute.owners SET available = false WHERE reference = 'batches bo';
SELECT x.n, u.action, u.old_owner, u.new_owner FROM leadroute.undo_reroute((SELECT max(batch_id) FROM all_moved), 'back') u JOIN rows x USING (lead_id) ORDER BY x.n;
SELECT * FROM states WHERE n = 'leads 1';
UPDATE leadroute.owners SET available = true WHERE reference = 'batches bo';
-- under another policy
SELECT leadroute.publish_policy('afterwards_batches other', '{"leadroute": 1, "steps": [{"capability": "assignOwner"}], "rules": [{"name": "x", "when": "true", "outcome": "nurture", "reason": "other"}]}', 'test') > 0 AS published;
SELECT x.n, r.action, r.reason_code FROM leadroute.reroute_leads('country = ''IT''', 'afterwards_batches other') r JOIN rows x USING (lead_id) ORDER BY x.n;
SELECT leadroute.activate_policy('afterwards_batches other') > 0 AS active;
SELECT x.n, r.action, r.new_outcome, r.reason_code FROM leadroute.reroute_leads('country = ''IT''', 'afterwards_batches other', 'x', false) r JOIN rows x USING (lead_id) ORDER BY x.n;
SELECT x.n, u.action, u.outcome, u.new_owner FROM leadroute.lead_acts a, leadroute.undo_reroute(a.batch_id, 'x') u JOIN rows x USING (lead_id)
    WHERE a.act_id = (SELECT max(act_id) FROM leadroute.lead_acts) ORDER BY x.n;

-- what is refused
SELECT raised($$SELECT * FROM leadroute.reroute_leads('country = ''DE''', dry_run => false)$$);
SELECT raised($$SELECT * FROM leadroute.reroute_leads('score > 1')$$);
SELECT raised($$SELECT * FROM leadroute.reroute_leads('random() > 0')$$);
SELECT raised($$SELECT * FROM leadroute.reroute_leads(NULL)$$);
SELECT raised($$SELECT * FROM leadroute.reroute_leads('true', NULL, NULL)$$);
SELECT raised($$SELECT * FROM leadroute.undo_reroute(-1, 'x')$$);
SELECT raised($$SELECT * FROM leadroute.undo_reroute((SELECT max(batch_id) FROM moved), '')$$);
CREATE ROLE afterwards_batches IN ROLE leadroute_operator;
GRANT USAGE ON SCHEMA afterwards_batches TO afterwards_batches;
GRANT SELECT ON rows TO afterwards_batches;
SET ROLE afterwards_batches;
SELECT raised($$SELECT * FROM leadroute.reroute_leads('email LIKE ''x%''')$$);
SELECT count(*) > 0 AS leads FROM leadroute.reroute_leads('country = ''DE''');
SELECT leadroute.accept_lead(nth('keyed b')) IS NOT NULL AS accepted;
RESET ROLE;
GRANT SELECT ON leads, keyed TO afterwards_batches;
SET ROLE afterwards_batches;
SELECT count(*) AS leads FROM leadroute.reroute_leads('email LIKE ''x@%''') JOIN rows USING (lead_id);
RESET ROLE;

-- somebody leaves
SELECT owner, count(*) FROM leadroute.open_leads JOIN rows USING (lead_id) GROUP BY 1 ORDER BY 1;
SELECT count(*) AS moved, string_agg(DISTINCT new_owner, ', ' ORDER BY new_owner) AS to_whom, array_agg(DISTINCT outcome) AS outcomes
    FROM leadroute.offboard_owner('batches anna', 'left the company') JOIN rows USING (lead_id);
SELECT available, ends_on = (now() AT TIME ZONE 'UTC')::date AS today FROM leadroute.owners WHERE reference = 'batches anna';
SELECT owner, count(*) FROM leadroute.open_leads JOIN rows USING (lead_id) GROUP BY 1 ORDER BY 1;
SELECT * FROM leadroute.offboard_owner('batches anna', 'once more');
-- the last one of a pool, with a lead that can be routed no more: nobody has them, and that is to be seen
SELECT leadroute.reassign_lead(nth('keyed b'), 'batches solo', 'x') > 0 AS given;
SELECT nth('keyed b') AS detached \gset
SELECT leadroute.detach_table('keyed');
SELECT count(*) AS leads, count(new_owner) AS owned, count(*) FILTER (WHERE reason_code = 'owner_left') AS left_waiting FROM leadroute.offboard_owner('batches solo', 'left');
SELECT lead_id = :detached AS detached, owner FROM leadroute.open_leads WHERE reason_code = 'owner_left' AND lead_id = :detached;
SELECT count(*) AS owned FROM leadroute.lead_states s JOIN leadroute.owners o USING (owner_id) WHERE o.reference IN ('batches anna', 'batches solo') AND s.finished_at IS NULL AND s.closed_at IS NULL;
SELECT v.verdict FROM leadroute.lead_states s, leadroute.verify_decision(s.run_id) v WHERE s.lead_id = :detached AND v.verdict <> 'environment';
-- reopened, a lead of somebody who left is routed anew
SELECT owner FROM states WHERE n = 'leads 3';
SELECT leadroute.reopen_lead(nth('leads 3'), 'wants it after all') > 0 AS reopened;
SELECT outcome, owner <> 'batches anna' AS moved FROM states WHERE n = 'leads 3';
SELECT raised($$SELECT * FROM leadroute.offboard_owner('batches nobody', 'x')$$);
SELECT raised($$SELECT * FROM leadroute.offboard_owner('batches bo', ' ')$$);
SELECT count(*) AS problems FROM leadroute.reconcile('leads');
SELECT act, count(*), count(new_run_id) AS decisions, count(batch_id) AS of_batches FROM leadroute.lead_acts JOIN leadroute.lead_states USING (lead_id)
    WHERE source_id IN (SELECT source_id FROM leadroute.attached_tables WHERE relation_name LIKE 'afterwards_batches.%') GROUP BY 1 ORDER BY 1;

DROP OWNED BY afterwards_batches;
DROP ROLE afterwards_batches;
DROP SCHEMA afterwards_batches CASCADE;
SELECT leadroute.set_flag('afterwards_batches', enabled => false) IS NOT NULL AS off;
DELETE FROM leadroute.pool_members WHERE pool_id IN (SELECT pool_id FROM leadroute.pools WHERE name LIKE 'batches %');
DELETE FROM leadroute.pools WHERE name LIKE 'batches %';
DELETE FROM leadroute.owners WHERE reference LIKE 'batches %';
