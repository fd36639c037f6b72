-- events: what happened, for whoever wants to know: a catalogue, a durable stream read by cursor, and subscriptions that make alerts of it.
--
-- Who decides writes arrivals, and only of kinds that somebody consumes. Positions are given afterwards, by one session at a time, to what
-- can be seen by then: so an event that commits late gets a late position, and a reader that has passed a position has missed nothing.

CREATE TABLE leadroute.event_kinds (
    kind text PRIMARY KEY,
    schema jsonb NOT NULL,
    description text NOT NULL
);
COMMENT ON TABLE leadroute.event_kinds IS 'The catalogue of events: every kind there is, with the JSON Schema of its data.';
COMMENT ON COLUMN leadroute.event_kinds.kind IS 'Its name: what it is about, a full stop, what happened.';
COMMENT ON COLUMN leadroute.event_kinds.schema IS 'JSON Schema of the data. None of it is personal: ids, codes, references of owners and names of pools.';
COMMENT ON COLUMN leadroute.event_kinds.description IS 'What it says.';
INSERT INTO leadroute.event_kinds (kind, schema, description)
    WITH properties (name, schema) AS (
        SELECT k, CASE t WHEN 'moment' THEN '{"type": "string", "format": "date-time"}'::jsonb ELSE jsonb_build_object('type', t) END
        FROM (VALUES ('leads_table', 'string'), ('policy', 'string'), ('version', 'integer'), ('reason_code', 'string'), ('cause', 'string'), ('owner', 'string'),
            ('pool', 'string'), ('score', 'number'), ('tier', 'string'), ('result', 'string'), ('survivor', 'integer'), ('leads', 'integer'), ('since', 'moment'),
            ('share', 'number'), ('decisions', 'integer'), ('no_rule', 'integer'), ('window', 'string'), ('act', 'string'), ('effective_at', 'moment'),
            ('agent', 'string'), ('failures', 'integer'), ('subscription', 'string'), ('kind', 'string'), ('alert', 'integer'), ('count', 'integer'),
            ('suppressed', 'integer'), ('position', 'integer'), ('rung', 'integer'), ('due_at', 'moment'), ('met', 'boolean'), ('stop', 'string'), ('to_pool', 'string'),
            ('from_owner', 'string'), ('started_at', 'moment')) AS v (k, t)
    ), kinds (kind, required, others, description) AS (VALUES
        ('lead.assigned', '{leads_table,policy,version,reason_code,cause,owner}'::text[], '{pool,score,tier}'::text[], 'An owner has the lead now.'),
        ('lead.nurture', '{leads_table,policy,version,reason_code,cause}', '{pool,score,tier}', 'The lead is to be nurtured.'),
        ('lead.rejected', '{leads_table,policy,version,reason_code,cause}', '{pool,score,tier}', 'The lead was rejected.'),
        ('lead.no_rule', '{leads_table,policy,version,reason_code,cause}', '{pool,score,tier}', 'No rule held, or nobody could take the lead.'),
        ('lead.quarantined', '{leads_table,policy,version,reason_code,cause}', '{pool,score,tier}', 'A step failed, or the lead was unreadable.'),
        ('lead.waiting', '{leads_table,reason_code}', '{policy,version,cause,pool,score,tier}', 'The lead waits: in an overflow, for tasks, for a person, or for a policy.'),
        ('lead.accepted', '{leads_table,owner}', '{}', 'The owner accepted the lead.'),
        ('lead.declined', '{leads_table,owner,reason_code}', '{}', 'The owner declined the lead; the decision that follows is an event of its own.'),
        ('lead.responded', '{leads_table,owner}', '{}', 'Somebody first responded to the lead.'),
        ('lead.closed', '{leads_table,result}', '{owner}', 'The work on the lead ended: won or lost.'),
        ('lead.reopened', '{leads_table}', '{owner}', 'A closed lead was opened again.'),
        ('lead.merged', '{leads_table,survivor}', '{}', 'The lead was merged into another one.'),
        ('lead.removed', '{leads_table}', '{}', 'The lead''s row went.'),
        ('sla.due', '{leads_table,owner,due_at,rung}', '{pool}', 'The ladder reminds the owner: the time runs out.'),
        ('sla.breached', '{leads_table,owner,due_at,started_at}', '{pool}', 'The time has run out.'),
        ('sla.notified', '{leads_table,due_at,rung,reason_code}', '{owner,pool,to_pool}', 'The ladder tells a pool, or could not move the lead: reason_code says which.'),
        ('sla.reassigned', '{leads_table,owner,from_owner,due_at,rung}', '{pool}', 'The ladder gave the lead to another owner of its pool.'),
        ('sla.escalated', '{leads_table,owner,from_owner,to_pool,due_at,rung}', '{pool}', 'The ladder gave the lead to an owner of the pool that it names.'),
        ('sla.stopped', '{leads_table,due_at,stop,met}', '{owner,pool}', 'What the clock waited for has happened; met: in time.'),
        ('run.stuck', '{leads_table,reason_code,since}', '{pool}', 'A lead has been pending for longer than leadroute.stuck_after.'),
        ('pool.empty', '{pool,reason_code,leads}', '{leads_table,policy,version,cause}', 'Leads of a statement met a pool in which nobody could take them.'),
        ('breaker.opened', '{agent}', '{failures}', 'The circuit breaker of an agent version opened.'),
        ('breaker.closed', '{agent}', '{}', 'The circuit breaker of an agent version closed.'),
        ('no_rule.rate', '{leads_table,share,decisions,no_rule,window}', '{}', 'The share of decisions without a rule is above leadroute.no_rule_rate.'),
        ('policy.changed', '{act}', '{policy,version,effective_at}', 'Somebody acted on a policy: see policy_acts.'),
        ('alert.raised', '{alert,subscription,kind,count,suppressed,position}', '{}', 'A subscription raised an alert: see event_alerts.'))
    SELECT k.kind, jsonb_build_object('type', 'object', 'additionalProperties', false, 'required', to_jsonb(k.required),
               'properties', (SELECT jsonb_object_agg(p.name, p.schema) FROM properties p WHERE p.name = ANY (k.required || k.others))), k.description
    FROM kinds k;

CREATE SEQUENCE leadroute.event_ids;
COMMENT ON SEQUENCE leadroute.event_ids IS 'Ids of events; of one lead in the order in which they happened.';
CREATE TABLE leadroute.event_arrivals (
    event_id bigint PRIMARY KEY DEFAULT nextval('leadroute.event_ids'),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    lead_id bigint,
    run_id bigint,
    score double precision,
    source_id integer,
    policy_version_id integer,
    owner_id integer,
    pool_id integer,
    cause "char",
    kind text NOT NULL,
    reason_code text,
    tier text,
    data jsonb
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 2000);
COMMENT ON TABLE leadroute.event_arrivals IS 'Events that have no position yet: number_events() moves them to events.';
COMMENT ON COLUMN leadroute.event_arrivals.event_id IS 'Ascends in the order in which one lead''s events happened.';
COMMENT ON COLUMN leadroute.event_arrivals.at IS 'When it happened.';
COMMENT ON COLUMN leadroute.event_arrivals.lead_id IS 'The lead; null where it is about none.';
COMMENT ON COLUMN leadroute.event_arrivals.run_id IS 'The decision that it is about; null for none.';
COMMENT ON COLUMN leadroute.event_arrivals.score IS 'Of a decision: the score.';
COMMENT ON COLUMN leadroute.event_arrivals.source_id IS 'The lead''s table: see attached_tables.';
COMMENT ON COLUMN leadroute.event_arrivals.policy_version_id IS 'Of a decision: the version.';
COMMENT ON COLUMN leadroute.event_arrivals.owner_id IS 'The owner; null for none.';
COMMENT ON COLUMN leadroute.event_arrivals.pool_id IS 'The pool; null for none.';
COMMENT ON COLUMN leadroute.event_arrivals.cause IS 'Of a decision: its cause, as in entries.';
COMMENT ON COLUMN leadroute.event_arrivals.kind IS 'See event_kinds.';
COMMENT ON COLUMN leadroute.event_arrivals.reason_code IS 'A code: why.';
COMMENT ON COLUMN leadroute.event_arrivals.tier IS 'Of a decision: the tier of the score.';
COMMENT ON COLUMN leadroute.event_arrivals.data IS 'What else its data says; null for nothing.';

CREATE TABLE leadroute.events (
    position bigint PRIMARY KEY,
    event_id bigint NOT NULL,
    at timestamptz NOT NULL,
    lead_id bigint,
    run_id bigint,
    kind text NOT NULL,
    data jsonb NOT NULL
);
COMMENT ON TABLE leadroute.events IS 'Events in the order in which they are read. They go when all consumers have passed, or after leadroute.event_retention.';
COMMENT ON COLUMN leadroute.events.position IS 'From 1, without gaps; one lead''s events in the order in which they happened.';
COMMENT ON COLUMN leadroute.events.event_id IS 'The id with which it arrived.';
COMMENT ON COLUMN leadroute.events.at IS 'When it happened.';
COMMENT ON COLUMN leadroute.events.lead_id IS 'The lead; null where it is about none.';
COMMENT ON COLUMN leadroute.events.run_id IS 'The decision that it is about; null for none.';
COMMENT ON COLUMN leadroute.events.kind IS 'See event_kinds.';
COMMENT ON COLUMN leadroute.events.data IS 'What it says: the schema is in event_kinds.';

-- Whoever holds the row gives positions; nobody waits for it.
CREATE TABLE leadroute.event_numbering (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    last_position bigint NOT NULL DEFAULT 0,
    pruned_position bigint NOT NULL DEFAULT 0,
    lost_position bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE leadroute.event_numbering IS 'How far events have positions: one row, made when the first event gets one.';
COMMENT ON COLUMN leadroute.event_numbering.one IS 'True: there is one row.';
COMMENT ON COLUMN leadroute.event_numbering.last_position IS 'The last position that was given.';
COMMENT ON COLUMN leadroute.event_numbering.pruned_position IS 'Events up to here are gone.';
COMMENT ON COLUMN leadroute.event_numbering.lost_position IS 'The last event that went because of its age, though a consumer had not passed it.';

CREATE TABLE leadroute.event_consumers (
    consumer text PRIMARY KEY CHECK (consumer <> ''),
    kinds text[],
    description text NOT NULL,
    created_by name NOT NULL DEFAULT session_user,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE leadroute.event_consumers IS 'Who reads events: see create_event_consumer().';
COMMENT ON COLUMN leadroute.event_consumers.consumer IS 'Its name.';
COMMENT ON COLUMN leadroute.event_consumers.kinds IS 'The kinds that it reads, such as lead.assigned or sla.*; null: all.';
COMMENT ON COLUMN leadroute.event_consumers.description IS 'For people.';
COMMENT ON COLUMN leadroute.event_consumers.created_by IS 'The session''s user who made it.';
COMMENT ON COLUMN leadroute.event_consumers.created_at IS 'When it was made.';
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.event_consumers
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();

-- Apart from the consumers: these change with every acknowledgement, and no session has to be told.
CREATE TABLE leadroute.event_cursors (
    consumer text PRIMARY KEY,
    position bigint NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE leadroute.event_cursors IS 'How far consumers have read.';
COMMENT ON COLUMN leadroute.event_cursors.consumer IS 'See event_consumers.';
COMMENT ON COLUMN leadroute.event_cursors.position IS 'All up to here is done.';
COMMENT ON COLUMN leadroute.event_cursors.moved_at IS 'When it moved last.';

CREATE TABLE leadroute.event_subscriptions (
    subscription text PRIMARY KEY CHECK (subscription <> ''),
    kinds text[] NOT NULL,
    filter jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(filter) = 'object'),
    condition jsonpath,
    threshold integer NOT NULL DEFAULT 1 CHECK (threshold BETWEEN 1 AND 10000),
    within interval CHECK (within > '0'),
    quiet interval NOT NULL DEFAULT '0' CHECK (quiet >= '0'),
    description text NOT NULL DEFAULT '',
    created_by name NOT NULL DEFAULT session_user,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK (threshold = 1 OR within IS NOT NULL)
);
COMMENT ON TABLE leadroute.event_subscriptions IS 'Which events make an alert: see subscribe_events().';
COMMENT ON COLUMN leadroute.event_subscriptions.subscription IS 'Its name.';
COMMENT ON COLUMN leadroute.event_subscriptions.kinds IS 'The kinds that it looks at, such as sla.breached or breaker.*.';
COMMENT ON COLUMN leadroute.event_subscriptions.filter IS 'What an event''s data has to contain.';
COMMENT ON COLUMN leadroute.event_subscriptions.condition IS 'What has to hold for an event''s data; null: nothing.';
COMMENT ON COLUMN leadroute.event_subscriptions.threshold IS 'How many such events it takes.';
COMMENT ON COLUMN leadroute.event_subscriptions.within IS 'In what time they have to come; null where one is enough.';
COMMENT ON COLUMN leadroute.event_subscriptions.quiet IS 'For how long after an alert there is no other one.';
COMMENT ON COLUMN leadroute.event_subscriptions.description IS 'For people.';
COMMENT ON COLUMN leadroute.event_subscriptions.created_by IS 'The session''s user who made it.';
COMMENT ON COLUMN leadroute.event_subscriptions.created_at IS 'When it was made.';
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.event_subscriptions
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();

CREATE TABLE leadroute.event_subscription_states (
    subscription text PRIMARY KEY,
    recent timestamptz[] NOT NULL DEFAULT '{}',
    raised_at timestamptz,
    suppressed bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE leadroute.event_subscription_states IS 'What subscriptions remember from one event to the next.';
COMMENT ON COLUMN leadroute.event_subscription_states.subscription IS 'See event_subscriptions.';
COMMENT ON COLUMN leadroute.event_subscription_states.recent IS 'When the latest matching events were, as many as count towards the threshold.';
COMMENT ON COLUMN leadroute.event_subscription_states.raised_at IS 'When the event was that raised the latest alert; null: none yet.';
COMMENT ON COLUMN leadroute.event_subscription_states.suppressed IS 'Alerts that were not raised since, because it was quiet.';

CREATE TABLE leadroute.event_alerts (
    alert_id bigint PRIMARY KEY,
    subscription text NOT NULL,
    raised_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind text NOT NULL,
    lead_id bigint,
    run_id bigint,
    count integer NOT NULL,
    suppressed bigint NOT NULL,
    position bigint NOT NULL,
    data jsonb NOT NULL
);
COMMENT ON TABLE leadroute.event_alerts IS 'Alerts that subscriptions raised; each is an event alert.raised as well, to be read by cursor. They go after leadroute.event_retention.';
COMMENT ON COLUMN leadroute.event_alerts.alert_id IS 'The position of its event alert.raised.';
COMMENT ON COLUMN leadroute.event_alerts.subscription IS 'Which subscription raised it.';
COMMENT ON COLUMN leadroute.event_alerts.raised_at IS 'When it was raised.';
COMMENT ON COLUMN leadroute.event_alerts.kind IS 'The kind of the event that raised it.';
COMMENT ON COLUMN leadroute.event_alerts.lead_id IS 'That event''s lead; null for none.';
COMMENT ON COLUMN leadroute.event_alerts.run_id IS 'That event''s decision; null for none.';
COMMENT ON COLUMN leadroute.event_alerts.count IS 'How many events it took.';
COMMENT ON COLUMN leadroute.event_alerts.suppressed IS 'How many alerts were not raised before it, because it was quiet.';
COMMENT ON COLUMN leadroute.event_alerts.position IS 'That event''s position.';
COMMENT ON COLUMN leadroute.event_alerts.data IS 'That event''s data.';

CREATE TABLE leadroute.event_marks (
    kind text,
    subject bigint,
    noticed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (kind, subject)
);
COMMENT ON TABLE leadroute.event_marks IS 'What fire_event_checks() has noticed and told of, until it is over.';
COMMENT ON COLUMN leadroute.event_marks.kind IS 'run.stuck or no_rule.rate.';
COMMENT ON COLUMN leadroute.event_marks.subject IS 'The lead, or the table.';
COMMENT ON COLUMN leadroute.event_marks.noticed_at IS 'When it was told.';

-- ---- writing ----

CREATE FUNCTION leadroute.kind_among(kind text, kinds text[]) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN kinds IS NULL OR kind = ANY (kinds) OR (split_part(kind, '.', 1) || '.*') = ANY (kinds);
COMMENT ON FUNCTION leadroute.kind_among(text, text[]) IS 'Whether a kind of events is among others, such as lead.assigned or lead.*; null: all.';

CREATE FUNCTION leadroute.event_wanted(kind text) RETURNS boolean
    LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_event_wanted';
COMMENT ON FUNCTION leadroute.event_wanted(text) IS 'Whether anybody consumes events of a kind, or subscribes to them: others are not written. From what the session remembers.';

CREATE FUNCTION leadroute.emit_event(kind text, lead_id bigint, run_id bigint, data jsonb, owner_id integer DEFAULT NULL, pool_id integer DEFAULT NULL,
                                     source_id integer DEFAULT NULL, reason_code text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF leadroute.event_wanted(kind) THEN
        INSERT INTO leadroute.event_arrivals (kind, lead_id, run_id, data, owner_id, pool_id, source_id, reason_code)
            VALUES (kind, lead_id, run_id, data, owner_id, pool_id,
                    coalesce(source_id, (SELECT s.source_id FROM leadroute.lead_states s WHERE s.lead_id = emit_event.lead_id)), reason_code);
    END IF;
END $$;
COMMENT ON FUNCTION leadroute.emit_event(text, bigint, bigint, jsonb, integer, integer, integer, text) IS
    'Writes an event, if anybody wants its kind. Part of what causes events, which holds the lock on the lead''s state. data: as event_kinds says, without what the other arguments give: owner, pool, leads_table, reason_code.';

CREATE FUNCTION leadroute.tell_policy_change() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT leadroute.restoring() AND leadroute.event_wanted('policy.changed') THEN
        INSERT INTO leadroute.event_arrivals (kind, data)
            SELECT 'policy.changed', jsonb_strip_nulls(jsonb_build_object('act', n.act, 'policy', p.name, 'version', v.version, 'effective_at', n.effective_at))
            FROM new_acts n LEFT JOIN leadroute.policy_versions v USING (policy_version_id)
            LEFT JOIN leadroute.policies p ON p.policy_id = coalesce(n.policy_id, v.policy_id)
            ORDER BY n.policy_act_id;
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION leadroute.tell_policy_change() IS 'Trigger of policy_acts: what is done with policies is an event.';
CREATE TRIGGER tell_policy_change AFTER INSERT ON leadroute.policy_acts REFERENCING NEW TABLE AS new_acts
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.tell_policy_change();

CREATE FUNCTION leadroute.tell_breaker() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT leadroute.restoring() THEN
        PERFORM leadroute.emit_event('breaker.opened', NULL, NULL, jsonb_build_object('agent', a.name || '@' || a.version, 'failures', NEW.failures))
        FROM leadroute.agents a WHERE a.agent_id = NEW.agent_id AND NEW.breaker = 'open';
        PERFORM leadroute.emit_event('breaker.closed', NULL, NULL, jsonb_build_object('agent', a.name || '@' || a.version))
        FROM leadroute.agents a WHERE a.agent_id = NEW.agent_id AND NEW.breaker = 'closed' AND TG_OP = 'UPDATE';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION leadroute.tell_breaker() IS 'Trigger of agent_states: a circuit breaker that opens or closes is an event.';
CREATE TRIGGER tell_breaker_opened AFTER INSERT ON leadroute.agent_states
    FOR EACH ROW WHEN (NEW.breaker = 'open') EXECUTE FUNCTION leadroute.tell_breaker();
CREATE TRIGGER tell_breaker AFTER UPDATE OF breaker ON leadroute.agent_states
    FOR EACH ROW WHEN (OLD.breaker IS DISTINCT FROM NEW.breaker) EXECUTE FUNCTION leadroute.tell_breaker();

-- ---- giving positions ----

CREATE FUNCTION leadroute.cause_word(cause "char") RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE cause WHEN 'i' THEN 'insert' WHEN 'u' THEN 'update' WHEN 'm' THEN 'manual' WHEN 'p' THEN 'pending' WHEN 'd' THEN 'declined' WHEN 'g' THEN 'merge'
        WHEN 'r' THEN 'reassigned' WHEN 'h' THEN 'overridden' WHEN 'l' THEN 'offboarded' WHEN 'b' THEN 'rerouted' WHEN 'n' THEN 'undone' WHEN 'v' THEN 'overflow'
        WHEN 's' THEN 'sla' END;
COMMENT ON FUNCTION leadroute.cause_word("char") IS 'The cause of a decision in a word, as in the view decisions.';

CREATE FUNCTION leadroute.raise_alerts(after_position bigint, last_position bigint) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s leadroute.event_subscriptions;
    state leadroute.event_subscription_states;
    e leadroute.events;
    given bigint := last_position;
BEGIN
    FOR s IN SELECT * FROM leadroute.event_subscriptions ORDER BY subscription COLLATE "C" LOOP
        state := NULL;
        FOR e IN SELECT * FROM leadroute.events v WHERE v.position > after_position AND v.position <= raise_alerts.last_position
                     AND leadroute.kind_among(v.kind, s.kinds) AND v.data @> s.filter AND (s.condition IS NULL OR v.data @@ s.condition) ORDER BY v.position LOOP
            IF state IS NULL THEN
                INSERT INTO leadroute.event_subscription_states (subscription) VALUES (s.subscription) ON CONFLICT DO NOTHING;
                SELECT * INTO state FROM leadroute.event_subscription_states t WHERE t.subscription = s.subscription;
            END IF;
            state.recent := CASE WHEN s.threshold > 1 THEN state.recent[cardinality(state.recent) + 2 - s.threshold :] || e.at ELSE ARRAY[e.at] END;
            CONTINUE WHEN cardinality(state.recent) < s.threshold OR (s.threshold > 1 AND e.at - state.recent[1] > s.within);
            state.recent := '{}';
            IF e.at < state.raised_at + s.quiet THEN
                state.suppressed := state.suppressed + 1;
                CONTINUE;
            END IF;
            given := given + 1;
            INSERT INTO leadroute.event_alerts (alert_id, subscription, kind, lead_id, run_id, count, suppressed, position, data)
                VALUES (given, s.subscription, e.kind, e.lead_id, e.run_id, s.threshold, state.suppressed, e.position, e.data);
            INSERT INTO leadroute.events (position, event_id, at, lead_id, run_id, kind, data)
                VALUES (given, nextval('leadroute.event_ids'), clock_timestamp(), e.lead_id, e.run_id, 'alert.raised',
                        jsonb_build_object('alert', given, 'subscription', s.subscription, 'kind', e.kind, 'count', s.threshold, 'suppressed', state.suppressed,
                                           'position', e.position));
            state.raised_at := e.at;
            state.suppressed := 0;
        END LOOP;
        IF state.subscription IS NOT NULL THEN
            UPDATE leadroute.event_subscription_states t SET recent = state.recent, raised_at = state.raised_at, suppressed = state.suppressed
            WHERE t.subscription = s.subscription;
        END IF;
    END LOOP;
    RETURN given;
END $$;
COMMENT ON FUNCTION leadroute.raise_alerts(bigint, bigint) IS
    'Raises the alerts that events between two positions make, with positions behind them; returns the last one. Part of number_events().';

CREATE FUNCTION leadroute.number_events(max integer DEFAULT 10000) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    last bigint;
    given bigint;
BEGIN
    -- Under a snapshot that is kept, an event could be overlooked that another one of its lead was numbered after.
    IF current_setting('transaction_read_only')::boolean OR current_setting('transaction_isolation') <> 'read committed' THEN
        RETURN 0;
    END IF;
    SELECT n.last_position INTO last FROM leadroute.event_numbering n FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        IF EXISTS (SELECT FROM leadroute.event_numbering) THEN
            RETURN 0;
        END IF;
        INSERT INTO leadroute.event_numbering DEFAULT VALUES ON CONFLICT DO NOTHING;
        SELECT n.last_position INTO last FROM leadroute.event_numbering n FOR UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            RETURN 0;
        END IF;
    END IF;
    -- The snapshot of this statement is younger than the lock.
    WITH taken AS (
        DELETE FROM leadroute.event_arrivals a
        WHERE a.event_id = ANY (ARRAY(SELECT b.event_id FROM leadroute.event_arrivals b ORDER BY b.event_id LIMIT number_events.max))
        RETURNING a.*
    ), numbered AS (
        INSERT INTO leadroute.events (position, event_id, at, lead_id, run_id, kind, data)
            SELECT last + row_number() OVER (ORDER BY t.event_id), t.event_id, t.at, t.lead_id, t.run_id, t.kind,
                   coalesce(t.data, '{}') || jsonb_strip_nulls(jsonb_build_object('leads_table', r.relation_name, 'policy', p.name, 'version', v.version,
                       'reason_code', t.reason_code, 'cause', leadroute.cause_word(t.cause), 'owner', o.reference, 'pool', l.name, 'score', t.score, 'tier', t.tier))
            FROM taken t
            LEFT JOIN leadroute.attached_tables r USING (source_id)
            LEFT JOIN leadroute.policy_versions v USING (policy_version_id)
            LEFT JOIN leadroute.policies p USING (policy_id)
            LEFT JOIN leadroute.owners o USING (owner_id)
            LEFT JOIN leadroute.pools l USING (pool_id)
        RETURNING position
    )
    SELECT count(*) INTO given FROM numbered;
    IF given > 0 THEN
        UPDATE leadroute.event_numbering SET last_position = leadroute.raise_alerts(last, last + given);
    END IF;
    RETURN given;
END $$;
COMMENT ON FUNCTION leadroute.number_events(integer) IS
    'Gives positions to up to so many events that have none yet and can be seen, in the order of their ids, and raises the alerts that they make. Returns how many; 0 while another session does it, under REPEATABLE READ and SERIALIZABLE, and where nothing can be written.';

-- ---- reading ----

CREATE FUNCTION leadroute.check_kinds(kinds text[]) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wrong text := (SELECT coalesce(k, 'null') FROM unnest(kinds) AS k
                   WHERE NOT EXISTS (SELECT FROM leadroute.event_kinds e WHERE leadroute.kind_among(e.kind, ARRAY[k])) LIMIT 1);
BEGIN
    IF wrong IS NOT NULL OR kinds = '{}' THEN
        RAISE invalid_parameter_value USING MESSAGE = CASE WHEN kinds = '{}' THEN 'no kind of events is named' ELSE format('there are no events of the kind "%s"', wrong) END,
            HINT = 'Give kinds of leadroute.event_kinds, or all that begin alike, as lead.*.';
    END IF;
END $$;
COMMENT ON FUNCTION leadroute.check_kinds(text[]) IS 'Raises 22023 for kinds of events that there are not.';

CREATE FUNCTION leadroute.create_event_consumer(consumer text, kinds text[] DEFAULT NULL, description text DEFAULT '', from_start boolean DEFAULT false) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    start bigint;
BEGIN
    PERFORM leadroute.check_kinds(kinds);
    PERFORM leadroute.number_events();
    SELECT CASE WHEN from_start THEN n.pruned_position ELSE n.last_position END INTO start FROM leadroute.event_numbering n;
    INSERT INTO leadroute.event_consumers (consumer, kinds, description) VALUES (consumer, kinds, description);
    INSERT INTO leadroute.event_cursors (consumer, position) VALUES (consumer, coalesce(start, 0));
    RETURN coalesce(start, 0);
END $$;
COMMENT ON FUNCTION leadroute.create_event_consumer(text, text[], text, boolean) IS
    'Makes a consumer of events: from now on these are written, and kept until it has acknowledged them or leadroute.event_retention is over. consumer: its name. kinds: those that it reads, such as lead.assigned or sla.*; null for all. description: for people. from_start: reads what is there already as well. Returns the position behind which it begins. Raises 22023 for kinds that there are not, 23505 if there is one of that name.';

CREATE FUNCTION leadroute.drop_event_consumer(consumer text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM leadroute.event_consumers c WHERE c.consumer = drop_event_consumer.consumer;
    IF NOT FOUND THEN
        RAISE undefined_object USING MESSAGE = format('there is no consumer "%s"', consumer), HINT = 'See leadroute.event_consumer_status.';
    END IF;
    DELETE FROM leadroute.event_cursors c WHERE c.consumer = drop_event_consumer.consumer;
END $$;
COMMENT ON FUNCTION leadroute.drop_event_consumer(text) IS 'Drops a consumer of events: nothing is written or kept for it any more. Raises 42704 if there is none of that name.';

CREATE FUNCTION leadroute.read_events(consumer text, max integer DEFAULT 100)
    RETURNS TABLE ("position" bigint, kind text, lead_id bigint, decision_id bigint, at timestamptz, data jsonb)
    LANGUAGE plpgsql ROWS 100 SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    cursor_position bigint;
    last bigint;
    wanted text[];
BEGIN
    IF max IS NULL OR max < 1 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'max has to be 1 or more', HINT = 'Give how many events are read at most.';
    END IF;
    SELECT c.kinds INTO wanted FROM leadroute.event_consumers c WHERE c.consumer = read_events.consumer;
    IF NOT FOUND THEN
        RAISE undefined_object USING MESSAGE = format('there is no consumer "%s"', consumer), HINT = 'Make it with leadroute.create_event_consumer().';
    END IF;
    PERFORM leadroute.number_events(greatest(max, 1000));
    SELECT c.position, n.last_position INTO cursor_position, last
    FROM leadroute.event_cursors c LEFT JOIN leadroute.event_numbering n ON true WHERE c.consumer = read_events.consumer;
    RETURN QUERY
        SELECT e.position, e.kind, e.lead_id, e.run_id, e.at, e.data FROM leadroute.events e
        WHERE e.position > cursor_position AND e.position <= last AND leadroute.kind_among(e.kind, wanted) ORDER BY e.position LIMIT max;
    -- Nothing for this one: it need not go over all of that again, nor be waited for.
    IF NOT FOUND AND last > cursor_position AND NOT current_setting('transaction_read_only')::boolean THEN
        UPDATE leadroute.event_cursors c SET position = last, moved_at = clock_timestamp() WHERE c.consumer = read_events.consumer AND c.position < last;
    END IF;
END $$;
COMMENT ON FUNCTION leadroute.read_events(text, integer) IS
    'Returns the next events of a consumer, in order, the same ones until ack_events() has moved on: each is delivered at least once. Events of one lead come in the order in which they happened, and none is skipped, however late it is committed. max: how many at most. decision_id: the run that the event is about. data: see event_kinds; it holds no personal data. Raises 42704 if there is no such consumer, 22023 for a max below 1.';

CREATE FUNCTION leadroute.ack_events(consumer text, "position" bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    now_at bigint;
    last bigint := (SELECT n.last_position FROM leadroute.event_numbering n);
BEGIN
    IF ack_events.position IS NULL OR ack_events.position < 0 OR ack_events.position > coalesce(last, 0) THEN
        RAISE invalid_parameter_value USING MESSAGE = format('no event has the position %s', coalesce(ack_events.position::text, 'null')),
            HINT = 'Give the position of the last event that is done, as leadroute.read_events() returned it.';
    END IF;
    UPDATE leadroute.event_cursors c SET position = ack_events.position, moved_at = clock_timestamp()
    WHERE c.consumer = ack_events.consumer AND c.position < ack_events.position;
    SELECT c.position INTO now_at FROM leadroute.event_cursors c WHERE c.consumer = ack_events.consumer;
    IF NOT FOUND THEN
        RAISE undefined_object USING MESSAGE = format('there is no consumer "%s"', consumer), HINT = 'Make it with leadroute.create_event_consumer().';
    END IF;
    RETURN now_at;
END $$;
COMMENT ON FUNCTION leadroute.ack_events(text, bigint) IS
    'Notes that a consumer is done with all events up to a position; it never moves back. Returns up to where it is done. Raises 42704 if there is no such consumer, 22023 for a position that no event has had.';

CREATE VIEW leadroute.event_consumer_status AS
    SELECT c.consumer, c.kinds, c.description, c.created_by, u.position, u.moved_at, coalesce(n.last_position, 0) - u.position AS behind,
           u.position < coalesce(n.lost_position, 0) AS lost
    FROM leadroute.event_consumers c JOIN leadroute.event_cursors u USING (consumer) LEFT JOIN leadroute.event_numbering n ON true;
COMMENT ON VIEW leadroute.event_consumer_status IS 'How far each consumer of events is.';
COMMENT ON COLUMN leadroute.event_consumer_status.behind IS 'Positions behind the last one, of whatever kind; events without a position yet are not counted.';
COMMENT ON COLUMN leadroute.event_consumer_status.lost IS 'Whether events went because of their age before it had acknowledged them.';

CREATE FUNCTION leadroute.subscribe_events(subscription text, kinds text[], filter jsonb DEFAULT '{}', condition jsonpath DEFAULT NULL, threshold integer DEFAULT 1,
                                           within interval DEFAULT NULL, quiet interval DEFAULT '0', description text DEFAULT '') RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leadroute.check_kinds(coalesce(kinds, '{}'));
    IF leadroute.kind_among('alert.raised', kinds) THEN
        RAISE invalid_parameter_value USING MESSAGE = 'alerts raise no alerts', HINT = 'Read them, with a consumer of the kind alert.raised.';
    END IF;
    INSERT INTO leadroute.event_subscriptions (subscription, kinds, filter, condition, threshold, within, quiet, description)
        VALUES (subscription, kinds, coalesce(filter, '{}'), condition, threshold, within, coalesce(quiet, '0'), coalesce(description, ''));
END $$;
COMMENT ON FUNCTION leadroute.subscribe_events(text, text[], jsonb, jsonpath, integer, interval, interval, text) IS
    'Has events raise alerts: rows of event_alerts, and events alert.raised. subscription: its name. kinds: which events, such as sla.breached or breaker.*. filter: what their data has to contain. condition: what has to hold for it, such as $.score > 80; null for nothing. threshold, within: how many it takes, and in what time. quiet: for how long after an alert there is no other one; those that it swallows are counted. description: for people. Raises 22023 for kinds that there are not, 23505 if there is one of that name, 23514 for a threshold without a time.';

CREATE FUNCTION leadroute.unsubscribe_events(subscription text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM leadroute.event_subscriptions s WHERE s.subscription = unsubscribe_events.subscription;
    IF NOT FOUND THEN
        RAISE undefined_object USING MESSAGE = format('there is no subscription "%s"', subscription), HINT = 'See leadroute.event_subscriptions.';
    END IF;
    DELETE FROM leadroute.event_subscription_states s WHERE s.subscription = unsubscribe_events.subscription;
END $$;
COMMENT ON FUNCTION leadroute.unsubscribe_events(text) IS 'Drops a subscription; its alerts stay. Raises 42704 if there is none of that name.';
