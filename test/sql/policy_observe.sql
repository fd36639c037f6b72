-- A table that is observed is decided beside the router that acts: on record and in states, without a turn drawn. What the other router
-- says is read when comparing, as it is then, and is nothing that is known of the lead. Going live is one call.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA policy_observe;
SET search_path TO policy_observe;
CREATE ROLE regress_lr_approver;
GRANT leadroute_approver TO regress_lr_approver;
CREATE ROLE regress_lr_author;
GRANT leadroute_author TO regress_lr_author;
GRANT USAGE ON SCHEMA policy_observe TO regress_lr_approver, regress_lr_author;
INSERT INTO leadroute.owners (reference) VALUES ('observe a'), ('observe b');
INSERT INTO leadroute.pools (name) VALUES ('observe one');
SELECT pool_id AS pool FROM leadroute.pools WHERE name = 'observe one' \gset
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT :pool, owner_id FROM leadroute.owners WHERE reference LIKE 'observe %';
CREATE TYPE rep AS ENUM ('observe a', 'observe b');
CREATE TYPE pair AS (a text, b text);
SELECT leadroute.publish_policy('policy_observe', '{"leadroute": 1, "steps": [{"capability": "assignOwner"}],
    "rules": [{"name": "told", "when": "attributes->>''rep'' IS NOT NULL", "outcome": "rejected", "reason": "saw_the_owner"},
              {"name": "bad", "when": "(attributes->>''size'')::int < 10", "outcome": "nurture", "reason": "small"}, {"name": "all", "when": "true", "pool": "observe one"}]}', 'test');
SELECT leadroute.publish_policy('policy_observe', '{"leadroute": 1, "steps": [{"capability": "assignOwner"}], "rules": [{"name": "all", "when": "true", "pool": "observe one"}]}', 'test');
SELECT leadroute.activate_policy('policy_observe', 1);
CREATE TABLE leads (id text PRIMARY KEY, size text, rep rep, region text, odd policy_observe.pair);

-- what is refused
SELECT leadroute.attach_table('leads', policy => 'policy_observe', mode => 'watch');
SELECT leadroute.attach_table('leads', policy => 'policy_observe', mode => NULL);
SELECT leadroute.attach_table('leads', policy => 'policy_observe', mode => 'observe', baseline_owner => 'nobody');
SELECT leadroute.attach_table('leads', policy => 'policy_observe', mode => 'observe', baseline_owner => 'id');
SELECT leadroute.attach_table('leads', policy => 'policy_observe', mode => 'observe', baseline_owner => 'region');
SELECT leadroute.set_table_mode('leads', 'route');
SELECT leadroute.attach_table('leads', policy => 'policy_observe', mode => 'observe', baseline_owner => 'rep') > 0 AS attached;
SELECT mode, baseline_owner FROM leadroute.attached_tables WHERE relation = 'leads'::regclass;
CREATE VIEW runs AS SELECT l.*, e.mode, e.outcome, e.reason_code, e.turn, e.owner_id, e.trial_id, e.supersedes, e.run_id, s.run_id = e.run_id AS current, s.owner_id AS works
    FROM leads l JOIN leadroute.entries e ON e.lead_id = leadroute.lead_of('leads', l.id) JOIN leadroute.lead_states s ON s.lead_id = e.lead_id OFFSET 0;

-- decided, with states, and no turn is drawn; an error breaks no insert even where it would
SET leadroute.on_error = abort;
INSERT INTO leads SELECT 'k' || i, i, CASE WHEN i % 2 = 0 THEN 'observe a'::rep END FROM generate_series(1, 100) AS i;
INSERT INTO leads VALUES ('odd', 'many');
RESET leadroute.on_error;
SELECT mode, outcome, reason_code, count(*), bool_and(current) AS current, bool_and(works IS NOT DISTINCT FROM owner_id) AS state FROM runs GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
SELECT format('SELECT is_called AS a_turn_was_drawn FROM leadroute.pool_%s_turns', :pool) AS asked \gset
:asked;
SELECT count(DISTINCT owner_id) AS owners, min(turn) >= 0 AS turns FROM runs WHERE outcome = 'assigned';
SELECT v.verdict, count(*) FROM runs r, LATERAL leadroute.verify_decision(r.run_id) v GROUP BY 1;
SELECT count(*) AS problems FROM leadroute.reconcile('leads');
SELECT mode, current, count(*) FROM leadroute.decisions WHERE leads_table = 'policy_observe.leads' GROUP BY 1, 2;
SELECT regexp_replace(regexp_replace(regexp_replace(e, '\d{4}-\d\d-\d\d [\d:.]+', 'MOMENT'), 'Decision \d+: lead \d+', 'Decision N: lead N'), 'observe [ab]', 'SOMEBODY') AS explanation
FROM runs r, LATERAL leadroute.explain_decision(r.run_id) e WHERE r.id = 'k50' AND e NOT LIKE 'Candidates%';

-- compared with what the other router says now; it often says it later
SELECT measure, baseline, candidate FROM leadroute.trial_comparison WHERE leads_table = 'policy_observe.leads' AND measure NOT LIKE 'duration%' AND measure <> 'moved.owner';
UPDATE leads l SET rep = CASE WHEN r.owner_id = a.owner_id THEN 'observe b' ELSE 'observe a' END::rep FROM runs r, leadroute.owners a WHERE r.id = l.id AND a.reference = 'observe a';
SELECT measure, baseline, candidate FROM leadroute.trial_comparison WHERE leads_table = 'policy_observe.leads' AND measure NOT LIKE 'duration%';
SELECT kind, from_owner, to_owner, from_pool, to_pool, sum(leads) > 10 AS some FROM leadroute.trial_moves WHERE leads_table = 'policy_observe.leads' AND to_owner IS NOT NULL GROUP BY 1, 2, 3, 4, 5 ORDER BY 2;
SELECT sum(leads) FROM leadroute.trial_moves WHERE leads_table = 'policy_observe.leads';
-- and what it says is no attribute: the record fits as before
SELECT v.verdict, count(*) FROM runs r, LATERAL leadroute.verify_decision(r.run_id) v GROUP BY 1;
-- rows that are gone are not compared
DELETE FROM leads WHERE id IN ('k1', 'k2');
SELECT measure, baseline, candidate FROM leadroute.trial_comparison WHERE leads_table = 'policy_observe.leads' AND measure = 'leads';

-- trials leave observed tables alone
SELECT leadroute.start_canary('policy_observe', 2, 1) > 0 AS started;
INSERT INTO leads VALUES ('in trial', '50');
SELECT mode, trial_id FROM runs WHERE id = 'in trial';
SELECT leadroute.abort_trial('policy_observe');

-- going live: what was decided stays, unless it is routed again
SET ROLE regress_lr_author;
SELECT leadroute.set_table_mode('leads', 'route');
SET ROLE regress_lr_approver;
SELECT leadroute.set_table_mode('policy_observe.leads', 'route', 'three good weeks');
RESET ROLE;
SELECT act, name, reason FROM leadroute.policy_history WHERE act = 'set_table_mode' ORDER BY at DESC LIMIT 1;
INSERT INTO leads VALUES ('live', '50');
:asked;
SELECT mode, turn, current FROM runs WHERE id = 'live';
SELECT mode, current FROM runs WHERE id = 'k50';
SELECT changed, count(*) FROM leadroute.route_leads((SELECT array_agg(leadroute.lead_of('leads', id)) FROM leads WHERE id LIKE 'k5%')) GROUP BY 1;
SELECT changed, count(*) FROM leadroute.route_leads((SELECT array_agg(leadroute.lead_of('leads', id)) FROM leads WHERE id LIKE 'k5%')) GROUP BY 1;
SELECT mode, current, supersedes IS NULL AS first, turn < 1000 AS drawn, count(*) FROM runs WHERE id LIKE 'k5_' GROUP BY 1, 2, 3, 4 ORDER BY 1;
SELECT leadroute.set_table_mode('leads', 'observe');
INSERT INTO leads VALUES ('observed again', '50');
SELECT mode, turn > 1000 AS hypothetical FROM runs WHERE id = 'observed again';
SELECT v.verdict, count(*) FROM runs r, LATERAL leadroute.verify_decision(r.run_id) v GROUP BY 1;
SELECT count(*) AS problems FROM leadroute.reconcile('leads');

-- the column goes: nothing to compare with, and inserts go on. Attached again without a mode, a table is routed.
ALTER TABLE leads RENAME rep TO salesperson;
INSERT INTO leads VALUES ('renamed', '50');
SELECT measure, baseline FROM leadroute.trial_comparison WHERE leads_table = 'policy_observe.leads' AND measure IN ('leads', 'moved.owner', 'outcome.assigned');
SELECT leadroute.detach_table('leads');
SELECT leadroute.attach_table('leads', policy => 'policy_observe') > 0 AS attached;
SELECT mode, baseline_owner FROM leadroute.attached_tables WHERE relation = 'leads'::regclass;
INSERT INTO leads VALUES ('routed', '50');
SELECT mode FROM runs WHERE id = 'routed';

DROP SCHEMA policy_observe CASCADE;
DROP ROLE regress_lr_approver, regress_lr_author;
