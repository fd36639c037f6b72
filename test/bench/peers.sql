-- What users would write themselves: two routers in PL/pgSQL with the same five steps, rules, pools and scorecard as the policy
-- of schema.sql, written as well as we can. Both decide alike; bench.check_peer compares them with leadroute, lead by lead.
--
--   peer.route_row    a row trigger: one lead at a time, a pointer row a pool
--   peer.route_set    a statement trigger: all leads in one statement, each pointer row is advanced once a statement
--
-- Each writes one state a lead and, in one INSERT, a row a step into a log with the evidence: as leadroute does, what is not
-- plain stays out of it. Neither pins versions, digests inputs, or can verify; that is more than one would write oneself.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
CREATE SCHEMA peer;

CREATE TABLE peer.jurisdictions (
    country text PRIMARY KEY, -- * for all others
    name text NOT NULL, max_age_days integer,
    email text[] NOT NULL, phone text[] NOT NULL, sms text[] NOT NULL, post text[] NOT NULL -- the bases that open each channel
);
INSERT INTO peer.jurisdictions
    SELECT country, j ->> 'name', (j ->> 'max_age_days')::integer,
           ARRAY(SELECT jsonb_array_elements_text(j -> 'channels' -> 'email')), ARRAY(SELECT jsonb_array_elements_text(j -> 'channels' -> 'phone')),
           ARRAY(SELECT jsonb_array_elements_text(j -> 'channels' -> 'sms')), ARRAY(SELECT jsonb_array_elements_text(j -> 'channels' -> 'post'))
    FROM leadroute.documents d, jsonb_array_elements(d.document -> 'jurisdictions') AS j,
         jsonb_array_elements_text(coalesce(j -> 'countries', '["*"]')) AS country
    WHERE d.kind = 'jurisdictions' AND d.name = 'standard';

CREATE TABLE peer.firms (LIKE bench.firms, PRIMARY KEY (domain));
INSERT INTO peer.firms SELECT * FROM bench.firms;

CREATE TABLE peer.rules (
    priority integer PRIMARY KEY, country text NOT NULL, -- * for any; null in the others
    region text, industry text, source text, min_size integer, min_seats integer, min_score integer, pool_id integer NOT NULL
);
CREATE TABLE peer.pools (pool_id integer PRIMARY KEY, name text NOT NULL, slots integer NOT NULL, next bigint NOT NULL DEFAULT 0);
CREATE TABLE peer.slots (pool_id integer, slot integer, owner text NOT NULL, PRIMARY KEY (pool_id, slot));
INSERT INTO peer.slots
    SELECT pool_no, row_number() OVER (PARTITION BY pool_no ORDER BY (k - 0.5) / weight, owner) - 1, owner
    FROM bench.members, generate_series(1, weight) AS k;
INSERT INTO peer.pools (pool_id, name, slots)
    SELECT m.pool_no, m.pool, count(*) FROM bench.members m JOIN peer.slots s ON s.pool_id = m.pool_no AND s.owner = m.owner GROUP BY 1, 2;
INSERT INTO peer.rules
    SELECT r.rule_no, coalesce(r.country, '*'), r.region, r.industry, r.source, r.min_size, r.min_seats, r.min_score, p.pool_id
    FROM bench.rules r JOIN peer.pools p ON p.name = r.pool;
CREATE INDEX ON peer.rules (country, priority);

CREATE TABLE peer.states (
    lead_id bigint PRIMARY KEY, outcome text NOT NULL, reason_code text NOT NULL, pool_id integer, owner text, rule integer, score integer, since timestamptz NOT NULL
);
CREATE TABLE peer.log (
    lead_id bigint, step_no integer, capability text NOT NULL, status text NOT NULL, output jsonb, at timestamptz NOT NULL,
    PRIMARY KEY (lead_id, step_no)
);

-- ---- one lead at a time ----

CREATE FUNCTION peer.route_row() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    mail text := lower(btrim(NEW.email));
    mail_domain text;
    mail_kind text;
    mail_role boolean;
    phone_ok boolean;
    contact text;
    jurisdiction peer.jurisdictions;
    basis text := coalesce(NEW.consent_basis, CASE WHEN NEW.consent THEN 'consent' ELSE 'none' END);
    consent_holds boolean;
    channels text[];
    compliance text;
    firm peer.firms;
    firm_status text;
    lead_size integer := NEW.company_size;
    lead_industry text := NEW.industry;
    lead_country text := NEW.country;
    lead_region text := NEW.region;
    points integer;
    matched_rule integer;
    matched_pool integer;
    turn bigint;
    new_owner text;
    result text;
    reason text;
BEGIN
    -- validateContact
    IF mail ~ '^[a-z0-9!#$%&''*+/=?^_`{|}~-]+(\.[a-z0-9!#$%&''*+/=?^_`{|}~-]+)*@([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}$' THEN
        mail_domain := split_part(mail, '@', 2);
        mail_kind := CASE WHEN mail_domain IN ('gmail.com', 'outlook.com', 'hotmail.com', 'yahoo.com', 'gmx.de', 'web.de', 'icloud.com', 'aol.com')
                          THEN 'free' ELSE 'business' END;
        mail_role := split_part(mail, '@', 1) IN ('info', 'sales', 'contact', 'office', 'support', 'admin', 'marketing', 'hello');
    END IF;
    phone_ok := coalesce(regexp_replace(NEW.phone, '[ ()./-]', '', 'g') ~ '^\+[1-9][0-9]{6,14}$', false);
    contact := CASE WHEN mail_kind IS NULL AND NOT phone_ok THEN 'invalid'
                    WHEN (mail IS NOT NULL AND mail_kind IS NULL) OR (NEW.phone IS NOT NULL AND NOT phone_ok) THEN 'partial' ELSE 'valid' END;
    IF contact = 'invalid' THEN
        result := 'rejected';
        reason := 'invalid_contact';
    END IF;

    -- checkRegionalCompliance
    IF result IS NULL THEN
        SELECT * INTO jurisdiction FROM peer.jurisdictions j WHERE j.country = upper(NEW.country);
        IF NOT FOUND THEN
            SELECT * INTO jurisdiction FROM peer.jurisdictions j WHERE j.country = '*';
        END IF;
        consent_holds := basis <> 'consent' OR (NEW.consent AND coalesce(NEW.consent_at <= moment, true) AND (jurisdiction.max_age_days IS NULL
            OR coalesce(NEW.consent_at >= moment - make_interval(days => jurisdiction.max_age_days), false)));
        channels := ARRAY(
            SELECT c.name FROM (VALUES ('email', jurisdiction.email), ('phone', jurisdiction.phone), ('sms', jurisdiction.sms), ('post', jurisdiction.post)) AS c (name, bases)
            WHERE NEW.consent IS DISTINCT FROM false AND ('none' = ANY (c.bases) OR (basis = ANY (c.bases) AND consent_holds
                  AND (basis <> 'consent' OR NEW.consent_channels IS NULL OR c.name = ANY (NEW.consent_channels)))));
        compliance := CASE cardinality(channels) WHEN 0 THEN 'denied' WHEN 4 THEN 'allowed' ELSE 'restricted' END;
        IF compliance = 'denied' THEN
            result := 'rejected';
            reason := 'contact_not_permitted';
        END IF;
    END IF;

    IF result IS NULL THEN
        -- enrichWithFirmographicData
        SELECT * INTO firm FROM peer.firms f WHERE f.domain = coalesce(lower(NEW.domain), CASE WHEN mail_kind = 'business' THEN mail_domain END);
        firm_status := CASE WHEN FOUND THEN 'found' ELSE 'no_match' END;
        lead_size := coalesce(lead_size, firm.company_size);
        lead_industry := coalesce(lead_industry, firm.industry);
        lead_country := coalesce(lead_country, firm.country);
        lead_region := coalesce(lead_region, firm.region);

        -- computeLeadScore
        points := least(100, 10
            + CASE WHEN lead_size >= 1000 THEN 30 WHEN lead_size >= 100 THEN 20 WHEN lead_size >= 10 THEN 10 ELSE 0 END
            + CASE WHEN mail_kind = 'business' AND NOT mail_role THEN 20 WHEN mail_kind = 'business' THEN 10 ELSE 0 END
            + CASE WHEN phone_ok THEN 10 ELSE 0 END
            + CASE WHEN NEW.prior_interactions >= 3 THEN 20 WHEN NEW.prior_interactions >= 1 THEN 10 ELSE 0 END
            + CASE WHEN lead_industry IS NOT NULL THEN 5 ELSE 0 END);

        -- assignOwner
        SELECT r.priority, r.pool_id INTO matched_rule, matched_pool FROM peer.rules r
        WHERE r.country IN (lead_country, '*')
          AND (r.region IS NULL OR r.region = lead_region) AND (r.industry IS NULL OR r.industry = lead_industry)
          AND (r.source IS NULL OR r.source = NEW.source) AND (r.min_size IS NULL OR lead_size >= r.min_size)
          AND (r.min_seats IS NULL OR (NEW.attributes ->> 'seats')::integer >= r.min_seats) AND (r.min_score IS NULL OR points >= r.min_score)
        ORDER BY r.priority LIMIT 1;
        IF FOUND THEN
            UPDATE peer.pools p SET next = next + 1 WHERE p.pool_id = matched_pool RETURNING (p.next - 1) % p.slots INTO turn;
            SELECT s.owner INTO new_owner FROM peer.slots s WHERE s.pool_id = matched_pool AND s.slot = turn;
            result := 'assigned';
            reason := 'rule_matched';
        ELSE
            result := 'no_rule';
            reason := 'no_rule_matched';
        END IF;
    END IF;

    INSERT INTO peer.states VALUES (NEW.lead_id, result, reason, matched_pool, new_owner, matched_rule, points, moment);
    INSERT INTO peer.log VALUES
        (NEW.lead_id, 1, 'validateContact', 'done', jsonb_build_object('status', contact, 'email_kind', mail_kind, 'role_address', mail_role, 'phone', phone_ok), moment),
        (NEW.lead_id, 2, 'checkRegionalCompliance', CASE WHEN compliance IS NULL THEN 'skipped' ELSE 'done' END,
         jsonb_build_object('status', compliance, 'jurisdiction', jurisdiction.name, 'channels', channels), moment),
        (NEW.lead_id, 3, 'enrichWithFirmographicData', CASE WHEN firm_status IS NULL THEN 'skipped' ELSE 'done' END,
         jsonb_build_object('status', firm_status, 'company_size', lead_size, 'industry', lead_industry, 'country', lead_country), moment),
        (NEW.lead_id, 4, 'computeLeadScore', CASE WHEN points IS NULL THEN 'skipped' ELSE 'done' END, jsonb_build_object('score', points), moment),
        (NEW.lead_id, 5, 'assignOwner', CASE WHEN result = 'rejected' THEN 'skipped' ELSE 'done' END,
         jsonb_build_object('rule', matched_rule, 'pool', matched_pool, 'turn', turn, 'owner', new_owner), moment);
    RETURN NULL;
END $$;

CREATE TABLE peer_row (LIKE leads INCLUDING ALL);
CREATE TRIGGER route AFTER INSERT ON peer_row FOR EACH ROW EXECUTE FUNCTION peer.route_row();

-- ---- all leads of a statement at once ----

CREATE FUNCTION peer.route_set() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := clock_timestamp();
BEGIN
    WITH mail AS MATERIALIZED (
        SELECT l.*, lower(btrim(l.email)) AS mail,
               lower(btrim(l.email)) ~ '^[a-z0-9!#$%&''*+/=?^_`{|}~-]+(\.[a-z0-9!#$%&''*+/=?^_`{|}~-]+)*@([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}$' AS mail_ok,
               coalesce(regexp_replace(l.phone, '[ ()./-]', '', 'g') ~ '^\+[1-9][0-9]{6,14}$', false) AS phone_ok
        FROM new_leads l
    ), valid AS MATERIALIZED (
        SELECT m.*, CASE WHEN mail_ok THEN split_part(mail, '@', 2) END AS mail_domain,
               CASE WHEN NOT mail_ok OR mail IS NULL THEN NULL
                    WHEN split_part(mail, '@', 2) IN ('gmail.com', 'outlook.com', 'hotmail.com', 'yahoo.com', 'gmx.de', 'web.de', 'icloud.com', 'aol.com')
                    THEN 'free' ELSE 'business' END AS mail_kind,
               CASE WHEN mail_ok THEN split_part(mail, '@', 1) IN ('info', 'sales', 'contact', 'office', 'support', 'admin', 'marketing', 'hello') END AS mail_role,
               CASE WHEN mail_ok IS NOT TRUE AND NOT phone_ok THEN 'invalid'
                    WHEN mail_ok IS FALSE OR (phone IS NOT NULL AND NOT phone_ok) THEN 'partial' ELSE 'valid' END AS contact,
               coalesce(consent_basis, CASE WHEN consent THEN 'consent' ELSE 'none' END) AS basis
        FROM mail m
    ), permitted AS MATERIALIZED (
        SELECT v.*, j.name AS jurisdiction,
               CASE WHEN v.contact <> 'invalid' THEN ARRAY(
                   SELECT c.name FROM (VALUES ('email', j.email), ('phone', j.phone), ('sms', j.sms), ('post', j.post)) AS c (name, bases)
                   WHERE v.consent IS DISTINCT FROM false AND ('none' = ANY (c.bases) OR (v.basis = ANY (c.bases) AND (v.basis <> 'consent'
                         OR (v.consent AND coalesce(v.consent_at <= moment, true)
                             AND (j.max_age_days IS NULL OR coalesce(v.consent_at >= moment - make_interval(days => j.max_age_days), false))
                             AND (v.consent_channels IS NULL OR c.name = ANY (v.consent_channels))))))) END AS channels
        FROM valid v
        LEFT JOIN peer.jurisdictions known ON known.country = upper(v.country)
        JOIN peer.jurisdictions j ON j.country = coalesce(known.country, '*')
    ), enriched AS (
        SELECT p.*, coalesce(cardinality(p.channels), 0) > 0 AS goes_on, f.domain IS NOT NULL AS firm_found,
               coalesce(p.company_size, f.company_size) AS size2, coalesce(p.industry, f.industry) AS industry2,
               coalesce(p.country, f.country) AS country2, coalesce(p.region, f.region) AS region2
        FROM permitted p
        LEFT JOIN peer.firms f ON f.domain = coalesce(lower(p.domain), CASE WHEN p.mail_kind = 'business' THEN p.mail_domain END)
             AND cardinality(p.channels) > 0
    ), scored AS MATERIALIZED (
        SELECT e.*, CASE WHEN goes_on THEN least(100, 10
                   + CASE WHEN size2 >= 1000 THEN 30 WHEN size2 >= 100 THEN 20 WHEN size2 >= 10 THEN 10 ELSE 0 END
                   + CASE WHEN mail_kind = 'business' AND NOT mail_role THEN 20 WHEN mail_kind = 'business' THEN 10 ELSE 0 END
                   + CASE WHEN phone_ok THEN 10 ELSE 0 END
                   + CASE WHEN prior_interactions >= 3 THEN 20 WHEN prior_interactions >= 1 THEN 10 ELSE 0 END
                   + CASE WHEN industry2 IS NOT NULL THEN 5 ELSE 0 END) END AS points
        FROM enriched e
    ), matched AS MATERIALIZED (
        SELECT s.lead_id, s.contact, s.mail_kind, s.mail_role, s.phone_ok, s.jurisdiction, s.channels, s.goes_on, s.firm_found, s.size2, s.industry2, s.country2,
               s.points, r.priority, r.pool_id, row_number() OVER (PARTITION BY r.pool_id ORDER BY s.lead_id) - 1 AS place
        FROM scored s
        LEFT JOIN LATERAL (
            SELECT r.priority, r.pool_id FROM peer.rules r
            WHERE s.goes_on AND r.country IN (s.country2, '*')
              AND (r.region IS NULL OR r.region = s.region2) AND (r.industry IS NULL OR r.industry = s.industry2)
              AND (r.source IS NULL OR r.source = s.source) AND (r.min_size IS NULL OR s.size2 >= r.min_size)
              AND (r.min_seats IS NULL OR (s.attributes ->> 'seats')::integer >= r.min_seats) AND (r.min_score IS NULL OR s.points >= r.min_score)
            ORDER BY r.priority LIMIT 1) r ON true
    ), turns AS (
        UPDATE peer.pools p SET next = p.next + c.n
        FROM (SELECT pool_id, count(*) AS n FROM matched WHERE pool_id IS NOT NULL GROUP BY pool_id) c
        WHERE p.pool_id = c.pool_id
        RETURNING p.pool_id, p.next - c.n AS first, p.slots
    ), decided AS MATERIALIZED (
        SELECT m.*, (t.first + m.place) % t.slots AS turn, o.owner,
               CASE WHEN NOT m.goes_on THEN 'rejected' WHEN m.pool_id IS NULL THEN 'no_rule' ELSE 'assigned' END AS outcome,
               CASE WHEN m.contact = 'invalid' THEN 'invalid_contact' WHEN NOT m.goes_on THEN 'contact_not_permitted'
                    WHEN m.pool_id IS NULL THEN 'no_rule_matched' ELSE 'rule_matched' END AS reason
        FROM matched m
        LEFT JOIN turns t ON t.pool_id = m.pool_id
        LEFT JOIN peer.slots o ON o.pool_id = m.pool_id AND o.slot = (t.first + m.place) % t.slots
    ), states AS (
        INSERT INTO peer.states SELECT lead_id, outcome, reason, pool_id, owner, priority, points, moment FROM decided
    )
    INSERT INTO peer.log
    SELECT d.lead_id, s.step_no, s.capability, s.status, s.output, moment
    FROM decided d, LATERAL (VALUES
        (1, 'validateContact', 'done', jsonb_build_object('status', d.contact, 'email_kind', d.mail_kind, 'role_address', d.mail_role, 'phone', d.phone_ok)),
        (2, 'checkRegionalCompliance', CASE WHEN d.channels IS NULL THEN 'skipped' ELSE 'done' END,
         jsonb_build_object('status', CASE cardinality(d.channels) WHEN 0 THEN 'denied' WHEN 4 THEN 'allowed' ELSE 'restricted' END,
                            'jurisdiction', d.jurisdiction, 'channels', d.channels)),
        (3, 'enrichWithFirmographicData', CASE WHEN d.goes_on THEN 'done' ELSE 'skipped' END,
         jsonb_build_object('status', CASE WHEN d.firm_found THEN 'found' ELSE 'no_match' END, 'company_size', d.size2, 'industry', d.industry2, 'country', d.country2)),
        (4, 'computeLeadScore', CASE WHEN d.goes_on THEN 'done' ELSE 'skipped' END, jsonb_build_object('score', d.points)),
        (5, 'assignOwner', CASE WHEN d.goes_on THEN 'done' ELSE 'skipped' END,
         jsonb_build_object('rule', d.priority, 'pool', d.pool_id, 'turn', d.turn, 'owner', d.owner))) AS s (step_no, capability, status, output);
    RETURN NULL;
END $$;

CREATE TABLE peer_set (LIKE leads INCLUDING ALL);
CREATE TRIGGER route AFTER INSERT ON peer_set REFERENCING NEW TABLE AS new_leads FOR EACH STATEMENT EXECUTE FUNCTION peer.route_set();

-- ---- what must have come out ----

-- What leadroute decides for the same leads, noted once for each number of leads.
CREATE TABLE bench.decided (n bigint, external_id text, outcome text, pool text, PRIMARY KEY (n, external_id));

-- Notes the decisions for n staged leads. Leaves nothing else behind.
CREATE PROCEDURE bench.note_decisions(columns text, n bigint) LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE leads, leadroute.lead_states, leadroute.lead_keys, leadroute.entries;
    EXECUTE format('INSERT INTO leads (%1$s) SELECT %1$s FROM bench.staged_%2$s', columns, n);
    INSERT INTO bench.decided
        SELECT n, l.external_id, s.outcome, p.name
        FROM leads l JOIN leadroute.lead_states s USING (lead_id) LEFT JOIN leadroute.pools p USING (pool_id);
    TRUNCATE leads, leadroute.lead_states, leadroute.lead_keys, leadroute.entries;
END $$;

-- Raises unless a peer decided all of n leads, with a row a step, and as leadroute does for 99 of 100.
CREATE FUNCTION bench.check_peer(leads regclass, n bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    same bigint;
    rows bigint;
BEGIN
    EXECUTE format('ANALYZE %s, peer.states, peer.log, bench.decided', leads);
    SELECT count(*) INTO rows FROM peer.log;
    EXECUTE format('SELECT count(*) FROM %s l JOIN peer.states s USING (lead_id) LEFT JOIN peer.pools p USING (pool_id)
                    JOIN bench.decided d ON d.n = $1 AND d.external_id = l.external_id
                    WHERE d.outcome = s.outcome AND d.pool IS NOT DISTINCT FROM p.name
                          AND (s.outcome = ''assigned'') = (s.owner IS NOT NULL)', leads) INTO same USING n;
    IF rows <> 5 * n OR same < n * 0.99 THEN
        RAISE EXCEPTION '% rows in the log of % leads; % decided as leadroute does', rows, n, same;
    END IF;
END $$;

-- Raises unless a peer decided all of n leads, with a row a step.
CREATE FUNCTION bench.check_states(leads regclass, n bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    decided bigint;
BEGIN
    EXECUTE format('ANALYZE %s, peer.states, peer.log', leads);
    EXECUTE format('SELECT count(*) FROM %s l JOIN peer.states s USING (lead_id) WHERE (SELECT count(*) FROM peer.log g WHERE g.lead_id = l.lead_id) = 5', leads)
    INTO decided;
    IF decided <> n THEN
        RAISE EXCEPTION 'of % leads % are decided', n, decided;
    END IF;
END $$;
ANALYZE;
