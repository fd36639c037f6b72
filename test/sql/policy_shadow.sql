-- A shadow decides beside the active version: on record, explained and verified, and acted on by nobody. What reads the record knows
-- that it is no decision of the lead. Both sides are compared on the same leads; conversions with Wilson's interval.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA policy_shadow;
SET search_path TO policy_shadow;
INSERT INTO leadroute.owners (reference) VALUES ('shadow a'), ('shadow b'), ('shadow c');
INSERT INTO leadroute.pools (name) VALUES ('shadow one'), ('shadow two');
SELECT pool_id AS one FROM leadroute.pools WHERE name = 'shadow one' \gset
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT p.pool_id, o.owner_id FROM leadroute.pools p, leadroute.owners o
    WHERE p.name LIKE 'shadow %' AND o.reference LIKE 'shadow %' AND (p.name = 'shadow one') = (o.reference <> 'shadow c');
SELECT leadroute.publish_scorecard('policy_shadow', '{"base": 10, "characteristics": [{"code": "size", "bins": [{"when": "company_size > 50", "points": 40}]}],
    "tiers": [{"tier": "A", "from": 50}, {"tier": "B", "from": 0}]}', 'test') > 0 AS published;
SELECT leadroute.publish_policy('policy_shadow', '{"leadroute": 1, "steps": [{"capability": "assignOwner"}],
    "rules": [{"name": "all", "when": "true", "pool": "shadow one"}]}', 'test');
SELECT leadroute.publish_policy('policy_shadow', '{"leadroute": 1, "steps": [{"capability": "computeLeadScore", "scorecard": "policy_shadow"}, {"capability": "assignOwner"}],
    "rules": [{"name": "tiny", "when": "company_size < 10", "outcome": "nurture", "reason": "tiny"}, {"name": "big", "when": "score >= 50", "pool": "shadow two"},
              {"name": "rest", "when": "true", "pool": "shadow one"}]}', 'test');
SELECT leadroute.activate_policy('policy_shadow', 1);
CREATE TABLE leads (id text PRIMARY KEY, n integer, company_size integer);
SELECT leadroute.attach_table('leads', policy => 'policy_shadow', classes => '{"company_size": "plain"}', reroute_on => '{company_size}') > 0 AS attached;
CREATE VIEW runs AS SELECT l.n, e.* FROM leads l JOIN leadroute.entries e ON e.lead_id = leadroute.lead_of('leads', l.id) OFFSET 0;
INSERT INTO leads VALUES ('before', 0, 5);
SELECT count(*) AS before FROM leadroute.decisions WHERE leads_table = 'policy_shadow.leads' AND mode = 'routed' \gset
SELECT leadroute.start_shadow('policy_shadow', 2, reason => 'what would it do') AS trial \gset
INSERT INTO leads SELECT 'k' || i, i, i FROM generate_series(1, 100) AS i;

-- each lead has one decision and one state; turns went on without a gap
SELECT mode, outcome, trial_id = :trial AS in_trial, supersedes IS NULL AS first, count(*) FROM runs WHERE n > 0 GROUP BY 1, 2, 3, 4 ORDER BY 1, 2;
SELECT count(*) AS states, count(*) FILTER (WHERE e.mode = 's') AS of_shadows FROM leadroute.lead_states s JOIN runs e USING (run_id);
SELECT count(*) AS turns, max(turn) - min(turn) + 1 AS from_to FROM runs WHERE mode = 'r';
SELECT mode, current, superseded_by, count(*) FROM leadroute.decisions WHERE leads_table = 'policy_shadow.leads' GROUP BY 1, 2, 3 ORDER BY 1;
SELECT t.event, t.mode, count(*) FROM leadroute.lead_timeline t JOIN runs r ON r.run_id = t.decision_id GROUP BY 1, 2 ORDER BY 1;
SELECT * FROM leadroute.reconcile('leads');
SELECT sum(decisions) FROM leadroute.routing_metrics WHERE policy = 'policy_shadow';
SELECT rule, decisions, decisions_by_version FROM leadroute.rule_coverage('policy_shadow', 1) UNION ALL SELECT rule, decisions, decisions_by_version FROM leadroute.rule_coverage('policy_shadow', 2);

-- the same pool: the same turn and owner; another one: a turn that the lead's id names
SELECT s.outcome, s.pool_id = b.pool_id AS same_pool, s.turn = b.turn AS same_turn, s.owner_id = b.owner_id AS same_owner, count(*)
FROM runs s JOIN runs b ON b.n = s.n AND b.mode = 'r' WHERE s.mode = 's' GROUP BY 1, 2, 3, 4 ORDER BY 1, 2;
-- explained, unfolded and verified
SELECT regexp_replace(regexp_replace(regexp_replace(e, '\d{4}-\d\d-\d\d [\d:.]+', 'MOMENT'), 'Decision \d+: lead \d+', 'Decision N: lead N'), 'turn \d+', 'turn N') AS explanation
FROM runs r, LATERAL leadroute.explain_decision(r.run_id) e WHERE r.n = 60 AND r.mode = 's';
SELECT p.capability, p.status, count(*) FROM leadroute.provenance p JOIN runs r ON r.run_id = p.decision_id WHERE r.mode = 's' GROUP BY 1, 2 ORDER BY 1;
SELECT r.mode, v.verdict, count(*) FROM runs r, LATERAL leadroute.verify_decision(r.run_id) v GROUP BY 1, 2 ORDER BY 1;
SELECT leadroute.entry_tier(evidence, policy_version_id) AS tier, count(*) FROM runs WHERE mode = 's' GROUP BY 1 ORDER BY 1;

-- both sides on the same leads
SELECT measure, baseline, candidate FROM leadroute.trial_comparison WHERE trial_id = :trial AND measure NOT LIKE 'duration%' AND measure <> 'moved.owner';
SELECT count(*) AS durations FROM leadroute.trial_comparison WHERE trial_id = :trial AND measure LIKE 'duration%' AND baseline > 0 AND candidate > 0;
SELECT from_owner, to_owner, from_pool, to_pool, leads FROM leadroute.trial_moves WHERE trial_id = :trial ORDER BY from_owner, to_owner;
-- conversions: of all, and of those that a side assigns; from after the decision
SELECT leadroute.record_conversion(leadroute.lead_of('leads', 'k' || i), 'infinity', i) FROM generate_series(1, 20) AS i;
SELECT leadroute.record_conversion(leadroute.lead_of('leads', 'k20'), 'infinity', 99);
SELECT leadroute.record_conversion(leadroute.lead_of('leads', 'k90'), '2000-01-01');
SELECT leadroute.record_conversion(-5);
SELECT leadroute.record_conversion(NULL);
SELECT count(*), sum(value) FROM leadroute.conversions c JOIN runs r USING (lead_id) WHERE r.mode = 'r';
SELECT measure, round(baseline::numeric, 4) AS baseline, round(baseline_low::numeric, 4) AS low, round(baseline_high::numeric, 4) AS high,
       round(candidate::numeric, 4) AS candidate, round(candidate_low::numeric, 4) AS low, round(candidate_high::numeric, 4) AS high
FROM leadroute.trial_comparison WHERE trial_id = :trial AND measure LIKE 'conversion%';
-- Wilson's interval: as in R. Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, method 3
SELECT x, n, round(w.low::numeric, 4) AS low, round(w.high::numeric, 4) AS high
FROM (VALUES (81, 263), (15, 148), (0, 20), (1, 29), (29, 29), (0, 0)) AS v (x, n) LEFT JOIN LATERAL leadroute.wilson_interval(x, n) w ON true;

-- routed again, unchanged: nothing is written on either side. Changed: both decide again, and the latest pair counts
SELECT changed, count(*) FROM leadroute.route_leads((SELECT array_agg(leadroute.lead_of('leads', id)) FROM leads WHERE n BETWEEN 1 AND 50)) GROUP BY 1;
UPDATE leads SET company_size = 1000 WHERE n <= 5;
SELECT mode, count(*), count(supersedes) AS supersede FROM runs WHERE n BETWEEN 1 AND 5 GROUP BY 1 ORDER BY 1;
SELECT measure, baseline, candidate FROM leadroute.trial_comparison WHERE trial_id = :trial AND measure IN ('leads', 'outcome.nurture');
SELECT * FROM leadroute.reconcile('leads');
SELECT leadroute.abort_trial('policy_shadow', 'seen enough');
INSERT INTO leads VALUES ('after', 101, 5);
SELECT count(*) FROM runs WHERE n = 101;

-- a share, in a segment
SELECT leadroute.start_shadow('policy_shadow', 2, 0.5, 'company_size > 1000') AS trial \gset
INSERT INTO leads SELECT 's' || i, 1000 + i, CASE WHEN i % 2 = 0 THEN 2000 ELSE 5 END FROM generate_series(1, 100) AS i;
SELECT salt FROM leadroute.policy_trials WHERE trial_id = :trial \gset
SELECT count(*) FILTER (WHERE shadowed) BETWEEN 10 AND 40 AS some, count(*) FILTER (WHERE shadowed <> (company_size > 1000 AND leadroute.lead_share(id, :'salt') < 0.5)) AS wrong
FROM (SELECT l.*, EXISTS (SELECT FROM runs r WHERE r.n = l.n AND r.mode = 's') AS shadowed FROM leads l WHERE id LIKE 's%') AS s;
SELECT leadroute.abort_trial('policy_shadow');

-- what fails in the shadow fails there only, whatever leadroute.on_error says
CREATE FUNCTION fails(lead jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN jsonb_build_object('x', 1 / 0); END $$;
SELECT leadroute.register_agent('policy_shadow', (SELECT count(*) + 1 FROM leadroute.agents WHERE name = 'policy_shadow')::text, ARRAY['failInShadow'], 'fails(jsonb)') > 0 AS registered;
SELECT leadroute.publish_policy('policy_shadow', '{"leadroute": 1, "steps": [{"capability": "failInShadow"}, {"capability": "assignOwner"}],
    "rules": [{"name": "all", "when": "true", "pool": "shadow one"}]}', 'test');
SELECT leadroute.start_shadow('policy_shadow', 3) > 0 AS started;
SET leadroute.on_error = abort;
INSERT INTO leads VALUES ('fails', 2000, 5);
RESET leadroute.on_error;
SELECT mode, outcome, reason_code FROM runs WHERE n = 2000 ORDER BY 1;
SELECT v.verdict FROM runs r, LATERAL leadroute.verify_decision(r.run_id) v WHERE n = 2000 AND mode = 's';
SELECT leadroute.promote_candidate('policy_shadow', 'for the test');
SELECT ended_how FROM leadroute.policy_trials ORDER BY trial_id DESC LIMIT 1;
SELECT leadroute.rollback_policy('policy_shadow');
-- the pool is empty in the shadow as it is outside
UPDATE leadroute.owners SET available = false WHERE reference LIKE 'shadow %';
SELECT leadroute.start_shadow('policy_shadow', 2) > 0 AS started;
INSERT INTO leads VALUES ('nobody', 2001, 500);
SELECT mode, outcome, reason_code, turn, owner_id FROM runs WHERE n = 2001 ORDER BY 1;
SELECT leadroute.abort_trial('policy_shadow');

DELETE FROM leadroute.conversions c USING runs r WHERE r.lead_id = c.lead_id;
DROP SCHEMA policy_shadow CASCADE;
