# Finds the rules of random policies for random leads in several ways, which have to agree:
#
#   - through the index, and by trying all rules one after the other;
#   - by plain SQL: each rule's condition behind WHERE, over a table of the leads. SQL promises no order of evaluation, so this
#     is asked of the pairs of rule and lead only of which no conjunct raises;
#   - by an evaluator of its own: each conjunct by itself, in a block that catches what it raises, the answers combined as the
#     design has it: any false makes it false, otherwise any error makes it an error, otherwise any null makes it null;
#   - some policies also route the leads when they are inserted: with prerequisites, and steps that fail, and what is on record is
#     compared;
#   - of some the index is made anew from the text of the stored rules, and has to be the one that was stored.
#
# Compared are the rule that decides, all that hold under the hit policy unique, and the errors: which rules raised, with which
# SQLSTATE, in which conjunct, in which order. The database has a collation other than C, where the server can.
#
#   RULES_DIFFERENTIAL=10000   so many policies; 200 by default (a quarter of an hour: with TEST_TIMEOUT=7200)
#   LEADROUTE_SEED=7           the same again; a difference names the policy, by its number
#   RULES_DIFFERENTIAL_ONLY=42 only the policy of this number
use strict;
use warnings FATAL => 'all';

use JSON::PP;
use LeadrouteTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RandomRules;
use Test::More;

my $seed = seed_of();
my $policies = $ENV{RULES_DIFFERENTIAL} || 200;
my $leads = 12;
my $per_session = 40;
my $json = JSON::PP->new->ascii->canonical;

my $node = new_server('main', "autovacuum = off\nmax_wal_size = 4GB\nfsync = off\n");
$node->start;
my $database = q{CREATE DATABASE rules TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'};
my ($refused) = in_psql($node, "$database LOCALE_PROVIDER icu ICU_LOCALE 'en-US'");
$node->safe_psql('postgres', $database) if $refused;
note($refused ? 'the server has no ICU' : 'the database collates as ICU does for en-US');
$node->safe_psql('rules', setup());

my %total;
my @differences;
my @numbers = exists $ENV{RULES_DIFFERENTIAL_ONLY} ? ($ENV{RULES_DIFFERENTIAL_ONLY}) : (1 .. $policies);
while (my @some = splice(@numbers, 0, $per_session))
{
	# nothing of a policy stays but the numbers it took, and what VACUUM takes away
	my $script = join '', "VACUUM;\n", map { "BEGIN;\nSELECT compare.policy(\$policy\$" . $json->encode(random_policy($seed, $_, $leads)) . "\$policy\$);\nROLLBACK;\n" } @some;
	my (undef, $out, $err) = in_psql($node, $script, 'rules', on_error_stop => 0);
	my @answers = map { $json->decode($_) } grep { $_ ne '' } split /\n/, $out;
	if (@answers != @some)
	{
		my %answered = map { $_->{policy} => 1 } @answers;
		my @missing = grep { !$answered{$_} } @some;
		push @differences, { policy => $missing[0], what => scalar(@missing) . ' policies could not be compared', found => substr($err, 0, 2000) };
	}
	foreach my $answer (@answers)
	{
		$total{$_} += $answer->{counts}{$_} foreach keys %{ $answer->{counts} };
		push @differences, @{ $answer->{differences} };
	}
	last if @differences > 10;
}
note(join "\n", map { sprintf '%-22s %d', $_, $total{$_} } sort keys %total);
foreach my $difference (@differences > 10 ? @differences[ 0 .. 9 ] : @differences)
{
	diag("LEADROUTE_SEED=$seed RULES_DIFFERENTIAL_ONLY=$difference->{policy}: " . $json->encode($difference));
}
my $which = exists $ENV{RULES_DIFFERENTIAL_ONLY} ? "policy $ENV{RULES_DIFFERENTIAL_ONLY}" : "$policies random policies";
is(scalar(@differences), 0, "all ways find the same rules, and the same errors, of $which");

# The comparison compares something.
if (!exists $ENV{RULES_DIFFERENTIAL_ONLY} && $policies >= 100)
{
	is($total{policies}, $policies, 'all policies were compared');
	foreach my $what (qw(hold fail null raise hits unhit errors_before_hit several_hits plain_holds plain_does_not inserted inserted_undone rebuilt trees groups))
	{
		cmp_ok($total{$what} // 0, '>', $total{policies} / 10, "there were enough of: $what");
	}
	cmp_ok($total{verified_by_index}, '<', $total{verified_one_by_one} * 0.7, 'the index spares rules');
}
$node->stop;
done_testing();

# What compares a policy: compare.policy(), given what RandomRules draws, returns counts and differences.
sub setup
{
	return <<'SQL';
CREATE EXTENSION leadroute;
CREATE SCHEMA compare;
CREATE FUNCTION compare.weigh(lead jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF lead -> 'attributes' ->> 'k' = '(' THEN RAISE division_by_zero; END IF;
    RETURN jsonb_build_object('kind', 'heavy', 'weight', lead -> 'attributes' ->> 'seats');
END $$;
SELECT leadroute.register_agent('weigh', '1', '{weighLead}', 'compare.weigh(jsonb)');
INSERT INTO leadroute.owners (reference) VALUES ('anna');
INSERT INTO leadroute.pools (name) VALUES ('random');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT pool_id, owner_id FROM leadroute.pools, leadroute.owners;

-- The facts, named as match_rules() takes them.
CREATE TABLE compare.leads (
    lead_no integer PRIMARY KEY, "source" text COLLATE "C", source_system text COLLATE "C", country text COLLATE "C", region text COLLATE "C", language text COLLATE "C",
    industry text COLLATE "C", company text COLLATE "C", domain text COLLATE "C", consent_basis text COLLATE "C", company_size integer, prior_interactions integer, consent boolean,
    received_at timestamptz, consent_at timestamptz, as_of timestamptz, consent_channels text[] COLLATE "C", attributes jsonb,
    "validateContact.status" text COLLATE "C", "validateContact.role_address" boolean, "computeLeadScore.score" integer, "computeLeadScore.tier" text COLLATE "C", "weighLead" jsonb);
CREATE FUNCTION compare.source(leads text) RETURNS text LANGUAGE sql AS $$
    SELECT format('(SELECT * FROM %s OFFSET 0) AS l, LATERAL (SELECT l."validateContact.status", l."validateContact.role_address") AS validateContact (status, role_address),
        LATERAL (SELECT l."computeLeadScore.score", l."computeLeadScore.tier") AS computeLeadScore (score, tier), LATERAL (SELECT l."weighLead") AS w (weighLead)', leads)
$$;
CREATE TABLE compare.rules (rule_no integer PRIMARY KEY, place integer, needs boolean, plain text);
CREATE TABLE compare.conjuncts (rule_no integer, place integer, conjunct text);
CREATE TABLE compare.truths (rule_no integer, place integer, lead_no integer, truth text);
CREATE TABLE compare.pairs (rule_no integer, rule_place integer, lead_no integer, truth text, errors integer, conjunct integer);

CREATE TABLE compare.incoming (id integer PRIMARY KEY, "source" text, source_system text, country text, region text, language text, industry text, company text, domain text,
    consent_basis text, company_size integer, prior_interactions integer, consent boolean, received_at timestamptz, consent_at timestamptz, consent_channels text[], attributes jsonb);
SELECT leadroute.attach_table('compare.incoming', policy => 'random');

-- What one conjunct is for each lead: true, false, null or the SQLSTATE that it raises.
CREATE FUNCTION compare.truths(conjunct text) RETURNS TABLE (lead_no integer, truth text) LANGUAGE plpgsql AS $$
DECLARE
    no integer;
BEGIN
    BEGIN
        RETURN QUERY EXECUTE format('SELECT l.lead_no, coalesce((%s)::text, ''null'') FROM %s', conjunct, compare.source('compare.leads'));
        RETURN;
    EXCEPTION WHEN data_exception THEN
        NULL; -- for one of them
    END;
    FOR no IN SELECT l.lead_no FROM compare.leads l LOOP
        BEGIN
            RETURN QUERY EXECUTE format('SELECT l.lead_no, coalesce((%s)::text, ''null'') FROM %s', conjunct, compare.source('compare.leads WHERE lead_no = ' || no));
        EXCEPTION WHEN data_exception THEN
            lead_no := no;
            truth := SQLSTATE;
            RETURN NEXT;
        END;
    END LOOP;
END $$;

-- Fills compare.pairs: what each rule is for each lead, conjunct by conjunct.
CREATE FUNCTION compare.evaluate() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM compare.truths;
    DELETE FROM compare.pairs;
    INSERT INTO compare.truths
        SELECT c.rule_no, c.place, t.lead_no, t.truth
        FROM (SELECT conjunct FROM compare.conjuncts GROUP BY 1) d, LATERAL compare.truths(d.conjunct) t, compare.conjuncts c WHERE c.conjunct = d.conjunct;
    INSERT INTO compare.pairs
        SELECT r.rule_no, r.place, t.lead_no,
               CASE WHEN bool_or(t.truth = 'false') THEN 'false' WHEN count(*) FILTER (WHERE t.truth NOT IN ('true', 'false', 'null')) > 0
                    THEN (array_agg(t.truth ORDER BY t.place) FILTER (WHERE t.truth NOT IN ('true', 'false', 'null')))[1]
                    WHEN bool_or(t.truth = 'null') THEN 'null' ELSE 'true' END,
               count(*) FILTER (WHERE t.truth NOT IN ('true', 'false', 'null')), min(t.place) FILTER (WHERE t.truth NOT IN ('true', 'false', 'null'))
        FROM compare.truths t JOIN compare.rules r USING (rule_no) GROUP BY r.rule_no, r.place, t.lead_no;
END $$;

-- What has to be found for each lead, by compare.pairs.
CREATE FUNCTION compare.expected(hit_policy text) RETURNS TABLE (lead_no integer, answer jsonb) LANGUAGE sql AS $$
    WITH firsts AS (
        SELECT p.lead_no, CASE WHEN hit_policy = 'unique' THEN 2147483647 ELSE coalesce(min(p.rule_place) FILTER (WHERE p.truth = 'true'), 2147483647) END AS until FROM compare.pairs p GROUP BY 1)
    SELECT p.lead_no, jsonb_build_object(
        'rule_no', (array_agg(p.rule_no ORDER BY p.rule_place) FILTER (WHERE p.truth = 'true'))[1],
        'hits', CASE WHEN hit_policy = 'unique' THEN coalesce(jsonb_agg(p.rule_no ORDER BY p.rule_place) FILTER (WHERE p.truth = 'true'), '[]') ELSE '[]' END,
        'errors', coalesce(jsonb_agg(jsonb_build_object('rule_no', p.rule_no, 'sqlstate', p.truth, 'conjunct', p.conjunct) ORDER BY p.rule_place)
                           FILTER (WHERE p.truth NOT IN ('true', 'false', 'null') AND p.rule_place < f.until), '[]'))
    FROM compare.pairs p JOIN firsts f USING (lead_no) GROUP BY p.lead_no
$$;

CREATE FUNCTION compare.answers(version_id integer, leads jsonb[], indexed boolean) RETURNS TABLE (lead_no integer, answer jsonb, verified integer) LANGUAGE sql AS $$
    SELECT m.lead_no, jsonb_build_object('rule_no', m.rule_no, 'hits', m.hits, 'errors', m.errors), m.verified FROM leadroute.match_version_rules(version_id, leads, indexed) m
$$;

-- Which pairs of rule and lead plain SQL finds, among those of which no conjunct raises: one query for all rules.
CREATE FUNCTION compare.plain() RETURNS TABLE (rule_no integer, lead_no integer) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY EXECUTE (
        SELECT string_agg(format('SELECT %s, l.lead_no FROM %s WHERE %s', r.rule_no, compare.source(format('compare.leads WHERE lead_no = ANY (%L)', clean.leads)), r.plain), ' UNION ALL ')
        FROM compare.rules r, LATERAL (SELECT coalesce(array_agg(p.lead_no), '{}')::text AS leads FROM compare.pairs p WHERE p.rule_no = r.rule_no AND p.errors = 0) clean);
END $$;

CREATE FUNCTION compare.policy(given jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    leads jsonb[];
    version integer;
    id integer;
    counts jsonb;
    differences jsonb := '[]';
BEGIN
    PERFORM set_config('TimeZone', given ->> 'timezone', true), set_config('DateStyle', 'ISO, YMD', true);
    DELETE FROM compare.leads;
    DELETE FROM compare.rules;
    DELETE FROM compare.conjuncts;
    SELECT array_agg(value ORDER BY n) INTO leads FROM jsonb_array_elements(given -> 'leads') WITH ORDINALITY AS x (value, n);
    INSERT INTO compare.leads SELECT (jsonb_populate_record(NULL::compare.leads, value || jsonb_build_object('lead_no', n))).* FROM unnest(leads) WITH ORDINALITY AS x (value, n);
    INSERT INTO compare.rules SELECT (r ->> 'no')::int, (r ->> 'place')::int, r ->> 'needs' = '1', r ->> 'where' FROM jsonb_array_elements(given -> 'rules') r;
    INSERT INTO compare.conjuncts SELECT (r ->> 'no')::int, (c ->> 'place')::int, c ->> 'sql' FROM jsonb_array_elements(given -> 'rules') r, jsonb_array_elements(r -> 'conjuncts') c;
    version := leadroute.publish_policy('random', given -> 'document', 'random');
    id := leadroute.policy_version_id('random', version);

    CREATE TEMP TABLE indexed ON COMMIT DROP AS SELECT * FROM compare.answers(id, leads, true);
    CREATE TEMP TABLE one_by_one ON COMMIT DROP AS SELECT * FROM compare.answers(id, leads, false);
    IF EXISTS (SELECT FROM compare.rules) THEN
        PERFORM compare.evaluate();
        CREATE TEMP TABLE plain ON COMMIT DROP AS SELECT * FROM compare.plain();
    ELSE
        DELETE FROM compare.pairs;
        CREATE TEMP TABLE plain (rule_no integer, lead_no integer) ON COMMIT DROP;
    END IF;
    CREATE TEMP TABLE expected ON COMMIT DROP AS
        SELECT l.lead_no, coalesce(e.answer, '{"rule_no": null, "hits": [], "errors": []}') AS answer FROM compare.leads l LEFT JOIN compare.expected(given ->> 'hit_policy') e USING (lead_no);

    SELECT jsonb_build_object('policies', 1, 'pairs', count(*), 'hold', count(*) FILTER (WHERE truth = 'true'), 'fail', count(*) FILTER (WHERE truth = 'false'), 'null', count(*) FILTER (WHERE truth = 'null'),
                              'raise', count(*) FILTER (WHERE truth NOT IN ('true', 'false', 'null')), 'plain_holds', (SELECT count(*) FROM plain), 'plain_does_not', count(*) FILTER (WHERE errors = 0 AND truth <> 'true'))
        || (SELECT jsonb_build_object('hits', count(*) FILTER (WHERE answer -> 'rule_no' <> 'null'), 'unhit', count(*) FILTER (WHERE answer -> 'rule_no' = 'null'),
                                      'errors_before_hit', count(*) FILTER (WHERE answer -> 'rule_no' <> 'null' AND answer -> 'errors' <> '[]'), 'several_hits', count(*) FILTER (WHERE jsonb_array_length(answer -> 'hits') > 1)) FROM expected)
        || (SELECT jsonb_build_object('verified_by_index', sum(i.verified), 'verified_one_by_one', sum(o.verified)) FROM indexed i JOIN one_by_one o USING (lead_no))
        || (SELECT jsonb_build_object('trees', x.trees, 'groups', x.groups, 'shapes', x.shapes, 'rules', x.rules) FROM leadroute.version_rule_index(id) x)
    INTO counts FROM compare.pairs;

    SELECT differences || coalesce(jsonb_agg(d), '[]') INTO differences FROM (
        SELECT given -> 'number' AS policy, given -> 'style' AS style, lead_no AS lead, 'index and one by one' AS what, i.answer AS found, o.answer AS expected
        FROM indexed i FULL JOIN one_by_one o USING (lead_no) WHERE i.answer IS DISTINCT FROM o.answer
        UNION ALL
        SELECT given -> 'number', given -> 'style', lead_no, 'one by one and conjunct by conjunct', o.answer, e.answer
        FROM one_by_one o FULL JOIN expected e USING (lead_no) WHERE o.answer IS DISTINCT FROM e.answer
        UNION ALL
        SELECT given -> 'number', given -> 'style', lead_no, 'plain SQL and conjunct by conjunct', jsonb_build_object('rule_no', rule_no, 'holds', p.rule_no IS NOT NULL), jsonb_build_object('rule', r.plain)
        FROM plain p FULL JOIN (SELECT * FROM compare.pairs WHERE errors = 0 AND truth = 'true') t USING (rule_no, lead_no) JOIN compare.rules r USING (rule_no)
        WHERE p.rule_no IS NULL OR t.rule_no IS NULL
        LIMIT 20) d;
    IF (given ->> 'number')::int % 5 = 1 THEN
        CREATE TEMP TABLE stored ON COMMIT DROP AS SELECT rule_index FROM leadroute.policy_versions WHERE policy_version_id = id;
        PERFORM leadroute.rebuild_version_rule_index(id);
        counts := counts || '{"rebuilt": 1}';
        SELECT differences || coalesce(jsonb_agg(jsonb_build_object('policy', given -> 'number', 'what', 'the index made anew is another')), '[]') INTO differences
        FROM stored s, leadroute.policy_versions v WHERE v.policy_version_id = id AND v.rule_index <> s.rule_index;
    END IF;
    IF (given ->> 'number')::int % 5 = 0 THEN
        SELECT differences || i.more, counts || i.counted INTO differences, counts FROM compare.inserts(given, version) i;
    END IF;
    RETURN jsonb_build_object('policy', given -> 'number', 'counts', counts, 'differences', differences);
END $$;

-- Routes the leads by inserting them: outputs are then those of the steps, and a rule may need a step that failed.
CREATE FUNCTION compare.inserts(given jsonb, version integer, OUT more jsonb, OUT counted jsonb) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM leadroute.activate_policy('random', version);
    INSERT INTO compare.incoming
        SELECT lead_no, "source", source_system, country, region, language, industry, company, domain, consent_basis, company_size, prior_interactions, consent, received_at, consent_at, consent_channels, attributes
        FROM compare.leads ORDER BY lead_no;
    CREATE TEMP TABLE decided ON COMMIT DROP AS
        SELECT k.key::int AS lead_no, d.as_of, p.output, r.rule_no
        FROM leadroute.decisions d JOIN leadroute.lead_keys k USING (lead_id) JOIN leadroute.attached_tables t USING (source_id) JOIN leadroute.provenance p USING (decision_id)
        LEFT JOIN leadroute.policy_rules r ON r.policy_version_id = leadroute.policy_version_id('random') AND r.rule ->> 'name' = d.rule
        WHERE t.relation = 'compare.incoming'::regclass AND p.capability = 'assignOwner';
    UPDATE compare.leads SET as_of = (SELECT d.as_of FROM decided d WHERE d.lead_no = leads.lead_no), "validateContact.status" = NULL, "validateContact.role_address" = NULL,
        "computeLeadScore.score" = NULL, "computeLeadScore.tier" = NULL,
        "weighLead" = CASE WHEN attributes ->> 'k' = '(' THEN NULL ELSE jsonb_build_object('kind', 'heavy', 'weight', attributes ->> 'seats') END;
    DELETE FROM compare.pairs;
    IF EXISTS (SELECT FROM compare.rules) THEN
        PERFORM compare.evaluate();
    END IF;
    UPDATE compare.pairs p SET truth = 'false' FROM compare.rules r, compare.leads l
    WHERE r.rule_no = p.rule_no AND l.lead_no = p.lead_no AND r.needs AND l."weighLead" IS NULL;
    SELECT coalesce(jsonb_agg(d), '[]') INTO more FROM (
        SELECT given -> 'number' AS policy, given -> 'style' AS style, lead_no AS lead, 'inserted and conjunct by conjunct' AS what,
               o.found, o.expected
        FROM compare.leads l LEFT JOIN decided d USING (lead_no) LEFT JOIN compare.expected(given ->> 'hit_policy') e USING (lead_no),
             -- which rules hold, where more than one does, need not be on record
             LATERAL (SELECT coalesce(e.answer, '{"rule_no": null, "hits": [], "errors": []}') AS answer) a,
             LATERAL (SELECT jsonb_build_object('rule_no', d.rule_no, 'hits', coalesce(d.output -> 'hits', a.answer -> 'hits'), 'errors', coalesce(d.output -> 'errors', '[]')) AS found, a.answer AS expected) o
        WHERE o.found IS DISTINCT FROM o.expected) d;
    SELECT jsonb_build_object('inserted', count(*), 'inserted_undone', count(*) FILTER (WHERE "weighLead" IS NULL)) INTO counted FROM compare.leads;
END $$;
SQL
}
