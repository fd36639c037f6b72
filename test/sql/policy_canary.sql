-- A canary gives a share of a segment's leads to a candidate: which ones, a hash of their keys says, always the same. It is promoted,
-- aborted, or ends by itself where a bound is crossed; then the active version decides on all leads again.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA policy_canary;
SET search_path TO policy_canary;
CREATE ROLE regress_lr_approver;
GRANT leadroute_approver TO regress_lr_approver;
CREATE ROLE regress_lr_author;
GRANT leadroute_author TO regress_lr_author;
INSERT INTO leadroute.owners (reference) VALUES ('canary a'), ('canary b');
INSERT INTO leadroute.pools (name) VALUES ('canary one'), ('canary two');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT p.pool_id, o.owner_id FROM leadroute.pools p, leadroute.owners o
    WHERE (p.name, o.reference) IN (('canary one', 'canary a'), ('canary two', 'canary b'));
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE FUNCTION publish(conditions text) RETURNS integer LANGUAGE sql AS $$
    SELECT leadroute.publish_policy('policy_canary', jsonb_build_object('leadroute', 1, 'steps', '[{"capability": "assignOwner"}]'::jsonb,
        'rules', jsonb_build_array(jsonb_build_object('name', 'r', 'when', conditions, 'pool', CASE WHEN conditions = 'true' THEN 'canary one' ELSE 'canary two' END))), 'test') $$;
SELECT publish('true'), publish('company_size > 0'), publish('(attributes->>''mood'')::policy_canary.mood = ''good''');
SELECT leadroute.start_canary('policy_canary', 2, 0.5);
SELECT leadroute.activate_policy('policy_canary', 1);
CREATE TABLE leads (id text PRIMARY KEY, country text, company_size integer, seats text, age text);
SELECT leadroute.attach_table('leads', policy => 'policy_canary', classes => '{"country": "plain", "company_size": "plain"}', protected => '{attributes.age}',
    reroute_on => '{country,company_size}') > 0 AS attached;
CREATE VIEW decided AS
    SELECT l.id, l.country, e.mode, e.policy_version_id = p.active_version_id AS by_active, e.trial_id, leadroute.lead_share(l.id, 'grain') AS place, e.run_id
    FROM leads l JOIN leadroute.lead_states s ON s.lead_id = leadroute.lead_of('leads', l.id) JOIN leadroute.entries e USING (run_id)
        JOIN leadroute.policies p ON p.name = 'policy_canary' OFFSET 0;
CREATE VIEW counts AS SELECT mode, by_active, trial_id IS NOT NULL AS in_trial, count(*) FROM decided GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;

-- the hash, computed again: FNV-1a over key, zero byte and salt, the finalizer of MurmurHash3, 53 bits
CREATE FUNCTION place(key text, salt text) RETURNS double precision LANGUAGE plpgsql AS $$
DECLARE
    h numeric := 14695981039346656037;
    two64 numeric := 18446744073709551616;
    bytes bytea := convert_to(key, 'UTF8') || '\x00'::bytea || convert_to(salt, 'UTF8');
    c numeric;
BEGIN
    FOR i IN 0 .. length(bytes) - 1 LOOP
        -- the low 8 bits alone are changed
        h := h - mod(h, 256) + (mod(h, 256)::integer # get_byte(bytes, i));
        h := mod(h * 1099511628211, two64);
    END LOOP;
    FOREACH c IN ARRAY ARRAY[18397679294719823053, 14181476777654086739, 1] LOOP
        -- h xor h >> 33: the 33 high bits stay
        h := mod(policy_canary.xor64(h, div(h, 8589934592)) * c, two64);
    END LOOP;
    RETURN div(h, 2048)::double precision / 9007199254740992;
END $$;
CREATE FUNCTION xor64(a numeric, b numeric) RETURNS numeric LANGUAGE sql AS $$
    SELECT sum(((mod(div(a, (2::numeric ^ (16 * i))::numeric), 65536)::integer # mod(div(b, (2::numeric ^ (16 * i))::numeric), 65536)::integer))::numeric * (2::numeric ^ (16 * i))::numeric)
    FROM generate_series(0, 3) AS i $$;
SELECT count(*) AS keys, count(*) FILTER (WHERE place(k, s) = leadroute.lead_share(k, s)) AS same
FROM unnest(ARRAY['', '1', 'jane', 'Zoë', repeat('long ', 20)]) AS k, unnest(ARRAY['', 'grain', 'ß']) AS s;
-- shares are what they say, and two salts divide independently
SELECT count(*) FILTER (WHERE leadroute.lead_share(i::text, 'x') < 0.1) BETWEEN 950 AND 1050 AS tenth,
       count(*) FILTER (WHERE leadroute.lead_share(i::text, 'x') < 0.1 AND leadroute.lead_share(i::text, 'y') < 0.1) BETWEEN 70 AND 130 AS tenth_of_tenth
FROM generate_series(1, 10000) AS i;

-- no trial
INSERT INTO leads SELECT 'before ' || i, 'DE', i FROM generate_series(1, 10) AS i;
SELECT * FROM counts;

-- what is refused
SELECT leadroute.start_canary('policy_canary', 1, 0.5);
SELECT leadroute.start_canary('policy_canary', 7, 0.5);
SELECT leadroute.start_canary('nowhere', 7, 0.5);
SELECT leadroute.start_canary('policy_canary', 2, 1.5);
SELECT leadroute.start_canary('policy_canary', 2, 'NaN');
SELECT leadroute.start_canary('policy_canary', 2, NULL);
SELECT leadroute.start_canary('policy_canary', 2, 0.5, 'score > 5 AND flags.x', bounds => '{"no_rule": 2, "latency": 3, "window": 5}');
SELECT leadroute.start_canary('policy_canary', 2, 0.5, 'country = ');
SELECT leadroute.start_canary('policy_canary', 2, 0.5, 'attributes->>''age'' = ''50''', bounds => '[]');
SELECT leadroute.change_share('policy_canary', 0.5);
SELECT leadroute.promote_candidate('policy_canary');
SELECT leadroute.abort_trial('policy_canary');
SET ROLE regress_lr_author;
SELECT leadroute.start_canary('policy_canary', 2, 0.5);
RESET ROLE;

-- a canary in a segment; some batches in a statement
SET ROLE regress_lr_approver;
SELECT leadroute.start_canary('policy_canary', 2, 0.25, 'country = ''DE''', 'grain', reason => 'try it') > 0 AS started;
SELECT leadroute.start_canary('policy_canary', 2, 0.5);
RESET ROLE;
SET leadroute.batch_size = 7;
INSERT INTO leads SELECT 'k' || i, CASE i % 4 WHEN 0 THEN 'FR' WHEN 1 THEN NULL ELSE 'DE' END, i FROM generate_series(1, 400) AS i;
RESET leadroute.batch_size;
SELECT * FROM counts;
SELECT count(*) AS wrong FROM decided WHERE id LIKE 'k%' AND ((mode = 'c') <> (country = 'DE' AND place < 0.25) OR (trial_id IS NOT NULL) <> (country IS NOT DISTINCT FROM 'DE'));
-- routed again they stand where they stood, and nothing is written
SELECT changed, count(*) FROM leadroute.route_leads((SELECT array_agg(leadroute.lead_of('leads', id)) FROM leads WHERE id LIKE 'k%'), 'again') GROUP BY 1;
UPDATE leads SET company_size = company_size + 1000 WHERE id LIKE 'k%';
SELECT count(*) AS decisions, count(*) FILTER (WHERE (mode = 'c') <> (country = 'DE' AND place < 0.25)) AS wrong FROM decided WHERE id LIKE 'k%';
-- into the segment, and out of it
SELECT mode, count(*) FROM decided WHERE place < 0.25 AND country = 'FR' GROUP BY 1;
UPDATE leads SET country = 'DE' WHERE country = 'FR';
SELECT count(*) FILTER (WHERE mode = 'c') > 10 AS some, count(*) FILTER (WHERE (mode = 'c') <> (country = 'DE' AND place < 0.25)) AS wrong FROM decided WHERE id LIKE 'k%' AND right(id, 1) IN ('0', '4', '8');
-- a person who comes again stands where she stood
CREATE TABLE stood AS SELECT id, mode FROM decided WHERE id LIKE 'k%';
DELETE FROM leads WHERE id LIKE 'k1%';
INSERT INTO leads SELECT id, 'DE', 5 FROM stood WHERE id LIKE 'k1%';
SELECT count(*), count(*) FILTER (WHERE d.mode <> s.mode AND d.place < 0.25) AS not_in_the_segment_before, count(*) FILTER (WHERE (d.mode = 'c') <> (d.place < 0.25)) AS wrong FROM decided d JOIN stood s USING (id) WHERE d.id LIKE 'k1%';

-- the share grows: who was in stays in
SELECT leadroute.change_share('policy_canary', 0.6, 'it does no harm');
CREATE TABLE candidates AS SELECT id, run_id FROM decided WHERE mode = 'c';
SELECT count(*) > 0 AS routed FROM leadroute.route_leads((SELECT array_agg(leadroute.lead_of('leads', id)) FROM leads WHERE id LIKE 'k%'));
SELECT count(*) = (SELECT count(*) FROM candidates) AS all_stayed, bool_and(d.mode = 'c' AND d.run_id = c.run_id) AS undisturbed FROM candidates c JOIN decided d USING (id);
SELECT count(*) AS wrong FROM decided WHERE id LIKE 'k%' AND (mode = 'c') <> (country IS NOT DISTINCT FROM 'DE' AND place < 0.6);

-- on record: every decision verifies, all is accounted for; the views say who decided
SELECT v.verdict, count(*) > 400 AS many FROM decided d, LATERAL leadroute.verify_decision(d.run_id) v GROUP BY 1;
SELECT count(*) AS problems FROM leadroute.reconcile('leads');
SELECT DISTINCT mode FROM leadroute.decisions WHERE leads_table = 'policy_canary.leads' AND current ORDER BY 1;
SELECT DISTINCT mode FROM leadroute.lead_timeline t JOIN leadroute.lead_keys k USING (lead_id) WHERE k.key LIKE 'k%' ORDER BY 1;
SELECT substr(e, position('UTC' IN e)) AS explanation FROM decided d, LATERAL leadroute.explain_decision(d.run_id) e WHERE d.id = (SELECT min(id) FROM decided WHERE mode = 'c') AND e LIKE 'When%';
-- two groups of leads are compared; nobody moves
SELECT trial_id AS trial FROM leadroute.policy_trials t JOIN leadroute.policies USING (policy_id) WHERE name = 'policy_canary' AND ended_at IS NULL \gset
SELECT measure, baseline > 50 AS baseline, candidate > 50 AS candidate FROM leadroute.trial_comparison WHERE trial_id = :trial AND measure = 'leads';
SELECT measure, baseline, candidate, baseline_low FROM leadroute.trial_comparison WHERE trial_id = :trial AND measure <> 'leads' AND measure NOT LIKE 'duration%';
SELECT count(*) AS leads, count(*) FILTER (WHERE (side = 'candidate') <> (owner = 'canary b')) AS wrong FROM leadroute.trial_leads(:trial, NULL) \gset side_
SELECT :side_leads > 200 AS leads, :side_wrong AS wrong;
SELECT count(*) AS moves FROM leadroute.trial_moves WHERE trial_id = :trial;

-- promoted: active, and the trial is over; a rollback goes back to what was before
SELECT leadroute.promote_candidate('policy_canary', 'better');
SELECT kind, share, ended_how, end_reason, ended_by = session_user AS by_me FROM leadroute.policy_trials WHERE trial_id = :trial;
INSERT INTO leads VALUES ('promoted', 'DE', 5);
SELECT mode, by_active, trial_id FROM decided WHERE id = 'promoted';
SELECT leadroute.rollback_policy('policy_canary', 'no');
-- another version becomes active: what the trial compares with is gone
SELECT leadroute.start_canary('policy_canary', 2, 1, reason => 'again') > 0 AS started;
SELECT leadroute.activate_policy('policy_canary', 2, 'by hand');
SELECT ended_how, end_reason FROM leadroute.policy_trials ORDER BY trial_id DESC LIMIT 1;
SELECT leadroute.rollback_policy('policy_canary');
-- aborted
SELECT leadroute.start_canary('policy_canary', 2, 1) > 0 AS started;
INSERT INTO leads VALUES ('during', 'FR', 1);
SELECT leadroute.abort_trial('policy_canary', 'doubts');
INSERT INTO leads VALUES ('after', 'FR', 1);
SELECT id, mode FROM decided WHERE id IN ('during', 'after') ORDER BY 1;
-- a beginning that is rolled back never was
BEGIN;
SELECT leadroute.start_canary('policy_canary', 2, 1) > 0 AS started;
INSERT INTO leads VALUES ('undone', 'FR', 1);
ROLLBACK;
INSERT INTO leads VALUES ('not tried', 'FR', 1);
SELECT mode FROM decided WHERE id = 'not tried';
SELECT h.act, h.version, h.previous_version, h.reason FROM leadroute.policy_history h WHERE h.name = 'policy_canary' AND act <> 'publish' ORDER BY h.at, h.act COLLATE "C" DESC;

-- a segment that raises, or is null, does not hold, and breaks no insert
SELECT leadroute.start_canary('policy_canary', 2, 1, '(attributes->>''seats'')::int > 5') > 0 AS started;
INSERT INTO leads (id, company_size, seats) VALUES ('ten seats', 1, '10'), ('two seats', 1, '2'), ('any seats', 1, 'x'), ('no seats', 1, NULL);
SELECT id, mode, trial_id IS NOT NULL AS in_trial FROM decided WHERE id LIKE '% seats' ORDER BY id COLLATE "C";
SELECT leadroute.abort_trial('policy_canary');
-- a candidate that cannot be used any more leaves its leads to the active version
SELECT leadroute.start_canary('policy_canary', 3, 1) > 0 AS started;
INSERT INTO leads (id) VALUES ('usable');
ALTER TYPE mood ADD VALUE 'fair';
INSERT INTO leads (id) VALUES ('unusable');
SELECT id, mode FROM decided WHERE id LIKE '%usable' ORDER BY 1;
SELECT leadroute.abort_trial('policy_canary');

-- bounds: the trial ends by itself, in the transaction that crosses one, for the next statement
SELECT leadroute.start_canary('policy_canary', 2, 1, bounds => '{"no_rule": 0.2, "min_leads": 20, "window": 50}') > 0 AS started;
SELECT trial_id AS trial FROM leadroute.policy_trials WHERE ended_at IS NULL AND baseline_version_id = (SELECT active_version_id FROM leadroute.policies WHERE name = 'policy_canary') \gset
CREATE VIEW trial AS SELECT ended_how, end_reason FROM leadroute.policy_trials ORDER BY trial_id DESC LIMIT 1;
INSERT INTO leads SELECT 'bad ' || i, 'DE', 0 FROM generate_series(1, 19) AS i;
SELECT leadroute.check_trials();
SELECT * FROM trial;
DELETE FROM leads WHERE id LIKE 'bad %';
INSERT INTO leads SELECT 'fine ' || i, 'DE', 1 FROM generate_series(1, 60) AS i;
SELECT * FROM trial;
SELECT count(*), sum(leads) FROM leadroute.trial_tallies WHERE trial_id = :trial;
-- what no window reaches any more is forgotten
SELECT leadroute.check_trials();
SELECT count(*), sum(leads) FROM leadroute.trial_tallies WHERE trial_id = :trial;
BEGIN;
INSERT INTO leads SELECT 'bad ' || i, 'DE', 0 FROM generate_series(1, 20) AS i;
SELECT * FROM trial;
INSERT INTO leads VALUES ('next', 'DE', 0);
SELECT mode FROM decided WHERE id = 'next';
ROLLBACK;
SELECT * FROM trial;
-- under a snapshot of its own a transaction ends none: the next one does, even with one lead at a time
BEGIN ISOLATION LEVEL REPEATABLE READ;
INSERT INTO leads SELECT 'bad ' || i, 'DE', 0 FROM generate_series(1, 20) AS i;
COMMIT;
SELECT * FROM trial;
DO $$ BEGIN FOR i IN 1 .. 20 LOOP INSERT INTO policy_canary.leads VALUES ('bad one ' || i, 'DE', 0); END LOOP; END $$;
SELECT ended_how, end_reason ~ '^no_rule was 0\.\d+ over the latest \d+ leads, above 0\.2$' AS reason FROM trial;
SELECT count(*) < 20 AS ended_on_the_way, count(*) > 0 AS not_at_once FROM decided WHERE id LIKE 'bad one %' AND mode = 'c';
SELECT count(*) AS tallies FROM leadroute.trial_tallies t WHERE trial_id = :trial \gset
SELECT leadroute.check_trials();
SELECT count(*) AS tallies FROM leadroute.trial_tallies t WHERE trial_id = :trial;
SELECT act, reason ~ '^no_rule was' AS reason FROM leadroute.policy_history WHERE name = 'policy_canary' ORDER BY at DESC LIMIT 1;
-- time taken; check_trials() ends what no insert does
SELECT leadroute.start_canary('policy_canary', 2, 1, bounds => '{"duration_us": 0, "quarantined": 0, "rejected": 0.1, "min_leads": 1}') > 0 AS started;
BEGIN ISOLATION LEVEL REPEATABLE READ;
INSERT INTO leads SELECT 'slow ' || i, 'DE', 1 FROM generate_series(1, 100) AS i;
COMMIT;
SELECT * FROM trial;
SELECT leadroute.check_trials();
SELECT ended_how, end_reason ~ '^duration_us was [\d.e-]+ over the latest 100 leads, above 0$' AS reason FROM trial;
SELECT count(*) AS problems FROM leadroute.reconcile('leads');

DROP SCHEMA policy_canary CASCADE;
DROP ROLE regress_lr_approver, regress_lr_author;
