-- grants: who may do what, and what a dump has to carry. Nothing that acts is open to PUBLIC.

REVOKE ALL ON ALL TABLES IN SCHEMA leadroute FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA leadroute FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA leadroute FROM PUBLIC;
GRANT USAGE ON SCHEMA leadroute TO leadroute_author, leadroute_approver, leadroute_operator, leadroute_agent, leadroute_auditor;

-- Everybody with a role may read the configuration, and check what the library is.
GRANT SELECT ON leadroute.policies, leadroute.policy_versions, leadroute.policy_rules, leadroute.policy_history, leadroute.documents, leadroute.agents,
    leadroute.pools, leadroute.pool_members, leadroute.owners, leadroute.attached_tables
    TO leadroute_author, leadroute_approver, leadroute_operator, leadroute_agent, leadroute_auditor;
GRANT EXECUTE ON FUNCTION leadroute.library_version(), leadroute.standard_classes(), leadroute.policy_version_id(text, integer),
    leadroute.policy_document(text, integer), leadroute.content_hash(jsonb, jsonb, bytea)
    TO leadroute_author, leadroute_approver, leadroute_operator, leadroute_agent, leadroute_auditor;

-- Authors write policies and what they refer to, and attach tables that they own.
GRANT EXECUTE ON FUNCTION leadroute.policy_mistakes(jsonb), leadroute.publish_policy(text, jsonb, text, boolean), leadroute.publish_scorecard(text, jsonb, text),
    leadroute.publish_jurisdictions(text, jsonb, text), leadroute.attach_table(regclass, jsonb, jsonb, text, text[], text[]),
    leadroute.detach_table(regclass), leadroute.create_leads_table(text, text), leadroute.setup(text, text[]),
    leadroute.generate_leads(bigint, bigint)
    TO leadroute_author;
GRANT INSERT, UPDATE, DELETE ON leadroute.owners, leadroute.pools, leadroute.pool_members TO leadroute_author;
GRANT SELECT, INSERT, UPDATE, DELETE ON leadroute.firmographics TO leadroute_author;
GRANT USAGE ON SEQUENCE leadroute.owner_ids, leadroute.pool_ids, leadroute.lead_ids TO leadroute_author;

GRANT EXECUTE ON FUNCTION leadroute.match_version_rules(integer, jsonb[], boolean), leadroute.match_rules(text, integer, jsonb, boolean),
    leadroute.measure_version_rules(integer, jsonb[], integer, boolean), leadroute.measure_rules(text, integer, regclass, integer, boolean),
    leadroute.version_rule_index(integer), leadroute.rule_index(text, integer)
    TO leadroute_author, leadroute_approver, leadroute_operator, leadroute_auditor;
GRANT EXECUTE ON FUNCTION leadroute.rebuild_version_rule_index(integer), leadroute.rebuild_rule_index(text, integer) TO leadroute_author;

-- Approvers approve versions, and make them active.
GRANT EXECUTE ON FUNCTION leadroute.policy_mistakes(jsonb), leadroute.activate_policy(text, integer, text, timestamptz, boolean),
    leadroute.rollback_policy(text, text, boolean), leadroute.cancel_activation(text, text), leadroute.approve_policy(text, integer, text),
    leadroute.require_approval(text, boolean, text)
    TO leadroute_approver;

-- Operators run the routing, and switch owners on and off.
GRANT EXECUTE ON FUNCTION leadroute.submit_lead(jsonb, regclass), leadroute.attachment_of(regclass), leadroute.lead_of(regclass, text),
    leadroute.key_of(regclass, "any"),
    leadroute.route_lead(bigint, text), leadroute.route_leads(bigint[], text), leadroute.route_pending(regclass, bigint),
    leadroute.generate_leads(bigint, bigint)
    TO leadroute_operator;
GRANT UPDATE (available) ON leadroute.owners TO leadroute_operator;
GRANT USAGE ON SEQUENCE leadroute.lead_ids TO leadroute_operator;

-- Agents are registered by whom they run as.
GRANT EXECUTE ON FUNCTION leadroute.register_agent(text, text, text[], regprocedure, text), leadroute.deprecate_agent(text, text, boolean)
    TO leadroute_agent;

-- Operators and auditors read the record and prove it. What they read holds no direct identifiers.
GRANT SELECT ON leadroute.lead_states, leadroute.decisions, leadroute.provenance, leadroute.lead_timeline, leadroute.routing_metrics,
    leadroute.unrouted_leads, leadroute.pool_revisions, leadroute.environments, leadroute.entries
    TO leadroute_operator, leadroute_auditor;
GRANT EXECUTE ON FUNCTION leadroute.entry_evidence(bytea, integer), leadroute.entry_steps(bytea, integer), leadroute.explain_decision(bigint),
    leadroute.verify_decision(bigint), leadroute.differences(text, jsonb, jsonb), leadroute.reconcile(regclass, timestamptz),
    leadroute.unrouted(regclass)
    TO leadroute_operator, leadroute_auditor;
GRANT SELECT ON leadroute.policy_acts TO leadroute_auditor;

-- Everybody with a role reads drafts, and what became of versions; authors write drafts. What is noted of them, nobody writes.
GRANT SELECT ON leadroute.active_policies, leadroute.drafts, leadroute.draft_rules, leadroute.draft_tests, leadroute.policy_drafts,
    leadroute.policy_version_states, leadroute.forced_acts
    TO leadroute_author, leadroute_approver, leadroute_operator, leadroute_agent, leadroute_auditor;
GRANT EXECUTE ON FUNCTION leadroute.version_document(integer), leadroute.moved(integer[]), leadroute.document_elements(jsonb),
    leadroute.compare_documents(jsonb, jsonb), leadroute.document_differences(jsonb, jsonb), leadroute.policy_differences(text, integer, integer),
    leadroute.compare_three(jsonb, jsonb, jsonb), leadroute.draft_sides(text), leadroute.draft_differences(text), leadroute.draft_document(text)
    TO leadroute_author, leadroute_approver, leadroute_operator, leadroute_agent, leadroute_auditor;
GRANT INSERT (draft, policy, based_on_version_id, frame, note), UPDATE (frame, note) ON leadroute.drafts TO leadroute_author;
GRANT INSERT, UPDATE, DELETE ON leadroute.draft_rules, leadroute.draft_tests TO leadroute_author;
GRANT USAGE ON SEQUENCE leadroute.draft_positions TO leadroute_author;
GRANT EXECUTE ON FUNCTION leadroute.create_draft(text, text, integer), leadroute.discard_draft(text, text), leadroute.load_draft(text, jsonb),
    leadroute.without_lists(jsonb, text[]), leadroute.check_draft(text), leadroute.publish_draft(text, text, boolean), leadroute.rebase_draft(text, text)
    TO leadroute_author;
GRANT EXECUTE ON FUNCTION leadroute.draft_mistakes(text) TO leadroute_author, leadroute_approver;

-- What users fill goes into dumps, but for what this script fills itself. Partitions of the record, sequences of pools and
-- leads tables are no members of the extension and go into dumps by themselves.
DO $$
DECLARE
    t record;
BEGIN
    FOR t IN SELECT * FROM (VALUES
        ('leadroute.attached_tables', ''), ('leadroute.lead_keys', ''), ('leadroute.lead_states', ''),
        ('leadroute.agents', 'WHERE kind <> ''builtin'''), ('leadroute.documents', 'WHERE document_id >= 1000'),
        ('leadroute.policies', ''), ('leadroute.policy_versions', ''), ('leadroute.policy_rules', ''), ('leadroute.policy_acts', ''),
        ('leadroute.drafts', ''), ('leadroute.draft_rules', ''), ('leadroute.draft_tests', ''), ('leadroute.draft_positions', ''),
        ('leadroute.owners', ''), ('leadroute.pools', ''), ('leadroute.pool_members', ''), ('leadroute.pool_revisions', ''),
        ('leadroute.firmographics', ''), ('leadroute.environments', ''), ('leadroute.digest_keys', ''),
        ('leadroute.lead_ids', ''), ('leadroute.source_ids', ''), ('leadroute.agent_ids', ''), ('leadroute.document_ids', ''),
        ('leadroute.policy_ids', ''), ('leadroute.policy_version_ids', ''), ('leadroute.policy_act_ids', ''), ('leadroute.owner_ids', ''),
        ('leadroute.pool_ids', ''), ('leadroute.owner_turns', ''), ('leadroute.pool_revision_ids', ''), ('leadroute.environment_ids', ''), ('leadroute.run_ids', '')
    ) AS v (name, filter) LOOP
        PERFORM pg_extension_config_dump(t.name, t.filter);
    END LOOP;
END $$;
