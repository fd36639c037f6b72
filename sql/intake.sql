-- intake: which tables hold leads, how a row's identity becomes a lead id, and the current state of each lead.

CREATE TYPE leadroute.outcome AS ENUM ('pending', 'assigned', 'nurture', 'rejected', 'no_rule', 'quarantined');
COMMENT ON TYPE leadroute.outcome IS 'How a run ended; pending until then.';

-- 2^53 - 1: ids stay exact in JSON and in JavaScript.
CREATE SEQUENCE leadroute.lead_ids MAXVALUE 9007199254740991;
COMMENT ON SEQUENCE leadroute.lead_ids IS 'Lead ids. A leads table whose bigint key defaults from here needs no entry in lead_keys.';

CREATE SEQUENCE leadroute.source_ids AS integer;
COMMENT ON SEQUENCE leadroute.source_ids IS 'Ids of attached tables.';
CREATE TABLE leadroute.attached_tables (
    source_id integer PRIMARY KEY DEFAULT nextval('leadroute.source_ids'),
    relation regclass UNIQUE,
    relation_name text NOT NULL,
    policy text NOT NULL,
    mapping jsonb NOT NULL,
    classes jsonb NOT NULL,
    protected text[] NOT NULL,
    reroute_on text[] NOT NULL,
    key_columns text[] NOT NULL,
    keyed boolean NOT NULL,
    attached_at timestamptz NOT NULL DEFAULT now(),
    attached_by name NOT NULL,
    detached_at timestamptz,
    mode text NOT NULL DEFAULT 'route' CHECK (mode IN ('route', 'observe')),
    baseline_owner text
);
COMMENT ON TABLE leadroute.attached_tables IS 'The tables whose rows are leads. Written by attach_table() and detach_table(), read by everything.';
COMMENT ON COLUMN leadroute.attached_tables.source_id IS 'Names the table in states and entries; kept when the table is detached or dropped.';
COMMENT ON COLUMN leadroute.attached_tables.relation IS 'The table; null once it is detached or dropped.';
COMMENT ON COLUMN leadroute.attached_tables.mapping IS 'Lead attribute to column name, or to {"value": constant}.';
COMMENT ON COLUMN leadroute.attached_tables.classes IS 'Attribute to class (direct, personal, sensitive, plain); what is not listed is personal. "attributes.key" classes one key.';
COMMENT ON COLUMN leadroute.attached_tables.protected IS 'Attributes that a rule or model may read only with a recorded justification.';
COMMENT ON COLUMN leadroute.attached_tables.reroute_on IS 'Columns whose UPDATE routes the lead again.';
COMMENT ON COLUMN leadroute.attached_tables.keyed IS 'True where lead_keys maps the primary key to a lead id; false where the key itself is the lead id.';
COMMENT ON COLUMN leadroute.attached_tables.relation_name IS 'The table''s schema-qualified name when it was attached.';
COMMENT ON COLUMN leadroute.attached_tables.policy IS 'The policy, by name, whose active version routes its leads.';
COMMENT ON COLUMN leadroute.attached_tables.mode IS 'route, or observe: leadroute decides beside another router, and nothing acts on it.';
COMMENT ON COLUMN leadroute.attached_tables.baseline_owner IS 'The column in which that other router names the owner; it is no attribute of the lead. Null if there is none.';
COMMENT ON COLUMN leadroute.attached_tables.key_columns IS 'The columns of the primary key, in its order.';
COMMENT ON COLUMN leadroute.attached_tables.attached_by IS 'The role that attached it.';
COMMENT ON COLUMN leadroute.attached_tables.detached_at IS 'When it was detached or dropped; null while it is attached.';
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.attached_tables
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();

CREATE TABLE leadroute.lead_keys (
    source_id integer NOT NULL,
    key text NOT NULL,
    lead_id bigint NOT NULL DEFAULT nextval('leadroute.lead_ids'),
    PRIMARY KEY (source_id, key)
);
CREATE UNIQUE INDEX lead_keys_lead_id ON leadroute.lead_keys (lead_id);
COMMENT ON TABLE leadroute.lead_keys IS 'Primary key of a lead''s row, as text, to lead id, for tables whose key is not a lead id itself. A row goes when its lead is deleted.';
COMMENT ON COLUMN leadroute.lead_keys.key IS 'The key''s text form, of several columns a JSON array of theirs; dates in ISO form, times in UTC.';
COMMENT ON COLUMN leadroute.lead_keys.source_id IS 'The table: see attached_tables.';
COMMENT ON COLUMN leadroute.lead_keys.lead_id IS 'The lead of that row.';

CREATE TABLE leadroute.lead_states (
    lead_id bigint PRIMARY KEY,
    run_id bigint,
    since timestamptz NOT NULL,
    closed_at timestamptz,
    score double precision,
    source_id integer NOT NULL,
    policy_version_id integer,
    owner_id integer,
    pool_id integer,
    changed_by regrole NOT NULL,
    outcome leadroute.outcome NOT NULL,
    reason_code text NOT NULL,
    tier text,
    closed_reason text,
    load smallint,
    expected_value bigint,
    response_due_at timestamptz,
    accepted_at timestamptz,
    responded_at timestamptz,
    finished_at timestamptz,
    result text,
    estimated_at timestamptz
) WITH (fillfactor = 90);
-- Few leads wait: the index has them alone.
CREATE INDEX lead_states_pending ON leadroute.lead_states (pool_id, since, lead_id) WHERE outcome = 'pending';
COMMENT ON TABLE leadroute.lead_states IS 'The current state of each lead, one row per lead: what applications read.';
COMMENT ON COLUMN leadroute.lead_states.run_id IS 'The latest run; null while there has been none. Unless the outcome is pending, it is the one that decided.';
COMMENT ON COLUMN leadroute.lead_states.since IS 'The moment (as_of) of the decision; of a lead that waits, of the statement since which it does.';
COMMENT ON COLUMN leadroute.lead_states.closed_at IS 'When the lead''s row went, or the lead was merged: see closed_reason; null while it is there.';
COMMENT ON COLUMN leadroute.lead_states.changed_by IS 'The user whose statement gave the lead this state.';
COMMENT ON COLUMN leadroute.lead_states.reason_code IS 'Why this outcome: a code of the policy, or of leadroute (see docs/pipeline.md).';
COMMENT ON COLUMN leadroute.lead_states.score IS 'What computeLeadScore gave; null if that step was not done.';
COMMENT ON COLUMN leadroute.lead_states.source_id IS 'The table: see attached_tables.';
COMMENT ON COLUMN leadroute.lead_states.policy_version_id IS 'The version that decided; null while the outcome is pending.';
COMMENT ON COLUMN leadroute.lead_states.owner_id IS 'Who works the lead; null unless the outcome is assigned.';
COMMENT ON COLUMN leadroute.lead_states.pool_id IS 'The pool of the rule that decided, also where nobody in it was available; null if the rule leads to none.';
COMMENT ON COLUMN leadroute.lead_states.outcome IS 'pending: the lead waits for route_pending().';
COMMENT ON COLUMN leadroute.lead_states.tier IS 'The tier of the score; null if the scorecard names none.';
COMMENT ON COLUMN leadroute.lead_states.load IS 'How much the lead counts towards caps per open, from when it was assigned: see tier_loads. Null: 1. 0: it was decided while its table was observed, and counts towards no cap.';
COMMENT ON COLUMN leadroute.lead_states.expected_value IS 'Score times the value of the rule, rounded; null if the rule gives no value.';
COMMENT ON COLUMN leadroute.lead_states.response_due_at IS 'By when the owner has to respond first; null if the rule says nothing of it.';
COMMENT ON COLUMN leadroute.lead_states.accepted_at IS 'When the owner accepted the lead; null if not. It goes when the owner changes.';
COMMENT ON COLUMN leadroute.lead_states.responded_at IS 'When somebody first responded to the lead; null if nobody has. It stays when the owner changes.';
COMMENT ON COLUMN leadroute.lead_states.finished_at IS 'When the work on the lead ended: it takes no capacity any more, and its decision stands. Null while it is open.';
COMMENT ON COLUMN leadroute.lead_states.result IS 'How it ended: won or lost; null while it is open.';
COMMENT ON COLUMN leadroute.lead_states.estimated_at IS 'Of a lead that waits in a pool''s overflow: when somebody may take it, as far as can be told; otherwise null.';
COMMENT ON COLUMN leadroute.lead_states.closed_reason IS 'deleted, table dropped, partition dropped, or partition detached; merged: into another lead, see lead_merges; otherwise null.';

CREATE TABLE leadroute.lead_merges (
    merged_lead_id bigint PRIMARY KEY,
    survivor_lead_id bigint NOT NULL,
    merged_at timestamptz NOT NULL,
    merged_by regrole NOT NULL,
    reason text NOT NULL,
    changed_at timestamptz,
    CHECK (merged_lead_id <> survivor_lead_id)
);
CREATE INDEX lead_merges_survivor_lead_id ON leadroute.lead_merges (survivor_lead_id);
COMMENT ON TABLE leadroute.lead_merges IS 'Leads that were merged into others, as merge_leads() was told. A survivor may have been merged later itself: surviving_lead() follows.';
COMMENT ON COLUMN leadroute.lead_merges.merged_lead_id IS 'The lead that is worked no longer.';
COMMENT ON COLUMN leadroute.lead_merges.survivor_lead_id IS 'The lead that stands for it.';
COMMENT ON COLUMN leadroute.lead_merges.merged_at IS 'When merge_leads() was called.';
COMMENT ON COLUMN leadroute.lead_merges.merged_by IS 'Who called it.';
COMMENT ON COLUMN leadroute.lead_merges.reason IS 'The reason that was given.';
COMMENT ON COLUMN leadroute.lead_merges.changed_at IS 'When the merged lead''s row last changed in a way that would have routed it again; null if it has not since.';

-- The triggers of attached tables.
-- This one is called for every statement: it pins the search path itself, where it looks names up.
CREATE FUNCTION leadroute.route_inserted() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_route_inserted';
COMMENT ON FUNCTION leadroute.route_inserted() IS
    'Trigger of attached tables, AFTER INSERT, once per statement: routes all new rows as a set, or, with leadroute.enabled off, marks them pending. Made by attach_table().';

CREATE FUNCTION leadroute.route_updated() RETURNS trigger
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_route_updated';
COMMENT ON FUNCTION leadroute.route_updated() IS
    'Trigger of attached tables with reroute_on, AFTER UPDATE, once per statement: routes again the rows in which one of these columns changed. Made by attach_table().';

CREATE FUNCTION leadroute.close_deleted() RETURNS trigger
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_close_deleted';
COMMENT ON FUNCTION leadroute.close_deleted() IS
    'Trigger of attached tables, AFTER DELETE and AFTER TRUNCATE, once per statement: closes the states of the rows that went; the record stays. Made by attach_table().';

CREATE FUNCTION leadroute.follow_key() RETURNS trigger
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_follow_key';
COMMENT ON FUNCTION leadroute.follow_key() IS
    'Trigger of attached tables, BEFORE UPDATE that changes the key: a mapped key stays the same lead; a key that is the lead id must not change (55000). Made by attach_table().';

-- Makes the triggers of a relation and its partitions what they should be; statement triggers are not inherited.
-- Runs as the extension's owner: called by attach_table(), detach_table() and the event trigger, which check first.
CREATE FUNCTION leadroute.sync_triggers(relation regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted record;
    surplus record;
BEGIN
    FOR wanted IN
        WITH members AS (
            SELECT relation AS relid UNION SELECT t.relid FROM pg_partition_tree(relation) t
        ), attached AS (
            SELECT m.relid, a.relation AS root, cardinality(a.reroute_on) > 0 AS reroute, a.key_columns
            FROM members m
            JOIN leadroute.attached_tables a ON a.relation = m.relid OR a.relation IN (SELECT p.relid FROM pg_partition_ancestors(m.relid) p)
        ), definitions AS (
            SELECT m.relid, t.name, t.definition
            FROM attached m, LATERAL (VALUES
                ('leadroute_insert', true,
                 'AFTER INSERT ON %s REFERENCING NEW TABLE AS new_leads FOR EACH STATEMENT EXECUTE FUNCTION leadroute.route_inserted()'),
                ('leadroute_update', m.reroute,
                 'AFTER UPDATE ON %s REFERENCING OLD TABLE AS old_leads NEW TABLE AS new_leads FOR EACH STATEMENT EXECUTE FUNCTION leadroute.route_updated()'),
                ('leadroute_delete', true,
                 'AFTER DELETE ON %s REFERENCING OLD TABLE AS old_leads FOR EACH STATEMENT EXECUTE FUNCTION leadroute.close_deleted()'),
                ('leadroute_truncate', true,
                 'AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION leadroute.close_deleted()'),
                -- A row trigger: partitions get theirs from the root. The name sorts it behind the team's own BEFORE triggers.
                ('zz_leadroute_key', m.relid = m.root,
                 -- Not UPDATE OF: the team's triggers may change the key, too. As text: 1.0 and 1.00 are equal, but other keys to lead_keys.
                 'BEFORE UPDATE ON %s FOR EACH ROW WHEN ('
                 || (SELECT string_agg(format('OLD.%1$I::text IS DISTINCT FROM NEW.%1$I::text', c), ' OR ') FROM unnest(m.key_columns) AS c)
                 || ') EXECUTE FUNCTION leadroute.follow_key()')
            ) AS t (name, wanted, definition)
            WHERE t.wanted
        )
        SELECT d.relid::regclass AS relid, d.name, d.definition FROM definitions d
        WHERE NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = d.relid AND g.tgname = d.name)
    LOOP
        EXECUTE 'CREATE TRIGGER ' || quote_ident(wanted.name) || ' ' || format(wanted.definition, wanted.relid);
    END LOOP;
    FOR surplus IN
        SELECT m.relid::regclass AS relid, g.tgname
        FROM (SELECT relation AS relid UNION SELECT t.relid FROM pg_partition_tree(relation) t) m
        JOIN pg_trigger g ON g.tgrelid = m.relid AND g.tgparentid = 0
        JOIN pg_proc p ON p.oid = g.tgfoid AND p.pronamespace = 'leadroute'::regnamespace
        WHERE NOT EXISTS (
            SELECT FROM leadroute.attached_tables a
            WHERE a.relation = m.relid OR a.relation IN (SELECT t.relid FROM pg_partition_ancestors(m.relid) t))
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', surplus.tgname, surplus.relid);
    END LOOP;
END $$;
COMMENT ON FUNCTION leadroute.sync_triggers(regclass) IS
    'Makes the triggers that an attached relation and its partitions lack, and drops those of relations that are attached no longer. Part of attach_table(), detach_table() and the event trigger leadroute_partitions.';

CREATE FUNCTION leadroute.attach_table(
    relation regclass,
    mapping jsonb DEFAULT '{}',
    classes jsonb DEFAULT '{}',
    policy text DEFAULT 'default',
    protected text[] DEFAULT '{}',
    reroute_on text[] DEFAULT '{}',
    mode text DEFAULT 'route',
    baseline_owner text DEFAULT NULL
) RETURNS integer
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_attach_table';
COMMENT ON FUNCTION leadroute.attach_table(regclass, jsonb, jsonb, text, text[], text[], text, text) IS
    'Makes a table''s rows leads. relation: an ordinary or partitioned table with a primary key, owned by the caller. mapping: lead attribute to column name or {"value": constant}; columns named like an attribute map by themselves, the rest is in attributes. classes: attribute to direct, personal, sensitive or plain; what is not listed is personal. policy: the policy that routes. protected: attributes that a rule or model may read only with a justification. reroute_on: columns whose UPDATE routes again. mode: route, or observe to decide beside the router that acts, without drawing turns: see set_table_mode(). baseline_owner: the column in which that router names the owner, for trial_comparison; it is no attribute of the lead, and read when comparing. Returns the source id. Rows already there are listed in unrouted_leads and routed by route_pending(). Raises 42809 for what is no table, 42501 for somebody else''s, 55000 without a primary key or when attached already, 22023 for a wrong mapping.';

CREATE FUNCTION leadroute.set_table_mode(relation regclass, mode text, reason text DEFAULT '') RETURNS void
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_set_table_mode';
COMMENT ON FUNCTION leadroute.set_table_mode(regclass, text, text) IS
    'Goes live, or back to observing, from the next statement of every session on. relation: an attached table. mode: route or observe. reason: for policy_history. Leads that were decided before stay as they are, unless they are routed again. Raises 22023 for another mode, 55000 for a table that is not attached.';

CREATE FUNCTION leadroute.detach_table(relation regclass) RETURNS void
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_detach_table';
COMMENT ON FUNCTION leadroute.detach_table(regclass) IS
    'Ends the routing of a table''s rows. States and record stay. Raises 42501 for somebody else''s table, 55000 for one that is not attached.';

CREATE FUNCTION leadroute.create_leads_table(name text DEFAULT 'leads', policy text DEFAULT 'default') RETURNS regclass
    LANGUAGE plpgsql
AS $$
DECLARE
    parts text[] := pg_catalog.parse_ident(name);
    target text;
    schema_name name;
    made regclass;
BEGIN
    IF pg_catalog.cardinality(parts) > 2 THEN
        RAISE invalid_name USING MESSAGE = pg_catalog.format('"%s" is not the name of a table', name),
            HINT = 'Give a table name, or schema.table.';
    END IF;
    target := (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(p), '.' ORDER BY i) FROM pg_catalog.unnest(parts) WITH ORDINALITY AS u (p, i));
    schema_name := CASE WHEN pg_catalog.cardinality(parts) = 2 THEN parts[1]::name ELSE pg_catalog.current_schema() END;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = schema_name OR schema_name IS NULL OR schema_name = 'pg_temp') THEN
        RAISE invalid_schema_name USING MESSAGE = pg_catalog.format('schema "%s" does not exist', schema_name),
            HINT = pg_catalog.format('Make it first: CREATE SCHEMA %I', schema_name);
    ELSIF EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                  WHERE n.nspname = schema_name AND c.relname = parts[pg_catalog.cardinality(parts)]::name) THEN
        RAISE duplicate_table USING MESSAGE = pg_catalog.format('"%s" exists already', name),
            HINT = 'Give another name, or, where it is a table of leads, attach it with leadroute.attach_table().';
    END IF;
    EXECUTE pg_catalog.format($table$
        CREATE TABLE %s (
            lead_id bigint PRIMARY KEY DEFAULT pg_catalog.nextval('leadroute.lead_ids'),
            external_id text,
            source_system text,
            source text,
            country text,
            region text,
            language text,
            industry text,
            company text,
            domain text,
            company_size integer,
            email text,
            phone text,
            consent boolean,
            consent_basis text,
            consent_at timestamptz,
            consent_channels text[],
            prior_interactions integer,
            attributes jsonb,
            received_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
            traceparent text,
            UNIQUE (source_system, external_id)
        )$table$, target);
    made := target::regclass;
    EXECUTE pg_catalog.format('COMMENT ON TABLE %s IS %L', target, 'Leads: each inserted row is routed by leadroute in the same transaction.');
    PERFORM leadroute.attach_table(made, policy => policy, classes => leadroute.standard_classes());
    RETURN made;
END $$;
COMMENT ON FUNCTION leadroute.create_leads_table(text, text) IS
    'Makes the standard leads table, an ordinary table of the caller, and attaches it. name: table or schema.table, by the caller''s search_path. policy: the policy that routes. Returns the table. Raises 42602 for an unusable name, 3F000 if there is no such schema, 42P07 if it exists.';

CREATE FUNCTION leadroute.standard_classes() RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN '{"email": "direct", "phone": "direct", "external_id": "personal", "company": "personal", "domain": "personal", "attributes": "personal",
         "source_system": "plain", "source": "plain", "country": "plain", "region": "plain", "language": "plain", "industry": "plain",
         "company_size": "plain", "consent": "plain", "consent_basis": "plain", "consent_at": "plain", "consent_channels": "plain",
         "prior_interactions": "plain", "received_at": "plain", "traceparent": "plain"}'::jsonb;
COMMENT ON FUNCTION leadroute.standard_classes() IS 'Returns the attribute classes of the standard leads table, to start from: standard_classes() || ''{"region": "personal"}''.';

CREATE FUNCTION leadroute.attached_rows(relation regclass) RETURNS TABLE (lead_id bigint, row_key text, baseline_owner text)
    LANGUAGE c STRICT STABLE ROWS 100000 SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_attached_rows';
COMMENT ON FUNCTION leadroute.attached_rows(regclass) IS
    'Returns the rows of an attached table, read as its owner: the lead id, null while the key has none, and the key, or its keyed digest where its columns are not classed plain; and what the column baseline_owner says, null if the table has none. Part of unrouted(), reconcile() and trial_leads(). Raises 55000 for a table that is not attached.';

CREATE FUNCTION leadroute.close_missing(relation regclass, reason text, by_user regrole) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source integer := (SELECT t.source_id FROM leadroute.attached_tables t WHERE t.relation = close_missing.relation);
    gone bigint[];
BEGIN
    WITH lead_rows AS MATERIALIZED (
        SELECT r.lead_id FROM leadroute.attached_rows(relation) r
    ), closed AS (
        UPDATE leadroute.lead_states s SET closed_at = clock_timestamp(), closed_reason = reason, changed_by = by_user
        WHERE s.source_id = source AND s.closed_at IS NULL AND NOT EXISTS (SELECT FROM lead_rows r WHERE r.lead_id = s.lead_id)
        RETURNING s.lead_id
    ), keys AS (
        DELETE FROM leadroute.lead_keys k WHERE k.source_id = source AND NOT EXISTS (SELECT FROM lead_rows r WHERE r.lead_id = k.lead_id)
    ), told AS (
        INSERT INTO leadroute.event_arrivals (kind, lead_id, source_id)
            SELECT 'lead.removed', c.lead_id, source FROM closed c WHERE leadroute.event_wanted('lead.removed') ORDER BY c.lead_id
    )
    SELECT array_agg(c.lead_id) INTO gone FROM closed c JOIN leadroute.person_leads p USING (lead_id);
    PERFORM leadroute.forget_persons(gone);
END $$;
COMMENT ON FUNCTION leadroute.close_missing(regclass, text, regrole) IS
    'Closes the states of leads whose rows an attached table no longer has, and forgets their keys; reads the table whole. Part of the triggers for TRUNCATE and for partitions that leave.';

CREATE FUNCTION leadroute.attachment_of(relation regclass) RETURNS TABLE (source_id integer, root regclass, key_columns text[])
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT t.source_id, t.relation, t.key_columns
    FROM leadroute.attached_tables t
    WHERE t.relation = $1 OR t.relation IN (SELECT p.relid FROM pg_partition_ancestors($1) p);
END;
COMMENT ON FUNCTION leadroute.attachment_of(regclass) IS
    'Returns how a table, or the partitioned table that it belongs to, is attached: source id, the attached table, its key; no row if it is not.';

CREATE FUNCTION leadroute.key_of(relation regclass, VARIADIC key "any") RETURNS text
    LANGUAGE c STABLE STRICT SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_key_of';
COMMENT ON FUNCTION leadroute.key_of(regclass, "any") IS
    'Returns the key of a row as lead_keys and lead_of() know it, whatever the session''s settings. relation: an attached table, or a partition of one. key: the columns of its primary key, in their order, as in SELECT leadroute.key_of(''leads'', l.lead_id) FROM leads l. Raises 55000 for a table that is not attached, 42804 for other columns.';

-- Partitions that come later get the triggers too; those that leave lose them; a dropped table is detached.
CREATE FUNCTION leadroute.partitions_changed() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_partitions_changed';
COMMENT ON FUNCTION leadroute.partitions_changed() IS
    'Event trigger: after CREATE TABLE … PARTITION OF and ALTER TABLE … ATTACH or DETACH PARTITION, makes or drops the triggers of the partition. Finds the partition by the search_path of the statement, and then pins its own.';
CREATE EVENT TRIGGER leadroute_partitions ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE', 'CREATE SCHEMA')
    EXECUTE FUNCTION leadroute.partitions_changed();
COMMENT ON EVENT TRIGGER leadroute_partitions IS 'Gives partitions that are added later to an attached table their triggers.';

CREATE FUNCTION leadroute.tables_dropped() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone bigint[];
BEGIN
    -- During DROP EXTENSION the table below may be gone already.
    IF to_regclass('leadroute.attached_tables') IS NOT NULL THEN
        WITH dropped AS (
            UPDATE leadroute.attached_tables SET relation = NULL, detached_at = now()
            WHERE relation IN (SELECT d.objid FROM pg_event_trigger_dropped_objects() d WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0)
            RETURNING source_id
        ), keys AS (
            DELETE FROM leadroute.lead_keys k USING dropped d WHERE k.source_id = d.source_id
        ), closed AS (
            UPDATE leadroute.lead_states s SET closed_at = clock_timestamp(), closed_reason = 'table dropped', changed_by = quote_ident(session_user)::regrole
            FROM dropped d WHERE s.source_id = d.source_id AND s.closed_at IS NULL
            RETURNING s.lead_id
        )
        SELECT array_agg(c.lead_id) INTO gone FROM closed c JOIN leadroute.person_leads p USING (lead_id);
        PERFORM leadroute.forget_persons(gone);
        -- What else had our trigger was a partition; the parent that it had is not told.
        IF EXISTS (SELECT FROM pg_event_trigger_dropped_objects() d WHERE d.object_type = 'trigger' AND d.address_names[3] = 'leadroute_insert') THEN
            PERFORM leadroute.close_missing(t.relation, 'partition dropped', quote_ident(session_user)::regrole)
            FROM leadroute.attached_tables t JOIN pg_class c ON c.oid = t.relation WHERE c.relkind = 'p';
        END IF;
    END IF;
END $$;
COMMENT ON FUNCTION leadroute.tables_dropped() IS 'Event trigger: records that a dropped table is attached no longer, and closes the states of its leads, or of those of a dropped partition.';
CREATE EVENT TRIGGER leadroute_drops ON sql_drop WHEN TAG IN ('DROP TABLE', 'DROP SCHEMA', 'DROP OWNED')
    EXECUTE FUNCTION leadroute.tables_dropped();
COMMENT ON EVENT TRIGGER leadroute_drops IS 'Detaches an attached table that is dropped.';

CREATE FUNCTION leadroute.generate_leads(n bigint, seed bigint DEFAULT 1)
    RETURNS TABLE (external_id text, source_system text, source text, country text, region text, language text, industry text, company text,
                   domain text, company_size integer, email text, phone text, consent boolean, consent_basis text, consent_at timestamptz,
                   consent_channels text[], prior_interactions integer, attributes jsonb, received_at timestamptz, traceparent text)
    LANGUAGE c STRICT VOLATILE ROWS 20000 SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_generate_leads';
COMMENT ON FUNCTION leadroute.generate_leads(bigint, bigint) IS
    'Returns n synthetic leads, the same for the same seed on every machine: people and companies that do not exist, at domains that are reserved for examples; some without consent, some malformed, as in life. For demonstrations, tests and load. Raises 22023 for a negative n.';
