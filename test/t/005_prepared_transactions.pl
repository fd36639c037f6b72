# Leads inserted in a prepared transaction are routed when it is prepared, survive a crash with it, and appear or vanish with it.
use strict;
use warnings FATAL => 'all';

use LeadrouteTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

foreach my $preload ('', 'leadroute')
{
	my $what = $preload ? 'preloaded' : 'plain';
	my $node = new_server($what, "shared_preload_libraries = '$preload'\nmax_prepared_transactions = 10\n");
	$node->start;
	$node->safe_psql('postgres', q{
CREATE EXTENSION leadroute;
SELECT leadroute.setup(owners => '{anna,bo,cleo}');
CREATE TABLE visits (id uuid PRIMARY KEY, email text, country text, consent boolean, source text);
SELECT leadroute.attach_table('visits', classes => leadroute.standard_classes());
});
	# Nobody has routed a lead yet: that the first one is only prepared is in nobody's way.
	$node->safe_psql('postgres', q{BEGIN; INSERT INTO leads (email, country, consent) VALUES ('gone@acme.example', 'DE', true); PREPARE TRANSACTION 'first'});
	$node->safe_psql('postgres', q{SET lock_timeout = '20s'; INSERT INTO leads (email, country, consent, source) VALUES ('first@acme.example', 'DE', true, 'first')});
	$node->safe_psql('postgres', q{ROLLBACK PREPARED 'first'});

	# Prepared: new leads, one routed again, one deleted, one waiting, one in a keyed table.
	my $work = q{
INSERT INTO leads (email, country, consent, source) SELECT n || '@acme.example', 'DE', true, '%s' FROM generate_series(1, 3) n;
INSERT INTO visits SELECT md5('%s' || n)::uuid, n || '@visitor.example', 'DE', true, '%s' FROM generate_series(1, 2) n;
SAVEPOINT a;
INSERT INTO leads (email, source) VALUES ('never@acme.example', 'never');
ROLLBACK TO a;
SET LOCAL leadroute.enabled = off;
INSERT INTO leads (email, country, consent, source) VALUES ('waiting@acme.example', 'DE', true, '%s');
};
	foreach my $name ('kept', 'dropped')
	{
		$node->safe_psql('postgres', 'BEGIN;' . ($work =~ s/%s/$name/gr) . "PREPARE TRANSACTION '$name'");
	}
	$node->safe_psql('postgres', q{INSERT INTO leads (email, country, consent, source) VALUES ('meanwhile@acme.example', 'DE', true, 'meanwhile')});

	is(outcomes($node), "first|assigned|1\nmeanwhile|assigned|1", "$what: what is prepared is not seen yet, and is in nobody's way");
	kill_server($node);
	$node->start;
	is(outcomes($node), "first|assigned|1\nmeanwhile|assigned|1", "$what: nor after a crash");
	is($node->safe_psql('postgres', 'SELECT gid FROM pg_prepared_xacts ORDER BY 1'), "dropped\nkept", "$what: both transactions are still prepared");
	$node->safe_psql('postgres', q{INSERT INTO leads (email, country, consent, source) VALUES ('after@acme.example', 'DE', true, 'after')});

	$node->safe_psql('postgres', q{COMMIT PREPARED 'kept'});
	$node->safe_psql('postgres', q{ROLLBACK PREPARED 'dropped'});
	is( outcomes($node),
		"after|assigned|1\nfirst|assigned|1\nkept|pending|1\nkept|assigned|5\nmeanwhile|assigned|1",
		"$what: what is committed is there with its states, what is rolled back is not");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM leadroute.decisions WHERE current'), '8', "$what: each decided lead has its decision");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM leadroute.entries'), '8', "$what: and nothing else is on record");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM leadroute.lead_keys'), '2', "$what: keys are those of the rows that are there");
	is($node->safe_psql('postgres', 'SELECT * FROM leadroute.reconcile()'), '', "$what: rows, states and decisions agree");
	is( $node->safe_psql('postgres', 'SELECT DISTINCT v.verdict FROM leadroute.decisions d, LATERAL leadroute.verify_decision(d.decision_id) v'),
		'identical', "$what: every decision verifies");
	is($node->safe_psql('postgres', q{SELECT leadroute.route_pending(); SELECT count(*) FROM leadroute.unrouted_leads}), "1\n0", "$what: what waited is routed");

	# Turns that were rolled back are gaps; none comes twice.
	$node->safe_psql('postgres', q{INSERT INTO leads (email, country, consent, source) VALUES ('last@acme.example', 'DE', true, 'last')});
	is($node->safe_psql('postgres', 'SELECT turn FROM leadroute.entries WHERE turn IS NOT NULL GROUP BY 1 HAVING count(*) > 1'), '', "$what: no turn was drawn twice");
	is( $node->safe_psql('postgres', q{SELECT max(turn) - count(turn) + 1 >= 6, max(turn) = (SELECT max(turn) FROM leadroute.decisions d JOIN leads USING (lead_id) WHERE source = 'last')
			FROM leadroute.entries}),
		't|t', "$what: the turns that were rolled back are gaps, and the rotation goes on behind them");

	# A row whose lead is closed, or routed again, in a prepared transaction.
	$node->safe_psql('postgres', q{
BEGIN;
DELETE FROM leads WHERE source = 'first';
UPDATE leads SET company_size = 2000 WHERE source = 'after';
SELECT leadroute.route_lead(lead_id, 'grown') FROM leads WHERE source = 'after';
PREPARE TRANSACTION 'changes'});
	kill_server($node);
	$node->start;
	is($node->safe_psql('postgres', q{SELECT count(*) FROM leadroute.decisions WHERE note = 'grown'}), '0', "$what: a prepared change is not seen after a crash");
	$node->safe_psql('postgres', q{COMMIT PREPARED 'changes'});
	is( $node->safe_psql('postgres', q{SELECT outcome, cause, current, supersedes IS NOT NULL FROM leadroute.decisions WHERE note = 'grown';
			SELECT closed_reason, count(*) FROM leadroute.lead_states WHERE closed_at IS NOT NULL GROUP BY 1}),
		"assigned|manual|t|t\ndeleted|1", "$what: committed, the lead is routed again and the deleted one closed");
	is($node->safe_psql('postgres', 'SELECT * FROM leadroute.reconcile()'), '', "$what: rows, states and decisions still agree");
	$node->stop;
}
done_testing();

# States of the rows that are there, by what the rows say they are.
sub outcomes
{
	my ($node) = @_;
	return $node->safe_psql(
		'postgres', q{
SELECT coalesce(l.source, v.source), s.outcome, count(*)
FROM leadroute.lead_states s LEFT JOIN leads l USING (lead_id) LEFT JOIN leadroute.lead_keys k USING (lead_id) LEFT JOIN visits v ON v.id::text = k.key
WHERE s.closed_at IS NULL GROUP BY 1, 2 ORDER BY 1, 2});
}
