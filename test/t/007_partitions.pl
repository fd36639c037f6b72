# The record's partitions: the writer makes a missing one, whoever waits for it; they are made ahead, by the real pg_cron too;
# and nobody but the owner touches one.
use strict;
use warnings FATAL => 'all';

use LeadrouteTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', "max_worker_processes = 20\n");
$node->start;
my $cron = available($node, 'pg_cron');
if ($cron)
{
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_cron'\ncron.database_name = 'scheduled'\ncron.use_background_workers = on\n");
	$node->restart;
	$node->safe_psql('postgres', 'CREATE DATABASE scheduled');
	$node->safe_psql('scheduled', 'CREATE EXTENSION pg_cron; CREATE EXTENSION leadroute');
	schedule();
}

$node->safe_psql('postgres', q{
CREATE EXTENSION leadroute;
SELECT leadroute.setup(owners => '{anna,bo}');
CREATE ROLE operator LOGIN; GRANT leadroute_operator, leadroute_author, leadroute_approver, leadroute_agent TO operator; GRANT INSERT, SELECT ON leads TO operator;
CREATE ROLE auditor LOGIN; GRANT leadroute_auditor TO auditor;
CREATE ROLE stranger LOGIN; CREATE ROLE curious LOGIN;
});
my $insert = q{INSERT INTO leads (email, country, consent) VALUES ('x@acme.example', 'DE', true);};
my $where = 'SELECT tableoid::regclass FROM leadroute.entries ORDER BY as_of DESC LIMIT 1';
my $partition = $node->safe_psql('postgres', "$insert $where");
like($partition, qr/^leadroute\.entries_\d{4}_\d\d$/, 'a decision goes into the partition of its month');
is($node->safe_psql('postgres', qq{SELECT '$partition' = 'leadroute.entries_' || to_char(max(as_of) AT TIME ZONE 'UTC', 'YYYY_MM') FROM leadroute.entries}),
	't', 'which is named after it');

# Gone: the writer makes it anew, as a role that may not.
$node->safe_psql('postgres', "DROP TABLE $partition");
is($node->safe_psql('postgres', "$insert", extra_params => [ '-U', 'operator' ]), '', 'an insert goes through where the partition is missing');
is($node->safe_psql('postgres', "SELECT count(*) FROM $partition"), '1', 'its decision is in the partition that it made');
is($node->safe_psql('postgres', "SELECT relowner::regrole = (SELECT relowner::regrole FROM pg_class WHERE oid = 'leadroute.entries'::regclass) FROM pg_class WHERE oid = '$partition'::regclass"),
	't', 'which belongs to the owner of the record');

# Made and rolled back, by the session that needs it again.
$node->safe_psql('postgres', "DROP TABLE $partition");
$node->safe_psql('postgres', "BEGIN; $insert ROLLBACK; $insert BEGIN; DROP TABLE $partition; SAVEPOINT a; $insert ROLLBACK TO a; $insert COMMIT; $insert");
is($node->safe_psql('postgres', "SELECT count(*) FROM $partition"), '2', 'a partition that was rolled back is made again');

# Detached but in place: its name is taken, and the insert says so rather than write beside the record.
$node->safe_psql('postgres', "ALTER TABLE leadroute.entries DETACH PARTITION $partition");
my ($status, undef, $error) = in_psql($node, $insert, undef, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
like($error, qr/ERROR:  55000: "\Q$partition\E" is not a partition of the record\nHINT:  Attach it again/, 'a detached partition is not written to');
my $bounds = bounds('now()');
$node->safe_psql('postgres', "ALTER TABLE leadroute.entries ATTACH PARTITION $partition $bounds; $insert");
is($node->safe_psql('postgres', 'SELECT count(*) FROM leadroute.entries'), '3', 'attached again it is');

# Two sessions need it at the same moment: one makes it, the other waits and uses it, or makes it if the first gives up.
foreach my $end ('COMMIT', 'ROLLBACK')
{
	foreach my $isolation ('READ COMMITTED', 'REPEATABLE READ')
	{
		$node->safe_psql('postgres', "DROP TABLE $partition");
		my $first = $node->background_psql('postgres');
		my $second = $node->background_psql('postgres');
		$first->query_safe("BEGIN; $insert");
		$second->query_safe("BEGIN ISOLATION LEVEL $isolation; SELECT 1");
		$second->{stdin} .= "$insert COMMIT;\n\\echo second is done\n";
		$second->{run}->pump_nb;
		ok($node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT%'}),
			"$end, $isolation: the second waits for the first");
		$first->query_safe($end);
		$second->{run}->pump until $second->{stdout} =~ /second is done/ || $second->{timeout}->is_expired;
		is($second->{stderr}, '', "$end, $isolation: the second goes on");
		$first->quit;
		$second->quit;
		is($node->safe_psql('postgres', "SELECT count(*) FROM $partition"), $end eq 'COMMIT' ? '2' : '1', "$end, $isolation: what is committed is in the partition");
	}
}

# Ahead: this month and those after it, in UTC whatever the session's zone, indexed, and once.
my $ahead = q{SET TimeZone = 'Pacific/Auckland'; SELECT leadroute.make_partitions_ahead(14)};
is($node->safe_psql('postgres', $ahead), '15', 'partitions are made ahead');
is($node->safe_psql('postgres', $ahead), '15', 'those that are there are left alone');
is( $node->safe_psql(
		'postgres', q{
WITH expected AS (
    SELECT 'entries_' || to_char(m, 'YYYY_MM') AS name,
           format('FOR VALUES FROM (%L) TO (%L)', to_char(m, 'YYYY-MM-DD 00:00:00+00'), to_char(m + interval '1 month', 'YYYY-MM-DD 00:00:00+00')) AS bounds
    FROM generate_series(date_trunc('month', now() AT TIME ZONE 'UTC'), (now() AT TIME ZONE 'UTC') + interval '14 months', '1 month') m)
SELECT count(*) FILTER (WHERE e.name = c.relname AND e.bounds = pg_get_expr(c.relpartbound, c.oid)), count(*) FILTER (WHERE e.name IS NULL OR c.oid IS NULL)
FROM expected e FULL JOIN (SELECT c.* FROM pg_partition_tree('leadroute.entries') t JOIN pg_class c ON c.oid = t.relid WHERE t.isleaf) c ON c.relname = e.name}),
	'15|0', 'each holds its month in UTC');
is( $node->safe_psql('postgres', q{SELECT n, count(*) FROM (SELECT string_agg(pg_get_indexdef(indexrelid) ~ 'run_id' || '', '' ORDER BY 1), count(*) AS n
		FROM pg_index JOIN pg_inherits ON inhrelid = indrelid WHERE inhparent = 'leadroute.entries'::regclass GROUP BY indrelid) x GROUP BY 1}),
	'2|15', 'each has its two indexes');
is( $node->safe_psql('postgres', q{SELECT leadroute.make_entry_partition('2031-12-31 23:59:59.999999+00'), leadroute.make_entry_partition('2031-12-31 20:00:00-05')}),
	'leadroute.entries_2031_12|leadroute.entries_2032_01', 'the last moment of a year and the first of the next are told apart');
foreach my $months (-1, 121)
{
	(undef, undef, $error) = in_psql($node, "SELECT leadroute.make_partitions_ahead($months)", undef, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	like($error, qr/ERROR:  22023: $months months is out of range/, "not $months months");
}

# Grants: readers read the record, nobody a partition; and default privileges open none.
$node->safe_psql('postgres', q{
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA leadroute GRANT SELECT ON TABLES TO curious;
SELECT leadroute.make_entry_partition('2035-01-01 00:00:00+00');
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA leadroute REVOKE SELECT ON TABLES FROM curious});
is( $node->safe_psql(
		'postgres', q{
SELECT c.relname, a.grantee::regrole, a.privilege_type
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
WHERE i.inhparent = 'leadroute.entries'::regclass AND a.grantee <> c.relowner}),
	'', 'no partition has a grant to anybody but its owner');
foreach my $role ('operator', 'auditor', 'stranger')
{
	foreach my $statement ("SELECT FROM $partition", "INSERT INTO $partition SELECT * FROM leadroute.entries", "UPDATE $partition SET note = ''",
		"DELETE FROM $partition", "TRUNCATE $partition", "INSERT INTO leadroute.entries SELECT * FROM leadroute.entries",
		"UPDATE leadroute.entries SET note = ''", 'DELETE FROM leadroute.entries')
	{
		(undef, undef, $error) = in_psql($node, $statement, undef, extra_params => [ '-U', $role, '-v', 'VERBOSITY=verbose' ]);
		like($error, qr/ERROR:  42501: permission denied/, "$role: $statement");
	}
	($status) = in_psql($node, 'SELECT FROM leadroute.entries', undef, extra_params => [ '-U', $role ]);
	is($status == 0, $role ne 'stranger', "$role: SELECT FROM leadroute.entries");
}

SKIP:
{
	skip 'pg_cron is not installed', 7 unless $cron;
	my (undef, $out, $message) = in_psql($node, 'SELECT leadroute.schedule_maintenance()');
	is($out, 'f', 'schedule_maintenance() says where pg_cron is not in the database');
	like($message, qr/NOTICE:  pg_cron is not installed in this database/, 'in words, too');
	is($node->safe_psql('scheduled', 'SELECT count(*) FROM cron.job'), '4', 'scheduled twice, there is one job each');
	is( $node->safe_psql('scheduled', 'SELECT was FROM job_was ORDER BY was COLLATE "C"'),
		"* * * * *|SELECT leadroute.check_trials()|t\n* * * * *|SELECT leadroute.draw_overflow()|t\n* * * * *|SELECT leadroute.run_pending()|t\n17 3 * * *|SELECT leadroute.make_partitions_ahead()|t", 'which makes partitions daily, and looks at trials, overflows and what is pending every minute');
	ok($node->poll_query_until('scheduled', q{SELECT count(DISTINCT jobid) > 3 FROM cron.job_run_details WHERE status IN ('succeeded', 'failed')}), 'pg_cron runs the jobs');
	is($node->safe_psql('scheduled', q{SELECT DISTINCT status FROM cron.job_run_details WHERE status IN ('succeeded', 'failed')}), 'succeeded', 'they succeed');
	is($node->safe_psql('scheduled', q{SELECT count(*) FROM pg_inherits WHERE inhparent = 'leadroute.entries'::regclass}), '4', 'this month and the next three have their partitions');
}
$node->stop;
done_testing();

# Has pg_cron do the maintenance, every few seconds or, where it cannot, every minute; it runs while the other tests do.
sub schedule
{
	$node->safe_psql('scheduled', 'SELECT leadroute.schedule_maintenance(); SELECT leadroute.schedule_maintenance()');
	$node->safe_psql('scheduled', q{CREATE TABLE job_was AS SELECT schedule || '|' || command || '|' || CASE WHEN active THEN 't' ELSE 'f' END AS was FROM cron.job});
	foreach my $often ('2 seconds', '* * * * *')
	{
		my ($status) = in_psql($node, "SELECT cron.alter_job(jobid, schedule => '$often') FROM cron.job", 'scheduled');
		last if $status == 0;
	}
}

sub bounds
{
	my ($moment) = @_;
	return $node->safe_psql(
		'postgres', qq{
SELECT format('FOR VALUES FROM (%L) TO (%L)', to_char(m, 'YYYY-MM-DD 00:00:00+00'), to_char(m + interval '1 month', 'YYYY-MM-DD 00:00:00+00'))
FROM date_trunc('month', $moment AT TIME ZONE 'UTC') m});
}
