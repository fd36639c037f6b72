# Caps hold whatever becomes of transactions: prepared ones, servers that die amid inserts, memory that is full. What is counted is what
# lead_states says, and what has not ended.
use strict;
use warnings FATAL => 'all';

use LeadrouteTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $seed = seed_of();

my $setup = q{
CREATE EXTENSION leadroute;
INSERT INTO leadroute.owners (reference, timezone) SELECT 'o' || n, (ARRAY['UTC', 'Asia/Tokyo', 'America/New_York', 'Pacific/Auckland'])[n] FROM generate_series(1, 4) n;
INSERT INTO leadroute.pools (name) VALUES ('p'), ('q');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT p.pool_id, o.owner_id FROM leadroute.pools p, leadroute.owners o;
SELECT leadroute.publish_policy('default', '{"leadroute": 1, "steps": [{"capability": "assignOwner"}],
    "rules": [{"name": "q", "when": "source = ''q''", "pool": "q"}, {"name": "p", "when": "true", "pool": "p"}]}', 'test');
SELECT leadroute.activate_policy('default');
SELECT leadroute.create_leads_table('leads');
};
my $over = 'SELECT * FROM leadroute.cap_usage() WHERE taken > maximum OR recounted > maximum';
my $apart = 'SELECT * FROM leadroute.cap_usage() WHERE taken <> recounted';
my $open = q{SELECT taken, recounted FROM leadroute.cap_usage() WHERE owner = 'o1' AND per = 'open'};
my $lead = q{INSERT INTO leads (source) VALUES ('x')};

foreach my $preload ('', 'leadroute')
{
	my $what = $preload ? 'preloaded' : 'plain';
	my $node = new_server($what, "shared_preload_libraries = '$preload'\nmax_prepared_transactions = 20\nautovacuum_naptime = 1s\n");
	$node->start;
	$node->safe_psql('postgres', $setup);
	prepared($node, $what, $preload);
	foreach my $round (1 .. 3)
	{
		stress($node, "$what, round $round", $preload);
	}
	$node->stop;
}
full();
other_databases();
done_testing();

# One owner has one place left; who may take it depends on a prepared transaction.
sub prepared
{
	my ($node, $what, $preload) = @_;
	my $try = sub {
		my ($sql) = @_;
		my (undef, $out, $err) = in_psql($node, "SET lock_timeout = '300ms'; $sql");
		return $err =~ /lock timeout/ ? 'waits' : $err ? $err : 'done';
	};
	my $outcome = q{SELECT outcome FROM leadroute.lead_states ORDER BY lead_id DESC LIMIT 1};
	$node->safe_psql('postgres', q{UPDATE leadroute.owners SET available = reference = 'o1';
		INSERT INTO leadroute.caps (owner_id, per, maximum) SELECT owner_id, 'open', 2 FROM leadroute.owners WHERE reference = 'o1'});
	$node->safe_psql('postgres', $lead);
	$node->safe_psql('postgres', "BEGIN; SAVEPOINT a; $lead; RELEASE a; SAVEPOINT b; $lead; ROLLBACK TO b; PREPARE TRANSACTION 'one'");
	is($node->safe_psql('postgres', $open), '2|1', "$what: what is prepared is taken");
	is($try->($lead), $preload ? 'done' : 'waits', "$what: the next session " . ($preload ? 'waits for nobody' : 'waits'));
	is($node->safe_psql('postgres', $outcome), $preload ? 'pending' : 'assigned', "$what: and does not get the place");
	kill_server($node);
	$node->start;
	is($node->safe_psql('postgres', $open), '2|1', "$what: nor after a crash is the place free");
	is($try->($lead), $preload ? 'done' : 'waits', "$what: which the next session finds as before");
	is($node->safe_psql('postgres', $open), '2|1', "$what: having counted it");
	$node->safe_psql('postgres', q{ROLLBACK PREPARED 'one'});
	is($node->safe_psql('postgres', $open), '1|1', "$what: rolled back, the place is free");
	$node->safe_psql('postgres', $lead);
	is($node->safe_psql('postgres', $outcome), 'assigned', "$what: for the next");
	is($node->safe_psql('postgres', $open), '2|2', "$what: who has it");

	# Given back by a prepared transaction: not before it commits.
	my $finish = q{UPDATE leadroute.lead_states SET finished_at = now() WHERE lead_id = (SELECT max(lead_id) FROM leadroute.lead_states WHERE outcome = 'assigned' AND finished_at IS NULL)};
	foreach my $crash (0, 1)
	{
		my $name = $what . ($crash ? ', with a crash' : '');
		$node->safe_psql('postgres', "BEGIN; SAVEPOINT a; $finish; RELEASE a; PREPARE TRANSACTION 'two'");
		is($node->safe_psql('postgres', $open), '2|2', "$name: what is given back is not free before it is committed");
		if ($crash)
		{
			kill_server($node);
			$node->start;
		}
		$node->safe_psql('postgres', $lead);
		is($node->safe_psql('postgres', $outcome), 'pending', "$name: nobody gets it");
		$node->safe_psql('postgres', q{COMMIT PREPARED 'two'});
		is($node->safe_psql('postgres', $open), '1|1', "$name: and then it is");
		$node->safe_psql('postgres', $lead);
		is($node->safe_psql('postgres', $outcome), 'assigned', "$name: for the next");
	}
	# The transaction is so old that the server has forgotten it.
	if ($preload)
	{
		$node->safe_psql('postgres', "BEGIN; $finish; PREPARE TRANSACTION 'three'");
		$node->safe_psql('postgres', q{COMMIT PREPARED 'three'});
		$node->safe_psql('postgres', 'SELECT pg_current_xact_id()') foreach 1 .. 3;
		$node->safe_psql($_, 'VACUUM (FREEZE)') foreach ('postgres', 'template1');
		$node->safe_psql('postgres', $lead);
		is($node->safe_psql('postgres', $open), '2|2', "$what: a commit long ago is no error");
	}
	$node->safe_psql('postgres', q{DELETE FROM leadroute.caps; UPDATE leadroute.owners SET available = true});
}

# Many sessions, everything that can happen, and then the server dies.
sub stress
{
	my ($node, $name, $preload) = @_;
	$node->safe_psql('postgres', q{DELETE FROM leadroute.caps; TRUNCATE leads;
		INSERT INTO leadroute.caps (owner_id, pool_id, per, maximum)
		SELECT o.owner_id, p.pool_id, per, 20 + (random() * 100)::int + CASE WHEN per = 'open' THEN 0 ELSE
		    (SELECT count(*) FROM leadroute.lead_states s WHERE s.outcome = 'assigned' AND (o.owner_id IS NULL OR s.owner_id = o.owner_id) AND (p.pool_id IS NULL OR s.pool_id = p.pool_id)) END
		FROM (SELECT owner_id FROM leadroute.owners UNION ALL SELECT NULL) o, (SELECT pool_id FROM leadroute.pools UNION ALL SELECT NULL) p,
		     unnest(ARRAY['hour', 'day', 'month', 'open']) per
		WHERE num_nonnulls(o.owner_id, p.pool_id) > 0 AND random() < 0.6});
	my @running;
	foreach my $session (1 .. 6)
	{
		my $base = $node->basedir . '/' . ($name =~ s/\W+/-/gr) . "-$session";
		append_to_file("$base.sql", script($session, $preload));
		push @running, { base => $base, process => IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-f', "$base.sql" ], '>', "$base.out", '2>', "$base.err") };
	}
	usleep(1_500_000 + int(rand(1_500_000)));
	is($node->safe_psql('postgres', "$over LIMIT 5"), '', "$name: no cap is exceeded meanwhile");
	kill_server($node);
	foreach my $run (@running)
	{
		eval { $run->{process}->finish; };
		my $err = slurp_file("$run->{base}.err");
		my @others = grep { /ERROR/ && !/deadlock|canceling statement|current transaction is aborted|savepoint .* does not exist|prepared transaction with identifier/ } split /\n/, $err;
		is($others[0] // '', '', "$name: nothing unexpected is raised");
	}
	$node->start;
	my @prepared = split /\n/, $node->safe_psql('postgres', 'SELECT gid FROM pg_prepared_xacts ORDER BY random()');
	note("$name: " . scalar(@prepared) . ' prepared transactions');
	is($node->safe_psql('postgres', "$over LIMIT 5"), '', "$name: no cap is exceeded after the crash");
	# with these pending, whoever comes takes only what is left
	if ($preload)
	{
		$node->safe_psql('postgres', q{INSERT INTO leads (source) SELECT (ARRAY['p', 'q'])[1 + n % 2] FROM generate_series(1, 100) n});
		is($node->safe_psql('postgres', "$over LIMIT 5"), '', "$name: nor by who comes next");
	}
	foreach my $gid (@prepared)
	{
		$node->safe_psql('postgres', (rand() < 0.5 ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$gid'");
		is($node->safe_psql('postgres', "$over LIMIT 5"), '', "$name: nor by what was prepared");
	}
	is($node->safe_psql('postgres', "$apart LIMIT 5"), '', "$name: what is taken is what lead_states says");
	$node->safe_psql('postgres', q{INSERT INTO leads (source) SELECT (ARRAY['p', 'q'])[1 + n % 2] FROM generate_series(1, 1000) n});
	is($node->safe_psql('postgres', "$over LIMIT 5"), '', "$name: with more leads than there are places, no cap is exceeded");
	is($node->safe_psql('postgres', "$apart LIMIT 5"), '', "$name: and what is taken is still what lead_states says");
	is( $node->safe_psql('postgres', q{SELECT count(*) FROM leadroute.lead_states s JOIN leadroute.owners o USING (owner_id) WHERE s.lead_id = (SELECT max(lead_id) FROM leads)
			AND EXISTS (SELECT FROM leadroute.caps c WHERE c.owner_id = s.owner_id AND c.pool_id IS NULL)}),
		'0', "$name: the last lead finds every capped owner at a cap");
}

sub script
{
	my ($session, $preload) = @_;
	my @statements;
	my $insert = sub { "INSERT INTO leads (source) SELECT (ARRAY['p', 'q'])[1 + n % 2] FROM generate_series(1, " . (1 + int rand shift) . ') n' };
	my $some = sub { "(SELECT lead_id FROM leadroute.lead_states WHERE closed_at IS NULL AND lead_id % 6 = $session - 1 ORDER BY random() LIMIT " . (1 + int rand 3) . ')' };
	foreach (1 .. 3000)
	{
		my $kind = rand();
		if ($kind < 0.3) { push @statements, $insert->(3) . ';'; }
		elsif ($kind < 0.4) { push @statements, 'BEGIN; ' . $insert->(10) . '; ROLLBACK;'; }
		elsif ($kind < 0.5) { push @statements, 'BEGIN; ' . $insert->(2) . '; SAVEPOINT a; ' . $insert->(3) . '; ROLLBACK TO a; ' . $insert->(2) . '; SAVEPOINT b; ' . $insert->(2) . '; RELEASE b; COMMIT;'; }
		elsif ($kind < 0.55) { push @statements, 'DO $$ BEGIN ' . $insert->(3) . '; PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END $$;'; }
		elsif ($kind < 0.65) { push @statements, 'UPDATE leadroute.lead_states SET finished_at = now() WHERE lead_id IN ' . $some->() . ';'; }
		elsif ($kind < 0.7) { push @statements, 'BEGIN; UPDATE leadroute.lead_states SET finished_at = now() WHERE lead_id IN ' . $some->() . '; ' . $insert->(3) . '; ' . (rand() < 0.5 ? 'COMMIT;' : 'ROLLBACK;'); }
		elsif ($kind < 0.78) { push @statements, 'DELETE FROM leads WHERE lead_id IN ' . $some->() . ';'; }
		elsif ($kind < 0.88) { push @statements, 'SELECT leadroute.route_leads(ARRAY' . $some->() . q{, 'again');}; }
		elsif ($kind < 0.93) { push @statements, 'UPDATE leadroute.lead_states SET responded_at = now() WHERE lead_id IN ' . $some->() . ';'; }
		elsif ($kind < 0.96) { push @statements, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~ '^INSERT' AND pid <> pg_backend_pid() LIMIT 1;"; }
		elsif ($kind < 0.985 && @statements < 2990)
		{
			my $gid = "s$session-" . @statements;
			push @statements, 'BEGIN; ' . $insert->(3) . '; UPDATE leadroute.lead_states SET finished_at = now() WHERE lead_id IN ' . $some->() . "; PREPARE TRANSACTION '$gid';";
			# where sessions wait for it, it does not stay long
			push @statements, (rand() < 0.5 ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$gid';" if !$preload || rand() < 0.9;
		}
		else { push @statements, 'SELECT pg_sleep(0.01);'; }
	}
	return join("\n", @statements) . "\n";
}

# Little memory: what is not in use makes room; what is in use cannot, and the hint says what to raise.
sub full
{
	my $node = new_server('full', "shared_preload_libraries = 'leadroute'\nleadroute.max_counters = 16\nleadroute.max_reservations = 20\nmax_prepared_transactions = 20\n");
	$node->start;
	$node->safe_psql('postgres', $setup . q{
INSERT INTO leadroute.owners (reference) SELECT 'more' || n FROM generate_series(1, 40) n;
INSERT INTO leadroute.pools (name, of_owner) SELECT 'of ' || reference, owner_id FROM leadroute.owners WHERE reference LIKE 'more%';
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT pool_id, of_owner FROM leadroute.pools WHERE of_owner IS NOT NULL;
INSERT INTO leadroute.caps (owner_id, per, maximum) SELECT owner_id, 'open', 3 FROM leadroute.owners;
SELECT leadroute.publish_policy('default', jsonb_build_object('leadroute', 1, 'steps', '[{"capability": "assignOwner"}]'::jsonb, 'rules',
    (SELECT jsonb_agg(jsonb_build_object('name', reference, 'when', format('source = %L', reference), 'owner', reference) ORDER BY owner_id) FROM leadroute.owners)), 'each');
SELECT leadroute.activate_policy('default');
});
	$node->safe_psql('postgres', "INSERT INTO leads (source) VALUES ('more$_'), ('more$_')") foreach 1 .. 40;
	is($node->safe_psql('postgres', $apart), '', 'full: counters that are not in use make room for others');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM leadroute.lead_states WHERE outcome = 'assigned'}), '80', 'full: and every lead is counted');
	$node->safe_psql('postgres', "INSERT INTO leads (source) VALUES ('more$_'), ('more$_')") foreach 1 .. 40;
	is($node->safe_psql('postgres', q{SELECT count(*) FROM leadroute.lead_states WHERE outcome = 'assigned'}), '120', 'full: once more, up to the caps');

	my (undef, undef, $err) = in_psql($node, q{UPDATE leadroute.lead_states SET finished_at = now()}, 'postgres', extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	like($err, qr/ERROR:  53400: there is no room for another counter of caps/, 'full: a transaction that needs more counters fails');
	like($err, qr/HINT:  Raise "leadroute.max_counters"/, 'full: and hears what to raise');
	is($node->safe_psql('postgres', $apart), '', 'full: which changes no count');
	foreach my $n (1 .. 10)
	{
		$node->safe_psql('postgres', qq{BEGIN; UPDATE leadroute.lead_states s SET finished_at = now() FROM leadroute.owners o WHERE o.owner_id = s.owner_id AND o.reference IN ('more1', 'more2'); PREPARE TRANSACTION 'g$n'; COMMIT PREPARED 'g$n'});
		$node->safe_psql('postgres', "INSERT INTO leads (source) VALUES ('more1'), ('more2')");
	}
	is($node->safe_psql('postgres', $apart), '', 'full: reservations of transactions that were prepared make room');
	# each savepoint that is open has its own
	my $nested = join('; ', map { "SAVEPOINT s$_; INSERT INTO leads (source) VALUES ('o" . (1 + $_ % 4) . "')" } 1 .. 22);
	(undef, undef, $err) = in_psql($node, "BEGIN; UPDATE leadroute.caps SET maximum = 100; $nested; COMMIT");
	like($err, qr/there is no room for another reservation.*leadroute.max_reservations/s, 'full: reservations that are in use do not');
	is($node->safe_psql('postgres', $apart), '', 'full: nor does that change a count');
	$node->stop;
}

# Another database has counters of its own; an extension that is made anew begins at nothing.
sub other_databases
{
	my $node = new_server('databases', "shared_preload_libraries = 'leadroute'\n");
	$node->start;
	my $cap = q{INSERT INTO leadroute.caps (owner_id, per, maximum) SELECT owner_id, 'day', 2 FROM leadroute.owners};
	$node->safe_psql('postgres', 'CREATE DATABASE other');
	foreach my $database ('postgres', 'other')
	{
		$node->safe_psql($database, "$setup $cap");
		$node->safe_psql($database, q{INSERT INTO leads (source) SELECT 'p' FROM generate_series(1, 10)});
		is($node->safe_psql($database, 'SELECT sum(taken), sum(recounted) FROM leadroute.cap_usage()'), '8|8', "$database: each owner has what the cap says");
	}
	$node->safe_psql('other', "DROP TABLE leads; DROP EXTENSION leadroute CASCADE; $setup $cap");
	$node->safe_psql('other', q{INSERT INTO leads (source) SELECT 'p' FROM generate_series(1, 10)});
	is($node->safe_psql('other', 'SELECT sum(taken), sum(recounted) FROM leadroute.cap_usage()'), '8|8', 'an extension that is made anew counts anew');
	$node->stop;
}
