-- computeLeadScore adds the points of a scorecard: the base, and for every characteristic those of the first bin that holds, or of
-- "otherwise". The score stays within its bounds and gives the tier. The record names every point's reason; an error in a bin fails
-- the step rather than the statement.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA scoring_scorecard;
SET search_path TO scoring_scorecard;
SELECT leadroute.publish_scorecard('scoring_scorecard', '{
    "base": 20, "minimum": -5, "maximum": 90,
    "characteristics": [
        {"code": "size", "bins": [{"when": "company_size >= 1000", "points": 50}, {"when": "company_size >= 100", "points": 30}, {"when": "company_size = 0", "points": -100}], "otherwise": -2},
        {"code": "contact", "bins": [{"when": "validateContact.email_kind = ''business''", "points": 15}, {"when": "validateContact.email = ''ok''", "points": 5}]},
        {"code": "seats", "bins": [{"when": "(attributes->>''seats'')::int > 10", "points": 10}]},
        {"code": "never", "bins": []}],
    "tiers": [{"tier": "A", "from": 70}, {"tier": "B", "from": 33.5}, {"tier": "C", "from": 0}]}', 'test');
SELECT leadroute.publish_policy('scoring_scorecard', '{
    "leadroute": 1, "steps": [{"capability": "validateContact", "stop_when": []}, {"capability": "computeLeadScore", "scorecard": "scoring_scorecard"}, {"capability": "assignOwner"}],
    "rules": [{"name": "hot", "when": "score >= 70", "outcome": "nurture", "reason": "hot"},
              {"name": "B", "when": "computeLeadScore.tier = ''B'' AND tier = ''B''", "outcome": "nurture", "reason": "warm"},
              {"name": "rest", "when": "true", "outcome": "nurture", "reason": "cold"}]}', 'test');
SELECT leadroute.activate_policy('scoring_scorecard');
SELECT leadroute.create_leads_table('leads', 'scoring_scorecard');
INSERT INTO leads (company_size, email, attributes) VALUES
    (5000, 'jane@acme.example', '{"seats": 11}'), (1000, 'jane@acme.example', '{}'), (100, NULL, NULL), (10, 'jane@gmail.com', NULL), (NULL, NULL, NULL), (0, NULL, NULL),
    (10, 'jane@acme.example', '{"seats": 10}'), (5000, 'jane@acme.example', '{"seats": "many"}');
SELECT l.company_size, s.score, s.tier, s.outcome, s.reason_code, p.status, p.sqlstate, p.place, p.model,
       (SELECT string_agg(format('%s %s', r ->> 'code', r ->> 'points'), ', ') FROM jsonb_array_elements(p.output -> 'reasons') AS r) AS points
FROM leads l JOIN leadroute.lead_states s USING (lead_id) JOIN leadroute.provenance p USING (lead_id) WHERE p.capability = 'computeLeadScore' ORDER BY lead_id;
SELECT p.output FROM leads l JOIN leadroute.provenance p USING (lead_id) WHERE p.capability = 'computeLeadScore' ORDER BY lead_id LIMIT 1;
-- the base and all points give the score, but for the bounds
SELECT count(*) AS leads, count(*) FILTER (WHERE s.score = least(90, greatest(-5, (p.output ->> 'base')::int + (SELECT sum((r ->> 'points')::int) FROM jsonb_array_elements(p.output -> 'reasons') AS r)))) AS add_up
FROM leads l JOIN leadroute.lead_states s USING (lead_id) JOIN leadroute.provenance p USING (lead_id) WHERE p.capability = 'computeLeadScore' AND p.status = 'done';
SELECT v.verdict, count(*) FROM leads JOIN leadroute.lead_states USING (lead_id), leadroute.verify_decision(run_id) v GROUP BY 1 ORDER BY 1;
DROP SCHEMA scoring_scorecard CASCADE;
