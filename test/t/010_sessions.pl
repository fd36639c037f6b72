# A session outlives whatever befalls its statements: cancelled, rolled back to a savepoint, failed behind our trigger. Nothing
# half done stays, what it holds in memory agrees with what is committed, and that memory does not grow.
use strict;
use warnings FATAL => 'all';

use LeadrouteTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', "max_wal_size = 2GB\nmax_prepared_transactions = 5\n");
$node->start;

my $into = 'INSERT INTO leads (email, country, consent, source)';
my $setup = q{
CREATE EXTENSION leadroute;
SELECT leadroute.setup(owners => '{anna,bo,cleo}');
CREATE TABLE visits (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), email text, country text, consent boolean, source text);
SELECT leadroute.attach_table('visits', classes => leadroute.standard_classes());
-- Fires behind leadroute's own trigger.
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM added WHERE source = 'fail') THEN
        RAISE 'failed behind the routing';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER zz_fail AFTER INSERT ON leads REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION fail();
CREATE TRIGGER zz_fail AFTER INSERT ON visits REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION fail();
};

# What a session writes once and remembers (key, environment, members of pools, partition, keys of rows) may be rolled back
# with the statement that wrote it; the session must not refer to it afterwards.
my $failing = q{INSERT INTO %s (email, country, consent, source) VALUES ('f@acme.example', 'DE', true, 'fail');};
my $good = q{INSERT INTO %s (email, country, consent, source) VALUES ('g@acme.example', 'DE', true, 'good');};
my %first = (
	'a statement that failed' => "$failing $good",
	'a transaction that failed' => "BEGIN; $good $failing ROLLBACK; $good",
	'a transaction rolled back' => "BEGIN; $good ROLLBACK; $good",
	'a savepoint rolled back' => "BEGIN; SAVEPOINT a; $good ROLLBACK TO a; $good COMMIT;",
	'a savepoint in which a statement failed' => "BEGIN; SAVEPOINT a; $failing ROLLBACK TO a; $good COMMIT;",
	'a savepoint released, in a transaction rolled back' => "BEGIN; SAVEPOINT a; $good RELEASE a; ROLLBACK; $good",
	'an exception caught' => "DO \$\$ BEGIN BEGIN $failing EXCEPTION WHEN OTHERS THEN NULL; END; $good END \$\$;",
	'a policy published and rolled back' => q{BEGIN; SELECT leadroute.publish_policy('default', leadroute.policy_document('default') || '{"description": "never"}', 'x');
		SELECT leadroute.activate_policy('default');} . " $good ROLLBACK; $good",
	'a pool changed and rolled back' => q{BEGIN; INSERT INTO leadroute.owners (reference) VALUES ('never');
		INSERT INTO leadroute.pool_members SELECT pool_id, owner_id FROM leadroute.pools, leadroute.owners WHERE reference = 'never'; } . "$good $good $good $good ROLLBACK; $good",
	'a pool changed and rolled back to a savepoint' => "BEGIN; SAVEPOINT a; UPDATE leadroute.owners SET available = false; $good ROLLBACK TO a; $good COMMIT;",
	'a table attached and rolled back' => q{BEGIN; CREATE TABLE gone (LIKE visits INCLUDING ALL); SELECT leadroute.attach_table('gone'); INSERT INTO gone VALUES (DEFAULT);} . " ROLLBACK; $good",
	'a partition of the record dropped and rolled back' => q{BEGIN; DO $$ BEGIN EXECUTE 'DROP TABLE ' || (SELECT relid FROM pg_partition_tree('leadroute.entries') WHERE isleaf); END $$;} . " $good ROLLBACK; $good");
my $number = 0;
$node->safe_psql('postgres', 'CREATE DATABASE fresh');
$node->safe_psql('fresh', $setup);
foreach my $name (sort keys %first)
{
	foreach my $table ($name =~ /failed|caught/ ? ('leads', 'visits') : 'leads')
	{
		my $database = 'first' . $number++;
		$node->safe_psql('postgres', "CREATE DATABASE $database TEMPLATE fresh");
		my (undef, undef, $error) = in_psql($node, $first{$name} =~ s/%s/$table/gr, $database, on_error_stop => 0);
		is(join("\n", grep { /ERROR/ && !/failed behind the routing/ } split /\n/, $error), '', "$name, $table: the session goes on");
		is($node->safe_psql($database, sound()), 'good|1|1|1|1|1|t|identical', "$name, $table: what it wrote then is whole");
		$node->safe_psql('postgres', "DROP DATABASE $database");
	}
}

# Cancelled amid the routing of many leads.
$node->safe_psql('postgres', $setup);
$node->safe_psql('postgres', 'CREATE TABLE many AS SELECT ' . $LeadrouteTest::columns . ' FROM leadroute.generate_leads(300000, 1)');
my $long = "INSERT INTO leads ($LeadrouteTest::columns) SELECT * FROM many;";
foreach my $how ('cancel', 'terminate')
{
	my $empty = $node->safe_psql('postgres', "SELECT sum(pg_relation_size(relid)) FROM pg_partition_tree('leadroute.entries')");
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query_safe("BEGIN; $into VALUES ('before\@acme.example', 'DE', true, 'before'); SAVEPOINT a");
	$session->{stdin} .= "$long\n\\echo done\n";
	$session->{run}->pump_nb;
	# Entries are written by the routing, so it is under way.
	ok($node->poll_query_until('postgres', "SELECT sum(pg_relation_size(relid)) > $empty + 2000000 FROM pg_partition_tree('leadroute.entries')"), "$how: the routing is under way");
	$node->safe_psql('postgres', "SELECT pg_${how}_backend(pid) FROM pg_stat_activity WHERE query LIKE '%SELECT * FROM many%' AND pid <> pg_backend_pid()");
	if ($how eq 'cancel')
	{
		$session->{run}->pump until $session->{stdout} =~ /done/ || $session->{timeout}->is_expired;
		like($session->{stderr}, qr/ERROR:  canceling statement due to user request/, "$how: the statement ends");
		$session->{stdout} = $session->{stderr} = '';
		is($session->query('SELECT count(*) FROM leads'), '', "$how: the transaction waits for its end");
		$session->{stderr} = '';
		is($session->query('ROLLBACK TO a; SELECT count(*) FROM leads'), '1', "$how: nothing of it is left");
		$session->query_safe("$into VALUES ('after\@acme.example', 'DE', true, 'after'); COMMIT");
		is($session->query('SELECT count(*) FROM leads'), '2', "$how: the session goes on");
		$session->quit;
	}
	else
	{
		eval { $session->{run}->finish; };
	}
	is( $node->safe_psql('postgres', q{SELECT (SELECT count(*) FROM leads), (SELECT count(*) FROM leadroute.lead_states), (SELECT count(*) FROM leadroute.entries),
			(SELECT count(*) FROM leadroute.reconcile())}), '2|2|2|0', "$how: leads, states and decisions are those of the other statements");
}

# Cancelled by a timeout inside of an agent, which is inside of a subtransaction of ours.
$node->safe_psql('postgres', q{
CREATE FUNCTION sleep(lead jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(600) WHERE lead ->> 'source' = 'slow';
    RETURN '{}';
EXCEPTION WHEN division_by_zero THEN RETURN '{}';
END $$;
SELECT leadroute.register_agent('sleep', '1', '{sleep}', 'sleep(jsonb)');
SELECT leadroute.publish_policy('default', '{"leadroute": 1, "steps": [{"capability": "validateContact"}, {"capability": "sleep", "on_error": "skip"}, {"capability": "assignOwner"}],
    "rules": [{"name": "all", "when": "true", "pool": "inbound"}]}', 'test');
SELECT leadroute.activate_policy('default')});
my (undef, $out, $error) = in_psql(
	$node, qq{SET statement_timeout = '500ms';
$into SELECT n || '\@acme.example', 'DE', true, CASE n WHEN 150 THEN 'slow' ELSE 'quick' END FROM generate_series(1, 300) n;
SET statement_timeout = 0;
$into VALUES ('after\@acme.example', 'DE', true, 'quick');
SELECT source, count(*) FROM leads WHERE source IN ('quick', 'slow') GROUP BY 1}, undef, on_error_stop => 0);
like($error, qr/ERROR:  canceling statement due to statement timeout/, 'a timeout ends a statement whose agent takes too long');
is($out, 'quick|1', 'nothing of it is left, and the session goes on');
is($node->safe_psql('postgres', 'SELECT * FROM leadroute.reconcile()'), '', 'rows, states and decisions agree');

# Subtransactions that come and go amid a transaction.
$node->safe_psql('postgres', q{
DO $$
BEGIN
    FOR n IN 1 .. 200 LOOP
        BEGIN
            INSERT INTO leads (email, country, consent, source) VALUES (n || '@acme.example', 'DE', true, 'loop');
            INSERT INTO visits (email, source) VALUES (n || '@acme.example', 'loop');
            IF n % 2 = 0 THEN
                RAISE division_by_zero;
            END IF;
            PERFORM leadroute.route_lead(max(lead_id), 'again') FROM leads;
        EXCEPTION WHEN division_by_zero THEN NULL;
        END;
    END LOOP;
END $$});
is( $node->safe_psql('postgres', q{SELECT (SELECT count(*) FROM leads WHERE source = 'loop'), (SELECT count(*) FROM visits WHERE source = 'loop'),
		(SELECT count(*) FROM leadroute.lead_keys), (SELECT count(*) FROM leadroute.reconcile())}), '100|100|100|0', 'of 200 subtransactions the 100 that were not rolled back have their leads');
is($node->safe_psql('postgres', 'SELECT DISTINCT v.verdict FROM leadroute.decisions d, LATERAL leadroute.verify_decision(d.decision_id) v'), 'identical', 'and all decisions verify');

# Memory: after a while of everything a session does, more of the same needs no more.
my $statements = qq{
$into VALUES ('one\@acme.example', 'DE', true, 'memory');
$into SELECT n || '\@acme.example', 'DE', true, 'memory' FROM generate_series(1, 50) n;
INSERT INTO visits (email, country, consent, source) SELECT n || '\@acme.example', 'DE', true, 'memory' FROM generate_series(1, 20) n;
$into VALUES ('fail\@acme.example', 'DE', true, 'fail');
BEGIN; SAVEPOINT a; $into VALUES ('back\@acme.example', 'DE', true, 'memory'); ROLLBACK TO a; COMMIT;
SELECT leadroute.route_leads(ARRAY(SELECT lead_id FROM leads WHERE source = 'memory' ORDER BY lead_id DESC LIMIT 10), 'memory');
SET leadroute.enabled = off; $into VALUES ('off\@acme.example', 'DE', true, 'memory'); SET leadroute.enabled = on;
SELECT leadroute.route_pending('leads');
SELECT count(*) FROM leadroute.decisions d, LATERAL leadroute.verify_decision(d.decision_id), LATERAL leadroute.explain_decision(d.decision_id)
WHERE decision_id > (SELECT max(decision_id) FROM leadroute.decisions) - 2;
DELETE FROM visits WHERE id IN (SELECT id FROM visits LIMIT 5);
};
my $changes = q{
SELECT leadroute.publish_policy('default', leadroute.policy_document('default') || jsonb_build_object('description', random()), 'memory');
SELECT leadroute.activate_policy('default');
UPDATE leadroute.owners SET available = NOT available WHERE reference = 'bo';
CREATE TABLE memory (LIKE visits INCLUDING ALL);
SELECT leadroute.attach_table('memory');
INSERT INTO memory (email) VALUES ('x@acme.example');
DROP TABLE memory;
SELECT leadroute.policy_mistakes('{"steps": [{"capability": "assignOwner"}], "rules": [{"when": "email = 1"}]}');
SELECT leadroute.route_lead(-1);
};
my $measure = q{SELECT 'memory', coalesce(sum(total_bytes) FILTER (WHERE name LIKE 'leadroute%'), 0), sum(total_bytes) FROM pg_backend_memory_contexts;
};
$node->safe_psql('postgres', 'CREATE DATABASE memory TEMPLATE fresh');
# Statements of one kind, three times, then measured, twelve times over: the last must not need more than the first.
foreach my $kind ([ 'statements', $statements ], [ 'changes of configuration', $changes . $statements ])
{
	my ($name, $work) = @$kind;
	my (undef, $out) = in_psql($node, join('', map { $work x 3 . $measure } 1 .. 12), 'memory', on_error_stop => 0);
	my @ours = $out =~ /^memory\|(\d+)\|/mg;
	my @total = $out =~ /^memory\|\d+\|(\d+)$/mg;
	note("$name: ours @ours, in total @total");
	is(scalar(@ours), 12, "$name: memory is measured");
	cmp_ok($ours[0], '>', 0, "$name: there is some of ours");
	cmp_ok(max(@ours[8 .. 11]) - max(@ours[2 .. 5]), '<', 64 * 1024, "$name: our memory does not grow");
	cmp_ok(max(@total[8 .. 11]) - max(@total[2 .. 5]), '<', 512 * 1024, "$name: nor the session's");
}
$node->stop;
done_testing();

# One row that says of the only lead: its source, how many states, decisions, environments, pools' members and keys there are
# for it; whether nothing is amiss; and what verifying says.
sub sound
{
	return q{
SELECT (SELECT string_agg(source, ',') FROM (SELECT source FROM leads UNION ALL SELECT source FROM visits) l), count(*),
       (SELECT count(*) FROM leadroute.lead_states s WHERE s.run_id IN (SELECT e.run_id FROM leadroute.entries e)),
       count(x.environment_id), count(r.pool_revision_id), count(k.key_id),
       NOT EXISTS (SELECT FROM leadroute.reconcile()), (SELECT string_agg(v.verdict, ',') FROM leadroute.decisions d, LATERAL leadroute.verify_decision(d.decision_id) v)
FROM leadroute.entries e LEFT JOIN leadroute.environments x USING (environment_id) LEFT JOIN leadroute.pool_revisions r USING (pool_revision_id)
LEFT JOIN leadroute.digest_keys k USING (key_id)};
}

sub max
{
	my $max = shift;
	foreach (@_) { $max = $_ if $_ > $max; }
	return $max;
}
