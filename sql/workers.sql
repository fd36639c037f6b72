-- workers: what waits for somebody outside of the inserting transaction: queues, tasks, and how each step is to be tried.

CREATE SEQUENCE leadroute.task_queue_ids AS integer;
COMMENT ON SEQUENCE leadroute.task_queue_ids IS 'Ids of task queues.';
CREATE TABLE leadroute.task_queues (
    queue_id integer PRIMARY KEY DEFAULT nextval('leadroute.task_queue_ids'),
    name text NOT NULL,
    capability text NOT NULL,
    agent_id integer NOT NULL,
    priority smallint NOT NULL DEFAULT 0,
    external boolean NOT NULL,
    UNIQUE (name, capability, agent_id, priority)
);
COMMENT ON TABLE leadroute.task_queues IS 'Queues of tasks: one for each name, capability, agent version and priority that a published policy version uses. Made by publishing.';
COMMENT ON COLUMN leadroute.task_queues.name IS 'The member queue of the step; its capability, if it names none.';
COMMENT ON COLUMN leadroute.task_queues.capability IS 'The work that its tasks ask for.';
COMMENT ON COLUMN leadroute.task_queues.agent_id IS 'The agent version that does them: see agents. 99: any external agent that offers the capability.';
COMMENT ON COLUMN leadroute.task_queues.priority IS 'Tasks of a higher priority are given out first.';
COMMENT ON COLUMN leadroute.task_queues.external IS 'Whether agents outside claim its tasks; otherwise executors run them.';

CREATE TABLE leadroute.policy_steps (
    policy_version_id integer NOT NULL,
    step_no smallint NOT NULL,
    capability text NOT NULL,
    agent_id integer NOT NULL,
    queue_id integer NOT NULL,
    attempts integer NOT NULL,
    wait interval NOT NULL,
    factor double precision NOT NULL,
    ceiling interval NOT NULL,
    jitter double precision NOT NULL,
    not_on text[] NOT NULL,
    schedule_to_start interval,
    start_to_close interval,
    schedule_to_close interval,
    heartbeat interval,
    fallback jsonb,
    fallback_queue_id integer,
    PRIMARY KEY (policy_version_id, step_no)
);
COMMENT ON TABLE leadroute.policy_steps IS 'Steps of published policy versions that run outside of the inserting transaction: how they are queued, tried again and given up. Derived from the document when it is published.';
COMMENT ON COLUMN leadroute.policy_steps.step_no IS 'Place in the policy document, from 1.';
COMMENT ON COLUMN leadroute.policy_steps.agent_id IS 'The agent version that the policy version pinned: see agents.';
COMMENT ON COLUMN leadroute.policy_steps.queue_id IS 'Where its tasks wait: see task_queues.';
COMMENT ON COLUMN leadroute.policy_steps.attempts IS 'How often a task is tried, the first time included.';
COMMENT ON COLUMN leadroute.policy_steps.wait IS 'Between the first failure and the next attempt.';
COMMENT ON COLUMN leadroute.policy_steps.factor IS 'By which the wait grows from attempt to attempt.';
COMMENT ON COLUMN leadroute.policy_steps.ceiling IS 'The longest wait.';
COMMENT ON COLUMN leadroute.policy_steps.jitter IS 'The part of a wait, 0 to 1, that is left to chance: by a hash of run, step and attempt, so that it can be computed again.';
COMMENT ON COLUMN leadroute.policy_steps.not_on IS 'Errors that are not tried again: SQLSTATEs and codes of agents.';
COMMENT ON COLUMN leadroute.policy_steps.schedule_to_start IS 'How long a task may wait for an agent; null: any time.';
COMMENT ON COLUMN leadroute.policy_steps.start_to_close IS 'How long one attempt may take; null: any time.';
COMMENT ON COLUMN leadroute.policy_steps.schedule_to_close IS 'How long all attempts may take together; null: any time.';
COMMENT ON COLUMN leadroute.policy_steps.heartbeat IS 'How long an agent may be silent; null: as long as its lease.';
COMMENT ON COLUMN leadroute.policy_steps.fallback IS 'What takes the place of a step that failed for good: {"agent": …}, {"output": …} or {"skip": true}; null: nothing.';
COMMENT ON COLUMN leadroute.policy_steps.fallback_queue_id IS 'Where tasks of the fallback agent wait; null unless fallback names one.';

CREATE FUNCTION leadroute.queue_for(name text, capability text, agent_id integer, priority integer, external boolean) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_id integer;
BEGIN
    INSERT INTO leadroute.task_queues (name, capability, agent_id, priority, external)
        VALUES (queue_for.name, queue_for.capability, queue_for.agent_id, queue_for.priority, queue_for.external)
        ON CONFLICT ON CONSTRAINT task_queues_name_capability_agent_id_priority_key DO NOTHING;
    SELECT q.queue_id INTO STRICT found_id FROM leadroute.task_queues q
        WHERE (q.name, q.capability, q.agent_id, q.priority) = (queue_for.name, queue_for.capability, queue_for.agent_id, queue_for.priority);
    RETURN found_id;
END $$;
COMMENT ON FUNCTION leadroute.queue_for(text, text, integer, integer, boolean) IS
    'Part of publishing: returns the task queue of a name, capability, agent version and priority, made if there is none.';

CREATE FUNCTION leadroute.derive_policy_steps(policy_version_id integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO leadroute.policy_steps (policy_version_id, step_no, capability, agent_id, queue_id, attempts, wait, factor, ceiling, jitter, not_on,
                                        schedule_to_start, start_to_close, schedule_to_close, heartbeat, fallback, fallback_queue_id)
        SELECT v.policy_version_id, s.step_no, s.capability, a.agent_id,
               leadroute.queue_for(coalesce(s.step ->> 'queue', s.capability), s.capability, a.agent_id, s.priority, a.kind = 'external'),
               coalesce((s.retry ->> 'attempts')::numeric::integer, 3), coalesce((s.retry ->> 'wait')::interval, '1 second'),
               coalesce((s.retry ->> 'factor')::double precision, 2), coalesce((s.retry ->> 'ceiling')::interval, '1 minute'),
               coalesce((s.retry ->> 'jitter')::double precision, 0.1),
               ARRAY(SELECT jsonb_array_elements_text(CASE jsonb_typeof(s.retry -> 'not_on') WHEN 'array' THEN s.retry -> 'not_on' ELSE '[]' END)),
               (s.timeouts ->> 'schedule_to_start')::interval, (s.timeouts ->> 'start_to_close')::interval,
               (s.timeouts ->> 'schedule_to_close')::interval, (s.timeouts ->> 'heartbeat')::interval, s.fallback,
               CASE WHEN s.pin ? 'fallback_agent_id' THEN
                   leadroute.queue_for(coalesce(s.step ->> 'queue', s.capability), s.capability, (s.pin ->> 'fallback_agent_id')::integer, s.priority,
                                       a.kind = 'external') END
        FROM leadroute.policy_versions v
        CROSS JOIN LATERAL (SELECT e.n AS step_no, e.step, v.pins -> 'steps' -> (e.n::integer - 1) AS pin, e.step ->> 'capability' AS capability,
                                   coalesce((e.step ->> 'priority')::numeric::integer, 0) AS priority,
                                   nullif(e.step -> 'retry', 'null') AS retry, nullif(e.step -> 'timeouts', 'null') AS timeouts,
                                   nullif(e.step -> 'fallback', 'null') AS fallback
                            FROM jsonb_array_elements(v.frame -> 'steps') WITH ORDINALITY AS e (step, n)) s
        JOIN leadroute.agents a ON a.agent_id = (s.pin ->> 'agent_id')::integer
        WHERE v.policy_version_id = derive_policy_steps.policy_version_id AND (a.kind = 'external' OR s.step ->> 'mode' = 'worker');
END $$;
COMMENT ON FUNCTION leadroute.derive_policy_steps(integer) IS
    'Part of publishing: enters the steps of a policy version that run outside of the inserting transaction into policy_steps, and makes their queues.';

CREATE FUNCTION leadroute.unheard_holds(policy_version_id integer) RETURNS TABLE (leads_table text, attribute text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT DISTINCT t.relation_name, a.attribute
    FROM leadroute.policy_versions v JOIN leadroute.policies p USING (policy_id)
    CROSS JOIN LATERAL jsonb_array_elements(v.frame -> 'steps') AS s (step)
    CROSS JOIN LATERAL jsonb_array_elements_text(CASE jsonb_typeof(s.step -> 'hold') WHEN 'object' THEN s.step -> 'hold' -> 'until' END) AS a (attribute)
    JOIN leadroute.attached_tables t ON t.policy = p.name AND t.relation IS NOT NULL
    WHERE v.policy_version_id = unheard_holds.policy_version_id AND NOT coalesce(t.mapping ->> a.attribute, a.attribute) = ANY (t.reroute_on)
    ORDER BY 1, 2
$$;
COMMENT ON FUNCTION leadroute.unheard_holds(integer) IS
    'Returns the attributes that steps of a policy version are held for, but whose UPDATE does not wake the leads of a table that the policy routes, since their column is not in its reroute_on. Part of activating.';

-- A task leaves when it is done: the record of the run keeps what became of it. So the table is as small as what waits.
CREATE TABLE leadroute.tasks (
    run_id bigint NOT NULL,
    lead_id bigint NOT NULL,
    place bigint NOT NULL,
    scheduled_at timestamptz NOT NULL,
    wake_at timestamptz,
    started_at timestamptz,
    token bigint,
    policy_version_id integer NOT NULL,
    queue_id integer,
    step_no smallint NOT NULL,
    attempt smallint NOT NULL DEFAULT 0,
    state "char" NOT NULL,
    holder text,
    traceparent text,
    inputs jsonb,
    history jsonb,
    output jsonb,
    error text,
    no_fallback_agent boolean,
    PRIMARY KEY (run_id, step_no)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
CREATE INDEX tasks_queued ON leadroute.tasks (queue_id, place) WHERE state = 'q';
CREATE INDEX tasks_done ON leadroute.tasks (run_id) WHERE state = 'd';
CREATE INDEX tasks_wake_at ON leadroute.tasks (wake_at) WHERE wake_at IS NOT NULL;
COMMENT ON TABLE leadroute.tasks IS 'What runs wait for: steps to be done by executors and agents outside, and holds.';
COMMENT ON COLUMN leadroute.tasks.run_id IS 'The run that waits. With step_no it names the task: run_id/step_no is its id, and the same on every attempt.';
COMMENT ON COLUMN leadroute.tasks.lead_id IS 'The run''s lead.';
COMMENT ON COLUMN leadroute.tasks.place IS 'Place in its queue, microseconds since 2000: when it was queued, or queued again.';
COMMENT ON COLUMN leadroute.tasks.scheduled_at IS 'When it was first queued.';
COMMENT ON COLUMN leadroute.tasks.wake_at IS 'When something is due, whatever happens: the end of a lease, a retry, a time-out, the end of a hold; null if nothing is.';
COMMENT ON COLUMN leadroute.tasks.started_at IS 'When the attempt in hand began; null if none is. Of one that is done and could not go on: when that is tried again.';
COMMENT ON COLUMN leadroute.tasks.token IS 'What the holder has to show; a new one with every claim. Null while nobody holds it.';
COMMENT ON COLUMN leadroute.tasks.policy_version_id IS 'The version that the run goes through.';
COMMENT ON COLUMN leadroute.tasks.queue_id IS 'Where it waits: see task_queues; null for holds.';
COMMENT ON COLUMN leadroute.tasks.step_no IS 'Place of the step in the policy document, from 1.';
COMMENT ON COLUMN leadroute.tasks.attempt IS 'How often it was begun.';
COMMENT ON COLUMN leadroute.tasks.state IS 'q queued, c claimed, r waits to be tried again, h held until attributes arrive, d done by an executor: its run goes on in a moment.';
COMMENT ON COLUMN leadroute.tasks.output IS 'What the agent gave, of a task that is done; otherwise null.';
COMMENT ON COLUMN leadroute.tasks.error IS 'Of a task that is done and failed: SQLSTATE and place; otherwise null.';
COMMENT ON COLUMN leadroute.tasks.no_fallback_agent IS 'True if the fallback agent may not be given the lead, since the step''s regions do not allow its own; otherwise null.';
COMMENT ON COLUMN leadroute.tasks.holder IS 'Who claimed it, as it calls itself; null while nobody holds it.';
COMMENT ON COLUMN leadroute.tasks.traceparent IS 'That of the lead, where it is plain; otherwise null.';
COMMENT ON COLUMN leadroute.tasks.inputs IS 'What the agent is given, where all of it is plain; null: it is read from the lead when the task is claimed.';
COMMENT ON COLUMN leadroute.tasks.history IS 'Attempts that failed, an array of objects; null: none.';

-- For statements of our own: nobody is granted them.
CREATE FUNCTION leadroute.continue_runs(run_ids bigint[], lead_ids bigint[], step_nos integer[], outputs jsonb[], errors text[], details jsonb[]) RETURNS bigint
    LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_continue_runs';
COMMENT ON FUNCTION leadroute.continue_runs(bigint[], bigint[], integer[], jsonb[], text[], jsonb[]) IS
    'Part of finishing tasks: takes runs on that wait, each with the result of a step: an output, or an error (SQLSTATE, space, place) that is for good; where both are null, the run is looked at again. details: what is kept with the step on record. The caller removed the tasks. Runs that do not wait any more are passed over. Returns how many went on.';

CREATE FUNCTION leadroute.read_task_inputs(run_ids bigint[], lead_ids bigint[], step_nos integer[], agent_id integer)
    RETURNS TABLE (run_id bigint, step_no integer, inputs jsonb)
    LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_read_task_inputs';
COMMENT ON FUNCTION leadroute.read_task_inputs(bigint[], bigint[], integer[], integer) IS
    'Part of claiming: what an agent declared to be given, read from the leads as they are now. Runs that do not wait any more are left out, and leads that by the regions of the step may not be given to the agent.';

CREATE FUNCTION leadroute.do_work(max integer) RETURNS integer
    LANGUAGE c STRICT SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_do_work';
COMMENT ON FUNCTION leadroute.do_work(integer) IS
    'Part of run_pending(): does up to max tasks of executors in this transaction. Returns how many it had in hand; 0: there is nothing to do.';
