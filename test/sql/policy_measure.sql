-- Measuring what matching costs over a table of leads, what the index of a version is like, and making it anew.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA policy_measure;
SET search_path TO policy_measure;
SELECT leadroute.publish_policy('policy_measure', jsonb_build_object('leadroute', 1, 'steps', '[{"capability": "assignOwner"}]'::jsonb, 'rules',
    jsonb_agg(jsonb_build_object('name', 'from ' || n, 'when', format('country = %L AND company_size >= %s AND attributes->>''plz'' < %L', CASE WHEN n % 2 = 0 THEN 'DE' ELSE 'FR' END, n, n + 5), 'outcome', 'nurture', 'reason', 'x') ORDER BY n)), 'test') AS version
FROM generate_series(10, 29) AS n;
CREATE TABLE leads (no integer, country text, company_size integer, attributes jsonb);
INSERT INTO leads VALUES (1, 'DE', 14, '{"plz": "13"}'), (2, 'DE', 100, '{"plz": "00"}'), (3, 'FR', 100, '{"plz": "11"}'), (4, 'FR', 9, '{"plz": "00"}'), (5, 'IT', 100, '{"plz": "00"}'), (6, NULL, NULL, NULL);
-- what is no fact, such as no, is passed over; each lead is matched rounds times
SELECT leads, hits, ns_per_lead > 0 AS takes_time, verified_per_lead FROM leadroute.measure_rules('policy_measure', 1, 'leads');
SELECT leads, hits, ns_per_lead > 0 AS takes_time, round(verified_per_lead::numeric, 2) AS verified_per_lead FROM leadroute.measure_rules('policy_measure', 1, 'leads', rounds => 3, indexed => false);
SELECT l.no, m.rule, m.verified FROM leads l, LATERAL leadroute.match_rules('policy_measure', 1, to_jsonb(l) - 'no') m ORDER BY l.no;
-- an empty table, no active version, a column of another type, no such policy
CREATE TABLE empty (country text);
SELECT leads, hits, ns_per_lead, verified_per_lead FROM leadroute.measure_rules('policy_measure', 1, 'empty');
SELECT leadroute.measure_rules('policy_measure', NULL, 'empty');
SELECT leadroute.measure_rules('policy_measure', 1, 'empty', 0);
CREATE TABLE odd AS SELECT 7 AS country;
SELECT leadroute.measure_rules('policy_measure', 1, 'odd');
SELECT leadroute.measure_rules('nowhere', 1, 'leads');
-- the index: two buckets of ten rules, each with a tree; made anew it is the same
SELECT rules, bytes / rules < 1000 AS small, columns, groups, buckets, trees, shapes FROM leadroute.rule_index('policy_measure', 1);
CREATE TABLE before AS SELECT rule_index FROM leadroute.policy_versions WHERE policy_version_id = leadroute.policy_version_id('policy_measure', 1);
SELECT leadroute.rebuild_rule_index('policy_measure', 1) = octet_length(b.rule_index) AS same_size, v.rule_index = b.rule_index AS same
FROM before b, leadroute.policy_versions v WHERE v.policy_version_id = leadroute.policy_version_id('policy_measure', 1);
DROP SCHEMA policy_measure CASCADE;
