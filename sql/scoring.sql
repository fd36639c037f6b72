-- scoring: models. The first kind is the points scorecard.

CREATE FUNCTION leadroute.publish_scorecard(name text, document jsonb, reason text) RETURNS integer
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_publish_scorecard';
COMMENT ON FUNCTION leadroute.publish_scorecard(text, jsonb, text) IS
    'Publishes a points scorecard as the next version of that name (see docs/scoring.md). Returns the version number. Policy versions published later pin it. Raises 22023 with every mistake and its place in the detail; an attribute that an attached table protects, and the scorecard reads without a justification, is one.';
