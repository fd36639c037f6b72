-- What has to come out for every lead of bank_raw, said in plain SQL, without leadroute: the score of the scorecard
-- term_deposit, its tier, the rule of the policy bank that holds first, and whose turn it is. Makes the table bank_expected.
CREATE TABLE bank_expected AS
WITH scored AS (
    SELECT line, job, contact, campaign, "default",
           least(greatest(
               30
               + CASE poutcome WHEN 'success' THEN 35 WHEN 'failure' THEN 3 ELSE 0 END
               + CASE WHEN pdays <= 7 THEN 10 WHEN pdays <> 999 THEN 5 ELSE 0 END
               + CASE WHEN previous > 1 THEN 5 ELSE 0 END
               + CASE contact WHEN 'cellular' THEN 10 ELSE 0 END
               - CASE WHEN campaign >= 11 THEN 20 WHEN campaign >= 6 THEN 10 WHEN campaign >= 4 THEN 5 ELSE 0 END
               + CASE "default" WHEN 'yes' THEN -30 WHEN 'no' THEN 5 ELSE 0 END
               - CASE WHEN loan <> 'yes' THEN 0 WHEN housing = 'yes' THEN 8 ELSE 4 END
               + CASE WHEN euribor3m < 1 THEN 20 WHEN euribor3m < 2 THEN 10 ELSE 0 END,
           0), 100) AS score
    FROM bank_raw
), matched AS (
    SELECT line, score, CASE WHEN score >= 70 THEN 'A' WHEN score >= 50 THEN 'B' WHEN score >= 28 THEN 'C' ELSE 'D' END AS tier,
           CASE WHEN "default" = 'yes' THEN 'in default'
                WHEN campaign >= 11 THEN 'called too often'
                WHEN score >= 70 THEN 'likely'
                WHEN score < 28 THEN 'low score'
                WHEN job IN ('self-employed', 'entrepreneur') THEN 'business'
                WHEN contact = 'cellular' THEN 'mobile'
                WHEN contact = 'telephone' THEN 'landline' END AS rule
    FROM scored
), turns AS (
    SELECT m.*, row_number() OVER (PARTITION BY rule ORDER BY line) - 1 AS turn FROM matched m
)
SELECT line::text AS line, rule, score::double precision AS score, tier,
       CASE rule WHEN 'in default' THEN 'rejected' WHEN 'called too often' THEN 'nurture' WHEN 'low score' THEN 'nurture' ELSE 'assigned' END AS outcome,
       CASE rule WHEN 'in default' THEN 'in_default' WHEN 'called too often' THEN 'called_too_often' WHEN 'low score' THEN 'low_score'
            ELSE 'rule_matched' END AS reason_code,
       CASE rule WHEN 'likely' THEN 'priority' WHEN 'business' THEN 'business' WHEN 'mobile' THEN 'mobile' WHEN 'landline' THEN 'landline' END AS pool,
       -- Shares of a pool are spread evenly: of weights 2 and 1 the first, the second, the first; who is away has none.
       CASE rule WHEN 'likely' THEN (ARRAY['agent-11', 'agent-12', 'agent-11'])[1 + turn % 3]
                 WHEN 'mobile' THEN (ARRAY['agent-21', 'agent-22', 'agent-23', 'agent-21', 'agent-22', 'agent-23', 'agent-21'])[1 + turn % 7]
                 WHEN 'landline' THEN (ARRAY['agent-31', 'agent-32'])[1 + turn % 2]
                 WHEN 'business' THEN 'agent-41' END AS owner
FROM turns;
