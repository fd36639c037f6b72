# What the README and the tutorial tell people to type runs as it is written, and prints what they say it prints.
use strict;
use warnings FATAL => 'all';

use LeadrouteTest;
use Cwd qw(getcwd);
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('tutorial', "shared_buffers = 64MB\nfsync = off\n");
$node->start;

# A page's blocks of SQL, each with the output that follows it, if it is given.
sub blocks_of
{
	my ($page) = @_;
	my @blocks;
	while ($page =~ /^```sql\n(.*?)^```\n(?:```text\n(.*?)^```\n)?/gms)
	{
		push @blocks, { sql => $1, output => $2 };
	}
	return @blocks;
}

# Runs blocks in one psql session that stops at the first error; returns the status, the messages and each block's output.
sub run_blocks
{
	my ($database, $folder, @blocks) = @_;
	my $script = join '', map { "\\echo \@\@$_\n$blocks[$_]{sql}\n" } 0 .. $#blocks;
	my ($out, $messages) = ('', '');
	my @psql = ('psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-P', 'pager=off', '-d', $node->connstr($database));
	IPC::Run::run(\@psql, '<', \$script, '>', \$out, '2>', \$messages, init => sub { chdir $folder or die "$folder: $!" });
	my $status = $? >> 8;
	my @outputs;
	$outputs[$1] = $2 while $out =~ /^\@\@(\d+)\n(.*?)(?=^\@\@\d+\n|\z)/gms;
	return ($status, $messages, @outputs);
}

sub trimmed
{
	my ($text) = @_;
	$text =~ s/[ \t]+$//gm;
	$text =~ s/\s+\z//;
	return $text;
}

# The README: the blocks are for one server up to the last chapters, where another one comes in.
my ($readme) = split /^## Hosted PostgreSQL/m, slurp_file('README.md'), 2;
$node->safe_psql('postgres', 'CREATE DATABASE readme');
$node->safe_psql('readme', 'CREATE SCHEMA crm; CREATE ROLE web;
	CREATE TABLE crm.prospects (id uuid PRIMARY KEY, mail text, land text)');
my @blocks = blocks_of($readme);
cmp_ok(scalar @blocks, '>', 5, 'the README has its blocks');
my ($status, $messages, @outputs) = run_blocks('readme', getcwd, @blocks);
is($status, 0, 'the README runs as written') or diag $messages;
is($messages, '', 'without a message');
is(scalar(split /\n/, $blocks[0]{sql}), 5, 'the first routed lead takes five lines');
like($outputs[0], qr/ assigned \| anna +\| inbound \| +\d+/, 'and they show its owner');
like($outputs[0], qr/was assigned to anna, in the rotation of pool inbound/, 'and why');

# The tutorial: in a folder with what its last chapter asks for, or without that chapter.
my $folder = PostgreSQL::Test::Utils::tempdir();
my $tutorial = slurp_file('docs/tutorial.md');
my $leads = ($ENV{DATASETS} // '') . '/bank-additional-full.csv';
if (-r $leads)
{
	symlink $leads, "$folder/bank-additional-full.csv" or die $!;
	symlink getcwd . '/test', "$folder/test" or die $!;
}
else
{
	note 'without the chapter on real leads: DATASETS names no folder with bank-additional-full.csv';
	($tutorial) = split /^## \d+\. Real leads/m, $tutorial, 2;
}
$node->safe_psql('postgres', 'CREATE DATABASE tutorial');
@blocks = blocks_of($tutorial);
cmp_ok(scalar @blocks, '>', 20, 'the tutorial has its blocks');
($status, $messages, @outputs) = run_blocks('tutorial', $folder, @blocks);
is($status, 0, 'the tutorial runs as written') or diag $messages;
my @errors = $messages =~ /ERROR: +(.*)/g;
is_deeply(\@errors, [-r $leads ? 'scorecard "term_deposit" has 1 mistake' : ()], 'and raises the errors that it announces, no others');
foreach my $i (0 .. $#blocks)
{
	next unless defined $blocks[$i]{output};
	my ($first_line) = $blocks[$i]{sql} =~ /\A(.*)/;
	is(trimmed($outputs[$i] // '(not reached)'), trimmed($blocks[$i]{output}), "it prints what it says: $first_line");
}

$node->stop;
done_testing();
