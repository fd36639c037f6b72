# Background workers climb ladders, give events their positions and raise alerts, though nobody calls anything; in a copy of the database they do not.
use strict;
use warnings FATAL => 'all';

use LeadrouteTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', "shared_preload_libraries = 'leadroute'\nmax_worker_processes = 16\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION leadroute');
$node->safe_psql(
	'postgres', q{
SELECT leadroute.setup(owners => '{anna,bo}');
SELECT leadroute.publish_policy('default', '{"leadroute": 1, "steps": [{"capability": "assignOwner"}], "rules": [
	{"name": "quick", "when": "country = ''FR''", "pool": "inbound", "sla": {"within": "2 seconds", "ladder": [{"at": "50%", "do": "remind"}, {"at": "0", "do": "reassign"}]}},
	{"name": "slow", "when": "true", "pool": "inbound", "sla": {"within": "1 day", "ladder": [{"at": "50%", "do": "remind"}]}}]}', 'test');
SELECT leadroute.activate_policy('default');
SELECT leadroute.subscribe_events('breaches', '{sla.breached}');
INSERT INTO leads (email, country, consent) SELECT 'l' || n || '@x.example', 'DE', true FROM generate_series(1, 5000) n;
INSERT INTO leads (email, country, consent) VALUES ('quick@x.example', 'FR', true);
});
wait_until(sub { $node->safe_psql('postgres', q{SELECT count(*) FROM leadroute.event_alerts}) ne '0' }, 'a ladder is climbed and an alert raised');
is($node->safe_psql('postgres', q{SELECT kind FROM leadroute.event_alerts}), 'sla.breached', 'a ladder is climbed among thousands that wait, and an alert is raised');
wait_until(sub { $node->safe_psql('postgres', q{SELECT count(*) FROM leadroute.lead_acts}) eq '3' }, 'the ladder is at its end');
is( $node->safe_psql('postgres', q{SELECT string_agg(act || coalesce(' ' || reason, ''), ', ' ORDER BY act_id) FROM leadroute.lead_acts}),
	'remind rung 1, breach, sla_reassign rung 2',
	'each rung once, in order');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leadroute.sla_status WHERE rung = 0}), '5000', 'those whose time has not come wait');
# how late: for people, nothing is asserted of it
note('milliseconds late: '
	  . $node->safe_psql('postgres',
		q{SELECT round(extract(epoch FROM a.at - e.as_of - interval '1 second') * 1000) FROM leadroute.lead_acts a JOIN leadroute.entries e USING (run_id) WHERE act = 'remind'}));

# A copy leaves the ladders to the original.
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE postgres');
is($node->safe_psql('copy', 'SELECT leadroute.is_copy()'), 't', 'a copy');
is( $node->safe_psql('copy', q{UPDATE leadroute.sla_clocks SET next_at = now(); SELECT leadroute.fire_sla_timers(); SELECT count(*) FROM leadroute.lead_acts}),
	"0\n3", 'climbs no ladder');
$node->stop;
done_testing();
