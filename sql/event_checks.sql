-- event checks: what nobody reports by itself, and what nobody needs any more.

CREATE FUNCTION leadroute.prune_events(max integer DEFAULT 10000) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    n leadroute.event_numbering;
    passed bigint;
    oldest timestamptz;
    upto bigint;
    gone bigint;
BEGIN
    PERFORM leadroute.event_wanted('lead.assigned');    -- loads the library, which knows the settings
    SELECT * INTO n FROM leadroute.event_numbering FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    oldest := clock_timestamp() - current_setting('leadroute.event_retention')::interval;
    passed := coalesce((SELECT min(c.position) FROM leadroute.event_cursors c), n.last_position);
    -- Up to the first that stays: positions are without gaps.
    upto := (SELECT e.position - 1 FROM leadroute.events e WHERE e.position > greatest(passed, n.pruned_position) AND e.at >= oldest ORDER BY e.position LIMIT 1);
    upto := least(coalesce(upto, n.last_position), n.pruned_position + prune_events.max);
    DELETE FROM leadroute.events e WHERE e.position > n.pruned_position AND e.position <= upto;
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN
        UPDATE leadroute.event_numbering SET pruned_position = upto, lost_position = CASE WHEN upto > passed THEN upto ELSE lost_position END;
    END IF;
    DELETE FROM leadroute.event_alerts a
    WHERE a.alert_id = ANY (ARRAY(SELECT b.alert_id FROM leadroute.event_alerts b ORDER BY b.alert_id LIMIT prune_events.max)) AND a.raised_at < oldest;
    RETURN gone;
END $$;
COMMENT ON FUNCTION leadroute.prune_events(integer) IS
    'Deletes events that all consumers have passed, and events and alerts older than leadroute.event_retention. max: how many at a time. Returns how many events went; 0 while another session gives positions.';

CREATE FUNCTION leadroute.fire_event_checks(max integer DEFAULT 1000) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    raised bigint := 0;
    more bigint;
    span interval;
BEGIN
    IF leadroute.event_wanted('run.stuck') THEN
        DELETE FROM leadroute.event_marks m WHERE m.kind = 'run.stuck'
            AND NOT EXISTS (SELECT FROM leadroute.lead_states s WHERE s.lead_id = m.subject AND s.outcome = 'pending' AND s.closed_at IS NULL AND s.since < m.noticed_at);
        WITH stuck AS (
            SELECT s.lead_id FROM leadroute.lead_states s
            WHERE s.outcome = 'pending' AND s.closed_at IS NULL AND s.since < clock_timestamp() - current_setting('leadroute.stuck_after')::interval
                AND NOT EXISTS (SELECT FROM leadroute.event_marks m WHERE m.kind = 'run.stuck' AND m.subject = s.lead_id)
            ORDER BY s.since LIMIT fire_event_checks.max
        ), locked AS MATERIALIZED (
            -- A lead's events are written under its lock; whoever has it in hand now may be deciding it.
            SELECT s.* FROM leadroute.lead_states s WHERE s.lead_id = ANY (ARRAY(SELECT t.lead_id FROM stuck t)) AND s.outcome = 'pending' AND s.closed_at IS NULL
            ORDER BY s.lead_id FOR UPDATE SKIP LOCKED
        ), marked AS (
            INSERT INTO leadroute.event_marks (kind, subject) SELECT 'run.stuck', s.lead_id FROM locked s ON CONFLICT DO NOTHING RETURNING subject
        )
        INSERT INTO leadroute.event_arrivals (kind, lead_id, run_id, source_id, pool_id, reason_code, data)
            SELECT 'run.stuck', s.lead_id, s.run_id, s.source_id, s.pool_id, s.reason_code, jsonb_build_object('since', s.since)
            FROM locked s JOIN marked m ON m.subject = s.lead_id;
        GET DIAGNOSTICS more = ROW_COUNT;
        raised := raised + more;
    END IF;
    IF leadroute.event_wanted('no_rule.rate') THEN
        span := current_setting('leadroute.no_rule_window')::interval;
        WITH latest AS MATERIALIZED (
            -- The latest by their numbers, so that no more is read than that.
            SELECT e.source_id, e.outcome, e.mode, e.as_of FROM leadroute.entries e ORDER BY e.run_id DESC LIMIT 10000
        ), rates AS (
            SELECT l.source_id, count(*) AS decisions, count(*) FILTER (WHERE l.outcome = 'no_rule') AS no_rule FROM latest l
            WHERE l.as_of > clock_timestamp() - span AND l.outcome <> 'pending' AND l.mode IN ('r', 'c') GROUP BY l.source_id
        ), above AS (
            SELECT * FROM rates r WHERE r.decisions >= current_setting('leadroute.no_rule_decisions')::bigint
                AND r.no_rule > current_setting('leadroute.no_rule_rate')::double precision * r.decisions
        ), over AS (
            DELETE FROM leadroute.event_marks m WHERE m.kind = 'no_rule.rate' AND NOT EXISTS (SELECT FROM above a WHERE a.source_id = m.subject)
        ), marked AS (
            INSERT INTO leadroute.event_marks AS m (kind, subject) SELECT 'no_rule.rate', a.source_id FROM above a
            ON CONFLICT ON CONSTRAINT event_marks_pkey DO UPDATE SET noticed_at = excluded.noticed_at WHERE m.noticed_at < excluded.noticed_at - span RETURNING subject
        )
        INSERT INTO leadroute.event_arrivals (kind, source_id, data)
            SELECT 'no_rule.rate', a.source_id, jsonb_build_object('share', round(a.no_rule::numeric / a.decisions, 3), 'decisions', a.decisions, 'no_rule', a.no_rule, 'window', span)
            FROM above a JOIN marked m ON m.subject = a.source_id;
        GET DIAGNOSTICS more = ROW_COUNT;
        raised := raised + more;
    END IF;
    PERFORM leadroute.number_events();
    PERFORM leadroute.prune_events();
    RETURN raised;
END $$;
COMMENT ON FUNCTION leadroute.fire_event_checks(integer) IS
    'Looks for what nobody reports by itself: leads that have been pending for longer than leadroute.stuck_after, and tables in which the share of decisions without a rule is above leadroute.no_rule_rate: each is told once, the share again after each leadroute.no_rule_window. Gives positions, and prunes. The scheduler calls it every minute. max: how many stuck leads at most. Returns how many events it raised.';
