-- What the line "accounts" of the benchmark needs: a million synthetic accounts, and leads of them, exact and misspelt ones.
-- Variables: accounts, leads.
CREATE EXTENSION leadroute;
CREATE SCHEMA accounts;
CREATE FUNCTION accounts.word(n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT (ARRAY['Ba','De','Fi','Go','Hu','Ka','Le','Mi','No','Pu','Ra','Se','Ti','Vo','Wu','Za','Cha','Ste','Bri','Tro'])[1 + n % 20]
        || (ARRAY['ber','con','dal','fen','gor','len','mar','nos','pil','ras','sol','tan','ven','wil','xen','zor','lab','net','tec','med'])[1 + n / 20 % 20]
        || (ARRAY['a','e','i','o','ex','is','on','um','ar','en'])[1 + n / 400 % 10] $$;
CREATE FUNCTION accounts.company(n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT accounts.word(n % 4000) || ' ' || accounts.word(n * 7919 / 4000 % 4000) || ' '
        || (ARRAY['Systems','Logistik','Consulting','Foods','Energy','Media','Pharma','Textil','Motors','Software'])[1 + n % 10] $$;
CREATE FUNCTION accounts.country(n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT (ARRAY['DE','FR','GB','US','NL','IT','ES','PL','AT','CH'])[1 + n / 10 % 10] $$;
CREATE FUNCTION accounts.root(n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT lower(accounts.word(n % 4000)) || '-' || n $$;
INSERT INTO leadroute.owners (reference) SELECT 'owner ' || i FROM generate_series(1, 100) i;
INSERT INTO leadroute.accounts (external_id, name, domain, phone, postcode, country, type, parent_external_id)
    SELECT n::text, accounts.company(n) || (ARRAY[' GmbH',' AG',' Ltd',' Inc.',' B.V.'])[1 + n % 5], 'www.' || accounts.root(n) || '.com', '+4930' || 10000000 + n,
           lpad((n % 20011)::text, 5, '0'), accounts.country(n), (ARRAY['customer','prospect','prospect','partner','competitor'])[1 + n % 5],
           CASE WHEN n % 10 = 0 THEN (n / 10 + 1)::text END
    FROM generate_series(1::bigint, :accounts) n;
INSERT INTO leadroute.account_owners (account_id, role, owner_id)
    SELECT a.account_id, r, 1 + a.account_id % 100 FROM leadroute.accounts a, unnest('{AE,CSM}'::text[]) r WHERE a.type = 'customer';
VACUUM (ANALYZE, FREEZE) leadroute.accounts, leadroute.account_owners, leadroute.account_domains;

INSERT INTO leadroute.pools (name) VALUES ('all');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT p.pool_id, o.owner_id FROM leadroute.pools p, leadroute.owners o;
SELECT leadroute.publish_policy('default', '{"leadroute": 1,
    "steps": [{"capability": "validateContact", "stop_when": []}, {"capability": "matchAccount"}, {"capability": "assignOwner"}],
    "rules": [{"name": "customers", "when": "matchAccount.type = ''customer''", "pool": "all", "account_owner": ["CSM", "AE"]},
              {"name": "rest", "when": "true", "pool": "all"}]}', 'benchmark');
SELECT leadroute.activate_policy('default');
SELECT leadroute.create_leads_table('leads');
-- of every kind a third; n: whose account it is
CREATE TABLE accounts.exact AS
    SELECT i, n, CASE WHEN i % 3 = 0 THEN accounts.root(n) || '.com' END AS domain, CASE WHEN i % 3 = 1 THEN 'jane@' || accounts.root(n) || '.com' END AS email,
           CASE WHEN i % 3 = 2 THEN upper(accounts.company(n)) || ' Limited' END AS company, accounts.country(n) AS country
    FROM generate_series(1::bigint, :leads) i, LATERAL (SELECT 1 + i * 7561 % :accounts AS n) x;
CREATE TABLE accounts.fuzzy AS
    SELECT i, n, CASE WHEN i % 3 = 0 THEN accounts.root(n) || '.de' END AS domain, CASE WHEN i % 3 = 1 THEN '+4930' || 10000000 + n END AS phone,
           CASE WHEN i % 3 = 2 THEN jsonb_build_object('postcode', lpad((n % 20011)::text, 5, '0')) END AS attributes,
           overlay(accounts.company(n) PLACING '' FROM 3 FOR 1) AS company, accounts.country(n) AS country
    FROM generate_series(1::bigint, :leads) i, LATERAL (SELECT 1 + i * 7561 % :accounts AS n) x;
VACUUM ANALYZE accounts.exact, accounts.fuzzy;
-- the median of what matchAccount took a lead, in microseconds, and the share of leads that came to an account of their own name
CREATE FUNCTION accounts.measured() RETURNS TABLE (microseconds double precision, found double precision) LANGUAGE sql AS $$
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY p.duration_us),
           avg((p.output ->> 'status' IN ('matched', 'ambiguous') AND EXISTS (
               SELECT FROM jsonb_array_elements(p.output -> 'candidates') c JOIN leadroute.accounts a ON a.account_id = (c ->> 'account_id')::bigint WHERE a.external_id = l.external_id))::integer)
    FROM leads l JOIN leadroute.provenance p USING (lead_id) WHERE p.capability = 'matchAccount' $$;
