# What the TAP tests share: servers, a routing to try things on, and the record as text to compare.
package LeadrouteTest;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw(new_server in_psql seed_of available load_leads rich_routing slow_routing views_of verdicts_of triggers_of kill_server wait_until);

# The columns that leadroute.generate_leads() gives, which are also those of the standard leads table but for its key.
our $columns = 'external_id, source_system, source, country, region, language, industry, company, domain, company_size, email, phone, '
  . 'consent, consent_basis, consent_at, consent_channels, prior_interactions, attributes, received_at, traceparent';

# Makes a server; settings are lines of postgresql.conf. It is not started yet.
sub new_server
{
	my ($name, $settings, %init) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(%init);
	$node->append_conf('postgresql.conf', "log_statement = none\ntimezone = 'UTC'\njit = off\n" . ($settings // ''));
	return $node;
}

# Runs SQL in one session; returns exit status, rows and messages. Stops at the first error unless told otherwise.
sub in_psql
{
	my ($node, $sql, $database, %more) = @_;
	my ($out, $err) = ('', '');
	my $status = $node->psql($database // 'postgres', $sql, stdout => \$out, stderr => \$err, on_error_stop => 1, %more);
	return ($status, $out, $err);
}

# Seeds what is random, and says how to have the same again.
sub seed_of
{
	my $seed = $ENV{LEADROUTE_SEED} // int(rand(1_000_000));
	diag("LEADROUTE_SEED=$seed gives the same random choices");
	srand($seed);
	return $seed;
}

# Tells whether the server could install an extension.
sub available
{
	my ($node, $extension) = @_;
	return $node->safe_psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name = '$extension'") eq '1';
}

# Inserts synthetic leads, as of a source system of their own.
sub load_leads
{
	my ($node, $database, $table, $n, $seed) = @_;
	my $given = $columns =~ s/source_system/source_system || $seed/r;
	$node->safe_psql($database, "INSERT INTO $table ($columns) SELECT $given FROM leadroute.generate_leads($n, $seed)");
}

# Makes a routing with some of everything: two pools with weights, an SQL agent, two tables of which one is partitioned and
# keyed by uuid, three policy versions, leads routed again, leads whose agent failed, closed leads, leads that wait.
sub rich_routing
{
	my ($node, $database) = @_;
	$node->safe_psql(
		$database, q{
CREATE EXTENSION leadroute;
SELECT leadroute.setup(owners => '{anna,bo,cleo}');
INSERT INTO leadroute.owners (reference, available) VALUES ('dora', true), ('emil', true), ('finn', false);
INSERT INTO leadroute.pools (name, description) VALUES ('enterprise', 'Large companies.');
INSERT INTO leadroute.pool_members
    SELECT p.pool_id, o.owner_id, CASE o.reference WHEN 'dora' THEN 3 ELSE 1 END
    FROM leadroute.pools p, leadroute.owners o WHERE p.name = 'enterprise' AND o.reference IN ('dora', 'emil', 'finn');
INSERT INTO leadroute.calendars (name) VALUES ('office');
INSERT INTO leadroute.calendar_hours SELECT calendar_id, d, '09:00', '24:00' FROM leadroute.calendars, generate_series(1, 5) d;
INSERT INTO leadroute.holidays (region, day) VALUES ('DE', '2026-05-01');
UPDATE leadroute.owners o SET timezone = 'Europe/Berlin', region = 'DE-BY', calendar_id = c.calendar_id FROM leadroute.calendars c WHERE o.reference = 'finn';
INSERT INTO leadroute.absences (owner_id, starts_at) SELECT owner_id, '2026-06-01 12:00+02' FROM leadroute.owners WHERE reference = 'finn';
INSERT INTO leadroute.firmographics (domain, company, industry, company_size, country)
    VALUES ('acme.example', 'Acme', 'manufacturing', 5000, 'DE');

CREATE SCHEMA team;
CREATE FUNCTION team.weigh(lead jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF lead ->> 'source' = 'broken' THEN
        RAISE division_by_zero;
    END IF;
    RETURN jsonb_build_object('heavy', coalesce((lead ->> 'company_size')::int, 0) > 200, 'known', (SELECT count(*) FROM jsonb_object_keys(lead)));
END $$;
SELECT leadroute.register_agent('weigh', '1', '{weighLead}', 'team.weigh(jsonb)', 'Tells the large from the small.');
SELECT leadroute.publish_policy('default', '{
    "leadroute": 1, "timezone": "Europe/Berlin",
    "steps": [{"capability": "validateContact"}, {"capability": "checkRegionalCompliance"},
              {"capability": "enrichWithFirmographicData", "after": ["validateContact"]}, {"capability": "computeLeadScore"},
              {"capability": "weighLead"}, {"capability": "assignOwner"}],
    "rules": [{"name": "large", "priority": 1, "when": "(weighLead->>''heavy'')::boolean", "pool": "enterprise"},
              {"name": "cold", "priority": 2, "when": "computeLeadScore.score < 20", "outcome": "nurture", "reason": "low_score"},
              {"name": "others", "priority": 3, "when": "true", "pool": "inbound"}]}', 'with an agent of the team');
SELECT leadroute.publish_policy('default', '{
    "leadroute": 1,
    "steps": [{"capability": "validateContact"}, {"capability": "checkRegionalCompliance"}, {"capability": "computeLeadScore"},
              {"capability": "weighLead", "on_error": "skip"}, {"capability": "assignOwner"}],
    "rules": [{"name": "large", "when": "company_size > 100", "pool": "enterprise"}, {"name": "small", "when": "company_size <= 100", "pool": "inbound"}]}',
    'no firmographics');
SELECT leadroute.publish_policy('events', '{
    "leadroute": 1, "steps": [{"capability": "validateContact", "stop_when": []}, {"capability": "assignOwner"}],
    "rules": [{"name": "any", "when": "true", "pool": "enterprise"}],
    "tests": [{"name": "anybody", "lead": {"country": "DE"}, "expect": {"rule": "any", "pool": "enterprise"}}]}', 'for the visitors');
SELECT leadroute.activate_policy('events');

CREATE TABLE team.visitors (
    day date NOT NULL, id uuid NOT NULL, mail text, land text, note text,
    PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
CREATE TABLE team.visitors_2024 PARTITION OF team.visitors FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE team.visitors_2025 PARTITION OF team.visitors FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');

SELECT leadroute.attach_table('team.visitors', mapping => '{"email": "mail", "country": "land"}', classes => '{"country": "plain"}',
                              policy => 'events', reroute_on => '{land}');
CREATE TABLE team.visitors_2026 (LIKE team.visitors INCLUDING ALL);
ALTER TABLE team.visitors ATTACH PARTITION team.visitors_2026 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO team.visitors
    SELECT date '2024-06-01' + 30 * (n % 20), md5(n::text)::uuid, 'v' || n || '@visitor' || n % 5 || '.example', 'DE', 'stand ' || n
    FROM generate_series(1, 40) n;
INSERT INTO team.visitors_2026 VALUES ('2026-03-03', md5('direct')::uuid, 'direct@visitor.example', 'FR', 'straight into a partition');
UPDATE team.visitors SET land = 'AT' WHERE note IN ('stand 3', 'stand 4');
DELETE FROM team.visitors WHERE note IN ('stand 5', 'stand 6');
CREATE ROLE rich_reader;
GRANT SELECT ON leads, team.visitors TO rich_reader;
GRANT SELECT ON leadroute.lead_states TO rich_reader;
});
	load_leads($node, $database, 'leads', 60, 11);
	$node->safe_psql($database, q{SELECT leadroute.activate_policy('default', 2, 'the team''s agent')});
	load_leads($node, $database, 'leads', 60, 12);
	$node->safe_psql(
		$database, q{
INSERT INTO leads (email, country, consent, source, company_size) VALUES ('broken@acme.example', 'DE', true, 'broken', 3);
SELECT leadroute.activate_policy('default', 3, 'again');
INSERT INTO leads (email, country, consent, source) VALUES ('skipped@acme.example', 'DE', true, 'broken');
SELECT leadroute.route_leads(ARRAY(SELECT lead_id FROM leadroute.lead_states JOIN leads USING (lead_id) WHERE outcome = 'assigned' ORDER BY lead_id LIMIT 10),
                             'asked for');
SELECT leadroute.accept_lead(lead_id), leadroute.log_first_response(lead_id) FROM (SELECT lead_id FROM leadroute.open_leads WHERE owner = 'anna' ORDER BY 1 LIMIT 2) x;
SELECT leadroute.decline_lead(lead_id, 'no_capacity') FROM (SELECT lead_id FROM leadroute.open_leads WHERE owner = 'dora' ORDER BY 1 LIMIT 2) x;
SELECT leadroute.reassign_lead(max(lead_id), 'cleo', 'knows them') FROM leadroute.open_leads WHERE owner = 'dora';
SELECT leadroute.override_decision(max(decision_id), 'rejected', NULL, 'a competitor') FROM leadroute.open_leads WHERE owner = 'emil';
SELECT leadroute.close_lead(max(lead_id), 'won', 12) FROM leadroute.open_leads WHERE owner = 'bo';
SELECT leadroute.rollback_policy('default', 'not good');
DELETE FROM leads WHERE lead_id IN (SELECT lead_id FROM leads ORDER BY lead_id LIMIT 3);
CREATE TABLE waiting (LIKE leads INCLUDING ALL);
INSERT INTO waiting (email) VALUES ('before@attached.example');
SELECT leadroute.attach_table('waiting', policy => 'unheard_of');
INSERT INTO waiting (email) VALUES ('nobody@decides.example');
SET leadroute.enabled = off;
INSERT INTO leads (email, country) VALUES ('off@disabled.example', 'DE');
});
}

# Makes a routing with a step for workers: its function notes that it ran in a ledger, and goes on only while the gate is open.
sub slow_routing
{
	my ($node, $database, $steps) = @_;
	$steps //= '{"capability": "work", "mode": "worker"}';
	$node->safe_psql(
		$database, qq{
CREATE EXTENSION IF NOT EXISTS leadroute;
SELECT leadroute.setup(owners => '{anna,bo}');
DROP SCHEMA IF EXISTS team CASCADE;
CREATE SCHEMA team;
CREATE TABLE IF NOT EXISTS gate (closed boolean NOT NULL);
CREATE TABLE IF NOT EXISTS runs (lead_id bigint NOT NULL);
CREATE OR REPLACE VIEW ledger AS SELECT lead_id, count(*) AS n FROM runs GROUP BY 1;
TRUNCATE gate, runs;
INSERT INTO gate VALUES (false);
CREATE FUNCTION team.work(lead jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$
BEGIN
    INSERT INTO public.runs VALUES ((lead ->> 'external_id')::bigint);
    WHILE (SELECT closed FROM public.gate) LOOP
        PERFORM pg_sleep(0.02);
    END LOOP;
    RETURN '{"done": true}';
END \$\$;
SELECT leadroute.register_agent('work', '1', '{work}', 'team.work(jsonb)');
ALTER TABLE leads ALTER external_id SET DEFAULT currval('leadroute.lead_ids')::text;
SELECT leadroute.publish_policy('default', '{"leadroute": 1, "steps": [{"capability": "validateContact"}, $steps, {"capability": "assignOwner"}],
    "rules": [{"name": "any", "when": "true", "pool": "inbound"}]}', 'with work for executors');
SELECT leadroute.activate_policy('default');
});
}

# All that the record's views and the states show.
our $views_query = q{
SELECT 'state', * FROM leadroute.lead_states ORDER BY lead_id;
SELECT 'decision', * FROM leadroute.decisions ORDER BY decision_id, as_of;
SELECT 'step', * FROM leadroute.provenance ORDER BY decision_id, step_no;
SELECT 'event', t.* FROM leadroute.lead_timeline t ORDER BY t::text COLLATE "C";
SELECT 'unrouted', * FROM leadroute.unrouted_leads ORDER BY leads_table, lead_id, row_key;
SELECT 'history', * FROM leadroute.policy_history ORDER BY at, act, name, version;
SELECT 'pool', * FROM leadroute.pool_revisions ORDER BY pool_revision_id;
SELECT 'act', * FROM leadroute.lead_acts ORDER BY act_id;
SELECT 'open', * FROM leadroute.open_leads ORDER BY lead_id;
SELECT 'problem', * FROM leadroute.reconcile() ORDER BY 2, 3, 4;
};

# The triggers of ours on all tables, a row each.
our $triggers_query = q{
SELECT t.tgrelid::regclass, t.tgname, t.tgparentid <> 0, t.tgenabled, pg_get_triggerdef(t.oid)
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE p.pronamespace = 'leadroute'::regnamespace ORDER BY t.tgrelid::regclass::text COLLATE "C", 2, 5};

sub views_of
{
	my ($node, $database) = @_;
	return $node->safe_psql($database, $views_query);
}

sub triggers_of
{
	my ($node, $database) = @_;
	return $node->safe_psql($database, $triggers_query);
}

# Returns what verify_decision() says of every decision: number of decisions by verdict, place and values.
sub verdicts_of
{
	my ($node, $database) = @_;
	return $node->safe_psql(
		$database, q{
SELECT v.verdict, v.place, v.recorded, v.recomputed, count(*)
FROM leadroute.decisions d, LATERAL leadroute.verify_decision(d.decision_id) v GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4});
}

# Kills the postmaster and all its children, at once, as a power cut would; returns when none is left.
sub kill_server
{
	my ($node) = @_;
	my $file = $node->data_dir . '/postmaster.pid';
	my $postmaster = (split /\n/, slurp_file($file))[0];
	kill 'STOP', $postmaster;
	my @children = children_of($postmaster);
	kill 'KILL', @children;
	$node->kill9;
	foreach my $pid ($postmaster, @children)
	{
		wait_until(sub { !running($pid) }, "process $pid ends");
	}
	# Until the system has fetched its status a dead postmaster's number is in use, and would be taken for a running one.
	for (my $tries = 0; $tries < 100 && kill 0, $postmaster; $tries++)
	{
		usleep(100_000);
	}
	unlink $file, $node->host . '/.s.PGSQL.' . $node->port . '.lock' if kill 0, $postmaster;
}

# Polls a condition; dies when it does not come true.
sub wait_until
{
	my ($condition, $what) = @_;
	my $tries = 10 * ($PostgreSQL::Test::Utils::timeout_default // 180);
	until ($condition->())
	{
		die "timed out waiting until $what" if $tries-- <= 0;
		usleep(100_000);
	}
}

sub children_of
{
	my ($parent) = @_;
	my @children;
	foreach my $file (glob '/proc/[0-9]*/stat')
	{
		open my $stat, '<', $file or next;
		my $line = <$stat> // '';
		push @children, $1 if $line =~ /^(\d+) \(.*\) \S (\d+) /s && $2 == $parent;
	}
	return @children;
}

# A zombie whose parent has not looked yet runs no more.
sub running
{
	my ($pid) = @_;
	open my $stat, '<', "/proc/$pid/stat" or return kill 0, $pid;
	my $line = <$stat> // '';
	return $line =~ /\) ([A-Z]) / && $1 ne 'Z' && $1 ne 'X';
}

1;
