-- policy: trials of versions on real leads (canary, shadow), feature flags, and what a trial gave.

CREATE SEQUENCE leadroute.policy_trial_ids AS integer;
COMMENT ON SEQUENCE leadroute.policy_trial_ids IS 'Ids of trials.';
CREATE TABLE leadroute.policy_trials (
    trial_id integer PRIMARY KEY DEFAULT nextval('leadroute.policy_trial_ids'),
    policy_id integer NOT NULL,
    candidate_version_id integer NOT NULL,
    baseline_version_id integer NOT NULL,
    kind text NOT NULL CHECK (kind IN ('canary', 'shadow')),
    share double precision NOT NULL CHECK (share BETWEEN 0 AND 1),
    salt text NOT NULL,
    segment text,
    bounds jsonb NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_by name NOT NULL,
    start_reason text NOT NULL,
    ended_at timestamptz,
    ended_by name,
    ended_how text CHECK (ended_how IN ('promoted', 'aborted', 'aborted_automatically')),
    end_reason text
);
CREATE UNIQUE INDEX policy_trials_running ON leadroute.policy_trials (policy_id) WHERE ended_at IS NULL;
COMMENT ON TABLE leadroute.policy_trials IS 'Trials of policy versions on real leads; a policy has at most one at a time. Written by the functions below.';
COMMENT ON COLUMN leadroute.policy_trials.trial_id IS 'What entries refer to.';
COMMENT ON COLUMN leadroute.policy_trials.policy_id IS 'The policy.';
COMMENT ON COLUMN leadroute.policy_trials.candidate_version_id IS 'The version that is tried.';
COMMENT ON COLUMN leadroute.policy_trials.baseline_version_id IS 'The version that was active when the trial began; if another one becomes active, the trial ends.';
COMMENT ON COLUMN leadroute.policy_trials.kind IS 'canary: the candidate decides for its share of the leads. shadow: it decides beside the active version, on record, and nothing acts on it.';
COMMENT ON COLUMN leadroute.policy_trials.share IS 'The share of the segment''s leads that the candidate decides on, 0 to 1.';
COMMENT ON COLUMN leadroute.policy_trials.salt IS 'Goes into the hash that divides leads: those with lead_share(key, salt) < share are the candidate''s. key: as in lead_keys, or the lead id.';
COMMENT ON COLUMN leadroute.policy_trials.segment IS 'A condition over attributes, under UTC: which leads take part; null for all. One that raises or is null does not hold.';
COMMENT ON COLUMN leadroute.policy_trials.bounds IS 'At what a canary ends by itself: see start_canary(); {} for never.';
COMMENT ON COLUMN leadroute.policy_trials.started_by IS 'The session''s user.';
COMMENT ON COLUMN leadroute.policy_trials.start_reason IS 'Why, as the caller said.';
COMMENT ON COLUMN leadroute.policy_trials.ended_at IS 'Null while it runs.';
COMMENT ON COLUMN leadroute.policy_trials.ended_by IS 'The session''s user; of one that ended automatically, whose statement noticed.';
COMMENT ON COLUMN leadroute.policy_trials.ended_how IS 'promoted: the candidate became active; aborted, also by activating or rolling back to another version; aborted_automatically: a bound was crossed.';
COMMENT ON COLUMN leadroute.policy_trials.end_reason IS 'Why: as the caller said, or the measure that crossed its bound.';
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.policy_trials
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();

-- Appended by sessions that insert, summed by whoever looks at the bounds: no counter that they would meet at.
CREATE TABLE leadroute.trial_tallies (
    at timestamptz NOT NULL,
    duration_us double precision NOT NULL,
    trial_id integer NOT NULL,
    leads integer NOT NULL,
    no_rule integer NOT NULL,
    quarantined integer NOT NULL,
    rejected integer NOT NULL
);
CREATE INDEX trial_tallies_trial ON leadroute.trial_tallies (trial_id, at);
COMMENT ON TABLE leadroute.trial_tallies IS 'What canaries with bounds decided lately, a row a batch; forgotten when the trial ends.';
COMMENT ON COLUMN leadroute.trial_tallies.at IS 'When the batch was written.';
COMMENT ON COLUMN leadroute.trial_tallies.duration_us IS 'Time taken by all leads of the batch, in microseconds.';
COMMENT ON COLUMN leadroute.trial_tallies.trial_id IS 'See policy_trials.';
COMMENT ON COLUMN leadroute.trial_tallies.leads IS 'How many the candidate decided on.';
COMMENT ON COLUMN leadroute.trial_tallies.no_rule IS 'How many of them ended in no_rule.';
COMMENT ON COLUMN leadroute.trial_tallies.quarantined IS 'How many of them were quarantined.';
COMMENT ON COLUMN leadroute.trial_tallies.rejected IS 'How many of them were rejected.';

CREATE FUNCTION leadroute.start_canary(name text, version integer, share double precision, segment text DEFAULT NULL, salt text DEFAULT NULL,
                                       bounds jsonb DEFAULT '{}', reason text DEFAULT '') RETURNS integer
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_start_canary';
COMMENT ON FUNCTION leadroute.start_canary(text, integer, double precision, text, text, jsonb, text) IS
    'Gives a share of a policy''s leads to another version, from the next statement of every session on. version: a published one that is not active. share: 0 to 1; which leads these are, a hash of their keys says, always the same. segment: a condition over attributes; null for all leads. salt: null for one of its own. bounds: an object; where, over the latest "window" (1000) leads of the candidate, and at least "min_leads" (100), the share of "no_rule", "quarantined" or "rejected", 0 to 1, or the mean "duration_us", in microseconds, is above the number given for it, the trial ends by itself. Tables that are observed take no part. Returns the trial id. Raises 42704 if there is no such version, 55000 if it is active or cannot become so or if there is a trial already, 22023 for a mistake in share, segment or bounds.';

CREATE FUNCTION leadroute.start_shadow(name text, version integer, share double precision DEFAULT 1, segment text DEFAULT NULL, reason text DEFAULT '')
    RETURNS integer
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_start_shadow';
COMMENT ON FUNCTION leadroute.start_shadow(text, integer, double precision, text, text) IS
    'Has another version of a policy decide, beside the active one, on a share of its leads, from the next statement of every session on. What it decides is on record, an entry of mode s, and acted on by nobody: no state, no turn drawn. Its SQL agents do run. version, share and segment: as of start_canary(). Returns the trial id. Raises as start_canary() does.';

CREATE FUNCTION leadroute.change_share(name text, share double precision, reason text DEFAULT '') RETURNS void
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_change_share';
COMMENT ON FUNCTION leadroute.change_share(text, double precision, text) IS
    'Changes the share of the running trial of a policy. Leads that were the candidate''s stay so when it grows; leads that were decided before are not decided again. share: 0 to 1. Raises 42704 if there is no such policy, 55000 if it has no trial, 22023 for another share.';

CREATE FUNCTION leadroute.promote_candidate(name text, reason text DEFAULT '') RETURNS integer
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_promote_candidate';
COMMENT ON FUNCTION leadroute.promote_candidate(text, text) IS
    'Makes the version on trial the active one and ends the trial. Returns its number. Raises 42704 if there is no such policy, 55000 if it has no trial, and what activate_policy() raises.';

CREATE FUNCTION leadroute.abort_trial(name text, reason text DEFAULT '') RETURNS void
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_abort_trial';
COMMENT ON FUNCTION leadroute.abort_trial(text, text) IS
    'Ends the trial of a policy: from the next statement of every session on the active version decides on all leads. Leads that the candidate decided on stay as they are. Raises 42704 if there is no such policy, 55000 if it has no trial.';

CREATE FUNCTION leadroute.check_trials() RETURNS integer
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_check_trials';
COMMENT ON FUNCTION leadroute.check_trials() IS
    'Ends every canary that crossed one of its bounds, as inserting sessions do by themselves, and forgets tallies that no bound looks at any more. A policy that somebody else is changing is left to the next call, as are all under REPEATABLE READ or SERIALIZABLE. Returns how many trials it ended.';

CREATE FUNCTION leadroute.lead_share(key text, salt text) RETURNS double precision
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_lead_share';
COMMENT ON FUNCTION leadroute.lead_share(text, text) IS
    'Returns where a lead stands among all for a salt: from 0 to 1, the same on every machine. A trial or flag with a share above it takes the lead. key: as in lead_keys; of a table whose key is the lead id, that id as text.';

-- Feature flags.
CREATE TABLE leadroute.feature_flags (
    name text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_]*$'),
    enabled boolean NOT NULL,
    share double precision NOT NULL CHECK (share BETWEEN 0 AND 1),
    segment text,
    salt text NOT NULL,
    description text NOT NULL
);
COMMENT ON TABLE leadroute.feature_flags IS 'Flags that conditions read as flags.name, and that switch steps on. Written by set_flag() and drop_flag().';
COMMENT ON COLUMN leadroute.feature_flags.name IS 'Lower-case letters, digits and underscores.';
COMMENT ON COLUMN leadroute.feature_flags.enabled IS 'False: off for all leads.';
COMMENT ON COLUMN leadroute.feature_flags.share IS 'The share of the segment''s leads that it is on for, 0 to 1: those with lead_share(key, salt) < share.';
COMMENT ON COLUMN leadroute.feature_flags.segment IS 'A condition over attributes, under UTC: which leads it may be on for; null for all. One that raises or is null does not hold.';
COMMENT ON COLUMN leadroute.feature_flags.salt IS 'Random: two flags divide leads independently.';
COMMENT ON COLUMN leadroute.feature_flags.description IS 'For people.';
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.feature_flags
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();

CREATE FUNCTION leadroute.set_flag(name text, enabled boolean DEFAULT NULL, share double precision DEFAULT NULL, segment text DEFAULT NULL,
                                   description text DEFAULT NULL, reason text DEFAULT '') RETURNS void
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_set_flag';
COMMENT ON FUNCTION leadroute.set_flag(text, boolean, double precision, text, text, text) IS
    'Makes a flag, or changes it, from the next statement of every session on. What is null stays as it is; a new flag is off, for all leads once it is on, without a description. share: 0 to 1. segment: a condition over attributes; the empty text for all leads. reason: for policy_history. Raises 22023 for another name or share, or a mistake in the segment, 54000 beyond 1000 flags.';

CREATE FUNCTION leadroute.drop_flag(name text, reason text DEFAULT '') RETURNS void
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_drop_flag';
COMMENT ON FUNCTION leadroute.drop_flag(text, text) IS
    'Drops a flag. Older versions that read it find it off if they become active again. Raises 42704 if there is none, 55000 if an active version or one on trial reads it.';

-- What became of leads.
CREATE TABLE leadroute.conversions (
    lead_id bigint,
    converted_at timestamptz,
    value numeric,
    PRIMARY KEY (lead_id, converted_at)
);
COMMENT ON TABLE leadroute.conversions IS 'Leads that converted, as the team tells by record_conversion() or COPY.';
COMMENT ON COLUMN leadroute.conversions.lead_id IS 'The lead.';
COMMENT ON COLUMN leadroute.conversions.converted_at IS 'When; a lead may convert more than once.';
COMMENT ON COLUMN leadroute.conversions.value IS 'What it is worth, in the team''s currency; null if not known.';

CREATE FUNCTION leadroute.record_conversion(lead_id bigint, at timestamptz DEFAULT now(), value numeric DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM leadroute.lead_states s WHERE s.lead_id = record_conversion.lead_id) THEN
        RAISE undefined_object USING MESSAGE = format('lead %s does not exist', coalesce(record_conversion.lead_id::text, 'null')),
            HINT = 'See leadroute.lead_states; lead_of() finds the lead of a row.';
    END IF;
    INSERT INTO leadroute.conversions (lead_id, converted_at, value)
        VALUES (record_conversion.lead_id, coalesce(record_conversion.at, now()), record_conversion.value)
        ON CONFLICT ON CONSTRAINT conversions_pkey DO UPDATE SET value = excluded.value;
END $$;
COMMENT ON FUNCTION leadroute.record_conversion(bigint, timestamptz, numeric) IS
    'Notes that a lead converted, for trial_comparison. at: when. value: what it is worth; null if not known. The same lead and moment again changes the value. Raises 42704 if there is no such lead.';

-- E. B. Wilson, Probable inference, the law of succession, and statistical inference, Journal of the American Statistical
-- Association 22 (1927), 209-212; with the normal quantile of 95 %.
CREATE FUNCTION leadroute.wilson_interval(successes bigint, trials bigint, OUT low double precision, OUT high double precision)
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT greatest((p + z * z / (2 * n) - z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n), 0),
           least((p + z * z / (2 * n) + z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n), 1)
    FROM (SELECT trials::double precision AS n, successes / trials::double precision AS p, 1.959963984540054 AS z WHERE trials > 0) AS x
$$;
COMMENT ON FUNCTION leadroute.wilson_interval(bigint, bigint) IS
    'Returns the 95 % confidence interval of a rate, from 0 to 1, by Wilson''s score; null for no trials at all. successes: how many of the trials succeeded. Raises 2201F for more successes than trials.';

-- Every lead of a trial, on the side or sides where it stands, as it was decided last; or of an observed table.
CREATE FUNCTION leadroute.trial_leads(trial_id integer, source_id integer)
    RETURNS TABLE (side text, lead_id bigint, outcome leadroute.outcome, score double precision, tier text, duration_us real, pool_id integer,
                   owner text, converted boolean)
    LANGUAGE sql STABLE ROWS 10000 SET search_path = pg_catalog, pg_temp
AS $$
    WITH latest AS (
        SELECT DISTINCT ON (e.lead_id, e.mode IN ('c', 's')) e.*
        FROM leadroute.entries e
        WHERE e.trial_id = trial_leads.trial_id AND (e.outcome <> 'pending' OR e.reason_code = 'overflow') AND e.as_of >= (SELECT t.started_at FROM leadroute.policy_trials t WHERE t.trial_id = trial_leads.trial_id)
        ORDER BY e.lead_id, e.mode IN ('c', 's'), e.as_of DESC, e.run_id DESC
    ), observed AS (
        SELECT DISTINCT ON (e.lead_id) e.* FROM leadroute.entries e
        WHERE e.source_id = trial_leads.source_id AND e.mode = 'o' AND (e.outcome <> 'pending' OR e.reason_code = 'overflow') ORDER BY e.lead_id, e.as_of DESC, e.run_id DESC
    ), lead_rows AS MATERIALIZED (
        SELECT r.lead_id, r.baseline_owner,
               EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = t.relation AND a.attname = t.baseline_owner AND NOT a.attisdropped) AS compared
        FROM leadroute.attached_tables t CROSS JOIN LATERAL leadroute.attached_rows(t.relation) r WHERE t.source_id = trial_leads.source_id
    ), decided AS (
        SELECT CASE WHEN l.mode IN ('c', 's') THEN 'candidate' ELSE 'baseline' END AS side, l.* FROM latest l
        UNION ALL
        SELECT 'candidate', o.* FROM observed o WHERE o.lead_id IN (SELECT r.lead_id FROM lead_rows r)
    )
    SELECT d.side, d.lead_id, d.outcome, d.score, leadroute.entry_tier(d.evidence, d.policy_version_id), d.duration_us, d.pool_id, w.reference,
           EXISTS (SELECT FROM leadroute.conversions c WHERE c.lead_id = d.lead_id AND c.converted_at >= d.as_of)
    FROM decided d LEFT JOIN leadroute.owners w USING (owner_id)
    UNION ALL
    SELECT 'baseline', o.lead_id, CASE WHEN r.baseline_owner <> '' THEN 'assigned'::leadroute.outcome END, NULL, NULL, NULL, NULL, nullif(r.baseline_owner, ''),
           EXISTS (SELECT FROM leadroute.conversions c WHERE c.lead_id = o.lead_id AND c.converted_at >= o.as_of)
    FROM observed o JOIN lead_rows r ON r.lead_id = o.lead_id AND r.compared
$$;
COMMENT ON FUNCTION leadroute.trial_leads(integer, integer) IS
    'Returns the leads of a trial, or else of an attached table that was observed, as they were decided last on each side: baseline and candidate. Of an observed table candidate is leadroute, and baseline what the column baseline_owner says now. trial_id or source_id: the other one null. Part of compare_sides() and moved_leads(). Reads the record since the trial began, or whole.';

CREATE FUNCTION leadroute.compare_sides(trial_id integer, source_id integer)
    RETURNS TABLE (measure text, baseline double precision, candidate double precision, baseline_low double precision, baseline_high double precision,
                   candidate_low double precision, candidate_high double precision)
    LANGUAGE sql STABLE ROWS 15 SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH leads AS MATERIALIZED (
        SELECT * FROM leadroute.trial_leads(compare_sides.trial_id, compare_sides.source_id)
    ), sides AS (
        SELECT side, count(*)::double precision AS n, count(*) FILTER (WHERE outcome = 'assigned') AS assigned, avg(score) AS score, count(tier) AS tiers,
               avg(duration_us) AS mean, percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_us) AS p95, count(*) FILTER (WHERE converted) AS converted,
               count(*) FILTER (WHERE converted AND outcome = 'assigned') AS assigned_converted
        FROM leads GROUP BY side
    ), moves AS (
        SELECT avg((b.owner IS DISTINCT FROM c.owner)::integer)::double precision AS owner,
               CASE WHEN compare_sides.source_id IS NULL THEN avg((b.pool_id IS DISTINCT FROM c.pool_id)::integer)::double precision END AS pool
        FROM leads b JOIN leads c ON c.lead_id = b.lead_id AND c.side = 'candidate'
        WHERE b.side = 'baseline' AND CASE WHEN compare_sides.source_id IS NULL
            THEN (SELECT t.kind = 'shadow' FROM leadroute.policy_trials t WHERE t.trial_id = compare_sides.trial_id) ELSE b.owner IS NOT NULL END
    ), measures AS (
        SELECT 1 AS place, 'leads' AS measure, side, n AS value, NULL::double precision AS low, NULL::double precision AS high FROM sides
        UNION ALL
        -- Of another router nothing is known but whom it gave the lead to.
        SELECT 2, 'outcome.' || o.outcome, s.side, CASE WHEN s.side = 'candidate' OR compare_sides.source_id IS NULL OR o.outcome = 'assigned'
                   THEN (SELECT count(*) FROM leads l WHERE l.side = s.side AND l.outcome = o.outcome) / s.n END, NULL, NULL
        FROM sides s CROSS JOIN (SELECT DISTINCT l.outcome FROM leads l WHERE l.outcome IS NOT NULL) o
        UNION ALL
        SELECT 3, 'score.mean', side, score, NULL, NULL FROM sides
        UNION ALL
        SELECT 4, 'tier.' || t.tier, s.side, CASE WHEN s.tiers > 0 THEN (SELECT count(*) FROM leads l WHERE l.side = s.side AND l.tier = t.tier) / s.n END, NULL, NULL
        FROM sides s CROSS JOIN (SELECT DISTINCT l.tier FROM leads l WHERE l.tier IS NOT NULL) t
        UNION ALL
        SELECT 5, 'duration_us.mean', side, mean, NULL, NULL FROM sides
        UNION ALL
        SELECT 6, 'duration_us.p95', side, p95, NULL, NULL FROM sides
        UNION ALL
        SELECT 7, 'moved.owner', 'candidate', owner, NULL, NULL FROM moves WHERE owner IS NOT NULL
        UNION ALL
        SELECT 8, 'moved.pool', 'candidate', pool, NULL, NULL FROM moves WHERE pool IS NOT NULL
        UNION ALL
        SELECT 9, 'conversion.all', s.side, s.converted / s.n, w.low, w.high FROM sides s, leadroute.wilson_interval(s.converted, s.n::bigint) w
        WHERE (SELECT bool_or(l.converted) FROM leads l)
        UNION ALL
        SELECT 10, 'conversion.assigned', s.side, s.assigned_converted / nullif(s.assigned, 0)::double precision, w.low, w.high
        FROM sides s, leadroute.wilson_interval(s.assigned_converted, s.assigned) w
        WHERE (SELECT bool_or(l.converted) FROM leads l)
    )
    SELECT measure, max(value) FILTER (WHERE side = 'baseline'), max(value) FILTER (WHERE side = 'candidate'),
           max(low) FILTER (WHERE side = 'baseline'), max(high) FILTER (WHERE side = 'baseline'),
           max(low) FILTER (WHERE side = 'candidate'), max(high) FILTER (WHERE side = 'candidate')
    FROM measures GROUP BY place, measure HAVING count(value) > 0 ORDER BY place, measure COLLATE "C"
$$;
COMMENT ON FUNCTION leadroute.compare_sides(integer, integer) IS
    'Compares both sides of a trial, or of an attached table that was observed: what trial_comparison shows. trial_id or source_id: the other one null. Reads as trial_leads() does.';

CREATE FUNCTION leadroute.moved_leads(trial_id integer, source_id integer)
    RETURNS TABLE (from_owner text, to_owner text, from_pool text, to_pool text, leads bigint)
    LANGUAGE sql STABLE ROWS 100 SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH leads AS MATERIALIZED (
        SELECT * FROM leadroute.trial_leads(moved_leads.trial_id, moved_leads.source_id)
    )
    SELECT b.owner, c.owner, f.name, t.name, count(*)
    FROM leads b JOIN leads c ON c.lead_id = b.lead_id AND c.side = 'candidate'
    LEFT JOIN leadroute.pools f ON f.pool_id = b.pool_id LEFT JOIN leadroute.pools t ON t.pool_id = c.pool_id
    WHERE b.side = 'baseline' AND CASE WHEN moved_leads.source_id IS NULL
          THEN (b.owner IS DISTINCT FROM c.owner OR b.pool_id IS DISTINCT FROM c.pool_id)
               AND (SELECT x.kind = 'shadow' FROM leadroute.policy_trials x WHERE x.trial_id = moved_leads.trial_id)
          ELSE b.owner IS NOT NULL AND b.owner IS DISTINCT FROM c.owner END
    GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC, 1, 2, 3, 4
$$;
COMMENT ON FUNCTION leadroute.moved_leads(integer, integer) IS
    'Counts the leads of a shadow, or of an attached table that was observed, that would move to another owner or pool: what trial_moves shows. trial_id or source_id: the other one null. Reads as trial_leads() does.';

CREATE VIEW leadroute.trial_comparison AS
    SELECT t.trial_id, p.name AS policy, NULL::text AS leads_table, t.kind, m.*
    FROM leadroute.policy_trials t JOIN leadroute.policies p USING (policy_id) CROSS JOIN LATERAL leadroute.compare_sides(t.trial_id, NULL) m
    UNION ALL
    SELECT NULL, a.policy, a.relation_name, 'observe', m.*
    FROM leadroute.attached_tables a CROSS JOIN LATERAL leadroute.compare_sides(NULL, a.source_id) m
    WHERE a.relation IS NOT NULL AND (a.mode = 'observe' OR a.baseline_owner IS NOT NULL);
COMMENT ON VIEW leadroute.trial_comparison IS 'Candidate beside baseline, a row a measure, for each trial and each observed table. A canary compares two groups of leads; a shadow, and an observed table, two decisions on the same leads. Ask for one trial_id or leads_table: each reads the record.';
COMMENT ON COLUMN leadroute.trial_comparison.trial_id IS 'See policy_trials; null for an observed table.';
COMMENT ON COLUMN leadroute.trial_comparison.leads_table IS 'The observed table, by its name when it was attached; null for a trial.';
COMMENT ON COLUMN leadroute.trial_comparison.kind IS 'canary, shadow or observe.';
COMMENT ON COLUMN leadroute.trial_comparison.measure IS 'leads: how many. outcome.…, tier.…: their shares. score.mean. duration_us.mean, duration_us.p95: time taken, in microseconds a lead. moved.owner, moved.pool: the share of leads that would move to another one, or from or to none. conversion.all: the share of leads that converted after the decision; conversion.assigned: of those that the side assigned.';
COMMENT ON COLUMN leadroute.trial_comparison.baseline IS 'Of the version that was active; of an observed table, of the router that acts, as far as it is known. Shares are from 0 to 1.';
COMMENT ON COLUMN leadroute.trial_comparison.candidate IS 'Of the version on trial; of an observed table, of leadroute.';
COMMENT ON COLUMN leadroute.trial_comparison.baseline_low IS 'Of a conversion rate: the lower end of its 95 % confidence interval (Wilson).';
COMMENT ON COLUMN leadroute.trial_comparison.baseline_high IS 'The upper end.';
COMMENT ON COLUMN leadroute.trial_comparison.candidate_low IS 'Of a conversion rate: the lower end of its 95 % confidence interval (Wilson).';
COMMENT ON COLUMN leadroute.trial_comparison.candidate_high IS 'The upper end.';

CREATE VIEW leadroute.trial_moves AS
    SELECT t.trial_id, p.name AS policy, NULL::text AS leads_table, t.kind, m.*
    FROM leadroute.policy_trials t JOIN leadroute.policies p USING (policy_id) CROSS JOIN LATERAL leadroute.moved_leads(t.trial_id, NULL) m
    UNION ALL
    SELECT NULL, a.policy, a.relation_name, 'observe', m.*
    FROM leadroute.attached_tables a CROSS JOIN LATERAL leadroute.moved_leads(NULL, a.source_id) m
    WHERE a.relation IS NOT NULL AND a.baseline_owner IS NOT NULL;
COMMENT ON VIEW leadroute.trial_moves IS 'From whom to whom leads would move, for each shadow and each observed table. A canary has none: its two sides are different leads.';
COMMENT ON COLUMN leadroute.trial_moves.trial_id IS 'See policy_trials; null for an observed table.';
COMMENT ON COLUMN leadroute.trial_moves.leads_table IS 'The observed table; null for a trial.';
COMMENT ON COLUMN leadroute.trial_moves.kind IS 'shadow or observe.';
COMMENT ON COLUMN leadroute.trial_moves.from_owner IS 'Of the baseline; null for nobody.';
COMMENT ON COLUMN leadroute.trial_moves.to_owner IS 'Of the candidate; null for nobody.';
COMMENT ON COLUMN leadroute.trial_moves.from_pool IS 'Of the baseline; null for none, and of an observed table.';
COMMENT ON COLUMN leadroute.trial_moves.to_pool IS 'Of the candidate; null for none.';
COMMENT ON COLUMN leadroute.trial_moves.leads IS 'How many.';
