-- A condition has to mean the same for ever: whatever could make it depend on more than the lead is refused when it is
-- published, with its place in the document and in the text, and with the way it can be said.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA policy_refusals;
SET search_path TO policy_refusals;
CREATE FUNCTION mine(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE TYPE shade AS ENUM ('dark', 'light');
CREATE DOMAIN code AS text CHECK (mine(VALUE));
CREATE COLLATION ours (provider = libc, locale = 'C');
CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq);
CREATE FUNCTION refused(condition text) RETURNS TABLE (place text, problem text, hint text) LANGUAGE sql AS $$
    SELECT m.place, m.problem, m.hint FROM leadroute.policy_mistakes(jsonb_build_object('leadroute', 1, 'steps', '[{"capability": "assignOwner"}]'::jsonb,
        'rules', jsonb_build_array(jsonb_build_object('name', 'it', 'outcome', 'nurture', 'reason', 'x', 'when', condition)))) m
$$;
CREATE TABLE conditions (no integer GENERATED ALWAYS AS IDENTITY, condition text);
INSERT INTO conditions (condition) VALUES
    -- not one boolean expression
    ('country ='), ('country = ''DE'), ('country = ''DE''; DROP TABLE leads'), ('country = ''DE'', true'), ('*'), ('  '), ('true AS t'),
    ('SELECT true'), ('true FROM pg_class'), ('true WHERE true'), ('true ORDER BY 1'), ('true LIMIT 1'), ('true UNION SELECT true'), ('DISTINCT true'),
    ('country'), ('company_size + 1'), ('''DE'''),
    -- names that are none
    ('shoe_size = 44'), ('attributes.seats = 1'), ('validateContact = ''valid'''), ('validateContact.shoe_size = 1'), ('a.b.c = 1'), ('leads.* IS NULL'),
    ('$1'), ('nofunction(country)'), ('country = 1'),
    -- subqueries, aggregates, windows, sets
    ('country IN (SELECT ''DE'')'), ('EXISTS (SELECT FROM pg_class)'), ('coalesce((SELECT true), false)'),
    ('count(*) > 1'), ('max(company_size) > 1'), ('row_number() OVER () = 1'), ('generate_series(1, 2) = 1'), ('unnest(consent_channels) = ''email'''),
    -- the time, the session, the user
    ('received_at < now()'), ('received_at < current_timestamp'), ('received_at::date = current_date'), ('received_at < clock_timestamp()'),
    ('received_at < localtimestamp'), ('age(received_at) > interval ''1 day'''), ('current_user = ''me'''), ('random() < 0.5'),
    ('current_setting(''work_mem'') = ''x'''), ('pg_sleep(1) IS NULL'), ('nextval(''leadroute.lead_ids'') > 1'), ('txid_current() > 1'),
    ('pg_backend_pid() = 1'), ('version() = ''x'''), ('pg_read_file(''x'') = ''x'''),
    ('''today''::date = ''2026-01-31'''), ('received_at > date ''yesterday'''), ('received_at > timestamptz ''  NOW'''), ('received_at > CAST(''tomorrow'' AS timestamp)'),
    ('received_at::date = $$today$$::date'), ('received_at::date = E''\x74oday''::date'), ('received_at::date = ANY (''{today}''::date[])'),
    ('''[today,)''::daterange @> received_at::date'),
    ('to_char(received_at, ''TMMonth'') = ''x'''), ('to_date(country, ''TMMonth'') IS NULL'),
    -- what users made
    ('policy_refusals.mine(country)'), ('country::policy_refusals.shade = ''green'''), ('country::policy_refusals.code = ''x'''),
    ('country OPERATOR(policy_refusals.===) ''x'''), ('mine(country)'),
    -- tables by their names
    ('country::regclass = ''pg_class''::regclass'), ('has_table_privilege(''pg_class'', ''select'')'),
    ('ROW(country, 1) < ROW(''DE'', 1)'), ('GROUPING(country) = 1'),
    -- collations that are not there, or that users made
    ('country < ''x'' COLLATE "nowhere"'), ('country < ''x'' COLLATE policy_refusals.ours');
\x on
\pset format unaligned
\pset recordsep '\n'
SELECT c.condition, r.place, r.problem, r.hint FROM conditions c LEFT JOIN LATERAL refused(c.condition) r ON true ORDER BY c.no;
\x off
\pset format aligned

-- the same in scorecards and stop conditions, each with its own place
SELECT place, problem FROM leadroute.policy_mistakes('{"leadroute": 1, "steps": [
    {"capability": "validateContact", "stop_when": [{"when": "true", "outcome": "nurture", "reason": "x"}, {"when": "country = now()::text", "outcome": "nurture", "reason": "x"}]}]}');
SELECT leadroute.publish_scorecard('policy_refusals', '{"characteristics": [{"code": "a", "bins": [{"when": "true", "points": 1}, {"when": "random() < 1", "points": 1}]}]}', 'test');
DROP SCHEMA policy_refusals CASCADE;
