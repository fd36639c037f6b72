-- What the record says: the views decisions, provenance and lead_timeline, and explain_decision() in plain language, for every outcome.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA provenance_views;
SET search_path TO provenance_views;
INSERT INTO leadroute.pools (name) VALUES ('provenance_views'), ('provenance_views empty');
INSERT INTO leadroute.owners (reference, available) VALUES ('views anna', true), ('views bo', false), ('views cy', true);
INSERT INTO leadroute.pool_members (pool_id, owner_id, weight) SELECT pool_id, owner_id, 1 + length(reference) % 2 FROM leadroute.pools, leadroute.owners WHERE name = 'provenance_views' AND reference LIKE 'views %';
INSERT INTO leadroute.firmographics (domain, company, company_size) VALUES ('provenance-views.example', 'Acme', 500);
SELECT leadroute.publish_scorecard('provenance_views', '{"base": 10, "characteristics": [
    {"code": "size", "bins": [{"when": "company_size >= 100", "points": 30}]}, {"code": "consent", "bins": [{"when": "consent IS NULL", "points": -5}]},
    {"code": "seats", "bins": [{"when": "(attributes->>''seats'')::int > 5", "points": 1}]}], "tiers": [{"tier": "A", "from": 40}, {"tier": "B", "from": 0}]}', 'test');
SELECT leadroute.publish_policy('provenance_views', '{
    "leadroute": 1, "steps": [{"capability": "validateContact"}, {"capability": "checkRegionalCompliance"}, {"capability": "enrichWithFirmographicData"},
        {"capability": "computeLeadScore", "scorecard": "provenance_views"}, {"capability": "assignOwner"}],
    "rules": [{"name": "visitors", "when": "(attributes->>''visits'')::int > 3", "outcome": "nurture", "reason": "visits"},
              {"name": "large", "when": "score >= 40 AND country = ''DE''", "pool": "provenance_views"},
              {"name": "french", "when": "country = ''FR''", "outcome": "nurture", "reason": "no_french_team"},
              {"name": "british", "when": "country = ''GB''", "pool": "provenance_views empty"},
              {"name": "odd", "when": "country = ''US''", "outcome": "quarantined", "reason": "look_at_it"}]}', 'test');
SELECT leadroute.activate_policy('provenance_views');
SELECT leadroute.create_leads_table('leads', 'provenance_views');
INSERT INTO leads (external_id, email, country, consent, attributes, traceparent) VALUES
    ('assigned', 'jane@provenance-views.example', 'DE', true, '{"visits": "often"}', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'),
    ('nurture', 'jane@gmail.com', 'FR', true, NULL, NULL), ('invalid', 'jane@', 'FR', true, NULL, NULL), ('refused', 'jane@gmail.com', 'FR', false, NULL, NULL),
    ('nobody', 'info@acme.example', 'GB', true, NULL, NULL), ('no rule', 'jane@gmail.com', 'AT', true, NULL, NULL), ('odd', 'jane@gmail.com', 'US', NULL, NULL, NULL),
    ('failed', 'jane@gmail.com', 'AT', true, '{"seats": "many"}', NULL);

SELECT l.external_id, d.outcome, d.reason_code, d.owner, d.pool, d.rule, d.score, d.policy, d.policy_version AS version, d.cause, d.turn, d.current, d.duration_us >= 0 AS took_time, d.routed_by = current_user AS by_me,
       d.engine, concat(d.server, d.libc, d."collation", d.tzdata) <> '' AS environment
FROM leads l JOIN leadroute.decisions d USING (lead_id) ORDER BY lead_id;
SELECT l.external_id, p.step_no, p.capability, p.agent, p.agent_version AS v, p.model, p.status, p.sqlstate, p.place, p.input_digest ~ '^[0-9a-f]{64}$' AS digest, p.confidence, p.duration_us >= 0 AS took_time, jsonb_strip_nulls(p.output) #- '{values,company,digest}' AS output
FROM leads l JOIN leadroute.provenance p USING (lead_id) WHERE l.external_id IN ('assigned', 'failed') ORDER BY lead_id, step_no;
-- equal inputs have equal digests, others others
SELECT p.capability, count(DISTINCT p.input_digest) FROM leads l JOIN leadroute.provenance p USING (lead_id) WHERE l.external_id IN ('nurture', 'refused') AND p.step_no <= 2 GROUP BY 1 ORDER BY 1;
SELECT jsonb_object_keys(leadroute.entry_evidence(e.evidence, e.policy_version_id)) AS members FROM leads l JOIN leadroute.entries e USING (lead_id) WHERE l.external_id = 'assigned' ORDER BY 1;
SELECT leadroute.entry_evidence(e.evidence, e.policy_version_id) #>> '{attributes,traceparent}' AS traceparent FROM leads l JOIN leadroute.entries e USING (lead_id) WHERE l.external_id = 'assigned';

-- in plain language; ids and times are taken out here
CREATE FUNCTION explained(wanted text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT regexp_replace(regexp_replace(regexp_replace(x, '(Decision|decision|lead) \d+', '\1 N', 'g'), '\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+', 'THEN'), 'turn \d+', 'turn N')
    FROM leads JOIN leadroute.lead_states USING (lead_id), leadroute.explain_decision(run_id) AS x WHERE external_id = wanted
$$;
\pset tuples_only on
\pset format unaligned
SELECT explained('assigned');
SELECT explained('nurture');
SELECT explained('invalid');
SELECT explained('refused');
SELECT explained('nobody');
SELECT explained('no rule');
SELECT explained('odd');
SELECT explained('failed');
-- routed again by hand: what supersedes what
UPDATE leads SET country = 'FR' WHERE external_id = 'assigned';
SELECT changed FROM leadroute.route_leads((SELECT array_agg(lead_id) FROM leads WHERE external_id = 'assigned'), 'moved to Lyon');
SELECT explained('assigned') LIMIT 3;
SELECT regexp_replace(x, '\d+', 'N') FROM leads JOIN leadroute.decisions d USING (lead_id), leadroute.explain_decision(d.decision_id) WITH ORDINALITY AS e (x, i)
    WHERE external_id = 'assigned' AND (x LIKE 'It %') ORDER BY d.decision_id, i;
\pset format aligned
\pset tuples_only off
DELETE FROM leads WHERE external_id = 'refused';
SELECT t.event, t.outcome, t.reason_code, t.owner, t.note, t.by_user = current_user AS by_me FROM leadroute.lead_timeline t JOIN leads USING (lead_id) WHERE external_id = 'assigned' ORDER BY t.at;
SELECT sum(decisions) AS decisions, sum(assigned) AS assigned, sum(nurture) AS nurture, sum(rejected) AS rejected, sum(no_rule) AS no_rule, sum(quarantined) AS quarantined,
       bool_and(duration_us_median >= 0 AND duration_us_median <= duration_us_p95 AND duration_us_p95 <= duration_us_p99) AS percentiles, bool_and(decisions_per_second > 0) AS throughput
FROM leadroute.routing_metrics WHERE policy = 'provenance_views';
-- a scorecard of nothing but its base, and rules of which only one should hold
SELECT leadroute.publish_scorecard('provenance_views', '{"characteristics": []}', 'test');
SELECT leadroute.publish_policy('provenance_views', '{"leadroute": 1, "hit_policy": "unique", "steps": [{"capability": "computeLeadScore", "scorecard": "provenance_views"}, {"capability": "assignOwner"}],
    "rules": [{"name": "one", "when": "true", "outcome": "nurture", "reason": "x"}, {"name": "two", "when": "false", "outcome": "nurture", "reason": "x"}, {"name": "three", "when": "true", "outcome": "nurture", "reason": "x"}]}', 'test');
SELECT leadroute.activate_policy('provenance_views');
INSERT INTO leads (external_id) VALUES ('unique');
SELECT explained('unique');
SELECT leadroute.explain_decision(-1);
SELECT leadroute.entry_evidence('\x00', 1);

DROP SCHEMA provenance_views CASCADE;
DELETE FROM leadroute.pool_members WHERE pool_id IN (SELECT pool_id FROM leadroute.pools WHERE name LIKE 'provenance_views%');
DELETE FROM leadroute.pools WHERE name LIKE 'provenance_views%';
DELETE FROM leadroute.owners WHERE reference LIKE 'views %';
DELETE FROM leadroute.firmographics WHERE domain = 'provenance-views.example';
