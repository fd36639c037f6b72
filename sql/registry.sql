-- registry: which agents exist and what each can do; and the versioned documents that steps depend on.

CREATE SEQUENCE leadroute.agent_ids AS integer START 1000;
COMMENT ON SEQUENCE leadroute.agent_ids IS 'Ids of registered agents, from 1000.';
CREATE TABLE leadroute.agents (
    agent_id integer PRIMARY KEY DEFAULT nextval('leadroute.agent_ids'),
    name text NOT NULL CHECK (name ~ '^[A-Za-z][A-Za-z0-9_.-]{0,62}$'),
    version text NOT NULL CHECK (version ~ '^[A-Za-z0-9][A-Za-z0-9_.+-]{0,62}$'),
    capabilities text[] NOT NULL CHECK (cardinality(capabilities) > 0 AND array_position(capabilities, NULL) IS NULL),
    kind text NOT NULL CHECK (kind IN ('builtin', 'sql', 'external')),
    function text,
    function_digest bytea,
    owner regrole,
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'deprecated', 'retired')),
    region text,
    description text NOT NULL DEFAULT '',
    inputs text[] CHECK (array_position(inputs, NULL) IS NULL),
    processor text,
    keeps_state boolean NOT NULL DEFAULT false,
    max_concurrent integer CHECK (max_concurrent > 0),
    max_per_second real CHECK (max_per_second > 0),
    breaker_failures integer NOT NULL DEFAULT 5 CHECK (breaker_failures > 0),
    breaker_cooldown interval NOT NULL DEFAULT '30 seconds' CHECK (breaker_cooldown > interval '0'),
    breaker_probes integer NOT NULL DEFAULT 1 CHECK (breaker_probes > 0),
    registered_at timestamptz NOT NULL DEFAULT now(),
    registered_by name NOT NULL DEFAULT session_user,
    UNIQUE (name, version),
    CHECK ((kind = 'sql') = (function IS NOT NULL))
);
COMMENT ON TABLE leadroute.agents IS 'The registry: every agent version, what it can do, and whether it may be used. A version never changes but for its state.';
COMMENT ON COLUMN leadroute.agents.capabilities IS 'Tags of the kinds of work it offers, such as validateContact.';
COMMENT ON COLUMN leadroute.agents.kind IS 'builtin (C, in the inserting transaction), sql (a function), external (takes tasks).';
COMMENT ON COLUMN leadroute.agents.function IS 'Of an SQL agent: schema-qualified name and argument types.';
COMMENT ON COLUMN leadroute.agents.function_digest IS 'SHA-256 of the function''s definition when it was registered; a step whose agent no longer matches fails rather than change its meaning.';
COMMENT ON COLUMN leadroute.agents.owner IS 'The role an SQL agent runs as: the owner of its function, who alone can register it.';
COMMENT ON COLUMN leadroute.agents.state IS 'active; deprecated (versions that name it go on, new ones are refused); retired (its steps fail).';
COMMENT ON COLUMN leadroute.agents.agent_id IS 'Below 1000: built in.';
COMMENT ON COLUMN leadroute.agents.name IS 'Together with the version, unique.';
COMMENT ON COLUMN leadroute.agents.region IS 'Where an external agent processes what it is given, a name such as eu; null: unknown. Steps may forbid regions.';
COMMENT ON COLUMN leadroute.agents.inputs IS 'What it is given: attributes ("attributes.key" for one key), and capabilities of earlier steps. Null: everything (SQL agents only).';
COMMENT ON COLUMN leadroute.agents.processor IS 'Who runs an external agent, such as a company''s name; for readers of the registry.';
COMMENT ON COLUMN leadroute.agents.keeps_state IS 'Its output may depend on what it was asked before: unless it says which version of its state answered, its step is marked as not recomputable.';
COMMENT ON COLUMN leadroute.agents.max_concurrent IS 'How many tasks it may have in hand at a time; null: any number.';
COMMENT ON COLUMN leadroute.agents.max_per_second IS 'How many tasks a second it is given at most, in the mean over some seconds; null: any number.';
COMMENT ON COLUMN leadroute.agents.breaker_failures IS 'Failures in a row that open its circuit breaker.';
COMMENT ON COLUMN leadroute.agents.breaker_cooldown IS 'How long the breaker stays open before it lets probes through.';
COMMENT ON COLUMN leadroute.agents.breaker_probes IS 'Tasks let through by a half-open breaker; when all of them succeed it closes.';
COMMENT ON COLUMN leadroute.agents.registered_by IS 'The session''s user.';
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.agents
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();

INSERT INTO leadroute.agents (agent_id, name, version, capabilities, kind, description) VALUES
    (1, 'validateContact', '1', '{validateContact}', 'builtin', 'E-mail and phone: syntax, normal form, kind of address, what is missing.'),
    (2, 'checkRegionalCompliance', '1', '{checkRegionalCompliance}', 'builtin', 'Consent against the rules of the lead''s jurisdiction.'),
    (3, 'enrichWithFirmographicData', '1', '{enrichWithFirmographicData}', 'builtin', 'Fills missing attributes of the company from leadroute.firmographics, by domain.'),
    (4, 'computeLeadScore', '1', '{computeLeadScore}', 'builtin', 'Points by a scorecard, with the reason for every point.'),
    (5, 'assignOwner', '1', '{assignOwner}', 'builtin', 'The first rule that holds chooses a pool, the pool rotates.'),
    (6, 'matchAccount', '1', '{matchAccount}', 'builtin', 'Which of the team''s accounts the lead belongs to, with all candidates, and who works it.');
-- Stands for whoever will offer the capability: an external step can be published before its agent is registered.
INSERT INTO leadroute.agents (agent_id, name, version, capabilities, kind, inputs, description) VALUES
    (99, 'anybody', '1', '{anything}', 'external', '{}', 'Any external agent that offers the capability of the step; of the inputs that it declared it is given what is plain.');

CREATE FUNCTION leadroute.register_agent(name text, version text, capabilities text[], function regprocedure, description text DEFAULT '') RETURNS integer
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_register_agent';
COMMENT ON FUNCTION leadroute.register_agent(text, text, text[], regprocedure, text) IS
    'Registers one version of an SQL agent. capabilities: tags of the work it offers, other than the built-in ones. function: takes one jsonb, the lead''s attributes and the outputs so far, and returns jsonb, an object; it runs as its owner, who has to be the caller. Returns the agent id. Raises 42501 for somebody else''s function, 42P13 for one of another shape, 22023 for unusable names, 23505 if the version exists.';

CREATE FUNCTION leadroute.register_external_agent(name text, version text, capabilities text[], inputs text[] DEFAULT '{}', processor text DEFAULT NULL,
                                                  region text DEFAULT NULL, keeps_state boolean DEFAULT false, max_concurrent integer DEFAULT NULL,
                                                  max_per_second real DEFAULT NULL, breaker_failures integer DEFAULT 5,
                                                  breaker_cooldown interval DEFAULT '30 seconds', breaker_probes integer DEFAULT 1, description text DEFAULT '')
    RETURNS integer
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_register_external_agent';
COMMENT ON FUNCTION leadroute.register_external_agent(text, text, text[], text[], text, text, boolean, integer, real, integer, interval, integer, text) IS
    'Registers one version of an agent outside, which takes tasks through claim_tasks(); the caller becomes its owner. capabilities: tags of the work it offers, other than the built-in ones. inputs: its contract, the attributes ("attributes.key" for one key) and capabilities of earlier steps that it is given, and nothing else. processor, region: who runs it, and where; null: unknown. keeps_state: its answers may depend on what it was asked before. max_concurrent, max_per_second: how many tasks it may have in hand, and is given a second; null: any number. breaker_failures, breaker_cooldown, breaker_probes: so many failures in a row open its circuit breaker; after so long so many probes go through. Returns the agent id. Raises 22023 for unusable names, 23514 for numbers that are not positive, 23505 if the version exists.';

CREATE FUNCTION leadroute.deprecate_agent(name text, version text, retire boolean DEFAULT false) RETURNS void
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_deprecate_agent';
COMMENT ON FUNCTION leadroute.deprecate_agent(text, text, boolean) IS
    'Marks an agent version deprecated: policy versions that name it go on, new ones cannot. retire: its steps fail from now on, too. Raises 42704 if there is none, 42501 for somebody else''s, 0A000 for a built-in one, 55000 if it is retired and retire is false.';

CREATE SEQUENCE leadroute.document_ids AS integer START 1000;
COMMENT ON SEQUENCE leadroute.document_ids IS 'Ids of published documents, from 1000.';
CREATE TABLE leadroute.documents (
    document_id integer PRIMARY KEY DEFAULT nextval('leadroute.document_ids'),
    kind text NOT NULL CHECK (kind IN ('scorecard', 'jurisdictions')),
    name text NOT NULL,
    version integer NOT NULL,
    document jsonb NOT NULL,
    content_hash bytea NOT NULL,
    reason text NOT NULL,
    published_by name NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (kind, name, version)
);
COMMENT ON TABLE leadroute.documents IS 'Scorecards and jurisdiction rules: immutable versions that a policy version pins by number and digest.';
COMMENT ON COLUMN leadroute.documents.content_hash IS 'SHA-256 of the document''s text.';
COMMENT ON COLUMN leadroute.documents.document_id IS 'Below 1000: comes with leadroute.';
COMMENT ON COLUMN leadroute.documents.kind IS 'scorecard (see docs/scoring.md) or jurisdictions (see docs/agents.md).';
COMMENT ON COLUMN leadroute.documents.version IS 'From 1, dense within kind and name.';
COMMENT ON COLUMN leadroute.documents.reason IS 'Why it was published.';
COMMENT ON COLUMN leadroute.documents.published_by IS 'The session''s user.';
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.documents
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();
