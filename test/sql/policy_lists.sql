-- Conditions with lists of expressions: IN, ARRAY, COALESCE, GREATEST, CASE.
CREATE FUNCTION pg_temp.points(condition text) RETURNS integer LANGUAGE sql AS $$
    SELECT leadroute.publish_scorecard('lists', jsonb_build_object('characteristics', jsonb_build_array(jsonb_build_object(
        'code', 'it', 'bins', jsonb_build_array(jsonb_build_object('when', condition, 'points', 1))))), 'test')
$$;
SELECT condition, pg_temp.points(condition) IS NOT NULL AS accepted
FROM (VALUES ('country IN (''DE'', ''AT'')'),
             ('country NOT IN (''DE'', ''AT'')'),
             ('coalesce(region, country, ''?'') = ''BY'''),
             ('greatest(company_size, prior_interactions, 3) > 5'),
             ('nullif(company_size, 0) > 5'),
             ('consent_channels = ARRAY[''post'', source]'),
             ('CASE WHEN country IN (''DE'', ''AT'') THEN true WHEN consent THEN false END'),
             ('CASE country WHEN ''DE'' THEN company_size ELSE 0 END IN (1, 2, 3)')) AS v (condition);
-- what is inside a list is checked as well
SELECT pg_temp.points('coalesce(received_at, now()) > ''2026-01-01''');
