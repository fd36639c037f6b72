-- What must not crash, leak or depend on the session: hostile rows, keys, settings, agents and evidence.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA hardening;
SET search_path TO hardening;
INSERT INTO leadroute.owners (reference) VALUES ('hardening-1');
INSERT INTO leadroute.pools (name) VALUES ('hardening');
INSERT INTO leadroute.pool_members (pool_id, owner_id)
    SELECT p.pool_id, o.owner_id FROM leadroute.pools p, leadroute.owners o WHERE p.name = 'hardening' AND o.reference = 'hardening-1';
SELECT leadroute.publish_policy('hardening', '{
    "leadroute": 1, "steps": [{"capability": "assignOwner"}],
    "rules": [{"name": "large", "when": "company_size > 3", "pool": "hardening"}, {"name": "all", "when": "true", "pool": "hardening"}]}', 'test');
SELECT leadroute.activate_policy('hardening');

-- a dropped column does not shift the others, in whatever way the row is read
CREATE TABLE dropped (id text PRIMARY KEY, junk integer, company text, company_size integer);
ALTER TABLE dropped DROP COLUMN junk;
INSERT INTO dropped VALUES ('before', 'Firm', 1);
SELECT leadroute.attach_table('dropped', policy => 'hardening') > 0 AS attached;
INSERT INTO dropped VALUES ('after', 'Firm', 10);
SELECT leadroute.route_pending('dropped');
SELECT d.cause, d.rule, v.verdict FROM leadroute.decisions d, leadroute.verify_decision(d.decision_id) v
WHERE d.leads_table = 'hardening.dropped' ORDER BY d.decision_id;

-- a key of char(n) is compared whole
CREATE TABLE fixed (k char(5) PRIMARY KEY, company_size integer);
SELECT leadroute.attach_table('fixed', policy => 'hardening') > 0 AS attached;
INSERT INTO fixed VALUES ('ab1', 10), ('ab2', 1);
SELECT d.rule, v.verdict FROM leadroute.decisions d, leadroute.verify_decision(d.decision_id) v WHERE d.leads_table = 'hardening.fixed' ORDER BY d.rule;

-- a key that somebody makes up
SELECT leadroute.key_of('dropped', NULL::text);

-- evidence that somebody makes up: one byte changed at a time, errors at most
DO $$
DECLARE
    e record;
    damaged bytea;
BEGIN
    FOR e IN SELECT n.evidence, n.policy_version_id FROM leadroute.entries n ORDER BY n.run_id DESC LIMIT 2 LOOP
        FOR i IN 0 .. length(e.evidence) - 1 LOOP
            FOREACH damaged IN ARRAY ARRAY[set_byte(e.evidence, i, 3), set_byte(e.evidence, i, 255), set_byte(e.evidence, i, 128)] LOOP
                BEGIN
                    PERFORM leadroute.entry_evidence(damaged, e.policy_version_id);
                    PERFORM count(*) FROM leadroute.entry_steps(damaged, e.policy_version_id);
                EXCEPTION WHEN data_corrupted OR invalid_text_representation OR undefined_object OR datetime_field_overflow
                          OR untranslatable_character OR character_not_in_repertoire THEN
                    NULL;
                END;
            END LOOP;
        END LOOP;
    END LOOP;
END $$;

-- an error that an agent must not swallow ends with whoever catches it: nothing of the block stays
CREATE FUNCTION locks(lead jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE lock_not_available; END $$;
SELECT leadroute.register_agent('hardeningLocks', '1', '{hardeningLocks}', 'locks(jsonb)') > 0 AS registered;
SELECT leadroute.publish_policy('hardening_locks', '{"leadroute": 1, "steps": [{"capability": "hardeningLocks"}]}', 'test');
SELECT leadroute.activate_policy('hardening_locks');
CREATE TABLE locking (id bigint PRIMARY KEY);
SELECT leadroute.attach_table('locking', policy => 'hardening_locks') > 0 AS attached;
CREATE TABLE notes (note text);
DO $$
BEGIN
    INSERT INTO notes VALUES ('before');
    BEGIN
        INSERT INTO notes VALUES ('within');
        INSERT INTO locking VALUES (1);
    EXCEPTION WHEN lock_not_available THEN
        INSERT INTO notes VALUES ('caught');
    END;
END $$;
SELECT note FROM notes ORDER BY note;
SELECT count(*) FROM locking;

-- an agent that comes back to itself: a function of language SQL that inserts the next lead
CREATE TABLE chain (id bigint PRIMARY KEY, company_size integer);
CREATE FUNCTION next_of(lead jsonb) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
    INSERT INTO hardening.chain SELECT n - 1, n - 1 FROM (SELECT (lead ->> 'company_size')::integer) AS s (n) WHERE n > 0;
    SELECT jsonb_build_object('n', lead -> 'company_size') $$;
SELECT leadroute.register_agent('hardeningNext', '1', '{hardeningNext}', 'next_of(jsonb)') > 0 AS registered;
SELECT leadroute.publish_policy('hardening_next', '{"leadroute": 1, "steps": [{"capability": "hardeningNext"}, {"capability": "assignOwner"}],
    "rules": [{"name": "all", "when": "(hardeningNext ->> ''n'')::integer = company_size", "pool": "hardening"}]}', 'test');
SELECT leadroute.activate_policy('hardening_next');
SELECT leadroute.attach_table('chain', policy => 'hardening_next') > 0 AS attached;
INSERT INTO chain VALUES (3, 3), (13, 2);
SELECT c.id, s.outcome, s.reason_code FROM chain c JOIN leadroute.lead_states s ON s.lead_id = leadroute.lead_of('chain', c.id::text) ORDER BY c.id;

-- an agent whose function went to another role stops: it would run as the one that registered it
CREATE ROLE hardening_owner;
ALTER FUNCTION next_of(jsonb) OWNER TO hardening_owner;
INSERT INTO chain VALUES (30, 0);
SELECT s.outcome FROM leadroute.lead_states s WHERE s.lead_id = leadroute.lead_of('chain', '30');
SELECT p.sqlstate, p.place FROM leadroute.provenance p WHERE p.lead_id = leadroute.lead_of('chain', '30') AND p.status = 'failed';
ALTER FUNCTION next_of(jsonb) OWNER TO CURRENT_USER;
DROP ROLE hardening_owner;

-- conditions and data mean the same whatever the session's settings
SELECT leadroute.publish_policy('hardening_settings', '{
    "leadroute": 1, "steps": [{"capability": "assignOwner"}],
    "rules": [{"name": "backslash", "when": "company = ''a\\nb''", "outcome": "nurture", "reason": "backslash"},
              {"name": "null", "when": "region = NULL", "outcome": "nurture", "reason": "null"},
              {"name": "digits", "when": "(attributes->>''share'')::float8::text = ''0.1''", "outcome": "nurture", "reason": "digits"},
              {"name": "collation", "when": "attributes->>''word'' < ''a''", "outcome": "nurture", "reason": "upper"},
              {"name": "moment", "when": "consent_at >= ''2026-01-02 00:00+00''", "outcome": "nurture", "reason": "late"},
              {"name": "moving", "when": "(attributes->>''day'')::date IS NOT NULL", "outcome": "nurture", "reason": "day"},
              {"name": "moving by another type", "when": "(attributes->>''day'')::name::date IS NOT NULL OR (attributes->>''day'')::varchar::timestamptz < as_of",
               "outcome": "nurture", "reason": "other day"},
              {"name": "all", "when": "true", "outcome": "nurture", "reason": "other"}]}', 'test');
SELECT leadroute.activate_policy('hardening_settings');
CREATE TABLE setting (id bigint PRIMARY KEY, company text, region text, consent_at text, attributes json, extra text);
SELECT leadroute.attach_table('setting', policy => 'hardening_settings') > 0 AS attached;
CREATE VIEW settled AS
    SELECT t.id, s.reason_code FROM setting t JOIN leadroute.lead_states s ON s.lead_id = leadroute.lead_of('setting', t.id::text);
\c
SET search_path TO hardening;
SET client_min_messages = warning;
SET standard_conforming_strings = off;
SET escape_string_warning = off;
SET transform_null_equals = on;
SET extra_float_digits = -10;
SET quote_all_identifiers = on;
SET TimeZone = 'Asia/Tokyo';
SET DateStyle = 'SQL, DMY';
SET timezone_abbreviations = 'India';
INSERT INTO setting VALUES
    (1, E'a\\nb', 'x', NULL, NULL, NULL),
    (2, 'c', NULL, NULL, NULL, NULL),
    (3, 'c', 'x', NULL, '{"share": "0.1"}', NULL),
    (4, 'c', 'x', NULL, '{"share": "0.10000000000001"}', NULL),
    (5, 'c', 'x', NULL, '{"word": "Z"}', NULL),
    (6, 'c', 'x', '2026-01-02 03:00', NULL, NULL),
    (7, 'c', 'x', '01/02/2026 12:00', NULL, NULL),
    (8, 'c', 'x', NULL, '{"day": "today"}', NULL),
    (9, 'c', 'x', NULL, '{"day": "2026-01-01"}', NULL);
SELECT id, reason_code FROM settled ORDER BY id;
SHOW extra_float_digits;
-- an agent's digest
INSERT INTO chain VALUES (20, 0);
SELECT s.outcome FROM leadroute.lead_states s WHERE s.lead_id = leadroute.lead_of('chain', '20');
RESET ALL;
\c
SET search_path TO hardening;
SELECT d.reason_code, v.verdict, v.place FROM leadroute.decisions d, leadroute.verify_decision(d.decision_id) v
WHERE d.leads_table = 'hardening.setting' ORDER BY d.decision_id;

-- what may change behind a condition is refused; a document of any size is answered
SELECT place, problem FROM leadroute.policy_mistakes('{"leadroute": 1, "steps": [{"capability": "assignOwner"}],
    "rules": [{"name": "search", "when": "to_tsvector(''english'', company) @@ ''firm''::tsquery", "pool": "hardening"}]}');
SELECT place, problem FROM leadroute.policy_mistakes(jsonb_build_object('leadroute', 1, 'steps',
    (SELECT jsonb_agg(jsonb_build_object('capability', 'c' || i)) FROM generate_series(1, 40000) AS i)));

-- an array of arrays of different lengths raises, and costs that lead its rule, not the statement
SELECT leadroute.publish_policy('hardening_arrays', '{"leadroute": 1, "steps": [{"capability": "assignOwner"}],
    "rules": [{"name": "arrays", "when": "ARRAY[consent_channels, ''{a,b}''::text[]] = ''{{a,b},{a,b}}''", "outcome": "nurture", "reason": "pair"},
              {"name": "all", "when": "true", "outcome": "nurture", "reason": "other"}]}', 'test');
SELECT leadroute.activate_policy('hardening_arrays');
CREATE TABLE arrays (id bigint PRIMARY KEY, consent_channels text[]);
SELECT leadroute.attach_table('arrays', policy => 'hardening_arrays') > 0 AS attached;
INSERT INTO arrays VALUES (1, '{a,b}'), (2, '{a}');
SELECT a.id, s.reason_code FROM arrays a JOIN leadroute.lead_states s ON s.lead_id = leadroute.lead_of('arrays', a.id::text) ORDER BY a.id;

-- consent of -infinity has expired where consent expires
SELECT leadroute.publish_policy('hardening_consent', '{"leadroute": 1, "steps": [{"capability": "checkRegionalCompliance"}, {"capability": "assignOwner"}],
    "rules": [{"name": "all", "when": "true", "pool": "hardening"}]}', 'test');
SELECT leadroute.activate_policy('hardening_consent');
CREATE TABLE consents (id bigint PRIMARY KEY, country text, consent boolean, consent_basis text, consent_at timestamptz);
SELECT leadroute.attach_table('consents', policy => 'hardening_consent') > 0 AS attached;
INSERT INTO consents VALUES (1, 'CA', true, 'consent', '-infinity');
SELECT p.output ->> 'channels' AS channels, p.output ->> 'reason' AS reason FROM leadroute.provenance p
WHERE p.lead_id = leadroute.lead_of('consents', '1') AND p.capability = 'checkRegionalCompliance';

-- views over entries beside parallel workers, in a session that has not compiled the policies yet
SELECT source_id FROM leadroute.attached_tables WHERE relation = 'setting'::regclass \gset
\c
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SELECT count(*) FROM leadroute.entries e, LATERAL leadroute.entry_steps(e.evidence, e.policy_version_id) s WHERE e.source_id = :source_id;
