# The demonstrations: on synthetic leads, and on files as people have them. What they print fits a terminal of 100 columns.
use strict;
use warnings FATAL => 'all';

use LeadrouteTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('demo', "shared_buffers = 64MB\nfsync = off\n");
$node->start;
my $databases = 0;

# Runs a demonstration in a database of its own; returns what it printed, without the blanks of its tables, and the database.
sub demonstrate
{
	my ($script, %variables) = @_;
	my $database = 'demo' . ++$databases;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, 'CREATE EXTENSION leadroute');
	my @psql = ('psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-P', 'pager=off', '-P', 'footer=off', '-d', $node->connstr($database));
	my ($out, $err) = run_command([ @psql, (map { ('-v', "$_=$variables{$_}") } sort keys %variables), '-f', "test/$script" ]);
	is($err, '', "$script runs" . ($variables{name} ? " on $variables{name}" : ''));
	my @long = grep { length > 100 } split /\n/, $out;
	is_deeply(\@long, [], 'and prints at most 100 columns');
	$out =~ s/ +/ /g;
	return ($out, $database);
}

# Writes a file, byte by byte as given, and runs the demonstration on it.
sub demonstrate_file
{
	my ($name, $content) = @_;
	my $path = PostgreSQL::Test::Utils::tempdir() . "/$name";
	open my $file, '>:raw', $path or die "$path: $!";
	print $file $content;
	close $file;
	return demonstrate('demo_file.sql', leads => $path, name => $name);
}

my ($out) = demonstrate('demo.sql');
like($out, qr/^ 20,000 \| [\d.]+ \| [\d,]+$/m, 'it says how many leads it routed, in which time, and how many a second');
like($out, qr/^Decision \d+: lead \d+ was assigned to u-\d+, in the rotation of pool dach\.$/m, 'it explains one that was assigned');
like($out, qr/enriched; filled:.* company_size/s, 'with the evidence');
like($out, qr/^Decision \d+: lead \d+ was rejected\.$/m, 'and one that was rejected');
like($out, qr/2,000 identical, 0 not/, 'decisions verify');
like($out, qr/decisions: 0 problems/, 'and all is accounted for');

my $database;
($out, $database) = demonstrate_file('crm.csv', qq{\xef\xbb\xbf"Email";"Company Name";"Country";"Number of Employees";"Consent";Note;Note;\r\n}
	  . qq{jane\@acme.example;"Acme; ""The"" Inc";DE;2000;true;a;b;\r\n"";;US;12;;;;\r\nx\@y.example;B;FR;"about five";true;;;\r\nz\@y.example;B;FR;5;false;;;});
like($out, qr/^ assigned \| rule_matched \| 1 /m, 'semicolons, a byte order mark, quotes, CRLF: one lead is assigned');
like($out, qr/^ rejected \| invalid_contact \| 1 /m, 'an empty address is none');
like($out, qr/^ rejected \| contact_not_permitted \| 1 /m, 'consent is checked');
like($out, qr/^ quarantined \| unreadable_attribute \| 1 /m, 'words for a number are quarantined');
like($out, qr/that of line 2, as .*in the rotation of pool key_accounts/s, 'columns by their usual names, the lead by its line');
is($node->safe_psql($database, 'SELECT "Company Name", "Note", "Note_7", column_8 FROM file_leads WHERE line = 2'), 'Acme; "The" Inc|a|b|', 'no column is lost');

($out, $database) = demonstrate_file('latin.tsv', "Name\tE-Mail\tline\nM\xfcller\tm\@x.example\t7\n");
like($out, qr/^ assigned \| rule_matched \| 1 /m, 'tabs, Windows-1252');
like($out, qr/says nothing of consent/, 'a file without consent is routed, and told so');
is($node->safe_psql($database, q{SELECT "Name" = U&'M\00FCller', line_ FROM file_leads WHERE line = 2}), 't|7', 'letters and a column called line arrive');

($out) = demonstrate_file('one.csv', "country");
like($out, qr/^ 0 \| /m, 'a header alone');
($out) = demonstrate_file('comma.csv', "id,it's \"odd\",a:b,ctid,phone\n1,2,3,4,+49 30 123456\n");
like($out, qr/^ assigned \| rule_matched \| 1 /m, 'commas and odd names');

$node->stop;
done_testing();
