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
    LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_run_tests';
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

CREATE FUNCTION leadroute.backtest_decisions(policy_id integer, policy_version_id integer, document jsonb, since timestamptz, until timestamptz)
    RETURNS TABLE (decision_id bigint, from_version_id integer, from_rule_no integer, from_outcome leadroute.outcome, from_pool_id integer,
                   to_rule_no integer, to_outcome leadroute.outcome, to_pool_id integer, moved boolean, lacks text[])
    LANGUAGE c STABLE ROWS 100000 SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_backtest';
COMMENT ON FUNCTION leadroute.backtest_decisions(integer, integer, jsonb, timestamptz, timestamptz) IS
    'What backtest_policy() counts, a row a decision: decides the current decisions of a policy from since up to, and not with, until again, under a version by its id, or, where document is not null, under a document. to_…: null for a decision that cannot be decided again; lacks then names the attributes, or the capability of an SQL agent, that it would take. moved: to another outcome, or to another pool.';

CREATE FUNCTION leadroute.count_moves(policy_id integer, policy_version_id integer, document jsonb, since timestamptz, until timestamptz)
    RETURNS TABLE (from_outcome leadroute.outcome, from_pool text, from_rule text, to_outcome leadroute.outcome, to_pool text, to_rule text,
                   moved boolean, leads bigint, unavailable bigint, lacks text[], example_decision bigint)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH counted AS (
        SELECT d.from_version_id, d.from_rule_no, d.from_outcome, d.from_pool_id, d.to_rule_no, d.to_outcome, d.to_pool_id, d.moved, d.lacks,
               count(*) AS leads, min(d.decision_id) AS example
        FROM leadroute.backtest_decisions(policy_id, policy_version_id, document, since, until) d
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
    ), rules AS MATERIALIZED (
        SELECT r.rule_no, r.rule FROM leadroute.policy_rules r WHERE document IS NULL AND r.policy_version_id = count_moves.policy_version_id
        UNION ALL
        SELECT x.n::integer - 1, x.rule FROM jsonb_array_elements(document -> 'rules') WITH ORDINALITY AS x (rule, n)
    ), named AS (
        SELECT c.from_outcome, fp.name AS from_pool, fr.rule ->> 'name' AS from_rule, c.to_outcome,
               coalesce(tp.name, 'owner ' || (tr.rule ->> 'owner')) AS to_pool, tr.rule ->> 'name' AS to_rule, c.moved, c.lacks, c.leads, c.example
        FROM counted c
        LEFT JOIN leadroute.policy_rules fr ON fr.policy_version_id = c.from_version_id AND fr.rule_no = c.from_rule_no
        LEFT JOIN leadroute.pools fp ON fp.pool_id = c.from_pool_id
        LEFT JOIN rules tr ON tr.rule_no = c.to_rule_no
        LEFT JOIN leadroute.pools tp ON tp.pool_id = c.to_pool_id
    )
    SELECT n.from_outcome, n.from_pool, n.from_rule, n.to_outcome, n.to_pool, n.to_rule, n.moved, sum(n.leads)::bigint,
           CASE WHEN n.lacks IS NULL THEN 0 ELSE sum(n.leads)::bigint END, n.lacks, min(n.example)
    FROM named n
    GROUP BY n.from_outcome, n.from_pool, n.from_rule, n.to_outcome, n.to_pool, n.to_rule, n.moved, n.lacks
    ORDER BY n.moved DESC NULLS LAST, sum(n.leads) DESC, n.from_outcome, n.from_pool COLLATE "C", n.from_rule COLLATE "C", n.to_outcome, n.to_pool COLLATE "C",
             n.to_rule COLLATE "C", n.lacks;
$$;
COMMENT ON FUNCTION leadroute.count_moves(integer, integer, jsonb, timestamptz, timestamptz) IS 'What backtest_policy() does, for a policy and a version by their ids, or, where document is not null, for a document.';

CREATE FUNCTION leadroute.backtest_policy(name text, candidate integer, since timestamptz, until timestamptz DEFAULT now())
    RETURNS TABLE (from_outcome leadroute.outcome, from_pool text, from_rule text, to_outcome leadroute.outcome, to_pool text, to_rule text,
                   moved boolean, leads bigint, unavailable bigint, lacks text[], example_decision bigint)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT m.*
    FROM leadroute.policy_version_id(name, candidate) AS v (id)
    JOIN leadroute.policy_versions w ON w.policy_version_id = v.id
    CROSS JOIN LATERAL leadroute.count_moves(w.policy_id, v.id, NULL, since, until) m;
$$;
COMMENT ON FUNCTION leadroute.backtest_policy(text, integer, timestamptz, timestamptz) IS
    'Decides history again under a version, candidate (null: the active one), and writes nothing: all current decisions of the policy, under whichever version, with since <= as_of < until, each at the moment and with the attributes that it had; those that people made are left out. Plain attributes come from the record, others from the lead''s row where their digest still fits; what SQL agents and enrichment gave stands as recorded, where the candidate has the same agent version; SQL agents are not called, enrichment that is not on record is looked up as of today. Returns the moves, counted: outcome, pool and rule as they were and as they would be; moved: to another outcome or pool (to the pool where nobody was available then counts as the same); leads; an example by its decision. No turn is drawn: owners are compared only where rules name them, each having a pool of one. Decisions that read what is not to be had any more are not guessed: their rows have no to_… and no moved, unavailable counts them, and lacks names the attributes, or the capability of an SQL agent. Moves come first, the largest first. Raises 42704 and 55000 as policy_document().';

CREATE FUNCTION leadroute.backtest_document(name text, document jsonb, since timestamptz, until timestamptz DEFAULT now())
    RETURNS TABLE (from_outcome leadroute.outcome, from_pool text, from_rule text, to_outcome leadroute.outcome, to_pool text, to_rule text,
                   moved boolean, leads bigint, unavailable bigint, lacks text[], example_decision bigint)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    id integer := (SELECT p.policy_id FROM leadroute.policies p WHERE p.name = backtest_document.name);
BEGIN
    IF id IS NULL THEN
        RAISE undefined_object USING MESSAGE = format('policy "%s" does not exist', backtest_document.name), HINT = 'See leadroute.policies.';
    END IF;
    RETURN QUERY SELECT m.* FROM leadroute.count_moves(id, NULL, coalesce(backtest_document.document, 'null'), backtest_document.since, backtest_document.until) m;
END $$;
COMMENT ON FUNCTION leadroute.backtest_document(text, jsonb, timestamptz, timestamptz) IS
    'Decides the history of a policy again, as backtest_policy() does, under a document that nobody has published. Attributes that the record does not show are read from the rows of those tables only on which the caller has SELECT, and no row-level security; otherwise decisions that read them are unavailable. Raises 42704 if there is no such policy, 22023 with every mistake of the document.';

CREATE FUNCTION leadroute.explain_rule(decision_id bigint, rule text)
    RETURNS TABLE (conjunct_no integer, condition text, truth text, sqlstate text, reads jsonb, note text)
    LANGUAGE c STABLE STRICT ROWS 4 SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_explain_decided_rule';
COMMENT ON FUNCTION leadroute.explain_rule(bigint, text) IS
    'Says why a rule of the version that decided, by its name, held in a decision or did not: a row for each conjunct of its condition, dates of effect included, in the order and with the numbers, from 0, by which errors name them, and a last row, conjunct_no null, for the whole. condition: its text. truth: true, false, null or error, with the SQLSTATE; null where an attribute that it reads is not to be had any more, unless the rule decided: then it was true. reads: what it read, by name: plain attributes, outputs of steps and as_of by value, others as {"class"}, and unavailable if they are gone or changed. note, of the last row: whether the rule decided, which one did instead, whether it is switched off, prerequisites that were not done, or how the run ended before its rules. Values come from the record, as for verify_decision(); the index has no part in it. Raises 42704 if there is no such decision or rule.';

CREATE FUNCTION leadroute.explain_version_rule(policy_version_id integer, rule text, lead jsonb)
    RETURNS TABLE (conjunct_no integer, condition text, truth text, sqlstate text, reads jsonb, note text)
    LANGUAGE c STABLE STRICT ROWS 4 SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_explain_given_rule';
COMMENT ON FUNCTION leadroute.explain_version_rule(integer, text, jsonb) IS 'What explain_rule() does for a lead that is given, under a version by its id.';

CREATE FUNCTION leadroute.explain_rule(name text, version integer, rule text, lead jsonb)
    RETURNS TABLE (conjunct_no integer, condition text, truth text, sqlstate text, reads jsonb, note text)
    LANGUAGE sql STABLE ROWS 4 SET search_path = pg_catalog, pg_temp
AS $$
    SELECT x.* FROM leadroute.explain_version_rule(leadroute.policy_version_id(name, version), rule, lead) x;
$$;
COMMENT ON FUNCTION leadroute.explain_rule(text, integer, text, jsonb) IS
    'Says why a rule holds, or does not, for a lead that is given as for evaluate_policy(), and decided by it; version null: the active one. Returns what explain_rule() does for a decision, every value being shown. Raises 42704 if there is no such rule, and what evaluate_policy() raises.';

CREATE FUNCTION leadroute.rule_coverage(name text, version integer DEFAULT NULL, days integer DEFAULT 30)
    RETURNS TABLE (rule_no integer, rule text, enabled boolean, tests bigint, decisions bigint, decisions_by_version bigint, last_hit timestamptz)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    id integer := leadroute.policy_version_id(rule_coverage.name, rule_coverage.version);
BEGIN
    IF days IS NULL OR days NOT BETWEEN 0 AND 36500 THEN
        RAISE invalid_parameter_value USING MESSAGE = format('%s days are out of range', coalesce(days::text, 'null')), HINT = 'Give 0 to 36500.';
    END IF;
    RETURN QUERY
        WITH tested AS (
            SELECT t.rule_no, count(*) AS n FROM leadroute.run_tests(id, NULL, leadroute.version_tests(id)) t WHERE t.rule_no IS NOT NULL GROUP BY 1
        ), hits AS (
            SELECT e.policy_version_id, e.rule_no, count(*) AS n, max(e.as_of) AS last
            FROM leadroute.entries e
            WHERE e.as_of >= now() - make_interval(days => days) AND e.rule_no IS NOT NULL AND e.mode <> 's'
              AND (e.outcome <> 'pending' OR e.reason_code = 'overflow')
              AND e.policy_version_id IN (SELECT v.policy_version_id FROM leadroute.policy_versions v
                                          WHERE v.policy_id = (SELECT w.policy_id FROM leadroute.policy_versions w WHERE w.policy_version_id = id))
            GROUP BY 1, 2
        ), named AS (
            SELECT r.rule ->> 'name' AS name, sum(h.n) AS n, max(h.last) AS last
            FROM hits h JOIN leadroute.policy_rules r USING (policy_version_id, rule_no) GROUP BY 1
        )
        SELECT r.rule_no, r.rule ->> 'name', coalesce(r.rule -> 'enabled', 'true') <> 'false', coalesce(t.n, 0), coalesce(n.n, 0)::bigint,
               coalesce(h.n, 0), n.last
        FROM leadroute.policy_rules r
        LEFT JOIN tested t ON t.rule_no = r.rule_no
        LEFT JOIN hits h ON h.policy_version_id = id AND h.rule_no = r.rule_no
        LEFT JOIN named n ON n.name = r.rule ->> 'name'
        WHERE r.policy_version_id = id
        ORDER BY r.rule_no;
END $$;
COMMENT ON FUNCTION leadroute.rule_coverage(text, integer, integer) IS
    'Says what hits the rules of a version; version null: the active one. Returns a row for each rule, also for those that are switched off: its place in the document, from 0, its name, whether it is switched on, how many of the version''s tests it decides, how many decisions of the last days it made under any version of the policy, by its name, and how many under this version, superseded ones included and shadows left out, and when it last did in these days. Raises 22023 for days beyond 0 to 36500, 42704 and 55000 as run_policy_tests().';
