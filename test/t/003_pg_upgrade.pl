# pg_upgrade takes a database with leadroute to a newer server: its checks pass, nothing is lost or routed again, and what
# comes next is routed.
#
# The newer server is looked for in $PG_NEWBIN, otherwise where Debian has its versions; leadroute has to be installed for it.
use strict;
use warnings FATAL => 'all';

use LeadrouteTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($old_version) = `pg_config --version` =~ /(\d+)/;
my ($old_bin) = `pg_config --bindir` =~ /(.*)/;
my ($new_bin, $new_version, $why) = newer_server();
plan skip_all => $why unless $new_bin;
diag("from version $old_version to $new_version in $new_bin");

my $node = new_server('old');
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE leads');
rich_routing($node, 'leads');
my $views = views_of($node, 'leads');
my $triggers = triggers_of($node, 'leads');
my $turns = $node->safe_psql('leads', 'SELECT pool_id, max(turn) FROM leadroute.entries WHERE turn IS NOT NULL GROUP BY 1 ORDER BY 1');
$node->stop;

my ($data, @upgrade) = new_cluster($node);
command_ok([ @upgrade, '--check' ], 'pg_upgrade --check passes');
my $upgraded = run_log(\@upgrade);
if (!$upgraded && !any_upgrade_works())
{
	diag('pg_upgrade fails between these servers whatever the database holds');
	done_testing();
	exit 0;
}
ok($upgraded, 'pg_upgrade passes') or show_logs();

command_ok([ "$new_bin/pg_ctl", '-D', $data, '-l', $node->basedir . '/new.log', '-w', 'start' ], 'the new server starts');
END { system("$new_bin/pg_ctl", '-D', $data, '-m', 'immediate', 'stop') if $data && -e "$data/postmaster.pid"; }

like(new_psql('SHOW server_version'), qr/^$new_version/, 'it is the newer one');
is(views_of_new(), $views, 'the views show the same');
is(new_psql('SELECT count(*) FROM leadroute.decisions d, LATERAL leadroute.verify_decision(d.decision_id) v WHERE v.verdict = $$different$$'),
	'0', 'no decision is recomputed differently');
like(new_psql('SELECT DISTINCT v.verdict, v.place, v.recomputed FROM leadroute.decisions d, LATERAL leadroute.verify_decision(d.decision_id) v ORDER BY 1, 2'),
	qr/^environment\|environment\.server\|"PostgreSQL $new_version\b/m, 'verifying says that the server is another one');
is(new_psql($LeadrouteTest::triggers_query), $triggers, 'each trigger is there once');

my ($run, $lead) = split /\|/, new_psql('SELECT max(run_id), (SELECT max(lead_id) FROM leadroute.lead_states) FROM leadroute.entries');
is( new_psql(qq{INSERT INTO leads (email, country, consent, company_size) VALUES ('x\@acme.example', 'DE', true, 900);
	SELECT lead_id > $lead, decision_id > $run, outcome, pool, server FROM leadroute.decisions ORDER BY as_of DESC LIMIT 1}) =~ s/\d.*//r,
	't|t|assigned|enterprise|PostgreSQL ', 'the next insert is routed, with ids of its own');
is(new_psql(q{INSERT INTO team.visitors VALUES ('2025-05-05', md5('next')::uuid, 'next@visitor.example', 'DE', 'next'); SELECT cause, pool FROM leadroute.decisions ORDER BY as_of DESC LIMIT 1}),
	'insert|enterprise', 'in the partitioned table too');
is(new_psql('SELECT pool_id, turn FROM leadroute.entries WHERE turn IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1'), '', 'no turn is drawn twice');
is(new_psql('SELECT problem, count(*) FROM leadroute.reconcile() GROUP BY 1'), 'row without a state|1', 'rows, states and decisions agree, but for the row nobody saw');
command_ok([ "$new_bin/pg_ctl", '-D', $data, '-m', 'fast', 'stop' ], 'the new server stops');
done_testing();

# Finds a newer server that leadroute is installed for; otherwise says what there is.
sub newer_server
{
	my @bins = $ENV{PG_NEWBIN} ? $ENV{PG_NEWBIN} : sort { $b cmp $a } glob '/usr/lib/postgresql/*/bin';
	my $reason = 'there is no newer server at hand: PG_NEWBIN=/path/to/bin names one';
	foreach my $bin (@bins)
	{
		next unless -x "$bin/pg_upgrade" && -x "$bin/postgres" && -x "$bin/initdb";
		my ($version) = `"$bin/postgres" --version` =~ /(\d+)/;
		next unless $version > $old_version;
		# Where there is no pg_config beside it, the server's own folders are taken to be as Debian has them.
		my ($libraries) = -x "$bin/pg_config" ? `"$bin/pg_config" --pkglibdir` =~ /(.*)/ : "$bin/../lib";
		return ($bin, $version) if -e "$libraries/leadroute.so";
		$reason = "leadroute is not installed for version $version in $bin";
	}
	return (undef, undef, $reason);
}

# Makes a cluster as pg_upgrade wants it, empty and like the old one; returns its folder and the command to upgrade with.
sub new_cluster
{
	my ($old) = @_;
	my $folder = $old->basedir . '/new';
	my @initdb = ("$new_bin/initdb", '-D', $folder, '-A', 'trust', '-N');
	push @initdb, '--no-data-checksums' if $new_version >= 18;
	command_ok(\@initdb, 'the new cluster of ' . $old->name . ' is made');
	append_to_file("$folder/postgresql.conf", "listen_addresses = ''\nunix_socket_directories = '" . $old->host . "'\nport = " . $old->port
		  . "\nlog_statement = none\ntimezone = 'UTC'\njit = off\n");
	# It writes into the working folder.
	mkdir $old->basedir . '/upgrade';
	chdir $old->basedir . '/upgrade' or die;
	return ($folder, "$new_bin/pg_upgrade", '-b', $old_bin, '-B', $new_bin, '-d', $old->data_dir, '-D', $folder, '-s', $old->host, '-p', $old->port, '-P', $old->port);
}

# Tells whether pg_upgrade works for a database that never heard of leadroute.
sub any_upgrade_works
{
	my $control = new_server('control');
	$control->start;
	$control->safe_psql('postgres', 'CREATE TABLE plain (n int)');
	$control->stop;
	my (undef, @command) = new_cluster($control);
	return run_log(\@command);
}

sub new_psql
{
	my ($sql) = @_;
	my ($out, $err) = ('', '');
	run_log([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-h', $node->host, '-p', $node->port, '-d', 'leads', '-f', '-' ], '<', \$sql, '>', \$out, '2>', \$err)
	  or die "error running SQL: $err";
	chomp $out;
	return $out;
}

sub views_of_new
{
	return new_psql($LeadrouteTest::views_query);
}

sub show_logs
{
	foreach my $file (glob("$data/pg_upgrade_output.d/*/log/*.txt"), glob("$data/pg_upgrade_output.d/*/log/*dump*.log"))
	{
		diag("$file:\n" . join("\n", (split /\n/, slurp_file($file))[-15 .. -1]));
	}
}
