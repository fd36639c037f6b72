# Background workers let a database go when somebody wants it for himself, and come back afterwards, whatever becomes of the command;
# and so when the extension goes, comes back or changes. What they had in hand is done once, by whoever comes next.
use strict;
use warnings FATAL => 'all';

use LeadrouteTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', "shared_preload_libraries = 'leadroute'\nmax_worker_processes = 16\nleadroute.poll_interval = '200ms'\n");
$node->start;

$node->safe_psql('postgres', 'CREATE EXTENSION leadroute');
$node->safe_psql('postgres', 'CREATE DATABASE leads');
ok(becomes('leads', 'not installed'), 'a database without the extension has no workers');
$node->safe_psql('leads', 'CREATE EXTENSION leadroute');
work_starts('leads', 'CREATE EXTENSION commits');
slow_routing($node, 'leads');
work_goes_on('leads', 'the scheduler has an executor');
is($node->safe_psql('leads', q{SELECT string_agg(DISTINCT worker, ' ' ORDER BY worker) FROM leadroute.worker_status() WHERE pid IS NOT NULL}),
	'executor launcher scheduler', 'worker_status() shows who works');
is($node->safe_psql('leads', q{SELECT count(*) > 0 FROM leadroute.worker_status() w JOIN pg_stat_activity a USING (pid) WHERE a.backend_type = 'leadroute ' || w.worker}),
	't', 'and they are in pg_stat_activity under their names');

# Each command twice: with workers that wait, and amid a task.
$node->append_conf('postgresql.conf', 'allow_in_place_tablespaces = on');
$node->reload;
foreach my $amid (0, 1)
{
	my $how = $amid ? 'amid a task' : 'while they wait';
	lets_go('leads', $amid, "renamed $how", 'ALTER DATABASE leads RENAME TO moved', 'ALTER DATABASE moved RENAME TO leads');
	lets_go('leads', $amid, "taken as a template $how", "CREATE DATABASE twin_$amid TEMPLATE leads");
	lets_go('leads', $amid, "moved $how", "CREATE TABLESPACE other_$amid LOCATION ''", "ALTER DATABASE leads SET TABLESPACE other_$amid");
}
my ($status, undef, $error) = in_psql($node, 'ALTER DATABASE leads RENAME TO postgres');
isnt($status, 0, 'a command that fails');
work_goes_on('leads', 'a command that failed');

# Twins are copies.
is(state_of('twin_0'), 'copy', 'a copy has no workers');
$node->safe_psql('twin_0', q{INSERT INTO leads (email, country, consent) VALUES ('copy@x.example', 'DE', true)});
is($node->safe_psql('twin_0', 'SELECT leadroute.is_copy()'), 't', 'is_copy() knows');
($status, undef, $error) = in_psql($node, 'SELECT leadroute.run_pending()', 'twin_0', extra_params => [ '-v', 'VERBOSITY=verbose' ]);
like($error, qr/ERROR:  55000: this database is a copy.*\n.*HINT:.*resume_after_restore/s, 'run_pending() refuses');
is($node->safe_psql('twin_0', q{SELECT outcome, reason_code FROM leadroute.lead_states JOIN leads USING (lead_id) WHERE email = 'copy@x.example'}), 'pending|waiting',
	'leads are routed there as far as no worker is needed');
is($node->safe_psql('twin_0', 'SELECT leadroute.resume_after_restore()'), 't', 'it may act');
work_goes_on('twin_0', 'resume_after_restore()');
is($node->safe_psql('twin_0', q{SELECT outcome FROM leadroute.lead_states JOIN leads USING (lead_id) WHERE email = 'copy@x.example'}), 'assigned', 'what waited is done');
is($node->safe_psql('twin_0', 'SELECT leadroute.resume_after_restore()'), 'f', 'the second time there is nothing to do');
hold('twin_0');
($status, undef, $error) = in_psql($node, 'DROP DATABASE twin_0');
is($error, '', 'a database is dropped amid a task');
$node->safe_psql('postgres', 'DROP DATABASE twin_1');
is($node->safe_psql('leads', q{SELECT count(*) FROM leadroute.worker_status() WHERE database LIKE 'twin%'}), '0', 'and forgotten');

# A restored dump is a copy, from its first moment: tasks that came with it are not done.
$node->safe_psql('leads', q{UPDATE gate SET closed = true; INSERT INTO leads (email, country, consent) VALUES ('dumped@x.example', 'DE', true)});
my $dump = $node->backup_dir . '/dump.sql';
$node->command_ok([ 'pg_dump', '--file' => $dump, $node->connstr('leads') ], 'dumped');
$node->safe_psql('leads', 'UPDATE gate SET closed = false');
work_goes_on('leads', 'the dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '--no-psqlrc', '--quiet', '--set' => 'ON_ERROR_STOP=1', '--file' => $dump, $node->connstr('restored') ], 'restored');
$node->safe_psql('restored', 'UPDATE gate SET closed = false');
ok(becomes('restored', 'copy'), 'a restored dump has no workers');
is($node->safe_psql('restored', q{SELECT count(*) FROM leadroute.tasks WHERE state = 'q'}), '1', 'its task waits');
is($node->safe_psql('restored', q{SELECT bool_or(system_identifier = 0) AND bool_or(database_name = 'leads') FROM leadroute.database_identities}), 't', 'it knows whose copy it is, and that it was restored');
$node->safe_psql('restored', 'SELECT leadroute.resume_after_restore()');
work_goes_on('restored', 'resume_after_restore() of a restored dump');
is($node->safe_psql('restored', 'SELECT count(*) FROM leadroute.tasks'), '0', 'its task was done');
$node->safe_psql('postgres', 'DROP DATABASE restored');

# The extension goes and comes back.
$node->safe_psql('leads', 'BEGIN; DROP EXTENSION leadroute CASCADE; CREATE EXTENSION leadroute; ROLLBACK');
work_goes_on('leads', 'DROP and CREATE EXTENSION, rolled back');
hold('leads');
$node->safe_psql('leads', 'BEGIN; DROP EXTENSION leadroute CASCADE; ROLLBACK');
release('leads');
work_goes_on('leads', 'DROP EXTENSION amid a task, rolled back');
$node->safe_psql('leads', 'BEGIN; DROP EXTENSION leadroute CASCADE; DROP TABLE leads; CREATE EXTENSION leadroute; COMMIT');
work_starts('leads', 'DROP and CREATE EXTENSION in one transaction');
slow_routing($node, 'leads');
work_goes_on('leads', 'another extension than before');
hold('leads');
$node->safe_psql('leads', 'DROP EXTENSION leadroute CASCADE; DROP TABLE leads');
ok(becomes('leads', 'not installed'), 'DROP EXTENSION amid a task');
$node->safe_psql('leads', 'BEGIN; CREATE EXTENSION leadroute; ROLLBACK');
is(state_of('leads'), 'not installed', 'CREATE EXTENSION, rolled back');
$node->safe_psql('leads', 'CREATE EXTENSION leadroute');
slow_routing($node, 'leads');
work_goes_on('leads', 'CREATE EXTENSION once more');

# The extension changes.
$node->safe_psql('leads', 'ALTER EXTENSION leadroute UPDATE');
work_goes_on('leads', 'ALTER EXTENSION UPDATE');
my $version = $node->safe_psql('leads', q{SELECT extversion FROM pg_extension WHERE extname = 'leadroute'});
$node->safe_psql('leads', q{UPDATE pg_extension SET extversion = '0.0.9' WHERE extname = 'leadroute'});
ok(becomes('leads', 'another version'), 'workers of another version than the extension leave');
foreach (1 .. 3)
{
	in_psql($node, q{ALTER EXTENSION leadroute UPDATE TO '0.0.9'}, 'leads');
	ok(becomes('leads', 'another version'), 'they look, and leave again');
}
my @lines = grep { /another version/ } split /\n/, slurp_file($node->logfile);
is(scalar(@lines), 1, 'the log says so once');
$node->safe_psql('leads', qq{UPDATE pg_extension SET extversion = '$version' WHERE extname = 'leadroute'; ALTER EXTENSION leadroute UPDATE});
work_goes_on('leads', 'the right version again');

# Databases that are not for workers.
is(state_of('template0') . state_of('template1'), '', 'templates have none');
$node->safe_psql('postgres', 'ALTER DATABASE leads IS_TEMPLATE true');
ok(becomes('leads', 'closed'), 'nor what becomes one');
$node->safe_psql('postgres', 'CREATE DATABASE triplet TEMPLATE leads');
$node->safe_psql('postgres', 'ALTER DATABASE leads IS_TEMPLATE false');
work_goes_on('leads', 'a template that is none any more');
$node->safe_psql('postgres', 'ALTER DATABASE leads ALLOW_CONNECTIONS false');
ok(becomes('leads', 'closed'), 'workers leave a database that allows no connections');
$node->safe_psql('postgres', 'ALTER DATABASE leads ALLOW_CONNECTIONS true');
work_goes_on('leads', 'connections allowed again');

# Who may not give the command keeps nobody from work.
$node->safe_psql('postgres', 'CREATE ROLE nobody_special LOGIN');
my $pids = workers_of('leads');
foreach my $command ('DROP DATABASE leads', 'ALTER DATABASE leads RENAME TO mine', 'CREATE DATABASE mine TEMPLATE leads')
{
	($status) = in_psql($node, $command, 'postgres', extra_params => [ '-U', 'nobody_special' ]);
	isnt($status, 0, "refused: $command");
}
is(workers_of('leads'), $pids, 'the workers stayed');

# Settings change by reload.
$node->append_conf('postgresql.conf', 'leadroute.workers = off');
$node->reload;
ok(becomes('leads', 'off'), 'workers are switched off');
is($node->safe_psql('leads', q{INSERT INTO leads (email, country, consent) VALUES ('off@x.example', 'DE', true) RETURNING (SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'leadroute executor')}),
	"0", 'there are no executors');
is($node->safe_psql('leads', 'SELECT leadroute.run_pending() > 0'), 't', 'run_pending() does their work');
$node->append_conf('postgresql.conf', "leadroute.workers = on\nleadroute.max_executors = 4\n");
$node->reload;
work_goes_on('leads', 'workers are switched on');
$node->safe_psql('leads', q{UPDATE gate SET closed = true});
$node->safe_psql('leads', q{INSERT INTO leads (email, country, consent) VALUES ('x@x.example', 'DE', true)}) foreach 1 .. 6;
ok($node->poll_query_until('leads', q{SELECT count(*) = 4 FROM leadroute.worker_status() WHERE database = 'leads' AND worker = 'executor' AND state = 'running tasks'}), 'as many executors as are allowed');
$node->safe_psql('leads', 'UPDATE gate SET closed = false');
$node->append_conf('postgresql.conf', "leadroute.max_executors = 1\n");
$node->reload;
ok($node->poll_query_until('leads', q{SELECT count(*) = 1 FROM leadroute.worker_status() WHERE database = 'leads' AND worker = 'executor'}), 'and fewer, when they are done');
work_goes_on('leads', 'fewer executors');

my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP|was terminated by signal/, 'nothing crashed');
unlike($log, qr/ERROR:.*\n.*(leadroute\.tasks|leadroute_)/, 'no worker complained');
$node->stop;
done_testing();

# Has commands done that need a database for themselves, while workers are connected that wait or are amid a task.
sub lets_go
{
	my ($database, $amid, $what, @commands) = @_;
	hold($database) if $amid;
	work_goes_on($database, "it is $what") unless $amid;
	isnt(workers_of($database), '', "workers are connected: $what");
	my $errors = '';
	foreach my $command (@commands)
	{
		my (undef, undef, $error) = in_psql($node, $command);
		$errors .= $error;
	}
	is($errors, '', "a database is $what");
	release($database) if $amid;
	work_goes_on($database, "it was $what");
}

# Leaves an executor amid a task.
sub hold
{
	my ($database) = @_;
	$node->safe_psql($database, q{UPDATE gate SET closed = true; INSERT INTO leads (email, country, consent) VALUES ('held@x.example', 'DE', true)});
	$node->poll_query_until($database, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'leadroute executor' AND wait_event = 'PgSleep' AND datname = current_database()})
	  or die 'no executor took the task';
}

sub release
{
	my ($database) = @_;
	$node->safe_psql($database, 'UPDATE gate SET closed = false');
}

# Returns why a database has no workers, or what its scheduler does.
sub state_of
{
	my ($database) = @_;
	return $node->safe_psql('postgres', qq{SELECT state FROM leadroute.worker_status() WHERE database = '$database' AND worker = 'scheduler'});
}

# Waits until a database has no workers for a reason.
sub becomes
{
	my ($database, $state) = @_;
	return $node->poll_query_until('postgres',
		qq{SELECT bool_and(pid IS NULL AND state = '$state') FROM leadroute.worker_status() WHERE database = '$database'});
}

sub workers_of
{
	my ($database) = @_;
	return $node->safe_psql('postgres', qq{SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity WHERE datname = '$database' AND backend_type LIKE 'leadroute %'});
}

sub work_starts
{
	my ($database, $what) = @_;
	ok($node->poll_query_until($database, q{SELECT count(*) = 1 FROM leadroute.worker_status() WHERE database = current_database() AND worker = 'scheduler' AND pid IS NOT NULL}),
		"after $what there is a scheduler");
}

# Inserts a lead and sees that it is done, and that every lead's function ran exactly once.
sub work_goes_on
{
	my ($database, $what) = @_;
	$node->safe_psql($database, q{INSERT INTO leads (email, country, consent) VALUES ('goes.on@x.example', 'DE', true)});
	ok($node->poll_query_until($database, q{SELECT count(*) = 0 FROM leadroute.lead_states WHERE outcome = 'pending'}), "work goes on after: $what");
	is($node->safe_psql($database, q{SELECT count(*) FROM leadroute.lead_states s FULL JOIN ledger l USING (lead_id) WHERE s.outcome IS DISTINCT FROM 'assigned' OR l.n IS DISTINCT FROM 1}),
		'0', "each lead once: $what");
}
