-- pipeline: routing by hand, catching up, and submitting a lead for its decision.

CREATE FUNCTION leadroute.route_lead(lead_id bigint, reason text DEFAULT '') RETURNS bigint
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_route_lead';
COMMENT ON FUNCTION leadroute.route_lead(bigint, text) IS
    'Routes one lead by hand. Where nothing changed since its current decision (attributes, policy version, outputs, rule, and the owner still an available member of the pool), that decision stands and is returned; otherwise a new run supersedes it. reason: for the record, no personal data. Returns the decision id. Raises 42704 if there is no such lead, 55000 if its row is gone or no policy is active.';

CREATE FUNCTION leadroute.route_leads(lead_ids bigint[], reason text DEFAULT '') RETURNS TABLE (lead_id bigint, decision_id bigint, changed boolean)
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_route_leads';
COMMENT ON FUNCTION leadroute.route_leads(bigint[], text) IS
    'Routes many leads by hand, as route_lead() does, as a set. Returns each lead''s decision, and whether it is a new one. Raises as route_lead() does.';

CREATE FUNCTION leadroute.route_pending(relation regclass DEFAULT NULL, max bigint DEFAULT 100000) RETURNS bigint
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_route_pending';
COMMENT ON FUNCTION leadroute.route_pending(regclass, bigint) IS
    'Routes leads that no run has decided: rows older than the attachment, rows that logical replication brought, rows loaded with leadroute.enabled off, rows that met no active policy. relation: one attached table; null for all. max: how many at most. Returns how many were routed. Raises 55000 for a table that is not attached.';

CREATE FUNCTION leadroute.unrouted(relation regclass DEFAULT NULL)
    RETURNS TABLE (leads_table text, lead_id bigint, row_key text, reason text, by_user text, since timestamptz)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF relation IS NOT NULL AND NOT EXISTS (SELECT FROM leadroute.attached_tables a WHERE a.relation = unrouted.relation) THEN
        RAISE object_not_in_prerequisite_state USING MESSAGE = format('table %s is not attached', relation),
            HINT = 'Attach it with leadroute.attach_table().';
    END IF;
    RETURN QUERY
        SELECT t.relation_name, r.lead_id, r.row_key, CASE WHEN s.closed_at IS NULL THEN coalesce(s.reason_code, 'not_seen') ELSE 'not_seen' END,
               CASE WHEN s.closed_at IS NULL THEN s.changed_by::text END, CASE WHEN s.closed_at IS NULL THEN s.since END
        FROM leadroute.attached_tables t
        CROSS JOIN LATERAL leadroute.attached_rows(t.relation) r
        LEFT JOIN leadroute.lead_states s ON s.lead_id = r.lead_id
        WHERE t.relation IS NOT NULL AND (unrouted.relation IS NULL OR t.relation = unrouted.relation)
          AND (s.lead_id IS NULL OR (s.outcome = 'pending' AND s.reason_code <> ALL ('{overflow,waiting,review,paused}')) OR s.closed_at IS NOT NULL) AND s.closed_reason IS DISTINCT FROM 'merged';
END $$;
COMMENT ON FUNCTION leadroute.unrouted(regclass) IS
    'Returns the leads that no run has decided, with the reason: routing_disabled, no_policy and policy_unusable (what the active version pins has changed; by_user says whose statement), table_unreadable (when a run that waited was to go on), run_too_long (a run that waited takes no more entries), not_seen (older than the attachment, or brought by logical replication; by nobody that leadroute saw). lead_id: null while the row''s key has none. row_key: the key where its columns are classed plain, otherwise its keyed digest. relation: one attached table; null for all. Reads these tables whole. Raises 55000 for a table that is not attached.';

CREATE VIEW leadroute.unrouted_leads AS SELECT * FROM leadroute.unrouted();
COMMENT ON VIEW leadroute.unrouted_leads IS 'Leads that no run has decided, with the reason and who; route_pending() routes them.';
COMMENT ON COLUMN leadroute.unrouted_leads.leads_table IS 'The lead''s table, by its name when it was attached.';
COMMENT ON COLUMN leadroute.unrouted_leads.lead_id IS 'Null while the row''s key has none.';
COMMENT ON COLUMN leadroute.unrouted_leads.row_key IS 'The key where its columns are classed plain, or where it is the lead id; otherwise its keyed digest.';
COMMENT ON COLUMN leadroute.unrouted_leads.reason IS 'routing_disabled, no_policy, policy_unusable (what the active version pins has changed), table_unreadable (when a run that waited was to go on), run_too_long (a run that waited takes no more entries), or not_seen (older than the attachment, or brought by logical replication).';
COMMENT ON COLUMN leadroute.unrouted_leads.by_user IS 'The user whose statement it was; null for not_seen.';
COMMENT ON COLUMN leadroute.unrouted_leads.since IS 'When it began to wait; null for not_seen.';

-- Not one SELECT with a CASE: a planner that knows the key would cast it, to see what it comes to, whichever branch is taken.
CREATE FUNCTION leadroute.lead_of(relation regclass, key text) RETURNS bigint
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attachment record;
BEGIN
    SELECT t.source_id, t.keyed INTO attachment FROM leadroute.attached_tables t WHERE t.relation = lead_of.relation;
    IF attachment.source_id IS NULL OR attachment.keyed THEN
        RETURN (SELECT k.lead_id FROM leadroute.lead_keys k WHERE k.source_id = attachment.source_id AND k.key = lead_of.key);
    END IF;
    RETURN lead_of.key::bigint;
END $$;
COMMENT ON FUNCTION leadroute.lead_of(regclass, text) IS
    'Returns the lead id of a row of an attached table. key: its primary key as text; of several columns, a JSON array of their text forms; dates in ISO form, times in UTC, as key_of() gives it. Null if there is none.';

CREATE FUNCTION leadroute.submit_lead(lead jsonb, leads_table regclass DEFAULT NULL) RETURNS SETOF leadroute.decisions
    LANGUAGE plpgsql ROWS 1
AS $$
DECLARE
    target regclass := leads_table;
    attachment record;
    columns text;
    unknown text;
    key text;
BEGIN
    IF pg_catalog.jsonb_typeof(lead) IS DISTINCT FROM 'object' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'a lead has to be a JSON object',
            HINT = 'Give {"column": value, …}, such as {"email": "…", "country": "DE"}.';
    END IF;
    target := coalesce(target, pg_catalog.to_regclass('leads'));
    SELECT a.root, a.key_columns INTO attachment FROM leadroute.attachment_of(target) a;
    IF attachment.root IS NULL THEN
        RAISE object_not_in_prerequisite_state USING MESSAGE = pg_catalog.format('table %s is not attached', coalesce(target::text, '"leads"')),
            HINT = 'Name an attached table as the second argument, or call leadroute.setup().';
    END IF;
    SELECT pg_catalog.string_agg(pg_catalog.quote_ident(k), ', ') FILTER (WHERE a.attname IS NOT NULL),
           pg_catalog.string_agg(pg_catalog.quote_ident(k), ', ') FILTER (WHERE a.attname IS NULL)
    INTO columns, unknown
    FROM pg_catalog.jsonb_object_keys(lead) AS k
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = target AND a.attname = k AND a.attnum > 0 AND NOT a.attisdropped;
    IF unknown IS NOT NULL THEN
        RAISE undefined_column USING MESSAGE = pg_catalog.format('table %s has no column %s', target, unknown),
            HINT = 'Put what has no column into "attributes".';
    END IF;
    EXECUTE pg_catalog.format('INSERT INTO %1$s AS inserted %2$s RETURNING leadroute.key_of($2, %3$s)', target,
                   CASE WHEN columns IS NULL THEN 'DEFAULT VALUES'
                        ELSE pg_catalog.format('(%1$s) SELECT %1$s FROM pg_catalog.jsonb_populate_record(NULL::%2$s, $1)', columns, target) END,
                   (SELECT pg_catalog.string_agg(pg_catalog.format('inserted.%I', c), ', ' ORDER BY i) FROM pg_catalog.unnest(attachment.key_columns) WITH ORDINALITY AS u (c, i)))
        INTO STRICT key USING lead, target;
    RETURN QUERY SELECT d.* FROM leadroute.decisions d
        WHERE d.lead_id = leadroute.lead_of(attachment.root, key) AND d.current;
END $$;
COMMENT ON FUNCTION leadroute.submit_lead(jsonb, regclass) IS
    'Inserts one lead as the caller and returns its decision. lead: object of column to value. leads_table: an attached table; null for the table "leads" on the search_path. Returns the row of decisions; none while the lead is pending. Raises 22023, 42703, 55000, and what the INSERT raises.';

-- The quick start: a table, a pool, a scorecard and a policy that make sense together, to be replaced by the team's own.
CREATE FUNCTION leadroute.setup(leads_table text DEFAULT 'leads', owners text[] DEFAULT '{}') RETURNS regclass
    LANGUAGE plpgsql
AS $$
DECLARE
    made regclass;
    inbound integer;
BEGIN
    made := leadroute.create_leads_table(leads_table);
    INSERT INTO leadroute.owners (reference) SELECT o FROM pg_catalog.unnest(owners) AS o ON CONFLICT DO NOTHING;
    INSERT INTO leadroute.pools (name, description) VALUES ('inbound', 'All leads, until the policy has rules of its own.')
        ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING pool_id INTO inbound;
    INSERT INTO leadroute.pool_members (pool_id, owner_id)
        SELECT inbound, o.owner_id FROM leadroute.owners o WHERE o.reference = ANY (owners) ON CONFLICT DO NOTHING;
    IF NOT EXISTS (SELECT FROM leadroute.documents d WHERE d.kind = 'scorecard' AND d.name = 'standard') THEN
        PERFORM leadroute.publish_scorecard('standard', '{
            "description": "A plain start: size, e-mail, phone, earlier contacts, industry.",
            "base": 10,
            "characteristics": [
                {"code": "company_size", "bins": [{"when": "company_size >= 1000", "points": 30}, {"when": "company_size >= 100", "points": 20},
                                                  {"when": "company_size >= 10", "points": 10}]},
                {"code": "email", "bins": [{"when": "validateContact.email_kind = ''business'' AND NOT validateContact.role_address", "points": 20},
                                           {"when": "validateContact.email_kind = ''business''", "points": 10}]},
                {"code": "phone", "bins": [{"when": "validateContact.phone = ''ok''", "points": 10}]},
                {"code": "prior_interactions", "bins": [{"when": "prior_interactions >= 3", "points": 20}, {"when": "prior_interactions >= 1", "points": 10}]},
                {"code": "industry", "bins": [{"when": "industry IS NOT NULL", "points": 5}]}
            ],
            "tiers": [{"tier": "A", "from": 70}, {"tier": "B", "from": 45}, {"tier": "C", "from": 25}, {"tier": "D", "from": 0}]}', 'quick start');
    END IF;
    -- what decides already, somebody wrote
    IF EXISTS (SELECT FROM leadroute.active_policies a WHERE a.name = 'default') THEN
        RAISE NOTICE USING MESSAGE = 'policy "default" is active already, and stays as it is',
            HINT = 'It routes the new table, too. Give the table another policy with leadroute.create_leads_table(), if that is meant.';
        RETURN made;
    END IF;
    PERFORM leadroute.publish_policy('default', '{
        "leadroute": 1,
        "description": "Quick start: every lead that may be contacted goes to the pool inbound.",
        "steps": [{"capability": "validateContact"},
                  {"capability": "checkRegionalCompliance"},
                  {"capability": "enrichWithFirmographicData", "after": ["validateContact"]},
                  {"capability": "computeLeadScore", "after": ["validateContact"]},
                  {"capability": "assignOwner", "after": ["computeLeadScore"]}],
        "rules": [{"name": "everyone", "when": "true", "pool": "inbound"}]}', 'quick start');
    PERFORM leadroute.activate_policy('default', NULL, 'quick start');
    RETURN made;
END $$;
COMMENT ON FUNCTION leadroute.setup(text, text[]) IS
    'The quick start: makes and attaches the standard leads table, a pool inbound with the given owners, a scorecard and the policy default, and activates it; where that is active already, it stays as it is, and a notice says so. leads_table: table or schema.table. owners: pseudonymous references. Returns the table. Needs the roles leadroute_author and leadroute_approver. Raises what these steps raise.';
