-- assignment: the team's accounts, for the agent matchAccount.

CREATE FUNCTION leadroute.normalise_company(name text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_normalise_company';
COMMENT ON FUNCTION leadroute.normalise_company(text) IS
    'Returns the normal form of a company''s name: lower-case ASCII letters for Latin, Greek and Cyrillic ones (ä becomes ae), without punctuation and legal forms; null if nothing remains, or more than 500 bytes. See docs/assignment_accounts.md.';
CREATE FUNCTION leadroute.normalise_domain(domain text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_normalise_domain';
COMMENT ON FUNCTION leadroute.normalise_domain(text) IS
    'Returns the normal form of a domain or the address of a web page: lower-case ASCII (A-labels) without www; null if it is none, or that of a free or disposable mail service or of a hosting service, which say nothing about a company.';
CREATE FUNCTION leadroute.domain_root(domain text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_domain_root';
COMMENT ON FUNCTION leadroute.domain_root(text) IS
    'Returns the part of a domain that a company chose: acme of acme.de, www.acme.co.uk and eu.acme.com. Null where normalise_domain() is null, or for a suffix alone.';
CREATE FUNCTION leadroute.normalise_phone(number text, country text) RETURNS text
    LANGUAGE c IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_normalise_phone';
COMMENT ON FUNCTION leadroute.normalise_phone(text, text) IS
    'Returns a phone number in international form, such as +4930123456; null if it is none. country: ISO 3166 alpha-2, of a number that does not say so itself; may be null.';
CREATE FUNCTION leadroute.normalise_postcode(postcode text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_normalise_postcode';
COMMENT ON FUNCTION leadroute.normalise_postcode(text) IS 'Returns a postcode''s ASCII letters, upper case, and digits, without a country''s code in front of digits; null if there are none, or more than 20.';
CREATE FUNCTION leadroute.company_similarity(a text, b text) RETURNS double precision
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_company_similarity';
COMMENT ON FUNCTION leadroute.company_similarity(text, text) IS
    'Returns how alike two companies'' names are, 0 to 1: the share of all trigrams of their normal forms that both have, in full hundredths. What matchAccount compares with the step''s "similarity".';

CREATE SEQUENCE leadroute.account_ids MAXVALUE 9007199254740991;
COMMENT ON SEQUENCE leadroute.account_ids IS 'Ids of accounts.';
CREATE SEQUENCE leadroute.account_source_ids AS integer;
COMMENT ON SEQUENCE leadroute.account_source_ids IS 'Ids of the tables that serve as accounts.';

-- The C code (account_lookup.c) goes by the order of the columns: those that every match needs come first.
CREATE TABLE leadroute.accounts (
    account_id bigint PRIMARY KEY DEFAULT nextval('leadroute.account_ids') CHECK (account_id > 0),
    account_source_id integer NOT NULL DEFAULT 0,
    opportunity_owner_id integer CHECK (opportunity_owner_id > 0),
    parent_id bigint,
    type text NOT NULL DEFAULT 'prospect' CHECK (type IN ('customer', 'partner', 'prospect', 'competitor')),
    country text,
    parent_external_id text,
    external_id text CHECK (external_id <> ''),
    name text,
    domain text,
    phone text,
    postcode text,
    domain_form text COLLATE "C" GENERATED ALWAYS AS (leadroute.normalise_domain(domain)) STORED,
    root_form text COLLATE "C" GENERATED ALWAYS AS (leadroute.domain_root(domain)) STORED,
    name_form text COLLATE "C" GENERATED ALWAYS AS (leadroute.normalise_company(name)) STORED,
    phone_form text COLLATE "C" GENERATED ALWAYS AS (leadroute.normalise_phone(phone, country)) STORED,
    postcode_form text COLLATE "C" GENERATED ALWAYS AS (leadroute.normalise_postcode(postcode)) STORED,
    UNIQUE (account_source_id, external_id)
);
-- The id within the key: where very many share one, those that are looked at are the same every time.
CREATE INDEX accounts_domain ON leadroute.accounts (domain_form, account_id);
CREATE INDEX accounts_root ON leadroute.accounts (root_form, account_id);
CREATE INDEX accounts_name ON leadroute.accounts (name_form, account_id);
CREATE INDEX accounts_phone ON leadroute.accounts (phone_form, account_id);
CREATE INDEX accounts_postcode ON leadroute.accounts (postcode_form, account_id);
COMMENT ON TABLE leadroute.accounts IS 'The team''s accounts, which matchAccount looks leads up in: rows of its own, and those of tables attached with attach_accounts(). Columns that end in _form are made from the others.';
COMMENT ON COLUMN leadroute.accounts.account_id IS 'What records name an account by.';
COMMENT ON COLUMN leadroute.accounts.account_source_id IS 'The attached table that it comes from: see account_sources; 0: none. Rows of attached tables are kept by their triggers: do not change them here.';
COMMENT ON COLUMN leadroute.accounts.external_id IS 'Its id in the CRM, or in the attached table; unique within the source.';
COMMENT ON COLUMN leadroute.accounts.name IS 'The company''s name, with or without its legal form.';
COMMENT ON COLUMN leadroute.accounts.domain IS 'Its domain, or the address of its web page; further ones are in account_domains.';
COMMENT ON COLUMN leadroute.accounts.phone IS 'Its phone number, in any spelling.';
COMMENT ON COLUMN leadroute.accounts.postcode IS 'Its postcode, in any spelling.';
COMMENT ON COLUMN leadroute.accounts.country IS 'ISO 3166 alpha-2; anything else counts as not known.';
COMMENT ON COLUMN leadroute.accounts.type IS 'customer, partner, prospect or competitor: where matches are equal, preferred in this order.';
COMMENT ON COLUMN leadroute.accounts.parent_id IS 'The account that it belongs to; null: none, or the one that parent_external_id names.';
COMMENT ON COLUMN leadroute.accounts.parent_external_id IS 'That account''s external_id, within the same source; it may come later.';
COMMENT ON COLUMN leadroute.accounts.opportunity_owner_id IS 'The owner of the open opportunity: see owners. Null: no open opportunity.';
COMMENT ON COLUMN leadroute.accounts.domain_form IS 'By normalise_domain().';
COMMENT ON COLUMN leadroute.accounts.root_form IS 'By domain_root().';
COMMENT ON COLUMN leadroute.accounts.name_form IS 'By normalise_company().';
COMMENT ON COLUMN leadroute.accounts.phone_form IS 'By normalise_phone().';
COMMENT ON COLUMN leadroute.accounts.postcode_form IS 'By normalise_postcode().';

CREATE TABLE leadroute.account_domains (
    account_id bigint,
    domain text CHECK (length(domain) BETWEEN 1 AND 300),
    domain_form text COLLATE "C" GENERATED ALWAYS AS (leadroute.normalise_domain(domain)) STORED,
    root_form text COLLATE "C" GENERATED ALWAYS AS (leadroute.domain_root(domain)) STORED,
    PRIMARY KEY (account_id, domain)
);
CREATE INDEX account_domains_domain ON leadroute.account_domains (domain_form, account_id);
CREATE INDEX account_domains_root ON leadroute.account_domains (root_form, account_id);
COMMENT ON TABLE leadroute.account_domains IS 'Further domains of accounts.';
COMMENT ON COLUMN leadroute.account_domains.account_id IS 'See accounts.';
COMMENT ON COLUMN leadroute.account_domains.domain IS 'A domain, or the address of a web page.';
COMMENT ON COLUMN leadroute.account_domains.domain_form IS 'By normalise_domain().';
COMMENT ON COLUMN leadroute.account_domains.root_form IS 'By domain_root().';

CREATE TABLE leadroute.account_owners (
    account_id bigint,
    role text CHECK (role <> '' AND role <> 'opportunity' AND strpos(role, E'\n') = 0),
    owner_id integer NOT NULL CHECK (owner_id > 0),
    PRIMARY KEY (account_id, role)
);
CREATE INDEX account_owners_owner_id ON leadroute.account_owners (owner_id);
COMMENT ON TABLE leadroute.account_owners IS 'Who works an account, by role: what rules ask for with "account_owner". The owner of the open opportunity is a column of accounts.';
COMMENT ON COLUMN leadroute.account_owners.account_id IS 'See accounts.';
COMMENT ON COLUMN leadroute.account_owners.role IS 'Such as SDR, AE or CSM, in the spelling of the rules. Records name it. Of an account''s roles the first 50 count.';
COMMENT ON COLUMN leadroute.account_owners.owner_id IS 'See owners.';

-- What belongs to an account goes with it.
CREATE FUNCTION leadroute.forget_accounts() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF leadroute.restoring() THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM leadroute.account_domains;
        DELETE FROM leadroute.account_owners;
    ELSE
        DELETE FROM leadroute.account_domains d USING old_rows o WHERE d.account_id = o.account_id;
        DELETE FROM leadroute.account_owners w USING old_rows o WHERE w.account_id = o.account_id;
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION leadroute.forget_accounts() IS 'Trigger of accounts: deletes the domains and owners of accounts that are deleted.';
CREATE TRIGGER forget_accounts AFTER DELETE ON leadroute.accounts REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.forget_accounts();
CREATE TRIGGER forget_accounts_truncate AFTER TRUNCATE ON leadroute.accounts FOR EACH STATEMENT EXECUTE FUNCTION leadroute.forget_accounts();

CREATE TABLE leadroute.account_sources (
    account_source_id integer PRIMARY KEY DEFAULT nextval('leadroute.account_source_ids'),
    relation regclass NOT NULL UNIQUE,
    mapping jsonb NOT NULL,
    attached_by name NOT NULL DEFAULT session_user,
    attached_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE leadroute.account_sources IS 'The tables that serve as accounts: see attach_accounts().';
COMMENT ON COLUMN leadroute.account_sources.account_source_id IS 'What accounts name their table by.';
COMMENT ON COLUMN leadroute.account_sources.relation IS 'The table.';
COMMENT ON COLUMN leadroute.account_sources.mapping IS 'Which of its columns gives what: see attach_accounts().';
COMMENT ON COLUMN leadroute.account_sources.attached_by IS 'The session''s user.';
COMMENT ON COLUMN leadroute.account_sources.attached_at IS 'When that was.';

-- Values of the team's columns are read as text through their types' output functions, which is what concat() calls: casts
-- could run somebody's code as the extension's owner.
CREATE FUNCTION leadroute.account_statements(source integer, mapping jsonb, rows text) RETURNS text[]
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    value_of text := 'nullif(btrim(concat(n.%I)), '''')';
    -- What differs in blanks alone is another id, to the unique index as well.
    id_of text := 'nullif(concat(n.%I), '''')';
    given text;
BEGIN
    SELECT format('(SELECT g.* FROM (SELECT %s', string_agg(format('%s AS %s', CASE WHEN mapping ? m THEN format(CASE WHEN m IN ('external_id', 'parent') THEN id_of ELSE value_of END, mapping ->> m) ELSE 'NULL::text' END, m), ', '))
    INTO given
    FROM unnest('{external_id,name,domain,phone,postcode,country,type,parent,opportunity_owner,domains}'::text[]) AS m;
    SELECT given || format(', ARRAY[%s]::text[] AS roles, ARRAY[%s]::text[] AS refs FROM %s n) AS g WHERE g.external_id IS NOT NULL)',
                           string_agg(quote_literal(r.key), ', ' ORDER BY r.key), string_agg(format(value_of, r.value), ', ' ORDER BY r.key), rows)
    INTO given
    FROM jsonb_each_text(coalesce(mapping -> 'owners', '{}')) AS r;
    RETURN ARRAY[
        format($f$
            INSERT INTO leadroute.accounts AS a (account_source_id, external_id, name, domain, phone, postcode, country, type, parent_external_id, opportunity_owner_id)
                SELECT %1$s, g.external_id, g.name, g.domain, g.phone, g.postcode, g.country, coalesce(t.type, 'prospect'), g.parent, w.owner_id
                FROM %2$s AS g
                LEFT JOIN leadroute.owners w ON w.reference = g.opportunity_owner
                LEFT JOIN LATERAL (SELECT v.type FROM (SELECT coalesce(%3$L::jsonb ->> g.type, lower(g.type)) AS type) AS v
                                   WHERE v.type IN ('customer', 'partner', 'prospect', 'competitor')) AS t ON true
                ORDER BY g.external_id COLLATE "C"
            ON CONFLICT (account_source_id, external_id) DO UPDATE SET name = EXCLUDED.name, domain = EXCLUDED.domain, phone = EXCLUDED.phone,
                postcode = EXCLUDED.postcode, country = EXCLUDED.country, type = EXCLUDED.type, parent_external_id = EXCLUDED.parent_external_id,
                opportunity_owner_id = EXCLUDED.opportunity_owner_id
            WHERE (a.name, a.domain, a.phone, a.postcode, a.country, a.type, a.parent_external_id, a.opportunity_owner_id) IS DISTINCT FROM
                (EXCLUDED.name, EXCLUDED.domain, EXCLUDED.phone, EXCLUDED.postcode, EXCLUDED.country, EXCLUDED.type, EXCLUDED.parent_external_id,
                 EXCLUDED.opportunity_owner_id)$f$, source, given, mapping -> 'types')]
        || CASE WHEN mapping ? 'domains' THEN ARRAY[
            format($f$
            DELETE FROM leadroute.account_domains d USING leadroute.accounts a, %2$s AS g
            WHERE a.account_source_id = %1$s AND a.external_id = g.external_id AND d.account_id = a.account_id
              AND d.domain <> ALL (regexp_split_to_array(coalesce(g.domains, ''), '[][{}",;\s]+'))$f$, source, given),
            format($f$
            INSERT INTO leadroute.account_domains (account_id, domain)
                SELECT DISTINCT a.account_id, d.domain
                FROM leadroute.accounts a, %2$s AS g, regexp_split_to_table(g.domains, '[][{}",;\s]+') AS d (domain)
                WHERE a.account_source_id = %1$s AND a.external_id = g.external_id AND length(d.domain) <= 300 AND leadroute.normalise_domain(d.domain) IS NOT NULL
            ON CONFLICT DO NOTHING$f$, source, given)] ELSE '{}'::text[] END
        || CASE WHEN mapping ? 'owners' THEN ARRAY[
            format($f$
            DELETE FROM leadroute.account_owners o USING leadroute.accounts a, %2$s AS g
            WHERE a.account_source_id = %1$s AND a.external_id = g.external_id AND o.account_id = a.account_id
              AND NOT EXISTS (SELECT FROM unnest(g.roles, g.refs) AS r (role, reference) JOIN leadroute.owners w USING (reference) WHERE r.role = o.role)$f$,
                source, given),
            format($f$
            INSERT INTO leadroute.account_owners AS o (account_id, role, owner_id)
                SELECT a.account_id, r.role, w.owner_id
                FROM leadroute.accounts a, %2$s AS g, unnest(g.roles, g.refs) AS r (role, reference) JOIN leadroute.owners w USING (reference)
                WHERE a.account_source_id = %1$s AND a.external_id = g.external_id
            ON CONFLICT (account_id, role) DO UPDATE SET owner_id = EXCLUDED.owner_id WHERE o.owner_id <> EXCLUDED.owner_id$f$,
                source, given)] ELSE '{}'::text[] END;
END $$;
COMMENT ON FUNCTION leadroute.account_statements(integer, jsonb, text) IS
    'The statements that enter rows of an attached table into accounts, account_domains and account_owners. source: its account_source_id. rows: a table or transition table, quoted. Part of sync_accounts() and refresh_account_source().';

CREATE FUNCTION leadroute.sync_accounts() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s leadroute.account_sources;
    statement text;
BEGIN
    IF leadroute.restoring() THEN
        RETURN NULL;
    END IF;
    SELECT * INTO s FROM leadroute.account_sources r WHERE r.relation = TG_RELID::regclass;
    IF NOT FOUND THEN
        RAISE object_not_in_prerequisite_state USING MESSAGE = format('table %s does not serve as accounts', TG_RELID::regclass),
            HINT = format('Drop the trigger %I of the table, or attach it with leadroute.attach_accounts().', TG_NAME);
    END IF;
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM leadroute.accounts a WHERE a.account_source_id = s.account_source_id;
    ELSIF TG_OP = 'DELETE' THEN
        EXECUTE format('DELETE FROM leadroute.accounts a USING old_rows n WHERE a.account_source_id = %s AND a.external_id = concat(n.%I)',
                       s.account_source_id, s.mapping ->> 'external_id');
    ELSIF TG_OP = 'UPDATE' THEN
        EXECUTE format('DELETE FROM leadroute.accounts a USING old_rows n WHERE a.account_source_id = %1$s AND a.external_id = concat(n.%2$I)'
                       ' AND NOT EXISTS (SELECT FROM new_rows m WHERE concat(m.%2$I) = a.external_id)',
                       s.account_source_id, s.mapping ->> 'external_id');
    END IF;
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        FOREACH statement IN ARRAY leadroute.account_statements(s.account_source_id, s.mapping, 'new_rows') LOOP
            EXECUTE statement;
        END LOOP;
    END IF;
    RETURN NULL;
EXCEPTION WHEN undefined_column THEN
    RAISE object_not_in_prerequisite_state USING MESSAGE = format('a column that the mapping of table %s names is missing', TG_RELID::regclass),
        DETAIL = (SELECT string_agg(m, E'\n') FROM leadroute.account_mapping_mistakes(TG_RELID, s.mapping) AS m),
        HINT = 'Give the column its name again, or detach the table with leadroute.detach_accounts() and attach it anew.';
END $$;
COMMENT ON FUNCTION leadroute.sync_accounts() IS
    'Trigger of tables attached with attach_accounts(): accounts become what the table''s rows are. Raises 55000 for a table that is not attached, or that lacks a column of its mapping.';

CREATE FUNCTION leadroute.refresh_account_source(relation regclass) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s leadroute.account_sources;
    statement text;
BEGIN
    SELECT * INTO s FROM leadroute.account_sources r WHERE r.relation = refresh_account_source.relation;
    IF NOT FOUND THEN
        RAISE object_not_in_prerequisite_state USING MESSAGE = format('table %s does not serve as accounts', relation),
            HINT = 'Attach it with leadroute.attach_accounts().';
    END IF;
    EXECUTE format('DELETE FROM leadroute.accounts a WHERE a.account_source_id = %s AND NOT EXISTS (SELECT FROM %s n WHERE concat(n.%I) = a.external_id)',
                   s.account_source_id, relation, s.mapping ->> 'external_id');
    FOREACH statement IN ARRAY leadroute.account_statements(s.account_source_id, s.mapping, relation::text) LOOP
        EXECUTE statement;
    END LOOP;
    RETURN (SELECT count(*) FROM leadroute.accounts a WHERE a.account_source_id = s.account_source_id);
END $$;
COMMENT ON FUNCTION leadroute.refresh_account_source(regclass) IS
    'Enters all rows of an attached table; returns how many accounts come from it then. Part of attach_accounts() and refresh_accounts(). Raises 55000 for a table that is not attached.';

CREATE FUNCTION leadroute.account_mapping_mistakes(relation regclass, mapping jsonb) RETURNS SETOF text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    columns_of text[] := '{external_id,name,domain,domains,phone,postcode,country,type,parent,opportunity_owner}';
    m record;
BEGIN
    IF jsonb_typeof(mapping) <> 'object' THEN
        RETURN NEXT 'mapping: has to be an object such as {"external_id": "id", "name": "name"}';
        RETURN;
    END IF;
    FOR m IN SELECT e.key, e.value FROM jsonb_each(mapping) e LOOP
        IF m.key IN ('owners', 'types') THEN
            IF jsonb_typeof(m.value) <> 'object' THEN
                RETURN NEXT format('%s: has to be an object', m.key);
                mapping := mapping - m.key;
            END IF;
        ELSIF m.key <> ALL (columns_of) THEN
            RETURN NEXT format('%s: is not known; there are %s, owners and types', m.key, array_to_string(columns_of, ', '));
        END IF;
    END LOOP;
    FOR m IN SELECT c.place, c.name
             FROM (SELECT e.key, e.value FROM jsonb_each(mapping) e WHERE e.key = ANY (columns_of)
                   UNION ALL SELECT 'owners.' || e.key, e.value FROM jsonb_each(mapping -> 'owners') e) AS c (place, name)
             WHERE jsonb_typeof(c.name) <> 'string' OR NOT EXISTS (
                 SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = c.name #>> '{}' AND a.attnum > 0 AND NOT a.attisdropped) LOOP
        RETURN NEXT format('%s: has to be the name of a column', m.place);
    END LOOP;
    FOR m IN SELECT e.key FROM jsonb_each(mapping -> 'owners') e WHERE e.key IN ('', 'opportunity') OR strpos(e.key, E'\n') > 0 LOOP
        RETURN NEXT format('owners.%s: is not a role that accounts can have', m.key);
    END LOOP;
    FOR m IN SELECT e.key FROM jsonb_each_text(mapping -> 'types') e WHERE coalesce(e.value, '') NOT IN ('customer', 'partner', 'prospect', 'competitor') LOOP
        RETURN NEXT format('types.%s: has to be customer, partner, prospect or competitor', m.key);
    END LOOP;
    IF NOT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                   WHERE i.indrelid = relation AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indnkeyatts = 1 AND i.indpred IS NULL
                     AND a.attname = mapping ->> 'external_id') THEN
        RETURN NEXT 'external_id: has to be a column with a unique index of its own';
    END IF;
END $$;
COMMENT ON FUNCTION leadroute.account_mapping_mistakes(regclass, jsonb) IS 'What is wrong with a mapping, each with its place. Part of attach_accounts().';

CREATE FUNCTION leadroute.enter_account_source(relation regclass, mapping jsonb) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    mistakes text;
BEGIN
    SELECT string_agg(m, E'\n') INTO mistakes FROM leadroute.account_mapping_mistakes(relation, mapping) AS m;
    IF mistakes IS NOT NULL THEN
        RAISE invalid_parameter_value USING MESSAGE = format('the mapping of table %s has mistakes', relation), DETAIL = mistakes,
            HINT = 'See docs/assignment_accounts.md.';
    END IF;
    IF EXISTS (SELECT FROM leadroute.account_sources s WHERE s.relation = enter_account_source.relation) THEN
        RAISE object_not_in_prerequisite_state USING MESSAGE = format('table %s serves as accounts already', relation),
            HINT = 'Detach it first, with leadroute.detach_accounts().';
    END IF;
    INSERT INTO leadroute.account_sources (relation, mapping) VALUES (enter_account_source.relation, enter_account_source.mapping);
    EXECUTE format('CREATE TRIGGER leadroute_accounts_insert AFTER INSERT ON %s REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION leadroute.sync_accounts()', relation);
    EXECUTE format('CREATE TRIGGER leadroute_accounts_update AFTER UPDATE ON %s REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION leadroute.sync_accounts()', relation);
    EXECUTE format('CREATE TRIGGER leadroute_accounts_delete AFTER DELETE ON %s REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION leadroute.sync_accounts()', relation);
    EXECUTE format('CREATE TRIGGER leadroute_accounts_truncate AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION leadroute.sync_accounts()', relation);
    RETURN leadroute.refresh_account_source(relation);
END $$;
COMMENT ON FUNCTION leadroute.enter_account_source(regclass, jsonb) IS 'Does the work of attach_accounts().';

CREATE FUNCTION leadroute.leave_account_source(relation regclass) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source integer;
    event text;
    gone bigint;
BEGIN
    DELETE FROM leadroute.account_sources s WHERE s.relation = leave_account_source.relation RETURNING s.account_source_id INTO source;
    IF NOT FOUND THEN
        RAISE object_not_in_prerequisite_state USING MESSAGE = format('table %s does not serve as accounts', relation),
            HINT = 'See leadroute.account_sources.';
    END IF;
    FOREACH event IN ARRAY '{insert,update,delete,truncate}'::text[] LOOP
        EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', 'leadroute_accounts_' || event, relation);
    END LOOP;
    DELETE FROM leadroute.accounts a WHERE a.account_source_id = source;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $$;
COMMENT ON FUNCTION leadroute.leave_account_source(regclass) IS 'Does the work of detach_accounts().';

CREATE FUNCTION leadroute.attach_accounts(relation regclass, mapping jsonb) RETURNS bigint
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_attach_accounts';
COMMENT ON FUNCTION leadroute.attach_accounts(regclass, jsonb) IS
    'Makes a table of the team''s serve as accounts: triggers keep leadroute.accounts in step with it. Returns how many accounts come from it. The caller has to own the table. mapping: which of its columns gives what: external_id (required; a column with a unique index of its own), name, domain, domains (further ones: an array, or a text with separators), phone, postcode, country, type, parent (the parent''s external_id), opportunity_owner (the reference of the owner of an open opportunity); owners: an object, role to the column with the owner''s reference; types: an object, value to customer, partner, prospect or competitor. Raises 22023 with all mistakes of the mapping, 42501 for somebody else''s table, 42809 for anything but an ordinary table, 55000 if it is attached already.';
CREATE FUNCTION leadroute.detach_accounts(relation regclass) RETURNS bigint
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_detach_accounts';
COMMENT ON FUNCTION leadroute.detach_accounts(regclass) IS
    'Ends what attach_accounts() began: the table''s accounts are deleted from leadroute.accounts, the table stays as it is. Returns how many there were. Records go on naming them by their ids. Raises 42501 for somebody else''s table, 55000 if it is not attached.';
CREATE FUNCTION leadroute.refresh_accounts(relation regclass) RETURNS bigint
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_refresh_accounts';
COMMENT ON FUNCTION leadroute.refresh_accounts(regclass) IS
    'Enters all rows of an attached table anew: for owners that came after the accounts that name them, or changes that triggers did not see. Returns how many accounts come from it. Ids stay. Raises 42501 for somebody else''s table, 55000 if it is not attached.';

CREATE FUNCTION leadroute.account_tables_dropped() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- During DROP EXTENSION the tables below may be gone already.
    IF to_regclass('leadroute.account_sources') IS NOT NULL AND to_regclass('leadroute.accounts') IS NOT NULL THEN
        WITH gone AS (
            DELETE FROM leadroute.account_sources s
            USING pg_event_trigger_dropped_objects() d
            WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 AND s.relation::oid = d.objid
            RETURNING s.account_source_id)
        DELETE FROM leadroute.accounts a USING gone g WHERE a.account_source_id = g.account_source_id;
    END IF;
END $$;
COMMENT ON FUNCTION leadroute.account_tables_dropped() IS 'Event trigger: the accounts of a table that is dropped go with it.';
CREATE EVENT TRIGGER leadroute_account_drops ON sql_drop WHEN TAG IN ('DROP TABLE', 'DROP SCHEMA', 'DROP OWNED')
    EXECUTE FUNCTION leadroute.account_tables_dropped();
COMMENT ON EVENT TRIGGER leadroute_account_drops IS 'Detaches a table that serves as accounts and is dropped.';
