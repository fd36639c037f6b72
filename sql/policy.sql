-- policy: versioned, immutable rule sets and pipeline steps.

CREATE SEQUENCE leadroute.policy_ids AS integer;
COMMENT ON SEQUENCE leadroute.policy_ids IS 'Ids of policies.';
CREATE TABLE leadroute.policies (
    policy_id integer PRIMARY KEY DEFAULT nextval('leadroute.policy_ids'),
    name text NOT NULL UNIQUE,
    active_version_id integer,
    scheduled_version_id integer,
    scheduled_at timestamptz,
    approval_required boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((scheduled_version_id IS NULL) = (scheduled_at IS NULL))
);
COMMENT ON TABLE leadroute.policies IS 'Policies by name, and which version of each is active. Which one decides at a moment: see active_policies.';
COMMENT ON COLUMN leadroute.policies.active_version_id IS 'The version that decides until scheduled_at; null before the first activation: leads then wait, pending, with reason no_policy.';
COMMENT ON COLUMN leadroute.policies.scheduled_version_id IS 'The version that decides from scheduled_at on. Whoever acts on the policy after that moment makes it active_version_id first.';
COMMENT ON COLUMN leadroute.policies.scheduled_at IS 'The moment of a scheduled activation; null if there is none.';
COMMENT ON COLUMN leadroute.policies.approval_required IS 'Whether a version becomes active only when somebody who is not among its authors has approved it.';
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.policies
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();

-- No foreign keys here: pg_restore -j loads the tables of an extension in any order. Only the functions below write them.
CREATE SEQUENCE leadroute.policy_version_ids AS integer;
COMMENT ON SEQUENCE leadroute.policy_version_ids IS 'Ids of policy versions.';
CREATE TABLE leadroute.policy_versions (
    policy_version_id integer PRIMARY KEY DEFAULT nextval('leadroute.policy_version_ids'),
    policy_id integer NOT NULL,
    version integer NOT NULL,
    frame jsonb NOT NULL,
    pins jsonb NOT NULL,
    rules_hash bytea NOT NULL,
    content_hash bytea NOT NULL,
    tests jsonb,
    rule_index bytea NOT NULL,
    index_hash bytea NOT NULL,
    reason text NOT NULL,
    published_by name NOT NULL,
    authors name[] NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (policy_id, version)
);
-- Random bytes to a compressor, and read whole by every new session.
ALTER TABLE leadroute.policy_versions ALTER COLUMN rule_index SET STORAGE EXTERNAL;
COMMENT ON TABLE leadroute.policy_versions IS 'Published versions; none ever changes.';
COMMENT ON COLUMN leadroute.policy_versions.frame IS 'The document as published (see docs/policy.md), but with an empty list of rules, which are in policy_rules, and the SHA-256 of the tests in their place; policy_document() puts it together.';
COMMENT ON COLUMN leadroute.policy_versions.tests IS 'The document''s tests; null if it has no list of them. Nobody who decides reads them.';
COMMENT ON COLUMN leadroute.policy_versions.pins IS 'What the version depends on: for each step the agent version and document version that were current when it was published, with digests.';
COMMENT ON COLUMN leadroute.policy_versions.content_hash IS 'SHA-256 of the frame''s text, the pins'' text and rules_hash: see content_hash().';
COMMENT ON COLUMN leadroute.policy_versions.rules_hash IS 'SHA-256 of the SHA-256s of the rules'' texts, in their order.';
COMMENT ON COLUMN leadroute.policy_versions.rule_index IS 'The index over the rules, in the form of src/policy/rule_index.h; rebuild_rule_index() makes it from the rules.';
COMMENT ON COLUMN leadroute.policy_versions.index_hash IS 'SHA-256 of rule_index; where it does not fit, sessions make an index of their own.';
COMMENT ON COLUMN leadroute.policy_versions.policy_version_id IS 'What entries and states refer to.';
COMMENT ON COLUMN leadroute.policy_versions.version IS 'From 1, dense within the policy.';
COMMENT ON COLUMN leadroute.policy_versions.reason IS 'Why it was published.';
COMMENT ON COLUMN leadroute.policy_versions.published_by IS 'The session''s user.';
COMMENT ON COLUMN leadroute.policy_versions.authors IS 'The session users who worked on it: who changed the draft, and who published it. None of them can approve it.';

-- Which version decides depends on the clock where an activation is scheduled: who wants to know asks this view.
CREATE VIEW leadroute.active_policies AS
    SELECT p.policy_id, p.name, v.policy_version_id, v.version
    FROM (SELECT policy_id, name, CASE WHEN scheduled_at <= clock_timestamp() THEN scheduled_version_id ELSE active_version_id END AS version_id
          FROM leadroute.policies) p
    LEFT JOIN leadroute.policy_versions v ON v.policy_version_id = p.version_id;
COMMENT ON VIEW leadroute.active_policies IS 'Which version of each policy decides now, scheduled activations that are due included.';
COMMENT ON COLUMN leadroute.active_policies.policy_version_id IS 'The version that decides now; null if none does.';
COMMENT ON COLUMN leadroute.active_policies.version IS 'Its number.';

CREATE TABLE leadroute.policy_rules (
    policy_version_id integer,
    rule_no integer,
    rule jsonb NOT NULL,
    PRIMARY KEY (policy_version_id, rule_no)
);
COMMENT ON TABLE leadroute.policy_rules IS 'The rules of published versions; none ever changes.';
COMMENT ON COLUMN leadroute.policy_rules.policy_version_id IS 'See policy_versions.';
COMMENT ON COLUMN leadroute.policy_rules.rule_no IS 'Its place in the document, from 0.';
COMMENT ON COLUMN leadroute.policy_rules.rule IS 'The rule as published.';

CREATE FUNCTION leadroute.without_rules(document jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN CASE WHEN jsonb_typeof(document OPERATOR(pg_catalog.->) 'rules') OPERATOR(pg_catalog.=) 'array'
        THEN jsonb_set(document, '{rules}', '[]') ELSE document END
        OPERATOR(pg_catalog.||) CASE WHEN jsonb_typeof(document OPERATOR(pg_catalog.->) 'tests') OPERATOR(pg_catalog.=) 'array'
        THEN jsonb_build_object('tests', encode(sha256(convert_to((document OPERATOR(pg_catalog.->) 'tests')::text, 'UTF8')), 'hex')) ELSE '{}' END;
COMMENT ON FUNCTION leadroute.without_rules(jsonb) IS 'A policy document with an empty list of rules, and the SHA-256 of its tests, in hex, in place of a list of them: the frame of a version.';

CREATE FUNCTION leadroute.content_hash(frame jsonb, pins jsonb, rules_hash bytea) RETURNS bytea
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN sha256(convert_to(frame::text OPERATOR(pg_catalog.||) pins::text, 'UTF8') OPERATOR(pg_catalog.||) rules_hash);
COMMENT ON FUNCTION leadroute.content_hash(jsonb, jsonb, bytea) IS 'The content hash of a policy version: SHA-256 of the texts of its frame and of its pins, and of the hash of its rules.';

CREATE SEQUENCE leadroute.policy_act_ids;
COMMENT ON SEQUENCE leadroute.policy_act_ids IS 'Ids of policy acts.';
CREATE TABLE leadroute.policy_acts (
    policy_act_id bigint PRIMARY KEY DEFAULT nextval('leadroute.policy_act_ids'),
    at timestamptz NOT NULL DEFAULT now(),
    act text NOT NULL CHECK (act IN ('publish', 'approve', 'activate', 'rollback', 'schedule', 'cancel', 'require_approval', 'waive_approval', 'discard',
        'publish_document', 'start_canary', 'start_shadow', 'change_share', 'promote_candidate', 'abort_trial', 'abort_trial_automatically',
        'set_flag', 'drop_flag', 'set_table_mode', 'pause_routing', 'resume_routing', 'resume_after_restore')),
    policy_id integer,
    policy_version_id integer,
    document_id integer,
    previous_version_id integer,
    draft text,
    effective_at timestamptz,
    forced boolean NOT NULL DEFAULT false,
    overridden text,
    reason text NOT NULL,
    session_user_name name NOT NULL,
    current_user_name name NOT NULL,
    application text NOT NULL,
    client_address inet,
    subject text
);
CREATE INDEX policy_acts_policy ON leadroute.policy_acts (policy_id);
COMMENT ON TABLE leadroute.policy_acts IS 'What people did with policies and documents: who, when, from where, why. Append-only.';
COMMENT ON COLUMN leadroute.policy_acts.act IS 'Of a policy: publish, approve, activate, rollback; schedule and cancel of an activation; require_approval and waive_approval; discard of a draft. Of a trial: start_canary, start_shadow, change_share, promote_candidate, abort_trial and abort_trial_automatically. publish_document of a scorecard or jurisdictions; set_flag and drop_flag of a flag; set_table_mode of an attached table; pause_routing and resume_routing of a scope; resume_after_restore of the database.';
COMMENT ON COLUMN leadroute.policy_acts.at IS 'When it was done; of an activation that had been scheduled, when it was entered here: effective_at says from when on.';
COMMENT ON COLUMN leadroute.policy_acts.policy_version_id IS 'The version that the act is about; of a trial the candidate.';
COMMENT ON COLUMN leadroute.policy_acts.subject IS 'The flag''s name; the table''s name and its mode; the scope of a pause; null for policies and documents.';
COMMENT ON COLUMN leadroute.policy_acts.document_id IS 'The document that was published.';
COMMENT ON COLUMN leadroute.policy_acts.previous_version_id IS 'The version that was active before; null if none was, and for acts that change none.';
COMMENT ON COLUMN leadroute.policy_acts.draft IS 'The draft that was published or discarded; null for a document without a draft.';
COMMENT ON COLUMN leadroute.policy_acts.effective_at IS 'From when on the version decides: of activate, rollback, schedule, and of cancel when it would have.';
COMMENT ON COLUMN leadroute.policy_acts.forced IS 'Whether it went past a check that refused it.';
COMMENT ON COLUMN leadroute.policy_acts.overridden IS 'What it went past; null unless forced.';
COMMENT ON COLUMN leadroute.policy_acts.reason IS 'Why, as the caller said.';
COMMENT ON COLUMN leadroute.policy_acts.session_user_name IS 'Who had logged in.';
COMMENT ON COLUMN leadroute.policy_acts.current_user_name IS 'In whose role it was done.';
COMMENT ON COLUMN leadroute.policy_acts.application IS 'The session''s application_name.';
COMMENT ON COLUMN leadroute.policy_acts.client_address IS 'From where; null for a Unix-domain socket.';

CREATE FUNCTION leadroute.policy_mistakes(document jsonb) RETURNS TABLE (place text, problem text, hint text)
    LANGUAGE c STABLE STRICT SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_policy_mistakes';
COMMENT ON FUNCTION leadroute.policy_mistakes(jsonb) IS
    'Checks a policy document whole, without publishing it. Returns every mistake: its place as a path such as rules[3].when, the problem, and how to mend it; no row if there is none.';

CREATE FUNCTION leadroute.publish_policy(name text, document jsonb, reason text, force boolean DEFAULT false) RETURNS integer
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_publish_policy';
COMMENT ON FUNCTION leadroute.publish_policy(text, jsonb, text, boolean) IS
    'Publishes a document as the next version of a policy, immutable from then on, and not yet active. Returns the version number. A document equal to the newest version, dependencies included, gives that version again. force: also where the document''s tests fail; that is on record. Raises 22023 with every mistake and its place in the detail, or without a reason, 55000 if tests fail.';

CREATE FUNCTION leadroute.approve_policy(name text, version integer, reason text DEFAULT '') RETURNS integer
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_approve_policy';
COMMENT ON FUNCTION leadroute.approve_policy(text, integer, text) IS
    'Approves a version, as the session''s user. Returns the version number; a second approval by the same user changes and records nothing. Raises 42704 if there is no such version, 42501 if the session''s user is one of its authors.';

CREATE FUNCTION leadroute.require_approval(name text, required boolean, reason text) RETURNS boolean
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_require_approval';
COMMENT ON FUNCTION leadroute.require_approval(text, boolean, text) IS
    'Says whether versions of a policy become active only when they are approved. What is active stays so. To require it no longer counts as forced. Returns whether that changed anything. Raises 42704 if there is no such policy, 22023 without a reason, 55000 if a version without approval is scheduled, or decides as a canary.';

CREATE FUNCTION leadroute.activate_policy(name text, version integer DEFAULT NULL, reason text DEFAULT '', at timestamptz DEFAULT NULL, force boolean DEFAULT false)
    RETURNS integer
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_activate_policy';
COMMENT ON FUNCTION leadroute.activate_policy(text, integer, text, timestamptz, boolean) IS
    'Makes a version the one that decides, from the next statement of every session on. version: null for the newest; one that is active changes and records nothing; where at is given, a notice says so. at: from that moment on; no process has to run then. force: also without a required approval; that is on record, and needs a reason. Returns the version number. Raises 42704 if there is none, 55000 if an agent of it is retired, it reads a protected attribute without a justification, it needs an approval, or an activation is scheduled already, 22023 for a moment that is past.';

CREATE FUNCTION leadroute.cancel_activation(name text, reason text DEFAULT '') RETURNS integer
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_cancel_activation';
COMMENT ON FUNCTION leadroute.cancel_activation(text, text) IS
    'Cancels the scheduled activation of a policy. Returns the version number that will not become active. Raises 42704 if there is no such policy, 55000 if nothing is scheduled, or no longer.';

CREATE FUNCTION leadroute.enter_activations() RETURNS integer
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_enter_activations';
COMMENT ON FUNCTION leadroute.enter_activations() IS
    'Enters scheduled activations whose moment has come into policies and policy_history; returns how many. The versions decide from their moments on, whether this is called or not. Background workers and run_pending() do.';

CREATE FUNCTION leadroute.rollback_policy(name text, reason text DEFAULT '', force boolean DEFAULT false) RETURNS integer
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_rollback_policy';
COMMENT ON FUNCTION leadroute.rollback_policy(text, text, boolean) IS
    'Makes the version active again that was active before the present one; a scheduled activation stays scheduled. force: also without a required approval; that is on record, and needs a reason. Returns its number. Raises 42704 if there is no such policy, 55000 if there was no version before, or it needs an approval.';

CREATE FUNCTION leadroute.policy_version_id(name text, version integer DEFAULT NULL) RETURNS integer
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    id integer;
BEGIN
    SELECT CASE WHEN policy_version_id.version IS NULL THEN p.policy_version_id
                ELSE (SELECT v.policy_version_id FROM leadroute.policy_versions v WHERE v.policy_id = p.policy_id AND v.version = policy_version_id.version) END
    INTO id
    FROM leadroute.active_policies p WHERE p.name = policy_version_id.name;
    IF NOT FOUND THEN
        RAISE undefined_object USING MESSAGE = format('policy "%s" does not exist', name), HINT = 'See leadroute.policies.';
    ELSIF id IS NULL AND version IS NULL THEN
        RAISE object_not_in_prerequisite_state USING MESSAGE = format('policy "%s" has no active version', name),
            HINT = 'Name a version, or activate one with leadroute.activate_policy().';
    ELSIF id IS NULL THEN
        RAISE undefined_object USING MESSAGE = format('policy "%s" has no version %s', name, version), HINT = 'See leadroute.policy_version_states.';
    END IF;
    RETURN id;
END $$;
COMMENT ON FUNCTION leadroute.policy_version_id(text, integer) IS
    'The id of a version of a policy; version null: of the active one. Raises 42704 if there is none, 55000 if none is active.';

CREATE FUNCTION leadroute.version_document(policy_version_id integer) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN v.frame ? 'rules' THEN jsonb_set(v.frame, '{rules}',
               (SELECT coalesce(jsonb_agg(r.rule ORDER BY r.rule_no), '[]') FROM leadroute.policy_rules r WHERE r.policy_version_id = v.policy_version_id))
           ELSE v.frame END || CASE WHEN v.tests IS NULL THEN '{}' ELSE jsonb_build_object('tests', v.tests) END
    FROM leadroute.policy_versions v WHERE v.policy_version_id = version_document.policy_version_id;
$$;
COMMENT ON FUNCTION leadroute.version_document(integer) IS 'The document of a version by its id, exactly as it was published; null if there is none.';

CREATE FUNCTION leadroute.policy_document(name text, version integer DEFAULT NULL) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT leadroute.version_document(leadroute.policy_version_id(policy_document.name, policy_document.version));
$$;
COMMENT ON FUNCTION leadroute.policy_document(text, integer) IS
    'The document of a version, exactly as it was published; version null: of the active one. Raises 42704 if there is none, 55000 if none is active.';

CREATE FUNCTION leadroute.match_version_rules(policy_version_id integer, leads jsonb[], indexed boolean)
    RETURNS TABLE (lead_no integer, rule_no integer, hits integer[], errors jsonb, verified integer)
    LANGUAGE c STABLE STRICT SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_match_rules';
COMMENT ON FUNCTION leadroute.match_version_rules(integer, jsonb[], boolean) IS 'What match_rules() does, for a version by its id and for many leads.';

CREATE FUNCTION leadroute.match_rules(name text, version integer, lead jsonb, indexed boolean DEFAULT true)
    RETURNS TABLE (rule_no integer, rule text, hits integer[], errors jsonb, verified integer)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT m.rule_no, r.rule ->> 'name', m.hits, m.errors, m.verified
    FROM leadroute.policy_version_id(name, version) AS v (id)
    CROSS JOIN leadroute.match_version_rules(v.id, ARRAY[lead], indexed) m
    LEFT JOIN leadroute.policy_rules r ON r.policy_version_id = v.id AND r.rule_no = m.rule_no;
$$;
COMMENT ON FUNCTION leadroute.match_rules(text, integer, jsonb, boolean) IS
    'Finds the rule that decides for a lead given as facts by name: attributes, as_of, and outputs of steps, such as {"country": "DE", "score": 70, "attributes": {"seats": "12"}, "validateContact.status": "valid"}; what is missing is null; all steps count as done. version null: the active one. indexed false: all rules are tried one after the other, which gives the same. Returns the rule, under the hit policy unique all that hold, the rules that raised with SQLSTATE and conjunct from 0, and how many were verified. Raises 22023 for what is no fact, 42704 and 55000 as policy_document().';

CREATE FUNCTION leadroute.measure_version_rules(policy_version_id integer, facts jsonb[], rounds integer, indexed boolean,
    OUT leads bigint, OUT hits bigint, OUT ns_per_lead double precision, OUT verified_per_lead double precision)
    LANGUAGE c VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_measure_rules';
COMMENT ON FUNCTION leadroute.measure_version_rules(integer, jsonb[], integer, boolean) IS
    'Measures matching: finds the deciding rule of each lead, given as for match_rules(), rounds times, after one round that is not counted. Returns how often, how many had a rule, nanoseconds a lead, and rules verified a lead. What is no fact is passed over. Raises 22023 for a fact of another type.';

CREATE FUNCTION leadroute.measure_rules(name text, version integer, leads_table regclass, rounds integer DEFAULT 1, indexed boolean DEFAULT true)
    RETURNS TABLE (leads bigint, hits bigint, ns_per_lead double precision, verified_per_lead double precision)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    facts jsonb[];
BEGIN
    EXECUTE format('SELECT array_agg(to_jsonb(l)) FROM %s l', measure_rules.leads_table) INTO facts;
    RETURN QUERY SELECT * FROM leadroute.measure_version_rules(leadroute.policy_version_id(measure_rules.name, measure_rules.version),
        coalesce(facts, '{}'), measure_rules.rounds, measure_rules.indexed);
END $$;
COMMENT ON FUNCTION leadroute.measure_rules(text, integer, regclass, integer, boolean) IS
    'Measures what matching the rows of a table costs under a version, null: the active one: its columns are facts by name, such as country, score or attributes. Each row is matched rounds times, after one round that is not counted. indexed false: all rules are tried one after the other. Returns how often, how many had a rule, nanoseconds a lead, and rules verified a lead. Raises 22023 for a column of another type than its fact, 42704 and 55000 as policy_document().';

CREATE FUNCTION leadroute.version_rule_index(policy_version_id integer, OUT rules integer, OUT bytes bigint, OUT columns integer, OUT groups integer,
    OUT buckets integer, OUT trees integer, OUT shapes integer, OUT prepared_bytes bigint)
    LANGUAGE c VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_rule_index';
COMMENT ON FUNCTION leadroute.version_rule_index(integer) IS
    'Describes the rule index of a version by its id: rules, bytes in memory, columns, groups of rules that compare the same columns for equality, buckets of rules with the same constants, buckets with a tree over bounds, conditions that differ in more than constants, and bytes that this session has prepared of these.';

CREATE FUNCTION leadroute.rule_index(name text, version integer DEFAULT NULL, OUT rules integer, OUT bytes bigint, OUT columns integer, OUT groups integer,
    OUT buckets integer, OUT trees integer, OUT shapes integer, OUT prepared_bytes bigint)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM leadroute.version_rule_index(leadroute.policy_version_id(name, version));
$$;
COMMENT ON FUNCTION leadroute.rule_index(text, integer) IS 'Describes the rule index of a version, as version_rule_index(); version null: of the active one. Raises 42704 and 55000 as policy_document().';

CREATE FUNCTION leadroute.rebuild_version_rule_index(policy_version_id integer) RETURNS bigint
    LANGUAGE c VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_rebuild_rule_index';
COMMENT ON FUNCTION leadroute.rebuild_version_rule_index(integer) IS 'Makes the stored rule index of a version by its id anew, from its rules. Returns its bytes. Worth while after an upgrade to another major version of PostgreSQL: until then every session makes one for itself.';

CREATE FUNCTION leadroute.rebuild_rule_index(name text, version integer DEFAULT NULL) RETURNS bigint
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT leadroute.rebuild_version_rule_index(leadroute.policy_version_id(name, version));
$$;
COMMENT ON FUNCTION leadroute.rebuild_rule_index(text, integer) IS 'Makes the stored rule index of a version anew, as rebuild_version_rule_index(); version null: of the active one. Raises 42704 and 55000 as policy_document().';

CREATE VIEW leadroute.policy_history AS
    SELECT a.at, a.act, coalesce(p.name, d.kind || ' ' || d.name, a.subject, 'draft ' || a.draft) AS name, coalesce(v.version, d.version) AS version,
           w.version AS previous_version, encode(coalesce(v.content_hash, d.content_hash), 'hex') AS content_hash, a.reason, a.draft, a.effective_at,
           a.forced, a.overridden, a.session_user_name, a.current_user_name, a.application, a.client_address
    FROM leadroute.policy_acts a
    LEFT JOIN leadroute.policies p USING (policy_id)
    LEFT JOIN leadroute.policy_versions v ON v.policy_version_id = a.policy_version_id
    LEFT JOIN leadroute.policy_versions w ON w.policy_version_id = a.previous_version_id
    LEFT JOIN leadroute.documents d ON d.document_id = a.document_id;
COMMENT ON VIEW leadroute.policy_history IS 'Who published, approved, activated, scheduled, tried, rolled back and discarded what, when and why.';
COMMENT ON COLUMN leadroute.policy_history.at IS 'When it was done; of an activation that had been scheduled, when it was entered: effective_at says from when on.';
COMMENT ON COLUMN leadroute.policy_history.act IS 'What was done: see policy_acts.';
COMMENT ON COLUMN leadroute.policy_history.name IS 'The policy; of a document its kind and name; the flag; the table and its mode; of a draft for a policy that there never was, the draft.';
COMMENT ON COLUMN leadroute.policy_history.version IS 'The version that the act is about.';
COMMENT ON COLUMN leadroute.policy_history.previous_version IS 'The version that was active before; null if none was, and for acts that change none.';
COMMENT ON COLUMN leadroute.policy_history.content_hash IS 'SHA-256, in hex: see policy_versions and documents.';
COMMENT ON COLUMN leadroute.policy_history.reason IS 'Why, as the caller said.';
COMMENT ON COLUMN leadroute.policy_history.draft IS 'The draft that was published or discarded.';
COMMENT ON COLUMN leadroute.policy_history.effective_at IS 'From when on the version decides; of cancel, when it would have.';
COMMENT ON COLUMN leadroute.policy_history.forced IS 'Whether it went past a check that refused it.';
COMMENT ON COLUMN leadroute.policy_history.overridden IS 'What it went past; null unless forced.';
COMMENT ON COLUMN leadroute.policy_history.session_user_name IS 'Who had logged in; of an activation that had been scheduled, who scheduled it.';
COMMENT ON COLUMN leadroute.policy_history.current_user_name IS 'In whose role it was done.';
COMMENT ON COLUMN leadroute.policy_history.application IS 'The session''s application_name.';
COMMENT ON COLUMN leadroute.policy_history.client_address IS 'From where; null for a Unix-domain socket.';

CREATE VIEW leadroute.forced_acts AS
    SELECT h.at, h.act, h.name, h.version, h.overridden, h.reason, h.session_user_name, h.current_user_name, h.application, h.client_address
    FROM leadroute.policy_history h WHERE h.forced;
COMMENT ON VIEW leadroute.forced_acts IS 'What was done past a check that refused it: failed tests, a newer active version, a missing approval, or that one is required.';
COMMENT ON COLUMN leadroute.forced_acts.overridden IS 'What it went past.';
COMMENT ON COLUMN leadroute.forced_acts.reason IS 'Why, as the caller said.';
COMMENT ON COLUMN leadroute.forced_acts.session_user_name IS 'Who had logged in.';
COMMENT ON COLUMN leadroute.forced_acts.current_user_name IS 'In whose role it was done.';
COMMENT ON COLUMN leadroute.forced_acts.application IS 'The session''s application_name.';
COMMENT ON COLUMN leadroute.forced_acts.client_address IS 'From where; null for a Unix-domain socket.';
