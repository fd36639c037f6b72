-- policy: what is wrong with a document or a version, shown on leads.

CREATE FUNCTION leadroute.analyse_document(document jsonb, budget integer DEFAULT 100000, examples integer DEFAULT 10)
    RETURNS TABLE (finding text, severity text, rule text, other_rule text, occurrences bigint, witness jsonb, detail text, hint text, complete boolean)
    LANGUAGE c STABLE STRICT SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_analyse_document';
COMMENT ON FUNCTION leadroute.analyse_document(jsonb, integer, integer) IS
    'Analyses a policy document without publishing it: rules that never fire, overlaps, gaps, conditions that are always true or false, dead targets, suspicious mixes of AND and OR (see docs/policy.md). budget: how many regions each search may divide. examples: rows of one kind and severity at most; one more row counts the others. Returns a row for each finding: its kind; error, warning or info; the rule, and another one that has to do with it; how many such cases the row stands for; a lead that shows it, as match_rules() takes one, checked by evaluating it; what was found; what to do; whether the search for this kind was complete. A document with mistakes gives these only. Raises 22023 if budget or examples are not positive.';

CREATE FUNCTION leadroute.check_version(policy_version_id integer, budget integer, examples integer)
    RETURNS TABLE (finding text, severity text, rule text, other_rule text, occurrences bigint, witness jsonb, detail text, hint text, complete boolean)
    LANGUAGE c STABLE STRICT SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_check_version';
COMMENT ON FUNCTION leadroute.check_version(integer, integer, integer) IS 'What check_policy() does, for a version by its id.';

CREATE FUNCTION leadroute.check_policy(name text, version integer DEFAULT NULL, budget integer DEFAULT 100000, examples integer DEFAULT 10)
    RETURNS TABLE (finding text, severity text, rule text, other_rule text, occurrences bigint, witness jsonb, detail text, hint text, complete boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.*
    FROM leadroute.policy_version_id(check_policy.name, coalesce(check_policy.version,
        (SELECT max(v.version) FROM leadroute.policy_versions v JOIN leadroute.policies p USING (policy_id) WHERE p.name = check_policy.name))) AS i (id)
    CROSS JOIN leadroute.check_version(i.id, check_policy.budget, check_policy.examples) c;
$$;
COMMENT ON FUNCTION leadroute.check_policy(text, integer, integer, integer) IS
    'Analyses a published version, with the agents, documents and pools that it pins, as analyse_document() does; version null: the newest. Raises 42704 if there is none, 22023 if what it pins is no longer what it was, or if budget or examples are not positive.';
