-- Writes the reference page, docs/reference.md, from the catalog: what is installed, with the comments that it carries. Run by
-- test/docs from the top folder, with psql -At.
--
-- An object belongs to the part in whose file of sql/ it is made, or in one that begins with its name, and stands in the order of that file. The settings are
-- there because the library is loaded. An object without a comment stops the page.
\set ON_ERROR_STOP on
\set header `cat sql/header.sql`
\set intake `cat sql/intake.sql`
\set registry `cat sql/registry.sql`
\set policy `cat sql/policy.sql sql/policy_*.sql`
\set pipeline `cat sql/pipeline.sql sql/pauses.sql sql/afterwards.sql`
\set agents `cat sql/agents.sql`
\set scoring `cat sql/scoring.sql`
\set assignment `cat sql/assignment.sql sql/calendars.sql sql/accounts.sql sql/counters.sql sql/choosing.sql sql/persons.sql`
\set provenance `cat sql/provenance.sql`
\set workers `cat sql/workers.sql sql/tasks.sql sql/breakers.sql sql/task_views.sql sql/events.sql sql/event_checks.sql sql/slas.sql sql/worker_status.sql`
\set observe `cat sql/observe.sql`
LOAD 'leadroute';
SET search_path = pg_catalog, pg_temp;
SET client_min_messages = warning;

CREATE TEMPORARY TABLE parts (part text, part_no integer, about text, script text);
INSERT INTO parts (part_no, part, about, script) VALUES
    (1, 'intake', 'Leads tables, identity, the current state of each lead.', :'intake'),
    (2, 'registry', 'Agents, and the documents that steps depend on.', :'registry'),
    (3, 'policy', 'Versioned rules and steps.', :'policy'),
    (4, 'pipeline', 'Routing by hand, catching up, submitting a lead for its decision, pausing; what people do with leads afterwards.', :'pipeline'),
    (5, 'agents', 'What the built-in agents read.', :'agents'),
    (6, 'scoring', 'Models.', :'scoring'),
    (7, 'assignment', 'Owners, pools, turns.', :'assignment'),
    (8, 'provenance', 'The record, and what reads, explains and verifies it.', :'provenance'),
    (9, 'workers', 'Tasks for executors and for agents outside, background workers, events, SLAs.', :'workers'),
    (10, 'observe', 'Metrics and reconciliation.', :'observe'),
    (11, 'header', 'The extension as such.', :'header');

-- What each script makes, in its order: kind as the catalog has it, and name.
CREATE TEMPORARY TABLE made AS
    SELECT p.part_no, min(m.place) AS place, lower(m.found[1]) AS kind, m.found[2] AS name
    FROM parts p, regexp_matches(p.script, '^CREATE (FUNCTION|TABLE|VIEW|TYPE|SEQUENCE|EVENT TRIGGER) (?:leadroute\.)?(\w+)', 'gn')
         WITH ORDINALITY AS m (found, place) GROUP BY 1, 3, 4;

CREATE FUNCTION pg_temp.cell(value text) RETURNS text LANGUAGE sql AS $$
    SELECT replace(replace(replace(coalesce(value, ''), '|', '\|'), '<', '&lt;'), '*', '\*')
$$;

-- The roles that were granted a privilege on an object, beside its owner.
CREATE FUNCTION pg_temp.granted(acl aclitem[], privilege text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(replace(r.rolname, 'leadroute_', ''), ', ' ORDER BY r.rolname COLLATE "C")
    FROM aclexplode(acl) a JOIN pg_roles r ON r.oid = a.grantee
    WHERE a.privilege_type = privilege AND r.rolname LIKE 'leadroute\_%'
$$;

-- What the roles may do with a table or view, or with columns of it, such as: SELECT: auditor, operator; UPDATE (x): operator.
CREATE FUNCTION pg_temp.grants_of_table(relation oid) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s: %s', p.name || coalesce(' (' || g.columns || ')', ''), g.grantees), '; ' ORDER BY p.place, g.columns NULLS FIRST)
    FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) WITH ORDINALITY AS p (name, place),
         LATERAL (SELECT NULL AS columns, pg_temp.granted(c.relacl, p.name) AS grantees FROM pg_class c WHERE c.oid = relation
                  UNION ALL
                  SELECT string_agg(a.attname, ', ' ORDER BY a.attnum), pg_temp.granted(a.attacl, p.name)
                  FROM pg_attribute a WHERE a.attrelid = relation GROUP BY 2) AS g
    WHERE g.grantees IS NOT NULL
$$;

-- A list of arguments or columns, each on a line of its own where they are many; without the casts of defaults.
CREATE FUNCTION pg_temp.listed(list text) RETURNS text LANGUAGE sql AS $$
    SELECT CASE WHEN length(plain) > 90 THEN E'\n        ' || regexp_replace(plain, ', (?=\w+ )', E',\n        ', 'g') ELSE plain END
    FROM regexp_replace(list, '(DEFAULT (?:''[^'']*''|\w+))::[a-z]+(?:\[\])?', '\1', 'g') AS plain
$$;

-- The functions: what they are to their users.
CREATE TEMPORARY TABLE functions AS
    SELECT p.oid, p.proname AS name, p.prorettype, coalesce(pg_temp.granted(p.proacl, 'EXECUTE'), '') AS callers,
           CASE WHEN p.prorettype IN ('trigger'::regtype, 'event_trigger'::regtype) THEN 'trigger' ELSE 'call' END AS use,
           format(E'leadroute.%s(%s)\n    RETURNS %s', p.proname,
                  pg_temp.listed(pg_get_function_arguments(p.oid)),
                  CASE WHEN p.proretset AND pg_get_function_result(p.oid) LIKE 'TABLE(%'
                       THEN format('TABLE (%s)', pg_temp.listed(rtrim(substr(pg_get_function_result(p.oid), 7), ')')))
                       ELSE pg_get_function_result(p.oid) END) AS signature,
           obj_description(p.oid, 'pg_proc') AS comment
    FROM pg_proc p WHERE p.pronamespace = 'leadroute'::regnamespace;

CREATE TEMPORARY TABLE relations AS
    SELECT c.oid, c.relname AS name, CASE c.relkind WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence' ELSE 'table' END AS kind,
           pg_temp.grants_of_table(c.oid) AS grants, obj_description(c.oid, 'pg_class') AS comment
    FROM pg_class c WHERE c.relnamespace = 'leadroute'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S');

CREATE TEMPORARY TABLE types AS
    SELECT t.typname AS name, obj_description(t.oid, 'pg_type') AS comment,
           (SELECT string_agg('`' || e.enumlabel || '`', ', ' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid) AS labels
    FROM pg_type t WHERE t.typnamespace = 'leadroute'::regnamespace AND t.typtype <> 'c' AND t.typcategory <> 'A';

CREATE TEMPORARY TABLE event_triggers AS
    SELECT e.evtname AS name, e.evtevent, array_to_string(e.evttags, ', ') AS tags, obj_description(e.oid, 'pg_event_trigger') AS comment
    FROM pg_event_trigger e JOIN pg_proc p ON p.oid = e.evtfoid WHERE p.pronamespace = 'leadroute'::regnamespace;

-- Everything is somewhere, and says what it is.
DO $$
DECLARE
    o record;
BEGIN
    FOR o IN
        WITH objects AS (
            SELECT 'function' AS kind, name, comment FROM functions
            UNION ALL SELECT kind, name, comment FROM relations
            UNION ALL SELECT 'type', name, comment FROM types
            UNION ALL SELECT 'event trigger', name, comment FROM event_triggers)
        SELECT a.kind, a.name, a.comment, m.name AS made
        FROM objects a LEFT JOIN made m USING (kind, name) WHERE a.comment IS NULL OR m.name IS NULL
    LOOP
        RAISE 'leadroute.% has no %', o.name, CASE WHEN o.comment IS NULL THEN 'comment' ELSE 'place in the files of sql/' END;
    END LOOP;
END $$;

\qecho '# Reference'
\qecho
\qecho 'Made by `make docs` from the comments in the catalog; please change those, in `sql/`. The pages of the parts say what'
\qecho 'things are for: [intake](intake.md), [registry](registry.md), [policy](policy.md), [pipeline](pipeline.md),'
\qecho '[agents](agents.md), [scoring](scoring.md), [assignment](assignment.md), [provenance](provenance.md),'
\qecho '[observe](observe.md).'
\qecho
\qecho 'All objects are in the schema `leadroute`. Nothing is open to `PUBLIC`: behind a function or table stand, in italics, the'
\qecho '[roles](#roles), without their prefix `leadroute_`, that may call it, or read and change it; where there is none, it is for'
\qecho 'the extension''s owner alone, or called by something else. Five characters such as 22023 are an SQLSTATE.'
\qecho

\qecho '## Settings'
\qecho
\qecho 'The library brings them along, so a session knows them once it is loaded: by `shared_preload_libraries` or'
\qecho '`session_preload_libraries`, by `LOAD ''leadroute''`, or by the first call of a function of leadroute. Set in'
\qecho '`postgresql.conf`, or with `ALTER ROLE` or `ALTER DATABASE`, they need no library for being set; `SHOW` and'
\qecho '`pg_settings` do.'
\qecho
\qecho '| Setting | Type | Default | Who may set it | What it does |'
\qecho '|---|---|---|---|---|'
SELECT format('| `%s` | %s | `%s` | %s | %s |', name,
              CASE WHEN vartype = 'enum' THEN 'one of ' || (SELECT string_agg('`' || v || '`', ', ') FROM unnest(enumvals) v)
                   WHEN vartype = 'integer' THEN format('integer, %s to %s', min_val, max_val)
                   WHEN vartype = 'bool' THEN 'boolean' ELSE vartype END,
              boot_val,
              CASE context WHEN 'superuser' THEN 'superusers, and who was granted `SET` on it; any time' WHEN 'user' THEN 'everybody; any time'
                           WHEN 'sighup' THEN 'configuration file; reload' WHEN 'postmaster' THEN 'configuration file; restart' ELSE context END,
              pg_temp.cell(concat_ws(' ', short_desc, extra_desc)))
FROM pg_settings WHERE name LIKE 'leadroute.%' ORDER BY name COLLATE "C";
\qecho

\qecho '## Roles'
\qecho
\qecho 'They cannot log in; grant them. They belong to the cluster, not to the database.'
\qecho
\qecho '| Role | What it does |'
\qecho '|---|---|'
SELECT format('| `%s` | %s |', rolname, pg_temp.cell(shobj_description(oid, 'pg_authid')))
FROM pg_roles WHERE rolname LIKE 'leadroute\_%' ORDER BY rolname COLLATE "C";
\qecho

-- The parts, each with its functions, types, views, tables, and what is behind them.
WITH columns_of AS (
    SELECT r.oid, string_agg(format('| `%s` | %s | %s |', a.attname,
                                    format_type(a.atttypid, a.atttypmod), pg_temp.cell(col_description(r.oid, a.attnum))), E'\n' ORDER BY a.attnum) AS rows
    FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE r.kind <> 'sequence' GROUP BY r.oid
), paragraphs AS (
    SELECT m.part_no, 1 AS section, m.place,
           format(E'#### %s()\n\n```\n%s\n```\n\n%s%s\n', f.name, f.signature, replace(replace(f.comment, '<', '&lt;'), '*', '\*'),
                  CASE WHEN f.callers <> '' THEN format(' *For: %s.*', f.callers) ELSE '' END) AS paragraph
    FROM made m JOIN functions f USING (name) WHERE m.kind = 'function' AND f.use = 'call'
    UNION ALL
    SELECT m.part_no, 2, m.place, format(E'#### %s\n\n%s %s\n', t.name, t.comment, 'One of ' || t.labels || '.')
    FROM made m JOIN types t USING (name) WHERE m.kind = 'type'
    UNION ALL
    SELECT m.part_no, CASE r.kind WHEN 'view' THEN 3 ELSE 4 END, m.place,
           format(E'#### %s\n\n%s%s\n\n| Column | Type | |\n|---|---|---|\n%s\n', r.name, replace(replace(r.comment, '<', '&lt;'), '*', '\*'),
                  coalesce(' *' || r.grants || '.*', ''), c.rows)
    FROM made m JOIN relations r USING (kind, name) JOIN columns_of c USING (oid)
    UNION ALL
    SELECT m.part_no, 5, m.place, format('- `%s`: %s', r.name, r.comment) FROM made m JOIN relations r USING (kind, name) WHERE r.kind = 'sequence'
    UNION ALL
    SELECT m.part_no, 6, m.place, format('- `%s()`: %s', f.name, replace(f.comment, '*', '\*'))
    FROM made m JOIN functions f USING (name) WHERE m.kind = 'function' AND f.use = 'trigger'
    UNION ALL
    SELECT m.part_no, 7, m.place, format('- `%s`, %s of %s: %s', e.name, e.evtevent, e.tags, e.comment)
    FROM made m JOIN event_triggers e USING (name) WHERE m.kind = 'event trigger'
), sections AS (
    SELECT part_no, section,
           format(E'### %s\n\n%s', (ARRAY['Functions', 'Types', 'Views', 'Tables', 'Sequences', 'Trigger functions', 'Event triggers'])[section],
                  string_agg(paragraph, E'\n' ORDER BY place, paragraph)) || CASE WHEN section > 4 THEN E'\n' ELSE '' END AS text
    FROM paragraphs GROUP BY part_no, section
)
SELECT format(E'## %s\n\n%s%s\n\n%s', CASE part WHEN 'header' THEN 'The extension' ELSE initcap(part) END, about,
              CASE part WHEN 'header' THEN '' ELSE format(' [What it is for](%s.md).', part) END,
              (SELECT string_agg(s.text, E'\n' ORDER BY s.section) FROM sections s WHERE s.part_no = p.part_no))
FROM parts p ORDER BY part_no;
