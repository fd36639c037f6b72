-- policy: versioned, immutable rule sets and pipeline steps.

CREATE SEQUENCE leadroute.policy_ids AS integer;
COMMENT ON SEQUENCE leadroute.policy_ids IS 'Ids of policies.';
CREATE TABLE leadroute.policies (
    policy_id integer PRIMARY KEY DEFAULT nextval('leadroute.policy_ids'),
    name text NOT NULL UNIQUE,
    active_version_id integer,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE leadroute.policies IS 'Policies by name, and which version of each is active.';
COMMENT ON COLUMN leadroute.policies.active_version_id IS 'The version that decides now; null before the first activation: leads then wait, pending, with reason no_policy.';
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.policies
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();

-- No foreign keys here: pg_restore -j loads the tables of an extension in any order. Only the functions below write them.
CREATE SEQUENCE leadroute.policy_version_ids AS integer;
COMMENT ON SEQUENCE leadroute.policy_version_ids IS 'Ids of policy versions.';
CREATE TABLE leadroute.policy_versions (
    policy_version_id integer PRIMARY KEY DEFAULT nextval('leadroute.policy_version_ids'),
    policy_id integer NOT NULL,
    version integer NOT NULL,
    document jsonb NOT NULL,
    pins jsonb NOT NULL,
    content_hash bytea NOT NULL,
    reason text NOT NULL,
    published_by name NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (policy_id, version)
);
COMMENT ON TABLE leadroute.policy_versions IS 'Published versions; none ever changes.';
COMMENT ON COLUMN leadroute.policy_versions.document IS 'The document as published (see docs/policy.md).';
COMMENT ON COLUMN leadroute.policy_versions.pins IS 'What the version depends on: for each step the agent version and document version that were current when it was published, with digests.';
COMMENT ON COLUMN leadroute.policy_versions.content_hash IS 'SHA-256 of the document''s text and the pins'' text.';
COMMENT ON COLUMN leadroute.policy_versions.policy_version_id IS 'What entries and states refer to.';
COMMENT ON COLUMN leadroute.policy_versions.version IS 'From 1, dense within the policy.';
COMMENT ON COLUMN leadroute.policy_versions.reason IS 'Why it was published.';
COMMENT ON COLUMN leadroute.policy_versions.published_by IS 'The session''s user.';

CREATE SEQUENCE leadroute.policy_act_ids;
COMMENT ON SEQUENCE leadroute.policy_act_ids IS 'Ids of policy acts.';
CREATE TABLE leadroute.policy_acts (
    policy_act_id bigint PRIMARY KEY DEFAULT nextval('leadroute.policy_act_ids'),
    at timestamptz NOT NULL DEFAULT now(),
    act text NOT NULL CHECK (act IN ('publish', 'activate', 'rollback', 'publish_document')),
    policy_id integer,
    policy_version_id integer,
    document_id integer,
    previous_version_id integer,
    reason text NOT NULL,
    session_user_name name NOT NULL,
    current_user_name name NOT NULL,
    application text NOT NULL,
    client_address inet
);
COMMENT ON TABLE leadroute.policy_acts IS 'What people did with policies and documents: who, when, from where, why. Append-only.';
COMMENT ON COLUMN leadroute.policy_acts.act IS 'publish, activate and rollback of a policy; publish_document of a scorecard or jurisdictions.';
COMMENT ON COLUMN leadroute.policy_acts.policy_version_id IS 'The version that was published or made active.';
COMMENT ON COLUMN leadroute.policy_acts.document_id IS 'The document that was published.';
COMMENT ON COLUMN leadroute.policy_acts.previous_version_id IS 'The version that was active before; null if none was, and for publishing.';
COMMENT ON COLUMN leadroute.policy_acts.reason IS 'Why, as the caller said.';
COMMENT ON COLUMN leadroute.policy_acts.session_user_name IS 'Who had logged in.';
COMMENT ON COLUMN leadroute.policy_acts.current_user_name IS 'In whose role it was done.';
COMMENT ON COLUMN leadroute.policy_acts.application IS 'The session''s application_name.';
COMMENT ON COLUMN leadroute.policy_acts.client_address IS 'From where; null for a Unix-domain socket.';

CREATE FUNCTION leadroute.policy_mistakes(document jsonb) RETURNS TABLE (place text, problem text, hint text)
    LANGUAGE c STABLE STRICT SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_policy_mistakes';
COMMENT ON FUNCTION leadroute.policy_mistakes(jsonb) IS
    'Checks a policy document whole, without publishing it. Returns every mistake: its place as a path such as rules[3].when, the problem, and how to mend it; no row if there is none.';

CREATE FUNCTION leadroute.publish_policy(name text, document jsonb, reason text) RETURNS integer
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_publish_policy';
COMMENT ON FUNCTION leadroute.publish_policy(text, jsonb, text) IS
    'Publishes a document as the next version of a policy, immutable from then on, and not yet active. Returns the version number. A document equal to the newest version, dependencies included, gives that version again. Raises 22023 with every mistake and its place in the detail.';

CREATE FUNCTION leadroute.activate_policy(name text, version integer DEFAULT NULL, reason text DEFAULT '') RETURNS integer
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_activate_policy';
COMMENT ON FUNCTION leadroute.activate_policy(text, integer, text) IS
    'Makes a version the one that decides, from the next statement of every session on. version: null for the newest. Returns the version number. Raises 42704 if there is none, 55000 if an agent of it is retired or it reads a protected attribute without a justification.';

CREATE FUNCTION leadroute.rollback_policy(name text, reason text DEFAULT '') RETURNS integer
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_rollback_policy';
COMMENT ON FUNCTION leadroute.rollback_policy(text, text) IS
    'Makes the version active again that was active before the present one. Returns its number. Raises 42704 if there is no such policy, 55000 if there was no version before.';

CREATE VIEW leadroute.policy_history AS
    SELECT a.at, a.act, coalesce(p.name, d.kind || ' ' || d.name) AS name, coalesce(v.version, d.version) AS version, w.version AS previous_version,
           encode(coalesce(v.content_hash, d.content_hash), 'hex') AS content_hash, a.reason, a.session_user_name, a.current_user_name, a.application, a.client_address
    FROM leadroute.policy_acts a
    LEFT JOIN leadroute.policies p USING (policy_id)
    LEFT JOIN leadroute.policy_versions v ON v.policy_version_id = a.policy_version_id
    LEFT JOIN leadroute.policy_versions w ON w.policy_version_id = a.previous_version_id
    LEFT JOIN leadroute.documents d ON d.document_id = a.document_id;
COMMENT ON VIEW leadroute.policy_history IS 'Who published, activated and rolled back what, when and why.';
COMMENT ON COLUMN leadroute.policy_history.act IS 'publish, activate and rollback of a policy; publish_document of a scorecard or jurisdictions.';
COMMENT ON COLUMN leadroute.policy_history.name IS 'The policy; of a document its kind and name.';
COMMENT ON COLUMN leadroute.policy_history.version IS 'The version that was published or made active.';
COMMENT ON COLUMN leadroute.policy_history.previous_version IS 'The version that was active before; null if none was, and for publishing.';
COMMENT ON COLUMN leadroute.policy_history.content_hash IS 'SHA-256, in hex: see policy_versions and documents.';
COMMENT ON COLUMN leadroute.policy_history.reason IS 'Why, as the caller said.';
COMMENT ON COLUMN leadroute.policy_history.session_user_name IS 'Who had logged in.';
COMMENT ON COLUMN leadroute.policy_history.current_user_name IS 'In whose role it was done.';
COMMENT ON COLUMN leadroute.policy_history.application IS 'The session''s application_name.';
COMMENT ON COLUMN leadroute.policy_history.client_address IS 'From where; null for a Unix-domain socket.';
