# What background workers do when things go wrong: terminated, shut down, crashed, without processes, on a standby, failing all the time.
# Whatever it is, each lead's function has run once, as far as the database knows, and the log stays readable.
use strict;
use warnings FATAL => 'all';

use LeadrouteTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $preload = "shared_preload_libraries = 'leadroute'\nmax_prepared_transactions = 5\nautovacuum_naptime = 1s\nrestart_after_crash = on\nleadroute.poll_interval = '200ms'\n";
my $node = new_server('main', $preload, allows_streaming => 1);
$node->start;
slow_routing($node, 'postgres');
work_goes_on($node, 'the beginning');

# Nothing is open while they wait. Nobody looks without being told: what a prepared transaction left is told by who commits it.
$node->append_conf('postgresql.conf', "leadroute.poll_interval = '1h'");
$node->reload;
$node->safe_psql('postgres', q{INSERT INTO leads (email, country, consent) VALUES ('x@x.example', 'DE', true)});
work_goes_on($node, 'a reload');
ok($node->poll_query_until('postgres', q{SELECT bool_and(state <> 'running tasks') FROM leadroute.worker_status()}), 'they wait');
is( $node->safe_psql('postgres', q{SELECT count(*) > 1, bool_or(xact_start IS NOT NULL OR backend_xmin IS NOT NULL OR state <> 'idle' OR wait_event_type = 'Lock')
		FROM pg_stat_activity WHERE backend_type IN ('leadroute scheduler', 'leadroute executor')}),
	't|f', 'no transaction is open while workers wait');
$node->safe_psql('postgres', q{BEGIN; INSERT INTO leads (email, country, consent) VALUES ('p@x.example', 'DE', true); PREPARE TRANSACTION 'one'});
$node->safe_psql('postgres', q{COMMIT PREPARED 'one'});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM leadroute.lead_states WHERE outcome = 'pending'}), 'what a prepared transaction left is done at once');
$node->append_conf('postgresql.conf', "leadroute.poll_interval = '200ms'");
$node->reload;

# What they leave dead, autovacuum hears of.
$node->safe_psql('postgres', q{
ALTER TABLE leadroute.tasks SET (autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0);
INSERT INTO leads (email, country, consent) SELECT 'many@x.example', 'DE', true FROM generate_series(1, 300)});
work_goes_on($node, 'many leads');
ok($node->poll_query_until('postgres', q{SELECT n_tup_del >= 300 AND autovacuum_count > 0 FROM pg_stat_user_tables WHERE relname = 'tasks'}),
	'rows that workers leave dead are counted while they run, and vacuumed');

# Terminated, one after the other, while they wait.
foreach my $worker ('executor', 'scheduler')
{
	my $pid = pid_of($node, $worker);
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	work_goes_on($node, "the $worker was terminated");
	ok(replaced($node, $worker, $pid), "there is another $worker");
}
# Amid a task, with SIGTERM and with SIGINT.
foreach my $signal ('terminate', 'cancel')
{
	hold($node);
	my $pid = pid_of($node, 'executor', 'running tasks');
	$node->safe_psql('postgres', "SELECT pg_${signal}_backend($pid)");
	ok($node->poll_query_until('postgres', qq{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'leadroute executor' AND wait_event = 'PgSleep' AND (pid <> $pid OR '$signal' = 'cancel')}),
		"another one takes the task: $signal");
	release($node);
	work_goes_on($node, "an executor was sent to $signal amid a task");
}
my $launcher = pid_of($node, 'launcher');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($launcher)");
$node->safe_psql('postgres', 'CREATE DATABASE second');
ok(replaced($node, 'launcher', $launcher), 'there is another launcher');
work_goes_on($node, 'the launcher was terminated');

# Shutdown amid a task.
foreach my $mode ('fast', 'immediate')
{
	hold($node);
	ok($node->stop($mode, fail_ok => 1), "the server stops amid a task: $mode");
	$node->start;
	release($node);
	work_goes_on($node, "$mode shutdown");
}

# A crash that resets shared memory.
hold($node);
my $pid = pid_of($node, 'executor', 'running tasks');
kill 'KILL', $pid;
wait_until(sub { my (undef, $out) = in_psql($node, 'UPDATE gate SET closed = false RETURNING 1'); $out =~ /1/ }, 'sessions come back');
work_goes_on($node, 'a crash that reset shared memory');
ok(replaced($node, 'executor', $pid), 'with new workers');

# Something that keeps failing: a log line, then longer and longer waits, and all well when it is mended.
my $size = -s $node->logfile;
$node->safe_psql('postgres', 'ALTER FUNCTION leadroute.lock_work(integer) RENAME TO lost_work; ALTER FUNCTION leadroute.fire_task_timers(integer) RENAME TO lost_timers');
$node->safe_psql('postgres', 'SELECT leadroute.notice_workers(7) FROM generate_series(1, 3)') foreach 1 .. 3;
ok($node->poll_query_until('postgres', q{SELECT bool_and(failures > 3) FROM leadroute.worker_status() WHERE database = 'postgres' AND failures > 0 AND worker = 'executor'}), 'executors fail');
ok( $node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM leadroute.worker_status() WHERE worker = 'executor' AND state = 'held back by failures' AND retry_at > now() AND last_sqlstate = '42883'}),
	'they are held back, and worker_status() says why');
$node->safe_psql('postgres', 'ALTER FUNCTION leadroute.lost_work(integer) RENAME TO lock_work; ALTER FUNCTION leadroute.lost_timers(integer) RENAME TO fire_task_timers');
work_goes_on($node, 'what failed was mended');
my $log = substr(slurp_file($node->logfile), $size);
my @lines = $log =~ /(leadroute: a worker failed .*)/g;
cmp_ok(scalar(@lines), '>', 0, 'the log says so');
my %seen;
$seen{$_}++ foreach map { s/PID \d+//r } @lines;
is(join("\n", grep { $seen{$_} > 1 } keys %seen), '', 'each of them once');
unlike($log, qr/ERROR:.*\n.*lock_work/, 'and nothing else does');

# Restored from a base backup and promoted: a standby has no workers, and it is no copy.
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
hold($node);
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', 'SELECT worker, state FROM leadroute.worker_status()'), 'launcher|in recovery', 'a standby has no workers');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'leadroute %'}), '0', 'none at all');
my ($status, undef, $error) = in_psql($standby, 'SELECT leadroute.run_pending()');
like($error, qr/cannot execute run_pending\(\) in a read-only transaction/, 'run_pending() refuses there');
$node->stop('immediate');
$standby->promote;
release($standby);
work_goes_on($standby, 'the standby was promoted');
is($standby->safe_psql('postgres', 'SELECT leadroute.is_copy()'), 'f', 'a promoted standby is no copy');
$standby->stop;

no_processes();
same_results();

foreach my $server ($node, $standby)
{
	my $all = slurp_file($server->logfile);
	unlike($all, qr/PANIC|TRAP|was terminated by signal (?!9)/, 'nothing else crashed: ' . $server->name);
}
done_testing();

# A server without processes to spare: the log says so once, the work is done otherwise, and as soon as there are some.
sub no_processes
{
	# launcher, the server's own for logical replication, a scheduler: nobody is left for an executor, nor for another database
	my $small = new_server('small', $preload . "max_worker_processes = 3\n");
	$small->start;
	$small->safe_psql('postgres', 'CREATE DATABASE second');
	slow_routing($small, 'postgres');
	$small->safe_psql('second', 'CREATE EXTENSION leadroute');
	$small->safe_psql('postgres', q{INSERT INTO leads (email, country, consent) VALUES ('x@x.example', 'DE', true)});
	ok($small->poll_query_until('postgres', q{SELECT count(*) > 0 FROM leadroute.worker_status() WHERE state = 'no worker process free' AND retry_at IS NOT NULL}),
		'worker_status() says where processes are lacking');
	wait_until(sub { slurp_file($small->logfile) =~ /no process free for an executor/ }, 'the log says so');
	usleep(2_500_000);
	is($small->safe_psql('postgres', 'SELECT leadroute.run_pending() > 0'), 't', 'run_pending() does the work');
	is($small->safe_psql('postgres', q{SELECT count(*) FROM leadroute.lead_states WHERE outcome = 'pending'}), '0', 'all of it');
	my @said = slurp_file($small->logfile) =~ /(there is no process free for .*)/g;
	my %times;
	$times{$_}++ foreach @said;
	is(join("\n", grep { $times{$_} > 1 } keys %times), '', 'the log says of each but once that there is no process for it');
	$small->append_conf('postgresql.conf', 'max_worker_processes = 10');
	$small->restart;
	work_goes_on($small, 'more processes');
	$small->stop;
}

# With workers, and with run_pending() on a server that does not preload the library, the same becomes of the same leads.
sub same_results
{
	my $leads = q{INSERT INTO leads (external_id, source, email, country, consent) SELECT n, (ARRAY['x', 'broken', 'abort'])[1 + n % 3], 'l' || n || '@x.example', 'DE', true FROM generate_series(1, 12) n};
	my $policy = q{
CREATE FUNCTION team.try(lead jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    CASE lead ->> 'source' WHEN 'broken' THEN RAISE division_by_zero; WHEN 'abort' THEN RAISE serialization_failure; WHEN 'slow' THEN PERFORM pg_sleep(60); ELSE NULL; END CASE;
    RETURN jsonb_build_object('source', lead ->> 'source');
END $$;
SELECT leadroute.register_agent('try', '1', '{try}', 'team.try(jsonb)');
UPDATE leadroute.agents SET breaker_failures = 1000 WHERE name = 'try';
SELECT leadroute.publish_policy('default', '{"leadroute": 1, "steps": [
    {"capability": "try", "mode": "worker", "retry": {"attempts": 2, "wait": "10 milliseconds"}, "timeouts": {"start_to_close": "200 milliseconds"}, "fallback": {"skip": true}},
    {"capability": "assignOwner"}], "rules": [{"name": "any", "when": "true", "pool": "inbound"}]}', 'with failures');
SELECT leadroute.activate_policy('default')};
	my %results;
	foreach my $workers (1, 0)
	{
		my $server = new_server("results_$workers", $workers ? $preload : '');
		$server->start;
		slow_routing($server, 'postgres');
		$server->safe_psql('postgres', $policy);
		$server->safe_psql('postgres', $leads);
		$server->safe_psql('postgres', q{INSERT INTO leads (external_id, source, email, country, consent) VALUES (13, 'slow', 's@x.example', 'DE', true)});
		ok($server->poll_query_until('postgres', ($workers ? '' : 'SELECT leadroute.run_pending() AS did \gset' . "\n") . q{SELECT count(*) = 0 FROM leadroute.lead_states WHERE outcome = 'pending'}),
			($workers ? 'workers' : 'run_pending()') . ' get done with all leads');
		$results{$workers} = $server->safe_psql('postgres', q{
SELECT l.external_id::int, l.source, s.outcome, s.reason_code, p.status, p.sqlstate, p.place, p.output
FROM leads l JOIN leadroute.lead_states s USING (lead_id) JOIN leadroute.provenance p ON p.decision_id = s.run_id AND p.capability = 'try' AND p.status IN ('done', 'failed') ORDER BY 1});
		is($server->safe_psql('postgres', 'SELECT state FROM leadroute.worker_status()'), 'library not preloaded', 'worker_status() says that there are none') unless $workers;
		is($server->safe_psql('postgres', 'SELECT count(*) FROM leadroute.decisions d, LATERAL leadroute.verify_decision(d.decision_id) v WHERE v.verdict <> $$identical$$'), '0', 'all decisions verify');
		$server->stop;
	}
	is($results{0}, $results{1}, 'the same comes out');
	like($results{1}, qr/slow\|[a-z_|]*\|failed\|LR011\|start_to_close/, 'a function that takes too long is stopped');
	like($results{1}, qr/abort\|[a-z_|]*\|failed\|40001/, 'one that ends the transaction fails its task only');
}

# Leaves an executor amid a task.
sub hold
{
	my ($server) = @_;
	$server->safe_psql('postgres', q{UPDATE gate SET closed = true; INSERT INTO leads (email, country, consent) VALUES ('held@x.example', 'DE', true)});
	$server->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'leadroute executor' AND wait_event = 'PgSleep'})
	  or die 'no executor took the task';
}

sub release
{
	my ($server) = @_;
	$server->safe_psql('postgres', 'UPDATE gate SET closed = false');
}

sub pid_of
{
	my ($server, $worker, $state) = @_;
	return $server->safe_psql('postgres', qq{SELECT max(pid) FROM leadroute.worker_status() WHERE worker = '$worker' AND coalesce(database, 'postgres') = 'postgres' } . ($state ? "AND state = '$state'" : ''));
}

sub replaced
{
	my ($server, $worker, $pid) = @_;
	return $server->poll_query_until('postgres', qq{SELECT count(*) > 0 AND bool_and(pid <> $pid) FROM leadroute.worker_status() WHERE worker = '$worker' AND coalesce(database, 'postgres') = 'postgres' AND pid IS NOT NULL});
}

# Inserts a lead and sees that it is done, and that every lead's function ran exactly once.
sub work_goes_on
{
	my ($server, $what) = @_;
	$server->safe_psql('postgres', q{INSERT INTO leads (email, country, consent) VALUES ('goes.on@x.example', 'DE', true)});
	ok($server->poll_query_until('postgres', q{SELECT count(*) = 0 FROM leadroute.lead_states WHERE outcome = 'pending'}), "work goes on after: $what");
	is($server->safe_psql('postgres', q{SELECT count(*) FROM leadroute.lead_states s FULL JOIN ledger l USING (lead_id) WHERE s.outcome IS DISTINCT FROM 'assigned' OR l.n IS DISTINCT FROM 1}),
		'0', "each lead once: $what");
}
