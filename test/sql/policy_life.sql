-- An activation can be scheduled: no process has to run; from its moment on each session decides by the new version, and whoever acts on the
-- policy next enters it. Rollback in one call works before and after; cancelling, before. What is on record says who did what, and when it took
-- effect.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA policy_life;
SET search_path TO policy_life;
\pset format unaligned
\pset fieldsep ' | '
CREATE ROLE regress_lr_approver LOGIN IN ROLE leadroute_approver;
CREATE FUNCTION document(reason text) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('leadroute', 1, 'steps', '[{"capability": "assignOwner"}]'::jsonb,
        'rules', jsonb_build_array(jsonb_build_object('name', 'all', 'when', 'true', 'outcome', 'nurture', 'reason', reason)))
$$;
SELECT leadroute.publish_policy('policy_life', document('one'), 'first'), leadroute.publish_policy('policy_life', document('two'), 'second'), leadroute.publish_policy('policy_life', document('three'), 'third');
CREATE TABLE leads (id integer PRIMARY KEY);
SELECT leadroute.attach_table('leads', policy => 'policy_life') > 0 AS attached;
CREATE FUNCTION decided(number integer) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO leads VALUES (number);
    RETURN (SELECT reason_code FROM leadroute.lead_states WHERE lead_id = leadroute.lead_of('leads', number::text));
END $$;
-- time passes: the moment of what is scheduled lies back
CREATE FUNCTION let_pass() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE leadroute.policy_acts a SET effective_at = a.effective_at - interval '1 year 1 day' FROM leadroute.policies p WHERE p.policy_id = a.policy_id AND a.act = 'schedule' AND a.effective_at = p.scheduled_at;
    UPDATE leadroute.policies SET scheduled_at = scheduled_at - interval '1 year 1 day' WHERE name = 'policy_life';
END $$;
CREATE FUNCTION in_a_year() RETURNS timestamptz LANGUAGE sql AS $$ SELECT date_trunc('hour', now()) + interval '1 year' $$;

-- what cannot be scheduled
SELECT leadroute.activate_policy('policy_life', 1, 'x', '2020-01-01');
SELECT leadroute.activate_policy('policy_life', 1, 'x', 'infinity');
SELECT leadroute.activate_policy('policy_life', 9, 'x', in_a_year());
SELECT leadroute.cancel_activation('policy_life');
SELECT leadroute.cancel_activation('policy_life none');

-- before the first activation leads wait until the moment has come
SELECT leadroute.activate_policy('policy_life', 1, 'to begin with', in_a_year());
SELECT decided(1), (SELECT version IS NULL FROM leadroute.active_policies WHERE name = 'policy_life') AS none_active;
SELECT leadroute.policy_document('policy_life');
SELECT let_pass();
SELECT decided(2), (SELECT version FROM leadroute.active_policies WHERE name = 'policy_life') AS active, leadroute.policy_version_id('policy_life') = leadroute.policy_version_id('policy_life', 1) AS same;
SELECT leadroute.route_pending('leads');
SELECT outcome, reason_code FROM leadroute.lead_states WHERE lead_id = leadroute.lead_of('leads', '1');

-- the active version has nothing to wait for
SET client_min_messages = notice;
SELECT leadroute.activate_policy('policy_life', 1, 'again', in_a_year());
SET client_min_messages = warning;

-- one at a time; cancelled, it never was; the active version stays active meanwhile
SELECT leadroute.activate_policy('policy_life', 2, 'next', in_a_year());
SELECT decided(3);
DO $$
BEGIN
    PERFORM leadroute.activate_policy('policy_life', 3, 'and another', policy_life.in_a_year());
EXCEPTION WHEN object_not_in_prerequisite_state THEN
    RAISE WARNING '%', SQLERRM;
END $$;
SELECT version, state, scheduled_at = in_a_year() AS in_a_year FROM leadroute.policy_version_states WHERE policy = 'policy_life' ORDER BY version;
SELECT leadroute.cancel_activation('policy_life', 'not yet');
SELECT let_pass();
SELECT decided(4);

-- a rollback before the moment leaves it scheduled; one after it goes back to what was before
SELECT leadroute.activate_policy('policy_life', 2, 'now'), leadroute.activate_policy('policy_life', 3, 'at Christmas', in_a_year());
SELECT leadroute.rollback_policy('policy_life', 'two is bad'), decided(5);
SELECT let_pass();
SELECT decided(6), (SELECT string_agg(state, ', ' ORDER BY version) FROM leadroute.policy_version_states WHERE policy = 'policy_life') AS states;
SET SESSION AUTHORIZATION regress_lr_approver;
SELECT leadroute.rollback_policy('policy_life', 'three is bad, too');
RESET SESSION AUTHORIZATION;
SELECT decided(7), (SELECT string_agg(state, ', ' ORDER BY version) FROM leadroute.policy_version_states WHERE policy = 'policy_life') AS states;
-- due, it can no longer be cancelled
SELECT leadroute.activate_policy('policy_life', 2, 'again', in_a_year());
SELECT let_pass();
SELECT leadroute.cancel_activation('policy_life');
SELECT decided(8);
-- made active by hand before its moment, the moment changes nothing
SELECT leadroute.activate_policy('policy_life', 3, 'at night', in_a_year()), leadroute.activate_policy('policy_life', 3, 'why wait');
SELECT let_pass();
SELECT decided(9), leadroute.rollback_policy('policy_life', 'back to two'), decided(10);
-- publishing settles, too
SELECT leadroute.activate_policy('policy_life', 1, 'once more', in_a_year());
SELECT let_pass();
SELECT leadroute.publish_policy('policy_life', document('four'), 'fourth');
SELECT version = 1 AS settled, scheduled_at IS NULL AS nothing_scheduled FROM leadroute.policies p JOIN leadroute.policy_versions v ON v.policy_version_id = p.active_version_id WHERE name = 'policy_life';

SELECT act, version, previous_version AS previous, reason, CASE WHEN effective_at IS NULL THEN '' WHEN effective_at = at THEN 'at once' WHEN effective_at < at THEN 'before' ELSE 'later' END AS effective, session_user_name = 'regress_lr_approver' AS by_approver
FROM leadroute.policy_history WHERE name = 'policy_life' ORDER BY (SELECT a.policy_act_id FROM leadroute.policy_acts a WHERE a.at = policy_history.at AND a.act = policy_history.act AND a.reason = policy_history.reason ORDER BY 1 DESC LIMIT 1);

-- a session that has seen the schedule needs to be told nothing when the moment comes; each lead is decided by the version of its moment
CREATE TABLE moment AS SELECT clock_timestamp() + interval '2 seconds' AS at;
SELECT leadroute.activate_policy('policy_life', 4, 'in a moment', (SELECT at FROM moment));
DO $$
BEGIN
    FOR i IN 100 .. 100000 LOOP
        INSERT INTO policy_life.leads SELECT i * 10 + n FROM generate_series(0, 9) AS n;
        COMMIT;
        EXIT WHEN clock_timestamp() >= (SELECT at FROM policy_life.moment);
        PERFORM pg_sleep(0.02);
    END LOOP;
    INSERT INTO policy_life.leads VALUES (1000000000);
END $$;
SELECT bool_and(d.policy_version = CASE WHEN d.as_of >= m.at THEN 4 ELSE 1 END) AS by_its_moment, bool_or(d.policy_version = 4) AS switched
FROM leadroute.decisions d CROSS JOIN moment m WHERE d.policy = 'policy_life' AND d.lead_id IN (SELECT leadroute.lead_of('leads', id::text) FROM leads WHERE id >= 1000);
SELECT count(*) AS torn FROM (SELECT l.id / 10 FROM leads l JOIN leadroute.decisions d ON d.lead_id = leadroute.lead_of('leads', l.id::text) WHERE l.id >= 1000 GROUP BY 1 HAVING count(DISTINCT d.policy_version) > 1) t;
SELECT DISTINCT v.verdict FROM leadroute.decisions d, leadroute.verify_decision(d.decision_id) v WHERE d.policy = 'policy_life';

-- what is scheduled can be cancelled, too, if it could not decide any more
SELECT leadroute.publish_scorecard('policy_life', '{"base": 1, "characteristics": []}', 'test') > 0 AS published;
SELECT leadroute.publish_policy('policy_life', document('five') || '{"steps": [{"capability": "computeLeadScore", "scorecard": "policy_life"}, {"capability": "assignOwner"}]}', 'fifth');
SELECT leadroute.activate_policy('policy_life', 5, 'next year', in_a_year());
UPDATE leadroute.documents SET document = document || '{"base": 2}' WHERE name = 'policy_life';
SELECT leadroute.cancel_activation('policy_life', 'the scorecard is gone');
UPDATE leadroute.documents SET document = document || '{"base": 1}' WHERE name = 'policy_life';
-- the active version is not scheduled behind another one without a word
SELECT leadroute.activate_policy('policy_life', 1, 'for a year', in_a_year());
DO $$
BEGIN
    PERFORM leadroute.activate_policy('policy_life', 4, 'and back', '2099-01-01');
EXCEPTION WHEN object_not_in_prerequisite_state THEN
    RAISE WARNING '%', SQLERRM;
END $$;
SELECT leadroute.cancel_activation('policy_life');
-- a version says why it was published
SELECT leadroute.publish_policy('policy_life', document('six'), ' ');

-- a table may not protect what a scheduled version reads
SELECT leadroute.publish_policy('policy_life two', document('one'), 'first'),
       leadroute.publish_policy('policy_life two', jsonb_set(document('two'), '{rules,0,when}', '"language = ''de''"'), 'second'),
       leadroute.activate_policy('policy_life two', 1), leadroute.activate_policy('policy_life two', 2, 'x', in_a_year());
CREATE TABLE people (id integer PRIMARY KEY, language text);
SELECT leadroute.attach_table('people', policy => 'policy_life two', protected => '{language}');

SELECT leadroute.detach_table('leads');
DROP SCHEMA policy_life CASCADE;
DROP ROLE regress_lr_approver;
