# A server that dies amid inserts comes back with each lead, its state and its decision, or with none of the three.
#
# Four sessions insert in every way; everything is killed at a random moment, several times over. What was acknowledged has
# to be there; what is there has to be whole; the rotation goes on without drawing a turn twice.
use strict;
use warnings FATAL => 'all';

use LeadrouteTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $seed = seed_of();
my $rounds = 3;
my $sessions = 4;

my $setup = q{
CREATE EXTENSION leadroute;
SELECT leadroute.setup(owners => '{anna,bo,cleo}');
INSERT INTO leadroute.owners (reference) VALUES ('dora'), ('emil');
INSERT INTO leadroute.pools (name) VALUES ('large');
INSERT INTO leadroute.pool_members SELECT p.pool_id, o.owner_id, o.owner_id FROM leadroute.pools p, leadroute.owners o
    WHERE p.name = 'large' AND o.reference IN ('dora', 'emil');
SELECT leadroute.publish_policy('default', '{"leadroute": 1,
    "steps": [{"capability": "validateContact"}, {"capability": "checkRegionalCompliance"}, {"capability": "computeLeadScore"}, {"capability": "assignOwner"}],
    "rules": [{"name": "large", "when": "company_size > 100", "pool": "large"}, {"name": "others", "when": "true", "pool": "inbound"}]}', 'test');
SELECT leadroute.activate_policy('default');
CREATE TABLE visits (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), email text, country text, consent boolean, source text, company_size int);
SELECT leadroute.attach_table('visits', classes => leadroute.standard_classes());
};

my $totals = q{
SELECT (SELECT count(*) FROM leads) + (SELECT count(*) FROM visits), (SELECT count(*) FROM leadroute.lead_states WHERE closed_at IS NULL),
       (SELECT count(*) FROM leadroute.decisions WHERE current)};

foreach my $preload ('', 'leadroute')
{
	my $what = $preload ? 'preloaded' : 'plain';
	my $node = new_server($what, "shared_preload_libraries = '$preload'\nautovacuum_naptime = 1s\nmax_wal_size = 2GB\n");
	$node->start;
	$node->safe_psql('postgres', $setup);

	foreach my $round (1 .. $rounds)
	{
		my $name = "$what, round $round";
		my @acknowledged = insert_and_kill($node, $round);
		$node->start;

		my ($leads, $states, $decisions) = split /\|/, $node->safe_psql('postgres', $totals);
		note("$name: $leads leads, " . scalar(@acknowledged) . ' acknowledged one by one');
		is($states, $leads, "$name: as many open states as leads");
		is($decisions, $leads, "$name: as many current decisions as leads");
		is($node->safe_psql('postgres', 'SELECT * FROM leadroute.reconcile() LIMIT 10'), '', "$name: rows, states and decisions agree");
		is($node->safe_psql('postgres', 'SELECT * FROM leadroute.unrouted_leads LIMIT 10'), '', "$name: no lead waits");
		is( $node->safe_psql('postgres', 'SELECT id FROM unnest(ARRAY[' . join(',', @acknowledged) . q{]::bigint[]) AS id
				WHERE NOT EXISTS (SELECT FROM leads WHERE lead_id = id) LIMIT 10}),
			'', "$name: no lead is lost whose insert was acknowledged");
		is($node->safe_psql('postgres', q{SELECT count(*) FROM leads WHERE source = 'never'}), '0', "$name: what was rolled back is not there");
		is( $node->safe_psql('postgres', q{SELECT count(*) FROM leadroute.lead_keys k WHERE NOT EXISTS (SELECT FROM visits v WHERE v.id::text = k.key)}),
			'0', "$name: no key without its row");

		# The rotation goes on: new turns, each owner in turn.
		my $turn = $node->safe_psql('postgres', q{SELECT coalesce(max(turn), -1) FROM leadroute.decisions WHERE pool = 'inbound'});
		is( $node->safe_psql(
				'postgres', q{INSERT INTO leads (email, country, consent, source) SELECT 'next' || n || '@acme.example', 'DE', true, 'next' FROM generate_series(1, 6) n;
				SELECT owner, count(*), min(turn) > } . $turn . q{ FROM leadroute.decisions WHERE decision_id IN
				    (SELECT decision_id FROM leadroute.decisions ORDER BY decision_id DESC LIMIT 6) GROUP BY 1 ORDER BY 1}),
			"anna|2|t\nbo|2|t\ncleo|2|t", "$name: the next leads are routed, in turn");
		is( $node->safe_psql('postgres', 'SELECT pool_id, turn FROM leadroute.entries WHERE turn IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1'),
			'', "$name: no turn was drawn twice");
		is($node->safe_psql('postgres', 'SELECT run_id FROM leadroute.entries GROUP BY 1 HAVING count(*) > 1'), '', "$name: no run id was used twice");
		is( $node->safe_psql(
				'postgres', q{SELECT DISTINCT v.verdict FROM (SELECT decision_id FROM leadroute.decisions ORDER BY decision_id DESC LIMIT 100) d,
				LATERAL leadroute.verify_decision(d.decision_id) v}),
			'identical', "$name: the latest decisions verify");
	}
	$node->stop;
}
done_testing();

# Runs the sessions, kills the server, and returns the leads whose inserts were acknowledged.
sub insert_and_kill
{
	my ($node, $round) = @_;
	my @bases = map { $node->basedir . "/round$round-$_" } 1 .. $sessions;
	append_to_file("$bases[$_ - 1].sql", script($round, $_)) foreach 1 .. $sessions;
	my @running;
	foreach my $base (@bases)
	{
		my @command = ('psql', '-XAtq', '-d', $node->connstr('postgres'), '-f', "$base.sql");
		push @running, { base => $base, process => IPC::Run::start(\@command, '>', "$base.out", '2>', "$base.err") };
	}
	# The first round dies about when keys, partitions and plans are made; later ones when all have inserted something.
	if ($round > 1)
	{
		foreach my $run (@running)
		{
			wait_until(sub { -s "$run->{base}.out" }, 'each session has inserted');
		}
	}
	usleep(int(rand($round == 1 ? 30_000 : 800_000)));
	kill_server($node);

	my @acknowledged;
	foreach my $run (@running)
	{
		eval { $run->{process}->finish; };
		like(slurp_file("$run->{base}.err"), qr/server closed the connection|connection to server|could not|terminating/, "round $round: the session lost its server");
		push @acknowledged, grep { /^\d+$/ } split /\n/, slurp_file("$run->{base}.out") =~ s/[^\n]*\z//r;
	}
	return @acknowledged;
}

# Writes what one session does: statements of all kinds; ids of leads are printed once they are committed.
sub script
{
	my ($round, $session) = @_;
	my $source = "r$round-s$session";
	my $into = 'INSERT INTO leads (email, country, consent, source, company_size) VALUES';
	my $n = 0;
	my $row = sub {
		my ($from) = @_;
		$n++;
		return "('p$n\@$source.example', '" . (qw(DE US BR FR XX))[ int rand 5 ] . "', " . (rand() < 0.8 ? 'true' : 'NULL') . ", '$from', " . int(rand(200)) . ')';
	};
	my $rows = sub { join(', ', map { $row->($source) } 1 .. 2 + int rand 20) };
	my @statements;
	foreach (1 .. 4000)
	{
		my $kind = rand();
		if ($kind < 0.35) { push @statements, "$into " . $row->($source) . ' RETURNING lead_id;'; }
		elsif ($kind < 0.55) { push @statements, "$into " . $rows->() . ' RETURNING lead_id;'; }
		elsif ($kind < 0.65)
		{
			push @statements, 'COPY leads (email, country, consent, source, company_size) FROM STDIN;',
			  (map { "c$_-" . $n++ . "\@$source.example\tUS\tt\t$source\t" . int(rand(200)) } 1 .. 1 + int rand 10), '\.';
		}
		elsif ($kind < 0.75) { push @statements, "BEGIN; $into " . $row->('never') . '; ROLLBACK;'; }
		elsif ($kind < 0.82)
		{
			push @statements, "BEGIN; $into " . $row->($source) . "; SAVEPOINT a; $into " . $row->('never') . "; ROLLBACK TO a; $into " . $rows->() . '; COMMIT;';
		}
		elsif ($kind < 0.90) { push @statements, 'INSERT INTO visits (email, country, consent, source, company_size) VALUES ' . $rows->() . ';'; }
		elsif ($kind < 0.97)
		{
			my $which = "lead_id = (SELECT max(lead_id) FROM leads WHERE source = '$source')";
			push @statements, "BEGIN; UPDATE leads SET company_size = " . int(rand(200)) . " WHERE $which; "
			  . "DO \$\$ BEGIN PERFORM leadroute.route_lead(lead_id, 'changed') FROM leads WHERE $which; END \$\$; COMMIT;";
		}
		else
		{
			push @statements, "INSERT INTO leads (email, country, consent, source, company_size) SELECT 'b' || g || '\@$source.example', 'DE', true, '$source', g "
			  . 'FROM generate_series(1, 100) g;';
		}
	}
	return join("\n", @statements) . "\n";
}
