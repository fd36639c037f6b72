-- Protected attributes: a rule or a model that reads one needs a recorded justification.
SELECT leadroute.create_leads_table('protected_leads', 'protected') \gset
SELECT leadroute.detach_table('protected_leads');
SELECT leadroute.attach_table('protected_leads', classes => leadroute.standard_classes(), policy => 'protected', protected => '{language, attributes.age}') IS NOT NULL AS attached;
CREATE FUNCTION pg_temp.card(condition text, justifications text DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('justifications', justifications::jsonb, 'characteristics', jsonb_build_array(jsonb_build_object(
        'code', 'it', 'bins', jsonb_build_array(jsonb_build_object('when', condition, 'points', 1)))))
$$;

-- a model: refused, with the place, until the scorecard says why
SELECT leadroute.publish_scorecard('protected', pg_temp.card('(attributes->>''age'')::int > 60'), 'test');
SELECT leadroute.publish_scorecard('protected', pg_temp.card('language = ''de'''), 'test');
SELECT leadroute.publish_scorecard('protected', pg_temp.card('attributes ? source'), 'test');
SELECT leadroute.publish_scorecard('protected', pg_temp.card('(attributes->>''age'')::int > 60', '{"language": "The owner has to speak it."}'), 'test');
-- a reason is a sentence
SELECT leadroute.publish_scorecard('protected', pg_temp.card('language = ''de''', '{"language": ""}'), 'test');
SELECT leadroute.publish_scorecard('protected', pg_temp.card('language = ''de''', '{"language": null}'), 'test');
SELECT leadroute.publish_scorecard('protected', pg_temp.card('language = ''de''', '{"language": "The owner has to speak it."}'), 'test');
-- what is not protected needs none
SELECT leadroute.publish_scorecard('protected_not', pg_temp.card('country = ''DE'' AND attributes->>''ages'' = ''x'''), 'test');

-- a rule
SELECT place, problem FROM leadroute.policy_mistakes('{"leadroute": 1, "steps": [{"capability": "assignOwner"}],
    "rules": [{"name": "by age", "when": "attributes->>''age'' = ''60''", "outcome": "nurture", "reason": "age"}]}');
SELECT place, problem FROM leadroute.policy_mistakes('{"leadroute": 1, "steps": [{"capability": "assignOwner"}],
    "justifications": {"attributes.age": "The product is open from 60 only."},
    "rules": [{"name": "by age", "when": "attributes->>''age'' = ''60''", "outcome": "nurture", "reason": "age"}]}');
-- the scorecard's justification holds for the policy that uses it
SELECT place, problem FROM leadroute.policy_mistakes('{"leadroute": 1, "steps": [{"capability": "computeLeadScore", "scorecard": "protected"}]}');

DROP TABLE protected_leads;
-- nothing is protected any more
SELECT leadroute.publish_scorecard('protected_not', pg_temp.card('language = ''de'''), 'test');
