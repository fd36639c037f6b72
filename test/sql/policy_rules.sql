-- Rules are tried by priority, then in their order; the first that holds decides. A condition is a conjunction whose parts are
-- independent: a false one makes it false, whatever others would raise; otherwise an error makes it an error, which goes on
-- record and does not stop the search; otherwise a null makes it null. The order of the parts is of no account, nor is the index.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA policy_rules;
SET search_path TO policy_rules;
CREATE FUNCTION rules(VARIADIC conditions text[]) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('leadroute', 1, 'steps', '[{"capability": "assignOwner"}]'::jsonb, 'rules',
        jsonb_agg(jsonb_build_object('name', c, 'when', c, 'outcome', 'nurture', 'reason', 'rule ' || n) ORDER BY n))
    FROM unnest(conditions) WITH ORDINALITY AS u (c, n)
$$;
CREATE TABLE leads (id integer PRIMARY KEY, country text, region text, company_size integer, seats text);
SELECT leadroute.attach_table('leads', policy => 'policy_rules') > 0 AS attached;
CREATE VIEW decided AS
    SELECT CASE WHEN t.relation = 'leads'::regclass THEN k.key::int END AS id, d.outcome, d.reason_code, d.rule,
           (SELECT string_agg(format('%s raised %s', r.rule ->> 'name', x ->> 'sqlstate'), '; ' ORDER BY n)
            FROM jsonb_array_elements(p.output -> 'errors') WITH ORDINALITY AS e (x, n)
                JOIN leadroute.policy_rules r ON r.policy_version_id = v.policy_version_id AND r.rule_no = (x ->> 'rule_no')::int) AS errors
    FROM leadroute.decisions d JOIN leadroute.lead_keys k USING (lead_id) JOIN leadroute.attached_tables t USING (source_id)
    JOIN leadroute.provenance p USING (decision_id)
    JOIN leadroute.policies y ON y.name = d.policy JOIN leadroute.policy_versions v ON v.policy_id = y.policy_id AND v.version = d.policy_version
    WHERE t.relation = 'leads'::regclass AND p.capability = 'assignOwner';

-- priority: the lowest number first, 0 where none is given, then the order in the document; a rule that is switched off is none
SELECT leadroute.publish_policy('policy_rules', '{"leadroute": 1, "steps": [{"capability": "assignOwner"}], "rules": [
    {"name": "late", "when": "true", "outcome": "nurture", "reason": "x", "priority": 10},
    {"name": "off", "when": "true", "outcome": "nurture", "reason": "x", "priority": -10, "enabled": false},
    {"name": "big", "when": "company_size > 100", "outcome": "nurture", "reason": "x"},
    {"name": "german", "when": "country = ''DE''", "outcome": "rejected", "reason": "x"},
    {"name": "bavarian", "when": "country = ''DE'' AND region IN (''BY'', ''BW'')", "outcome": "quarantined", "reason": "x", "priority": -1.5},
    {"name": "huge", "when": "company_size > 1000", "outcome": "nurture", "reason": "x", "priority": -2}]}', 'test');
SELECT leadroute.activate_policy('policy_rules');
INSERT INTO leads VALUES (1, 'DE', 'BY', 5000), (2, 'DE', 'BY', 500), (3, 'DE', 'HH', 500), (4, 'DE', NULL, 50), (5, 'FR', 'BY', 50), (6, NULL, NULL, NULL);
SELECT id, rule, outcome FROM decided ORDER BY id;
TRUNCATE leads;

-- conjuncts: every order of a false, a raising and a null part
SELECT leadroute.publish_policy('policy_rules', rules(
    '(attributes->>''seats'')::int > 5 AND country = ''XX''', 'country = ''XX'' AND (attributes->>''seats'')::int > 5',
    'company_size / 0 = 1 AND length(country) > 5', 'length(country) > 5 AND company_size / 0 = 1',
    'region = ''BY'' AND (attributes->>''seats'')::int > 5', '(attributes->>''seats'')::int > 5 AND region = ''BY''',
    'region = ''BY'' AND country = ''DE''', 'country = ''DE'' AND region = ''BY''',
    '(attributes->>''seats'')::int > 5', 'country = ''DE'''), 'test');
SELECT leadroute.activate_policy('policy_rules');
-- seats is no number: the raising rules before the one that holds are on record, but not those with a false part
INSERT INTO leads VALUES (1, 'DE', NULL, 1, 'many');
SELECT id, rule, errors FROM decided;
-- a lead that raises in every rule that could hold
INSERT INTO leads VALUES (2, 'FR', NULL, 1, 'many');
SELECT id, outcome, reason_code, rule, errors FROM decided WHERE id = 2;
-- null only
INSERT INTO leads VALUES (3, 'FR', NULL, 1, NULL);
SELECT id, outcome, reason_code, rule, errors FROM decided WHERE id = 3;
-- and one that raises nothing
INSERT INTO leads VALUES (4, 'DE', 'BY', 1, '7');
SELECT id, rule, errors FROM decided WHERE id = 4;
SELECT DISTINCT v.verdict FROM decided d JOIN leadroute.lead_keys k ON k.key = d.id::text JOIN leadroute.lead_states s USING (lead_id)
    JOIN leadroute.attached_tables t ON t.source_id = s.source_id, leadroute.verify_decision(s.run_id) v WHERE t.relation = 'leads'::regclass;
TRUNCATE leads;

-- the index finds what trying all rules in order would find: a thousand rules, some hundred leads
CREATE FUNCTION pick(VARIADIC choices text[]) RETURNS text LANGUAGE sql AS $$ SELECT choices[1 + floor(random() * cardinality(choices))::int] $$;
SELECT setseed(0.42); -- the seed
CREATE TABLE drawn AS SELECT i, concat_ws(' AND ',
        pick(NULL, 'country = ''DE''', 'country IN (''DE'', ''FR'', ''AT'')', 'country = ''' || pick('DE', 'FR', 'AT', 'CH', 'IT') || ''''),
        pick(NULL, 'region = ''' || pick('N', 'S', 'E', 'W') || '''', 'region IN (''N'', ''S'')', 'region IS NULL', 'region <> ''N'''),
        pick(NULL, 'company_size = ' || floor(random() * 8)::text, 'company_size > ' || floor(random() * 8)::text, 'company_size IN (1, 2, 3)'),
        pick(NULL, NULL, '(attributes->>''seats'')::int = ' || floor(random() * 4)::text),
        'length(coalesce(country, '''')) <> ' || 1000 + i) AS condition
    FROM generate_series(1, 1000) AS i;
SELECT leadroute.publish_policy('policy_rules', rules(VARIADIC (SELECT array_agg(condition ORDER BY i) FROM drawn WHERE condition LIKE '%AND%AND%AND%')), 'test');
SELECT leadroute.activate_policy('policy_rules');
INSERT INTO leads SELECT i, pick('DE', 'FR', 'AT', 'CH', 'IT', 'US', NULL), pick('N', 'S', 'E', 'W', NULL), floor(random() * 8)::int, pick('1', '2', '3', NULL, NULL, 'many')
    FROM generate_series(1, 100) AS i;
CREATE FUNCTION truth(condition text, l leads) RETURNS text LANGUAGE plpgsql AS $$
DECLARE part text; result boolean; answer text := 'true';
BEGIN
    FOREACH part IN ARRAY string_to_array(condition, ' AND ') LOOP
        BEGIN
            EXECUTE 'SELECT ' || part || ' FROM (SELECT $1.*, jsonb_build_object(''seats'', $1.seats) AS attributes) AS s' INTO result USING l;
            IF NOT result THEN RETURN 'false'; END IF;
            IF result IS NULL AND answer = 'true' THEN answer := 'null'; END IF;
        EXCEPTION WHEN data_exception THEN answer := 'error';
        END;
    END LOOP;
    RETURN answer;
END $$;
CREATE FUNCTION expected(l leads, OUT rule text, OUT errors bigint) LANGUAGE plpgsql AS $$
DECLARE r record; t text;
BEGIN
    errors := 0;
    FOR r IN SELECT condition FROM drawn WHERE condition LIKE '%AND%AND%AND%' ORDER BY i LOOP
        t := truth(r.condition, l);
        IF t = 'true' THEN rule := r.condition; RETURN; END IF;
        IF t = 'error' THEN errors := errors + 1; END IF;
    END LOOP;
END $$;
SELECT count(*) AS leads, count(*) FILTER (WHERE d.rule IS NOT DISTINCT FROM e.rule) AS same_rule,
       count(*) FILTER (WHERE coalesce(cardinality(string_to_array(d.errors, '; ')), 0) = e.errors) AS same_errors,
       count(d.rule) > 30 AS many_found, count(*) FILTER (WHERE e.errors > 0) > 5 AS many_raised
FROM leads l JOIN decided d USING (id), LATERAL expected(l) e;

DROP SCHEMA policy_rules CASCADE;
