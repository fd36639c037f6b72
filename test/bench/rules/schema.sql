-- Territory rules and leads for the lines "rules", and what answers for them in SQL. Everything is drawn by md5 of numbers: the
-- same on every machine.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
CREATE EXTENSION leadroute;
CREATE SCHEMA rules;
SELECT leadroute.setup(owners => '{anna,bo,cleo}') \g /dev/null
INSERT INTO leadroute.pools (name) SELECT 'team ' || t FROM generate_series(0, 99) AS t;
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT p.pool_id, o.owner_id FROM leadroute.pools p, leadroute.owners o WHERE p.name LIKE 'team %' AND o.reference = 'anna';

-- A number from 0 to below n, for the i-th of something, under a name.
CREATE FUNCTION rules.draw(i integer, what text, n integer) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (('x' || substr(md5(i || what), 1, 7))::bit(28)::integer) % n;
CREATE FUNCTION rules.country(i integer) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (ARRAY['DE', 'US', 'GB', 'FR', 'CA', 'BR', 'AT', 'NL', 'CH', 'JP', 'ES', 'IT', 'PT', 'SE', 'NO', 'DK', 'FI', 'PL', 'CZ', 'HU',
                  'RO', 'BG', 'GR', 'TR', 'IE', 'BE', 'LU', 'AU', 'NZ', 'IN', 'SG', 'KR', 'MX', 'AR', 'CL', 'CO', 'ZA', 'IL', 'AE', 'EE'])[1 + i];
CREATE FUNCTION rules.industry(i integer) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (ARRAY['software', 'manufacturing', 'retail', 'finance', 'health', 'education', 'logistics', 'energy', 'media', 'telecoms',
                  'construction', 'agriculture', 'insurance', 'legal', 'travel', 'food', 'chemicals', 'pharma', 'public', 'nonprofit'])[1 + i];
CREATE FUNCTION rules.source(i integer) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (ARRAY['web_form', 'event', 'partner', 'ads', 'referral'])[1 + i];

-- n rules, from special to general: 60 % country, industry and a range of postcodes; 15 % country, region and a range of sizes;
-- 10 % country, industries and sources; 9 % countries, score and size; 5 % source, industry, score and size; then whole
-- countries by score; the last one takes everybody. Null is any. Ranges: from is in, to is not.
CREATE FUNCTION rules.territories(n integer) RETURNS TABLE (rule_no integer, countries text[], regions text[], industries text[], sources text[],
    size_from integer, size_to integer, postcode_from text, postcode_to text, score_from integer, pool text) LANGUAGE sql AS $$
    SELECT i, CASE k WHEN 4 THEN ARRAY[c, rules.country((d.country + 1) % 40), rules.country((d.country + 2) % 40)] WHEN 5 THEN NULL WHEN 7 THEN NULL ELSE ARRAY[c] END,
           CASE k WHEN 2 THEN ARRAY['R' || rules.draw(i, 'region', 12)] END,
           CASE k WHEN 1 THEN ARRAY[v] WHEN 3 THEN ARRAY[v, rules.industry((d.industry + 7) % 20)] WHEN 5 THEN ARRAY[v] END,
           CASE k WHEN 3 THEN ARRAY[s, rules.source((d.source + 1) % 5)] WHEN 5 THEN ARRAY[s] END,
           CASE WHEN k IN (2, 4, 5) THEN z END, CASE k WHEN 2 THEN z + 10 + rules.draw(i, 'width', 400) END,
           CASE k WHEN 1 THEN lpad(p::text, 5, '0') END, CASE k WHEN 1 THEN lpad(least(p + w, 99999)::text, 5, '0') END,
           CASE WHEN k IN (4, 5, 6) THEN 20 + rules.draw(i, 'score', 70) END, 'team ' || rules.draw(i, 'pool', 100)
    FROM generate_series(0, n - 1) AS i,
         LATERAL (SELECT rules.draw(i, 'country', 40) AS country, rules.draw(i, 'industry', 20) AS industry, rules.draw(i, 'source', 5) AS source) AS d,
         LATERAL (SELECT CASE WHEN i = n - 1 THEN 7 WHEN i < n * 0.60 THEN 1 WHEN i < n * 0.75 THEN 2 WHEN i < n * 0.85 THEN 3 WHEN i < n * 0.94 THEN 4 WHEN i < n * 0.99 THEN 5 ELSE 6 END AS k,
                         rules.country(d.country) AS c, rules.industry(d.industry) AS v, rules.source(d.source) AS s, rules.draw(i, 'size', 1000) AS z, rules.draw(i, 'postcode', 99000) AS p,
                         -- so that about two hold a postcode
                         least(60000, 266000000 / n) / 2 + rules.draw(i, 'range', least(60000, 266000000 / n)) AS w) AS x
$$;

CREATE FUNCTION rules.condition(t record) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    parts text[];
    name text;
    list text[];
BEGIN
    FOREACH name IN ARRAY '{country,region,industry,source}'::text[] LOOP
        list := CASE name WHEN 'country' THEN t.countries WHEN 'region' THEN t.regions WHEN 'industry' THEN t.industries ELSE t.sources END;
        CONTINUE WHEN list IS NULL;
        parts := parts || CASE WHEN cardinality(list) = 1 THEN format('%s = %L', name, list[1]) ELSE format('%s IN (%s)', name, (SELECT string_agg(quote_literal(v), ', ') FROM unnest(list) v)) END;
    END LOOP;
    RETURN coalesce(nullif(concat_ws(' AND ', VARIADIC parts || ARRAY['company_size >= ' || t.size_from, 'company_size < ' || t.size_to,
        'attributes->>''postcode'' >= ' || quote_literal(t.postcode_from), 'attributes->>''postcode'' < ' || quote_literal(t.postcode_to), 'score >= ' || t.score_from]), ''), 'true');
END $$;

-- The leads: facts by name, as measure_rules() takes them. One in twenty lacks a country, an industry, a size or a postcode.
CREATE TABLE rules.leads AS
    SELECT i AS lead_no, CASE WHEN rules.draw(i, 'no c', 20) > 0 THEN rules.country(rules.draw(i, 'lead c', 40)) END AS country, 'R' || rules.draw(i, 'lead r', 12) AS region,
           CASE WHEN rules.draw(i, 'no i', 20) > 0 THEN rules.industry(rules.draw(i, 'lead i', 20)) END AS industry, CASE WHEN rules.draw(i, 'no z', 20) > 0 THEN rules.draw(i, 'lead z', 1500) END AS company_size,
           rules.source(rules.draw(i, 'lead s', 5)) AS source, rules.draw(i, 'lead p', 101) AS score,
           CASE WHEN rules.draw(i, 'no p', 20) > 0 THEN jsonb_build_object('postcode', lpad(rules.draw(i, 'lead p', 99999)::text, 5, '0'), 'campaign', 'c' || i % 10) ELSE '{}' END AS attributes
    FROM generate_series(1, :leads) AS i;
ALTER TABLE rules.leads ADD PRIMARY KEY (lead_no);
CREATE TABLE rules.answers (n integer, lead_no integer, rule_no integer, PRIMARY KEY (n, lead_no));

-- The leads as the queries in SQL compare them: what is missing matches only what takes any.
CREATE VIEW rules.given AS
    SELECT lead_no, country, region, industry, source, coalesce(attributes->>'postcode', '') COLLATE "C" AS postcode, coalesce(company_size, -1) AS size, coalesce(score, -1) AS score
    FROM rules.leads;

-- Makes what is needed for n rules: the rules, the document, and the peers in SQL. Their table has a row for each combination of a
-- rule's lists, and * for any, so that every comparison is one that an index answers. Two ways to ask it:
--   in_n      country IN (c, '*') AND region IN (r, '*') AND ...; an index by these and the beginning of the range
--   merged_n  for each set of columns that some rule compares a query of its own, each in the order of the rules, merged: it ends
--             at the first that holds. An index by these columns and the rule's number. Written by a query over the rules.
--   one_n()   merged_n for one lead at a time, as a trigger or an application would ask, its plan kept
CREATE FUNCTION rules.make(n integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    bounds text := 'f.postcode_from <= l.postcode AND f.postcode_to > l.postcode AND f.size_from <= l.size AND f.size_to > l.size AND f.score_from <= l.score';
    merged text;
BEGIN
    EXECUTE format('CREATE TABLE rules.territories_%1$s AS SELECT * FROM rules.territories(%1$s)', n);
    EXECUTE format('CREATE TABLE rules.document_%1$s AS
        SELECT jsonb_build_object(''leadroute'', 1, ''hit_policy'', ''first'', ''steps'', ''[{"capability": "computeLeadScore"}, {"capability": "assignOwner"}]''::jsonb,
            ''rules'', jsonb_agg(jsonb_build_object(''name'', ''rule '' || t.rule_no, ''when'', rules.condition(t), ''pool'', t.pool) ORDER BY t.rule_no)) AS document
        FROM rules.territories_%1$s t', n);
    EXECUTE format('CREATE TABLE rules.flat_%1$s AS
        SELECT t.rule_no, country, region, industry, source, coalesce(t.size_from, -1) AS size_from, coalesce(t.size_to, 2147483647) AS size_to,
               coalesce(t.postcode_from, '''') COLLATE "C" AS postcode_from, coalesce(t.postcode_to, ''~'') COLLATE "C" AS postcode_to, coalesce(t.score_from, -1) AS score_from
        FROM rules.territories_%1$s t, unnest(coalesce(t.countries, ''{*}'')) country, unnest(coalesce(t.regions, ''{*}'')) region,
             unnest(coalesce(t.industries, ''{*}'')) industry, unnest(coalesce(t.sources, ''{*}'')) source', n);
    EXECUTE format('CREATE INDEX ON rules.flat_%1$s (country, region, industry, source, postcode_from) INCLUDE (postcode_to, size_from, size_to, score_from, rule_no)', n);
    EXECUTE format('CREATE TABLE rules.ordered_%1$s AS SELECT * FROM rules.flat_%1$s ORDER BY country, region, industry, source, rule_no', n);
    EXECUTE format('CREATE INDEX ON rules.ordered_%1$s (country, region, industry, source, rule_no) INCLUDE (postcode_from, postcode_to, size_from, size_to, score_from)', n);

    EXECUTE format('CREATE VIEW rules.in_%1$s AS
        SELECT l.lead_no, r.rule_no
        FROM rules.given l LEFT JOIN LATERAL (
            SELECT f.rule_no FROM rules.flat_%1$s f
            WHERE f.country IN (l.country, ''*'') AND f.region IN (l.region, ''*'') AND f.industry IN (l.industry, ''*'') AND f.source IN (l.source, ''*'') AND %2$s
            ORDER BY f.rule_no LIMIT 1) r ON true', n, bounds);
    EXECUTE format('SELECT string_agg(format(''(SELECT f.rule_no FROM rules.ordered_%1$s f WHERE f.country = %%s AND f.region = %%s AND f.industry = %%s AND f.source = %%s AND %2$s ORDER BY f.rule_no)'',
               CASE WHEN c THEN ''''''*'''''' ELSE ''l.country'' END, CASE WHEN r THEN ''''''*'''''' ELSE ''l.region'' END, CASE WHEN i THEN ''''''*'''''' ELSE ''l.industry'' END,
               CASE WHEN s THEN ''''''*'''''' ELSE ''l.source'' END), '' UNION ALL '')
        FROM (SELECT DISTINCT country = ''*'', region = ''*'', industry = ''*'', source = ''*'' FROM rules.flat_%1$s) x (c, r, i, s)', n, bounds) INTO merged;
    EXECUTE format('CREATE VIEW rules.merged_%1$s AS
        SELECT l.lead_no, r.rule_no FROM rules.given l LEFT JOIN LATERAL (SELECT u.rule_no FROM (%2$s) u ORDER BY u.rule_no LIMIT 1) r ON true', n, merged);
    EXECUTE format('CREATE FUNCTION rules.one_%1$s() RETURNS TABLE (lead_no integer, rule_no integer) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET jit = off AS $f$
        #variable_conflict use_column
        DECLARE
            l record;
        BEGIN
            FOR l IN SELECT * FROM rules.given LOOP
                lead_no := l.lead_no;
                SELECT u.rule_no INTO rule_no FROM (%2$s) u ORDER BY u.rule_no LIMIT 1;
                RETURN NEXT;
            END LOOP;
        END $f$', n, merged);
END $$;

-- Times a query over all leads, in nanoseconds a lead, and says how many of its answers are leadroute's.
CREATE FUNCTION rules.time_of(n integer, query text, OUT ns double precision, OUT agree bigint) LANGUAGE plpgsql AS $$
DECLARE
    start timestamptz;
BEGIN
    EXECUTE format('SELECT count(*) FROM (%s) AS p (lead_no, rule_no) JOIN rules.answers a USING (lead_no) WHERE a.n = %s AND p.rule_no IS NOT DISTINCT FROM a.rule_no', query, n) INTO agree;
    start := clock_timestamp();
    EXECUTE format('SELECT count(rule_no) FROM (%s) AS p (lead_no, rule_no)', query);
    ns := extract(epoch FROM clock_timestamp() - start) * 1e9 / (SELECT count(*) FROM rules.leads);
END $$;
