-- policy: drafts. A draft is a document taken apart, so that rules are rows that COPY and INSERT … SELECT fill. What the
-- columns cannot hold as the document has it (a null, a member that is not known, a value of another type) stays in
-- others: so each document goes in and comes out the same, mistakes included.

CREATE TABLE leadroute.drafts (
    draft text PRIMARY KEY CHECK (draft <> ''),
    policy text NOT NULL CHECK (policy <> ''),
    based_on_version_id integer,
    frame jsonb NOT NULL CHECK (jsonb_typeof(frame) = 'object' AND (jsonb_typeof(frame -> 'rules') <> 'array' OR frame -> 'rules' = '[]')
                                AND (jsonb_typeof(frame -> 'tests') <> 'array' OR frame -> 'tests' = '[]')),
    authors name[] NOT NULL DEFAULT '{}',
    created_by name NOT NULL DEFAULT session_user,
    created_at timestamptz NOT NULL DEFAULT now(),
    changed_by name NOT NULL DEFAULT session_user,
    changed_at timestamptz NOT NULL DEFAULT now(),
    checked_at timestamptz,
    published_at timestamptz,
    note text
);
COMMENT ON TABLE leadroute.drafts IS 'Drafts of policies: what create_draft() makes and publish_draft() publishes. Rules are in draft_rules, tests in draft_tests.';
COMMENT ON COLUMN leadroute.drafts.draft IS 'Its name.';
COMMENT ON COLUMN leadroute.drafts.policy IS 'The policy that it is a draft of, by name; there need not be one yet.';
COMMENT ON COLUMN leadroute.drafts.based_on_version_id IS 'The version that it was made from, rebased on or published as; null for none.';
COMMENT ON COLUMN leadroute.drafts.frame IS 'The document without rules and tests, which may stand in it as empty lists; draft_document() puts it together.';
COMMENT ON COLUMN leadroute.drafts.authors IS 'The session users who made or changed it since it was made. None of them can approve what is published from it.';
COMMENT ON COLUMN leadroute.drafts.created_by IS 'The session''s user.';
COMMENT ON COLUMN leadroute.drafts.changed_by IS 'The session''s user at the last change of the frame, the rules or the tests.';
COMMENT ON COLUMN leadroute.drafts.changed_at IS 'When that was.';
COMMENT ON COLUMN leadroute.drafts.checked_at IS 'When check_draft() last found no mistake; null if it changed since.';
COMMENT ON COLUMN leadroute.drafts.published_at IS 'When it was published; null if it changed since.';
COMMENT ON COLUMN leadroute.drafts.note IS 'For people.';

CREATE SEQUENCE leadroute.draft_positions;
COMMENT ON SEQUENCE leadroute.draft_positions IS 'Positions of rules and tests of drafts: they stay in the order in which they came.';

CREATE TABLE leadroute.draft_rules (
    draft text NOT NULL,
    position numeric NOT NULL DEFAULT nextval('leadroute.draft_positions'),
    name text NOT NULL,
    priority numeric,
    condition text NOT NULL,
    pool text,
    account_owner text[],
    owner text,
    outcome text,
    reason text,
    agents text[],
    skills text[],
    prerequisites text[],
    first_response_within text,
    sla_clock text,
    escalate_after text[],
    sla jsonb,
    effective_from text,
    effective_until text,
    enabled boolean,
    author text DEFAULT session_user,
    note text,
    others jsonb CHECK (jsonb_typeof(others) = 'object'),
    PRIMARY KEY (draft, position)
);
CREATE INDEX draft_rules_name ON leadroute.draft_rules (draft, name);
COMMENT ON TABLE leadroute.draft_rules IS 'The rules of drafts, a row each, for INSERT, COPY and UPDATE. A column is a member of the rule, as docs/policy.md describes it; null: the rule does not have it.';
COMMENT ON COLUMN leadroute.draft_rules.position IS 'Its place among the rules of the draft; by default behind all others. A number between two others puts it between them.';
COMMENT ON COLUMN leadroute.draft_rules.condition IS 'The member "when".';
COMMENT ON COLUMN leadroute.draft_rules.priority IS 'Lower ones come first.';
COMMENT ON COLUMN leadroute.draft_rules.account_owner IS 'Roles, in order; a document that names one role without a list keeps it in others.';
COMMENT ON COLUMN leadroute.draft_rules.author IS 'For people; the session''s user unless the row says otherwise. Null, not left out, for none.';
COMMENT ON COLUMN leadroute.draft_rules.others IS 'Members that no column holds as the document has them: an explicit null, a value of another type, a member that is not known. A column that is not null counts instead.';

CREATE TABLE leadroute.draft_tests (
    draft text NOT NULL,
    position numeric NOT NULL DEFAULT nextval('leadroute.draft_positions'),
    name text NOT NULL,
    lead jsonb,
    expect jsonb,
    others jsonb CHECK (jsonb_typeof(others) = 'object'),
    PRIMARY KEY (draft, position)
);
COMMENT ON TABLE leadroute.draft_tests IS 'The tests of drafts, a row each: the document''s member "tests".';
COMMENT ON COLUMN leadroute.draft_tests.position IS 'Its place among the tests of the draft; by default behind all others.';
COMMENT ON COLUMN leadroute.draft_tests.lead IS 'A lead, by attribute. Use made-up people: versions are kept for ever.';
COMMENT ON COLUMN leadroute.draft_tests.expect IS 'What has to become of it.';
COMMENT ON COLUMN leadroute.draft_tests.others IS 'Further members, as in draft_rules.';

-- Who made a draft, and whether it was checked, is not typed. A restore brings what was.
CREATE FUNCTION leadroute.stamp_draft() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF leadroute.restoring() THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'INSERT' THEN
        NEW.authors := ARRAY[session_user];
        NEW.created_by := session_user;
        NEW.created_at := now();
        IF NEW.based_on_version_id IS NOT NULL AND NOT EXISTS (
            SELECT FROM leadroute.policy_versions v JOIN leadroute.policies p USING (policy_id)
            WHERE v.policy_version_id = NEW.based_on_version_id AND p.name = NEW.policy) THEN
            RAISE foreign_key_violation USING MESSAGE = format('the version that draft "%s" is based on is none of policy "%s"', NEW.draft, NEW.policy),
                HINT = 'Make drafts with leadroute.create_draft().';
        END IF;
    ELSIF session_user <> ALL (NEW.authors) THEN
        NEW.authors := NEW.authors || session_user;
    END IF;
    NEW.changed_by := session_user;
    NEW.changed_at := now();
    NEW.checked_at := NULL;
    NEW.published_at := NULL;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION leadroute.stamp_draft() IS 'Trigger of drafts: notes who changed it, and that it is unchecked. Raises 23503 for a version of another policy.';
CREATE TRIGGER stamp_draft BEFORE INSERT OR UPDATE OF frame ON leadroute.drafts FOR EACH ROW EXECUTE FUNCTION leadroute.stamp_draft();

CREATE FUNCTION leadroute.change_drafts() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    touched text[];
    missing text;
BEGIN
    IF leadroute.restoring() THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        SELECT array_agg(DISTINCT n.draft) INTO touched FROM new_rows n;
    ELSIF TG_OP = 'DELETE' THEN
        SELECT array_agg(DISTINCT o.draft) INTO touched FROM old_rows o;
    ELSIF TG_OP = 'UPDATE' THEN
        SELECT array_agg(DISTINCT r.draft) INTO touched FROM (SELECT o.draft FROM old_rows o UNION ALL SELECT n.draft FROM new_rows n) r;
    ELSE
        SELECT array_agg(d.draft) INTO touched FROM leadroute.drafts d;
    END IF;
    IF touched IS NULL THEN
        RETURN NULL;
    END IF;
    -- as stamp_draft() does, in the order in which any other session does it
    PERFORM FROM leadroute.drafts d WHERE d.draft = ANY (touched) ORDER BY d.draft FOR UPDATE;
    UPDATE leadroute.drafts d SET frame = d.frame WHERE d.draft = ANY (touched);
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        SELECT t INTO missing FROM unnest(touched) AS t WHERE NOT EXISTS (SELECT FROM leadroute.drafts d WHERE d.draft = t) ORDER BY t LIMIT 1;
        IF FOUND THEN
            RAISE foreign_key_violation USING MESSAGE = format('there is no draft "%s"', missing), HINT = 'Make it with leadroute.create_draft().';
        END IF;
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION leadroute.change_drafts() IS 'Trigger of draft_rules and draft_tests: their drafts have to exist, and are unchecked. Raises 23503.';
CREATE TRIGGER change_drafts_insert AFTER INSERT ON leadroute.draft_rules REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.change_drafts();
CREATE TRIGGER change_drafts_update AFTER UPDATE ON leadroute.draft_rules REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.change_drafts();
CREATE TRIGGER change_drafts_delete AFTER DELETE ON leadroute.draft_rules REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.change_drafts();
CREATE TRIGGER change_drafts_truncate AFTER TRUNCATE ON leadroute.draft_rules FOR EACH STATEMENT EXECUTE FUNCTION leadroute.change_drafts();
CREATE TRIGGER change_drafts_insert AFTER INSERT ON leadroute.draft_tests REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.change_drafts();
CREATE TRIGGER change_drafts_update AFTER UPDATE ON leadroute.draft_tests REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.change_drafts();
CREATE TRIGGER change_drafts_delete AFTER DELETE ON leadroute.draft_tests REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.change_drafts();
CREATE TRIGGER change_drafts_truncate AFTER TRUNCATE ON leadroute.draft_tests FOR EACH STATEMENT EXECUTE FUNCTION leadroute.change_drafts();

CREATE FUNCTION leadroute.drop_draft_rows() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM leadroute.draft_rules r WHERE r.draft = OLD.draft;
    DELETE FROM leadroute.draft_tests t WHERE t.draft = OLD.draft;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION leadroute.drop_draft_rows() IS 'Trigger of drafts: a draft takes its rules and tests along.';
CREATE TRIGGER drop_draft_rows AFTER DELETE ON leadroute.drafts FOR EACH ROW EXECUTE FUNCTION leadroute.drop_draft_rows();

CREATE FUNCTION leadroute.draft_document(draft text) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    frame jsonb;
    rules jsonb;
    tests jsonb;
BEGIN
    SELECT d.frame INTO frame FROM leadroute.drafts d WHERE d.draft = draft_document.draft;
    IF NOT FOUND THEN
        RAISE undefined_object USING MESSAGE = format('draft "%s" does not exist', draft),
            HINT = 'Make it with leadroute.create_draft(); see leadroute.policy_drafts.';
    END IF;
    SELECT jsonb_agg(coalesce(r.others, '{}') || jsonb_strip_nulls(jsonb_build_object('name', r.name, 'priority', r.priority, 'when', r.condition, 'pool', r.pool, 'account_owner', r.account_owner,
               'owner', r.owner, 'outcome', r.outcome, 'reason', r.reason, 'agents', r.agents, 'skills', r.skills, 'prerequisites', r.prerequisites,
               'first_response_within', r.first_response_within, 'sla_clock', r.sla_clock, 'escalate_after', r.escalate_after, 'sla', r.sla,
               'effective_from', r.effective_from, 'effective_until', r.effective_until, 'enabled', r.enabled, 'author', r.author, 'note', r.note))
               ORDER BY r.position)
    INTO rules FROM leadroute.draft_rules r WHERE r.draft = draft_document.draft;
    SELECT jsonb_agg(coalesce(t.others, '{}') || jsonb_build_object('name', t.name)
                     || CASE WHEN t.lead IS NULL THEN '{}' ELSE jsonb_build_object('lead', t.lead) END
                     || CASE WHEN t.expect IS NULL THEN '{}' ELSE jsonb_build_object('expect', t.expect) END ORDER BY t.position)
    INTO tests FROM leadroute.draft_tests t WHERE t.draft = draft_document.draft;
    RETURN frame || CASE WHEN rules IS NULL THEN '{}' ELSE jsonb_build_object('rules', rules) END
        || CASE WHEN tests IS NULL THEN '{}' ELSE jsonb_build_object('tests', tests) END;
END $$;
COMMENT ON FUNCTION leadroute.draft_document(text) IS
    'The document that a draft is: what publish_draft() would publish, and load_draft() reads. Raises 42704 if there is no such draft.';

CREATE FUNCTION leadroute.load_draft(draft text, document jsonb) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problems text;
    loaded integer;
BEGIN
    PERFORM FROM leadroute.drafts d WHERE d.draft = load_draft.draft FOR UPDATE;
    IF NOT FOUND THEN
        RAISE undefined_object USING MESSAGE = format('draft "%s" does not exist', draft),
            HINT = 'Make it with leadroute.create_draft(); see leadroute.policy_drafts.';
    END IF;
    IF jsonb_typeof(document) IS DISTINCT FROM 'object' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'the document has to be an object', HINT = 'Give {"steps": […], "rules": […]}.';
    END IF;
    SELECT string_agg(format('%ss[%s]%s', e.part, e.place, p.problem), E'\n' ORDER BY e.part, e.place) FILTER (WHERE e.number <= 20)
           || CASE WHEN count(*) > 20 THEN format(E'\n… and %s more', count(*) - 20) ELSE '' END
    INTO problems
    FROM (SELECT c.part, c.place, c.element, row_number() OVER (ORDER BY c.part, c.place) AS number FROM leadroute.document_elements(document) c
          WHERE c.part <> 'step' AND (jsonb_typeof(c.element) <> 'object' OR jsonb_typeof(c.element -> 'name') IS DISTINCT FROM 'string'
                OR c.part = 'rule' AND jsonb_typeof(c.element -> 'when') IS DISTINCT FROM 'string')) AS e
    CROSS JOIN LATERAL (SELECT CASE WHEN jsonb_typeof(e.element) <> 'object' THEN ': has to be an object'
                                    WHEN jsonb_typeof(e.element -> 'name') IS DISTINCT FROM 'string' THEN '.name: has to be a string'
                                    ELSE '.when: has to be a string' END) AS p (problem);
    IF problems IS NOT NULL THEN
        RAISE invalid_parameter_value USING MESSAGE = 'the document cannot be taken apart into a draft', DETAIL = problems,
            HINT = 'Rows of leadroute.draft_rules need a name and a condition, those of leadroute.draft_tests a name. Other mistakes can be mended in the draft.';
    END IF;
    DELETE FROM leadroute.draft_rules r WHERE r.draft = load_draft.draft;
    DELETE FROM leadroute.draft_tests t WHERE t.draft = load_draft.draft;
    INSERT INTO leadroute.draft_rules (draft, name, priority, condition, pool, account_owner, owner, outcome, reason, agents, skills, prerequisites, first_response_within,
                                       sla_clock, escalate_after, sla, effective_from, effective_until, enabled, author, note, others)
        SELECT load_draft.draft, c ->> 'name', (c ->> 'priority')::numeric, c ->> 'when', c ->> 'pool',
               CASE WHEN c ? 'account_owner' THEN ARRAY(SELECT jsonb_array_elements_text(c -> 'account_owner')) END, c ->> 'owner', c ->> 'outcome', c ->> 'reason',
               CASE WHEN c ? 'agents' THEN ARRAY(SELECT jsonb_array_elements_text(c -> 'agents')) END,
               CASE WHEN c ? 'skills' THEN ARRAY(SELECT jsonb_array_elements_text(c -> 'skills')) END,
               CASE WHEN c ? 'prerequisites' THEN ARRAY(SELECT jsonb_array_elements_text(c -> 'prerequisites')) END,
               c ->> 'first_response_within', c ->> 'sla_clock',
               CASE WHEN c ? 'escalate_after' THEN ARRAY(SELECT jsonb_array_elements_text(c -> 'escalate_after')) END, c -> 'sla',
               c ->> 'effective_from', c ->> 'effective_until', (c ->> 'enabled')::boolean, c ->> 'author', c ->> 'note', o
        FROM jsonb_array_elements(CASE jsonb_typeof(document -> 'rules') WHEN 'array' THEN document -> 'rules' ELSE '[]' END) WITH ORDINALITY AS e (rule, n)
        -- c: the members that columns hold; o: the others
        CROSS JOIN LATERAL (SELECT jsonb_object_agg(m.key, m.value) FILTER (WHERE f.fits), jsonb_object_agg(m.key, m.value) FILTER (WHERE NOT f.fits)
                            FROM jsonb_each(e.rule) AS m
                            CROSS JOIN LATERAL (SELECT CASE jsonb_typeof(m.value)
                                WHEN 'string' THEN m.key IN ('name', 'when', 'pool', 'owner', 'outcome', 'reason', 'first_response_within', 'sla_clock',
                                                             'effective_from', 'effective_until', 'author', 'note')
                                WHEN 'number' THEN m.key = 'priority'
                                WHEN 'boolean' THEN m.key = 'enabled'
                                WHEN 'array' THEN m.key IN ('account_owner', 'agents', 'skills', 'prerequisites', 'escalate_after')
                                     AND NOT jsonb_path_exists(m.value, 'strict $[*] ? (@.type() <> "string")')
                                -- Nulls within would get lost with those of columns.
                                WHEN 'object' THEN m.key = 'sla' AND NOT jsonb_path_exists(m.value, 'strict $.** ? (@ == null)')
                                ELSE false END) AS f (fits)) AS x (c, o)
        ORDER BY e.n;
    GET DIAGNOSTICS loaded = ROW_COUNT;
    INSERT INTO leadroute.draft_tests (draft, name, lead, expect, others)
        SELECT load_draft.draft, e.test ->> 'name', nullif(e.test -> 'lead', 'null'), nullif(e.test -> 'expect', 'null'),
               nullif(e.test - '{name}'::text[] - (SELECT coalesce(array_agg(k), '{}') FROM unnest('{lead,expect}'::text[]) AS k WHERE jsonb_typeof(e.test -> k) <> 'null'),
                      '{}')
        FROM jsonb_array_elements(CASE jsonb_typeof(document -> 'tests') WHEN 'array' THEN document -> 'tests' ELSE '[]' END) WITH ORDINALITY AS e (test, n)
        ORDER BY e.n;
    UPDATE leadroute.drafts d SET frame = leadroute.without_lists(document, '{rules,tests}') WHERE d.draft = load_draft.draft;
    RETURN loaded;
END $$;
COMMENT ON FUNCTION leadroute.load_draft(text, jsonb) IS
    'Replaces all of a draft by a document; draft_document() gives the same again. Returns how many rules it has. Raises 42704 if there is no such draft, 22023 with the places if rules or tests have no name or a rule has no condition; other mistakes are for draft_mistakes().';

CREATE FUNCTION leadroute.create_draft(policy text, draft text DEFAULT NULL, version integer DEFAULT NULL) RETURNS text
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    made text := coalesce(draft, policy);
    base integer;
    document jsonb;
BEGIN
    IF policy IS NULL THEN
        RAISE null_value_not_allowed USING MESSAGE = 'argument "policy" of create_draft() is null', HINT = 'Name the policy that it is a draft of.';
    ELSIF EXISTS (SELECT FROM leadroute.drafts d WHERE d.draft = made) THEN
        RAISE duplicate_object USING MESSAGE = format('draft "%s" exists already', made),
            HINT = 'Give it another name, or discard that one with leadroute.discard_draft().';
    END IF;
    IF version IS NULL THEN
        SELECT a.policy_version_id INTO base FROM leadroute.active_policies a WHERE a.name = create_draft.policy;
    ELSE
        base := leadroute.policy_version_id(policy, version);
    END IF;
    IF NOT EXISTS (SELECT FROM leadroute.policies p WHERE p.name = create_draft.policy) THEN
        RAISE NOTICE USING MESSAGE = format('there is no policy "%s" yet: draft "%s" begins without a rule', policy, made),
            HINT = 'Publishing the draft makes the policy. If another one is meant, see leadroute.policies, and leadroute.discard_draft().';
    END IF;
    -- standard steps, as far as there is what they need
    document := coalesce(leadroute.version_document(base), jsonb_build_object('leadroute', 1, 'rules', '[]'::jsonb, 'steps',
        CASE WHEN EXISTS (SELECT FROM leadroute.documents d WHERE d.kind = 'scorecard' AND d.name = 'standard') THEN
            '[{"capability": "validateContact"}, {"capability": "checkRegionalCompliance"},
              {"capability": "enrichWithFirmographicData", "after": ["validateContact"]},
              {"capability": "computeLeadScore", "after": ["validateContact"]}, {"capability": "assignOwner", "after": ["computeLeadScore"]}]'::jsonb
        ELSE
            '[{"capability": "validateContact"}, {"capability": "checkRegionalCompliance"},
              {"capability": "enrichWithFirmographicData", "after": ["validateContact"]}, {"capability": "assignOwner"}]'::jsonb END));
    INSERT INTO leadroute.drafts (draft, policy, based_on_version_id, frame) VALUES (made, create_draft.policy, base, '{}');
    PERFORM leadroute.load_draft(made, document);
    RETURN made;
END $$;
COMMENT ON FUNCTION leadroute.create_draft(text, text, integer) IS
    'Makes a draft of a policy. draft: its name; null: that of the policy. version: the version that it begins with; null: the active one, or, where none is, the standard steps without a rule; a notice says so where there is no such policy. Returns its name. Raises 42710 if there is a draft of that name, 42704 if there is no such version.';

CREATE FUNCTION leadroute.discard_draft(draft text, reason text DEFAULT '') RETURNS void
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_discard_draft';
COMMENT ON FUNCTION leadroute.discard_draft(text, text) IS 'Throws a draft away, rules and tests included. Raises 42704 if there is no such draft.';

CREATE FUNCTION leadroute.draft_mistakes(draft text) RETURNS TABLE (place text, rule text, problem text, hint text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH d AS MATERIALIZED (SELECT leadroute.draft_document(draft_mistakes.draft) AS document),
    mistakes AS (
        SELECT m.place, m.problem, m.hint, m.n, substring(m.place FROM '^(?:rules)\[(\d+)\]')::integer AS rule_no
        FROM d CROSS JOIN LATERAL leadroute.policy_mistakes(d.document) WITH ORDINALITY AS m (place, problem, hint, n)
    ), names AS (
        SELECT e.name, e.place FROM d CROSS JOIN LATERAL leadroute.document_elements(d.document) e
        WHERE e.part = 'rule' AND EXISTS (SELECT FROM mistakes WHERE rule_no IS NOT NULL)
    )
    SELECT m.place, r.name, m.problem, m.hint FROM mistakes m LEFT JOIN names r ON r.place = m.rule_no ORDER BY m.n;
$$;
COMMENT ON FUNCTION leadroute.draft_mistakes(text) IS
    'Checks a draft whole, as policy_mistakes() does a document. Returns every mistake: its place, such as rules[3].when, the name of the rule that it is in, the problem, and how to mend it; no row if there is none. Raises 42704 if there is no such draft.';

CREATE FUNCTION leadroute.check_draft(draft text) RETURNS TABLE (kind text, place text, rule text, problem text, hint text)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    mistakes bigint;
BEGIN
    -- what others change in the draft waits until it is checked
    PERFORM FROM leadroute.drafts d WHERE d.draft = check_draft.draft FOR UPDATE;
    RETURN QUERY SELECT 'mistake', m.place, m.rule, m.problem, m.hint FROM leadroute.draft_mistakes(draft) m;
    GET DIAGNOSTICS mistakes = ROW_COUNT;
    -- Only mistakes leave it unchecked: a test may be forced past, and whether a finding is meant, people judge.
    IF mistakes = 0 THEN
        RETURN QUERY SELECT 'test', 'tests', NULL::text, format('test "%s" fails: %s', t.test, t.difference),
                            'Mend the rules or the test; publishing is refused as long as it fails, unless forced.'
            FROM leadroute.run_document_tests(leadroute.draft_document(draft)) t WHERE NOT t.passed;
        RETURN QUERY SELECT a.severity, a.finding, a.rule, concat_ws(' ', a.detail, 'Shown by ' || a.witness::text || '.'), a.hint
            FROM leadroute.analyse_document(leadroute.draft_document(draft)) a;
    END IF;
    UPDATE leadroute.drafts d SET checked_at = CASE WHEN mistakes = 0 THEN now() END WHERE d.draft = check_draft.draft;
END $$;
COMMENT ON FUNCTION leadroute.check_draft(text) IS
    'Checks a draft, and marks it checked if it has no mistake. Returns what it found: rows of kind mistake, as of draft_mistakes(); without one, a row of kind test for each test that fails, and the findings of analyse_document(), with their severity as kind and the finding as place. Any change to the draft, its rules or tests unchecks it. Raises 42704 if there is no such draft.';

CREATE FUNCTION leadroute.publish_draft(draft text, reason text, force boolean DEFAULT false) RETURNS integer
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_publish_draft';
COMMENT ON FUNCTION leadroute.publish_draft(text, text, boolean) IS
    'Publishes a draft as the next version of its policy, as publish_policy() does a document; the draft stays, and is then based on that version. force: also over a newer active version than the draft is based on, and with failing tests; that is on record. Returns the version number. Raises 42704 if there is no such draft, 22023 with every mistake, or without a reason, 55000 with what both sides changed if a newer version is active, or if tests fail.';

-- What a draft has to be compared with: the version that it is based on, and the active one where that is newer.
CREATE FUNCTION leadroute.draft_sides(draft text, OUT base jsonb, OUT active jsonb, OUT document jsonb, OUT newer_version_id integer)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    document := leadroute.draft_document(draft);
    SELECT coalesce(leadroute.version_document(d.based_on_version_id), '{}'), n.policy_version_id INTO base, newer_version_id
    FROM leadroute.drafts d
    LEFT JOIN leadroute.policy_versions b ON b.policy_version_id = d.based_on_version_id
    LEFT JOIN leadroute.active_policies n ON n.name = d.policy AND n.version > coalesce(b.version, 0)
    WHERE d.draft = draft_sides.draft;
    active := coalesce(leadroute.version_document(newer_version_id), base);
END $$;
COMMENT ON FUNCTION leadroute.draft_sides(text) IS
    'The documents that a draft and the active version come from, {} for none, that of the active version and that of the draft; and the active version''s id. Where no newer version than the draft''s is active, that is the base, and the id is null. Raises 42704 if there is no such draft.';

CREATE FUNCTION leadroute.draft_differences(draft text)
    RETURNS TABLE (conflict boolean, side text, kind text, name text, member text, base jsonb, active jsonb, draft_value jsonb)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.conflict, t.side, CASE t.part WHEN 'header' THEN 'header' ELSE t.part || ' ' || t.change END, t.name, t.member, t.base_value, t.active_value, t.draft_value
    FROM leadroute.draft_sides(draft_differences.draft) s CROSS JOIN LATERAL leadroute.compare_three(s.base, s.active, s.document) t
    ORDER BY NOT t.conflict, array_position('{active,both,draft}', t.side), array_position('{header,step,rule,test}', t.part), t.name COLLATE "C", t.occurrence,
             array_position('{added,removed,moved,changed}', t.change), t.member COLLATE "C";
$$;
COMMENT ON FUNCTION leadroute.draft_differences(text) IS
    'Compares a draft, and the active version where that is newer, with the version that the draft is based on. Returns what either changed, conflicts first: side says who (active, draft, both); conflict that both changed the same, or where a rule leads, differently, or that one removed what the other changed; kind, name and member as in document_differences(); the value in the base, in the active version and in the draft. Raises 42704 if there is no such draft.';

CREATE FUNCTION leadroute.rebase_draft(draft text, keep text DEFAULT NULL)
    RETURNS TABLE (done text, kind text, name text, member text, base jsonb, active jsonb, draft_value jsonb)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    sides record;
    unresolved boolean;
    merged jsonb;
BEGIN
    IF keep NOT IN ('active', 'draft') THEN
        RAISE invalid_parameter_value USING MESSAGE = format('"%s" is not known', keep),
            HINT = 'Give ''active'' or ''draft'' for what counts where both changed the same; leave it out to see these first.';
    END IF;
    PERFORM FROM leadroute.drafts d WHERE d.draft = rebase_draft.draft FOR UPDATE;
    SELECT * INTO sides FROM leadroute.draft_sides(rebase_draft.draft);
    IF sides.newer_version_id IS NULL THEN
        RETURN;
    END IF;
    unresolved := rebase_draft.keep IS NULL AND EXISTS (SELECT FROM leadroute.compare_three(sides.base, sides.active, sides.document) t WHERE t.conflict);
    RETURN QUERY
        SELECT CASE WHEN t.conflict AND rebase_draft.keep IS NULL THEN 'conflict' WHEN t.conflict AND rebase_draft.keep = 'draft' THEN 'kept'
                    WHEN unresolved AND t.change = 'moved' THEN 'waits' ELSE 'taken' END,
               CASE t.part WHEN 'header' THEN 'header' ELSE t.part || ' ' || t.change END, t.name, t.member, t.base_value, t.active_value, t.draft_value
        FROM leadroute.compare_three(sides.base, sides.active, sides.document) t
        WHERE t.conflict OR t.side = 'active'
        ORDER BY NOT t.conflict, array_position('{header,step,rule,test}', t.part), t.name COLLATE "C", t.occurrence,
                 array_position('{added,removed,moved,changed}', t.change), t.member COLLATE "C";
    merged := leadroute.merge_documents(sides.base, sides.active, sides.document, coalesce(rebase_draft.keep = 'active', false), unresolved);
    IF merged::text <> sides.document::text THEN
        PERFORM leadroute.load_draft(rebase_draft.draft, merged);
    END IF;
    IF NOT unresolved THEN
        UPDATE leadroute.drafts d SET based_on_version_id = sides.newer_version_id WHERE d.draft = rebase_draft.draft;
    END IF;
END $$;
COMMENT ON FUNCTION leadroute.rebase_draft(text, text) IS
    'Takes over into a draft what the active version changed since the version that the draft is based on, but for what conflicts. keep: null; or what counts where there is a conflict, active or draft. Returns what it did with each change: taken; conflict (nothing was done, and the draft stays based on the older version); kept (the draft''s holds); waits (a place in the list, until there is no conflict any more); the rest as in draft_differences(). Where nothing is left in conflict, the draft is based on the active version from then on. Raises 42704 if there is no such draft, 22023 for another keep.';

CREATE VIEW leadroute.policy_drafts AS
    SELECT d.draft, d.policy, CASE WHEN d.published_at IS NOT NULL THEN 'published' WHEN d.checked_at IS NOT NULL THEN 'checked' ELSE 'draft' END AS status,
           (SELECT count(*) FROM leadroute.draft_rules r WHERE r.draft = d.draft) AS rules,
           (SELECT count(*) FROM leadroute.draft_tests t WHERE t.draft = d.draft) AS tests,
           b.version AS based_on_version, n.version AS active_version, coalesce(n.version > coalesce(b.version, 0), false) AS outdated,
           d.authors, d.created_by, d.created_at, d.changed_by, d.changed_at, d.checked_at, d.published_at, d.note
    FROM leadroute.drafts d
    LEFT JOIN leadroute.policy_versions b ON b.policy_version_id = d.based_on_version_id
    LEFT JOIN leadroute.active_policies n ON n.name = d.policy;
COMMENT ON VIEW leadroute.policy_drafts IS 'The drafts, how far they have come, and whether the active version has gone ahead of them.';
COMMENT ON COLUMN leadroute.policy_drafts.status IS 'draft (changed since it was last checked), checked, or published.';
COMMENT ON COLUMN leadroute.policy_drafts.rules IS 'How many it has.';
COMMENT ON COLUMN leadroute.policy_drafts.tests IS 'How many it has.';
COMMENT ON COLUMN leadroute.policy_drafts.based_on_version IS 'The version that it was made from, rebased on or published as; null for none.';
COMMENT ON COLUMN leadroute.policy_drafts.active_version IS 'The policy''s active version; null for none.';
COMMENT ON COLUMN leadroute.policy_drafts.outdated IS 'Whether the active version is newer than the one that the draft is based on: then rebase_draft() comes before publish_draft().';
COMMENT ON COLUMN leadroute.policy_drafts.authors IS 'The session users who made or changed it.';
COMMENT ON COLUMN leadroute.policy_drafts.created_by IS 'The session''s user.';
COMMENT ON COLUMN leadroute.policy_drafts.changed_by IS 'The session''s user at the last change.';
COMMENT ON COLUMN leadroute.policy_drafts.changed_at IS 'When that was.';
COMMENT ON COLUMN leadroute.policy_drafts.checked_at IS 'When check_draft() found no mistake, or it was published; null if it changed since.';
COMMENT ON COLUMN leadroute.policy_drafts.published_at IS 'When it was published; null if it changed since.';
COMMENT ON COLUMN leadroute.policy_drafts.note IS 'For people.';

CREATE VIEW leadroute.policy_version_states AS
    SELECT n.name AS policy, v.version, NULL AS draft,
           CASE WHEN v.policy_version_id = n.policy_version_id THEN 'active'
                WHEN v.policy_version_id = p.scheduled_version_id THEN 'scheduled'
                WHEN a.active_at IS NOT NULL THEN 'retired'
                WHEN a.approved_at IS NOT NULL THEN 'approved'
                ELSE 'published' END AS state,
           v.reason, v.authors, v.published_by, v.published_at, a.approved_by, a.approved_at,
           CASE WHEN v.policy_version_id = p.scheduled_version_id THEN p.scheduled_at END AS scheduled_at,
           CASE WHEN v.policy_version_id = p.scheduled_version_id AND p.scheduled_at <= clock_timestamp() THEN p.scheduled_at ELSE a.active_at END AS active_at
    FROM leadroute.policy_versions v
    JOIN leadroute.policies p USING (policy_id)
    JOIN leadroute.active_policies n ON n.policy_id = v.policy_id
    LEFT JOIN (SELECT policy_version_id, max(effective_at) FILTER (WHERE act IN ('activate', 'rollback')) AS active_at,
                      min(at) FILTER (WHERE act = 'approve') AS approved_at,
                      array_agg(session_user_name ORDER BY policy_act_id) FILTER (WHERE act = 'approve') AS approved_by
               FROM leadroute.policy_acts WHERE policy_version_id IS NOT NULL GROUP BY policy_version_id) a ON a.policy_version_id = v.policy_version_id
    UNION ALL
    SELECT d.policy, NULL, d.draft, d.status, d.note, d.authors, NULL, NULL, NULL, NULL, NULL, NULL FROM leadroute.policy_drafts d WHERE d.status <> 'published';
COMMENT ON VIEW leadroute.policy_version_states IS 'How far each version of each policy has come, and each draft that is not published as it is.';
COMMENT ON COLUMN leadroute.policy_version_states.version IS 'Null for a draft.';
COMMENT ON COLUMN leadroute.policy_version_states.draft IS 'The name of a draft; null for a version.';
COMMENT ON COLUMN leadroute.policy_version_states.state IS 'Of a draft: draft, or checked. Of a version: published; approved; scheduled (decides from scheduled_at on); active (decides now); retired (did, and no longer does).';
COMMENT ON COLUMN leadroute.policy_version_states.reason IS 'Why it was published; of a draft, its note.';
COMMENT ON COLUMN leadroute.policy_version_states.authors IS 'The session users who worked on it; none of them can approve it.';
COMMENT ON COLUMN leadroute.policy_version_states.published_by IS 'The session''s user.';
COMMENT ON COLUMN leadroute.policy_version_states.approved_by IS 'The session users who approved it; null if nobody did.';
COMMENT ON COLUMN leadroute.policy_version_states.approved_at IS 'When it was first approved.';
COMMENT ON COLUMN leadroute.policy_version_states.scheduled_at IS 'From when on it decides; null unless that is scheduled.';
COMMENT ON COLUMN leadroute.policy_version_states.active_at IS 'Since when it decides, or when it last began to; null if it never did.';
