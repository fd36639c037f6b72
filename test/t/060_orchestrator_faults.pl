# Whatever fails, each run comes to one outcome, and each step's effect inside the database is there once.
#
# Leads go through five steps: two by executors and one by agents outside, beside each other, one that joins them, and an owner. Agents fail
# one time in five. Meanwhile workers and sessions are terminated, backends are killed so that the server starts again, the server is
# stopped at once, leases are lost, leads are rolled back, prepared, changed, deleted and overridden. Then the record has to agree with
# the ledgers that the agents kept (FaultRun, FaultAgent).
#
#   FAULT_LEADS=10000      so many leads; 600 otherwise
use strict;
use warnings FATAL => 'all';

use FaultRun;
use LeadrouteTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $seed = seed_of();
my $target = $ENV{FAULT_LEADS} // 600;
my $folder = PostgreSQL::Test::Utils::tempdir();
my $node = new_server('faults', "shared_preload_libraries = 'leadroute'\nmax_prepared_transactions = 500\nrestart_after_crash = on\nmax_wal_size = 4GB\n"
	  . "checkpoint_timeout = 1h\nleadroute.poll_interval = 200ms\nlog_min_messages = log\nmax_connections = 50\nlog_line_prefix = '%m [%p] %b '\n");
$node->start;
$node->safe_psql('postgres', setup_of($folder, $target));

# What the record says of the steps of each run: in the last entry in which they were done or had failed, if there is one.
my $steps = q{
CREATE TABLE last_steps AS
    SELECT DISTINCT ON (p.decision_id, p.step_no) l.external_id AS lead, p.decision_id, p.step_no, p.capability, p.status, p.output, p.attempts, p.sqlstate,
           EXISTS (SELECT FROM leadroute.lead_acts a WHERE a.lead_id = l.lead_id) OR l.external_id IN (SELECT lead FROM changed) AS disturbed, s.outcome = 'quarantined' AS given_up
    FROM leads l JOIN leadroute.provenance p USING (lead_id) JOIN leadroute.lead_states s USING (lead_id)
    ORDER BY p.decision_id, p.step_no, p.status IN ('done', 'failed') DESC, p.entry_no DESC;
CREATE INDEX ON last_steps (lead, capability);
CREATE TABLE failed AS
    SELECT s.lead, s.capability, s.disturbed, a ->> 'error' AS error, a ? 'attempt' AS begun, count(*) AS n
    FROM last_steps s, jsonb_array_elements(s.attempts -> 'attempts') a GROUP BY 1, 2, 3, 4, 5;
};

my %done = map { $_ => 0 } qw(executor scheduler session killed stopped);
my @begins;
my @acknowledged;
my @agents = map { start_agent($_) } 1 .. 3;
insert_amid_faults();
$node->safe_psql('postgres', (/^keep/ ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$_'") foreach split /\n/, $node->safe_psql('postgres', 'SELECT gid FROM pg_prepared_xacts');
my $left = q{SELECT (SELECT count(*) FROM leadroute.lead_states WHERE outcome = 'pending' AND closed_at IS NULL) + (SELECT count(*) FROM leadroute.tasks)};
eval {
	wait_until(sub { $node->safe_psql('postgres', $left) eq '0' }, 'nothing is left to do');
	1;
} or note('what is left: ' . $node->safe_psql('postgres', 'SELECT * FROM leadroute.waiting_tasks LIMIT 20; SELECT * FROM leadroute.worker_status();'
	  . q{SELECT outcome, reason_code, closed_at IS NULL, count(*) FROM leadroute.lead_states GROUP BY 1, 2, 3; SELECT state, count(*) FROM leadroute.tasks GROUP BY 1}));
append_to_file("$folder/stop", '');
$_->finish foreach @agents;
note("terminated: $done{executor} executors, $done{scheduler} schedulers, $done{session} sessions; $done{killed} crashes, $done{stopped} immediate stops");
note($node->safe_psql('postgres', q{SELECT outcome, reason_code, count(*) FROM leadroute.lead_states WHERE closed_at IS NULL GROUP BY 1, 2 ORDER BY 1, 2}));

check_runs();
check_inside();
check_outside();
check_logs();
check_stuck();
$node->stop;
done_testing();

# ---- what happens ----

sub start_agent
{
	my ($n) = @_;
	return IPC::Run::start([ $^X, '-MFaultAgent', '-e', 'FaultAgent::run(@ARGV)', $node->connstr('postgres'), $folder, "agent$n", $seed + $n ], '>', "$folder/agent$n.out", '2>', "$folder/agent$n.err");
}

sub insert_amid_faults
{
	my $session = 0;
	my @running;
	my $next_fault = time + 0.3;
	my $inserted = 0;
	while ($inserted < $target || @running)
	{
		foreach my $one (@running)
		{
			next if $one->{process}->pumpable;
			eval { $one->{process}->finish; };
			push @acknowledged, grep { /^\d+$/ } split /\n/, slurp_file("$one->{base}.out") =~ s/[^\n]*\z//r;
			$one->{done} = 1;
		}
		@running = grep { !$_->{done} } @running;
		$inserted = count_leads() // $inserted;
		while (@running < 2 && $inserted < $target)
		{
			my $base = "$folder/session" . ++$session;
			append_to_file("$base.sql", inserting($session));
			push @running, { base => $base, process => IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-f', "$base.sql" ], '>', "$base.out", '2>', "$base.err") };
		}
		if (time > $next_fault)
		{
			fault();
			$next_fault = time + 0.2 + rand(0.8);
		}
		usleep(50_000);
	}
	# and some while the rest is done
	for (1 .. 6)
	{
		usleep(int(rand(800_000)));
		fault();
	}
	note("$session sessions, " . scalar(@acknowledged) . ' leads acknowledged one by one');
	return;
}

sub count_leads
{
	my ($status, $out) = in_psql($node, 'SELECT count(*) FROM leads');
	return $status == 0 ? $out : undef;
}

sub fault
{
	my $kind = rand();
	if ($kind < 0.45) { terminate('executor', q{backend_type = 'leadroute executor'}); }
	elsif ($kind < 0.55) { terminate('scheduler', q{backend_type = 'leadroute scheduler'}); }
	elsif ($kind < 0.80) { terminate('session', q{backend_type = 'client backend' AND pid <> pg_backend_pid()}); }
	elsif ($kind < 0.90)
	{
		# the server takes it for a crash, and starts anew
		my ($status, $pid) = in_psql($node, q{SELECT pid FROM pg_stat_activity WHERE backend_type ~ 'leadroute|client' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1});
		if ($status == 0 && $pid =~ /^\d+$/)
		{
			kill 'KILL', $pid;
			$done{killed}++;
			usleep(200_000);
			wait_until(sub { defined count_leads() }, 'the server is back');
			note_begin();
		}
	}
	else
	{
		$node->stop('immediate');
		usleep(int(rand(200_000)));
		$node->start;
		$done{stopped}++;
		note_begin();
	}
	return;
}

sub terminate
{
	my ($what, $which) = @_;
	my ($status, $out) = in_psql($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE $which ORDER BY random() LIMIT 1");
	$done{$what}++ if $status == 0 && $out eq 't';
	return;
}

# Notes from which id of transactions on a server that started again goes on.
sub note_begin
{
	my ($status, $out) = in_psql($node, q{SELECT split_part(next_xid, ':', 2) FROM pg_control_checkpoint()});
	push @begins, $out if $status == 0;
	return;
}

# ---- what has to hold ----

sub none
{
	my ($query, $name) = @_;
	my $rows = $node->safe_psql('postgres', "SELECT * FROM ($query) x LIMIT 10");
	is($rows, '', $name);
	return;
}

sub check_runs
{
	cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM leads'), '>=', $target * 0.9, 'there are leads');
	none(q{SELECT * FROM leads l LEFT JOIN leadroute.lead_states s USING (lead_id) WHERE s.lead_id IS NULL OR s.outcome = 'pending'}, 'each lead has an outcome');
	none(q{SELECT l.lead_id, count(d.lead_id) FROM leads l LEFT JOIN leadroute.decisions d ON d.lead_id = l.lead_id AND d.current GROUP BY 1 HAVING count(d.lead_id) <> 1},
		'and one decision that holds');
	none(q{SELECT * FROM leadroute.tasks}, 'no tasks are left');
	none(q{SELECT * FROM leads WHERE external_id LIKE 'never%'}, 'what was rolled back is not there');
	none('SELECT id FROM unnest(ARRAY[' . join(',', @acknowledged) . q{]::bigint[]) AS id WHERE NOT EXISTS (SELECT FROM leadroute.lead_states WHERE lead_id = id)}, 'nothing is lost that was acknowledged');
	none(q{SELECT run_id, array_agg(entry_no ORDER BY entry_no) FROM leadroute.entries GROUP BY 1
		HAVING min(entry_no) <> 1 OR max(entry_no) <> count(*) OR count(DISTINCT entry_no) <> count(*)}, 'entries of a run are numbered without a gap');
	none(q{SELECT run_id, entry_no FROM (SELECT *, lead(entry_no) OVER (PARTITION BY run_id ORDER BY entry_no) AS next FROM leadroute.entries) e
		WHERE next IS NOT NULL AND outcome <> 'pending'}, 'a run ends once');
	none(q{SELECT lead_id, count(DISTINCT run_id) FROM leadroute.entries e WHERE NOT EXISTS (SELECT FROM leadroute.lead_acts a WHERE a.lead_id = e.lead_id)
		AND NOT EXISTS (SELECT FROM leads l JOIN changed c ON c.lead = l.external_id WHERE l.lead_id = e.lead_id) GROUP BY 1 HAVING count(DISTINCT run_id) > 1}, 'a lead has one run unless it was decided on again');
	none(q{SELECT * FROM leadroute.reconcile()}, 'rows, states and decisions agree');
	none(q{SELECT d.decision_id, v.* FROM leadroute.decisions d JOIN leads USING (lead_id), LATERAL leadroute.verify_decision(d.decision_id) v WHERE v.verdict <> 'identical'},
		'all decisions verify');
	none(q{SELECT lead_id FROM leadroute.lead_states WHERE (outcome = 'assigned') <> (owner_id IS NOT NULL)}, 'what is assigned has an owner');
	none('SELECT * FROM leadroute.cap_usage() WHERE taken IS DISTINCT FROM recounted', 'counted live as recounted');
	none(q{SELECT c.owner_id, c.maximum, count(*) FROM leadroute.caps c JOIN leadroute.lead_states s USING (owner_id) WHERE s.outcome = 'assigned' AND s.closed_at IS NULL
		GROUP BY 1, 2 HAVING count(*) > c.maximum}, 'no cap was exceeded');
	return;
}

# The ledgers of the agents inside.
sub check_inside
{
	$node->safe_psql('postgres', $steps);
	my $inside = q{('estimateBudget', 'checkFraud', 'summarizeLead')};
	none(q{SELECT lead, step, count(*) FROM ledger WHERE lead NOT IN (SELECT lead FROM changed) GROUP BY 1, 2 HAVING count(*) > 1}, 'nothing was done twice inside the database');
	none(q{SELECT * FROM ledger WHERE lead LIKE 'never%'}, 'nor for a lead that was rolled back');
	none("SELECT s.lead, s.capability, s.status FROM last_steps s LEFT JOIN ledger g ON g.lead = s.lead AND g.step = s.capability
		WHERE s.capability IN $inside AND NOT s.disturbed AND (s.status = 'done') <> (g.lead IS NOT NULL) AND NOT (s.given_up AND s.status = 'skipped')",
		'what is on record as done was done, and nothing else but for runs that were given up meanwhile');
	none(q{SELECT g.lead, g.given, array_agg(s.capability ORDER BY s.capability) FROM ledger g JOIN last_steps s USING (lead)
		WHERE g.step = 'summarizeLead' AND s.status = 'done' AND s.capability IN ('estimateBudget', 'checkFraud', 'lookUp') AND NOT s.disturbed
		GROUP BY 1, 2 HAVING array_agg(s.capability ORDER BY s.capability) <> g.given}, 'the step that joins was given what the others gave');
	note('failures on record: ' . $node->safe_psql('postgres', 'SELECT capability, error, sum(n) FROM failed GROUP BY 1, 2 ORDER BY 1, 2'));

	# each failure that was written down and committed is on record, and no other
	my @failures = failures_in("$folder/failures");
	cmp_ok(scalar(@failures), '>', $target / 5, 'agents failed');
	$node->safe_psql('postgres', 'CREATE TABLE logged (how text, step text, lead text, xid bigint, begin bigint)');
	$node->safe_psql('postgres', 'INSERT INTO logged VALUES ' . join(', ', splice @failures, 0, 1000)) while @failures;
	$node->safe_psql('postgres', 'CREATE TABLE begins AS SELECT begin FROM unnest(ARRAY[' . join(',', @begins) . ']::bigint[]) AS begin UNION SELECT begin FROM logged');
	$node->safe_psql('postgres', q{ALTER TABLE logged ADD kept boolean; UPDATE logged l SET kept = NOT EXISTS (SELECT FROM begins b WHERE b.begin > l.begin AND b.begin <= l.xid)
		AND coalesce(pg_xact_status(l.xid::text::xid8) = 'committed', false)});
	note('failures written down: ' . $node->safe_psql('postgres', 'SELECT how, kept, count(*) FROM logged GROUP BY 1, 2 ORDER BY 1, 2'));
	my $of_data = q{SELECT lead, step, count(*) AS n FROM logged WHERE how IN ('error', 'null', 'text') AND kept GROUP BY 1, 2};
	my $by_error = q{SELECT lead, capability AS step, sum(n) AS n FROM failed WHERE error ~ '^22' GROUP BY 1, 2};
	none("SELECT s.lead, s.capability, l.n AS written, r.n AS recorded FROM ($of_data) l FULL JOIN ($by_error) r USING (lead, step)
		JOIN last_steps s ON s.lead = coalesce(l.lead, r.lead) AND s.capability = coalesce(l.step, r.step)
		WHERE NOT s.disturbed AND s.status IN ('done', 'failed') AND l.n IS DISTINCT FROM r.n", 'failures on record are those that the agents wrote down');
	none(q{SELECT f.* FROM failed f LEFT JOIN (SELECT lead, step, count(*) AS n, CASE how WHEN 'abort' THEN '40001' ELSE 'LR011 start_to_close' END AS error FROM logged
			WHERE how IN ('abort', 'slow') GROUP BY 1, 2, 4) l ON (l.lead, l.step, l.error) = (f.lead, f.capability, f.error)
		WHERE f.capability <> 'lookUp' AND f.error !~ '^(22|LR012)' AND f.n > coalesce(l.n, 0)}, 'nor more that ended a transaction');
	none(q{SELECT 'none' WHERE NOT EXISTS (SELECT FROM failed WHERE error = '40001')}, 'some did') if $target >= 600;
	return;
}

# The ledgers of the agents outside.
sub check_outside
{
	my (%did, %accepted, %failed, %unanswered, %nonces, @wrong, %claims);
	foreach my $file (glob "$folder/ledger-*")
	{
		my %asked;
		open my $lines, '<', $file or die;
		while (<$lines>)
		{
			if (/^did (\S+) (\S+) (\d+) (\S+) (\S+) (\w+)$/)
			{
				push @wrong, "two keys of lead $4" if exists $did{$1} && $did{$1} ne $4;
				push @wrong, "a lead that was rolled back: $4" if $4 =~ /^never/;
				push @wrong, "claimed twice with one token: $1" if $claims{$1}{$2}++;
				$did{$1} = $4;
				$nonces{$5} = $1;
			}
			elsif (/^got (\S+) (\S+) (\S+) (\w+) (\w{5})$/)
			{
				my ($task, $nonce, $what, $code) = ($1, $3, $4, $5);
				push @{ $accepted{$task} }, $nonce if $what eq 'complete' && $code eq '00000';
				push @{ $failed{$task} }, $nonce if $what =~ /^(fail|hopeless)$/ && $code eq '00000';
				push @wrong, "a wrong token was good for task $task" if $what eq 'wrong' && $code !~ /^LR0(01|14)$/;
				push @wrong, "$what of task $task gave $code" if $code !~ /^(00000|LR001|LR014|57P0\d|LR.*|40001|55P03)$/;
			}
		}
	}
	is(join("\n", splice(@wrong, 0, 10)), '', 'agents outside were asked and answered as they have to be');
	my %changed = map { $_ => 1 } split /\n/, $node->safe_psql('postgres', 'SELECT lead FROM changed');
	my @twice = grep { @{ $accepted{$_} } > 1 && !$changed{ $did{$_} // '' } } keys %accepted;
	is("@twice", '', 'no task was taken back twice');

	# the record against them
	my (@unknown, @other, @miscounted);
	my $done = 0;
	foreach my $line (split /\n/, $node->safe_psql('postgres', q{
		SELECT s.decision_id || '/' || s.step_no, s.lead, s.status, coalesce(s.output ->> 'nonce', ''), s.attempts ->> 'by',
			coalesce((SELECT sum(n) FROM failed f WHERE f.lead = s.lead AND f.capability = 'lookUp' AND f.error ~ '^LR010'), 0),
			coalesce((SELECT sum(n) FROM failed f WHERE f.lead = s.lead AND f.capability = 'lookUp' AND f.error ~ '^LR011'), 0)
		FROM last_steps s WHERE s.capability = 'lookUp' AND s.status IN ('done', 'failed') AND NOT s.disturbed}))
	{
		my ($task, $lead, $status, $nonce, $by, $failures, $lost) = split /\|/, $line;
		my $claims = scalar keys %{ $claims{$task} // {} };
		my $by_them = $nonce ne '' ? 1 : 0;
		$done += $by_them;
		push @unknown, $line if $by_them && (($did{$task} // '') ne $lead || ($nonces{ $nonce =~ s/\.again$//r } // '') ne $task);
		push @other, $line if $accepted{$task} && $accepted{$task}[0] ne $nonce;
		# a claim has one end; those whose answer was lost are among the leases that ran out
		push @miscounted, "$line: $claims claims" if $claims > $by_them + $failures + $lost || $claims < $by_them + $failures || @{ $failed{$task} // [] } > $failures;
	}
	is(join("\n", splice(@unknown, 0, 10)), '', 'what is on record as done outside was done outside, under the same key');
	is(join("\n", splice(@other, 0, 10)), '', 'and is what was taken back');
	is(join("\n", splice(@miscounted, 0, 10)), '', 'each claim has one end on record');
	cmp_ok($done, '>', $target / 2, 'most leads were looked up outside');
	return;
}

# Had a task been lost, reconcile() would have told.
sub check_stuck
{
	$node->safe_psql('postgres', q{BEGIN; INSERT INTO leads (external_id, country) VALUES ('lead-stuck', 'US');
		DELETE FROM leadroute.tasks WHERE lead_id = (SELECT lead_id FROM leads WHERE external_id = 'lead-stuck'); COMMIT});
	is($node->safe_psql('postgres', 'SELECT problem FROM leadroute.reconcile()'), 'run that waits for nothing', 'a run whose tasks are lost is no secret');
	return;
}

sub check_logs
{
	my $log = slurp_file($node->logfile);
	my @lines = grep { /(PANIC|TRAP|FATAL|ERROR|WARNING|was terminated by signal|leadroute: ).*/ } split /\n/, $log;
	my %expected;
	my @unexpected = grep {
		!/terminating connection|terminating background|is starting up|in recovery mode|is shutting down|is not yet accepting|is not held with this token|was cancelled$|Killed|was terminated by signal 9|: Killed|abnormal|another decision holds|connection to client lost|has ended|crash of another server process|canceling statement due to lock timeout|exited with exit code|terminated by administrator|could not receive data|SQLSTATE 40001 in exec_stmt_raise|SQLSTATE 57014 in ProcessInterrupts|Connection reset|Broken pipe/
	} @lines;
	is(join("\n", grep { /PANIC|TRAP|signal (6|11)/ } @lines), '', 'nothing crashed but what was killed');
	is(join("\n", splice(@unexpected, 0, 15)), '', 'and the log has nothing else');
	my @errors = map { -s "$folder/agent$_.err" ? slurp_file("$folder/agent$_.err") : () } 1 .. 3;
	is("@errors", '', 'agents outside found nothing to say');
	return;
}
