-- Feature flags: conditions read them as flags.name, steps are switched by them; on for a share of a segment. Their values are in the
-- record: a decision verifies under the values that it had.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA policy_flags;
SET search_path TO policy_flags;
CREATE ROLE regress_lr_author;
GRANT leadroute_author TO regress_lr_author;
CREATE FUNCTION outline(lead jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('flags', lead -> 'flags', 'seen', true) $$;
SELECT leadroute.register_agent('policy_flags', (SELECT count(*) + 1 FROM leadroute.agents WHERE name = 'policy_flags')::text, ARRAY['outlineLead'], 'outline(jsonb)') > 0 AS registered;
SELECT leadroute.publish_scorecard('policy_flags', '{"base": 10, "characteristics": []}', 'test') > 0 AS published;
CREATE FUNCTION mistakes(steps jsonb, conditions text) RETURNS TABLE (place text, problem text, hint text) LANGUAGE sql AS $$
    SELECT * FROM leadroute.policy_mistakes(jsonb_build_object('leadroute', 1, 'steps', steps || '[{"capability": "assignOwner"}]',
        'rules', jsonb_build_array(jsonb_build_object('name', 'r', 'when', conditions, 'outcome', 'nurture', 'reason', 'x')))) $$;
\x

-- what is no flag, and what cannot be one
SELECT * FROM mistakes('[{"capability": "computeLeadScore", "scorecard": "policy_flags", "flag": "policy_flags_score"}]', 'flags.policy_flags_form AND country = ''DE''');
SELECT * FROM mistakes('[{"capability": "computeLeadScore", "scorecard": "policy_flags", "flag": 7}]', 'flags > 5');
SELECT leadroute.set_flag('Form');
SELECT leadroute.set_flag('');
SELECT leadroute.set_flag(NULL);
SELECT leadroute.set_flag('policy_flags_form', true, 2);
SELECT leadroute.set_flag('policy_flags_form', true, 0.5, 'validateContact.status = ''valid''');
CREATE TYPE stage AS ENUM ('new', 'open');
SELECT leadroute.set_flag('policy_flags_form', true, 0.5, '(attributes->>''stage'')::policy_flags.stage >= ''open''::policy_flags.stage');
SELECT leadroute.drop_flag('policy_flags_form');
SET ROLE regress_lr_author;
SELECT leadroute.set_flag('policy_flags_form');
RESET ROLE;

-- a new flag is off
SELECT leadroute.set_flag('policy_flags_form', description => 'the new form', reason => 'to come');
SELECT leadroute.set_flag('policy_flags_score');
SELECT leadroute.set_flag('policy_flags_never_read', true);
SELECT enabled, share, segment, length(salt) AS salt, description FROM leadroute.feature_flags WHERE name = 'policy_flags_form';
SELECT * FROM mistakes('[{"capability": "computeLeadScore", "scorecard": "policy_flags", "flag": "policy_flags_score"}]', 'flags.policy_flags_form AND country = ''DE''');
SELECT * FROM mistakes('[]', 'flags.policy_flags_form > 5');
-- assignOwner cannot be switched off, nor wait for what can
SELECT * FROM leadroute.policy_mistakes('{"leadroute": 1, "steps": [{"capability": "computeLeadScore", "scorecard": "policy_flags", "flag": "policy_flags_score"}, {"capability": "outlineLead", "after": ["computeLeadScore"]},
    {"capability": "assignOwner", "flag": "policy_flags_form", "after": ["outlineLead"]}]}');
\x

SELECT leadroute.publish_policy('policy_flags', '{"leadroute": 1, "steps": [{"capability": "computeLeadScore", "scorecard": "policy_flags", "flag": "policy_flags_score"},
        {"capability": "outlineLead", "after": ["computeLeadScore"]}, {"capability": "assignOwner"}],
    "rules": [{"name": "form", "when": "flags.policy_flags_form AND country IN (''DE'', ''FR'')", "outcome": "nurture", "reason": "form"},
              {"name": "seen", "when": "(outlineLead->>''seen'')::boolean AND NOT Flags.Policy_Flags_Form", "outcome": "nurture", "reason": "seen"},
              {"name": "scored", "when": "score >= 10 AND flags.policy_flags_score", "outcome": "nurture", "reason": "scored", "prerequisites": ["computeLeadScore"]},
              {"name": "rest", "when": "true", "outcome": "nurture", "reason": "rest"}]}', 'test');
SELECT leadroute.activate_policy('policy_flags');
-- pinned are those that it reads; a version without flags pins none
SELECT pins -> 'flags' AS flags FROM leadroute.policy_versions JOIN leadroute.policies USING (policy_id) WHERE name = 'policy_flags';
CREATE TABLE leads (id text PRIMARY KEY, country text, seats text);
SELECT leadroute.attach_table('leads', policy => 'policy_flags', classes => '{"country": "plain"}') > 0 AS attached;
CREATE VIEW runs AS SELECT l.id, l.country, e.run_id, e.reason_code, e.evidence, e.policy_version_id, leadroute.entry_evidence(e.evidence, e.policy_version_id) -> 'flags' AS flags
    FROM leads l JOIN leadroute.lead_states s ON s.lead_id = leadroute.lead_of('leads', l.id) JOIN leadroute.entries e USING (run_id) OFFSET 0;
CREATE VIEW verdicts AS SELECT v.verdict, v.place, count(*) FROM runs r, LATERAL leadroute.verify_decision(r.run_id) v GROUP BY 1, 2 ORDER BY 1, 2;

INSERT INTO leads VALUES ('off', 'DE');
SELECT flags, reason_code FROM runs WHERE id = 'off';
SELECT p.capability, p.status FROM leadroute.provenance p JOIN runs r ON r.run_id = p.decision_id WHERE r.id = 'off' ORDER BY p.step_no;
SELECT regexp_replace(regexp_replace(e, '\d{4}-\d\d-\d\d [\d:.]+', 'MOMENT'), 'Decision \d+: lead \d+|policy_flags@\d+', 'N', 'g') AS explanation FROM runs r, LATERAL leadroute.explain_decision(r.run_id) e WHERE r.id = 'off';
-- switched on: from the next statement on; the step runs, and so does what needs it. An agent is not told of flags.
SELECT leadroute.set_flag('policy_flags_score', true);
INSERT INTO leads VALUES ('score', 'DE');
SELECT flags, reason_code FROM runs WHERE id = 'score';
SELECT p.capability, p.status, p.output FROM leadroute.provenance p JOIN runs r ON r.run_id = p.decision_id WHERE r.id = 'score' AND p.step_no = 2;
SELECT leadroute.set_flag('policy_flags_form', true);
INSERT INTO leads VALUES ('form', 'FR'), ('not in the rule', 'US');
SELECT id, flags, reason_code FROM runs WHERE id IN ('form', 'not in the rule') ORDER BY 1;
-- rolled back, it is as it was, in this session too
BEGIN;
SELECT leadroute.set_flag('policy_flags_form', false);
INSERT INTO leads VALUES ('undone', 'DE');
SELECT reason_code FROM runs WHERE id = 'undone';
ROLLBACK;
INSERT INTO leads VALUES ('redone', 'DE');
SELECT reason_code FROM runs WHERE id = 'redone';

-- a share of a segment; what raises or is null is not in it; the leads of two flags are independent
SELECT leadroute.set_flag('policy_flags_form', share => 0.5, segment => 'country = ''DE'' AND coalesce((attributes->>''seats'')::int, 9) > 5');
SELECT leadroute.set_flag('policy_flags_score', share => 0.5);
INSERT INTO leads SELECT 'k' || i, CASE WHEN i % 3 = 0 THEN 'FR' WHEN i % 3 = 1 THEN 'DE' END, CASE WHEN i % 30 = 1 THEN 'x' WHEN i % 30 = 4 THEN '2' END FROM generate_series(1, 600) AS i;
CREATE VIEW expected AS
    SELECT l.id, coalesce(l.country = 'DE' AND l.seats IS NULL, false) AND leadroute.lead_share(l.id, f.salt) < 0.5 AS form, leadroute.lead_share(l.id, s.salt) < 0.5 AS score
    FROM leads l, leadroute.feature_flags f, leadroute.feature_flags s WHERE f.name = 'policy_flags_form' AND s.name = 'policy_flags_score' AND l.id LIKE 'k%';
SELECT count(*) AS leads, count(*) FILTER (WHERE flags = jsonb_build_object('policy_flags_form', form, 'policy_flags_score', score)) AS as_expected,
       count(*) FILTER (WHERE form AND score) > 20 AS both, count(*) FILTER (WHERE form AND NOT score) > 20 AS one, count(*) FILTER (WHERE NOT form AND score) > 100 AS other FROM runs JOIN expected USING (id);
SELECT reason_code, flags, count(*) > 0 AS some FROM runs WHERE id LIKE 'k%' AND country = 'DE' GROUP BY 1, 2 ORDER BY 2, 1;
-- the share grows: where it was on, it stays on
CREATE TABLE was AS SELECT id, run_id FROM runs WHERE id LIKE 'k%' AND flags @> '{"policy_flags_form": true}';
SELECT leadroute.set_flag('policy_flags_form', share => 0.75);
SELECT bool_or(changed) AS changed FROM leadroute.route_leads((SELECT array_agg(leadroute.lead_of('leads', id)) FROM leads WHERE id LIKE 'k%'));
SELECT count(*) > 50 AS many, count(*) FILTER (WHERE r.run_id = w.run_id) = count(*) AS undisturbed FROM was w JOIN runs r USING (id);
SELECT count(*) > (SELECT count(*) FROM was) AS more FROM runs WHERE id LIKE 'k%' AND flags @> '{"policy_flags_form": true}';

-- under whatever values they have now: it verifies by those that are recorded
SELECT leadroute.set_flag('policy_flags_form', false, segment => '');
SELECT leadroute.set_flag('policy_flags_score', false);
SELECT segment FROM leadroute.feature_flags WHERE name = 'policy_flags_form';
SELECT * FROM verdicts;
-- a changed value is found: the flag of a run that decided by it
BEGIN;
UPDATE leadroute.entries SET evidence = set_byte(evidence, position('\x020101'::bytea IN evidence), 0) WHERE run_id = (SELECT run_id FROM runs WHERE id = 'form');
SELECT flags FROM runs WHERE id = 'form';
SELECT DISTINCT v.verdict FROM runs r, LATERAL leadroute.verify_decision(r.run_id) v WHERE id = 'form';
ROLLBACK;
-- part of what a step reads
SELECT a.input_digest <> b.input_digest AS another_input FROM leadroute.provenance a, leadroute.provenance b
WHERE a.decision_id = (SELECT run_id FROM runs WHERE id = 'off') AND b.decision_id = (SELECT run_id FROM runs WHERE id = 'form') AND a.capability = 'assignOwner' AND b.capability = 'assignOwner';
SELECT rule, hits FROM leadroute.match_rules('policy_flags', NULL, '{"flags.policy_flags_form": true, "country": "DE"}');
SELECT leadroute.match_rules('policy_flags', NULL, '{"flags.policy_flags_never_read": true}');
SELECT leadroute.match_rules('policy_flags', NULL, '{"flags.policy_flags_form": "yes"}');

-- a lead that is only evaluated has the flags that it is given; others are as they are, and it is in no share but that of everybody
SELECT name, enabled, share < 1 AS shared, segment FROM leadroute.feature_flags WHERE name LIKE 'policy_flags_%' ORDER BY name;
SELECT outcome, rule FROM leadroute.evaluate_policy('policy_flags', '{"country": "DE", "flags.policy_flags_form": true}');
SELECT outcome, rule FROM leadroute.evaluate_policy('policy_flags', '{"country": "DE", "flags.policy_flags_form": false}');
SELECT outcome, rule FROM leadroute.evaluate_policy('policy_flags', '{"country": "DE"}');
-- a backtest has those that were recorded, whatever they are now: under its own version the same rules decide
SELECT from_rule = to_rule AS same_rule, sum(leads) > 600 AS many, sum(unavailable) AS unavailable
FROM leadroute.backtest_policy('policy_flags', (SELECT max(policy_version) FROM leadroute.decisions WHERE policy = 'policy_flags'), '-infinity') GROUP BY 1;
-- explained by the values that decided, or by those that are given
SELECT r.id, x.conjunct_no, x.condition, x.truth, x.reads FROM runs r, LATERAL leadroute.explain_rule(r.run_id, 'form') x WHERE r.id IN ('form', 'off') AND x.conjunct_no IS NOT NULL ORDER BY 1, 2;
SELECT r.id, x.conjunct_no, x.condition, x.truth, x.reads FROM runs r, LATERAL leadroute.explain_rule(r.run_id, 'seen') x WHERE r.id = 'score' AND x.conjunct_no IS NOT NULL ORDER BY 2;
SELECT conjunct_no, condition, truth, reads, note FROM leadroute.explain_rule('policy_flags', NULL, 'form', '{"country": "DE"}');
SELECT conjunct_no, condition, truth, reads, note FROM leadroute.explain_rule('policy_flags', NULL, 'form', '{"country": "DE", "flags.policy_flags_form": true}');
-- backtested by them: a step that the candidate switches off gave nothing, whatever is on record, and is not missing either
CREATE FUNCTION switched(flag text) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('leadroute', 1, 'steps', jsonb_build_array(jsonb_build_object('capability', 'outlineLead', 'flag', flag), '{"capability": "assignOwner"}'::jsonb), 'rules',
    '[{"name": "seen", "when": "(outlineLead->>''seen'')::boolean", "outcome": "nurture", "reason": "seen"}, {"name": "rest", "when": "true", "outcome": "nurture", "reason": "rest"}]'::jsonb) $$;
SELECT f.flag, r.id, m.to_rule_no, m.lacks FROM unnest(ARRAY['policy_flags_form', 'policy_flags_score']) f (flag), leadroute.policies p,
    LATERAL leadroute.backtest_decisions(p.policy_id, NULL, switched(f.flag), '-infinity', 'infinity') m JOIN runs r ON r.run_id = m.decision_id WHERE p.name = 'policy_flags' AND r.id IN ('off', 'score', 'form') ORDER BY 1, 2;
-- analysed: a step that may be off leaves its outputs null
SELECT finding, rule, detail FROM leadroute.analyse_document('{"leadroute": 1, "steps": [{"capability": "computeLeadScore", "scorecard": "policy_flags", "flag": "policy_flags_score"}, {"capability": "assignOwner"}],
    "rules": [{"name": "low", "when": "score < 50", "outcome": "nurture", "reason": "low"}, {"name": "high", "when": "score >= 50", "outcome": "nurture", "reason": "high"}, {"name": "none", "when": "score IS NULL", "outcome": "nurture", "reason": "none"}]}');
SELECT finding, detail, witness FROM leadroute.analyse_document('{"leadroute": 1, "steps": [{"capability": "computeLeadScore", "scorecard": "policy_flags", "flag": "policy_flags_score"}, {"capability": "assignOwner"}],
    "rules": [{"name": "low", "when": "score < 50", "outcome": "nurture", "reason": "low"}, {"name": "high", "when": "score >= 50", "outcome": "nurture", "reason": "high"}]}') WHERE finding = 'gap';

-- evidence of version 1, without flags, is read and verified as before
SELECT leadroute.publish_policy('policy_flags', '{"leadroute": 1, "steps": [{"capability": "assignOwner"}], "rules": [{"name": "all", "when": "country IS NULL", "outcome": "nurture", "reason": "old"}]}', 'test');
SELECT leadroute.activate_policy('policy_flags');
INSERT INTO leads VALUES ('old', NULL);
SELECT pins ? 'flags' AS pins_flags, flags FROM runs JOIN leadroute.policy_versions USING (policy_version_id) WHERE id = 'old';
-- version; length of the stable part, less by one; bits of what is known, "attributes" with their digest, classes and members; no flags
UPDATE leadroute.entries SET evidence = '\x01'::bytea || set_byte(substr(evidence, 2, 4), 0, get_byte(evidence, 1) - 1) || substr(evidence, 6, 27) || substr(evidence, 34)
    WHERE run_id = (SELECT run_id FROM runs WHERE id = 'old');
SELECT get_byte(evidence, 0) AS version, leadroute.entry_evidence(evidence, policy_version_id) - 'attributes' AS evidence, v.verdict FROM runs r, LATERAL leadroute.verify_decision(r.run_id) v WHERE id = 'old';
BEGIN;
UPDATE leadroute.entries SET evidence = set_byte(evidence, 0, 3) WHERE run_id = (SELECT run_id FROM runs WHERE id = 'old');
SELECT flags FROM runs WHERE id = 'old';
ROLLBACK;
DELETE FROM leads WHERE id = 'old';

-- a flag in use is not dropped; one that an old version reads is off when that version comes back
SELECT leadroute.drop_flag('policy_flags_form', 'served its time');
SELECT leadroute.rollback_policy('policy_flags');
INSERT INTO leads VALUES ('dropped', 'DE');
SELECT flags, reason_code FROM runs WHERE id = 'dropped';
SELECT leadroute.drop_flag('policy_flags_score');
SELECT act, name, reason FROM leadroute.policy_history WHERE name LIKE 'policy_flags_%' AND reason <> '' ORDER BY at;
SELECT verdict, count(*) > 600 AS many FROM runs r, LATERAL leadroute.verify_decision(r.run_id) v GROUP BY 1;
SELECT leadroute.activate_policy('policy_flags', 2);
SELECT leadroute.drop_flag('policy_flags_score'), leadroute.drop_flag('policy_flags_never_read');
SELECT leadroute.drop_flag('policy_flags_score');

DROP SCHEMA policy_flags CASCADE;
DROP ROLE regress_lr_author;
