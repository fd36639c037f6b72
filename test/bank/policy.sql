-- How the bank's leads are routed: owners and pools, the mapping of bank_leads, a scorecard, a policy. docs/tutorial.md
-- explains the choices; test/bank/oracle.sql says in plain SQL what has to come out.

-- Call agents, by the ids that the bank's telephone system would have for them. One of them is away.
INSERT INTO leadroute.owners (reference, available) VALUES
    ('agent-11', true), ('agent-12', true), ('agent-13', false), ('agent-21', true), ('agent-22', true), ('agent-23', true),
    ('agent-31', true), ('agent-32', true), ('agent-41', true);
INSERT INTO leadroute.pools (name, description) VALUES
    ('priority', 'Experienced agents: clients who are likely to say yes.'),
    ('mobile', 'Calls to mobile phones.'),
    ('landline', 'Calls to landlines.'),
    ('business', 'Clients who run a business.');
INSERT INTO leadroute.pool_members (pool_id, owner_id, weight)
SELECT p.pool_id, o.owner_id, m.weight
FROM (VALUES ('priority', 'agent-11', 2), ('priority', 'agent-12', 1), ('priority', 'agent-13', 1),
             ('mobile', 'agent-21', 3), ('mobile', 'agent-22', 2), ('mobile', 'agent-23', 2),
             ('landline', 'agent-31', 1), ('landline', 'agent-32', 1),
             ('business', 'agent-41', 1)) AS m (pool, reference, weight)
JOIN leadroute.pools p ON p.name = m.pool
JOIN leadroute.owners o ON o.reference = m.reference;

-- The mapping. What the file does not say is stated, as constants:
--   country         PT: the bank is Portuguese, and so are its clients.
--   consent_basis   existing_customer: the columns default, housing and loan describe the accounts that these people have
--                   with the bank, which offers them a similar product. For that, the rules for the EU open every channel
--                   to a company's own customers, unless they refused; the file knows of no refusal. It holds no consent in
--                   the strict sense either, so none is claimed.
-- Everything else is reached as attributes->>'column'. Plain is what describes the campaign and the economy. What describes
-- the person is left personal, whether somebody is in default is sensitive: the record holds keyed digests of these.
-- Protected: age and marital status, which must not decide who is called; duration and y, which are known only after the
-- call, so that a score that reads them would look brilliant and be useless.
SELECT leadroute.attach_table('bank_leads',
    mapping => '{"external_id": "line", "source_system": {"value": "bank-additional-full.csv"}, "source": {"value": "phone campaign"},
                 "country": {"value": "PT"}, "consent_basis": {"value": "existing_customer"}, "prior_interactions": "previous"}',
    classes => '{"line": "plain", "external_id": "plain", "source_system": "plain", "source": "plain", "country": "plain",
                 "consent_basis": "plain", "prior_interactions": "plain",
                 "attributes.contact": "plain", "attributes.month": "plain", "attributes.day_of_week": "plain",
                 "attributes.campaign": "plain", "attributes.pdays": "plain", "attributes.poutcome": "plain",
                 "attributes.emp.var.rate": "plain", "attributes.cons.price.idx": "plain", "attributes.cons.conf.idx": "plain",
                 "attributes.euribor3m": "plain", "attributes.nr.employed": "plain",
                 "attributes.default": "sensitive", "attributes.loan": "sensitive", "attributes.housing": "sensitive"}',
    policy => 'bank',
    protected => '{attributes.age, attributes.marital, attributes.duration, attributes.y}') IS NOT NULL AS attached;

-- The points follow what was known of such campaigns beforehand: who said yes before says yes again, calls to mobile phones
-- reach people, people who were called many times are tired of it, debts leave little to save, and a fixed interest for a
-- term is welcome while the short-term rates are low. Jobs such as student or retired tell somebody's age, so they give no points.
SELECT leadroute.publish_scorecard('term_deposit', $json$ {
    "description": "How likely a client is to take a term deposit, from what is known before the call.",
    "base": 30,
    "characteristics": [
        {"code": "earlier_campaign", "bins": [
            {"when": "attributes->>'poutcome' = 'success'", "points": 35},
            {"when": "attributes->>'poutcome' = 'failure'", "points": 3}]},
        {"code": "last_contact", "note": "Days since the last contact of an earlier campaign; 999 for none.", "bins": [
            {"when": "(attributes->>'pdays')::int <= 7", "points": 10},
            {"when": "(attributes->>'pdays')::int < 999", "points": 5}]},
        {"code": "earlier_contacts", "bins": [
            {"when": "prior_interactions >= 2", "points": 5}]},
        {"code": "channel", "bins": [
            {"when": "attributes->>'contact' = 'cellular'", "points": 10}]},
        {"code": "calls_in_this_campaign", "bins": [
            {"when": "(attributes->>'campaign')::int > 10", "points": -20},
            {"when": "(attributes->>'campaign')::int > 5", "points": -10},
            {"when": "(attributes->>'campaign')::int > 3", "points": -5}]},
        {"code": "credit", "bins": [
            {"when": "attributes->>'default' = 'yes'", "points": -30},
            {"when": "attributes->>'default' = 'no'", "points": 5}]},
        {"code": "debts", "bins": [
            {"when": "attributes->>'loan' = 'yes' AND attributes->>'housing' = 'yes'", "points": -8},
            {"when": "attributes->>'loan' = 'yes'", "points": -4}]},
        {"code": "rates", "note": "Three-month Euribor, percent.", "bins": [
            {"when": "(attributes->>'euribor3m')::numeric < 1.0", "points": 20},
            {"when": "(attributes->>'euribor3m')::numeric < 2.0", "points": 10}]}
    ],
    "tiers": [{"tier": "A", "from": 70}, {"tier": "B", "from": 50}, {"tier": "C", "from": 28}, {"tier": "D", "from": 0}]
} $json$, 'first scorecard for the term deposit campaign') AS scorecard_version;

-- No validateContact: the file holds no addresses and no numbers, the bank kept those.
SELECT leadroute.publish_policy('bank', $json$ {
    "leadroute": 1,
    "description": "The term deposit campaign: likely clients first, then by whom the call needs.",
    "timezone": "Europe/Lisbon",
    "steps": [
        {"capability": "checkRegionalCompliance", "jurisdictions": "standard",
         "stop_when": [{"when": "NOT 'phone' = ANY (checkRegionalCompliance.channels)", "outcome": "rejected", "reason": "phone_not_permitted"},
                       {"when": "checkRegionalCompliance.status = 'denied'", "outcome": "rejected", "reason": "contact_not_permitted"}]},
        {"capability": "computeLeadScore", "scorecard": "term_deposit", "after": ["checkRegionalCompliance"]},
        {"capability": "assignOwner", "after": ["computeLeadScore"]}
    ],
    "rules": [
        {"name": "in default", "priority": 1, "when": "attributes->>'default' = 'yes'", "outcome": "rejected", "reason": "in_default"},
        {"name": "called too often", "priority": 2, "when": "(attributes->>'campaign')::int > 10", "outcome": "nurture", "reason": "called_too_often"},
        {"name": "likely", "priority": 10, "when": "computeLeadScore.tier = 'A'", "pool": "priority"},
        {"name": "low score", "priority": 20, "when": "computeLeadScore.score < 28", "outcome": "nurture", "reason": "low_score"},
        {"name": "business", "priority": 30, "when": "attributes->>'job' IN ('entrepreneur', 'self-employed')", "pool": "business"},
        {"name": "mobile", "priority": 40, "when": "attributes->>'contact' = 'cellular'", "pool": "mobile"},
        {"name": "landline", "priority": 40, "when": "attributes->>'contact' = 'telephone'", "pool": "landline"}
    ]
} $json$, 'first policy for the term deposit campaign') AS policy_version;
SELECT leadroute.activate_policy('bank', NULL, 'start of the campaign') AS active_version;
