-- agents: what the built-in agents read.

CREATE TABLE leadroute.firmographics (
    domain text PRIMARY KEY CHECK (domain = lower(domain)),
    company text,
    industry text,
    company_size integer CHECK (company_size >= 0),
    country text,
    region text
);
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.firmographics
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();
COMMENT ON TABLE leadroute.firmographics IS 'Facts about companies by domain: what enrichWithFirmographicData fills in. The team loads it.';
COMMENT ON COLUMN leadroute.firmographics.domain IS 'Lower-case, in ASCII (A-label) form, without www.';
COMMENT ON COLUMN leadroute.firmographics.company_size IS 'Number of employees.';
COMMENT ON COLUMN leadroute.firmographics.country IS 'ISO 3166 alpha-2.';
COMMENT ON COLUMN leadroute.firmographics.company IS 'The company''s name.';
COMMENT ON COLUMN leadroute.firmographics.industry IS 'In the spelling that rules and scorecards use.';
COMMENT ON COLUMN leadroute.firmographics.region IS 'In the spelling that rules use.';

CREATE FUNCTION leadroute.publish_jurisdictions(name text, document jsonb, reason text) RETURNS integer
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_publish_jurisdictions';
COMMENT ON FUNCTION leadroute.publish_jurisdictions(text, jsonb, text) IS
    'Publishes jurisdiction rules for checkRegionalCompliance as the next version of that name (see docs/agents.md). Returns the version number. Policy versions published later pin it. Raises 22023 with every mistake and its place in the detail.';

-- A first set of rules, for a policy to start from. They are a conservative reading for marketing contact; have them checked.
INSERT INTO leadroute.documents (document_id, kind, name, version, document, content_hash, reason, published_by)
SELECT 1, 'jurisdictions', 'standard', 1, d, sha256(convert_to(d::text, 'UTF8')), 'comes with leadroute', 'leadroute'
FROM (SELECT '{
  "description": "Marketing contact with people: on which bases each channel is open. A basis that a channel does not list closes it.",
  "sources": ["EU/EEA: GDPR art. 6 and 7, ePrivacy Directive art. 13", "UK: UK GDPR, PECR 2003 reg. 19 to 22", "US: CAN-SPAM Act, TCPA and the Telemarketing Sales Rule",
              "Canada: CASL s. 6 and 10, Unsolicited Telecommunications Rules", "Brazil: LGPD art. 7 and 8"],
  "jurisdictions": [
    {"name": "EU/EEA",
     "countries": ["AT","BE","BG","HR","CY","CZ","DK","EE","FI","FR","DE","GR","HU","IE","IT","LV","LT","LU","MT","NL","PL","PT","RO","SK","SI","ES","SE","IS","LI","NO"],
     "channels": {"email": ["consent", "existing_customer"], "phone": ["consent", "existing_customer"], "sms": ["consent", "existing_customer"],
                  "post": ["consent", "existing_customer", "contract", "legitimate_interest"]}},
    {"name": "UK", "countries": ["GB"],
     "channels": {"email": ["consent", "existing_customer"], "phone": ["consent", "existing_customer", "legitimate_interest"],
                  "sms": ["consent", "existing_customer"], "post": ["consent", "existing_customer", "contract", "legitimate_interest"]}},
    {"name": "US", "countries": ["US"],
     "channels": {"email": ["none"], "phone": ["consent", "existing_customer"], "sms": ["consent"], "post": ["none"]}},
    {"name": "Canada", "countries": ["CA"], "max_age_days": 730,
     "channels": {"email": ["consent", "existing_customer"], "phone": ["consent", "existing_customer"], "sms": ["consent", "existing_customer"],
                  "post": ["none"]}},
    {"name": "Brazil", "countries": ["BR"],
     "channels": {"email": ["consent", "existing_customer", "contract", "legitimate_interest"], "phone": ["consent", "existing_customer", "contract"],
                  "sms": ["consent", "existing_customer", "contract"], "post": ["consent", "existing_customer", "contract", "legitimate_interest"]}},
    {"name": "unknown", "default": true, "note": "No country, or one that no other names: consent only.",
     "channels": {"email": ["consent"], "phone": ["consent"], "sms": ["consent"], "post": ["consent"]}}
  ]}'::jsonb AS d) AS standard;
