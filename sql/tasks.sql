-- tasks: the protocol by which agents outside take tasks, keep them, and give them back.
--
-- A claim is one UPDATE of rows that are locked with SKIP LOCKED, queue by queue; completing is one DELETE, in the transaction in
-- which the runs go on. A task is held by a token, a new one with every claim: whoever comes with an old one changes nothing. What
-- is agents' failures, and what happens in time, is in breakers.sql.
--
-- Functions whose name ends in _for or that say "part of" are granted to nobody. Those that look for rows have a plan by the index,
-- however small the table was when the plan was made; they call nothing of the team's, which would have it too.

CREATE FUNCTION leadroute.place_at(at timestamptz) RETURNS bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    RETURN (extract(epoch FROM at) * 1000000)::bigint - 946684800000000;
COMMENT ON FUNCTION leadroute.place_at(timestamptz) IS 'Returns the place in a queue of what is queued at a moment: microseconds since 2000.';

CREATE FUNCTION leadroute.moment_of(place bigint) RETURNS timestamptz
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    RETURN timestamptz '2000-01-01 00:00:00+00' + make_interval(secs => place / 1000000.0::double precision);
COMMENT ON FUNCTION leadroute.moment_of(bigint) IS 'Returns the moment that place_at() gives a place.';

-- Dead entries of an index are cleared away by whoever meets them, but not while a transaction that could still see their rows is
-- open anywhere: then every claim would walk over all that were ever queued. So queues have floors, below which nothing waits.
CREATE TABLE leadroute.task_floors (
    queue_id integer NOT NULL,
    raised_at timestamptz NOT NULL DEFAULT '-infinity',
    floor bigint NOT NULL DEFAULT 0,
    look_at timestamptz NOT NULL DEFAULT 'infinity',
    PRIMARY KEY (queue_id, raised_at)
);
INSERT INTO leadroute.task_floors (queue_id) VALUES (0);
COMMENT ON TABLE leadroute.task_floors IS 'Where claims begin to look, a row a queue; queue 0: where timers begin. Written only while looking goes over many dead entries. Raising makes a new version with a new key, so that who reads it finds it first, whatever lies dead behind.';
COMMENT ON COLUMN leadroute.task_floors.queue_id IS 'See task_queues; 0: the timers of all tasks.';
COMMENT ON COLUMN leadroute.task_floors.raised_at IS 'When the floor was last changed.';
COMMENT ON COLUMN leadroute.task_floors.floor IS 'Tasks have places (timers: due moments) from here on, microseconds since 2000; 0: not raised.';
COMMENT ON COLUMN leadroute.task_floors.look_at IS 'When somebody looks below the floor next, for what a transaction committed that had been open very long.';

CREATE FUNCTION leadroute.keep_floor() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO leadroute.task_floors (queue_id) VALUES (NEW.queue_id) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION leadroute.keep_floor() IS 'Trigger of task_queues: makes the row of its floor.';
CREATE TRIGGER keep_floor AFTER INSERT ON leadroute.task_queues FOR EACH ROW EXECUTE FUNCTION leadroute.keep_floor();

CREATE FUNCTION leadroute.first_task(queue integer, lowest bigint) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
AS $$
DECLARE
    moment timestamptz := clock_timestamp();
BEGIN
    IF queue = 0 THEN
        RETURN leadroute.place_at((SELECT t.wake_at FROM leadroute.tasks t
            WHERE t.wake_at >= leadroute.moment_of(lowest) AND t.wake_at <= moment ORDER BY t.wake_at LIMIT 1));
    END IF;
    RETURN (SELECT t.place FROM leadroute.tasks t WHERE t.queue_id = queue AND t.state = 'q' AND t.place >= lowest ORDER BY t.place LIMIT 1);
END $$;
COMMENT ON FUNCTION leadroute.first_task(integer, bigint) IS
    'Returns the first place of a queue, or with queue 0 the first moment at which something is overdue, from lowest on; null if there is none. Part of claiming.';

CREATE FUNCTION leadroute.entries_walked(queue integer) RETURNS bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    RETURN pg_stat_get_xact_tuples_returned(CASE queue WHEN 0 THEN 'leadroute.tasks_wake_at'::regclass ELSE 'leadroute.tasks_queued'::regclass END);
COMMENT ON FUNCTION leadroute.entries_walked(integer) IS
    'Returns how many entries of the index of a queue, or with queue 0 of that of timers, this transaction has met, dead ones among them; 0 while track_counts is off. Part of claiming.';

CREATE FUNCTION leadroute.raise_floor(queue integer, known_raised_at timestamptz) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    f leadroute.task_floors;
    began timestamptz := clock_timestamp();
    walked bigint;
    bound bigint;
    candidate bigint;
    looked interval;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RETURN; -- an old snapshot does not show what has come since
    END IF;
    SELECT * INTO f FROM leadroute.task_floors x WHERE x.queue_id = queue AND x.raised_at = known_raised_at FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN; -- somebody else is at it
    END IF;
    -- Below the floor comes nothing any more: whoever queues holds a lock on states from before the place was taken until it is
    -- seen. Those who take longer than a minute are not waited for, but looked after, now and then. This is asked before the look.
    SELECT leadroute.place_at(least(began - interval '100 milliseconds', min(a.xact_start))) INTO bound
    FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'relation' AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
        AND l.relation IN ('leadroute.lead_states'::regclass, 'leadroute.tasks'::regclass) AND l.mode = 'RowExclusiveLock'
        AND l.pid <> pg_backend_pid() AND a.xact_start > began - interval '1 minute';
    IF f.look_at <= began THEN
        began := clock_timestamp();
        walked := leadroute.entries_walked(queue);
        candidate := leadroute.first_task(queue, 0);
        looked := clock_timestamp() - began;
        IF leadroute.entries_walked(queue) - walked < 500 THEN
            bound := 0; -- nothing is in the way any more
        END IF;
    ELSE
        candidate := leadroute.first_task(queue, f.floor);
        bound := greatest(f.floor, bound);
    END IF;
    UPDATE leadroute.task_floors x
    SET floor = least(bound, candidate), raised_at = clock_timestamp(),
        look_at = CASE WHEN bound = 0 THEN 'infinity'
                       WHEN looked IS NOT NULL THEN clock_timestamp() + greatest(interval '10 seconds', looked * 20)
                       ELSE least(f.look_at, clock_timestamp() + interval '10 seconds') END
    WHERE x.queue_id = queue AND x.raised_at = known_raised_at;
END $$;
COMMENT ON FUNCTION leadroute.raise_floor(integer, timestamptz) IS
    'Raises the floor of a queue to its first task; or, when it is time, looks below the floor as well. known_raised_at: of the row that was read; if it has changed since, nothing is done. Part of claiming.';

CREATE FUNCTION leadroute.ready_queues(for_executors boolean, for_agent_id integer, wanted text[])
    RETURNS TABLE (queue_id integer, name text, agent_id integer, head bigint, raised_at timestamptz)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    seed bigint := (random() * 9007199254740991)::bigint;
    began timestamptz := clock_timestamp();
    walked bigint := leadroute.entries_walked(-1);
    q record;
    slow integer[] := '{}';
    slow_raised_at timestamptz[] := '{}';
BEGIN
    FOR q IN
        SELECT k.queue_id, k.name, k.agent_id, h.place AS head, f.raised_at, f.look_at
        FROM leadroute.task_queues k
        CROSS JOIN LATERAL (SELECT x.floor, x.raised_at, x.look_at FROM leadroute.task_floors x
                            WHERE x.queue_id = k.queue_id ORDER BY x.raised_at DESC LIMIT 1) f
        LEFT JOIN LATERAL (SELECT t.place FROM leadroute.tasks t
                           WHERE t.queue_id = k.queue_id AND t.state = 'q' AND t.place >= f.floor ORDER BY t.place LIMIT 1) h ON true
        WHERE CASE WHEN for_executors THEN NOT k.external
                   ELSE k.external AND k.agent_id IN (for_agent_id, 99) AND k.capability = ANY (wanted) END
        ORDER BY hashtextextended(k.name, seed), k.name, k.priority DESC, h.place
    LOOP
        IF q.look_at < began THEN
            PERFORM leadroute.raise_floor(q.queue_id, q.raised_at);
        ELSIF q.raised_at < began - interval '100 milliseconds' THEN
            slow := slow || q.queue_id;
            slow_raised_at := slow_raised_at || q.raised_at;
        END IF;
        IF q.head IS NOT NULL THEN
            queue_id := q.queue_id;
            name := q.name;
            agent_id := q.agent_id;
            head := q.head;
            raised_at := q.raised_at;
            RETURN NEXT;
        END IF;
    END LOOP;
    IF leadroute.entries_walked(-1) - walked > 500 THEN
        PERFORM leadroute.raise_floor(i, a) FROM unnest(slow, slow_raised_at) AS s (i, a);
    END IF;
END $$;
COMMENT ON FUNCTION leadroute.ready_queues(boolean, integer, text[]) IS
    'Returns the queues in which something waits, with the first place in each: those of one name together, names in random order, within a name by priority and then by age. for_executors: those whose tasks run inside; otherwise those that an agent may take from, for the capabilities wanted. Raises floors where looking went over many dead entries. Part of claiming.';

CREATE FUNCTION leadroute.claim_queue(queue integer, lowest bigint, most integer, lease interval, by_holder text, counted_for integer)
    RETURNS TABLE (run_id bigint, step_no integer, token bigint, capability text, attempt integer, lead_id bigint, inputs jsonb, traceparent text,
                   deadline timestamptz, heartbeat interval)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
    SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    -- Tokens are all that gives the right to complete a task: nobody foretells them, nor brings one back with setseed(). What a claim's are
    -- made from is random, strongly, and nobody but this claim has it.
    secret bigint := ('x' || substr(translate(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 19, 8)
                          || substr(translate(gen_random_uuid()::text, '-', ''), 21, 8))::bit(64)::bigint;
BEGIN
    RETURN QUERY
    WITH picked AS MATERIALIZED (
        SELECT t.ctid AS at
        FROM leadroute.tasks t
        WHERE t.queue_id = queue AND t.state = 'q' AND t.place >= lowest
        ORDER BY t.place LIMIT most FOR UPDATE SKIP LOCKED),
    claimed AS (
        UPDATE leadroute.tasks t
        SET state = 'c', token = 1 + (hashint8extended(t.run_id * 100 + t.step_no, secret) & 9007199254740990), attempt = t.attempt + 1, holder = by_holder, started_at = moment,
            wake_at = least(moment + least(lease, s.heartbeat), moment + s.start_to_close, t.scheduled_at + s.schedule_to_close)
        FROM picked p, leadroute.policy_steps s
        WHERE t.ctid = p.at AND s.policy_version_id = t.policy_version_id AND s.step_no = t.step_no
        RETURNING t.run_id, t.step_no::integer, t.token, s.capability, t.attempt::integer, t.lead_id, t.inputs, t.traceparent,
            least(moment + s.start_to_close, t.scheduled_at + s.schedule_to_close), least(lease, s.heartbeat)),
    counted AS (
        INSERT INTO leadroute.agent_claims (agent_id, run_id, step_no, token)
        SELECT counted_for, c.run_id, c.step_no, c.token FROM claimed c WHERE counted_for IS NOT NULL)
    SELECT * FROM claimed;
END $$;
COMMENT ON FUNCTION leadroute.claim_queue(integer, bigint, integer, interval, text, integer) IS
    'Claims the first tasks of a queue, passing over those that others are claiming. lowest: the place to look from. counted_for: the agent, if it has a max_concurrent. Part of claiming.';

CREATE FUNCTION leadroute.claim_tasks_for(caller oid, agent text, capabilities text[], most integer, lease interval, holder text)
    RETURNS TABLE (task text, token bigint, capability text, attempt integer, lead_id bigint, inputs jsonb, traceparent text,
                   deadline timestamptz, heartbeat interval)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    a leadroute.agents;
    room integer := most;
    allowed integer;
    limited boolean;
    queues integer[];
    names text[];
    heads bigint[];
    quota integer;
    left_of_name integer;
    wanted integer;
    got integer;
    by_holder text;
BEGIN
    IF agent IS NULL OR most IS NULL OR lease IS NULL THEN
        RAISE null_value_not_allowed USING MESSAGE = 'agent, max or lease is null', HINT = 'Only capabilities and holder may be null.';
    ELSIF most NOT BETWEEN 1 AND 10000 THEN
        RAISE invalid_parameter_value USING MESSAGE = format('%s tasks at a time are out of range', most), HINT = 'Give 1 to 10000.';
    ELSIF lease NOT BETWEEN interval '1 second' AND interval '1 day' THEN
        RAISE invalid_parameter_value USING MESSAGE = format('a lease of %s is out of range', lease),
            HINT = 'Give a second to a day; extend_task() prolongs it.';
    ELSIF holder !~ '^[A-Za-z0-9][A-Za-z0-9_.:-]{0,62}$' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'the holder''s name cannot be used',
            HINT = 'Use letters, digits, and _ . : - behind the first, 63 characters at most.';
    END IF;
    SELECT * INTO a FROM leadroute.agents x WHERE x.name = split_part(agent, '@', 1) AND x.version = substr(agent, strpos(agent, '@') + 1);
    IF NOT FOUND OR a.kind <> 'external' OR a.agent_id = 99 THEN
        RAISE undefined_object USING MESSAGE = format('agent "%s" is not registered as an external agent', agent),
            HINT = 'Name it as name@version; register_external_agent() registers it.';
    ELSIF pg_has_role(caller, a.owner, 'USAGE') IS NOT TRUE THEN
        RAISE insufficient_privilege USING MESSAGE = format('must have the role that owns agent "%s" to claim tasks for it', agent),
            HINT = format('Connect as %s, or as a member of it.', a.owner);
    ELSIF a.state = 'retired' THEN
        RAISE object_not_in_prerequisite_state USING MESSAGE = format('agent "%s" is retired', agent), HINT = 'Register a new version.';
    ELSIF NOT a.capabilities @> capabilities THEN
        RAISE invalid_parameter_value USING MESSAGE = format('agent "%s" does not offer all of these capabilities', agent),
            DETAIL = format('It offers %s.', array_to_string(a.capabilities, ', ')), HINT = 'Leave them out, or register a version that does.';
    ELSIF leadroute.is_copy() THEN
        RAISE object_not_in_prerequisite_state USING MESSAGE = 'this database is a copy: its tasks are not given out',
            HINT = 'If it replaces the original, call leadroute.resume_after_restore().';
    END IF;
    limited := a.max_concurrent IS NOT NULL OR a.max_per_second IS NOT NULL
        OR EXISTS (SELECT FROM leadroute.agent_states s WHERE s.agent_id = a.agent_id AND s.breaker <> 'closed');
    IF limited THEN
        room := leadroute.claim_room(a, room);
    END IF;
    allowed := room;
    IF room > 0 THEN
        SELECT array_agg(r.queue_id ORDER BY r.n), array_agg(r.name ORDER BY r.n), array_agg(r.head ORDER BY r.n), ceil(room / nullif(count(DISTINCT r.name), 0)::real)
        INTO queues, names, heads, quota
        FROM (SELECT q.*, row_number() OVER () AS n FROM leadroute.ready_queues(false, a.agent_id, coalesce(capabilities, a.capabilities)) q) r;
    END IF;
    by_holder := agent || coalesce('/' || holder, '');
    -- Each name has its share first; then whoever has more takes what is left.
    FOR pass IN 1 .. CASE WHEN queues IS NULL THEN 0 ELSE 2 END LOOP
        FOR i IN 1 .. cardinality(queues) LOOP
            IF i = 1 OR names[i] <> names[i - 1] THEN
                left_of_name := CASE pass WHEN 1 THEN quota ELSE room END;
            END IF;
            wanted := least(room, left_of_name);
            CONTINUE WHEN wanted = 0 OR heads[i] IS NULL;
            RETURN QUERY
                WITH c AS MATERIALIZED (SELECT * FROM leadroute.claim_queue(queues[i], heads[i], wanted, lease, by_holder, CASE WHEN a.max_concurrent IS NOT NULL THEN a.agent_id END)),
                read AS MATERIALIZED (
                    SELECT r.* FROM (SELECT array_agg(c.run_id) AS runs, array_agg(c.lead_id) AS leads, array_agg(c.step_no) AS steps FROM c WHERE c.inputs IS NULL) m,
                        LATERAL leadroute.read_task_inputs(m.runs, m.leads, m.steps, a.agent_id) r
                    WHERE m.runs IS NOT NULL)
                SELECT c.run_id || '/' || c.step_no, c.token, c.capability, c.attempt, c.lead_id,
                    CASE WHEN c.inputs IS NOT NULL THEN c.inputs ELSE (SELECT r.inputs FROM read r WHERE r.run_id = c.run_id AND r.step_no = c.step_no) END,
                    c.traceparent, c.deadline, c.heartbeat
                FROM c;
            GET DIAGNOSTICS got = ROW_COUNT;
            IF got < wanted THEN
                heads[i] := NULL;
            END IF;
            room := room - got;
            left_of_name := left_of_name - got;
        END LOOP;
        EXIT WHEN room = 0;
    END LOOP;
    IF limited THEN
        PERFORM leadroute.note_claims(a, allowed - room);
    END IF;
END $$;
COMMENT ON FUNCTION leadroute.claim_tasks_for(oid, text, text[], integer, interval, text) IS 'Does the work of claim_tasks() as the extension''s owner. caller: who called that.';

CREATE FUNCTION leadroute.claim_tasks(agent text, capabilities text[] DEFAULT NULL, max integer DEFAULT 1, lease interval DEFAULT '1 minute', holder text DEFAULT NULL)
    RETURNS TABLE (task text, token bigint, capability text, attempt integer, lead_id bigint, inputs jsonb, traceparent text,
                   deadline timestamptz, heartbeat interval)
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_claim_tasks';
COMMENT ON FUNCTION leadroute.claim_tasks(text, text[], integer, interval, text) IS
    'Takes tasks for an external agent. agent: name@version; the caller has to be its owner or a member of that role. capabilities: of the agent''s only these; null for all. max: 1 to 10000. lease: how long the tasks are kept without extend_task(), 1 second to 1 day. holder: which of several workers it is, a code. Queues of different names share, within a name priority and then age decide; what others are claiming is passed over. Nothing comes while the agent''s circuit breaker is open, beyond its max_concurrent, or faster than its max_per_second. Returns for each task its id, the same on every attempt; the token to give back; which attempt it is; the inputs that the contract declares, read from the lead now, null if the lead may not be given to the agent any more, or waits no more; the lead''s traceparent; deadline, when the task is taken away however often it is extended, null if never; heartbeat, within which extend_task() has to come. Raises 22023 for what is out of range or not offered, 42704 for an unknown agent, 42501 for somebody else''s, 55000 for a retired one or in a database that is a copy.';

-- Nobody works for a lead that is deleted, merged or closed: whoever has such a task hears of it at the next heartbeat.
CREATE FUNCTION leadroute.drop_tasks() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- An executor that has one in hand finds out by itself, and nobody waits for its function.
    DELETE FROM leadroute.tasks t USING (SELECT x.run_id, x.step_no FROM leadroute.tasks x WHERE x.run_id = NEW.run_id FOR UPDATE SKIP LOCKED) w
    WHERE t.run_id = w.run_id AND t.step_no = w.step_no;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION leadroute.drop_tasks() IS 'Trigger of lead_states: removes the tasks of a run that waits when its lead is closed.';
CREATE TRIGGER drop_tasks AFTER UPDATE OF closed_at, finished_at ON leadroute.lead_states FOR EACH ROW
    WHEN (NEW.outcome = 'pending' AND (NEW.closed_at IS NOT NULL OR NEW.finished_at IS NOT NULL)) EXECUTE FUNCTION leadroute.drop_tasks();

CREATE FUNCTION leadroute.split_tasks(tasks text[], tokens bigint[]) RETURNS TABLE (run_ids bigint[], step_nos integer[])
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF tasks IS NULL OR tokens IS NULL OR cardinality(tokens) <> cardinality(tasks) THEN
        RAISE invalid_parameter_value USING MESSAGE = 'as many tokens as tasks are needed', HINT = 'Give back each task with the token that claim_tasks() gave with it.';
    ELSIF EXISTS (SELECT FROM unnest(tasks) AS t WHERE t IS NULL OR t !~ '^[0-9]{1,16}/[0-9]{1,4}$') THEN
        RAISE invalid_parameter_value USING MESSAGE = 'what was given is no task', HINT = 'Give the id that claim_tasks() gave, such as 4711/3.';
    END IF;
    RETURN QUERY SELECT array_agg(split_part(t, '/', 1)::bigint), array_agg(split_part(t, '/', 2)::integer) FROM unnest(tasks) AS t;
END $$;
COMMENT ON FUNCTION leadroute.split_tasks(text[], bigint[]) IS 'Returns the runs and steps of tasks. tokens: only counted. Part of the protocol. Raises 22023.';

CREATE FUNCTION leadroute.lock_claimed(run_ids bigint[], step_nos integer[], tokens bigint[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
    SET enable_mergejoin = off
AS $$
BEGIN
    -- As everybody does: states first, in the order of leads, then tasks.
    LOCK TABLE leadroute.lead_states IN ROW EXCLUSIVE MODE;
    PERFORM FROM leadroute.lead_states s
    WHERE s.lead_id = ANY (ARRAY(SELECT t.lead_id FROM unnest(run_ids, step_nos, tokens) AS w (run_id, step_no, token)
                                 JOIN leadroute.tasks t ON t.run_id = w.run_id AND t.step_no = w.step_no AND t.token = w.token))
    ORDER BY s.lead_id FOR UPDATE;
END $$;
COMMENT ON FUNCTION leadroute.lock_claimed(bigint[], integer[], bigint[]) IS 'Locks the states of the leads whose tasks are held with these tokens. Part of the protocol.';

CREATE FUNCTION leadroute.why_refused(run bigint, step integer) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    -- A task that is there has another token, or nobody holds it. One that is gone was done by another holder, as the record then
    -- says, or the run did not want it any more.
    SELECT CASE WHEN EXISTS (SELECT FROM leadroute.tasks t WHERE t.run_id = run AND t.step_no = step) THEN 'LR001'
                WHEN e.run_id IS NULL OR p.status IN ('done', 'failed') THEN 'LR001'
                ELSE 'LR014' END
    FROM (VALUES (1)) AS one
    LEFT JOIN LATERAL (SELECT * FROM leadroute.entries x WHERE x.run_id = run ORDER BY x.entry_no DESC LIMIT 1) e ON true
    LEFT JOIN LATERAL leadroute.entry_steps(e.evidence, e.policy_version_id) p ON p.step_no = step
$$;
COMMENT ON FUNCTION leadroute.why_refused(bigint, integer) IS 'Returns why a holder has a task no longer: LR001, another has or had it; LR014, its run does not want it any more. Part of the protocol.';

CREATE FUNCTION leadroute.refuse_task(task text, code text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF code = 'LR014' THEN
        RAISE EXCEPTION USING ERRCODE = code, MESSAGE = format('task %s was cancelled', task),
            DETAIL = 'Its run has ended, or gave way to another.', HINT = 'Stop working on it; nothing was changed.';
    END IF;
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = format('task %s is not held with this token', task),
        DETAIL = 'The lease ran out and another took it, or it was given back already.', HINT = 'Stop working on it; nothing was changed. Claim anew.';
END $$;
COMMENT ON FUNCTION leadroute.refuse_task(text, text) IS 'Raises LR001 or LR014, as code says, for a holder who has a task no longer. Part of the protocol.';

CREATE FUNCTION leadroute.extend_task(task text, token bigint, lease interval DEFAULT '1 minute') RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    runs bigint[];
    steps integer[];
    wanted boolean;
    moment timestamptz := clock_timestamp();
BEGIN
    IF lease IS NULL OR lease NOT BETWEEN interval '1 second' AND interval '1 day' THEN
        RAISE invalid_parameter_value USING MESSAGE = format('a lease of %s is out of range', coalesce(lease::text, 'null')), HINT = 'Give a second to a day.';
    END IF;
    SELECT * INTO runs, steps FROM leadroute.split_tasks(ARRAY[task], ARRAY[token]);
    UPDATE leadroute.tasks t
    SET wake_at = (SELECT least(moment + least(lease, s.heartbeat), t.started_at + s.start_to_close, t.scheduled_at + s.schedule_to_close)
                   FROM leadroute.policy_steps s WHERE s.policy_version_id = t.policy_version_id AND s.step_no = t.step_no)
    WHERE t.run_id = runs[1] AND t.step_no = steps[1] AND t.token = extend_task.token AND t.state = 'c'
    RETURNING EXISTS (SELECT FROM leadroute.lead_states s WHERE s.lead_id = t.lead_id AND s.run_id = t.run_id AND s.outcome = 'pending'
                      AND s.closed_at IS NULL AND s.finished_at IS NULL) INTO wanted;
    IF wanted IS NOT TRUE THEN
        PERFORM leadroute.refuse_task(task, CASE wanted WHEN false THEN 'LR014' ELSE leadroute.why_refused(runs[1], steps[1]) END);
    END IF;
    RETURN true;
END $$;
COMMENT ON FUNCTION leadroute.extend_task(text, bigint, interval) IS
    'Keeps a task that is in hand: the heartbeat of its holder. token: that of the claim. lease: for how long from now, 1 second to 1 day; never beyond the task''s deadline, nor longer than the heartbeat that its step asks for. Returns true. Raises 22023 for what is no task or lease; LR001 if the task is not held with this token: the lease ran out, or it was given back; LR014 if its run does not want it any more.';

CREATE FUNCTION leadroute.check_results(outputs jsonb[], confidences real[], models text[], telemetry jsonb[]) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM unnest(outputs) AS o WHERE o IS NULL OR jsonb_typeof(o) <> 'object') THEN
        RAISE invalid_parameter_value USING MESSAGE = 'an output is no object', HINT = 'Give an object, such as {"mark": 2}.';
    ELSIF EXISTS (SELECT FROM unnest(confidences) AS c WHERE c NOT BETWEEN 0 AND 1) THEN
        RAISE invalid_parameter_value USING MESSAGE = 'a confidence is out of range', HINT = 'Give a number from 0 to 1, or null.';
    ELSIF EXISTS (SELECT FROM unnest(models) AS m WHERE m !~ '^[A-Za-z0-9][A-Za-z0-9_.:/@+-]{0,62}$') THEN
        RAISE invalid_parameter_value USING MESSAGE = 'a model''s version cannot be used',
            HINT = 'Use letters, digits, and _ . : / @ + - behind the first, 63 characters at most.';
    ELSIF EXISTS (SELECT FROM unnest(telemetry) AS t WHERE jsonb_typeof(t) <> 'object') OR EXISTS (
            SELECT FROM unnest(telemetry) AS t, jsonb_each(CASE jsonb_typeof(t) WHEN 'object' THEN t END) AS m (key, value)
            WHERE key !~ '^[A-Za-z][A-Za-z0-9_.]{0,62}$' OR jsonb_typeof(value) NOT IN ('number', 'boolean')
                AND NOT (jsonb_typeof(value) = 'string' AND value #>> '{}' ~ '^[A-Za-z0-9][A-Za-z0-9_.:/+-]{0,63}$')
            UNION ALL SELECT FROM unnest(telemetry) AS t WHERE pg_column_size(t) > 4096) THEN
        RAISE invalid_parameter_value USING MESSAGE = 'telemetry cannot be used',
            DETAIL = 'It is kept in the record, which holds no personal data.',
            HINT = 'Give an object of numbers, booleans and codes of letters, digits and _ . : / + -, 64 characters at most, of 4 kB in all.';
    END IF;
END $$;
COMMENT ON FUNCTION leadroute.check_results(jsonb[], real[], text[], jsonb[]) IS 'Refuses, with 22023, what a holder may not give back with a task. Part of the protocol.';

CREATE FUNCTION leadroute.complete_tasks(tasks text[], tokens bigint[], outputs jsonb[], confidences real[] DEFAULT NULL, models text[] DEFAULT NULL,
                                         telemetry jsonb[] DEFAULT NULL)
    RETURNS TABLE (task text, refused text)
    LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_complete_tasks';
COMMENT ON FUNCTION leadroute.complete_tasks(text[], bigint[], jsonb[], real[], text[], jsonb[]) IS
    'Gives back tasks that are done, many at a time: their runs go on, in this transaction. tasks, tokens: as claimed. outputs: an object each, of 100 levels at most. confidences: 0 to 1 each, or null; it becomes the member confidence of the output. models: the version of model or state that answered, a code of at most 63 characters each, or null. telemetry: an object of numbers, booleans and codes each, or null; kept in the record. Returns only the tasks that were refused and changed nothing, with the code: LR001, not held with this token; LR014, its run does not want it any more. Raises 22023 for what cannot be used: then nothing was done.';

CREATE FUNCTION leadroute.complete_task(task text, token bigint, output jsonb, confidence real DEFAULT NULL, model text DEFAULT NULL, telemetry jsonb DEFAULT NULL)
    RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    code text;
BEGIN
    SELECT c.refused INTO code FROM leadroute.complete_tasks(ARRAY[task], ARRAY[token], ARRAY[output], ARRAY[confidence], ARRAY[model], ARRAY[telemetry]) c;
    IF FOUND THEN
        PERFORM leadroute.refuse_task(task, code);
    END IF;
END $$;
COMMENT ON FUNCTION leadroute.complete_task(text, bigint, jsonb, real, text, jsonb) IS
    'Gives back a task that is done: its run goes on, in this transaction. See complete_tasks(). Called again for the same task and token it raises LR001: the first call did it. Raises 22023 for what cannot be used, LR001 if the task is not held with this token, LR014 if its run does not want it any more.';

CREATE FUNCTION leadroute.fail_tasks(tasks text[], tokens bigint[], errors text[], retryable boolean[] DEFAULT NULL) RETURNS TABLE (task text, refused text)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    runs bigint[];
    steps integer[];
    held boolean[];
BEGIN
    SELECT * INTO runs, steps FROM leadroute.split_tasks(tasks, tokens);
    IF cardinality(tasks) = 0 THEN
        RETURN;
    ELSIF errors IS NULL OR cardinality(errors) <> cardinality(tasks) OR cardinality(retryable) <> cardinality(tasks) THEN
        RAISE invalid_parameter_value USING MESSAGE = 'as many errors as tasks are needed', HINT = 'Give an error for each task.';
    ELSIF EXISTS (SELECT FROM unnest(errors) AS e WHERE e IS NULL OR e !~ '^[a-z][a-z0-9_]{0,62}$') THEN
        RAISE invalid_parameter_value USING MESSAGE = 'an error is no code',
            DETAIL = 'It is kept in the record, which holds no messages: they may quote what is personal.',
            HINT = 'Give a code of lower-case letters, digits and _, such as rate_limited.';
    ELSIF (SELECT count(DISTINCT t) FROM unnest(tasks) AS t) < cardinality(tasks) THEN
        RAISE invalid_parameter_value USING MESSAGE = 'a task was given twice', HINT = 'Give each task once.';
    END IF;
    PERFORM leadroute.lock_claimed(runs, steps, tokens);
    SELECT array_agg(EXISTS (SELECT FROM leadroute.tasks t WHERE t.run_id = w.r AND t.step_no = w.s AND t.token = w.k AND t.state = 'c') ORDER BY w.n)
    INTO held FROM unnest(runs, steps, tokens) WITH ORDINALITY AS w (r, s, k, n);
    PERFORM leadroute.attempts_failed(array_agg(w.r), array_agg(w.s), array_agg('LR010 ' || w.e), array_agg(coalesce(w.again, true)), true)
    FROM unnest(runs, steps, errors, retryable, held) AS w (r, s, e, again, h) WHERE w.h HAVING count(*) > 0;
    RETURN QUERY SELECT w.t, leadroute.why_refused(w.r, w.s) FROM unnest(tasks, runs, steps, held) AS w (t, r, s, h) WHERE NOT w.h;
END $$;
COMMENT ON FUNCTION leadroute.fail_tasks(text[], bigint[], text[], boolean[]) IS
    'Gives back tasks that could not be done, many at a time. They are tried again as their step says, or fall back, or fail for good. tasks, tokens: as claimed. errors: a code each, lower-case letters, digits and _, no message. retryable: false where trying again is in vain; null: true for all. Returns only the tasks that were refused and changed nothing, with the code, as complete_tasks() does. Raises 22023 for what cannot be used: then nothing was done.';

CREATE FUNCTION leadroute.fail_task(task text, token bigint, error text, retryable boolean DEFAULT true) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    code text;
BEGIN
    SELECT f.refused INTO code FROM leadroute.fail_tasks(ARRAY[task], ARRAY[token], ARRAY[error], ARRAY[retryable]) f;
    IF FOUND THEN
        PERFORM leadroute.refuse_task(task, code);
    END IF;
END $$;
COMMENT ON FUNCTION leadroute.fail_task(text, bigint, text, boolean) IS
    'Gives back a task that could not be done. error: a code, no message. retryable: false where trying again is in vain. See fail_tasks(). Raises 22023 for what cannot be used, LR001 if the task is not held with this token, LR014 if its run does not want it any more.';
