# The server's log, and what a client is told, holds no value of a lead, whatever fails on the way.
#
# Each field of a lead carries a marker; leads then meet agents, conditions and scorecards that fail in every way, with errors
# that quote the lead. What PostgreSQL itself logs of failing statements is not ours to hide, so log_min_error_statement is
# off: it would print the text of a failing INSERT, values included, as it does without leadroute.
use strict;
use warnings FATAL => 'all';

use LeadrouteTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', "log_min_messages = debug1\nlog_min_error_statement = panic\nlog_error_verbosity = verbose\n");
$node->start;

# Texts carry the word; numbers and times are told by their digits.
my $word = 'zqxjk';
my $marker = qr/$word|918273645|192837465|1987-06-05/;
my $told = '';

$node->safe_psql('postgres', q{
CREATE EXTENSION leadroute;
SELECT leadroute.setup(owners => '{anna,bo}');
DROP TABLE leads;
CREATE DOMAIN short AS text CHECK (length(value) < 20);
CREATE TABLE contacts (
    external_id text, source_system text, source text, country text, region text, language text, industry text, company text, domain text, company_size text,
    email text, phone text, consent boolean, consent_basis text, consent_at text, consent_channels text[], prior_interactions integer, attributes jsonb,
    received_at timestamptz, traceparent text, own text, amount numeric, id text PRIMARY KEY);
SELECT leadroute.attach_table('contacts');
CREATE TABLE staged (LIKE contacts);
});

# Leads of every sort: sound ones, and ones whose attributes cannot be read; all with markers everywhere.
my $staged = $node->basedir . '/staged.copy';
my @fields = (
	"$word id", "$word system", "$word source", 'DE', "$word region", $word, "$word industry", "$word GmbH", "$word.example", '918273645',
	"$word\@$word.example", '+49 30 918273645', 't', "$word", '1987-06-05 04:03:02.123456', "{$word,email}", '192837465',
	qq({"seats": "$word", "$word": ["$word", 918273645], "date": "1987-06-05"}), '1987-06-05 04:03:02.123456', "$word-traceparent", "$word own", '918273645.5');
my @lines;
foreach my $variant (0 .. 5)
{
	my @line = @fields;
	$line[9] = "$word is no number" if $variant == 1;
	$line[14] = "$word is no time" if $variant == 2;
	$line[10] = "$word at $word" if $variant == 3;
	$line[3] = $word if $variant == 4;
	$line[17] = '{}' if $variant == 5;
	push @lines, join("\t", @line);
}

# Agents that fail, each in its own way, quoting the lead; and one that does not.
my %agents = (
	raises => q{RAISE EXCEPTION '%', lead USING DETAIL = lead::text, HINT = lead::text},
	raisesAgain => q{RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = lead::text},
	divides => q{RETURN to_jsonb((lead ->> 'prior_interactions')::int / 0)},
	casts => q{RETURN to_jsonb((lead ->> 'email')::int)},
	checks => q{RETURN to_jsonb((lead -> 'attributes')::text::short)},
	violates => q{INSERT INTO seen VALUES (lead ->> 'email'); INSERT INTO seen VALUES (lead ->> 'email'); RETURN '{}'},
	executes => q{EXECUTE 'SELECT ' || quote_ident(lead ->> 'email'); RETURN '{}'},
	asserts => q{ASSERT false, lead::text; RETURN '{}'},
	returnsText => q{RETURN to_jsonb(lead ->> 'email')},
	returnsNull => q{RETURN NULL},
	recurses => q{RETURN jsonb_populate_record(NULL::typed, lead)::text::jsonb},
	works => q{RETURN jsonb_build_object('known', lead ? 'email')});
$node->safe_psql('postgres', 'CREATE TABLE seen (email text PRIMARY KEY); CREATE TYPE typed AS (email int, phone point)');
foreach my $agent (sort keys %agents)
{
	$node->safe_psql('postgres', "CREATE FUNCTION \"$agent\"(lead jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$f\$ BEGIN $agents{$agent}; END \$f\$;
		SELECT leadroute.register_agent('$agent', '1', '{$agent}', '\"$agent\"(jsonb)')");
}
# Conditions that fail, in rules, in stop conditions and in a scorecard.
my @conditions = ("(attributes->>'seats')::int > 5", "length(email) / 0 > 1", "email::int = 1", "(attributes->>'date')::timestamptz - external_id::interval > as_of",
	"attributes @> email::jsonb", "company_size / (prior_interactions - prior_interactions) = 1", "email ~ ('(' || email)");
my $rules = join ',', map { qq({"name": "r$_", "when": "$conditions[$_]", "pool": "inbound"}) } 0 .. $#conditions;
my $assign = qq({"capability": "assignOwner"});
my $all = qq("rules": [$rules, {"name": "all", "when": "true", "pool": "inbound"}]);

# Policies to meet: with one failing agent each, with all of them, with conditions that fail at each place.
my %policies = (
	(map { ("agent $_" => qq("steps": [{"capability": "validateContact"}, {"capability": "$_"}, $assign], "rules": [{"name": "all", "when": "true", "pool": "inbound"}])) } keys %agents),
	'all agents, skipped' => '"steps": [' . join(',', map { qq({"capability": "$_", "on_error": "skip"}) } sort keys %agents) . qq(, $assign], $all),
	'rules' => qq("steps": [$assign], $all),
	'all built in' => qq("steps": [{"capability": "validateContact", "stop_when": []}, {"capability": "checkRegionalCompliance", "stop_when": []},
		{"capability": "enrichWithFirmographicData"}, {"capability": "computeLeadScore"}, $assign], $all),
	(map { ("stop $_" => qq("steps": [{"capability": "validateContact", "stop_when": [{"when": "$conditions[$_]", "outcome": "rejected", "reason": "x"}]}, $assign],
		"rules": [{"name": "all", "when": "true", "pool": "inbound"}])) } 0 .. $#conditions),
	(map { ("scorecard $_" => qq("steps": [{"capability": "computeLeadScore", "scorecard": "s$_"}, $assign], "rules": [{"name": "all", "when": "true", "pool": "inbound"}])) } 0 .. $#conditions));
foreach my $n (0 .. $#conditions)
{
	my $scorecard = qq({"characteristics": [{"code": "c", "bins": [{"when": "$conditions[$n]", "points": 5}]}], "tiers": [{"tier": "A", "from": 0}]});
	$node->safe_psql('postgres', "SELECT leadroute.publish_scorecard('s$n', \$d\$$scorecard\$d\$, 'test')");
}

my $n = 0;
foreach my $name (sort keys %policies)
{
	my $document = "{\"leadroute\": 1, $policies{$name}}";
	$node->safe_psql('postgres', "SELECT leadroute.publish_policy('default', \$d\$$document\$d\$, 'test'); SELECT leadroute.activate_policy('default')");
	my $copy = sub { join("\n", 'COPY contacts FROM STDIN;', (map { "$_\t$word key " . $n++ } @_), '\.') . "\n" };
	# Inserted, one by one where that fails; then by hand, after a change, and gone.
	my ($status, $out, $err) = in_psql(
		$node, "\\set ON_ERROR_STOP 1\n" . $copy->(@lines) . "\\set ON_ERROR_STOP 0\nSET leadroute.on_error = abort;\n" . join('', map { $copy->($_) } @lines) . q{
\set ON_ERROR_STOP 1
SET leadroute.on_error = record;
SELECT leadroute.route_leads(ARRAY(SELECT lead_id FROM leadroute.lead_states WHERE closed_at IS NULL ORDER BY lead_id DESC LIMIT 6), 'again');
UPDATE contacts SET id = id || 'b' WHERE id = (SELECT min(id) FROM contacts);
DELETE FROM contacts WHERE id = (SELECT max(id) FROM contacts);
}, undef, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	is($status, 0, "$name: leads go in, are routed by hand, change and go") or diag($err);
	$told .= $out . $err;
}
cmp_ok($node->safe_psql('postgres', q{SELECT count(DISTINCT sqlstate || coalesce(place, '')) FROM leadroute.provenance WHERE status = 'failed'}),
	'>=', 8, 'agents and conditions did fail in many ways');
is($node->safe_psql('postgres', q{SELECT count(*) > 20 FROM leadroute.decisions WHERE reason_code = 'agent_failed'}), 't', 'and leads were quarantined for it');
is($node->safe_psql('postgres', q{SELECT count(*) > 20 FROM leadroute.decisions WHERE reason_code = 'unreadable_attribute'}), 't', 'or because they could not be read');
like($told, qr/ERROR:  22P02: agent "casts" version "1" failed for a lead/, 'with on_error = abort the client is told of the agent');

# Nothing of a lead is in what was logged or told; nor on record, where no attribute is classed plain.
my $log = slurp_file($node->logfile);
like($log, qr/DEBUG:/, 'the log is a talkative one');
unlike($log, qr/($marker)/, 'no marker in the log') or diag(join "\n", grep { /$marker/ } split /\n/, $log);
unlike($told, qr/($marker)/, 'no marker in what clients were told') or diag(join "\n", grep { /$marker/ } split /\n/, $told);
my $record = views_of($node, 'postgres') . $node->safe_psql('postgres', q{SELECT encode(evidence, 'escape'), e.* FROM leadroute.entries e})
  . $node->safe_psql('postgres', 'SELECT x FROM (SELECT decision_id FROM leadroute.decisions ORDER BY 1 DESC LIMIT 500) d, LATERAL leadroute.explain_decision(decision_id) x');
unlike($record, qr/($marker)/, 'no marker on record') or diag(join "\n", (grep { /$marker/ } split /\n/, $record)[0 .. 2]);

# The search would find one.
in_psql($node, "SELECT '$word'::int");
like(slurp_file($node->logfile), qr/invalid input syntax for type integer: "$word"/, 'a marker that PostgreSQL logs is found');
$node->stop;
done_testing();
