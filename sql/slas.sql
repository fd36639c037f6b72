-- slas: the clocks of leads, and the ladders that are climbed when nothing happens.
--
-- What a rule promises is in its member sla: see docs/policy.md. A clock is written by the transaction that assigns the lead, under the lock of
-- the lead's state; fire_sla_timers() does what is due.

CREATE TABLE leadroute.sla_clocks (
    lead_id bigint PRIMARY KEY,
    run_id bigint NOT NULL,
    started_at timestamptz,
    due_at timestamptz,
    next_at timestamptz,
    policy_version_id integer NOT NULL,
    rule_no integer NOT NULL,
    owner_id integer NOT NULL,
    rung smallint NOT NULL DEFAULT 0,
    moves smallint NOT NULL DEFAULT 0,
    failures smallint NOT NULL DEFAULT 0,
    start_on "char" NOT NULL,
    stop_on "char" NOT NULL,
    working boolean NOT NULL,
    breached boolean NOT NULL DEFAULT false
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 2000);
CREATE INDEX sla_clocks_next_at ON leadroute.sla_clocks (next_at) WHERE next_at IS NOT NULL;
COMMENT ON TABLE leadroute.sla_clocks IS 'Clocks that run, one a lead. One goes when what it waits for has happened; one whose lead was decided otherwise since, or is gone, when it is due.';
COMMENT ON COLUMN leadroute.sla_clocks.lead_id IS 'The lead.';
COMMENT ON COLUMN leadroute.sla_clocks.run_id IS 'The decision that it belongs to: where another one holds, it counts no more.';
COMMENT ON COLUMN leadroute.sla_clocks.started_at IS 'When it began; null while it waits for what starts it.';
COMMENT ON COLUMN leadroute.sla_clocks.due_at IS 'When the time has run out; null while it waits for what starts it, infinity if the owner never works again, as far as is known.';
COMMENT ON COLUMN leadroute.sla_clocks.next_at IS 'When something is due next: a rung, or the end; null for nothing.';
COMMENT ON COLUMN leadroute.sla_clocks.policy_version_id IS 'The version of the rule whose clock it is.';
COMMENT ON COLUMN leadroute.sla_clocks.rule_no IS 'The rule''s place in the document, from 0.';
COMMENT ON COLUMN leadroute.sla_clocks.owner_id IS 'Who has the lead.';
COMMENT ON COLUMN leadroute.sla_clocks.rung IS 'How many rungs of the ladder were climbed.';
COMMENT ON COLUMN leadroute.sla_clocks.moves IS 'How often the ladder has moved the lead.';
COMMENT ON COLUMN leadroute.sla_clocks.failures IS 'How often in a row what was due could not be done.';
COMMENT ON COLUMN leadroute.sla_clocks.start_on IS 'What starts it: g assigned, a accepted.';
COMMENT ON COLUMN leadroute.sla_clocks.stop_on IS 'What stops it: r responded, a accepted, c closed.';
COMMENT ON COLUMN leadroute.sla_clocks.working IS 'Whether only the owner''s working time counts.';
COMMENT ON COLUMN leadroute.sla_clocks.breached IS 'Whether it was told that the time has run out.';

CREATE FUNCTION leadroute.start_sla_clock(lead_id bigint, run_id bigint, supersedes bigint, started_at timestamptz, due_at timestamptz, next_at timestamptz,
        policy_version_id integer, rule_no integer, owner_id integer, start_on "char", stop_on "char", working boolean) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    -- The same owner by the same rule: it goes on.
    UPDATE leadroute.sla_clocks c SET run_id = run_id
    WHERE c.lead_id = lead_id AND c.run_id = supersedes AND c.owner_id = owner_id AND c.policy_version_id = policy_version_id AND c.rule_no = rule_no;
    IF FOUND THEN
        RETURN;
    END IF;
    -- What it would wait for may have happened.
    IF EXISTS (SELECT FROM leadroute.lead_states s WHERE s.lead_id = lead_id
               AND CASE stop_on WHEN 'r' THEN s.responded_at IS NOT NULL WHEN 'a' THEN s.accepted_at IS NOT NULL ELSE false END) THEN
        DELETE FROM leadroute.sla_clocks c WHERE c.lead_id = lead_id;
        RETURN;
    END IF;
    INSERT INTO leadroute.sla_clocks AS c (lead_id, run_id, started_at, due_at, next_at, policy_version_id, rule_no, owner_id, start_on, stop_on, working)
        VALUES (lead_id, run_id, started_at, due_at, next_at, policy_version_id, rule_no, owner_id, start_on, stop_on, working)
    ON CONFLICT ON CONSTRAINT sla_clocks_pkey DO UPDATE SET run_id = excluded.run_id, started_at = excluded.started_at, due_at = excluded.due_at, next_at = excluded.next_at,
        policy_version_id = excluded.policy_version_id, rule_no = excluded.rule_no, owner_id = excluded.owner_id, start_on = excluded.start_on,
        stop_on = excluded.stop_on, working = excluded.working, rung = 0, failures = 0, breached = false;
END $$;
COMMENT ON FUNCTION leadroute.start_sla_clock(bigint, bigint, bigint, timestamptz, timestamptz, timestamptz, integer, integer, integer, "char", "char", boolean) IS
    'Starts the clock of a lead that has a state already; with the same owner by the same rule it goes on. Part of recording a decision.';

CREATE FUNCTION leadroute.stop_sla_clock(lead_id bigint, act "char", at timestamptz) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c leadroute.sla_clocks;
BEGIN
    DELETE FROM leadroute.sla_clocks k WHERE k.lead_id = stop_sla_clock.lead_id AND (k.stop_on = act OR act = 'c') RETURNING * INTO c;
    IF FOUND AND c.due_at IS NOT NULL AND EXISTS (SELECT FROM leadroute.lead_states s WHERE s.lead_id = c.lead_id AND s.run_id = c.run_id) THEN
        PERFORM leadroute.emit_event('sla.stopped', c.lead_id, c.run_id, jsonb_build_object('due_at', c.due_at, 'met', at <= c.due_at,
                    'stop', CASE act WHEN 'r' THEN 'lead.responded' WHEN 'a' THEN 'lead.accepted' ELSE 'lead.closed' END), c.owner_id,
                    (SELECT s.pool_id FROM leadroute.lead_states s WHERE s.lead_id = c.lead_id));
    END IF;
END $$;
COMMENT ON FUNCTION leadroute.stop_sla_clock(bigint, "char", timestamptz) IS
    'Stops the clock of a lead, if it waits for that: act is r responded, a accepted, or c closed, which ends every clock. Part of acts.';

CREATE FUNCTION leadroute.tell_sla(kind text, lead_id bigint, run_id bigint, started_at timestamptz, due_at timestamptz, rung integer, reason_code text, to_pool text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s leadroute.lead_states;
BEGIN
    IF NOT leadroute.event_wanted(kind) THEN
        RETURN;
    END IF;
    SELECT * INTO s FROM leadroute.lead_states t WHERE t.lead_id = tell_sla.lead_id;
    PERFORM leadroute.emit_event(kind, lead_id, run_id, jsonb_strip_nulls(jsonb_build_object('due_at', due_at, 'rung', rung, 'to_pool', to_pool,
        'started_at', CASE kind WHEN 'sla.breached' THEN tell_sla.started_at END,
        'from_owner', CASE WHEN kind IN ('sla.reassigned', 'sla.escalated') THEN
            (SELECT o.reference FROM leadroute.lead_acts a JOIN leadroute.owners o USING (owner_id) WHERE a.lead_id = s.lead_id AND a.new_run_id = tell_sla.run_id LIMIT 1) END)),
        s.owner_id, s.pool_id, NULL, reason_code);
END $$;
COMMENT ON FUNCTION leadroute.tell_sla(text, bigint, bigint, timestamptz, timestamptz, integer, text, text) IS 'Writes an event of a clock, if anybody wants it. Part of fire_sla_clocks().';

CREATE FUNCTION leadroute.fire_sla_clocks(lead_ids bigint[]) RETURNS bigint
    LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_fire_sla_clocks';
COMMENT ON FUNCTION leadroute.fire_sla_clocks(bigint[]) IS
    'Does what is due of the clocks of some leads, in the order of their ids; the caller has locked their states. Returns how many rungs and ends that were. Part of fire_sla_timers().';

CREATE FUNCTION leadroute.fire_sla_timers(max integer DEFAULT 100) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    seen timestamptz := '-infinity';
    found bigint[];
    due bigint[];
    lead bigint;
    failed bigint;
    nfailed integer := 0;
    code text;
BEGIN
    -- In a copy of the database somebody else's ladders are climbed.
    IF leadroute.is_copy() THEN
        RETURN 0;
    END IF;
    LOCK TABLE leadroute.lead_states IN ROW EXCLUSIVE MODE;
    LOOP
        -- An array of few, so that however many clocks and states there are, both are found by their indexes.
        SELECT coalesce(array_agg(d.lead_id), '{}'), max(d.next_at) INTO found, seen
        FROM (SELECT c.lead_id, c.next_at FROM leadroute.sla_clocks c WHERE c.next_at > seen AND c.next_at <= moment ORDER BY c.next_at LIMIT fire_sla_timers.max) d;
        IF found = '{}' THEN
            RETURN 0;
        END IF;
        due := ARRAY(SELECT s.lead_id FROM leadroute.lead_states s WHERE s.lead_id = ANY (found) ORDER BY s.lead_id FOR UPDATE SKIP LOCKED);
        -- Whoever has all of these in hand keeps those behind them from nothing.
        EXIT WHEN due <> '{}';
    END LOOP;
    BEGIN
        PERFORM leadroute.fire_sla_clocks(due);
    EXCEPTION WHEN OTHERS THEN
        IF SQLSTATE LIKE '40%' OR SQLSTATE LIKE '53%' OR SQLSTATE LIKE '57%' THEN
            RAISE;
        END IF;
        -- One by one: what cannot be done comes again, later and later, and keeps no other waiting.
        FOREACH lead IN ARRAY due LOOP
            BEGIN
                PERFORM leadroute.fire_sla_clocks(ARRAY[lead]);
            EXCEPTION WHEN OTHERS THEN
                IF SQLSTATE LIKE '40%' OR SQLSTATE LIKE '53%' OR SQLSTATE LIKE '57%' THEN
                    RAISE;
                END IF;
                UPDATE leadroute.sla_clocks c SET failures = least(c.failures + 1, 1000),
                    next_at = clock_timestamp() + least(interval '1 minute' * 2 ^ least(c.failures, 20), interval '1 day')
                WHERE c.lead_id = lead;
                nfailed := nfailed + 1;
                failed := coalesce(failed, lead);
                code := coalesce(code, SQLSTATE);
            END;
        END LOOP;
        IF nfailed > 0 THEN
            RAISE WARNING '% of % clocks could not go on', nfailed, cardinality(due)
                USING ERRCODE = code, DETAIL = format('That of lead %s failed with SQLSTATE %s.', failed, code),
                    HINT = format('See what SELECT leadroute.fire_sla_clocks(ARRAY[%s]) says.', failed);
        END IF;
    END;
    RETURN cardinality(due);
END $$;
COMMENT ON FUNCTION leadroute.fire_sla_timers(integer) IS
    'Does what is due of clocks, those first that are due longest: rungs of ladders, and ends of time, each once and on the record. max: how many leads at most. Leads that somebody has in hand are left for the next time. Does nothing in a database that is a copy: see resume_after_restore(). Background workers call it when a clock is due, and run_pending() does. Returns how many leads it saw to.';

CREATE FUNCTION leadroute.sla_time_left(owner text, due_at timestamptz, working boolean) RETURNS interval
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    RETURN CASE WHEN due_at IS NULL OR owner IS NULL OR NOT isfinite(due_at) THEN NULL WHEN NOT working THEN due_at - now()
        WHEN due_at >= now() THEN leadroute.working_time(owner, now(), due_at) ELSE - leadroute.working_time(owner, due_at, now()) END;
COMMENT ON FUNCTION leadroute.sla_time_left(text, timestamptz, boolean) IS
    'The time until a clock runs out; negative once it has. owner: whose working time counts, if working; null if the owner never works again, as far as is known. Part of the view sla_status.';

CREATE VIEW leadroute.sla_status AS
    SELECT c.lead_id, t.relation_name AS leads_table, o.reference AS owner, p.name AS pool, r.rule ->> 'name' AS rule,
           CASE c.stop_on WHEN 'r' THEN 'lead.responded' WHEN 'a' THEN 'lead.accepted' ELSE 'lead.closed' END AS waits_for,
           CASE WHEN c.working THEN 'working' ELSE 'wall' END AS clock,
           CASE WHEN c.started_at IS NULL THEN 'not started' WHEN c.due_at <= now() THEN 'breached' ELSE 'running' END AS state,
           c.started_at, c.due_at, leadroute.sla_time_left(o.reference, c.due_at, c.working) AS time_left, c.next_at, c.rung, c.moves, c.failures, c.run_id AS decision_id
    FROM leadroute.sla_clocks c
    JOIN leadroute.lead_states s ON s.lead_id = c.lead_id AND s.run_id = c.run_id AND s.closed_at IS NULL AND s.finished_at IS NULL
    LEFT JOIN leadroute.attached_tables t USING (source_id)
    LEFT JOIN leadroute.owners o ON o.owner_id = c.owner_id
    LEFT JOIN leadroute.pools p ON p.pool_id = s.pool_id
    LEFT JOIN leadroute.policy_rules r ON r.policy_version_id = c.policy_version_id AND r.rule_no = c.rule_no;
COMMENT ON VIEW leadroute.sla_status IS 'The clocks that run: what each waits for, and how much time is left, or how much it is past.';
COMMENT ON COLUMN leadroute.sla_status.leads_table IS 'The lead''s table, by its name when it was attached.';
COMMENT ON COLUMN leadroute.sla_status.owner IS 'Who has the lead, by reference.';
COMMENT ON COLUMN leadroute.sla_status.pool IS 'The pool that the lead is in.';
COMMENT ON COLUMN leadroute.sla_status.rule IS 'The rule whose clock it is.';
COMMENT ON COLUMN leadroute.sla_status.waits_for IS 'The event that stops it.';
COMMENT ON COLUMN leadroute.sla_status.clock IS 'wall, or working: only the owner''s working time counts.';
COMMENT ON COLUMN leadroute.sla_status.state IS 'not started, running or breached.';
COMMENT ON COLUMN leadroute.sla_status.time_left IS 'Time until it runs out, of its clock; negative once it has; null while it has not started, or if the owner never works again.';
COMMENT ON COLUMN leadroute.sla_status.next_at IS 'When something is due next; null for nothing.';
COMMENT ON COLUMN leadroute.sla_status.rung IS 'How many rungs were climbed.';
COMMENT ON COLUMN leadroute.sla_status.decision_id IS 'The decision that it belongs to.';
