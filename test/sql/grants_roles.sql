-- Role by role: what each of the five may execute, read and write, and what it may not; then what they do with it. A user without any of them
-- may insert leads, and that is all.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SELECT string_agg(CASE WHEN has_function_privilege(r.rolname, p.oid, 'EXECUTE') THEN left(replace(r.rolname, 'leadroute_', ''), 3) ELSE '---' END, ' ' ORDER BY r.i) AS may_execute, p.proname AS function
FROM pg_proc p, unnest(ARRAY['leadroute_author', 'leadroute_approver', 'leadroute_operator', 'leadroute_agent', 'leadroute_auditor']) WITH ORDINALITY AS r (rolname, i)
WHERE p.pronamespace = 'leadroute'::regnamespace GROUP BY p.oid, p.proname, p.pronargs ORDER BY p.proname COLLATE "C", p.pronargs;
-- r for SELECT, a for INSERT, w for UPDATE, d for DELETE, D for TRUNCATE
SELECT c.relname AS relation, string_agg(left(replace(r.rolname, 'leadroute_', ''), 3) || ':' || coalesce(nullif(concat(CASE WHEN has_table_privilege(r.rolname, c.oid, 'SELECT') THEN 'r' END, CASE WHEN has_table_privilege(r.rolname, c.oid, 'INSERT') THEN 'a' END,
       CASE WHEN has_table_privilege(r.rolname, c.oid, 'UPDATE') THEN 'w' WHEN has_any_column_privilege(r.rolname, c.oid, 'UPDATE') THEN '(w)' END, CASE WHEN has_table_privilege(r.rolname, c.oid, 'DELETE') THEN 'd' END,
       CASE WHEN has_table_privilege(r.rolname, c.oid, 'TRUNCATE') THEN 'D' END), ''), '-'), ' ' ORDER BY r.i) AS may
FROM pg_class c, unnest(ARRAY['leadroute_author', 'leadroute_approver', 'leadroute_operator', 'leadroute_agent', 'leadroute_auditor']) WITH ORDINALITY AS r (rolname, i)
WHERE c.relnamespace = 'leadroute'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition GROUP BY c.oid, c.relname ORDER BY c.relname COLLATE "C";
SELECT c.relname AS sequence, string_agg(left(replace(r.rolname, 'leadroute_', ''), 3), ' ' ORDER BY r.i) AS may_use
FROM pg_class c, unnest(ARRAY['leadroute_author', 'leadroute_approver', 'leadroute_operator', 'leadroute_agent', 'leadroute_auditor']) WITH ORDINALITY AS r (rolname, i)
WHERE c.relnamespace = 'leadroute'::regnamespace AND c.relkind = 'S' AND c.relname !~ '^pool_\d' AND has_sequence_privilege(r.rolname, c.oid, 'USAGE') GROUP BY c.relname ORDER BY 1;

CREATE ROLE regress_lr_author IN ROLE leadroute_author;
CREATE ROLE regress_lr_approver IN ROLE leadroute_approver;
CREATE ROLE regress_lr_operator IN ROLE leadroute_operator;
CREATE ROLE regress_lr_agent IN ROLE leadroute_agent;
CREATE ROLE regress_lr_auditor IN ROLE leadroute_auditor;
CREATE ROLE regress_lr_app;
CREATE SCHEMA grants_roles;
GRANT USAGE, CREATE ON SCHEMA grants_roles TO regress_lr_author, regress_lr_agent;
GRANT USAGE ON SCHEMA grants_roles TO regress_lr_app, regress_lr_operator, regress_lr_auditor, regress_lr_approver;
SET search_path TO grants_roles;

-- the author prepares, and cannot activate
SET ROLE regress_lr_author;
INSERT INTO leadroute.pools (name) VALUES ('grants_roles');
INSERT INTO leadroute.owners (reference) VALUES ('grants a'), ('grants b');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT pool_id, owner_id FROM leadroute.pools, leadroute.owners WHERE name = 'grants_roles' AND reference LIKE 'grants _';
SELECT leadroute.publish_scorecard('grants_roles', '{"characteristics": []}', 'test') > 0 AS published;
SELECT leadroute.publish_policy('grants_roles', '{"leadroute": 1, "steps": [{"capability": "validateContact"}, {"capability": "assignOwner"}], "rules": [{"name": "all", "when": "true", "pool": "grants_roles"}]}', 'test') > 0 AS published;
SELECT leadroute.create_leads_table('leads', 'grants_roles');
SELECT leadroute.activate_policy('grants_roles');
SELECT leadroute.route_pending();
SELECT count(*) FROM leadroute.lead_states;
SELECT count(*) FROM leadroute.digest_keys;
GRANT INSERT, SELECT (lead_id) ON leads TO regress_lr_app, regress_lr_operator;

SET ROLE regress_lr_approver;
SELECT leadroute.activate_policy('grants_roles', 1, 'looks good');
SELECT leadroute.publish_policy('grants_roles', '{}', 'test');
SELECT leadroute.attach_table('leads');
INSERT INTO leadroute.owners (reference) VALUES ('grants c');
SELECT count(*) FROM leadroute.entries;

-- an application: leads go in and are routed; nothing else is to be had
RESET ROLE;
GRANT USAGE ON SEQUENCE leadroute.lead_ids TO regress_lr_app;
SET ROLE regress_lr_app;
INSERT INTO leads (email) VALUES ('jane@acme.example');
COPY leads (email) FROM stdin;
joe@acme.example
\.
SELECT count(*) FROM leads WHERE lead_id > 0;
SELECT * FROM leadroute.decisions;
SELECT leadroute.route_pending();
SELECT count(*) FROM leadroute.entries;

-- the operator runs the routing and switches owners; cannot change the policy, nor the record
SET ROLE regress_lr_operator;
SELECT outcome, owner FROM leadroute.submit_lead('{"email": "jim@acme.example"}', 'leads');
SELECT count(*) FROM leadroute.route_leads((SELECT array_agg(lead_id) FROM leadroute.decisions WHERE policy = 'grants_roles')) WHERE NOT changed;
SELECT leadroute.route_pending('leads');
SELECT count(*) FROM leadroute.unrouted_leads WHERE leads_table = 'grants_roles.leads';
SELECT count(*) FROM leadroute.reconcile('leads');
UPDATE leadroute.owners SET available = false WHERE reference = 'grants a';
UPDATE leadroute.owners SET reference = 'me' WHERE reference = 'grants a';
UPDATE leadroute.lead_states SET owner_id = NULL;
DELETE FROM leadroute.entries;
INSERT INTO leadroute.pool_members VALUES (1, 1);
SELECT leadroute.publish_policy('grants_roles', '{}', 'test');
SELECT leadroute.activate_policy('grants_roles');
SET leadroute.enabled = off;

-- an agent registers its own function
SET ROLE regress_lr_agent;
CREATE FUNCTION grants_roles.work(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT ''{}''::jsonb';
SELECT leadroute.register_agent('grants_roles', '1', '{grantsRoles}', 'grants_roles.work(jsonb)') > 0 AS registered;
SELECT leadroute.deprecate_agent('grants_roles', '1');
SELECT count(*) FROM leadroute.lead_states;
SELECT leadroute.route_pending();
SELECT leadroute.publish_scorecard('grants_roles', '{}', 'test');

-- the auditor reads the record and proves it, sees no lead and changes nothing
SET ROLE regress_lr_auditor;
SELECT count(*) AS decisions FROM leadroute.decisions WHERE policy = 'grants_roles';
SELECT count(*) AS steps FROM leadroute.provenance p JOIN leadroute.decisions d USING (decision_id) WHERE d.policy = 'grants_roles';
SELECT DISTINCT v.verdict FROM leadroute.decisions d, leadroute.verify_decision(d.decision_id) v WHERE d.policy = 'grants_roles';
SELECT count(*) > 5 AS explained FROM leadroute.decisions d, leadroute.explain_decision(d.decision_id) v WHERE d.policy = 'grants_roles';
SELECT count(*) AS timeline FROM leadroute.lead_timeline t JOIN leadroute.decisions d USING (decision_id) WHERE d.policy = 'grants_roles';
SELECT sum(decisions) AS metrics FROM leadroute.routing_metrics WHERE policy = 'grants_roles';
SELECT act, version FROM leadroute.policy_history WHERE name = 'grants_roles' ORDER BY at;
SELECT count(*) FROM leadroute.reconcile('leads');
SELECT * FROM leads;
SELECT * FROM leadroute.lead_keys;
SELECT * FROM leadroute.digest_keys;
SELECT leadroute.recompute_decision(1);
SELECT leadroute.route_lead(1);
UPDATE leadroute.owners SET available = true;
DELETE FROM leadroute.policy_acts;
UPDATE leadroute.environments SET engine = 'x';
RESET ROLE;
-- nor through a partition of the record
SELECT bool_or(has_table_privilege(r.rolname, i.inhrelid, 'SELECT, INSERT, UPDATE, DELETE')) AS reaches_partitions
FROM pg_inherits i, pg_roles r WHERE i.inhparent = 'leadroute.entries'::regclass AND r.rolname LIKE 'regress_lr_%';

DROP SCHEMA grants_roles CASCADE;
DELETE FROM leadroute.pool_members WHERE pool_id = (SELECT pool_id FROM leadroute.pools WHERE name = 'grants_roles');
DELETE FROM leadroute.pools WHERE name = 'grants_roles';
DELETE FROM leadroute.owners WHERE reference LIKE 'grants _';
REVOKE ALL ON SEQUENCE leadroute.lead_ids FROM regress_lr_app;
DROP ROLE regress_lr_author, regress_lr_approver, regress_lr_operator, regress_lr_agent, regress_lr_auditor, regress_lr_app;
