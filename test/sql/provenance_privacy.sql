-- What is personal stays with the lead. Every field that is not plain gets a marker; whatever happens to the lead, assigned, rejected, failed
-- in every way, routed again, deleted, no marker is found in any table of leadroute but lead_keys, in any view, explanation or verification,
-- in error messages under leadroute.on_error = abort, nor by listing what waits.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA provenance_privacy;
SET search_path TO provenance_privacy;
CREATE FUNCTION reading(lead jsonb) RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF lead ->> 'source' = 'raise' THEN RAISE EXCEPTION 'no: %', lead USING DETAIL = lead ->> 'email', HINT = lead ->> 'phone', ERRCODE = 'LR001'; END IF;
    IF lead ->> 'source' = 'cast' THEN PERFORM (lead ->> 'email')::int; END IF;
    IF lead ->> 'source' = 'string' THEN RETURN to_jsonb(lead ->> 'email'); END IF;
    RETURN jsonb_build_object('length', length(lead ->> 'email'));
END $$;
SELECT leadroute.register_agent('provenance_privacy', '1', '{readPrivately}', 'reading(jsonb)') > 0 AS registered;
INSERT INTO leadroute.pools (name) VALUES ('provenance_privacy');
INSERT INTO leadroute.owners (reference) VALUES ('privacy a');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT pool_id, owner_id FROM leadroute.pools, leadroute.owners WHERE name = 'provenance_privacy' AND reference = 'privacy a';
INSERT INTO leadroute.firmographics (domain, company, company_size) VALUES ('markerdomain.example', 'Markercompany filled in', 12);
SELECT leadroute.publish_scorecard('provenance_privacy', '{"base": 1, "characteristics": [
    {"code": "seats", "bins": [{"when": "source = ''score'' AND (attributes->>''seats'')::int > 5", "points": 1}]}, {"code": "mail", "bins": [{"when": "email LIKE ''%@%''", "points": 1}]}]}', 'test');
SELECT leadroute.publish_policy('provenance_privacy', '{
    "leadroute": 1, "steps": [{"capability": "validateContact", "stop_when": [{"when": "source = ''stop'' AND phone::int > 1", "outcome": "rejected", "reason": "x"}, {"when": "validateContact.status = ''invalid''", "outcome": "rejected", "reason": "invalid"}]},
        {"capability": "checkRegionalCompliance"}, {"capability": "enrichWithFirmographicData"}, {"capability": "computeLeadScore", "scorecard": "provenance_privacy"}, {"capability": "readPrivately"}, {"capability": "assignOwner"}],
    "rules": [{"name": "raising", "when": "source = ''rule'' AND (attributes->''deep''->>''x'')::int > 1 AND company::int = 1", "outcome": "nurture", "reason": "x"},
              {"name": "personal", "when": "source = ''personal'' AND company LIKE ''Marker%'' AND domain IS NOT NULL AND external_id IS NOT NULL", "outcome": "nurture", "reason": "known"},
              {"name": "rest", "when": "source IS DISTINCT FROM ''none''", "pool": "provenance_privacy"}]}', 'test');
SELECT leadroute.activate_policy('provenance_privacy');
SELECT leadroute.create_leads_table('standard', 'provenance_privacy');
CREATE TABLE mapped (login text PRIMARY KEY, source text, mail text, tel text, firm text, web text, staff text, consent text, country text, born date, note text, extra jsonb, secret bytea, tags text[]);
SELECT leadroute.attach_table('mapped', policy => 'provenance_privacy', reroute_on => '{note}', mapping => '{"email": "mail", "phone": "tel", "company": "firm", "domain": "web", "external_id": "login", "attributes": "extra", "company_size": "staff"}',
    classes => '{"source": "plain", "country": "plain", "consent": "plain", "company": "sensitive", "attributes.plainly": "plain"}') > 0 AS attached;
-- every way that a lead can go
CREATE TABLE ways AS SELECT unnest(ARRAY['assigned', 'raise', 'cast', 'string', 'score', 'rule', 'personal', 'none', 'stop', 'invalid', 'refused', 'unreadable', 'off']) AS way;
INSERT INTO standard (external_id, source_system, source, email, phone, company, domain, country, consent, attributes)
    SELECT 'markerid ' || way, 'crm', way, CASE way WHEN 'invalid' THEN 'markermail@@' || way ELSE 'markermail.' || way || '@markerdomain.example' END, 'markerphone ' || way,
           'Markercompany ' || way, CASE WHEN way <> 'assigned' THEN 'markerdomain.example' END, 'DE', way <> 'refused',
           jsonb_build_object('seats', 'markerseats', 'markerkey', 'markervalue', 'deep', jsonb_build_object('x', 'markerdeep'))
    FROM ways;
INSERT INTO mapped SELECT 'markerlogin ' || way, way, CASE way WHEN 'invalid' THEN 'markermail@@' || way ELSE 'markermail.' || way || '@markerdomain.example' END, 'markerphone ' || way,
           'Markercompany ' || way, 'markerdomain.example', CASE way WHEN 'unreadable' THEN 'markerstaff' END, CASE way WHEN 'refused' THEN 'no' ELSE 'yes' END, 'DE', '1969-04-01', 'markernote',
           '{"seats": "markerseats", "markerkey": "markervalue", "deep": {"x": "markerdeep"}, "plainly": "said plainly"}', 'markersecret', '{markertag}' FROM ways WHERE way <> 'off';
SET leadroute.enabled = off;
INSERT INTO mapped (login, mail) VALUES ('markerlogin off', 'markermail.off@markerdomain.example');
RESET leadroute.enabled;
SELECT t.relation_name, s.outcome, s.reason_code, count(*) FROM leadroute.lead_states s JOIN leadroute.attached_tables t USING (source_id) WHERE t.relation IN ('standard'::regclass, 'mapped'::regclass)
    GROUP BY 1, 2, 3 ORDER BY t.relation_name COLLATE "C", 2, s.reason_code COLLATE "C";

-- marks(): where in leadroute a marker is found, in text or as bytes, in any spelling
CREATE FUNCTION marks() RETURNS TABLE (place text, marked bigint) LANGUAGE plpgsql AS $$
DECLARE relation record;
BEGIN
    FOR relation IN SELECT c.oid::regclass AS name, c.relkind FROM pg_class c WHERE c.relnamespace = 'leadroute'::regnamespace AND c.relkind IN ('r', 'v', 'm')
            AND c.relname NOT IN ('lead_keys', 'firmographics', 'policy_versions', 'policy_rules', 'documents', 'policies', 'attached_tables') LOOP
        -- the text of bytea is hex: compare both
        EXECUTE format('SELECT count(*) FROM %s AS x WHERE x::text ~* ''marker|6d61726b6572|4d61726b6572|1969-04-01''', relation.name) INTO marked;
        IF marked > 0 THEN place := relation.name; RETURN NEXT; END IF;
    END LOOP;
    SELECT count(*) INTO marked FROM leadroute.entries e JOIN leadroute.attached_tables t USING (source_id)
        WHERE t.relation_name LIKE 'provenance_privacy.%' AND leadroute.entry_evidence(e.evidence, e.policy_version_id)::text ~* 'marker|1969-04-01';
    IF marked > 0 THEN place := 'entry_evidence()'; RETURN NEXT; END IF;
    SELECT count(*) INTO marked FROM leadroute.decisions d, leadroute.explain_decision(d.decision_id) x WHERE d.policy = 'provenance_privacy' AND x ~* 'marker|1969-04-01' AND x !~ 'rule ''personal''';
    IF marked > 0 THEN place := 'explain_decision()'; RETURN NEXT; END IF;
    SELECT count(*) INTO marked FROM leadroute.decisions d, leadroute.verify_decision(d.decision_id) x WHERE d.policy = 'provenance_privacy' AND x::text ~* 'marker|1969-04-01';
    IF marked > 0 THEN place := 'verify_decision()'; RETURN NEXT; END IF;
    SELECT count(*) INTO marked FROM leadroute.unrouted() x WHERE x::text ~* 'marker';
    IF marked > 0 THEN place := 'unrouted()'; RETURN NEXT; END IF;
END $$;
SELECT * FROM marks();
-- the search can find: plain attributes are there, and so is what is planted
SELECT count(*) > 10 AS plain_found FROM leadroute.entries e WHERE leadroute.entry_evidence(e.evidence, e.policy_version_id)::text LIKE '%said plainly%';
BEGIN;
UPDATE leadroute.entries SET evidence = evidence || 'marker'::bytea WHERE lead_id = leadroute.lead_of('mapped', 'markerlogin none');
SELECT regexp_replace(place, '\d{4}_\d\d', 'MONTH') AS place FROM marks() WHERE place LIKE '%entries%';
ROLLBACK;

-- what happens later: routed again, keys changed, erased, deleted
UPDATE mapped SET note = 'markernote again', login = upper(login) WHERE source IN ('assigned', 'raise', 'rule');
SELECT count(*) AS changed FROM leadroute.route_leads((SELECT array_agg(lead_id) FROM standard), 'again') r WHERE r.changed;
SELECT leadroute.route_pending('mapped');
UPDATE standard SET email = 'markermail.new@markerdomain.example', phone = NULL, company = 'Markercompany new' WHERE source IN ('personal', 'stop', 'score');
SELECT * FROM marks();
DELETE FROM mapped WHERE source = 'assigned';
DELETE FROM standard;
SELECT * FROM marks();
SELECT count(*) AS keys_left FROM leadroute.lead_keys WHERE key ILIKE 'markerlogin assigned';

-- in errors: only the agent, the place and the SQLSTATE
SET leadroute.on_error = abort;
CREATE FUNCTION errors(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE message text; detail text; hint text; context text; schema_name text; table_name text; column_name text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT, schema_name = SCHEMA_NAME, table_name = TABLE_NAME, column_name = COLUMN_NAME;
    -- the statement itself is the caller's
    context := replace(context, statement, 'STATEMENT');
    RETURN concat_ws(' | ', SQLSTATE, message, nullif(detail, ''), CASE WHEN concat(message, detail, hint, context, schema_name, table_name, column_name) ~* 'marker' THEN 'HAS A MARKER' END);
END $$;
SELECT way, errors(format('INSERT INTO provenance_privacy.mapped (login, source, mail, tel, staff, country, consent, extra) VALUES (%L, %L, %L, %L, %L, ''DE'', ''yes'', %L)', 'markerlogin new ' || way, way, 'markermail@markerdomain.example', 'markerphone',
    CASE way WHEN 'unreadable' THEN 'markerstaff' END, '{"seats": "markerseats"}')) AS error FROM ways ORDER BY way COLLATE "C";

DROP SCHEMA provenance_privacy CASCADE;
DELETE FROM leadroute.firmographics WHERE domain = 'markerdomain.example';
DELETE FROM leadroute.pool_members WHERE pool_id = (SELECT pool_id FROM leadroute.pools WHERE name = 'provenance_privacy');
DELETE FROM leadroute.pools WHERE name = 'provenance_privacy';
DELETE FROM leadroute.owners WHERE reference = 'privacy a';
