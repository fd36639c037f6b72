# A standby answers every question about the record as the primary does, refuses to route, and routes once it is promoted.
use strict;
use warnings FATAL => 'all';

use LeadrouteTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = new_server('primary', "shared_buffers = 32MB\nmax_connections = 30\n", allows_streaming => 1);
$primary->start;
$primary->safe_psql('postgres', 'CREATE DATABASE leads');
rich_routing($primary, 'leads');
# A role for each kind of reader, to read with on the standby.
$primary->safe_psql('leads', 'CREATE ROLE auditor LOGIN; GRANT leadroute_auditor TO auditor; CREATE ROLE author LOGIN; GRANT leadroute_author TO author');

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
load_leads($primary, 'leads', 'leads', 50, 21);
$primary->wait_for_catchup($standby);

# What can be asked, and what is asked as whom.
my %questions = (
	explained => q{SELECT d.decision_id, e FROM leadroute.decisions d, LATERAL leadroute.explain_decision(d.decision_id) e},
	mistakes => q{SELECT * FROM leadroute.policy_mistakes('{"leadroute": 1, "steps": [{"capability": "validateContact"}, {"capability": "telepathy"}],
		"rules": [{"name": "a", "when": "company_size >", "pool": "nowhere"}]}')},
	'no mistakes' => q{SELECT count(*) FROM leadroute.policy_versions, LATERAL leadroute.policy_mistakes(frame)},
	metrics => q{SELECT policy, policy_version, sum(decisions) FROM leadroute.routing_metrics GROUP BY 1, 2 ORDER BY 1, 2},
	evidence => q{SELECT run_id, leadroute.entry_evidence(evidence, policy_version_id) FROM leadroute.entries ORDER BY 1},
	key => q{SELECT leadroute.lead_of('team.visitors', key) FROM leadroute.lead_keys ORDER BY 1},
	version => q{SELECT leadroute.library_version()});

is(views_of($standby, 'leads'), views_of($primary, 'leads'), 'the views show the same');
my $verdicts = verdicts_of($standby, 'leads');
is($verdicts, verdicts_of($primary, 'leads'), 'every decision verifies as on the primary');
like($verdicts, qr/^identical\|/m, 'that is to say, identical');
foreach my $question (sort keys %questions)
{
	my $answer = $standby->safe_psql('leads', $questions{$question});
	is($answer, $primary->safe_psql('leads', $questions{$question}), "the same answer: $question");
	isnt($answer, '', "there is one: $question");
}
is( $standby->safe_psql('leads', q{SELECT count(*) > 0, min(verdict) FROM leadroute.decisions d, LATERAL leadroute.verify_decision(d.decision_id)},
		extra_params => [ '-U', 'auditor' ]),
	't|identical', 'an auditor can verify there');
like($standby->safe_psql('leads', q{SELECT place FROM leadroute.policy_mistakes('{"leadroute": 1, "steps": []}')}, extra_params => [ '-U', 'author' ]),
	qr/^steps$/m, 'an author can check a document there');

my $moves = q{SELECT sum(leads), sum(leads) - (SELECT count(*) FROM leadroute.decisions WHERE current AND policy = 'default' AND cause NOT IN ('reassigned', 'overridden', 'undone')) FROM leadroute.backtest_policy('default', NULL, '-infinity')};
is($standby->safe_psql('leads', $moves, extra_params => [ '-U', 'auditor' ]), $primary->safe_psql('leads', $moves), 'an auditor can decide history again there');
like($standby->safe_psql('leads', $moves), qr/^[1-9]\d*\|0$/, 'all of it');
is( $standby->safe_psql('leads', q{SELECT count(*) FROM (SELECT x.* FROM leadroute.decisions d, LATERAL leadroute.explain_rule(d.decision_id, d.rule) x WHERE d.rule IS NOT NULL AND x.note = 'it decided' AND x.truth = 'true') AS x
		HAVING count(*) = (SELECT count(*) FROM leadroute.decisions WHERE rule IS NOT NULL)}, extra_params => [ '-U', 'auditor' ]) > 0 ? 1 : 0,
	1, 'and have the rules that decided explained');
is( $standby->safe_psql('leads', q{SELECT outcome, pool FROM leadroute.evaluate_policy('default', '{"email": "x@acme.example", "country": "DE", "consent": true, "company_size": 900}')},
		extra_params => [ '-U', 'author' ]),
	'assigned|enterprise', 'an author can try a lead there');
is($standby->safe_psql('leads', q{SELECT count(*) FROM leadroute.rule_coverage('default') WHERE decisions > 0}, extra_params => [ '-U', 'author' ]) > 0 ? 1 : 0, 1,
	'and see what rules are good for');

# What writes is refused, as read-only, whatever it is.
my %refused = (
	'an insert' => q{INSERT INTO leads (email, country, consent) VALUES ('x@acme.example', 'DE', true)},
	'submit_lead' => q{SELECT leadroute.submit_lead('{"email": "x@acme.example"}')},
	'route_lead' => q{SELECT leadroute.route_lead(min(lead_id)) FROM leads},
	'route_leads' => q{SELECT leadroute.route_leads(ARRAY(SELECT lead_id FROM leads))},
	'route_pending' => q{SELECT leadroute.route_pending()},
	'publish_policy' => q{SELECT leadroute.publish_policy(p.name, v.frame, 'x') FROM leadroute.policy_versions v JOIN leadroute.policies p USING (policy_id) LIMIT 1},
	'publish_policy of a new one' => q{SELECT leadroute.publish_policy('new', frame, 'x') FROM leadroute.policy_versions LIMIT 1},
	'publish_scorecard' => q{SELECT leadroute.publish_scorecard('new', document, 'x') FROM leadroute.documents WHERE kind = 'scorecard'},
	'activate_policy' => q{SELECT leadroute.activate_policy('default', 1)},
	'rollback_policy' => q{SELECT leadroute.rollback_policy('default')},
	'register_agent' => q{SELECT leadroute.register_agent('new', '1', '{newWork}', 'team.weigh(jsonb)')},
	'deprecate_agent' => q{SELECT leadroute.deprecate_agent('weigh', '1')},
	'attach_table' => q{SELECT leadroute.attach_table('before_promotion')},
	'detach_table' => q{SELECT leadroute.detach_table('leads')},
	'make_partitions_ahead' => q{SELECT leadroute.make_partitions_ahead()});
$primary->safe_psql('leads', 'CREATE TABLE before_promotion (lead_id bigint PRIMARY KEY)');
$primary->wait_for_catchup($standby);
foreach my $act (sort keys %refused)
{
	my ($status, undef, $error) = in_psql($standby, $refused{$act}, 'leads', extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	isnt($status, 0, "$act is refused");
	like($error, qr/ERROR:  25006: (cannot execute .* in a read-only transaction|cannot .* during recovery)/, "$act: because it is read-only");
}

my $turns = $standby->safe_psql('leads', q{SELECT pool_id, max(turn) FROM leadroute.entries WHERE turn IS NOT NULL GROUP BY 1 ORDER BY 1});
my ($run) = $standby->safe_psql('leads', 'SELECT max(run_id) FROM leadroute.entries');
my ($lead) = $standby->safe_psql('leads', 'SELECT max(lead_id) FROM leadroute.lead_states');

$primary->stop('immediate');
$standby->promote;
my $next = $standby->safe_psql(
	'leads', qq{INSERT INTO leads (email, country, consent, company_size) VALUES ('x\@acme.example', 'DE', true, 900);
	SELECT lead_id > $lead, decision_id > $run, outcome, pool FROM leadroute.decisions ORDER BY as_of DESC LIMIT 1});
is($next, 't|t|assigned|enterprise', 'once promoted it routes, with ids of its own');
is($standby->safe_psql('leads', 'SELECT pool_id, turn FROM leadroute.entries WHERE turn IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1'),
	'', 'and with turns that nobody drew before');
is($standby->safe_psql('leads', q{SELECT leadroute.route_pending('leads')}), '1', 'what waited is routed there');
is($standby->safe_psql('leads', q{SELECT problem, count(*) FROM leadroute.reconcile() GROUP BY 1}), 'row without a state|1', 'all is accounted for, but for the row nobody saw');
$standby->stop;
done_testing();
