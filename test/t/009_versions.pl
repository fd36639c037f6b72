# Library and extension have to be of one version: every entry point says so, with the way out, and does nothing.
use strict;
use warnings FATAL => 'all';

use LeadrouteTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main');
$node->start;
$node->safe_psql('postgres', q{
CREATE EXTENSION leadroute;
SELECT leadroute.setup(owners => '{anna,bo}');
CREATE TABLE visits (id text PRIMARY KEY, email text, day date) ;
CREATE TABLE parted (id text, email text, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE loose (LIKE parted INCLUDING ALL);
CREATE TABLE other (lead_id bigint PRIMARY KEY);
SELECT leadroute.attach_table('visits', reroute_on => '{email}');
SELECT leadroute.attach_table('parted');
INSERT INTO leads (email, country, consent) VALUES ('x@acme.example', 'DE', true);
INSERT INTO visits VALUES ('a', 'x@acme.example'), ('b', 'y@acme.example');
CREATE FUNCTION agent(lead jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE RETURN '{}'::jsonb;
SELECT leadroute.register_agent('old', '1', '{work}', 'agent(jsonb)');
SELECT leadroute.create_draft('default', 'draft');
});

# How to reach each C function; a new one has to be added here. Not asked are functions that answer in any case, or only
# note something for the end of the transaction, and the trigger that tells sessions of changed configuration: scripts that bring the
# extension from one version to another call them.
my %calls = (
	attach_table => [ q{SELECT leadroute.attach_table('other')} ],
	detach_table => [ q{SELECT leadroute.detach_table('visits')} ],
	route_inserted => [
		q{INSERT INTO leads (email) VALUES ('y@acme.example')}, q{COPY leads (email) FROM STDIN;
y@acme.example
\.
}, q{INSERT INTO parted_1 VALUES ('c', 'y@acme.example', '2024-05-05')}, q{SELECT leadroute.submit_lead('{"email": "y@acme.example"}')}
	],
	route_updated => [ q{UPDATE visits SET email = 'z@acme.example'} ],
	close_deleted => [ q{DELETE FROM visits}, q{TRUNCATE visits} ],
	follow_key => [ q{UPDATE visits SET id = 'c' WHERE id = 'a'} ],
	partitions_changed => [
		q{CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')},
		q{ALTER TABLE parted ATTACH PARTITION loose FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')},
		q{ALTER TABLE parted DETACH PARTITION parted_1}
	],
	set_table_mode => [ q{SELECT leadroute.set_table_mode('visits', 'observe')} ],
	route_lead => [ q{SELECT leadroute.route_lead(1)} ],
	route_leads => [ q{SELECT leadroute.route_leads('{1}')} ],
	merge_leads => [ q{SELECT leadroute.merge_leads(1, '{}')} ],
	route_pending => [ q{SELECT leadroute.route_pending()} ],
	draw_overflow => [ q{SELECT leadroute.draw_overflow()} ],
	decision_candidates => [ q{SELECT * FROM leadroute.decision_candidates(1)} ],
	take_place => [ q{SELECT leadroute.take_place(1, 1, 1::smallint, 1, now())} ],
	accept_lead => [ q{SELECT leadroute.accept_lead(1)} ],
	decline_lead => [ q{SELECT leadroute.decline_lead(1, 'no_capacity')} ],
	log_first_response => [ q{SELECT leadroute.log_first_response(1)} ],
	close_lead => [ q{SELECT leadroute.close_lead(1, 'won')} ],
	reopen_lead => [ q{SELECT leadroute.reopen_lead(1)} ],
	reassign_lead => [ q{SELECT leadroute.reassign_lead(1, 'anna', 'x')} ],
	override_decision => [ q{SELECT leadroute.override_decision(1, 'rejected', NULL, 'x')} ],
	offboard_owner => [ q{SELECT leadroute.offboard_owner('anna', 'x')} ],
	reroute_leads => [ q{SELECT leadroute.reroute_leads('true')}, q{SELECT leadroute.reroute_leads('true', reason => 'x', dry_run => false)} ],
	undo_reroute => [ q{SELECT leadroute.undo_reroute(1, 'x')} ],
	event_wanted => [ q{SELECT leadroute.event_wanted('lead.assigned')}, q{SELECT leadroute.fire_event_checks()} ],
	fire_sla_clocks => [ q{SELECT leadroute.fire_sla_clocks('{1}')} ],
	attached_rows => [ q{SELECT * FROM leadroute.attached_rows('leads')}, q{SELECT * FROM leadroute.unrouted_leads}, q{SELECT * FROM leadroute.reconcile()} ],
	key_of => [ q{SELECT leadroute.key_of('leads', l.lead_id) FROM leads l} ],
	owner_working => [ q{SELECT leadroute.owner_working('anna')} ],
	next_working_time => [ q{SELECT leadroute.next_working_time('anna')} ],
	working_time => [ q{SELECT leadroute.working_time('anna', now(), now())} ],
	working_time_end => [ q{SELECT leadroute.working_time_end('anna', now(), '1 hour')} ],
	cap_window => [ q{SELECT leadroute.cap_window('day', 'UTC', now())} ],
	timezone_mistake => [ q{UPDATE leadroute.owners SET timezone = 'Europe/Berlin'} ],
	policy_mistakes => [ q{SELECT leadroute.policy_mistakes('{}')} ],
	publish_policy => [ q{SELECT leadroute.publish_policy('x', frame, '') FROM leadroute.policy_versions}, q{SELECT leadroute.setup('more_leads')} ],
	analyse_document => [ q{SELECT leadroute.analyse_document('{}')} ],
	check_version => [ q{SELECT leadroute.check_policy('default')} ],
	match_version_rules => [ q{SELECT leadroute.match_rules('default', 1, '{}')} ],
	measure_version_rules => [ q{SELECT leadroute.measure_version_rules(1, '{}', 1, true)} ],
	version_rule_index => [ q{SELECT leadroute.rule_index('default')} ],
	rebuild_version_rule_index => [ q{SELECT leadroute.rebuild_rule_index('default')} ],
	activate_policy => [ q{SELECT leadroute.activate_policy('default', 1)} ],
	rollback_policy => [ q{SELECT leadroute.rollback_policy('default')} ],
	cancel_activation => [ q{SELECT leadroute.cancel_activation('default')} ],
	approve_policy => [ q{SELECT leadroute.approve_policy('default', 1)} ],
	require_approval => [ q{SELECT leadroute.require_approval('default', true, 'x')} ],
	publish_draft => [ q{SELECT leadroute.publish_draft('draft', 'x')} ],
	discard_draft => [ q{SELECT leadroute.discard_draft('draft')} ],
	moved => [ q{SELECT * FROM leadroute.document_differences('{"rules": [{"name": "a"}]}', '{"rules": [{"name": "a"}]}')} ],
	publish_scorecard => [ q{SELECT leadroute.publish_scorecard('x', document, '') FROM leadroute.documents WHERE kind = 'scorecard'} ],
	publish_jurisdictions => [ q{SELECT leadroute.publish_jurisdictions('x', document, '') FROM leadroute.documents WHERE kind = 'jurisdictions'} ],
	register_agent => [ q{SELECT leadroute.register_agent('new', '1', '{work}', 'agent(jsonb)')} ],
	deprecate_agent => [ q{SELECT leadroute.deprecate_agent('old', '1')} ],
	start_canary => [ q{SELECT leadroute.start_canary('default', 2, 0.5)} ],
	start_shadow => [ q{SELECT leadroute.start_shadow('default', 2)} ],
	change_share => [ q{SELECT leadroute.change_share('default', 0.5)} ],
	promote_candidate => [ q{SELECT leadroute.promote_candidate('default')} ],
	abort_trial => [ q{SELECT leadroute.abort_trial('default')} ],
	enter_activations => [ q{SELECT leadroute.enter_activations()} ],
	run_pending => [ q{SELECT leadroute.run_pending()} ],
	worker_status => [ q{SELECT * FROM leadroute.worker_status()} ],
	is_copy => [ q{SELECT leadroute.is_copy()}, q{SELECT leadroute.resume_after_restore()} ],
	check_trials => [ q{SELECT leadroute.check_trials()} ],
	cap_counters => [ q{SELECT * FROM leadroute.cap_usage()} ],
	recount_caps => [ q{SELECT leadroute.recount_caps()} ],
	give_back => [ q{UPDATE leadroute.lead_states SET tier = 'x'} ],
	lead_share => [ q{SELECT leadroute.lead_share('a', 'b')} ],
	set_flag => [ q{SELECT leadroute.set_flag('flag')} ],
	drop_flag => [ q{SELECT leadroute.drop_flag('flag')} ],
	attach_accounts => [ q{SELECT leadroute.attach_accounts('visits', '{"external_id": "id"}')} ],
	detach_accounts => [ q{SELECT leadroute.detach_accounts('visits')} ],
	refresh_accounts => [ q{SELECT leadroute.refresh_accounts('visits')} ],
	normalise_company => [ q{SELECT leadroute.normalise_company('Acme')}, q{INSERT INTO leadroute.accounts (name) VALUES ('Acme')} ],
	normalise_domain => [ q{SELECT leadroute.normalise_domain('acme.example')} ],
	domain_root => [ q{SELECT leadroute.domain_root('acme.example')} ],
	normalise_phone => [ q{SELECT leadroute.normalise_phone('+49 30 1234567', NULL)} ],
	normalise_postcode => [ q{SELECT leadroute.normalise_postcode('10115')} ],
	company_similarity => [ q{SELECT leadroute.company_similarity('a', 'b')} ],
	entry_tier => [ q{SELECT leadroute.entry_tier(evidence, policy_version_id) FROM leadroute.entries} ],
	entry_evidence => [ q{SELECT leadroute.entry_evidence(evidence, policy_version_id) FROM leadroute.entries} ],
	entry_steps => [ q{SELECT * FROM leadroute.provenance}, q{SELECT leadroute.explain_decision(min(decision_id)) FROM leadroute.decisions} ],
	recompute_decision => [ q{SELECT leadroute.verify_decision(min(decision_id)) FROM leadroute.decisions} ],
	generate_leads => [ q{SELECT * FROM leadroute.generate_leads(1)} ],
	match_version_rules => [ q{SELECT * FROM leadroute.match_rules('default', 1, '{}')} ],
	measure_version_rules => [ q{SELECT * FROM leadroute.measure_version_rules(1, '{}', 1, true)} ],
	version_rule_index => [ q{SELECT * FROM leadroute.rule_index('default')} ],
	rebuild_version_rule_index => [ q{SELECT leadroute.rebuild_rule_index('default')} ],
	evaluate_version => [
		q{SELECT * FROM leadroute.evaluate_policy('default', '{}')}, q{SELECT * FROM leadroute.evaluate_document('{}', '{}')}
	],
	run_tests => [ q{SELECT * FROM leadroute.run_document_tests('{"tests": [{}]}')}, q{SELECT * FROM leadroute.run_tests(1, NULL, '[]')} ],
	backtest_decisions => [ q{SELECT * FROM leadroute.backtest_policy('default', 1, '-infinity')}, q{SELECT * FROM leadroute.backtest_document('default', '{}', '-infinity')} ],
	explain_rule => [ q{SELECT leadroute.explain_rule(min(decision_id), 'x') FROM leadroute.decisions} ],
	claim_tasks => [ q{SELECT * FROM leadroute.claim_tasks('a@1')} ],
	complete_tasks => [ q{SELECT * FROM leadroute.complete_tasks('{1/1}', '{1}', ARRAY['{}'::jsonb])} ],
	continue_runs => [ q{SELECT leadroute.continue_runs('{1}', '{1}', '{0}', '{NULL}', '{NULL}', '{NULL}')} ],
	do_work => [ q{SELECT leadroute.do_work(1)} ],
	read_task_inputs => [ q{SELECT leadroute.read_task_inputs('{1}', '{1}', '{1}', 0)} ],
	register_external_agent => [ q{SELECT leadroute.register_external_agent('outside', '1', '{look}', '{}')} ],
	pause_routing => [ q{SELECT leadroute.pause_routing('region:x', 'a reason')} ],
	resume_routing => [ q{SELECT leadroute.resume_routing('region:x')} ],
	explain_version_rule => [ q{SELECT * FROM leadroute.explain_rule('default', 1, 'x', '{}')} ]);

my @functions = split /\n/, $node->safe_psql(
	'postgres', q{
SELECT DISTINCT proname FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE pronamespace = 'leadroute'::regnamespace AND lanname = 'c' AND proname <> ALL ('{library_version,configuration_changed,notice_workers,system_identifier}') ORDER BY 1});
is(join(' ', sort keys %calls), join(' ', @functions), 'the test reaches every function of the library');

my $before = everything();
my $version = $node->safe_psql('postgres', q{SELECT extversion FROM pg_extension WHERE extname = 'leadroute'});
is($node->safe_psql('postgres', 'SELECT leadroute.library_version()'), $version, 'library and extension are of one version');

$node->safe_psql('postgres', q{UPDATE pg_extension SET extversion = '0.0.9' WHERE extname = 'leadroute'});
foreach my $function (@functions)
{
	foreach my $call (@{ $calls{$function} // [] })
	{
		my (undef, undef, $error) = in_psql($node, $call, undef, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
		like($error, qr/ERROR:  55000: leadroute's library is version \Q$version\E, but the installed extension is version 0\.0\.9\n(CONTEXT.*\n)*HINT:  Run ALTER EXTENSION leadroute UPDATE, then connect again\./,
			"$function: $call");
	}
}
is($node->safe_psql('postgres', 'SELECT leadroute.library_version()'), $version, 'library_version() answers even then');
is($node->safe_psql('postgres', 'CREATE TABLE unrelated (n int); ALTER TABLE unrelated ADD m int; DROP TABLE unrelated; SELECT 1'), '1', 'what is none of our business goes on');
is($node->safe_psql('postgres', q{UPDATE leadroute.owners SET available = available RETURNING 1}), "1\n1", 'as an upgrade script has to, one can write configuration');

$node->safe_psql('postgres', qq{UPDATE pg_extension SET extversion = '$version' WHERE extname = 'leadroute'});
is(everything(), $before, 'nothing was done');
is( $node->safe_psql('postgres', q{INSERT INTO leads (email, country, consent) VALUES ('next@acme.example', 'DE', true);
		SELECT outcome FROM leadroute.decisions ORDER BY as_of DESC LIMIT 1}),
	'assigned', 'with the right version it goes on');
$node->stop;
done_testing();

sub everything
{
	return views_of($node, 'postgres') . triggers_of($node, 'postgres') . $node->safe_psql('postgres', q{
SELECT * FROM leads; SELECT * FROM visits; SELECT * FROM parted; SELECT * FROM leadroute.attached_tables; SELECT * FROM leadroute.owners;
SELECT * FROM leadroute.agents; SELECT * FROM leadroute.policies; SELECT count(*) FROM leadroute.policy_versions; SELECT count(*) FROM leadroute.documents;
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1});
}
