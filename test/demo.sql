-- Shows leadroute to a person at a terminal: sets up a small company's policy, routes 20,000 leads that do not exist, and
-- asks the record what happened. Run by test/demo (make demo), or by psql in an empty database that has the extension.

\set leads 20000
\set seed 42
\set QUIET on
\pset footer off
\pset format aligned
\pset border 1
\set line '-------------------------------------------------------------------------------------------------'
SET client_min_messages = warning;


-- Breaks a long line between words, for terminals of 100 columns.
CREATE FUNCTION pg_temp.folded(line text) RETURNS text LANGUAGE sql
    RETURN rtrim(regexp_replace(line, '(.{1,90})(?:\s+|$)', E'\\1\n        ', 'g'), E' \n');

\echo 'Setting up: owners in pools by region and size, what is known of companies, a scorecard, a policy'
\echo :line

SELECT leadroute.create_leads_table('leads') AS made \gset

-- Owners go by references, such as the CRM's ids of its users. Two of them are away; that is all that is known here.
CREATE TEMPORARY TABLE staff (pool text, reference text, weight integer);
INSERT INTO staff VALUES
    ('enterprise_emea', 'u-1041', 2), ('enterprise_emea', 'u-1077', 1),
    ('enterprise_americas', 'u-2003', 1), ('enterprise_americas', 'u-2019', 1),
    ('dach', 'u-1102', 3), ('dach', 'u-1115', 2), ('dach', 'u-1130', 2), ('dach', 'u-1131', 1),
    ('western_europe', 'u-1204', 2), ('western_europe', 'u-1209', 1), ('western_europe', 'u-1213', 1),
    ('north_america', 'u-2110', 3), ('north_america', 'u-2124', 3), ('north_america', 'u-2131', 2),
    ('latin_america', 'u-2302', 1), ('latin_america', 'u-2305', 1),
    ('rest_of_world', 'q-inside-sales', 1);
INSERT INTO leadroute.owners (reference, available) SELECT reference, reference NOT IN ('u-1130', 'u-2124') FROM staff;
INSERT INTO leadroute.pools (name) SELECT DISTINCT pool FROM staff ORDER BY pool;
INSERT INTO leadroute.pool_members (pool_id, owner_id, weight)
    SELECT p.pool_id, o.owner_id, s.weight FROM staff s JOIN leadroute.pools p ON p.name = s.pool JOIN leadroute.owners o USING (reference);

CREATE TEMPORARY TABLE incoming AS SELECT * FROM leadroute.generate_leads(:leads, :seed);

-- Firmographics for about half of the companies: what a team would load from its data provider.
INSERT INTO leadroute.firmographics (domain, industry, company_size)
    SELECT domain, (ARRAY['software', 'manufacturing', 'retail', 'finance', 'health', 'logistics', 'energy'])[1 + number % 7],
           (ARRAY[6, 25, 70, 240, 900, 2600, 14000])[1 + number / 7 % 7]
    FROM (SELECT DISTINCT coalesce(domain, substring(email from '@(.*\.example)$')) AS domain FROM incoming) AS d,
         LATERAL (SELECT ('x' || left(md5(domain), 7))::bit(28)::integer AS number) AS n
    WHERE number % 2 = 0;

SELECT leadroute.publish_scorecard('inbound', $json$ {
    "description": "Fit and interest, from 0 to 100.",
    "base": 5,
    "characteristics": [
        {"code": "company_size", "bins": [{"when": "company_size >= 1000", "points": 30},
                                          {"when": "company_size >= 100", "points": 20},
                                          {"when": "company_size >= 10", "points": 10}]},
        {"code": "industry", "bins": [{"when": "industry IN ('software', 'finance', 'health')", "points": 15},
                                      {"when": "industry IS NOT NULL", "points": 5}]},
        {"code": "address", "bins": [{"when": "validateContact.email_kind = 'business' AND NOT validateContact.role_address", "points": 15},
                                     {"when": "validateContact.email_kind = 'free'", "points": -5}]},
        {"code": "phone", "bins": [{"when": "validateContact.phone = 'ok'", "points": 10}]},
        {"code": "source", "bins": [{"when": "source IN ('referral', 'partner')", "points": 10},
                                    {"when": "source = 'event'", "points": 5}]},
        {"code": "earlier_contacts", "bins": [{"when": "prior_interactions >= 3", "points": 15},
                                              {"when": "prior_interactions >= 1", "points": 10}]},
        {"code": "seats", "bins": [{"when": "(attributes->>'seats')::int >= 250", "points": 10}]}
    ],
    "tiers": [{"tier": "A", "from": 70}, {"tier": "B", "from": 45}, {"tier": "C", "from": 25}, {"tier": "D", "from": 0}]
} $json$, 'demonstration') AS version \gset

SELECT leadroute.publish_policy('default', $json$ {
    "leadroute": 1,
    "description": "Large companies first, then by region; what scores low is nurtured.",
    "timezone": "Europe/Berlin",
    "steps": [
        {"capability": "validateContact"},
        {"capability": "checkRegionalCompliance", "jurisdictions": "standard"},
        {"capability": "enrichWithFirmographicData", "after": ["validateContact"]},
        {"capability": "computeLeadScore", "scorecard": "inbound", "after": ["validateContact"]},
        {"capability": "assignOwner", "after": ["computeLeadScore"]}
    ],
    "rules": [
        {"name": "post only", "priority": 1, "when": "checkRegionalCompliance.channels = ARRAY['post']",
         "outcome": "nurture", "reason": "post_only"},
        {"name": "low score", "priority": 2, "when": "computeLeadScore.score < 25", "outcome": "nurture", "reason": "low_score"},
        {"name": "enterprise EMEA", "priority": 10, "when": "company_size >= 1000 AND country IN ('DE', 'AT', 'CH', 'GB', 'FR', 'NL')",
         "pool": "enterprise_emea"},
        {"name": "enterprise Americas", "priority": 10, "when": "company_size >= 1000 AND country IN ('US', 'CA', 'BR')",
         "pool": "enterprise_americas"},
        {"name": "DACH", "priority": 20, "when": "country IN ('DE', 'AT', 'CH')", "pool": "dach"},
        {"name": "western Europe", "priority": 20, "when": "country IN ('GB', 'FR', 'NL')", "pool": "western_europe"},
        {"name": "North America", "priority": 20, "when": "country IN ('US', 'CA')", "pool": "north_america"},
        {"name": "Latin America", "priority": 20, "when": "country = 'BR'", "pool": "latin_america"},
        {"name": "rest of the world", "priority": 90, "when": "country IS NOT NULL", "pool": "rest_of_world"}
    ]
} $json$, 'demonstration') AS version \gset
SELECT leadroute.activate_policy('default', :version, 'demonstration') AS version \gset

SELECT (SELECT count(*) FROM leadroute.pools) AS pools, (SELECT count(*) FROM leadroute.owners) AS owners,
       (SELECT count(*) FROM leadroute.owners WHERE NOT available) AS "of them away", (SELECT count(*) FROM leadroute.firmographics) AS companies,
       jsonb_array_length(frame -> 'steps') AS steps, (SELECT count(*) FROM leadroute.policy_rules r WHERE r.policy_version_id = v.policy_version_id) AS rules
FROM leadroute.policy_versions v;

\echo 'Routing: one INSERT; each lead, its owner and the record of its decision commit together'
\echo :line
SELECT clock_timestamp() AS started \gset
INSERT INTO leads (external_id, source_system, source, country, region, language, industry, company, domain, company_size, email, phone,
                   consent, consent_basis, consent_at, consent_channels, prior_interactions, attributes, received_at, traceparent)
    SELECT * FROM incoming;
SELECT clock_timestamp() AS finished \gset
SELECT to_char(count(*), 'FM999,999,999') AS leads, round(extract(epoch FROM :'finished'::timestamptz - :'started'::timestamptz), 2) AS seconds,
       to_char(count(*) / extract(epoch FROM :'finished'::timestamptz - :'started'::timestamptz), 'FM999,999,999') AS "leads per second"
FROM leadroute.lead_states;

\echo 'Outcomes'
\echo :line
SELECT outcome, reason_code, count(*) AS leads, to_char(100.0 * count(*) / sum(count(*)) OVER (), '990.0') || ' %' AS share
FROM leadroute.lead_states GROUP BY outcome, reason_code ORDER BY outcome, leads DESC;

\echo 'Who got how many: of the leads of a pool, by weight among those who are available'
\echo :line
SELECT CASE WHEN row_number() OVER w = 1 THEN p.name ELSE '' END AS pool,
       o.reference || CASE WHEN o.available THEN '' ELSE ' (away)' END AS owner, m.weight, count(s.lead_id) AS leads,
       to_char(100.0 * count(s.lead_id) / nullif(sum(count(s.lead_id)) OVER (PARTITION BY p.pool_id), 0), '990.0') || ' %' AS share,
       to_char(CASE WHEN o.available THEN 100.0 * m.weight / sum(m.weight) FILTER (WHERE o.available) OVER (PARTITION BY p.pool_id) ELSE 0 END, '990.0')
       || ' %' AS "share by weight"
FROM leadroute.pools p
JOIN leadroute.pool_members m USING (pool_id)
JOIN leadroute.owners o USING (owner_id)
LEFT JOIN leadroute.lead_states s ON s.pool_id = m.pool_id AND s.owner_id = m.owner_id
GROUP BY p.pool_id, p.name, o.owner_id, m.weight
WINDOW w AS (PARTITION BY p.pool_id ORDER BY o.reference)
ORDER BY p.name, o.reference;

-- Two decisions worth a look: the best lead whose company had to be looked up, and one that nobody may contact.
SELECT d.decision_id AS assigned
FROM leadroute.decisions d JOIN leadroute.provenance p USING (decision_id)
WHERE d.outcome = 'assigned' AND d.pool = 'dach' AND p.capability = 'enrichWithFirmographicData' AND p.output ->> 'status' = 'enriched'
ORDER BY d.score DESC, d.lead_id LIMIT 1 \gset
SELECT d.decision_id AS rejected
FROM leadroute.decisions d JOIN leadroute.provenance p USING (decision_id)
WHERE d.reason_code = 'contact_not_permitted' AND p.capability = 'checkRegionalCompliance'
ORDER BY p.output ->> 'reason' = 'no_lawful_basis' DESC, d.lead_id LIMIT 1 \gset

\pset tuples_only on
\pset format unaligned
\echo 'One decision, as explain_decision() tells it from the record'
\echo :line
SELECT pg_temp.folded('The lead: ' || concat_ws(', ', l.company, l.country, l.region, l.industry, l.company_size || ' employees', l.source,
                                                l.email, l.phone, l.prior_interactions || ' earlier contacts', l.attributes))
FROM leads l JOIN leadroute.lead_states s USING (lead_id) WHERE s.run_id = :assigned;
SELECT pg_temp.folded(line) FROM leadroute.explain_decision(:assigned) AS line;
\echo
\echo 'Another one, that ended early'
\echo :line
SELECT pg_temp.folded(line) FROM leadroute.explain_decision(:rejected) AS line;
\echo
\echo 'Checking'
\echo :line
SELECT format('verify_decision(%s): %s', d.id, string_agg(v.verdict, ', '))
FROM (VALUES (:assigned), (:rejected)) AS d (id), LATERAL leadroute.verify_decision(d.id) AS v GROUP BY d.id ORDER BY d.id;
SELECT format('every tenth decision, decided again from its record: %s identical, %s not',
              to_char(count(*) FILTER (WHERE v.verdict = 'identical'), 'FM999,999,999'), count(*) FILTER (WHERE v.verdict <> 'identical'))
FROM leadroute.decisions d, LATERAL leadroute.verify_decision(d.decision_id) AS v WHERE d.lead_id % 10 = 0;
SELECT format('reconcile(), rows against states against decisions: %s problems', count(*)) FROM leadroute.reconcile();
