# Draws policies and leads at random, for the test that compares ways of finding rules. What is drawn is small on purpose: few
# columns and few values, so that rules hold, overlap, tie and raise. A policy depends on its seed and number alone.
#
# A conjunct is [text, parts, raises]: how many conjuncts leadroute makes of it (BETWEEN is two), and whether it is one of those
# that are evaluated behind the others because they may raise. The comparison checks both, by the conjunct that an error names.
package RandomRules;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use JSON::PP;

our @EXPORT = qw(random_policy);

# Values that share beginnings, differ in case, in blanks, in script; that have quotes; that are empty.
my %texts = (
	country => [ 'DE', 'FR', 'AT', 'CH', 'de', '', 'DE ', 'D' ],
	region => [ 'Nordrhein-Westfalen', 'Nordrhein-Wettin', 'Nordrhei', 'Nordrhein', "\x{c4}rmel", "S\x{fc}d", 'a', 'Z', "Z\x{fc}rich" ],
	industry => [ 'software', 'Software', 'retail', "O'Neill", 'back\\slash', '50%', 'a_b' ],
	source => [ 'web', 'event', 'ads', 'partner' ],
	source_system => [ 'crm', 'form' ],
	language => [ 'de', 'en', 'fr' ],
	company => [ 'Acme', 'Acme Corp', "\x{1f600}", 'acme' ],
	domain => [ 'acme.example', 'b.example' ],
	consent_basis => [ 'consent', 'contract' ],
	"attributes->>'seats'" => [ '5', '12', '-1', 'many', '', '99999999999', '2147483647', '0' ],
	"attributes->>'plz'" => [ '01067', '10115', '1011', '80331', '8033', '99', "\x{d6}" ],
	"attributes->>'k'" => [ 'x', 'y', '(', 'b*' ],
	"attributes->>'unknown'" => [ 'x', 'y' ],
	'validateContact.status' => [ 'valid', 'invalid' ],
	'computeLeadScore.tier' => [ 'hot', 'cold' ],
	"weighLead->>'kind'" => [ 'heavy', 'light' ]);
my @moments = (
	'-infinity', 'infinity', '2026-03-29 01:30:00+01', '2026-03-29 03:30:00+02', '2026-03-29 02:30', '2026-05-04 00:00', '2026-05-04 00:00:00.000001',
	'2026-05-03 22:00:00+00', '2025-12-31 23:59:59.999999', '2026-01-01', '2024-02-29 12:00+00', '1999-12-31', '2026-11-01 01:30-04');
my %kinds = ((map { $_ => 'text' } keys %texts), company_size => 'int', prior_interactions => 'int', score => 'int', consent => 'bool', 'validateContact.role_address' => 'bool',
	received_at => 'time', consent_at => 'time', as_of => 'time');
my @columns = sort keys %kinds;

my %want;    # what the policy at hand is like
my @ints;

# Draws a policy with rules and leads. Returns what the comparison reads, for JSON.
sub random_policy
{
	my ($seed, $number, $nleads) = @_;
	srand($seed * 1_000_003 + $number);
	choose_style();
	my $hit_policy = pick('priority', 'priority', 'first', 'unique');
	my @prerequisites = chance(0.2) ? ('weighLead') : ();
	my (@documents, @rules);
	my $n = 1 + int(rand(60));
	foreach my $no (0 .. $n - 1)
	{
		my ($document, $rule) = random_rule($no, $hit_policy, \@prerequisites, \@rules);
		push @documents, $document;
		push @rules, $rule;
	}
	my $place = 0;
	my @order = grep { $_->{enabled} } @rules;
	@order = sort { $a->{priority} <=> $b->{priority} || $a->{no} <=> $b->{no} } @order if $hit_policy ne 'first';
	$_->{place} = $place++ foreach @order;
	return {
		number => $number, style => $want{style}, timezone => $want{timezone}, hit_policy => $hit_policy, rules => \@order,
		leads => [ map { random_lead() } 1 .. $nleads ],
		document => {
			leadroute => 1, timezone => $want{timezone}, hit_policy => $hit_policy, rules => \@documents,
			steps => [ { capability => 'weighLead', on_error => 'skip' }, { capability => 'assignOwner' } ] } };
}

# ---- rules ----

# Decides what kind of policy it will be: which columns its rules look at, which values, and how often they do what.
sub choose_style
{
	my $style = pick('mixed', 'territories', 'ranges', 'raising', 'wide');
	my %of = (mixed => [ 12, 0.35, 0.25, 0.2 ], territories => [ 5, 0.7, 0.2, 0.05 ], ranges => [ 1, 0.15, 0.7, 0.1 ], raising => [ 5, 0.4, 0.1, 0.45 ], wide => [ 14, 0.95, 0.03, 0.02 ]);
	my ($ncolumns, $equal, $bounded, $raising) = @{ $of{$style} };
	my @own = (shuffle(@columns))[ 0 .. $ncolumns - 1 ];
	@own = (pick('company_size', 'received_at', 'region', "attributes->>'plz'", 'as_of'), pick(@own, 'score')) if $style eq 'ranges';
	@ints = map { int(rand(10)) } 1 .. 5;
	push @ints, pick(-2147483648, 2147483647, -1, 0, 1) if chance(0.5);
	%want = (
		style => $style, columns => \@own, equal => $equal, bounded => $bounded, raising => $raising, nulls => pick(0, 0.1, 0.3), timezone => pick('UTC', 'Europe/Berlin', 'America/New_York'),
		conjuncts => $style eq 'wide' ? [ 2 .. 10 ] : $style eq 'ranges' ? [ 1 .. 4 ] : [ 1, 2, 2, 3, 3, 4, 5, 6 ], values => {});
	# each policy knows some of the values of a column only
	foreach my $column (grep { $kinds{$_} eq 'text' } @columns)
	{
		my @some = shuffle(@{ $texts{$column} });
		$want{values}{$column} = [ @some[ 0 .. ($style eq 'wide' ? int(rand(1.3)) : int(rand(@some))) ] ];
	}
	@ints = @ints[ 0, 1 ] if $style eq 'wide';
	$want{moments} = [ (shuffle(@moments))[ 0 .. ($style eq 'wide' ? 1 : 2 + int(rand(6))) ] ];
}

# Draws a rule: what the document says, and what the comparison has to know.
sub random_rule
{
	my ($no, $hit_policy, $prerequisites, $earlier) = @_;
	my (@conjuncts, @dates, $when);
	if (@$earlier && chance(0.08))
	{
		# a duplicate
		my $other = pick(@$earlier);
		($when, @conjuncts) = ($other->{when}, @{ $other->{drawn} });
	}
	else
	{
		my $some = chance(0.01) ? 0 : pick(@{ $want{conjuncts} });
		@conjuncts = $want{style} eq 'wide' ? map { equality($_) } (shuffle(@{ $want{columns} }))[ 0 .. $some ] : map { conjunct() } 1 .. $some;
		push @conjuncts, [ 'true', 0, 0 ] if !@conjuncts || chance(0.03);
		push @conjuncts, [ 'false', 1, 0 ] if chance(0.01);
		$when = connect_parts(map { $_->[0] } @conjuncts);
	}
	my %document = (name => "rule $no", when => $when, outcome => pick('nurture', 'rejected', 'quarantined'), reason => pick('one', 'two', "reason $no"));
	my ($from, $until) = sort { $a cmp $b } map { sprintf '20%02d-%02d-%02d', 24 + int(rand(3)), 1 + int(rand(12)), 1 + int(rand(28)) } 1, 2;
	if (chance(0.1))
	{
		$document{effective_from} = $from;
		push @dates, [ "as_of >= timestamptz '$from'", 1, 0 ];
	}
	if (chance(0.1) && $from ne $until)
	{
		$document{effective_until} = $until;
		push @dates, [ "as_of < timestamptz '$until'", 1, 0 ];
	}
	my $priority = chance(0.5) ? 0 : pick(-3, -0.5, 0, 1, 1, 2.25, 100) + 0;
	$document{priority} = $priority if $hit_policy ne 'first' && ($priority || chance(0.2));
	$document{enabled} = JSON::PP::false if chance(0.07);
	$document{enabled} = JSON::PP::true if chance(0.03);
	$document{prerequisites} = [@$prerequisites] if @$prerequisites && chance(0.3);
	if (chance(0.1))
	{
		delete @document{qw(outcome reason)};
		$document{pool} = 'random';
	}
	my %rule = (
		no => $no, priority => $document{priority} // 0, enabled => !exists $document{enabled} || $document{enabled} ? 1 : 0, when => $when, drawn => \@conjuncts,
		needs => exists $document{prerequisites} ? 1 : 0, where => join(' AND ', map { in_plain_sql("($_->[0])") } @conjuncts, @dates), conjuncts => placed(@conjuncts, @dates));
	return (\%document, \%rule);
}

# Numbers conjuncts as an error names them: those that cannot raise, dates of effect last, then those that may.
sub placed
{
	my @conjuncts = @_;
	my $place = 0;
	my @placed;
	foreach my $raises (0, 1)
	{
		foreach my $conjunct (grep { $_->[2] == $raises } @conjuncts)
		{
			push @placed, { place => $place, sql => in_plain_sql($conjunct->[0]) };
			$place += $conjunct->[1];
		}
	}
	return \@placed;
}

# Conditions compare and fold text under the C collation; plain SQL has to be told so of what is not a column.
sub in_plain_sql
{
	my ($text) = @_;
	$text =~ s/((?:attributes|weighLead)->>'\w+')/(($1) COLLATE "C")/g;
	$text =~ s/lower\(('(?:[^']|'')*')\)/lower($1 COLLATE "C")/g;
	return $text;
}

sub connect_parts
{
	my @parts = map { /\bOR\b/ || chance(0.1) ? "($_)" : $_ } @_;
	@parts = ("($parts[0] and $parts[1])", @parts[ 2 .. $#parts ]) if @parts > 2 && chance(0.1);
	return join(pick(' AND ', ' AND ', "\n  AND "), @parts);
}

# ---- conjuncts ----

sub conjunct
{
	my $column = pick(@{ $want{columns} });
	my $drawn = rand();
	return equality($column) if $drawn < $want{equal};
	return bound($kinds{$column} eq 'bool' ? pick('company_size', 'received_at') : $column) if $drawn < $want{equal} + $want{bounded};
	return raising() if $drawn < $want{equal} + $want{bounded} + $want{raising};
	return other($column);
}

# What the index goes by.
sub equality
{
	my ($column) = @_;
	my ($value) = constants($column, 1);
	return pick([ $column, 1, 0 ], [ "NOT $column", 1, 0 ], [ "$column = true", 1, 0 ], [ "$column = false", 1, 0 ], [ "$column <> true", 1, 0 ], [ "$column IN (true)", 1, 0 ])
	  if $kinds{$column} eq 'bool';
	return pick([ "$column = $value", 1, 0 ], [ "$value = $column", 1, 0 ], [ "$column = $value", 1, 0 ]) if chance(0.65);
	my @values = constants($column, 1 + int(rand(4)));
	push @values, constants($column, pick(8, 12)) if chance(0.1);
	# more than the index takes
	push @values, map { $kinds{$column} eq 'text' ? "'v$_'" : $kinds{$column} eq 'int' ? 1000 + $_ : "'2020-01-01 00:00:$_'" } 1 .. 59 + int(rand(8)) if $kinds{$column} ne 'time' && chance(0.05);
	return [ "$column IN (" . join(', ', @values) . ')', 1, 0 ];
}

sub bound
{
	my ($column) = @_;
	my ($one, $other) = constants($column, 2);
	return [ "$column " . pick('<', '<=', '>', '>=') . " $one", 1, 0 ] if chance(0.55);
	return [ "$one " . pick('<', '<=', '>', '>=') . " $column", 1, 0 ] if chance(0.2);
	return [ "$column BETWEEN $one AND $other", 2, 0 ] if chance(0.85);
	return [ "$column NOT BETWEEN $one AND $other", 1, 0 ];
}

# What the index does not go by and what cannot raise.
sub other
{
	my ($column) = @_;
	my ($one, $two, $three) = constants($column, 3);
	my $second = pick(grep { $kinds{$_} eq $kinds{$column} } @columns);
	my @common = ([ "$column IS NULL", 1, 0 ], [ "$column IS NOT NULL", 1, 0 ], [ "$column IS DISTINCT FROM $one", 1, 0 ], [ "$column IS NOT DISTINCT FROM $one", 1, 0 ],
		[ "$column = $second", 1, 0 ], [ "coalesce($column, $one) = $two", 1, 0 ], [ "$column < $second", 1, 0 ], [ "nullif($column, $one) = $two", 1, 0 ]);
	my ($a, $b) = (equality($column)->[0], equality(pick(@{ $want{columns} }))->[0]);
	push @common, [ "($a OR $b)", 1, 0 ], [ "NOT ($a OR $b)", 2, 0 ], [ "NOT ($a AND $b)", 1, 0 ], [ "(($a AND $b) OR $column IS NULL)", 1, 0 ], [ "($a) IS NOT TRUE", 1, 0 ],
	  [ "CASE WHEN $a THEN $b ELSE true END", 1, 0 ];
	return pick(@common, [ "$column IS TRUE", 1, 0 ], [ "$column IS NOT FALSE", 1, 0 ], [ "$column = (company_size > 3)", 1, 0 ]) if $kinds{$column} eq 'bool';
	push @common, [ "$column <> $one", 1, 0 ], [ "NOT $column = $one", 1, 0 ], [ "$column NOT IN ($one, $two)", 1, 0 ], [ "($column, country) = ($one, 'DE')", 2, 0 ],
	  [ "$column <> ALL (ARRAY[$one, $two])", 1, 0 ];
	push @common, [ "$column = ANY ('{5,NULL,7}')", 1, 0 ], [ "$column = 5::bigint", 1, 0 ], [ "$column BETWEEN SYMMETRIC 7 AND 2", 1, 0 ], [ "10::smallint > $column", 1, 0 ]
	  if $kinds{$column} eq 'int';
	push @common, [ "$column = ANY ('{DE,NULL,x}')", 1, 0 ], [ "attributes ? 'seats'", 1, 0 ], [ "attributes->'nested'->>'deep' = 'x'", 1, 0 ], [ "attributes = '{}'", 1, 0 ],
	  [ "'email' = ANY (consent_channels)", 1, 0 ], [ "consent_channels = '{email}'", 1, 0 ]
	  if $kinds{$column} eq 'text';
	push @common, [ "$column > as_of", 1, 0 ] if $kinds{$column} eq 'time';
	return pick(@common);
}

# What may raise, or is thought to; it is among the things with which a lead can be at odds.
sub raising
{
	my $text = pick(grep { $kinds{$_} eq 'text' } @columns);
	my ($one, $two) = constants($text, 2);
	my $n = int(rand(8));
	my ($moment) = constants('as_of', 1);
	my $cast = pick('attributes', 'attributes', 'weighLead');
	$cast = $cast eq 'attributes' ? "(attributes->>'seats')" : "(weighLead->>'weight')";
	my @all = (
		(map { "$cast\::$_" } "int > $n", "int = $n", "int BETWEEN 1 AND $n", "numeric < $n.5", "bigint IN (5, 12)", "int IS NULL", "boolean", "date > '2026-01-01'", "timestamptz < $moment"),
		"($cast\::int > $n OR country = 'DE')", "(country = 'DE' OR $cast\::int > $n)", "CASE WHEN country = 'DE' THEN $cast\::int > 2 ELSE consent END", "NOT $cast\::int = $n",
		"(attributes->'seats')::int > $n", "company_size / prior_interactions > $n", "company_size % (company_size - $n) = 1", "100 / nullif(company_size, 0) > $n", "company_size / score = 1",
		"company_size + $n > 5", "company_size * 1000000 > $n", "-company_size < $n", "abs(company_size) = $n", "sqrt(company_size) > 1.5", "ln(score) > 0", "company_size = $n.0",
		"$text LIKE '%e%'", "$text LIKE 'D_'", "$text NOT LIKE 'Nord%'", "$text ILIKE 'd%'", "$text ~ '^[a-d]'", "$text !~* 'E'", "country ~ (attributes->>'k')", "length($text) > $n",
		"lower($text) = lower($one)", "upper($text) < 'M'", "substr($text, 1, company_size) = 'D'", "$text || 'x' = $one || 'x'", "starts_with($text, 'D')", "greatest($text, $one) = $two", "least(company_size, score, 5) = $n",
		"position('e' in $text) > 0", "split_part(domain, '.', company_size) = 'acme'", "attributes \@> '{\"k\": \"x\"}'", "attributes ?| ARRAY['k', 'unknown']", "jsonb_typeof(attributes->'seats') = 'number'",
		"consent_channels \@> ARRAY['email']", "cardinality(consent_channels) > 1", "company_size\::text = '$n'",
		"as_of - received_at > interval '2 days'", "extract(hour FROM received_at) >= $n", "date_trunc('day', as_of) = $moment", "received_at\::date = '2026-05-04'", "received_at + interval '1 month' > as_of",
		"received_at AT TIME ZONE 'Asia/Tokyo' > '2026-01-01'", "extract(dow FROM as_of) IN (0, 6)", "to_timestamp(company_size) < received_at", "make_interval(0, 0, 0, company_size) > interval '3 days'", "make_date(2026, prior_interactions, 1) < '2026-06-01'");
	my $chosen = pick(@all);
	return [ $chosen, $chosen =~ /BETWEEN/ ? 2 : 1, 1 ];
}

# Draws constants of a column's type, as SQL.
sub constants
{
	my ($column, $n) = @_;
	return map { pick('true', 'false') } 1 .. $n if $kinds{$column} eq 'bool';
	return map { chance(0.1) ? int(rand(12)) : pick(@ints) } 1 .. $n if $kinds{$column} eq 'int';
	return map { "timestamptz '" . pick(@{ $want{moments} }) . "'" } 1 .. $n if $kinds{$column} eq 'time';
	return map { "'" . (pick(@{ $want{values}{$column} }) =~ s/'/''/gr) . "'" } 1 .. $n;
}

# ---- leads ----

sub random_lead
{
	my %lead;
	my %attributes;
	my %weigh;
	foreach my $column (@columns)
	{
		next if chance($want{nulls});
		my $value = $kinds{$column} eq 'int' ? (chance(0.3) ? int(rand(14)) - 1 : pick(@ints, @ints, 2147483647)) + 0
		  : $kinds{$column} eq 'bool' ? (chance(0.5) ? JSON::PP::true : JSON::PP::false)
		  : $kinds{$column} eq 'time' ? (chance(0.8) ? pick(@{ $want{moments} }) : pick(@moments))
		  : chance(0.9) ? pick(@{ $want{values}{$column} }) : pick(@{ $texts{$column} });
		if ($column =~ /^attributes->>'(\w+)'/)
		{
			my $member = $1;
			next if $member eq 'unknown' && chance(0.9);
			$value = $value + 0 if $value =~ /^-?\d{1,9}$/ && $value !~ /^0\d/ && chance(0.3);
			$attributes{$member} = $value;
		}
		elsif ($column =~ /^weighLead->>'(\w+)'/)
		{
			$weigh{$1} = $value;
		}
		else
		{
			$lead{ $column eq 'score' ? 'computeLeadScore.score' : $column } = $value;
		}
	}
	$weigh{weight} = pick('1', '5', 'heavy', '99999999999') if chance(0.8);
	$attributes{nested} = { deep => pick('x', 'y') } if chance(0.3);
	%attributes = () if chance(0.05);
	$lead{consent_channels} = pick([], ['email'], [ 'email', 'phone' ]) if chance(0.8);
	$lead{attributes} = \%attributes unless chance(0.07);
	$lead{weighLead} = \%weigh unless chance(0.15);
	return \%lead;
}

# ---- chance ----

sub chance
{
	return rand() < $_[0];
}

sub pick
{
	return $_[ int(rand(@_)) ];
}

sub shuffle
{
	my @all = @_;
	for (my $i = $#all; $i > 0; $i--)
	{
		my $j = int(rand($i + 1));
		@all[ $i, $j ] = @all[ $j, $i ];
	}
	return @all;
}

1;
