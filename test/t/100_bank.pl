# The bank marketing leads: 41,188 people, routed as a data team would do it. What has to come out is computed by plain SQL
# over the raw table (test/bank/oracle.sql) and compared lead by lead.
use strict;
use warnings FATAL => 'all';

use LeadrouteTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $file = ($ENV{DATASETS} // '') . '/bank-additional-full.csv';
plan skip_all => 'DATASETS names no folder with bank-additional-full.csv' unless -r $file;

my $columns = 'age, job, marital, education, "default", housing, loan, contact, month, day_of_week, duration, campaign, pdays, previous, poutcome, '
  . '"emp.var.rate", "cons.price.idx", "cons.conf.idx", euribor3m, "nr.employed", y';

my $node = new_server('bank', "shared_buffers = 128MB\nfsync = off\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION leadroute');
$node->safe_psql('postgres', slurp_file('test/bank/table.sql'));
$node->safe_psql('postgres', 'CREATE TABLE bank_raw (LIKE bank_leads INCLUDING IDENTITY)');
$node->safe_psql('postgres', slurp_file('test/bank/policy.sql'));
sub query { return $node->safe_psql('postgres', $_[0]); }

foreach my $table (qw(bank_raw bank_leads))
{
	my $started = time;
	query("COPY $table ($columns) FROM '$file' WITH (FORMAT csv, HEADER, DELIMITER ';')");
	note sprintf '%s: %.2f s', $table, time - $started;
}
query(slurp_file('test/bank/oracle.sql'));

# All of it, lead by lead.
query('CREATE TABLE routed AS SELECT k.key AS line, d.*, s.tier AS state_tier, s.score AS state_score, s.outcome AS state_outcome
	FROM leadroute.decisions d JOIN leadroute.lead_keys k USING (lead_id) JOIN leadroute.lead_states s USING (lead_id)');
is(query('SELECT count(*), count(DISTINCT line), count(DISTINCT lead_id), count(*) FILTER (WHERE current) FROM routed'),
	'41188|41188|41188|41188', 'each lead has one decision, which is its current one');
is(query(q{SELECT count(*) FROM leadroute.lead_states WHERE outcome IN ('assigned', 'nurture', 'rejected', 'no_rule', 'quarantined') AND closed_at IS NULL}),
	'41188', 'each lead has one outcome');
is( query('SELECT count(*) FROM bank_expected e FULL JOIN routed r USING (line)
	WHERE (e.outcome, e.reason_code, e.rule, e.score, e.tier) IS DISTINCT FROM (r.outcome::text, r.reason_code, r.rule, r.score, r.state_tier)'),
	'0', 'outcome, reason, rule, score and tier of each lead are what plain SQL says');
is( query('SELECT count(*) FROM bank_expected e FULL JOIN routed r USING (line) WHERE (e.pool, e.owner) IS DISTINCT FROM (r.pool, r.owner)'),
	'0', 'each lead went to the owner whose turn it was');
is(query('SELECT count(*) FROM routed WHERE (outcome, score) IS DISTINCT FROM (state_outcome, state_score)'), '0', 'states say what decisions say');

# In figures, which a reader can check against the file with other tools.
is( query('SELECT outcome, reason_code, count(*) FROM leadroute.lead_states GROUP BY 1, 2 ORDER BY 1, 2'),
	"assigned|rule_matched|37527\nnurture|called_too_often|869\nnurture|low_score|2789\nrejected|in_default|3", 'counts by outcome');
is( query('SELECT owner, count(*) FROM routed WHERE owner IS NOT NULL GROUP BY 1 ORDER BY 1'),
	"agent-11|1107\nagent-12|554\nagent-21|9590\nagent-22|6393\nagent-23|6393\nagent-31|5473\nagent-32|5473\nagent-41|2544",
	'counts by owner');
is(query(q{SELECT leadroute.lead_of('bank_leads', '41189') IS NOT NULL, leadroute.lead_of('bank_leads', '1') IS NULL}), 't|t', 'the key of a lead is its line in the file');
is( query(q{SELECT b.age, b.job, b.poutcome FROM bank_leads b WHERE line = 3}), '57|services|nonexistent', 'and so is its external id');
is( query(q{SELECT e.evidence #>> '{attributes,external_id}', e.evidence #>> '{attributes,country}', e.evidence #>> '{attributes,consent_basis}'
	FROM (SELECT leadroute.entry_evidence(evidence, policy_version_id) AS evidence FROM leadroute.entries WHERE lead_id = leadroute.lead_of('bank_leads', '3')) e}),
	'3|PT|existing_customer', 'the record has what the mapping states');

# What describes a person is not in the record.
is( query(q{SELECT count(*) FROM leadroute.entries e, unnest(ARRAY['blue-collar', 'housemaid', 'technician', 'married', 'divorced', 'university.degree', 'high.school']) v
	WHERE position(convert_to(v, 'UTF8') IN e.evidence) > 0}), '0', 'no job, marital status or education in the record');
isnt(query(q{SELECT count(*) FROM leadroute.entries e WHERE position(convert_to('nonexistent', 'UTF8') IN e.evidence) > 0}), '0',
	'what is classed plain is there');

# Nothing is left to do, and nothing is done twice.
is(query('SELECT leadroute.route_pending()'), '0', 'no lead waits');
is(query('SELECT count(*) FILTER (WHERE changed), count(*) FROM leadroute.route_leads(ARRAY(SELECT lead_id FROM leadroute.lead_states ORDER BY lead_id LIMIT 1000))'),
	'0|1000', 'leads routed again by hand keep their decisions');
is(query('SELECT count(*) FROM leadroute.entries'), '41188', 'and the record did not grow');
is(query('SELECT * FROM leadroute.reconcile()'), '', 'rows, states and decisions agree');

my $started = time;
is(query('SELECT v.verdict, count(*) FROM leadroute.entries e, LATERAL leadroute.verify_decision(e.run_id) v GROUP BY 1'), 'identical|41188', 'every decision verifies');
note sprintf 'verified in %.1f s', time - $started;

# Age and marital status are protected, and so is what is known only after the call.
my $scorecard = q{SELECT leadroute.publish_scorecard('term_deposit', jsonb_set(document, '{characteristics}', document -> 'characteristics' ||
	'[{"code": "it", "bins": [{"when": "%s", "points": 5}]}]') || '%s', 'test')
	FROM leadroute.documents WHERE kind = 'scorecard' AND name = 'term_deposit' AND version = 1};
foreach my $protected (['age', "(attributes->>''age'')::int >= 60"], ['marital', "attributes->>''marital'' = ''single''"],
	['duration', "(attributes->>''duration'')::int > 300"], ['y', "attributes->>''y'' = ''yes''"])
{
	my ($status, undef, $message) = in_psql($node, sprintf($scorecard, $protected->[1], '{}'));
	is($status, 3, "a scorecard that reads $protected->[0] is refused");
	like($message, qr/attribute "attributes\.$protected->[0]" is protected, and the scorecard reads it/, 'and it says why');
}
is(query(sprintf($scorecard, "(attributes->>''age'')::int >= 60", '{"justifications": {"attributes.age": "The bank gives pensioners a better rate: approved by compliance."}}')),
	'2', 'with a justification on record it passes');
is(query(q{SELECT document #>> '{justifications,attributes.age}' FROM leadroute.documents WHERE kind = 'scorecard' AND version = 2}),
	'The bank gives pensioners a better rate: approved by compliance.', 'which stays with that version');
my $policy = q{SELECT leadroute.publish_policy('bank', jsonb_set(d, '{rules}', d -> 'rules' ||
	'[{"name": "last", "priority": 99, "when": "attributes->>''marital'' = ''single''", "pool": "mobile"}]') || '%s', 'test')
	FROM leadroute.policy_document('bank', 1) AS d};
my ($status, undef, $message) = in_psql($node, sprintf($policy, '{}'));
is($status, 3, 'a rule that reads marital is refused');
like($message, qr/attribute "attributes\.marital" is protected, and the policy reads it/, 'and it says why');
is(query(sprintf($policy, '{"justifications": {"attributes.marital": "Couples decide together: two seats at the table."}}')), '2', 'with a justification on record it passes');

$node->stop;
done_testing();
