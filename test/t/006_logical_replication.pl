# Rows that a subscription brings fire no statement trigger: they are listed as not seen, and route_pending() routes them.
use strict;
use warnings FATAL => 'all';

use LeadrouteTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $publisher = new_server('publisher', "shared_buffers = 32MB\n", allows_streaming => 'logical');
$publisher->start;
my $subscriber = new_server('subscriber', "shared_buffers = 32MB\n", allows_streaming => 'logical');
$subscriber->start;

my $table = 'CREATE TABLE visits (id uuid PRIMARY KEY, email text, country text, consent boolean, company_size int)';
$publisher->safe_psql('postgres', $table);
$publisher->safe_psql('postgres', q{INSERT INTO visits SELECT md5(n::text)::uuid, n || '@acme.example', 'DE', true, n FROM generate_series(1, 30) n;
	CREATE PUBLICATION leads FOR TABLE visits});
$subscriber->safe_psql('postgres', $table);
$subscriber->safe_psql('postgres', q{
CREATE EXTENSION leadroute;
SELECT leadroute.setup(owners => '{anna,bo}');
SELECT leadroute.attach_table('visits', classes => leadroute.standard_classes(), reroute_on => '{company_size}');
INSERT INTO visits VALUES (md5('own')::uuid, 'own@acme.example', 'DE', true, 5);
});
my $connection = $publisher->connstr . ' dbname=postgres';
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION leads CONNECTION '$connection' PUBLICATION leads");
$subscriber->wait_for_subscription_sync($publisher, 'leads');

# The rows that were there come by COPY, in a session of the subscription; those that follow, one by one.
$publisher->safe_psql('postgres', q{INSERT INTO visits SELECT md5(n::text)::uuid, n || '@acme.example', 'DE', true, n FROM generate_series(31, 50) n});
$publisher->wait_for_catchup('leads');
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM visits'), '51', 'the rows are there');
is($subscriber->safe_psql('postgres', q{SELECT cause, outcome, count(*) FROM leadroute.decisions GROUP BY 1, 2}), 'insert|assigned|1', 'routed is what was inserted here');
is( $subscriber->safe_psql('postgres', 'SELECT leads_table, reason, by_user, count(*) FROM leadroute.unrouted_leads GROUP BY 1, 2, 3'),
	'public.visits|not_seen||50', 'the others are listed: nobody saw them');
is($subscriber->safe_psql('postgres', q{SELECT problem, count(*) FROM leadroute.reconcile('visits') GROUP BY 1}), 'row without a state|50', 'reconcile() says so as well');

# By portions, then the rest.
is($subscriber->safe_psql('postgres', q{SELECT leadroute.route_pending('visits', 20)}), '20', 'route_pending() routes as many as it is asked to');
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM leadroute.unrouted_leads'), '30', 'the rest stays listed');
is($subscriber->safe_psql('postgres', q{SELECT leadroute.route_pending('visits')}), '30', 'and is routed next');
is($subscriber->safe_psql('postgres', q{SELECT leadroute.route_pending('visits')}), '0', 'then there is nothing left to do');
is( $subscriber->safe_psql('postgres', q{SELECT cause, outcome, count(*) FROM leadroute.decisions GROUP BY 1, 2 ORDER BY 1}),
	"insert|assigned|1\npending|assigned|50", 'each lead has one decision, which says how it came about');
is($subscriber->safe_psql('postgres', 'SELECT * FROM leadroute.reconcile()'), '', 'rows, states and decisions agree');
is( $subscriber->safe_psql('postgres', 'SELECT DISTINCT v.verdict FROM leadroute.decisions d, LATERAL leadroute.verify_decision(d.decision_id) v'),
	'identical', 'the decisions verify');

# Changes and deletions that come this way are not seen either: routing by hand takes the change in, reconcile() names the gone.
$publisher->safe_psql('postgres', q{UPDATE visits SET company_size = 3000 WHERE id = md5('7')::uuid; DELETE FROM visits WHERE id = md5('8')::uuid});
$publisher->wait_for_catchup('leads');
is($subscriber->safe_psql('postgres', q{SELECT * FROM leadroute.unrouted_leads}), '', 'a changed row is no unrouted one');
my $again = $subscriber->safe_psql('postgres', q{
SELECT r.changed FROM leadroute.route_leads(ARRAY[leadroute.lead_of('visits', md5('7')::uuid::text), leadroute.lead_of('visits', md5('9')::uuid::text)], 'changed') r ORDER BY 1});
is($again, "f\nt", 'route_leads() decides anew what changed, and only that');
is($subscriber->safe_psql('postgres', q{SELECT problem, count(*) FROM leadroute.reconcile() GROUP BY 1}), 'open state without a row|1', 'reconcile() names what was deleted unseen');

$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION leads');
$subscriber->stop;
$publisher->stop;
done_testing();
