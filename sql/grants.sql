-- grants: who may do what, and what a dump has to carry. Nothing that acts is open to PUBLIC.

REVOKE ALL ON ALL TABLES IN SCHEMA leadroute FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA leadroute FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA leadroute FROM PUBLIC;
GRANT USAGE ON SCHEMA leadroute TO leadroute_author, leadroute_approver, leadroute_operator, leadroute_agent, leadroute_auditor;

-- Everybody with a role may read the configuration, and check what the library is.
GRANT SELECT ON leadroute.policies, leadroute.policy_versions, leadroute.policy_rules, leadroute.policy_history, leadroute.documents, leadroute.agents,
    leadroute.pools, leadroute.pool_members, leadroute.owners, leadroute.owner_skills, leadroute.caps, leadroute.tier_loads, leadroute.attached_tables, leadroute.policy_trials, leadroute.feature_flags
    TO leadroute_author, leadroute_approver, leadroute_operator, leadroute_agent, leadroute_auditor;
GRANT EXECUTE ON FUNCTION leadroute.library_version(), leadroute.standard_classes(), leadroute.policy_version_id(text, integer),
    leadroute.policy_document(text, integer), leadroute.content_hash(jsonb, jsonb, bytea)
    TO leadroute_author, leadroute_approver, leadroute_operator, leadroute_agent, leadroute_auditor;

-- Authors write policies and what they refer to, and attach tables that they own.
GRANT EXECUTE ON FUNCTION leadroute.policy_mistakes(jsonb), leadroute.publish_policy(text, jsonb, text, boolean), leadroute.publish_scorecard(text, jsonb, text),
    leadroute.publish_jurisdictions(text, jsonb, text), leadroute.attach_table(regclass, jsonb, jsonb, text, text[], text[], text, text),
    leadroute.detach_table(regclass), leadroute.create_leads_table(text, text), leadroute.setup(text, text[]),
    leadroute.generate_leads(bigint, bigint)
    TO leadroute_author;
GRANT INSERT, UPDATE, DELETE ON leadroute.owners, leadroute.owner_skills, leadroute.pools, leadroute.pool_members, leadroute.caps, leadroute.tier_loads TO leadroute_author;
GRANT SELECT, INSERT, UPDATE, DELETE ON leadroute.firmographics TO leadroute_author;
GRANT USAGE ON SEQUENCE leadroute.owner_ids, leadroute.pool_ids, leadroute.lead_ids TO leadroute_author;

GRANT EXECUTE ON FUNCTION leadroute.match_version_rules(integer, jsonb[], boolean), leadroute.match_rules(text, integer, jsonb, boolean),
    leadroute.measure_version_rules(integer, jsonb[], integer, boolean), leadroute.measure_rules(text, integer, regclass, integer, boolean),
    leadroute.version_rule_index(integer), leadroute.rule_index(text, integer)
    TO leadroute_author, leadroute_approver, leadroute_operator, leadroute_auditor;
GRANT EXECUTE ON FUNCTION leadroute.rebuild_version_rule_index(integer), leadroute.rebuild_rule_index(text, integer) TO leadroute_author;

-- Whoever works on policies evaluates and tests them: nothing is written.
GRANT EXECUTE ON FUNCTION leadroute.evaluate_version(integer, jsonb, jsonb[], boolean), leadroute.evaluate_leads(text, jsonb[], integer),
    leadroute.evaluate_policy(text, jsonb, integer), leadroute.evaluate_document(jsonb, jsonb), leadroute.version_tests(integer),
    leadroute.run_tests(integer, jsonb, jsonb), leadroute.run_policy_tests(text, integer), leadroute.run_document_tests(jsonb),
    leadroute.explain_version_rule(integer, text, jsonb), leadroute.explain_rule(text, integer, text, jsonb), leadroute.rule_coverage(text, integer, integer)
    TO leadroute_author, leadroute_approver, leadroute_operator, leadroute_auditor;

-- Whoever reads the record decides it again, and has it explained; authors and approvers see how often rules decided.
GRANT EXECUTE ON FUNCTION leadroute.backtest_decisions(integer, integer, jsonb, timestamptz, timestamptz),
    leadroute.count_moves(integer, integer, jsonb, timestamptz, timestamptz), leadroute.backtest_policy(text, integer, timestamptz, timestamptz),
    leadroute.backtest_document(text, jsonb, timestamptz, timestamptz), leadroute.explain_rule(bigint, text)
    TO leadroute_operator, leadroute_auditor;

GRANT EXECUTE ON FUNCTION leadroute.check_version(integer, integer, integer), leadroute.check_policy(text, integer, integer, integer)
    TO leadroute_author, leadroute_approver, leadroute_operator, leadroute_auditor;
GRANT EXECUTE ON FUNCTION leadroute.analyse_document(jsonb, integer, integer) TO leadroute_author, leadroute_approver;

-- Approvers approve versions, and make them active.
GRANT EXECUTE ON FUNCTION leadroute.policy_mistakes(jsonb), leadroute.activate_policy(text, integer, text, timestamptz, boolean),
    leadroute.rollback_policy(text, text, boolean), leadroute.cancel_activation(text, text), leadroute.approve_policy(text, integer, text),
    leadroute.require_approval(text, boolean, text)
    TO leadroute_approver;

-- They try versions, switch flags and go live; what a trial gave, everybody sees who may see decisions or decides on versions.
GRANT EXECUTE ON FUNCTION leadroute.start_canary(text, integer, double precision, text, text, jsonb, text),
    leadroute.start_shadow(text, integer, double precision, text, text), leadroute.change_share(text, double precision, text),
    leadroute.promote_candidate(text, text), leadroute.abort_trial(text, text), leadroute.set_table_mode(regclass, text, text),
    leadroute.set_flag(text, boolean, double precision, text, text, text), leadroute.drop_flag(text, text)
    TO leadroute_approver;
GRANT EXECUTE ON FUNCTION leadroute.check_trials() TO leadroute_approver, leadroute_operator;
GRANT SELECT ON leadroute.trial_comparison, leadroute.trial_moves TO leadroute_author, leadroute_approver, leadroute_operator, leadroute_auditor;
GRANT EXECUTE ON FUNCTION leadroute.compare_sides(integer, integer), leadroute.moved_leads(integer, integer),
    leadroute.wilson_interval(bigint, bigint), leadroute.lead_share(text, text)
    TO leadroute_author, leadroute_approver, leadroute_operator, leadroute_auditor;
GRANT SELECT, INSERT, UPDATE, DELETE ON leadroute.conversions TO leadroute_operator;
GRANT SELECT ON leadroute.conversions TO leadroute_auditor;
GRANT EXECUTE ON FUNCTION leadroute.record_conversion(bigint, timestamptz, numeric) TO leadroute_operator;

-- Operators run the routing, and switch owners on and off.
GRANT EXECUTE ON FUNCTION leadroute.submit_lead(jsonb, regclass), leadroute.attachment_of(regclass), leadroute.lead_of(regclass, text),
    leadroute.key_of(regclass, "any"),
    leadroute.route_lead(bigint, text), leadroute.route_leads(bigint[], text), leadroute.route_pending(regclass, bigint),
    leadroute.generate_leads(bigint, bigint)
    TO leadroute_operator;
GRANT EXECUTE ON FUNCTION leadroute.accept_lead(bigint, text), leadroute.decline_lead(bigint, text, text), leadroute.log_first_response(bigint, timestamptz),
    leadroute.close_lead(bigint, text, numeric), leadroute.reopen_lead(bigint, text), leadroute.reassign_lead(bigint, text, text, boolean),
    leadroute.override_decision(bigint, leadroute.outcome, text, text), leadroute.offboard_owner(text, text),
    leadroute.reroute_leads(text, text, text, boolean, boolean), leadroute.undo_reroute(bigint, text)
    TO leadroute_operator;
GRANT UPDATE (available) ON leadroute.owners TO leadroute_operator;
GRANT EXECUTE ON FUNCTION leadroute.cap_counters(), leadroute.cap_usage() TO leadroute_operator, leadroute_auditor;
GRANT EXECUTE ON FUNCTION leadroute.recount_caps() TO leadroute_operator;
GRANT EXECUTE ON FUNCTION leadroute.make_owner_index() TO leadroute_author, leadroute_operator;
GRANT USAGE ON SEQUENCE leadroute.lead_ids TO leadroute_operator;

-- Operators pause routing; everybody with a role sees what is paused.
GRANT EXECUTE ON FUNCTION leadroute.pause_routing(text, text), leadroute.resume_routing(text, text) TO leadroute_operator;
GRANT SELECT ON leadroute.routing_pauses TO leadroute_author, leadroute_approver, leadroute_operator, leadroute_agent, leadroute_auditor;

-- Authors write calendars; they and operators say who is away, and ask who works. Nobody else reads absences.
GRANT SELECT ON leadroute.calendars, leadroute.calendar_hours, leadroute.holidays
    TO leadroute_author, leadroute_approver, leadroute_operator, leadroute_agent, leadroute_auditor;
GRANT INSERT, UPDATE, DELETE ON leadroute.calendars, leadroute.calendar_hours TO leadroute_author;
GRANT INSERT, UPDATE, DELETE ON leadroute.holidays TO leadroute_author, leadroute_operator;
GRANT SELECT, INSERT, UPDATE, DELETE ON leadroute.absences TO leadroute_author, leadroute_operator;
GRANT USAGE ON SEQUENCE leadroute.calendar_ids TO leadroute_author;
GRANT USAGE ON SEQUENCE leadroute.absence_ids TO leadroute_author, leadroute_operator;
GRANT EXECUTE ON FUNCTION leadroute.owner_working(text, timestamptz), leadroute.next_working_time(text, timestamptz),
    leadroute.working_time(text, timestamptz, timestamptz), leadroute.working_time_end(text, timestamptz, interval)
    TO leadroute_author, leadroute_operator;
GRANT EXECUTE ON FUNCTION leadroute.cap_window(text, text, timestamptz) TO leadroute_author, leadroute_operator, leadroute_auditor;
-- They follow merges of leads; how a pool's leads are shared, authors see as well.
GRANT EXECUTE ON FUNCTION leadroute.merge_leads(bigint, bigint[], text) TO leadroute_operator;
GRANT SELECT ON leadroute.lead_merges TO leadroute_operator, leadroute_auditor;
GRANT EXECUTE ON FUNCTION leadroute.surviving_lead(bigint) TO leadroute_operator, leadroute_auditor;
GRANT EXECUTE ON FUNCTION leadroute.fairness_report(text, timestamptz) TO leadroute_operator, leadroute_auditor, leadroute_author;

-- Agents are registered by whom they run as.
GRANT EXECUTE ON FUNCTION leadroute.register_agent(text, text, text[], regprocedure, text), leadroute.deprecate_agent(text, text, boolean),
    leadroute.register_external_agent(text, text, text[], text[], text, text, boolean, integer, real, integer, interval, integer, text)
    TO leadroute_agent;
-- They take tasks as the agents whose owners they are, keep them by their tokens, and give them back. What waits, operators and auditors see too.
GRANT EXECUTE ON FUNCTION leadroute.claim_tasks(text, text[], integer, interval, text), leadroute.extend_task(text, bigint, interval),
    leadroute.complete_task(text, bigint, jsonb, real, text, jsonb), leadroute.complete_tasks(text[], bigint[], jsonb[], real[], text[], jsonb[]),
    leadroute.fail_task(text, bigint, text, boolean), leadroute.fail_tasks(text[], bigint[], text[], boolean[])
    TO leadroute_agent;
GRANT SELECT ON leadroute.circuit_breakers, leadroute.task_queue_depths, leadroute.task_queues
    TO leadroute_author, leadroute_approver, leadroute_operator, leadroute_agent, leadroute_auditor;
GRANT SELECT ON leadroute.waiting_tasks, leadroute.review_queue TO leadroute_operator, leadroute_auditor;

-- Operators and auditors read the record and prove it. What they read holds no direct identifiers.
GRANT SELECT ON leadroute.lead_states, leadroute.decisions, leadroute.provenance, leadroute.lead_timeline, leadroute.routing_metrics,
    leadroute.unrouted_leads, leadroute.pool_revisions, leadroute.pool_states, leadroute.environments, leadroute.entries, leadroute.lead_acts, leadroute.open_leads
    TO leadroute_operator, leadroute_auditor;
GRANT SELECT ON leadroute.overflow_leads TO leadroute_operator, leadroute_auditor;
GRANT EXECUTE ON FUNCTION leadroute.draw_overflow(text, integer) TO leadroute_operator;
GRANT EXECUTE ON FUNCTION leadroute.decision_candidates(bigint), leadroute.candidate_words(text, text, text, bigint, bigint, bigint, integer, bigint),
    leadroute.why_not(bigint, text) TO leadroute_operator, leadroute_auditor;
GRANT EXECUTE ON FUNCTION leadroute.entry_evidence(bytea, integer), leadroute.entry_steps(bytea, integer), leadroute.entry_tier(bytea, integer), leadroute.explain_decision(bigint),
    leadroute.verify_decision(bigint), leadroute.differences(text, jsonb, jsonb), leadroute.reconcile(regclass, timestamptz),
    leadroute.unrouted(regclass)
    TO leadroute_operator, leadroute_auditor;
GRANT SELECT ON leadroute.policy_acts TO leadroute_auditor;

-- They see what background workers do; operators do their work where there are none, and let a copy act.
GRANT EXECUTE ON FUNCTION leadroute.worker_status() TO leadroute_operator, leadroute_auditor;
GRANT EXECUTE ON FUNCTION leadroute.run_pending(integer), leadroute.resume_after_restore() TO leadroute_operator;
GRANT EXECUTE ON FUNCTION leadroute.is_copy() TO leadroute_author, leadroute_approver, leadroute_operator, leadroute_agent, leadroute_auditor;
GRANT SELECT ON leadroute.database_identities TO leadroute_operator, leadroute_auditor;

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

-- Authors keep the accounts, which hold data of companies: nobody else reads them. Everybody may see what normal forms are.
GRANT SELECT, INSERT, UPDATE, DELETE ON leadroute.accounts, leadroute.account_domains, leadroute.account_owners TO leadroute_author;
GRANT SELECT ON leadroute.account_sources TO leadroute_author;
GRANT USAGE ON SEQUENCE leadroute.account_ids TO leadroute_author;
GRANT EXECUTE ON FUNCTION leadroute.attach_accounts(regclass, jsonb), leadroute.detach_accounts(regclass), leadroute.refresh_accounts(regclass)
    TO leadroute_author;
GRANT EXECUTE ON FUNCTION leadroute.normalise_company(text), leadroute.normalise_domain(text), leadroute.domain_root(text),
    leadroute.normalise_phone(text, text), leadroute.normalise_postcode(text), leadroute.company_similarity(text, text)
    TO leadroute_author, leadroute_approver, leadroute_operator, leadroute_agent, leadroute_auditor;

-- Operators read events, and have them raise alerts; auditors see what there is.
GRANT SELECT ON leadroute.event_kinds, leadroute.events, leadroute.event_arrivals, leadroute.event_consumers, leadroute.event_consumer_status,
    leadroute.event_subscriptions, leadroute.event_alerts
    TO leadroute_operator, leadroute_auditor;
GRANT EXECUTE ON FUNCTION leadroute.create_event_consumer(text, text[], text, boolean), leadroute.drop_event_consumer(text), leadroute.read_events(text, integer),
    leadroute.ack_events(text, bigint), leadroute.subscribe_events(text, text[], jsonb, jsonpath, integer, interval, interval, text),
    leadroute.unsubscribe_events(text), leadroute.fire_event_checks(integer)
    TO leadroute_operator;

-- They see the clocks of leads; the workers' timers they may fire, too.
GRANT SELECT ON leadroute.sla_clocks, leadroute.sla_status TO leadroute_operator, leadroute_auditor;
GRANT EXECUTE ON FUNCTION leadroute.sla_time_left(text, timestamptz, boolean) TO leadroute_operator, leadroute_auditor;
GRANT EXECUTE ON FUNCTION leadroute.fire_sla_timers(integer) TO leadroute_operator;

-- What users fill goes into dumps, but for what this script fills itself. Partitions of the record, sequences of pools and
-- leads tables are no members of the extension and go into dumps by themselves.
DO $$
DECLARE
    t record;
BEGIN
    FOR t IN SELECT * FROM (VALUES
        ('leadroute.attached_tables', ''), ('leadroute.lead_keys', ''), ('leadroute.lead_states', ''),
        ('leadroute.lead_acts', ''), ('leadroute.lead_act_ids', ''), ('leadroute.lead_batch_ids', ''),
        ('leadroute.routing_pauses', ''), ('leadroute.tasks', ''), ('leadroute.task_queues', ''), ('leadroute.task_queue_ids', ''), ('leadroute.policy_steps', ''),
        ('leadroute.database_identities', ''),
        ('leadroute.agent_states', ''), ('leadroute.agent_claims', ''), ('leadroute.agent_allowances', ''),
        ('leadroute.event_kinds', 'WHERE false'), ('leadroute.events', ''), ('leadroute.event_arrivals', ''), ('leadroute.event_ids', ''), ('leadroute.event_numbering', ''), ('leadroute.event_consumers', ''),
        ('leadroute.event_cursors', ''), ('leadroute.event_subscriptions', ''), ('leadroute.event_subscription_states', ''), ('leadroute.event_alerts', ''), ('leadroute.event_marks', ''), ('leadroute.sla_clocks', ''),
        ('leadroute.agents', 'WHERE agent_id >= 1000'), ('leadroute.documents', 'WHERE document_id >= 1000'),
        ('leadroute.policies', ''), ('leadroute.policy_versions', ''), ('leadroute.policy_rules', ''), ('leadroute.policy_acts', ''),
        ('leadroute.policy_trials', ''), ('leadroute.policy_trial_ids', ''), ('leadroute.trial_tallies', ''), ('leadroute.feature_flags', ''), ('leadroute.conversions', ''),
        ('leadroute.drafts', ''), ('leadroute.draft_rules', ''), ('leadroute.draft_tests', ''), ('leadroute.draft_positions', ''),
        ('leadroute.owners', ''), ('leadroute.owner_skills', ''), ('leadroute.pools', ''), ('leadroute.pool_members', ''), ('leadroute.caps', ''), ('leadroute.tier_loads', ''), ('leadroute.pool_revisions', ''), ('leadroute.pool_states', ''), ('leadroute.pool_state_ids', ''),
        ('leadroute.calendars', ''), ('leadroute.calendar_hours', ''), ('leadroute.holidays', ''), ('leadroute.absences', ''),
        ('leadroute.calendar_ids', ''), ('leadroute.absence_ids', ''),
        ('leadroute.accounts', ''), ('leadroute.account_domains', ''), ('leadroute.account_owners', ''), ('leadroute.account_sources', ''),
        ('leadroute.account_ids', ''), ('leadroute.account_source_ids', ''),
        ('leadroute.firmographics', ''), ('leadroute.environments', ''), ('leadroute.digest_keys', ''),
        ('leadroute.person_keys', ''), ('leadroute.person_leads', ''), ('leadroute.person_ids', ''), ('leadroute.lead_merges', ''),
        ('leadroute.lead_ids', ''), ('leadroute.source_ids', ''), ('leadroute.agent_ids', ''), ('leadroute.document_ids', ''),
        ('leadroute.policy_ids', ''), ('leadroute.policy_version_ids', ''), ('leadroute.policy_act_ids', ''), ('leadroute.owner_ids', ''),
        ('leadroute.pool_ids', ''), ('leadroute.owner_turns', ''), ('leadroute.pool_revision_ids', ''), ('leadroute.environment_ids', ''), ('leadroute.run_ids', '')
    ) AS v (name, filter) LOOP
        PERFORM pg_extension_config_dump(t.name, t.filter);
    END LOOP;
END $$;
