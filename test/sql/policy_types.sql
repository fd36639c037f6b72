-- policy: conditions may use a team's enums, and domains all of whose checks are built in; a version pins what they mean.
-- When a type changes, the version that pins it stops deciding: leads wait, nothing already decided becomes unreadable.

SET client_min_messages = warning;
CREATE SCHEMA types_test;
CREATE TYPE types_test.stage AS ENUM ('new', 'mql', 'sql');
CREATE DOMAIN types_test.postcode AS text CHECK (value ~ '^[0-9]{5}$');
CREATE DOMAIN types_test.real_postcode AS types_test.postcode CHECK (value <> '00000');
CREATE FUNCTION types_test.anything(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE DOMAIN types_test.unsafe AS text CHECK (types_test.anything(value));
INSERT INTO leadroute.owners (reference) VALUES ('types-owner');
INSERT INTO leadroute.pools (name) VALUES ('types-pool');
INSERT INTO leadroute.pool_members (pool_id, owner_id)
    SELECT p.pool_id, o.owner_id FROM leadroute.pools p, leadroute.owners o WHERE p.name = 'types-pool' AND o.reference = 'types-owner';

-- a check that calls somebody's function is not built in
SELECT place, problem, hint FROM leadroute.policy_mistakes('{"leadroute": 1, "steps": [{"capability": "assignOwner"}],
    "rules": [{"name": "unsafe", "when": "(attributes->>''a'')::types_test.unsafe IS NOT NULL", "pool": "types-pool"}]}');

SELECT leadroute.publish_policy('types', '{"leadroute": 1, "steps": [{"capability": "assignOwner"}],
    "rules": [{"name": "qualified", "when": "(attributes->>''stage'')::types_test.stage >= ''mql''", "pool": "types-pool"},
              {"name": "berlin", "when": "(attributes->>''postcode'')::types_test.real_postcode LIKE ''10%''", "outcome": "nurture", "reason": "local"}]}', 'test');
SELECT jsonb_object_keys(pins -> 'types') FROM leadroute.policy_versions JOIN leadroute.policies USING (policy_id) WHERE name = 'types' ORDER BY 1;
SELECT leadroute.activate_policy('types');
SELECT leadroute.create_leads_table('types_test.leads', 'types');

-- labels compare in their own order; what is no label, or fails a check, is an error of that rule, on record
INSERT INTO types_test.leads (external_id, attributes) VALUES
    ('new', '{"stage": "new", "postcode": "10115"}'), ('sql', '{"stage": "sql"}'), ('neither', '{"stage": "none", "postcode": "x"}'),
    ('zeros', '{"postcode": "00000"}'), ('empty', '{}');
SELECT l.external_id, d.outcome, d.reason_code, p.output -> 'errors' AS errors
FROM types_test.leads l JOIN leadroute.decisions d USING (lead_id) JOIN leadroute.provenance p USING (decision_id) ORDER BY l.lead_id;

-- a changed enum stops the version: the insert goes through, the lead waits
ALTER TYPE types_test.stage ADD VALUE 'won';
INSERT INTO types_test.leads (external_id, attributes) VALUES ('later', '{"stage": "won"}');
SELECT reason, by_user = current_user AS mine FROM leadroute.unrouted('types_test.leads');
SELECT leadroute.route_lead(lead_id) FROM types_test.leads WHERE external_id = 'later';
SELECT count(*) AS still_readable FROM types_test.leads l JOIN leadroute.provenance p USING (lead_id);

-- published again, it means what the type means now
SELECT leadroute.publish_policy('types', leadroute.policy_document('types'), 'again');
SELECT leadroute.activate_policy('types');
SELECT leadroute.route_pending('types_test.leads');
SELECT l.external_id, s.outcome FROM types_test.leads l JOIN leadroute.lead_states s USING (lead_id) WHERE l.external_id = 'later';
ALTER DOMAIN types_test.postcode ADD CHECK (value <> '99999');
SELECT leadroute.activate_policy('types', 1);
INSERT INTO types_test.leads (external_id, attributes) VALUES ('waiting', '{"stage": "won"}');
SELECT reason FROM leadroute.unrouted('types_test.leads');

-- a lead that says 'today' where a date is meant would verify differently tomorrow: it raises, as no date at all does
SELECT leadroute.publish_policy('types', '{"leadroute": 1, "steps": [{"capability": "assignOwner"}],
    "rules": [{"name": "due", "when": "(attributes->>''due'')::date <= ''2026-06-30''", "pool": "types-pool"}]}', 'dates');
SELECT leadroute.activate_policy('types');
INSERT INTO types_test.leads (external_id, attributes) VALUES
    ('fixed', '{"due": "2026-01-31"}'), ('moving', '{"due": "today"}'), ('moving too', '{"due": " Tomorrow "}'), ('nonsense', '{"due": "soon"}');
SELECT l.external_id, d.outcome, p.output -> 'errors' AS errors
FROM types_test.leads l JOIN leadroute.decisions d USING (lead_id) JOIN leadroute.provenance p USING (decision_id)
WHERE l.attributes ? 'due' ORDER BY l.lead_id;
SELECT place, problem FROM leadroute.policy_mistakes('{"leadroute": 1, "steps": [{"capability": "assignOwner"}],
    "rules": [{"name": "dates", "when": "string_to_array(attributes->>''due'', '','')::date[] IS NOT NULL", "pool": "types-pool"}]}');

DROP SCHEMA types_test CASCADE;
DELETE FROM leadroute.pool_members m USING leadroute.pools p WHERE p.pool_id = m.pool_id AND p.name = 'types-pool';
DELETE FROM leadroute.owners WHERE reference = 'types-owner';
