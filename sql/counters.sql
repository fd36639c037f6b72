-- counters: how many leads caps are compared with, as all sessions count them.

-- Before rows change, so that nobody counts them meanwhile: see src/assignment/give_back.c.
CREATE FUNCTION leadroute.give_back() RETURNS trigger
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_give_back';
COMMENT ON FUNCTION leadroute.give_back() IS
    'Trigger of lead_states, before updates and deletes of rows, and on TRUNCATE: a lead that is decided anew, closed, finished or deleted frees its places under caps when the transaction commits. Raises 53400 if there is no room in shared memory.';
CREATE TRIGGER give_back BEFORE UPDATE OR DELETE ON leadroute.lead_states FOR EACH ROW EXECUTE FUNCTION leadroute.give_back();
CREATE TRIGGER give_back_truncate AFTER TRUNCATE ON leadroute.lead_states FOR EACH STATEMENT EXECUTE FUNCTION leadroute.give_back();

CREATE FUNCTION leadroute.make_owner_index() RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_class c WHERE c.relname = 'lead_states_owner_id_since' AND c.relnamespace = 'leadroute'::regnamespace) THEN
        RETURN false;
    END IF;
    CREATE INDEX lead_states_owner_id_since ON leadroute.lead_states (owner_id, since);
    RETURN true;
END $$;
COMMENT ON FUNCTION leadroute.make_owner_index() IS
    'Makes the index lead_states_owner_id_since, by which leads are counted for caps; without it lead_states is read whole. Returns whether it had to be made. Blocks inserts of leads until the transaction ends. The first cap makes it, and the first pool that balances or goes by load; after a restore it is missing.';

CREATE FUNCTION leadroute.need_owner_index() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT leadroute.restoring() THEN
        PERFORM leadroute.make_owner_index();
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION leadroute.need_owner_index() IS 'Trigger of caps and pools: has make_owner_index() make the index that counting needs, but not during a restore.';
CREATE TRIGGER need_owner_index AFTER INSERT OR UPDATE ON leadroute.caps FOR EACH ROW EXECUTE FUNCTION leadroute.need_owner_index();
CREATE TRIGGER need_owner_index AFTER INSERT OR UPDATE ON leadroute.pools FOR EACH ROW
    WHEN (NEW.strategy IN ('balance', 'least_loaded') OR NEW.minutes_per_lead IS NOT NULL) EXECUTE FUNCTION leadroute.need_owner_index();

CREATE FUNCTION leadroute.cap_counters()
    RETURNS TABLE (owner_id integer, pool_id integer, per text, maximum integer, window_start timestamptz, window_end timestamptz, taken bigint)
    LANGUAGE c VOLATILE ROWS 100 SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_cap_counters';
COMMENT ON FUNCTION leadroute.cap_counters() IS
    'Returns each cap, and what is counted for it in the window that it is now: what is committed and what transactions that have not ended have taken. What is not in memory is counted from lead_states. Part of cap_usage().';

CREATE FUNCTION leadroute.cap_usage()
    RETURNS TABLE (owner text, pool text, per text, maximum integer, window_start timestamptz, taken bigint, recounted bigint)
    LANGUAGE sql VOLATILE ROWS 100 SET search_path = pg_catalog, pg_temp
AS $$
    SELECT o.reference, p.name, c.per, c.maximum, c.window_start, c.taken,
           (SELECT CASE c.per WHEN 'open' THEN coalesce(sum(coalesce(s.load, 1)) FILTER (WHERE s.closed_at IS NULL AND s.finished_at IS NULL), 0)
                   ELSE count(*) FILTER (WHERE s.since >= c.window_start AND s.since < c.window_end) END
            FROM leadroute.lead_states s
            WHERE s.outcome = 'assigned' AND s.owner_id IS NOT NULL AND s.load IS DISTINCT FROM 0 AND (c.owner_id IS NULL OR s.owner_id = c.owner_id) AND (c.pool_id IS NULL OR s.pool_id = c.pool_id))
    FROM leadroute.cap_counters() c
    LEFT JOIN leadroute.owners o ON o.owner_id = c.owner_id
    LEFT JOIN leadroute.pools p ON p.pool_id = c.pool_id
    ORDER BY o.reference NULLS LAST, p.name NULLS FIRST, array_position(ARRAY['hour', 'day', 'week', 'month', 'open'], c.per);
$$;
COMMENT ON FUNCTION leadroute.cap_usage() IS
    'Returns each cap with its owner (null: of the pool as a whole), its pool (null: of the owner in all), what it counts per, its maximum, since when its window runs (null per open), what is taken as all sessions count it, transactions that have not ended included, and the same recounted from lead_states, as the caller sees them. The two differ by what runs only.';

CREATE FUNCTION leadroute.recount_caps() RETURNS void
    LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_recount_caps';
COMMENT ON FUNCTION leadroute.recount_caps() IS
    'Has what is counted for caps counted again from lead_states, each cap when it is next needed: after rows of lead_states were changed with triggers switched off. Does nothing where the library is not preloaded: there each transaction counts.';

CREATE FUNCTION leadroute.take_place(owner_id integer, pool_id integer, load smallint, expected_value bigint, at timestamptz) RETURNS void
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_take_place';
COMMENT ON FUNCTION leadroute.take_place(integer, integer, smallint, bigint, timestamptz) IS
    'Takes the place of a lead under the caps of an owner and a pool, whether there is room or not: for what gives a lead to an owner otherwise than by choosing. pool_id: null for none. load: null is 1. expected_value: null is 0. at: the moment of the decision. Nobody but the extension''s owner calls it.';
