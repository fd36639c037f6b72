# A dump carries everything: the restored database shows and verifies the same, routes nothing again, and goes on.
use strict;
use warnings FATAL => 'all';

use LeadrouteTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main');
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE original');
rich_routing($node, 'original');
# accounts of a table of the team's, and one by hand
$node->safe_psql('original', q{
CREATE TABLE team.crm_accounts (id text PRIMARY KEY, name text, website text, more text, csm text);
INSERT INTO team.crm_accounts VALUES ('1', 'Acme GmbH', 'acme.example', 'acme.test', 'anna'), ('2', 'Tiny', 'tiny.example', NULL, NULL);
SELECT leadroute.attach_accounts('team.crm_accounts', '{"external_id": "id", "name": "name", "domain": "website", "domains": "more", "owners": {"CSM": "csm"}}');
INSERT INTO leadroute.accounts (name, type) VALUES ('By hand', 'partner')});
rich_policies('original');

my $views = views_of($node, 'original');
my $policies = policies_of('original');
my $verdicts = verdicts_of($node, 'original');
my $triggers = triggers_of($node, 'original');
my $sequences = sequences_of('original');
my $grants = grants_of('original');
my $rows = rows_of('original');

# The routing that is dumped has what it is said to have.
foreach my $line ('state|.*\|assigned\|', 'state|.*\|nurture\|low_score', 'state|.*\|rejected\|', 'state|.*\|quarantined\|agent_failed',
	'state\|.*\|no_policy', 'unrouted\|.*\|not_seen', 'unrouted\|.*\|routing_disabled', 'event\|.*\|closed\|', 'event\|.*\|routed again\|',
	'step\|.*\|weighLead\|', 'decision\|.*\|asked for\|')
{
	like($views, qr/^$line/m, "the original has a line $line");
}
foreach my $line ('draft\|growing\|events\|draft\|3\|1\|1\|', 'draft\|ready\|events\|checked\|', 'rule\|.*\|\{German,"French, too"\}\|', 'version\|events\|2\|\|scheduled\|',
	'version\|default\|4\|\|approved\|', 'act\|approve\|', 'act\|waive_approval\|.*\|required approval\|', 'trial\|.*\|canary\|0.5\|grain\|', 'trial\|.*\|aborted\|',
	'flag\|new_form\|t\|0.5\|', 'conversion\|', 'compared\|.*\|conversion.all\|', 'moved\|.*public.observed\|', 'table\|public.observed\|observe\|owner')
{
	like($policies, qr/^$line/m, "the original has a line $line");
}
like($views, qr/^decision\|.*\|$_\|/m, "the original has decisions of mode $_") foreach qw(canary shadow observed);
is(join("\n", $views =~ /^(problem\|.*)\|/mg), 'problem|public.waiting|row without a state', 'rows, states and decisions agree, but for the row nobody saw');
unlike($verdicts, qr/^different/m, 'no decision of the original is recomputed differently');

my $folder = $node->basedir;
my %dump = (plain => "$folder/original.sql", custom => "$folder/original.dump");
run_ok('pg_dump', 'original', '-f', $dump{plain});
run_ok('pg_dump', '-Fc', 'original', '-f', $dump{custom});

$node->safe_psql('postgres', 'CREATE DATABASE plain');
run_ok('psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump{plain}, '-d', 'plain');
$node->safe_psql('postgres', 'CREATE DATABASE custom');
run_ok('pg_restore', '-j2', '--exit-on-error', '-d', 'custom', $dump{custom});

foreach my $database ('plain', 'custom')
{
	is($node->safe_psql($database, 'SELECT leadroute.is_copy(), leadroute.resume_after_restore()'), 't|t', "$database: it is a copy, and may act");
	is($node->safe_psql($database, 'SELECT leadroute.is_copy()'), 'f', "$database: from then on it is none");
	is(rows_of($database), $rows, "$database: as many rows in every table");
	same(views_of($node, $database), $views, "$database: the views show the same");
	same(policies_of($database), $policies, "$database: drafts, versions, acts, trials, flags and what came of them are the same");
	same(verdicts_of($node, $database), $verdicts, "$database: every decision verifies as before");
	is($node->safe_psql($database, q{SELECT test, passed FROM leadroute.run_policy_tests('events')}), 'anybody|t', "$database: the tests of policies are there, and pass");
	is($node->safe_psql($database, q{SELECT leadroute.working_time('finn', '2026-04-27 00:00+02', '2026-07-01')}), '363:00:00', "$database: who works when is the same");
	same(triggers_of($node, $database), $triggers, "$database: each trigger is there once");
	same(sequences_of($database), $sequences, "$database: sequences stand where they stood");
	same(grants_of($database), $grants, "$database: grants are the same");
	run_ok('pg_dump', $database, '-f', "$folder/$database.sql");
	same(normalized("$folder/$database.sql"), normalized($dump{plain}), "$database: its dump is the same");
}

# Life goes on, in the original and in the restored ones alike: same ids, same turns, same owners.
my $next = q{
INSERT INTO leads (email, country, consent, company_size) VALUES ('next@acme.example', 'DE', true, 900), ('next@tiny.example', 'DE', true, 50);
INSERT INTO leads (email, country, consent, company_size) SELECT 'next' || i || '@acme.example', 'DE', true, 900 FROM generate_series(1, 9) AS i;
INSERT INTO team.visitors VALUES ('2025-05-05', md5('next')::uuid, 'next@visitor.example', 'DE', 'next');
INSERT INTO team.visitors_2024 VALUES ('2024-05-05', md5('next')::uuid, 'next@visitor.example', 'DE', 'next');
UPDATE team.visitors SET land = 'CH' WHERE note = 'stand 9';
DELETE FROM team.visitors WHERE note = 'stand 10';
SELECT leadroute.route_pending('leads');
INSERT INTO observed VALUES ('next', 'DE', 'somebody');
UPDATE team.crm_accounts SET website = 'acme.invalid' WHERE id = '1';
INSERT INTO team.crm_accounts VALUES ('3', 'Next AG', 'next.example', 'next.test', 'bo');
INSERT INTO leadroute.draft_rules (draft, name, condition) VALUES ('growing', 'next', 'true');
SELECT leadroute.publish_draft('ready', 'after all', force => true);
SELECT leadroute.promote_candidate('default', 'good enough');
-- the moment of what is scheduled comes
UPDATE leadroute.policies SET scheduled_at = now() - interval '1 minute' WHERE name = 'events';
INSERT INTO team.visitors VALUES ('2025-05-05', md5('later')::uuid, 'later@visitor.example', 'DE', 'later');
SELECT leadroute.rollback_policy('events', 'not good');
};
my $after = q{
SELECT lead_id, leads_table, outcome, owner, pool, rule, turn, cause, current FROM leadroute.decisions
WHERE as_of > (SELECT max(as_of) FROM before) ORDER BY lead_id, leads_table;
SELECT count(*) FROM leadroute.lead_states WHERE closed_at IS NOT NULL;
SELECT count(*) FROM leadroute.reconcile();
SELECT a.*, d.domain, o.role, o.owner_id FROM leadroute.accounts a LEFT JOIN leadroute.account_domains d USING (account_id) LEFT JOIN leadroute.account_owners o USING (account_id) ORDER BY account_id;
SELECT policy, version, draft, state, authors FROM leadroute.policy_version_states ORDER BY 1, 2, 3;
SELECT act, name, version, previous_version, reason, forced FROM leadroute.policy_history WHERE at > (SELECT max(at) FROM acts_before) ORDER BY at, act, name;
SELECT draft, position, name FROM leadroute.draft_rules ORDER BY draft, position;
SELECT policy, policy_version, mode, count(*) FROM leadroute.decisions WHERE as_of > (SELECT max(as_of) FROM before) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3};
my %went;
foreach my $database ('original', 'plain', 'custom')
{
	$node->safe_psql($database, 'CREATE TABLE before AS SELECT * FROM leadroute.decisions; CREATE TABLE acts_before AS SELECT * FROM leadroute.policy_history');
	$node->safe_psql($database, $next);
	$went{$database} = $node->safe_psql($database, $after);
	is( $node->safe_psql($database, 'SELECT count(*) FROM leadroute.decisions d JOIN before b USING (decision_id) WHERE d.as_of <> b.as_of'),
		'0', "$database: the next decisions have ids of their own");
	is($node->safe_psql($database, 'SELECT count(*), count(DISTINCT run_id) FROM leadroute.entries') =~ /^(\d+)\|\1$/,
		1, "$database: no run id is used twice");
	is($node->safe_psql($database, 'SELECT count(*) - count(DISTINCT (pool_id, turn)) FROM leadroute.entries WHERE turn IS NOT NULL AND mode IN ($$r$$, $$c$$)'),
		'0', "$database: no turn is drawn twice");
}
like($went{original}, qr/^\d+\|public\.leads\|assigned\|\w+\|enterprise\|large\|\d+\|insert\|t$/m, 'the next insert is routed by the active version');
like($went{original}, qr/^\d+\|1\|.*Next AG.*\|next ?\|.*\|next\.test\|CSM\|\d+$/m, 'a new row of the attached table is an account');
like($went{original}, qr/^events\|2\|routed\|1$/m, 'the scheduled activation takes effect');
is($went{plain}, $went{original}, 'plain: what comes next is decided as in the original');
is($went{custom}, $went{original}, 'custom: what comes next is decided as in the original');

# What restoring leaves unchecked is checked again: members of pools need their pool and their owner, owners
# and hours their calendar.
foreach my $case (
	[ q{INSERT INTO leadroute.pool_members (pool_id, owner_id) VALUES (1, 999)}, 'there is no owner 999' ],
	[ q{INSERT INTO leadroute.pool_members (pool_id, owner_id) VALUES (999, 1)}, 'there is no pool 999' ],
	[ q{UPDATE leadroute.pool_members SET owner_id = 999 WHERE owner_id = 1}, 'there is no owner 999' ],
	[ q{DELETE FROM leadroute.owners WHERE owner_id = 1}, 'owner 1 is a member of a pool' ],
	[ q{UPDATE leadroute.owners SET owner_id = 77 WHERE owner_id = 1}, 'owner 1 is a member of a pool' ],
	[ q{DELETE FROM leadroute.pools WHERE pool_id = 1}, 'pool 1 has members' ],
	[ q{UPDATE leadroute.pools SET pool_id = 77 WHERE pool_id = 1}, 'the id of pool 1 cannot change' ],
	[ q{TRUNCATE leadroute.owners}, 'owners still has members of pools' ])
{
	my ($statement, $message) = @$case;
	my (undef, undef, $error) = in_psql($node, $statement, 'custom', extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	like($error, qr/ERROR:  23503: $message/, $statement);
}
foreach my $case (
	[ q{DELETE FROM leadroute.calendars}, '23503: calendar 1 is in use by owners' ],
	[ q{INSERT INTO leadroute.calendar_hours VALUES (999, 1, '09:00', '12:00')}, '23503: there is no calendar 999' ],
	[ q{INSERT INTO leadroute.calendar_hours VALUES (1, 1, '08:00', '12:00')}, '23P01: hours of calendar 1 overlap' ],
	[ q{INSERT INTO leadroute.absences (owner_id, starts_at) VALUES (999, now())}, '23503: there is no owner 999' ],
	[ q{UPDATE leadroute.owners SET calendar_id = 999 WHERE owner_id = 1}, '23503: there is no calendar 999' ],
	[ q{UPDATE leadroute.owners SET timezone = 'Nowhere'}, '22023: there is no time zone "Nowhere"' ])
{
	my ($statement, $message) = @$case;
	my (undef, undef, $error) = in_psql($node, $statement, 'custom', extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	like($error, qr/ERROR:  $message/, $statement);
}
$node->safe_psql('custom', q{UPDATE leadroute.owners SET owner_id = owner_id, available = false WHERE owner_id = 1;
	DELETE FROM leadroute.pool_members WHERE owner_id = 1; DELETE FROM leadroute.owners WHERE owner_id = 1});
is($node->safe_psql('custom', 'SELECT count(*) FROM leadroute.owners WHERE owner_id = 1'), '0', 'who is no member can go');

# Away with it, and anew.
$node->safe_psql('plain', 'DROP EXTENSION leadroute CASCADE');
is($node->safe_psql('plain', q{SELECT count(*) FROM pg_namespace WHERE nspname = 'leadroute'}), '0', 'DROP EXTENSION CASCADE takes the record along');
is($node->safe_psql('plain', 'SELECT count(*) > 0 FROM leads'), 't', 'the leads tables are not its members and stay');
is($node->safe_psql('plain', q{SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%leadroute%'}), '0', 'no trigger is left on them');
is( $node->safe_psql(
		'plain', q{DROP TABLE leads CASCADE; CREATE EXTENSION leadroute; SELECT leadroute.setup(owners => '{anna}');
		INSERT INTO leads (email, country, consent) VALUES ('new@start.example', 'DE', true);
		SELECT outcome, owner, turn FROM leadroute.decisions}),
	"leads\nassigned|anna|0", 'CREATE EXTENSION begins anew');

# A schema that somebody made beforehand is a trap.
$node->safe_psql('postgres', 'CREATE DATABASE trapped');
$node->safe_psql('trapped', 'CREATE ROLE stranger; CREATE SCHEMA leadroute AUTHORIZATION stranger');
my ($status, undef, $error) = in_psql($node, 'CREATE EXTENSION leadroute', 'trapped');
isnt($status, 0, 'CREATE EXTENSION fails where somebody made the schema beforehand');
like($error, qr/schema "leadroute" already exists/, 'and says so');
is($node->safe_psql('trapped', q{SELECT count(*) FROM pg_class WHERE relnamespace = 'leadroute'::regnamespace}), '0', 'nothing is left in that schema');
is($node->safe_psql('trapped', q{SELECT count(*) FROM pg_extension WHERE extname = 'leadroute'}), '0', 'the extension is not there');

$node->stop;
done_testing();

sub run_ok
{
	my (@command) = @_;
	$node->command_ok(\@command, join ' ', @command[0, 1]);
}

# Compares long texts: of what differs, shows the first lines.
sub same
{
	my ($got, $expected, $name) = @_;
	return pass($name) if $got eq $expected;
	fail($name);
	my %expected = map { $_ => 1 } split /\n/, $expected;
	my %got = map { $_ => 1 } split /\n/, $got;
	my @surplus = grep { !$expected{$_} } split /\n/, $got;
	my @missing = grep { !$got{$_} } split /\n/, $expected;
	diag("+ $_") foreach grep { defined } @surplus[0 .. 4];
	diag("- $_") foreach grep { defined } @missing[0 .. 4];
}

sub rows_of
{
	my ($database) = @_;
	return $node->safe_psql(
		$database, q{
SELECT format('SELECT %L, count(*) FROM ONLY %s', c.oid::regclass, c.oid::regclass)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE relkind = 'r' AND nspname IN ('public', 'team', 'leadroute') ORDER BY c.oid::regclass::text COLLATE "C" \gexec
});
}

sub sequences_of
{
	my ($database) = @_;
	return $node->safe_psql(
		$database, q{
SELECT schemaname, sequencename, min_value, start_value, cache_size, last_value FROM pg_sequences ORDER BY 1, 2});
}

sub grants_of
{
	my ($database) = @_;
	return $node->safe_psql(
		$database, q{
SELECT 'relation', c.oid::regclass, a.grantee::regrole, a.privilege_type, a.is_grantable
FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) a
WHERE c.relnamespace IN ('leadroute'::regnamespace, 'public'::regnamespace, 'team'::regnamespace)
ORDER BY c.oid::regclass::text COLLATE "C", a.grantee::regrole::text, 4;
SELECT 'column', a.attrelid::regclass, a.attname, x.grantee::regrole, x.privilege_type
FROM pg_attribute a, aclexplode(a.attacl) x WHERE a.attrelid >= 16384 ORDER BY a.attrelid::regclass::text COLLATE "C", 3, x.grantee::regrole::text, 5;
SELECT 'routine', p.oid::regprocedure, a.grantee::regrole, a.privilege_type
FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE p.pronamespace = 'leadroute'::regnamespace
ORDER BY p.oid::regprocedure::text COLLATE "C", a.grantee::regrole::text});
}

# Adds to a routing what policies go through: drafts, checked or not, approvals and a waived one, a scheduled activation, trials that
# ended and one that runs, flags, an observed table, conversions.
sub rich_policies
{
	my ($database) = @_;
	$node->safe_psql(
		$database, q{
CREATE ROLE dump_author LOGIN IN ROLE leadroute_author;
SELECT leadroute.set_flag('new_form', true, 0.5, 'country = ''DE''', 'Leads of the new form.', 'try it');
SELECT leadroute.publish_policy('events', '{"leadroute": 1, "steps": [{"capability": "validateContact", "stop_when": []}, {"capability": "assignOwner"}],
    "rules": [{"name": "new form", "when": "flags.new_form", "pool": "inbound"}, {"name": "any", "when": "true", "pool": "enterprise"}]}', 'by flag');
SELECT leadroute.create_draft('events', 'ready'), leadroute.create_draft('events', 'growing');
SELECT count(*) FROM leadroute.check_draft('ready');
SET SESSION AUTHORIZATION dump_author;
INSERT INTO leadroute.draft_rules (draft, name, condition, priority, skills, others) VALUES ('growing', 'late', 'country = ''AT''', 1.50, '{German,"French, too"}', '{"pool": null}');
INSERT INTO leadroute.draft_rules (draft, position, name, condition, author) SELECT 'growing', min(position) - 0.5, 'first', 'false', NULL FROM leadroute.draft_rules WHERE draft = 'growing';
RESET SESSION AUTHORIZATION;
SELECT leadroute.require_approval('default', true, 'audit'), leadroute.require_approval('events', true, 'audit');
SET SESSION AUTHORIZATION dump_author;
SELECT leadroute.publish_policy('events', leadroute.policy_document('events', 1) || '{"description": "third"}', 'by another'),
    leadroute.publish_policy('default', leadroute.policy_document('default', 1) || '{"description": "fourth"}', 'by another');
RESET SESSION AUTHORIZATION;
SELECT leadroute.approve_policy('events', 3, 'fine'), leadroute.approve_policy('default', 4, 'fine');
SELECT leadroute.require_approval('events', false, 'the audit is over'), leadroute.require_approval('default', false, 'the audit is over');
SELECT leadroute.activate_policy('events', 2, 'next century', '2099-01-01');
SELECT leadroute.start_shadow('default', 1, reason => 'what would it do');
CREATE TABLE observed (id text PRIMARY KEY, country text, owner text);
SELECT leadroute.attach_table('observed', classes => '{"country": "plain"}', mode => 'observe', baseline_owner => 'owner');
INSERT INTO observed SELECT 'o' || i, 'DE', CASE WHEN i < 5 THEN 'anna' END FROM generate_series(1, 9) AS i;
});
	load_leads($node, $database, 'leads', 20, 13);
	$node->safe_psql(
		$database, q{
SELECT leadroute.abort_trial('default', 'seen enough');
SELECT leadroute.start_canary('default', 1, 0.5, salt => 'grain', bounds => '{"no_rule": 0.9}', reason => 'half of them');
});
	load_leads($node, $database, 'leads', 20, 14);
	$node->safe_psql($database, q{SELECT leadroute.record_conversion(lead_id, '2099-01-01', 12.50) FROM leadroute.entries WHERE mode IN ('c', 's') AND lead_id % 3 = 0});
}

# All that is to be seen of policies.
sub policies_of
{
	my ($database) = @_;
	return $node->safe_psql(
		$database, q{
SELECT 'draft', * FROM leadroute.policy_drafts ORDER BY draft;
SELECT 'document', draft, leadroute.draft_document(draft) FROM leadroute.drafts ORDER BY draft;
SELECT 'rule', * FROM leadroute.draft_rules ORDER BY draft, position;
SELECT 'version', * FROM leadroute.policy_version_states ORDER BY policy, version, draft;
SELECT 'difference', * FROM leadroute.policy_differences('events', 1, 2);
SELECT 'act', act, policy_act_id, at, policy_version_id, previous_version_id, draft, effective_at, forced, overridden, reason, session_user_name, current_user_name, application, client_address, subject
FROM leadroute.policy_acts ORDER BY policy_act_id;
SELECT 'active', * FROM leadroute.active_policies ORDER BY name;
SELECT 'trial', * FROM leadroute.policy_trials ORDER BY trial_id;
SELECT 'flag', * FROM leadroute.feature_flags ORDER BY name;
SELECT 'conversion', * FROM leadroute.conversions ORDER BY lead_id;
SELECT 'compared', * FROM leadroute.trial_comparison ORDER BY trial_id, leads_table, measure;
SELECT 'moved', m.* FROM leadroute.trial_moves m ORDER BY m::text COLLATE "C";
SELECT 'table', relation_name, mode, baseline_owner FROM leadroute.attached_tables ORDER BY source_id;
SELECT 'coverage', c.* FROM leadroute.rule_coverage('events', 1, 36500) c ORDER BY rule_no;
});
}

# A dump as a sorted list of lines, without those that differ each time, and those that say whose it is: rows come in the order of the heap.
sub normalized
{
	my ($file) = @_;
	my $dump = slurp_file($file) =~ s/^(COPY leadroute\.database_identities .*?\n).*?^\\\.$/$1/msr;
	return join "\n", sort grep { !/^--/ && !/^\\(un)?restrict / } split /\n/, $dump;
}
