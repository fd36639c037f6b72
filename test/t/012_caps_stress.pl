# Caps hold whatever happens: many sessions insert at once, roll back, roll back to savepoints, prepare, commit or roll back what
# was prepared, change what was assigned, and the server is killed at random moments.
#
# After each kill, what is counted live equals what is recounted from lead_states, no cap was exceeded, each assigned lead has
# one owner, and leads that found no place wait in the overflow.
use strict;
use warnings FATAL => 'all';

use LeadrouteTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $seed = seed_of();
my $rounds = $ENV{LEADROUTE_STRESS_ROUNDS} // 3;
my $sessions = $ENV{LEADROUTE_STRESS_SESSIONS} // 16;

my $setup = q{
CREATE EXTENSION leadroute;
INSERT INTO leadroute.owners (reference, timezone) SELECT 'owner ' || n, (ARRAY['UTC', 'Europe/Berlin', 'America/New_York', 'Asia/Kolkata'])[1 + n % 4] FROM generate_series(1, 12) n;
INSERT INTO leadroute.pools (name, strategy) VALUES ('turns', 'rotation'), ('even', 'balance'), ('room', 'least_loaded'), ('order', 'fixed');
INSERT INTO leadroute.pool_members (pool_id, owner_id, weight) SELECT p.pool_id, o.owner_id, 1 + o.owner_id % 3 FROM leadroute.pools p, leadroute.owners o;
-- caps that are reached soon, and some that are not
INSERT INTO leadroute.caps (owner_id, pool_id, per, maximum)
    SELECT owner_id, NULL::integer, 'day', 60 + owner_id FROM leadroute.owners
    UNION ALL SELECT owner_id, NULL, 'open', 40 + 2 * owner_id FROM leadroute.owners
    UNION ALL SELECT owner_id, (SELECT pool_id FROM leadroute.pools WHERE name = 'turns'), 'week', 20 + owner_id FROM leadroute.owners
    UNION ALL SELECT NULL::integer, (SELECT pool_id FROM leadroute.pools WHERE name = 'order'), 'month', 150;
SELECT leadroute.publish_policy('default', '{"leadroute": 1, "steps": [{"capability": "assignOwner"}],
    "rules": [{"name": "turns", "when": "source = ''turns''", "pool": "turns"}, {"name": "even", "when": "source = ''even''", "pool": "even"},
              {"name": "room", "when": "source = ''room''", "pool": "room"}, {"name": "order", "when": "true", "pool": "order"}]}', 'test');
SELECT leadroute.activate_policy('default');
CREATE TABLE leads (id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'), source text, session int);
SELECT leadroute.attach_table('leads', classes => '{"source": "plain"}');
};

# Every cap against the counts that lead_states gives, without any of our counters.
my $exceeded = q{
WITH windows AS (
    SELECT c.*, CASE WHEN c.per = 'open' THEN NULL ELSE date_trunc(c.per, now() AT TIME ZONE z.zone) AT TIME ZONE z.zone END AS start
    FROM leadroute.caps c, LATERAL (SELECT coalesce((SELECT timezone FROM leadroute.owners o WHERE o.owner_id = c.owner_id), (SELECT timezone FROM leadroute.pools p WHERE p.pool_id = c.pool_id))) z (zone))
SELECT w.owner_id, w.pool_id, w.per, w.maximum, count(s.lead_id)
FROM windows w JOIN leadroute.lead_states s ON (w.owner_id IS NULL OR s.owner_id = w.owner_id) AND (w.pool_id IS NULL OR s.pool_id = w.pool_id)
     AND s.outcome = 'assigned' AND CASE WHEN w.per = 'open' THEN s.closed_at IS NULL AND s.finished_at IS NULL ELSE s.since >= w.start END
GROUP BY 1, 2, 3, 4 HAVING count(s.lead_id) > w.maximum LIMIT 10};

foreach my $preload ('leadroute', '')
{
	my $what = $preload ? 'preloaded' : 'plain';
	my $node = new_server($what, "shared_preload_libraries = '$preload'\nmax_prepared_transactions = 1000\nmax_wal_size = 2GB\nmax_connections = 60\ndeadlock_timeout = 200ms\n");
	$node->start;
	$node->safe_psql('postgres', $setup);
	foreach my $round (1 .. ($preload ? $rounds : 1))
	{
		my $name = "$what, round $round";
		insert_and_kill($node, $round, $preload);
		$node->start;
		note("$name: " . $node->safe_psql('postgres', q{SELECT count(*) || ' leads, ' || count(*) FILTER (WHERE s.outcome = 'assigned') || ' assigned' FROM leadroute.lead_states s}));
		is($node->safe_psql('postgres', $exceeded), '', "$name: no cap was exceeded");
		# what is prepared is neither here nor there; it counts all the same
		my @prepared = split /\n/, $node->safe_psql('postgres', 'SELECT gid FROM pg_prepared_xacts ORDER BY gid');
		note("$name: " . scalar(@prepared) . ' prepared transactions were left');
		$node->safe_psql('postgres', q{INSERT INTO leads (source, session) SELECT (ARRAY['turns', 'even', 'room', 'order'])[1 + n % 4], 0 FROM generate_series(1, 200) n}) if $preload;
		$node->safe_psql('postgres', (rand() < 0.7 ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$_'") foreach @prepared;
		is($node->safe_psql('postgres', $exceeded), '', "$name: nor with what was prepared");
		is($node->safe_psql('postgres', 'SELECT * FROM leadroute.cap_usage() WHERE taken IS DISTINCT FROM recounted'), '', "$name: counted live as recounted");
		is( $node->safe_psql('postgres', q{SELECT count(*) FROM leads l LEFT JOIN leadroute.lead_states s ON s.lead_id = l.id
				WHERE s.lead_id IS NULL OR (s.outcome = 'assigned') <> (s.owner_id IS NOT NULL) OR s.outcome NOT IN ('assigned', 'pending') OR (s.outcome = 'pending' AND s.reason_code <> 'overflow')}),
			'0', "$name: each lead has one owner, or waits in an overflow");
		is($node->safe_psql('postgres', q{SELECT count(*) > 0 FROM leadroute.lead_states WHERE outcome = 'assigned'}), 't', "$name: leads were assigned");
		is( $node->safe_psql('postgres', q{SELECT DISTINCT v.verdict, v.place FROM (SELECT run_id FROM leadroute.entries ORDER BY run_id DESC LIMIT 300) d, LATERAL leadroute.verify_decision(d.run_id) v WHERE v.verdict <> 'unavailable'}),
			'identical|', "$name: decisions verify");
		# make room for the next round
		$node->safe_psql('postgres', q{UPDATE leadroute.caps SET maximum = maximum + 60 WHERE per <> 'open'; DELETE FROM leads WHERE id % 3 = 0;}) if $round < $rounds;
	}
	# on a plain server those wait for their turn at the lock, and few leads come in
	is($node->safe_psql('postgres', q{SELECT count(*) > 0 FROM leadroute.overflow_leads}), 't', "$what: some leads found no place") if $preload;
	$node->stop;
}
done_testing();

sub insert_and_kill
{
	my ($node, $round, $preload) = @_;
	my @running;
	foreach my $session (1 .. $sessions)
	{
		my $base = $node->basedir . "/round$round-$session";
		append_to_file("$base.sql", script($round, $session, $preload));
		push @running, { base => $base, process => IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-f', "$base.sql" ], '>', "$base.out", '2>', "$base.err") };
	}
	usleep(1_500_000 + int(rand(1_500_000)));
	kill_server($node);
	eval { $_->{process}->finish } foreach @running;
	foreach my $run (@running)
	{
		unlike(slurp_file("$run->{base}.err") =~ s/.*(server closed the connection|connection to server|deadlock detected|could not serialize).*//gr,
			qr/ERROR|PANIC|TRAP/, "round $round: no error but the loss of the server") or diag(slurp_file("$run->{base}.err"));
	}
	return;
}

# What one session does: some statements in transactions that end in all ways there are.
sub script
{
	my ($round, $session, $preload) = @_;
	my $n = 0;
	my @statements;
	my $insert = sub {
		my $count = rand() < 0.7 ? 1 : 1 + int(rand(20));
		my $source = (qw(turns even room order))[ int rand 4 ];
		return "INSERT INTO leads (source, session) SELECT '$source', $session FROM generate_series(1, $count);";
	};
	foreach (1 .. 3000)
	{
		my $kind = rand();
		if ($kind < 0.45) { push @statements, $insert->(); }
		elsif ($kind < 0.60) { push @statements, 'BEGIN;', $insert->(), $insert->(), 'ROLLBACK;'; }
		elsif ($kind < 0.75) { push @statements, 'BEGIN;', $insert->(), 'SAVEPOINT a;', $insert->(), 'ROLLBACK TO a;', $insert->(), 'COMMIT;'; }
		elsif ($kind < 0.78)
		{
			my $gid = "r$round-s$session-" . $n++;
			push @statements, 'BEGIN;', $insert->(), "PREPARE TRANSACTION '$gid';";
			# on a plain server one that is left keeps all others waiting
			push @statements, (rand() < 0.5 ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$gid';" if !$preload || rand() < 0.85;
		}
		elsif ($kind < 0.90) { push @statements, "DELETE FROM leads WHERE id = (SELECT max(id) FROM leads WHERE session = $session);"; }
		else { push @statements, 'BEGIN;', "DELETE FROM leads WHERE id IN (SELECT id FROM leads WHERE session = $session ORDER BY id DESC LIMIT 3);", $insert->(), (rand() < 0.5 ? 'COMMIT;' : 'ROLLBACK;'); }
	}
	return join("\n", @statements) . "\n";
}
