# An agent outside, for the fault runs: a process of its own that takes tasks with psql, and is not to be trusted.
#
# It completes most tasks. Others it reports as failed, keeps until the lease has run out and gives back after all, gives back twice, or
# with a token that is not the right one. Sometimes it dies with tasks in hand. All that it does, and each answer that it got, is a line
# of its ledger, written before the server is asked, so that the ledger knows more than the server, and not less:
#
#   did task token attempt lead nonce what       the work was done: what is what became of it
#   got task token nonce what sqlstate           the server answered; no such line: the answer was lost
package FaultAgent;

use strict;
use warnings FATAL => 'all';

use IO::Handle;
use Time::HiRes qw(time usleep);

my $lease = 1;

# Runs until a file stop appears in the folder. name: which of several it is.
sub run
{
	my ($connection, $folder, $name, $seed) = @_;
	my @late;
	my $nonce = 0;

	srand($seed);
	open my $ledger, '>>', "$folder/ledger-$name" or die "cannot write a ledger: $!";
	until (-e "$folder/stop")
	{
		my $most = 1 + int(rand(25));
		my @tasks = grep { /^\d+\/\d+\|/ } in_psql($connection,
			"SELECT c.task, c.token, c.attempt, c.inputs ->> 'external_id' FROM leadroute.claim_tasks('lookup\@1', max => $most, lease => '$lease second', holder => '$name') c;");
		my @due = grep { $_->{due} <= time } @late;
		my @acts;

		@late = grep { $_->{due} > time } @late;
		# the tasks are lost with whoever held them
		next if @tasks && rand() < 0.02;
		foreach my $line (@tasks)
		{
			my ($task, $token, $attempt, $lead) = split /\|/, $line;
			my $what = drawn();
			my $one = { task => $task, token => $token, nonce => "$name." . ++$nonce, what => $what };

			print $ledger "did $task $token $attempt $lead $one->{nonce} $what\n";
			if ($what eq 'late') { push @late, { %$one, due => time + $lease * (1 + rand()) }; }
			elsif ($what eq 'stale') { push @acts, { %$one, token => $token ^ 1, what => 'wrong' }, { %$one, what => 'complete' }; }
			elsif ($what eq 'twice') { push @acts, { %$one, what => 'complete' }, { %$one, nonce => "$one->{nonce}.again", what => 'complete' }; }
			elsif ($what eq 'extend') { push @acts, { %$one, what => 'extend' }, { %$one, what => 'complete' }; }
			else { push @acts, $one; }
		}
		$ledger->flush;
		ask($connection, $ledger, @acts, map { { %$_, what => 'complete' } } @due);
		usleep(30_000) if !@tasks;
	}
	return;
}

# What is done with a task: one in five fails.
sub drawn
{
	my $r = rand();
	return
		$r < 0.10 ? 'fail'
	  : $r < 0.12 ? 'hopeless'
	  : $r < 0.20 ? 'late'
	  : $r < 0.25 ? 'twice'
	  : $r < 0.30 ? 'stale'
	  : $r < 0.35 ? 'extend'
	  : 'complete';
}

# Gives tasks back, one after the other or many at a time, and notes the answers.
sub ask
{
	my ($connection, $ledger, @acts) = @_;
	my @script;

	return if !@acts;
	if (rand() < 0.5)
	{
		# in one statement what is to be completed, and only once in it
		my %seen;
		my @together = grep { $_->{what} eq 'complete' && $_->{nonce} !~ /again/ && !$seen{ $_->{task} }++ } @acts;
		if (@together)
		{
			push @script,
				'SELECT r.task, coalesce(c.refused, \'00000\') FROM unnest(ARRAY[' . list(map { $_->{task} } @together) . ']) AS r (task) LEFT JOIN leadroute.complete_tasks(ARRAY['
			  . list(map { $_->{task} } @together) . '], ARRAY[' . join(', ', map { $_->{token} } @together) . ']::bigint[], ARRAY['
			  . list(map { output($_) } @together) . ']::jsonb[]) c USING (task);';
			my %of = map { $_->{task} => $_ } @together;
			foreach my $line (in_psql($connection, @script))
			{
				my ($task, $code) = $line =~ /^(\d+\/\d+)\|(\w{5})$/ or next;
				print $ledger "got $task $of{$task}{token} $of{$task}{nonce} complete $code\n";
			}
			my %done = map { $_ => 1 } @together;
			@acts = grep { !$done{$_} } @acts;
			@script = ();
		}
	}
	foreach my $act (@acts)
	{
		my $with = "'$act->{task}', $act->{token}";
		push @script,
			($act->{what} eq 'fail' ? "SELECT leadroute.fail_task($with, 'service_failed');"
			: $act->{what} eq 'hopeless' ? "SELECT leadroute.fail_task($with, 'no_such_thing', false);"
			: $act->{what} eq 'extend' ? "SELECT leadroute.extend_task($with, '$lease second');"
			: "SELECT leadroute.complete_task($with, '" . output($act) . "');"),
			"\\echo got $act->{task} $act->{token} $act->{nonce} $act->{what} :SQLSTATE";
	}
	print $ledger map { "$_\n" } grep { /^got / } in_psql($connection, @script) if @script;
	$ledger->flush;
	return;
}

sub output
{
	my ($act) = @_;
	return qq({"nonce": "$act->{nonce}", "found": 1});
}

sub list
{
	return join ', ', map { "'$_'" } @_;
}

# Runs a script, and returns what was printed, however far it came.
sub in_psql
{
	my ($connection, @script) = @_;
	my @lines;
	my $pid = open(my $out, '-|') // die "cannot fork: $!";
	if (!$pid)
	{
		open STDERR, '>', '/dev/null';
		open(my $in, '|-', 'psql', '-XAtq', '-d', $connection) or die "cannot run psql: $!";
		local $SIG{PIPE} = 'IGNORE';
		print $in map { "$_\n" } @script;
		close $in;
		
		exit 0;
	}
	chomp(@lines = <$out>);
	close $out;
	# a line that is not whole is no answer
	return @lines;
}

1;
