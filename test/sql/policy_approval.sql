-- Four eyes: where a policy requires it, a version becomes active only when somebody approved it who neither published it nor worked on its
-- draft; who that is, the session says. What goes past a check is forced, with a reason, and on record.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
\pset format unaligned
\pset fieldsep ' | '
CREATE ROLE regress_lr_anna LOGIN IN ROLE leadroute_author, leadroute_approver;
CREATE ROLE regress_lr_bert LOGIN IN ROLE leadroute_author, leadroute_approver;
CREATE ROLE regress_lr_carl LOGIN IN ROLE leadroute_approver;
CREATE ROLE regress_lr_dora LOGIN IN ROLE leadroute_author;
CREATE SCHEMA policy_approval;
GRANT USAGE ON SCHEMA policy_approval TO PUBLIC;
SET search_path TO policy_approval;
CREATE FUNCTION document(reason text) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('leadroute', 1, 'steps', '[{"capability": "assignOwner"}]'::jsonb,
        'rules', jsonb_build_array(jsonb_build_object('name', 'all', 'when', 'true', 'outcome', 'nurture', 'reason', reason)))
$$;
SET SESSION AUTHORIZATION regress_lr_anna;
SELECT leadroute.publish_policy('policy_approval', document('one'), 'first');
SELECT leadroute.activate_policy('policy_approval', 1, 'no approval required yet');

-- required from now on; what is active stays so
SELECT leadroute.require_approval('policy_approval', true, '');
SELECT leadroute.require_approval('policy_approval', NULL, 'x');
SELECT leadroute.require_approval('policy_approval none', true, 'x');
SET SESSION AUTHORIZATION regress_lr_dora;
SELECT leadroute.require_approval('policy_approval', true, 'an author must not');
SELECT leadroute.approve_policy('policy_approval', 1, 'an author must not');
SET SESSION AUTHORIZATION regress_lr_carl;
SELECT leadroute.require_approval('policy_approval', true, 'the audit asks for it');
SELECT leadroute.require_approval('policy_approval', true, 'once more');
SELECT leadroute.activate_policy('policy_approval', 1, 'it is active');
SELECT state FROM leadroute.policy_version_states WHERE policy = 'policy_approval';

-- Anna begins a draft, Bert ends and publishes it: neither can approve it, in whatever role; Carl can
SET SESSION AUTHORIZATION regress_lr_anna;
SELECT leadroute.create_draft('policy_approval');
SELECT leadroute.load_draft('policy_approval', document('two'));
-- a change is noted also of whoever pretends to restore a dump
SET SESSION AUTHORIZATION regress_lr_dora;
SET row_security = off;
UPDATE leadroute.draft_rules SET note = 'by Dora' WHERE draft = 'policy_approval';
INSERT INTO leadroute.draft_rules (draft, name, condition) VALUES ('policy_approval none', 'a', 'true');
INSERT INTO leadroute.pool_members (pool_id, owner_id) VALUES (-1, -1);
RESET row_security;
SELECT authors, changed_by FROM leadroute.policy_drafts WHERE draft = 'policy_approval';
SET SESSION AUTHORIZATION regress_lr_bert;
UPDATE leadroute.draft_rules SET note = 'by Bert' WHERE draft = 'policy_approval';
SELECT leadroute.publish_draft('policy_approval', 'second');
SELECT leadroute.approve_policy('policy_approval', 2, 'mine');
SET ROLE leadroute_approver;
SELECT leadroute.approve_policy('policy_approval', 2, 'mine');
SELECT leadroute.activate_policy('policy_approval', 2, 'mine');
SET SESSION AUTHORIZATION regress_lr_anna;
SELECT leadroute.approve_policy('policy_approval', 2, 'mine');
SELECT leadroute.activate_policy('policy_approval');
SELECT leadroute.activate_policy('policy_approval', 2, 'later', now() + interval '1 day');
SELECT state, authors, approved_by FROM leadroute.policy_version_states WHERE policy = 'policy_approval' AND version = 2;
SET SESSION AUTHORIZATION regress_lr_carl;
SELECT leadroute.approve_policy('policy_approval', 3, 'x');
SELECT leadroute.approve_policy('policy_approval', NULL, 'x');
SELECT leadroute.approve_policy('policy_approval none', 1, 'x');
SELECT leadroute.approve_policy('policy_approval', 2, 'looks good');
SELECT leadroute.approve_policy('policy_approval', 2, 'still does');
SELECT state, authors, approved_by FROM leadroute.policy_version_states WHERE policy = 'policy_approval' AND version = 2;
-- a version that is approved anybody who may activates, its author, too
SET SESSION AUTHORIZATION regress_lr_bert;
SELECT leadroute.activate_policy('policy_approval', 2, 'go');

-- version 1 was never approved: to go back to it has to be forced, with a reason
SELECT leadroute.rollback_policy('policy_approval', 'bad');
SELECT leadroute.rollback_policy('policy_approval', '', true);
SELECT leadroute.activate_policy('policy_approval', 1, ' ', force => true);
BEGIN;
SELECT leadroute.activate_policy('policy_approval', 1, 'the roof is on fire', force => true);
ROLLBACK;
SET application_name = 'pager';
SELECT leadroute.rollback_policy('policy_approval', 'the roof is on fire', force => true);
-- what needs no force is not forced, though force was given
SELECT leadroute.activate_policy('policy_approval', 2, 'it is out', force => true);
RESET application_name;

-- an approval counts for one version
SELECT leadroute.publish_policy('policy_approval', document('three'), 'third');
SELECT leadroute.activate_policy('policy_approval', 3);
-- somebody who is an author meanwhile does not count, as an approval that somebody wrote by hand would not
RESET SESSION AUTHORIZATION;
BEGIN;
INSERT INTO leadroute.policy_acts (act, policy_id, policy_version_id, reason, session_user_name, current_user_name, application)
    SELECT 'approve', policy_id, policy_version_id, 'x', 'regress_lr_bert', 'regress_lr_bert', '' FROM leadroute.policy_versions JOIN leadroute.policies p USING (policy_id) WHERE p.name = 'policy_approval' AND version = 3;
SELECT leadroute.activate_policy('policy_approval', 3);
ROLLBACK;
-- scheduled without an approval, and then required
SET SESSION AUTHORIZATION regress_lr_carl;
SELECT leadroute.require_approval('policy_approval', false, 'the audit is over');
-- or deciding as a canary
SELECT leadroute.start_canary('policy_approval', 3, 0) > 0 AS started;
SELECT leadroute.require_approval('policy_approval', true, 'another audit');
SELECT leadroute.abort_trial('policy_approval');
SELECT leadroute.activate_policy('policy_approval', 3, 'tomorrow', now() + interval '1 day');
SELECT leadroute.require_approval('policy_approval', true, 'another audit');
SELECT leadroute.approve_policy('policy_approval', 3, 'fine');
SELECT leadroute.require_approval('policy_approval', true, 'another audit');
SELECT version, state FROM leadroute.policy_version_states WHERE policy = 'policy_approval' ORDER BY version NULLS LAST;

-- all of it is on record, by the session's user; nobody but the owner can change that
SELECT act, version, previous_version AS previous, reason, forced, overridden, session_user_name, current_user_name FROM leadroute.policy_history WHERE name = 'policy_approval' ORDER BY at;
SELECT act, version, overridden, reason, session_user_name, application FROM leadroute.forced_acts WHERE name = 'policy_approval';
UPDATE leadroute.policy_acts SET forced = false;
DELETE FROM leadroute.policy_acts;
INSERT INTO leadroute.policy_acts (act, reason, session_user_name, current_user_name, application) VALUES ('approve', 'x', 'x', 'x', '');
UPDATE leadroute.policy_versions SET authors = '{}';
UPDATE leadroute.policies SET approval_required = false;

RESET SESSION AUTHORIZATION;
SELECT leadroute.discard_draft('policy_approval');
DROP SCHEMA policy_approval CASCADE;
DROP ROLE regress_lr_anna, regress_lr_bert, regress_lr_carl, regress_lr_dora;
