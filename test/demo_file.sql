-- Routes the leads of the reader's own file: make demo LEADS=file.csv. Run by test/demo, with the variables leads, the path
-- where the server finds the file, and name, what the reader calls it.
--
-- Any CSV file with a header will do, with semicolons, commas, tabs or bars between the fields. Columns that are called like
-- attributes of a lead are mapped to them; all others are reached as attributes->>'column'. The bank's marketing file,
-- bank-additional-full.csv, is recognised by its header and gets a mapping, scorecard and policy of its own (test/bank).

\set QUIET on
\set ON_ERROR_STOP on
\pset footer off
\pset format aligned
\pset border 1
\set line '-------------------------------------------------------------------------------------------------'
SET client_min_messages = warning;

-- Breaks a long line between words, for terminals of 100 columns.
CREATE FUNCTION pg_temp.folded(line text) RETURNS text LANGUAGE sql
    RETURN rtrim(regexp_replace(line, '(.{1,90})(?:\s+|$)', E'\\1\n        ', 'g'), E' \n');

-- The file's first line, with its encoding: UTF-8, or else Windows-1252, which takes any byte that CSV files have.
CREATE FUNCTION pg_temp.first_line(path text, OUT line text, OUT encoding text) LANGUAGE plpgsql AS $$
DECLARE
    head bytea := pg_read_binary_file(path, 0, 1048576);
    line_end integer;
BEGIN
    SELECT min(p) INTO line_end FROM unnest(ARRAY[position('\x0a'::bytea IN head), position('\x0d'::bytea IN head), length(head) + 1]) AS p WHERE p > 0;
    IF length(head) = 0 OR line_end = 1 THEN
        RAISE EXCEPTION 'the file does not begin with a header line';
    END IF;
    BEGIN
        encoding := 'UTF8';
        line := convert_from(substring(head FROM 1 FOR line_end - 1), encoding);
    EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
        encoding := 'WIN1252';
        line := convert_from(substring(head FROM 1 FOR line_end - 1), encoding);
    END;
    line := ltrim(line, U&'\FEFF');
END $$;

-- Later lines may hold what the first does not: tells whether the whole file is UTF-8.
CREATE FUNCTION pg_temp.encoding_of(path text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM length(pg_read_file(path));
    RETURN 'UTF8';
EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
    RETURN 'WIN1252';
WHEN program_limit_exceeded OR invalid_parameter_value THEN
    RETURN 'UTF8';      -- a file of more than 1 GB
END $$;

-- The fields of a header, in order, under names that a table can have: each given, no two alike.
CREATE FUNCTION pg_temp.columns_of(header text, delimiter text) RETURNS TABLE (place bigint, name text) LANGUAGE sql AS $$
    WITH fields AS (
        SELECT m.place, btrim(CASE WHEN m.field[1] LIKE '"%' THEN replace(substring(m.field[1] FROM '^"(.*)"\s*$'), '""', '"') ELSE m.field[1] END) AS name
        FROM regexp_matches(header || delimiter, format('("(?:[^"]|"")*"\s*|[^%1$s]*)%2$s', delimiter, CASE delimiter WHEN '|' THEN '\|' ELSE delimiter END), 'g')
             WITH ORDINALITY AS m (field, place)
    ), named AS (
        SELECT f.place, CASE WHEN coalesce(f.name, '') = '' THEN 'column_' || f.place
                             WHEN f.name IN ('line', 'ctid', 'xmin', 'xmax', 'cmin', 'cmax', 'tableoid') THEN f.name || '_'
                             ELSE left(f.name, 40) END AS name
        FROM fields f
    )
    SELECT n.place, n.name || CASE WHEN row_number() OVER (PARTITION BY n.name ORDER BY n.place) > 1 THEN '_' || n.place ELSE '' END FROM named n
$$;

SELECT f.line AS header, d.delimiter, pg_temp.encoding_of(:'leads') AS encoding
FROM pg_temp.first_line(:'leads') AS f,
     LATERAL (SELECT d AS delimiter FROM unnest(ARRAY[';', ',', E'\t', '|']) WITH ORDINALITY AS u (d, preference)
              ORDER BY length(replace(regexp_replace(f.line, '"[^"]*"', '', 'g'), d, '')), preference LIMIT 1) AS d \gset

CREATE TEMPORARY TABLE file_columns AS SELECT * FROM pg_temp.columns_of(:'header', :'delimiter');

SELECT string_agg(name, ' ' ORDER BY place) = 'age job marital education default housing loan contact month day_of_week duration campaign pdays '
       'previous poutcome emp.var.rate cons.price.idx cons.conf.idx euribor3m nr.employed y' AS is_bank
FROM file_columns \gset

\if :is_bank
\echo 'Setting up for the bank marketing leads: mapping, scorecard and policy of test/bank'
\echo :line
\ir bank/table.sql
\pset tuples_only on
\o /dev/null
\ir bank/policy.sql
\o
\pset tuples_only off
\set leads_table bank_leads
\else
\echo 'Setting up: a table with the columns of the file, a mapping, and a plain policy'
\echo :line
\ir demo_file_policy.sql
\set leads_table file_leads
\endif

SELECT k.key AS attribute, coalesce(k.value ->> 'value', k.value #>> '{}') AS "is",
       CASE WHEN jsonb_typeof(k.value) = 'object' THEN 'stated for all leads' WHEN k.value = '"line"' THEN 'number of its line'
            ELSE 'column of the file' END AS how
FROM leadroute.attached_tables, jsonb_each(mapping) AS k
WHERE relation = :'leads_table'::regclass
ORDER BY how, attribute;
\if :is_bank
\echo 'Protected, so that no rule and no model reads them without a justification on record: age, marital,'
\echo 'duration, y. All other columns are reached as attributes->>''column''.'
\echo
\endif

\echo 'Routing ':name': one COPY; leads, owners and the record commit together'
\echo :line
SELECT format('COPY %I (%s) FROM %L WITH (FORMAT csv, HEADER, DELIMITER %L, ENCODING %L, FORCE_NULL (%2$s))', :'leads_table',
              string_agg(quote_ident(name), ', ' ORDER BY place), :'leads', :'delimiter', :'encoding') AS copy
FROM file_columns \gset
SELECT clock_timestamp() AS started \gset
:copy;
SELECT clock_timestamp() AS finished \gset
SELECT to_char(count(*), 'FM999,999,999') AS leads, round(extract(epoch FROM :'finished'::timestamptz - :'started'::timestamptz), 2) AS seconds,
       to_char(count(*) / extract(epoch FROM :'finished'::timestamptz - :'started'::timestamptz), 'FM999,999,999') AS "leads per second"
FROM leadroute.lead_states;

\echo 'Outcomes'
\echo :line
SELECT outcome, reason_code, count(*) AS leads, to_char(100.0 * count(*) / sum(count(*)) OVER (), '990.0') || ' %' AS share
FROM leadroute.lead_states GROUP BY outcome, reason_code ORDER BY outcome, leads DESC;

\if :is_bank
\echo 'What came of the calls, by tier of the score, which does not know it'
\echo :line
SELECT s.tier, count(*) AS leads, to_char(100.0 * avg((b.y = 'yes')::integer), '990.0') || ' %' AS "said yes"
FROM leadroute.lead_states s JOIN leadroute.lead_keys k USING (lead_id) JOIN bank_leads b ON b.line = k.key::bigint
GROUP BY s.tier ORDER BY s.tier;
\endif

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

-- The best lead that got an owner; where there is none, the first.
SELECT count(*) > 0 AS routed FROM leadroute.lead_states \gset
\if :routed
SELECT s.run_id AS decision, k.key AS line_no FROM leadroute.lead_states s JOIN leadroute.lead_keys k USING (lead_id)
ORDER BY s.outcome = 'assigned' DESC, s.score DESC NULLS LAST, s.lead_id LIMIT 1 \gset
\pset tuples_only on
\pset format unaligned
\echo 'One decision, that of line ':line_no', as explain_decision() tells it from the record'
\echo :line
SELECT pg_temp.folded(line) FROM leadroute.explain_decision(:decision) AS line;
\echo
\echo 'Checking; of many leads this takes some seconds'
\echo :line
-- Every decision of up to 50,000; of more, as many, evenly.
SELECT 1 + count(*) / 50000 AS nth FROM leadroute.lead_states \gset
SELECT format('%s, decided again from the record: %s identical, %s not', CASE :nth WHEN 1 THEN 'every decision' ELSE 'one decision in ' || :nth END,
              to_char(count(*) FILTER (WHERE v.verdict = 'identical'), 'FM999,999,999'), count(*) FILTER (WHERE v.verdict <> 'identical'))
FROM leadroute.decisions d, LATERAL leadroute.verify_decision(d.decision_id) AS v WHERE d.lead_id % :nth = 0;
SELECT format('reconcile(), rows against states against decisions: %s problems', count(*)) FROM leadroute.reconcile();
\endif
