-- What analyse_document() and check_policy() find, kind by kind; each witness is tried by match_version_rules(), rule by rule.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA policy_analysis;
SET search_path TO policy_analysis;
INSERT INTO leadroute.owners (reference) VALUES ('policy_analysis 1'), ('policy_analysis 2');
INSERT INTO leadroute.pools (name) VALUES ('policy_analysis a'), ('policy_analysis b'), ('policy_analysis empty');
INSERT INTO leadroute.pool_members (pool_id, owner_id) SELECT pool_id, owner_id FROM leadroute.pools, leadroute.owners
    WHERE name IN ('policy_analysis a', 'policy_analysis b') AND reference = 'policy_analysis 1';

-- a document whose rules have these conditions, and each a target of its own; names are numbers from 1
CREATE FUNCTION rules(VARIADIC conditions text[]) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('leadroute', 1, 'steps', '[{"capability": "assignOwner"}]'::jsonb, 'rules',
        jsonb_agg(jsonb_build_object('name', n::text, 'when', c, 'outcome', 'nurture', 'reason', 'r' || n) ORDER BY n))
    FROM unnest(conditions) WITH ORDINALITY AS u (c, n)
$$;
-- findings, and whether the witness shows what it should
CREATE FUNCTION findings(document jsonb, examples integer DEFAULT 10, budget integer DEFAULT 100000)
    RETURNS TABLE (finding text, severity text, rule text, other text, n bigint, witness jsonb, shown boolean, complete boolean) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM leadroute.publish_policy('policy_analysis', jsonb_set(document, '{hit_policy}', '"unique"'), 'test');
    RETURN QUERY
        SELECT f.finding, f.severity, f.rule, f.other_rule, f.occurrences, f.witness,
               CASE f.finding WHEN 'never_fires' THEN r.rule_no = ANY (m.hits) AND m.hits[1] <> r.rule_no
                   WHEN 'overlap' THEN r.rule_no = ANY (m.hits) AND o.rule_no = ANY (m.hits) WHEN 'gap' THEN m.hits = '{}' AND m.errors = '[]'
                   WHEN 'always_true' THEN r.rule_no = ANY (m.hits) WHEN 'always_false' THEN r.rule_no <> ALL (m.hits) END,
               f.complete
        FROM leadroute.analyse_document(document, budget, examples) f
            CROSS JOIN (SELECT max(v.policy_version_id) FROM leadroute.policy_versions v JOIN leadroute.policies p USING (policy_id) WHERE p.name = 'policy_analysis') v (id)
            LEFT JOIN leadroute.policy_rules r ON r.policy_version_id = v.id AND r.rule ->> 'name' = f.rule
            LEFT JOIN leadroute.policy_rules o ON o.policy_version_id = v.id AND o.rule ->> 'name' = f.other_rule
            LEFT JOIN LATERAL leadroute.match_version_rules(v.id, ARRAY[f.witness], false) m ON f.witness IS NOT NULL;
END $$;

-- mistakes come alone
SELECT finding, severity, detail, hint FROM leadroute.analyse_document('{"leadroute": 1, "steps": [], "rules": [{"name": "x", "when": "country ="}]}');

-- never_fires: behind one rule, behind several together, behind a stop condition; through what two parts have to do with one another
SELECT finding, rule, other, witness, shown FROM findings(rules('country IN (''DE'', ''AT'')', 'country = ''DE'' AND company_size > 5', 'country < ''E''',
    'country = ''CH''')) WHERE finding = 'never_fires';
SELECT finding, rule, other_rule, witness, detail FROM leadroute.analyse_document(rules('company_size < 10', 'company_size BETWEEN 10 AND 99', 'consent', 'company_size >= 100',
    'NOT consent', 'company_size IS NOT NULL AND country = ''DE''', 'true')) WHERE finding = 'never_fires';
SELECT finding, rule, other, witness, shown FROM findings(rules('(attributes->>''seats'')::int > 5 AND attributes ? ''seats''',
    '(attributes->>''seats'')::int > 7', 'attributes->>''seats'' IS NULL', '(attributes->>''seats'')::int IS NULL')) WHERE finding = 'never_fires';
-- no part that raises covers anything where it does: a lead with seats "x" gets to the last rule
SELECT finding, rule, other, witness, shown FROM findings(rules('(attributes->>''seats'')::int > 5', '(attributes->>''seats'')::int <= 5',
    'attributes->>''seats'' IS NULL', 'true')) WHERE finding = 'never_fires';
SELECT finding, rule, other, witness, shown FROM findings(rules('(attributes->>''seats'')::int > 5', '(attributes->>''seats'')::int <= 5',
    'attributes->>''seats'' IS NULL', '(attributes->>''seats'')::int <> 12')) WHERE finding = 'never_fires';
-- what is left of OR where its left side raises does not count, the other way round it does
SELECT finding, rule, other, witness, shown FROM findings(rules('(attributes->>''seats'')::int > 5 OR country = ''DE''', 'country = ''DE''')) WHERE finding = 'never_fires';
SELECT finding, rule, other, witness, shown FROM findings(rules('country = ''DE'' OR (attributes->>''seats'')::int > 5', 'country = ''DE''')) WHERE finding = 'never_fires';
-- dates of effect are parts of the condition; the order is that in which rules are tried
SELECT finding, rule, other_rule, witness FROM leadroute.analyse_document('{"leadroute": 1, "steps": [{"capability": "assignOwner"}], "rules": [
    {"name": "june", "when": "country = ''DE''", "outcome": "nurture", "reason": "a", "priority": 9, "effective_from": "2026-06-10", "effective_until": "2026-06-20"},
    {"name": "summer", "when": "country = ''DE''", "outcome": "nurture", "reason": "b", "effective_from": "2026-06-01", "effective_until": "2026-07-01"},
    {"name": "always", "when": "country = ''DE''", "outcome": "nurture", "reason": "c", "priority": 10}]}') WHERE finding <> 'gap';
SELECT finding, rule, other_rule, witness, detail FROM leadroute.analyse_document('{"leadroute": 1, "steps": [{"capability": "validateContact",
    "stop_when": [{"when": "country = ''XX''", "outcome": "rejected", "reason": "x"}, {"when": "score > 5", "outcome": "rejected", "reason": "x"}]}, {"capability": "assignOwner"}], "rules": [
    {"name": "xx", "when": "country = ''XX'' AND region = ''YY''", "outcome": "nurture", "reason": "a"}, {"name": "all", "when": "true", "outcome": "nurture", "reason": "b"}]}');

-- overlap: special before general is mentioned, crossing is worth a look, under unique it is an error; the same target is none
SELECT finding, severity, rule, other, witness, shown FROM findings(rules('country = ''DE'' AND company_size > 5', 'country = ''DE''', 'company_size > 3')) WHERE finding = 'overlap';
SELECT finding, severity, rule, other_rule, witness, detail FROM leadroute.analyse_document('{"leadroute": 1, "hit_policy": "unique", "steps": [{"capability": "assignOwner"}], "rules": [
    {"name": "a", "when": "country = ''DE''", "pool": "policy_analysis a"}, {"name": "b", "when": "company_size > 5", "pool": "policy_analysis b"},
    {"name": "a, too", "when": "country IN (''AT'', ''DE'')", "pool": "policy_analysis a"}]}') WHERE finding <> 'gap';
SELECT finding, severity, rule, other_rule, detail FROM leadroute.analyse_document('{"leadroute": 1, "steps": [{"capability": "assignOwner"}], "rules": [
    {"name": "a", "when": "country = ''DE''", "pool": "policy_analysis a"}, {"name": "a, too", "when": "company_size > 5", "pool": "policy_analysis a"}]}') WHERE finding <> 'gap';
-- many pairs are grouped by their targets
SELECT finding, severity, rule, other_rule, occurrences, witness FROM leadroute.analyse_document(jsonb_build_object('leadroute', 1, 'steps', '[{"capability": "assignOwner"}]'::jsonb, 'rules',
    (SELECT jsonb_agg(jsonb_build_object('name', 'r' || i, 'when', format('region = %L', i), 'outcome', 'nurture', 'reason', 'm' || i % 3) ORDER BY i) FROM generate_series(1, 30) i)
    || '[{"name": "big", "when": "company_size > 5", "outcome": "rejected", "reason": "x"}]'), examples => 2) WHERE finding = 'overlap';
-- what an index over equalities finds, and what it cannot
SELECT count(*) AS pairs FROM leadroute.analyse_document(rules('country = ''A''', 'country IN (''A'', ''B'')', 'country = ''A'' AND region = ''X''', 'region = ''X''', 'company_size > 5',
    'country <> ''A''', 'country = ''B'' AND region IN (''X'', ''Y'')'), examples => 100) WHERE finding = 'overlap';

-- gap: leads that no rule takes; not where a cast raises; what outputs can be is known
SELECT rule, witness, shown FROM findings(rules('country = ''DE''', 'country <> ''DE'' AND company_size > 5', 'country <> ''DE'' AND company_size < 3')) WHERE finding = 'gap';
SELECT detail FROM leadroute.analyse_document(rules('country = ''DE''', 'country <> ''DE'' AND company_size > 5', 'country <> ''DE'' AND company_size < 3')) WHERE finding = 'gap';
SELECT count(*) FROM leadroute.analyse_document(rules('(attributes->>''seats'')::int > 5', '(attributes->>''seats'')::int <= 5', 'attributes->>''seats'' IS NULL'));
CREATE FUNCTION outputs(steps jsonb, VARIADIC conditions text[]) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_set(policy_analysis.rules(VARIADIC conditions), '{steps}', steps || '{"capability": "assignOwner"}')
$$;
SELECT leadroute.publish_scorecard('policy_analysis', '{"minimum": 0, "maximum": 50, "characteristics": [], "tiers": [{"tier": "hot", "from": 40}, {"tier": "warm", "from": 10}]}', 'test') > 0 AS published;
SELECT finding, severity, rule, witness FROM leadroute.analyse_document(outputs('[{"capability": "validateContact", "stop_when": []}]', 'validateContact.status = ''valid''', 'validateContact.status = ''partial''', 'validateContact.status = ''invalid'''));
-- invalid ones are rejected before; valid mail makes no invalid contact; a step that may be skipped may leave its output null
SELECT finding, severity, rule, witness FROM leadroute.analyse_document(outputs('[{"capability": "validateContact"}]', 'validateContact.status = ''valid''', 'validateContact.status = ''partial'''));
SELECT finding, severity, rule, witness FROM leadroute.analyse_document(outputs('[{"capability": "validateContact", "stop_when": []}]', 'validateContact.status <> ''invalid''', 'validateContact.email <> ''ok''',
    'validateContact.email_kind = ''disposable''', 'validateContact.status = ''invalid'' AND validateContact.phone = ''ok'''));
SELECT finding, severity, rule, witness FROM leadroute.analyse_document(outputs('[{"capability": "validateContact", "on_error": "skip"}]', 'validateContact.status = ''valid''', 'validateContact.status = ''partial'''));
SELECT finding, severity, rule, witness FROM leadroute.analyse_document(outputs('[{"capability": "computeLeadScore", "scorecard": "policy_analysis"}]', 'tier = ''hot''', 'tier = ''warm''', 'score < 10', 'score > 45', 'tier IS NULL AND score = 12', 'score > 50'));
SELECT finding, severity, rule, witness FROM leadroute.analyse_document(outputs('[{"capability": "checkRegionalCompliance", "stop_when": []}]', 'checkRegionalCompliance.status IN (''allowed'', ''restricted'')',
    'checkRegionalCompliance.reason IS NOT NULL', 'checkRegionalCompliance.status = ''allowed'' AND checkRegionalCompliance.reason = ''consent_missing''')) WHERE finding <> 'gap';
-- prerequisites: a rule that asks for a step that may be skipped does not cover leads that came past it
SELECT finding, rule, witness FROM leadroute.analyse_document('{"leadroute": 1, "steps": [{"capability": "validateContact", "on_error": "skip"}, {"capability": "assignOwner"}], "rules": [
    {"name": "a", "when": "true", "outcome": "nurture", "reason": "a", "prerequisites": ["validateContact"]},
    {"name": "b", "when": "validateContact.email = ''ok''", "outcome": "nurture", "reason": "b"}, {"name": "c", "when": "country = ''DE''", "outcome": "nurture", "reason": "c"}]}') WHERE finding <> 'overlap';
SELECT finding, rule, witness FROM leadroute.analyse_document('{"leadroute": 1, "steps": [{"capability": "validateContact"}, {"capability": "assignOwner"}], "rules": [
    {"name": "a", "when": "true", "outcome": "nurture", "reason": "a", "prerequisites": ["validateContact"]}]}');
SELECT finding, rule, witness FROM leadroute.analyse_document('{"leadroute": 1, "steps": [{"capability": "assignOwner"}]}');
-- without the step there is no output
SELECT finding, severity, rule, witness FROM leadroute.analyse_document(rules('score > 5', 'true'));

-- always true, always false
SELECT finding, severity, rule, witness, shown FROM findings(rules('country = ''DE'' AND country = ''AT''', 'company_size > 10 AND company_size < 5', 'company_size = 10.5', '1 = 2', 'country < ''''',
    'country = ''DE'' AND consent AND NOT consent', 'company_size > 4 AND company_size < 5', 'region = NULL', 'country NOT IN (''A'', NULL)', 'true')) WHERE finding LIKE 'always%';
SELECT finding, severity, rule, witness, shown FROM findings(rules('country <> ''DE'' OR country <> ''AT''', 'company_size > 3 OR company_size < 5', 'country IS NOT NULL', 'consent OR NOT consent',
    'coalesce(consent, true)', 'region = ''X'' AND company_size >= -2147483648', 'region IS NULL OR region IS NOT NULL', 'company_size IN (1, NULL)', 'language = ''de''')) WHERE finding LIKE 'always%';
SELECT finding, rule, detail FROM leadroute.analyse_document(rules('country <> ''DE'' OR country <> ''AT''', 'country = ''DE'' AND country = ''AT''', 'validateContact.status = ''valid''', 'true', 'consent')) WHERE finding LIKE 'always%';
SELECT finding, severity, rule, other_rule, witness, detail FROM leadroute.analyse_document('{"leadroute": 1, "steps": [{"capability": "validateContact", "stop_when": [
    {"when": "country = ''DE'' AND country = ''FR''", "outcome": "rejected", "reason": "x"}, {"when": "region IS NULL OR region IS NOT NULL", "outcome": "rejected", "reason": "x"}]},
    {"capability": "assignOwner"}], "rules": [{"name": "all", "when": "true", "outcome": "nurture", "reason": "b"}]}');

-- outputs that are still to come are null
SELECT finding, rule, witness, detail FROM leadroute.analyse_document(jsonb_set(outputs('[{"capability": "validateContact"}, {"capability": "computeLeadScore", "scorecard": "policy_analysis"}]', 'true'),
    '{steps,0,stop_when}', '[{"when": "tier = ''hot'' AND score > 5", "outcome": "rejected", "reason": "x"}, {"when": "score IS NULL AND country = ''A''", "outcome": "rejected", "reason": "x"},
    {"when": "score >= 0", "outcome": "rejected", "reason": "x"}]'));
-- bins of a scorecard, too
SELECT leadroute.publish_scorecard('policy_analysis bins', '{"characteristics": [{"code": "s", "bins": [{"when": "company_size > 9 AND company_size < 5", "points": 1}, {"when": "company_size > 9", "points": 5},
    {"when": "score > 5", "points": 1}, {"when": "country <> ''A'' OR country <> ''B''", "points": 2}]}]}', 'test') > 0 AS published;
SELECT finding, rule, witness, detail FROM leadroute.analyse_document(outputs('[{"capability": "computeLeadScore", "scorecard": "policy_analysis bins"}]', 'score > 5', 'true')) WHERE finding <> 'overlap';

-- dead targets, as they are now
SELECT finding, severity, rule, occurrences, detail, hint FROM leadroute.analyse_document('{"leadroute": 1, "steps": [{"capability": "assignOwner"}], "rules": [
    {"name": "a", "when": "country = ''A''", "pool": "policy_analysis a"}, {"name": "b", "when": "country = ''B''", "pool": "policy_analysis empty"},
    {"name": "c", "when": "country = ''C''", "pool": "policy_analysis empty"}, {"name": "d", "when": "country = ''D''", "owner": "policy_analysis 2"}]}') WHERE finding = 'dead_target';
UPDATE leadroute.owners SET available = false WHERE reference LIKE 'policy_analysis %';
SELECT finding, severity, rule, occurrences, detail FROM leadroute.analyse_document('{"leadroute": 1, "steps": [{"capability": "assignOwner"}], "rules": [
    {"name": "a", "when": "country = ''A''", "pool": "policy_analysis a"}, {"name": "d", "when": "country = ''D''", "owner": "policy_analysis 2"}]}') WHERE finding = 'dead_target';
UPDATE leadroute.owners SET available = true WHERE reference LIKE 'policy_analysis %';
-- a version pins pools by number: the name that one has now is shown; an owner's pool stands for the owner
SELECT leadroute.publish_policy('policy_analysis targets', '{"leadroute": 1, "steps": [{"capability": "assignOwner"}], "rules": [
    {"name": "a", "when": "country = ''A''", "pool": "policy_analysis empty"}, {"name": "d", "when": "country = ''D''", "owner": "policy_analysis 2"}, {"name": "e", "when": "true", "pool": "policy_analysis a"}]}', 'test');
UPDATE leadroute.pools SET name = 'policy_analysis still empty' WHERE name = 'policy_analysis empty';
UPDATE leadroute.owners SET available = false WHERE reference = 'policy_analysis 2';
SELECT finding, severity, rule, occurrences, detail FROM leadroute.check_policy('policy_analysis targets') WHERE finding = 'dead_target';
UPDATE leadroute.owners SET available = true WHERE reference = 'policy_analysis 2';
CREATE FUNCTION policy_analysis_agent(jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT '{"fit": "good"}'::jsonb $$;
SELECT leadroute.register_agent('policy_analysis', '1', '{fitOf}', 'policy_analysis_agent(jsonb)') > 0 AS registered;
SELECT leadroute.publish_policy('policy_analysis_agent', outputs('[{"capability": "fitOf"}]', 'fitOf->>''fit'' = ''good''', 'fitOf->>''fit'' = ''good'' AND country = ''DE'''), 'test');
SELECT finding, rule, other_rule, witness FROM leadroute.check_policy('policy_analysis_agent');
SELECT leadroute.deprecate_agent('policy_analysis', '1');
SELECT finding, severity, rule, detail FROM leadroute.check_policy('policy_analysis_agent', 1) WHERE finding = 'dead_target';

-- AND and OR on one level; the AND of BETWEEN, parentheses, CASE, strings and comments do not count
SELECT rule, severity, detail FROM leadroute.analyse_document(rules(
    'country = ''A'' OR country = ''B'' AND company_size > 5', '(country = ''A'' OR country = ''B'') AND company_size > 5', 'country = ''A'' OR company_size BETWEEN 1 AND 5',
    'country = ''A'' AND (region = ''X'' AND consent OR region = ''Y'')', 'country = '' OR '' AND region = ''and''', 'country = ''A'' /* or */ AND region = ''X'' -- or',
    'CASE WHEN country = ''A'' OR region = ''X'' THEN consent ELSE true END AND consent', 'NOT country = ''A'' OR region = ''X''', 'NOT (country = ''A'') OR region = ''X''',
    'country NOT IN (''A'', ''B'') OR region IS NOT NULL', 'attributes->>''and or'' = ''é'' AND country = ''A'' OR consent', 'true')) WHERE finding = 'suspicious_mix';

-- beyond the analysis: said to be so; may be covered, never covers; a witness is found by trying, or there is no finding
SELECT finding, severity, rule, other_rule, occurrences, witness, detail FROM leadroute.analyse_document(rules('country = ''DE''', 'country = ''DE'' AND company LIKE ''Acme%''',
    'company LIKE ''Acme%''', 'upper(industry) = ''STEEL''', 'industry = ''steel''', 'extract(hour FROM received_at) > 5', 'region = language', 'country = ''DE'' AND length(region) = 77'))
    WHERE finding NOT IN ('gap');
-- where such a rule may hold nobody can say whether there is a gap
SELECT finding, witness, complete FROM leadroute.analyse_document(rules('company_size > 5', 'coalesce(length(region), 0) < 10')) WHERE finding IN ('gap', 'incomplete');

-- the budget
SELECT finding, occurrences, detail, complete FROM leadroute.analyse_document((SELECT rules(VARIADIC array_agg(format('%s > %s AND %s < %s',
    (ARRAY['company_size', 'prior_interactions'])[1 + i % 2], i % 7, (ARRAY['prior_interactions', 'company_size'])[1 + i % 2], 3 + i % 11) ORDER BY i)) FROM generate_series(1, 40) i),
    budget => 1, examples => 1) WHERE finding IN ('incomplete') OR NOT complete;
SELECT * FROM leadroute.analyse_document(rules('true'), budget => 0);
SELECT * FROM leadroute.analyse_document(rules('true'), examples => 0);
SELECT * FROM leadroute.check_policy('policy_analysis nowhere');
SELECT * FROM leadroute.check_policy('policy_analysis', 9999);

-- an author and an approver may; what is said is the same for all hit policies but unique
SET ROLE leadroute_author;
SELECT finding FROM leadroute.analyse_document('{"leadroute": 1, "hit_policy": "first", "steps": [{"capability": "assignOwner"}], "rules": [{"name": "a", "when": "true", "outcome": "nurture", "reason": "x"},
    {"name": "b", "when": "consent", "outcome": "nurture", "reason": "y"}]}');
SELECT count(*) > 0 AS found FROM leadroute.check_policy('policy_analysis');
RESET ROLE;
SET ROLE leadroute_operator;
SELECT * FROM leadroute.analyse_document('{}');
RESET ROLE;

-- what a session holds of a version outlives its analyses, conditions that it shares with them too
SELECT leadroute.publish_policy('policy_analysis stops', '{"leadroute": 1, "steps": [{"capability": "validateContact", "stop_when": [{"when": "country = ''XX'' AND (attributes->>''n'')::int > 3", "outcome": "rejected", "reason": "xx"}]}, {"capability": "assignOwner"}],
    "rules": [{"name": "hidden", "when": "country = ''XX'' AND (attributes->>''n'')::int > 5", "outcome": "nurture", "reason": "a"}, {"name": "rest", "when": "true", "outcome": "nurture", "reason": "b"}]}', 'test') AS published;
SELECT leadroute.activate_policy('policy_analysis stops') AS active;
CREATE TABLE leads (id text PRIMARY KEY, country text, n text);
SELECT leadroute.attach_table('leads', policy => 'policy_analysis stops') > 0 AS attached;
\c -
SET client_min_messages = warning;
SET search_path TO policy_analysis;
SELECT c.finding, c.rule FROM generate_series(1, 3), LATERAL leadroute.check_policy('policy_analysis stops') c;
SELECT finding, rule FROM leadroute.check_policy('policy_analysis stops');
INSERT INTO leads VALUES ('a', 'XX', '9'), ('b', 'XX', '2'), ('c', 'XX', 'many');
SELECT finding, rule FROM leadroute.check_policy('policy_analysis stops');
INSERT INTO leads VALUES ('d', 'XX', '9');
SELECT l.id, s.outcome, s.reason_code FROM leads l JOIN leadroute.lead_states s ON s.lead_id = leadroute.lead_of('leads', l.id) ORDER BY 1;

DROP SCHEMA policy_analysis CASCADE;
-- the pool of an owner whom a rule names stays, and the owner with it
DELETE FROM leadroute.pool_members m USING leadroute.pools p WHERE p.pool_id = m.pool_id AND p.name LIKE 'policy_analysis %';
DELETE FROM leadroute.pools WHERE name LIKE 'policy_analysis %';
DELETE FROM leadroute.owners WHERE reference = 'policy_analysis 1';
