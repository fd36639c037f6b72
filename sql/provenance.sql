-- provenance: the append-only record of every run, and what it takes to read, explain and verify it.

-- Where decisions were made. Duplicates do no harm (see pool_revisions).
CREATE SEQUENCE leadroute.environment_ids AS integer;
COMMENT ON SEQUENCE leadroute.environment_ids IS 'Ids of environments; not dense.';
CREATE TABLE leadroute.environments (
    environment_id integer PRIMARY KEY DEFAULT nextval('leadroute.environment_ids'),
    engine text NOT NULL,
    server text NOT NULL,
    libc text NOT NULL,
    "collation" text NOT NULL,
    tzdata text NOT NULL,
    encoding text NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE leadroute.environments IS 'Environments that decisions were made in: versions of engine, server, libc, collation and time zone data.';
COMMENT ON COLUMN leadroute.environments.engine IS 'leadroute and its version.';
COMMENT ON COLUMN leadroute.environments.server IS 'PostgreSQL and its version.';
COMMENT ON COLUMN leadroute.environments.libc IS 'Versions of glibc and libidn2.';
COMMENT ON COLUMN leadroute.environments."collation" IS 'The version of the database''s collation; none if it has no version, as C has none.';
COMMENT ON COLUMN leadroute.environments.tzdata IS 'The release of the time zone data, such as 2026a; unknown where no file tells.';
COMMENT ON COLUMN leadroute.environments.encoding IS 'The database''s encoding.';
COMMENT ON COLUMN leadroute.environments.seen_at IS 'When it was written: at the first decision made in it.';

CREATE TABLE leadroute.digest_keys (
    key_id integer PRIMARY KEY,
    key bytea NOT NULL CHECK (length(key) = 32),
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE leadroute.digest_keys IS 'Secret keys of the digests that stand in the record for what is not plain (HMAC-SHA-256, first 128 bits). Nobody but the owner reads them.';
COMMENT ON COLUMN leadroute.digest_keys.key_id IS 'The highest makes new digests; entries say which made theirs.';
COMMENT ON COLUMN leadroute.digest_keys.key IS '32 random bytes.';
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.digest_keys
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();

CREATE SEQUENCE leadroute.run_ids MAXVALUE 9007199254740991;
COMMENT ON SEQUENCE leadroute.run_ids IS 'Run ids; unique, not dense.';

CREATE TABLE leadroute.entries (
    run_id bigint NOT NULL,
    lead_id bigint NOT NULL,
    as_of timestamptz NOT NULL,
    supersedes bigint,
    turn bigint,
    score double precision,
    source_id integer NOT NULL,
    policy_version_id integer NOT NULL,
    environment_id integer NOT NULL,
    key_id integer NOT NULL,
    routed_by regrole NOT NULL,
    outcome leadroute.outcome NOT NULL,
    rule_no integer,
    pool_id integer,
    pool_revision_id integer,
    owner_id integer,
    trial_id integer,
    duration_us real NOT NULL,
    entry_no smallint NOT NULL,
    cause "char" NOT NULL,
    mode "char" NOT NULL,
    reason_code text NOT NULL,
    note text,
    evidence bytea NOT NULL,
    choice bytea
) PARTITION BY RANGE (as_of);
ALTER TABLE leadroute.entries ALTER COLUMN evidence SET STORAGE MAIN;
COMMENT ON TABLE leadroute.entries IS 'The record: what one transaction appends to a run. Append-only; read it through the views decisions, provenance and lead_timeline.';
COMMENT ON COLUMN leadroute.entries.as_of IS 'The moment of the decision: clock_timestamp(), once per statement.';
COMMENT ON COLUMN leadroute.entries.supersedes IS 'The run whose decision this run replaces; null for a lead''s first.';
COMMENT ON COLUMN leadroute.entries.turn IS 'The turn drawn from the pool''s sequence; of modes s and o none was drawn: it is that of the decision beside it, or one that the lead''s id names.';
COMMENT ON COLUMN leadroute.entries.rule_no IS 'The rule that decided: its place in the policy document, from 0.';
COMMENT ON COLUMN leadroute.entries.duration_us IS 'Time taken, in microseconds; in a statement with many leads each has its share.';
COMMENT ON COLUMN leadroute.entries.cause IS 'i insert, u update, m by hand, p catching up (route_pending), d declined, l the owner left, b rerouted in a batch, v drawn from overflow; r reassigned, h overridden and n put back (undo_reroute) are decisions of a person, in which no step ran; s moved by the ladder of an SLA, likewise; g merge (merge_leads).';
COMMENT ON COLUMN leadroute.entries.mode IS 'r routed, c routed by the candidate of a canary, o observed: decided beside another router that acts; s shadow: what a candidate would have decided, no decision of the lead.';
COMMENT ON COLUMN leadroute.entries.trial_id IS 'The trial that the lead took part in, on the side that mode says; null for none: see policy_trials.';
COMMENT ON COLUMN leadroute.entries.evidence IS 'Attributes and steps, the rules that raised among them, in the compact form of docs/provenance.md; entry_evidence() and entry_steps() unfold it.';
COMMENT ON COLUMN leadroute.entries.choice IS 'What choosing the owner read beside the pool''s revision and the turn; null where that was all. decision_candidates() unfolds it.';
COMMENT ON COLUMN leadroute.entries.run_id IS 'The run; its decision has the same id.';
COMMENT ON COLUMN leadroute.entries.lead_id IS 'The lead.';
COMMENT ON COLUMN leadroute.entries.score IS 'What computeLeadScore gave; null if that step was not done. Of a person''s decision, that of the decision before.';
COMMENT ON COLUMN leadroute.entries.source_id IS 'The table: see attached_tables.';
COMMENT ON COLUMN leadroute.entries.policy_version_id IS 'The version that decided; of a person''s decision, that of the decision before.';
COMMENT ON COLUMN leadroute.entries.environment_id IS 'Where it was decided: see environments.';
COMMENT ON COLUMN leadroute.entries.key_id IS 'The key of the digests in the evidence: see digest_keys.';
COMMENT ON COLUMN leadroute.entries.routed_by IS 'The user whose statement it was.';
COMMENT ON COLUMN leadroute.entries.outcome IS 'How the run ended.';
COMMENT ON COLUMN leadroute.entries.pool_id IS 'The pool of the rule that decided; null if the rule leads to none. Of a person''s decision, that of the decision before, if the owner is a member of it.';
COMMENT ON COLUMN leadroute.entries.pool_revision_id IS 'The pool''s members as the decision read them: see pool_revisions.';
COMMENT ON COLUMN leadroute.entries.owner_id IS 'Who got the lead; null unless the outcome is assigned.';
COMMENT ON COLUMN leadroute.entries.entry_no IS 'Place within the run, from 1.';
COMMENT ON COLUMN leadroute.entries.reason_code IS 'Why this outcome: see docs/pipeline.md.';
COMMENT ON COLUMN leadroute.entries.note IS 'The reason that was given by who routed or decided.';

CREATE FUNCTION leadroute.make_entry_partition(moment timestamptz) RETURNS regclass
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    first_day date := date_trunc('month', moment AT TIME ZONE 'UTC');
    next_first date := first_day + interval '1 month';
    partition_name text := 'entries_' || to_char(first_day, 'YYYY_MM');
    reader text;
BEGIN
    -- Two sessions that need the same new partition: one makes it, the other waits here, once a month at most.
    LOCK TABLE leadroute.entries IN SHARE UPDATE EXCLUSIVE MODE;
    IF to_regclass(format('leadroute.%I', partition_name)) IS NULL THEN
        -- Made apart and then attached: CREATE … PARTITION OF would lock readers out of the whole record.
        EXECUTE format('CREATE TABLE leadroute.%I (LIKE leadroute.entries INCLUDING DEFAULTS INCLUDING STORAGE INCLUDING COMMENTS)', partition_name);
        -- Indexes of the partition alone: those of the whole record would be there, from the attaching, before a dump makes them.
        -- Hardly a value comes twice: looking for duplicates before each split of a page is in vain.
        EXECUTE format('CREATE INDEX %I ON leadroute.%I (run_id) WITH (deduplicate_items = off)', partition_name || '_run_id', partition_name);
        EXECUTE format('CREATE INDEX %I ON leadroute.%I (lead_id) WITH (deduplicate_items = off)', partition_name || '_lead_id', partition_name);
        EXECUTE format('ALTER TABLE leadroute.entries ATTACH PARTITION leadroute.%I FOR VALUES FROM (%L) TO (%L)', partition_name,
                       first_day::text || ' 00:00:00+00', next_first::text || ' 00:00:00+00');
        -- Readers go through the record; default privileges open its parts to nobody.
        FOR reader IN
            SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
            FROM pg_class c, aclexplode(c.relacl) a
            WHERE c.oid = format('leadroute.%I', partition_name)::regclass AND a.grantee <> c.relowner
        LOOP
            EXECUTE format('REVOKE ALL ON leadroute.%I FROM %s CASCADE', partition_name, reader);
        END LOOP;
    END IF;
    RETURN format('leadroute.%I', partition_name)::regclass;
END $$;
COMMENT ON FUNCTION leadroute.make_entry_partition(timestamptz) IS
    'Makes the monthly partition (UTC) of the record that holds a moment, if it is missing; returns it. The writer calls it when it needs one.';

CREATE FUNCTION leadroute.make_partitions_ahead(months integer DEFAULT 3) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF months NOT BETWEEN 0 AND 120 THEN
        RAISE invalid_parameter_value USING MESSAGE = format('%s months is out of range', months), HINT = 'Give 0 to 120.';
    END IF;
    PERFORM leadroute.make_entry_partition(clock_timestamp() + make_interval(months => m)) FROM generate_series(0, months) AS m;
    RETURN months + 1;
END $$;
COMMENT ON FUNCTION leadroute.make_partitions_ahead(integer) IS
    'Makes the record''s partitions of this month and of the given number of months after it; returns how many there are then. pg_cron calls it daily (see schedule_maintenance). Raises 22023.';

CREATE FUNCTION leadroute.schedule_maintenance() RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_cron') THEN
        RAISE NOTICE 'pg_cron is not installed in this database; the writer makes partitions when it needs them';
        RETURN false;
    END IF;
    EXECUTE 'SELECT cron.schedule(''leadroute-partitions'', ''17 3 * * *'', ''SELECT leadroute.make_partitions_ahead()'')';
    EXECUTE 'SELECT cron.schedule(''leadroute-trials'', ''* * * * *'', ''SELECT leadroute.check_trials()'')';
    EXECUTE 'SELECT cron.schedule(''leadroute-overflow'', ''* * * * *'', ''SELECT leadroute.draw_overflow()'')';
    EXECUTE 'SELECT cron.schedule(''leadroute-pending'', ''* * * * *'', ''SELECT leadroute.run_pending()'')';
    RETURN true;
END $$;
COMMENT ON FUNCTION leadroute.schedule_maintenance() IS
    'Schedules with pg_cron what is periodic: partitions of the record made ahead, daily; trials ended that crossed a bound, leads drawn from overflows, and what waits for workers done (run_pending), every minute. Where background workers run they do all of it sooner. Returns whether pg_cron is there; without it the writer makes partitions when it needs them.';

CREATE FUNCTION leadroute.entry_evidence(evidence bytea, policy_version_id integer) RETURNS jsonb
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_entry_evidence';
COMMENT ON FUNCTION leadroute.entry_evidence(bytea, integer) IS
    'Unfolds the evidence of an entry: an object with attributes (plain ones by value, others as {"digest", "class"}), unreadable (an attribute that could not be read in its type, if there was one), flags (those that the policy version reads, with their values, if it reads any), and steps (those of entry_steps(), without digests and times). policy_version_id: that of the entry. Raises XX001 if it is damaged.';

CREATE FUNCTION leadroute.entry_steps(evidence bytea, policy_version_id integer)
    RETURNS TABLE (step_no integer, capability text, agent text, agent_version text, model text, status text, sqlstate text, place text,
                   input_digest text, output jsonb, confidence real, duration_us real, attempts jsonb)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED ROWS 5 SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_entry_steps';
COMMENT ON FUNCTION leadroute.entry_steps(bytea, integer) IS
    'Unfolds the steps of an entry, a row each. policy_version_id: that of the entry. status: done, failed, skipped, waiting (for an executor, an agent outside, or attributes), blocked (by steps before it that wait). sqlstate and place: of a failure. input_digest: SHA-256, in hex, over what the record holds of the step''s inputs. output: what the agent gave. confidence: 0 to 1. duration_us: microseconds. attempts: of a step that was done outside of the transaction, an object: who did it (by), the attempts that failed, the fallback, the model, telemetry; of a step that is held, until when. Raises XX001 if it is damaged.';

CREATE FUNCTION leadroute.entry_tier(evidence bytea, policy_version_id integer) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_entry_tier';
COMMENT ON FUNCTION leadroute.entry_tier(bytea, integer) IS
    'Returns the tier that computeLeadScore gave, from the evidence of an entry; null if it gave none. policy_version_id: that of the entry. Raises XX001 if it is damaged.';

CREATE VIEW leadroute.decisions AS
    SELECT e.run_id AS decision_id, e.lead_id, t.relation_name AS leads_table, e.as_of, e.outcome, e.reason_code,
           o.reference AS owner, p.name AS pool, r.rule ->> 'name' AS rule, e.score,
           y.name AS policy, v.version AS policy_version, encode(v.content_hash, 'hex') AS policy_hash,
           CASE e.cause WHEN 'i' THEN 'insert' WHEN 'u' THEN 'update' WHEN 'm' THEN 'manual' WHEN 'p' THEN 'pending' WHEN 'd' THEN 'declined' WHEN 'g' THEN 'merge'
                WHEN 'r' THEN 'reassigned' WHEN 'h' THEN 'overridden' WHEN 'l' THEN 'offboarded' WHEN 'b' THEN 'rerouted' WHEN 'n' THEN 'undone' WHEN 's' THEN 'sla' WHEN 'v' THEN 'overflow' END AS cause,
           CASE e.mode WHEN 'r' THEN 'routed' WHEN 'c' THEN 'canary' WHEN 's' THEN 'shadow' WHEN 'o' THEN 'observed' END AS mode, e.note, e.routed_by::text AS routed_by, e.turn,
           coalesce(s.run_id = e.run_id AND s.outcome = e.outcome, false) AS current, e.supersedes,
           CASE WHEN s.run_id IS DISTINCT FROM e.run_id THEN
               (SELECT n.run_id FROM leadroute.entries n WHERE n.lead_id = e.lead_id AND n.supersedes = e.run_id LIMIT 1) END AS superseded_by,
           e.duration_us,
           x.engine, x.server, x.libc, x."collation", x.tzdata
    FROM leadroute.entries e
    JOIN leadroute.policy_versions v USING (policy_version_id)
    JOIN leadroute.policies y USING (policy_id)
    LEFT JOIN leadroute.policy_rules r ON r.policy_version_id = e.policy_version_id AND r.rule_no = e.rule_no
    LEFT JOIN leadroute.attached_tables t USING (source_id)
    LEFT JOIN leadroute.lead_states s USING (lead_id)
    LEFT JOIN leadroute.owners o ON o.owner_id = e.owner_id
    LEFT JOIN leadroute.pools p ON p.pool_id = e.pool_id
    LEFT JOIN leadroute.environments x USING (environment_id)
    WHERE e.outcome <> 'pending' OR e.reason_code = 'overflow';
COMMENT ON VIEW leadroute.decisions IS 'Every decision ever made, a row each, and every time a lead was kept in an overflow (outcome pending); current marks the one that holds, superseded_by names the one that replaced it. Also what shadows would have decided: mode tells.';
COMMENT ON COLUMN leadroute.decisions.decision_id IS 'The run''s id.';
COMMENT ON COLUMN leadroute.decisions.leads_table IS 'The lead''s table, by its name when it was attached.';
COMMENT ON COLUMN leadroute.decisions.as_of IS 'The moment of the decision.';
COMMENT ON COLUMN leadroute.decisions.reason_code IS 'Why this outcome: see docs/pipeline.md.';
COMMENT ON COLUMN leadroute.decisions.owner IS 'The owner''s reference; null unless the outcome is assigned.';
COMMENT ON COLUMN leadroute.decisions.pool IS 'The pool of the rule that decided; null if the rule leads to none.';
COMMENT ON COLUMN leadroute.decisions.rule IS 'The name of the rule that decided; null if none did.';
COMMENT ON COLUMN leadroute.decisions.score IS 'What computeLeadScore gave; null if that step was not done.';
COMMENT ON COLUMN leadroute.decisions.policy_hash IS 'SHA-256 of the policy version, in hex.';
COMMENT ON COLUMN leadroute.decisions.cause IS 'insert, update, manual, pending (route_pending), declined, offboarded, rerouted, overflow (drawn from it), merge (merge_leads); reassigned, overridden and undone (undo_reroute) are decisions of a person; sla: the ladder of an SLA moved the lead.';
COMMENT ON COLUMN leadroute.decisions.mode IS 'routed; canary: by the candidate of a trial; observed: beside another router, that acts; shadow: what a candidate would have decided, no decision of the lead.';
COMMENT ON COLUMN leadroute.decisions.note IS 'The reason that was given with route_lead() or route_leads().';
COMMENT ON COLUMN leadroute.decisions.routed_by IS 'The user whose statement it was.';
COMMENT ON COLUMN leadroute.decisions.turn IS 'The turn drawn from the pool''s sequence; of modes shadow and observed none was drawn: it is that of the decision beside it, or one that the lead''s id names.';
COMMENT ON COLUMN leadroute.decisions.current IS 'True for the decision that holds, also after the lead was closed.';
COMMENT ON COLUMN leadroute.decisions.supersedes IS 'The decision that it replaced; null for a lead''s first.';
COMMENT ON COLUMN leadroute.decisions.superseded_by IS 'The decision that replaced it.';
COMMENT ON COLUMN leadroute.decisions.duration_us IS 'Microseconds; in a statement with many leads each has its share.';
COMMENT ON COLUMN leadroute.decisions.engine IS 'Of the environment: leadroute and its version.';
COMMENT ON COLUMN leadroute.decisions.server IS 'Of the environment: PostgreSQL and its version.';
COMMENT ON COLUMN leadroute.decisions.libc IS 'Of the environment: versions of glibc and libidn2.';
COMMENT ON COLUMN leadroute.decisions."collation" IS 'Of the environment: the version of the database''s collation.';
COMMENT ON COLUMN leadroute.decisions.tzdata IS 'Of the environment: the release of the time zone data.';

CREATE VIEW leadroute.provenance AS
    SELECT e.run_id AS decision_id, e.lead_id, e.as_of, s.step_no, s.capability, s.agent, s.agent_version, s.model, s.status, s.sqlstate, s.place,
           s.input_digest, s.output, s.confidence, s.duration_us, e.entry_no, s.attempts
    FROM leadroute.entries e, LATERAL leadroute.entry_steps(e.evidence, e.policy_version_id) s;
COMMENT ON VIEW leadroute.provenance IS 'Every step of every entry of the record, a row each: which agent version read what and gave what. A run that waited has several entries.';
COMMENT ON COLUMN leadroute.provenance.decision_id IS 'The run''s id.';
COMMENT ON COLUMN leadroute.provenance.as_of IS 'The moment of the decision.';
COMMENT ON COLUMN leadroute.provenance.step_no IS 'Place in the policy, from 1.';
COMMENT ON COLUMN leadroute.provenance.agent IS 'The agent''s name in the registry.';
COMMENT ON COLUMN leadroute.provenance.model IS 'The document that the step used, as name@version; null if it uses none.';
COMMENT ON COLUMN leadroute.provenance.status IS 'done, failed, skipped (the run had ended, a step that it needs was not done, its flag was off, or its condition did not hold), waiting, or blocked by steps that wait.';
COMMENT ON COLUMN leadroute.provenance.entry_no IS 'Which entry of the run, from 1; the last one is the decision.';
COMMENT ON COLUMN leadroute.provenance.attempts IS 'Of a step that was done outside of the transaction: who did it, attempts that failed, fallback, model, telemetry; otherwise null.';
COMMENT ON COLUMN leadroute.provenance.sqlstate IS 'Of a failure: what was raised.';
COMMENT ON COLUMN leadroute.provenance.place IS 'Of a failure: what raised it, a code or a name of the policy''s.';
COMMENT ON COLUMN leadroute.provenance.input_digest IS 'SHA-256, in hex, over what the record holds of the step''s inputs; null of a skipped step.';
COMMENT ON COLUMN leadroute.provenance.output IS 'What the agent gave; null unless done.';
COMMENT ON COLUMN leadroute.provenance.confidence IS '0 to 1: 1 of built-in agents, otherwise what the agent says.';
COMMENT ON COLUMN leadroute.provenance.duration_us IS 'Microseconds; in a statement with many leads each has its share.';

-- What people did with leads. Append-only.
CREATE SEQUENCE leadroute.lead_act_ids;
COMMENT ON SEQUENCE leadroute.lead_act_ids IS 'Ids of lead acts; of one lead in the order in which they were done.';
CREATE TABLE leadroute.lead_acts (
    act_id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_act_ids'),
    lead_id bigint NOT NULL,
    run_id bigint,
    new_run_id bigint,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    effective_at timestamptz,
    batch_id bigint,
    owner_id integer,
    by_user regrole NOT NULL,
    act text NOT NULL CHECK (act IN ('accept', 'decline', 'respond', 'close', 'reopen', 'reassign', 'override', 'offboard', 'reroute', 'undo_reroute',
        'remind', 'notify', 'breach', 'sla_reassign', 'sla_escalate')),
    reason text
);
CREATE INDEX lead_acts_lead_id ON leadroute.lead_acts (lead_id);
CREATE INDEX lead_acts_batch_id ON leadroute.lead_acts (batch_id) WHERE batch_id IS NOT NULL;
COMMENT ON TABLE leadroute.lead_acts IS 'What was done with leads once they were routed, by people and by the ladders of SLAs: who, when, why. Append-only; lead_timeline shows it among the decisions.';
COMMENT ON COLUMN leadroute.lead_acts.act_id IS 'Ascends in the order in which one lead''s acts were done.';
COMMENT ON COLUMN leadroute.lead_acts.lead_id IS 'The lead.';
COMMENT ON COLUMN leadroute.lead_acts.run_id IS 'The decision that held.';
COMMENT ON COLUMN leadroute.lead_acts.new_run_id IS 'The decision that it led to; null if it led to none, and of decline: there it is the one that supersedes run_id.';
COMMENT ON COLUMN leadroute.lead_acts.at IS 'When it was done.';
COMMENT ON COLUMN leadroute.lead_acts.effective_at IS 'Of respond: when the response was.';
COMMENT ON COLUMN leadroute.lead_acts.batch_id IS 'Of reroute and undo_reroute: the batch.';
COMMENT ON COLUMN leadroute.lead_acts.owner_id IS 'Who had the lead; null if nobody had.';
COMMENT ON COLUMN leadroute.lead_acts.by_user IS 'The user whose statement it was.';
COMMENT ON COLUMN leadroute.lead_acts.act IS 'Of people: accept, decline, respond, close, reopen, reassign, override, offboard, reroute or undo_reroute. Of the ladder of an SLA: remind, notify, sla_reassign and sla_escalate; breach: its time ran out.';
COMMENT ON COLUMN leadroute.lead_acts.reason IS 'The reason that was given: of decline a code, of close won or lost, of a ladder the rung, otherwise words without personal data; null for none.';

CREATE VIEW leadroute.lead_timeline AS
    SELECT e.lead_id, e.as_of AS at, CASE WHEN e.mode = 's' THEN 'decided in the shadow' WHEN e.outcome = 'pending' AND e.reason_code <> 'overflow' THEN 'waiting'
               WHEN e.supersedes IS NULL AND e.cause NOT IN ('r', 'h', 'n') THEN 'routed'
               WHEN e.cause = 'r' THEN 'reassigned' WHEN e.cause = 'h' THEN 'overridden' WHEN e.cause = 'n' THEN 'put back' WHEN e.cause = 's' THEN 'moved by its SLA' ELSE 'routed again' END AS event, e.run_id AS decision_id,
           e.outcome, e.reason_code, o.reference AS owner, e.routed_by::text AS by_user, e.note, CASE e.mode WHEN 'r' THEN 'routed' WHEN 'c' THEN 'canary' WHEN 's' THEN 'shadow' WHEN 'o' THEN 'observed' END AS mode
    FROM leadroute.entries e LEFT JOIN leadroute.owners o USING (owner_id)
    UNION ALL
    SELECT s.lead_id, s.closed_at, 'closed', s.run_id, s.outcome, s.closed_reason, NULL, s.changed_by::text, NULL, NULL
    FROM leadroute.lead_states s WHERE s.closed_at IS NOT NULL AND s.closed_reason IS DISTINCT FROM 'merged'
    UNION ALL
    SELECT CASE e.event WHEN 'took over' THEN m.survivor_lead_id ELSE m.merged_lead_id END, CASE e.event WHEN 'changed, not routed' THEN m.changed_at ELSE m.merged_at END,
           e.event, NULL, NULL, CASE e.event WHEN 'took over' THEN format('lead %s', m.merged_lead_id) ELSE format('into lead %s', m.survivor_lead_id) END, NULL,
           CASE WHEN e.event <> 'changed, not routed' THEN m.merged_by::text END, m.reason, NULL
    FROM leadroute.lead_merges m CROSS JOIN (VALUES ('merged'), ('took over'), ('changed, not routed')) AS e (event)
    WHERE e.event <> 'changed, not routed' OR m.changed_at IS NOT NULL
    UNION ALL
    SELECT s.lead_id, s.since, 'waiting', NULL, s.outcome, s.reason_code, NULL, s.changed_by::text, NULL, NULL
    FROM leadroute.lead_states s WHERE s.outcome = 'pending' AND s.reason_code <> ALL ('{overflow,waiting,review,paused}')
    UNION ALL
    SELECT a.lead_id, a.at, CASE a.act WHEN 'accept' THEN 'accepted' WHEN 'decline' THEN 'declined' WHEN 'respond' THEN 'responded' WHEN 'close' THEN a.reason
               WHEN 'remind' THEN 'reminded' WHEN 'notify' THEN 'told' WHEN 'breach' THEN 'out of time' ELSE 'reopened' END,
           a.run_id, NULL, CASE WHEN a.act = 'decline' THEN a.reason END, o.reference, a.by_user::text, CASE WHEN a.act IN ('reopen', 'remind', 'notify') THEN a.reason END, NULL
    FROM leadroute.lead_acts a LEFT JOIN leadroute.owners o USING (owner_id) WHERE a.act IN ('accept', 'decline', 'respond', 'close', 'reopen', 'remind', 'notify', 'breach');
COMMENT ON VIEW leadroute.lead_timeline IS 'What happened to each lead, in order of at.';
COMMENT ON COLUMN leadroute.lead_timeline.event IS 'routed, routed again, decided in the shadow (by a candidate, acted on by nobody), waiting, merged (into another lead, which replaces it), took over (another lead), changed, not routed (of a merged lead), or closed (its row went); of people: accepted, declined, responded, won, lost, reopened, reassigned, overridden, put back; of the ladder of an SLA: reminded, told, out of time, moved by its SLA.';
COMMENT ON COLUMN leadroute.lead_timeline.decision_id IS 'The run''s id; of a closed lead its last, of an act the one that held.';
COMMENT ON COLUMN leadroute.lead_timeline.reason_code IS 'Why; of a closed lead, why it was closed; of a declined one, the code that was given.';
COMMENT ON COLUMN leadroute.lead_timeline.owner IS 'The owner''s reference; of an act, who had the lead.';
COMMENT ON COLUMN leadroute.lead_timeline.by_user IS 'The user whose statement it was.';
COMMENT ON COLUMN leadroute.lead_timeline.mode IS 'routed, canary, observed or shadow, as in decisions; null where nothing was decided.';
COMMENT ON COLUMN leadroute.lead_timeline.note IS 'The reason that was given by who routed or decided.';

CREATE FUNCTION leadroute.recompute_decision(decision_id bigint) RETURNS TABLE (recorded jsonb, recomputed jsonb, environment jsonb, unavailable text[])
    LANGUAGE c STABLE STRICT ROWS 1 SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_recompute_decision';
COMMENT ON FUNCTION leadroute.recompute_decision(bigint) IS
    'Decides a past run again from its record, in memory: the same policy version, as_of, pool members and turn; attributes that are not plain from the lead''s row where their digest still fits. Returns both decisions unfolded, the present environment, and the attributes that are not to be had any more: steps that read them keep their recorded output. Raises 42704 if there is no such decision.';

CREATE FUNCTION leadroute.differences(path text, recorded jsonb, recomputed jsonb) RETURNS TABLE (place text, was jsonb, now jsonb)
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    key text;
BEGIN
    IF recorded IS NOT DISTINCT FROM recomputed THEN
        RETURN;
    ELSIF jsonb_typeof(recorded) = 'object' AND jsonb_typeof(recomputed) = 'object' THEN
        FOR key IN SELECT k FROM (SELECT jsonb_object_keys(recorded) UNION SELECT jsonb_object_keys(recomputed)) AS u (k) ORDER BY k COLLATE "C" LOOP
            RETURN QUERY SELECT * FROM leadroute.differences(path || CASE WHEN path = '' THEN '' ELSE '.' END || key, recorded -> key, recomputed -> key);
        END LOOP;
    ELSIF jsonb_typeof(recorded) = 'array' AND jsonb_typeof(recomputed) = 'array' THEN
        FOR i IN 0 .. greatest(jsonb_array_length(recorded), jsonb_array_length(recomputed)) - 1 LOOP
            RETURN QUERY SELECT * FROM leadroute.differences(path || '[' || i || ']', recorded -> i, recomputed -> i);
        END LOOP;
    ELSE
        RETURN QUERY SELECT path, recorded, recomputed;
    END IF;
END $$;
COMMENT ON FUNCTION leadroute.differences(text, jsonb, jsonb) IS 'Returns where two JSON values differ, a row a place, with both values; no row if they are equal. path: what the places start with.';

CREATE FUNCTION leadroute.verify_decision(decision_id bigint) RETURNS TABLE (verdict text, place text, recorded jsonb, recomputed jsonb)
    LANGUAGE plpgsql STABLE STRICT ROWS 2 SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    again record;
    same boolean := true;
    difference record;
BEGIN
    SELECT * INTO again FROM leadroute.recompute_decision(decision_id);
    FOR difference IN SELECT d.place, d.was, d.now FROM leadroute.differences('', again.recorded - 'environment', again.recomputed) d LOOP
        same := false;
        verdict := 'different'; place := difference.place; recorded := difference.was; recomputed := difference.now;
        RETURN NEXT;
    END LOOP;
    FOR difference IN SELECT d.place, d.was, d.now FROM leadroute.differences('environment', again.recorded -> 'environment', again.environment) d LOOP
        verdict := 'environment'; place := difference.place; recorded := difference.was; recomputed := difference.now;
        RETURN NEXT;
    END LOOP;
    FOREACH place IN ARRAY again.unavailable LOOP
        verdict := 'unavailable'; recorded := NULL; recomputed := NULL;
        RETURN NEXT;
    END LOOP;
    IF same THEN
        verdict := 'identical'; place := NULL; recorded := NULL; recomputed := NULL;
        RETURN NEXT;
    END IF;
END $$;
COMMENT ON FUNCTION leadroute.verify_decision(bigint) IS
    'Decides a past run again from its record and compares. A row identical if the same came out; otherwise a row different for each place, with both values. Beside these: a row environment for each version that is another one now; a row unavailable for each attribute that the lead no longer has as it was, whose steps keep their recorded output. No row for null. Raises 42704 if there is no such decision.';

CREATE FUNCTION leadroute.explain_decision(decision_id bigint) RETURNS SETOF text
    LANGUAGE plpgsql STABLE ROWS 15 SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    d record;
    s record;
    reason jsonb;
    members text;
    detail text;
    known bigint;
    by_person boolean;
BEGIN
    SELECT v.*, e.pool_revision_id, e.rule_no, e.owner_id, r.rule ->> 'when' AS condition, e.evidence, e.policy_version_id,
           leadroute.entry_evidence(e.evidence, e.policy_version_id) -> 'flags' AS flags, w.frame -> 'steps' AS step_documents
    INTO d
    FROM leadroute.decisions v
    JOIN leadroute.entries e ON e.run_id = v.decision_id AND e.as_of = v.as_of
    JOIN leadroute.policy_versions w ON w.policy_version_id = e.policy_version_id
    LEFT JOIN leadroute.policy_rules r ON r.policy_version_id = e.policy_version_id AND r.rule_no = e.rule_no
    WHERE v.decision_id = explain_decision.decision_id;
    IF NOT FOUND THEN
        RAISE undefined_object USING MESSAGE = format('decision %s does not exist', decision_id), HINT = 'See the column decision_id of leadroute.decisions.';
    END IF;

    by_person := d.cause IN ('reassigned', 'overridden', 'undone', 'sla');
    RETURN NEXT format('Decision %s: lead %s %s %s.', d.decision_id, d.lead_id,
        CASE WHEN d.mode IN ('shadow', 'observed') THEN 'would have been' ELSE 'was' END,
        CASE d.outcome
            WHEN 'assigned' THEN CASE WHEN d.cause = 'sla' THEN format('given to %s, of pool %s', d.owner, d.pool) WHEN by_person THEN format('given to %s by a person', d.owner)
                ELSE format('assigned to %s, %s pool %s', d.owner, CASE WHEN d.turn IS NULL THEN 'for' ELSE 'in the rotation of' END, d.pool) END
            WHEN 'pending' THEN format('kept for pool %s', d.pool)
            WHEN 'nurture' THEN 'set aside for nurturing' WHEN 'rejected' THEN 'rejected'
            WHEN 'no_rule' THEN 'given to nobody' WHEN 'quarantined' THEN 'quarantined for a person to look at' ELSE d.outcome::text END);
    RETURN NEXT format('When and how: %s UTC, by version %s of policy %s, on %s%s.', to_char(d.as_of AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS'),
        d.policy_version, d.policy,
        CASE d.cause WHEN 'insert' THEN 'insertion' WHEN 'update' THEN 'a change of the lead' WHEN 'pending' THEN 'catching up' WHEN 'declined' THEN 'being declined'
            WHEN 'merge' THEN 'a merge of leads' WHEN 'offboarded' THEN 'the leaving of its owner' WHEN 'rerouted' THEN 'request, with others' WHEN 'overflow' THEN 'leaving the overflow' WHEN 'sla' THEN 'the ladder of its SLA' ELSE 'request' END,
        CASE WHEN d.note IS NULL THEN '' ELSE format(' (%s)', d.note) END
        || CASE d.mode WHEN 'canary' THEN ', as the candidate of a canary' WHEN 'shadow' THEN ', as a candidate in the shadow: nothing acted on it'
                       WHEN 'observed' THEN ', beside another router: nothing acted on it' ELSE '' END);
    RETURN NEXT CASE d.reason_code
        WHEN 'reassigned' THEN 'Why: a person gave it to another owner; no step ran.'
        WHEN 'overridden' THEN 'Why: a person overrode the decision before; no step ran.'
        WHEN 'undone' THEN 'Why: a person put back what a batch had moved; no step ran.'
        WHEN 'sla_reassigned' THEN format('Why: it was not seen to in time, and the ladder of rule %s gave it to somebody else; no step ran.', quote_literal(d.rule))
        WHEN 'sla_escalated' THEN format('Why: it was not seen to in time, and the ladder of its SLA gave it to pool %s; no step ran.', d.pool)
        WHEN 'rule_matched' THEN format('Why: rule %s holds: %s', quote_literal(d.rule), d.condition)
        WHEN 'merged' THEN 'Why: it had no owner, and took over that of a lead that was merged into it. The steps are those of the decision before.'
        WHEN 'invalid_contact' THEN 'Why: it cannot be reached: no usable e-mail address or phone number.'
        WHEN 'contact_not_permitted' THEN 'Why: the rules of its jurisdiction permit contact on no channel.'
        WHEN 'no_rule_matched' THEN 'Why: no rule of the policy holds for it.'
        WHEN 'overflow' THEN format('Why: rule %s leads to pool %s, where nobody could take it; it waits in the overflow.', quote_literal(d.rule), d.pool)
        WHEN 'no_skilled_member' THEN format('Why: rule %s leads to pool %s, where nobody has the skills that it asks for.', quote_literal(d.rule), d.pool)
        WHEN 'no_available_member' THEN format('Why: rule %s leads to pool %s, where nobody was available.', quote_literal(d.rule), d.pool)
        WHEN 'agent_failed' THEN 'Why: an agent failed for it; see the step below.'
        WHEN 'unreadable_attribute' THEN format('Why: its %s cannot be read in the attribute''s type (SQLSTATE %s).',
            leadroute.entry_evidence(d.evidence, d.policy_version_id) #>> '{unreadable,attribute}',
            leadroute.entry_evidence(d.evidence, d.policy_version_id) #>> '{unreadable,sqlstate}')
        ELSE CASE WHEN d.rule IS NULL THEN format('Why: %s.', d.reason_code) ELSE format('Why: rule %s holds (%s): %s', quote_literal(d.rule), d.reason_code, d.condition) END
        END;

    SELECT (a.output #>> '{preferred,lead_id}')::bigint INTO known FROM leadroute.entry_steps(d.evidence, d.policy_version_id) a
    WHERE a.capability = 'assignOwner' AND a.output #>> '{preferred,reason}' = 'known_person' AND d.outcome = 'assigned' AND d.cause <> 'merge'
      AND EXISTS (SELECT FROM leadroute.decision_candidates(d.decision_id) c WHERE c.verdict = 'known_person');
    IF known IS NOT NULL THEN
        RETURN NEXT format('Who: a lead of a person already known: lead %s, %s.', known, coalesce(
            (SELECT format('decided on %s UTC', to_char(b.as_of AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS')) FROM leadroute.entries b
             WHERE b.lead_id = known AND b.owner_id = d.owner_id ORDER BY b.as_of <= d.as_of DESC, b.as_of DESC LIMIT 1),
            'whose record is gone'));
    END IF;
    IF d.flags IS NOT NULL AND NOT by_person THEN
        RETURN NEXT format('Flags: %s.', (SELECT string_agg(format('%s %s', f.key, CASE f.value WHEN 'true' THEN 'on' ELSE 'off' END), ', ' ORDER BY f.key COLLATE "C")
                                          FROM jsonb_each_text(d.flags) f));
    END IF;

    FOR s IN SELECT * FROM leadroute.entry_steps(d.evidence, d.policy_version_id) WHERE NOT by_person LOOP
        detail := CASE
            WHEN s.status = 'skipped' AND d.flags ->> lower(d.step_documents -> (s.step_no - 1) ->> 'flag') = 'false'
                THEN format('not run: flag %s is off', lower(d.step_documents -> (s.step_no - 1) ->> 'flag'))
            WHEN s.status = 'skipped' THEN 'not run: the decision stood already, or a step that it needs was not done'
            WHEN s.status = 'failed' THEN format('failed with SQLSTATE %s%s', s.sqlstate, coalesce(' at ' || s.place, ''))
            WHEN s.capability = 'validateContact' THEN concat_ws(', ', format('contact %s', s.output ->> 'status'), 'e-mail ' || (s.output ->> 'email'),
                (s.output ->> 'email_kind') || ' address', CASE WHEN (s.output ->> 'role_address')::boolean THEN 'of a role' END,
                'phone ' || (s.output ->> 'phone'),
                (SELECT string_agg(p, ', ') FROM jsonb_array_elements_text(s.output -> 'problems') AS p))
            WHEN s.capability = 'checkRegionalCompliance' THEN concat_ws('; ', format('contact %s under the rules of %s', s.output ->> 'status', s.output ->> 'jurisdiction'),
                'open: ' || (SELECT string_agg(c, ', ') FROM jsonb_array_elements_text(s.output -> 'channels') AS c),
                'because: ' || (s.output ->> 'reason'))
            WHEN s.capability = 'enrichWithFirmographicData' THEN concat_ws('; ', s.output ->> 'status',
                'filled: ' || (SELECT string_agg(c, ', ') FROM jsonb_array_elements_text(s.output -> 'filled') AS c))
            WHEN s.capability = 'computeLeadScore' THEN format('score %s%s%s', s.output ->> 'score', coalesce(', tier ' || (s.output ->> 'tier'), ''), ' (from ' || (s.output ->> 'base') || ')')
            WHEN s.capability = 'matchAccount' THEN CASE s.output ->> 'status'
                WHEN 'no_key' THEN 'nothing to look accounts up by' WHEN 'no_match' THEN 'no account'
                ELSE concat_ws('; ', format('account %s (%s) by %s%s', s.output ->> 'account_id', s.output ->> 'type', s.output ->> 'match',
                                            CASE s.output ->> 'status' WHEN 'ambiguous' THEN ', by its lower id only' ELSE '' END),
                    'worked by ' || (SELECT string_agg(format('%s (%s)', coalesce(w.reference, '#' || o.value), o.key), ', ' ORDER BY o.key COLLATE "C")
                                     FROM jsonb_each_text(s.output -> 'owners') o LEFT JOIN leadroute.owners w ON w.owner_id = o.value::integer)) END
            WHEN s.capability = 'assignOwner' THEN concat_ws('; ', coalesce('rule ' || quote_literal(d.rule), CASE d.cause WHEN 'merge' THEN 'see the decision before' ELSE 'no rule holds' END),
                'only one should hold, and rules ' || (SELECT string_agg(h, ', ') FROM jsonb_array_elements_text(s.output -> 'hits') AS h) || ' do',
                'of the account, to be asked first: ' || (SELECT string_agg(coalesce(w.reference, '#' || o.id), ', ' ORDER BY o.n)
                    FROM jsonb_array_elements_text(s.output -> 'account_owners') WITH ORDINALITY AS o (id, n) LEFT JOIN leadroute.owners w ON w.owner_id = o.id::integer),
                (SELECT string_agg(format('rule %s raised %s', x ->> 'rule_no', x ->> 'sqlstate'), ', ') FROM jsonb_array_elements(s.output -> 'errors') AS x))
            ELSE s.output::text END;
        RETURN NEXT format('  %s. %s (%s@%s%s): %s', s.step_no, s.capability, s.agent, s.agent_version, coalesce(', model ' || s.model, ''), detail);
        FOR reason IN SELECT r FROM jsonb_array_elements(s.output -> 'reasons') AS r WHERE (r ->> 'points')::int <> 0 LOOP
            RETURN NEXT format('       %s %s%s', lpad(to_char((reason ->> 'points')::int, 'SG999'), 5), reason ->> 'code', coalesce(': ' || (reason ->> 'because'), ''));
        END LOOP;
        FOR reason IN SELECT c FROM jsonb_array_elements(s.output -> 'candidates') AS c LOOP
            RETURN NEXT '       ' || concat_ws(', ', format('account %s: %s', reason ->> 'account_id', reason ->> 'match'),
                'names alike to ' || (reason ->> 'similarity') || ' %',
                (SELECT string_agg('same ' || replace(a, '_', ' '), ', ') FROM jsonb_array_elements_text(reason -> 'agrees') AS a),
                reason ->> 'type', CASE WHEN (reason ->> 'open_opportunity')::boolean THEN 'open opportunity' END,
                'belongs to account ' || (reason ->> 'ultimate_parent_id'));
        END LOOP;
        IF s.output ? 'more_candidates' OR s.output ? 'not_all_looked_at' THEN
            RETURN NEXT format('       and %s more%s', coalesce(s.output ->> 'more_candidates', 'perhaps'),
                CASE WHEN s.output ? 'not_all_looked_at' THEN '; more than 1,000 accounts share a key: the others were not looked at' ELSE '' END);
        END IF;
    END LOOP;

    IF d.pool_revision_id IS NOT NULL THEN
        SELECT string_agg(format('%s (%s)', coalesce(o.reference, '#' || c.owner_id),
                              CASE WHEN c.verdict = 'taken' AND d.turn IS NOT NULL THEN format('weight %s, whose turn it %s: turn %s', c.weight,
                                            CASE WHEN d.mode IN ('shadow', 'observed') THEN 'would have been' ELSE 'was' END, d.turn)
                                   WHEN c.verdict = 'not_their_turn' THEN format('weight %s', c.weight)
                                   ELSE leadroute.candidate_words(c.verdict, c.per, c.cap_of, c.count, c.maximum, c.number, c.level, c.next_turn) END), ', ' ORDER BY c.of_pool, c.owner_id)
        INTO members
        FROM leadroute.decision_candidates(d.decision_id) c LEFT JOIN leadroute.owners o USING (owner_id);
        RETURN NEXT format('Candidates in pool %s: %s.', d.pool, coalesce(members, 'none'));
    END IF;
    IF d.supersedes IS NOT NULL THEN
        RETURN NEXT format('It supersedes decision %s.', d.supersedes);
    END IF;
    IF NOT d.current AND d.mode <> 'shadow' THEN
        RETURN NEXT format('It no longer holds%s.', coalesce(format(': decision %s superseded it', d.superseded_by), ''));
    END IF;
END $$;
COMMENT ON FUNCTION leadroute.explain_decision(bigint) IS
    'Says in plain language, a line a row, how a decision came about: outcome, rule, every step with its evidence, the points, and every candidate with the reason. Raises 42704 if there is no such decision.';
