-- What people write when they mean something else: conditions of other languages, half a comparison, a document of another
-- shape. Each is told with its place and how to mend it. (policy_refusals has what is refused for meaning something else
-- another day, policy_mistakes a document with all kinds of mistakes, policy_members the members of rules.)
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA policy_malformed;
SET search_path TO policy_malformed;
CREATE FUNCTION document(rule jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('leadroute', 1, 'steps', '[{"capability": "assignOwner"}]'::jsonb,
        'rules', jsonb_build_array('{"name": "it", "when": "true", "outcome": "nurture", "reason": "x"}'::jsonb || rule))
$$;
CREATE TABLE conditions (no integer GENERATED ALWAYS AS IDENTITY, condition text);
INSERT INTO conditions (condition) VALUES
    -- the grammar of other languages
    ('country == ''DE'''), ('country = ''DE'' && consent'), ('consent || country = ''DE'''), ('!consent'), ('company_size => 5'), ('country = "DE"'), ('country = DE'),
    ('if country = ''DE'' then true'), ('country in [''DE'', ''AT'']'), ('{{country}} = ''DE'''), ('country = :country'), ('country = ?'), ('country = @country'),
    ('country <> IN (''DE'')'), ('country IS NOT ''DE'''), ('country NOT NULL'), ('company_size IS 5'), ('10 <= company_size <= 20'), ('company_size > 1,000'),
    -- half a condition
    ('country = ''DE'' AND'), ('country IS NULL or'), ('AND country = ''DE'''), ('company_size >= 10 AND <= 20'), ('company_size BETWEEN 10'), ('(country = ''DE'''), ('country = ''DE'')'),
    ('country IN ()'), ('country IN ''DE'''), ('country = ALL'), ('CASE WHEN consent THEN true'), ('country = $$DE'), ('country = ''DE'' /* or so'), ('substring(country from) = ''x'''),
    ('extract(''hour'' received_at) > 5'), ('country = DEFAULT'),
    -- statements
    ('DROP TABLE leads'), ('UPDATE leads SET country = ''DE'''), ('true;'), ('VALUES (true)'), ('WITH x AS (SELECT 1) SELECT true'), ('true RETURNING 1'), ('CURRENT OF cursor'),
    -- names
    ('attributes.seats > 5'), ('attributes->seats = ''5'''), ('attributes->>"seats" = ''5'''), ('attributes[''seats''] = ''5'''), ('consent_channels[1] = ''email'''), ('companysize > 5'), ('contry = ''DE'''),
    ('leads.country = ''DE'''), ('new.country = ''DE'''), ('score.value > 5'), ('computeLeadScore = 5'), ('validateContact->>''status'' = ''valid'''), ('assignOwner.owner = ''x'''), ('"" = 1'),
    -- types
    ('attributes->>''seats'' > 5'), ('attributes->>''seats''::int > 5'), ('(attributes->>''seats'')::integr > 5'), ('company_size > ''10k'''), ('company_size = ''99999999999'''), ('company_size LIKE ''1%'''),
    ('consent = 1'), ('consent = ''maybe'''), ('NOT country'), ('country = ''DE'' AND company_size'), ('country = (''DE'', ''AT'')'), ('country = ANY (''DE'')'), ('consent_channels = ''email'''),
    ('''email'' IN consent_channels'), ('attributes @> ''{tags: vip}'''), ('length(company_size) > 1'), ('company || 5 = ''Acme5'''), ('greatest(company_size, country) = 5'), ('coalesce(company_size, ''none'') = 5'),
    ('country::char(0) = ''x'''), ('company_size COLLATE "C" = 1'), ('(country COLLATE "C") < (region COLLATE "POSIX")'), ('country = ''DE'' COLLATE nowhere'), ('country IS DOCUMENT'), ('''{1,2''::int[] IS NULL'),
    ('''x''::uuid IS NULL'), ('nowhere.func(1)'), ('currval(''nowhere'') = 1'), ('country::money > ''5'''), ('lpad(country, 5) = ''x'''), ('ROW(country, region) IS NULL'),
    ('(country, region) < (''DE'', ''BY'')'), ('make_interval(days => company_size) > interval ''1 day'''),
    -- times
    ('received_at > ''2026-02-30'''), ('received_at > ''31.01.2026'''), ('received_at > ''soon'''), ('received_at > 2026-01-01'), ('as_of - received_at > interval ''2 dayz'''), ('as_of - received_at > ''two days'''),
    ('as_of - received_at > 2'), ('received_at > as_of - 2'), ('received_at AT TIME ZONE ''Mars/Olympus'' > ''2026-01-01'''), ('extract(fortnight FROM received_at) = 1'), ('date_trunc(''fortnite'', received_at) = as_of'),
    ('statement_timestamp() > received_at'), ('localtime > ''10:00'''), ('session_user = ''anna'''),
    -- what raises for every lead
    ('1 / 0 = company_size'), ('sqrt(-1) > company_size'), ('country ~ ''('''), ('country LIKE ''x\'''), ('country LIKE ''a'' ESCAPE ''ab'''), ('''[5,1]''::int4range @> company_size'), ('country = E''\xff'''),
    (repeat('NOT ', 20000) || 'true'),
    -- over several leads
    ('bool_and(consent)'), ('count(*) FILTER (WHERE consent) > 1'), ('rank() OVER (ORDER BY company_size) = 1'), ('jsonb_array_elements(attributes) = ''1''');
CREATE VIEW mistakes AS
    SELECT c.no, c.condition, m.place, m.problem, m.hint FROM conditions c LEFT JOIN LATERAL leadroute.policy_mistakes(document(jsonb_build_object('when', c.condition))) m ON true;
\x on
\pset format unaligned
\pset recordsep '\n'
SELECT left(condition, 80) AS condition, problem, hint FROM mistakes ORDER BY no;
\x off
\pset fieldsep ' | '
-- all of them: one mistake each, with the place in the document and in the text, and with a way out; bytes that are no text have no place in it
SELECT count(DISTINCT no) AS conditions, count(*) AS mistakes, count(*) FILTER (WHERE place = 'rules[0].when') AS with_place,
       count(*) FILTER (WHERE problem ~ ', at character [0-9]+$') AS with_character, count(hint) AS with_hint FROM mistakes;
-- the character is the one that is meant, also behind others than ASCII
SELECT substr(c, m[1]::int) AS from_there FROM (VALUES ('company = ''Österreichische Bürgschaft 😀'' AND  shoe_size = 5'), ('company = ''Ö'' AND 1 / 0 = 2'), ('company = ''Ö'' AND company_size > ''ö'''),
    ('company = ''Ö'', true'), ('company = ''Ö'' AND (SELECT true)'), ('company = ''Ö'' AND country ~ ''(''')) AS v (c), leadroute.policy_mistakes(document(jsonb_build_object('when', c))) p, regexp_match(p.problem, 'character ([0-9]+)') m;

-- what looks odd and is none of these
SELECT condition FROM unnest(ARRAY['country = ''DE'' -- and a comment', '("country") = (''DE'')', 'company_size > 99999999999999999999999999', 'NULL', 'country LIKE ''x\\''', 'company_size / 0 = 1',
    '(country, region) = (''DE'', ''BY'')', 'country ~ ''''', repeat('(', 1000) || 'true' || repeat(')', 1000)]) AS condition
WHERE EXISTS (SELECT FROM leadroute.policy_mistakes(document(jsonb_build_object('when', condition))));

-- documents
CREATE TABLE documents (no integer GENERATED ALWAYS AS IDENTITY, document jsonb);
INSERT INTO documents (document) VALUES
    ('7'), ('true'), ('[{"leadroute": 1}]'), ('"{}"'),
    ('{"leadroute": "1", "steps": [{"capability": "assignOwner"}]}'), ('{"leadroute": true, "steps": [{"capability": "assignOwner"}]}'), ('{"leadroute": 1.5, "steps": [{"capability": "assignOwner"}]}'),
    ('{"leadroute": 1, "steps": "assignOwner"}'), ('{"leadroute": 1, "steps": [null]}'), ('{"leadroute": 1, "steps": [["assignOwner"]]}'), ('{"leadroute": 1, "steps": [{"capability": 7}]}'),
    ('{"leadroute": 1, "steps": [{"capability": ["assignOwner"]}]}'), ('{"leadroute": 1, "steps": [{"capability": "assignowner"}]}'), ('{"leadroute": 1, "steps": [{"name": "assignOwner"}]}'),
    ('{"leadroute": 1, "steps": [{"capability": "assignOwner", "after": "validateContact"}]}'), ('{"leadroute": 1, "steps": [{"capability": "validateContact", "after": ["validateContact"]}]}'),
    ('{"leadroute": 1, "steps": [{"capability": "validateContact", "stop_when": {"when": "true"}}]}'), ('{"leadroute": 1, "steps": [{"capability": "validateContact", "stop_when": [{"if": "true"}]}]}'),
    ('{"leadroute": 1, "steps": [{"capability": "validateContact", "stop_when": [{"when": "contry = ''DE''", "outcome": "no_rule", "reason": "x"}]}]}'),
    ('{"leadroute": 1, "steps": [{"capability": "validateContact", "free_mail": "gmx.example"}]}'), ('{"leadroute": 1, "steps": [{"capability": "validateContact", "free_mail": [7, ""]}]}'),
    ('{"leadroute": 1, "steps": [{"capability": "assignOwner", "agent": "assignOwner@99"}]}'), ('{"leadroute": 1, "steps": [{"capability": "assignOwner", "agent": 1}]}'),
    ('{"leadroute": 1, "timezone": "CET?", "steps": [{"capability": "assignOwner"}]}'), ('{"leadroute": 1, "timezone": 1, "steps": [{"capability": "assignOwner"}]}'), ('{"leadroute": 1, "timezone": "", "steps": [{"capability": "assignOwner"}]}'),
    ('{"leadroute": 1, "hit_policy": "FIRST", "steps": [{"capability": "assignOwner"}]}'), ('{"leadroute": 1, "hit_policy": 1, "steps": [{"capability": "assignOwner"}]}'),
    ('{"leadroute": 1, "justifications": {"language": 7, "region": ""}, "steps": [{"capability": "assignOwner"}]}'), ('{"leadroute": 1, "justifications": "all", "steps": [{"capability": "assignOwner"}]}'),
    ('{"leadroute": 1, "Steps": [{"capability": "assignOwner"}]}'), ('{"leadroute": 1, "steps": [{"capability": "assignOwner"}], "rules": {"it": "true"}}'), ('{"leadroute": 1, "steps": [{"capability": "assignOwner"}], "rules": "true"}'),
    ('{"leadroute": 1, "steps": [{"capability": "assignOwner"}], "rules": [null, "true", ["true"]]}'),
    (document('{"when": null}')), (document('{"when": true}')), (document('{"when": ["country = ''DE''", "consent"]}')), (document('{"when": {"fact": "country", "operator": "equal", "value": "DE"}}')), (document('{"when": ""}')),
    (document('{"conditions": {"all": []}}')), (document('{"if": "true", "then": "nurture"}')), (document('{"name": null}')), (document('{"name": 7}')), (document('{"name": ""}')),
    (document('{"outcome": null, "pool": 7}')), (document('{"outcome": null, "pool": ["a"]}')), (document('{"outcome": null}')), (document('{"outcome": "Rejected"}')), (document('{"outcome": "assigned"}')), (document('{"outcome": ["nurture"]}')),
    (document('{"pool": "policy_malformed"}')), (document('{"owner": "policy_malformed", "pool": "policy_malformed"}')), (document('{"reason": null}')), (document('{"reason": 7}')),
    (document('{"priority": "1"}')), (document('{"priority": true}')), (document('{"priority": 1e10}')), (document('{"enabled": "false"}')), (document('{"enabled": 0}')), (document('{"note": {"x": 1}}')),
    (document('{}') || jsonb_build_object('rules', document('{}') -> 'rules' || (document('{}') -> 'rules'))),
    (document('{}') || jsonb_build_object('rules', document('{}') -> 'rules' || jsonb_build_array('{"name": "It", "when": "consent", "outcome": "nurture", "reason": "x", "enabled": false, "agents": {}}'::jsonb)));
SELECT d.no, m.place, m.problem, m.hint FROM documents d LEFT JOIN LATERAL leadroute.policy_mistakes(d.document) m ON true ORDER BY d.no, m.place COLLATE "C", m.problem COLLATE "C";
SELECT count(*) AS documents, count(*) FILTER (WHERE EXISTS (SELECT FROM leadroute.policy_mistakes(document) m WHERE m.place <> '')) AS with_place,
       count(*) FILTER (WHERE NOT EXISTS (SELECT FROM leadroute.policy_mistakes(document) m WHERE m.hint IS NULL)) AS with_hints FROM documents;
DROP SCHEMA policy_malformed CASCADE;
