-- task_views: what waits, for whom and why.

CREATE VIEW leadroute.waiting_tasks AS
    SELECT t.run_id || '/' || t.step_no AS task, t.lead_id, t.run_id AS decision_id, k.name AS queue, k.capability, a.name || '@' || a.version AS agent,
           k.priority, CASE t.state WHEN 'q' THEN 'queued' WHEN 'c' THEN 'claimed' WHEN 'r' THEN 'retrying' WHEN 'h' THEN 'held' WHEN 'd' THEN 'done' END AS state,
           CASE t.state
               WHEN 'c' THEN 'in hand of ' || t.holder
               WHEN 'r' THEN 'tried again after ' || (t.history -> -1 ->> 'error')
               WHEN 'h' THEN 'held until attributes arrive'
               WHEN 'd' THEN 'its run goes on in a moment'
               ELSE CASE
                   WHEN k.agent_id = 99 AND NOT EXISTS (SELECT FROM leadroute.agents o WHERE o.kind = 'external' AND o.agent_id <> 99
                                                        AND o.state <> 'retired' AND k.capability = ANY (o.capabilities)) THEN 'no agent offers the capability'
                   WHEN a.state = 'retired' THEN 'the agent is retired'
                   WHEN s.breaker = 'open' THEN 'the agent''s circuit breaker is open'
                   WHEN s.breaker = 'half_open' THEN 'the agent''s circuit breaker lets probes through'
                   ELSE 'queued' END
           END AS why,
           t.attempt, t.scheduled_at, t.started_at, t.wake_at AS due_at, t.history
    FROM leadroute.tasks t
    LEFT JOIN leadroute.task_queues k USING (queue_id)
    LEFT JOIN leadroute.agents a USING (agent_id)
    LEFT JOIN leadroute.agent_states s USING (agent_id);
COMMENT ON VIEW leadroute.waiting_tasks IS 'Every task, and why it waits. Done ones are in the record.';
COMMENT ON COLUMN leadroute.waiting_tasks.task IS 'Its id: run and step.';
COMMENT ON COLUMN leadroute.waiting_tasks.lead_id IS 'The lead.';
COMMENT ON COLUMN leadroute.waiting_tasks.decision_id IS 'The run.';
COMMENT ON COLUMN leadroute.waiting_tasks.queue IS 'The queue; null for holds.';
COMMENT ON COLUMN leadroute.waiting_tasks.capability IS 'The work that it asks for; null for holds.';
COMMENT ON COLUMN leadroute.waiting_tasks.agent IS 'Whose work it is, name@version; anybody@1: that of any external agent that offers the capability.';
COMMENT ON COLUMN leadroute.waiting_tasks.priority IS 'Tasks of a higher one are given out first.';
COMMENT ON COLUMN leadroute.waiting_tasks.state IS 'queued, claimed, retrying, held or done.';
COMMENT ON COLUMN leadroute.waiting_tasks.why IS 'What it waits for, in words.';
COMMENT ON COLUMN leadroute.waiting_tasks.attempt IS 'How often it was begun.';
COMMENT ON COLUMN leadroute.waiting_tasks.scheduled_at IS 'When it was first queued.';
COMMENT ON COLUMN leadroute.waiting_tasks.started_at IS 'When the attempt in hand began; null if none is.';
COMMENT ON COLUMN leadroute.waiting_tasks.due_at IS 'When something is due, whatever happens: a retry, the end of a lease or of a hold, a time-out; null if nothing is.';
COMMENT ON COLUMN leadroute.waiting_tasks.history IS 'Attempts that failed: attempt, error, at, by.';

CREATE VIEW leadroute.review_queue AS
    SELECT s.lead_id, s.run_id AS decision_id, l.relation_name AS leads_table, s.since, s.score, s.tier,
           (SELECT min(p.confidence) FROM leadroute.provenance p WHERE p.decision_id = s.run_id AND p.entry_no = (
               SELECT max(e.entry_no) FROM leadroute.entries e WHERE e.run_id = s.run_id)) AS confidence
    FROM leadroute.lead_states s
    LEFT JOIN leadroute.attached_tables l USING (source_id)
    WHERE s.outcome = 'pending' AND s.reason_code = 'review' AND s.closed_at IS NULL AND s.finished_at IS NULL;
COMMENT ON VIEW leadroute.review_queue IS 'Leads on which a person has to decide, through override_decision(), because a step or rule was not sure enough.';
COMMENT ON COLUMN leadroute.review_queue.lead_id IS 'The lead.';
COMMENT ON COLUMN leadroute.review_queue.decision_id IS 'What to override.';
COMMENT ON COLUMN leadroute.review_queue.leads_table IS 'The lead''s table, by its name when it was attached.';
COMMENT ON COLUMN leadroute.review_queue.since IS 'Since when it waits for a person.';
COMMENT ON COLUMN leadroute.review_queue.score IS 'What computeLeadScore gave.';
COMMENT ON COLUMN leadroute.review_queue.tier IS 'The tier of the score.';
COMMENT ON COLUMN leadroute.review_queue.confidence IS 'How sure the least sure step was, 0 to 1; null if none said.';

CREATE VIEW leadroute.circuit_breakers AS
    SELECT a.name AS agent, a.version, a.kind, coalesce(s.breaker, 'closed') AS state, coalesce(s.failures, 0) AS failures, a.breaker_failures AS opens_at,
           s.last_error, s.failed_at, s.opened_at, CASE s.breaker WHEN 'open' THEN s.opened_at + a.breaker_cooldown END AS probes_from,
           CASE s.breaker WHEN 'half_open' THEN s.probes END AS probes_left
    FROM leadroute.agents a
    LEFT JOIN leadroute.agent_states s USING (agent_id)
    WHERE a.kind <> 'builtin' AND a.agent_id <> 99;
COMMENT ON VIEW leadroute.circuit_breakers IS 'The circuit breaker of every agent version.';
COMMENT ON COLUMN leadroute.circuit_breakers.agent IS 'The agent''s name.';
COMMENT ON COLUMN leadroute.circuit_breakers.version IS 'Its version.';
COMMENT ON COLUMN leadroute.circuit_breakers.kind IS 'sql or external.';
COMMENT ON COLUMN leadroute.circuit_breakers.state IS 'closed: tasks go to it. open: none do, and where a step has a fallback that is taken. half_open: only probes do.';
COMMENT ON COLUMN leadroute.circuit_breakers.failures IS 'Failed attempts in a row.';
COMMENT ON COLUMN leadroute.circuit_breakers.opens_at IS 'So many in a row open it.';
COMMENT ON COLUMN leadroute.circuit_breakers.last_error IS 'SQLSTATE and place of the last failure.';
COMMENT ON COLUMN leadroute.circuit_breakers.failed_at IS 'When that was.';
COMMENT ON COLUMN leadroute.circuit_breakers.opened_at IS 'When it last opened; null if never.';
COMMENT ON COLUMN leadroute.circuit_breakers.probes_from IS 'While open: when probes are let through.';
COMMENT ON COLUMN leadroute.circuit_breakers.probes_left IS 'While half open: how many more are let through.';

CREATE VIEW leadroute.task_queue_depths AS
    SELECT k.name AS queue, k.capability, a.name || '@' || a.version AS agent, k.priority, k.external,
           coalesce(t.queued, 0) AS queued, coalesce(t.claimed, 0) AS claimed, coalesce(t.retrying, 0) AS retrying, t.oldest
    FROM leadroute.task_queues k
    LEFT JOIN leadroute.agents a USING (agent_id)
    LEFT JOIN (SELECT x.queue_id, count(*) FILTER (WHERE x.state = 'q') AS queued, count(*) FILTER (WHERE x.state = 'c') AS claimed,
                   count(*) FILTER (WHERE x.state = 'r') AS retrying, min(x.scheduled_at) FILTER (WHERE x.state = 'q') AS oldest
               FROM leadroute.tasks x GROUP BY 1) t USING (queue_id);
COMMENT ON VIEW leadroute.task_queue_depths IS 'How much waits in each queue of tasks.';
COMMENT ON COLUMN leadroute.task_queue_depths.queue IS 'The queue.';
COMMENT ON COLUMN leadroute.task_queue_depths.capability IS 'The work that its tasks ask for.';
COMMENT ON COLUMN leadroute.task_queue_depths.agent IS 'Whose work it is, name@version; anybody@1: that of any external agent that offers the capability.';
COMMENT ON COLUMN leadroute.task_queue_depths.priority IS 'Tasks of a higher one are given out first.';
COMMENT ON COLUMN leadroute.task_queue_depths.external IS 'Whether agents outside claim its tasks; otherwise executors run them.';
COMMENT ON COLUMN leadroute.task_queue_depths.queued IS 'Tasks that wait to be taken.';
COMMENT ON COLUMN leadroute.task_queue_depths.claimed IS 'Tasks in hand.';
COMMENT ON COLUMN leadroute.task_queue_depths.retrying IS 'Tasks that wait to be tried again.';
COMMENT ON COLUMN leadroute.task_queue_depths.oldest IS 'When the oldest queued task was first queued; null if none is.';
