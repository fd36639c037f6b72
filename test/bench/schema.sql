-- The tables, the policy and the leads that every line of the benchmark works on.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
CREATE EXTENSION leadroute;
CREATE SCHEMA bench;

-- What both sides know: 5,000 companies by domain, of which the leads' domains hit about one in four.
CREATE TABLE bench.firms AS
    SELECT domain, initcap(split_part(domain, '.', 1)) || ' Inc' AS company,
           (ARRAY['software', 'manufacturing', 'retail', 'finance', 'health', 'education', 'logistics', 'energy'])[1 + n % 8] AS industry,
           (ARRAY[5, 60, 300, 2500, 15000])[1 + n % 5] AS company_size,
           (ARRAY['DE', 'US', 'GB', 'FR', 'CA'])[1 + n % 5] AS country, NULL::text AS region
    FROM (SELECT domain, (row_number() OVER (ORDER BY domain))::int AS n
          FROM (SELECT DISTINCT domain FROM leadroute.generate_leads(200000, 7) WHERE domain IS NOT NULL) d
          ORDER BY md5(domain) LIMIT 5000) d;
INSERT INTO leadroute.firmographics (domain, company, industry, company_size, country, region) SELECT * FROM bench.firms;

-- 10 pools of 10 members with weights 1, 2 and 3.
CREATE TABLE bench.members AS
    SELECT p AS pool_no, 'pool ' || p AS pool, 'owner ' || p || '.' || m AS owner, 1 + m % 3 AS weight
    FROM generate_series(0, 9) AS p, generate_series(0, 9) AS m;
INSERT INTO leadroute.owners (reference) SELECT owner FROM bench.members;
INSERT INTO leadroute.pools (name) SELECT DISTINCT pool FROM bench.members ORDER BY 1;
INSERT INTO leadroute.pool_members (pool_id, owner_id, weight)
    SELECT p.pool_id, o.owner_id, m.weight
    FROM bench.members m JOIN leadroute.pools p ON p.name = m.pool JOIN leadroute.owners o ON o.reference = m.owner;

-- 100 rules, from special to general; null in a column stands for any. The policy and the peers' tables are made from these.
CREATE TABLE bench.rules (
    rule_no integer GENERATED ALWAYS AS IDENTITY (MINVALUE 0 START 0) PRIMARY KEY,
    country text, region text, industry text, source text,
    min_size integer, min_seats integer, min_score integer,
    pool text GENERATED ALWAYS AS ('pool ' || rule_no % 10) STORED
);
CREATE TABLE bench.regions AS
    SELECT c.country, r.region
    FROM (VALUES ('DE', '{Berlin,Bayern,Hessen,Hamburg}'::text[]), ('US', '{NY,CA,TX,WA}'), ('GB', '{London,Scotland,Wales,North West}'),
                 ('FR', '{Paris,Lyon,Bretagne,Provence}'), ('CA', '{ON,QC,BC,AB}'), ('BR', '{SP,RJ,MG,RS}'), ('AT', '{Wien,Tirol,Salzburg,Graz}'),
                 ('NL', '{Noord-Holland,Utrecht,Zeeland,Limburg}'), ('CH', '{ZH,BE,VD,GE}'), ('JP', '{Tokyo,Osaka,Kyoto,Aichi}')) AS c (country, regions),
         unnest(c.regions) AS r (region);
INSERT INTO bench.rules (country, region, min_score) SELECT country, region, 60 FROM bench.regions;                     -- 40
INSERT INTO bench.rules (industry, source, min_size)
    SELECT i, s, 1000
    FROM unnest('{software,manufacturing,retail,finance,health,education,logistics,energy}'::text[]) AS i,
         unnest('{web_form,event,partner,referral}'::text[]) AS s;                                                     -- 32
INSERT INTO bench.rules (country, min_seats) SELECT DISTINCT country, 400 FROM bench.regions ORDER BY 1;                -- 10
INSERT INTO bench.rules (country, min_score) SELECT DISTINCT country, 40 FROM bench.regions ORDER BY 1;                 -- 10
INSERT INTO bench.rules (source, min_score) SELECT s, 30 FROM unnest('{web_form,event,partner,referral,ads}'::text[]) AS s; -- 5
INSERT INTO bench.rules (min_score) VALUES (50), (20);
INSERT INTO bench.rules DEFAULT VALUES;

SELECT leadroute.publish_scorecard('bench', '{
    "base": 10,
    "characteristics": [
        {"code": "company_size", "bins": [{"when": "company_size >= 1000", "points": 30}, {"when": "company_size >= 100", "points": 20},
                                          {"when": "company_size >= 10", "points": 10}]},
        {"code": "email", "bins": [{"when": "validateContact.email_kind = ''business'' AND NOT validateContact.role_address", "points": 20},
                                   {"when": "validateContact.email_kind = ''business''", "points": 10}]},
        {"code": "phone", "bins": [{"when": "validateContact.phone = ''ok''", "points": 10}]},
        {"code": "prior_interactions", "bins": [{"when": "prior_interactions >= 3", "points": 20}, {"when": "prior_interactions >= 1", "points": 10}]},
        {"code": "industry", "bins": [{"when": "industry IS NOT NULL", "points": 5}]}
    ]}', 'benchmark') \g /dev/null
SELECT leadroute.publish_policy('bench', jsonb_build_object(
    'leadroute', 1,
    'steps', '[{"capability": "validateContact"},
               {"capability": "checkRegionalCompliance"},
               {"capability": "enrichWithFirmographicData", "after": ["validateContact"]},
               {"capability": "computeLeadScore", "after": ["validateContact"], "scorecard": "bench"},
               {"capability": "assignOwner", "after": ["computeLeadScore"]}]'::jsonb,
    'rules', jsonb_agg(jsonb_build_object(
        'name', 'rule ' || rule_no,
        'pool', pool,
        'when', coalesce(nullif(concat_ws(' AND ', 'country = ' || quote_literal(country), 'region = ' || quote_literal(region),
            'industry = ' || quote_literal(industry), 'source = ' || quote_literal(source), 'company_size >= ' || min_size,
            '(attributes->>''seats'')::int >= ' || min_seats, 'computeLeadScore.score >= ' || min_score), ''), 'true')) ORDER BY rule_no)), 'benchmark')
FROM bench.rules \g /dev/null
SELECT leadroute.activate_policy('bench') \g /dev/null

-- The bare tables are the routed tables without triggers: the same columns, defaults and indexes.
SELECT leadroute.create_leads_table('leads', 'bench') \g /dev/null
CREATE TABLE bare (LIKE leads INCLUDING ALL);

-- Partitioned by hash of the lead id, and by month. In the latter the key has two columns, so that leadroute maps it (lead_keys).
CREATE FUNCTION bench.make_partitioned(name text, by_month boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE %I (LIKE leads INCLUDING DEFAULTS, PRIMARY KEY (%s)) PARTITION BY %s', name,
        CASE WHEN by_month THEN 'lead_id, received_at' ELSE 'lead_id' END, CASE WHEN by_month THEN 'RANGE (received_at)' ELSE 'HASH (lead_id)' END);
    EXECUTE format('CREATE INDEX ON %I (source_system, external_id)', name);
    FOR i IN 0 .. 7 LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES ', name || '_' || i, name) || CASE
            WHEN by_month THEN format('FROM (%L) TO (%L)', timestamptz '2026-01-01 UTC' + make_interval(months => i), timestamptz '2026-01-01 UTC' + make_interval(months => i + 1))
            ELSE format('WITH (MODULUS 8, REMAINDER %s)', i) END;
    END LOOP;
END $$;
SELECT bench.make_partitioned('bare_hash', false), bench.make_partitioned('leads_hash', false),
       bench.make_partitioned('bare_month', true), bench.make_partitioned('leads_month', true) \g /dev/null
SELECT leadroute.attach_table('leads_hash', classes => leadroute.standard_classes(), policy => 'bench'),
       leadroute.attach_table('leads_month', classes => leadroute.standard_classes(), policy => 'bench') \g /dev/null

-- Leads to insert, as many as asked for; received over eight months, so that the partitions by month are all used.
CREATE FUNCTION bench.stage(n integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE bench.staged_%s AS
        SELECT external_id, source_system, source, country, region, language, industry, company, domain, company_size, email, phone, consent,
               consent_basis, consent_at, consent_channels, prior_interactions, attributes,
               received_at + make_interval(months => hashtext(external_id) & 7) AS received_at, traceparent
        FROM leadroute.generate_leads(%s, 1)', n, n);
    EXECUTE format('ANALYZE bench.staged_%s', n);
END $$;

-- Raises unless every one of n leads was routed: as many rows, decided states and entries, most of them assigned, to all pools.
CREATE FUNCTION bench.check_routed(leads regclass, n bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    rows bigint;
    states record;
    entries bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM %s', leads) INTO rows;
    SELECT count(*) AS n, count(*) FILTER (WHERE outcome = 'assigned' AND owner_id IS NOT NULL) AS assigned, count(DISTINCT pool_id) AS pools
    INTO states FROM leadroute.lead_states WHERE outcome <> 'pending' AND outcome <> 'quarantined';
    SELECT count(*) INTO entries FROM leadroute.entries;
    IF rows <> n OR states.n <> n OR entries <> n OR states.assigned < n / 2 OR (n >= 1000 AND states.pools <> 10) THEN
        RAISE EXCEPTION 'of % leads % are in the table, % are decided, % have an entry, % are assigned, in % pools',
            n, rows, states.n, entries, states.assigned, states.pools;
    END IF;
END $$;

CREATE FUNCTION bench.check_bare(leads regclass, n bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    rows bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM %s', leads) INTO rows;
    IF rows <> n THEN
        RAISE EXCEPTION 'of % leads % are in the table', n, rows;
    END IF;
END $$;
ANALYZE;
