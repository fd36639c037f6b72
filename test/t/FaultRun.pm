# What a fault run goes on: a policy with steps inside and outside, agents that fail, and sessions that insert leads in every way.
#
# The agents inside keep two ledgers. In the table ledger each success is a row, written by the function itself, so that it is there if and
# only if the step's transaction is. In a file each failure is a line, written by another process, so that it is there whatever becomes of
# the transaction; the line has the transaction's id, so that one can ask afterwards whether that came to an end.
package FaultRun;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';

our @EXPORT = qw(setup_of inserting failures_in);

# Returns the SQL that makes the routing; folder: of the ledgers.
sub setup_of
{
	my ($folder, $leads) = @_;
	my $capped = int($leads / 8);
	return qq{
CREATE EXTENSION leadroute;
CREATE TABLE changed (lead text);
CREATE TABLE ledger (lead text, step text, given text[], at timestamptz DEFAULT clock_timestamp());

-- One in five fails: by an error, by what it returns, by an error that ends the transaction, or by taking too long.
CREATE FUNCTION faulty(lead jsonb, step text, seconds double precision, given text[]) RETURNS jsonb LANGUAGE plpgsql AS \$\$
DECLARE
    luck double precision := random();
    how text := CASE WHEN luck < 0.13 THEN 'error' WHEN luck < 0.16 THEN 'null' WHEN luck < 0.18 THEN 'text' WHEN luck < 0.19 THEN 'abort'
                     WHEN luck < 0.20 AND seconds > 0 THEN 'slow' END;
BEGIN
    INSERT INTO public.ledger (lead, step, given) VALUES (lead ->> 'external_id', step, given);
    PERFORM pg_sleep(seconds);
    IF how IS NULL THEN
        RETURN jsonb_build_object('total', length(lead ->> 'external_id'), 'confidence', 0.9);
    END IF;
    -- where this server's ids of transactions begin tells apart those that a crash let it use again
    EXECUTE format('COPY (SELECT %L) TO PROGRAM %L', concat_ws(' ', how, step, lead ->> 'external_id', pg_current_xact_id(),
        (SELECT split_part(next_xid, ':', 2) FROM pg_control_checkpoint())), 'cat >>$folder/failures');
    CASE how
        WHEN 'error' THEN RAISE division_by_zero;
        WHEN 'null' THEN RETURN NULL;
        WHEN 'text' THEN RETURN to_jsonb('no object'::text);
        WHEN 'abort' THEN RAISE serialization_failure;
        ELSE PERFORM pg_sleep(30);
    END CASE;
END \$\$;
CREATE FUNCTION budget(lead jsonb) RETURNS jsonb LANGUAGE sql AS \$\$ SELECT public.faulty(lead, 'estimateBudget', 0.007, '{}') \$\$;
CREATE FUNCTION fraud(lead jsonb) RETURNS jsonb LANGUAGE sql AS \$\$ SELECT public.faulty(lead, 'checkFraud', 0, '{}') \$\$;
CREATE FUNCTION summary(lead jsonb) RETURNS jsonb LANGUAGE sql
    AS \$\$ SELECT public.faulty(lead, 'summarizeLead', 0, ARRAY(SELECT k FROM jsonb_object_keys(lead) k WHERE k IN ('estimateBudget', 'checkFraud', 'lookUp') ORDER BY 1)) \$\$;
SELECT leadroute.register_agent('budget', '1', '{estimateBudget}', 'public.budget(jsonb)');
SELECT leadroute.register_agent('fraud', '1', '{checkFraud}', 'public.fraud(jsonb)');
SELECT leadroute.register_agent('summary', '1', '{summarizeLead}', 'public.summary(jsonb)');
SELECT leadroute.register_external_agent('lookup', '1', '{lookUp}', '{external_id,country}', breaker_cooldown => '1 second', breaker_failures => 30);

-- failing one time in five they fail eight times in a row now and then
UPDATE leadroute.agents SET breaker_failures = 8, breaker_cooldown = '1 second' WHERE kind = 'sql';
INSERT INTO leadroute.owners (reference) VALUES ('anna'), ('bo'), ('cleo'), ('dora');
INSERT INTO leadroute.pools (name) VALUES ('p');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT pool_id, owner_id FROM leadroute.pools, leadroute.owners;
INSERT INTO leadroute.caps (owner_id, per, maximum) SELECT owner_id, CASE reference WHEN 'anna' THEN 'day' ELSE 'open' END, $capped
    FROM leadroute.owners WHERE reference IN ('anna', 'bo');
SELECT leadroute.publish_policy('default', '{"leadroute": 1, "steps": [
    {"capability": "validateContact", "stop_when": []},
    {"capability": "estimateBudget", "mode": "worker", "after": ["validateContact"], "timeouts": {"start_to_close": "300 milliseconds"},
     "retry": {"attempts": 3, "wait": "50 milliseconds"}, "fallback": {"skip": true}},
    {"capability": "checkFraud", "mode": "worker", "after": ["validateContact"], "retry": {"attempts": 3, "wait": "20 milliseconds"}},
    {"capability": "lookUp", "retry": {"attempts": 4, "wait": "50 milliseconds", "ceiling": "200 milliseconds"}, "fallback": {"output": {"found": 0}}},
    {"capability": "summarizeLead", "mode": "worker", "after": ["estimateBudget", "checkFraud", "lookUp"], "retry": {"attempts": 6, "wait": "20 milliseconds"}},
    {"capability": "assignOwner"}],
    "rules": [{"name": "some", "when": "(summarizeLead->>''total'')::int % 2 = 0", "pool": "p"}, {"name": "others", "when": "true", "outcome": "nurture", "reason": "others"}]}', 'test');
SELECT leadroute.activate_policy('default');
SELECT leadroute.create_leads_table('leads');
};
}

# Returns a script of one session: some leads in all the ways in which they come in, or not. Those that stay are printed once they are
# committed; the ones that are rolled back are called never.
sub inserting
{
	my ($session) = @_;
	my $n = 0;
	my @script;
	my $into = 'INSERT INTO leads (external_id, country, email, source, consent, consent_basis, consent_channels) VALUES';
	my $row = sub {
		my ($name) = @_;
		$n++;
		return "('$name-$session-" . 'x' x int(rand(2)) . "$n', 'US', 'p$n\@s$session.example', 'web', true, 'consent', '{email}')";
	};
	my $rows = sub { my ($name) = @_; join(', ', map { $row->($name) } 1 .. 1 + int(rand(5))) };
	foreach (1 .. 8)
	{
		my $kind = rand();
		if ($kind < 0.45) { push @script, "$into " . $rows->('lead') . ' RETURNING lead_id;'; }
		elsif ($kind < 0.60) { push @script, "BEGIN; $into " . $rows->('never') . ';', 'SELECT pg_sleep(0.02);', 'ROLLBACK;'; }
		elsif ($kind < 0.75) { push @script, "BEGIN; $into " . $rows->('lead') . "; SAVEPOINT a; $into " . $rows->('never') . "; ROLLBACK TO a; $into " . $row->('lead') . '; COMMIT;'; }
		elsif ($kind < 0.90)
		{
			my $kept = rand() < 0.6;
			my $gid = ($kept ? 'keep' : 'drop') . "-$session-$n";
			push @script, "BEGIN; $into " . $rows->($kept ? 'lead' : 'never') . "; PREPARE TRANSACTION '$gid';";
			# some are left for later, and may be there when the server dies
			push @script, ($kept ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$gid';" if rand() < 0.7;
		}
		else { push @script, "DO \$\$ BEGIN $into " . $rows->('never') . "; RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END \$\$;"; }
		# a few are changed, so that they are asked about again
		push @script, "WITH c AS (UPDATE leads SET country = 'DE' WHERE lead_id = (SELECT max(lead_id) FROM leads WHERE external_id LIKE 'lead-$session-%') RETURNING external_id)"
		  . ' INSERT INTO changed SELECT external_id FROM c;' if rand() < 0.08;
		# a few go, or are decided by a person, while their run waits
		push @script, "DELETE FROM leads WHERE lead_id = (SELECT max(lead_id) FROM leads WHERE external_id LIKE 'lead-$session-%');" if rand() < 0.05;
		push @script, "SELECT leadroute.override_decision(run_id, 'rejected', NULL, 'test') IS NULL FROM leadroute.lead_states s JOIN leads USING (lead_id)"
		  . " WHERE external_id LIKE 'lead-$session-%' AND run_id IS NOT NULL ORDER BY lead_id DESC LIMIT 1;"
		  if rand() < 0.05;
	}
	return join("\n", @script) . "\n";
}

# Reads the failures that the agents inside wrote down: rows of a VALUES list of how, step, lead, transaction, and where the server's began.
sub failures_in
{
	my ($file) = @_;
	my @values;
	open my $lines, '<', $file or return;
	while (<$lines>)
	{
		push @values, "('$1', '$2', '$3', $4, $5)" if /^(\w+) (\w+) (\S+) (\d+) (\d+)$/;
	}
	return @values;
}

1;
