-- breakers: what becomes of tasks whose agent failed: retries, time-outs, fallbacks, circuit breakers; and what executors take.
--
--              claim            complete
--   q queued ────────▶ c claimed ────────▶ the run goes on
--      ▲  ▲               │ fail, or no heartbeat, lease, start_to_close
--      │  └── r waits ◀───┤ attempts are left
--      │       (retry)    │ none are, or trying again is in vain; schedule_to_start and schedule_to_close come here at once
--      └──────────────────┴▶ fallback agent, fallback output, skip; else the step has failed, and the run goes on with that
--
-- Failures in a row open the breaker of an agent version: closed ─▶ open ─(cooldown)─▶ half open ─(probes succeed)─▶ closed, or
-- ─(a probe fails)─▶ open. States of agents are written on failures, and on a success only if there was a failure before it.

CREATE TABLE leadroute.agent_states (
    agent_id integer PRIMARY KEY,
    breaker text NOT NULL DEFAULT 'closed' CHECK (breaker IN ('closed', 'open', 'half_open')),
    failures integer NOT NULL DEFAULT 0,
    last_error text,
    failed_at timestamptz,
    opened_at timestamptz,
    probed_at timestamptz,
    probes integer NOT NULL DEFAULT 0,
    successes integer NOT NULL DEFAULT 0
);
COMMENT ON TABLE leadroute.agent_states IS 'Circuit breakers of agents that have failed; an agent without a row has not. Read it through circuit_breakers.';
COMMENT ON COLUMN leadroute.agent_states.agent_id IS 'See agents.';
COMMENT ON COLUMN leadroute.agent_states.breaker IS 'closed, open or half_open.';
COMMENT ON COLUMN leadroute.agent_states.failures IS 'In a row.';
COMMENT ON COLUMN leadroute.agent_states.last_error IS 'SQLSTATE and place of the last failure.';
COMMENT ON COLUMN leadroute.agent_states.failed_at IS 'When that was.';
COMMENT ON COLUMN leadroute.agent_states.opened_at IS 'When the breaker last opened; null if never.';
COMMENT ON COLUMN leadroute.agent_states.probed_at IS 'When probes were last let through; null unless it is half open.';
COMMENT ON COLUMN leadroute.agent_states.probes IS 'While half open: how many more may be let through.';
COMMENT ON COLUMN leadroute.agent_states.successes IS 'While half open: how many succeeded.';

CREATE TABLE leadroute.agent_claims (
    agent_id integer NOT NULL,
    run_id bigint NOT NULL,
    step_no smallint NOT NULL,
    token bigint NOT NULL,
    PRIMARY KEY (agent_id, run_id, step_no, token)
);
COMMENT ON TABLE leadroute.agent_claims IS 'What agents with a max_concurrent have claimed. A row counts while its task is held with its token; the agent''s next claim removes the others.';
COMMENT ON COLUMN leadroute.agent_claims.agent_id IS 'See agents.';
COMMENT ON COLUMN leadroute.agent_claims.run_id IS 'With step_no, the task.';
COMMENT ON COLUMN leadroute.agent_claims.step_no IS 'Place of the step in the policy document, from 1.';
COMMENT ON COLUMN leadroute.agent_claims.token IS 'That of the claim.';

CREATE TABLE leadroute.agent_allowances (
    agent_id integer NOT NULL,
    at timestamptz NOT NULL,
    tasks double precision NOT NULL,
    PRIMARY KEY (agent_id, at)
);
COMMENT ON TABLE leadroute.agent_allowances IS 'How many tasks agents with a max_per_second may take: a token bucket, a row each. What fits in is a second''s worth, at least one.';
COMMENT ON COLUMN leadroute.agent_allowances.agent_id IS 'See agents.';
COMMENT ON COLUMN leadroute.agent_allowances.at IS 'When it was last counted.';
COMMENT ON COLUMN leadroute.agent_allowances.tasks IS 'How many there were then.';

CREATE FUNCTION leadroute.claim_room(agent leadroute.agents, most integer) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    room integer := most;
    moment timestamptz := clock_timestamp();
    s leadroute.agent_states;
    allowance double precision;
BEGIN
    PERFORM FROM leadroute.agents a WHERE a.agent_id = agent.agent_id FOR NO KEY UPDATE; -- claims of one that is limited take turns
    SELECT * INTO s FROM leadroute.agent_states x WHERE x.agent_id = agent.agent_id AND x.breaker <> 'closed' FOR UPDATE;
    IF FOUND THEN
        IF s.breaker = 'open' AND s.opened_at + agent.breaker_cooldown > moment THEN
            RETURN 0;
        ELSIF s.breaker = 'open' OR (s.probes = 0 AND s.probed_at + agent.breaker_cooldown <= moment) THEN
            -- Also where probes were given out and nothing came of them, such as tasks that were cancelled.
            UPDATE leadroute.agent_states x SET breaker = 'half_open', probes = agent.breaker_probes, successes = 0, probed_at = moment
            WHERE x.agent_id = agent.agent_id RETURNING x.* INTO s;
        END IF;
        room := least(room, s.probes);
    END IF;
    IF agent.max_concurrent IS NOT NULL THEN
        DELETE FROM leadroute.agent_claims c WHERE c.agent_id = agent.agent_id AND NOT EXISTS (
            SELECT FROM leadroute.tasks t WHERE t.run_id = c.run_id AND t.step_no = c.step_no AND t.token = c.token AND t.state = 'c');
        room := least(room, agent.max_concurrent - (SELECT count(*) FROM leadroute.agent_claims c WHERE c.agent_id = agent.agent_id));
    END IF;
    IF agent.max_per_second IS NOT NULL THEN
        SELECT least(greatest(agent.max_per_second, 1), l.tasks + agent.max_per_second * extract(epoch FROM moment - l.at)::double precision) INTO allowance
        FROM leadroute.agent_allowances l WHERE l.agent_id = agent.agent_id ORDER BY l.at DESC LIMIT 1;
        room := least(room, floor(coalesce(allowance, greatest(agent.max_per_second, 1))))::integer;
    END IF;
    RETURN greatest(room, 0);
END $$;
COMMENT ON FUNCTION leadroute.claim_room(leadroute.agents, integer) IS
    'Returns how many tasks an agent may take now, of those it asks for, by its circuit breaker, max_concurrent and max_per_second. Its claims wait for each other. Part of claiming.';

CREATE FUNCTION leadroute.note_claims(agent leadroute.agents, claimed integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    moment timestamptz := clock_timestamp();
BEGIN
    IF claimed = 0 THEN
        RETURN;
    END IF;
    UPDATE leadroute.agent_states s SET probes = s.probes - claimed WHERE s.agent_id = agent.agent_id AND s.breaker = 'half_open';
    IF agent.max_per_second IS NOT NULL THEN
        UPDATE leadroute.agent_allowances l
        SET at = moment,
            tasks = least(greatest(agent.max_per_second, 1), l.tasks + agent.max_per_second * extract(epoch FROM moment - l.at)::double precision) - claimed
        WHERE l.agent_id = agent.agent_id AND l.at = (SELECT x.at FROM leadroute.agent_allowances x WHERE x.agent_id = agent.agent_id ORDER BY x.at DESC LIMIT 1);
        IF NOT FOUND THEN
            INSERT INTO leadroute.agent_allowances (agent_id, at, tasks) VALUES (agent.agent_id, moment, greatest(agent.max_per_second, 1) - claimed);
        END IF;
    END IF;
END $$;
COMMENT ON FUNCTION leadroute.note_claims(leadroute.agents, integer) IS 'Counts what an agent took after claim_room(). Part of claiming.';

CREATE FUNCTION leadroute.agents_succeeded(agent_ids integer[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM leadroute.agent_states s WHERE s.failures > 0 OR s.breaker <> 'closed') THEN
        RETURN;
    END IF;
    -- Whose state somebody is changing is left to them: a count of failures is no ledger.
    UPDATE leadroute.agent_states s
    SET breaker = CASE WHEN s.breaker = 'half_open' AND s.successes + w.n >= w.breaker_probes THEN 'closed' ELSE s.breaker END,
        failures = CASE WHEN s.breaker = 'closed' OR s.breaker = 'half_open' AND s.successes + w.n >= w.breaker_probes THEN 0 ELSE s.failures END,
        successes = CASE s.breaker WHEN 'half_open' THEN s.successes + w.n ELSE 0 END
    FROM (SELECT x.agent_id, a.breaker_probes, c.n FROM leadroute.agent_states x
          JOIN (SELECT i AS agent_id, count(*)::integer AS n FROM unnest(agent_ids) AS i GROUP BY 1) c USING (agent_id)
          JOIN leadroute.agents a USING (agent_id)
          WHERE x.breaker = 'half_open' OR x.breaker = 'closed' AND x.failures > 0
          ORDER BY x.agent_id FOR UPDATE OF x SKIP LOCKED) w
    WHERE s.agent_id = w.agent_id;
END $$;
COMMENT ON FUNCTION leadroute.agents_succeeded(integer[]) IS
    'Tells the circuit breakers that tasks were done. agent_ids: one for each task. Writes only where there was a failure before. Part of the protocol, and of executors.';

CREATE FUNCTION leadroute.agents_failed(agent_ids integer[], errors text[]) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    w record;
    opened boolean := false;
    now_open timestamptz;
BEGIN
    FOR w IN
        SELECT a.agent_id, a.breaker_failures, count(*)::integer AS n, max(f.error) AS error
        FROM unnest(agent_ids, errors) AS f (agent_id, error) JOIN leadroute.agents a USING (agent_id)
        WHERE a.kind <> 'builtin' AND a.agent_id <> 99 GROUP BY a.agent_id ORDER BY a.agent_id
    LOOP
        INSERT INTO leadroute.agent_states AS s (agent_id, failures, last_error, failed_at, breaker, opened_at)
        VALUES (w.agent_id, w.n, w.error, moment, CASE WHEN w.n >= w.breaker_failures THEN 'open' ELSE 'closed' END,
                CASE WHEN w.n >= w.breaker_failures THEN moment END)
        ON CONFLICT (agent_id) DO UPDATE
        SET failures = s.failures + w.n, last_error = w.error, failed_at = moment, probes = 0, probed_at = NULL, successes = 0,
            breaker = CASE WHEN s.breaker <> 'closed' OR s.failures + w.n >= w.breaker_failures THEN 'open' ELSE 'closed' END,
            opened_at = CASE WHEN s.breaker = 'half_open' OR s.breaker = 'closed' AND s.failures + w.n >= w.breaker_failures THEN moment ELSE s.opened_at END
        RETURNING s.opened_at INTO now_open;
        opened := opened OR now_open IS NOT DISTINCT FROM moment;
    END LOOP;
    RETURN opened;
END $$;
COMMENT ON FUNCTION leadroute.agents_failed(integer[], text[]) IS
    'Tells the circuit breakers of failed attempts. agent_ids, errors: one for each. Returns whether a breaker opened. Part of the protocol, and of executors.';

CREATE FUNCTION leadroute.retry_wait(run_id bigint, step_no integer, attempt integer, wait interval, factor double precision, ceiling interval, jitter double precision)
    RETURNS interval
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT make_interval(secs => w.seconds * (1 - jitter * ('x' || left(md5(format('%s/%s/%s', run_id, step_no, attempt)), 8))::bit(32)::bigint / 4294967296.0))
    FROM (SELECT CASE WHEN wait <= interval '0' OR ceiling <= interval '0' THEN 0
                 ELSE exp(least(ln(extract(epoch FROM wait)::double precision) + (attempt - 1) * ln(greatest(factor, 1)),
                                ln(extract(epoch FROM ceiling)::double precision))) END AS seconds) w
$$;
COMMENT ON FUNCTION leadroute.retry_wait(bigint, integer, integer, interval, double precision, interval, double precision) IS
    'Returns how long a task waits after an attempt that failed: wait times factor to the power of attempt - 1, not above ceiling, less the part jitter of it times a number from 0 to 1 that the MD5 digest of run, step and attempt gives. The same whenever it is computed.';

CREATE FUNCTION leadroute.settle_failures(run_ids bigint[], step_nos integer[], errors text[], retryable boolean[], begun boolean, counted boolean[] DEFAULT NULL)
    RETURNS TABLE (run_id bigint, lead_id bigint, step_no integer, action text, error text, again boolean, counts boolean, agent_id integer, agent text, attempts jsonb,
                   external boolean)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
    SET enable_mergejoin = off
AS $$
DECLARE
    moment timestamptz := clock_timestamp();
BEGIN
    RETURN QUERY
    WITH judged AS MATERIALIZED (
        SELECT t.run_id, t.lead_id, t.step_no, w.error, w.again, coalesce(w.counts, true) AS counts, s.fallback_queue_id, n.attempt, r.wait, a.agent_id, x.agent,
            least(moment + s.schedule_to_start, moment + s.schedule_to_close) AS moved_wake_at,
            coalesce(t.history, '[]') || jsonb_strip_nulls(jsonb_build_object('attempt', CASE WHEN begun THEN n.attempt END, 'error', w.error, 'at', moment, 'by', x.agent)) AS history,
            CASE WHEN w.again AND n.attempt < s.attempts AND NOT s.not_on && string_to_array(w.error, ' ')
                    AND (s.schedule_to_close IS NULL OR moment + r.wait < t.scheduled_at + s.schedule_to_close) THEN 'retry'
                 WHEN s.fallback_queue_id <> t.queue_id AND t.no_fallback_agent IS NOT TRUE THEN 'agent'
                 WHEN s.fallback ? 'output' THEN 'output'
                 WHEN s.fallback ? 'skip' THEN 'skip'
                 ELSE 'fail' END AS action,
            f.external
        FROM unnest(run_ids, step_nos, errors, retryable, counted) AS w (run_id, step_no, error, again, counts)
        JOIN leadroute.tasks t ON t.run_id = w.run_id AND t.step_no = w.step_no
        LEFT JOIN leadroute.policy_steps s ON s.policy_version_id = t.policy_version_id AND s.step_no = t.step_no
        LEFT JOIN leadroute.task_queues k ON k.queue_id = t.queue_id
        LEFT JOIN leadroute.task_queues f ON f.queue_id = s.fallback_queue_id
        LEFT JOIN leadroute.agents a ON CASE WHEN t.holder IS NULL THEN a.agent_id = k.agent_id AND begun
            ELSE a.name = split_part(t.holder, '@', 1) AND a.version = split_part(split_part(t.holder, '/', 1), '@', 2) END
        CROSS JOIN LATERAL (SELECT a.name || '@' || a.version AS agent) x
        -- A task of an executor is not claimed: its attempt is counted when it has failed.
        CROSS JOIN LATERAL (SELECT t.attempt + (begun AND t.state <> 'c')::integer AS attempt) n
        CROSS JOIN LATERAL (SELECT leadroute.retry_wait(t.run_id, t.step_no, n.attempt, s.wait, s.factor, s.ceiling, s.jitter) AS wait) r),
    retried AS (
        UPDATE leadroute.tasks t
        SET state = 'r', wake_at = moment + j.wait, attempt = j.attempt, history = j.history, token = NULL, holder = NULL, started_at = NULL,
            output = NULL, error = NULL
        FROM judged j WHERE t.run_id = j.run_id AND t.step_no = j.step_no AND j.action = 'retry'),
    moved AS (
        UPDATE leadroute.tasks t
        SET state = 'q', queue_id = j.fallback_queue_id, place = leadroute.place_at(moment), scheduled_at = moment, wake_at = j.moved_wake_at,
            attempt = 0, history = j.history, token = NULL, holder = NULL, started_at = NULL, inputs = NULL,
            output = NULL, error = NULL
        FROM judged j WHERE t.run_id = j.run_id AND t.step_no = j.step_no AND j.action = 'agent'),
    gone AS (
        DELETE FROM leadroute.tasks t USING judged j WHERE t.run_id = j.run_id AND t.step_no = j.step_no AND j.action IN ('output', 'skip', 'fail'))
    SELECT j.run_id, j.lead_id, j.step_no::integer, j.action, j.error, j.again, j.counts, j.agent_id, j.agent, j.history, j.external FROM judged j;
END $$;
COMMENT ON FUNCTION leadroute.settle_failures(bigint[], integer[], text[], boolean[], boolean, boolean[]) IS
    'Decides what becomes of tasks that failed, and writes it: tried again, given to the fallback agent, or gone. Part of attempts_failed().';

CREATE FUNCTION leadroute.attempts_failed(run_ids bigint[], step_nos integer[], errors text[], retryable boolean[], begun boolean, counted boolean[] DEFAULT NULL)
    RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    settled record;
    notice integer;
BEGIN
    SELECT count(*) AS n, array_agg(s.run_id) FILTER (WHERE f.final) AS runs, array_agg(s.lead_id) FILTER (WHERE f.final) AS leads,
        array_agg(s.step_no) FILTER (WHERE f.final) AS steps, array_agg(s.error) FILTER (WHERE f.final) AS errors,
        array_agg(jsonb_strip_nulls(jsonb_build_object('by', s.agent, 'attempts', s.attempts, 'fallback', nullif(s.action, 'fail')))) FILTER (WHERE f.final) AS details,
        array_agg(s.agent_id) FILTER (WHERE f.counts) AS agents, array_agg(s.error) FILTER (WHERE f.counts) AS agent_errors,
        bool_or(s.action = 'retry') AS retried, bool_or(s.action = 'agent' AND s.external) AS to_agents, bool_or(s.action = 'agent' AND NOT s.external) AS to_executors
    INTO settled
    FROM leadroute.settle_failures(run_ids, step_nos, errors, retryable, begun, counted) s,
        LATERAL (SELECT s.action IN ('output', 'skip', 'fail') AS final, begun AND s.again AND s.counts AND s.agent_id IS NOT NULL AS counts) f;
    IF settled.runs IS NOT NULL THEN
        PERFORM leadroute.continue_runs(settled.runs, settled.leads, settled.steps, array_fill(NULL::jsonb, ARRAY[cardinality(settled.runs)]), settled.errors, settled.details);
    END IF;
    notice := settled.to_executors::integer + 2 * settled.to_agents::integer + 4 * settled.retried::integer;
    IF settled.agents IS NOT NULL AND leadroute.agents_failed(settled.agents, settled.agent_errors) THEN
        notice := notice | 4;
    END IF;
    IF notice > 0 THEN
        PERFORM leadroute.notice_workers(notice);
    END IF;
    RETURN settled.n;
END $$;
COMMENT ON FUNCTION leadroute.attempts_failed(bigint[], integer[], text[], boolean[], boolean, boolean[]) IS
    'Decides what becomes of tasks that failed, and has the runs go on of those that failed for good. The states of their leads are locked. begun: whether an attempt was made; otherwise they could not begin. counted: whether each counts for a circuit breaker; null: all do. Attempts that an agent made, and that are worth retrying, count for its circuit breaker. Returns how many tasks there were. Part of the protocol.';

CREATE FUNCTION leadroute.task_attempts_failed(run_ids bigint[], step_nos integer[], errors text[], retryable boolean[], counted boolean[] DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    LOCK TABLE leadroute.lead_states IN ROW EXCLUSIVE MODE;
    PERFORM FROM leadroute.lead_states s
    WHERE s.lead_id = ANY (ARRAY(SELECT t.lead_id FROM unnest(run_ids, step_nos) AS w (run_id, step_no)
                                 JOIN leadroute.tasks t ON t.run_id = w.run_id AND t.step_no = w.step_no))
    ORDER BY s.lead_id FOR UPDATE;
    RETURN leadroute.attempts_failed(run_ids, step_nos, errors, retryable, true, counted);
END $$;
COMMENT ON FUNCTION leadroute.task_attempts_failed(bigint[], integer[], text[], boolean[], boolean[]) IS
    'Executors report attempts that failed. errors: SQLSTATE, space, place. retryable: whether trying again may help. counted: whether each is one of a row for a circuit breaker; null: all are. Tasks that are gone are passed over. Returns how many there were. Part of executors.';

CREATE FUNCTION leadroute.task_attempt_aborted(run bigint, step integer, attempts_before integer, error text, retryable boolean) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    LOCK TABLE leadroute.lead_states IN ROW EXCLUSIVE MODE;
    PERFORM FROM leadroute.lead_states s WHERE s.lead_id = (SELECT t.lead_id FROM leadroute.tasks t WHERE t.run_id = run AND t.step_no = step) FOR UPDATE;
    -- Its lock went with the transaction: another executor may have taken it, and done it, since.
    PERFORM FROM leadroute.tasks t WHERE t.run_id = run AND t.step_no = step AND t.state = 'q' AND t.attempt = attempts_before FOR UPDATE;
    IF FOUND THEN
        PERFORM leadroute.attempts_failed(ARRAY[run], ARRAY[step], ARRAY[error], ARRAY[retryable], true);
    END IF;
END $$;
COMMENT ON FUNCTION leadroute.task_attempt_aborted(bigint, integer, integer, text, boolean) IS
    'Executors report an attempt that ended its transaction, in the next one. run, step: the task. attempts_before: how many there had been. error: SQLSTATE, space, place. retryable: whether trying again may help. Does nothing if somebody else has had the task since. Part of executors.';

CREATE FUNCTION leadroute.put_off_task(run bigint, step integer, error text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE leadroute.tasks t
    SET state = CASE t.state WHEN 'q' THEN 'r' ELSE t.state END,
        wake_at = CASE t.state WHEN 'q' THEN clock_timestamp() + interval '1 minute' ELSE t.wake_at END,
        started_at = CASE t.state WHEN 'd' THEN clock_timestamp() + interval '1 minute' ELSE t.started_at END,
        history = CASE WHEN t.history -> -1 ->> 'error' = put_off_task.error AND NOT t.history -> -1 ? 'attempt' THEN t.history
                       ELSE coalesce(t.history, '[]') || jsonb_build_object('error', put_off_task.error, 'at', clock_timestamp()) END
    WHERE t.run_id = run AND CASE step WHEN 0 THEN t.state = 'd' ELSE t.step_no = step AND t.state = 'q' END;
    PERFORM leadroute.notice_workers(4);
END $$;
COMMENT ON FUNCTION leadroute.put_off_task(bigint, integer, text) IS
    'Puts a task that could not go on off for a minute, so that others come to their turn. run, step: the task; step 0: those of the run that are done. error: the SQLSTATE, for its history. Part of executors.';

CREATE FUNCTION leadroute.lock_work(max integer)
    RETURNS TABLE (run_id bigint, lead_id bigint, step_no integer, policy_version_id integer, agent_id integer, attempt integer, fallback boolean,
                   start_to_close interval, history jsonb)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
    SET enable_mergejoin = off
AS $$
DECLARE
    q record;
    a leadroute.agents;
    last_name text;
    left_of_name integer;
    wanted integer;
    got integer;
    probed integer[];
BEGIN
    LOCK TABLE leadroute.lead_states IN ROW EXCLUSIVE MODE;
    -- Agents that let probes through are locked here, as claim_room() does, but not waited for: who has one keeps it while its functions run.
    probed := ARRAY(SELECT x.agent_id FROM leadroute.agents x
        WHERE x.kind = 'sql' AND x.agent_id = ANY (ARRAY(
            SELECT s.agent_id FROM leadroute.agent_states s JOIN leadroute.agents y USING (agent_id)
            WHERE s.breaker = 'half_open' OR s.breaker = 'open' AND s.opened_at + y.breaker_cooldown <= clock_timestamp()))
        ORDER BY x.agent_id FOR NO KEY UPDATE SKIP LOCKED);
    FOR q IN SELECT r.*, ceil(lock_work.max / count(*) FILTER (WHERE r.is_first) OVER ()::real)::integer AS quota
             FROM (SELECT x.*, x.name IS DISTINCT FROM lag(x.name) OVER (ORDER BY x.n) AS is_first
                   FROM (SELECT y.*, row_number() OVER () AS n FROM leadroute.ready_queues(true, NULL, NULL) y) x) r ORDER BY r.n
    LOOP
        IF q.name IS DISTINCT FROM last_name THEN
            last_name := q.name;
            left_of_name := q.quota;
        END IF;
        wanted := left_of_name;
        a := NULL;
        IF EXISTS (SELECT FROM leadroute.agent_states s WHERE s.agent_id = q.agent_id AND s.breaker <> 'closed') THEN
            CONTINUE WHEN q.agent_id <> ALL (probed);
            SELECT * INTO a FROM leadroute.agents x WHERE x.agent_id = q.agent_id;
            wanted := leadroute.claim_room(a, wanted);
        END IF;
        CONTINUE WHEN wanted = 0;
        -- Nobody waits here: what others have is passed over. States are locked by who goes on with the runs.
        RETURN QUERY
            SELECT t.run_id, t.lead_id, t.step_no::integer, t.policy_version_id, q.agent_id, t.attempt + 1, coalesce(p.fallback_queue_id = t.queue_id, false),
                p.start_to_close, t.history
            FROM leadroute.tasks t
            LEFT JOIN leadroute.policy_steps p ON p.policy_version_id = t.policy_version_id AND p.step_no = t.step_no
            WHERE t.queue_id = q.queue_id AND t.state = 'q' AND t.place >= q.head
            ORDER BY t.place LIMIT wanted FOR UPDATE OF t SKIP LOCKED;
        GET DIAGNOSTICS got = ROW_COUNT;
        left_of_name := left_of_name - got;
        IF a.agent_id IS NOT NULL THEN
            PERFORM leadroute.note_claims(a, got);
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION leadroute.lock_work(integer) IS
    'Locks tasks that run inside until the transaction ends; passes over what others have. max: about how many, shared by queues of different names. Returns them with the agent to call, which attempt this is, whether it is the fallback, how long it may take, and the attempts that failed. Part of executors.';

CREATE FUNCTION leadroute.due_tasks(most integer, lowest bigint, moment timestamptz)
    RETURNS TABLE (run_id bigint, lead_id bigint, step_no integer, state "char", error text, begun boolean, again boolean, external boolean)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
    SET enable_mergejoin = off SET enable_sort = off
AS $$
BEGIN
    LOCK TABLE leadroute.lead_states IN ROW EXCLUSIVE MODE;
    RETURN QUERY
    SELECT d.run_id, d.lead_id, d.step_no::integer, d.state, 'LR011 ' || d.what, d.state = 'c', d.what NOT IN ('schedule_to_start', 'schedule_to_close'), k.external
    FROM (SELECT t.run_id, t.lead_id, t.step_no, t.state, t.queue_id,
              CASE WHEN t.scheduled_at + p.schedule_to_close <= moment THEN 'schedule_to_close'
                   WHEN t.state <> 'c' THEN 'schedule_to_start'
                   WHEN t.started_at + p.start_to_close <= moment THEN 'start_to_close'
                   WHEN p.heartbeat IS NOT NULL THEN 'heartbeat'
                   ELSE 'lease' END AS what
          FROM leadroute.tasks t
          JOIN leadroute.lead_states s ON s.lead_id = t.lead_id
          LEFT JOIN leadroute.policy_steps p ON p.policy_version_id = t.policy_version_id AND p.step_no = t.step_no
          WHERE t.wake_at <= moment AND t.wake_at >= leadroute.moment_of(lowest)
          ORDER BY t.wake_at LIMIT most FOR UPDATE OF s, t SKIP LOCKED) d
    LEFT JOIN leadroute.task_queues k ON k.queue_id = d.queue_id;
END $$;
COMMENT ON FUNCTION leadroute.due_tasks(integer, bigint, timestamptz) IS
    'Locks the tasks for which something is due at a moment, and the states of their leads; passes over what others have in hand. lowest: where to look from. Returns what a time-out of each would be. Part of fire_task_timers().';

CREATE FUNCTION leadroute.broken_tasks(most integer, moment timestamptz) RETURNS TABLE (run_id bigint, step_no integer, error text)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
    SET enable_mergejoin = off
AS $$
BEGIN
    IF most <= 0 OR NOT EXISTS (SELECT FROM leadroute.agent_states s WHERE s.breaker = 'open') AND NOT EXISTS (
            SELECT FROM leadroute.agents a JOIN leadroute.task_queues k USING (agent_id) WHERE a.state = 'retired') THEN
        RETURN;
    END IF;
    LOCK TABLE leadroute.lead_states IN ROW EXCLUSIVE MODE;
    RETURN QUERY
    SELECT t.run_id, t.step_no::integer, CASE a.state WHEN 'retired' THEN '55000 agent_retired' ELSE 'LR012 breaker_open' END
    FROM leadroute.agents a
    LEFT JOIN leadroute.agent_states b USING (agent_id)
    JOIN leadroute.task_queues k USING (agent_id)
    JOIN leadroute.tasks t ON t.queue_id = k.queue_id AND t.state = 'q'
    JOIN leadroute.policy_steps p ON p.policy_version_id = t.policy_version_id AND p.step_no = t.step_no
    JOIN leadroute.lead_states s ON s.lead_id = t.lead_id
    WHERE a.state = 'retired'
       OR b.breaker = 'open' AND b.opened_at + a.breaker_cooldown > moment AND p.fallback IS NOT NULL AND p.fallback_queue_id IS DISTINCT FROM t.queue_id
          AND t.no_fallback_agent IS NOT TRUE
          AND EXISTS (SELECT FROM leadroute.policy_steps x WHERE x.queue_id = k.queue_id AND x.fallback IS NOT NULL)
    LIMIT most FOR UPDATE OF s, t SKIP LOCKED;
END $$;
COMMENT ON FUNCTION leadroute.broken_tasks(integer, timestamptz) IS
    'Locks queued tasks that are not to wait for their agent, and the states of their leads: it is retired, or its circuit breaker is open and the step has a fallback. error: why. Part of fire_task_timers().';

CREATE FUNCTION leadroute.fire_due(kind text, run_ids bigint[], lead_ids bigint[], step_nos integer[], errors text[], again boolean[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    n integer := cardinality(run_ids);
BEGIN
    IF kind = 'held' THEN
        PERFORM leadroute.continue_runs(run_ids, lead_ids, array_fill(0, ARRAY[n]), array_fill(NULL::jsonb, ARRAY[n]), array_fill(NULL::text, ARRAY[n]),
            array_fill(NULL::jsonb, ARRAY[n]));
    ELSE
        PERFORM leadroute.attempts_failed(run_ids, step_nos, errors, again, kind = 'lost');
    END IF;
EXCEPTION WHEN OTHERS THEN
    -- What is wrong with one, or with its lead's table, keeps no other from its turn: it is found by halves.
    IF n > 1 THEN
        PERFORM leadroute.fire_due(kind, run_ids[:n / 2], lead_ids[:n / 2], step_nos[:n / 2], errors[:n / 2], again[:n / 2]);
        PERFORM leadroute.fire_due(kind, run_ids[n / 2 + 1:], lead_ids[n / 2 + 1:], step_nos[n / 2 + 1:], errors[n / 2 + 1:], again[n / 2 + 1:]);
    ELSE
        UPDATE leadroute.tasks t
        SET wake_at = clock_timestamp() + interval '1 minute',
            history = CASE WHEN t.history -> -1 ->> 'error' = SQLSTATE AND NOT t.history -> -1 ? 'attempt' THEN t.history
                           ELSE coalesce(t.history, '[]') || jsonb_build_object('error', SQLSTATE, 'at', clock_timestamp()) END
        WHERE t.run_id = run_ids[1] AND t.step_no = step_nos[1];
    END IF;
END $$;
COMMENT ON FUNCTION leadroute.fire_due(text, bigint[], bigint[], integer[], text[], boolean[]) IS
    'Does what is due of tasks that are locked. kind: held, holds that are over; lost, claims that ended without a result; late, what could not begin. errors, again: of each, unless they are held. A task that fails is put off for a minute; its history has the SQLSTATE. Part of fire_task_timers().';

CREATE FUNCTION leadroute.fire_task_timers(max integer DEFAULT 1000) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    f leadroute.task_floors;
    lowest bigint;
    due record;
    fired bigint := 0;
    walked bigint;
BEGIN
    IF max IS NULL OR max < 0 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'max is null or negative', HINT = 'Give how many timers to fire at most.';
    END IF;
    SELECT * INTO f FROM leadroute.task_floors x WHERE x.queue_id = 0 ORDER BY x.raised_at DESC LIMIT 1;
    walked := leadroute.entries_walked(0);
    lowest := leadroute.first_task(0, f.floor);
    walked := leadroute.entries_walked(0) - walked;
    IF lowest IS NOT NULL THEN
        SELECT count(*) AS n,
            array_agg(d.run_id) FILTER (WHERE d.state = 'r') AS retry_runs, array_agg(d.step_no) FILTER (WHERE d.state = 'r') AS retry_steps,
            bool_or(d.state = 'r' AND d.external) AS to_agents, bool_or(d.state = 'r' AND NOT d.external) AS to_executors,
            array_agg(d.run_id) FILTER (WHERE d.state = 'h') AS held_runs, array_agg(d.lead_id) FILTER (WHERE d.state = 'h') AS held_leads, array_agg(d.step_no) FILTER (WHERE d.state = 'h') AS held_steps,
            array_agg(d.run_id) FILTER (WHERE d.state = 'c') AS lost_runs, array_agg(d.step_no) FILTER (WHERE d.state = 'c') AS lost_steps,
            array_agg(d.error) FILTER (WHERE d.state = 'c') AS lost_errors, array_agg(d.again) FILTER (WHERE d.state = 'c') AS lost_again,
            array_agg(d.run_id) FILTER (WHERE d.state = 'q') AS late_runs, array_agg(d.step_no) FILTER (WHERE d.state = 'q') AS late_steps,
            array_agg(d.error) FILTER (WHERE d.state = 'q') AS late_errors, array_agg(false) FILTER (WHERE d.state = 'q') AS late_again
        INTO due FROM leadroute.due_tasks(max, lowest, moment) d;
        fired := due.n;
        IF due.retry_runs IS NOT NULL THEN
            UPDATE leadroute.tasks t
            SET state = 'q', place = leadroute.place_at(moment), wake_at = (
                SELECT least(moment + s.schedule_to_start, t.scheduled_at + s.schedule_to_close) FROM leadroute.policy_steps s
                WHERE s.policy_version_id = t.policy_version_id AND s.step_no = t.step_no)
            FROM unnest(due.retry_runs, due.retry_steps) AS w (run_id, step_no) WHERE t.run_id = w.run_id AND t.step_no = w.step_no;
            PERFORM leadroute.notice_workers(due.to_executors::integer + 2 * due.to_agents::integer);
        END IF;
        IF due.held_runs IS NOT NULL THEN
            PERFORM leadroute.fire_due('held', due.held_runs, due.held_leads, due.held_steps, NULL, NULL);
            -- A run that went on has taken its hold along. Where one could not, such as after the clock was set back, it is looked at again.
            WITH held AS MATERIALIZED (
                SELECT t.run_id, t.step_no, s.lead_id IS NOT NULL AS wanted
                FROM unnest(due.held_runs, due.held_steps) AS w (run_id, step_no)
                JOIN leadroute.tasks t ON t.run_id = w.run_id AND t.step_no = w.step_no AND t.state = 'h'
                LEFT JOIN leadroute.lead_states s ON s.lead_id = t.lead_id AND s.run_id = t.run_id AND s.outcome = 'pending'),
            gone AS (
                DELETE FROM leadroute.tasks t USING held h WHERE t.run_id = h.run_id AND t.step_no = h.step_no AND NOT h.wanted)
            UPDATE leadroute.tasks t SET wake_at = moment + interval '10 seconds'
            FROM held h WHERE t.run_id = h.run_id AND t.step_no = h.step_no AND h.wanted;
        END IF;
        IF due.lost_runs IS NOT NULL THEN
            PERFORM leadroute.fire_due('lost', due.lost_runs, NULL, due.lost_steps, due.lost_errors, due.lost_again);
        END IF;
        IF due.late_runs IS NOT NULL THEN
            PERFORM leadroute.fire_due('late', due.late_runs, NULL, due.late_steps, due.late_errors, due.late_again);
        END IF;
    END IF;
    fired := fired + coalesce((
        SELECT leadroute.attempts_failed(array_agg(b.run_id), array_agg(b.step_no), array_agg(b.error), array_agg(false), false)
        FROM leadroute.broken_tasks((max - fired)::integer, moment) b HAVING count(*) > 0), 0);
    IF (walked > 500 AND f.raised_at < moment - interval '100 milliseconds') OR f.look_at < moment THEN
        PERFORM leadroute.raise_floor(0, f.raised_at);
    END IF;
    RETURN fired;
END $$;
COMMENT ON FUNCTION leadroute.fire_task_timers(integer) IS
    'Does what is due: queues tasks that wait to be tried again, takes tasks away whose lease, heartbeat or time is over, ends holds, and gives tasks of agents whose circuit breaker is open to their fallback, those of retired agents as well, or has them fail. Passes over what others have in hand. max: at most so many. Returns how many there were. Schedulers call it, each time in a transaction of its own.';

CREATE FUNCTION leadroute.next_task_timer(after timestamptz) RETURNS timestamptz
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
AS $$
DECLARE
    soon timestamptz := clock_timestamp() + interval '1 second';
    floor bigint := (SELECT x.floor FROM leadroute.task_floors x WHERE x.queue_id = 0 ORDER BY x.raised_at DESC LIMIT 1);
    first timestamptz;
    broken boolean;
BEGIN
    broken := EXISTS (SELECT FROM leadroute.agent_states s JOIN leadroute.agents a USING (agent_id) JOIN leadroute.task_queues k USING (agent_id)
               JOIN leadroute.policy_steps p USING (queue_id)
               WHERE s.breaker = 'open' AND s.opened_at + a.breaker_cooldown > clock_timestamp() AND p.fallback IS NOT NULL
                   AND leadroute.first_task(k.queue_id, 0) IS NOT NULL)
        OR EXISTS (SELECT FROM leadroute.agents a JOIN leadroute.task_queues k USING (agent_id)
                   WHERE a.state = 'retired' AND leadroute.first_task(k.queue_id, 0) IS NOT NULL);
    first := (SELECT t.wake_at FROM leadroute.tasks t
              WHERE t.wake_at > greatest(after, leadroute.moment_of(floor)) AND t.wake_at <= soon ORDER BY t.wake_at LIMIT 1);
    -- Where looking goes over many dead entries it does not go further: leases that were given back leave their ends behind, for a minute ahead.
    RETURN CASE WHEN first IS NOT NULL OR floor > 0 OR broken THEN coalesce(first, soon)
                ELSE (SELECT t.wake_at FROM leadroute.tasks t WHERE t.wake_at > soon ORDER BY t.wake_at LIMIT 1) END;
END $$;
COMMENT ON FUNCTION leadroute.next_task_timer(timestamptz) IS
    'Returns when fire_task_timers() is to be called next: when the first timer after a moment is due, or earlier, where that is not told at little cost; within a second where tasks wait in vain, since a circuit breaker is open or their agent is retired; null if nothing is due any more. Part of schedulers.';
