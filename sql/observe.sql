-- observe: what goes through, how long it takes, and whether all is accounted for.

CREATE VIEW leadroute.routing_metrics AS
    SELECT date_trunc('minute', e.as_of) AS minute, y.name AS policy, v.version AS policy_version, count(*) AS decisions,
           count(*) / 60.0 AS decisions_per_second,
           count(*) FILTER (WHERE e.outcome = 'assigned') AS assigned,
           count(*) FILTER (WHERE e.outcome = 'nurture') AS nurture,
           count(*) FILTER (WHERE e.outcome = 'rejected') AS rejected,
           count(*) FILTER (WHERE e.outcome = 'no_rule') AS no_rule,
           count(*) FILTER (WHERE e.outcome = 'quarantined') AS quarantined,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY e.duration_us) AS duration_us_median,
           percentile_cont(0.95) WITHIN GROUP (ORDER BY e.duration_us) AS duration_us_p95,
           percentile_cont(0.99) WITHIN GROUP (ORDER BY e.duration_us) AS duration_us_p99
    FROM leadroute.entries e
    JOIN leadroute.policy_versions v USING (policy_version_id)
    JOIN leadroute.policies y USING (policy_id)
    WHERE e.mode <> 's' AND (e.outcome <> 'pending' OR e.reason_code = 'overflow')
    GROUP BY 1, 2, 3;
COMMENT ON VIEW leadroute.routing_metrics IS 'Decisions by minute and policy version: how many, with which outcomes, and the time a lead took, in microseconds. Shadows are left out: see trial_comparison. Reads the whole record, whatever minute is asked for.';
COMMENT ON COLUMN leadroute.routing_metrics.minute IS 'Of as_of.';
COMMENT ON COLUMN leadroute.routing_metrics.decisions_per_second IS 'The mean over the minute.';
COMMENT ON COLUMN leadroute.routing_metrics.duration_us_median IS 'Microseconds a lead.';
COMMENT ON COLUMN leadroute.routing_metrics.duration_us_p95 IS '95th percentile, microseconds a lead.';
COMMENT ON COLUMN leadroute.routing_metrics.duration_us_p99 IS '99th percentile, microseconds a lead.';

CREATE FUNCTION leadroute.reconcile(relation regclass DEFAULT NULL, since timestamptz DEFAULT '-infinity')
    RETURNS TABLE (leads_table text, problem text, lead_id bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t record;
BEGIN
    IF relation IS NOT NULL AND NOT EXISTS (SELECT FROM leadroute.attached_tables a WHERE a.relation = reconcile.relation) THEN
        RAISE object_not_in_prerequisite_state USING MESSAGE = format('table %s is not attached', relation),
            HINT = 'Attach it with leadroute.attach_table().';
    END IF;
    FOR t IN SELECT a.* FROM leadroute.attached_tables a WHERE a.relation IS NOT NULL AND (reconcile.relation IS NULL OR a.relation = reconcile.relation) LOOP
        RETURN QUERY
            WITH lead_rows AS MATERIALIZED (SELECT r.lead_id FROM leadroute.attached_rows(t.relation) r)
            SELECT t.relation_name, CASE WHEN s.lead_id IS NULL THEN 'row without a state' ELSE 'row with a closed state' END, r.lead_id
            FROM lead_rows r LEFT JOIN leadroute.lead_states s ON s.lead_id = r.lead_id AND s.source_id = t.source_id
            WHERE s.lead_id IS NULL OR s.closed_at >= reconcile.since AND s.closed_reason IS DISTINCT FROM 'merged'
            UNION ALL
            SELECT t.relation_name, 'open state without a row', s.lead_id FROM leadroute.lead_states s
            WHERE s.source_id = t.source_id AND s.closed_at IS NULL AND s.since >= reconcile.since
              AND NOT EXISTS (SELECT FROM lead_rows r WHERE r.lead_id = s.lead_id)
            UNION ALL
            SELECT t.relation_name, 'state without its decision', s.lead_id FROM leadroute.lead_states s
            WHERE s.source_id = t.source_id AND s.outcome <> 'pending' AND s.since >= reconcile.since
              AND NOT EXISTS (SELECT FROM leadroute.entries e WHERE e.run_id = s.run_id AND e.lead_id = s.lead_id AND e.mode <> 's' AND e.outcome = s.outcome
                              AND e.owner_id IS NOT DISTINCT FROM s.owner_id)
            UNION ALL
            SELECT t.relation_name, 'decision that neither holds nor was superseded', e.lead_id FROM leadroute.entries e
            WHERE e.source_id = t.source_id AND e.as_of >= reconcile.since AND e.mode <> 's'
              AND NOT EXISTS (SELECT FROM leadroute.lead_states s WHERE s.lead_id = e.lead_id AND s.run_id = e.run_id)
              AND NOT EXISTS (SELECT FROM leadroute.entries n WHERE n.lead_id = e.lead_id AND n.supersedes = e.run_id)
            UNION ALL
            SELECT t.relation_name, 'run with two entries of one number', e.lead_id FROM leadroute.entries e
            WHERE e.source_id = t.source_id AND e.as_of >= reconcile.since GROUP BY e.lead_id, e.run_id, e.entry_no HAVING count(*) > 1
            UNION ALL
            SELECT t.relation_name, 'run that waits for nothing', s.lead_id FROM leadroute.lead_states s
            WHERE s.source_id = t.source_id AND s.outcome = 'pending' AND s.reason_code = 'waiting' AND s.closed_at IS NULL AND s.since >= reconcile.since
              AND NOT EXISTS (SELECT FROM leadroute.tasks k WHERE k.run_id = s.run_id);
    END LOOP;
END $$;
COMMENT ON FUNCTION leadroute.reconcile(regclass, timestamptz) IS
    'Compares rows, states and decisions. relation: one attached table; null for all. since: only states and decisions from then on. Returns what does not agree, a row each with the lead (null where the row''s key has none); no row if all is accounted for. Rows that wait for route_pending() with a state are no problem; rows without one are. Raises 55000 for a table that is not attached.';
