# The agents of docs/external_agents/ work: they take tasks, keep them, give them back, hear that a task is not theirs any more, and leave
# nothing behind when they are stopped. The one in shell needs psql only; the one in Node is tested where node and npm are
# there and the registry gives the package pg, which goes into a folder that is thrown away.
use strict;
use warnings FATAL => 'all';

use File::Copy qw(copy);
use IPC::Run qw(start);
use LeadrouteTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('agents', "shared_preload_libraries = 'leadroute'");
$node->start;
$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;
$ENV{PGDATABASE} = 'postgres';
$ENV{HOLDER} = 'tested';
my $folder = PostgreSQL::Test::Utils::tempdir;

$node->safe_psql(
	'postgres', q{
CREATE EXTENSION leadroute;
CREATE ROLE looker LOGIN IN ROLE leadroute_agent;
SET ROLE looker;
SELECT leadroute.register_external_agent('shell', '1', '{lookUp}', '{external_id,country}', breaker_failures => 1000);
SELECT leadroute.register_external_agent('node', '1', '{rankIt}', '{external_id,country}', breaker_failures => 1000);
RESET ROLE;
CREATE TABLE leads (external_id text PRIMARY KEY, country text);
SELECT leadroute.attach_table('leads', classes => '{"external_id": "plain", "country": "plain"}');
SELECT leadroute.publish_policy('shell', '{"leadroute": 1,
    "steps": [{"capability": "lookUp", "retry": {"wait": "0.1 seconds", "attempts": 4}, "on_error": "skip"}, {"capability": "assignOwner"}],
    "rules": [{"name": "all", "when": "true", "outcome": "nurture", "reason": "done"}]}', 'test');
SELECT leadroute.publish_policy('node', '{"leadroute": 1,
    "steps": [{"capability": "rankIt", "retry": {"wait": "0.1 seconds", "attempts": 4}, "on_error": "skip"}, {"capability": "assignOwner"}],
    "rules": [{"name": "all", "when": "true", "outcome": "nurture", "reason": "done"}]}', 'test');
CREATE VIEW steps AS
    SELECT l.external_id, p.status, p.place, p.output, p.confidence, p.attempts ->> 'model' AS model,
           (SELECT string_agg(a ->> 'error', ', ' ORDER BY n) FROM jsonb_array_elements(p.attempts -> 'attempts') WITH ORDINALITY AS e (a, n)) AS errors
    FROM leadroute.decisions d JOIN leadroute.provenance p USING (decision_id, as_of), leads l
    WHERE p.step_no = 1 AND d.current AND d.outcome = 'nurture' AND d.lead_id = leadroute.lead_of('leads', l.external_id);
});

# What both do, by the lead's country: AA is simple, BB fails the first time, CC for good, SS takes for ever the first time, TT always.
my $command = "$folder/work.sh";
$ENV{SLEEPERS} = "$folder/sleepers";
append_to_file($command, <<'WORK');
input=$(cat)
echo "$TASK $ATTEMPT" >>"$LEDGER"
case $input in
*'"BB"'*) [ "$ATTEMPT" -gt 1 ] || exit 75 ;;
*'"CC"'*) exit 3 ;;
*'"SS"'*) [ "$ATTEMPT" -gt 1 ] || { echo $$ >>"$SLEEPERS"; exec sleep 1000; } ;;
*'"TT"'*) echo $$ >>"$SLEEPERS"; exec sleep 1000 ;;
esac
echo "{\"attempt\": $ATTEMPT, \"quoted\": \"it's\"}"
WORK
my $module = "$folder/work.mjs";
append_to_file($module, <<'WORK');
import { appendFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
export async function work({ country }, { task, attempt, signal }) {
    appendFileSync(process.env.LEDGER, `${task} ${attempt}\n`);
    if (country === 'BB' && attempt === 1) throw Object.assign(new Error('later'), { code: 'not_now' });
    if (country === 'CC') throw Object.assign(new Error('never'), { code: 'not_ever', retryable: false });
    if (country === 'TT' || (country === 'SS' && attempt === 1)) await setTimeout(1000000, undefined, { signal });
    return { output: { attempt, quoted: "it's" }, confidence: 0.5, model: 'm-1' };
}
WORK

try_agent('shell', ['bash', 'docs/external_agents/agent.sh', 'shell@1', 'bash', $command], 'status_75', 'status_3');
# what an agent that is killed had begun is its own no more, and nobody else's
if (-e $ENV{SLEEPERS})
{
	kill 'TERM', split ' ', slurp_file($ENV{SLEEPERS});
}
SKIP:
{
	my $why = install_pg();
	skip "the agent in Node: $why", 1 if $why;
	copy('docs/external_agents/agent.mjs', "$folder/agent.mjs") or die $!;
	try_agent('node', ['node', "$folder/agent.mjs", 'node@1', $module], 'not_now', 'not_ever');
}
$node->stop;
done_testing();

# Installs the package pg; returns why that cannot be.
sub install_pg
{
	foreach my $program (qw(node npm))
	{
		return "there is no $program" if system("command -v $program >$folder/$program.log 2>&1");
	}
	local $ENV{npm_config_cache} = "$folder/cache";
	local $ENV{npm_config_update_notifier} = 'false';
	return system("cd $folder && timeout 120 npm install --no-audit --no-fund --silent pg\@8 >npm.log 2>&1") ? 'npm cannot install pg' : '';
}

# Tries one of the two. later, never: the codes of errors that the two kinds of failures leave.
sub try_agent
{
	my ($policy, $program, $later, $never) = @_;
	my $ledger = "$folder/$policy.ledger";
	my $logs = 0;
	my $begin = sub {
		my (%settings) = @_;
		local @ENV{qw(PGUSER LEDGER POLL)} = ('looker', $ledger, 1);
		local @ENV{ keys %settings } = values %settings;
		my %agent = (log => "$folder/$policy." . ++$logs . '.log');
		$agent{run} = start $program, '<', \undef, '>', $agent{log}, '2>', "$agent{log}.err";
		return \%agent;
	};
	my $end = sub {
		my ($agent, $what) = @_;
		$agent->{run}->signal('TERM');
		$agent->{run}->finish;
		is($agent->{run}->result(0), 0, "$policy: $what ends well");
		like(slurp_file("$agent->{log}.err"), qr/: stopped$/m, "$policy: and says so");
	};
	my $says = sub {
		my ($agent, $pattern, $what) = @_;
		wait_until(sub { slurp_file("$agent->{log}.err") =~ $pattern }, "$policy: $what");
		like(slurp_file("$agent->{log}.err"), $pattern, "$policy: $what");
	};
	my $until = sub { my ($sql, $what) = @_; ok($node->poll_query_until('postgres', $sql), "$policy: $what"); };
	my $insert = sub { $node->safe_psql('postgres', join ' ', map { "INSERT INTO leads VALUES ('$policy $_->[0]', '$_->[1]');" } @_); };

	$node->safe_psql('postgres', "UPDATE leadroute.attached_tables SET policy = '$policy'; SELECT leadroute.activate_policy('$policy');");

	# two of them share the work
	my @agents = map { $begin->(BATCH => 5, HOLDER => "tested-$_") } 1, 2;
	$node->safe_psql('postgres', "INSERT INTO leads SELECT '$policy ' || i, CASE WHEN i % 10 = 1 THEN 'BB' WHEN i % 10 = 2 THEN 'CC' ELSE 'AA' END FROM generate_series(1, 40) i");
	$until->("SELECT count(*) = 40 FROM steps WHERE external_id LIKE '$policy %'", 'all leads are decided');
	is( $node->safe_psql('postgres', "SELECT status, place, output ->> 'attempt', output ->> 'quoted', errors, count(*) FROM steps WHERE external_id LIKE '$policy %' GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 3"),
		"done||1|it's||32\ndone||2|it's|LR010 $later|4\nfailed|$never|||LR010 $never|4", "$policy: each as it should be");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM leadroute.tasks'), '0', "$policy: no task is left");
	my %seen;
	$seen{$_}++ foreach split /\n/, slurp_file($ledger);
	is(scalar(grep { $_ > 1 } values %seen), 0, "$policy: no attempt was made twice");
	is(scalar(keys %seen), 44, "$policy: each was made, by their own account");
	$end->($_, 'one of two') foreach @agents;
	is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT v.verdict, ', ') FROM leadroute.decisions d, leadroute.verify_decision(d.decision_id) v"),
		'identical', "$policy: the decisions verify");

	# one that is stopped gives back what it has in hand
	my $agent = $begin->();
	$insert->(['stopped', 'SS'], ['stopped, too', 'SS']);
	$until->(q{SELECT count(*) = 2 FROM leadroute.waiting_tasks WHERE state = 'claimed'}, 'two tasks are in hand');
	$end->($agent, 'one with tasks in hand');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM leadroute.tasks WHERE state = 'c'}), '0', "$policy: it has none in hand any more");
	$agent = $begin->(LEASE => 3);
	$until->("SELECT count(*) = 2 FROM steps WHERE external_id LIKE '$policy stopped%' AND output ->> 'attempt' = '2' AND errors = 'LR010 stopped'", 'the next one does them');

	# a lead that goes cancels its task: the holder hears of it at its next heartbeat, and goes on with others
	$insert->(['goes', 'TT']);
	$until->(q{SELECT count(*) = 1 FROM leadroute.waiting_tasks WHERE state = 'claimed'}, 'one is in hand');
	$node->safe_psql('postgres', "DELETE FROM leads WHERE external_id = '$policy goes'");
	$says->($agent, qr/not ours any more: LR014/, 'it hears that a task was cancelled');
	$insert->(['after', 'AA']);
	$until->("SELECT count(*) = 1 FROM steps WHERE external_id = '$policy after'", 'it goes on');

	# one that is silent for too long finds that others had its task; one that is killed is missed by nobody
	$insert->(['silent', 'SS']);
	$until->(q{SELECT count(*) = 1 FROM leadroute.waiting_tasks WHERE state = 'claimed'}, 'one is in hand');
	$agent->{run}->signal('STOP');
	my $other = $begin->();
	$until->("SELECT count(*) = 1 FROM steps WHERE external_id = '$policy silent' AND output ->> 'attempt' = '2' AND errors = 'LR011 lease'", 'another does what one is silent about');
	$agent->{run}->signal('CONT');
	$says->($agent, qr/not ours any more: LR001/, 'who was silent is told');
	$end->($other, 'the other');
	$insert->(['killed', 'SS']);
	$until->(q{SELECT count(*) = 1 FROM leadroute.waiting_tasks WHERE state = 'claimed'}, 'one is in hand');
	$agent->{run}->signal('KILL');
	$agent->{run}->finish;
	$agent = $begin->();
	$until->("SELECT count(*) = 1 FROM steps WHERE external_id = '$policy killed' AND errors = 'LR011 lease'", 'another does what one was killed over');
	$end->($agent, 'the last');
}
