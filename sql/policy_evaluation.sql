-- policy evaluation: tests of policies, deciding without writing, deciding history again, and rules explained.

CREATE FUNCTION leadroute.evaluate_version(policy_version_id integer, document jsonb, leads jsonb[], indexed boolean)
    RETURNS TABLE (lead_no integer, outcome leadroute.outcome, reason_code text, rule_no integer, rule text, pool text, owner text,
                   score double precision, tier text, steps jsonb, errors jsonb, hits text[])
    LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_evaluate';
COMMENT ON FUNCTION leadroute.evaluate_version(integer, jsonb, jsonb[], boolean) IS
    'What evaluate_policy() does, for many leads, under a version by its id, or, where document is not null, under a document. indexed false: all rules are tried one after the other, which gives the same. lead_no: the place in leads, from 1. rule_no: the place in the document, from 0.';

CREATE FUNCTION leadroute.evaluate_leads(name text, leads jsonb[], version integer DEFAULT NULL)
    RETURNS TABLE (lead_no integer, outcome leadroute.outcome, reason_code text, rule text, pool text, owner text, score double precision,
                   tier text, steps jsonb, errors jsonb, hits text[])
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT e.lead_no, e.outcome, e.reason_code, e.rule, e.pool, e.owner, e.score, e.tier, e.steps, e.errors, e.hits
    FROM leadroute.evaluate_version(leadroute.policy_version_id(name, version), NULL, leads, true) e;
$$;
COMMENT ON FUNCTION leadroute.evaluate_leads(text, jsonb[], integer) IS
    'What evaluate_policy() does, for many leads at once. lead_no: the place in leads, from 1; a null among them is a lead that nothing is known about. Raises 22004 if leads is null, and what evaluate_policy() raises.';

CREATE FUNCTION leadroute.evaluate_policy(name text, lead jsonb, version integer DEFAULT NULL)
    RETURNS TABLE (outcome leadroute.outcome, reason_code text, rule text, pool text, owner text, score double precision, tier text,
                   steps jsonb, errors jsonb, hits text[])
    LANGUAGE sql STABLE ROWS 1 SET search_path = pg_catalog, pg_temp
AS $$
    SELECT e.outcome, e.reason_code, e.rule, e.pool, e.owner, e.score, e.tier, e.steps, e.errors, e.hits
    FROM leadroute.evaluate_version(leadroute.policy_version_id(name, version), NULL, ARRAY[lead], true) e;
$$;
COMMENT ON FUNCTION leadroute.evaluate_policy(text, jsonb, integer) IS
    'Decides about a lead that is given, through all steps of a version, and writes nothing; no turn is drawn. version null: the active one. lead: facts by name: attributes, as_of (otherwise now), and outputs of steps, such as {"country": "DE", "attributes": {"seats": "12"}, "validateContact.status": "valid", "score": 70}; a step of which an output is given, if only null, does not run: its outputs are those that are given. Returns outcome and reason code; the rule that decided, and its pool, in the words of the version''s document; owner, only if the rule names one; score and tier; steps as an array of what entry_evidence() tells of each; errors: the rules that raised before the one that decides, as [{"rule", "sqlstate", "conjunct"}], conjuncts from 0; hits: under hit policy unique, and if there are several, the rules that hold. Raises 22023 for what is no fact or of another type, 22007 for a moment that is none, 25006 for an SQL agent that writes, 42704 and 55000 as policy_document().';

CREATE FUNCTION leadroute.evaluate_document(document jsonb, lead jsonb)
    RETURNS TABLE (outcome leadroute.outcome, reason_code text, rule text, pool text, owner text, score double precision, tier text,
                   steps jsonb, errors jsonb, hits text[])
    LANGUAGE sql STABLE ROWS 1 SET search_path = pg_catalog, pg_temp
AS $$
    SELECT e.outcome, e.reason_code, e.rule, e.pool, e.owner, e.score, e.tier, e.steps, e.errors, e.hits
    FROM leadroute.evaluate_version(NULL, document, ARRAY[lead], true) e;
$$;
COMMENT ON FUNCTION leadroute.evaluate_document(jsonb, jsonb) IS
    'Decides about a lead as evaluate_policy() does, under a policy document that nobody has published: with the agents, scorecards and jurisdictions that it would be published with now. Raises 22023 with every mistake of the document, 22004 if it is null, and what evaluate_policy() raises.';
