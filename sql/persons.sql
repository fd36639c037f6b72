-- persons: whose leads are whose, merges of leads, and how fairly a pool's leads are shared.

CREATE SEQUENCE leadroute.person_ids MAXVALUE 9007199254740991;
COMMENT ON SEQUENCE leadroute.person_ids IS 'Ids of persons; unique, not dense.';

-- Unique by digest: of two sessions that bring a person's first leads the second waits for the first.
CREATE TABLE leadroute.person_keys (
    digest bytea PRIMARY KEY,
    person_id bigint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('email', 'phone')),
    shared boolean NOT NULL DEFAULT false
);
CREATE INDEX person_keys_person_id ON leadroute.person_keys (person_id);
COMMENT ON TABLE leadroute.person_keys IS 'What persons are known by, where a policy asks whose lead it is (known_person): keyed digests, never values. A row goes with the last lead of its person.';
COMMENT ON COLUMN leadroute.person_keys.digest IS 'Keyed digest of the kind and the normal form: see digest_keys.';
COMMENT ON COLUMN leadroute.person_keys.person_id IS 'The person; of a shared number, who first gave it.';
COMMENT ON COLUMN leadroute.person_keys.kind IS 'email or phone.';
COMMENT ON COLUMN leadroute.person_keys.shared IS 'True of a phone number that came with the addresses of several people: it identifies nobody.';

CREATE TABLE leadroute.person_leads (
    person_id bigint NOT NULL,
    lead_id bigint NOT NULL,
    PRIMARY KEY (person_id, lead_id)
);
CREATE UNIQUE INDEX person_leads_lead_id ON leadroute.person_leads (lead_id);
COMMENT ON TABLE leadroute.person_leads IS 'The leads of each person who is known. A row goes when its lead''s row is deleted, or when the lead is merged.';
COMMENT ON COLUMN leadroute.person_leads.person_id IS 'See person_keys.';
COMMENT ON COLUMN leadroute.person_leads.lead_id IS 'The lead: of one person only.';

-- These three run as the extension's owner: the pipeline, the triggers for deleted rows and merge_leads() call them.
CREATE FUNCTION leadroute.join_persons(person_ids bigint[], into_ids bigint[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM FROM leadroute.person_keys k WHERE k.person_id = ANY (person_ids || into_ids) ORDER BY k.digest FOR NO KEY UPDATE;
    UPDATE leadroute.person_keys k SET person_id = j.into_id FROM unnest(person_ids, into_ids) AS j (person_id, into_id) WHERE k.person_id = j.person_id;
    UPDATE leadroute.person_leads l SET person_id = j.into_id FROM unnest(person_ids, into_ids) AS j (person_id, into_id) WHERE l.person_id = j.person_id;
END $$;
COMMENT ON FUNCTION leadroute.join_persons(bigint[], bigint[]) IS
    'Makes persons who turned out to be the same one. person_ids: whose keys and leads move. into_ids: for each, to whom. Part of the pipeline and of merge_leads().';

CREATE FUNCTION leadroute.forget_persons(lead_ids bigint[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    persons bigint[] := ARRAY(SELECT DISTINCT l.person_id FROM leadroute.person_leads l WHERE l.lead_id = ANY (lead_ids));
BEGIN
    IF persons = '{}' THEN
        RETURN;
    END IF;
    -- Whoever brings a lead of theirs holds their keys, and notes the lead before it lets them go.
    PERFORM FROM leadroute.person_keys k WHERE k.person_id = ANY (persons) ORDER BY k.digest FOR UPDATE;
    DELETE FROM leadroute.person_leads l WHERE l.lead_id = ANY (lead_ids);
    DELETE FROM leadroute.person_keys k
    WHERE k.person_id = ANY (persons) AND NOT EXISTS (SELECT FROM leadroute.person_leads l WHERE l.person_id = k.person_id);
END $$;
COMMENT ON FUNCTION leadroute.forget_persons(bigint[]) IS
    'Takes leads away from their persons, and forgets the keys of those who have none left. lead_ids: null, or leads of which some may be nobody''s. Part of the triggers for deleted rows and of the pipeline.';

CREATE FUNCTION leadroute.change_persons(lead_ids bigint[], person_ids bigint[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leadroute.forget_persons(ARRAY(
        SELECT l.lead_id FROM unnest(lead_ids, person_ids) AS w (lead_id, person_id) JOIN leadroute.person_leads l USING (lead_id) WHERE l.person_id <> w.person_id));
    INSERT INTO leadroute.person_leads (lead_id, person_id)
        SELECT w.lead_id, w.person_id FROM unnest(lead_ids, person_ids) AS w (lead_id, person_id) WHERE w.person_id <> 0
        ON CONFLICT (lead_id) DO NOTHING;
END $$;
COMMENT ON FUNCTION leadroute.change_persons(bigint[], bigint[]) IS
    'Notes whose leads are that were routed again. person_ids: for each lead, its person; 0 for nobody. Part of the pipeline.';

CREATE FUNCTION leadroute.surviving_lead(lead_id bigint) RETURNS bigint
    LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE chain AS (
        SELECT surviving_lead.lead_id AS lead_id, 0 AS step
        UNION ALL
        SELECT m.survivor_lead_id, c.step + 1
        FROM chain c
        JOIN leadroute.lead_merges m ON m.merged_lead_id = c.lead_id
        JOIN leadroute.lead_states s ON s.lead_id = m.merged_lead_id AND s.closed_reason = 'merged'
    )
    SELECT c.lead_id FROM chain c ORDER BY c.step DESC LIMIT 1
$$;
COMMENT ON FUNCTION leadroute.surviving_lead(bigint) IS
    'Returns the lead that stands for a lead: the lead itself, or, where it was merged, the survivor at the end of the chain.';

CREATE FUNCTION leadroute.merge_states(survivor bigint, merged bigint[], reason text, by_user regrole, at timestamptz)
    RETURNS TABLE (merged_lead_id bigint, survivor_lead_id bigint, changed boolean)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    final bigint;
    state leadroute.lead_states;
    missing bigint;
    m record;
    news bigint[] := '{}';
    heir leadroute.lead_states;
    run bigint;
    persons bigint[];
    person bigint;
BEGIN
    IF array_position(merged, NULL) IS NOT NULL THEN
        RAISE null_value_not_allowed USING MESSAGE = 'a lead to be merged is null', HINT = 'Give the ids of leads.';
    END IF;
    -- One merge at a time: chains do not change while they are followed. Whoever notes a change of a merged row does not wait.
    LOCK TABLE leadroute.lead_merges IN SHARE UPDATE EXCLUSIVE MODE;
    final := leadroute.surviving_lead(survivor);
    PERFORM FROM leadroute.lead_states s WHERE s.lead_id = ANY (merged || final) ORDER BY s.lead_id FOR UPDATE;
    SELECT i INTO missing FROM unnest(survivor || merged) AS i WHERE NOT EXISTS (SELECT FROM leadroute.lead_states s WHERE s.lead_id = i) LIMIT 1;
    IF FOUND THEN
        RAISE undefined_object USING MESSAGE = format('lead %s does not exist', missing),
            HINT = 'See leadroute.lead_states; lead_of() finds the lead of a row.';
    END IF;
    SELECT * INTO state FROM leadroute.lead_states s WHERE s.lead_id = final;
    IF state.closed_at IS NOT NULL THEN
        RAISE object_not_in_prerequisite_state USING MESSAGE = format('the row of lead %s is gone', final),
            HINT = 'Merge into a lead whose row exists.';
    END IF;
    FOR m IN SELECT DISTINCT i AS lead_id, leadroute.surviving_lead(i) AS now_id FROM unnest(merged) AS i ORDER BY 1 LOOP
        IF m.lead_id = survivor THEN
            RAISE invalid_parameter_value USING MESSAGE = format('lead %s cannot be merged into itself', survivor), HINT = 'Leave it out of the leads to be merged.';
        ELSIF m.lead_id = final THEN
            RAISE object_not_in_prerequisite_state USING MESSAGE = format('lead %s was merged into lead %s before', survivor, final),
                DETAIL = 'Lead ' || final || ' stands for both.', HINT = 'There is nothing to merge.';
        ELSIF m.now_id NOT IN (m.lead_id, final) THEN
            RAISE object_not_in_prerequisite_state USING MESSAGE = format('lead %s was merged into lead %s before', m.lead_id, m.now_id),
                HINT = format('Merge that one: SELECT * FROM leadroute.merge_leads(%s, ARRAY[%s])', survivor, m.now_id);
        END IF;
        IF m.now_id = m.lead_id THEN
            news := news || m.lead_id;
        END IF;
    END LOOP;

    -- An owner for a survivor that has none: of those who worked on it, who did so last. Whom nobody may contact stays rejected.
    -- One that waits for a decision gets one; one that waits in an overflow could wait for long.
    IF state.outcome NOT IN ('assigned', 'pending', 'rejected') OR (state.outcome = 'pending' AND state.reason_code IN ('overflow', 'owner_left')) THEN
        SELECT s.* INTO heir FROM leadroute.lead_states s JOIN leadroute.owners o USING (owner_id)
        WHERE s.lead_id = ANY (news) AND s.outcome = 'assigned'
        ORDER BY greatest(s.responded_at, s.accepted_at) DESC NULLS LAST, s.since DESC, s.lead_id DESC LIMIT 1;
        IF FOUND THEN
            run := nextval('leadroute.run_ids');
            INSERT INTO leadroute.entries (run_id, lead_id, as_of, supersedes, score, source_id, policy_version_id, environment_id, key_id, routed_by, outcome, pool_id,
                                           owner_id, duration_us, entry_no, cause, mode, reason_code, note, evidence)
                SELECT run, e.lead_id, at, e.run_id, e.score, e.source_id, e.policy_version_id, e.environment_id, e.key_id, by_user, 'assigned', heir.pool_id,
                       heir.owner_id, 0, 1, 'g', 'r', 'merged', nullif(merge_states.reason, ''), e.evidence
                FROM leadroute.entries e WHERE e.run_id = state.run_id ORDER BY e.entry_no DESC LIMIT 1;
            PERFORM leadroute.take_place(heir.owner_id, heir.pool_id, heir.load, heir.expected_value, at);
            UPDATE leadroute.lead_states s SET run_id = run, since = at, outcome = 'assigned', reason_code = 'merged', owner_id = heir.owner_id, pool_id = heir.pool_id,
                   load = heir.load, expected_value = heir.expected_value, response_due_at = heir.response_due_at, accepted_at = heir.accepted_at,
                   responded_at = heir.responded_at, estimated_at = NULL, finished_at = heir.finished_at, result = heir.result, changed_by = by_user
            WHERE s.lead_id = final;
        END IF;
    END IF;
    UPDATE leadroute.lead_states s SET closed_at = coalesce(s.closed_at, at), closed_reason = 'merged', changed_by = by_user, estimated_at = NULL
    WHERE s.lead_id = ANY (news);
    INSERT INTO leadroute.lead_merges AS l (merged_lead_id, survivor_lead_id, merged_at, merged_by, reason)
        SELECT n, final, at, by_user, merge_states.reason FROM unnest(news) AS n
        -- One whose id was used again since.
        ON CONFLICT ON CONSTRAINT lead_merges_pkey DO UPDATE SET survivor_lead_id = excluded.survivor_lead_id, merged_at = excluded.merged_at,
            merged_by = excluded.merged_by, reason = excluded.reason, changed_at = NULL;
    PERFORM leadroute.emit_event('lead.merged', n, NULL, jsonb_build_object('survivor', final)) FROM unnest(news) AS n;

    -- They were one person, then.
    persons := ARRAY(SELECT DISTINCT l.person_id FROM leadroute.person_leads l WHERE l.lead_id = ANY (news || final) ORDER BY 1);
    SELECT l.person_id INTO person FROM leadroute.person_leads l WHERE l.lead_id = final;
    IF person IS NULL AND persons <> '{}' THEN
        person := persons[1];
        INSERT INTO leadroute.person_leads (lead_id, person_id) VALUES (final, person);
    END IF;
    IF person IS NOT NULL THEN
        PERFORM leadroute.join_persons(array_remove(persons, person), array_fill(person, ARRAY[cardinality(array_remove(persons, person))]));
        DELETE FROM leadroute.person_leads l WHERE l.lead_id = ANY (news);
    END IF;
    RETURN QUERY SELECT i, final, i = ANY (news) FROM (SELECT DISTINCT u FROM unnest(merged) AS u) AS d (i) ORDER BY i;
END $$;
COMMENT ON FUNCTION leadroute.merge_states(bigint, bigint[], text, regrole, timestamptz) IS
    'Does the work of merge_leads(), as the extension''s owner. by_user: who called it. at: the moment, whose partition of the record exists.';

CREATE FUNCTION leadroute.merge_leads(survivor bigint, merged bigint[], reason text DEFAULT '')
    RETURNS TABLE (merged_lead_id bigint, survivor_lead_id bigint, changed boolean)
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_merge_leads';
COMMENT ON FUNCTION leadroute.merge_leads(bigint, bigint[], text) IS
    'Follows a merge made in the CRM. survivor: the lead that stays; where it was merged itself, its survivor. merged: the leads that it stands for from now on: their states are closed, and their rows route nothing any more. reason: for the record, no personal data. The survivor keeps its owner; if it has none, was not rejected and waits for no decision (but in an overflow), it gets that of the merged lead that was responded to or accepted last, as a decision of its own (reason code merged). Persons of all of them are one from then on. Returns the merged leads, each with the survivor at the end of the chain, and whether that is new: the same merge again changes nothing. Raises 22004 for null, 42704 for a lead that does not exist, 22023 for a lead into itself, 55000 for a survivor whose row is gone and for a lead that was merged into another one before.';

CREATE FUNCTION leadroute.fairness_report(pool text, since timestamptz DEFAULT now() - interval '30 days')
    RETURNS TABLE (owner text, weight integer, weight_share numeric, leads bigint, share numeric, due numeric, difference numeric, preferred bigint, held bigint,
                   expected_value numeric, value_share numeric, value_due numeric, value_difference numeric)
    LANGUAGE plpgsql STABLE ROWS 20 SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted integer := (SELECT p.pool_id FROM leadroute.pools p WHERE p.name = fairness_report.pool);
BEGIN
    IF wanted IS NULL THEN
        RAISE undefined_object USING MESSAGE = format('there is no pool "%s"', coalesce(fairness_report.pool, 'null')), HINT = 'See leadroute.pools.';
    END IF;
    RETURN QUERY
        WITH given AS MATERIALIZED (
            SELECT e.owner_id, e.pool_revision_id, e.turn IS NULL AS preferred, s.run_id IS NOT NULL AND s.closed_at IS NULL AS held, coalesce(s.expected_value, 0) AS value
            FROM leadroute.entries e LEFT JOIN leadroute.lead_states s ON s.lead_id = e.lead_id AND s.run_id = e.run_id AND s.outcome = 'assigned'
            WHERE e.pool_id = wanted AND e.as_of >= fairness_report.since AND e.outcome = 'assigned' AND e.mode IN ('r', 'c') AND e.pool_revision_id IS NOT NULL
        ), by_owner AS (
            SELECT g.owner_id, count(*) AS leads, count(*) FILTER (WHERE g.preferred) AS preferred, count(*) FILTER (WHERE g.held) AS held, sum(g.value) AS value
            FROM given g GROUP BY 1
        ), by_revision AS (
            SELECT g.pool_revision_id, count(*) AS leads, sum(g.value) AS value FROM given g GROUP BY 1
        ), member_shares AS (
            SELECT r.leads, r.value, u.owner_id, u.weight::numeric / sum(u.weight) OVER (PARTITION BY r.pool_revision_id) AS share
            FROM by_revision r JOIN leadroute.pool_revisions v USING (pool_revision_id)
            CROSS JOIN LATERAL unnest(v.owner_ids, v.weights, v.available) AS u (owner_id, weight, available) WHERE u.available
        ), due AS (
            SELECT m.owner_id, sum(m.leads * m.share) AS leads, sum(m.value * m.share) AS value FROM member_shares m GROUP BY 1
        ), members AS (
            SELECT m.owner_id, m.weight, m.weight::numeric / sum(m.weight) OVER () AS share FROM leadroute.pool_members m WHERE m.pool_id = wanted
        ), total AS (
            SELECT nullif(sum(b.leads), 0) AS leads, nullif(sum(b.value), 0) AS value FROM by_owner b
        )
        SELECT coalesce(o.reference, '#' || i.owner_id), m.weight, round(m.share, 4), coalesce(b.leads, 0), round(coalesce(b.leads, 0) / t.leads, 4),
               round(coalesce(d.leads, 0), 2), round(coalesce(b.leads, 0) - coalesce(d.leads, 0), 2), coalesce(b.preferred, 0), coalesce(b.held, 0),
               coalesce(b.value, 0), round(coalesce(b.value, 0) / t.value, 4), round(coalesce(d.value, 0), 2), round(coalesce(b.value, 0) - coalesce(d.value, 0), 2)
        FROM (SELECT x.owner_id FROM members x UNION SELECT x.owner_id FROM by_owner x UNION SELECT x.owner_id FROM due x) i
        CROSS JOIN total t
        LEFT JOIN members m ON m.owner_id = i.owner_id
        LEFT JOIN by_owner b ON b.owner_id = i.owner_id
        LEFT JOIN due d ON d.owner_id = i.owner_id
        LEFT JOIN leadroute.owners o ON o.owner_id = i.owner_id
        ORDER BY 1;
END $$;
COMMENT ON FUNCTION leadroute.fairness_report(text, timestamptz) IS
    'Shows how a pool''s leads were shared, a row a member, and a row each for others who got one. pool: its name. since: decisions from then on. weight, weight_share: as they are now; null for who is no member. leads, share: decisions that gave a lead to the member. due: the member''s part, by weight, of the leads that were given while it was available, as pool_revisions has it. difference: leads less due. preferred: of leads, those that drew no turn, such as leads of a person already known. held: of leads, those that the member has still; not those that were merged or deleted. expected_value, value_share, value_due, value_difference: the same in expected value (see lead_states), of leads whose decision stands. Shadows and observed tables do not count. Raises 42704 if there is no such pool.';
