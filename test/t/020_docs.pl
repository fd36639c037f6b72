# The examples of the documentation run as they stand. Of each page the blocks marked sql are run in order, in one session and
# a database of its own; a block marked text behind one is what psql shows for it. A block marked "sql fails" raises, and the
# text behind it is the message.
use strict;
use warnings FATAL => 'all';

use LeadrouteTest;
use PostgreSQL::Test::Utils;
use Test::More;

my @pages = qw(intake registry policy policy_drafts policy_trials policy_analysis pipeline agents scoring assignment assignment_calendars assignment_accounts assignment_counters
  assignment_persons assignment_afterwards orchestrator workers events slas provenance observe adoption);

my $node = new_server('docs');
$node->start;
foreach my $page (@pages)
{
	my @blocks = blocks_of(slurp_file("docs/$page.md"));
	$node->safe_psql('postgres', "CREATE DATABASE $page");
	$node->safe_psql($page, 'CREATE EXTENSION leadroute');
	run_page($page, @blocks);
}
$node->stop;
done_testing();

# Returns the sql blocks of a page, each with its first line, whether it raises, and the text behind it.
sub blocks_of
{
	my ($text) = @_;
	my @blocks;
	while ($text =~ /^```sql( fails)?\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?/gms)
	{
		my ($fails, $sql, $shown) = ($1, $2, $3);
		push @blocks, { line => 1 + (substr($text, 0, $-[0]) =~ tr/\n//), fails => defined $fails, sql => $sql, shown => $shown };
	}
	return @blocks;
}

# Runs the blocks of a page. A marker on both streams behind each says which output is whose.
sub run_page
{
	my ($page, @blocks) = @_;
	my $mark = '---- end of block ----';
	my $script = "\\pset format aligned\n\\pset tuples_only off\n\\pset footer off\n\\set SHOW_CONTEXT never\n";
	foreach my $block (@blocks)
	{
		$script .= "\\set ON_ERROR_STOP " . ($block->{fails} ? 'off' : 'on') . "\n$block->{sql}\n\\echo '$mark'\n\\warn '$mark'\n";
	}
	my (undef, $out, $err) = in_psql($node, $script, $page);
	my @outs = split /^\Q$mark\E\n?/m, $out, -1;
	my @errs = split /^\Q$mark\E\n?/m, $err, -1;
	cmp_ok(scalar(@blocks), '>', 0, "$page.md has examples");
	foreach my $i (0 .. $#blocks)
	{
		my $block = $blocks[$i];
		my $where = "$page.md, line $block->{line}";
		my ($shown, $error) = map { tidy($_ // '') } ($outs[$i], $errs[$i]);
		if ($block->{fails})
		{
			like($error, qr/^ERROR: /, "$where raises");
			is($error, tidy($block->{shown}), "$where raises what the page says") if defined $block->{shown};
		}
		else
		{
			ok(defined $outs[ $i + 1 ] && $error !~ /^ERROR: /m, "$where runs") or diag($error);
			is($shown, tidy($block->{shown}), "$where shows what the page says") if defined $block->{shown};
		}
	}
}

# Takes off what editors take off, and where psql says that a message comes from.
sub tidy
{
	my ($text) = @_;
	$text =~ s/^psql:<stdin>:\d+: //mg;
	$text =~ s/[ \t]+$//mg;
	$text =~ s/\A\n+|\n+\z//g;
	return $text;
}
