-- The analysis against brute force: random policies over small domains, in which every combination of values is tried. Which
-- rules never fire, which never hold, which pairs overlap and whether there is a gap has to come out the same. Conditions without
-- casts are tried by plain SQL, WHERE; with casts, which raise for some leads, by the executor, rule by rule. All is from a seed.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA policy_analysis_random;
SET search_path TO policy_analysis_random;

CREATE FUNCTION dice(seed text, n integer) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
    SELECT mod(('x' || substr(md5(seed), 1, 7))::bit(28)::integer, n)
$$;

-- a part of a condition that compares one attribute; casts: whether one may be among them
CREATE FUNCTION atom(seed text, casts boolean) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v text := (ARRAY['A', 'B', 'C'])[1 + dice(seed || 'v', 3)];
    w text := (ARRAY['A', 'B', 'C'])[1 + dice(seed || 'w', 3)];
    i integer := dice(seed || 'i', 5);
    j integer := dice(seed || 'j', 5);
    o text := (ARRAY['=', '<', '<=', '>', '>=', '<>'])[1 + dice(seed || 'o', 6)];
    cast_member text := '(attributes->>''seats'')::int';
BEGIN
    RETURN CASE CASE WHEN casts THEN (ARRAY[0, 1, 2, 12, 9, 11, 18, 19, 20, 21, 22, 23, 24])[1 + dice(seed || 'kind', 13)] ELSE dice(seed || 'kind', 18) END
        WHEN 0 THEN format('country = %L', v)
        WHEN 1 THEN format('country IN (%L, %L)', v, w)
        WHEN 2 THEN format('country %s %L', o, v)
        WHEN 3 THEN format('country NOT IN (%L, %L)', v, w)
        WHEN 4 THEN format('company_size %s %s', o, i)
        WHEN 5 THEN format('company_size BETWEEN %s AND %s', i, j)
        WHEN 6 THEN format('%s %s company_size', i, o)
        WHEN 7 THEN format('company_size %s %s.5', o, i)
        WHEN 8 THEN 'company_size IS NULL'
        WHEN 9 THEN 'consent'
        WHEN 10 THEN 'consent IS NOT TRUE'
        WHEN 11 THEN format('coalesce(consent, %s)', (dice(seed || 'd', 2) = 1)::text)
        WHEN 12 THEN format('country IS DISTINCT FROM %L', v)
        WHEN 13 THEN 'country IS NOT NULL'
        WHEN 14 THEN format('attributes->>''plan'' %s %L', o, v)
        WHEN 15 THEN 'attributes ? ''plan'''
        WHEN 16 THEN 'attributes->>''plan'' IS NULL'
        WHEN 17 THEN format('company_size NOT BETWEEN %s AND %s', i, j)
        WHEN 18 THEN format('%s %s %s', cast_member, o, i)
        WHEN 19 THEN format('%s IN (%s, %s)', cast_member, i, j)
        WHEN 20 THEN format('coalesce(%s, %s) %s %s', cast_member, j, o, i)
        WHEN 21 THEN format('%s IS NULL', cast_member)
        WHEN 22 THEN format('attributes->>''seats'' = %L', i)
        WHEN 23 THEN format('(attributes->>''price'')::numeric = %s', i + 0.5)
        ELSE format('(attributes->>''price'')::numeric %s %s', o, i + 0.5)
    END;
END $$;

CREATE FUNCTION condition(seed text, depth integer, casts boolean) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF depth = 0 THEN
        RETURN policy_analysis_random.atom(seed, casts);
    END IF;
    RETURN CASE policy_analysis_random.dice(seed || 'c', 7)
        WHEN 0 THEN policy_analysis_random.atom(seed, casts)
        WHEN 1 THEN format('(%s OR %s)', policy_analysis_random.condition(seed || 'l', depth - 1, casts), policy_analysis_random.condition(seed || 'r', depth - 1, casts))
        WHEN 2 THEN format('NOT (%s)', policy_analysis_random.condition(seed || 'n', depth - 1, casts))
        ELSE format('(%s AND %s)', policy_analysis_random.condition(seed || 'l', depth - 1, casts), policy_analysis_random.condition(seed || 'r', depth - 1, casts))
    END;
END $$;
ALTER FUNCTION atom(text, boolean) SET search_path = policy_analysis_random, pg_catalog;

-- every combination of values: each constant, something between, beside and beyond them, nothing
CREATE TABLE leads AS
    SELECT row_number() OVER () AS id, country, company_size, consent, attributes
    FROM (VALUES (NULL), (''), ('A'), ('Aa'), ('B'), ('Ba'), ('C'), ('Ca')) AS c (country),
         (VALUES (NULL), (-1), (0), (1), (2), (3), (4), (5)) AS s (company_size),
         (VALUES (NULL), (true), (false)) AS b (consent),
         (VALUES (NULL::jsonb), ('{}'), ('{"plan": null}'), ('{"plan": ""}'), ('{"plan": "A"}'), ('{"plan": "Aa"}'), ('{"plan": "B"}'), ('{"plan": "Ba"}'),
                 ('{"plan": "C"}'), ('{"plan": "D"}')) AS a (attributes);
CREATE TABLE cast_leads AS
    SELECT row_number() OVER () AS id, country, consent,
           CASE WHEN seats IS NOT NULL OR price IS NOT NULL THEN jsonb_strip_nulls(jsonb_build_object('seats', seats, 'price', price)) END AS attributes
    FROM (VALUES (NULL), (''), ('A'), ('Aa'), ('B'), ('Ba'), ('C'), ('Ca')) AS c (country),
         (VALUES (NULL), (true), (false)) AS b (consent),
         (VALUES (NULL), ('-1'), ('0'), ('1'), ('2'), ('3'), ('4'), ('5'), (' 4 '), ('03'), ('+2'), ('1 '), ('00'), ('x')) AS t (seats),
         (VALUES (NULL), ('0'), ('0.5'), ('0.7'), ('1'), ('1.5'), ('2'), ('2.5'), ('3'), ('3.5'), ('4'), ('4.50'), ('5'), ('NaN'), ('?')) AS p (price);

CREATE TABLE holds (rule integer, id bigint);
CREATE TABLE differences (seed integer, casts boolean, difference text);

-- Analyses one random policy, tries all its rules on all leads, and notes what differs.
CREATE FUNCTION compare(seed integer, casts boolean) RETURNS integer LANGUAGE plpgsql SET search_path = policy_analysis_random, pg_catalog AS $$
DECLARE
    n integer := 2 + dice('n' || seed, 7);
    conditions text[];
    document jsonb;
    version integer;
    r record;
    nleads bigint;
    found integer := 0;
BEGIN
    SELECT array_agg(condition(format('%s/%s', seed, i), 2, casts) ORDER BY i) INTO conditions FROM generate_series(1, n) i;
    SELECT jsonb_build_object('leadroute', 1, 'steps', '[{"capability": "assignOwner"}]'::jsonb, 'rules',
        jsonb_agg(jsonb_build_object('name', i::text, 'when', conditions[i], 'outcome', 'nurture', 'reason', 'r' || i) ORDER BY i))
    INTO document FROM generate_series(1, n) i;
    CREATE TEMP TABLE findings ON COMMIT DROP AS SELECT * FROM leadroute.analyse_document(document, 1000000, 1000);
    IF EXISTS (SELECT FROM findings f WHERE f.finding IN ('mistake', 'not_analysable') OR NOT complete) THEN
        INSERT INTO differences SELECT seed, casts, f.finding || ' ' || detail FROM findings f WHERE f.finding IN ('mistake', 'not_analysable') OR NOT complete;
    END IF;

    -- what the witnesses show
    PERFORM leadroute.publish_policy('policy_analysis_random', jsonb_set(document, '{hit_policy}', '"unique"'), 'test');
    INSERT INTO differences
        SELECT seed, casts, format('witness of %s %s %s: %s', f.finding, f.rule, f.other_rule, f.witness)
        FROM (SELECT f.*, f.rule::integer - 1 AS rule_no, f.other_rule::integer - 1 AS other_no FROM findings f WHERE f.finding NOT IN ('not_analysable', 'suspicious_mix', 'incomplete')) f
            LEFT JOIN LATERAL leadroute.match_version_rules((SELECT max(policy_version_id) FROM leadroute.policy_versions), ARRAY[f.witness], false) m ON f.witness IS NOT NULL
        WHERE CASE f.finding WHEN 'never_fires' THEN f.rule_no = ANY (m.hits) AND m.hits[1] < f.rule_no AND (f.other_no IS NULL OR f.other_no = ANY (m.hits))
                  WHEN 'overlap' THEN f.rule_no = ANY (m.hits) AND f.other_no = ANY (m.hits) WHEN 'gap' THEN m.hits = '{}' AND m.errors = '[]'
                  WHEN 'always_true' THEN f.rule_no = ANY (m.hits) WHEN 'always_false' THEN f.rule_no <> ALL (m.hits) END IS NOT TRUE;

    TRUNCATE holds;
    IF casts THEN
        CREATE TEMP TABLE matched ON COMMIT DROP AS
            SELECT l.id, m.hits, m.errors FROM (SELECT array_agg(to_jsonb(l) - 'id' ORDER BY l.id) AS leads FROM cast_leads l) a,
                leadroute.match_version_rules((SELECT max(policy_version_id) FROM leadroute.policy_versions), a.leads, false) m
                JOIN cast_leads l ON l.id = m.lead_no;
        INSERT INTO holds SELECT h + 1, id FROM matched, unnest(hits) h;
        INSERT INTO holds SELECT NULL, id FROM matched WHERE errors <> '[]';
        DROP TABLE matched;
        SELECT count(*) INTO nleads FROM cast_leads;
    ELSE
        FOR i IN 1..n LOOP
            EXECUTE format('INSERT INTO holds SELECT %s, id FROM (SELECT id, country COLLATE "C" AS country, company_size, consent, attributes FROM leads) l WHERE %s', i, conditions[i]);
        END LOOP;
        SELECT count(*) INTO nleads FROM leads;
    END IF;

    FOR r IN
        WITH first AS (SELECT id, min(rule) AS rule FROM holds WHERE rule IS NOT NULL GROUP BY id),
             brute AS (
                 SELECT 'always_false' AS finding, i AS rule, NULL::integer AS other FROM generate_series(1, n) i WHERE i NOT IN (SELECT rule FROM holds WHERE rule IS NOT NULL)
                 UNION ALL
                 SELECT 'never_fires', i, NULL FROM generate_series(1, n) i
                 WHERE i IN (SELECT rule FROM holds) AND i NOT IN (SELECT rule FROM first)
                 UNION ALL
                 SELECT DISTINCT 'overlap', b.rule, a.rule FROM holds a JOIN holds b USING (id)
                 WHERE a.rule < b.rule AND a.rule IN (SELECT rule FROM first) AND b.rule IN (SELECT rule FROM first)
                 UNION ALL
                 SELECT 'gap', NULL, NULL WHERE (SELECT count(DISTINCT id) FROM holds) < nleads),
             analysis AS (
                 SELECT DISTINCT f.finding, f.rule::integer, CASE WHEN f.finding = 'overlap' THEN f.other_rule::integer END FROM findings f
                 WHERE f.finding IN ('always_false', 'never_fires', 'overlap', 'gap'))
        SELECT 'missed' AS how, x.* FROM (TABLE brute EXCEPT TABLE analysis) x
        UNION ALL
        SELECT 'false', x.* FROM (TABLE analysis EXCEPT TABLE brute) x
    LOOP
        INSERT INTO differences VALUES (seed, casts, format('%s: %s %s %s', r.how, r.finding, r.rule, r.other));
    END LOOP;
    SELECT count(*) INTO found FROM findings WHERE finding IN ('always_false', 'never_fires', 'overlap', 'gap');
    DROP TABLE findings;
    RETURN found;
END $$;

SELECT count(*) AS policies, sum(compare(seed, false)) > 300 AS much_found FROM generate_series(1, 120) seed;
SELECT count(*) AS policies, sum(compare(seed, true)) > 100 AS much_found FROM generate_series(1001, 1030) seed;
SELECT * FROM differences ORDER BY seed, difference;

-- Planted defects: territories that are complete and free of overlaps, and in each policy one defect of every kind, in random
-- places. Each has to be found, by its kind and its rule.
CREATE FUNCTION planted(seed integer) RETURNS jsonb LANGUAGE plpgsql SET search_path = policy_analysis_random, pg_catalog AS $$
DECLARE
    countries integer := 2 + dice('c' || seed, 5);
    regions integer := 2 + dice('r' || seed, 5);
    c text := 'C' || 1 + dice('pc' || seed, countries);
    r text := 'R' || 1 + dice('pr' || seed, regions);
    defects jsonb := jsonb_build_array(
        jsonb_build_object('name', 'shadowed by one', 'when', format('country = %L AND region = %L AND company_size > %s', c, r, dice('s' || seed, 100)), 'outcome', 'rejected', 'reason', 'x'),
        jsonb_build_object('name', 'shadowed by several', 'when', format('region IS NOT NULL AND country IN (%L)', c), 'outcome', 'rejected', 'reason', 'y'),
        jsonb_build_object('name', 'never', 'when', format('company_size > %s AND company_size < %s', dice('n' || seed, 50) + 50, dice('m' || seed, 50)), 'outcome', 'rejected', 'reason', 'x'),
        jsonb_build_object('name', 'part', 'when', format('language = ''de'' AND (source <> ''s%s'' OR source <> ''t%s'')', dice('o' || seed, 9), dice('p' || seed, 9)), 'outcome', 'rejected', 'reason', 'x'),
        jsonb_build_object('name', 'crossing', 'when', format('industry = ''i%s''', dice('i' || seed, 9)), 'outcome', 'rejected', 'reason', 'x'),
        jsonb_build_object('name', 'dead', 'when', 'language = ''xx''', 'pool', 'policy_analysis_random'),
        jsonb_build_object('name', 'mixed', 'when', 'language = ''fr'' AND consent OR language = ''it''', 'outcome', 'rejected', 'reason', 'x'),
        jsonb_build_object('name', 'unknown', 'when', 'language LIKE ''e%''', 'outcome', 'rejected', 'reason', 'x'));
    territories jsonb := (SELECT jsonb_agg(jsonb_build_object('name', format('t %s %s', i, j), 'when', format('country = ''C%s'' AND %s', i,
            CASE WHEN j = regions THEN format('region NOT IN (%s)', (SELECT string_agg(format('''R%s''', k), ', ') FROM generate_series(1, regions - 1) k)) ELSE format('region = ''R%s''', j) END),
            'outcome', 'nurture', 'reason', format('r %s %s', i, j)) ORDER BY md5(format('%s %s %s', seed, i, j)))
        FROM generate_series(1, countries) i, generate_series(1, regions) j);
BEGIN
    RETURN jsonb_build_object('leadroute', 1, 'steps', '[{"capability": "assignOwner"}]'::jsonb, 'rules', territories
        || (SELECT jsonb_agg(d ORDER BY md5(format('%s %s', seed, n))) FROM jsonb_array_elements(defects) WITH ORDINALITY AS e (d, n)));
END $$;
INSERT INTO leadroute.pools (name) VALUES ('policy_analysis_random');
WITH found AS (
    SELECT seed, f.* FROM generate_series(1, 60) seed, leadroute.analyse_document(planted(seed), examples => 1000) f)
SELECT finding, CASE WHEN finding <> 'overlap' THEN rule END AS rule, count(DISTINCT seed) AS policies FROM found
WHERE finding <> 'overlap' OR (rule = 'crossing' AND other_rule LIKE 't %') GROUP BY 1, 2 ORDER BY 1, 2;
DELETE FROM leadroute.pools WHERE name = 'policy_analysis_random';
DROP SCHEMA policy_analysis_random CASCADE;
