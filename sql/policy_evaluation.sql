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

CREATE FUNCTION leadroute.run_tests(policy_version_id integer, document jsonb, tests jsonb)
    RETURNS TABLE (test text, passed boolean, difference jsonb, rule_no integer)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.test ->> 'name', d.difference IS NULL, d.difference, e.rule_no
    FROM jsonb_array_elements(CASE jsonb_typeof(tests) WHEN 'array' THEN tests ELSE '[]' END) WITH ORDINALITY AS t (test, n)
    JOIN leadroute.evaluate_version(policy_version_id, document,
        (SELECT coalesce(array_agg(x.test -> 'lead' ORDER BY x.n), '{}') FROM jsonb_array_elements(CASE jsonb_typeof(tests) WHEN 'array' THEN tests ELSE '[]' END)
         WITH ORDINALITY AS x (test, n)), false) e ON e.lead_no = t.n
    CROSS JOIN LATERAL
        (SELECT jsonb_object_agg(x.member, jsonb_build_object('expected', x.expected, 'got', g.got -> x.member)) AS difference
         FROM jsonb_build_object('rule', e.rule, 'pool', e.pool, 'owner', e.owner, 'outcome', e.outcome, 'reason', e.reason_code,
                                 'score', e.score, 'tier', e.tier) AS g (got), jsonb_each(t.test -> 'expect') AS x (member, expected)
         WHERE g.got -> x.member <> x.expected) d
    ORDER BY t.n;
$$;
COMMENT ON FUNCTION leadroute.run_tests(integer, jsonb, jsonb) IS
    'Runs tests, an array such as a policy document has, under a version by its id, or, where document is not null, under a document, and without the index. Returns what run_policy_tests() does, and the place of the rule that decided, from 0.';

CREATE FUNCTION leadroute.run_document_tests(document jsonb) RETURNS TABLE (test text, passed boolean, difference jsonb)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    -- a document without tests need not be compiled
    IF jsonb_typeof(run_document_tests.document -> 'tests') = 'array' AND run_document_tests.document -> 'tests' <> '[]' THEN
        RETURN QUERY SELECT t.test, t.passed, t.difference
            FROM leadroute.run_tests(NULL, run_document_tests.document, run_document_tests.document -> 'tests') t;
    END IF;
END $$;
COMMENT ON FUNCTION leadroute.run_document_tests(jsonb) IS
    'Runs the tests of a policy document that nobody has published, as run_policy_tests() does. Returns no row if it has none. Raises 22023 with every mistake of the document, and what evaluate_policy() raises.';

CREATE FUNCTION leadroute.run_policy_tests(name text, version integer DEFAULT NULL) RETURNS TABLE (test text, passed boolean, difference jsonb)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    id integer := leadroute.policy_version_id(run_policy_tests.name, run_policy_tests.version);
BEGIN
    RETURN QUERY SELECT t.test, t.passed, t.difference FROM leadroute.run_tests(id, NULL, leadroute.version_tests(id)) t;
END $$;
COMMENT ON FUNCTION leadroute.run_policy_tests(text, integer) IS
    'Runs the tests that a version was published with; version null: the active one. A test is a lead that is evaluated as by evaluate_policy(), though without the index, and what is expected of it: rule, pool, owner, outcome, reason, score, tier; null expects that there is none, and members that are not given are not compared. Returns a row a test, in the order of the document: its name, whether it passed, and, if it did not, each member that came out otherwise as {"expected", "got"}. Raises 55000 if the tests are no longer those that were published, and what evaluate_policy() raises.';

CREATE FUNCTION leadroute.version_tests(policy_version_id integer) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v record;
BEGIN
    SELECT w.tests, encode(sha256(convert_to(w.tests::text, 'UTF8')), 'hex') AS found, w.frame ->> 'tests' AS published, w.version, p.name INTO v
    FROM leadroute.policy_versions w JOIN leadroute.policies p USING (policy_id) WHERE w.policy_version_id = version_tests.policy_version_id;
    IF v.found IS DISTINCT FROM v.published THEN
        RAISE object_not_in_prerequisite_state USING MESSAGE = format('the tests of version %s of policy "%s" are no longer what was published', v.version, v.name),
            HINT = 'Restore the row of leadroute.policy_versions.';
    END IF;
    RETURN v.tests;
END $$;
COMMENT ON FUNCTION leadroute.version_tests(integer) IS 'The tests of a version by its id; null if it has none. Raises 55000 if they are no longer those that were published.';
