-- pauses: keeping leads pending for a while, and letting them go on in order.

CREATE TABLE leadroute.routing_pauses (
    scope text PRIMARY KEY CHECK (scope ~ '^(pool|source|region):.'),
    source_id integer,
    pool_id integer,
    region text,
    reason text NOT NULL,
    paused_at timestamptz NOT NULL DEFAULT now(),
    paused_by name NOT NULL DEFAULT session_user,
    CHECK (num_nonnulls(source_id, pool_id, region) = 1)
);
COMMENT ON TABLE leadroute.routing_pauses IS 'What is paused: leads of a table, of a region, or whose rule leads to a pool stay pending (reason paused). Written by pause_routing() and resume_routing().';
COMMENT ON COLUMN leadroute.routing_pauses.scope IS 'pool:name, source:table, or region:name.';
COMMENT ON COLUMN leadroute.routing_pauses.source_id IS 'The attached table; null unless the scope is one.';
COMMENT ON COLUMN leadroute.routing_pauses.pool_id IS 'The pool; null unless the scope is one.';
COMMENT ON COLUMN leadroute.routing_pauses.region IS 'What the attribute region says; null unless the scope is one.';
COMMENT ON COLUMN leadroute.routing_pauses.reason IS 'Why, as the caller said.';
COMMENT ON COLUMN leadroute.routing_pauses.paused_at IS 'Since when.';
COMMENT ON COLUMN leadroute.routing_pauses.paused_by IS 'Who paused it: the session''s user.';
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.routing_pauses
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();

CREATE FUNCTION leadroute.pause_routing(scope text, reason text) RETURNS boolean
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_pause_routing';
COMMENT ON FUNCTION leadroute.pause_routing(text, text) IS
    'Keeps leads pending, from the next statement of any session on: scope pool:name (leads whose rule leads to the pool), source:table (of an attached table), or region:name (whose attribute region says so). They are listed with the reason code paused. reason: for the record. Returns whether it was not paused before. Raises 22023 for another scope or without a reason, 42704 for a pool or table that there is not.';

CREATE FUNCTION leadroute.resume_routing(scope text, reason text DEFAULT '') RETURNS bigint
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_resume_routing';
COMMENT ON FUNCTION leadroute.resume_routing(text, text) IS
    'Ends a pause, and has the leads that it kept go on, those that wait longest first; other pauses keep theirs. Leads that somebody else has in hand are left to whoever has them, or to the next call. Returns how many leads went on. Where the scope is not paused, it only looks for leads that are left.';
