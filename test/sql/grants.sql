-- The catalog keeps what the grants promise: nothing of leadroute is open to PUBLIC; every function pins its search path, or says why not;
-- every object has a comment; what runs with the owner's rights cannot be led astray.
SET client_min_messages = warning;
-- open to PUBLIC, or to anybody but the five roles
SELECT p.oid::regprocedure AS open_function FROM pg_proc p WHERE p.pronamespace = 'leadroute'::regnamespace AND EXISTS
    (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee <> p.proowner AND a.grantee::regrole::text NOT IN ('leadroute_author', 'leadroute_approver', 'leadroute_operator', 'leadroute_agent', 'leadroute_auditor'));
SELECT c.oid::regclass AS open_relation FROM pg_class c WHERE c.relnamespace = 'leadroute'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND EXISTS
    (SELECT FROM aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) a WHERE a.grantee <> c.relowner AND a.grantee::regrole::text NOT IN ('leadroute_author', 'leadroute_approver', 'leadroute_operator', 'leadroute_agent', 'leadroute_auditor'));
SELECT a.attrelid::regclass AS open_column, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid, aclexplode(a.attacl) x WHERE c.relnamespace = 'leadroute'::regnamespace AND x.grantee = 0;
SELECT n.nspname AS open_schema FROM pg_namespace n, aclexplode(n.nspacl) a WHERE n.nspname = 'leadroute' AND (a.grantee = 0 OR (a.privilege_type = 'CREATE' AND a.grantee <> n.nspowner));
-- nobody can grant on
SELECT count(*) AS grant_options FROM pg_class c, aclexplode(c.relacl) a WHERE c.relnamespace = 'leadroute'::regnamespace AND a.is_grantable AND a.grantee <> c.relowner;

-- search paths: these run as their caller, under the caller's path, and qualify every name, or pin it themselves
SELECT p.oid::regprocedure AS not_pinned, p.prosecdef AS security_definer, l.lanname AS language FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.pronamespace = 'leadroute'::regnamespace AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS c WHERE c = 'search_path=pg_catalog, pg_temp') ORDER BY p.proname COLLATE "C";
SELECT count(*) AS definers, count(*) FILTER (WHERE EXISTS (SELECT FROM unnest(p.proconfig) AS c WHERE c = 'search_path=pg_catalog, pg_temp')) AS pinned FROM pg_proc p WHERE p.pronamespace = 'leadroute'::regnamespace AND p.prosecdef;

-- comments: functions, tables, views, types, sequences that people see, event triggers, roles, columns that do not speak for themselves
SELECT p.oid::regprocedure AS no_comment FROM pg_proc p WHERE p.pronamespace = 'leadroute'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL;
SELECT c.oid::regclass AS no_comment FROM pg_class c WHERE c.relnamespace = 'leadroute'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition AND obj_description(c.oid, 'pg_class') IS NULL;
SELECT t.oid::regtype AS no_comment FROM pg_type t WHERE t.typnamespace = 'leadroute'::regnamespace AND t.typtype IN ('e', 'd') AND obj_description(t.oid, 'pg_type') IS NULL;
SELECT e.evtname AS no_comment FROM pg_event_trigger e JOIN pg_depend d ON d.objid = e.oid JOIN pg_extension x ON x.oid = d.refobjid AND x.extname = 'leadroute' WHERE obj_description(e.oid, 'pg_event_trigger') IS NULL;
SELECT r.rolname AS no_comment FROM pg_roles r WHERE r.rolname ~ '^leadroute_(author|approver|operator|agent|auditor)$' AND shobj_description(r.oid, 'pg_authid') IS NULL;
SELECT count(*) AS schemas_with_comment FROM pg_namespace n WHERE n.nspname = 'leadroute' AND obj_description(n.oid, 'pg_namespace') IS NOT NULL;

-- the roles cannot log in, own nothing and are members of nothing
SELECT r.rolname, r.rolcanlogin, r.rolsuper, r.rolcreaterole, r.rolbypassrls, (SELECT count(*) FROM pg_auth_members m WHERE m.member = r.oid) AS member_of, (SELECT count(*) FROM pg_class c WHERE c.relowner = r.oid) AS owns
FROM pg_roles r WHERE r.rolname ~ '^leadroute_(author|approver|operator|agent|auditor)$' ORDER BY 1;
-- no type that pg_upgrade cannot take along
SELECT c.oid::regclass, a.attname, a.atttypid::regtype FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE c.relnamespace = 'leadroute'::regnamespace AND a.attnum > 0
    AND a.atttypid IN ('regproc'::regtype, 'regprocedure'::regtype, 'regoper'::regtype, 'regoperator'::regtype, 'regconfig'::regtype, 'regdictionary'::regtype, 'regnamespace'::regtype, 'regcollation'::regtype, 'pg_node_tree'::regtype, 'xid'::regtype);
-- leads tables and partitions of the record are no members of the extension; what users fill is registered for dumps
SELECT c.oid::regclass AS not_dumped FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e' JOIN pg_extension x ON x.oid = d.refobjid
WHERE x.extname = 'leadroute' AND c.relkind IN ('r', 'S') AND NOT c.oid = ANY (x.extconfig);
SELECT count(*) AS members FROM pg_inherits i JOIN pg_depend d ON d.objid = i.inhrelid AND d.deptype = 'e' WHERE i.inhparent = 'leadroute.entries'::regclass;
